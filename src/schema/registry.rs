//! The registry: which event types a tenant has, and every version of their schemas.
//!
//! An event type is a topic with a schema. Registering a schema makes the topic that its record's
//! name asks for, or gives that topic a new version, unless the schema is wrong or breaks the rules
//! that the event type is held to: then the [`Verdict`] lists every reason and nothing is registered.
//! Versions are kept for ever: an event stays readable by the id it was written with, also once its
//! version is retired. Reading is from memory; a registration is durable before anybody sees it, and
//! seen by every call at once.

mod error;
mod event_type;
mod known;
mod metrics;
mod register;
mod rules;
pub mod uses;
mod verdict;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock, Weak},
};

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, watch};

use super::Schema;
use crate::{
    clock::Clock,
    metadata::{
        Change, Expected, MetadataStore, Scope,
        records::{self, TenantRulesRecord},
    },
    types::{SchemaId, TenantId, TopicId, TopicName, limits::JUDGEMENTS_MAX},
};
use known::{DEFAULTS, Known};
use metrics::Metrics;
use uses::Uses;

pub use error::RegistryError;
pub use event_type::{EventType, Retired, SchemaVersion};
pub use register::Registering;
pub use rules::{RuleChange, RuleSettings, Rules, Setting};
pub use verdict::{Objection, Registration, Verdict};

/// Every tenant's event types.
#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    /// What schemas are held to where a tenant sets nothing.
    rules: Rules,
    metrics: Metrics,
    judging: Arc<Semaphore>,
    /// Tenants in use. Whoever uses one holds it, so that all see the same registrations.
    tenants: std::sync::Mutex<HashMap<TenantId, Slot>>,
}

/// Where a tenant's event types are while somebody holds them. Locked while they are read.
type Slot = Arc<Mutex<Weak<TenantSchemas>>>;

impl Registry {
    /// A registry over `store`, with the rules of tenants that set none. Nothing is read yet.
    pub fn new(store: Arc<dyn MetadataStore>, clock: Arc<dyn Clock>, rules: Rules) -> Self {
        Self {
            store,
            clock,
            rules,
            metrics: Metrics::default(),
            judging: Arc::new(Semaphore::new(JUDGEMENTS_MAX)),
            tenants: std::sync::Mutex::default(),
        }
    }

    /// One tenant's event types, read if nobody holds them.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; the next call tries again.
    pub async fn tenant(&self, id: TenantId) -> Result<Arc<TenantSchemas>, RegistryError> {
        let slot = Arc::clone(self.tenants().entry(id).or_default());
        let mut held = slot.lock().await;
        if let Some(schemas) = held.upgrade() {
            return Ok(schemas);
        }
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let (metrics, judging) = (self.metrics.clone(), Arc::clone(&self.judging));
        let schemas = TenantSchemas::open(id, store, clock, self.rules, metrics, judging).await?;
        let schemas = Arc::new(schemas);
        *held = Arc::downgrade(&schemas);
        Ok(schemas)
    }

    /// Adds what registries count to `registry`.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        self.metrics.register(registry);
    }

    /// Forgets that there is a tenant, unless somebody holds its event types.
    pub fn forget(&self, id: TenantId) {
        let mut tenants = self.tenants();
        // Whoever reads the event types, or waits for that, has the slot.
        let slot = tenants.get_mut(&id).and_then(Arc::get_mut);
        if slot.is_some_and(|slot| slot.get_mut().strong_count() == 0) {
            tenants.remove(&id);
        }
    }

    fn tenants(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Slot>> {
        self.tenants.lock().expect("no holder of this lock panics")
    }
}

/// One tenant's event types.
#[derive(Debug)]
pub struct TenantSchemas {
    scope: Scope,
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    /// What schemas are held to where the tenant sets nothing.
    gateway_rules: Rules,
    known: RwLock<Known>,
    /// Changes with what is known.
    changes: watch::Sender<u64>,
    /// Held over a change, so that memory and store see them in one order.
    changing: Arc<Mutex<Certainty>>,
    uses: Arc<Uses>,
    metrics: Metrics,
    /// Room for texts that are parsed and schemas that are judged, of all tenants.
    judging: Arc<Semaphore>,
}

/// Whether what is known is what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Sure,
    /// A write failed or was given up: the store may have it.
    Doubtful,
}

impl TenantSchemas {
    async fn open(
        tenant: TenantId,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
        gateway_rules: Rules,
        metrics: Metrics,
        judging: Arc<Semaphore>,
    ) -> Result<Self, RegistryError> {
        let scope = Scope::Tenant(tenant);
        let known = Known::read(&*store, scope).await?;
        let uses = Uses::open(scope, Arc::clone(&store), Arc::clone(&clock)).await?;
        Ok(Self {
            scope,
            store,
            clock,
            gateway_rules,
            known: RwLock::new(known),
            changes: watch::Sender::new(0),
            changing: Arc::new(Mutex::new(Certainty::Sure)),
            uses: Arc::new(uses),
            metrics,
            judging,
        })
    }

    /// The event type of `topic`.
    pub fn event_type(&self, topic: &TopicName) -> Option<Arc<EventType>> {
        self.known().by_topic.get(topic).cloned()
    }

    /// Every event type, by topic name.
    pub fn event_types(&self) -> Vec<Arc<EventType>> {
        self.known().by_topic.values().cloned().collect()
    }

    /// Tells when topics or their schemas have changed.
    pub fn watch_topics(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The schema with this id, and the topic that has it among its versions.
    pub fn schema(&self, id: &SchemaId) -> Option<(Schema, TopicName)> {
        let known = self.known();
        let topic = known.topic_by_schema.get(id)?;
        let event_type = known.by_topic.get(topic).or(known.deleted.get(topic))?;
        Some((event_type.version(id)?.schema.clone(), topic.clone()))
    }

    /// The topics that were deleted, by their numbers, whatever has their names now.
    pub fn deleted(&self) -> BTreeMap<TopicId, TopicName> {
        let known = self.known();
        let all = known.by_topic.values().chain(known.deleted.values());
        let former = all.flat_map(|event_type| {
            let ids = event_type.former_ids.iter();
            ids.map(|id| (*id, event_type.topic.clone()))
        });
        let deleted = known.deleted.values();
        let deleted = deleted.map(|event_type| (event_type.topic_id, event_type.topic.clone()));
        former.chain(deleted).collect()
    }

    /// The event type that has a schema among its versions, be its topic deleted or not, and the number
    /// of that version.
    pub fn version(&self, id: &SchemaId) -> Option<(Arc<EventType>, usize)> {
        let known = self.known();
        let topic = known.topic_by_schema.get(id)?;
        let event_type = known.by_topic.get(topic).or(known.deleted.get(topic))?;
        Some((Arc::clone(event_type), event_type.number(id)?))
    }

    /// Who used which schema last.
    pub fn uses(&self) -> &Arc<Uses> {
        &self.uses
    }

    /// What is set by default for the tenant.
    pub fn defaults(&self) -> RuleSettings {
        self.known().defaults.0.clone()
    }

    /// What a new version is held to: of `event_type`, or of an event type that sets nothing.
    pub fn rules(&self, event_type: Option<&EventType>) -> Rules {
        let defaults = self.defaults().over(self.gateway_rules);
        event_type.map_or(defaults, |event_type| event_type.settings.over(defaults))
    }

    /// Retires a version: events are no longer taken that are written with it. Those that were are read
    /// as before. Returns the event type as it is then; a second call changes nothing, nor does a rehearsal.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]: the version is the current one or none of the topic, or the store failed.
    ///
    /// # Cancel safety
    ///
    /// As [`TenantSchemas::register`].
    pub async fn retire(
        self: &Arc<Self>,
        topic: &TopicName,
        id: &SchemaId,
        by: &str,
        is_rehearsal: bool,
    ) -> Result<Arc<EventType>, RegistryError> {
        let changing = self.change().await?;
        let before = self.found(topic)?;
        let Some(number) = before.number(id) else {
            return Err(RegistryError::NoVersion {
                topic: topic.clone(),
                id: *id,
            });
        };
        if before.current().id() == *id {
            return Err(RegistryError::RetiresCurrent {
                topic: topic.clone(),
                id: *id,
            });
        }
        let mut after = EventType::clone(&before);
        let version = &mut after.versions[number - 1];
        if version.retired.is_some() || is_rehearsal {
            return Ok(before);
        }
        version.retired = Some(Retired {
            at: self.clock.now(),
            by: by.to_owned(),
        });
        self.replace(changing, after).await
    }

    /// Changes what new versions are held to: of one topic, or by default. What is registered already
    /// stays.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]: there is no such topic, or the store failed.
    ///
    /// # Cancel safety
    ///
    /// As [`TenantSchemas::register`].
    pub async fn set_rules(
        self: &Arc<Self>,
        topic: Option<&TopicName>,
        change: &RuleChange,
    ) -> Result<Rules, RegistryError> {
        let changing = self.change().await?;
        let Some(topic) = topic else {
            self.set_defaults(changing, change).await?;
            return Ok(self.rules(None));
        };
        let before = self.found(topic)?;
        let after = EventType {
            settings: before.settings.clone().changed(change),
            ..EventType::clone(&before)
        };
        let after = self.replace(changing, after).await?;
        Ok(self.rules(Some(&after)))
    }

    async fn set_defaults(
        self: &Arc<Self>,
        changing: OwnedMutexGuard<Certainty>,
        change: &RuleChange,
    ) -> Result<(), RegistryError> {
        let (before, revision) = self.known().defaults.clone();
        let after = before.changed(change);
        let record = TenantRulesRecord {
            name: DEFAULTS.to_owned(),
            rules: after.record(),
        };
        let expected = match revision {
            0 => Expected::Absent,
            revision => Expected::Revision(revision),
        };
        let changes = vec![records::change(&record, expected)];
        let show = move |known: &mut Known| known.defaults = (after, revision + 1);
        self.commit(changing, changes, show).await
    }

    /// Has payloads of a topic validated when they are published, or not.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]: there is no such topic, or the store failed.
    ///
    /// # Cancel safety
    ///
    /// As [`TenantSchemas::register`].
    pub async fn set_validation(
        self: &Arc<Self>,
        topic: &TopicName,
        validates: bool,
    ) -> Result<Arc<EventType>, RegistryError> {
        let changing = self.change().await?;
        let before = self.found(topic)?;
        let after = EventType {
            validates,
            ..EventType::clone(&before)
        };
        self.replace(changing, after).await
    }

    /// Has publishing to a topic be idempotent, or not, or as for topics that do not say.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]: there is no such topic, or the store failed.
    ///
    /// # Cancel safety
    ///
    /// As [`TenantSchemas::register`].
    pub async fn set_idempotence(
        self: &Arc<Self>,
        topic: &TopicName,
        idempotent: Option<bool>,
    ) -> Result<Arc<EventType>, RegistryError> {
        let changing = self.change().await?;
        let before = self.found(topic)?;
        let after = EventType {
            idempotent,
            ..EventType::clone(&before)
        };
        self.replace(changing, after).await
    }

    /// Deletes a topic: durable when it returns, and seen by every call at once. Its schemas can be
    /// asked for as before.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; the topic is there, unless the store failed.
    ///
    /// # Cancel safety
    ///
    /// As [`TenantSchemas::register`].
    pub async fn delete(self: &Arc<Self>, topic: &TopicName) -> Result<(), RegistryError> {
        let changing = self.change().await?;
        let Some(before) = self.event_type(topic) else {
            return Ok(());
        };
        let after = EventType {
            deleted_at: Some(self.clock.now()),
            ..EventType::clone(&before)
        };
        self.replace(changing, after).await?;
        Ok(())
    }

    fn found(&self, topic: &TopicName) -> Result<Arc<EventType>, RegistryError> {
        self.event_type(topic)
            .ok_or_else(|| RegistryError::NoTopic(topic.clone()))
    }

    /// Begins a change. What is not known for sure is read again.
    async fn change(&self) -> Result<OwnedMutexGuard<Certainty>, RegistryError> {
        let mut changing = Arc::clone(&self.changing).lock_owned().await;
        if *changing == Certainty::Doubtful {
            let known = Known::read(&*self.store, self.scope).await?;
            *self.known_mut() = known;
            self.tell_change();
            *changing = Certainty::Sure;
        }
        Ok(changing)
    }

    /// Writes changes, all of them or none, and has `show` take them in. Goes on to its end also if
    /// whoever asked for it goes away meanwhile: the next change must not begin before this one is known.
    async fn commit<T: Send + 'static>(
        self: &Arc<Self>,
        mut changing: OwnedMutexGuard<Certainty>,
        changes: Vec<Change>,
        show: impl FnOnce(&mut Known) -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        let schemas = Arc::clone(self);
        let committing = tokio::spawn(async move {
            *changing = Certainty::Doubtful;
            schemas.store.write(schemas.scope, changes).await?;
            // Told before anybody can publish to a topic that is new: who watches must not pass over it.
            let mut known = schemas.known_mut();
            let shown = show(&mut known);
            schemas.tell_change();
            drop(known);
            *changing = Certainty::Sure;
            Ok(shown)
        });
        // It panicked, which is a bug of ours, or the program ends.
        committing.await.map_err(|_| RegistryError::Interrupted)?
    }

    /// Writes an event type that was there before, and shows it.
    async fn replace(
        self: &Arc<Self>,
        changing: OwnedMutexGuard<Certainty>,
        event_type: EventType,
    ) -> Result<Arc<EventType>, RegistryError> {
        let expected = Expected::Revision(event_type.revision);
        let changes = vec![records::change(&event_type.record(), expected)];
        let show = |known: &mut Known| known.insert_stored(event_type);
        self.commit(changing, changes, show).await
    }

    fn tell_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn known_mut(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().expect("no holder of this lock panics")
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests;
