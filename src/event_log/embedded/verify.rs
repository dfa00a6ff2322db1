//! Looks at a log's files without changing them: what there is, and whether it is whole.
//!
//! Works on a directory in use too. What is being written meanwhile is not taken for damage: of the
//! newest segment only groups that another one follows have to be whole. [`super::repair`] does what
//! is found here to be due.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    block::align,
    footer::{Footer, SealedBy},
    index::{SegmentIndex, before},
    io::{Access, Io, IoFile},
    losses::Losses,
    report::{DamageReport, Depth, LogReport, Progress, SegmentReport, TopicReport},
    scan::{Expected, Found, Rebuild, scan},
    segment::{HeaderError, SEGMENT_HEADER_LEN, SegmentHeader, SegmentName},
    state::{BaseTopic, STATE, State},
};
use crate::{
    event_log::OpenError,
    types::{Position, TopicId},
};

/// Looks at the log in the directory `log_dir` (see [`super::log_dirs`]).
///
/// `progress` is called after each segment.
///
/// # Errors
///
/// [`OpenError`] if the directory or a file in it cannot be read; damage is no error but part of
/// the report.
pub fn inspect(
    io: &dyn Io,
    log_dir: &Path,
    depth: Depth,
    progress: &mut dyn FnMut(Progress),
) -> Result<LogReport, OpenError> {
    Ok(Examination::run(io, log_dir, depth, progress)?.report)
}

/// What was found in a log, and what there is to do about it.
#[derive(Debug)]
pub(super) struct Examination {
    pub(super) report: LogReport,
    /// `None` if there is none that can be read.
    pub(super) state: Option<State>,
    pub(super) segments: Vec<Examined>,
    /// What the blocks themselves say about missing events; of use after a look at every block.
    pub(super) losses: Losses,
}

/// One segment, and what it is in need of.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) name: SegmentName,
    /// Its size.
    pub(super) bytes: u64,
    pub(super) need: Need,
}

/// What a segment is in need of.
#[derive(Debug)]
pub(super) enum Need {
    /// Nothing: it is whole, or opening the log sees to it.
    Nothing,
    /// To be made anew, out of what is intact of it.
    Remaking {
        footer: Box<Footer>,
        /// What is lost of it ends here at the latest.
        until: Position,
    },
    /// To be set aside: nothing in it can be used for this log.
    SettingAside,
}

/// A look at one log that is under way.
struct Inspection<'a> {
    io: &'a dyn Io,
    dir: &'a Path,
    depth: Depth,
    report: LogReport,
    state: Option<State>,
    log_id: Option<u64>,
    losses: Losses,
    segments: Vec<Examined>,
    /// What is known up to the end of the segment before.
    before: Option<SegmentIndex>,
}

/// A segment file and what comes after it.
#[derive(Clone, Copy)]
struct Place {
    name: SegmentName,
    next: Option<SegmentName>,
    /// Whether it or one after it had a footer, so that it has to have one.
    is_sealed: bool,
}

impl Examination {
    pub(super) fn run(
        io: &dyn Io,
        dir: &Path,
        depth: Depth,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, OpenError> {
        let mut inspection = Inspection::new(io, dir, depth)?;
        let names = inspection.names()?;
        let mut sizes = Vec::with_capacity(names.len());
        for name in &names {
            sizes.push(io.file_len(&dir.join(name.to_string())).unwrap_or(0));
        }
        let bytes_total = sizes.iter().sum();
        let mut bytes_done = 0;
        let sealed = inspection.sealed(&names)?;
        for (number, name) in names.iter().enumerate() {
            inspection.segment(Place {
                name: *name,
                next: names.get(number + 1).copied(),
                is_sealed: number < sealed,
            })?;
            bytes_done += sizes[number];
            progress(Progress {
                bytes_done,
                bytes_total,
            });
        }
        Ok(inspection.finish())
    }
}

impl<'a> Inspection<'a> {
    fn new(io: &'a dyn Io, dir: &'a Path, depth: Depth) -> Result<Self, OpenError> {
        let mut inspection = Self {
            io,
            dir,
            depth,
            report: LogReport::default(),
            state: None,
            log_id: None,
            losses: Losses::new(None),
            segments: Vec::new(),
            before: None,
        };
        match State::load(io, dir) {
            Ok(Some(state)) => inspection.take_state(state),
            Ok(None) => inspection.damage(STATE, None, "the file is missing"),
            Err(OpenError::Foreign { reason, .. }) => inspection.damage(STATE, None, &reason),
            Err(error) => return Err(error),
        }
        if inspection.state.is_some() && !State::is_whole(io, dir) {
            inspection.damage(
                STATE,
                None,
                "one of the two copies of its contents is not intact",
            );
        }
        Ok(inspection)
    }

    fn take_state(&mut self, state: State) {
        self.log_id = Some(state.log_id);
        self.report.head = state.trim.get();
        if state.trim_group > 0 {
            self.report.trim = state.trim.get();
        }
        self.report.topics = state.topics.iter().map(TopicReport::of_base).collect();
        self.losses = Losses::new(Some(&state));
        self.state = Some(state);
    }

    fn names(&self) -> Result<Vec<SegmentName>, OpenError> {
        let listed = self.io.list(self.dir);
        let listed = listed.map_err(|source| failed("list", self.dir, source))?;
        let names = listed.iter().filter_map(|name| name.parse().ok());
        let mut names: Vec<SegmentName> = names.collect();
        names.sort_unstable();
        // Of two generations the newer one counts.
        names.dedup_by(|newer, older| {
            let is_same = newer.first_block == older.first_block;
            if is_same {
                *older = *newer;
            }
            is_same
        });
        Ok(names)
    }

    /// How many segments there are up to the newest footer.
    fn sealed(&self, names: &[SegmentName]) -> Result<usize, OpenError> {
        for (number, name) in names.iter().enumerate().rev() {
            let path = self.path(*name);
            let file = self.io.open(&path, Access::Read);
            match file.and_then(|file| Footer::read(&*file)) {
                Ok(Some(_)) => return Ok(number + 1),
                Ok(None) => {}
                // The gateway was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed("read", &path, source)),
            }
        }
        Ok(0)
    }

    /// Looks at one segment.
    fn segment(&mut self, mut place: Place) -> Result<(), OpenError> {
        let file = loop {
            let path = self.path(place.name);
            match self.io.open(&path, Access::Read) {
                Ok(file) => break file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // The gateway was faster: it made the segment anew, or removed it.
                    let names = self.names()?;
                    let is_same = |name: &&SegmentName| name.first_block == place.name.first_block;
                    match names.iter().find(is_same) {
                        Some(name) if *name != place.name => place.name = *name,
                        _ => return self.catch_up(),
                    }
                }
                Err(source) => return Err(failed("open", &path, source)),
            }
        };
        let read = |source| failed("read", &self.path(place.name), source);
        let bytes = file.size().map_err(read)?;
        let footer = Footer::read(&*file).map_err(read)?;
        let (first, second) = SegmentHeader::read_copies(&*file).map_err(read)?;
        let need = self.look(place, &*file, footer, first, second)?;
        self.segments.push(Examined {
            name: place.name,
            bytes,
            need,
        });
        Ok(())
    }

    /// Takes up how far the log was purged meanwhile.
    fn catch_up(&mut self) -> Result<(), OpenError> {
        if let Some(state) = State::load(self.io, self.dir)? {
            self.take_state(state);
        }
        Ok(())
    }

    fn look(
        &mut self,
        place: Place,
        file: &dyn IoFile,
        footer: Option<Footer>,
        first: Result<SegmentHeader, HeaderError>,
        second: Result<SegmentHeader, HeaderError>,
    ) -> Result<Need, OpenError> {
        let name = place.name.to_string();
        let read = |source| failed("read", &self.dir.join(&name), source);
        let places = self.report.damage.len();
        let header = match (first.or(second), &footer) {
            (Ok(header), _) => header,
            (Err(_), Some(footer)) => {
                self.damage(&name, Some(0), "neither copy of the header is intact");
                footer.header
            }
            // Its first group was never synced; opening removes it.
            (Err(HeaderError::Absent), None) if place.next.is_none() => {
                return Ok(Need::Nothing);
            }
            (Err(_), None) => {
                self.damage(&name, None, "neither header nor footer is intact");
                return Ok(Need::SettingAside);
            }
        };
        if first.is_ok() != second.is_ok() {
            self.damage(
                &name,
                Some(0),
                "one of the two copies of the header is not intact",
            );
        }
        if !self.is_own(place.name, &header) {
            return Ok(Need::SettingAside);
        }
        let sealed_by = footer.as_ref().map(|footer| footer.sealed_by);
        let is_deep = footer.is_none() || self.depth == Depth::Blocks;
        let index = match is_deep {
            false => footer.as_ref().map(|f| f.index.clone()).unwrap_or_default(),
            true => {
                let found = self.scan(file, &header, footer.as_ref(), place.next);
                self.check_footer(&name, footer.as_ref(), found.map_err(read)?)
            }
        };
        let bytes = file.size().map_err(read)?;
        // A full disk may have left it without one, but then with nothing in its place.
        let lacks_footer = place.is_sealed || (place.next.is_some() && bytes > align(index.end));
        if footer.is_none() && lacks_footer {
            self.damage(
                &name,
                None,
                "the footer is not intact, though a segment follows",
            );
        }
        if footer.is_some() {
            self.losses.footer(&index);
        }
        let is_whole = self.report.damage.len() == places;
        self.check_order(&name, &index);
        self.take_segment(place.name, bytes, &index, sealed_by);
        self.before = Some(index.clone());
        if is_whole {
            return Ok(Need::Nothing);
        }
        let until = place
            .next
            .map_or(Position::MAX, |next| before(next.first()));
        let footer = Footer {
            header,
            sealed_by: sealed_by.unwrap_or(SealedBy::Recovery),
            index,
        };
        Ok(Need::Remaking {
            footer: Box::new(footer),
            until,
        })
    }

    fn take_segment(
        &mut self,
        name: SegmentName,
        bytes: u64,
        index: &SegmentIndex,
        sealed_by: Option<SealedBy>,
    ) {
        self.report.bytes += bytes;
        self.report.events += index.events;
        self.report.head = self.report.head.max(index.last.get());
        self.report.segments.push(SegmentReport {
            name: name.to_string(),
            bytes,
            blocks: index.blocks,
            events: index.events,
            first: name.first().get(),
            last: index.last.get(),
            first_at_ms: index.first_at.as_millis(),
            last_at_ms: index.last_at.as_millis(),
            sealed_by: sealed_by.map(|by| match by {
                SealedBy::Writer => "writer",
                SealedBy::Recovery => "recovery",
                SealedBy::Rewriting => "rewriting",
            }),
        });
    }

    /// Reads every block of a segment and notes what is damaged.
    fn scan(
        &mut self,
        file: &dyn IoFile,
        header: &SegmentHeader,
        footer: Option<&Footer>,
        next: Option<SegmentName>,
    ) -> io::Result<SegmentIndex> {
        let expected = match footer {
            Some(footer) => footer.expected(),
            None => match &self.state {
                Some(state) if header.first_group <= state.end_group && next.is_none() => {
                    Expected::Through(state.end_group)
                }
                _ if header.unsynced => Expected::Unsynced,
                _ => Expected::Torn,
            },
        };
        let base = match &self.before {
            Some(before) => SegmentIndex::following(before),
            None => SegmentIndex::default(),
        };
        let mut rebuild = Rebuild::new(SegmentIndex {
            first_group: header.first_group,
            last_group: header.first_group - 1,
            end: SEGMENT_HEADER_LEN,
            ..base
        });
        let mut offsets = Vec::new();
        let losses = &mut self.losses;
        scan(file, header, expected, |found| {
            match &found {
                Found::Damage { offset, .. } => offsets.push(*offset),
                Found::Block { header, name, .. } => losses.block(header, *name),
            }
            rebuild.note(&found);
        })?;
        let index = rebuild.finish(self.until(header, next));
        for (hole, offset) in index.holes.iter().zip(offsets) {
            self.report.damage.push(DamageReport {
                file: header.name.to_string(),
                offset: Some(offset),
                what: match hole.topic {
                    Some(_) => "the body of a block is not what was written".into(),
                    None => "the header of a block is not what was written".into(),
                },
                topic: hole.topic.map(TopicId::get),
                after: Some(hole.after.get()),
                until: Some(hole.until.get()),
            });
        }
        Ok(index)
    }

    /// Where what is lost at the end of a segment ends, as far as that is known.
    fn until(&self, header: &SegmentHeader, next: Option<SegmentName>) -> Position {
        let ended = self.state.as_ref();
        let ended = ended.filter(|state| header.first_group <= state.end_group);
        match (next, ended) {
            (Some(next), _) => before(next.first()),
            (None, Some(state)) => state.clean_end,
            (None, None) => Position::MAX,
        }
    }

    /// Compares a footer with what the blocks say, and returns what to go on with.
    fn check_footer(
        &mut self,
        file: &str,
        footer: Option<&Footer>,
        found: SegmentIndex,
    ) -> SegmentIndex {
        let Some(footer) = footer else {
            return found;
        };
        let steps = |index: &SegmentIndex| {
            let topics = index
                .topics
                .iter()
                .filter(|(_, topic)| !topic.steps.is_empty());
            let steps = topics.map(|(id, topic)| (*id, topic.steps.clone()));
            steps.collect::<BTreeMap<_, _>>()
        };
        if found.holes.is_empty() && steps(&found) != steps(&footer.index) {
            self.damage(
                file,
                Some(footer.index.end),
                "the footer does not match the blocks",
            );
        }
        footer.index.clone()
    }

    /// Whether the segment is what its name says, and of this log.
    fn is_own(&mut self, name: SegmentName, header: &SegmentHeader) -> bool {
        let file = name.to_string();
        let places = self.report.damage.len();
        if header.name != name {
            let what = format!("the header says that it is {}", header.name);
            self.damage(&file, Some(0), &what);
        }
        let log_id = *self.log_id.get_or_insert(header.log_id);
        let is_own = match &self.state {
            Some(state) => state.owns(header.log_id, name.first_block),
            None => log_id == header.log_id,
        };
        if !is_own {
            self.damage(&file, Some(0), "the segment belongs to another log");
        }
        let tenant = header.tenant.to_string();
        let known = self.report.tenant.get_or_insert_with(|| tenant.clone());
        if *known != tenant {
            let what = format!("the segment belongs to tenant {tenant}");
            self.damage(&file, Some(0), &what);
        }
        self.report.damage.len() == places
    }

    /// Checks that the segment follows the one before it.
    fn check_order(&mut self, file: &str, index: &SegmentIndex) {
        for (id, topic) in &index.topics {
            let before = self
                .before
                .as_ref()
                .and_then(|before| before.topics.get(id));
            // A footer that was made without the segments before it knows nothing of them.
            if let Some(before) = before
                && topic.before > before.last
                && !self.is_known_to_be_gone(*id, topic.before)
            {
                self.report.damage.push(DamageReport {
                    file: file.into(),
                    offset: None,
                    what: "events before this segment are missing".into(),
                    topic: Some(id.get()),
                    after: Some(before.last.get()),
                    until: Some(topic.before.get()),
                });
            }
        }
        let deleted = self.state.as_ref().map(|state| state.deleted.as_slice());
        let deleted = deleted.unwrap_or_default();
        let topics = index.topics.iter();
        let topics = topics.filter(|(id, _)| deleted.binary_search(id).is_err());
        let topics = topics.map(|(id, topic)| TopicReport {
            id: id.get(),
            name: topic.name.to_string(),
            last: topic.last.get(),
            events: topic.ordinal_end,
        });
        self.report.topics = topics.collect();
    }

    /// Whether the events of a topic up to `until` are purged, or their loss is settled.
    fn is_known_to_be_gone(&self, topic: TopicId, until: Position) -> bool {
        self.state.as_ref().is_some_and(|state| {
            let trim = state.topic(topic).map(|base| base.trim);
            trim.is_some_and(|trim| until <= trim) || until <= state.settled_until(topic)
        })
    }

    fn damage(&mut self, file: &str, offset: Option<u64>, what: &str) {
        self.report.damage.push(DamageReport {
            file: file.into(),
            offset,
            what: what.into(),
            topic: None,
            after: None,
            until: None,
        });
    }

    fn path(&self, name: SegmentName) -> PathBuf {
        self.dir.join(name.to_string())
    }

    /// Checks that the newest segment reaches as far as the log did when it last ended cleanly.
    fn check_end(&mut self) {
        let Some(state) = &self.state else { return };
        let last = self.before.as_ref().map_or(state.trim, |index| index.last);
        let end = state.clean_end;
        let is_settled = |id: &TopicId| state.settled_until(*id) >= end;
        if last < end && !state.ends.keys().any(is_settled) {
            self.report.damage.push(DamageReport {
                file: STATE.into(),
                offset: None,
                what: "events are missing that were there when the log ended".into(),
                topic: None,
                after: Some(last.get()),
                until: Some(end.get()),
            });
        }
        self.losses.end(state);
        self.report.head = self.report.head.max(end.get());
    }

    fn finish(mut self) -> Examination {
        self.check_end();
        let settled = self.state.as_ref().map(|state| &*state.losses);
        let settled = settled.unwrap_or_default();
        let reports = settled.iter().map(|loss| self.losses.report(loss));
        self.report.settled = reports.collect();
        if self.depth == Depth::Blocks {
            self.report.losses = self.losses.reports(settled);
        }
        Examination {
            report: self.report,
            state: self.state,
            segments: self.segments,
            losses: self.losses,
        }
    }
}

impl TopicReport {
    fn of_base(base: &BaseTopic) -> Self {
        Self {
            id: base.id.get(),
            name: base.name.to_string(),
            last: base.trim.get(),
            events: base.ordinal,
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        action,
        path: PathBuf::from(path),
        source,
    }
}
