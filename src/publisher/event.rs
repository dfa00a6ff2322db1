//! What is published: one event, and its bytes.
//!
//! Source: `proto/pubsub_api.proto`, `message ProducerEvent`.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::encoding::{self, WireType};
use serde::Serialize;
use serde_json::Value;

use super::{error::EventError, ids::IdSource, topic::TopicSchema};
use crate::{
    proto::EventHeader,
    schema::Fill,
    types::limits::{EVENT_BYTES_MAX, EVENT_ID_CHARS_MAX},
};

/// An event that is to be published.
#[derive(Clone, Debug)]
pub struct Event {
    content: Content,
    id: Option<String>,
    headers: Vec<EventHeader>,
}

#[derive(Clone, Debug)]
enum Content {
    Json(Value),
    Avro { schema_id: Arc<str>, payload: Bytes },
}

impl Event {
    /// The event that says what `json` says, by the topic's current schema. Nullable fields may be
    /// left out; `CreatedDate` and `CreatedById` are filled in.
    pub fn json(json: Value) -> Self {
        Self::with_content(Content::Json(json))
    }

    /// The event with the fields of `value`, as it is written in JSON.
    ///
    /// # Errors
    ///
    /// [`EventError::NotJson`] for what has no form in JSON, such as a map whose keys are no text.
    pub fn of(value: &impl Serialize) -> Result<Self, EventError> {
        let json = serde_json::to_value(value);
        Ok(Self::json(
            json.map_err(|error| EventError::NotJson(error.to_string()))?,
        ))
    }

    /// The event with this Avro record, sent as it is: the gateway checks it against the schema.
    pub fn avro(schema_id: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self::with_content(Content::Avro {
            schema_id: schema_id.into(),
            payload: payload.into(),
        })
    }

    fn with_content(content: Content) -> Self {
        Self {
            content,
            id: None,
            headers: Vec::new(),
        }
    }

    /// Gives the event an id of at most 36 characters, by which subscribers tell it from others.
    /// Without one it gets a new UUID.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The id of the schema and the record, of an event that was made of them.
    pub fn record(&self) -> Option<(&str, &Bytes)> {
        match &self.content {
            Content::Avro { schema_id, payload } => Some((schema_id, payload)),
            Content::Json(_) => None,
        }
    }

    /// The id that it was given.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Adds a header.
    pub fn with_header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(EventHeader {
            key: key.into(),
            value: value.into(),
        });
        self
    }

    /// Whether the topic's schema has to be known to send it.
    pub(super) fn needs_schema(&self) -> bool {
        matches!(self.content, Content::Json(_))
    }
}

/// An event whose bytes are known but for their encoding.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) id: String,
    schema_id: Arc<str>,
    payload: Bytes,
    headers: Vec<EventHeader>,
    len: usize,
}

impl Ready {
    /// Makes an event ready. `schema` is asked for only if the event needs one.
    pub(super) fn new(
        event: Event,
        schema: Option<&TopicSchema>,
        fill: &Fill<'_>,
        ids: &IdSource,
    ) -> Result<Self, EventError> {
        let (schema_id, payload) = match (event.content, schema) {
            (Content::Avro { schema_id, payload }, _) => (schema_id, payload),
            (Content::Json(json), Some(schema)) => {
                let payload = schema.schema().encode_json(&json, fill)?;
                (Arc::clone(schema.id()), payload.into())
            }
            (Content::Json(_), None) => {
                unreachable!("whoever calls this looks the schema up for events that need one")
            }
        };
        let id = event.id.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| ids.next());
        // An id of so many bytes has no more characters.
        if id.len() > EVENT_ID_CHARS_MAX {
            let chars = id.chars().count();
            if chars > EVENT_ID_CHARS_MAX {
                return Err(EventError::IdTooLong(chars));
            }
        }
        let ready = Self {
            len: text_len(ID, id.as_bytes())
                + text_len(SCHEMA_ID, schema_id.as_bytes())
                + text_len(PAYLOAD, &payload)
                + encoding::message::encoded_len_repeated(HEADERS, &event.headers),
            id,
            schema_id,
            payload,
            headers: event.headers,
        };
        if ready.len > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge(ready.len));
        }
        Ok(ready)
    }

    /// Bytes that the event takes as a field of a request.
    pub(super) fn field_len(&self) -> usize {
        encoding::key_len(EVENTS) + encoding::encoded_len_varint(self.len as u64) + self.len
    }

    /// Writes the event as a field of a request.
    pub(super) fn write_field(&self, buf: &mut impl BufMut) {
        encoding::encode_key(EVENTS, WireType::LengthDelimited, buf);
        encoding::encode_varint(self.len as u64, buf);
        encode_text(ID, self.id.as_bytes(), buf);
        encode_text(SCHEMA_ID, self.schema_id.as_bytes(), buf);
        encode_text(PAYLOAD, &self.payload, buf);
        encoding::message::encode_repeated(HEADERS, &self.headers, buf);
    }
}

/// Bytes of a text or bytes field; one that is empty is left out.
fn text_len(tag: u32, text: &[u8]) -> usize {
    match text.len() {
        0 => 0,
        len => encoding::key_len(tag) + encoding::encoded_len_varint(len as u64) + len,
    }
}

fn encode_text(tag: u32, text: &[u8], buf: &mut impl BufMut) {
    if !text.is_empty() {
        encoding::encode_key(tag, WireType::LengthDelimited, buf);
        encoding::encode_varint(text.len() as u64, buf);
        buf.put_slice(text);
    }
}

/// The field of a request that has its events.
const EVENTS: u32 = 2;
/// The fields of an event.
const ID: u32 = 1;
const SCHEMA_ID: u32 = 2;
const PAYLOAD: u32 = 3;
const HEADERS: u32 = 4;

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::{ProducerEvent, raw::PublishRequest, raw::WireMessage};

    const NOTHING: Fill<'_> = Fill {
        created_date_ms: 0,
        created_by_id: Fill::NOBODY,
    };

    fn ready(event: Event) -> Result<Ready, EventError> {
        Ready::new(event, None, &NOTHING, &IdSource::default())
    }

    #[test]
    fn what_is_written_is_what_the_generated_message_writes() {
        for event in [
            Event::avro("schema", &b"payload"[..]).with_id("e-1"),
            Event::avro("", Bytes::new()),
            Event::avro("s", vec![7; 70_000])
                .with_header("a", &b"1"[..])
                .with_header("", Bytes::new()),
        ] {
            let ready = ready(event).unwrap();
            let mut bytes = Vec::new();
            ready.write_field(&mut bytes);
            assert_eq!(bytes.len(), ready.field_len());
            let request = PublishRequest::read(bytes.into()).unwrap();
            let found = request.events.values().iter().next().unwrap();
            let generated = ProducerEvent {
                id: ready.id.clone(),
                schema_id: ready.schema_id.to_string(),
                payload: ready.payload.clone(),
                headers: ready.headers.clone(),
            };
            assert_eq!(found, generated.encode_to_vec());
        }
    }

    #[test]
    fn an_event_without_an_id_gets_a_new_one() {
        let id = |event| ready(event).unwrap().id;
        let event = Event::avro("s", Bytes::new());
        assert_eq!(id(event.clone().with_id("")).len(), EVENT_ID_CHARS_MAX);
        assert_ne!(id(event.clone()), id(event));
    }

    #[test]
    fn what_no_gateway_takes_is_refused_with_its_bound() {
        let event = Event::avro("s", Bytes::new());
        let long = event.clone().with_id("é".repeat(37));
        assert_eq!(ready(long).unwrap_err(), EventError::IdTooLong(37));
        assert!(ready(event.with_id("é".repeat(36))).is_ok());
        let large = ready(Event::avro("s", vec![0; EVENT_BYTES_MAX]).with_id("e"));
        let with_fields = EVENT_BYTES_MAX + 3 + 3 + 4;
        assert_eq!(large.unwrap_err(), EventError::TooLarge(with_fields));
    }
}
