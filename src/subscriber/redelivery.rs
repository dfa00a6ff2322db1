//! What a managed subscription may send once more: everything since its last commit.
//!
//! The gateway begins each stream behind the last commit, and what was received since is in memory
//! still, handled or in flight. It is told by its replay ids, which a second delivery has again.
//!
//! On a shared subscription what comes again comes in another order, and some of it to others. What
//! former streams brought is therefore kept apart until it comes again, and may never do so.

use std::collections::{HashMap, VecDeque};

use super::OpaqueReplayId;
use crate::types::limits::{SUBSCRIBER_IN_FLIGHT, SUBSCRIBER_SPAN_FACTOR};

/// Replay ids of former streams that are kept, the newest of them: of a shared subscription nobody tells
/// which of them went to other streams for good. Ours: what a subscriber keeps behind one slow event,
/// some 10 MB. A handled event whose id is forgotten is handled again if it comes again.
const FORMER_MAX: usize = SUBSCRIBER_IN_FLIGHT as usize * SUBSCRIBER_SPAN_FACTOR;

/// Replay ids since the last commit that was answered.
#[derive(Debug, Default)]
pub(super) struct Redelivery {
    /// In the order in which they came: those of events, and positions that responses told.
    since_commit: VecDeque<OpaqueReplayId>,
    /// Those of former streams, the oldest first. One that came again since stays until the next stream.
    former: VecDeque<OpaqueReplayId>,
    known: HashMap<OpaqueReplayId, Place>,
    /// Commits that were sent on this stream, with their numbers.
    sent: VecDeque<(u64, OpaqueReplayId)>,
}

/// Where a replay id is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    SinceCommit,
    Former,
}

impl Redelivery {
    /// A stream begins: commits without an answer have none to come.
    pub(super) fn new_stream(&mut self) {
        self.sent.clear();
    }

    /// A stream begins whose order is its own: what came on former ones takes its place as it comes again.
    pub(super) fn begin_anew(&mut self) {
        let known = &mut self.known;
        let is_former = |id: &OpaqueReplayId| known.get(id) == Some(&Place::Former);
        self.former.retain(is_former);
        for id in self.since_commit.drain(..) {
            known.insert(id, Place::Former);
            self.former.push_back(id);
        }
        let excess = self.former.len().saturating_sub(FORMER_MAX);
        for id in self.former.drain(..excess) {
            known.remove(&id);
        }
    }

    /// An event came, or a position was told.
    pub(super) fn reached(&mut self, id: OpaqueReplayId) {
        if self.known.insert(id, Place::SinceCommit) != Some(Place::SinceCommit) {
            self.since_commit.push_back(id);
        }
    }

    /// Whether everything that this stream brought is committed.
    pub(super) fn is_committed(&self) -> bool {
        self.since_commit.is_empty()
    }

    /// How much may come again at most.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether an event came before.
    pub(super) fn is_repeated(&self, id: OpaqueReplayId) -> bool {
        self.known.contains_key(&id)
    }

    /// A position was committed, as the commit of this number.
    pub(super) fn committed(&mut self, position: OpaqueReplayId, number: u64) {
        self.sent.push_back((number, position));
    }

    /// Commits up to this number are answered. Returns the position that is committed by it.
    pub(super) fn answered(&mut self, number: u64) -> Option<OpaqueReplayId> {
        let mut committed = None;
        while let Some((_, position)) = self.sent.pop_front_if(|(sent, _)| *sent <= number) {
            committed = Some(position);
        }
        let position = committed?;
        if self.known.get(&position) == Some(&Place::SinceCommit) {
            while let Some(id) = self.since_commit.pop_front() {
                self.known.remove(&id);
                if id == position {
                    break;
                }
            }
        }
        Some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> OpaqueReplayId {
        OpaqueReplayId::new(&number.to_be_bytes()).unwrap()
    }

    #[test]
    fn what_was_received_since_the_last_commit_is_known() {
        let mut redelivery = Redelivery::default();
        (1..=5).for_each(|n| redelivery.reached(id(n)));
        redelivery.committed(id(2), 1);
        redelivery.committed(id(3), 2);
        assert_eq!(redelivery.answered(0), None);
        assert_eq!(redelivery.answered(2), Some(id(3)), "one answer for both");
        let known: Vec<u64> = (1..=6).filter(|&n| redelivery.is_repeated(id(n))).collect();
        assert_eq!(known, [4, 5]);
        redelivery.new_stream();
        assert_eq!(redelivery.answered(9), None, "answers come on their stream");
    }

    #[test]
    fn what_comes_again_is_forgotten_in_the_order_of_its_new_stream() {
        let mut redelivery = Redelivery::default();
        (1..=3).for_each(|n| redelivery.reached(id(n)));
        redelivery.begin_anew();
        assert!(redelivery.is_committed(), "the stream brought nothing yet");
        [3, 1, 4]
            .into_iter()
            .for_each(|n| redelivery.reached(id(n)));
        redelivery.committed(id(1), 1);
        assert_eq!(redelivery.answered(1), Some(id(1)));
        let known: Vec<u64> = (1..=5).filter(|&n| redelivery.is_repeated(id(n))).collect();
        assert_eq!(known, [2, 4], "the second went elsewhere, or is to come");
        redelivery.begin_anew();
        redelivery.reached(id(2));
        redelivery.begin_anew();
        assert_eq!(redelivery.len(), 2);
        assert_eq!(redelivery.former.len(), 2, "each is kept once");
    }

    #[test]
    fn the_oldest_ids_that_do_not_come_again_are_forgotten() {
        let mut redelivery = Redelivery::default();
        redelivery.reached(id(0));
        redelivery.begin_anew();
        (1..=FORMER_MAX as u64).for_each(|n| redelivery.reached(id(n)));
        redelivery.begin_anew();
        assert_eq!(redelivery.len(), FORMER_MAX);
        let ends = [0, 1, FORMER_MAX as u64].map(|n| redelivery.is_repeated(id(n)));
        assert_eq!(ends, [false, true, true]);
    }

    #[test]
    fn a_commit_of_an_older_position_forgets_nothing() {
        let mut redelivery = Redelivery::default();
        redelivery.reached(id(4));
        redelivery.committed(id(1), 1);
        assert_eq!(redelivery.answered(1), Some(id(1)));
        assert!(redelivery.is_repeated(id(4)));
    }
}
