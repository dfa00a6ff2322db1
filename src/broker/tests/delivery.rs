//! Delivery against a model, at every interleaving of grants and publishes.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use prost::Message;
use tokio::{runtime::Handle, time::Instant};

use super::engines::{Engines, ORDERS, STATUSES, large_order, orders, principal, status};
use crate::{
    broker::{Config, Delivery, GrantError, Subscription, SubscriptionEnd},
    event_log::{self, PositionError},
    proto::{
        ConsumerEvent,
        raw::{self, WireMessage},
    },
    types::{
        Start,
        limits::{CREDIT_MAX, DELIVERY_BYTES},
    },
};

async fn engines() -> Engines {
    Engines::new(Config::default(), event_log::Config::default()).await
}

async fn subscribe(engines: &Engines, start: Start, requested: i32) -> Subscription {
    let subscriber = principal();
    let subscriber = engines.broker.subscriber(&subscriber, ORDERS).await;
    subscriber
        .unwrap()
        .subscribe(start, requested, None)
        .unwrap()
}

fn events(delivery: &Delivery) -> Vec<ConsumerEvent> {
    let encoded: Bytes = delivery.events.concat().into();
    let response = raw::FetchResponse::read(encoded).unwrap();
    let events = response.events.values().iter();
    events
        .map(|event| ConsumerEvent::decode(event).unwrap())
        .collect()
}

fn numbers(delivery: &Delivery) -> Vec<usize> {
    let events = events(delivery).into_iter();
    events
        .map(|event| event.event.unwrap().id.parse().unwrap())
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i32),
    Publish(usize),
    Elsewhere,
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop_oneof![-1..3, 1..130, Just(i32::MAX), Just(i32::MIN)].prop_map(Step::Grant),
        3 => prop_oneof![1..4usize, 1..300usize].prop_map(Step::Publish),
        1 => Just(Step::Elsewhere),
        4 => Just(Step::Take),
    ]
}

/// What a subscription should do: a number and a queue.
#[derive(Default)]
struct Model {
    credit: usize,
    due: VecDeque<usize>,
}

impl Model {
    fn grant(&mut self, requested: i32) -> Result<(), GrantError> {
        if requested < 1 {
            return Err(GrantError::NotPositive(requested));
        }
        let requested = usize::try_from(requested).unwrap();
        self.credit = (self.credit + requested.min(100)).min(100);
        Ok(())
    }

    fn take(&mut self) -> Vec<usize> {
        let count = self.credit.min(self.due.len());
        self.credit -= count;
        self.due.drain(..count).collect()
    }
}

async fn follow_the_model(first: i32, steps: Vec<Step>) {
    let engines = engines().await;
    let mut subscription = subscribe(&engines, Start::Latest, first).await;
    let mut model = Model::default();
    model.grant(first).unwrap();
    let mut published = 0;
    for step in steps {
        match step {
            Step::Grant(requested) => {
                assert_eq!(subscription.grant(requested), model.grant(requested));
            }
            Step::Publish(count) => {
                let numbers = published..published + count;
                engines.publish(ORDERS, &orders(numbers.clone())).await;
                published = numbers.end;
                model.due.extend(numbers);
            }
            Step::Elsewhere => {
                engines.publish(STATUSES, &[status("other")]).await;
            }
            Step::Take => {
                // What is due is there at once, and in one response.
                let expected = model.take();
                let delivered = subscription.next().now_or_never();
                if expected.is_empty() {
                    assert!(delivered.is_none(), "{delivered:?}");
                    continue;
                }
                let delivered = delivered.expect("events are due").unwrap();
                assert_eq!(numbers(&delivered), expected);
                assert_eq!(delivered.pending as usize, model.credit);
                let replay_id = events(&delivered).last().unwrap().replay_id.clone();
                assert_eq!(delivered.latest.replay_id().as_bytes()[..], replay_id[..]);
            }
        }
        assert_eq!(subscription.pending() as usize, model.credit);
    }
}

#[test]
fn credit_pending_and_order_are_exact_in_any_sequence_of_grants_and_publishes() {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(60)
    };
    let strategy = (1..120i32, prop::collection::vec(step(), 0..40));
    proptest!(config, |((first, steps) in strategy)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(follow_the_model(first, steps));
    });
}

#[tokio::test(start_paused = true)]
async fn sixty_and_sixty_make_a_hundred_and_no_more_is_sent() {
    let engines = engines().await;
    let mut subscription = subscribe(&engines, Start::Latest, 60).await;
    subscription.grant(60).unwrap();
    assert_eq!(subscription.pending(), CREDIT_MAX);
    engines.publish(ORDERS, &orders(0..150)).await;
    let delivery = subscription.next().await.unwrap();
    assert_eq!(numbers(&delivery), (0..100).collect::<Vec<_>>());
    assert_eq!(delivery.pending, 0);
    assert!(subscription.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn large_events_fill_each_response_and_none_is_lost() {
    const COUNT: usize = 10;
    let engines = engines().await;
    let mut subscription = subscribe(&engines, Start::Latest, 100).await;
    for number in 0..COUNT {
        // Four of these fit into a delivery, a fifth does not.
        let event = large_order(number, 60_000 + number);
        engines.publish(ORDERS, &[event]).await;
    }
    let mut delivered = Vec::new();
    let mut responses = 0;
    while delivered.len() < COUNT {
        let delivery = subscription.next().await.unwrap();
        let bytes: usize = delivery.events.iter().map(Bytes::len).sum();
        assert!(bytes <= DELIVERY_BYTES, "{bytes}");
        delivered.extend(numbers(&delivery));
        assert_eq!(delivery.pending as usize, 100 - delivered.len());
        responses += 1;
    }
    assert_eq!(delivered, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(responses, COUNT.div_ceil(4));
}

#[tokio::test(start_paused = true)]
async fn many_small_blocks_go_out_in_one_response() {
    let engines = engines().await;
    for number in 0..100 {
        engines.publish(ORDERS, &orders(number..number + 1)).await;
        engines.publish(STATUSES, &[status("between")]).await;
    }
    let mut subscription = subscribe(&engines, Start::Earliest, 100).await;
    let delivery = subscription.next().await.unwrap();
    assert_eq!(numbers(&delivery), (0..100).collect::<Vec<_>>());
    assert_eq!(delivery.pending, 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_larger_than_a_delivery_comes_alone() {
    let engines = engines().await;
    for (number, bytes) in [1_000, DELIVERY_BYTES + 1, 1_000, 1_000]
        .into_iter()
        .enumerate()
    {
        engines.publish(ORDERS, &[large_order(number, bytes)]).await;
    }
    let mut subscription = subscribe(&engines, Start::Earliest, 100).await;
    for wanted in [vec![0], vec![1], vec![2, 3]] {
        let delivery = subscription.next().await.unwrap();
        assert_eq!(numbers(&delivery), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_keepalive_says_how_far_the_log_is_when_it_is_sent() {
    let engines = engines().await;
    let mut subscription = subscribe(&engines, Start::Latest, 5).await;
    let began = Instant::now();
    let next = tokio::spawn(async move {
        let delivery = subscription.next().await.unwrap();
        (delivery, subscription)
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    let elsewhere = engines.publish(STATUSES, &[status("other")]).await;
    let (keepalive, mut subscription) = next.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 60);
    assert!(keepalive.events.is_empty());
    assert_eq!(keepalive.pending, 5);
    assert_eq!(keepalive.latest, elsewhere[0]);

    // An event of the topic is never passed by.
    engines.publish(ORDERS, &orders(0..1)).await;
    engines.publish(STATUSES, &[status("other")]).await;
    assert_eq!(numbers(&subscription.next().await.unwrap()), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_changes_nothing() {
    let engines = engines().await;
    let mut subscription = subscribe(&engines, Start::Latest, 5).await;
    let began = Instant::now();
    for _ in 0..50 {
        assert!(subscription.next().now_or_never().is_none());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let keepalive = subscription.next().await.unwrap();
    assert!(keepalive.events.is_empty());
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn retention_that_overtakes_a_subscription_ends_it() {
    let log_config = event_log::Config {
        retention: Duration::from_secs(60),
        ..event_log::Config::default()
    };
    let engines = Engines::new(Config::default(), log_config).await;
    let mut subscription = subscribe(&engines, Start::Latest, 1).await;
    engines.publish(ORDERS, &orders(0..3)).await;
    assert_eq!(numbers(&subscription.next().await.unwrap()), [0]);
    engines.clock.advance(Duration::from_secs(61));
    engines.publish(ORDERS, &orders(3..4)).await;
    subscription.grant(1).unwrap();
    let end = subscription.next().await.unwrap_err();
    assert!(
        matches!(end, SubscriptionEnd::Position(PositionError::Purged { .. })),
        "{end:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_published_after_a_subscription_to_the_latest_began_is_delivered() {
    const COUNT: usize = 2_000;
    let engines = Arc::new(engines().await);
    let under_way = Arc::new(AtomicUsize::new(0));
    let publishing = tokio::spawn({
        let (engines, under_way) = (Arc::clone(&engines), Arc::clone(&under_way));
        async move {
            for number in 0..COUNT {
                under_way.store(number, Ordering::SeqCst);
                engines.publish(ORDERS, &orders(number..number + 1)).await;
            }
        }
    });
    let mut subscribers = Vec::new();
    while under_way.load(Ordering::SeqCst) < COUNT / 2 && subscribers.len() < 50 {
        let subscription = subscribe(&engines, Start::Latest, 100).await;
        // The one under way may have been readable before; the next one was not.
        let due = under_way.load(Ordering::SeqCst) + 1;
        subscribers.push(tokio::spawn(receive_until(subscription, due, COUNT)));
        tokio::task::yield_now().await;
    }
    publishing.await.unwrap();
    for subscriber in subscribers {
        subscriber.await.unwrap();
    }
}

/// Receives every number from at most `first` to `end`, each once and in order.
async fn receive_until(mut subscription: Subscription, first: usize, end: usize) {
    let mut next = None;
    while next != Some(end) {
        let delivery = subscription.next().await.unwrap();
        for number in numbers(&delivery) {
            match next {
                None => assert!(number <= first, "{number} came first, {first} was due"),
                Some(next) => assert_eq!(number, next),
            }
            next = Some(number + 1);
        }
        if delivery.pending < 50 {
            subscription.grant(50).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_subscription_is_small_and_has_no_task() {
    let engines = engines().await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut subscription = subscribe(&engines, Start::Latest, 5).await;
    assert!(
        size_of_val(&subscription) <= 768,
        "{}",
        size_of_val(&subscription)
    );
    let mut next = Box::pin(subscription.next());
    assert!((&mut next).now_or_never().is_none());
    assert!(size_of_val(&*next) <= 2_048, "{}", size_of_val(&*next));
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
}
