//! From the log to a subscriber: events near the head, part of a block, and the credit they cost.

use std::{
    collections::VecDeque,
    hint::black_box,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use prost::{Message, encoding};
use tidegate::{
    broker::Credit,
    clock::SystemClock,
    event_log::{BlockSlice, Config, EventLog, MemoryLog, TenantLog},
    proto::ConsumerEvent,
    types::{Position, TenantId, limits::BLOCK_EVENTS_MAX},
};

use crate::{harness::Case, load};

/// A subscriber that is a few blocks behind the head of a log with several topics, from the call
/// until the events are there to be sent.
///
/// The memory log reads from the same ring as the one on disk does near the head.
pub(crate) fn ring() -> Case {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing");
    let events = load::encoded_events(RING_BLOCK_EVENTS);
    let (log, after) = runtime.block_on(log_with_topics(&events));
    let topic = load::topic(RING_TOPICS / 2).id;
    let newest = move || {
        // One entry of the runtime for many reads: a subscription is inside it all the time.
        runtime.block_on(async {
            let mut count = 0;
            for _ in 0..READS {
                let batch = log.read(&[topic], black_box(after), usize::MAX).await;
                let batch = batch.expect("the position is in the log");
                let slices: Vec<BlockSlice> = (batch.blocks.iter())
                    .filter_map(|block| block.slice_after(after, usize::MAX, usize::MAX))
                    .collect();
                count += black_box(slices).iter().map(|s| s.count).sum::<u32>();
            }
            count
        })
    };
    let queue: VecDeque<Vec<u8>> = {
        let all = events.iter().cycle().take(RING_BLOCKS * RING_BLOCK_EVENTS);
        all.map(|event| event.to_vec()).collect()
    };
    let queue = Mutex::new(queue);
    let singly = move || {
        let mut count = 0;
        for _ in 0..READS {
            let queue = black_box(&queue).lock().expect("no holder panics");
            let from = queue.len() - RING_READ_BLOCKS * RING_BLOCK_EVENTS;
            let newest: Vec<Vec<u8>> = queue.range(from..).cloned().collect();
            drop(queue);
            count += black_box(&newest).len() as u32;
        }
        count
    };
    assert_eq!(newest(), singly());
    let case = Case::new("read of 256", READS, newest);
    case.against("a queue of events, cloned singly", singly)
}

/// A log in which topics take turns, and the position that the newest blocks of one lie after.
async fn log_with_topics(events: &[Bytes]) -> (Arc<dyn TenantLog>, Position) {
    const NOT_CLOSED: &str = "the log is not closed";
    let log = MemoryLog::new(Config::default(), Arc::new(SystemClock));
    let log = log.open(TenantId::from_random([1; 12])).await;
    let log = log.expect(NOT_CLOSED);
    let mut heads = Vec::new();
    for _ in 0..RING_BLOCKS {
        heads.push(log.state().head);
        for number in 0..RING_TOPICS {
            let body = load::body(&load::topic(number), events);
            let appending = log.append(vec![body]).await.expect(NOT_CLOSED);
            appending.await.expect(NOT_CLOSED);
        }
    }
    (log, heads[RING_BLOCKS - RING_READ_BLOCKS])
}

/// The part of a block that a subscriber has credit for. It is shared and not copied; that is done
/// once, by the response.
pub(crate) fn slice() -> Case {
    let block = load::block(&load::encoded_events(BLOCK_EVENTS_MAX));
    let after = Position::new(load::first_position().get() + SLICE_FROM as u64 - 1);
    let after = after.expect("the block has so many events");
    let entries: Vec<Bytes> = {
        let entry = |(position, event): (Position, &[u8])| {
            let event = Message::decode(event).expect(WHOLE);
            Bytes::from(load::delivered(event, position).encode_to_vec())
        };
        block.events().map(entry).collect()
    };
    let own = move || {
        let slice = black_box(&block).slice_after(black_box(after), SLICE_EVENTS, usize::MAX);
        slice
            .expect("the block has events after the position")
            .bytes
    };
    let room = own().len();
    let singly = move || {
        let mut bytes = BytesMut::with_capacity(room);
        for entry in &entries[SLICE_FROM..SLICE_FROM + SLICE_EVENTS] {
            let event = ConsumerEvent::decode(black_box(entry.clone())).expect(WHOLE);
            encoding::message::encode(1, &event, &mut bytes);
        }
        bytes.freeze()
    };
    assert_eq!(own(), singly());
    let case = Case::new("slice of 100", 1, own);
    case.against("prost, decode and encode", singly)
}

/// Credit for events asked for and delivered.
pub(crate) fn credit() -> Case {
    let mut credit = Credit::with_ceiling(3_000);
    Case::new("grant, spend", 1, move || {
        let total = credit.grant(black_box(100)).expect("it is more than none");
        credit.spend(black_box(100));
        total
    })
}

const WHOLE: &str = "the event is whole";
const SLICE_FROM: usize = 50;
const SLICE_EVENTS: usize = 100;
const RING_TOPICS: u32 = 8;
/// Blocks of each topic, events of each, and how many of the newest are read.
const RING_BLOCKS: usize = 16;
const RING_BLOCK_EVENTS: usize = 64;
const RING_READ_BLOCKS: usize = 4;
const READS: usize = 16;
