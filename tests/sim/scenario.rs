//! What a seed draws: a subscription, a handler, a publisher, and a schedule of faults.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How long events are published, and faults happen.
pub(crate) const BUSY: Duration = Duration::from_secs(240);

/// Between two tokens that are taken away.
const REVOKED_APART: Duration = Duration::from_secs(5);

/// One simulated run.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) topics: usize,
    pub(crate) is_managed: bool,
    pub(crate) order: Ordering,
    pub(crate) in_flight_max: u32,
    pub(crate) has_dedupe: bool,
    /// Whether the subscriber gets another token by itself when its own is taken away, or whoever starts
    /// it again gives it one.
    pub(crate) renews: bool,
    pub(crate) save_every: u64,
    pub(crate) save_within: Duration,
    /// The gateway's.
    pub(crate) keepalive: Duration,
    /// What the subscriber is told first; whoever restarts it after a refusal says `Earliest`.
    pub(crate) rejected_replay: Policy,
    pub(crate) handler: Handling,
    /// Mean time between two events of a topic.
    pub(crate) publish_every: Duration,
    /// How many of a hundred events are published a second time under the same id.
    pub(crate) repeats_percent: u32,
    pub(crate) faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ordering {
    InOrder,
    PerKey,
    Unordered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Stop,
    Earliest,
    Latest,
}

/// What a handler does, of a hundred tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handling {
    pub(crate) longest_ms: u64,
    pub(crate) fails_percent: u32,
    pub(crate) panics_percent: u32,
    pub(crate) parks_percent: u32,
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing passes between subscriber and gateway, and what is sent is lost.
    Partition,
    /// What the gateway sends does not arrive.
    DeafClient,
    /// What the client sends does not arrive.
    MuteClient,
    /// Nothing passes, and all of it arrives in the end.
    Hold,
    /// Nothing passes between publisher and gateway.
    PublisherPartition,
    /// The gateway's process is gone.
    GatewayCrash,
    /// The gateway stops as planned.
    GatewayStop,
    /// The subscriber's process is gone.
    ClientCrash,
    /// The subscriber stops as planned.
    ClientStop,
    /// The gateway throws away old events while the subscriber's process is away.
    Trim,
    /// The subscriber's token is taken away, and there is another.
    Revoke,
    /// Every connection is reset, at both of its ends.
    Reset,
    /// The subscriber's store fails.
    StoreFailure,
    /// The subscriber's store takes its time.
    SlowStore,
    /// A wall clock jumps, by minutes.
    ClientClock {
        is_back: bool,
    },
    GatewayClock {
        is_back: bool,
    },
}

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut scenario = Self {
            topics: rng.random_range(1..=2),
            is_managed: rng.random_bool(0.3),
            order: one_of(
                rng,
                &[Ordering::InOrder, Ordering::PerKey, Ordering::Unordered],
            ),
            in_flight_max: one_of(rng, &[1, 2, 5, 20, 100, 500]),
            has_dedupe: rng.random_bool(0.5),
            save_every: one_of(rng, &[1, 3, 20, 1_000]),
            save_within: Duration::from_millis(one_of(rng, &[10, 200, 1_000, 5_000])),
            keepalive: Duration::from_secs(rng.random_range(2..=20)),
            rejected_replay: one_of(rng, &[Policy::Stop, Policy::Earliest, Policy::Latest]),
            handler: Handling {
                longest_ms: one_of(rng, &[0, 5, 50, 300]),
                fails_percent: one_of(rng, &[0, 0, 5, 20]),
                panics_percent: one_of(rng, &[0, 0, 3]),
                parks_percent: one_of(rng, &[0, 0, 3]),
            },
            publish_every: Duration::from_millis(one_of(rng, &[400, 700, 1_500])),
            repeats_percent: one_of(rng, &[0, 10, 30]),
            renews: rng.random_bool(0.5),
            faults: Vec::new(),
        };
        if scenario.is_managed {
            // The gateway keeps one position, of one topic.
            scenario.topics = 1;
        }
        scenario.draw_faults(rng);
        scenario
    }

    fn draw_faults(&mut self, rng: &mut StdRng) {
        let heavy = [
            Kind::Partition,
            Kind::DeafClient,
            Kind::MuteClient,
            Kind::Hold,
            Kind::PublisherPartition,
            Kind::GatewayCrash,
            Kind::GatewayStop,
            Kind::ClientCrash,
            Kind::ClientStop,
            Kind::Revoke,
            Kind::Reset,
        ];
        // A handful at any time, which overlap or not.
        for _ in 0..rng.random_range(1..=8) {
            let kind = one_of(rng, &heavy);
            self.add(rng, kind, 0..200, 1..50);
        }
        let light = [
            Kind::StoreFailure,
            Kind::SlowStore,
            Kind::ClientClock { is_back: false },
            Kind::ClientClock { is_back: true },
            Kind::GatewayClock { is_back: false },
            Kind::GatewayClock { is_back: true },
        ];
        for _ in 0..rng.random_range(0..=4) {
            let kind = one_of(rng, &light);
            self.add(rng, kind, 0..200, 1..30);
        }
        if rng.random_bool(0.3) {
            // Alone, so that it is known that something is published meanwhile, after which old
            // events go.
            let at = rng.random_range(60..150);
            self.faults.retain(|fault| {
                let end = fault.at + fault.lasts;
                end < Duration::from_secs(at) || fault.at > Duration::from_secs(at + 60)
            });
            self.add(rng, Kind::Trim, at..at + 1, 20..40);
        }
        self.faults.sort_by_key(|fault| fault.at);
        // A token that is refused as soon as it was got ends a subscriber.
        let mut revoked_at = None;
        self.faults.retain(|fault| {
            let is_too_soon = revoked_at.is_some_and(|at| fault.at - at < REVOKED_APART);
            if fault.kind == Kind::Revoke && !is_too_soon {
                revoked_at = Some(fault.at);
            }
            fault.kind != Kind::Revoke || !is_too_soon
        });
    }

    fn add(
        &mut self,
        rng: &mut StdRng,
        kind: Kind,
        at: std::ops::Range<u64>,
        lasts: std::ops::Range<u64>,
    ) {
        self.faults.push(Fault {
            at: Duration::from_secs(rng.random_range(at)),
            lasts: Duration::from_secs(rng.random_range(lasts)),
            kind,
        });
    }
}

fn one_of<T: Copy>(rng: &mut StdRng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}
