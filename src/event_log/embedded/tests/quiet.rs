//! Logs that nobody uses: closed, waited for, opened again, and purged while they are closed.

use std::{io::ErrorKind, time::Instant};

use futures_util::{FutureExt, poll};

use super::{disk::Op, *};
use crate::{event_log::embedded::upkeep::Upkeep, types::limits::LOGS_CLOSING_MAX};

fn numbered(number: u32) -> TenantId {
    format!("00D{number:012}").parse().unwrap()
}

/// Waits until `condition` holds, as the threads of the log bring it about.
///
/// # Panics
///
/// If it takes them a minute: nothing here does, so they never will.
async fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited for a minute in vain");
        tokio::task::yield_now().await;
    }
}

async fn closed(embedded: &EmbeddedLog) {
    until(|| embedded.tenants.len() == 0).await;
}

/// Files of `dir` that this process has open.
fn open_files(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(dir)).count()
}

/// Waits until `left` files of `dir` are open. The thread that committed last may hold the log, and
/// with it its file, for a moment after it answered.
async fn files_closed(dir: &Path, left: usize) {
    until(|| open_files(dir) == left).await;
}

fn upkeep(embedded: &EmbeddedLog) -> Upkeep {
    Upkeep::new(
        Arc::clone(&embedded.dir),
        Arc::clone(&embedded.process),
        Arc::clone(&embedded.tenants),
    )
}

#[tokio::test]
async fn a_log_that_nobody_holds_costs_nothing_but_its_files() {
    let bench = Bench {
        config: Config {
            segment_bytes_min: 64 * 1024,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let embedded = bench.embedded();
    let log = embedded.open(tenant()).await.unwrap();
    let feeder = Feeder::new(&log, 1);
    let mut last = Position::ZERO;
    // A file ahead is made of it as well.
    while !embedded.tenants.open()[0].store().has_spare() {
        last = append(&*log, vec![feeder.body(10, 400)]).await[0].first;
    }
    let state = log.state();
    assert_eq!(open_files(&bench.log_dir()), 2);
    drop(feeder);
    assert_eq!(embedded.tenants.len(), 1, "it is still held");
    drop(log);
    closed(&embedded).await;

    files_closed(&bench.log_dir(), 0).await;
    assert!(!bench.log_dir().join("spare").exists());
    let allocated = bench
        .segments()
        .into_iter()
        .map(|path| path.metadata().unwrap().len());
    assert!(
        allocated.sum::<u64>() < 2 * state.bytes,
        "cut off behind the events"
    );
    let metrics = embedded.metrics();
    assert_eq!((metrics.openings.get(), metrics.closings.get()), (1, 1));
    assert_eq!(metrics.unclean_closings.get(), 0);

    let log = embedded.open(tenant()).await.unwrap();
    assert_eq!(log.state().head, state.head);
    assert!(last <= state.head);
    let feeder = Feeder::new(&log, 1);
    let found = feeder.read(Position::ZERO, 100_000).await;
    assert_eq!(found.len() as u64, log.topic(feeder.topic()).ordinal);
    assert!(feeder.append(1).await > state.head, "numbering goes on");
    assert_eq!(metrics.recoveries.get(), 0, "there was nothing to recover");
}

#[tokio::test]
async fn an_opening_waits_for_the_closing_under_way_and_what_was_queued_is_there() {
    let bench = Bench::new();
    let embedded = bench.embedded();
    let log = embedded.open(tenant()).await.unwrap();
    let feeder = Feeder::new(&log, 1);
    feeder.append(1).await;
    bench.disk.hold_syncs();
    let queued = log.append(vec![feeder.body(3, 0)]).await.unwrap();
    let head = log.state().head;
    drop((log, feeder));
    // The closing waits for the sync of what was queued, and holds the gate meanwhile.
    let place = embedded.tenants.place(tenant()).unwrap();
    until(|| place.is_entered()).await;
    let mut opening = Box::pin(embedded.open(tenant()));
    for _ in 0..100 {
        assert!(poll!(&mut opening).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(embedded.metrics().openings.get(), 1, "there is one writer");

    bench.disk.let_syncs_go();
    let log = opening.await.unwrap();
    let range = queued.await.unwrap()[0].as_ref().unwrap().first;
    assert!(range > head);
    assert_eq!(embedded.metrics().openings.get(), 2);
    assert_eq!(embedded.metrics().recoveries.get(), 0);
    let found = Feeder::new(&log, 1).read(Position::ZERO, 1_000).await;
    assert_eq!(found.len(), 4);
}

#[tokio::test]
async fn a_log_that_is_used_again_before_its_closing_begins_stays_open() {
    let bench = Bench::new();
    let embedded = bench.embedded();
    let log = embedded.open(tenant()).await.unwrap();
    let place = embedded.tenants.place(tenant()).unwrap();
    let gate = place.enter().await;
    drop(log);
    // Upkeep finds the gate taken, and the log is used again by whoever holds it.
    until(|| embedded.tenants.closings() == 0).await;
    let log = place.handle_or_open(&gate, &embedded.tenants, || Err(()));
    let log: Arc<dyn TenantLog> = log.unwrap();
    drop(gate);
    Feeder::new(&log, 1).append(1).await;
    assert_eq!(embedded.metrics().closings.get(), 0);
}

#[tokio::test]
async fn a_log_whose_opening_was_given_up_at_the_wrong_moment_is_closed_by_upkeep() {
    let bench = Bench::new();
    let embedded = bench.embedded();
    let log = embedded.open(tenant()).await.unwrap();
    let gate = embedded.tenants.place(tenant()).unwrap().enter().await;
    drop(log);
    until(|| embedded.tenants.closings() == 0).await;
    drop(gate);
    assert_eq!(embedded.tenants.open().len(), 1);
    let now = Instant::now();
    upkeep(&embedded).tick(bench.clock.now(), now);
    assert_eq!(embedded.tenants.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_that_come_and_go_never_make_a_second_writer() {
    const EVENTS: u64 = 40;
    let bench = Bench::new();
    let embedded = Arc::new(bench.embedded());
    let mut users = Vec::new();
    for user in 0..4 {
        let embedded = Arc::clone(&embedded);
        users.push(tokio::spawn(async move {
            let mut positions = Vec::new();
            for round in 0..EVENTS {
                // Every third opening is given up wherever it is.
                if (user + round) % 3 == 0 {
                    _ = embedded.open(tenant()).now_or_never();
                }
                let log = embedded.open(tenant()).await.unwrap();
                positions.push(Feeder::new(&log, 1).append(1).await);
            }
            positions
        }));
    }
    let mut given = Vec::new();
    for user in users {
        given.extend(user.await.unwrap());
    }
    given.sort_unstable();
    // At least now that nobody holds it.
    until(|| embedded.metrics().closings.get() > 0).await;
    let log = embedded.open(tenant()).await.unwrap();
    let found = Feeder::new(&log, 1).read(Position::ZERO, 1_000).await;
    let found: Vec<_> = found.into_iter().map(|event| event.1).collect();
    assert_eq!(found, given, "each position is given once");
    assert_eq!(log.topic(TopicId::new(1)).ordinal, 4 * EVENTS);
    assert_eq!(embedded.metrics().recoveries.get(), 0);
}

#[tokio::test]
async fn a_closing_that_fails_is_counted_and_its_log_recovered() {
    for (op, kind) in [
        (Op::Write, ErrorKind::Other),
        (Op::Sync, ErrorKind::Other),
        (Op::Write, ErrorKind::StorageFull),
    ] {
        let bench = Bench::new();
        let embedded = bench.embedded();
        let log = embedded.open(tenant()).await.unwrap();
        let kept = Feeder::new(&log, 1).append(2).await;
        bench.disk.fail(op, kind);
        drop(log);
        closed(&embedded).await;
        assert_eq!(embedded.metrics().unclean_closings.get(), 1, "{op:?}");
        files_closed(&bench.log_dir(), 0).await;
        bench.disk.heal();

        let log = embedded.open(tenant()).await.unwrap();
        // A footer whose sync failed may have come to the disk all the same.
        let is_recovered = embedded.metrics().recoveries.get() == 1;
        assert!(is_recovered || op == Op::Sync, "{op:?}");
        assert_eq!(embedded.metrics().holes.get(), 0);
        let feeder = Feeder::new(&log, 1);
        assert_eq!(feeder.read(Position::ZERO, 1_000).await.len(), 2);
        assert!(feeder.append(1).await > kept, "a failed write is forgotten");
    }
}

#[tokio::test]
async fn a_reader_keeps_its_log_open() {
    let bench = Bench::new();
    let embedded = bench.embedded();
    let log = embedded.open(tenant()).await.unwrap();
    let reader = embedded.open(tenant()).await.unwrap();
    let mut watcher = reader.watch(&[TopicId::new(1)]);
    drop(log);
    upkeep(&embedded).tick(bench.clock.now(), Instant::now());
    let log = embedded.open(tenant()).await.unwrap();
    Feeder::new(&log, 1).append(1).await;
    watcher.changed().await;
    assert_eq!(embedded.metrics().openings.get(), 1);
}

#[tokio::test]
async fn logs_that_wait_to_be_closed_hold_up_openings_and_the_end_does_not_wait() {
    let bench = Bench::new();
    let embedded = bench.embedded();
    let count = LOGS_CLOSING_MAX as u32 + 3;
    let mut logs = Vec::new();
    for number in 0..count {
        logs.push(embedded.open(numbered(number)).await.unwrap());
    }
    Feeder::new(&logs[0], 1).append(1).await;
    bench.disk.hold_syncs();
    logs.clear();
    let place = embedded.tenants.place(numbered(0)).unwrap();
    until(|| place.is_entered()).await;
    let mut opening = Box::pin(embedded.open(numbered(count)));
    assert!(poll!(&mut opening).is_pending());
    embedded.tenants.shut();
    assert!(matches!(opening.await, Err(OpenError::Closed)));
    bench.disk.let_syncs_go();
}

#[tokio::test]
async fn closed_logs_are_purged_in_time_a_few_at_each_tick() {
    let bench = Bench {
        config: Config {
            segment_age_max: Duration::from_secs(60),
            retention: Duration::from_secs(600),
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let embedded = bench.embedded();
    let tenants = crate::types::limits::CLOSED_LOGS_PER_UPKEEP as u32 + 5;
    let segments = || {
        let count = |number| {
            let names = std::fs::read_dir(embedded.dir.log_dir(numbered(number))).unwrap();
            let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(".seg")).count()
        };
        (0..tenants).map(count).sum::<usize>()
    };
    let mut heads = Vec::new();
    for number in 0..tenants {
        let log = embedded.open(numbered(number)).await.unwrap();
        heads.push(Feeder::new(&log, 1).append(1).await);
    }
    closed(&embedded).await;
    let mut upkeep = upkeep(&embedded);
    let start = Instant::now();
    upkeep.tick(bench.clock.now(), start);
    upkeep.tick(bench.clock.now(), start);
    assert_eq!(segments(), tenants as usize, "it is not yet time");

    bench.clock.advance(Duration::from_secs(601));
    let later = start + Duration::from_secs(601);
    upkeep.tick(bench.clock.now(), later);
    assert_eq!(segments(), 5, "so many are looked at in one tick");
    assert_eq!(embedded.tenants.len(), 0, "none of them stays open");
    // But the lock.
    files_closed(embedded.dir.path(), 1).await;
    upkeep.tick(bench.clock.now(), later);
    assert_eq!(segments(), 0);

    let log = embedded.open(numbered(3)).await.unwrap();
    assert_eq!(log.state().head, heads[3]);
    let topic = log.topic(TopicId::new(1));
    assert_eq!((topic.trim, topic.trim_ordinal), (heads[3], 1));
    assert!(Feeder::new(&log, 1).append(1).await > heads[3]);
}

#[tokio::test]
async fn retention_passes_over_a_log_that_is_being_opened_and_a_jump_of_the_clock() {
    let bench = Bench {
        config: Config {
            segment_age_max: Duration::ZERO,
            retention: Duration::from_secs(600),
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let embedded = bench.embedded();
    let log = embedded.open(tenant()).await.unwrap();
    Feeder::new(&log, 1).append(1).await;
    drop(log);
    closed(&embedded).await;
    let mut upkeep = upkeep(&embedded);
    let start = Instant::now();
    upkeep.tick(bench.clock.now(), start);
    bench.clock.advance(Duration::from_secs(7_200));
    upkeep.tick(bench.clock.now(), start);
    assert_eq!(bench.segments().len(), 1, "the clock jumped");

    let later = start + Duration::from_secs(7_201);
    let place = embedded.tenants.place(tenant()).unwrap();
    let gate = place.enter().await;
    upkeep.tick(bench.clock.now(), later);
    assert_eq!(bench.segments().len(), 1, "it is being opened");
    drop(gate);
    upkeep.tick(bench.clock.now(), later);
    assert_eq!(bench.segments().len(), 0);
}
