//! `tidegate schema register` and `check`: files become versions, or it is said why not.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWrite;

use super::{
    super::{
        connection::ConnectionArgs,
        exit::{Exit, Failure},
        output::{Output, OutputArgs, Record, warn},
    },
    read_file,
    verdict::Verdict,
};
use crate::{
    client::Connection,
    proto::admin::RegisterSchemaRequest,
    schema::{Schema, lint},
    types::{SchemaId, TopicName},
};

/// Arguments of both commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each file gets one result: with --output json an object with file, topic, schema_id, version,
registration, refused, compatibility, objections and affected. The command fails if one is refused.

Examples:
  tidegate schema check OrderCreated__e.avsc
  tidegate schema register schemas/*.avsc
  tidegate schema register OrderCreated__e.avsc --expect dGzWYkf4alBWqjXJMJJLlw")]
pub(super) struct Args {
    /// Avro schemas, one in each file
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The topic that is meant: a schema of another one is refused
    #[arg(long)]
    topic: Option<TopicName>,
    /// The schema that has to be the topic's current one: another one is not replaced
    #[arg(long, value_name = "ID")]
    expect: Option<SchemaId>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args, is_rehearsal: bool) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let mut output = Output::stdout(args.output);
    let mut tally = Tally::default();
    for path in &args.files {
        let judged = match request(path, args.topic.as_ref(), args.expect) {
            Ok(request) => judge(&connection, path, request, is_rehearsal).await,
            Err(verdict) => Ok(*verdict),
        };
        tally.add(&mut output, path, judged)?;
        // What is done is told, whatever becomes of the next.
        output.flush().await?;
    }
    tally.result()
}

/// How many schemas are refused, and of how many it is not known what became of them.
#[derive(Debug, Default)]
pub(super) struct Tally {
    all: usize,
    pub(super) refused: usize,
    failed: usize,
}

impl Tally {
    /// Adds what became of a file, and tells it.
    ///
    /// # Errors
    ///
    /// The failure, if it stands in the way of all further files too.
    pub(super) fn add<W: AsyncWrite + Unpin>(
        &mut self,
        output: &mut Output<W>,
        path: &Path,
        judged: Result<Verdict, Failure>,
    ) -> Result<(), Failure> {
        self.all += 1;
        let failure = match judged {
            Ok(verdict) => {
                self.refused += usize::from(verdict.refused);
                output.record(&verdict);
                return Ok(());
            }
            Err(failure) => failure,
        };
        match failure.exit() {
            Exit::Failed if failure.is_refusal() => self.refused += 1,
            Exit::Failed => self.failed += 1,
            _ => return Err(failure),
        }
        warn(&format!("{}: {failure}", path.display()));
        Ok(())
    }

    /// Whether all is well.
    pub(super) fn result(&self) -> Result<(), Failure> {
        let Self {
            all,
            refused,
            failed,
        } = self;
        match (refused, failed) {
            (0, 0) => Ok(()),
            (_, 0) => Err(Failure::failed(format!("refused: {refused} of {all}"))),
            _ => Err(Failure::failed(format!(
                "refused: {refused} of {all}; {failed} failed, and may be registered all the same"
            ))),
        }
    }
}

/// The request for a file, if it holds a schema: what is not even that is told without a gateway.
///
/// # Errors
///
/// The verdict on a file that holds none.
pub(super) fn request(
    path: &Path,
    topic: Option<&TopicName>,
    expected: Option<SchemaId>,
) -> Result<RegisterSchemaRequest, Box<Verdict>> {
    let text = read_file(path).map_err(|reason| Box::new(Verdict::unreadable(path, reason)))?;
    if Schema::parse(&text).is_err() {
        let findings = lint::findings_of_text(&text);
        return Err(Box::new(Verdict::no_schema(path, findings)));
    }
    Ok(RegisterSchemaRequest {
        schema_json: text,
        topic_name: topic.map_or_else(String::new, TopicName::to_string),
        expected_schema_id: expected.map_or_else(String::new, |id| id.to_string()),
        new_topic: false,
    })
}

/// Asks what registering the schema of a file does, or has it registered.
pub(super) async fn judge(
    connection: &Connection,
    path: &Path,
    request: RegisterSchemaRequest,
    is_rehearsal: bool,
) -> Result<Verdict, Failure> {
    let mut admin = connection.admin();
    let verdict = match is_rehearsal {
        true => admin.check_schema(request).await?,
        false => admin.register_schema(request).await?,
    };
    let file = path.display().to_string();
    Ok(Verdict::new(&file, verdict.into_inner(), is_rehearsal))
}

/// Makes a topic with the schema of a file.
pub(in crate::cli) async fn create_topic(
    connection: &Connection,
    topic: &TopicName,
    path: &Path,
) -> Result<(), Failure> {
    let verdict = match request(path, Some(topic), None) {
        Ok(mut request) => {
            request.new_topic = true;
            judge(connection, path, request, false).await?
        }
        Err(verdict) => *verdict,
    };
    match verdict.refused {
        false => Ok(()),
        true => {
            let lines = std::iter::once(verdict.text()).chain(verdict.details());
            Err(Failure::failed(lines.collect::<Vec<_>>().join("\n")))
        }
    }
}
