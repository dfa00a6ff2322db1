//! What may be committed, and what the answers say.

use std::time::Duration;

use tokio::time::Instant;

use super::{commit, fulfilment};
use crate::{
    broker::tests::engines::{ORDERS, STATUSES, orders, status},
    grpc::{
        status::kinds,
        tests::gateway::{Gateway, assert_failure, assert_took, settle},
    },
    metadata::store_double::Writing,
    proto::ManagedFetchRequest,
    types::{Position, ReplayId, limits::COMMIT_ID_BYTES_MAX},
};

#[tokio::test(start_paused = true)]
async fn a_commit_is_answered_with_credit_and_position_as_they_are() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..3)).await.unwrap();
    let mut stream = gateway.managed(10).await;
    let fetched = stream.next().await;
    let last = fetched.positions()[2];
    stream.commit("c-1", last);
    let answered = stream.next().await;
    let answer = answered.expect_commit("c-1");
    assert_eq!(answer.replay_id, last.replay_id().as_bytes()[..]);
    assert_eq!(answer.process_time, 1_700_000_000_000);
    assert_eq!(
        (answered.events.len(), answered.latest, answered.pending),
        (0, last, 7)
    );
    // One request with credit and a commit: both count, also when the commit changes nothing.
    let both = ManagedFetchRequest {
        num_requested: 5,
        ..commit("c-2", last.replay_id().as_bytes())
    };
    stream.ask(both);
    let answered = stream.next().await;
    answered.expect_commit("c-2");
    assert_eq!(answered.pending, 12);
    assert_eq!(gateway.committed().await, Some(last));
}

#[tokio::test(start_paused = true)]
async fn commits_that_may_not_be_are_refused_and_the_stream_goes_on() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let elsewhere = gateway.publish(STATUSES, &[status("1")]).await.unwrap();
    let published = gateway.publish(ORDERS, &orders(0..5)).await.unwrap();
    let positions = published.positions();
    let mut stream = gateway.managed(3).await;
    stream.next().await;
    // A position of another topic is one like any other.
    stream.commit("elsewhere", elsewhere.positions()[0]);
    stream.next().await.expect_commit("elsewhere");
    stream.commit("good", positions[1]);
    stream.next().await.expect_commit("good");
    let bytes = |position: Position| position.replay_id().as_bytes().to_vec();
    let future = Position::new(positions[4].get() + 1_000).unwrap();
    let mut odd = bytes(positions[2]);
    odd[9] = 1;
    let long = [bytes(positions[2]), vec![0, 0]].concat();
    let rows = [
        ("missing", Vec::new(), "has no replay id"),
        ("short", vec![0; 7], "malformed"),
        ("nine", bytes(positions[2])[..9].to_vec(), "malformed"),
        ("long", long, "malformed"),
        ("odd", odd, "malformed"),
        ("huge", vec![0xff; 8], "malformed"),
        ("undelivered", bytes(positions[3]), "was not delivered"),
        ("future", bytes(future), "was not delivered"),
        ("older", bytes(positions[0]), "older than the committed one"),
        (
            "before all",
            bytes(elsewhere.positions()[0]),
            "older than the committed one",
        ),
    ];
    for (id, replay_id, reason) in rows {
        stream.ask(commit(id, &replay_id));
        let answered = stream.next().await;
        let refusal = answered.expect_refusal(id);
        assert!(refusal.contains(reason), "{id}: {refusal}");
        assert_eq!(answered.pending, 0);
        let echoed = &answered.commit.unwrap().replay_id;
        assert_eq!(echoed[..], replay_id[..replay_id.len().min(ReplayId::LEN)]);
    }
    // An id that is too long is told as far as it may be, to the end of a character.
    let long_id = "c".repeat(COMMIT_ID_BYTES_MAX - 1) + "é";
    stream.commit(&long_id, positions[2]);
    assert!(
        stream
            .next()
            .await
            .expect_refusal(&long_id[..COMMIT_ID_BYTES_MAX - 1])
            .contains("at most 256 bytes")
    );
    assert_eq!(gateway.committed().await, Some(positions[1]));
    stream.commit("same", positions[1]);
    stream.next().await.expect_commit("same");
    stream.ask_for(1);
    assert_eq!(stream.next().await.ids(), ["3"]);
    stream.commit("now delivered", positions[3]);
    stream.next().await.expect_commit("now delivered");
}

#[tokio::test(start_paused = true)]
async fn of_a_new_subscription_nothing_was_delivered_yet() {
    let gateway = Gateway::start().await;
    let published = gateway.publish(ORDERS, &orders(0..3)).await.unwrap();
    let positions = published.positions();
    gateway.manage(fulfilment()).await;
    let mut stream = gateway.managed(1).await;
    assert_eq!(stream.next().await.ids(), ["0"]);
    stream.commit("undelivered", positions[1]);
    let answered = stream.next().await;
    let refusal = answered.expect_refusal("undelivered");
    assert!(refusal.contains("was not delivered"), "{refusal}");
    stream.commit("delivered", positions[0]);
    stream.next().await.expect_commit("delivered");
}

#[tokio::test(start_paused = true)]
async fn what_any_stream_of_the_subscription_got_may_be_committed_on_the_next() {
    let mut gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let published = gateway.publish(ORDERS, &orders(0..5)).await.unwrap();
    let positions = published.positions();
    let mut stream = gateway.managed(4).await;
    stream.next().await;
    drop(stream);
    settle().await;
    let mut stream = gateway.managed(1).await;
    stream.next().await;
    stream.commit("of the former", positions[3]);
    stream.next().await.expect_commit("of the former");
    stream.commit("of none", positions[4]);
    stream.next().await.expect_refusal("of none");
    drop(stream);
    // After a restart it is not known what was delivered: anything that is there may have been.
    gateway = gateway.restarted().await;
    let mut stream = gateway.managed(1).await;
    stream.next().await;
    stream.commit("after the restart", positions[4]);
    stream.next().await.expect_commit("after the restart");
}

#[tokio::test(start_paused = true)]
async fn commits_during_a_write_share_the_next_and_the_last_is_answered_for_all() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let published = gateway.publish(ORDERS, &orders(0..9)).await.unwrap();
    let mut stream = gateway.managed(9).await;
    stream.next().await;
    gateway.engines.store.set(Writing::Slow);
    let before = gateway.engines.store.writes();
    for (number, position) in published.positions().into_iter().enumerate() {
        stream.commit(&format!("c-{number}"), position);
    }
    // Older than one that is under way is as old as older than one that is stored.
    stream.commit("back", published.positions()[3]);
    stream.next().await.expect_refusal("back");
    assert_eq!(gateway.committed().await, None);
    gateway.engines.store.set(Writing::Good);
    stream.next().await.expect_commit("c-0");
    stream.next().await.expect_commit("c-8");
    assert_eq!(gateway.engines.store.writes() - before, 2);
    assert_eq!(
        gateway.committed().await,
        published.positions().last().copied()
    );
}

#[tokio::test(start_paused = true)]
async fn events_go_on_while_a_commit_is_stored() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(9).await;
    let position = stream.next().await.positions()[0];
    gateway.engines.store.set(Writing::Slow);
    stream.commit("c-1", position);
    settle().await;
    gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    assert_eq!(stream.next().await.ids(), ["1"]);
    gateway.engines.store.set(Writing::Good);
    stream.next().await.expect_commit("c-1");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_cannot_be_stored_is_told_and_may_be_made_again() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let mut stream = gateway.managed(9).await;
    let positions = stream.next().await.positions();
    for (writing, reason) in [
        (Writing::Full, "the disk is full"),
        (Writing::Unconfirmed, "may not have been stored"),
    ] {
        gateway.engines.store.set(writing);
        stream.commit("c-1", positions[0]);
        let answered = stream.next().await;
        let refusal = answered.expect_refusal("c-1");
        assert!(refusal.contains(reason), "{refusal}");
        assert_eq!(gateway.committed().await, None);
    }
    gateway.engines.store.set(Writing::Good);
    stream.commit("c-2", positions[0]);
    stream.next().await.expect_commit("c-2");
    assert_eq!(gateway.committed().await, Some(positions[0]));
    stream.commit("c-3", positions[1]);
    stream.next().await.expect_commit("c-3");
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_stream_gets_its_answers_and_ends() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let mut stream = gateway.managed(100).await;
    let positions = stream.next().await.positions();
    gateway.engines.store.set(Writing::Slow);
    stream.commit("c-1", positions[0]);
    stream.commit("c-2", positions[1]);
    stream.half_close();
    settle().await;
    gateway.publish(ORDERS, &orders(2..3)).await.unwrap();
    gateway.engines.store.set(Writing::Good);
    stream.next().await.expect_commit("c-1");
    stream.next().await.expect_commit("c-2");
    stream.end().await;
    let mut next = gateway.managed(100).await;
    assert_eq!(next.next().await.ids(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_commits_ends_where_that_is_configured() {
    let timeout = Duration::from_secs(1_800);
    let gateway = Gateway::committing_within(timeout).await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(100).await;
    let position = stream.next().await.positions()[0];
    tokio::time::sleep(timeout - Duration::from_secs(1)).await;
    stream.commit("c-1", position);
    let mut is_answered = false;
    let failure = loop {
        match stream.responses.message().await {
            Ok(response) => is_answered |= response.unwrap().commit_response.is_some(),
            Err(failure) => break failure,
        }
    };
    assert!(is_answered, "the commit came in time");
    assert_failure(&failure, "ManagedSubscribe", kinds::SUBSCRIPTION_IDLE);
    assert!(
        failure
            .message()
            .contains("no commits arrived in 1800 seconds")
    );
    gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    let mut next = gateway.managed(1).await;
    assert_eq!(next.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn only_a_commit_puts_that_end_off_also_one_that_is_refused() {
    let timeout = Duration::from_secs(1_800);
    let gateway = Gateway::committing_within(timeout).await;
    gateway.manage(fulfilment()).await;
    let began = Instant::now();
    let mut stream = gateway.managed(100).await;
    tokio::time::sleep(timeout - Duration::from_secs(30)).await;
    stream.ask(commit("c-1", b""));
    tokio::time::sleep(timeout - Duration::from_secs(30)).await;
    // Neither is one: credit, and a fresh token.
    stream.ask_for(1);
    stream.ask(ManagedFetchRequest {
        auth_refresh: gateway.token.clone(),
        ..ManagedFetchRequest::default()
    });
    let failure = loop {
        if let Err(failure) = stream.responses.message().await {
            break failure;
        }
    };
    assert_took(began, 2 * timeout - Duration::from_secs(30));
    assert_failure(&failure, "ManagedSubscribe", kinds::SUBSCRIPTION_IDLE);
}

#[tokio::test(start_paused = true)]
async fn without_that_a_stream_may_never_commit() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let mut stream = gateway.managed(100).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7 * 86_400) {
        assert_eq!(stream.next().await.pending, 100);
    }
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(stream.next().await.ids(), ["0"]);
}
