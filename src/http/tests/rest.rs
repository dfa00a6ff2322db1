//! Publishing by REST: each documented answer, and what is stored.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use bytes::Bytes;
use futures_util::stream;
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

use super::{COLLECTION, COMPOSITE, CREATE, Edge, assert_error};
use crate::{
    broker::tests::{
        engines::{ORDER_SCHEMA_ID, ORDERS, STATUSES, principal},
        log_double::Behaviour,
    },
    event_log::Refusal,
    proto::{
        ConsumerEvent,
        raw::{FetchResponse, WireMessage},
    },
    telemetry::written::Captured,
    types::{
        Grants, Start,
        limits::{COLLECTION_RECORDS_MAX, COMPOSITE_REQUESTS_MAX, HTTP_EVENT_BODY_BYTES_MAX},
    },
};

/// The ids and order numbers of the first events of `topic`.
async fn stored(edge: &Edge, topic: &str, count: usize) -> Vec<(String, Value)> {
    let events = payloads(edge, topic, count).await.into_iter();
    events
        .map(|(id, mut payload)| (id, payload["Order_Number__c"].take()))
        .collect()
}

/// The ids and payloads of the first events of `topic`.
async fn payloads(edge: &Edge, topic: &str, count: usize) -> Vec<(String, Value)> {
    let subscriber = edge.engines.broker.subscriber(&principal(), topic).await;
    let mut subscription = subscriber
        .unwrap()
        .subscribe(Start::Earliest, 100, None)
        .unwrap();
    let mut events = Vec::new();
    while events.len() < count {
        for slice in subscription.next().await.unwrap().events {
            for event in FetchResponse::read(slice).unwrap().events.values().iter() {
                let event = ConsumerEvent::decode(event).unwrap().event.unwrap();
                let (schema, _) = subscription
                    .schema(&event.schema_id.parse().unwrap())
                    .unwrap();
                let payload = schema.to_json(&event.payload).unwrap();
                events.push((event.id, payload));
            }
        }
    }
    events
}

/// How many events of `topic` the log has.
async fn count(edge: &Edge, topic: &str) -> u64 {
    let topic = edge
        .engines
        .broker
        .topic(&principal(), topic)
        .await
        .unwrap();
    topic.state.ordinal
}

#[tokio::test]
async fn one_event_is_answered_as_documented_and_stored_under_that_id() {
    let edge = Edge::start().await;
    for path in [CREATE.to_owned(), format!("{CREATE}/")] {
        let (status, saved) = edge.post(&path, r#"{"Order_Number__c": "A-17"}"#).await;
        assert_eq!(status, StatusCode::CREATED, "{saved}");
        assert_eq!(saved["success"], true);
        let id = saved["id"].as_str().unwrap();
        assert_eq!((id.len(), &id[..3]), (18, "e01"));
        let [error] = &saved["errors"].as_array().unwrap()[..] else {
            panic!("{saved}");
        };
        assert_eq!(error["statusCode"], "OPERATION_ENQUEUED");
        assert_eq!(error["fields"], json!([]));
        let uuid = error["message"].as_str().unwrap();
        assert!(uuid::Uuid::parse_str(uuid).is_ok(), "{uuid}");
        let stored = stored(&edge, ORDERS, 1).await;
        assert!(
            stored.contains(&(uuid.to_owned(), "A-17".into())),
            "{stored:?}"
        );
    }
    assert_eq!(count(&edge, ORDERS).await, 2);
}

#[tokio::test]
async fn an_id_of_the_publishers_own_is_kept_and_a_bad_one_is_refused() {
    let edge = Edge::start().await;
    let (status, saved) = edge.post(CREATE, r#"{"EventUuid": "order-17"}"#).await;
    assert_eq!(
        (status, &saved["errors"][0]["message"]),
        (StatusCode::CREATED, &"order-17".into())
    );
    let long = format!(r#"{{"EventUuid": "{}"}}"#, "x".repeat(37));
    let answer = edge.post(CREATE, long).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_FIELD");
    assert_eq!(answer.1[0]["fields"], json!(["EventUuid"]));
    let answer = edge.post(CREATE, r#"{"EventUuid": 17}"#).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "JSON_PARSER_ERROR");
    assert_eq!(count(&edge, ORDERS).await, 1);
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_told_with_the_platforms_codes() {
    let edge = Edge::start().await;
    for (json, code, words) in [
        (
            r#"{"Order_Numbr__c": "A"}"#,
            "INVALID_FIELD",
            "No such column 'Order_Numbr__c' on sobject of type OrderCreated__e, did you mean Order_Number__c?",
        ),
        (r#"{"Amount__c": "much"}"#, "JSON_PARSER_ERROR", "Amount__c"),
        (
            r#"{"Order_Number__c": ["A"]}"#,
            "JSON_PARSER_ERROR",
            "found an array",
        ),
        ("[]", "JSON_PARSER_ERROR", "found an array"),
        ("null", "JSON_PARSER_ERROR", "found null"),
        ("", "JSON_PARSER_ERROR", "at [line:1, column:0]"),
        (
            "{\"Amount__c\": }",
            "JSON_PARSER_ERROR",
            "at [line:1, column:15]",
        ),
        ("{} {}", "JSON_PARSER_ERROR", "trailing"),
        ("\u{feff}{}", "JSON_PARSER_ERROR", "at [line:1"),
    ] {
        let answer = edge.post(CREATE, json).await;
        let message = assert_error(&answer, StatusCode::BAD_REQUEST, code);
        assert!(message.contains(words), "{json}: {message}");
    }
    let deep = format!(
        r#"{{"Order_Number__c": {}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let answer = edge.post(CREATE, deep).await;
    assert_error(&answer, StatusCode::BAD_REQUEST, "JSON_PARSER_ERROR");
    let answer = edge
        .post(CREATE, &b"{\"Order_Number__c\": \"\xff\"}"[..])
        .await;
    let message = assert_error(&answer, StatusCode::BAD_REQUEST, "JSON_PARSER_ERROR");
    assert!(message.contains("not UTF-8"), "{message}");
    assert_eq!(count(&edge, ORDERS).await, 0);
    let refused = format!("broker_refused_events_total{{topic=\"{ORDERS}\",reason=\"payload\"}} 5");
    let scrape = edge.engines.scrape();
    assert!(scrape.contains(&refused), "{scrape}");
}

#[tokio::test]
async fn a_required_field_is_named() {
    let edge = Edge::start().await;
    let schema = crate::schema::Schema::parse(
        r#"{"type": "record", "name": "Strict__e", "fields": [
            {"name": "CreatedDate", "type": "long"}, {"name": "Sku__c", "type": "string"}]}"#,
    );
    let registry = crate::schema::registry::Registry::new(
        std::sync::Arc::clone(&edge.engines.store) as _,
        std::sync::Arc::new(edge.engines.clock.clone()),
        crate::schema::registry::Rules::default(),
    );
    let tenant = crate::broker::tests::engines::tenant();
    registry
        .tenant(tenant)
        .await
        .unwrap()
        .register_unchecked(&schema.unwrap())
        .await
        .unwrap();
    let answer = edge
        .post("/services/data/v62.0/sobjects/Strict__e", "{}")
        .await;
    let message = assert_error(&answer, StatusCode::BAD_REQUEST, "REQUIRED_FIELD_MISSING");
    assert_eq!(message, "Required fields are missing: [Sku__c]");
    assert_eq!(answer.1[0]["fields"], json!(["Sku__c"]));
}

#[tokio::test]
async fn only_json_is_read_and_only_by_post() {
    let edge = Edge::start().await;
    for path in [CREATE, COMPOSITE, COLLECTION] {
        let request = edge.request(Method::GET, path).body(Body::empty()).unwrap();
        let (status, headers, body) = edge.whole_answer(request).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(headers[header::ALLOW], "POST");
        assert_eq!(
            body[0]["message"],
            "HTTP Method 'GET' not allowed. Allowed are POST"
        );
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-type", "application/json; charset=utf-16"),
            ("content-encoding", "gzip"),
        ] {
            let request = edge.request(Method::POST, path).header(name, value);
            let answer = edge.answer(request.body("{}".into()).unwrap()).await;
            assert_error(
                &answer,
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
            );
        }
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_body_or_by_its_event() {
    let edge = Edge::start().await;
    let body = "x".repeat(HTTP_EVENT_BODY_BYTES_MAX + 1);
    let answer = edge.post(CREATE, body).await;
    assert_error(&answer, StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE");
    for len in [1 << 20, (1 << 20) - 40] {
        let event = format!(r#"{{"Order_Number__c": "{}"}}"#, "x".repeat(len));
        let answer = edge.post(CREATE, event).await;
        assert_error(&answer, StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE");
    }
    let event = format!(
        r#"{{"Order_Number__c": "{}"}}"#,
        "x".repeat((1 << 20) - 200)
    );
    assert_eq!(edge.post(CREATE, event).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn whoever_has_no_good_token_is_told_to_sign_in() {
    let edge = Edge::start().await;
    let wrong = format!("Bearer {}x", edge.token);
    let other_tenant = format!("Bearer 00D000000000002{}", &edge.token[15..]);
    for authorization in [
        None,
        Some("Basic eDp5"),
        Some(&wrong),
        Some(&other_tenant),
        Some("Bearer x!y"),
    ] {
        for path in [CREATE, COMPOSITE, COLLECTION] {
            let mut request = Request::post(path).header("content-type", "application/json");
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            let (status, headers, body) =
                edge.whole_answer(request.body("{}".into()).unwrap()).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer");
            assert_eq!(
                body,
                json!([{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}])
            );
        }
    }
    let old_scheme = format!("OAuth {}", edge.token);
    let request = Request::post(CREATE)
        .header("content-type", "application/json")
        .header("authorization", old_scheme);
    assert_eq!(
        edge.answer(request.body("{}".into()).unwrap()).await.0,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn change_events_have_no_name_here_whatever_the_right() {
    let edge = Edge::start().await;
    for name in [
        "Shipment__ChangeEvent",
        "..%2Fdata%2FShipment__ChangeEvent",
        "%2Fdata%2FShipment__ChangeEvent",
    ] {
        let path = format!("/services/data/v62.0/sobjects/{name}");
        let answer = edge.post(&path, "{}").await;
        assert_error(&answer, StatusCode::NOT_FOUND, "NOT_FOUND");
        let request = json!({"method": "POST", "url": path, "referenceId": "change", "body": {}});
        let (_, answer) = edge.post(COMPOSITE, composite(false, &[request])).await;
        let response = &answer["compositeResponse"][0];
        assert_eq!(response["httpStatusCode"], 404, "{answer}");
    }
    let record = json!({"attributes": {"type": "Shipment__ChangeEvent"}});
    let records = json!({"records": [record]}).to_string();
    let (_, answer) = edge.post(COLLECTION, records).await;
    assert_eq!(answer[0]["success"], false, "{answer}");
}

#[tokio::test]
async fn an_unknown_event_is_not_found_and_one_without_right_is_forbidden() {
    let mut edge = Edge::start().await;
    for name in [
        "Unknown__e",
        "AccountChangeEvent",
        "Order%20Created__e",
        "%ff",
    ] {
        let path = format!("/services/data/v62.0/sobjects/{name}");
        let answer = edge.post(&path, "{}").await;
        let message = assert_error(&answer, StatusCode::NOT_FOUND, "NOT_FOUND");
        assert_eq!(message, "The requested resource does not exist");
    }
    let bad_version = edge
        .post("/services/data/latest/sobjects/OrderCreated__e", "{}")
        .await;
    assert_error(&bad_version, StatusCode::NOT_FOUND, "NOT_FOUND");

    let reader = Grants {
        publish: Vec::new(),
        ..Grants::every_topic()
    };
    edge.token = edge.token(reader).await;
    let answer = edge.post(CREATE, "{}").await;
    assert_error(
        &answer,
        StatusCode::FORBIDDEN,
        "INSUFFICIENT_ACCESS_OR_READONLY",
    );
    assert_eq!(count(&edge, ORDERS).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_takes_nothing_is_told_apart_from_one_that_cannot_say() {
    let edge = Edge::start().await;
    // Opened while that works.
    assert_eq!(edge.post(CREATE, "{}").await.0, StatusCode::CREATED);
    for behaviour in [Behaviour::NoRoom, Behaviour::Refuse(Refusal::DiskFull)] {
        edge.engines.log.set_unanswered(behaviour);
        let answer = edge.post(CREATE, "{}").await;
        let message = assert_error(
            &answer,
            StatusCode::SERVICE_UNAVAILABLE,
            "PLATFORM_EVENT_PUBLISHING_UNAVAILABLE",
        );
        assert!(message.contains("nothing was stored"), "{message}");
    }
    edge.engines.log.set_unanswered(Behaviour::Unconfirmed);
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let answer = edge.post(CREATE, r#"{"EventUuid": "order-17"}"#).await;
    let message = assert_error(&answer, status, "PUBLISH_INDETERMINATE");
    assert!(message.contains("may or may not"), "{message}");
    assert!(message.ends_with(" EventUuid order-17"), "{message}");

    // Without an id of its own it has one all the same, under which it can be published again.
    let answer = edge.post(CREATE, "{}").await;
    let message = assert_error(&answer, status, "PUBLISH_INDETERMINATE");
    let (_, id) = message.rsplit_once(' ').unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{message}");
    edge.engines.log.set_unanswered(Behaviour::Good);
    let again = json!({"EventUuid": id}).to_string();
    let (status, saved) = edge.post(CREATE, again).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(saved["errors"][0]["message"], id);
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_when_to_try_again() {
    let edge = Edge::start().await;
    edge.engines.log.set_unanswered(Behaviour::NoRoom);
    let request = edge.request(Method::POST, CREATE);
    let request = request.header("content-type", "application/json");
    let (status, headers, _) = edge.whole_answer(request.body("{}".into()).unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers[header::RETRY_AFTER], "2");
}

#[tokio::test]
async fn an_event_says_who_published_it() {
    let edge = Edge::start().await;
    let request = edge
        .request(Method::GET, "/services/oauth2/userinfo")
        .header("host", "localhost")
        .body(Body::empty());
    let (_, user) = edge.answer(request.unwrap()).await;
    let id = user["user_id"].as_str().unwrap();
    assert!(id.starts_with("005"), "{id}");
    let other = "005000000000001AAA";
    for json in [json!({}), json!({"CreatedById": other})] {
        assert_eq!(
            edge.post(CREATE, json.to_string()).await.0,
            StatusCode::CREATED
        );
    }
    let authors: Vec<_> = payloads(&edge, ORDERS, 2)
        .await
        .into_iter()
        .map(|(_, payload)| payload["CreatedById"].clone())
        .collect();
    assert_eq!(authors, [id, other]);
}

#[tokio::test(start_paused = true)]
async fn no_body_is_read_of_who_may_not_publish() {
    let mut edge = Edge::start().await;
    let statuses = Grants {
        publish: vec![STATUSES.parse().unwrap()],
        ..Grants::every_topic()
    };
    let reader = Grants {
        publish: Vec::new(),
        ..Grants::every_topic()
    };
    for (grants, paths) in [
        (reader, &[CREATE, COMPOSITE, COLLECTION][..]),
        (statuses, &[CREATE]),
    ] {
        edge.token = edge.token(grants).await;
        for path in paths {
            let body = stream::pending::<Result<Bytes, Infallible>>();
            let request = edge.request(Method::POST, path);
            let request = request.header("content-type", "application/json");
            let request = request.body(Body::from_stream(body)).unwrap();
            let answer = edge.answer(request).await;
            assert_error(
                &answer,
                StatusCode::FORBIDDEN,
                "INSUFFICIENT_ACCESS_OR_READONLY",
            );
        }
    }
}

fn record(name: &str, number: &str) -> Value {
    json!({"attributes": {"type": name}, "Order_Number__c": number})
}

fn collection(all_or_none: bool, records: &[Value]) -> String {
    json!({"allOrNone": all_or_none, "records": records}).to_string()
}

#[tokio::test]
async fn a_collection_is_stored_in_its_order_and_answered_record_by_record() {
    let edge = Edge::start().await;
    let records = [
        record("OrderCreated__e", "0"),
        record("OrderStatusUpdated__e", "1"),
        record("OrderCreated__e", "2"),
        record("Unknown__e", "3"),
        json!({"attributes": {"type": "OrderCreated__e"}, "Nope__c": 4}),
        json!({"Order_Number__c": "5"}),
        json!([{"type": "OrderCreated__e"}]),
        record("OrderCreated__e", "7"),
    ];
    let (status, results) = edge.post(COLLECTION, collection(false, &records)).await;
    assert_eq!(status, StatusCode::OK, "{results}");
    let codes: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            (
                result["success"].as_bool().unwrap(),
                result["errors"][0]["statusCode"].as_str().unwrap(),
            )
        })
        .collect();
    let stored_well = (true, "OPERATION_ENQUEUED");
    assert_eq!(
        codes,
        [
            stored_well,
            stored_well,
            stored_well,
            (false, "NOT_FOUND"),
            (false, "INVALID_FIELD"),
            (false, "INVALID_INPUT"),
            (false, "INVALID_INPUT"),
            stored_well,
        ]
    );
    assert_eq!(results[4]["errors"][0]["fields"], json!(["Nope__c"]));
    assert_eq!(results[3].get("id"), None);
    let ids: Vec<_> = [0, 1, 2, 7]
        .map(|index| results[index]["id"].as_str().unwrap())
        .into();
    assert!(ids.is_sorted(), "{ids:?}");
    let numbers: Vec<_> = stored(&edge, ORDERS, 3)
        .await
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    assert_eq!(numbers, ["0", "2", "7"]);
    assert_eq!(count(&edge, STATUSES).await, 1);
}

#[tokio::test]
async fn nothing_of_all_or_none_is_published_if_one_event_is_refused() {
    let edge = Edge::start().await;
    for bad in [
        json!({"attributes": {"type": "OrderCreated__e"}, "Nope__c": 4}),
        record("Unknown__e", "1"),
        json!({"attributes": {"type": "OrderCreated__e"}, "EventUuid": "x".repeat(37)}),
    ] {
        let records = [
            record("OrderCreated__e", "0"),
            bad,
            record("OrderStatusUpdated__e", "2"),
        ];
        let (status, results) = edge.post(COLLECTION, collection(true, &records)).await;
        assert_eq!(status, StatusCode::OK);
        for index in [0, 2] {
            assert_eq!(results[index]["success"], false);
            let code = &results[index]["errors"][0]["statusCode"];
            assert_eq!(code, "ALL_OR_NONE_OPERATION_ROLLED_BACK");
        }
        assert_ne!(
            results[1]["errors"][0]["statusCode"],
            "ALL_OR_NONE_OPERATION_ROLLED_BACK"
        );
    }
    assert_eq!(edge.engines.log.appends(), 0);
    let records = [
        record("OrderCreated__e", "0"),
        record("OrderStatusUpdated__e", "1"),
    ];
    let (_, results) = edge.post(COLLECTION, collection(true, &records)).await;
    assert_eq!(
        (&results[0]["success"], &results[1]["success"]),
        (&true.into(), &true.into())
    );
}

#[tokio::test]
async fn a_collection_that_is_none_is_refused_as_a_whole() {
    let edge = Edge::start().await;
    let many = vec![record("OrderCreated__e", "0"); COLLECTION_RECORDS_MAX + 1];
    for (json, code) in [
        ("{}".to_owned(), "JSON_PARSER_ERROR"),
        ("[]".to_owned(), "JSON_PARSER_ERROR"),
        (r#"{"records": {}}"#.to_owned(), "JSON_PARSER_ERROR"),
        (
            r#"[false, [{"attributes": {"type": "OrderCreated__e"}}]]"#.to_owned(),
            "JSON_PARSER_ERROR",
        ),
        (
            r#"{"records": [{}], "allOrNon": true}"#.to_owned(),
            "JSON_PARSER_ERROR",
        ),
        (r#"{"records": []}"#.to_owned(), "INVALID_INPUT"),
        (collection(false, &many), "EXCEEDED_ID_LIMIT"),
    ] {
        let answer = edge.post(COLLECTION, json).await;
        assert_error(&answer, StatusCode::BAD_REQUEST, code);
    }
    let most = collection(false, &many[1..]);
    assert_eq!(edge.post(COLLECTION, most).await.0, StatusCode::OK);
    assert_eq!(count(&edge, ORDERS).await, COLLECTION_RECORDS_MAX as u64);
    assert_eq!(edge.engines.log.appends(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_half_way_is_told_event_by_event() {
    let edge = Edge::start().await;
    edge.post(CREATE, "{}").await;
    let appends = edge.engines.log.appends();
    // A queue without room is waited for once, not once for each run of one type.
    edge.engines.log.set_unanswered(Behaviour::NoRoom);
    let records: Vec<_> = (0..100)
        .map(|index| match index % 2 {
            0 => record("OrderCreated__e", "0"),
            _ => record("OrderStatusUpdated__e", "1"),
        })
        .collect();
    let before = tokio::time::Instant::now();
    let (_, results) = edge.post(COLLECTION, collection(false, &records)).await;
    assert!(
        before.elapsed() < Duration::from_secs(3),
        "{:?}",
        before.elapsed()
    );
    for result in results.as_array().unwrap() {
        assert_eq!(
            result["errors"][0]["statusCode"],
            "PLATFORM_EVENT_PUBLISHING_UNAVAILABLE"
        );
    }
    assert_eq!(edge.engines.log.appends(), appends + 1);

    edge.engines.log.set_unanswered(Behaviour::FirstBodyOnly);
    let big = "x".repeat(200 * 1024);
    let records = [
        record("OrderCreated__e", &big),
        record("OrderCreated__e", &big),
    ];
    let (_, results) = edge.post(COLLECTION, collection(true, &records)).await;
    assert_eq!(results[0]["success"], true);
    assert_eq!(
        results[1]["errors"][0]["statusCode"],
        "PUBLISH_INDETERMINATE"
    );
    let message = results[1]["errors"][0]["message"].as_str().unwrap();
    let (_, id) = message.rsplit_once(' ').unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{message}");
}

#[tokio::test]
async fn events_of_several_types_are_queued_as_one() {
    let edge = Edge::start().await;
    let records: Vec<_> = (0..6)
        .map(|index| match index % 2 {
            0 => record("OrderCreated__e", "0"),
            _ => record("OrderStatusUpdated__e", "1"),
        })
        .collect();
    edge.post(CREATE, "{}").await;
    let appends = edge.engines.log.appends();
    let (_, results) = edge.post(COLLECTION, collection(true, &records)).await;
    assert_eq!(edge.engines.log.appends(), appends + 1);
    let ids: Vec<_> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["id"].as_str().expect("it is stored"))
        .collect();
    assert_eq!(ids.len(), 6);
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(count(&edge, ORDERS).await, 1 + 3);
    assert_eq!(count(&edge, STATUSES).await, 3);
}

#[tokio::test]
async fn a_record_is_no_larger_than_an_event_alone() {
    let edge = Edge::start().await;
    let spaces = " ".repeat(HTTP_EVENT_BODY_BYTES_MAX);
    let good = record("OrderCreated__e", "0");
    let large = format!(r#"{{"attributes": {{"type": "OrderCreated__e"}}{spaces}}}"#);
    let json = format!(r#"{{"records": [{good}, {large}]}}"#);
    let (_, results) = edge.post(COLLECTION, json).await;
    assert_eq!(results[0]["success"], true);
    assert_eq!(results[1]["errors"][0]["statusCode"], "REQUEST_TOO_LARGE");
}

#[tokio::test]
async fn a_request_that_fails_is_logged_once() {
    let captured = Captured::from(tracing::Level::INFO);
    let edge = Edge::start().await;
    edge.post(CREATE, "{}").await;
    edge.engines
        .log
        .set_unanswered(Behaviour::Refuse(Refusal::DiskFull));
    let records = vec![record("OrderCreated__e", "0"); 3];
    edge.post(COLLECTION, collection(false, &records)).await;
    let requests = ["a", "b"].map(|id| subrequest(id, json!({})));
    edge.post(COMPOSITE, composite(false, &requests)).await;
    let text = captured.text();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("request failed"))
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (line, count) in lines.iter().zip(["count=3", "count=2"]) {
        assert!(
            line.contains(count) && line.contains("the disk is full"),
            "{line}"
        );
    }
}

fn subrequest(id: &str, body: Value) -> Value {
    json!({"method": "POST", "url": format!("{CREATE}/"), "referenceId": id, "body": body})
}

fn composite(all_or_none: bool, requests: &[Value]) -> String {
    json!({"allOrNone": all_or_none, "compositeRequest": requests}).to_string()
}

#[tokio::test]
async fn a_composite_request_is_answered_request_by_request() {
    let edge = Edge::start().await;
    let requests = [
        json!({"method": "POST", "url": CREATE, "referenceId": "event1", "httpHeaders": {"X-Any": "1"},
            "body": {"Order_Number__c": "0"}}),
        subrequest("event2", json!({"Nope__c": 1})),
        json!({"method": "GET", "url": CREATE, "referenceId": "read"}),
        json!({"method": "POST", "url": "/services/data/v62.0/sobjects/Account", "referenceId": "account", "body": {}}),
        json!({"method": "POST", "url": "/services/data/v62.0/query", "referenceId": "query", "body": {}}),
        subrequest("refers", json!({"Order_Number__c": "@{event1.id}"})),
        json!({"method": "POST", "url": CREATE, "referenceId": "bodiless"}),
        subrequest("event3", json!({"Order_Number__c": "2"})),
    ];
    for path in [COMPOSITE.to_owned(), format!("{COMPOSITE}/")] {
        let (status, answer) = edge.post(&path, composite(false, &requests)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let responses = answer["compositeResponse"].as_array().unwrap();
        let told: Vec<_> = responses
            .iter()
            .map(|response| {
                let id = response["referenceId"].as_str().unwrap();
                let code = response["body"][0]["errorCode"].as_str().unwrap_or("");
                (id, response["httpStatusCode"].as_u64().unwrap(), code)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("event1", 201, ""),
                ("event2", 400, "INVALID_FIELD"),
                ("read", 405, "METHOD_NOT_ALLOWED"),
                ("account", 404, "NOT_FOUND"),
                ("query", 404, "NOT_FOUND"),
                ("refers", 400, "INVALID_INPUT"),
                ("bodiless", 400, "JSON_PARSER_ERROR"),
                ("event3", 201, ""),
            ]
        );
        assert_eq!(
            responses[0]["body"]["errors"][0]["statusCode"],
            "OPERATION_ENQUEUED"
        );
        assert_eq!(responses[0]["httpHeaders"], json!({}));
    }
    let numbers: Vec<_> = stored(&edge, ORDERS, 4)
        .await
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    assert_eq!(numbers, ["0", "2", "0", "2"]);
}

#[tokio::test]
async fn a_composite_request_may_be_all_or_none() {
    let edge = Edge::start().await;
    let requests = [
        subrequest("good", json!({"Order_Number__c": "0"})),
        subrequest("bad", json!({"Nope__c": 1})),
    ];
    let (_, answer) = edge.post(COMPOSITE, composite(true, &requests)).await;
    let responses = &answer["compositeResponse"];
    assert_eq!(responses[0]["httpStatusCode"], 400);
    assert_eq!(responses[0]["body"][0]["errorCode"], "PROCESSING_HALTED");
    assert_eq!(responses[1]["body"][0]["errorCode"], "INVALID_FIELD");
    assert_eq!(edge.engines.log.appends(), 0);
}

#[tokio::test]
async fn a_composite_request_that_is_none_is_refused_as_a_whole() {
    let edge = Edge::start().await;
    let many: Vec<_> = (0..=COMPOSITE_REQUESTS_MAX)
        .map(|index| subrequest(&format!("e{index}"), json!({})))
        .collect();
    let unnamed = json!({"method": "POST", "url": CREATE, "body": {}});
    let mut own_type = subrequest("own", json!({}));
    own_type["httpHeaders"] = json!({"content-type": "application/json"});
    let twice = [subrequest("same", json!({})), subrequest("same", json!({}))];
    for (json, code) in [
        ("{}".to_owned(), "JSON_PARSER_ERROR"),
        (composite(false, &[unnamed]), "JSON_PARSER_ERROR"),
        (composite(false, &[]), "INVALID_INPUT"),
        (composite(false, &twice), "INVALID_INPUT"),
        (
            composite(false, &[subrequest("", json!({}))]),
            "INVALID_INPUT",
        ),
        (
            composite(false, &[subrequest("a.b", json!({}))]),
            "INVALID_INPUT",
        ),
        (
            format!(r#"[false, null, [{}]]"#, many[0]),
            "JSON_PARSER_ERROR",
        ),
        (
            format!(r#"{{"compositeRequest": [["POST", "{CREATE}", "a", {{}}, null]]}}"#),
            "JSON_PARSER_ERROR",
        ),
        (composite(false, &[own_type]), "INVALID_INPUT"),
        (composite(false, &many), "LIMIT_EXCEEDED"),
    ] {
        let answer = edge.post(COMPOSITE, json).await;
        assert_error(&answer, StatusCode::BAD_REQUEST, code);
    }
    assert_eq!(edge.engines.log.appends(), 0);
    let (status, _) = edge.post(COMPOSITE, composite(false, &many[1..])).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(count(&edge, ORDERS).await, COMPOSITE_REQUESTS_MAX as u64);
}

#[tokio::test]
async fn events_are_written_with_the_current_schema() {
    let edge = Edge::start().await;
    edge.post(CREATE, r#"{"Priority__c": true}"#).await;
    let subscriber = edge.engines.broker.subscriber(&principal(), ORDERS).await;
    let mut subscription = subscriber
        .unwrap()
        .subscribe(Start::Earliest, 1, None)
        .unwrap();
    let slice = subscription.next().await.unwrap().events.remove(0);
    let response = FetchResponse::read(slice).unwrap();
    let event = response.events.values().iter().next().unwrap();
    let event = ConsumerEvent::decode(event).unwrap().event.unwrap();
    assert_eq!(event.schema_id, ORDER_SCHEMA_ID);
}

#[test]
fn whatever_is_posted_is_answered_and_never_with_a_failure_of_the_gateway() {
    const PIECES: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "1e999",
        "-1",
        "\"\\ud800\"",
        "\"x\"",
        "true",
        "\"records\"",
        "\"allOrNone\"",
        "\"attributes\"",
        "{\"type\":\"OrderCreated__e\"}",
        "\"compositeRequest\"",
        "\"method\"",
        "\"POST\"",
        "\"url\"",
        "\"referenceId\"",
        "\"body\"",
        "\"EventUuid\"",
        "\"Amount__c\"",
    ];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let edge = runtime.block_on(Edge::start());
    let piece = prop_oneof![
        12 => proptest::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    let body = prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat());
    proptest!(|(body in body, path in proptest::sample::select(vec![CREATE, COMPOSITE, COLLECTION]))| {
        let (status, answer) = runtime.block_on(edge.post(path, body));
        prop_assert!(!status.is_server_error(), "{answer}");
        prop_assert!(status.is_success() || answer[0]["errorCode"].is_string(), "{answer}");
    });
}
