//! How far a subscription is: what was received, what is handled, and the position behind which
//! nothing is left to do.
//!
//! Events may be done in any order; the position only ever moves over what is done without a gap, so
//! a crash repeats events and never skips one. No I/O and no clock here.

use std::collections::VecDeque;

use super::OpaqueReplayId;

/// What was received and not yet left behind, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Progress {
    entries: VecDeque<Entry>,
    /// The number of the first entry; each later one has the next number.
    first: u64,
    pending: usize,
    pending_bytes: usize,
    position: Option<OpaqueReplayId>,
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
    /// An event that nobody works on any more and that was not handled: nothing passes it.
    Abandoned,
    /// A handled event, or a position that a response told besides its events.
    Done,
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
        let index = number.checked_sub(self.first);
        let entry = index.and_then(|index| self.entries.get_mut(usize::try_from(index).ok()?));
        let Some(entry) = entry.filter(|entry| entry.state == State::Pending) else {
            debug_assert!(false, "an event is settled once");
            return;
        };
        entry.state = state;
        self.pending -= 1;
        self.pending_bytes -= entry.bytes;
    }

    /// Everything up to here is handled; `None` if nothing was received yet.
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

    /// What is kept because an earlier event is not handled, that event among it.
    pub(super) fn span(&self) -> usize {
        self.entries.len()
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

    proptest! {
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
