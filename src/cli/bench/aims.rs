//! What is aimed at, for the loads that measurements have by themselves.
//!
//! The reference is a machine with two processors that gateway and load share, a payload of 200
//! bytes and ten fields, and a sync before each acknowledgement.

use std::time::Duration;

use super::args::{
    COMMITS, DurabilityArg, FANOUT, FILTERED, GatewayArgs, IDLE, LATENCY, OwnArgs, PUBLISH,
};
use crate::bench::{
    Aim, CatchupReader, ClientKind, CommitsLoad, FanoutLoad, FilteredLoad, IdleLoad, LatencyLoad,
    PublishLoad,
};

/// Events per second that are published.
pub(super) fn publish(load: &FanoutLoad, gateway: &GatewayArgs) -> Option<Aim> {
    let is_usual = load.publish == PUBLISH && gateway.is_usual();
    match (load.subscribers, gateway.own.tls) {
        (0, false) => at_least(is_usual, 1_000_000.0),
        (0, true) => at_least(is_usual, 600_000.0),
        (1, false) => at_least(is_usual, 700_000.0),
        _ => None,
    }
}

/// Events per second that are delivered, all subscribers together.
pub(super) fn fanout(load: &FanoutLoad, gateway: &GatewayArgs) -> Option<Aim> {
    let is_usual = gateway.is_usual() && !gateway.own.tls;
    if *load == FANOUT {
        return at_least(is_usual, 3_000_000.0);
    }
    at_least(
        is_usual && load.publish == PUBLISH && load.subscribers == 1,
        700_000.0,
    )
}

/// Events per second that are read.
pub(super) fn catchup(
    load: &PublishLoad,
    reader: CatchupReader,
    gateway: &GatewayArgs,
) -> Option<Aim> {
    let least = match (reader, gateway.own.tls) {
        (CatchupReader::Raw(ClientKind::Own), false) => 3_000_000.0,
        (CatchupReader::Raw(ClientKind::Own), true) => 1_200_000.0,
        (CatchupReader::Raw(ClientKind::Stock), _) => 250_000.0,
        // Half of what is delivered, since each event is decoded and accounted for.
        (CatchupReader::Library, false) => 1_500_000.0,
        (CatchupReader::Library, true) => 600_000.0,
    };
    at_least(*load == PUBLISH && gateway.is_usual(), least)
}

/// MB after a million events were published.
pub(super) fn publish_memory(load: &FanoutLoad, gateway: &GatewayArgs) -> Option<Aim> {
    let is_usual = load.publish == PUBLISH && load.subscribers == 0 && gateway.is_usual();
    at_most(is_usual, 100.0)
}

/// MB after they were read.
pub(super) fn catchup_memory(load: &PublishLoad, gateway: &GatewayArgs) -> Option<Aim> {
    at_most(*load == PUBLISH && gateway.is_usual(), 150.0)
}

/// Milliseconds; `sync_p99` is what a sync takes that is slower than 99 of 100.
pub(super) fn latency(
    quantile: f64,
    load: &LatencyLoad,
    gateway: &GatewayArgs,
    sync_p99: Duration,
) -> Option<Aim> {
    let load = LatencyLoad {
        duration: Duration::ZERO,
        ..*load
    };
    let is_usual = load == LATENCY && gateway.is_usual() && !gateway.own.tls;
    match quantile {
        0.5 => at_most(is_usual, 0.8),
        0.99 => at_most(is_usual, f64::max(6.0, 10.0 * 1e3 * sync_p99.as_secs_f64())),
        _ => None,
    }
}

/// Milliseconds until a commit is answered.
pub(super) fn commits(quantile: f64, load: &CommitsLoad, gateway: &GatewayArgs) -> Option<Aim> {
    let load = CommitsLoad {
        duration: Duration::ZERO,
        ..*load
    };
    let is_usual = load == COMMITS && gateway.is_usual() && !gateway.own.tls;
    at_most(is_usual && quantile == 0.99, 30.0)
}

/// Calls per second.
pub(super) fn unary(is_usual: bool, gateway: &GatewayArgs) -> Option<Aim> {
    at_least(is_usual && gateway.is_usual() && !gateway.own.tls, 20_000.0)
}

/// Nanoseconds for each payload.
pub(super) const VALIDATE: Aim = Aim::AtMost(150.0);

/// Nanoseconds for each evaluation of a filter of two fields.
pub(super) const FILTER: Aim = Aim::AtMost(200.0);

/// Events per second that a reader far behind has looked at through a filter.
pub(super) fn filtered_catchup(load: &PublishLoad, own: &OwnArgs) -> Option<Aim> {
    at_least(*load == FILTERED.catchup && is_usual(own), 2_000_000.0)
}

/// Evaluations for each event: one for each filter.
pub(super) fn evaluations(load: &FilteredLoad) -> Option<Aim> {
    at_most(true, load.filters as f64)
}

fn is_usual(own: &OwnArgs) -> bool {
    own.durability == DurabilityArg::Sync && !own.tls
}

/// Seconds until a gateway with so many bytes of history answers.
pub(super) fn start(bytes: u64) -> Option<Aim> {
    at_most(bytes >= 20 << 30, 1.0)
}

/// MB of a gateway that has nothing to do.
pub(super) fn idle_memory(own: &OwnArgs) -> Option<Aim> {
    at_most(own.durability == DurabilityArg::Sync && !own.tls, 30.0)
}

/// KB of each subscriber that waits.
pub(super) fn idle_subscriber_memory(load: &IdleLoad) -> Option<Aim> {
    at_most(is_usual_idle(load), 30.0)
}

/// Percent of a processor.
pub(super) fn idle_processor(load: &IdleLoad) -> Option<Aim> {
    at_most(is_usual_idle(load), 2.0)
}

fn is_usual_idle(load: &IdleLoad) -> bool {
    load.subscriptions == IDLE.subscriptions && load.connections == IDLE.connections
}

/// Many topics against one, events per second.
pub(super) fn topics(rate_of_one: f64) -> Aim {
    Aim::AtLeast(0.8 * rate_of_one)
}

impl GatewayArgs {
    /// Whether the gateway is one that the aims are about, but for TLS.
    fn is_usual(&self) -> bool {
        self.own.durability == DurabilityArg::Sync && !self.connection.has_endpoint()
    }
}

fn at_least(applies: bool, least: f64) -> Option<Aim> {
    applies.then_some(Aim::AtLeast(least))
}

fn at_most(applies: bool, most: f64) -> Option<Aim> {
    applies.then_some(Aim::AtMost(most))
}
