//! Where a subscription begins that asks for a time.
//!
//! It gets every event that was appended at that time or later, or is told why not: a time that
//! retention has passed is never taken for the oldest that there is.

use std::{error::Error, sync::Arc};

use super::{Broker, SubscribeError, Subscriber};
use crate::{
    clock::Timestamp,
    event_log::{ReadError, TopicState},
    types::{Moment, Position, Principal},
};

/// The place of a time in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePlace {
    /// Behind it is every event of the topic that was appended at that time or later, and no other.
    pub position: Position,
    /// When the first of those was appended, if there is one.
    pub next_at: Option<Timestamp>,
}

/// Why a subscription does not begin at a time.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// It has not come yet.
    #[error("the time {at} is in the future: it is {now} by the gateway's clock")]
    Future {
        /// The time asked for.
        at: Timestamp,
        /// The time when it was.
        now: Timestamp,
    },
    /// Events may have been purged that were appended at that time or later.
    #[error(
        "events from the time {at} on are no longer retained: ask for {oldest} or later, or for the \
         earliest events"
    )]
    Purged {
        /// The time asked for.
        at: Timestamp,
        /// The oldest that may be asked for.
        oldest: Timestamp,
    },
    /// The log could not be read.
    #[error("the log cannot be read")]
    Storage(#[source] Arc<dyn Error + Send + Sync>),
}

impl Broker {
    /// The place of `moment` in the topic called `name`, to which the caller has the right to
    /// subscribe.
    ///
    /// # Errors
    ///
    /// Those of [`Broker::subscriber`] and [`Subscriber::position_at`], and
    /// [`SubscribeError::Position`] if the events from there on were lost.
    pub async fn resolve_time(
        &self,
        principal: &Principal,
        name: &str,
        moment: Moment,
    ) -> Result<TimePlace, SubscribeError> {
        let subscriber = self.subscriber(principal, name).await?;
        let position = subscriber.position_at(moment).await?;
        let topics = subscriber.topics();
        let batch = subscriber.log().read(&topics, position, 1).await;
        let batch = batch.map_err(|error| match error {
            ReadError::Position(error) => SubscribeError::Position(error),
            ReadError::Storage(source) => TimeError::Storage(source).into(),
        })?;
        Ok(TimePlace {
            position,
            next_at: batch.blocks.first().map(|block| block.appended_at()),
        })
    }
}

impl Subscriber {
    /// The position to start after, to get every event that was appended at `moment` or later. What
    /// time it is now says the broker's clock, and no time after that is taken.
    ///
    /// # Errors
    ///
    /// [`TimeError`].
    pub async fn position_at(&self, moment: Moment) -> Result<Position, TimeError> {
        let now = self.now();
        let at = Timestamp::from_millis(moment.as_millis(now.as_millis()));
        if at > now {
            return Err(TimeError::Future { at, now });
        }
        let found = self.log().position_at(at).await;
        let found = found.map_err(|error| TimeError::Storage(Arc::new(error)))?;
        // Only now, so that nothing is passed over that is purged meanwhile.
        let topics = self.topics();
        let states = topics.iter().map(|topic| self.log().topic(*topic));
        let states: Vec<TopicState> = states.collect();
        match states.iter().filter_map(oldest_time).max() {
            Some(oldest) if at < oldest => Err(TimeError::Purged { at, oldest }),
            // What is purged was all appended before.
            _ => Ok(states
                .iter()
                .map(|state| state.trim)
                .fold(found, Position::max)),
        }
    }
}

/// The oldest time that may be asked for; `None` if nothing was ever purged, so that any may be.
fn oldest_time(topic: &TopicState) -> Option<Timestamp> {
    let newest_purged = (topic.trim > Position::ZERO).then_some(topic.trim_at)?;
    Some(Timestamp::from_millis(newest_purged.as_millis() + 1))
}
