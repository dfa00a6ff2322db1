//! `tidegate subscribe`: the events of topics as they arrive, printed, written to a file, or handed to a
//! program.

use std::path::PathBuf;

use tokio::io::AsyncWrite;

use super::{
    connection::ConnectionArgs,
    consume::{Consumer, EndArgs, EventFile, OpsArgs, PlaceArgs, ProgramArgs},
    exit::Failure,
    output::{Output, OutputArgs},
};
use crate::{
    client::Connection,
    subscriber::{Builder, Start, Subscriber},
    types::TopicName,
};

/// Arguments of `tidegate subscribe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each event gets one line: its replay id, its event id and its payload as JSON. With --output json \
the keys are replay_id, event_id, schema_id, topic and payload; a payload that its schema cannot \
decode is null, and a warning says why. A change event has the key change besides, with the names of \
what its bitmaps hold: type, record_ids, changed_fields, nulled_fields.

When the connection breaks, the subscription goes on after the last event that it received. With \
--checkpoint or --state it goes on there too after it ended, however that was: an event that was not \
printed, written or handled by then comes again.

A replay id may be written in hex as it is printed, in base64, or as a decimal number. A time has a \
date, and an offset or Z for UTC; seconds may be left out. -15m, -2h30m and -3d are so long before \
the command began. Events count by the time at which the gateway stored them.

Examples:
  tidegate subscribe /event/OrderCreated__e
  tidegate subscribe /event/OrderCreated__e --from earliest --count 10
  tidegate subscribe /event/OrderCreated__e --from -15m
  tidegate subscribe /event/OrderCreated__e --checkpoint orders.checkpoint --to-file orders.ndjson
  tidegate subscribe /event/OrderCreated__e --state orders --exec './handle-order'
  tidegate subscribe /data/ChangeEvents --state sync --exec ./sync --order record")]
pub(super) struct Args {
    /// The topics, such as /event/OrderCreated__e
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<TopicName>,
    /// Start after the newest event, at the oldest one, at a time such as 2026-01-01T00:00Z or -15m, or
    /// after a replay id
    #[arg(
        long,
        value_name = "latest|earliest|TIME|REPLAY_ID",
        default_value = "latest",
        allow_hyphen_values = true
    )]
    from: Start,
    /// Deliver only the events that match: the condition of a WHERE clause, such as
    /// "Amount__c > 100 AND Status__c LIKE 'N%'"
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Write events to this file instead: an Avro file if its name ends in .avro, else lines of JSON,
    /// which are added to it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exec", "webhook"])]
    to_file: Option<PathBuf>,
    #[command(flatten)]
    end: EndArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    ops: OpsArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let output = Output::stdout(args.output);
    subscribe(args, connection, output, crate::cli::interrupted()).await
}

/// Subscribes on `connection`.
async fn subscribe<W: AsyncWrite + Unpin>(
    args: Args,
    connection: Connection,
    output: Output<W>,
    interrupted: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    let tenant = connection.tenant_id();
    let builder = Subscriber::builder(connection).start_at(args.from);
    let builder = match &args.filter {
        Some(filter) => builder.filter(filter),
        None => builder,
    };
    let builder = args.topics.into_iter().fold(builder, Builder::topic);
    let consumer = Consumer {
        place: &args.place,
        end: args.end,
        program: &args.program,
        file: EventFile::open_if_named(args.to_file.as_deref()).await?,
        ops: args.ops,
        output,
    };
    consumer.run(builder, tenant, interrupted).await
}

#[cfg(test)]
mod tests;
