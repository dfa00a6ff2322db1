//! Finds the blocks of one topic in a stretch of a segment that was read in one go.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    block::{BLOCK_HEADER_LEN, BlockHeader, align},
    cache::StepBlocks,
    index::{Step, StepEnd, before},
    segment::SegmentHeader,
};
use crate::{
    event_log::Block,
    types::{Position, TopicId},
};

/// Finds the blocks of `topic` in the bytes of a step.
///
/// Ordinals tell what is missing: a block that is skipped because of damage is a hole only if it
/// was the topic's.
pub(super) fn decode_step(
    bytes: &Bytes,
    segment: &SegmentHeader,
    topic: TopicId,
    step: &Step,
    end: StepEnd,
) -> StepBlocks {
    let seed = segment.seed();
    let mut found = StepBlocks::default();
    // The last position that was read or skipped, and the topic's events up to there.
    let mut last = before(step.first);
    let mut ordinal = step.ordinal;
    for (at, header) in Headers::new(bytes, segment, step.offset, last) {
        if header.topic != topic {
            continue;
        }
        if header.ordinal != ordinal {
            found.holes.push((last, before(header.first)));
        }
        if !header.is_erased {
            match decode_block(bytes, &header, at + BLOCK_HEADER_LEN, seed) {
                Some(block) => found.blocks.push(Arc::new(block)),
                None => found.holes.push((before(header.first), header.last())),
            }
        }
        ordinal = header.ordinal + u64::from(header.count);
        last = header.last();
    }
    if ordinal != end.ordinal {
        found.holes.push((last, end.last));
    }
    found.bytes = bytes.len();
    let wanted: usize = found.blocks.iter().map(|block| block.bytes().len()).sum();
    // Blocks are slices of what was read; a few small ones would keep all of it in memory.
    if wanted < bytes.len() / 2 {
        let detach = |block: &mut Arc<Block>| *block = Arc::new(block.detached());
        found.blocks.iter_mut().for_each(detach);
        found.bytes = wanted;
    }
    found
}

/// The intact headers in a stretch of a segment, each with where in the bytes it begins.
pub(super) struct Headers<'a> {
    bytes: &'a [u8],
    segment: &'a SegmentHeader,
    /// Where in the file the bytes begin.
    offset: u64,
    at: usize,
    /// The last position so far.
    last: Position,
}

impl<'a> Headers<'a> {
    /// Of `bytes`, which stand at `offset`: the first of them is a block's, which comes after the
    /// position `last`.
    pub(super) fn new(
        bytes: &'a [u8],
        segment: &'a SegmentHeader,
        offset: u64,
        last: Position,
    ) -> Self {
        Self {
            bytes,
            segment,
            offset,
            at: 0,
            last,
        }
    }

    /// The index in the bytes of the sector's start at or after `index`.
    fn align(&self, index: usize) -> usize {
        (align(self.offset + index as u64) - self.offset) as usize
    }
}

impl Iterator for Headers<'_> {
    type Item = (usize, BlockHeader);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.at;
            let header = BlockHeader::decode(self.bytes.get(at..)?, self.segment.seed());
            let Some(header) = header.filter(|header| header.first > self.last) else {
                // Groups start at sectors of the file; the next one that does is where reading goes
                // on.
                self.at = self.align(at + 1);
                continue;
            };
            let len = header.stored_len(self.segment.tag_space);
            let end = at + len as usize;
            let is_group_end = u64::from(header.group_offset) + len == u64::from(header.group_len);
            self.at = if is_group_end { self.align(end) } else { end };
            self.last = header.last();
            return Some((at, header));
        }
    }
}

fn decode_block(bytes: &Bytes, header: &BlockHeader, at: usize, seed: u32) -> Option<Block> {
    let content = bytes.get(at..at + header.content_len())?;
    if !header.fits(content, seed) {
        return None;
    }
    let body = bytes.slice(at + usize::from(header.name_len)..at + header.content_len());
    Block::from_stored(
        header.topic,
        header.first,
        usize::from(header.count),
        header.ordinal,
        header.appended_at,
        body,
    )
    .ok()
}
