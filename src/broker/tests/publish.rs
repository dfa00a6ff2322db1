//! Batches: what becomes of each event, whatever the log does.

use super::{
    engines::{Engines, ORDERS, cut_short, large_order, orders, principal},
    log_double::Behaviour,
};
use crate::{
    broker::{Config, EventRefusal, TopicError},
    event_log::{self, AppendError},
    types::Start,
};

async fn engines() -> Engines {
    Engines::new(Config::default(), event_log::Config::default()).await
}

#[tokio::test]
async fn what_the_log_did_not_store_is_told_event_by_event() {
    let engines = engines().await;
    engines.log.set(Behaviour::FirstBodyOnly).await;
    // Two large events make two bodies; the bad one between them is in neither.
    let mut events = vec![
        large_order(0, 200_000),
        cut_short(large_order(1, 10)),
        large_order(2, 200_000),
    ];
    events[2].id = String::new();
    let published = engines.publish_any(ORDERS, &events).await;
    let outcomes: Vec<_> = published.outcomes().collect();
    assert_eq!(outcomes[0].id, "0");
    let first = outcomes[0].result.unwrap();
    assert_eq!(outcomes[1].id, "1");
    assert!(matches!(outcomes[1].result, Err(EventRefusal::Payload(_))));
    // An id that was made for an event that is not stored is not told.
    assert_eq!(outcomes[2].id, "");
    assert!(matches!(
        outcomes[2].result,
        Err(EventRefusal::NotStored(AppendError::Unconfirmed(_)))
    ));
    assert_eq!(engines.tenant_log().await.state().head, first);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_found_no_room_in_time_stores_nothing_later() {
    let engines = engines().await;
    let subscriber = engines.broker.subscriber(&principal(), ORDERS).await;
    let subscription = subscriber.unwrap().subscribe(Start::Latest, 5, None);
    let mut subscription = subscription.unwrap();
    engines.log.set(Behaviour::NoRoom).await;
    let publisher = engines
        .broker
        .publisher(&principal(), None, ORDERS)
        .await
        .unwrap();
    let mut batch = publisher.batch(1, 0).unwrap();
    let event = prost::Message::encode_to_vec(&orders(0..1)[0]);
    batch.push(&crate::types::EventView::parse(&event).unwrap());
    batch.append_in_time().await.unwrap_err();
    engines.log.set(Behaviour::Good).await;
    assert!(subscription.next().await.unwrap().events.is_empty());
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_tried_again_by_the_next_call() {
    let engines = engines().await;
    engines.log.set(Behaviour::Unopenable).await;
    let refused = engines.broker.topic(&principal(), ORDERS).await;
    assert!(matches!(refused, Err(TopicError::Unavailable(_))));
    engines.log.set(Behaviour::Good).await;
    engines.broker.topic(&principal(), ORDERS).await.unwrap();
}
