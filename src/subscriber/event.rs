//! A delivered event: what it says, and the receipt by which it is told to be handled.

use std::{fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use prost::{Message, encoding::decode_varint};
use serde::de::DeserializeOwned;

use super::{OpaqueReplayId, lane::Receipt, schemas::Found};
use crate::{
    proto::ConsumerEvent,
    schema::{
        PayloadError, Schema,
        value::{DeserializeError, Value},
    },
    types::{TopicKind, TopicName},
};

/// An event that was delivered and waits to be handled.
///
/// It is in flight until [`Self::done`] is called, and no checkpoint passes it before. One that is
/// dropped without that is not handled: the checkpoint stays before it, and the next run of the
/// subscriber gets it again.
#[must_use = "an event that is dropped without `done` comes again with the next run"]
#[derive(Debug)]
pub struct Delivery {
    pub(super) event: Event,
    pub(super) receipt: Receipt,
}

impl Delivery {
    /// Tells that the event is handled. It leaves the events in flight, and the next checkpoint may
    /// pass it.
    pub fn done(self) {
        self.receipt.done(&self.event);
    }
}

impl Deref for Delivery {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// What an event says.
///
/// The event stays as it came, and it is known where its parts lie: a subscriber that catches up reads
/// millions of them, and mostly needs one field.
pub struct Event {
    /// An encoded `ConsumerEvent`, each of whose fields is there once.
    encoded: Bytes,
    context: Arc<Context>,
    replay_id: Span,
    id: Span,
    schema_id: Span,
    payload: Span,
}

/// What events of one schema on one subscription have in common.
pub(super) struct Context {
    pub(super) subscribed: TopicName,
    pub(super) schema: Found,
}

/// A part of an encoded event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

/// An event whose schema is not known yet.
pub(super) struct Unread {
    encoded: Bytes,
    replay_id: Span,
    id: Span,
    schema_id: Span,
    payload: Span,
}

impl Unread {
    /// Reads an event.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong, if it is none.
    pub(super) fn decode(encoded: Bytes) -> Result<Self, String> {
        if let Some(parts) = Parts::find(&encoded) {
            return Self::of(encoded, parts);
        }
        // Unusual, such as a field that comes twice: the library knows what that means, and writes it
        // as usual.
        let event = ConsumerEvent::decode(encoded)
            .map_err(|error| format!("it sent an event that is malformed: {error}"))?;
        let encoded = Bytes::from(event.encode_to_vec());
        let parts = Parts::find(&encoded);
        let parts = parts.ok_or("it sent an event that is too large")?;
        Self::of(encoded, parts)
    }

    fn of(encoded: Bytes, parts: Parts) -> Result<Self, String> {
        OpaqueReplayId::new(parts.replay_id.of(&encoded))
            .map_err(|error| format!("it sent an event with an odd replay id: {error}"))?;
        if std::str::from_utf8(parts.id.of(&encoded)).is_err() {
            return Err("it sent an event that is malformed: its id is not UTF-8".into());
        }
        Ok(Self {
            encoded,
            replay_id: parts.replay_id,
            id: parts.id,
            schema_id: parts.schema_id,
            payload: parts.payload,
        })
    }

    /// Whether it was written with the schema of this id.
    pub(super) fn has_schema(&self, id: &str) -> bool {
        self.schema_id.of(&self.encoded) == id.as_bytes()
    }

    /// The id of the schema it was written with.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong, if it is no text.
    pub(super) fn schema_id(&self) -> Result<&str, String> {
        std::str::from_utf8(self.schema_id.of(&self.encoded))
            .map_err(|_| "it sent an event that is malformed: its schema id is not UTF-8".into())
    }

    /// The same event with its schema.
    pub(super) fn with(self, context: Arc<Context>) -> Event {
        Event {
            encoded: self.encoded,
            context,
            replay_id: self.replay_id,
            id: self.id,
            schema_id: self.schema_id,
            payload: self.payload,
        }
    }
}

/// Where the parts of an encoded `ConsumerEvent` lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    replay_id: Span,
    id: Span,
    schema_id: Span,
    payload: Span,
}

/// Numbers of fields, in `ConsumerEvent` and `ProducerEvent`.
const EVENT: u64 = 1;
const REPLAY_ID: u64 = 2;
const ID: u64 = 1;
const SCHEMA_ID: u64 = 2;
const PAYLOAD: u64 = 3;

impl Parts {
    /// Finds the parts of an event that is written as usual; `None` if it is not, or is none.
    fn find(encoded: &[u8]) -> Option<Self> {
        let whole = Span {
            start: 0,
            len: u32::try_from(encoded.len()).ok()?,
        };
        let [event, replay_id] = fields(encoded, whole, [EVENT, REPLAY_ID])?;
        let [id, schema_id, payload] = match event {
            Some(event) => fields(encoded, event, [ID, SCHEMA_ID, PAYLOAD])?,
            None => [None; 3],
        };
        Some(Self {
            replay_id: replay_id.unwrap_or_default(),
            id: id.unwrap_or_default(),
            schema_id: schema_id.unwrap_or_default(),
            payload: payload.unwrap_or_default(),
        })
    }
}

/// The values of length-delimited fields of the message that lies `within`; `None` if one comes twice,
/// or anything is not as it should be.
fn fields<const N: usize>(
    encoded: &[u8],
    within: Span,
    wanted: [u64; N],
) -> Option<[Option<Span>; N]> {
    const LENGTH_DELIMITED: u64 = 2;
    let mut found = [None; N];
    let bytes = within.of(encoded);
    let mut rest = bytes;
    while !rest.is_empty() {
        let key = decode_varint(&mut rest).ok()?;
        let (number, wire_type) = (key >> 3, key & 7);
        let index = wanted.iter().position(|&wanted| wanted == number);
        if wire_type != LENGTH_DELIMITED {
            let skipped = match wire_type {
                0 => {
                    decode_varint(&mut rest).ok()?;
                    0
                }
                1 => 8,
                5 => 4,
                _ => return None,
            };
            if index.is_some() {
                return None;
            }
            rest = rest.get(skipped..)?;
            continue;
        }
        let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let start = within.start as usize + (bytes.len() - rest.len());
        rest = rest.get(len..)?;
        if let Some(index) = index {
            let span = Span {
                start: start as u32,
                len: len as u32,
            };
            if found[index].replace(span).is_some() {
                return None;
            }
        }
    }
    Some(found)
}

impl Span {
    fn of(self, encoded: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &encoded[start..start + self.len as usize]
    }

    /// Text that was found to be some when the event was read.
    fn text(self, encoded: &[u8]) -> &str {
        std::str::from_utf8(self.of(encoded)).unwrap_or_default()
    }
}

impl Event {
    /// Where the event stands. Opaque: to be kept and sent back as it is.
    pub fn replay_id(&self) -> OpaqueReplayId {
        let bytes = self.replay_id.of(&self.encoded);
        OpaqueReplayId::new(bytes).expect("its length was looked at when the event was read")
    }

    /// What its publisher named it; empty if it has no id. An event that is published again after a
    /// failure has the same id and another replay id.
    pub fn id(&self) -> &str {
        self.id.text(&self.encoded)
    }

    /// The id of the schema it was written with.
    pub fn schema_id(&self) -> &str {
        self.schema_id.text(&self.encoded)
    }

    /// The topic it belongs to. A channel carries the events of several, which only their schemas tell
    /// apart.
    pub fn topic(&self) -> TopicName {
        let subscribed = &self.context.subscribed;
        match (subscribed.kind(), &self.context.schema) {
            (TopicKind::Channel, Ok(schema)) => {
                let topic = TopicName::for_record(schema.record_name());
                topic.unwrap_or_else(|_| subscribed.clone())
            }
            _ => subscribed.clone(),
        }
    }

    /// The topic or channel that was subscribed to.
    pub fn subscribed_topic(&self) -> &TopicName {
        &self.context.subscribed
    }

    /// The payload: one bare Avro record.
    pub fn payload(&self) -> &[u8] {
        self.payload.of(&self.encoded)
    }

    /// The headers that its publisher gave it, in their order.
    pub fn headers(&self) -> Vec<(String, Bytes)> {
        // Few events have some, so they are not looked for before somebody asks.
        let event = ConsumerEvent::decode(self.encoded.clone()).unwrap_or_default();
        let headers = event.event.unwrap_or_default().headers.into_iter();
        headers.map(|header| (header.key, header.value)).collect()
    }

    /// The event as it came: an encoded `ConsumerEvent`.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The schema it was written with.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Schema`] if it cannot be had or is not usable.
    pub fn schema(&self) -> Result<&Schema, DecodeError> {
        let schema = self.context.schema.as_ref();
        schema.map_err(|reason| DecodeError::Schema(Arc::clone(reason)))
    }

    /// Checks that the payload is what its schema says.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; it is this event's alone.
    pub fn validate(&self) -> Result<(), DecodeError> {
        Ok(self.schema()?.validate(self.payload())?)
    }

    /// The payload in the [JSON form](crate::schema::json) for people.
    ///
    /// # Errors
    ///
    /// Those of [`Self::validate`].
    pub fn json(&self) -> Result<serde_json::Value, DecodeError> {
        Ok(self.schema()?.to_json(self.payload())?)
    }

    /// The payload as a value of its own types.
    ///
    /// # Errors
    ///
    /// Those of [`Self::validate`].
    pub fn value(&self) -> Result<Value, DecodeError> {
        Ok(self.schema()?.to_value(self.payload())?)
    }

    /// The payload read into a type, as [`Value::read`] does.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; it is this event's alone.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        Ok(self.value()?.read()?)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the payload, which is nobody's to read in a log.
        f.debug_struct("Event")
            .field("topic", &self.topic())
            .field("replay_id", &self.replay_id())
            .field("id", &self.id())
            .field("schema_id", &self.schema_id())
            .field("payload_bytes", &self.payload.len)
            .finish_non_exhaustive()
    }
}

/// Why an event says nothing that can be read. Other events are not affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The schema that it was written with cannot be had, or is none.
    #[error("{0}")]
    Schema(Arc<str>),
    /// The payload is not what the schema says.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The type that it was to be read into is not one that such payloads fit into.
    #[error(transparent)]
    Type(#[from] DeserializeError),
    /// It begins with the header of a change event, which is not what such a header is.
    #[error("{0}")]
    Change(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{EventHeader, ProducerEvent};

    fn event() -> ConsumerEvent {
        ConsumerEvent {
            event: Some(ProducerEvent {
                id: "e-1".into(),
                schema_id: "schema".into(),
                payload: vec![1, 2, 3].into(),
                headers: vec![EventHeader {
                    key: "trace".into(),
                    value: vec![9].into(),
                }],
            }),
            replay_id: vec![7; 10].into(),
        }
    }

    fn read(encoded: Vec<u8>) -> Event {
        let context = Context {
            subscribed: "/event/A__e".parse().unwrap(),
            schema: Err("none".into()),
        };
        let unread = Unread::decode(encoded.into()).unwrap();
        unread.with(Arc::new(context))
    }

    #[test]
    fn the_parts_of_an_event_are_where_they_are() {
        let event = read(event().encode_to_vec());
        assert_eq!((event.id(), event.schema_id()), ("e-1", "schema"));
        assert_eq!(event.payload(), [1, 2, 3]);
        assert_eq!(event.replay_id().as_bytes(), [7; 10]);
        assert_eq!(event.headers(), [("trace".to_owned(), vec![9].into())]);
    }

    #[test]
    fn an_event_that_is_written_in_two_parts_is_one() {
        // The second says what the first does not, and one thing again.
        let first = ConsumerEvent {
            event: Some(ProducerEvent {
                id: "old".into(),
                payload: vec![1, 2, 3].into(),
                ..ProducerEvent::default()
            }),
            ..ConsumerEvent::default()
        };
        let second = ConsumerEvent {
            event: Some(ProducerEvent {
                id: "new".into(),
                ..ProducerEvent::default()
            }),
            replay_id: vec![7; 10].into(),
        };
        let event = read([first.encode_to_vec(), second.encode_to_vec()].concat());
        assert_eq!((event.id(), event.payload()), ("new", &[1, 2, 3][..]));
    }

    proptest! {
        #[test]
        fn whatever_is_found_is_what_the_library_finds(
            mut encoded in proptest::collection::vec(any::<u8>(), 0..60),
            is_event in any::<bool>(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            if is_event {
                encoded = event().encode_to_vec();
                let at = at.index(encoded.len());
                encoded[at] = byte;
            }
            let wanted = ConsumerEvent::decode(&encoded[..]);
            match (Unread::decode(encoded.clone().into()), wanted) {
                (Ok(found), Ok(wanted)) => {
                    let event = wanted.event.unwrap_or_default();
                    prop_assert_eq!(found.schema_id().unwrap(), event.schema_id);
                    prop_assert_eq!(found.id.text(&found.encoded), event.id);
                    prop_assert_eq!(found.payload.of(&found.encoded), &event.payload[..]);
                    prop_assert_eq!(found.replay_id.of(&found.encoded), &wanted.replay_id[..]);
                }
                // What is not looked at may be wrong.
                (Ok(_), Err(_)) => {}
                (Err(_), Ok(wanted)) => prop_assert!(!(8..=31).contains(&wanted.replay_id.len())),
                (Err(_), Err(_)) => {}
            }
        }
    }
}
