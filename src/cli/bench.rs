//! `tidegate bench`: loads a gateway and prints what came of it.
//!
//! Without `--endpoint` each run has a gateway of its own, which this program starts and whose
//! directory goes with it. Nothing in the environment or in a profile turns the load on a gateway
//! that the command line does not name.

mod figures;
mod table;

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use clap::{Subcommand, ValueEnum, builder::RangedU64ValueParser};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Output, OutputArgs},
    parse_duration,
};
use crate::bench::{BenchError, LatencyLoad, PAYLOAD_BYTES_DEFAULT, PublishLoad, SCHEMA};
use figures::{calibrate_figures, catchup_figures, latency_figures, publish_figures};
use table::FigureRow;

/// Arguments of `tidegate bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Events per second of publish streams, each event validated and acknowledged
    Publish(PublishArgs),
    /// Events per second of a subscriber that reads from the earliest event on
    ///
    /// Publishes what it then reads.
    Catchup(PublishArgs),
    /// Time from the moment an event is due to its arrival at a subscriber, at a steady rate
    ///
    /// What is sent late counts from when it was due, so that a stall is not hidden by what could
    /// not be sent during it.
    Latency(LatencyArgs),
    /// What disk and loopback of this machine do by themselves
    Calibrate(CalibrateArgs),
    /// All of these in turn, with the load they have by themselves
    All(AllArgs),
    /// Print the schema of the load, for a gateway that is named with --endpoint
    Schema,
}

#[derive(Debug, clap::Args)]
struct PublishArgs {
    /// Publish this many events in each run
    #[arg(long, value_name = "N", default_value_t = EVENTS_DEFAULT, value_parser = RangedU64ValueParser::<u64>::new().range(1..=EVENTS_MAX))]
    events: u64,
    /// Bytes of each payload, as near as the encoding allows
    #[arg(long, value_name = "BYTES", default_value_t = PAYLOAD_BYTES_DEFAULT)]
    payload: usize,
    /// Events of each request
    #[arg(long, value_name = "N", default_value_t = BATCH_DEFAULT, value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(BATCH_MAX)))]
    batch: u32,
    /// Publish on this many streams at the same time, each on its own connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(STREAMS_MAX)))]
    streams: u32,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct LatencyArgs {
    /// Events of each second
    #[arg(long, value_name = "N", default_value_t = RATE_DEFAULT, value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(RATE_MAX)))]
    rate: u32,
    /// Events of each request
    #[arg(long, value_name = "N", default_value_t = LATENCY_BATCH_DEFAULT, value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(BATCH_MAX)))]
    batch: u32,
    /// How long each run goes on
    #[arg(long, value_name = "TIME", default_value = LATENCY_DURATION_DEFAULT, value_parser = parse_run_duration)]
    duration: Duration,
    /// Bytes of each payload, as near as the encoding allows
    #[arg(long, value_name = "BYTES", default_value_t = PAYLOAD_BYTES_DEFAULT)]
    payload: usize,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct CalibrateArgs {
    #[command(flatten)]
    runs: RunArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
struct AllArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// How often a measurement is made, and where.
#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// Measure this many times, and take the median
    #[arg(long, value_name = "N", default_value_t = RUNS_DEFAULT, value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(RUNS_MAX)))]
    runs: u32,
    /// Measure the disk that this directory is on; what is made in it is removed
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

/// The gateway that is measured.
#[derive(Clone, Debug, clap::Args)]
struct GatewayArgs {
    #[command(flatten)]
    runs: RunArgs,
    /// When the gateway that is started acknowledges: after a sync, or before
    #[arg(
        long,
        value_enum,
        default_value_t,
        value_name = "MODE",
        conflicts_with = "endpoint"
    )]
    durability: DurabilityArg,
    /// Call the gateway that is started over TLS
    #[arg(long, conflicts_with = "endpoint")]
    tls: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum DurabilityArg {
    #[default]
    Sync,
    Os,
}

const HELP: &str = "\
Without --endpoint each run starts a gateway of its own, in a directory that is removed afterwards. \
With --endpoint the gateway has to have the topic of the load, whose schema `tidegate bench schema` \
prints; the events stay there until its retention takes them.

With --output json there is one object a line: name, value (the median), unit, runs (the value of \
each run), aim and met (null where there is none).

Exit codes:
  0  every run went through, whether an aim is met or not
  1  an event was refused or lost, or a gateway failed; nothing is printed of that measurement
  2  the load cannot be made, or the command was not understood
  3  the gateway cannot be reached, or the connection was lost
  4  the gateway does not know who calls, or does not let them";

/// Runs the command on a runtime with a thread for each processor, as programs under load have.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))?;
    let progress = Progress::new();
    let result = runtime.block_on(async {
        tokio::select! {
            result = measure(args.command, &progress) => result,
            // Whatever was started has to be ended.
            () = super::interrupted() => Err(Failure::failed("stopped before it was done")),
        }
    });
    progress.clear();
    runtime.shutdown_background();
    result
}

async fn measure(command: Command, progress: &Progress) -> Result<(), Failure> {
    let (figures, output) = match command {
        Command::Publish(args) => {
            let load = args.load();
            (
                publish_figures(&args.gateway, &load, progress).await?,
                args.output,
            )
        }
        Command::Catchup(args) => {
            let load = args.load();
            (
                catchup_figures(&args.gateway, &load, progress).await?,
                args.output,
            )
        }
        Command::Latency(args) => {
            let load = args.load();
            (
                latency_figures(&args.gateway, &load, progress).await?,
                args.output,
            )
        }
        Command::Calibrate(args) => (calibrate_figures(&args.runs, progress).await?, args.output),
        Command::All(args) => {
            let mut figures = calibrate_figures(&args.gateway.runs, progress).await?;
            figures.extend(publish_figures(&args.gateway, &PUBLISH_DEFAULT, progress).await?);
            figures.extend(catchup_figures(&args.gateway, &PUBLISH_DEFAULT, progress).await?);
            let load = LatencyLoad {
                duration: parse_duration(LATENCY_DURATION_DEFAULT).map_err(Failure::Usage)?,
                ..LATENCY_DEFAULT
            };
            figures.extend(latency_figures(&args.gateway, &load, progress).await?);
            (figures, args.output)
        }
        Command::Schema => {
            let mut output = Output::stdout(OutputArgs::default());
            output.document(SCHEMA);
            return output.flush().await;
        }
    };
    progress.clear();
    let rows: Vec<FigureRow> = figures.iter().map(FigureRow::new).collect();
    let mut output = Output::stdout(output);
    output.list(&rows);
    output.flush().await
}

impl PublishArgs {
    fn load(&self) -> PublishLoad {
        PublishLoad {
            events: self.events,
            payload_bytes: self.payload,
            batch: self.batch as usize,
            streams: self.streams as usize,
        }
    }
}

impl LatencyArgs {
    fn load(&self) -> LatencyLoad {
        LatencyLoad {
            rate: self.rate,
            batch: self.batch,
            duration: self.duration,
            payload_bytes: self.payload,
        }
    }
}

/// What is under way, on a terminal.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}");
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(style.expect("the template names known parts"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    fn say(&self, what: &str, run: u32, runs: u32) {
        self.0.set_message(format!("{what}, run {run} of {runs}"));
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Connect(error) => error.into(),
            BenchError::Call(error) => error.into(),
            BenchError::Load(error) => Self::Usage(error.to_string()),
            other => Self::failed(other.to_string()),
        }
    }
}

fn parse_run_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    match duration <= DURATION_MAX {
        true => Ok(duration),
        false => Err(format!(
            "a run goes on for at most {} s",
            DURATION_MAX.as_secs()
        )),
    }
}

/// A disk's worth: at 200 bytes of payload, 300 GB.
const EVENTS_MAX: u64 = 1_000_000_000;
/// The smallest events fill a request of 4 MB with about this many.
const BATCH_MAX: u32 = 20_000;
/// Each has a connection, and a process 1,024 files unless it asks for more.
const STREAMS_MAX: u32 = 500;
/// More than one connection carries.
const RATE_MAX: u32 = 5_000_000;
const RUNS_MAX: u32 = 1_000;
const DURATION_MAX: Duration = Duration::from_secs(3_600);

const EVENTS_DEFAULT: u64 = 1_000_000;
const BATCH_DEFAULT: u32 = 200;
const RATE_DEFAULT: u32 = 10_000;
const LATENCY_BATCH_DEFAULT: u32 = 10;
const LATENCY_DURATION_DEFAULT: &str = "10s";
const RUNS_DEFAULT: u32 = 5;

const PUBLISH_DEFAULT: PublishLoad = PublishLoad {
    events: EVENTS_DEFAULT,
    payload_bytes: PAYLOAD_BYTES_DEFAULT,
    batch: BATCH_DEFAULT as usize,
    streams: 1,
};
/// Its duration does not matter to the aims.
const LATENCY_DEFAULT: LatencyLoad = LatencyLoad {
    rate: RATE_DEFAULT,
    batch: LATENCY_BATCH_DEFAULT,
    duration: Duration::ZERO,
    payload_bytes: PAYLOAD_BYTES_DEFAULT,
};
