//! Schemas by REST are those by gRPC.
//!
//! Source: the public REST API Developer Guide, "Platform Event Schema by Event Name" and "Platform
//! Event Schema by Schema ID".

use http::StatusCode;
use serde_json::Value;

use crate::support::{
    client::Client,
    gateway::Gateway,
    http_client::{EVERY_WAY, Over, request, send},
    order::SCHEMA_ID,
    wire::{SchemaInfo, SchemaRequest},
};

const BY_NAME: &str = "/services/data/v62.0/sobjects/OrderCreated__e/eventSchema";

async fn get(gateway: &Gateway, over: Over, path: &str) -> (StatusCode, Value) {
    let (status, _, body) = send(gateway, over, request(gateway, "GET", path), "").await;
    (status, body)
}

#[tokio::test]
async fn a_schema_by_rest_is_the_one_by_grpc_with_its_id() {
    let gateway = Gateway::ephemeral();
    let asked = SchemaRequest {
        schema_id: SCHEMA_ID.to_owned(),
    };
    let client = Client::connect(&gateway).await;
    let answered: SchemaInfo = client.unary("GetSchema", &asked).await.unwrap();
    let mut schema: Value = serde_json::from_str(&answered.schema_json).unwrap();
    schema["uuid"] = SCHEMA_ID.into();
    let by_id = format!("/services/data/v58.0/event/eventSchema/{SCHEMA_ID}");
    for over in EVERY_WAY {
        for path in [BY_NAME, &by_id] {
            let compact = get(&gateway, over, &format!("{path}/?payloadFormat=compact")).await;
            // As texts, which have an order of keys.
            assert_eq!(
                (compact.0, compact.1.to_string()),
                (StatusCode::OK, schema.to_string())
            );
            let (status, expanded) = get(&gateway, over, path).await;
            assert_eq!(
                (status, &expanded["uuid"]),
                (StatusCode::OK, &SCHEMA_ID.into())
            );
            let payload = &expanded["fields"][0]["type"]["fields"][1]["type"];
            assert_eq!(payload["fields"].as_array().map(Vec::len), Some(5));
        }
    }
}

#[tokio::test]
async fn a_bad_request_for_a_schema_is_refused_as_the_platform_does() {
    let gateway = Gateway::start();
    let unknown = "/services/data/v62.0/event/eventSchema/K98aAtiNFBjA-PJlcvaQ2g";
    for (path, status, code) in [
        (unknown, StatusCode::NOT_FOUND, "NOT_FOUND"),
        (
            &format!("{BY_NAME}?payloadFormat=AVRO"),
            StatusCode::BAD_REQUEST,
            "INVALID_INPUT",
        ),
    ] {
        let (found, body) = get(&gateway, Over::Https, path).await;
        assert_eq!(
            (found, &body[0]["errorCode"]),
            (status, &code.into()),
            "{body}"
        );
    }
    let mut command =
        gateway.command("token create --name nobody --subscribe /event/Else__e --output json");
    let made = command.output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let authorization = format!("Bearer {}", made["access_token"].as_str().unwrap());
    let asking = http::Request::get(BY_NAME).header("authorization", authorization);
    let (status, _, body) = send(&gateway, Over::Http, asking, "").await;
    assert_eq!(
        (status, &body[0]["errorCode"]),
        (StatusCode::NOT_FOUND, &"NOT_FOUND".into())
    );
}
