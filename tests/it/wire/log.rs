//! What the gateway's log says of a call: enough to find it by either side's id.

use serde_json::Value;

use crate::support::{
    client::{Client, Failure},
    gateway::{Gateway, Settings},
    order::TOPIC,
    wait,
    wire::{FetchRequest, TopicInfo, TopicRequest},
};

/// The line of the log that has this trace id.
fn line_of(gateway: &Gateway, trace_id: &str) -> Value {
    wait::until("line of the log", || {
        let log = gateway.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .into_iter()
            .find(|line| line["client_trace_id"] == trace_id)
    })
}

async fn topic(client: &Client, name: &str) -> Result<TopicInfo, Failure> {
    let topic_name = name.to_owned();
    client.unary("GetTopic", &TopicRequest { topic_name }).await
}

#[tokio::test]
async fn a_call_is_logged_with_its_rpc_id_and_the_clients_trace_id() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![
            ("TIDEGATE_TELEMETRY__LOG", "info,tidegate::grpc=debug"),
            ("TIDEGATE_TELEMETRY__LOG_FORMAT", "json"),
        ],
    });
    let client = Client::connect(&gateway).await;
    let traced = |id| client.with("x-client-trace-id", id);

    let info = topic(&traced("good"), TOPIC).await.unwrap();
    let line = line_of(&gateway, "good");
    assert_eq!(line["rpc_id"], *info.rpc_id, "{line}");
    assert_eq!(line["method"], "GetTopic", "{line}");

    let refusal = topic(&traced("bad"), "/event/Unknown__e")
        .await
        .unwrap_err();
    let line = line_of(&gateway, "bad");
    assert_eq!(line["rpc_id"], refusal.trailer("rpc-id"), "{line}");
    assert_eq!(line["error_code"], "topic.not.found", "{line}");

    let mut left = traced("left")
        .subscribe(&FetchRequest::latest(TOPIC, 1))
        .await;
    left.headers().await;
    drop(left);
    let line = line_of(&gateway, "left");
    assert_eq!(line["message"], "call ended: cancelled", "{line}");

    assert!(!gateway.log().contains(&gateway.ready().access_token));
}
