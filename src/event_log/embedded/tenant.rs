//! One tenant's log: room in the queue, the queue, the writer behind it, and the handle to it all.

use std::{
    io,
    ops::Deref,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    committer::{Commit, Pool, Pushed, Queue},
    metrics::Metrics,
    store::Store,
    tenants::{Closing, Tenants},
    upkeep::Chore,
    writer::{Request, Writer},
};
use crate::{
    clock::Timestamp,
    event_log::{
        AppendError, Appending, AuditEntry, BackupError, BlockBody, Erased, LogBackup, LogState,
        LogTopic, OpenError, PositionError, ReadBatch, ReadError, Refusal, RemoveError, TenantLog,
        TopicState, Watcher,
    },
    types::{Position, Start, TenantId, TopicId, TopicName},
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
}

/// What users of a log hold. The log is open as long as there is one.
#[derive(Debug)]
pub(super) struct Handle {
    log: Arc<EmbeddedTenantLog>,
    tenants: Arc<Tenants>,
}

impl Handle {
    pub(super) fn new(log: Arc<EmbeddedTenantLog>, tenants: Arc<Tenants>) -> Arc<Self> {
        Arc::new(Self { log, tenants })
    }

    /// Runs `work`, which may block, to its end on a thread of its own. The log stays open for it.
    async fn remove<T: Send + 'static>(
        &self,
        work: impl FnOnce(&EmbeddedTenantLog) -> Result<T, RemoveError> + Send + 'static,
    ) -> Result<T, RemoveError> {
        let handle = Self::new(Arc::clone(&self.log), Arc::clone(&self.tenants));
        let work = tokio::task::spawn_blocking(move || work(&handle));
        work.await
            .map_err(|error| RemoveError::Storage(Arc::new(error)))?
    }
}

impl Deref for Handle {
    type Target = EmbeddedTenantLog;

    fn deref(&self) -> &EmbeddedTenantLog {
        &self.log
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Closing blocks, and this may be an async task: upkeep does it.
        let closing = Closing::new(self.store.tenant, &self.tenants);
        _ = self.store.process.chores.send(Chore::Close(closing));
    }
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
        })
    }

    /// Does what is due: seals, syncs, removes.
    pub(super) fn tick(&self, now: Timestamp, monotonic: Instant) {
        self.store.tail.trim_ring();
        if let Ok(mut writer) = self.writer.lock() {
            writer.seal_if_old(now);
        }
        self.sync();
        if self.store.process.may_purge(now, monotonic) {
            self.store.purge(now);
        }
        self.store.compact();
    }

    fn erase_now(
        &self,
        topic: TopicId,
        mut positions: Vec<Position>,
    ) -> Result<Erased, RemoveError> {
        positions.sort_unstable();
        positions.dedup();
        let sealed = self.seal().map_err(|error| match error {
            AppendError::Refused(refusal) => RemoveError::Refused(refusal),
            AppendError::Unconfirmed(error) => RemoveError::Storage(error),
        })?;
        drop(sealed);
        self.store.erase(topic, &positions)
    }

    /// Seals the open segment; nothing is written until the writer that this returns is let go.
    fn seal(&self) -> Result<MutexGuard<'_, Writer>, AppendError> {
        let poisoned = |_| AppendError::Refused(Refusal::Poisoned);
        let mut writer = self.writer.lock().map_err(poisoned)?;
        writer.seal_now()?;
        Ok(writer)
    }

    /// Copies the log into the directory `to`, which is empty. Appends wait for the seal only.
    pub(super) fn back_up(&self, to: &Path) -> Result<LogBackup, BackupError> {
        // Before the seal: nothing goes that is sealed by then.
        let upkeep = self.store.upkeep();
        let writer = self.seal().map_err(|error| match error {
            AppendError::Refused(refusal) => BackupError::Refused {
                tenant: self.store.tenant,
                refusal,
            },
            AppendError::Unconfirmed(source) => BackupError::Failed(OpenError::Io {
                action: "seal the open segment in",
                path: self.store.dir.clone(),
                source: io::Error::other(source),
            }),
        })?;
        let next_block = writer.next_block();
        let (head, _) = self.store.tail.ends();
        drop(writer);
        let (segments, bytes) = self.store.copy_to(&upkeep, next_block, to)?;
        Ok(LogBackup {
            tenant: self.store.tenant,
            head,
            next_block,
            segments,
            bytes,
        })
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

    /// Commits what is queued, refuses what comes later, and ends the log cleanly. False if that
    /// failed; the next opening recovers what was acknowledged.
    pub(super) fn close(&self) -> bool {
        self.share.close();
        self.queue.close();
        self.writer.lock().is_ok_and(|mut writer| writer.close())
    }

    /// Lets go of what is kept of the log besides its files; it was closed.
    pub(super) fn let_go(&self) {
        self.store.drop_spare();
        for segment in self.store.segments.all() {
            self.store.process.caches.forget(segment.uid);
        }
    }

    /// Lets go of what is queued; the threads have ended.
    pub(super) fn abandon(&self) {
        self.share.close();
        self.queue.abandon();
    }

    pub(super) fn tenant(&self) -> TenantId {
        self.store.tenant
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.store.metrics()
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
impl TenantLog for Handle {
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
                if !self.pool.schedule(Arc::clone(&self.log) as Arc<dyn Commit>) {
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

    async fn position_at(&self, at: Timestamp) -> Result<Position, ReadError> {
        self.store.position_at(at).await
    }

    fn watch(&self, topics: &[TopicId]) -> Watcher {
        self.store.tail.watch(topics)
    }

    fn retention(&self, topic: TopicId) -> Duration {
        let (own, all) = (
            self.store.tail.topic(topic).retention,
            self.store.config().retention,
        );
        own.map_or(all, |own| own.min(all))
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

    fn confirm_clock(&self) -> bool {
        self.store.process.confirm_clock()
    }

    async fn set_retention(
        &self,
        topic: TopicId,
        retention: Option<Duration>,
    ) -> Result<(), RemoveError> {
        self.remove(move |log| Ok(log.store.set_retention(topic, retention)?))
            .await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<(), RemoveError> {
        self.remove(move |log| Ok(log.store.audit(entry)?)).await
    }

    async fn erase(&self, topic: TopicId, positions: Vec<Position>) -> Result<Erased, RemoveError> {
        self.remove(move |log| log.erase_now(topic, positions))
            .await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), RemoveError> {
        self.remove(move |log| Ok(log.store.delete_topic(topic)?))
            .await
    }
}
