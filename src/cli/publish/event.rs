//! From the JSON of one event to its bytes.

use serde_json::{Map, Value};

use crate::{
    clock::{Clock, Timestamp},
    publisher::{Event, TopicSchema},
    schema::{Fill, Schema},
    types::limits::EVENT_ID_CHARS_MAX,
};

/// The keys of a line that `subscribe --output json` printed.
const PRINTED_KEYS: [&str; 6] = [
    "replay_id",
    "event_id",
    "schema_id",
    "topic",
    "payload",
    "change",
];

/// Writes events of one schema.
#[derive(Debug)]
pub(super) struct EventWriter {
    schema: TopicSchema,
    clock: Box<dyn Clock>,
}

impl EventWriter {
    pub(super) fn new(schema: TopicSchema, clock: impl Clock) -> Self {
        Self {
            schema,
            clock: Box::new(clock),
        }
    }

    /// That schema, as the gateway knows it.
    pub(super) fn topic_schema(&self) -> &TopicSchema {
        &self.schema
    }

    /// The schema that events are written with.
    pub(super) fn schema(&self) -> &Schema {
        self.schema.schema()
    }

    /// The time at which events are written.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes the event that `json` says, and its id if it says one; a sentence says why it cannot be.
    pub(super) fn encode(&self, json: &[u8]) -> Result<(Event, Option<String>), String> {
        let value: Value = serde_json::from_slice(json).map_err(|error| not_json(&error))?;
        let (payload, id) = match value {
            Value::Object(mut object) if self.is_printed_line(&object) => {
                let id = take_event_id(&mut object)?;
                (object.remove("payload").unwrap_or_default(), id)
            }
            payload => (payload, None),
        };
        Ok((self.encode_payload(&payload)?, id))
    }

    /// Makes the event with the fields of `payload`; a sentence says why it cannot be.
    pub(super) fn encode_payload(&self, payload: &Value) -> Result<Event, String> {
        let fill = Fill {
            created_date_ms: self.now().as_millis(),
            // A token is no user.
            created_by_id: Fill::NOBODY,
        };
        let payload = self.schema().encode_json(payload, &fill);
        Ok(self.event(payload.map_err(|error| error.to_string())?))
    }

    /// The event with this payload.
    pub(super) fn event(&self, payload: Vec<u8>) -> Event {
        Event::avro(self.schema.id().clone(), payload)
    }

    /// Whether the object is what `subscribe` prints, and not a payload: a schema with a field of
    /// that name decides for the payload.
    fn is_printed_line(&self, object: &Map<String, Value>) -> bool {
        let mut fields = self.schema().program().root().fields().iter();
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
        EventWriter::new(TopicSchema::new(schema, ORDER_CREATED_ID), clock)
    }

    /// What the event of `json` says, and its id.
    fn encoded(writer: &EventWriter, json: &str) -> (Value, Option<String>) {
        let (event, id) = writer.encode(json.as_bytes()).unwrap();
        let (schema_id, payload) = event.record().unwrap();
        assert_eq!(schema_id, &**writer.topic_schema().id());
        (writer.schema().to_json(payload).unwrap(), id)
    }

    #[test]
    fn a_payload_is_an_event_by_itself() {
        let json = r#"{"Order_Number__c": "A-17", "Amount__c": 42.5}"#;
        let (payload, id) = encoded(&writer(), json);
        assert_eq!(id, None);
        assert_eq!(payload["CreatedDate"], 1_700_000_000_000_i64);
        assert_eq!(payload["CreatedById"], Fill::NOBODY);
        assert_eq!(payload["Order_Number__c"], "A-17");
        assert_eq!(payload["Priority__c"], Value::Null);
    }

    #[test]
    fn what_subscribe_prints_can_be_published() {
        let (payload, id) = encoded(
            &writer(),
            r#"{"replay_id": "00", "event_id": "e-1", "schema_id": "s", "topic": "t",
                "payload": {"Order_Number__c": "A-17"}}"#,
        );
        assert_eq!(id.unwrap(), "e-1");
        assert_eq!(payload["Order_Number__c"], "A-17");
    }

    #[test]
    fn a_schema_with_a_payload_field_takes_payloads_only() {
        let schema = Schema::parse(
            r#"{"type": "record", "name": "Wrapped__e", "fields": [
                {"name": "payload", "type": {"type": "map", "values": "string"}}]}"#,
        );
        let schema = TopicSchema::new(schema.unwrap(), "s");
        let writer = EventWriter::new(schema, ManualClock::default());
        let (payload, _) = encoded(&writer, r#"{"payload": {"a": "b"}}"#);
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
}
