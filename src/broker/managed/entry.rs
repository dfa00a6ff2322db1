//! One managed subscription: its configuration, how far it has come, and who has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::watch;

use super::{
    CommitRefusal, ManagedConfig, ManagedDescription, NO_PANIC, lag::Progress, places::Places,
    shares::Shares,
};
use crate::{
    broker::{
        Lag,
        sharing::{SlotPositions, SlotSet},
    },
    clock::Timestamp,
    event_log::PositionError,
    metadata::records::ManagedPositionRecord,
    schema::registry::TenantSchemas,
    types::{PlatformId, Position, Replay},
};

#[derive(Debug)]
pub(super) struct Entry {
    id: PlatformId,
    /// `None` once it is deleted. Streams watch it.
    config: watch::Sender<Option<ManagedConfig>>,
    marks: Mutex<Marks>,
    pub(super) places: Places,
    /// Of a shared one, in place of the committed position.
    pub(super) shares: Option<Arc<Shares>>,
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

/// How far a commit brings a subscription.
#[derive(Clone, Debug)]
pub(super) enum Advance {
    /// One that has one stream: everything up to here is handled.
    To(Position),
    /// A shared one: of each slot everything up to its position.
    Slots(Box<SlotPositions>),
}

impl Advance {
    /// Joins another one of the same subscription to this.
    pub(super) fn join(&mut self, other: &Self) {
        match (self, other) {
            (Self::To(position), Self::To(other)) => *position = (*position).max(*other),
            (Self::Slots(positions), Self::Slots(other)) => positions.raise_all(other),
            // A subscription is shared from its beginning to its end, or is not.
            _ => {}
        }
    }
}

impl Entry {
    /// One that nobody has had yet: nothing was delivered, and nothing is committed.
    pub(super) fn new(config: ManagedConfig, schemas: &Arc<TenantSchemas>) -> Self {
        let shares = config.sharing.as_ref();
        let shares = shares.map(|sharing| Shares::new(sharing, Arc::clone(schemas)));
        Self::with(config, shares, None, None, Position::ZERO)
    }

    /// One that was stored, with its position, if it has one, in a log whose head is `head`; `check` says
    /// why a position is none of the log.
    pub(super) fn stored(
        config: ManagedConfig,
        record: Option<&ManagedPositionRecord>,
        schemas: &Arc<TenantSchemas>,
        head: Position,
        check: impl Fn(Position) -> Option<PositionError>,
    ) -> Self {
        let committed = record.map(|record| Committed {
            // A larger number was written by hand, and is no longer valid for any log.
            position: Position::new(record.position).unwrap_or(Position::MAX),
            at: Timestamp::from_millis(record.committed_at_ms),
        });
        let Some(sharing) = &config.sharing else {
            let lost = committed.and_then(|committed| check(committed.position));
            return Self::with(config, None, committed, lost, head);
        };
        let mut shares = Shares::new(sharing, Arc::clone(schemas));
        if let (Some(record), Some(committed)) = (record, committed) {
            let positions = SlotPositions::of(&record.slots);
            let positions = positions.unwrap_or(SlotPositions::at(committed.position));
            let lost: BTreeMap<_, _> = SlotSet::ALL
                .iter()
                .filter_map(|slot| Some((slot, check(positions.get(slot))?)))
                .collect();
            shares = shares.stored(positions, committed.at, lost);
        }
        Self::with(config, Some(shares), None, None, head)
    }

    fn with(
        config: ManagedConfig,
        shares: Option<Shares>,
        committed: Option<Committed>,
        lost: Option<PositionError>,
        delivered: Position,
    ) -> Self {
        let floor = committed.filter(|_| lost.is_none());
        let shares = shares.map(Arc::new);
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
            places: Places::new(shares.clone()),
            shares,
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
            committed: match &self.shares {
                Some(shares) => shares.committed(),
                None => self.committed().map(|it| (it.position, it.at)),
            },
            streams: self.places.taken(),
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

    fn committed(&self) -> Option<Committed> {
        self.marks().committed
    }

    /// Behind what it goes on, if that is known: of a shared one, its slot that is furthest behind.
    pub(super) fn goes_on_after(&self) -> Option<Position> {
        match &self.shares {
            Some(shares) => shares.behind(),
            None => self.committed().map(|committed| committed.position),
        }
    }

    /// Why that is no position of this log, if it is none.
    pub(super) fn lost(&self) -> Option<PositionError> {
        match &self.shares {
            Some(shares) => shares.lost(),
            None => self.marks().lost,
        }
    }

    /// Notes a commit that is durable.
    pub(super) fn commit(&self, advance: &Advance, at: Timestamp) {
        match (&self.shares, advance) {
            (Some(shares), Advance::Slots(positions)) => shares.note_stored(**positions, at),
            (None, &Advance::To(position)) => {
                let mut marks = self.marks();
                marks.committed = Some(Committed { position, at });
                marks.lost = None;
                marks.floor = Some(position);
            }
            _ => {}
        }
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

    /// Notes how far somebody is who goes on after `position`, unless it goes on after another one since
    /// that was looked up.
    pub(super) fn measured(&self, position: Option<Position>, progress: Progress) {
        if self.goes_on_after() == position {
            self.marks().progress = Some(progress);
        }
    }

    /// Whether its next stream would begin at the newest event, whatever comes until then.
    pub(super) fn has_nothing_to_miss(&self) -> bool {
        let config = self.config.borrow();
        let default_replay = config.as_ref().map(|config| config.default_replay);
        default_replay == Some(Replay::Latest) && self.goes_on_after().is_none()
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

    /// What is to be stored for a commit; `None` if that is what is stored already.
    ///
    /// # Errors
    ///
    /// [`CommitRefusal::Older`].
    pub(super) fn to_store(&self, advance: &Advance) -> Result<Option<Advance>, CommitRefusal> {
        match (&self.shares, advance) {
            (Some(shares), Advance::Slots(positions)) => {
                let positions = shares.to_store(positions);
                Ok(positions.map(|positions| Advance::Slots(Box::new(positions))))
            }
            (None, &Advance::To(position)) => {
                let marks = self.marks();
                marks.check_floor(position)?;
                let committed = marks.committed.map(|committed| committed.position);
                let is_news = committed != Some(position) || marks.floor != Some(position);
                Ok(is_news.then(|| advance.clone()))
            }
            _ => Ok(None),
        }
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
            sharing: None,
            version: 1,
            created_at: Timestamp::from_millis(0),
        };
        let committed = committed.map(|number| Committed {
            position: position(number),
            at: Timestamp::from_millis(0),
        });
        Entry::with(config, None, committed, None, position(1_000))
    }

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    fn commit(entry: &Entry, number: u64) {
        entry.commit(&Advance::To(position(number)), Timestamp::from_millis(0));
    }

    fn is_news(entry: &Entry, position: Position) -> Result<bool, CommitRefusal> {
        Ok(entry.to_store(&Advance::To(position))?.is_some())
    }

    #[test]
    fn what_is_committed_is_no_news_and_what_is_older_is_refused() {
        let entry = entry(None);
        assert!(is_news(&entry, Position::ZERO).unwrap());
        commit(&entry, 10);
        assert!(is_news(&entry, position(11)).unwrap());
        assert!(!is_news(&entry, position(10)).unwrap());
        assert!(is_news(&entry, position(9)).is_err() && entry.check(position(9)).is_err());
    }

    #[test]
    fn a_recovery_takes_the_floor_down_and_never_up() {
        let entry = entry(Some(900));
        entry.recovered(position(950));
        assert!(entry.check(position(899)).is_err());
        entry.recovered(position(20));
        assert!(entry.check(position(19)).is_err());
        // Also what is committed already: it says where the next stream begins.
        assert!(is_news(&entry, position(20)).unwrap());
        assert!(is_news(&entry, position(900)).unwrap());
        commit(&entry, 30);
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
        commit(&entry, 20);
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
