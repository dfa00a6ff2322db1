//! How far a subscription is: what was received, what is handled, and the position behind which
//! nothing is left to do.
//!
//! Events may be done in any order; the position only ever moves over what is done without a gap, so
//! a crash repeats events and never skips one. No I/O and no clock here.
//!
//! On a shared subscription each stream has an order of its own, and a position is one of its stream's
//! order alone. What is left of former streams holds nothing back until it comes again.

use std::collections::{HashMap, VecDeque};

use super::OpaqueReplayId;

/// What was received and not yet left behind, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Progress {
    entries: VecDeque<Entry>,
    /// The number of the first entry; each later one has the next number.
    first: u64,
    /// Events of former orders, and of this one too, that somebody works on.
    pending: usize,
    pending_bytes: usize,
    position: Option<OpaqueReplayId>,
    /// Events of former orders that somebody works on, by their numbers.
    former: HashMap<u64, Former>,
    /// Events of former orders that are not handled and did not come again, by their replay ids.
    missing: HashMap<OpaqueReplayId, Missing>,
}

#[derive(Debug)]
struct Entry {
    replay_id: OpaqueReplayId,
    bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// An event that somebody works on.
    Pending,
    /// An event that somebody works on since a former order, with the number that it had there.
    PendingAs(u64),
    /// An event that nobody works on any more and that was not handled: nothing passes it.
    Abandoned,
    /// A handled event, or a position that a response told besides its events.
    Done,
}

/// An event that somebody works on since a former order.
#[derive(Debug)]
struct Former {
    replay_id: OpaqueReplayId,
    bytes: usize,
    /// The number of its entry in this order; `None` until it comes again.
    entry: Option<u64>,
}

/// An event that is not handled and did not come again.
#[derive(Clone, Copy, Debug)]
enum Missing {
    /// Somebody works on it, under this number.
    Pending(u64),
    Abandoned,
}

impl Progress {
    /// Adds an event of this many bytes; the number tells it apart.
    pub(super) fn received(&mut self, replay_id: OpaqueReplayId, bytes: usize) -> u64 {
        self.pending += 1;
        self.pending_bytes += bytes;
        self.entries.push_back(Entry {
            replay_id,
            bytes,
            state: State::Pending,
        });
        self.first + self.entries.len() as u64 - 1
    }

    /// Notes that everything up to `replay_id` was received, whether or not there were events.
    pub(super) fn reached(&mut self, replay_id: OpaqueReplayId) {
        match self.entries.back_mut() {
            None => self.position = Some(replay_id),
            // Nothing is left to do for the last one: the later position says all.
            Some(last) if last.state == State::Done => last.replay_id = replay_id,
            Some(_) => self.entries.push_back(Entry {
                replay_id,
                bytes: 0,
                state: State::Done,
            }),
        }
    }

    /// Adds an event that came before, on this stream or a former one: it takes its place, and is as far
    /// as it is.
    pub(super) fn repeated(&mut self, replay_id: OpaqueReplayId) {
        let state = match self.missing.remove(&replay_id) {
            None => return self.reached(replay_id),
            Some(Missing::Abandoned) => State::Abandoned,
            Some(Missing::Pending(number)) => {
                let entry = self.first + self.entries.len() as u64;
                if let Some(former) = self.former.get_mut(&number) {
                    former.entry = Some(entry);
                }
                State::PendingAs(number)
            }
        };
        self.entries.push_back(Entry {
            replay_id,
            bytes: 0,
            state,
        });
    }

    /// Whether an event of a former order is not handled and did not come again.
    pub(super) fn is_missing(&self, replay_id: OpaqueReplayId) -> bool {
        self.missing.contains_key(&replay_id)
    }

    /// Begins another order: nothing of the former one counts for a position. Events that somebody works
    /// on keep their numbers.
    pub(super) fn begin_anew(&mut self) {
        self.position = None;
        for entry in self.entries.drain(..) {
            let (number, id) = (self.first, entry.replay_id);
            self.first += 1;
            let missing = match entry.state {
                State::Done => continue,
                State::Abandoned => Missing::Abandoned,
                State::Pending => {
                    let former = Former {
                        replay_id: id,
                        bytes: entry.bytes,
                        entry: None,
                    };
                    self.former.insert(number, former);
                    Missing::Pending(number)
                }
                State::PendingAs(number) => {
                    if let Some(former) = self.former.get_mut(&number) {
                        former.entry = None;
                    }
                    Missing::Pending(number)
                }
            };
            self.missing.insert(id, missing);
        }
    }

    /// Notes that an event is handled.
    pub(super) fn done(&mut self, number: u64) {
        self.settle(number, State::Done);
        while let Some(entry) = self
            .entries
            .pop_front_if(|entry| entry.state == State::Done)
        {
            self.first += 1;
            self.position = Some(entry.replay_id);
        }
    }

    /// Notes that an event will not be handled: the position stays before it for good.
    pub(super) fn abandoned(&mut self, number: u64) {
        self.settle(number, State::Abandoned);
    }

    fn settle(&mut self, number: u64, state: State) {
        let bytes = match self.entry(number) {
            Some(entry) if entry.state == State::Pending => {
                entry.state = state;
                entry.bytes
            }
            _ => match self.former.remove(&number) {
                Some(former) => self.settle_former(former, state),
                None => {
                    debug_assert!(false, "an event is settled once");
                    return;
                }
            },
        };
        self.pending -= 1;
        self.pending_bytes -= bytes;
    }

    /// Settles an event where it is now, and returns its bytes.
    fn settle_former(&mut self, former: Former, state: State) -> usize {
        match former.entry {
            Some(number) => {
                if let Some(entry) = self.entry(number) {
                    entry.state = state;
                }
            }
            None if state == State::Done => _ = self.missing.remove(&former.replay_id),
            None => _ = (self.missing).insert(former.replay_id, Missing::Abandoned),
        }
        former.bytes
    }

    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let index = number.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }

    /// Everything up to here is handled; `None` if nothing was received yet, or nothing of this order.
    pub(super) fn position(&self) -> Option<OpaqueReplayId> {
        self.position
    }

    /// Events that somebody works on.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Their bytes.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// What is kept because an earlier event is not handled, that event among it; and what is not handled
    /// of former orders.
    pub(super) fn span(&self) -> usize {
        self.entries.len() + self.missing.len()
    }

    /// Whether an event was given up, so that nothing behind it can be left behind.
    pub(super) fn is_stuck(&self) -> bool {
        let first = self.entries.front();
        first.is_some_and(|entry| entry.state == State::Abandoned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u64) -> OpaqueReplayId {
        OpaqueReplayId::new(&number.to_be_bytes()).unwrap()
    }

    #[test]
    fn the_position_moves_over_what_is_done_without_a_gap() {
        let mut progress = Progress::default();
        let events: Vec<u64> = (1..=3).map(|n| progress.received(id(n), 10)).collect();
        progress.reached(id(9));
        assert_eq!((progress.pending(), progress.pending_bytes()), (3, 30));
        progress.done(events[1]);
        progress.done(events[2]);
        assert_eq!(progress.position(), None);
        progress.done(events[0]);
        assert_eq!(
            progress.position(),
            Some(id(9)),
            "with what was told besides"
        );
        assert_eq!((progress.pending(), progress.span()), (0, 0));
    }

    #[test]
    fn without_events_the_position_moves_at_once() {
        let mut progress = Progress::default();
        progress.reached(id(5));
        assert_eq!(progress.position(), Some(id(5)));
        let event = progress.received(id(6), 1);
        progress.reached(id(7));
        progress.reached(id(8));
        assert_eq!(progress.span(), 2, "positions merge");
        assert_eq!(progress.position(), Some(id(5)));
        progress.done(event);
        assert_eq!(progress.position(), Some(id(8)));
    }

    #[test]
    fn nothing_passes_an_event_that_was_given_up() {
        let mut progress = Progress::default();
        let first = progress.received(id(1), 1);
        let second = progress.received(id(2), 1);
        progress.abandoned(first);
        progress.done(second);
        assert_eq!(progress.position(), None);
        assert!(progress.is_stuck());
        assert_eq!(progress.pending(), 0, "it takes no room");
    }

    #[test]
    fn what_comes_again_takes_its_place_in_the_new_order() {
        let mut progress = Progress::default();
        let handled = progress.received(id(1), 1);
        let second = progress.received(id(2), 10);
        let third = progress.received(id(3), 10);
        progress.done(handled);
        progress.begin_anew();
        assert_eq!(progress.position(), None, "it is one of the former order");
        progress.repeated(id(3));
        progress.repeated(id(1));
        progress.repeated(id(2));
        assert_eq!((progress.pending(), progress.pending_bytes()), (2, 20));
        progress.done(second);
        assert_eq!(progress.position(), None, "another event is before it now");
        progress.done(third);
        assert_eq!(progress.position(), Some(id(2)));
        assert_eq!((progress.pending_bytes(), progress.span()), (0, 0));
    }

    #[test]
    fn what_does_not_come_again_holds_nothing_back() {
        let mut progress = Progress::default();
        let gone = progress.received(id(1), 10);
        progress.begin_anew();
        let event = progress.received(id(2), 5);
        progress.done(event);
        assert_eq!(progress.position(), Some(id(2)));
        let kept = (progress.pending(), progress.pending_bytes());
        assert_eq!(kept, (1, 10), "somebody works on it still");
        progress.done(gone);
        assert_eq!((progress.pending(), progress.span()), (0, 0));
    }

    #[test]
    fn an_event_that_was_given_up_holds_back_what_is_behind_it_once_it_comes_again() {
        let mut progress = Progress::default();
        let events: Vec<u64> = (1..=2).map(|n| progress.received(id(n), 1)).collect();
        progress.abandoned(events[0]);
        progress.begin_anew();
        assert!(!progress.is_stuck());
        progress.abandoned(events[1]);
        progress.repeated(id(2));
        progress.repeated(id(1));
        assert!(progress.is_stuck());
        assert_eq!((progress.pending(), progress.span()), (0, 2));
    }

    /// What may happen to [`Progress`].
    #[derive(Clone, Debug)]
    enum Step {
        Receive,
        Told,
        Repeat(prop::sample::Index),
        Settle(prop::sample::Index, bool),
        BeginAnew,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Receive),
            1 => Just(Step::Told),
            6 => any::<prop::sample::Index>().prop_map(Step::Repeat),
            6 => (any::<prop::sample::Index>(), prop::bool::weighted(0.9))
                .prop_map(|(index, is_done)| Step::Settle(index, is_done)),
            2 => Just(Step::BeginAnew),
        ]
    }

    /// An event as the model has it; or a position that was told, which is done and comes once.
    struct Modelled {
        number: u64,
        state: State,
    }

    proptest! {
        #[test]
        fn the_position_is_one_of_the_order_of_the_stream(
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            let mut progress = Progress::default();
            let mut all: Vec<Modelled> = Vec::new();
            // Of this stream, as places in `all`.
            let mut order: Vec<usize> = Vec::new();
            for step in steps {
                match step {
                    Step::Receive => {
                        let number = progress.received(id(all.len() as u64), 3);
                        order.push(all.len());
                        all.push(Modelled { number, state: State::Pending });
                    }
                    Step::Told => {
                        progress.reached(id(all.len() as u64));
                        order.push(all.len());
                        all.push(Modelled { number: 0, state: State::Done });
                    }
                    Step::Repeat(index) => {
                        let former: Vec<usize> =
                            (0..all.len()).filter(|n| !order.contains(n)).collect();
                        if !former.is_empty() {
                            let n = *index.get(&former);
                            progress.repeated(id(n as u64));
                            order.push(n);
                        }
                    }
                    Step::Settle(index, is_done) => {
                        let pending = all.iter_mut().filter(|one| one.state == State::Pending);
                        let mut pending: Vec<&mut Modelled> = pending.collect();
                        if !pending.is_empty() {
                            let place = index.index(pending.len());
                            let number = pending[place].number;
                            pending[place].state = match is_done {
                                true => State::Done,
                                false => State::Abandoned,
                            };
                            match is_done {
                                true => progress.done(number),
                                false => progress.abandoned(number),
                            }
                        }
                    }
                    Step::BeginAnew => {
                        progress.begin_anew();
                        order.clear();
                    }
                }
                let is_done = |&&n: &&usize| all[n].state == State::Done;
                let done = order.iter().take_while(is_done).count();
                let last = done.checked_sub(1).map(|last| id(order[last] as u64));
                prop_assert_eq!(progress.position(), last);
                let next = order.get(done);
                let is_stuck = next.is_some_and(|&n| all[n].state == State::Abandoned);
                prop_assert_eq!(progress.is_stuck(), is_stuck);
                let pending = all.iter().filter(|one| one.state == State::Pending).count();
                let counted = (progress.pending(), progress.pending_bytes());
                prop_assert_eq!(counted, (pending, 3 * pending));
                let mut missing = 0;
                for (n, one) in all.iter().enumerate() {
                    let is_missing = one.state != State::Done && !order.contains(&n);
                    prop_assert_eq!(progress.is_missing(id(n as u64)), is_missing);
                    missing += usize::from(is_missing);
                }
                prop_assert!(progress.span() <= missing + order.len() - done);
            }
        }

        #[test]
        fn the_position_is_the_last_of_the_longest_done_prefix(
            count in 1_usize..60,
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut progress = Progress::default();
            let mut open: Vec<(usize, u64)> = (0..count)
                .map(|n| (n, progress.received(id(n as u64 + 1), 1)))
                .collect();
            let mut is_done = vec![false; count];
            for index in order {
                if open.is_empty() {
                    break;
                }
                let (n, number) = open.swap_remove(index.index(open.len()));
                is_done[n] = true;
                progress.done(number);
                let prefix = is_done.iter().take_while(|&&done| done).count() as u64;
                prop_assert_eq!(progress.position(), (prefix > 0).then(|| id(prefix)));
                prop_assert_eq!(progress.pending(), open.len());
            }
        }
    }
}
