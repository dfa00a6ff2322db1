//! Events that have to go while others stay: erased, deleted, or kept for a shorter time.

use super::{disk::Op, *};
use crate::event_log::RemoveError;

const A: TopicId = TopicId::new(1);
const B: TopicId = TopicId::new(2);

/// A bench whose segments hold a few groups and whose reads come from the disk.
fn bench() -> Bench {
    Bench {
        config: Config {
            segment_bytes_min: 20_000,
            segment_bytes_max: 20_000,
            segment_age_max: Duration::from_secs(600),
            ring_bytes: 1,
            ..Bench::new().config
        },
        ..Bench::new()
    }
}

/// Appends `groups` groups of 4 events of topic 1 and 2 of topic 2, a minute apart.
async fn fill(bench: &Bench, open: &Open, groups: usize) -> Vec<(u64, Position)> {
    let (a, b) = (open.feeder(1), open.feeder(2));
    let mut numbered = Vec::new();
    for _ in 0..groups {
        bench.clock.advance(Duration::from_secs(60));
        let ranges = append(&*open.log, vec![a.body(4, 300), b.body(2, 300)]).await;
        let first = numbered.len() as u64;
        numbered.extend((first..).zip(ranges[0].iter()));
    }
    numbered
}

/// What is read of a topic from its earliest on, which must not fail.
async fn read(open: &Open, topic: TopicId) -> Vec<u64> {
    let earliest = open.log.resolve(&[topic], Start::Earliest).unwrap();
    let (numbers, error) = read_until_error(&*open.log, topic, earliest).await;
    assert!(error.is_none(), "{error:?}");
    numbers
}

/// Whether a file of the log holds `padding` bytes of the feeders after this number.
fn is_in_files(bench: &Bench, number: u64) -> bool {
    let mut event = number.to_le_bytes().to_vec();
    event.resize(8 + 300, 0xa5);
    let holds = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(event.len()).any(|window| window == event)
    };
    bench.segments().iter().any(holds)
}

#[tokio::test]
async fn erased_events_leave_every_file_and_stay_away() {
    let bench = bench();
    let open = bench.open().await;
    let numbered = fill(&bench, &open, 40).await;
    let segments_before = bench.segments().len();
    assert!(segments_before > 5);
    let is_erased = |number: &u64| number % 5 == 1 || (32..48).contains(number);
    let (gone, left): (Vec<(u64, Position)>, Vec<_>) = numbered
        .iter()
        .copied()
        .partition(|event| is_erased(&event.0));
    let left: Vec<u64> = left.into_iter().map(|event| event.0).collect();
    // Topic 2 counts from 0 too; only its numbers below 80 stand in the files twice.
    let of_a_alone = gone.iter().map(|event| event.0).filter(|n| *n >= 80);
    let of_a_alone: Vec<u64> = of_a_alone.collect();
    assert!(of_a_alone.iter().all(|number| is_in_files(&bench, *number)));
    let gone: Vec<_> = gone.into_iter().map(|event| event.1).collect();
    let erased = open.log.erase(A, gone.clone()).await.unwrap();
    assert_eq!(erased.events, gone.len() as u64);
    assert_eq!(open.metrics().erased_events.get(), gone.len() as u64);
    assert!(!of_a_alone.iter().any(|number| is_in_files(&bench, *number)));
    assert_eq!(bench.segments().len(), segments_before);

    let state = open.log.topic(A);
    let head = open.log.state().head;
    let mut open = open;
    for round in 0..4 {
        assert_eq!(read(&open, A).await, left, "round {round}");
        assert_eq!(read(&open, B).await.len(), 80, "round {round}");
        assert_eq!(open.log.topic(A), state);
        assert_eq!(open.log.state().head, head);
        assert_eq!(open.metrics().holes.get(), 0);
        open.crash();
        // The last rounds go without footers.
        if round > 1 {
            for path in bench.segments() {
                bench.change(&path, |bytes| {
                    let end = bytes.len();
                    bytes[end - 20] ^= 1;
                });
            }
        }
        open = bench.open().await;
    }
    let next = open.feeder(1).append(1).await;
    assert!(next > head, "positions go on");
    assert_eq!(open.log.topic(A).ordinal, state.ordinal + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_under_way_passes_over_what_is_erased() {
    let bench = bench();
    let open = bench.open().await;
    let numbered = fill(&bench, &open, 60).await;
    let log = Arc::clone(&open.log);
    let eraser = tokio::spawn(async move {
        for (_, position) in numbered.iter().step_by(3) {
            log.erase(A, vec![*position]).await.unwrap();
        }
    });
    let mut rounds = 0;
    while !eraser.is_finished() || rounds == 0 {
        let (numbers, error) = read_until_error(&*open.log, A, Position::ZERO).await;
        assert!(error.is_none(), "{error:?}");
        assert!(numbers.is_sorted_by(|a, b| a < b));
        let kept = numbers.iter().filter(|number| *number % 3 != 0).count();
        assert_eq!(kept, 160, "what is not erased is always there");
        rounds += 1;
    }
    eraser.await.unwrap();
    assert_eq!(read(&open, A).await.len(), 160);
}

#[tokio::test]
async fn a_failed_erasure_changes_nothing_and_may_be_tried_again() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let bench = bench();
            let open = bench.open().await;
            let numbered = fill(&bench, &open, 10).await;
            // Sealed while the disk works, so that only the new file can fail.
            open.close().await;
            let open = bench.open().await;
            let files = bench.segments();
            bench.disk.fail(op, kind);
            let failed = open.log.erase(A, vec![numbered[5].1]).await.unwrap_err();
            let is_full = matches!(failed, RemoveError::Refused(Refusal::DiskFull));
            assert_eq!(is_full, kind == ErrorKind::StorageFull, "{op:?} {failed}");
            bench.disk.heal();
            if op != Op::SyncDir {
                assert_eq!(bench.segments(), files, "{op:?}");
            }
            assert_eq!(read(&open, A).await.len(), 40, "{op:?}");
            open.feeder(1).append(1).await;
            let erased = open.log.erase(A, vec![numbered[5].1]).await.unwrap();
            assert_eq!((erased.events, erased.segments), (1, 1), "{op:?}");
            assert_eq!(read(&open, A).await.len(), 40);
            open.crash();
            assert_eq!(read(&bench.open().await, A).await.len(), 40);
        }
    }
}

#[tokio::test]
async fn a_damaged_segment_is_left_for_the_repair() {
    let bench = bench();
    let open = bench.open().await;
    let numbered = fill(&bench, &open, 10).await;
    open.close().await;
    let path = bench.segments()[0].clone();
    bench.change(&path, |bytes| bytes[8_192 + 200] ^= 1);
    let before = std::fs::read(&path).unwrap();
    let open = bench.open().await;
    let refused = open.log.erase(A, vec![numbered[5].1]).await.unwrap_err();
    assert!(refused.to_string().contains("log repair"), "{refused}");
    assert!(refused.to_string().contains("byte 8192"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_deleted_topic_leaves_the_files_and_the_index_in_time() {
    let bench = bench();
    let open = bench.open().await;
    fill(&bench, &open, 40).await;
    let bytes = open.log.state().bytes;
    // A clean end records how far each topic reached, and a deletion has to take that back.
    open.close().await;
    let open = bench.open().await;
    open.log.delete_topic(A).await.unwrap();
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.log.topics().len(), 1, "it is durable");
    for _ in 0..100 {
        open.tick(&bench);
    }
    assert!(open.log.state().bytes < bytes * 4 / 5, "headers stay");
    assert!(!is_in_files(&bench, 100));
    assert_eq!(read(&open, B).await.len(), 80);
    let store = Arc::clone(open.embedded().tenants.open()[0].store());
    assert_eq!(store.state().deleted, [], "no segment knows of it");
    let rewrites = open.metrics().rewrites.get();
    for _ in 0..100 {
        open.tick(&bench);
    }
    assert_eq!(open.metrics().rewrites.get(), rewrites, "once is enough");
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.log.topics().len(), 1);
    assert_eq!(read(&open, B).await.len(), 80);
}

#[tokio::test]
async fn a_topic_may_keep_its_events_for_a_shorter_time() {
    let bench = bench();
    let open = bench.open().await;
    let numbered = fill(&bench, &open, 100).await;
    let bytes = open.log.state().bytes;
    let state = open.log.state();
    let retention = Some(Duration::from_secs(30 * 60));
    open.log.set_retention(A, retention).await.unwrap();
    open.tick(&bench);
    let topic = open.log.topic(A);
    let kept = read(&open, A).await;
    // A step of the index holds a few minutes of events here.
    let oldest_due = 4 * 70;
    assert!(kept.len() >= 4 * 30, "nothing goes early: {}", kept.len());
    assert!(kept.len() <= 4 * 45, "it goes in time: {}", kept.len());
    assert_eq!(*kept.last().unwrap(), 399);
    assert_eq!(topic.ordinal - topic.trim_ordinal, kept.len() as u64);
    assert_eq!(read(&open, B).await.len(), 200, "the other topic keeps all");
    assert_eq!(open.log.state().trim, state.trim);
    let refused = open
        .log
        .resolve(&[A], Start::After(numbered[oldest_due - 60].1));
    assert!(matches!(
        refused,
        Err(PositionError::Purged { valid_from, .. }) if valid_from == topic.trim
    ));
    let after_trim = open.log.resolve(&[A], Start::After(topic.trim));
    assert_eq!(after_trim, Ok(topic.trim));

    for _ in 0..100 {
        open.tick(&bench);
    }
    assert!(open.log.state().bytes < bytes * 7 / 8, "the space is back");
    assert!(
        !is_in_files(&bench, 210),
        "a number that topic 2 does not have"
    );
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.log.topic(A), topic, "the trim is durable");
    assert_eq!(read(&open, A).await, kept);
    assert_eq!(read(&open, B).await.len(), 200);
    assert_eq!(open.metrics().holes.get(), 0);
    open.log.set_retention(A, None).await.unwrap();
    open.tick(&bench);
    assert_eq!(read(&open, A).await, kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_goes_on_under_load() {
    let bench = Bench {
        config: Config {
            retention_bytes: Some(300_000),
            ..bench().config
        },
        ..bench()
    };
    let open = bench.open().await;
    let numbered = fill(&bench, &open, 20).await;
    let log = Arc::clone(&open.log);
    let publisher = tokio::spawn({
        let feeder = open.feeder(7);
        async move {
            for _ in 0..300 {
                append(&*log, vec![feeder.body(3, 700)]).await;
            }
        }
    });
    let mut due = numbered.iter();
    while !publisher.is_finished() {
        if let Some((_, position)) = due.next() {
            open.log.erase(A, vec![*position]).await.unwrap();
        }
        open.tick(&bench);
        let log = Arc::clone(&open.log);
        let seven = TopicId::new(7);
        let earliest = log.resolve(&[seven], Start::Earliest).unwrap();
        match log.read(&[seven], earliest, 10_000).await {
            Ok(_) | Err(ReadError::Position(PositionError::Purged { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }
    publisher.await.unwrap();
    open.tick(&bench);
    assert!(open.log.state().bytes <= 300_000 + 20_000);
    let found = open.log.topic(TopicId::new(7));
    assert_eq!(found.ordinal, 900);
    assert!(found.trim_ordinal > 0);
}
