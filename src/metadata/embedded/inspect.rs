//! Looks at a metadata file without changing it: what is in it, and whether it is whole.

use std::{collections::HashSet, fs::File, path::Path};

use super::file::{check, io_error, list};
use crate::metadata::{
    OpenError, Scope, StoreError, Table,
    records::{
        self, AssertionRecord, ChannelRecord, ClientRecord, ManagedPositionRecord,
        ManagedSubscriptionRecord, Record, SchemaRecord, SchemaUserRecord, TenantRecord,
        TenantRulesRecord, TokenRecord, TopicRecord, UserRecord,
    },
};

/// What is in a metadata file.
#[derive(Clone, Debug, Default)]
pub struct Inspected {
    /// The tenants of the gateway.
    pub tenants: Vec<TenantRecord>,
    /// The topics of the tenant.
    pub topics: Vec<TopicRecord>,
    /// Records that are not as this program writes them, each in a sentence.
    pub damage: Vec<String>,
}

/// Reads every page and every record of the file at `path`, which has to be that of `scope`.
///
/// Takes no lock, so that a gateway that runs can open the file meanwhile. What a gateway writes
/// meanwhile may look like damage: whoever is told of some has to ask whether one runs.
///
/// # Errors
///
/// [`OpenError`] if the file cannot be read, is damaged or is not this one.
pub fn inspect(path: &Path, scope: Scope) -> Result<Inspected, OpenError> {
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    let database = check(path, scope, file)?;
    let mut found = Inspected::default();
    let mut entries = |table| {
        // The pages are whole, so what goes wrong here is in a value.
        list(&database, table).unwrap_or_else(|error| {
            found.damage.push(in_words(&error));
            Vec::new()
        })
    };
    let [
        tenants,
        tokens,
        topics,
        schemas,
        clients,
        users,
        subscriptions,
        positions,
        assertions,
        rules,
        schema_users,
        channels,
    ] = Table::ALL.map(&mut entries);
    let damage = &mut found.damage;
    found.tenants = parse(tenants, damage);
    parse::<TokenRecord>(tokens, damage);
    parse::<ClientRecord>(clients, damage);
    parse::<UserRecord>(users, damage);
    parse::<ManagedSubscriptionRecord>(subscriptions, damage);
    parse::<ManagedPositionRecord>(positions, damage);
    parse::<AssertionRecord>(assertions, damage);
    parse::<TenantRulesRecord>(rules, damage);
    parse::<SchemaUserRecord>(schema_users, damage);
    parse::<ChannelRecord>(channels, damage);
    found.topics = parse(topics, damage);
    let schemas: Vec<SchemaRecord> = parse(schemas, damage);
    let ids: HashSet<_> = schemas.iter().map(|schema| &schema.id).collect();
    for topic in &found.topics {
        let mut versions = topic.versions.iter();
        if !versions.all(|version| ids.contains(&version.schema_id)) {
            damage.push(format!(
                "the topic {} names a schema that is not stored",
                topic.name
            ));
        }
    }
    Ok(found)
}

fn parse<T: Record>(entries: Vec<super::Entry>, damage: &mut Vec<String>) -> Vec<T> {
    let parsed = entries
        .into_iter()
        .filter_map(|entry| match records::parse(entry) {
            Ok(stored) => Some(stored.record),
            Err(error) => {
                damage.push(in_words(&error));
                None
            }
        });
    parsed.collect()
}

/// An error with its sources, without what a record holds.
fn in_words(error: &StoreError) -> String {
    match error {
        StoreError::Record { source, .. } => {
            format!(
                "{error}: it is not what this program writes (column {})",
                source.column()
            )
        }
        StoreError::Failed(source) => format!("{error}: {source}"),
        error => error.to_string(),
    }
}
