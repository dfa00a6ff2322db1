//! What of a shared subscription one stream gets.

use std::sync::Arc;

use super::{
    SlotPositions, SlotSet,
    key::{BlockSlots, KeySlots},
};
use crate::{broker::filters::Verdict, event_log::Block, types::Position};

/// The slots that a stream gets events of, and how far it was sent those of each before its cursor went
/// back for another.
#[derive(Debug)]
pub(in crate::broker) struct Part {
    slots: Arc<KeySlots>,
    held: SlotSet,
    /// Of each slot that is held, nothing at or before this is sent.
    after: SlotPositions,
    /// How many more events may be sent for now.
    room: usize,
}

impl Part {
    /// Of nothing yet.
    pub(in crate::broker) fn new(slots: Arc<KeySlots>) -> Self {
        Self {
            slots,
            held: SlotSet::NONE,
            after: SlotPositions::at(Position::ZERO),
            room: 0,
        }
    }

    pub(in crate::broker) fn held(&self) -> SlotSet {
        self.held
    }

    pub(in crate::broker) fn room(&self) -> usize {
        self.room
    }

    pub(in crate::broker) fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Everything of a slot that is held was sent up to here, by a stream with this cursor.
    pub(in crate::broker) fn sent_to(&self, slot: u8, cursor: Position) -> Position {
        self.after.get(slot).max(cursor)
    }

    /// Has the events of `slot` behind `after` sent, too. Returns where a stream that was at `cursor` goes
    /// on, so that it gets them: what it was sent of its other slots does not come again.
    pub(in crate::broker) fn gain(
        &mut self,
        slot: u8,
        after: Position,
        cursor: Position,
    ) -> Position {
        for held in self.held.iter() {
            self.after.raise(held, cursor);
        }
        self.held.insert(slot);
        self.after.set(slot, after);
        cursor.min(after)
    }

    /// Has no more events of `slot` sent. Returns where a stream that was at `cursor` goes on: it may have
    /// gone back for this slot alone.
    pub(in crate::broker) fn lose(&mut self, slot: u8, cursor: Position) -> Position {
        self.held.remove(slot);
        cursor.max(self.start().unwrap_or(cursor))
    }

    /// Everything of every slot that is held was sent up to here.
    fn start(&self) -> Option<Position> {
        self.held.iter().map(|slot| self.after.get(slot)).min()
    }

    /// Has the slots whose events are read at `cursor` go on behind `position`, since there they cannot;
    /// those that were sent up to further ahead do not have to. Returns where the stream goes on.
    pub(in crate::broker) fn skip(&mut self, cursor: Position, position: Position) -> Position {
        for slot in self.held.iter() {
            if self.after.get(slot) <= cursor {
                self.after.set(slot, position);
            }
        }
        self.start().unwrap_or(position)
    }

    /// Which events of a block are sent.
    pub(in crate::broker) fn verdict(&self, block: &Block) -> Verdict {
        let mut verdict = Verdict::default();
        if self.held.is_empty() {
            return verdict;
        }
        let slots = self.slots.of(block);
        for (index, &slot) in slots[..block.event_count()].iter().enumerate() {
            if self.held.has(slot) && self.after.get(slot) < block.position(index) {
                verdict.set(index);
            }
        }
        verdict
    }

    /// The slots of `count` events of a block that end with the one at `last`.
    pub(in crate::broker) fn slots_of(&self, block: &Block, last: Position, count: u32) -> SlotSet {
        let slots: BlockSlots = self.slots.of(block);
        let last = usize::from(last.index() - block.first().index());
        let first = last + 1 - count as usize;
        slots[first..=last].iter().copied().collect()
    }
}
