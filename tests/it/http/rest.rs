//! Events published by REST, and what a real connection adds to how they are refused.
//!
//! Source: the public Platform Events Developer Guide, "Publish Event Messages with Salesforce
//! APIs".

use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    client::Client,
    gateway::{Gateway, Settings},
    http::{get, value_of},
    http_client::{EVERY_WAY, Over, post, request, send},
    order::TOPIC,
    wait::within,
    wire::{ConsumerEvent, FetchRequest},
};

const CREATE: &str = "/services/data/v62.0/sobjects/OrderCreated__e/";
const COMPOSITE: &str = "/services/data/v62.0/composite/";
const COLLECTION: &str = "/services/data/v62.0/composite/sobjects";

/// The first `count` events as a gRPC subscriber gets them.
async fn received(gateway: &Gateway, count: usize) -> Vec<ConsumerEvent> {
    let client = Client::connect(gateway).await;
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
    call.fetch(count).await
}

#[track_caller]
fn assert_error(answer: &(StatusCode, Value), status: StatusCode, code: &str) {
    let (found, body) = answer;
    assert_eq!(
        (*found, &body[0]["errorCode"]),
        (status, &code.into()),
        "{body}"
    );
}

#[tokio::test]
async fn an_event_by_rest_is_byte_for_byte_what_the_command_line_publishes() {
    let gateway = Gateway::start();
    let events = [
        json!({"CreatedDate": 1_700_000_000_000_i64, "CreatedById": "005000000000001AAA",
            "Order_Number__c": "Ä-17 \u{1F4E6}", "Amount__c": 42.5, "Priority__c": true}),
        json!({"CreatedDate": "1700000000000", "CreatedById": "005000000000001AAA",
            "Order_Number__c": null, "Amount__c": 3}),
        json!({"CreatedDate": 0, "CreatedById": "005000000000001AAA"}),
    ];
    for event in &events {
        let mut command = gateway.command("publish /event/OrderCreated__e --json");
        let output = command.arg(event.to_string()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    for event in &events {
        let (status, answer) = post(&gateway, Over::Http, CREATE, event.to_string()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    let received = received(&gateway, 2 * events.len()).await;
    let (by_command, by_rest) = received.split_at(events.len());
    for (by_command, by_rest) in by_command.iter().zip(by_rest) {
        let (by_command, by_rest) = (by_command.event.clone(), by_rest.event.clone());
        let (by_command, by_rest) = (by_command.unwrap(), by_rest.unwrap());
        assert_eq!(by_command.payload, by_rest.payload);
        assert_eq!(by_command.schema_id, by_rest.schema_id);
        assert_eq!((by_rest.id.len(), by_rest.headers.len()), (36, 0));
    }
}

#[tokio::test]
async fn every_form_publishes_over_every_connection() {
    let gateway = Gateway::start();
    let mut ids = Vec::new();
    for over in EVERY_WAY {
        let (status, saved) = post(&gateway, over, CREATE, r#"{"Order_Number__c": "A"}"#).await;
        assert_eq!(status, StatusCode::CREATED, "{over:?}: {saved}");
        ids.push(saved["errors"][0]["message"].clone());

        let composite = json!({"allOrNone": true, "compositeRequest": [
            {"method": "POST", "url": CREATE, "referenceId": "event1", "body": {"Amount__c": 1}},
            {"method": "POST", "url": CREATE, "referenceId": "event2", "body": {"Amount__c": 2}}]});
        let (status, answer) = post(&gateway, over, COMPOSITE, composite.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{over:?}: {answer}");
        for (response, id) in answer["compositeResponse"]
            .as_array()
            .unwrap()
            .iter()
            .zip(["event1", "event2"])
        {
            assert_eq!(response["referenceId"], id);
            assert_eq!(response["httpStatusCode"], 201);
            ids.push(response["body"]["errors"][0]["message"].clone());
        }

        let record = json!({"attributes": {"type": "OrderCreated__e"}, "EventUuid": format!("mine-{over:?}")});
        let collection = json!({"allOrNone": false, "records": [record]});
        let (status, answer) = post(&gateway, over, COLLECTION, collection.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{over:?}: {answer}");
        ids.push(answer[0]["errors"][0]["message"].clone());
    }
    let received = received(&gateway, ids.len()).await;
    let received: Vec<_> = received
        .iter()
        .map(|event| event.event.as_ref().unwrap().id.as_str())
        .collect();
    assert_eq!(received, ids);
    let (_, metrics) = get(&gateway, "/metrics").await;
    let published = format!("tidegate_broker_published_events_total{{topic=\"{TOPIC}\"}}");
    assert_eq!(value_of(&metrics, &published), ids.len() as f64);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let mut gateway = Gateway::start();
    let (status, saved) = post(&gateway, Over::Http, CREATE, "{}").await;
    assert_eq!(status, StatusCode::CREATED);
    gateway.kill_and_restart();
    let received = received(&gateway, 1).await;
    assert_eq!(
        saved["errors"][0]["message"],
        received[0].event.as_ref().unwrap().id
    );
}

#[tokio::test]
async fn each_refusal_has_its_code_and_stores_nothing() {
    let gateway = Gateway::ephemeral();
    for (json, code) in [
        (r#"{"Nope__c": 1}"#, "INVALID_FIELD"),
        (r#"{"Amount__c": "much"}"#, "JSON_PARSER_ERROR"),
        ("{", "JSON_PARSER_ERROR"),
        ("", "JSON_PARSER_ERROR"),
    ] {
        for over in EVERY_WAY {
            let answer = post(&gateway, over, CREATE, json).await;
            assert_error(&answer, StatusCode::BAD_REQUEST, code);
        }
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for path in [CREATE, COMPOSITE, COLLECTION] {
        let answer = post(&gateway, Over::Http, path, deep.clone()).await;
        assert_error(&answer, StatusCode::BAD_REQUEST, "JSON_PARSER_ERROR");
        let latin1 = post(&gateway, Over::Http, path, &b"{\"a\": \"\xe4\"}"[..]).await;
        assert_error(&latin1, StatusCode::BAD_REQUEST, "JSON_PARSER_ERROR");
    }
    let unknown = post(
        &gateway,
        Over::Http,
        "/services/data/v1.0/sobjects/Nope__e",
        "{}",
    )
    .await;
    assert_error(&unknown, StatusCode::NOT_FOUND, "NOT_FOUND");

    let form = request(&gateway, "POST", CREATE);
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let (status, _, body) = send(&gateway, Over::Http, form, "{}").await;
    assert_error(
        &(status, body),
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UNSUPPORTED_MEDIA_TYPE",
    );
    let read = request(&gateway, "GET", CREATE);
    let (status, headers, body) = send(&gateway, Over::Http, read, "").await;
    assert_error(
        &(status, body),
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
    );
    assert_eq!(headers["allow"], "POST");

    let (_, metrics) = get(&gateway, "/metrics").await;
    let published = format!("tidegate_broker_published_events_total{{topic=\"{TOPIC}\"}}");
    assert_eq!(value_of(&metrics, &published), 0.0);
}

#[tokio::test]
async fn a_token_that_is_missing_bad_or_without_right_publishes_nothing() {
    let gateway = Gateway::start();
    let create = |authorization: &str| {
        http::Request::post(CREATE)
            .header("content-type", "application/json")
            .header("authorization", authorization)
    };
    let token = &gateway.ready().access_token;
    let anonymous = http::Request::post(CREATE).header("content-type", "application/json");
    for bad in [
        anonymous,
        create("Bearer"),
        create(&format!("Basic {token}")),
        create(&format!("Bearer {token}x")),
        create(&format!("Bearer {}", token.split_once('!').unwrap().1)),
    ] {
        let (status, headers, body) = send(&gateway, Over::Https, bad, "{}").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(headers["www-authenticate"], "Bearer");
        let told =
            json!([{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]);
        assert_eq!(body, told);
    }
    let mut command = gateway.command("token create --name reader --subscribe * --output json");
    let made = command.output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let reader = create(&format!(
        "Bearer {}",
        made["access_token"].as_str().unwrap()
    ));
    let (status, _, body) = send(&gateway, Over::Http, reader, "{}").await;
    assert_error(
        &(status, body),
        StatusCode::FORBIDDEN,
        "INSUFFICIENT_ACCESS_OR_READONLY",
    );

    let good = create(&format!("OAuth {token}"));
    assert_eq!(
        send(&gateway, Over::Http, good, "{}").await.0,
        StatusCode::CREATED
    );
}

/// What the gateway says to the bytes of a request whose body is not sent to its end.
async fn answer_to(gateway: &Gateway, head: &str, body: &[u8]) -> String {
    let mut tcp = TcpStream::connect(&gateway.ready().http_addr)
        .await
        .unwrap();
    let token = &gateway.ready().access_token;
    let head = format!(
        "POST {CREATE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{head}\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    // The end of the first answer: the connection may stay open for another.
    within("answer", async {
        while !answer.ends_with(b"\"}]") {
            assert_ne!(tcp.read_buf(&mut answer).await.unwrap(), 0, "{answer:?}");
        }
    })
    .await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read_to_its_end() {
    let gateway = Gateway::ephemeral();
    // It is not sent at all by a client that asks first.
    let answer = answer_to(
        &gateway,
        "content-length: 99999999999\r\nexpect: 100-continue",
        b"",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("REQUEST_TOO_LARGE"), "{answer}");
    // Nor is one without a stated length read further than it may be.
    let len = (2 << 20) + 1;
    let body = [format!("{len:x}\r\n").into_bytes(), vec![b' '; len]].concat();
    let answer = answer_to(&gateway, "transfer-encoding: chunked", &body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_slow_body() {
    let mut gateway = Gateway::start_with(Settings {
        environment: vec![("TIDEGATE_SERVER__SHUTDOWN_GRACE", "1h")],
        ..Settings::default()
    });
    let head = "content-length: 10\r\nexpect: 100-continue";
    let mut tcp = TcpStream::connect(&gateway.ready().http_addr)
        .await
        .unwrap();
    let token = &gateway.ready().access_token;
    let head = format!(
        "POST {CREATE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{head}\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Once it says so, it is waiting for the body.
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(within("100", tcp.read_buf(&mut answer)).await.unwrap(), 0);
    }
    gateway.terminate();
    within("answer", tcp.read_to_end(&mut answer))
        .await
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("SERVER_UNAVAILABLE"), "{answer}");
    assert!(gateway.wait_for_end().success());
}
