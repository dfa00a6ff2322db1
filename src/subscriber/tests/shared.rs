//! Managed subscriptions that are shared: each stream has some of the events, in an order of its own.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use super::{
    next_positions,
    peer::{ManagedCall, ORDERS, Peer, order},
};
use crate::{clock::Timestamp, subscriber::*};

fn shared_peer() -> Peer {
    let peer = Peer::start(None);
    peer.share(Some(4));
    peer
}

fn builder(peer: &Peer) -> Builder {
    let key = ManagedKey::Name("Billing".into());
    let builder = Subscriber::builder(peer.connection.clone());
    let builder = builder.managed(key, ORDERS.parse().unwrap());
    builder.max_in_flight(50).save_after(1, Duration::ZERO)
}

/// The next events, none of them handled.
async fn next_events(events: &mut Events, count: usize) -> Vec<Delivery> {
    let mut next = Vec::new();
    while next.len() < count {
        if let Item::Event(event) = events.next().await.unwrap().unwrap() {
            next.push(event);
        }
    }
    next
}

/// Waits for the next commit and answers it. Returns the number of its replay id.
async fn answered_commit(call: &mut ManagedCall) -> u64 {
    let (number, position) = call.commit().await.unwrap();
    call.send(&[], position, Some(&number)).await;
    position
}

/// Whether nothing is committed for longer than a save takes.
async fn is_nothing_committed(call: &mut ManagedCall) -> bool {
    let waiting = timeout(Duration::from_secs(30), call.commit());
    waiting.await.is_err()
}

/// Ends the subscriber well, and returns what it committed last.
async fn close(events: Events, mut call: ManagedCall) -> Option<u64> {
    let closing = tokio::spawn(events.close());
    let mut last = None;
    while let Some((number, position)) = call.commit().await {
        call.send(&[], position, Some(&number)).await;
        last = Some(position);
    }
    drop(call);
    closing.await.unwrap().unwrap();
    last
}

#[tokio::test(start_paused = true)]
async fn ids_that_go_down_are_handled_and_committed_as_they_come() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(8), order(9)], 9, None).await;
    assert_eq!(next_positions(&mut events, 2).await, [8, 9]);
    assert_eq!(answered_commit(&mut call).await, 9);
    call.send(&[order(3), order(2)], 9, None).await;
    let mut older = next_events(&mut events, 2).await;
    older.pop().unwrap().done();
    assert_eq!(answered_commit(&mut call).await, 9, "3 came before 2");
    assert!(is_nothing_committed(&mut call).await);
    older.pop().unwrap().done();
    assert_eq!(answered_commit(&mut call).await, 2);
    assert_eq!(close(events, call).await, None, "all is committed");
}

#[tokio::test(start_paused = true)]
async fn no_commit_covers_what_comes_before_it_on_the_new_stream_and_is_not_handled() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(2), order(3)], 3, None).await;
    let mut unhandled = next_events(&mut events, 2).await;
    drop(call);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(3), order(2), order(4)], 4, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [4], "and no other");
    unhandled.remove(0).done();
    assert!(
        is_nothing_committed(&mut call).await,
        "each covers the third, which is not handled"
    );
    assert_eq!(events.statuses()[0].in_flight, 1);
    unhandled.remove(0).done();
    assert_eq!(answered_commit(&mut call).await, 4);
    assert_eq!(events.statuses()[0].counters.duplicates, 2);
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_and_not_committed_is_committed_once_it_comes_again() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2), order(3)], 3, None).await;
    assert_eq!(next_positions(&mut events, 3).await, [1, 2, 3]);
    assert_eq!(call.commit().await.unwrap().1, 3);
    // Its answer is lost.
    drop(call);
    let (mut call, _) = peer.managed_call().await;
    assert!(
        is_nothing_committed(&mut call).await,
        "no id of the former stream is one of this"
    );
    call.send(&[order(3)], 3, None).await;
    assert_eq!(answered_commit(&mut call).await, 3);
    call.send(&[order(1)], 1, None).await;
    assert_eq!(answered_commit(&mut call).await, 1);
    let counters = events.statuses()[0].counters;
    assert_eq!((counters.done, counters.duplicates), (3, 2));
    // The second went to another stream for good.
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn to_close_right_after_a_break_ends_well_whatever_is_left_of_the_former_stream() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2), order(3)], 3, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
    let mut unhandled = next_events(&mut events, 2).await;
    drop(call);
    let (call, _) = peer.managed_call().await;
    unhandled.pop().unwrap().done();
    let first = close(events, call).await;
    assert_eq!(first, None, "the new stream brought nothing");
    drop(unhandled);
}

#[tokio::test(start_paused = true)]
async fn what_went_to_another_stream_holds_nothing_back() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2)], 2, None).await;
    let mut former = next_events(&mut events, 2).await;
    drop(former.remove(0));
    assert!(events.statuses()[0].is_stuck);
    drop(call);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(7)], 7, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [7]);
    assert_eq!(answered_commit(&mut call).await, 7);
    let status = events.statuses().remove(0);
    assert_eq!((status.in_flight, status.is_stuck), (1, false));
    former.pop().unwrap().done();
    assert_eq!(answered_commit(&mut call).await, 7, "still the last");
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn no_commit_passes_an_event_that_was_dropped_and_comes_again() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1)], 1, None).await;
    drop(next_events(&mut events, 1).await);
    drop(call);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(5), order(1), order(6)], 6, None).await;
    assert_eq!(next_positions(&mut events, 2).await, [5, 6]);
    assert_eq!(answered_commit(&mut call).await, 5);
    assert!(events.statuses()[0].is_stuck);
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_handled_though_its_id_was_told_as_a_position_before() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    // The head of the topic, whose event another stream has by now.
    call.send(&[], 5, None).await;
    assert_eq!(call.commit().await.unwrap().1, 5);
    call.send(&[order(4), order(5)], 5, None).await;
    assert_eq!(next_positions(&mut events, 2).await, [4, 5]);
    assert_eq!(answered_commit(&mut call).await, 5);
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_told_beside_events_stands_for_none_of_them() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(9)], 9, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [9]);
    assert_eq!(answered_commit(&mut call).await, 9);
    call.send(&[order(2)], 9, None).await;
    call.send(&[], 9, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [2]);
    assert_eq!(answered_commit(&mut call).await, 2, "9 was sent before it");
    assert_eq!(close(events, call).await, None);
}

/// A store of ids in which each save waits until it may go on.
#[derive(Clone, Debug)]
struct Gated(Arc<Semaphore>);

#[async_trait::async_trait]
impl DedupeStore for Gated {
    async fn seen(&self, _: &str, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        Ok(vec![false; ids.len()])
    }

    async fn record(&self, _: &str, _: Vec<String>, _: Timestamp) -> Result<(), StoreError> {
        self.0.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_save_that_ends_on_the_new_stream_commits_nothing_of_the_former() {
    let mut peer = shared_peer();
    let gate = Arc::new(Semaphore::new(0));
    let builder = builder(&peer).dedupe(Gated(Arc::clone(&gate)));
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2)], 2, None).await;
    let mut unhandled = next_events(&mut events, 2).await;
    unhandled.remove(0).done();
    assert!(is_nothing_committed(&mut call).await, "the store is at it");
    drop(call);
    let (mut call, _) = peer.managed_call().await;
    gate.add_permits(10);
    assert!(is_nothing_committed(&mut call).await);
    call.send(&[order(2), order(1)], 2, None).await;
    assert!(
        is_nothing_committed(&mut call).await,
        "the second is not handled, though its id is known"
    );
    unhandled.into_iter().for_each(Delivery::done);
    assert_eq!(answered_commit(&mut call).await, 1);
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_wants_any_more_is_covered_by_no_commit() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).limit(3).build().unwrap().start();
    let (mut call, first) = peer.managed_call().await;
    assert_eq!(first.num_requested, 3);
    call.send_with(&[order(1), order(2), order(3)], 3, 0, None)
        .await;
    assert_eq!(next_positions(&mut events, 3).await, [1, 2, 3]);
    drop(call);
    let (mut call, again) = peer.managed_call().await;
    assert_eq!(again.num_requested, 3, "to commit them all");
    call.send_with(&[order(3), order(7), order(1)], 1, 0, None)
        .await;
    assert_eq!(answered_commit(&mut call).await, 3);
    assert!(
        is_nothing_committed(&mut call).await,
        "7 is before the first"
    );
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_again_is_replaced_by_nothing() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).limit(3).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send_with(&[order(1)], 1, 2, None).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
    drop(call);
    let (mut call, again) = peer.managed_call().await;
    assert_eq!(again.num_requested, 2, "the first may have gone elsewhere");
    call.send_with(&[order(7), order(8)], 8, 0, None).await;
    assert_eq!(next_positions(&mut events, 2).await, [7, 8]);
    assert_eq!(answered_commit(&mut call).await, 8);
    assert_eq!(close(events, call).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_stream_behind_a_shared_one_has_an_order_of_its_own_too() {
    let mut peer = shared_peer();
    let mut events = builder(&peer).build().unwrap().start();
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(2), order(1)], 2, None).await;
    let mut unhandled = next_events(&mut events, 2).await;
    drop(call);
    // Somebody dropped the subscription, and made another of that name.
    peer.share(None);
    let (mut call, _) = peer.managed_call().await;
    call.send(&[order(1), order(2)], 2, None).await;
    unhandled.remove(0).done();
    assert!(is_nothing_committed(&mut call).await);
    unhandled.remove(0).done();
    assert_eq!(answered_commit(&mut call).await, 2);
    assert_eq!(close(events, call).await, None);
}
