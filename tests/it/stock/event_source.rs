//! The public client for Server-Sent Events comes back by itself and misses nothing.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::sign_in::clients;
use crate::support::{
    client::Client,
    gateway::Gateway,
    order::{self, TOPIC},
    wait::within,
    wire::PublishRequest,
};

#[tokio::test]
async fn event_source_gets_what_was_published_while_the_gateway_restarted() {
    const EVENTS: usize = 3;
    let mut gateway = Gateway::start();
    let mut child = Command::new("node")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/clients/node/event_source.js"
        ))
        .env("NODE_PATH", clients().join("node/node_modules"))
        .env("no_proxy", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the client can be run");
    let mut input = child.stdin.take().expect("piped");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let url = |gateway: &Gateway| {
        let addr = &gateway.ready().http_addr;
        format!("http://{addr}/subscribe/event/OrderCreated__e")
    };
    let arguments = json!({
        "url": url(&gateway),
        "token": gateway.ready().access_token,
        "count": EVENTS,
    });
    let arguments = format!("{arguments}\n");
    input.write_all(arguments.as_bytes()).await.unwrap();
    let line = within("connection", lines.next_line()).await.unwrap();
    assert_eq!(line.as_deref(), Some("connected"));

    gateway.kill_and_restart();
    let client = Client::connect(&gateway).await;
    let events = PublishRequest::new(TOPIC, order::events(0..EVENTS));
    client.publish(&events).await.unwrap();
    let address = format!("{}\n", url(&gateway));
    input.write_all(address.as_bytes()).await.unwrap();
    for number in 0..EVENTS {
        let line = within("event", lines.next_line()).await.unwrap();
        assert_eq!(line, Some(format!("order-{number}")));
    }
}
