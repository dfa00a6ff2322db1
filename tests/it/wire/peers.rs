//! Clients that do harm, on purpose or not: each loses its own stream and nobody else's.

use crate::support::{
    client::{Client, NO_STATUS, code},
    gateway::{Gateway, Settings},
    order::{self, TOPIC},
    wait,
    wire::{FetchRequest, FetchResponse, PublishRequest},
};

/// Publishes some orders and reads them back on a connection of its own.
async fn expect_service(gateway: &Gateway) {
    let client = Client::connect(gateway).await;
    let request = PublishRequest::new(TOPIC, order::events(0..3));
    let published = client.publish(&request).await.unwrap().results;
    let last = &published[1].replay_id;
    let mut call = client
        .subscribe(&FetchRequest::custom(TOPIC, last, 1))
        .await;
    assert_eq!(call.fetch(1).await[0].replay_id, published[2].replay_id);
}

#[tokio::test]
async fn a_stream_with_too_many_requests_in_a_second_is_ended() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_GRPC__FETCH_REQUESTS_PER_SECOND_MAX", "100")],
    });
    let client = Client::connect(&gateway).await;
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    for _ in 0..500 {
        call.send(&FetchRequest::more(1));
    }
    let suffix = "service.protection.stream.limit.triggered";
    call.failure()
        .await
        .expect("Subscribe", code::RESOURCE_EXHAUSTED, suffix);
    expect_service(&gateway).await;
}

#[tokio::test]
async fn a_flood_of_requests_costs_its_own_connection_at_most() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await;
    for _ in 0..200_000 {
        call.send(&FetchRequest::more(1));
    }
    expect_service(&gateway).await;
    // HTTP/2 ends a connection that goes on sending to a stream that has ended; whether the status
    // is read before that is up to the client's library.
    let ended = call.failure().await;
    assert!(
        [code::RESOURCE_EXHAUSTED, NO_STATUS].contains(&ended.code),
        "{ended:?}"
    );
    expect_service(&gateway).await;
}

#[tokio::test]
async fn streams_reset_in_a_loop_cost_only_themselves() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    for _ in 0..20 {
        let mut calls = Vec::new();
        for _ in 0..50 {
            calls.push(client.subscribe(&FetchRequest::earliest(TOPIC, 1)).await);
        }
        // Dropped before an answer: each stream is reset.
        drop(calls);
    }
    expect_service(&gateway).await;
}

#[tokio::test]
async fn a_subscriber_that_never_reads_holds_up_nobody() {
    let gateway = Gateway::ephemeral();
    let idle = Client::connect(&gateway).await;
    let mut large = order::event(0);
    large.payload = order::payload_of(500_000);
    let client = Client::connect(&gateway).await;
    let mut published = Vec::new();
    for _ in 0..30 {
        let request = PublishRequest::new(TOPIC, vec![large.clone(); 4]);
        published.extend(client.publish(&request).await.unwrap().results);
    }
    // Asks for sixty megabytes and takes none of them.
    let mut unread = idle.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
    unread.headers().await;
    expect_service(&gateway).await;

    // It is there when it is read at last.
    let mut count = 0;
    while count < 100 {
        let response: FetchResponse = unread.next().await.unwrap().expect("more events");
        for event in &response.events {
            assert_eq!(event.replay_id, published[count].replay_id);
            count += 1;
        }
        assert_eq!(response.pending_num_requested, 100 - count as i32);
    }
}

#[tokio::test]
async fn streams_that_never_send_hold_up_nobody() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut calls = Vec::new();
    for _ in 0..400 {
        for method in ["Subscribe", "PublishStream"] {
            let mut call = client.call(method).await;
            call.headers().await;
            calls.push(call);
        }
    }
    expect_service(&gateway).await;
}

#[tokio::test]
async fn a_subscriber_that_leaves_frees_its_stream() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    // More than the thousand streams that one connection may have.
    for _ in 0..1_500 {
        let mut call = client.subscribe(&FetchRequest::latest(TOPIC, 1)).await;
        call.headers().await;
    }
    expect_service(&gateway).await;
}

#[tokio::test]
async fn a_connection_that_speaks_something_else_is_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let gateway = Gateway::ephemeral();
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0xff; 4_096],
        b"\x16\x03\x01",
    ] {
        let address = &gateway.ready().grpc_addr;
        let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        // It may be closed while this is being written.
        _ = tcp.write_all(bytes).await;
        _ = tcp.shutdown().await;
        let mut answer = Vec::new();
        _ = wait::within("end of the connection", tcp.read_to_end(&mut answer)).await;
    }
    expect_service(&gateway).await;
}
