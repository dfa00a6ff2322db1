//! Events in and out of messages, beside generated messages that decode and encode each of them.

use std::{hint::black_box, sync::Arc};

use bytes::{Bytes, BytesMut};
use prost::{Message, encoding};
use tidegate::{
    clock::Timestamp,
    event_log::{BlockBody, PositionRange},
    proto::{
        ConsumerEvent, ProducerEvent,
        raw::{FetchResponse, PublishRequest, Repeated, WireMessage},
    },
    types::EventView,
};

use crate::{harness::Case, load};

/// A publish request on its arrival. Here nothing inside its events is looked at.
pub(crate) fn request() -> Case {
    let encoded = encoded_request();
    let case = Case::new("event", REQUEST_EVENTS, {
        let encoded = encoded.clone();
        move || PublishRequest::read(black_box(encoded.clone())).expect(WHOLE)
    });
    case.against("prost, with Vec<ProducerEvent>", move || {
        PlainPublishRequest::decode(black_box(encoded.clone())).expect(WHOLE)
    })
}

/// The same, until the fields of every event are known: as much as the generated message tells.
pub(crate) fn request_fields() -> Case {
    let encoded = encoded_request();
    let case = Case::new("event", REQUEST_EVENTS, {
        let encoded = encoded.clone();
        move || {
            let request = PublishRequest::read(black_box(encoded.clone())).expect(WHOLE);
            for event in request.events.values().iter() {
                black_box(EventView::parse(event).expect(CANONICAL));
            }
            request
        }
    });
    case.against("prost, with Vec<ProducerEvent>", move || {
        PlainPublishRequest::decode(black_box(encoded.clone())).expect(WHOLE)
    })
}

/// Published events on their way into a block.
pub(crate) fn layout() -> Case {
    let events = load::encoded_events(REQUEST_EVENTS);
    let room = load::laid_out_len(&events);
    let topic = load::topic(1);
    let first = load::first_position();
    let own = {
        let events = events.clone();
        move || {
            let mut body = BlockBody::with_capacity(Arc::clone(&topic), room);
            for event in &events {
                let view = EventView::parse(black_box(event)).expect(CANONICAL);
                assert!(body.push(view.encoded(), None), "a body has room for all");
            }
            body.seal(first, 0, Timestamp::default())
        }
    };
    let plain = move || {
        let mut block = BytesMut::with_capacity(room);
        let count = events.len() as u32;
        for (event, position) in events.iter().zip(PositionRange { first, count }.iter()) {
            let event = ProducerEvent::decode(black_box(event.clone())).expect(CANONICAL);
            encoding::message::encode(1, &load::delivered(event, position), &mut block);
        }
        block.freeze()
    };
    assert_eq!(own().bytes(), &plain());
    let case = Case::new("event", REQUEST_EVENTS, own);
    case.against("prost, decode and encode", plain)
}

/// A response to a subscriber, out of the ends of two blocks.
pub(crate) fn response() -> Case {
    let events = load::encoded_events(RESPONSE_EVENTS);
    let (first, second) = events.split_at(RESPONSE_EVENTS / 3);
    let fields = [first, second].map(|events| load::block(events).bytes().clone());
    let latest_replay_id = Bytes::copy_from_slice(load::first_position().replay_id().as_bytes());
    let own = move || {
        let response = FetchResponse {
            events: Repeated::Fields(black_box(&fields).to_vec()),
            latest_replay_id: latest_replay_id.clone(),
            rpc_id: Bytes::from_static(RPC_ID.as_bytes()),
            pending_num_requested: 300,
        };
        response.to_bytes()
    };
    let plain = PlainFetchResponse::decode(own()).expect(WHOLE);
    assert_eq!(plain.events.len(), RESPONSE_EVENTS);
    // The message is there already: making its events, or decoding them, is not counted.
    let plain = move || black_box(&plain).to_bytes();
    assert_eq!(own(), plain());
    let case = Case::new("event", RESPONSE_EVENTS, own);
    case.against("prost, with Vec<ConsumerEvent>", plain)
}

/// A request, which both ways to read it agree on.
fn encoded_request() -> Bytes {
    let request = PublishRequest {
        topic_name: load::topic(1).name.to_string(),
        events: Repeated::of(load::encoded_events(REQUEST_EVENTS)),
        ..Default::default()
    };
    let encoded = request.to_bytes();
    let read = PublishRequest::read(encoded.clone()).expect(WHOLE);
    let plain = PlainPublishRequest::decode(encoded.clone()).expect(WHOLE);
    assert_eq!(read.topic_name, plain.topic_name);
    assert_eq!(read.events.values().len(), plain.events.len());
    for (event, plain) in read.events.values().iter().zip(&plain.events) {
        let event = EventView::parse(event).expect(CANONICAL);
        assert_eq!(
            (event.id(), event.schema_id(), event.payload()),
            (&*plain.id, &*plain.schema_id, &*plain.payload)
        );
    }
    encoded
}

/// The message as a generator writes it.
#[derive(Clone, PartialEq, Message)]
struct PlainPublishRequest {
    #[prost(string, tag = "1")]
    topic_name: String,
    #[prost(message, repeated, tag = "2")]
    events: Vec<ProducerEvent>,
    #[prost(string, tag = "3")]
    auth_refresh: String,
}

/// The message as a generator writes it.
#[derive(Clone, PartialEq, Message)]
struct PlainFetchResponse {
    #[prost(message, repeated, tag = "1")]
    events: Vec<ConsumerEvent>,
    #[prost(bytes = "bytes", tag = "2")]
    latest_replay_id: Bytes,
    #[prost(string, tag = "3")]
    rpc_id: String,
    #[prost(int32, tag = "4")]
    pending_num_requested: i32,
}

const WHOLE: &str = "the message is whole";
const CANONICAL: &str = "the event is as an encoder writes it";
/// The usual request.
const REQUEST_EVENTS: usize = 200;
/// What stock clients ask for at a time.
const RESPONSE_EVENTS: usize = 100;
const RPC_ID: &str = "00000000-0000-4000-8000-000000000000";
