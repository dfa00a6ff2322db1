//! Copies every log of a running process into a directory, and says when the copy is whole.
//!
//! ```text
//! backup.json   version            this file's, the first written last
//! tenants/<id>/log/                the sealed segments, by their names, the state, the audit files
//! tenants/<id>/…  server.redb      of other modules
//! ```
//!
//! A sealed segment never changes, so a second name is as good as a copy of it; only where the file
//! system cannot give one are its bytes copied. The log goes on in a segment of its own meanwhile.
//!
//! Without `backup.json` a directory is no backup, and with it, it is no data directory: two logs
//! that go on from the same position would give the same replay ids to different events.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
};

use serde::{Deserialize, Serialize};

use super::{
    EmbeddedLog,
    audit::AUDIT_FILES,
    io::{Access, Io, copy_file, link_or_copy, write_all_at},
    lock::{DataDir, LOG, TENANTS, create_dir, write_version},
    state::State,
    store::Store,
};
use crate::{
    clock::Timestamp,
    event_log::{Backup, BackupError, OpenError},
    types::TenantId,
};

/// What is in a backup, as its file says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Version of the backup's format.
    pub(super) format: u32,
    pub(super) made_at_ms: i64,
    /// Version of the program that made it; for people.
    pub(super) program: String,
    pub(super) metadata_files: u64,
    pub(super) logs: Vec<ManifestLog>,
}

/// One log of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManifestLog {
    pub(super) tenant: String,
    /// The last position in it; for people.
    pub(super) head: u64,
    pub(super) next_block: u64,
    pub(super) segments: u64,
    pub(super) bytes: u64,
}

/// Newest version of a backup's format that this program reads, and the one it writes.
pub(super) const BACKUP_FORMAT: u32 = 1;
/// Name of the file that makes a backup whole.
pub(super) const MANIFEST: &str = "backup.json";
/// Name of that file as long as the backup is not whole.
pub(super) const MANIFEST_NEW: &str = "backup.json.new";

impl Manifest {
    fn new(backup: &Backup, metadata_files: u64) -> Self {
        let logs = backup.logs.iter().map(|log| ManifestLog {
            tenant: log.tenant.to_string(),
            head: log.head.get(),
            next_block: log.next_block,
            segments: log.segments,
            bytes: log.bytes,
        });
        Self {
            format: BACKUP_FORMAT,
            made_at_ms: backup.made_at.as_millis(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            metadata_files,
            logs: logs.collect(),
        }
    }

    pub(super) fn made_at(&self) -> Timestamp {
        Timestamp::from_millis(self.made_at_ms)
    }
}

impl EmbeddedLog {
    /// Does what [`crate::event_log::EventLog::back_up`] promises.
    pub(super) async fn back_up_logs(&self, to: &Path) -> Result<Backup, BackupError> {
        let made_at = self.process.clock.now();
        let (dir, path) = (Arc::clone(&self.dir), to.to_owned());
        let tenants = self.blocking(to, move || begin(&dir, &path)).await?;
        let mut logs = Vec::with_capacity(tenants.len());
        // One after the other: each log is opened for it, and not many should be at once.
        for tenant in tenants {
            let log = self.handle(tenant).await?;
            let (dir, path) = (Arc::clone(&self.dir), to.to_owned());
            let copy = move || log.back_up(&make_log_dir(&**dir.io(), &path, tenant)?);
            logs.push(self.blocking(to, copy).await?);
        }
        Ok(Backup { made_at, logs })
    }

    /// Does what [`crate::event_log::EventLog::finish_backup`] promises.
    pub(super) async fn finish(
        &self,
        to: &Path,
        backup: &Backup,
        metadata_files: u64,
    ) -> Result<(), BackupError> {
        let manifest = Manifest::new(backup, metadata_files);
        let (dir, path) = (Arc::clone(&self.dir), to.to_owned());
        let write = move || Ok(write_manifest(&**dir.io(), &path, &manifest)?);
        self.blocking(to, write).await
    }

    /// Runs `work`, which blocks, on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        to: &Path,
        work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, BackupError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|source| failed("write the backup", to)(source.into()))?
    }
}

impl Store {
    /// Copies the segments before `next_block`, none of which is written any more, and the state into
    /// the directory `to`. Returns the number of segments and their bytes.
    pub(super) fn copy_to(
        &self,
        _: &MutexGuard<'_, ()>,
        next_block: u64,
        to: &Path,
    ) -> Result<(u64, u64), BackupError> {
        let io = self.io();
        let (mut segments, mut bytes) = (0, 0);
        for segment in self.segments.all() {
            // What was begun since the seal.
            if segment.name.first_block >= next_block {
                break;
            }
            let name = segment.name.to_string();
            let (from, copy) = (self.dir.join(&name), to.join(&name));
            // One that could not be given its footer gets it when it is opened next.
            let copied = match segment.live_index() {
                None => link_or_copy(io, &from, &copy),
                Some(_) => copy_file(io, &from, &copy),
            };
            copied.map_err(failed("copy", &from))?;
            segments += 1;
            bytes += io.file_len(&copy).map_err(failed("look at", &copy))?;
        }
        copy_audit(io, &self.dir, to)?;
        let state = State {
            // Nothing was given out but what is copied, as far as the copy is concerned.
            reserved_block: 0,
            ..self.state().clone()
        };
        // Syncs the directory as well.
        let stored = state.store(io, to);
        stored.map_err(failed("write the state in", to))?;
        Ok((segments, bytes))
    }
}

/// Makes the directory and the file that says that it is no backup yet; returns the tenants that have
/// a log.
fn begin(data_dir: &DataDir, to: &Path) -> Result<Vec<TenantId>, BackupError> {
    let io = &**data_dir.io();
    let refused = |reason| BackupError::Directory {
        path: to.to_owned(),
        reason,
    };
    if !to.is_absolute() {
        return Err(refused("its path is not absolute"));
    }
    if lies_in(to, data_dir.path()).map_err(failed("look at", to))? {
        return Err(refused("it lies in the data directory"));
    }
    expect_empty(io, to)?.map_err(refused)?;
    create_dir(io, to)?;
    let mark = to.join(MANIFEST_NEW);
    let made = io.create(&mark).and_then(|_| io.sync_dir(to));
    made.map_err(failed("create", &mark))?;
    create_dir(io, &to.join(TENANTS))?;

    let listed = data_dir.tenants();
    let mut tenants = listed.map_err(failed("list the tenants in", data_dir.path()))?;
    tenants.sort_unstable_by_key(TenantId::to_string);
    let mut with_log = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let log_dir = data_dir.log_dir(tenant);
        match io.list(&log_dir) {
            Ok(_) => with_log.push(tenant),
            // A tenant has no log before its first event type.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("list", &log_dir)(error).into()),
        }
    }
    Ok(with_log)
}

/// Makes the directory for a tenant's log in that of a backup or of a restored gateway.
pub(super) fn make_log_dir(io: &dyn Io, to: &Path, tenant: TenantId) -> Result<PathBuf, OpenError> {
    let tenant_dir = to.join(TENANTS).join(tenant.as_str());
    create_dir(io, &tenant_dir)?;
    let log_dir = tenant_dir.join(LOG);
    create_dir(io, &log_dir)?;
    Ok(log_dir)
}

/// Copies the audit files of a log, which are written to and so get no second name, from one
/// directory to another. Their names are durable once the directory is synced.
pub(super) fn copy_audit(io: &dyn Io, from: &Path, to: &Path) -> Result<(), OpenError> {
    for name in AUDIT_FILES {
        let path = from.join(name);
        match copy_file(io, &path, &to.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(failed("copy", &path))?,
        }
    }
    Ok(())
}

/// Whether `path`, of which the last part need not exist, is `dir` or lies in it.
pub(super) fn lies_in(path: &Path, dir: &Path) -> io::Result<bool> {
    let dir = dir.canonicalize()?;
    // A bare name has a parent only then.
    let path = std::path::absolute(path)?;
    let place = match (path.canonicalize(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            parent.canonicalize()?
        }
        (place, _) => place?,
    };
    Ok(place.starts_with(dir))
}

/// Whether `dir` is not there or empty, else what is wrong with it.
pub(super) fn expect_empty(io: &dyn Io, dir: &Path) -> Result<Result<(), &'static str>, OpenError> {
    Ok(match io.list(dir) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(names) if names.iter().any(|name| name == MANIFEST_NEW) => {
            Err("it holds a backup that was not finished; remove it or name another directory")
        }
        Ok(_) => Err("it is not empty"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err("it is not a directory"),
        Err(error) => return Err(failed("list", dir)(error)),
    })
}

/// Makes the backup in `to` whole.
fn write_manifest(io: &dyn Io, to: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    write_version(io, to)?;
    let mut text = serde_json::to_vec(manifest).expect("numbers and text");
    text.push(b'\n');
    let (new, path) = (to.join(MANIFEST_NEW), to.join(MANIFEST));
    let write = || -> io::Result<()> {
        let file = io.open(&new, Access::Write)?;
        write_all_at(&*file, &mut [IoSlice::new(&text)], 0)?;
        file.sync()?;
        io.rename(&new, &path)?;
        io.sync_dir(to)
    };
    write().map_err(failed("write", &path))
}

/// An error of the operating system.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
