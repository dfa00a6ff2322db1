//! Times a case beside what could be done instead of it.
//!
//! Every side is warmed up, and then the sides take turns. What disturbs the machine for longer
//! than a round disturbs all of them, so the ratio holds where the times do not.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Something that the gateway does, and what could be done instead.
pub(crate) struct Case {
    /// What one operation is.
    pub(crate) unit: &'static str,
    /// Operations of one call.
    operations: usize,
    /// The gateway's own way first.
    pub(crate) sides: Vec<Side>,
}

pub(crate) struct Side {
    pub(crate) name: &'static str,
    /// How long so many calls take.
    time: Box<dyn FnMut(u64) -> Duration>,
    /// Nanoseconds that an operation took in each round.
    pub(crate) rounds: Vec<f64>,
}

impl Case {
    /// A case whose own way is `call`, which does `operations` operations. What a call returns is
    /// dropped within the time that counts.
    pub(crate) fn new<T>(
        unit: &'static str,
        operations: usize,
        call: impl FnMut() -> T + 'static,
    ) -> Self {
        let sides = Vec::new();
        Self {
            unit,
            operations,
            sides,
        }
        .against("tidegate", call)
    }

    /// The case with one more alternative, which does as many operations in a call.
    pub(crate) fn against<T>(
        mut self,
        name: &'static str,
        mut call: impl FnMut() -> T + 'static,
    ) -> Self {
        // The loop is compiled into one with what it repeats; a loop around calls through a pointer
        // would take longer than the shortest cases.
        let time = Box::new(move |calls| {
            let start = Instant::now();
            (0..calls).for_each(|_| drop(black_box(call())));
            start.elapsed()
        });
        let rounds = Vec::with_capacity(ROUNDS);
        self.sides.push(Side { name, time, rounds });
        self
    }

    pub(crate) fn measure(&mut self) {
        let calls: Vec<u64> = self.sides.iter_mut().map(Side::warm_up).collect();
        let mut order: Vec<usize> = (0..calls.len()).collect();
        for _ in 0..ROUNDS {
            for &turn in &order {
                let side = &mut self.sides[turn];
                let time = (side.time)(calls[turn]).as_secs_f64() * 1e9;
                let operations = calls[turn] as f64 * self.operations as f64;
                side.rounds.push(time / operations);
            }
            // Back and forth, so that no side always comes after the same other one.
            order.reverse();
        }
    }
}

impl Side {
    /// Calls until caches, branches and the processor's clock are used to it, and returns how many
    /// calls make a round.
    fn warm_up(&mut self) -> u64 {
        let mut calls = 1;
        loop {
            let time = (self.time)(calls);
            if time >= ROUND / 2 {
                return (calls as f64 * ROUND.div_duration_f64(time)).ceil() as u64;
            }
            calls *= 2;
        }
    }

    /// How many times as long as `other` it took: the median of the rounds, each with its own.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        let ratios: Vec<f64> = pairs.map(|(own, other)| own / other).collect();
        smallest_median_largest(&ratios)[1]
    }
}

/// The smallest of some values, of which there is an odd number, their median, and the largest.
pub(crate) fn smallest_median_largest(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    ]
}

/// Odd, so that one of them is in the middle.
const ROUNDS: usize = 11;
/// Long beside what reading the clock takes, and beside an interruption by the system.
const ROUND: Duration = Duration::from_millis(50);
