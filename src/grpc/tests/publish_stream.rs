//! `PublishStream`: one response for each request, in order, whatever happens.

use std::time::Duration;

use tokio::time::Instant;

use super::gateway::{
    Gateway, PublishStream, Settings, assert_failure, assert_took, earliest, publish_request,
    settle,
};
use crate::{
    broker::tests::{
        engines::{ORDERS, STATUSES, cut_short, order, orders, status},
        log_double::Behaviour,
    },
    event_log::Refusal,
    grpc::{
        Config,
        status::{Kind, kinds},
    },
    proto::raw,
    types::{Grants, limits::PUBLISH_STREAM_PIPELINE_MAX},
};

fn id(number: usize) -> [String; 1] {
    [number.to_string()]
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_one_for_one_and_in_order() {
    const COUNT: usize = 300;
    let gateway = Gateway::start().await;
    let mut stream = gateway.publish_stream().await;
    for number in 0..COUNT {
        // Later requests leave the topic out or repeat it.
        let topic = if number % 2 == 0 { ORDERS } else { "" };
        stream.publish(topic, &orders(number..number + 1));
    }
    stream.half_close();
    let mut last = None;
    for number in 0..COUNT {
        let published = stream.next().await;
        assert_eq!(published.keys(), id(number));
        let position = Some(published.positions()[0]);
        assert!(position > last);
        last = position;
    }
    stream.end().await;
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 100)).await;
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(subscriber.next().await.ids(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_half_close_is_answered_when_everything_before_it_is() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::Slow).await;
    let mut stream = gateway.publish_stream().await;
    stream.publish(ORDERS, &orders(0..1));
    stream.publish(ORDERS, &orders(1..2));
    stream.half_close();
    stream.expect_silence(Duration::from_secs(5)).await;
    gateway.engines.log.set(Behaviour::Good).await;
    assert_eq!(stream.next().await.keys(), id(0));
    assert_eq!(stream.next().await.keys(), id(1));
    stream.end().await;

    let mut silent = gateway.publish_stream().await;
    silent.half_close();
    silent.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_a_sync_but_not_without_bound() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::Slow).await;
    let mut stream = gateway.publish_stream().await;
    let count = PUBLISH_STREAM_PIPELINE_MAX + 20;
    for number in 0..count {
        stream.publish(ORDERS, &orders(number..number + 1));
    }
    settle().await;
    assert_eq!(gateway.engines.log.appends(), PUBLISH_STREAM_PIPELINE_MAX);
    gateway.engines.log.set(Behaviour::Good).await;
    for number in 0..count {
        assert_eq!(stream.next().await.keys(), id(number));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_more_is_read_while_the_log_has_no_room() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::NoRoom).await;
    let mut stream = gateway.publish_stream().await;
    for number in 0..10 {
        stream.publish(ORDERS, &orders(number..number + 1));
    }
    // Longer than a single request would wait.
    stream.expect_silence(Duration::from_secs(600)).await;
    assert_eq!(gateway.engines.log.appends(), 1);
    gateway.engines.log.set(Behaviour::Good).await;
    for number in 0..10 {
        assert_eq!(stream.next().await.keys(), id(number));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_does_not_end_the_stream() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.publish_stream().await;
    stream.publish(ORDERS, &[cut_short(order("1"))]);
    stream.publish(ORDERS, &orders(1..2));
    assert!(stream.next().await.results[0].error.is_some());
    assert_eq!(stream.next().await.keys(), id(1));
}

async fn fails_after_the_good(gateway: &Gateway, bad: raw::PublishRequest, kind: Kind) {
    gateway.engines.log.set(Behaviour::Slow).await;
    let mut stream = gateway.publish_stream().await;
    stream.publish(ORDERS, &orders(0..1));
    stream.publish(ORDERS, &orders(1..2));
    stream.send(bad);
    stream.publish(ORDERS, &orders(2..3));
    settle().await;
    gateway.engines.log.set(Behaviour::Good).await;
    assert_eq!(stream.next().await.keys(), id(0));
    assert_eq!(stream.next().await.keys(), id(1));
    assert_failure(&stream.failure().await, "PublishStream", kind);
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_ends_the_stream_when_everything_before_it_is_answered() {
    let gateway = Gateway::start().await;
    let mut bad_refresh = publish_request("", &orders(9..10));
    bad_refresh.auth_refresh = "bad".into();
    let other_tenant = gateway
        .token_of("00D000000000002".parse().unwrap(), Grants::every_topic())
        .await;
    let mut other_refresh = publish_request("", &[]);
    other_refresh.auth_refresh = other_tenant;
    for (bad, kind) in [
        (
            publish_request(STATUSES, &[status("1")]),
            kinds::PUBLISH_TOPIC_MISMATCH,
        ),
        (publish_request(ORDERS, &[]), kinds::PUBLISH_COUNT_INVALID),
        (publish_request("", &[]), kinds::PUBLISH_COUNT_INVALID),
        (bad_refresh, kinds::AUTH_REFRESH_INVALID),
        (other_refresh, kinds::AUTH_REFRESH_INVALID),
    ] {
        fails_after_the_good(&gateway, bad, kind).await;
    }
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 100)).await;
    let fetched = subscriber.next().await;
    // What came after the bad request was not published.
    assert!(!fetched.ids().contains(&"2"), "{:?}", fetched.ids());
}

#[tokio::test(start_paused = true)]
async fn a_bad_first_request_ends_the_stream() {
    let gateway = Gateway::start().await;
    let mut refresh = publish_request(ORDERS, &orders(0..1));
    refresh.auth_refresh = gateway.token.clone();
    for (first, kind) in [
        (
            publish_request("", &orders(0..1)),
            kinds::PUBLISH_TOPIC_EMPTY,
        ),
        (
            publish_request("/event/Unknown__e", &orders(0..1)),
            kinds::TOPIC_NOT_FOUND,
        ),
        (publish_request(ORDERS, &[]), kinds::PUBLISH_COUNT_INVALID),
        (refresh, kinds::PUBLISH_REFRESH_INVALID),
    ] {
        let mut stream = gateway.publish_stream().await;
        stream.send(first);
        assert_failure(&stream.failure().await, "PublishStream", kind);
    }
    let reader = Grants {
        publish: Vec::new(),
        ..Grants::every_topic()
    };
    let token = gateway.token(reader).await;
    let mut stream = PublishStream::open(&gateway, &token).await;
    stream.publish(ORDERS, &orders(0..1));
    let status = stream.failure().await;
    assert_failure(&status, "PublishStream", kinds::TOPIC_PERMISSION);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_ends_the_stream() {
    let gateway = Gateway::start().await;
    for (behaviour, words) in [
        (Behaviour::Refuse(Refusal::DiskFull), "nothing was stored"),
        (Behaviour::Unconfirmed, "may or may not have been stored"),
    ] {
        let mut stream = gateway.publish_stream().await;
        stream.publish(ORDERS, &orders(0..1));
        assert_eq!(stream.next().await.keys(), id(0));
        gateway.engines.log.set(behaviour).await;
        stream.publish(ORDERS, &orders(1..2));
        let status = stream.failure().await;
        assert_failure(&status, "PublishStream", kinds::UNAVAILABLE);
        assert!(status.message().contains(words), "{status:?}");
        gateway.engines.log.set(Behaviour::Good).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_log_waits_for_the_answers_before_it() {
    let gateway = Gateway::start().await;
    let log = &gateway.engines.log;
    log.set(Behaviour::Slow).await;
    let mut stream = gateway.publish_stream().await;
    stream.publish(ORDERS, &orders(0..1));
    settle().await;
    log.set_unanswered(Behaviour::Refuse(Refusal::DiskFull));
    stream.publish(ORDERS, &orders(1..2));
    stream.expect_silence(Duration::from_secs(5)).await;
    assert_eq!(log.appends(), 2);
    log.set(Behaviour::Good).await;
    assert_eq!(stream.next().await.keys(), id(0));
    let status = stream.failure().await;
    assert_failure(&status, "PublishStream", kinds::UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_alone_is_answered_by_an_empty_response() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.publish_stream().await;
    stream.publish(ORDERS, &orders(0..1));
    let mut refresh = publish_request("", &[]);
    refresh.auth_refresh = gateway.token.clone();
    stream.send(refresh.clone());
    refresh.events = publish_request("", &orders(1..2)).events;
    stream.send(refresh);
    assert_eq!(stream.next().await.keys(), id(0));
    let empty = stream.next().await;
    assert!(empty.results.is_empty());
    assert_eq!(empty.rpc_id.len(), 36);
    assert_eq!(stream.next().await.keys(), id(1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_events_for_half_an_hour_ends_and_hears_nothing_before() {
    let gateway = Gateway::start().await;
    let began = Instant::now();
    let mut silent = gateway.publish_stream().await;
    let status = silent.failure().await;
    assert_took(began, Duration::from_secs(1_800));
    assert_failure(&status, "PublishStream", kinds::PUBLISH_IDLE);

    let mut stream = gateway.publish_stream().await;
    tokio::time::sleep(Duration::from_secs(1_700)).await;
    stream.publish(ORDERS, &orders(0..1));
    stream.next().await;
    let published = Instant::now();
    // A fresh token is no event.
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    let mut refresh = publish_request("", &[]);
    refresh.auth_refresh = gateway.token.clone();
    stream.send(refresh);
    stream.next().await;
    let status = stream.failure().await;
    assert_took(published, Duration::from_secs(1_800));
    assert_failure(&status, "PublishStream", kinds::PUBLISH_IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waited_for_the_log_was_not_idle() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.publish_stream().await;
    gateway.engines.log.set(Behaviour::NoRoom).await;
    stream.publish(ORDERS, &orders(0..1));
    stream.expect_silence(Duration::from_secs(2_000)).await;
    gateway.engines.log.set(Behaviour::Good).await;
    assert_eq!(stream.next().await.keys(), id(0));
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    stream.publish(ORDERS, &orders(1..2));
    assert_eq!(stream.next().await.keys(), id(1));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_a_stream_may_be_idle_for_ever() {
    let settings = Settings {
        grpc: Config {
            publish_stream_idle: None,
            ..Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    let mut stream = gateway.publish_stream().await;
    stream
        .expect_silence(Duration::from_secs(30 * 86_400))
        .await;
    stream.publish(ORDERS, &orders(0..1));
    assert_eq!(stream.next().await.keys(), id(0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_was_read_and_then_ends_the_stream() {
    let gateway = Gateway::start().await;
    let mut idle = gateway.publish_stream().await;
    gateway.engines.log.set(Behaviour::Slow).await;
    let mut busy = gateway.publish_stream().await;
    busy.publish(ORDERS, &orders(0..1));
    busy.publish(ORDERS, &orders(1..2));
    settle().await;
    gateway.shutdown.begin();
    let status = idle.failure().await;
    assert_failure(&status, "PublishStream", kinds::UNAVAILABLE);
    busy.publish(ORDERS, &orders(2..3));
    busy.expect_silence(Duration::from_secs(1)).await;
    gateway.engines.log.set(Behaviour::Good).await;
    assert_eq!(busy.next().await.keys(), id(0));
    assert_eq!(busy.next().await.keys(), id(1));
    let status = busy.failure().await;
    assert_failure(&status, "PublishStream", kinds::UNAVAILABLE);
    assert_eq!(gateway.engines.log.appends(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_waits_for_its_first_message() {
    let gateway = Gateway::start().await;
    let bad = format!("{}x", gateway.token);
    let began = Instant::now();
    let mut silent = PublishStream::open(&gateway, &bad).await;
    let status = silent.failure().await;
    assert_took(began, Duration::from_secs(10));
    assert_failure(&status, "PublishStream", kinds::AUTH_ERROR);

    let began = Instant::now();
    let mut speaking = PublishStream::open(&gateway, &bad).await;
    speaking.publish(ORDERS, &orders(0..1));
    let status = speaking.failure().await;
    assert_took(began, Duration::ZERO);
    assert_failure(&status, "PublishStream", kinds::AUTH_ERROR);
}
