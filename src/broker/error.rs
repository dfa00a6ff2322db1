//! What the broker refuses, one enum for each operation an edge branches on.

use std::{error::Error, sync::Arc, time::Duration};

use super::{GrantError, TimeError};
use crate::{
    event_log::{PositionError, ReadError, Refusal},
    types::TopicName,
};

/// Why a topic cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// No name was given.
    #[error("the topic name is empty")]
    Empty,
    /// No topic of the tenant has this name; the name is a peer's text and is not repeated.
    #[error("no such topic")]
    NotFound,
    /// There is such a topic and the caller has no right to it.
    #[error("no right to use topic {0}")]
    Forbidden(TopicName),
    /// The tenant's log or metadata could not be opened.
    #[error("the tenant's topics are not available")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
}

impl TopicError {
    pub(super) fn unavailable(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Arc::new(source))
    }
}

/// Why a schema is not given out.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// No id was given.
    #[error("the schema id is empty")]
    Empty,
    /// No schema has this id, or the caller has no right to any topic that uses it: which of the
    /// two is not told.
    #[error("no schema with this id may be read")]
    Forbidden,
    /// The tenant's log or metadata could not be opened.
    #[error(transparent)]
    Unavailable(#[from] TopicError),
}

/// Why a whole publish request failed. No event of it has a result of its own.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The queue had no room in time. Nothing was stored.
    #[error(
        "the gateway takes no more events for now: no room for {0:?}; nothing was stored, try again"
    )]
    Overloaded(Duration),
    /// The log refused. Nothing was stored.
    #[error("{0}; nothing was stored")]
    Refused(Refusal),
    /// The write or its sync failed. The events may have been stored.
    #[error("the events may or may not have been stored; publish them again with the same ids")]
    Unconfirmed(#[source] Arc<dyn Error + Send + Sync>),
}

impl PublishError {
    /// Whether publishing again may succeed, and whether that cannot store an event twice.
    pub fn is_safe_to_retry(&self) -> bool {
        match self {
            Self::Topic(TopicError::Unavailable(_)) | Self::Overloaded(_) | Self::Refused(_) => {
                true
            }
            Self::Topic(TopicError::Empty | TopicError::NotFound | TopicError::Forbidden(_))
            | Self::Unconfirmed(_) => false,
        }
    }
}

/// Why a subscription did not begin.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The topic cannot be used; never [`TopicError::Forbidden`].
    #[error(transparent)]
    Topic(TopicError),
    /// There is such a topic and the caller may not subscribe to it.
    #[error("no right to subscribe to topic {0}")]
    CannotSubscribe(TopicName),
    /// The position to start after is not valid.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The time to start at is not one to start at.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// The first request asked for no events.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// Why a subscription ended by itself.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionEnd {
    /// Retention overtook the cursor.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The client asked for no more events in time.
    #[error("no events were requested for {0:?} after the last requested one was delivered")]
    NoCredit(Duration),
    /// The channel was deleted.
    #[error("the channel was deleted")]
    ChannelDeleted,
    /// The log could not be read.
    #[error("the log cannot be read")]
    Storage(#[source] Arc<dyn Error + Send + Sync>),
}

impl From<ReadError> for SubscriptionEnd {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Position(error) => Self::Position(error),
            ReadError::Storage(source) => Self::Storage(source),
        }
    }
}
