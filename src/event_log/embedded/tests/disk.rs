//! A disk for tests: the real one, which can be full or fail on demand, with a gate before syncs and
//! random numbers that are the same in every run. It does not wait for the hardware: no test pulls the plug.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::event_log::embedded::io::{Access, Io, IoFile, RealIo};

/// What can be told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Create,
    Allocate,
    Write,
    Sync,
    Truncate,
    SyncDir,
    Rename,
    Unlink,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TestDisk(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    faults: Mutex<Vec<(Op, io::ErrorKind)>>,
    /// Bytes that a failing write leaves behind.
    short_write: AtomicU64,
    /// Bytes that are left; without a bound when `None`.
    space: Mutex<Option<u64>>,
    gate: Mutex<bool>,
    opened: Condvar,
    random: AtomicU64,
}

impl TestDisk {
    /// Makes every `op` fail with `kind` until [`Self::heal`].
    pub(super) fn fail(&self, op: Op, kind: io::ErrorKind) {
        self.0.faults.lock().unwrap().push((op, kind));
    }

    /// Makes failing writes leave this many bytes behind.
    pub(super) fn fail_after(&self, bytes: u64) {
        self.0.short_write.store(bytes, Ordering::SeqCst);
    }

    /// Leaves no space, until [`Self::heal`], but what files have within their length and what is
    /// given back.
    pub(super) fn fill(&self) {
        self.fill_but(0);
    }

    /// The same with this many bytes left.
    pub(super) fn fill_but(&self, bytes: u64) {
        *self.0.space.lock().unwrap() = Some(bytes);
    }

    pub(super) fn heal(&self) {
        self.0.faults.lock().unwrap().clear();
        *self.0.space.lock().unwrap() = None;
    }

    /// Holds syncs back until [`Self::let_syncs_go`].
    pub(super) fn hold_syncs(&self) {
        *self.0.gate.lock().unwrap() = true;
    }

    pub(super) fn let_syncs_go(&self) {
        *self.0.gate.lock().unwrap() = false;
        self.0.opened.notify_all();
    }

    /// Accounts for a file that had `from` bytes and is to have `to`.
    fn resize(&self, from: u64, to: u64) -> io::Result<()> {
        if let Some(space) = self.0.space.lock().unwrap().as_mut() {
            let left = (*space + from).checked_sub(to);
            *space = left.ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }

    fn check(&self, op: Op) -> io::Result<()> {
        let faults = self.0.faults.lock().unwrap();
        match faults.iter().find(|fault| fault.0 == op) {
            Some(fault) => Err(fault.1.into()),
            None => Ok(()),
        }
    }

    fn wrap(&self, file: io::Result<Arc<dyn IoFile>>) -> io::Result<Arc<dyn IoFile>> {
        let (disk, file) = (self.clone(), file?);
        Ok(Arc::new(TestFile { disk, file }))
    }
}

impl Io for TestDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.check(Op::Create)?;
        RealIo.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealIo.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn IoFile>> {
        self.check(Op::Create)?;
        self.wrap(RealIo.create(path))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn IoFile>> {
        self.wrap(RealIo.open(path, access))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        RealIo.file_len(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Op::Rename)?;
        self.resize(RealIo.file_len(to).unwrap_or(0), 0)?;
        RealIo.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(Op::Create)?;
        RealIo.hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.check(Op::Unlink)?;
        self.resize(RealIo.file_len(path).unwrap_or(0), 0)?;
        RealIo.unlink(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.check(Op::SyncDir)
    }

    fn random(&self) -> io::Result<u64> {
        Ok(0x7465_7374 + self.0.random.fetch_add(1, Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct TestFile {
    disk: TestDisk,
    file: Arc<dyn IoFile>,
}

impl IoFile for TestFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if let Err(error) = self.disk.check(Op::Write) {
            let all = bytes.iter().flat_map(|slice| slice.iter().copied());
            let short = self.disk.0.short_write.load(Ordering::SeqCst) as usize;
            let some: Vec<u8> = all.take(short).collect();
            self.file.write_at(&[IoSlice::new(&some)], offset)?;
            return Err(error);
        }
        let len: usize = bytes.iter().map(|slice| slice.len()).sum();
        let size = self.file.size()?;
        self.disk.resize(size, size.max(offset + len as u64))?;
        self.file.write_at(bytes, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.check(Op::Allocate)?;
        let size = self.file.size()?;
        self.disk.resize(size, size.max(len))?;
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.check(Op::Truncate)?;
        // To a greater length without space for it, in other words for nothing.
        self.disk.resize(self.file.size()?.saturating_sub(len), 0)?;
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut is_held = self.disk.0.gate.lock().unwrap();
        while *is_held {
            is_held = self.disk.0.opened.wait(is_held).unwrap();
        }
        self.disk.check(Op::Sync)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
