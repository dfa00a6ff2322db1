//! The task of one topic: one stream, and another after each break, from wherever it is.
//!
//! It receives events and queues them for the reader, asks for more as fast as they are handled, and
//! saves how far that is. What to do after a break is [`ending`](super::ending)'s to say; where to go
//! on is always behind the last event that was received, since what is in flight is still in memory.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    OpaqueReplayId, RejectedReplay, Start,
    checkpoint::Checkpoint,
    ending::Remedy,
    error::SubscribeError,
    event::Context,
    item::{Disconnected, Gap, Item, Reconnected},
    lane::{Lane, Queue, Shared},
    redelivery::Redelivery,
    saving::Saver,
    schemas::Schemas,
    state::Stores,
    status::State,
    stream::{Stream, StreamEnd, until},
    wire::Source,
};
use crate::{
    client::{Backoff, CallError, ClientError, Connection},
    clock::Clock,
};

/// What the subscriber was told.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) in_flight_max: u32,
    pub(super) rejected_replay: RejectedReplay,
    pub(super) save_every: u64,
    pub(super) save_within: Duration,
    pub(super) retention: Duration,
    pub(super) tries_max: Option<u32>,
    pub(super) backoff: Backoff,
    pub(super) caught_up_after: Duration,
    /// Events that are wanted; without a number, all.
    pub(super) limit: Option<u64>,
    /// What events have to match.
    pub(super) filter: Option<String>,
}

/// A token that is refused so soon after it was got is no good, and another would not be either; one that
/// stood for longer on a quiet topic ran out. Ours: a refusal is the answer to a stream's first request.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);
/// Waits for a limit of the gateway to be over. Ours: limits are counted by the hour or the day, and
/// each try may count.
const LIMIT_WAIT_FIRST: Duration = Duration::from_secs(60);
const LIMIT_WAIT_LONGEST: Duration = Duration::from_secs(15 * 60);
/// A checkpoint of this part of the time that events are kept is warned of.
const OLD_CHECKPOINT: f64 = 2.0 / 3.0;

/// The task of one topic.
pub(super) struct LaneTask {
    pub(super) lane: Arc<Lane>,
    pub(super) queue: Arc<Queue>,
    pub(super) connection: Connection,
    pub(super) source: Source,
    pub(super) config: Arc<Config>,
    pub(super) stores: Stores,
    pub(super) schemas: Schemas,
    clock: Arc<dyn Clock>,
    pub(super) saver: Saver,
    /// The schema id of the last event, and what events with it have in common.
    pub(super) last_context: Option<(String, Arc<Context>)>,
    /// Events that are wanted still; without a number, all.
    pub(super) wanted: Option<u64>,
    /// Where the next stream starts.
    pub(super) next: Start,
    /// The position that was loaded, until something was heard: its age is that of a gap.
    loaded: Option<Checkpoint>,
    /// What is told once the next response shows where the stream goes on.
    gap: Option<PendingGap>,
    /// The stream that broke, until the next one stands.
    down: Option<Down>,
    /// A stream was opened: that is when a subscription to the newest events started.
    pub(super) has_opened: bool,
    /// Nothing was heard since a position was left.
    has_left_position: bool,
    /// When credentials were renewed, if nothing was heard since.
    renewed_at: Option<Instant>,
    /// What a managed subscription may send once more.
    pub(super) redelivery: Redelivery,
    /// A stream of the managed subscription was a shared one: each has an order of its own. What a shared
    /// one brought says nothing of the order of an ordinary one behind it either.
    pub(super) is_shared: bool,
    waits: Waits,
}

struct PendingGap {
    from: Option<OpaqueReplayId>,
    age: Option<Duration>,
    reason: String,
}

struct Down {
    since: Instant,
    cause: ClientError,
    attempts: u32,
}

struct Waits {
    usual: Backoff,
    limit: Backoff,
    standby: Backoff,
    /// Waits in a row, without a response in between.
    in_a_row: u32,
}

/// What the task is made of.
pub(super) struct Parts {
    pub(super) lane: Arc<Lane>,
    pub(super) queue: Arc<Queue>,
    pub(super) connection: Connection,
    pub(super) source: Source,
    pub(super) start: Start,
    pub(super) config: Arc<Config>,
    pub(super) stores: Stores,
    pub(super) schemas: Schemas,
    pub(super) clock: Arc<dyn Clock>,
}

impl LaneTask {
    pub(super) fn new(parts: Parts) -> Self {
        let backoff = parts.config.backoff.clone();
        let saver = Saver::new(
            Arc::clone(&parts.lane),
            parts.stores.clone(),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.config),
            matches!(parts.source, Source::Managed(_)),
        );
        Self {
            lane: parts.lane,
            queue: parts.queue,
            connection: parts.connection,
            source: parts.source,
            stores: parts.stores,
            schemas: parts.schemas,
            clock: parts.clock,
            saver,
            last_context: None,
            wanted: parts.config.limit,
            next: parts.start,
            loaded: None,
            gap: None,
            down: None,
            has_opened: false,
            has_left_position: false,
            renewed_at: None,
            redelivery: Redelivery::default(),
            is_shared: false,
            config: parts.config,
            waits: Waits {
                usual: backoff.clone(),
                limit: Backoff::new(LIMIT_WAIT_FIRST, LIMIT_WAIT_LONGEST),
                standby: backoff,
                in_a_row: 0,
            },
        }
    }

    /// Receives until the subscriber is closed, or nothing that can be done here would help; saves what
    /// is handled by then.
    ///
    /// # Errors
    ///
    /// Why there is no going on. The reader is told too.
    pub(super) async fn run(mut self) -> Result<(), SubscribeError> {
        let ended = self.follow().await;
        let saved = self.saver.all().await;
        let saved = saved.map_err(SubscribeError::from).and_then(|()| {
            let left = self.saver.uncommitted();
            left.map_or(Ok(()), |_| Err(SubscribeError::NotCommitted))
        });
        self.set_state(State::Ended);
        let result = ended.and(saved);
        if let Err(error) = &result {
            self.queue.push(Err(error.clone()));
        }
        result
    }

    async fn follow(&mut self) -> Result<(), SubscribeError> {
        if !self.load().await? {
            return Ok(());
        }
        while self.room().await {
            if self.lane.lock().state != State::StandingBy {
                self.set_state(State::Connecting);
            }
            let generation = self.connection.credentials_generation();
            let end = match Stream::open(self).await {
                Ok(None) => return Ok(()),
                Ok(Some(stream)) => stream.run().await,
                Err(end) => Err(end),
            };
            let wait = match end {
                Ok(()) => return Ok(()),
                Err(StreamEnd::Fatal(error)) => return Err(error),
                Err(StreamEnd::Store(error)) => {
                    let cause = CallError::connection_lost(&error.to_string()).into();
                    self.wait_after(cause, Remedy::Retry)?
                }
                Err(StreamEnd::Client(error)) => self.recover(error, generation).await?,
            };
            if !self.pause(wait).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Finds out where to start. `false` if the subscriber is closed meanwhile.
    async fn load(&mut self) -> Result<bool, SubscribeError> {
        if matches!(self.source, Source::Managed(_)) {
            return Ok(true);
        }
        loop {
            match self.stores.load(self.lane.topic.as_str()).await {
                Ok(None) => return Ok(true),
                Ok(Some(checkpoint)) => {
                    self.next = Start::Behind(checkpoint.replay_id);
                    self.warn_if_old(checkpoint);
                    self.saver.loaded(checkpoint.replay_id);
                    self.loaded = Some(checkpoint);
                    return Ok(true);
                }
                Err(error) if error.is_retryable() => {
                    let topic = &self.lane.topic;
                    tracing::warn!(%topic, "the checkpoint cannot be loaded: {error}");
                    self.set_state(State::Waiting(error.to_string()));
                    let wait = self.waits.usual.endless_wait();
                    if !self.pause(wait).await {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn was_just_renewed(&self) -> bool {
        self.renewed_at
            .is_some_and(|at| at.elapsed() < REFUSED_WITHIN)
    }

    /// Decides what to do after a failure: how long to wait before the next try, if at all.
    async fn recover(
        &mut self,
        error: ClientError,
        generation: u64,
    ) -> Result<Duration, SubscribeError> {
        self.note_break(&error);
        let remedy = Remedy::of(&error);
        if !matches!(remedy, Remedy::Renew) {
            // A token that could not be tried yet may have run out meanwhile.
            self.renewed_at = None;
        }
        match remedy {
            Remedy::GiveUp => Err(error.into()),
            // The gateway finds a managed subscription's position by itself.
            Remedy::LeavePosition if matches!(self.source, Source::Managed(_)) => Err(error.into()),
            Remedy::LeavePosition => {
                self.leave_position(error.to_string())?;
                Ok(Duration::ZERO)
            }
            Remedy::Renew if self.was_just_renewed() => Err(error.into()),
            Remedy::Renew => match self.connection.renew_credentials(generation).await {
                Ok(()) => {
                    self.renewed_at = Some(Instant::now());
                    Ok(Duration::ZERO)
                }
                Err(renewal) if renewal.is_retryable() => self.wait_after(renewal, Remedy::Retry),
                // Why nobody calls any more says less than that the token is not taken.
                Err(_) => Err(error.into()),
            },
            remedy @ (Remedy::Retry | Remedy::WaitLong | Remedy::StandBy) => {
                self.wait_after(error, remedy)
            }
        }
    }

    /// A stream broke, or was not opened.
    fn note_break(&mut self, error: &ClientError) {
        let is_topic = matches!(self.source, Source::Topic(_));
        if is_topic && self.next == Start::Latest && self.has_opened && self.gap.is_none() {
            // Where the newest event was is not known until the gateway has told a position.
            self.gap = Some(PendingGap {
                from: None,
                age: None,
                reason: "the stream ended before the gateway had told a position".into(),
            });
        }
        let down = self.down.get_or_insert_with(|| {
            self.lane.lock().counters.disconnects += 1;
            Down {
                since: Instant::now(),
                cause: error.clone(),
                attempts: 0,
            }
        });
        down.attempts += 1;
    }

    /// How long to wait after `error`.
    fn wait_after(
        &mut self,
        error: ClientError,
        remedy: Remedy,
    ) -> Result<Duration, SubscribeError> {
        let wait = match remedy {
            Remedy::StandBy => {
                let wait = self.waits.standby.endless_wait();
                // However long that takes, it is told once.
                if self.lane.replace_state(State::StandingBy) != State::StandingBy {
                    self.tell_of_break(error, wait);
                }
                return Ok(wait);
            }
            Remedy::WaitLong => self.waits.limit.endless_wait(),
            _ => self.waits.usual.endless_wait(),
        };
        self.waits.in_a_row += 1;
        if (self.config.tries_max).is_some_and(|tries_max| self.waits.in_a_row > tries_max) {
            return Err(error.into());
        }
        self.set_state(State::Waiting(error.to_string()));
        self.tell_of_break(error, wait);
        Ok(wait)
    }

    fn tell_of_break(&self, cause: ClientError, wait: Duration) {
        let topic = self.lane.topic.clone();
        let seconds = wait.as_secs_f32();
        tracing::info!(%topic, "{cause}; trying again in {seconds:.1} s");
        let broken = Disconnected { topic, cause, wait };
        self.queue.notice(Item::Disconnected(broken));
    }

    /// Leaves a position that was refused, as the policy says, once.
    fn leave_position(&mut self, reason: String) -> Result<(), SubscribeError> {
        let start = match self.config.rejected_replay {
            RejectedReplay::Earliest => Some(Start::Earliest),
            RejectedReplay::Latest => Some(Start::Latest),
            RejectedReplay::Stop => None,
        };
        let position = self.next.to_string();
        let topic = self.lane.topic.clone();
        let Some(start) = start.filter(|_| !self.has_left_position) else {
            return Err(SubscribeError::PositionRefused {
                topic,
                position,
                reason,
            });
        };
        tracing::warn!(%topic, "the position {position} is refused, going on at {start}: {reason}");
        let from = match self.next {
            Start::Behind(id) => Some(id),
            Start::Latest | Start::Earliest | Start::At(_) => None,
        };
        let mut shared = self.lane.lock();
        let age = match (&self.loaded, shared.silence()) {
            // Until something is heard, the position is as old as its checkpoint.
            (Some(loaded), None) => Some(self.clock.now().saturating_since(loaded.saved_at)),
            (_, silence) => silence,
        };
        shared.counters.gaps += 1;
        self.gap = Some(PendingGap { from, age, reason });
        self.has_left_position = true;
        self.next = start;
        Ok(())
    }

    /// A stream stands. On a quiet topic its first response may take minutes.
    pub(super) fn opened(&mut self, now: Instant, is_shared: bool) {
        self.has_opened = true;
        self.redelivery.new_stream();
        self.is_shared |= is_shared;
        match self.is_shared {
            false => self.saver.commit_again(),
            true => {
                self.redelivery.begin_anew();
                self.lane.lock().progress.begin_anew();
                self.saver.begin_anew();
            }
        }
        let mut shared = self.lane.lock();
        shared.opened_at = Some(now);
        // Whoever stands by does so until a response shows that the subscription is theirs.
        if shared.state == State::Connecting {
            shared.state = State::Live;
        }
    }

    /// A response came and is good: whatever was tried before has helped. `first` is the first position
    /// that it told.
    pub(super) fn heard(&mut self, first: Option<OpaqueReplayId>) {
        self.waits.usual.reset();
        self.waits.limit.reset();
        self.waits.standby.reset();
        self.waits.in_a_row = 0;
        self.renewed_at = None;
        self.has_left_position = false;
        self.loaded = None;
        {
            let mut shared = self.lane.lock();
            shared.state = State::Live;
            shared.last_message = Some(Instant::now());
        }
        let topic = self.lane.topic.clone();
        let down = self.down.take();
        if let Some(to) = first
            && let Some(gap) = self.gap.take()
        {
            self.queue.push(Ok(Item::Gap(Gap {
                topic,
                from: gap.from,
                to,
                age: gap.age,
                reason: gap.reason,
            })));
        } else if let Some(down) = down {
            self.queue.notice(Item::Reconnected(Reconnected {
                topic,
                cause: down.cause,
                attempts: down.attempts,
                down_for: down.since.elapsed(),
            }));
        }
    }

    /// Whether a stream would bring anything: events, or on a managed subscription, whose position goes by
    /// its stream, the last commit. On a shared one that is one of events that come again.
    fn needs_stream(&self, shared: &Shared) -> bool {
        match (self.wanted, &self.source) {
            (Some(0), Source::Topic(_)) => false,
            (Some(0), Source::Managed(_)) => {
                let position = shared.progress.position();
                shared.progress.pending() > 0
                    || (position.is_some() && position != shared.saved)
                    || (self.is_shared && self.redelivery.len() > 0)
            }
            _ => shared.progress.pending() < self.config.in_flight_max as usize,
        }
    }

    /// Waits until a stream would bring something; `false` if the subscriber is closed meanwhile.
    async fn room(&mut self) -> bool {
        let in_flight_max = self.config.in_flight_max as usize;
        loop {
            {
                let mut shared = self.lane.lock();
                if shared.is_closing() {
                    return false;
                }
                if self.needs_stream(&shared) {
                    return true;
                }
                let unsaved = shared.saves_at(self.config.save_every);
                shared.wake_at(Some(in_flight_max / 2), unsaved);
                shared.state = State::Full;
            }
            if !self.idle(None).await {
                return false;
            }
        }
    }

    /// Waits, and saves meanwhile; `false` if the subscriber is closed.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            {
                let mut shared = self.lane.lock();
                let unsaved = shared.saves_at(self.config.save_every);
                shared.wake_at(None, unsaved);
            }
            if !self.idle(Some(until)).await {
                return false;
            }
        }
        true
    }

    /// Waits for something to happen without a stream; `false` if the subscriber is closed.
    async fn idle(&mut self, deadline: Option<Instant>) -> bool {
        self.saver.begin_if_due();
        let deadline = [deadline, self.saver.due()].into_iter().flatten().min();
        tokio::select! {
            () = self.lane.woken() => {}
            // What cannot be mended fails once more with the next stream, which ends it.
            saved = self.saver.under_way() => drop(self.saver.ended(saved)),
            () = until(deadline) => {}
        }
        !self.lane.lock().is_closing()
    }

    fn set_state(&self, state: State) {
        self.lane.lock().state = state;
    }

    /// Warns of a checkpoint that is nearly as old as events are kept.
    fn warn_if_old(&self, checkpoint: Checkpoint) {
        let age = self.clock.now().saturating_since(checkpoint.saved_at);
        if age >= self.config.retention.mul_f64(OLD_CHECKPOINT) {
            let topic = &self.lane.topic;
            let hours = age.as_secs() / 3_600;
            let kept = self.config.retention.as_secs() / 3_600;
            tracing::warn!(
                %topic,
                "the checkpoint is {hours} h old, and events are kept for {kept} h"
            );
        }
    }
}
