//! A store that lasts as long as the process: for tests, and for subscriptions whose gateway keeps
//! the position.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Changes, StateStore, StoreError};
use crate::{
    clock::Timestamp,
    subscriber::{
        checkpoint::{Checkpoint, CheckpointStore},
        dedupe::{DedupeStore, DedupeWindow},
    },
};

/// Checkpoints and ids in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    window: DedupeWindow,
    subscriptions: Arc<Mutex<HashMap<String, Kept>>>,
}

#[derive(Debug, Default)]
struct Kept {
    checkpoint: Option<Checkpoint>,
    ids: HashSet<String>,
    /// In the order in which they were recorded.
    order: VecDeque<(Timestamp, String)>,
}

impl MemoryState {
    /// A store that remembers ids for this long.
    pub fn with_window(window: DedupeWindow) -> Self {
        Self {
            window,
            subscriptions: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn record(&mut self, ids: Vec<String>, now: Timestamp, window: DedupeWindow) {
        for id in ids {
            if !id.is_empty() && self.ids.insert(id.clone()) {
                self.order.push_back((now, id));
            }
        }
        let is_outside = |count: usize, recorded: Timestamp| {
            count as u64 > window.ids || now.saturating_since(recorded) > window.time
        };
        while let Some(&(recorded, _)) = self.order.front()
            && is_outside(self.order.len(), recorded)
        {
            let oldest = self.order.pop_front();
            self.ids.remove(&oldest.expect("there is a first").1);
        }
    }
}

#[async_trait::async_trait]
impl CheckpointStore for MemoryState {
    async fn load(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError> {
        let subscriptions = self.lock();
        Ok(subscriptions
            .get(subscription)
            .and_then(|kept| kept.checkpoint))
    }

    async fn save(&self, subscription: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let mut subscriptions = self.lock();
        let kept = subscriptions.entry(subscription.to_owned()).or_default();
        kept.checkpoint = Some(checkpoint);
        Ok(())
    }
}

#[async_trait::async_trait]
impl DedupeStore for MemoryState {
    async fn seen(&self, subscription: &str, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        let subscriptions = self.lock();
        let known = subscriptions.get(subscription).map(|kept| &kept.ids);
        let is_known = |id| known.is_some_and(|known| known.contains(id));
        Ok(ids.iter().map(is_known).collect())
    }

    async fn record(
        &self,
        subscription: &str,
        ids: Vec<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut subscriptions = self.lock();
        let kept = subscriptions.entry(subscription.to_owned()).or_default();
        kept.record(ids, now, self.window);
        Ok(())
    }
}

#[async_trait::async_trait]
impl StateStore for MemoryState {
    async fn commit(&self, subscription: &str, changes: Changes) -> Result<(), StoreError> {
        let mut subscriptions = self.lock();
        let kept = subscriptions.entry(subscription.to_owned()).or_default();
        kept.record(changes.done, changes.at, self.window);
        kept.checkpoint = changes.checkpoint.or(kept.checkpoint);
        Ok(())
    }
}
