//! What a subscriber tells those who look after it.

use serde_json::Value;

use super::{Running, command, publish};
use crate::support::{
    gateway::Gateway,
    http::{get_from, value_of},
    order::TOPIC,
    wait::until_true,
};

async fn is_healthy(addr: &str) -> bool {
    let (status, body) = get_from(addr, "/health").await;
    let health: Value = serde_json::from_str(&body).unwrap();
    let is_healthy = status.contains(" 200 ");
    assert!(is_healthy || status.contains(" 503 "), "{status}");
    assert_eq!(health["topics"][0]["topic"], TOPIC);
    assert_eq!(health["topics"][0]["healthy"], is_healthy, "{health}");
    assert_eq!(
        health["topics"][0]["state"] == "live",
        is_healthy,
        "{health}"
    );
    is_healthy
}

async fn until_done(addr: &str, events: f64) {
    let done = format!("tidegate_subscriber_events_done_total{{topic=\"{TOPIC}\"}}");
    until_true("events", async || {
        let (_, metrics) = get_from(addr, "/metrics").await;
        value_of(&metrics, &done) >= events
    })
    .await;
}

#[tokio::test]
async fn metrics_and_health_follow_a_gateway_that_dies_and_comes_back() {
    let mut gateway = Gateway::start();
    publish(&gateway, 0..3).await;
    let dir = tempfile::tempdir().unwrap();
    let arguments = format!(
        "subscribe {TOPIC} --from earliest --state state --metrics-addr 127.0.0.1:0 --exec"
    );
    let running = Running::start(
        command(&gateway, &arguments, &["cat > /dev/null"]),
        dir.path(),
    );
    let addr = running.metrics_addr();
    until_done(&addr, 3.0).await;
    assert!(is_healthy(&addr).await);

    gateway.kill();
    until_true("word of the end", async || !is_healthy(&addr).await).await;
    gateway.restart_in_place();
    until_true("word of the return", async || is_healthy(&addr).await).await;
    publish(&gateway, 3..5).await;
    until_done(&addr, 5.0).await;
    let (_, metrics) = get_from(&addr, "/metrics").await;
    let disconnects = format!("tidegate_subscriber_disconnects_total{{topic=\"{TOPIC}\"}}");
    assert!(value_of(&metrics, &disconnects) >= 1.0);
    let token = &gateway.ready().access_token;
    assert!(!metrics.contains(token.as_str()));

    // Two do not share an address.
    let arguments = format!("subscribe {TOPIC} --metrics-addr {addr}");
    let output = gateway.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&format!("cannot listen on {addr}")),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_managed_subscription_that_prints_tells_the_same() {
    let gateway = Gateway::start();
    let create = format!("managed create Fulfilment --topic {TOPIC} --default-replay earliest");
    assert!(gateway.command(&create).output().unwrap().status.success());
    publish(&gateway, 0..3).await;
    let dir = tempfile::tempdir().unwrap();
    let arguments = "managed subscribe Fulfilment --metrics-addr 127.0.0.1:0";
    let running = Running::start(gateway.command(arguments), dir.path());
    let addr = running.metrics_addr();
    until_done(&addr, 3.0).await;
    assert!(is_healthy(&addr).await);
}
