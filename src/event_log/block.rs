//! Blocks: consecutive events of one topic, kept as the bytes a subscriber gets.
//!
//! An **entry** is one event as it stands in a `FetchResponse`: the tag and length of the field
//! `events`, then a `ConsumerEvent` whose last ten bytes are the replay id. Whoever accepts an event
//! lays it out once in a [`BlockBody`], with the replay id left blank; the log fills the blanks in
//! when it gives out positions, and from then on an entry is only ever copied.
//!
//! ```text
//! 0a len  0a len  [0a len id]  ProducerEvent as published  12 0a  replay id
//! ```
//!
//! Source: `proto/pubsub_api.proto`, `FetchResponse.events` and `message ConsumerEvent`.

use std::{ops::Range, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use super::LogTopic;
use crate::{
    clock::Timestamp,
    types::{
        Position, ReplayId, TopicId,
        limits::{BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX},
    },
};

/// Tag of `FetchResponse.events`, of `ConsumerEvent.event` and of `ProducerEvent.id`: field 1.
const FIELD_1: u8 = 0x0a;
/// Tag of `ConsumerEvent.replay_id`: field 2.
const FIELD_2: u8 = 0x12;
/// Tag, length and value of a replay id.
const REPLAY_ID_FIELD_LEN: usize = 2 + ReplayId::LEN;

/// Room that a block does not use is given back if it is more than one part in so many.
const SPARE_PARTS_MIN: usize = 4;

/// Events of one topic on their way into the log, laid out but without positions.
///
/// Stored whole or not at all, in one block. At most [`BLOCK_EVENTS_MAX`] events and
/// [`BLOCK_BYTES_MAX`] bytes, or one larger event.
#[derive(Debug)]
pub struct BlockBody {
    topic: Arc<LogTopic>,
    bytes: BytesMut,
    ends: Vec<u32>,
}

impl BlockBody {
    /// A body without events, with room for `bytes` bytes.
    pub fn with_capacity(topic: Arc<LogTopic>, bytes: usize) -> Self {
        Self {
            topic,
            bytes: BytesMut::with_capacity(bytes),
            ends: Vec::new(),
        }
    }

    /// Lays out an encoded `ProducerEvent` as the body's next entry, unless the body is full.
    ///
    /// `id`, when given, is put before the event's own fields, which must not hold one.
    /// Returns whether the event was taken; an empty body takes any.
    #[must_use]
    pub fn push(&mut self, event: &[u8], id: Option<&str>) -> bool {
        let id_len = id.map_or(0, |id| 1 + varint_len(id.len()) + id.len());
        let event_len = id_len + event.len();
        let consumer_event_len = 1 + varint_len(event_len) + event_len + REPLAY_ID_FIELD_LEN;
        let entry_len = 1 + varint_len(consumer_event_len) + consumer_event_len;
        let full =
            self.ends.len() == BLOCK_EVENTS_MAX || self.bytes.len() + entry_len > BLOCK_BYTES_MAX;
        if full && !self.ends.is_empty() {
            return false;
        }
        self.bytes.reserve(entry_len);
        put_key_and_len(&mut self.bytes, FIELD_1, consumer_event_len);
        put_key_and_len(&mut self.bytes, FIELD_1, event_len);
        if let Some(id) = id {
            put_key_and_len(&mut self.bytes, FIELD_1, id.len());
            self.bytes.put_slice(id.as_bytes());
        }
        self.bytes.put_slice(event);
        put_key_and_len(&mut self.bytes, FIELD_2, ReplayId::LEN);
        self.bytes.put_bytes(0, ReplayId::LEN);
        // A body is at most one largest event, far below 4 GiB.
        self.ends.push(self.bytes.len() as u32);
        true
    }

    /// Adds the events of `other` behind its own if they are of the same topic and fit, else gives
    /// `other` back.
    ///
    /// # Errors
    ///
    /// `other`, untouched.
    pub fn join(&mut self, other: Self) -> Result<(), Self> {
        let fits = self.topic.id == other.topic.id
            && self.ends.len() + other.ends.len() <= BLOCK_EVENTS_MAX
            && self.bytes.len() + other.bytes.len() <= BLOCK_BYTES_MAX;
        if !fits {
            return Err(other);
        }
        let base = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| base + end));
        Ok(())
    }

    /// Keeps the events that `is_kept` wants, by their place among them.
    pub fn retain(&mut self, mut is_kept: impl FnMut(usize) -> bool) {
        let mut bytes = BytesMut::with_capacity(self.bytes.len());
        let mut ends = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for (index, &end) in self.ends.iter().enumerate() {
            if is_kept(index) {
                bytes.put_slice(&self.bytes[start..end as usize]);
                ends.push(bytes.len() as u32);
            }
            start = end as usize;
        }
        (self.bytes, self.ends) = (bytes, ends);
    }

    /// The topic the events belong to.
    pub fn topic(&self) -> &Arc<LogTopic> {
        &self.topic
    }

    /// Number of events.
    pub fn event_count(&self) -> usize {
        self.ends.len()
    }

    /// Size of the laid-out events, in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Fills in the replay ids and returns the finished block.
    ///
    /// # Panics
    ///
    /// If the body is empty, or `first` leaves no room for its events within one block.
    pub fn seal(mut self, first: Position, ordinal: u64, appended_at: Timestamp) -> Block {
        assert!(!self.ends.is_empty(), "a block has at least one event");
        assert!(usize::from(first.index()) + self.ends.len() <= BLOCK_EVENTS_MAX);
        for (index, &end) in (first.index()..=u8::MAX).zip(&self.ends) {
            let position = Position::in_block(first.block(), index)
                .expect("the first position of the same block exists");
            let end = end as usize;
            self.bytes[end - ReplayId::LEN..end].copy_from_slice(position.replay_id().as_bytes());
        }
        // A block stays in memory for a while, and with it what joining bodies left over.
        let spare = self.bytes.capacity() - self.bytes.len();
        let bytes = match spare > self.bytes.len() / SPARE_PARTS_MIN {
            true => Bytes::copy_from_slice(&self.bytes),
            false => self.bytes.freeze(),
        };
        Block {
            topic: self.topic.id,
            first,
            ordinal,
            appended_at,
            bytes,
            ends: self.ends.into(),
        }
    }
}

/// Consecutive events of one topic at their positions. Immutable; shared by all readers.
#[derive(Debug)]
pub struct Block {
    topic: TopicId,
    first: Position,
    ordinal: u64,
    appended_at: Timestamp,
    bytes: Bytes,
    /// Where each entry ends in `bytes`; rising, at most [`BLOCK_EVENTS_MAX`], never empty.
    ends: Box<[u32]>,
}

/// Consecutive entries of one block.
#[derive(Clone, Debug)]
pub struct BlockSlice {
    /// The entries, ready to be copied into a response.
    pub bytes: Bytes,
    /// How many events they are.
    pub count: u32,
    /// Position of the last one.
    pub last: Position,
    /// The last one's place in the topic's own count, the first event ever being 1.
    pub last_ordinal: u64,
    /// When they were appended.
    pub appended_at: Timestamp,
}

impl Block {
    /// Finds the entries in `bytes`, which were read from storage.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] if `bytes` is not `count` entries that lie at the positions from `first` on.
    pub fn from_stored(
        topic: TopicId,
        first: Position,
        count: usize,
        ordinal: u64,
        appended_at: Timestamp,
        bytes: Bytes,
    ) -> Result<Self, LayoutError> {
        if count == 0 || usize::from(first.index()) + count > BLOCK_EVENTS_MAX {
            return Err(LayoutError);
        }
        let mut ends = Vec::with_capacity(count);
        let mut end = 0;
        for _ in 0..count {
            end = entry_end(&bytes, end).ok_or(LayoutError)?;
            ends.push(u32::try_from(end).map_err(|_| LayoutError)?);
        }
        if end != bytes.len() {
            return Err(LayoutError);
        }
        Ok(Self {
            topic,
            first,
            ordinal,
            appended_at,
            bytes,
            ends: ends.into(),
        })
    }

    /// The same block with bytes of its own, where this one's are part of something larger.
    pub fn detached(&self) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(&self.bytes),
            ends: self.ends.clone(),
            ..*self
        }
    }

    /// Each event with its position, as it was published.
    pub fn events(&self) -> impl Iterator<Item = (Position, &[u8])> {
        let first = self.first.get();
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let entries = starts.zip(self.ends.iter().copied());
        entries.zip(first..).map(|((start, end), number)| {
            let entry = &self.bytes[start as usize..end as usize];
            let position = Position::new(number);
            (
                position.expect("a block's positions lie in one block, which exists"),
                published(entry).unwrap_or_default(),
            )
        })
    }

    /// The entries of `count` events behind the first `skipped` ones, which the block has.
    pub(super) fn run(&self, skipped: usize, count: usize) -> Bytes {
        let start = skipped.checked_sub(1).map_or(0, |last| self.ends[last]);
        let end = self.ends[skipped + count - 1];
        self.bytes.slice(start as usize..end as usize)
    }

    /// What is left of the block without the events at `erased`, which are sorted, in bytes of its
    /// own: as many blocks as there are runs of events.
    pub(super) fn without(&self, erased: &[Position]) -> Vec<Self> {
        let at = |index: usize| {
            Position::new(self.first.get() + index as u64)
                .expect("a block's positions lie in one block, which exists")
        };
        let is_left = |index: usize| erased.binary_search(&at(index)).is_err();
        let mut left = Vec::new();
        let mut from = 0;
        while from < self.ends.len() {
            let rest = from..self.ends.len();
            let count = rest
                .take_while(|&index| is_left(index) == is_left(from))
                .count();
            if is_left(from) {
                let start = from.checked_sub(1).map_or(0, |last| self.ends[last]);
                let ends = self.ends[from..from + count].iter().map(|end| end - start);
                left.push(Self {
                    topic: self.topic,
                    first: at(from),
                    ordinal: self.ordinal + from as u64,
                    appended_at: self.appended_at,
                    bytes: Bytes::copy_from_slice(&self.run(from, count)),
                    ends: ends.collect(),
                });
            }
            from += count;
        }
        left
    }

    /// The topic of every event in the block.
    pub fn topic(&self) -> TopicId {
        self.topic
    }

    /// Position of the first event.
    pub fn first(&self) -> Position {
        self.first
    }

    /// Position of the last event.
    pub fn last(&self) -> Position {
        self.position(self.ends.len() - 1)
    }

    /// Number of events, at least one.
    pub fn event_count(&self) -> usize {
        self.ends.len()
    }

    /// How many events the topic had before this block's first.
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// When the block was appended; never earlier than the block before it.
    pub fn appended_at(&self) -> Timestamp {
        self.appended_at
    }

    /// Every entry.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The entries after position `after`, oldest first: at most `events_max` of them, and at most
    /// `bytes_max` bytes unless the first alone is larger. `None` when there are none, or none may
    /// be taken.
    pub fn slice_after(
        &self,
        after: Position,
        events_max: usize,
        bytes_max: usize,
    ) -> Option<BlockSlice> {
        self.slice(self.index_after(after)?, events_max, bytes_max)
    }

    /// Which of its events is the first after position `after`, counted from 0; `None` if none is.
    pub fn index_after(&self, after: Position) -> Option<usize> {
        let index = if after < self.first {
            0
        } else if after.block() == self.first.block() {
            usize::from(after.index() - self.first.index()) + 1
        } else {
            return None;
        };
        (index < self.ends.len()).then_some(index)
    }

    /// The position of the event with this index, counted from 0.
    ///
    /// # Panics
    ///
    /// If there are not so many events.
    pub fn position(&self, index: usize) -> Position {
        assert!(index < self.ends.len());
        Position::in_block(self.first.block(), self.first.index() + index as u8)
            .expect("the first position of the same block exists")
    }

    /// The entries from the one with index `from` on: bounded as those of [`Self::slice_after`].
    pub fn slice(&self, from: usize, events_max: usize, bytes_max: usize) -> Option<BlockSlice> {
        if from >= self.ends.len() || events_max == 0 {
            return None;
        }
        let start = if from == 0 {
            0
        } else {
            self.ends[from - 1] as usize
        };
        let within = &self.ends[from..self.ends.len().min(from.saturating_add(events_max))];
        let count = within
            .partition_point(|&end| end as usize - start <= bytes_max)
            .max(1);
        let to = from + count;
        Some(BlockSlice {
            bytes: self.bytes.slice(start..self.ends[to - 1] as usize),
            count: count as u32,
            last: self.position(to - 1),
            last_ordinal: self.ordinal + to as u64,
            appended_at: self.appended_at,
        })
    }
}

impl BlockSlice {
    /// Each event, as it was published.
    pub fn events(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = &self.bytes;
        let ends = std::iter::successors(Some(0), |&start| entry_end(bytes, start));
        ends.map_while(|start| published(bytes.get(start..)?))
    }
}

/// Bytes that are not the entries their header promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the block's body is not a sequence of events")]
pub struct LayoutError;

/// Where the entry that begins at `start` ends; `None` if there is no whole entry.
fn entry_end(bytes: &[u8], start: usize) -> Option<usize> {
    let value = field_1(bytes, start)?;
    (value.len() >= REPLAY_ID_FIELD_LEN).then_some(value.end)
}

/// The `ProducerEvent` in an entry.
fn published(entry: &[u8]) -> Option<&[u8]> {
    let consumer_event = entry.get(field_1(entry, 0)?)?;
    consumer_event.get(field_1(consumer_event, 0)?)
}

/// Where the value of a first field is that begins at `start`; `None` if there is no whole one.
fn field_1(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let mut rest = bytes.get(start..)?;
    let (&tag, after_tag) = rest.split_first()?;
    if tag != FIELD_1 {
        return None;
    }
    rest = after_tag;
    let mut len = 0usize;
    // Four bytes of length reach past the largest event.
    for shift in [0, 7, 14, 21] {
        let (&byte, after_byte) = rest.split_first()?;
        rest = after_byte;
        len |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let at = bytes.len() - rest.len();
            return (len <= rest.len()).then_some(at..at + len);
        }
    }
    None
}

fn put_key_and_len(bytes: &mut BytesMut, tag: u8, len: usize) {
    bytes.put_u8(tag);
    let mut rest = len;
    while rest >= 0x80 {
        bytes.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.put_u8(rest as u8);
}

fn varint_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{
        proto::{
            ConsumerEvent, ProducerEvent,
            raw::{FetchResponse, WireMessage},
        },
        types::limits::EVENT_BYTES_MAX,
    };

    fn body() -> BlockBody {
        let name = "/event/OrderCreated__e".parse().unwrap();
        BlockBody::with_capacity(
            Arc::new(LogTopic {
                id: TopicId::new(1),
                name,
            }),
            0,
        )
    }

    fn event(id: &str, payload: &[u8]) -> ProducerEvent {
        ProducerEvent {
            id: id.into(),
            payload: payload.to_vec().into(),
            ..Default::default()
        }
    }

    fn decode(bytes: &[u8]) -> Vec<ConsumerEvent> {
        let response = FetchResponse::read(Bytes::copy_from_slice(bytes)).unwrap();
        let values = response.events.values().iter();
        values
            .map(|value| ConsumerEvent::decode(value).unwrap())
            .collect()
    }

    #[test]
    fn a_sealed_body_reads_as_the_events_of_a_response() {
        let mut body = body();
        let first = event("e-1", &[1; 300]);
        let second = event("", &[2; 20_000]);
        assert!(body.push(&first.encode_to_vec(), None));
        assert!(body.push(&second.encode_to_vec(), Some("made")));
        let block = body.seal(
            Position::in_block(5, 3).unwrap(),
            40,
            Timestamp::from_millis(9),
        );

        let events = decode(block.bytes());
        assert_eq!(events[0].event, Some(first.clone()));
        assert_eq!(events[1].event, Some(event("made", &[2; 20_000])));
        assert_eq!(
            events[1].replay_id[..],
            Position::in_block(5, 4).unwrap().replay_id().as_bytes()[..]
        );
        assert_eq!(block.last(), Position::in_block(5, 4).unwrap());
        let published: Vec<_> = block.events().collect();
        assert_eq!(published[0].0, Position::in_block(5, 3).unwrap());
        assert_eq!(published[0].1, first.encode_to_vec());
        let second = ProducerEvent::decode(published[1].1).unwrap();
        assert_eq!((published[1].0, &*second.id), (block.last(), "made"));
    }

    #[test]
    fn what_is_left_of_a_body_reads_as_if_the_rest_had_never_been_there() {
        let ids = ["a", "b", "c", "d"];
        let of = |ids: &[&str]| {
            let mut body = body();
            for (number, id) in (1..).zip(ids) {
                let payload = vec![0; number * 100];
                assert!(body.push(&event("", &payload).encode_to_vec(), Some(id)));
            }
            body
        };
        let seal = |body: BlockBody| {
            let first = Position::in_block(5, 0).unwrap();
            body.seal(first, 0, Timestamp::from_millis(9))
        };
        for left in 1..1usize << ids.len() {
            let mut body = of(&ids);
            body.retain(|index| left & (1 << index) != 0);
            let events = decode(seal(body).bytes());
            let events = events.into_iter().map(|event| event.event.unwrap());
            let found: Vec<_> = events
                .map(|event| (event.id, event.payload.len()))
                .collect();
            let wanted = ids.iter().enumerate();
            let wanted = wanted.filter(|(index, _)| left & (1 << index) != 0);
            let wanted = wanted.map(|(index, id)| (id.to_string(), (index + 1) * 100));
            assert_eq!(found, wanted.collect::<Vec<_>>());
        }
        let mut none = of(&ids);
        none.retain(|_| false);
        assert_eq!((none.event_count(), none.byte_len()), (0, 0));
    }

    #[test]
    fn a_body_takes_256_events_or_256_kib_or_one_larger_event() {
        let mut small = body();
        for _ in 0..BLOCK_EVENTS_MAX {
            assert!(small.push(&[], None));
        }
        assert!(!small.push(&[], None));

        let mut large = body();
        assert!(large.push(&vec![0; EVENT_BYTES_MAX], None));
        assert!(!large.push(&[], None));
    }

    #[test]
    fn bodies_of_one_topic_join_while_they_fit() {
        let mut joined = body();
        assert!(joined.push(&event("a", &[1]).encode_to_vec(), None));
        let mut other = body();
        assert!(other.push(&event("b", &[2]).encode_to_vec(), None));
        joined.join(other).unwrap();
        let block = joined.seal(Position::in_block(1, 0).unwrap(), 0, Timestamp::default());
        let ids = decode(block.bytes())
            .into_iter()
            .map(|event| event.event.unwrap().id);
        assert_eq!(ids.collect::<Vec<_>>(), ["a", "b"]);

        let mut full = body();
        for _ in 0..BLOCK_EVENTS_MAX {
            assert!(full.push(&[], None));
        }
        let mut one = body();
        assert!(one.push(&[], None));
        assert_eq!(full.join(one).unwrap_err().event_count(), 1);
    }

    #[test]
    fn a_slice_keeps_to_its_position_and_bounds() {
        let mut body = body();
        for index in 0..10u8 {
            assert!(body.push(&event("", &[index; 10]).encode_to_vec(), None));
        }
        let entry_len = body.byte_len() / 10;
        let at = |index| Position::in_block(7, index).unwrap();
        let block = body.seal(at(2), 100, Timestamp::default());

        let all = block.slice_after(Position::ZERO, 100, usize::MAX).unwrap();
        assert_eq!((all.count, all.last, all.last_ordinal), (10, at(11), 110));
        let three = block.slice_after(at(3), 3, usize::MAX).unwrap();
        assert_eq!(
            (three.count, three.last, three.last_ordinal),
            (3, at(6), 105)
        );
        assert_eq!(
            decode(&three.bytes)[0].replay_id[..],
            at(4).replay_id().as_bytes()[..]
        );
        assert_eq!(
            block.slice_after(at(3), 100, 2 * entry_len).unwrap().count,
            2
        );
        assert_eq!(block.slice_after(at(3), 100, 1).unwrap().count, 1);
        assert!(block.slice_after(at(3), 0, usize::MAX).is_none());
        assert!(block.slice_after(at(11), 100, usize::MAX).is_none());
        assert!(
            block
                .slice_after(Position::in_block(8, 0).unwrap(), 100, usize::MAX)
                .is_none()
        );
    }

    #[test]
    fn a_block_without_some_events_is_the_runs_between_them() {
        let mut body = body();
        for index in 0..10u8 {
            assert!(body.push(&event("", &[index; 10]).encode_to_vec(), None));
        }
        let at = |index| Position::in_block(7, index).unwrap();
        let block = body.seal(at(2), 100, Timestamp::default());
        let left = block.without(&[at(2), at(6), at(7), at(200)]);
        let shape: Vec<_> = left
            .iter()
            .map(|block| (block.first(), block.event_count(), block.ordinal()))
            .collect();
        assert_eq!(shape, [(at(3), 3, 101), (at(8), 4, 106)]);
        let events = decode(left[1].bytes());
        assert_eq!(events[0].event, Some(event("", &[6; 10])));
        assert_eq!(events[0].replay_id[..], at(8).replay_id().as_bytes()[..]);
        assert_eq!(left[1].last(), at(11));
        assert_eq!(block.without(&[]).len(), 1);
        let all: Vec<_> = (2..12).map(at).collect();
        assert!(block.without(&all).is_empty());
    }

    #[test]
    fn stored_bytes_are_taken_only_as_whole_entries() {
        let mut body = body();
        assert!(body.push(&event("a", &[1; 200]).encode_to_vec(), None));
        assert!(body.push(&event("b", &[2; 20]).encode_to_vec(), None));
        let first = Position::in_block(1, 0).unwrap();
        let block = body.seal(first, 0, Timestamp::default());
        let bytes = block.bytes().clone();
        let read = |count, bytes| {
            Block::from_stored(
                TopicId::new(1),
                first,
                count,
                0,
                Timestamp::default(),
                bytes,
            )
        };
        assert_eq!(read(2, bytes.clone()).unwrap().ends, block.ends);
        assert!(read(1, bytes.clone()).is_err());
        assert!(read(3, bytes.clone()).is_err());
        for cut in 0..bytes.len() {
            assert!(read(2, bytes.slice(..cut)).is_err());
        }
    }
}
