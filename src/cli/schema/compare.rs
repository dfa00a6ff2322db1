//! `tidegate schema diff` and `history`: what differs between two schemas, and between each version of
//! a topic's and the one before it.

use std::{convert::Infallible, path::PathBuf};

use serde::Serialize;

use super::{
    super::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Format, Output, OutputArgs, Record, note},
    },
    SchemaRow, Which, read_file,
};
use crate::{
    client::Connection,
    proto::admin::{
        DescribeSchemaRequest, DescribeTopicRequest, ListSchemasRequest, SchemaVersion,
    },
    schema::{
        Schema,
        diff::{Difference, differences},
    },
    types::TopicName,
};

/// Arguments of `tidegate schema diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate schema diff OrderCreated__e.avsc
  tidegate schema diff dGzWYkf4alBWqjXJMJJLlw /event/OrderCreated__e
  tidegate schema diff old.avsc new.avsc")]
pub(super) struct DiffArgs {
    /// The old schema: a file, a schema id, or a topic for its current schema. If it is the only one, it
    /// is the new schema, and the old one is the current schema of its topic
    #[arg(value_name = "FILE|ID|TOPIC", value_parser = parse_side)]
    old: Side,
    /// The new schema
    #[arg(value_name = "FILE|ID|TOPIC", value_parser = parse_side)]
    new: Option<Side>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `tidegate schema history`.
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// The topic, such as /event/OrderCreated__e
    topic: TopicName,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// One of two schemas that are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    File(PathBuf),
    Gateway(Which),
}

/// What is neither the name of a topic nor a schema id is a file.
fn parse_side(text: &str) -> Result<Side, Infallible> {
    Ok(match super::parse_which(text) {
        Ok(which) => Side::Gateway(which),
        Err(_) => Side::File(text.into()),
    })
}

pub(super) async fn diff(args: DiffArgs) -> Result<(), Failure> {
    let mut gateway = Gateway {
        args: args.connection,
        connection: None,
    };
    let (old, new) = match args.new {
        Some(new) => (gateway.schema(args.old).await?, gateway.schema(new).await?),
        None => {
            let new = gateway.schema(args.old).await?;
            let topic = TopicName::for_record(new.record_name());
            let topic = topic.map_err(|error| Failure::failed(error.to_string()))?;
            let old = Side::Gateway(Which::CurrentOf(topic));
            (gateway.schema(old).await?, new)
        }
    };
    let mut output = Output::stdout(args.output);
    let found = differences(&old, &new);
    if found.is_empty() {
        note("the two schemas say the same of every field");
    }
    for difference in &found {
        output.record(&DifferenceRow::from(difference));
    }
    output.flush().await
}

/// A gateway that is reached when it is needed: two files are compared without one.
struct Gateway {
    args: ConnectionArgs,
    connection: Option<Connection>,
}

impl Gateway {
    async fn schema(&mut self, side: Side) -> Result<Schema, Failure> {
        let (text, whence) = match side {
            Side::File(path) => {
                let text = read_file(&path).map_err(|error| {
                    Failure::failed(format!("{error}; wanted a file, a schema id or a topic"))
                })?;
                (text, path.display().to_string())
            }
            Side::Gateway(which) => {
                let connection = self.connection().await?;
                let id = match which {
                    Which::Id(id) => id.to_string(),
                    Which::CurrentOf(topic) => current_id(connection, &topic).await?,
                };
                let version = version(connection, &id).await?;
                (version.schema_json, format!("the schema {id}"))
            }
        };
        Schema::parse(&text).map_err(|error| Failure::failed(format!("{whence}: {error}")))
    }

    async fn connection(&mut self) -> Result<&Connection, Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.args.clone().connect().await?);
        }
        Ok(self.connection.as_ref().expect("just connected"))
    }
}

async fn current_id(connection: &Connection, topic: &TopicName) -> Result<String, Failure> {
    let request = DescribeTopicRequest {
        name: topic.to_string(),
    };
    let topic = connection.admin().describe_topic(request).await?;
    Ok(topic.into_inner().schema_id)
}

/// One version with its text; asking like this is no use of the schema that anybody is told of.
pub(super) async fn version(connection: &Connection, id: &str) -> Result<SchemaVersion, Failure> {
    let request = DescribeSchemaRequest {
        schema_id: id.to_owned(),
    };
    Ok(connection
        .admin()
        .describe_schema(request)
        .await?
        .into_inner())
}

pub(super) async fn history(args: HistoryArgs) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let request = ListSchemasRequest {
        topic_name: args.topic.to_string(),
    };
    let listed = connection.admin().list_schemas(request).await?.into_inner();
    let mut output = Output::stdout(args.output);
    let mut before: Option<Schema> = None;
    for listed in listed.schemas {
        let version = version(&connection, &listed.schema_id).await?;
        let schema = Schema::parse(&version.schema_json);
        let schema =
            schema.map_err(|error| Failure::failed(format!("the stored schema: {error}")))?;
        let changes = before.as_ref().map(|before| differences(before, &schema));
        let changes = changes.unwrap_or_default();
        output.record(&HistoryRow {
            version: version.into(),
            changes: changes.iter().map(DifferenceRow::from).collect(),
        });
        if output.format() == Format::Text {
            output.flush().await?;
        }
        before = Some(schema);
    }
    output.flush().await
}

/// One version and what it changed. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct HistoryRow {
    #[serde(flatten)]
    version: SchemaRow,
    changes: Vec<DifferenceRow>,
}

impl Record for HistoryRow {
    fn text(&self) -> String {
        let version = &self.version;
        let by = match version.registered_by.as_str() {
            "" => String::new(),
            by => format!(" by {by}"),
        };
        let retired = version.retired_at.as_ref();
        let retired = retired.map_or_else(String::new, |at| {
            let by = version.retired_by.as_deref().unwrap_or_default();
            format!(" since {at} by {by}")
        });
        format!(
            "version {}  {}  {}{retired}  registered {}{by}",
            version.version,
            version.schema_id,
            version.state(),
            version.registered_at
        )
    }

    fn details(&self) -> Vec<String> {
        let changes = self.changes.iter();
        changes
            .map(|change| format!("  {}", change.change))
            .collect()
    }
}

/// One difference. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct DifferenceRow {
    path: String,
    change: String,
}

impl Record for DifferenceRow {
    fn text(&self) -> String {
        self.change.clone()
    }
}

impl From<&Difference> for DifferenceRow {
    fn from(difference: &Difference) -> Self {
        Self {
            path: difference.path.clone(),
            change: difference.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_a_topic_an_id_or_a_file() {
        let is_file = |text: &str| matches!(parse_side(text), Ok(Side::File(_)));
        assert!(!is_file("/event/OrderCreated__e"));
        assert!(!is_file("dGzWYkf4alBWqjXJMJJLlw"));
        for file in ["OrderCreated__e.avsc", "/tmp/OrderCreated__e.avsc", "./x"] {
            assert!(is_file(file), "{file}");
        }
    }
}
