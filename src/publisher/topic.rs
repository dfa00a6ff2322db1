//! What a topic's events are written with.

use std::sync::Arc;

use super::error::TopicError;
use crate::{
    client::{ClientError, Connection},
    proto::{SchemaRequest, TopicRequest},
    schema::Schema,
    types::TopicName,
};

/// A topic's current schema, as the gateway knows it. Clones share it.
#[derive(Clone, Debug)]
pub struct TopicSchema {
    schema: Schema,
    id: Arc<str>,
}

impl TopicSchema {
    /// A schema that the gateway names so.
    pub fn new(schema: Schema, id: impl Into<Arc<str>>) -> Self {
        Self {
            schema,
            id: id.into(),
        }
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Its id, in the gateway's words.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Asks for the topic's current schema, and whether anything may be published to it.
    ///
    /// # Errors
    ///
    /// [`TopicError`]: a channel, a topic that the caller may not publish to or that does not
    /// exist, or a gateway that cannot be asked.
    pub async fn look_up(connection: &Connection, topic: &TopicName) -> Result<Self, TopicError> {
        let looking = connection.call(|mut client| {
            let topic_name = topic.to_string();
            async move { client.get_topic(TopicRequest { topic_name }).await }
        });
        let info = looking.await?;
        if info.schema_id.is_empty() {
            return Err(TopicError::Channel(topic.clone()));
        }
        if !info.can_publish {
            return Err(TopicError::NotPermitted(topic.clone()));
        }
        let (text, id) = schema_text(connection, info.schema_id).await?;
        let schema = Schema::parse(&text).map_err(|reason| TopicError::Schema {
            topic: topic.clone(),
            reason,
        })?;
        Ok(Self::new(schema, id))
    }
}

/// The text of the schema with this id, and the id as the gateway answers it.
async fn schema_text(
    connection: &Connection,
    schema_id: String,
) -> Result<(String, String), ClientError> {
    let asking = connection.call(|mut client| {
        let schema_id = schema_id.clone();
        async move { client.get_schema(SchemaRequest { schema_id }).await }
    });
    let info = asking.await?;
    Ok((info.schema_json, info.schema_id))
}
