//! What a scrape shows of subscriptions and publishing.

use std::time::Duration;

use futures_util::FutureExt;

use super::engines::{
    Engines, ORDERS, STATUSES, cut_short, order, orders, principal, schema_id, status,
};
use super::log_double::Behaviour;
use crate::{
    broker::{Config, PublishError, Subscription},
    event_log::{self, Refusal},
    proto::ProducerEvent,
    types::{Start, limits::CLIENT_NAME_LABELS_MAX},
};

async fn engines() -> Engines {
    Engines::new(Config::default(), event_log::Config::default()).await
}

async fn subscribe(engines: &Engines, start: Start, name: Option<&str>) -> Subscription {
    let subscriber = principal();
    let subscriber = engines.broker.subscriber(&subscriber, ORDERS).await;
    subscriber.unwrap().subscribe(start, 1, name).unwrap()
}

/// The value of the sample that `scrape` shows under exactly this name and labels.
#[track_caller]
fn sample(scrape: &str, series: &str) -> f64 {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("no {series} in\n{scrape}"));
    value.trim().parse().unwrap()
}

#[tokio::test]
async fn lag_is_the_slowest_subscription_of_a_topic_and_of_a_client_name() {
    let engines = engines().await;
    let mut fast = subscribe(&engines, Start::Latest, Some("fast")).await;
    let mut slow = subscribe(&engines, Start::Latest, Some("slow")).await;
    let mut nameless = subscribe(&engines, Start::Latest, None).await;
    engines.publish(ORDERS, &orders(0..1)).await;
    for subscription in [&mut fast, &mut slow, &mut nameless] {
        subscription.next().await.unwrap();
    }
    engines.clock.advance(Duration::from_millis(2_500));
    engines.publish(ORDERS, &orders(1..4)).await;
    engines.publish(STATUSES, &[status("another topic")]).await;
    fast.grant(2).unwrap();
    fast.next().await.unwrap();

    let scrape = engines.scrape();
    let orders = r#"topic="/event/OrderCreated__e""#;
    let lag = |metric: &str, labels: &str| sample(&scrape, &format!("{metric}{{{labels}}}"));
    assert_eq!(lag("broker_subscriptions", orders), 3.0);
    assert_eq!(lag("broker_lag_events", orders), 3.0);
    assert_eq!(lag("broker_lag_seconds", orders), 2.5);
    let fast_labels = format!(r#"{orders},client="fast""#);
    assert_eq!(lag("broker_lag_events", &fast_labels), 1.0);
    assert_eq!(lag("broker_lag_seconds", &fast_labels), 0.0);
    let slow_labels = format!(r#"{orders},client="slow""#);
    assert_eq!(lag("broker_lag_events", &slow_labels), 3.0);
    assert_eq!(lag("broker_lag_seconds", &slow_labels), 2.5);

    drop((fast, slow, nameless));
    assert!(!engines.scrape().contains("broker_lag_events{"));
}

#[tokio::test]
async fn lag_of_a_start_in_the_past_counts_from_there() {
    let engines = engines().await;
    let positions = engines.publish(ORDERS, &orders(0..10)).await;
    let lag = |engines: &Engines| {
        sample(
            &engines.scrape(),
            r#"broker_lag_events{topic="/event/OrderCreated__e"}"#,
        )
    };
    let mut earliest = subscribe(&engines, Start::Earliest, None).await;
    assert_eq!(lag(&engines), 10.0);
    earliest.next().await.unwrap();
    assert_eq!(lag(&engines), 9.0);
    drop(earliest);

    let mut after = subscribe(&engines, Start::After(positions[3]), None).await;
    after.next().await.unwrap();
    assert_eq!(lag(&engines), 5.0);
    drop(after);

    let mut latest = subscribe(&engines, Start::Latest, None).await;
    assert!(latest.next().now_or_never().is_none());
    assert_eq!(lag(&engines), 0.0);
}

#[tokio::test]
async fn client_names_past_the_bound_share_a_label() {
    let engines = engines().await;
    let mut live = Vec::new();
    for number in 0..CLIENT_NAME_LABELS_MAX + 5 {
        let name = format!("client-{number}");
        live.push(subscribe(&engines, Start::Latest, Some(&name)).await);
    }
    let scrape = engines.scrape();
    let labels = scrape
        .lines()
        .filter(|line| line.starts_with("broker_lag_events{") && line.contains("client="));
    assert_eq!(labels.count(), CLIENT_NAME_LABELS_MAX + 1);
    assert!(scrape.contains(r#"client="other""#));
    assert!(scrape.contains(r#"client="client-0""#));
}

#[tokio::test]
async fn events_are_counted_as_published_delivered_or_refused_by_reason() {
    let engines = engines().await;
    let mut subscription = subscribe(&engines, Start::Latest, None).await;
    let foreign = ProducerEvent {
        schema_id: schema_id(super::engines::STATUS_SCHEMA),
        ..order("1")
    };
    let events = [order("1"), cut_short(order("2")), foreign, order("3")];
    engines.publish_any(ORDERS, &events).await;
    subscription.next().await.unwrap();
    engines.log.set(Behaviour::FirstBodyOnly).await;
    let large = |number| super::engines::large_order(number, 200_000);
    engines.publish_any(ORDERS, &[large(1), large(2)]).await;

    let scrape = engines.scrape();
    let topic = r#"topic="/event/OrderCreated__e""#;
    let count = |series: String| sample(&scrape, &series);
    assert_eq!(
        count(format!("broker_published_events_total{{{topic}}}")),
        3.0
    );
    assert_eq!(
        count(format!("broker_delivered_events_total{{{topic}}}")),
        1.0
    );
    for (reason, expected) in [("payload", 1.0), ("schema", 1.0), ("not_stored", 1.0)] {
        let series = format!(r#"broker_refused_events_total{{{topic},reason="{reason}"}}"#);
        assert_eq!(count(series), expected, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_fail_are_counted_by_reason() {
    let engines = engines().await;
    for behaviour in [
        Behaviour::NoRoom,
        Behaviour::Refuse(Refusal::Poisoned),
        Behaviour::Unconfirmed,
    ] {
        engines.log.set(behaviour).await;
        let publisher = engines
            .broker
            .publisher(&principal(), ORDERS)
            .await
            .unwrap();
        let mut batch = publisher.batch(1, 0).unwrap();
        let event = prost::Message::encode_to_vec(&order("1"));
        batch.push(&crate::types::EventView::parse(&event).unwrap());
        let outcome = match batch.append_in_time().await {
            Ok(pending) => pending.outcome().await,
            Err(error) => Err(error),
        };
        let error = outcome.unwrap_err();
        let is_safe = !matches!(error, PublishError::Unconfirmed(_));
        assert_eq!(error.is_safe_to_retry(), is_safe, "{error:?}");
    }
    let scrape = engines.scrape();
    for reason in ["overloaded", "refused", "unconfirmed"] {
        let series = format!(
            r#"broker_failed_publishes_total{{topic="/event/OrderCreated__e",reason="{reason}"}}"#
        );
        assert_eq!(sample(&scrape, &series), 1.0, "{reason}");
    }
}
