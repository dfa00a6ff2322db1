//! `tidegate subscribe`: the events of a topic as they arrive, one on each line.

pub(super) mod decode;
mod from;
mod session;

use std::time::Duration;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Output, OutputArgs},
};
use crate::types::TopicName;
use from::From;
use session::Subscriber;

/// Arguments of `tidegate subscribe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each event gets one line: its replay id, its event id and its payload as JSON. With --output json \
the keys are replay_id, event_id, schema_id, topic and payload; a payload that its schema cannot \
decode is null, and a warning says why. When the connection breaks, the subscription goes on after \
the last event it printed.

A replay id may be written in hex as it is printed, in base64, or as a decimal number.

Examples:
  tidegate subscribe /event/OrderCreated__e
  tidegate subscribe /event/OrderCreated__e --from earliest --count 10
  tidegate subscribe /event/OrderCreated__e --from 00000000000001000000 --idle-exit 3s")]
pub(super) struct Args {
    /// The topic, such as /event/OrderCreated__e
    topic: TopicName,
    /// Start after the newest event, at the oldest one, or after a replay id
    #[arg(
        long,
        value_name = "latest|earliest|REPLAY_ID",
        default_value = "latest",
        allow_hyphen_values = true
    )]
    from: From,
    /// End after this many events
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        allow_negative_numbers = true
    )]
    count: Option<u64>,
    /// End after this long without an event, such as 3s or 500ms
    #[arg(long, value_name = "TIME", value_parser = super::parse_duration)]
    idle_exit: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let mut subscriber = Subscriber::new(
        connection,
        args.topic,
        args.from,
        args.count,
        args.idle_exit,
        Output::stdout(args.output),
    );
    tokio::select! {
        ended = subscriber.run() => ended,
        // Interrupting is how a subscription without an end is ended.
        () = crate::cli::interrupted() => Ok(()),
    }
}

#[cfg(test)]
mod tests;
