//! `tidegate deadletter`: the events that a subscriber gave up, which it keeps in its state directory.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use serde_json::Value;
use tokio::io::AsyncWrite;

use super::{
    connection::ConnectionArgs,
    consume::{DEAD_LETTERS, Program, ProgramArgs},
    exit::Failure,
    output::{Output, OutputArgs, Record, Row, note, time, warn},
};
use crate::{
    client::Connection,
    proto::{ConsumerEvent, SchemaRequest},
    schema::Schema,
    subscriber::{DeadLetter, DeadLetterDirectory, DeadLetterStore, LetterId, Subscriber},
};

/// Arguments of `tidegate deadletter`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters, with the reason why each was given up
    List {
        #[command(flatten)]
        state: StateArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one with its payload
    Show {
        /// Its name, as `deadletter list` shows it
        #[arg(value_name = "LETTER")]
        id: LetterId,
        #[command(flatten)]
        state: StateArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Handle dead letters again; those that are done are thrown away
    #[command(after_help = "\
Example:
  tidegate deadletter redrive --all --state orders --exec './handle-order'")]
    Redrive {
        #[command(flatten)]
        which: WhichArgs,
        #[command(flatten)]
        state: StateArgs,
        #[command(flatten)]
        program: ProgramArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Throw dead letters away
    Purge {
        #[command(flatten)]
        which: WhichArgs,
        #[command(flatten)]
        state: StateArgs,
        /// Say that it is meant: they do not come back
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct StateArgs {
    /// The directory that the subscriber keeps its state in
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

#[derive(Clone, Debug, clap::Args)]
struct WhichArgs {
    /// Their names, as `deadletter list` shows them
    #[arg(
        value_name = "LETTER",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    ids: Vec<LetterId>,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl StateArgs {
    /// The letters, if the subscriber ever kept its state there.
    fn open(&self) -> Result<DeadLetterDirectory, Failure> {
        let path = self.state.join(DEAD_LETTERS);
        match path.is_dir() {
            true => Ok(DeadLetterDirectory::open(path)?),
            false => Err(Failure::Usage(format!(
                "{} is not the state directory of a subscriber: it has no {DEAD_LETTERS}",
                self.state.display()
            ))),
        }
    }
}

impl WhichArgs {
    async fn ids(&self, letters: &DeadLetterDirectory) -> Result<Vec<LetterId>, Failure> {
        match self.all {
            true => Ok(letters.list().await?),
            false => Ok(self.ids.clone()),
        }
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List { state, output } => list(&state.open()?, Output::stdout(output)).await,
        Command::Show {
            id,
            state,
            output,
            connection,
        } => {
            let letters = state.open()?;
            let letter = read(&letters, &id).await?;
            // The facts are worth showing even if no gateway can tell what the payload says.
            let connection = connection.connect().await;
            let payload = match &connection {
                Ok(connection) => payload_of(connection, &letter).await,
                Err(failure) => Err(failure.to_string()),
            };
            show(&id, &letter, payload, Output::stdout(output)).await
        }
        Command::Redrive {
            which,
            state,
            program,
            output,
            connection,
        } => {
            let letters = state.open()?;
            let Some(handler) = program.handler()? else {
                return Err(Failure::Usage(
                    "say what is to handle them: --exec CMD or --webhook URL".into(),
                ));
            };
            let connection = connection.connect().await?;
            let ids = which.ids(&letters).await?;
            let output = Output::stdout(output);
            redrive(connection, &letters, &ids, &program, &handler, output).await
        }
        Command::Purge { which, state, yes } => {
            let letters = state.open()?;
            let ids = which.ids(&letters).await?;
            purge(&letters, &ids, yes).await
        }
    }
}

async fn list<W: AsyncWrite + Unpin>(
    letters: &DeadLetterDirectory,
    mut output: Output<W>,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for id in letters.list().await? {
        match letters.read(&id).await {
            Ok(Some(letter)) => rows.push(LetterRow::of(&id, &letter)),
            // Purged meanwhile.
            Ok(None) => {}
            Err(error) => warn(&error.to_string()),
        }
    }
    output.list(&rows);
    output.flush().await
}

async fn read(letters: &DeadLetterDirectory, id: &LetterId) -> Result<DeadLetter, Failure> {
    let letter = letters.read(id).await?;
    letter.ok_or_else(|| {
        Failure::failed(format!(
            "there is no dead letter {id}; `tidegate deadletter list` shows those that there are"
        ))
    })
}

async fn show<W: AsyncWrite + Unpin>(
    id: &LetterId,
    letter: &DeadLetter,
    payload: Result<Value, String>,
    mut output: Output<W>,
) -> Result<(), Failure> {
    let (payload, reason) = match payload {
        Ok(payload) => (payload, None),
        Err(reason) => (Value::Null, Some(reason)),
    };
    output.record(&LetterDetails {
        row: LetterRow::of(id, letter),
        schema_id: letter.schema_id.clone(),
        payload,
    });
    output.flush().await?;
    if let Some(reason) = reason {
        warn(&format!("its payload cannot be shown: {reason}"));
    }
    Ok(())
}

async fn payload_of(connection: &Connection, letter: &DeadLetter) -> Result<Value, String> {
    use prost::Message;
    let event = ConsumerEvent::decode(letter.event.clone()).map_err(|error| error.to_string())?;
    let request = SchemaRequest {
        schema_id: letter.schema_id.clone(),
    };
    let schema = connection.pub_sub().get_schema(request).await;
    let schema = schema.map_err(|status| status.message().to_owned())?;
    let schema = Schema::parse(&schema.into_inner().schema_json);
    let schema = schema.map_err(|error| error.to_string())?;
    let payload = event.event.unwrap_or_default().payload;
    schema.to_json(&payload).map_err(|error| error.to_string())
}

async fn redrive<W: AsyncWrite + Unpin>(
    connection: Connection,
    letters: &DeadLetterDirectory,
    ids: &[LetterId],
    args: &ProgramArgs,
    program: &Program,
    mut output: Output<W>,
) -> Result<(), Failure> {
    let mut failed = 0;
    for id in ids {
        let topic = read(letters, id).await?.topic;
        let subscriber = Subscriber::builder(connection.clone())
            .topic(topic)
            .build()?;
        let mut redriven = None;
        let one = std::slice::from_ref(id);
        subscriber
            .redrive(&args.run(), program, letters, one, |came| {
                redriven = Some(came)
            })
            .await?;
        let error = redriven.and_then(|came| came.result.err());
        failed += u64::from(error.is_some());
        output.record(&RedrivenLine {
            letter: id.to_string(),
            error,
        });
        output.flush().await?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!(
            "{failed} of {} dead letters are still some",
            ids.len()
        ))),
    }
}

async fn purge(
    letters: &DeadLetterDirectory,
    ids: &[LetterId],
    is_meant: bool,
) -> Result<(), Failure> {
    if !is_meant {
        return Err(Failure::Usage(format!(
            "{} dead letters would be thrown away for good; say --yes if that is meant",
            ids.len()
        )));
    }
    let mut purged = 0;
    for id in ids {
        match letters.remove(id).await? {
            true => purged += 1,
            false => warn(&format!("there is no dead letter {id}")),
        }
    }
    note(&format!("{purged} dead letters thrown away"));
    Ok(())
}

/// One dead letter. The fields are the keys in JSON.
#[derive(Debug, PartialEq, Serialize)]
struct LetterRow {
    letter: String,
    topic: String,
    replay_id: String,
    event_id: String,
    attempts: u32,
    parked_at: String,
    cause: String,
}

impl LetterRow {
    fn of(id: &LetterId, letter: &DeadLetter) -> Self {
        Self {
            letter: id.to_string(),
            topic: letter.topic.to_string(),
            replay_id: letter.replay_id.to_string(),
            event_id: letter.event_id.clone(),
            attempts: letter.attempts,
            parked_at: time(letter.parked_at.as_millis()),
            cause: letter.cause.clone(),
        }
    }
}

impl Row for LetterRow {
    const HEADERS: &'static [&'static str] = &["LETTER", "EVENT ID", "TRIES", "GIVEN UP", "CAUSE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.letter.clone(),
            self.event_id.clone(),
            self.attempts.to_string(),
            self.parked_at.clone(),
            // Its first line is enough to tell one from another.
            self.cause.lines().next().unwrap_or_default().to_owned(),
        ]
    }
}

#[derive(Debug, Serialize)]
struct LetterDetails {
    #[serde(flatten)]
    row: LetterRow,
    schema_id: String,
    /// Null if it cannot be shown.
    payload: Value,
}

impl Record for LetterDetails {
    fn text(&self) -> String {
        self.row.letter.clone()
    }

    fn details(&self) -> Vec<String> {
        let row = &self.row;
        let mut details = vec![
            format!("topic     {}", row.topic),
            format!("event id  {}", row.event_id),
            format!("schema    {}", self.schema_id),
            format!("tries     {}", row.attempts),
            format!("given up  {}", row.parked_at),
        ];
        details.extend(row.cause.lines().map(|line| format!("cause     {line}")));
        if !self.payload.is_null() {
            details.push(format!("payload   {}", self.payload));
        }
        details
    }
}

#[derive(Debug, Serialize)]
struct RedrivenLine {
    letter: String,
    /// Why it is still a dead letter.
    error: Option<String>,
}

impl Record for RedrivenLine {
    fn text(&self) -> String {
        match &self.error {
            None => format!("{}  done", self.letter),
            Some(error) => format!("{}  error: {error}", self.letter),
        }
    }
}

#[cfg(test)]
mod tests;
