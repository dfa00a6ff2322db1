//! A disk that refuses: what was acknowledged stays, and nobody is told what is not so.

use futures_util::FutureExt;

use super::{disk::Op, *};
use crate::event_log::{AppendError, Refusal};

async fn try_append(log: &dyn TenantLog, feeder: &Feeder) -> Result<PositionRange, AppendError> {
    let appending = log.append(vec![feeder.body(1, 500)]).await?;
    appending.await?.remove(0)
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_space_and_loses_nothing() {
    for (op, short) in [
        (Op::Write, 0),
        (Op::Write, 700),
        (Op::Allocate, 0),
        (Op::Create, 0),
    ] {
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let bench = Bench {
                config: Config {
                    segment_bytes_min: 30_000,
                    segment_bytes_max: 30_000,
                    ..Bench::new().config
                },
                ..Bench::new()
            };
            let open = bench.open().await;
            let feeder = open.feeder(1);
            let mut wanted = vec![feeder.append(1).await];
            bench.disk.fail_after(short);
            bench.disk.fail(op, kind);
            // A failure to make a file shows when the open segment is full.
            let refused = loop {
                match try_append(&*open.log, &feeder).await {
                    Ok(range) => wanted.push(range.first),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(refused, AppendError::Refused(Refusal::DiskFull)),
                "{op:?}"
            );
            assert!(refused.is_safe_to_retry());
            assert!(open.metrics().disk_full.get() > 0);
            let read = || async {
                let found = feeder.read(Position::ZERO, 1_000).await;
                found.into_iter().map(|event| event.1).collect::<Vec<_>>()
            };
            assert_eq!(read().await, wanted, "subscribers are served");

            bench.disk.heal();
            let appended = loop {
                match try_append(&*open.log, &feeder).await {
                    Ok(range) => break range.first,
                    Err(AppendError::Refused(Refusal::DiskFull)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            };
            wanted.push(appended);
            assert_eq!(read().await, wanted);
            assert_eq!(open.log.topic(feeder.topic()).ordinal, wanted.len() as u64);
            open.crash();
            let open = bench.open().await;
            assert_eq!(open.metrics().holes.get(), 0);
            let found = open.feeder(1).read(Position::ZERO, 1_000).await;
            assert_eq!(
                found.into_iter().map(|event| event.1).collect::<Vec<_>>(),
                wanted
            );
        }
    }
}

#[tokio::test]
async fn a_failed_write_or_sync_poisons_the_log_until_it_is_opened_again() {
    for (op, kind) in [
        (Op::Write, ErrorKind::Other),
        (Op::Sync, ErrorKind::Other),
        (Op::Sync, ErrorKind::StorageFull),
    ] {
        let bench = Bench::new();
        let open = bench.open().await;
        let feeder = open.feeder(1);
        let kept = feeder.append(1).await;
        bench.disk.fail_after(300);
        bench.disk.fail(op, kind);
        let failed = try_append(&*open.log, &feeder).await.unwrap_err();
        assert!(
            matches!(failed, AppendError::Unconfirmed(_)),
            "{op:?}: {failed}"
        );
        assert!(!failed.is_safe_to_retry());
        bench.disk.heal();
        let refused = try_append(&*open.log, &feeder).await.unwrap_err();
        assert!(matches!(refused, AppendError::Refused(Refusal::Poisoned)));
        assert_eq!(open.metrics().poisoned.get(), 1);
        bench.clock.advance(Duration::from_secs(7_200));
        open.tick(&bench);
        assert_eq!(open.metrics().seals.get(), 0, "nothing is written any more");
        assert_eq!(
            open.log.state().head,
            kept,
            "nobody sees what is not durable"
        );
        assert_eq!(feeder.read(Position::ZERO, 1_000).await, [(0, kept)]);
        open.close().await;

        let open = bench.open().await;
        let found = open.feeder(1).read(Position::ZERO, 1_000).await;
        assert_eq!(found[0], (0, kept));
        assert!(open.feeder(1).append(1).await > kept);
    }
}

#[tokio::test]
async fn a_footer_that_cannot_be_synced_stops_the_log() {
    let bench = Bench::new();
    let open = bench.open().await;
    let kept = open.feeder(1).append(1).await;
    // A sync that finds no space is a failed sync all the same.
    bench.disk.fail(Op::Sync, ErrorKind::StorageFull);
    bench.clock.advance(bench.config.segment_age_max);
    open.tick(&bench);
    bench.disk.heal();
    let refused = try_append(&*open.log, &open.feeder(1)).await.unwrap_err();
    assert!(matches!(refused, AppendError::Refused(Refusal::Poisoned)));
    assert_eq!(open.metrics().seals.get(), 0);
    open.close().await;
    let open = bench.open().await;
    assert_eq!(open.feeder(1).read(Position::ZERO, 10).await, [(0, kept)]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_a_clear_error() {
    let bench = Bench::new();
    bench.disk.fail(Op::Create, ErrorKind::PermissionDenied);
    let refused = DataDir::open_with(bench.root.path().join("x"), Arc::new(bench.disk.clone()));
    let refused = refused.unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("cannot create the directory")
    );
    let source = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(source, "permission denied");
}

#[tokio::test]
async fn a_full_disk_does_not_keep_a_log_from_being_opened_and_read() {
    let bench = Bench::new();
    let open = bench.open().await;
    let kept = open.feeder(1).append(1).await;
    open.crash();
    let embedded = bench.embedded();
    // Not only full: not even the space that recovery gives back is there for the footer.
    bench.disk.fail(Op::Write, ErrorKind::StorageFull);
    let log = embedded.open(tenant()).await.unwrap();
    assert_eq!(
        Feeder::new(&log, 1).read(Position::ZERO, 10).await,
        [(0, kept)]
    );
    bench.disk.heal();
    let next = Feeder::new(&log, 1).append(1).await;
    drop(embedded);
    let open = bench.open().await;
    let found = open.feeder(1).read(Position::ZERO, 10).await;
    assert_eq!(
        found.iter().map(|event| event.1).collect::<Vec<_>>(),
        [kept, next]
    );
    assert_eq!(open.metrics().recoveries.get(), 2);
    assert_eq!(open.metrics().holes.get(), 0);
}

#[tokio::test]
async fn what_is_queued_behind_a_refused_append_is_refused_too() {
    let bench = Bench {
        config: Config {
            segment_bytes_min: 40_000,
            segment_bytes_max: 40_000,
            // Each append is a group.
            group_bytes_max: 1,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    feeder.append(1).await;
    bench.disk.hold_syncs();
    let mut appending = Vec::new();
    for padding in [100, 100_000, 100] {
        let body = feeder.body(1, padding);
        appending.push(open.log.append(vec![body]).await.unwrap());
    }
    // Too little for a segment with the large one, enough for one with a small one.
    bench.disk.fill_but(40_000);
    bench.disk.let_syncs_go();
    let mut outcomes = Vec::new();
    for appending in appending {
        outcomes.push(appending.await.unwrap().remove(0));
    }
    assert!(outcomes[0].is_ok());
    for outcome in &outcomes[1..] {
        assert!(matches!(
            outcome,
            Err(AppendError::Refused(Refusal::DiskFull))
        ));
    }
    assert_eq!(feeder.read(Position::ZERO, 1_000).await.len(), 2);
}

#[tokio::test]
async fn a_file_that_found_no_space_ahead_of_its_use_is_made_later() {
    let bench = Bench {
        config: Config {
            segment_bytes_min: 40_000,
            segment_bytes_max: 40_000,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    let store = Arc::clone(open.embedded().tenants.open()[0].store());
    feeder.append(1).await;
    bench.disk.fill();
    append(&*open.log, vec![feeder.body(1, 14_000)]).await;
    while try_append(&*open.log, &feeder).await.is_ok() {}
    assert!(!store.has_spare());
    bench.disk.heal();
    while !store.has_spare() {
        _ = try_append(&*open.log, &feeder).await;
    }
}

#[tokio::test]
async fn a_torn_group_that_could_not_be_sealed_is_no_hole_later() {
    for has_whole_group in [true, false] {
        let bench = Bench::new();
        let open = bench.open().await;
        let mut wanted = Vec::new();
        if has_whole_group {
            wanted.push(open.feeder(1).append(1).await);
        }
        let bodies = vec![open.feeder(1).body(1, 0), open.feeder(2).body(1, 100)];
        append(&*open.log, bodies).await;
        let end = open.log.state().bytes as usize;
        open.crash();
        let segment = bench.segments()[0].clone();
        bench.change(&segment, |bytes| bytes[end - 50..end].fill(0));
        let embedded = bench.embedded();
        bench.disk.fail_after(100);
        bench.disk.fail(Op::Write, ErrorKind::StorageFull);
        let log = embedded.open(tenant()).await.unwrap();
        bench.disk.heal();
        wanted.push(Feeder::new(&log, 1).append(1).await);
        drop(embedded);
        if has_whole_group {
            // Another footer that did not get far.
            bench.change(&segment, |bytes| bytes.resize(bytes.len() + 1_000, 1));
        }
        let open = bench.open().await;
        assert_eq!(open.metrics().holes.get(), 0);
        let found = open.feeder(1).read(Position::ZERO, 10).await;
        let found: Vec<_> = found.into_iter().map(|event| event.1).collect();
        assert_eq!(found, wanted);
    }
}

#[tokio::test]
async fn nothing_is_answered_or_shown_before_the_sync_returns() {
    let bench = Bench::new();
    let open = bench.open().await;
    let feeder = open.feeder(1);
    let head = feeder.append(1).await;
    bench.disk.hold_syncs();
    let mut appending = open.log.append(vec![feeder.body(1, 0)]).await.unwrap();
    let mut watcher = open.log.watch(&[feeder.topic()]);
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!((&mut appending).now_or_never().is_none());
        assert!(watcher.changed().now_or_never().is_none());
        assert_eq!(open.log.state().head, head);
    }
    bench.disk.let_syncs_go();
    assert!(appending.await.unwrap()[0].is_ok());
    assert!(open.log.state().head > head);
}

#[tokio::test]
async fn appends_wait_for_room_in_their_order_and_may_be_given_up() {
    let bench = Bench {
        config: Config {
            queue_bytes: 4_000,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    feeder.append(1).await;
    bench.disk.hold_syncs();
    // A tenant's share is half of the queue: the first one fills it.
    let first = open.log.append(vec![feeder.body(1, 1_900)]).await.unwrap();
    let mut waiting: Vec<_> = (0..4)
        .map(|number| {
            let body = feeder.body(1, if number == 0 { 1_500 } else { 10 });
            open.log.append(vec![body])
        })
        .collect();
    for waiting in &mut waiting {
        assert!(futures_util::poll!(waiting).is_pending());
    }
    drop(waiting.remove(2));
    bench.disk.let_syncs_go();
    let mut positions = vec![first.await.unwrap()[0].as_ref().unwrap().first];
    for waiting in waiting {
        let appending = waiting.await.unwrap();
        positions.push(appending.await.unwrap()[0].as_ref().unwrap().first);
    }
    assert!(positions.is_sorted(), "first come, first served");
    let found = feeder.read(Position::ZERO, 10_000).await;
    let numbers: Vec<_> = found.into_iter().map(|event| event.0).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 5], "the one given up is not stored");
}

#[tokio::test]
async fn closing_refuses_whoever_waits_for_room() {
    let bench = Bench {
        config: Config {
            queue_bytes: 4_000,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    bench.disk.hold_syncs();
    let first = open.log.append(vec![feeder.body(1, 1_900)]).await.unwrap();
    let log = Arc::clone(&open.log);
    let mut waiting = log.append(vec![feeder.body(1, 1_900)]);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let closing = tokio::spawn(open.close());
    let refused = waiting.await.unwrap_err();
    assert!(matches!(refused, AppendError::Refused(Refusal::Closed)));
    bench.disk.let_syncs_go();
    closing.await.unwrap();
    assert!(first.await.unwrap()[0].is_ok(), "what was queued is stored");
    assert_eq!(Feeder::new(&log, 1).read(Position::ZERO, 10).await.len(), 1);
}
