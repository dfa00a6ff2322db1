//! How a subscription is: its connection, how far it is, and what it counted.

use std::time::Duration;

use super::{OpaqueReplayId, lane::Lane};
use crate::types::{TopicName, limits::SUBSCRIBER_SILENCE_MAX};

/// The state of a subscription's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A stream is being opened.
    Connecting,
    /// The stream stands.
    Live,
    /// The stream broke; the next try comes by itself. Holds the reason.
    Waiting(String),
    /// Another stream has the managed subscription.
    StandingBy,
    /// As many events are in flight as may be, or all that are wanted came, and the gateway ended the
    /// stream meanwhile. It is opened again once there is room.
    Full,
    /// It came to an end.
    Ended,
}

impl State {
    /// A word for it, for metrics and output.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Waiting(_) => "waiting",
            Self::StandingBy => "standing_by",
            Self::Full => "full",
            Self::Ended => "ended",
        }
    }
}

/// What a subscription counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that were delivered.
    pub received: u64,
    /// Events that were handled.
    pub done: u64,
    /// Events that were passed over because their id was known, or because their managed subscription
    /// sent them a second time.
    pub duplicates: u64,
    /// Events that were dropped without being handled.
    pub abandoned: u64,
    /// Events whose handling failed and was tried again.
    pub retries: u64,
    /// Events that became dead letters.
    pub parked: u64,
    /// Events that could not be decoded.
    pub undecodable: u64,
    /// Streams that broke.
    pub disconnects: u64,
    /// Positions that were refused.
    pub gaps: u64,
    /// Events that came without having been asked for.
    pub excess: u64,
    /// Saves that failed.
    pub failed_saves: u64,
}

/// A subscription at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The topic.
    pub topic: TopicName,
    /// Its connection.
    pub state: State,
    /// How long ago the last stream was opened; `None` if none was yet.
    pub open_for: Option<Duration>,
    /// How long nothing was heard of the gateway; `None` if nothing was heard yet. With credit, a
    /// gateway is heard every few minutes at least.
    pub silence: Option<Duration>,
    /// Events that are being handled, or wait for it.
    pub in_flight: usize,
    /// Everything up to here is handled.
    pub position: Option<OpaqueReplayId>,
    /// The last position that was saved.
    pub saved: Option<OpaqueReplayId>,
    /// How long ago the last checkpoint was saved; `None` if none was yet. A position that is older
    /// than its topic keeps events is refused.
    pub checkpoint_age: Option<Duration>,
    /// An event was dropped without being handled, so that no checkpoint passes it.
    pub is_stuck: bool,
    /// What it counted.
    pub counters: Counters,
}

impl Status {
    pub(super) fn of(lane: &Lane) -> Self {
        let shared = lane.lock();
        Self {
            topic: lane.topic.clone(),
            state: shared.state.clone(),
            open_for: shared.opened_at.map(|at| at.elapsed()),
            silence: shared.silence(),
            in_flight: shared.progress.pending(),
            position: shared.progress.position(),
            saved: shared.saved,
            checkpoint_age: shared.saved_at.map(|at| at.elapsed()),
            is_stuck: shared.progress.is_stuck(),
            counters: shared.counters,
        }
    }

    /// Whether events come, as far as can be told: what a health check should ask.
    pub fn is_healthy(&self) -> bool {
        let is_heard = |silence: Duration| silence <= SUBSCRIBER_SILENCE_MAX;
        match self.state {
            State::Live => {
                // A stream has as long for its first message as for each that follows.
                let quiet = [self.open_for, self.silence].into_iter().flatten().min();
                !self.is_stuck && quiet.is_none_or(is_heard)
            }
            State::StandingBy | State::Full => !self.is_stuck,
            State::Connecting | State::Waiting(_) | State::Ended => false,
        }
    }
}
