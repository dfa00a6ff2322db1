//! Events, keepalives and errors as blocks of an event stream.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use prost::{DecodeError, Message};
use serde::Serialize;
use serde_json::Value;

use crate::{
    broker::Subscription,
    http::error::ApiError,
    proto::ConsumerEvent,
    schema::Schema,
    types::{Position, SchemaId, TopicName, limits::SSE_PAYLOAD_BYTES_MAX},
};

/// The position to come back to, which a stream tells at its beginning and when nothing happens.
///
/// It is an event with a name and with data: common clients forget the id of a block without data,
/// and hand none with another name than `message` to those who wait for events.
pub(super) fn position(position: Position) -> String {
    format!(
        "event: position\nid: {}\ndata: {{}}\n\n",
        position.replay_id()
    )
}

/// The last block of a subscription that cannot go on.
pub(super) fn error(error: &ApiError) -> String {
    let data = serde_json::to_string(&error.body()).expect("an error has text as its keys");
    format!("event: error\ndata: {data}\n\n")
}

/// One event. The fields are the keys in JSON; the first five are those of `tidegate subscribe`.
#[derive(Serialize)]
struct EventData<'a> {
    replay_id: &'a str,
    event_id: &'a str,
    schema_id: &'a str,
    /// The event's own topic, also on a channel.
    topic: &'a str,
    payload: Value,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    undecoded: Option<Undecoded>,
}

/// What there is of a payload that cannot be decoded; `payload` is null then.
#[derive(Serialize)]
struct Undecoded {
    payload_base64: String,
    reason: String,
}

/// Reads events by the schemas that they were written with.
pub(super) struct Reader {
    /// The topic that is subscribed to.
    topic: String,
    /// The schema of the event before, nearly always that of the next too, with its id as events
    /// have it and its topic.
    last: Option<(String, Schema, TopicName)>,
}

impl Reader {
    /// Reads events of a subscription to `topic`.
    pub(super) fn new(topic: String) -> Self {
        Self { topic, last: None }
    }

    /// Appends the block of an encoded `ConsumerEvent`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if it is none; nothing was appended. A payload that cannot be decoded is no
    /// error: the block says so.
    pub(super) fn put_event(
        &mut self,
        subscription: &Subscription,
        event: Bytes,
        out: &mut String,
    ) -> Result<(), DecodeError> {
        let ConsumerEvent { event, replay_id } = ConsumerEvent::decode(event)?;
        let event = event.unwrap_or_default();
        self.look_up(&event.schema_id, |id| subscription.schema(id));
        let known = self.last.as_ref();
        let payload = match known {
            Some((_, schema, _)) => decode(schema, &event.payload),
            None => Err("the event's schema is not known here".to_owned()),
        };
        let topic = known.map_or(self.topic.as_str(), |(_, _, topic)| topic.as_str());
        let replay_id: String = replay_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (payload, undecoded) = match payload {
            Ok(payload) => (payload, None),
            Err(reason) => {
                let payload_base64 = STANDARD.encode(&event.payload);
                (
                    Value::Null,
                    Some(Undecoded {
                        payload_base64,
                        reason,
                    }),
                )
            }
        };
        let data = EventData {
            replay_id: &replay_id,
            event_id: &event.id,
            schema_id: &event.schema_id,
            topic,
            payload,
            undecoded,
        };
        // JSON as it is written has no line break, so it is one line.
        let data = serde_json::to_string(&data).expect("an event has text as its keys");
        out.extend(["id: ", &replay_id, "\ndata: ", &data, "\n\n"]);
        Ok(())
    }

    /// Has the schema with this id be the last one, if there is such a schema.
    fn look_up(&mut self, id: &str, schema: impl FnOnce(&SchemaId) -> Option<(Schema, TopicName)>) {
        if self.last.as_ref().is_none_or(|(known, ..)| known != id) {
            let found = id.parse().ok().and_then(|id| schema(&id));
            self.last = found.map(|(schema, topic)| (id.to_owned(), schema, topic));
        }
    }
}

/// What a payload says, or why that is not shown.
fn decode(schema: &Schema, payload: &[u8]) -> Result<Value, String> {
    let misfit = |error| format!("the payload does not fit its schema: {error}");
    let bytes = schema.json_bytes_max(payload).map_err(misfit)?;
    if bytes > SSE_PAYLOAD_BYTES_MAX {
        return Err(format!(
            "the payload is {bytes} bytes of JSON by its schema, and at most {SSE_PAYLOAD_BYTES_MAX} are shown"
        ));
    }
    schema.to_json(payload).map_err(misfit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::kinds;

    #[test]
    fn a_position_is_an_event_of_its_own_name_and_has_data() {
        assert_eq!(
            position(Position::in_block(2, 0).unwrap()),
            "event: position\nid: 00000000000002000000\ndata: {}\n\n"
        );
    }

    #[test]
    fn a_payload_whose_text_would_be_too_long_is_not_decoded() {
        let name = "n".repeat(250);
        let schema = Schema::parse(&format!(
            r#"{{"type": "record", "name": "Wide__e", "fields": [{{"name": "a", "type": {{
                "type": "array", "items": {{"type": "record", "name": "R", "fields": [
                {{"name": "{name}", "type": "boolean"}}]}}}}}}]}}"#
        ));
        let schema = schema.unwrap();
        let payload = |count: usize| {
            let mut payload = Vec::new();
            prost::encoding::encode_varint(2 * count as u64, &mut payload);
            payload.extend(vec![1; count]);
            payload.push(0);
            payload
        };
        assert!(decode(&schema, &payload(31_000)).is_ok());
        let reason = decode(&schema, &payload(34_000)).unwrap_err();
        assert!(reason.contains("at most 8388608"), "{reason}");
    }

    #[test]
    fn an_error_is_one_line_of_json() {
        let block = error(&kinds::SUBSCRIPTION_FAILED.error("first\nsecond"));
        assert_eq!(
            block,
            "event: error\ndata: {\"message\":\"first\\nsecond\",\"errorCode\":\"SUBSCRIPTION_FAILED\"}\n\n"
        );
    }
}
