//! Subscribers that are killed, and whose gateway is: every event is handled, none is lost, and what is
//! recorded as done does not come again.

mod ops;
mod webhook;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    client::Client,
    gateway::Gateway,
    order::{self, TOPIC},
    random::Random,
    wait::until,
    wire::PublishRequest,
};

/// A subscriber that runs, and can be killed.
struct Running(Child, PathBuf);

impl Running {
    fn start(mut command: Command, dir: &Path) -> Self {
        let mut options = fs::File::options();
        let log = options
            .create(true)
            .append(true)
            .open(dir.join("subscriber.log"));
        let child = command
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(log.unwrap());
        let child = child.spawn().expect("the program can be run");
        Self(child, dir.join("subscriber.log"))
    }

    /// Where it says that its metrics are.
    fn metrics_addr(&self) -> String {
        until("address of the metrics", || {
            let log = fs::read_to_string(&self.1).unwrap_or_default();
            let (_, rest) = log.split_once("metrics are at http://")?;
            Some(rest.split_once("/metrics")?.0.to_owned())
        })
    }

    /// Has the process come to its end, and waits for it: what is handled is recorded then.
    fn end(&mut self) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
        until("the end of the subscriber", || self.0.try_wait().unwrap());
    }

    /// Ends the process at once, as `kill -9` does.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the subscriber's log:\n{}",
                fs::read_to_string(&self.1).unwrap_or_default()
            );
        }
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// `tidegate` with these arguments, of which the last is a text with spaces.
fn command(gateway: &Gateway, arguments: &str, last: &[&str]) -> Command {
    let mut command = gateway.command(arguments);
    command.args(last);
    command
}

/// The event ids in a file of JSON lines. A command that was killed may have left half of a line.
fn ids(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let id = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        Some(line["event_id"].as_str()?.to_owned())
    };
    text.lines().filter_map(id).collect()
}

/// Holds the ids to be those of all orders, each for the first time in order. Returns how often one came
/// again.
#[track_caller]
fn expect_all(ids: &[String], count: usize) -> usize {
    let mut seen = HashSet::new();
    let first: Vec<&String> = ids.iter().filter(|id| seen.insert(*id)).collect();
    let wanted: Vec<String> = (0..count).map(|number| format!("order-{number}")).collect();
    let missing: Vec<&String> = wanted.iter().filter(|id| !seen.contains(id)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(first.into_iter().eq(&wanted), "out of order");
    ids.len() - count
}

async fn publish(gateway: &Gateway, numbers: std::ops::Range<usize>) {
    let client = Client::connect(gateway).await;
    let request = PublishRequest::new(TOPIC, order::events(numbers));
    client.publish(&request).await.unwrap();
}

/// Publishes orders while `start` runs subscribers, each of which but the last is killed, and so is the
/// gateway; returns when all are among those that `arrived`, and the last has ended.
async fn through_kills(
    gateway: &mut Gateway,
    arrived: impl Fn() -> Vec<String>,
    rounds: usize,
    start: impl Fn(&Gateway) -> Running,
) -> usize {
    const EVENTS: usize = 20;
    let mut random = Random::new(7);
    let mut subscriber = start(gateway);
    for round in 0..rounds {
        publish(gateway, round * EVENTS..(round + 1) * EVENTS).await;
        let some = round * EVENTS + random.below(EVENTS);
        // Those that came again do not count: one of this round has come, so that whoever was started
        // in the last one is connected.
        until("some of the events", || {
            let different: HashSet<String> = arrived().into_iter().collect();
            (different.len() > some).then_some(())
        });
        if round % 2 == 0 {
            subscriber.kill();
            subscriber = start(gateway);
        } else {
            gateway.kill();
            gateway.restart_in_place();
        }
    }
    let count = rounds * EVENTS;
    let last = format!("order-{}", count - 1);
    until("the last event", || arrived().contains(&last).then_some(()));
    // One that was killed might not have recorded it yet.
    subscriber.end();
    count
}

/// How many rounds: each kills one side.
const ROUNDS: usize = 8;

#[tokio::test]
async fn a_command_gets_every_event_through_kills_of_both_sides() {
    let mut gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("handled.ndjson");
    let start = |gateway: &Gateway| {
        let arguments =
            format!("subscribe {TOPIC} --from earliest --state state --save-every 1 --exec");
        Running::start(
            command(gateway, &arguments, &["cat >> handled.ndjson"]),
            dir.path(),
        )
    };
    let count = through_kills(&mut gateway, || ids(&file), ROUNDS, start).await;
    let again = expect_all(&ids(&file), count);
    // One that was at work when the client was killed, and those whose record was on its way.
    let kills = ROUNDS / 2;
    assert!(again <= 3 * kills, "{again} came again after {kills} kills");

    // Whoever comes next finds nothing to do, and what is recorded stays so.
    let arguments =
        format!("subscribe {TOPIC} --from earliest --state state --idle-exit 1s --exec");
    let mut next = command(&gateway, &arguments, &["cat >> handled.ndjson"]);
    let output = next.current_dir(dir.path()).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(ids(&file).len(), count + again);
}

#[tokio::test]
async fn a_file_gets_every_event_through_kills_of_both_sides() {
    let mut gateway = Gateway::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    let start = |gateway: &Gateway| {
        let arguments = format!(
            "subscribe {TOPIC} --from earliest --checkpoint place --save-every 1 --to-file events.ndjson"
        );
        Running::start(gateway.command(&arguments), dir.path())
    };
    let count = through_kills(&mut gateway, || ids(&file), ROUNDS, start).await;
    expect_all(&ids(&file), count);
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(serde_json::from_str::<Value>);
    lines
        .collect::<Result<Vec<_>, _>>()
        .expect("no line is broken");
}

#[tokio::test]
async fn a_managed_subscription_gets_every_event_through_kills_of_both_sides() {
    let mut gateway = Gateway::start();
    let made = gateway
        .command(&format!(
            "managed create Fulfilment --topic {TOPIC} --default-replay earliest"
        ))
        .output()
        .unwrap();
    assert!(made.status.success());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("handled.ndjson");
    let start = |gateway: &Gateway| {
        let arguments = "managed subscribe Fulfilment --state state --save-every 1 --exec";
        Running::start(
            command(gateway, arguments, &["cat >> handled.ndjson"]),
            dir.path(),
        )
    };
    let count = through_kills(&mut gateway, || ids(&file), ROUNDS, start).await;
    expect_all(&ids(&file), count);
}

#[tokio::test]
async fn keys_keep_their_order_while_one_of_them_fails() {
    let gateway = Gateway::start();
    let orders = (0..40).map(|number| {
        let payload = json!({"Order_Number__c": format!("A-{number}"), "Amount__c": number % 4});
        json!({"event_id": format!("order-{number}"), "payload": payload}).to_string() + "\n"
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("orders"), orders.collect::<String>()).unwrap();
    let mut publishing = gateway.command(&format!("publish {TOPIC} --file orders"));
    let published = publishing.current_dir(dir.path()).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    let file = dir.path().join("handled.ndjson");
    // The third order fails until a file is there, and others with its amount wait for it.
    let script = "line=$(cat); if [ $TIDEGATE_EVENT_ID = order-2 ] && [ ! -e go ]; then exit 1; fi; \
                  echo \"$line\" >> handled.ndjson";
    let arguments = format!(
        "subscribe {TOPIC} --from earliest --state state --order key:Amount__c --retry-wait 50ms \
         --retry-wait-max 100ms --attempts 1000 --count 40 --exec"
    );
    let mut running = Running::start(command(&gateway, &arguments, &[script]), dir.path());
    until("three of four amounts", || {
        (ids(&file).len() == 30).then_some(())
    });
    fs::write(dir.path().join("go"), "").unwrap();
    let status = until("the end", || running.0.try_wait().unwrap());
    assert!(status.success());
    let text = fs::read_to_string(&file).unwrap();
    let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let number = line["event_id"].as_str().unwrap()["order-".len()..]
            .parse()
            .unwrap();
        let key = line["payload"]["Amount__c"].to_string();
        by_key.entry(key).or_default().push(number);
    }
    let count: usize = by_key.values().map(Vec::len).sum();
    assert_eq!(count, 40);
    assert_eq!(by_key.len(), 4);
    for (key, numbers) in by_key {
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
}

/// Holds a command to end with a failure, and to have taken no more memory than one does that was sent
/// nothing large.
#[track_caller]
fn fails_in_bounded_memory(command: &mut Command) {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kb = 0;
    let status = until("the end", || {
        let text = fs::read_to_string(&status_file).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        peak_kb = kb.unwrap_or(peak_kb);
        child.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(1));
    assert!(peak_kb < 200_000, "{peak_kb} kB");
}

#[tokio::test]
async fn a_command_that_prints_without_end_fills_no_memory() {
    let gateway = Gateway::start();
    publish(&gateway, 0..1).await;
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!("subscribe {TOPIC} --from earliest --count 1 --state state --exec");
    // A gigabyte on each of its outputs, and a reason at the end.
    let script = "head -c 1000000000 /dev/zero; head -c 1000000000 /dev/zero >&2; \
                  echo the reason >&2; exit 65";
    let mut command = command(&gateway, &arguments, &[script]);
    fails_in_bounded_memory(command.current_dir(dir.path()));
    let list = gateway
        .command("deadletter list --state state --output json")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let letter: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert!(letter["cause"].as_str().unwrap().contains("the reason"));
    assert!(letter["cause"].as_str().unwrap().len() < 5_000);
}
