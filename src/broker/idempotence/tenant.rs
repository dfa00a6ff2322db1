//! What is known of the ids of one tenant's events, and the taking of ids.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Idempotence, NO_PANIC, TOPIC_BOUND,
    claimed::Claimed,
    rebuild::Build,
    ticket::{Place, Ticket},
    window::{EventId, Window},
};
use crate::{
    event_log::{AppendError, TenantLog},
    schema::registry::EventType,
    types::{Position, TopicId},
};

/// What is known of the ids of one tenant's events, topic by topic.
#[derive(Debug)]
pub(in crate::broker) struct Windows {
    pub(super) log: Arc<dyn TenantLog>,
    pub(super) shared: Arc<Idempotence>,
    /// One lock for all topics, so that a request for several of them takes its ids in one step.
    pub(super) topics: Mutex<HashMap<TopicId, Topic>>,
    /// Requests that have taken ids and are not queued yet.
    pub(super) unqueued: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct Topic {
    /// Only good once it is [`Build::Built`].
    pub(super) window: Window,
    /// Ids whose events are under way or in doubt. There are as many as the log's queue takes: a log
    /// that could not confirm events takes no more of them until it is opened again.
    pub(super) pending: HashMap<EventId, Pending>,
    pub(super) build: Build,
    /// Raised when what was read of the log does not hold any more.
    pub(super) generation: u64,
    /// How long ids are remembered.
    pub(super) life: Duration,
}

/// What is known of an event that is not stored for certain.
#[derive(Debug)]
pub(super) enum Pending {
    InFlight(Arc<Ticket>, Place),
    Doubtful(AppendError),
}

/// An accepted event of a request that is about to be queued.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) struct Asked<'a> {
    pub(in crate::broker) topic: TopicId,
    /// The id that its publisher chose, if it is to be looked up.
    pub(in crate::broker) id: Option<&'a str>,
    /// Which of the request's bodies it lies in; never falls from one event to the next.
    pub(in crate::broker) body: u32,
}

/// What is answered about an event that is not stored again.
#[derive(Clone, Debug)]
pub(in crate::broker) enum Answer {
    /// It stands here.
    Known(Position),
    /// Another one with its id is on its way.
    Shared(Arc<Ticket>, Place),
    /// The other one with its id was not stored, or may not have been.
    Failed(AppendError),
}

impl Answer {
    /// Waits until it is known what became of the other event.
    pub(in crate::broker) async fn ready(&mut self) {
        if let Self::Shared(ticket, place) = self {
            *self = match ticket.result(*place).await {
                Ok(position) => Self::Known(position),
                Err(error) => Self::Failed(error),
            };
        }
    }

    /// Where the event stands, if that is known.
    pub(in crate::broker) fn position(&self) -> Option<Position> {
        match self {
            Self::Known(position) => Some(*position),
            Self::Shared(..) | Self::Failed(_) => None,
        }
    }

    /// Why it is not stored for certain.
    pub(in crate::broker) fn failure(&self) -> Option<&AppendError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Known(_) | Self::Shared(..) => None,
        }
    }
}

/// What a request has to wait for before it can take its ids.
#[derive(Debug)]
pub(in crate::broker) enum Wait {
    /// The window of a topic is to be read back.
    Rebuilt(TopicId),
    /// Another request has one of the ids, and the log does not have its events yet.
    Queued(Arc<Ticket>),
}

impl Windows {
    /// Whether ids of events of this type are looked up.
    pub(in crate::broker) fn is_on(&self, event_type: &EventType) -> bool {
        let set = event_type.idempotent();
        set.unwrap_or(self.shared.config.enabled)
    }

    /// Takes the ids of a request that nobody has, all of them or none, and says for each event that
    /// is not to be stored how it is answered. Of events with the same id the first one is stored.
    ///
    /// # Errors
    ///
    /// [`Wait`]: nothing was taken.
    pub(in crate::broker) fn claim(
        self: &Arc<Self>,
        asked: &[Asked<'_>],
    ) -> Result<(Claimed, Vec<Option<Answer>>), Wait> {
        let known = self.of_log(asked);
        let (progress, ticket) = Ticket::new();
        let mut claims = Vec::new();
        let mut topics = self.lock();
        let now = Instant::now();
        for of_log in &known {
            let topic = topics.entry(of_log.topic).or_default();
            if !matches!(topic.build, Build::Built) {
                return Err(Wait::Rebuilt(of_log.topic));
            }
            topic.life = of_log.life;
            topic.change(&self.shared, |window| window.expire(now, of_log.trim));
        }
        if self.unqueued.load(Ordering::Relaxed) > 0 {
            check_queued(&topics, asked)?;
        }
        let mut place = Place { body: 0, index: 0 };
        let mut body = 0;
        let answers = asked.iter().map(|asked| {
            if asked.body != body && place.index > 0 {
                // A body of which nothing is left is not queued.
                place = Place {
                    body: place.body + 1,
                    index: 0,
                };
            }
            body = asked.body;
            if let Some(id) = asked.id {
                let id = EventId::new(id);
                let trim = known.iter().find(|known| known.topic == asked.topic);
                let trim = trim.map_or(Position::ZERO, |known| known.trim);
                let topic = topics.entry(asked.topic).or_default();
                if let Some(answer) = topic.answer(&id, trim) {
                    return Some(answer);
                }
                let taken = Pending::InFlight(Arc::clone(&ticket), place);
                topic.pending.insert(id.clone(), taken);
                claims.push((asked.topic, id, place));
            }
            place.index += 1;
            None
        });
        let answers = answers.collect();
        if !claims.is_empty() {
            self.unqueued.fetch_add(1, Ordering::Relaxed);
        }
        drop(topics);
        let claimed = Claimed::new(self, progress, claims);
        Ok((claimed, answers))
    }

    /// What the log says of the topics that ids are looked up in.
    fn of_log(&self, asked: &[Asked<'_>]) -> Vec<OfLog> {
        let mut known: Vec<OfLog> = Vec::new();
        for asked in asked.iter().filter(|asked| asked.id.is_some()) {
            if known.iter().all(|known| known.topic != asked.topic) {
                known.push(OfLog {
                    topic: asked.topic,
                    trim: self.log.topic(asked.topic).trim,
                    life: self.life(asked.topic),
                });
            }
        }
        known
    }

    /// How long ids of a topic are remembered: not longer than its events are.
    pub(super) fn life(&self, topic: TopicId) -> Duration {
        self.shared.config.window.min(self.log.retention(topic))
    }

    /// Has the log say again what was stored of a topic before anything else is published to it.
    pub(in crate::broker) fn forget(&self, topic: TopicId) {
        let mut topics = self.lock();
        let Some(topic) = topics.get_mut(&topic) else {
            return;
        };
        topic.generation += 1;
        topic.change(&self.shared, |window| *window = Window::default());
        // What is being read is read again.
        if matches!(topic.build, Build::Built) {
            topic.build = Build::Unbuilt;
        }
    }

    /// Forgets events that were erased; their positions are sorted.
    pub(in crate::broker) fn erased(&self, topic: TopicId, positions: &[Position]) {
        let mut topics = self.lock();
        if let Some(topic) = topics.get_mut(&topic) {
            topic.window.erase(positions);
            if !matches!(topic.build, Build::Built) {
                topic.generation += 1;
            }
        }
    }

    pub(super) fn expire(&self) {
        let now = Instant::now();
        let mut topics = self.lock();
        for (id, topic) in topics.iter_mut() {
            let trim = self.log.topic(*id).trim;
            topic.change(&self.shared, |window| window.expire(now, trim));
        }
        topics.retain(|_, topic| {
            let is_empty = topic.window.len() == 0 && topic.pending.is_empty();
            !(is_empty && matches!(topic.build, Build::Unbuilt))
        });
    }

    /// The topic with the id that is to be forgotten first, and when.
    pub(super) fn oldest(&self) -> Option<(Instant, TopicId)> {
        let topics = self.lock();
        let oldest = topics
            .iter()
            .filter_map(|(id, topic)| Some((topic.window.oldest()?, *id)));
        oldest.min_by_key(|(at, _)| *at)
    }

    /// Forgets up to `count` of a topic's oldest ids, and returns how many it were.
    pub(super) fn forget_oldest(&self, topic: TopicId, count: usize) -> usize {
        let mut topics = self.lock();
        topics.get_mut(&topic).map_or(0, |topic| {
            topic.change(&self.shared, |window| {
                (0..count).take_while(|_| window.forget_oldest()).count()
            })
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<TopicId, Topic>> {
        self.topics.lock().expect(NO_PANIC)
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        for topic in self.lock().values_mut() {
            topic.change(&self.shared, |window| *window = Window::default());
        }
    }
}

/// What the log says of a topic.
#[derive(Debug)]
struct OfLog {
    topic: TopicId,
    trim: Position,
    life: Duration,
}

/// Looks for ids that a request has taken which is not queued yet: it may still give them back.
fn check_queued(topics: &HashMap<TopicId, Topic>, asked: &[Asked<'_>]) -> Result<(), Wait> {
    for asked in asked {
        let (Some(id), Some(topic)) = (asked.id, topics.get(&asked.topic)) else {
            continue;
        };
        if let Some(Pending::InFlight(ticket, _)) = topic.pending.get(&EventId::new(id))
            && !ticket.is_queued()
        {
            return Err(Wait::Queued(Arc::clone(ticket)));
        }
    }
    Ok(())
}

impl Topic {
    /// Changes the window, and counts what that adds or takes.
    pub(super) fn change<T>(
        &mut self,
        shared: &Idempotence,
        change: impl FnOnce(&mut Window) -> T,
    ) -> T {
        let before = self.window.len();
        let changed = change(&mut self.window);
        shared.ids.inc_by(self.window.len() as i64 - before as i64);
        changed
    }

    /// How an event with this id is answered; `None` if it is to be stored.
    fn answer(&self, id: &EventId, trim: Position) -> Option<Answer> {
        // An event behind the oldest one may have been purged before it.
        let position = self.window.find(id).filter(|position| *position > trim);
        if let Some(position) = position {
            return Some(Answer::Known(position));
        }
        Some(match self.pending.get(id)? {
            Pending::InFlight(ticket, place) => Answer::Shared(Arc::clone(ticket), *place),
            Pending::Doubtful(error) => Answer::Failed(error.clone()),
        })
    }

    /// Forgets the oldest ids while there are too many.
    pub(super) fn keep_bound(&mut self, shared: &Idempotence) {
        let over = self.window.len();
        let over = over.saturating_sub(shared.config.ids_per_topic_max as usize);
        if over > 0 {
            self.change(shared, |window| {
                (0..over).for_each(|_| _ = window.forget_oldest())
            });
            let counter = shared.forgotten.get_or_create(&TOPIC_BOUND);
            counter.inc_by(over as u64);
        }
    }
}
