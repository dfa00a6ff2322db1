//! `PublishStream`: one response for each request, in order, until something ends the stream.

use crate::support::{
    client::{Call, Client, code},
    gateway::{Gateway, Settings},
    order::{self, OTHER_TOPIC, TOPIC},
    wire::{FetchRequest, PublishRequest, PublishResponse},
};

async fn stream(gateway: &Gateway) -> (Client, Call) {
    let client = Client::connect(gateway).await;
    let call = client.call("PublishStream").await;
    (client, call)
}

#[tokio::test]
async fn every_request_is_answered_in_order_and_then_ok() {
    let gateway = Gateway::start();
    let (client, mut call) = stream(&gateway).await;
    for number in 0..50 {
        // Later requests repeat the topic or leave it out.
        let topic = if number % 2 == 0 { TOPIC } else { "" };
        call.send(&PublishRequest::new(
            topic,
            order::events(number * 4..number * 4 + 4),
        ));
    }
    call.half_close();
    let mut replay_ids = Vec::new();
    for number in 0..50 {
        let response: PublishResponse = call.next().await.unwrap().expect("50 responses");
        for (result, at) in response.results.iter().zip(number * 4..) {
            assert_eq!(result.correlation_key, format!("order-{at}"));
            replay_ids.push(result.replay_id.clone());
        }
    }
    call.end().await.unwrap();
    assert_eq!(replay_ids.len(), 200);
    assert!(
        replay_ids.is_sorted_by(|a, b| a < b),
        "in the order of the requests"
    );

    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
    let read = call.fetch(100).await;
    assert!(
        read.iter()
            .zip(&replay_ids)
            .all(|(event, id)| event.replay_id == *id)
    );
}

#[tokio::test]
async fn nothing_comes_unasked() {
    let gateway = Gateway::ephemeral();
    let (_, mut call) = stream(&gateway).await;
    call.headers().await;
    call.half_close();
    call.end().await.unwrap();
}

#[tokio::test]
async fn a_bad_event_does_not_end_the_stream() {
    let gateway = Gateway::ephemeral();
    let (_, mut call) = stream(&gateway).await;
    let mut bad = order::event(0);
    bad.payload.clear();
    call.send(&PublishRequest::new(TOPIC, vec![bad]));
    call.send(&PublishRequest::new(TOPIC, order::events(1..2)));
    call.half_close();
    for is_bad in [true, false] {
        let response: PublishResponse = call.next().await.unwrap().expect("two responses");
        assert_eq!(response.results[0].error.is_some(), is_bad);
    }
    call.end().await.unwrap();
}

#[tokio::test]
async fn a_request_that_makes_no_sense_ends_the_stream_after_what_came_before() {
    let gateway = Gateway::ephemeral();
    let invalid = code::INVALID_ARGUMENT;
    let good = PublishRequest::new(TOPIC, order::events(0..1));
    for (request, code, suffix) in [
        (
            PublishRequest::new(OTHER_TOPIC, order::events(0..1)),
            invalid,
            "publish.topic.mismatch",
        ),
        (
            PublishRequest::new(TOPIC, Vec::new()),
            invalid,
            "publish.event.count.invalid",
        ),
        (
            PublishRequest::default(),
            invalid,
            "publish.event.count.invalid",
        ),
        (
            PublishRequest {
                auth_refresh: "bad".into(),
                ..PublishRequest::default()
            },
            code::UNAUTHENTICATED,
            "service.auth.refresh.invalid",
        ),
    ] {
        let (_, mut call) = stream(&gateway).await;
        call.send(&good);
        call.send(&request);
        call.next::<PublishResponse>()
            .await
            .unwrap()
            .expect("the first is answered");
        call.failure().await.expect("PublishStream", code, suffix);
    }
}

#[tokio::test]
async fn a_first_request_that_makes_no_sense_ends_the_stream() {
    let gateway = Gateway::ephemeral();
    let events = || order::events(0..1);
    let invalid = code::INVALID_ARGUMENT;
    let refresh = PublishRequest {
        auth_refresh: "token".into(),
        ..PublishRequest::new(TOPIC, events())
    };
    for (request, code, suffix) in [
        (
            PublishRequest::new("", events()),
            invalid,
            "publish.topic.validation.empty",
        ),
        (
            PublishRequest::new(TOPIC, Vec::new()),
            invalid,
            "publish.event.count.invalid",
        ),
        (
            PublishRequest::new("/event/No__e", events()),
            code::NOT_FOUND,
            "topic.not.found",
        ),
        (refresh, invalid, "publish.auth.refresh.invalid"),
    ] {
        let (_, mut call) = stream(&gateway).await;
        call.send(&request);
        call.failure().await.expect("PublishStream", code, suffix);
    }
}

#[tokio::test]
async fn a_good_refresh_goes_on() {
    let gateway = Gateway::ephemeral();
    let (_, mut call) = stream(&gateway).await;
    let auth_refresh = gateway.ready().access_token.clone();
    call.send(&PublishRequest::new(TOPIC, order::events(0..1)));
    call.send(&PublishRequest {
        auth_refresh,
        ..PublishRequest::new("", order::events(1..2))
    });
    call.half_close();
    for _ in 0..2 {
        let response: PublishResponse = call.next().await.unwrap().expect("two responses");
        assert_eq!(response.results[0].error, None);
    }
    call.end().await.unwrap();
}

#[tokio::test]
async fn what_is_too_large_or_not_protobuf_ends_the_stream() {
    let gateway = Gateway::ephemeral();
    let (_, mut call) = stream(&gateway).await;
    call.send(&PublishRequest::new(TOPIC, order::events(0..1)));
    call.next::<PublishResponse>()
        .await
        .unwrap()
        .expect("the first is answered");
    call.send_bytes(&vec![0; (4 << 20) + 1]);
    let refusal = call.failure().await;
    refusal.expect(
        "PublishStream",
        code::RESOURCE_EXHAUSTED,
        "service.protection.triggered",
    );

    for before in [0, 1] {
        let (_, mut call) = stream(&gateway).await;
        for number in 0..before {
            call.send(&PublishRequest::new(
                TOPIC,
                order::events(number..number + 1),
            ));
            call.next::<PublishResponse>()
                .await
                .unwrap()
                .expect("the first is answered");
        }
        call.send_bytes(&[0x0a, 0x7f]);
        let refusal = call.failure().await;
        refusal.expect(
            "PublishStream",
            code::INVALID_ARGUMENT,
            "publish.event.count.invalid",
        );
    }
}

#[tokio::test]
async fn a_stream_without_events_for_too_long_is_swept() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_GRPC__PUBLISH_STREAM_IDLE", "300ms")],
    });
    for before in 0..2 {
        let (_, mut call) = stream(&gateway).await;
        for number in 0..before {
            call.send(&PublishRequest::new(
                TOPIC,
                order::events(number..number + 1),
            ));
            call.next::<PublishResponse>()
                .await
                .unwrap()
                .expect("an answer");
        }
        let ended = call.failure().await;
        ended.expect(
            "PublishStream",
            code::DEADLINE_EXCEEDED,
            "publish.stream.sweeper.timeout",
        );
    }
}

#[tokio::test]
async fn a_stream_without_events_may_stay_for_ever() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_GRPC__PUBLISH_STREAM_IDLE", "0s")],
    });
    let (_, mut call) = stream(&gateway).await;
    call.headers().await;
    for number in 0..2 {
        let events = order::events(number..number + 1);
        call.send(&PublishRequest::new(TOPIC, events));
        let response: PublishResponse = call.next().await.unwrap().expect("a response");
        assert!(response.results[0].error.is_none());
    }
}
