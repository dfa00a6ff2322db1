//! What can go wrong with a metadata store.

use std::{error::Error, io, path::PathBuf};

use super::Table;

/// Why metadata cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file of the store cannot be used.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The disk, or the quota on it, is full. Writes succeed again when there is space.
    #[error("the disk is full")]
    DiskFull(#[source] io::Error),
    /// The store keeps nothing that could be copied.
    #[error("metadata is kept in memory only: there is nothing to copy")]
    InMemory,
    /// A copy of a file of the store cannot be made.
    #[error("cannot copy the metadata to {path}")]
    Copy {
        /// The copy.
        path: PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// An open store failed.
    #[error("the metadata store failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
    /// A value that this program did not write, or that a newer one did.
    #[error("the {} record {key:?} cannot be read", table.name())]
    Record {
        /// Its table.
        table: Table,
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl StoreError {
    pub(super) fn failed(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(source.into())
    }
}

/// Why a file of the store cannot be used. The error around it names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the file open.
    #[error("another process uses it; stop that one or choose another data directory")]
    InUse,
    /// Written by a newer version of this program.
    #[error(
        "it has format version {found}, this program reads up to version {known}; run the version that wrote it or a later one"
    )]
    NewerFormat {
        /// The file's version.
        found: u64,
        /// The newest version this program knows.
        known: u64,
    },
    /// Not a file that this program wrote, or no longer as it was written. Holds what was found.
    #[error("it is damaged or was not written by this program ({0}); restore it from a backup")]
    Damaged(String),
    /// A file of this program that belongs somewhere else: data directories were mixed.
    #[error("it belongs to {found}, not to {wanted}; put back the file that belongs here")]
    Misplaced {
        /// Whose file it is.
        found: String,
        /// Whose file it has to be.
        wanted: String,
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
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Somebody else wrote the key since it was read. Nothing of the batch was written.
    #[error("the {} record {key:?} was changed meanwhile", table.name())]
    Conflict {
        /// Its table.
        table: Table,
        /// Its key.
        key: String,
    },
    /// The store failed. The batch may have been written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
