//! One seed, from its first step to the verdict.

use std::{sync::Arc, time::Duration};

use mad_turmoil::time::SimClocksGuard;
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    faults::Faults,
    hosts::{CLIENT, GATEWAY, PUBLISHER, World},
    scenario::BUSY,
};

/// A step of the simulation: what is due within it happens in its order. Shorter ones cost more.
const TICK: Duration = Duration::from_millis(10);
/// How long it may take after the last fault until everything is handled and saved: a connection that
/// was lost without a word is noticed by PINGs within 30 s, by either end; a wait of 10 s may just
/// have begun, and another behind it; and handling everything once more, with failures, takes the
/// slowest handler less than four minutes.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

/// Runs a seed. Returns its trace and the promises that were broken.
///
/// To be called once in a process.
pub(crate) fn run(seed: u64) -> (Vec<String>, Vec<String>) {
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let _clocks = SimClocksGuard::init();
    let world = World::new(seed);
    let mut builder = turmoil::Builder::new();
    let mut sim = builder
        .rng_seed(seed)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        // Segments that one connection may have on their way.
        .tcp_capacity(4_096)
        .simulation_duration(Duration::from_secs(86_400))
        .build();
    let host = Arc::clone(&world);
    sim.host(GATEWAY, move || Arc::clone(&host).gateway());
    let host = Arc::clone(&world);
    sim.host(CLIENT, move || Arc::clone(&host).client());
    let host = Arc::clone(&world);
    sim.host(PUBLISHER, move || Arc::clone(&host).publisher());

    let mut faults = Faults::new(&world);
    let mut healed_at = BUSY;
    loop {
        faults.advance(&mut sim, &world);
        if let Err(error) = sim.step() {
            world.oracle.broken(format_args!("a host failed: {error}"));
            break;
        }
        world.gateway_clock.advance(TICK);
        world.client_clock.advance(TICK);
        world.oracle.advance(sim.elapsed());
        world.check();
        let now = sim.elapsed();
        if !faults.are_over() {
            healed_at = healed_at.max(now);
        } else if now >= BUSY && now.as_millis().is_multiple_of(1_000) {
            let Some(unsettled) = world.unsettled() else {
                break;
            };
            if now > healed_at + SETTLED_WITHIN {
                world.oracle.note(world.status());
                let within = SETTLED_WITHIN.as_secs();
                let promise = format!("not settled within {within} s: {unsettled}");
                world.oracle.broken(promise);
                break;
            }
        }
    }
    world.oracle.note("the end");
    world.oracle.verdict(|topic| world.trimmed(topic))
}
