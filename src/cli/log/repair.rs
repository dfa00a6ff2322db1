//! `tidegate log repair`: what it would do, and with `--apply`, doing it.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::io::AsyncWrite;

use super::{
    logs, progress_bar,
    report::{LossRow, write_losses},
    unreadable,
};
use crate::{
    cli::{
        connection::data_dir,
        exit::Failure,
        output::{Output, OutputArgs, Record, note},
    },
    clock::{Clock, SystemClock},
    event_log::{
        OpenError,
        embedded::{DataDir, Progress, RealIo, RepairAction, plan_repair, repair},
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Repair the log; without this nothing is changed, and what would be done is said
    #[arg(long)]
    apply: bool,
    /// Repair the log in this data directory, whose gateway is stopped
    /// [default: ./tidegate-data] [env: TIDEGATE_SERVER__DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) const HELP: &str = "\
Every file that is changed is kept as it was, in a directory damaged-<time> beside the segments.
Afterwards --from earliest starts behind the newest loss of a topic, and a subscriber that comes from
before a loss is told once where to go on.

With --output json the key kind says what a line is about:
  repair   tenant, file, what, applied
  loss     tenant, topic, events, after_replay_id, until_replay_id, settled
  copy     tenant, path

Exit codes:
  0  there was nothing to do, or it was done
  1  there is something to do, and --apply was not given; or a file could not be read or written
  2  there is no data directory, or none that this version reads; or a gateway has it open";

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let data_dir = data_dir(args.data_dir);
    let mut output = Output::stdout(args.output);
    repair_all(&data_dir, args.apply, &mut output, &progress_bar()).await
}

pub(super) async fn repair_all<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    is_applied: bool,
    output: &mut Output<W>,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let logs = logs(data_dir)?;
    // Nobody may write to what is looked at, nor be the next to open it halfway.
    let _owner = DataDir::open(data_dir).map_err(|error| match error {
        OpenError::InUse { .. } => Failure::Usage(error.to_string()),
        error => unreadable(error),
    })?;
    let mut actions = 0;
    for log in logs {
        let mut show = |done: Progress| {
            progress.set_length(done.bytes_total);
            progress.set_position(done.bytes_done);
        };
        let report = match is_applied {
            true => repair(&RealIo, &log, SystemClock.now(), &mut show),
            false => plan_repair(&RealIo, &log, &mut show),
        };
        progress.finish_and_clear();
        let report = report.map_err(unreadable)?;
        actions += report.actions.len();
        let tenant = report.tenant.as_deref();
        for action in &report.actions {
            output.record(&ActionRow::new(tenant, action, is_applied));
        }
        let losses = report.losses.iter();
        let losses: Vec<_> = losses
            .map(|l| LossRow::new(tenant, l, is_applied))
            .collect();
        write_losses(output, &losses);
        if let Some(path) = &report.copy {
            output.record(&CopyRow {
                kind: "copy",
                tenant,
                path: path.display().to_string(),
            });
        }
        output.flush().await?;
    }
    match (actions, is_applied) {
        (0, _) => {
            note("there is nothing to repair");
            Ok(())
        }
        (_, true) => Ok(()),
        (_, false) => Err(Failure::failed(
            "nothing was changed; `tidegate log repair --apply` does this",
        )),
    }
}

#[derive(Debug, Serialize)]
struct ActionRow<'a> {
    kind: &'static str,
    tenant: Option<&'a str>,
    file: &'a str,
    what: &'a str,
    applied: bool,
}

impl<'a> ActionRow<'a> {
    fn new(tenant: Option<&'a str>, action: &'a RepairAction, applied: bool) -> Self {
        Self {
            kind: "repair",
            tenant,
            file: &action.file,
            what: &action.what,
            applied,
        }
    }
}

impl Record for ActionRow<'_> {
    fn text(&self) -> String {
        let when = if self.applied { "done" } else { "to do" };
        format!("{when}: {}: {}", self.file, self.what)
    }
}

#[derive(Debug, Serialize)]
struct CopyRow<'a> {
    kind: &'static str,
    tenant: Option<&'a str>,
    path: String,
}

impl Record for CopyRow<'_> {
    fn text(&self) -> String {
        format!("kept as it was: {}", self.path)
    }
}
