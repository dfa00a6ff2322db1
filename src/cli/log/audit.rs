//! `tidegate log audit`: what administrators had removed.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::io::AsyncWrite;

use super::logs;
use crate::{
    cli::{
        connection::data_dir,
        exit::Failure,
        output::{Output, OutputArgs, Row, note, time},
    },
    event_log::{
        AuditEntry,
        embedded::{RealIo, audit_entries},
    },
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Look at the data directory of this gateway, which may be running
    /// [default: ./tidegate-data] [env: TIDEGATE_SERVER__DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut output = Output::stdout(args.output);
    audit(&data_dir(args.data_dir), &mut output).await
}

pub(super) async fn audit<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for log in logs(data_dir)? {
        let entries = audit_entries(&RealIo, &log);
        let entries = entries.map_err(|error| {
            Failure::failed(format!(
                "cannot read the record in {}: {error}",
                log.display()
            ))
        })?;
        rows.extend(entries.into_iter().map(AuditRow::from));
    }
    if rows.is_empty() {
        note("nothing is on record");
    }
    output.list(&rows);
    output.flush().await
}

/// The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct AuditRow {
    at: String,
    by: String,
    action: String,
    topic: Option<String>,
    detail: String,
}

impl From<AuditEntry> for AuditRow {
    fn from(entry: AuditEntry) -> Self {
        Self {
            at: time(entry.at_ms),
            by: entry.by,
            action: entry.action,
            topic: entry.topic,
            detail: entry.detail,
        }
    }
}

impl Row for AuditRow {
    const HEADERS: &'static [&'static str] = &["AT", "BY", "ACTION", "TOPIC", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.at.clone(),
            self.by.clone(),
            self.action.clone(),
            self.topic.clone().unwrap_or_else(|| "-".into()),
            self.detail.clone(),
        ]
    }
}
