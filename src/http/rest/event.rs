//! From the JSON of one event to its bytes.

use prost::Message;
use serde_json::{Map, Value};

use crate::{
    http::error::{ApiError, EVENT_UUID, kinds},
    proto::ProducerEvent,
    schema::{Fill, JsonError, Schema},
    types::limits::{HTTP_EVENT_BODY_BYTES_MAX, HTTP_EVENT_VALUES_MAX},
};

/// What a record of the platform says about itself; not a field.
const ATTRIBUTES: &str = "attributes";

/// An event with its id.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) id: String,
    /// An encoded `ProducerEvent`, or why there is none.
    pub(super) event: Result<Vec<u8>, JsonError>,
}

/// Writes the event that `json` says with `schema`.
///
/// `fill` is used unless the client gives these fields. An `EventUuid` becomes the event's id, unless
/// the schema has a field of that name; without one the id is made here, so that an event whose fate
/// is unknown can be published again under the same id.
///
/// # Errors
///
/// An [`ApiError`] for a text that is no JSON or too much of it, or an id that is none. What is wrong
/// with the fields is the refusal of an event, not an error.
pub(super) fn encode(schema: &Schema, json: &str, fill: &Fill<'_>) -> Result<Encoded, ApiError> {
    check_size(json)?;
    let mut value: Value =
        serde_json::from_str(json).map_err(|error| ApiError::not_json(&error))?;
    let mut id = String::new();
    if let Value::Object(fields) = &mut value {
        if !has_field(schema, ATTRIBUTES) && fields.get(ATTRIBUTES).is_some_and(Value::is_object) {
            // In place of the last one it would change which unknown field is told.
            fields.shift_remove(ATTRIBUTES);
        }
        if !has_field(schema, EVENT_UUID) {
            id = take_id(fields)?;
        }
    }
    if id.is_empty() {
        id = uuid::Uuid::new_v4().to_string();
    }
    let event = schema.encode_json(&value, fill).map(|payload| {
        let event = ProducerEvent {
            id: id.clone(),
            schema_id: schema.id().to_string(),
            payload: payload.into(),
            headers: Vec::new(),
        };
        event.encode_to_vec()
    });
    Ok(Encoded { id, event })
}

/// Holds the text of an event to its bounds before it is read: in memory each value takes many times
/// the bytes that it may have here.
fn check_size(json: &str) -> Result<(), ApiError> {
    if json.len() > HTTP_EVENT_BODY_BYTES_MAX {
        return Err(kinds::TOO_LARGE.error(format!(
            "the event has more than {HTTP_EVENT_BODY_BYTES_MAX} bytes"
        )));
    }
    if values_max(json) > HTTP_EVENT_VALUES_MAX {
        return Err(kinds::TOO_LARGE.error(format!(
            "the event has more than {HTTP_EVENT_VALUES_MAX} values"
        )));
    }
    Ok(())
}

/// How many values a text has at most, if it is JSON: all but the first come after a bracket or a
/// comma, as does each key with its value.
fn values_max(json: &str) -> usize {
    let mut count = 1;
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' | b',' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

fn has_field(schema: &Schema, name: &str) -> bool {
    let mut fields = schema.program().root().fields().iter();
    fields.any(|field| field.name() == name)
}

/// The event's id; empty if it has none.
fn take_id(fields: &mut Map<String, Value>) -> Result<String, ApiError> {
    match fields.shift_remove(EVENT_UUID) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(id)) => Ok(id),
        Some(_) => Err(kinds::JSON_PARSER
            .error(format!("field {EVENT_UUID}: wanted null or a string"))
            .about(EVENT_UUID)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::engines::{ORDER_SCHEMA, ORDER_SCHEMA_ID};

    const FILL: Fill<'_> = Fill {
        created_date_ms: 1_700_000_000_000,
        created_by_id: "005000000000009AAA",
    };

    fn encoded(json: &str) -> Result<Encoded, ApiError> {
        let schema = Schema::parse(ORDER_SCHEMA).unwrap();
        encode(&schema, json, &FILL)
    }

    fn event(json: &str) -> (ProducerEvent, Value) {
        let encoded = encoded(json).unwrap();
        let event = ProducerEvent::decode(&*encoded.event.unwrap()).unwrap();
        assert_eq!(event.id, encoded.id);
        let schema = Schema::parse(ORDER_SCHEMA).unwrap();
        let payload = schema.to_json(&event.payload).unwrap();
        (event, payload)
    }

    #[test]
    fn what_the_client_does_not_say_is_filled_in() {
        let (event, payload) = event(r#"{"Order_Number__c": "A-17"}"#);
        assert!(uuid::Uuid::parse_str(&event.id).is_ok(), "{}", event.id);
        assert_eq!(event.schema_id, ORDER_SCHEMA_ID);
        assert_eq!(payload["CreatedDate"], 1_700_000_000_000_i64);
        assert_eq!(payload["CreatedById"], FILL.created_by_id);
        assert_eq!(payload["Order_Number__c"], "A-17");
    }

    #[test]
    fn what_the_client_says_is_kept() {
        let (event, payload) = event(
            r#"{"attributes": {"type": "OrderCreated__e"}, "CreatedDate": 5,
                "CreatedById": "005000000000001AAA", "EventUuid": "order-17"}"#,
        );
        assert_eq!(event.id, "order-17");
        assert_eq!(payload["CreatedDate"], 5);
        assert_eq!(payload["CreatedById"], "005000000000001AAA");
    }

    #[test]
    fn a_field_of_the_schema_is_never_taken_for_something_else() {
        let schema = Schema::parse(
            r#"{"type": "record", "name": "Odd__e", "fields": [
                {"name": "EventUuid", "type": "string"},
                {"name": "attributes", "type": {"type": "map", "values": "string"}}]}"#,
        )
        .unwrap();
        let json = r#"{"EventUuid": "in the payload", "attributes": {"type": "x"}}"#;
        let encoded = encode(&schema, json, &FILL).unwrap();
        let event = ProducerEvent::decode(&*encoded.event.unwrap()).unwrap();
        assert_ne!(event.id, "in the payload");
        let payload = schema.to_json(&event.payload).unwrap();
        assert_eq!(payload["EventUuid"], "in the payload");
        assert_eq!(payload["attributes"]["type"], "x");
    }

    #[test]
    fn no_json_and_no_id_are_errors_and_a_bad_field_is_a_refusal() {
        let error = encoded(r#"{"Order_Number__c": "#).unwrap_err();
        assert_eq!(error.code(), "JSON_PARSER_ERROR");
        assert!(error.message().contains("at [line:1, column:"), "{error}");
        assert_eq!(
            encoded(r#"{"EventUuid": 5}"#).unwrap_err().fields(),
            ["EventUuid"]
        );
        let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
        assert_eq!(encoded(&deep).unwrap_err().code(), "JSON_PARSER_ERROR");

        let refused = encoded(r#"{"EventUuid": "e-1", "Nope__c": 1}"#).unwrap();
        assert_eq!(refused.id, "e-1");
        let error = refused.event.unwrap_err();
        assert!(matches!(error, JsonError::UnknownField { .. }), "{error}");
        assert!(encoded("[1]").unwrap().event.is_err());
    }

    #[test]
    fn what_would_take_many_times_its_bytes_is_not_read() {
        for many in ["[0],", "{},", "0,", r#"{"a":0},"#] {
            let count = HTTP_EVENT_VALUES_MAX / many.matches(['[', '{', ',']).count();
            let json = |count| format!("[{}0]", many.repeat(count));
            assert_eq!(
                encoded(&json(count)).unwrap_err().code(),
                "REQUEST_TOO_LARGE"
            );
            assert!(encoded(&json(count - 2)).is_ok(), "{many}");
        }
        // What a text says is no value of its own.
        let text = r#"[,{\\\","#.repeat(HTTP_EVENT_VALUES_MAX);
        let (_, payload) = event(&format!(r#"{{"Order_Number__c": "{text}"}}"#));
        assert_eq!(
            payload["Order_Number__c"].as_str().unwrap().len(),
            6 * HTTP_EVENT_VALUES_MAX
        );
    }
}
