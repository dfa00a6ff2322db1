//! Tenants that nobody uses: closed in time, and open again for the next call.

use std::{sync::Arc, time::Duration};

use super::engines::{Engines, ORDERS, orders, principal};
use crate::{
    broker::{Config, ManagedChange, ManagedKey, NewManaged},
    event_log,
    types::{Principal, Replay, RunState, Start, Takeover, TenantId},
};

const IDLE: Duration = Duration::from_secs(600);

async fn engines(tenants_open_max: u32) -> Engines {
    let config = Config {
        tenant_idle: IDLE,
        tenants_open_max,
        ..Config::default()
    };
    Engines::new(config, event_log::Config::default()).await
}

/// The number of open tenants that a scrape shows.
fn open_tenants(engines: &Engines) -> usize {
    let scrape = engines.scrape();
    let mut lines = scrape.lines();
    let open = lines.find_map(|line| line.strip_prefix("broker_open_tenants "));
    open.expect("the gauge is there").parse().unwrap()
}

async fn pass(engines: &Engines, time: Duration) {
    tokio::time::advance(time).await;
    engines.broker.close_quiet().await;
}

fn other(number: u8) -> Principal {
    Principal {
        tenant: TenantId::from_random([number; 12]),
        ..principal()
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_closed_once_nobody_has_used_it_for_a_while() {
    let engines = engines(100).await;
    engines.publish(ORDERS, &orders(0..3)).await;
    pass(&engines, IDLE / 2).await;
    engines.publish(ORDERS, &orders(3..4)).await;
    pass(&engines, IDLE / 2 + Duration::from_secs(1)).await;
    assert_eq!(open_tenants(&engines), 1, "it was used meanwhile");
    pass(&engines, IDLE / 2).await;
    assert_eq!(open_tenants(&engines), 0);
    assert!(!engines.scrape().contains("event_log_head_position{"));
    assert_eq!(open_tenants(&engines), 0, "a scrape opens nothing");

    let subscriber = engines
        .broker
        .subscriber(&principal(), ORDERS)
        .await
        .unwrap();
    let mut subscription = subscriber.subscribe(Start::Earliest, 100, None).unwrap();
    let events = subscription.next().await.unwrap();
    assert_eq!(events.pending, 96, "what was published is there");
}

#[tokio::test(start_paused = true)]
async fn a_live_subscription_or_publisher_keeps_its_tenant_open() {
    let engines = engines(100).await;
    let subscriber = engines
        .broker
        .subscriber(&principal(), ORDERS)
        .await
        .unwrap();
    let mut subscription = subscriber.subscribe(Start::Latest, 100, None).unwrap();
    for _ in 0..5 {
        pass(&engines, 2 * IDLE).await;
    }
    assert_eq!(open_tenants(&engines), 1);
    engines.publish(ORDERS, &orders(0..1)).await;
    assert_eq!(subscription.next().await.unwrap().events.len(), 1);

    let publisher = engines
        .broker
        .publisher(&principal(), None, ORDERS)
        .await
        .unwrap();
    drop(subscription);
    pass(&engines, 2 * IDLE).await;
    assert_eq!(open_tenants(&engines), 1);
    drop(publisher);
    pass(&engines, IDLE / 2).await;
    assert_eq!(
        open_tenants(&engines),
        1,
        "the wait begins when it is let go"
    );
    pass(&engines, IDLE / 2).await;
    assert_eq!(open_tenants(&engines), 0);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_those_that_nobody_used_for_longest_are_closed_sooner() {
    let engines = engines(3).await;
    let subscriber = engines
        .broker
        .subscriber(&principal(), ORDERS)
        .await
        .unwrap();
    let subscription = subscriber.subscribe(Start::Latest, 1, None).unwrap();
    for number in 1..10 {
        tokio::time::advance(Duration::from_secs(1)).await;
        engines.broker.open(other(number).tenant).await.unwrap();
        assert!(open_tenants(&engines) <= 3);
    }
    let open = |tenant: TenantId| {
        let series = format!("event_log_head_position{{tenant=\"{tenant}\"}}");
        engines.scrape().contains(&series)
    };
    assert!(open(principal().tenant), "a subscription lives");
    assert!(open(other(9).tenant) && open(other(8).tenant));
    drop(subscription);
}

#[tokio::test(start_paused = true)]
async fn all_that_are_held_stay_open_whatever_the_bound() {
    let engines = engines(1).await;
    let mut held = Vec::new();
    for number in 0..4 {
        held.push(engines.broker.tenant(other(number).tenant).await.unwrap());
    }
    assert_eq!(open_tenants(&engines), 4);
    let again = engines.broker.tenant(other(2).tenant).await.unwrap();
    assert!(Arc::ptr_eq(&again, &held[2]));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_stays_open_whose_managed_subscriptions_are_watched() {
    let engines = engines(100).await;
    engines.publish(ORDERS, &orders(0..1)).await;
    let new = NewManaged {
        developer_name: "Billing".into(),
        label: String::new(),
        topic: ORDERS.into(),
        default_replay: Replay::Earliest,
        error_recovery_replay: Replay::Earliest,
        state: RunState::Run,
        takeover: Takeover::Refuse,
        filter: String::new(),
        sharing: None,
    };
    let broker = &engines.broker;
    broker.create_managed(&principal(), new).await.unwrap();
    pass(&engines, 2 * IDLE).await;
    broker.measure_lag().await;
    assert_eq!(open_tenants(&engines), 1);
    assert!(
        engines
            .scrape()
            .contains("broker_managed_time_to_loss_seconds{")
    );
    let stop = ManagedChange {
        state: Some(RunState::Stop),
        ..ManagedChange::default()
    };
    let key = ManagedKey::Name("Billing");
    broker
        .update_managed(&principal(), key, stop)
        .await
        .unwrap();
    pass(&engines, IDLE).await;
    assert_eq!(open_tenants(&engines), 0);
}
