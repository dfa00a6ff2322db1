//! Tokens that are revoked under their streams.

use std::time::Duration;

use super::gateway::{Gateway, PublishStream, Subscriber, assert_failure, latest, settle};
use crate::{
    broker::tests::engines::{ORDERS, everything, orders, tenant},
    grpc::status::kinds,
};

/// A token that a test revokes or lets expire.
struct Doomed {
    id: String,
    text: String,
}

async fn doomed(gateway: &Gateway, lifetime: Option<Duration>) -> Doomed {
    let made = gateway
        .tokens
        .create(tenant(), "doomed", everything(), lifetime);
    let (token, text) = made.await.unwrap();
    Doomed {
        id: token.id.to_string(),
        text: text.expose().to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_the_streams_of_its_token_and_no_other() {
    let gateway = Gateway::start().await;
    let token = doomed(&gateway, None).await;
    let mut subscriber = Subscriber::open(&gateway, &token.text, Some(latest(ORDERS, 5))).await;
    let mut publisher = PublishStream::open(&gateway, &token.text).await;
    publisher.publish(ORDERS, &orders(0..1));
    publisher.next().await;
    let mut other = gateway.subscribe(latest(ORDERS, 5)).await;
    let mut other_publisher = gateway.publish_stream().await;
    settle().await;
    gateway.tokens.revoke(tenant(), &token.id).await.unwrap();
    assert_failure(
        &publisher.failure().await,
        "PublishStream",
        kinds::AUTH_ERROR,
    );
    loop {
        // What was published comes first, if it was read before.
        let Err(failure) = subscriber.responses.message().await else {
            continue;
        };
        assert_failure(&failure, "Subscribe", kinds::AUTH_ERROR);
        break;
    }
    other_publisher.publish(ORDERS, &orders(1..2));
    other_publisher.next().await;
    assert_eq!(other.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_its_token_s_time_and_a_revocation_of_another() {
    let gateway = Gateway::start().await;
    let token = doomed(&gateway, Some(Duration::from_secs(60))).await;
    let other = doomed(&gateway, None).await;
    let mut subscriber = Subscriber::open(&gateway, &token.text, Some(latest(ORDERS, 5))).await;
    let mut publisher = PublishStream::open(&gateway, &token.text).await;
    settle().await;
    gateway.engines.clock.advance(Duration::from_secs(61));
    gateway.tokens.revoke(tenant(), &other.id).await.unwrap();
    settle().await;
    publisher.publish(ORDERS, &orders(0..1));
    publisher.next().await;
    assert_eq!(subscriber.next().await.ids(), ["0"]);
    // A call that begins now is refused.
    let mut late = Subscriber::open(&gateway, &token.text, Some(latest(ORDERS, 5))).await;
    assert_failure(&late.failure().await, "Subscribe", kinds::AUTH_ERROR);
    // And what is revoked ends it, expired or not.
    gateway.tokens.revoke(tenant(), &token.id).await.unwrap();
    assert_failure(&subscriber.failure().await, "Subscribe", kinds::AUTH_ERROR);
    let failure = publisher.failure().await;
    assert_failure(&failure, "PublishStream", kinds::AUTH_ERROR);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_on_the_stream_is_the_one_that_counts() {
    let gateway = Gateway::start().await;
    let (old, new) = (doomed(&gateway, None).await, doomed(&gateway, None).await);
    let mut subscriber = Subscriber::open(&gateway, &old.text, Some(latest(ORDERS, 5))).await;
    subscriber.ask(crate::proto::FetchRequest {
        auth_refresh: new.text.clone(),
        ..Default::default()
    });
    settle().await;
    gateway.tokens.revoke(tenant(), &old.id).await.unwrap();
    settle().await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(subscriber.next().await.ids(), ["0"]);
    gateway.tokens.revoke(tenant(), &new.id).await.unwrap();
    assert_failure(&subscriber.failure().await, "Subscribe", kinds::AUTH_ERROR);
}
