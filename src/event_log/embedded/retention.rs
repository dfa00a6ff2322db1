//! Removes what is older than the retention time, or more than the retention bytes: whole sealed
//! segments, oldest first. Of a topic that keeps its events for a shorter time only the trim moves;
//! its bytes go with their segments, or before (see [`super::erase`]).
//!
//! The order makes it safe to stop anywhere: the state that says how far the log is purged is
//! durable first, then readers are told, then files go. It works on a full disk: the space of that
//! state is kept ready.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    index::SegmentIndex,
    segments::Segment,
    state::{BaseTopic, State},
    store::Store,
};
use crate::{clock::Timestamp, types::TopicId};

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

    /// Believes a jump at once; returns whether one was held against.
    pub(super) fn confirm(&mut self) -> bool {
        self.held_until.take().is_some()
    }
}

impl Store {
    /// Removes the segments that retention no longer keeps at `now`.
    pub(super) fn purge(&self, now: Timestamp) {
        let Some(_upkeep) = self.try_upkeep() else {
            return;
        };
        // While there is space: a log may get more topics before it is purged for the first time.
        let topics = self.tail.topics().len();
        _ = self.state().make_ready(self.io(), &self.dir, topics);
        let (_, mut bytes) = self.segments.count_and_bytes();
        let bytes_max = self.config().retention_bytes.unwrap_or(u64::MAX);
        while let Some(segment) = self.segments.oldest() {
            // The open one is sealed in time.
            if segment.is_open() {
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
        let retentions = self.state().retentions.clone();
        for (topic, retention) in retentions {
            self.purge_topic(topic, retention, now);
        }
    }

    /// Keeps the events of a topic for `retention`, or as long as the log keeps events; durable when
    /// it returns.
    pub(super) fn set_retention(
        &self,
        topic: TopicId,
        retention: Option<Duration>,
    ) -> io::Result<()> {
        self.change_state(|state| match retention {
            Some(retention) => _ = state.retentions.insert(topic, retention),
            None => _ = state.retentions.remove(&topic),
        })?;
        self.tail.set_retention(topic, retention);
        Ok(())
    }

    /// Trims a topic whose events are kept for `retention`, in steps of its index.
    fn purge_topic(&self, topic: TopicId, retention: Duration, now: Timestamp) {
        let is_due = |at: Timestamp| now.saturating_since(at) > retention;
        let purged = self.due(topic, is_due).and_then(|due| match due {
            None => Ok(()),
            Some(due) => {
                let trim = due.through();
                self.change_state(|state| state.raise(due))?;
                self.tail.purge_topic(topic, trim);
                self.compaction().begin();
                Ok(())
            }
        });
        if let Err(error) = purged {
            tracing::warn!(tenant = %self.tenant, topic = topic.get(), %error, "cannot trim a topic");
        }
    }

    /// How far a topic is due to be purged, if that is further than it is.
    fn due(
        &self,
        topic: TopicId,
        is_due: impl Fn(Timestamp) -> bool,
    ) -> io::Result<Option<BaseTopic>> {
        let purged = self.tail.topic(topic).trim;
        let mut due: Option<BaseTopic> = None;
        let mut segment = self.segments.containing(purged);
        while let Some(current) = segment {
            let is_open = self.index_on_disk(&current)?.with(|_, index| {
                let Some(found) = index.topics.get(&topic) else {
                    return true;
                };
                let end = found.due(&is_due).filter(|end| end.position > purged);
                if let Some(end) = end {
                    due = Some(BaseTopic {
                        id: topic,
                        name: found.name.clone(),
                        trim: end.position,
                        ordinal: end.ordinal,
                        last_at: end.at,
                    });
                }
                is_due(found.last_at)
            });
            segment = match is_open {
                true => self.segments.after(current.name),
                false => None,
            };
        }
        Ok(due)
    }

    /// Removes the oldest segment if it is too old, or `is_over` the bytes that may be kept.
    fn purge_segment(
        &self,
        segment: &Arc<Segment>,
        now: Timestamp,
        is_over: bool,
    ) -> io::Result<bool> {
        let index = || self.index_on_disk(segment);
        let last_at = segment.last_at(|| Ok::<_, io::Error>(index()?.with(|_, i| i.last_at)))?;
        if !is_over && now.saturating_since(last_at) <= self.config().retention {
            return Ok(false);
        }
        // A copy: the index is locked for short looks only, and this writes to the disk.
        let index = index()?.with(|_, index| index.clone());
        self.remove(segment, &index)?;
        Ok(true)
    }

    /// Removes the oldest segment.
    fn remove(&self, segment: &Arc<Segment>, index: &SegmentIndex) -> io::Result<()> {
        self.change_state(|state| state.restore_purged(index))?;
        let trims = index.topics.iter();
        let trims = trims.map(|(id, topic)| (*id, topic.end()));
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
    /// Notes that everything up to the end of the segment with this index is purged. More may be: a
    /// segment that could not be removed is met again by a later process, after newer ones went.
    fn restore_purged(&mut self, index: &SegmentIndex) {
        self.trim = self.trim.max(index.last);
        self.trim_group = self.trim_group.max(index.last_group);
        // A footer that was made anew may not know every topic: what was known before stays.
        for (id, topic) in &index.topics {
            self.raise(BaseTopic {
                id: *id,
                name: topic.name.clone(),
                trim: topic.last,
                ordinal: topic.ordinal_end,
                last_at: topic.last_at,
            });
        }
        let trim = self.trim;
        self.losses.retain(|loss| loss.until > trim);
    }
}

/// A jump of the clock that is not believed at once, and how long it takes to be believed.
const JUMP_MAX: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event_log::embedded::index::TopicIndex,
        types::{Position, TopicId},
    };

    #[test]
    fn purging_a_segment_that_was_left_over_takes_nothing_back() {
        let index = |block, events| {
            let last = Position::in_block(block, 0).unwrap();
            let topic = TopicIndex {
                last,
                ordinal_end: events,
                ..TopicIndex::new("/event/A__e".parse().unwrap(), 0)
            };
            SegmentIndex {
                last,
                last_group: events,
                topics: [(TopicId::new(1), topic)].into(),
                ..SegmentIndex::default()
            }
        };
        let mut state = State::new(1);
        state.restore_purged(&index(9, 5));
        let purged = state.clone();
        assert_eq!(purged.topics[0].ordinal, 5);
        state.restore_purged(&index(4, 2));
        assert_eq!(state, purged);
    }

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
        assert!(!guard.may_purge(at(200), later(183)));
        assert!(guard.confirm());
        assert!(guard.may_purge(at(200), later(184)), "somebody looked");
        assert!(!guard.confirm());
    }
}
