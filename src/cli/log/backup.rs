//! `tidegate log backup`: asks a running gateway for a copy of all it keeps.

use std::path::PathBuf;

use indicatif::BinaryBytes;
use serde::Serialize;
use tokio::io::AsyncWrite;

use crate::{
    cli::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Output, OutputArgs, Record, hex, note, time},
    },
    client::Connection,
    proto::admin::{BackupLog, BackupRequest},
};

/// Arguments of `tidegate log backup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory to make the copy in, on the gateway's machine and not in its data directory;
    /// it must not exist, or be empty
    dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) const HELP: &str = "\
The files of the events are second names for the gateway's own, where the file system has such, and \
take no space as long as the gateway keeps them too: copy the directory to another disk. The profile \
and the certificates are not in it.

With --output json there is a line for each tenant with the keys tenant, made_at, latest_replay_id, \
segments and bytes.

Exit codes:
  0  the backup is whole
  1  the gateway refused, or could not make it; the directory is no backup
  2  wrong usage
  3  the gateway cannot be reached, or the connection was lost
  4  the token is not an administrator's";

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let directory = absolute(args.dir)?;
    let connection = args.connection.connect().await?;
    back_up(&connection, directory, &mut Output::stdout(args.output)).await
}

async fn back_up<W: AsyncWrite + Unpin>(
    connection: &Connection,
    directory: String,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let request = BackupRequest {
        directory: directory.clone(),
    };
    let made = connection.admin().backup(request).await?.into_inner();
    for log in made.logs {
        output.record(&BackupRow::new(made.made_at_ms, log));
    }
    output.flush().await?;
    note(&format!("{directory} holds a whole backup"));
    Ok(())
}

/// The path as the gateway can use it, which works in another directory.
fn absolute(dir: PathBuf) -> Result<String, Failure> {
    let shown = dir.display();
    let absolute = std::path::absolute(&dir)
        .map_err(|error| Failure::Usage(format!("the directory {shown:?}: {error}")))?;
    let text = absolute.into_os_string().into_string();
    text.map_err(|_| Failure::Usage(format!("the path {shown} is not UTF-8")))
}

/// What was copied of one tenant. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct BackupRow {
    tenant: String,
    made_at: String,
    latest_replay_id: String,
    segments: u64,
    bytes: u64,
}

impl BackupRow {
    fn new(made_at_ms: i64, log: BackupLog) -> Self {
        Self {
            tenant: log.tenant_id,
            made_at: time(made_at_ms),
            latest_replay_id: hex(&log.latest_replay_id),
            segments: log.segments,
            bytes: log.bytes,
        }
    }
}

impl Record for BackupRow {
    fn text(&self) -> String {
        format!(
            "{}: up to replay id {}, {} in {} segment{}",
            self.tenant,
            self.latest_replay_id,
            BinaryBytes(self.bytes),
            self.segments,
            if self.segments == 1 { "" } else { "s" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{exit::Exit, fake_gateway::FakeGateway, output::Format};

    async fn backed_up(
        gateway: &FakeGateway,
        dir: &str,
        format: Format,
    ) -> Result<String, Failure> {
        let mut output = Output::new(format, Vec::new());
        back_up(&gateway.connect().await, dir.into(), &mut output).await?;
        Ok(String::from_utf8(output.into_writer()).unwrap())
    }

    #[tokio::test]
    async fn what_was_copied_is_told_for_each_tenant() {
        let gateway = FakeGateway::start().await;
        assert_eq!(
            backed_up(&gateway, "/b", Format::Text).await.unwrap(),
            "00D000000000001EAA: up to replay id 00000000000000070000, 16.00 KiB in 1 segment\n"
        );
        let json = backed_up(&gateway, "/b", Format::Json).await.unwrap();
        let row: serde_json::Value = serde_json::from_str(&json).unwrap();
        let keys: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["tenant", "made_at", "latest_replay_id", "segments", "bytes"]
        );
        assert_eq!(row["made_at"], "2023-11-14T22:13:20Z");
        assert_eq!(gateway.state.lock().unwrap().backups, ["/b", "/b"]);
    }

    #[tokio::test]
    async fn a_refusal_of_the_gateway_is_a_failure() {
        let gateway = FakeGateway::start().await;
        let failure = backed_up(&gateway, "/full", Format::Text)
            .await
            .unwrap_err();
        assert_eq!(failure.exit(), Exit::Failed);
    }

    #[test]
    fn the_gateway_is_told_an_absolute_path() {
        let here = std::env::current_dir().unwrap();
        let wanted = here.join("backups/1").display().to_string();
        assert_eq!(absolute("backups/1".into()).unwrap(), wanted);
        assert_eq!(absolute("/b".into()).unwrap(), "/b");
        assert_eq!(absolute("".into()).unwrap_err().exit(), Exit::Usage);
    }
}
