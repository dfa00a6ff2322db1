//! How far a managed subscription is behind.

use super::{
    Entry, ManagedConfig, ManagedSubscriptions,
    start::{recovery_of, start_of},
};
use crate::{
    broker::{Lag, Tenant},
    clock::Timestamp,
    event_log::ReadError,
    types::TopicId,
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

    /// How far a subscription is behind: from where its next stream would begin, since what was only
    /// delivered may be delivered again. `None` if that cannot be told.
    pub(super) async fn lag(&self, tenant: &Tenant, entry: &Entry) -> Option<Lag> {
        let config = entry.config()?;
        let topic = topic_of(tenant, &config)?;
        if entry.has_nothing_to_miss() {
            return Some(Lag::default());
        }
        let committed = entry.committed().map(|committed| committed.position);
        let progress = progress(tenant, topic, entry, &config).await?;
        entry.measured(committed, progress);
        Some(self.lag_of(tenant, topic, progress))
    }

    /// The same from what is known, without a read: as exact as the last measurement and the commits
    /// since. `None` before the first.
    pub(super) fn known_lag(&self, tenant: &Tenant, entry: &Entry) -> Option<Lag> {
        let topic = topic_of(tenant, &entry.config()?)?;
        if entry.has_nothing_to_miss() {
            return Some(Lag::default());
        }
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

fn topic_of(tenant: &Tenant, config: &ManagedConfig) -> Option<TopicId> {
    let event_type = tenant.schemas.event_type(&config.topic)?;
    Some(event_type.topic_id())
}

/// Looks up what the oldest event is that the next stream would be sent; `None` if that cannot be
/// read.
async fn progress(
    tenant: &Tenant,
    topic: TopicId,
    entry: &Entry,
    config: &ManagedConfig,
) -> Option<Progress> {
    let log = &*tenant.log;
    // As it was before the read: what comes meanwhile is not passed.
    let ordinal = log.topic(topic).ordinal;
    let mut after = start_of(entry, config, log, topic).ok()?.position;
    for _ in 0..READS_MAX {
        match log.read(&[topic], after, 1).await {
            Ok(batch) => {
                let first = batch.blocks.first();
                let first = first.and_then(|block| block.slice_after(after, 1, 1));
                return Some(match first {
                    Some(first) => Progress {
                        passed: first.last_ordinal - 1,
                        unread_at: Some(first.appended_at),
                    },
                    None => Progress {
                        passed: ordinal,
                        unread_at: None,
                    },
                });
            }
            Err(ReadError::Position(error)) => {
                after = recovery_of(error, config, log, topic).ok()?;
            }
            Err(ReadError::Storage(_)) => return None,
        }
    }
    None
}

/// Reads of one measurement. A stream goes on behind every loss that it meets; a look that has met
/// this many is left to the next one.
const READS_MAX: usize = 4;
