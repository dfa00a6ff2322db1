//! What publishers of the same ids are answered, whatever happens meanwhile.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use prost::Message;

use tokio::time::Instant;

use super::*;
use crate::{
    broker::{
        Batch, Config as BrokerConfig, EventRefusal, PublishError, Published, Selection,
        TopicError,
        tests::{
            engines::{
                Engines, ORDERS, STATUSES, cut_short, large_order, order, orders, principal, status,
            },
            log_double::Behaviour,
        },
    },
    event_log::{self, AppendError, Refusal},
    proto::ProducerEvent,
    types::{EventView, Position},
};

const WINDOW: Duration = Duration::from_secs(600);

fn config() -> Config {
    Config {
        enabled: true,
        window: WINDOW,
        ..Config::default()
    }
}

async fn engines() -> Engines {
    engines_with(config(), event_log::Config::default()).await
}

async fn engines_with(config: Config, log: event_log::Config) -> Engines {
    let config = BrokerConfig {
        idempotence: config,
        ..BrokerConfig::default()
    };
    Engines::new(config, log).await
}

/// Lets time pass, by both clocks.
async fn pass(engines: &Engines, time: Duration) {
    engines.clock.advance(time);
    tokio::time::advance(time).await;
}

async fn batch(engines: &Engines, topic: &str, events: &[ProducerEvent]) -> Batch {
    let publisher = engines.broker.publisher(&principal(), None, topic).await;
    let mut batch = publisher.unwrap().batch(events.len(), 0).unwrap();
    for event in events {
        batch.push(&EventView::parse(&event.encode_to_vec()).unwrap());
    }
    batch
}

async fn publish(
    engines: &Engines,
    topic: &str,
    events: &[ProducerEvent],
) -> Result<Published, PublishError> {
    let batch = batch(engines, topic, events).await;
    batch.append_in_time().await?.outcome().await
}

fn positions(published: &Published) -> Vec<Position> {
    let outcomes = published.outcomes();
    outcomes.map(|outcome| outcome.result.unwrap()).collect()
}

/// How many events the log was given of a topic.
async fn stored(engines: &Engines, topic: &str) -> u64 {
    let topic = engines.broker.topic(&principal(), topic).await.unwrap();
    topic.state.ordinal
}

fn counted(engines: &Engines, metric: &str) -> String {
    let scrape = engines.scrape();
    let line = scrape.lines().find(|line| line.starts_with(metric));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.unwrap_or("0").to_owned()
}

async fn set_idempotence(engines: &Engines, idempotent: Option<bool>) {
    let (broker, caller) = (&engines.broker, principal());
    let set = broker.set_idempotence(&caller, ORDERS, idempotent);
    set.await.unwrap();
}

/// Erases the orders with an id, and returns how many they were.
async fn erase(engines: &Engines, id: &str) -> u64 {
    let selection = Selection::Ids([id.to_owned()].into());
    let (broker, caller) = (&engines.broker, principal());
    let erased = broker.erase(&caller, ORDERS, &selection, false);
    erased.await.unwrap().erased
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_again_gets_the_first_answer() {
    let engines = engines().await;
    let first = positions(&publish(&engines, ORDERS, &orders(0..3)).await.unwrap());
    let again = publish(&engines, ORDERS, &orders(1..5)).await.unwrap();
    let ids: Vec<_> = again
        .outcomes()
        .map(|outcome| outcome.id.to_owned())
        .collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    let again = positions(&again);
    assert_eq!(again[..2], first[1..]);
    assert!(again[2] > first[2] && again[3] > again[2]);
    assert_eq!(stored(&engines, ORDERS).await, 5);
    assert_eq!(counted(&engines, "broker_published_events_total"), "5");
    assert_eq!(
        counted(&engines, "broker_idempotence_duplicates_total"),
        "2"
    );
    assert_eq!(counted(&engines, "broker_idempotence_ids"), "5");
}

#[tokio::test]
async fn without_it_everything_is_stored() {
    let engines = engines_with(Config::default(), event_log::Config::default()).await;
    publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 6);
    assert_eq!(counted(&engines, "broker_idempotence_ids"), "0");
}

#[tokio::test]
async fn of_the_same_ids_in_one_request_the_first_is_stored() {
    let engines = engines().await;
    let mut events = orders(0..2);
    // The first good one counts: one that is refused leaves nothing behind.
    events.insert(0, cut_short(orders(0..1).remove(0)));
    events.extend(orders(0..2));
    let published = publish(&engines, ORDERS, &events).await.unwrap();
    let outcomes: Vec<_> = published.outcomes().collect();
    assert!(matches!(outcomes[0].result, Err(EventRefusal::Payload(_))));
    for (first, second) in [(1, 3), (2, 4)] {
        let result = |index: usize| *outcomes[index].result.as_ref().unwrap();
        assert_eq!(result(first), result(second));
    }
    assert_eq!(stored(&engines, ORDERS).await, 2);
}

#[tokio::test]
async fn events_without_ids_and_ids_of_another_topic_are_others() {
    let engines = engines().await;
    let events = [order("7"), order("7")];
    publish(&engines, ORDERS, &events).await.unwrap();
    publish(&engines, ORDERS, &events).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 4);
    assert_eq!(counted(&engines, "broker_idempotence_ids"), "0");
    let status = ProducerEvent {
        id: "0".into(),
        ..status("0")
    };
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    publish(&engines, STATUSES, &[status]).await.unwrap();
    assert_eq!(stored(&engines, STATUSES).await, 1);
}

#[tokio::test]
async fn what_is_left_of_a_request_keeps_its_places_across_bodies() {
    let engines = engines().await;
    let large = |number| large_order(number, 100_000);
    let first = publish(&engines, ORDERS, &[large(1), large(2), large(4)]).await;
    let first = positions(&first.unwrap());
    let events: Vec<_> = (0..8).map(large).collect();
    let all = publish(&engines, ORDERS, &events).await.unwrap();
    let all = positions(&all);
    assert_eq!([all[1], all[2], all[4]], first[..]);
    let again = publish(&engines, ORDERS, &events).await.unwrap();
    assert_eq!(positions(&again), all);
    assert_eq!(stored(&engines, ORDERS).await, 8);
    for (number, position) in all.iter().enumerate() {
        assert_eq!(id_at(&engines, *position).await, number.to_string());
    }
}

/// The id of the order at a position.
async fn id_at(engines: &Engines, position: Position) -> String {
    let topic = engines.broker.topic(&principal(), ORDERS).await.unwrap();
    let before = Position::new(position.get() - 1).unwrap();
    let log = engines.tenant_log().await;
    let read = log.read(&[topic.event_type.topic_id()], before, 1).await;
    let block = read.unwrap().blocks.remove(0);
    let mut events = block.events();
    let (_, event) = events.find(|(at, _)| *at == position).unwrap();
    EventView::parse(event).unwrap().id().to_owned()
}

#[tokio::test]
async fn who_comes_while_an_event_is_on_its_way_waits_and_gets_its_answer() {
    let engines = engines().await;
    engines.log.set(Behaviour::Slow).await;
    // With the ids in another order, and some of its own: neither can wait for the other for ever.
    let one = batch(&engines, ORDERS, &orders(0..3)).await;
    let mut events = orders(0..5);
    events.reverse();
    let other = batch(&engines, ORDERS, &events).await;
    let one = one.append_in_time().await.unwrap();
    let other = other.append_in_time().await.unwrap();
    let other = tokio::spawn(other.outcome());
    engines.log.set(Behaviour::Good).await;
    let mut other = positions(&other.await.unwrap().unwrap());
    other.reverse();
    let one = positions(&one.outcome().await.unwrap());
    assert_eq!(one, other[..3]);
    assert_eq!(stored(&engines, ORDERS).await, 5);
}

#[tokio::test]
async fn an_event_whose_publisher_went_away_is_found_by_the_next() {
    let engines = engines().await;
    engines.log.set(Behaviour::Slow).await;
    let pending = batch(&engines, ORDERS, &orders(0..3)).await.append().await;
    drop(pending);
    let again = batch(&engines, ORDERS, &orders(0..3)).await.append().await;
    let again = tokio::spawn(again.unwrap().outcome());
    engines.log.set(Behaviour::Good).await;
    let again = positions(&again.await.unwrap().unwrap());
    let third = publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    assert_eq!(positions(&third), again);
    assert_eq!(stored(&engines, ORDERS).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_went_away_before_there_was_room_leaves_its_ids_to_others() {
    let engines = engines().await;
    // The topic is read back before anything is to wait for room.
    publish(&engines, ORDERS, &orders(9..10)).await.unwrap();
    engines.log.set(Behaviour::NoRoom).await;
    let batch_of_one = batch(&engines, ORDERS, &orders(0..3)).await;
    let first = tokio::spawn(batch_of_one.append_in_time());
    let batch_of_other = batch(&engines, ORDERS, &orders(0..2)).await;
    while engines.log.appends() < 2 {
        tokio::task::yield_now().await;
    }
    let other = tokio::spawn(async { batch_of_other.append().await.unwrap().outcome().await });
    let refused = first.await.unwrap().unwrap_err();
    assert!(matches!(refused, PublishError::Overloaded(_)));
    engines.log.set(Behaviour::Good).await;
    let other = positions(&other.await.unwrap().unwrap());
    assert_eq!(other.len(), 2);
    let all = publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    assert_eq!(positions(&all)[..2], other);
    assert_eq!(stored(&engines, ORDERS).await, 4);
}

#[tokio::test]
async fn a_refused_event_leaves_nothing_behind() {
    let engines = engines().await;
    engines.log.set(Behaviour::Refuse(Refusal::DiskFull)).await;
    let refused = publish(&engines, ORDERS, &orders(0..1)).await.unwrap_err();
    assert!(matches!(refused, PublishError::Refused(Refusal::DiskFull)));
    engines.log.set(Behaviour::Good).await;
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 1);
}

#[tokio::test]
async fn an_event_in_doubt_stays_in_doubt_until_the_log_says_what_it_has() {
    let mut engines = engines().await;
    let large = |number| large_order(number, 200_000);
    engines.log.set(Behaviour::FirstBodyOnly).await;
    let published = publish(&engines, ORDERS, &[large(0), large(1)])
        .await
        .unwrap();
    let first = published.outcomes().next().unwrap().result.unwrap();
    engines.log.set(Behaviour::Good).await;
    for _ in 0..2 {
        let again = publish(&engines, ORDERS, &[large(1)]).await.unwrap_err();
        assert!(matches!(again, PublishError::Unconfirmed(_)), "{again}");
        // Beside one whose fate is known each is answered for itself.
        let again = publish(&engines, ORDERS, &[large(0), large(1)])
            .await
            .unwrap();
        let outcomes: Vec<_> = again.outcomes().collect();
        assert_eq!(*outcomes[0].result.as_ref().unwrap(), first);
        assert!(matches!(
            outcomes[1].result,
            Err(EventRefusal::NotStored(AppendError::Unconfirmed(_)))
        ));
    }
    engines.restart();
    let again = publish(&engines, ORDERS, &[large(0), large(1)])
        .await
        .unwrap();
    assert_eq!(positions(&again)[0], first);
    assert_eq!(stored(&engines, ORDERS).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_id_is_remembered_as_long_as_the_window_also_after_a_restart() {
    for is_restarted in [false, true] {
        let mut engines = engines().await;
        let first = positions(&publish(&engines, ORDERS, &orders(0..1)).await.unwrap());
        pass(&engines, WINDOW - Duration::from_secs(1)).await;
        if is_restarted {
            engines.restart();
        }
        let again = publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
        assert_eq!(positions(&again), first);
        // A duplicate does not count as seen anew.
        pass(&engines, Duration::from_secs(1)).await;
        let later = publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
        assert!(positions(&later) > first);
    }
}

#[tokio::test(start_paused = true)]
async fn ids_whose_time_is_over_take_no_memory() {
    let engines = engines().await;
    publish(&engines, ORDERS, &orders(0..100)).await.unwrap();
    pass(&engines, WINDOW).await;
    assert_eq!(counted(&engines, "broker_idempotence_ids"), "100");
    engines.broker.close_quiet().await;
    assert_eq!(counted(&engines, "broker_idempotence_ids"), "0");
    assert_eq!(
        counted(&engines, "broker_idempotence_forgotten_ids_total"),
        "0"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retention_that_is_shorter_shortens_the_window() {
    let engines = engines().await;
    let retention = Some(Duration::from_secs(60));
    let caller = principal();
    let set = engines.broker.set_retention(&caller, ORDERS, retention);
    set.await.unwrap();
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    pass(&engines, Duration::from_secs(61)).await;
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 2);
}

#[tokio::test]
async fn an_id_goes_with_an_event_that_is_purged_by_size() {
    let log = event_log::Config {
        retention_bytes: Some(500_000),
        ..event_log::Config::default()
    };
    let engines = engines_with(config(), log).await;
    let large = |number| large_order(number, 200_000);
    for number in 0..5 {
        publish(&engines, ORDERS, &[large(number)]).await.unwrap();
    }
    let again = publish(&engines, ORDERS, &[large(0), large(4)])
        .await
        .unwrap();
    assert!(positions(&again)[0] > positions(&again)[1]);
    assert_eq!(stored(&engines, ORDERS).await, 6);
}

#[tokio::test]
async fn the_oldest_ids_go_first_when_there_are_too_many() {
    let config = Config {
        ids_per_topic_max: 3,
        ids_max: 4,
        ..config()
    };
    let mut engines = engines_with(config, event_log::Config::default()).await;
    publish(&engines, ORDERS, &orders(0..5)).await.unwrap();
    assert_eq!(counted(&engines, "broker_idempotence_ids"), "3");
    let forgotten =
        |bound: &str| format!("broker_idempotence_forgotten_ids_total{{bound=\"{bound}\"}}");
    assert_eq!(counted(&engines, &forgotten("topic")), "2");
    publish(&engines, ORDERS, &orders(2..5)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 5);

    // Another topic comes: the oldest of all goes, not the oldest of that one.
    let statuses = |numbers: std::ops::Range<usize>| {
        let status = |number: usize| ProducerEvent {
            id: number.to_string(),
            ..status("x")
        };
        numbers.map(status).collect::<Vec<_>>()
    };
    publish(&engines, STATUSES, &statuses(0..1)).await.unwrap();
    publish(&engines, STATUSES, &statuses(1..2)).await.unwrap();
    assert_eq!(counted(&engines, &forgotten("gateway")), "1");
    publish(&engines, ORDERS, &orders(3..5)).await.unwrap();
    publish(&engines, STATUSES, &statuses(0..2)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 5);
    assert_eq!(stored(&engines, STATUSES).await, 2);

    engines.restart();
    publish(&engines, ORDERS, &orders(2..5)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 5, "as many are read back");
}

#[tokio::test]
async fn more_events_than_are_remembered_are_read_back_from_the_newest_on() {
    let config = Config {
        ids_per_topic_max: 50,
        ..config()
    };
    let mut engines = engines_with(config, event_log::Config::default()).await;
    for number in 0..300 {
        publish(&engines, ORDERS, &orders(number..number + 1))
            .await
            .unwrap();
        engines.clock.advance(Duration::from_millis(10));
    }
    engines.restart();
    publish(&engines, ORDERS, &orders(250..300)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 300);
    publish(&engines, ORDERS, &orders(249..250)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 301);
}

#[tokio::test]
async fn a_clock_that_was_put_back_makes_nothing_forgotten() {
    let mut engines = engines().await;
    publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    let before = engines.clock.now().as_millis() - 3_600_000;
    engines
        .clock
        .set(crate::clock::Timestamp::from_millis(before));
    engines.restart();
    publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 3);
}

#[tokio::test]
async fn a_topic_is_switched_on_and_off_at_once() {
    let engines = engines_with(
        Config {
            enabled: false,
            ..config()
        },
        event_log::Config::default(),
    )
    .await;
    let set = async |idempotent| {
        set_idempotence(&engines, idempotent).await;
    };
    let first = positions(&publish(&engines, ORDERS, &orders(0..1)).await.unwrap());
    set(Some(true)).await;
    let again = publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(positions(&again), first, "the log knows it from before");
    set(Some(false)).await;
    publish(&engines, ORDERS, &orders(0..2)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 3);
    set(Some(true)).await;
    let again = publish(&engines, ORDERS, &orders(0..2)).await.unwrap();
    assert_eq!(
        positions(&again)[0],
        first[0],
        "of two the first one counts"
    );
    assert_eq!(stored(&engines, ORDERS).await, 3);
    set(None).await;
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 4);
    assert_eq!(counted(&engines, "broker_idempotence_ids"), "0");
}

#[tokio::test]
async fn what_was_on_its_way_when_a_topic_was_read_again_is_known() {
    let engines = engines().await;
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    engines.log.set(Behaviour::Slow).await;
    let pending = batch(&engines, ORDERS, &orders(1..2))
        .await
        .append()
        .await
        .unwrap();
    set_idempotence(&engines, Some(true)).await;
    let again = batch(&engines, ORDERS, &orders(0..2))
        .await
        .append()
        .await
        .unwrap();
    engines.log.set(Behaviour::Good).await;
    let pending = positions(&pending.outcome().await.unwrap());
    assert_eq!(positions(&again.outcome().await.unwrap())[1], pending[0]);
    assert_eq!(stored(&engines, ORDERS).await, 2);
}

#[tokio::test]
async fn the_id_of_an_erased_event_may_be_published_again() {
    let engines = engines().await;
    publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    assert_eq!(erase(&engines, "1").await, 1);
    publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 4);
    publish(&engines, ORDERS, &orders(0..3)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 4);
}

#[tokio::test(start_paused = true)]
async fn publishes_with_ids_wait_for_what_is_read_back_and_others_do_not() {
    let mut engines = engines().await;
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    engines.restart();
    engines.log.set(Behaviour::Unreadable).await;
    let refused = publish(&engines, ORDERS, &orders(0..1)).await.unwrap_err();
    let unavailable = PublishError::Topic(TopicError::unavailable(std::io::Error::other("")));
    assert_eq!(refused.to_string(), unavailable.to_string());
    publish(&engines, ORDERS, &[order("without an id")])
        .await
        .unwrap();
    // It is tried again by the next one.
    engines.log.set(Behaviour::Good).await;
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 2);

    engines.restart();
    let permits = IDEMPOTENCE_REBUILDS_MAX as u32;
    let reading = engines
        .broker
        .0
        .idempotence
        .rebuilds
        .acquire_many(permits)
        .await;
    let refused = publish(&engines, ORDERS, &orders(0..1)).await.unwrap_err();
    assert!(matches!(refused, PublishError::Overloaded(_)), "{refused}");
    drop(reading);
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 2);
}

#[tokio::test]
async fn a_hole_in_the_log_is_passed_over() {
    let mut engines = engines().await;
    let first = positions(&publish(&engines, ORDERS, &orders(0..1)).await.unwrap());
    let second = positions(&publish(&engines, ORDERS, &orders(1..2)).await.unwrap());
    publish(&engines, ORDERS, &orders(2..3)).await.unwrap();
    let before = Position::new(first[0].get() - 1).unwrap();
    engines.log.damage(before, second[0]);
    engines.restart();
    publish(&engines, ORDERS, &orders(2..3)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_was_closed_knows_what_was_still_on_its_way() {
    let engines = engines().await;
    engines.log.set(Behaviour::Slow).await;
    drop(batch(&engines, ORDERS, &orders(0..1)).await.append().await);
    pass(&engines, BrokerConfig::default().tenant_idle).await;
    engines.broker.close_quiet().await;
    assert_eq!(counted(&engines, "broker_open_tenants"), "1");
    engines.log.set(Behaviour::Good).await;
    publish(&engines, ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(stored(&engines, ORDERS).await, 1);
}

#[tokio::test]
async fn requests_for_several_topics_take_all_their_ids_at_once() {
    let engines = engines().await;
    let status = ProducerEvent {
        id: "0".into(),
        ..status("0")
    };
    let batches = async || {
        vec![
            batch(&engines, ORDERS, &orders(0..2)).await,
            batch(&engines, STATUSES, std::slice::from_ref(&status)).await,
            // The same topic again: its first event is in the first batch.
            batch(&engines, ORDERS, &orders(1..3)).await,
        ]
    };
    let publish = async || {
        let pending = Batch::append_together(batches().await).await.unwrap();
        let outcomes = pending.outcomes().await.into_iter();
        let outcomes = outcomes.map(|published| positions(&published.unwrap()));
        outcomes.collect::<Vec<_>>()
    };
    let first = publish().await;
    assert_eq!(first[0][1], first[2][0]);
    assert_eq!(publish().await, first);
    assert_eq!(stored(&engines, ORDERS).await, 3);
    assert_eq!(stored(&engines, STATUSES).await, 1);
}

/// Publishes a few of 40 orders at a time, in any order, and gives some of them up at once. Returns
/// what was answered.
async fn publish_at_random(engines: &Engines, mut seed: u64) -> Vec<(String, Position)> {
    let mut answers = Vec::new();
    for _ in 0..200 {
        let mut below = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % bound
        };
        let mut few = || -> Vec<ProducerEvent> {
            let numbers = (0..5).map(|_| below(40) as usize);
            numbers
                .map(|number| orders(number..number + 1).remove(0))
                .collect()
        };
        // The same topic twice in one request.
        let batches = [few(), few()].map(async |events| batch(engines, ORDERS, &events).await);
        let batches = futures_util::future::join_all(batches).await;
        let publishing = async {
            let pending = Batch::append_together(batches).await?;
            Ok::<_, PublishError>(pending.outcomes().await)
        };
        if below(3) == 0 {
            _ = futures_util::FutureExt::now_or_never(publishing);
            continue;
        }
        let published = match publishing.await {
            Ok(published) => published,
            Err(PublishError::Overloaded(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        for published in published {
            let published = published.unwrap();
            let answered = published.outcomes();
            let answered = answered.map(|it| (it.id.to_owned(), *it.result.as_ref().unwrap()));
            answers.extend(answered);
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_of_the_same_ids_in_any_order_neither_wait_for_ever_nor_store_twice() {
    let engines = Arc::new(engines().await);
    let publishers = (0..6).map(|seed| {
        let engines = Arc::clone(&engines);
        tokio::spawn(async move { publish_at_random(&engines, seed).await })
    });
    let publishers: Vec<_> = publishers.collect();
    while !publishers.iter().all(tokio::task::JoinHandle::is_finished) {
        for behaviour in [Behaviour::NoRoom, Behaviour::Slow, Behaviour::Good] {
            engines.log.set(behaviour).await;
            tokio::task::yield_now().await;
        }
    }
    let mut first: HashMap<String, Position> = HashMap::new();
    for publisher in publishers {
        for (id, position) in publisher.await.unwrap() {
            assert_eq!(*first.entry(id).or_insert(position), position);
        }
    }
    let all = publish(&engines, ORDERS, &orders(0..40)).await.unwrap();
    for (number, position) in positions(&all).into_iter().enumerate() {
        assert_eq!(first.get(&number.to_string()).copied(), Some(position));
    }
    assert_eq!(stored(&engines, ORDERS).await, 40);
    let windows = &engines
        .broker
        .tenant(crate::broker::tests::engines::tenant())
        .await;
    let windows = &windows.as_ref().unwrap().ids;
    assert_eq!(
        windows.unqueued.load(std::sync::atomic::Ordering::Relaxed),
        0
    );
    assert!(
        windows
            .lock()
            .values()
            .all(|topic| topic.pending.is_empty())
    );
}

/// What happens to a topic.
#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<u8>),
    Refused(Vec<u8>),
    Unconfirmed(Vec<u8>),
    Cancelled(Vec<u8>),
    Pass(u64),
    Restart,
    Erase(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ids = || prop::collection::vec(0u8..12, 1..6);
    let step = prop_oneof![
        8 => ids().prop_map(Step::Publish),
        1 => ids().prop_map(Step::Refused),
        1 => ids().prop_map(Step::Unconfirmed),
        2 => ids().prop_map(Step::Cancelled),
        3 => (1u64..400).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => (0u8..12).prop_map(Step::Erase),
    ];
    prop::collection::vec(step, 1..40)
}

/// What a model knows of an id.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// Stored, and until when that is known; where, if it was told.
    Stored(Option<Position>, Instant),
    Doubtful,
}

async fn hold_to_a_model(steps: Vec<Step>) {
    let mut engines = engines().await;
    let mut model: HashMap<u8, Known> = HashMap::new();
    let events = |ids: &[u8]| -> Vec<_> {
        let ids = ids.iter().map(|id| usize::from(*id));
        ids.map(|id| orders(id..id + 1).remove(0)).collect()
    };
    for step in steps {
        let until = Instant::now() + WINDOW;
        model.retain(|_, known| !matches!(known, Known::Stored(_, end) if *end <= Instant::now()));
        match step {
            Step::Publish(ids) => {
                let published = publish(&engines, ORDERS, &events(&ids)).await;
                let in_doubt = |id: &u8| model.get(id) == Some(&Known::Doubtful);
                let Ok(published) = published else {
                    assert!(ids.iter().all(in_doubt));
                    continue;
                };
                for (id, outcome) in ids.iter().zip(published.outcomes()) {
                    assert_eq!(
                        outcome.result.is_err(),
                        model.get(id) == Some(&Known::Doubtful)
                    );
                    let Ok(position) = outcome.result else {
                        continue;
                    };
                    let known = model.entry(*id).or_insert(Known::Stored(None, until));
                    match known {
                        Known::Stored(Some(first), _) => assert_eq!(position, *first),
                        Known::Stored(at, _) => *at = Some(position),
                        Known::Doubtful => unreachable!("it was answered with an error"),
                    }
                }
            }
            Step::Refused(ids) => {
                engines.log.set(Behaviour::Refuse(Refusal::DiskFull)).await;
                _ = publish(&engines, ORDERS, &events(&ids)).await;
                engines.log.set(Behaviour::Good).await;
            }
            Step::Unconfirmed(ids) => {
                engines.log.set(Behaviour::Unconfirmed).await;
                _ = publish(&engines, ORDERS, &events(&ids)).await;
                engines.log.set(Behaviour::Good).await;
                for id in ids {
                    model.entry(id).or_insert(Known::Doubtful);
                }
            }
            Step::Cancelled(ids) => {
                drop(batch(&engines, ORDERS, &events(&ids)).await.append().await);
                // What the log answers is taken in before time passes.
                tokio::task::yield_now().await;
                for id in ids {
                    model.entry(id).or_insert(Known::Stored(None, until));
                }
            }
            Step::Pass(seconds) => pass(&engines, Duration::from_secs(seconds)).await,
            Step::Restart => {
                engines.restart();
                // What was in doubt was not stored.
                model.retain(|_, known| *known != Known::Doubtful);
            }
            Step::Erase(id) => {
                erase(&engines, &id.to_string()).await;
                if matches!(model.get(&id), Some(Known::Stored(..))) {
                    model.remove(&id);
                }
            }
        }
    }
    for (id, known) in model {
        if matches!(known, Known::Stored(_, end) if end > Instant::now()) {
            let before = stored(&engines, ORDERS).await;
            publish(&engines, ORDERS, &events(&[id])).await.unwrap();
            assert_eq!(stored(&engines, ORDERS).await, before, "{id} was known");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_id_is_answered_as_its_history_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(hold_to_a_model(steps));
    }
}
