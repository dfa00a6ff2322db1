//! What the parts of one tenant's log share: where it is, what is known of it, how it is doing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, TryLockError, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    audit,
    cache::Caches,
    erase::Compaction,
    io::{Io, IoFile, is_full},
    metrics::Metrics,
    retention::ClockGuard,
    segment::SegmentHeader,
    segments::Segments,
    state::{Origin, State},
    upkeep::Chore,
};
use crate::{
    clock::{Clock, Timestamp},
    event_log::{AuditEntry, Config, Refusal, tail::RingBudget, tail::Tail},
    types::{TenantId, TopicId, TopicName, limits::DISK_READS_MAX},
};

/// What all logs of the process share.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) io: Arc<dyn Io>,
    pub(super) metrics: Metrics,
    pub(super) caches: Caches,
    pub(super) ring: Arc<RingBudget>,
    /// Bytes that may still be queued.
    pub(super) room: Arc<Semaphore>,
    /// Reads that may still go to the disk.
    pub(super) disk_reads: Arc<Semaphore>,
    /// One for all logs: a log that was closed while the clock jumped would not notice.
    pub(super) guard: Mutex<ClockGuard>,
    /// Work for the upkeep thread; whatever is sent after that has ended is not done.
    pub(super) chores: mpsc::Sender<Chore>,
}

impl Process {
    pub(super) fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        io: Arc<dyn Io>,
        chores: mpsc::Sender<Chore>,
    ) -> Arc<Self> {
        Arc::new(Self {
            caches: Caches::new(config.cache_bytes, config.footer_cache_bytes),
            ring: RingBudget::new(config.ring_bytes),
            room: Arc::new(Semaphore::new(config.queue_bytes)),
            disk_reads: Arc::new(Semaphore::new(DISK_READS_MAX)),
            metrics: Metrics::default(),
            guard: Mutex::default(),
            config,
            clock,
            io,
            chores,
        })
    }
}

impl Process {
    /// Whether retention may remove anything at the wall time `now`.
    pub(super) fn may_purge(&self, now: Timestamp, monotonic: Instant) -> bool {
        let guard = self.guard.lock();
        guard.is_ok_and(|mut guard| guard.may_purge(now, monotonic))
    }

    /// Believes the wall clock where a jump of it has held retention back; returns whether one had.
    pub(super) fn confirm_clock(&self) -> bool {
        self.guard.lock().is_ok_and(|mut guard| guard.confirm())
    }
}

/// What the parts of one log share.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) process: Arc<Process>,
    pub(super) tenant: TenantId,
    pub(super) dir: PathBuf,
    pub(super) tail: Tail,
    pub(super) segments: Segments,
    pub(super) health: Health,
    /// The same in every segment.
    pub(super) log_id: u64,
    /// The logs this one goes on from; they do not change while it is open.
    origins: Vec<Origin>,
    /// Held while it is written: never taken on the way of a group.
    state: Mutex<State>,
    spare: Mutex<Spare>,
    /// Held by whoever removes segments, makes them anew, or needs them to stay. Before the state.
    upkeep: Mutex<()>,
    compaction: Mutex<Compaction>,
    /// What the topics of the log are called, as far as their names are known.
    names: Mutex<BTreeMap<TopicId, TopicName>>,
}

/// A file that was allocated ahead for the next segment.
#[derive(Debug, Default)]
struct Spare {
    is_wanted: bool,
    /// Set when the log is closed: the name may by now be that of another opening's file.
    is_refused: bool,
    file: Option<Arc<dyn IoFile>>,
}

/// Name of the file that was allocated ahead. Whatever is in it was never acknowledged.
pub(super) const SPARE: &str = "spare";

impl Store {
    pub(super) fn new(
        process: Arc<Process>,
        tenant: TenantId,
        dir: PathBuf,
        tail: Tail,
        segments: Segments,
        state: State,
        names: BTreeMap<TopicId, TopicName>,
    ) -> Arc<Self> {
        let mut compaction = Compaction::default();
        if !state.deleted.is_empty() || state.topics.iter().any(|base| base.trim > state.trim) {
            compaction.begin();
        }
        Arc::new(Self {
            process,
            tenant,
            dir,
            tail,
            segments,
            health: Health::default(),
            log_id: state.log_id,
            origins: state.origins.clone(),
            state: Mutex::new(state),
            spare: Mutex::default(),
            upkeep: Mutex::default(),
            compaction: Mutex::new(compaction),
            names: Mutex::new(names),
        })
    }

    pub(super) fn io(&self) -> &dyn Io {
        &*self.process.io
    }

    pub(super) fn config(&self) -> &Config {
        &self.process.config
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.process.metrics
    }

    /// Whether a segment with this header was written for this log. Readers ask: the state is not
    /// locked for it.
    pub(super) fn owns(&self, header: &SegmentHeader) -> bool {
        let (log_id, first_block) = (header.log_id, header.name.first_block);
        let is_of = |origin: &Origin| origin.wrote(log_id, first_block);
        header.tenant == self.tenant && (log_id == self.log_id || self.origins.iter().any(is_of))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }

    /// Keeps the segments as they are until the guard is dropped.
    pub(super) fn upkeep(&self) -> MutexGuard<'_, ()> {
        self.upkeep.lock().expect(NO_PANIC)
    }

    /// The same for the upkeep thread, which comes back to it: a backup may hold the lock for as long
    /// as it takes to copy a log to another file system, and every log needs that thread.
    pub(super) fn try_upkeep(&self) -> Option<MutexGuard<'_, ()>> {
        match self.upkeep.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(error)) => panic!("{NO_PANIC}: {error}"),
        }
    }

    pub(super) fn compaction(&self) -> MutexGuard<'_, Compaction> {
        self.compaction.lock().expect(NO_PANIC)
    }

    pub(super) fn names(&self) -> MutexGuard<'_, BTreeMap<TopicId, TopicName>> {
        self.names.lock().expect(NO_PANIC)
    }

    /// Keeps on record that something was removed.
    pub(super) fn audit(&self, mut entry: AuditEntry) -> std::io::Result<()> {
        // One at a time: each is written behind the one before.
        let _upkeep = self.upkeep();
        entry.at_ms = self.process.clock.now().as_millis();
        audit::append(self.io(), &self.dir, &entry)
    }

    /// Changes the state and makes the change durable before it is seen.
    pub(super) fn change_state(&self, change: impl FnOnce(&mut State)) -> std::io::Result<()> {
        let mut state = self.state();
        let mut next = state.clone();
        change(&mut next);
        next.store(self.io(), &self.dir)?;
        *state = next;
        Ok(())
    }

    /// Removes a file of the log for good.
    pub(super) fn remove_file(&self, path: &Path) -> std::io::Result<()> {
        self.io().unlink(path)?;
        self.io().sync_dir(&self.dir)
    }

    /// Asks the upkeep thread for a file of `len` bytes, once.
    pub(super) fn want_spare(self: &Arc<Self>, len: u64) {
        let mut spare = self.spare.lock().expect(NO_PANIC);
        if !std::mem::replace(&mut spare.is_wanted, true) {
            _ = self
                .process
                .chores
                .send(Chore::Spare(Arc::downgrade(self), len));
        }
    }

    /// Makes the file that [`Self::want_spare`] asked for. Failure is not told: the writer makes one
    /// itself if there is none, and meets the same error where it can answer for it.
    pub(super) fn make_spare(&self, len: u64) {
        {
            let spare = self.spare.lock().expect(NO_PANIC);
            if spare.file.is_some() || spare.is_refused {
                return;
            }
        }
        let path = self.dir.join(SPARE);
        let made = self.io().create(&path).and_then(|file| {
            file.allocate(len)?;
            file.sync()?;
            Ok(file)
        });
        match made {
            Ok(file) => self.spare.lock().expect(NO_PANIC).file = Some(file),
            Err(error) => {
                if !is_full(&error) {
                    tracing::warn!(path = %path.display(), %error, "no file allocated ahead");
                }
                _ = self.io().unlink(&path);
            }
        }
    }

    /// Removes the file that was made ahead; none is made from now on.
    pub(super) fn drop_spare(&self) {
        let mut spare = self.spare.lock().expect(NO_PANIC);
        spare.is_refused = true;
        if spare.file.take().is_some() {
            // If it stays, the next opening removes it.
            _ = self.remove_file(&self.dir.join(SPARE));
        }
    }

    #[cfg(test)]
    pub(super) fn has_spare(&self) -> bool {
        self.spare.lock().expect(NO_PANIC).file.is_some()
    }

    /// Gives the file that was made ahead the name of the segment at `path`.
    pub(super) fn take_spare(&self, path: &Path) -> Option<Arc<dyn IoFile>> {
        let mut spare = self.spare.lock().expect(NO_PANIC);
        // Also if none could be made: the next segment asks again.
        spare.is_wanted = false;
        let file = spare.file.take()?;
        match self.io().rename(&self.dir.join(SPARE), path) {
            Ok(()) => Some(file),
            Err(_) => {
                _ = self.io().unlink(&self.dir.join(SPARE));
                None
            }
        }
    }
}

/// Whether the log takes events.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Condition>);

#[derive(Debug, Default)]
enum Condition {
    #[default]
    Good,
    Full {
        retry_at: Instant,
    },
    Poisoned,
}

impl Health {
    /// Whether [`Self::admit`] would let an append in.
    pub(super) fn would_admit(&self, now: Instant) -> Result<(), Refusal> {
        match &*self.lock() {
            Condition::Good => Ok(()),
            Condition::Poisoned => Err(Refusal::Poisoned),
            Condition::Full { retry_at } if now < *retry_at => Err(Refusal::DiskFull),
            Condition::Full { .. } => Ok(()),
        }
    }

    /// Lets an append in, or says why not. While the disk is full one is let in now and then, to
    /// find out whether it still is.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Refusal> {
        self.would_admit(now)?;
        if let Condition::Full { retry_at } = &mut *self.lock() {
            *retry_at = now + RETRY_INTERVAL;
        }
        Ok(())
    }

    pub(super) fn is_poisoned(&self) -> bool {
        matches!(*self.lock(), Condition::Poisoned)
    }

    pub(super) fn poison(&self) {
        *self.lock() = Condition::Poisoned;
    }

    /// Notes that the disk is full; returns whether that is new.
    pub(super) fn disk_is_full(&self, now: Instant) -> bool {
        let mut condition = self.lock();
        let is_new = matches!(*condition, Condition::Good);
        if !matches!(*condition, Condition::Poisoned) {
            *condition = Condition::Full {
                retry_at: now + RETRY_INTERVAL,
            };
        }
        is_new
    }

    /// Notes that a group was written; returns whether the disk was full before.
    pub(super) fn wrote(&self) -> bool {
        let mut condition = self.lock();
        let was_full = matches!(*condition, Condition::Full { .. });
        if was_full {
            *condition = Condition::Good;
        }
        was_full
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.0.lock().expect(NO_PANIC)
    }
}

/// How often a full disk is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_tried_again_now_and_then() {
        let health = Health::default();
        let now = Instant::now();
        assert_eq!(health.admit(now), Ok(()));
        assert!(health.disk_is_full(now));
        assert_eq!(health.admit(now), Err(Refusal::DiskFull));
        let later = now + RETRY_INTERVAL;
        assert_eq!(health.would_admit(later), Ok(()));
        assert_eq!(health.admit(later), Ok(()), "one may try");
        assert_eq!(health.admit(later), Err(Refusal::DiskFull), "not all");
        assert!(!health.disk_is_full(later), "still full is no news");
        assert!(health.wrote());
        assert_eq!(health.admit(later), Ok(()));
        assert!(!health.wrote());
    }

    #[test]
    fn a_poisoned_log_stays_poisoned() {
        let health = Health::default();
        health.poison();
        health.wrote();
        health.disk_is_full(Instant::now());
        assert!(health.is_poisoned());
        assert_eq!(health.admit(Instant::now()), Err(Refusal::Poisoned));
    }
}
