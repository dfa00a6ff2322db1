//! A delivered event: what it says, and the receipt by which it is told to be handled.

use std::{fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use prost::Message;
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
        self.receipt.done(self.event.id);
    }
}

impl Deref for Delivery {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// What an event says.
pub struct Event {
    subscribed: TopicName,
    replay_id: OpaqueReplayId,
    encoded: Bytes,
    id: String,
    schema_id: String,
    payload: Bytes,
    headers: Vec<(String, Bytes)>,
    schema: Found,
}

impl Event {
    /// Reads an event of a topic or channel, whose schema is not known yet.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong, if it is none.
    pub(super) fn decode(subscribed: &TopicName, encoded: Bytes) -> Result<Self, String> {
        let event = ConsumerEvent::decode(encoded.clone())
            .map_err(|error| format!("it sent an event that is malformed: {error}"))?;
        let replay_id = OpaqueReplayId::new(&event.replay_id)
            .map_err(|error| format!("it sent an event with an odd replay id: {error}"))?;
        let event = event.event.unwrap_or_default();
        let headers = event.headers.into_iter();
        Ok(Self {
            subscribed: subscribed.clone(),
            replay_id,
            encoded,
            id: event.id,
            schema_id: event.schema_id,
            payload: event.payload,
            headers: headers.map(|header| (header.key, header.value)).collect(),
            schema: Err("its schema was not asked for".into()),
        })
    }

    /// The same event with its schema.
    pub(super) fn with_schema(self, schema: Found) -> Self {
        Self { schema, ..self }
    }

    /// Where the event stands. Opaque: to be kept and sent back as it is.
    pub fn replay_id(&self) -> OpaqueReplayId {
        self.replay_id
    }

    /// What its publisher named it; empty if it has no id. An event that is published again after a
    /// failure has the same id and another replay id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id of the schema it was written with.
    pub fn schema_id(&self) -> &str {
        &self.schema_id
    }

    /// The topic it belongs to. A channel carries the events of several, which only their schemas tell
    /// apart.
    pub fn topic(&self) -> TopicName {
        match (self.subscribed.kind(), &self.schema) {
            (TopicKind::Channel, Ok(schema)) => {
                let topic = TopicName::for_record(schema.record_name());
                topic.unwrap_or_else(|_| self.subscribed.clone())
            }
            _ => self.subscribed.clone(),
        }
    }

    /// The topic or channel that was subscribed to.
    pub fn subscribed_topic(&self) -> &TopicName {
        &self.subscribed
    }

    /// The payload: one bare Avro record.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The headers that its publisher gave it, in their order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        let headers = self.headers.iter();
        headers.map(|(key, value)| (key.as_str(), &value[..]))
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
        let schema = self.schema.as_ref();
        schema.map_err(|reason| DecodeError::Schema(Arc::clone(reason)))
    }

    /// Checks that the payload is what its schema says.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; it is this event's alone.
    pub fn validate(&self) -> Result<(), DecodeError> {
        Ok(self.schema()?.validate(&self.payload)?)
    }

    /// The payload in the [JSON form](crate::schema::json) for people.
    ///
    /// # Errors
    ///
    /// Those of [`Self::validate`].
    pub fn json(&self) -> Result<serde_json::Value, DecodeError> {
        Ok(self.schema()?.to_json(&self.payload)?)
    }

    /// The payload as a value of its own types.
    ///
    /// # Errors
    ///
    /// Those of [`Self::validate`].
    pub fn value(&self) -> Result<Value, DecodeError> {
        Ok(self.schema()?.to_value(&self.payload)?)
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
            .field("replay_id", &self.replay_id)
            .field("id", &self.id)
            .field("schema_id", &self.schema_id)
            .field("payload_bytes", &self.payload.len())
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
