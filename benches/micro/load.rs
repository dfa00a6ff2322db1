//! What the cases are measured with: events of the schema of `tidegate bench`, with payloads of 190
//! bytes on average.
//!
//! Their texts differ in length, as in life: of events that are all alike the processor would
//! foresee every branch.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use serde_json::json;
use tidegate::{
    bench,
    clock::Timestamp,
    event_log::{Block, BlockBody, LogTopic},
    proto::{ConsumerEvent, ProducerEvent},
    schema::{Fill, Schema},
    types::{Position, TopicId},
};

pub(crate) fn schema() -> Schema {
    Schema::parse(&bench::schema(0)).expect("the schema of the load is one")
}

/// The payload of each of `count` events.
pub(crate) fn payloads(count: usize) -> Vec<Vec<u8>> {
    let schema = schema();
    (0..count).map(|number| payload(&schema, number)).collect()
}

/// `count` events as publishers send them.
pub(crate) fn events(count: usize) -> Vec<ProducerEvent> {
    let schema_id = schema().id().to_string();
    let event = |(number, payload): (usize, Vec<u8>)| ProducerEvent {
        id: format!("00000000-0000-4000-8000-{number:012}"),
        schema_id: schema_id.clone(),
        payload: payload.into(),
        ..Default::default()
    };
    payloads(count).into_iter().enumerate().map(event).collect()
}

/// The same, encoded.
pub(crate) fn encoded_events(count: usize) -> Vec<Bytes> {
    let events = events(count);
    events.iter().map(|e| e.encode_to_vec().into()).collect()
}

pub(crate) fn topic(number: u32) -> Arc<LogTopic> {
    Arc::new(LogTopic {
        id: TopicId::new(number),
        name: bench::topic(0)
            .parse()
            .expect("the topic of the load is one"),
    })
}

/// The events, laid out; they fit in one body.
pub(crate) fn body(topic: &Arc<LogTopic>, events: &[Bytes]) -> BlockBody {
    let mut body = BlockBody::with_capacity(Arc::clone(topic), laid_out_len(events));
    for event in events {
        assert!(body.push(event, None), "a body has room for all events");
    }
    body
}

/// The events in a block, from [`first_position`] on.
pub(crate) fn block(events: &[Bytes]) -> Block {
    body(&topic(1), events).seal(first_position(), 0, Timestamp::default())
}

/// An event as a subscriber gets it.
pub(crate) fn delivered(event: ProducerEvent, position: Position) -> ConsumerEvent {
    ConsumerEvent {
        event: Some(event),
        replay_id: Bytes::copy_from_slice(position.replay_id().as_bytes()),
    }
}

pub(crate) fn first_position() -> Position {
    Position::in_block(7, 0).expect("the block exists")
}

/// Room for the events when they are laid out: each gets two tags with lengths, and a replay id.
pub(crate) fn laid_out_len(events: &[Bytes]) -> usize {
    events.iter().map(|event| event.len() + 20).sum()
}

fn payload(schema: &Schema, number: usize) -> Vec<u8> {
    const CHARACTERS: &str = "Of all that is said of tides the least is said by the sea itself";
    // The factors have no divisor in common with the number of lengths, so that all of them occur.
    let text = |field: usize| &CHARACTERS[..8 + (number * 31 + field * 17) % 49];
    let json = json!({
        "Due__c": number as f64 / 8.0, "Amount__c": 42.5, "Paid__c": true, "Quantity__c": 12.0,
        "Order__c": text(0), "Customer__c": text(1), "Street__c": text(2), "City__c": text(3),
    });
    let fill = Fill {
        created_date_ms: 1_700_000_000_000 + number as i64,
        created_by_id: "005000000000001AAA",
    };
    let payload = schema.encode_json(&json, &fill);
    payload.expect("the fields are those of the schema")
}
