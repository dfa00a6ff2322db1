//! One stream's share of a shared subscription.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

use super::shares::Shares;
use crate::{
    broker::{
        Delivery, Subscription,
        sharing::{
            SlotPositions,
            part::Part,
            sent::{Mark, Sent},
        },
    },
    types::Position,
};

/// The slots that a stream has, and what it was sent of them.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    stream: u64,
    changed: watch::Receiver<()>,
    sent: Sent,
    /// Slots that it is to give up, and how far it was sent them.
    leaving: BTreeMap<u8, Position>,
}

impl Share {
    /// That of a stream which has a place, and gets nothing yet.
    pub(super) fn new(shares: Arc<Shares>, stream: u64, flow: &mut Subscription) -> Self {
        flow.set_part(Part::new(shares.slots()));
        Self {
            changed: shares.watch(),
            shares,
            stream,
            sent: Sent::default(),
            leaving: BTreeMap::new(),
        }
    }

    /// Waits until slots are assigned otherwise.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            // The sender is part of what this has.
            std::future::pending().await
        }
    }

    /// Has the stream get the events of the slots that are its own now, and no others. A slot that it did
    /// not have begins where `start` says.
    ///
    /// # Errors
    ///
    /// Those of `start`.
    pub(super) fn arrange<E>(
        &mut self,
        flow: &mut Subscription,
        start: impl Fn(u8) -> Result<Position, E>,
    ) -> Result<(), E> {
        self.changed.borrow_and_update();
        let assigned = self.shares.of(self.stream);
        let Some((part, cursor)) = flow.part() else {
            return Ok(());
        };
        let held = part.held();
        let lost = held.without(assigned.kept);
        let sent_to = lost.iter().map(|slot| (slot, part.sent_to(slot, cursor)));
        self.leaving.extend(sent_to);
        lost.iter().for_each(|slot| flow.lose(slot));
        // One that came and is to go on before anything of it was sent.
        for slot in assigned.leaving.without(held).iter() {
            if !self.leaving.contains_key(&slot) {
                self.shares.give_up(self.stream, slot, Position::ZERO);
            }
        }
        for slot in assigned.kept.without(held).iter() {
            let after = match self.leaving.remove(&slot) {
                Some(sent_to) => sent_to,
                None => start(slot)?,
            };
            flow.gain(slot, after);
        }
        self.give_up();
        Ok(())
    }

    /// Gives up what it is to give up, as far as nothing of it is left to be committed.
    fn give_up(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let uncommitted = self.sent.slots();
        self.leaving.retain(|&slot, &mut sent_to| {
            let is_clear = !uncommitted.has(slot);
            if is_clear {
                self.shares.give_up(self.stream, slot, sent_to);
            }
            !is_clear
        });
    }

    /// How many more events it may be sent.
    pub(super) fn room(&self) -> usize {
        self.sent.room()
    }

    /// Notes a delivery, and has it tell the id of its last event.
    pub(super) fn delivered(&mut self, flow: &mut Subscription, delivery: &mut Delivery) {
        let parted = delivery.parted.take();
        if let Some((part, cursor)) = flow.part()
            && let Some(parted) = parted
        {
            let held = part.held();
            if parted.runs.is_empty() {
                // What is quiet is as far as the stream has looked, and does not age: it is stored with
                // the next commit, on whichever stream.
                let quiet = held.without(self.sent.slots());
                let sent_to = quiet.iter().map(|slot| (slot, part.sent_to(slot, cursor)));
                self.shares.raise(sent_to);
            }
            self.sent.deliver(parted.runs, held, parted.slots);
        }
        delivery.latest = self.sent.latest();
    }

    /// Where the event was sent that is to be committed, if it was.
    pub(super) fn find(&self, position: Position) -> Option<Mark> {
        self.sent.find(position)
    }

    /// How far the slots are with a commit at `mark`: those that this stream has up to there, and as far as
    /// it has looked where nothing of them is left to be committed; the others as far as they are.
    pub(super) fn reached(&self, flow: &mut Subscription, mark: Mark) -> SlotPositions {
        let mut reached = self.shares.all_reached();
        self.sent.raise(&mut reached, mark);
        let behind = self.sent.slots_behind(mark);
        if let Some((part, cursor)) = flow.part() {
            for slot in part.held().without(behind).iter() {
                reached.raise(slot, part.sent_to(slot, cursor));
            }
        }
        for (&slot, &sent_to) in self.leaving.iter().filter(|(slot, _)| !behind.has(**slot)) {
            reached.raise(slot, sent_to);
        }
        reached
    }

    /// Notes that what was sent up to `mark` is committed, and stored.
    pub(super) fn committed(&mut self, mark: Mark) {
        self.sent.commit(mark);
        self.give_up();
    }
}
