//! An event type: a topic with every version of its schema.

use std::collections::HashMap;

use super::{
    RegistryError,
    rules::{RuleSettings, Rules},
    verdict::Registration,
};
use crate::{
    clock::Timestamp,
    metadata::records::{Stored, TopicRecord, VersionRecord},
    schema::Schema,
    types::{SchemaId, TopicId, TopicName},
};

/// A topic and every version of its schema. Never changed: a registration makes another.
#[derive(Clone, Debug)]
pub struct EventType {
    pub(super) topic: TopicName,
    pub(super) topic_id: TopicId,
    pub(super) validates: bool,
    pub(super) idempotent: Option<bool>,
    pub(super) created_at: Timestamp,
    pub(super) deleted_at: Option<Timestamp>,
    /// Numbers of topics that had this name before and were deleted.
    pub(super) former_ids: Vec<TopicId>,
    /// Oldest first; never empty.
    pub(super) versions: Vec<SchemaVersion>,
    /// Index of the current version, which is never a retired one.
    pub(super) current: usize,
    pub(super) settings: RuleSettings,
    /// What its schema file said when it was last taken, as SHA-256 in base64.
    pub(super) file_sha256: Option<String>,
    /// Revision of the stored record; 0 before it is stored.
    pub(super) revision: u64,
}

/// One version of an event type's schema.
#[derive(Clone, Debug)]
pub struct SchemaVersion {
    /// The schema.
    pub schema: Schema,
    /// When it was first registered.
    pub registered_at: Timestamp,
    /// Who registered it first; empty where that was not yet kept.
    pub registered_by: String,
    /// Set once events are no longer taken that are written with it.
    pub retired: Option<Retired>,
}

/// When a version was retired, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// When.
    pub at: Timestamp,
    /// By whom, as people know them.
    pub by: String,
}

impl SchemaVersion {
    pub(super) fn new(schema: &Schema, at: Timestamp, by: &str) -> Self {
        Self {
            schema: schema.clone(),
            registered_at: at,
            registered_by: by.to_owned(),
            retired: None,
        }
    }
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

    /// The version with this schema id, be it retired or not.
    pub fn version(&self, id: &SchemaId) -> Option<&SchemaVersion> {
        let mut versions = self.versions.iter();
        versions.find(|version| version.schema.id() == *id)
    }

    /// Every version, oldest first.
    pub fn versions(&self) -> &[SchemaVersion] {
        &self.versions
    }

    /// Whether payloads are validated when they are published.
    pub fn validates(&self) -> bool {
        self.validates
    }

    /// Whether an event is stored once whose id comes again; `None` where the topic does not say.
    pub fn idempotent(&self) -> Option<bool> {
        self.idempotent
    }

    /// What is set for this event type in place of the tenant's defaults.
    pub fn settings(&self) -> &RuleSettings {
        &self.settings
    }

    /// The place of a version among all, from 1.
    pub fn number(&self, id: &SchemaId) -> Option<usize> {
        let mut versions = self.versions.iter();
        let index = versions.position(|version| version.schema.id() == *id);
        index.map(|index| index + 1)
    }

    /// The versions that a new one is held against, with their numbers.
    pub(super) fn compared(&self, rules: Rules) -> impl Iterator<Item = (usize, &Schema)> {
        let versions = self.versions.iter().enumerate();
        let counts = move |(index, version): &(usize, &SchemaVersion)| {
            *index == self.current || (rules.level.is_transitive() && version.retired.is_none())
        };
        versions
            .filter(counts)
            .map(|(index, version)| (index + 1, &version.schema))
    }

    /// The event type with `schema` as its current version, and what that changes.
    pub(super) fn with(&self, schema: &Schema, now: Timestamp, by: &str) -> (Self, Registration) {
        let mut after = self.clone();
        let Some(number) = self.number(&schema.id()) else {
            after.current = after.versions.len();
            after.versions.push(SchemaVersion::new(schema, now, by));
            return (after, Registration::NewVersion);
        };
        let index = number - 1;
        let version = &mut after.versions[index];
        let is_same_text = version.schema.text() == schema.text();
        version.schema = schema.clone();
        version.retired = None;
        after.current = index;
        let registration = match (index == self.current, is_same_text) {
            (true, true) => Registration::Unchanged,
            (true, false) => Registration::NewText,
            (false, _) => Registration::Returned,
        };
        (after, registration)
    }

    pub(super) fn record(&self) -> TopicRecord {
        let versions = self.versions.iter().map(|version| VersionRecord {
            schema_id: version.schema.id().to_string(),
            registered_at_ms: version.registered_at.as_millis(),
            registered_by: version.registered_by.clone(),
            retired_at_ms: version.retired.as_ref().map(|it| it.at.as_millis()),
            retired_by: version.retired.as_ref().map(|it| it.by.clone()),
        });
        TopicRecord {
            name: self.topic.to_string(),
            id: self.topic_id.get(),
            current: self.current().id().to_string(),
            versions: versions.collect(),
            validates: self.validates,
            idempotent: self.idempotent,
            created_at_ms: self.created_at.as_millis(),
            deleted_at_ms: self.deleted_at.map(Timestamp::as_millis),
            former_ids: self.former_ids.iter().map(|id| id.get()).collect(),
            rules: self.settings.record(),
            file_sha256: self.file_sha256.clone(),
        }
    }

    pub(super) fn of_record(
        stored: Stored<TopicRecord>,
        schemas: &HashMap<String, Schema>,
    ) -> Result<Self, RegistryError> {
        let Stored { record, revision } = stored;
        let broken = || RegistryError::BrokenTopic {
            topic: record.name.clone(),
        };
        let versions = record.versions.iter().map(|version| {
            let retired = version.retired_at_ms.map(|at| Retired {
                at: Timestamp::from_millis(at),
                by: version.retired_by.clone().unwrap_or_default(),
            });
            Some(SchemaVersion {
                schema: schemas.get(&version.schema_id)?.clone(),
                registered_at: Timestamp::from_millis(version.registered_at_ms),
                registered_by: version.registered_by.clone(),
                retired,
            })
        });
        let versions = versions.collect::<Option<Vec<_>>>().ok_or_else(broken)?;
        let is_current = |version: &SchemaVersion| version.schema.id().as_str() == record.current;
        Ok(Self {
            topic: record.name.parse().map_err(|_| broken())?,
            topic_id: TopicId::new(record.id),
            validates: record.validates,
            idempotent: record.idempotent,
            created_at: Timestamp::from_millis(record.created_at_ms),
            deleted_at: record.deleted_at_ms.map(Timestamp::from_millis),
            former_ids: record.former_ids.into_iter().map(TopicId::new).collect(),
            current: versions.iter().position(is_current).ok_or_else(broken)?,
            versions,
            settings: RuleSettings::of_record(&record.rules).ok_or_else(broken)?,
            file_sha256: record.file_sha256,
            revision,
        })
    }
}
