//! Sharing: the events of one managed subscription split among several streams.
//!
//! ```text
//!   event ── key ──► one of 64 slots ([`key`])
//!                       │ each slot has one stream at a time ([`assignment`])
//!   stream ── part ──► the slots it has, and from where on it gets each ([`part`])
//!          ── sent ──► what it was sent and has not committed, in that order ([`sent`])
//! ```
//!
//! Events of one key are in one slot, and a slot moves to another stream only when the one that has it
//! has committed all that it was sent of it, or has ended: so events of a key are handled in their order,
//! whichever streams come and go. Nothing here touches the store or the wire.

pub(super) mod assignment;
pub(super) mod key;
pub(super) mod part;
pub(super) mod sent;

use crate::types::{Position, limits::SHARING_SLOTS};

/// Some of the slots, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotSet(u64);

const _: () = assert!(SHARING_SLOTS == u64::BITS as usize);

impl SlotSet {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(u64::MAX);

    pub(super) fn has(self, slot: u8) -> bool {
        self.0 >> slot & 1 == 1
    }

    pub(super) fn insert(&mut self, slot: u8) {
        self.0 |= 1 << slot;
    }

    pub(super) fn remove(&mut self, slot: u8) {
        self.0 &= !(1 << slot);
    }

    /// Those that are in this and not in `other`.
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in either.
    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, rising.
    pub(super) fn iter(self) -> impl Iterator<Item = u8> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let slot = (left != 0).then(|| left.trailing_zeros() as u8)?;
            left &= left - 1;
            Some(slot)
        })
    }
}

impl FromIterator<u8> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u8>>(slots: I) -> Self {
        let mut set = Self::NONE;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

/// A position for each slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotPositions([Position; SHARING_SLOTS]);

impl SlotPositions {
    /// The same for every slot.
    pub(super) fn at(position: Position) -> Self {
        Self([position; SHARING_SLOTS])
    }

    /// The positions in a record; `None` for one that was not written here.
    pub(super) fn of(numbers: &[u64]) -> Option<Self> {
        let numbers = <&[u64; SHARING_SLOTS]>::try_from(numbers).ok()?;
        // A larger number was written by hand, and is no longer valid for any log.
        let position = |number: u64| Position::new(number).unwrap_or(Position::MAX);
        Some(Self(numbers.map(position)))
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|position| position.get()).collect()
    }

    pub(super) fn get(&self, slot: u8) -> Position {
        self.0[usize::from(slot)]
    }

    pub(super) fn set(&mut self, slot: u8, position: Position) {
        self.0[usize::from(slot)] = position;
    }

    /// Moves a slot up to `position`, and never back.
    pub(super) fn raise(&mut self, slot: u8, position: Position) {
        let known = &mut self.0[usize::from(slot)];
        *known = position.max(*known);
    }

    /// Moves every slot up to where it is in `other`.
    pub(super) fn raise_all(&mut self, other: &Self) {
        for (known, other) in self.0.iter_mut().zip(&other.0) {
            *known = (*known).max(*other);
        }
    }

    /// The position of the slot that is furthest behind.
    pub(super) fn min(&self) -> Position {
        self.0.iter().copied().min().unwrap_or_default()
    }
}
