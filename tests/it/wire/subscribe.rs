//! `Subscribe`: the credit of a stream, and requests that end it.

use crate::support::{
    client::{Client, code, is_uuid},
    gateway::{Gateway, Settings},
    order::{self, OTHER_TOPIC, TOPIC},
    wire::{FetchRequest, PublishRequest},
};

async fn publish(client: &Client, numbers: std::ops::Range<usize>) {
    let request = PublishRequest::new(TOPIC, order::events(numbers));
    let response = client.publish(&request).await.unwrap();
    assert!(response.results.iter().all(|result| result.error.is_none()));
}

#[tokio::test]
async fn headers_come_before_the_first_message_is_sent() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut call = client.call("Subscribe").await;
    assert_eq!(call.headers().await["content-type"], "application/grpc");
    publish(&client, 0..1).await;
    call.send(&FetchRequest::earliest(TOPIC, 1));
    call.fetch(1).await;
}

#[tokio::test]
async fn a_first_request_asks_for_at_least_one_event() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    publish(&client, 0..200).await;
    for asked in [0, -1, i32::MIN] {
        let mut call = client
            .subscribe(&FetchRequest::earliest(TOPIC, asked))
            .await;
        let suffix = "subscription.fetch.requested.events.invalid";
        call.failure()
            .await
            .expect("Subscribe", code::INVALID_ARGUMENT, suffix);
    }
    for asked in [i32::MAX, 101] {
        let mut call = client
            .subscribe(&FetchRequest::earliest(TOPIC, asked))
            .await;
        call.half_close();
        call.fetch(100).await;
        call.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_first_request_names_a_topic_that_there_is() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for (topic, code, suffix) in [
        ("/event/Unknown__e", code::NOT_FOUND, "topic.not.found"),
        ("", code::INVALID_ARGUMENT, "topic.validation.empty"),
    ] {
        let mut call = client.subscribe(&FetchRequest::earliest(topic, 1)).await;
        call.failure().await.expect("Subscribe", code, suffix);
    }
}

#[tokio::test]
async fn a_later_request_that_makes_no_sense_ends_the_stream() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    publish(&client, 0..3).await;
    let refresh = FetchRequest {
        auth_refresh: "bad".into(),
        ..FetchRequest::default()
    };
    for (request, code, suffix) in [
        (
            FetchRequest {
                topic_name: OTHER_TOPIC.into(),
                ..FetchRequest::more(1)
            },
            code::INVALID_ARGUMENT,
            "subscription.fetch.topic.mismatch",
        ),
        (
            FetchRequest::more(0),
            code::INVALID_ARGUMENT,
            "subscription.fetch.request.invalid",
        ),
        (
            FetchRequest::more(-1),
            code::INVALID_ARGUMENT,
            "subscription.fetch.requested.events.invalid",
        ),
        (
            refresh,
            code::UNAUTHENTICATED,
            "service.auth.refresh.invalid",
        ),
    ] {
        let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
        call.fetch(1).await;
        call.send(&request);
        call.failure().await.expect("Subscribe", code, suffix);
    }
}

#[tokio::test]
async fn a_later_request_repeats_the_topic_or_leaves_it_out() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    publish(&client, 0..4).await;
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    call.fetch(1).await;
    call.send(&FetchRequest::more(1));
    call.fetch(1).await;
    call.send(&FetchRequest {
        topic_name: TOPIC.into(),
        ..FetchRequest::more(1)
    });
    call.fetch(1).await;
    // A good refresh needs no credit with it.
    let auth_refresh = gateway.ready().access_token.clone();
    call.send(&FetchRequest {
        auth_refresh,
        ..FetchRequest::default()
    });
    call.send(&FetchRequest::more(1));
    call.fetch(1).await;
}

#[tokio::test]
async fn what_is_not_a_fetch_request_ends_the_stream() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    publish(&client, 0..1).await;
    for is_first in [true, false] {
        let mut call = client.call("Subscribe").await;
        if !is_first {
            call.send(&FetchRequest::earliest(TOPIC, 2));
            call.fetch(1).await;
        }
        call.send_bytes(&[0x0a, 0x7f]);
        let suffix = "subscription.fetch.request.invalid";
        call.failure()
            .await
            .expect("Subscribe", code::INVALID_ARGUMENT, suffix);
    }
}

#[tokio::test]
async fn a_stream_without_a_request_ends_with_its_half_close() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut call = client.call("Subscribe").await;
    call.headers().await;
    call.half_close();
    call.end().await.unwrap();
}

#[tokio::test]
async fn an_idle_stream_is_told_that_it_lives() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_BROKER__KEEPALIVE", "200ms")],
    });
    let client = Client::connect(&gateway).await;
    let mut call = client.subscribe(&FetchRequest::latest(TOPIC, 60)).await;
    call.send(&FetchRequest::more(60));
    let mut latest = Vec::new();
    for _ in 0..3 {
        let response = call.fetched().await;
        assert_eq!(response.events, []);
        assert_eq!(response.latest_replay_id.len(), 10);
        assert_eq!(
            response.pending_num_requested, 100,
            "sixty and sixty are a hundred"
        );
        assert!(is_uuid(&response.rpc_id));
        latest = response.latest_replay_id;
    }
    // What it says is an id to go on from.
    publish(&client, 0..1).await;
    let mut resumed = client
        .subscribe(&FetchRequest::custom(TOPIC, &latest, 1))
        .await;
    assert_eq!(resumed.fetch(1).await.len(), 1);
}

#[tokio::test]
async fn a_stream_without_credit_ends_after_a_grace() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_BROKER__ZERO_CREDIT_GRACE", "300ms")],
    });
    let client = Client::connect(&gateway).await;
    publish(&client, 0..2).await;
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    let response = call.fetched().await;
    assert_eq!(
        (response.events.len(), response.pending_num_requested),
        (1, 0)
    );
    let ended = call.failure().await;
    ended.expect(
        "Subscribe",
        code::DEADLINE_EXCEEDED,
        "subscription.internal.error",
    );
}
