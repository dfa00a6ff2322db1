//! How often somebody may fail to sign in: counted by name and by address, in bounded memory.
//!
//! Attempts under way may all fail, so no more of them begin than may fail yet. The next one waits
//! for their end and is not locked out: nothing has failed.
//!
//! Names nobody has are counted like others, or else answers would tell who exists. They are counted
//! apart, since anybody can make them up: a flood of them makes room among itself and among no users.

use std::{
    collections::HashMap,
    hash::Hash as MapKey,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    Config,
    token::{Hash, hash},
};
use crate::types::limits::{
    SIGN_IN_FAILURES_FORGOTTEN_ONE_IN, SIGN_IN_FAILURES_REMEMBERED_MAX, SIGN_IN_ROOM_WAIT,
};

/// Under whose name an attempt is made: a hash, so that a long name takes no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A user's.
    User(Hash),
    /// One that no user has.
    Unknown(Hash),
}

impl Name {
    /// The name of a user.
    pub(super) fn of_user(name: &str) -> Self {
        Self::User(hash(name))
    }

    /// A name that no user has.
    pub(super) fn of_nobody(name: &str) -> Self {
        Self::Unknown(hash(name))
    }
}

/// Too many attempts have failed; holds how long until the next may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockedOut(pub Duration);

/// Why an attempt may not begin. It does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many have failed.
    LockedOut(LockedOut),
    /// Too many would have if all that are under way fail, and they did not end in time.
    Busy,
}

/// Counts failed attempts.
#[derive(Debug)]
pub(super) struct Throttle {
    counts: Mutex<Counts>,
    /// Told when an attempt has ended.
    ended: Notify,
}

#[derive(Debug)]
struct Counts {
    addresses: Table<IpAddr>,
    users: Table<Hash>,
    unknown: Table<Hash>,
}

impl Throttle {
    /// A throttle that remembers nothing yet.
    pub(super) fn new(config: &Config) -> Self {
        Self::remembering(config, SIGN_IN_FAILURES_REMEMBERED_MAX)
    }

    /// One that remembers at most so many addresses, and as many names that no user has.
    fn remembering(config: &Config, remembered_max: usize) -> Self {
        let lockout = config.sign_in_lockout;
        let (name, address) = (
            config.sign_in_failures_max,
            config.sign_in_failures_per_address_max,
        );
        let counts = Counts {
            addresses: Table::new(address, lockout, remembered_max),
            // Bounded by how many users there are, which nobody makes who only signs in.
            users: Table::new(name, lockout, usize::MAX),
            unknown: Table::new(name, lockout, remembered_max),
        };
        Self {
            counts: Mutex::new(counts),
            ended: Notify::new(),
        }
    }

    /// Whether an attempt from `source`, under a name or none, is locked out. Nothing is counted.
    ///
    /// # Errors
    ///
    /// [`LockedOut`].
    pub(super) fn check(
        &self,
        source: Option<IpAddr>,
        name: Option<Name>,
    ) -> Result<(), LockedOut> {
        self.lock().check(source.map(network), name, Instant::now())
    }

    /// Begins an attempt from `source`, under a name or none, once no more are under way than may
    /// fail. It has failed unless it is told otherwise.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: who waits has not begun.
    pub(super) async fn attempt(
        &self,
        source: Option<IpAddr>,
        name: Option<Name>,
    ) -> Result<Attempt<'_>, Refused> {
        let begun = timeout(SIGN_IN_ROOM_WAIT, async {
            loop {
                // Made first, so that no end is missed between the look and the wait.
                let ended = self.ended.notified();
                let begun = self.try_attempt(source, name);
                if let Some(attempt) = begun.map_err(Refused::LockedOut)? {
                    return Ok(attempt);
                }
                ended.await;
            }
        });
        begun.await.unwrap_or(Err(Refused::Busy))
    }

    /// Begins an attempt, if no more are under way than may fail.
    fn try_attempt(
        &self,
        source: Option<IpAddr>,
        name: Option<Name>,
    ) -> Result<Option<Attempt<'_>>, LockedOut> {
        let now = Instant::now();
        let address = source.map(network);
        let mut counts = self.lock();
        counts.check(address, name, now)?;
        if !counts.have_room(address, name) {
            return Ok(None);
        }
        if let Some(address) = address {
            counts.addresses.begin(address, now);
        }
        if let Some((names, key)) = counts.name(name) {
            names.begin(key, now);
        }
        Ok(Some(Attempt {
            throttle: self,
            address,
            name,
            has_failed: true,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no holder of this lock panics")
    }
}

impl Counts {
    fn check(
        &mut self,
        address: Option<IpAddr>,
        name: Option<Name>,
        now: Instant,
    ) -> Result<(), LockedOut> {
        if let Some(address) = address {
            self.addresses.check(address, now)?;
        }
        match self.name(name) {
            Some((names, key)) => names.check(key, now),
            None => Ok(()),
        }
    }

    fn have_room(&mut self, address: Option<IpAddr>, name: Option<Name>) -> bool {
        address.is_none_or(|address| self.addresses.has_room(address))
            && self
                .name(name)
                .is_none_or(|(names, key)| names.has_room(key))
    }

    /// Where a name is counted, and by what.
    fn name(&mut self, name: Option<Name>) -> Option<(&mut Table<Hash>, Hash)> {
        match name? {
            Name::User(key) => Some((&mut self.users, key)),
            Name::Unknown(key) => Some((&mut self.unknown, key)),
        }
    }
}

/// Failures by name or by address.
#[derive(Debug)]
struct Table<K> {
    failures_max: u32,
    lockout: Duration,
    remembered_max: usize,
    failures: HashMap<K, Failures>,
    /// When those were last forgotten whose time was over.
    tidied_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    /// When the first failed, if any has.
    since: Instant,
    failed: u32,
    under_way: u32,
}

impl<K: Copy + Eq + MapKey> Table<K> {
    fn new(failures_max: u32, lockout: Duration, remembered_max: usize) -> Self {
        Self {
            failures_max,
            lockout,
            remembered_max,
            failures: HashMap::new(),
            tidied_at: Instant::now(),
        }
    }

    /// Whether `key` is not locked out. Forgets its failures if their time is over.
    fn check(&mut self, key: K, now: Instant) -> Result<(), LockedOut> {
        let Some(known) = self.failures.get_mut(&key) else {
            return Ok(());
        };
        let left = (known.since + self.lockout).saturating_duration_since(now);
        if left.is_zero() {
            known.failed = 0;
        }
        match known.failed < self.failures_max {
            true => Ok(()),
            false => Err(LockedOut(left)),
        }
    }

    /// Whether one more may fail if all that are under way do.
    fn has_room(&self, key: K) -> bool {
        let known = self.failures.get(&key);
        known.is_none_or(|known| known.failed + known.under_way < self.failures_max)
    }

    fn begin(&mut self, key: K, now: Instant) {
        if !self.failures.contains_key(&key) {
            self.make_room(now);
        }
        let none = Failures {
            since: now,
            failed: 0,
            under_way: 0,
        };
        self.failures.entry(key).or_insert(none).under_way += 1;
    }

    fn end(&mut self, key: K, has_failed: bool, now: Instant) {
        let known = self.failures.get_mut(&key);
        let known = known.expect("what is under way is not forgotten");
        known.under_way -= 1;
        if has_failed {
            if known.failed == 0 {
                known.since = now;
            }
            known.failed += 1;
        }
        if known.failed + known.under_way == 0 {
            self.failures.remove(&key);
        }
    }

    /// Forgets what counts no more, and if there is no room yet who has failed least: somebody who
    /// can come from many addresses, or under many names, must not open one that is locked. Many are
    /// forgotten at once, so that not every attempt in a flood looks through all of them. Those
    /// under way stay, over the bound if need be: as many as passwords are checked at once.
    fn make_room(&mut self, now: Instant) {
        let is_full = self.failures.len() >= self.remembered_max;
        if !is_full && now < self.tidied_at + self.lockout {
            return;
        }
        self.tidied_at = now;
        let lockout = self.lockout;
        self.failures
            .retain(|_, known| known.under_way > 0 || known.since + lockout > now);
        if self.failures.len() < self.remembered_max {
            return;
        }
        let kept = self.remembered_max - self.remembered_max / SIGN_IN_FAILURES_FORGOTTEN_ONE_IN;
        let excess = self.failures.len().saturating_sub(kept);
        let idle = self.failures.iter().filter(|(_, it)| it.under_way == 0);
        let mut idle: Vec<_> = idle.map(|(key, it)| (it.failed, it.since, *key)).collect();
        idle.sort_unstable_by_key(|&(failed, since, _)| (failed, since));
        for (.., key) in idle.into_iter().take(excess) {
            self.failures.remove(&key);
        }
    }
}

/// An attempt that was begun.
#[derive(Debug)]
#[must_use = "an attempt has failed unless it is told otherwise"]
pub(super) struct Attempt<'a> {
    throttle: &'a Throttle,
    address: Option<IpAddr>,
    name: Option<Name>,
    has_failed: bool,
}

impl Attempt<'_> {
    /// Notes that it has not failed.
    pub(super) fn has_not_failed(mut self) {
        self.has_failed = false;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut counts = self.throttle.lock();
        if let Some(address) = self.address {
            counts.addresses.end(address, self.has_failed, now);
        }
        if let Some((names, key)) = counts.name(self.name) {
            names.end(key, self.has_failed, now);
        }
        drop(counts);
        self.throttle.ended.notify_waiters();
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

    fn config() -> Config {
        Config {
            sign_in_failures_max: 3,
            sign_in_failures_per_address_max: 5,
            sign_in_lockout: LOCKOUT,
            ..Config::default()
        }
    }

    fn throttle() -> Throttle {
        Throttle::new(&config())
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn user(name: &str) -> Option<Name> {
        Some(Name::of_user(name))
    }

    fn nobody(name: &str) -> Option<Name> {
        Some(Name::of_nobody(name))
    }

    /// Whether an attempt began, which then failed.
    fn fail(throttle: &Throttle, source: &str, name: Option<Name>) -> bool {
        matches!(throttle.try_attempt(address(source), name), Ok(Some(_)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_locked_after_its_failures_and_opens_when_their_time_is_over() {
        for named in [user, nobody] {
            let throttle = throttle();
            for number in 0..3 {
                assert!(fail(&throttle, &format!("10.0.0.{number}"), named("a")));
            }
            let refused = throttle.attempt(address("10.0.0.9"), named("a")).await;
            let locked_out = LockedOut(LOCKOUT);
            assert_eq!(refused.unwrap_err(), Refused::LockedOut(locked_out));
            let refused = throttle.check(address("10.0.0.9"), named("a"));
            assert_eq!(refused, Err(locked_out));
            assert!(
                fail(&throttle, "10.0.0.9", named("b")),
                "another name is not"
            );
            tokio::time::advance(LOCKOUT - Duration::from_secs(1)).await;
            assert!(!fail(&throttle, "10.0.0.9", named("a")));
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(throttle.check(address("10.0.0.9"), named("a")).is_ok());
            for _ in 0..3 {
                assert!(fail(&throttle, "10.0.0.9", named("a")));
            }
            assert!(!fail(&throttle, "10.0.0.9", named("a")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_locked_whatever_names_it_tries() {
        let throttle = throttle();
        for named in [user("a"), user("b"), nobody("c"), nobody("d"), None] {
            assert!(fail(&throttle, "10.0.0.1", named));
        }
        for named in [user("new"), nobody("new"), None] {
            assert!(!fail(&throttle, "10.0.0.1", named));
            assert!(!fail(&throttle, "::ffff:10.0.0.1", named));
            assert!(throttle.check(address("10.0.0.1"), named).is_err());
            assert!(fail(&throttle, "10.0.0.2", named));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_count_together() {
        let throttle = throttle();
        for number in 0..5 {
            let source = format!("2001:db8::{number}");
            assert!(fail(&throttle, &source, nobody(&number.to_string())));
        }
        assert!(!fail(&throttle, "2001:db8::ffff", nobody("new")));
        assert!(fail(&throttle, "2001:db8:0:1::1", nobody("new")));
    }

    #[tokio::test(start_paused = true)]
    async fn good_attempts_leave_nothing_behind() {
        let throttle = throttle();
        for named in [user("a"), nobody("a"), None] {
            for _ in 0..100 {
                let attempt = throttle.attempt(address("10.0.0.1"), named).await;
                attempt.unwrap().has_not_failed();
            }
        }
        let counts = throttle.lock();
        assert!(counts.addresses.failures.is_empty());
        assert!(counts.users.failures.is_empty());
        assert!(counts.unknown.failures.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_than_may_fail_and_the_next_waits() {
        let throttle = throttle();
        assert!(fail(&throttle, "10.0.0.1", user("a")));
        let under_way = [(); 2].map(|()| throttle.try_attempt(None, user("a")).unwrap());
        assert!(throttle.check(None, user("a")).is_ok());
        let busy = throttle.attempt(None, user("a")).await;
        assert_eq!(busy.unwrap_err(), Refused::Busy);
        let [good, wrong] = under_way.map(Option::unwrap);
        let (next, ()) = tokio::join!(throttle.attempt(None, user("a")), async {
            good.has_not_failed();
        });
        drop(wrong);
        let (after, ()) = tokio::join!(throttle.attempt(None, user("a")), async {
            drop(next);
        });
        assert!(matches!(after.unwrap_err(), Refused::LockedOut(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_under_way_from_one_address_than_may_fail() {
        let throttle = throttle();
        let source = address("10.0.0.1");
        let under_way = [(); 5].map(|()| throttle.try_attempt(source, None).unwrap());
        let busy = throttle.attempt(source, None).await;
        assert_eq!(busy.unwrap_err(), Refused::Busy);
        assert!(throttle.check(source, None).is_ok());
        drop(under_way);
        assert!(throttle.check(source, None).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_bounded_and_opens_no_locked_name_or_address() {
        let throttle = Throttle::remembering(&config(), 50);
        let source = |number: u32| format!("10.1.{}.{}", number / 256, number % 256);
        for number in 0..3 {
            fail(&throttle, &source(number), user("victim"));
            fail(&throttle, &source(number), nobody("nobody"));
        }
        while fail(&throttle, "10.0.0.1", None) {}
        for number in 0..1_000 {
            fail(&throttle, &source(number), nobody(&number.to_string()));
            let counts = throttle.lock();
            assert!(counts.addresses.failures.len() <= 50);
            assert!(counts.unknown.failures.len() <= 50);
        }
        assert!(throttle.check(None, user("victim")).is_err());
        assert!(throttle.check(None, nobody("nobody")).is_err());
        assert!(throttle.check(address("10.0.0.1"), None).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_full_of_others_that_fail_often_leaves_guesses_at_a_user_bounded() {
        let throttle = Throttle::remembering(&config(), 50);
        let fill = || {
            for number in 0..50 {
                for _ in 0..2 {
                    let source = format!("10.1.0.{number}");
                    fail(&throttle, &source, nobody(&number.to_string()));
                }
            }
        };
        fill();
        let guesses = (0..100).filter(|_| fail(&throttle, "10.0.0.1", user("victim")));
        assert_eq!(guesses.count(), 3);
        // Who is under way is not forgotten, and counts.
        let source = address("10.0.0.2");
        let attempts = [(); 3].map(|()| throttle.try_attempt(source, nobody("a")));
        fill();
        drop(attempts);
        assert!(!fail(&throttle, "10.0.0.3", nobody("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_counts_no_more_is_forgotten_of_users_too() {
        let throttle = throttle();
        for number in 0..100 {
            drop(throttle.try_attempt(None, user(&number.to_string())));
        }
        tokio::time::advance(LOCKOUT).await;
        drop(throttle.try_attempt(None, user("new")));
        assert_eq!(throttle.lock().users.failures.len(), 1);
    }
}
