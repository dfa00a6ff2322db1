//! What the tables hold: typed records, stored as JSON.
//!
//! A field may be added with a default and none may change its meaning, so that a newer program
//! reads what an older one wrote.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Change, Entry, Expected, MetadataStore, Scope, StoreError, Table};
use crate::types::{Grants, TopicPattern};

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
    /// Milliseconds since the epoch; absent if the token does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
    /// Whether it is good for new access tokens, and for nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
    /// Id of the user who signed in for it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Id of the client application that signed in for it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Id of the refresh token that it goes with, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_id: Option<String>,
}

impl Record for TokenRecord {
    const TABLE: Table = Table::Tokens;

    fn key(&self) -> &str {
        &self.id
    }
}

/// A client application that signs in by itself or for users. Its id is random and never made twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// What the client signs in as.
    pub id: String,
    /// The id of the user that the client is when it signs in by itself: 18 characters.
    pub user_id: String,
    /// What it is for.
    pub name: String,
    /// The tenant it works for.
    pub tenant_id: String,
    /// SHA-256 of its secret, in hex.
    pub secret_sha256: String,
    /// Its RSA public keys, each as PKCS#1 DER in base64.
    pub keys: Vec<String>,
    /// What it is granted when it signs in by itself.
    pub grants: GrantsRecord,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
}

impl Record for ClientRecord {
    const TABLE: Table = Table::Clients;

    fn key(&self) -> &str {
        &self.id
    }
}

/// Somebody who signs in with a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// In lower case.
    pub username: String,
    /// 18 characters: random, so that another user of the same name is told apart.
    pub id: String,
    /// The tenant they work for.
    pub tenant_id: String,
    /// Hash of the password as a PHC string.
    pub password_hash: String,
    /// What they are granted.
    pub grants: GrantsRecord,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
}

impl Record for UserRecord {
    const TABLE: Table = Table::Users;

    fn key(&self) -> &str {
        &self.username
    }
}

/// An assertion that was taken and has an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertionRecord {
    /// SHA-256 of its client and id, in hex.
    pub sha256: String,
    /// Until when it is taken, in milliseconds since the epoch.
    pub until_ms: i64,
}

impl Record for AssertionRecord {
    const TABLE: Table = Table::Assertions;

    fn key(&self) -> &str {
        &self.sha256
    }
}

/// What somebody is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantsRecord {
    /// Topic patterns that may be published to.
    pub publish: Vec<String>,
    /// Topic patterns that may be subscribed to.
    pub subscribe: Vec<String>,
    /// Whether `publish` reaches change events.
    pub change_events: bool,
    /// Whether tokens, clients and users may be managed.
    pub admin: bool,
}

impl GrantsRecord {
    /// The record of `grants`.
    pub fn of(grants: &Grants) -> Self {
        let text = |patterns: &[TopicPattern]| patterns.iter().map(ToString::to_string).collect();
        Self {
            publish: text(&grants.publish),
            subscribe: text(&grants.subscribe),
            change_events: grants.change_events,
            admin: grants.admin,
        }
    }

    /// What is recorded; `None` if a pattern is not what was written here.
    pub fn grants(&self) -> Option<Grants> {
        let patterns = |texts: &[String]| {
            let patterns = texts.iter().map(|text| text.parse().ok());
            patterns.collect::<Option<Vec<TopicPattern>>>()
        };
        Some(Grants {
            publish: patterns(&self.publish)?,
            subscribe: patterns(&self.subscribe)?,
            change_events: self.change_events,
            admin: self.admin,
        })
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
    /// Whether publishing is idempotent, if that is set for the topic itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Milliseconds since the epoch; absent while there is the topic. A deleted one keeps its number,
    /// which no other topic gets, and its schemas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at_ms: Option<i64>,
    /// Numbers of topics that had the name before and were deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_ids: Vec<u32>,
    /// What is set for it of the rules that new versions are held to.
    #[serde(flatten)]
    pub rules: RulesRecord,
    /// SHA-256, in base64, of the text of its schema file when that was last taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_sha256: Option<String>,
}

/// Rules for schemas that are set in one place. What is absent is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesRecord {
    /// The compatibility level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<String>,
    /// Which checks are on or off, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, bool>,
}

/// Rules for schemas that hold for all topics that set none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRulesRecord {
    /// There is one of them: `defaults`.
    pub name: String,
    /// What is set.
    #[serde(flatten)]
    pub rules: RulesRecord,
}

impl Record for TenantRulesRecord {
    const TABLE: Table = Table::SchemaRules;

    fn key(&self) -> &str {
        &self.name
    }
}

/// One version of a topic's schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its schema id.
    pub schema_id: String,
    /// Milliseconds since the epoch.
    pub registered_at_ms: i64,
    /// Who registered it; empty in what was written before that was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub registered_by: String,
    /// Milliseconds since the epoch; absent while it is not retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at_ms: Option<i64>,
    /// Who retired it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_by: Option<String>,
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

/// What somebody used of schemas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaUserRecord {
    /// Kind and name, with a colon between them.
    pub key: String,
    /// `principal`, `client` or `managed`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// One for each schema, in any order.
    pub uses: Vec<SchemaUseRecord>,
}

/// When somebody last used a schema, in milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaUseRecord {
    /// The schema's id.
    pub schema_id: String,
    /// The schema was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at_ms: Option<i64>,
    /// Events were published that are written with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at_ms: Option<i64>,
    /// Events were delivered that are written with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at_ms: Option<i64>,
}

impl Record for SchemaUserRecord {
    const TABLE: Table = Table::SchemaUsers;

    fn key(&self) -> &str {
        &self.key
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
    /// What its events have to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Among how many streams it is shared, and by which field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingRecord>,
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

/// How a managed subscription is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharingRecord {
    /// Among how many streams at most.
    pub streams: u32,
    /// The field whose values are spread over the slots.
    pub key: String,
}

/// A custom channel with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// Its members, by their topics.
    pub members: Vec<ChannelMemberRecord>,
    /// How often it was stored.
    pub version: u32,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
}

impl Record for ChannelRecord {
    const TABLE: Table = Table::Channels;

    fn key(&self) -> &str {
        &self.name
    }
}

/// A topic of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelMemberRecord {
    /// Name of the topic.
    pub topic_name: String,
    /// The filter, as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Fields that are added to each change event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enriched_fields: Vec<String>,
}

/// How far a managed subscription has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedPositionRecord {
    /// Id of the subscription.
    pub id: String,
    /// The position that was last committed; of a shared one, that of the slot furthest behind.
    pub position: u64,
    /// Of a shared one, the position of each slot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<u64>,
    /// When, in milliseconds since the epoch.
    pub committed_at_ms: i64,
}

impl Record for ManagedPositionRecord {
    const TABLE: Table = Table::ManagedPositions;

    fn key(&self) -> &str {
        &self.id
    }
}
