//! What a managed subscription may send once more: everything since its last commit.
//!
//! The gateway begins each stream behind the last commit, and what was received since is in memory
//! still, handled or in flight. It is told by its replay ids, which a second delivery has again.

use std::collections::{HashSet, VecDeque};

use super::OpaqueReplayId;

/// Replay ids since the last commit that was answered.
#[derive(Debug, Default)]
pub(super) struct Redelivery {
    /// In the order in which they came: those of events, and positions that responses told.
    since_commit: VecDeque<OpaqueReplayId>,
    known: HashSet<OpaqueReplayId>,
    /// Commits that were sent on this stream, with their numbers.
    sent: VecDeque<(u64, OpaqueReplayId)>,
}

impl Redelivery {
    /// A stream begins: commits without an answer have none to come.
    pub(super) fn new_stream(&mut self) {
        self.sent.clear();
    }

    /// An event came, or a position was told.
    pub(super) fn reached(&mut self, id: OpaqueReplayId) {
        if self.known.insert(id) {
            self.since_commit.push_back(id);
        }
    }

    /// Whether an event came before.
    pub(super) fn is_repeated(&self, id: OpaqueReplayId) -> bool {
        self.known.contains(&id)
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
        if self.known.contains(&position) {
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
    fn a_commit_of_an_older_position_forgets_nothing() {
        let mut redelivery = Redelivery::default();
        redelivery.reached(id(4));
        redelivery.committed(id(1), 1);
        assert_eq!(redelivery.answered(1), Some(id(1)));
        assert!(redelivery.is_repeated(id(4)));
    }
}
