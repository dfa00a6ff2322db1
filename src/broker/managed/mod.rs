//! Managed subscriptions: subscriptions whose position the gateway keeps.
//!
//! ```text
//!               ManagedSubscriptions (one for each tenant that is open)
//!                 ├─ Entry  configuration, marks (committed, delivered), places
//!                 │    ▲ one stream has the place ([`stream`], [`places`]), or several
//!                 │      share the events ([`shares`], [`share`])
//!                 └─ Positions  the writer that makes commits durable ([`positions`])
//! ```
//!
//! A stream delivers what any subscription does, from behind the committed position on. A commit is
//! checked against what was delivered on any stream of the subscription, and is durable before it is
//! answered; the position never goes back. Of a shared one each slot has a position of its own
//! (`broker::sharing`), and a commit is checked against what was sent on its own stream.
//!
//! Source: `proto/pubsub_api.proto`, `rpc ManagedSubscribe`; the public Pub/Sub API Developer Guide,
//! "ManagedSubscribe RPC Method"; the public Metadata API Developer Guide,
//! "ManagedEventSubscription".

mod config;
mod entry;
pub mod error;
mod lag;
mod places;
mod positions;
mod share;
mod shares;
mod start;
pub mod stream;

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    broker::{Lag, Tenant},
    clock::{Clock, Timestamp},
    event_log::TenantLog,
    metadata::{
        MetadataStore, Scope,
        records::{self, ManagedPositionRecord, ManagedSubscriptionRecord},
    },
    schema::registry::TenantSchemas,
    types::{PlatformId, Position, Principal, RunState, Start, TenantId, TopicKind, TopicName},
};
use entry::Entry;
use positions::Positions;

pub use config::{ManagedChange, ManagedConfig, NewManaged, NewSharing, Sharing};
pub use error::{CommitRefusal, ManagedEnd, ManagedError, ManagedSubscribeError};
pub use stream::{CommitAnswer, ManagedDelivery, ManagedSubscriber, ManagedSubscription};

/// How a managed subscription is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagedKey<'a> {
    /// By its id.
    Id(PlatformId),
    /// By its developer name.
    Name(&'a str),
}

/// What is known of a managed subscription.
#[derive(Clone, Debug)]
pub struct ManagedDescription {
    /// How it is configured.
    pub config: ManagedConfig,
    /// What was committed last, and when; `None` before the first commit. Of a shared one, the position
    /// of the slot that is furthest behind.
    pub committed: Option<(Position, Timestamp)>,
    /// How many streams have it.
    pub streams: usize,
    /// How far it is behind; `None` if that could not be told.
    pub lag: Option<Lag>,
}

/// One tenant's managed subscriptions.
#[derive(Debug)]
pub(super) struct ManagedSubscriptions {
    tenant: TenantId,
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    schemas: Arc<TenantSchemas>,
    entries: RwLock<BTreeMap<PlatformId, Arc<Entry>>>,
    /// Held while a configuration is changed: the bound and the names are those of all of them.
    changing: tokio::sync::Mutex<()>,
    positions: Positions,
}

impl ManagedSubscriptions {
    /// Reads the tenant's subscriptions.
    ///
    /// # Errors
    ///
    /// [`ManagedError::Store`], and [`ManagedError::Unreadable`] for one that was written by hand.
    pub(super) async fn open(
        tenant: TenantId,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
        schemas: Arc<TenantSchemas>,
        log: &dyn TenantLog,
    ) -> Result<Self, ManagedError> {
        let scope = Scope::Tenant(tenant);
        let configs = records::list::<ManagedSubscriptionRecord>(&*store, scope).await?;
        let positions = records::list::<ManagedPositionRecord>(&*store, scope).await?;
        let revisions = positions.iter().filter_map(|stored| {
            let id = stored.record.id.parse::<PlatformId>().ok()?;
            Some((id, Some(stored.revision)))
        });
        let writer = Positions::new(tenant, Arc::clone(&store), revisions.collect());
        let mut committed: BTreeMap<_, _> = positions
            .into_iter()
            .map(|stored| (stored.record.id.clone(), stored.record))
            .collect();
        // What was delivered before is not known any more, and it was not past the head.
        let head = log.state().head;
        // Of no topic: whether it is a position of this log at all.
        let check = |position| log.resolve(&[], Start::After(position)).err();
        let mut entries = BTreeMap::new();
        for stored in configs {
            let position = committed.remove(&stored.record.id);
            let config = ManagedConfig::of(&stored.record)
                .ok_or_else(|| ManagedError::Unreadable(stored.record.id.clone()))?;
            let entry = Entry::stored(config, position.as_ref(), &schemas, head, check);
            entries.insert(entry.id(), Arc::new(entry));
        }
        Ok(Self {
            tenant,
            store,
            clock,
            schemas,
            entries: RwLock::new(entries),
            changing: tokio::sync::Mutex::default(),
            positions: writer,
        })
    }

    /// Whether there is one that may be subscribed to.
    pub(super) fn has_running(&self) -> bool {
        let is_running = |config: ManagedConfig| config.state == RunState::Run;
        self.all()
            .iter()
            .any(|entry| entry.config().is_some_and(is_running))
    }

    /// The names of the subscriptions on this topic or channel, sorted.
    pub(super) fn names_on(&self, topic: &TopicName) -> Vec<String> {
        let configs = self.all().into_iter().filter_map(|entry| entry.config());
        let on_it = configs.filter(|config| config.topic == *topic);
        let mut names: Vec<_> = on_it.map(|config| config.developer_name).collect();
        names.sort();
        names
    }

    /// What is known of how far each subscription is behind, by name, and how many streams have it.
    pub(super) fn known_lags(&self, tenant: &Tenant) -> Vec<(ManagedConfig, usize, Lag)> {
        let entries = self.all().into_iter();
        let mut known: Vec<_> = entries
            .filter_map(|entry| {
                let lag = self.known_lag(tenant, &entry)?;
                Some((entry.config()?, entry.places.taken(), lag))
            })
            .collect();
        known.sort_by(|(a, ..), (b, ..)| a.developer_name.cmp(&b.developer_name));
        known
    }

    fn find(&self, key: ManagedKey<'_>) -> Option<Arc<Entry>> {
        let entries = self.read();
        match key {
            ManagedKey::Id(id) => entries.get(&id).cloned(),
            ManagedKey::Name(name) => {
                let mut entries = entries.values();
                entries.find(|entry| entry.is_called(name)).cloned()
            }
        }
    }

    /// Describes the subscriptions that `principal` may know of, by name; only those of `topic` if that
    /// is given. Each takes a read of the log.
    pub(super) async fn describe(
        &self,
        tenant: &Tenant,
        principal: &Principal,
        topic: Option<&TopicName>,
    ) -> Vec<ManagedDescription> {
        let mut described = Vec::new();
        for (config, entry) in self.visible(principal) {
            if topic.is_none_or(|topic| config.topic == *topic) {
                let lag = self.lag(tenant, &entry).await;
                described.push(entry.describe(config, lag));
            }
        }
        described
    }

    /// The subscriptions that `principal` may know of, by name.
    fn visible(&self, principal: &Principal) -> Vec<(ManagedConfig, Arc<Entry>)> {
        let grants = &principal.grants;
        let may_see = |config: &ManagedConfig| {
            // Anyone may subscribe to a channel.
            let is_channel = config.topic.kind() == TopicKind::Channel;
            grants.admin || is_channel || grants.may_subscribe(&config.topic)
        };
        let entries = self.all().into_iter();
        let mut visible: Vec<_> = entries
            .filter_map(|entry| Some((entry.config().filter(may_see)?, entry)))
            .collect();
        visible.sort_by(|(a, _), (b, _)| a.developer_name.cmp(&b.developer_name));
        visible
    }

    /// Every subscription, by id.
    fn all(&self) -> Vec<Arc<Entry>> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PlatformId, Arc<Entry>>> {
        self.entries.read().expect(NO_PANIC)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<PlatformId, Arc<Entry>>> {
        self.entries.write().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no holder of this lock panics";
