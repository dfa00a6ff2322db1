//! Why a managed subscription is not made, does not begin, ends, or does not take a commit.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::task::JoinError;

use crate::{
    broker::{SharingError, SubscribeError, SubscriptionEnd, TopicError},
    event_log::PositionError,
    filter::FilterError,
    metadata::{StoreError, WriteError},
    types::{
        Position, ReplayIdError,
        limits::{COMMIT_ID_BYTES_MAX, MANAGED_NAME_CHARS_MAX, MANAGED_SUBSCRIPTIONS_MAX},
    },
};

/// Why a managed subscription was not made or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagedError {
    /// No managed subscription of the tenant has this id or name.
    #[error("no such managed subscription")]
    NotFound,
    /// Another one has this developer name.
    #[error("there is a managed subscription called {0} already")]
    NameTaken(String),
    /// Not a developer name.
    #[error(
        "a developer name has 1 to {MANAGED_NAME_CHARS_MAX} letters, digits and underscores, begins with \
         a letter, does not end with an underscore and has no two of them in a row"
    )]
    Name,
    /// Not a label.
    #[error("a label has 1 to {MANAGED_NAME_CHARS_MAX} characters")]
    Label,
    /// The tenant has as many as it may.
    #[error(
        "a tenant has at most {MANAGED_SUBSCRIPTIONS_MAX} managed subscriptions; delete one first"
    )]
    TooMany,
    /// Its topic cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Its filter is none, or none for the topic.
    #[error("the filter is wrong {0}")]
    Filter(#[from] FilterError),
    /// It cannot be shared so.
    #[error(transparent)]
    Sharing(#[from] SharingError),
    /// The disk, or the quota on it, is full; the same call succeeds when there is space.
    #[error("the managed subscription cannot be stored: the disk is full")]
    DiskFull,
    /// A stored one that this program did not write; holds its id.
    #[error("the stored managed subscription {0:?} is not one that this program writes")]
    Unreadable(String),
    /// The store failed: it may or may not be as it was asked to be.
    #[error("the managed subscription cannot be stored")]
    Store(#[source] Arc<dyn Error + Send + Sync>),
}

impl From<JoinError> for ManagedError {
    fn from(error: JoinError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<StoreError> for ManagedError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull(_) => Self::DiskFull,
            error => Self::Store(Arc::new(error)),
        }
    }
}

impl From<WriteError> for ManagedError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            error => Self::Store(Arc::new(error)),
        }
    }
}

/// Why a stream of a managed subscription did not begin.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagedSubscribeError {
    /// No managed subscription of the tenant has this id.
    #[error("no managed subscription has this subscription_id")]
    UnknownId,
    /// No managed subscription of the tenant has this name.
    #[error("no managed subscription has this developer_name")]
    UnknownName,
    /// Its state is STOP.
    #[error("the managed subscription is stopped; set its state to RUN")]
    Stopped,
    /// Another stream has it.
    #[error(
        "another stream has the managed subscription; end it, release it, or let the newest have it \
         (takeover)"
    )]
    AlreadyActive,
    /// As many streams share it as may.
    #[error(
        "{0} streams share the managed subscription, and more may not; end one, release them, or let \
         the newest have the place of the oldest (takeover)"
    )]
    AllPlacesTaken(u32),
    /// Its topic cannot be subscribed to.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
}

/// Why a stream of a managed subscription ended by itself.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagedEnd {
    /// Its state was set to STOP.
    #[error("the managed subscription was stopped")]
    Stopped,
    /// It was deleted.
    #[error("the managed subscription was deleted")]
    Deleted,
    /// Another stream took it over.
    #[error("a newer stream took the managed subscription over")]
    TakenOver,
    /// An administrator took it from the stream.
    #[error("an administrator released the managed subscription")]
    Released,
    /// There were no commits for too long.
    #[error("no commits arrived in {} seconds; commit the latest replay id of empty responses too", .0.as_secs())]
    NoCommits(Duration),
    /// The subscription itself ended.
    #[error(transparent)]
    Subscription(#[from] SubscriptionEnd),
}

/// Why a commit was refused. The stream goes on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitRefusal {
    /// Its id is too long to be kept; holds its length in bytes.
    #[error("a commit_request_id has at most {COMMIT_ID_BYTES_MAX} bytes, this one has {0}")]
    Id(usize),
    /// It has no replay id.
    #[error("the commit has no replay id")]
    Missing,
    /// Its replay id is none.
    #[error("the replay id of the commit is malformed: {0}")]
    Malformed(ReplayIdError),
    /// Nothing this far was delivered.
    #[error(
        "replay id {} was not delivered on this subscription yet: the latest that was is {}",
        .found.replay_id(), .latest.replay_id()
    )]
    NotDelivered {
        /// What was to be committed.
        found: Position,
        /// The newest that can be.
        latest: Position,
    },
    /// It is of a shared subscription, and not of an event that its stream was sent and has not
    /// committed.
    #[error(
        "replay id {} is not that of an event which was sent on this stream and is not committed yet: \
         of a shared subscription each stream commits what it was sent",
        .0.replay_id()
    )]
    NotSent(Position),
    /// Something later is committed.
    #[error(
        "replay id {} is older than the committed one, {}",
        .found.replay_id(), .committed.replay_id()
    )]
    Older {
        /// What was to be committed.
        found: Position,
        /// What is.
        committed: Position,
    },
    /// It is no longer valid.
    #[error("the replay id of the commit is no longer valid: {0}")]
    Position(PositionError),
    /// The disk is full: the same commit succeeds when there is space.
    #[error("the commit cannot be stored: the disk is full; try again")]
    DiskFull,
    /// The store failed: the commit may or may not be stored.
    #[error("the commit may not have been stored; try again")]
    Store(#[source] Arc<dyn Error + Send + Sync>),
    /// The managed subscription was deleted meanwhile.
    #[error("the managed subscription was deleted")]
    Deleted,
}

impl From<StoreError> for CommitRefusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull(_) => Self::DiskFull,
            error => Self::Store(Arc::new(error)),
        }
    }
}

impl From<WriteError> for CommitRefusal {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            error => Self::Store(Arc::new(error)),
        }
    }
}
