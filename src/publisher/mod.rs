//! Publishing to one topic: events go in, each one's result comes out.
//!
//! A [`Publisher`] makes events of JSON, of anything that serde can write, or of ready Avro, and sends
//! them over one stream, up to 200 events and 3 MB in a request and several requests at once. A lone
//! event is sent at once; while others are on their way, events share requests. What waits is bounded:
//! [`Publisher::send`] waits for room.
//!
//! # What becomes of an event
//!
//! Each has a result of its own, in the order in which they were sent: where it is stored, or a
//! [`FailedEvent`] with its id and a [`PublishError`], which tells a refusal from what is not known.
//!
//! What may be sent again is, under the same id and before anything that was sent after it: a request
//! that the gateway is too busy for, one that could not be sent, and, unless [`Resend::Never`] says
//! otherwise, one whose answer never came. The last may then be stored twice, unless the gateway is told
//! to compare ids (`tidegate topic set TOPIC --idempotent on`); subscribers tell by its
//! id. An event that is refused is never sent again. What the gateway cannot be reached for, for longer
//! than [`Builder::retry_for`], fails, and the publisher with it: whatever came later would overtake it.
//!
//! # Examples
//!
//! ```no_run
//! # async fn example(endpoint: tidegate::client::Endpoint) -> Result<(), Box<dyn std::error::Error>> {
//! use serde_json::json;
//! use tidegate::publisher::{Event, Publisher};
//!
//! let connection = endpoint.connect().await?;
//! let publisher = Publisher::builder(connection, "/event/OrderCreated__e".parse()?).start();
//! let mut tickets = Vec::new();
//! for number in 0..1_000 {
//!     let order = json!({"Order_Number__c": format!("A-{number}")});
//!     tickets.push(publisher.send(Event::json(order)).await?);
//! }
//! for ticket in tickets {
//!     match ticket.result().await {
//!         Ok(published) => println!("{} is stored", published.event_id),
//!         Err(failed) => eprintln!("{failed}"),
//!     }
//! }
//! publisher.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A single event, of a type of its own, and its result at once:
//!
//! ```no_run
//! # async fn example(publisher: tidegate::publisher::Publisher) -> Result<(), Box<dyn std::error::Error>> {
//! use tidegate::publisher::Event;
//!
//! #[derive(serde::Serialize)]
//! struct Order {
//!     #[serde(rename = "Order_Number__c")]
//!     number: String,
//! }
//!
//! let order = Order { number: "A-17".into() };
//! let published = publisher.publish(Event::of(&order)?.with_id("order-17")).await?;
//! println!("stored at {:?}", published.replay_id);
//! # Ok(())
//! # }
//! ```
//!
//! Source: `proto/pubsub_api.proto`, `rpc Publish` and `rpc PublishStream`.

mod batch;
pub mod error;
mod event;
mod ids;
mod queue;
mod retry;
mod stream;
mod topic;
mod unary;

use std::{sync::Arc, time::Duration};

use tokio::{sync::OnceCell, task::JoinHandle};

pub use batch::{Published, Ticket};
pub use error::{EventError, FailedEvent, PublishError, TopicError};
pub use event::Event;
pub use retry::Resend;
pub use topic::TopicSchema;

use crate::{
    client::{Backoff, Connection},
    clock::{Clock, SystemClock},
    schema::Fill,
    types::{TopicName, limits::PUBLISH_RETRY_FOR},
};
use event::Ready;
use ids::IdSource;
use queue::Queue;
use retry::Retry;
use stream::{StreamTask, Waits};

/// What a publisher is made of.
#[derive(Debug)]
pub struct Builder {
    connection: Connection,
    topic: TopicName,
    schema: Option<TopicSchema>,
    resend: Resend,
    retry_for: Duration,
    backoff: Backoff,
    created_by_id: String,
    clock: Arc<dyn Clock>,
    waits: Waits,
}

impl Builder {
    /// What is done with events whose fate is not known; [`Resend::SameId`] if nothing else is said.
    pub fn resend(mut self, resend: Resend) -> Self {
        self.resend = resend;
        self
    }

    /// For how long it is tried to reach the gateway, or to get past its refusals for now, since it
    /// last answered; a minute if nothing else is said.
    pub fn retry_for(mut self, patience: Duration) -> Self {
        self.retry_for = patience;
        self
    }

    /// The waits between tries.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The topic's schema, if it is known already; else it is looked up when it is needed.
    pub fn schema(mut self, schema: TopicSchema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The 18-character id of the user who stands in `CreatedById` of events made of JSON that do not
    /// say; nobody's if nothing else is said.
    pub fn created_by(mut self, user_id: impl Into<String>) -> Self {
        self.created_by_id = user_id.into();
        self
    }

    /// What tells the time for `CreatedDate`; the system's clock if nothing else is said.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Starts the publisher. Nothing is sent yet.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, which its task runs on.
    pub fn start(self) -> Publisher {
        let queue = Arc::new(Queue::default());
        let task = StreamTask::new(
            self.connection.clone(),
            self.topic.clone(),
            Arc::clone(&queue),
            self.resend,
            Retry::new(self.retry_for, self.backoff.clone()),
            self.waits,
        );
        // It ends with `close`, which waits for it, or is aborted when the publisher is dropped.
        let task = tokio::spawn(task.run());
        Publisher {
            schema: OnceCell::new_with(self.schema.clone()),
            settings: self,
            ids: IdSource::default(),
            queue,
            task: Some(task),
        }
    }
}

/// Publishes events to one topic. Dropping it gives up what was sent and not answered; see
/// [`Self::close`].
#[derive(Debug)]
pub struct Publisher {
    settings: Builder,
    schema: OnceCell<TopicSchema>,
    ids: IdSource,
    queue: Arc<Queue>,
    /// `None` once it was closed.
    task: Option<JoinHandle<()>>,
}

impl Publisher {
    /// A publisher to `topic` over `connection`.
    pub fn builder(connection: Connection, topic: TopicName) -> Builder {
        Builder {
            connection,
            topic,
            schema: None,
            resend: Resend::default(),
            retry_for: PUBLISH_RETRY_FOR,
            backoff: Backoff::default(),
            created_by_id: Fill::NOBODY.into(),
            clock: Arc::new(SystemClock),
            waits: Waits::default(),
        }
    }

    /// The schema by which events are made of JSON: the topic's current one when this, or an event
    /// of JSON, first asked for it. Later versions do not make it unusable.
    ///
    /// # Errors
    ///
    /// [`TopicError`]; it is asked for again the next time then.
    pub async fn schema(&self) -> Result<&TopicSchema, TopicError> {
        let settings = &self.settings;
        self.schema
            .get_or_try_init(|| TopicSchema::look_up(&settings.connection, &settings.topic))
            .await
    }

    /// Publishes one event by a call of its own, and returns where it is stored. It is not held up by
    /// what is sent over the stream, and may overtake it.
    ///
    /// # Errors
    ///
    /// [`PublishError`] says why it was not, or that it is not known.
    ///
    /// # Cancel safety
    ///
    /// The event may be stored, or not.
    pub async fn publish(&self, event: Event) -> Result<Published, PublishError> {
        let mut results = self.publish_all([event]).await?;
        let result = results.pop().expect("there is a result for each event");
        result.map_err(|failed| failed.error)
    }

    /// Publishes events by calls of their own, as few as the bounds of a request allow, one after the
    /// other, and returns each one's result in order.
    ///
    /// # Errors
    ///
    /// If one of them is no event of the topic; nothing was sent then.
    ///
    /// # Cancel safety
    ///
    /// Any of the events may be stored, or not.
    pub async fn publish_all(
        &self,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Result<Published, FailedEvent>>, PublishError> {
        let mut ready = Vec::new();
        for event in events {
            ready.push(self.ready(event).await?);
        }
        let settings = &self.settings;
        let retry = || Retry::new(settings.retry_for, settings.backoff.clone());
        let (connection, topic) = (&settings.connection, &settings.topic);
        Ok(unary::publish(connection, topic, ready, settings.resend, retry).await)
    }

    /// Sends an event over the stream and returns once there is room for it among those that wait,
    /// with a ticket for its result. Events are stored in the order in which they were sent.
    ///
    /// # Errors
    ///
    /// If it is no event of the topic; or [`PublishError::Closed`], or what the publisher ended with.
    /// It was not sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the event was not sent then.
    pub async fn send(&self, event: Event) -> Result<Ticket, PublishError> {
        let ready = self.ready(event).await?;
        self.queue.push(ready).await
    }

    /// Waits until every event that was sent before has its result. What waits goes out at once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it is sent all the same.
    pub async fn flush(&self) {
        self.queue.flush().await;
    }

    /// Waits until every event that was sent has its result, and ends the stream in good order.
    ///
    /// # Errors
    ///
    /// What the publisher ended with, if it did before. Events that failed have results of their own
    /// and are no error here.
    ///
    /// # Cancel safety
    ///
    /// What was not answered is given up, as by dropping the publisher.
    pub async fn close(mut self) -> Result<(), PublishError> {
        self.queue.close();
        if let Some(task) = &mut self.task {
            // A task that panicked has failed what it had when it was dropped.
            _ = task.await;
        }
        self.task = None;
        match self.queue.ended() {
            None | Some(PublishError::Closed) => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Gives up what was sent and not answered, and takes no more events: whoever waits for a result
    /// is told that it is not known.
    pub fn abandon(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    async fn ready(&self, event: Event) -> Result<Ready, PublishError> {
        let schema = match event.needs_schema() {
            true => Some(self.schema().await?),
            false => None,
        };
        let fill = Fill {
            created_date_ms: self.settings.clock.now().as_millis(),
            created_by_id: &self.settings.created_by_id,
        };
        Ok(Ready::new(event, schema, &fill, &self.ids)?)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.abandon();
    }
}

// A gateway to publish to takes the server's half of the RPC library.
#[cfg(all(test, feature = "server"))]
mod tests;
