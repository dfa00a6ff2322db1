//! How long to wait before the next try.
//!
//! Waits double up to a ceiling, and each is drawn from its upper half at random, so that many
//! clients of a gateway that went away do not come back in step.

use std::time::Duration;

/// The waits between tries. The default begins at a quarter of a second, ends at 10 s and gives up
/// after 10 waits in a row: about a minute.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    waits_max: u32,
    waits: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(10),
            waits_max: 10,
            waits: 0,
        }
    }
}

impl Backoff {
    /// One whose waits begin at `first` and end at `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first: first.min(longest),
            longest,
            ..Self::default()
        }
    }

    /// How long to wait before the next try; `None` once there were enough.
    pub fn next_wait(&mut self) -> Option<Duration> {
        (self.waits < self.waits_max).then(|| self.endless_wait())
    }

    /// The same without an end, for what is worth waiting for however long it takes.
    pub fn endless_wait(&mut self) -> Duration {
        let full = self.full_wait();
        self.waits = self.waits.saturating_add(1);
        full / 2 + (full / 2).mul_f64(random_fraction())
    }

    /// Starts over, after a try that got somewhere.
    pub fn reset(&mut self) {
        self.waits = 0;
    }

    fn full_wait(&self) -> Duration {
        // Shifts past 16 would overflow long after the ceiling is reached.
        self.first
            .saturating_mul(1 << self.waits.min(16))
            .min(self.longest)
    }
}

/// A number from 0 up to 1. Without randomness waits are merely less spread.
fn random_fraction() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / 4_294_967_296.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_ceiling_and_end() {
        let mut backoff = Backoff::default();
        let mut full = Duration::from_millis(250);
        for _ in 0..10 {
            let wait = backoff.next_wait().unwrap();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            full = (full * 2).min(Duration::from_secs(10));
        }
        assert_eq!(backoff.next_wait(), None);
    }

    #[test]
    fn endless_waits_stay_at_the_ceiling() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            backoff.endless_wait();
        }
        let longest = Duration::from_secs(10);
        let wait = backoff.endless_wait();
        assert!(wait >= longest / 2 && wait <= longest, "{wait:?}");
    }

    #[test]
    fn a_reset_starts_over() {
        let mut backoff = Backoff::default();
        while backoff.next_wait().is_some() {}
        backoff.reset();
        assert!(backoff.next_wait().unwrap() <= Duration::from_millis(250));
    }
}
