//! `Subscribe`: what happens when nothing happens.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tokio::{runtime::Handle, time::Instant};
use tonic::{Streaming, codec::Codec as _};

use super::{
    gateway::{Gateway, Settings, Subscriber, assert_failure, assert_took, custom, latest, settle},
    refusals::frame,
};
use crate::{
    broker::{
        self,
        tests::engines::{ORDERS, STATUSES, orders, status},
    },
    grpc::{status::kinds, subscribe},
    proto::{FetchRequest, codec::Codec, raw},
};

const KEEPALIVE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(70);

#[tokio::test(start_paused = true)]
async fn a_stream_with_credit_hears_something_after_each_minute_of_silence() {
    let gateway = Gateway::start().await;
    let began = Instant::now();
    let mut subscriber = gateway.subscribe(latest(ORDERS, 7)).await;
    for minute in 1..=5 {
        let keepalive = subscriber.next().await;
        assert_took(began, minute * KEEPALIVE);
        assert!(keepalive.events.is_empty());
        assert_eq!(keepalive.pending, 7);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_last_response() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 7)).await;
    settle().await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(subscriber.next().await.ids(), ["0"]);
    let delivered = Instant::now();
    // Neither more credit nor events elsewhere are a response.
    tokio::time::sleep(Duration::from_secs(40)).await;
    subscriber.ask_for(3);
    let elsewhere = gateway.publish(STATUSES, &[status("1")]).await.unwrap();
    let keepalive = subscriber.next().await;
    assert_took(delivered, KEEPALIVE);
    assert!(keepalive.events.is_empty());
    assert_eq!(keepalive.pending, 9);
    assert_eq!(keepalive.latest, elsewhere.positions()[0]);
}

#[tokio::test(start_paused = true)]
async fn the_keepalive_is_what_was_configured() {
    let settings = Settings {
        broker: broker::Config {
            keepalive: Duration::from_secs(270),
            ..broker::Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    let began = Instant::now();
    let mut subscriber = gateway.subscribe(latest(ORDERS, 1)).await;
    subscriber.next().await;
    assert_took(began, Duration::from_secs(270));
}

#[tokio::test(start_paused = true)]
async fn a_keepalive_is_a_place_to_resume_from_and_nothing_is_skipped() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 10)).await;
    settle().await;
    gateway.publish(STATUSES, &[status("1")]).await.unwrap();
    let keepalive = subscriber.next().await;
    drop(subscriber);
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let id = keepalive.latest.replay_id();
    let first = custom(ORDERS, id.as_bytes(), 10);
    let mut subscriber = gateway.subscribe(first).await;
    assert_eq!(subscriber.next().await.ids(), ["0", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_credit_ends_after_the_grace_and_hears_nothing_before() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 2)).await;
    settle().await;
    gateway.publish(ORDERS, &orders(0..5)).await.unwrap();
    let fetched = subscriber.next().await;
    assert_eq!((fetched.ids(), fetched.pending), (vec!["0", "1"], 0));
    let spent = Instant::now();
    let status = subscriber.failure().await;
    assert_took(spent, GRACE);
    assert_failure(&status, "Subscribe", kinds::SUBSCRIPTION_IDLE);
    assert!(status.message().contains("70s"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn credit_within_the_grace_keeps_the_stream() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 1)).await;
    settle().await;
    for number in 0..5 {
        let event = orders(number..number + 1);
        gateway.publish(ORDERS, &event).await.unwrap();
        assert_eq!(subscriber.next().await.pending, 0);
        subscriber
            .expect_silence(GRACE - Duration::from_secs(1))
            .await;
        subscriber.ask_for(1);
        settle().await;
    }
    // From then on the stream has credit, and the keepalive counts.
    let granted = Instant::now();
    assert!(subscriber.next().await.events.is_empty());
    assert_took(granted, KEEPALIVE - Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_a_stream_without_credit_is_kept_for_ever() {
    let settings = Settings {
        broker: broker::Config {
            zero_credit_grace: None,
            ..broker::Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 1)).await;
    settle().await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    assert_eq!(subscriber.next().await.ids(), ["0"]);
    subscriber
        .expect_silence(Duration::from_secs(30 * 86_400))
        .await;
    subscriber.ask_for(1);
    assert_eq!(subscriber.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_not_credit() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 1)).await;
    settle().await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    subscriber.next().await;
    let spent = Instant::now();
    tokio::time::sleep(Duration::from_secs(30)).await;
    subscriber.ask(FetchRequest {
        auth_refresh: gateway.token.clone(),
        ..FetchRequest::default()
    });
    let status = subscriber.failure().await;
    assert_took(spent, GRACE);
    assert_failure(&status, "Subscribe", kinds::SUBSCRIPTION_IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_the_first_message_or_ten_seconds() {
    let gateway = Gateway::start().await;
    let bad = format!("{}x", gateway.token);
    let began = Instant::now();
    let mut silent = Subscriber::open(&gateway, &bad, None).await;
    let status = silent.failure().await;
    assert_took(began, Duration::from_secs(10));
    assert_failure(&status, "Subscribe", kinds::AUTH_ERROR);
    assert!(
        status
            .message()
            .contains("authentication exception occurred")
    );

    let began = Instant::now();
    let mut speaking = Subscriber::open(&gateway, &bad, None).await;
    speaking.expect_silence(Duration::from_secs(4)).await;
    speaking.ask(latest(ORDERS, 1));
    assert_failure(&speaking.failure().await, "Subscribe", kinds::AUTH_ERROR);
    assert_took(began, Duration::from_secs(4));

    let began = Instant::now();
    let mut closing = Subscriber::open(&gateway, &bad, None).await;
    closing.half_close();
    assert_failure(&closing.failure().await, "Subscribe", kinds::AUTH_ERROR);
    assert_took(began, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn headers_come_before_the_first_request_and_a_request_may_take_its_time() {
    let gateway = Gateway::start().await;
    let began = Instant::now();
    let mut subscriber = Subscriber::open(&gateway, &gateway.token, None).await;
    assert_took(began, Duration::ZERO);
    subscriber.expect_silence(Duration::from_secs(600)).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    subscriber.ask(latest(ORDERS, 1));
    settle().await;
    gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    assert_eq!(subscriber.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_every_subscription_so_that_clients_come_back() {
    let gateway = Gateway::start().await;
    let mut waiting = Subscriber::open(&gateway, &gateway.token, None).await;
    let mut idle = gateway.subscribe(latest(ORDERS, 5)).await;
    let mut spent = gateway.subscribe(latest(ORDERS, 1)).await;
    let mut closed = gateway.subscribe(latest(ORDERS, 5)).await;
    closed.half_close();
    settle().await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    for subscriber in [&mut idle, &mut spent, &mut closed] {
        assert_eq!(subscriber.next().await.ids(), ["0"]);
    }
    let began = Instant::now();
    gateway.shutdown.begin();
    for subscriber in [&mut waiting, &mut idle, &mut spent, &mut closed] {
        let status = subscriber.failure().await;
        assert_failure(&status, "Subscribe", kinds::SUBSCRIPTION_STOPPING);
    }
    assert_took(began, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_refused_stream() {
    let gateway = Gateway::start().await;
    let bad = format!("{}x", gateway.token);
    let mut refused = Subscriber::open(&gateway, &bad, None).await;
    settle().await;
    let began = Instant::now();
    gateway.shutdown.begin();
    assert_failure(&refused.failure().await, "Subscribe", kinds::AUTH_ERROR);
    assert_took(began, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_is_small_and_has_no_task() {
    let gateway = Gateway::start().await;
    let path = "/eventbus.v1.PubSub/Subscribe";
    let call = super::status::call(path, gateway.call(()).metadata()).await;
    let first = frame(&latest(ORDERS, 5).encode_to_vec());
    let first = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from(first)))]);
    let body = StreamBody::new(first.chain(stream::pending()));
    let decoder = Codec::<raw::FetchResponse, FetchRequest>::default().decoder();
    let requests = Streaming::new_request(decoder, body, None, None);

    settle().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut responses = Box::pin(subscribe::responses(
        gateway.pub_sub.clone(),
        call,
        requests,
    ));
    assert!(
        size_of_val(&*responses) <= 4_096,
        "{}",
        size_of_val(&*responses)
    );
    let keepalive = responses.next().await.unwrap().unwrap();
    assert_eq!(keepalive.pending_num_requested, 5);
    assert!(responses.next().now_or_never().is_none());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}
