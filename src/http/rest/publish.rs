//! Publishing what a request has, be it one event or many, of one type or of several.
//!
//! Events are stored in the order in which the request lists them. All of them are checked before
//! the first is queued, and they are queued as one: the log takes all of a request or nothing.

use std::collections::HashMap;

use serde::Serialize;

use super::event;
use crate::{
    broker::{Batch, EventRefusal, PublishError, Published, Publisher},
    http::{Gateway, error::ApiError},
    schema::Fill,
    types::{EventView, PlatformId, Position, Principal},
};

/// One event of a request.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// The name of its type: `OrderCreated__e`.
    pub(super) name: &'a str,
    /// Its fields.
    pub(super) json: &'a str,
}

/// What became of one event.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is durable.
    Stored(Saved),
    /// It is not stored, or may not be.
    Refused(ApiError),
    /// Nothing is wrong with it; it was not published because something is with another.
    Withheld,
}

/// What is answered about a stored event.
#[derive(Debug, Serialize)]
pub(super) struct Saved {
    /// Tells the event apart from others of its tenant.
    id: PlatformIdText,
    success: bool,
    errors: [Enqueued; 1],
}

/// Where the platform tells the event's UUID.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Enqueued {
    status_code: &'static str,
    message: String,
    fields: [&'static str; 0],
}

#[derive(Debug)]
struct PlatformIdText(PlatformId);

impl Serialize for PlatformIdText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl Saved {
    fn new(event_id: &str, position: Position) -> Self {
        Self {
            id: PlatformIdText(record_id(position)),
            success: true,
            errors: [Enqueued {
                status_code: "OPERATION_ENQUEUED",
                message: event_id.to_owned(),
                fields: [],
            }],
        }
    }
}

/// A position in the form of a record's id: the digits of its number in base 62.
fn record_id(position: Position) -> PlatformId {
    const PREFIX: &[u8; 3] = b"e01";
    const BASE: u64 = 62;
    let mut digits = [0; 12];
    let mut number = position.get();
    for digit in digits.iter_mut().rev() {
        *digit = (number % BASE) as u8;
        number /= BASE;
    }
    PlatformId::from_random(PREFIX, digits)
}

/// Consecutive events of one type, checked and not queued yet.
struct Chunk<'a> {
    name: &'a str,
    batch: Batch,
    /// Which of the request's entries they are, with their ids.
    entries: Vec<(usize, String)>,
}

/// Publishes `entries` and returns one outcome for each, in order; those that are errors already
/// stay so. With `all_or_none` nothing is published if one of them is refused.
///
/// A disk that fails or a machine that stops half-way can leave some events stored and others not
/// whatever `all_or_none` says: each outcome tells the truth about its event.
///
/// # Cancel safety
///
/// Not cancel safe: after a drop an event may or may not be stored.
pub(super) async fn publish(
    gateway: &Gateway,
    principal: &Principal,
    entries: Vec<Result<Entry<'_>, ApiError>>,
    all_or_none: bool,
) -> Vec<Outcome> {
    let publishers = publishers(gateway, principal, &entries).await;
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(entries.len());
    let mut chunks: Vec<Chunk<'_>> = Vec::new();
    let identity = gateway.sign_in.identity(principal);
    let fill = Fill {
        created_date_ms: gateway.clock.now().as_millis(),
        created_by_id: &identity.user_id,
    };
    let good: Vec<_> = entries
        .iter()
        .map(|entry| entry.as_ref().ok().copied())
        .collect();
    for (index, entry) in entries.into_iter().enumerate() {
        let checked = match entry {
            Ok(entry) => check(
                &publishers,
                &mut chunks,
                index,
                entry,
                &good[index..],
                &fill,
            ),
            Err(error) => Err(error),
        };
        outcomes.push(match checked {
            Ok(()) => Outcome::Withheld,
            Err(error) => Outcome::Refused(error),
        });
    }
    let mut is_good = !outcomes
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Refused(_)));
    for chunk in &chunks {
        for ((index, id), refusal) in chunk.entries.iter().zip(chunk.batch.refusals()) {
            if let Some(refusal) = refusal {
                let error = ApiError::of_refusal(refusal, chunk.name, id);
                outcomes[*index] = Outcome::Refused(error);
                is_good = false;
            }
        }
    }
    if is_good || !all_or_none {
        append(chunks, &mut outcomes).await;
    }
    outcomes
}

/// Who publishes the events of each type, or why nobody may.
async fn publishers<'a>(
    gateway: &Gateway,
    principal: &Principal,
    entries: &[Result<Entry<'a>, ApiError>],
) -> HashMap<&'a str, Result<Publisher, PublishError>> {
    let mut publishers = HashMap::new();
    for entry in entries.iter().flatten() {
        if !publishers.contains_key(entry.name) {
            let topic = topic_of(entry.name);
            let publisher = gateway.broker.publisher(principal, None, &topic).await;
            publishers.insert(entry.name, publisher);
        }
    }
    publishers
}

/// The topic of the events called `name`.
pub(super) fn topic_of(name: &str) -> String {
    format!("/event/{name}")
}

/// Checks one event and adds it to the last chunk, or to a new one if that is of another type.
/// `upcoming` are it and the entries after it.
fn check<'a>(
    publishers: &HashMap<&str, Result<Publisher, PublishError>>,
    chunks: &mut Vec<Chunk<'a>>,
    index: usize,
    entry: Entry<'a>,
    upcoming: &[Option<Entry<'a>>],
    fill: &Fill<'_>,
) -> Result<(), ApiError> {
    let publisher = publishers[entry.name].as_ref().map_err(Clone::clone)?;
    let encoded = event::encode(&publisher.schema()?, entry.json, fill)?;
    if chunks.last().is_none_or(|chunk| chunk.name != entry.name) {
        let run = upcoming.iter().flatten();
        let run = run.take_while(|next| next.name == entry.name);
        let (events, bytes) = run.fold((0, 0), |(events, bytes), next| {
            (events + 1, bytes + next.json.len())
        });
        chunks.push(Chunk {
            name: entry.name,
            batch: publisher.batch(events, bytes)?,
            entries: Vec::with_capacity(events),
        });
    }
    let chunk = chunks.last_mut().expect("there is one by now");
    match &encoded.event {
        Ok(bytes) => match EventView::parse(bytes) {
            Ok(event) => chunk.batch.push(&event),
            Err(error) => chunk.batch.refuse(&encoded.id, EventRefusal::Event(error)),
        },
        Err(error) => {
            let refusal = EventRefusal::Json(error.clone());
            chunk.batch.refuse(&encoded.id, refusal);
        }
    }
    chunk.entries.push((index, encoded.id));
    Ok(())
}

/// Queues the good events of every chunk, then waits until they are durable.
async fn append(chunks: Vec<Chunk<'_>>, outcomes: &mut [Outcome]) {
    let (batches, entries): (Vec<_>, Vec<_>) = chunks
        .into_iter()
        .map(|chunk| (chunk.batch, (chunk.name, chunk.entries)))
        .unzip();
    match Batch::append_together(batches).await {
        Ok(pending) => {
            let published = pending.outcomes().await;
            for ((name, entries), published) in entries.iter().zip(published) {
                settle(name, entries, published, outcomes);
            }
        }
        Err(error) => {
            for (name, entries) in &entries {
                settle(name, entries, Err(error.clone()), outcomes);
            }
        }
    }
}

/// Tells the entries of one chunk what became of them.
fn settle(
    name: &str,
    entries: &[(usize, String)],
    published: Result<Published, PublishError>,
    outcomes: &mut [Outcome],
) {
    match published {
        Ok(published) => {
            for ((index, id), outcome) in entries.iter().zip(published.outcomes()) {
                outcomes[*index] = match outcome.result {
                    Ok(position) => Outcome::Stored(Saved::new(id, position)),
                    Err(refusal) => Outcome::Refused(ApiError::of_refusal(refusal, name, id)),
                };
            }
        }
        Err(error) => {
            for (index, id) in entries {
                if matches!(outcomes[*index], Outcome::Withheld) {
                    outcomes[*index] = Outcome::Refused(ApiError::of_failure(error.clone(), id));
                }
            }
        }
    }
}

impl Outcome {
    /// Logs the errors of a request that is answered event by event.
    pub(super) fn log_all(outcomes: &[Self]) {
        ApiError::log_all(outcomes.iter().filter_map(|outcome| match outcome {
            Self::Refused(error) => Some(error),
            Self::Stored(_) | Self::Withheld => None,
        }));
    }

    /// The event's answer; `withheld` is that of an event which was good in vain.
    pub(super) fn or(self, withheld: impl FnOnce() -> ApiError) -> Result<Saved, ApiError> {
        match self {
            Self::Stored(saved) => Ok(saved),
            Self::Refused(error) => Err(error),
            Self::Withheld => Err(withheld()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_looks_like_that_of_a_record_and_is_one_events_alone() {
        let id = |number| {
            record_id(Position::new(number).unwrap())
                .as_str()
                .to_owned()
        };
        assert_eq!(id(0), "e01000000000000AAA");
        assert_eq!(id(61), "e0100000000000zAAA");
        assert_eq!(id(62), "e01000000000010AAA");
        assert_eq!(id(Position::MAX.get()).len(), 18);
        assert_ne!(id(Position::MAX.get()), id(Position::MAX.get() - 1));
    }

    #[test]
    fn a_stored_event_is_answered_in_the_documented_form() {
        let saved = Saved::new("232fd30e-0a71-42bd-a97b-be0e329b2ded", Position::ZERO);
        assert_eq!(
            serde_json::to_string(&saved).unwrap(),
            r#"{"id":"e01000000000000AAA","success":true,"errors":[{"statusCode":"OPERATION_ENQUEUED","message":"232fd30e-0a71-42bd-a97b-be0e329b2ded","fields":[]}]}"#
        );
    }
}
