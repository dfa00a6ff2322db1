//! First figures of the whole gateway: publish, catch-up and latency over the real wire.
//!
//! `cargo bench --bench gateway` starts the release binary on a temporary data directory beside it,
//! drives it from the same machine over plaintext loopback, and prints medians of several runs. Every
//! event is validated and every acknowledgement follows an fdatasync. The first row says what the
//! disk does by itself, to judge by ratio on another machine.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use prost::Message;
use serde_json::json;
use tidegate::{
    client::{Connection, Endpoint, Profile},
    proto::{ConsumerEvent, FetchRequest, ProducerEvent, ReplayPreset, raw::PublishRequest},
    schema::{Fill, Schema},
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

const TOPIC: &str = "/event/Bench__e";
const BATCH: usize = 200;
const PUBLISH_EVENTS: usize = 1_000_000;
const CATCH_UP_EVENTS: usize = 500_000;
const LATENCY_RATE: usize = 10_000;
const LATENCY_BATCH: usize = 10;
const LATENCY_SECONDS: usize = 10;
const RUNS: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Cargo builds and runs benches with the tests too; there is nothing to test here.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let syncs = (0..RUNS)
        .map(|_| fdatasync_64k())
        .collect::<Result<Vec<_>, _>>()?;
    let (mut publish, mut catch_up) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let gateway = Gateway::start()?;
        let connection = gateway.connect().await?;
        publish.push(measure_publish(&connection).await?);
        let peak = gateway.peak_memory();
        catch_up.push(measure_catch_up(&connection).await?);
        println!(
            "run: peak memory {peak} after publishing, {} after catching up",
            gateway.peak_memory()
        );
    }
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let latencies = measure_latency(&Gateway::start()?).await?;
        p50.push(latencies[latencies.len() / 2]);
        p99.push(latencies[latencies.len() * 99 / 100]);
    }
    let row = |name: &str, values: Vec<f64>, scale: f64, unit: &str| {
        let (min, median, max) = spread(values);
        let [min, median, max] = [min, median, max].map(|value| value * scale);
        println!("{name:<34} {median:>12.2} {unit}  ({min:.2} to {max:.2})");
    };
    row("fdatasync of 64 KiB", syncs, 1e3, "ms");
    row("publish, batches of 200", publish, 1.0, "events/s");
    row("catch-up, stock settings", catch_up, 1.0, "events/s");
    row("latency at 10,000 events/s, p50", p50, 1e3, "ms");
    row("latency at 10,000 events/s, p99", p99, 1e3, "ms");
    Ok(())
}

/// Events per second of one publish stream, from the first request to the last answer.
async fn measure_publish(connection: &Connection) -> anyhow::Result<f64> {
    let request = request(BATCH, 0.0)?;
    let (sender, requests) = mpsc::channel(64);
    let start = Instant::now();
    tokio::spawn(async move {
        for _ in 0..PUBLISH_EVENTS / BATCH {
            if sender.send(request.clone()).await.is_err() {
                return;
            }
        }
    });
    let mut client = connection.pub_sub();
    let mut responses = client
        .publish_stream(ReceiverStream::new(requests))
        .await?
        .into_inner();
    let mut answered = 0;
    while let Some(response) = responses.next().await {
        answered += response?.results.values().len();
    }
    ensure!(
        answered == PUBLISH_EVENTS,
        "{answered} of {PUBLISH_EVENTS} events were answered"
    );
    Ok(answered as f64 / start.elapsed().as_secs_f64())
}

/// Events per second from the earliest on, with the credit and early refill of stock clients.
async fn measure_catch_up(connection: &Connection) -> anyhow::Result<f64> {
    let (credit, requests) = mpsc::channel(16);
    let first = FetchRequest {
        topic_name: TOPIC.into(),
        replay_preset: ReplayPreset::Earliest.into(),
        num_requested: 100,
        ..Default::default()
    };
    credit.send(first).await?;
    let start = Instant::now();
    let mut client = connection.pub_sub();
    let mut responses = client
        .subscribe(ReceiverStream::new(requests))
        .await?
        .into_inner();
    let mut received = 0;
    while received < CATCH_UP_EVENTS {
        let response = responses.next().await.context("the stream ended early")??;
        let count = response.events.values().len();
        received += count;
        if count > 0 {
            let more = FetchRequest {
                num_requested: count as i32,
                ..Default::default()
            };
            credit.send(more).await?;
        }
    }
    Ok(received as f64 / start.elapsed().as_secs_f64())
}

/// Seconds from the moment each event was due to be published to its arrival, sorted. What is sent
/// late counts as late, so a stall is not hidden by what could not be sent during it.
async fn measure_latency(gateway: &Gateway) -> anyhow::Result<Vec<f64>> {
    let (subscriber, publisher) = (gateway.connect().await?, gateway.connect().await?);
    let total = LATENCY_RATE * LATENCY_SECONDS;
    let (credit, requests) = mpsc::channel(16);
    let first = FetchRequest {
        topic_name: TOPIC.into(),
        num_requested: 100,
        ..Default::default()
    };
    credit.send(first).await?;
    let mut client = subscriber.pub_sub();
    let mut deliveries = client
        .subscribe(ReceiverStream::new(requests))
        .await?
        .into_inner();

    let epoch = Instant::now();
    let (sender, requests) = mpsc::channel(64);
    let pacing = tokio::spawn(async move {
        let step = Duration::from_secs(1) * LATENCY_BATCH as u32 / LATENCY_RATE as u32;
        // The subscription needs a moment to begin at the latest.
        let start = epoch + Duration::from_millis(500);
        for batch in 0..total / LATENCY_BATCH {
            let due = start + step * batch as u32;
            tokio::time::sleep_until(due.into()).await;
            sender
                .send(request(LATENCY_BATCH, (due - epoch).as_secs_f64())?)
                .await?;
        }
        anyhow::Ok(())
    });
    let mut client = publisher.pub_sub();
    let mut answers = client
        .publish_stream(ReceiverStream::new(requests))
        .await?
        .into_inner();
    tokio::spawn(async move { while let Some(Ok(_)) = answers.next().await {} });

    let schema = Schema::parse(SCHEMA)?;
    let mut latencies = Vec::with_capacity(total);
    while latencies.len() < total {
        let response = deliveries
            .next()
            .await
            .context("the stream ended early")??;
        let now = epoch.elapsed().as_secs_f64();
        let count = response.events.values().len() as i32;
        if count > 0 {
            credit
                .send(FetchRequest {
                    num_requested: count,
                    ..Default::default()
                })
                .await?;
        }
        for event in response.events.values() {
            let event = ConsumerEvent::decode(event.clone())?
                .event
                .context("an event")?;
            let due = schema.to_json(&event.payload)?["Due__c"]
                .as_f64()
                .context("Due__c")?;
            latencies.push(now - due);
        }
    }
    pacing.await??;
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

/// A request of `events` events with about 200 bytes of payload in 10 fields.
fn request(events: usize, due: f64) -> anyhow::Result<PublishRequest> {
    let schema = Schema::parse(SCHEMA)?;
    let text = "thirty characters of some text";
    let payload = json!({
        "Due__c": due, "Amount__c": 42.5, "Paid__c": true, "Quantity__c": 12.0,
        "Order__c": text, "Customer__c": text, "Street__c": text, "City__c": text,
    });
    let fill = Fill {
        created_date_ms: 1_700_000_000_000,
        created_by_id: "005000000000001AAA",
    };
    let event = ProducerEvent {
        id: "00000000-0000-4000-8000-000000000000".into(),
        schema_id: schema.id().to_string(),
        payload: schema.encode_json(&payload, &fill)?.into(),
        ..Default::default()
    };
    let event = Bytes::from(event.encode_to_vec());
    Ok(PublishRequest {
        topic_name: TOPIC.into(),
        events: vec![event; events],
        ..Default::default()
    })
}

const SCHEMA: &str = r#"{"type":"record","name":"Bench__e","namespace":"com.sforce.eventbus","fields":[
 {"name":"CreatedDate","type":"long"},{"name":"CreatedById","type":"string"},
 {"name":"Due__c","type":["null","double"],"default":null},
 {"name":"Amount__c","type":["null","double"],"default":null},
 {"name":"Paid__c","type":["null","boolean"],"default":null},
 {"name":"Quantity__c","type":["null","double"],"default":null},
 {"name":"Order__c","type":["null","string"],"default":null},
 {"name":"Customer__c","type":["null","string"],"default":null},
 {"name":"Street__c","type":["null","string"],"default":null},
 {"name":"City__c","type":["null","string"],"default":null}]}"#;

/// The release binary, serving from a data directory of its own until it is dropped.
struct Gateway {
    child: Child,
    dir: tempfile::TempDir,
}

impl Gateway {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(real_disk())?;
        fs::create_dir(dir.path().join("schemas"))?;
        fs::write(dir.path().join("schemas/Bench__e.avsc"), SCHEMA)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .arg("serve")
            .current_dir(dir.path())
            .args(["--ready-file", "ready.json"]);
        for listener in [
            "--grpc-tls-addr",
            "--grpc-addr",
            "--http-addr",
            "--https-addr",
        ] {
            command.args([listener, "127.0.0.1:0"]);
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let gateway = Self { child, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !gateway.dir.path().join("ready.json").exists() {
            ensure!(Instant::now() < deadline, "the gateway did not get ready");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(gateway)
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let profile = Profile::read(&self.dir.path().join("tidegate-data"))?;
        let endpoint = Endpoint {
            url: format!("http://{}", profile.grpc_addr.context("a listener")?).parse()?,
            ca_file: None,
            credentials: profile.credentials(),
            allow_plaintext: false,
        };
        Ok(endpoint.connect().await?)
    }

    fn peak_memory(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.unwrap_or("unknown").trim().to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Where the binary lies: the system's temporary directory is often memory.
fn real_disk() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    binary.parent().unwrap_or(Path::new(".")).to_owned()
}

/// Seconds for one write and sync of 64 KiB, the median of many.
fn fdatasync_64k() -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile_in(real_disk())?;
    let mut seconds = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[7; 64 * 1024])?;
        file.sync_data()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(spread(seconds).1)
}

/// Minimum, median and maximum.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    )
}
