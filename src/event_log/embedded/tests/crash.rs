//! Crashes at random moments on a disk that keeps any subset of what was not synced.
//!
//! Each history is replayed from its seed: groups are committed one after the other without a
//! thread, the disk stops at a chosen operation, loses what it may, and the log is opened again,
//! several times over. What was acknowledged and not purged has to be there, at its position, in
//! order; what was never sent must not be; and no position may be given twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice},
    time::Instant,
};

use super::*;
use crate::event_log::{Appending, Block, BlockBody, LogTopic, embedded::writer::Request};

#[test]
fn nothing_acknowledged_is_lost_and_no_position_is_given_twice() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for seed in SEEDS {
        History::new(seed).run(&runtime);
    }
}

/// The histories that are run. To replay one, put its seed here alone.
const SEEDS: std::ops::Range<u64> = 0..100;

/// One random history.
struct History {
    seed: u64,
    random: SplitMix,
    disk: Arc<SimDisk>,
    clock: ManualClock,
    /// What was sent, by topic: the number of each event and, once acknowledged, its position.
    sent: BTreeMap<u32, Vec<Option<Position>>>,
    /// The newest position that was given to anyone.
    newest: Position,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: SplitMix(seed),
            disk: Arc::default(),
            clock: ManualClock::at(Timestamp::from_millis(1_000)),
            sent: BTreeMap::new(),
            newest: Position::ZERO,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound
    }

    fn run(&mut self, runtime: &tokio::runtime::Runtime) {
        for _ in 0..4 {
            let steps = self.below(120);
            self.disk.crash_after(steps);
            // Opening may itself be what the crash interrupts.
            if let Ok((store, mut writer)) = self.open() {
                while !self.disk.is_down() {
                    self.step(&store, &mut writer);
                }
            }
            let random = &mut self.random;
            self.disk.restart(|| random.next());
            self.check(runtime);
        }
    }

    fn open(&mut self) -> Result<(Arc<Store>, Writer), OpenError> {
        let config = Config {
            segment_bytes_min: 30_000,
            segment_bytes_max: 60_000,
            segment_age_max: Duration::from_secs(50),
            retention: Duration::from_secs(100),
            ring_bytes: 1,
            ..Config::default()
        };
        let io = Arc::new(Arc::clone(&self.disk)) as Arc<dyn Io>;
        let dir = DataDir::open_with("/data".into(), Arc::clone(&io))?;
        let (chores, _) = mpsc::channel();
        let clock = Arc::new(self.clock.clone());
        open_store(&dir, Process::new(config, clock, io, chores), tenant())
    }

    fn step(&mut self, store: &Store, writer: &mut Writer) {
        match self.below(20) {
            0 => store.make_spare(60_000),
            1 => {
                self.clock.advance(Duration::from_secs(60));
                writer.seal_if_old(self.clock.now());
            }
            2 if self.below(4) == 0 => writer.close(),
            3 => {
                self.clock.advance(Duration::from_secs(60));
                store.purge(self.clock.now());
            }
            _ => self.append(writer),
        }
    }

    fn append(&mut self, writer: &mut Writer) {
        let mut bodies = Vec::new();
        let mut events = Vec::new();
        for _ in 0..=self.below(3) {
            let topic = self.below(3) as u32;
            let count = 1 + self.below(5);
            let padding = [0, 30, 700, 5_000][self.below(4) as usize];
            let log_topic = LogTopic {
                id: TopicId::new(topic),
                name: format!("/event/T{topic}__e").parse().unwrap(),
            };
            let mut body = BlockBody::with_capacity(Arc::new(log_topic), 0);
            for _ in 0..count {
                let sent = self.sent.entry(topic).or_default();
                let mut event = (sent.len() as u64).to_le_bytes().to_vec();
                event.resize(8 + padding, 7);
                assert!(body.push(&event, None));
                events.push((topic, sent.len()));
                sent.push(None);
            }
            bodies.push(body);
        }
        let (reply, mut appending) = Appending::new();
        _ = writer.commit(vec![Request {
            bytes: 0,
            bodies,
            queued_at: Instant::now(),
            reply,
            room: Vec::new(),
        }]);
        let outcome = futures_util::FutureExt::now_or_never(&mut appending);
        let outcome = outcome.expect("commit answers").unwrap();
        let mut events = events.into_iter();
        for range in outcome.into_iter().flatten() {
            for (position, (topic, number)) in range.iter().zip(&mut events) {
                assert!(
                    position > self.newest,
                    "seed {}: a position twice",
                    self.seed
                );
                self.newest = position;
                self.sent.get_mut(&topic).unwrap()[number] = Some(position);
            }
        }
    }

    /// Opens the log on a disk that works, and compares what is there with what was sent.
    fn check(&mut self, runtime: &tokio::runtime::Runtime) {
        let seed = self.seed;
        let (store, _) = self
            .open()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(store.metrics().holes.get(), 0, "seed {seed}: a false hole");
        self.newest = self.newest.max(store.tail.ends().0);
        let topics: Vec<_> = self.sent.keys().copied().collect();
        for topic in topics {
            let found = runtime.block_on(read_all(&store, TopicId::new(topic)));
            let sent = self.sent.get_mut(&topic).unwrap();
            assert!(found.is_sorted_by(|a, b| a.1 < b.1), "seed {seed}: order");
            let numbers: BTreeSet<_> = found.iter().map(|event| event.0).collect();
            assert_eq!(numbers.len(), found.len(), "seed {seed}: an event twice");
            for (number, position) in &found {
                let sent = sent.get_mut(*number as usize);
                let known = sent.unwrap_or_else(|| panic!("seed {seed}: never sent"));
                let known = known.get_or_insert(*position);
                assert_eq!(known, position, "seed {seed}: event {number} moved");
            }
            let trim = store.tail.topic(TopicId::new(topic)).trim;
            for (number, position) in sent.iter().enumerate() {
                let is_there = numbers.contains(&(number as u64));
                let is_wanted = position.is_some_and(|position| position > trim);
                assert_eq!(is_there, is_wanted, "seed {seed}: event {number}");
            }
            let is_known = sent.iter().flatten().any(|position| *position == trim);
            assert!(
                is_known || trim == Position::ZERO,
                "seed {seed}: a trim of no event"
            );
        }
    }
}

async fn read_all(store: &Arc<Store>, topic: TopicId) -> Vec<(u64, Position)> {
    let mut after = store.tail.resolve(&[topic], Start::Earliest).unwrap();
    let mut found = Vec::new();
    loop {
        let batch = store.read(&[topic], after, 20_000).await.unwrap();
        if batch.blocks.is_empty() {
            return found;
        }
        let events = |block: &Arc<Block>| contract::events(block, after);
        found.extend(batch.blocks.iter().flat_map(events));
        after = batch.examined;
    }
}

/// Numbers that look random and follow from a seed: the generator SplitMix64.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A disk in memory.
#[derive(Debug, Default)]
struct SimDisk(Mutex<Sim>);

#[derive(Debug, Default)]
struct Sim {
    /// Operations until the disk stops.
    left: u64,
    files: Vec<SimContents>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    random: u64,
}

#[derive(Clone, Debug, Default)]
struct SimContents {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug)]
struct SimFile {
    disk: Arc<SimDisk>,
    file: usize,
}

impl SimDisk {
    fn crash_after(&self, operations: u64) {
        self.0.lock().unwrap().left = operations;
    }

    fn is_down(&self) -> bool {
        self.0.lock().unwrap().left == 0
    }

    /// Loses some of what was not synced, chosen by `random`, and works without end again.
    fn restart(&self, mut random: impl FnMut() -> u64) {
        let mut sim = self.0.lock().unwrap();
        let sim = &mut *sim;
        for file in &mut sim.files {
            if random() & 1 == 0 {
                file.now
                    .truncate(file.durable.len().max(file.now.len().min(512)));
            }
            file.durable.resize(file.now.len(), 0);
            let sectors = file.now.chunks_mut(512).zip(file.durable.chunks_mut(512));
            for (now, durable) in sectors {
                match random() & 1 {
                    0 => durable.copy_from_slice(now),
                    _ => now.copy_from_slice(durable),
                }
            }
        }
        // Each change of a name that was not synced is kept or lost, a renaming as a whole.
        let changed: BTreeSet<usize> = sim
            .names
            .iter()
            .chain(&sim.durable_names)
            .filter(|(path, file)| {
                sim.names.get(*path) != Some(file) || sim.durable_names.get(*path) != Some(file)
            })
            .map(|(_, file)| *file)
            .collect();
        for file in changed {
            let (from, to) = match random() & 1 {
                0 => (&sim.names, &mut sim.durable_names),
                _ => (&sim.durable_names.clone(), &mut sim.names),
            };
            let kept: Vec<_> = from.iter().filter(|name| *name.1 == file).collect();
            let kept: Vec<_> = kept.into_iter().map(|(path, _)| path.clone()).collect();
            to.retain(|_, other| *other != file);
            for path in kept {
                to.entry(path).or_insert(file);
            }
        }
        sim.names = sim.durable_names.clone();
        sim.left = u64::MAX;
    }

    fn operation<R>(&self, act: impl FnOnce(&mut Sim) -> io::Result<R>) -> io::Result<R> {
        let mut sim = self.0.lock().unwrap();
        if sim.left == 0 {
            return Err(io::Error::other("the machine is down"));
        }
        sim.left -= 1;
        act(&mut sim)
    }

    fn file(self: &Arc<Self>, file: usize) -> Arc<dyn IoFile> {
        let disk = Arc::clone(self);
        Arc::new(SimFile { disk, file })
    }
}

/// The methods of [`Io`] take `&self`, and files need the disk; this is the disk with a handle on
/// itself.
impl Io for Arc<SimDisk> {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let sim = self.0.lock().unwrap();
        let names = sim.names.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(names.map(name).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn IoFile>> {
        self.operation(|sim| {
            if sim.names.contains_key(path) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            sim.files.push(SimContents::default());
            let file = sim.files.len() - 1;
            sim.names.insert(path.into(), file);
            Ok(self.file(file))
        })
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn IoFile>> {
        let sim = self.0.lock().unwrap();
        let file = sim.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(*file))
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.open(path, Access::Read)?.size()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation(|sim| {
            let file = sim.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            sim.names.insert(to.into(), file);
            Ok(())
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation(|sim| {
            let file = *sim.names.get(from).ok_or(io::ErrorKind::NotFound)?;
            sim.names.insert(to.into(), file);
            Ok(())
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.operation(|sim| {
            let removed = sim.names.remove(path);
            removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.operation(|sim| {
            sim.durable_names
                .retain(|path, _| path.parent() != Some(dir));
            let names = sim
                .names
                .iter()
                .filter(|(path, _)| path.parent() == Some(dir));
            let names: Vec<_> = names.map(|(path, file)| (path.clone(), *file)).collect();
            sim.durable_names.extend(names);
            Ok(())
        })
    }

    fn random(&self) -> io::Result<u64> {
        let mut sim = self.0.lock().unwrap();
        sim.random += 1;
        Ok(sim.random)
    }
}

impl IoFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().files[self.file].now.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let sim = self.disk.0.lock().unwrap();
        let found = sim.files[self.file].now.get(offset as usize..);
        let found = found.unwrap_or_default();
        let len = found.len().min(bytes.len());
        bytes[..len].copy_from_slice(&found[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let bytes: Vec<u8> = bytes
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let write = |sim: &mut Sim, bytes: &[u8]| {
            let file = &mut sim.files[self.file].now;
            let end = offset as usize + bytes.len();
            file.resize(file.len().max(end), 0);
            file[offset as usize..end].copy_from_slice(bytes);
            Ok(bytes.len())
        };
        self.disk.operation(|sim| {
            // The last write before the machine goes down gets part of the way, in whole sectors.
            if sim.left == 0 {
                _ = write(sim, &bytes[..bytes.len() / 2 / 512 * 512]);
                return Err(io::Error::other("the machine goes down"));
            }
            write(sim, &bytes)
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.operation(|sim| {
            let file = &mut sim.files[self.file].now;
            file.resize(file.len().max(len as usize), 0);
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.operation(|sim| {
            sim.files[self.file].now.resize(len as usize, 0);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operation(|sim| {
            let file = &mut sim.files[self.file];
            file.durable = file.now.clone();
            Ok(())
        })
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}
