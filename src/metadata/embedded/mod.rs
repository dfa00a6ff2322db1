//! Metadata on the local disk: one redb file for the gateway and one for each tenant.
//!
//! `server.redb` and `tenants/<18-character id>/metadata.redb` under the data directory; the long
//! form of the id keeps two tenants apart on a file system that folds case. Files are opened on
//! first use, which locks them, and tenants' files are closed when others need their place or when they
//! were not used for a while. All of it blocks, so it runs on the runtime's blocking threads.

mod file;
mod inspect;
mod overlay;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{Change, Entry, MetadataStore, OpenError, Scope, StoreError, Table, WriteError};
use crate::types::{
    TenantId,
    limits::{METADATA_CALLS_MAX, METADATA_TENANTS_OPEN_MAX},
};
use file::MetadataFile;

pub use inspect::{Inspected, inspect};

/// Tables in files under a data directory.
#[derive(Debug)]
pub struct EmbeddedStore {
    files: Arc<Files>,
    /// One permit for each call under way, at most as many as there are places for open files: so a
    /// place can always be cleared for one more.
    calls: Arc<Semaphore>,
}

impl EmbeddedStore {
    /// A store in `data_dir`, whose owner holds its lock. Nothing is opened yet.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self::with_places(data_dir.into(), METADATA_TENANTS_OPEN_MAX)
    }

    fn with_places(data_dir: PathBuf, tenants_open_max: usize) -> Self {
        Self {
            files: Arc::new(Files {
                server: Arc::new(MetadataFile::new(
                    path_of(&data_dir, Scope::Server),
                    Scope::Server,
                )),
                tenants: Mutex::default(),
                tenants_open_max,
                data_dir,
            }),
            calls: Arc::new(Semaphore::new(tenants_open_max.min(METADATA_CALLS_MAX))),
        }
    }

    /// Runs `work` on the scope's file, on a thread that may block.
    async fn run<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        scope: Scope,
        work: impl FnOnce(&MetadataFile) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let permit = Arc::clone(&self.calls).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let files = Arc::clone(&self.files);
        let work = move || {
            // Declared first, so that it is given back after the file is let go.
            let _permit = permit;
            let file = files.file(scope);
            work(&file)
        };
        let done = tokio::task::spawn_blocking(work).await;
        // A panic is a bug of the storage engine, or damage that it did not expect.
        done.map_err(|error| E::from(StoreError::failed(error)))?
    }
}

#[async_trait::async_trait]
impl MetadataStore for EmbeddedStore {
    async fn get(
        &self,
        scope: Scope,
        table: Table,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.run(scope, move |file| file.get(table, &key)).await
    }

    async fn list(&self, scope: Scope, table: Table) -> Result<Vec<Entry>, StoreError> {
        self.run(scope, move |file| file.list(table)).await
    }

    async fn write(&self, scope: Scope, changes: Vec<Change>) -> Result<(), WriteError> {
        self.run(scope, move |file| file.write(&changes)).await
    }

    async fn back_up(&self, dir: &Path) -> Result<u64, StoreError> {
        let home = self.files.data_dir.clone();
        let found = tokio::task::spawn_blocking(move || scopes(&home)).await;
        let scopes = found.map_err(StoreError::failed)?;
        let scopes = scopes.map_err(StoreError::failed)?;
        let mut copied = 0;
        for scope in scopes {
            let to = path_of(dir, scope);
            copied += u64::from(self.run(scope, move |file| file.copy_to(&to)).await?);
        }
        Ok(copied)
    }

    async fn close_quiet(&self, idle: Duration) {
        let files = Arc::clone(&self.files);
        // One after the other, since closing syncs and nobody gets a file meanwhile.
        let close = move || while files.close_one_quiet(idle) {};
        // A panic of the storage engine leaves the file closed.
        _ = tokio::task::spawn_blocking(close).await;
    }
}

/// Puts the files of the backup in `from` into the data directory `to`, which has none and which
/// nobody has open, and returns how many there are. Each is opened once, which reads all of it, so
/// that one that is damaged is found out.
///
/// # Errors
///
/// [`StoreError::Copy`] names the file that could not be copied, or that does not open.
pub fn restore(from: &Path, to: &Path) -> Result<u64, StoreError> {
    let found = scopes(from).map_err(|source| StoreError::Copy {
        path: to.to_owned(),
        source: OpenError::Io {
            action: "list",
            path: from.to_owned(),
            source,
        },
    })?;
    let mut copied = 0;
    for scope in found {
        copied += u64::from(file::copy(
            &path_of(from, scope),
            &path_of(to, scope),
            scope,
        )?);
    }
    Ok(copied)
}

/// Where the tables of a scope are in a data directory or a backup.
fn path_of(dir: &Path, scope: Scope) -> PathBuf {
    match scope {
        Scope::Server => dir.join(SERVER_FILE),
        Scope::Tenant(tenant) => dir.join("tenants").join(tenant.as_str()).join(TENANT_FILE),
    }
}

/// The scopes that may have a file in a data directory or a backup: the tenants', then the server's.
fn scopes(dir: &Path) -> io::Result<Vec<Scope>> {
    let mut scopes = Vec::new();
    match fs::read_dir(dir.join("tenants")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                let name = entry?.file_name();
                let tenant = name.to_str().and_then(|name| name.parse().ok());
                scopes.extend(tenant.map(Scope::Tenant));
            }
        }
    }
    scopes.push(Scope::Server);
    Ok(scopes)
}

/// The files, at most so many of tenants open at once.
#[derive(Debug)]
struct Files {
    data_dir: PathBuf,
    server: Arc<MetadataFile>,
    tenants: Mutex<Tenants>,
    tenants_open_max: usize,
}

#[derive(Debug, Default)]
struct Tenants {
    /// Each with when it was last used.
    files: HashMap<TenantId, (Arc<MetadataFile>, Instant)>,
}

impl Files {
    fn file(&self, scope: Scope) -> Arc<MetadataFile> {
        let Scope::Tenant(tenant) = scope else {
            return Arc::clone(&self.server);
        };
        let mut tenants = self.lock();
        let now = Instant::now();
        if let Some((file, used)) = tenants.files.get_mut(&tenant) {
            *used = now;
            return Arc::clone(file);
        }
        if tenants.files.len() >= self.tenants_open_max {
            tenants.close_oldest(now);
        }
        let path = path_of(&self.data_dir, scope);
        let file = Arc::new(MetadataFile::new(path, scope));
        tenants.files.insert(tenant, (Arc::clone(&file), now));
        file
    }

    /// Closes one file that was not used for `idle`; false if there is none.
    fn close_one_quiet(&self, idle: Duration) -> bool {
        let until = Instant::now().checked_sub(idle);
        until.is_some_and(|until| self.lock().close_oldest(until))
    }

    fn lock(&self) -> MutexGuard<'_, Tenants> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenants {
    /// Closes the file that nobody uses and that was last used longest ago, and not after `until`;
    /// false if there is none.
    fn close_oldest(&mut self, until: Instant) -> bool {
        // A file's only other holders are calls, which get theirs under the lock that is held here.
        // So one that nobody holds is closed before anyone can open it a second time.
        let oldest = self
            .files
            .iter()
            .filter(|(_, (file, used))| Arc::strong_count(file) == 1 && *used <= until)
            .min_by_key(|(_, (_, used))| *used)
            .map(|(tenant, _)| *tenant);
        oldest.is_some_and(|oldest| self.files.remove(&oldest).is_some())
    }
}

/// Name of the gateway's file in the data directory.
pub const SERVER_FILE: &str = "server.redb";
/// Name of a tenant's file in the tenant's directory.
pub const TENANT_FILE: &str = "metadata.redb";

#[cfg(test)]
mod tests;
