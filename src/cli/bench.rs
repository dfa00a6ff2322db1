//! `tidegate bench`: loads a gateway and prints what came of it.
//!
//! Without `--endpoint` each run has a gateway of its own, which this program starts and whose
//! directory goes with it. Nothing in the environment or in a profile turns the load on a gateway
//! that the command line does not name.

mod aims;
mod args;
mod runs;
mod table;

use std::{io::IsTerminal, time::Duration};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::Stdout;

use super::{
    exit::Failure,
    output::{Output, OutputArgs, note},
};
use crate::bench::{
    BenchError, CatchupReader, ClientKind, CommitsLoad, FanoutLoad, Figure, History, IdleLoad,
    LatencyLoad, OverloadLoad, PublishLoad, make_history, schema,
};
use args::{
    AllArgs, COMMITS, CalibrateArgs, CatchupArgs, CommitsArgs, FANOUT, FILTERED, FanoutArgs,
    FilterArgs, GatewayArgs, HistoryArgs, IDLE, IDLE_DURATION, IdleArgs, LATENCY, LATENCY_DURATION,
    LatencyArgs, OVERLOAD, OverloadArgs, OwnArgs, PUBLISH, PublishArgs, RunArgs, SchemaArgs,
    StartArgs, UNARY, UnaryArgs, VALIDATE_EVENTS, VALIDATE_PAYLOAD_BYTES, ValidateArgs, duration,
};
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
    /// Events per second of a subscriber that reads what it missed
    ///
    /// Publishes what it then reads.
    Catchup(CatchupArgs),
    /// Events per second of many subscribers that read along, all together
    Fanout(FanoutArgs),
    /// Time from the moment an event is due to its arrival at a subscriber, at a steady rate
    ///
    /// What is sent late counts from when it was due, so that a stall is not hidden by what could
    /// not be sent during it.
    Latency(LatencyArgs),
    /// Calls per second of Publish with one event each
    Unary(UnaryArgs),
    /// Time that commits of managed subscriptions take to be answered
    ///
    /// Makes the subscriptions for it, and deletes them.
    Commits(CommitsArgs),
    /// Time that the check of one payload takes, in this process
    Validate(ValidateArgs),
    /// Time that one evaluation of a filter takes, events per second that a reader far behind has looked
    /// at through one, and evaluations for each event with many subscribers
    Filter(FilterArgs),
    /// Time until a gateway answers that is started, on a history or on nothing
    Start(StartArgs),
    /// Make a history for `bench start` and `bench all`, once: it stays
    History(HistoryArgs),
    /// Memory and processor time of subscriptions that wait
    Idle(IdleArgs),
    /// Memory, refusals and the delivery of another topic while more is published than the disk takes
    Overload(OverloadArgs),
    /// What disk and loopback of this machine do by themselves
    Calibrate(CalibrateArgs),
    /// All of these in turn, with the load they have by themselves; idle and overload once, and an
    /// overload of 20 s
    All(AllArgs),
    /// Print the schema of the load, for a gateway that is named with --endpoint
    Schema(SchemaArgs),
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
    // Whatever was started has to be ended.
    let result = runtime.block_on(super::unless_interrupted(measure(args.command, &progress)));
    progress.clear();
    runtime.shutdown_background();
    result
}

async fn measure(command: Command, progress: &Progress) -> Result<(), Failure> {
    let (figures, output) = match command {
        Command::Publish(args) => {
            let figures = runs::publish_figures(&args.gateway, &args.load(), progress).await;
            (figures?, args.output)
        }
        Command::Catchup(args) => {
            let (load, reader) = args.load();
            let figures = runs::catchup_figures(&args.gateway, &load, reader, progress).await;
            (figures?, args.output)
        }
        Command::Fanout(args) => {
            let figures = runs::fanout_figures(&args.gateway, &args.load(), progress).await;
            (figures?, args.output)
        }
        Command::Latency(args) => {
            let figures = runs::latency_figures(&args.gateway, &args.load(), progress).await;
            (figures?, args.output)
        }
        Command::Commits(args) => {
            let figures = runs::commits_figures(&args.gateway, &args.load(), progress).await;
            (figures?, args.output)
        }
        Command::Unary(args) => {
            let figures = runs::unary_figures(&args.gateway, &args.load(), progress).await;
            (figures?, args.output)
        }
        Command::Validate(args) => {
            let figures = runs::validate_figures(args.events, args.payload, args.runs, progress);
            let figures = figures.await;
            (figures?, args.output)
        }
        Command::Filter(args) => {
            let figures = runs::filter_figures(&args.own, &args.load(), progress).await;
            (figures?, args.output)
        }
        Command::Start(args) => {
            let history = args.history.history.as_deref().map(find_history);
            let history = history.transpose()?;
            let figures = runs::start_figures(&args.own, history.as_ref(), progress).await;
            (figures?, args.output)
        }
        Command::Idle(args) => {
            let figures = runs::idle_figures(&args.own, &args.load()?, progress).await;
            (figures?, args.output)
        }
        Command::Overload(args) => {
            let figures = runs::overload_figures(&args.own, &args.load(), progress).await;
            (figures?, args.output)
        }
        Command::Calibrate(args) => {
            let figures = runs::calibrate_figures(&args.runs, progress).await;
            (figures?, args.output)
        }
        Command::All(args) => return all(args, progress).await,
        Command::History(args) => return history(args, progress).await,
        Command::Schema(args) => {
            let mut output = Output::stdout(OutputArgs::default());
            output.document(&schema(args.number as usize));
            return output.flush().await;
        }
    };
    Report::new(output, progress).add(&figures).await
}

/// Measures everything, and shows each figure as soon as it is there.
async fn all(args: AllArgs, progress: &Progress) -> Result<(), Failure> {
    let history = args.history.history.as_deref().map(find_history);
    let history = history.transpose()?;
    let own = OwnArgs::usual(args.runs.clone());
    let gateway = GatewayArgs::own(own.clone());
    let tls = GatewayArgs::own(OwnArgs {
        tls: true,
        ..own.clone()
    });
    // Long by themselves, and not the noisiest.
    let once = OwnArgs::usual(RunArgs {
        runs: 1,
        ..args.runs.clone()
    });
    let publish = |subscribers| FanoutLoad {
        publish: PUBLISH,
        subscribers,
        ..FANOUT
    };
    let mut report = Report::new(args.output, progress);
    report
        .add(&runs::calibrate_figures(&args.runs, progress).await?)
        .await?;
    for subscribers in [0, 1] {
        let figures = runs::publish_figures(&gateway, &publish(subscribers), progress).await?;
        report.add(&figures).await?;
    }
    for reader in [
        CatchupReader::Raw(ClientKind::Own),
        CatchupReader::Raw(ClientKind::Stock),
        CatchupReader::Library,
    ] {
        let figures = runs::catchup_figures(&gateway, &PUBLISH, reader, progress).await?;
        report.add(&figures).await?;
    }
    report
        .add(&runs::fanout_figures(&gateway, &FANOUT, progress).await?)
        .await?;
    report
        .add(&runs::publish_figures(&tls, &publish(0), progress).await?)
        .await?;
    report
        .add(
            &runs::catchup_figures(
                &tls,
                &PUBLISH,
                CatchupReader::Raw(ClientKind::Own),
                progress,
            )
            .await?,
        )
        .await?;
    let latency = LatencyLoad {
        duration: duration(LATENCY_DURATION),
        ..LATENCY
    };
    report
        .add(&runs::latency_figures(&gateway, &latency, progress).await?)
        .await?;
    let commits = CommitsLoad {
        duration: duration(LATENCY_DURATION),
        ..COMMITS
    };
    report
        .add(&runs::commits_figures(&gateway, &commits, progress).await?)
        .await?;
    report
        .add(&runs::unary_figures(&gateway, &UNARY, progress).await?)
        .await?;
    let validated = runs::validate_figures(
        VALIDATE_EVENTS,
        VALIDATE_PAYLOAD_BYTES,
        args.runs.runs,
        progress,
    );
    report.add(&validated.await?).await?;
    report
        .add(&runs::filter_figures(&own, &FILTERED, progress).await?)
        .await?;
    // As many streams both times: what differs is the topics.
    let one_topic = runs::publish_figures(&gateway, &MANY_STREAMS, progress).await?;
    report.add(&one_topic).await?;
    let mut topics = runs::publish_figures(&gateway, &MANY_TOPICS, progress).await?;
    topics[0].aim = Some(aims::topics(one_topic[0].value()));
    report.add(&topics).await?;
    let idle = IdleLoad {
        duration: duration(IDLE_DURATION),
        ..IDLE
    };
    report
        .add(&runs::idle_figures(&once, &idle, progress).await?)
        .await?;
    let overload = OverloadLoad {
        duration: OVERLOAD_DURATION_OF_ALL,
        ..OVERLOAD
    };
    report
        .add(&runs::overload_figures(&once, &overload, progress).await?)
        .await?;
    report
        .add(&runs::start_figures(&own, history.as_ref(), progress).await?)
        .await?;
    if history.is_none() {
        note("the start was measured without history; see `tidegate bench history --help`");
    }
    Ok(())
}

async fn history(args: HistoryArgs, progress: &Progress) -> Result<(), Failure> {
    let runs = RunArgs {
        runs: 1,
        dir: args.dir.clone(),
    };
    let options = runs::options(&OwnArgs::usual(runs))?;
    let bytes = (args.gb * f64::from(1 << 30)) as u64;
    let made = make_history(&options, &args.dir, bytes, |found| {
        progress.say_bytes("history", found, bytes);
    });
    let made = made.await?;
    progress.clear();
    note(&format!(
        "made {:.1} GB; measure with `tidegate bench start --history {}`, and remove the directory \
         when it is not wanted any more",
        made.bytes as f64 / f64::from(1 << 30),
        args.dir.display()
    ));
    Ok(())
}

fn find_history(dir: &std::path::Path) -> Result<History, Failure> {
    History::find(dir).ok_or_else(|| {
        let dir = dir.display();
        Failure::Usage(format!(
            "there is no history in {dir}; `tidegate bench history {dir}` makes one"
        ))
    })
}

/// Figures on standard output, as they come.
struct Report<'a> {
    output: Output<Stdout>,
    progress: &'a Progress,
    is_begun: bool,
}

impl<'a> Report<'a> {
    fn new(output: OutputArgs, progress: &'a Progress) -> Self {
        Self {
            output: Output::stdout(output),
            progress,
            is_begun: false,
        }
    }

    async fn add(&mut self, figures: &[Figure]) -> Result<(), Failure> {
        let rows: Vec<_> = figures.iter().map(FigureRow::new).collect();
        self.progress.clear();
        if !std::mem::replace(&mut self.is_begun, true) {
            self.output.headers::<FigureRow>(&table::WIDTHS);
        }
        self.output.rows(&rows, &table::WIDTHS);
        self.output.flush().await
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
        bar.finish_and_clear();
        Self(bar)
    }

    fn say(&self, what: &str, run: u32, runs: u32) {
        self.show(format!("{what}, run {run} of {runs}"));
    }

    fn say_bytes(&self, what: &str, found: u64, wanted: u64) {
        let gb = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let (found, wanted) = (gb(found), gb(wanted));
        self.show(format!("{what}, {found:.1} of {wanted:.1} GB"));
    }

    fn show(&self, message: String) {
        if self.0.is_finished() {
            self.0.reset();
            self.0.enable_steady_tick(TICK);
        }
        self.0.set_message(message);
    }

    /// Takes the line away until something is said again, so that others can be printed.
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

/// As many events as the other measurements of publishing, on many streams.
const MANY_STREAMS: FanoutLoad = FanoutLoad {
    publish: PublishLoad {
        streams: 1_000,
        ..PUBLISH
    },
    subscribers: 0,
    ..FANOUT
};
/// The same, with a topic for each stream.
const MANY_TOPICS: FanoutLoad = FanoutLoad {
    publish: PublishLoad {
        topics: 1_000,
        ..PUBLISH
    },
    ..MANY_STREAMS
};
/// How often the line moves.
const TICK: Duration = Duration::from_millis(200);
/// Long enough for memory to grow, if it does.
const OVERLOAD_DURATION_OF_ALL: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
