//! Runs of each measurement, and what they come to.

use std::time::Duration;

use super::{
    DurabilityArg, GatewayArgs, LATENCY_DEFAULT, PUBLISH_DEFAULT, Progress, RunArgs, table::grouped,
};
use crate::{
    bench::{
        Aim, BenchError, Child, ChildOptions, Figure, LatencyLoad, PAYLOAD_BYTES_DEFAULT,
        PublishLoad, Target, calibrate, catchup, latency, publish,
    },
    cli::exit::Failure,
    event_log::Durability,
};

pub(super) async fn calibrate_figures(
    runs: &RunArgs,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let mut sync = figure("fdatasync of 64 KiB", "ms", None);
    let mut echo = figure("loopback, 200 bytes there and back", "ms", None);
    for number in 1..=runs.runs {
        progress.say("calibrate", number, runs.runs);
        sync.runs.push(millis(calibrate::sync(&runs.dir)?));
        echo.runs.push(millis(calibrate::echo().await?));
    }
    Ok(vec![sync, echo])
}

pub(super) async fn publish_figures(
    gateway: &GatewayArgs,
    load: &PublishLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let is_default = *load == PUBLISH_DEFAULT;
    let name = named("publish", load, gateway);
    let mut rate = figure(
        &name,
        "events/s",
        gateway.aim(is_default, PUBLISH_AIM, PUBLISH_TLS_AIM),
    );
    let mut cost = Cost::new(&name, is_default.then_some(PUBLISH_MEMORY_AIM));
    for number in 1..=gateway.runs.runs {
        progress.say("publish", number, gateway.runs.runs);
        let run = Run::begin(gateway).await?;
        run.end_of(async {
            publish(&run.target, &warm_up(load)).await?;
            let before = run.cpu_seconds()?;
            rate.runs.push(publish(&run.target, load).await?);
            cost.take(&run, before, load.events)
        })
        .await?;
    }
    Ok([vec![rate], cost.figures()].concat())
}

pub(super) async fn catchup_figures(
    gateway: &GatewayArgs,
    load: &PublishLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let is_default = *load == PUBLISH_DEFAULT;
    let name = named("catch-up, stock settings", load, gateway);
    let mut rate = figure(
        &name,
        "events/s",
        gateway.aim(is_default, CATCHUP_AIM, CATCHUP_AIM),
    );
    let mut cost = Cost::new(&name, is_default.then_some(CATCHUP_MEMORY_AIM));
    for number in 1..=gateway.runs.runs {
        progress.say("catchup", number, gateway.runs.runs);
        let run = Run::begin(gateway).await?;
        run.end_of(async {
            publish(&run.target, load).await?;
            let before = run.cpu_seconds()?;
            rate.runs.push(catchup(&run.target, load.events).await?);
            cost.take(&run, before, load.events)
        })
        .await?;
    }
    Ok([vec![rate], cost.figures()].concat())
}

pub(super) async fn latency_figures(
    gateway: &GatewayArgs,
    load: &LatencyLoad,
    progress: &Progress,
) -> Result<Vec<Figure>, Failure> {
    let is_default = LATENCY_DEFAULT
        == LatencyLoad {
            duration: Duration::ZERO,
            ..*load
        };
    let name = format!("latency at {} events/s", grouped(f64::from(load.rate)));
    let quantiles = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];
    let mut figures = quantiles.map(|(quantile, called)| {
        let aim = LATENCY_AIMS.iter().find(|aim| aim.0 == quantile);
        let aim = aim
            .map(|aim| Aim::AtMost(aim.1))
            .filter(|_| is_default && gateway.is_stock());
        figure(&format!("{name}, {called}"), "ms", aim)
    });
    for number in 1..=gateway.runs.runs {
        progress.say("latency", number, gateway.runs.runs);
        let run = Run::begin(gateway).await?;
        let latencies = run.end_of(async {
            publish(
                &run.target,
                &PublishLoad {
                    payload_bytes: load.payload_bytes,
                    ..WARM_UP
                },
            )
            .await?;
            latency(&run.target, load).await
        });
        let latencies = latencies.await?;
        for (figure, (quantile, _)) in figures.iter_mut().zip(quantiles) {
            figure
                .runs
                .push(latencies.value_at_quantile(quantile) as f64 / 1e3);
        }
    }
    Ok(figures.into())
}

/// One run against one gateway.
struct Run {
    target: Target,
    child: Option<Child>,
}

impl Run {
    async fn begin(gateway: &GatewayArgs) -> Result<Self, Failure> {
        if gateway.connection.has_endpoint() {
            let target = Target::new(gateway.connection.endpoint()?).await?;
            return Ok(Self {
                target,
                child: None,
            });
        }
        let program = std::env::current_exe();
        let child = Child::start(&ChildOptions {
            program: program.map_err(|error| {
                Failure::failed(format!("it is not known which program this is: {error}"))
            })?,
            parent_dir: gateway.runs.dir.clone(),
            durability: match gateway.durability {
                DurabilityArg::Sync => Durability::Sync,
                DurabilityArg::Os => Durability::Os,
            },
            tls: gateway.tls,
        })
        .await?;
        let target = child.target().await?;
        Ok(Self {
            target,
            child: Some(child),
        })
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

    /// Seconds of processor time that the gateway has used, if it is ours.
    fn cpu_seconds(&self) -> Result<Option<f64>, BenchError> {
        self.child.as_ref().map(Child::cpu_seconds).transpose()
    }
}

/// What a load cost the gateway.
struct Cost {
    cpu: Figure,
    memory: Figure,
}

impl Cost {
    fn new(name: &str, memory_mb_max: Option<f64>) -> Self {
        Self {
            cpu: figure(
                &format!("{name}: processor time"),
                "s per million events",
                None,
            ),
            memory: figure(
                &format!("{name}: peak memory"),
                "MB",
                memory_mb_max.map(Aim::AtMost),
            ),
        }
    }

    fn take(&mut self, run: &Run, before: Option<f64>, events: u64) -> Result<(), BenchError> {
        if let (Some(child), Some(before)) = (&run.child, before) {
            let seconds = child.cpu_seconds()? - before;
            self.cpu.runs.push(seconds * 1e6 / events as f64);
            self.memory.runs.push(child.peak_memory_mb()?);
        }
        Ok(())
    }

    /// Nothing is known of a gateway that is not ours.
    fn figures(self) -> Vec<Figure> {
        let known = [self.cpu, self.memory].into_iter();
        known.filter(|figure| !figure.runs.is_empty()).collect()
    }
}

impl GatewayArgs {
    /// Whether the gateway is one that the aims are about, but for TLS.
    fn is_stock(&self) -> bool {
        self.durability == DurabilityArg::Sync && !self.connection.has_endpoint()
    }

    fn aim(&self, is_default: bool, plain: f64, tls: f64) -> Option<Aim> {
        let applies = is_default && self.is_stock();
        applies.then_some(Aim::AtLeast(if self.tls { tls } else { plain }))
    }
}

fn figure(name: &str, unit: &'static str, aim: Option<Aim>) -> Figure {
    Figure {
        name: name.into(),
        unit,
        runs: Vec::new(),
        aim,
    }
}

/// What is measured, with what is not as usual about it.
fn named(what: &str, load: &PublishLoad, gateway: &GatewayArgs) -> String {
    let mut name = format!("{what}, batches of {}", load.batch);
    if load.payload_bytes != PAYLOAD_BYTES_DEFAULT {
        name += &format!(", {} bytes", load.payload_bytes);
    }
    if load.streams > 1 {
        name += &format!(", {} streams", load.streams);
    }
    if gateway.tls {
        name += ", TLS";
    }
    if gateway.durability == DurabilityArg::Os {
        name += ", durability os";
    }
    name
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
    ..PUBLISH_DEFAULT
};

/// How long it may take until a gateway whose connection was lost is known to have ended.
const END_GRACE: Duration = Duration::from_millis(500);

const PUBLISH_AIM: f64 = 1_000_000.0;
const PUBLISH_TLS_AIM: f64 = 600_000.0;
const PUBLISH_MEMORY_AIM: f64 = 100.0;
const CATCHUP_AIM: f64 = 250_000.0;
const CATCHUP_MEMORY_AIM: f64 = 150.0;
/// Quantile and milliseconds.
const LATENCY_AIMS: [(f64, f64); 2] = [(0.5, 0.8), (0.99, 6.0)];
