//! Backups of a log that goes on, and what becomes of them.

use std::sync::atomic::AtomicBool;

use super::{disk::Op, *};
use crate::{
    event_log::{AppendError, AuditEntry, MemoryLog},
    types::limits::{RESTORE_BLOCKS, RESTORE_BLOCKS_PER_SECOND},
};

const A: TopicId = TopicId::new(1);

/// A directory for a backup, which is not there yet.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("backup")
    }

    fn log_dir(&self) -> PathBuf {
        let tenant_dir = self.path().join("tenants").join(tenant().as_str());
        tenant_dir.join("log")
    }

    fn is_whole(&self) -> bool {
        self.path().join("backup.json").exists()
    }
}

impl Open {
    async fn try_back_up(&self, to: &Path) -> Result<Backup, BackupError> {
        let backup = self.embedded().back_up(to).await?;
        self.embedded().finish_backup(to, &backup, 0).await?;
        Ok(backup)
    }

    async fn back_up(&self) -> Place {
        let place = Place::new();
        self.try_back_up(&place.path()).await.unwrap();
        assert!(place.is_whole());
        place
    }
}

impl Bench {
    /// A bench on an empty disk, at the same time.
    fn other(&self) -> Self {
        Self {
            clock: ManualClock::at(self.clock.now()),
            config: self.config.clone(),
            ..Self::new()
        }
    }

    fn try_restore(&self, from: &Path) -> Result<Vec<LogReport>, RestoreError> {
        // Each log gets an id that no other has, as from a real disk.
        let io = Arc::new(RealIo);
        let restore = Restore::begin(io, from, self.root.path(), self.clock.now())?;
        let reports = restore.logs(&mut |_| {})?;
        restore.finish(0)?;
        Ok(reports)
    }

    /// A bench with what is restored of a backup, which is whole.
    fn restored(&self, from: &Place) -> Self {
        let other = self.other();
        for report in other.try_restore(&from.path()).unwrap() {
            assert_eq!(report.damage, []);
        }
        other
    }

    fn restore_refusal(&self, from: &Place) -> RestoreError {
        let other = self.other();
        let refusal = other.try_restore(&from.path()).unwrap_err();
        let is_touched = other.root.path().read_dir().unwrap().next().is_some();
        let dir = || DataDir::open(other.root.path());
        assert!(!is_touched || matches!(dir(), Err(OpenError::Unusable { .. })));
        refusal
    }
}

async fn positions(open: &Open, topic: u32) -> Vec<Position> {
    let found = open.feeder(topic).read(Position::ZERO, 100_000).await;
    found.into_iter().map(|event| event.1).collect()
}

fn small_segments() -> Bench {
    let bench = Bench::new();
    Bench {
        config: Config {
            segment_bytes_min: 30_000,
            segment_bytes_max: 30_000,
            ..bench.config.clone()
        },
        ..bench
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_before_is_in_it_and_the_log_goes_on_meanwhile() {
    let bench = small_segments();
    let open = bench.open().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (acknowledged, mut count) = tokio::sync::watch::channel(0);
    let (feeder, stopped) = (open.feeder(1), Arc::clone(&stop));
    let log = Arc::clone(&open.log);
    let publisher = tokio::spawn(async move {
        let mut positions = Vec::new();
        while !stopped.load(Ordering::SeqCst) {
            let ranges = contract::append(&*log, vec![feeder.body(2, 300)]).await;
            positions.extend(ranges[0].iter());
            acknowledged.send_replace(positions.len());
        }
        positions
    });
    let mut backups = Vec::new();
    for _ in 0..5 {
        let before = *count.borrow_and_update();
        let place = open.back_up().await;
        backups.push((before, place));
        let wanted = before + 20;
        count.wait_for(|&count| count >= wanted).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let wanted = publisher.await.unwrap();
    assert_eq!(positions(&open, 1).await, wanted);

    for (before, place) in backups {
        let restored = bench.restored(&place);
        let open = restored.open().await;
        assert_eq!(
            open.metrics().recoveries.get(),
            0,
            "every segment is sealed"
        );
        let found = positions(&open, 1).await;
        assert!(found.len() >= before, "{} of {before}", found.len());
        assert_eq!(found, wanted[..found.len()]);
        assert_eq!(open.log.topic(A).ordinal, found.len() as u64);
    }
}

#[tokio::test]
async fn no_position_is_given_twice_when_both_go_on() {
    let bench = Bench::new();
    let open = bench.open().await;
    let kept = open.feeder(1).append(3).await;
    let place = open.back_up().await;
    bench.clock.advance(Duration::from_millis(90_500));
    let mut given = vec![open.feeder(1).append(1).await];

    let restored = bench.restored(&place);
    let first = restored.open().await;
    let after = first.feeder(1).append(1).await;
    let next_block = given[0].block();
    let skipped = RESTORE_BLOCKS + 91 * RESTORE_BLOCKS_PER_SECOND;
    assert_eq!(
        after.block(),
        next_block + skipped,
        "whole seconds, rounded up"
    );
    for _ in 0..20 {
        given.push(open.feeder(1).append(1).await);
    }
    // A subscriber that was told of the original's later events.
    let until = at(next_block + skipped, 0).get() - 1;
    for lost in [given[0], given[20]] {
        assert_eq!(
            first.log.resolve(&[A], Start::After(lost)),
            Err(PositionError::Lost {
                position: lost,
                valid_from: Position::new(until).unwrap(),
            })
        );
    }
    let valid = Start::After(Position::new(until).unwrap());
    assert!(first.log.resolve(&[A], valid).is_ok());
    assert!(first.log.resolve(&[A], Start::After(kept)).is_ok());
    let found = first.feeder(1).read(kept, 1_000).await;
    assert_eq!(found.len(), 1, "it goes on behind the gap");

    // Again and again, also from a backup of what was restored.
    for end in ["clean", "crash"] {
        let again = restored.restored(&first.back_up().await);
        let second = again.open().await;
        let newest = second.feeder(1).append(1).await;
        assert!(newest > after && !given.contains(&newest));
        match end {
            "clean" => second.close().await,
            _ => second.crash(),
        }
        let second = again.open().await;
        assert_eq!(positions(&second, 1).await.last(), Some(&newest));
        assert_eq!(second.metrics().holes.get(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_or_made_anew_meanwhile_harms_neither() {
    let mut bench = small_segments();
    bench.config.retention = Duration::from_secs(600);
    let open = bench.open().await;
    let (a, b) = (open.feeder(1), open.feeder(2));
    let stop = AtomicBool::new(false);
    let removing = async {
        while !stop.load(Ordering::SeqCst) {
            let ranges = append(&*open.log, vec![a.body(20, 300), b.body(5, 100)]).await;
            open.log.erase(A, vec![ranges[0].first]).await.unwrap();
            bench.clock.advance(Duration::from_secs(200));
            open.tick(&bench);
        }
        open.log.delete_topic(b.topic()).await.unwrap();
        open.tick(&bench);
    };
    let backing_up = async {
        let mut places = Vec::new();
        for _ in 0..20 {
            places.push((open.back_up().await, bench.clock.now()));
        }
        stop.store(true, Ordering::SeqCst);
        places
    };
    let (places, ()) = tokio::join!(backing_up, removing);
    assert!(open.metrics().purged_segments.get() > 0);
    assert!(open.metrics().rewrites.get() > 0);
    for (place, made_at) in places {
        let restored = bench.restored(&place);
        restored.clock.set(made_at);
        let open = restored.open().await;
        let trim = open.log.topic(A).trim;
        let found = open.feeder(1).read(trim, 100_000).await;
        assert!(found.is_sorted());
        // Of each twenty the first is erased, and of the last group perhaps not yet.
        let numbers = found.iter().filter(|(number, _)| number % 20 == 0);
        assert!(numbers.count() <= 1);
        assert_eq!(open.metrics().holes.get(), 0);
    }
}

#[tokio::test]
async fn a_topic_deleted_and_an_event_erased_later_are_in_the_backup() {
    let bench = Bench::new();
    let open = bench.open().await;
    let first = open.feeder(1).append(1).await;
    open.feeder(2).append(2).await;
    let entry = |detail: &str| AuditEntry {
        at_ms: 0,
        by: "administrator".into(),
        action: "erase".into(),
        topic: None,
        detail: detail.into(),
    };
    open.log.audit(entry("before")).await.unwrap();
    let place = open.back_up().await;
    open.log.audit(entry("later")).await.unwrap();
    open.log.erase(A, vec![first]).await.unwrap();
    open.log.delete_topic(TopicId::new(2)).await.unwrap();
    open.tick(&bench);
    let restored = bench.restored(&place);
    let open = restored.open().await;
    assert_eq!(positions(&open, 1).await, [first]);
    assert_eq!(positions(&open, 2).await.len(), 2);
    let entries = audit_entries(&RealIo, &restored.log_dir()).unwrap();
    let details: Vec<_> = entries.iter().map(|entry| entry.detail.as_str()).collect();
    assert_eq!(details, ["before", "to the backup of 1970-01-01T00:16:40Z"]);
}

#[tokio::test]
async fn logs_that_are_closed_or_not_begun_are_looked_after_too() {
    let bench = Bench::new();
    let open = bench.open().await;
    let other: TenantId = "00D000000000002".parse().unwrap();
    let later: TenantId = "00D000000000003".parse().unwrap();
    let log = open.embedded().open(other).await.unwrap();
    let kept = Feeder::new(&log, 1).append(1).await;
    drop(log);
    while open.embedded().tenants.open().len() > 1 {
        tokio::task::yield_now().await;
    }
    let place = Place::new();
    let backup = open.try_back_up(&place.path()).await.unwrap();
    let tenants: Vec<_> = backup.logs.iter().map(|log| log.tenant).collect();
    assert_eq!(tenants, [tenant(), other]);
    assert_eq!(backup.logs[1].head, kept);
    // Its metadata came to the backup when its log was not yet begun.
    std::fs::create_dir(place.path().join("tenants").join(later.as_str())).unwrap();

    let restored = bench.restored(&place);
    let open = restored.open().await;
    for tenant in [tenant(), other, later] {
        let log = open.embedded().open(tenant).await.unwrap();
        let next = Feeder::new(&log, 1).append(1).await;
        assert!(next.block() >= RESTORE_BLOCKS, "{tenant}: {next:?}");
    }
}

#[tokio::test]
async fn a_disk_that_fails_leaves_the_log_whole_and_no_backup() {
    for op in [
        Op::Create,
        Op::Write,
        Op::Sync,
        Op::Truncate,
        Op::SyncDir,
        Op::Rename,
    ] {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            for is_finishing in [false, true] {
                let bench = Bench::new();
                let open = bench.open().await;
                let feeder = open.feeder(1);
                let mut wanted = vec![feeder.append(1).await];
                // Nothing is left to seal: a failure of that is a failure of the log.
                open.back_up().await;
                let place = Place::new();
                let failed = if is_finishing {
                    let backup = open.embedded().back_up(&place.path()).await.unwrap();
                    bench.disk.fail(op, kind);
                    let path = place.path();
                    let finished = open.embedded().finish_backup(&path, &backup, 0).await;
                    finished.err()
                } else {
                    bench.disk.fail(op, kind);
                    open.try_back_up(&place.path()).await.err()
                };
                bench.disk.heal();
                let is_needed = !is_finishing || op != Op::Truncate;
                let name = format!("{op:?}, {kind:?}, {is_finishing}: {failed:?}");
                assert_eq!(failed.is_some(), is_needed, "{name}");
                // The name may be there, but is not known to be durable.
                let is_named = is_finishing && op == Op::SyncDir;
                assert!(is_named || place.is_whole() != is_needed, "{name}");
                wanted.push(feeder.append(1).await);
                assert_eq!(positions(&open, 1).await, wanted);
                bench.restored(&open.back_up().await);
                open.crash();
                assert_eq!(positions(&bench.open().await, 1).await, wanted);
            }
        }
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_sealed_is_not_backed_up() {
    let bench = Bench::new();
    let open = bench.open().await;
    let kept = open.feeder(1).append(1).await;
    bench.disk.fail(Op::Write, ErrorKind::StorageFull);
    let place = Place::new();
    let refused = open.try_back_up(&place.path()).await.unwrap_err();
    assert!(matches!(
        refused,
        BackupError::Refused {
            refusal: Refusal::DiskFull,
            ..
        }
    ));
    assert!(!place.is_whole());
    bench.disk.heal();
    // The log that is full is tried again; then one whose sync failed.
    open.crash();
    let open = bench.open().await;
    bench.disk.fail(Op::Sync, ErrorKind::Other);
    let appending = open
        .log
        .append(vec![open.feeder(1).body(1, 0)])
        .await
        .unwrap();
    let outcome = appending.await.unwrap();
    assert!(matches!(outcome[0], Err(AppendError::Unconfirmed(_))));
    bench.disk.heal();
    let refused = open.try_back_up(&Place::new().path()).await.unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("cannot be sealed: an earlier write failed"),
        "{refused}"
    );
    open.crash();
    assert_eq!(positions(&bench.open().await, 1).await[0], kept);
}

#[tokio::test]
async fn a_directory_that_holds_something_or_is_the_logs_own_is_refused() {
    let bench = Bench::new();
    let open = bench.open().await;
    open.feeder(1).append(1).await;
    let refused = async |path: &Path| match open.try_back_up(path).await {
        Err(BackupError::Directory { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let inside = bench.root.path().join("backup");
    assert_eq!(refused(&inside).await, "it lies in the data directory");
    assert!(!inside.exists());
    assert_eq!(
        refused(bench.root.path()).await,
        "it lies in the data directory"
    );
    assert_eq!(
        refused(Path::new("backup")).await,
        "its path is not absolute"
    );
    let whole = open.back_up().await;
    assert_eq!(refused(&whole.path()).await, "it is not empty");
    let file = whole.path().join("version");
    assert_eq!(refused(&file).await, "it is not a directory");
    let half = Place::new();
    open.embedded().back_up(&half.path()).await.unwrap();
    assert!(
        refused(&half.path())
            .await
            .starts_with("it holds a backup that was not finished")
    );
    let nowhere = half.path().join("a/b");
    assert!(matches!(
        open.try_back_up(&nowhere).await,
        Err(BackupError::Failed(_))
    ));

    let memory = MemoryLog::new(Config::default(), Arc::new(bench.clock.clone()));
    let refused = memory.back_up(&Place::new().path()).await;
    assert!(matches!(refused, Err(BackupError::InMemory)));
}

#[tokio::test]
async fn a_backup_that_is_not_as_it_was_made_is_refused() {
    let bench = small_segments();
    let open = bench.open().await;
    for _ in 0..3 {
        append(&*open.log, vec![open.feeder(1).body(50, 400)]).await;
    }
    let refusal = |place: &Place| bench.restore_refusal(place);
    // Half a backup, one of nothing, and a data directory.
    let half = Place::new();
    open.embedded().back_up(&half.path()).await.unwrap();
    assert!(matches!(refusal(&half), RestoreError::NotABackup { .. }));
    assert!(matches!(
        refusal(&Place::new()),
        RestoreError::NotABackup { .. }
    ));

    // A segment is missing, cut off, or came to it.
    let place = open.back_up().await;
    let names = || std::fs::read_dir(place.log_dir()).unwrap();
    let segments = names().map(|file| file.unwrap().path());
    let mut segments: Vec<_> = segments
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    segments.sort();
    assert!(segments.len() > 1);
    let last = segments.last().unwrap();
    let bytes = std::fs::read(last).unwrap();
    std::fs::remove_file(last).unwrap();
    assert!(matches!(refusal(&place), RestoreError::Changed { .. }));
    std::fs::write(last, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(refusal(&place), RestoreError::Changed { .. }));
    std::fs::write(last, &bytes).unwrap();
    open.feeder(1).append(1).await;
    let later = open.back_up().await;
    let newest = std::fs::read_dir(later.log_dir())
        .unwrap()
        .map(|file| file.unwrap().path());
    let newest = newest
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .max()
        .unwrap();
    let mixed = place.log_dir().join(newest.file_name().unwrap());
    std::fs::copy(&newest, &mixed).unwrap();
    let refused = refusal(&place).to_string();
    assert!(
        refused.contains("it was written after the backup"),
        "{refused}"
    );
    std::fs::remove_file(&mixed).unwrap();
    let state = place.log_dir().join("state");
    let bytes = std::fs::read(&state).unwrap();
    std::fs::remove_file(&state).unwrap();
    assert!(matches!(refusal(&place), RestoreError::Changed { .. }));
    std::fs::write(&state, bytes).unwrap();

    // Into something, or into itself.
    let refused = bench.try_restore(&place.path()).unwrap_err();
    assert!(matches!(refused, RestoreError::Target { .. }));
    let inside = place.path().join("inside");
    let refused = Restore::begin(Arc::new(RealIo), &place.path(), &inside, bench.clock.now());
    assert!(matches!(refused, Err(RestoreError::Target { .. })));
    bench.restored(&place);
}

#[tokio::test]
async fn a_segment_that_the_original_wrote_later_is_not_taken_for_a_restored_one() {
    let bench = Bench::new();
    let open = bench.open().await;
    open.feeder(1).append(3).await;
    let place = open.back_up().await;
    open.feeder(1).append(2).await;
    open.close().await;
    let restored = bench.restored(&place);
    let later = bench.segments().pop().unwrap();
    let mixed = restored.log_dir().join(later.file_name().unwrap());
    std::fs::copy(&later, &mixed).unwrap();
    assert!(matches!(restored.refusal().await, OpenError::Foreign { path, .. } if path == mixed));
    let report = inspect(&RealIo, &restored.log_dir(), Depth::Blocks, &mut |_| {}).unwrap();
    assert!(
        report
            .damage
            .iter()
            .any(|found| found.what.contains("another log"))
    );
    std::fs::remove_file(&mixed).unwrap();
    let open = restored.open().await;
    assert_eq!(positions(&open, 1).await.len(), 3);
}

#[tokio::test]
async fn a_backup_of_a_log_that_does_not_sync_holds_what_was_acknowledged() {
    let mut bench = Bench::new();
    bench.config.durability = crate::event_log::Durability::Os;
    let open = bench.open().await;
    let mut wanted = Vec::new();
    for _ in 0..3 {
        wanted.push(open.feeder(1).append(1).await);
    }
    let place = open.back_up().await;
    let restored = bench.restored(&place);
    let copy = restored.open().await;
    assert_eq!(positions(&copy, 1).await, wanted);
    assert!(copy.feeder(1).append(1).await.block() >= RESTORE_BLOCKS);
}
