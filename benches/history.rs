//! A long history: how soon a gateway is ready on it, how soon an event in its middle is delivered,
//! and what it costs in memory.
//!
//! `cargo bench --bench history -- --gib 20 --topics 1000 --dir DIR` writes the history once, through
//! the embedded log itself, and keeps it in DIR for the next time; then it starts the release binary
//! on it several times and prints medians beside what is aimed at. "Cold" is a process that just
//! started, with none of the log's files in the system's memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use prost::Message;
use serde_json::json;
use tidegate::{
    client::{Connection, Endpoint, Profile},
    clock::SystemClock,
    event_log::{
        self, BlockBody, DataDir, Durability, EmbeddedLog, EventLog, LogTopic, embedded::log_dirs,
    },
    metadata::EmbeddedStore,
    proto::{FetchRequest, ProducerEvent, ReplayPreset, raw::FetchResponse},
    schema::{
        Fill, Schema,
        registry::{Registry, Rules},
    },
    types::Position,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

const RUNS: usize = 5;
/// Subscriptions from the middle, each to another topic, of which the median counts.
const SUBSCRIPTIONS: usize = 20;
const CATCH_UP_EVENTS: usize = 1_000_000;
/// Events of one block: a tenth of a mebibyte of one topic at once.
const BLOCK_EVENTS: usize = 256;
/// Appends that are under way at once, so that groups are large.
const APPENDS: usize = 64;
/// A topic with one event in each gibibyte.
const RARE: &str = "Rare__e";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Cargo builds and runs benches with the tests too; there is nothing to test here.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let options = Options::parse(std::env::args().skip(1))?;
    let history = match History::read(&options.dir)? {
        Some(history) if history.is_of(&options) => history,
        Some(_) => bail!("{} holds another history", options.dir.display()),
        None => write(&options).await.context("writing the history")?,
    };
    let mut runs = Vec::new();
    for run in 1..=RUNS {
        runs.push(measure(&options, &history).await?);
        println!("run {run}: {:?}", runs[run - 1]);
    }
    let row = |name: &str, value: fn(&Run) -> f64, unit: &str, aim: Option<f64>| {
        let mut values: Vec<_> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let (min, median, max) = (values[0], values[RUNS / 2], values[RUNS - 1]);
        let aim = match aim {
            Some(aim) if median <= aim => format!("aim {aim}: met"),
            Some(aim) => format!("aim {aim}: MISSED"),
            None => String::new(),
        };
        println!("{name:<44} {median:>12.1} {unit:<9} ({min:.1} to {max:.1})  {aim}");
    };
    println!(
        "{} GiB in {} segments, {} topics",
        options.gib, history.segments, options.topics
    );
    row(
        "start, cold: from exec to the ready file",
        |r| r.start_cold_ms,
        "ms",
        Some(1_000.0),
    );
    row("start, warm", |r| r.start_ms, "ms", Some(1_000.0));
    row("memory when ready", |r| r.idle_mib, "MiB", Some(30.0));
    row(
        "first event from the middle, cold",
        |r| r.first_cold_ms,
        "ms",
        None,
    );
    row(
        "first event from the middle, warm",
        |r| r.first_ms,
        "ms",
        Some(20.0),
    );
    row("catch-up from the middle", |r| r.catch_up, "events/s", None);
    row("rare topic, all of it", |r| r.rare_ms, "ms", None);
    row("memory in the end", |r| r.end_mib, "MiB", Some(150.0));
    Ok(())
}

struct Options {
    gib: u64,
    topics: usize,
    dir: PathBuf,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let binary = Path::new(env!("CARGO_BIN_EXE_tidegate"));
        let mut options = Self {
            gib: 1,
            topics: 1_000,
            // The system's temporary directory is often memory.
            dir: binary.with_file_name("history"),
        };
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let value = args
                .next()
                .with_context(|| format!("{arg} needs a value"))?;
            match &*arg {
                "--gib" => options.gib = value.parse().context("--gib")?,
                "--topics" => options.topics = value.parse().context("--topics")?,
                "--dir" => options.dir = std::path::absolute(value)?,
                _ => bail!("unknown option {arg}; there are --gib, --topics and --dir"),
            }
        }
        ensure!(options.gib > 0 && options.topics > 0, "nothing to write");
        Ok(options)
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }
}

/// What was written, as it is remembered beside it.
struct History {
    gib: u64,
    topics: usize,
    segments: usize,
    /// Where its middle is.
    middle: Position,
}

impl History {
    fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let Ok(text) = fs::read(dir.join("history.json")) else {
            return Ok(None);
        };
        let found: serde_json::Value = serde_json::from_slice(&text)?;
        let number = |key: &str| {
            found[key]
                .as_u64()
                .with_context(|| format!("{key} is missing"))
        };
        Ok(Some(Self {
            gib: number("gib")?,
            topics: number("topics")? as usize,
            segments: number("segments")? as usize,
            middle: Position::new(number("middle")?).context("the middle is no position")?,
        }))
    }

    fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let text = json!({
            "gib": self.gib, "topics": self.topics, "segments": self.segments,
            "middle": self.middle.get(),
        });
        Ok(fs::write(dir.join("history.json"), text.to_string())?)
    }

    fn is_of(&self, options: &Options) -> bool {
        (self.gib, self.topics) == (options.gib, options.topics)
    }
}

/// Writes the history: a gateway makes tenant and topics, the log takes the events.
async fn write(options: &Options) -> anyhow::Result<History> {
    let schemas = options.dir.join("schemas");
    fs::create_dir_all(&schemas)?;
    let names = (0..options.topics).map(topic_name).chain([RARE.to_owned()]);
    for name in names {
        fs::write(schemas.join(format!("{name}.avsc")), schema_text(&name))?;
    }
    let start = Instant::now();
    Gateway::start(options)?.stop()?;
    println!(
        "first start, which registers the schemas: {:?}",
        start.elapsed()
    );

    let data_dir = options.data_dir();
    let tenant = Profile::read(&data_dir)?.tenant_id;
    let registry = Registry::new(
        Arc::new(EmbeddedStore::new(&data_dir)),
        Arc::new(SystemClock),
        Rules::default(),
    );
    let schemas = registry.tenant(tenant).await?;
    let mut topics = Vec::new();
    let mut rare = None;
    for event_type in schemas.event_types() {
        let topic = Arc::new(LogTopic {
            id: event_type.topic_id(),
            name: event_type.topic().clone(),
        });
        let event = event(event_type.current())?;
        match event_type.topic().event_name() == RARE {
            true => rare = Some((topic, event)),
            false => topics.push((topic, event)),
        }
    }
    let rare = rare.context("the rare topic is registered")?;

    let config = event_log::Config {
        durability: Durability::Os,
        ..event_log::Config::default()
    };
    let embedded = EmbeddedLog::new(DataDir::open(&data_dir)?, config, Arc::new(SystemClock))?;
    let log = embedded.open(tenant).await?;
    let bytes = options.gib << 30;
    let bar = ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
        "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    )?);
    let (mut written, mut random, mut middle) = (0, 1_u64, None);
    let mut appends = JoinSet::new();
    while written < bytes {
        let is_rare = written >> 30 > (written.saturating_sub(BLOCK_EVENTS as u64 * 300)) >> 30;
        // Topics at random, the first ones more often, as in life: the square of a random number.
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let share = (random >> 33) as f64 / (1_u64 << 31) as f64;
        let number = (share * share * topics.len() as f64) as usize;
        let ((topic, event), count) = match is_rare {
            true => (&rare, 1),
            false => (&topics[number.min(topics.len() - 1)], BLOCK_EVENTS),
        };
        let mut body = BlockBody::with_capacity(Arc::clone(topic), count * (event.len() + 40));
        while body.event_count() < count && body.push(event, None) {}
        written += body.byte_len() as u64;
        let log = Arc::clone(&log);
        appends.spawn(async move { log.append(vec![body]).await?.await });
        if appends.len() >= APPENDS {
            let outcome = appends.join_next().await.context("an append")???;
            let range = outcome.into_iter().next().context("an outcome")??;
            if written >= bytes / 2 {
                middle.get_or_insert(range.first);
            }
        }
        bar.set_position(written);
    }
    while let Some(outcome) = appends.join_next().await {
        for outcome in outcome?? {
            outcome?;
        }
    }
    bar.finish_and_clear();
    let segments = log.state().segments as usize;
    embedded.close().await;
    println!("wrote {} GiB in {:?}", options.gib, start.elapsed());
    let history = History {
        gib: options.gib,
        topics: options.topics,
        segments,
        middle: middle.context("there is a middle")?,
    };
    history.write(&options.dir)?;
    Ok(history)
}

fn topic_name(number: usize) -> String {
    format!("History_{number:04}__e")
}

/// A schema of ten fields.
fn schema_text(name: &str) -> String {
    let optional =
        |name: &str, kind: &str| json!({ "name": name, "type": ["null", kind], "default": null });
    json!({
        "type": "record", "name": name, "namespace": "com.sforce.eventbus",
        "fields": [
            { "name": "CreatedDate", "type": "long" }, { "name": "CreatedById", "type": "string" },
            optional("Due__c", "double"), optional("Amount__c", "double"),
            optional("Paid__c", "boolean"), optional("Quantity__c", "double"),
            optional("Order__c", "string"), optional("Customer__c", "string"),
            optional("Street__c", "string"), optional("City__c", "string"),
        ],
    })
    .to_string()
}

/// An event with about 200 bytes of payload, as a publisher sends it.
fn event(schema: &Schema) -> anyhow::Result<Vec<u8>> {
    let text = "thirty characters of some text";
    let payload = json!({
        "Due__c": 1.5, "Amount__c": 42.5, "Paid__c": true, "Quantity__c": 12.0,
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
    Ok(event.encode_to_vec())
}

/// The figures of one run.
#[derive(Debug)]
struct Run {
    start_cold_ms: f64,
    start_ms: f64,
    idle_mib: f64,
    first_cold_ms: f64,
    first_ms: f64,
    catch_up: f64,
    rare_ms: f64,
    end_mib: f64,
}

async fn measure(options: &Options, history: &History) -> anyhow::Result<Run> {
    forget_files(options)?;
    let gateway = Gateway::start(options)?;
    let start_cold_ms = gateway.started_in.as_secs_f64() * 1e3;
    let connection = gateway.connect(options).await?;
    let first_cold_ms = first_event(&connection, history, 0).await?;
    drop(connection);
    gateway.stop()?;

    let gateway = Gateway::start(options)?;
    let start_ms = gateway.started_in.as_secs_f64() * 1e3;
    let idle_mib = gateway.memory_mib()?;
    let connection = gateway.connect(options).await?;
    let mut firsts = Vec::new();
    // One that is not counted: the connection's own first call.
    for number in 0..=SUBSCRIPTIONS.min(options.topics) {
        let number = number * options.topics / (SUBSCRIPTIONS + 1);
        firsts.push(first_event(&connection, history, number).await?);
    }
    firsts.remove(0);
    firsts.sort_by(f64::total_cmp);
    let catch_up = catch_up(&connection, history).await?;
    let rare_ms = rare_topic(&connection, options).await?;
    let end_mib = gateway.memory_mib()?;
    gateway.stop()?;
    Ok(Run {
        start_cold_ms,
        start_ms,
        idle_mib,
        first_cold_ms,
        first_ms: firsts[firsts.len() / 2],
        catch_up,
        rare_ms,
        end_mib,
    })
}

/// Milliseconds from the call to the first event of a topic from the middle on.
async fn first_event(
    connection: &Connection,
    history: &History,
    topic: usize,
) -> anyhow::Result<f64> {
    let mut subscription = Subscription::start(
        connection,
        FetchRequest {
            topic_name: format!("/event/{}", topic_name(topic)),
            replay_preset: ReplayPreset::Custom.into(),
            replay_id: history.middle.replay_id().as_bytes().to_vec().into(),
            num_requested: 1,
            ..Default::default()
        },
    )
    .await?;
    while subscription.next().await? == 0 {}
    Ok(subscription.started_at.elapsed().as_secs_f64() * 1e3)
}

/// Events per second of the busiest topic from the middle on, with the settings of stock clients.
async fn catch_up(connection: &Connection, history: &History) -> anyhow::Result<f64> {
    let mut subscription = Subscription::start(
        connection,
        FetchRequest {
            topic_name: format!("/event/{}", topic_name(0)),
            replay_preset: ReplayPreset::Custom.into(),
            replay_id: history.middle.replay_id().as_bytes().to_vec().into(),
            num_requested: 100,
            ..Default::default()
        },
    )
    .await?;
    // A small history has fewer.
    let mut received = 0;
    let quiet = Duration::from_secs(1);
    while received < CATCH_UP_EVENTS {
        match tokio::time::timeout(quiet, subscription.next()).await {
            Ok(count) => received += count?,
            Err(_) => break,
        }
    }
    Ok(received as f64
        / subscription
            .last_at
            .duration_since(subscription.started_at)
            .as_secs_f64())
}

/// Milliseconds to read all of a topic with one event in each gibibyte.
async fn rare_topic(connection: &Connection, options: &Options) -> anyhow::Result<f64> {
    let mut subscription = Subscription::start(
        connection,
        FetchRequest {
            topic_name: format!("/event/{RARE}"),
            replay_preset: ReplayPreset::Earliest.into(),
            num_requested: 100,
            ..Default::default()
        },
    )
    .await?;
    let mut received = 0;
    while received + 1 < options.gib as usize {
        received += subscription.next().await?;
    }
    Ok(subscription
        .last_at
        .duration_since(subscription.started_at)
        .as_secs_f64()
        * 1e3)
}

/// A subscription that asks for as many events as it got.
struct Subscription {
    credit: mpsc::Sender<FetchRequest>,
    responses: tonic::Streaming<FetchResponse>,
    started_at: Instant,
    /// When the last events came.
    last_at: Instant,
}

impl Subscription {
    async fn start(connection: &Connection, first: FetchRequest) -> anyhow::Result<Self> {
        let started_at = Instant::now();
        let (credit, requests) = mpsc::channel(16);
        credit.send(first).await?;
        let requests = ReceiverStream::new(requests);
        let responses = connection.pub_sub().subscribe(requests).await?.into_inner();
        Ok(Self {
            credit,
            responses,
            started_at,
            last_at: started_at,
        })
    }

    /// The number of events in the next response.
    async fn next(&mut self) -> anyhow::Result<usize> {
        let response = self
            .responses
            .next()
            .await
            .context("the stream ended early")??;
        let count = response.events.values().len();
        if count > 0 {
            self.last_at = Instant::now();
            let more = FetchRequest {
                num_requested: count as i32,
                ..Default::default()
            };
            self.credit.send(more).await?;
        }
        Ok(count)
    }
}

/// Has the system forget what it keeps of the log's files.
fn forget_files(options: &Options) -> anyhow::Result<()> {
    for (_, log) in log_dirs(&options.data_dir())? {
        for file in fs::read_dir(log)? {
            let file = fs::File::open(file?.path())?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// The release binary, serving the history.
struct Gateway {
    child: Child,
    started_in: Duration,
}

impl Gateway {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let ready = options.dir.join("ready.json");
        _ = fs::remove_file(&ready);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.arg("serve").current_dir(&options.dir);
        command.args(["--ready-file", "ready.json", "--data-dir", "data"]);
        for listener in ["grpc-tls", "grpc", "http", "https"] {
            command.args([&format!("--{listener}-addr"), "127.0.0.1:0"]);
        }
        let log = fs::File::create(options.dir.join("gateway.log"))?;
        let start = Instant::now();
        let child = command.stdout(Stdio::null()).stderr(log).spawn()?;
        let mut gateway = Self {
            child,
            started_in: Duration::ZERO,
        };
        while !ready.exists() {
            if let Some(status) = gateway.child.try_wait()? {
                bail!("the gateway ended with {status}; see gateway.log beside the history");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        gateway.started_in = start.elapsed();
        Ok(gateway)
    }

    async fn connect(&self, options: &Options) -> anyhow::Result<Connection> {
        let profile = Profile::read(&options.data_dir())?;
        let url = format!("http://{}", profile.grpc_addr.context("a listener")?).parse()?;
        let endpoint = Endpoint::new(url, profile.credentials());
        Ok(endpoint.connect().await?)
    }

    fn memory_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.trim().strip_suffix(" kB"));
        Ok(kib.context("VmRSS")?.parse::<f64>()? / 1024.0)
    }

    /// Ends it as an operator would, so that the next one finds nothing to recover.
    fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        ensure!(self.child.wait()?.success(), "the gateway did not end well");
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
