//! Finds the blocks of one topic in a stretch of a segment that was read in one go.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    block::{BLOCK_HEADER_LEN, BlockHeader, align},
    cache::StepBlocks,
    index::{Step, StepEnd, before},
    segment::SegmentHeader,
};
use crate::{event_log::Block, types::TopicId};

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
    let mut at = 0;
    // The last position that was read or skipped, and the topic's events up to there.
    let mut last = before(step.first);
    let mut ordinal = step.ordinal;
    while at < bytes.len() {
        let header = BlockHeader::decode(&bytes[at..], seed);
        let header = header.filter(|header| header.first > last);
        let Some(header) = header else {
            // Groups start at sectors of the file; the next one that does is where reading goes on.
            at = (align(step.offset + at as u64 + 1) - step.offset) as usize;
            continue;
        };
        let content_at = at + BLOCK_HEADER_LEN;
        let content_end = content_at + header.content_len();
        if header.topic == topic {
            if header.ordinal != ordinal {
                found.holes.push((last, before(header.first)));
            }
            if !header.is_erased {
                match decode_block(bytes, &header, content_at, seed) {
                    Some(block) => found.blocks.push(Arc::new(block)),
                    None => found.holes.push((before(header.first), header.last())),
                }
            }
            ordinal = header.ordinal + u64::from(header.count);
            last = header.last();
        }
        let block_end = content_end + usize::from(segment.tag_space);
        let is_group_end =
            u64::from(header.group_offset) + (block_end - at) as u64 == u64::from(header.group_len);
        at = match is_group_end {
            true => (align(step.offset + block_end as u64) - step.offset) as usize,
            false => block_end,
        };
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
