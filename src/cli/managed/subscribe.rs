//! `tidegate managed subscribe`: prints events, or hands them to a program, and commits them.

use std::path::PathBuf;

use tokio::io::AsyncWrite;

use super::{KeyArgs, ManagedRow, list};
use crate::{
    cli::{
        connection::ConnectionArgs,
        consume::{Consumer, EndArgs, EventFile, ManagedPlaceArgs, OpsArgs, ProgramArgs},
        exit::Failure,
        output::{Output, OutputArgs},
    },
    client::Connection,
    subscriber::{ManagedKey, Subscriber},
    types::TopicName,
};

/// Arguments of `tidegate managed subscribe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events are printed as `tidegate subscribe` prints them. What was printed, written or handled is \
committed, and so is the position of a quiet subscription; the next stream goes on behind it, whoever \
opens it. While another stream has the subscription this waits for it, so that of several the first \
works and the others stand by; one whose subscription a newer stream takes over (--takeover newest) ends.

The gateway keeps the position; --state keeps the ids of handled events and those that were given up.

Examples:
  tidegate managed subscribe Fulfilment --idle-exit 3s
  tidegate managed subscribe Fulfilment --state fulfilment --exec ./fulfil")]
pub(super) struct Args {
    #[command(flatten)]
    key: KeyArgs,
    /// Write events to this file instead: an Avro file if its name ends in .avro, else lines of JSON,
    /// which are added to it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exec", "webhook"])]
    to_file: Option<PathBuf>,
    #[command(flatten)]
    end: EndArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    place: ManagedPlaceArgs,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    ops: OpsArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let topic = topic_of(&connection, &args.key);
    let topic = crate::cli::unless_interrupted(topic).await?;
    let output = Output::stdout(args.output);
    subscribe(args, connection, topic, output, crate::cli::interrupted()).await
}

/// Subscribes on `connection` to the managed subscription of `topic`.
pub(super) async fn subscribe<W: AsyncWrite + Unpin>(
    args: Args,
    connection: Connection,
    topic: TopicName,
    output: Output<W>,
    interrupted: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    let name = args.key.key.clone();
    let key = match args.key.is_id() {
        true => ManagedKey::Id(name),
        false => ManagedKey::Name(name),
    };
    let tenant = connection.tenant_id();
    let consumer = Consumer {
        place: &args.place.into(),
        end: args.end,
        program: &args.program,
        file: EventFile::open_if_named(args.to_file.as_deref()).await?,
        ops: args.ops,
        output,
    };
    let builder = Subscriber::builder(connection).managed(key, topic);
    consumer.run(builder, tenant, interrupted).await
}

/// The topic of the subscription: what is printed names it.
async fn topic_of(connection: &Connection, key: &KeyArgs) -> Result<TopicName, Failure> {
    let is_meant = |row: &ManagedRow| match key.is_id() {
        true => row.id.get(..15) == key.key.get(..15),
        false => row.developer_name == key.key,
    };
    let found = list(connection).await?.into_iter().find(is_meant);
    let found = found.ok_or_else(|| {
        Failure::failed(format!(
            "there is no managed subscription {} that this token may use; `tidegate managed list` \
             shows those that there are",
            key.key
        ))
    })?;
    let topic = found.topic.parse();
    topic.map_err(|_| Failure::failed("the gateway names a topic that is none"))
}
