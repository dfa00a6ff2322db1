//! Why a channel is not made, changed or deleted.

use std::{error::Error, sync::Arc};

use tokio::task::JoinError;

use crate::{
    broker::TopicError,
    filter::FilterError,
    metadata::{StoreError, WriteError},
    types::{
        TopicName,
        limits::{
            CHANNEL_ENRICHED_FIELDS_MAX, CHANNEL_LABEL_CHARS_MAX, CHANNEL_MEMBERS_MAX, CHANNELS_MAX,
        },
    },
};

/// Why a channel is not as it was asked to be. Nothing was changed, unless the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The tenant has no such channel.
    #[error("no such channel")]
    NotFound,
    /// Not the name of a channel.
    #[error("the name of a channel looks like /event/Orders__chn or /data/Sales__chn")]
    Name,
    /// There is a channel of this name.
    #[error("there is a channel {0} already")]
    NameTaken(TopicName),
    /// The channel of every change event is not made, changed or deleted.
    #[error("{0} is always there, and has every topic of change events")]
    Standard(TopicName),
    /// Not a label.
    #[error("a label has 1 to {CHANNEL_LABEL_CHARS_MAX} characters")]
    Label,
    /// The tenant has as many as it may.
    #[error("a tenant has at most {CHANNELS_MAX} channels of a kind; delete one first")]
    TooMany,
    /// The channel has as many members as it may, or was to get more.
    #[error("a channel has at most {CHANNEL_MEMBERS_MAX} members")]
    TooManyMembers,
    /// A topic that is no member of the channel was to be one no more.
    #[error("{topic} is no member of {channel}")]
    NoMember {
        /// The channel.
        channel: TopicName,
        /// The topic, as it was named.
        topic: String,
    },
    /// A topic cannot be a member of the channel.
    #[error("{topic} cannot be a member: {problem}")]
    Member {
        /// The topic, as it was named.
        topic: String,
        /// Why not.
        problem: MemberProblem,
    },
    /// A list of channels names one twice.
    #[error("it is named twice")]
    Twice,
    /// A channel of a list cannot be as it was asked to be.
    #[error("{channel}: {problem}")]
    Of {
        /// The channel, as it was named.
        channel: String,
        /// Why not.
        problem: Box<ChannelError>,
    },
    /// Managed subscriptions are on the channel.
    #[error("the channel is subscribed to by {}; delete those first", .0.join(", "))]
    Subscribed(Vec<String>),
    /// The tenant cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The disk, or the quota on it, is full; the same call succeeds when there is space.
    #[error("the channel cannot be stored: the disk is full")]
    DiskFull,
    /// A stored one that this program did not write; holds its name.
    #[error("the stored channel {0:?} is not one that this program writes")]
    Unreadable(String),
    /// The store failed: the channel may or may not be as it was asked to be.
    #[error("the channel cannot be stored")]
    Store(#[source] Arc<dyn Error + Send + Sync>),
}

impl ChannelError {
    /// The error, saying which channel of several it is about.
    pub(super) fn of(self, channel: &str) -> Self {
        Self::Of {
            channel: channel.to_owned(),
            problem: Box::new(self),
        }
    }
}

/// Why a topic cannot be a member of a channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberProblem {
    /// There is no such topic.
    #[error("there is no such topic")]
    NoTopic,
    /// It is a channel itself, or of the other kind.
    #[error("{0}")]
    Kind(&'static str),
    /// It is named twice.
    #[error("it is named twice")]
    Twice,
    /// Its filter is wrong.
    #[error("the filter is wrong {0}")]
    Filter(Box<FilterError>),
    /// Enriched fields are for change events.
    #[error("enriched fields are for change events")]
    EnrichesEvents,
    /// More fields to be enriched than a member may have.
    #[error("at most {CHANNEL_ENRICHED_FIELDS_MAX} fields are enriched, found {0}")]
    TooManyEnriched(usize),
    /// A field to be enriched that it does not have.
    #[error("it has no field {0} to be enriched")]
    NoEnrichedField(String),
}

impl From<JoinError> for ChannelError {
    fn from(error: JoinError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<StoreError> for ChannelError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull(_) => Self::DiskFull,
            error => Self::Store(Arc::new(error)),
        }
    }
}

impl From<WriteError> for ChannelError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            error => Self::Store(Arc::new(error)),
        }
    }
}
