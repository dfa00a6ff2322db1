//! The places that streams of a managed subscription have: one, or as many as it is shared among.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{ManagedEnd, NO_PANIC, shares::Shares};
use crate::types::Takeover;

/// Where the streams are noted that have the subscription.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many streams may have it at once.
    max: usize,
    /// What is shared among them, if it is.
    shares: Option<Arc<Shares>>,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    /// Numbers the streams.
    next: u64,
    /// The oldest first.
    holders: Vec<Holder>,
}

#[derive(Debug)]
struct Holder {
    number: u64,
    no_commits: Option<NoCommits>,
    /// Tells the stream that it has to end.
    end: oneshot::Sender<ManagedEnd>,
}

/// When a stream has gone without commits for too long.
#[derive(Clone, Copy, Debug)]
struct NoCommits {
    timeout: Duration,
    at: Instant,
}

/// Has a place; gives it back when it is dropped, with the stream that it belongs to.
#[derive(Debug)]
pub(super) struct PlaceGuard {
    places: Places,
    number: u64,
    no_commits: Option<NoCommits>,
    end: oneshot::Receiver<ManagedEnd>,
}

impl Places {
    /// One place, or one for each stream that `shares` are for.
    pub(super) fn new(shares: Option<Arc<Shares>>) -> Self {
        Self(Arc::new(Inner {
            max: shares.as_ref().map_or(1, |shares| shares.streams_max()),
            shares,
            holders: Mutex::default(),
        }))
    }

    /// Takes a place, for as long as there is a commit in each `no_commit_timeout`; `None` if other
    /// streams have all of them and keep them.
    ///
    /// A stream that has gone without commits for too long does not keep it. It ends by itself where
    /// its client reads, and need not be noticed where that does not. The newest stream takes the place
    /// of the oldest, and what that had of a shared one, if it is to.
    pub(super) fn take(
        &self,
        takeover: Takeover,
        no_commit_timeout: Option<Duration>,
    ) -> Option<PlaceGuard> {
        let mut holders = self.lock();
        self.end_silent(&mut holders);
        let former = match (holders.holders.len() >= self.0.max, takeover) {
            (false, _) => None,
            (true, Takeover::Newest) => Some(holders.holders.remove(0)),
            (true, Takeover::Refuse) => return None,
        };
        let number = holders.next;
        holders.next += 1;
        let no_commits = no_commit_timeout.map(NoCommits::from_now);
        let (end, told) = oneshot::channel();
        holders.holders.push(Holder {
            number,
            no_commits,
            end,
        });
        match (&self.0.shares, &former) {
            (Some(shares), Some(former)) => shares.replace(former.number, number),
            (Some(shares), None) => shares.join(number),
            (None, _) => {}
        }
        if let Some(former) = former {
            // A stream that is gone already needs no word.
            _ = former.end.send(ManagedEnd::TakenOver);
        }
        Some(PlaceGuard {
            places: self.clone(),
            number,
            no_commits,
            end: told,
        })
    }

    /// Takes their places from the streams that have gone without commits for too long.
    fn end_silent(&self, holders: &mut Holders) {
        let now = Instant::now();
        let is_silent = |holder: &mut Holder| holder.no_commits.is_some_and(|it| it.at <= now);
        for holder in holders.holders.extract_if(.., is_silent) {
            self.left(holder.number);
            let timeout = holder.no_commits.map_or(Duration::ZERO, |it| it.timeout);
            _ = holder.end.send(ManagedEnd::NoCommits(timeout));
        }
    }

    /// Takes their places from the streams that have them; false if none does.
    pub(super) fn release(&self) -> bool {
        let mut was_taken = false;
        for holder in self.lock().holders.drain(..) {
            self.left(holder.number);
            was_taken |= holder.end.send(ManagedEnd::Released).is_ok();
        }
        was_taken
    }

    /// How many streams have one.
    pub(super) fn taken(&self) -> usize {
        self.lock().holders.len()
    }

    fn left(&self, number: u64) {
        if let Some(shares) = &self.0.shares {
            shares.leave(number);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.0.holders.lock().expect(NO_PANIC)
    }
}

impl PlaceGuard {
    /// Tells the stream apart from the others.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Has the other streams have no place any more that have gone without commits for too long: what they
    /// have of a shared one is for those that commit.
    pub(super) fn end_silent(&self) {
        if self.no_commits.is_some() {
            self.places.end_silent(&mut self.places.lock());
        }
    }

    /// Notes that a commit came.
    pub(super) fn committed(&mut self) {
        self.no_commits = self
            .no_commits
            .map(|NoCommits { timeout, .. }| NoCommits::from_now(timeout));
        let mut holders = self.places.lock();
        let mut holders = holders.holders.iter_mut();
        if let Some(holder) = holders.find(|holder| holder.number == self.number) {
            holder.no_commits = self.no_commits;
        }
    }

    /// Waits until the place is taken away, or there were no commits for too long.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Once it has returned it is not to be called again: the stream ends.
    pub(super) async fn lost(&mut self) -> ManagedEnd {
        tokio::select! {
            // Whoever took it has said why.
            biased;
            // A holder is only removed with a word to it, or by its own guard.
            end = &mut self.end => end.unwrap_or(ManagedEnd::TakenOver),
            timeout = passed(self.no_commits) => ManagedEnd::NoCommits(timeout),
        }
    }
}

impl NoCommits {
    fn from_now(timeout: Duration) -> Self {
        Self {
            timeout,
            at: Instant::now() + timeout,
        }
    }
}

/// Waits until there were no commits for too long; for ever if they do not matter.
async fn passed(no_commits: Option<NoCommits>) -> Duration {
    match no_commits {
        Some(NoCommits { timeout, at }) => {
            tokio::time::sleep_until(at).await;
            timeout
        }
        None => std::future::pending().await,
    }
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        let mut holders = self.places.lock();
        let place = holders
            .holders
            .iter()
            .position(|it| it.number == self.number);
        if let Some(index) = place {
            holders.holders.remove(index);
            self.places.left(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_has_one_holder_and_is_free_when_that_is_gone() {
        let places = Places::new(None);
        let first = places.take(Takeover::Refuse, None).unwrap();
        assert!(places.taken() == 1 && places.take(Takeover::Refuse, None).is_none());
        drop(first);
        assert_eq!(places.taken(), 0);
        assert!(places.take(Takeover::Refuse, None).is_some());
    }

    #[tokio::test]
    async fn the_newest_takes_it_over_and_the_former_does_not_free_it() {
        let places = Places::new(None);
        let mut first = places.take(Takeover::Newest, None).unwrap();
        let second = places.take(Takeover::Newest, None).unwrap();
        assert!(matches!(first.lost().await, ManagedEnd::TakenOver));
        drop(first);
        assert_eq!(places.taken(), 1);
        drop(second);
        assert_eq!(places.taken(), 0);
    }

    #[tokio::test]
    async fn a_released_place_is_free_at_once() {
        let places = Places::new(None);
        assert!(!places.release());
        let mut first = places.take(Takeover::Refuse, None).unwrap();
        assert!(places.release());
        let _second = places.take(Takeover::Refuse, None).unwrap();
        assert!(matches!(first.lost().await, ManagedEnd::Released));
        drop(first);
        assert_eq!(places.taken(), 1);
    }

    /// Nobody polls either stream, as of a client that does not read.
    #[tokio::test(start_paused = true)]
    async fn a_stream_without_commits_does_not_keep_it() {
        let timeout = Duration::from_secs(10);
        let places = Places::new(None);
        let mut first = places.take(Takeover::Refuse, Some(timeout)).unwrap();
        tokio::time::advance(timeout / 2).await;
        first.committed();
        tokio::time::advance(timeout - Duration::from_millis(1)).await;
        assert!(places.take(Takeover::Refuse, Some(timeout)).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        let _second = places.take(Takeover::Refuse, Some(timeout)).unwrap();
        assert!(matches!(first.lost().await, ManagedEnd::NoCommits(found) if found == timeout));
        // The former holder's commits count for nothing.
        first.committed();
        drop(first);
        assert!(places.take(Takeover::Refuse, Some(timeout)).is_none());
    }
}
