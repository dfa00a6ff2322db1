//! How far a managed subscription is behind.

use super::{Entry, ManagedSubscriptions};
use crate::{
    broker::{Lag, Tenant},
    clock::Timestamp,
    types::{Position, Replay, TopicId},
};

/// How far a subscription has come in its topic's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Events that are committed, or that it will never get.
    pub(super) passed: u64,
    /// When the next one was appended, as far as it is known.
    pub(super) unread_at: Option<Timestamp>,
}

impl ManagedSubscriptions {
    /// Measures every subscription, which takes a read for each.
    pub(in crate::broker) async fn measure(&self, tenant: &Tenant) {
        for entry in self.all() {
            self.lag(tenant, &entry).await;
        }
    }

    /// How far a subscription is behind: from the position that is committed, since what was only
    /// delivered may be delivered again.
    pub(super) async fn lag(&self, tenant: &Tenant, entry: &Entry) -> Lag {
        let Some(topic) = topic_of(tenant, entry) else {
            return Lag::default();
        };
        let replay = entry.config().map(|config| match entry.lost() {
            Some(_) => config.error_recovery_replay,
            None => config.default_replay,
        });
        let progress = match (entry.floor(), replay) {
            (Some(position), _) => progress(tenant, topic, position).await,
            (None, Some(Replay::Earliest)) => progress(tenant, topic, Position::ZERO).await,
            // It would start at the newest: there is nothing that it could miss.
            (None, _) => Some(Progress {
                passed: tenant.log.topic(topic).ordinal,
                unread_at: None,
            }),
        };
        let Some(progress) = progress else {
            return Lag::default();
        };
        entry.measured(progress);
        self.lag_of(tenant, topic, progress)
    }

    /// The same from what is known, without a read: as exact as the last measurement and the commits
    /// since. `None` before the first.
    pub(super) fn known_lag(&self, tenant: &Tenant, entry: &Entry) -> Option<Lag> {
        let topic = topic_of(tenant, entry)?;
        Some(self.lag_of(tenant, topic, entry.progress()?))
    }

    fn lag_of(&self, tenant: &Tenant, topic: TopicId, progress: Progress) -> Lag {
        let unread_at = || {
            progress
                .unread_at
                .unwrap_or_else(|| tenant.log.topic(topic).last_at)
        };
        let now = self.clock.now();
        Lag::of(&*tenant.log, topic, progress.passed, unread_at, now)
    }
}

fn topic_of(tenant: &Tenant, entry: &Entry) -> Option<TopicId> {
    let event_type = tenant.schemas.event_type(&entry.config()?.topic)?;
    Some(event_type.topic_id())
}

/// Looks up what the oldest retained event after a position is; `None` if that cannot be read.
async fn progress(tenant: &Tenant, topic: TopicId, after: Position) -> Option<Progress> {
    let state = tenant.log.topic(topic);
    let after = after.max(state.earliest());
    let batch = tenant.log.read(&[topic], after, 1).await.ok()?;
    let first = batch.blocks.first();
    let first = first.and_then(|block| block.slice_after(after, 1, 1));
    Some(match first {
        Some(first) => Progress {
            passed: first.last_ordinal - 1,
            unread_at: Some(first.appended_at),
        },
        // As it was before the read: what came meanwhile is not passed.
        None => Progress {
            passed: state.ordinal,
            unread_at: None,
        },
    })
}
