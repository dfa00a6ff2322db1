//! The live end of a log: head, what is known of each topic, and the most recent blocks.
//!
//! Shared by the backends that keep their blocks in this process. One short lock guards all of it,
//! so a reader sees blocks and head change together; it is never held across an await or a call of
//! the operating system.
//!
//! The ring holds, for each topic, every block after that topic's [`Topic::behind`]. So a reader
//! that is past it reads the ring alone and one that is not reads storage alone: between the two
//! there is neither a gap nor a block seen twice.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{Block, PositionError, ReadBatch, TopicState, Watcher};
use crate::{
    clock::Timestamp,
    types::{Position, Start, TopicId},
};

/// The live end of one log.
#[derive(Debug)]
pub(super) struct Tail {
    inner: Mutex<Inner>,
    /// Bounds the ring; without it nothing leaves the ring but by [`Tail::purge_oldest`].
    budget: Option<Arc<RingBudget>>,
}

#[derive(Debug, Default)]
struct Inner {
    head: Position,
    trim: Position,
    /// When the newest event was appended.
    last_at: Timestamp,
    topics: HashMap<TopicId, Topic>,
    /// The topic of each block in the ring, in the order of the log.
    order: VecDeque<TopicId>,
    ring_bytes: usize,
    lost: Vec<LostRange>,
}

#[derive(Debug, Default)]
struct Topic {
    state: TopicState,
    is_deleted: bool,
    /// Position of the topic's newest event that is not in the ring.
    behind: Position,
    blocks: VecDeque<Arc<Block>>,
    /// Made when the topic is first watched.
    sender: Option<watch::Sender<Position>>,
}

/// Positions that were given out and lost: those after `after` and before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LostRange {
    pub(super) after: Position,
    pub(super) until: Position,
}

/// How far a topic is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trim {
    /// The last position that is.
    pub(super) position: Position,
    /// The topic's events up to there.
    pub(super) ordinal: u64,
    /// None of them was appended later.
    pub(super) at: Timestamp,
}

impl Trim {
    /// Everything up to the end of `block`, which is of the topic.
    pub(super) fn through(block: &Block) -> Self {
        Self {
            position: block.last(),
            ordinal: block.ordinal() + block.event_count() as u64,
            at: block.appended_at(),
        }
    }
}

/// What a log knows when it is opened.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) head: Position,
    pub(super) trim: Position,
    pub(super) topics: Vec<(TopicId, TopicState)>,
    pub(super) lost: Vec<LostRange>,
}

/// Where a reader finds what it asked for.
#[derive(Debug)]
pub(super) enum TailRead {
    /// Here.
    Ring(ReadBatch),
    /// In storage, up to this head.
    Storage {
        /// The last position that may be read.
        head: Position,
    },
}

impl Tail {
    pub(super) fn new(restored: Restored, budget: Option<Arc<RingBudget>>) -> Self {
        let times = restored.topics.iter().map(|(_, state)| state.last_at);
        let last_at = times.max().unwrap_or_default();
        let topic = |(id, state): (TopicId, TopicState)| {
            let topic = Topic {
                state,
                behind: state.last,
                ..Topic::default()
            };
            (id, topic)
        };
        if let Some(budget) = &budget {
            budget.logs.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            inner: Mutex::new(Inner {
                head: restored.head,
                trim: restored.trim,
                last_at,
                topics: restored.topics.into_iter().map(topic).collect(),
                lost: restored.lost,
                ..Inner::default()
            }),
            budget,
        }
    }

    /// Shows `blocks`, which are durable, to readers, moves the head to the last one, and then wakes
    /// whoever watches their topics.
    pub(super) fn publish(&self, blocks: Vec<Arc<Block>>) {
        let mut wakes: Vec<(watch::Sender<Position>, Position)> = Vec::new();
        let mut inner = self.lock();
        for block in blocks {
            let last = block.last();
            debug_assert!(last > inner.head, "positions rise");
            inner.head = last;
            inner.last_at = block.appended_at();
            let weight = weight(&block);
            inner.ring_bytes += weight;
            inner.order.push_back(block.topic());
            if let Some(budget) = &self.budget {
                budget.used.fetch_add(weight, Ordering::Relaxed);
            }
            let topic = inner.topics.entry(block.topic()).or_default();
            topic.state.last = last;
            topic.state.ordinal = block.ordinal() + block.event_count() as u64;
            topic.state.last_at = block.appended_at();
            topic.blocks.push_back(block);
            if let Some(sender) = &topic.sender {
                // Blocks of one topic tend to follow each other; one wake is enough for them.
                match wakes.last_mut() {
                    Some((before, position)) if before.same_channel(sender) => *position = last,
                    _ => wakes.push((sender.clone(), last)),
                }
            }
        }
        self.keep_to_budget(&mut inner);
        drop(inner);
        for (sender, last) in wakes {
            sender.send_replace(last);
        }
    }

    /// Gives ring space back that other logs have a right to.
    pub(super) fn trim_ring(&self) {
        self.keep_to_budget(&mut self.lock());
    }

    /// Says whether a reader of `topics` may go on from `position`.
    pub(super) fn check(
        &self,
        topics: &[TopicId],
        position: Position,
    ) -> Result<(), PositionError> {
        self.lock().check(topics, position)
    }

    pub(super) fn resolve(
        &self,
        topics: &[TopicId],
        start: Start,
    ) -> Result<Position, PositionError> {
        let inner = self.lock();
        match start {
            Start::Latest => Ok(inner.head),
            Start::Earliest => Ok(inner.newest_of(topics, TopicState::earliest)),
            Start::After(position) => inner.check(topics, position).map(|()| position),
        }
    }

    /// Reads from the ring if everything after `after` is there.
    pub(super) fn read(
        &self,
        topics: &[TopicId],
        after: Position,
        bytes_max: usize,
    ) -> Result<TailRead, PositionError> {
        let inner = self.lock();
        inner.check(topics, after)?;
        let known = || topics.iter().filter_map(|topic| inner.topics.get(topic));
        if known().any(|topic| topic.behind > after) {
            return Ok(TailRead::Storage { head: inner.head });
        }
        let blocks = inner.collect(topics, after, bytes_max);
        let examined = blocks.last().map_or(inner.head, |block| block.last());
        Ok(TailRead::Ring(ReadBatch { blocks, examined }))
    }

    /// See [`crate::event_log::TenantLog::position_at`]; `None` if the ring has nothing that was
    /// appended before `at`. What it has then is newer than all that it has not.
    pub(super) fn position_at(&self, at: Timestamp) -> Option<Position> {
        let inner = self.lock();
        if at > inner.last_at {
            return Some(inner.head);
        }
        let before = inner.topics.values().filter_map(|topic| {
            let blocks = &topic.blocks;
            let count = blocks.partition_point(|block| block.appended_at() < at);
            Some(blocks[count.checked_sub(1)?].last())
        });
        before.max()
    }

    pub(super) fn watch(&self, topics: &[TopicId]) -> Watcher {
        let mut inner = self.lock();
        let receiver = |id: &TopicId| {
            let topic = inner.topics.entry(*id).or_default();
            let last = topic.state.last;
            let sender = topic.sender.get_or_insert_with(|| watch::Sender::new(last));
            sender.subscribe()
        };
        Watcher::new(topics.iter().map(receiver).collect())
    }

    pub(super) fn topic(&self, topic: TopicId) -> TopicState {
        let inner = self.lock();
        inner
            .topics
            .get(&topic)
            .map(|topic| topic.state)
            .unwrap_or_default()
    }

    /// Head and trim.
    pub(super) fn ends(&self) -> (Position, Position) {
        let inner = self.lock();
        (inner.head, inner.trim)
    }

    /// Bytes of the blocks in the ring, with what it costs to keep them.
    pub(super) fn ring_bytes(&self) -> usize {
        self.lock().ring_bytes
    }

    /// Removes the oldest blocks of the ring for good while `is_due` says so of the oldest one and
    /// the bytes in the ring, and trims their topics.
    pub(super) fn purge_oldest(&self, is_due: impl Fn(&Block, usize) -> bool) {
        let mut inner = self.lock();
        while let Some(block) = inner.oldest() {
            if !is_due(block, inner.ring_bytes) {
                break;
            }
            let Some(block) = self.evict(&mut inner) else {
                break;
            };
            let topic = inner.topics.entry(block.topic()).or_default();
            topic.state.raise(Trim::through(&block));
            inner.trim = block.last();
        }
    }

    /// Trims topics, since storage is about to remove everything up to `trim`.
    pub(super) fn purge(&self, trim: Position, topics: impl IntoIterator<Item = (TopicId, Trim)>) {
        let mut inner = self.lock();
        inner.trim = inner.trim.max(trim);
        for (id, trim) in topics {
            inner.topics.entry(id).or_default().state.raise(trim);
        }
        while inner.oldest().is_some_and(|block| block.last() <= trim) {
            self.evict(&mut inner);
        }
    }

    /// Trims one topic, and lets its blocks up to there go.
    pub(super) fn purge_topic(&self, id: TopicId, trim: Trim) {
        let mut inner = self.lock();
        inner.topics.entry(id).or_default().state.raise(trim);
        self.change_ring(&mut inner, id, |block| {
            match block.last() <= trim.position {
                true => Vec::new(),
                false => vec![Arc::clone(block)],
            }
        });
    }

    /// The blocks of `topic` in the ring, oldest first.
    pub(super) fn blocks(&self, topic: TopicId) -> Vec<Arc<Block>> {
        let inner = self.lock();
        let topic = inner.topics.get(&topic);
        topic.map_or_else(Vec::new, |topic| topic.blocks.iter().cloned().collect())
    }

    /// Takes single events of a topic out of the ring; `erased` is sorted. Returns how many were
    /// there.
    pub(super) fn erase(&self, id: TopicId, erased: &[Position]) -> u64 {
        let mut inner = self.lock();
        let mut count = 0;
        self.change_ring(&mut inner, id, |block| {
            let from = erased.partition_point(|position| *position < block.first());
            let is_hit = erased.get(from).is_some_and(|next| *next <= block.last());
            if !is_hit {
                return vec![Arc::clone(block)];
            }
            let left = block.without(erased);
            let left_count: usize = left.iter().map(Block::event_count).sum();
            count += (block.event_count() - left_count) as u64;
            left.into_iter().map(Arc::new).collect()
        });
        count
    }

    /// Notes how long a topic keeps its events.
    pub(super) fn set_retention(&self, id: TopicId, retention: Option<Duration>) {
        self.lock().topics.entry(id).or_default().state.retention = retention;
    }

    /// How long topics keep their events, of those that say so themselves.
    pub(super) fn retentions(&self) -> Vec<(TopicId, Duration)> {
        let inner = self.lock();
        let retention = |(id, topic): (&TopicId, &Topic)| Some((*id, topic.state.retention?));
        inner.topics.iter().filter_map(retention).collect()
    }

    /// Lets go of a topic: whoever reads it is told that it is deleted, now or when they ask.
    pub(super) fn delete(&self, id: TopicId) {
        let mut inner = self.lock();
        let topic = inner.topics.entry(id).or_default();
        topic.is_deleted = true;
        topic.state.raise(Trim {
            position: topic.state.last,
            ordinal: topic.state.ordinal,
            at: topic.state.last_at,
        });
        let (sender, last) = (topic.sender.clone(), topic.state.last);
        self.change_ring(&mut inner, id, |_| Vec::new());
        drop(inner);
        if let Some(sender) = sender {
            sender.send_replace(last);
        }
    }

    /// Puts for each block of a topic in the ring what `change` makes of it.
    fn change_ring(
        &self,
        inner: &mut Inner,
        id: TopicId,
        mut change: impl FnMut(&Arc<Block>) -> Vec<Arc<Block>>,
    ) {
        let Some(topic) = inner.topics.get_mut(&id) else {
            return;
        };
        let weigh = |blocks: &VecDeque<Arc<Block>>| blocks.iter().map(|b| weight(b)).sum::<usize>();
        let before = weigh(&topic.blocks);
        topic.blocks = topic.blocks.iter().flat_map(&mut change).collect();
        // A block that was split may weigh more than it did.
        let after = weigh(&topic.blocks);
        inner.ring_bytes = inner.ring_bytes + after - before;
        if let Some(budget) = &self.budget {
            budget.used.fetch_add(after, Ordering::Relaxed);
            budget.used.fetch_sub(before, Ordering::Relaxed);
        }
        inner.put_in_order();
    }

    /// Every topic that ever had an event.
    pub(super) fn topics(&self) -> Vec<(TopicId, TopicState)> {
        let inner = self.lock();
        let topics = inner.topics.iter().map(|(id, topic)| (*id, topic.state));
        topics
            .filter(|(_, state)| state.last > Position::ZERO)
            .collect()
    }

    fn keep_to_budget(&self, inner: &mut Inner) {
        let Some(budget) = &self.budget else { return };
        while budget.is_over(inner.ring_bytes) && self.evict(inner).is_some() {}
    }

    /// Takes the oldest block out of the ring.
    fn evict(&self, inner: &mut Inner) -> Option<Arc<Block>> {
        let id = inner.order.pop_front()?;
        let topic = inner.topics.get_mut(&id)?;
        let block = topic.blocks.pop_front()?;
        topic.behind = block.last();
        let weight = weight(&block);
        inner.ring_bytes -= weight;
        if let Some(budget) = &self.budget {
            budget.used.fetch_sub(weight, Ordering::Relaxed);
        }
        Some(block)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

impl TopicState {
    /// Notes that the topic is purged that far. What is known to be purged stays so.
    pub(super) fn raise(&mut self, trim: Trim) {
        if trim.position > self.trim {
            self.trim = trim.position;
            self.trim_ordinal = trim.ordinal;
            self.trim_at = trim.at;
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let ring_bytes = self.ring_bytes();
        if let Some(budget) = &self.budget {
            budget.used.fetch_sub(ring_bytes, Ordering::Relaxed);
            budget.logs.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Inner {
    fn check(&self, topics: &[TopicId], position: Position) -> Result<(), PositionError> {
        let mut known = topics.iter().filter_map(|topic| self.topics.get(topic));
        if known.any(|topic| topic.is_deleted) {
            return Err(PositionError::TopicDeleted);
        }
        if position > self.head {
            return Err(PositionError::Ahead {
                position,
                head: self.head,
            });
        }
        let trim = self.newest_of(topics, |topic| topic.trim);
        if position < trim {
            return Err(PositionError::Purged {
                position,
                valid_from: trim,
            });
        }
        let lost = |range: &&LostRange| range.after < position && position < range.until;
        match self.lost.iter().find(lost) {
            None => Ok(()),
            Some(range) => Err(PositionError::Lost {
                position,
                valid_from: range.until,
            }),
        }
    }

    /// The newest of a position that is known of each of `topics`.
    fn newest_of(
        &self,
        topics: &[TopicId],
        position: impl Fn(&TopicState) -> Position,
    ) -> Position {
        let known = topics.iter().filter_map(|topic| self.topics.get(topic));
        let positions = known.map(|topic| position(&topic.state));
        positions.max().unwrap_or_default()
    }

    /// Makes the order of the ring anew out of what each topic has in it.
    fn put_in_order(&mut self) {
        let topics = self.topics.iter();
        let firsts = topics.flat_map(|(id, topic)| topic.blocks.iter().map(|b| (b.first(), *id)));
        let mut firsts: Vec<_> = firsts.collect();
        firsts.sort_unstable();
        self.order = firsts.into_iter().map(|(_, id)| id).collect();
    }

    fn oldest(&self) -> Option<&Block> {
        let topic = self.topics.get(self.order.front()?)?;
        topic.blocks.front().map(|block| &**block)
    }

    /// The blocks of `topics` in the ring that hold events after `after`, oldest first.
    fn collect(&self, topics: &[TopicId], after: Position, bytes_max: usize) -> Vec<Arc<Block>> {
        let mut rests: Vec<_> = topics
            .iter()
            .filter_map(|topic| self.topics.get(topic))
            .map(|topic| {
                let from = topic.blocks.partition_point(|block| block.last() <= after);
                topic.blocks.range(from..).peekable()
            })
            .collect();
        let mut next: BinaryHeap<_> = rests
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, rest)| Some(Reverse((rest.peek()?.first(), slot))))
            .collect();
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        let mut bytes = 0;
        while let Some(Reverse((first, slot))) = next.pop() {
            let Some(block) = rests[slot].next() else {
                continue;
            };
            if let Some(following) = rests[slot].peek() {
                next.push(Reverse((following.first(), slot)));
            }
            // A topic that is named twice gives each block twice, one right after the other.
            if blocks.last().is_some_and(|before| before.first() == first) {
                continue;
            }
            bytes += block.bytes().len();
            if bytes > bytes_max && !blocks.is_empty() {
                break;
            }
            blocks.push(Arc::clone(block));
        }
        blocks
    }
}

/// The bytes that the rings of all logs of the process may use together.
///
/// A log that is over its even share gives way while the whole is over its bound. A quiet log does
/// so when [`Tail::trim_ring`] is called, so between two such calls the whole may pass the bound,
/// but not twice it.
#[derive(Debug)]
pub(super) struct RingBudget {
    bytes_max: usize,
    used: AtomicUsize,
    logs: AtomicUsize,
}

impl RingBudget {
    pub(super) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            used: AtomicUsize::new(0),
            logs: AtomicUsize::new(0),
        })
    }

    /// Whether a log that uses `own_bytes` has to give some back.
    fn is_over(&self, own_bytes: usize) -> bool {
        let share = self.bytes_max / self.logs.load(Ordering::Relaxed).max(1);
        self.used.load(Ordering::Relaxed) > self.bytes_max && own_bytes > share
    }
}

/// What a block costs in the ring: its bytes, its index of entries, and its structs.
fn weight(block: &Block) -> usize {
    const OVERHEAD: usize = 160;
    block.bytes().len() + 4 * block.event_count() + OVERHEAD
}

#[cfg(test)]
mod tests;
