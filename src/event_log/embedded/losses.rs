//! Finds out what is missing in a log, by the topics' own counts.
//!
//! Each block says how many events its topic had before it, and each footer how many it had at the
//! segment's end. So the walk through a log knows exactly how many events of which topic are in no
//! file, whatever it was that took them.

use std::collections::BTreeMap;

use super::{
    block::BlockHeader,
    index::{SegmentIndex, before},
    report::LossReport,
    state::{Loss, State},
};
use crate::types::{Position, TopicId, TopicName};

/// A walk through the blocks of a log, from the oldest on.
#[derive(Debug, Default)]
pub(super) struct Losses {
    topics: BTreeMap<TopicId, Seen>,
    found: Vec<Loss>,
    /// Whether nothing was ever purged: then a topic's first event is the first one there is.
    is_whole: bool,
    names: BTreeMap<TopicId, TopicName>,
    deleted: Vec<TopicId>,
}

/// How far a topic was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    last: Position,
    ordinal: u64,
}

impl Losses {
    /// Begins where the state says that the log does. Without a state what the oldest blocks say
    /// is believed.
    pub(super) fn new(state: Option<&State>) -> Self {
        let Some(state) = state else {
            return Self::default();
        };
        let topics = state.topics.iter().map(|base| {
            let seen = Seen {
                last: base.trim,
                ordinal: base.ordinal,
            };
            (base.id, seen)
        });
        let names = state.topics.iter().map(|base| (base.id, base.name.clone()));
        Self {
            topics: topics.collect(),
            found: Vec::new(),
            is_whole: state.trim_group == 0,
            names: names.collect(),
            deleted: state.deleted.clone(),
        }
    }

    /// Takes up an intact block.
    pub(super) fn block(&mut self, header: &BlockHeader, name: Option<&TopicName>) {
        if let Some(name) = name {
            self.names.insert(header.topic, name.clone());
        }
        self.see(
            header.topic,
            header.ordinal,
            before(header.first),
            Seen {
                last: header.last(),
                ordinal: header.ordinal + u64::from(header.count),
            },
        );
    }

    /// Takes up what the footer at the end of a segment says.
    pub(super) fn footer(&mut self, index: &SegmentIndex) {
        for (id, topic) in &index.topics {
            self.names.insert(*id, topic.name.clone());
            let end = Seen {
                last: topic.last,
                ordinal: topic.ordinal_end,
            };
            self.see(*id, topic.ordinal_end, topic.last, end);
        }
    }

    /// Takes up what is known of the end of the log from when it last ended cleanly.
    pub(super) fn end(&mut self, state: &State) {
        for (id, end) in &state.ends {
            self.names.insert(*id, end.name.clone());
            let seen = Seen {
                last: end.last,
                ordinal: end.ordinal,
            };
            self.see(*id, end.ordinal, end.last, seen);
        }
    }

    /// A topic that had `ordinal` events up to `until` has been seen up to `seen`.
    fn see(&mut self, topic: TopicId, ordinal: u64, until: Position, seen: Seen) {
        if self.deleted.binary_search(&topic).is_ok() {
            return;
        }
        let start = Seen {
            last: Position::ZERO,
            ordinal: if self.is_whole { 0 } else { ordinal },
        };
        let known = self.topics.entry(topic).or_insert(start);
        if ordinal > known.ordinal {
            self.found.push(Loss {
                topic,
                after: known.last,
                until,
                events: ordinal - known.ordinal,
            });
        }
        if seen.ordinal > known.ordinal {
            *known = seen;
        }
    }

    /// What was found missing.
    pub(super) fn found(&self) -> &[Loss] {
        &self.found
    }

    /// The same in words, without what `settled` has already.
    pub(super) fn reports(&self, settled: &[Loss]) -> Vec<LossReport> {
        let new = self.found.iter().filter(|loss| !settled.contains(loss));
        new.map(|loss| self.report(loss)).collect()
    }

    pub(super) fn report(&self, loss: &Loss) -> LossReport {
        LossReport {
            topic: loss.topic.get(),
            name: self.names.get(&loss.topic).map(ToString::to_string),
            events: loss.events,
            after: loss.after.get(),
            until: loss.until.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn block(topic: u32, number: u64, ordinal: u64, count: u16) -> BlockHeader {
        BlockHeader {
            topic: TopicId::new(topic),
            first: Position::in_block(number, 0).unwrap(),
            count,
            ordinal,
            appended_at: Timestamp::default(),
            group: number,
            group_len: 0,
            group_offset: 0,
            body_len: 0,
            name_len: 0,
            is_erased: false,
            crc: 0,
        }
    }

    #[test]
    fn gaps_in_a_count_are_losses_of_that_size() {
        let mut losses = Losses::new(Some(&State::new(1)));
        losses.block(&block(1, 2, 0, 3), None);
        losses.block(&block(2, 3, 4, 1), None);
        losses.block(&block(1, 9, 10, 2), None);
        let found: Vec<_> = losses
            .found()
            .iter()
            .map(|l| (l.topic.get(), l.events))
            .collect();
        assert_eq!(found, [(2, 4), (1, 7)]);
        let loss = losses.found()[1];
        assert_eq!(loss.after, Position::in_block(2, 2).unwrap());
        assert_eq!(loss.until, before(Position::in_block(9, 0).unwrap()));
        assert_eq!(losses.reports(&[loss]).len(), 1, "one is settled");
    }

    #[test]
    fn without_a_state_the_oldest_block_is_believed() {
        let mut losses = Losses::new(None);
        losses.block(&block(1, 5, 40, 3), None);
        losses.block(&block(1, 6, 43, 3), None);
        assert_eq!(losses.found(), []);
    }
}
