//! Makes a damaged log one that opens and reads without a fault, out of what is intact of it.
//!
//! Nothing that was lost comes back. What a repair does is to keep a copy of every file it touches,
//! to make segments anew without their damaged blocks, to set aside what cannot be used, and to note
//! exactly what is missing, so that subscribers are told once and start behind it. Whatever it is
//! stopped at, running it again goes on from there.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    audit,
    block::BLOCK_HEADER_LEN,
    footer::Footer,
    io::{Access, Io, copy_file, link_or_copy, write_all_at},
    report::{Depth, LossReport, Progress},
    rewrite::{Cut, OnDamage, RewriteError, rewrite},
    segment::SegmentName,
    state::{STATE, State},
    verify::{Examination, Examined, Need},
};
use crate::{
    clock::Timestamp,
    event_log::{AuditEntry, OpenError},
    types::{Position, TopicId},
};

/// What a repair does, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct RepairReport {
    /// The tenant, as the segments say; `None` without segments.
    pub tenant: Option<String>,
    /// What is done, in order; empty if there is nothing to do.
    pub actions: Vec<RepairAction>,
    /// The events that are gone for good and were not known to be, by topic.
    pub losses: Vec<LossReport>,
    /// Where the files are kept as they were; `None` if nothing was done.
    pub copy: Option<PathBuf>,
}

/// One thing that a repair does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairAction {
    /// Name of the file.
    pub file: String,
    /// What is done about it.
    pub what: String,
}

impl RepairAction {
    fn new(file: &str, what: &str) -> Self {
        Self {
            file: file.to_owned(),
            what: what.to_owned(),
        }
    }
}

/// Says what [`repair`] would do to the log in `log_dir`, and changes nothing.
///
/// # Errors
///
/// [`OpenError`] if the directory or a file in it cannot be read.
pub fn plan_repair(
    io: &dyn Io,
    log_dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<RepairReport, OpenError> {
    let found = Examination::run(io, log_dir, Depth::Blocks, progress)?;
    Ok(Repair::new(io, log_dir, &found).report())
}

/// Repairs the log in `log_dir`, which nobody may have open, and says what was done.
///
/// Files as they were are kept in a directory `damaged-<time>` beside the segments, with the report.
///
/// # Errors
///
/// [`OpenError`]; the same call goes on from where it was stopped.
pub fn repair(
    io: &dyn Io,
    log_dir: &Path,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<RepairReport, OpenError> {
    let found = Examination::run(io, log_dir, Depth::Blocks, progress)?;
    let repair = Repair::new(io, log_dir, &found);
    let mut report = repair.report();
    if report.actions.is_empty() {
        return Ok(report);
    }
    let copy = log_dir.join(format!("damaged-{}", now.as_millis()));
    report.copy = Some(copy.clone());
    repair.keep(&copy, &report)?;
    repair.store_state()?;
    repair.mend()?;
    let lost: u64 = report.losses.iter().map(|loss| loss.events).sum();
    let entry = AuditEntry {
        at_ms: now.as_millis(),
        by: "tidegate log repair".into(),
        action: "repair".into(),
        topic: None,
        detail: format!("settled the loss of {lost} events; see {}", copy.display()),
    };
    let noted = audit::append(io, log_dir, &entry);
    noted.map_err(|source| repair.failed("write the audit file in", log_dir, source))?;
    Ok(report)
}

/// One repair, planned from what was found.
struct Repair<'a> {
    io: &'a dyn Io,
    dir: &'a Path,
    found: &'a Examination,
    is_state_whole: bool,
}

impl<'a> Repair<'a> {
    fn new(io: &'a dyn Io, dir: &'a Path, found: &'a Examination) -> Self {
        Self {
            io,
            dir,
            found,
            is_state_whole: State::is_whole(io, dir),
        }
    }

    fn report(&self) -> RepairReport {
        let mut actions = Vec::new();
        let mut act = |file: &str, what: &str| actions.push(RepairAction::new(file, what));
        match (&self.found.state, self.is_state_whole) {
            (_, true) => {}
            (Some(_), false) => act(STATE, "write it anew from its intact copy"),
            (None, false) if self.found.segments.is_empty() => {}
            (None, false) => act(STATE, "make it anew from the segments"),
        }
        for segment in &self.found.segments {
            let name = segment.name.to_string();
            match &segment.need {
                Need::Nothing => {}
                Need::Remaking { .. } => act(&name, "make it anew from its intact blocks"),
                Need::SettingAside if self.is_newest(segment) => act(
                    &name,
                    "set it aside; nothing tells how many events are lost with it, and their replay \
                     ids are not used again",
                ),
                Need::SettingAside => act(&name, "set it aside; its events are lost"),
            }
        }
        let losses = &self.found.report.losses;
        if actions.is_empty() && !losses.is_empty() {
            let what = "note that the missing events are gone for good";
            actions.push(RepairAction::new(STATE, what));
        }
        RepairReport {
            tenant: self.found.report.tenant.clone(),
            actions,
            losses: losses.clone(),
            copy: None,
        }
    }

    fn is_newest(&self, segment: &Examined) -> bool {
        let newest = self.found.segments.last();
        newest.is_some_and(|newest| newest.name == segment.name)
    }

    /// The segments that are not left as they are.
    fn concerned(&self) -> impl Iterator<Item = &Examined> {
        let segments = self.found.segments.iter();
        segments.filter(|segment| !matches!(segment.need, Need::Nothing))
    }

    /// Keeps what is going to be changed in `copy`, with the report.
    fn keep(&self, copy: &Path, report: &RepairReport) -> Result<(), OpenError> {
        let failed = |source| self.failed("keep a copy in", copy, source);
        self.io.create_dir(copy).map_err(failed)?;
        self.io.sync_dir(self.dir).map_err(failed)?;
        for segment in self.concerned() {
            let name = segment.name.to_string();
            let kept = link_or_copy(self.io, &self.dir.join(&name), &copy.join(&name));
            kept.map_err(failed)?;
        }
        match copy_file(self.io, &self.dir.join(STATE), &copy.join(STATE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let report = serde_json::to_vec_pretty(report).map_err(|e| failed(e.into()))?;
        self.write(&copy.join(REPORT), &report).map_err(failed)?;
        self.io.sync_dir(copy).map_err(failed)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.io.create(path)?;
        write_all_at(&*file, &mut [IoSlice::new(bytes)], 0)?;
        file.sync()
    }

    /// Notes in the state what is lost, before the files stop telling.
    fn store_state(&self) -> Result<(), OpenError> {
        let mut state = match &self.found.state {
            Some(state) => state.clone(),
            None => self.new_state()?,
        };
        for loss in self.found.losses.found() {
            state.settle(*loss);
        }
        let newest = self.found.segments.last();
        if let Some(newest) = newest.filter(|newest| matches!(newest.need, Need::SettingAside)) {
            // Each of its blocks took more than its header.
            let blocks = newest.bytes / BLOCK_HEADER_LEN as u64;
            let end = newest.name.first_block.saturating_add(blocks);
            state.reserved_block = state.reserved_block.max(end);
        }
        let stored = state.store(self.io, self.dir);
        stored.map_err(|source| self.failed("write the state in", self.dir, source))
    }

    /// A state as far as the oldest segment that is left tells it.
    fn new_state(&self) -> Result<State, OpenError> {
        let failed = |source| self.failed("read", self.dir, source);
        let mut left = self
            .found
            .segments
            .iter()
            .filter(|segment| !matches!(segment.need, Need::SettingAside));
        let Some(oldest) = left.next() else {
            return Ok(State::new(self.io.random().map_err(failed)?));
        };
        let path = self.dir.join(oldest.name.to_string());
        let file = self.io.open(&path, Access::Read).map_err(failed)?;
        State::of_oldest_segment(&*file, self.io.random().map_err(failed)?).map_err(failed)
    }

    /// Makes segments anew, and takes away what is set aside.
    fn mend(&self) -> Result<(), OpenError> {
        let state = self.found.state.as_ref();
        let purged = |topic: TopicId| match state {
            Some(state) if state.deleted.contains(&topic) => Position::MAX,
            Some(state) => state.topic(topic).map(|base| base.trim).unwrap_or_default(),
            None => Position::ZERO,
        };
        let cut = Cut {
            purged: &purged,
            erased: &BTreeMap::new(),
        };
        for segment in self.concerned() {
            if let Need::Remaking { footer, until } = &segment.need {
                self.remake(footer, *until, &cut)?;
            }
            self.remove(segment.name)?;
        }
        Ok(())
    }

    fn remake(&self, footer: &Footer, until: Position, cut: &Cut<'_>) -> Result<(), OpenError> {
        let remade = rewrite(self.io, self.dir, footer, cut, OnDamage::Note { until });
        remade.map(drop).map_err(|error| {
            let source = match error {
                RewriteError::Io(source) => source,
                damaged @ RewriteError::Damaged { .. } => io::Error::other(damaged),
            };
            self.failed("make anew a segment in", self.dir, source)
        })
    }

    fn remove(&self, name: SegmentName) -> Result<(), OpenError> {
        let path = self.dir.join(name.to_string());
        let removed = self.io.unlink(&path);
        let removed = removed.and_then(|()| self.io.sync_dir(self.dir));
        removed.map_err(|source| self.failed("remove", &path, source))
    }

    fn failed(&self, action: &'static str, path: &Path, source: io::Error) -> OpenError {
        OpenError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Name of the report beside the files that were kept.
const REPORT: &str = "report.json";
