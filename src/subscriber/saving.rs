//! Saving how far a topic is: when, and what of it.
//!
//! One save is under way at a time, beside the receiving of events. A save that fails is tried again
//! with what came since; nothing counts as saved before its store says so.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

use super::{
    OpaqueReplayId,
    checkpoint::Checkpoint,
    lane::Lane,
    state::{Changes, StoreError, Stores},
    task::Config,
};
use crate::{client::Backoff, clock::Clock};

/// How often a position is saved again that does not move, while the gateway is heard: its age tells
/// whether it is still good, and a managed subscription on which nothing is committed is ended after
/// half an hour.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Saves how far one topic is.
pub(super) struct Saver {
    lane: Arc<Lane>,
    stores: Stores,
    clock: Arc<dyn Clock>,
    config: Arc<Config>,
    /// The gateway keeps the position: it is committed once the stores have taken the ids before it.
    is_managed: bool,
    under_way: Option<BoxFuture<'static, Saved>>,
    /// What the last save had.
    position: Option<OpaqueReplayId>,
    /// When it began.
    at: Instant,
    /// Not before this moment, after a save that failed.
    not_before: Option<Instant>,
    backoff: Backoff,
    to_commit: Option<OpaqueReplayId>,
    /// How often the order of events began anew, which leaves the positions before it without a meaning.
    order: u64,
}

/// A save that came to its end: what the stores said, and what they were given.
pub(super) struct Saved {
    result: Result<(), StoreError>,
    position: Option<OpaqueReplayId>,
    /// The order that the position is one of.
    order: u64,
    done: Vec<String>,
}

impl Saver {
    pub(super) fn new(
        lane: Arc<Lane>,
        stores: Stores,
        clock: Arc<dyn Clock>,
        config: Arc<Config>,
        is_managed: bool,
    ) -> Self {
        Self {
            lane,
            stores,
            clock,
            is_managed,
            under_way: None,
            position: None,
            at: Instant::now(),
            not_before: None,
            backoff: config.backoff.clone(),
            to_commit: None,
            order: 0,
            config,
        }
    }

    /// The position was found where it is kept.
    pub(super) fn loaded(&mut self, position: OpaqueReplayId) {
        self.position = Some(position);
        let mut shared = self.lane.lock();
        shared.saved = Some(position);
        shared.progress.reached(position);
    }

    /// When the next save is due, if there is something to save.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.under_way.is_some() || !self.has_stores() {
            return None;
        }
        let shared = self.lane.lock();
        let position = shared.progress.position();
        let due = if shared.unsaved() >= self.config.save_every {
            self.at
        } else if shared.unsaved() > 0 || position != self.position {
            self.at + self.config.save_within
        } else if shared.last_message.is_some_and(|heard| heard > self.at) {
            self.at + SAVE_AGAIN_AFTER
        } else {
            return None;
        };
        Some(self.not_before.map_or(due, |at| due.max(at)))
    }

    fn has_stores(&self) -> bool {
        self.is_managed || self.stores.has_checkpoints() || self.stores.has_dedupe()
    }

    /// Begins a save if one is due.
    pub(super) fn begin_if_due(&mut self) {
        if self.due().is_some_and(|at| at <= Instant::now()) {
            self.begin();
        }
    }

    fn begin(&mut self) -> &mut BoxFuture<'static, Saved> {
        let (position, done) = self.lane.lock().take_unsaved();
        let at = self.clock.now();
        let changes = Changes {
            // Where the gateway keeps the position, one that is kept here would only be older.
            checkpoint: position
                .filter(|_| !self.is_managed)
                .map(|replay_id| Checkpoint {
                    replay_id,
                    saved_at: at,
                }),
            done: done.clone(),
            at,
        };
        let stores = self.stores.clone();
        let subscription = self.lane.topic.clone();
        let order = self.order;
        let saving = async move {
            let result = match changes.is_empty() {
                true => Ok(()),
                false => stores.commit(subscription.as_str(), changes).await,
            };
            Saved {
                result,
                position,
                order,
                done,
            }
        };
        self.at = Instant::now();
        self.under_way.insert(saving.boxed())
    }

    /// The end of the save that is under way; without one, never. What it came to is for
    /// [`Self::ended`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn under_way(&mut self) -> Saved {
        match &mut self.under_way {
            Some(saving) => saving.await,
            None => std::future::pending().await,
        }
    }

    /// A save came to its end.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if no further try will help.
    pub(super) fn ended(&mut self, saved: Saved) -> Result<(), StoreError> {
        self.under_way = None;
        let position = saved.position.filter(|_| saved.order == self.order);
        let mut shared = self.lane.lock();
        let Err(error) = saved.result else {
            self.backoff.reset();
            self.not_before = None;
            self.position = position;
            shared.recorded(&saved.done);
            match self.is_managed {
                true => self.to_commit = position,
                false => {
                    shared.saved = position;
                    shared.saved_at = Some(Instant::now());
                }
            }
            drop(shared);
            self.lane.save_ended();
            return Ok(());
        };
        shared.counters.failed_saves += 1;
        shared.unsaved_again(saved.done);
        drop(shared);
        self.lane.save_ended();
        let topic = &self.lane.topic;
        tracing::warn!(%topic, "the position cannot be saved: {error}");
        self.not_before = Some(Instant::now() + self.backoff.endless_wait());
        match error.is_retryable() {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Saves what is handled by now, and waits for it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it could not be saved.
    pub(super) async fn all(&mut self) -> Result<(), StoreError> {
        if self.under_way.is_some() {
            let saved = self.under_way().await;
            // What failed is part of what is saved now.
            drop(self.ended(saved));
        }
        let is_saved = {
            let shared = self.lane.lock();
            shared.unsaved() == 0 && shared.progress.position() == self.position
        };
        if is_saved || !self.has_stores() {
            return Ok(());
        }
        let saved = self.begin().await;
        let result = saved.result.clone();
        drop(self.ended(saved));
        result
    }

    /// A new stream stands: what was saved is committed on it, if no answer says that it is.
    pub(super) fn commit_again(&mut self) {
        self.to_commit = self.uncommitted();
    }

    /// A new stream stands, whose order of events is its own: on it, no position of a former one says
    /// anything, that of a save that is under way included.
    pub(super) fn begin_anew(&mut self) {
        self.order += 1;
        self.position = None;
        self.to_commit = None;
    }

    /// What was saved and is not known to be committed, on a managed subscription.
    pub(super) fn uncommitted(&self) -> Option<OpaqueReplayId> {
        let committed = self.lane.lock().saved;
        self.position
            .filter(|_| self.is_managed && self.position != committed)
    }

    /// A position that is to be committed on the managed subscription, now that the stores have taken
    /// what is before it.
    pub(super) fn take_commit(&mut self) -> Option<OpaqueReplayId> {
        self.to_commit.take()
    }
}
