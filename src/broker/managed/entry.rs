//! One managed subscription: its configuration, how far it has come, and who has it.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use super::{
    CommitRefusal, ManagedConfig, ManagedDescription, NO_PANIC, lag::Progress, slot::Slot,
};
use crate::{
    broker::Lag,
    clock::Timestamp,
    event_log::PositionError,
    types::{PlatformId, Position, Replay},
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
    /// Why what is committed was no position of this log, if it was none when it was read: the log may
    /// have come past it since, with other events.
    lost: Option<PositionError>,
    /// Nothing older may be committed: the committed position, or where a stream went on after that
    /// was found to be no longer valid. `None` before the first commit, and where the log lost it.
    floor: Option<Position>,
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
        let floor = committed.filter(|_| lost.is_none());
        Self {
            id: config.id,
            config: watch::Sender::new(Some(config)),
            marks: Mutex::new(Marks {
                committed,
                lost,
                floor: floor.map(|committed| committed.position),
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

    /// Whether it is there, under this name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let config = self.config.borrow();
        config.as_ref().is_some_and(|it| it.developer_name == name)
    }

    /// What is known of it, with the lag that was found.
    pub(super) fn describe(&self, config: ManagedConfig, lag: Option<Lag>) -> ManagedDescription {
        ManagedDescription {
            config,
            committed: self.committed().map(|it| (it.position, it.at)),
            is_active: self.slot.is_taken(),
            lag,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<ManagedConfig>> {
        self.config.subscribe()
    }

    /// Notes a configuration that is stored. What is deleted stays so.
    pub(super) fn configured(&self, config: ManagedConfig) {
        self.config.send_if_modified(|current| match current {
            Some(current) if *current != config => {
                *current = config;
                true
            }
            _ => false,
        });
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

    /// Why what is committed is no position of this log, if it is none.
    pub(super) fn lost(&self) -> Option<PositionError> {
        self.marks().lost
    }

    /// Notes a commit that is durable.
    pub(super) fn commit(&self, committed: Committed) {
        let mut marks = self.marks();
        marks.committed = Some(committed);
        marks.lost = None;
        marks.floor = Some(committed.position);
    }

    /// Notes that a stream went on at `position`, since its own was no longer valid. Of a log that
    /// was reset that is an older one, and what comes after it may be committed.
    pub(super) fn recovered(&self, position: Position) {
        let mut marks = self.marks();
        marks.floor = marks.floor.map(|floor| floor.min(position));
        marks.delivered = marks.delivered.max(position);
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.marks().progress
    }

    /// Notes how far `committed` is, unless something else is committed since it was looked up.
    pub(super) fn measured(&self, committed: Option<Position>, progress: Progress) {
        let mut marks = self.marks();
        if marks.committed.map(|committed| committed.position) == committed {
            marks.progress = Some(progress);
        }
    }

    /// Whether its next stream would begin at the newest event, whatever comes until then.
    pub(super) fn has_nothing_to_miss(&self) -> bool {
        let config = self.config.borrow();
        let default_replay = config.as_ref().map(|config| config.default_replay);
        default_replay == Some(Replay::Latest) && self.committed().is_none()
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
        marks.check_floor(position)
    }

    /// Whether a commit of `position` has to be stored: it is not what is committed already.
    pub(super) fn is_news(&self, position: Position) -> Result<bool, CommitRefusal> {
        let marks = self.marks();
        marks.check_floor(position)?;
        let committed = marks.committed.map(|committed| committed.position);
        Ok(committed != Some(position) || marks.floor != Some(position))
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().expect(NO_PANIC)
    }
}

impl Marks {
    fn check_floor(&self, position: Position) -> Result<(), CommitRefusal> {
        match self.floor {
            Some(floor) if position < floor => Err(CommitRefusal::Older {
                found: position,
                committed: floor,
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{RunState, Takeover};

    fn entry(committed: Option<u64>) -> Entry {
        let config = ManagedConfig {
            id: "18x000000000001AAA".parse().unwrap(),
            developer_name: "Fulfilment".into(),
            label: "Fulfilment".into(),
            topic: "/event/OrderCreated__e".parse().unwrap(),
            default_replay: Replay::Earliest,
            error_recovery_replay: Replay::Earliest,
            state: RunState::Run,
            takeover: Takeover::Refuse,
            filter: None,
            version: 1,
            created_at: Timestamp::from_millis(0),
        };
        Entry::new(config, committed.map(committed_at), None, position(1_000))
    }

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    fn committed_at(number: u64) -> Committed {
        Committed {
            position: position(number),
            at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn what_is_committed_is_no_news_and_what_is_older_is_refused() {
        let entry = entry(None);
        assert!(entry.is_news(Position::ZERO).unwrap());
        entry.commit(committed_at(10));
        assert!(entry.is_news(position(11)).unwrap());
        assert!(!entry.is_news(position(10)).unwrap());
        assert!(entry.is_news(position(9)).is_err() && entry.check(position(9)).is_err());
    }

    #[test]
    fn a_recovery_takes_the_floor_down_and_never_up() {
        let entry = entry(Some(900));
        entry.recovered(position(950));
        assert!(entry.check(position(899)).is_err());
        entry.recovered(position(20));
        assert!(entry.check(position(19)).is_err());
        // Also what is committed already: it says where the next stream begins.
        assert!(entry.is_news(position(20)).unwrap());
        assert!(entry.is_news(position(900)).unwrap());
        entry.commit(committed_at(30));
        assert!(entry.check(position(29)).is_err());
    }

    #[test]
    fn a_measurement_of_what_is_not_committed_any_more_is_dropped() {
        let entry = entry(Some(10));
        let progress = |passed| Progress {
            passed,
            unread_at: None,
        };
        entry.measured(Some(position(10)), progress(1));
        entry.commit(committed_at(20));
        entry.measured(Some(position(20)), progress(2));
        entry.measured(Some(position(10)), progress(1));
        assert_eq!(entry.progress(), Some(progress(2)));
    }

    #[test]
    fn what_is_deleted_is_not_configured_any_more() {
        let entry = entry(None);
        let config = entry.config().unwrap();
        entry.deleted();
        entry.configured(config);
        assert!(entry.is_deleted());
    }
}
