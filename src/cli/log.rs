//! `tidegate log`: what the event log's files hold, whether they are as they were written, and what
//! is to go from them.
//!
//! `info`, `verify` and `audit` work on the files alone, never change one, and take no lock, so they
//! can look at the directory of a gateway that runs; `repair` needs one whose gateway is stopped.
//! What removes events asks the gateway for it, and so does what makes a backup; `restore` makes a
//! directory of its own.

mod audit;
mod backup;
mod erase;
mod metadata;
mod repair;
mod report;
mod restore;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::io::AsyncWrite;

use super::{
    connection::data_dir,
    exit::Failure,
    output::{Output, OutputArgs, note, warn},
};
use crate::event_log::{
    OpenError,
    embedded::{Depth, LogReport, RealIo, inspect, log_dirs},
};
use report::Findings;

/// Arguments of `tidegate log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the segments and topics of the event log
    ///
    /// Reads little: the ends of each file. What it notices of damage it says, but only
    /// `tidegate log verify` looks for it.
    #[command(after_help = INFO_HELP)]
    Info(LogArgs),
    /// Read every block of the event log and say what is damaged
    ///
    /// Reads the metadata too, and compares the topics of both. Changes nothing. Of a log that a gateway has open, what is being written meanwhile is not
    /// taken for damage.
    #[command(after_help = VERIFY_HELP)]
    Verify(LogArgs),
    /// Say what is to be done about a damaged log, and with --apply do it
    ///
    /// Nothing that was lost comes back. Segments are made anew without their damaged blocks, what
    /// cannot be used is set aside, and what is gone for good is noted.
    #[command(after_help = repair::HELP)]
    Repair(repair::Args),
    /// Erase single events of a topic for good, by their ids or by the value of a field
    #[command(after_help = erase::ERASE_HELP)]
    Erase(erase::EraseArgs),
    /// Let retention go on after the clock of the gateway's machine jumped ahead
    ///
    /// After a jump of more than an hour nothing is purged for an hour, unless this is said.
    Retention(erase::RetentionArgs),
    /// List what administrators had removed, and when
    Audit(audit::Args),
    /// Copy all events and metadata of a running gateway
    ///
    /// The gateway makes the copy, on its own machine, and goes on meanwhile. Everything that it
    /// acknowledged before is in it.
    #[command(after_help = backup::HELP)]
    Backup(backup::Args),
    /// Make a data directory out of a backup
    ///
    /// Reads every block of it. The restored gateway gives out no replay id that the original may
    /// have given out since the backup was made; subscribers that come with one are told so.
    #[command(after_help = restore::HELP)]
    Restore(restore::Args),
}

#[derive(Debug, clap::Args)]
struct LogArgs {
    /// Look at the data directory of this gateway, which may be running
    /// [default: ./tidegate-data] [env: TIDEGATE_SERVER__DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

const INFO_HELP: &str = "\
With --output json the key kind says what a line is about; replay ids are hex, times RFC 3339:
  log      tenant, events, bytes, segments, latest_replay_id, purged_replay_id, damage
  segment  tenant, name, events, blocks, bytes, first_replay_id, last_replay_id, first_at, last_at,
           sealed_by (writer, recovery, or null while it is written to)
  topic    tenant, id, name, events (ever accepted), latest_replay_id
  damage   tenant, file, offset, what, topic, after_replay_id, until_replay_id
  loss     tenant, topic, events, after_replay_id, until_replay_id, settled
What is not known or does not apply is null.

Exit codes:
  0  the log was shown
  1  a file could not be read
  2  there is no data directory, or none that this version reads";

const VERIFY_HELP: &str = "\
With --output json there is a line of kind damage for each place, one of kind loss for each run of \
events that are missing, and one of kind log for each tenant, with the keys that \
`tidegate log info --help` lists. A loss that is settled is one that a repair has noted.

Exit codes:
  0  every block is as it was written, or a repair has settled what is lost
  1  damage was found, or a file could not be read
  2  there is no data directory, or none that this version reads";

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Info(args) => {
            let data_dir = data_dir(args.data_dir);
            info(&data_dir, &mut Output::stdout(args.output)).await
        }
        Command::Verify(args) => {
            let data_dir = data_dir(args.data_dir);
            let mut output = Output::stdout(args.output);
            verify(&data_dir, &mut output, &progress_bar()).await
        }
        Command::Repair(args) => repair::run(args).await,
        Command::Erase(args) => erase::erase(args).await,
        Command::Retention(args) => erase::retention(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Restore(args) => restore::run(args).await,
    }
}

async fn info<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    for log in logs(data_dir)? {
        let report = look(&log, Depth::Footers, &ProgressBar::hidden())?;
        Findings::new(&report).write_info(output);
        output.flush().await?;
        if !report.damage.is_empty() {
            warn("something is not as it was written; `tidegate log verify` looks closely");
        }
    }
    Ok(())
}

async fn verify<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    output: &mut Output<W>,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let mut places = 0;
    for log in logs(data_dir)? {
        let report = look(&log, Depth::Blocks, progress);
        progress.finish_and_clear();
        let report = report?;
        places += report.damage.len();
        places += metadata::verify_tenant(data_dir, &log, &report, output);
        let findings = Findings::new(&report);
        findings.write_verdict(output);
        output.flush().await?;
        findings.advice().into_iter().for_each(note);
    }
    places += metadata::verify_server(data_dir, output);
    output.flush().await?;
    match places {
        0 => Ok(()),
        1 => Err(Failure::failed("1 place is damaged")),
        places => Err(Failure::failed(format!("{places} places are damaged"))),
    }
}

/// The directories of the logs.
fn logs(data_dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let shown = data_dir.display();
    if !data_dir.is_dir() {
        return Err(Failure::Usage(format!(
            "there is no directory {shown}; name the gateway's data directory with --data-dir"
        )));
    }
    let logs = log_dirs(data_dir).map_err(|error| match error {
        OpenError::Foreign { path, reason } if path == data_dir => Failure::Usage(format!(
            "{shown} is not a data directory: {reason}; name the gateway's with --data-dir"
        )),
        OpenError::Foreign { .. } | OpenError::NewerFormat { .. } => {
            Failure::Usage(error.to_string())
        }
        error => unreadable(error),
    })?;
    if logs.is_empty() {
        note(&format!("{shown} holds no event log yet"));
    }
    Ok(logs.into_iter().map(|(_, dir)| dir).collect())
}

fn look(log: &Path, depth: Depth, progress: &ProgressBar) -> Result<LogReport, Failure> {
    let report = inspect(&RealIo, log, depth, &mut |done| {
        progress.set_length(done.bytes_total);
        progress.set_position(done.bytes_done);
    });
    report.map_err(unreadable)
}

fn unreadable(error: OpenError) -> Failure {
    Failure::failed(format!("{:#}", anyhow::Error::from(error)))
}

/// Progress on a terminal; nothing in a pipe, where indicatif draws nothing.
fn progress_bar() -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    ProgressBar::with_draw_target(Some(0), target).with_style(
        ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left")
            .expect("the template names known parts"),
    )
}

#[cfg(test)]
mod tests;
