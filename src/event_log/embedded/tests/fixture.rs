//! The formats there have been, which must open for ever: a small directory of each version was
//! written once and is kept under `tests/fixtures`.

use super::*;
use crate::event_log::embedded::{Depth, inspect, repair};

/// The files of a version, relative to the directory of the log.
fn fixture(version: u32) -> PathBuf {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    fixtures.join(format!("log-v{version}"))
}

/// Writes what the fixture of this version holds: topics 1 and 2 in a segment that was made anew
/// without two events, a segment that was repaired, a deleted topic 3, and a segment left open.
async fn write(bench: &Bench) {
    let open = bench.open().await;
    let (a, b, c) = (open.feeder(1), open.feeder(2), open.feeder(3));
    let ranges = append(&*open.log, vec![a.body(3, 0), b.body(1, 20)]).await;
    append(&*open.log, vec![a.body(256, 0), c.body(2, 0)]).await;
    let (middle, last) = (at(4, 100), at(4, 255));
    bench.clock.advance(Duration::from_secs(5));
    append(&*open.log, vec![b.body(2, 7)]).await;
    let gone = vec![ranges[0].first, middle, last];
    assert_eq!(open.log.erase(a.topic(), gone).await.unwrap().events, 3);
    open.close().await;
    let open = bench.open().await;
    append(&*open.log, vec![open.feeder(1).body(2, 1)]).await;
    append(&*open.log, vec![open.feeder(2).body(2, 1)]).await;
    open.close().await;
    let damaged = bench.segments()[1].clone();
    bench.change(&damaged, |bytes| bytes[8_192 + 130] ^= 1);
    let now = Timestamp::from_millis(0);
    let report = repair(&bench.disk, &bench.log_dir(), now, &mut |_| {}).unwrap();
    assert_eq!(report.losses.len(), 1);
    let open = bench.open().await;
    open.log.delete_topic(TopicId::new(3)).await.unwrap();
    let retention = Some(Duration::from_secs(3_600));
    open.log
        .set_retention(TopicId::new(2), retention)
        .await
        .unwrap();
    append(&*open.log, vec![open.feeder(1).body(2, 1)]).await;
    open.crash();
    // The space that was allocated ahead is no part of the format.
    let last = bench.segments()[2].clone();
    bench.change(&last, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes.truncate(end.next_multiple_of(512));
    });
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let files = files.filter(|file| file.path().is_file());
    let file = |file: std::fs::DirEntry| {
        let bytes = std::fs::read(file.path()).unwrap();
        (file.file_name().into_string().unwrap(), bytes)
    };
    let mut files: Vec<_> = files.map(file).collect();
    // Space that is kept ready, whose contents say nothing; and the record of the repair.
    files.retain(|(name, _)| name != "state.new" && name != "audit.ndjson");
    files.sort();
    files
}

/// A log made of the files of a fixture, opened.
async fn open_version(bench: &Bench, version: u32) -> Open {
    bench.open().await.crash();
    for (name, bytes) in files(&fixture(version)) {
        std::fs::write(bench.log_dir().join(name), bytes).unwrap();
    }
    bench.open().await
}

/// Set in the environment, this makes the fixture new. Only a new version of the format may do so.
const MAKE: &str = "TIDEGATE_MAKE_FIXTURES";

#[tokio::test]
async fn the_format_is_written_as_it_ever_was() {
    let bench = Bench::new();
    write(&bench).await;
    let kept = fixture(segment::FORMAT_VERSION);
    if option_env!("TIDEGATE_MAKE_FIXTURES").is_some() {
        std::fs::create_dir_all(&kept).unwrap();
        for (name, bytes) in files(&bench.log_dir()) {
            std::fs::write(kept.join(name), bytes).unwrap();
        }
    }
    let (found, wanted) = (files(&bench.log_dir()), files(&kept));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&wanted));
    for ((name, found), (_, wanted)) in found.iter().zip(&wanted) {
        assert!(
            found == wanted,
            "{name} differs; {MAKE}=1 writes a new fixture"
        );
    }
}

#[tokio::test]
async fn version_1_opens_and_every_event_is_there() {
    let bench = Bench::new();
    let open = open_version(&bench, 1).await;
    let a = open.feeder(1).read(Position::ZERO, 10_000).await;
    assert_eq!(a.len(), 3 + 256 + 2);
    assert_eq!(a[0], (0, at(2, 0)));
    assert_eq!(a[3], (3, at(4, 0)));
    assert_eq!(a[260].1, at(6, 1));
    let b = open.feeder(2).read(Position::ZERO, 10_000).await;
    assert_eq!(b, [(0, at(3, 0)), (1, at(5, 0)), (2, at(5, 1))]);
    let topic = open.log.topic(TopicId::new(2));
    assert_eq!(topic.ordinal, 3);
    assert_eq!(topic.last_at, Timestamp::from_millis(1_005_000));
}

#[tokio::test]
async fn what_version_1_holds_can_be_erased() {
    let bench = Bench::new();
    let open = open_version(&bench, 1).await;
    let gone = vec![at(2, 1), at(6, 0)];
    let erased = open.log.erase(TopicId::new(1), gone).await.unwrap();
    assert_eq!((erased.events, erased.segments), (2, 2));
    open.crash();
    let open = bench.open().await;
    let a = open.feeder(1).read(Position::ZERO, 10_000).await;
    assert_eq!(a.len(), 1 + 1 + 256 + 1);
    let report = inspect(&RealIo, &bench.log_dir(), Depth::Blocks, &mut |_| {}).unwrap();
    assert_eq!(report.damage, []);
}

#[tokio::test]
async fn version_2_opens_with_what_was_erased_lost_and_deleted() {
    let bench = Bench::new();
    let open = open_version(&bench, 2).await;
    let a = TopicId::new(1);
    let (before, error) = read_until_error(&*open.log, a, Position::ZERO).await;
    let left: Vec<u64> = (1..258).filter(|number| *number != 103).collect();
    assert_eq!(before, left);
    let hole = Some(PositionError::Damaged {
        position: at(4, 254),
        last_good: at(6, 255),
        valid_from: at(7, 1),
    });
    let Some(ReadError::Position(error)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(Some(error), hole);
    assert_eq!(open.log.topic(a).earliest(), at(7, 1));
    assert_eq!(open.feeder(1).read(at(7, 1), 1_000).await.len(), 2);
    let b = open.feeder(2).read(Position::ZERO, 10_000).await;
    assert_eq!(b.len(), 1 + 2 + 2);
    let retention = open.log.topic(TopicId::new(2)).retention;
    assert_eq!(retention, Some(Duration::from_secs(3_600)));
    let topics = open.log.topics();
    assert_eq!(topics.len(), 2, "topic 3 is deleted: {topics:?}");
    assert_eq!(open.metrics().holes.get(), 0);
}
