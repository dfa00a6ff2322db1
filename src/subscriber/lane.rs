//! What the task of one topic and the reader of its events share.
//!
//! The task receives and queues; the reader takes events out, and tells when each is handled. Both
//! only ever hold the lock for a moment, and none across an await.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    OpaqueReplayId,
    error::SubscribeError,
    event::{Delivery, Event},
    item::Item,
    progress::Progress,
    status::{Counters, State},
};
use crate::types::TopicName;

/// What is known of an event that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    New,
    /// Its id is recorded as handled.
    Handled,
    /// It came before, on a former stream.
    Repeated,
}

/// What was received and waits for the reader, of all topics of a subscriber.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when there is something in it.
    filled: Notify,
}

/// Items in the order in which they came, and how many of them are no events.
#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Queued>,
    notices: usize,
}

/// An item, or the error at the end. Events come by the million and are moved several times: what else
/// there is, which is larger, does not make their place larger.
#[derive(Debug)]
pub(super) enum Queued {
    Event(Delivery),
    Other(Box<Result<Item, SubscribeError>>),
}

/// Items besides events that wait for a reader. Ours: one that does not read for days is not told of
/// every stream that broke meanwhile.
const NOTICES_MAX: usize = 64;

impl Queue {
    /// Adds events.
    fn deliver(&self, events: impl Iterator<Item = Delivery>) {
        let mut waiting = self.lock();
        waiting.items.extend(events.map(Queued::Event));
        let is_filled = !waiting.items.is_empty();
        drop(waiting);
        if is_filled {
            self.filled.notify_one();
        }
    }

    /// Adds what may not be missed.
    pub(super) fn push(&self, item: Result<Item, SubscribeError>) {
        let item = Queued::Other(Box::new(item));
        self.lock().items.push_back(item);
        self.filled.notify_one();
    }

    /// Adds what is good to know, unless much of that waits already.
    pub(super) fn notice(&self, item: Item) {
        let mut waiting = self.lock();
        if waiting.notices < NOTICES_MAX {
            waiting.notices += 1;
            waiting.items.push_back(Queued::Other(Box::new(Ok(item))));
        }
        drop(waiting);
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all that waits, as soon as there is something.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn take(&self) -> VecDeque<Queued> {
        loop {
            // One that comes before the wait is kept for it.
            let waiting = std::mem::take(&mut *self.lock());
            if !waiting.items.is_empty() {
                return waiting.items;
            }
            self.filled.notified().await;
        }
    }
}

/// One topic of a subscriber. Each event that waits has a share of it, so it has none of the queue: what
/// nobody reads any more would keep both for ever.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) topic: TopicName,
    shared: Mutex<Shared>,
    /// Told when there is something for the task to do.
    wake: Notify,
    /// Told when a save came to its end.
    saved: Notify,
    /// Handled events that may wait to be saved; `None` where nothing is saved.
    unsaved_max: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) progress: Progress,
    /// Ids of events in flight, and of handled ones that are not recorded yet; empty without a store
    /// of ids.
    ids: Option<HashSet<String>>,
    /// Ids of handled events that are not recorded yet.
    done: Vec<String>,
    /// Events handled since the last save began.
    unsaved: u64,
    /// Events of the save that is under way.
    saving: u64,
    /// The task wants to know once so many events are in flight, or fewer.
    wake_at_pending: Option<usize>,
    /// The task wants to know once so many events are handled and not saved.
    wake_at_unsaved: u64,
    is_closing: bool,
    pub(super) state: State,
    pub(super) counters: Counters,
    pub(super) opened_at: Option<Instant>,
    pub(super) last_message: Option<Instant>,
    pub(super) saved_at: Option<Instant>,
    pub(super) saved: Option<OpaqueReplayId>,
}

impl Lane {
    pub(super) fn new(topic: TopicName, has_dedupe: bool, unsaved_max: Option<u64>) -> Self {
        Self {
            topic,
            wake: Notify::new(),
            saved: Notify::new(),
            unsaved_max,
            shared: Mutex::new(Shared {
                progress: Progress::default(),
                ids: has_dedupe.then(HashSet::new),
                done: Vec::new(),
                unsaved: 0,
                saving: 0,
                wake_at_pending: None,
                wake_at_unsaved: u64::MAX,
                is_closing: false,
                state: State::Connecting,
                counters: Counters::default(),
                opened_at: None,
                last_message: None,
                saved_at: None,
                saved: None,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state of the connection, and returns the one before.
    pub(super) fn replace_state(&self, state: State) -> State {
        std::mem::replace(&mut self.lock().state, state)
    }

    /// Takes in events, and the position behind them, and queues the events that are to be handled:
    /// not those of which something is `known`, by their order, nor those whose id is that of another that
    /// came before. Returns how many are queued.
    pub(super) fn receive(
        self: &Arc<Self>,
        events: Vec<Event>,
        known: &[Known],
        latest: Option<OpaqueReplayId>,
        queue: &Queue,
    ) -> u64 {
        let mut numbers = Vec::with_capacity(events.len());
        {
            // No event is moved under the lock, which every handled event takes too.
            let mut guard = self.lock();
            let shared = &mut *guard;
            shared.counters.received += events.len() as u64;
            for (index, event) in events.iter().enumerate() {
                let known = known.get(index).copied().unwrap_or(Known::New);
                numbers.push(match known {
                    Known::Repeated => {
                        shared.counters.duplicates += 1;
                        shared.progress.repeated(event.replay_id());
                        None
                    }
                    Known::New if shared.takes_id(event) => {
                        let bytes = event.encoded().len();
                        Some(shared.progress.received(event.replay_id(), bytes))
                    }
                    Known::New | Known::Handled => {
                        shared.counters.duplicates += 1;
                        shared.progress.reached(event.replay_id());
                        None
                    }
                });
            }
            if let Some(latest) = latest {
                shared.progress.reached(latest);
            }
        }
        let numbered = numbers.iter().zip(events);
        let queued = numbered.filter_map(|(number, event)| {
            let receipt = Receipt {
                lane: Some(Arc::clone(self)),
                number: (*number)?,
            };
            Some(Delivery { event, receipt })
        });
        queue.deliver(queued);
        numbers.iter().flatten().count() as u64
    }

    /// An event is handled; or it was dropped, if there is none.
    fn settled(&self, number: u64, done: Option<&Event>) {
        let mut guard = self.lock();
        let shared = &mut *guard;
        match done {
            Some(event) => {
                shared.progress.done(number);
                shared.unsaved += 1;
                shared.counters.done += 1;
                if shared.ids.is_some() && !event.id().is_empty() {
                    shared.done.push(event.id().to_owned());
                }
            }
            None => {
                shared.progress.abandoned(number);
                shared.counters.abandoned += 1;
            }
        }
        // Once for each time that the task asks, not for each event.
        let pending = shared.progress.pending();
        let is_wanted = (shared.wake_at_pending).is_some_and(|wanted| pending <= wanted)
            || shared.unsaved >= shared.wake_at_unsaved;
        if is_wanted {
            shared.wake_at(None, u64::MAX);
            drop(guard);
            self.wake.notify_one();
        }
    }

    /// Resolves once what [`Shared::wake_at`] asks for is there, or the subscriber is being closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Resolves once few enough handled events wait to be saved: so many come again after a crash, and
    /// no store that fails lets them grow without bound.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn until_saved(&self) {
        loop {
            let saved = self.saved.notified();
            tokio::pin!(saved);
            // From here on, an end of a save is not missed.
            saved.as_mut().enable();
            if self.is_saved_enough() {
                return;
            }
            saved.await;
        }
    }

    /// Whether [`Self::until_saved`] would wait for nothing.
    pub(super) fn is_saved_enough(&self) -> bool {
        let Some(unsaved_max) = self.unsaved_max else {
            return true;
        };
        let shared = self.lock();
        shared.is_closing || shared.unsaved + shared.saving < unsaved_max
    }

    /// Tells those who wait that a save came to its end.
    pub(super) fn save_ended(&self) {
        self.saved.notify_waiters();
    }

    /// Tells the task to come to an end.
    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.wake.notify_one();
        self.saved.notify_waiters();
    }
}

impl Shared {
    /// Whether no other event with this one's id is in flight, or handled and not recorded; the id counts
    /// as taken then.
    fn takes_id(&mut self, event: &Event) -> bool {
        match &mut self.ids {
            Some(ids) if !event.id().is_empty() => ids.insert(event.id().to_owned()),
            _ => true,
        }
    }

    /// Whether the task is to come to an end.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Asks to be woken once, at so few events in flight, or at so many handled and not saved.
    pub(super) fn wake_at(&mut self, pending: Option<usize>, unsaved: u64) {
        self.wake_at_pending = pending;
        self.wake_at_unsaved = unsaved;
    }

    /// With so many handled and not saved events the task has something to do: with the first, which says
    /// when they are to be saved at the latest, and with as many as are saved at once.
    pub(super) fn saves_at(&self, save_every: u64) -> u64 {
        if self.unsaved == 0 { 1 } else { save_every }
    }

    /// Events handled since the last save began.
    pub(super) fn unsaved(&self) -> u64 {
        self.unsaved
    }

    /// What is to be saved: the position, and the ids of handled events. [`Self::recorded`] or
    /// [`Self::unsaved_again`] tells what came of it.
    pub(super) fn take_unsaved(&mut self) -> (Option<OpaqueReplayId>, Vec<String>) {
        self.saving = std::mem::take(&mut self.unsaved);
        (self.progress.position(), std::mem::take(&mut self.done))
    }

    /// A save failed: its ids are to be saved the next time.
    pub(super) fn unsaved_again(&mut self, mut done: Vec<String>) {
        self.unsaved += std::mem::take(&mut self.saving);
        done.append(&mut self.done);
        self.done = done;
    }

    /// A save succeeded: its ids are recorded where the next look finds them.
    pub(super) fn recorded(&mut self, done: &[String]) {
        self.saving = 0;
        if let Some(ids) = &mut self.ids {
            done.iter().for_each(|id| _ = ids.remove(id));
        }
    }

    /// How long nothing was heard.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.last_message.map(|at| at.elapsed())
    }
}

/// What tells that an event is handled.
#[derive(Debug)]
pub(super) struct Receipt {
    /// `None` once it is told.
    lane: Option<Arc<Lane>>,
    number: u64,
}

impl Receipt {
    /// Resolves once few enough events before this one wait to be saved.
    pub(super) async fn until_saved(&self) {
        if let Some(lane) = &self.lane {
            lane.until_saved().await;
        }
    }

    /// The topic's, unless it is told that the event is handled.
    pub(super) fn lane(&self) -> Option<&Arc<Lane>> {
        self.lane.as_ref()
    }

    /// What is counted of the event's subscription.
    pub(super) fn count(&self, add: impl FnOnce(&mut Counters)) {
        if let Some(lane) = &self.lane {
            add(&mut lane.lock().counters);
        }
    }

    /// Tells that the event of this receipt is handled.
    pub(super) fn done(mut self, event: &Event) {
        if let Some(lane) = self.lane.take() {
            lane.settled(self.number, Some(event));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            lane.settled(self.number, None);
        }
    }
}
