//! Idempotent publish: an event whose id was seen a short while ago is not stored again, and gets the
//! answer of the first one, its replay id included.
//!
//! The scope of an id is its topic, and only ids that publishers chose are looked up. An id is taken
//! when a request is about to be queued; whoever comes with the same one waits for the outcome and
//! shares it. Stored, it is remembered for [`Config::window`] from then on, or as long as the log
//! keeps the event if that is shorter. Refused, it is free again. In doubt, as after a failed sync, it
//! stays in doubt until the log is opened again: then the log itself says which events there are.
//!
//! What is remembered is memory alone. It is read back from the log when a topic is first published to
//! after a tenant was opened, or after the topic was switched on, and publishes with ids wait for that.
//! So it is exact for one gateway, for every publish that began after the topic was switched on; of
//! what another gateway stored this one knows nothing. An erased event is forgotten with its id, which
//! may be published again.
//!
//! Nobody holds one id while waiting for another: a request takes all its ids at once, or none and
//! waits. So requests with the same ids in any order cannot wait for each other.

mod claimed;
mod rebuild;
mod tenant;
mod ticket;
mod window;

use std::{
    sync::{Arc, Mutex, Weak, atomic::AtomicUsize},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::Semaphore;

use crate::{
    clock::Clock,
    event_log::TenantLog,
    types::limits::{
        IDEMPOTENCE_IDS_MAX, IDEMPOTENCE_IDS_PER_TOPIC_MAX, IDEMPOTENCE_REBUILDS_MAX,
        IDEMPOTENCE_WINDOW,
    },
};

pub(super) use claimed::Claimed;
pub(super) use tenant::{Answer, Asked, Wait, Windows};

/// Settings of idempotent publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether it is on for topics that do not say so themselves.
    pub enabled: bool,
    /// How long an id is remembered after its event was stored.
    pub window: Duration,
    /// Ids that are remembered of one topic; the oldest go first.
    pub ids_per_topic_max: u32,
    /// Ids that are remembered of all topics of all tenants; the oldest go first.
    pub ids_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            window: IDEMPOTENCE_WINDOW,
            ids_per_topic_max: IDEMPOTENCE_IDS_PER_TOPIC_MAX,
            ids_max: IDEMPOTENCE_IDS_MAX,
        }
    }
}

/// What the windows of all tenants share.
#[derive(Debug)]
pub(super) struct Idempotence {
    config: Config,
    clock: Arc<dyn Clock>,
    /// Events that all windows together remember.
    ids: Gauge,
    forgotten: Family<ForgottenLabels, Counter>,
    tenants: Mutex<Vec<Weak<Windows>>>,
    /// Each reads from the disk and holds what it read.
    rebuilds: Semaphore,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForgottenLabels {
    bound: &'static str,
}

const TOPIC_BOUND: ForgottenLabels = ForgottenLabels { bound: "topic" };
const GATEWAY_BOUND: ForgottenLabels = ForgottenLabels { bound: "gateway" };

/// Ids that are forgotten of one topic before it is looked again which topic has the oldest.
const FORGOTTEN_AT_ONCE: usize = 1_024;
/// With too many ids, one in so many is forgotten: looking for the oldest of all topics costs more
/// than forgetting it, and so is seldom done.
const FORGOTTEN_ONE_IN: usize = 64;

impl Idempotence {
    pub(super) fn new(config: Config, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            config,
            clock,
            ids: Gauge::default(),
            forgotten: Family::default(),
            tenants: Mutex::default(),
            rebuilds: Semaphore::new(IDEMPOTENCE_REBUILDS_MAX),
        })
    }

    /// Windows for a tenant with this log, which know nothing yet.
    pub(super) fn open(self: &Arc<Self>, log: Arc<dyn TenantLog>) -> Arc<Windows> {
        let windows = Arc::new(Windows {
            log,
            shared: Arc::clone(self),
            topics: Mutex::default(),
            unqueued: AtomicUsize::new(0),
        });
        let mut tenants = self.tenants.lock().expect(NO_PANIC);
        tenants.retain(|windows| windows.strong_count() > 0);
        tenants.push(Arc::downgrade(&windows));
        windows
    }

    /// Adds what is counted to `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "broker_idempotence_ids",
            "Event ids that are remembered",
            self.ids.clone(),
        );
        registry.register(
            "broker_idempotence_forgotten_ids",
            "Event ids that were forgotten before their time, by the bound that was reached",
            self.forgotten.clone(),
        );
    }

    /// Forgets the ids whose time is over. To be called now and then: topics that nobody publishes to
    /// would keep theirs.
    pub(super) fn expire(&self) {
        for windows in self.windows() {
            windows.expire();
        }
    }

    fn windows(&self) -> Vec<Arc<Windows>> {
        let tenants = self.tenants.lock().expect(NO_PANIC);
        tenants.iter().filter_map(Weak::upgrade).collect()
    }

    fn count(&self) -> usize {
        usize::try_from(self.ids.get()).unwrap_or(0)
    }

    /// Forgets the oldest ids if there are too many. No lock of a tenant may be held.
    fn keep_bound(&self) {
        let max = self.config.ids_max as usize;
        if self.count() <= max {
            return;
        }
        let target = max - max / FORGOTTEN_ONE_IN;
        let windows = self.windows();
        while let Some(over) = self.count().checked_sub(target).filter(|over| *over > 0) {
            let oldest = windows.iter().filter_map(|windows| {
                let (at, topic) = windows.oldest()?;
                Some((at, topic, windows))
            });
            let Some((_, topic, windows)) = oldest.min_by_key(|(at, ..)| *at) else {
                return;
            };
            let forgotten = windows.forget_oldest(topic, over.min(FORGOTTEN_AT_ONCE));
            let counter = self.forgotten.get_or_create(&GATEWAY_BOUND);
            counter.inc_by(forgotten as u64);
        }
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests;
