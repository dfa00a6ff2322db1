//! Managed subscriptions as operators and programs use them: made on the command line, read over the
//! wire, and had by one stream at a time.

use std::{
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::support::{
    client::{Client, code},
    gateway::{Gateway, Settings},
    http,
    order::{self, TOPIC},
    wait::{until_true, within},
    wire::{FetchRequest, ManagedFetchRequest, ManagedFetchResponse, PublishRequest},
};

const NAME: &str = "Fulfilment";
/// Exit codes, as `tidegate --help` lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_PERMITTED: i32 = 4;

fn run(gateway: &Gateway, arguments: &str) -> Output {
    let mut command = gateway.command(arguments);
    command.output().expect("the program can be run")
}

/// The JSON lines that a command prints which succeeds.
#[track_caller]
fn rows(gateway: &Gateway, arguments: &str) -> Vec<Value> {
    let output = run(gateway, &format!("{arguments} --output json"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let rows = stdout.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().unwrap()
}

/// Holds a command to end with this exit code and an error that has `word`.
#[track_caller]
fn expect_error(gateway: &Gateway, arguments: &str, exit: i32, word: &str) {
    let output = run(gateway, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments}: {stderr}");
    assert!(stderr.contains(word), "{arguments}: {stderr}");
}

/// Makes the subscription, from the earliest event on.
fn create(gateway: &Gateway, more: &str) -> Value {
    let command = format!("managed create {NAME} --topic {TOPIC} --default-replay earliest{more}");
    rows(gateway, &command).remove(0)
}

async fn publish(client: &Client, numbers: std::ops::Range<usize>) {
    let request = PublishRequest::new(TOPIC, order::events(numbers));
    client.publish(&request).await.unwrap();
}

/// Opens a stream of the subscription.
async fn open(client: &Client) -> crate::support::client::Call {
    let mut call = client.call("ManagedSubscribe").await;
    call.send(&ManagedFetchRequest::first(NAME, 100));
    call
}

/// Opens a stream of the subscription, and tells whether it has it.
async fn is_free(client: &Client) -> bool {
    let mut call = open(client).await;
    match call.next::<ManagedFetchResponse>().await {
        Ok(response) => response.is_some(),
        Err(failure) => {
            let suffix = "managed.subscription.already.active";
            failure.expect("ManagedSubscribe", code::ALREADY_EXISTS, suffix);
            false
        }
    }
}

fn ids(rows: &[Value]) -> Vec<&str> {
    let ids = rows.iter().map(|row| row["event_id"].as_str().unwrap());
    ids.collect()
}

#[tokio::test]
async fn a_subscription_is_made_read_followed_and_deleted_on_the_command_line() {
    let mut gateway = Gateway::start();
    let made = create(&gateway, "");
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("18x") && id.len() == 18, "{id}");
    assert_eq!(
        (&made["state"], &made["takeover"]),
        (&"RUN".into(), &"refuse".into())
    );
    let client = Client::connect(&gateway).await;
    publish(&client, 0..5).await;
    let listed = rows(&gateway, "managed list").remove(0);
    assert_eq!(
        (&listed["events_behind"], &listed["active"]),
        (&5.into(), &false.into())
    );
    assert!(
        listed["seconds_to_loss"].as_f64().unwrap() > 250_000.0,
        "{listed}"
    );

    let read = rows(&gateway, &format!("managed subscribe {NAME} --count 2"));
    assert_eq!(ids(&read), ["order-0", "order-1"]);
    assert_eq!(read[0]["topic"], TOPIC);
    let position = rows(&gateway, "managed positions").remove(0);
    assert_eq!(position["committed_replay_id"], read[1]["replay_id"]);
    assert_eq!(position["events_behind"], 3);
    // It goes on behind the commit, also after a restart, and by its id.
    gateway.kill_and_restart();
    let read = rows(
        &gateway,
        &format!("managed subscribe {id} --idle-exit 300ms"),
    );
    assert_eq!(ids(&read), ["order-2", "order-3", "order-4"]);
    let described = rows(&gateway, &format!("topic describe {TOPIC}")).remove(0);
    assert_eq!(described["subscribers"][0]["name"], NAME);
    assert_eq!(described["subscribers"][0]["events_behind"], 0);

    let stopped = rows(&gateway, &format!("managed update {NAME} --state stop")).remove(0);
    assert_eq!(
        (&stopped["state"], &stopped["version"]),
        (&"STOP".into(), &2.into())
    );
    expect_error(
        &gateway,
        &format!("managed subscribe {NAME}"),
        FAILED,
        "stopped",
    );
    let deleted = run(&gateway, &format!("managed delete {NAME} --yes"));
    assert!(deleted.status.success());
    assert!(rows(&gateway, "managed list").is_empty());
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_was_wanted() {
    let gateway = Gateway::start();
    create(&gateway, "");
    let topic = format!("--topic {TOPIC}");
    for (arguments, exit, word) in [
        (format!("managed create {NAME} {topic}"), FAILED, "already"),
        (
            format!("managed create 1st {topic}"),
            FAILED,
            "begins with a letter",
        ),
        (
            format!("managed create Two__e {topic}"),
            FAILED,
            "two of them in a row",
        ),
        (
            "managed create Other --topic /event/Nothing__e".into(),
            FAILED,
            "no such topic",
        ),
        (
            format!("managed create Other {topic} --default-replay newest"),
            USAGE,
            "earliest",
        ),
        (
            format!("managed create Other {topic} --sharing 4"),
            USAGE,
            "--key",
        ),
        (
            format!("managed create Other {topic} --key A__c"),
            USAGE,
            "--sharing",
        ),
        (
            format!("managed create Other {topic} --sharing 1 --key A__c"),
            USAGE,
            "2..=64",
        ),
        (
            format!("managed create Other {topic} --sharing 4 --key A__c"),
            FAILED,
            "has no such field",
        ),
        ("managed create Other".into(), USAGE, "--topic"),
        (
            "managed create Other --topic OrderCreated__e".into(),
            USAGE,
            "begins with /event/",
        ),
        // It is of one topic for ever.
        (format!("managed update {NAME} {topic}"), USAGE, "--topic"),
        (
            "managed update Nobody --state stop".into(),
            FAILED,
            "no such managed",
        ),
        (format!("managed update {NAME} --state pause"), USAGE, "run"),
        (format!("managed update {NAME}"), USAGE, "what to change"),
        (format!("managed delete {NAME}"), USAGE, "--yes"),
        (
            "managed delete Nobody --yes".into(),
            FAILED,
            "no such managed",
        ),
        ("managed release Nobody".into(), FAILED, "no such managed"),
        ("managed subscribe Nobody".into(), FAILED, "managed list"),
        (format!("managed subscribe {NAME} --count 0"), USAGE, "0"),
    ] {
        expect_error(&gateway, &arguments, exit, word);
    }
    // Somebody who may subscribe to its topic may see and read it, and no more.
    let token = run(&gateway, &format!("token create --subscribe {TOPIC}"));
    let token = String::from_utf8(token.stdout).unwrap();
    let as_subscriber = |arguments: &str| {
        let mut command = gateway.command(arguments);
        command.env("TIDEGATE_TOKEN", token.trim());
        command.output().unwrap()
    };
    let listed = as_subscriber("managed list --output json");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(NAME));
    for arguments in [
        format!("managed create Other {topic}"),
        format!("managed update {NAME} --state stop"),
        format!("managed delete {NAME} --yes"),
        format!("managed release {NAME}"),
    ] {
        let refused = as_subscriber(&arguments);
        assert_eq!(refused.status.code(), Some(NOT_PERMITTED), "{arguments}");
    }
    let token = run(
        &gateway,
        "token create --subscribe /event/OrderStatusUpdated__e",
    );
    let token = String::from_utf8(token.stdout).unwrap();
    let mut command = gateway.command("managed list --output json");
    command.env("TIDEGATE_TOKEN", token.trim());
    assert!(command.output().unwrap().stdout.is_empty());
}

#[tokio::test]
async fn a_stream_has_it_until_it_ends_is_released_or_taken_over() {
    let gateway = Gateway::start();
    create(&gateway, "");
    let client = Client::connect(&gateway).await;
    publish(&client, 0..3).await;
    let mut holder = open(&client).await;
    let fetched: ManagedFetchResponse = holder.next().await.unwrap().unwrap();
    assert_eq!(fetched.events.len(), 3);
    assert!(!is_free(&client).await);
    assert_eq!(rows(&gateway, "managed list")[0]["active"], true);
    assert!(
        run(&gateway, &format!("managed release {NAME}"))
            .status
            .success()
    );
    let suffix = "subscription.internal.error";
    holder
        .failure()
        .await
        .expect("ManagedSubscribe", code::INTERNAL, suffix);
    assert!(is_free(&client).await);

    rows(
        &gateway,
        &format!("managed update {NAME} --takeover newest"),
    );
    let mut former = open(&client).await;
    former.next::<ManagedFetchResponse>().await.unwrap();
    let mut newest = open(&client).await;
    newest.next::<ManagedFetchResponse>().await.unwrap();
    let suffix = "managed.subscription.already.active";
    let status = code::FAILED_PRECONDITION;
    former
        .failure()
        .await
        .expect("ManagedSubscribe", status, suffix);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_subscriber_stands_by_until_the_first_is_gone() {
    let gateway = Gateway::start();
    create(&gateway, "");
    let client = Client::connect(&gateway).await;
    publish(&client, 0..3).await;
    let mut first = open(&client).await;
    let fetched: ManagedFetchResponse = first.next().await.unwrap().unwrap();
    let mut command = gateway.command(&format!("managed subscribe {NAME} --count 2"));
    command.args(["--output", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let standby = command.kill_on_drop(true).spawn();
    let mut standby = standby.expect("the program can be run");
    let mut said = String::new();
    let mut stderr = BufReader::new(standby.stderr.as_mut().expect("it is piped"));
    let line = within("word of the wait", stderr.read_line(&mut said)).await;
    line.unwrap();
    assert!(
        said.contains("another stream has the managed subscription"),
        "{said}"
    );
    let replay_id = &fetched.events[0].replay_id;
    first.send(&ManagedFetchRequest::commit("c", replay_id, 0));
    first.half_close();
    first.next::<ManagedFetchResponse>().await.unwrap();
    first.end().await.unwrap();
    let output = within("end of the standby", standby.wait_with_output()).await;
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(ids(&rows), ["order-1", "order-2"]);
}

/// A program that subscribes, and the ids of the events that it has printed.
struct Program {
    child: tokio::process::Child,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn subscribe(gateway: &Gateway) -> Self {
        let mut command = gateway.command(&format!("managed subscribe {NAME}"));
        command.args(["--output", "json"]).stdout(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let printed: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&printed);
        tokio::spawn(async move {
            let mut stdout = stdout.lines();
            while let Ok(Some(line)) = stdout.next_line().await {
                let event: Value = serde_json::from_str(&line).unwrap();
                let id = event["event_id"].as_str().unwrap().to_owned();
                lines.lock().unwrap().push(id);
            }
        });
        Self { child, printed }
    }

    fn printed(&self) -> Vec<String> {
        self.printed.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_share_one_split_its_events_and_go_on_for_each_other() {
    let gateway = Gateway::start();
    let made = create(&gateway, " --sharing 2 --key Order_Number__c");
    assert_eq!(
        (&made["sharing"], &made["sharing_key"]),
        (&2.into(), &"Order_Number__c".into())
    );
    let streams = |expected: u64| {
        let listed = rows(&gateway, "managed list").remove(0);
        listed["streams"] == expected
    };
    let mut first = Program::subscribe(&gateway);
    let second = Program::subscribe(&gateway);
    until_true("second stream", async || streams(2)).await;
    let client = Client::connect(&gateway).await;
    publish(&client, 0..100).await;
    until_true("100 events", async || {
        first.printed().len() + second.printed().len() == 100
    })
    .await;
    let (of_first, of_second) = (first.printed(), second.printed());
    assert!(of_first.len() > 20 && of_second.len() > 20, "{of_first:?}");
    assert!(of_first.iter().all(|id| !of_second.contains(id)));
    let mut third = open(&client).await;
    let suffix = "managed.subscription.already.active";
    let refused = third.failure().await;
    refused.expect("ManagedSubscribe", code::ALREADY_EXISTS, suffix);
    assert!(refused.message.contains("2 streams share"));

    first.child.kill().await.unwrap();
    until_true("end of the first", async || streams(1)).await;
    publish(&client, 100..200).await;
    let later: Vec<_> = (100..200).map(|number| format!("order-{number}")).collect();
    until_true("what the first would have got", async || {
        let printed = second.printed();
        later.iter().all(|id| printed.contains(id))
    })
    .await;
    // What comes again is what the first had not committed.
    let mut again = second.printed();
    again.retain(|id| !later.contains(id) && !of_second.contains(id));
    assert!(again.iter().all(|id| of_first.contains(id)), "{again:?}");
}

/// A peer that is gone without a word, behind a router that forgot the connection.
#[tokio::test]
async fn a_dead_peer_is_found_by_its_silence_and_its_slot_is_free() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: false,
        environment: vec![
            ("TIDEGATE_GRPC__PING_INTERVAL", "1s"),
            ("TIDEGATE_GRPC__PING_TIMEOUT", "1s"),
        ],
    });
    create(&gateway, "");
    let router = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = router.local_addr().unwrap().to_string();
    let (forget, forgotten) = oneshot::channel::<()>();
    let to = gateway.ready().grpc_addr.clone();
    let routing = tokio::spawn(async move {
        let (mut from, _) = router.accept().await.unwrap();
        let mut to = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut from, &mut to) => {}
            _ = forgotten => {}
        }
        // Both stay open, and nothing passes any more.
        (from, to)
    });
    let client = Client::connect(&gateway).await;
    publish(&client, 0..1).await;
    let behind_router = Client::connect_at(&gateway, &addr).await;
    let mut lost = open(&behind_router).await;
    lost.next::<ManagedFetchResponse>().await.unwrap();
    assert!(!is_free(&client).await);
    forget.send(()).unwrap();
    let _connections = within("end of the routing", routing).await.unwrap();
    until_true("free slot", async || is_free(&client).await).await;
}

#[tokio::test]
async fn a_scrape_shows_how_far_each_is_behind() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: false,
        environment: vec![("TIDEGATE_BROKER__TENANT_IDLE", "400ms")],
    });
    create(&gateway, "");
    let client = Client::connect(&gateway).await;
    publish(&client, 0..7).await;
    // A subscriber of any other kind is among them if it has a name.
    let named = client.with("tidegate-client-name", "reader");
    let mut reader = named.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    reader.fetch(1).await;
    let listed = rows(&gateway, "managed list").remove(0);
    let described = rows(&gateway, &format!("topic describe {TOPIC}")).remove(0);
    let subscribers = described["subscribers"].as_array().unwrap();
    let shown: Vec<_> = subscribers
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), &row["events_behind"]))
        .collect();
    assert_eq!(shown, [(NAME, &7.into()), ("reader", &6.into())]);
    for row in subscribers.iter().chain([&listed]) {
        let behind = row["seconds_behind"].as_f64().unwrap();
        let left = row["seconds_to_loss"].as_f64().unwrap();
        assert!(behind > 0.0 && behind + left > 250_000.0, "{row}");
    }
    let series = format!(r#"subscription="{NAME}",topic="{TOPIC}"}} 7"#);
    until_true("lag in a scrape", async || {
        let (_, scrape) = http::get(&gateway, "/metrics").await;
        scrape.lines().any(|line| {
            line.starts_with("tidegate_broker_managed_lag_events{") && line.contains(&series)
        })
    })
    .await;
}
