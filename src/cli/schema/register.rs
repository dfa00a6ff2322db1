//! `tidegate schema register` and `check`: files become versions, or it is said why not.

use std::path::{Path, PathBuf};

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
    schema::Schema,
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
    let mut refused = 0;
    for path in &args.files {
        let request = request(path, args.topic.as_ref(), args.expect);
        let judged = match request {
            Ok(request) => judge(&connection, path, request, is_rehearsal).await,
            Err(reason) => {
                refused += 1;
                warn(&reason);
                continue;
            }
        };
        match judged {
            Ok(verdict) => {
                refused += usize::from(verdict.refused);
                output.record(&verdict);
            }
            // One bad file does not keep the others from being looked at; a lost connection does.
            Err(failure) if failure.exit() == Exit::Failed => {
                refused += 1;
                warn(&format!("{}: {failure}", path.display()));
            }
            Err(failure) => return Err(failure),
        }
    }
    output.flush().await?;
    match refused {
        0 => Ok(()),
        _ => {
            let all = args.files.len();
            Err(Failure::failed(format!(
                "{refused} of {all} schemas are refused"
            )))
        }
    }
}

/// The request for a file, if it holds a schema: what is not even that is told without a gateway.
pub(super) fn request(
    path: &Path,
    topic: Option<&TopicName>,
    expected: Option<SchemaId>,
) -> Result<RegisterSchemaRequest, String> {
    let text = read_file(path)?;
    if let Err(error) = Schema::parse(&text) {
        return Err(format!("{}: {error}", path.display()));
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
    let mut request = request(path, Some(topic), None).map_err(Failure::failed)?;
    request.new_topic = true;
    let verdict = judge(connection, path, request, false).await?;
    match verdict.refused {
        false => Ok(()),
        true => {
            let lines = std::iter::once(verdict.text()).chain(verdict.details());
            Err(Failure::failed(lines.collect::<Vec<_>>().join("\n")))
        }
    }
}
