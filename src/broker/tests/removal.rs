//! Erasing, deleting, and keeping for a shorter time, as administrators ask for it.

use std::time::Duration;

use futures_util::FutureExt;

use super::engines::{
    Engines, ORDER_SCHEMA, ORDERS, STATUSES, old_order, orders, principal, status,
};
use crate::{
    broker::{
        Comparison, Config, Erasure, PublishError, RemovalError, Selection, SubscriptionEnd,
        TopicError,
    },
    event_log::{self, PositionError},
    metadata::records::{self, TopicRecord},
    schema::Schema,
    types::{EventView, Position, Start},
};

async fn engines() -> Engines {
    Engines::new(Config::default(), event_log::Config::default()).await
}

fn by_field(comparison: &str) -> Selection {
    Selection::Field(Comparison::parse(comparison).unwrap())
}

fn by_ids(ids: &[&str]) -> Selection {
    Selection::Ids(ids.iter().map(|id| (*id).to_owned()).collect())
}

/// The ids of the events that are left of a topic.
async fn left(engines: &Engines, topic: &str) -> Vec<String> {
    let topic = engines.broker.topic(&principal(), topic).await.unwrap();
    let log = engines.tenant_log().await;
    let id = topic.event_type.topic_id();
    let batch = log.read(&[id], Position::ZERO, usize::MAX).await.unwrap();
    let events = batch.blocks.iter().flat_map(|block| block.events());
    let ids = events.map(|(_, event)| EventView::parse(event).unwrap().id().to_owned());
    ids.collect()
}

#[tokio::test]
async fn events_are_erased_by_what_a_field_says_whatever_wrote_them() {
    let engines = engines().await;
    engines.publish(ORDERS, &orders(0..5)).await;
    let mut old = old_order("3");
    old.id = "old".into();
    engines.publish(ORDERS, &[old]).await;
    engines.publish(STATUSES, &[status("3")]).await;
    let selection = by_field("order_number__c = '3'");
    let (caller, broker) = (&principal(), &engines.broker);
    let selection = &selection;
    let erase = |is_rehearsal| async move {
        let erased = broker.erase(caller, ORDERS, selection, is_rehearsal).await;
        erased.unwrap()
    };
    let planned = erase(true).await;
    let wanted = Erasure {
        examined: 6,
        matched: 2,
        ..Erasure::default()
    };
    assert_eq!(planned, wanted);
    assert_eq!(left(&engines, ORDERS).await.len(), 6, "a rehearsal");
    let done = erase(false).await;
    assert_eq!((done.matched, done.erased), (2, 2));
    assert_eq!(left(&engines, ORDERS).await, ["0", "1", "2", "4"]);
    assert_eq!(left(&engines, STATUSES).await.len(), 1, "another topic");
    let again = erase(false).await;
    assert_eq!((again.examined, again.matched), (4, 0));
    let slip = by_field("Order_Numbr__c = '1'");
    let refused = broker
        .erase(caller, ORDERS, &slip, false)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RemovalError::UnknownField { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn events_are_erased_by_their_ids_and_a_subscriber_passes_over_them() {
    let engines = engines().await;
    let positions = engines.publish(ORDERS, &orders(0..10)).await;
    let selection = by_ids(&["2", "3", "9", "unknown"]);
    let broker = &engines.broker;
    let done = broker.erase(&principal(), ORDERS, &selection, false).await;
    assert_eq!(done.unwrap().erased, 3);
    let subscriber = broker.subscriber(&principal(), ORDERS).await.unwrap();
    // A stored id of an erased event is as good as before.
    let start = Start::After(positions[2]);
    let mut subscription = subscriber.subscribe(start, 100, None).unwrap();
    let delivery = subscription.next().await.unwrap();
    assert_eq!((delivery.pending, delivery.latest), (95, positions[8]));
}

#[tokio::test]
async fn payloads_that_cannot_be_read_are_told_and_left() {
    let engines = engines().await;
    engines.publish(ORDERS, &orders(0..2)).await;
    // A topic whose payloads are not validated may hold anything.
    let mut odd = orders(7..8).remove(0);
    odd.payload.truncate(3);
    let log = engines.tenant_log().await;
    let topic = engines.broker.topic(&principal(), ORDERS).await.unwrap();
    let topic = event_log::LogTopic {
        id: topic.event_type.topic_id(),
        name: ORDERS.parse().unwrap(),
    };
    let mut body = event_log::BlockBody::with_capacity(topic.into(), 0);
    assert!(body.push(&prost::Message::encode_to_vec(&odd), None));
    event_log::contract::append(&*log, vec![body]).await;
    let broker = &engines.broker;
    let selection = by_field("Order_Number__c = '7'");
    let done = broker.erase(&principal(), ORDERS, &selection, false).await;
    let done = done.unwrap();
    assert_eq!((done.examined, done.unreadable, done.erased), (3, 1, 0));
    let ids = by_ids(&["7"]);
    let done = broker.erase(&principal(), ORDERS, &ids, false).await;
    assert_eq!(done.unwrap().erased, 1, "its id can be read");
}

#[tokio::test]
async fn a_deleted_topic_ends_its_streams_and_refuses_what_comes() {
    let engines = engines().await;
    engines.publish(ORDERS, &orders(0..3)).await;
    engines.publish(STATUSES, &[status("1")]).await;
    let broker = &engines.broker;
    let publisher = broker.publisher(&principal(), None, ORDERS).await.unwrap();
    let subscriber = broker.subscriber(&principal(), ORDERS).await.unwrap();
    let mut subscription = subscriber.subscribe(Start::Latest, 100, None).unwrap();
    let mut waiting = Box::pin(subscription.next());
    assert!((&mut waiting).now_or_never().is_none());
    let old = broker.delete_topic(&principal(), ORDERS).await.unwrap();
    let end = waiting.await.unwrap_err();
    assert!(matches!(
        end,
        SubscriptionEnd::Position(PositionError::TopicDeleted)
    ));
    let refused = publisher.batch(1, 0).unwrap_err();
    assert!(matches!(refused, PublishError::Topic(TopicError::NotFound)));
    let again = broker.delete_topic(&principal(), ORDERS).await.unwrap_err();
    assert!(matches!(again, RemovalError::Topic(TopicError::NotFound)));
    assert_eq!(left(&engines, STATUSES).await.len(), 1);
    let schema = broker
        .schema(&principal(), None, old.current().id().as_str())
        .await;
    assert_eq!(schema.unwrap(), *old.current(), "schemas stay");

    let record = records::load::<TopicRecord>(
        &*engines.store,
        crate::metadata::Scope::Tenant(principal().tenant),
        ORDERS,
    );
    assert!(
        record
            .await
            .unwrap()
            .unwrap()
            .record
            .deleted_at_ms
            .is_some()
    );
    // Made again, it is another topic, and knows nothing of the first.
    let schemas = engines.schemas().await;
    let schema = Schema::parse(ORDER_SCHEMA).unwrap();
    let (new, _) = schemas.register_unchecked(&schema).await.unwrap();
    assert_ne!(new.topic_id(), old.topic_id());
    let log = engines.tenant_log().await;
    assert_eq!(log.topic(new.topic_id()).ordinal, 0);
    // Whoever published to the first is told, and not published into what nobody reads.
    let refused = publisher.batch(1, 0).unwrap_err();
    assert!(matches!(refused, PublishError::Topic(TopicError::NotFound)));
}

#[tokio::test]
async fn a_retention_has_bounds_and_is_shown() {
    let engines = engines().await;
    engines.publish(ORDERS, &orders(0..3)).await;
    let broker = &engines.broker;
    let hour = Duration::from_secs(3_600);
    for odd in [Duration::ZERO, Duration::from_secs(u64::MAX)] {
        let refused = broker
            .set_retention(&principal(), ORDERS, Some(odd))
            .await
            .unwrap_err();
        assert!(matches!(refused, RemovalError::Retention(_)), "{refused}");
    }
    let principal = principal();
    let kept = || async {
        broker
            .topic(&principal, ORDERS)
            .await
            .unwrap()
            .state
            .retention
    };
    assert_eq!(kept().await, None);
    broker
        .set_retention(&principal, ORDERS, Some(hour))
        .await
        .unwrap();
    assert_eq!(kept().await, Some(hour));
    engines.clock.advance(hour * 2);
    engines.publish(ORDERS, &orders(3..4)).await;
    assert_eq!(left_after_trim(&engines).await, 1);
    broker
        .set_retention(&principal, ORDERS, None)
        .await
        .unwrap();
    assert_eq!(kept().await, None);
}

/// How many orders are retained.
async fn left_after_trim(engines: &Engines) -> u64 {
    let state = engines
        .broker
        .topic(&principal(), ORDERS)
        .await
        .unwrap()
        .state;
    state.ordinal - state.trim_ordinal
}
