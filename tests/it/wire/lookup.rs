//! `GetTopic`, `GetSchema`, and the call that is not served yet.

use crate::support::{
    client::{Client, Failure, code, is_uuid},
    gateway::Gateway,
    order::{SCHEMA_ID, TOPIC},
    wire::{SchemaInfo, SchemaRequest, TopicInfo, TopicRequest},
};

async fn topic(client: &Client, topic_name: &str) -> Result<TopicInfo, Failure> {
    let topic_name = topic_name.to_owned();
    client.unary("GetTopic", &TopicRequest { topic_name }).await
}

async fn schema(client: &Client, schema_id: &str) -> Result<SchemaInfo, Failure> {
    let schema_id = schema_id.to_owned();
    client
        .unary("GetSchema", &SchemaRequest { schema_id })
        .await
}

#[tokio::test]
async fn what_there_is_is_found() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let info = topic(&client, TOPIC).await.unwrap();
    let tenant_guid = format!("CORE/prod/{}", gateway.ready().tenant_id);
    assert_eq!((&*info.topic_name, info.tenant_guid), (TOPIC, tenant_guid));
    assert_eq!((info.can_publish, info.can_subscribe), (true, true));
    assert_eq!(info.schema_id, SCHEMA_ID);
    assert!(is_uuid(&info.rpc_id));

    let info = schema(&client, SCHEMA_ID).await.unwrap();
    assert_eq!(info.schema_id, SCHEMA_ID);
    assert!(info.schema_json.contains("Order_Number__c"));
    assert!(is_uuid(&info.rpc_id));
}

#[tokio::test]
async fn what_there_is_not_is_refused() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let long = format!("/event/{}__e", "x".repeat(10_000));
    for (name, code, suffix) in [
        ("", code::INVALID_ARGUMENT, "topic.validation.empty"),
        ("/event/Unknown__e", code::NOT_FOUND, "topic.not.found"),
        // Case matters.
        ("/event/ordercreated__e", code::NOT_FOUND, "topic.not.found"),
        ("OrderCreated__e", code::NOT_FOUND, "topic.not.found"),
        (
            "/event/../OrderCreated__e",
            code::NOT_FOUND,
            "topic.not.found",
        ),
        ("/event/\u{0}\u{1f980}", code::NOT_FOUND, "topic.not.found"),
        (&long, code::NOT_FOUND, "topic.not.found"),
    ] {
        topic(&client, name)
            .await
            .unwrap_err()
            .expect("GetTopic", code, suffix);
    }
    for (id, code, suffix) in [
        ("", code::INVALID_ARGUMENT, "schema.validation.failed"),
        (
            "AAAAAAAAAAAAAAAAAAAAAA",
            code::PERMISSION_DENIED,
            "schema.meta.permission",
        ),
        (
            "not an id",
            code::PERMISSION_DENIED,
            "schema.meta.permission",
        ),
        (&long, code::PERMISSION_DENIED, "schema.meta.permission"),
    ] {
        schema(&client, id)
            .await
            .unwrap_err()
            .expect("GetSchema", code, suffix);
    }
}
