//! Why an event was not published, or why that is not known.

use crate::{
    client::{CallError, ClientError},
    schema::{JsonError, SchemaError},
    types::{
        TopicName,
        limits::{EVENT_BYTES_MAX, EVENT_ID_CHARS_MAX},
    },
};

/// What became of an event that was not published, without its id: see [`FailedEvent`].
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It is no event that could be sent; nothing was.
    #[error(transparent)]
    Event(#[from] EventError),
    /// What the topic's events look like could not be found out; nothing was sent.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The gateway refused this event, and stored others of its request all the same.
    #[error("{message}")]
    Refused {
        /// The code in the event's result.
        code: i32,
        /// The gateway's reason.
        message: String,
    },
    /// The gateway refused the request, and stored nothing of it.
    #[error(transparent)]
    RequestRefused(CallError),
    /// It was sent, and no answer came: it may have been stored.
    #[error("not confirmed, and perhaps stored: {0}")]
    Unconfirmed(ClientError),
    /// There was no connection to send it on.
    #[error("not sent: {0}")]
    Connection(ClientError),
    /// The publisher was closed or dropped before it was sent.
    #[error("not sent: the publisher is closed")]
    Closed,
}

impl PublishError {
    /// Whether the same event, under the same id, may be published again with some hope.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Event(_) | Self::Refused { .. } => false,
            Self::Topic(error) => error.is_retryable(),
            Self::RequestRefused(error) => error.is_retryable(),
            Self::Unconfirmed(_) | Self::Connection(_) | Self::Closed => true,
        }
    }

    /// Whether the event may have been stored all the same.
    pub fn may_be_stored(&self) -> bool {
        match self {
            Self::Unconfirmed(_) => true,
            Self::Event(_)
            | Self::Topic(_)
            | Self::Refused { .. }
            | Self::RequestRefused(_)
            | Self::Connection(_)
            | Self::Closed => false,
        }
    }

    /// What went wrong between client and gateway; `None` if it is the event that is at fault.
    pub fn client_error(&self) -> Option<ClientError> {
        match self {
            Self::Event(_) | Self::Refused { .. } | Self::Closed => None,
            Self::Topic(TopicError::Client(error))
            | Self::Unconfirmed(error)
            | Self::Connection(error) => Some(error.clone()),
            Self::Topic(_) => None,
            Self::RequestRefused(error) => Some(ClientError::Call(error.clone())),
        }
    }
}

/// An event that was not published, or perhaps not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("event {event_id}: {error}")]
pub struct FailedEvent {
    /// Under this id it may be published again.
    pub event_id: String,
    /// Why.
    pub error: PublishError,
}

/// Why something is no event of a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// It does not fit the topic's schema.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It cannot be written as JSON. Holds the serializer's words.
    #[error("the event cannot be written as JSON: {0}")]
    NotJson(String),
    /// No gateway takes it. Holds its size in bytes.
    #[error("an event has at most {EVENT_BYTES_MAX} bytes, this one has {0}")]
    TooLarge(usize),
    /// Its id has so many characters.
    #[error("event_id has at most {EVENT_ID_CHARS_MAX} characters, this one has {0}")]
    IdTooLong(usize),
}

/// Why nothing can be published to a topic.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Nothing is published to a channel directly.
    #[error("{0} is a channel; publish to the topic of one of its event types")]
    Channel(TopicName),
    /// The token's patterns do not name it.
    #[error("this token may not publish to {0}")]
    NotPermitted(TopicName),
    /// The gateway's schema of the topic is none.
    #[error("the gateway's schema of {topic} is not usable: {reason}")]
    Schema {
        /// The topic.
        topic: TopicName,
        /// What is wrong with it.
        reason: SchemaError,
    },
    /// The gateway could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl TopicError {
    /// Whether the same may be tried again with some hope.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Channel(_) | Self::NotPermitted(_) | Self::Schema { .. } => false,
            Self::Client(error) => error.is_retryable(),
        }
    }
}
