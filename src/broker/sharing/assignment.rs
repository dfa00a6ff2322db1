//! Which stream of a shared subscription has which slot.
//!
//! A stream is as good as any other, and each is to have as many slots as the others, give or take one.
//! When one comes, slots are meant for it that others have; each moves when the stream that has it gives
//! it up. When one ends, its slots go to the others at once. No slot is moved that need not be. No I/O and
//! no clock here.

use std::collections::BTreeMap;

use super::SlotSet;
use crate::types::limits::SHARING_SLOTS;

/// The streams there are and the slots of each.
#[derive(Debug)]
pub(in crate::broker) struct Assignment {
    /// How many slots are meant for each stream.
    streams: BTreeMap<u64, usize>,
    /// Without streams, none has one.
    slots: [Option<Assigned>; SHARING_SLOTS],
}

#[derive(Clone, Copy, Debug)]
struct Assigned {
    /// The stream that has it.
    holder: u64,
    /// The stream that is to have it.
    target: u64,
}

/// The slots of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) struct Assignments {
    /// Those that it gets events of.
    pub(in crate::broker) kept: SlotSet,
    /// Those that it is to give up once nothing of them is on its way.
    pub(in crate::broker) leaving: SlotSet,
}

impl Default for Assignment {
    fn default() -> Self {
        Self {
            streams: BTreeMap::new(),
            slots: [None; SHARING_SLOTS],
        }
    }
}

impl Assignment {
    /// How many streams there are.
    pub(in crate::broker) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// The slots of a stream; none of one that there is not.
    pub(in crate::broker) fn of(&self, stream: u64) -> Assignments {
        let mut of = Assignments {
            kept: SlotSet::NONE,
            leaving: SlotSet::NONE,
        };
        for (slot, assigned) in (0..).zip(&self.slots) {
            match assigned {
                Some(it) if it.holder == stream && it.target == stream => of.kept.insert(slot),
                Some(it) if it.holder == stream => of.leaving.insert(slot),
                _ => {}
            }
        }
        of
    }

    /// A stream comes, whose number no other has had.
    pub(in crate::broker) fn join(&mut self, stream: u64) {
        if self.streams.is_empty() {
            self.streams.insert(stream, SHARING_SLOTS);
            self.slots.fill(Some(Assigned {
                holder: stream,
                target: stream,
            }));
            return;
        }
        self.streams.insert(stream, 0);
        let fair = SHARING_SLOTS / self.streams.len();
        for _ in 0..fair {
            let richest = self.streams.iter().max_by_key(|(_, count)| **count);
            let (&richest, _) = richest.expect("there are streams");
            let is_its = |it: &&mut Assigned| it.target == richest;
            // One that is on its way to the richest has no events there yet.
            let mut of_richest: Vec<_> = self.slots.iter_mut().flatten().filter(is_its).collect();
            of_richest.sort_by_key(|it| it.holder == richest);
            if let Some(slot) = of_richest.into_iter().next() {
                slot.target = stream;
                self.move_target(richest, stream);
            }
        }
    }

    /// A stream has ended: the others have its slots now. Nothing, if it had ended before.
    pub(in crate::broker) fn leave(&mut self, stream: u64) {
        if self.streams.remove(&stream).is_none() {
            return;
        }
        if self.streams.is_empty() {
            self.slots.fill(None);
            return;
        }
        for index in 0..SHARING_SLOTS {
            let Some(assigned) = self.slots[index] else {
                continue;
            };
            let mut target = assigned.target;
            if target == stream {
                let poorest = self.streams.iter_mut().min_by_key(|(_, count)| **count);
                let (&poorest, count) = poorest.expect("there are streams");
                *count += 1;
                target = poorest;
            }
            let holder = match assigned.holder == stream {
                true => target,
                false => assigned.holder,
            };
            self.slots[index] = Some(Assigned { holder, target });
        }
    }

    /// A stream comes in the place of another, which has ended, and has its slots.
    pub(in crate::broker) fn replace(&mut self, former: u64, stream: u64) {
        let Some(count) = self.streams.remove(&former) else {
            self.join(stream);
            return;
        };
        self.streams.insert(stream, count);
        for it in self.slots.iter_mut().flatten() {
            if it.target == former {
                it.target = stream;
            }
            // What the former was to give up is given up.
            if it.holder == former {
                it.holder = it.target;
            }
        }
    }

    /// A stream gives up a slot that it was to give up; false if it was not.
    pub(in crate::broker) fn give_up(&mut self, stream: u64, slot: u8) -> bool {
        match &mut self.slots[usize::from(slot)] {
            Some(it) if it.holder == stream && it.target != stream => {
                it.holder = it.target;
                true
            }
            _ => false,
        }
    }

    fn move_target(&mut self, from: u64, to: u64) {
        if let Some(count) = self.streams.get_mut(&from) {
            *count -= 1;
        }
        if let Some(count) = self.streams.get_mut(&to) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(set: SlotSet) -> usize {
        set.iter().count()
    }

    #[test]
    fn the_first_stream_has_everything_and_gives_half_to_the_second() {
        let mut assignment = Assignment::default();
        assignment.join(1);
        assert_eq!(assignment.of(1).kept, SlotSet::ALL);
        assignment.join(2);
        let first = assignment.of(1);
        assert_eq!((count(first.kept), count(first.leaving)), (32, 32));
        assert_eq!(assignment.of(2).kept, SlotSet::NONE);
        for slot in first.leaving.iter() {
            assert!(assignment.give_up(1, slot));
            assert!(!assignment.give_up(1, slot));
        }
        assert_eq!(assignment.of(2).kept, first.leaving);
    }

    #[test]
    fn what_a_stream_had_goes_to_the_others_when_it_ends() {
        let mut assignment = Assignment::default();
        (1..=3).for_each(|stream| assignment.join(stream));
        // The first still has everything.
        assignment.leave(1);
        let (second, third) = (assignment.of(2), assignment.of(3));
        assert_eq!((count(second.kept), count(third.kept)), (32, 32));
        assert!(second.leaving.is_empty() && third.leaving.is_empty());
        assignment.leave(1);
        assignment.leave(2);
        assert_eq!(assignment.of(3).kept, SlotSet::ALL);
        assignment.leave(3);
        assert_eq!(assignment.of(3).kept, SlotSet::NONE);
    }

    #[test]
    fn a_stream_that_takes_the_place_of_another_has_its_slots() {
        let mut assignment = Assignment::default();
        (1..=2).for_each(|stream| assignment.join(stream));
        let leaving = assignment.of(1).leaving;
        assignment.replace(1, 3);
        assert_eq!(assignment.of(2).kept, leaving);
        let third = assignment.of(3);
        assert_eq!(third.kept, SlotSet::ALL.without(leaving));
        assert!(third.leaving.is_empty());
        assert_eq!(assignment.of(1).kept, SlotSet::NONE);
    }

    #[test]
    fn a_slot_goes_back_to_the_stream_that_was_to_give_it_up() {
        let mut assignment = Assignment::default();
        assignment.join(1);
        assignment.join(2);
        assignment.leave(2);
        assert_eq!(assignment.of(1).kept, SlotSet::ALL);
        assert!(!assignment.give_up(1, 0));
    }

    proptest! {
        #[test]
        fn every_slot_has_one_stream_and_every_stream_its_share(
            steps in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..80),
        ) {
            let mut assignment = Assignment::default();
            let mut live: Vec<u64> = Vec::new();
            for (number, (step, which)) in (0..).zip(steps) {
                match step {
                    0 if live.len() < SHARING_SLOTS => {
                        assignment.join(number);
                        live.push(number);
                    }
                    1 if !live.is_empty() => {
                        let stream = live.swap_remove(which.index(live.len()));
                        assignment.leave(stream);
                    }
                    2 if !live.is_empty() => {
                        let former = which.index(live.len());
                        assignment.replace(live[former], number);
                        live[former] = number;
                    }
                    _ if !live.is_empty() => {
                        let stream = live[which.index(live.len())];
                        let leaving = assignment.of(stream).leaving;
                        leaving.iter().for_each(|slot| _ = assignment.give_up(stream, slot));
                    }
                    _ => {}
                }
                prop_assert_eq!(assignment.streams(), live.len());
                let of: Vec<_> = live.iter().map(|&stream| assignment.of(stream)).collect();
                let mut all = SlotSet::NONE;
                for it in &of {
                    let its = it.kept.or(it.leaving);
                    prop_assert_eq!(count(it.kept) + count(it.leaving), count(its));
                    prop_assert_eq!(count(all) + count(its), count(all.or(its)));
                    all = all.or(its);
                }
                prop_assert_eq!(all, if live.is_empty() { SlotSet::NONE } else { SlotSet::ALL });
            }
            // Once all is given up that is to be, each has as much as any other.
            for &stream in &live {
                let leaving = assignment.of(stream).leaving;
                leaving.iter().for_each(|slot| _ = assignment.give_up(stream, slot));
            }
            let counts = live.iter().map(|&stream| count(assignment.of(stream).kept));
            let (least, most) = (counts.clone().min(), counts.max());
            prop_assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1, "{least:?} {most:?}");
        }
    }
}
