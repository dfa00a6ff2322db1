//! Retention: what goes, what stays, and what is known afterwards.

use super::*;
use crate::event_log::embedded::io::Io;

const A: TopicId = TopicId::new(1);
const B: TopicId = TopicId::new(2);

fn bench() -> Bench {
    Bench {
        config: Config {
            segment_age_max: Duration::from_secs(60),
            retention: Duration::from_secs(600),
            ..Bench::new().config
        },
        ..Bench::new()
    }
}

#[tokio::test]
async fn old_segments_go_and_positions_before_them_are_refused() {
    let bench = bench();
    let open = bench.open().await;
    let (a, b) = (open.feeder(1), open.feeder(2));
    let old_a = a.append(2).await;
    let old_b = b.append(1).await;
    bench.clock.advance(Duration::from_secs(300));
    let new_a = a.append(2).await;
    assert_eq!(bench.segments().len(), 2);
    bench.clock.advance(Duration::from_secs(301));
    open.tick(&bench);
    assert_eq!(bench.segments().len(), 1);

    let check = |open: &Open| {
        let topic = open.log.topic(A);
        assert_eq!((topic.trim, topic.trim_ordinal), (old_a, 2));
        assert_eq!((topic.last, topic.ordinal), (new_a, 4));
        assert_eq!(open.log.topic(B).trim, old_b);
        assert_eq!(open.log.state().trim, old_b);
        assert_eq!(open.log.resolve(&[A], Start::Earliest), Ok(old_a));
        assert_eq!(open.log.resolve(&[A], Start::After(old_a)), Ok(old_a));
        let before = Position::new(old_a.get() - 1).unwrap();
        assert_eq!(
            open.log.resolve(&[A], Start::After(before)),
            Err(PositionError::Purged {
                position: before,
                valid_from: old_a
            })
        );
        // Positions of another topic are as good as its own.
        assert_eq!(open.log.resolve(&[A, B], Start::Earliest), Ok(old_b));
        assert!(
            open.log
                .resolve(&[TopicId::new(3)], Start::After(before))
                .is_ok()
        );
    };
    check(&open);
    assert_eq!(a.read(old_a, 1_000).await.len(), 2);
    open.crash();
    let open = bench.open().await;
    check(&open);
    assert_eq!(open.feeder(1).read(old_a, 1_000).await.len(), 2);
    let purged = open.log.read(&[A], Position::ZERO, 1).await;
    assert!(matches!(
        purged,
        Err(ReadError::Position(PositionError::Purged { .. }))
    ));
}

#[tokio::test]
async fn a_log_that_was_purged_whole_goes_on_where_it_was() {
    let bench = bench();
    let open = bench.open().await;
    let feeder = open.feeder(1);
    let last = feeder.append(5).await;
    bench.clock.advance(Duration::from_secs(61));
    open.tick(&bench);
    bench.clock.advance(Duration::from_secs(600));
    open.tick(&bench);
    assert!(bench.segments().is_empty());
    assert_eq!(open.log.state().head, last);
    assert_eq!(open.log.resolve(&[A], Start::After(last)), Ok(last));
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.log.state().head, last);
    assert_eq!(open.log.topic(A).ordinal, 5);
    assert_eq!(open.log.topic(A).trim_ordinal, 5);
    assert_eq!(open.log.resolve(&[A], Start::Earliest), Ok(last));
    let next = open.feeder(1).append(1).await;
    assert_eq!(next.block(), last.block() + 1);
    assert_eq!(open.feeder(1).read(last, 100).await, [(0, next)]);
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.log.topic(A).ordinal, 6);
}

#[tokio::test]
async fn retention_by_bytes_removes_the_oldest_segments() {
    let bench = Bench {
        config: Config {
            segment_bytes_min: 32 * 1024,
            segment_bytes_max: 32 * 1024,
            retention_bytes: Some(100 * 1024),
            ring_bytes: 1,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    for _ in 0..200 {
        append(&*open.log, vec![feeder.body(10, 200)]).await;
    }
    assert!(open.log.state().bytes > 300 * 1024);
    open.tick(&bench);
    assert!(open.log.state().bytes <= 100 * 1024);
    assert!(open.metrics().purged_segments.get() > 0);
    let earliest = open.log.resolve(&[A], Start::Earliest).unwrap();
    let found = feeder.read(earliest, 10_000).await;
    let topic = open.log.topic(A);
    assert_eq!(found.len() as u64, topic.ordinal - topic.trim_ordinal);
    assert_eq!(found[0].0, topic.trim_ordinal);
}

#[tokio::test]
async fn retention_gives_space_back_on_a_full_disk() {
    let bench = bench();
    let open = bench.open().await;
    // More topics than a new log keeps space for.
    let feeders: Vec<_> = (0..100).map(|topic| open.feeder(topic)).collect();
    for feeder in &feeders {
        feeder.append(1).await;
    }
    open.tick(&bench);
    for _ in 0..3 {
        bench.clock.advance(Duration::from_secs(100));
        feeders[0].append(1).await;
    }
    let newest = open.log.state().head;
    assert_eq!(bench.segments().len(), 4);
    bench.disk.fill();
    for segments in [3, 2, 1] {
        let passed = if segments == 3 { 350 } else { 100 };
        bench.clock.advance(Duration::from_secs(passed));
        open.tick(&bench);
        assert_eq!(bench.segments().len(), segments);
    }
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.log.topic(TopicId::new(99)).trim_ordinal, 1);
    let first = open.log.resolve(&[TopicId::new(0)], Start::Earliest);
    let found = open.feeder(0).read(first.unwrap(), 1_000).await;
    assert_eq!(found, [(3, newest)]);
}

#[tokio::test]
async fn a_segment_without_room_for_its_footer_is_removed_in_its_time_too() {
    let bench = bench();
    let open = bench.open().await;
    let last = open.feeder(1).append(3).await;
    open.crash();
    let open = bench.open_on_a_full_disk().await;
    open.tick(&bench);
    assert_eq!(bench.segments().len(), 1);
    assert_eq!(open.feeder(1).read(Position::ZERO, 1_000).await.len(), 3);
    bench.clock.advance(Duration::from_secs(601));
    open.tick(&bench);
    assert!(bench.segments().is_empty());
    assert_eq!(open.log.resolve(&[A], Start::Earliest), Ok(last));
    assert_eq!(open.log.state().head, last);
}

#[tokio::test]
async fn a_purged_segment_that_could_not_be_removed_goes_when_the_log_is_opened() {
    let bench = bench();
    for is_sealed in [true, false] {
        let open = bench.open().await;
        let ordinal = open.log.topic(A).ordinal;
        open.feeder(1).append(2).await;
        let open = match is_sealed {
            true => open,
            false => {
                open.crash();
                bench.open_on_a_full_disk().await
            }
        };
        bench.clock.advance(Duration::from_secs(61));
        open.tick(&bench);
        let last = match is_sealed {
            // A newer one goes before it.
            true => open.feeder(1).append(3).await,
            false => open.log.state().head,
        };
        bench.clock.advance(Duration::from_secs(61));
        open.tick(&bench);
        bench.clock.advance(Duration::from_secs(601));
        bench
            .disk
            .fail(disk::Op::Unlink, ErrorKind::PermissionDenied);
        open.tick(&bench);
        bench.disk.heal();
        open.tick(&bench);
        assert_eq!(bench.segments().len(), 1, "left over");
        open.crash();

        let open = bench.open().await;
        assert!(bench.segments().is_empty());
        let topic = open.log.topic(A);
        let events = if is_sealed { 5 } else { 2 };
        assert_eq!((topic.trim, topic.last), (last, last));
        assert_eq!(topic.trim_ordinal, ordinal + events);
        assert_eq!(topic.ordinal, ordinal + events);
        let next = open.feeder(1).append(1).await;
        open.crash();
        let open = bench.open().await;
        assert_eq!(open.metrics().holes.get(), 0);
        let found = open.feeder(1).read(last, 100).await;
        assert_eq!(found, [(0, next)]);
        open.crash();
    }
}

#[tokio::test]
async fn a_segment_of_another_log_is_not_removed_though_it_looks_purged() {
    let (bench, other) = (bench(), bench());
    // Another id than the first log draws.
    Io::random(&other.disk).unwrap();
    let open = other.open().await;
    open.feeder(1).append(1).await;
    open.close().await;
    let open = bench.open().await;
    for _ in 0..3 {
        open.feeder(1).append(1).await;
        bench.clock.advance(Duration::from_secs(61));
        open.tick(&bench);
    }
    bench.clock.advance(Duration::from_secs(601));
    open.tick(&bench);
    assert!(bench.segments().is_empty());
    open.close().await;
    let foreign = &other.segments()[0];
    let to = bench.log_dir().join(foreign.file_name().unwrap());
    std::fs::copy(foreign, &to).unwrap();
    let refused = bench.refusal().await;
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    assert!(to.exists());
}

#[tokio::test]
async fn a_reader_overtaken_by_retention_is_told() {
    let bench = bench();
    let open = bench.open().await;
    let feeder = open.feeder(1);
    feeder.append(1).await;
    let cursor = feeder.append(1).await;
    let newest = feeder.append(1).await;
    bench.clock.advance(Duration::from_secs(61));
    open.tick(&bench);
    bench.clock.advance(Duration::from_secs(600));
    open.tick(&bench);
    let overtaken = open.log.read(&[A], cursor, 1).await.unwrap_err();
    assert!(matches!(
        overtaken,
        ReadError::Position(PositionError::Purged { valid_from, .. }) if valid_from == newest
    ));
}

#[tokio::test]
async fn a_jump_of_the_clock_purges_nothing() {
    let bench = bench();
    let open = bench.open().await;
    open.feeder(1).append(1).await;
    open.tick(&bench);
    bench.clock.advance(Duration::from_secs(7_200));
    open.tick(&bench);
    open.tick(&bench);
    assert_eq!(bench.segments().len(), 1, "sealed, but kept");
    let log = &open.embedded().tenants.open()[0];
    let later = std::time::Instant::now() + Duration::from_secs(3_601);
    log.tick(bench.clock.now(), later);
    assert!(bench.segments().is_empty());
}
