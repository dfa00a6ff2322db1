//! `tidegate topic`: what topics there are, what one holds, how long it keeps it, and its end.

use std::{path::PathBuf, time::Duration};

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    managed::LagCells,
    output::{self, Format, Output, OutputArgs, Row, hex, note},
    parse_duration,
    schema::{self, RulesRow},
};
use crate::{
    client::Connection,
    proto::admin::{
        DeleteTopicRequest, DescribeTopicRequest, ListTopicsRequest, ResolveTimeRequest,
        SetTopicRequest, Topic,
    },
    types::{Moment, TopicName},
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
    /// Tell the replay id that has the events from a time on behind it
    ///
    /// Every event of the topic that the gateway stored at that time or later comes after that id, and
    /// no other: `tidegate subscribe --from` takes it, and so does any other client.
    #[command(after_help = "\
A time has a date, and an offset or Z for UTC; seconds may be left out. -15m, -2h30m and -3d are so \
long ago by the gateway's clock. With --output json the keys are replay_id and next_at, the time of \
the first event behind it, which is null if there is none.

Examples:
  tidegate topic replay-id /event/OrderCreated__e 2026-01-01T00:00Z
  tidegate topic replay-id /event/OrderCreated__e -15m --output json")]
    ReplayId {
        /// The topic, such as /event/OrderCreated__e
        topic: TopicName,
        /// The time, such as 2026-01-01T00:00Z or -15m
        #[arg(allow_hyphen_values = true)]
        time: Moment,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Make a topic with the first version of its schema
    ///
    /// The topic is /event/NAME for a schema NAME__e, and /data/NAME for a schema …ChangeEvent.
    #[command(after_help = "\
Example:
  tidegate schema init OrderCreated__e --field Amount:double
  tidegate topic create /event/OrderCreated__e --schema OrderCreated__e.avsc --retention 24h")]
    Create {
        /// The topic, such as /event/OrderCreated__e
        topic: TopicName,
        /// Its schema; `tidegate schema init` writes one
        #[arg(long, value_name = "FILE")]
        schema: PathBuf,
        #[command(flatten)]
        settings: SettingArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Change how long a topic keeps its events, and whether they are validated and stored once
    #[command(after_help = "\
A time longer than what the gateway keeps (event_log.retention) makes no difference. Events go up to an
hour late, as everywhere.")]
    Set {
        /// The topic, such as /event/OrderCreated__e
        topic: TopicName,
        #[command(flatten)]
        settings: SettingArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Delete a topic with all its events
    ///
    /// Its subscribers' streams end. The name may be used again, by a topic that knows nothing of
    /// this one; a schema file that is still in the gateway's directory of schemas makes it anew at
    /// the next start.
    Delete {
        /// The topic, such as /event/OrderCreated__e
        topic: TopicName,
        /// Say that it is meant: the events do not come back
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

/// What is said of a topic besides its schema. What is not given stays as it is.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct SettingArgs {
    /// Keep events for this long, such as 24h; `default` is as long as the gateway does
    #[arg(long, value_name = "TIME", value_parser = parse_retention)]
    retention: Option<Retention>,
    /// Whether payloads have to fit their schema: `off` takes anything, as the hosted service does
    #[arg(long)]
    validation: Option<Validation>,
    /// Whether an event is stored once whose id comes again; `default` is what the gateway does with
    /// topics that do not say
    #[arg(long)]
    idempotent: Option<Idempotent>,
}

impl SettingArgs {
    fn is_empty(&self) -> bool {
        self.retention.is_none() && self.validation.is_none() && self.idempotent.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Validation {
    // Without doc comments, so that the help says no more than their names.
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Idempotent {
    On,
    Off,
    Default,
}

/// How long a topic is to keep its events; `None` is as long as the gateway does.
#[derive(Clone, Copy, Debug)]
struct Retention(Option<Duration>);

fn parse_retention(text: &str) -> Result<Retention, String> {
    match text {
        "default" => Ok(Retention(None)),
        text => parse_duration(text).map(|kept| Retention(Some(kept))),
    }
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
            let topic = describe(&connection, &topic).await?;
            show(topic, output).await
        }
        Command::ReplayId {
            topic,
            time,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let place = replay_id(&connection, &topic, time).await?;
            let mut output = Output::stdout(output);
            output.list(&[place]);
            output.flush().await
        }
        Command::Set {
            topic,
            settings,
            output,
            connection,
        } => {
            if settings.is_empty() {
                let what = "say what to change: --retention, --validation or --idempotent";
                return Err(Failure::Usage(what.into()));
            }
            let connection = connection.connect().await?;
            let topic = set(&connection, &topic, settings).await?;
            show(topic, output).await
        }
        Command::Create {
            topic,
            schema,
            settings,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            schema::create_topic(&connection, &topic, &schema).await?;
            let topic = match settings.is_empty() {
                true => describe(&connection, &topic).await?,
                false => set(&connection, &topic, settings)
                    .await
                    .map_err(|failure| {
                        let reason = format!("{topic} was made, and not set: {failure}");
                        Failure::Other(failure.exit(), reason)
                    })?,
            };
            show(topic, output).await
        }
        Command::Delete {
            topic,
            yes,
            connection,
        } => {
            if !yes {
                return Err(Failure::Usage(format!(
                    "{topic} and its events would be gone for good; say --yes if that is meant"
                )));
            }
            let connection = connection.connect().await?;
            let events = delete(&connection, &topic).await?;
            note(&format!("deleted {topic} and {events} events"));
            Ok(())
        }
    }
}

/// Prints one topic.
async fn show(topic: TopicRow, output: OutputArgs) -> Result<(), Failure> {
    let mut output = Output::stdout(output);
    match output.format() {
        Format::Json => output.list(&[topic]),
        Format::Text => output.document(&topic.description()),
    }
    output.flush().await
}

async fn set(
    connection: &Connection,
    topic: &TopicName,
    settings: SettingArgs,
) -> Result<TopicRow, Failure> {
    let millis = |Retention(kept): Retention| kept.map_or(0, |kept| kept.as_millis() as u64);
    let word = |validation: Validation| match validation {
        Validation::On => "on".to_owned(),
        Validation::Off => "off".to_owned(),
    };
    let idempotent = |idempotent: Idempotent| match idempotent {
        Idempotent::On => "on".to_owned(),
        Idempotent::Off => "off".to_owned(),
        Idempotent::Default => "default".to_owned(),
    };
    let request = SetTopicRequest {
        name: topic.to_string(),
        retention_ms: settings.retention.map(millis),
        validation: settings.validation.map_or_else(String::new, word),
        idempotent: settings.idempotent.map_or_else(String::new, idempotent),
    };
    let response = connection.admin().set_topic(request).await?;
    Ok(response.into_inner().into())
}

async fn delete(connection: &Connection, topic: &TopicName) -> Result<u64, Failure> {
    let request = DeleteTopicRequest {
        name: topic.to_string(),
    };
    let response = connection.admin().delete_topic(request).await?;
    Ok(response.into_inner().event_count)
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

async fn replay_id(
    connection: &Connection,
    topic: &TopicName,
    time: Moment,
) -> Result<PlaceRow, Failure> {
    let request = ResolveTimeRequest {
        topic_name: topic.to_string(),
        time: time.to_string(),
    };
    let place = connection.admin().resolve_time(request).await?.into_inner();
    Ok(PlaceRow {
        replay_id: hex(&place.replay_id),
        next_at: place.next_at_ms.map(output::time),
    })
}

/// The place of a time in a topic. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct PlaceRow {
    replay_id: String,
    next_at: Option<String>,
}

impl Row for PlaceRow {
    const HEADERS: &'static [&'static str] = &["replay id", "next event at"];

    fn cells(&self) -> Vec<String> {
        let next_at = self.next_at.as_deref().unwrap_or("-");
        vec![self.replay_id.clone(), next_at.to_owned()]
    }
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
    /// `on`, `off`, or `default` where the topic does not say.
    idempotent: String,
    is_idempotent: bool,
    /// Null for as long as the gateway keeps events.
    retention_seconds: Option<f64>,
    /// What new versions of the schema are held to.
    #[serde(flatten)]
    rules: RulesRow,
    /// Of managed and of named subscribers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscribers: Vec<SubscriberRow>,
}

/// How far a subscriber is behind.
#[derive(Debug, Serialize)]
struct SubscriberRow {
    name: String,
    managed: bool,
    #[serde(flatten)]
    lag: LagCells,
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
            idempotent: topic.idempotent,
            is_idempotent: topic.is_idempotent,
            retention_seconds: (topic.retention_ms > 0)
                .then_some(topic.retention_ms as f64 / 1_000.0),
            rules: topic.rules.unwrap_or_default().into(),
            subscribers: topic
                .subscribers
                .into_iter()
                .map(|subscriber| SubscriberRow {
                    name: subscriber.name,
                    managed: subscriber.managed,
                    lag: subscriber.lag.into(),
                })
                .collect(),
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

    fn retention(&self) -> String {
        match self.retention_seconds {
            None => "as long as the gateway keeps events".into(),
            Some(seconds) => {
                let kept = Duration::from_secs_f64(seconds);
                jiff::SignedDuration::try_from(kept)
                    .map_or_else(|_| format!("{kept:?}"), |kept| format!("{kept:#}"))
            }
        }
    }

    fn idempotence(&self) -> String {
        match (self.idempotent.as_str(), self.is_idempotent) {
            ("default", true) => "on, as for topics that do not say".into(),
            ("default", false) => "off, as for topics that do not say".into(),
            (set, _) => set.into(),
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
            ("compatibility", self.rules.compatibility_text()),
            ("checks", self.rules.checks_text()),
            ("validation", self.validation.clone()),
            ("idempotent", self.idempotence()),
            ("retention", self.retention()),
            ("events ever", self.event_count.to_string()),
            ("events retained", self.retained_count.to_string()),
            ("latest replay id", self.latest_replay_id.clone()),
            ("earliest replay id", self.earliest_replay_id.clone()),
        ];
        let lines = lines.map(|(name, value)| {
            let value = if value.is_empty() { "-" } else { &value };
            format!("{name:18}  {}\n", super::output::printable(value))
        });
        let subscribers = self.subscribers.iter().map(|subscriber| {
            let kind = match subscriber.managed {
                true => "managed",
                false => "subscriber",
            };
            let name = format!("{kind} {}", subscriber.name);
            let name = super::output::printable(&name).into_owned();
            format!("{name:18}  {}\n", subscriber.lag.text())
        });
        lines.into_iter().chain(subscribers).collect()
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
        assert!(text.contains("retention           24h\n"), "{text}");
        assert!(
            text.contains("idempotent          off, as for topics that do not say\n"),
            "{text}"
        );
        let lag = "managed billing     3 events, 1m 1s behind, 2h to loss\n";
        assert!(text.ends_with(lag), "{text}");
    }

    #[tokio::test]
    async fn the_place_of_a_time_is_an_id_and_the_time_of_what_comes_next() {
        let gateway = FakeGateway::start().await;
        let connection = gateway.connect().await;
        let topic: TopicName = "/event/OrderCreated__e".parse().unwrap();
        let found = replay_id(&connection, &topic, "-15m".parse().unwrap()).await;
        let cells = found.unwrap().cells();
        assert_eq!(cells, ["00000000000000070000", "2026-01-01T00:00:00Z"]);
        let found = replay_id(&connection, &topic, "2026-01-01T00:00Z".parse().unwrap()).await;
        let json = serde_json::to_string(&found.unwrap()).unwrap();
        assert_eq!(
            json,
            r#"{"replay_id":"00000000000000090000","next_at":null}"#
        );
    }

    #[tokio::test]
    async fn a_topic_is_deleted_only_when_that_is_meant() {
        let gateway = FakeGateway::start().await;
        let topic: TopicName = "/event/OrderCreated__e".parse().unwrap();
        let deleted = delete(&gateway.connect().await, &topic).await.unwrap();
        assert_eq!(deleted, 5);
        let args = Args {
            command: Command::Delete {
                topic,
                yes: false,
                connection: ConnectionArgs::default(),
            },
        };
        let failure = run(args).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("--yes"), "{failure}");
    }

    #[test]
    fn a_retention_is_a_time_or_the_default() {
        let day = parse_retention("24h").unwrap().0;
        assert_eq!(day, Some(Duration::from_secs(86_400)));
        assert_eq!(parse_retention("default").unwrap().0, None);
        for text in ["", "0s", "24", "for ever"] {
            assert!(parse_retention(text).is_err(), "{text}");
        }
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
