//! A file as the storage engine sees it when it must not be changed: what the engine writes is kept
//! in memory.
//!
//! Opening a file makes the engine write to it, also one that it then finds damaged. A damaged file
//! has to stay as it is for whoever wants to save something of it, so files are looked at through
//! this first.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

/// A file, and what it would be if it could be written to.
#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    changed: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    /// The length it would have.
    len: u64,
    /// Bytes of the file that still count: what is behind them was cut off at some time.
    file_len: u64,
    /// Pages that would differ, by number.
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            file,
            changed: Mutex::new(Changed {
                len,
                file_len: len,
                pages: BTreeMap::new(),
            }),
        })
    }

    fn changed(&self) -> MutexGuard<'_, Changed> {
        // Every change is made in one step, so a panic of the engine leaves none half made.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as it is in the file, with zeros behind the file's end.
    fn page_in_file(&self, number: u64, file_len: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE];
        let start = number * PAGE as u64;
        let len = file_len.saturating_sub(start).min(PAGE as u64);
        self.file.read_exact_at(&mut page[..len as usize], start)?;
        Ok(page)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changed().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changed = self.changed();
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > changed.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in parts(offset, out.len()) {
            let out = &mut out[part];
            let range = within..within + out.len();
            match changed.pages.get(&number) {
                Some(page) => out.copy_from_slice(&page[range]),
                None => {
                    let page = self.page_in_file(number, changed.file_len)?;
                    out.copy_from_slice(&page[range]);
                }
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut changed = self.changed();
        changed.pages.split_off(&len.div_ceil(PAGE as u64));
        // What is grown again later is zero.
        if let Some(page) = changed.pages.get_mut(&(len / PAGE as u64)) {
            page[(len % PAGE as u64) as usize..].fill(0);
        }
        changed.file_len = changed.file_len.min(len);
        changed.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    /// Gives up the lock, if whoever opened the file took one. Closing alone would leave it to a child
    /// that another thread forked meanwhile, until that runs its program.
    fn close(&self) -> io::Result<()> {
        self.file.unlock()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changed = self.changed();
        let end = offset.checked_add(data.len() as u64);
        let end = end.ok_or(io::ErrorKind::InvalidInput)?;
        changed.len = changed.len.max(end);
        for (number, within, part) in parts(offset, data.len()) {
            let data = &data[part];
            let file_len = changed.file_len;
            let page = match changed.pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(page) => page.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(self.page_in_file(number, file_len)?)
                }
            };
            page[within..within + data.len()].copy_from_slice(data);
        }
        Ok(())
    }
}

/// The pages that `len` bytes from `offset` on lie in: the number of each, where in it they begin,
/// and which of the bytes those are.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let part = done..len.min(done + PAGE - within);
        done = part.end;
        (!part.is_empty()).then_some((at / PAGE as u64, within, part))
    })
}

/// What is kept of a change at least. The engine's own pages have this size too.
const PAGE: usize = 4_096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = prop::collection::vec(1u8.., 1..9_000);
        prop_oneof![
            3 => (0..20_000u64, bytes).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            1 => (0..24_000u64).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_the_file_with_the_changes_made(
            steps in prop::collection::vec(step(), 0..8),
            len in 0..12_000usize,
        ) {
            let content = vec![0xaa; len];
            let path = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(path.path(), &content).unwrap();
            let overlay = Overlay::new(File::open(path.path()).unwrap()).unwrap();
            let mut model = content.clone();
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        overlay.write(at, &bytes).unwrap();
                        let at = at as usize;
                        model.resize(model.len().max(at + bytes.len()), 0);
                        model[at..at + bytes.len()].copy_from_slice(&bytes);
                    }
                    Step::SetLen(len) => {
                        overlay.set_len(len).unwrap();
                        model.resize(len as usize, 0);
                    }
                }
                let mut read = vec![0; overlay.len().unwrap() as usize];
                overlay.read(0, &mut read).unwrap();
                prop_assert_eq!(&read, &model);
                prop_assert!(overlay.read(1, &mut read).is_err() || read.is_empty());
            }
            prop_assert_eq!(std::fs::read(path.path()).unwrap(), content);
        }
    }
}
