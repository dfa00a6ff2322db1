//! Damage to a metadata file: it is refused, with its name, and stays as it is, or everything that
//! was stored is read back.

use std::path::PathBuf;

use redb::ReadableDatabase;

use super::*;

/// What was stored, and the file that holds it.
struct Stored {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// A file of a few tables, some values of which take pages of their own. With `is_crash` its owner
/// has ended as after a kill, right after the last write.
fn stored(is_crash: bool) -> Stored {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.redb");
    let file = MetadataFile::new(path.clone(), Scope::Server);
    for number in 0..24u8 {
        let change = Change {
            table: Table::ALL[usize::from(number) % Table::ALL.len()],
            key: format!("key {number}"),
            expected: Expected::Absent,
            value: Some(vec![number + 1; 40 * usize::from(number)]),
        };
        file.write(&[change]).unwrap();
    }
    let entries = entries(&file).unwrap();
    assert_eq!(entries.len(), 24);
    let bytes = match is_crash {
        true => fs::read(&path).unwrap(),
        false => {
            drop(file);
            fs::read(&path).unwrap()
        }
    };
    Stored { bytes, entries }
}

fn entries(file: &MetadataFile) -> Result<Vec<Entry>, StoreError> {
    let tables = Table::ALL.map(|table| file.list(table));
    let tables: Result<Vec<_>, _> = tables.into_iter().collect();
    Ok(tables?.concat())
}

/// A directory whose file is opened with any content.
struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.redb");
        Self { _dir: dir, path }
    }

    /// Holds a file with this content to be refused, which is told, or to hold what was stored.
    fn is_refused(&self, content: &[u8], stored: &Stored, what: &str) -> bool {
        fs::write(&self.path, content).unwrap();
        let file = MetadataFile::new(self.path.clone(), Scope::Server);
        match entries(&file) {
            Ok(found) => {
                assert!(found == stored.entries, "{what}: silently changed");
                false
            }
            Err(StoreError::Open { path, source }) => {
                assert_eq!(path, self.path);
                assert!(matches!(source, OpenError::Damaged(_)), "{what}: {source}");
                drop(file);
                let is_kept = fs::read(&self.path).unwrap() == content;
                assert!(is_kept, "{what}: the damaged file was changed");
                true
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

const PAGE: usize = 4_096;

#[test]
fn a_lost_page_is_told_or_harmless() {
    for is_crash in [false, true] {
        let stored = stored(is_crash);
        let bench = Bench::new();
        let mut refused = 0;
        for page in stored.bytes.chunks(PAGE).enumerate() {
            if page.1.iter().all(|&byte| byte == 0) {
                continue;
            }
            let mut content = stored.bytes.clone();
            content[page.0 * PAGE..][..page.1.len()].fill(0);
            let what = format!("page {}, crash: {is_crash}", page.0);
            refused += usize::from(bench.is_refused(&content, &stored, &what));
        }
        assert!(refused > 5, "{refused} pages matter");
    }
}

#[test]
fn a_flipped_bit_is_told_or_harmless() {
    for is_crash in [false, true] {
        let stored = stored(is_crash);
        let bench = Bench::new();
        let flip = |byte: usize| {
            let mut content = stored.bytes.clone();
            content[byte] ^= 1 << (byte % 8);
            let what = format!("byte {byte}, crash: {is_crash}");
            bench.is_refused(&content, &stored, &what)
        };
        // The engine's header closely; of the rest a prime step meets every page and every bit.
        let in_header = (0..320).step_by(if is_crash { 1 } else { 7 });
        let written = |page: usize| stored.bytes[page * PAGE..][..PAGE].iter().any(|&b| b != 0);
        let rest = (320..stored.bytes.len()).step_by(1_021);
        let rest = rest.filter(|byte| written(byte / PAGE));
        let refused = in_header.chain(rest).filter(|byte| flip(*byte)).count();
        assert!(refused > 15, "{refused} bytes matter");
    }
}

#[test]
fn a_file_that_was_cut_or_went_on_is_told_or_harmless() {
    let stored = stored(true);
    let bench = Bench::new();
    let len = stored.bytes.len();
    for cut in (0..len)
        .step_by(len / 40)
        .chain([1, 319, 320, 4_095, len - 1])
    {
        let what = format!("{cut} of {len} bytes");
        // What is cut off behind the last page in use is not missed.
        bench.is_refused(&stored.bytes[..cut], &stored, &what);
    }
    assert!(bench.is_refused(&stored.bytes[..len / 8], &stored, "an eighth"));
    let longer = [&stored.bytes[..], &[7; 5_000]].concat();
    bench.is_refused(&longer, &stored, "some bytes more");
}

#[tokio::test]
async fn a_file_of_another_owner_is_refused_with_both_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(dir.path());
    let [mine, other] = [1, 2].map(|number| Scope::Tenant(tenant(number)));
    for scope in [Scope::Server, mine, other] {
        store.write(scope, put("k", b"v")).await.unwrap();
    }
    drop(store);
    let tenants = dir.path().join("tenants");
    let file_of = |number| tenants.join(tenant(number).as_str()).join(TENANT_FILE);
    for (from, owner) in [
        (file_of(2), format!("tenant {}", tenant(2))),
        (dir.path().join(SERVER_FILE), "the gateway".to_owned()),
    ] {
        fs::copy(&from, file_of(1)).unwrap();
        let before = fs::read(file_of(1)).unwrap();
        let store = EmbeddedStore::new(dir.path());
        let refused = store.get(mine, Table::Topics, "k").await.unwrap_err();
        let StoreError::Open { path, source } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(path, file_of(1));
        assert_eq!(
            source.to_string(),
            format!(
                "it belongs to {owner}, not to tenant {}; put back the file that belongs here",
                tenant(1)
            )
        );
        assert!(store.write(mine, put("l", b"v")).await.is_err());
        assert_eq!(fs::read(file_of(1)).unwrap(), before);
        assert_eq!(value(&store, other, "k").await.unwrap(), b"v");
    }
}

#[tokio::test]
async fn a_file_that_does_not_say_whose_it_is_learns_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::new(dir.path());
    store.write(Scope::Server, put("a", b"v")).await.unwrap();
    drop(store);
    let path = dir.path().join(SERVER_FILE);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let owner = TableDefinition::<&str, &str>::new("owner");
    assert!(transaction.delete_table(owner).unwrap());
    transaction.commit().unwrap();
    drop(database);

    let store = EmbeddedStore::new(dir.path());
    assert_eq!(value(&store, Scope::Server, "a").await.unwrap(), b"v");
    store.write(Scope::Server, put("b", b"v")).await.unwrap();
    drop(store);
    let database = Database::open(&path).unwrap();
    let table = database.begin_read().unwrap().open_table(owner).unwrap();
    let found = table.get("scope").unwrap();
    assert_eq!(found.unwrap().value(), "the gateway");
}

#[test]
fn a_look_at_a_file_finds_records_that_are_none_and_leaves_it_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SERVER_FILE);
    let file = MetadataFile::new(path.clone(), Scope::Server);
    file.write(&put("/event/A__e", b"{\"name\":")).unwrap();
    drop(file);
    let before = fs::read(&path).unwrap();
    let found = inspect(&path, Scope::Server).unwrap();
    assert_eq!(
        found.damage,
        [
            "the topics record \"/event/A__e\" cannot be read: it is not what this program writes \
             (column 8)"
        ]
    );
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, &before[..9_000]).unwrap();
    let refused = inspect(&path, Scope::Server).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(_)), "{refused}");
    fs::remove_file(&path).unwrap();
    let missing = inspect(&path, Scope::Server).unwrap_err();
    assert!(matches!(missing, OpenError::Io { .. }), "{missing}");
}
