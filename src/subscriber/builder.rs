//! What a subscriber is told: what to subscribe to, where to keep its position, what to do when.

use std::{sync::Arc, time::Duration};

use super::{
    CheckpointStore, DeadLetterStore, DedupeStore, Events, ManagedKey, Start, StateStore,
    SubscribeError,
    lane::{Lane, Queue},
    schemas::Schemas,
    state::{State, Stores},
    task::{Config, LaneTask, Parts},
    wire::Source,
};
use crate::{
    client::{Backoff, Connection},
    clock::{Clock, SystemClock},
    types::{
        TopicName,
        limits::{CREDIT_MAX_EXTENDED, RETENTION, SUBSCRIBER_IN_FLIGHT},
    },
};

/// What to do when the position is no longer good: it is too old, or the gateway was restored from a
/// backup. Followed once; a second refusal in a row is an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectedReplay {
    /// End, and let somebody decide: nothing is skipped or repeated in silence.
    #[default]
    Stop,
    /// Go on at the oldest event that is kept: what is older is missed.
    Earliest,
    /// Go on after the newest event: everything in between is missed.
    Latest,
}

/// Says what a [`Subscriber`] does. Made by [`Subscriber::builder`].
#[derive(Debug)]
pub struct Builder {
    connection: Connection,
    topics: Vec<TopicName>,
    managed: Option<(ManagedKey, TopicName)>,
    start: Start,
    config: Config,
    stores: Stores,
    clock: Arc<dyn Clock>,
}

/// A subscription that can be started.
#[derive(Debug)]
pub struct Subscriber {
    pub(super) sources: Vec<(TopicName, Source)>,
    pub(super) connection: Connection,
    pub(super) start: Start,
    pub(super) config: Config,
    pub(super) stores: Stores,
    pub(super) clock: Arc<dyn Clock>,
}

/// Waits after failures begin with this.
const WAIT_FIRST: Duration = Duration::from_millis(250);
/// And end with this: long enough for a gateway that everybody comes back to, short enough not to be
/// noticed after it is back.
const WAIT_LONGEST: Duration = Duration::from_secs(30);
/// Events after which the position is saved.
const SAVE_EVERY: u64 = 1_000;
/// Time after which the position is saved.
const SAVE_WITHIN: Duration = Duration::from_secs(1);
/// Quiet after which a stream with credit counts as caught up.
const CAUGHT_UP_AFTER: Duration = Duration::from_secs(1);

impl Subscriber {
    /// Says what to subscribe to on `connection`, which everything shares.
    pub fn builder(connection: Connection) -> Builder {
        Builder {
            connection,
            topics: Vec::new(),
            managed: None,
            start: Start::default(),
            config: Config {
                in_flight_max: SUBSCRIBER_IN_FLIGHT,
                rejected_replay: RejectedReplay::default(),
                save_every: SAVE_EVERY,
                save_within: SAVE_WITHIN,
                retention: RETENTION,
                tries_max: None,
                backoff: Backoff::new(WAIT_FIRST, WAIT_LONGEST),
                caught_up_after: CAUGHT_UP_AFTER,
                limit: None,
                filter: None,
            },
            stores: Stores::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Begins to receive, in a task for each topic. They end when what is returned is closed or
    /// dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> Events {
        let queue = Arc::new(Queue::default());
        let schemas = Schemas::new(self.connection.clone());
        let config = Arc::new(self.config);
        let start = match self.start {
            Start::At(moment) => Start::At(moment.fixed(self.clock.now().as_millis())),
            start => start,
        };
        let mut events = Events::new(Arc::clone(&queue));
        for (topic, source) in self.sources {
            let is_saved = self.stores.has_checkpoints() || self.stores.has_dedupe();
            let unsaved_max = is_saved.then_some(config.save_every);
            let has_dedupe = self.stores.has_dedupe();
            let lane = Lane::new(topic, has_dedupe, unsaved_max);
            let lane = Arc::new(lane);
            let task = LaneTask::new(Parts {
                lane: Arc::clone(&lane),
                queue: Arc::clone(&queue),
                connection: self.connection.clone(),
                source,
                start,
                config: Arc::clone(&config),
                stores: self.stores.clone(),
                schemas: schemas.clone(),
                clock: Arc::clone(&self.clock),
            });
            events.add(lane, task.run());
        }
        events
    }
}

impl Builder {
    /// Subscribes to a topic or channel; several may be named, each with a position of its own.
    #[must_use]
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.topics.push(topic);
        self
    }

    /// Subscribes to a managed subscription of this topic, whose position the gateway keeps: it is
    /// committed there as events are handled, and no other store of positions is needed.
    ///
    /// One that is shared among streams sends what was not committed when a stream broke again to
    /// whichever stream has its place by then: this one, which handles no event twice that it knows, or
    /// another. What a former stream brought and this one did not is not committed, and no error at the
    /// end.
    #[must_use]
    pub fn managed(mut self, key: ManagedKey, topic: TopicName) -> Self {
        self.managed = Some((key, topic));
        self
    }

    /// Where a topic starts that has no position yet. After the newest event, unless told.
    ///
    /// At a time, it gets every event from then on, as the gateway's clock dated them. How long ago
    /// something was is counted back once, when the subscriber is started, by its own clock: so the
    /// time is the same for each topic and does not move if the gateway is reached only later, or
    /// again. A gateway that knows no times ends the subscription
    /// ([`SubscribeError::TimeNotServed`]).
    #[must_use]
    pub fn start_at(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Receives only the events that match a filter, of each topic: the condition of a WHERE clause, as
    /// the platform has it for members of channels. What does not match is not sent, and is passed by the
    /// position all the same.
    ///
    /// A gateway that has no filters ends the subscription ([`SubscribeError::FilterNotServed`]), and so
    /// does one that finds the filter wrong. A managed subscription has its own.
    #[must_use]
    pub fn filter(mut self, expression: impl Into<String>) -> Self {
        self.config.filter = Some(expression.into());
        self
    }

    /// How many events may be in flight, of each topic: received and not yet handled, or asked for.
    ///
    /// # Bounds
    ///
    /// From 1 to [`CREDIT_MAX_EXTENDED`]; [`SUBSCRIBER_IN_FLIGHT`] unless told. The hosted service
    /// sends no more than 100 that are not asked for again.
    #[must_use]
    pub fn max_in_flight(mut self, events: u32) -> Self {
        self.config.in_flight_max = events;
        self
    }

    /// Tells that all was received once nothing came for so long, and not after a second: no response
    /// says that nothing more is there.
    pub fn caught_up_after(mut self, quiet: Duration) -> Self {
        self.config.caught_up_after = quiet;
        self
    }

    /// Asks for no more than this many events of each topic. Once they have come the stream stands, and
    /// brings none.
    #[must_use]
    pub fn limit(mut self, events: u64) -> Self {
        self.config.limit = Some(events);
        self
    }

    /// Where positions are kept.
    #[must_use]
    pub fn checkpoints(mut self, store: impl CheckpointStore) -> Self {
        let dedupe = match self.stores.state {
            State::Apart { dedupe, .. } => dedupe,
            State::Together(_) => None,
        };
        self.stores.state = State::Apart {
            checkpoints: Some(Arc::new(store)),
            dedupe,
        };
        self
    }

    /// Where ids of handled events are kept, so that one that comes again is passed over.
    #[must_use]
    pub fn dedupe(mut self, store: impl DedupeStore) -> Self {
        let checkpoints = match self.stores.state {
            State::Apart { checkpoints, .. } => checkpoints,
            State::Together(_) => None,
        };
        self.stores.state = State::Apart {
            checkpoints,
            dedupe: Some(Arc::new(store)),
        };
        self
    }

    /// Where positions and ids of handled events are kept, in one transaction.
    #[must_use]
    pub fn state(mut self, store: impl StateStore) -> Self {
        self.stores.state = State::Together(Arc::new(store));
        self
    }

    /// Where events go that are given up. Without such a place, an event that would be given up ends
    /// the subscription.
    #[must_use]
    pub fn dead_letters(mut self, store: impl DeadLetterStore) -> Self {
        self.stores.dead_letters = Some(Arc::new(store));
        self
    }

    /// Saves the position after this many handled events, or this much time, whichever is first. No
    /// event is handed out while so many are handled and not saved, so that no more of them come again
    /// after a crash, besides those in flight. A thousand and a second unless told.
    #[must_use]
    pub fn save_after(mut self, events: u64, time: Duration) -> Self {
        self.config.save_every = events.max(1);
        self.config.save_within = time;
        self
    }

    /// What to do when the position is no longer good. [`RejectedReplay::Stop`] unless told.
    #[must_use]
    pub fn on_rejected_replay(mut self, policy: RejectedReplay) -> Self {
        self.config.rejected_replay = policy;
        self
    }

    /// How long the gateway keeps events, to warn of a position before it is too old. Three days
    /// unless told.
    #[must_use]
    pub fn retention(mut self, time: Duration) -> Self {
        self.config.retention = time;
        self
    }

    /// Gives up after this many failed tries in a row. Without it, what may pass is tried for ever.
    #[must_use]
    pub fn give_up_after(mut self, tries: u32) -> Self {
        self.config.tries_max = Some(tries);
        self
    }

    /// The waits after failures. From a quarter of a second to 30 s unless told.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self
    }

    /// The clock by which checkpoints are dated. The system's unless told.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// A subscriber that does all this.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] if there is nothing to subscribe to, or too much.
    pub fn build(self) -> Result<Subscriber, SubscribeError> {
        let mut sources: Vec<(TopicName, Source)> = Vec::new();
        let topics = self.topics.into_iter();
        let topics = topics.map(|topic| (topic.clone(), Source::Topic(topic)));
        let managed = self.managed.into_iter();
        let managed = managed.map(|(key, topic)| (topic, Source::Managed(key)));
        for (topic, source) in topics.chain(managed) {
            if sources.iter().any(|(known, _)| *known == topic) {
                return Err(SubscribeError::NamedTwice(topic));
            }
            if self.config.filter.is_some() && matches!(source, Source::Managed(_)) {
                return Err(SubscribeError::FilterOfManaged(topic));
            }
            sources.push((topic, source));
        }
        if sources.is_empty() {
            return Err(SubscribeError::NothingToSubscribeTo);
        }
        let in_flight_max = self.config.in_flight_max;
        if !(1..=CREDIT_MAX_EXTENDED).contains(&in_flight_max) {
            return Err(SubscribeError::InFlight(in_flight_max));
        }
        Ok(Subscriber {
            sources,
            connection: self.connection,
            start: self.start,
            config: self.config,
            stores: self.stores,
            clock: self.clock,
        })
    }
}
