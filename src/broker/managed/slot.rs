//! The one place that a stream of a managed subscription has.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

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
    /// Tells the stream that it has to end.
    end: oneshot::Sender<ManagedEnd>,
}

/// Has the slot; gives it back when it is dropped, with the stream that it belongs to.
#[derive(Debug)]
pub(super) struct SlotGuard {
    slot: Slot,
    number: u64,
    end: oneshot::Receiver<ManagedEnd>,
}

impl Slot {
    /// Takes the slot; `None` if another stream has it and keeps it.
    pub(super) fn take(&self, takeover: Takeover) -> Option<SlotGuard> {
        let mut holders = self.lock();
        if holders.holder.is_some() && takeover == Takeover::Refuse {
            return None;
        }
        let number = holders.next;
        holders.next += 1;
        let (end, told) = oneshot::channel();
        if let Some(former) = holders.holder.replace(Holder { number, end }) {
            // A stream that is gone already needs no word.
            _ = former.end.send(ManagedEnd::TakenOver);
        }
        Some(SlotGuard {
            slot: self.clone(),
            number,
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
    /// Waits until the slot is taken away.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Once it has returned it is not to be called again: the stream ends.
    pub(super) async fn lost(&mut self) -> ManagedEnd {
        // A holder is only removed with a word to it, or by its own guard.
        (&mut self.end).await.unwrap_or(ManagedEnd::TakenOver)
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
        let first = slot.take(Takeover::Refuse).unwrap();
        assert!(slot.is_taken() && slot.take(Takeover::Refuse).is_none());
        drop(first);
        assert!(!slot.is_taken());
        assert!(slot.take(Takeover::Refuse).is_some());
    }

    #[tokio::test]
    async fn the_newest_takes_it_over_and_the_former_does_not_free_it() {
        let slot = Slot::default();
        let mut first = slot.take(Takeover::Newest).unwrap();
        let second = slot.take(Takeover::Newest).unwrap();
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
        let mut first = slot.take(Takeover::Refuse).unwrap();
        assert!(slot.release());
        let _second = slot.take(Takeover::Refuse).unwrap();
        assert!(matches!(first.lost().await, ManagedEnd::Released));
        drop(first);
        assert!(slot.is_taken());
    }
}
