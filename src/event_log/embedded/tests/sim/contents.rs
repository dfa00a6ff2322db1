//! The contents of one file, as reads show them and as the disk has them.
//!
//! A write changes what reads show at once. What the disk gets of it before the next sync is up to
//! the disk: of each 512-byte sector what was there before, or anything written to it since, and any
//! of the lengths the file had since.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::chance::Chance;

/// One file. Cheap to clone: the bytes are shared until they are written to.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// What reads show.
    cached: Arc<Vec<u8>>,
    /// What was synced.
    durable: Arc<Vec<u8>>,
    /// What was written to each sector since the last sync, oldest first; never empty.
    dirty: BTreeMap<usize, Vec<Arc<Sector>>>,
    /// The lengths since the last sync, oldest first.
    lengths: Vec<usize>,
    /// Sectors whose last write a failed sync lost: reads still show it, no sync will write it.
    forgotten: BTreeSet<usize>,
}

type Sector = [u8; SECTOR];
const SECTOR: usize = 512;

impl Contents {
    pub(super) fn cached(&self) -> &[u8] {
        &self.cached
    }

    /// The sectors that were written since the last sync, each with how many versions it may have
    /// after a crash, the durable one among them.
    pub(super) fn dirty(&self) -> impl Iterator<Item = (usize, usize)> {
        let sectors = self.dirty.iter();
        sectors.map(|(sector, versions)| (*sector, 1 + versions.len()))
    }

    /// How many lengths the file may have after a crash.
    pub(super) fn length_count(&self) -> usize {
        1 + self.lengths.len()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        let before = self.sectors(sectors.clone());
        let cached = Arc::make_mut(&mut self.cached);
        if end > cached.len() {
            cached.resize(end, 0);
            self.lengths.push(end);
        }
        cached[offset..end].copy_from_slice(bytes);
        self.note_written(sectors, &before);
    }

    /// Extends the file with zeros, or cuts it off.
    pub(super) fn resize(&mut self, len: usize) {
        let old_len = self.cached.len();
        if len == old_len {
            return;
        }
        let sectors = len / SECTOR..old_len.div_ceil(SECTOR);
        let before = self.sectors(sectors.clone());
        Arc::make_mut(&mut self.cached).resize(len, 0);
        self.lengths.push(len);
        // Whatever the file had behind its new end reads as zero if it grows again.
        self.note_written(sectors, &before);
    }

    pub(super) fn sync(&mut self) {
        if self.forgotten.is_empty() {
            self.durable = Arc::clone(&self.cached);
        } else {
            let mut bytes = self.cached.to_vec();
            for &sector in &self.forgotten {
                put(&mut bytes, sector, &at(&self.durable, sector));
            }
            self.durable = Arc::new(bytes);
        }
        self.dirty.clear();
        self.lengths.clear();
    }

    /// A sync that fails: some of what is dirty reaches the disk, the rest is forgotten.
    pub(super) fn fail_sync(&mut self, chance: &mut Chance) {
        let durable = Arc::make_mut(&mut self.durable);
        if chance.coin() {
            durable.resize(self.cached.len(), 0);
            self.lengths.clear();
        }
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let is_inside = sector * SECTOR < durable.len();
            match versions.last() {
                Some(newest) if is_inside && chance.coin() => put(durable, sector, newest),
                _ => _ = self.forgotten.insert(sector),
            }
        }
    }

    /// Forgets what is kept in memory of sectors that need not be written.
    pub(super) fn drop_cache(&mut self) {
        for sector in std::mem::take(&mut self.forgotten) {
            let durable = at(&self.durable, sector);
            let cached: &mut Vec<u8> = Arc::make_mut(&mut self.cached);
            put(cached, sector, &durable);
        }
    }

    /// What the file is after a crash that chose this version of each dirty sector, in their order,
    /// and this length; zero stands for what was durable.
    pub(super) fn survive(&self, versions: &[usize], length: usize) -> Self {
        let mut bytes = Arc::clone(&self.durable);
        let len = match length.checked_sub(1) {
            None => bytes.len(),
            Some(number) => self.lengths[number],
        };
        if len != bytes.len() {
            Arc::make_mut(&mut bytes).resize(len, 0);
        }
        for ((sector, written), version) in self.dirty.iter().zip(versions) {
            if let Some(number) = version.checked_sub(1) {
                let bytes: &mut Vec<u8> = Arc::make_mut(&mut bytes);
                put(bytes, *sector, &written[number]);
            }
        }
        Self {
            cached: Arc::clone(&bytes),
            durable: bytes,
            ..Self::default()
        }
    }

    fn sectors(&self, sectors: std::ops::Range<usize>) -> Vec<Sector> {
        sectors.map(|sector| at(&self.cached, sector)).collect()
    }

    /// Takes up new versions of `sectors`, which were `before`.
    fn note_written(&mut self, sectors: std::ops::Range<usize>, before: &[Sector]) {
        for (sector, before) in sectors.zip(before) {
            let now = at(&self.cached, sector);
            self.forgotten.remove(&sector);
            let is_clean = !self.dirty.contains_key(&sector);
            if now != *before || (is_clean && now != at(&self.durable, sector)) {
                self.dirty.entry(sector).or_default().push(Arc::new(now));
            }
        }
    }
}

/// A sector of `bytes`, which read as zero behind their end.
fn at(bytes: &[u8], sector: usize) -> Sector {
    let mut found = [0; SECTOR];
    let rest = bytes.get(sector * SECTOR..).unwrap_or_default();
    let len = rest.len().min(SECTOR);
    found[..len].copy_from_slice(&rest[..len]);
    found
}

/// Overwrites as much of a sector as `bytes` have.
fn put(bytes: &mut [u8], sector: usize, with: &Sector) {
    let rest = bytes.get_mut(sector * SECTOR..).unwrap_or_default();
    let len = rest.len().min(SECTOR);
    rest[..len].copy_from_slice(&with[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsynced_sector_has_every_version_that_was_written() {
        let mut file = Contents::default();
        file.write(0, &[1; 600]);
        file.sync();
        file.write(510, &[2; 4]);
        file.write(512, &[3; 1]);
        assert_eq!(file.dirty().collect::<Vec<_>>(), [(0, 2), (1, 3)]);
        assert_eq!(file.length_count(), 1);
        let found = file.survive(&[0, 1], 0);
        assert_eq!(found.cached()[508..516], [1, 1, 1, 1, 2, 2, 1, 1]);
        let found = file.survive(&[1, 2], 0);
        assert_eq!(found.cached()[508..516], [1, 1, 2, 2, 3, 2, 1, 1]);
    }

    #[test]
    fn what_was_cut_off_may_be_back_until_the_cut_is_synced() {
        let mut file = Contents::default();
        file.write(0, &[1; 1_024]);
        file.sync();
        file.resize(100);
        file.resize(1_024);
        assert_eq!(file.length_count(), 3);
        let back = file.survive(&[0, 0], 0);
        assert_eq!(back.cached(), [1; 1_024]);
        let cut = file.survive(&[1, 1], 2);
        assert_eq!(cut.cached()[98..102], [1, 1, 0, 0]);
        assert_eq!(cut.cached()[1_000], 0);
        assert_eq!(file.survive(&[0, 0], 1).cached(), [1; 100]);
        file.sync();
        assert_eq!(file.survive(&[], 0).cached(), cut.cached());
    }

    #[test]
    fn a_failed_sync_leaves_memory_and_disk_apart_until_memory_is_dropped() {
        let mut file = Contents::default();
        file.write(0, &[1; 512 * 40]);
        file.sync();
        file.write(0, &[2; 512 * 40]);
        file.fail_sync(&mut Chance::new(1));
        file.sync();
        assert!(file.cached().iter().all(|&byte| byte == 2));
        let disk = file.survive(&[], 0);
        let lost = disk.cached().iter().filter(|&&byte| byte == 1).count();
        assert!(lost > 0 && lost < 512 * 40, "some are lost, {lost} bytes");
        file.drop_cache();
        assert_eq!(file.cached(), disk.cached());
    }
}
