//! `Publish`: whole requests and single events that are refused.

use prost::Message;

use crate::support::{
    client::{Client, code, is_uuid},
    gateway::Gateway,
    order::{self, OTHER_TOPIC, SCHEMA_ID, TOPIC},
    wire::{
        ERROR_PUBLISH, EventHeader, FetchRequest, ProducerEvent, PublishRequest, PublishResponse,
    },
};

const MIB: usize = 1 << 20;

/// A request of exactly `len` bytes, of orders with long names.
fn request_of(len: usize) -> PublishRequest {
    let mut request = PublishRequest::new(TOPIC, Vec::new());
    for number in 0..5 {
        request.events.push(order_of(number, len / 5 - 64));
    }
    // The last one takes up what the others leave; lengths of lengths do not change.
    let missing = len - request.encoded_len();
    let size = request.events[4].payload.len() + missing;
    request.events[4] = order_of(4, size);
    assert_eq!(request.encoded_len(), len);
    request
}

/// A good order whose payload has exactly `len` bytes.
fn order_of(number: usize, len: usize) -> ProducerEvent {
    let mut event = order::event(number);
    event.payload = order::payload_of(len);
    event
}

#[tokio::test]
async fn each_event_gets_its_own_result() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let good = order::event(0);
    let long_name = "x".repeat(9_000);
    let with = |change: &dyn Fn(&mut ProducerEvent)| {
        let mut event = good.clone();
        change(&mut event);
        event
    };
    // Each bad event, and a word that its error must have.
    let bad = [
        (with(&|event| event.schema_id = String::new()), "schema"),
        (
            with(&|event| event.schema_id = "AAAAAAAAAAAAAAAAAAAAAA".into()),
            "schema",
        ),
        (
            with(&|event| event.schema_id = "not a schema id".into()),
            "schema",
        ),
        // Of another topic.
        (
            with(&|event| event.schema_id = order::OTHER_SCHEMA_ID.into()),
            "schema",
        ),
        (with(&|event| event.id = "x".repeat(37)), "36"),
        (with(&|event| event.payload.clear()), "CreatedDate"),
        (with(&|event| event.payload.truncate(10)), "CreatedById"),
        (with(&|event| event.payload.push(0)), "byte"),
        (with(&|event| event.payload[8] = 0xff), "CreatedById"),
        // The branch of a union that has two.
        (with(&|event| event.payload[25] = 8), "Order_Number__c"),
        (
            with(&|event| *event.payload.last_mut().unwrap() = 2),
            "Priority__c",
        ),
        // A string longer than what there is, and one of a negative length.
        (with(&|event| event.payload[6] = 0x7e), "CreatedById"),
        (with(&|event| event.payload[6] = 0x01), "CreatedById"),
        // A variable-length integer that does not end.
        (with(&|event| event.payload = vec![0xff; 11]), "CreatedDate"),
        (order_of(1, MIB), "1048576"),
        (
            with(&|event| {
                event.headers = vec![EventHeader {
                    key: long_name.clone(),
                    value: Vec::new(),
                }];
            }),
            "8192",
        ),
    ];
    for (event, word) in bad {
        let events = vec![order::event(1), event.clone(), order::event(2)];
        let response = client
            .publish(&PublishRequest::new(TOPIC, events))
            .await
            .unwrap();
        let [first, result, last] = &response.results[..] else {
            panic!("three results")
        };
        let error = result
            .error
            .as_ref()
            .unwrap_or_else(|| panic!("{event:?} is refused"));
        assert_eq!(error.code, ERROR_PUBLISH);
        assert!(error.msg.contains(word), "{:?} names {word}", error.msg);
        assert!(result.replay_id.is_empty(), "{error:?}");
        let key = if event.id.len() > 36 { "" } else { &event.id };
        assert_eq!(result.correlation_key, key, "{error:?}");
        for good in [first, last] {
            assert_eq!((good.replay_id.len(), &good.error), (10, &None));
        }
        assert!(first.replay_id < last.replay_id);
    }
}

#[tokio::test]
async fn an_event_of_a_megabyte_is_taken() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let overhead = order_of(1, 900_000).encoded_len() - 900_000;
    for (len, is_taken) in [(MIB - overhead, true), (MIB - overhead + 1, false)] {
        let event = order_of(1, len);
        let request = PublishRequest::new(TOPIC, vec![event]);
        let response = client.publish(&request).await.unwrap();
        assert_eq!(
            response.results[0].error.is_none(),
            is_taken,
            "{:?}",
            response.results
        );
    }
}

#[tokio::test]
async fn a_request_of_four_megabytes_is_taken_and_one_byte_more_is_not() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for len in [4 * MIB - 1, 4 * MIB] {
        let response = client.publish(&request_of(len)).await.unwrap();
        assert!(
            response.results.iter().all(|result| result.error.is_none()),
            "{len}"
        );
    }
    let refusal = client.publish(&request_of(4 * MIB + 1)).await.unwrap_err();
    refusal.expect(
        "Publish",
        code::RESOURCE_EXHAUSTED,
        "service.protection.triggered",
    );
    // Just the call ended, not the connection.
    client.publish(&request_of(1_000)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_as_a_whole() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let good = PublishRequest::new(TOPIC, order::events(0..1));
    let refresh = PublishRequest {
        auth_refresh: "token".into(),
        ..good.clone()
    };
    let invalid = code::INVALID_ARGUMENT;
    for (request, code, suffix) in [
        (
            PublishRequest::new("", order::events(0..1)),
            invalid,
            "publish.topic.validation.empty",
        ),
        (
            PublishRequest::new(TOPIC, Vec::new()),
            invalid,
            "publish.event.count.invalid",
        ),
        (
            PublishRequest::default(),
            invalid,
            "publish.topic.validation.empty",
        ),
        (
            PublishRequest::new("/event/Unknown__e", order::events(0..1)),
            code::NOT_FOUND,
            "topic.not.found",
        ),
        (refresh, invalid, "publish.auth.refresh.invalid"),
    ] {
        let refusal = client.publish(&request).await.unwrap_err();
        refusal.expect("Publish", code, suffix);
    }
    client.publish(&good).await.unwrap();
}

#[tokio::test]
async fn what_is_not_protobuf_is_refused() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let good = PublishRequest::new(TOPIC, order::events(0..1)).encode_to_vec();
    let odd: [(&str, &[u8]); 6] = [
        ("field 0", &[0x02, 0x00]),
        ("cut short", &[0x0a, 0x7f]),
        ("a number where the topic belongs", &[0x08, 0x01]),
        ("a topic that is not UTF-8", &[0x0a, 0x01, 0xff]),
        ("a group that is not closed", &[0x4b]),
        ("an integer that does not end", &[0xff; 11]),
    ];
    for (what, odd) in odd {
        let request = [&good, odd].concat();
        let outcome = client
            .unary_bytes::<PublishResponse>("Publish", &request)
            .await;
        let refusal = outcome.expect_err(what);
        refusal.expect(
            "Publish",
            code::INVALID_ARGUMENT,
            "publish.event.count.invalid",
        );
    }
}

#[tokio::test]
async fn unusual_protobuf_is_delivered_as_every_library_reads_it() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let good = order::event(7);
    let encoded = good.encode_to_vec();
    let unusual: [(&str, Vec<u8>); 4] = [
        (
            "an id twice: the last counts",
            [&[0x0a, 0x01, b'a'][..], &encoded].concat(),
        ),
        (
            "an unknown field",
            [&encoded, &[0x42, 0x01, b'x'][..]].concat(),
        ),
        (
            "a tag longer than needed",
            [&[0x8a, 0x00, 0x01, b'a'][..], &encoded].concat(),
        ),
        (
            "an empty id before the id",
            [&[0x0a, 0x00][..], &encoded].concat(),
        ),
    ];
    for (number, (what, event)) in unusual.iter().enumerate() {
        let request = request_around(event);
        let outcome = client
            .unary_bytes::<PublishResponse>("Publish", &request)
            .await;
        let response = outcome.expect(what);
        assert_eq!(response.results[0].error, None, "{what}");
        assert_eq!(response.results[0].correlation_key, good.id, "{what}");
        let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
        let read = call.fetch(number + 1).await;
        assert_eq!(read[number].event.as_ref(), Some(&good), "{what}");
    }

    // What no two libraries need agree on is refused, and alone.
    for (what, event) in [
        ("field 0", [&encoded, &[0x02, 0x00][..]].concat()),
        (
            "a number where the id belongs",
            [&[0x08, 0x01][..], &encoded].concat(),
        ),
        ("an id that is not UTF-8", vec![0x0a, 0x01, 0xff]),
        ("cut short", encoded[..encoded.len() - 1].to_vec()),
    ] {
        let request = [request_around(&event), request_around(&encoded)].concat();
        let outcome = client
            .unary_bytes::<PublishResponse>("Publish", &request)
            .await;
        let response = outcome.expect(what);
        let [bad, taken] = &response.results[..] else {
            panic!("{what}: two results")
        };
        assert!(bad.error.is_some() && bad.replay_id.is_empty(), "{what}");
        assert_eq!(taken.error, None, "{what}");
    }
}

fn request_around(event: &[u8]) -> Vec<u8> {
    let mut request = PublishRequest::new(TOPIC, Vec::new()).encode_to_vec();
    request.push(0x12);
    prost::encoding::encode_varint(event.len() as u64, &mut request);
    request.extend(event);
    request
}

#[tokio::test]
async fn headers_of_an_event_are_delivered_unchanged() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut event = order::event(0);
    event.headers = vec![
        EventHeader {
            key: "source".into(),
            value: vec![0, 0xff],
        },
        EventHeader {
            key: "source".into(),
            value: Vec::new(),
        },
        EventHeader::default(),
    ];
    let request = PublishRequest::new(TOPIC, vec![event.clone()]);
    let response = client.publish(&request).await.unwrap();
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    let read = call.fetch(1).await;
    assert_eq!(read[0].event, Some(event));
    assert_eq!(read[0].replay_id, response.results[0].replay_id);
}

#[tokio::test]
async fn topics_are_kept_apart() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let response = client
        .publish(&PublishRequest::new(TOPIC, order::events(0..3)))
        .await
        .unwrap();
    assert_eq!(response.schema_id, SCHEMA_ID);
    assert!(is_uuid(&response.rpc_id));
    let wrong = PublishRequest::new(OTHER_TOPIC, order::events(3..4));
    let response = client.publish(&wrong).await.unwrap();
    assert!(
        response.results[0].error.is_some(),
        "the schema is of another topic"
    );
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 3)).await;
    call.half_close();
    assert_eq!(call.fetch(3).await.len(), 3);
    call.end().await.unwrap();
}
