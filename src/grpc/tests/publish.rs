//! `Publish`: one result for each event, or one refusal for all.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::gateway::{
    Gateway, Published, assert_failure, assert_took, call_by, earliest, latest, publish_request,
    settle,
};
use crate::{
    broker::tests::{
        engines::{
            OLD_ORDER_SCHEMA, ORDER_SCHEMA_ID, ORDERS, STATUS_SCHEMA, STATUSES, cut_short,
            large_order, old_order, order, orders, schema_id, status,
        },
        log_double::Behaviour,
    },
    event_log::Refusal,
    grpc::status::{Kind, kinds},
    proto::{ErrorCode, ProducerEvent, PublishResult, raw::Repeated},
    types::{
        Grants,
        limits::{EVENT_BYTES_MAX, EVENTS_PER_REQUEST_MAX},
    },
};

fn with_id(id: impl Into<String>, event: ProducerEvent) -> ProducerEvent {
    ProducerEvent {
        id: id.into(),
        ..event
    }
}

#[track_caller]
fn assert_refused<'a>(result: &'a PublishResult, key: &str) -> &'a str {
    assert!(result.replay_id.is_empty(), "{result:?}");
    assert_eq!(result.correlation_key, key);
    let error = result.error.as_ref().expect("an error");
    assert_eq!(error.code(), ErrorCode::Publish);
    assert!(!error.msg.is_empty());
    &error.msg
}

#[track_caller]
fn assert_stored(published: &Published, index: usize) {
    let result = &published.results[index];
    assert_eq!(result.error, None);
    assert_eq!(result.replay_id.len(), 10);
}

async fn failure(gateway: &Gateway, topic: &str, events: &[ProducerEvent], kind: Kind) -> String {
    let status = gateway.publish(topic, events).await.unwrap_err();
    assert_failure(&status, "Publish", kind);
    status.message().to_owned()
}

#[tokio::test(start_paused = true)]
async fn each_event_has_its_result_in_its_place() {
    let gateway = Gateway::start().await;
    let events = [
        with_id("first", order("1")),
        with_id("bad", cut_short(order("2"))),
        order("3"),
        cut_short(order("4")),
        with_id("last", order("5")),
    ];
    let published = gateway.publish(ORDERS, &events).await.unwrap();
    assert_eq!(published.results.len(), 5);
    assert_eq!(published.schema_id, ORDER_SCHEMA_ID);
    published.rpc_id.parse::<Uuid>().unwrap();
    for index in [0, 2, 4] {
        assert_stored(&published, index);
    }
    let keys = published.keys();
    assert_eq!((keys[0], keys[4]), ("first", "last"));
    let made: Uuid = keys[2].parse().unwrap();
    assert_eq!(made.to_string(), keys[2]);
    let reason = assert_refused(&published.results[1], "bad");
    assert!(reason.contains("Priority__c"), "{reason}");
    assert_refused(&published.results[3], "");

    let mut subscriber = gateway.subscribe(earliest(ORDERS, 9)).await;
    let fetched = subscriber.next().await;
    assert_eq!(fetched.ids(), ["first", keys[2], "last"]);
    let replay_ids = fetched.events.iter().map(|event| &event.replay_id);
    let expected = [0, 2, 4].map(|index| &published.results[index].replay_id);
    assert!(replay_ids.eq(expected));
}

#[tokio::test(start_paused = true)]
async fn ids_are_made_for_each_event_without_one() {
    let gateway = Gateway::start().await;
    let events = vec![order("1"); 300];
    let published = gateway.publish(ORDERS, &events).await.unwrap();
    let mut keys = published.keys();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn an_id_has_at_most_36_characters() {
    let gateway = Gateway::start().await;
    let longest = "é".repeat(36);
    let events = [
        with_id(&longest, order("1")),
        with_id("i".repeat(37), order("2")),
        with_id("same", order("3")),
        with_id("same", order("4")),
    ];
    let published = gateway.publish(ORDERS, &events).await.unwrap();
    assert_stored(&published, 0);
    assert_eq!(published.keys()[0], longest);
    let reason = assert_refused(&published.results[1], "");
    assert!(reason.contains("37"), "{reason}");
    // The gateway does not tell publishers' duplicates apart.
    assert_stored(&published, 2);
    assert_stored(&published, 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_written_with_a_schema_of_its_topic() {
    let gateway = Gateway::start().await;
    let with_schema = |id: &str| ProducerEvent {
        schema_id: id.into(),
        ..order("1")
    };
    let events = [
        with_schema("AAAAAAAAAAAAAAAAAAAAAA"),
        with_schema("not a schema id"),
        with_schema(""),
        with_schema(&schema_id(STATUS_SCHEMA)),
        old_order("5"),
    ];
    let published = gateway.publish(ORDERS, &events).await.unwrap();
    for index in 0..4 {
        assert_refused(&published.results[index], "");
    }
    assert_stored(&published, 4);
}

#[tokio::test(start_paused = true)]
async fn the_response_names_the_schema_that_was_written_with() {
    let gateway = Gateway::start().await;
    let old = schema_id(OLD_ORDER_SCHEMA);
    let bad = || cut_short(order("bad"));
    for (events, expected) in [
        (vec![order("1"), order("2")], ORDER_SCHEMA_ID),
        (vec![old_order("1"), bad(), old_order("2")], &*old),
        (vec![old_order("1"), order("2")], ORDER_SCHEMA_ID),
        (vec![bad()], ORDER_SCHEMA_ID),
    ] {
        let published = gateway.publish(ORDERS, &events).await.unwrap();
        assert_eq!(published.schema_id, expected);
    }
    let published = gateway.publish(STATUSES, &[status("1")]).await.unwrap();
    assert_eq!(published.schema_id, schema_id(STATUS_SCHEMA));
}

#[tokio::test(start_paused = true)]
async fn unusual_protobuf_is_delivered_in_the_usual_spelling() {
    let gateway = Gateway::start().await;
    let event = order("1");
    let encoded = prost::Message::encode_to_vec(&event);
    // An id that a second one replaces, around an unknown field.
    let odd = [&b"\x0a\x05first\x50\x01"[..], &encoded, b"\x0a\x06second"].concat();
    let malformed = [&b"\x0a\x03bad\x0f"[..], &encoded].concat();
    let mut request = publish_request(ORDERS, &[]);
    request.events = Repeated::of([odd, malformed, encoded]);
    let request = gateway.call(request);
    let response = gateway.client.clone().publish(request).await.unwrap();
    let results = response.into_inner().results;
    let results: Vec<PublishResult> = results
        .values()
        .iter()
        .map(|result| prost::Message::decode(result).unwrap())
        .collect();
    assert_eq!(results[0].error, None);
    assert_eq!(results[0].correlation_key, "second");
    assert_refused(&results[1], "bad");
    assert_eq!(results[2].error, None);

    let mut subscriber = gateway.subscribe(earliest(ORDERS, 9)).await;
    let fetched = subscriber.next().await;
    assert_eq!(fetched.events.len(), 2);
    let delivered = fetched.events[0].event.clone().unwrap();
    assert_eq!(delivered, with_id("second", event));
}

#[tokio::test(start_paused = true)]
async fn an_event_has_at_most_a_mebibyte() {
    let gateway = Gateway::start().await;
    let len = |event: &ProducerEvent| prost::Message::encoded_len(event);
    let overhead = len(&large_order(0, 1_000_000)) - 1_000_000;
    let largest = large_order(0, EVENT_BYTES_MAX - overhead);
    let larger = large_order(1, EVENT_BYTES_MAX - overhead + 1);
    assert_eq!(
        (len(&largest), len(&larger)),
        (EVENT_BYTES_MAX, EVENT_BYTES_MAX + 1)
    );
    let events = [largest.clone(), larger, order("small")];
    let published = gateway.publish(ORDERS, &events).await.unwrap();
    assert_stored(&published, 0);
    assert_refused(&published.results[1], "1");
    assert_stored(&published, 2);
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 9)).await;
    let fetched = subscriber.next().await;
    assert_eq!(fetched.events[0].event.as_ref(), Some(&largest));
}

#[tokio::test(start_paused = true)]
async fn a_request_has_some_events_and_not_too_many() {
    let gateway = Gateway::start().await;
    failure(&gateway, ORDERS, &[], kinds::PUBLISH_COUNT_INVALID).await;
    let many = vec![ProducerEvent::default(); EVENTS_PER_REQUEST_MAX + 1];
    let message = failure(&gateway, ORDERS, &many, kinds::PUBLISH_COUNT_INVALID).await;
    assert!(
        message.contains("10000") && message.contains("10001"),
        "{message}"
    );
    let most = &many[1..];
    let published = gateway.publish(ORDERS, most).await.unwrap();
    assert_eq!(published.results.len(), most.len());
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_named_known_and_allowed() {
    let gateway = Gateway::start().await;
    let one = [order("1")];
    failure(&gateway, "", &one, kinds::PUBLISH_TOPIC_EMPTY).await;
    for unknown in ["/event/Unknown__e", "nonsense"] {
        failure(&gateway, unknown, &one, kinds::TOPIC_NOT_FOUND).await;
    }
    for channel in ["/event/Orders__chn", "/data/ChangeEvents"] {
        failure(&gateway, channel, &one, kinds::TOPIC_PERMISSION).await;
    }
    let reader = Grants {
        publish: vec!["/event/OrderStatus*".parse().unwrap()],
        ..Grants::every_topic()
    };
    let token = gateway.token(reader).await;
    let publish = |topic, event| {
        let request = call_by(&token, publish_request(topic, &[event]));
        let mut client = gateway.client.clone();
        async move { client.publish(request).await }
    };
    publish(STATUSES, status("1")).await.unwrap();
    let status = publish(ORDERS, order("1")).await.unwrap_err();
    assert_failure(&status, "Publish", kinds::TOPIC_PERMISSION);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_has_no_place_in_a_single_request() {
    let gateway = Gateway::start().await;
    let mut request = publish_request(ORDERS, &orders(0..1));
    request.auth_refresh = gateway.token.clone();
    let request = gateway.call(request);
    let status = gateway.client.clone().publish(request).await.unwrap_err();
    assert_failure(&status, "Publish", kinds::PUBLISH_REFRESH_INVALID);
}

#[tokio::test(start_paused = true)]
async fn a_log_without_room_is_waited_for_two_seconds_and_stores_nothing_afterwards() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 9)).await;
    settle().await;
    gateway.engines.log.set(Behaviour::NoRoom).await;
    let began = Instant::now();
    let message = failure(&gateway, ORDERS, &orders(0..1), kinds::PROTECTION).await;
    assert_took(began, Duration::from_secs(2));
    assert!(message.contains("nothing was stored"), "{message}");
    gateway.engines.log.set(Behaviour::Good).await;
    gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    assert_eq!(subscriber.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn room_within_the_wait_is_taken_and_the_sync_is_waited_for_as_long_as_it_takes() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::NoRoom).await;
    let began = Instant::now();
    let events = orders(0..1);
    let publishing = gateway.publish(ORDERS, &events);
    let making_room = async {
        tokio::time::sleep(Duration::from_millis(1_900)).await;
        gateway.engines.log.set(Behaviour::Slow).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        gateway.engines.log.set(Behaviour::Good).await;
    };
    let (published, ()) = tokio::join!(publishing, making_room);
    assert_stored(&published.unwrap(), 0);
    assert_took(began, Duration::from_millis(61_900));
}

#[tokio::test(start_paused = true)]
async fn what_a_log_refused_was_not_stored_and_is_said_so() {
    let gateway = Gateway::start().await;
    for refusal in [Refusal::DiskFull, Refusal::Poisoned, Refusal::Closed] {
        gateway.engines.log.set(Behaviour::Refuse(refusal)).await;
        let message = failure(&gateway, ORDERS, &orders(0..1), kinds::UNAVAILABLE).await;
        assert!(message.contains("nothing was stored"), "{message}");
        assert!(message.contains(&refusal.to_string()), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_stored_is_said_so() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::Unconfirmed).await;
    let message = failure(&gateway, ORDERS, &orders(0..1), kinds::UNAVAILABLE).await;
    assert!(
        message.contains("may or may not have been stored"),
        "{message}"
    );
    assert!(message.contains("same ids"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn of_a_request_that_was_stored_in_part_each_event_tells() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::FirstBodyOnly).await;
    // Each of the large events makes a body of its own.
    let events = [
        large_order(0, 200_000),
        cut_short(large_order(1, 10)),
        large_order(2, 200_000),
    ];
    let published = gateway.publish(ORDERS, &events).await.unwrap();
    assert_stored(&published, 0);
    assert_refused(&published.results[1], "1");
    let reason = assert_refused(&published.results[2], "2");
    assert!(
        reason.contains("may or may not have been stored"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_nothing_is_good_does_not_reach_the_log() {
    let gateway = Gateway::start().await;
    gateway
        .engines
        .log
        .set(Behaviour::Refuse(Refusal::DiskFull))
        .await;
    let bad = [cut_short(order("1"))];
    let published = gateway.publish(ORDERS, &bad).await.unwrap();
    assert_refused(&published.results[0], "");
    assert_eq!(gateway.engines.log.appends(), 0);
}
