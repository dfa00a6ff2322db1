//! The one place that a stream of a managed subscription has.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{ManagedEnd, NO_PANIC};
use crate::types::Takeover;

/// Where the stream is noted that has the subscription.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot(Arc<Mutex<Holders>>);

#[derive(Debug, Default)]
struct Holders {
    /// Numbers the streams.
    next: u64,
    holder: Option<Holder>,
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

/// Has the slot; gives it back when it is dropped, with the stream that it belongs to.
#[derive(Debug)]
pub(super) struct SlotGuard {
    slot: Slot,
    number: u64,
    no_commits: Option<NoCommits>,
    end: oneshot::Receiver<ManagedEnd>,
}

impl Slot {
    /// Takes the slot, for as long as there is a commit in each `no_commit_timeout`; `None` if another
    /// stream has it and keeps it.
    ///
    /// A stream that has gone without commits for too long does not keep it. It ends by itself where
    /// its client reads, and need not be noticed where that does not.
    pub(super) fn take(
        &self,
        takeover: Takeover,
        no_commit_timeout: Option<Duration>,
    ) -> Option<SlotGuard> {
        let mut holders = self.lock();
        let end_of_former = match &holders.holder {
            None => ManagedEnd::TakenOver,
            Some(holder) => match (holder.no_commits, takeover) {
                (Some(NoCommits { timeout, at }), _) if at <= Instant::now() => {
                    ManagedEnd::NoCommits(timeout)
                }
                (_, Takeover::Newest) => ManagedEnd::TakenOver,
                (_, Takeover::Refuse) => return None,
            },
        };
        let number = holders.next;
        holders.next += 1;
        let no_commits = no_commit_timeout.map(NoCommits::from_now);
        let (end, told) = oneshot::channel();
        let holder = Holder {
            number,
            no_commits,
            end,
        };
        if let Some(former) = holders.holder.replace(holder) {
            // A stream that is gone already needs no word.
            _ = former.end.send(end_of_former);
        }
        Some(SlotGuard {
            slot: self.clone(),
            number,
            no_commits,
            end: told,
        })
    }

    /// Takes the slot from the stream that has it; false if none does.
    pub(super) fn release(&self) -> bool {
        let holder = self.lock().holder.take();
        holder.is_some_and(|holder| holder.end.send(ManagedEnd::Released).is_ok())
    }

    pub(super) fn is_taken(&self) -> bool {
        self.lock().holder.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.0.lock().expect(NO_PANIC)
    }
}

impl SlotGuard {
    /// Notes that a commit came.
    pub(super) fn committed(&mut self) {
        self.no_commits = self
            .no_commits
            .map(|NoCommits { timeout, .. }| NoCommits::from_now(timeout));
        let mut holders = self.slot.lock();
        if let Some(holder) = holders.holder.as_mut()
            && holder.number == self.number
        {
            holder.no_commits = self.no_commits;
        }
    }

    /// Waits until the slot is taken away, or there were no commits for too long.
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

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut holders = self.slot.lock();
        let is_holder = |holder: &Holder| holder.number == self.number;
        if holders.holder.as_ref().is_some_and(is_holder) {
            holders.holder = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_has_one_holder_and_is_free_when_that_is_gone() {
        let slot = Slot::default();
        let first = slot.take(Takeover::Refuse, None).unwrap();
        assert!(slot.is_taken() && slot.take(Takeover::Refuse, None).is_none());
        drop(first);
        assert!(!slot.is_taken());
        assert!(slot.take(Takeover::Refuse, None).is_some());
    }

    #[tokio::test]
    async fn the_newest_takes_it_over_and_the_former_does_not_free_it() {
        let slot = Slot::default();
        let mut first = slot.take(Takeover::Newest, None).unwrap();
        let second = slot.take(Takeover::Newest, None).unwrap();
        assert!(matches!(first.lost().await, ManagedEnd::TakenOver));
        drop(first);
        assert!(slot.is_taken());
        drop(second);
        assert!(!slot.is_taken());
    }

    #[tokio::test]
    async fn a_released_slot_is_free_at_once() {
        let slot = Slot::default();
        assert!(!slot.release());
        let mut first = slot.take(Takeover::Refuse, None).unwrap();
        assert!(slot.release());
        let _second = slot.take(Takeover::Refuse, None).unwrap();
        assert!(matches!(first.lost().await, ManagedEnd::Released));
        drop(first);
        assert!(slot.is_taken());
    }

    /// Nobody polls either stream, as of a client that does not read.
    #[tokio::test(start_paused = true)]
    async fn a_stream_without_commits_does_not_keep_it() {
        let timeout = Duration::from_secs(10);
        let slot = Slot::default();
        let mut first = slot.take(Takeover::Refuse, Some(timeout)).unwrap();
        tokio::time::advance(timeout / 2).await;
        first.committed();
        tokio::time::advance(timeout - Duration::from_millis(1)).await;
        assert!(slot.take(Takeover::Refuse, Some(timeout)).is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        let _second = slot.take(Takeover::Refuse, Some(timeout)).unwrap();
        assert!(matches!(first.lost().await, ManagedEnd::NoCommits(found) if found == timeout));
        // The former holder's commits count for nothing.
        first.committed();
        drop(first);
        assert!(slot.take(Takeover::Refuse, Some(timeout)).is_none());
    }
}
