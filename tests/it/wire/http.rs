//! The HTTP edge: health and metrics.

use crate::support::{
    client::Client,
    gateway::Gateway,
    http::{get, value_of},
    order::{self, TOPIC},
    wire::{FetchRequest, PublishRequest},
};

#[tokio::test]
async fn a_gateway_that_serves_is_alive_and_ready() {
    let gateway = Gateway::ephemeral();
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(&gateway, path).await.0, "HTTP/1.1 200 OK", "{path}");
    }
    assert_eq!(get(&gateway, "/unknown").await.0, "HTTP/1.1 404 Not Found");
}

#[tokio::test]
async fn what_is_published_refused_and_delivered_is_counted() {
    let gateway = Gateway::start();
    let client = Client::connect(&gateway).await;
    let mut events = order::events(0..5);
    events[1].payload.clear();
    events[3].schema_id = "unknown".into();
    let request = PublishRequest::new(TOPIC, events);
    client.publish(&request).await.unwrap();
    let named = client.with("tidegate-client-name", "billing");
    let mut subscribed = named.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    subscribed.fetch(1).await;
    let mut refused = client.subscribe(&FetchRequest::earliest(TOPIC, 0)).await;
    refused.failure().await;

    let (status, metrics) = get(&gateway, "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let tenant = &gateway.ready().tenant_id;
    for (series, value) in [
        (format!("broker_published_events_total{{topic=\"{TOPIC}\"}}"), 3.0),
        (format!("broker_refused_events_total{{topic=\"{TOPIC}\",reason=\"payload\"}}"), 1.0),
        (format!("broker_refused_events_total{{topic=\"{TOPIC}\",reason=\"schema\"}}"), 1.0),
        (format!("broker_delivered_events_total{{topic=\"{TOPIC}\"}}"), 1.0),
        (format!("broker_subscriptions{{topic=\"{TOPIC}\"}}"), 1.0),
        (format!("broker_lag_events{{topic=\"{TOPIC}\"}}"), 2.0),
        (format!("broker_lag_events{{topic=\"{TOPIC}\",client=\"billing\"}}"), 2.0),
        // The three were appended at one time.
        (format!("broker_lag_seconds{{topic=\"{TOPIC}\"}}"), 0.0),
        (format!("broker_lag_seconds{{topic=\"{TOPIC}\",client=\"billing\"}}"), 0.0),
        ("grpc_calls_ended_total{method=\"Publish\",reason=\"ok\"}".into(), 1.0),
        (
            "grpc_calls_ended_total{method=\"Subscribe\",reason=\"subscription.fetch.requested.events.invalid\"}".into(),
            1.0,
        ),
        ("grpc_calls_live{method=\"Subscribe\"}".into(), 1.0),
        ("event_log_append_seconds_count".into(), 1.0),
        (format!("event_log_trim_position{{tenant=\"{tenant}\"}}"), 0.0),
    ] {
        assert_eq!(value_of(&metrics, &format!("tidegate_{series}")), value, "{series}");
    }
    for series in [
        "event_log_sync_seconds_count".into(),
        format!("event_log_size_bytes{{tenant=\"{tenant}\"}}"),
        format!("event_log_segments{{tenant=\"{tenant}\"}}"),
        format!("event_log_head_position{{tenant=\"{tenant}\"}}"),
    ] {
        assert!(
            value_of(&metrics, &format!("tidegate_{series}")) >= 1.0,
            "{series}"
        );
    }
    assert!(
        metrics.ends_with("# EOF\n"),
        "the OpenMetrics text form ends so"
    );
}

#[tokio::test]
async fn every_metric_is_in_the_manual() {
    const MANUAL: &str = include_str!("../../../src/manual/operations.md");
    let gateway = Gateway::start();
    let client = Client::connect(&gateway).await;
    let mut events = order::events(0..2);
    events[1].payload.clear();
    client
        .publish(&PublishRequest::new(TOPIC, events))
        .await
        .unwrap();
    let (_, metrics) = get(&gateway, "/metrics").await;
    let types = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let rows: Vec<_> = types
        .map(|metric| match metric.split_once(' ') {
            Some((name, "counter")) => format!("| `{name}_total` |"),
            Some((name, _)) => format!("| `{name}` |"),
            None => panic!("{metric:?} has no type"),
        })
        .collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        assert!(MANUAL.contains(&row), "there is no row {row}");
    }
    for line in metrics.lines().filter(|line| line.contains("reason=")) {
        let reason = line.split('"').rev().nth(1).unwrap();
        let is_documented = reason == "ok" || MANUAL.contains(&format!("`{reason}`"));
        assert!(is_documented, "{line}");
    }
}
