//! Opens what an earlier process left behind.
//!
//! A segment that was sealed is taken as it is; opening reads the newest footer only. One that was
//! not is walked from its first block: a torn tail is cut off, what is kept is synced, and the
//! segment gets its footer. Nothing is ever appended to it. Damage with something acknowledged
//! behind it is loss; it is logged, counted and noted in the footer, and the log opens.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    footer::{Footer, SealedBy},
    index::{Hole, SegmentIndex, TopicIndex, before},
    io::{Access, Io, IoFile},
    metrics::Metrics,
    rewrite::SEGMENT_NEW,
    scan::{Expected, Rebuild, ScanEnd, scan},
    segment::{HeaderError, SEGMENT_HEADER_LEN, SegmentHeader, SegmentName},
    segments::{Live, Segment},
    state::State,
    store::SPARE,
    writer::seal_file,
};
use crate::{
    event_log::{
        OpenError, TopicState,
        tail::{LostRange, Restored},
    },
    types::{Position, TenantId, TopicId, limits::POSITIONS_RESERVED},
};

/// A log as it was found, ready to be gone on with.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) segments: Vec<Arc<Segment>>,
    /// What is known up to the end of the log.
    pub(super) index: SegmentIndex,
    pub(super) next_block: u64,
    pub(super) restored: Restored,
}

/// What is needed to open the log in one directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery<'a> {
    pub(super) io: &'a dyn Io,
    pub(super) dir: &'a Path,
    pub(super) tenant: TenantId,
    pub(super) metrics: &'a Metrics,
}

/// A segment without a footer.
struct Unsealed {
    file: Arc<dyn IoFile>,
    header: SegmentHeader,
}

impl Recovery<'_> {
    /// Reads, and where the last process did not end cleanly repairs, what is in the directory.
    pub(super) fn run(self) -> Result<Recovered, OpenError> {
        // What an earlier process changed may not be durable, if it ended with a failure. A name
        // that comes back beside what is written from here on would look like damage.
        let synced = self.io.sync_dir(self.dir);
        synced.map_err(|source| self.failed("sync", self.dir, source))?;
        let mut names = self.names()?;
        let found = State::load(self.io, self.dir)?;
        if let Some(state) = &found {
            self.finish_purge(&mut names, state)?;
        }
        let (sealed, unsealed) = self.newest(&names)?;
        let dropped = names.len() - unsealed.len() - sealed.1;
        let kept = &names[..names.len() - dropped];
        let is_state_lost = found.is_none() && !kept.is_empty();
        let state = match found {
            Some(state) => state,
            None => self.new_state(kept)?,
        };
        if let Some(footer) = &sealed.0 {
            self.check_owner(&footer.header, &state)?;
        }
        let mut index = match sealed.0 {
            Some(footer) => footer.index,
            None => base_index(&state),
        };
        let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(kept.len());
        for name in &kept[..sealed.1] {
            segments.push(Segment::sealed(*name, self.len_of(*name)?));
        }
        let last = unsealed.len().saturating_sub(1);
        let firsts: Vec<_> = unsealed.iter().map(|u| u.header).collect();
        for (number, segment) in unsealed.into_iter().enumerate() {
            self.check_owner(&segment.header, &state)?;
            let expected = match firsts.get(number + 1) {
                Some(next) => Expected::Through(next.first_group - 1),
                // The log ended cleanly after it.
                None if segment.header.first_group <= state.end_group => {
                    Expected::Through(state.end_group)
                }
                None if number == last && segment.header.unsynced => Expected::Unsynced,
                None => Expected::Torn,
            };
            let until = match firsts.get(number + 1) {
                Some(next) => before(next.name.first()),
                None if segment.header.first_group <= state.end_group => state.clean_end,
                None => Position::MAX,
            };
            if segment.header.first_group > state.end_group {
                index.reach(&state);
            }
            let is_room = segments
                .last()
                .is_none_or(|last| last.live_index().is_none());
            let recovered = self.recover(segment, &index, expected, until, is_room)?;
            match recovered {
                // All of it is purged.
                Some((segment, found)) if found.holes.is_empty() && found.last <= state.trim => {
                    self.unlink(&segment.name.to_string())?;
                }
                Some((segment, found)) => {
                    segments.push(segment);
                    index = found;
                }
                None => {}
            }
        }
        self.finish(state, is_state_lost, segments, index)
    }

    /// Sets head and numbering, past everything that may have been given out.
    fn finish(
        self,
        mut state: State,
        is_state_lost: bool,
        segments: Vec<Arc<Segment>>,
        mut index: SegmentIndex,
    ) -> Result<Recovered, OpenError> {
        index.catch_up(&state);
        self.miss(&state, &index);
        index.reach(&state);
        let mut head = index.last.max(state.trim);
        let newest_lost = state.lost.last().map_or(Position::ZERO, |lost| lost.until);
        head = head.max(newest_lost);
        let mut next_block = head.block() + 1;
        if is_state_lost {
            // With the state a reservation may have been lost.
            state.reserved_block = next_block.saturating_add(POSITIONS_RESERVED);
        }
        if state.reserved_block > next_block {
            next_block = state.reserved_block;
            let until = Position::in_block(next_block, 0).map_or(Position::MAX, before);
            tracing::warn!(
                tenant = %self.tenant,
                after = head.get(),
                until = until.get(),
                "events that were not synced may be lost; their positions are not used again"
            );
            state.lose(LostRange { after: head, until });
            state.reserved_block = 0;
            let stored = state.store(self.io, self.dir);
            stored.map_err(|source| self.failed("write the state in", self.dir, source))?;
            head = until;
        }
        let topics = index.states().map(|(id, mut topic)| {
            if let Some(base) = state.topic(id) {
                topic.raise(base.through());
            }
            topic.settled = state.settled_until(id);
            topic.retention = state.retentions.get(&id).copied();
            (id, topic)
        });
        let restored = Restored {
            head,
            trim: match state.trim_group {
                0 => Position::ZERO,
                _ => state.trim,
            },
            topics: topics.collect::<Vec<(TopicId, TopicState)>>(),
            lost: state.lost.clone(),
        };
        Ok(Recovered {
            state,
            segments,
            index,
            next_block,
            restored,
        })
    }

    /// The segments, oldest first: of each the newest generation. What never held anything
    /// acknowledged is removed.
    fn names(self) -> Result<Vec<SegmentName>, OpenError> {
        let listed = self.io.list(self.dir);
        let listed = listed.map_err(|source| self.failed("list", self.dir, source))?;
        let mut names: Vec<SegmentName> = Vec::new();
        for name in &listed {
            match name.parse() {
                Ok(name) => names.push(name),
                Err(()) if [SPARE, SEGMENT_NEW].contains(&&**name) => self.unlink(name)?,
                Err(()) => {}
            }
        }
        names.sort_unstable();
        let mut newest: Vec<SegmentName> = Vec::with_capacity(names.len());
        for name in names {
            match newest.last_mut() {
                Some(older) if older.first_block == name.first_block => {
                    self.unlink(&older.to_string())?;
                    *older = name;
                }
                _ => newest.push(name),
            }
        }
        Ok(newest)
    }

    /// Removes the segments that are purged and still there. Newer ones may have gone before them, so
    /// what their footers tell of the log's topics may be older than what the state does.
    fn finish_purge(self, names: &mut Vec<SegmentName>, state: &State) -> Result<(), OpenError> {
        while let Some(oldest) = names.first().filter(|name| name.first() <= state.trim) {
            let path = self.path(*oldest);
            let file = self.io.open(&path, Access::Read);
            let footer = file.and_then(|file| Footer::read(&*file));
            let footer = footer.map_err(|source| self.failed("read", &path, source))?;
            // One without a footer is looked at once its blocks have been walked, and one of another
            // log is not for us to remove.
            let is_purged = |footer: Footer| {
                footer.index.last <= state.trim
                    && footer.header.name == *oldest
                    && self.check_owner(&footer.header, state).is_ok()
            };
            if !footer.is_some_and(is_purged) {
                break;
            }
            self.unlink(&oldest.to_string())?;
            names.remove(0);
        }
        Ok(())
    }

    /// The newest footer with the number of segments up to it, and the segments after it, none of
    /// which has one. A newest segment without a header is removed.
    #[expect(
        clippy::type_complexity,
        reason = "a pair of what is sealed and what is not, used once"
    )]
    fn newest(
        self,
        names: &[SegmentName],
    ) -> Result<((Option<Footer>, usize), Vec<Unsealed>), OpenError> {
        let mut unsealed = Vec::new();
        for (number, name) in names.iter().enumerate().rev() {
            let path = self.path(*name);
            let read = |source| self.failed("read", &path, source);
            let file = self.io.open(&path, Access::Write);
            let file = file.map_err(|source| self.failed("open", &path, source))?;
            // After a failed sync, memory and disk may differ: only the disk counts.
            file.drop_cache().map_err(read)?;
            if let Some(footer) = Footer::read(&*file).map_err(read)? {
                self.metrics.footer_reads.inc();
                // It may be in memory only, if the sync that was to follow it failed.
                let synced = file.sync();
                synced.map_err(|source| self.failed("sync", &path, source))?;
                unsealed.reverse();
                return Ok(((Some(footer), number + 1), unsealed));
            }
            match SegmentHeader::read(&*file).map_err(read)? {
                Ok(header) if header.name == *name => unsealed.push(Unsealed { file, header }),
                Ok(header) => {
                    return Err(OpenError::Foreign {
                        reason: format!("its header says that it is {}", header.name),
                        path,
                    });
                }
                // The header is synced with the first group: without one, nothing is.
                Err(HeaderError::Absent) if unsealed.is_empty() => {
                    self.unlink(&name.to_string())?;
                }
                Err(error) => return Err(error.into_open_error(&path)),
            }
        }
        unsealed.reverse();
        Ok(((None, 0), unsealed))
    }

    /// Makes a state for a log that has none: a new one, or one whose state was lost.
    fn new_state(self, names: &[SegmentName]) -> Result<State, OpenError> {
        let failed = |source| self.failed("write the state in", self.dir, source);
        let mut state = State::new(self.io.random().map_err(failed)?);
        if let Some(name) = names.first() {
            tracing::error!(
                tenant = %self.tenant,
                "the file state is missing; what is known of purged events is taken from the oldest segment"
            );
            let path = self.path(*name);
            let read = |source| self.failed("read", &path, source);
            let file = self.io.open(&path, Access::Read).map_err(read)?;
            state = State::of_oldest_segment(&*file, state.log_id).map_err(read)?;
        }
        state.store(self.io, self.dir).map_err(failed)?;
        Ok(state)
    }

    /// Walks one unsealed segment, cuts off what is torn, and seals it if there is room for a footer:
    /// none for an older segment is none for this one. `None` if nothing is left.
    fn recover(
        self,
        unsealed: Unsealed,
        before: &SegmentIndex,
        expected: Expected,
        until: Position,
        is_room: bool,
    ) -> Result<Option<(Arc<Segment>, SegmentIndex)>, OpenError> {
        let Unsealed { file, header } = unsealed;
        let path = self.path(header.name);
        self.metrics.recoveries.inc();
        let walk = |expected| {
            let walked = walk(&*file, &header, before, expected, until);
            walked.map_err(|source| self.failed("read", &path, source))
        };
        let (mut index, end) = walk(expected)?;
        self.report(&path, &index.holes);
        tracing::info!(
            path = %path.display(),
            blocks = index.blocks,
            torn = end.torn,
            "recovered a segment that was not sealed"
        );
        let is_empty = |index: &SegmentIndex| {
            index.blocks == 0 && index.holes.is_empty() && header.rewritten.is_none()
        };
        let cut = |at| {
            let cut = file.truncate(at).and_then(|()| file.sync());
            cut.map_err(|source| self.failed("cut off the torn end of", &path, source))
        };
        if is_empty(&index) {
            self.unlink(&header.name.to_string())?;
            return Ok(None);
        }
        cut(index.end)?;
        let footer = Footer {
            header,
            sealed_by: SealedBy::Recovery,
            index: index.clone(),
        };
        let seal = || match is_room {
            true => Ok(seal_file(&*file, &footer)?.ok()),
            false => Ok(None),
        };
        let segment = match seal().map_err(|source| self.failed("seal", &path, source))? {
            Some(len) => Segment::sealed(header.name, len),
            // A full disk must not keep anyone from reading: the writer tries again. What is left of
            // a torn group has to go: without a footer, and with groups after it, nobody could tell
            // later that the rest of it was never acknowledged.
            None => {
                if let Some(group) = end.begun {
                    (index, _) = walk(Expected::Through(group - 1))?;
                    if is_empty(&index) {
                        self.unlink(&header.name.to_string())?;
                        return Ok(None);
                    }
                    cut(index.end)?;
                }
                Segment::unsealed(index.end, Live::new(header, index.clone()))
            }
        };
        Ok(Some((segment, index)))
    }

    /// Tells that something is missing which was there when the log ended cleanly.
    fn miss(self, state: &State, index: &SegmentIndex) {
        for (id, end) in &state.ends {
            let known = index.topics.get(id).map(|topic| topic.last);
            let known = known.unwrap_or_default();
            if known < end.last
                && state.settled_until(*id) < end.last
                && !state.deleted.contains(id)
            {
                self.metrics.holes.inc();
                tracing::error!(
                    tenant = %self.tenant,
                    topic = id.get(),
                    after = known.get(),
                    until = end.last.get(),
                    "events are missing that were there when the log ended"
                );
            }
        }
    }

    fn report(self, path: &Path, holes: &[Hole]) {
        for hole in holes {
            self.metrics.holes.inc();
            tracing::error!(
                tenant = %self.tenant,
                path = %path.display(),
                topic = hole.topic.map(TopicId::get),
                after = hole.after.get(),
                until = hole.until.get(),
                "acknowledged events were lost to damage"
            );
        }
    }

    fn check_owner(self, header: &SegmentHeader, state: &State) -> Result<(), OpenError> {
        let reason = if header.tenant != self.tenant {
            format!(
                "it belongs to tenant {}, not {}",
                header.tenant, self.tenant
            )
        } else if !state.owns(header.log_id, header.name.first_block) {
            "it belongs to another log than the file state beside it".into()
        } else {
            return Ok(());
        };
        Err(OpenError::Foreign {
            path: self.path(header.name),
            reason,
        })
    }

    fn len_of(self, name: SegmentName) -> Result<u64, OpenError> {
        let path = self.path(name);
        let len = self.io.file_len(&path);
        len.map_err(|source| self.failed("look at", &path, source))
    }

    /// Removes a file for good: come back beside a newer segment, it would look like damage.
    fn unlink(self, name: &str) -> Result<(), OpenError> {
        let path = self.dir.join(name);
        let removed = self.io.unlink(&path);
        let removed = removed.and_then(|()| self.io.sync_dir(self.dir));
        removed.map_err(|source| self.failed("remove", &path, source))
    }

    fn path(self, name: SegmentName) -> PathBuf {
        self.dir.join(name.to_string())
    }

    fn failed(self, action: &'static str, path: &Path, source: io::Error) -> OpenError {
        OpenError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Makes the index of a segment that follows `before` out of its blocks.
fn walk(
    file: &dyn IoFile,
    header: &SegmentHeader,
    before: &SegmentIndex,
    expected: Expected,
    until: Position,
) -> io::Result<(SegmentIndex, ScanEnd)> {
    let mut rebuild = Rebuild::new(SegmentIndex {
        first_group: header.first_group,
        last_group: header.first_group - 1,
        end: SEGMENT_HEADER_LEN,
        ..SegmentIndex::following(before)
    });
    let end = scan(file, header, expected, |found| rebuild.note(&found))?;
    let mut index = rebuild.finish(until);
    index.end = index.end.max(end.end);
    if let Some(rewritten) = header.rewritten {
        // What was taken out had positions too.
        index.last = index.last.max(rewritten.last);
        index.last_group = index.last_group.max(rewritten.last_group);
    }
    Ok((index, end))
}

/// What is known of a log none of whose segments tells.
fn base_index(state: &State) -> SegmentIndex {
    let last_at = state.topics.iter().map(|topic| topic.last_at).max();
    let mut index = SegmentIndex {
        first_group: state.trim_group,
        last_group: state.trim_group,
        last: state.trim,
        last_at: last_at.unwrap_or_default(),
        ..SegmentIndex::default()
    };
    index.catch_up(state);
    index
}

impl SegmentIndex {
    /// Takes up what the state knows of topics that the segments no longer tell of.
    fn catch_up(&mut self, state: &State) {
        for base in &state.topics {
            let topic = self
                .topics
                .entry(base.id)
                .or_insert_with(|| TopicIndex::new(base.name.clone(), base.ordinal));
            if topic.last < base.trim {
                topic.last = base.trim;
                topic.ordinal_end = topic.ordinal_end.max(base.ordinal);
                topic.last_at = topic.last_at.max(base.last_at);
            }
        }
        self.forget(&state.deleted);
    }

    /// Takes up how far the log reached when it last ended cleanly, be it in a segment or not.
    fn reach(&mut self, state: &State) {
        for (id, end) in &state.ends {
            let topic = self
                .topics
                .entry(*id)
                .or_insert_with(|| TopicIndex::new(end.name.clone(), end.ordinal));
            if topic.last < end.last {
                topic.last = end.last;
                topic.ordinal_end = topic.ordinal_end.max(end.ordinal);
                topic.last_at = topic.last_at.max(end.last_at);
            }
        }
        self.last = self.last.max(state.clean_end);
        self.last_group = self.last_group.max(state.end_group);
        self.forget(&state.deleted);
    }
}
