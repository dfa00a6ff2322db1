//! A small service that publishes and receives JSON; shared by the examples.

use std::path::Path;

use anyhow::{Context, bail};
use prost::Message;
use serde_json::Value;
use tidegate::{
    client::{Connection, Endpoint},
    proto::{
        ConsumerEvent, FetchRequest, ProducerEvent, PublishResult, ReplayPreset, SchemaRequest,
        TopicRequest,
        raw::{PublishRequest, Repeated},
    },
    schema::{Fill, Schema},
};
use tokio_stream::{StreamExt, once};

/// One side of the story, with a connection of its own.
pub(crate) struct Service {
    name: &'static str,
    connection: Connection,
}

impl Service {
    /// Connects to the gateway that runs in this directory.
    pub(crate) async fn connect(name: &'static str) -> anyhow::Result<Self> {
        let data_dir = std::env::var("TIDEGATE_SERVER__DATA_DIR");
        let data_dir = data_dir.unwrap_or_else(|_| "./tidegate-data".into());
        let endpoint =
            Endpoint::of_profile(Path::new(&data_dir)).context("is the gateway running here?")?;
        Ok(Self {
            name,
            connection: endpoint.connect().await?,
        })
    }

    /// Publishes one event and returns its replay id.
    pub(crate) async fn publish(&self, topic: &str, event: Value) -> anyhow::Result<Vec<u8>> {
        let mut client = self.connection.pub_sub();
        let request = TopicRequest {
            topic_name: topic.into(),
        };
        let topic = client.get_topic(request).await?.into_inner();
        let schema = self.schema(&topic.schema_id).await?;
        let fill = Fill {
            created_date_ms: 1_700_000_000_000,
            created_by_id: self.name,
        };
        let event = ProducerEvent {
            schema_id: topic.schema_id,
            payload: schema.encode_json(&event, &fill)?.into(),
            ..Default::default()
        };
        let request = PublishRequest {
            topic_name: topic.topic_name,
            events: Repeated::of([event.encode_to_vec()]),
            ..Default::default()
        };
        let response = client.publish(request).await?.into_inner();
        let result = response
            .results
            .values()
            .iter()
            .next()
            .context("one event has one result")?;
        let result = PublishResult::decode(result)?;
        match result.error {
            Some(error) => bail!("the event was refused: {}", error.msg),
            None => Ok(result.replay_id.to_vec()),
        }
    }

    /// Receives `count` events after `replay_id`.
    pub(crate) async fn receive(
        &self,
        topic: &str,
        replay_id: &[u8],
        count: usize,
    ) -> anyhow::Result<Vec<Value>> {
        let request = FetchRequest {
            topic_name: topic.into(),
            replay_preset: ReplayPreset::Custom.into(),
            replay_id: replay_id.to_vec().into(),
            num_requested: count as i32,
            ..Default::default()
        };
        let mut responses = self
            .connection
            .pub_sub()
            .subscribe(once(request))
            .await?
            .into_inner();
        let mut events = Vec::new();
        while let Some(response) = responses.next().await {
            for event in response?.events.values().iter() {
                let event = ConsumerEvent::decode(event)?.event.unwrap_or_default();
                events.push(
                    self.schema(&event.schema_id)
                        .await?
                        .to_json(&event.payload)?,
                );
            }
        }
        Ok(events)
    }

    /// The replay id of the newest event of a topic.
    pub(crate) async fn latest(&self, topic: &str) -> anyhow::Result<Vec<u8>> {
        let request = tidegate::proto::admin::DescribeTopicRequest { name: topic.into() };
        let topic = self
            .connection
            .admin()
            .describe_topic(request)
            .await?
            .into_inner();
        let ids = [topic.latest_replay_id, topic.earliest_replay_id];
        let known = ids.into_iter().find(|id| !id.is_empty());
        Ok(known.context("a topic has an earliest replay id")?.to_vec())
    }

    async fn schema(&self, id: &str) -> anyhow::Result<Schema> {
        let request = SchemaRequest {
            schema_id: id.into(),
        };
        let info = self
            .connection
            .pub_sub()
            .get_schema(request)
            .await?
            .into_inner();
        Ok(Schema::parse(&info.schema_json)?)
    }
}

/// A replay id as the command line prints it.
pub(crate) fn replay_id_text(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
