//! Changes whose write fails or whose caller goes away: what is in force is what is stored.

use std::time::Duration;

use super::{NAME, fulfilment};
use crate::{
    broker::{
        ManagedChange, ManagedError, ManagedKey,
        tests::engines::{ORDERS, orders, principal, tenant},
    },
    grpc::{
        status::kinds,
        tests::gateway::{Gateway, assert_failure, settle},
    },
    metadata::{
        Expected, MetadataStore, Scope,
        records::{self, ManagedPositionRecord, ManagedSubscriptionRecord},
        store_double::Writing,
    },
    types::{PlatformId, RunState},
};

const KEY: ManagedKey<'_> = ManagedKey::Name(NAME);

fn stop() -> ManagedChange {
    ManagedChange {
        state: Some(RunState::Stop),
        ..ManagedChange::default()
    }
}

/// The names of the subscriptions that there are.
async fn names(gateway: &Gateway) -> Vec<String> {
    let broker = &gateway.engines.broker;
    let found = broker.managed_configs(&principal()).await.unwrap();
    found.into_iter().map(|it| it.developer_name).collect()
}

/// Begins a call and drops it while it waits for the store; the store works after that.
async fn abandon(gateway: &Gateway, call: impl Future) {
    let store = &gateway.engines.store;
    store.set(Writing::Slow);
    let call = tokio::time::timeout(Duration::from_millis(1), call);
    assert!(call.await.is_err(), "it waits for the store");
    store.set(Writing::Good);
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn one_whose_creation_seemed_to_fail_is_known_if_it_was_made() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let create = async || broker.create_managed(&principal(), fulfilment()).await;
    gateway.engines.store.set(Writing::Full);
    assert!(matches!(create().await, Err(ManagedError::DiskFull)));
    assert!(names(&gateway).await.is_empty());
    gateway.engines.store.set(Writing::Unconfirmed);
    assert!(matches!(create().await, Err(ManagedError::Store(_))));
    gateway.engines.store.set(Writing::Good);
    assert_eq!(names(&gateway).await, [NAME]);
    assert!(matches!(create().await, Err(ManagedError::NameTaken(_))));
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(gateway.managed(1).await.next().await.ids(), ["0"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_seemed_to_fail_is_in_force_if_it_was_made() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let broker = &gateway.engines.broker;
    let mut stream = gateway.managed(1).await;
    settle().await;
    gateway.engines.store.set(Writing::Unconfirmed);
    let stopped = broker.update_managed(&principal(), KEY, stop()).await;
    assert!(matches!(stopped, Err(ManagedError::Store(_))));
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_STOPPED);
}

#[tokio::test(start_paused = true)]
async fn one_whose_deletion_seemed_to_fail_is_gone_if_it_was_deleted() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let broker = &gateway.engines.broker;
    let mut stream = gateway.managed(1).await;
    settle().await;
    gateway.engines.store.set(Writing::Unconfirmed);
    let deleted = broker.delete_managed(&principal(), KEY).await;
    assert!(matches!(deleted, Err(ManagedError::Store(_))));
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_DELETED);
    assert!(names(&gateway).await.is_empty());
    gateway.engines.store.set(Writing::Good);
    gateway.manage(fulfilment()).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_caller_goes_away_is_made_to_its_end() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let caller = principal();
    abandon(&gateway, broker.create_managed(&caller, fulfilment())).await;
    assert_eq!(names(&gateway).await, [NAME]);
    let mut stream = gateway.managed(1).await;
    settle().await;
    abandon(&gateway, broker.update_managed(&caller, KEY, stop())).await;
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_STOPPED);
    abandon(&gateway, broker.delete_managed(&caller, KEY)).await;
    assert!(names(&gateway).await.is_empty());
    gateway.manage(fulfilment()).await;
}

/// A write that seemed to fail, after which the store could not be read either, leaves these two.
#[tokio::test(start_paused = true)]
async fn what_is_stored_and_not_known_is_found_by_the_next_creation() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let store = &gateway.engines.store;
    let scope = Scope::Tenant(tenant());
    let id: PlatformId = gateway.manage(fulfilment()).await.id;
    let load = async || {
        let stored = records::load::<ManagedSubscriptionRecord>(&**store, scope, id.as_str());
        stored.await.unwrap().unwrap()
    };
    let unknown = ManagedSubscriptionRecord {
        id: "18x000000000001AAA".into(),
        developer_name: "Unknown".into(),
        ..load().await.record
    };
    let unknown = records::change(&unknown, Expected::Absent);
    store.write(scope, vec![unknown]).await.unwrap();
    let named = crate::broker::NewManaged {
        developer_name: "Unknown".into(),
        ..fulfilment()
    };
    let taken = broker.create_managed(&principal(), named).await;
    assert!(matches!(taken, Err(ManagedError::NameTaken(_))));
    assert_eq!(names(&gateway).await, [NAME, "Unknown"]);

    // Deleted without a word, it takes no commits, and its name is free.
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(1).await;
    let position = stream.next().await.positions()[0];
    let removal = records::removal::<ManagedSubscriptionRecord>(id.as_str(), load().await.revision);
    store.write(scope, vec![removal]).await.unwrap();
    stream.commit("c-1", position);
    let failure = loop {
        match stream.responses.message().await {
            Ok(Some(response)) => {
                let answer = response.commit_response.expect("an answer to the commit");
                assert!(answer.error.is_some(), "{answer:?}");
            }
            Ok(None) => panic!("it ends with a reason"),
            Err(failure) => break failure,
        }
    };
    assert_failure(&failure, "ManagedSubscribe", kinds::MANAGED_DELETED);
    let stored = records::load::<ManagedPositionRecord>(&**store, scope, id.as_str()).await;
    assert!(stored.unwrap().is_none());
    gateway.manage(fulfilment()).await;
}
