//! The log without a disk: the same contract, kept in memory (`serve --ephemeral`, simulation).
//!
//! Nothing survives the process. Events are kept as long as retention says, in bytes and in time;
//! what goes over is purged when the next event comes, as a disk would.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    AppendError, Appending, AuditEntry, Block, BlockBody, Config, Erased, EventLog, LogState,
    LogTopic, OpenError, PositionError, ReadBatch, ReadError, Refusal, RemoveError, TenantLog,
    TopicState, Watcher,
    numbering::Numbering,
    tail::{LostRange, Restored, Tail, TailRead, Trim},
};
use crate::{
    clock::{Clock, Timestamp},
    types::{Position, Start, TenantId, TopicId, TopicName, limits::MEMORY_LOG_BYTES},
};

/// A log that lives as long as the process.
///
/// Positions start at the time of opening (`unix seconds << 21`), so an id from an earlier run is
/// told apart from this run's.
#[derive(Debug)]
pub struct MemoryLog {
    config: Config,
    clock: Arc<dyn Clock>,
    /// `None` once closed.
    tenants: Mutex<Option<HashMap<TenantId, Arc<MemoryTenantLog>>>>,
}

#[derive(Debug)]
struct MemoryTenantLog {
    config: Config,
    clock: Arc<dyn Clock>,
    /// `None` once closed. Held while blocks are published, which makes its order the log's order.
    numbering: Mutex<Option<Numbering>>,
    tail: Tail,
    names: Mutex<BTreeMap<TopicId, TopicName>>,
}

impl MemoryLog {
    /// An empty log. Of `config` it keeps to the retention; [`MEMORY_LOG_BYTES`] bounds the bytes of
    /// a tenant when the configuration does not.
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Self {
        Self {
            config,
            clock,
            tenants: Mutex::new(Some(HashMap::new())),
        }
    }
}

#[async_trait::async_trait]
impl EventLog for MemoryLog {
    async fn open(&self, tenant: TenantId) -> Result<Arc<dyn TenantLog>, OpenError> {
        let mut tenants = self.tenants.lock().expect(NO_PANIC);
        let tenants = tenants.as_mut().ok_or(OpenError::Closed)?;
        let log = tenants.entry(tenant).or_insert_with(|| {
            Arc::new(MemoryTenantLog::new(
                self.config.clone(),
                Arc::clone(&self.clock),
            ))
        });
        Ok(Arc::clone(log) as Arc<dyn TenantLog>)
    }

    async fn close(&self) {
        let tenants = self.tenants.lock().expect(NO_PANIC).take();
        for log in tenants.into_iter().flatten().map(|(_, log)| log) {
            log.numbering.lock().expect(NO_PANIC).take();
        }
    }
}

impl MemoryTenantLog {
    fn new(config: Config, clock: Arc<dyn Clock>) -> Self {
        let now = clock.now();
        let seconds = u64::try_from(now.as_millis() / 1_000).unwrap_or(0);
        // The first block of a clock that stands at zero has number 1: no head is zero.
        let head = Position::new((seconds << 21).max(1 << 8)).unwrap_or(Position::MAX);
        let restored = Restored {
            head,
            lost: vec![LostRange {
                after: Position::ZERO,
                until: head,
            }],
            ..Restored::default()
        };
        Self {
            config,
            clock,
            numbering: Mutex::new(Some(Numbering::new(head.block() + 1, now, []))),
            tail: Tail::new(restored, None),
            names: Mutex::default(),
        }
    }

    fn purge(&self) {
        let now = self.clock.now();
        for (topic, retention) in self.tail.retentions() {
            self.purge_topic(topic, now, retention);
        }
        let bytes_max = self.config.retention_bytes.unwrap_or(MEMORY_LOG_BYTES);
        self.tail.purge_oldest(|oldest, bytes| {
            bytes as u64 > bytes_max
                || now.saturating_since(oldest.appended_at()) > self.config.retention
        });
    }

    fn purge_topic(&self, topic: TopicId, now: Timestamp, retention: Duration) {
        let blocks = self.tail.blocks(topic);
        let is_due = |block: &&Arc<Block>| now.saturating_since(block.appended_at()) > retention;
        if let Some(block) = blocks.iter().take_while(is_due).last() {
            self.tail.purge_topic(topic, Trim::through(block));
        }
    }
}

#[async_trait::async_trait]
impl TenantLog for MemoryTenantLog {
    async fn append(&self, bodies: Vec<BlockBody>) -> Result<Appending, AppendError> {
        let mut numbering = self.numbering.lock().expect(NO_PANIC);
        for topic in bodies.iter().map(BlockBody::topic) {
            let mut names = self.names.lock().expect(NO_PANIC);
            names.entry(topic.id).or_insert_with(|| topic.name.clone());
        }
        let numbering = numbering
            .as_mut()
            .ok_or(AppendError::Refused(Refusal::Closed))?;
        let placed = numbering
            .place(bodies.into_iter(), self.clock.now())
            .map_err(AppendError::Refused)?;
        self.tail
            .publish(placed.blocks.into_iter().map(Arc::new).collect());
        self.purge();
        let (outcome, appending) = Appending::new();
        _ = outcome.send(placed.ranges.into_iter().map(Ok).collect());
        Ok(appending)
    }

    fn resolve(&self, topics: &[TopicId], start: Start) -> Result<Position, PositionError> {
        self.tail.resolve(topics, start)
    }

    async fn read(
        &self,
        topics: &[TopicId],
        after: Position,
        bytes_max: usize,
    ) -> Result<ReadBatch, ReadError> {
        match self.tail.read(topics, after, bytes_max)? {
            TailRead::Ring(batch) => Ok(batch),
            TailRead::Storage { .. } => {
                unreachable!("what leaves the ring of a memory log is purged in the same step")
            }
        }
    }

    async fn position_at(&self, at: Timestamp) -> Result<Position, ReadError> {
        Ok(self.tail.position_at(at).unwrap_or(self.tail.ends().1))
    }

    fn watch(&self, topics: &[TopicId]) -> Watcher {
        self.tail.watch(topics)
    }

    fn retention(&self, topic: TopicId) -> Duration {
        let (own, all) = (self.tail.topic(topic).retention, self.config.retention);
        own.map_or(all, |own| own.min(all))
    }

    fn topic(&self, topic: TopicId) -> TopicState {
        self.tail.topic(topic)
    }

    fn state(&self) -> LogState {
        let (head, trim) = self.tail.ends();
        LogState {
            head,
            trim,
            bytes: self.tail.ring_bytes() as u64,
            segments: 0,
        }
    }

    fn topics(&self) -> Vec<LogTopic> {
        let names = self.names.lock().expect(NO_PANIC);
        let topic = |(id, name): (&TopicId, &TopicName)| LogTopic {
            id: *id,
            name: name.clone(),
        };
        names.iter().map(topic).collect()
    }

    fn confirm_clock(&self) -> bool {
        false
    }

    async fn set_retention(
        &self,
        topic: TopicId,
        retention: Option<Duration>,
    ) -> Result<(), RemoveError> {
        self.tail.set_retention(topic, retention);
        Ok(())
    }

    async fn audit(&self, entry: AuditEntry) -> Result<(), RemoveError> {
        let AuditEntry {
            by, action, topic, ..
        } = &entry;
        tracing::info!(by, action, topic, "{}", entry.detail);
        Ok(())
    }

    async fn erase(
        &self,
        topic: TopicId,
        mut positions: Vec<Position>,
    ) -> Result<Erased, RemoveError> {
        positions.sort_unstable();
        let events = self.tail.erase(topic, &positions);
        Ok(Erased {
            events,
            segments: 0,
        })
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), RemoveError> {
        self.names.lock().expect(NO_PANIC).remove(&topic);
        self.tail.delete(topic);
        Ok(())
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{ManualClock, Timestamp},
        event_log::contract::{self, Feeder},
    };

    fn tenant() -> TenantId {
        "00D000000000001".parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_memory_log_keeps_the_contract() {
        let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
        let make = |config| Arc::new(MemoryLog::new(config, Arc::new(clock.clone())));
        contract::check(&clock, make).await;
    }

    #[tokio::test]
    async fn positions_tell_the_runs_apart() {
        let clock = ManualClock::at(Timestamp::from_millis(1_800_000_000_000));
        let log = MemoryLog::new(Config::default(), Arc::new(clock));
        let log = log.open(tenant()).await.unwrap();
        let head = log.state().head;
        assert_eq!(head.get(), 1_800_000_000 << 21);
        let earlier = Position::new(head.get() - 1).unwrap();
        assert!(matches!(
            log.resolve(&[], Start::After(earlier)),
            Err(PositionError::Lost { valid_from, .. }) if valid_from == head
        ));
    }

    #[tokio::test]
    async fn what_is_over_the_retention_is_purged() {
        let clock = ManualClock::at(Timestamp::from_millis(5_000));
        let config = Config {
            retention: Duration::from_secs(10),
            retention_bytes: Some(10_000),
            ..Config::default()
        };
        let log = MemoryLog::new(config, Arc::new(clock.clone()));
        let log = log.open(tenant()).await.unwrap();
        let feeder = Feeder::new(&log, 1);
        let old = feeder.append(1).await;
        clock.advance(Duration::from_secs(11));
        let new = feeder.append(1).await;
        let topic = log.topic(feeder.topic());
        assert_eq!((topic.trim, topic.trim_ordinal), (old, 1));
        assert_eq!((topic.last, topic.ordinal), (new, 2));
        assert!(matches!(
            log.read(&[feeder.topic()], Position::ZERO, 1).await,
            Err(ReadError::Position(PositionError::Purged { valid_from, .. })) if valid_from == old
        ));

        for _ in 0..1_000 {
            feeder.append(1).await;
        }
        assert!(log.state().bytes <= 10_000);
        let earliest = log.resolve(&[feeder.topic()], Start::Earliest).unwrap();
        let batch = log.read(&[feeder.topic()], earliest, usize::MAX).await;
        assert!(batch.unwrap().blocks.len() < 100);
    }
}
