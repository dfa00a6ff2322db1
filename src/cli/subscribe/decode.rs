//! From a delivered event to the line that shows it.

use std::collections::HashMap;

use prost::Message;
use serde::Serialize;
use serde_json::Value;
use tonic::Code;

use crate::{
    cli::output::{Record, hex},
    client::{CallError, ClientError, Connection},
    proto::{ConsumerEvent, SchemaRequest},
    schema::Schema,
    types::{TopicKind, TopicName, limits::CLIENT_SCHEMAS_MAX},
};

/// The schemas of the events that were seen. A schema id means the same schema for ever.
#[derive(Debug, Default)]
pub(in crate::cli) struct Schemas(HashMap<String, Result<Schema, String>>);

impl Schemas {
    /// The schema with this id, or the reason why there is none to be had.
    ///
    /// # Errors
    ///
    /// Failures that say nothing about the schema; asking again may help.
    async fn get(
        &mut self,
        connection: &Connection,
        id: &str,
    ) -> Result<Result<Schema, String>, ClientError> {
        if let Some(known) = self.0.get(id) {
            return Ok(known.clone());
        }
        let request = SchemaRequest {
            schema_id: id.to_owned(),
        };
        let found = match connection.pub_sub().get_schema(request).await {
            Ok(response) => Schema::parse(&response.into_inner().schema_json)
                .map_err(|error| format!("its schema is not usable: {error}")),
            Err(status) => {
                let error = CallError::from(status);
                let is_about_schema = matches!(
                    error.code(),
                    Code::NotFound | Code::PermissionDenied | Code::InvalidArgument
                );
                if !is_about_schema {
                    return Err(error.into());
                }
                Err(format!("its schema cannot be had: {error}"))
            }
        };
        if self.0.len() == CLIENT_SCHEMAS_MAX {
            self.0.clear();
        }
        self.0.insert(id.to_owned(), found.clone());
        Ok(found)
    }
}

/// One event as it is shown. The fields are the keys in JSON.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::cli) struct EventLine {
    replay_id: String,
    event_id: String,
    schema_id: String,
    topic: String,
    /// Null if the event could not be decoded.
    payload: Value,
}

/// A delivered event: its line, where to go on after it, and why its payload is not shown.
#[derive(Debug)]
pub(in crate::cli) struct Delivered {
    pub(in crate::cli) line: EventLine,
    pub(in crate::cli) replay_id: bytes::Bytes,
    pub(in crate::cli) refusal: Option<String>,
}

/// Decodes an event by the schema that it was written with.
///
/// # Errors
///
/// The schema could not be asked for, or what the gateway sent is no event; nothing was decided
/// about the event.
pub(in crate::cli) async fn decode(
    connection: &Connection,
    schemas: &mut Schemas,
    topic: &TopicName,
    encoded: &[u8],
) -> Result<Delivered, ClientError> {
    let ConsumerEvent { event, replay_id } = ConsumerEvent::decode(encoded)
        .map_err(|error| tonic::Status::data_loss(format!("an event is malformed: {error}")))?;
    let event = event.unwrap_or_default();
    let schema = schemas.get(connection, &event.schema_id).await?;
    let (own_topic, payload) = match schema {
        Ok(schema) => {
            let payload = schema.to_json(&event.payload);
            (
                topic_of(topic, &schema),
                payload.map_err(|error| error.to_string()),
            )
        }
        Err(reason) => (topic.to_string(), Err(reason)),
    };
    let (payload, refusal) = match payload {
        Ok(payload) => (payload, None),
        Err(reason) => (Value::Null, Some(reason)),
    };
    Ok(Delivered {
        line: EventLine {
            replay_id: hex(&replay_id),
            event_id: event.id,
            schema_id: event.schema_id,
            topic: own_topic,
            payload,
        },
        replay_id,
        refusal,
    })
}

/// The topic an event belongs to. A channel carries the events of several, which only their
/// schemas tell apart.
fn topic_of(subscribed: &TopicName, schema: &Schema) -> String {
    match subscribed.kind() {
        TopicKind::Channel => TopicName::for_record(schema.record_name())
            .map_or_else(|_| subscribed.to_string(), |topic| topic.to_string()),
        TopicKind::PlatformEvent | TopicKind::ChangeEvent => subscribed.to_string(),
    }
}

impl Record for EventLine {
    fn text(&self) -> String {
        format!("{}  {}  {}", self.replay_id, self.event_id, self.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake_gateway::ORDER_CREATED;

    #[test]
    fn an_event_of_a_channel_names_its_own_topic() {
        let schema = Schema::parse(ORDER_CREATED).unwrap();
        let topic = |name: &str| topic_of(&name.parse().unwrap(), &schema);
        assert_eq!(topic("/event/Orders__chn"), "/event/OrderCreated__e");
        assert_eq!(topic("/event/OrderCreated__e"), "/event/OrderCreated__e");
    }
}
