//! Takes events out of sealed segments: single ones at once, those of deleted topics and those that
//! their topic keeps no longer in the background.
//!
//! What is purged or deleted is so from the moment the state says it; that its bytes leave the files
//! later is a matter of space. An erasure is done only when no file holds the event any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use super::{
    footer::{Footer, SealedBy},
    index::{SegmentIndex, Step},
    io::is_full,
    rewrite::{Cut, OnDamage, Remade, RewriteError, rewrite},
    segments::Segment,
    store::Store,
};
use crate::{
    event_log::{Erased, Refusal, RemoveError},
    types::{
        Position, TopicId,
        limits::{COMPACTION_SEGMENTS_PER_TICK, COMPACTION_SHARE_MIN},
    },
};

impl Store {
    /// Erases the events of `topic` at `positions`, which are sorted and lie before the open
    /// segment.
    pub(super) fn erase(
        &self,
        topic: TopicId,
        positions: &[Position],
    ) -> Result<Erased, RemoveError> {
        let _upkeep = self.upkeep();
        let mut done = 0;
        let erased = self.erase_from_segments(topic, positions, &mut done);
        // Also of an erasure that failed in the middle: memory shows what the files hold.
        self.tail.erase(topic, &positions[..done]);
        self.process.caches.sweep();
        erased
    }

    /// Makes the segments anew that hold `positions`, oldest first, and counts how many of those are
    /// `done`.
    fn erase_from_segments(
        &self,
        topic: TopicId,
        positions: &[Position],
        done: &mut usize,
    ) -> Result<Erased, RemoveError> {
        let mut erased = Erased::default();
        let mut segment = self.segments.oldest();
        while let Some(current) = segment {
            segment = self.segments.after(current.name);
            let from = positions.partition_point(|p| *p < current.name.first());
            let to = segment.as_ref().map_or(positions.len(), |next| {
                positions.partition_point(|p| *p < next.name.first())
            });
            if from < to {
                let here = BTreeMap::from([(topic, positions[from..to].to_vec())]);
                let events = self.remake(&current, &here)?;
                self.metrics().erased_events.inc_by(events);
                erased.events += events;
                erased.segments += 1;
            }
            *done = to;
        }
        Ok(erased)
    }

    /// Deletes a topic: durable when it returns, and known to readers.
    pub(super) fn delete_topic(&self, topic: TopicId) -> io::Result<()> {
        let known = self.tail.topic(topic);
        let name = self.names().remove(&topic);
        let is_done = self.state().deleted.contains(&topic);
        if !is_done && known.last > Position::ZERO {
            self.change_state(|state| {
                state.topics.retain(|base| base.id != topic);
                state.losses.retain(|loss| loss.topic != topic);
                state.retentions.remove(&topic);
                state.ends.remove(&topic);
                state.deleted.push(topic);
                state.deleted.sort_unstable();
            })?;
            tracing::info!(tenant = %self.tenant, topic = topic.get(), ?name, "deleted a topic");
        }
        self.tail.delete(topic);
        self.process.caches.sweep();
        self.compaction().begin();
        Ok(())
    }

    /// Looks at a few segments for bytes that are not wanted any more, and makes at most one of
    /// them anew without them.
    pub(super) fn compact(&self) {
        let Some(_upkeep) = self.try_upkeep() else {
            return;
        };
        for _ in 0..COMPACTION_SEGMENTS_PER_TICK {
            let Some(after) = self.compaction().next else {
                return;
            };
            // A disk that failed is left alone until the log is opened again.
            if self.health.is_poisoned() {
                return;
            }
            let segment = self.segments.containing(after);
            let next = segment.as_ref().and_then(|s| self.segments.after(s.name));
            let is_remade = segment.is_some_and(|segment| {
                self.compact_segment(&segment).unwrap_or_else(|error| {
                    tracing::warn!(tenant = %self.tenant, %error, "cannot make a segment anew");
                    self.compaction().left.extend(&self.state().deleted);
                    false
                })
            });
            self.compaction().next = next.as_ref().map(|segment| segment.name.first());
            if next.is_none() {
                self.forget_deleted();
            }
            if is_remade {
                return;
            }
        }
    }

    /// Makes a segment anew if enough of it is not wanted any more; returns whether it did.
    fn compact_segment(&self, segment: &Arc<Segment>) -> Result<bool, RewriteError> {
        let footer = self.footer_of(segment)?;
        // Segments are sealed in their order, and one that is made anew is sealed.
        if segment.live_index().is_none() && self.is_worth_it(segment, &footer.index) {
            self.remake(segment, &BTreeMap::new())?;
            return Ok(true);
        }
        let deleted = self.state().deleted.clone();
        let left = deleted
            .iter()
            .filter(|id| footer.index.topics.contains_key(id));
        self.compaction().left.extend(left);
        Ok(false)
    }

    /// Forgets the deleted topics of which no segment knows any more.
    fn forget_deleted(&self) {
        let left = std::mem::take(&mut self.compaction().left);
        if self.state().deleted.iter().all(|id| left.contains(id)) {
            return;
        }
        let forgotten = self.change_state(|state| state.deleted.retain(|id| left.contains(id)));
        if let Err(error) = forgotten {
            tracing::warn!(tenant = %self.tenant, %error, "cannot forget deleted topics");
        }
    }

    /// Deleted topics go whatever they take; what is purged goes when it is a good part of the file.
    fn is_worth_it(&self, segment: &Segment, index: &SegmentIndex) -> bool {
        let state = self.state();
        let mut unwanted = 0;
        for (id, topic) in &index.topics {
            let bytes = |steps: &[Step]| steps.iter().map(|step| u64::from(step.len)).sum::<u64>();
            if state.deleted.binary_search(id).is_ok() {
                if !topic.steps.is_empty() {
                    return true;
                }
            } else if let Some(base) = state.topic(*id) {
                let purged = topic.steps.partition_point(|step| step.first <= base.trim);
                // The last of them may hold more than is purged.
                let whole = match topic.last <= base.trim {
                    true => purged,
                    false => purged.saturating_sub(1),
                };
                unwanted += bytes(&topic.steps[..whole]);
            }
        }
        unwanted * COMPACTION_SHARE_MIN >= segment.bytes().max(1)
    }

    /// Makes a segment anew without `erased` and without what the state says is purged, and puts it
    /// in the old one's place. Returns how many events went.
    fn remake(
        &self,
        segment: &Arc<Segment>,
        erased: &BTreeMap<TopicId, Vec<Position>>,
    ) -> Result<u64, RewriteError> {
        let source = self.footer_of(segment)?;
        let purged = {
            let state = self.state();
            let trims = state.topics.iter().map(|base| (base.id, base.trim));
            let deleted = state.deleted.iter().map(|id| (*id, Position::MAX));
            trims.chain(deleted).collect::<BTreeMap<_, _>>()
        };
        let cut = Cut {
            purged: &|topic| purged.get(&topic).copied().unwrap_or_default(),
            erased,
        };
        let remade = rewrite(self.io(), &self.dir, &source, &cut, OnDamage::Refuse)?;
        let Remade {
            footer,
            bytes,
            events_gone,
        } = remade;
        tracing::info!(
            tenant = %self.tenant,
            segment = %footer.header.name,
            events_gone,
            bytes_before = segment.bytes(),
            bytes,
            "made a segment anew"
        );
        let made = Segment::sealed(footer.header.name, bytes);
        self.process.caches.keep_footer(made.uid, footer);
        self.segments.replace(segment.uid, made);
        self.process.caches.forget(segment.uid);
        self.metrics().rewrites.inc();
        self.remove_file(&segment.path(&self.dir))?;
        Ok(events_gone)
    }

    /// The footer of a segment, or what it would be if the segment were sealed now.
    fn footer_of(&self, segment: &Segment) -> io::Result<Footer> {
        match segment.live_index() {
            Some(live) => Ok(Footer {
                header: live.header,
                sealed_by: SealedBy::Recovery,
                index: live.index().clone(),
            }),
            None => self.load_footer(segment),
        }
    }
}

/// Where the background is with making segments anew.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// The segment that holds what comes after this is next; `None` when there is nothing to do.
    next: Option<Position>,
    /// Deleted topics that were met on the way and are still there.
    left: BTreeSet<TopicId>,
}

impl Compaction {
    /// Looks at every segment, from the oldest on.
    pub(super) fn begin(&mut self) {
        self.next = Some(Position::ZERO);
        self.left.clear();
    }
}

impl From<RewriteError> for RemoveError {
    fn from(error: RewriteError) -> Self {
        match error {
            RewriteError::Damaged { .. } => Self::Damaged(error.to_string()),
            RewriteError::Io(error) => error.into(),
        }
    }
}

impl From<io::Error> for RemoveError {
    fn from(error: io::Error) -> Self {
        match is_full(&error) {
            true => Self::Refused(Refusal::DiskFull),
            false => Self::Storage(Arc::new(error)),
        }
    }
}
