//! Change events: the right of their own that publishing them takes, and their way to subscribers.

use serde_json::json;

use super::gateway::{Gateway, PublishStream, assert_failure, call_by, earliest, publish_request};
use crate::{
    broker::tests::engines::{
        SHIPMENT_SCHEMA, SHIPMENTS, cut_short, everything, orders, schema_id, shipment_change,
    },
    grpc::status::kinds,
    proto::{SchemaRequest, TopicInfo, TopicRequest},
    schema::{Schema, change_event::bitmap},
    types::Grants,
};

async fn topic(gateway: &Gateway, token: &str) -> TopicInfo {
    let topic_name = SHIPMENTS.into();
    let request = call_by(token, TopicRequest { topic_name });
    let info = gateway.client.clone().get_topic(request).await;
    info.unwrap().into_inner()
}

#[tokio::test(start_paused = true)]
async fn publishing_them_takes_a_right_of_its_own() {
    let gateway = Gateway::start().await;
    let token = gateway.token(Grants::every_topic()).await;
    let info = topic(&gateway, &token).await;
    assert_eq!((info.can_publish, info.can_subscribe), (false, true));
    let request = call_by(&token, publish_request(SHIPMENTS, &[shipment_change()]));
    let status = gateway.client.clone().publish(request).await.unwrap_err();
    assert_failure(&status, "Publish", kinds::TOPIC_PERMISSION);
    let mut stream = PublishStream::open(&gateway, &token).await;
    stream.publish(SHIPMENTS, &[shipment_change()]);
    let status = stream.failure().await;
    assert_failure(&status, "PublishStream", kinds::TOPIC_PERMISSION);

    // Neither is the right enough without a pattern that has the topic.
    let elsewhere = Grants {
        publish: vec!["/event/*".parse().unwrap()],
        ..everything()
    };
    let token = gateway.token(elsewhere).await;
    assert!(!topic(&gateway, &token).await.can_publish);
    let request = call_by(&token, publish_request(SHIPMENTS, &[shipment_change()]));
    let status = gateway.client.clone().publish(request).await.unwrap_err();
    assert_failure(&status, "Publish", kinds::TOPIC_PERMISSION);
}

#[tokio::test(start_paused = true)]
async fn with_it_they_are_published_delivered_and_read() {
    let gateway = Gateway::start().await;
    let grants = Grants {
        publish: vec![SHIPMENTS.parse().unwrap()],
        subscribe: vec![SHIPMENTS.parse().unwrap()],
        ..everything()
    };
    let token = gateway.token(grants).await;
    let info = topic(&gateway, &token).await;
    assert!(info.can_publish && info.can_subscribe);
    assert_eq!(info.schema_id, schema_id(SHIPMENT_SCHEMA));
    let request = call_by(&token, publish_request(SHIPMENTS, &[shipment_change()]));
    gateway.client.clone().publish(request).await.unwrap();
    let mut stream = PublishStream::open(&gateway, &token).await;
    stream.publish(SHIPMENTS, &[shipment_change()]);
    assert_eq!(stream.next().await.positions().len(), 1);

    let mut subscriber = gateway.subscribe(earliest(SHIPMENTS, 2)).await;
    let events = subscriber.next().await.events;
    assert_eq!(events.len(), 2);
    for event in events {
        let event = event.event.unwrap();
        let schema_id = event.schema_id;
        let request = call_by(&token, SchemaRequest { schema_id });
        let info = gateway.client.clone().get_schema(request).await.unwrap();
        let schema = Schema::parse(&info.into_inner().schema_json).unwrap();
        let payload = schema.to_json(&event.payload).unwrap();
        let header = &payload["ChangeEventHeader"];
        assert_eq!(header["changeType"], "UPDATE");
        assert_eq!(header["changedFields"], json!(["0x80"]));
        let changed = bitmap::decode(schema.program(), &["0x80"]).unwrap();
        assert_eq!(changed, ["Status__c"]);
        assert_eq!(payload["Status__c"], "shipped");
    }
}

#[tokio::test(start_paused = true)]
async fn they_are_checked_against_their_schema_as_others_are() {
    let gateway = Gateway::start().await;
    let events = [
        cut_short(shipment_change()),
        orders(0..1).remove(0),
        shipment_change(),
    ];
    let published = gateway.publish(SHIPMENTS, &events).await.unwrap();
    let errors = published
        .results
        .iter()
        .map(|result| result.error.is_some());
    assert_eq!(errors.collect::<Vec<_>>(), [true, true, false]);
}
