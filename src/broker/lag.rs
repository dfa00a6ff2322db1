//! How far subscribers are behind, and how long they have until retention takes what they have not
//! read.
//!
//! A managed subscription is measured from where its next stream would begin, whether one has it or
//! not; a subscriber that gave itself a name while it is connected.

use std::{sync::Arc, time::Duration};

use super::{Broker, ManagedConfig, TopicError};
use crate::{
    clock::Timestamp,
    event_log::TenantLog,
    types::{Principal, TopicId},
};

/// How far somebody is behind the newest event of their topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Events that are still to come.
    pub events: u64,
    /// Age of the oldest of them, as far as it is known: never younger than that.
    pub behind: Duration,
    /// How long until retention removes it by its age; `None` when there is none to lose.
    pub time_to_loss: Option<Duration>,
}

/// Who is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriberName {
    /// A managed subscription, by its developer name.
    Managed(String),
    /// A subscriber, by the name it gave itself.
    Client(Arc<str>),
}

impl Lag {
    /// The lag of somebody who has passed `passed` events of some topics, the next of which was appended
    /// at `unread_at`.
    pub(super) fn of(
        log: &dyn TenantLog,
        topics: &[TopicId],
        passed: u64,
        unread_at: impl FnOnce() -> Timestamp,
        now: Timestamp,
    ) -> Self {
        let events = newest(log, topics).0.saturating_sub(passed);
        if events == 0 {
            return Self::default();
        }
        let behind = now.saturating_since(unread_at());
        let retention = topics.iter().map(|topic| log.retention(*topic)).min();
        Self {
            events,
            behind,
            time_to_loss: retention.map(|retention| retention.saturating_sub(behind)),
        }
    }
}

/// How many events some topics have ever had, and when the newest of them was appended.
pub(super) fn newest(log: &dyn TenantLog, topics: &[TopicId]) -> (u64, Timestamp) {
    let states = topics.iter().map(|topic| log.topic(*topic));
    states.fold(Default::default(), |(ordinal, last_at), state| {
        (ordinal + state.ordinal, state.last_at.max(last_at))
    })
}

impl Broker {
    /// How far the managed subscriptions of a topic and its named subscribers are behind, the managed
    /// ones first, each kind by name. `None` stands for a lag that could not be told.
    ///
    /// # Errors
    ///
    /// [`TopicError`].
    pub async fn subscribers(
        &self,
        principal: &Principal,
        topic: &str,
    ) -> Result<Vec<(SubscriberName, Option<Lag>)>, TopicError> {
        let (tenant, event_type) = self.find_topic(principal, topic).await?;
        let topic = Some(event_type.topic());
        let managed = tenant.managed.describe(&tenant, principal, topic).await;
        let name = |config: ManagedConfig| SubscriberName::Managed(config.developer_name);
        let managed = managed.into_iter();
        let mut found: Vec<_> = managed
            .map(|described| (name(described.config), described.lag))
            .collect();
        let now = self.0.clock.now();
        let named = self
            .metrics()
            .named(&tenant.log, event_type.topic_id(), now);
        found.extend(named.map(|(name, lag)| (SubscriberName::Client(name), Some(lag))));
        Ok(found)
    }

    /// Measures how far the managed subscriptions of the tenants that are open are behind, for those
    /// who scrape. To be called now and then.
    pub async fn measure_lag(&self) {
        for (_, tenant) in self.0.tenants.open() {
            tenant.managed.measure(&tenant).await;
        }
    }
}
