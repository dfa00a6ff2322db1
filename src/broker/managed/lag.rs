//! How far a managed subscription is behind, and how long it has until it loses something.

use std::time::Duration;

use super::{Entry, ManagedSubscriptions};
use crate::{
    broker::Tenant,
    clock::Timestamp,
    types::{Position, Replay, TopicId},
};

/// How far somebody is behind the newest event of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Events that are still to come.
    pub events: u64,
    /// Age of the oldest of them.
    pub behind: Duration,
    /// How long until retention removes it; `None` when there is none to lose, or none is ever removed
    /// by age.
    pub time_to_loss: Option<Duration>,
}

/// The oldest event that a subscription has not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    /// Its place in the topic's own count.
    ordinal: u64,
    appended_at: Timestamp,
}

impl ManagedSubscriptions {
    /// How far a subscription is behind: from the position that is committed, since what was only
    /// delivered may be delivered again.
    pub(super) async fn lag(&self, tenant: &Tenant, entry: &Entry) -> Lag {
        let Some(config) = entry.config() else {
            return Lag::default();
        };
        let Some(event_type) = tenant.schemas.event_type(&config.topic) else {
            return Lag::default();
        };
        let topic = event_type.topic_id();
        let after = match (entry.committed(), config.default_replay) {
            (Some(committed), _) => committed.position,
            (None, Replay::Earliest) => Position::ZERO,
            // It would start at the newest: there is nothing that it could miss.
            (None, Replay::Latest) => return Lag::default(),
        };
        let unread = unread(tenant, topic, after).await;
        unread.map_or_else(Lag::default, |unread| {
            unread.lag(tenant, topic, self.clock.now())
        })
    }
}

/// The oldest event of `topic` after a position that is retained.
async fn unread(tenant: &Tenant, topic: TopicId, after: Position) -> Option<Unread> {
    let after = after.max(tenant.log.topic(topic).earliest());
    let batch = tenant.log.read(&[topic], after, 1).await.ok()?;
    let first = batch.blocks.first()?.slice_after(after, 1, 1)?;
    Some(Unread {
        ordinal: first.last_ordinal,
        appended_at: first.appended_at,
    })
}

impl Unread {
    fn lag(self, tenant: &Tenant, topic: TopicId, now: Timestamp) -> Lag {
        let behind = now.saturating_since(self.appended_at);
        let newest = tenant.log.topic(topic).ordinal;
        Lag {
            events: (newest + 1).saturating_sub(self.ordinal),
            behind,
            time_to_loss: Some(tenant.log.retention(topic).saturating_sub(behind)),
        }
    }
}
