//! `Subscribe` with `tidegate-from`: where it begins, what is refused, and what is echoed.

use std::time::Duration;

use futures_util::stream;

use super::gateway::{
    Gateway, Settings, Subscriber, assert_failure, call_by, custom, earliest, latest,
};
use crate::{
    broker::tests::{
        engines::{ORDERS, orders},
        log_double::Behaviour,
    },
    event_log,
    grpc::status::kinds,
    proto::{FROM_METADATA, FetchRequest},
};

/// A stream that is to begin `from` some time.
async fn subscribe(gateway: &Gateway, from: &str, first: FetchRequest) -> Subscriber {
    let mut call = call_by(&gateway.token, ());
    call.metadata_mut()
        .insert(FROM_METADATA, from.parse().unwrap());
    Subscriber::with_headers(gateway, call.metadata(), Some(first)).await
}

fn is_echoed(subscriber: &Subscriber) -> bool {
    subscriber
        .headers
        .get(FROM_METADATA)
        .is_some_and(|echo| echo == "1")
}

/// The reason why a stream ends that begins `from` some time.
async fn refusal(gateway: &Gateway, from: &str) -> String {
    let mut subscriber = subscribe(gateway, from, latest(ORDERS, 1)).await;
    let status = subscriber.failure().await;
    assert_failure(&status, "Subscribe", kinds::FETCH_REQUEST_INVALID);
    status.message().to_owned()
}

/// A gateway with an event every ten seconds: the first at 2023-11-14T22:13:20Z.
async fn gateway() -> Gateway {
    let gateway = Gateway::start().await;
    for number in 0..5 {
        gateway
            .publish(ORDERS, &orders(number..number + 1))
            .await
            .unwrap();
        gateway.engines.clock.advance(Duration::from_secs(10));
    }
    gateway
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_at_the_time_it_asks_for() {
    let gateway = gateway().await;
    for (from, ids) in [
        ("-50s", &["0", "1", "2", "3", "4"][..]),
        ("-20s", &["3", "4"]),
        ("-19s999ms", &["4"]),
        ("2023-11-14T22:13:40Z", &["2", "3", "4"]),
        ("2023-11-14T23:13:40.001+01:00", &["3", "4"]),
        ("2023-11-14T22:14Z", &["4"]),
        ("2001-01-01T00:00Z", &["0", "1", "2", "3", "4"]),
    ] {
        for first in [latest(ORDERS, 9), earliest(ORDERS, 9)] {
            let mut subscriber = subscribe(&gateway, from, first).await;
            assert!(is_echoed(&subscriber), "{from}");
            assert_eq!(subscriber.next().await.ids(), ids, "{from}");
        }
    }
    let mut now = subscribe(&gateway, "-0s", latest(ORDERS, 9)).await;
    now.expect_silence(Duration::from_secs(1)).await;
    gateway.publish(ORDERS, &orders(5..6)).await.unwrap();
    assert_eq!(now.next().await.ids(), ["5"]);
}

#[tokio::test(start_paused = true)]
async fn a_replay_id_wins_so_that_a_client_that_comes_back_keeps_its_place() {
    let gateway = gateway().await;
    let mut before = subscribe(&gateway, "-20s", latest(ORDERS, 1)).await;
    let last = before.next().await.latest.replay_id();
    let first = custom(ORDERS, last.as_bytes(), 9);
    // Also if the time is one that could not be had any more.
    for from in ["-20s", "2100-01-01T00:00Z"] {
        let mut again = subscribe(&gateway, from, first.clone()).await;
        assert!(is_echoed(&again));
        assert_eq!(again.next().await.ids(), ["4"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_time_is_refused_and_not_echoed() {
    let gateway = gateway().await;
    for from in ["", "yesterday", "15m", "-15", "2026-01-01", "latest"] {
        let reason = refusal(&gateway, from).await;
        assert!(reason.contains("2026-01-01T00:00:00Z, or -15m"), "{reason}");
        let subscriber = subscribe(&gateway, from, latest(ORDERS, 1)).await;
        assert!(!is_echoed(&subscriber));
    }
    let mut call = call_by(&gateway.token, ());
    for from in ["-1m", "-2m"] {
        call.metadata_mut()
            .append(FROM_METADATA, from.parse().unwrap());
    }
    let first = Some(latest(ORDERS, 1));
    let mut twice = Subscriber::with_headers(&gateway, call.metadata(), first).await;
    assert!(twice.failure().await.message().contains("more than once"));
    assert!(
        !is_echoed(&gateway.subscribe(latest(ORDERS, 1)).await),
        "nor asked for"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_to_come_is_refused_with_the_time_it_is() {
    let gateway = gateway().await;
    let reason = refusal(&gateway, "2023-11-14T22:14:10.001Z").await;
    assert!(
        reason.contains("is in the future: it is 2023-11-14T22:14:10Z"),
        "{reason}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_that_retention_has_passed_is_refused_with_the_oldest_that_is_left() {
    let settings = Settings {
        log: event_log::Config {
            retention: Duration::from_secs(60),
            ..event_log::Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    gateway.engines.clock.advance(Duration::from_secs(61));
    gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    let reason = refusal(&gateway, "-2h").await;
    let oldest = "2023-11-14T22:13:20.001Z";
    assert!(
        reason.contains(&format!("ask for {oldest} or later")),
        "{reason}"
    );
    let mut subscriber = subscribe(&gateway, oldest, latest(ORDERS, 9)).await;
    assert_eq!(subscriber.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_managed_subscription_has_a_position_and_takes_no_time() {
    let gateway = gateway().await;
    for from in ["-1m", "yesterday"] {
        let mut call = call_by(&gateway.token, stream::pending());
        let metadata = call.metadata_mut();
        metadata.insert(FROM_METADATA, from.parse().unwrap());
        let answer = gateway.client.clone().managed_subscribe(call).await;
        assert!(!answer.unwrap().metadata().contains_key(FROM_METADATA));
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_ends_the_stream_as_at_any_other_time() {
    let gateway = gateway().await;
    gateway.engines.log.set(Behaviour::Unreadable).await;
    let mut subscriber = subscribe(&gateway, "-1m", latest(ORDERS, 1)).await;
    let status = subscriber.failure().await;
    assert_failure(&status, "Subscribe", kinds::SUBSCRIPTION_INTERNAL);
}
