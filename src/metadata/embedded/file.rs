//! One redb file: made whole, opened with a check, closed after a failure.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableError, WriteTransaction, backends::FileBackend,
};

use super::overlay::Overlay;
use crate::{
    metadata::{Change, Entry, OpenError, Scope, StoreError, Table, WriteError},
    net::whole_file::is_disk_full,
    types::limits::METADATA_CACHE_BYTES,
};

/// The metadata file at a path, open or not.
#[derive(Debug)]
pub(super) struct MetadataFile {
    path: PathBuf,
    /// Whose tables it holds. Stands in the file too, so that no other one passes for it.
    scope: Scope,
    /// Taken shared by every call, also by writes, which the engine puts in order; exclusively only
    /// to open and to close.
    database: RwLock<Option<Database>>,
}

/// What is known about the file itself.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
/// Key in [`ABOUT`]: the version of the tables' layout.
const FORMAT: &str = "format";
const FORMAT_KNOWN: u64 = 1;
/// Whom the file belongs to, under the key [`SCOPE`]. Files of the first versions do not say, and get
/// it with their next write.
const OWNER: TableDefinition<&str, &str> = TableDefinition::new("owner");
const SCOPE: &str = "scope";

fn rows(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

impl MetadataFile {
    pub(super) fn new(path: PathBuf, scope: Scope) -> Self {
        Self {
            path,
            scope,
            database: RwLock::new(None),
        }
    }

    /// Opens the file if it is not open yet, and makes it if there is none.
    fn open(&self) -> Result<(), StoreError> {
        // The exclusive lock would wait for a sync under way, and hold every reader up meanwhile.
        if self.is_open() {
            return Ok(());
        }
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            let opened = exists(&self.path)
                .and_then(|exists| match exists {
                    true => Ok(()),
                    false => create(&self.path, self.scope),
                })
                .and_then(|()| open(&self.path, self.scope));
            *database = Some(opened.map_err(|source| self.unopened(source))?);
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        database.is_some()
    }

    fn close(&self) {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *database = None;
    }

    pub(super) fn get(&self, table: Table, key: &str) -> Result<Option<Entry>, StoreError> {
        self.read(|database| {
            let transaction = database.begin_read().map_err(failed)?;
            let rows = match transaction.open_table(rows(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                rows => rows.map_err(failed)?,
            };
            let row = rows.get(key).map_err(failed)?;
            row.map(|row| entry(key, row.value())).transpose()
        })
    }

    pub(super) fn list(&self, table: Table) -> Result<Vec<Entry>, StoreError> {
        self.read(|database| list(database, table))
    }

    pub(super) fn write(&self, changes: &[Change]) -> Result<(), WriteError> {
        self.open()?;
        let conflict = self.with_open(|database| {
            // Dropped before its commit, a transaction leaves nothing behind.
            let transaction = database.begin_write().map_err(failed)?;
            for change in changes {
                if !put(&transaction, change)? {
                    return Ok(Some(change));
                }
            }
            own(&transaction, self.scope).map_err(failed)?;
            transaction.commit().map_err(failed)?;
            Ok(None)
        })?;
        match conflict {
            None => {
                // The changes are durable. If this fails the file is closed, and opened by the next
                // call as after any failure.
                _ = self.with_open(|database| repeat(database).map_err(failed));
                Ok(())
            }
            Some(change) => Err(WriteError::Conflict {
                table: change.table,
                key: change.key.clone(),
            }),
        }
    }

    /// Copies all of it, as it is at one moment, into a new file; false if there is nothing to copy.
    pub(super) fn copy_to(&self, to: &Path) -> Result<bool, StoreError> {
        // A failure of the copy is not one of this file, which would be closed for it.
        let copied: Option<Result<(), OpenError>> = self.read(|database| {
            let rows = database.begin_read().map_err(failed)?;
            Ok(Some(create_with(to, self.scope, |into| {
                copy_rows(&rows, into)
            })))
        })?;
        let Some(copied) = copied else {
            return Ok(false);
        };
        copied
            .map(|()| true)
            .map_err(|source| copy_error(to, source))
    }

    /// Runs a call that stores nothing. A file that does not exist reads as an empty one and is not
    /// made.
    fn read<T: Default>(
        &self,
        call: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if !self.is_open() {
            let exists = exists(&self.path).map_err(|source| self.unopened(source))?;
            if !exists {
                return Ok(T::default());
            }
            self.open()?;
        }
        self.with_open(call)
    }

    fn unopened(&self, source: OpenError) -> StoreError {
        match source {
            OpenError::Io { source, .. } if is_disk_full(&source) => StoreError::DiskFull(source),
            source => StoreError::Open {
                path: self.path.clone(),
                source,
            },
        }
    }

    /// Runs `call` on the open file. After a failure of the engine the file is closed: the engine
    /// refuses everything until it is opened again, which also finds out what was stored.
    fn with_open<T>(
        &self,
        call: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let outcome = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            match &*database {
                Some(database) => call(database),
                // Another call failed and closed it since this one opened it.
                None => Err(StoreError::failed("the file was closed after a failure")),
            }
        };
        if outcome.is_err() {
            self.close();
        }
        outcome
    }
}

/// Every value of a table, sorted by key.
pub(super) fn list(database: &Database, table: Table) -> Result<Vec<Entry>, StoreError> {
    let transaction = database.begin_read().map_err(failed)?;
    let rows = match transaction.open_table(rows(table)) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        rows => rows.map_err(failed)?,
    };
    let rows = rows.iter().map_err(failed)?;
    rows.map(|row| {
        let (key, value) = row.map_err(failed)?;
        entry(key.value(), value.value())
    })
    .collect()
}

/// Puts one change into the transaction; `false` if the key is not as expected.
fn put(transaction: &WriteTransaction, change: &Change) -> Result<bool, StoreError> {
    let mut rows = transaction.open_table(rows(change.table)).map_err(failed)?;
    let key = change.key.as_str();
    let found = rows.get(key).map_err(failed)?;
    let found = found.map(|row| entry(key, row.value())).transpose()?;
    let found = found.map(|entry| entry.revision);
    if !change.expected.is_met_by(found) {
        return Ok(false);
    }
    let Some(value) = &change.value else {
        rows.remove(key).map_err(failed)?;
        return Ok(true);
    };
    let revision = found.unwrap_or(0) + 1;
    let stored = [&revision.to_be_bytes()[..], value].concat();
    rows.insert(key, stored.as_slice()).map_err(failed)?;
    Ok(true)
}

fn entry(key: &str, stored: &[u8]) -> Result<Entry, StoreError> {
    let Some((revision, value)) = stored.split_first_chunk() else {
        return Err(StoreError::failed(format!(
            "the value of {key:?} is shorter than its revision"
        )));
    };
    Ok(Entry {
        key: key.to_owned(),
        value: value.to_owned(),
        revision: u64::from_be_bytes(*revision),
    })
}

/// A failure of the engine.
fn failed(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) if is_disk_full(&error) => StoreError::DiskFull(error),
        error => StoreError::failed(error),
    }
}

/// Copies a file that nobody has open, and opens the copy to see that it can be; false if there is
/// nothing to copy.
pub(super) fn copy(from: &Path, to: &Path, scope: Scope) -> Result<bool, StoreError> {
    let copy = || -> Result<bool, OpenError> {
        if !exists(from)? {
            return Ok(false);
        }
        let dir = to.parent().unwrap_or(Path::new("."));
        create_dir_durably(dir)?;
        let mut source = File::open(from).map_err(|error| io_error("open", from, error))?;
        let mut file = create_new(to)?;
        io::copy(&mut source, &mut file)
            .and_then(|_| file.sync_all())
            .map_err(|error| io_error("write", to, error))?;
        drop(file);
        sync_dir(dir)?;
        open(to, scope).map(|_| true)
    };
    copy().map_err(|source| copy_error(to, source))
}

fn copy_error(to: &Path, source: OpenError) -> StoreError {
    match source {
        OpenError::Io { source, .. } if is_disk_full(&source) => StoreError::DiskFull(source),
        source => StoreError::Copy {
            path: to.to_owned(),
            source,
        },
    }
}

fn copy_rows(from: &ReadTransaction, into: &WriteTransaction) -> Result<(), redb::Error> {
    for table in Table::ALL {
        let found = match from.open_table(rows(table)) {
            Err(TableError::TableDoesNotExist(_)) => continue,
            found => found?,
        };
        let mut into = into.open_table(rows(table))?;
        for row in found.iter()? {
            let (key, value) = row?;
            into.insert(key.value(), value.value())?;
        }
    }
    Ok(())
}

/// Makes an empty file.
fn create(path: &Path, scope: Scope) -> Result<(), OpenError> {
    create_with(path, scope, |_| Ok(()))
}

fn create_new(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true);
    let file = options.mode(0o600).open(path);
    file.map_err(|source| io_error("create", path, source))
}

/// Makes a file with what `fill` writes, under another name first, so that a crash leaves a whole
/// file or none.
fn create_with(
    path: &Path,
    scope: Scope,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), OpenError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    create_dir_durably(dir)?;
    let new = path.with_extension("redb.new");
    match fs::remove_file(&new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &new, source));
        }
        _ => {}
    }
    let file = create_new(&new)?;
    let write = || -> Result<(), redb::Error> {
        let database = builder().create_with_backend(FileBackend::new(file)?)?;
        let transaction = database.begin_write()?;
        transaction
            .open_table(ABOUT)?
            .insert(FORMAT, FORMAT_KNOWN)?;
        own(&transaction, scope)?;
        fill(&transaction)?;
        transaction.commit()?;
        repeat(&database)?;
        database.close()?;
        Ok(())
    };
    write().map_err(|error| open_error(&new, "write", error))?;
    fs::rename(&new, path).map_err(|source| io_error("create", path, source))?;
    sync_dir(dir)
}

/// Opens the file at `path`, which has to be that of `scope`.
fn open(path: &Path, scope: Scope) -> Result<Database, OpenError> {
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse),
        locked => locked.map_err(|error| io_error("lock", path, error.into()))?,
    }
    // The engine writes to what it opens, and a file that is damaged or somebody else's has to stay
    // as it is. It is small, so it may be read twice.
    check(path, scope, file)?;
    builder()
        .open(path)
        .map_err(|error| open_error(path, "open", error.into()))
}

/// Opens what is in `file` without changing it: every page was as it was written, and it is the file
/// of `scope`.
pub(super) fn check(path: &Path, scope: Scope, file: File) -> Result<Database, OpenError> {
    let overlay = Overlay::new(file).map_err(|source| io_error("read", path, source))?;
    // The engine would take it for a file to be made.
    if overlay.len().is_ok_and(|len| len == 0) {
        return Err(OpenError::Damaged("it is empty".to_owned()));
    }
    let database = builder()
        .create_with_backend(overlay)
        .map_err(|error| open_error(path, "open", error.into()))?;
    check_format(path, &database)?;
    let wanted = owner(scope);
    match owner_in(&database).map_err(|error| open_error(path, "read", error))? {
        Some(found) if found != wanted => Err(OpenError::Misplaced { found, wanted }),
        _ => Ok(database),
    }
}

fn check_format(path: &Path, database: &Database) -> Result<(), OpenError> {
    let format = || -> Result<Option<u64>, redb::Error> {
        let about = database.begin_read()?.open_table(ABOUT)?;
        Ok(about.get(FORMAT)?.map(|format| format.value()))
    };
    match format() {
        Ok(Some(FORMAT_KNOWN)) => Ok(()),
        Ok(Some(found)) if found > FORMAT_KNOWN => Err(OpenError::NewerFormat {
            found,
            known: FORMAT_KNOWN,
        }),
        Ok(Some(found)) => Err(OpenError::Damaged(format!("its format version is {found}"))),
        Ok(None) => Err(OpenError::Damaged("it has no format version".to_owned())),
        Err(error) => Err(open_error(path, "read", error)),
    }
}

/// Whom the file says that it belongs to.
fn owner_in(database: &Database) -> Result<Option<String>, redb::Error> {
    match database.begin_read()?.open_table(OWNER) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(table?.get(SCOPE)?.map(|owner| owner.value().to_owned())),
    }
}

/// Writes down whom the file belongs to, if it does not say so yet.
fn own(transaction: &WriteTransaction, scope: Scope) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(OWNER)?;
    if table.get(SCOPE)?.is_none() {
        table.insert(SCOPE, owner(scope).as_str())?;
    }
    Ok(())
}

fn owner(scope: Scope) -> String {
    match scope {
        Scope::Server => "the gateway".to_owned(),
        Scope::Tenant(id) => format!("tenant {id}"),
    }
}

/// Commits the same content once more. The engine keeps the roots of its last two commits and takes
/// the earlier one when the later one is damaged: what was stored last would be gone in silence.
fn repeat(database: &Database) -> Result<(), redb::Error> {
    Ok(database.begin_write()?.commit()?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(METADATA_CACHE_BYTES);
    // Without it a page that the disk or somebody else changed is trusted, and the engine may
    // panic over it. The whole file is read for that, which is small.
    builder.set_check_integrity_on_open(true);
    builder
}

fn open_error(path: &Path, action: &'static str, error: redb::Error) -> OpenError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => OpenError::InUse,
        redb::Error::Io(source) if !is_about_content(&source) => io_error(action, path, source),
        other => OpenError::Damaged(other.to_string()),
    }
}

/// Whether an error of the file system is the engine's word for content it does not accept.
fn is_about_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Makes a directory and those above it, and syncs the entry of each that was made.
fn create_dir_durably(dir: &Path) -> Result<(), OpenError> {
    if dir.as_os_str().is_empty() || exists(dir)? {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dir_durably(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("create the directory", dir, source))
        }
        _ => sync_dir(parent),
    }
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(|source| io_error("sync the directory", dir, source))
}

fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists()
        .map_err(|source| io_error("look for", path, source))
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
