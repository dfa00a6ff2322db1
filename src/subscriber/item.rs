//! What a subscription yields besides events.

use std::time::Duration;

use super::{Delivery, OpaqueReplayId};
use crate::{client::ClientError, types::TopicName};

/// What a subscription yields.
#[derive(Debug)]
#[non_exhaustive]
pub enum Item {
    /// An event was delivered.
    Event(Delivery),
    /// Events may be missing from here on.
    Gap(Gap),
    /// The stream broke, or was not opened; the next try comes by itself.
    Disconnected(Disconnected),
    /// The stream broke and stands again; nothing is missing.
    Reconnected(Reconnected),
    /// Everything that was published so far was received. Told once for each stream.
    CaughtUp(TopicName),
}

/// Events that may be missing, because the position was no longer good.
#[derive(Clone, Debug)]
pub struct Gap {
    /// The topic.
    pub topic: TopicName,
    /// The position that was refused; `None` if there was none yet.
    pub from: Option<OpaqueReplayId>,
    /// The first position after it: that of the next event, or the one that the first response told.
    pub to: OpaqueReplayId,
    /// How long ago the refused position was saved, if it is known. What is missing was published
    /// since then.
    pub age: Option<Duration>,
    /// What the gateway said.
    pub reason: String,
}

impl Gap {
    /// How far apart the two ends are, by the numbers in their replay ids. Positions are shared by the
    /// topics of a tenant and have gaps, so this is more than the number of events that are missing.
    pub fn positions(&self) -> Option<u64> {
        let from = self.from?;
        self.to.number().checked_sub(from.number())
    }
}

/// A stream that broke, or was not opened.
#[derive(Clone, Debug)]
pub struct Disconnected {
    /// The topic.
    pub topic: TopicName,
    /// Why.
    pub cause: ClientError,
    /// Until the next try.
    pub wait: Duration,
}

/// A stream that broke and stands again.
#[derive(Clone, Debug)]
pub struct Reconnected {
    /// The topic.
    pub topic: TopicName,
    /// Why the stream before ended.
    pub cause: ClientError,
    /// Tries that it took.
    pub attempts: u32,
    /// Time without a stream.
    pub down_for: Duration,
}
