//! A block's bytes on disk: a fixed header, the topic's name when it is the topic's first block of
//! the segment, and the body as [`crate::event_log::block`] lays it out.
//!
//! ```text
//!  0 u32 magic            16 u64 first position   40 u64 group number    60 u16 name length
//!  4 u16 flags            24 u64 ordinal          48 u32 group length    62 reserved, zero
//!  6 u16 count            32 i64 append time      52 u32 place in group  72 u32 CRC32C of name, body
//!  8 u32 topic id                                 56 u32 body length     76 u32 CRC32C of 0..76
//! 12 reserved, zero
//! 80 name, body, then as many bytes as the segment reserves for a cipher's tag
//! ```
//!
//! An **erased** block stands where events were erased one by one: it has their positions and
//! ordinals, flag 1, and no body. So the ordinals of a topic go on without a gap, and a gap is always
//! a loss.
//!
//! Little-endian. Both checksums start from the segment's salt, so nothing a publisher sends and no
//! block of another segment passes for a block of this one. The header has its own: a scan may then
//! trust the lengths of a block whose body is damaged.

use crate::{
    clock::Timestamp,
    types::{
        Position, TopicId,
        limits::{
            BLOCK_BYTES_MAX, BLOCK_EVENTS_MAX, EVENT_BYTES_MAX, POSITION_MAX, TOPIC_NAME_BYTES_MAX,
        },
    },
};

/// Bytes of a block's header.
pub(super) const BLOCK_HEADER_LEN: usize = 80;

/// Blocks of a group follow each other; a group starts at such a boundary, so no later write
/// touches a sector that holds acknowledged bytes.
pub(super) const SECTOR: u64 = 512;

/// What the header of a block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) topic: TopicId,
    pub(super) first: Position,
    /// At least one; all lie in the block of `first`.
    pub(super) count: u16,
    pub(super) ordinal: u64,
    pub(super) appended_at: Timestamp,
    /// One more than the group before it, across segments.
    pub(super) group: u64,
    /// Bytes of the whole group, headers included.
    pub(super) group_len: u32,
    /// Where in its group the block begins.
    pub(super) group_offset: u32,
    pub(super) body_len: u32,
    pub(super) name_len: u16,
    /// Whether the events were erased: there is no body.
    pub(super) is_erased: bool,
    pub(super) crc: u32,
}

impl BlockHeader {
    /// The bytes of the header, with checksums that start from `seed`.
    pub(super) fn encode(&self, seed: u32) -> [u8; BLOCK_HEADER_LEN] {
        let mut bytes = [0; BLOCK_HEADER_LEN];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(
            4,
            &(if self.is_erased { FLAG_ERASED } else { 0 }).to_le_bytes(),
        );
        put(6, &self.count.to_le_bytes());
        put(8, &self.topic.get().to_le_bytes());
        put(16, &self.first.get().to_le_bytes());
        put(24, &self.ordinal.to_le_bytes());
        put(32, &self.appended_at.as_millis().to_le_bytes());
        put(40, &self.group.to_le_bytes());
        put(48, &self.group_len.to_le_bytes());
        put(52, &self.group_offset.to_le_bytes());
        put(56, &self.body_len.to_le_bytes());
        put(60, &self.name_len.to_le_bytes());
        put(72, &self.crc.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header at the start of `bytes`; `None` if it is not an intact one.
    pub(super) fn decode(bytes: &[u8], seed: u32) -> Option<Self> {
        let bytes: &[u8; BLOCK_HEADER_LEN] = bytes.first_chunk()?;
        let u16_at = |at| u16::from_le_bytes(array(bytes, at));
        let u32_at = |at| u32::from_le_bytes(array(bytes, at));
        let u64_at = |at| u64::from_le_bytes(array(bytes, at));
        if u32_at(0) != MAGIC || u32_at(CRC_AT) != crc32c::crc32c_append(seed, &bytes[..CRC_AT]) {
            return None;
        }
        let flags = u16_at(4);
        let header = Self {
            topic: TopicId::new(u32_at(8)),
            first: Position::new(u64_at(16))?,
            count: u16_at(6),
            ordinal: u64_at(24),
            appended_at: Timestamp::from_millis(i64::from_le_bytes(array(bytes, 32))),
            group: u64_at(40),
            group_len: u32_at(48),
            group_offset: u32_at(52),
            body_len: u32_at(56),
            name_len: u16_at(60),
            is_erased: flags & FLAG_ERASED != 0,
            crc: u32_at(72),
        };
        let index_end = usize::from(header.first.index()) + usize::from(header.count);
        let sound = header.count > 0
            && index_end <= BLOCK_EVENTS_MAX
            && header.ordinal <= POSITION_MAX
            && header.group <= POSITION_MAX
            && header.body_len as usize <= BODY_BYTES_MAX
            && flags & !FLAG_ERASED == 0
            && (!header.is_erased || header.body_len == 0)
            && usize::from(header.name_len) <= TOPIC_NAME_BYTES_MAX;
        sound.then_some(header)
    }

    /// Position of the last event.
    pub(super) fn last(&self) -> Position {
        Position::new(self.first.get() + u64::from(self.count) - 1)
            .expect("a block's positions lie in one block, which exists")
    }

    /// Bytes of name and body.
    pub(super) fn content_len(&self) -> usize {
        usize::from(self.name_len) + self.body_len as usize
    }

    /// Bytes from the start of this header to what follows the block.
    pub(super) fn stored_len(&self, tag_space: u16) -> u64 {
        (BLOCK_HEADER_LEN + self.content_len() + usize::from(tag_space)) as u64
    }

    /// Whether `content`, which is name and body, is what was written.
    pub(super) fn fits(&self, content: &[u8], seed: u32) -> bool {
        content.len() == self.content_len() && self.crc == crc32c::crc32c_append(seed, content)
    }
}

/// The boundary at or after `offset` where a group may start.
pub(super) fn align(offset: u64) -> u64 {
    offset.next_multiple_of(SECTOR)
}

/// The bytes at `at`, which lie within `bytes`.
fn array<const N: usize>(bytes: &[u8; BLOCK_HEADER_LEN], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("every field lies within the header")
}

const MAGIC: u32 = u32::from_le_bytes(*b"TGBK");
const FLAG_ERASED: u16 = 1;
const CRC_AT: usize = BLOCK_HEADER_LEN - 4;
/// A body has at most one largest event, or a block of smaller ones; an entry adds less than this.
const ENTRY_OVERHEAD_MAX: usize = 128;
const BODY_BYTES_MAX: usize = if EVENT_BYTES_MAX > BLOCK_BYTES_MAX {
    EVENT_BYTES_MAX + ENTRY_OVERHEAD_MAX
} else {
    BLOCK_BYTES_MAX + ENTRY_OVERHEAD_MAX
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> BlockHeader {
        BlockHeader {
            topic: TopicId::new(7),
            first: Position::in_block(99, 3).unwrap(),
            count: 200,
            ordinal: 12_345,
            appended_at: Timestamp::from_millis(-5),
            group: 77,
            group_len: 1_000_000,
            group_offset: 4_096,
            body_len: 30_000,
            name_len: 21,
            is_erased: false,
            crc: 0xdead_beef,
        }
    }

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let bytes = header().encode(5);
        assert_eq!(BlockHeader::decode(&bytes, 5), Some(header()));
        let erased = BlockHeader {
            is_erased: true,
            body_len: 0,
            ..header()
        };
        assert_eq!(BlockHeader::decode(&erased.encode(5), 5), Some(erased));
        assert_eq!(BlockHeader::decode(&bytes, 6), None, "another salt");
        assert_eq!(BlockHeader::decode(&bytes[..79], 5), None);
        assert_eq!(header().last(), Position::in_block(99, 202).unwrap());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header().encode(5);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BlockHeader::decode(&damaged, 5), None, "bit {bit}");
        }
    }

    #[test]
    fn lengths_that_no_block_has_are_refused() {
        let refused = |change: fn(&mut BlockHeader)| {
            let mut header = header();
            change(&mut header);
            BlockHeader::decode(&header.encode(5), 5).is_none()
        };
        assert!(refused(|header| header.count = 0));
        assert!(refused(|header| header.count = 254));
        assert!(refused(|header| header.body_len = u32::MAX));
        assert!(refused(|header| header.name_len = u16::MAX));
        assert!(refused(|header| header.ordinal = u64::MAX));
        assert!(refused(|header| header.group = u64::MAX));
        assert!(refused(|header| header.is_erased = true), "with a body");
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(BlockHeader::decode(&bytes, 1), None);
        }
    }
}
