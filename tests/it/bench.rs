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
    assert_eq!(calibrate.len(), 3);
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "the directories of the gateways are removed");
}

#[test]
fn subscribers_get_every_event_while_they_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let fanout = rows(bench(
        dir.path(),
        "fanout --events 3000 --subscribers 5 --topics 2 --slow-subscribers 1 --client stock --runs 1",
    ));
    let name = "fan-out, 2 topics, 5 subscribers, stock client, 1 slow";
    assert_eq!(fanout[0].0, name);
    assert!(fanout[0].1["value"].as_f64().unwrap() > 0.0);
    assert_eq!(fanout[1].0, format!("{name}: published"));
    let publish = rows(bench(
        dir.path(),
        "publish --events 3000 --subscribers 1 --runs 1",
    ));
    assert_eq!(publish[0].0, "publish, 1 subscriber: delivered");
    assert_eq!(publish[1].0, "publish, 1 subscriber");
    let idle = rows(bench(
        dir.path(),
        "idle --subscriptions 40 --connections 3 --duration 1s --runs 1",
    ));
    let names: Vec<_> = idle.iter().map(|(name, _)| name.as_str()).collect();
    let what = "40 idle subscriptions over 3 connections";
    let wanted = [
        "idle gateway: memory".to_owned(),
        format!("{what}: memory of each"),
        format!("{what}: processor"),
    ];
    assert_eq!(names, wanted);
    let overload = rows(bench(
        dir.path(),
        "overload --duration 1s --streams 2 --calls 4 --payload 2000 --runs 1",
    ));
    let memory = &overload[2].1;
    assert_eq!(memory["met"], true, "{memory}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn single_calls_and_checks_are_measured() {
    let dir = tempfile::tempdir().unwrap();
    let unary = rows(bench(
        dir.path(),
        "unary --calls 300 --in-flight 7 --runs 2",
    ));
    assert_eq!(unary[0].0, "unary publish, 7 in flight");
    assert_eq!(unary[0].1["unit"], "calls/s");
    let validate = rows(bench(dir.path(), "validate --events 1000 --runs 2"));
    assert_eq!(validate[0].1["unit"], "ns");
    assert_eq!(validate[0].1["aim"], 150.0);
}

#[test]
fn a_start_is_measured_on_a_history_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let made = run(bench(dir.path(), "history old --gb 0.02"));
    assert!(made.status.success(), "{made:?}");
    assert!(made.stdout.is_empty(), "{made:?}");
    assert!(String::from_utf8_lossy(&made.stderr).contains("bench start --history old"));
    let bytes = bytes_in(&dir.path().join("old"));
    assert!(bytes > 20 << 20, "{bytes}");
    let start = rows(bench(dir.path(), "start --history old --runs 2"));
    assert!(start[0].0.ends_with("GB of history"), "{}", start[0].0);
    assert!(start[0].1["value"].as_f64().unwrap() > 0.0);
    assert!(
        bytes_in(&dir.path().join("old")) > 20 << 20,
        "it is still there"
    );
    let without = rows(bench(dir.path(), "start --runs 1"));
    assert_eq!(without[0].0, "start without history");
    expect_error(
        bench(dir.path(), "start --history none --runs 1"),
        USAGE,
        "tidegate bench history none",
    );
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
    assert!(lines[1].starts_with("publish  "), "{stdout}");
    assert!(output.stderr.is_empty(), "no progress without a terminal");
}

#[test]
fn a_gateway_that_is_named_is_measured_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = gateway(&dir);
    let publish = rows(against(&gateway, "publish --events 1000 --runs 1"));
    assert_eq!(publish.len(), 1, "nothing is known of its process");
    // What was published before is not counted.
    rows(against(&gateway, "catchup --events 1000 --runs 2"));
    rows(against(
        &gateway,
        "fanout --events 1000 --subscribers 2 --runs 2",
    ));
    rows(against(&gateway, "unary --calls 100 --runs 1"));
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
        ("publish --streams 100000", "1..=1000"),
        ("publish --topics 0", "1..=1000"),
        ("fanout --subscribers 0", "1..=500"),
        ("unary --in-flight 1001", "1..=1000"),
        ("validate --payload 3", "at least 62 bytes"),
        ("history old --gb 0", "0.001 to 10000"),
        ("idle --subscriptions 0", "1..=100000"),
        ("idle --subscriptions 2001 --connections 2", "at most 2000"),
        ("publish --batch 10001", "1..=10000"),
        ("idle --endpoint http://127.0.0.1:1", "--endpoint"),
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
