mod damage;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;
use redb::{Database, TableDefinition};

use super::*;
use crate::metadata::{Expected, OpenError};

fn put(key: &str, value: &[u8]) -> Vec<Change> {
    vec![Change {
        table: Table::Topics,
        key: key.to_owned(),
        expected: Expected::Absent,
        value: Some(value.to_vec()),
    }]
}

fn tenant(number: u8) -> TenantId {
    TenantId::from_random([number; 12])
}

async fn value(store: &EmbeddedStore, scope: Scope, key: &str) -> Option<Vec<u8>> {
    let entry = store.get(scope, Table::Topics, key).await.unwrap();
    entry.map(|entry| entry.value)
}

/// Why the server's file cannot be opened.
async fn refusal(dir: &Path) -> OpenError {
    let store = EmbeddedStore::new(dir);
    match store.write(Scope::Server, put("k", b"v")).await {
        Err(WriteError::Store(StoreError::Open { path, source })) => {
            assert_eq!(path, dir.join("server.redb"));
            source
        }
        other => panic!("{other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_are_readable_by_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/data");
    let store = EmbeddedStore::new(&data);
    let scope = Scope::Tenant(tenant(1));
    store.write(scope, put("k", b"v")).await.unwrap();
    let of_tenant = data.join("tenants").join(tenant(1).as_str());
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&of_tenant), 0o700);
    assert_eq!(mode(&of_tenant.join("metadata.redb")), 0o600);
}

#[tokio::test]
async fn reading_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(dir.path());
    assert_eq!(value(&store, Scope::Tenant(tenant(1)), "k").await, None);
    let listed = store.list(Scope::Server, Table::Tenants).await.unwrap();
    assert!(listed.is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn more_tenants_than_places_are_served_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::with_places(dir.path().to_owned(), 2);
    for key in ["a", "b"] {
        let writes = (0..6).map(|i| store.write(Scope::Tenant(tenant(i)), put(key, &[i])));
        for outcome in futures_util::future::join_all(writes).await {
            outcome.unwrap();
        }
        assert!(store.files.tenants.lock().unwrap().files.len() <= 2);
    }
    for i in 0..6 {
        let scope = Scope::Tenant(tenant(i));
        assert_eq!(value(&store, scope, "a").await.unwrap(), [i]);
        assert_eq!(value(&store, scope, "b").await.unwrap(), [i]);
    }
}

#[tokio::test]
async fn files_that_are_not_used_are_closed_and_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(dir.path());
    for i in 0..3 {
        let scope = Scope::Tenant(tenant(i));
        store.write(scope, put("k", &[i])).await.unwrap();
    }
    let open = || store.files.lock().files.len();
    store.close_quiet(Duration::from_secs(3_600)).await;
    assert_eq!(open(), 3);
    let held = store.files.file(Scope::Tenant(tenant(0)));
    store.close_quiet(Duration::ZERO).await;
    assert_eq!(open(), 1, "the one in use");
    drop(held);
    store.close_quiet(Duration::ZERO).await;
    assert_eq!(open(), 0);
    for i in 0..3 {
        let scope = Scope::Tenant(tenant(i));
        assert_eq!(value(&store, scope, "k").await.unwrap(), [i]);
    }
}

#[tokio::test]
async fn a_file_in_use_is_refused_until_its_owner_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let owner = EmbeddedStore::new(dir.path());
    owner.write(Scope::Server, put("a", b"v")).await.unwrap();
    assert!(matches!(refusal(dir.path()).await, OpenError::InUse));
    drop(owner);
    let heir = EmbeddedStore::new(dir.path());
    assert_eq!(value(&heir, Scope::Server, "a").await.unwrap(), b"v");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(dir.path());
    store.write(Scope::Server, put("a", b"v")).await.unwrap();
    drop(store);
    let database = Database::open(dir.path().join("server.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(TableDefinition::<&str, u64>::new("about"))
        .unwrap()
        .insert("format", 2)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(
        refusal(dir.path()).await,
        OpenError::NewerFormat { found: 2, known: 1 }
    ));
}

#[tokio::test]
async fn files_of_something_else_are_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.redb");
    for content in [&b""[..], b"not a database", &[0; 8192]] {
        fs::write(&path, content).unwrap();
        let refusal = refusal(dir.path()).await;
        assert!(matches!(refusal, OpenError::Damaged(_)), "{refusal:?}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    drop(Database::create(&path).unwrap());
    let refusal = refusal(dir.path()).await;
    assert!(matches!(refusal, OpenError::Damaged(_)), "{refusal:?}");
}

#[tokio::test]
async fn what_the_file_system_refuses_is_told_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refusal = refusal(&file).await;
    assert!(matches!(&refusal, OpenError::Io { .. }), "{refusal:?}");
    assert!(
        refusal.to_string().contains("file/server.redb"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_damaged_file_of_one_tenant_harms_no_other_and_may_be_restored() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(dir.path());
    let file_of = |number| {
        let tenants = dir.path().join("tenants");
        tenants.join(tenant(number).as_str()).join("metadata.redb")
    };
    fs::create_dir_all(file_of(1).parent().unwrap()).unwrap();
    fs::write(file_of(1), "damage").unwrap();
    let damaged = Scope::Tenant(tenant(1));
    let whole = Scope::Tenant(tenant(2));
    assert!(store.get(damaged, Table::Topics, "k").await.is_err());
    assert!(store.write(damaged, put("k", b"v")).await.is_err());
    store.write(whole, put("k", b"v")).await.unwrap();

    let kept = EmbeddedStore::new(dir.path().join("backup"));
    kept.write(damaged, put("k", b"v")).await.unwrap();
    drop(kept);
    let backup = dir.path().join("backup/tenants").join(tenant(1).as_str());
    fs::copy(backup.join("metadata.redb"), file_of(1)).unwrap();
    assert_eq!(value(&store, damaged, "k").await.unwrap(), b"v");
}

#[tokio::test]
async fn a_file_left_half_made_by_a_crash_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("server.redb.new"), "half").unwrap();
    let store = EmbeddedStore::new(dir.path());
    store.write(Scope::Server, put("k", b"v")).await.unwrap();
    assert!(!dir.path().join("server.redb.new").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Flips a byte or cuts the file; half of the time near its start, where the headers are.
    #[test]
    fn damage_to_a_file_never_panics(
        at in prop_oneof![0usize..1024, any::<usize>()],
        to in any::<u8>(),
        cut in prop::bool::weighted(0.2),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.redb");
        MetadataFile::new(path.clone(), Scope::Server).write(&put("k", &[9; 5000])).unwrap();
        let mut content = fs::read(&path).unwrap();
        let at = at % content.len();
        if cut {
            content.truncate(at);
        } else {
            content[at] = to;
        }
        fs::write(&path, content).unwrap();
        let file = MetadataFile::new(path, Scope::Server);
        _ = file.get(Table::Topics, "k");
        _ = file.list(Table::Topics);
        _ = file.write(&put("l", b"v"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_each_file_as_it_was_at_one_moment_under_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(EmbeddedStore::new(dir.path().join("data")));
    let scope = Scope::Tenant(tenant(1));
    store.write(Scope::Server, put("t", b"1")).await.unwrap();
    // Two keys that are always written together.
    let pair = |number: u64, expected| {
        let change = |key: &str| Change {
            table: Table::Topics,
            key: key.to_owned(),
            expected,
            value: Some(number.to_be_bytes().to_vec()),
        };
        vec![change("a"), change("b")]
    };
    store.write(scope, pair(0, Expected::Absent)).await.unwrap();
    let writer = std::sync::Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for number in 1..30 {
            let changes = pair(number, Expected::Revision(number));
            writer.write(scope, changes).await.unwrap();
        }
    });
    let mut before = Vec::new();
    for number in 0..5 {
        let backup = dir.path().join(format!("backup-{number}"));
        assert_eq!(store.back_up(&backup).await.unwrap(), 2);
        let to = dir.path().join(format!("restored-{number}"));
        assert_eq!(restore(&backup, &to).unwrap(), 2);
        assert_eq!(mode(&to.join("server.redb")), 0o600);
        let copy = EmbeddedStore::new(&to);
        assert_eq!(value(&copy, Scope::Server, "t").await.unwrap(), b"1");
        let a = copy.get(scope, Table::Topics, "a").await.unwrap().unwrap();
        let b = copy.get(scope, Table::Topics, "b").await.unwrap().unwrap();
        assert_eq!((&a.value, a.revision), (&b.value, b.revision));
        assert!(a.value >= before);
        before = a.value;
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_damaged_copy_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(dir.path().join("data"));
    store.write(Scope::Server, put("t", b"1")).await.unwrap();
    let backup = dir.path().join("backup");
    assert_eq!(store.back_up(&backup).await.unwrap(), 1);
    fs::write(backup.join("server.redb"), b"no database").unwrap();
    let refused = restore(&backup, &dir.path().join("to")).unwrap_err();
    assert!(matches!(refused, StoreError::Copy { .. }), "{refused}");

    let memory = crate::metadata::MemoryStore::default();
    let refused = memory.back_up(&backup).await.unwrap_err();
    assert!(matches!(refused, StoreError::InMemory));
}
