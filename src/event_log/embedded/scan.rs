//! Walks the blocks of a segment in the order of the file, and tells a torn tail from real loss.
//!
//! Group n + 1 is written only after the sync of n returned. So damage in group g that nothing
//! follows is a write that never finished, and damage that an intact block of a later group follows
//! is the loss of something acknowledged. Blocks of a group follow each other without a gap and the
//! next group starts at the next sector, so a later one is searched for at sector boundaries; the
//! salted checksums make sure that it is one. In a rewritten segment groups may be missing, and it is
//! known which one is the last.

use std::{collections::HashSet, io};

use super::{
    block::{BLOCK_HEADER_LEN, BlockHeader, SECTOR, align},
    index::{Hole, SegmentIndex, before},
    io::{IoFile, read_up_to},
    segment::{SEGMENT_HEADER_LEN, SegmentHeader},
};
use crate::types::{Position, TopicId, TopicName};

/// What is known beforehand about the end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Every group up to this one was acknowledged: what is missing is lost.
    Through(u64),
    /// The same, and the blocks end at this offset. Where a recovery cut the last group, that is
    /// before the group's own end.
    Sealed {
        /// The last group.
        last_group: u64,
        /// Where its last block ends.
        end: u64,
    },
    /// The writer stopped at some time: the last group may be torn.
    Torn,
    /// Groups were acknowledged before they were synced: everything from the first damage on may be
    /// torn.
    Unsynced,
}

/// One finding of a scan.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// An intact block.
    Block {
        header: &'a BlockHeader,
        name: Option<&'a TopicName>,
        /// Where its header begins.
        offset: u64,
        /// Where it ends.
        end: u64,
    },
    /// Bytes that were acknowledged and are not what was written.
    Damage {
        offset: u64,
        /// What the block was, if only its body is damaged.
        header: Option<&'a BlockHeader>,
    },
}

/// Where a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanEnd {
    /// What is to be kept ends here.
    pub(super) end: u64,
    /// Whether there are bytes behind it that were never acknowledged.
    pub(super) torn: bool,
    /// The last group, if only its first blocks are there and it was never acknowledged.
    pub(super) begun: Option<u64>,
}

/// Reads the blocks of one file through a window that moves forward.
#[derive(Debug)]
struct Scanner<'a> {
    file: &'a dyn IoFile,
    seed: u32,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// What stands at an offset.
enum Probe {
    Intact(BlockHeader, Option<TopicName>),
    BadBody(BlockHeader),
    Bad,
}

/// Walks the blocks of `file`, telling `visit` what it finds. Of a rewritten segment it is known how
/// far it goes, whatever is `expected`.
pub(super) fn scan(
    file: &dyn IoFile,
    segment: &SegmentHeader,
    expected: Expected,
    mut visit: impl FnMut(Found<'_>),
) -> io::Result<ScanEnd> {
    let mut scanner = Scanner::new(file, segment)?;
    let expected = match segment.rewritten {
        Some(rewritten) => Expected::Through(rewritten.last_group_left),
        None => expected,
    };
    let mut place = Place {
        group: segment.first_group,
        start: SEGMENT_HEADER_LEN,
        offset: SEGMENT_HEADER_LEN,
        may_skip: segment.rewritten.is_some(),
    };
    loop {
        let offset = place.offset;
        if place.is_end(expected) {
            return Ok(ScanEnd {
                end: offset,
                torn: false,
                begun: None,
            });
        }
        let mut probe = scanner.probe(offset)?;
        let mut later = None;
        if !place.holds(&probe) {
            later = scanner.later_group(&place, expected)?;
            // Of a file in use, what was read first may be older than what was read last.
            scanner.forget();
            probe = scanner.probe(offset)?;
        }
        match &probe {
            Probe::Intact(header, name) if place.holds(&probe) => {
                let end = offset + header.stored_len(segment.tag_space);
                let name = name.as_ref();
                visit(Found::Block {
                    header,
                    name,
                    offset,
                    end,
                });
                place.pass(header, end);
            }
            // The header tells what is lost and where the next block begins.
            Probe::BadBody(header)
                if place.expects(header) && place.is_lost(expected, later.is_some()) =>
            {
                let end = offset + header.stored_len(segment.tag_space);
                visit(Found::Damage {
                    offset,
                    header: Some(header),
                });
                place.pass(header, end);
            }
            _ => {
                let is_lost = place.is_lost(expected, later.is_some());
                if is_lost {
                    let header = None;
                    visit(Found::Damage { offset, header });
                }
                match later {
                    Some(later) => place = later,
                    None => {
                        let is_begun = !is_lost && !place.is_start();
                        return Ok(ScanEnd {
                            end: offset,
                            torn: !scanner.is_blank(offset)?,
                            begun: is_begun.then_some(place.group),
                        });
                    }
                }
            }
        }
    }
}

/// Where a scan is.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: u64,
    /// Where the group begins.
    start: u64,
    /// Where the next block begins.
    offset: u64,
    /// Whether groups may be missing.
    may_skip: bool,
}

impl Place {
    fn is_start(&self) -> bool {
        self.offset == self.start
    }

    /// Whether nothing more is expected.
    fn is_end(&self, expected: Expected) -> bool {
        match expected {
            Expected::Through(last) => self.is_start() && self.group > last,
            Expected::Sealed { end, .. } => self.offset >= end,
            Expected::Torn | Expected::Unsynced => false,
        }
    }

    /// Whether `header` is that of the block which belongs here.
    fn expects(&self, header: &BlockHeader) -> bool {
        let is_next = header.group == self.group
            || (self.may_skip && self.is_start() && header.group > self.group);
        is_next && u64::from(header.group_offset) == self.offset - self.start
    }

    fn holds(&self, probe: &Probe) -> bool {
        matches!(probe, Probe::Intact(header, _) if self.expects(header))
    }

    /// Whether what is not intact here was acknowledged: the group is known to have been, or one
    /// that came later is there.
    fn is_lost(&self, expected: Expected, has_later: bool) -> bool {
        has_later
            || match expected {
                Expected::Through(last_group) | Expected::Sealed { last_group, .. } => {
                    self.group <= last_group
                }
                Expected::Torn | Expected::Unsynced => false,
            }
    }

    /// Goes on behind a block, to the next group if it was the last of its own.
    fn pass(&mut self, header: &BlockHeader, end: u64) {
        self.group = header.group;
        self.offset = end;
        if end - self.start >= u64::from(header.group_len) {
            self.start = align(end);
            self.offset = self.start;
            self.group += 1;
        }
    }
}

impl<'a> Scanner<'a> {
    fn new(file: &'a dyn IoFile, segment: &SegmentHeader) -> io::Result<Self> {
        Ok(Self {
            file,
            seed: segment.seed(),
            len: file.size()?,
            window: Vec::new(),
            window_at: 0,
        })
    }

    fn probe(&mut self, offset: u64) -> io::Result<Probe> {
        let seed = self.seed;
        let Some(header) = BlockHeader::decode(self.bytes(offset, BLOCK_HEADER_LEN)?, seed) else {
            return Ok(Probe::Bad);
        };
        let content_at = offset + BLOCK_HEADER_LEN as u64;
        let content = self.bytes(content_at, header.content_len())?;
        if !header.fits(content, seed) {
            return Ok(Probe::BadBody(header));
        }
        let name = std::str::from_utf8(&content[..usize::from(header.name_len)]);
        Ok(Probe::Intact(
            header,
            name.ok().and_then(|name| name.parse().ok()),
        ))
    }

    /// The first group after the one at `place` that starts behind it with an intact block.
    fn later_group(&mut self, place: &Place, expected: Expected) -> io::Result<Option<Place>> {
        if expected == Expected::Unsynced {
            return Ok(None);
        }
        let seed = self.seed;
        let mut at = align(place.offset + 1);
        while at + BLOCK_HEADER_LEN as u64 <= self.len {
            let header = BlockHeader::decode(self.bytes(at, BLOCK_HEADER_LEN)?, seed);
            let is_start = header.is_some_and(|h| h.group > place.group && h.group_offset == 0);
            if is_start && let Probe::Intact(header, _) = self.probe(at)? {
                return Ok(Some(Place {
                    group: header.group,
                    start: at,
                    offset: at,
                    may_skip: place.may_skip,
                }));
            }
            at += SECTOR;
        }
        Ok(None)
    }

    /// Whether there is nothing, or nothing but zeros, where a block's header would be.
    fn is_blank(&mut self, offset: u64) -> io::Result<bool> {
        let bytes = self.bytes(offset, BLOCK_HEADER_LEN)?;
        Ok(bytes.iter().all(|&byte| byte == 0))
    }

    /// Reads anew what was read before.
    fn forget(&mut self) {
        self.window.clear();
    }

    /// Up to `len` bytes at `offset`.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let window_end = self.window_at + self.window.len() as u64;
        let end = offset.saturating_add(len as u64).min(self.len);
        if offset < self.window_at || end > window_end {
            self.window = read_up_to(self.file, offset, len.max(WINDOW_LEN))?;
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        let to = (from + len).min(self.window.len());
        Ok(self.window.get(from..to).unwrap_or_default())
    }
}

/// Makes the index of a segment out of what a scan finds.
#[derive(Debug)]
pub(super) struct Rebuild {
    index: SegmentIndex,
    /// For which hole and topic it is known whether the topic lost something in it.
    decided: HashSet<(usize, TopicId)>,
}

impl Rebuild {
    /// Begins with the index of a segment that has no blocks yet.
    pub(super) fn new(index: SegmentIndex) -> Self {
        Self {
            index,
            decided: HashSet::new(),
        }
    }

    /// Takes up a finding.
    pub(super) fn note(&mut self, found: &Found<'_>) {
        match found {
            Found::Block {
                header,
                name,
                offset,
                end,
            } => {
                self.settle_holes(header);
                self.index.add(header, *name, *offset, *end);
            }
            Found::Damage { header, .. } => {
                let hole = match header {
                    Some(header) => Hole {
                        topic: Some(header.topic),
                        after: before(header.first),
                        until: header.last(),
                        spared: Vec::new(),
                    },
                    None => Hole {
                        topic: None,
                        after: self.index.last,
                        until: Position::MAX,
                        spared: Vec::new(),
                    },
                };
                self.index.holes.push(hole);
            }
        }
    }

    /// The finished index; a hole at its end reaches up to `until`.
    pub(super) fn finish(mut self, until: Position) -> SegmentIndex {
        for hole in &mut self.index.holes {
            hole.until = hole.until.min(until);
        }
        self.index
    }

    /// Ends holes before the block, and spares its topic if its ordinals go on without a gap.
    fn settle_holes(&mut self, header: &BlockHeader) {
        let topic = self.index.topics.get(&header.topic);
        let expected = topic.map_or(0, |topic| topic.ordinal_end);
        for (number, hole) in self.index.holes.iter_mut().enumerate() {
            if hole.topic.is_some() {
                continue;
            }
            hole.until = hole.until.min(before(header.first));
            if self.decided.insert((number, header.topic)) && header.ordinal == expected {
                hole.spared.push(header.topic);
            }
        }
    }
}

/// Bytes read at once; more than the largest block that is not a single event.
const WINDOW_LEN: usize = 1 << 20;
