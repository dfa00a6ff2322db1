use std::{fs, sync::Arc};

use serde_json::Value;

use super::*;
use crate::{
    cli::{exit::Exit, output::Format},
    clock::SystemClock,
    event_log::{
        Config, EventLog,
        contract::Feeder,
        embedded::{DamageReport, DataDir, EmbeddedLog, LossReport},
    },
    metadata::{
        EmbeddedStore, Expected, MetadataStore, Scope,
        embedded::{SERVER_FILE, TENANT_FILE},
        records::{self, RulesRecord, TenantRecord, TopicRecord},
    },
};

/// A small log of version 1: a sealed segment and one that was left open.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/log-v1");
const TENANT: &str = "00D000000000001EAA";
const SEALED: &str = "0000000000000002-00000000.seg";
/// Behind the two copies of a segment's header, which take a page each.
const FIRST_BLOCK_OFFSET: usize = 8_192;

/// A data directory that holds a copy of the fixture.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let log = log_of(dir.path());
    drop(DataDir::open(dir.path()).unwrap());
    fs::create_dir_all(&log).unwrap();
    for file in fs::read_dir(FIXTURE).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), log.join(file.file_name())).unwrap();
    }
    let data_dir = dir.path().to_owned();
    // On a runtime of its own, since this is called from within others.
    let made = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(make_metadata(&data_dir));
    });
    made.join().unwrap();
    dir
}

/// Metadata that know the tenant and the topics of the fixture.
async fn make_metadata(data_dir: &Path) {
    let store = EmbeddedStore::new(data_dir);
    let tenant = TenantRecord {
        id: TENANT.into(),
        created_at_ms: 1,
    };
    let known = vec![records::change(&tenant, Expected::Absent)];
    store.write(Scope::Server, known).await.unwrap();
    let topics = [1, 2].map(|number| {
        let topic = topic(number, format!("/event/Topic_{number}__e"));
        records::change(&topic, Expected::Absent)
    });
    let tenant = Scope::Tenant(TENANT.parse().unwrap());
    store.write(tenant, topics.to_vec()).await.unwrap();
}

/// A topic without schemas.
fn topic(id: u32, name: String) -> TopicRecord {
    TopicRecord {
        name,
        id,
        current: String::new(),
        versions: Vec::new(),
        validates: true,
        idempotent: None,
        created_at_ms: 1,
        deleted_at_ms: None,
        former_ids: Vec::new(),
        rules: RulesRecord::default(),
        file_sha256: None,
    }
}

fn log_of(data_dir: &Path) -> PathBuf {
    data_dir.join("tenants").join(TENANT).join("log")
}

fn change(data_dir: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = log_of(data_dir).join(file);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

async fn info_of(data_dir: &Path, format: Format) -> String {
    let mut output = Output::new(format, Vec::new());
    info(data_dir, &mut output).await.unwrap();
    String::from_utf8(output.into_writer()).unwrap()
}

async fn verdict_on(data_dir: &Path, format: Format) -> (String, Result<(), Failure>) {
    let mut output = Output::new(format, Vec::new());
    let result = verify(data_dir, &mut output, &ProgressBar::hidden()).await;
    (String::from_utf8(output.into_writer()).unwrap(), result)
}

fn json(lines: &str) -> Vec<Value> {
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap();
    object.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_log_is_shown_with_its_segments_and_topics() {
    let dir = data_dir();
    let text = info_of(dir.path(), Format::Text).await;
    assert_eq!(
        text,
        "\
tenant            00D000000000001EAA
holds             264 events in 2 segments of 24.82 KiB
latest replay id  00000000000006010000
purged up to      -

SEGMENT                        EVENTS  SIZE       LAST REPLAY ID        LAST EVENT            SEALED BY
0000000000000002-00000000.seg  262     16.32 KiB  00000000000005010000  1970-01-01T00:16:45Z  writer
0000000000000006-00000000.seg  2       8.50 KiB   00000000000006010000  1970-01-01T00:16:45Z  -

TOPIC              EVENTS EVER  LATEST REPLAY ID
/event/Topic_1__e  261          00000000000006010000
/event/Topic_2__e  3            00000000000005010000
"
    );
}

#[tokio::test]
async fn a_whole_log_is_whole() {
    let dir = data_dir();
    let (text, result) = verdict_on(dir.path(), Format::Text).await;
    result.unwrap();
    assert_eq!(
        text,
        "00D000000000001EAA: whole; 264 events in 2 segments of 24.82 KiB\n"
    );
}

#[tokio::test]
async fn damage_is_told_with_file_topic_and_positions() {
    let dir = data_dir();
    change(dir.path(), SEALED, |bytes| {
        bytes[FIRST_BLOCK_OFFSET + 150] ^= 1;
    });
    let (text, result) = verdict_on(dir.path(), Format::Text).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert_eq!(failure.to_string(), "1 place is damaged");
    assert_eq!(
        text,
        "damage in 0000000000000002-00000000.seg at byte 8192: the body of a block is not what was \
         written; /event/Topic_1__e may have lost events after replay id 00000000000001ff0000 up to \
         00000000000002020000\n\
         lost: 3 events of /event/Topic_1__e after replay id 00000000000000000000 up to \
         00000000000003ff0000\n\
         00D000000000001EAA: damaged in 1 place; 264 events in 2 segments of 24.82 KiB\n"
    );
}

#[test]
fn advice_fits_the_damage() {
    let damage = DamageReport {
        file: SEALED.into(),
        offset: None,
        what: "it is broken".into(),
        topic: None,
        after: None,
        until: None,
    };
    let advice = |damage: &[DamageReport], losses: &[LossReport]| {
        let report = LogReport {
            damage: damage.to_vec(),
            losses: losses.to_vec(),
            ..LogReport::default()
        };
        Findings::new(&report).advice().join(" ")
    };
    assert_eq!(advice(&[], &[]), "");
    let loss = LossReport {
        topic: 1,
        name: None,
        events: 4,
        after: 1,
        until: 9,
    };
    let lost = advice(std::slice::from_ref(&damage), &[loss]);
    assert!(lost.contains("publish them again"), "{lost}");
    let harmless = advice(&[damage], &[]);
    assert!(
        harmless.contains("No event is known to be lost"),
        "{harmless}"
    );
    assert!(harmless.contains("`tidegate log repair`"), "{harmless}");
}

async fn repaired(data_dir: &Path, is_applied: bool) -> (String, Result<(), Failure>) {
    let mut output = Output::new(Format::Text, Vec::new());
    let hidden = ProgressBar::hidden();
    let result = repair::repair_all(data_dir, is_applied, &mut output, &hidden).await;
    (String::from_utf8(output.into_writer()).unwrap(), result)
}

#[tokio::test]
async fn a_repair_says_what_it_would_do_and_then_does_it() {
    let dir = data_dir();
    let (text, result) = repaired(dir.path(), false).await;
    assert_eq!(text, "");
    assert!(result.is_ok(), "a whole log needs none");
    change(dir.path(), SEALED, |bytes| {
        bytes[FIRST_BLOCK_OFFSET + 150] ^= 1;
    });
    let loss = "lost: 3 events of /event/Topic_1__e after replay id 00000000000000000000 up to \
                00000000000003ff0000";
    let (text, result) = repaired(dir.path(), false).await;
    assert_eq!(
        text,
        format!("to do: {SEALED}: make it anew from its intact blocks\n{loss}\n")
    );
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert!(failure.to_string().contains("--apply"), "{failure}");

    let (text, result) = repaired(dir.path(), true).await;
    assert!(result.is_ok());
    assert!(text.starts_with(&format!("done: {SEALED}: ")), "{text}");
    assert!(text.contains(&format!("{loss} (settled)\n")), "{text}");
    let kept = text
        .lines()
        .last()
        .unwrap()
        .strip_prefix("kept as it was: ");
    assert!(Path::new(kept.unwrap()).join(SEALED).is_file(), "{text}");

    let (text, result) = verdict_on(dir.path(), Format::Text).await;
    assert!(result.is_ok(), "{text}");
    assert!(text.contains("(settled)"), "{text}");
    assert!(text.contains("whole; 261 events"), "{text}");
    let mut output = Output::new(Format::Json, Vec::new());
    audit::audit(dir.path(), &mut output).await.unwrap();
    let entries = json(&String::from_utf8(output.into_writer()).unwrap());
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["action"], "repair");
}

#[tokio::test]
async fn a_log_in_use_is_not_repaired() {
    let dir = data_dir();
    let _owner = DataDir::open(dir.path()).unwrap();
    let (_, result) = repaired(dir.path(), true).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(
        failure.to_string().contains("in use by process"),
        "{failure}"
    );
}

#[tokio::test]
async fn json_has_the_documented_keys() {
    let dir = data_dir();
    let lines = json(&info_of(dir.path(), Format::Json).await);
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].clone()).collect();
    assert_eq!(kinds, ["log", "segment", "segment", "topic", "topic"]);

    change(dir.path(), SEALED, |bytes| bytes[FIRST_BLOCK_OFFSET] ^= 1);
    change(dir.path(), "state", |bytes| bytes.fill(0));
    let (damaged, _) = verdict_on(dir.path(), Format::Json).await;
    let damaged = json(&damaged);
    let log = damaged.last().unwrap();
    assert_eq!(log["damage"], damaged.len() - 1);
    assert_eq!(damaged[0]["file"], "state");
    assert_eq!(damaged[0]["topic"], Value::Null);
    for line in lines.iter().chain(&damaged) {
        let kind = line["kind"].as_str().unwrap();
        let mut help = INFO_HELP.lines().skip_while(|line| {
            let name = line.split_whitespace().next();
            name != Some(kind)
        });
        let first = help.next().unwrap();
        let rest = help.take_while(|line| line.starts_with("     "));
        let documented: Vec<_> = std::iter::once(first)
            .chain(rest)
            .flat_map(|line| line.split(|c: char| c != '_' && !c.is_alphanumeric()))
            .collect();
        for key in keys(line) {
            let is_documented = key == "kind" || documented.contains(&key);
            assert!(is_documented, "{kind}.{key}: {documented:?}");
        }
    }
}

#[tokio::test]
async fn a_log_that_a_gateway_has_open_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let owner = DataDir::open(dir.path()).unwrap();
    let log = EmbeddedLog::new(owner, Config::default(), Arc::new(SystemClock)).unwrap();
    let open = log.open(TENANT.parse().unwrap()).await.unwrap();
    let last = Feeder::new(&open, 1).append(3).await;
    let (text, result) = verdict_on(dir.path(), Format::Json).await;
    result.unwrap();
    let verdict = &json(&text)[0];
    assert_eq!(verdict["events"], 3);
    assert_eq!(verdict["latest_replay_id"], last.replay_id().to_string());
    let shown = json(&info_of(dir.path(), Format::Json).await);
    assert_eq!(shown[1]["sealed_by"], Value::Null);
    // And it goes on undisturbed.
    Feeder::new(&open, 2).append(1).await;
}

#[tokio::test]
async fn a_directory_without_a_log_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let refused = async |path: PathBuf| {
        let (text, result) = verdict_on(&path, Format::Text).await;
        assert_eq!(text, "");
        let failure = result.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage, "{failure}");
        failure.to_string()
    };
    let missing = refused(dir.path().join("missing")).await;
    assert!(missing.starts_with("there is no directory"), "{missing}");
    assert!(missing.ends_with("with --data-dir"), "{missing}");
    let empty = refused(dir.path().to_owned()).await;
    assert!(empty.contains("is not a data directory"), "{empty}");

    let newer = data_dir();
    fs::write(newer.path().join("version"), "tidegate 99\n").unwrap();
    let newer = refused(newer.path().to_owned()).await;
    assert!(newer.contains("format version 99"), "{newer}");
}

#[tokio::test]
async fn a_directory_without_events_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    drop(DataDir::open(dir.path()).unwrap());
    let (text, result) = verdict_on(dir.path(), Format::Text).await;
    result.unwrap();
    assert_eq!(text, "");
}

#[tokio::test]
async fn a_log_that_cannot_be_read_fails_with_the_reason() {
    let dir = data_dir();
    let segment = log_of(dir.path()).join(SEALED);
    fs::remove_file(&segment).unwrap();
    // Opening a directory works, reading it does not, whoever asks.
    fs::create_dir(&segment).unwrap();
    let (_, result) = verdict_on(dir.path(), Format::Text).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert!(failure.to_string().contains(SEALED), "{failure}");
}

fn metadata_of(data_dir: &Path) -> PathBuf {
    data_dir.join("tenants").join(TENANT).join(TENANT_FILE)
}

/// The lines about damage to metadata, each as its file and what it says.
async fn metadata_damage(data_dir: &Path) -> Vec<(String, String)> {
    let (text, result) = verdict_on(data_dir, Format::Json).await;
    let mut lines = json(&text);
    lines.retain(|line| line["kind"] == "damage");
    assert_eq!(result.is_err(), !lines.is_empty());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines
        .iter()
        .map(|line| (text(&line["file"]), text(&line["what"])))
        .collect()
}

#[tokio::test]
async fn damaged_missing_and_foreign_metadata_are_told_and_left_alone() {
    let dir = data_dir();
    let tenant = metadata_of(dir.path());
    let server = dir.path().join(SERVER_FILE);
    for (path, name) in [(&tenant, TENANT_FILE), (&server, SERVER_FILE)] {
        let whole = fs::read(path).unwrap();
        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        let truncated = &whole[..whole.len() / 8];
        let other = fs::read(if path == &tenant { &server } else { &tenant }).unwrap();
        for (content, words) in [
            (&flipped[..], "restore it from a backup"),
            (truncated, "restore it from a backup"),
            (b"", "it is empty"),
            (b"something else", "not written by this program"),
            (&other, "it belongs to"),
        ] {
            fs::write(path, content).unwrap();
            let found = metadata_damage(dir.path()).await;
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, name);
            assert!(found[0].1.contains(words), "{words}: {found:?}");
            assert_eq!(fs::read(path).unwrap(), content);
        }
        fs::remove_file(path).unwrap();
        let found = metadata_damage(dir.path()).await;
        assert_eq!(found, [(name.into(), "the file is missing".into())]);
        assert!(!path.exists());
        fs::write(path, whole).unwrap();
    }
    assert_eq!(metadata_damage(dir.path()).await, []);
}

#[tokio::test]
async fn metadata_that_do_not_belong_to_the_log_are_told_with_the_topic() {
    let dir = data_dir();
    fs::remove_file(metadata_of(dir.path())).unwrap();
    let store = EmbeddedStore::new(dir.path());
    let topic = topic(1, "/event/Other__e".into());
    let change = vec![records::change(&topic, Expected::Absent)];
    let scope = Scope::Tenant(TENANT.parse().unwrap());
    store.write(scope, change).await.unwrap();
    drop(store);
    let (text, result) = verdict_on(dir.path(), Format::Text).await;
    assert_eq!(result.unwrap_err().to_string(), "2 places are damaged");
    assert_eq!(
        text,
        "damage in metadata.redb: it does not belong to the log beside it: topic number 1 is \
         /event/Topic_1__e in the log and /event/Other__e in the metadata\n\
         damage in metadata.redb: it does not belong to the log beside it: the log has events of \
         /event/Topic_2__e as topic number 2, which the metadata do not know\n\
         00D000000000001EAA: whole; 264 events in 2 segments of 24.82 KiB\n"
    );
}

#[tokio::test]
async fn metadata_that_a_gateway_holds_are_not_called_damaged() {
    let dir = data_dir();
    fs::write(metadata_of(dir.path()), "half written").unwrap();
    let owner = DataDir::open(dir.path()).unwrap();
    assert_eq!(metadata_damage(dir.path()).await, []);
    drop(owner);
    assert_eq!(metadata_damage(dir.path()).await.len(), 1);
}

#[tokio::test]
async fn a_log_in_the_place_of_another_tenants_is_told() {
    let dir = data_dir();
    let tenants = dir.path().join("tenants");
    let stranger = tenants.join("00D000000000002EAA");
    fs::create_dir(&stranger).unwrap();
    fs::rename(log_of(dir.path()), stranger.join("log")).unwrap();
    let found = metadata_damage(dir.path()).await;
    let of_log = (
        "log".to_owned(),
        format!("the log belongs to tenant {TENANT}"),
    );
    let missing = (TENANT_FILE.to_owned(), "the file is missing".to_owned());
    assert_eq!(found[..2], [of_log, missing]);
    assert!(
        found[2]
            .1
            .contains("does not know tenant 00D000000000002EAA")
    );
}
