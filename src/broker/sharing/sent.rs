//! What a stream of a shared subscription was sent and has not committed.
//!
//! A stream's replay ids do not always rise: when it gains a slot whose position lies behind, older events
//! come. So a commit is held against the order of what was sent: the event that it names was sent in one
//! place of that order, and everything before that place is handled. Each event is sent once on a stream,
//! and a response tells no other id than that of the last event, so there is never a doubt which place is
//! meant.

use std::collections::VecDeque;

use super::{SlotPositions, SlotSet};
use crate::types::{Position, limits::SHARING_SENT_MAX};

/// The responses that are not committed, in the order in which they were sent.
#[derive(Debug, Default)]
pub(in crate::broker) struct Sent {
    responses: VecDeque<Response>,
    /// The number of the first of them; each later one has the next number.
    first: u64,
    /// Events in them.
    events: usize,
    /// The last event that was sent; zero before the first.
    latest: Position,
    /// The last one that was committed; zero before the first.
    committed: Position,
}

/// Events that were sent together. There is always one.
#[derive(Debug)]
struct Response {
    /// Rising.
    runs: VecDeque<Run>,
    /// The slots that the events are of.
    slots: SlotSet,
    /// The slots of which everything up to the last event was sent by then.
    held: SlotSet,
}

/// Consecutive events of a block.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Run {
    pub(in crate::broker) last: Position,
    pub(in crate::broker) count: u32,
}

/// A place in the order of what was sent; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::broker) struct Mark {
    response: u64,
    position: Position,
}

impl Mark {
    /// The event that was sent there.
    pub(in crate::broker) fn position(self) -> Position {
        self.position
    }
}

impl Run {
    fn has(self, position: Position) -> bool {
        position <= self.last && self.last.get() - position.get() < u64::from(self.count)
    }
}

impl Sent {
    /// Notes events that are sent together, which are of `slots`, on a stream that has the slots `held`.
    pub(in crate::broker) fn deliver(
        &mut self,
        runs: impl IntoIterator<Item = Run>,
        held: SlotSet,
        slots: SlotSet,
    ) {
        let runs: VecDeque<Run> = runs.into_iter().collect();
        let Some(last) = runs.back() else { return };
        self.latest = last.last;
        let response = Response { runs, slots, held };
        self.events += response.events();
        self.responses.push_back(response);
    }

    /// The last event that was sent, which is what responses tell; zero before the first. To tell how far
    /// the stream has looked could be to name an event that comes later, with a slot that is gained.
    pub(in crate::broker) fn latest(&self) -> Position {
        self.latest
    }

    /// How many more events may be sent before something is committed.
    pub(in crate::broker) fn room(&self) -> usize {
        SHARING_SENT_MAX.saturating_sub(self.events)
    }

    /// Where the event was sent that is to be committed; `None` if it was not, or is committed and was not
    /// the last.
    pub(in crate::broker) fn find(&self, position: Position) -> Option<Mark> {
        let mut numbered = (self.first..).zip(&self.responses);
        let found =
            numbered.find(|(_, response)| response.runs.iter().any(|run| run.has(position)));
        let response = match found {
            Some((response, _)) => response,
            // What is committed is in no response any more.
            None if position == self.committed => return Some(self.beginning()),
            None => return None,
        };
        Some(Mark { response, position })
    }

    /// The place before everything that is not committed.
    fn beginning(&self) -> Mark {
        Mark {
            response: self.first,
            position: Position::ZERO,
        }
    }

    /// Moves the slots up to where they are by what was sent up to `mark`.
    pub(in crate::broker) fn raise(&self, reached: &mut SlotPositions, mark: Mark) {
        let numbered = (self.first..).zip(&self.responses);
        let up_to_mark = numbered.take_while(|(number, _)| *number <= mark.response);
        let mut up_to_mark = up_to_mark
            .map(|(number, response)| match number == mark.response {
                true => (response.held, mark.position),
                false => (response.held, response.last()),
            })
            .peekable();
        // Of many responses in a row the slots are the same: they are moved once.
        let mut last = Position::ZERO;
        while let Some((held, position)) = up_to_mark.next() {
            last = last.max(position);
            if up_to_mark.peek().is_none_or(|(next, _)| *next != held) {
                held.iter().for_each(|slot| reached.raise(slot, last));
                last = Position::ZERO;
            }
        }
    }

    /// The slots of which events were sent behind `mark`, and maybe others of the response it is in.
    pub(in crate::broker) fn slots_behind(&self, mark: Mark) -> SlotSet {
        let numbered = (self.first..).zip(&self.responses);
        let behind = numbered.filter(|(number, response)| match *number {
            it if it == mark.response => response.last() > mark.position,
            it => it > mark.response,
        });
        behind.fold(SlotSet::NONE, |slots, (_, response)| {
            slots.or(response.slots)
        })
    }

    /// The slots of which events are not committed.
    pub(in crate::broker) fn slots(&self) -> SlotSet {
        self.slots_behind(self.beginning())
    }

    /// Notes that everything up to `mark` is committed.
    pub(in crate::broker) fn commit(&mut self, mark: Mark) {
        while let Some(response) = self.responses.front_mut()
            && self.first <= mark.response
        {
            self.events -= response.events();
            if self.first < mark.response || response.last() <= mark.position {
                self.responses.pop_front();
                self.first += 1;
                continue;
            }
            response.cut(mark.position);
            self.events += response.events();
            break;
        }
        self.committed = self.committed_by(mark);
    }

    fn committed_by(&self, mark: Mark) -> Position {
        match mark.position {
            Position::ZERO => self.committed,
            position => position,
        }
    }
}

impl Response {
    fn events(&self) -> usize {
        self.runs.iter().map(|run| run.count as usize).sum()
    }

    fn last(&self) -> Position {
        self.runs.back().map(|run| run.last).unwrap_or_default()
    }

    /// Takes out the events up to this one, which is not the last.
    fn cut(&mut self, position: Position) {
        while self.runs.pop_front_if(|run| run.last <= position).is_some() {}
        if let Some(run) = self.runs.front_mut()
            && run.has(position)
        {
            run.count = (run.last.get() - position.get()) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    fn run(last: u64, count: u32) -> Run {
        Run {
            last: position(last),
            count,
        }
    }

    fn reached_at(sent: &Sent, mark: Mark) -> SlotPositions {
        let mut reached = SlotPositions::at(Position::ZERO);
        sent.raise(&mut reached, mark);
        reached
    }

    fn slots(slots: impl IntoIterator<Item = u8>) -> SlotSet {
        slots.into_iter().collect()
    }

    #[test]
    fn a_commit_covers_what_was_sent_before_and_not_what_lies_before() {
        let mut sent = Sent::default();
        let (first, second) = (slots([1]), slots([2]));
        sent.deliver([run(100, 1), run(200, 1)], first, first);
        // The second slot came with its older events.
        sent.deliver([run(60, 1)], first.or(second), second);
        sent.deliver([run(210, 1)], first.or(second), first);
        let mark = sent.find(position(200)).unwrap();
        let reached = reached_at(&sent, mark);
        assert_eq!(
            (reached.get(1), reached.get(2)),
            (position(200), position(0))
        );
        assert_eq!(sent.slots_behind(mark), first.or(second));
        sent.commit(mark);
        assert!(sent.find(position(100)).is_none());
        let mark = sent.find(position(60)).unwrap();
        let reached = reached_at(&sent, mark);
        assert_eq!(
            (reached.get(1), reached.get(2)),
            (position(60), position(60))
        );
        assert_eq!(sent.slots_behind(mark), first);
        sent.commit(mark);
        assert_eq!((sent.slots(), sent.latest()), (first, position(210)));
        let reached = reached_at(&sent, sent.find(position(210)).unwrap());
        assert_eq!(
            (reached.get(1), reached.get(2)),
            (position(210), position(210))
        );
    }

    #[test]
    fn what_was_not_sent_is_not_found() {
        let mut sent = Sent::default();
        sent.deliver([run(10, 3), run(20, 1)], SlotSet::ALL, slots([0]));
        let found = |sent: &Sent| -> Vec<u64> {
            (1..30)
                .filter(|&n| sent.find(position(n)).is_some())
                .collect()
        };
        assert_eq!(found(&sent), [8, 9, 10, 20]);
        sent.commit(sent.find(position(9)).unwrap());
        assert_eq!(found(&sent), [9, 10, 20]);
    }

    #[test]
    fn what_is_committed_may_be_committed_again_and_covers_nothing_more() {
        let mut sent = Sent::default();
        let beginning = sent.find(Position::ZERO).unwrap();
        assert_eq!(sent.slots_behind(beginning), SlotSet::NONE);
        sent.deliver([run(10, 2)], SlotSet::ALL, slots([0]));
        sent.commit(sent.find(position(10)).unwrap());
        sent.deliver([run(5, 1)], SlotSet::ALL, slots([3]));
        let again = sent.find(position(10)).unwrap();
        assert_eq!(sent.slots_behind(again), slots([3]));
        assert_eq!(reached_at(&sent, again), SlotPositions::at(Position::ZERO));
        sent.commit(again);
        assert_eq!(sent.slots(), slots([3]));
        assert!(sent.find(position(10)).is_some());
    }

    #[test]
    fn there_is_room_again_when_something_is_committed() {
        let mut sent = Sent::default();
        for block in 1..=SHARING_SENT_MAX as u64 / 200 {
            sent.deliver([run(block << 8, 200)], SlotSet::ALL, SlotSet::ALL);
        }
        assert_eq!(sent.room(), 0);
        sent.commit(sent.find(position((1 << 8) - 100)).unwrap());
        assert_eq!(sent.room(), 100);
    }

    proptest! {
        /// Against the plain list of every event in the order in which it was sent.
        #[test]
        fn a_commit_is_of_a_place_in_the_order(
            steps in proptest::collection::vec((0_u8..3, 1_u32..20, any::<prop::sample::Index>()), 1..60),
        ) {
            let mut sent = Sent::default();
            let mut list: Vec<(Position, u8)> = Vec::new();
            for (number, (step, count, which)) in (1_u64..).zip(steps) {
                match step {
                    // Later and earlier blocks, none of them twice.
                    0 | 1 => {
                        let block = if step == 0 { 1_000 + number } else { 1_000 - number };
                        let last = (block << 8) + u64::from(count);
                        // Some responses in a row of a stream with the same slots.
                        let slot = number as u8 / 3 % 64;
                        sent.deliver([run(last, count)], slots([slot]), slots([slot]));
                        let events = last - u64::from(count) + 1..=last;
                        list.extend(events.map(|event| (position(event), slot)));
                    }
                    _ if !list.is_empty() => {
                        let index = which.index(list.len());
                        let mark = sent.find(list[index].0).unwrap();
                        let mut expected = SlotPositions::at(Position::ZERO);
                        let up_to = &list[..=index];
                        up_to.iter().for_each(|(event, slot)| expected.raise(*slot, *event));
                        prop_assert_eq!(reached_at(&sent, mark), expected);
                        sent.commit(mark);
                        list.drain(..=index);
                    }
                    _ => {}
                }
                prop_assert_eq!(sent.room(), SHARING_SENT_MAX - list.len());
                prop_assert_eq!(sent.slots().is_empty(), list.is_empty());
                let marks: Vec<_> = list.iter().map(|(it, _)| sent.find(*it).unwrap()).collect();
                prop_assert!(marks.is_sorted());
            }
        }
    }
}
