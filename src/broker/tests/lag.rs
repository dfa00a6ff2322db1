//! What a scrape shows of subscriptions and publishing.

use std::time::Duration;

use futures_util::FutureExt;

use super::engines::{
    Engines, ORDERS, STATUSES, cut_short, order, orders, principal, schema_id, status,
};
use super::log_double::Behaviour;
use crate::{
    broker::{Config, Lag, ManagedKey, NewManaged, PublishError, SubscriberName, Subscription},
    event_log::{self, Refusal},
    proto::ProducerEvent,
    types::{Position, Replay, RunState, Start, Takeover, limits::CLIENT_NAME_LABELS_MAX},
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
            .publisher(&principal(), None, ORDERS)
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

const NAME: &str = "Billing";

async fn manage(engines: &Engines, name: &str, default_replay: Replay) {
    manage_with(engines, name, default_replay, Replay::Latest).await;
}

async fn manage_with(
    engines: &Engines,
    name: &str,
    default_replay: Replay,
    error_recovery_replay: Replay,
) {
    let new = NewManaged {
        developer_name: name.into(),
        label: String::new(),
        topic: ORDERS.into(),
        default_replay,
        error_recovery_replay,
        state: RunState::Run,
        takeover: Takeover::Refuse,
        filter: String::new(),
        sharing: None,
    };
    let made = engines.broker.create_managed(&principal(), new).await;
    made.unwrap();
}

/// How far the subscription called [`NAME`] is behind.
async fn lag(engines: &Engines) -> Lag {
    told_lag(engines).await.expect("it can be told")
}

async fn told_lag(engines: &Engines) -> Option<Lag> {
    let key = ManagedKey::Name(NAME);
    let described = engines.broker.managed_subscription(&principal(), key).await;
    described.unwrap().lag
}

/// Has the subscription called [`NAME`] commit what it is told.
async fn commit(engines: &Engines, position: Position) {
    let key = ManagedKey::Name(NAME);
    let subscriber = engines.broker.managed_subscriber(&principal(), key).await;
    let mut stream = subscriber.unwrap().subscribe(100).unwrap();
    stream.next().await.unwrap();
    let replay_id = bytes::Bytes::copy_from_slice(position.replay_id().as_bytes());
    stream.commit("c".into(), &replay_id).unwrap();
    stream.next_answer().await.unwrap().outcome.unwrap();
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An hour's retention.
async fn hourly() -> Engines {
    let log = event_log::Config {
        retention: seconds(3_600),
        ..event_log::Config::default()
    };
    Engines::new(Config::default(), log).await
}

#[tokio::test(start_paused = true)]
async fn a_managed_subscription_is_behind_from_what_it_committed_on() {
    let engines = hourly().await;
    manage(&engines, NAME, Replay::Earliest).await;
    assert_eq!(lag(&engines).await, Lag::default());
    engines.publish(ORDERS, &orders(0..2)).await;
    engines.clock.advance(seconds(100));
    engines.publish(ORDERS, &orders(2..5)).await;
    engines.publish(STATUSES, &[status("another topic")]).await;
    engines.clock.advance(seconds(20));
    let behind = |events, age| Lag {
        events,
        behind: seconds(age),
        time_to_loss: Some(seconds(3_600 - age)),
    };
    assert_eq!(lag(&engines).await, behind(5, 120));
    let key = ManagedKey::Name(NAME);
    let subscriber = engines.broker.managed_subscriber(&principal(), key).await;
    let mut stream = subscriber.unwrap().subscribe(2).unwrap();
    let crate::broker::ManagedDelivery::Events(first) = stream.next().await.unwrap() else {
        panic!("there are events");
    };
    // What was only delivered may be delivered again.
    assert_eq!(lag(&engines).await, behind(5, 120));
    stream.grant(2).unwrap();
    stream.next().await.unwrap();
    let replay_id = bytes::Bytes::copy_from_slice(first.latest.replay_id().as_bytes());
    stream.commit("c".into(), &replay_id).unwrap();
    stream.next_answer().await.unwrap().outcome.unwrap();
    // A scrape knows of the commit without a look at the log, and so does the look.
    let labels = format!(
        r#"tenant="00D000000000001EAA",subscription="{NAME}",topic="/event/OrderCreated__e""#
    );
    let scrape = engines.scrape();
    let shown = |metric: &str| sample(&scrape, &format!("broker_managed_{metric}{{{labels}}}"));
    assert_eq!(shown("active"), 1.0);
    assert_eq!(shown("lag_events"), 3.0);
    assert_eq!(shown("lag_seconds"), 20.0);
    assert_eq!(shown("time_to_loss_seconds"), 3_580.0);
    assert_eq!(lag(&engines).await, behind(3, 20));
    drop(stream);
    // Nobody has it, and it falls behind further.
    engines.clock.advance(seconds(80));
    engines.publish(ORDERS, &orders(5..6)).await;
    assert_eq!(lag(&engines).await, behind(4, 100));
    let shown = engines.scrape();
    let active = format!("broker_managed_active{{{labels}}}");
    assert_eq!(sample(&shown, &active), 0.0);
}

#[tokio::test(start_paused = true)]
async fn lag_is_known_after_a_restart_once_it_was_measured() {
    let mut engines = hourly().await;
    manage(&engines, NAME, Replay::Earliest).await;
    manage(&engines, "Latest", Replay::Latest).await;
    engines.publish(ORDERS, &orders(0..2)).await;
    engines.restart();
    engines.broker.open(super::engines::tenant()).await.unwrap();
    let series = |name: &str| {
        format!(
            r#"broker_managed_lag_events{{tenant="00D000000000001EAA",subscription="{name}",topic="/event/OrderCreated__e"}}"#
        )
    };
    let scrape = engines.scrape();
    assert!(!scrape.contains(&series(NAME)));
    // What would begin at the newest has nothing to miss, measured or not, whatever comes.
    assert_eq!(sample(&scrape, &series("Latest")), 0.0);
    engines.broker.measure_lag().await;
    engines.publish(ORDERS, &orders(2..3)).await;
    let scrape = engines.scrape();
    let events = |name: &str| sample(&scrape, &series(name));
    assert_eq!((events(NAME), events("Latest")), (3.0, 0.0));
    // What it has to lose is lost: it would go on at what is left.
    engines.clock.advance(seconds(3_601));
    engines.publish(ORDERS, &orders(3..4)).await;
    assert_eq!(lag(&engines).await.events, 1);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_not_valid_is_as_far_behind_as_where_its_stream_would_go_on() {
    for (recovery, expected) in [(Replay::Earliest, 2), (Replay::Latest, 0)] {
        let mut engines = hourly().await;
        manage_with(&engines, NAME, Replay::Earliest, recovery).await;
        let positions = engines.publish(ORDERS, &orders(0..5)).await;
        commit(&engines, positions[1]).await;
        assert_eq!(lag(&engines).await.events, 3);
        // Found by reading, and by a look at the position.
        engines.log.damage(positions[1], positions[2]);
        assert_eq!(lag(&engines).await.events, expected);
        engines.log.lose(positions[0], positions[2]);
        engines.restart();
        assert_eq!(lag(&engines).await.events, expected);
        engines.broker.measure_lag().await;
        assert!(engines.scrape().contains("broker_managed_lag_events{"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_what_a_former_stream_got_tells_nothing_younger() {
    let engines = hourly().await;
    manage(&engines, NAME, Replay::Earliest).await;
    let positions = engines.publish(ORDERS, &orders(0..4)).await;
    engines.clock.advance(seconds(100));
    engines.publish(ORDERS, &orders(4..5)).await;
    // All of it to one stream, the first event to the next.
    let key = ManagedKey::Name(NAME);
    let subscriber = engines.broker.managed_subscriber(&principal(), key).await;
    let mut former = subscriber.unwrap().subscribe(100).unwrap();
    former.next().await.unwrap();
    drop(former);
    assert_eq!(lag(&engines).await.behind, seconds(100));
    let subscriber = engines.broker.managed_subscriber(&principal(), key).await;
    let mut stream = subscriber.unwrap().subscribe(1).unwrap();
    stream.next().await.unwrap();
    let replay_id = bytes::Bytes::copy_from_slice(positions[2].replay_id().as_bytes());
    stream.commit("c".into(), &replay_id).unwrap();
    stream.next_answer().await.unwrap().outcome.unwrap();
    let series = format!(
        r#"broker_managed_lag_seconds{{tenant="00D000000000001EAA",subscription="{NAME}",topic="/event/OrderCreated__e"}}"#
    );
    assert_eq!(sample(&engines.scrape(), &series), 100.0);
}

#[tokio::test(start_paused = true)]
async fn a_lag_that_cannot_be_told_is_not_none() {
    let engines = hourly().await;
    manage(&engines, NAME, Replay::Earliest).await;
    engines.publish(ORDERS, &orders(0..1)).await;
    engines.log.set(Behaviour::Unreadable).await;
    assert_eq!(told_lag(&engines).await, None);
    let found = engines.broker.subscribers(&principal(), ORDERS).await;
    let expected = [(SubscriberName::Managed(NAME.into()), None)];
    assert_eq!(found.unwrap(), expected);
}

#[tokio::test]
async fn a_topic_tells_how_far_its_managed_and_its_named_subscribers_are_behind() {
    let engines = hourly().await;
    manage(&engines, NAME, Replay::Earliest).await;
    let mut named = subscribe(&engines, Start::Latest, Some("named")).await;
    let _nameless = subscribe(&engines, Start::Latest, None).await;
    engines.publish(ORDERS, &orders(0..1)).await;
    named.next().await.unwrap();
    engines.clock.advance(seconds(10));
    engines.publish(ORDERS, &orders(1..3)).await;
    let found = engines.broker.subscribers(&principal(), ORDERS).await;
    let lag = |events| {
        Some(Lag {
            events,
            behind: seconds(10),
            time_to_loss: Some(seconds(3_590)),
        })
    };
    let expected = [
        (SubscriberName::Managed(NAME.into()), lag(3)),
        (SubscriberName::Client("named".into()), lag(2)),
    ];
    assert_eq!(found.unwrap(), expected);
    let elsewhere = engines.broker.subscribers(&principal(), STATUSES).await;
    assert_eq!(elsewhere.unwrap(), []);
    let scrape = engines.scrape();
    let series = r#"broker_time_to_loss_seconds{topic="/event/OrderCreated__e",client="named"}"#;
    assert_eq!(sample(&scrape, series), 3_590.0);
}
