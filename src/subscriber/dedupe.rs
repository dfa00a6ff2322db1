//! Which events were handled, told by their ids, so that one that comes again is passed over.
//!
//! The bus delivers at least once: a publisher that retries stores an event twice, under one event id
//! and two replay ids. A store of ids takes the second one out, within a window bounded by time and
//! by count.
//!
//! # What it can promise
//!
//! An event whose id is recorded is not handled again as long as its id is in the window. A handler
//! whose process dies before its event is recorded runs again for that event: only an effect that is
//! in one transaction with the record, in the handler's own database, happens exactly once. Events
//! without an id are never taken for each other.

use std::{fmt, time::Duration};

use super::state::StoreError;
use crate::{
    clock::Timestamp,
    types::limits::{DEDUPE_IDS_MAX, RETENTION},
};

/// How long an id is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeWindow {
    /// Since it was recorded. As long as events are kept, by default.
    pub time: Duration,
    /// Ids that were recorded since.
    pub ids: u64,
}

impl Default for DedupeWindow {
    fn default() -> Self {
        Self {
            time: RETENTION,
            ids: DEDUPE_IDS_MAX,
        }
    }
}

/// Remembers the ids of events that were handled, for each subscription.
#[async_trait::async_trait]
pub trait DedupeStore: fmt::Debug + Send + Sync + 'static {
    /// For each id, whether it is recorded.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is known of any of them then.
    async fn seen(&self, subscription: &str, ids: Vec<String>) -> Result<Vec<bool>, StoreError>;

    /// Records ids at a time, durably, all or none; and forgets what is outside the window.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; none is recorded.
    async fn record(
        &self,
        subscription: &str,
        ids: Vec<String>,
        now: Timestamp,
    ) -> Result<(), StoreError>;
}
