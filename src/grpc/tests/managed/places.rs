//! Who has a managed subscription, and how others get it.

use std::time::Duration;

use super::{Managed, NAME, first, fulfilment};
use crate::{
    broker::{
        ManagedChange, ManagedError, ManagedKey, ManagedSubscribeError, NewManaged,
        tests::engines::{ORDERS, everything, orders, principal, tenant},
    },
    grpc::{
        status::kinds,
        tests::gateway::{Gateway, assert_failure, settle},
    },
    metadata::store_double::Writing,
    proto::ManagedFetchRequest,
    types::{RunState, Takeover, limits::MANAGED_SUBSCRIPTIONS_MAX},
};

#[tokio::test(start_paused = true)]
async fn one_stream_has_it_and_it_is_free_when_that_ends() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut holder = gateway.managed(10).await;
    holder.next().await;
    let mut other = gateway.managed(10).await;
    let failure = other.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_ACTIVE);
    holder.ask_for(1);
    // Ended by the client, by an error, and by a half-close.
    drop(holder);
    settle().await;
    let mut holder = gateway.managed(10).await;
    holder.next().await;
    holder.ask_for(-1);
    let failure = holder.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_EVENTS_INVALID);
    let mut holder = gateway.managed(10).await;
    holder.next().await;
    holder.half_close();
    holder.end().await;
    let mut holder = gateway.managed(10).await;
    holder.next().await;
}

#[tokio::test(start_paused = true)]
async fn the_newest_stream_takes_it_over_where_that_is_configured() {
    let gateway = Gateway::start().await;
    let new = NewManaged {
        takeover: Takeover::Newest,
        ..fulfilment()
    };
    gateway.manage(new).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut former = gateway.managed(10).await;
    former.next().await;
    let mut newest = gateway.managed(10).await;
    let fetched = newest.next().await;
    assert_eq!(fetched.ids(), ["0"]);
    let failure = former.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_TAKEN_OVER);
    newest.commit("c-1", fetched.positions()[0]);
    newest.next().await.expect_commit("c-1");
}

#[tokio::test(start_paused = true)]
async fn an_administrator_releases_it() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let key = ManagedKey::Name(NAME);
    let release = async || {
        let broker = &gateway.engines.broker;
        broker.release_managed(&principal(), key).await.unwrap()
    };
    assert!(!release().await);
    let mut holder = gateway.managed(10).await;
    settle().await;
    assert!(release().await);
    let mut next = gateway.managed(10).await;
    let failure = holder.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::SUBSCRIPTION_INTERNAL);
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(next.next().await.ids(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_stopped_and_deleted_under_its_stream() {
    let gateway = Gateway::start().await;
    let config = gateway.manage(fulfilment()).await;
    let broker = &gateway.engines.broker;
    let key = ManagedKey::Id(config.id);
    let set = async |state| {
        let change = ManagedChange {
            state: Some(state),
            ..ManagedChange::default()
        };
        broker
            .update_managed(&principal(), key, change)
            .await
            .unwrap()
            .config
    };
    let mut stream = gateway.managed(10).await;
    settle().await;
    let stopped = set(RunState::Stop).await;
    assert_eq!((stopped.state, stopped.version), (RunState::Stop, 2));
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_STOPPED);
    let mut stream = gateway.managed(10).await;
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_STOPPED);
    set(RunState::Run).await;
    let mut stream = gateway.managed(10).await;
    settle().await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let position = stream.next().await.positions()[0];
    stream.commit("c-1", position);
    stream.next().await.expect_commit("c-1");
    broker.delete_managed(&principal(), key).await.unwrap();
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_DELETED);
    let mut stream = gateway.managed(10).await;
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_NAME_NOT_FOUND);
    // One of the same name is another, without a position; after a restart too.
    gateway.manage(fulfilment()).await;
    assert_eq!(gateway.committed().await, None);
    let gateway = gateway.restarted().await;
    assert_eq!(gateway.committed().await, None);
    let mut stream = Managed::open(&gateway, &gateway.token, first(10)).await;
    assert_eq!(stream.next().await.ids(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_deleted_before_its_stream_begins_is_not_found_as_it_was_named() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let config = gateway.manage(fulfilment()).await;
    let caller = principal();
    let by_name = broker.managed_subscriber(&caller, ManagedKey::Name(NAME));
    let by_id = broker.managed_subscriber(&caller, ManagedKey::Id(config.id));
    let (by_name, by_id) = (by_name.await.unwrap(), by_id.await.unwrap());
    let key = ManagedKey::Name(NAME);
    broker.delete_managed(&caller, key).await.unwrap();
    assert!(matches!(
        by_name.subscribe(1),
        Err(ManagedSubscribeError::UnknownName)
    ));
    assert!(matches!(
        by_id.subscribe(1),
        Err(ManagedSubscribeError::UnknownId)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_reads_nothing_gives_way_in_time() {
    let timeout = Duration::from_secs(60);
    let gateway = Gateway::committing_within(timeout).await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let broker = &gateway.engines.broker;
    let key = ManagedKey::Name(NAME);
    let subscriber = broker.managed_subscriber(&principal(), key).await;
    // Nobody asks it for the next response.
    let _stuck = subscriber.unwrap().subscribe(10).unwrap();
    let mut other = gateway.managed(10).await;
    let failure = other.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_ACTIVE);
    tokio::time::sleep(timeout).await;
    assert_eq!(gateway.managed(10).await.next().await.ids(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_two_hundred_and_names_are_unique() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let named = |name: String| NewManaged {
        developer_name: name,
        ..fulfilment()
    };
    let create = async |name: &str| {
        broker
            .create_managed(&principal(), named(name.into()))
            .await
    };
    for number in 0..MANAGED_SUBSCRIPTIONS_MAX {
        create(&format!("Number{number}")).await.unwrap();
    }
    assert!(matches!(
        create("OneMore").await,
        Err(ManagedError::TooMany)
    ));
    let key = ManagedKey::Name("Number7");
    broker.delete_managed(&principal(), key).await.unwrap();
    let taken = create("Number8").await;
    assert!(matches!(taken, Err(ManagedError::NameTaken(name)) if name == "Number8"));
    create("OneMore").await.unwrap();
    let all = broker.managed_subscriptions(&principal()).await.unwrap();
    assert_eq!(all.len(), MANAGED_SUBSCRIPTIONS_MAX);
    assert!(all.is_sorted_by_key(|found| &found.config.developer_name));
}

#[tokio::test(start_paused = true)]
async fn it_is_of_a_topic_that_there_is_under_its_whole_name() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    for topic in [
        "OrderCreated__e",
        "",
        "/event/Unknown__e",
        "/data/OrderCreated__e",
    ] {
        let new = NewManaged {
            topic: topic.into(),
            ..fulfilment()
        };
        let refused = broker.create_managed(&principal(), new).await;
        assert!(matches!(refused, Err(ManagedError::Topic(_))), "{topic}");
    }
    let config = gateway.manage(fulfilment()).await;
    assert!(config.id.as_str().starts_with("18x"), "{}", config.id);
    assert_eq!((config.id.as_str().len(), config.version), (18, 1));
    assert_eq!((config.topic.as_str(), &*config.label), (ORDERS, NAME));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_frees_it() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let made = gateway
        .tokens
        .create(tenant(), "doomed", everything(), None);
    let (token, text) = made.await.unwrap();
    let mut stream = Managed::open(&gateway, text.expose(), first(10)).await;
    settle().await;
    gateway.tokens.revoke(tenant(), &token.id).await.unwrap();
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::AUTH_ERROR);
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(gateway.managed(10).await.next().await.ids(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn it_outlives_its_token_s_time_and_a_fresh_token_is_the_one_that_counts() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let doomed = async |lifetime| {
        let made = gateway
            .tokens
            .create(tenant(), "doomed", everything(), lifetime);
        let (token, text) = made.await.unwrap();
        (token.id, text.expose().to_owned())
    };
    let (old_id, old) = doomed(Some(Duration::from_secs(60))).await;
    let (new_id, new) = doomed(None).await;
    let mut stream = Managed::open(&gateway, &old, first(10)).await;
    settle().await;
    gateway.engines.clock.advance(Duration::from_secs(61));
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let position = stream.next().await.positions()[0];
    stream.commit("c-1", position);
    stream.next().await.expect_commit("c-1");
    stream.ask(ManagedFetchRequest {
        auth_refresh: new,
        ..ManagedFetchRequest::default()
    });
    settle().await;
    gateway.tokens.revoke(tenant(), &old_id).await.unwrap();
    settle().await;
    gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    assert_eq!(stream.next().await.ids(), ["1"]);
    gateway.tokens.revoke(tenant(), &new_id).await.unwrap();
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::AUTH_ERROR);
    // A stream that begins now is refused, and takes nothing.
    let mut late = Managed::open(&gateway, &old, first(10)).await;
    let failure = late.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::AUTH_ERROR);
    assert_eq!(gateway.managed(10).await.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_seemed_to_fail_may_be_made_again() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(10).await;
    let position = stream.next().await.positions()[0];
    stream.commit("c-1", position);
    stream.next().await.expect_commit("c-1");
    let broker = &gateway.engines.broker;
    let store = &gateway.engines.store;
    let key = ManagedKey::Name(NAME);
    let relabel = || ManagedChange {
        label: Some("Another".into()),
        ..ManagedChange::default()
    };
    store.set(Writing::Unconfirmed);
    let seemed_to_fail = broker.update_managed(&principal(), key, relabel()).await;
    assert!(matches!(seemed_to_fail, Err(ManagedError::Store(_))));
    store.set(Writing::Full);
    let full = broker.update_managed(&principal(), key, relabel()).await;
    assert!(matches!(full, Err(ManagedError::DiskFull)));
    store.set(Writing::Good);
    let changed = broker.update_managed(&principal(), key, relabel()).await;
    assert_eq!(changed.unwrap().config.label, "Another");
    store.set(Writing::Unconfirmed);
    let seemed_to_fail = broker.delete_managed(&principal(), key).await;
    assert!(matches!(seemed_to_fail, Err(ManagedError::Store(_))));
    store.set(Writing::Good);
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_DELETED);
    let again = broker.delete_managed(&principal(), key).await;
    assert!(matches!(again, Err(ManagedError::NotFound)));
}
