//! Commits groups: numbers what was queued, writes it with one vectored write, syncs it, shows it to
//! readers and answers. No thread and no lock of its own: whoever holds the [`Writer`] is the only
//! one to write this log.
//!
//! The order is what the promises rest on: positions are in the bytes that are written; the sync
//! returns before a reader or a publisher hears of them; the next group is written only then.

use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    block::align,
    footer::{Footer, SealedBy},
    group::Group,
    index::SegmentIndex,
    io::{Access, FailsForGood, IoFile, is_full, write_all_at},
    segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentName},
    segments::{Live, Segment},
    state::State,
    store::Store,
};
use crate::{
    clock::Timestamp,
    event_log::{
        AppendError, AppendOutcome, BlockBody, Durability, PositionRange, Refusal,
        numbering::{Numbering, Placed},
    },
    types::limits::POSITIONS_RESERVED,
};

/// Bodies on their way into the log, and where their outcome is awaited.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) bodies: Vec<BlockBody>,
    pub(super) bytes: usize,
    pub(super) queued_at: Instant,
    pub(super) reply: oneshot::Sender<AppendOutcome>,
    /// Room in the queue, given back when the request is answered.
    pub(super) room: Vec<OwnedSemaphorePermit>,
}

impl Request {
    fn answer(self, outcome: AppendOutcome) {
        // Room first: whoever waits for it may be the one who reads the answer.
        drop(self.room);
        _ = self.reply.send(outcome);
    }

    /// Answers that none of the bodies, which are still there, is stored.
    pub(super) fn refuse(self, refusal: Refusal) {
        let outcome = vec![Err(AppendError::Refused(refusal)); self.bodies.len()];
        self.answer(outcome);
    }
}

/// The writing end of one log.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<Store>,
    numbering: Numbering,
    active: Option<Active>,
    /// Segments of earlier processes that wait for their footers, oldest first.
    left_over: Vec<Arc<Segment>>,
    /// What is known up to the end of the last sealed segment.
    before: SegmentIndex,
    /// Size of the next segment.
    next_bytes: u64,
    /// Block numbers below this one are durably reserved.
    reserved_block: u64,
}

/// The segment that is written.
#[derive(Debug)]
struct Active {
    file: Arc<dyn IoFile>,
    segment: Arc<Segment>,
    live: Arc<Live>,
    /// Where the last acknowledged block ends; zero before the first group.
    end: u64,
    capacity: u64,
    /// Whether something was acknowledged that is not synced.
    is_dirty: bool,
}

/// Why a group was not written.
#[derive(Debug)]
enum Failure {
    /// Nothing of it is stored.
    Refused(Refusal),
    /// It may be stored.
    Unconfirmed(Arc<io::Error>),
}

impl Writer {
    /// Goes on behind `before`, in a segment of its own.
    pub(super) fn new(store: Arc<Store>, before: SegmentIndex, next_block: u64) -> Self {
        let reserved_block = store.state().reserved_block;
        let ordinals = before.topics.iter().map(|(id, t)| (*id, t.ordinal_end));
        let mut left_over = store.segments.all();
        left_over.retain(|segment| segment.live_index().is_some());
        Self {
            left_over,
            numbering: Numbering::new(next_block, before.last_at, ordinals),
            next_bytes: store.config().segment_bytes_min,
            reserved_block,
            store,
            active: None,
            before,
        }
    }

    /// Writes the bodies of `requests` as one group, and answers each request. Returns why nothing of
    /// it is stored, if that is so.
    pub(super) fn commit(&mut self, mut requests: Vec<Request>) -> Result<(), Refusal> {
        let mut bodies = Vec::new();
        let mut counts = Vec::with_capacity(requests.len());
        for request in &mut requests {
            counts.push(request.bodies.len());
            bodies.append(&mut request.bodies);
        }
        let outcome = self.write(bodies);
        let refused = match &outcome {
            Err(Failure::Refused(refusal)) => Err(*refusal),
            Ok(_) | Err(Failure::Unconfirmed(_)) => Ok(()),
        };
        let (mut ranges, failure) = match outcome {
            Ok(ranges) => (ranges.into_iter(), None),
            Err(failure) => (Vec::new().into_iter(), Some(failure.into_error())),
        };
        let answered_at = Instant::now();
        for (request, count) in requests.into_iter().zip(counts) {
            let outcome = match &failure {
                None => ranges.by_ref().take(count).map(Ok).collect(),
                Some(error) => vec![Err(error.clone()); count],
            };
            let seconds = answered_at - request.queued_at;
            self.store
                .metrics()
                .append_seconds
                .observe(seconds.as_secs_f64());
            request.answer(outcome);
        }
        refused
    }

    /// Seals the open segment if its first block is older than the configuration allows.
    pub(super) fn seal_if_old(&mut self, now: Timestamp) {
        // A footer would say that every group before it is whole.
        if self.store.health.is_poisoned() {
            return;
        }
        if self
            .active
            .as_ref()
            .is_some_and(|active| self.is_old(active, now))
        {
            _ = self.seal();
        }
    }

    /// Seals the open segment, so that everything up to the head is in sealed ones.
    pub(super) fn seal_now(&mut self) -> Result<(), AppendError> {
        if self.store.health.is_poisoned() {
            return Err(AppendError::Refused(Refusal::Poisoned));
        }
        self.seal().map_err(Failure::into_error)
    }

    /// Number of the next block.
    pub(super) fn next_block(&self) -> u64 {
        self.numbering.next_block()
    }

    /// The file with what was acknowledged and not synced, which the caller is going to sync. It
    /// need not hold the writer meanwhile: what is written after this call is for the next one.
    pub(super) fn take_unsynced(&mut self) -> Option<Arc<dyn IoFile>> {
        let active = self.active.as_mut().filter(|active| active.is_dirty)?;
        active.is_dirty = false;
        Some(Arc::clone(&active.file))
    }

    /// Notes that the sync of [`Self::take_unsynced`] failed.
    pub(super) fn sync_failed(&mut self, error: io::Error) {
        self.poison("sync", error);
    }

    /// Seals the open segment and records that no position was given out beyond what is stored.
    /// False if that failed and leaves something for the next opening to recover.
    pub(super) fn close(&mut self) -> bool {
        if self.store.health.is_poisoned() || self.seal().is_err() {
            return false;
        }
        if self.reserved_block > 0 || self.before.last > self.store.state().clean_end {
            let index = &self.before;
            let ended = self.store.change_state(|state| {
                state.reserved_block = 0;
                state.end_at(index);
            });
            if let Err(error) = ended {
                tracing::warn!(tenant = %self.store.tenant, %error, "cannot record the clean end");
                return false;
            }
            self.reserved_block = 0;
        }
        true
    }

    /// Numbers and stores `bodies`, and shows them to readers.
    fn write(&mut self, bodies: Vec<BlockBody>) -> Result<Vec<PositionRange>, Failure> {
        if self.store.health.is_poisoned() {
            return Err(Failure::Refused(Refusal::Poisoned));
        }
        let now = self.store.process.clock.now();
        self.reserve(bodies.len() as u64)?;
        let placed = self.numbering.place(bodies.into_iter(), now);
        let placed = placed.map_err(Failure::Refused)?;
        if let Err(failure) = self.write_group(&placed, now) {
            self.numbering.undo(&placed.blocks);
            return Err(failure);
        }
        if self.store.health.wrote() {
            tracing::info!(tenant = %self.store.tenant, "the disk has space again");
        }
        let blocks = placed.blocks.into_iter().map(Arc::new).collect();
        self.store.tail.publish(blocks);
        Ok(placed.ranges)
    }

    /// Reserves numbers for `blocks` more blocks, if they may be acknowledged before they are synced.
    fn reserve(&mut self, blocks: u64) -> Result<(), Failure> {
        if self.store.config().durability == Durability::Sync {
            return Ok(());
        }
        let needed = self.numbering.next_block().saturating_add(blocks);
        if self.reserved_block >= needed {
            return Ok(());
        }
        let reserved = needed.saturating_add(POSITIONS_RESERVED);
        let change = |state: &mut State| state.reserved_block = reserved;
        let stored = self.store.change_state(change);
        stored.map_err(|error| self.refuse("reserve positions", error))?;
        self.reserved_block = reserved;
        Ok(())
    }

    fn write_group(&mut self, placed: &Placed, now: Timestamp) -> Result<(), Failure> {
        let group = Group::new(placed);
        let first_block = placed.blocks[0].first().block();
        self.make_room(&group, first_block, now)?;
        let active = self.active.as_mut().expect("there is room in a segment");
        let is_first = active.end == 0;
        let start = match is_first {
            true => SEGMENT_HEADER_LEN,
            false => align(active.end),
        };
        let headers = group.headers(placed, &active.live);
        let pages = active.live.header.encode_pages();
        let mut slices = Vec::with_capacity(1 + 2 * placed.blocks.len());
        if is_first {
            slices.push(IoSlice::new(&pages));
        }
        for (block, header) in placed.blocks.iter().zip(&headers) {
            slices.push(IoSlice::new(&header.bytes));
            slices.push(IoSlice::new(block.bytes()));
        }
        let offset = if is_first { 0 } else { start };
        if let Err(error) = write_all_at(&*active.file, &mut slices, offset) {
            return Err(self.write_failed(error));
        }
        if self.store.config().durability == Durability::Sync {
            let began = Instant::now();
            let synced = active.file.sync();
            let seconds = began.elapsed().as_secs_f64();
            self.store.metrics().sync_seconds.observe(seconds);
            if let Err(error) = synced {
                return Err(self.poison("sync", error));
            }
        } else {
            active.is_dirty = true;
        }
        let mut offset = start;
        let mut index = active.live.index();
        for ((block, header), topic) in placed.blocks.iter().zip(&headers).zip(&placed.topics) {
            let end = offset + (header.bytes.len() + block.bytes().len()) as u64;
            index.add(&header.fields, Some(&topic.name), offset, end);
            offset = end;
            // Once for each topic and segment.
            if header.fields.name_len > 0 {
                self.store.names().insert(topic.id, topic.name.clone());
            }
        }
        drop(index);
        active.end = offset;
        active.segment.resized(offset);
        if offset > active.capacity / 2 {
            self.store.want_spare(self.next_bytes);
        }
        let metrics = self.store.metrics();
        metrics.groups.inc();
        metrics.blocks.inc_by(placed.blocks.len() as u64);
        metrics.events.inc_by(group.events);
        metrics.bytes.inc_by(offset - start);
        Ok(())
    }

    /// Sees to it that there is an open segment with room for `group`.
    fn make_room(
        &mut self,
        group: &Group,
        first_block: u64,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if let Some(active) = &self.active {
            let index = active.live.index();
            let needed = align(active.end) + group.bytes_max(&index);
            let is_full = needed > active.capacity || index.is_full();
            drop(index);
            if is_full || self.is_old(active, now) {
                self.seal()?;
            }
        }
        if self.active.is_none() {
            self.begin(group, first_block, now)
                .map_err(|error| self.refuse("begin a segment", error))?;
        }
        Ok(())
    }

    fn is_old(&self, active: &Active, now: Timestamp) -> bool {
        let first_at = active.live.index().first_at;
        now.saturating_since(first_at) >= self.store.config().segment_age_max
    }

    /// Begins a segment. Its name is durable when this returns; its header is written with the
    /// first group.
    fn begin(&mut self, group: &Group, first_block: u64, now: Timestamp) -> io::Result<()> {
        let store = &self.store;
        let index = SegmentIndex::following(&self.before);
        let needed = SEGMENT_HEADER_LEN + group.bytes_max(&index);
        let header = SegmentHeader {
            name: SegmentName {
                first_block,
                generation: 0,
            },
            tenant: store.tenant,
            log_id: store.log_id,
            salt: store.io().random()?,
            first_group: index.first_group,
            created_at: now,
            unsynced: store.config().durability != Durability::Sync,
            tag_space: 0,
            rewritten: None,
        };
        let path = store.dir.join(header.name.to_string());
        let file = match store.take_spare(&path) {
            Some(file) => file,
            None => store.io().create(&path)?,
        };
        let mut capacity = self.next_bytes.max(needed);
        let mut allocated = file.allocate(capacity);
        // A nearly full disk may still have room for a small segment.
        for smaller in [store.config().segment_bytes_min.max(needed), needed] {
            if allocated.as_ref().is_err_and(is_full) {
                capacity = smaller;
                allocated = file.truncate(0).and_then(|()| file.allocate(capacity));
            }
        }
        if let Err(error) = allocated.and_then(|()| store.io().sync_dir(&store.dir)) {
            // A file without a header between two others would look like damage, so no segment may
            // follow one that could not be removed: that is worse than a full disk.
            store.remove_file(&path).map_err(io::Error::other)?;
            return Err(error);
        }
        self.next_bytes = (self.next_bytes * 2).min(store.config().segment_bytes_max);
        let live = Live::new(header, index);
        let segment = Segment::live(0, Arc::clone(&live));
        store.segments.push(Arc::clone(&segment));
        self.active = Some(Active {
            file: Arc::new(FailsForGood::new(file)),
            segment,
            live,
            end: 0,
            capacity,
            is_dirty: false,
        });
        Ok(())
    }

    /// Writes the footer of the open segment, after which nothing is written to it any more.
    fn seal(&mut self) -> Result<(), Failure> {
        self.seal_left_over()?;
        let Some(active) = &self.active else {
            return Ok(());
        };
        // A footer vouches for the blocks before it, so it must not reach the disk without them.
        // Upkeep may be about to sync them, or may have tried in vain: then this fails, too.
        if self.store.config().durability != Durability::Sync
            && let Err(error) = active.file.sync()
        {
            return Err(self.poison("sync", error));
        }
        let mut index = active.live.index().clone();
        for (id, state) in self.store.tail.topics() {
            if let Some(topic) = index.topics.get_mut(&id) {
                topic.trim = state.trim;
            }
        }
        let footer = Footer {
            header: active.live.header,
            sealed_by: SealedBy::Writer,
            index,
        };
        let len = match seal_file(&*active.file, &footer) {
            Ok(Ok(len)) => len,
            Ok(Err(full)) => return Err(self.refuse("seal", full)),
            Err(error) => return Err(self.poison("seal", error)),
        };
        self.before = SegmentIndex::following(&footer.index);
        self.before.forget(&self.store.state().deleted);
        let caches = &self.store.process.caches;
        caches.keep_footer(active.segment.uid, footer);
        active.segment.is_now_sealed(len);
        self.store.metrics().seals.inc();
        self.active = None;
        if !self.store.state().deleted.is_empty() {
            self.store.compaction().begin();
        }
        Ok(())
    }

    /// Gives their footers to the segments that had no room for them when the log was opened. They
    /// come first: opening takes what is before the newest footer as sealed.
    fn seal_left_over(&mut self) -> Result<(), Failure> {
        while let Some(segment) = self.left_over.first() {
            if let Some(live) = segment.live_index() {
                let path = segment.path(&self.store.dir);
                let footer = Footer {
                    header: live.header,
                    sealed_by: SealedBy::Recovery,
                    index: live.index().clone(),
                };
                let file = self.store.io().open(&path, Access::Write);
                match file.and_then(|file| seal_file(&*file, &footer)) {
                    Ok(Ok(len)) => segment.is_now_sealed(len),
                    // Retention has removed it.
                    Err(_) if !self.store.segments.has(segment.uid) => {}
                    Ok(Err(full)) => return Err(self.refuse("seal", full)),
                    Err(error) => return Err(self.poison("seal", error)),
                }
            }
            self.left_over.remove(0);
        }
        Ok(())
    }

    /// Cleans up after a failed write: a full disk is made whole again, anything else is the end.
    fn write_failed(&mut self, error: io::Error) -> Failure {
        if !is_full(&error) {
            return self.poison("write", error);
        }
        let Some(active) = &self.active else {
            return self.refuse("write", error);
        };
        let cleaned = match active.end {
            0 => {
                self.store.segments.remove(active.segment.uid);
                let path = active.segment.path(&self.store.dir);
                self.active = None;
                self.store.remove_file(&path)
            }
            end => active.file.truncate(end).and_then(|()| active.file.sync()),
        };
        match cleaned {
            Ok(()) => self.refuse("write", error),
            Err(error) => self.poison("clean up after a full disk", error),
        }
    }

    /// Notes an error that left nothing of the group behind.
    fn refuse(&mut self, action: &str, error: io::Error) -> Failure {
        if !is_full(&error) {
            self.poison(action, error);
            return Failure::Refused(Refusal::Poisoned);
        }
        // Said once, not with each of the tries that find out whether it still is.
        if self.store.health.disk_is_full(Instant::now()) {
            tracing::warn!(tenant = %self.store.tenant, action, %error, "the disk is full");
        }
        self.store.metrics().disk_full.inc();
        Failure::Refused(Refusal::DiskFull)
    }

    /// Notes an error after which it is not known what is on the disk.
    fn poison(&mut self, action: &str, error: io::Error) -> Failure {
        tracing::error!(
            tenant = %self.store.tenant,
            action,
            %error,
            "the log takes no more events until it is opened again"
        );
        self.store.metrics().poisoned.inc();
        self.store.health.poison();
        Failure::Unconfirmed(Arc::new(error))
    }
}

impl Failure {
    fn into_error(self) -> AppendError {
        match self {
            Self::Refused(refusal) => AppendError::Refused(refusal),
            Self::Unconfirmed(error) => AppendError::Unconfirmed(error),
        }
    }
}

/// Gives a file, whose blocks are durable, its footer, and returns its size. Where the disk has no
/// room for a footer, that is the inner error: the file is then cut off behind its blocks.
pub(super) fn seal_file(file: &dyn IoFile, footer: &Footer) -> io::Result<Result<u64, io::Error>> {
    match write_footer(file, footer) {
        Ok(len) => file.sync().map(|()| Ok(len)),
        Err(error) if is_full(&error) => {
            file.truncate(footer.index.end)?;
            file.sync()?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}

/// Writes the footer behind the blocks and cuts the file off behind it, which is left to be synced.
/// Returns the size of the file.
pub(super) fn write_footer(file: &dyn IoFile, footer: &Footer) -> io::Result<u64> {
    let offset = align(footer.index.end);
    let bytes = footer.encode(offset);
    let len = offset + bytes.len() as u64;
    write_all_at(file, &mut [IoSlice::new(&bytes)], offset)?;
    file.truncate(len)?;
    Ok(len)
}
