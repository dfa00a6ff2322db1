//! The suite that every backend is held to: what [`EventLog`] and [`TenantLog`] promise, checked
//! through nothing but the traits.
//!
//! A backend's own tests call [`check`] with a way to make a log. What only one backend does
//! (files, crashes, retention) is tested beside it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::{FutureExt, future::join_all};

use super::{
    AppendError, Block, BlockBody, Config, EventLog, LogTopic, PositionError, PositionRange,
    ReadError, Refusal, TenantLog,
};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    types::{
        Position, Start, TenantId, TopicId,
        limits::{BLOCK_EVENTS_MAX, EVENT_BYTES_MAX},
    },
};

/// Runs every check, each on a log of its own that `make` builds, and that goes by `clock`.
///
/// # Panics
///
/// When the backend breaks the contract.
pub async fn check<L: EventLog>(clock: &ManualClock, make: impl Fn(Config) -> Arc<L>) {
    let default = || make(Config::default()) as Arc<dyn EventLog>;
    let tiny_ring = || {
        make(Config {
            ring_bytes: 2_000,
            ..Config::default()
        }) as Arc<dyn EventLog>
    };
    for make in [&default as &dyn Fn() -> Arc<dyn EventLog>, &tiny_ring] {
        an_empty_log_has_a_head_that_is_valid(make()).await;
        what_was_appended_is_read_back_in_order(make()).await;
        a_body_is_one_run_of_positions(make()).await;
        large_and_full_bodies_keep_their_events(make()).await;
        ordinals_count_the_events_of_a_topic(make()).await;
        positions_resolve_as_specified(make()).await;
        reading_stops_at_about_the_bytes_asked_for(make()).await;
        a_time_divides_the_log(make(), clock).await;
        topics_are_merged_by_position(make()).await;
        a_quiet_topic_is_examined_up_to_the_head(make()).await;
        no_wake_up_is_lost(make()).await;
        concurrent_appenders_and_readers_see_one_order(make()).await;
        tenants_do_not_see_each_other(make()).await;
        erased_events_are_absent_and_nothing_else_is(make()).await;
        a_deleted_topic_is_told_to_its_readers(make()).await;
        a_log_that_nobody_held_is_there_when_it_is_opened_again(make()).await;
        a_closed_log_refuses(make()).await;
    }
    let small_queue = make(Config {
        queue_bytes: 2_000,
        ..Config::default()
    });
    what_waits_for_room_is_stored_once_or_not_at_all(small_queue).await;
}

/// Appends numbered events to one topic, and reads their numbers back.
#[derive(Clone, Debug)]
pub struct Feeder {
    log: Arc<dyn TenantLog>,
    topic: Arc<LogTopic>,
    next: Arc<AtomicU64>,
}

impl Feeder {
    /// A feeder of the topic with this number, whose events count from 0.
    pub fn new(log: &Arc<dyn TenantLog>, topic: u32) -> Self {
        let name = format!("/event/Topic_{topic}__e");
        Self {
            log: Arc::clone(log),
            topic: Arc::new(LogTopic {
                id: TopicId::new(topic),
                name: name.parse().expect("a topic name"),
            }),
            next: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The topic.
    pub fn topic(&self) -> TopicId {
        self.topic.id
    }

    /// A body of the topic's next `events` events, each with `padding` bytes beside its number.
    pub fn body(&self, events: usize, padding: usize) -> BlockBody {
        let mut body = BlockBody::with_capacity(Arc::clone(&self.topic), 0);
        for _ in 0..events {
            let mut event = self
                .next
                .fetch_add(1, Ordering::SeqCst)
                .to_le_bytes()
                .to_vec();
            event.resize(event.len() + padding, 0xa5);
            assert!(body.push(&event, None), "the body is full");
        }
        body
    }

    /// Appends one body of `events` small events and returns the position of the last.
    pub async fn append(&self, events: usize) -> Position {
        let ranges = append(&*self.log, vec![self.body(events, 0)]).await;
        last_of(ranges[0])
    }

    /// Every event of the topic after `after` as number and position, read `bytes_max` at a time.
    pub async fn read(&self, after: Position, bytes_max: usize) -> Vec<(u64, Position)> {
        let blocks = read_all(&*self.log, &[self.topic.id], after, bytes_max).await;
        blocks
            .iter()
            .flat_map(|block| events(block, after))
            .collect()
    }
}

/// Appends `bodies` and returns where they stand.
pub async fn append(log: &dyn TenantLog, bodies: Vec<BlockBody>) -> Vec<PositionRange> {
    let appending = log.append(bodies).await.expect("the log takes events");
    let outcome = appending.await.expect("the log answers");
    outcome
        .into_iter()
        .map(|result| result.expect("the body is stored"))
        .collect()
}

/// Reads `topics` up to the head.
pub async fn read_all(
    log: &dyn TenantLog,
    topics: &[TopicId],
    mut after: Position,
    bytes_max: usize,
) -> Vec<Arc<Block>> {
    let mut blocks = Vec::new();
    loop {
        let batch = log.read(topics, after, bytes_max).await.expect("readable");
        if batch.blocks.is_empty() {
            return blocks;
        }
        assert!(batch.examined > after, "reading goes forward");
        after = batch.examined;
        blocks.extend(batch.blocks);
    }
}

/// The events of `block` after `after`: number and position as they stand in its bytes.
pub fn events(block: &Block, after: Position) -> Vec<(u64, Position)> {
    let mut events = Vec::new();
    let slice = block.slice_after(after, usize::MAX, usize::MAX);
    let slice = slice.expect("a block that was read has an event to give");
    let mut rest = &slice.bytes[..];
    while !rest.is_empty() {
        let (consumer_event, tail) = field(rest);
        rest = tail;
        let (event, replay_id) = field(consumer_event);
        let number = u64::from_le_bytes(event[..8].try_into().expect("eight bytes"));
        let position = crate::types::ReplayId::parse(field(replay_id).0);
        events.push((number, position.expect("a replay id")));
    }
    assert_eq!(events.len(), slice.count as usize);
    assert_eq!(events.last().expect("not empty").1, slice.last);
    events
}

/// Splits the value of the first field off `bytes`, which has a tag of one byte and a length.
fn field(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut len = 0;
    for (index, byte) in bytes[1..].iter().enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return bytes[index + 2..].split_at(len);
        }
    }
    panic!("no whole field");
}

fn last_of(range: PositionRange) -> Position {
    range.iter().last().expect("a body has events")
}

fn tenant(number: u32) -> TenantId {
    format!("00D{number:012}").parse().expect("a tenant id")
}

async fn open(log: &dyn EventLog) -> Arc<dyn TenantLog> {
    log.open(tenant(1)).await.expect("the log opens")
}

async fn an_empty_log_has_a_head_that_is_valid(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let head = log.state().head;
    assert!(head > Position::ZERO);
    let topics = [TopicId::new(1)];
    assert_eq!(log.resolve(&topics, Start::Latest), Ok(head));
    assert_eq!(log.resolve(&topics, Start::After(head)), Ok(head));
    let earliest = log.resolve(&topics, Start::Earliest).expect("always valid");
    let batch = log.read(&topics, earliest, 1_000).await.expect("readable");
    assert!(batch.blocks.is_empty());
    assert_eq!(batch.examined, head);
    assert_eq!(log.topic(topics[0]), Default::default());
    assert!(append(&*log, Vec::new()).await.is_empty());
}

async fn what_was_appended_is_read_back_in_order(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let feeder = Feeder::new(&log, 1);
    let start = log.state().head;
    let mut wanted = Vec::new();
    for round in 0..50 {
        let bodies = vec![feeder.body(1 + round % 7, round), feeder.body(200, 1)];
        for range in append(&*log, bodies).await {
            let first = wanted.len() as u64;
            wanted.extend((first..).zip(range.iter()));
        }
        assert_eq!(log.state().head, wanted[wanted.len() - 1].1);
    }
    assert!(wanted.is_sorted_by(|a, b| a.1 < b.1), "positions rise");
    assert!(wanted[0].1 > start);
    assert_eq!(feeder.read(start, 10_000).await, wanted);
    assert_eq!(feeder.read(Position::ZERO, 1).await, wanted);
    // A second reader starts in the middle of a block.
    let (middle, rest) = wanted.split_at(wanted.len() / 2 + 3);
    assert_eq!(feeder.read(middle[middle.len() - 1].1, 50_000).await, rest);
}

async fn a_body_is_one_run_of_positions(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let feeder = Feeder::new(&log, 1);
    let other = Feeder::new(&log, 2);
    let bodies = vec![
        feeder.body(3, 0),
        feeder.body(4, 0),
        other.body(2, 0),
        feeder.body(1, 0),
    ];
    let ranges = append(&*log, bodies).await;
    let counts: Vec<_> = ranges.iter().map(|range| range.count).collect();
    assert_eq!(counts, [3, 4, 2, 1]);
    for range in &ranges {
        assert_eq!(range.first.block(), last_of(*range).block());
    }
    let order = ranges
        .windows(2)
        .all(|pair| last_of(pair[0]) < pair[1].first);
    assert!(order, "bodies of one append keep their order: {ranges:?}");
}

async fn large_and_full_bodies_keep_their_events(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let feeder = Feeder::new(&log, 1);
    let bodies = vec![
        feeder.body(1, EVENT_BYTES_MAX - 8),
        feeder.body(BLOCK_EVENTS_MAX, 900),
        feeder.body(BLOCK_EVENTS_MAX, 0),
        feeder.body(1, 0),
    ];
    let ranges = append(&*log, bodies).await;
    let positions = ranges.iter().flat_map(|range| range.iter());
    let wanted: Vec<_> = (0..).zip(positions).collect();
    assert_eq!(feeder.read(Position::ZERO, 1).await, wanted);
    let blocks = read_all(&*log, &[feeder.topic()], Position::ZERO, usize::MAX).await;
    assert!(blocks[0].bytes().len() > EVENT_BYTES_MAX);
}

async fn ordinals_count_the_events_of_a_topic(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let (a, b) = (Feeder::new(&log, 1), Feeder::new(&log, 2));
    for round in 1..20 {
        let bodies = vec![a.body(round, 0), b.body(2, 0)];
        append(&*log, bodies).await;
    }
    assert_eq!(log.topic(a.topic()).ordinal, 19 * 20 / 2);
    assert_eq!(log.topic(b.topic()).ordinal, 19 * 2);
    assert_eq!(log.topic(b.topic()).last, log.state().head);
    assert_eq!(log.topic(a.topic()).trim_ordinal, 0);
    let blocks = read_all(&*log, &[a.topic()], Position::ZERO, 100).await;
    let mut ordinal = 0;
    for block in blocks {
        assert_eq!(block.ordinal(), ordinal);
        ordinal += block.event_count() as u64;
    }
}

async fn positions_resolve_as_specified(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let (a, b) = (Feeder::new(&log, 1), Feeder::new(&log, 2));
    let of_a = a.append(5).await;
    let of_b = b.append(5).await;
    let newest = a.append(1).await;
    let topics = [a.topic()];

    assert_eq!(log.resolve(&topics, Start::Latest), Ok(newest));
    // Positions of the topic, of another topic and of a gap.
    let gap = Position::in_block(of_a.block(), 200).expect("a position");
    for position in [of_a, of_b, gap, newest] {
        let start = Start::After(position);
        assert_eq!(log.resolve(&topics, start), Ok(position));
        let left = a.read(position, 1_000).await;
        assert_eq!(left.len(), usize::from(position < newest), "{position}");
    }
    let ahead = Position::new(newest.get() + 1).expect("a position");
    let refused = PositionError::Ahead {
        position: ahead,
        head: newest,
    };
    assert_eq!(log.resolve(&topics, Start::After(ahead)), Err(refused));
    assert!(matches!(
        log.read(&topics, ahead, 1).await,
        Err(ReadError::Position(found)) if found == refused
    ));
    let earliest = log.resolve(&topics, Start::Earliest).expect("always valid");
    assert_eq!(a.read(earliest, 1_000).await.len(), 6);
}

async fn reading_stops_at_about_the_bytes_asked_for(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let feeder = Feeder::new(&log, 1);
    for _ in 0..40 {
        append(&*log, vec![feeder.body(10, 1_000)]).await;
    }
    let topics = [feeder.topic()];
    let read = |bytes_max| log.read(&topics, Position::ZERO, bytes_max);
    let one = read(1).await.expect("readable");
    assert_eq!(one.blocks.len(), 1);
    assert_eq!(one.examined, one.blocks[0].last());
    let some = read(100_000).await.expect("readable");
    let bytes: usize = some.blocks.iter().map(|block| block.bytes().len()).sum();
    assert!((50_000..=400_000).contains(&bytes), "{bytes}");
}

async fn a_time_divides_the_log(log: Arc<dyn EventLog>, clock: &ManualClock) {
    let log = open(&*log).await;
    let later = |at: Timestamp, millis: i64| Timestamp::from_millis(at.as_millis() + millis);
    let begun = clock.now();
    let empty = log.position_at(begun).await.expect("found");
    assert_eq!(log.resolve(&[], Start::After(empty)), Ok(empty));
    let feeders: Vec<_> = (1..=5).map(|topic| Feeder::new(&log, topic)).collect();
    // The newest time, and each event's time and position.
    let (mut now, mut appended) = (begun, Vec::new());
    for round in 0..300_usize {
        // Several have the same time, and now and then the clock goes back.
        match round % 10 {
            3 | 7 => clock.set(later(clock.now(), 1 + (round % 20) as i64)),
            9 => clock.set(later(clock.now(), -3)),
            _ => {}
        }
        now = now.max(clock.now());
        let feeder = &feeders[round * round % feeders.len()];
        let bodies = vec![feeder.body(1 + round % 3, round % 100)];
        let ranges = append(&*log, bodies).await;
        appended.push((now, last_of(ranges[0])));
    }
    check_times(&*log, &appended).await;
    let head = log.state().head;
    assert_eq!(log.position_at(later(now, 1)).await.expect("found"), head);
    // An event that was erased, and a topic that was deleted, divide nothing.
    let (erased, position) = appended[150];
    let topic = feeders[150 * 150 % feeders.len()].topic();
    log.erase(topic, vec![position]).await.expect("erased");
    let deleted = feeders[1].topic();
    log.delete_topic(deleted).await.expect("deleted");
    for at in [erased, later(erased, 1)] {
        let found = log.position_at(at).await.expect("found");
        let topics: Vec<_> = feeders
            .iter()
            .map(Feeder::topic)
            .filter(|t| *t != deleted)
            .collect();
        for block in read_all(&*log, &topics, Position::ZERO, usize::MAX).await {
            assert_eq!(block.last() <= found, block.appended_at() < at, "{at:?}");
        }
    }
}

/// Checks each time there is, and those around it, against a plain look at all events, which are
/// given as time and position.
pub async fn check_times(log: &dyn TenantLog, appended: &[(Timestamp, Position)]) {
    for (at, _) in appended {
        for millis in [-1, 0, 1] {
            let at = Timestamp::from_millis(at.as_millis() + millis);
            let before = appended.iter().rfind(|(time, _)| *time < at);
            let wanted = before.map_or(log.state().trim, |(_, position)| *position);
            assert_eq!(log.position_at(at).await.expect("found"), wanted, "{at:?}");
        }
    }
}

async fn topics_are_merged_by_position(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let feeders: Vec<_> = (1..=60).map(|topic| Feeder::new(&log, topic)).collect();
    let mut wanted = Vec::new();
    for round in 0..200_usize {
        let feeder = &feeders[round * round % feeders.len()];
        let last = feeder.append(1 + round % 3).await;
        if feeder.topic().get() % 2 == 0 {
            wanted.push((feeder.topic(), last));
        }
    }
    let even: Vec<_> = feeders
        .iter()
        .map(Feeder::topic)
        .filter(|id| id.get() % 2 == 0)
        .collect();
    for bytes_max in [1, 500, usize::MAX] {
        let blocks = read_all(&*log, &even, Position::ZERO, bytes_max).await;
        let found: Vec<_> = blocks
            .iter()
            .map(|block| (block.topic(), block.last()))
            .collect();
        assert_eq!(found, wanted);
    }
}

async fn a_quiet_topic_is_examined_up_to_the_head(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let (quiet, busy) = (Feeder::new(&log, 1), Feeder::new(&log, 2));
    let last = quiet.append(1).await;
    for _ in 0..100 {
        busy.append(10).await;
    }
    let batch = log.read(&[quiet.topic()], last, 1).await.expect("readable");
    assert!(batch.blocks.is_empty());
    assert_eq!(batch.examined, log.state().head);
    assert_eq!(quiet.read(Position::ZERO, 1).await, [(0, last)]);
}

async fn no_wake_up_is_lost(log: Arc<dyn EventLog>) {
    const EVENTS: usize = 500;
    let log = open(&*log).await;
    let feeder = Feeder::new(&log, 1);
    let other = Feeder::new(&log, 2);
    let start = log.state().head;
    let reader = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            let topics = [TopicId::new(1), TopicId::new(3)];
            let mut watcher = log.watch(&topics);
            let (mut after, mut seen) = (start, 0);
            while seen < EVENTS {
                let batch = log.read(&topics, after, 10_000).await.expect("readable");
                if batch.blocks.is_empty() {
                    watcher.changed().await;
                }
                let counts = batch.blocks.iter().map(|block| events(block, after).len());
                seen += counts.sum::<usize>();
                after = batch.examined;
            }
            seen
        }
    });
    for _ in 0..EVENTS {
        feeder.append(1).await;
        other.append(1).await;
    }
    assert_eq!(reader.await.expect("no panic"), EVENTS);
    let mut watcher = log.watch(&[feeder.topic()]);
    assert!(watcher.changed().now_or_never().is_none(), "nothing new");
    other.append(1).await;
    assert!(watcher.changed().now_or_never().is_none(), "another topic");
    feeder.append(1).await;
    watcher.changed().await;
}

async fn concurrent_appenders_and_readers_see_one_order(log: Arc<dyn EventLog>) {
    const APPENDERS: u32 = 6;
    const ROUNDS: usize = 60;
    let log = open(&*log).await;
    let start = log.state().head;
    let topics: Vec<_> = (1..=APPENDERS).map(TopicId::new).collect();
    let done = Arc::new(AtomicBool::new(false));
    // Each reader follows all topics while they grow, and notes what it sees.
    let readers: Vec<_> = [1, 3_000, usize::MAX]
        .into_iter()
        .map(|bytes_max| {
            let (log, topics, done) = (Arc::clone(&log), topics.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut watcher = log.watch(&topics);
                let (mut after, mut seen) = (start, Vec::new());
                loop {
                    let last_round = done.load(Ordering::SeqCst);
                    let batch = log.read(&topics, after, bytes_max).await.expect("readable");
                    let empty = batch.blocks.is_empty();
                    for block in batch.blocks {
                        let events = events(&block, after);
                        seen.extend(events.into_iter().map(|event| (block.topic(), event)));
                    }
                    after = batch.examined;
                    if empty && last_round {
                        return seen;
                    }
                    if empty {
                        watcher.changed().await;
                    }
                }
            })
        })
        .collect();
    let appenders = topics.iter().map(|topic| {
        let feeder = Feeder::new(&log, topic.get());
        tokio::spawn(async move {
            let mut under_way = Vec::new();
            for round in 0..ROUNDS {
                let bodies = vec![feeder.body(1 + round % 5, round), feeder.body(1, 0)];
                under_way.push(feeder.log.append(bodies).await.expect("room"));
            }
            for appending in under_way {
                assert!(
                    appending
                        .await
                        .expect("an answer")
                        .iter()
                        .all(Result::is_ok)
                );
            }
        })
    });
    for appender in join_all(appenders).await {
        appender.expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    Feeder::new(&log, 1).append(1).await;
    let mut views = Vec::new();
    for reader in readers {
        views.push(reader.await.expect("no panic"));
    }
    for view in &views {
        assert!(view.is_sorted_by(|a, b| a.1.1 < b.1.1), "positions rise");
        let mut next = BTreeMap::new();
        let wanted = ROUNDS / 5 * (1 + 2 + 3 + 4 + 5) + ROUNDS;
        let total = wanted * APPENDERS as usize;
        for (topic, (number, _)) in &view[..total] {
            let next = next.entry(*topic).or_insert(0);
            assert_eq!(number, next, "each event of {topic:?} once, in order");
            *next += 1;
        }
        let is_same = view[..total] == views[0][..total];
        assert!(is_same, "all readers see the same order");
    }
}

async fn tenants_do_not_see_each_other(log: Arc<dyn EventLog>) {
    let one = log.open(tenant(1)).await.expect("the log opens");
    let two = log.open(tenant(2)).await.expect("the log opens");
    let feeder = Feeder::new(&one, 1);
    feeder.append(3).await;
    assert_eq!(two.topic(feeder.topic()), Default::default());
    let stranger = Feeder::new(&two, 1);
    assert!(stranger.read(Position::ZERO, 1_000).await.is_empty());
    let again = log.open(tenant(1)).await.expect("the log opens");
    assert_eq!(again.state(), one.state());
    assert_eq!(
        Feeder::new(&again, 1).read(Position::ZERO, 10).await.len(),
        3
    );
}

async fn erased_events_are_absent_and_nothing_else_is(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let (a, b) = (Feeder::new(&log, 1), Feeder::new(&log, 2));
    let mut positions = Vec::new();
    for _ in 0..20 {
        let ranges = append(&*log, vec![a.body(7, 30), b.body(3, 400)]).await;
        positions.extend(ranges[0].iter());
    }
    let head = log.state().head;
    // Both ends of a block, its middle, whole blocks, and what is no event of the topic.
    let is_erased = |number: u64| matches!(number % 7, 0 | 3 | 6) || (49..63).contains(&number);
    let numbered: Vec<_> = (0..).zip(positions).collect();
    let gone = numbered.iter().filter(|(number, _)| is_erased(*number));
    let mut asked: Vec<_> = gone.map(|(_, position)| *position).collect();
    let gone_count = asked.len() as u64;
    asked.extend([head, Position::ZERO, Position::MAX]);
    asked.reverse();
    let erased = log.erase(a.topic(), asked.clone()).await.expect("erased");
    assert_eq!(erased.events, gone_count);
    let left: Vec<_> = numbered
        .iter()
        .copied()
        .filter(|(number, _)| !is_erased(*number))
        .collect();
    let again = log.erase(a.topic(), asked).await.expect("nothing to do");
    assert_eq!(again.events, 0);
    for bytes_max in [1, 100_000] {
        assert_eq!(a.read(Position::ZERO, bytes_max).await, left);
    }
    assert_eq!(b.read(Position::ZERO, 1_000).await.len(), 60);
    let (number, inside) = numbered[50];
    assert!(is_erased(number));
    let rest: Vec<_> = left.iter().copied().filter(|e| e.1 > inside).collect();
    assert_eq!(a.read(inside, 1_000).await, rest, "its id is good");
    let state = log.topic(a.topic());
    assert_eq!((state.trim, state.ordinal), (Position::ZERO, 140));

    let all: Vec<_> = left.iter().map(|event| event.1).collect();
    log.erase(a.topic(), all).await.expect("erased");
    let batch = log.read(&[a.topic()], Position::ZERO, 1_000).await;
    let batch = batch.expect("readable");
    assert_eq!((batch.blocks.len(), batch.examined), (0, head));
    a.append(1).await;
    assert_eq!(a.read(Position::ZERO, 1_000).await.len(), 1);
    assert_eq!(log.topic(a.topic()).ordinal, 141);
}

async fn a_deleted_topic_is_told_to_its_readers(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let (a, b) = (Feeder::new(&log, 1), Feeder::new(&log, 2));
    for _ in 0..10 {
        append(&*log, vec![a.body(7, 30), b.body(3, 400)]).await;
    }
    let named: Vec<_> = log.topics().iter().map(|topic| topic.id).collect();
    assert_eq!(named, [a.topic(), b.topic()]);
    let mut watcher = log.watch(&[a.topic()]);
    assert!(watcher.changed().now_or_never().is_none());
    for _ in 0..2 {
        log.delete_topic(a.topic()).await.expect("deleted");
    }
    watcher.changed().await;
    for after in [Position::ZERO, log.state().head] {
        let read = log.read(&[b.topic(), a.topic()], after, 1_000).await;
        let refused = read.expect_err("deleted");
        assert!(matches!(
            refused,
            ReadError::Position(PositionError::TopicDeleted)
        ));
    }
    assert_eq!(b.read(Position::ZERO, 1_000).await.len(), 30);
    let topics = log.topics();
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].name.as_str(), "/event/Topic_2__e");
}

async fn a_log_that_nobody_held_is_there_when_it_is_opened_again(log: Arc<dyn EventLog>) {
    let mut wanted = Vec::new();
    for round in 0..5 {
        let tenant_log = open(&*log).await;
        let feeder = Feeder::new(&tenant_log, 1);
        let found = feeder.read(Position::ZERO, 1_000).await;
        let found: Vec<_> = found.into_iter().map(|event| event.1).collect();
        assert_eq!(found, wanted, "in round {round}");
        assert_eq!(tenant_log.topic(feeder.topic()).ordinal, round);
        // The answer is awaited when nobody holds the log any more.
        let appending = tenant_log.append(vec![feeder.body(1, 0)]).await;
        drop((tenant_log, feeder));
        let outcome = appending.expect("room").await.expect("an answer");
        wanted.push(outcome[0].as_ref().expect("stored").first);
    }
    assert!(wanted.is_sorted_by(|a, b| a < b), "numbering goes on");
}

async fn a_closed_log_refuses(log: Arc<dyn EventLog>) {
    let tenant_log = open(&*log).await;
    let feeder = Feeder::new(&tenant_log, 1);
    let appending = tenant_log
        .append(vec![feeder.body(1, 0)])
        .await
        .expect("room");
    log.close().await;
    log.close().await;
    let outcome = appending.await.expect("what was queued is made durable");
    assert!(outcome[0].is_ok());
    let refused = tenant_log.append(vec![feeder.body(1, 0)]).await;
    assert!(matches!(
        refused,
        Err(AppendError::Refused(Refusal::Closed))
    ));
    assert!(log.open(tenant(1)).await.is_err());
    assert_eq!(feeder.read(Position::ZERO, 1_000).await.len(), 1);
}

async fn what_waits_for_room_is_stored_once_or_not_at_all(log: Arc<dyn EventLog>) {
    let log = open(&*log).await;
    let feeder = Feeder::new(&log, 1);
    let mut tasks = Vec::new();
    for task in 0..40 {
        let (log, feeder) = (Arc::clone(&log), feeder.clone());
        tasks.push(tokio::spawn(async move {
            let mut stored = HashSet::new();
            for round in 0..20 {
                let body = feeder.body(1, 300);
                let waiting = log.append(vec![body]);
                // Every third one is given up if there is no room at once.
                let appending = if (task + round) % 3 == 0 {
                    waiting.now_or_never()
                } else {
                    Some(waiting.await)
                };
                let Some(appending) = appending else { continue };
                let outcome = appending.expect("not refused").await.expect("an answer");
                stored.insert(outcome[0].as_ref().expect("stored").first);
            }
            stored
        }));
    }
    let mut stored = HashSet::new();
    for task in tasks {
        for position in task.await.expect("no panic") {
            assert!(stored.insert(position), "no position is given twice");
        }
    }
    let found = feeder.read(Position::ZERO, 100_000).await;
    let found: HashSet<_> = found.into_iter().map(|(_, position)| position).collect();
    assert_eq!(found, stored);
}
