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
mod metrics;
mod rules;
pub mod uses;
mod verdict;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock, Weak},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use prometheus_client::registry::Registry as MetricsRegistry;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};

use super::Schema;
use crate::{
    clock::Clock,
    metadata::{
        Change, Expected, MetadataStore, Scope,
        records::{self, SchemaRecord, Stored, TenantRulesRecord, TopicRecord},
    },
    types::{
        SchemaId, TenantId, TopicId, TopicName,
        limits::{SCHEMA_VERSIONS_MAX, TENANT_SCHEMAS_BYTES_MAX, TOPICS_MAX},
    },
};
use metrics::Metrics;
use uses::Uses;

pub use error::RegistryError;
pub use event_type::{EventType, Retired, SchemaVersion};
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
        let metrics = self.metrics.clone();
        let schemas = TenantSchemas::open(id, store, clock, self.rules, metrics).await?;
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
    /// Held over a change, so that memory and store see them in one order.
    changing: Mutex<Certainty>,
    uses: Arc<Uses>,
    metrics: Metrics,
}

/// Whether what is known is what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Sure,
    /// A write failed or was given up: the store may have it.
    Doubtful,
}

#[derive(Debug, Default)]
struct Known {
    by_topic: BTreeMap<TopicName, Arc<EventType>>,
    /// Event types whose topics were deleted: their schemas stay, and their numbers stay theirs.
    deleted: BTreeMap<TopicName, Arc<EventType>>,
    topic_by_schema: HashMap<SchemaId, TopicName>,
    /// Revisions of what is stored, for the next write.
    schema_revisions: HashMap<SchemaId, u64>,
    /// Bytes of the texts of all schemas.
    text_bytes: usize,
    /// What is set by default for the tenant, and the revision that is stored; 0 for none.
    defaults: (RuleSettings, u64),
}

/// A schema that is to be registered.
#[derive(Clone, Debug)]
pub struct Registering<'a> {
    /// The schema.
    pub schema: &'a Schema,
    /// Who registers it, as people know them.
    pub by: &'a str,
    /// The topic that is meant, if that is said: a schema of another one is refused.
    pub topic: Option<&'a TopicName>,
    /// The schema that has to be the current one, if that is said.
    pub expected: Option<SchemaId>,
    /// Whether the topic may not be there yet.
    pub is_new_topic: bool,
    /// Whether the schema was read from a file: one that says what it said before changes nothing,
    /// whatever was registered since.
    pub is_file: bool,
    /// Whether to find out what registering it would do, and to register nothing.
    pub is_rehearsal: bool,
}

impl<'a> Registering<'a> {
    /// A schema to be registered under the topic that its record's name asks for.
    pub fn new(schema: &'a Schema, by: &'a str) -> Self {
        Self {
            schema,
            by,
            topic: None,
            expected: None,
            is_new_topic: false,
            is_file: false,
            is_rehearsal: false,
        }
    }

    fn file_sha256(&self) -> Option<String> {
        let text = self.schema.text();
        self.is_file.then(|| STANDARD.encode(Sha256::digest(text)))
    }
}

impl TenantSchemas {
    async fn open(
        tenant: TenantId,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
        gateway_rules: Rules,
        metrics: Metrics,
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
            changing: Mutex::new(Certainty::Sure),
            uses: Arc::new(uses),
            metrics,
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

    /// Registers a schema under the topic that its record's name asks for, and makes it that topic's
    /// current version, unless the verdict has objections. Durable when it returns; a second call
    /// changes nothing. A retired version is none any more once it is registered again.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; nothing was registered, unless the store failed. It is
    /// [`RegistryError::Overtaken`] if another registration came between this call and its turn.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the schema may be stored; it is visible once the next change begins.
    pub async fn register(&self, new: Registering<'_>) -> Result<Verdict, RegistryError> {
        let is_rehearsal = new.is_rehearsal;
        let outcome = self.register_uncounted(new).await;
        if !is_rehearsal {
            self.metrics.count(&outcome);
        }
        outcome
    }

    async fn register_uncounted(&self, new: Registering<'_>) -> Result<Verdict, RegistryError> {
        let schema = new.schema;
        let topic = topic_of(schema)?;
        if let Some(meant) = new.topic.filter(|meant| **meant != topic) {
            return Err(RegistryError::OtherTopic {
                topic,
                meant: meant.clone(),
            });
        }
        let current = |found: &Option<Arc<EventType>>| {
            let found = found.as_ref();
            found.map(|event_type| event_type.current().clone())
        };
        // What whoever calls may have looked at.
        let at_arrival = current(&self.event_type(&topic));
        let mut changing = self.change().await?;
        let before = self.event_type(&topic);
        let now_current = current(&before);
        if now_current.as_ref() != Some(schema) {
            let expected = new
                .expected
                .is_none_or(|expected| now_current.as_ref().map(Schema::id) == Some(expected));
            if now_current != at_arrival || !expected {
                let current = now_current.map(|schema| schema.id());
                return Err(RegistryError::Overtaken { topic, current });
            }
        }
        if new.is_new_topic && before.is_some() {
            return Err(RegistryError::TopicExists(topic));
        }
        let rules = self.rules(before.as_deref());
        let now = self.clock.now();
        let (mut after, mut registration) = match &before {
            None => {
                let made = self.new_event_type(topic.clone(), &new)?;
                (made, Registration::NewTopic)
            }
            Some(before) => before.with(schema, now, new.by),
        };
        let file_sha256 = new.file_sha256();
        let says_nothing_new = file_sha256.is_some() && file_sha256 == after.file_sha256;
        if says_nothing_new && let Some(before) = &before {
            (after, registration) = (EventType::clone(before), Registration::Unchanged);
        }
        let mut verdict = Verdict {
            number: after.number(&schema.id()).unwrap_or(after.versions.len()),
            topic,
            schema_id: schema.id(),
            registration,
            rules,
            objections: Vec::new(),
            more: 0,
        };
        if registration != Registration::Unchanged {
            let (schema, against) = (schema.clone(), before.clone());
            let judged = tokio::task::spawn_blocking(move || {
                verdict::objections(&schema, against.as_deref(), rules)
            });
            let judged = judged.await.expect("a judgement does not panic");
            (verdict.objections, verdict.more) = judged;
            self.check_bounds(&after, new.schema)?;
        } else if file_sha256.is_none() || says_nothing_new {
            return Ok(verdict);
        }
        if verdict.is_refused() || new.is_rehearsal {
            return Ok(verdict);
        }
        if file_sha256.is_some() {
            after.file_sha256 = file_sha256;
        }
        let expected = match after.revision {
            0 => Expected::Absent,
            revision => Expected::Revision(revision),
        };
        let text = self.text_change(schema).map(|change| (schema, change));
        self.store_event_type(&mut changing, after, expected, text)
            .await?;
        Ok(verdict)
    }

    /// Registers a schema whatever is wrong with it.
    #[cfg(test)]
    pub(crate) async fn register_unchecked(
        &self,
        schema: &Schema,
    ) -> Result<(Arc<EventType>, Registration), RegistryError> {
        let none = RuleChange {
            level: Some(Setting::Set(super::compatibility::Level::None)),
            checks: super::platform::Check::ALL
                .map(|check| (check, Setting::Set(false)))
                .into(),
        };
        if self.defaults() == RuleSettings::default() {
            self.set_rules(None, &none).await?;
        }
        let verdict = self.register(Registering::new(schema, "test")).await?;
        assert_eq!(verdict.objections, []);
        let event_type = self.event_type(&verdict.topic).expect("just registered");
        Ok((event_type, verdict.registration))
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
        &self,
        topic: &TopicName,
        id: &SchemaId,
        by: &str,
        is_rehearsal: bool,
    ) -> Result<Arc<EventType>, RegistryError> {
        let mut changing = self.change().await?;
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
        self.store_event_type(
            &mut changing,
            after,
            Expected::Revision(before.revision),
            None,
        )
        .await
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
        &self,
        topic: Option<&TopicName>,
        change: &RuleChange,
    ) -> Result<Rules, RegistryError> {
        let mut changing = self.change().await?;
        let Some(topic) = topic else {
            self.set_defaults(&mut changing, change).await?;
            return Ok(self.rules(None));
        };
        let before = self.found(topic)?;
        let after = EventType {
            settings: before.settings.clone().changed(change),
            ..EventType::clone(&before)
        };
        let after = self
            .store_event_type(
                &mut changing,
                after,
                Expected::Revision(before.revision),
                None,
            )
            .await?;
        Ok(self.rules(Some(&after)))
    }

    async fn set_defaults(
        &self,
        changing: &mut Certainty,
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
        self.write(changing, changes).await?;
        self.known_mut().defaults = (after, revision + 1);
        Ok(())
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
        &self,
        topic: &TopicName,
        validates: bool,
    ) -> Result<Arc<EventType>, RegistryError> {
        let mut changing = self.change().await?;
        let before = self.found(topic)?;
        let after = EventType {
            validates,
            ..EventType::clone(&before)
        };
        self.store_event_type(
            &mut changing,
            after,
            Expected::Revision(before.revision),
            None,
        )
        .await
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
    pub async fn delete(&self, topic: &TopicName) -> Result<(), RegistryError> {
        let mut changing = self.change().await?;
        let Some(before) = self.event_type(topic) else {
            return Ok(());
        };
        let after = EventType {
            deleted_at: Some(self.clock.now()),
            ..EventType::clone(&before)
        };
        self.store_event_type(
            &mut changing,
            after,
            Expected::Revision(before.revision),
            None,
        )
        .await?;
        Ok(())
    }

    fn found(&self, topic: &TopicName) -> Result<Arc<EventType>, RegistryError> {
        self.event_type(topic)
            .ok_or_else(|| RegistryError::NoTopic(topic.clone()))
    }

    /// Begins a change. What is not known for sure is read again.
    async fn change(&self) -> Result<MutexGuard<'_, Certainty>, RegistryError> {
        let mut changing = self.changing.lock().await;
        if *changing == Certainty::Doubtful {
            let known = Known::read(&*self.store, self.scope).await?;
            *self.known_mut() = known;
            *changing = Certainty::Sure;
        }
        Ok(changing)
    }

    /// Writes changes, all of them or none.
    async fn write(
        &self,
        changing: &mut Certainty,
        changes: Vec<Change>,
    ) -> Result<(), RegistryError> {
        // Also if the caller is dropped meanwhile.
        *changing = Certainty::Doubtful;
        self.store.write(self.scope, changes).await?;
        *changing = Certainty::Sure;
        Ok(())
    }

    /// Writes an event type, with the text of a schema if that changes, and shows it.
    async fn store_event_type(
        &self,
        changing: &mut Certainty,
        event_type: EventType,
        expected: Expected,
        text: Option<(&Schema, Change)>,
    ) -> Result<Arc<EventType>, RegistryError> {
        let mut changes = vec![records::change(&event_type.record(), expected)];
        let (schema, text_change) = text.unzip();
        changes.extend(text_change);
        self.write(changing, changes).await?;
        let mut known = self.known_mut();
        if let Some(schema) = schema {
            let before = known.schema_bytes(schema);
            known.text_bytes = known.text_bytes - before + schema.text().len();
            *known.schema_revisions.entry(schema.id()).or_insert(0) += 1;
        }
        let revision = event_type.revision + 1;
        Ok(known.insert(EventType {
            revision,
            ..event_type
        }))
    }

    fn new_event_type(
        &self,
        topic: TopicName,
        new: &Registering<'_>,
    ) -> Result<EventType, RegistryError> {
        let known = self.known();
        if known.by_topic.len() >= TOPICS_MAX {
            return Err(RegistryError::TooManyTopics);
        }
        // Names that differ only in case would be one event to the platform's tools.
        let twin = known
            .by_topic
            .keys()
            .find(|name| name.as_str().eq_ignore_ascii_case(topic.as_str()));
        if let Some(twin) = twin {
            return Err(RegistryError::SameButCase {
                topic,
                twin: twin.clone(),
            });
        }
        let all = known.by_topic.values().chain(known.deleted.values());
        let last = all.map(|event_type| event_type.topic_id.get()).max();
        let topic_id = TopicId::new(last.unwrap_or(0) + 1);
        let now = self.clock.now();
        let Some(deleted) = known.deleted.get(&topic) else {
            return Ok(EventType {
                topic,
                topic_id,
                validates: true,
                created_at: now,
                deleted_at: None,
                former_ids: Vec::new(),
                versions: vec![SchemaVersion::new(new.schema, now, new.by)],
                current: 0,
                settings: RuleSettings::default(),
                file_sha256: None,
                revision: 0,
            });
        };
        // Another topic of the same name: it has none of the events that the earlier versions are for.
        let (mut again, _) = deleted.with(new.schema, now, new.by);
        again.former_ids.push(deleted.topic_id);
        let current = again.current;
        for (index, version) in again.versions.iter_mut().enumerate() {
            if index != current && version.retired.is_none() {
                version.retired = Some(Retired {
                    at: deleted.deleted_at.unwrap_or(now),
                    by: new.by.to_owned(),
                });
            }
        }
        Ok(EventType {
            topic_id,
            created_at: now,
            deleted_at: None,
            validates: true,
            settings: RuleSettings::default(),
            file_sha256: None,
            ..again
        })
    }

    /// Holds what is to be stored to its bounds.
    fn check_bounds(&self, after: &EventType, schema: &Schema) -> Result<(), RegistryError> {
        if after.versions.len() > SCHEMA_VERSIONS_MAX {
            return Err(RegistryError::TooManyVersions(after.topic.clone()));
        }
        let known = self.known();
        let bytes = known.text_bytes - known.schema_bytes(schema) + schema.text().len();
        if bytes > TENANT_SCHEMAS_BYTES_MAX {
            return Err(RegistryError::SchemasTooLarge(bytes));
        }
        Ok(())
    }

    /// The write of the schema's text, if it is not what is stored.
    fn text_change(&self, schema: &Schema) -> Option<Change> {
        if self
            .schema(&schema.id())
            .is_some_and(|(stored, _)| stored.text() == schema.text())
        {
            return None;
        }
        let known = self.known();
        let expected = known.schema_revisions.get(&schema.id());
        let expected = expected.map_or(Expected::Absent, |&at| Expected::Revision(at));
        let record = SchemaRecord {
            id: schema.id().to_string(),
            text: schema.text().to_owned(),
        };
        Some(records::change(&record, expected))
    }

    fn known_mut(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().expect("no holder of this lock panics")
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().expect("no holder of this lock panics")
    }
}

impl Known {
    /// What is stored.
    async fn read(store: &dyn MetadataStore, scope: Scope) -> Result<Self, RegistryError> {
        let mut known = Self::default();
        let mut schemas = HashMap::new();
        for Stored { record, revision } in records::list::<SchemaRecord>(store, scope).await? {
            let schema = Schema::parse(&record.text).map_err(|source| RegistryError::Stored {
                id: record.id.clone(),
                source,
            })?;
            known.schema_revisions.insert(schema.id(), revision);
            known.text_bytes += schema.text().len();
            schemas.insert(record.id, schema);
        }
        for stored in records::list::<TopicRecord>(store, scope).await? {
            known.insert(EventType::of_record(stored, &schemas)?);
        }
        let defaults = records::load::<TenantRulesRecord>(store, scope, DEFAULTS).await?;
        if let Some(Stored { record, revision }) = defaults {
            let settings = RuleSettings::of_record(&record.rules);
            let settings = settings.ok_or(RegistryError::BrokenDefaults)?;
            known.defaults = (settings, revision);
        }
        Ok(known)
    }

    /// Bytes of the text that is stored with the schema's id; none if there is no such text.
    fn schema_bytes(&self, schema: &Schema) -> usize {
        let topic = self.topic_by_schema.get(&schema.id());
        let event_type = topic.and_then(|topic| {
            let there = self.by_topic.get(topic);
            there.or_else(|| self.deleted.get(topic))
        });
        let stored = event_type.and_then(|event_type| event_type.version(&schema.id()));
        stored.map_or(0, |version| version.schema.text().len())
    }

    fn insert(&mut self, event_type: EventType) -> Arc<EventType> {
        for version in &event_type.versions {
            self.topic_by_schema
                .insert(version.schema.id(), event_type.topic.clone());
        }
        let event_type = Arc::new(event_type);
        let (topic, inserted) = (event_type.topic.clone(), Arc::clone(&event_type));
        let (there, not_there) = match event_type.deleted_at {
            None => (&mut self.by_topic, &mut self.deleted),
            Some(_) => (&mut self.deleted, &mut self.by_topic),
        };
        not_there.remove(&topic);
        there.insert(topic, inserted);
        event_type
    }
}

/// The topic that a schema's record asks for.
fn topic_of(schema: &Schema) -> Result<TopicName, RegistryError> {
    TopicName::for_record(schema.record_name()).map_err(|reason| RegistryError::Name {
        record: schema.record_name().into(),
        reason,
    })
}

/// The key of the tenant's defaults.
const DEFAULTS: &str = "defaults";

#[cfg(test)]
mod tests;
