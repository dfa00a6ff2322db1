//! Running a handler for each event: in order, per key or unordered; again if it fails; and parked if
//! it will not do.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Attempt, DeadLetter, DeadLetterStore, Delivery, Event, Handler, Item, LetterId, Monitor, Order,
    Outcome, RetryPolicy, StoreError, SubscribeError, Subscriber,
    event::{Context, Unread},
    lane::Receipt,
    schemas::Schemas,
    state::Stores,
};
use crate::{client::Backoff, clock::Clock, types::TopicName};

/// How a handler is run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Which events wait for which.
    pub order: Order,
    /// How often and how long an event is tried.
    pub retry: RetryPolicy,
    /// How long handlers that are at work have when the subscriber is to end. Events that wait for
    /// their next try are not waited for.
    pub grace: Duration,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            order: Order::default(),
            retry: RetryPolicy::default(),
            grace: Duration::from_secs(10),
        }
    }
}

impl Subscriber {
    /// Runs `handler` for each event until `end` resolves, then lets those at work finish, saves the
    /// position and returns.
    ///
    /// An event that cannot be decoded becomes a dead letter without a try. `notice` is told of what
    /// comes besides events, and once of a [`Monitor`].
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: why there is no going on; the position is saved all the same.
    ///
    /// # Cancel safety
    ///
    /// After a drop, events that are handled and not saved come again.
    pub async fn run(
        self,
        run: Run,
        handler: impl Handler,
        mut notice: impl FnMut(Notice) + Send,
        end: impl Future<Output = ()> + Send,
    ) -> Result<(), SubscribeError> {
        let stores = self.stores.clone();
        let clock = Arc::clone(&self.clock);
        let mut events = self.start();
        notice(Notice::Started(events.monitor()));
        let (stop, stopping) = watch::channel(());
        let desk = Desk {
            handler: &handler,
            run: &run,
            stores: &stores,
            clock: &*clock,
            stopping,
        };
        let mut at_work = AtWork::new(&desk);
        tokio::pin!(end);
        let ended = loop {
            tokio::select! {
                // Told to end comes first; then what makes room.
                biased;
                () = &mut end => break Ok(()),
                settled = at_work.next(), if !at_work.is_empty() => match settled {
                    Ok(None) => {}
                    Ok(Some(letter)) => notice(Notice::Parked(letter)),
                    Err(error) => break Err(error),
                },
                item = events.next() => match item {
                    Ok(Some(Item::Event(delivery))) => at_work.add(delivery),
                    Ok(Some(other)) => notice(Notice::Item(other)),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            }
        };
        // Whoever waits for a next try does not.
        drop(stop);
        let finishing = async {
            while !at_work.is_empty() {
                at_work.next().await?.map(Notice::Parked).map(&mut notice);
            }
            Ok(())
        };
        let finished = timeout(run.grace, finishing).await.unwrap_or(Ok(()));
        drop(at_work);
        let closed = events.close().await;
        ended.and(finished).and(closed)
    }

    /// Runs `handler` once more for dead letters, as often as `run` says, and throws away those that are
    /// handled. Each is told to `told` with what came of it.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] if a letter or its schema cannot be had; those before it are done.
    pub async fn redrive(
        &self,
        run: &Run,
        handler: &impl Handler,
        letters: &dyn DeadLetterStore,
        ids: &[LetterId],
        mut told: impl FnMut(Redriven) + Send,
    ) -> Result<(), SubscribeError> {
        let schemas = Schemas::new(self.connection.clone());
        let (_stop, stopping) = watch::channel(());
        let stores = Stores::default();
        let desk = Desk {
            handler,
            run,
            stores: &stores,
            clock: &*self.clock,
            stopping,
        };
        for id in ids {
            let Some(letter) = letters.read(id).await? else {
                continue;
            };
            let odd = |reason| StoreError::unusable(format!("the dead letter {id}: {reason}"));
            let event = Unread::decode(letter.event.clone()).map_err(odd)?;
            let context = Context {
                subscribed: letter.topic.clone(),
                schema: schemas.get(event.schema_id().map_err(odd)?).await?,
            };
            let event = Arc::new(event.with(Arc::new(context)));
            let result = match desk.attempts(&event, None).await {
                Verdict::Done => {
                    letters.remove(id).await?;
                    Ok(())
                }
                Verdict::Unhandled => Err("the program is to end".to_owned()),
                Verdict::Park { cause, attempts } => {
                    let letter = DeadLetter {
                        cause: cause.clone(),
                        attempts: letter.attempts.saturating_add(attempts),
                        parked_at: self.clock.now(),
                        ..letter
                    };
                    letters.park(letter).await?;
                    Err(cause)
                }
            };
            told(Redriven {
                id: id.clone(),
                result,
            });
        }
        Ok(())
    }
}

/// What came of a dead letter that was handled again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redriven {
    /// The letter.
    pub id: LetterId,
    /// Why it is still one.
    pub result: Result<(), String>,
}

/// What is told of a run besides events.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// It began; its state can be looked at from here.
    Started(Monitor),
    /// Something other than an event came.
    Item(Item),
    /// An event became a dead letter.
    Parked(DeadLetter),
}

/// Handles one event at a time, from its first try to its verdict.
struct Desk<'a, H> {
    handler: &'a H,
    run: &'a Run,
    stores: &'a Stores,
    clock: &'a dyn Clock,
    /// Closed when the run is to end.
    stopping: watch::Receiver<()>,
}

/// What came of all tries at an event.
enum Verdict {
    Done,
    Park {
        cause: String,
        attempts: u32,
    },
    /// The run is to end; it comes again.
    Unhandled,
}

/// What became of an event.
enum Settled {
    Done,
    Parked(DeadLetter),
    Unhandled,
}

impl<H: Handler> Desk<'_, H> {
    /// Handles an event, or parks it.
    async fn settle(
        &self,
        event: &Arc<Event>,
        receipt: &Receipt,
    ) -> Result<Settled, SubscribeError> {
        if !self.unless_stopping(receipt.until_saved()).await {
            return Ok(Settled::Unhandled);
        }
        let (cause, attempts) = match self.attempts(event, Some(receipt)).await {
            Verdict::Done => return Ok(Settled::Done),
            Verdict::Unhandled => return Ok(Settled::Unhandled),
            Verdict::Park { cause, attempts } => (cause, attempts),
        };
        let letter = DeadLetter {
            topic: event.subscribed_topic().clone(),
            replay_id: event.replay_id(),
            event_id: event.id().to_owned(),
            schema_id: event.schema_id().to_owned(),
            cause,
            attempts,
            parked_at: self.clock.now(),
            event: event.encoded().clone(),
        };
        let mut backoff = self.run.retry.backoff();
        loop {
            match self.stores.park(letter.clone()).await {
                Ok(()) => break,
                Err(error) if error.is_retryable() => {
                    tracing::warn!(topic = %letter.topic, "{error}; trying again");
                    if !self.wait(&mut backoff).await {
                        return Ok(Settled::Unhandled);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (topic, replay_id) = (&letter.topic, letter.replay_id);
        let cause = &letter.cause;
        tracing::warn!(%topic, %replay_id, attempts, "an event became a dead letter: {cause}");
        receipt.count(|counters| counters.parked += 1);
        Ok(Settled::Parked(letter))
    }

    async fn attempts(&self, event: &Arc<Event>, receipt: Option<&Receipt>) -> Verdict {
        if let Err(error) = event.validate() {
            if let Some(receipt) = receipt {
                receipt.count(|counters| counters.undecodable += 1);
            }
            return Verdict::Park {
                cause: format!("it cannot be decoded: {error}"),
                attempts: 0,
            };
        }
        let mut backoff = self.run.retry.backoff();
        let mut number = 0;
        loop {
            number += 1;
            let cause = match self.attempt(event, Attempt { number }).await {
                Outcome::Done => return Verdict::Done,
                Outcome::Park(cause) => {
                    return Verdict::Park {
                        cause,
                        attempts: number,
                    };
                }
                Outcome::Retry(cause) => cause,
            };
            if (self.run.retry.attempts_max).is_some_and(|attempts_max| number >= attempts_max) {
                return Verdict::Park {
                    cause,
                    attempts: number,
                };
            }
            let (topic, replay_id) = (event.subscribed_topic(), event.replay_id());
            tracing::info!(%topic, %replay_id, number, "an event is tried again: {cause}");
            if let Some(receipt) = receipt {
                receipt.count(|counters| counters.retries += 1);
            }
            if !self.wait(&mut backoff).await {
                return Verdict::Unhandled;
            }
        }
    }

    async fn attempt(&self, event: &Arc<Event>, attempt: Attempt) -> Outcome {
        // Whatever the handler left half done is its own business; here nothing is shared with it.
        let handling = AssertUnwindSafe(self.handler.handle(event, attempt)).catch_unwind();
        let handled = match self.run.retry.timeout {
            None => handling.await,
            Some(limit) => match timeout(limit, handling).await {
                Ok(handled) => handled,
                Err(_) => {
                    let seconds = limit.as_secs_f32();
                    return Outcome::Retry(format!("it took longer than {seconds} s"));
                }
            },
        };
        handled.unwrap_or_else(|panic| {
            Outcome::Retry(format!("the handler panicked: {}", text_of(&*panic)))
        })
    }

    /// Waits for the next try; `false` if the run is to end meanwhile.
    async fn wait(&self, backoff: &mut Backoff) -> bool {
        self.unless_stopping(sleep(backoff.endless_wait())).await
    }

    /// Waits for something; `false` if the run is to end meanwhile.
    async fn unless_stopping(&self, waiting: impl Future<Output = ()>) -> bool {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            biased;
            // It is only ever closed.
            _ = stopping.changed() => false,
            () = waiting => true,
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| Some(panic.downcast_ref::<String>()?.as_str()))
        .unwrap_or("without a word")
}

/// Events that are being handled, and those that wait for one of them.
struct AtWork<'a, H> {
    desk: &'a Desk<'a, H>,
    running: FuturesUnordered<BoxFuture<'a, AtEnd>>,
    /// By key, for every key that an event is being handled of.
    waiting: HashMap<Key, VecDeque<Delivery>>,
}

/// Order holds within a topic.
type Key = (TopicName, String);

/// The end of one event: its key, and the letter that it became.
type AtEnd = (Option<Key>, Result<Option<DeadLetter>, SubscribeError>);

impl<'a, H: Handler> AtWork<'a, H> {
    fn new(desk: &'a Desk<'a, H>) -> Self {
        Self {
            desk,
            running: FuturesUnordered::new(),
            waiting: HashMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins with an event, or lets it wait for the one before it.
    fn add(&mut self, delivery: Delivery) {
        let key = self.desk.run.order.key(&delivery);
        let Some(key) = key else {
            return self.begin(None, delivery);
        };
        let key = (delivery.subscribed_topic().clone(), key);
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.push_back(delivery);
            return;
        }
        self.waiting.insert(key.clone(), VecDeque::new());
        self.begin(Some(key), delivery);
    }

    fn begin(&mut self, key: Option<Key>, delivery: Delivery) {
        let desk = self.desk;
        let handling = async move {
            let Delivery { event, receipt } = delivery;
            let event = Arc::new(event);
            let settled = desk.settle(&event, &receipt).await;
            let result = settled.map(|settled| match settled {
                Settled::Done => {
                    receipt.done(&event);
                    None
                }
                Settled::Parked(letter) => {
                    receipt.done(&event);
                    Some(letter)
                }
                // The receipt, dropped, tells that it was not handled.
                Settled::Unhandled => None,
            });
            (key, result)
        };
        self.running.push(handling.boxed());
    }

    /// The end of one event, after which those that waited for it go on; and the letter that it became.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn next(&mut self) -> Result<Option<DeadLetter>, SubscribeError> {
        let Some((key, result)) = self.running.next().await else {
            return Ok(None);
        };
        let letter = result?;
        let Some(key) = key else {
            return Ok(letter);
        };
        let next = self.waiting.get_mut(&key).and_then(VecDeque::pop_front);
        match next {
            // Nothing begins any more once the run is to end.
            Some(delivery) if self.desk.stopping.has_changed().is_ok() => {
                self.begin(Some(key), delivery);
            }
            _ => _ = self.waiting.remove(&key),
        }
        Ok(letter)
    }
}
