//! How far the events of one request have come, for others that have an event of the same id.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    event_log::{Abandoned, AppendError, AppendOutcome},
    types::Position,
};

/// Where an event stands in the outcome of its request's append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Place {
    pub(super) body: u32,
    pub(super) index: u32,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The ids are taken; the log does not have the events yet.
    Claimed,
    /// The log has the events.
    Queued,
    /// It is known what became of them.
    Settled(Arc<AppendOutcome>),
    /// The log never got them.
    Released,
}

/// Tells how far the events of one request have come. Cheap to clone behind its `Arc`.
#[derive(Debug)]
pub(in crate::broker) struct Ticket(watch::Receiver<Stage>);

/// The side of a ticket that moves it on. Dropped before its end it leaves the events in doubt.
#[derive(Debug)]
pub(super) struct Progress(watch::Sender<Stage>);

impl Ticket {
    pub(super) fn new() -> (Progress, Arc<Self>) {
        let (sender, receiver) = watch::channel(Stage::Claimed);
        (Progress(sender), Arc::new(Self(receiver)))
    }

    pub(super) fn is_queued(&self) -> bool {
        !matches!(*self.0.borrow(), Stage::Claimed)
    }

    /// Waits until the log has the events, or never gets them.
    pub(in crate::broker) async fn queued(&self) {
        let mut stage = self.0.clone();
        // Without its other side nothing is going to change any more.
        _ = stage
            .wait_for(|stage| !matches!(stage, Stage::Claimed))
            .await;
    }

    /// Waits until it is known what became of the event at `place`.
    pub(in crate::broker) async fn result(&self, place: Place) -> Result<Position, AppendError> {
        let mut stage = self.0.clone();
        let is_over = |stage: &Stage| matches!(stage, Stage::Settled(_) | Stage::Released);
        match stage.wait_for(is_over).await.as_deref() {
            Ok(Stage::Settled(outcome)) => result_at(outcome, place),
            Ok(_) | Err(_) => Err(AppendError::Unconfirmed(Arc::new(Abandoned))),
        }
    }
}

impl Progress {
    pub(super) fn queued(&self) {
        self.0.send_replace(Stage::Queued);
    }

    pub(super) fn settled(&self, outcome: Arc<AppendOutcome>) {
        self.0.send_replace(Stage::Settled(outcome));
    }

    pub(super) fn released(&self) {
        self.0.send_replace(Stage::Released);
    }
}

/// What `outcome` says of the event at `place`.
pub(super) fn result_at(outcome: &AppendOutcome, place: Place) -> Result<Position, AppendError> {
    match outcome.get(place.body as usize) {
        Some(Ok(range)) => {
            let position = Position::new(range.first.get() + u64::from(place.index));
            Ok(position.expect("the log stores a body whole"))
        }
        Some(Err(error)) => Err(error.clone()),
        None => Err(AppendError::Unconfirmed(Arc::new(Abandoned))),
    }
}
