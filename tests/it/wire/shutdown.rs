//! A gateway that is asked to stop finishes what it began and tells each stream.

use crate::support::{
    client::{Client, code},
    gateway::Gateway,
    order::{self, TOPIC},
    wire::{FetchRequest, PublishRequest, PublishResponse},
};

#[tokio::test]
async fn streams_are_told_to_come_back_and_what_was_acknowledged_is_there() {
    let mut gateway = Gateway::start();
    let client = Client::connect(&gateway).await;
    let mut publishing = client.call("PublishStream").await;
    publishing.send(&PublishRequest::new(TOPIC, order::events(0..10)));
    let response: PublishResponse = publishing.next().await.unwrap().expect("a response");
    let mut subscribed = client.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
    subscribed.fetch(10).await;

    gateway.terminate();
    // With this code the public Java client resumes from its stored id.
    let ended = subscribed.failure().await;
    ended.expect(
        "Subscribe",
        code::UNAVAILABLE,
        "subscription.internal.error",
    );
    let ended = publishing.failure().await;
    ended.expect("PublishStream", code::UNAVAILABLE, "service.unavailable");
    let status = gateway.wait_for_end();
    assert!(status.success(), "{status}");

    gateway.restart();
    let client = Client::connect(&gateway).await;
    let last = &response.results[4].replay_id;
    let mut call = client
        .subscribe(&FetchRequest::custom(TOPIC, last, 100))
        .await;
    let read = call.fetch(5).await;
    for (event, result) in read.iter().zip(&response.results[5..]) {
        assert_eq!(event.replay_id, result.replay_id);
    }
}

#[tokio::test]
async fn tenant_and_token_outlive_the_process() {
    let mut gateway = Gateway::start();
    let before = gateway.ready().clone();
    gateway.kill_and_restart();
    let after = gateway.ready();
    assert_eq!(before.tenant_id, after.tenant_id);
    assert_eq!(before.access_token, after.access_token);
    assert_ne!(before.pid, after.pid);
}
