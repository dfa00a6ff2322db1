//! Credit of a managed subscription: as that of any other, but for the end of a half-closed stream.

use std::time::Duration;

use tokio::time::Instant;

use super::{Managed, commit, first, fulfilment};
use crate::{
    broker::tests::engines::{ORDERS, orders},
    grpc::{
        Config,
        status::kinds,
        tests::gateway::{Gateway, Settings, assert_failure, assert_took, settle},
    },
    proto::ManagedFetchRequest,
};

const GRACE: Duration = Duration::from_secs(70);

#[tokio::test(start_paused = true)]
async fn grants_add_up_to_a_hundred_over_all_requests() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let mut stream = gateway.managed(60).await;
    stream.ask_for(60);
    settle().await;
    gateway.publish(ORDERS, &orders(0..150)).await.unwrap();
    let mut received = 0;
    while received < 100 {
        let fetched = stream.next().await;
        received += fetched.events.len();
        assert_eq!(fetched.pending, 100 - received as i32);
    }
    stream.ask_for(i32::MAX);
    let fetched = stream.next().await;
    assert_eq!((fetched.events.len(), fetched.pending), (50, 50));
}

#[tokio::test(start_paused = true)]
async fn without_credit_it_hears_nothing_but_answers_and_ends_after_the_grace() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let mut stream = gateway.managed(1).await;
    let fetched = stream.next().await;
    assert_eq!((fetched.ids(), fetched.pending), (vec!["0"], 0));
    let spent = Instant::now();
    tokio::time::sleep(GRACE - Duration::from_secs(5)).await;
    // Neither a commit nor a fresh token is credit.
    stream.commit("c-1", fetched.positions()[0]);
    let answered = stream.next().await;
    answered.expect_commit("c-1");
    assert_eq!((answered.events.len(), answered.pending), (0, 0));
    stream.ask(ManagedFetchRequest {
        auth_refresh: gateway.token.clone(),
        ..ManagedFetchRequest::default()
    });
    let failure = stream.failure().await;
    assert_took(spent, GRACE);
    assert_failure(&failure, "ManagedSubscribe", kinds::SUBSCRIPTION_IDLE);
    assert_eq!(gateway.managed(1).await.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_ends_it() {
    let gateway = Gateway::with(Settings {
        grpc: Config {
            fetch_requests_per_second_max: 20,
            ..Config::default()
        },
        ..Settings::default()
    })
    .await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(1).await;
    let position = stream.next().await.positions()[0];
    for _ in 0..21 {
        stream.commit("c", position);
    }
    let failure = loop {
        if let Err(failure) = stream.responses.message().await {
            break failure;
        }
    };
    assert_failure(&failure, "ManagedSubscribe", kinds::STREAM_PROTECTION);
}

#[tokio::test(start_paused = true)]
async fn a_half_close_ends_it_well_whatever_came_before() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let mut without_request = Managed::open_with(&gateway, &gateway.token, None).await;
    without_request.half_close();
    without_request.end().await;
    let mut waiting = gateway.managed(100).await;
    settle().await;
    let began = Instant::now();
    waiting.half_close();
    waiting.end().await;
    assert_took(began, Duration::ZERO);
    // A commit that is refused is answered before the end too.
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut refused = Managed::open(&gateway, &gateway.token, first(1)).await;
    refused.next().await;
    refused.ask(commit("c-1", b"short"));
    refused.half_close();
    refused.next().await.expect_refusal("c-1");
    refused.end().await;
}
