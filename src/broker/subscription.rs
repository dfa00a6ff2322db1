//! Subscriptions: a cursor through the log and the credit to move it.
//!
//! [`Subscription::next`] is the whole of delivery: it waits until there is something to send, be it
//! events, an empty keepalive or the end, and changes nothing until it has it. It owns no task, no
//! buffer and at most one timer, so an idle subscription costs little.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Broker, Credit, GrantError, SubscribeError, SubscriptionEnd, Tenant,
    filters::Verdict,
    metrics::LagGuard,
    selection::Selection,
    sharing::{SlotSet, part::Part, sent::Run},
    source::{Gone, Source, Sourced},
    topics::users,
};
use crate::{
    clock::Timestamp,
    event_log::{Block, BlockSlice, PositionError, TenantLog, Watcher},
    filter::{Filter, FilterError, check},
    schema::{
        Schema,
        registry::uses::{Use, UseNotes, User, UserKind},
    },
    types::{
        EventView, Grants, Position, Principal, SchemaId, Start, TopicId, TopicName,
        limits::{DELIVERY_BYTES, EVENT_BYTES_MAX, RESPONSE_BYTES_MAX},
    },
};

/// Bytes of a response besides its events: the replay id, the rpc id and the credit.
const RESPONSE_OVERHEAD_BYTES: usize = 256;
/// Bytes of blocks that are looked through for more events once there are some to deliver: a few
/// milliseconds of work.
const LOOK_THROUGH_BYTES: usize = 4 * DELIVERY_BYTES;
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

/// One subscriber's flow.
#[derive(Debug)]
pub struct Subscription {
    broker: Broker,
    tenant: Arc<Tenant>,
    source: Source,
    /// What of a channel is delivered.
    grants: Arc<Grants>,
    /// What events have to match besides what a channel says.
    filters: Vec<Filter>,
    selection: Selection,
    /// What of it is delivered, where others get the rest.
    part: Option<Box<Part>>,
    /// Whether the selection is another by now.
    is_stale: bool,
    /// The last position examined: no event at or before it is still to be sent.
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
    /// How far it goes, if there are events.
    pub(super) last: Option<Delivered>,
    /// Which events they are, where others get the rest.
    pub(super) parted: Option<Box<Parted>>,
}

/// Which events of a shared subscription are delivered.
#[derive(Clone, Debug)]
pub(super) struct Parted {
    pub(super) runs: Vec<Run>,
    /// The slots that they are of.
    pub(super) slots: SlotSet,
}

/// How far a delivery with events brings its subscriber.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    /// Events of its topics at or before the position of the delivery.
    pub(super) passed: u64,
    /// When the last event of the delivery was appended.
    pub(super) appended_at: Timestamp,
}

/// What is taken from the log for a delivery.
#[derive(Debug)]
struct Taken {
    slices: Vec<BlockSlice>,
    /// The last position examined.
    examined: Position,
    events_left: usize,
    bytes_left: usize,
    /// The slots that the events are of, where others get the rest.
    slots: SlotSet,
}

/// Whether there is room for more in a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Left,
    None,
}

/// Subscribing to one topic or channel on behalf of one caller, who has the right to.
#[derive(Debug)]
pub struct Subscriber {
    broker: Broker,
    tenant: Arc<Tenant>,
    source: Source,
    grants: Arc<Grants>,
    /// What events have to match.
    filters: Vec<Filter>,
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

    /// A subscriber of the topic or channel called `name`. Of a channel the caller gets the events of
    /// those topics that they may subscribe to.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Topic`] and [`SubscribeError::CannotSubscribe`].
    pub async fn subscriber(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Subscriber, SubscribeError> {
        let tenant = self.tenant(principal.tenant).await;
        let tenant = tenant.map_err(SubscribeError::Topic)?;
        let source = Source::find(&tenant, &principal.grants, name)?;
        Ok(Subscriber {
            broker: self.clone(),
            tenant,
            source,
            grants: Arc::clone(&principal.grants),
            filters: Vec::new(),
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

    /// Has only those events delivered that match `filter`, too.
    ///
    /// # Errors
    ///
    /// [`FilterError`] if it does not fit the topic, or any topic of the channel. Of the topics that it
    /// does not fit, what it names is null.
    pub fn with_filter(mut self, filter: Filter) -> Result<Self, FilterError> {
        check_any(&filter, &self.sourced())?;
        self.filters.push(filter);
        Ok(self)
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

    /// The same with a filter that was checked when it was stored: the topics may have changed since.
    pub(super) fn with_stored_filter(mut self, filter: Option<Filter>) -> Self {
        self.filters.extend(filter);
        self
    }

    /// What there is to get now; nothing of a channel that is deleted, of which the subscription will
    /// tell.
    fn sourced(&self) -> Vec<Sourced> {
        let topics = self.source.clone().topics(&self.tenant, &self.grants);
        topics.unwrap_or_default()
    }

    /// The numbers of its topics in the log.
    pub(super) fn topics(&self) -> Vec<TopicId> {
        let sourced = self.sourced().into_iter();
        sourced
            .map(|sourced| sourced.event_type.topic_id())
            .collect()
    }

    /// The log that the topic's events are in.
    pub(super) fn log(&self) -> &dyn TenantLog {
        &*self.tenant.log
    }

    /// The time by the broker's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.broker.0.clock.now()
    }

    /// The oldest position that a subscription to the topic may start after now.
    ///
    /// # Errors
    ///
    /// As [`TenantLog::resolve`].
    pub fn earliest(&self) -> Result<Position, PositionError> {
        self.tenant.log.resolve(&self.topics(), Start::Earliest)
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
        let cursor = self.tenant.log.resolve(&self.topics(), start)?;
        let named = self.with_client_name(client_name);
        let mut subscription = named.begin(cursor, requested, client_name)?;
        if start == Start::Earliest {
            subscription.begin_with_all();
        }
        Ok(subscription)
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
        self.begin(cursor, requested, None)
    }

    fn begin(
        self,
        cursor: Position,
        requested: i32,
        client_name: Option<&str>,
    ) -> Result<Subscription, GrantError> {
        let Self {
            broker,
            tenant,
            mut source,
            grants,
            filters,
            users,
            credit_max,
            keepalive,
        } = self;
        let notes = UseNotes::new(Arc::clone(tenant.schemas.uses()), users, Use::Delivered);
        let config = &broker.0.config;
        let mut credit = Credit::with_ceiling(credit_max);
        credit.grant(requested)?;
        let topics = source.topics(&tenant, &grants);
        // The first wait tells of a channel that is deleted.
        let is_stale = topics.is_err();
        let topics = topics.unwrap_or_default();
        let selection = Selection::new(&broker, &tenant, topics, &filters);
        // What was appended between the cursor and the watcher is found by the first read, which
        // comes before the first wait.
        let watcher = tenant.log.watch(selection.topics());
        let log = Arc::clone(&tenant.log);
        let lag = broker
            .metrics()
            .subscribed(source.name(), client_name, log, &selection);
        let zero_credit_grace = config.zero_credit_grace;
        Ok(Subscription {
            broker,
            tenant,
            source,
            grants,
            filters,
            selection,
            part: None,
            is_stale,
            cursor,
            credit,
            watcher,
            lag,
            notes,
            looked_at: None,
            keepalive,
            zero_credit_grace,
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

    pub(super) fn topics(&self) -> &[TopicId] {
        self.selection.topics()
    }

    /// Goes on with the rights that the caller has now. Of a single topic the right was asked for when
    /// it was subscribed to.
    pub fn set_principal(&mut self, principal: &Principal) {
        self.grants = Arc::clone(&principal.grants);
        self.is_stale = true;
    }

    /// Has other filters than so far, besides what a channel says.
    pub(super) fn set_filters(&mut self, filters: Vec<Filter>) {
        self.filters = filters;
        self.is_stale = true;
    }

    /// Selects anew, if the source or what is wanted of it is another by now. Goes on where it is.
    fn select(&mut self) -> Result<(), SubscriptionEnd> {
        if !self.is_stale && !self.source.has_changed() {
            return Ok(());
        }
        let topics = self.source.topics(&self.tenant, &self.grants);
        let topics = topics.map_err(|Gone| SubscriptionEnd::ChannelDeleted)?;
        let mut selection = Selection::new(&self.broker, &self.tenant, topics, &self.filters);
        selection.go_on_from(&self.selection);
        self.watcher = self.tenant.log.watch(selection.topics());
        self.lag = self.lag.of_selection(&selection);
        self.selection = selection;
        self.is_stale = false;
        Ok(())
    }

    /// Notes that it begins with the first event that there is of each topic.
    fn begin_with_all(&mut self) {
        let log = &self.tenant.log;
        self.selection
            .set_passed(|topic| log.topic(topic).trim_ordinal);
        self.lag.passed(self.selection.passed());
    }

    /// Goes on behind another position. If that is not valid, the next delivery says so.
    pub(super) fn restart_after(&mut self, position: Position) {
        self.cursor = position;
    }

    /// Has only that part delivered from now on which [`Self::gain`] brings.
    pub(super) fn set_part(&mut self, part: Part) {
        self.part = Some(Box::new(part));
    }

    /// What of it is delivered, where others get the rest.
    pub(super) fn part(&mut self) -> Option<(&mut Part, Position)> {
        Some((self.part.as_mut()?, self.cursor))
    }

    /// Has the events of a slot delivered too that are behind `after`.
    pub(super) fn gain(&mut self, slot: u8, after: Position) {
        if let Some(part) = &mut self.part {
            self.cursor = part.gain(slot, after, self.cursor);
        }
    }

    /// Has the events of a slot not delivered any more.
    pub(super) fn lose(&mut self, slot: u8) {
        if let Some(part) = &mut self.part {
            self.cursor = part.lose(slot, self.cursor);
        }
    }

    /// Has the slots that cannot go on at the cursor go on behind `position`.
    pub(super) fn skip(&mut self, position: Position) {
        if let Some(part) = &mut self.part {
            self.cursor = part.skip(self.cursor, position);
        }
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
            self.select()?;
            if self.credit.pending() == 0 {
                self.wait_without_credit().await?;
                continue;
            }
            let keepalive_at = self.active_at + self.keepalive;
            let taken = match self.take(keepalive_at).await {
                // A topic of the channel went with its events.
                Err(SubscriptionEnd::Position(PositionError::TopicDeleted))
                    if self.source.has_changed() =>
                {
                    continue;
                }
                taken => taken?,
            };
            // A keepalive says how far the log is now, so it comes after a look at the log.
            if !taken.slices.is_empty() || Instant::now() >= keepalive_at {
                return Ok(self.deliver(taken));
            }
            tokio::select! {
                () = self.watcher.changed() => {}
                () = self.source.changed() => self.is_stale = true,
                () = tokio::time::sleep_until(keepalive_at) => {}
            }
        }
    }

    /// Waits until the subscriber has been without credit for too long, or its source has changed.
    async fn wait_without_credit(&mut self) -> Result<(), SubscriptionEnd> {
        let (active_at, grace) = (self.active_at, self.zero_credit_grace);
        let too_long = async move {
            match grace {
                Some(grace) => {
                    tokio::time::sleep_until(active_at + grace).await;
                    grace
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            grace = too_long => Err(SubscriptionEnd::NoCredit(grace)),
            () = self.source.changed() => {
                self.is_stale = true;
                Ok(())
            }
        }
    }

    /// Reads as many events as credit and one delivery allow. The cursor moves past what holds no
    /// event that is wanted, and not past what is returned. With nothing to return it looks until
    /// there is nothing left to look at, or a keepalive is due.
    async fn take(&mut self, keepalive_at: Instant) -> Result<Taken, SubscriptionEnd> {
        let mut taken = Taken {
            slices: Vec::new(),
            examined: self.cursor,
            events_left: self.credit.pending() as usize,
            bytes_left: DELIVERY_BYTES,
            slots: SlotSet::NONE,
        };
        if let Some(part) = &self.part {
            taken.events_left = taken.events_left.min(part.room());
            if taken.events_left == 0 {
                return Ok(taken);
            }
        }
        let mut looked_through = 0;
        loop {
            let topics = self.selection.topics();
            let log = &self.tenant.log;
            let batch = match log.read(topics, taken.examined, taken.bytes_left).await {
                Ok(batch) => batch,
                Err(error) if taken.slices.is_empty() => return Err(error.into()),
                // What lies before a hole is delivered; the next read meets the hole again.
                Err(_) => return Ok(taken),
            };
            // A topic that came to the source meanwhile may have events before those that were read:
            // they are read again, with it.
            if self.source.has_changed() {
                return Ok(taken);
            }
            if batch.blocks.is_empty() {
                if taken.slices.is_empty() {
                    taken.examined = batch.examined;
                    self.cursor = batch.examined;
                    self.selection.pass_all(&self.tenant);
                }
                return Ok(taken);
            }
            for block in &batch.blocks {
                let mut verdict = self.selection.verdict(block);
                if let Some(part) = &self.part {
                    verdict = verdict.and(part.verdict(block));
                }
                let count = taken.slices.len();
                let room = taken.take_from(block, verdict);
                if let Some(part) = &self.part {
                    for slice in &taken.slices[count..] {
                        let slots = part.slots_of(block, slice.last, slice.count);
                        taken.slots = taken.slots.or(slots);
                    }
                }
                let next = block.index_after(taken.examined);
                self.selection
                    .pass(block, next.unwrap_or(block.event_count()));
                looked_through += block.bytes().len();
                if room == Room::None {
                    return Ok(taken);
                }
            }
            if !self.selection.is_filtered() && self.part.is_none() {
                continue;
            }
            // Of much that is looked through little may be wanted: what there is goes out, and what
            // has been looked through is not looked through again.
            if taken.slices.is_empty() {
                self.cursor = taken.examined;
                self.lag.passed(self.selection.passed());
                if Instant::now() >= keepalive_at {
                    return Ok(taken);
                }
            } else if looked_through >= LOOK_THROUGH_BYTES {
                return Ok(taken);
            }
            tokio::task::yield_now().await;
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

    /// Takes `taken` off the credit and moves the cursor behind it.
    fn deliver(&mut self, taken: Taken) -> Delivery {
        let Taken {
            slices,
            examined,
            slots,
            ..
        } = taken;
        let count = slices.iter().map(|slice| slice.count).sum();
        self.credit.spend(count);
        self.note(&slices);
        self.cursor = examined;
        let passed = self.selection.passed();
        let last = slices.last().map(|last| Delivered {
            passed,
            appended_at: last.appended_at,
        });
        match last {
            Some(last) => self.lag.delivered(count, last),
            None => self.lag.passed(passed),
        }
        self.active_at = Instant::now();
        let parted = self.part.as_ref().map(|_| {
            let run = |slice: &BlockSlice| Run {
                last: slice.last,
                count: slice.count,
            };
            Box::new(Parted {
                runs: slices.iter().map(run).collect(),
                slots,
            })
        });
        Delivery {
            last,
            parted,
            events: slices.into_iter().map(|slice| slice.bytes).collect(),
            latest: self.cursor,
            pending: self.credit.pending(),
        }
    }
}

/// Holds a filter to be one for one of the topics at least, if there are any.
pub(super) fn check_any(filter: &Filter, topics: &[Sourced]) -> Result<(), FilterError> {
    let mut refusal = None;
    for sourced in topics {
        match check(filter, sourced.event_type.current()) {
            Ok(()) => return Ok(()),
            Err(error) => _ = refusal.get_or_insert(error),
        }
    }
    refusal.map_or(Ok(()), Err)
}

impl Taken {
    /// Takes the events of `block` behind what is examined that `verdict` lets through, as far as there
    /// is room.
    fn take_from(&mut self, block: &Block, verdict: Verdict) -> Room {
        let count = block.event_count();
        let mut from = block.index_after(self.examined).unwrap_or(count);
        loop {
            let start = verdict.next(from, true);
            if start >= count {
                self.examined = block.last();
                return Room::Left;
            }
            let end = verdict.next(start, false).min(count);
            let events_max = self.events_left.min(end - start);
            let Some(slice) = block.slice(start, events_max, self.bytes_left) else {
                return Room::None;
            };
            // A slice is at least one event, which may be larger than what is left.
            if slice.bytes.len() > self.bytes_left && !self.slices.is_empty() {
                return Room::None;
            }
            from = start + slice.count as usize;
            self.events_left -= slice.count as usize;
            self.bytes_left = self.bytes_left.saturating_sub(slice.bytes.len());
            self.examined = slice.last;
            self.slices.push(slice);
            if from < end || self.events_left == 0 || self.bytes_left == 0 {
                return Room::None;
            }
        }
    }
}
