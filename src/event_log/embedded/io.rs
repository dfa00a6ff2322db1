//! The seam between the log and the operating system.
//!
//! Everything the log does with files goes through [`Io`], so that a test can put a disk under it
//! that fails, lies and crashes. The traits are objects, not type parameters: a call is made per
//! group or per read, never per event, and nothing above this file needs to name the disk.
//!
//! Promises the callers build on: a write may be short; what was written is on the disk only after
//! [`IoFile::sync`] returned; a new, renamed or removed name is only after [`Io::sync_dir`]; a
//! 512-byte sector is written whole or not at all.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, IoSlice},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Mutex},
};

use rustix::{
    buffer::spare_capacity,
    fs::{Advice, FallocateFlags, FlockOperation},
    io::{Errno, retry_on_intr},
};

pub(super) use crate::net::whole_file::is_disk_full as is_full;

/// A file system.
pub trait Io: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory that only its owner may use; does nothing if there is one.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory that are text, in no order; others are none of ours.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a file that only its owner may use, for reading and writing; fails if there is one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn IoFile>>;
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn IoFile>>;
    /// Size of a file, in bytes.
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// Gives a file another name, in place of the one that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails if there is such a name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// A number that nobody can guess: salts and ids of logs come from here.
    fn random(&self) -> io::Result<u64>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// An open file. Offsets and lengths are in bytes.
pub trait IoFile: fmt::Debug + Send + Sync + 'static {
    /// Its length.
    fn size(&self) -> io::Result<u64>;
    /// Reads some bytes at `offset`; none at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads some bytes at `offset` behind those in `bytes`, into room that it has already; none at
    /// the end, or without room.
    ///
    /// A file that reads straight into this room spares the zeros that [`Self::read_at`] needs there
    /// first: a seventh of the processor time of a subscriber that catches up.
    fn read_behind(&self, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        let before = bytes.len();
        let room = bytes.capacity() - before;
        bytes.resize(before + room.min(ZEROED_BYTES_MAX), 0);
        let read = self.read_at(&mut bytes[before..], offset);
        bytes.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }
    /// Writes some of `bytes` at `offset`.
    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Makes the file `len` bytes long with the space for them, reading as zero.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file off, or extends it without space.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes data and size durable.
    fn sync(&self) -> io::Result<()>;
    /// Forgets what the operating system keeps of the file in memory, so that the next read comes
    /// from the disk. A hint; it may do nothing.
    fn drop_cache(&self) -> io::Result<()>;
    /// Takes the file for this process until it is dropped; false if another has it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// A file of which no sync succeeds after one has failed.
///
/// The operating system tells only once that it could not write something. Whoever syncs next, on
/// another thread perhaps, would take for safe what is lost.
#[derive(Debug)]
pub(super) struct FailsForGood {
    file: Arc<dyn IoFile>,
    /// Held during a sync: the next one has to know.
    has_failed: Mutex<bool>,
}

impl FailsForGood {
    pub(super) fn new(file: Arc<dyn IoFile>) -> Self {
        Self {
            file,
            has_failed: Mutex::new(false),
        }
    }
}

impl IoFile for FailsForGood {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn read_behind(&self, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        self.file.read_behind(bytes, offset)
    }

    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut has_failed = self.has_failed.lock().expect("no holder panics");
        if *has_failed {
            return Err(io::Error::other("an earlier sync of the file failed"));
        }
        let synced = self.file.sync();
        *has_failed = synced.is_err();
        synced
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

/// Writes all of `slices` at `offset`.
pub(super) fn write_all_at(
    file: &dyn IoFile,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    // Empty slices at the front would make a write of nothing look like a full disk.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let written = file.write_at(&slices[..slices.len().min(IOV_MAX)], offset)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

/// Reads `len` bytes at `offset`, or as many as there are before the end.
pub(super) fn read_up_to(file: &dyn IoFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let behind = offset + bytes.len() as u64;
        if file.read_behind(&mut bytes, behind)? == 0 {
            break;
        }
    }
    // An allocation may be larger than it was asked to be.
    bytes.truncate(len);
    Ok(bytes)
}

/// Gives a file that does not change any more a second name, or where the file system cannot do so
/// a copy, which is durable when this returns; its name is not.
pub(super) fn link_or_copy(io: &dyn Io, from: &Path, to: &Path) -> io::Result<()> {
    use io::ErrorKind::{AlreadyExists, NotFound, StorageFull};
    match io.hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), AlreadyExists | NotFound | StorageFull) => Err(error),
        // Not every file system has second names, and none has them across file systems.
        Err(_) => copy_file(io, from, to),
    }
}

/// Copies a file; the copy is durable when this returns, its name is not.
pub(super) fn copy_file(io: &dyn Io, from: &Path, to: &Path) -> io::Result<()> {
    let from = io.open(from, Access::Read)?;
    let to = io.create(to)?;
    let mut offset = 0;
    loop {
        let bytes = read_up_to(&*from, offset, COPY_BYTES)?;
        if bytes.is_empty() {
            return to.sync();
        }
        write_all_at(&*to, &mut [IoSlice::new(&bytes)], offset)?;
        offset += bytes.len() as u64;
    }
}

/// The operating system's own file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealIo;

impl Io for RealIo {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(dir)?;
        let names = entries.filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().into_string().ok().map(Ok),
            Err(error) => Some(Err(error)),
        });
        names.collect()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn IoFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true);
        Ok(Arc::new(RealFile(options.mode(FILE_MODE).open(path)?)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn IoFile>> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(access == Access::Write);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(path.metadata()?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn random(&self) -> io::Result<u64> {
        getrandom::u64().map_err(io::Error::other)
    }
}

#[derive(Debug)]
struct RealFile(File);

impl IoFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(bytes, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn read_behind(&self, bytes: &mut Vec<u8>, offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| {
            rustix::io::pread(&self.0, spare_capacity(bytes), offset)
        })?)
    }

    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| {
            rustix::io::pwritev(&self.0, bytes, offset)
        })?)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let allocated =
            retry_on_intr(|| rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len));
        match allocated {
            // A file system that cannot reserve space finds out when it is written.
            Err(Errno::OPNOTSUPP) => self.truncate(len),
            result => Ok(result?),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// Bytes that are zeroed at once for a file that cannot read into raw memory: how much it will read
/// is not known, and memory may have far more room.
const ZEROED_BYTES_MAX: usize = 64 * 1024;
/// Slices that one call of the operating system takes.
const IOV_MAX: usize = 1024;
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn more_slices_than_one_call_takes_are_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealIo.create(&dir.path().join("a")).unwrap();
        let words: Vec<_> = (0..3_000_u32).map(u32::to_le_bytes).collect();
        let mut slices: Vec<_> = words.iter().map(|word| IoSlice::new(word)).collect();
        slices.insert(0, IoSlice::new(&[]));
        write_all_at(&*file, &mut slices, 7).unwrap();
        assert_eq!(read_up_to(&*file, 7, 20_000).unwrap(), words.concat());
    }

    #[test]
    fn what_is_made_belongs_to_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let inner = dir.path().join("d");
        RealIo.create_dir(&inner).unwrap();
        RealIo.create_dir(&inner).unwrap();
        RealIo.create(&inner.join("f")).unwrap();
        assert_eq!(mode(&inner), 0o700);
        assert_eq!(mode(&inner.join("f")), 0o600);
        assert_eq!(RealIo.list(&inner).unwrap(), ["f"]);
        assert!(RealIo.create(&inner.join("f")).is_err());
    }

    #[test]
    fn a_lock_excludes_a_second_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let first = RealIo.create(&path).unwrap();
        assert!(first.try_lock().unwrap());
        let second = RealIo.open(&path, Access::Write).unwrap();
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }
}
