//! What is where in one segment, topic by topic.
//!
//! The open segment's index grows with each group; that of a sealed one is stored as its footer
//! (see [`super::footer`]). It also carries what is known of every topic of the log up to the
//! segment's end, so the newest index alone is enough to go on writing.

use std::collections::BTreeMap;

use super::block::{BLOCK_HEADER_LEN, BlockHeader};
use crate::{
    clock::Timestamp,
    event_log::{TopicState, tail::Trim},
    types::{
        Position, TopicId, TopicName,
        limits::{INDEX_STEP_BYTES, SEGMENT_INDEX_BYTES_MAX},
    },
};

/// The index of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentIndex {
    pub(super) first_group: u64,
    /// One less than `first_group` while there is none.
    pub(super) last_group: u64,
    /// Position of the newest event up to the segment's end, of an earlier segment if this one has
    /// none.
    pub(super) last: Position,
    pub(super) first_at: Timestamp,
    pub(super) last_at: Timestamp,
    pub(super) blocks: u64,
    pub(super) events: u64,
    /// Where the last block ends in the file.
    pub(super) end: u64,
    /// Every topic of the log that had an event up to the segment's end.
    pub(super) topics: BTreeMap<TopicId, TopicIndex>,
    /// Events that were found lost when the index was made.
    pub(super) holes: Vec<Hole>,
    /// Steps of all topics.
    pub(super) steps: usize,
}

/// One topic in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicIndex {
    pub(super) name: TopicName,
    /// Position of the newest event before the segment; zero if there was none.
    pub(super) before: Position,
    /// Position of the newest event up to the segment's end.
    pub(super) last: Position,
    /// Events before the segment.
    pub(super) ordinal_start: u64,
    /// Events up to the segment's end.
    pub(super) ordinal_end: u64,
    pub(super) last_at: Timestamp,
    /// Position of the newest event that was purged when the index was stored.
    pub(super) trim: Position,
    /// Where the topic's blocks are, in order.
    pub(super) steps: Vec<Step>,
}

/// A stretch of the file that holds consecutive blocks of a topic, maybe with others between.
///
/// A step begins where a block of the topic starts [`INDEX_STEP_BYTES`] or more behind the start of
/// the step before it, so a reader of one topic reads few bytes in vain, and a topic with rare
/// blocks has one step for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Step {
    /// Position of the first event.
    pub(super) first: Position,
    /// Where the first block begins.
    pub(super) offset: u64,
    /// Bytes up to the end of the last block.
    pub(super) len: u32,
    /// Events of the topic before the first one.
    pub(super) ordinal: u64,
    pub(super) appended_at: Timestamp,
}

/// What is known of the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepEnd {
    /// Position of the last event that the step can hold.
    pub(super) last: Position,
    /// Events of the topic up to there.
    pub(super) ordinal: u64,
}

/// Events that were acknowledged and cannot be read any more: those after `after`, up to `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// The topic that lost events; unknown when the header that would tell is damaged.
    pub(super) topic: Option<TopicId>,
    pub(super) after: Position,
    pub(super) until: Position,
    /// Topics that lost nothing, as their ordinals go on without a gap. For holes without a topic.
    pub(super) spared: Vec<TopicId>,
}

impl Hole {
    /// Whether `topic` may have lost events.
    pub(super) fn concerns(&self, topic: TopicId) -> bool {
        match self.topic {
            Some(lost) => lost == topic,
            None => !self.spared.contains(&topic),
        }
    }
}

impl SegmentIndex {
    /// The index of a segment without blocks that follows `before` in the log.
    pub(super) fn following(before: &Self) -> Self {
        let next = |(id, topic): (&TopicId, &TopicIndex)| (*id, topic.following());
        Self {
            first_group: before.last_group + 1,
            last_group: before.last_group,
            last: before.last,
            first_at: before.last_at,
            last_at: before.last_at,
            topics: before.topics.iter().map(next).collect(),
            ..Self::default()
        }
    }

    /// Forgets topics that were deleted, so that the index does not grow with each topic there was.
    pub(super) fn forget(&mut self, deleted: &[TopicId]) {
        for topic in deleted {
            self.topics.remove(topic);
        }
    }

    /// What the topics are called, as far as that is known.
    pub(super) fn names(&self) -> BTreeMap<TopicId, TopicName> {
        let topics = self.topics.iter();
        let named = topics.filter(|(_, topic)| topic.name != unnamed());
        named.map(|(id, topic)| (*id, topic.name.clone())).collect()
    }

    /// Takes up a block that stands at `offset` and ends at `end`.
    ///
    /// `name` is needed for the topic's first block in the segment.
    pub(super) fn add(
        &mut self,
        header: &BlockHeader,
        name: Option<&TopicName>,
        offset: u64,
        end: u64,
    ) {
        if self.blocks == 0 {
            self.first_at = header.appended_at;
        }
        self.blocks += 1;
        if !header.is_erased {
            self.events += u64::from(header.count);
        }
        self.last = header.last();
        self.last_at = header.appended_at;
        self.last_group = header.group;
        self.end = end;
        let topic = match self.topics.get_mut(&header.topic) {
            Some(topic) => topic,
            None => {
                let name = name.cloned().unwrap_or_else(unnamed);
                let topic = TopicIndex::new(name, header.ordinal);
                self.topics.entry(header.topic).or_insert(topic)
            }
        };
        topic.last = header.last();
        topic.ordinal_end = header.ordinal + u64::from(header.count);
        topic.last_at = header.appended_at;
        match topic.steps.last_mut() {
            Some(step) if offset - step.offset < INDEX_STEP_BYTES => {
                step.len = u32::try_from(end - step.offset).expect("a step is at most a group");
            }
            _ => {
                topic.steps.push(Step {
                    first: header.first,
                    offset,
                    len: u32::try_from(end - offset).expect("a block is far below 4 GiB"),
                    ordinal: header.ordinal,
                    appended_at: header.appended_at,
                });
                self.steps += 1;
            }
        }
    }

    /// Where the last block before the time `at` has to be looked for: the stretch from the last step
    /// of all that begins before that time, to the first that does not; `None` if none begins before.
    ///
    /// A block begins less than [`INDEX_STEP_BYTES`] behind its step, so that is how far the stretch
    /// goes at most.
    pub(super) fn stretch_before(&self, at: Timestamp) -> Option<(Step, u64)> {
        let mut last: Option<Step> = None;
        let mut end = self.end;
        for topic in self.topics.values() {
            let begun = topic.steps.partition_point(|step| step.appended_at < at);
            let (before, after) = topic.steps.split_at(begun);
            last = before
                .last()
                .copied()
                .into_iter()
                .chain(last)
                .max_by_key(|step| step.offset);
            end = after.first().map_or(end, |step| step.offset.min(end));
        }
        let step = last?;
        // With the header of a block that begins at the end of that.
        let end_max = step.offset + INDEX_STEP_BYTES + BLOCK_HEADER_LEN as u64;
        Some((step, end.min(end_max)))
    }

    /// Whether a block of `topic` has to carry the topic's name.
    pub(super) fn is_new(&self, topic: TopicId) -> bool {
        let topic = self.topics.get(&topic);
        topic.is_none_or(|topic| topic.steps.is_empty())
    }

    /// Whether the index has grown so large that the segment is better sealed.
    pub(super) fn is_full(&self) -> bool {
        self.steps * size_of::<Step>() >= SEGMENT_INDEX_BYTES_MAX
    }

    /// Number of steps of all topics.
    pub(super) fn step_count(&self) -> usize {
        self.steps
    }

    /// Sets the number of steps, which a footer does not store.
    pub(super) fn count_steps(&mut self) {
        self.steps = self.topics.values().map(|topic| topic.steps.len()).sum();
    }

    /// What each topic is known to hold, apart from what was purged.
    pub(super) fn states(&self) -> impl Iterator<Item = (TopicId, TopicState)> {
        self.topics.iter().map(|(id, topic)| {
            let state = TopicState {
                last: topic.last,
                ordinal: topic.ordinal_end,
                last_at: topic.last_at,
                ..TopicState::default()
            };
            (*id, state)
        })
    }

    /// Roughly the bytes the index takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        const TOPIC_BYTES: usize = 200;
        self.steps * size_of::<Step>() + self.topics.len() * TOPIC_BYTES + 256
    }
}

impl TopicIndex {
    /// A topic whose first event in this log has `ordinal` events before it.
    pub(super) fn new(name: TopicName, ordinal: u64) -> Self {
        Self {
            name,
            before: Position::ZERO,
            last: Position::ZERO,
            ordinal_start: ordinal,
            ordinal_end: ordinal,
            last_at: Timestamp::default(),
            trim: Position::ZERO,
            steps: Vec::new(),
        }
    }

    fn following(&self) -> Self {
        Self {
            name: self.name.clone(),
            before: self.last,
            ordinal_start: self.ordinal_end,
            steps: Vec::new(),
            ..*self
        }
    }

    /// Index of the first step that may hold events after `after`; their number if there is none.
    pub(super) fn first_step_after(&self, after: Position) -> usize {
        if self.last <= after {
            return self.steps.len();
        }
        let behind = self.steps.partition_point(|step| step.first <= after);
        behind.saturating_sub(1)
    }

    /// The end of what is due of the topic up to the segment's end, by the times of its steps; `None`
    /// if nothing is.
    pub(super) fn due(&self, is_due: impl Fn(Timestamp) -> bool) -> Option<Trim> {
        if is_due(self.last_at) {
            return Some(self.end());
        }
        // A step is over before the next one begins, so it is due when that is.
        let begun = self.steps.partition_point(|step| is_due(step.appended_at));
        let last_whole = self.steps.get(begun.checked_sub(2)?)?;
        let end = self.step_end(last_whole.offset);
        Some(Trim {
            position: end.last,
            ordinal: end.ordinal,
            at: self.steps[begun - 1].appended_at,
        })
    }

    /// Everything up to the segment's end.
    pub(super) fn end(&self) -> Trim {
        Trim {
            position: self.last,
            ordinal: self.ordinal_end,
            at: self.last_at,
        }
    }

    /// Where the step at `offset` ends.
    pub(super) fn step_end(&self, offset: u64) -> StepEnd {
        let next = self.steps.partition_point(|step| step.offset <= offset);
        match self.steps.get(next) {
            None => StepEnd {
                last: self.last,
                ordinal: self.ordinal_end,
            },
            Some(step) => StepEnd {
                last: before(step.first),
                ordinal: step.ordinal,
            },
        }
    }
}

/// The position before `position`.
pub(super) fn before(position: Position) -> Position {
    Position::new(position.get().saturating_sub(1)).unwrap_or_default()
}

/// Stands in for the name of a topic that was lost with the block that carried it.
pub const UNNAMED: &str = "/event/unnamed";

fn unnamed() -> TopicName {
    UNNAMED
        .parse()
        .expect("the name keeps to the rules of names")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(topic: u32, block: u64, ordinal: u64) -> BlockHeader {
        BlockHeader {
            topic: TopicId::new(topic),
            first: Position::in_block(block, 0).unwrap(),
            count: 10,
            ordinal,
            appended_at: Timestamp::from_millis(block as i64),
            group: block,
            group_len: 0,
            group_offset: 0,
            body_len: 0,
            name_len: 0,
            is_erased: false,
            crc: 0,
        }
    }

    fn name() -> TopicName {
        "/event/A__e".parse().unwrap()
    }

    #[test]
    fn a_step_begins_each_64_kib_of_its_topic() {
        let mut index = SegmentIndex::default();
        for block in 0..10_u64 {
            let offset = block * 40_000;
            let header = header(1, block, block * 10);
            index.add(&header, Some(&name()), offset, offset + 30_000);
        }
        index.add(&header(2, 10, 0), Some(&name()), 400_000, 400_500);
        let a = &index.topics[&TopicId::new(1)];
        let steps: Vec<_> = a.steps.iter().map(|s| (s.offset, s.len)).collect();
        assert_eq!(
            steps,
            [
                (0, 70_000),
                (80_000, 70_000),
                (160_000, 70_000),
                (240_000, 70_000),
                (320_000, 70_000)
            ]
        );
        assert_eq!(a.ordinal_end, 100);
        assert_eq!(index.topics[&TopicId::new(2)].steps.len(), 1);
        assert_eq!(index.step_count(), 6);
        assert!(!index.is_new(TopicId::new(2)));
        assert!(index.is_new(TopicId::new(3)));

        let after = |block| a.first_step_after(Position::in_block(block, 9).unwrap());
        assert_eq!([9, 8, 3].map(after), [5, 4, 1]);
        let end = |last, ordinal| StepEnd { last, ordinal };
        assert_eq!(a.step_end(0), end(before(a.steps[1].first), 20));
        assert_eq!(a.step_end(320_000), end(a.last, 100));
    }

    #[test]
    fn the_next_segment_knows_what_came_before_it() {
        let mut index = SegmentIndex::default();
        index.add(&header(1, 5, 20), Some(&name()), 0, 100);
        let next = SegmentIndex::following(&index);
        let topic = &next.topics[&TopicId::new(1)];
        assert_eq!(topic.before, header(1, 5, 20).last());
        assert_eq!((topic.ordinal_start, topic.ordinal_end), (30, 30));
        assert!(next.is_new(TopicId::new(1)));
        assert_eq!((next.first_group, next.last_group), (6, 5));
        assert_eq!(next.last, index.last);
    }
}
