//! Metadata that is gone when the process ends: for ephemeral gateways and tests.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use super::{Change, Entry, Expected, MetadataStore, Scope, StoreError, Table, WriteError};

/// Tables in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<HashMap<Scope, Tables>>);

type Tables = BTreeMap<(Table, String), (u64, Vec<u8>)>;

#[async_trait::async_trait]
impl MetadataStore for MemoryStore {
    async fn get(
        &self,
        scope: Scope,
        table: Table,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let scopes = self.0.lock().expect("no holder of this lock panics");
        let found = scopes
            .get(&scope)
            .and_then(|tables| tables.get(&(table, key.to_owned())));
        Ok(found.map(|(revision, value)| entry(key, *revision, value)))
    }

    async fn list(&self, scope: Scope, table: Table) -> Result<Vec<Entry>, StoreError> {
        let scopes = self.0.lock().expect("no holder of this lock panics");
        let Some(tables) = scopes.get(&scope) else {
            return Ok(Vec::new());
        };
        let from_table = tables.range((table, String::new())..);
        let of_table = from_table.take_while(|((found, _), _)| *found == table);
        Ok(of_table
            .map(|((_, key), (revision, value))| entry(key, *revision, value))
            .collect())
    }

    async fn write(&self, scope: Scope, changes: Vec<Change>) -> Result<(), WriteError> {
        let mut scopes = self.0.lock().expect("no holder of this lock panics");
        let tables = scopes.entry(scope).or_default();
        for Change {
            table,
            key,
            expected,
            ..
        } in &changes
        {
            let found = tables
                .get(&(*table, key.clone()))
                .map(|(revision, _)| *revision);
            if !expected.is_met_by(found) {
                return Err(WriteError::Conflict {
                    table: *table,
                    key: key.clone(),
                });
            }
        }
        for Change {
            table, key, value, ..
        } in changes
        {
            let place = (table, key);
            let Some(value) = value else {
                tables.remove(&place);
                continue;
            };
            let slot = tables.entry(place).or_default();
            *slot = (slot.0 + 1, value);
        }
        Ok(())
    }
}

impl Expected {
    /// Whether a key whose revision is `found`, `None` for no value, is as expected.
    pub(super) fn is_met_by(self, found: Option<u64>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Revision(revision) => found == Some(revision),
        }
    }
}

fn entry(key: &str, revision: u64, value: &[u8]) -> Entry {
    Entry {
        key: key.to_owned(),
        value: value.to_owned(),
        revision,
    }
}
