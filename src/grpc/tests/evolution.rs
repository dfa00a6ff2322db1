//! Schemas that change while publishers publish and subscribers subscribe.

use super::gateway::{Gateway, Subscriber, call_by, earliest, publish_request, settle};
use crate::{
    broker::tests::engines::{
        OLD_ORDER_SCHEMA, ORDER_SCHEMA, ORDER_SCHEMA_ID, ORDERS, old_order, order, principal,
        schema_id,
    },
    broker::{ManagedKey, NewManaged, NewSchema},
    proto::{ProducerEvent, SchemaRequest, TopicRequest},
    schema::registry::uses::LastUsed,
    types::{Replay, RunState, Takeover},
};

/// The order with one field more.
fn newer_schema() -> String {
    let field = r#"{"name":"Note__c","type":["null","string"],"default":null}"#;
    let end = ORDER_SCHEMA.rfind("]}").unwrap();
    format!("{},{field}{}", &ORDER_SCHEMA[..end], &ORDER_SCHEMA[end..])
}

/// An order written with [`newer_schema`]: without a note.
fn newer_order(number: &str) -> ProducerEvent {
    let mut event = order(number);
    event.payload = [&event.payload[..], &[0]].concat().into();
    ProducerEvent {
        schema_id: schema_id(&newer_schema()),
        ..event
    }
}

async fn register(gateway: &Gateway, text: &str) {
    let new = NewSchema {
        text,
        ..NewSchema::default()
    };
    let judged = gateway
        .engines
        .broker
        .register_schema(&principal(), new)
        .await;
    assert_eq!(judged.unwrap().verdict.objections, []);
}

async fn current_id(gateway: &Gateway) -> String {
    let request = gateway.call(TopicRequest {
        topic_name: ORDERS.into(),
    });
    let info = gateway.client.clone().get_topic(request).await.unwrap();
    info.into_inner().schema_id
}

/// What is known of the use of a schema by this user.
async fn used(gateway: &Gateway, text: &str, name: &str) -> LastUsed {
    let schemas = gateway.engines.schemas().await;
    let used = schemas.uses().of(&schema_id(text).parse().unwrap());
    let found = used.iter().find(|(user, _)| &*user.name == name);
    found.map(|(_, used)| *used).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_new_version_is_seen_at_once_by_every_call_and_by_streams_that_are_open() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.publish_stream().await;
    stream.publish(ORDERS, &[order("1")]);
    assert_eq!(stream.next().await.schema_id, ORDER_SCHEMA_ID);
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 100)).await;

    let unknown = newer_order("2");
    stream.publish(ORDERS, std::slice::from_ref(&unknown));
    let refused = stream.next().await;
    assert!(refused.results[0].error.is_some());
    register(&gateway, &newer_schema()).await;
    assert_eq!(current_id(&gateway).await, schema_id(&newer_schema()));
    // Old, older and new, in one request and out of one stream, each with its own id.
    stream.publish(
        ORDERS,
        &[unknown, order("3"), old_order("4"), newer_order("5")],
    );
    let published = stream.next().await;
    assert!(
        published
            .results
            .iter()
            .all(|result| result.error.is_none())
    );
    assert_eq!(published.schema_id, schema_id(&newer_schema()));
    let mut ids = Vec::new();
    while ids.len() < 5 {
        ids.extend(
            subscriber
                .next()
                .await
                .events
                .into_iter()
                .map(|event| event.event.unwrap().schema_id),
        );
    }
    let newer = schema_id(&newer_schema());
    let old = schema_id(OLD_ORDER_SCHEMA);
    assert_eq!(
        ids,
        [ORDER_SCHEMA_ID, &newer, ORDER_SCHEMA_ID, &old, &newer]
    );
}

#[tokio::test(start_paused = true)]
async fn a_retired_version_is_refused_event_by_event_and_resolves() {
    let gateway = Gateway::start().await;
    let stored = gateway.publish(ORDERS, &[old_order("1")]).await.unwrap();
    assert!(stored.results[0].error.is_none());
    let old = schema_id(OLD_ORDER_SCHEMA);
    let broker = &gateway.engines.broker;
    broker
        .retire_schema(&principal(), &old, false)
        .await
        .unwrap();

    let mixed = gateway
        .publish(ORDERS, &[order("2"), old_order("3")])
        .await
        .unwrap();
    assert!(mixed.results[0].error.is_none());
    let error = mixed.results[1].error.as_ref().unwrap();
    assert_eq!(
        error.msg,
        format!(
            "the event's schema is a version that was retired; the topic's current one is {ORDER_SCHEMA_ID}"
        )
    );
    assert!(mixed.results[1].replay_id.is_empty());
    let request = gateway.call(SchemaRequest {
        schema_id: old.clone(),
    });
    let info = gateway.client.clone().get_schema(request).await.unwrap();
    assert_eq!(info.into_inner().schema_id, old);
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 1)).await;
    assert_eq!(
        subscriber.next().await.events[0]
            .event
            .as_ref()
            .unwrap()
            .schema_id,
        old
    );

    register(&gateway, OLD_ORDER_SCHEMA).await;
    assert_eq!(current_id(&gateway).await, old);
    let again = gateway.publish(ORDERS, &[old_order("4")]).await.unwrap();
    assert!(again.results[0].error.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_publishes_asks_and_gets_events_is_remembered_by_every_name_it_has() {
    let gateway = Gateway::start().await;
    let named = |name: &str| {
        let mut call = call_by(&gateway.token, ());
        let metadata = call.metadata_mut();
        metadata.insert("tidegate-client-name", name.parse().unwrap());
        metadata.clone()
    };
    let mut publish = tonic::Request::new(publish_request(ORDERS, &[order("1"), old_order("2")]));
    *publish.metadata_mut() = named("till");
    gateway.client.clone().publish(publish).await.unwrap();
    for (name, text) in [
        ("till", ORDER_SCHEMA),
        ("till", OLD_ORDER_SCHEMA),
        ("all", ORDER_SCHEMA),
    ] {
        let used = used(&gateway, text, name).await;
        assert!(
            used.published.is_some() && used.delivered.is_none(),
            "{name}"
        );
    }

    let mut ask = tonic::Request::new(SchemaRequest {
        schema_id: ORDER_SCHEMA_ID.into(),
    });
    *ask.metadata_mut() = named("curious");
    gateway.client.clone().get_schema(ask).await.unwrap();
    assert!(
        used(&gateway, ORDER_SCHEMA, "curious")
            .await
            .asked
            .is_some()
    );
    assert_eq!(
        used(&gateway, OLD_ORDER_SCHEMA, "curious").await,
        LastUsed::default()
    );

    let first = Some(earliest(ORDERS, 100));
    let mut subscriber = Subscriber::with_headers(&gateway, &named("ledger"), first).await;
    assert_eq!(subscriber.next().await.events.len(), 2);
    for text in [ORDER_SCHEMA, OLD_ORDER_SCHEMA] {
        assert!(used(&gateway, text, "ledger").await.delivered.is_some());
    }

    let broker = &gateway.engines.broker;
    let new = NewManaged {
        developer_name: "Billing".into(),
        topic: ORDERS.into(),
        default_replay: Replay::Earliest,
        label: String::new(),
        error_recovery_replay: Replay::default(),
        state: RunState::default(),
        takeover: Takeover::default(),
        filter: String::new(),
        sharing: None,
    };
    broker.create_managed(&principal(), new).await.unwrap();
    let key = ManagedKey::Name("Billing");
    let subscriber = broker.managed_subscriber(&principal(), key).await.unwrap();
    let mut subscription = subscriber.subscribe(1).unwrap();
    subscription.next().await.unwrap();
    // One event was delivered, and the other is still to come.
    assert!(
        used(&gateway, ORDER_SCHEMA, "Billing")
            .await
            .delivered
            .is_some()
    );
    assert_eq!(
        used(&gateway, OLD_ORDER_SCHEMA, "Billing").await,
        LastUsed::default()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_name_that_is_none_keeps_nobody_from_publishing() {
    let gateway = Gateway::start().await;
    let mut publish = gateway.call(publish_request(ORDERS, &[order("1")]));
    let metadata = publish.metadata_mut();
    metadata.insert("tidegate-client-name", " ".parse().unwrap());
    gateway.client.clone().publish(publish).await.unwrap();
    settle().await;
}

#[test]
fn the_newer_order_is_one() {
    let schema = crate::schema::Schema::parse(&newer_schema()).unwrap();
    schema.validate(&newer_order("1").payload).unwrap();
}
