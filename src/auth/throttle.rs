//! How often somebody may fail to sign in: counted by name and by address, in bounded memory.
//!
//! An attempt counts as failed from its beginning until it is known to be good, so attempts at one
//! moment cannot pass the limit together. Names nobody has are counted like others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Config,
    token::{Hash, hash},
};
use crate::types::limits::SIGN_IN_FAILURES_REMEMBERED_MAX;

/// What failed attempts are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// An address, or the network of one where everybody has many.
    Address(IpAddr),
    /// A hash, so that a long name takes no more memory.
    Name(Hash),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

/// Too many attempts have failed; holds how long until the next may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedOut(pub Duration);

/// Counts failed attempts.
#[derive(Debug)]
pub struct Throttle {
    per_name_max: u32,
    per_address_max: u32,
    lockout: Duration,
    failures: Mutex<HashMap<Key, Failures>>,
    remembered_max: usize,
}

impl Throttle {
    /// A throttle that remembers nothing yet.
    pub fn new(config: &Config) -> Self {
        Self {
            per_name_max: config.sign_in_failures_max,
            per_address_max: config.sign_in_failures_per_address_max,
            lockout: config.sign_in_lockout,
            failures: Mutex::default(),
            remembered_max: SIGN_IN_FAILURES_REMEMBERED_MAX,
        }
    }

    /// Begins an attempt under `name` from `source`. It has failed unless it is told otherwise.
    ///
    /// # Errors
    ///
    /// [`LockedOut`]; such an attempt does not count.
    pub fn attempt(&self, source: Option<IpAddr>, name: &str) -> Result<Attempt<'_>, LockedOut> {
        let keys = [
            source.map(|address| Key::Address(network(address))),
            Some(Key::Name(hash(name))),
        ];
        let now = Instant::now();
        let mut failures = self.lock();
        for key in keys.iter().flatten() {
            let Some(known) = failures.get(key) else {
                continue;
            };
            let left = (known.since + self.lockout).saturating_duration_since(now);
            if left.is_zero() {
                failures.remove(key);
            } else if known.count >= self.max(key) {
                return Err(LockedOut(left));
            }
        }
        for key in keys.iter().flatten() {
            if !failures.contains_key(key) {
                self.make_room(&mut failures, now);
            }
            let entry = failures.entry(*key);
            let none = Failures {
                since: now,
                count: 0,
            };
            entry.or_insert(none).count += 1;
        }
        Ok(Attempt {
            throttle: self,
            keys,
        })
    }

    fn max(&self, key: &Key) -> u32 {
        match key {
            Key::Address(_) => self.per_address_max,
            Key::Name(_) => self.per_name_max,
        }
    }

    /// Forgets what counts no more, or else who has failed least: somebody who can come from many
    /// addresses, or under many names, must not open one that is locked.
    fn make_room(&self, failures: &mut HashMap<Key, Failures>, now: Instant) {
        if failures.len() < self.remembered_max {
            return;
        }
        failures.retain(|_, known| known.since + self.lockout > now);
        if failures.len() < self.remembered_max {
            return;
        }
        let least = failures
            .iter()
            .min_by_key(|(_, known)| (known.count, known.since));
        if let Some((&key, _)) = least {
            failures.remove(&key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Failures>> {
        self.failures.lock().expect("no holder of this lock panics")
    }
}

/// An attempt that was begun.
#[derive(Debug)]
#[must_use = "an attempt has failed unless it is told otherwise"]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    keys: [Option<Key>; 2],
}

impl Attempt<'_> {
    /// Notes that it has not failed.
    pub fn has_not_failed(self) {
        let mut failures = self.throttle.lock();
        for key in self.keys.iter().flatten() {
            if let Some(known) = failures.get_mut(key) {
                known.count = known.count.saturating_sub(1);
                if known.count == 0 {
                    failures.remove(key);
                }
            }
        }
    }
}

/// What one subscriber of a network has: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKOUT: Duration = Duration::from_secs(900);

    fn throttle() -> Throttle {
        Throttle::new(&Config {
            sign_in_failures_max: 3,
            sign_in_failures_per_address_max: 5,
            sign_in_lockout: LOCKOUT,
            ..Config::default()
        })
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn fail(throttle: &Throttle, source: &str, name: &str) -> bool {
        throttle.attempt(address(source), name).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_locked_after_its_failures_and_opens_when_their_time_is_over() {
        let throttle = throttle();
        for number in 0..3 {
            assert!(fail(&throttle, &format!("10.0.0.{number}"), "a"));
        }
        let refused = throttle.attempt(address("10.0.0.9"), "a").unwrap_err();
        assert_eq!(refused, LockedOut(LOCKOUT));
        assert!(fail(&throttle, "10.0.0.9", "b"), "another name is not");
        tokio::time::advance(LOCKOUT - Duration::from_secs(1)).await;
        assert!(!fail(&throttle, "10.0.0.9", "a"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(fail(&throttle, "10.0.0.9", "a"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_locked_whatever_names_it_tries() {
        let throttle = throttle();
        for number in 0..5 {
            assert!(fail(&throttle, "10.0.0.1", &number.to_string()));
        }
        assert!(!fail(&throttle, "10.0.0.1", "new"));
        assert!(!fail(&throttle, "::ffff:10.0.0.1", "new"));
        assert!(fail(&throttle, "10.0.0.2", "new"));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_count_together() {
        let throttle = throttle();
        for number in 0..5 {
            let source = format!("2001:db8::{number}");
            assert!(fail(&throttle, &source, &number.to_string()));
        }
        assert!(!fail(&throttle, "2001:db8::ffff", "new"));
        assert!(fail(&throttle, "2001:db8:0:1::1", "new"));
    }

    #[tokio::test(start_paused = true)]
    async fn good_attempts_do_not_count_and_those_under_way_do() {
        let throttle = throttle();
        for _ in 0..100 {
            let attempt = throttle.attempt(address("10.0.0.1"), "a").unwrap();
            attempt.has_not_failed();
        }
        assert!(throttle.lock().is_empty());
        let under_way: Vec<_> = (0..3)
            .map(|_| throttle.attempt(None, "a").unwrap())
            .collect();
        assert!(throttle.attempt(None, "a").is_err());
        for attempt in under_way {
            attempt.has_not_failed();
        }
        assert!(throttle.attempt(None, "a").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_names_is_bounded_and_opens_no_locked_one() {
        let mut throttle = throttle();
        throttle.remembered_max = 50;
        for _ in 0..3 {
            assert!(throttle.attempt(None, "victim").is_ok());
        }
        for number in 0..1_000 {
            _ = throttle.attempt(None, &number.to_string());
            assert!(throttle.lock().len() <= 50);
        }
        assert!(throttle.attempt(None, "victim").is_err());
    }
}
