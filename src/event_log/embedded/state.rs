//! What a log knows beside its segments: the file `state`.
//!
//! It holds what must survive the removal of segments (how far the log is purged, and each topic's
//! trim), the positions that were reserved ahead, those that were lost, the losses that a repair
//! settled, which topics are deleted, and which keep their events for a shorter time. It is written to another name, synced and renamed, before
//! anything it speaks of is removed or given out. The contents stand twice, each in pages of its own.
//!
//! The file under the other name is there ahead of its use, with its space: removing segments is
//! what gives space back, so it must not need any.

use std::{collections::BTreeMap, io::IoSlice, path::Path, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, TryGetError};

use super::{
    footer::{Footer, get_name, get_number, get_position, put_name},
    index::SegmentIndex,
    io::{Access, Io, IoFile, read_up_to, write_all_at},
    segment::{FORMAT_VERSION, SegmentHeader},
};
use crate::{
    clock::Timestamp,
    event_log::{
        OpenError,
        tail::{LostRange, Trim},
    },
    types::{
        Position, TopicId, TopicName,
        limits::{LOST_RANGES_MAX, SETTLED_LOSSES_MAX, TOPIC_NAME_BYTES_MAX},
    },
};

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The same in the header of every segment.
    pub(super) log_id: u64,
    /// The newest purged position; of an event, unless the log never had one.
    pub(super) trim: Position,
    /// Group of the newest purged event.
    pub(super) trim_group: u64,
    /// Block numbers below this one may have been given out.
    pub(super) reserved_block: u64,
    /// Positions that were given out and lost, oldest first.
    pub(super) lost: Vec<LostRange>,
    /// What is purged of each topic, by id: at least what `trim` says, and more of a topic whose
    /// events are kept for a shorter time.
    pub(super) topics: Vec<BaseTopic>,
    /// Losses that a repair settled, in the order in which it found them.
    pub(super) losses: Vec<Loss>,
    /// The logs whose segments this one goes on from, if it was restored.
    pub(super) origins: Vec<Origin>,
    /// Deleted topics of which something may be left in the segments, by id.
    pub(super) deleted: Vec<TopicId>,
    /// How long topics keep their events, where that is not left to the log.
    pub(super) retentions: BTreeMap<TopicId, Duration>,
    /// How far the log reached when it last ended cleanly, by topic: what is missing up to there is
    /// lost, though no segment says so.
    pub(super) ends: BTreeMap<TopicId, CleanEnd>,
    /// The last group at that time.
    pub(super) end_group: u64,
    /// Position of the newest event at that time.
    pub(super) clean_end: Position,
}

/// Where a topic ended when its log ended cleanly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CleanEnd {
    pub(super) name: TopicName,
    /// Position of its newest event.
    pub(super) last: Position,
    /// Events ever accepted.
    pub(super) ordinal: u64,
    pub(super) last_at: Timestamp,
}

/// What is purged of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseTopic {
    pub(super) id: TopicId,
    pub(super) name: TopicName,
    /// Every event of the topic at or before it is purged.
    pub(super) trim: Position,
    /// Events purged.
    pub(super) ordinal: u64,
    /// None of them was appended later.
    pub(super) last_at: Timestamp,
}

impl BaseTopic {
    /// How far that is.
    pub(super) fn through(&self) -> Trim {
        Trim {
            position: self.trim,
            ordinal: self.ordinal,
            at: self.last_at,
        }
    }
}

/// Events of a topic that are lost for good: those after `after`, up to `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) topic: TopicId,
    pub(super) after: Position,
    pub(super) until: Position,
    /// How many they are, by the topic's own count.
    pub(super) events: u64,
}

/// A log that another one was restored from: it wrote the segments before a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) log_id: u64,
    pub(super) before_block: u64,
}

impl Origin {
    /// Whether a segment that begins with `first_block` and names `log_id` is this log's.
    pub(super) fn wrote(&self, log_id: u64, first_block: u64) -> bool {
        self.log_id == log_id && first_block < self.before_block
    }
}

/// Name of the file.
pub(super) const STATE: &str = "state";
/// Name under which the next one is written. It may hold anything.
pub(super) const STATE_NEW: &str = "state.new";

impl State {
    /// The state of a log that never had an event: its head is positive, and below the first
    /// event's position.
    pub(super) fn new(log_id: u64) -> Self {
        Self {
            log_id,
            trim: Position::in_block(1, 0).expect("the first block exists"),
            trim_group: 0,
            reserved_block: 0,
            lost: Vec::new(),
            topics: Vec::new(),
            losses: Vec::new(),
            origins: Vec::new(),
            deleted: Vec::new(),
            retentions: BTreeMap::new(),
            ends: BTreeMap::new(),
            end_group: 0,
            clean_end: Position::ZERO,
        }
    }

    /// A state as far as the oldest segment of a log tells it; of a log with `log_id`, unless the
    /// segment names another.
    pub(super) fn of_oldest_segment(file: &dyn IoFile, log_id: u64) -> std::io::Result<Self> {
        let mut state = Self::new(log_id);
        match (Footer::read(file)?, SegmentHeader::read(file)?) {
            (Some(footer), _) => {
                state.log_id = footer.header.log_id;
                state.restore_base(&footer.index);
            }
            (None, Ok(header)) => state.log_id = header.log_id,
            (None, Err(_)) => {}
        }
        Ok(state)
    }

    /// Notes that everything before the segment with this index is purged.
    fn restore_base(&mut self, index: &SegmentIndex) {
        let topics = index.topics.iter();
        let topics = topics.filter(|(_, topic)| topic.ordinal_start > 0);
        self.topics = topics
            .map(|(id, topic)| BaseTopic {
                id: *id,
                name: topic.name.clone(),
                trim: topic.before,
                ordinal: topic.ordinal_start,
                last_at: index.first_at,
            })
            .collect();
        let trim = self.topics.iter().map(|topic| topic.trim).max();
        self.trim = trim.unwrap_or(self.trim);
        self.trim_group = index.first_group - 1;
    }

    /// Whether a segment that begins with `first_block` and names `log_id` is this log's.
    pub(super) fn owns(&self, log_id: u64, first_block: u64) -> bool {
        let is_of = |origin: &Origin| origin.wrote(log_id, first_block);
        log_id == self.log_id || self.origins.iter().any(is_of)
    }

    /// What is purged of a topic.
    pub(super) fn topic(&self, id: TopicId) -> Option<&BaseTopic> {
        let at = self.topics.binary_search_by_key(&id, |topic| topic.id);
        at.ok().map(|at| &self.topics[at])
    }

    /// Notes that a topic is purged that far. What is known to be purged stays so.
    pub(super) fn raise(&mut self, topic: BaseTopic) {
        match self
            .topics
            .binary_search_by_key(&topic.id, |known| known.id)
        {
            Ok(at) if self.topics[at].trim <= topic.trim => self.topics[at] = topic,
            Ok(_) => {}
            Err(at) => self.topics.insert(at, topic),
        }
    }

    /// Notes a loss that a repair settled; the oldest ones give way.
    pub(super) fn settle(&mut self, loss: Loss) {
        if self.losses.contains(&loss) {
            return;
        }
        self.losses.push(loss);
        if self.losses.len() > SETTLED_LOSSES_MAX {
            self.losses.remove(0);
        }
    }

    /// Position behind the newest settled loss of a topic; zero if there is none.
    pub(super) fn settled_until(&self, topic: TopicId) -> Position {
        let losses = self.losses.iter().filter(|loss| loss.topic == topic);
        losses.map(|loss| loss.until).max().unwrap_or_default()
    }

    /// Notes where the log ends cleanly.
    pub(super) fn end_at(&mut self, index: &SegmentIndex) {
        let ends = index.topics.iter().map(|(id, topic)| {
            let end = CleanEnd {
                name: topic.name.clone(),
                last: topic.last,
                ordinal: topic.ordinal_end,
                last_at: topic.last_at,
            };
            (*id, end)
        });
        self.ends = ends.collect();
        self.end_group = index.last_group;
        self.clean_end = index.last;
    }

    /// Notes that the positions of a range were lost; the oldest ranges give way.
    pub(super) fn lose(&mut self, range: LostRange) {
        self.lost.push(range);
        if self.lost.len() > LOST_RANGES_MAX {
            self.lost.remove(0);
        }
    }

    /// Makes the state durable in `dir`.
    pub(super) fn store(&self, io: &dyn Io, dir: &Path) -> std::io::Result<()> {
        let new = dir.join(STATE_NEW);
        let bytes = self.encode();
        // Whatever is in the file is overwritten whole before it gets the name that counts.
        let file = open_or_create(io, &new)?;
        write_all_at(&*file, &mut [IoSlice::new(&bytes)], 0)?;
        file.truncate(bytes.len() as u64)?;
        file.sync()?;
        drop(file);
        io.rename(&new, &dir.join(STATE))?;
        io.sync_dir(dir)?;
        // The space of the state before, if there is no other. Without it the next state is stored
        // all the same, unless the disk is full by then.
        _ = self.make_ready(io, dir, self.topics.len());
        Ok(())
    }

    /// Sees to it that this state, grown to `topics` topics, can be stored in `dir` when the disk is
    /// full. What else may grow does so only by a repair, a restore or a deletion.
    pub(super) fn make_ready(&self, io: &dyn Io, dir: &Path, topics: usize) -> std::io::Result<()> {
        let file = open_or_create(io, &dir.join(STATE_NEW))?;
        let len = self.encoded_len_max(topics);
        if file.size()? < len {
            file.allocate(len)?;
        }
        Ok(())
    }

    /// At most this many bytes are both copies of the state, grown to `topics` topics.
    fn encoded_len_max(&self, topics: usize) -> u64 {
        const FIXED: usize = 96 + LOST_RANGES_MAX * 16;
        // What is purged of it, and where it ended.
        const TOPIC: usize = 2 * (32 + TOPIC_NAME_BYTES_MAX);
        let more = self.retentions.len() * 12;
        let more = more + self.losses.len() * 28 + self.origins.len() * 16 + self.deleted.len() * 4;
        2 * (FIXED + topics * TOPIC + more).next_multiple_of(PAGE) as u64
    }

    /// Reads the state of the log in `dir`; `None` if there is none.
    pub(super) fn load(io: &dyn Io, dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(STATE);
        let failed = |source| OpenError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let file = match io.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let len = file.size().map_err(failed)?;
        if len > STATE_BYTES_MAX {
            return Err(foreign(&path));
        }
        let bytes = read_up_to(&*file, 0, len as usize).map_err(failed)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        match Self::decode(first).or_else(|_| Self::decode(second)) {
            Ok(state) => Ok(Some(state)),
            Err(Unreadable::Newer(found)) => Err(OpenError::NewerFormat {
                path,
                found,
                known: FORMAT_VERSION,
            }),
            Err(Unreadable::Malformed) => Err(foreign(&path)),
        }
    }

    /// Whether both copies in `dir` are intact.
    pub(super) fn is_whole(io: &dyn Io, dir: &Path) -> bool {
        let read = || -> std::io::Result<Vec<u8>> {
            let file = io.open(&dir.join(STATE), Access::Read)?;
            read_up_to(&*file, 0, file.size()?.min(STATE_BYTES_MAX) as usize)
        };
        read().is_ok_and(|bytes| {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            first == second && Self::decode(first).is_ok()
        })
    }

    /// Both copies.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_slice(MAGIC);
        bytes.put_u32_le(FORMAT_VERSION);
        bytes.put_u32_le(0);
        bytes.put_u64_le(self.log_id);
        bytes.put_u64_le(self.trim.get());
        bytes.put_u64_le(self.trim_group);
        bytes.put_u64_le(self.reserved_block);
        bytes.put_u32_le(self.lost.len() as u32);
        for range in &self.lost {
            bytes.put_u64_le(range.after.get());
            bytes.put_u64_le(range.until.get());
        }
        bytes.put_u32_le(self.topics.len() as u32);
        for topic in &self.topics {
            bytes.put_u32_le(topic.id.get());
            put_name(&mut bytes, &topic.name);
            bytes.put_u64_le(topic.trim.get());
            bytes.put_u64_le(topic.ordinal);
            bytes.put_i64_le(topic.last_at.as_millis());
        }
        bytes.put_u32_le(self.losses.len() as u32);
        for loss in &self.losses {
            bytes.put_u32_le(loss.topic.get());
            bytes.put_u64_le(loss.after.get());
            bytes.put_u64_le(loss.until.get());
            bytes.put_u64_le(loss.events);
        }
        bytes.put_u32_le(self.origins.len() as u32);
        for origin in &self.origins {
            bytes.put_u64_le(origin.log_id);
            bytes.put_u64_le(origin.before_block);
        }
        bytes.put_u32_le(self.deleted.len() as u32);
        for topic in &self.deleted {
            bytes.put_u32_le(topic.get());
        }
        bytes.put_u32_le(self.retentions.len() as u32);
        for (topic, retention) in &self.retentions {
            bytes.put_u32_le(topic.get());
            bytes.put_u64_le(retention.as_millis() as u64);
        }
        bytes.put_u64_le(self.end_group);
        bytes.put_u64_le(self.clean_end.get());
        bytes.put_u32_le(self.ends.len() as u32);
        for (topic, end) in &self.ends {
            bytes.put_u32_le(topic.get());
            put_name(&mut bytes, &end.name);
            bytes.put_u64_le(end.last.get());
            bytes.put_u64_le(end.ordinal);
            bytes.put_i64_le(end.last_at.as_millis());
        }
        let len = bytes.len() as u32;
        bytes[LEN_AT..LEN_AT + 4].copy_from_slice(&len.to_le_bytes());
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        bytes.extend_from_within(..);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut rest = bytes;
        let mut magic = [0; MAGIC.len()];
        rest.try_copy_to_slice(&mut magic)?;
        let version = rest.try_get_u32_le()?;
        let len = rest.try_get_u32_le()? as usize;
        let (contents, mut crc) = bytes.split_at_checked(len).ok_or(Unreadable::Malformed)?;
        if magic != *MAGIC || crc.try_get_u32_le()? != crc32c::crc32c(contents) {
            return Err(Unreadable::Malformed);
        }
        if version > FORMAT_VERSION {
            return Err(Unreadable::Newer(version));
        }
        let mut state = Self {
            log_id: rest.try_get_u64_le()?,
            trim: get_position(&mut rest)?,
            trim_group: get_number(&mut rest)?,
            reserved_block: get_number(&mut rest)?,
            ..Self::new(0)
        };
        for _ in 0..rest.try_get_u32_le()? {
            state.lost.push(LostRange {
                after: get_position(&mut rest)?,
                until: get_position(&mut rest)?,
            });
        }
        for _ in 0..rest.try_get_u32_le()? {
            state.topics.push(BaseTopic {
                id: TopicId::new(rest.try_get_u32_le()?),
                name: get_name(&mut rest)?,
                trim: get_position(&mut rest)?,
                ordinal: get_number(&mut rest)?,
                last_at: Timestamp::from_millis(rest.try_get_i64_le()?),
            });
        }
        if version == 1 {
            return Ok(state);
        }
        for _ in 0..rest.try_get_u32_le()? {
            state.losses.push(Loss {
                topic: TopicId::new(rest.try_get_u32_le()?),
                after: get_position(&mut rest)?,
                until: get_position(&mut rest)?,
                events: get_number(&mut rest)?,
            });
        }
        for _ in 0..rest.try_get_u32_le()? {
            state.origins.push(Origin {
                log_id: rest.try_get_u64_le()?,
                before_block: get_number(&mut rest)?,
            });
        }
        for _ in 0..rest.try_get_u32_le()? {
            state.deleted.push(TopicId::new(rest.try_get_u32_le()?));
        }
        for _ in 0..rest.try_get_u32_le()? {
            let topic = TopicId::new(rest.try_get_u32_le()?);
            let retention = Duration::from_millis(rest.try_get_u64_le()?);
            state.retentions.insert(topic, retention);
        }
        state.end_group = get_number(&mut rest)?;
        state.clean_end = get_position(&mut rest)?;
        for _ in 0..rest.try_get_u32_le()? {
            let topic = TopicId::new(rest.try_get_u32_le()?);
            let end = CleanEnd {
                name: get_name(&mut rest)?,
                last: get_position(&mut rest)?,
                ordinal: get_number(&mut rest)?,
                last_at: Timestamp::from_millis(rest.try_get_i64_le()?),
            };
            state.ends.insert(topic, end);
        }
        Ok(state)
    }
}

fn open_or_create(io: &dyn Io, path: &Path) -> std::io::Result<Arc<dyn IoFile>> {
    match io.open(path, Access::Write) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => io.create(path),
        result => result,
    }
}

enum Unreadable {
    Malformed,
    Newer(u32),
}

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Self {
        Self::Malformed
    }
}

fn foreign(path: &Path) -> OpenError {
    OpenError::Foreign {
        path: path.to_owned(),
        reason: "neither copy of its contents is intact".into(),
    }
}

const MAGIC: &[u8; 8] = b"TIDESTAT";
const LEN_AT: usize = MAGIC.len() + 4;
const PAGE: usize = 4_096;
/// Far above what the largest number of topics takes.
const STATE_BYTES_MAX: u64 = 64 << 20;

#[cfg(test)]
mod tests;
