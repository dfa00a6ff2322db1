//! The index of a very long log: 100,000 sealed segments and 1,000 topics, of which the disk makes
//! each file when it is opened. What is asserted is counted work, never time.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    sync::LazyLock,
};

use super::*;
use crate::event_log::{
    Block, BlockBody, LogTopic, TopicState,
    embedded::{
        block::{BLOCK_HEADER_LEN, BlockHeader, align},
        footer::{Footer, SealedBy},
        index::{SegmentIndex, TopicIndex},
        segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentName},
        segments::Segment,
        state::State,
    },
    tail::Restored,
};

const SEGMENTS: u64 = 100_000;
const TOPICS: u32 = 1_000;
/// The topic with a block in every segment.
const USUAL: TopicId = TopicId::new(1);
/// The topic with a block in one of [`RARE_EVERY`] segments; the others had theirs before the first.
const RARE: TopicId = TopicId::new(2);
const RARE_EVERY: u64 = 100;
/// A quarter of the default, so that few footers fill it.
const FOOTER_CACHE_BYTES: usize = 8 << 20;
/// What a footer of so many topics takes in memory, at least.
const FOOTER_BYTES: u64 = 150 * TOPICS as u64;

#[tokio::test]
async fn a_position_in_the_middle_costs_one_footer_and_one_step() {
    let (store, disk) = open();
    for segment in [50_000, 17, SEGMENTS - 1] {
        let opens = disk.opens();
        let batch = store.read(&[USUAL], before(segment), 1).await.unwrap();
        assert_eq!(batch.blocks[0].first(), usual_at(segment));
        assert_eq!(disk.opens() - opens, 2, "footer and step");
        store.read(&[USUAL], before(segment), 1).await.unwrap();
        assert_eq!(disk.opens() - opens, 2, "both are in memory now");
    }
    assert_eq!(store.metrics().footer_reads.get(), 3);
}

#[tokio::test]
async fn a_time_costs_as_many_footers_as_the_segments_can_be_halved() {
    let (store, disk) = open();
    let halvings = SEGMENTS.ilog2() + 1;
    for segment in [50_000, 1, SEGMENTS - 1] {
        for millis in [-1, 0, 1] {
            let (opens, footers) = (disk.opens(), store.metrics().footer_reads.get());
            let at = Timestamp::from_millis(at_ms(segment) + millis);
            let found = store.position_at(at).await.unwrap();
            let last = if millis > 0 { segment } else { segment - 1 };
            assert!(found >= usual_at(last) && found < usual_at(last + 1));
            let footers = store.metrics().footer_reads.get() - footers;
            assert!(footers <= u64::from(halvings) + 2, "{footers}");
            assert!(disk.opens() - opens <= footers as usize + 1);
        }
    }
}

#[tokio::test]
async fn footers_stay_within_their_bound() {
    let (store, _) = open();
    let bytes_max = FOOTER_CACHE_BYTES as u64;
    let footers = 2 * bytes_max / FOOTER_BYTES;
    for number in 0..footers {
        let segment = number * (SEGMENTS / footers);
        store.read(&[USUAL], before(segment), 1).await.unwrap();
        assert!(store.process.caches.footer_bytes() <= bytes_max);
    }
    assert_eq!(store.metrics().footer_reads.get(), footers);
    assert!(store.process.caches.footer_bytes() > bytes_max / 2);
}

#[tokio::test]
async fn a_rare_topic_costs_the_footers_on_the_way() {
    let (store, _) = open();
    let segment = 50 * RARE_EVERY;
    let batch = store
        .read(&[RARE], rare_at(segment), 1 << 20)
        .await
        .unwrap();
    assert_eq!(batch.blocks[0].first(), rare_at(segment + RARE_EVERY));
    assert_eq!(
        batch.blocks.len(),
        1,
        "it is not held back for the next one"
    );
    // Its own, those up to the next event, and one behind it.
    assert_eq!(store.metrics().footer_reads.get(), RARE_EVERY + 2);
    // Along with another topic each is where it belongs.
    let mut after = before(segment + RARE_EVERY - 1);
    let mut found = Vec::new();
    while found.len() < 4 {
        let batch = store.read(&[RARE, USUAL], after, 1).await.unwrap();
        found.extend(batch.blocks.iter().map(|block| block.first()));
        after = batch.examined;
    }
    let next = segment + RARE_EVERY;
    let wanted = [
        usual_at(next - 1),
        usual_at(next),
        rare_at(next),
        usual_at(next + 1),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn removing_the_oldest_costs_a_footer_for_each() {
    const OLD: u64 = 20;
    let (store, disk) = open();
    let retention_ms = store.config().retention.as_millis() as i64;
    let now = Timestamp::from_millis(at_ms(OLD) + retention_ms);
    store.purge(now);
    assert_eq!(store.segments.count_and_bytes().0, SEGMENTS - OLD);
    assert_eq!(disk.unlinked(), OLD);
    // And the one of the oldest that stays, which tells that it is not old yet.
    assert_eq!(store.metrics().footer_reads.get(), OLD + 1);
    store.purge(now);
    assert_eq!(
        store.metrics().footer_reads.get(),
        OLD + 1,
        "it is remembered"
    );
    assert_eq!(store.tail.topic(USUAL).trim, usual_at(OLD - 1));
    let valid = store.tail.resolve(&[USUAL], Start::Earliest);
    assert_eq!(valid, Ok(usual_at(OLD - 1)));
}

/// The log, as an opening leaves it that knows the names of the files.
fn open() -> (Arc<Store>, LongDisk) {
    let disk = LongDisk::default();
    let (chores, _) = mpsc::channel();
    let clock = Arc::new(ManualClock::default());
    let config = Config {
        footer_cache_bytes: FOOTER_CACHE_BYTES,
        ..Config::default()
    };
    let process = Process::new(config, clock, Arc::new(disk.clone()), chores);
    let segments = (0..SEGMENTS).map(|segment| Segment::sealed(name(segment), 1 << 20));
    let newest = index(SEGMENTS - 1);
    let topics: Vec<(TopicId, TopicState)> = newest.states().collect();
    let restored = Restored {
        head: newest.last,
        trim: Position::ZERO,
        topics,
        lost: Vec::new(),
    };
    let tail = Tail::new(restored, Some(Arc::clone(&process.ring)));
    let segments = Segments::new(segments.collect());
    let dir = PathBuf::from("/log");
    let store = Store::new(
        process,
        tenant(),
        dir,
        tail,
        segments,
        State::new(1),
        newest.names(),
    );
    (store, disk)
}

/// Each segment has two block numbers: one for the usual topic, one for the rare one.
fn name(segment: u64) -> SegmentName {
    SegmentName {
        first_block: 2 + 2 * segment,
        generation: 0,
    }
}

fn usual_at(segment: u64) -> Position {
    name(segment).first()
}

fn rare_at(segment: u64) -> Position {
    at(name(segment).first_block + 1, 0)
}

/// The position before the segment.
fn before(segment: u64) -> Position {
    Position::new(usual_at(segment).get() - 1).unwrap()
}

fn at_ms(segment: u64) -> i64 {
    1_000 * segment as i64
}

/// What every footer says of the topics that had their events before the first segment.
static OTHERS: LazyLock<BTreeMap<TopicId, TopicIndex>> = LazyLock::new(|| {
    let topic = |number| {
        let name = format!("/event/Topic_{number}__e").parse().unwrap();
        let topic = TopicIndex {
            before: at(1, 0),
            last: at(1, 0),
            ..TopicIndex::new(name, 1)
        };
        (TopicId::new(number), topic)
    };
    (1..=TOPICS).map(topic).collect()
});

/// The blocks of a segment.
fn blocks(segment: u64) -> Vec<Block> {
    let mut placed = vec![(USUAL, usual_at(segment), segment)];
    if segment.is_multiple_of(RARE_EVERY) {
        placed.push((RARE, rare_at(segment), segment / RARE_EVERY));
    }
    let block = |(id, first, before): (TopicId, Position, u64)| {
        let name = OTHERS[&id].name.clone();
        let mut body = BlockBody::with_capacity(Arc::new(LogTopic { id, name }), 64);
        assert!(body.push(&segment.to_le_bytes(), None));
        // One event before the first segment.
        body.seal(first, 1 + before, Timestamp::from_millis(at_ms(segment)))
    };
    placed.into_iter().map(block).collect()
}

fn header(segment: u64) -> SegmentHeader {
    SegmentHeader {
        name: name(segment),
        tenant: tenant(),
        log_id: 1,
        salt: segment,
        first_group: 1 + segment,
        created_at: Timestamp::default(),
        unsynced: false,
        tag_space: 0,
        rewritten: None,
    }
}

/// The headers of the blocks of a segment, one group, with their bytes.
fn group(segment: u64) -> Vec<(BlockHeader, Vec<u8>)> {
    let seed = header(segment).seed();
    let blocks = blocks(segment);
    let len = |block: &Block| (BLOCK_HEADER_LEN + block.bytes().len()) as u32;
    let group_len = blocks.iter().map(len).sum();
    let mut group_offset = 0;
    let stored = |block: Block| {
        let fields = BlockHeader {
            topic: block.topic(),
            first: block.first(),
            count: 1,
            ordinal: block.ordinal(),
            appended_at: block.appended_at(),
            group: 1 + segment,
            group_len,
            group_offset,
            body_len: block.bytes().len() as u32,
            name_len: 0,
            is_erased: false,
            crc: crc32c::crc32c_append(seed, block.bytes()),
        };
        group_offset += len(&block);
        (fields, [&fields.encode(seed)[..], block.bytes()].concat())
    };
    blocks.into_iter().map(stored).collect()
}

/// The index of a segment, as its footer has it.
fn index(segment: u64) -> SegmentIndex {
    let mut topics = OTHERS.clone();
    let mut knows = |id: TopicId, last: Position, events: u64| {
        let topic = topics.get_mut(&id).unwrap();
        (topic.before, topic.last) = (last, last);
        (topic.ordinal_start, topic.ordinal_end) = (1 + events, 1 + events);
    };
    if let Some(previous) = segment.checked_sub(1) {
        knows(USUAL, usual_at(previous), segment);
        let rare = previous / RARE_EVERY;
        knows(RARE, rare_at(rare * RARE_EVERY), rare + 1);
    }
    let mut index = SegmentIndex {
        first_group: 1 + segment,
        last_group: segment,
        topics,
        ..SegmentIndex::default()
    };
    let mut offset = SEGMENT_HEADER_LEN;
    for (header, bytes) in group(segment) {
        let end = offset + bytes.len() as u64;
        index.add(&header, None, offset, end);
        offset = end;
    }
    index
}

/// A disk with the segments of the log on it, and no place for anything else: what is written is
/// counted and forgotten.
#[derive(Clone, Debug, Default)]
struct LongDisk(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    opens: AtomicUsize,
    unlinked: AtomicUsize,
}

impl LongDisk {
    /// Segments that were opened.
    fn opens(&self) -> usize {
        self.0.opens.load(Ordering::SeqCst)
    }

    /// Segments that were removed.
    fn unlinked(&self) -> u64 {
        self.0.unlinked.load(Ordering::SeqCst) as u64
    }
}

fn segment_at(path: &Path) -> Option<u64> {
    let name: SegmentName = path.file_name()?.to_str()?.parse().ok()?;
    Some(name.first_block / 2 - 1)
}

impl Io for LongDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn IoFile>> {
        Ok(Arc::new(LongFile(Vec::new())))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn IoFile>> {
        let segment = segment_at(path).ok_or(io::ErrorKind::NotFound)?;
        self.0.opens.fetch_add(1, Ordering::SeqCst);
        let index = index(segment);
        let offset = align(index.end);
        let mut bytes = vec![0; SEGMENT_HEADER_LEN as usize];
        group(segment)
            .into_iter()
            .for_each(|block| bytes.extend(block.1));
        bytes.resize(offset as usize, 0);
        let footer = Footer {
            header: header(segment),
            sealed_by: SealedBy::Writer,
            index,
        };
        bytes.extend(footer.encode(offset));
        Ok(Arc::new(LongFile(bytes)))
    }

    fn file_len(&self, _: &Path) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let is_segment = segment_at(path).is_some();
        self.0
            .unlinked
            .fetch_add(is_segment.into(), Ordering::SeqCst);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn random(&self) -> io::Result<u64> {
        Ok(1)
    }
}

#[derive(Debug)]
struct LongFile(Vec<u8>);

impl IoFile for LongFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let found = self.0.get(offset as usize..).unwrap_or_default();
        let len = found.len().min(bytes.len());
        bytes[..len].copy_from_slice(&found[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[IoSlice<'_>], _: u64) -> io::Result<usize> {
        Ok(bytes.iter().map(|slice| slice.len()).sum())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}
