//! `tidegate schema`: schemas of a gateway, and schemas in files before a gateway has them.

mod compare;
mod init;
mod lint;
mod register;
mod retire;
mod rules;
mod sync;
mod verdict;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Format, Output, OutputArgs, Record, Row, note, time, warn},
};
use crate::{
    client::Connection,
    proto::{
        SchemaInfo, SchemaRequest, TopicRequest,
        admin::{ListSchemasRequest, SchemaVersion},
    },
    schema::{Schema, files},
    types::{SchemaId, TopicName},
};

/// Arguments of `tidegate schema`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first schema for an event; no gateway is asked
    Init(init::Args),
    /// Say what would be refused in schema files, and what will hurt later; no gateway is asked
    Lint(lint::Args),
    /// List every version of the schemas of the topics that the token may use
    List {
        /// List those of this topic only
        #[arg(long)]
        topic: Option<TopicName>,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Print a schema as it was registered
    Get {
        /// A schema id, or a topic for its current schema
        #[arg(value_name = "ID|TOPIC", value_parser = parse_which)]
        which: Which,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Register schemas, each under the topic that its name asks for
    ///
    /// A schema that breaks the rules of its topic is refused, with every reason. Registering what is
    /// registered already changes nothing.
    Register(register::Args),
    /// Say what registering schemas would do, and who would break
    Check(register::Args),
    /// Show what differs between two schemas
    Diff(compare::DiffArgs),
    /// Show every version of a topic's schema, and what each changed
    History(compare::HistoryArgs),
    /// Show or set what new versions are held to
    SetCompatibility(rules::Args),
    /// Have events refused that are written with an earlier version
    Retire(retire::Args),
    /// Write the current schemas of a gateway into a directory
    Pull(sync::PullArgs),
    /// Register the schemas of a directory, if none of them is refused
    Push(sync::PushArgs),
    /// Print the ids that schemas in files have; no gateway is asked
    Id {
        /// Avro schemas, one in each file
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// How `schema get` names a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    Id(SchemaId),
    CurrentOf(TopicName),
}

fn parse_which(text: &str) -> Result<Which, String> {
    if text.starts_with('/') {
        let topic = text.parse().map(Which::CurrentOf);
        topic.map_err(|error: crate::types::TopicNameError| error.to_string())
    } else {
        let id = text.parse().map(Which::Id);
        id.map_err(|error: crate::types::SchemaIdError| format!("{error}; a topic begins with /"))
    }
}

pub(super) use register::create_topic;
pub(super) use rules::RulesRow;

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Init(args) => init::run(&args),
        Command::Lint(args) => lint::run(args).await,
        Command::List {
            topic,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let (schemas, refused) = list(&connection, topic.as_ref()).await?;
            if schemas.is_empty() {
                note("there is no schema of a topic that this token may use");
            }
            output.list(&schemas);
            for file in &refused {
                output.record(file);
            }
            output.flush().await
        }
        Command::Register(args) => register::run(args, false).await,
        Command::Check(args) => register::run(args, true).await,
        Command::Diff(args) => compare::diff(args).await,
        Command::History(args) => compare::history(args).await,
        Command::SetCompatibility(args) => rules::run(args).await,
        Command::Retire(args) => retire::run(args).await,
        Command::Pull(args) => sync::pull(args).await,
        Command::Push(args) => sync::push(args).await,
        Command::Get {
            which,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let schema = get(&connection, which).await?;
            match output.format() {
                Format::Json => output.record(&schema),
                Format::Text => output.document(&schema.schema_json),
            }
            output.flush().await
        }
        Command::Id { files, output } => {
            let mut output = Output::stdout(output);
            let ids: Vec<_> = files.iter().map(|path| id_of_file(path)).collect();
            let refused = ids.iter().filter(|id| id.is_err()).count();
            for id in ids {
                match id {
                    Ok(id) => output.record(&id),
                    Err(reason) => warn(&reason),
                }
            }
            output.flush().await?;
            match refused {
                0 => Ok(()),
                _ => Err(Failure::failed(format!(
                    "{refused} of {} files hold no schema of an event",
                    files.len()
                ))),
            }
        }
    }
}

async fn list(
    connection: &Connection,
    topic: Option<&TopicName>,
) -> Result<(Vec<SchemaRow>, Vec<RefusedFile>), Failure> {
    let request = ListSchemasRequest {
        topic_name: topic.map_or_else(String::new, TopicName::to_string),
    };
    let response = connection.admin().list_schemas(request).await?.into_inner();
    let rows = response.schemas.into_iter().map(SchemaRow::from);
    let refused = response.refused_files.into_iter().map(|file| RefusedFile {
        refused_file: file.path,
        reasons: file.reasons,
        refused_at: time(file.refused_at_ms),
    });
    Ok((rows.collect(), refused.collect()))
}

async fn get(connection: &Connection, which: Which) -> Result<SchemaText, Failure> {
    let schema_id = match which {
        Which::Id(id) => id.to_string(),
        Which::CurrentOf(topic) => {
            let request = TopicRequest {
                topic_name: topic.to_string(),
            };
            let info = connection.pub_sub().get_topic(request).await?.into_inner();
            if info.schema_id.is_empty() {
                return Err(Failure::failed(format!(
                    "{topic} carries events of several types and has no schema of its own"
                )));
            }
            info.schema_id
        }
    };
    let request = SchemaRequest { schema_id };
    let SchemaInfo {
        schema_json,
        schema_id,
        ..
    } = connection.pub_sub().get_schema(request).await?.into_inner();
    Ok(SchemaText {
        schema_id,
        schema_json,
    })
}

/// The text of a schema file. What is too long comes cut: the parser says how long it may be.
fn read_file(path: &Path) -> Result<String, String> {
    files::read_text(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn id_of_file(path: &Path) -> Result<FileSchemaId, String> {
    let text = read_file(path)?;
    let schema = Schema::parse(&text);
    let schema = schema.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(FileSchemaId {
        schema_id: schema.id().to_string(),
        file: path.display().to_string(),
    })
}

/// One version of a topic's schema. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct SchemaRow {
    topic: String,
    schema_id: String,
    version: u32,
    current: bool,
    registered_at: String,
    registered_by: String,
    /// Null while events may be written with it.
    retired_at: Option<String>,
    retired_by: Option<String>,
}

impl From<SchemaVersion> for SchemaRow {
    fn from(version: SchemaVersion) -> Self {
        let is_retired = version.retired_at_ms != 0;
        Self {
            topic: version.topic_name,
            schema_id: version.schema_id,
            version: version.version,
            current: version.current,
            registered_at: time(version.registered_at_ms),
            registered_by: version.registered_by,
            retired_at: is_retired.then(|| time(version.retired_at_ms)),
            retired_by: is_retired.then_some(version.retired_by),
        }
    }
}

impl SchemaRow {
    fn state(&self) -> &'static str {
        match (self.current, &self.retired_at) {
            (true, _) => "current",
            (false, None) => "active",
            (false, Some(_)) => "retired",
        }
    }
}

impl Row for SchemaRow {
    const HEADERS: &'static [&'static str] =
        &["TOPIC", "SCHEMA ID", "VERSION", "STATE", "REGISTERED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.schema_id.clone(),
            self.version.to_string(),
            self.state().to_owned(),
            self.registered_at.clone(),
            self.registered_by.clone(),
        ]
    }
}

/// A file of the gateway's directory of schemas that it does not take. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct RefusedFile {
    refused_file: String,
    reasons: Vec<String>,
    refused_at: String,
}

impl Record for RefusedFile {
    fn text(&self) -> String {
        let reasons = self.reasons.join("; ");
        let (file, since) = (&self.refused_file, &self.refused_at);
        format!("refused since {since}: {file}: {reasons}")
    }
}

/// A schema's text. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct SchemaText {
    schema_id: String,
    schema_json: String,
}

impl Record for SchemaText {
    fn text(&self) -> String {
        self.schema_json.clone()
    }
}

/// The id of the schema in a file. The fields are the keys in JSON.
#[derive(Debug, PartialEq, Serialize)]
struct FileSchemaId {
    schema_id: String,
    file: String,
}

impl Record for FileSchemaId {
    fn text(&self) -> String {
        format!("{}  {}", self.schema_id, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{
            exit::Exit,
            fake_gateway::{FakeGateway, ORDER_CREATED, ORDER_CREATED_ID},
        },
        types::limits::SCHEMA_BYTES_MAX,
    };

    #[test]
    fn the_id_of_a_file_is_computed_here() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("OrderCreated__e.avsc");
        std::fs::write(&path, ORDER_CREATED).unwrap();
        assert_eq!(id_of_file(&path).unwrap().schema_id, ORDER_CREATED_ID);

        std::fs::write(&path, "{\"type\":\n oops}").unwrap();
        let refusal = id_of_file(&path).unwrap_err();
        assert!(
            refusal.contains("OrderCreated__e.avsc: line 2"),
            "{refusal}"
        );
        std::fs::write(&path, vec![b' '; SCHEMA_BYTES_MAX + 9]).unwrap();
        assert!(id_of_file(&path).unwrap_err().contains("at most"));
        assert!(id_of_file(&directory.path().join("none")).is_err());
    }

    #[test]
    fn a_schema_is_named_by_id_or_by_topic() {
        assert!(matches!(parse_which(ORDER_CREATED_ID), Ok(Which::Id(_))));
        assert!(matches!(
            parse_which("/event/OrderCreated__e"),
            Ok(Which::CurrentOf(_))
        ));
        assert!(parse_which("OrderCreated__e").is_err());
        assert!(parse_which("/evnt/OrderCreated__e").is_err());
    }

    #[tokio::test]
    async fn a_schema_is_printed_as_it_was_registered() {
        let gateway = FakeGateway::start().await;
        let connection = gateway.connect().await;
        for which in [ORDER_CREATED_ID, "/event/OrderCreated__e"] {
            let schema = get(&connection, parse_which(which).unwrap()).await.unwrap();
            assert_eq!(schema.schema_json, ORDER_CREATED);
        }
        let unknown = Which::Id(SchemaId::from_digest([0; 16]));
        let failure = get(&connection, unknown).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::NotPermitted);
    }

    #[tokio::test]
    async fn versions_are_listed() {
        let gateway = FakeGateway::start().await;
        let (schemas, _) = list(&gateway.connect().await, None).await.unwrap();
        assert_eq!(schemas[0].cells()[1], ORDER_CREATED_ID);
        assert_eq!(schemas[0].registered_at, "2023-11-14T22:13:20Z");
    }
}
