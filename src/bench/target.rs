use tonic::Code;

use super::{
    error::BenchError,
    in_time,
    load::{schema, topic},
    reader::ClientKind,
};
use crate::{
    client::{Connection, Endpoint},
    proto::TopicRequest,
    schema::Schema,
};

/// The gateway that is measured.
#[derive(Clone, Debug)]
pub struct Target {
    endpoint: Endpoint,
}

impl Target {
    /// The gateway at `endpoint`, once it was asked whether it has this many topics of the load.
    ///
    /// # Errors
    ///
    /// [`BenchError::NoTopic`] and [`BenchError::OtherSchema`], besides what any call fails with.
    pub async fn new(endpoint: Endpoint, topics: usize) -> Result<Self, BenchError> {
        let target = Self { endpoint };
        let connection = target.connect(ClientKind::Own).await?;
        for number in 0..topics {
            let topic_name = topic(number);
            let request = TopicRequest {
                topic_name: topic_name.clone(),
            };
            let mut client = connection.pub_sub();
            let found = match in_time(client.get_topic(request)).await {
                Ok(found) => found.into_inner(),
                Err(BenchError::Call(error)) if error.code() == Code::NotFound => {
                    return Err(BenchError::NoTopic(topic_name));
                }
                Err(error) => return Err(error),
            };
            let schema = Schema::parse(&schema(number)).expect("the schema of the load is one");
            if found.schema_id != schema.id().to_string() {
                return Err(BenchError::OtherSchema(topic_name));
            }
        }
        Ok(target)
    }

    /// The gateway behind another address, which leads to it.
    pub(super) fn through(&self, port: u16) -> Self {
        let scheme = match self.endpoint.url.is_plaintext() {
            true => "http",
            false => "https",
        };
        let url = format!("{scheme}://127.0.0.1:{port}").parse();
        Self {
            endpoint: Endpoint {
                url: url.expect("an address of this machine is a URL"),
                ..self.endpoint.clone()
            },
        }
    }

    /// Host and port.
    pub(super) fn address(&self) -> (String, u16) {
        let url = &self.endpoint.url;
        (url.host().to_owned(), url.port())
    }

    /// A connection of its own.
    pub(super) async fn connect(&self, client: ClientKind) -> Result<Connection, BenchError> {
        let frame_bytes_max = client.frame_bytes_max();
        Ok(self.endpoint.connect_with_frames(frame_bytes_max).await?)
    }
}
