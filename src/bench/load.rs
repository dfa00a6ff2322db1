//! What is published: events of one schema, all alike but for the time they were due at.

use prost::Message;
use serde_json::json;

use crate::{
    proto::{
        ConsumerEvent, ProducerEvent,
        raw::{PublishRequest, Repeated, WireMessage},
    },
    schema::{Fill, Schema},
    types::limits::{EVENT_BYTES_MAX, REQUEST_BYTES_MAX},
};

/// The name of the load's topic with this number.
pub fn topic(number: usize) -> String {
    format!("/event/{}", record(number))
}

/// The schema of the load's topic with this number: ten fields, as an order may have them.
pub fn schema(number: usize) -> String {
    FIELDS.replacen("RECORD", &record(number), 1)
}

fn record(number: usize) -> String {
    match number {
        0 => "TidegateBench__e".into(),
        number => format!("TidegateBench{number}__e"),
    }
}

const FIELDS: &str = r#"{"type":"record","name":"RECORD","namespace":"com.sforce.eventbus","fields":[
 {"name":"CreatedDate","type":"long"},{"name":"CreatedById","type":"string"},
 {"name":"Due__c","type":["null","double"],"default":null},
 {"name":"Amount__c","type":["null","double"],"default":null},
 {"name":"Paid__c","type":["null","boolean"],"default":null},
 {"name":"Quantity__c","type":["null","double"],"default":null},
 {"name":"Order__c","type":["null","string"],"default":null},
 {"name":"Customer__c","type":["null","string"],"default":null},
 {"name":"Street__c","type":["null","string"],"default":null},
 {"name":"City__c","type":["null","string"],"default":null}]}"#;

/// Payload of an event if nothing else is asked for.
pub const PAYLOAD_BYTES_DEFAULT: usize = 200;

/// How much is published, and in what portions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishLoad {
    /// Events of one run; a whole number of batches is made of them, rounded up.
    pub events: u64,
    /// Bytes of one payload, as near as the encoding allows, never more.
    pub payload_bytes: usize,
    /// Events of one request.
    pub batch: usize,
    /// Publish streams at the same time; at least one for each topic.
    pub streams: usize,
    /// Topics that the streams take in turn.
    pub topics: usize,
}

impl PublishLoad {
    /// Requests of one run.
    pub(super) fn requests(&self) -> u64 {
        self.events.div_ceil(self.batch as u64)
    }

    /// Events that these requests have.
    pub fn events_sent(&self) -> u64 {
        self.requests() * self.batch as u64
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.max(self.topics).max(1)
    }

    pub(super) fn topic_of(&self, stream: usize) -> usize {
        stream % self.topics.max(1)
    }

    /// Requests of one stream: the first ones take what does not divide.
    pub(super) fn requests_of(&self, stream: usize) -> u64 {
        let streams = self.streams() as u64;
        (self.requests() + streams - 1 - stream as u64) / streams
    }

    /// Events of one topic.
    pub(super) fn events_of_topic(&self, topic: usize) -> u64 {
        let streams = (0..self.streams()).filter(|&stream| self.topic_of(stream) == topic);
        let requests: u64 = streams.map(|stream| self.requests_of(stream)).sum();
        requests * self.batch as u64
    }
}

/// Why a load cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The fields take more bytes even when they are empty.
    #[error("a payload of the load has at least {min} bytes, not {found}")]
    PayloadTooSmall {
        /// Asked for.
        found: usize,
        /// The smallest.
        min: usize,
    },
    /// No gateway takes such an event.
    #[error("a payload of the load has at most {PAYLOAD_BYTES_MAX} bytes, not {found}")]
    PayloadTooLarge {
        /// Asked for.
        found: usize,
    },
    /// The gateway would have nothing to say for longer than the bench waits for it.
    #[error("a request is due each {found_s} s; the bench waits for at most {max_s} s")]
    TooSlow {
        /// As the load has it.
        found_s: u64,
        /// The longest.
        max_s: u64,
    },
    /// No gateway takes such a request.
    #[error(
        "a request has at most {REQUEST_BYTES_MAX} bytes; a batch of {batch} such events has {found}"
    )]
    BatchTooLarge {
        /// Events asked for.
        batch: usize,
        /// Their bytes.
        found: usize,
    },
}

/// Makes requests: one event, again and again.
#[derive(Clone, Debug)]
pub(super) struct EventTemplate {
    topic: String,
    /// An encoded `ProducerEvent`.
    event: Vec<u8>,
    /// Where in it the eight bytes of the due time are.
    due_at: usize,
    /// Where in the payload they are.
    due_at_in_payload: usize,
    payload: Vec<u8>,
}

impl EventTemplate {
    /// Events of the load's topic with this number.
    pub(super) fn new(number: usize, payload_bytes: usize) -> Result<Self, LoadError> {
        let schema = Schema::parse(&schema(number)).expect("the schema of the load is one");
        let min = payload(&schema, 0).len();
        if payload_bytes < min {
            return Err(LoadError::PayloadTooSmall {
                found: payload_bytes,
                min,
            });
        }
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(LoadError::PayloadTooLarge {
                found: payload_bytes,
            });
        }
        // Longer texts have longer lengths before them: a few bytes less until it fits.
        let fitting = (0..=payload_bytes - min)
            .rev()
            .map(|text| payload(&schema, text));
        let payload = fitting
            .take(1 + TEXT_FIELDS * LENGTH_BYTES_MAX)
            .find(|payload| payload.len() <= payload_bytes)
            .expect("empty texts fit, and each field's length takes so many bytes at most");
        let due_at_in_payload = find(&payload, &DUE_MARK.to_le_bytes());
        let event = ProducerEvent {
            id: "00000000-0000-4000-8000-000000000000".into(),
            schema_id: schema.id().to_string(),
            payload: payload.clone().into(),
            ..Default::default()
        };
        let event = event.encode_to_vec();
        Ok(Self {
            topic: topic(number),
            due_at: find(&event, &DUE_MARK.to_le_bytes()),
            due_at_in_payload,
            payload,
            event,
        })
    }

    /// A request of `batch` events that are due `due` seconds after some moment.
    pub(super) fn request(&self, batch: usize, due: f64) -> Result<PublishRequest, LoadError> {
        self.request_ending(batch, due, due)
    }

    /// The same, but that the last event is due at another time.
    pub(super) fn request_ending(
        &self,
        batch: usize,
        due: f64,
        last_due: f64,
    ) -> Result<PublishRequest, LoadError> {
        let event_due = |due: f64| {
            let mut event = self.event.clone();
            event[self.due_at..self.due_at + 8].copy_from_slice(&due.to_le_bytes());
            event
        };
        let mut events = vec![event_due(due); batch];
        if let Some(last) = events.last_mut() {
            *last = event_due(last_due);
        }
        let events = PublishRequest {
            events: Repeated::of(events),
            ..PublishRequest::default()
        };
        // A message of nothing but its events is the fields that they are: what is sent again and
        // again is not encoded again each time.
        let request = PublishRequest {
            topic_name: self.topic.clone(),
            events: Repeated::Fields(vec![events.to_bytes()]),
            ..PublishRequest::default()
        };
        let found = request.wire_len();
        if found > REQUEST_BYTES_MAX {
            return Err(LoadError::BatchTooLarge { batch, found });
        }
        Ok(request)
    }

    /// The payload of each event, but for the time it is due at.
    pub(super) fn payload(&self) -> Vec<u8> {
        self.payload.clone()
    }

    /// When an event that arrived was due; `None` if it is none of these.
    pub(super) fn due(&self, event: &[u8]) -> Option<f64> {
        let event = ConsumerEvent::decode(event).ok()?.event?;
        if event.payload.len() != self.payload.len() {
            return None;
        }
        let due = event.payload.get(self.due_at_in_payload..)?.first_chunk()?;
        Some(f64::from_le_bytes(*due))
    }
}

/// A payload with so many characters of text in its four text fields together.
fn payload(schema: &Schema, text: usize) -> Vec<u8> {
    let part = |field: usize| "x".repeat((text + field) / TEXT_FIELDS);
    let json = json!({
        "Due__c": DUE_MARK, "Amount__c": 42.5, "Paid__c": true, "Quantity__c": 12.0,
        "Order__c": part(0), "Customer__c": part(1), "Street__c": part(2), "City__c": part(3),
    });
    let fill = Fill {
        created_date_ms: 1_700_000_000_000,
        created_by_id: "005000000000001AAA",
    };
    let payload = schema.encode_json(&json, &fill);
    payload.expect("the fields are those of the schema")
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    let mut windows = bytes.windows(part.len());
    windows
        .position(|window| window == part)
        .expect("the mark is in what was made of it")
}

/// A time whose bytes stand nowhere else in an event.
const DUE_MARK: f64 = -1.234_567_89e-101;
/// An event has this much room besides its id, the schema's, and the lengths of the three.
const PAYLOAD_BYTES_MAX: usize = EVENT_BYTES_MAX - 100;
const TEXT_FIELDS: usize = 4;
/// Bytes that the length of a text takes at most: one of an event has fewer than 2^21.
const LENGTH_BYTES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn payloads_have_the_size_that_is_asked_for() {
        for bytes in [100, 200, 317, 600, 5_000, 66_000, 1_000_000] {
            let template = EventTemplate::new(0, bytes).unwrap();
            assert!(
                (bytes - 3..=bytes).contains(&template.payload.len()),
                "{bytes}: {}",
                template.payload.len()
            );
        }
    }

    #[test]
    fn a_load_that_no_gateway_takes_is_refused_with_the_bound() {
        let refused = |bytes| EventTemplate::new(0, bytes).unwrap_err();
        let min = match refused(10) {
            LoadError::PayloadTooSmall { found: 10, min } => min,
            other => panic!("{other}"),
        };
        assert!(EventTemplate::new(0, min).is_ok());
        assert_eq!(
            refused(EVENT_BYTES_MAX),
            LoadError::PayloadTooLarge {
                found: EVENT_BYTES_MAX
            }
        );
        let largest = EventTemplate::new(0, PAYLOAD_BYTES_MAX).unwrap();
        assert!(largest.event.len() <= EVENT_BYTES_MAX);
        let large = EventTemplate::new(0, 500_000).unwrap();
        assert!(large.request(8, 0.0).is_ok());
        let refused = large.request(9, 0.0).unwrap_err();
        assert!(matches!(refused, LoadError::BatchTooLarge { batch: 9, .. }));
    }

    #[test]
    fn an_event_tells_when_it_was_due() {
        let template = EventTemplate::new(0, 200).unwrap();
        let request = template.request(3, 12.5).unwrap();
        let request = PublishRequest::read(request.to_bytes()).unwrap();
        assert_eq!(request.topic_name, topic(0));
        assert_eq!(request.events.values().len(), 3);
        let sent = ProducerEvent::decode(request.events.values().iter().nth(2).unwrap()).unwrap();
        let arrived = |sent: ProducerEvent| {
            let event = ConsumerEvent {
                event: Some(sent),
                ..Default::default()
            };
            template.due(&event.encode_to_vec())
        };
        assert_eq!(arrived(sent.clone()), Some(12.5));
        let schema = Schema::parse(&schema(0)).unwrap();
        assert_eq!(schema.to_json(&sent.payload).unwrap()["Due__c"], 12.5);
        let other = ProducerEvent {
            payload: Bytes::from_static(b"something else"),
            ..sent
        };
        assert_eq!(arrived(other), None);
    }

    #[test]
    fn every_request_has_a_stream_and_every_stream_a_topic() {
        let load = PublishLoad {
            events: 1_995,
            payload_bytes: PAYLOAD_BYTES_DEFAULT,
            batch: 10,
            streams: 2,
            topics: 7,
        };
        assert_eq!((load.streams(), load.events_sent()), (7, 2_000));
        let of_streams: u64 = (0..7).map(|stream| load.requests_of(stream)).sum();
        assert_eq!(of_streams, 200);
        let of_topics = (0..7).map(|topic| load.events_of_topic(topic));
        assert_eq!(
            of_topics.collect::<Vec<_>>(),
            [290, 290, 290, 290, 280, 280, 280]
        );
        let shared = PublishLoad { streams: 9, ..load };
        let topics: Vec<_> = (0..9).map(|stream| shared.topic_of(stream)).collect();
        assert_eq!(topics, [0, 1, 2, 3, 4, 5, 6, 0, 1]);
        let of_topics: u64 = (0..7).map(|topic| shared.events_of_topic(topic)).sum();
        assert_eq!(of_topics, 2_000);
    }
}
