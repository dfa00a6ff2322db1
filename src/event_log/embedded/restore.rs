//! Makes a data directory out of a backup, whose logs go on where no position was given out yet.
//!
//! The original went on after the backup was made, so a restored log leaves out every position that
//! may have been given out since: its state reserves them, opening takes them for lost, and tells so
//! to subscribers that come with one. The log gets an id of its own and remembers the original's, so
//! that a segment which the original wrote later is not taken for one of this log.
//!
//! Until all of it is there and was looked at, a file keeps gateways out of the directory.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    audit,
    backup::{
        BACKUP_FORMAT, MANIFEST, MANIFEST_NEW, Manifest, ManifestLog, copy_audit, expect_empty,
        failed, lies_in, make_log_dir,
    },
    io::{Access, Io, copy_file, read_up_to},
    lock::{LOG, TENANTS, create_dir, read_version, write_version},
    report::{Depth, LogReport, Progress},
    segment::SegmentName,
    state::{Origin, State},
    verify::inspect,
};
use crate::{
    clock::Timestamp,
    event_log::{AuditEntry, OpenError},
    types::{
        Position, TenantId,
        limits::{BACKUP_MANIFEST_BYTES_MAX, RESTORE_BLOCKS, RESTORE_BLOCKS_PER_SECOND},
    },
};

/// Why a backup was not restored. The backup is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The directory is no backup, or not a whole one.
    #[error("{path} is not a backup: {reason}")]
    NotABackup {
        /// The directory.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A newer version of this program made the backup.
    #[error(
        "the backup {path} has format version {found}, this program reads up to version {known}; restore it with the version that made it or a later one"
    )]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// The backup's version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// By this clock the backup is not made yet, so nothing tells what the original has given out.
    #[error(
        "the backup was made at {made_at}, and it is {now} now by this machine's clock; set the clock right"
    )]
    MadeLater {
        /// When the backup was made.
        made_at: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// There are not enough positions left to leave out those that may have been given out since.
    #[error(
        "the backup was made at {made_at}, and it is {now} now: more replay ids may have been given out since than there are"
    )]
    TooOld {
        /// When the backup was made.
        made_at: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// The directory to restore into cannot be used. Nothing was written to it.
    #[error("cannot restore into {path}: {reason}")]
    Target {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something that was in the backup is not there any more, or something came to it.
    #[error("the backup is not as it was made: {path}: {what}")]
    Changed {
        /// The file or directory.
        path: PathBuf,
        /// What was found and what was wanted.
        what: String,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Failed(#[from] OpenError),
}

/// A restore under way. Dropped before [`Restore::finish`], it leaves a directory that no gateway
/// starts on.
#[derive(Debug)]
pub struct Restore {
    io: Arc<dyn Io>,
    from: PathBuf,
    to: PathBuf,
    manifest: Manifest,
    now: Timestamp,
    /// Block numbers that each log leaves out.
    skipped_blocks: u64,
}

/// Name of the file that keeps gateways out.
pub(super) const RESTORING: &str = "restoring";

impl Restore {
    /// Begins to restore the backup in `from` into `to`, which is made if it is not there and must be
    /// empty, at the time `now`.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: nothing was written, unless the file system failed.
    pub fn begin(
        io: Arc<dyn Io>,
        from: &Path,
        to: &Path,
        now: Timestamp,
    ) -> Result<Self, RestoreError> {
        let manifest = read_manifest(&*io, from)?;
        let made_at = manifest.made_at();
        if now < made_at {
            return Err(RestoreError::MadeLater { made_at, now });
        }
        let seconds = now.saturating_since(made_at).as_millis().div_ceil(1_000);
        let skipped_blocks = u64::try_from(seconds)
            .ok()
            .and_then(|seconds| seconds.checked_mul(RESTORE_BLOCKS_PER_SECOND))
            .and_then(|blocks| blocks.checked_add(RESTORE_BLOCKS));
        let newest = manifest.logs.iter().map(|log| log.next_block).max();
        let newest = newest.unwrap_or(FIRST_BLOCK);
        let skipped_blocks = skipped_blocks
            .filter(|blocks| {
                let end = newest.checked_add(*blocks);
                end.is_some_and(|end| end < Position::MAX.block())
            })
            .ok_or(RestoreError::TooOld { made_at, now })?;

        let refused = |reason| RestoreError::Target {
            path: to.to_owned(),
            reason,
        };
        expect_empty(&*io, to)?.map_err(refused)?;
        if lies_in(to, from).map_err(failed("look at", to))? {
            return Err(refused("it lies in the backup"));
        }
        create_dir(&*io, to)?;
        let mark = to.join(RESTORING);
        let made = io.create(&mark).and_then(|_| io.sync_dir(to));
        made.map_err(failed("create", &mark))?;
        create_dir(&*io, &to.join(TENANTS))?;
        Ok(Self {
            io,
            from: from.to_owned(),
            to: to.to_owned(),
            manifest,
            now,
            skipped_blocks,
        })
    }

    /// When the backup was made.
    pub fn made_at(&self) -> Timestamp {
        self.manifest.made_at()
    }

    /// Copies the logs, reads every block of the copies, and returns what was found.
    ///
    /// `progress` is called after each file that was copied or read.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; damage within the files is no error but part of the reports.
    pub fn logs(&self, progress: &mut dyn FnMut(Progress)) -> Result<Vec<LogReport>, RestoreError> {
        let bytes: u64 = self.manifest.logs.iter().map(|log| log.bytes).sum();
        // Each is written and read.
        let bytes_total = bytes.saturating_mul(2);
        let mut bytes_before = 0;
        let mut reports = Vec::with_capacity(self.manifest.logs.len());
        let mut known = HashSet::new();
        for log in &self.manifest.logs {
            let tenant: TenantId = log.tenant.parse().map_err(|_| {
                self.not_a_backup(format!(
                    "{MANIFEST} names {:?}, which is no tenant",
                    log.tenant
                ))
            })?;
            known.insert(tenant);
            let to = make_log_dir(&*self.io, &self.to, tenant)?;
            let mut told = |bytes_of_log: u64| {
                progress(Progress {
                    bytes_done: bytes_before + bytes_of_log,
                    bytes_total,
                });
            };
            self.copy_log(tenant, log, &to, &mut told)?;
            reports.push(inspect(&*self.io, &to, Depth::Blocks, &mut |read| {
                told(log.bytes + read.bytes_done);
            })?);
            bytes_before += 2 * log.bytes;
        }
        self.reserve_for_others(&known)?;
        Ok(reports)
    }

    /// Lets gateways in, if this many files of metadata were restored.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: no gateway starts on the directory.
    pub fn finish(self, metadata_files: u64) -> Result<(), RestoreError> {
        if metadata_files != self.manifest.metadata_files {
            return Err(RestoreError::Changed {
                what: format!(
                    "it has {metadata_files} files of metadata, not {}",
                    self.manifest.metadata_files
                ),
                path: self.from,
            });
        }
        let io = &*self.io;
        write_version(io, &self.to)?;
        let mark = self.to.join(RESTORING);
        let removed = io.unlink(&mark).and_then(|()| io.sync_dir(&self.to));
        Ok(removed.map_err(failed("remove", &mark))?)
    }

    /// Copies one log into `to`, with a state of its own.
    fn copy_log(
        &self,
        tenant: TenantId,
        log: &ManifestLog,
        to: &Path,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), RestoreError> {
        let io = &*self.io;
        let from = self.from.join(TENANTS).join(tenant.as_str()).join(LOG);
        let changed = |path: &Path, what: String| RestoreError::Changed {
            path: path.to_owned(),
            what,
        };
        let listed = io.list(&from).map_err(failed("list", &from))?;
        let mut names: Vec<SegmentName> =
            listed.iter().filter_map(|name| name.parse().ok()).collect();
        names.sort_unstable();
        let mut bytes = 0;
        for name in &names {
            let path = from.join(name.to_string());
            if name.first_block >= log.next_block {
                return Err(changed(&path, "it was written after the backup".into()));
            }
            copy_file(io, &path, &to.join(name.to_string())).map_err(failed("copy", &path))?;
            bytes += io.file_len(&path).map_err(failed("look at", &path))?;
            told(bytes);
        }
        if (names.len() as u64, bytes) != (log.segments, log.bytes) {
            let what = format!(
                "it has {} segments of {bytes} bytes, not {} of {}",
                names.len(),
                log.segments,
                log.bytes
            );
            return Err(changed(&from, what));
        }
        copy_audit(io, &from, to)?;
        let entry = AuditEntry {
            at_ms: self.now.as_millis(),
            by: "tidegate log restore".into(),
            action: "restore".into(),
            topic: None,
            detail: format!("to the backup of {}", self.made_at()),
        };
        audit::append(io, to, &entry).map_err(failed("write the audit file in", to))?;
        let Some(mut state) = State::load(io, &from)? else {
            return Err(changed(&from, "the file state is missing".into()));
        };
        state.origins.push(Origin {
            log_id: state.log_id,
            before_block: log.next_block,
        });
        state.log_id = self.random(to)?;
        self.reserve(state, log.next_block, to)
    }

    /// Gives a state to the logs of tenants that had none when the backup was made: the original may
    /// have begun them since.
    fn reserve_for_others(&self, known: &HashSet<TenantId>) -> Result<(), RestoreError> {
        let tenants = self.from.join(TENANTS);
        let names = self.io.list(&tenants).map_err(failed("list", &tenants))?;
        let others = names.iter().filter_map(|name| name.parse().ok());
        for tenant in others.filter(|tenant| !known.contains(tenant)) {
            let to = make_log_dir(&*self.io, &self.to, tenant)?;
            let state = State::new(self.random(&to)?);
            self.reserve(state, FIRST_BLOCK, &to)?;
        }
        Ok(())
    }

    /// Stores the state of a log that goes on behind everything that may have been given out.
    fn reserve(&self, mut state: State, next_block: u64, to: &Path) -> Result<(), RestoreError> {
        state.reserved_block = next_block + self.skipped_blocks;
        let stored = state.store(&*self.io, to);
        Ok(stored.map_err(failed("write the state in", to))?)
    }

    fn random(&self, to: &Path) -> Result<u64, OpenError> {
        self.io.random().map_err(failed("write the state in", to))
    }

    fn not_a_backup(&self, reason: String) -> RestoreError {
        RestoreError::NotABackup {
            path: self.from.clone(),
            reason,
        }
    }
}

/// Reads what is in the backup, which this version is known to read then.
fn read_manifest(io: &dyn Io, from: &Path) -> Result<Manifest, RestoreError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }

    let not_a_backup = |reason: String| RestoreError::NotABackup {
        path: from.to_owned(),
        reason,
    };
    let path = from.join(MANIFEST);
    let file = match io.open(&path, Access::Read) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(not_a_backup(
                match io.open(&from.join(MANIFEST_NEW), Access::Read) {
                    Ok(_) => "it was not finished".into(),
                    Err(_) => format!("it has no file named {MANIFEST}"),
                },
            ));
        }
        result => result.map_err(failed("open", &path))?,
    };
    let text = read_up_to(
        &*file,
        0,
        file.size()
            .map_err(failed("read", &path))?
            .min(BACKUP_MANIFEST_BYTES_MAX as u64) as usize,
    );
    let text = text.map_err(failed("read", &path))?;
    let malformed = |error: serde_json::Error| not_a_backup(format!("{MANIFEST}: {error}"));
    // Of a newer format only this much is known.
    let Format { format } = serde_json::from_slice(&text).map_err(malformed)?;
    if format > BACKUP_FORMAT {
        return Err(RestoreError::NewerFormat {
            path: from.to_owned(),
            found: format,
            known: BACKUP_FORMAT,
        });
    }
    let manifest = serde_json::from_slice(&text).map_err(malformed)?;
    if read_version(io, from)?.is_none() {
        return Err(not_a_backup("it has no file named version".into()));
    }
    Ok(manifest)
}

/// Number of the first block of a log.
const FIRST_BLOCK: u64 = 2;
