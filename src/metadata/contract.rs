//! What every metadata store has to do, run against each of them.

use super::{
    Change, EmbeddedStore, Expected, MemoryStore, MetadataStore, Scope, Table, WriteError,
};
use crate::types::TenantId;

fn change(key: &str, expected: Expected, value: &str) -> Change {
    Change {
        table: Table::Topics,
        key: key.into(),
        expected,
        value: Some(value.into()),
    }
}

async fn holds_the_contract(store: &dyn MetadataStore) {
    what_was_written_is_read_with_its_revision(store).await;
    a_batch_is_written_whole_or_not_at_all(store).await;
    scopes_and_tables_are_apart(store).await;
    what_was_removed_is_gone(store).await;
}

async fn what_was_written_is_read_with_its_revision(store: &dyn MetadataStore) {
    let scope = Scope::Tenant(TenantId::from_random([1; 12]));
    assert_eq!(store.get(scope, Table::Topics, "a").await.unwrap(), None);
    store
        .write(scope, vec![change("a", Expected::Absent, "1")])
        .await
        .unwrap();
    let first = store.get(scope, Table::Topics, "a").await.unwrap().unwrap();
    assert_eq!(
        (first.value.as_slice(), first.revision),
        (b"1".as_slice(), 1)
    );
    store
        .write(scope, vec![change("a", Expected::Revision(1), "2")])
        .await
        .unwrap();
    let second = store.get(scope, Table::Topics, "a").await.unwrap().unwrap();
    assert_eq!(
        (second.value.as_slice(), second.revision),
        (b"2".as_slice(), 2)
    );
}

async fn a_batch_is_written_whole_or_not_at_all(store: &dyn MetadataStore) {
    let scope = Scope::Tenant(TenantId::from_random([2; 12]));
    store
        .write(scope, vec![change("b", Expected::Absent, "1")])
        .await
        .unwrap();
    for stale in [Expected::Absent, Expected::Revision(2)] {
        let batch = vec![change("a", Expected::Absent, "1"), change("b", stale, "2")];
        let error = store.write(scope, batch).await.unwrap_err();
        assert!(matches!(error, WriteError::Conflict { key, .. } if key == "b"));
    }
    let keys = store
        .list(scope, Table::Topics)
        .await
        .unwrap()
        .into_iter()
        .map(|entry| entry.key);
    assert_eq!(keys.collect::<Vec<_>>(), ["b"]);
}

async fn scopes_and_tables_are_apart(store: &dyn MetadataStore) {
    let one = Scope::Tenant(TenantId::from_random([3; 12]));
    let keys = ["b", "a", "c"];
    let batch = keys.map(|key| change(key, Expected::Absent, key)).to_vec();
    store.write(one, batch).await.unwrap();
    let listed = store.list(one, Table::Topics).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|entry| entry.key.as_str())
            .collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert!(store.list(one, Table::Schemas).await.unwrap().is_empty());
    assert!(
        store
            .list(Scope::Server, Table::Topics)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn what_was_removed_is_gone(store: &dyn MetadataStore) {
    let scope = Scope::Tenant(TenantId::from_random([4; 12]));
    let removal = |expected| Change {
        value: None,
        ..change("a", expected, "")
    };
    let batch = ["a", "b"].map(|key| change(key, Expected::Absent, key));
    store.write(scope, batch.to_vec()).await.unwrap();
    let stale = store.write(scope, vec![removal(Expected::Revision(2))]);
    assert!(matches!(stale.await, Err(WriteError::Conflict { key, .. }) if key == "a"));
    let removed = store.write(scope, vec![removal(Expected::Revision(1))]);
    removed.await.unwrap();
    assert_eq!(store.get(scope, Table::Topics, "a").await.unwrap(), None);
    let left = store.list(scope, Table::Topics).await.unwrap();
    assert_eq!(left.len(), 1);
    let again = change("a", Expected::Absent, "2");
    store.write(scope, vec![again]).await.unwrap();
    let entry = store.get(scope, Table::Topics, "a").await.unwrap().unwrap();
    assert_eq!((entry.value.as_slice(), entry.revision), (&b"2"[..], 1));
}

#[tokio::test]
async fn memory_holds_the_contract() {
    holds_the_contract(&MemoryStore::default()).await;
}

#[tokio::test]
async fn embedded_holds_the_contract_and_keeps_it_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    holds_the_contract(&EmbeddedStore::new(dir.path())).await;
    let scope = Scope::Tenant(TenantId::from_random([1; 12]));
    let reopened = EmbeddedStore::new(dir.path());
    let entry = reopened
        .get(scope, Table::Topics, "a")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (entry.value.as_slice(), entry.revision),
        (b"2".as_slice(), 2)
    );
}
