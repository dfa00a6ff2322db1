//! A machine with one disk under the log: the [`Io`] that fails, lies, and shows every operation to
//! whoever watches.

use std::{
    fmt,
    io::{self, IoSlice},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    chance::Chance,
    disk::Disk,
    faults::{Fault, Faults, Kind, Op, Operation},
};
use crate::event_log::embedded::io::{Access, Io, IoFile};

/// A running machine. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub(super) struct Machine(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    disk: Disk,
    faults: Faults,
    lie: Option<Lie>,
    /// A file whose sync was put off by [`Lie::SyncWithNextWrite`].
    put_off: Option<usize>,
    watcher: Option<Watcher>,
    /// Whether operations are those of a watcher, which go well and are not watched.
    is_looking: bool,
    operations: u64,
    chance: Chance,
}

/// What a disk does in secret: under the log as it is, the same as under a log with a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// A sync of such a file does nothing.
    NoSync(Kind),
    /// A sync of such a file does nothing until something is written to the next one.
    SyncWithNextWrite(Kind),
    /// A directory is never synced.
    NoSyncDir,
    /// Cutting a file off takes one sector too many.
    TruncateTooMuch,
    /// Cutting a file off does nothing.
    NoTruncate,
    /// A sync that fails says that it succeeded.
    NoSyncError,
    /// Memory is never dropped.
    NoDropCache,
    /// A name that is given to a file is durable at once, though the file is not.
    RenameFirst,
    /// A file that was removed is back after a crash.
    NoUnlink,
}

/// Is called before each operation that changes the disk.
pub(super) struct Watcher(pub(super) Box<Watch>);

type Watch = dyn FnMut(&Machine, &Operation) + Send;

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

impl Machine {
    pub(super) fn new(disk: Disk, seed: u64, lie: Option<Lie>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            disk,
            faults: Faults::default(),
            lie,
            put_off: None,
            watcher: None,
            is_looking: false,
            operations: 0,
            chance: Chance::new(seed),
        })))
    }

    /// The disk as it is now.
    pub(super) fn disk(&self) -> Disk {
        self.lock().disk.clone()
    }

    /// Changes what goes wrong.
    pub(super) fn faults<R>(&self, change: impl FnOnce(&mut Faults) -> R) -> R {
        change(&mut self.lock().faults)
    }

    pub(super) fn watch(&self, watcher: Option<Watcher>) {
        self.lock().watcher = watcher;
    }

    /// Operations so far.
    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Does something that no fault hits and no watcher sees.
    pub(super) fn look<R>(&self, look: impl FnOnce() -> R) -> R {
        let was_looking = std::mem::replace(&mut self.lock().is_looking, true);
        let found = look();
        self.lock().is_looking = was_looking;
        found
    }

    /// Does one operation: shows it to the watcher, lets it go wrong if it is to, else `act`s.
    fn operate<R>(
        &self,
        op: Op,
        path: &str,
        act: impl FnOnce(&mut Inner, Option<Fault>) -> io::Result<R>,
    ) -> io::Result<R> {
        let operation = Operation::new(op, path);
        let mut inner = self.lock();
        if inner.is_looking {
            return act(&mut inner, None);
        }
        inner.operations += 1;
        if operation.is_change()
            && let Some(mut watcher) = inner.watcher.take()
        {
            drop(inner);
            watcher.0(self, &operation);
            inner = self.lock();
            inner.watcher = Some(watcher);
        }
        let fault = inner.faults.strike(&operation);
        act(&mut inner, fault)
    }

    /// The same for an operation that does nothing when it goes wrong.
    fn operate_or_fail<R>(
        &self,
        op: Op,
        path: &str,
        act: impl FnOnce(&mut Inner) -> io::Result<R>,
    ) -> io::Result<R> {
        self.operate(op, path, |inner, fault| match fault {
            Some(fault) => Err(fault.error()),
            None => act(inner),
        })
    }

    fn file(&self, path: &str, number: usize) -> Arc<dyn IoFile> {
        Arc::new(MachineFile {
            machine: self.clone(),
            path: path.into(),
            number,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Io for Machine {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = text(path);
        self.operate_or_fail(Op::CreateDir, path, |inner| inner.disk.create_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let dir = text(dir);
        self.operate_or_fail(Op::List, dir, |inner| Ok(inner.disk.list(dir)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn IoFile>> {
        let path = text(path);
        let number = self.operate_or_fail(Op::Create, path, |inner| inner.disk.create(path))?;
        Ok(self.file(path, number))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn IoFile>> {
        let path = text(path);
        let number = self.operate_or_fail(Op::Open, path, |inner| inner.disk.find(path))?;
        Ok(self.file(path, number))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        let path = text(path);
        self.operate_or_fail(Op::Size, path, |inner| {
            let file = inner.disk.find(path)?;
            Ok(inner.disk.file(file).cached().len() as u64)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (text(from), text(to));
        self.operate_or_fail(Op::Rename, to, |inner| {
            inner.disk.rename(from, to)?;
            if inner.lie == Some(Lie::RenameFirst) {
                inner.disk.sync_dir(super::disk::parent(to));
            }
            Ok(())
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (text(from), text(to));
        self.operate_or_fail(Op::Link, to, |inner| inner.disk.hard_link(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let path = text(path);
        self.operate_or_fail(Op::Unlink, path, |inner| inner.disk.unlink(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = text(dir).trim_end_matches('/');
        self.operate(Op::SyncDir, dir, |inner, fault| {
            if let Some(fault) = fault {
                inner.disk.fail_sync_dir(dir, &mut inner.chance);
                return Err(fault.error());
            }
            match inner.lie {
                Some(Lie::NoSyncDir) => {}
                Some(Lie::NoUnlink) => inner.disk.sync_dir_but_removals(dir),
                _ => inner.disk.sync_dir(dir),
            }
            Ok(())
        })
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.lock().chance.next())
    }
}

#[derive(Debug)]
struct MachineFile {
    machine: Machine,
    path: String,
    number: usize,
}

impl IoFile for MachineFile {
    fn size(&self) -> io::Result<u64> {
        self.machine.operate_or_fail(Op::Size, &self.path, |inner| {
            Ok(inner.disk.file(self.number).cached().len() as u64)
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.machine.operate(Op::Read, &self.path, |inner, fault| {
            let found = inner.disk.file(self.number).cached().get(offset as usize..);
            let found = found.unwrap_or_default();
            let len = match fault {
                // Never nothing: that would be the end of the file.
                Some(Fault::Short) => found.len().min(bytes.len()).div_ceil(3),
                Some(fault) => return Err(fault.error()),
                None => found.len().min(bytes.len()),
            };
            bytes[..len].copy_from_slice(&found[..len]);
            Ok(len)
        })
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        let bytes = slices.concat();
        self.machine.operate(Op::Write, &self.path, |inner, fault| {
            if let Some(file) = inner.put_off.take() {
                inner.disk.file_mut(file).sync();
            }
            // Cuts of every kind: between sectors, and in the middle of one.
            let part = 1 + inner.chance.below(bytes.len());
            let file = inner.disk.file_mut(self.number);
            match fault {
                None => {
                    file.write(offset as usize, &bytes);
                    Ok(bytes.len())
                }
                Some(Fault::Short) => {
                    file.write(offset as usize, &bytes[..part]);
                    Ok(part)
                }
                Some(fault) => {
                    if matches!(fault, Fault::Part | Fault::PartFull) {
                        file.write(offset as usize, &bytes[..part]);
                    }
                    Err(fault.error())
                }
            }
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.machine
            .operate(Op::Allocate, &self.path, |inner, fault| {
                let file = inner.disk.file_mut(self.number);
                let old_len = file.cached().len();
                let wanted = old_len.max(len as usize);
                match fault {
                    None => {
                        file.resize(wanted);
                        Ok(())
                    }
                    Some(fault) => {
                        if matches!(fault, Fault::Part | Fault::PartFull) {
                            file.resize(old_len.midpoint(wanted));
                        }
                        Err(fault.error())
                    }
                }
            })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.machine
            .operate_or_fail(Op::Truncate, &self.path, |inner| {
                let len = len as usize;
                let lie = inner.lie;
                let file = inner.disk.file_mut(self.number);
                match lie {
                    Some(Lie::NoTruncate) => {}
                    Some(Lie::TruncateTooMuch) => {
                        file.resize(len.saturating_sub(512));
                        file.resize(len);
                    }
                    _ => file.resize(len),
                }
                Ok(())
            })
    }

    fn sync(&self) -> io::Result<()> {
        let kind = Operation::new(Op::Sync, &self.path).kind;
        self.machine.operate(Op::Sync, &self.path, |inner, fault| {
            let Inner { disk, chance, .. } = inner;
            let file = disk.file_mut(self.number);
            if let Some(fault) = fault {
                file.fail_sync(chance);
                return match inner.lie {
                    Some(Lie::NoSyncError) => Ok(()),
                    _ => Err(fault.error()),
                };
            }
            match inner.lie {
                Some(Lie::NoSync(unsynced)) if unsynced == kind => {}
                Some(Lie::SyncWithNextWrite(late)) if late == kind => {
                    inner.put_off = Some(self.number);
                }
                Some(Lie::RenameFirst) if kind == Kind::State => {
                    inner.put_off = Some(self.number);
                }
                _ => file.sync(),
            }
            Ok(())
        })
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.machine
            .operate_or_fail(Op::DropCache, &self.path, |inner| {
                if inner.lie != Some(Lie::NoDropCache) {
                    inner.disk.file_mut(self.number).drop_cache();
                }
                Ok(())
            })
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// The paths of the log are text.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
