//! Checkpoints: how far a subscription is, kept where it survives the process.
//!
//! A checkpoint is saved once everything up to its replay id is handled, and on keepalives too, so
//! that the position of a quiet topic does not age out. After a crash the events since the last one
//! come again; none is skipped.

mod file;

use std::fmt;

use super::{OpaqueReplayId, state::StoreError};
use crate::clock::Timestamp;

pub use file::CheckpointFile;

/// How far a subscription is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here is handled.
    pub replay_id: OpaqueReplayId,
    /// When the subscriber was there.
    pub saved_at: Timestamp,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.saved_at.as_millis();
        write!(f, "Checkpoint({} at {millis} ms)", self.replay_id)
    }
}

/// Keeps the checkpoints of subscriptions, each under a name: that of its topic.
#[async_trait::async_trait]
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// The checkpoint of a subscription; `None` if it has none yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also if what is kept is not this subscription's: to start anew in silence
    /// would lose its place.
    async fn load(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError>;

    /// Keeps a checkpoint in the place of the one before, durably: a crash after this returned loads
    /// it, and a crash before loads either of them.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the one before is still there.
    ///
    /// # Cancel safety
    ///
    /// After a drop either of them is there.
    async fn save(&self, subscription: &str, checkpoint: Checkpoint) -> Result<(), StoreError>;
}
