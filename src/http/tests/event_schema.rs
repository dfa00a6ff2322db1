//! The schema of an event, by name and by id.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Edge, assert_error};
use crate::{
    broker::tests::engines::{
        CHANGE_SCHEMA, OLD_ORDER_SCHEMA, ORDER_SCHEMA, ORDER_SCHEMA_ID, tenant,
    },
    metadata::{
        MetadataStore, Scope,
        records::{self, SchemaUserRecord},
    },
    schema::Schema,
    types::Grants,
};

const BY_NAME: &str = "/services/data/v62.0/sobjects/OrderCreated__e/eventSchema";
const CHANGES_BY_NAME: &str = "/services/data/v62.0/sobjects/AccountChangeEvent/eventSchema";

fn by_id(id: &str) -> String {
    format!("/services/data/v62.0/event/eventSchema/{id}")
}

/// A registered schema in the compact form.
fn compact(schema: &str) -> Value {
    let mut json: Value = serde_json::from_str(schema).unwrap();
    json["uuid"] = Schema::parse(schema).unwrap().id().to_string().into();
    json
}

impl Edge {
    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = self.request(Method::GET, path).body(Body::empty());
        self.answer(request.unwrap()).await
    }
}

#[tokio::test]
async fn a_schema_is_found_by_its_name_and_by_its_id_in_both_formats() {
    let edge = Edge::start().await;
    for path in [BY_NAME.to_owned(), by_id(ORDER_SCHEMA_ID)] {
        for end in ["", "/"] {
            let expanded = edge.get(&format!("{path}{end}")).await;
            assert_eq!(expanded.0, StatusCode::OK, "{expanded:?}");
            assert_eq!(expanded.1["type"], "expanded-record");
            assert_eq!(expanded.1["uuid"], ORDER_SCHEMA_ID);
            let payload = &expanded.1["fields"][0]["type"]["fields"][1]["type"];
            assert_eq!(payload["fields"][0]["type"], "string", "{payload}");
            assert_eq!(payload["fields"][2]["name"], "Order_Number__c");
            let asked = format!("{path}{end}?payloadFormat=EXPANDED");
            assert_eq!(edge.get(&asked).await, expanded);
            for word in ["COMPACT", "compact"] {
                let asked = format!("{path}{end}?payloadFormat={word}");
                let found = edge.get(&asked).await;
                assert_eq!(found, (StatusCode::OK, compact(ORDER_SCHEMA)));
            }
        }
    }
    // Earlier versions know the compact form alone.
    let early = edge.get(&BY_NAME.replace("v62", "v42")).await;
    assert_eq!(early, (StatusCode::OK, compact(ORDER_SCHEMA)));
}

#[tokio::test]
async fn change_events_and_earlier_versions_have_schemas_too() {
    let edge = Edge::start().await;
    let changes = compact(CHANGE_SCHEMA);
    let of_changes = by_id(changes["uuid"].as_str().unwrap());
    for path in [CHANGES_BY_NAME, &of_changes] {
        let found = edge.get(&format!("{path}?payloadFormat=COMPACT")).await;
        assert_eq!(found, (StatusCode::OK, changes.clone()));
    }
    let old = compact(OLD_ORDER_SCHEMA);
    let path = by_id(old["uuid"].as_str().unwrap());
    let found = edge.get(&format!("{path}?payloadFormat=COMPACT")).await;
    assert_eq!(found, (StatusCode::OK, old));
}

#[tokio::test]
async fn what_there_is_not_and_what_is_forbidden_are_answered_alike() {
    let mut edge = Edge::start().await;
    let unknown = [
        "/services/data/v62.0/sobjects/Unknown__e/eventSchema",
        "/services/data/v62.0/sobjects/Account/eventSchema",
        "/services/data/v62.0/sobjects/Orders__chn/eventSchema",
        "/services/data/v62.0/sobjects/%ff/eventSchema",
        "/services/data/v62.0/event/eventSchema/K98aAtiNFBjA-PJlcvaQ2g",
        "/services/data/v62.0/event/eventSchema/OrderCreated__e",
        "/services/data/v62.0/event/eventSchema/%20",
        "/services/data/v62.0/event/eventSchema/",
        "/services/data/sixty/sobjects/OrderCreated__e/eventSchema",
    ];
    for path in unknown {
        let answer = edge.get(path).await;
        let message = assert_error(&answer, StatusCode::NOT_FOUND, "NOT_FOUND");
        assert_eq!(message, "The requested resource does not exist", "{path}");
    }
    edge.token = edge.token(Grants::default()).await;
    for path in [BY_NAME, &by_id(ORDER_SCHEMA_ID), CHANGES_BY_NAME] {
        let answer = edge.get(path).await;
        let message = assert_error(&answer, StatusCode::NOT_FOUND, "NOT_FOUND");
        assert_eq!(message, "The requested resource does not exist", "{path}");
    }
    // Either right will do.
    for grants in [
        Grants {
            publish: Vec::new(),
            ..Grants::every_topic()
        },
        Grants {
            subscribe: Vec::new(),
            ..Grants::every_topic()
        },
    ] {
        edge.token = edge.token(grants).await;
        for path in [BY_NAME, &by_id(ORDER_SCHEMA_ID)] {
            assert_eq!(edge.get(path).await.0, StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn a_format_that_there_is_not_is_a_bad_request() {
    let edge = Edge::start().await;
    for path in [BY_NAME.to_owned(), by_id(ORDER_SCHEMA_ID)] {
        for query in [
            "payloadFormat=AVRO",
            "payloadFormat=",
            "payloadFormat=COMPACT&payloadFormat=COMPACT",
            "payloadFormat=%ff",
        ] {
            let answer = edge.get(&format!("{path}?{query}")).await;
            assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_INPUT");
        }
        let early = path.replace("v62", "v42");
        let answer = edge.get(&format!("{early}?payloadFormat=COMPACT")).await;
        assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_INPUT");
        // Whoever is nobody hears nothing of that.
        let anonymous = Request::get(format!("{path}?payloadFormat=AVRO")).body(Body::empty());
        let answer = edge.answer(anonymous.unwrap()).await;
        assert_error(&answer, StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID");
    }
}

#[tokio::test]
async fn a_schema_can_only_be_read() {
    let edge = Edge::start().await;
    for path in [BY_NAME.to_owned(), by_id(ORDER_SCHEMA_ID)] {
        let request = edge.request(Method::POST, &path).body("{}".into());
        let (status, headers, body) = edge.whole_answer(request.unwrap()).await;
        assert_error(
            &(status, body),
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
        );
        assert_eq!(headers[header::ALLOW], "GET,HEAD");
        let request = edge.request(Method::HEAD, &path).body(Body::empty());
        let (status, headers, body) = edge.whole_answer(request.unwrap()).await;
        assert_eq!((status, body), (StatusCode::OK, Value::Null));
        let json = "application/json;charset=UTF-8";
        assert_eq!(headers[header::CONTENT_TYPE], json);
    }
}

#[tokio::test]
async fn whoever_asks_is_among_the_users_of_the_schema() {
    for path in [BY_NAME.to_owned(), by_id(ORDER_SCHEMA_ID)] {
        let edge = Edge::start().await;
        let request = edge.request(Method::GET, &path);
        let request = request.header("tidegate-client-name", "billing");
        let answer = edge.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.0, StatusCode::OK);
        edge.engines.broker.flush_schema_uses().await;
        let (store, scope) = (&*edge.engines.store, Scope::Tenant(tenant()));
        let users = records::list::<SchemaUserRecord>(store as &dyn MetadataStore, scope).await;
        let mut users: Vec<_> = users
            .unwrap()
            .into_iter()
            .map(|user| json!([user.record.kind, user.record.name]))
            .collect();
        users.sort_by_key(Value::to_string);
        let expected = [json!(["client", "billing"]), json!(["principal", "all"])];
        assert_eq!(users, expected, "{path}");
    }
    let edge = Edge::start().await;
    let request = edge.request(Method::GET, BY_NAME);
    let request = request.header("tidegate-client-name", "");
    let answer = edge.answer(request.body(Body::empty()).unwrap()).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_INPUT");
}
