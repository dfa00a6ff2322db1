//! Subscribing by Server-Sent Events over real connections.
//!
//! Source: the HTML Living Standard, "Server-sent events".

use std::fs;

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    client::Client,
    gateway::{Gateway, Settings},
    http::{get, value_of},
    http_client::{EVERY_WAY, EventStream, Over, open, request, send},
    order::{self, TOPIC},
    wait,
    wire::{ProducerEvent, PublishRequest},
};

const SUBSCRIBE: &str = "/subscribe/event/OrderCreated__e";
const FROM_EARLIEST: &str = "/subscribe/event/OrderCreated__e?from=earliest";

async fn publish(gateway: &Gateway, events: Vec<ProducerEvent>) {
    let client = Client::connect(gateway).await;
    client
        .publish(&PublishRequest::new(TOPIC, events))
        .await
        .unwrap();
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("order-{number}")).collect()
}

#[tokio::test]
async fn events_arrive_over_every_connection_as_the_command_line_prints_them() {
    let gateway = Gateway::start();
    publish(&gateway, order::events(0..3)).await;
    let mut command =
        gateway.command("subscribe /event/OrderCreated__e --from earliest --count 3 --output json");
    let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
    for over in EVERY_WAY {
        let mut stream = EventStream::subscribe(&gateway, over, FROM_EARLIEST, "").await;
        for line in printed.lines() {
            let (name, data) = stream.next().await.unwrap();
            assert_eq!(
                (name.as_str(), data.to_string().as_str()),
                ("", line),
                "{over:?}"
            );
            assert_eq!(data["replay_id"], stream.last_event_id);
        }
    }
    assert_eq!(printed.lines().count(), 3);
}

#[tokio::test]
async fn live_events_arrive_and_reconnecting_misses_and_repeats_nothing() {
    let mut gateway = Gateway::start();
    let mut stream = EventStream::subscribe(&gateway, Over::Http, SUBSCRIBE, "").await;
    // Before any event there is a place to come back to.
    let mut last = stream.position().await;
    drop(stream);
    let mut next = 0;
    for round in 0..6 {
        publish(&gateway, order::events(next..next + 10)).await;
        if round == 3 {
            gateway.kill_and_restart();
        }
        let over = EVERY_WAY[round % EVERY_WAY.len()];
        let mut stream = EventStream::subscribe(&gateway, over, SUBSCRIBE, &last).await;
        assert_eq!(stream.event_ids(10).await, ids(next..next + 10));
        // One more while it listens.
        publish(&gateway, order::events(next + 10..next + 11)).await;
        assert_eq!(stream.event_ids(1).await, ids(next + 10..next + 11));
        next += 11;
        last = stream.last_event_id;
    }
}

#[tokio::test]
async fn a_slow_reader_costs_no_memory_and_misses_nothing() {
    const EVENTS: usize = 300;
    const READERS: usize = 20;
    let gateway = Gateway::start();
    // Far more than sockets hold, and recent events stay in memory whoever reads them.
    let large = |number: usize| ProducerEvent {
        payload: order::payload_of(100_000),
        ..order::event(number)
    };
    for first in (0..EVENTS).step_by(20) {
        publish(&gateway, (first..first + 20).map(large).collect()).await;
    }
    let before = resident_bytes(&gateway);
    let mut slow = Vec::new();
    for _ in 0..READERS {
        let stream = EventStream::subscribe(&gateway, Over::Http, FROM_EARLIEST, "").await;
        slow.push(stream);
    }
    let subscriptions = format!("tidegate_broker_subscriptions{{topic=\"{TOPIC}\"}}");
    let delivered = format!("tidegate_broker_delivered_events_total{{topic=\"{TOPIC}\"}}");
    // Nobody reads: after a while nothing more is delivered.
    let mut at_first = 0.0;
    wait::until_true("standstill", async || {
        let (_, metrics) = get(&gateway, "/metrics").await;
        let now = value_of(&metrics, &delivered);
        let stands = now == at_first && now > 0.0;
        at_first = now;
        stands && value_of(&metrics, &subscriptions) == READERS as f64
    })
    .await;
    assert!(at_first < (READERS * EVENTS) as f64 / 2.0, "{at_first}");
    let grown = resident_bytes(&gateway).saturating_sub(before);
    // A delivery, its text and what a connection buffers, and room for the block cache.
    assert!(
        grown < READERS as u64 * (2 << 20) + (64 << 20),
        "{grown} bytes"
    );

    let mut stream = slow.pop().unwrap();
    drop(slow);
    assert_eq!(stream.event_ids(EVENTS).await, ids(0..EVENTS));
}

/// The memory that a gateway has in use.
fn resident_bytes(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.ready().pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB").parse::<u64>();
    kib.unwrap() * 1024
}

#[tokio::test]
async fn keepalives_move_the_position_of_an_idle_stream() {
    let gateway = Gateway::start_with(Settings {
        environment: vec![("TIDEGATE_BROKER__KEEPALIVE", "100ms")],
        ..Settings::default()
    });
    let mut stream = EventStream::subscribe(&gateway, Over::Http, SUBSCRIBE, "").await;
    let opened_at = stream.position().await;
    let client = Client::connect(&gateway).await;
    let other = ProducerEvent {
        id: "other".into(),
        schema_id: order::OTHER_SCHEMA_ID.into(),
        payload: order::other_payload(),
        headers: Vec::new(),
    };
    let request = PublishRequest::new(order::OTHER_TOPIC, vec![other]);
    let published: crate::support::wire::PublishResponse = client.publish(&request).await.unwrap();
    let position = &published.results[0].replay_id;
    let position: String = position.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_ne!(position, opened_at);
    wait::within("position of the other event", async {
        while stream.position().await != position {}
    })
    .await;
}

#[tokio::test]
async fn an_id_that_never_was_one_is_refused_with_the_oldest_that_is_good() {
    let gateway = Gateway::start();
    publish(&gateway, order::events(0..1)).await;
    for id in ["nonsense", "001fffffffffffff0000"] {
        for over in EVERY_WAY {
            let (status, body) = refusal(&gateway, over, id).await.expect("no stream");
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert_eq!(body["errorCode"], "INVALID_REPLAY_ID");
            let oldest = body["oldest_valid_replay_id"].as_str().unwrap();
            let mut stream = EventStream::subscribe(&gateway, over, SUBSCRIBE, oldest).await;
            assert_eq!(stream.event_ids(1).await, ids(0..1));
        }
    }
}

#[tokio::test]
async fn an_id_with_purged_events_behind_it_is_gone() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: false,
        environment: vec![
            ("TIDEGATE_EVENT_LOG__SEGMENT_BYTES_MAX", "1MiB"),
            ("TIDEGATE_EVENT_LOG__RETENTION_BYTES", "2MiB"),
        ],
    });
    publish(&gateway, order::events(0..1)).await;
    let mut stream = EventStream::subscribe(&gateway, Over::Http, FROM_EARLIEST, "").await;
    stream.event_ids(1).await;
    let first = stream.last_event_id.clone();
    drop(stream);
    let large = ProducerEvent {
        payload: order::payload_of(200_000),
        ..order::event(1)
    };
    let gone = async {
        loop {
            publish(&gateway, vec![large.clone(); 10]).await;
            if let Some(refusal) = refusal(&gateway, Over::Http, &first).await {
                return refusal;
            }
        }
    };
    let (status, body) = wait::within("purge of the oldest events", gone).await;
    assert_eq!(status, StatusCode::GONE);
    assert_eq!(body["errorCode"], "REPLAY_ID_EXPIRED");
    // The purge may go on for a segment or two, so the oldest may be gone by now; an event is not.
    let mut oldest = body["oldest_valid_replay_id"].as_str().unwrap().to_owned();
    assert!(oldest > first, "{oldest}");
    wait::within("position that is good", async {
        while let Some((_, body)) = refusal(&gateway, Over::Http, &oldest).await {
            oldest = body["oldest_valid_replay_id"].as_str().unwrap().to_owned();
        }
    })
    .await;
}

/// What a subscriber that comes with `id` is told instead of events, if so.
async fn refusal(gateway: &Gateway, over: Over, id: &str) -> Option<(StatusCode, Value)> {
    let request = request(gateway, "GET", SUBSCRIBE).header("last-event-id", id);
    let response = open(gateway, over, request, "").await;
    if response.status() == StatusCode::OK {
        return None;
    }
    let (head, body) = response.into_parts();
    let content_type = head.headers["content-type"].to_str().unwrap();
    assert!(
        content_type.starts_with("application/json"),
        "{content_type}"
    );
    let body = wait::within("body", body.collect())
        .await
        .unwrap()
        .to_bytes();
    let [error]: [Value; 1] = serde_json::from_slice(&body).unwrap();
    Some((head.status, error))
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_its_streams_with_an_error() {
    let gateway = Gateway::start();
    publish(&gateway, order::events(0..1)).await;
    let mut stream = EventStream::subscribe(&gateway, Over::Http, FROM_EARLIEST, "").await;
    stream.event_ids(1).await;
    let mut command = gateway.command(&format!("topic delete {TOPIC} --yes"));
    assert!(command.output().unwrap().status.success());
    let (name, data) = stream.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &data["errorCode"]),
        ("error", &"NOT_FOUND".into())
    );
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_stop_ends_every_stream_at_once() {
    let mut gateway = Gateway::start_with(Settings {
        // The test would time out if the stop waited for it.
        environment: vec![("TIDEGATE_SERVER__SHUTDOWN_GRACE", "1h")],
        ..Settings::default()
    });
    publish(&gateway, order::events(0..1)).await;
    let mut streams = Vec::new();
    for over in EVERY_WAY {
        let mut stream = EventStream::subscribe(&gateway, over, FROM_EARLIEST, "").await;
        assert_eq!(stream.event_ids(1).await, ids(0..1));
        streams.push(stream);
    }
    gateway.terminate();
    for mut stream in streams {
        assert_eq!(stream.next().await, None);
    }
    let status = gateway.wait_for_end();
    assert!(status.success(), "{status}");
    assert!(!gateway.log().contains("cut off"), "{}", gateway.log());
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_subscription_with_it() {
    let gateway = Gateway::start();
    let mut tcp = TcpStream::connect(&gateway.ready().http_addr)
        .await
        .unwrap();
    let token = &gateway.ready().access_token;
    let head = format!(
        "GET {SUBSCRIBE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         tidegate-client-name: billing\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    wait::within("answer", tcp.read_buf(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
    let lag = format!("tidegate_broker_lag_events{{topic=\"{TOPIC}\",client=\"billing\"}}");
    assert!(get(&gateway, "/metrics").await.1.contains(&lag));
    drop(tcp);
    wait::until_true("end of the subscription", async || {
        !get(&gateway, "/metrics").await.1.contains(&lag)
    })
    .await;
}

#[tokio::test]
async fn who_may_not_subscribe_gets_no_stream() {
    let gateway = Gateway::ephemeral();
    let anonymous = http::Request::get(SUBSCRIBE);
    let (status, _, body) = send(&gateway, Over::Https, anonymous, "").await;
    assert_eq!(
        (status, &body[0]["errorCode"]),
        (StatusCode::UNAUTHORIZED, &"INVALID_SESSION_ID".into())
    );
    let unknown = request(&gateway, "GET", "/subscribe/event/Unknown__e");
    let (status, _, body) = send(&gateway, Over::Https, unknown, "").await;
    assert_eq!(
        (status, &body[0]["errorCode"]),
        (StatusCode::NOT_FOUND, &"NOT_FOUND".into())
    );
}
