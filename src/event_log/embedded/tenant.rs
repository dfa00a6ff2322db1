//! The handle to one tenant's log: room in the queue, the queue, the writer behind it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    committer::{Commit, Pool, Pushed, Queue},
    retention::ClockGuard,
    store::Store,
    writer::{Request, Writer},
};
use crate::{
    clock::Timestamp,
    event_log::{
        AppendError, Appending, BlockBody, Erased, LogState, LogTopic, PositionError, ReadBatch,
        ReadError, Refusal, RemoveError, TenantLog, TopicState, Watcher,
    },
    types::{Position, Start, TopicId, TopicName},
};

/// The log of one tenant on this machine's disk.
#[derive(Debug)]
pub(super) struct EmbeddedTenantLog {
    store: Arc<Store>,
    /// Held by the thread that commits, and by upkeep; never by an async task.
    writer: Mutex<Writer>,
    queue: Queue,
    /// Bytes that this tenant may still queue, so that one tenant cannot fill the whole queue.
    share: Arc<Semaphore>,
    share_bytes: usize,
    pool: Arc<Pool>,
    guard: Mutex<ClockGuard>,
    /// Topics that keep their events for a shorter time than the log does.
    retentions: Mutex<BTreeMap<TopicId, Duration>>,
}

impl EmbeddedTenantLog {
    pub(super) fn new(store: Arc<Store>, writer: Writer, pool: Arc<Pool>) -> Arc<Self> {
        let share_bytes = (store.config().queue_bytes / 2).max(1);
        Arc::new(Self {
            store,
            writer: Mutex::new(writer),
            queue: Queue::default(),
            share: Arc::new(Semaphore::new(share_bytes)),
            share_bytes,
            pool,
            guard: Mutex::default(),
            retentions: Mutex::default(),
        })
    }

    /// Does what is due: seals, syncs, removes.
    pub(super) fn tick(&self, now: Timestamp, monotonic: Instant) {
        self.store.tail.trim_ring();
        if let Ok(mut writer) = self.writer.lock() {
            writer.seal_if_old(now);
        }
        self.sync();
        let may_purge = self
            .guard
            .lock()
            .is_ok_and(|mut guard| guard.may_purge(now, monotonic));
        if may_purge {
            self.store.purge(now);
            for (topic, retention) in self.retentions().clone() {
                self.store.purge_topic(topic, retention, now);
            }
        }
        self.store.compact();
    }

    fn retentions(&self) -> MutexGuard<'_, BTreeMap<TopicId, Duration>> {
        self.retentions
            .lock()
            .expect("no holder of this lock panics")
    }

    fn erase_now(
        &self,
        topic: TopicId,
        mut positions: Vec<Position>,
    ) -> Result<Erased, RemoveError> {
        positions.sort_unstable();
        positions.dedup();
        let refused = || RemoveError::Refused(Refusal::Poisoned);
        let mut writer = self.writer.lock().map_err(|_| refused())?;
        writer.seal_now().map_err(|error| match error {
            AppendError::Refused(refusal) => RemoveError::Refused(refusal),
            AppendError::Unconfirmed(error) => RemoveError::Storage(error),
        })?;
        drop(writer);
        self.store.erase(topic, &positions)
    }

    /// Runs `work`, which may block, to its end on a thread of its own.
    async fn remove<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, RemoveError> + Send + 'static,
    ) -> Result<T, RemoveError> {
        let log = Arc::clone(self);
        let work = tokio::task::spawn_blocking(move || work(&log));
        work.await
            .map_err(|error| RemoveError::Storage(Arc::new(error)))?
    }

    /// Makes durable what was acknowledged without a sync.
    pub(super) fn sync(&self) {
        let writer = self.writer.lock();
        let Some(file) = writer.ok().and_then(|mut writer| writer.take_unsynced()) else {
            return;
        };
        if let Err(error) = file.sync()
            && let Ok(mut writer) = self.writer.lock()
        {
            writer.sync_failed(error);
        }
    }

    /// Commits what is queued, refuses what comes later, and ends the log cleanly.
    pub(super) fn close(&self) {
        self.share.close();
        self.queue.close();
        if let Ok(mut writer) = self.writer.lock() {
            writer.close();
        }
    }

    /// Lets go of what is queued; the threads have ended.
    pub(super) fn abandon(&self) {
        self.share.close();
        self.queue.abandon();
    }

    #[cfg(test)]
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Waits for room for `bytes`, in the order of the calls.
    async fn room(&self, bytes: usize) -> Result<Vec<OwnedSemaphorePermit>, AppendError> {
        let closed = |_| AppendError::Refused(Refusal::Closed);
        // More than there can ever be room for waits until the queue is empty.
        let bytes = bytes.min(self.share_bytes) as u32;
        // The tenant's share first: whoever waits for that must not hold room that others can use.
        let share = Arc::clone(&self.share).acquire_many_owned(bytes).await;
        let share = share.map_err(closed)?;
        let room = Arc::clone(&self.store.process.room);
        let room = room.acquire_many_owned(bytes).await.map_err(closed)?;
        Ok(vec![share, room])
    }
}

impl Commit for EmbeddedTenantLog {
    fn commit_one(&self) -> bool {
        let requests = self.queue.take(self.store.config().group_bytes_max);
        match self.writer.lock() {
            Ok(mut writer) if !requests.is_empty() => {
                // What was queued behind it is refused too, even if it would fit: a publisher's
                // later events must not be stored when its earlier ones are not.
                if let Err(refusal) = writer.commit(requests) {
                    let behind = self.queue.take_all();
                    behind
                        .into_iter()
                        .for_each(|request| request.refuse(refusal));
                }
            }
            Ok(_) => {}
            // A writer that panicked may have left half a group: it is not used again.
            Err(_) => {
                self.store.health.poison();
                drop(requests);
            }
        }
        self.queue.committed()
    }
}

#[async_trait::async_trait]
impl TenantLog for Arc<EmbeddedTenantLog> {
    async fn append(&self, bodies: Vec<BlockBody>) -> Result<Appending, AppendError> {
        let (reply, appending) = Appending::new();
        if bodies.is_empty() {
            _ = reply.send(Vec::new());
            return Ok(appending);
        }
        let queued_at = Instant::now();
        let health = &self.store.health;
        let admitted = health.would_admit(queued_at);
        admitted.map_err(AppendError::Refused)?;
        let bytes = bodies.iter().map(BlockBody::byte_len).sum();
        let room = self.room(bytes).await?;
        let request = Request {
            bodies,
            bytes,
            queued_at,
            reply,
            room,
        };
        let admit = || health.admit(Instant::now());
        match self
            .queue
            .push(request, admit)
            .map_err(AppendError::Refused)?
        {
            Pushed::Scheduled => {}
            Pushed::Schedule => {
                if !self.pool.schedule(Arc::clone(self) as Arc<dyn Commit>) {
                    self.queue.abandon();
                    return Err(AppendError::Refused(Refusal::Closed));
                }
            }
        }
        Ok(appending)
    }

    fn resolve(&self, topics: &[TopicId], start: Start) -> Result<Position, PositionError> {
        self.store.tail.resolve(topics, start)
    }

    async fn read(
        &self,
        topics: &[TopicId],
        after: Position,
        bytes_max: usize,
    ) -> Result<ReadBatch, ReadError> {
        self.store.read(topics, after, bytes_max).await
    }

    fn watch(&self, topics: &[TopicId]) -> Watcher {
        self.store.tail.watch(topics)
    }

    fn topic(&self, topic: TopicId) -> TopicState {
        self.store.tail.topic(topic)
    }

    fn state(&self) -> LogState {
        let (head, trim) = self.store.tail.ends();
        let (segments, bytes) = self.store.segments.count_and_bytes();
        LogState {
            head,
            trim,
            bytes,
            segments,
        }
    }
    fn topics(&self) -> Vec<LogTopic> {
        let names = self.store.names();
        let topic = |(id, name): (&TopicId, &TopicName)| LogTopic {
            id: *id,
            name: name.clone(),
        };
        names.iter().map(topic).collect()
    }

    fn set_retention(&self, topic: TopicId, retention: Option<Duration>) {
        match retention {
            Some(retention) => self.retentions().insert(topic, retention),
            None => self.retentions().remove(&topic),
        };
    }

    fn confirm_clock(&self) -> bool {
        self.guard.lock().is_ok_and(|mut guard| guard.confirm())
    }

    async fn erase(&self, topic: TopicId, positions: Vec<Position>) -> Result<Erased, RemoveError> {
        self.remove(move |log| log.erase_now(topic, positions))
            .await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), RemoveError> {
        self.retentions().remove(&topic);
        self.remove(move |log| Ok(log.store.delete_topic(topic)?))
            .await
    }
}
