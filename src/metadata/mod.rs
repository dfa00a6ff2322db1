//! What the gateway knows besides events: tenants, tokens, topics, schemas, clients, users, channels,
//! managed subscriptions.
//!
//! A small store of tables, written with compare-and-set so that several gateways may one day share
//! it. Every backend is held to one suite. [`records`] says what the tables hold; this module and the
//! backends only know keys and bytes.

#[cfg(test)]
mod contract;
pub mod embedded;
pub mod error;
pub mod memory;
pub mod records;
#[cfg(test)]
pub(crate) mod store_double;

use std::{fmt, path::Path, time::Duration};

use crate::types::TenantId;

pub use embedded::EmbeddedStore;
pub use error::{OpenError, StoreError, WriteError};
pub use memory::MemoryStore;

/// Whose tables are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The gateway's own.
    Server,
    /// One tenant's.
    Tenant(TenantId),
}

/// A table: a sorted map of keys to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// The gateway's tenants, by id.
    Tenants,
    /// A tenant's access tokens, by id.
    Tokens,
    /// A tenant's topics, by name.
    Topics,
    /// A tenant's schemas, by schema id.
    Schemas,
    /// The gateway's client applications, by client id.
    Clients,
    /// The gateway's users, by username.
    Users,
    /// A tenant's managed subscriptions, by id.
    ManagedSubscriptions,
    /// The committed positions of a tenant's managed subscriptions, by their ids.
    ManagedPositions,
    /// Assertions that were taken, by a hash of their client and id.
    Assertions,
    /// What a tenant's schemas are held to by default.
    SchemaRules,
    /// Who used which schemas of a tenant last, by kind and name.
    SchemaUsers,
    /// A tenant's custom channels, by name.
    Channels,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 12] = [
        Self::Tenants,
        Self::Tokens,
        Self::Topics,
        Self::Schemas,
        Self::Clients,
        Self::Users,
        Self::ManagedSubscriptions,
        Self::ManagedPositions,
        Self::Assertions,
        Self::SchemaRules,
        Self::SchemaUsers,
        Self::Channels,
    ];

    /// The table's name in storage. Never changed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Tokens => "tokens",
            Self::Topics => "topics",
            Self::Schemas => "schemas",
            Self::Clients => "clients",
            Self::Users => "users",
            Self::ManagedSubscriptions => "managed_subscriptions",
            Self::ManagedPositions => "managed_positions",
            Self::Assertions => "assertions",
            Self::SchemaRules => "schema_rules",
            Self::SchemaUsers => "schema_users",
            Self::Channels => "channels",
        }
    }
}

/// A value and the revision it was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key within its table.
    pub key: String,
    /// What was last written.
    pub value: Vec<u8>,
    /// Rises with each write of the key, and is at least 1. A key that was removed begins at 1 again:
    /// who may find another record under it, as with the names of users, compares what is in it.
    pub revision: u64,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub table: Table,
    /// Which key.
    pub key: String,
    /// What must be there for the batch to be written.
    pub expected: Expected,
    /// What is to be there; `None` to remove the key.
    pub value: Option<Vec<u8>>,
}

/// What a writer believes to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// A value of this revision.
    Revision(u64),
}

/// Storage for the metadata of every tenant, shared behind an `Arc`.
#[async_trait::async_trait]
pub trait MetadataStore: fmt::Debug + Send + Sync + 'static {
    /// The value at `key`, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn get(&self, scope: Scope, table: Table, key: &str)
    -> Result<Option<Entry>, StoreError>;

    /// Every value of a table, sorted by key.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn list(&self, scope: Scope, table: Table) -> Result<Vec<Entry>, StoreError>;

    /// Writes every change, or none if one of them expects something else than there is. Durable
    /// before it returns.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] names the key that was not as expected; nothing was written.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the changes may or may not be written, all of them together.
    async fn write(&self, scope: Scope, changes: Vec<Change>) -> Result<(), WriteError>;

    /// Copies everything into `dir`, which holds no metadata yet, each scope as it is at one moment, and returns the number of files. Writes go on.
    ///
    /// The gateway's own tables come last: every tenant whose tables are copied is in them. What is
    /// copied is durable when it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::InMemory`] by default. There may be files in `dir` then.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the store is as it was.
    async fn back_up(&self, dir: &Path) -> Result<u64, StoreError> {
        _ = dir;
        Err(StoreError::InMemory)
    }

    /// Lets go of what is open for tenants that no call was made for in the time `idle`. No call
    /// answers differently for it.
    async fn close_quiet(&self, idle: Duration) {
        _ = idle;
    }
}
