//! What a measurement can be told, with the bounds of each.

use std::{path::PathBuf, time::Duration};

use clap::{ValueEnum, builder::RangedU64ValueParser};

use crate::{
    bench::{
        COMMITTERS_MAX, CatchupReader, ClientKind, CommitsLoad, FanoutLoad, FilteredLoad, IdleLoad,
        LatencyLoad, OverloadLoad, PAYLOAD_BYTES_DEFAULT, PublishLoad, UnaryLoad,
    },
    cli::{connection::ConnectionArgs, exit::Failure, output::OutputArgs, parse_duration},
    types::limits::{EVENTS_PER_REQUEST_MAX, STREAMS_PER_CONNECTION_MAX},
};

#[derive(Debug, clap::Args)]
pub(super) struct PublishArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Publish this many events in each run
    #[arg(long, value_name = "N", default_value_t = PUBLISH.events, value_parser = events())]
    events: u64,
    /// Have this many subscribers read along, each of them every event of one topic
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = at_most(SUBSCRIBERS_MAX))]
    subscribers: u32,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CatchupArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Publish and read this many events in each run
    #[arg(long, value_name = "N", default_value_t = PUBLISH.events, value_parser = events())]
    events: u64,
    /// Read with this project's settings, with those of any gRPC library, or by the subscriber
    /// library, which decodes each event
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    client: ReaderArg,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ReaderArg {
    #[default]
    Own,
    Stock,
    Library,
}

#[derive(Debug, clap::Args)]
pub(super) struct FanoutArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Publish this many events in each run
    #[arg(long, value_name = "N", default_value_t = FANOUT.publish.events, value_parser = events())]
    events: u64,
    /// Subscribers that read along, each on its own connection
    #[arg(long, value_name = "N", default_value_t = FANOUT.subscribers as u32, value_parser = from_one(SUBSCRIBERS_MAX))]
    subscribers: u32,
    /// Subscribers besides, behind a link that carries 1 KB/s
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = at_most(SLOW_SUBSCRIBERS_MAX))]
    slow_subscribers: u32,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct LatencyArgs {
    /// Events of each second
    #[arg(long, value_name = "N", default_value_t = LATENCY.rate, value_parser = from_one(RATE_MAX))]
    rate: u32,
    /// Events of each request
    #[arg(long, value_name = "N", default_value_t = LATENCY.batch, value_parser = from_one(BATCH_MAX))]
    batch: u32,
    /// How long each run goes on
    #[arg(long, value_name = "TIME", default_value = LATENCY_DURATION, value_parser = parse_run_duration)]
    duration: Duration,
    #[command(flatten)]
    payload: PayloadArgs,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct UnaryArgs {
    /// Calls of each run
    #[arg(long, value_name = "N", default_value_t = UNARY.calls, value_parser = events())]
    calls: u64,
    /// Calls under way at the same time, on one connection
    #[arg(long, value_name = "N", default_value_t = UNARY.in_flight as u32, value_parser = from_one(CALLS_MAX))]
    in_flight: u32,
    #[command(flatten)]
    payload: PayloadArgs,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CommitsArgs {
    /// Managed subscriptions, each on a stream of its own
    #[arg(long, value_name = "N", default_value_t = COMMITS.subscriptions as u32, value_parser = from_one(COMMITTERS_MAX))]
    subscriptions: u32,
    /// Commits of each in a second
    #[arg(long, value_name = "N", default_value_t = COMMITS.rate, value_parser = from_one(RATE_MAX))]
    rate: u32,
    /// How long each run goes on
    #[arg(long, value_name = "TIME", default_value = LATENCY_DURATION, value_parser = parse_run_duration)]
    duration: Duration,
    #[command(flatten)]
    pub(super) gateway: GatewayArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Look through this many events far behind
    #[arg(long, value_name = "N", default_value_t = FILTERED.catchup.events, value_parser = events())]
    events: u64,
    /// Subscribers that read along
    #[arg(long, value_name = "N", default_value_t = FILTERED.live.subscribers as u32,
        value_parser = from_one(FILTERED_SUBSCRIBERS_MAX))]
    subscribers: u32,
    /// Filters that they share
    #[arg(long, value_name = "N", default_value_t = FILTERED.live.filters as u32,
        value_parser = from_one(FILTERED_SUBSCRIBERS_MAX))]
    filters: u32,
    #[command(flatten)]
    pub(super) own: OwnArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ValidateArgs {
    /// Payloads of each run
    #[arg(long, value_name = "N", default_value_t = VALIDATE_EVENTS, value_parser = events())]
    pub(super) events: u64,
    /// Bytes of each payload, as near as the encoding allows
    #[arg(long, value_name = "BYTES", default_value_t = VALIDATE_PAYLOAD_BYTES)]
    pub(super) payload: usize,
    /// Measure this many times, and take the median
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = from_one(RUNS_MAX))]
    pub(super) runs: u32,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    pub(super) history: HistoryDirArgs,
    #[command(flatten)]
    pub(super) own: OwnArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct HistoryDirArgs {
    /// Start on the history that `tidegate bench history` made in this directory [default: none]
    #[arg(long, value_name = "DIR")]
    pub(super) history: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    /// Make it in this directory, or go on with the one that is there
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Size of its files, in GB of 2^30 bytes
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = parse_gb)]
    pub(super) gb: f64,
}

#[derive(Debug, clap::Args)]
pub(super) struct IdleArgs {
    /// Subscriptions that wait
    #[arg(long, value_name = "N", default_value_t = IDLE.subscriptions as u32, value_parser = from_one(SUBSCRIPTIONS_MAX))]
    subscriptions: u32,
    /// Connections that they share evenly
    #[arg(long, value_name = "N", default_value_t = IDLE.connections as u32, value_parser = from_one(SUBSCRIBERS_MAX))]
    connections: u32,
    /// How long the processor is watched in each run
    #[arg(long, value_name = "TIME", default_value = IDLE_DURATION, value_parser = parse_run_duration)]
    duration: Duration,
    #[command(flatten)]
    pub(super) own: OwnArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct OverloadArgs {
    /// Publish streams, each on its own connection
    #[arg(long, value_name = "N", default_value_t = OVERLOAD.streams as u32, value_parser = at_most(SUBSCRIBERS_MAX))]
    streams: u32,
    /// Publish calls under way at the same time besides, on one connection
    #[arg(long, value_name = "N", default_value_t = OVERLOAD.calls as u32, value_parser = at_most(CALLS_MAX))]
    calls: u32,
    /// Events of each request
    #[arg(long, value_name = "N", default_value_t = OVERLOAD.batch as u32, value_parser = from_one(BATCH_MAX))]
    batch: u32,
    /// Bytes of each payload, as near as the encoding allows
    #[arg(long, value_name = "BYTES", default_value_t = OVERLOAD.payload_bytes)]
    payload: usize,
    /// How long each run goes on
    #[arg(long, value_name = "TIME", default_value = OVERLOAD_DURATION, value_parser = parse_run_duration)]
    duration: Duration,
    #[command(flatten)]
    pub(super) own: OwnArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct CalibrateArgs {
    #[command(flatten)]
    pub(super) runs: RunArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct AllArgs {
    #[command(flatten)]
    pub(super) history: HistoryDirArgs,
    #[command(flatten)]
    pub(super) runs: RunArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct SchemaArgs {
    /// That of the load's topic with this number; with one topic there is only number 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = at_most(TOPICS_MAX))]
    pub(super) number: u32,
}

/// What is published, but for how much.
#[derive(Debug, clap::Args)]
struct LoadArgs {
    #[command(flatten)]
    payload: PayloadArgs,
    /// Events of each request
    #[arg(long, value_name = "N", default_value_t = PUBLISH.batch as u32, value_parser = from_one(BATCH_MAX))]
    batch: u32,
    /// Publish on this many streams at the same time, or one for each topic if those are more
    #[arg(long, value_name = "N", default_value_t = PUBLISH.streams as u32, value_parser = from_one(STREAMS_MAX))]
    streams: u32,
    /// Publish to this many topics in turn
    #[arg(long, value_name = "N", default_value_t = PUBLISH.topics as u32, value_parser = from_one(TOPICS_MAX))]
    topics: u32,
}

#[derive(Debug, clap::Args)]
struct PayloadArgs {
    /// Bytes of each payload, as near as the encoding allows
    #[arg(long, value_name = "BYTES", default_value_t = PAYLOAD_BYTES_DEFAULT)]
    payload: usize,
}

#[derive(Debug, clap::Args)]
struct ClientArgs {
    /// Read with this project's settings, or with those of any gRPC library: small frames and the
    /// protocol's credit of 100
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    client: ClientArg,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ClientArg {
    #[default]
    Own,
    Stock,
}

/// How often a measurement is made, and where.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Measure this many times, and take the median
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = from_one(RUNS_MAX))]
    pub(super) runs: u32,
    /// Measure the disk that this directory is on; what is made in it is removed
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
}

/// A gateway that is started to be measured.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OwnArgs {
    #[command(flatten)]
    pub(super) runs: RunArgs,
    /// When the gateway that is started acknowledges: after a sync, or before
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub(super) durability: DurabilityArg,
    /// Call the gateway that is started over TLS
    #[arg(long)]
    pub(super) tls: bool,
}

/// The gateway that is measured.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct GatewayArgs {
    #[command(flatten)]
    pub(super) own: OwnArgs,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DurabilityArg {
    #[default]
    Sync,
    Os,
}

impl PublishArgs {
    pub(super) fn load(&self) -> FanoutLoad {
        FanoutLoad {
            publish: self.load.load(self.events),
            subscribers: self.subscribers as usize,
            client: ClientKind::Own,
            slow_subscribers: 0,
        }
    }
}

impl CatchupArgs {
    pub(super) fn load(&self) -> (PublishLoad, CatchupReader) {
        let reader = match self.client {
            ReaderArg::Own => CatchupReader::Raw(ClientKind::Own),
            ReaderArg::Stock => CatchupReader::Raw(ClientKind::Stock),
            ReaderArg::Library => CatchupReader::Library,
        };
        (self.load.load(self.events), reader)
    }
}

impl FilterArgs {
    pub(super) fn load(&self) -> FilterLoads {
        FilterLoads {
            catchup: PublishLoad {
                events: self.events,
                ..FILTERED.catchup
            },
            live: FilteredLoad {
                subscribers: self.subscribers as usize,
                filters: self.filters.min(self.subscribers) as usize,
                ..FILTERED.live
            },
        }
    }
}

/// What filters are measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilterLoads {
    pub(super) catchup: PublishLoad,
    pub(super) live: FilteredLoad,
}

impl FanoutArgs {
    pub(super) fn load(&self) -> FanoutLoad {
        FanoutLoad {
            publish: self.load.load(self.events),
            subscribers: self.subscribers as usize,
            client: self.client.kind(),
            slow_subscribers: self.slow_subscribers as usize,
        }
    }
}

impl LatencyArgs {
    pub(super) fn load(&self) -> LatencyLoad {
        LatencyLoad {
            rate: self.rate,
            batch: self.batch,
            duration: self.duration,
            payload_bytes: self.payload.payload,
        }
    }
}

impl CommitsArgs {
    pub(super) fn load(&self) -> CommitsLoad {
        CommitsLoad {
            subscriptions: self.subscriptions as usize,
            rate: self.rate,
            duration: self.duration,
        }
    }
}

impl UnaryArgs {
    pub(super) fn load(&self) -> UnaryLoad {
        UnaryLoad {
            calls: self.calls,
            in_flight: self.in_flight as usize,
            payload_bytes: self.payload.payload,
        }
    }
}

impl IdleArgs {
    pub(super) fn load(&self) -> Result<IdleLoad, Failure> {
        let most = self.connections * STREAMS_PER_CONNECTION_MAX;
        if self.subscriptions > most {
            return Err(Failure::Usage(format!(
                "{} connections carry at most {most} subscriptions, not {}",
                self.connections, self.subscriptions
            )));
        }
        Ok(IdleLoad {
            subscriptions: self.subscriptions as usize,
            connections: self.connections.min(self.subscriptions) as usize,
            duration: self.duration,
        })
    }
}

impl OverloadArgs {
    pub(super) fn load(&self) -> OverloadLoad {
        OverloadLoad {
            streams: self.streams as usize,
            calls: self.calls as usize,
            batch: self.batch as usize,
            payload_bytes: self.payload,
            duration: self.duration,
        }
    }
}

impl LoadArgs {
    fn load(&self, events: u64) -> PublishLoad {
        PublishLoad {
            events,
            payload_bytes: self.payload.payload,
            batch: self.batch as usize,
            streams: self.streams as usize,
            topics: self.topics as usize,
        }
    }
}

impl ClientArgs {
    fn kind(&self) -> ClientKind {
        match self.client {
            ClientArg::Own => ClientKind::Own,
            ClientArg::Stock => ClientKind::Stock,
        }
    }
}

impl OwnArgs {
    /// The gateway that the aims are about.
    pub(super) fn usual(runs: RunArgs) -> Self {
        Self {
            runs,
            durability: DurabilityArg::Sync,
            tls: false,
        }
    }
}

impl GatewayArgs {
    /// A gateway that is started.
    pub(super) fn own(own: OwnArgs) -> Self {
        Self {
            own,
            connection: ConnectionArgs::default(),
        }
    }

    /// Refuses settings of a gateway that is started for one that is named.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let has_settings = self.own.tls || self.own.durability != DurabilityArg::Sync;
        match self.connection.has_endpoint() && has_settings {
            true => Err(Failure::Usage(
                "--tls and --durability are settings of a gateway that is started, and --endpoint \
                 names one that runs"
                    .into(),
            )),
            false => Ok(()),
        }
    }
}

fn parse_gb(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|gb| (HISTORY_GB_MIN..=HISTORY_GB_MAX).contains(gb))
        .ok_or_else(|| format!("wanted a number from {HISTORY_GB_MIN} to {HISTORY_GB_MAX}"))
}

fn parse_run_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    match duration <= DURATION_MAX {
        true => Ok(duration),
        false => Err(format!(
            "a run goes on for at most {} s",
            DURATION_MAX.as_secs()
        )),
    }
}

/// A default that was written for the command line.
pub(super) fn duration(text: &str) -> Duration {
    parse_duration(text).expect("the defaults are durations")
}

fn events() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=EVENTS_MAX)
}

fn from_one(max: u32) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=u64::from(max))
}

fn at_most(max: u32) -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(0..=u64::from(max))
}

pub(super) const PUBLISH: PublishLoad = PublishLoad {
    events: 1_000_000,
    payload_bytes: PAYLOAD_BYTES_DEFAULT,
    batch: 200,
    streams: 1,
    topics: 1,
};
pub(super) const FANOUT: FanoutLoad = FanoutLoad {
    publish: PublishLoad {
        events: 200_000,
        ..PUBLISH
    },
    subscribers: 50,
    client: ClientKind::Own,
    slow_subscribers: 0,
};
pub(super) const FILTERED: FilterLoads = FilterLoads {
    catchup: PublishLoad {
        events: 2_000_000,
        ..PUBLISH
    },
    live: FilteredLoad {
        publish: PublishLoad {
            events: 100_000,
            ..PUBLISH
        },
        subscribers: 1_000,
        filters: 10,
    },
};
/// Its duration does not matter to the aims.
pub(super) const LATENCY: LatencyLoad = LatencyLoad {
    rate: 10_000,
    batch: 10,
    duration: Duration::ZERO,
    payload_bytes: PAYLOAD_BYTES_DEFAULT,
};
pub(super) const LATENCY_DURATION: &str = "10s";
/// Its duration does not matter to the aims.
pub(super) const COMMITS: CommitsLoad = CommitsLoad {
    subscriptions: 200,
    rate: 50,
    duration: Duration::ZERO,
};
pub(super) const UNARY: UnaryLoad = UnaryLoad {
    calls: 100_000,
    in_flight: 64,
    payload_bytes: PAYLOAD_BYTES_DEFAULT,
};
pub(super) const VALIDATE_EVENTS: u64 = 2_000_000;
pub(super) const VALIDATE_PAYLOAD_BYTES: usize = 190;
/// Its duration does not matter to the aims.
pub(super) const IDLE: IdleLoad = IdleLoad {
    subscriptions: 10_000,
    connections: 100,
    duration: Duration::ZERO,
};
/// Each subscription gets a sign of life once a minute, and all of them belong to the cost.
pub(super) const IDLE_DURATION: &str = "1m";
/// Events so large that the disk is what they wait for. Its duration does not matter to the aims.
pub(super) const OVERLOAD: OverloadLoad = OverloadLoad {
    streams: 4,
    calls: 64,
    batch: 20,
    payload_bytes: 10_000,
    duration: Duration::ZERO,
};
pub(super) const OVERLOAD_DURATION: &str = "1m";
const RUNS: u32 = 5;

/// A disk's worth: at 200 bytes of payload, 300 GB.
const EVENTS_MAX: u64 = 1_000_000_000;
const BATCH_MAX: u32 = EVENTS_PER_REQUEST_MAX as u32;
/// They share connections, of which the gateway gives 1,000 streams to each.
const STREAMS_MAX: u32 = 1_000;
/// Each has a stream.
const TOPICS_MAX: u32 = 1_000;
/// Each has a connection, and a process 1,024 files unless it asks for more.
const SUBSCRIBERS_MAX: u32 = 500;
/// A hundred of them share a connection.
const FILTERED_SUBSCRIBERS_MAX: u32 = 50_000;
/// Each has four files: two links of two ends.
const SLOW_SUBSCRIBERS_MAX: u32 = 100;
/// Memory of this process, mostly.
const SUBSCRIPTIONS_MAX: u32 = 100_000;
/// Streams of a connection.
const CALLS_MAX: u32 = 1_000;
/// More than one connection carries.
const RATE_MAX: u32 = 5_000_000;
const HISTORY_GB_MIN: f64 = 0.001;
const HISTORY_GB_MAX: f64 = 10_000.0;
const RUNS_MAX: u32 = 1_000;
const DURATION_MAX: Duration = Duration::from_secs(3_600);
