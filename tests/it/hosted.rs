//! The clients against a gateway that is set to behave as the hosted service does, with its times made
//! short: a credit of 100 and no more, keepalives, streams that are closed while nothing is published or
//! committed, and tokens that run out.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    gateway::{Gateway, Settings},
    http::get,
    order::TOPIC,
    wait::{until, until_true},
};

fn hosted() -> Gateway {
    Gateway::start_with(Settings {
        environment: vec![
            ("TIDEGATE_BROKER__CREDIT_MAX_EXTENDED", "100"),
            ("TIDEGATE_BROKER__KEEPALIVE", "200ms"),
            ("TIDEGATE_BROKER__ZERO_CREDIT_GRACE", "1s"),
            ("TIDEGATE_BROKER__MANAGED_NO_COMMIT_TIMEOUT", "1s"),
            ("TIDEGATE_GRPC__PUBLISH_STREAM_IDLE", "1s"),
        ],
        ..Settings::default()
    })
}

/// What a command prints, which is to succeed.
#[track_caller]
fn done(gateway: &Gateway, dir: &Path, arguments: &str, last: &[&str]) -> String {
    let mut command = gateway.command(arguments);
    let output = command.args(last).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Events in a file, in the order of their numbers.
fn write_orders(file: &Path, numbers: std::ops::Range<usize>) {
    let order = |number| {
        let payload = json!({"Order_Number__c": format!("A-{number}")});
        json!({"event_id": format!("order-{number}"), "payload": payload}).to_string() + "\n"
    };
    fs::write(file, numbers.map(order).collect::<String>()).unwrap();
}

#[track_caller]
fn expect_orders(lines: &str, count: usize) {
    let ids = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["event_id"].as_str().unwrap().to_owned()
    });
    let wanted: Vec<_> = (0..count).map(|number| format!("order-{number}")).collect();
    assert_eq!(ids.collect::<Vec<_>>(), wanted);
}

#[test]
fn a_credit_of_100_brings_every_event_of_a_topic_and_of_a_managed_subscription() {
    const EVENTS: usize = 2_000;
    let gateway = hosted();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let create = "managed create Fulfilment --default-replay earliest --topic";
    done(&gateway, dir, create, &[TOPIC]);
    write_orders(&dir.join("orders"), 0..EVENTS);
    done(&gateway, dir, "publish --file orders", &[TOPIC]);

    let count = EVENTS.to_string();
    let end = ["--count", &count, "--output", "json"];
    let subscribe = format!("subscribe {TOPIC} --from earliest");
    expect_orders(&done(&gateway, dir, &subscribe, &end), EVENTS);
    let managed = "managed subscribe Fulfilment";
    expect_orders(&done(&gateway, dir, managed, &end), EVENTS);
}

#[test]
fn a_handler_that_is_slower_than_the_gateways_patience_loses_and_repeats_nothing() {
    let gateway = hosted();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let create = "managed create Fulfilment --default-replay earliest --topic";
    done(&gateway, dir, create, &[TOPIC]);
    write_orders(&dir.join("orders"), 0..4);
    done(&gateway, dir, "publish --file orders", &[TOPIC]);
    // One event at a time, each of which takes longer than a stream may be without credit, and a
    // managed one without commits.
    let slow = ["line=$(cat); sleep 1.5; echo \"$line\" >> handled"];
    let end = "--max-in-flight 1 --count 4 --state";
    for (what, state) in [
        (format!("subscribe {TOPIC} --from earliest"), "topic"),
        ("managed subscribe Fulfilment".to_owned(), "managed"),
    ] {
        let arguments = format!("{what} {end} {state} --exec");
        done(&gateway, dir, &arguments, &slow);
        let handled = fs::read_to_string(dir.join("handled")).unwrap();
        expect_orders(&handled, 4);
        fs::remove_file(dir.join("handled")).unwrap();
    }
}

/// What the gateway counted, of the series that begins so; 0 if it counted nothing yet.
async fn counted(gateway: &Gateway, name: &str, labels: &[&str]) -> f64 {
    let (_, metrics) = get(gateway, "/metrics").await;
    let mut lines = metrics.lines();
    let line = lines.find(|line| {
        let is_it = |label: &&str| line.contains(label);
        line.starts_with(name) && labels.iter().all(is_it)
    });
    let value = line.and_then(|line| line.rsplit_once(' '));
    value.map_or(0.0, |(_, value)| value.parse().unwrap())
}

/// A command that runs, and is killed if the test fails.
struct Running(Child);

impl Running {
    fn start(mut command: Command, dir: &Path) -> Self {
        let file = |name| fs::File::create(dir.join(name)).unwrap();
        command.current_dir(dir).stdin(Stdio::piped());
        command.stdout(file("out")).stderr(file("err"));
        Self(command.spawn().unwrap())
    }

    #[track_caller]
    fn succeeds(mut self, dir: &Path) -> String {
        drop(self.0.stdin.take());
        let status = until("the end", || self.0.try_wait().unwrap());
        assert!(status.success(), "{}", lines(dir, "err"));
        lines(dir, "out")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn lines(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[tokio::test]
async fn a_publisher_that_pauses_longer_than_its_stream_may_goes_on() {
    let gateway = hosted();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_orders(&dir.join("first"), 0..10);
    write_orders(&dir.join("second"), 10..20);
    let publish = format!("publish {TOPIC} - --output json");
    let mut publishing = Running::start(gateway.command(&publish), dir);
    let input = publishing.0.stdin.as_mut().unwrap();
    let mut write = |name| {
        input.write_all(lines(dir, name).as_bytes()).unwrap();
    };
    write("first");
    until("ten results", || {
        (lines(dir, "out").lines().count() == 10).then_some(())
    });
    until_true("the end of the idle stream", async || {
        let labels = ["\"PublishStream\"", "sweeper.timeout"];
        counted(&gateway, "tidegate_grpc_calls_ended_total", &labels).await > 0.0
    })
    .await;
    write("second");
    publishing.succeeds(dir);
    let end = ["--count", "20", "--output", "json"];
    let subscribe = format!("subscribe {TOPIC} --from earliest");
    expect_orders(&done(&gateway, dir, &subscribe, &end), 20);
}

#[test]
fn a_token_that_runs_out_again_and_again_costs_no_event() {
    const ROUNDS: usize = 3;
    const TOKEN_LIFETIME: Duration = Duration::from_secs(3);
    let mut gateway = Gateway::start_with(Settings {
        environment: vec![
            ("TIDEGATE_BROKER__CREDIT_MAX_EXTENDED", "100"),
            ("TIDEGATE_AUTH__TOKEN_LIFETIME", "3s"),
        ],
        ..Settings::default()
    });
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let client = done(
        &gateway,
        dir,
        "client create --name shop --output json",
        &[],
    );
    let client: Value = serde_json::from_str(&client).unwrap();
    fs::write(
        dir.join("secret"),
        client["client_secret"].as_str().unwrap(),
    )
    .unwrap();
    let login = format!("https://{}", gateway.ready().https_addr);
    let sign_in = [
        "--login-url",
        &login,
        "--client-id",
        client["client_id"].as_str().unwrap(),
        "--client-secret-file",
    ];
    let secret = dir.join("secret");
    let signed_in = |gateway: &Gateway, arguments: String| {
        let mut command = gateway.command(&arguments);
        command.args(sign_in).arg(&secret);
        command
    };
    let (there, back) = (dir.join("publisher"), dir.join("subscriber"));
    fs::create_dir(&there).unwrap();
    fs::create_dir(&back).unwrap();
    let count = ROUNDS * 10;
    let subscribe = format!("subscribe {TOPIC} --from earliest --count {count} --output json");
    let subscriber = Running::start(signed_in(&gateway, subscribe), &back);
    let publish = format!("publish {TOPIC} - --output json");
    let mut publisher = Running::start(signed_in(&gateway, publish), &there);
    for round in 0..ROUNDS {
        write_orders(&dir.join("orders"), round * 10..(round + 1) * 10);
        let input = publisher.0.stdin.as_mut().unwrap();
        input.write_all(lines(dir, "orders").as_bytes()).unwrap();
        until("the events of this round", || {
            let got = lines(&back, "out").lines().count();
            (got == (round + 1) * 10).then_some(())
        });
        // A stream outlives its token; the next one needs another.
        gateway.kill();
        let gone_at = Instant::now();
        until("the end of every token", || {
            (gone_at.elapsed() > TOKEN_LIFETIME).then_some(())
        });
        gateway.restart_in_place();
    }
    publisher.succeeds(&there);
    expect_orders(&subscriber.succeeds(&back), count);
}
