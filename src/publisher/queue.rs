//! Between those who send events and the task that has the stream: the request that is being filled.
//!
//! There is one, so what waits to be sent is bounded, and who finds it full waits until the task has
//! taken it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::{
    batch::{Batch, Sealed, Ticket},
    error::PublishError,
    event::Ready,
};

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Whose event comes next: events keep the order in which they were sent also when they have to
    /// wait. Locked before `state`, which is never held across a wait.
    turn: tokio::sync::Mutex<()>,
    /// Tells the task that there is something to do.
    work: Notify,
    /// Tells whoever has the turn that the batch was taken.
    room: Notify,
    /// How many events have their results.
    settled: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    open: Batch,
    /// Whether the batch goes out although it is not full, however many are on their way.
    must_go: bool,
    is_closing: bool,
    /// Why no more events are taken.
    ended: Option<PublishError>,
    /// How many events were taken.
    accepted: u64,
}

impl Queue {
    /// Puts an event into the next request, once there is room.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the event was not taken then, and the turn is the next one's.
    pub(super) async fn push(&self, event: Ready) -> Result<Ticket, PublishError> {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => self.turn.lock().await,
        };
        loop {
            {
                let mut state = self.state();
                if let Some(error) = &state.ended {
                    return Err(error.clone());
                }
                if state.open.has_room(&event) {
                    let was_empty = state.open.is_empty();
                    let ticket = state.open.add(event);
                    state.accepted += 1;
                    if was_empty || state.open.is_full() {
                        self.work.notify_one();
                    }
                    return Ok(ticket);
                }
                state.must_go = true;
            }
            self.work.notify_one();
            self.room.notified().await;
        }
    }

    /// Takes the next request, if it is full, has to go, or may be `partial`.
    pub(super) fn take(&self, partial: bool) -> Option<Sealed> {
        let mut state = self.state();
        let goes = partial || state.must_go || state.open.is_full();
        if state.open.is_empty() || !goes {
            return None;
        }
        state.must_go = false;
        let next = Batch::like(&state.open);
        let batch = std::mem::replace(&mut state.open, next);
        self.room.notify_one();
        Some(batch.seal())
    }

    /// Waits until every event that was taken before has its result.
    pub(super) async fn flush(&self) {
        let accepted = {
            let mut state = self.state();
            state.must_go = true;
            state.accepted
        };
        self.work.notify_one();
        let mut settled = self.settled.subscribe();
        _ = settled.wait_for(|&settled| settled >= accepted).await;
    }

    /// Counts events that have their results.
    pub(super) fn settle(&self, events: usize) {
        self.settled
            .send_modify(|settled| *settled += events as u64);
    }

    /// Takes no more events; what was taken is still sent.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closing = true;
        state.must_go = true;
        state.ended.get_or_insert(PublishError::Closed);
        self.work.notify_one();
    }

    /// Takes no more events, and fails those that were not sent.
    pub(super) fn end(&self, error: &PublishError) {
        let unsent = {
            let mut state = self.state();
            state.ended = Some(error.clone());
            std::mem::take(&mut state.open).seal()
        };
        unsent.failed(error.clone());
        self.settle(unsent.events);
        self.room.notify_one();
    }

    /// Whether no more events come.
    pub(super) fn is_closing(&self) -> bool {
        self.state().is_closing
    }

    /// Why no more events are taken.
    pub(super) fn ended(&self) -> Option<PublishError> {
        self.state().ended.clone()
    }

    /// Waits until there may be something to do.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
