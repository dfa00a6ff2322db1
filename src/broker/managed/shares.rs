//! What the streams of a shared subscription have between them: which of them has which slot, and how far
//! each slot is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::watch;

use super::{NO_PANIC, Sharing};
use crate::{
    broker::sharing::{
        SlotPositions,
        assignment::{Assignment, Assignments},
        key::KeySlots,
    },
    clock::Timestamp,
    event_log::PositionError,
    schema::registry::TenantSchemas,
    types::Position,
};

#[derive(Debug)]
pub(super) struct Shares {
    streams_max: usize,
    slots: Arc<KeySlots>,
    state: Mutex<State>,
    /// Told when slots are assigned otherwise.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    assignment: Assignment,
    /// How far each slot is: what is committed, or what the streams that had it have shown to hold nothing
    /// that is not. Before anything is committed it is where the streams began, as long as there are some.
    reached: Option<SlotPositions>,
    /// What of that is stored, and since when.
    stored: Option<(SlotPositions, Timestamp)>,
    /// Slots whose position was none of this log when it was read.
    lost: BTreeMap<u8, PositionError>,
}

impl Shares {
    pub(super) fn new(sharing: &Sharing, schemas: Arc<TenantSchemas>) -> Self {
        Self {
            streams_max: sharing.streams as usize,
            slots: Arc::new(KeySlots::new(sharing.key.clone(), schemas)),
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// The same where this is stored; `lost` are the slots that this log knows nothing of.
    pub(super) fn stored(
        self,
        positions: SlotPositions,
        at: Timestamp,
        lost: BTreeMap<u8, PositionError>,
    ) -> Self {
        *self.state() = State {
            reached: Some(positions),
            stored: Some((positions, at)),
            lost,
            ..State::default()
        };
        self
    }

    /// How many streams there may be.
    pub(super) fn streams_max(&self) -> usize {
        self.streams_max
    }

    /// What tells the slots of events.
    pub(super) fn slots(&self) -> Arc<KeySlots> {
        Arc::clone(&self.slots)
    }

    /// A stream comes, whose number no other has had.
    pub(super) fn join(&self, stream: u64) {
        self.state().assignment.join(stream);
        self.changed.send_replace(());
    }

    /// A stream comes in the place of another, which has ended.
    pub(super) fn replace(&self, former: u64, stream: u64) {
        self.state().assignment.replace(former, stream);
        self.changed.send_replace(());
    }

    /// A stream has ended. Where nothing is committed, the last one takes with it where they began.
    pub(super) fn leave(&self, stream: u64) {
        let mut state = self.state();
        state.assignment.leave(stream);
        if state.assignment.streams() == 0 && state.stored.is_none() {
            state.reached = None;
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Has every slot begin at `start` if nothing is known of any.
    ///
    /// # Errors
    ///
    /// Those of `start`.
    pub(super) fn begin<E>(&self, start: impl FnOnce() -> Result<Position, E>) -> Result<(), E> {
        let mut state = self.state();
        if state.reached.is_none() {
            state.reached = Some(SlotPositions::at(start()?));
        }
        Ok(())
    }

    /// Tells when slots are assigned otherwise.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn of(&self, stream: u64) -> Assignments {
        self.state().assignment.of(stream)
    }

    /// How far a slot is, and why that is no position of this log, if it is none.
    pub(super) fn reached(&self, slot: u8) -> (Position, Option<PositionError>) {
        let state = self.state();
        let reached = state.reached.map(|reached| reached.get(slot));
        (reached.unwrap_or_default(), state.lost.get(&slot).copied())
    }

    /// How far each slot is, as far as anything is known.
    pub(super) fn all_reached(&self) -> SlotPositions {
        let reached = self.state().reached;
        reached.unwrap_or(SlotPositions::at(Position::ZERO))
    }

    /// Moves slots up to where a stream was sent them, of which nothing is left to be committed.
    pub(super) fn raise(&self, sent_to: impl Iterator<Item = (u8, Position)>) {
        if let Some(reached) = &mut self.state().reached {
            sent_to.for_each(|(slot, position)| reached.raise(slot, position));
        }
    }

    /// A stream gives up a slot, of which nothing up to `sent_to` is left to be committed.
    pub(super) fn give_up(&self, stream: u64, slot: u8, sent_to: Position) {
        let mut state = self.state();
        if state.assignment.give_up(stream, slot) {
            if let Some(reached) = &mut state.reached {
                reached.raise(slot, sent_to);
            }
            drop(state);
            self.changed.send_replace(());
        }
    }

    /// A stream goes on with a slot at `position`, since its own is no longer valid.
    pub(super) fn recovered(&self, slot: u8, position: Position) {
        let mut state = self.state();
        state.lost.remove(&slot);
        if let Some(reached) = &mut state.reached {
            reached.set(slot, position);
        }
    }

    /// How far the slot is that is furthest behind, if anything is known.
    pub(super) fn behind(&self) -> Option<Position> {
        self.state().reached.map(|reached| reached.min())
    }

    /// Why the position of a slot is none of this log, if there is such a slot.
    pub(super) fn lost(&self) -> Option<PositionError> {
        self.state().lost.values().next().copied()
    }

    /// How far the slot is stored to be that is furthest behind, and since when.
    pub(super) fn committed(&self) -> Option<(Position, Timestamp)> {
        let stored = self.state().stored;
        stored.map(|(positions, at)| (positions.min(), at))
    }

    /// What is to be stored for a commit that brings the slots as far as `commit`; `None` if it is stored.
    pub(super) fn to_store(&self, commit: &SlotPositions) -> Option<SlotPositions> {
        let state = self.state();
        let mut positions = *commit;
        if let Some(reached) = &state.reached {
            positions.raise_all(reached);
        }
        let stored = state.stored.map(|(stored, _)| stored);
        (stored != Some(positions)).then_some(positions)
    }

    /// Notes what is stored.
    pub(super) fn note_stored(&self, positions: SlotPositions, at: Timestamp) {
        let mut state = self.state();
        state.stored = Some((positions, at));
        let reached = state.reached.get_or_insert(positions);
        reached.raise_all(&positions);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}
