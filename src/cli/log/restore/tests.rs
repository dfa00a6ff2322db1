use std::{fs, sync::Arc, time::Duration};

use super::*;
use crate::{
    cli::{exit::Exit, output::Format},
    clock::{ManualClock, Timestamp},
    event_log::{
        Config, EventLog,
        contract::Feeder,
        embedded::{DataDir, EmbeddedLog},
    },
    metadata::{Change, EmbeddedStore, Expected, MetadataStore, Scope, Table},
};

const TENANT: &str = "00D000000000001EAA";

/// A backup of a gateway with a few events.
struct Bench {
    root: tempfile::TempDir,
    clock: ManualClock,
}

impl Bench {
    async fn new() -> Self {
        let bench = Self {
            root: tempfile::tempdir().unwrap(),
            clock: ManualClock::at(Timestamp::from_millis(1_700_000_000_000)),
        };
        let home = bench.path("home");
        let dir = DataDir::open(&home).unwrap();
        let log = EmbeddedLog::new(dir, Config::default(), Arc::new(bench.clock.clone())).unwrap();
        let store = EmbeddedStore::new(&home);
        let change = Change {
            table: Table::Tenants,
            key: TENANT.into(),
            expected: Expected::Absent,
            value: Some(b"record".to_vec()),
        };
        store.write(Scope::Server, vec![change]).await.unwrap();
        let of_tenant = log.open(TENANT.parse().unwrap()).await.unwrap();
        Feeder::new(&of_tenant, 1).append(3).await;
        let to = bench.path("backup");
        let backup = log.back_up(&to).await.unwrap();
        let files = store.back_up(&to).await.unwrap();
        log.finish_backup(&to, &backup, files).await.unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    async fn restore(&self, to: &str, is_damage_accepted: bool) -> (String, Result<(), Failure>) {
        let mut output = Output::new(Format::Text, Vec::new());
        let how = How {
            is_damage_accepted,
            clock: &self.clock,
        };
        let (from, to) = (self.path("backup"), self.path(to));
        let progress = ProgressBar::hidden();
        let result = restore(&from, &to, &how, &mut output, &progress).await;
        (String::from_utf8(output.into_writer()).unwrap(), result)
    }

    /// What a restore ends with.
    async fn failure(&self) -> (Exit, String) {
        let to = format!(
            "refused-{}",
            fs::read_dir(self.root.path()).unwrap().count()
        );
        let (_, result) = self.restore(&to, false).await;
        let failure = result.unwrap_err();
        assert!(!self.path(&to).join("version").exists());
        if self.path(&to).exists() {
            assert!(DataDir::open(self.path(&to)).is_err(), "no gateway starts");
        }
        (failure.exit(), failure.to_string())
    }

    fn segment(&self) -> PathBuf {
        let log = self.path("backup").join("tenants").join(TENANT).join("log");
        let mut files = fs::read_dir(log).unwrap().map(|file| file.unwrap().path());
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "seg");
        files.find(is_segment).unwrap()
    }

    /// Changes a file, which may have a second name in the gateway's own directory.
    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
}

#[tokio::test]
async fn a_backup_becomes_a_data_directory() {
    let bench = Bench::new().await;
    let (text, result) = bench.restore("restored", false).await;
    result.unwrap();
    assert_eq!(
        text,
        format!("{TENANT}: whole; 3 events in 1 segment of 9.21 KiB\n")
    );
    drop(DataDir::open(bench.path("restored")).unwrap());
    let store = EmbeddedStore::new(bench.path("restored"));
    let record = store
        .get(Scope::Server, Table::Tenants, TENANT)
        .await
        .unwrap();
    assert_eq!(record.unwrap().value, b"record");

    let (_, again) = bench.restore("restored", false).await;
    let failure = again.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().ends_with("restored: it is not empty"));
    let refused = DataDir::open(bench.path("backup")).unwrap_err();
    assert!(refused.to_string().contains("`tidegate log restore`"));
}

#[tokio::test]
async fn damage_is_told_and_ends_the_restore_unless_it_is_accepted() {
    let bench = Bench::new().await;
    bench.change(&bench.segment(), |bytes| bytes[8_192 + 150] ^= 1);
    let (text, result) = bench.restore("damaged", false).await;
    assert!(text.starts_with("damage in "), "{text}");
    assert_eq!(result.unwrap_err().exit(), Exit::Failed);
    let refused = DataDir::open(bench.path("damaged")).unwrap_err();
    assert!(
        refused.to_string().contains("was not finished"),
        "{refused}"
    );

    let (_, result) = bench.restore("accepted", true).await;
    result.unwrap();
    drop(DataDir::open(bench.path("accepted")).unwrap());
}

#[tokio::test]
async fn what_is_no_whole_backup_is_refused_with_the_reason() {
    let bench = Bench::new().await;
    let manifest = bench.path("backup").join("backup.json");
    let whole = fs::read(&manifest).unwrap();

    bench.clock.set(Timestamp::from_millis(1_699_999_999_000));
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Failed);
    assert!(
        text.contains("made at 2023-11-14T22:13:20Z, and it is 2023-11-14T22:13:19Z now"),
        "{text}"
    );
    bench.clock.advance(Duration::from_secs(5 * 365 * 86_400));
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("than there are"), "{text}");
    bench.clock.set(Timestamp::from_millis(1_700_000_000_000));

    bench.change(&manifest, |text| {
        let newer = String::from_utf8_lossy(text).replace("\"format\":1", "\"format\":2");
        *text = newer.into_bytes();
    });
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Usage);
    assert!(text.contains("has format version 2"), "{text}");
    fs::write(&manifest, &whole).unwrap();

    let server = bench.path("backup").join("server.redb");
    let metadata = fs::read(&server).unwrap();
    bench.change(&server, |bytes| bytes.fill(0));
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("server.redb"), "{text}");
    fs::remove_file(&server).unwrap();
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("has 0 files of metadata, not 1"), "{text}");
    fs::write(&server, metadata).unwrap();

    fs::remove_file(bench.segment()).unwrap();
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("has 0 segments"), "{text}");

    fs::rename(&manifest, manifest.with_extension("json.new")).unwrap();
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Usage);
    assert!(text.ends_with("it was not finished"), "{text}");
    fs::remove_file(manifest.with_extension("json.new")).unwrap();
    let (exit, text) = bench.failure().await;
    assert_eq!(exit, Exit::Usage);
    assert!(text.ends_with("it has no file named backup.json"), "{text}");
}
