//! Subscriptions: a cursor through the log and the credit to move it.
//!
//! [`Subscription::next`] is the whole of delivery: it waits until there is something to send, be it
//! events, an empty keepalive or the end, and changes nothing until it has it. It owns no task, no
//! buffer and at most one timer, so an idle subscription costs little.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Broker, Credit, GrantError, SubscribeError, SubscriptionEnd, Tenant, metrics::LagGuard,
    topics::users,
};
use crate::{
    clock::Timestamp,
    event_log::{BlockSlice, PositionError, Watcher},
    schema::{
        Schema,
        registry::{
            EventType,
            uses::{Use, UseNotes, User, UserKind},
        },
    },
    types::{
        EventView, Position, Principal, SchemaId, Start, TopicId, TopicName,
        limits::{DELIVERY_BYTES, EVENT_BYTES_MAX, RESPONSE_BYTES_MAX},
    },
};

/// Bytes of a response besides its events: the replay id, the rpc id and the credit.
const RESPONSE_OVERHEAD_BYTES: usize = 256;
/// How often every event of a delivery is looked at for what it is written with.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const _: () = {
    let largest = if DELIVERY_BYTES > EVENT_BYTES_MAX {
        DELIVERY_BYTES
    } else {
        EVENT_BYTES_MAX + 64
    };
    assert!(largest + RESPONSE_OVERHEAD_BYTES <= RESPONSE_BYTES_MAX);
};

/// One subscriber's flow on one topic.
#[derive(Debug)]
pub struct Subscription {
    tenant: Arc<Tenant>,
    topics: [TopicId; 1],
    /// The last position examined: no event of the topic at or before it is still to be sent.
    cursor: Position,
    credit: Credit,
    watcher: Watcher,
    lag: LagGuard,
    notes: UseNotes,
    /// When every event of a delivery was looked at for what it is written with.
    looked_at: Option<Instant>,
    keepalive: Duration,
    zero_credit_grace: Option<Duration>,
    /// When something was last sent, or credit was last granted to a stream that had none.
    active_at: Instant,
}

/// What is to be sent to the subscriber next.
#[derive(Debug)]
pub struct Delivery {
    /// Encoded events in order, as fields of a response; empty for a keepalive.
    pub events: Vec<Bytes>,
    /// The last position examined.
    pub latest: Position,
    /// Credit that is left.
    pub pending: u32,
    /// The last event, if there are events.
    pub(super) last: Option<Delivered>,
}

/// The last event of a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    /// Its place in the topic's own count.
    pub(super) ordinal: u64,
    pub(super) appended_at: Timestamp,
}

/// Subscribing to one topic on behalf of one caller, who has the right to.
#[derive(Debug)]
pub struct Subscriber {
    broker: Broker,
    tenant: Arc<Tenant>,
    event_type: Arc<EventType>,
    /// Who subscribes.
    users: Vec<User>,
    credit_max: u32,
    keepalive: Duration,
}

impl Broker {
    /// The credit that a subscription is granted at most which asks for `asked` events of it.
    pub fn extended_credit(&self, asked: u32) -> u32 {
        let config = &self.0.config;
        asked.min(config.credit_max_extended.max(config.credit_max))
    }

    /// A subscriber of the topic called `name`.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Topic`] and [`SubscribeError::CannotSubscribe`].
    pub async fn subscriber(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Subscriber, SubscribeError> {
        let found = self.find_topic(principal, name).await;
        let (tenant, event_type) = found.map_err(SubscribeError::Topic)?;
        let topic: &TopicName = event_type.topic();
        if !principal.grants.may_subscribe(topic) {
            return Err(SubscribeError::CannotSubscribe(topic.clone()));
        }
        Ok(Subscriber {
            broker: self.clone(),
            tenant,
            event_type,
            users: users(principal, None),
            credit_max: self.0.config.credit_max,
            keepalive: self.0.config.keepalive,
        })
    }
}

impl Subscriber {
    /// Has the credit limited to what [`Broker::extended_credit`] gives for `asked`, instead of what
    /// everyone has.
    pub fn with_extended_credit(mut self, asked: u32) -> Self {
        self.credit_max = self.broker.extended_credit(asked);
        self
    }

    /// Has what is delivered noted as being of a client that calls itself so too.
    pub(super) fn with_client_name(mut self, name: Option<&str>) -> Self {
        self.users.extend(name.map(|name| User {
            kind: UserKind::Client,
            name: name.into(),
        }));
        self
    }

    /// Has what is delivered noted as being a managed subscription's too.
    pub(super) fn with_managed(mut self, developer_name: &str) -> Self {
        self.users.push(User {
            kind: UserKind::Managed,
            name: developer_name.into(),
        });
        self
    }

    /// Has a keepalive sent after `keepalive` of silence, if that is less than is configured.
    pub fn with_keepalive(mut self, keepalive: Duration) -> Self {
        self.keepalive = self.keepalive.min(keepalive);
        self
    }

    /// The topic's number in the log.
    pub(super) fn topic_id(&self) -> TopicId {
        self.event_type.topic_id()
    }

    /// The oldest position that a subscription to the topic may start after now.
    ///
    /// # Errors
    ///
    /// As [`TenantLog::resolve`](crate::event_log::TenantLog::resolve).
    pub fn earliest(&self) -> Result<Position, PositionError> {
        let topics = [self.event_type.topic_id()];
        self.tenant.log.resolve(&topics, Start::Earliest)
    }

    /// Begins a subscription with `requested` events of credit; `client_name` labels its lag.
    ///
    /// If `start` is the latest, every event is delivered that was not readable yet when this call
    /// began; one that was readable may be confirmed to its publisher a moment later.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Position`], then [`SubscribeError::Grant`].
    pub fn subscribe(
        self,
        start: Start,
        requested: i32,
        client_name: Option<&str>,
    ) -> Result<Subscription, SubscribeError> {
        let topic = self.topic_id();
        let cursor = self.tenant.log.resolve(&[topic], start)?;
        let state = self.tenant.log.topic(topic);
        let passed = match start {
            Start::Earliest => state.trim_ordinal,
            // After a position it is not known until the first read, which follows at once.
            Start::Latest | Start::After(_) => state.ordinal,
        };
        let named = self.with_client_name(client_name);
        Ok(named.begin(cursor, passed, requested, client_name)?)
    }

    /// Begins a subscription behind a position that was resolved. If it is no longer valid, the first
    /// delivery says so.
    ///
    /// # Errors
    ///
    /// [`GrantError`].
    pub(super) fn subscribe_after(
        self,
        cursor: Position,
        requested: i32,
    ) -> Result<Subscription, GrantError> {
        // Until the first read, which follows at once, it is not known how many are passed.
        let passed = self.tenant.log.topic(self.topic_id()).ordinal;
        self.begin(cursor, passed, requested, None)
    }

    fn begin(
        self,
        cursor: Position,
        passed: u64,
        requested: i32,
        client_name: Option<&str>,
    ) -> Result<Subscription, GrantError> {
        let Self {
            broker,
            tenant,
            event_type,
            users,
            credit_max,
            keepalive,
        } = self;
        let notes = UseNotes::new(Arc::clone(tenant.schemas.uses()), users, Use::Delivered);
        let config = &broker.0.config;
        let topics = [event_type.topic_id()];
        let mut credit = Credit::with_ceiling(credit_max);
        credit.grant(requested)?;
        // What was appended between the cursor and the watcher is found by the first read, which
        // comes before the first wait.
        let watcher = tenant.log.watch(&topics);
        let (topic, log) = (event_type.topic(), Arc::clone(&tenant.log));
        let lag = broker
            .metrics()
            .subscribed(topic, client_name, log, topics[0], passed);
        Ok(Subscription {
            tenant,
            topics,
            cursor,
            credit,
            watcher,
            lag,
            notes,
            looked_at: None,
            keepalive,
            zero_credit_grace: config.zero_credit_grace,
            active_at: Instant::now(),
        })
    }
}

impl Subscription {
    /// Adds `requested` events to the credit.
    ///
    /// # Errors
    ///
    /// [`GrantError`]; the credit is untouched.
    pub fn grant(&mut self, requested: i32) -> Result<(), GrantError> {
        let had_none = self.credit.pending() == 0;
        self.credit.grant(requested)?;
        if had_none {
            self.active_at = Instant::now();
        }
        Ok(())
    }

    /// Credit that is left, in events.
    pub fn pending(&self) -> u32 {
        self.credit.pending()
    }

    pub(super) fn topics(&self) -> &[TopicId; 1] {
        &self.topics
    }

    /// Goes on behind another position. If that is not valid, the next delivery says so.
    pub(super) fn restart_after(&mut self, position: Position) {
        self.cursor = position;
    }

    /// The last position examined: another subscription that starts after it goes on from here.
    pub fn position(&self) -> Position {
        self.cursor
    }

    /// The schema with this id, and the topic whose events are written with it, for those who read
    /// payloads on the subscriber's behalf.
    pub fn schema(&self, id: &SchemaId) -> Option<(Schema, TopicName)> {
        self.tenant.schemas.schema(id)
    }

    /// Waits for the next thing to send.
    ///
    /// # Errors
    ///
    /// [`SubscriptionEnd`]: nothing more will be sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a delivery that was not returned was not taken off the credit.
    pub async fn next(&mut self) -> Result<Delivery, SubscriptionEnd> {
        loop {
            if self.credit.pending() == 0 {
                return Err(self.wait_without_credit().await);
            }
            let taken = self.take().await?;
            // A keepalive says how far the log is now, so it comes after a look at the log.
            let keepalive_at = self.active_at + self.keepalive;
            if !taken.is_empty() || Instant::now() >= keepalive_at {
                return Ok(self.deliver(taken));
            }
            tokio::select! {
                () = self.watcher.changed() => {}
                () = tokio::time::sleep_until(keepalive_at) => {}
            }
        }
    }

    /// Waits until the subscriber has been without credit for too long.
    async fn wait_without_credit(&self) -> SubscriptionEnd {
        match self.zero_credit_grace {
            Some(grace) => {
                tokio::time::sleep_until(self.active_at + grace).await;
                SubscriptionEnd::NoCredit(grace)
            }
            None => std::future::pending().await,
        }
    }

    /// Reads as many events as credit and one delivery allow. The cursor moves past what holds no
    /// event of the topic, and not past what is returned.
    async fn take(&mut self) -> Result<Vec<BlockSlice>, SubscriptionEnd> {
        let mut slices: Vec<BlockSlice> = Vec::new();
        let mut events_left = self.credit.pending() as usize;
        let mut bytes_left = DELIVERY_BYTES;
        let mut after = self.cursor;
        loop {
            let batch = match self.tenant.log.read(&self.topics, after, bytes_left).await {
                Ok(batch) => batch,
                Err(error) if slices.is_empty() => return Err(error.into()),
                // What lies before a hole is delivered; the next read meets the hole again.
                Err(_) => return Ok(slices),
            };
            if batch.blocks.is_empty() {
                if slices.is_empty() {
                    self.cursor = batch.examined;
                }
                return Ok(slices);
            }
            for block in &batch.blocks {
                let Some(slice) = block.slice_after(after, events_left, bytes_left) else {
                    return Ok(slices);
                };
                // A slice is at least one event, which may be larger than what is left.
                if slice.bytes.len() > bytes_left && !slices.is_empty() {
                    return Ok(slices);
                }
                let whole = slice.last == block.last();
                events_left -= slice.count as usize;
                bytes_left = bytes_left.saturating_sub(slice.bytes.len());
                after = slice.last;
                slices.push(slice);
                if !whole || events_left == 0 || bytes_left == 0 {
                    return Ok(slices);
                }
            }
        }
    }

    /// Notes which schemas the events are written with. To look at each event would cost more than all
    /// the rest of a delivery, so that is done a few times a second; in between, the first event stands
    /// for those behind it.
    fn note(&mut self, slices: &[BlockSlice]) {
        let Some(first) = slices.first() else {
            return;
        };
        let now = Instant::now();
        let is_due = |at: Instant| now.saturating_duration_since(at) >= LOOK_INTERVAL;
        let (slices, events_max) = match self.looked_at.is_none_or(is_due) {
            true => (slices, usize::MAX),
            false => (std::slice::from_ref(first), 1),
        };
        if events_max > 1 {
            self.looked_at = Some(now);
        }
        for slice in slices {
            for event in slice.events().take(events_max) {
                if let Ok(event) = EventView::parse(event) {
                    self.notes.note_text(event.schema_id(), now);
                }
            }
        }
    }

    /// Takes `slices` off the credit and moves the cursor behind them.
    fn deliver(&mut self, slices: Vec<BlockSlice>) -> Delivery {
        let count = slices.iter().map(|slice| slice.count).sum();
        self.credit.spend(count);
        self.note(&slices);
        match slices.last() {
            Some(last) => {
                self.cursor = last.last;
                self.lag
                    .delivered(count, last.last_ordinal, last.appended_at);
            }
            None => self
                .lag
                .caught_up(self.tenant.log.topic(self.topics[0]).ordinal),
        }
        self.active_at = Instant::now();
        let last = slices.last().map(|last| Delivered {
            ordinal: last.last_ordinal,
            appended_at: last.appended_at,
        });
        Delivery {
            last,
            events: slices.into_iter().map(|slice| slice.bytes).collect(),
            latest: self.cursor,
            pending: self.credit.pending(),
        }
    }
}
