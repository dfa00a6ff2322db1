//! `tidegate publish`: events written as JSON, one result line for each.

mod change;
mod event;
mod input;
mod pipeline;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    connection::ConnectionArgs,
    exit::{Exit, Failure},
    output::{Output, OutputArgs},
};
use crate::{
    client::Connection,
    clock::SystemClock,
    proto::{SchemaRequest, TopicRequest},
    schema::Schema,
    types::TopicName,
};
use change::ChangeArgs;
use event::EventWriter;
use input::Lines;
use pipeline::{Pipeline, Tally};

/// Arguments of `tidegate publish`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An event is a JSON object with the fields of the topic's schema. Nullable fields may be left out; \
CreatedDate and CreatedById are filled in. What `subscribe --output json` prints is taken too: its \
payload and event_id are published, the rest is ignored.

Each event gets one line: its replay id and event id, or why it was refused. With --output json \
the keys are replay_id, event_id and error. A refused event does not stop the others.

With --change, the event tells how a record changed: a file has the whole record as JSON before the \
change, another after it, and one of them may be /dev/null. The header is filled in, and an update \
holds what differs. A record's Id is the event's record id; attributes, IsDeleted and \
SystemModstamp are passed over; dates and times are numbers of milliseconds, as events have them. \
Publishing to /data/ takes a token made with --change-events.

Examples:
  tidegate publish /event/OrderCreated__e --json '{\"Order_Number__c\": \"A-17\"}'
  tidegate publish /event/OrderCreated__e --file events.ndjson
  tail -f orders.ndjson | tidegate publish /event/OrderCreated__e -
  tidegate publish /data/Shipment__ChangeEvent --change before.json after.json
  tidegate publish /data/Shipment__ChangeEvent --change /dev/null new.json --change-origin shop")]
pub(super) struct Args {
    /// The topic, such as /event/OrderCreated__e
    topic: TopicName,
    /// Read events from standard input, one on each line; the default if that is not a terminal
    #[arg(value_name = "-", value_parser = ["-"], hide_possible_values = true, conflicts_with_all = ["json", "file"])]
    stdin: Option<String>,
    /// Publish this one event
    #[arg(long, value_name = "EVENT", conflicts_with = "file")]
    json: Option<String>,
    /// Read events from a file, one on each line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Where events come from.
type Source = Lines<Box<dyn AsyncRead + Send + Unpin>>;

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    // What is wrong with the input is told before a gateway is asked for anything.
    if let Some(change) = args.change.open(&args.topic).await? {
        let connection = args.connection.connect().await?;
        let mut output = Output::stdout(args.output);
        return change::publish(&connection, args.topic, &change, &mut output).await;
    }
    let (source, progress) = open(args.json, args.file, args.stdin.is_some()).await?;
    let connection = args.connection.connect().await?;
    let mut output = Output::stdout(args.output);
    publish(&connection, args.topic, source, &mut output, &progress).await
}

async fn open(
    json: Option<String>,
    file: Option<PathBuf>,
    is_stdin_named: bool,
) -> Result<(Source, ProgressBar), Failure> {
    if let Some(json) = json {
        let event = std::io::Cursor::new(json.into_bytes());
        return Ok((Lines::single(Box::new(event)), ProgressBar::hidden()));
    }
    if let Some(path) = file {
        return open_file(&path).await;
    }
    if !is_stdin_named && std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "there is nothing to publish; give --json EVENT, --file FILE, --change BEFORE AFTER, or - \
             to type events"
                .into(),
        ));
    }
    let stdin = Box::new(tokio::io::stdin());
    Ok((Lines::new(stdin), ProgressBar::hidden()))
}

async fn open_file(path: &Path) -> Result<(Source, ProgressBar), Failure> {
    let (file, bytes) = open_for_reading(path).await?;
    let source = Lines::new(Box::new(file) as Box<dyn AsyncRead + Send + Unpin>);
    // On a terminal the result lines are progress enough, and a bar would be in their way.
    if std::io::stdout().is_terminal() {
        return Ok((source, ProgressBar::hidden()));
    }
    let progress = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
        .with_style(
            ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left")
                .expect("the template names known parts"),
        );
    Ok((source, progress))
}

/// A file, and how many bytes it says that it has.
async fn open_for_reading(path: &Path) -> Result<(tokio::fs::File, u64), Failure> {
    let refused = |error| unreadable(path, &error);
    let file = tokio::fs::File::open(path).await.map_err(refused)?;
    let metadata = file.metadata().await.map_err(refused)?;
    if metadata.is_dir() {
        let reason = format!("{} is a directory, wanted a file", path.display());
        return Err(Failure::Usage(reason));
    }
    Ok((file, metadata.len()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!(
        "the file {} cannot be read: {error}",
        path.display()
    ))
}

/// Publishes every event of `source` and writes a result for each.
async fn publish<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    connection: &Connection,
    topic: TopicName,
    source: Lines<R>,
    output: &mut Output<W>,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let writer = look_up(connection, &topic).await?;
    let mut pipeline = Pipeline::new(connection, topic, writer, output, progress);
    let ended = pipeline.run(source).await;
    progress.finish_and_clear();
    conclude(ended, pipeline.tally())
}

/// How the command ends after every result is written.
fn conclude(ended: Result<(), Failure>, tally: Tally) -> Result<(), Failure> {
    ended?;
    match tally.refused {
        0 => Ok(()),
        refused => Err(Failure::failed(format!(
            "{refused} of {} events were not published",
            tally.published + refused
        ))),
    }
}

/// Asks for the topic's current schema, and whether anything may be published to it.
async fn look_up(connection: &Connection, topic: &TopicName) -> Result<EventWriter, Failure> {
    let mut client = connection.pub_sub();
    let request = TopicRequest {
        topic_name: topic.to_string(),
    };
    let info = client.get_topic(request).await?.into_inner();
    if info.schema_id.is_empty() {
        return Err(Failure::failed(format!(
            "{topic} is a channel; publish to the topic of one of its event types"
        )));
    }
    if !info.can_publish {
        let message = format!("this token may not publish to {topic}");
        return Err(Failure::Other(Exit::NotPermitted, message));
    }
    let request = SchemaRequest {
        schema_id: info.schema_id,
    };
    let info = client.get_schema(request).await?.into_inner();
    let schema = Schema::parse(&info.schema_json).map_err(|error| {
        Failure::failed(format!(
            "the gateway's schema of {topic} is not usable: {error}"
        ))
    })?;
    Ok(EventWriter::new(schema, info.schema_id, SystemClock))
}

#[cfg(test)]
mod tests;
