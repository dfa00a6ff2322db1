//! What the tables hold: typed records, stored as JSON.
//!
//! A field may be added with a default and none may change its meaning, so that a newer program
//! reads what an older one wrote.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Change, Entry, Expected, MetadataStore, Scope, StoreError, Table};

/// A record that is stored as JSON under its own key.
pub trait Record: Serialize + DeserializeOwned {
    /// The table it is kept in.
    const TABLE: Table;

    /// Its key there.
    fn key(&self) -> &str;
}

/// A record as it was read, with the revision that a write of it has to expect.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// What was stored.
    pub record: T,
    /// When it was.
    pub revision: u64,
}

/// The record at `key`, if there is one.
///
/// # Errors
///
/// [`StoreError`]; a record that cannot be read is named.
pub async fn load<T: Record>(
    store: &dyn MetadataStore,
    scope: Scope,
    key: &str,
) -> Result<Option<Stored<T>>, StoreError> {
    let entry = store.get(scope, T::TABLE, key).await?;
    entry.map(parse).transpose()
}

/// Every record of one kind.
///
/// # Errors
///
/// [`StoreError`]; a record that cannot be read is named.
pub async fn list<T: Record>(
    store: &dyn MetadataStore,
    scope: Scope,
) -> Result<Vec<Stored<T>>, StoreError> {
    store
        .list(scope, T::TABLE)
        .await?
        .into_iter()
        .map(parse)
        .collect()
}

/// What an entry of the kind's table holds.
///
/// # Errors
///
/// [`StoreError::Record`], which names the record.
pub fn parse<T: Record>(entry: Entry) -> Result<Stored<T>, StoreError> {
    match serde_json::from_slice(&entry.value) {
        Ok(record) => Ok(Stored {
            record,
            revision: entry.revision,
        }),
        Err(source) => Err(StoreError::Record {
            table: T::TABLE,
            key: entry.key,
            source,
        }),
    }
}

/// The write of `record` over what is expected to be there.
pub fn change<T: Record>(record: &T, expected: Expected) -> Change {
    let value = serde_json::to_vec(record).expect("records are plain data with text keys");
    Change {
        table: T::TABLE,
        key: record.key().to_owned(),
        expected,
        value: Some(value),
    }
}

/// The removal of the record at `key`, which is expected to have this revision.
pub fn removal<T: Record>(key: &str, revision: u64) -> Change {
    Change {
        table: T::TABLE,
        key: key.to_owned(),
        expected: Expected::Revision(revision),
        value: None,
    }
}

/// A tenant of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    /// 18 characters.
    pub id: String,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
}

impl Record for TenantRecord {
    const TABLE: Table = Table::Tenants;

    fn key(&self) -> &str {
        &self.id
    }
}

/// An access token, as far as it is kept: not its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What administrators call it by.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// SHA-256 of its text, in hex.
    pub sha256: String,
    /// Topic patterns that may be published to.
    pub publish: Vec<String>,
    /// Topic patterns that may be subscribed to.
    pub subscribe: Vec<String>,
    /// Whether `publish` reaches change events.
    pub change_events: bool,
    /// Whether tokens may be managed.
    pub admin: bool,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Milliseconds since the epoch; absent while the token is good.
    pub revoked_at_ms: Option<i64>,
}

impl Record for TokenRecord {
    const TABLE: Table = Table::Tokens;

    fn key(&self) -> &str {
        &self.id
    }
}

/// A topic and the versions its schema has had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRecord {
    /// Its name.
    pub name: String,
    /// Its number in the log.
    pub id: u32,
    /// Schema id of the current version.
    pub current: String,
    /// Every version, oldest first.
    pub versions: Vec<VersionRecord>,
    /// Whether payloads are validated.
    pub validates: bool,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Milliseconds since the epoch; absent while there is the topic. A deleted one keeps its number,
    /// which no other topic gets, and its schemas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at_ms: Option<i64>,
    /// Numbers of topics that had the name before and were deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_ids: Vec<u32>,
}

/// One version of a topic's schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its schema id.
    pub schema_id: String,
    /// Milliseconds since the epoch.
    pub registered_at_ms: i64,
}

impl Record for TopicRecord {
    const TABLE: Table = Table::Topics;

    fn key(&self) -> &str {
        &self.name
    }
}

/// A schema's text, kept for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaRecord {
    /// Its schema id.
    pub id: String,
    /// The text that was last registered with this id.
    pub text: String,
}

impl Record for SchemaRecord {
    const TABLE: Table = Table::Schemas;

    fn key(&self) -> &str {
        &self.id
    }
}

/// A managed subscription, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedSubscriptionRecord {
    /// Its id: 18 characters.
    pub id: String,
    /// Its unique name.
    pub developer_name: String,
    /// What people call it.
    pub label: String,
    /// Name of its topic.
    pub topic_name: String,
    /// `LATEST` or `EARLIEST`: where it starts that has no committed position.
    pub default_replay: String,
    /// `LATEST` or `EARLIEST`: where it goes on whose position is no longer valid.
    pub error_recovery_replay: String,
    /// `RUN` or `STOP`.
    pub state: String,
    /// `refuse` or `newest`: which of two streams has it.
    pub takeover: String,
    /// How often it was changed.
    pub version: u32,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
}

impl Record for ManagedSubscriptionRecord {
    const TABLE: Table = Table::ManagedSubscriptions;

    fn key(&self) -> &str {
        &self.id
    }
}

/// How far a managed subscription has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedPositionRecord {
    /// Id of the subscription.
    pub id: String,
    /// The position that was last committed.
    pub position: u64,
    /// When, in milliseconds since the epoch.
    pub committed_at_ms: i64,
}

impl Record for ManagedPositionRecord {
    const TABLE: Table = Table::ManagedPositions;

    fn key(&self) -> &str {
        &self.id
    }
}
