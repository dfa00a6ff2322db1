//! The index of a sealed segment as it is stored behind its blocks.
//!
//! A trailer of fixed size at the end of the file says where the footer is. The footer begins with
//! a copy of the segment's header, so a sealed segment can be read when both of its own are lost.
//! It can be rebuilt from the blocks at any time (see [`super::scan`]).
//!
//! ```text
//! footer   header copy (512), sealed by u8, first and last group, last position, first and last
//!          time, blocks, events, end of blocks; topics (count, then each); holes (count, then each)
//! trailer  u64 offset of the footer, u32 its length, u32 its CRC32C, u32 CRC32C of these 16, magic
//! ```

use bytes::{Buf, BufMut, TryGetError};

use super::{
    block::SECTOR,
    index::{Hole, SegmentIndex, Step, TopicIndex},
    io::{IoFile, read_up_to},
    scan::Expected,
    segment::{HeaderError, SEGMENT_HEADER_LEN, SegmentHeader},
};
use crate::{
    clock::Timestamp,
    types::{Position, TopicId, TopicName},
};

/// A stored index, with the header of its segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) header: SegmentHeader,
    pub(super) sealed_by: SealedBy,
    pub(super) index: SegmentIndex,
}

/// Who wrote the footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SealedBy {
    /// The process that wrote the segment: every group in it was whole.
    Writer,
    /// A later one, which found the segment unsealed.
    Recovery,
    /// Whoever rewrote the segment to take something out of it.
    Rewriting,
}

impl Footer {
    /// Footer and trailer as they stand in the file from `offset` on.
    pub(super) fn encode(&self, offset: u64) -> Vec<u8> {
        let index = &self.index;
        let mut bytes = Vec::with_capacity(encoded_len_max(index) as usize);
        bytes.put_slice(&self.header.encode());
        bytes.put_u8(match self.sealed_by {
            SealedBy::Writer => 0,
            SealedBy::Recovery => 1,
            SealedBy::Rewriting => 2,
        });
        bytes.put_u64_le(index.first_group);
        bytes.put_u64_le(index.last_group);
        bytes.put_u64_le(index.last.get());
        bytes.put_i64_le(index.first_at.as_millis());
        bytes.put_i64_le(index.last_at.as_millis());
        bytes.put_u64_le(index.blocks);
        bytes.put_u64_le(index.events);
        bytes.put_u64_le(index.end);
        bytes.put_u32_le(index.topics.len() as u32);
        for (id, topic) in &index.topics {
            put_topic(&mut bytes, *id, topic);
        }
        bytes.put_u32_le(index.holes.len() as u32);
        for hole in &index.holes {
            put_hole(&mut bytes, hole);
        }
        let trailer = [
            &offset.to_le_bytes()[..],
            &(bytes.len() as u32).to_le_bytes(),
            &crc32c::crc32c(&bytes).to_le_bytes(),
        ]
        .concat();
        bytes.put_slice(&trailer);
        bytes.put_u32_le(crc32c::crc32c(&trailer));
        bytes.put_slice(MAGIC);
        bytes
    }

    /// What a scan of the segment has to find.
    pub(super) fn expected(&self) -> Expected {
        Expected::Sealed {
            last_group: self.index.last_group,
            end: self.index.end,
        }
    }

    /// Reads the footer of a segment file; `None` if the file has no intact one.
    pub(super) fn read(file: &dyn IoFile) -> std::io::Result<Option<Self>> {
        let len = file.size()?;
        let Some(trailer_at) = len.checked_sub(TRAILER_LEN as u64) else {
            return Ok(None);
        };
        let trailer = read_up_to(file, trailer_at, TRAILER_LEN)?;
        let Some((offset, footer_len, crc)) = decode_trailer(&trailer) else {
            return Ok(None);
        };
        let is_before_trailer = offset.checked_add(footer_len as u64) == Some(trailer_at);
        if !is_before_trailer || footer_len > FOOTER_BYTES_MAX {
            return Ok(None);
        }
        let bytes = read_up_to(file, offset, footer_len)?;
        if crc32c::crc32c(&bytes) != crc {
            return Ok(None);
        }
        Ok(Self::decode(&bytes)
            .ok()
            .filter(|footer| footer.index.end.checked_next_multiple_of(SECTOR) == Some(offset)))
    }

    fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let header = SegmentHeader::decode(bytes)?;
        bytes.advance(HEADER_COPY_LEN);
        let sealed_by = match bytes.try_get_u8()? {
            0 => SealedBy::Writer,
            1 => SealedBy::Recovery,
            2 => SealedBy::Rewriting,
            _ => return Err(Malformed),
        };
        let mut index = SegmentIndex {
            first_group: get_number(&mut bytes)?,
            last_group: get_number(&mut bytes)?,
            last: get_position(&mut bytes)?,
            first_at: Timestamp::from_millis(bytes.try_get_i64_le()?),
            last_at: Timestamp::from_millis(bytes.try_get_i64_le()?),
            blocks: bytes.try_get_u64_le()?,
            events: bytes.try_get_u64_le()?,
            end: bytes.try_get_u64_le()?,
            ..SegmentIndex::default()
        };
        for _ in 0..bytes.try_get_u32_le()? {
            let (id, topic) = get_topic(&mut bytes)?;
            index.topics.insert(id, topic);
        }
        for _ in 0..bytes.try_get_u32_le()? {
            index.holes.push(get_hole(&mut bytes)?);
        }
        index.count_steps();
        let steps = index.topics.values().flat_map(|topic| &topic.steps);
        let is_inside = |step: &Step| {
            let end = step.offset.checked_add(step.len.into());
            step.offset >= SEGMENT_HEADER_LEN && end.is_some_and(|end| end <= index.end)
        };
        if index.first_group == 0 || !steps.into_iter().all(is_inside) {
            return Err(Malformed);
        }
        Ok(Self {
            header,
            sealed_by,
            index,
        })
    }
}

/// At most this many bytes are footer and trailer of a segment with this index.
pub(super) fn encoded_len_max(index: &SegmentIndex) -> u64 {
    const FIXED: usize = HEADER_COPY_LEN + TRAILER_LEN + 128;
    const TOPIC: usize = 64 + crate::types::limits::TOPIC_NAME_BYTES_MAX;
    let holes = index.holes.iter().map(|hole| 32 + 4 * hole.spared.len());
    let len =
        FIXED + index.topics.len() * TOPIC + index.step_count() * STEP_LEN + holes.sum::<usize>();
    len as u64
}

/// The bytes are not a footer, though their checksum is right.
struct Malformed;

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

impl From<HeaderError> for Malformed {
    fn from(_: HeaderError) -> Self {
        Self
    }
}

fn decode_trailer(bytes: &[u8]) -> Option<(u64, usize, u32)> {
    let (fields, magic) = bytes.split_at_checked(TRAILER_LEN - MAGIC.len())?;
    let (mut fields, crc) = fields.split_at(TRAILER_LEN - MAGIC.len() - 4);
    if magic != MAGIC || crc != crc32c::crc32c(fields).to_le_bytes() {
        return None;
    }
    let offset = fields.get_u64_le();
    let len = fields.get_u32_le() as usize;
    Some((offset, len, fields.get_u32_le()))
}

fn put_topic(bytes: &mut Vec<u8>, id: TopicId, topic: &TopicIndex) {
    bytes.put_u32_le(id.get());
    put_name(bytes, &topic.name);
    bytes.put_u64_le(topic.before.get());
    bytes.put_u64_le(topic.last.get());
    bytes.put_u64_le(topic.ordinal_start);
    bytes.put_u64_le(topic.ordinal_end);
    bytes.put_i64_le(topic.last_at.as_millis());
    bytes.put_u64_le(topic.trim.get());
    bytes.put_u32_le(topic.steps.len() as u32);
    for step in &topic.steps {
        bytes.put_u64_le(step.first.get());
        bytes.put_u64_le(step.offset);
        bytes.put_u32_le(step.len);
        bytes.put_u64_le(step.ordinal);
        bytes.put_i64_le(step.appended_at.as_millis());
    }
}

fn get_topic(bytes: &mut &[u8]) -> Result<(TopicId, TopicIndex), Malformed> {
    let id = TopicId::new(bytes.try_get_u32_le()?);
    let mut topic = TopicIndex {
        name: get_name(bytes)?,
        before: get_position(bytes)?,
        last: get_position(bytes)?,
        ordinal_start: get_number(bytes)?,
        ordinal_end: get_number(bytes)?,
        last_at: Timestamp::from_millis(bytes.try_get_i64_le()?),
        trim: get_position(bytes)?,
        steps: Vec::new(),
    };
    let steps = bytes.try_get_u32_le()? as usize;
    if bytes.len() / STEP_LEN < steps {
        return Err(Malformed);
    }
    topic.steps.reserve_exact(steps);
    for _ in 0..steps {
        topic.steps.push(Step {
            first: get_position(bytes)?,
            offset: bytes.try_get_u64_le()?,
            len: bytes.try_get_u32_le()?,
            ordinal: get_number(bytes)?,
            appended_at: Timestamp::from_millis(bytes.try_get_i64_le()?),
        });
    }
    Ok((id, topic))
}

fn put_hole(bytes: &mut Vec<u8>, hole: &Hole) {
    bytes.put_u8(u8::from(hole.topic.is_some()));
    bytes.put_u32_le(hole.topic.map_or(0, TopicId::get));
    bytes.put_u64_le(hole.after.get());
    bytes.put_u64_le(hole.until.get());
    bytes.put_u32_le(hole.spared.len() as u32);
    for topic in &hole.spared {
        bytes.put_u32_le(topic.get());
    }
}

fn get_hole(bytes: &mut &[u8]) -> Result<Hole, Malformed> {
    let known = bytes.try_get_u8()? != 0;
    let topic = TopicId::new(bytes.try_get_u32_le()?);
    let mut hole = Hole {
        topic: known.then_some(topic),
        after: get_position(bytes)?,
        until: get_position(bytes)?,
        spared: Vec::new(),
    };
    for _ in 0..bytes.try_get_u32_le()? {
        hole.spared.push(TopicId::new(bytes.try_get_u32_le()?));
    }
    Ok(hole)
}

/// Writes a topic's name with its length before it.
pub(super) fn put_name(bytes: &mut Vec<u8>, name: &TopicName) {
    let name = name.as_str().as_bytes();
    bytes.put_u16_le(name.len() as u16);
    bytes.put_slice(name);
}

/// Reads a topic's name.
pub(super) fn get_name(bytes: &mut &[u8]) -> Result<TopicName, TryGetError> {
    let len = usize::from(bytes.try_get_u16_le()?);
    let refused = |available| TryGetError {
        requested: len,
        available,
    };
    let (name, rest) = bytes.split_at_checked(len).ok_or(refused(bytes.len()))?;
    *bytes = rest;
    let name = std::str::from_utf8(name).map_err(|_| refused(0))?;
    name.parse().map_err(|_| refused(0))
}

/// Reads a number of a group, a block or an event: none passes the largest position, so that
/// counting on from it cannot overflow.
pub(super) fn get_number(bytes: &mut &[u8]) -> Result<u64, TryGetError> {
    get_position(bytes).map(Position::get)
}

/// Reads a position.
pub(super) fn get_position(bytes: &mut &[u8]) -> Result<Position, TryGetError> {
    let number = bytes.try_get_u64_le()?;
    Position::new(number).ok_or(TryGetError {
        requested: 8,
        available: 0,
    })
}

const MAGIC: &[u8; 8] = b"TIDEFOOT";
const TRAILER_LEN: usize = 8 + 4 + 4 + 4 + MAGIC.len();
const HEADER_COPY_LEN: usize = 512;
/// Far above the largest index with the largest number of topics.
const FOOTER_BYTES_MAX: usize = 64 << 20;
const STEP_LEN: usize = 36;

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::event_log::embedded::{
        block::{BlockHeader, align},
        io::{Io, RealIo, write_all_at},
        segment::SegmentName,
    };

    fn footer() -> Footer {
        let mut index = SegmentIndex {
            first_group: 4,
            ..SegmentIndex::default()
        };
        for block in 1..50_u64 {
            let topic = block as u32 % 3;
            let header = BlockHeader {
                topic: TopicId::new(topic),
                first: Position::in_block(block, 0).unwrap(),
                count: 10,
                ordinal: block * 10,
                appended_at: Timestamp::from_millis(block as i64),
                group: 4 + block,
                group_len: 0,
                group_offset: 0,
                body_len: 0,
                name_len: 0,
                is_erased: false,
                crc: 0,
            };
            let name = format!("/event/T{topic}__e").parse().unwrap();
            index.add(&header, Some(&name), block * 30_000, block * 30_000 + 900);
        }
        for (topic, spared) in [
            (None, vec![TopicId::new(1)]),
            (Some(TopicId::new(2)), vec![]),
        ] {
            index.holes.push(Hole {
                topic,
                after: Position::in_block(3, 9).unwrap(),
                until: Position::in_block(4, 9).unwrap(),
                spared,
            });
        }
        Footer {
            header: SegmentHeader {
                name: SegmentName {
                    first_block: 1,
                    generation: 0,
                },
                tenant: "00D000000000001".parse().unwrap(),
                log_id: 3,
                salt: 4,
                first_group: 4,
                created_at: Timestamp::from_millis(6),
                unsynced: false,
                tag_space: 0,
                rewritten: None,
            },
            sealed_by: SealedBy::Recovery,
            index,
        }
    }

    fn read(bytes: &[u8], offset: u64) -> Option<Footer> {
        let dir = tempfile::tempdir().unwrap();
        let file = RealIo.create(&dir.path().join("s")).unwrap();
        write_all_at(&*file, &mut [IoSlice::new(bytes)], offset).unwrap();
        Footer::read(&*file).unwrap()
    }

    #[test]
    fn a_footer_reads_back_as_it_was_written() {
        let footer = footer();
        let offset = align(footer.index.end);
        let bytes = footer.encode(offset);
        assert!(bytes.len() as u64 <= encoded_len_max(&footer.index));
        assert_eq!(read(&bytes, offset), Some(footer));
    }

    #[test]
    fn a_damaged_or_cut_footer_is_none_at_all() {
        let footer = footer();
        let offset = align(footer.index.end);
        let bytes = footer.encode(offset);
        for at in (0..bytes.len()).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(read(&damaged, offset), None, "byte {at}");
        }
        assert_eq!(read(&bytes, offset + 1), None, "moved");
        assert_eq!(read(&bytes[..bytes.len() - 1], offset), None);
        assert_eq!(read(&[], 0), None);
    }

    #[test]
    fn contents_that_lie_about_their_length_are_refused() {
        let mut bytes = footer().encode(0);
        let topics_at = HEADER_COPY_LEN + 1 + 8 * 8;
        bytes[topics_at..topics_at + 4].fill(0xff);
        assert!(Footer::decode(&bytes).is_err());
        let mut outside = footer();
        outside.index.end = 40_000;
        assert!(
            Footer::decode(&outside.encode(0)).is_err(),
            "steps behind the end"
        );
        for len in 0..bytes.len().min(2_000) {
            assert!(Footer::decode(&footer().encode(0)[..len]).is_err());
        }
    }
}
