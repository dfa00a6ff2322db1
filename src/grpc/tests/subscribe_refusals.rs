//! `Subscribe`: requests that end the stream, each with its code.

use std::time::Duration;

use super::gateway::{Gateway, Settings, Subscriber, assert_failure, custom, earliest, latest};
use crate::{
    broker::tests::engines::{ORDERS, STATUSES, orders},
    event_log,
    grpc::status::{Kind, kinds},
    proto::FetchRequest,
    types::{Grants, Position},
};

async fn refused_first(gateway: &Gateway, first: FetchRequest, kind: Kind) -> tonic::Status {
    let mut subscriber = gateway.subscribe(first.clone()).await;
    let status = subscriber.failure().await;
    assert_failure(&status, "Subscribe", kind);
    status
}

#[tokio::test(start_paused = true)]
async fn a_first_request_asks_for_at_least_one_event() {
    let gateway = Gateway::start().await;
    for requested in [0, -1, i32::MIN] {
        let first = latest(ORDERS, requested);
        refused_first(&gateway, first, kinds::REQUESTED_EVENTS_INVALID).await;
    }
    let refresh_only = FetchRequest {
        auth_refresh: gateway.token.clone(),
        ..latest(ORDERS, 0)
    };
    refused_first(&gateway, refresh_only, kinds::REQUESTED_EVENTS_INVALID).await;
}

#[tokio::test(start_paused = true)]
async fn a_first_request_names_a_topic_that_may_be_subscribed_to() {
    let gateway = Gateway::start().await;
    refused_first(&gateway, latest("", 1), kinds::TOPIC_EMPTY).await;
    for unknown in ["/event/Unknown__e", "/event/ordercreated__e", "nonsense"] {
        refused_first(&gateway, latest(unknown, 1), kinds::TOPIC_NOT_FOUND).await;
    }
    let publisher_only = Grants {
        subscribe: vec!["/event/OrderStatus*".parse().unwrap()],
        ..Grants::every_topic()
    };
    let token = gateway.token(publisher_only).await;
    let first = Some(latest(ORDERS, 1));
    let mut subscriber = Subscriber::open(&gateway, &token, first).await;
    let status = subscriber.failure().await;
    assert_failure(&status, "Subscribe", kinds::CANNOT_SUBSCRIBE);
}

#[tokio::test(start_paused = true)]
async fn the_topic_is_looked_at_before_the_start_and_the_start_before_the_credit() {
    let gateway = Gateway::start().await;
    let future = Position::MAX.replay_id();
    let nothing_good = custom("/event/Unknown__e", future.as_bytes(), 0);
    refused_first(&gateway, nothing_good, kinds::TOPIC_NOT_FOUND).await;
    let bad_start = custom(ORDERS, future.as_bytes(), 0);
    refused_first(&gateway, bad_start, kinds::REPLAY_ID_CORRUPTED).await;
}

#[tokio::test(start_paused = true)]
async fn a_preset_that_is_none_is_refused() {
    let gateway = Gateway::start().await;
    for preset in [3, -1, i32::MAX] {
        let first = FetchRequest {
            replay_preset: preset,
            ..latest(ORDERS, 1)
        };
        refused_first(&gateway, first, kinds::FETCH_REQUEST_INVALID).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_start_takes_a_replay_id_of_this_log() {
    let gateway = Gateway::start().await;
    let published = gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let good = published.results[0].replay_id.clone();
    refused_first(&gateway, custom(ORDERS, b"", 1), kinds::REPLAY_ID_MISSING).await;

    let mut suffixed = good.to_vec();
    suffixed[9] = 1;
    let future = published.positions()[0].get() + 1;
    let future = Position::new(future).unwrap().replay_id();
    let earlier_run = Position::new(1).unwrap().replay_id();
    let mut bad: Vec<Vec<u8>> = (1..=20)
        .filter(|len| ![8, 10].contains(len))
        .map(|len| good.iter().copied().cycle().take(len).collect())
        .collect();
    bad.extend([
        suffixed,
        vec![0xff; 8],
        future.as_bytes().to_vec(),
        earlier_run.as_bytes().to_vec(),
    ]);
    for id in bad {
        let first = custom(ORDERS, &id, 1);
        let status = refused_first(&gateway, first, kinds::REPLAY_ID_CORRUPTED).await;
        assert!(status.message().contains("replay"), "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_with_purged_events_behind_it_is_refused_and_the_newest_purged_one_is_not() {
    let settings = Settings {
        log: event_log::Config {
            retention: Duration::from_secs(60),
            ..event_log::Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    let first = gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let second = gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    gateway.engines.clock.advance(Duration::from_secs(61));
    gateway.publish(ORDERS, &orders(2..3)).await.unwrap();

    let purged = &first.results[0].replay_id;
    let first = custom(ORDERS, purged, 9);
    refused_first(&gateway, first, kinds::REPLAY_ID_CORRUPTED).await;
    // Nothing of this topic was purged.
    let first = custom(STATUSES, purged, 9);
    let mut other = gateway.subscribe(first).await;
    other.expect_silence(Duration::from_secs(1)).await;
    for first in [
        custom(ORDERS, &second.results[0].replay_id, 9),
        earliest(ORDERS, 9),
    ] {
        let mut subscriber = gateway.subscribe(first).await;
        assert_eq!(subscriber.next().await.ids(), ["2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_request_asks_for_something_about_the_same_topic() {
    let gateway = Gateway::start().await;
    let other_topic = latest(STATUSES, 1);
    let bad_topic = latest("nonsense", 1);
    let nothing = latest("", 0);
    let negative = latest("", -1);
    let negative_with_refresh = FetchRequest {
        auth_refresh: gateway.token.clone(),
        ..latest("", -1)
    };
    for (later, kind) in [
        (other_topic, kinds::FETCH_TOPIC_MISMATCH),
        (bad_topic, kinds::FETCH_TOPIC_MISMATCH),
        (nothing, kinds::FETCH_REQUEST_INVALID),
        (negative, kinds::REQUESTED_EVENTS_INVALID),
        (negative_with_refresh, kinds::REQUESTED_EVENTS_INVALID),
    ] {
        let mut subscriber = gateway.subscribe(latest(ORDERS, 1)).await;
        subscriber.ask(later);
        assert_failure(&subscriber.failure().await, "Subscribe", kind);
    }
}
