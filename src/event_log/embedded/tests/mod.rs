//! The embedded log as a whole, over a real directory and a disk that can be told to fail.

mod backup;
mod by_time;
mod damage;
mod disk;
mod erase;
mod faults;
mod fixture;
mod inspect;
mod keeping;
mod quiet;
mod reopen;
mod repair;
mod scale;
mod sim;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    clock::{ManualClock, Timestamp},
    event_log::{
        PositionError, PositionRange, ReadError, Refusal,
        contract::{self, Feeder, append},
    },
    types::{Position, Start, TopicId},
};
use disk::TestDisk;

/// A data directory and what is needed to open it again and again.
struct Bench {
    root: tempfile::TempDir,
    disk: TestDisk,
    clock: ManualClock,
    config: Config,
}

/// An open log of one tenant.
struct Open {
    embedded: Option<EmbeddedLog>,
    log: Arc<dyn TenantLog>,
}

impl Bench {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            disk: TestDisk::default(),
            clock: ManualClock::at(Timestamp::from_millis(1_000_000)),
            config: Config {
                upkeep_interval: Duration::from_secs(3_600),
                ..Config::default()
            },
        }
    }

    fn embedded(&self) -> EmbeddedLog {
        let disk = Arc::new(self.disk.clone());
        let dir = DataDir::open_with(self.root.path().into(), disk).unwrap();
        let clock = Arc::new(self.clock.clone());
        EmbeddedLog::new(dir, self.config.clone(), clock).unwrap()
    }

    async fn try_open(&self) -> Result<Open, OpenError> {
        let embedded = self.embedded();
        let log = embedded.open(tenant()).await?;
        Ok(Open {
            embedded: Some(embedded),
            log,
        })
    }

    async fn open(&self) -> Open {
        self.try_open().await.unwrap()
    }

    /// Opens the log while there is no room for the footer of what was left unsealed.
    async fn open_on_a_full_disk(&self) -> Open {
        let embedded = self.embedded();
        self.disk.fail(disk::Op::Write, ErrorKind::StorageFull);
        let log = embedded.open(tenant()).await.unwrap();
        self.disk.heal();
        Open {
            embedded: Some(embedded),
            log,
        }
    }

    /// What opening is refused with.
    async fn refusal(&self) -> OpenError {
        self.try_open().await.err().expect("opening is refused")
    }

    fn log_dir(&self) -> PathBuf {
        let tenant_dir = self.root.path().join("tenants").join(tenant().as_str());
        tenant_dir.join("log")
    }

    /// The segment files, oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.log_dir()).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|p| p.extension().is_some()).collect();
        paths.retain(|path| path.extension().unwrap() == "seg");
        paths.sort();
        paths
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

impl Open {
    fn feeder(&self, topic: u32) -> Feeder {
        Feeder::new(&self.log, topic)
    }

    /// Ends the log as the end of its process would.
    fn crash(mut self) {
        self.embedded.take();
    }

    async fn close(mut self) {
        self.embedded.take().unwrap().close().await;
    }

    fn embedded(&self) -> &EmbeddedLog {
        self.embedded.as_ref().unwrap()
    }

    fn metrics(&self) -> &Metrics {
        self.embedded().metrics()
    }

    /// What upkeep does in time.
    fn tick(&self, bench: &Bench) {
        for log in self.embedded().tenants.open() {
            log.tick(bench.clock.now(), std::time::Instant::now());
        }
    }
}

fn tenant() -> TenantId {
    "00D000000000001".parse().unwrap()
}

fn at(block: u64, index: u8) -> Position {
    Position::in_block(block, index).unwrap()
}

/// Reads `topic` from `after` until there is nothing left or an error stops it.
async fn read_until_error(
    log: &dyn TenantLog,
    topic: TopicId,
    mut after: Position,
) -> (Vec<u64>, Option<ReadError>) {
    let mut numbers = Vec::new();
    loop {
        match log.read(&[topic], after, 1_000).await {
            Err(error) => return (numbers, Some(error)),
            Ok(batch) if batch.blocks.is_empty() => return (numbers, None),
            Ok(batch) => {
                for block in &batch.blocks {
                    let events = contract::events(block, after);
                    numbers.extend(events.into_iter().map(|event| event.0));
                }
                after = batch.examined;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_log_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let number = AtomicUsize::new(0);
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
    contract::check(&clock, |config| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let dir = DataDir::open(root.path().join(number.to_string())).unwrap();
        Arc::new(EmbeddedLog::new(dir, config, Arc::new(clock.clone())).unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_segments_and_caches_keep_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let number = AtomicUsize::new(0);
    let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
    contract::check(&clock, |config| {
        let config = Config {
            segment_bytes_min: 20_000,
            segment_bytes_max: 40_000,
            cache_bytes: 10_000,
            footer_cache_bytes: 1_000,
            ..config
        };
        let number = number.fetch_add(1, Ordering::SeqCst);
        let dir = DataDir::open(root.path().join(number.to_string())).unwrap();
        Arc::new(EmbeddedLog::new(dir, config, Arc::new(clock.clone())).unwrap())
    })
    .await;
}
