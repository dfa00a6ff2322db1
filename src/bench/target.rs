use tonic::Code;

use super::{
    error::BenchError,
    load::{SCHEMA, TOPIC},
};
use crate::{
    client::{CallError, Connection, Endpoint},
    proto::TopicRequest,
    schema::Schema,
};

/// The gateway that is measured.
#[derive(Clone, Debug)]
pub struct Target {
    endpoint: Endpoint,
}

impl Target {
    /// The gateway at `endpoint`, once it was asked whether it has the topic of the load.
    ///
    /// # Errors
    ///
    /// [`BenchError::NoTopic`] and [`BenchError::OtherSchema`], besides what any call fails with.
    pub async fn new(endpoint: Endpoint) -> Result<Self, BenchError> {
        let target = Self { endpoint };
        let request = TopicRequest {
            topic_name: TOPIC.into(),
        };
        let connection = target.connect().await?;
        let topic = match connection.pub_sub().get_topic(request).await {
            Ok(topic) => topic.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Err(BenchError::NoTopic),
            Err(status) => return Err(CallError::from(status).into()),
        };
        let schema = Schema::parse(SCHEMA).expect("the schema of the load is one");
        if topic.schema_id != schema.id().to_string() {
            return Err(BenchError::OtherSchema);
        }
        Ok(target)
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> Result<Connection, BenchError> {
        Ok(self.endpoint.connect().await?)
    }
}
