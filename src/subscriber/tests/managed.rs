//! Managed subscriptions: the gateway keeps the position.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::timeout;
use tonic::Code;

use super::{
    io_failure, next_positions,
    peer::{ORDERS, Peer, id_bytes, order, refused},
};
use crate::{clock::Timestamp, subscriber::*};

fn subscriber(peer: &Peer) -> Events {
    let key = ManagedKey::Name("Billing".into());
    let builder = Subscriber::builder(peer.connection.clone());
    let builder = builder.managed(key, ORDERS.parse().unwrap());
    builder.max_in_flight(50).build().unwrap().start()
}

#[tokio::test(start_paused = true)]
async fn what_is_handled_is_committed_and_the_end_waits_for_the_answer() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (mut call, first) = peer.managed_call().await;
    assert_eq!(first.developer_name, "Billing");
    assert_eq!(first.num_requested, 50);
    call.send(&[order(1), order(2)], 2, None).await;
    assert_eq!(next_positions(&mut events, 2).await, [1, 2]);
    let request = call.requests.message().await.unwrap().unwrap();
    let commit = request.commit_replay_id_request.unwrap();
    assert_eq!(commit.replay_id, id_bytes(2));
    call.send(&[order(3)], 3, Some(&commit.commit_request_id))
        .await;
    assert_eq!(next_positions(&mut events, 1).await, [3]);
    assert_eq!(events.statuses()[0].saved.unwrap().number(), 2);
    let closing = tokio::spawn(events.close());
    let request = call.requests.message().await.unwrap().unwrap();
    let commit = request.commit_replay_id_request.unwrap();
    assert_eq!(commit.replay_id, id_bytes(3));
    assert!(
        call.requests.message().await.unwrap().is_none(),
        "half-closed"
    );
    assert!(!closing.is_finished());
    call.send(&[], 3, Some(&commit.commit_request_id)).await;
    drop(call);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_handled_alone_is_committed_in_time() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    let Ok(Some(Item::Event(delivery))) = events.next().await else {
        panic!("an event");
    };
    // Long after the last thing that the gateway said.
    tokio::time::sleep(Duration::from_secs(20)).await;
    delivery.done();
    let handled = tokio::time::Instant::now();
    let request = call.requests.message().await.unwrap().unwrap();
    let commit = request.commit_replay_id_request.unwrap();
    assert_eq!(commit.replay_id, id_bytes(1));
    assert!(handled.elapsed() < Duration::from_secs(5));
    drop(call);
    drop(events);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_crosses_a_request_has_nothing_asked_for_twice() {
    let mut peer = Peer::start(None);
    let key = ManagedKey::Name("Billing".into());
    let builder = Subscriber::builder(peer.connection.clone());
    let builder = builder.managed(key, ORDERS.parse().unwrap());
    let builder = builder.max_in_flight(1).save_after(1, Duration::ZERO);
    let mut events = builder.build().unwrap().start();
    let (mut call, first) = peer.managed_call().await;
    assert_eq!(first.num_requested, 1);
    call.send_with(&[order(1)], 1, 0, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
    let (mut asked, mut commit) = (0, None);
    while asked == 0 || commit.is_none() {
        let request = call.requests.message().await.unwrap().unwrap();
        asked += request.num_requested;
        commit = commit.or(request.commit_replay_id_request);
    }
    // It was written before the request for one more event was read.
    let number = commit.unwrap().commit_request_id;
    call.send_with(&[], 1, 0, Some(&number)).await;
    let more = timeout(Duration::from_secs(5), call.requests.message()).await;
    assert!(more.is_err(), "one event may be in flight: {more:?}");
}

/// A store of ids that fails once.
#[derive(Debug, Default)]
struct FailsOnce(AtomicBool);

#[async_trait::async_trait]
impl DedupeStore for FailsOnce {
    async fn seen(&self, _: &str, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        match self.0.swap(true, Ordering::SeqCst) {
            true => Ok(vec![false; ids.len()]),
            false => Err(io_failure()),
        }
    }

    async fn record(&self, _: &str, _: Vec<String>, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_taken_in_because_a_store_failed_is_taken_when_it_comes_again() {
    let mut peer = Peer::start(None);
    let key = ManagedKey::Name("Billing".into());
    let builder = Subscriber::builder(peer.connection.clone());
    let builder = builder.managed(key, ORDERS.parse().unwrap());
    let builder = builder.dedupe(FailsOnce::default());
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2)], 2, None).await;
    assert_eq!(next_positions(&mut events, 2).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_last_commit_without_an_answer_is_an_error() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    next_positions(&mut events, 1).await;
    let closing = tokio::spawn(events.close());
    call.requests.message().await.unwrap().unwrap();
    drop(call);
    let error = closing.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("will come again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_is_made_again_on_the_next_stream() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
    let request = call.requests.message().await.unwrap().unwrap();
    assert!(request.commit_replay_id_request.is_some());
    drop(call);
    let (mut call, _) = peer.managed_call().await;
    let request = call.requests.message().await.unwrap().unwrap();
    let again = request.commit_replay_id_request.unwrap();
    assert_eq!(again.replay_id, id_bytes(1));
    drop(call);
    // Nor is it forgotten at the end.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(matches!(events.statuses()[0].state, State::Waiting(_)));
    let error = events.close().await.unwrap_err();
    assert!(matches!(error, SubscribeError::NotCommitted), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_last_commit_that_there_is_no_stream_for_is_an_error() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    let Item::Event(event) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes");
    };
    drop(call);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(matches!(events.statuses()[0].state, State::Waiting(_)));
    event.done();
    let error = events.close().await.unwrap_err();
    assert!(matches!(error, SubscribeError::NotCommitted), "{error}");
}

#[tokio::test(start_paused = true)]
async fn once_all_that_is_wanted_came_a_stream_is_there_for_the_last_commit_alone() {
    let mut peer = Peer::start(None);
    let key = ManagedKey::Name("Billing".into());
    let builder = Subscriber::builder(peer.connection.clone());
    let builder = builder.managed(key, ORDERS.parse().unwrap()).limit(1);
    let mut events = builder.build().unwrap().start();
    let (mut call, first) = peer.managed_call().await;
    assert_eq!(first.num_requested, 1);
    call.send(&[order(1)], 1, None).await;
    let Item::Event(event) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes");
    };
    drop(call);
    let (mut call, again) = peer.managed_call().await;
    assert_eq!(again.num_requested, 1, "nothing cannot be asked for");
    call.send(&[order(2)], 2, None).await;
    event.done();
    let request = call.requests.message().await.unwrap().unwrap();
    let commit = request.commit_replay_id_request.unwrap();
    assert_eq!(commit.replay_id, id_bytes(1), "the other was not wanted");
    call.send(&[], 2, Some(&commit.commit_request_id)).await;
    let closing = tokio::spawn(events.close());
    while let Ok(Some(_)) = call.requests.message().await {}
    drop(call);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_last_commit_that_is_refused_is_an_error_whatever_is_answered_behind_it() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    next_positions(&mut events, 1).await;
    let first = call.requests.message().await.unwrap().unwrap();
    let first = first.commit_replay_id_request.unwrap().commit_request_id;
    call.send(&[order(2)], 2, None).await;
    next_positions(&mut events, 1).await;
    let closing = tokio::spawn(events.close());
    let last = call.requests.message().await.unwrap().unwrap();
    let last = last.commit_replay_id_request.unwrap().commit_request_id;
    call.refuse_commit(&last).await;
    call.send(&[], 2, Some(&first)).await;
    drop(call);
    let error = closing.await.unwrap().unwrap_err();
    assert!(matches!(error, SubscribeError::CommitRefused), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_since_the_last_commit_is_passed_over() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2), order(3)], 3, None).await;
    let Item::Event(first) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes");
    };
    assert_eq!(next_positions(&mut events, 1).await, [2]);
    drop(call);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2)], 2, None).await;
    call.send(&[order(3), order(4)], 4, None).await;
    assert_eq!(next_positions(&mut events, 2).await, [3, 4]);
    assert_eq!(events.statuses()[0].counters.duplicates, 3);
    first.done();
    let request = loop {
        let request = call.requests.message().await.unwrap().unwrap();
        if let Some(commit) = request.commit_replay_id_request {
            break commit;
        }
    };
    assert_eq!(request.replay_id, id_bytes(4), "and never one before");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_taken_is_waited_for() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    for _ in 0..50 {
        let (call, _) = peer.managed_call().await;
        let taken = refused(Code::AlreadyExists, "managed.subscription.already.active");
        _ = call.responses.send(Err(taken)).await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(events.statuses()[0].state, State::StandingBy);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_subscription_is_committed_again_before_its_stream_ends() {
    let mut peer = Peer::start(None);
    let _events = subscriber(&peer);
    let (mut call, _) = peer.managed_call().await;
    let mut commits = 0;
    for _ in 0..30 {
        call.send(&[], 7, None).await;
        let waiting = tokio::time::timeout(Duration::from_secs(60), call.requests.message());
        if let Ok(Ok(Some(request))) = waiting.await {
            let commit = request.commit_replay_id_request.unwrap();
            assert_eq!(commit.replay_id, id_bytes(7));
            call.send(&[], 7, Some(&commit.commit_request_id)).await;
            commits += 1;
        }
    }
    assert!(commits >= 10, "{commits} in half an hour");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_stopped_ends_it() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer);
    let (call, _) = peer.managed_call().await;
    let stopped = refused(
        Code::FailedPrecondition,
        "managed.subscription.config.stopped",
    );
    _ = call.responses.send(Err(stopped)).await;
    let error = events.next().await.unwrap_err().to_string();
    assert!(error.contains("config.stopped"), "{error}");
}
