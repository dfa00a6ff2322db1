//! Why a registry cannot be read, or a change of it is not made.

use crate::{
    metadata::{StoreError, WriteError},
    schema::SchemaError,
    types::{
        SchemaId, TopicName, TopicNameError,
        limits::{SCHEMA_VERSIONS_MAX, TENANT_SCHEMAS_BYTES_MAX, TOPICS_MAX},
    },
};

/// Why a registry cannot be read, or a schema not be registered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk, or the quota on it, is full. Nothing was changed.
    #[error("the disk is full; nothing was changed")]
    DiskFull,
    /// The store failed over a change, which may have been made.
    #[error("the change was not confirmed, and may have been made; make it again")]
    Unconfirmed(#[source] WriteError),
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
    #[error("the record {record:?} makes no topic: {reason}")]
    Name {
        /// Its name.
        record: String,
        /// Why.
        reason: TopicNameError,
    },
    /// There is a topic whose name differs only in case.
    #[error("the topic {topic} differs from {twin} only in case")]
    SameButCase {
        /// The name asked for.
        topic: TopicName,
        /// The topic there is.
        twin: TopicName,
    },
    /// The schema is of another topic than the one that is meant.
    #[error("the schema is of the topic {topic}, wanted one of {meant}")]
    OtherTopic {
        /// The topic that the schema is of.
        topic: TopicName,
        /// The topic that is meant.
        meant: TopicName,
    },
    /// There is no such topic.
    #[error("there is no topic {0}")]
    NoTopic(TopicName),
    /// There is such a topic, and a new one was wanted.
    #[error("there is a topic {0} already")]
    TopicExists(TopicName),
    /// The topic has another current schema than whoever registers could know.
    #[error(
        "another registration came first: the current schema of {topic} is {}; look at it, and register again",
        current_text(*current)
    )]
    Overtaken {
        /// The topic.
        topic: TopicName,
        /// Its current schema; `None` if there is no such topic.
        current: Option<SchemaId>,
    },
    /// There is no such schema.
    #[error("there is no schema with the id {0}")]
    NoSchema(SchemaId),
    /// The topic has no such version.
    #[error("the topic {topic} has no version with the schema id {id}")]
    NoVersion {
        /// The topic.
        topic: TopicName,
        /// The id asked for.
        id: SchemaId,
    },
    /// The current version is not retired.
    #[error(
        "{id} is the current version of {topic}, with which new events are written; register the one \
         that is to follow it, then retire this one"
    )]
    RetiresCurrent {
        /// The topic.
        topic: TopicName,
        /// The version.
        id: SchemaId,
    },
    /// The topic has as many versions as it may.
    #[error("the schema of a topic has at most {SCHEMA_VERSIONS_MAX} versions, {0} has as many")]
    TooManyVersions(TopicName),
    /// The tenant's schemas take as many bytes as they may.
    #[error("the schemas of a tenant take at most {TENANT_SCHEMAS_BYTES_MAX} bytes, found {0}")]
    SchemasTooLarge(usize),
    /// The work was interrupted: the gateway is stopping, or has a bug. The change may have been made.
    #[error("the work was interrupted; the change may have been made")]
    Interrupted,
    /// The stored defaults of the tenant are not what was written.
    #[error("the stored rules for schemas of the tenant cannot be read")]
    BrokenDefaults,
    /// The tenant has as many topics as it may.
    #[error("a tenant has at most {TOPICS_MAX} topics")]
    TooManyTopics,
}

fn current_text(current: Option<SchemaId>) -> String {
    current.map_or_else(|| "not there".to_owned(), |id| id.to_string())
}

impl From<WriteError> for RegistryError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(StoreError::DiskFull(_)) => Self::DiskFull,
            error => Self::Unconfirmed(error),
        }
    }
}
