//! One managed subscription: its configuration, how far it has come, and who has it.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use super::{CommitRefusal, ManagedConfig, NO_PANIC, lag::Progress, slot::Slot};
use crate::{
    clock::Timestamp,
    event_log::PositionError,
    types::{PlatformId, Position},
};

#[derive(Debug)]
pub(super) struct Entry {
    id: PlatformId,
    /// `None` once it is deleted. Streams watch it.
    config: watch::Sender<Option<ManagedConfig>>,
    marks: Mutex<Marks>,
    pub(super) slot: Slot,
}

#[derive(Debug)]
struct Marks {
    committed: Option<Committed>,
    /// Why what is committed is no position of this log, if it was none when it was read.
    lost: Option<PositionError>,
    /// How far that is; `None` before it was first measured.
    progress: Option<Progress>,
    /// The newest position that was delivered, or told to a stream, since it was opened; the head at
    /// that time before.
    delivered: Position,
}

/// A durable commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) position: Position,
    pub(super) at: Timestamp,
}

impl Entry {
    pub(super) fn new(
        config: ManagedConfig,
        committed: Option<Committed>,
        lost: Option<PositionError>,
        delivered: Position,
    ) -> Self {
        Self {
            id: config.id,
            config: watch::Sender::new(Some(config)),
            marks: Mutex::new(Marks {
                committed,
                lost,
                progress: None,
                delivered,
            }),
            slot: Slot::default(),
        }
    }

    pub(super) fn id(&self) -> PlatformId {
        self.id
    }

    /// How it is configured; `None` once it is deleted.
    pub(super) fn config(&self) -> Option<ManagedConfig> {
        self.config.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<ManagedConfig>> {
        self.config.subscribe()
    }

    /// Notes a configuration that is stored.
    pub(super) fn configured(&self, config: ManagedConfig) {
        self.config.send_replace(Some(config));
    }

    /// Notes that it is deleted: its stream ends.
    pub(super) fn deleted(&self) {
        self.config.send_replace(None);
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.config.borrow().is_none()
    }

    pub(super) fn committed(&self) -> Option<Committed> {
        self.marks().committed
    }

    /// Notes a commit that is durable.
    pub(super) fn commit(&self, committed: Committed) {
        let mut marks = self.marks();
        marks.committed = Some(committed);
        marks.lost = None;
    }

    /// Why what is committed is no position of this log, if it is none.
    pub(super) fn lost(&self) -> Option<PositionError> {
        self.marks().lost
    }

    /// What no commit may be before: what is committed, unless the log lost it. Then everything that
    /// there still is may be before it, and is delivered and committed all the same.
    pub(super) fn floor(&self) -> Option<Position> {
        self.marks().floor()
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.marks().progress
    }

    /// Notes how far what is committed is.
    pub(super) fn measured(&self, progress: Progress) {
        self.marks().progress = Some(progress);
    }

    /// Notes that everything up to `position` was delivered.
    pub(super) fn delivered(&self, position: Position) {
        let mut marks = self.marks();
        marks.delivered = marks.delivered.max(position);
    }

    /// Whether `position` may be committed, as far as what was delivered and committed says.
    pub(super) fn check(&self, position: Position) -> Result<(), CommitRefusal> {
        let marks = self.marks();
        if position > marks.delivered {
            return Err(CommitRefusal::NotDelivered {
                found: position,
                latest: marks.delivered,
            });
        }
        match marks.floor() {
            Some(committed) if position < committed => Err(CommitRefusal::Older {
                found: position,
                committed,
            }),
            _ => Ok(()),
        }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().expect(NO_PANIC)
    }
}

impl Marks {
    fn floor(&self) -> Option<Position> {
        let committed = self.committed.filter(|_| self.lost.is_none());
        committed.map(|committed| committed.position)
    }
}
