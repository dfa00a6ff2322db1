//! Subscriptions that begin at a time.

use std::time::Duration;

use super::{
    engines::{Engines, ORDERS, STATUSES, orders, principal, status},
    log_double::Behaviour,
};
use crate::{
    broker::{Config, SubscribeError, Subscriber, TimeError, TimePlace},
    clock::{Clock, Timestamp},
    event_log,
    types::{Moment, Position, Start},
};

async fn engines(retention: Duration) -> Engines {
    let log = event_log::Config {
        retention,
        ..event_log::Config::default()
    };
    Engines::new(Config::default(), log).await
}

async fn subscriber(engines: &Engines, topic: &str) -> Subscriber {
    let subscriber = engines.broker.subscriber(&principal(), topic).await;
    subscriber.unwrap()
}

fn at(time: Timestamp) -> Moment {
    Moment::At(time.as_millis())
}

#[tokio::test]
async fn a_time_divides_the_events_before_it_from_those_from_then_on() {
    let engines = engines(Duration::from_secs(3_600)).await;
    let mut appended = Vec::new();
    for number in 0..10 {
        let topic_has_it = number % 3 != 2;
        if topic_has_it {
            let positions = engines.publish(ORDERS, &orders(number..number + 1)).await;
            appended.push((engines.clock.now(), positions[0]));
        } else {
            engines.publish(STATUSES, &[status("1")]).await;
        }
        engines
            .clock
            .advance(Duration::from_millis(number as u64 % 4));
    }
    engines.clock.advance(Duration::from_secs(60));
    let subscriber = subscriber(&engines, ORDERS).await;
    for (time, position) in &appended {
        let found = subscriber.position_at(at(*time)).await.unwrap();
        assert!(found < *position);
        let before = appended.iter().rfind(|(earlier, _)| earlier < time);
        assert!(before.is_none_or(|(_, before)| *before <= found));
    }
    // So long ago is by the broker's clock.
    let whole = subscriber.position_at(Moment::Ago(61_000)).await.unwrap();
    assert!(whole < appended[0].1);
    let nothing = subscriber.position_at(Moment::Ago(0)).await.unwrap();
    assert!(nothing >= appended[appended.len() - 1].1);
}

#[tokio::test]
async fn a_time_to_come_is_refused_with_the_time_it_is() {
    let engines = engines(Duration::from_secs(3_600)).await;
    let subscriber = subscriber(&engines, ORDERS).await;
    let now = engines.clock.now();
    assert!(subscriber.position_at(at(now)).await.is_ok());
    let next = now.saturating_add(Duration::from_millis(1));
    let refused = subscriber.position_at(at(next)).await.unwrap_err();
    assert!(matches!(
        refused,
        TimeError::Future { at, now: told } if at == next && told == now
    ));
    assert_eq!(
        refused.to_string(),
        "the time 2023-11-14T22:13:20.001Z is in the future: it is 2023-11-14T22:13:20Z by the \
         gateway's clock"
    );
}

#[tokio::test]
async fn a_time_before_the_log_is_the_earliest_as_long_as_nothing_was_purged() {
    let engines = engines(Duration::from_secs(60)).await;
    let first = engines.publish(ORDERS, &orders(0..1)).await[0];
    let began = engines.clock.now();
    let long_ago = Moment::At(0);
    let found = subscriber(&engines, ORDERS)
        .await
        .position_at(long_ago)
        .await;
    assert!(found.unwrap() < first);

    engines.clock.advance(Duration::from_secs(61));
    engines.publish(ORDERS, &orders(1..2)).await;
    let subscriber = subscriber(&engines, ORDERS).await;
    for asked in [0, began.as_millis()] {
        let refused = subscriber.position_at(Moment::At(asked)).await.unwrap_err();
        let TimeError::Purged { oldest, .. } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(
            oldest.as_millis(),
            began.as_millis() + 1,
            "what was purged is older"
        );
        assert_eq!(subscriber.position_at(at(oldest)).await.unwrap(), first);
    }
    let other = engines
        .broker
        .subscriber(&principal(), STATUSES)
        .await
        .unwrap();
    assert!(
        other.position_at(long_ago).await.is_ok(),
        "nothing of it was purged"
    );
}

#[tokio::test]
async fn a_place_has_the_time_of_the_first_event_behind_it() {
    let engines = engines(Duration::from_secs(3_600)).await;
    let caller = principal();
    let place = |moment| engines.broker.resolve_time(&caller, ORDERS, moment);
    let empty = place(Moment::Ago(0)).await.unwrap();
    assert_eq!(empty.next_at, None);
    let began = engines.clock.now();
    let first = engines.publish(ORDERS, &orders(0..1)).await[0];
    engines.clock.advance(Duration::from_secs(5));
    engines.publish(STATUSES, &[status("1")]).await;
    let next_at = engines.clock.now();
    engines.publish(ORDERS, &orders(1..2)).await;
    let found = place(Moment::At(began.as_millis() + 1)).await.unwrap();
    let wanted = TimePlace {
        position: first,
        next_at: Some(next_at),
    };
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn damage_in_the_way_is_told_and_never_passed_over() {
    let engines = engines(Duration::from_secs(3_600)).await;
    let first = engines.publish(ORDERS, &orders(0..1)).await[0];
    engines.clock.advance(Duration::from_secs(5));
    let second = engines.publish(ORDERS, &orders(1..2)).await[0];
    engines.log.damage(first, second);
    let moment = Moment::Ago(3_000);
    let found = engines
        .broker
        .resolve_time(&principal(), ORDERS, moment)
        .await;
    assert!(matches!(found, Err(SubscribeError::Position(_))));
    let subscriber = subscriber(&engines, ORDERS).await;
    let position = subscriber.position_at(moment).await.unwrap();
    let mut subscription = subscriber
        .subscribe(Start::After(position), 1, None)
        .unwrap();
    assert!(subscription.next().await.is_err());
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_no_refusal_of_the_time() {
    let engines = engines(Duration::from_secs(3_600)).await;
    let subscriber = subscriber(&engines, ORDERS).await;
    engines.log.set(Behaviour::Unreadable).await;
    let failed = subscriber.position_at(Moment::Ago(0)).await;
    assert!(matches!(failed, Err(TimeError::Storage(_))));
    assert_eq!(subscriber.earliest(), Ok(Position::ZERO));
}
