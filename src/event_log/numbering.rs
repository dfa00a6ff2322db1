//! Gives out positions: turns bodies, in the order they were accepted, into finished blocks.
//!
//! Pure bookkeeping: no lock, no I/O, no clock of its own. Whoever holds a log's [`Numbering`]
//! decides its order.

use std::{collections::HashMap, sync::Arc};

use super::{Block, BlockBody, LogTopic, PositionRange, Refusal};
use crate::{
    clock::Timestamp,
    types::{Position, TopicId},
};

/// What is needed to number the next block of one log.
#[derive(Debug)]
pub(super) struct Numbering {
    next_block: u64,
    ordinals: HashMap<TopicId, u64>,
    last_at: Timestamp,
}

/// Bodies as finished blocks.
#[derive(Debug)]
pub(super) struct Placed {
    /// At least one block for each topic, at most one for each body, in order.
    pub(super) blocks: Vec<Block>,
    /// The topic of each block.
    pub(super) topics: Vec<Arc<LogTopic>>,
    /// Where the events of each body stand, in the order of the bodies.
    pub(super) ranges: Vec<PositionRange>,
}

impl Numbering {
    /// Goes on with block `next_block`, after events at `last_at`.
    pub(super) fn new(
        next_block: u64,
        last_at: Timestamp,
        ordinals: impl IntoIterator<Item = (TopicId, u64)>,
    ) -> Self {
        Self {
            next_block,
            ordinals: ordinals.into_iter().collect(),
            last_at,
        }
    }

    /// The number that the next block gets.
    pub(super) fn next_block(&self) -> u64 {
        self.next_block
    }

    /// Joins neighbours of one topic and gives every event its position.
    ///
    /// Only neighbours are joined: the order in which the bodies were accepted is kept across
    /// topics too. Time never goes back, whatever `now` says.
    ///
    /// # Errors
    ///
    /// [`Refusal::Exhausted`] when there are not positions enough; nothing was given out.
    pub(super) fn place(
        &mut self,
        bodies: impl ExactSizeIterator<Item = BlockBody>,
        now: Timestamp,
    ) -> Result<Placed, Refusal> {
        if Position::in_block(self.next_block.saturating_add(bodies.len() as u64), 0).is_none() {
            return Err(Refusal::Exhausted);
        }
        self.last_at = self.last_at.max(now);
        let mut placed = Placed {
            blocks: Vec::with_capacity(bodies.len()),
            topics: Vec::with_capacity(bodies.len()),
            ranges: Vec::with_capacity(bodies.len()),
        };
        let mut open: Option<BlockBody> = None;
        for body in bodies {
            let count = body.event_count();
            let index = match open.take() {
                None => {
                    open = Some(body);
                    0
                }
                Some(mut before) => {
                    let index = before.event_count();
                    match before.join(body) {
                        Ok(()) => {
                            open = Some(before);
                            index
                        }
                        Err(body) => {
                            self.finish(before, &mut placed);
                            open = Some(body);
                            0
                        }
                    }
                }
            };
            placed.ranges.push(PositionRange {
                first: Position::in_block(self.next_block, index as u8)
                    .expect("the numbers were counted above"),
                count: count as u32,
            });
        }
        if let Some(body) = open {
            self.finish(body, &mut placed);
        }
        Ok(placed)
    }

    /// Forgets that `blocks` were counted, since they were not stored. Their numbers stay unused.
    pub(super) fn undo(&mut self, blocks: &[Block]) {
        for block in blocks {
            let ordinal = self.ordinals.entry(block.topic()).or_default();
            *ordinal = (*ordinal).min(block.ordinal());
        }
    }

    fn finish(&mut self, body: BlockBody, placed: &mut Placed) {
        let first = Position::in_block(self.next_block, 0).expect("the numbers were counted");
        self.next_block += 1;
        let ordinal = self.ordinals.entry(body.topic().id).or_default();
        let before = *ordinal;
        *ordinal += body.event_count() as u64;
        placed.topics.push(Arc::clone(body.topic()));
        placed.blocks.push(body.seal(first, before, self.last_at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::limits::POSITION_MAX;

    fn body(topic: u32, events: usize) -> BlockBody {
        let topic = LogTopic {
            id: TopicId::new(topic),
            name: "/event/A__e".parse().unwrap(),
        };
        let mut body = BlockBody::with_capacity(Arc::new(topic), 0);
        for _ in 0..events {
            assert!(body.push(&[], None));
        }
        body
    }

    fn firsts(placed: &Placed) -> Vec<(u64, u8, u32)> {
        let ranges = placed.ranges.iter();
        ranges
            .map(|range| (range.first.block(), range.first.index(), range.count))
            .collect()
    }

    #[test]
    fn neighbours_of_one_topic_share_a_block() {
        let mut numbering = Numbering::new(5, Timestamp::default(), []);
        let bodies = vec![body(1, 2), body(1, 3), body(2, 1), body(1, 1)];
        let placed = numbering
            .place(bodies.into_iter(), Timestamp::from_millis(7))
            .unwrap();
        assert_eq!(
            firsts(&placed),
            [(5, 0, 2), (5, 2, 3), (6, 0, 1), (7, 0, 1)]
        );
        let ordinals = placed.blocks.iter().map(|b| (b.topic().get(), b.ordinal()));
        assert_eq!(ordinals.collect::<Vec<_>>(), [(1, 0), (2, 0), (1, 5)]);
        assert_eq!(numbering.next_block(), 8);
    }

    #[test]
    fn time_never_goes_back() {
        let mut numbering = Numbering::new(1, Timestamp::from_millis(50), []);
        let placed = numbering
            .place(vec![body(1, 1)].into_iter(), Timestamp::from_millis(10))
            .unwrap();
        assert_eq!(placed.blocks[0].appended_at(), Timestamp::from_millis(50));
    }

    #[test]
    fn what_was_not_stored_is_not_counted_and_its_numbers_stay_unused() {
        let mut numbering = Numbering::new(1, Timestamp::default(), [(TopicId::new(1), 10)]);
        let bodies = vec![body(1, 256), body(1, 4)];
        let placed = numbering
            .place(bodies.into_iter(), Timestamp::default())
            .unwrap();
        numbering.undo(&placed.blocks);
        let placed = numbering
            .place(vec![body(1, 1)].into_iter(), Timestamp::default())
            .unwrap();
        assert_eq!(placed.blocks[0].ordinal(), 10);
        assert_eq!(placed.blocks[0].first().block(), 3);
    }

    #[test]
    fn the_last_positions_are_refused_rather_than_passed() {
        let mut numbering = Numbering::new(POSITION_MAX >> 8, Timestamp::default(), []);
        let refused = numbering.place(vec![body(1, 1)].into_iter(), Timestamp::default());
        assert_eq!(refused.unwrap_err(), Refusal::Exhausted);
    }
}
