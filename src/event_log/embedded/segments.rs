//! The segments of one log that are on the disk, in the order of the log.
//!
//! Names are enough to find the segment a position lies in, so a long history costs memory for its
//! names only. Files are opened for a read and closed again.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    footer::Footer,
    index::{SegmentIndex, before},
    segment::{SegmentHeader, SegmentName},
};
use crate::{clock::Timestamp, types::Position};

/// The segments of one log. They come at one end and go at the other.
#[derive(Debug, Default)]
pub(super) struct Segments(Mutex<VecDeque<Arc<Segment>>>);

/// One segment file.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its number in this process; never used again.
    pub(super) uid: u64,
    pub(super) name: SegmentName,
    bytes: AtomicU64,
    /// When its newest event was appended, once that was asked for.
    last_at: OnceLock<Timestamp>,
    /// The index, as long as the segment has no footer.
    live: Mutex<Option<Arc<Live>>>,
    /// Whether this process is to write to it, until it is sealed.
    is_written: bool,
}

/// The index of a segment that is still written, or that could not be given a footer.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) header: SegmentHeader,
    index: Mutex<SegmentIndex>,
}

/// Header and index of a segment, wherever they are kept.
#[derive(Clone, Debug)]
pub(super) enum IndexRef {
    /// In memory, and perhaps growing.
    Live(Arc<Live>),
    /// As it was stored.
    Sealed(Arc<Footer>),
}

impl IndexRef {
    /// Looks at header and index, which do not change meanwhile.
    pub(super) fn with<R>(&self, look: impl FnOnce(&SegmentHeader, &SegmentIndex) -> R) -> R {
        match self {
            Self::Live(live) => look(&live.header, &live.index()),
            Self::Sealed(footer) => look(&footer.header, &footer.index),
        }
    }
}

impl Live {
    pub(super) fn new(header: SegmentHeader, index: SegmentIndex) -> Arc<Self> {
        Arc::new(Self {
            header,
            index: Mutex::new(index),
        })
    }

    /// The index, locked: only for short looks and changes in memory.
    pub(super) fn index(&self) -> MutexGuard<'_, SegmentIndex> {
        self.index.lock().expect(NO_PANIC)
    }
}

impl Segment {
    /// One with its footer.
    pub(super) fn sealed(name: SegmentName, bytes: u64) -> Arc<Self> {
        Self::new(name, bytes, None, false)
    }

    /// The one that is written.
    pub(super) fn live(bytes: u64, live: Arc<Live>) -> Arc<Self> {
        Self::new(live.header.name, bytes, Some(live), true)
    }

    /// One that another process wrote and that could not be given a footer.
    pub(super) fn unsealed(bytes: u64, live: Arc<Live>) -> Arc<Self> {
        Self::new(live.header.name, bytes, Some(live), false)
    }

    fn new(name: SegmentName, bytes: u64, live: Option<Arc<Live>>, is_written: bool) -> Arc<Self> {
        static NEXT_UID: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            name,
            bytes: AtomicU64::new(bytes),
            last_at: OnceLock::new(),
            live: Mutex::new(live),
            is_written,
        })
    }

    /// Where the file is, in the log's directory.
    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.name.to_string())
    }

    /// Size of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the newest event of the segment, which does not grow, was appended. Kept here, so that
    /// retention need not look at the index again and again.
    pub(super) fn last_at<E>(
        &self,
        load: impl FnOnce() -> Result<Timestamp, E>,
    ) -> Result<Timestamp, E> {
        match self.last_at.get() {
            Some(last_at) => Ok(*last_at),
            None => load().map(|last_at| *self.last_at.get_or_init(|| last_at)),
        }
    }

    /// The index, if the segment has no footer yet.
    pub(super) fn live_index(&self) -> Option<Arc<Live>> {
        self.live.lock().expect(NO_PANIC).clone()
    }

    /// Whether it may still grow.
    pub(super) fn is_open(&self) -> bool {
        self.is_written && self.live.lock().expect(NO_PANIC).is_some()
    }

    /// Notes that the file has `bytes` bytes.
    pub(super) fn resized(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Notes that the segment has its footer and will not change any more.
    pub(super) fn is_now_sealed(&self, bytes: u64) {
        self.resized(bytes);
        self.live.lock().expect(NO_PANIC).take();
    }
}

impl Segments {
    pub(super) fn new(segments: Vec<Arc<Segment>>) -> Self {
        debug_assert!(segments.is_sorted_by_key(|segment| segment.name));
        Self(Mutex::new(segments.into()))
    }

    /// The segment that holds what comes after `position`, or the oldest one.
    pub(super) fn containing(&self, position: Position) -> Option<Arc<Segment>> {
        let segments = self.lock();
        let after = segments.partition_point(|segment| before(segment.name.first()) <= position);
        segments.get(after.saturating_sub(1)).cloned()
    }

    /// The segment after the one with this name.
    pub(super) fn after(&self, name: SegmentName) -> Option<Arc<Segment>> {
        let segments = self.lock();
        let after = segments.partition_point(|segment| segment.name <= name);
        segments.get(after).cloned()
    }

    /// Adds the newest segment.
    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.lock().push_back(segment);
    }

    /// Puts a rewritten segment in the place of the one it was made of.
    pub(super) fn replace(&self, uid: u64, segment: Arc<Segment>) {
        let mut segments = self.lock();
        if let Some(place) = segments.iter_mut().find(|segment| segment.uid == uid) {
            *place = segment;
        }
    }

    /// Whether a segment is in the list.
    pub(super) fn has(&self, uid: u64) -> bool {
        self.lock().iter().any(|segment| segment.uid == uid)
    }

    /// Takes the segment with this number out of the list, if it is there.
    pub(super) fn remove(&self, uid: u64) {
        let mut segments = self.lock();
        // It is nearly always the oldest one.
        let found = segments.iter().position(|segment| segment.uid == uid);
        found.and_then(|at| segments.remove(at));
    }

    /// The oldest one.
    pub(super) fn oldest(&self) -> Option<Arc<Segment>> {
        self.lock().front().cloned()
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.lock().iter().cloned().collect()
    }

    /// How many there are, and their bytes.
    pub(super) fn count_and_bytes(&self) -> (u64, u64) {
        let segments = self.lock();
        let bytes = segments.iter().map(|segment| segment.bytes()).sum();
        (segments.len() as u64, bytes)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Segment>>> {
        self.0.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_leads_to_the_segment_that_may_hold_what_follows() {
        let name = |first_block| SegmentName {
            first_block,
            generation: 0,
        };
        let segments = [10, 20, 30].map(|block| Segment::sealed(name(block), 1));
        let segments = Segments::new(segments.into());
        let at = |block| Position::in_block(block, 0).unwrap();
        let containing = |block| segments.containing(at(block)).unwrap().name.first_block;
        assert_eq!([5, 10, 19, 20, 99].map(containing), [10, 10, 10, 20, 30]);
        let last_before = segments.containing(before(at(20))).unwrap();
        assert_eq!(last_before.name, name(20), "nothing of the first is left");
        assert_eq!(segments.after(name(10)).unwrap().name, name(20));
        assert!(segments.after(name(30)).is_none());
        segments.remove(segments.oldest().unwrap().uid);
        assert_eq!(segments.oldest().unwrap().name, name(20));
        assert_eq!(segments.count_and_bytes(), (2, 2));
        assert!(Segments::default().containing(at(1)).is_none());
    }
}
