//! What is known of a tenant's event types: what is stored, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{EventType, RegistryError, rules::RuleSettings};
use crate::{
    metadata::{
        MetadataStore, Scope,
        records::{self, SchemaRecord, Stored, TenantRulesRecord, TopicRecord},
    },
    schema::Schema,
    types::{SchemaId, TopicName},
};

/// The key of the tenant's defaults.
pub(super) const DEFAULTS: &str = "defaults";

/// What is stored of a tenant's event types.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) by_topic: BTreeMap<TopicName, Arc<EventType>>,
    /// Event types whose topics were deleted: their schemas stay, and their numbers stay theirs.
    pub(super) deleted: BTreeMap<TopicName, Arc<EventType>>,
    pub(super) topic_by_schema: HashMap<SchemaId, TopicName>,
    /// Revisions of what is stored, for the next write.
    pub(super) schema_revisions: HashMap<SchemaId, u64>,
    /// Bytes of the texts of all schemas.
    pub(super) text_bytes: usize,
    /// What is set by default for the tenant, and the revision that is stored; 0 for none.
    pub(super) defaults: (RuleSettings, u64),
}

impl Known {
    /// What is stored. Schemas are parsed apart from what else runs here: a tenant may have many.
    pub(super) async fn read(
        store: &dyn MetadataStore,
        scope: Scope,
    ) -> Result<Self, RegistryError> {
        let schemas = records::list::<SchemaRecord>(store, scope).await?;
        let topics = records::list::<TopicRecord>(store, scope).await?;
        let defaults = records::load::<TenantRulesRecord>(store, scope, DEFAULTS).await?;
        let reading = tokio::task::spawn_blocking(|| Self::of_records(schemas, topics, defaults));
        reading.await.map_err(|_| RegistryError::Interrupted)?
    }

    fn of_records(
        schemas: Vec<Stored<SchemaRecord>>,
        topics: Vec<Stored<TopicRecord>>,
        defaults: Option<Stored<TenantRulesRecord>>,
    ) -> Result<Self, RegistryError> {
        let mut known = Self::default();
        let mut by_id = HashMap::new();
        for Stored { record, revision } in schemas {
            let schema = Schema::parse(&record.text).map_err(|source| RegistryError::Stored {
                id: record.id.clone(),
                source,
            })?;
            known.schema_revisions.insert(schema.id(), revision);
            known.text_bytes += schema.text().len();
            by_id.insert(record.id, schema);
        }
        for stored in topics {
            known.insert(EventType::of_record(stored, &by_id)?);
        }
        if let Some(Stored { record, revision }) = defaults {
            let settings = RuleSettings::of_record(&record.rules);
            let settings = settings.ok_or(RegistryError::BrokenDefaults)?;
            known.defaults = (settings, revision);
        }
        Ok(known)
    }

    /// Bytes of the text that is stored with the schema's id; none if there is no such text.
    pub(super) fn schema_bytes(&self, schema: &Schema) -> usize {
        let topic = self.topic_by_schema.get(&schema.id());
        let event_type = topic.and_then(|topic| {
            let there = self.by_topic.get(topic);
            there.or_else(|| self.deleted.get(topic))
        });
        let stored = event_type.and_then(|event_type| event_type.version(&schema.id()));
        stored.map_or(0, |version| version.schema.text().len())
    }

    pub(super) fn insert(&mut self, event_type: EventType) -> Arc<EventType> {
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

    /// Takes in the text of a schema that was stored.
    pub(super) fn insert_text(&mut self, schema: &Schema) {
        self.text_bytes = self.text_bytes - self.schema_bytes(schema) + schema.text().len();
        *self.schema_revisions.entry(schema.id()).or_insert(0) += 1;
    }

    /// Takes in an event type that was stored over what was known of it.
    pub(super) fn insert_stored(&mut self, event_type: EventType) -> Arc<EventType> {
        let revision = event_type.revision + 1;
        self.insert(EventType {
            revision,
            ..event_type
        })
    }
}
