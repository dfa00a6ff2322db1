//! Subscribing by Server-Sent Events: what a stream says, and where it begins and ends.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    http::{Method, Request, StatusCode},
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Edge, assert_error};
use crate::{
    broker::{
        self,
        tests::{
            engines::{CHANGES, ORDERS, STATUSES, change, large_order, orders, tenant},
            log_double::Behaviour,
        },
    },
    event_log::{self, BlockBody, LogTopic},
    proto::ProducerEvent,
    types::{
        Grants, Position,
        limits::{SSE_CREDIT, SSE_KEEPALIVE},
    },
};

const SUBSCRIBE: &str = "/subscribe/event/OrderCreated__e";
/// Longer than anything here takes on a busy machine; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A stream as a client reads it.
struct Reader {
    body: BodyDataStream,
    text: String,
}

/// One block of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
struct Block {
    event: String,
    id: String,
    data: Option<Value>,
}

impl Reader {
    /// The next block; `None` at the end.
    async fn next(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = parse(block);
                self.text = rest.to_owned();
                return Some(block);
            }
            let chunk = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The ids of the next `count` events.
    async fn event_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            let block = self.next().await.expect("the stream goes on");
            if block.event != "position" {
                let data = block.data.expect("an event has data");
                assert_eq!(data["replay_id"], block.id);
                ids.push(data["event_id"].as_str().unwrap().to_owned());
            }
        }
        ids
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines() {
        match line.split_once(": ").expect("a field") {
            ("event", event) => block.event = event.to_owned(),
            ("id", id) => block.id = id.to_owned(),
            ("data", data) => block.data = Some(serde_json::from_str(data).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    block
}

async fn get(edge: &Edge, path: &str, last_event_id: Option<&str>) -> Reader {
    let mut request = edge.request(Method::GET, path);
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    open(edge, request.body(Body::empty()).unwrap()).await
}

async fn open(edge: &Edge, request: Request<Body>) -> Reader {
    let response = edge.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut reader = Reader {
        body: response.into_body().into_data_stream(),
        text: String::new(),
    };
    let first = reader.next().await.unwrap();
    assert_eq!(
        (first.event.as_str(), first.data),
        ("position", Some(json!({})))
    );
    assert_eq!(first.id.len(), 20);
    reader
}

/// What is answered instead of a stream.
async fn refusal(edge: &Edge, path: &str, header: Option<(&str, &str)>) -> (StatusCode, Value) {
    let mut request = edge.request(Method::GET, path);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    edge.answer(request.body(Body::empty()).unwrap()).await
}

fn hex(position: Position) -> String {
    position.replay_id().to_string()
}

#[tokio::test]
async fn an_event_has_the_keys_of_the_command_line() {
    let edge = Edge::start().await;
    let positions = edge.engines.publish(ORDERS, &orders(5..6)).await;
    let mut reader = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), None).await;
    let block = reader.next().await.unwrap();
    assert_eq!((block.event.as_str(), &block.id), ("", &hex(positions[0])));
    let data = block.data.unwrap();
    let keys: Vec<_> = data.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["replay_id", "event_id", "schema_id", "topic", "payload"]
    );
    assert_eq!(
        (&data["topic"], &data["event_id"]),
        (&ORDERS.into(), &"5".into())
    );
    assert_eq!(data["payload"]["Order_Number__c"], "5");
}

#[tokio::test]
async fn a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let edge = Edge::start().await;
    edge.engines.publish(ORDERS, &orders(0..10)).await;
    let mut reader = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), None).await;
    let mut last = String::new();
    for number in 0..4 {
        let block = reader.next().await.unwrap();
        assert_eq!(block.data.unwrap()["event_id"], number.to_string());
        last = block.id;
    }
    drop(reader);
    edge.engines.publish(ORDERS, &orders(10..12)).await;
    // What it was started with does not count any more.
    let mut reader = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), Some(&last)).await;
    let ids: Vec<_> = (4..12).map(|number| number.to_string()).collect();
    assert_eq!(reader.event_ids(8).await, ids);
}

#[tokio::test]
async fn a_client_that_was_told_of_no_event_still_knows_where_it_was() {
    let edge = Edge::start().await;
    for path in [SUBSCRIBE.to_owned(), format!("{SUBSCRIBE}?from=earliest")] {
        let request = edge
            .request(Method::GET, &path)
            .body(Body::empty())
            .unwrap();
        let mut body = edge.send(request).await.into_body().into_data_stream();
        let first = String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
        let id = parse(first.trim_end()).id;
        drop(body);
        let missed = edge.engines.publish(ORDERS, &orders(0..1)).await;
        let mut reader = get(&edge, SUBSCRIBE, Some(&id)).await;
        // The second round starts with what the first published.
        let came = async { while reader.next().await.unwrap().id != hex(missed[0]) {} };
        let came = tokio::time::timeout(DEADLINE, came).await;
        came.expect("the event comes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_keepalive_moves_the_position_before_clients_take_the_stream_for_dead() {
    let edge = Edge::start().await;
    let mut reader = get(&edge, SUBSCRIBE, None).await;
    let other = edge
        .engines
        .publish(STATUSES, &[crate::broker::tests::engines::status("1")])
        .await;
    let before = Instant::now();
    let block = reader.next().await.unwrap();
    assert_eq!(before.elapsed(), SSE_KEEPALIVE);
    assert_eq!(
        block,
        Block {
            event: "position".into(),
            id: hex(other[0]),
            data: Some(json!({})),
        }
    );
}

#[tokio::test]
async fn credit_never_runs_out() {
    let edge = Edge::start().await;
    let count = 2 * SSE_CREDIT as usize + 500;
    edge.engines.publish(ORDERS, &orders(0..count)).await;
    let mut reader = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), None).await;
    let ids: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    assert_eq!(reader.event_ids(count).await, ids);
    edge.engines
        .publish(ORDERS, &orders(count..count + 1))
        .await;
    assert_eq!(reader.event_ids(1).await, [count.to_string()]);
}

#[tokio::test]
async fn nothing_is_read_ahead_of_a_client_that_takes_nothing() {
    let edge = Edge::start().await;
    let large: Vec<_> = (0..40).map(|number| large_order(number, 100_000)).collect();
    edge.engines.publish(ORDERS, &large).await;
    let mut reader = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), None).await;
    assert_eq!(reader.event_ids(1).await, ["0"]);
    // Not more than one delivery of 256 KiB has left the log.
    let delivered = format!("broker_delivered_events_total{{topic=\"{ORDERS}\"}} 2\n");
    let scrape = edge.engines.scrape();
    assert!(scrape.contains(&delivered), "{scrape}");
    let ids: Vec<_> = (1..40).map(|number| number.to_string()).collect();
    assert_eq!(reader.event_ids(39).await, ids);
}

#[tokio::test]
async fn a_filter_in_the_query_says_which_events_come() {
    let edge = Edge::start().await;
    edge.engines.publish(ORDERS, &orders(0..30)).await;
    for filter in [
        "Order_Number__c%20LIKE%20'%251'",
        "Order_Number__c+LIKE+%27%251%27",
    ] {
        let path = format!("{SUBSCRIBE}?from=earliest&filter={filter}");
        let mut reader = get(&edge, &path, None).await;
        assert_eq!(reader.event_ids(3).await, ["1", "11", "21"], "{filter}");
    }
    let wrong = refusal(&edge, &format!("{SUBSCRIBE}?filter=Foo__c=1"), None).await;
    assert_eq!(wrong.0, 400);
}

#[tokio::test]
async fn a_payload_that_does_not_fit_its_schema_is_handed_on_as_it_is() {
    let edge = Edge::start().await;
    edge.engines.publish(ORDERS, &orders(0..1)).await;
    let topic = edge
        .engines
        .broker
        .topic(&broker::tests::engines::principal(), ORDERS)
        .await;
    let topic = LogTopic {
        id: topic.unwrap().event_type.topic_id(),
        name: ORDERS.parse().unwrap(),
    };
    let mut body = BlockBody::with_capacity(topic.into(), 0);
    for (id, schema_id) in [
        ("bad", orders(0..1)[0].schema_id.clone()),
        ("strange", "x".into()),
    ] {
        let event = ProducerEvent {
            id: id.into(),
            schema_id,
            payload: vec![1, 2, 255].into(),
            headers: Vec::new(),
        };
        assert!(body.push(&prost::Message::encode_to_vec(&event), None));
    }
    let appending = edge
        .engines
        .tenant_log()
        .await
        .append(vec![body])
        .await
        .unwrap();
    appending.await.unwrap()[0].as_ref().unwrap();
    edge.engines.publish(ORDERS, &orders(1..2)).await;

    let mut reader = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), None).await;
    assert_eq!(reader.event_ids(1).await, ["0"]);
    for id in ["bad", "strange"] {
        let data = reader.next().await.unwrap().data.unwrap();
        assert_eq!(
            (&data["event_id"], &data["payload"]),
            (&id.into(), &Value::Null)
        );
        assert_eq!(
            (&data["payload_base64"], &data["topic"]),
            (&"AQL/".into(), &ORDERS.into())
        );
        assert!(
            data["reason"].as_str().unwrap().contains("schema"),
            "{data}"
        );
    }
    assert_eq!(reader.event_ids(1).await, ["1"]);
}

#[tokio::test]
async fn an_id_that_is_not_valid_is_refused_with_the_oldest_that_is() {
    let edge = Edge::start().await;
    edge.engines.publish(ORDERS, &orders(0..1)).await;
    let future = hex(Position::MAX);
    for id in [future.as_str(), "nonsense", "ffffffffffffffffffff"] {
        for (path, header) in [
            (SUBSCRIBE.to_owned(), Some(("last-event-id", id))),
            (format!("{SUBSCRIBE}?from={id}"), None),
        ] {
            let answer = refusal(&edge, &path, header).await;
            assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_REPLAY_ID");
            let oldest = answer.1[0]["oldest_valid_replay_id"].as_str().unwrap();
            let mut reader = get(&edge, SUBSCRIBE, Some(oldest)).await;
            assert_eq!(reader.event_ids(1).await, ["0"]);
        }
    }
}

#[tokio::test]
async fn an_id_that_another_run_may_have_given_out_is_gone() {
    let edge = Edge::start().await;
    let earlier = hex(Position::in_block(1 << 30, 0).unwrap());
    let answer = refusal(&edge, SUBSCRIBE, Some(("last-event-id", &earlier))).await;
    assert_error(&answer, StatusCode::GONE, "REPLAY_ID_EXPIRED");
}

#[tokio::test]
async fn a_stream_may_begin_at_a_time() {
    let edge = Edge::start().await;
    for number in 0..3 {
        edge.engines
            .publish(ORDERS, &orders(number..number + 1))
            .await;
        edge.engines.clock.advance(Duration::from_secs(10));
    }
    for from in [
        "-20s",
        "2023-11-14T22:13:30Z",
        "2023-11-15T00%3A13%3A30%2B02%3A00",
    ] {
        let mut reader = get(&edge, &format!("{SUBSCRIBE}?from={from}"), None).await;
        assert_eq!(reader.event_ids(2).await, ["1", "2"], "{from}");
    }
    let future = refusal(&edge, &format!("{SUBSCRIBE}?from=2100-01-01T00:00Z"), None).await;
    assert_error(&future, StatusCode::BAD_REQUEST, "INVALID_INPUT");
    let message = future.1[0]["message"].as_str().unwrap();
    let now = "in the future: it is 2023-11-14T22:13:50Z";
    assert!(message.contains(now), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_id_with_purged_events_behind_it_is_gone_also_under_a_stream() {
    let log = event_log::Config {
        retention: Duration::from_secs(60),
        ..event_log::Config::default()
    };
    let edge = Edge::with(broker::Config::default(), log).await;
    let first = edge.engines.publish(ORDERS, &orders(0..1)).await;
    // Its events were taken up to the first, the others it has not asked for yet.
    let large: Vec<_> = (1..9).map(|number| large_order(number, 200_000)).collect();
    edge.engines.publish(ORDERS, &large).await;
    let mut slow = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), None).await;
    assert_eq!(slow.event_ids(1).await, ["0"]);
    edge.engines.clock.advance(Duration::from_secs(61));
    edge.engines.publish(ORDERS, &orders(9..10)).await;

    let answer = refusal(&edge, SUBSCRIBE, Some(("last-event-id", &hex(first[0])))).await;
    assert_error(&answer, StatusCode::GONE, "REPLAY_ID_EXPIRED");
    let oldest = answer.1[0]["oldest_valid_replay_id"].as_str().unwrap();
    let mut resumed = get(&edge, SUBSCRIBE, Some(oldest)).await;
    assert_eq!(resumed.event_ids(1).await, ["9"]);

    let end = async {
        loop {
            let block = slow.next().await.unwrap();
            if block.event == "error" {
                return block;
            }
        }
    };
    let end = tokio::time::timeout(DEADLINE, end).await;
    let last = end.expect("the stream ends");
    assert_eq!(
        last.data.unwrap(),
        json!({
            "message": "events after the replay id are no longer retained",
            "errorCode": "REPLAY_ID_EXPIRED",
            "oldest_valid_replay_id": oldest,
        })
    );
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn a_log_that_cannot_be_read_ends_the_stream_with_an_error() {
    let edge = Edge::start().await;
    let mut reader = get(&edge, SUBSCRIBE, None).await;
    edge.engines.log.set_unanswered(Behaviour::Unreadable);
    let block = reader.next().await.unwrap();
    assert_eq!((block.event.as_str(), block.id.as_str()), ("error", ""));
    assert_eq!(block.data.unwrap()["errorCode"], "SUBSCRIPTION_FAILED");
    assert_eq!(reader.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_streams_at_once_idle_or_busy() {
    let edge = Edge::start().await;
    let large: Vec<_> = (0..40).map(|number| large_order(number, 100_000)).collect();
    edge.engines.publish(ORDERS, &large).await;
    let mut idle = get(&edge, SUBSCRIBE, None).await;
    let mut busy = get(&edge, &format!("{SUBSCRIBE}?from=earliest"), None).await;
    assert_eq!(busy.event_ids(1).await, ["0"]);
    let live = format!("broker_subscriptions{{topic=\"{ORDERS}\"}}");
    assert!(edge.engines.scrape().contains(&format!("{live} 2\n")));
    let before = Instant::now();
    edge.shutdown.begin();
    assert_eq!(idle.next().await, None);
    assert_eq!(busy.next().await, None);
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(!edge.engines.scrape().contains(&live));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_ends_its_stream_with_the_reason() {
    let mut edge = Edge::start().await;
    let mut other = get(&edge, SUBSCRIBE, None).await;
    edge.token = edge.token(Grants::every_topic()).await;
    let mut reader = get(&edge, SUBSCRIBE, None).await;
    reader.next().await.expect("the stream begins");
    let tokens = edge.tokens.list(tenant()).await.unwrap();
    let newest = tokens
        .iter()
        .find(|token| &*token.name == "another")
        .unwrap();
    edge.tokens.revoke(tenant(), &newest.id).await.unwrap();
    let block = reader.next().await.unwrap();
    assert_eq!(block.event, "error");
    assert_eq!(block.data.unwrap()["errorCode"], "INVALID_SESSION_ID");
    assert_eq!(reader.next().await, None);
    edge.engines.publish(ORDERS, &orders(0..1)).await;
    assert_eq!(other.event_ids(1).await, ["0"]);
}

#[tokio::test]
async fn who_may_not_subscribe_gets_no_stream() {
    let mut edge = Edge::start().await;
    let anonymous = Request::get(SUBSCRIBE).body(Body::empty()).unwrap();
    let answer = edge.answer(anonymous).await;
    assert_error(&answer, StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID");
    for path in [
        "/subscribe/event/Unknown__e",
        "/subscribe/other/OrderCreated__e",
        "/subscribe/event/%ff",
    ] {
        let answer = refusal(&edge, path, None).await;
        assert_error(&answer, StatusCode::NOT_FOUND, "NOT_FOUND");
    }
    let publisher = Grants {
        subscribe: Vec::new(),
        ..Grants::every_topic()
    };
    edge.token = edge.token(publisher).await;
    let answer = refusal(&edge, SUBSCRIBE, None).await;
    assert_error(
        &answer,
        StatusCode::FORBIDDEN,
        "INSUFFICIENT_ACCESS_OR_READONLY",
    );
    let post = edge.request(Method::POST, SUBSCRIBE).body(Body::empty());
    let (status, headers, body) = edge.whole_answer(post.unwrap()).await;
    assert_error(
        &(status, body),
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
    );
    assert_eq!(headers["allow"], "GET,HEAD");
}

#[tokio::test]
async fn change_events_have_a_path_too() {
    let edge = Edge::start().await;
    edge.engines.publish(CHANGES, &[change()]).await;
    let mut reader = get(
        &edge,
        "/subscribe/data/AccountChangeEvent?from=earliest",
        None,
    )
    .await;
    let data = reader.next().await.unwrap().data.unwrap();
    assert_eq!(
        (&data["topic"], &data["payload"]),
        (&CHANGES.into(), &json!({"Name": null}))
    );
}

#[tokio::test]
async fn a_subscriber_has_the_name_it_asks_for() {
    let edge = Edge::start().await;
    let mut readers = Vec::new();
    for (header, name) in [
        ("tidegate-client-name", "billing"),
        ("x-tidegate-client-name", "mail"),
    ] {
        let request = edge.request(Method::GET, SUBSCRIBE).header(header, name);
        readers.push(open(&edge, request.body(Body::empty()).unwrap()).await);
        let series = format!("broker_lag_events{{topic=\"{ORDERS}\",client=\"{name}\"}}");
        assert!(edge.engines.scrape().contains(&series), "{name}");
    }
    let long = "x".repeat(65);
    for name in ["", " ", &long] {
        let answer = refusal(&edge, SUBSCRIBE, Some(("tidegate-client-name", name))).await;
        assert_error(&answer, StatusCode::BAD_REQUEST, "INVALID_INPUT");
    }
}
