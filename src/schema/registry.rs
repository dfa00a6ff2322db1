//! The registry: which event types a tenant has, and every version of their schemas.
//!
//! An event type is a topic with a schema. Registering a schema makes the topic that its record's
//! name asks for, or gives that topic a new version. Versions are kept for ever: an event stays
//! readable by the id it was written with. Reading is from memory; a registration is durable before
//! anybody sees it, and seen by every call at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock, Weak},
};

use tokio::sync::Mutex;

use super::{Schema, SchemaError};
use crate::{
    clock::{Clock, Timestamp},
    metadata::{
        Change, Expected, MetadataStore, Scope, StoreError, WriteError,
        records::{self, SchemaRecord, Stored, TopicRecord, VersionRecord},
    },
    types::{SchemaId, TenantId, TopicId, TopicName, TopicNameError, limits::TOPICS_MAX},
};

/// Every tenant's event types.
#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    /// Tenants in use. Whoever uses one holds it, so that all see the same registrations.
    tenants: std::sync::Mutex<HashMap<TenantId, Slot>>,
}

/// Where a tenant's event types are while somebody holds them. Locked while they are read.
type Slot = Arc<Mutex<Weak<TenantSchemas>>>;

impl Registry {
    /// A registry over `store`. Nothing is read yet.
    pub fn new(store: Arc<dyn MetadataStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
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
        let schemas = Arc::new(TenantSchemas::open(id, store, clock).await?);
        *held = Arc::downgrade(&schemas);
        Ok(schemas)
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
    known: RwLock<Known>,
    /// Held over a registration, so that memory and store see them in one order.
    registering: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_topic: BTreeMap<TopicName, Arc<EventType>>,
    /// Event types whose topics were deleted: their schemas stay, and their numbers stay theirs.
    deleted: BTreeMap<TopicName, Arc<EventType>>,
    topic_by_schema: HashMap<SchemaId, TopicName>,
    /// Revisions of what is stored, for the next write.
    schema_revisions: HashMap<SchemaId, u64>,
}

/// A topic and every version of its schema. Never changed: a registration makes another.
#[derive(Clone, Debug)]
pub struct EventType {
    topic: TopicName,
    topic_id: TopicId,
    validates: bool,
    created_at: Timestamp,
    deleted_at: Option<Timestamp>,
    /// Numbers of topics that had this name before and were deleted.
    former_ids: Vec<TopicId>,
    /// Oldest first; never empty.
    versions: Vec<SchemaVersion>,
    /// Index of the current version.
    current: usize,
    /// Revision of the stored record.
    revision: u64,
}

/// One version of an event type's schema.
#[derive(Clone, Debug)]
pub struct SchemaVersion {
    /// The schema.
    pub schema: Schema,
    /// When it was first registered.
    pub registered_at: Timestamp,
}

impl EventType {
    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The topic's number in the log.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The schema that new events should be written with.
    pub fn current(&self) -> &Schema {
        &self.versions[self.current].schema
    }

    /// The version with this schema id.
    pub fn version(&self, id: &SchemaId) -> Option<&Schema> {
        self.versions
            .iter()
            .map(|version| &version.schema)
            .find(|schema| schema.id() == *id)
    }

    /// Every version, oldest first.
    pub fn versions(&self) -> &[SchemaVersion] {
        &self.versions
    }

    /// Whether payloads are validated when they are published.
    pub fn validates(&self) -> bool {
        self.validates
    }

    fn record(&self) -> TopicRecord {
        let versions = self.versions.iter().map(|version| VersionRecord {
            schema_id: version.schema.id().to_string(),
            registered_at_ms: version.registered_at.as_millis(),
        });
        TopicRecord {
            name: self.topic.to_string(),
            id: self.topic_id.get(),
            current: self.current().id().to_string(),
            versions: versions.collect(),
            validates: self.validates,
            created_at_ms: self.created_at.as_millis(),
            deleted_at_ms: self.deleted_at.map(Timestamp::as_millis),
            former_ids: self.former_ids.iter().map(|id| id.get()).collect(),
        }
    }
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The topic is new.
    NewTopic,
    /// The topic has a new version, which is now the current one.
    NewVersion,
    /// An earlier version is the current one again.
    Returned,
    /// The schema id is the same; the text differs in what the id does not cover.
    NewText,
    /// Nothing changed.
    Unchanged,
}

impl TenantSchemas {
    async fn open(
        tenant: TenantId,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RegistryError> {
        let scope = Scope::Tenant(tenant);
        let mut known = Known::default();
        let mut schemas = HashMap::new();
        for Stored { record, revision } in records::list::<SchemaRecord>(&*store, scope).await? {
            let schema = Schema::parse(&record.text).map_err(|source| RegistryError::Stored {
                id: record.id.clone(),
                source,
            })?;
            known.schema_revisions.insert(schema.id(), revision);
            schemas.insert(record.id, schema);
        }
        for stored in records::list::<TopicRecord>(&*store, scope).await? {
            known.insert(event_type(stored, &schemas)?);
        }
        Ok(Self {
            scope,
            store,
            clock,
            known: RwLock::new(known),
            registering: Mutex::default(),
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
        Some((event_type.version(id)?.clone(), topic.clone()))
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

    /// Deletes a topic: durable when it returns, and seen by every call at once. Its schemas can be
    /// asked for as before.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; the topic is there, unless the store failed.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the deletion may be stored and not yet visible.
    pub async fn delete(&self, topic: &TopicName) -> Result<(), RegistryError> {
        let _registering = self.registering.lock().await;
        let Some(before) = self.event_type(topic) else {
            return Ok(());
        };
        let after = EventType {
            deleted_at: Some(self.clock.now()),
            ..EventType::clone(&before)
        };
        self.store_event_type(after, Expected::Revision(before.revision), None)
            .await?;
        Ok(())
    }

    /// Writes an event type, with the text of a schema if that changes, and shows it.
    async fn store_event_type(
        &self,
        event_type: EventType,
        expected: Expected,
        text: Option<(SchemaId, Change)>,
    ) -> Result<Arc<EventType>, RegistryError> {
        let mut changes = vec![records::change(&event_type.record(), expected)];
        let (schema, text_change) = text.unzip();
        changes.extend(text_change);
        self.store.write(self.scope, changes).await?;
        let event_type = EventType {
            revision: event_type.revision + 1,
            ..event_type
        };
        let mut known = self.known.write().expect("no holder of this lock panics");
        if let Some(schema) = schema {
            *known.schema_revisions.entry(schema).or_default() += 1;
        }
        Ok(known.insert(event_type))
    }

    /// Registers `schema` under the topic that its record's name asks for, and makes it that topic's
    /// current version. Durable when it returns; a second call changes nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; nothing was registered, unless the store failed.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the schema may be stored and not yet visible.
    pub async fn register(
        &self,
        schema: &Schema,
    ) -> Result<(Arc<EventType>, Registration), RegistryError> {
        let topic =
            TopicName::for_record(schema.record_name()).map_err(|source| RegistryError::Name {
                record: schema.record_name().into(),
                source,
            })?;
        let _registering = self.registering.lock().await;
        let before = self.event_type(&topic);
        let (after, registration) = match &before {
            None => (self.new_event_type(topic, schema)?, Registration::NewTopic),
            Some(before) => before.with(schema, self.clock.now()),
        };
        if registration == Registration::Unchanged {
            return Ok((Arc::new(after), registration));
        }
        let expected = match after.revision {
            0 => Expected::Absent,
            revision => Expected::Revision(revision),
        };
        let text = self.text_change(schema).map(|change| (schema.id(), change));
        let after = self.store_event_type(after, expected, text).await?;
        Ok((after, registration))
    }

    fn new_event_type(
        &self,
        topic: TopicName,
        schema: &Schema,
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
        let now = self.clock.now();
        if let Some(deleted) = known.deleted.get(&topic) {
            let (mut again, _) = deleted.with(schema, now);
            again.former_ids.push(deleted.topic_id);
            return Ok(EventType {
                topic_id: TopicId::new(last.unwrap_or(0) + 1),
                created_at: now,
                deleted_at: None,
                ..again
            });
        }
        Ok(EventType {
            topic,
            topic_id: TopicId::new(last.unwrap_or(0) + 1),
            validates: true,
            created_at: now,
            deleted_at: None,
            former_ids: Vec::new(),
            versions: vec![SchemaVersion {
                schema: schema.clone(),
                registered_at: now,
            }],
            current: 0,
            revision: 0,
        })
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

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().expect("no holder of this lock panics")
    }
}

impl EventType {
    /// The event type with `schema` as its current version, and what that changes.
    fn with(&self, schema: &Schema, now: Timestamp) -> (Self, Registration) {
        let mut after = self.clone();
        let found = self
            .versions
            .iter()
            .position(|version| version.schema.id() == schema.id());
        let Some(index) = found else {
            after.current = after.versions.len();
            after.versions.push(SchemaVersion {
                schema: schema.clone(),
                registered_at: now,
            });
            return (after, Registration::NewVersion);
        };
        let same_text = self.versions[index].schema.text() == schema.text();
        after.versions[index].schema = schema.clone();
        after.current = index;
        let registration = match (index == self.current, same_text) {
            (true, true) => Registration::Unchanged,
            (true, false) => Registration::NewText,
            (false, _) => Registration::Returned,
        };
        (after, registration)
    }
}

impl Known {
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

fn event_type(
    stored: Stored<TopicRecord>,
    schemas: &HashMap<String, Schema>,
) -> Result<EventType, RegistryError> {
    let Stored { record, revision } = stored;
    let broken = || RegistryError::BrokenTopic {
        topic: record.name.clone(),
    };
    let versions = record.versions.iter().map(|version| {
        let schema = schemas.get(&version.schema_id)?.clone();
        Some(SchemaVersion {
            schema,
            registered_at: Timestamp::from_millis(version.registered_at_ms),
        })
    });
    let versions = versions.collect::<Option<Vec<_>>>().ok_or_else(broken)?;
    let is_current = |version: &SchemaVersion| version.schema.id().as_str() == record.current;
    Ok(EventType {
        topic: record.name.parse().map_err(|_| broken())?,
        topic_id: TopicId::new(record.id),
        validates: record.validates,
        created_at: Timestamp::from_millis(record.created_at_ms),
        deleted_at: record.deleted_at_ms.map(Timestamp::from_millis),
        former_ids: record.former_ids.into_iter().map(TopicId::new).collect(),
        current: versions.iter().position(is_current).ok_or_else(broken)?,
        versions,
        revision,
    })
}

/// Why a registry cannot be read, or a schema not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registration was not stored.
    #[error("the schema was not stored")]
    Write(#[from] WriteError),
    /// A stored schema is not a schema any more.
    #[error("the stored schema {id} cannot be read")]
    Stored {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        source: SchemaError,
    },
    /// A stored topic names schemas that are not stored.
    #[error("the stored topic {topic} names a schema that is not stored")]
    BrokenTopic {
        /// Its name.
        topic: String,
    },
    /// The record's name makes no topic.
    #[error("the record {record:?} makes no topic")]
    Name {
        /// Its name.
        record: String,
        /// Why.
        source: TopicNameError,
    },
    /// There is a topic whose name differs only in case.
    #[error("the topic {topic} differs from {twin} only in case")]
    SameButCase {
        /// The name asked for.
        topic: TopicName,
        /// The topic there is.
        twin: TopicName,
    },
    /// The tenant has as many topics as it may.
    #[error("a tenant has at most {TOPICS_MAX} topics")]
    TooManyTopics,
}

#[cfg(test)]
mod tests;
