//! How far a managed subscription is behind.

use super::{
    Entry, ManagedConfig, ManagedSubscriptions,
    start::{recovery_of, start_of},
};
use crate::{
    broker::{Lag, Tenant, lag::newest, source::Source},
    clock::Timestamp,
    event_log::{ReadError, TenantLog},
    types::{Position, TopicId},
};

/// How far a subscription has come in its topics' own counts.
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
        let topics = topics_of(tenant, &config)?;
        if entry.has_nothing_to_miss() {
            return Some(Lag::default());
        }
        let after = entry.goes_on_after();
        let progress = progress(tenant, &topics, entry, &config).await?;
        entry.measured(after, progress);
        Some(self.lag_of(tenant, &topics, progress))
    }

    /// The same from what is known, without a read: as exact as the last measurement and the commits
    /// since, which do not count for a shared one. `None` before the first.
    pub(super) fn known_lag(&self, tenant: &Tenant, entry: &Entry) -> Option<Lag> {
        let topics = topics_of(tenant, &entry.config()?)?;
        if entry.has_nothing_to_miss() {
            return Some(Lag::default());
        }
        Some(self.lag_of(tenant, &topics, entry.progress()?))
    }

    fn lag_of(&self, tenant: &Tenant, topics: &[TopicId], progress: Progress) -> Lag {
        let unread_at = || {
            progress
                .unread_at
                .unwrap_or_else(|| newest(&*tenant.log, topics).1)
        };
        let now = self.clock.now();
        Lag::of(&*tenant.log, topics, progress.passed, unread_at, now)
    }
}

/// The numbers of its topics; `None` if there are none, as after the topic was deleted.
fn topics_of(tenant: &Tenant, config: &ManagedConfig) -> Option<Vec<TopicId>> {
    let topics = Source::all_of(tenant, &config.topic).into_iter();
    let topics: Vec<_> = topics
        .map(|sourced| sourced.event_type.topic_id())
        .collect();
    (!topics.is_empty()).then_some(topics)
}

/// Looks up what the oldest event is that the next stream would be sent; `None` if that cannot be
/// read.
async fn progress(
    tenant: &Tenant,
    topics: &[TopicId],
    entry: &Entry,
    config: &ManagedConfig,
) -> Option<Progress> {
    let log = &*tenant.log;
    let mut after = start_of(entry, config, log, topics).ok()?.position;
    for _ in 0..READS_MAX {
        match progress_after(log, topics, after).await {
            Ok(progress) => return Some(progress),
            Err(ReadError::Position(error)) => {
                after = recovery_of(error, config, log, topics).ok()?;
            }
            Err(ReadError::Storage(_)) => return None,
        }
    }
    None
}

/// How far somebody has come who has passed everything up to `after`.
async fn progress_after(
    log: &dyn TenantLog,
    topics: &[TopicId],
    after: Position,
) -> Result<Progress, ReadError> {
    let mut all = Progress {
        passed: 0,
        unread_at: None,
    };
    for &topic in topics {
        // As it was before the read: what comes meanwhile is not passed.
        let ordinal = log.topic(topic).ordinal;
        let batch = log.read(&[topic], after, 1).await?;
        let first = batch.blocks.first();
        match first.and_then(|block| block.slice_after(after, 1, 1)) {
            Some(first) => {
                all.passed += first.last_ordinal - 1;
                let oldest = all.unread_at.unwrap_or(first.appended_at);
                all.unread_at = Some(oldest.min(first.appended_at));
            }
            None => all.passed += ordinal,
        }
    }
    Ok(all)
}

/// Tries of one measurement. A stream goes on behind every loss that it meets; a look that has met
/// this many is left to the next one.
const READS_MAX: usize = 4;
