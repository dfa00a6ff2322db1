//! Faults that begin and end, also while others last.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tidegate::clock::{Clock, ManualClock, Timestamp};
use turmoil::Sim;

use crate::{
    hosts::{CLIENT, GATEWAY, PUBLISHER, RETENTION, World},
    scenario::{Fault, Kind},
};

/// A jump of a wall clock: less than events are kept, however many there are.
const JUMP: Duration = Duration::from_secs(10 * 60);

/// The faults of a run.
pub(crate) struct Faults {
    waiting: Vec<Fault>,
    active: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(world: &World) -> Self {
        let mut waiting = world.scenario.faults.clone();
        waiting.reverse();
        Self {
            waiting,
            active: Vec::new(),
        }
    }

    /// Whether nothing is broken any more, and nothing will be.
    pub(crate) fn are_over(&self) -> bool {
        self.waiting.is_empty() && self.active.is_empty()
    }

    /// Begins and ends what is due.
    pub(crate) fn advance(&mut self, sim: &mut Sim<'_>, world: &World) {
        let now = sim.elapsed();
        let due = |fault: &Fault| fault.at + fault.lasts <= now;
        for fault in self
            .active
            .extract_if(.., |fault| due(fault))
            .collect::<Vec<_>>()
        {
            world.oracle.note(format_args!("{:?} ends", fault.kind));
            self.end(fault.kind, sim, world);
        }
        while let Some(fault) = self.waiting.pop_if(|fault| fault.at <= now) {
            world.oracle.note(format_args!("{:?} begins", fault.kind));
            self.active.push(fault);
            self.begin(fault.kind, sim, world);
        }
    }

    fn has(&self, kinds: &[Kind]) -> bool {
        self.active.iter().any(|fault| kinds.contains(&fault.kind))
    }

    fn begin(&self, kind: Kind, sim: &mut Sim<'_>, world: &World) {
        match kind {
            Kind::GatewayCrash => sim.crash(GATEWAY),
            Kind::GatewayStop => {
                if let Some(shutdown) = &*world.stop_gateway.lock().unwrap() {
                    shutdown.begin();
                }
            }
            Kind::ClientCrash => sim.crash(CLIENT),
            Kind::ClientStop => {
                world.is_stopping.store(true, SeqCst);
                world.stop_client.notify_waiters();
            }
            Kind::Trim => {
                sim.crash(CLIENT);
                world.was_trimmed.store(true, SeqCst);
                world.gateway_clock.advance(RETENTION + JUMP);
            }
            Kind::Revoke => world.revoke_next(),
            Kind::Reset => world.resets.send_modify(|resets| *resets += 1),
            Kind::StoreFailure => world.disk.fails.store(true, SeqCst),
            Kind::SlowStore => world.disk.is_slow.store(true, SeqCst),
            Kind::ClientClock { is_back } => jump(&world.client_clock, is_back),
            Kind::GatewayClock { is_back } => jump(&world.gateway_clock, is_back),
            Kind::Partition
            | Kind::DeafClient
            | Kind::MuteClient
            | Kind::Hold
            | Kind::PublisherPartition => self.set_links(sim),
        }
    }

    fn end(&self, kind: Kind, sim: &mut Sim<'_>, world: &World) {
        match kind {
            Kind::GatewayCrash | Kind::GatewayStop => {
                if !self.has(&[Kind::GatewayCrash, Kind::GatewayStop]) {
                    sim.bounce(GATEWAY);
                }
            }
            Kind::ClientCrash | Kind::ClientStop | Kind::Trim => {
                if !self.has(&[Kind::ClientCrash, Kind::ClientStop, Kind::Trim]) {
                    world.is_stopping.store(false, SeqCst);
                    sim.bounce(CLIENT);
                }
            }
            Kind::StoreFailure => {
                let is_failing = self.has(&[kind]);
                world.disk.fails.store(is_failing, SeqCst);
            }
            Kind::SlowStore => {
                let is_slow = self.has(&[kind]);
                world.disk.is_slow.store(is_slow, SeqCst);
            }
            Kind::Revoke | Kind::Reset | Kind::ClientClock { .. } | Kind::GatewayClock { .. } => {}
            Kind::Partition
            | Kind::DeafClient
            | Kind::MuteClient
            | Kind::Hold
            | Kind::PublisherPartition => self.set_links(sim),
        }
    }

    /// Makes the links as the faults that last want them.
    fn set_links(&self, sim: &mut Sim<'_>) {
        sim.release(CLIENT, GATEWAY);
        sim.repair(CLIENT, GATEWAY);
        sim.repair(PUBLISHER, GATEWAY);
        for fault in &self.active {
            match fault.kind {
                Kind::Partition => sim.partition(CLIENT, GATEWAY),
                Kind::DeafClient => sim.partition_oneway(GATEWAY, CLIENT),
                Kind::MuteClient => sim.partition_oneway(CLIENT, GATEWAY),
                Kind::Hold => sim.hold(CLIENT, GATEWAY),
                Kind::PublisherPartition => sim.partition(PUBLISHER, GATEWAY),
                _ => {}
            }
        }
    }
}

fn jump(clock: &ManualClock, is_back: bool) {
    match is_back {
        false => clock.advance(JUMP),
        true => {
            let millis = clock.now().as_millis() - JUMP.as_millis() as i64;
            clock.set(Timestamp::from_millis(millis));
        }
    }
}
