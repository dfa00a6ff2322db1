//! The command line.
//!
//! Each command is a module with its arguments and a `run`. Results go to standard output, one to a
//! line; whatever else there is to say goes to standard error; the exit code tells the rest. Client
//! commands reach a running gateway over gRPC and nothing else.

mod bench;
mod certs;
mod channel;
mod client;
mod config;
mod connection;
mod consume;
mod deadletter;
mod doctor;
pub mod exit;
mod log;
mod managed;
mod output;
mod publish;
mod replay;
mod schema;
mod serve;
mod sign_in;
mod subscribe;
mod token;
mod topic;
mod user;

use std::{io, process::ExitCode, sync::OnceLock, time::Duration};

use clap::{Parser, Subcommand};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use exit::{EXIT_CODES_HELP, Exit, Failure};

/// A durable event bus that speaks the Salesforce Pub/Sub API.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXIT_CODES_HELP, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until it is asked to stop
    Serve(serve::Args),
    /// Publish events that are written as JSON
    Publish(publish::Args),
    /// Receive the events of topics: print them, write them, or run a program for each
    Subscribe(subscribe::Args),
    /// Copy a part of a topic's past into a file
    Replay(replay::Args),
    /// Show the events that were given up, handle them again, throw them away
    Deadletter(deadletter::Args),
    /// Find out what is wrong between this machine and a topic
    Doctor(doctor::Args),
    /// Show topics, change and delete them
    Topic(topic::Args),
    /// Show schemas and their ids
    Schema(schema::Args),
    /// Make, change, list and read managed subscriptions
    Managed(managed::Args),
    /// Make channels of several topics, change, list and delete them
    Channel(channel::Args),
    /// Make, list and revoke access tokens
    Token(token::Args),
    /// Make, list and delete client applications that sign in
    Client(client::Args),
    /// Make, list and delete users who sign in
    User(user::Args),
    /// Make development certificates
    Certs(certs::Args),
    /// Check and show the settings of `serve`
    Config(config::Args),
    /// Look at the files of the event log, repair them, and erase events
    Log(log::Args),
    /// Measure how fast a gateway is
    Bench(bench::Args),
}

/// Parses the arguments of this process, runs the command and says on standard error why it ended,
/// if there is something to say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let Err(failure) = run(cli.command) else {
        return Exit::Ok.into();
    };
    if !matches!(failure, Failure::OutputClosed) {
        output::error(&failure.to_string());
    }
    failure.exit().into()
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Publish(args) => wait_for(publish::run(args)),
        Command::Subscribe(args) => wait_for(subscribe::run(args)),
        Command::Replay(args) => wait_for(replay::run(args)),
        Command::Deadletter(args) => wait_for(unless_interrupted(deadletter::run(args))),
        Command::Doctor(args) => wait_for(unless_interrupted(doctor::run(args))),
        Command::Topic(args) => wait_for(unless_interrupted(topic::run(args))),
        Command::Schema(args) => wait_for(unless_interrupted(schema::run(args))),
        Command::Managed(args) => wait_for(managed::run(args)),
        Command::Channel(args) => wait_for(unless_interrupted(channel::run(args))),
        Command::Token(args) => wait_for(unless_interrupted(token::run(args))),
        Command::Client(args) => wait_for(unless_interrupted(client::run(args))),
        Command::User(args) => wait_for(unless_interrupted(user::run(args))),
        Command::Certs(args) => wait_for(certs::run(args)),
        Command::Config(args) => wait_for(config::run(args)),
        Command::Log(args) => wait_for(log::run(args)),
        Command::Bench(args) => bench::run(args),
    }
}

/// Parses a time as people write one on the command line.
fn parse_duration(text: &str) -> Result<Duration, String> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "wanted a time above zero with its unit, such as 3s, 500ms or 2m".into())
}

/// Runs a client command on a runtime of its own. A command that leaves something behind when it is
/// asked to end waits for [`interrupted`] itself; one that calls a gateway and leaves nothing runs
/// [`unless_interrupted`]; one that works on files is ended by the signal, as any program is.
fn wait_for(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    // The command itself runs here; the connection, which has to answer PINGs meanwhile, there.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime cannot be started: {error}")))?;
    let result = runtime.block_on(command);
    // Tasks end what they started, such as the command that prints a token. A thread may still read
    // from a terminal or write to a full pipe, and nobody waits for it.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

/// How long tasks may take to be dropped.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

/// Drops what is done when this process is asked to end: what it started ends with it.
async fn unless_interrupted<T>(
    done: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        // What is done is not said to be stopped.
        biased;
        result = done => result,
        () = interrupted() => Err(Failure::failed("stopped before it was done")),
    }
}

/// Whether this process was asked to end; set up once somebody wants to know.
static IS_ASKED_TO_END: OnceLock<watch::Sender<bool>> = OnceLock::new();

/// Resolves when this process is asked to end, or was. From the first call on a signal no longer ends it
/// by itself; a second one does.
async fn interrupted() {
    let asked = IS_ASKED_TO_END.get_or_init(|| {
        let asked = watch::Sender::new(false);
        // Registered before anything else happens, so that no signal is missed.
        if let Ok(signals) = Signals::register() {
            tokio::spawn(signals.tell(asked.clone()));
        }
        asked
    });
    // The sender is never dropped.
    _ = asked.subscribe().wait_for(|&is_asked| is_asked).await;
}

/// The signals that ask a process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn register() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn tell(mut self, asked: watch::Sender<bool>) {
        self.next().await;
        asked.send_replace(true);
        self.next().await;
        output::error("stopped at once");
        std::process::exit(Exit::Failed as i32);
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod fake_gateway;
#[cfg(test)]
mod tests;
