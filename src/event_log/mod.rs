//! The durable, ordered log of each tenant's events; every backend is held to one suite.
//!
//! A tenant has one log for all its topics: one order, one sequence of positions. What
//! [`TenantLog::append`] confirmed survives a crash and is read back by every later reader, byte for
//! byte, until retention removes it. Positions rise in append order and have gaps, so they are
//! compared and never subtracted; counting is done with ordinals.
//!
//! Events are stored as the bytes a subscriber gets (see [`block`]). This module knows no schema, no
//! principal and no gRPC type.

pub mod block;
pub mod config;
#[cfg(any(test, feature = "test-util"))]
pub mod contract;
pub mod embedded;
pub mod error;
pub mod memory;
mod numbering;
mod tail;

use std::{
    fmt,
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::{
    clock::Timestamp,
    types::{Position, Start, TenantId, TopicId, TopicName},
};

pub use block::{Block, BlockBody, BlockSlice};
pub use config::{Config, Durability};
pub use embedded::{DataDir, EmbeddedLog};
pub use error::{
    Abandoned, AppendError, BackupError, OpenError, PositionError, ReadError, Refusal, RemoveError,
};
pub use memory::MemoryLog;

/// A topic as the log knows it: the number that is stored with each block, and the name that makes
/// a file readable without its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTopic {
    /// Never given to another topic of the tenant.
    pub id: TopicId,
    /// The name at the time of writing.
    pub name: TopicName,
}

/// Storage for the events of every tenant, shared behind an `Arc`.
#[async_trait::async_trait]
pub trait EventLog: fmt::Debug + Send + Sync + 'static {
    /// Opens the log of `tenant`, which is made if there is none, and returns a handle to it.
    ///
    /// A second call returns a handle to the same log. What an earlier process left behind is
    /// recovered before this returns. The log stays open as long as a handle to it lives; after
    /// that the backend may close it, which loses nothing, and a later call opens it again.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed that a later call could not go on from.
    async fn open(&self, tenant: TenantId) -> Result<Arc<dyn TenantLog>, OpenError>;

    /// Copies every log into `dir`, an absolute path, which is made if it is not there and must be
    /// empty. Everything acknowledged before the call is in the copy, and something acknowledged
    /// meanwhile may be. Appends go on.
    ///
    /// What else belongs to the backup is copied next, and [`Self::finish_backup`] makes it whole.
    ///
    /// # Errors
    ///
    /// [`BackupError`]: what is in `dir` then is no backup. By default [`BackupError::InMemory`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what is in `dir` then is no backup.
    async fn back_up(&self, dir: &Path) -> Result<Backup, BackupError> {
        _ = dir;
        Err(BackupError::InMemory)
    }

    /// Says that `dir` holds a whole backup: the logs as [`Self::back_up`] told, and this many files
    /// of metadata.
    ///
    /// # Errors
    ///
    /// [`BackupError`]: `dir` does not count as a backup.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop `dir` may or may not be a backup; if it is, it is whole.
    async fn finish_backup(
        &self,
        dir: &Path,
        backup: &Backup,
        metadata_files: u64,
    ) -> Result<(), BackupError> {
        _ = (dir, backup, metadata_files);
        Err(BackupError::InMemory)
    }

    /// Makes everything queued durable, records that the logs ended cleanly and refuses appends from
    /// then on. A second call does nothing.
    async fn close(&self);
}

/// The logs of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// When it was begun: not after any log was copied.
    pub made_at: Timestamp,
    /// The logs, by tenant.
    pub logs: Vec<LogBackup>,
}

/// One log of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBackup {
    /// Whose it is.
    pub tenant: TenantId,
    /// The last position in it.
    pub head: Position,
    /// Number of the first block that is not in it.
    pub next_block: u64,
    /// How many segments it has.
    pub segments: u64,
    /// Bytes of the segments.
    pub bytes: u64,
}

/// The log of one tenant.
#[async_trait::async_trait]
pub trait TenantLog: fmt::Debug + Send + Sync + 'static {
    /// Queues `bodies`, which get consecutive places in the log's order; the returned [`Appending`]
    /// resolves once they are durable. Every body has at least one event.
    ///
    /// Waits while the queue is full, in the order of the calls and without a limit of time.
    ///
    /// # Errors
    ///
    /// [`AppendError::Refused`]: nothing was queued, and nothing will be stored.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a call dropped while it waits has queued nothing. Once it returned the bodies
    /// are stored, or not, whatever happens to the [`Appending`].
    async fn append(&self, bodies: Vec<BlockBody>) -> Result<Appending, AppendError>;

    /// The position a subscription of `topics` that starts at `start` has already passed.
    ///
    /// `Latest` is the head at the moment of the call: every event confirmed after it is read.
    /// A position is valid when it is not past the head and no purged event of `topics` lies after
    /// it, be it an event's, another topic's or a gap's. Damage is found by reading, not here.
    ///
    /// # Errors
    ///
    /// [`PositionError`] for a position that is not valid; never for `Latest` or `Earliest`.
    fn resolve(&self, topics: &[TopicId], start: Start) -> Result<Position, PositionError>;

    /// Reads the blocks of `topics` that hold events after `after`, oldest first.
    ///
    /// Returns at least one block if there is one below the head, and stops at about `bytes_max`.
    /// Without any, [`ReadBatch::examined`] is the head: no event of `topics` lies between `after`
    /// and there. The first block may begin at or before `after`; see [`Block::slice_after`].
    ///
    /// # Errors
    ///
    /// [`ReadError::Position`] if `after` is not valid, which retention can bring about at any
    /// time, or if events after it were lost to damage: the error names where to go on. Else the
    /// storage failed and the same call may be made again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: reading changes nothing.
    async fn read(
        &self,
        topics: &[TopicId],
        after: Position,
        bytes_max: usize,
    ) -> Result<ReadBatch, ReadError>;

    /// The position of the last event appended before `at`, of any topic; where the log is purged up
    /// to if no such event is left.
    ///
    /// Whatever was appended at `at` or later lies after it, and nothing that was appended before
    /// does, save what is only now being stored. It may lie before what is purged of a topic, see
    /// [`TopicState::trim_at`]. Looks at a bounded part of the log, however long that is.
    ///
    /// # Errors
    ///
    /// [`ReadError::Storage`]; the same call may be made again. Damage is found by reading, not here.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    async fn position_at(&self, at: Timestamp) -> Result<Position, ReadError>;

    /// Tells when there may be something new to read of `topics`.
    fn watch(&self, topics: &[TopicId]) -> Watcher;

    /// How long events of `topic` are kept, unless a bound in bytes takes them earlier.
    fn retention(&self, topic: TopicId) -> Duration;

    /// What the log holds of one topic; all zero for a topic without events.
    fn topic(&self, topic: TopicId) -> TopicState;

    /// What the log holds as a whole.
    fn state(&self) -> LogState;

    /// The topics that have had events and are not deleted, by number.
    fn topics(&self) -> Vec<LogTopic>;

    /// Believes the wall clock where a jump of it has held retention back; returns whether one had.
    fn confirm_clock(&self) -> bool;

    /// Keeps events of `topic` for `retention`, if that is shorter than what the log keeps; as long
    /// as the log does with `None`. Durable when it returns; what is due is purged in the
    /// background.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]: nothing was changed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    async fn set_retention(
        &self,
        topic: TopicId,
        retention: Option<Duration>,
    ) -> Result<(), RemoveError>;

    /// Keeps on record that an administrator removed something; durable when it returns.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]: it is not on record.
    async fn audit(&self, entry: AuditEntry) -> Result<(), RemoveError>;

    /// Erases the events of `topic` at `positions`, which may be any. When it returns nothing of
    /// them is left in the log's files or memory; a delivery under way may still hold them.
    ///
    /// An erased event is absent: readers pass over its position, and the ids of other events stay
    /// good. A second call finds nothing to do.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]: some of the events may be erased, and the others are as they were.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    async fn erase(&self, topic: TopicId, positions: Vec<Position>) -> Result<Erased, RemoveError>;

    /// Deletes every event of `topic`, which is not appended to any more. Its readers get
    /// [`PositionError::TopicDeleted`]. Durable when it returns; its bytes leave the files in the
    /// background. A second call does nothing.
    ///
    /// # Errors
    ///
    /// [`RemoveError`]: the same call may be made again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    async fn delete_topic(&self, topic: TopicId) -> Result<(), RemoveError>;
}

/// Something that an administrator had removed, as it is kept on record. It holds nothing of what
/// was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, in milliseconds since the Unix epoch; the log fills it in.
    pub at_ms: i64,
    /// Who, by the name of their token, or the command that did it.
    pub by: String,
    /// What was done, as a verb.
    pub action: String,
    /// The topic concerned, if it is one.
    pub topic: Option<String>,
    /// What exactly, and how it ended.
    pub detail: String,
}

/// What [`TenantLog::erase`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events that were there and are not any more.
    pub events: u64,
    /// Files that were made anew.
    pub segments: u64,
}

/// The outcome of an append that is under way: one result for each body, in their order.
///
/// Dropping it changes nothing about what is stored.
#[derive(Debug)]
pub struct Appending(oneshot::Receiver<AppendOutcome>);

/// One result for each body of an append, in their order.
pub type AppendOutcome = Vec<Result<PositionRange, AppendError>>;

impl Appending {
    /// An append under way, and where its outcome is to be sent.
    pub fn new() -> (oneshot::Sender<AppendOutcome>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }
}

impl Future for Appending {
    /// An error when the backend went away without a word: the bodies may have been stored.
    type Output = Result<AppendOutcome, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| {
            outcome.map_err(|_| AppendError::Unconfirmed(Arc::new(error::Abandoned)))
        })
    }
}

/// Where the events of one body stand: `count` positions, each one more than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionRange {
    /// Position of the first event.
    pub first: Position,
    /// How many events there are, at least one.
    pub count: u32,
}

impl PositionRange {
    /// The positions, in order.
    pub fn iter(self) -> impl Iterator<Item = Position> {
        (self.first.get()..)
            .take(self.count as usize)
            .map(|number| {
                Position::new(number).expect("a block's positions do not pass the largest one")
            })
    }
}

/// What one call of [`TenantLog::read`] found.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    /// Blocks with at least one event after the position asked for, oldest first.
    pub blocks: Vec<Arc<Block>>,
    /// How far the log was looked at. With blocks it is the last position of the last one.
    pub examined: Position,
}

/// What the log holds of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicState {
    /// Position of the newest event, purged or not; zero when there never was one.
    pub last: Position,
    /// Position up to which every event is purged; zero when none was.
    pub trim: Position,
    /// Position up to which a repair settled what was lost; zero when it had nothing to settle.
    pub settled: Position,
    /// Events ever accepted.
    pub ordinal: u64,
    /// Events that were purged.
    pub trim_ordinal: u64,
    /// Nothing that was purged was appended later; meaningless where nothing was.
    pub trim_at: Timestamp,
    /// When the newest event was appended.
    pub last_at: Timestamp,
    /// How long events are kept, if the topic was told so itself.
    pub retention: Option<Duration>,
}

impl TopicState {
    /// Where a subscription that asks for the earliest events starts: behind everything that was
    /// purged, and behind the newest loss that was settled, which it would only run into.
    pub fn earliest(&self) -> Position {
        self.trim.max(self.settled)
    }
}

/// What the log holds as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last durable position.
    pub head: Position,
    /// The newest purged position.
    pub trim: Position,
    /// Bytes of storage in use.
    pub bytes: u64,
    /// Number of segments, the open one included.
    pub segments: u64,
}

/// Wakes a reader when events of its topics were appended.
///
/// A change between the making of the watcher, or the last call of [`Watcher::changed`], and the
/// next call is seen by that call.
#[derive(Debug)]
pub struct Watcher(Vec<watch::Receiver<Position>>);

impl Watcher {
    /// A watcher over one receiver for each topic, which holds the topic's last position.
    pub fn new(topics: Vec<watch::Receiver<Position>>) -> Self {
        Self(topics)
    }

    /// Waits until one of the topics has grown; for ever once the log is closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that was not returned is seen by the next call.
    pub async fn changed(&mut self) {
        match self.0.as_mut_slice() {
            [] => std::future::pending().await,
            // The usual case needs no allocation.
            [topic] => grown(topic).await,
            topics => {
                let waits = topics.iter_mut().map(|topic| Box::pin(grown(topic)));
                _ = futures_util::future::select_all(waits).await;
            }
        }
    }
}

/// Waits until the topic has grown; for ever once its log is gone.
async fn grown(topic: &mut watch::Receiver<Position>) {
    if topic.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
