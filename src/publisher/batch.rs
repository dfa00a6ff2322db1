//! One request's events, and what became of them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tokio::sync::SetOnce;
use tonic::Status;

use super::{
    error::{FailedEvent, PublishError},
    event::Ready,
    retry,
};
use crate::{
    client::CallError,
    proto::{
        PublishResult,
        raw::{PublishRequest, PublishResponse, Repeated},
    },
    types::{
        TopicName,
        limits::{PUBLISH_BATCH_BYTES_MAX, PUBLISH_BATCH_EVENTS_MAX},
    },
};

/// The events of one request, encoded.
#[derive(Debug, Default)]
pub(super) struct Batch {
    fields: BytesMut,
    events: usize,
    answer: Arc<Answer>,
}

/// What became of a batch, for those who wait for one of its events.
pub(super) type Answer = SetOnce<Outcome>;

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A result for each event, in their order.
    Answered(Vec<Result<Bytes, PublishError>>),
    /// The same for all of its events.
    Failed(PublishError),
}

impl Outcome {
    fn of(&self, index: usize) -> Result<Bytes, PublishError> {
        match self {
            Self::Answered(results) => results[index].clone(),
            Self::Failed(error) => Err(error.clone()),
        }
    }
}

impl Batch {
    /// A batch that expects about as many bytes as `like`.
    pub(super) fn like(like: &Self) -> Self {
        Self {
            fields: BytesMut::with_capacity(like.fields.len()),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.events >= PUBLISH_BATCH_EVENTS_MAX
    }

    /// Whether the event may join the others.
    pub(super) fn has_room(&self, event: &Ready) -> bool {
        !self.is_full() && self.fields.len() + event.field_len() <= PUBLISH_BATCH_BYTES_MAX
    }

    /// Adds an event that there is room for, and says where its result will be.
    pub(super) fn add(&mut self, event: Ready) -> Ticket {
        debug_assert!(self.has_room(&event));
        event.write_field(&mut self.fields);
        self.events += 1;
        Ticket {
            event_id: event.id,
            answer: Arc::clone(&self.answer),
            index: self.events - 1,
        }
    }

    /// The batch in the form in which it is sent, also several times.
    pub(super) fn seal(self) -> Sealed {
        Sealed {
            fields: self.fields.freeze(),
            events: self.events,
            answer: self.answer,
            is_in_doubt: false,
        }
    }
}

/// A batch to which nothing is added any more.
#[derive(Debug)]
pub(super) struct Sealed {
    fields: Bytes,
    pub(super) events: usize,
    answer: Arc<Answer>,
    /// Whether an earlier try may have stored some of it.
    pub(super) is_in_doubt: bool,
}

/// An answer that does not fit its request.
#[derive(Debug, thiserror::Error)]
pub(super) enum OddAnswer {
    #[error("it answered {sent} events with {found} results")]
    Count { sent: usize, found: usize },
    #[error("a result is malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
}

impl Sealed {
    /// Bytes that it keeps until it is answered.
    pub(super) fn bytes(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn request(&self, topic: &TopicName) -> PublishRequest {
        PublishRequest {
            topic_name: topic.to_string(),
            events: Repeated::Fields(vec![self.fields.clone()]),
            auth_refresh: String::new(),
        }
    }

    /// Tells every event's result to those who wait for it.
    pub(super) fn answered(&self, response: &PublishResponse) -> Result<(), OddAnswer> {
        let results = response.results.values();
        if results.len() != self.events {
            return Err(OddAnswer::Count {
                sent: self.events,
                found: results.len(),
            });
        }
        let outcomes = results.iter().map(|result| {
            let result = PublishResult::decode(result)?;
            Ok(match result.error {
                None => Ok(result.replay_id),
                Some(error) if retry::is_in_doubt(&error.msg) => {
                    let error = CallError::from(Status::unavailable(error.msg));
                    Err(PublishError::Unconfirmed(error.into()))
                }
                Some(error) => Err(PublishError::Refused {
                    code: error.code,
                    message: error.msg,
                }),
            })
        });
        let outcomes: Result<_, prost::DecodeError> = outcomes.collect();
        self.settle(Outcome::Answered(outcomes?));
        Ok(())
    }

    /// Tells everybody who waits for one of the events that it failed.
    pub(super) fn failed(&self, error: PublishError) {
        self.settle(Outcome::Failed(error));
    }

    fn settle(&self, outcome: Outcome) {
        // A batch is settled by whoever takes it out of what is in flight.
        _ = self.answer.set(outcome);
    }
}

/// An event that is on its way, and where its result will be.
///
/// The event is published also if nobody waits for it.
#[derive(Debug)]
pub struct Ticket {
    event_id: String,
    answer: Arc<Answer>,
    index: usize,
}

/// An event that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The event's id, which subscribers see.
    pub event_id: String,
    /// Where it is in its topic.
    pub replay_id: Bytes,
}

impl Ticket {
    /// The event's id: the one that was given, or a new UUID.
    pub fn event_id(&self) -> &str {
        &self.event_id
    }

    /// Whether the result is known.
    pub fn is_settled(&self) -> bool {
        self.answer.initialized()
    }

    /// Waits until the result is known.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn settled(&self) {
        self.answer.wait().await;
    }

    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// [`FailedEvent`] has the event's id and the reason.
    ///
    /// # Cancel safety
    ///
    /// The event is published all the same if this is dropped, and nobody learns what became of it.
    pub async fn result(self) -> Result<Published, FailedEvent> {
        match self.answer.wait().await.of(self.index) {
            Ok(replay_id) => Ok(Published {
                event_id: self.event_id,
                replay_id,
            }),
            Err(error) => Err(FailedEvent {
                event_id: self.event_id,
                error,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        proto::{ProducerEvent, raw::WireMessage},
        publisher::{Event, ids::IdSource},
        schema::Fill,
        types::limits::EVENT_BYTES_MAX,
    };

    fn ready(number: usize, bytes: usize) -> Ready {
        let fill = Fill {
            created_date_ms: 0,
            created_by_id: Fill::NOBODY,
        };
        let event = Event::avro("s", vec![0; bytes]).with_id(format!("e-{number}"));
        Ready::new(event, None, &fill, &IdSource::default()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn splitting_never_breaks_a_bound_and_never_reorders(
            sizes in prop::collection::vec(
                prop_oneof![9 => 0..100_usize, 1 => 0..EVENT_BYTES_MAX - 100],
                0..600,
            ),
        ) {
            let topic: TopicName = "/event/OrderCreated__e".parse().unwrap();
            let (mut batch, mut sealed) = (Batch::default(), Vec::new());
            for (number, &bytes) in sizes.iter().enumerate() {
                let event = ready(number, bytes);
                if !batch.has_room(&event) {
                    let next = Batch::like(&batch);
                    sealed.push(std::mem::replace(&mut batch, next).seal());
                }
                prop_assert!(batch.has_room(&event), "an empty batch takes any event");
                batch.add(event);
            }
            sealed.push(batch.seal());
            let mut ids = Vec::new();
            for sealed in sealed {
                prop_assert!(sealed.events <= PUBLISH_BATCH_EVENTS_MAX);
                let bytes = sealed.request(&topic).to_bytes();
                prop_assert!(bytes.len() <= PUBLISH_BATCH_BYTES_MAX + 100);
                let request = PublishRequest::read(bytes).unwrap();
                for event in request.events.values().iter() {
                    ids.push(ProducerEvent::decode(event).unwrap().id);
                }
            }
            let sent: Vec<_> = (0..sizes.len()).map(|number| format!("e-{number}")).collect();
            prop_assert_eq!(ids, sent);
        }
    }
}
