//! Backups of everything that the gateway keeps, made while it runs.

use std::{error::Error, path::Path, sync::Arc};

use super::Admin;
use crate::{
    event_log::{Backup, BackupError, EventLog, OpenError, Refusal},
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    metadata::{MetadataStore, StoreError},
    net::whole_file::is_disk_full,
    proto::admin::{BackupLog, BackupRequest, BackupResponse},
};

/// What a backup is made of. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Backups {
    log: Arc<dyn EventLog>,
    metadata: Arc<dyn MetadataStore>,
}

impl Backups {
    /// Backups of these stores.
    pub fn new(log: Arc<dyn EventLog>, metadata: Arc<dyn MetadataStore>) -> Self {
        Self { log, metadata }
    }

    async fn make(&self, dir: &Path) -> Result<Backup, RpcError> {
        // The log first: every topic that has events in it is in the metadata by then.
        let backup = self.log.back_up(dir).await?;
        let files = self.metadata.back_up(dir).await.map_err(metadata_failed)?;
        self.log.finish_backup(dir, &backup, files).await?;
        Ok(backup)
    }
}

impl Admin {
    pub(super) async fn back_up(
        &self,
        call: &Call,
        request: BackupRequest,
    ) -> Result<BackupResponse, RpcError> {
        self.administrator(call).await?;
        if request.directory.is_empty() {
            return Err(kinds::ADMIN_REQUEST_INVALID.error("a backup needs a directory"));
        }
        let backup = self.backups.make(Path::new(&request.directory)).await?;
        tracing::info!(directory = request.directory, "made a backup");
        let logs = backup.logs.iter().map(|log| BackupLog {
            tenant_id: log.tenant.to_string(),
            latest_replay_id: log.head.replay_id().as_bytes().to_vec().into(),
            segments: log.segments,
            bytes: log.bytes,
        });
        Ok(BackupResponse {
            made_at_ms: backup.made_at.as_millis(),
            logs: logs.collect(),
        })
    }
}

impl From<BackupError> for RpcError {
    fn from(error: BackupError) -> Self {
        let kind = match &error {
            BackupError::InMemory | BackupError::Directory { .. } => kinds::ADMIN_REQUEST_INVALID,
            BackupError::Refused {
                refusal: Refusal::Exhausted,
                ..
            } => kinds::OUTAGE,
            BackupError::Refused { .. } => kinds::UNAVAILABLE,
            BackupError::Failed(OpenError::Io { source, .. }) if is_disk_full(source) => {
                kinds::UNAVAILABLE
            }
            BackupError::Failed(_) => kinds::OUTAGE,
        };
        kind.error(sentence(&error)).because(error)
    }
}

fn metadata_failed(error: StoreError) -> RpcError {
    let kind = match &error {
        StoreError::InMemory => kinds::ADMIN_REQUEST_INVALID,
        StoreError::DiskFull(_) => kinds::UNAVAILABLE,
        _ => kinds::OUTAGE,
    };
    kind.error(sentence(&error)).because(error)
}

/// The error with its causes: an administrator named the directory, and is to know what is wrong
/// with it.
fn sentence(error: &dyn Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    sentence
}
