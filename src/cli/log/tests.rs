use std::{fs, sync::Arc};

use serde_json::Value;

use super::*;
use crate::{
    cli::{exit::Exit, output::Format},
    clock::SystemClock,
    event_log::{
        Config, EventLog,
        contract::Feeder,
        embedded::{DamageReport, DataDir, EmbeddedLog},
    },
    types::Position,
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
    dir
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
         00D000000000001EAA: damaged in 1 place; 264 events in 2 segments of 24.82 KiB\n"
    );
}

#[test]
fn advice_fits_the_damage() {
    let damage = |file: &str, after| DamageReport {
        file: file.into(),
        offset: None,
        what: "it is broken".into(),
        topic: None,
        after,
        until: Some(Position::MAX.get()),
    };
    let advice = |damage| {
        let report = LogReport {
            damage,
            ..LogReport::default()
        };
        Findings::new(&report).advice().join(" ")
    };
    assert_eq!(advice(vec![]), "");
    let lost = advice(vec![damage(SEALED, Some(7))]);
    assert!(lost.contains("publish them again"), "{lost}");
    assert!(!lost.contains("does not start"), "{lost}");
    let state = advice(vec![damage("state", None)]);
    assert!(state.contains("No event is known to be lost"), "{state}");
    assert!(state.contains("does not start"), "{state}");
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
