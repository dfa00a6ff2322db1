//! The subscriber's store: what it keeps survives the process, and it fails or dawdles when told to.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tidegate::{
    clock::Timestamp,
    subscriber::{
        Changes, Checkpoint, CheckpointStore, DedupeStore, MemoryState, StateStore, StoreError,
    },
};
use tokio::time::sleep;

use crate::oracle::Oracle;

/// What a call takes, before it has an effect and after.
const USUAL: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(250);

/// Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    kept: MemoryState,
    oracle: Oracle,
    pub(crate) fails: Arc<AtomicBool>,
    pub(crate) is_slow: Arc<AtomicBool>,
}

impl Disk {
    pub(crate) fn new(oracle: Oracle) -> Self {
        Self {
            kept: MemoryState::default(),
            oracle,
            fails: Arc::default(),
            is_slow: Arc::default(),
        }
    }

    /// The position that is saved of a topic.
    pub(crate) fn saved(&self, topic: &str) -> u64 {
        let loaded = CheckpointStore::load(&self.kept, topic).now_or_never();
        let loaded = loaded.expect("memory does not wait").unwrap();
        loaded.map_or(0, |checkpoint| checkpoint.replay_id.number())
    }

    async fn dawdle(&self) {
        let is_slow = self.is_slow.load(SeqCst);
        sleep(if is_slow { SLOW } else { USUAL }).await;
    }

    async fn enter(&self) -> Result<(), StoreError> {
        self.dawdle().await;
        match self.fails.load(SeqCst) {
            true => Err(StoreError::failed("the disk", io::Error::other("is full"))),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl CheckpointStore for Disk {
    async fn load(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.enter().await?;
        self.kept.load(subscription).await
    }

    async fn save(&self, subscription: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.enter().await?;
        self.kept.save(subscription, checkpoint).await?;
        let position = checkpoint.replay_id.number();
        self.oracle.stored(subscription, Some(position), &[]);
        // A process may end between the effect and the answer.
        self.dawdle().await;
        Ok(())
    }
}

#[async_trait::async_trait]
impl DedupeStore for Disk {
    async fn seen(&self, subscription: &str, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        self.enter().await?;
        self.kept.seen(subscription, ids).await
    }

    async fn record(
        &self,
        subscription: &str,
        ids: Vec<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.enter().await?;
        self.kept.record(subscription, ids.clone(), now).await?;
        self.oracle.stored(subscription, None, &ids);
        self.dawdle().await;
        Ok(())
    }
}

#[async_trait::async_trait]
impl StateStore for Disk {
    async fn commit(&self, subscription: &str, changes: Changes) -> Result<(), StoreError> {
        self.enter().await?;
        self.kept.commit(subscription, changes.clone()).await?;
        let position = changes.checkpoint.map(|kept| kept.replay_id.number());
        self.oracle.stored(subscription, position, &changes.done);
        self.dawdle().await;
        Ok(())
    }
}
