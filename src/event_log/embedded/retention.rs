//! Removes what is older than the retention time, or more than the retention bytes: whole sealed
//! segments, oldest first.
//!
//! The order makes it safe to stop anywhere: the state that says how far the log is purged is
//! durable first, then readers are told, then files go.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    index::SegmentIndex,
    segments::Segment,
    state::{BaseTopic, State},
    store::Store,
};
use crate::clock::Timestamp;

/// Notices when the wall clock jumps ahead, and holds retention back until it is clear that the
/// time is meant.
#[derive(Debug, Default)]
pub(super) struct ClockGuard {
    before: Option<(Timestamp, Instant)>,
    held_until: Option<Instant>,
}

impl ClockGuard {
    /// Whether events may be purged at the wall time `now`.
    pub(super) fn may_purge(&mut self, now: Timestamp, monotonic: Instant) -> bool {
        if let Some((wall, instant)) = self.before.replace((now, monotonic)) {
            let passed = monotonic.saturating_duration_since(instant);
            if now.saturating_since(wall) > passed + JUMP_MAX {
                tracing::warn!(
                    from_ms = wall.as_millis(),
                    to_ms = now.as_millis(),
                    "the clock jumped ahead; retention removes nothing for an hour"
                );
                self.held_until = Some(monotonic + JUMP_MAX);
            }
        }
        self.held_until.is_none_or(|until| monotonic >= until)
    }
}

impl Store {
    /// Removes the segments that retention no longer keeps at `now`.
    pub(super) fn purge(&self, now: Timestamp) {
        let (_, mut bytes) = self.segments.count_and_bytes();
        let bytes_max = self.config().retention_bytes.unwrap_or(u64::MAX);
        for segment in self.segments.all() {
            // The open one is sealed in time.
            if segment.live_index().is_some() {
                break;
            }
            match self.purge_segment(&segment, now, bytes > bytes_max) {
                Ok(true) => bytes -= segment.bytes().min(bytes),
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(tenant = %self.tenant, %error, "cannot remove a segment");
                    break;
                }
            }
        }
    }

    /// Removes the oldest segment if it is too old, or `is_over` the bytes that may be kept.
    fn purge_segment(
        &self,
        segment: &Arc<Segment>,
        now: Timestamp,
        is_over: bool,
    ) -> std::io::Result<bool> {
        let caches = &self.process.caches;
        let footer = || caches.footer_or_load(segment.uid, || self.load_footer(segment));
        let last_at = segment.last_at(|| footer().map(|footer| footer.index.last_at))?;
        if !is_over && now.saturating_since(last_at) <= self.config().retention {
            return Ok(false);
        }
        self.remove(segment, &footer()?.index)?;
        Ok(true)
    }

    /// Removes the oldest segment.
    fn remove(&self, segment: &Arc<Segment>, index: &SegmentIndex) -> std::io::Result<()> {
        self.change_state(|state| state.restore_purged(index))?;
        let trims = index.topics.iter();
        let trims = trims.map(|(id, topic)| (*id, topic.last, topic.ordinal_end));
        self.tail.purge(index.last, trims);
        self.segments.remove(segment.uid);
        self.process.caches.forget(segment.uid);
        self.remove_file(&segment.path(&self.dir))?;
        self.metrics().purged_segments.inc();
        tracing::info!(tenant = %self.tenant, segment = %segment.name, "removed a segment");
        Ok(())
    }
}

impl State {
    /// Notes that everything up to the end of the segment with this index is purged.
    fn restore_purged(&mut self, index: &SegmentIndex) {
        self.trim = index.last;
        self.trim_group = index.last_group;
        // A footer that was made anew may not know every topic: what was known before stays.
        let known = self.topics.drain(..).map(|topic| (topic.id, topic));
        let mut topics: BTreeMap<_, _> = known.collect();
        for (id, topic) in &index.topics {
            let base = BaseTopic {
                id: *id,
                name: topic.name.clone(),
                trim: topic.last,
                ordinal: topic.ordinal_end,
                last_at: topic.last_at,
            };
            topics.insert(*id, base);
        }
        self.topics = topics.into_values().collect();
    }

    /// Notes that everything before the segment with this index is purged.
    pub(super) fn restore_base(&mut self, index: &SegmentIndex) {
        let topics = index.topics.iter();
        let topics = topics.filter(|(_, topic)| topic.ordinal_start > 0);
        self.topics = topics
            .map(|(id, topic)| BaseTopic {
                id: *id,
                name: topic.name.clone(),
                trim: topic.before,
                ordinal: topic.ordinal_start,
                last_at: index.first_at,
            })
            .collect();
        let trim = self.topics.iter().map(|topic| topic.trim).max();
        self.trim = trim.unwrap_or(self.trim);
        self.trim_group = index.first_group - 1;
    }
}

/// A jump of the clock that is not believed at once, and how long it takes to be believed.
const JUMP_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_ahead_holds_retention_back_for_an_hour() {
        let mut guard = ClockGuard::default();
        let start = Instant::now();
        let at = |hours: u64| Timestamp::from_millis(3_600_000 * hours as i64);
        let later = |minutes: u64| start + Duration::from_secs(60 * minutes);
        assert!(guard.may_purge(at(1), start));
        assert!(guard.may_purge(at(3), later(120)), "time passed");
        assert!(!guard.may_purge(at(100), later(121)), "a jump");
        assert!(!guard.may_purge(at(100), later(180)));
        assert!(guard.may_purge(at(101), later(181)));
        assert!(guard.may_purge(at(2), later(182)), "back is no danger");
    }
}
