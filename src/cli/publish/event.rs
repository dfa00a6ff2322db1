//! From the JSON of one event to its bytes.

use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value};

use crate::{
    clock::{Clock, Timestamp},
    proto::ProducerEvent,
    schema::{Fill, Schema},
    types::limits::{EVENT_BYTES_MAX, EVENT_ID_CHARS_MAX},
};

/// The keys of a line that `subscribe --output json` printed.
const PRINTED_KEYS: [&str; 5] = ["replay_id", "event_id", "schema_id", "topic", "payload"];

/// Writes events of one schema.
#[derive(Debug)]
pub(super) struct EventWriter {
    schema: Schema,
    /// As the gateway names it.
    schema_id: String,
    clock: Box<dyn Clock>,
}

/// An event that is ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Encoded {
    pub(super) id: String,
    /// An encoded `ProducerEvent`.
    pub(super) bytes: Bytes,
}

impl EventWriter {
    pub(super) fn new(schema: Schema, schema_id: String, clock: impl Clock) -> Self {
        Self {
            schema,
            schema_id,
            clock: Box::new(clock),
        }
    }

    /// The schema that events are written with.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The time at which events are written.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Encodes the event that `json` says; a sentence says why it cannot be.
    pub(super) fn encode(&self, json: &[u8]) -> Result<Encoded, String> {
        let value: Value = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
        let (payload, id) = match value {
            Value::Object(mut object) if self.is_printed_line(&object) => {
                let id = take_event_id(&mut object)?;
                (object.remove("payload").unwrap_or_default(), id)
            }
            payload => (payload, None),
        };
        let fill = Fill {
            created_date_ms: self.now().as_millis(),
            // A token is no user.
            created_by_id: Fill::NOBODY,
        };
        let payload = self
            .schema
            .encode_json(&payload, &fill)
            .map_err(|error| error.to_string())?;
        self.event(payload, id)
    }

    /// The event with this payload; a sentence says why it cannot be sent.
    pub(super) fn event(&self, payload: Vec<u8>, id: Option<String>) -> Result<Encoded, String> {
        let event = ProducerEvent {
            // Made here and not by the gateway, so that an event whose fate is unknown can be
            // published again under the same id.
            id: id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            schema_id: self.schema_id.clone(),
            payload: payload.into(),
            headers: Vec::new(),
        };
        let size = event.encoded_len();
        if size > EVENT_BYTES_MAX {
            return Err(format!(
                "an event has at most {EVENT_BYTES_MAX} bytes, this one has {size}"
            ));
        }
        Ok(Encoded {
            bytes: event.encode_to_vec().into(),
            id: event.id,
        })
    }

    /// Whether the object is what `subscribe` prints, and not a payload: a schema with a field of
    /// that name decides for the payload.
    fn is_printed_line(&self, object: &Map<String, Value>) -> bool {
        let mut fields = self.schema.program().root().fields().iter();
        object.get("payload").is_some_and(Value::is_object)
            && object
                .keys()
                .all(|key| PRINTED_KEYS.contains(&key.as_str()))
            && !fields.any(|field| field.name() == "payload")
    }
}

fn take_event_id(object: &mut Map<String, Value>) -> Result<Option<String>, String> {
    match object.remove("event_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.is_empty() => Ok(None),
        Some(Value::String(id)) => match id.chars().count() {
            0..=EVENT_ID_CHARS_MAX => Ok(Some(id)),
            chars => Err(format!(
                "event_id has at most {EVENT_ID_CHARS_MAX} characters, this one has {chars}"
            )),
        },
        Some(_) => Err("event_id is a string, found something else".into()),
    }
}

/// The parser's words without the line it counts, which is always the first.
fn not_json(error: &serde_json::Error) -> String {
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    format!("not JSON: {reason} at column {}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::fake_gateway::{ORDER_CREATED, ORDER_CREATED_ID},
        clock::ManualClock,
    };

    fn writer() -> EventWriter {
        let schema = Schema::parse(ORDER_CREATED).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        EventWriter::new(schema, ORDER_CREATED_ID.into(), clock)
    }

    fn event(json: &str) -> ProducerEvent {
        let encoded = writer().encode(json.as_bytes()).unwrap();
        let event = ProducerEvent::decode(encoded.bytes).unwrap();
        assert_eq!(event.id, encoded.id);
        event
    }

    #[test]
    fn a_payload_is_an_event_by_itself() {
        let event = event(r#"{"Order_Number__c": "A-17", "Amount__c": 42.5}"#);
        assert_eq!(event.schema_id, ORDER_CREATED_ID);
        assert_eq!(event.id.len(), 36);
        let payload = writer().schema.to_json(&event.payload).unwrap();
        assert_eq!(payload["CreatedDate"], 1_700_000_000_000_i64);
        assert_eq!(payload["CreatedById"], Fill::NOBODY);
        assert_eq!(payload["Order_Number__c"], "A-17");
        assert_eq!(payload["Priority__c"], Value::Null);
    }

    #[test]
    fn what_subscribe_prints_can_be_published() {
        let event = event(
            r#"{"replay_id": "00", "event_id": "e-1", "schema_id": "s", "topic": "t",
                "payload": {"Order_Number__c": "A-17"}}"#,
        );
        assert_eq!(event.id, "e-1");
        let payload = writer().schema.to_json(&event.payload).unwrap();
        assert_eq!(payload["Order_Number__c"], "A-17");
    }

    #[test]
    fn a_schema_with_a_payload_field_takes_payloads_only() {
        let schema = Schema::parse(
            r#"{"type": "record", "name": "Wrapped__e", "fields": [
                {"name": "payload", "type": {"type": "map", "values": "string"}}]}"#,
        );
        let writer = EventWriter::new(schema.unwrap(), "s".into(), ManualClock::default());
        let encoded = writer.encode(br#"{"payload": {"a": "b"}}"#).unwrap();
        let event = ProducerEvent::decode(encoded.bytes).unwrap();
        let payload = writer.schema.to_json(&event.payload).unwrap();
        assert_eq!(payload["payload"]["a"], "b");
    }

    #[test]
    fn refusals_say_what_was_found() {
        let refusal = |json: &str| writer().encode(json.as_bytes()).unwrap_err();
        let typo = refusal(r#"{"Order_Numbr__c": "A-17"}"#);
        assert!(typo.contains("did you mean Order_Number__c?"), "{typo}");
        let broken = refusal(r#"{"Order_Number__c": "#);
        assert!(broken.starts_with("not JSON: EOF"), "{broken}");
        assert!(refusal("[1]").contains("an array"));
        assert!(refusal("\u{feff}{}").starts_with("not JSON"));
        let id = refusal(&format!(
            r#"{{"event_id": "{}", "payload": {{}}}}"#,
            "x".repeat(37)
        ));
        assert!(id.contains("36"), "{id}");
        assert!(refusal(r#"{"event_id": 5, "payload": {}}"#).contains("event_id"));
        assert!(refusal(r#"{"event_id": "x", "payload": {}, "topc": ""}"#).contains("no field"));
    }

    #[test]
    fn an_event_that_is_too_large_is_not_sent() {
        let text = "x".repeat(EVENT_BYTES_MAX - 60);
        let refusal = writer().encode(format!(r#"{{"Order_Number__c": "{text}"}}"#).as_bytes());
        assert!(refusal.unwrap_err().contains("at most 1048576 bytes"));
    }
}
