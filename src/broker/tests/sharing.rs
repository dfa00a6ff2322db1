//! A subscription of which others get the rest.

use std::sync::Arc;

use super::engines::{Engines, ORDERS, orders, principal};
use crate::{
    broker::{
        Config, Delivery, Subscription,
        sharing::{SlotSet, key::KeySlots, part::Part},
    },
    event_log,
    types::{Position, Start},
};

/// A subscription from the earliest event on that has nothing yet, and the positions of 60 events.
async fn parted(engines: &Engines) -> (Subscription, Vec<Position>) {
    let positions = engines.publish(ORDERS, &orders(0..60)).await;
    let subscriber = engines.broker.subscriber(&principal(), ORDERS).await;
    let mut subscription = subscriber
        .unwrap()
        .subscribe(Start::Earliest, 100, None)
        .unwrap();
    let key = "Order_Number__c".parse().unwrap();
    let slots = KeySlots::new(key, engines.schemas().await);
    subscription.set_part(Part::new(Arc::new(slots)));
    room(&mut subscription, 100);
    (subscription, positions)
}

fn room(subscription: &mut Subscription, events: usize) {
    subscription.part().unwrap().0.set_room(events);
}

/// How many events a delivery has.
fn count(delivery: &Delivery) -> usize {
    let runs = &delivery.parted.as_ref().unwrap().runs;
    runs.iter().map(|run| run.count as usize).sum()
}

async fn engines() -> Engines {
    Engines::new(Config::default(), event_log::Config::default()).await
}

#[tokio::test(start_paused = true)]
async fn no_more_is_sent_than_there_is_room_for() {
    let engines = engines().await;
    let (mut subscription, _) = parted(&engines).await;
    for slot in SlotSet::ALL.iter() {
        subscription.gain(slot, Position::ZERO);
    }
    for (events, expected) in [(7, 7), (0, 0), (3, 3), (100, 50)] {
        room(&mut subscription, events);
        // Without room a keepalive comes, as without events.
        let delivery = subscription.next().await.unwrap();
        assert_eq!(count(&delivery), expected, "room for {events}");
    }
    assert_eq!(subscription.pending(), 40);
}

#[tokio::test(start_paused = true)]
async fn what_is_gained_comes_from_where_it_is_and_nothing_comes_twice() {
    let engines = engines().await;
    let (mut subscription, positions) = parted(&engines).await;
    let nothing = subscription.next().await.unwrap();
    assert_eq!((count(&nothing), nothing.latest), (0, positions[59]));
    let (mut all, mut counts) = (Vec::new(), Vec::new());
    for (slots, after) in [(0..20, 0), (20..40, 31), (40..64, 0)] {
        for slot in slots {
            subscription.gain(slot, positions[after]);
        }
        let delivery = subscription.next().await.unwrap();
        counts.push(count(&delivery));
        let parted = delivery.parted.unwrap();
        for run in parted.runs {
            let last = positions.iter().position(|it| *it == run.last).unwrap();
            all.extend(last + 1 - run.count as usize..=last);
        }
    }
    let sent = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), all[0] > 0), (sent, true), "{all:?}");
    assert!(counts.iter().all(|&count| count > 0) && sent < 59);
    assert!((32..60).all(|event| all.contains(&event)));
}

#[tokio::test(start_paused = true)]
async fn slots_that_cannot_go_on_are_told_from_those_that_are_further_ahead() {
    let engines = engines().await;
    let (mut subscription, positions) = parted(&engines).await;
    subscription.next().await.unwrap();
    subscription.gain(1, positions[10]);
    subscription.gain(2, positions[50]);
    subscription.skip(positions[20]);
    assert_eq!(subscription.position(), positions[20]);
    subscription.skip(positions[59]);
    assert_eq!(subscription.position(), positions[50]);
    // Without the slot that was furthest behind it does not go back for it.
    subscription.gain(3, positions[5]);
    assert_eq!(subscription.position(), positions[5]);
    subscription.lose(3);
    assert_eq!(subscription.position(), positions[50]);
}
