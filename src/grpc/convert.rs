//! Wire messages to the broker's words, and back.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::{
    Call,
    status::{RpcError, kinds},
};
use crate::{
    broker::{Batch, CommitAnswer, Delivery, EventOutcome, EventRefusal, Published, Publisher},
    proto::{
        CommitReplayResponse, ErrorCode, FetchRequest, ProducerEvent, ReplayPreset,
        raw::{FetchResponse, PublishRequest, PublishResponse, Repeated},
    },
    types::{
        EventError, EventView, ReplayId, Start, event,
        limits::{EVENT_BYTES_MAX, EVENTS_PER_REQUEST_MAX},
    },
};

/// Bytes of an error message inside a result: enough for the path of a field and a reason.
const RESULT_MESSAGE_BYTES_MAX: usize = 300;

/// Checks and lays out every event of a request.
///
/// # Errors
///
/// An [`RpcError`] for a request without events or with too many; what is wrong with one event is
/// its own result.
pub(super) fn batch(publisher: &Publisher, request: &PublishRequest) -> Result<Batch, RpcError> {
    let count = request.events.values().len();
    if count == 0 {
        return Err(kinds::PUBLISH_COUNT_INVALID.error("the request has no events"));
    }
    if count > EVENTS_PER_REQUEST_MAX {
        return Err(kinds::PUBLISH_COUNT_INVALID.error(format!(
            "a request has at most {EVENTS_PER_REQUEST_MAX} events, this one has {count}"
        )));
    }
    let bytes = request.events.values().iter().map(<[u8]>::len).sum();
    let mut batch = publisher.batch(count, bytes)?;
    for event in request.events.values().iter() {
        push(&mut batch, event);
    }
    Ok(batch)
}

fn push(batch: &mut Batch, encoded: &[u8]) {
    let refusal = match EventView::parse(encoded) {
        Ok(event) => return batch.push(&event),
        Err(EventError::Odd) => match respelled(encoded) {
            Some(respelled) => match EventView::parse(&respelled) {
                Ok(event) => return batch.push(&event),
                Err(error) => error,
            },
            None => EventError::Malformed,
        },
        Err(error) => error,
    };
    batch.refuse(event::id_of_refused(encoded), EventRefusal::Event(refusal));
}

/// The event in the spelling that every protobuf library writes: unknown fields dropped, the last
/// of several values kept. `None` for bytes that are no event.
fn respelled(encoded: &[u8]) -> Option<Vec<u8>> {
    // The bound comes first: decoding makes a copy.
    if encoded.len() > EVENT_BYTES_MAX {
        return None;
    }
    ProducerEvent::decode(encoded)
        .ok()
        .map(|event| event.encode_to_vec())
}

/// The response to a publish request.
pub(super) fn publish_response(call: &Call, published: &Published) -> PublishResponse {
    let mut results = BytesMut::with_capacity(published.outcomes().len() * 64);
    for outcome in published.outcomes() {
        put_result(&mut results, outcome);
    }
    PublishResponse {
        results: Repeated::Fields(vec![results.freeze()]),
        schema_id: published.schema_id().to_string(),
        rpc_id: Bytes::copy_from_slice(call.rpc_id().as_str().as_bytes()),
    }
}

/// Appends one `PublishResult`, as a field of the response.
fn put_result(results: &mut BytesMut, outcome: EventOutcome<'_>) {
    const RESULTS: u32 = 1;
    const REPLAY_ID: u32 = 1;
    const ERROR: u32 = 2;
    const CORRELATION_KEY: u32 = 3;

    let put = |results: &mut BytesMut, field: u32, value: &[u8]| {
        encode_key(field, WireType::LengthDelimited, results);
        encode_varint(value.len() as u64, results);
        results.put_slice(value);
    };
    // Keys of fields below 16 are one byte.
    let len_of = |len: usize| 1 + encoded_len_varint(len as u64) + len;
    let id_len = if outcome.id.is_empty() {
        0
    } else {
        len_of(outcome.id.len())
    };

    encode_key(RESULTS, WireType::LengthDelimited, results);
    match outcome.result {
        Ok(position) => {
            encode_varint((len_of(ReplayId::LEN) + id_len) as u64, results);
            put(results, REPLAY_ID, position.replay_id().as_bytes());
        }
        Err(refusal) => {
            let mut msg = refusal.to_string();
            msg.truncate(msg.floor_char_boundary(RESULT_MESSAGE_BYTES_MAX));
            let error = crate::proto::Error {
                code: ErrorCode::Publish.into(),
                msg,
            }
            .encode_to_vec();
            encode_varint((len_of(error.len()) + id_len) as u64, results);
            put(results, ERROR, &error);
        }
    }
    if !outcome.id.is_empty() {
        put(results, CORRELATION_KEY, outcome.id.as_bytes());
    }
}

/// Where the first request of a subscription wants to start.
///
/// # Errors
///
/// An [`RpcError`] for a preset that does not exist, and for a custom start without a well-formed
/// replay id.
pub(super) fn start(request: &FetchRequest) -> Result<Start, RpcError> {
    let preset = ReplayPreset::try_from(request.replay_preset).map_err(|_| {
        kinds::FETCH_REQUEST_INVALID.error(format!(
            "replay_preset is 0 (LATEST), 1 (EARLIEST) or 2 (CUSTOM), this one is {}",
            request.replay_preset
        ))
    })?;
    match preset {
        ReplayPreset::Latest => Ok(Start::Latest),
        ReplayPreset::Earliest => Ok(Start::Earliest),
        ReplayPreset::Custom if request.replay_id.is_empty() => Err(kinds::REPLAY_ID_MISSING
            .error("replay_preset CUSTOM takes a replay_id, and there is none")),
        ReplayPreset::Custom => Ok(Start::After(ReplayId::parse(&request.replay_id)?)),
    }
}

/// The response that carries a delivery.
pub(super) fn fetch_response(rpc_id: Bytes, delivery: Delivery) -> FetchResponse {
    FetchResponse {
        events: Repeated::Fields(delivery.events),
        latest_replay_id: Bytes::copy_from_slice(delivery.latest.replay_id().as_bytes()),
        rpc_id,
        pending_num_requested: i32::try_from(delivery.pending).unwrap_or(i32::MAX),
    }
}

/// The answer to a commit.
pub(super) fn commit_response(answer: CommitAnswer) -> CommitReplayResponse {
    let error = answer.outcome.err().map(|refusal| {
        tracing::debug!(?refusal, "a commit was refused");
        crate::proto::Error {
            code: ErrorCode::Commit.into(),
            msg: refusal.to_string(),
        }
    });
    CommitReplayResponse {
        commit_request_id: answer.id,
        replay_id: answer.replay_id,
        error,
        process_time: answer.received_at.as_millis(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto::{
            PublishResult,
            raw::{self, WireMessage},
        },
        types::{Position, SchemaId},
    };

    fn decode(results: BytesMut) -> PublishResult {
        let response = raw::PublishResponse::read(results.freeze()).unwrap();
        PublishResult::decode(response.results.values().iter().next().unwrap()).unwrap()
    }

    #[test]
    fn a_stored_event_has_a_replay_id_and_no_error() {
        let mut results = BytesMut::new();
        let position = Position::in_block(3, 4).unwrap();
        put_result(
            &mut results,
            EventOutcome {
                id: "e-1",
                result: Ok(position),
            },
        );
        let result = decode(results);
        assert_eq!(result.replay_id[..], position.replay_id().as_bytes()[..]);
        assert_eq!(
            (result.error, result.correlation_key.as_str()),
            (None, "e-1")
        );
    }

    #[test]
    fn a_refused_event_has_an_error_and_no_replay_id() {
        let mut results = BytesMut::new();
        let refusal = EventRefusal::NoSchemaId {
            current: SchemaId::from_digest([0; 16]),
        };
        put_result(
            &mut results,
            EventOutcome {
                id: "",
                result: Err(&refusal),
            },
        );
        let result = decode(results);
        assert!(result.replay_id.is_empty());
        let error = result.error.unwrap();
        assert_eq!(error.code(), ErrorCode::Publish);
        assert!(error.msg.contains("has no schema id"), "{}", error.msg);
        assert_eq!(result.correlation_key, "");
    }

    #[test]
    fn an_odd_spelling_is_respelled_and_keeps_its_meaning() {
        // The id twice, an unknown field, a length with a leading zero.
        let odd = [
            0x0a, 1, b'a', 0x0a, 1, b'b', 0x28, 7, 0x1a, 0x82, 0x00, 1, 2,
        ];
        let respelled = respelled(&odd).unwrap();
        let event = EventView::parse(&respelled).unwrap();
        assert_eq!((event.id(), event.payload()), ("b", [1, 2].as_slice()));
        assert_eq!(super::respelled(&[0x08, 0x01]), None);
    }
}
