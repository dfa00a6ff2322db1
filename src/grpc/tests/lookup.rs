//! `GetTopic` and `GetSchema`: what there is, for those who may know.

use super::gateway::{Gateway, assert_failure, call_by};
use crate::{
    broker::tests::{
        engines::{
            CHANGE_SCHEMA, CHANGES, OLD_ORDER_SCHEMA, ORDER_SCHEMA, ORDER_SCHEMA_ID, ORDERS,
            STATUS_SCHEMA, STATUSES, schema_id, tenant,
        },
        log_double::Behaviour,
    },
    grpc::status::kinds,
    proto::{SchemaInfo, SchemaRequest, TopicInfo, TopicRequest},
    types::Grants,
};

async fn topic(gateway: &Gateway, token: &str, name: &str) -> Result<TopicInfo, tonic::Status> {
    let request = call_by(
        token,
        TopicRequest {
            topic_name: name.into(),
        },
    );
    let response = gateway.client.clone().get_topic(request).await?;
    Ok(response.into_inner())
}

async fn schema(gateway: &Gateway, token: &str, id: &str) -> Result<SchemaInfo, tonic::Status> {
    let request = call_by(
        token,
        SchemaRequest {
            schema_id: id.into(),
        },
    );
    let response = gateway.client.clone().get_schema(request).await?;
    Ok(response.into_inner())
}

fn grants(publish: &[&str], subscribe: &[&str]) -> Grants {
    let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Grants {
        publish: patterns(publish),
        subscribe: patterns(subscribe),
        change_events: false,
        admin: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_described_under_the_name_it_was_asked_for() {
    let gateway = Gateway::start().await;
    let info = topic(&gateway, &gateway.token, ORDERS).await.unwrap();
    assert_eq!(info.topic_name, ORDERS);
    assert_eq!(info.tenant_guid, format!("CORE/prod/{}", tenant()));
    assert_eq!(info.tenant_guid.len(), "CORE/prod/".len() + 18);
    assert_eq!(info.schema_id, ORDER_SCHEMA_ID);
    assert!(info.can_publish && info.can_subscribe);
    assert_eq!(info.rpc_id.len(), 36);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_may_do_follows_from_its_grants() {
    let gateway = Gateway::start().await;
    let token = gateway
        .token(grants(&[ORDERS, "/data/*"], &[STATUSES]))
        .await;
    let orders = topic(&gateway, &token, ORDERS).await.unwrap();
    assert_eq!((orders.can_publish, orders.can_subscribe), (true, false));
    let statuses = topic(&gateway, &token, STATUSES).await.unwrap();
    assert_eq!(
        (statuses.can_publish, statuses.can_subscribe),
        (false, true)
    );
    // The pattern alone does not let change events be published.
    let status = topic(&gateway, &token, CHANGES).await.unwrap_err();
    assert_failure(&status, "GetTopic", kinds::TOPIC_PERMISSION);
    let changes = topic(&gateway, &gateway.token, CHANGES).await.unwrap();
    assert!(changes.can_publish);
    let token = gateway.token(Grants::every_topic()).await;
    let changes = topic(&gateway, &token, CHANGES).await.unwrap();
    assert_eq!((changes.can_publish, changes.can_subscribe), (false, true));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_named_known_or_allowed_is_refused() {
    let gateway = Gateway::start().await;
    let nothing = gateway.token(grants(&[], &[])).await;
    for (token, name, kind) in [
        (&gateway.token, "", kinds::TOPIC_EMPTY),
        (&gateway.token, "/event/Unknown__e", kinds::TOPIC_NOT_FOUND),
        (
            &gateway.token,
            "/event/ordercreated__e",
            kinds::TOPIC_NOT_FOUND,
        ),
        (&gateway.token, "OrderCreated__e", kinds::TOPIC_NOT_FOUND),
        (&nothing, ORDERS, kinds::TOPIC_PERMISSION),
        (&format!("{}x", gateway.token), ORDERS, kinds::AUTH_ERROR),
    ] {
        let status = topic(&gateway, token, name).await.unwrap_err();
        assert_failure(&status, "GetTopic", kind);
    }
}

#[tokio::test(start_paused = true)]
async fn every_version_of_a_schema_is_served() {
    let gateway = Gateway::start().await;
    for text in [OLD_ORDER_SCHEMA, ORDER_SCHEMA, STATUS_SCHEMA, CHANGE_SCHEMA] {
        let id = schema_id(text);
        let info = schema(&gateway, &gateway.token, &id).await.unwrap();
        assert_eq!(info.schema_id, id);
        assert_eq!(info.rpc_id.len(), 36);
        // The text describes the schema it is served as.
        assert_eq!(schema_id(&info.schema_json), id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_schema_takes_a_right_to_its_topic() {
    let gateway = Gateway::start().await;
    for rights in [grants(&[ORDERS], &[]), grants(&[], &[ORDERS])] {
        let token = gateway.token(rights).await;
        for text in [OLD_ORDER_SCHEMA, ORDER_SCHEMA] {
            schema(&gateway, &token, &schema_id(text)).await.unwrap();
        }
        let foreign = schema(&gateway, &token, &schema_id(STATUS_SCHEMA)).await;
        let foreign = foreign.unwrap_err();
        assert_failure(&foreign, "GetSchema", kinds::SCHEMA_PERMISSION);
        // Whether there is such a schema is not told.
        let unknown = schema(&gateway, &token, "AAAAAAAAAAAAAAAAAAAAAA").await;
        let unknown = unknown.unwrap_err();
        assert_failure(&unknown, "GetSchema", kinds::SCHEMA_PERMISSION);
        let sentence = |status: &tonic::Status| {
            let (sentence, _) = status.message().split_once(" (").unwrap();
            sentence.to_owned()
        };
        assert_eq!(sentence(&foreign), sentence(&unknown));
    }
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_is_not_named_or_known_is_refused() {
    let gateway = Gateway::start().await;
    for (id, kind) in [
        ("", kinds::SCHEMA_INVALID),
        ("x", kinds::SCHEMA_PERMISSION),
        ("AAAAAAAAAAAAAAAAAAAAAA", kinds::SCHEMA_PERMISSION),
    ] {
        let status = schema(&gateway, &gateway.token, id).await.unwrap_err();
        assert_failure(&status, "GetSchema", kind);
    }
}

#[tokio::test(start_paused = true)]
async fn engines_that_cannot_be_opened_are_an_outage_that_passes() {
    let gateway = Gateway::start().await;
    gateway.engines.log.set(Behaviour::Unopenable).await;
    let status = topic(&gateway, &gateway.token, ORDERS).await.unwrap_err();
    assert_failure(&status, "GetTopic", kinds::TOPIC_UNAVAILABLE);
    let status = schema(&gateway, &gateway.token, ORDER_SCHEMA_ID)
        .await
        .unwrap_err();
    assert_failure(&status, "GetSchema", kinds::SCHEMA_UNAVAILABLE);
    gateway.engines.log.set(Behaviour::Good).await;
    topic(&gateway, &gateway.token, ORDERS).await.unwrap();
}
