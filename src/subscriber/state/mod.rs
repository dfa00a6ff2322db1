//! What a subscription has to remember, and what it is kept in.
//!
//! Three traits, since some need only one of them: checkpoints, ids of handled events, dead letters.
//! A store that keeps the first two in one transaction is a [`StateStore`]: then a checkpoint never
//! passes an event whose id is not recorded, and the other way round.

mod file;
mod memory;

use std::{error::Error, sync::Arc};

pub use file::StateFile;
pub use memory::MemoryState;

use super::{
    checkpoint::{Checkpoint, CheckpointStore},
    dead_letter::{DeadLetter, DeadLetterStore},
    dedupe::DedupeStore,
};
use crate::clock::Timestamp;

/// Why a store did not do what it was asked. Shown with its cause.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It failed this time, and may not the next.
    #[error("{what}: {source}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It cannot be used, and no further try will help.
    #[error("{0}")]
    Unusable(String),
    /// It takes no more: somebody has to look at what is in it.
    #[error("{0}")]
    Full(String),
}

impl StoreError {
    /// A failure that may pass.
    pub fn failed(what: impl Into<String>, error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed {
            what: what.into(),
            source: Arc::new(error),
        }
    }

    /// A store that cannot be used.
    pub fn unusable(reason: impl Into<String>) -> Self {
        Self::Unusable(reason.into())
    }

    /// Whether the same may be tried again with some hope.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::Unusable(_) | Self::Full(_) => false,
        }
    }
}

/// What is to be remembered at once.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Everything up to here is handled.
    pub checkpoint: Option<Checkpoint>,
    /// Ids of events that were handled, or parked, since the last time.
    pub done: Vec<String>,
    /// When.
    pub at: Timestamp,
}

impl Changes {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.checkpoint.is_none() && self.done.is_empty()
    }
}

/// Keeps checkpoints and ids in one transaction.
#[async_trait::async_trait]
pub trait StateStore: CheckpointStore + DedupeStore {
    /// Keeps all of `changes`, durably, or nothing of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is kept.
    async fn commit(&self, subscription: &str, changes: Changes) -> Result<(), StoreError>;
}

/// The stores of one subscriber.
#[derive(Clone, Debug, Default)]
pub(super) struct Stores {
    pub(super) state: State,
    pub(super) dead_letters: Option<Arc<dyn DeadLetterStore>>,
}

/// Checkpoints and ids, together or apart.
#[derive(Clone, Debug)]
pub(super) enum State {
    Together(Arc<dyn StateStore>),
    Apart {
        checkpoints: Option<Arc<dyn CheckpointStore>>,
        dedupe: Option<Arc<dyn DedupeStore>>,
    },
}

impl Default for State {
    fn default() -> Self {
        Self::Apart {
            checkpoints: None,
            dedupe: None,
        }
    }
}

impl Stores {
    /// Whether ids of handled events are remembered.
    pub(super) fn has_dedupe(&self) -> bool {
        match &self.state {
            State::Together(_) => true,
            State::Apart { dedupe, .. } => dedupe.is_some(),
        }
    }

    /// Whether positions are.
    pub(super) fn has_checkpoints(&self) -> bool {
        match &self.state {
            State::Together(_) => true,
            State::Apart { checkpoints, .. } => checkpoints.is_some(),
        }
    }

    pub(super) async fn load(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError> {
        match &self.state {
            State::Together(state) => state.load(subscription).await,
            State::Apart { checkpoints, .. } => match checkpoints {
                Some(checkpoints) => checkpoints.load(subscription).await,
                None => Ok(None),
            },
        }
    }

    pub(super) async fn seen(
        &self,
        subscription: &str,
        ids: Vec<String>,
    ) -> Result<Vec<bool>, StoreError> {
        match &self.state {
            State::Together(state) => state.seen(subscription, ids).await,
            State::Apart { dedupe, .. } => match dedupe {
                Some(dedupe) => dedupe.seen(subscription, ids).await,
                None => Ok(vec![false; ids.len()]),
            },
        }
    }

    /// Keeps changes. Where ids and checkpoint are apart, ids come first: a crash between the two
    /// brings back events that are known as handled, and skips none.
    pub(super) async fn commit(
        &self,
        subscription: &str,
        changes: Changes,
    ) -> Result<(), StoreError> {
        match &self.state {
            State::Together(state) => state.commit(subscription, changes).await,
            State::Apart {
                checkpoints,
                dedupe,
            } => {
                if let Some(dedupe) = dedupe
                    && !changes.done.is_empty()
                {
                    dedupe
                        .record(subscription, changes.done, changes.at)
                        .await?;
                }
                match (checkpoints, changes.checkpoint) {
                    (Some(checkpoints), Some(checkpoint)) => {
                        checkpoints.save(subscription, checkpoint).await
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    /// Parks a letter; without a store for them, it cannot be.
    pub(super) async fn park(&self, letter: DeadLetter) -> Result<(), StoreError> {
        match &self.dead_letters {
            Some(letters) => letters.park(letter).await,
            None => Err(StoreError::unusable(format!(
                "there is no store of dead letters for the event {}, which was given up: {}",
                letter.replay_id, letter.cause
            ))),
        }
    }
}
