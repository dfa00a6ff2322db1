//! `tidegate log restore`: makes a data directory out of a backup.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use indicatif::ProgressBar;
use tokio::io::AsyncWrite;

use super::{Findings, progress_bar};
use crate::{
    cli::{
        connection::data_dir,
        exit::Failure,
        output::{Output, OutputArgs, note, time, warn},
    },
    clock::{Clock, SystemClock},
    event_log::embedded::{RealIo, Restore, RestoreError},
    metadata,
};

/// Arguments of `tidegate log restore`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup, as `tidegate log backup` made it
    dir: PathBuf,
    /// Make this data directory, which must not exist, or be empty
    /// [default: ./tidegate-data] [env: TIDEGATE_SERVER__DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Restore what is intact, though something in the backup is damaged
    #[arg(long)]
    damaged: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) const HELP: &str = "\
The files are copied, so the backup can be restored again; but only one gateway at a time must go on \
from it. Events that are older than the retention time by now are removed soon after the start.

With --output json there is a line of kind damage for each place and one of kind log for each \
tenant, with the keys that `tidegate log info --help` lists.

Exit codes:
  0  the data directory can be used
  1  the backup is damaged, or a file could not be read or written; no gateway starts on the data \
directory
  2  there is no backup, or none that this version reads, or the data directory is not empty";

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let to = data_dir(args.data_dir);
    let mut output = Output::stdout(args.output);
    let clock = SystemClock;
    let how = How {
        is_damage_accepted: args.damaged,
        clock: &clock,
    };
    restore(&args.dir, &to, &how, &mut output, &progress_bar()).await
}

/// What a restore depends on besides its files.
struct How<'a> {
    is_damage_accepted: bool,
    clock: &'a dyn Clock,
}

async fn restore<W: AsyncWrite + Unpin>(
    from: &Path,
    to: &Path,
    how: &How<'_>,
    output: &mut Output<W>,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let restore = Restore::begin(Arc::new(RealIo), from, to, how.clock.now()).map_err(refused)?;
    let made_at = time(restore.made_at().as_millis());
    let reports = restore.logs(&mut |done| {
        progress.set_length(done.bytes_total);
        progress.set_position(done.bytes_done);
    });
    progress.finish_and_clear();
    let reports = reports.map_err(refused)?;
    let places: usize = reports.iter().map(|report| report.damage.len()).sum();
    for report in &reports {
        Findings::new(report).write_verdict(output);
    }
    output.flush().await?;
    if places > 0 && !how.is_damage_accepted {
        return Err(Failure::failed(
            "the backup is damaged; use another one, or restore what is intact with --damaged, into \
             another directory",
        ));
    }
    let copied = metadata::embedded::restore(from, to);
    let files = copied.map_err(|error| Failure::failed(chain(error)))?;
    restore.finish(files).map_err(refused)?;
    if places > 0 {
        warn("something in the backup is damaged; subscribers are told what is missing");
    }
    let shown = to.display();
    note(&format!(
        "{shown} is as the gateway was at {made_at}; `tidegate serve --data-dir {shown}` goes on from there"
    ));
    Ok(())
}

fn refused(error: RestoreError) -> Failure {
    match error {
        RestoreError::NotABackup { .. }
        | RestoreError::NewerFormat { .. }
        | RestoreError::Target { .. } => Failure::Usage(error.to_string()),
        error => Failure::failed(chain(error)),
    }
}

fn chain(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[cfg(test)]
mod tests;
