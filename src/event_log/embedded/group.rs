//! Lays out a group: what its blocks take in a segment, and their headers.

use std::collections::HashSet;

use super::{
    block::{BLOCK_HEADER_LEN, BlockHeader, align},
    footer,
    index::SegmentIndex,
    segments::Live,
};
use crate::{
    event_log::{Block, numbering::Placed},
    types::TopicId,
};

/// Sizes of a group that is about to be written.
#[derive(Debug)]
pub(super) struct Group {
    blocks: usize,
    /// Bodies and headers; a topic's name comes on top.
    bytes: u64,
    pub(super) events: u64,
}

/// The header of one block, and its bytes with the topic's name if it carries that.
pub(super) struct Header {
    pub(super) fields: BlockHeader,
    pub(super) bytes: Vec<u8>,
}

impl Group {
    pub(super) fn new(placed: &Placed) -> Self {
        let bytes = placed.blocks.iter().map(|block| block.bytes().len());
        Self {
            blocks: placed.blocks.len(),
            bytes: (bytes.sum::<usize>() + placed.blocks.len() * BLOCK_HEADER_LEN) as u64,
            events: placed.ranges.iter().map(|r| u64::from(r.count)).sum(),
        }
    }

    /// At most this many bytes are needed for the group, and for a footer after it.
    pub(super) fn bytes_max(&self, index: &SegmentIndex) -> u64 {
        /// Name, and row and step in the footer, if the block begins one.
        const BLOCK_EXTRA: u64 = 512;
        let footer = footer::encoded_len_max(index);
        align(self.bytes + (self.blocks as u64 + 2) * BLOCK_EXTRA + footer)
    }

    /// The headers of the blocks, checksums included.
    pub(super) fn headers(&self, placed: &Placed, live: &Live) -> Vec<Header> {
        let seed = live.header.seed();
        let index = live.index();
        let group = index.last_group + 1;
        let mut named: HashSet<TopicId> = HashSet::new();
        let names: Vec<&[u8]> = placed
            .topics
            .iter()
            .map(|topic| {
                let is_new = index.is_new(topic.id) && named.insert(topic.id);
                if is_new {
                    topic.name.as_str().as_bytes()
                } else {
                    &[]
                }
            })
            .collect();
        drop(index);
        let names_len: usize = names.iter().map(|name| name.len()).sum();
        let group_len = self.bytes + names_len as u64;
        let group_len = u32::try_from(group_len).expect("a group is a few requests");
        let mut offset = 0;
        let header = |(block, name): (&Block, &&[u8])| {
            let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, name), block.bytes());
            let fields = BlockHeader {
                topic: block.topic(),
                first: block.first(),
                count: block.event_count() as u16,
                ordinal: block.ordinal(),
                appended_at: block.appended_at(),
                group,
                group_len,
                group_offset: offset,
                body_len: block.bytes().len() as u32,
                name_len: name.len() as u16,
                is_erased: false,
                crc,
            };
            let bytes = [&fields.encode(seed)[..], name].concat();
            offset += (bytes.len() + block.bytes().len()) as u32;
            Header { fields, bytes }
        };
        placed.blocks.iter().zip(&names).map(header).collect()
    }
}
