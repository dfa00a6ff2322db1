//! `tidegate replay`: a part of a topic's past, copied into a file.

use std::path::PathBuf;

use super::{
    connection::ConnectionArgs,
    consume::{Ending, EventFile, Printer, Written},
    exit::Failure,
    output::note,
};
use crate::{
    client::Connection,
    subscriber::{OpaqueReplayId, Start, Subscriber},
    types::TopicName,
};

/// Arguments of `tidegate replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Copies the events after --from and up to --to, that one included; without --to, all that there are. The \
file is an Avro file if its name ends in .avro, one for each schema that the events were written with; \
else it has a line of JSON for each event, as `tidegate subscribe --output json` prints them, which \
`tidegate publish --file` takes.

Examples:
  tidegate replay /event/OrderCreated__e --to-file orders.ndjson
  tidegate replay /event/OrderCreated__e --from -2h30m --to-file orders.ndjson
  tidegate replay /event/OrderCreated__e --from 00000000000001000000 --to-file orders.avro")]
pub(super) struct Args {
    /// The topic, such as /event/OrderCreated__e
    topic: TopicName,
    /// Start at the oldest event, at a time such as 2026-01-01T00:00Z or -15m, or after a replay id
    #[arg(
        long,
        value_name = "earliest|TIME|REPLAY_ID",
        default_value = "earliest",
        allow_hyphen_values = true
    )]
    from: Start,
    /// End with the event that has this replay id, or before the first one after it
    #[arg(long, value_name = "REPLAY_ID")]
    to: Option<OpaqueReplayId>,
    /// The file to write, which must not exist
    #[arg(long, value_name = "FILE")]
    to_file: PathBuf,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Tries in a row after which it is given up: about a minute.
const TRIES_MAX: u32 = 10;

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    replay(args, connection, super::interrupted()).await
}

async fn replay(
    args: Args,
    connection: Connection,
    interrupted: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    if args.to_file.exists() {
        return Err(Failure::Usage(format!(
            "{} exists; name another file",
            args.to_file.display()
        )));
    }
    let subscriber = Subscriber::builder(connection)
        .topic(args.topic)
        .start_at(args.from)
        .give_up_after(TRIES_MAX)
        .build()?;
    let mut printer = Printer {
        ending: Ending {
            up_to: args.to.map(|to| to.number()),
            at_caught_up: true,
            ..Ending::default()
        },
        output: Written::<tokio::io::Sink>::File(EventFile::open(&args.to_file).await?),
    };
    printer.run(subscriber.start(), interrupted).await?;
    if let Written::File(file) = &printer.output {
        let paths: Vec<String> = file
            .paths()
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let events = file.written();
        note(&match paths[..] {
            [] => "no events, so no file".to_owned(),
            _ => format!("{events} events in {}", paths.join(", ")),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
