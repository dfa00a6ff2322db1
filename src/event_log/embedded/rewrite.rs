//! Makes a sealed segment anew without what has to go: events that were purged, erased or deleted.
//!
//! The order makes it safe to stop anywhere: the new file is written under a name that opening
//! removes, synced, and only then given the next generation of the segment's name; once that name is
//! durable the older file goes. Of two generations the newer one counts.
//!
//! Positions, ordinals, times and group numbers stay. An event that is purged leaves no trace, since
//! nobody reads there any more; one that is erased leaves an erased block, so that nobody takes its
//! absence for damage.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    block::{BLOCK_HEADER_LEN, BlockHeader, align},
    footer::{Footer, SealedBy},
    index::{Hole, SegmentIndex},
    io::{Access, Io, IoFile, read_up_to, write_all_at},
    scan::{Found, Rebuild, scan},
    segment::{Rewritten, SEGMENT_HEADER_LEN, SegmentHeader, SegmentName},
    writer::write_footer,
};
use crate::{
    event_log::Block,
    types::{Position, TopicId, TopicName},
};

/// Name under which a segment is made anew. Whatever is in it is also in the segment itself.
pub(super) const SEGMENT_NEW: &str = "segment.new";

/// What is to go from a segment.
pub(super) struct Cut<'a> {
    /// Position up to which a topic is purged; [`Position::MAX`] for a deleted one.
    pub(super) purged: &'a dyn Fn(TopicId) -> Position,
    /// Positions of single events to erase, sorted, by topic.
    pub(super) erased: &'a BTreeMap<TopicId, Vec<Position>>,
}

/// A segment as it was made anew, under its own name.
#[derive(Debug)]
pub(super) struct Remade {
    pub(super) footer: Footer,
    /// Size of the file.
    pub(super) bytes: u64,
    /// Events that were in the segment and are not any more.
    pub(super) events_gone: u64,
}

/// Why a segment was not made anew. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum RewriteError {
    /// A block of it is not what was written, from this byte on.
    #[error("the segment {segment} is damaged at byte {offset}; `tidegate log repair` comes first")]
    Damaged {
        /// The file's name.
        segment: SegmentName,
        /// Where.
        offset: u64,
    },
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What to do about damage that is met on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDamage {
    /// Leave the segment as it is, for whoever looks into it.
    Refuse,
    /// Take what is intact and note what is not.
    Note {
        /// What was lost ends here at the latest.
        until: Position,
    },
}

/// Makes the segment with this footer, which is not written any more, anew in `dir`.
///
/// The file it was made of is still there when this returns, under the generation before.
pub(super) fn rewrite(
    io: &dyn Io,
    dir: &Path,
    source: &Footer,
    cut: &Cut<'_>,
    on_damage: OnDamage,
) -> Result<Remade, RewriteError> {
    let new = dir.join(SEGMENT_NEW);
    match io.unlink(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let made = Remaking::run(io, dir, source, cut, on_damage);
    match made.and_then(|made| {
        let name = made.footer.header.name.to_string();
        io.rename(&new, &dir.join(name))?;
        io.sync_dir(dir)?;
        Ok(made)
    }) {
        Ok(made) => Ok(made),
        Err(error) => {
            // Opening removes it if this fails.
            _ = io.unlink(&new);
            Err(error)
        }
    }
}

/// A segment that is being made anew, group by group.
struct Remaking<'a> {
    source: &'a Footer,
    from: Arc<dyn IoFile>,
    to: Arc<dyn IoFile>,
    header: SegmentHeader,
    cut: &'a Cut<'a>,
    index: SegmentIndex,
    /// Where the next group begins.
    at: u64,
    /// The blocks of the group at hand that are left.
    group: Vec<Left>,
    events_gone: u64,
}

/// A block, or a part of one, that goes into the new file.
struct Left {
    header: BlockHeader,
    /// Whether it is the topic's first and so carries its name.
    name: Option<TopicName>,
    body: Bytes,
}

impl<'a> Remaking<'a> {
    fn run(
        io: &'a dyn Io,
        dir: &Path,
        source: &'a Footer,
        cut: &'a Cut<'a>,
        on_damage: OnDamage,
    ) -> Result<Remade, RewriteError> {
        let name = source.header.name;
        let mut header = SegmentHeader {
            name: SegmentName {
                generation: name.generation + 1,
                ..name
            },
            salt: io.random()?,
            ..source.header
        };
        let mut remaking = Self {
            from: io.open(&dir.join(name.to_string()), Access::Read)?,
            to: io.create(&dir.join(SEGMENT_NEW))?,
            header,
            source,
            cut,
            index: empty(&source.index),
            at: SEGMENT_HEADER_LEN,
            group: Vec::new(),
            events_gone: 0,
        };
        let holes = remaking.take_over(on_damage)?;
        let Self { index, to, .. } = remaking;
        let old = &source.index;
        header.rewritten = Some(Rewritten {
            last_group_left: match index.blocks {
                0 => header.first_group - 1,
                _ => index.last_group,
            },
            last_group: old.last_group,
            last: old.last,
        });
        let footer = Footer {
            header,
            sealed_by: SealedBy::Rewriting,
            index: finished(index, old, holes, cut),
        };
        let pages = header.encode_pages();
        write_all_at(&*to, &mut [IoSlice::new(&pages)], 0)?;
        let bytes = write_footer(&*to, &footer)?;
        to.sync()?;
        Ok(Remade {
            footer,
            bytes,
            events_gone: remaking.events_gone,
        })
    }

    /// Copies what is left of every block, and returns what was found lost.
    fn take_over(&mut self, on_damage: OnDamage) -> Result<Vec<Hole>, RewriteError> {
        let from = Arc::clone(&self.from);
        let segment = self.source.header;
        let mut rebuild = Rebuild::new(empty(&self.source.index));
        let mut failed = Ok(());
        scan(&*from, &segment, self.source.expected(), |found| {
            if failed.is_ok() {
                failed = match &found {
                    Found::Block { header, offset, .. } => self.block(header, *offset),
                    Found::Damage { offset, .. } if on_damage == OnDamage::Refuse => {
                        Err(RewriteError::Damaged {
                            segment: segment.name,
                            offset: *offset,
                        })
                    }
                    Found::Damage { .. } => Ok(()),
                };
            }
            rebuild.note(&found);
        })?;
        failed?;
        self.end_group()?;
        Ok(match on_damage {
            OnDamage::Refuse => Vec::new(),
            OnDamage::Note { until } => rebuild.finish(until).holes,
        })
    }

    fn block(&mut self, header: &BlockHeader, offset: u64) -> Result<(), RewriteError> {
        if self
            .group
            .last()
            .is_some_and(|left| left.header.group != header.group)
        {
            self.end_group()?;
        }
        let purged = (self.cut.purged)(header.topic);
        let none = Vec::new();
        let erased = self.cut.erased.get(&header.topic).unwrap_or(&none);
        if purged >= header.last() {
            self.count_gone(header, u64::from(header.count));
            return Ok(());
        }
        let is_hit = |position: &Position| (header.first..=header.last()).contains(position);
        if header.is_erased || (purged < header.first && !erased.iter().any(is_hit)) {
            let body_at = offset + (BLOCK_HEADER_LEN + usize::from(header.name_len)) as u64;
            let body = read_up_to(&*self.from, body_at, header.body_len as usize)?;
            self.leave(*header, body.into());
            return Ok(());
        }
        let block = self.read(header, offset)?;
        for run in Runs::new(header, purged, erased) {
            let part = BlockHeader {
                first: run.first,
                count: run.count,
                ordinal: header.ordinal + run.skipped,
                ..*header
            };
            if run.is_left {
                let slice = block.run(run.skipped as usize, usize::from(run.count));
                self.leave(part, slice);
            } else {
                self.count_gone(header, u64::from(run.count));
                let erased = BlockHeader {
                    is_erased: true,
                    ..part
                };
                if part.first > purged {
                    self.leave(erased, Bytes::new());
                }
            }
        }
        Ok(())
    }

    /// Reads the entries of a block that the scan found intact.
    fn read(&self, header: &BlockHeader, offset: u64) -> Result<Block, RewriteError> {
        let body_at = offset + (BLOCK_HEADER_LEN + usize::from(header.name_len)) as u64;
        let body = read_up_to(&*self.from, body_at, header.body_len as usize)?;
        let block = Block::from_stored(
            header.topic,
            header.first,
            usize::from(header.count),
            header.ordinal,
            header.appended_at,
            body.into(),
        );
        block.map_err(|_| RewriteError::Damaged {
            segment: self.source.header.name,
            offset,
        })
    }

    fn count_gone(&mut self, header: &BlockHeader, events: u64) {
        if !header.is_erased {
            self.events_gone += events;
        }
    }

    fn leave(&mut self, header: BlockHeader, body: Bytes) {
        let is_named = |left: &Left| left.header.topic == header.topic;
        let is_new = self.index.is_new(header.topic) && !self.group.iter().any(is_named);
        let known = self.source.index.topics.get(&header.topic);
        let name = known.filter(|_| is_new).map(|topic| topic.name.clone());
        self.group.push(Left { header, name, body });
    }

    /// Writes what is left of the group at hand.
    fn end_group(&mut self) -> Result<(), RewriteError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let seed = self.header.seed();
        let group = std::mem::take(&mut self.group);
        let name_len = |left: &Left| left.name.as_ref().map_or(0, |name| name.as_str().len());
        let len = |left: &Left| BLOCK_HEADER_LEN + name_len(left) + left.body.len();
        let group_len = group.iter().map(len).sum::<usize>() as u32;
        let mut bytes = Vec::with_capacity(group_len as usize);
        for left in &group {
            let name = left
                .name
                .as_ref()
                .map_or("", |name| name.as_str())
                .as_bytes();
            let header = BlockHeader {
                group_len,
                group_offset: bytes.len() as u32,
                body_len: left.body.len() as u32,
                name_len: name.len() as u16,
                crc: crc32c::crc32c_append(crc32c::crc32c_append(seed, name), &left.body),
                ..left.header
            };
            let offset = self.at + bytes.len() as u64;
            bytes.extend_from_slice(&header.encode(seed));
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(&left.body);
            let end = self.at + bytes.len() as u64;
            self.index.add(&header, left.name.as_ref(), offset, end);
        }
        write_all_at(&*self.to, &mut [IoSlice::new(&bytes)], self.at)?;
        self.at = align(self.at + bytes.len() as u64);
        Ok(())
    }
}

/// The index of a segment with nothing in it yet, which knows of topics what `old` knows.
fn empty(old: &SegmentIndex) -> SegmentIndex {
    let mut index = SegmentIndex {
        last_group: old.first_group - 1,
        blocks: 0,
        events: 0,
        end: SEGMENT_HEADER_LEN,
        holes: Vec::new(),
        steps: 0,
        ..old.clone()
    };
    for topic in index.topics.values_mut() {
        topic.steps.clear();
        topic.last = topic.before;
        topic.ordinal_end = topic.ordinal_start;
    }
    index
}

/// The index with what is true of the segment whatever is left in it.
fn finished(
    mut index: SegmentIndex,
    old: &SegmentIndex,
    mut holes: Vec<Hole>,
    cut: &Cut<'_>,
) -> SegmentIndex {
    index.first_at = old.first_at;
    index.last_at = old.last_at;
    index.last = old.last;
    index.last_group = old.last_group;
    for (id, topic) in &mut index.topics {
        if let Some(old) = old.topics.get(id) {
            topic.last = old.last;
            topic.ordinal_end = old.ordinal_end;
            topic.last_at = old.last_at;
        }
    }
    let is_deleted = |id: &TopicId| (cut.purged)(*id) == Position::MAX;
    index.topics.retain(|id, _| !is_deleted(id));
    holes.extend(old.holes.iter().cloned());
    holes.sort_by_key(|hole| (hole.after, hole.until));
    holes.dedup();
    index.holes = holes;
    index
}

/// Consecutive events of a block that share their fate.
struct Run {
    first: Position,
    count: u16,
    /// Events of the block before it.
    skipped: u64,
    is_left: bool,
}

/// The runs of a block, in order.
struct Runs<'a> {
    header: &'a BlockHeader,
    purged: Position,
    erased: &'a [Position],
    next: u16,
}

impl<'a> Runs<'a> {
    fn new(header: &'a BlockHeader, purged: Position, erased: &'a [Position]) -> Self {
        Self {
            header,
            purged,
            erased,
            next: 0,
        }
    }

    fn at(&self, index: u16) -> Position {
        Position::new(self.header.first.get() + u64::from(index))
            .expect("a block's positions lie in one block, which exists")
    }

    /// Whether the event is left, and whether it is purged.
    fn fate(&self, index: u16) -> (bool, bool) {
        let position = self.at(index);
        let is_purged = position <= self.purged;
        let is_erased = self.erased.binary_search(&position).is_ok();
        (!is_purged && !is_erased, is_purged)
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let start = self.next;
        if start == self.header.count {
            return None;
        }
        let fate = self.fate(start);
        let same = |index: &u16| self.fate(*index) == fate;
        let count = (start..self.header.count).take_while(same).count() as u16;
        self.next += count;
        Some(Run {
            first: self.at(start),
            count,
            skipped: u64::from(start),
            is_left: fate.0,
        })
    }
}
