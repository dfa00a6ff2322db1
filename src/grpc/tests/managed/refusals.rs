//! Requests that end a stream of a managed subscription.

use super::{Managed, NAME, commit, first, fulfilment};
use crate::{
    broker::tests::engines::{ORDERS, STATUSES, orders},
    grpc::{
        status::{Kind, kinds},
        tests::gateway::{Gateway, assert_failure, settle},
    },
    proto::ManagedFetchRequest,
    types::{Grants, TenantId},
};

#[tokio::test(start_paused = true)]
async fn a_first_request_is_one_of_these_or_refused() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let named = |id: &str, name: &str| ManagedFetchRequest {
        subscription_id: id.into(),
        developer_name: name.into(),
        ..first(1)
    };
    let committing = ManagedFetchRequest {
        commit_replay_id_request: commit("c-1", &[0; 10]).commit_replay_id_request,
        ..first(1)
    };
    let refreshing = ManagedFetchRequest {
        auth_refresh: gateway.token.clone(),
        ..first(1)
    };
    let unknown = "18x000000000001AAA";
    let rows: [(ManagedFetchRequest, Kind); 16] = [
        (named("", ""), kinds::MANAGED_ID_OR_NAME_EMPTY),
        (named(unknown, NAME), kinds::MANAGED_ID_OR_NAME_EMPTY),
        (named("18x", ""), kinds::MANAGED_ID_INVALID),
        (named("18x00000000000", ""), kinds::MANAGED_ID_INVALID),
        (named("18x0000000000010", ""), kinds::MANAGED_ID_INVALID),
        (named("18x000000000001AAAA", ""), kinds::MANAGED_ID_INVALID),
        (named("18x00000000000!", ""), kinds::MANAGED_ID_INVALID),
        (named(unknown, ""), kinds::MANAGED_ID_NOT_FOUND),
        (named(&unknown[..15], ""), kinds::MANAGED_ID_NOT_FOUND),
        (named("005000000000001AAA", ""), kinds::MANAGED_ID_NOT_FOUND),
        (named("", "Nobody"), kinds::MANAGED_NAME_NOT_FOUND),
        (named("", "fulfilment"), kinds::MANAGED_NAME_NOT_FOUND),
        (committing, kinds::MANAGED_COMMIT_RESTRICTED),
        (refreshing, kinds::MANAGED_AUTH_RESTRICTED),
        (first(0), kinds::MANAGED_EVENTS_INVALID),
        (first(-1), kinds::MANAGED_EVENTS_INVALID),
    ];
    for (request, kind) in rows {
        let mut stream = Managed::open(&gateway, &gateway.token, request.clone()).await;
        let failure = stream.failure().await;
        assert_failure(&failure, "ManagedSubscribe", kind);
    }
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(i32::MAX).await;
    let fetched = stream.next().await;
    assert_eq!((fetched.ids(), fetched.pending), (vec!["0"], 99));
}

#[tokio::test(start_paused = true)]
async fn a_later_request_is_one_of_these_or_refused() {
    let gateway = Gateway::start().await;
    let config = gateway.manage(fulfilment()).await;
    let other = crate::broker::NewManaged {
        developer_name: "Other".into(),
        ..fulfilment()
    };
    let other = gateway.manage(other).await;
    let bad = gateway.token(Grants::every_topic()).await + "x";
    let named = |id: &str, name: &str| ManagedFetchRequest {
        subscription_id: id.into(),
        developer_name: name.into(),
        ..first(1)
    };
    let refreshing = |token: &str| ManagedFetchRequest {
        auth_refresh: token.into(),
        ..ManagedFetchRequest::default()
    };
    let asking = |requested| ManagedFetchRequest {
        num_requested: requested,
        ..ManagedFetchRequest::default()
    };
    let stranger = gateway
        .token_of(TenantId::from_random([8; 12]), Grants::every_topic())
        .await;
    let rows: [(ManagedFetchRequest, Option<Kind>); 12] = [
        (asking(1), None),
        (named(config.id.as_str(), ""), None),
        (named(config.id.as_short_str(), NAME), None),
        (refreshing(&gateway.token), None),
        (asking(0), Some(kinds::MANAGED_REQUEST_INVALID)),
        (asking(-1), Some(kinds::MANAGED_EVENTS_INVALID)),
        (
            named(other.id.as_str(), ""),
            Some(kinds::MANAGED_REQUEST_INVALID),
        ),
        (named("", "Other"), Some(kinds::MANAGED_REQUEST_INVALID)),
        (
            named(config.id.as_str(), "Other"),
            Some(kinds::MANAGED_REQUEST_INVALID),
        ),
        (named("18x", ""), Some(kinds::MANAGED_REQUEST_INVALID)),
        (refreshing(&bad), Some(kinds::AUTH_REFRESH_INVALID)),
        (refreshing(&stranger), Some(kinds::AUTH_REFRESH_INVALID)),
    ];
    for (number, (request, refusal)) in rows.into_iter().enumerate() {
        let mut stream = gateway.managed(1).await;
        settle().await;
        stream.ask(request);
        settle().await;
        match refusal {
            Some(kind) => {
                let failure = loop {
                    // What was published for the rows above comes first.
                    if let Err(failure) = stream.responses.message().await {
                        break failure;
                    }
                };
                assert_failure(&failure, "ManagedSubscribe", kind);
            }
            None => {
                gateway
                    .publish(ORDERS, &orders(number..number + 1))
                    .await
                    .unwrap();
                let number = number.to_string();
                loop {
                    let fetched = stream.next().await;
                    stream.ask_for(1);
                    if fetched.ids() == [&number] {
                        break;
                    }
                }
            }
        }
        drop(stream);
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn it_takes_the_right_to_its_topic() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let statuses_only = Grants {
        subscribe: vec![STATUSES.parse().unwrap()],
        ..Grants::every_topic()
    };
    let token = gateway.token(statuses_only).await;
    let mut stream = Managed::open(&gateway, &token, first(1)).await;
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::CANNOT_SUBSCRIBE);
    let mut stream = Managed::open(&gateway, &format!("{token}x"), first(1)).await;
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::AUTH_ERROR);
    // Nothing of it was taken.
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(1).await;
    assert_eq!(stream.next().await.ids(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_gateway_ends_it_with_a_code_to_resume_after() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let mut stream = gateway.managed(1).await;
    settle().await;
    gateway.shutdown.begin();
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::SUBSCRIPTION_STOPPING);
}
