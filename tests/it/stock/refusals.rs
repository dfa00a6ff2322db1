//! What a stock client is told when something is wrong.

use serde_json::{Value, json};

use super::{expect_orders, orders};
use crate::support::{
    client::{ERROR_CODE_PREFIX, code, is_uuid},
    gateway::Gateway,
    order::{SCHEMA_ID, TOPIC},
    script::{EVERY, Line, Stock},
};

/// Every call with a topic or a schema that there is not, and the method it is.
fn calls(topic: &str, schema_id: &str) -> [(&'static str, &'static str, Value); 5] {
    let events = [json!({ "id": "", "schema_id": SCHEMA_ID, "payload": "" })];
    let publish = json!({ "topic": topic, "events": events, "batch": 1 });
    let subscribe = json!({
        "topic": topic, "preset": "EARLIEST", "replay_id": "",
        "grants": [1], "refill": 0, "count": 1, "half_close": false,
    });
    [
        ("topic", "GetTopic", json!({ "topic": topic })),
        (
            "schema_text",
            "GetSchema",
            json!({ "schema_id": schema_id }),
        ),
        // Like all clients they look the topic up first.
        ("publish", "GetTopic", publish.clone()),
        ("publish_stream", "GetTopic", publish),
        ("subscribe", "Subscribe", subscribe),
    ]
}

#[track_caller]
fn expect_status(stock: Stock, lines: &[Line], method: &str, wanted: u16, suffix: &str) {
    // Python tells of headers also when there were none.
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| **line != Line::Headers)
        .collect();
    let [
        Line::Status {
            code,
            details,
            trailers,
        },
    ] = lines[..]
    else {
        panic!("{stock:?} gets a status, not {lines:?}");
    };
    let error_code = format!("{ERROR_CODE_PREFIX}{suffix}");
    assert_eq!(
        (*code, &trailers["error-code"]),
        (wanted, &json!(error_code)),
        "{details}"
    );
    assert_eq!(trailers["type"], method, "{stock:?}");
    let rpc_id = trailers["rpc-id"].as_str().expect("a trailer rpc-id");
    assert!(is_uuid(rpc_id), "{rpc_id}");
    let sentence = details.strip_suffix(&format!(" ({error_code}) rpcId: {rpc_id}"));
    assert!(
        sentence.is_some_and(|sentence| !sentence.is_empty()),
        "{details}"
    );
}

#[test]
fn an_unknown_topic_or_schema_is_not_found() {
    let gateway = Gateway::ephemeral();
    for stock in EVERY {
        for (command, method, arguments) in calls("/event/Unknown__e", "AAAAAAAAAAAAAAAAAAAAAA") {
            let lines = stock.run(&gateway, command, arguments);
            let (code, suffix) = match method {
                "GetSchema" => (code::PERMISSION_DENIED, "schema.meta.permission"),
                _ => (code::NOT_FOUND, "topic.not.found"),
            };
            expect_status(stock, &lines, method, code, suffix);
        }
    }
}

#[test]
fn a_bad_token_is_an_authentication_exception_on_every_call() {
    let gateway = Gateway::ephemeral();
    let ready = gateway.ready();
    let bad_token = format!("{}!not-a-token", &ready.tenant_id[..15]);
    let metadata = [
        ("accesstoken", &*bad_token),
        ("instanceurl", &ready.instance_url),
        ("tenantid", &ready.tenant_id),
    ];
    for stock in EVERY {
        for (command, method, arguments) in calls(TOPIC, SCHEMA_ID) {
            let lines = stock
                .start_as(&gateway, &metadata, command, arguments)
                .rest();
            expect_status(
                stock,
                &lines,
                method,
                code::UNAUTHENTICATED,
                "service.auth.error",
            );
            let Some(Line::Status { details, .. }) = lines.last() else {
                unreachable!()
            };
            assert!(
                details.contains("authentication exception occurred"),
                "{details}"
            );
        }
    }
}

#[test]
fn a_missing_header_is_named() {
    let gateway = Gateway::ephemeral();
    let ready = gateway.ready();
    let metadata = [
        ("accesstoken", &*ready.access_token),
        ("instanceurl", &ready.instance_url),
        ("tenantid", &ready.tenant_id),
    ];
    for stock in EVERY {
        for (missing, (name, _)) in metadata.iter().enumerate() {
            let mut rest = metadata.to_vec();
            rest.remove(missing);
            for (command, method, arguments) in calls(TOPIC, SCHEMA_ID) {
                if stock.is_tls && command != "subscribe" {
                    continue;
                }
                let lines = stock.start_as(&gateway, &rest, command, arguments).rest();
                let suffix = "service.auth.headers.invalid";
                expect_status(stock, &lines, method, code::UNAUTHENTICATED, suffix);
                let Some(Line::Status { details, .. }) = lines.last() else {
                    unreachable!()
                };
                assert!(details.contains(name), "{details}");
            }
        }
    }
}

#[test]
fn a_bad_payload_in_the_middle_of_a_batch_fails_alone() {
    let gateway = Gateway::ephemeral();
    let mut start = 0;
    for stock in EVERY {
        for is_stream in [false, true] {
            let mut events = orders(start..start + 5);
            events[2] = json!({ "id": "bad", "schema_id": SCHEMA_ID, "payload": "80a0abfef962" });
            let mut results = stock.publish(&gateway, TOPIC, &events, 5, is_stream);

            let bad = results.remove(2);
            assert_eq!(
                (&*bad.replay_id, &*bad.correlation_key),
                ("", "bad"),
                "{stock:?}"
            );
            let error = bad.error.expect("the bad event has an error");
            assert_eq!(error.code, "PUBLISH");
            assert!(
                error.msg.contains("CreatedById"),
                "the field is named: {}",
                error.msg
            );

            let good = [start, start + 1, start + 3, start + 4];
            let read = stock.read(&gateway, TOPIC, start / 5 * 4 + 4);
            expect_orders(&read[start / 5 * 4..], good, &results);
            start += 5;
        }
    }
}
