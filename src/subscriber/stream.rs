//! One stream of a topic's task, from its first request until it breaks or the subscriber is closed.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    OpaqueReplayId, Start,
    error::SubscribeError,
    event::{Context, Event, Unread},
    flow::Flow,
    item::Item,
    lane::{Known, Lane, Shared},
    state::StoreError,
    task::LaneTask,
    wire::{Response, Wire},
};
use crate::{
    client::{
        CallError, ClientError, Wishes,
        connect::{PING_INTERVAL, PING_TIMEOUT},
    },
    types::limits::{
        SUBSCRIBER_IN_FLIGHT_BYTES_MAX, SUBSCRIBER_SILENCE_MAX, SUBSCRIBER_SPAN_FACTOR,
    },
};

/// How long a stream may stay without credit while there is room for an event: less than the 60 s after
/// which gateways may end it.
const ZERO_CREDIT_MAX: Duration = Duration::from_secs(20);
/// How long a request may be on its way on a connection that stands: one whose PINGs are not answered
/// by then counts as lost.
const REQUEST_ON_ITS_WAY_MAX: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
/// How long a managed subscription's last commit is awaited at the end.
const LAST_COMMIT_WAIT: Duration = Duration::from_secs(10);

/// A stream that stands.
pub(super) struct Stream<'a> {
    task: &'a mut LaneTask,
    wire: Wire,
    flow: Flow,
    heard_at: Instant,
    /// When more events were last asked for.
    asked_at: Instant,
    events_at: Instant,
    /// Since when nothing is asked for.
    zero_since: Option<Instant>,
    is_caught_up: bool,
    /// An event was left for the next run: on a shared subscription nothing behind it is taken in, since a
    /// commit of that would cover it.
    has_left_event: bool,
}

/// Why a stream ended.
pub(super) enum StreamEnd {
    /// It is to be opened again, perhaps.
    Client(ClientError),
    /// A store failed this time: what was received is received again.
    Store(StoreError),
    /// There is no going on.
    Fatal(SubscribeError),
}

impl From<ClientError> for StreamEnd {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<tonic::Status> for StreamEnd {
    fn from(status: tonic::Status) -> Self {
        Self::Client(status.into())
    }
}

impl From<StoreError> for StreamEnd {
    fn from(error: StoreError) -> Self {
        match error.is_retryable() {
            true => Self::Store(error),
            false => Self::Fatal(error.into()),
        }
    }
}

impl<'a> Stream<'a> {
    /// Opens a stream where the last one ended; `None` if the subscriber is closed meanwhile.
    pub(super) async fn open(task: &'a mut LaneTask) -> Result<Option<Self>, StreamEnd> {
        let in_flight_max = task.config.in_flight_max;
        // Once all came that is wanted, a shared subscription's stream is there for what comes again, which
        // is committed then.
        let wanted = match task.wanted {
            Some(0) if task.is_shared => Some(task.redelivery.len() as u64),
            wanted => wanted,
        };
        let mut flow = Flow::new(in_flight_max, wanted);
        // A gateway is asked for something, even by a stream that is to bring the last commit alone.
        let room = flow.room(task.lane.lock().progress.pending()).max(1);
        let opening = Wire::open(
            &task.connection,
            &task.source,
            task.next,
            room,
            Wishes {
                credit_max: in_flight_max,
                filter: task.config.filter.clone(),
                from: None,
            },
        );
        let opened = tokio::select! {
            opened = timeout(SUBSCRIBER_SILENCE_MAX, opening) => opened,
            () = closed(&task.lane) => return Ok(None),
        };
        let wire = opened.map_err(|_| silent())??;
        if let Some(unserved) = wire.unserved(task) {
            return Err(StreamEnd::Fatal(unserved));
        }
        let (credit_max, credit) = wire.credit();
        flow.granted(credit_max);
        flow.asked(credit);
        let now = Instant::now();
        task.opened(now, wire.is_shared());
        Ok(Some(Self {
            task,
            wire,
            flow,
            heard_at: now,
            asked_at: now,
            events_at: now,
            zero_since: None,
            is_caught_up: false,
            has_left_event: false,
        }))
    }

    /// Receives until the subscriber is closed.
    pub(super) async fn run(mut self) -> Result<(), StreamEnd> {
        loop {
            self.ask().await;
            self.task.saver.begin_if_due();
            self.commit().await;
            let quiet = self.quiet_deadline();
            let silence = self.silence_deadline();
            let zero = self.zero_since.map(|since| since + ZERO_CREDIT_MAX);
            let deadlines = [quiet, silence, zero, self.task.saver.due()];
            let may_read = may_read(&self.task.lane.lock(), self.task.config.in_flight_max);
            tokio::select! {
                // Being closed comes first, then what frees memory, then what takes some.
                biased;
                () = self.task.lane.woken() => {}
                saved = self.task.saver.under_way() => self.task.saver.ended(saved)?,
                response = self.wire.next(), if may_read => {
                    let response = response?.ok_or_else(|| lost("it ended the stream"))?;
                    self.receive(response).await?;
                }
                () = until(deadlines.into_iter().flatten().min()) => {
                    let now = Instant::now();
                    if silence.is_some_and(|at| at <= now) {
                        return Err(silent().into());
                    }
                    if quiet.is_some_and(|at| at <= now) {
                        self.is_caught_up = true;
                        let topic = self.task.lane.topic.clone();
                        self.task.queue.notice(Item::CaughtUp(topic));
                    }
                }
            }
            if self.task.lane.lock().is_closing() {
                return self.end().await;
            }
        }
    }

    /// When nothing having come means that there is nothing: told once.
    fn quiet_deadline(&self) -> Option<Instant> {
        let is_waiting = !self.is_caught_up && self.flow.credit() > 0;
        is_waiting.then(|| self.events_at + self.task.config.caught_up_after)
    }

    /// When nothing having come means that the stream is lost. Without credit a gateway says nothing,
    /// however long; PINGs find one that vanished.
    fn silence_deadline(&self) -> Option<Instant> {
        (self.flow.credit() > 0).then_some(self.heard_at + SUBSCRIBER_SILENCE_MAX)
    }

    /// Asks for more events if there is room for a good number of them, or for any if the stream has
    /// been without credit for long.
    async fn ask(&mut self) {
        let is_zero_long = self
            .zero_since
            .is_some_and(|since| since.elapsed() >= ZERO_CREDIT_MAX);
        let more = {
            let mut shared = self.task.lane.lock();
            let pending = shared.progress.pending();
            let more = match is_zero_long {
                true => self.flow.room(pending),
                false => self.flow.worth_asking(pending),
            };
            let was_zero = self.flow.credit() == 0;
            self.flow.asked(more);
            if more > 0 {
                self.asked_at = Instant::now();
            }
            if was_zero && more > 0 {
                // The silence of a gateway that was asked for nothing does not count.
                self.heard_at = Instant::now();
            }
            let pending = match may_read(&shared, self.task.config.in_flight_max) {
                true => self.flow.asks_at(),
                // Any event that is handled may make the room that is missing.
                false => Some(usize::MAX),
            };
            let unsaved = shared.saves_at(self.task.config.save_every);
            shared.wake_at(pending, unsaved);
            more
        };
        if more > 0 {
            self.wire.ask(more).await;
        }
        self.zero_since = match self.flow.credit() {
            0 if is_zero_long => Some(Instant::now()),
            0 => self.zero_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
    }

    /// Commits the position of a managed subscription, once the stores have taken what is before it.
    async fn commit(&mut self) {
        if let Wire::Managed(stream) = &mut self.wire
            && let Some(position) = self.task.saver.take_commit()
        {
            stream.commit(super::wire::bytes_of(position), 0).await;
            self.task.redelivery.committed(position, stream.commits());
        }
    }

    /// Takes in a response.
    async fn receive(&mut self, response: Response) -> Result<(), StreamEnd> {
        let Response {
            fetch,
            refused_commit,
        } = response;
        let topic = self.task.lane.topic.clone();
        self.heard_at = Instant::now();
        let count = fetch.events.values().len();
        if count > 0 {
            self.events_at = self.heard_at;
        }
        let is_seen = self.asked_at.elapsed() >= REQUEST_ON_ITS_WAY_MAX;
        let pending = fetch.pending_num_requested;
        let excess = self.flow.received(count, pending, is_seen);
        // What nobody wants is left for the next run, which gets it again.
        let is_wanted = self.task.wanted != Some(0);
        let is_read = match self.task.is_shared {
            false => is_wanted,
            true => !self.has_left_event,
        };
        let mut events = Vec::with_capacity(count);
        for encoded in fetch.events.values().shares().filter(|_| is_read) {
            let event = Unread::decode(encoded).map_err(|reason| lost(&reason))?;
            let context = self.context(&event).await?;
            events.push(event.with(context));
        }
        let latest = match &fetch.latest_replay_id[..] {
            _ if !is_wanted => None,
            [] => None,
            bytes => Some(OpaqueReplayId::new(bytes).map_err(|error| {
                lost(&format!(
                    "it sent a response with an odd replay id: {error}"
                ))
            })?),
        };
        let (latest, repeated) = match self.wire {
            Wire::Topic(_) => (latest, Vec::new()),
            Wire::Managed(_) if self.task.is_shared => self.find_repeated(&mut events, latest),
            Wire::Managed(_) => (self.take_out_repeated(&mut events, latest), Vec::new()),
        };
        let known = self.look_up(&events, repeated).await?;
        if let Wire::Managed(_) = self.wire {
            // Not before nothing can fail any more: what is not taken in has to come again.
            // Nor a position that a shared stream told: the event of that id may be another stream's, and come
            // to this one later.
            let told = latest.filter(|_| !self.task.is_shared);
            let new = events.iter().map(|event| event.replay_id()).chain(told);
            new.for_each(|id| self.task.redelivery.reached(id));
        }
        let position = latest.or_else(|| Some(events.last()?.replay_id()));
        self.task
            .heard(events.first().map(|event| event.replay_id()).or(latest));
        if excess > 0 {
            self.task.lane.lock().counters.excess += u64::from(excess);
            tracing::warn!(%topic, "the gateway sent {excess} events more than it was asked for");
        }
        if let Some(reason) = refused_commit {
            self.task.lane.lock().counters.failed_saves += 1;
            tracing::warn!(%topic, "a commit was refused: {reason}");
        }
        self.note_commits();
        if let Some(position) = position {
            self.task.next = Start::Behind(position);
        }
        let repeated = known.iter().filter(|&&known| known == Known::Repeated);
        let repeated = repeated.count() as u64;
        let queued = self
            .task
            .lane
            .receive(events, &known, latest, &self.task.queue);
        self.flow.taken(match self.has_left_event {
            // Nothing that the stream brings is taken in any more.
            true => u64::MAX,
            false if is_wanted => queued,
            false => repeated,
        });
        let wanted = &mut self.task.wanted;
        *wanted = wanted.map(|wanted| wanted.saturating_sub(queued));
        Ok(())
    }

    /// Takes out what a managed subscription sent before: it is in memory still, and so is its
    /// position.
    fn take_out_repeated(
        &mut self,
        events: &mut Vec<Event>,
        latest: Option<OpaqueReplayId>,
    ) -> Option<OpaqueReplayId> {
        let redelivery = &self.task.redelivery;
        let count = events.len();
        events.retain(|event| !redelivery.is_repeated(event.replay_id()));
        let latest = latest.filter(|&id| !redelivery.is_repeated(id));
        let repeated = (count - events.len()) as u64;
        self.task.lane.lock().counters.duplicates += repeated;
        latest
    }

    /// Finds what a shared subscription sent before: that has its place in the order of this stream, which
    /// is another than that of the former one. Leaves off what nobody wants, and everything behind it.
    fn find_repeated(
        &mut self,
        events: &mut Vec<Event>,
        latest: Option<OpaqueReplayId>,
    ) -> (Option<OpaqueReplayId>, Vec<Known>) {
        // The last event's id says as much, and without a doubt: a position that is told besides may be the
        // id of an event that came earlier. So it counts while nothing else is to be committed.
        let latest = latest.filter(|_| events.is_empty() && self.task.redelivery.is_committed());
        let mut known = Vec::with_capacity(events.len());
        let shared = self.task.lane.lock();
        for event in &*events {
            let id = event.replay_id();
            let is_repeated =
                self.task.redelivery.is_repeated(id) || shared.progress.is_missing(id);
            match (is_repeated, self.task.wanted) {
                (true, _) => known.push(Known::Repeated),
                (false, Some(0)) => {
                    self.has_left_event = true;
                    break;
                }
                (false, _) => known.push(Known::New),
            }
        }
        drop(shared);
        events.truncate(known.len());
        (latest, known)
    }

    /// Notes what a managed subscription has committed.
    fn note_commits(&mut self) {
        let Wire::Managed(stream) = &self.wire else {
            return;
        };
        if let Some(committed) = self.task.redelivery.answered(stream.answered()) {
            let mut shared = self.task.lane.lock();
            shared.saved = Some(committed);
            shared.saved_at = Some(Instant::now());
        }
    }

    /// What events of this one's schema have in common, which is mostly that of the event before.
    async fn context(&mut self, event: &Unread) -> Result<Arc<Context>, StreamEnd> {
        if let Some((last, context)) = &self.task.last_context
            && event.has_schema(last)
        {
            return Ok(Arc::clone(context));
        }
        let schema_id = event.schema_id().map_err(|reason| lost(&reason))?;
        let found = timeout(SUBSCRIBER_SILENCE_MAX, self.task.schemas.get(schema_id)).await;
        let context = Arc::new(Context {
            subscribed: self.task.lane.topic.clone(),
            schema: found.map_err(|_| silent())??,
        });
        self.task.last_context = Some((schema_id.to_owned(), Arc::clone(&context)));
        Ok(context)
    }

    /// What is known of each event: what is `known` already, and whether its id is recorded as handled.
    /// Nothing at all if nothing was known, without a store of ids.
    async fn look_up(
        &mut self,
        events: &[Event],
        mut known: Vec<Known>,
    ) -> Result<Vec<Known>, StoreError> {
        if !self.task.stores.has_dedupe() || events.is_empty() {
            return Ok(known);
        }
        let ids = events.iter().map(|event| event.id().to_owned()).collect();
        let topic = self.task.lane.topic.as_str();
        let seen = self.task.stores.seen(topic, ids).await?;
        known.resize(events.len(), Known::New);
        for ((known, is_seen), event) in known.iter_mut().zip(seen).zip(events) {
            // An event without an id is like no other.
            if *known == Known::New && is_seen && !event.id().is_empty() {
                *known = Known::Handled;
            }
        }
        Ok(known)
    }

    /// Ends the stream in good order.
    async fn end(mut self) -> Result<(), StreamEnd> {
        self.task.saver.all().await?;
        self.commit().await;
        let Wire::Managed(stream) = &mut self.wire else {
            return Ok(());
        };
        stream.half_close();
        let ending = async {
            // To its end: the subscription is free then, for whoever comes next.
            while stream.next().await?.is_some() {}
            Ok::<_, tonic::Status>(stream.is_committed())
        };
        if !matches!(timeout(LAST_COMMIT_WAIT, ending).await, Ok(Ok(true))) {
            let error = lost("it did not answer the last commit: events will come again");
            return Err(StreamEnd::Fatal(error.into()));
        }
        if stream.is_last_refused() {
            return Err(StreamEnd::Fatal(SubscribeError::CommitRefused));
        }
        self.note_commits();
        Ok(())
    }
}

/// Whether there is memory for another response. A gateway that keeps to what was asked for never sends
/// more events than may be in flight; their bytes are another matter.
fn may_read(shared: &Shared, in_flight_max: u32) -> bool {
    let in_flight_max = in_flight_max as usize;
    shared.progress.pending_bytes() < SUBSCRIBER_IN_FLIGHT_BYTES_MAX
        && shared.progress.pending() < 2 * in_flight_max
        && shared.progress.span() < in_flight_max.saturating_mul(SUBSCRIBER_SPAN_FACTOR)
}

/// Resolves when the subscriber is closed.
async fn closed(lane: &Lane) {
    while !lane.lock().is_closing() {
        lane.woken().await;
    }
}

/// Resolves at `deadline`; without one, never.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn lost(reason: &str) -> ClientError {
    CallError::connection_lost(reason).into()
}

fn silent() -> ClientError {
    lost("nothing was heard of it for too long")
}
