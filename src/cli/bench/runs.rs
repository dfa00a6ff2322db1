//! The runs of each measurement, and what they come to.

use std::time::Duration;

use super::{
    Progress, aims,
    args::{
        DurabilityArg, FilterLoads, GatewayArgs, LATENCY, OwnArgs, PUBLISH, RunArgs, UNARY,
        VALIDATE_EVENTS, VALIDATE_PAYLOAD_BYTES,
    },
    table::grouped,
};
use crate::{
    bench::{
        Aim, Backlog, BenchError, CatchupReader, Child, ChildOptions, ClientKind, CommitsLoad,
        FanoutLoad, Figure, History, IdleLoad, LatencyLoad, ONE_IN, OverloadLoad,
        PAYLOAD_BYTES_DEFAULT, Place, PublishLoad, Target, UnaryLoad,
        calibrate::{self, SyncTimes},
        catchup, commits, evaluate, fanout, filtered, filtered_catchup, idle, latency, overload,
        publish, start, unary, validate,
    },
    cli::exit::Failure,
    event_log::Durability,
    types::limits::{
        APPEND_QUEUE_BYTES, BLOCK_CACHE_BYTES, FOOTER_CACHE_BYTES, HTTP2_CONNECTION_WINDOW_BYTES,
        TAIL_RING_BYTES,
    },
};

pub(super) async fn calibrate_figures(
    args: &RunArgs,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let mut measured = Measured::default();
    for number in 1..=args.runs {
        progress.say("calibrate", number, args.runs);
        let sync = sync_times(args).await?;
        let echo = calibrate::echo().await?;
        measured.add("fdatasync of 64 KiB", "ms", None, millis(sync.median));
        measured.add("fdatasync of 64 KiB, p99", "ms", None, millis(sync.p99));
        measured.add(
            "loopback, 200 bytes there and back",
            "ms",
            None,
            millis(echo),
        );
    }
    Ok(measured.0)
}

/// Publishing, also with subscribers that read along.
pub(super) async fn publish_figures(
    gateway: &GatewayArgs,
    load: &FanoutLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let name = named("publish", &load.publish, gateway);
    let name = &with_subscribers(name, load);
    let (aim, memory_aim) = (
        aims::publish(load, gateway),
        aims::publish_memory(load, gateway),
    );
    let once = async |run: &Run, measured: &mut Measured| {
        publish(&run.target, &warm_up(&load.publish)).await?;
        let cost = Cost::begin(run)?;
        let rate = match load.subscribers {
            0 => publish(&run.target, &load.publish).await?,
            _ => {
                let rates = fanout(&run.target, load).await?;
                let out = format!("{name}: delivered");
                let aim = aims::fanout(load, gateway);
                measured.add(&out, EVENTS_PER_SECOND, aim, rates.delivered);
                rates.published
            }
        };
        measured.add(name, EVENTS_PER_SECOND, aim, rate);
        cost.end(run, name, load.publish.events_sent(), memory_aim, measured)
    };
    run_all("publish", gateway, load.publish.topics, progress, once).await
}

/// Delivery to many subscribers.
pub(super) async fn fanout_figures(
    gateway: &GatewayArgs,
    load: &FanoutLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let name = named("fan-out", &load.publish, gateway);
    let name = &with_subscribers(name, load);
    let aim = aims::fanout(load, gateway);
    let once = async |run: &Run, measured: &mut Measured| {
        publish(&run.target, &warm_up(&load.publish)).await?;
        let cost = Cost::begin(run)?;
        let rates = fanout(&run.target, load).await?;
        measured.add(name, EVENTS_PER_SECOND, aim, rates.delivered);
        let published = format!("{name}: published");
        measured.add(&published, EVENTS_PER_SECOND, None, rates.published);
        cost.end(run, name, rates.deliveries, None, measured)
    };
    run_all("fan-out", gateway, load.publish.topics, progress, once).await
}

pub(super) async fn catchup_figures(
    gateway: &GatewayArgs,
    load: &PublishLoad,
    reader: CatchupReader,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let what = match reader {
        CatchupReader::Raw(ClientKind::Own) => "catch-up, own client",
        CatchupReader::Raw(ClientKind::Stock) => "catch-up, stock client",
        CatchupReader::Library => "catch-up, subscriber library",
    };
    let name = &named(what, load, gateway);
    let (aim, memory_aim) = (
        aims::catchup(load, reader, gateway),
        aims::catchup_memory(load, gateway),
    );
    let once = async |run: &Run, measured: &mut Measured| {
        let backlog = Backlog::publish(&run.target, load).await?;
        let cost = Cost::begin(run)?;
        let rate = catchup(&run.target, &backlog, reader).await?;
        measured.add(name, EVENTS_PER_SECOND, aim, rate);
        cost.end(run, name, backlog.events(), memory_aim, measured)
    };
    run_all("catch-up", gateway, load.topics, progress, once).await
}

pub(super) async fn latency_figures(
    gateway: &GatewayArgs,
    load: &LatencyLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let mut name = format!("latency at {} events/s", grouped(f64::from(load.rate)));
    if load.batch != LATENCY.batch {
        name += &format!(", batches of {}", load.batch);
    }
    let name = with_settings(name, load.payload_bytes, gateway);
    let sync_p99 = match gateway.connection.has_endpoint() {
        // It is not known which disk that gateway has; there is no aim either.
        true => Duration::ZERO,
        false => sync_times(&gateway.own.runs).await?.p99,
    };
    let quantiles = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];
    let once = async |run: &Run, measured: &mut Measured| {
        let warm_up = PublishLoad {
            payload_bytes: load.payload_bytes,
            ..WARM_UP
        };
        publish(&run.target, &warm_up).await?;
        let latencies = latency(&run.target, load).await?;
        for (quantile, called) in quantiles {
            let aim = aims::latency(quantile, load, gateway, sync_p99);
            let value = latencies.value_at_quantile(quantile) as f64 / 1e3;
            measured.add(&format!("{name}, {called}"), "ms", aim, value);
        }
        Ok(())
    };
    run_all("latency", gateway, 1, progress, once).await
}

pub(super) async fn commits_figures(
    gateway: &GatewayArgs,
    load: &CommitsLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let name = format!(
        "commits, {} subscriptions, {}/s each",
        load.subscriptions,
        grouped(f64::from(load.rate))
    );
    let name = with_settings(name, PAYLOAD_BYTES_DEFAULT, gateway);
    let quantiles = [(0.5, "p50"), (0.99, "p99"), (1.0, "max")];
    let once = async |run: &Run, measured: &mut Measured| {
        let times = commits(&run.target, load).await?;
        for (quantile, called) in quantiles {
            let aim = aims::commits(quantile, load, gateway);
            let value = times.value_at_quantile(quantile) as f64 / 1e3;
            measured.add(&format!("{name}, {called}"), "ms", aim, value);
        }
        Ok(())
    };
    run_all("commits", gateway, 1, progress, once).await
}

pub(super) async fn unary_figures(
    gateway: &GatewayArgs,
    load: &UnaryLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let is_usual = *load == UNARY;
    let name = format!("unary publish, {} in flight", load.in_flight);
    let name = with_settings(name, load.payload_bytes, gateway);
    let once = async |run: &Run, measured: &mut Measured| {
        let warm_up = UnaryLoad {
            calls: (load.calls / 10).max(1),
            ..*load
        };
        unary(&run.target, &warm_up).await?;
        let cost = Cost::begin(run)?;
        let rate = unary(&run.target, load).await?;
        measured.add(&name, "calls/s", aims::unary(is_usual, gateway), rate);
        cost.end(run, &name, load.calls, None, measured)
    };
    run_all("unary", gateway, 1, progress, once).await
}

/// Checking payloads, in this process.
pub(super) async fn validate_figures(
    events: u64,
    payload_bytes: usize,
    runs: u32,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let name = format!("payload validation, {payload_bytes} bytes, 10 fields");
    let aim = (payload_bytes == VALIDATE_PAYLOAD_BYTES).then_some(aims::VALIDATE);
    let mut measured = Measured::default();
    for number in 1..=runs {
        progress.say("validate", number, runs);
        let nanos =
            aside(move || validate(payload_bytes, events).map_err(BenchError::from)).await?;
        measured.add(&name, "ns", aim, nanos);
    }
    Ok(measured.0)
}

/// Filters: alone in this process, far behind, and with many subscribers.
pub(super) async fn filter_figures(
    own: &OwnArgs,
    loads: &FilterLoads,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let runs = own.runs.runs;
    let mut measured = Measured::default();
    for number in 1..=runs {
        progress.say("filter", number, runs);
        let evaluating = aside(|| {
            let nanos = evaluate(VALIDATE_PAYLOAD_BYTES, VALIDATE_EVENTS);
            nanos.map_err(BenchError::from)
        });
        let name = format!("filter of two fields, payload of {VALIDATE_PAYLOAD_BYTES} bytes");
        measured.add(&name, "ns", Some(aims::FILTER), evaluating.await?);
    }
    let gateway = GatewayArgs::own(own.clone());
    let (catchup, live) = (&loads.catchup, &loads.live);
    let behind = format!("catch-up through a filter, 1 of {ONE_IN}: looked at");
    let many = format!(
        "{} subscribers on {} filters",
        grouped_count(live.subscribers),
        live.filters
    );
    let once = async |run: &Run, measured: &mut Measured| {
        let rate = filtered_catchup(&run.target, catchup).await?;
        let aim = aims::filtered_catchup(catchup, own);
        measured.add(&behind, EVENTS_PER_SECOND, aim, rate);
        let found = filtered(run.child(), &run.target, live).await?;
        let evaluations = format!("{many}: evaluations");
        let aim = aims::evaluations(live);
        measured.add(&evaluations, "per event", aim, found.evaluations);
        let published = format!("{many}: published until the last is delivered");
        measured.add(&published, EVENTS_PER_SECOND, None, found.published);
        Ok(())
    };
    let of_gateway = run_all("filter", &gateway, 1, progress, once).await?;
    measured.0.extend(of_gateway);
    Ok(measured.0)
}

pub(super) async fn start_figures(
    own: &OwnArgs,
    history: Option<&History>,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let bytes = history.map_or(0, |history| history.bytes);
    let name = match history {
        Some(_) => format!("start with {:.1} GB of history", bytes as f64 / GB),
        None => "start without history".into(),
    };
    let mut measured = Measured::default();
    for number in 1..=own.runs.runs {
        progress.say("start", number, own.runs.runs);
        let took = start(&options(own)?, history).await?;
        measured.add(&name, "s", aims::start(bytes), took.as_secs_f64());
    }
    Ok(measured.0)
}

pub(super) async fn idle_figures(
    own: &OwnArgs,
    load: &IdleLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let what = format!(
        "{} idle subscriptions over {} connections",
        grouped_count(load.subscriptions),
        load.connections
    );
    let gateway = GatewayArgs::own(own.clone());
    let once = async |run: &Run, measured: &mut Measured| {
        let found = idle(run.child(), &run.target, load).await?;
        let each = found.memory_added_mb * 1_024.0 / load.subscriptions as f64;
        measured.add(
            "idle gateway: memory",
            "MB",
            aims::idle_memory(own),
            found.memory_before_mb,
        );
        measured.add(
            &format!("{what}: memory of each"),
            "KB",
            aims::idle_subscriber_memory(load),
            each,
        );
        measured.add(
            &format!("{what}: processor"),
            "% of one",
            aims::idle_processor(load),
            found.processor_percent,
        );
        Ok(())
    };
    run_all("idle", &gateway, 1, progress, once).await
}

pub(super) async fn overload_figures(
    own: &OwnArgs,
    load: &OverloadLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let gateway = GatewayArgs::own(own.clone());
    let once = async |run: &Run, measured: &mut Measured| {
        let found = overload(run.child(), &run.target, load).await?;
        let stored = found.published * load.payload_bytes as f64 / MB;
        let refused = found.calls_refused as f64;
        let p99s = [found.unloaded_p99_micros, found.loaded_p99_micros];
        let [unloaded, loaded] = p99s.map(|micros| micros as f64 / 1e3);
        measured.add("overload: stored", "MB/s", None, stored);
        measured.add(
            "before overload: memory",
            "MB",
            None,
            found.memory_before_mb,
        );
        measured.add("overload: peak memory", "MB", None, found.memory_peak_mb);
        measured.add(
            "overload: retryable refusals of calls",
            "calls",
            None,
            refused,
        );
        measured.add(
            "before overload: published to delivered, p99",
            "ms",
            None,
            unloaded,
        );
        measured.add(
            "overload: acknowledged to delivered, p99",
            "ms",
            None,
            loaded,
        );
        Ok(())
    };
    let mut figures = run_all("overload", &gateway, 2, progress, once).await?;
    let budgets = APPEND_QUEUE_BYTES
        + TAIL_RING_BYTES
        + BLOCK_CACHE_BYTES
        + FOOTER_CACHE_BYTES
        + (load.streams + 1) * HTTP2_CONNECTION_WINDOW_BYTES as usize;
    // The bounds are what was found before, so they come last.
    let [_, before, peak, _, unloaded, loaded] = &mut figures[..] else {
        return Ok(figures);
    };
    peak.aim = Some(Aim::AtMost(before.value() + budgets as f64 / MB));
    loaded.aim = Some(Aim::AtMost(3.0 * unloaded.value()));
    Ok(figures)
}

async fn sync_times(args: &RunArgs) -> Result<SyncTimes, BenchError> {
    let dir = args.dir.clone();
    aside(move || calibrate::sync(&dir)).await
}

/// Does what takes a while on a thread of its own, so that whoever wants to stop it is heard.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BenchError> + Send + 'static,
) -> Result<T, BenchError> {
    let working = tokio::task::spawn_blocking(work).await;
    working.expect("a measurement does not panic")
}

/// Values of runs, gathered into figures.
#[derive(Debug, Default)]
pub(super) struct Measured(Vec<Figure>);

impl Measured {
    fn add(&mut self, name: &str, unit: &'static str, aim: Option<Aim>, value: f64) {
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.runs.push(value),
            None => self.0.push(Figure {
                name: name.into(),
                unit,
                runs: vec![value],
                aim,
            }),
        }
    }
}

/// Measures `once` for each run, against a gateway of its own or the one that is named.
async fn run_all(
    what: &str,
    gateway: &GatewayArgs,
    topics: usize,
    progress: &Progress,
    once: impl AsyncFn(&Run, &mut Measured) -> Result<(), BenchError>,
) -> Result<Vec<Figure>, Failure> {
    gateway.check()?;
    let runs = gateway.own.runs.runs;
    let mut measured = Measured::default();
    for number in 1..=runs {
        progress.say(what, number, runs);
        let run = Run::begin(gateway, topics).await?;
        run.end_of(once(&run, &mut measured)).await?;
    }
    Ok(measured.0)
}

/// One run against one gateway.
struct Run {
    target: Target,
    child: Option<Child>,
}

impl Run {
    async fn begin(gateway: &GatewayArgs, topics: usize) -> Result<Self, Failure> {
        if gateway.connection.has_endpoint() {
            let target = Target::new(gateway.connection.endpoint()?, topics).await?;
            return Ok(Self {
                target,
                child: None,
            });
        }
        let child = Child::start(&options(&gateway.own)?, Place::Temporary, topics).await?;
        let target = child.target(topics).await?;
        Ok(Self {
            target,
            child: Some(child),
        })
    }

    /// The gateway of a measurement that has no other.
    fn child(&self) -> &Child {
        self.child.as_ref().expect("no other gateway can be named")
    }

    /// The result of what was done in this run; if the gateway ended meanwhile, that it did.
    async fn end_of<T>(
        &self,
        doing: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, Failure> {
        let result = doing.await;
        if let (Err(_), Some(child)) = (&result, &self.child) {
            child.ensure_running(END_GRACE).await?;
        }
        Ok(result?)
    }
}

/// How a gateway is started to be measured.
pub(super) fn options(own: &OwnArgs) -> Result<ChildOptions, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::failed(format!("it is not known which program this is: {error}"))
    })?;
    Ok(ChildOptions {
        program,
        parent_dir: own.runs.dir.clone(),
        durability: match own.durability {
            DurabilityArg::Sync => Durability::Sync,
            DurabilityArg::Os => Durability::Os,
        },
        tls: own.tls,
    })
}

/// What a load costs the gateway; nothing is known of one that is not ours.
struct Cost {
    /// Seconds of processor time at the beginning.
    before: Option<f64>,
}

impl Cost {
    fn begin(run: &Run) -> Result<Self, BenchError> {
        let before = run.child.as_ref().map(Child::cpu_seconds).transpose()?;
        Ok(Self { before })
    }

    fn end(
        self,
        run: &Run,
        name: &str,
        events: u64,
        memory_aim: Option<Aim>,
        measured: &mut Measured,
    ) -> Result<(), BenchError> {
        if let (Some(child), Some(before)) = (&run.child, self.before) {
            let seconds = (child.cpu_seconds()? - before) * 1e6 / events as f64;
            let processor = format!("{name}: processor time");
            measured.add(&processor, "s per million", None, seconds);
            let memory = format!("{name}: peak memory");
            measured.add(&memory, "MB", memory_aim, child.peak_memory_mb()?);
        }
        Ok(())
    }
}

/// What is measured, with what is not as usual about it.
fn named(what: &str, load: &PublishLoad, gateway: &GatewayArgs) -> String {
    let mut name = what.to_owned();
    let mut add = |part: String| name += &format!(", {part}");
    if load.batch != PUBLISH.batch {
        add(format!("batches of {}", load.batch));
    }
    if load.streams > 1 {
        add(format!("{} streams", grouped_count(load.streams)));
    }
    if load.topics > 1 {
        add(format!("{} topics", grouped_count(load.topics)));
    }
    with_settings(name, load.payload_bytes, gateway)
}

fn with_settings(mut name: String, payload_bytes: usize, gateway: &GatewayArgs) -> String {
    if payload_bytes != PAYLOAD_BYTES_DEFAULT {
        name += &format!(", {payload_bytes} bytes");
    }
    if gateway.own.tls {
        name += ", TLS";
    }
    if gateway.own.durability == DurabilityArg::Os {
        name += ", durability os";
    }
    name
}

fn with_subscribers(mut name: String, load: &FanoutLoad) -> String {
    match load.subscribers {
        0 => {}
        1 => name += ", 1 subscriber",
        several => name += &format!(", {several} subscribers"),
    }
    if load.client == ClientKind::Stock {
        name += ", stock client";
    }
    if load.slow_subscribers > 0 {
        name += &format!(", {} slow", load.slow_subscribers);
    }
    name
}

/// A whole number as people read it.
fn grouped_count(count: usize) -> String {
    match count < 1_000 {
        true => count.to_string(),
        false => grouped(count as f64),
    }
}

/// A tenth of the load, before the clock starts.
fn warm_up(load: &PublishLoad) -> PublishLoad {
    PublishLoad {
        events: (load.events / 10).max(1),
        ..*load
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What a gateway is shown before latencies are measured: it has opened its log and knows the schema.
const WARM_UP: PublishLoad = PublishLoad {
    events: 1_000,
    batch: 10,
    ..PUBLISH
};

/// How long it may take until a gateway whose connection was lost is known to have ended.
const END_GRACE: Duration = Duration::from_millis(500);
const EVENTS_PER_SECOND: &str = "events/s";
const GB: f64 = (1 << 30) as f64;
const MB: f64 = (1 << 20) as f64;
