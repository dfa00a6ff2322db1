//! Reads what is behind the ring: finds segment and step, reads exactly that stretch of the file,
//! checks it, and merges the topics asked for by position.
//!
//! What is in memory is read where the caller runs. What is not is read on a blocking thread, of
//! which a bounded number is at work; both run the same code, told whether it may go to the disk.
//! A read never goes past the head, and never over a hole without saying so.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    cache::{StepBlocks, StepKey},
    footer::{Footer, SealedBy},
    index::{Step, StepEnd, TopicIndex, before},
    io::{Access, read_up_to},
    scan::{Expected, Rebuild, scan},
    segment::{SEGMENT_HEADER_LEN, SegmentHeader},
    segments::{IndexRef, Segment},
    step::decode_step,
    store::Store,
};
use crate::{
    event_log::{Block, PositionError, ReadBatch, ReadError, tail::TailRead},
    types::{
        Position, TopicId,
        limits::{INDEX_STEP_BYTES, READ_BYTES_MAX},
    },
};

/// Whether a read may go to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Memory,
    Disk,
}

/// Why a read stopped before it had all it could have.
#[derive(Debug)]
enum Stop {
    /// There is enough, or the head is reached.
    Enough,
    /// There is no further segment.
    End,
    /// A segment was rewritten or removed while it was read.
    Moved,
    /// The rest is on the disk, and this read may not go there.
    NotInMemory,
    /// Events were lost here.
    Hole { after: Position, until: Position },
    /// The operating system refused.
    Failed(Arc<io::Error>),
}

impl Store {
    /// See [`crate::event_log::TenantLog::read`].
    pub(super) async fn read(
        self: &Arc<Self>,
        topics: &[TopicId],
        after: Position,
        bytes_max: usize,
    ) -> Result<ReadBatch, ReadError> {
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let head = match self.tail.read(topics, after, bytes_max)? {
            TailRead::Ring(batch) => return Ok(batch),
            TailRead::Storage { head } => head,
        };
        let mut topics = topics.to_vec();
        topics.sort_unstable();
        topics.dedup();
        let request = Request {
            topics,
            after,
            head,
            bytes_max,
        };
        if let Some(batch) = self.collect(&request, Reach::Memory)? {
            return Ok(batch);
        }
        let collect = move |store: &Self| store.collect(&request, Reach::Disk);
        let batch = self.on_disk(collect).await?;
        let silent = || io::Error::other("a read of the disk found nothing to say");
        batch.ok_or_else(|| ReadError::Storage(Arc::new(silent())))
    }

    /// Does `work`, which reads from the disk, on a thread where it may block.
    pub(super) async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let failed = |error: io::Error| ReadError::Storage(Arc::new(error));
        let permit = Arc::clone(&self.process.disk_reads).acquire_owned().await;
        let permit = permit.map_err(|error| failed(io::Error::other(error)))?;
        self.metrics().disk_reads.inc();
        let store = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            // Held by the thread: it goes on when whoever asked has gone.
            let _permit = permit;
            work(&store)
        });
        read.await.map_err(|error| failed(error.into()))?
    }

    /// Reads as far as `reach` allows; `None` if that is nowhere.
    fn collect(&self, request: &Request, reach: Reach) -> Result<Option<ReadBatch>, ReadError> {
        loop {
            let mut merge = Merge::new(self, request, reach);
            let stop = merge.run();
            // Only now is it certain that nothing was purged between the steps that were read.
            self.tail.check(&request.topics, request.after)?;
            if let Some(last) = merge.blocks.last() {
                let examined = last.last();
                let blocks = merge.blocks;
                return Ok(Some(ReadBatch { blocks, examined }));
            }
            let damaged = |last_good: Position, valid_from| {
                Err(ReadError::Position(PositionError::Damaged {
                    position: request.after,
                    last_good: last_good.max(request.after),
                    valid_from,
                }))
            };
            match stop {
                Stop::NotInMemory => return Ok(None),
                // It is in the list under another name by now, or purged.
                Stop::Moved => {}
                Stop::Failed(error) => return Err(ReadError::Storage(error)),
                Stop::Hole { after, until } => return damaged(after, until),
                // The tail knows of events here, and no segment has them.
                Stop::End if !merge.has_seen_all() => return damaged(request.after, request.head),
                Stop::Enough | Stop::End => {
                    return Ok(Some(ReadBatch {
                        blocks: Vec::new(),
                        examined: request.head,
                    }));
                }
            }
        }
    }

    /// Header and index of a segment; `None` if `reach` does not allow to load them.
    fn index_of(&self, segment: &Segment, reach: Reach) -> io::Result<Option<IndexRef>> {
        if let Some(live) = segment.live_index() {
            return Ok(Some(IndexRef::Live(live)));
        }
        let caches = &self.process.caches;
        let footer = match reach {
            Reach::Memory => caches.footer(segment.uid),
            Reach::Disk => Some(caches.footer_or_load(segment.uid, || self.load_footer(segment))?),
        };
        Ok(footer.map(IndexRef::Sealed))
    }

    /// Header and index of a segment, loaded if they are not in memory.
    pub(super) fn index_on_disk(&self, segment: &Segment) -> io::Result<IndexRef> {
        let index = self.index_of(segment, Reach::Disk)?;
        Ok(index.expect("the disk is within reach"))
    }

    /// Reads a segment's footer, or makes one out of its blocks if it is damaged.
    pub(super) fn load_footer(&self, segment: &Segment) -> io::Result<Footer> {
        self.metrics().footer_reads.inc();
        let path = segment.path(&self.dir);
        let file = self.io().open(&path, Access::Read)?;
        let unusable = |reason| io::Error::new(io::ErrorKind::InvalidData, reason);
        let owned = |header: &SegmentHeader| match header.name == segment.name && self.owns(header)
        {
            true => Ok(()),
            false => {
                tracing::error!(path = %path.display(), "the segment is not of this log");
                Err(unusable("the segment is not of this log"))
            }
        };
        if let Some(footer) = Footer::read(&*file)? {
            return owned(&footer.header).map(|()| footer);
        }
        tracing::error!(path = %path.display(), "the footer is damaged; reading the whole segment");
        let header = SegmentHeader::read(&*file)?;
        let header = header.map_err(|_| unusable("neither footer nor header is intact"))?;
        owned(&header)?;
        let next = self.segments.after(segment.name);
        let until = next.map_or(self.tail.ends().0, |next| before(next.name.first()));
        let mut rebuild = Rebuild::new(super::index::SegmentIndex {
            first_group: header.first_group,
            last_group: header.first_group - 1,
            end: SEGMENT_HEADER_LEN,
            ..Default::default()
        });
        scan(&*file, &header, Expected::Torn, |found| {
            rebuild.note(&found)
        })?;
        Ok(Footer {
            header,
            sealed_by: SealedBy::Recovery,
            index: rebuild.finish(until),
        })
    }

    /// Reads the blocks of one topic in one step.
    fn load_step(
        &self,
        segment: &Segment,
        index: &IndexRef,
        key: &StepKey,
        end: StepEnd,
    ) -> io::Result<StepBlocks> {
        let step = &key.step;
        let path = segment.path(&self.dir);
        let file = self.io().open(&path, Access::Read)?;
        let bytes = Bytes::from(read_up_to(&*file, step.offset, step.len as usize)?);
        let header = index.with(|header, _| *header);
        let found = decode_step(&bytes, &header, key.topic, step, end);
        for &(after, until) in &found.holes {
            // What the index knows of was told when the index was made.
            let is_known = index.with(|_, index| {
                let mut holes = index.holes.iter().filter(|hole| hole.concerns(key.topic));
                holes.any(|hole| hole.after < until && after < hole.until)
            });
            if !is_known {
                self.metrics().holes.inc();
                tracing::error!(
                    path = %path.display(),
                    topic = key.topic.get(),
                    after = after.get(),
                    until = until.get(),
                    "acknowledged events were lost to damage"
                );
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
impl Store {
    /// The same as [`Self::read`], on the thread of the caller: for tests that read so often that
    /// going to another thread and back would take most of their time.
    pub(super) fn read_here(
        &self,
        topics: &[TopicId],
        after: Position,
        bytes_max: usize,
    ) -> Result<ReadBatch, ReadError> {
        let head = match self.tail.read(topics, after, bytes_max)? {
            TailRead::Ring(batch) => return Ok(batch),
            TailRead::Storage { head } => head,
        };
        let request = Request {
            topics: topics.to_vec(),
            after,
            head,
            bytes_max,
        };
        let batch = self.collect(&request, Reach::Disk)?;
        Ok(batch.expect("a read that may go to the disk has something to say"))
    }
}

/// What a reader asked for, and how far it may see.
#[derive(Debug)]
struct Request {
    /// Each once.
    topics: Vec<TopicId>,
    after: Position,
    head: Position,
    bytes_max: usize,
}

/// One read under way: goes from segment to segment and merges the topics in each.
struct Merge<'a> {
    store: &'a Store,
    request: &'a Request,
    reach: Reach,
    blocks: Vec<Arc<Block>>,
    bytes: usize,
    /// The last position that was looked at.
    cursor: Position,
    /// For each topic the position of the newest event that was seen, or need not be.
    seen: Vec<Position>,
}

/// What one segment has for a read.
#[derive(Default)]
struct Plan {
    slots: Vec<Slot>,
    /// For each topic of the read the position of its newest event up to the segment's end.
    lasts: Vec<Position>,
    /// Losses that concern a topic of the read.
    holes: Vec<(Position, Position)>,
}

/// One topic in one segment.
struct Slot {
    /// Index in the request's topics.
    topic: usize,
    steps: VecDeque<(Step, StepEnd)>,
    /// Index of the topic's next step in the segment.
    next_step: usize,
    /// Whether there is one.
    has_more: bool,
    blocks: VecDeque<Arc<Block>>,
}

impl Slot {
    /// Plans the next `steps_max` steps.
    fn plan(&mut self, found: &TopicIndex, steps_max: usize) {
        let rest = found.steps.get(self.next_step..).unwrap_or_default();
        let planned = &rest[..rest.len().min(steps_max)];
        let step = |step: &Step| (*step, found.step_end(step.offset));
        self.steps.extend(planned.iter().map(step));
        self.next_step += planned.len();
        self.has_more = rest.len() > planned.len();
    }
}

impl<'a> Merge<'a> {
    fn new(store: &'a Store, request: &'a Request, reach: Reach) -> Self {
        Self {
            store,
            request,
            reach,
            blocks: Vec::new(),
            bytes: 0,
            cursor: request.after,
            seen: vec![request.after; request.topics.len()],
        }
    }

    fn run(&mut self) -> Stop {
        let mut segment = self.store.segments.containing(self.request.after);
        while let Some(current) = segment {
            let found = self.blocks.len();
            if let Err(stop) = self.merge_segment(&current) {
                return stop;
            }
            // What was found is not held back while segments are gone through that have nothing.
            if found > 0 && self.blocks.len() == found {
                break;
            }
            segment = self.store.segments.after(current.name);
        }
        Stop::End
    }

    /// Whether everything that the tail knows of up to the head was seen.
    fn has_seen_all(&self) -> bool {
        let topics = self.request.topics.iter().zip(&self.seen);
        topics.into_iter().all(|(topic, seen)| {
            let last = self.store.tail.topic(*topic).last;
            // What is past the head came after the read began.
            last <= *seen || last > self.request.head
        })
    }

    fn merge_segment(&mut self, segment: &Segment) -> Result<(), Stop> {
        let index = match self.store.index_of(segment, self.reach) {
            Ok(index) => index.ok_or(Stop::NotInMemory)?,
            Err(error) => return Err(self.unreadable(segment, error)),
        };
        let mut plan = self.plan(&index)?;
        let mut next: BinaryHeap<_> = (0..plan.slots.len())
            .filter_map(|slot| Some(Reverse((plan.slots[slot].steps.front()?.0.first, slot))))
            .collect();
        while let Some(Reverse((_, number))) = next.pop() {
            let slot = &mut plan.slots[number];
            match slot.blocks.pop_front() {
                Some(block) => {
                    self.stop_at_hole(&plan.holes, block.first())?;
                    self.take(slot.topic, block)?;
                }
                None => match slot.steps.pop_front() {
                    Some((step, end)) => {
                        let topic = self.request.topics[slot.topic];
                        let found = self.step(segment, &index, topic, step, end)?;
                        let cursor = self.cursor;
                        let blocks = found.blocks.iter().filter(|block| block.last() > cursor);
                        slot.blocks = blocks.cloned().collect();
                        plan.holes
                            .extend(found.holes.iter().filter(|hole| hole.1 > cursor));
                    }
                    // The steps planned for are used up: the next read plans from there, unless
                    // all they held was erased.
                    None if slot.has_more && !self.blocks.is_empty() => return Err(Stop::Enough),
                    None if slot.has_more => {
                        let topic = self.request.topics[slot.topic];
                        index.with(|_, index| {
                            if let Some(found) = index.topics.get(&topic) {
                                slot.plan(found, self.steps_max());
                            }
                        });
                    }
                    None => continue,
                },
            }
            let slot = &plan.slots[number];
            let following = match (slot.blocks.front(), slot.steps.front()) {
                (Some(block), _) => block.first(),
                (None, Some((step, _))) => step.first,
                // Comes up again in its place, to find that it has no more.
                (None, None) => self.cursor,
            };
            next.push(Reverse((following, number)));
        }
        self.stop_at_hole(&plan.holes, Position::MAX)?;
        for (seen, last) in self.seen.iter_mut().zip(plan.lasts) {
            *seen = last.max(*seen);
        }
        Ok(())
    }

    /// One step more than the bytes asked for fill, and never so few that none makes progress.
    fn steps_max(&self) -> usize {
        self.request.bytes_max / INDEX_STEP_BYTES as usize + 3
    }

    /// Collects what the segment has of the topics behind the cursor.
    fn plan(&self, index: &IndexRef) -> Result<Plan, Stop> {
        index.with(|_, index| {
            let mut plan = Plan {
                lasts: vec![Position::ZERO; self.request.topics.len()],
                ..Plan::default()
            };
            for (number, topic) in self.request.topics.iter().enumerate() {
                let holes = index.holes.iter().filter(|hole| hole.concerns(*topic));
                let holes = holes.map(|hole| (hole.after, hole.until));
                plan.holes.extend(holes.filter(|hole| hole.1 > self.cursor));
                let Some(found) = index.topics.get(topic) else {
                    continue;
                };
                // An event before this segment that no segment had: a file is missing.
                if found.before > self.seen[number] {
                    return Err(Stop::Hole {
                        after: self.seen[number],
                        until: found.before,
                    });
                }
                plan.lasts[number] = found.last;
                let mut slot = Slot {
                    topic: number,
                    steps: VecDeque::new(),
                    next_step: found.first_step_after(self.cursor),
                    has_more: false,
                    blocks: VecDeque::new(),
                };
                slot.plan(found, self.steps_max());
                plan.slots.push(slot);
            }
            Ok(plan)
        })
    }

    fn step(
        &self,
        segment: &Segment,
        index: &IndexRef,
        topic: TopicId,
        step: Step,
        end: StepEnd,
    ) -> Result<Arc<StepBlocks>, Stop> {
        let caches = &self.store.process.caches;
        let key = StepKey {
            segment: segment.uid,
            topic,
            step,
        };
        if self.reach == Reach::Memory {
            return caches.step(&key).ok_or(Stop::NotInMemory);
        }
        let load = || self.store.load_step(segment, index, &key, end);
        let found = caches.step_or_load(&key, load);
        found.map_err(|error| self.unreadable(segment, error))
    }

    fn take(&mut self, topic: usize, block: Arc<Block>) -> Result<(), Stop> {
        self.bytes += block.bytes().len();
        let is_enough = self.bytes > self.request.bytes_max && !self.blocks.is_empty();
        if is_enough || block.last() > self.request.head {
            return Err(Stop::Enough);
        }
        self.cursor = block.last();
        self.seen[topic] = block.last();
        self.blocks.push(block);
        // The next block would be too much: what it costs to find it is saved.
        match self.bytes >= self.request.bytes_max {
            true => Err(Stop::Enough),
            false => Ok(()),
        }
    }

    /// Stops if something was lost between the cursor and `position`.
    fn stop_at_hole(&self, holes: &[(Position, Position)], position: Position) -> Result<(), Stop> {
        let between = |hole: &&(Position, Position)| hole.1 > self.cursor && hole.0 < position;
        let Some(&(after, mut until)) = holes.iter().filter(between).min() else {
            return Ok(());
        };
        // Holes that touch are one to a reader: it goes on behind all of them.
        let touching =
            |until| move |hole: &&(Position, Position)| hole.0 <= until && hole.1 > until;
        while let Some(hole) = holes.iter().find(touching(until)) {
            until = hole.1;
        }
        Err(Stop::Hole { after, until })
    }

    /// What a failure to read `segment` means for the reader.
    fn unreadable(&self, segment: &Segment, error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::NotFound if !self.store.segments.has(segment.uid) => Stop::Moved,
            // Gone, or not a segment any more. If retention removed it the reader is told that.
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => {
                let next = self.store.segments.after(segment.name);
                let until = next.map_or(self.request.head, |next| before(next.name.first()));
                Stop::Hole {
                    after: self.cursor,
                    until: until.max(self.cursor),
                }
            }
            _ => Stop::Failed(Arc::new(error)),
        }
    }
}
