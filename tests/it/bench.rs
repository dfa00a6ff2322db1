//! `tidegate bench`: figures of runs that went through, and none of any other.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    gateway::{Gateway, Place, Settings, without_settings},
    wait::until,
};

/// Exit codes, as `tidegate --help` lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;

/// `tidegate bench` with these arguments, words separated by spaces, in a directory of its own.
fn bench(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    without_settings(&mut command);
    command.arg("bench").args(arguments.split(' '));
    command.current_dir(dir).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("the program can be run")
}

/// The rows that a command prints which succeeds, by their names.
#[track_caller]
fn rows(mut command: Command) -> Vec<(String, Value)> {
    command.args(["--output", "json"]);
    let output = run(command);
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let rows = stdout.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        (row["name"].as_str().unwrap().to_owned(), row)
    });
    rows.collect()
}

/// Holds a command to print no figure, and to end with this exit code and an error that has `word`.
#[track_caller]
fn expect_error(command: Command, code: i32, word: &str) {
    let output = run(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(word), "{stderr}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

/// A gateway with the topic of the load.
fn gateway(dir: &TempDir) -> Gateway {
    let schema = run(bench(dir.path(), "schema")).stdout;
    let schemas_dir = dir.path().join("schemas");
    fs::create_dir(&schemas_dir).unwrap();
    fs::write(schemas_dir.join("TidegateBench__e.avsc"), schema).unwrap();
    let place = Place {
        data_dir: dir.path().join("data"),
        schemas_dir,
    };
    Gateway::start_at(place, Settings::default())
}

fn against(gateway: &Gateway, arguments: &str) -> Command {
    let url = format!("http://{}", gateway.ready().grpc_addr);
    let mut command = gateway.command(&format!("bench {arguments}"));
    command.args(["--endpoint", &url]);
    command
}

#[test]
fn a_gateway_is_started_measured_and_gone() {
    let dir = tempfile::tempdir().unwrap();
    let load = "--events 4000 --batch 150 --streams 3 --runs 2";
    let publish = rows(bench(dir.path(), &format!("publish {load}")));
    let names: Vec<_> = publish.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "publish, batches of 150, 3 streams",
            "publish, batches of 150, 3 streams: processor time",
            "publish, batches of 150, 3 streams: peak memory",
        ]
    );
    for (_, row) in &publish {
        assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["runs"].as_array().unwrap().len(), 2, "{row}");
        assert_eq!((&row["aim"], &row["met"]), (&Value::Null, &Value::Null));
    }
    let catchup = rows(bench(dir.path(), "catchup --events 2000 --runs 1 --tls"));
    assert_eq!(catchup[0].1["unit"], "events/s");
    let latency = rows(bench(
        dir.path(),
        "latency --rate 2000 --duration 200ms --runs 1 --durability os",
    ));
    let quantiles: Vec<_> = latency
        .iter()
        .map(|(_, row)| row["value"].as_f64().unwrap())
        .collect();
    assert_eq!(quantiles.len(), 4);
    assert!(quantiles.is_sorted(), "{quantiles:?}");
    let calibrate = rows(bench(dir.path(), "calibrate --runs 1"));
    assert_eq!(calibrate.len(), 2);
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "the directories of the gateways are removed");
}

#[test]
fn a_table_is_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(bench(dir.path(), "publish --events 1000 --runs 1"));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(
        lines[0].starts_with("measured") && lines[0].contains("min to max"),
        "{stdout}"
    );
    assert!(lines[1].starts_with("publish, batches of 200 "), "{stdout}");
    assert!(output.stderr.is_empty(), "no progress without a terminal");
}

#[test]
fn a_gateway_that_is_named_is_measured_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(&dir);
    let publish = rows(against(&gateway, "publish --events 1000 --runs 1"));
    assert_eq!(publish.len(), 1, "nothing is known of its process");
    rows(against(&gateway, "catchup --events 1000 --runs 1"));
    rows(against(
        &gateway,
        "latency --rate 1000 --duration 100ms --runs 1",
    ));
    expect_error(against(&gateway, "publish --tls"), USAGE, "--endpoint");
    // Only what the command line names is put under load.
    let mut command = bench(dir.path(), "publish --events 1000 --runs 1");
    command.env("TIDEGATE_ENDPOINT", "http://127.0.0.1:1");
    assert!(run(command).status.success());
}

#[test]
fn what_goes_wrong_is_no_figure() {
    let dir = tempfile::tempdir().unwrap();
    let without_topic = Gateway::start();
    expect_error(
        against(&without_topic, "publish"),
        FAILED,
        "no topic /event/TidegateBench__e",
    );
    let nobody = "publish --endpoint http://127.0.0.1:1 --token 00D000000000001EAA!x \
                  --instance-url https://localhost";
    expect_error(bench(dir.path(), nobody), UNREACHABLE, "127.0.0.1:1");
    let mut no_directory = bench(dir.path(), "publish --runs 1");
    no_directory.args(["--dir", "not-there"]);
    expect_error(no_directory, FAILED, "cannot make a directory");
    for (absurd, bound) in [
        ("publish --events 0", "1..=1000000000"),
        ("publish --payload 5 --runs 1", "at least 62 bytes"),
        (
            "publish --payload 1048576 --runs 1",
            "at most 1048476 bytes",
        ),
        ("publish --payload 100000 --batch 50 --runs 1", "4194304"),
        ("publish --streams 100000", "1..=500"),
        ("latency --rate 0", "1..=5000000"),
        ("latency --duration 2h", "3600 s"),
        ("latency --rate 1 --batch 60 --runs 1", "at most 10 s"),
        ("calibrate --runs 0", "1..=1000"),
    ] {
        expect_error(bench(dir.path(), absurd), USAGE, bound);
    }
}

#[test]
fn a_gateway_that_dies_in_the_middle_is_no_figure() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = gateway(&dir);
    let mut command = against(&gateway, "publish --events 1000000000 --runs 1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    let log = dir.path().join("data/tenants");
    until("the load to arrive", || {
        (bytes_in(&log) > 30 << 20).then_some(())
    });
    gateway.kill();
    let output = running.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(UNREACHABLE), "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn a_bench_that_is_stopped_leaves_no_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = bench(dir.path(), "publish --events 1000000000 --runs 1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    until("the load to arrive", || {
        (bytes_in(dir.path()) > 30 << 20).then_some(())
    });
    let pid = running.id().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.unwrap().success());
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(FAILED), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        // Renamed or removed just now.
        Err(_) => 0,
    });
    bytes.sum()
}
