//! `tidegate topic`: what topics there are, and what one holds.

use clap::Subcommand;
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Format, Output, OutputArgs, Row, hex, note},
};
use crate::{
    client::Connection,
    proto::admin::{DescribeTopicRequest, ListTopicsRequest, Topic},
    types::TopicName,
};

/// Arguments of `tidegate topic`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the topics that the token may publish or subscribe to
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Describe one topic and what is retained of it
    Describe {
        /// The topic, such as /event/OrderCreated__e
        topic: TopicName,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List { output, connection } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let topics = list(&connection).await?;
            if topics.is_empty() {
                note("there is no topic that this token may use");
            }
            output.list(&topics);
            output.flush().await
        }
        Command::Describe {
            topic,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let topic = describe(&connection, &topic).await?;
            match output.format() {
                Format::Json => output.list(&[topic]),
                Format::Text => output.document(&topic.description()),
            }
            output.flush().await
        }
    }
}

async fn list(connection: &Connection) -> Result<Vec<TopicRow>, Failure> {
    let response = connection.admin().list_topics(ListTopicsRequest {}).await?;
    let topics = response.into_inner().topics;
    Ok(topics.into_iter().map(TopicRow::from).collect())
}

async fn describe(connection: &Connection, topic: &TopicName) -> Result<TopicRow, Failure> {
    let request = DescribeTopicRequest {
        name: topic.to_string(),
    };
    let response = connection.admin().describe_topic(request).await?;
    Ok(response.into_inner().into())
}

/// A topic as it is shown. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct TopicRow {
    name: String,
    kind: String,
    schema_id: String,
    schema_versions: u32,
    can_publish: bool,
    can_subscribe: bool,
    event_count: u64,
    retained_count: u64,
    latest_replay_id: String,
    earliest_replay_id: String,
    validation: String,
}

impl From<Topic> for TopicRow {
    fn from(topic: Topic) -> Self {
        Self {
            name: topic.name,
            kind: topic.kind,
            schema_id: topic.schema_id,
            schema_versions: topic.schema_versions,
            can_publish: topic.can_publish,
            can_subscribe: topic.can_subscribe,
            event_count: topic.event_count,
            retained_count: topic.retained_count,
            latest_replay_id: hex(&topic.latest_replay_id),
            earliest_replay_id: hex(&topic.earliest_replay_id),
            validation: topic.validation,
        }
    }
}

impl TopicRow {
    fn access(&self) -> &'static str {
        match (self.can_publish, self.can_subscribe) {
            (true, true) => "publish, subscribe",
            (true, false) => "publish",
            (false, true) => "subscribe",
            (false, false) => "none",
        }
    }

    /// One property a line.
    fn description(&self) -> String {
        let lines = [
            ("name", self.name.clone()),
            ("kind", self.kind.clone()),
            ("access", self.access().to_owned()),
            ("schema id", self.schema_id.clone()),
            ("schema versions", self.schema_versions.to_string()),
            ("validation", self.validation.clone()),
            ("events ever", self.event_count.to_string()),
            ("events retained", self.retained_count.to_string()),
            ("latest replay id", self.latest_replay_id.clone()),
            ("earliest replay id", self.earliest_replay_id.clone()),
        ];
        let lines = lines.map(|(name, value)| {
            let value = if value.is_empty() { "-" } else { &value };
            format!("{name:18}  {}\n", super::output::printable(value))
        });
        lines.concat()
    }
}

impl Row for TopicRow {
    const HEADERS: &'static [&'static str] = &["TOPIC", "KIND", "EVENTS", "RETAINED", "ACCESS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.clone(),
            self.event_count.to_string(),
            self.retained_count.to_string(),
            self.access().to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{exit::Exit, fake_gateway::FakeGateway};

    #[tokio::test]
    async fn topics_are_listed_with_what_the_token_may_do() {
        let gateway = FakeGateway::start().await;
        let topics = list(&gateway.connect().await).await.unwrap();
        assert_eq!(topics.len(), 1);
        assert_eq!(
            topics[0].cells(),
            [
                "/event/OrderCreated__e",
                "platform_event",
                "7",
                "5",
                "publish, subscribe"
            ]
        );
    }

    #[tokio::test]
    async fn a_topic_is_described_line_by_line() {
        let gateway = FakeGateway::start().await;
        let topic = "/event/OrderCreated__e".parse().unwrap();
        let topic = describe(&gateway.connect().await, &topic).await.unwrap();
        let text = topic.description();
        assert!(text.contains("events retained     5\n"), "{text}");
        assert!(
            text.contains("latest replay id    00000000000000070000\n"),
            "{text}"
        );
        assert!(text.contains("earliest replay id  -\n"), "{text}");
    }

    #[tokio::test]
    async fn an_unknown_topic_fails_with_advice() {
        let gateway = FakeGateway::start().await;
        let topic = "/event/Nothing__e".parse().unwrap();
        let failure = describe(&gateway.connect().await, &topic)
            .await
            .unwrap_err();
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(failure.to_string().contains("`tidegate topic list`"));
    }
}
