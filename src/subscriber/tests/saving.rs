//! When the position is saved, and what it is then.

use std::time::Duration;

use super::{
    FailingState, io_failure, next_notice, next_positions,
    peer::{ORDERS, Peer, event, id_bytes},
};
use crate::{
    clock::{ManualClock, Timestamp},
    proto::ReplayPreset,
    subscriber::*,
};

fn subscriber(peer: &Peer) -> Builder {
    Subscriber::builder(peer.connection.clone())
        .topic(ORDERS.parse().unwrap())
        .start_at(Start::Earliest)
}

async fn saved(state: &impl CheckpointStore) -> Option<u64> {
    let checkpoint = state.load(ORDERS).await.unwrap();
    checkpoint.map(|checkpoint| checkpoint.replay_id.number())
}

#[tokio::test(start_paused = true)]
async fn the_next_process_goes_on_where_this_one_was() {
    let mut peer = Peer::start(None);
    let state = MemoryState::default();
    let mut events = subscriber(&peer)
        .state(state.clone())
        .build()
        .unwrap()
        .start();
    let (mut call, first) = peer.call().await;
    assert_eq!(first.replay_preset, ReplayPreset::Earliest as i32);
    call.send_orders(1..=4).await;
    assert_eq!(next_positions(&mut events, 2).await, [1, 2]);
    let Item::Event(third) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes");
    };
    assert_eq!(next_positions(&mut events, 1).await, [4]);
    events.close().await.unwrap();
    assert_eq!(saved(&state).await, Some(2), "the third is not handled");
    drop(third);
    let mut events = subscriber(&peer)
        .state(state.clone())
        .build()
        .unwrap()
        .start();
    let (mut call, again) = peer.call().await;
    assert_eq!(again.replay_preset, ReplayPreset::Custom as i32);
    assert_eq!(again.replay_id, id_bytes(2));
    call.send_orders(3..=5).await;
    assert_eq!(
        next_positions(&mut events, 2).await,
        [3, 5],
        "the fourth is known"
    );
    assert_eq!(events.statuses()[0].counters.duplicates, 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_saved_after_some_events_or_some_time() {
    let mut peer = Peer::start(None);
    let state = FailingState::default();
    let builder = subscriber(&peer).checkpoints(state.clone());
    let builder = builder.save_after(3, Duration::from_secs(10));
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=4).await;
    next_positions(&mut events, 2).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(saved(&state).await, None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(saved(&state).await, Some(2), "after ten seconds");
    next_positions(&mut events, 2).await;
    call.send_orders(5..=6).await;
    next_positions(&mut events, 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(saved(&state).await, Some(5), "after three events");
    drop(events);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        saved(&state).await,
        Some(5),
        "whoever drops it does not save"
    );
}

#[tokio::test(start_paused = true)]
async fn keepalives_are_saved_and_keep_the_checkpoint_young() {
    let mut peer = Peer::start(None);
    let state = FailingState::default();
    let clock = ManualClock::at(Timestamp::from_millis(0));
    let builder = subscriber(&peer).checkpoints(state.clone());
    let events = builder.clock(clock.clone()).build().unwrap().start();
    let (mut call, _) = peer.call().await;
    for (minute, position) in [(1, 7), (2, 9), (3, 9), (4, 9)] {
        clock.set(Timestamp::from_millis(minute * 60_000));
        call.send(&[], position).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(saved(&state).await, Some(position));
    }
    let last = state.load(ORDERS).await.unwrap().unwrap();
    assert!(
        last.saved_at.as_millis() >= 3 * 60_000,
        "though it did not move"
    );
    // A gateway that is not heard of says nothing about whether the position is good.
    let saves = state.saves.lock().unwrap().len();
    call.end();
    drop(peer);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let later = state.saves.lock().unwrap().len();
    assert!(later <= saves + 1, "{later} saves after {saves}");
    assert!(events.statuses()[0].checkpoint_age.unwrap() > Duration::from_secs(3_000));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_tried_again_and_nothing_counts_as_saved() {
    let mut peer = Peer::start(None);
    let state = FailingState::default();
    state
        .failures
        .lock()
        .unwrap()
        .extend([io_failure(), io_failure(), io_failure()]);
    let mut events = subscriber(&peer)
        .checkpoints(state.clone())
        .build()
        .unwrap()
        .start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=1).await;
    next_positions(&mut events, 1).await;
    state
        .failures
        .lock()
        .unwrap()
        .extend([io_failure(), io_failure()]);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert!(events.statuses()[0].counters.failed_saves >= 1);
    assert_eq!(events.statuses()[0].saved, None);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(saved(&state).await, Some(1));
    assert_eq!(events.statuses()[0].saved.unwrap().number(), 1);
    // One for a save that is under way then, and one for the last.
    state
        .failures
        .lock()
        .unwrap()
        .extend([io_failure(), io_failure()]);
    call.send_orders(2..=2).await;
    next_positions(&mut events, 1).await;
    let error = events.close().await.unwrap_err();
    assert!(matches!(error, SubscribeError::Store(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_used_ends_it() {
    let peer = Peer::start(None);
    let state = FailingState::default();
    let unusable = StoreError::unusable("another topic's");
    state.failures.lock().unwrap().push(unusable);
    let mut events = subscriber(&peer)
        .checkpoints(state.clone())
        .build()
        .unwrap()
        .start();
    let error = events.next().await.unwrap_err().to_string();
    assert_eq!(error, "another topic's");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_twice_is_handled_once() {
    let mut peer = Peer::start(None);
    let state = MemoryState::default();
    let mut events = subscriber(&peer)
        .state(state.clone())
        .build()
        .unwrap()
        .start();
    let (mut call, _) = peer.call().await;
    // While the first is in flight; after it is handled; and after that is recorded.
    call.send(&[event(1, "same"), event(2, "same"), event(3, "")], 3)
        .await;
    call.send(&[event(4, "")], 4).await;
    assert_eq!(
        next_positions(&mut events, 3).await,
        [1, 3, 4],
        "no id is no duplicate"
    );
    call.send(&[event(5, "same")], 5).await;
    assert!(matches!(next_notice(&mut events).await, Item::CaughtUp(_)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    call.send(&[event(6, "same"), event(7, "other")], 7).await;
    assert_eq!(next_positions(&mut events, 1).await, [7]);
    assert_eq!(events.statuses()[0].counters.duplicates, 3);
    events.close().await.unwrap();
    assert_eq!(saved(&state).await, Some(7), "duplicates hold nothing up");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_dropped_holds_the_checkpoint() {
    let mut peer = Peer::start(None);
    let state = MemoryState::default();
    let mut events = subscriber(&peer)
        .state(state.clone())
        .build()
        .unwrap()
        .start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=3).await;
    next_positions(&mut events, 1).await;
    drop(events.next().await);
    next_positions(&mut events, 1).await;
    let status = &events.statuses()[0];
    assert!(status.is_stuck && !status.is_healthy(), "{status:?}");
    assert_eq!((status.in_flight, status.counters.abandoned), (0, 1));
    events.close().await.unwrap();
    assert_eq!(saved(&state).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn no_more_events_wait_to_be_saved_than_may_come_again() {
    let mut peer = Peer::start(None);
    let state = FailingState::default();
    let builder = subscriber(&peer).checkpoints(state.clone());
    let builder = builder.save_after(2, Duration::from_secs(3_600));
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=5).await;
    state.failures.lock().unwrap().extend(vec![io_failure(); 3]);
    assert_eq!(next_positions(&mut events, 2).await, [1, 2]);
    let waiting = tokio::time::timeout(Duration::from_millis(200), events.next());
    assert!(waiting.await.is_err(), "its store fails");
    assert_eq!(events.statuses()[0].saved, None);
    assert_eq!(next_positions(&mut events, 2).await, [3, 4]);
    assert_eq!(events.statuses()[0].saved.unwrap().number(), 2);
}
