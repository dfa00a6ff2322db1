//! What can go wrong with a log, one enum for each operation a caller branches on.

use std::{error::Error, io, path::PathBuf, sync::Arc};

use crate::types::{Position, TenantId};

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the data directory open.
    #[error(
        "the data directory {path} is in use by {}; stop it or choose another directory",
        owner(.pid)
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process, if it could be told.
        pid: Option<u32>,
    },
    /// Written by a newer version of this program.
    #[error(
        "{path} has format version {found}, this program reads up to version {known}; run the version that wrote it or a later one"
    )]
    NewerFormat {
        /// The file or directory.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// Something that this program did not write.
    #[error("{path} is not a file of this log: {reason}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found and what was wanted.
        reason: String,
    },
    /// A directory that is not to be a gateway's.
    #[error("{path} is not a data directory: {reason}")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What it is, and what to do.
        reason: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

fn owner(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".into(),
    }
}

/// Why bodies were not confirmed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The log refused the bodies and stored nothing of them.
    #[error("append refused: {0}")]
    Refused(Refusal),
    /// The write or its sync failed: the bodies may have been stored.
    #[error("append not confirmed")]
    Unconfirmed(#[source] Arc<dyn Error + Send + Sync>),
}

impl AppendError {
    /// Whether sending the same bodies again cannot store them twice.
    pub fn is_safe_to_retry(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Unconfirmed(_) => false,
        }
    }
}

/// Why a log refuses to store anything for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The disk, or the quota on it, is full. Appends succeed again when there is space.
    #[error("the disk is full")]
    DiskFull,
    /// An earlier write or sync failed, so what is on the disk is not known until the log is opened
    /// again.
    #[error("an earlier write failed; the log takes no more until the gateway is restarted")]
    Poisoned,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// Every position has been given out.
    #[error("every position has been given out")]
    Exhausted,
}

/// The outcome of an append was never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log went away before it answered")]
pub struct Abandoned;

/// Why a position cannot be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PositionError {
    /// Past the last durable position: the id is of another log, or of one that was reset.
    #[error("position {position} is in the future: the newest is {head}")]
    Ahead {
        /// The position asked for.
        position: Position,
        /// The last durable position.
        head: Position,
    },
    /// Events after the position were removed by age or size, or lost to damage.
    #[error(
        "events after position {position} are no longer retained: the oldest position to go on from is {valid_from}"
    )]
    Purged {
        /// The position asked for.
        position: Position,
        /// The smallest position that is valid for the same topics and lies after it.
        valid_from: Position,
    },
    /// Events right after the position were lost to damage of the disk; reading stopped there.
    #[error(
        "events between positions {last_good} and {valid_from} were lost to damage: the oldest position to go on from is {valid_from}"
    )]
    Damaged {
        /// The position asked for.
        position: Position,
        /// The last position before the loss.
        last_good: Position,
        /// The smallest position after the loss.
        valid_from: Position,
    },
    /// A topic that was asked for is deleted, and its events with it.
    #[error("the topic was deleted")]
    TopicDeleted,
    /// In a range that may have been given out and is lost: when the machine stopped, in a mode that
    /// allows it, or because the log was restored from an earlier backup.
    #[error(
        "position {position} was lost when the machine stopped or the log was restored: the oldest position to go on from is {valid_from}"
    )]
    Lost {
        /// The position asked for.
        position: Position,
        /// The smallest position that is valid and lies after it.
        valid_from: Position,
    },
}

/// Why events were not removed. Those that the call did not come to are as they were.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The log takes no changes.
    #[error("the log takes no changes: {0}")]
    Refused(Refusal),
    /// The events lie in a file that is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The operating system refused. The same call may be made again.
    #[error("the events cannot be removed")]
    Storage(#[source] Arc<dyn Error + Send + Sync>),
}

/// Why a backup was not made. The logs are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The log keeps nothing that could be copied.
    #[error("this gateway keeps everything in memory only: there is nothing to back up")]
    InMemory,
    /// The directory cannot take a backup. Nothing was written to it.
    #[error("{path} cannot take a backup: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A log takes no changes, so what was acknowledged last cannot be sealed.
    #[error("the log of tenant {tenant} cannot be sealed: {refusal}")]
    Refused {
        /// Whose log.
        tenant: TenantId,
        /// Why.
        refusal: Refusal,
    },
    /// A file could not be read or written.
    #[error(transparent)]
    Failed(#[from] OpenError),
}

/// Why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The position is not, or no longer, one to read from.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The operating system refused, or the log could not be opened again.
    #[error("the log cannot be read")]
    Storage(#[source] Arc<dyn Error + Send + Sync>),
}
