//! The format of version 1, which must open for ever: a small directory that was written once and
//! is kept under `tests/fixtures/log-v1`.

use super::*;

/// The files, relative to the directory of the log.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/log-v1");

/// Writes what the fixture holds: two topics, a sealed segment and one that was left open.
async fn write(bench: &Bench) {
    let open = bench.open().await;
    let (a, b) = (open.feeder(1), open.feeder(2));
    append(&*open.log, vec![a.body(3, 0), b.body(1, 20)]).await;
    append(&*open.log, vec![a.body(256, 0)]).await;
    bench.clock.advance(Duration::from_secs(5));
    append(&*open.log, vec![b.body(2, 7)]).await;
    open.close().await;
    let open = bench.open().await;
    append(&*open.log, vec![open.feeder(1).body(2, 1)]).await;
    open.crash();
    // The space that was allocated ahead is no part of the format.
    let last = bench.segments()[1].clone();
    bench.change(&last, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes.truncate(end.next_multiple_of(512));
    });
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let file = |file: std::fs::DirEntry| {
        let bytes = std::fs::read(file.path()).unwrap();
        (file.file_name().into_string().unwrap(), bytes)
    };
    let mut files: Vec<_> = files.map(file).collect();
    files.sort();
    files
}

/// Set in the environment, this makes the fixture new. Only a new version of the format may do so.
const MAKE: &str = "TIDEGATE_MAKE_FIXTURES";

#[tokio::test]
async fn the_format_is_written_as_it_ever_was() {
    let bench = Bench::new();
    write(&bench).await;
    if option_env!("TIDEGATE_MAKE_FIXTURES").is_some() {
        std::fs::create_dir_all(FIXTURE).unwrap();
        for (name, bytes) in files(&bench.log_dir()) {
            std::fs::write(Path::new(FIXTURE).join(name), bytes).unwrap();
        }
    }
    let (found, wanted) = (files(&bench.log_dir()), files(Path::new(FIXTURE)));
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
    bench.open().await.crash();
    for (name, bytes) in files(Path::new(FIXTURE)) {
        std::fs::write(bench.log_dir().join(name), bytes).unwrap();
    }
    let open = bench.open().await;
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
