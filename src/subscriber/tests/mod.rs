//! The subscriber against a gateway that does as the test says.

mod handlers;
mod managed;
mod odd_peers;
mod peer;
mod saving;
mod shared;
mod streams;

use std::sync::{Arc, Mutex};

use crate::subscriber::*;

/// The positions of the events among the next items, each told to be handled.
async fn next_positions(events: &mut Events, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    while positions.len() < count {
        if let Item::Event(event) = events.next().await.unwrap().unwrap() {
            positions.push(event.replay_id().number());
            event.done();
        }
    }
    positions
}

/// The next item that is no event, nor a break; events before it are handled.
async fn next_notice(events: &mut Events) -> Item {
    loop {
        match events.next().await.unwrap().unwrap() {
            Item::Event(event) => event.done(),
            Item::Disconnected(_) => {}
            notice => return notice,
        }
    }
}

/// A store of checkpoints that fails on demand.
#[derive(Clone, Debug, Default)]
struct FailingState {
    inner: MemoryState,
    /// What the next calls fail with.
    failures: Arc<Mutex<Vec<StoreError>>>,
    saves: Arc<Mutex<Vec<Checkpoint>>>,
}

impl FailingState {
    fn fail(&self) -> Result<(), StoreError> {
        self.failures.lock().unwrap().pop().map_or(Ok(()), Err)
    }
}

#[async_trait::async_trait]
impl CheckpointStore for FailingState {
    async fn load(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.fail()?;
        self.inner.load(subscription).await
    }

    async fn save(&self, subscription: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        self.fail()?;
        self.saves.lock().unwrap().push(checkpoint);
        self.inner.save(subscription, checkpoint).await
    }
}

fn io_failure() -> StoreError {
    StoreError::failed("the disk", std::io::Error::other("is full"))
}
