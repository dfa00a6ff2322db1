//! Looks at a log's files without changing them: what there is, and whether it is whole.
//!
//! Works on a directory in use too. What is being written meanwhile is not taken for damage: of the
//! newest segment only groups that another one follows have to be whole.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    footer::{Footer, SealedBy},
    index::SegmentIndex,
    io::{Access, Io, IoFile},
    scan::{Expected, Found, Rebuild, scan},
    segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentName},
    state::State,
};
use crate::{
    event_log::OpenError,
    types::{Position, TopicId},
};

/// What is in the directory of a log.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogReport {
    /// The tenant, as the segments say; `None` without segments.
    pub tenant: Option<String>,
    /// Position of the newest event.
    pub head: u64,
    /// Position of the newest purged event.
    pub trim: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Events in all segments.
    pub events: u64,
    /// The segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The topics, by number.
    pub topics: Vec<TopicReport>,
    /// What is not as it was written; empty if the log is whole, as far as was looked.
    pub damage: Vec<DamageReport>,
}

/// What is in one segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Name of the file.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Number of events.
    pub events: u64,
    /// The smallest position that can stand in it.
    pub first: u64,
    /// Position of its newest event.
    pub last: u64,
    /// When its first event was appended, in milliseconds since the Unix epoch.
    pub first_at_ms: i64,
    /// When its last event was appended.
    pub last_at_ms: i64,
    /// Who gave it its footer: `writer`, `recovery`, or nobody yet.
    pub sealed_by: Option<&'static str>,
}

/// What is known of one topic.
#[derive(Clone, Debug, Serialize)]
pub struct TopicReport {
    /// Its number.
    pub id: u32,
    /// Its name when it was last written.
    pub name: String,
    /// Position of its newest event.
    pub last: u64,
    /// Events ever accepted.
    pub events: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamageReport {
    /// Name of the file.
    pub file: String,
    /// Where in the file, if it is one place.
    pub offset: Option<u64>,
    /// What was found and what was wanted.
    pub what: String,
    /// The topic that lost events, if it is known to be one.
    pub topic: Option<u32>,
    /// Events after this position …
    pub after: Option<u64>,
    /// … up to this one may be lost.
    pub until: Option<u64>,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes looked at.
    pub bytes_done: u64,
    /// Bytes there are.
    pub bytes_total: u64,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers and footers; a segment without a footer is read whole.
    Footers,
    /// Every block.
    Blocks,
}

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
    let mut inspection = Inspection::new(io, log_dir, depth)?;
    let names = inspection.names()?;
    let mut sizes = Vec::with_capacity(names.len());
    for name in &names {
        sizes.push(io.file_len(&log_dir.join(name.to_string())).unwrap_or(0));
    }
    let bytes_total = sizes.iter().sum();
    let mut bytes_done = 0;
    for (number, name) in names.iter().enumerate() {
        inspection.segment(*name, names.get(number + 1).copied())?;
        bytes_done += sizes[number];
        progress(Progress {
            bytes_done,
            bytes_total,
        });
    }
    Ok(inspection.finish())
}

struct Inspection<'a> {
    io: &'a dyn Io,
    dir: &'a Path,
    depth: Depth,
    report: LogReport,
    log_id: Option<u64>,
    /// What is known up to the end of the segment before.
    before: Option<SegmentIndex>,
}

impl<'a> Inspection<'a> {
    fn new(io: &'a dyn Io, dir: &'a Path, depth: Depth) -> Result<Self, OpenError> {
        let mut inspection = Self {
            io,
            dir,
            depth,
            report: LogReport::default(),
            log_id: None,
            before: None,
        };
        match State::load(io, dir) {
            Ok(Some(state)) => {
                inspection.log_id = Some(state.log_id);
                inspection.report.head = state.trim.get();
                if !state.topics.is_empty() {
                    inspection.report.trim = state.trim.get();
                }
                inspection.report.topics = state.topics.iter().map(TopicReport::of_base).collect();
            }
            Ok(None) => inspection.damage("state", None, "the file is missing"),
            Err(OpenError::Foreign { reason, .. }) => inspection.damage("state", None, &reason),
            Err(error) => return Err(error),
        }
        Ok(inspection)
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

    /// Looks at one segment, which `next` follows.
    fn segment(&mut self, name: SegmentName, next: Option<SegmentName>) -> Result<(), OpenError> {
        let file_name = name.to_string();
        let path = self.dir.join(&file_name);
        let read = |source| failed("read", &path, source);
        let file = match self.io.open(&path, Access::Read) {
            // Retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(read)?,
        };
        let bytes = file.size().map_err(read)?;
        let footer = Footer::read(&*file).map_err(read)?;
        let header = match (&footer, SegmentHeader::read(&*file).map_err(read)?) {
            (_, Ok(header)) => header,
            (Some(footer), Err(_)) => {
                self.damage(&file_name, Some(0), "neither copy of the header is intact");
                footer.header
            }
            (None, Err(_)) if next.is_none() => return Ok(()),
            (None, Err(_)) => {
                self.damage(&file_name, None, "neither header nor footer is intact");
                return Ok(());
            }
        };
        if footer.is_none() && next.is_some() {
            self.damage(
                &file_name,
                None,
                "the footer is not intact, though a segment follows",
            );
        }
        self.check_owner(&file_name, name, &header);
        let sealed_by = footer.as_ref().map(|footer| footer.sealed_by);
        let index = match (footer, self.depth) {
            (Some(footer), Depth::Footers) => footer.index,
            (footer, _) => {
                let found = self
                    .scan(&*file, &header, footer.as_ref(), next)
                    .map_err(read)?;
                self.check_footer(&file_name, footer, found)
            }
        };
        self.check_order(&file_name, &index);
        self.report.bytes += bytes;
        self.report.events += index.events;
        self.report.head = self.report.head.max(index.last.get());
        self.report.segments.push(SegmentReport {
            name: file_name,
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
            }),
        });
        self.before = Some(index);
        Ok(())
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
            Some(footer) => Expected::Through(footer.index.last_group),
            None if header.unsynced => Expected::Unsynced,
            None => Expected::Torn,
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
        scan(file, header, expected, |found| {
            if let Found::Damage { offset, .. } = &found {
                offsets.push(*offset);
            }
            rebuild.note(&found);
        })?;
        let until = next.map_or(Position::MAX, SegmentName::first);
        let index = rebuild.finish(until);
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

    /// Compares a footer with what the blocks say, and returns what to go on with.
    fn check_footer(
        &mut self,
        file: &str,
        footer: Option<Footer>,
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
        footer.index
    }

    fn check_owner(&mut self, file: &str, name: SegmentName, header: &SegmentHeader) {
        if header.name != name {
            let what = format!("the header says that it is {}", header.name);
            self.damage(file, Some(0), &what);
        }
        if *self.log_id.get_or_insert(header.log_id) != header.log_id {
            self.damage(file, Some(0), "the segment belongs to another log");
        }
        let tenant = header.tenant.to_string();
        let known = self.report.tenant.get_or_insert_with(|| tenant.clone());
        if *known != tenant {
            let what = format!("the segment belongs to tenant {tenant}");
            self.damage(file, Some(0), &what);
        }
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
        let topics = index.topics.iter().map(|(id, topic)| TopicReport {
            id: id.get(),
            name: topic.name.to_string(),
            last: topic.last.get(),
            events: topic.ordinal_end,
        });
        self.report.topics = topics.collect();
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

    fn finish(self) -> LogReport {
        self.report
    }
}

impl TopicReport {
    fn of_base(base: &super::state::BaseTopic) -> Self {
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
