//! Why a subscription came to an end.

use super::state::StoreError;
use crate::{
    client::ClientError,
    types::{TopicName, limits::CREDIT_MAX_EXTENDED},
};

/// Why a subscription came to an end, or did not begin. What passes is tried again and is no error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The subscriber was not told what to subscribe to.
    #[error("there is nothing to subscribe to: name a topic or a managed subscription")]
    NothingToSubscribeTo,
    /// The same topic twice.
    #[error("the topic {0} is named twice")]
    NamedTwice(TopicName),
    /// Holds what was asked for.
    #[error("from 1 to {CREDIT_MAX_EXTENDED} events may be in flight, found {0}")]
    InFlight(u32),
    /// The gateway refused, or was not reached for as long as was to be tried.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The position is no longer good, and the policy says to stop, or was used before.
    #[error("the position {position} of {topic} is refused: {reason}")]
    PositionRefused {
        /// The topic.
        topic: TopicName,
        /// The position; or what else it was to start at.
        position: String,
        /// What the gateway said.
        reason: String,
    },
    /// The gateway cannot start at a time, as the hosted service cannot. No event was received: it would
    /// have started somewhere else.
    #[error(
        "this gateway cannot start {0} at a time; start at a replay id, or at the earliest or the latest \
         event"
    )]
    TimeNotServed(TopicName),
    /// The gateway has no filters, as the hosted service has none but on channels. No event was received.
    #[error(
        "this gateway cannot filter {0}; subscribe without a filter, or to a channel that has one"
    )]
    FilterNotServed(TopicName),
    /// A filter for a managed subscription.
    #[error("a managed subscription has the filter that is kept with it; found another for {0}")]
    FilterOfManaged(TopicName),
    /// The gateway did not take the last commit of a managed subscription.
    #[error("the last commit was refused: events that were handled will come again")]
    CommitRefused,
    /// There was no stream to make the last commit of a managed subscription on.
    #[error(
        "the last commit could not be made, for the gateway was not reached: events that were handled \
         will come again"
    )]
    NotCommitted,
    /// A store that the subscriber needs cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}
