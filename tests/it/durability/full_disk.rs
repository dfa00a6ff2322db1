//! A disk that is full: publishing is refused and nothing else is, and it heals without a restart.

use std::{
    collections::{HashSet, VecDeque},
    process::Command,
};

use tokio::{sync::watch, task::JoinHandle};

use crate::support::{
    client::{Client, Failure, code},
    disk::{Disk, SMALL_BYTES},
    gateway::{Gateway, Place, Settings},
    http,
    order::{self, TOPIC},
    wait::{self, within},
    wire::{
        ConsumerEvent, FetchRequest, FetchResponse, ProducerEvent, PublishRequest, PublishResponse,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_ext4_refuses_events_and_serves_readers_until_there_is_space() {
    fill_and_heal(&Disk::ext4()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_tmpfs_refuses_events_and_serves_readers_until_there_is_space() {
    fill_and_heal(&Disk::tmpfs(SMALL_BYTES)).await;
}

async fn fill_and_heal(disk: &Disk) {
    // What another program takes of the disk, and gives back in the end.
    disk.take(4 << 20);
    let mut gateway = start_on(disk, &[]);
    let client = Client::connect(&gateway).await;
    let live = Live::start(&client).await;
    let mut log = Published::default();
    publish_until_refused(&client, &mut log).await;
    // Small files may still fit where a batch does not.
    disk.fill();
    log.publish_until_refused(&client, 1, 10_000).await;
    assert!(log.acknowledged.len() > 1_000, "the disk took much before");

    let everything = log.in_order();
    expect_end_of(&everything, &live.up_to(&everything).await);
    log.expect_all(&client).await;
    expect_whole(&gateway);
    expect_token_refused(&gateway);
    expect_success(&mut gateway.command("token list"));

    // What an opening gives back of the disk is taken too: it has to do without.
    gateway.kill();
    disk.fill();
    gateway.restart();
    let client = Client::connect(&gateway).await;
    disk.fill();
    log.publish_until_refused(&client, 1, 10_000).await;
    log.expect_all(&client).await;
    let live = Live::start(&client).await;

    disk.give_back();
    log.publish_until_stored(&client, 20, 10_000).await;
    expect_success(&mut with_ready(&gateway, "token create --name later"));
    let everything = log.in_order();
    expect_end_of(&everything, &live.up_to(&everything).await);
    log.expect_all(&client).await;
    gateway.kill_and_restart();
    let client = Client::connect(&gateway).await;
    log.expect_all(&client).await;
    expect_whole(&gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_frees_a_full_disk_by_itself() {
    let disk = Disk::ext4();
    let gateway = start_on(&disk, &[("TIDEGATE_EVENT_LOG__RETENTION_BYTES", "8MiB")]);
    let client = Client::connect(&gateway).await;
    let mut log = Published::default();
    publish_until_refused(&client, &mut log).await;
    disk.fill();
    log.publish_until_refused(&client, 1, 10_000).await;
    wait::until_true("retention", async || {
        log_bytes(&gateway).await <= f64::from(8 << 20)
    })
    .await;
    log.publish_until_stored(&client, 20, 10_000).await;

    let everything = log.in_order();
    let kept = log.read_all(&client).await;
    assert!(kept.len() < everything.len(), "something was removed");
    expect_end_of(&everything, &kept);
    expect_whole(&gateway);
}

async fn log_bytes(gateway: &Gateway) -> f64 {
    let (_, metrics) = http::get(gateway, "/metrics").await;
    let tenant = &gateway.ready().tenant_id;
    http::value_of(
        &metrics,
        &format!("tidegate_event_log_size_bytes{{tenant=\"{tenant}\"}}"),
    )
}

/// A gateway whose data is on `disk`, which is to be dropped after it.
fn start_on(disk: &Disk, environment: &[(&'static str, &'static str)]) -> Gateway {
    let settings = Settings {
        // Little, so that who catches up reads files.
        environment: [&[("TIDEGATE_EVENT_LOG__RING_BYTES", "4MiB")], environment].concat(),
        ..Settings::default()
    };
    let place = Place {
        data_dir: disk.path().join("data"),
        ..Place::default()
    };
    Gateway::start_at(place, settings)
}

/// Publishes on a stream and by single calls at once, until both are refused.
async fn publish_until_refused(client: &Client, log: &mut Published) {
    let streaming = client.clone();
    let stream = tokio::spawn(async move {
        let mut log = Published::named("stream");
        log.stream_until_refused(&streaming).await;
        log
    });
    let mut calls = Published::named("call");
    calls.publish_until_refused(client, 3, 10_000).await;
    log.extend(calls);
    log.extend(stream.await.expect("the stream's checks hold"));
}

/// What a publisher was told.
#[derive(Default)]
struct Published {
    name: &'static str,
    next: usize,
    /// Id and replay id of each event that was acknowledged.
    acknowledged: Vec<(String, Vec<u8>)>,
    /// Ids of events of which it was said that they are not stored.
    refused: Vec<String>,
}

/// Id and replay id of an event.
type Event = (String, Vec<u8>);

impl Published {
    fn named(name: &'static str) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    fn extend(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.refused.extend(other.refused);
    }

    /// A batch of events with the next ids, each of so many bytes.
    fn batch(&mut self, count: usize, len: usize) -> PublishRequest {
        let event = |number| ProducerEvent {
            id: format!("{}-{number}", self.name),
            payload: order::payload_of(len),
            ..order::event(0)
        };
        let events = (self.next..self.next + count).map(event).collect();
        self.next += count;
        PublishRequest::new(TOPIC, events)
    }

    async fn publish(&mut self, client: &Client, count: usize, len: usize) -> Result<(), Failure> {
        let request = self.batch(count, len);
        match client.publish(&request).await {
            Ok(response) => {
                self.note(&response);
                Ok(())
            }
            Err(failure) => {
                expect_disk_full(&failure, "Publish");
                self.refused
                    .extend(request.events.into_iter().map(|event| event.id));
                Err(failure)
            }
        }
    }

    /// Publishes batches of this size until one is refused.
    async fn publish_until_refused(&mut self, client: &Client, count: usize, len: usize) {
        while self.publish(client, count, len).await.is_ok() {}
    }

    /// Publishes batches of this size until one is stored.
    async fn publish_until_stored(&mut self, client: &Client, count: usize, len: usize) {
        wait::until_true("space", async || {
            self.publish(client, count, len).await.is_ok()
        })
        .await;
    }

    /// Keeps several requests of a stream under way until one is refused, which ends the stream.
    async fn stream_until_refused(&mut self, client: &Client) {
        const PIPELINE: usize = 4;
        let mut call = client.call("PublishStream").await;
        let mut sent = VecDeque::new();
        loop {
            while sent.len() < PIPELINE {
                let request = self.batch(20, 2_000);
                call.send(&request);
                sent.push_back(request);
            }
            match call.next::<PublishResponse>().await {
                Ok(response) => {
                    self.note(&response.expect("the client has not half-closed"));
                    sent.pop_front();
                }
                Err(failure) => {
                    expect_disk_full(&failure, "PublishStream");
                    let unanswered = sent.into_iter().flat_map(|request| request.events);
                    self.refused.extend(unanswered.map(|event| event.id));
                    return;
                }
            }
        }
    }

    fn note(&mut self, response: &PublishResponse) {
        for result in &response.results {
            assert_eq!(result.error, None, "a group is stored whole or not at all");
            let event = (result.correlation_key.clone(), result.replay_id.clone());
            self.acknowledged.push(event);
        }
    }

    /// What was acknowledged, in the order of the log.
    fn in_order(&self) -> Vec<Event> {
        let mut events = self.acknowledged.clone();
        events.sort_by(|a, b| a.1.cmp(&b.1));
        events
    }

    /// Holds the log to be what was acknowledged.
    async fn expect_all(&self, client: &Client) {
        let (wanted, found) = (self.in_order(), self.read_all(client).await);
        assert_eq!(found.len(), wanted.len());
        expect_end_of(&wanted, &found);
    }

    /// What there is from the earliest on, up to the newest that was acknowledged.
    async fn read_all(&self, client: &Client) -> Vec<Event> {
        let first = FetchRequest::earliest(TOPIC, 100);
        let mut call = client.subscribe(&first).await;
        let newest = self.acknowledged.iter().map(|event| &event.1).max();
        let newest = newest.expect("something was acknowledged");
        let mut events: Vec<Event> = Vec::new();
        while events.last().is_none_or(|event| event.1 < *newest) {
            let found = call.fetched().await.events;
            if !found.is_empty() {
                call.send(&FetchRequest::more(found.len() as i32));
            }
            events.extend(found.into_iter().map(event));
        }
        let ids: HashSet<_> = events.iter().map(|event| &event.0).collect();
        for id in &self.refused {
            assert!(!ids.contains(id), "{id} was refused and is there");
        }
        events
    }
}

fn event(received: ConsumerEvent) -> Event {
    let body = received.event.expect("an event has a body");
    (body.id, received.replay_id)
}

/// A subscriber at the head.
struct Live {
    received: watch::Receiver<Vec<Event>>,
    reading: JoinHandle<()>,
}

impl Live {
    /// Subscribes to what comes from now on.
    async fn start(client: &Client) -> Self {
        let mut call = client.subscribe(&FetchRequest::latest(TOPIC, 100)).await;
        call.headers().await;
        let (sender, received) = watch::channel(Vec::new());
        let reading = tokio::spawn(async move {
            while let Ok(Some(response)) = call.next::<FetchResponse>().await {
                let found = response.events;
                if !found.is_empty() {
                    call.send(&FetchRequest::more(found.len() as i32));
                }
                sender.send_modify(|events: &mut Vec<_>| {
                    events.extend(found.into_iter().map(event));
                });
            }
        });
        Self { received, reading }
    }

    /// What it received, once it has the last of `events`; it ends then.
    async fn up_to(mut self, events: &[Event]) -> Vec<Event> {
        let newest = &events.last().expect("something was acknowledged").1;
        let has_newest =
            |events: &Vec<Event>| events.last().is_some_and(|event| event.1 >= *newest);
        let received = within("the newest event", self.received.wait_for(has_newest)).await;
        let received = received.expect("the subscription goes on").clone();
        self.reading.abort();
        received
    }
}

/// Holds `found` to be the last of `events`, and at least one.
#[track_caller]
fn expect_end_of(events: &[Event], found: &[Event]) {
    assert!((1..=events.len()).contains(&found.len()), "{}", found.len());
    for (found, wanted) in found.iter().rev().zip(events.iter().rev()) {
        assert_eq!(found, wanted);
    }
}

/// A command that goes by the ready file. A profile that could not be written tells where the process
/// before listened.
fn with_ready(gateway: &Gateway, arguments: &str) -> Command {
    let ready = gateway.ready();
    let mut command = gateway.command(arguments);
    command
        .env("TIDEGATE_ENDPOINT", format!("http://{}", ready.grpc_addr))
        .env("TIDEGATE_TOKEN", &ready.access_token)
        .env("TIDEGATE_INSTANCE_URL", &ready.instance_url)
        .env("TIDEGATE_TENANT", &ready.tenant_id);
    command
}

#[track_caller]
fn expect_disk_full(failure: &Failure, method: &str) {
    failure.expect(method, code::UNAVAILABLE, "service.unavailable");
    assert!(
        failure
            .message
            .starts_with("the disk is full; nothing was stored"),
        "{failure:?}"
    );
}

#[track_caller]
fn expect_success(command: &mut Command) -> String {
    let output = command.output().expect("the program can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn expect_whole(gateway: &Gateway) {
    let report = expect_success(&mut gateway.command("log verify"));
    assert!(report.contains("whole"), "{report}");
}

/// Makes tokens until there is no space for one more: the file of metadata has some within itself.
#[track_caller]
fn expect_token_refused(gateway: &Gateway) {
    const TOKENS_MAX: usize = 100;
    for _ in 0..TOKENS_MAX {
        let output = gateway.command("token create --name more").output();
        let output = output.expect("the program can be run");
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let said = "the token cannot be stored: the disk is full";
            assert!(stderr.contains(said), "{stderr}");
            return;
        }
    }
    panic!("{TOKENS_MAX} tokens were made on a full disk");
}
