//! Publishing: each event is checked and laid out for the log, then the good ones are appended.
//!
//! [`Publisher::batch`] and [`Batch::push`] are plain computation on the caller's task, so that
//! validation runs on every core; [`Batch::append`] queues the result, and [`PendingPublish::outcome`]
//! waits until it is durable. A stream keeps several of the latter under way.
//!
//! Where publishing is idempotent, events that are there already are taken out before the others are
//! queued, and answered like the first ones ([`super::idempotence`]).

mod once;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Broker, PublishError, Tenant, TopicError,
    idempotence::{Answer, Claimed},
    metrics::{PublishMetrics, RefusalReason},
    topics::users,
};
use crate::{
    event_log::{AppendError, AppendOutcome, Appending, BlockBody, LogTopic},
    schema::{
        JsonError, PayloadError, Schema,
        registry::{
            EventType,
            uses::{Use, UseNotes},
        },
    },
    types::{
        EventError, EventView, Position, Principal, SchemaId, TopicKind, TopicName,
        limits::{BLOCK_BYTES_MAX, EVENT_ID_CHARS_MAX},
    },
};

/// Bytes an entry adds to an event: two tags with lengths, and the replay id.
const ENTRY_OVERHEAD_BYTES: usize = 20;
/// Bytes that an id takes which is made here.
const MADE_ID_BYTES: usize = 2 + EVENT_ID_CHARS_MAX;

/// Publishing to one topic on behalf of one caller, who has the right to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    tenant: Arc<Tenant>,
    topic: Arc<LogTopic>,
    metrics: PublishMetrics,
    notes: Arc<Mutex<UseNotes>>,
    room_wait: Duration,
}

impl Broker {
    /// Whether the caller may publish to any topic at all, be there such a topic or not.
    pub fn is_publisher(&self, principal: &Principal) -> bool {
        !principal.grants.publish.is_empty()
    }

    /// A publisher to the topic called `name`; `client_name` is what the client calls itself.
    ///
    /// # Errors
    ///
    /// [`PublishError::Topic`]; forbidden is a topic the caller may not publish to.
    pub async fn publisher(
        &self,
        principal: &Principal,
        client_name: Option<&str>,
        name: &str,
    ) -> Result<Publisher, PublishError> {
        if let Ok(channel) = name.parse::<TopicName>()
            && channel.kind() == TopicKind::Channel
        {
            // Whether there is such a channel or not, nothing is ever published to one.
            return Err(TopicError::Forbidden(channel).into());
        }
        let (tenant, event_type) = self.find_topic(principal, name).await?;
        if !principal.grants.may_publish(event_type.topic()) {
            return Err(TopicError::Forbidden(event_type.topic().clone()).into());
        }
        let topic = LogTopic {
            id: event_type.topic_id(),
            name: event_type.topic().clone(),
        };
        let metrics = self.metrics().publish(event_type.topic());
        let room_wait = self.0.config.publish_room_wait;
        let (uses, users) = (tenant.schemas.uses(), users(principal, client_name));
        let notes = UseNotes::new(Arc::clone(uses), users, Use::Published);
        Ok(Publisher {
            tenant,
            topic: Arc::new(topic),
            metrics,
            notes: Arc::new(Mutex::new(notes)),
            room_wait,
        })
    }
}

impl Publisher {
    /// The topic that is published to.
    pub fn topic(&self) -> &TopicName {
        &self.topic.name
    }

    /// The topic's current schema, for those who write the payloads of others.
    ///
    /// # Errors
    ///
    /// [`TopicError::NotFound`] if the topic was deleted meanwhile.
    pub fn schema(&self) -> Result<Schema, PublishError> {
        let event_type = self.tenant.schemas.event_type(&self.topic.name);
        let event_type = event_type.ok_or(TopicError::NotFound)?;
        Ok(event_type.current().clone())
    }

    /// An empty batch for about `events` events of `bytes` bytes together.
    ///
    /// The batch sees the schemas that are registered now.
    ///
    /// # Errors
    ///
    /// [`TopicError::NotFound`] if the topic was deleted meanwhile.
    pub fn batch(&self, events: usize, bytes: usize) -> Result<Batch, PublishError> {
        let event_type = self
            .tenant
            .schemas
            .event_type(&self.topic.name)
            // One of the same name that was made since is another topic.
            .filter(|event_type| event_type.topic_id() == self.topic.id)
            .ok_or(TopicError::NotFound)?;
        Ok(Batch {
            tenant: Arc::clone(&self.tenant),
            topic: Arc::clone(&self.topic),
            metrics: self.metrics.clone(),
            notes: Arc::clone(&self.notes),
            room_wait: self.room_wait,
            last_schema: event_type.current().clone(),
            written_with: Vec::new(),
            bodies: Vec::new(),
            bytes_left: bytes,
            events_left: events,
            slots: Vec::with_capacity(events),
            is_idempotent: self.tenant.ids.is_on(&event_type),
            has_chosen_ids: false,
            duplicates: Vec::new(),
            ids: String::with_capacity(events * EVENT_ID_CHARS_MAX),
            made_ids: MadeIds::new(events),
            event_type,
        })
    }
}

/// Events of one request, each checked and either laid out or refused.
#[derive(Debug)]
pub struct Batch {
    tenant: Arc<Tenant>,
    topic: Arc<LogTopic>,
    metrics: PublishMetrics,
    notes: Arc<Mutex<UseNotes>>,
    room_wait: Duration,
    event_type: Arc<EventType>,
    /// The schema of the event before: nearly always that of the next one too.
    last_schema: Schema,
    /// The schemas of the accepted events: mostly one.
    written_with: Vec<SchemaId>,
    bodies: Vec<BlockBody>,
    /// Bytes and number of the events that are likely still to come: they size the next body.
    bytes_left: usize,
    events_left: usize,
    slots: Vec<Slot>,
    /// Whether ids that publishers chose are looked up.
    is_idempotent: bool,
    /// Whether there is such an id.
    has_chosen_ids: bool,
    /// The accepted events that were taken out again, by their slots.
    duplicates: Vec<Duplicate>,
    ids: String,
    made_ids: MadeIds,
}

/// An accepted event that is not stored, since another one with its id is or may be.
#[derive(Debug)]
struct Duplicate {
    slot: usize,
    answer: Answer,
}

/// What became of one event so far.
#[derive(Debug)]
struct Slot {
    /// Where its id ends in `ids`; it begins where the one before ends.
    id_end: usize,
    /// Whether the id was made here: a refused event's result does not show such an id.
    id_made: bool,
    /// Whether it is answered with the result of another one.
    is_duplicate: bool,
    refusal: Option<EventRefusal>,
}

impl Batch {
    /// Checks one event and lays it out, or keeps the reason why not.
    pub fn push(&mut self, event: &EventView<'_>) {
        match self.check(event) {
            Ok(()) => {}
            Err(refusal) => return self.refuse(event.id(), refusal),
        }
        let id = if event.id().is_empty() {
            Some(self.made_ids.next())
        } else {
            None
        };
        let id = id
            .as_ref()
            .map(|id| std::str::from_utf8(id).expect("a UUID is ASCII"));
        self.lay_out(event.encoded(), id);
        self.has_chosen_ids |= id.is_none();
        self.ids.push_str(id.unwrap_or(event.id()));
        self.slots.push(Slot {
            id_end: self.ids.len(),
            id_made: id.is_some(),
            is_duplicate: false,
            refusal: None,
        });
    }

    /// Adds an event that is refused; `id` is its own or empty.
    pub fn refuse(&mut self, id: &str, refusal: EventRefusal) {
        self.metrics.refused(refusal.reason());
        // As large as the others, as far as that is known.
        self.bytes_left -= self.bytes_left / self.events_left.max(1);
        self.events_left = self.events_left.saturating_sub(1);
        self.ids.push_str(id);
        self.slots.push(Slot {
            id_end: self.ids.len(),
            id_made: false,
            is_duplicate: false,
            refusal: Some(refusal),
        });
    }

    /// What is wrong with each event so far, in the order they were pushed; `None` for a good one.
    pub fn refusals(&self) -> impl ExactSizeIterator<Item = Option<&EventRefusal>> {
        self.slots.iter().map(|slot| slot.refusal.as_ref())
    }

    fn check(&mut self, event: &EventView<'_>) -> Result<(), EventRefusal> {
        if self.last_schema.id().as_str() != event.schema_id() {
            self.last_schema = self.find_schema(event.schema_id())?;
        }
        if self.event_type.validates() {
            self.last_schema
                .validate(event.payload())
                .map_err(EventRefusal::Payload)?;
        }
        let id = self.last_schema.id();
        if !self.written_with.contains(&id) {
            self.written_with.push(id);
        }
        Ok(())
    }

    fn find_schema(&self, id: &str) -> Result<Schema, EventRefusal> {
        if id.is_empty() {
            return Err(EventRefusal::NoSchemaId {
                current: self.event_type.current().id(),
            });
        }
        let id: SchemaId = id.parse().map_err(|_| EventRefusal::UnknownSchema {
            current: self.event_type.current().id(),
        })?;
        if let Some(version) = self.event_type.version(&id) {
            return match &version.retired {
                None => Ok(version.schema.clone()),
                Some(_) => Err(EventRefusal::RetiredSchema {
                    current: self.event_type.current().id(),
                }),
            };
        }
        Err(match self.tenant.schemas.schema(&id) {
            Some(_) => EventRefusal::ForeignSchema {
                topic: self.topic.name.clone(),
            },
            None => EventRefusal::UnknownSchema {
                current: self.event_type.current().id(),
            },
        })
    }

    fn lay_out(&mut self, event: &[u8], id: Option<&str>) {
        let is_taken = match self.bodies.last_mut() {
            Some(body) => body.push(event, id),
            None => false,
        };
        if !is_taken {
            let mut body = BlockBody::with_capacity(Arc::clone(&self.topic), self.room(event, id));
            let is_taken = body.push(event, id);
            debug_assert!(is_taken, "an empty body takes any event");
            self.bodies.push(body);
        }
        self.bytes_left = self.bytes_left.saturating_sub(event.len());
        self.events_left = self.events_left.saturating_sub(1);
    }

    /// Room for `event` and those after it, if they are like it.
    fn room(&self, event: &[u8], id: Option<&str>) -> usize {
        let overhead = ENTRY_OVERHEAD_BYTES + id.map_or(0, |_| MADE_ID_BYTES);
        let expected = self.bytes_left + self.events_left * overhead;
        expected.min(BLOCK_BYTES_MAX).max(event.len() + overhead)
    }

    /// Queues the accepted events, waiting for room for at most the configured time.
    ///
    /// # Errors
    ///
    /// [`PublishError::Overloaded`] and [`PublishError::Refused`]: nothing was stored. Where ids are
    /// looked up, [`PublishError::Topic`] if they cannot be.
    pub async fn append_in_time(self) -> Result<PendingPublish, PublishError> {
        let (wait, metrics) = (self.room_wait, self.metrics.clone());
        tokio::time::timeout(wait, self.append())
            .await
            .unwrap_or_else(|_| {
                metrics.overloaded();
                Err(PublishError::Overloaded(wait))
            })
    }

    /// Queues the accepted events, waiting for room as long as it takes.
    ///
    /// # Errors
    ///
    /// [`PublishError::Refused`]: nothing was stored. Where ids are looked up,
    /// [`PublishError::Topic`] if they cannot be.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a call dropped while it waits has stored nothing.
    pub async fn append(mut self) -> Result<PendingPublish, PublishError> {
        let tenant = Arc::clone(&self.tenant);
        let claimed = match self.is_once() {
            true => Some(Self::claim(&tenant, std::slice::from_mut(&mut self)).await?),
            false => None,
        };
        let (bodies, queued) = self.split();
        let appending = append(&tenant, bodies, claimed).await;
        Ok(PendingPublish {
            appending: appending.map_err(|error| queued.metrics.failed(error))?,
            queued,
        })
    }

    /// Queues the accepted events of several batches of one tenant as one, in order: all of them or
    /// none. Waits for room for at most the configured time.
    ///
    /// # Errors
    ///
    /// As for [`Batch::append_in_time`].
    pub async fn append_together(mut batches: Vec<Self>) -> Result<PendingBatches, PublishError> {
        let Some(first) = batches.first() else {
            return Ok(PendingBatches {
                appending: None,
                queued: Vec::new(),
            });
        };
        let (tenant, wait) = (Arc::clone(&first.tenant), first.room_wait);
        // A request that fails is counted once for each of its topics.
        let metrics: HashMap<TopicName, PublishMetrics> = batches
            .iter()
            .map(|batch| (batch.topic.name.clone(), batch.metrics.clone()))
            .collect();
        let queueing = async {
            let claimed = match batches.iter().any(Self::is_once) {
                true => Some(Self::claim(&tenant, &mut batches).await?),
                false => None,
            };
            let (bodies, queued): (Vec<_>, Vec<_>) = batches.into_iter().map(Self::split).unzip();
            let bodies = bodies.into_iter().flatten().collect();
            let appending = append(&tenant, bodies, claimed).await.map_err(|error| {
                let failed = metrics.values().map(|topic| topic.failed(error.clone()));
                failed.last().expect("each batch has a topic")
            })?;
            Ok(PendingBatches { appending, queued })
        };
        let queued = tokio::time::timeout(wait, queueing).await;
        queued.unwrap_or_else(|_| {
            metrics.values().for_each(PublishMetrics::overloaded);
            Err(PublishError::Overloaded(wait))
        })
    }

    /// The events for the log, and what is known of them until it answers.
    fn split(self) -> (Vec<BlockBody>, Queued) {
        let schema_id = match self.written_with[..] {
            [id] => id,
            _ => self.event_type.current().id(),
        };
        let queued = Queued {
            event_counts: self.bodies.iter().map(BlockBody::event_count).collect(),
            published: Published {
                schema_id,
                slots: self.slots,
                ids: self.ids,
                positions: Vec::new(),
                duplicates: self.duplicates,
            },
            metrics: self.metrics,
            notes: self.notes,
            written_with: self.written_with,
        };
        (self.bodies, queued)
    }
}

/// Queues the events, if there are any, and has the ids that were taken for them follow.
///
/// # Errors
///
/// As [`crate::event_log::TenantLog::append`]; the ids are free again.
async fn append(
    tenant: &Arc<Tenant>,
    bodies: Vec<BlockBody>,
    claimed: Option<Claimed>,
) -> Result<Option<Appending>, AppendError> {
    if bodies.is_empty() {
        return Ok(None);
    }
    let count = bodies.len();
    let appending = tenant.log.append(bodies).await?;
    Ok(Some(match claimed {
        Some(claimed) => claimed.follow(tenant, count, appending),
        None => appending,
    }))
}

/// A batch whose events the log has.
#[derive(Debug)]
struct Queued {
    /// The number of events in each body.
    event_counts: Vec<usize>,
    published: Published,
    metrics: PublishMetrics,
    notes: Arc<Mutex<UseNotes>>,
    written_with: Vec<SchemaId>,
}

impl Queued {
    /// What became of the events, by what became of the bodies.
    async fn settle(mut self, outcome: AppendOutcome) -> Result<Published, PublishError> {
        once::await_answers(&mut self.published.duplicates).await;
        let Self {
            event_counts,
            mut published,
            metrics,
            notes,
            written_with,
        } = self;
        let answers = published.duplicates.iter().map(|it| &it.answer);
        if event_counts.is_empty() && answers.len() == 0 {
            return Ok(published);
        }
        let is_stored = answers.clone().any(|answer| answer.position().is_some());
        if !is_stored && outcome.iter().all(Result::is_err) {
            // Of several reasons the one that leaves the publisher in doubt is told.
            let errors = outcome.into_iter().filter_map(Result::err);
            let errors = errors.chain(answers.filter_map(Answer::failure).cloned());
            let error = errors.max_by_key(|error| !error.is_safe_to_retry());
            return Err(metrics.failed(error.expect("an accepted event has a body")));
        }
        published.settle(&event_counts, outcome, &metrics);
        published.answer(&metrics);
        metrics.published(published.positions.len());
        let now = Instant::now();
        let mut notes = notes.lock().expect("no holder of this lock panics");
        for id in &written_with {
            notes.note(*id, now);
        }
        drop(notes);
        Ok(published)
    }
}

/// Batches whose events are queued as one.
#[derive(Debug)]
pub struct PendingBatches {
    /// `None` when no event was accepted.
    appending: Option<Appending>,
    queued: Vec<Queued>,
}

impl PendingBatches {
    /// Waits until it is known what became of every event. Returns for each batch, in order, what
    /// [`PendingPublish::outcome`] does.
    ///
    /// # Cancel safety
    ///
    /// The events are stored, or not, whether or not this is awaited to its end.
    pub async fn outcomes(self) -> Vec<Result<Published, PublishError>> {
        let bodies = |queued: &Queued| queued.event_counts.len();
        let mut outcome = match self.appending {
            None => Vec::new(),
            Some(appending) => appending.await.unwrap_or_else(|error| {
                let count = self.queued.iter().map(bodies).sum();
                vec![error; count].into_iter().map(Err).collect()
            }),
        }
        .into_iter();
        let mut settled = Vec::with_capacity(self.queued.len());
        for queued in self.queued {
            let own = outcome.by_ref().take(bodies(&queued)).collect();
            settled.push(queued.settle(own).await);
        }
        settled
    }
}

/// A batch whose events are queued.
#[derive(Debug)]
pub struct PendingPublish {
    /// `None` when no event was accepted.
    appending: Option<Appending>,
    queued: Queued,
}

impl PendingPublish {
    /// Waits until it is known what became of every event.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if no event was stored for certain: [`PublishError::Refused`], or
    /// [`PublishError::Unconfirmed`] if some may have been.
    ///
    /// # Cancel safety
    ///
    /// The events are stored, or not, whether or not this is awaited to its end.
    pub async fn outcome(self) -> Result<Published, PublishError> {
        let Self { appending, queued } = self;
        let outcome = match appending {
            None => Vec::new(),
            Some(appending) => appending.await.unwrap_or_else(|error| {
                let failed = |_: &usize| Err(error.clone());
                queued.event_counts.iter().map(failed).collect()
            }),
        };
        queued.settle(outcome).await
    }
}

/// What became of every event of a batch.
#[derive(Debug)]
pub struct Published {
    schema_id: SchemaId,
    slots: Vec<Slot>,
    ids: String,
    /// One for each event without a refusal that was stored by this request, in order.
    positions: Vec<Position>,
    /// One for each that is answered with the result of another, in order.
    duplicates: Vec<Duplicate>,
}

/// What became of one event.
#[derive(Clone, Copy, Debug)]
pub struct EventOutcome<'a> {
    /// The event's id: the publisher's, one that was made here, or empty for a refused event
    /// without one.
    pub id: &'a str,
    /// Where it stands, or why it is not stored.
    pub result: Result<Position, &'a EventRefusal>,
}

impl Published {
    /// The schema the events were written with; the topic's current one if there were several.
    pub fn schema_id(&self) -> SchemaId {
        self.schema_id
    }

    /// One outcome for each event, in the order they were pushed.
    pub fn outcomes(&self) -> impl ExactSizeIterator<Item = EventOutcome<'_>> {
        let mut positions = self.positions.iter();
        let duplicates = self.duplicates.iter();
        let mut first_positions = duplicates.filter_map(|it| it.answer.position());
        let mut id_start = 0;
        self.slots.iter().map(move |slot| {
            let id = &self.ids[id_start..slot.id_end];
            id_start = slot.id_end;
            match &slot.refusal {
                Some(refusal) if slot.id_made => EventOutcome {
                    id: "",
                    result: Err(refusal),
                },
                Some(refusal) => EventOutcome {
                    id,
                    result: Err(refusal),
                },
                None => {
                    let position = match slot.is_duplicate {
                        true => first_positions.next(),
                        false => positions.next().copied(),
                    };
                    let position = position.expect("each stored event has a position");
                    EventOutcome {
                        id,
                        result: Ok(position),
                    }
                }
            }
        })
    }

    /// Hands the positions of stored bodies to their events, and the errors of the others.
    fn settle(&mut self, event_counts: &[usize], outcome: AppendOutcome, metrics: &PublishMetrics) {
        let accepted = |slot: &&mut Slot| slot.refusal.is_none() && !slot.is_duplicate;
        let mut accepted = self.slots.iter_mut().filter(accepted);
        for (&event_count, result) in event_counts.iter().zip(outcome) {
            let of_body = accepted.by_ref().take(event_count);
            match result {
                Ok(range) => self
                    .positions
                    .extend(range.iter().zip(of_body).map(|(at, _)| at)),
                Err(error) => of_body.for_each(|slot| {
                    metrics.refused(RefusalReason::NotStored);
                    slot.refusal = Some(EventRefusal::NotStored(error.clone()));
                }),
            }
        }
    }

    /// Counts the events that are answered with the results of others, and refuses those whose
    /// others were not stored for certain.
    fn answer(&mut self, metrics: &PublishMetrics) {
        let Self {
            slots, duplicates, ..
        } = self;
        for duplicate in duplicates {
            match duplicate.answer.failure() {
                None => metrics.duplicate(),
                Some(error) => {
                    metrics.refused(RefusalReason::NotStored);
                    let refusal = EventRefusal::NotStored(error.clone());
                    slots[duplicate.slot].refusal = Some(refusal);
                }
            }
        }
    }
}

/// Why one event of a request was not stored.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventRefusal {
    /// Too large, or not an event.
    #[error(transparent)]
    Event(#[from] EventError),
    /// No schema id was given.
    #[error("the event has no schema id; the topic's current one is {current}")]
    NoSchemaId {
        /// The topic's current schema.
        current: SchemaId,
    },
    /// No schema of the tenant has the id; it is a peer's text and is not repeated.
    #[error("the event's schema id is not known here; the topic's current one is {current}")]
    UnknownSchema {
        /// The topic's current schema.
        current: SchemaId,
    },
    /// The schema is another topic's.
    #[error("the event's schema is not a version of the schema of {topic}")]
    ForeignSchema {
        /// The topic that was published to.
        topic: TopicName,
    },
    /// The version was retired.
    #[error(
        "the event's schema is a version that was retired; the topic's current one is {current}"
    )]
    RetiredSchema {
        /// The topic's current schema.
        current: SchemaId,
    },
    /// The payload is not a record of the schema.
    #[error("the payload does not fit its schema: {0}")]
    Payload(PayloadError),
    /// The JSON that the payload was to be written from is no record of the schema.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The log stored other events of the request, but not this one.
    #[error("{}", not_stored(.0))]
    NotStored(AppendError),
}

/// In the words of [`PublishError::Unconfirmed`], by which publishers tell doubt from refusal.
fn not_stored(error: &AppendError) -> String {
    match error {
        AppendError::Unconfirmed(_) => {
            "the event may or may not have been stored; publish it again with the same id".into()
        }
        refused @ AppendError::Refused(_) => refused.to_string(),
    }
}

impl EventRefusal {
    /// The reason as metrics count it.
    fn reason(&self) -> RefusalReason {
        match self {
            Self::Event(_) => RefusalReason::Event,
            Self::NoSchemaId { .. }
            | Self::UnknownSchema { .. }
            | Self::ForeignSchema { .. }
            | Self::RetiredSchema { .. } => RefusalReason::Schema,
            Self::Payload(_) | Self::Json(_) => RefusalReason::Payload,
            Self::NotStored(_) => RefusalReason::NotStored,
        }
    }
}

/// Makes event ids: random UUIDs, for as many events as a request has out of one system call.
#[derive(Debug)]
struct MadeIds {
    random: Vec<[u8; 16]>,
    events: usize,
}

impl MadeIds {
    fn new(events: usize) -> Self {
        Self {
            random: Vec::new(),
            events,
        }
    }

    fn next(&mut self) -> [u8; EVENT_ID_CHARS_MAX] {
        if self.random.is_empty() {
            self.random = vec![[0; 16]; self.events.max(1)];
            getrandom::fill(self.random.as_flattened_mut())
                .expect("the system has randomness once it is up");
        }
        let random = self.random.pop().expect("filled above");
        let mut text = [0; EVENT_ID_CHARS_MAX];
        uuid::Builder::from_random_bytes(random)
            .into_uuid()
            .hyphenated()
            .encode_lower(&mut text);
        text
    }
}
