//! `tidegate publish`: events written as JSON or in an Avro container, one result line for each.

mod change;
mod container;
mod event;
mod input;
mod pipeline;
mod resume;
mod source;

use std::{
    fs::Metadata,
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    connection::ConnectionArgs,
    exit::{Exit, Failure},
    output::{Output, OutputArgs, note, warn},
};
use crate::{
    client::Connection,
    clock::SystemClock,
    publisher::{Publisher, TopicError, TopicSchema},
    types::{TenantId, TopicName, limits::PUBLISH_RETRY_FOR},
};
use change::ChangeArgs;
use event::EventWriter;
use pipeline::{Pipeline, Tally};
use resume::Resume;
use source::Source;

/// Arguments of `tidegate publish`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An event is a JSON object with the fields of the topic's schema. Nullable fields may be left out; \
CreatedDate and CreatedById are filled in. What `subscribe --output json` prints is taken too: its \
payload and event_id are published, the rest is ignored.

Instead of lines, a file or standard input may have an Avro object container, uncompressed or with \
deflate. Its records are published as they are if the gateway knows their schema, else by the topic's \
own.

Each event gets one line: its replay id and event id, or why it was refused. With --output json \
the keys are replay_id, event_id and error. A refused event does not stop the others.

When the publishing of a file ends early, FILE.tidegate-resume is left next to it, and the same \
command goes on behind what is published; events that were sent and not answered are sent again under \
the same event ids.

With --change, the event tells how a record changed: a file has the whole record as JSON before the \
change, another after it, and one of them may be /dev/null. The header is filled in, and an update \
holds what differs. A record's Id is the event's record id; attributes, IsDeleted and \
SystemModstamp are passed over; dates and times are numbers of milliseconds, as events have them. \
Publishing to /data/ takes a token made with --change-events.

Examples:
  tidegate publish /event/OrderCreated__e --json '{\"Order_Number__c\": \"A-17\"}'
  tidegate publish /event/OrderCreated__e --file events.ndjson
  tidegate publish /event/OrderCreated__e --file orders.avro
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
    /// Read events from a file, one on each line, or from an Avro container file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Keep in this file how far the publishing of a file came, or nowhere if it is none
    /// [default: FILE.tidegate-resume]
    #[arg(long, value_name = "FILE|none", requires = "file")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Where events come from.
type Input = Source<Box<dyn AsyncRead + Send + Unpin>>;

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    // What is wrong with the input is told before a gateway is asked for anything.
    if let Some(change) = args.change.open(&args.topic).await? {
        let connection = args.connection.connect().await?;
        let mut output = Output::stdout(args.output);
        let publishing = change::publish(&connection, args.topic, &change, &mut output);
        return super::unless_interrupted(publishing).await;
    }
    let is_single = args.json.is_some();
    let (source, progress) = open(args.json, args.file.as_deref(), args.stdin.is_some()).await?;
    let connection = args.connection.connect().await?;
    let resume = match &args.file {
        Some(file) if source.bytes.is_some() => {
            open_resume(args.resume, file, &args.topic, &connection.tenant_id())?
        }
        _ => None,
    };
    let mut output = Output::stdout(args.output);
    let began_at = Instant::now();
    let job = Job {
        source,
        progress: &progress,
        resume,
        retry_for: PUBLISH_RETRY_FOR,
        interrupted: super::interrupted(),
    };
    let (tally, ended) = publish(&connection, args.topic, job, &mut output).await;
    if !is_single && tally.total() > 1 {
        note(&tally.summary(began_at.elapsed()));
    }
    ended
}

async fn open(
    json: Option<String>,
    file: Option<&Path>,
    is_stdin_named: bool,
) -> Result<(Input, ProgressBar), Failure> {
    if let Some(json) = json {
        let event = std::io::Cursor::new(json.into_bytes());
        return Ok((Source::single(Box::new(event)), ProgressBar::hidden()));
    }
    if let Some(path) = file {
        return open_file(path).await;
    }
    if !is_stdin_named && std::io::stdin().is_terminal() {
        return Err(Failure::Usage(
            "there is nothing to publish; give --json EVENT, --file FILE, --change BEFORE AFTER, or - \
             to type events"
                .into(),
        ));
    }
    let stdin = Box::new(tokio::io::stdin());
    Ok((Source::new(stdin), ProgressBar::hidden()))
}

async fn open_file(path: &Path) -> Result<(Input, ProgressBar), Failure> {
    let (file, metadata) = open_for_reading(path).await?;
    let bytes = metadata.len();
    let mut source = Source::new(Box::new(file) as Box<dyn AsyncRead + Send + Unpin>);
    // A pipe or a device has no length that means anything, and cannot be read again.
    source.bytes = metadata.is_file().then_some(bytes);
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

/// What an earlier run left of publishing this file, or a beginning.
fn open_resume(
    path: Option<PathBuf>,
    file: &Path,
    topic: &TopicName,
    tenant_id: &TenantId,
) -> Result<Option<Resume>, Failure> {
    if path.as_deref() == Some(Path::new("none")) {
        return Ok(None);
    }
    let is_named = path.is_some();
    let path = path.unwrap_or_else(|| resume::default_path(file));
    Resume::open(path, is_named, file, topic, tenant_id).map(Some)
}

/// Writes the resume file before the first event is sent: from then on it covers every id.
fn begin(mut resume: Resume) -> Result<Option<Resume>, Failure> {
    match resume.write() {
        Ok(()) => {}
        Err(error) if resume.is_named() => return Err(unwritable(resume.path(), &error)),
        Err(error) => {
            warn(&format!(
                "{}; nothing goes on after an interruption",
                unwritable(resume.path(), &error)
            ));
            // What an earlier run left is still to be gone by.
            return Ok((resume.began_at() > 0).then_some(resume));
        }
    }
    match resume.began_at() {
        0 => {}
        settled => note(&format!(
            "{} says that {settled} events are settled; going on behind them",
            resume.path().display()
        )),
    }
    Ok(Some(resume))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!(
        "the file {} cannot be written: {error}",
        path.display()
    ))
}

/// A file, and what it says of itself.
async fn open_for_reading(path: &Path) -> Result<(tokio::fs::File, Metadata), Failure> {
    let refused = |error| unreadable(path, &error);
    let file = tokio::fs::File::open(path).await.map_err(refused)?;
    let metadata = file.metadata().await.map_err(refused)?;
    if metadata.is_dir() {
        let reason = format!("{} is a directory, wanted a file", path.display());
        return Err(Failure::Usage(reason));
    }
    Ok((file, metadata))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!(
        "the file {} cannot be read: {error}",
        path.display()
    ))
}

/// What is published, and what goes with it.
struct Job<'a, R, I> {
    source: Source<R>,
    progress: &'a ProgressBar,
    resume: Option<Resume>,
    /// For how long a gateway that went away is waited for.
    retry_for: Duration,
    interrupted: I,
}

/// Publishes every event of a job and writes a result for each.
async fn publish<R: AsyncRead + Unpin, I: Future<Output = ()>, W: AsyncWrite + Unpin>(
    connection: &Connection,
    topic: TopicName,
    job: Job<'_, R, I>,
    output: &mut Output<W>,
) -> (Tally, Result<(), Failure>) {
    let began = async {
        let writer = look_up(connection, &topic).await?;
        let resume = job.resume.map(begin).transpose()?.flatten();
        Ok((writer, resume))
    };
    let (writer, resume) = match super::unless_interrupted(began).await {
        Ok(began) => began,
        Err(failure) => return (Tally::default(), Err(failure)),
    };
    let builder = Publisher::builder(connection.clone(), topic).retry_for(job.retry_for);
    let progress = job.progress;
    let pipeline = Pipeline::new(
        connection,
        builder.start(),
        writer,
        output,
        progress,
        resume,
    );
    let (tally, ended) = pipeline.run(job.source, job.interrupted).await;
    progress.finish_and_clear();
    (tally, conclude(ended, tally))
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
    match TopicSchema::look_up(connection, topic).await {
        Ok(schema) => Ok(EventWriter::new(schema, SystemClock)),
        Err(TopicError::Client(error)) => Err(error.into()),
        Err(error @ TopicError::NotPermitted(_)) => {
            Err(Failure::Other(Exit::NotPermitted, error.to_string()))
        }
        Err(error @ (TopicError::Channel(_) | TopicError::Schema { .. })) => {
            Err(Failure::failed(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests;
