//! The Tooling query.

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use serde_json::{Value, json};

use super::{Edge, assert_error};
use crate::{
    broker::{
        NewManaged,
        tests::engines::{ORDERS, principal},
    },
    types::{Grants, Replay, RunState, Takeover},
};

const QUERY: &str = "/services/data/v62.0/tooling/query/?q=";

impl Edge {
    async fn query(&self, query: &str) -> (StatusCode, Value) {
        let path = format!("{QUERY}{}", query.replace(' ', "+").replace('\'', "%27"));
        let request = self.request(Method::GET, &path).body(Body::empty());
        self.answer(request.unwrap()).await
    }

    async fn manage(&self, name: &str, state: RunState) -> String {
        let new = NewManaged {
            developer_name: name.into(),
            label: String::new(),
            topic: ORDERS.into(),
            default_replay: Replay::Latest,
            error_recovery_replay: Replay::Earliest,
            state,
            takeover: Takeover::Refuse,
            filter: String::new(),
            sharing: None,
        };
        let made = self.engines.broker.create_managed(&principal(), new).await;
        made.unwrap().id.to_string()
    }
}

#[tokio::test]
async fn a_subscription_is_found_by_its_name_and_by_both_forms_of_its_id() {
    let edge = Edge::start().await;
    let id = edge.manage("Billing", RunState::Run).await;
    edge.manage("Fulfilment", RunState::Stop).await;
    let fields = "SELECT Id, DeveloperName, Metadata FROM ManagedEventSubscription";
    for condition in [
        "WHERE DeveloperName='Billing' LIMIT 1".to_owned(),
        format!("WHERE Id='{id}' LIMIT 1"),
        format!("WHERE Id='{}' LIMIT 1", &id[..15]),
    ] {
        let (status, found) = edge.query(&format!("{fields} {condition}")).await;
        assert_eq!(
            (status, &found["size"]),
            (StatusCode::OK, &json!(1)),
            "{found}"
        );
        let record = &found["records"][0];
        assert_eq!(
            (&record["Id"], &record["DeveloperName"]),
            (&json!(id), &json!("Billing"))
        );
        let metadata = json!({
            "defaultReplay": "LATEST", "errorRecoveryReplay": "EARLIEST", "label": "Billing",
            "state": "RUN", "topicName": ORDERS,
        });
        assert_eq!(record["Metadata"], metadata);
        let url = format!("/services/data/v62.0/tooling/sobjects/ManagedEventSubscription/{id}");
        assert_eq!(record["attributes"]["url"], url);
    }
    let (_, all) = edge
        .query("SELECT DeveloperName FROM ManagedEventSubscription")
        .await;
    assert_eq!(
        (&all["size"], &all["records"][1]["DeveloperName"]),
        (&json!(2), &json!("Fulfilment"))
    );
    assert_eq!(all["records"][0].as_object().unwrap().len(), 2);
    let stopped = format!("{fields} WHERE DeveloperName='Fulfilment' LIMIT 1");
    let (_, stopped) = edge.query(&stopped).await;
    assert_eq!(stopped["records"][0]["Metadata"]["state"], "STOP");
    // Without the slash, of any version, and with the content type that one client sends.
    let path =
        "/services/data/v60.0/tooling/query?q=SELECT+Id+FROM+ManagedEventSubscription+WHERE+Id='";
    let request = edge.request(Method::GET, &format!("{path}{id}'"));
    let request = request.header("content-type", "application/json");
    let (status, found) = edge.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!((status, &found["size"]), (StatusCode::OK, &json!(1)));
    let nobody = format!("{fields} WHERE DeveloperName='Nobody' LIMIT 1");
    let (status, none) = edge.query(&nobody).await;
    assert_eq!((status, &none["size"]), (StatusCode::OK, &json!(0)));
}

#[tokio::test]
async fn others_are_told_what_is_wrong_in_the_form_they_read() {
    let edge = Edge::start().await;
    edge.manage("Billing", RunState::Run).await;
    let answer = edge.query("SELECT").await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "MALFORMED_QUERY");
    let answer = edge.query("SELECT Id FROM Account").await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_TYPE");
    let answer = edge
        .query("SELECT Name FROM ManagedEventSubscription")
        .await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_FIELD");
    let bare = edge.request(Method::GET, "/services/data/v62.0/tooling/query");
    let answer = edge.answer(bare.body(Body::empty()).unwrap()).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "MALFORMED_QUERY");
    let odd = edge.request(Method::GET, "/services/data/v62.0/tooling/query/?q=a&q=b");
    let answer = edge.answer(odd.body(Body::empty()).unwrap()).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "MALFORMED_QUERY");
    let version = edge.request(Method::GET, "/services/data/sixty/tooling/query/?q=");
    let answer = edge.answer(version.body(Body::empty()).unwrap()).await;
    assert_error(&answer, StatusCode::NOT_FOUND, "NOT_FOUND");
    let answer = edge.post(QUERY, "{}").await;
    assert_error(
        &answer,
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
    );
    let anonymous = axum::http::Request::get(QUERY).body(Body::empty());
    let answer = edge.answer(anonymous.unwrap()).await;
    assert_error(&answer, StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID");
    // Who may not subscribe to its topic does not hear of it.
    let token = edge.token(Grants::default()).await;
    let path = format!("{QUERY}SELECT+Id+FROM+ManagedEventSubscription");
    let request = axum::http::Request::get(path).header("authorization", format!("Bearer {token}"));
    let (_, none) = edge.answer(request.body(Body::empty()).unwrap()).await;
    assert_eq!(none["size"], 0);
}
