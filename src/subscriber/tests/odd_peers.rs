//! Gateways that answer nonsense: it is reported, no place is lost, and no loop is tight.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    next_positions,
    peer::{Call, ORDER_SCHEMA_ID, ORDERS, Peer, id_bytes, order, refused, response},
};
use crate::{
    proto::{
        FetchRequest, ReplayPreset,
        raw::{FetchResponse, Repeated},
    },
    subscriber::*,
};

/// A subscriber that has handled the order at 1.
async fn begun(peer: &mut Peer) -> (Events, Call) {
    let builder = Subscriber::builder(peer.connection.clone()).topic(ORDERS.parse().unwrap());
    let builder = builder.max_in_flight(10).start_at(Start::Earliest);
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=1).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
    (events, call)
}

fn is_behind_the_first(request: &FetchRequest) -> bool {
    request.replay_preset == ReplayPreset::Custom as i32 && request.replay_id == id_bytes(1)
}

/// What is sent breaks the stream each time, and the place is kept.
async fn is_refused_every_time(odd: FetchResponse, wanted: &str) {
    let mut peer = Peer::start(None);
    let (mut events, mut call) = begun(&mut peer).await;
    let since = Instant::now();
    for _ in 0..8 {
        call.send_raw(odd.clone()).await;
        let (again, request) = peer.call().await;
        assert!(is_behind_the_first(&request), "{wanted}: {request:?}");
        call = again;
    }
    assert!(
        since.elapsed() > Duration::from_secs(10),
        "waits grow: {wanted}"
    );
    call.send_orders(2..=2).await;
    let Item::Reconnected(reconnected) = super::next_notice(&mut events).await else {
        panic!("it is told: {wanted}");
    };
    assert_eq!(reconnected.attempts, 8);
    assert!(
        reconnected.cause.to_string().contains(wanted),
        "{}",
        reconnected.cause
    );
    assert_eq!(next_positions(&mut events, 1).await, [2]);
}

#[tokio::test(start_paused = true)]
async fn odd_replay_ids_break_the_stream() {
    let mut short = order(2);
    short.replay_id = vec![0, 0, 2].into();
    is_refused_every_time(response(&[short], &id_bytes(2), 5), "found 3").await;
    is_refused_every_time(response(&[order(2)], &[0, 0, 2], 5), "found 3").await;
    is_refused_every_time(response(&[], &[0; 500], 5), "found 500").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_breaks_the_stream() {
    let odd = FetchResponse {
        events: Repeated::of([b"\xff\xff\xff nonsense"]),
        ..response(&[], &id_bytes(2), 5)
    };
    is_refused_every_time(odd, "malformed").await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_end_well_are_opened_again_and_not_in_a_hurry() {
    let mut peer = Peer::start(None);
    let (_events, mut call) = begun(&mut peer).await;
    let since = Instant::now();
    for _ in 0..20 {
        call.end();
        (call, _) = peer.call().await;
    }
    assert!(since.elapsed() > Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn more_than_was_asked_for_is_taken_and_told() {
    let mut peer = Peer::start(None);
    let (mut events, mut call) = begun(&mut peer).await;
    call.send_orders(2..=14).await;
    let wanted: Vec<u64> = (2..=14).collect();
    assert_eq!(next_positions(&mut events, 13).await, wanted);
    assert_eq!(events.statuses()[0].counters.excess, 4, "9 were left of 10");
    assert!(peer.has_no_call());
}

#[tokio::test(start_paused = true)]
async fn a_flood_that_nobody_asked_for_waits_on_the_wire() {
    let mut peer = Peer::start(None);
    let (mut events, mut call) = begun(&mut peer).await;
    let flood = tokio::spawn(async move {
        for position in 2..=2_000 {
            call.send_orders(position..=position).await;
        }
        call
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let in_flight = events.statuses()[0].in_flight;
    assert!(in_flight <= 20, "{in_flight} events in memory");
    let wanted: Vec<u64> = (2..=2_000).collect();
    assert_eq!(next_positions(&mut events, 1_999).await, wanted);
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_schema_cannot_be_had_is_told_alone() {
    let mut peer = Peer::start(None);
    let (mut events, mut call) = begun(&mut peer).await;
    peer.schemas
        .lock()
        .unwrap()
        .insert("broken".into(), Ok("{\"type\": \"nonsense\"}".into()));
    let with_schema = |position, id: &str| {
        let mut event = order(position);
        event.event.as_mut().unwrap().schema_id = id.into();
        event
    };
    let mut cut = order(5);
    cut.event.as_mut().unwrap().payload = vec![1].into();
    let odd = [
        with_schema(2, "unknown"),
        with_schema(3, "broken"),
        with_schema(4, ""),
        cut,
    ];
    call.send(&odd, 5).await;
    call.send_orders(6..=6).await;
    for wanted in ["unknown", "broken", "names no schema", "payload"] {
        let Item::Event(event) = events.next().await.unwrap().unwrap() else {
            panic!("events come: {wanted}");
        };
        let error = event.json().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(!event.encoded().is_empty());
        event.done();
    }
    assert_eq!(next_positions(&mut events, 1).await, [6]);
    let calls = peer.schema_calls.lock().unwrap().clone();
    let count = |id: &str| calls.iter().filter(|&call| call == id).count();
    assert_eq!(
        (count(ORDER_SCHEMA_ID), count("unknown")),
        (1, 1),
        "asked for once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_cannot_be_asked_for_now_is_asked_for_again() {
    let mut peer = Peer::start(None);
    let (mut events, mut call) = begun(&mut peer).await;
    let later = "later".to_owned();
    let unavailable = refused(Code::Unavailable, "schema.api.unavailable");
    peer.schemas
        .lock()
        .unwrap()
        .insert(later.clone(), Err(unavailable));
    let mut event = order(2);
    event.event.as_mut().unwrap().schema_id = later.clone();
    call.send(std::slice::from_ref(&event), 2).await;
    let (mut call, request) = peer.call().await;
    assert!(is_behind_the_first(&request));
    let text = peer.schemas.lock().unwrap()[ORDER_SCHEMA_ID].clone();
    peer.schemas.lock().unwrap().insert(later, text);
    call.send(&[event], 2).await;
    assert_eq!(next_positions(&mut events, 1).await, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_no_gateway_sends_is_tried_again() {
    let mut peer = Peer::start(None);
    let (_events, call) = begun(&mut peer).await;
    call.fail(Status::unknown("a proxy answered 500")).await;
    let (_call, request) = peer.call().await;
    assert!(is_behind_the_first(&request));
}
