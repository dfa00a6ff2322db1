//! From the JSON of one event to its bytes.

use prost::Message;
use serde_json::{Map, Value};

use crate::{
    clock::Timestamp,
    http::error::{ApiError, EVENT_UUID, kinds},
    proto::ProducerEvent,
    schema::{Fill, JsonError, Schema},
    types::limits::{HTTP_EVENT_BODY_BYTES_MAX, HTTP_EVENT_VALUES_MAX},
};

/// What a record of the platform says about itself; not a field.
const ATTRIBUTES: &str = "attributes";

/// An encoded `ProducerEvent`, or its id and why there is none.
pub(super) type Encoded = Result<Vec<u8>, (String, JsonError)>;

/// Writes the event that `json` says with `schema`.
///
/// `CreatedDate` and `CreatedById` are filled in unless the client gives them, as over gRPC. An
/// `EventUuid` becomes the event's id, unless the schema has a field of that name: an event whose
/// fate is unknown can so be published again under the same id.
///
/// # Errors
///
/// An [`ApiError`] for a text that is no JSON or too much of it, or an id that is none. What is wrong
/// with the fields is the refusal of an event, not an error.
pub(super) fn encode(schema: &Schema, json: &str, now: Timestamp) -> Result<Encoded, ApiError> {
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
    let fill = Fill {
        created_date_ms: now.as_millis(),
        // A token is no user.
        created_by_id: Fill::NOBODY,
    };
    let payload = match schema.encode_json(&value, &fill) {
        Ok(payload) => payload,
        Err(error) => return Ok(Err((id, error))),
    };
    let event = ProducerEvent {
        id,
        schema_id: schema.id().to_string(),
        payload: payload.into(),
        headers: Vec::new(),
    };
    Ok(Ok(event.encode_to_vec()))
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

/// The event's id; empty if the gateway is to make one.
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

    fn encoded(json: &str) -> Result<Encoded, ApiError> {
        let schema = Schema::parse(ORDER_SCHEMA).unwrap();
        encode(&schema, json, Timestamp::from_millis(1_700_000_000_000))
    }

    fn event(json: &str) -> (ProducerEvent, Value) {
        let event = ProducerEvent::decode(&*encoded(json).unwrap().unwrap()).unwrap();
        let schema = Schema::parse(ORDER_SCHEMA).unwrap();
        let payload = schema.to_json(&event.payload).unwrap();
        (event, payload)
    }

    #[test]
    fn what_the_client_does_not_say_is_filled_in() {
        let (event, payload) = event(r#"{"Order_Number__c": "A-17"}"#);
        assert_eq!(
            (event.id.as_str(), event.schema_id.as_str()),
            ("", ORDER_SCHEMA_ID)
        );
        assert_eq!(payload["CreatedDate"], 1_700_000_000_000_i64);
        assert_eq!(payload["CreatedById"], Fill::NOBODY);
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
        let bytes = encode(&schema, json, Timestamp::default())
            .unwrap()
            .unwrap();
        let event = ProducerEvent::decode(&*bytes).unwrap();
        assert_eq!(event.id, "");
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

        let (id, error) = encoded(r#"{"EventUuid": "e-1", "Nope__c": 1}"#)
            .unwrap()
            .unwrap_err();
        assert_eq!(id, "e-1");
        assert!(matches!(error, JsonError::UnknownField { .. }), "{error}");
        assert!(encoded("[1]").unwrap().is_err());
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
