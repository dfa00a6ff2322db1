//! The data directory: one owner, one format version, and where everything in it lies.
//!
//! ```text
//! LOCK  version                     this file's
//! tenants/<id>/log/                 the event log of a tenant
//! tenants/<id>/…  server.redb  …    of other modules
//! ```

use std::{
    fmt::Write,
    fs::TryLockError,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    backup::{MANIFEST, MANIFEST_NEW},
    io::{Access, Io, IoFile, RealIo, read_up_to, write_all_at},
    restore::RESTORING,
    segment::FORMAT_VERSION,
};
use crate::{event_log::OpenError, types::TenantId};

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    io: Arc<dyn Io>,
    /// Held for its lock.
    _lock: Arc<dyn IoFile>,
}

impl DataDir {
    /// Takes the directory at `path` for this process; makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`OpenError::InUse`] when another process has it, [`OpenError::NewerFormat`] when a newer
    /// version wrote it, [`OpenError::Foreign`] when it is something else's.
    pub fn open(path: impl Into<PathBuf>) -> Result<Arc<Self>, OpenError> {
        Self::open_with(path.into(), Arc::new(RealIo))
    }

    /// The same on another disk.
    pub fn open_with(path: PathBuf, io: Arc<dyn Io>) -> Result<Arc<Self>, OpenError> {
        create_dir(&*io, &path)?;
        refuse_backup(&*io, &path)?;
        let lock = take_lock(&*io, &path)?;
        // A directory of an older version becomes one of this version before anything in it does, so
        // that the older program refuses it from then on.
        if read_version(&*io, &path)? != Some(FORMAT_VERSION) {
            write_version(&*io, &path)?;
        }
        create_dir(&*io, &path.join(TENANTS))?;
        Ok(Arc::new(Self {
            path,
            io,
            _lock: lock,
        }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of one tenant, which need not exist.
    pub fn tenant_dir(&self, tenant: TenantId) -> PathBuf {
        self.path.join(TENANTS).join(tenant.as_str())
    }

    /// The directory of a tenant's event log, made if there is none.
    pub(super) fn make_log_dir(&self, tenant: TenantId) -> Result<PathBuf, OpenError> {
        let tenant_dir = self.tenant_dir(tenant);
        create_dir(&*self.io, &tenant_dir)?;
        let log_dir = tenant_dir.join(LOG);
        create_dir(&*self.io, &log_dir)?;
        Ok(log_dir)
    }

    /// Where a tenant's event log is, if it has one.
    pub(super) fn log_dir(&self, tenant: TenantId) -> PathBuf {
        self.tenant_dir(tenant).join(LOG)
    }

    /// The tenants with a directory, whether there is a log in it or not.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn tenants(&self) -> io::Result<Vec<TenantId>> {
        let names = self.io.list(&self.path.join(TENANTS))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) fn io(&self) -> &Arc<dyn Io> {
        &self.io
    }
}

/// The directory of each tenant's event log in the data directory at `data_dir`, which may be in
/// use, by tenant.
///
/// # Errors
///
/// [`OpenError`] if `data_dir` is not a data directory that this version reads.
pub fn log_dirs(data_dir: &Path) -> Result<Vec<(TenantId, PathBuf)>, OpenError> {
    if read_version(&RealIo, data_dir)?.is_none() {
        return Err(OpenError::Foreign {
            path: data_dir.to_owned(),
            reason: format!("it has no file named {VERSION}, as every data directory does"),
        });
    }
    let tenants = data_dir.join(TENANTS);
    let names = match RealIo.list(&tenants) {
        // It is made after the version is written.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        result => result.map_err(|source| OpenError::Io {
            action: "list",
            path: tenants.clone(),
            source,
        })?,
    };
    let logs = names.iter().filter_map(|name| {
        let tenant: TenantId = name.parse().ok()?;
        let log = tenants.join(name).join(LOG);
        // A tenant has no log before its first event type.
        log.is_dir().then_some((tenant, log))
    });
    let mut logs: Vec<_> = logs.collect();
    logs.sort_by_key(|(tenant, _)| tenant.to_string());
    Ok(logs)
}

/// Whether a process has the data directory at `data_dir`.
pub fn is_in_use(data_dir: &Path) -> bool {
    // Asked with a lock of its own, given up at once, so only where the answer matters: a gateway
    // that starts in that moment is refused.
    let file = std::fs::File::open(data_dir.join(LOCK));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Refuses a directory whose logs would give out positions that another one's have given out.
fn refuse_backup(io: &dyn Io, path: &Path) -> Result<(), OpenError> {
    let names = io.list(path).map_err(|source| OpenError::Io {
        action: "list",
        path: path.to_owned(),
        source,
    })?;
    let has = |name: &str| names.iter().any(|found| found == name);
    let reason = if has(MANIFEST) || has(MANIFEST_NEW) {
        "it is a backup; make a data directory of it with `tidegate log restore`"
    } else if has(RESTORING) {
        "a restore into it was not finished; remove it and restore again"
    } else {
        return Ok(());
    };
    Err(OpenError::Unusable {
        path: path.to_owned(),
        reason,
    })
}

/// Makes a directory and its name durable.
pub(super) fn create_dir(io: &dyn Io, path: &Path) -> Result<(), OpenError> {
    let made = io.create_dir(path).and_then(|()| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => io.sync_dir(parent),
        _ => io.sync_dir(Path::new(".")),
    });
    made.map_err(|source| OpenError::Io {
        action: "create the directory",
        path: path.to_owned(),
        source,
    })
}

fn take_lock(io: &dyn Io, dir: &Path) -> Result<Arc<dyn IoFile>, OpenError> {
    let path = dir.join(LOCK);
    let failed = |source| OpenError::Io {
        action: "lock",
        path: path.clone(),
        source,
    };
    let file = match io.create(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            io.open(&path, Access::Write).map_err(failed)?
        }
        result => result.map_err(failed)?,
    };
    if !file.try_lock().map_err(failed)? {
        let owner = read_up_to(&*file, 0, PID_CHARS_MAX).unwrap_or_default();
        let owner = String::from_utf8_lossy(&owner);
        return Err(OpenError::InUse {
            path: dir.to_owned(),
            pid: owner.trim().parse().ok(),
        });
    }
    // As long as any: what was there is overwritten in its place, which a full disk allows.
    let pid = format!(
        "{:>width$}\n",
        std::process::id(),
        width = PID_CHARS_MAX - 1
    );
    write_all_at(&*file, &mut [IoSlice::new(pid.as_bytes())], 0).map_err(failed)?;
    Ok(file)
}

/// The version of the directory, which is known to be readable; `None` for a new directory.
pub(super) fn read_version(io: &dyn Io, dir: &Path) -> Result<Option<u32>, OpenError> {
    let path = dir.join(VERSION);
    let failed = |source| OpenError::Io {
        action: "read",
        path: path.clone(),
        source,
    };
    let file = match io.open(&path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed)?,
    };
    let text = read_up_to(&*file, 0, VERSION_CHARS_MAX).map_err(failed)?;
    let version = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.trim().strip_prefix(VERSION_PREFIX)?.parse().ok())
        .ok_or_else(|| OpenError::Foreign {
            path: path.clone(),
            reason: format!("it should read \"{VERSION_PREFIX}{FORMAT_VERSION}\""),
        })?;
    if version > FORMAT_VERSION {
        return Err(OpenError::NewerFormat {
            path,
            found: version,
            known: FORMAT_VERSION,
        });
    }
    Ok(Some(version))
}

pub(super) fn write_version(io: &dyn Io, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(VERSION);
    let new = dir.join(VERSION_NEW);
    let mut text = String::new();
    _ = writeln!(text, "{VERSION_PREFIX}{FORMAT_VERSION}");
    _ = io.unlink(&new);
    let written = io.create(&new).and_then(|file| {
        write_all_at(&*file, &mut [IoSlice::new(text.as_bytes())], 0)?;
        file.sync()?;
        io.rename(&new, &path)?;
        io.sync_dir(dir)
    });
    written.map_err(|source| OpenError::Io {
        action: "write",
        path,
        source,
    })
}

const LOCK: &str = "LOCK";
const VERSION: &str = "version";
const VERSION_NEW: &str = "version.new";
const VERSION_PREFIX: &str = "tidegate ";
/// The directory with one of each tenant.
pub(super) const TENANTS: &str = "tenants";
/// The directory of a tenant's event log in that.
pub(super) const LOG: &str = "log";
const PID_CHARS_MAX: usize = 20;
const VERSION_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let owner = DataDir::open(&path).unwrap();
        let refused = DataDir::open(&path).unwrap_err();
        assert!(is_in_use(&path));
        assert!(matches!(
            refused,
            OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()
        ));
        assert!(
            refused.to_string().contains("in use by process"),
            "{refused}"
        );
        drop(owner);
        assert!(!is_in_use(&path));
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_newer_or_foreign_version_is_refused_with_what_was_found() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        let version = dir.path().join(VERSION);
        std::fs::write(&version, "tidegate 3\n").unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err();
        assert!(
            refused.to_string().contains("format version 3"),
            "{refused}"
        );
        std::fs::write(&version, "PG_VERSION 17").unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    }

    #[test]
    fn an_older_version_is_raised_to_this_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        let version = dir.path().join(VERSION);
        std::fs::write(&version, "tidegate 1\n").unwrap();
        drop(DataDir::open(dir.path()).unwrap());
        let raised = std::fs::read_to_string(&version).unwrap();
        assert_eq!(raised, format!("tidegate {FORMAT_VERSION}\n"));
    }

    #[test]
    fn a_directory_that_is_none_of_ours_has_no_logs() {
        let dir = tempfile::tempdir().unwrap();
        assert!(log_dirs(dir.path()).is_err());
        let owner = DataDir::open(dir.path()).unwrap();
        assert_eq!(log_dirs(dir.path()).unwrap(), []);
        let tenants = ["00D000000000002", "00D000000000001"].map(|id| id.parse().unwrap());
        for tenant in tenants {
            owner.make_log_dir(tenant).unwrap();
        }
        std::fs::create_dir(dir.path().join(TENANTS).join("other")).unwrap();
        let logs = log_dirs(dir.path()).unwrap();
        assert_eq!(logs.len(), 2);
        assert_eq!(logs[0].0, tenants[1]);
        assert!(logs[0].1.ends_with("00D000000000001EAA/log"), "{logs:?}");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let refused = DataDir::open(&path).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("cannot create the directory")
        );
    }
}
