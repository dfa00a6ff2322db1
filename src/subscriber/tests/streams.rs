//! Streams that break, and where the next one goes on.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::{
    next_notice, next_positions,
    peer::{ORDERS, Peer, id_bytes, refused},
};
use crate::{
    client::{CredentialSource, Grant, Profile, SignIn},
    clock::{ManualClock, Timestamp},
    proto::{FetchRequest, ReplayPreset},
    subscriber::*,
};

fn subscriber(peer: &Peer) -> Builder {
    Subscriber::builder(peer.connection.clone()).topic(ORDERS.parse().unwrap())
}

fn is_behind(request: &FetchRequest, position: u64) -> bool {
    request.replay_preset == ReplayPreset::Custom as i32 && request.replay_id == id_bytes(position)
}

#[tokio::test(start_paused = true)]
async fn events_come_in_order_and_more_are_asked_for_as_they_are_handled() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).start_at(Start::Earliest);
    let mut events = builder.max_in_flight(10).build().unwrap().start();
    let (mut call, first) = peer.call().await;
    assert_eq!(first.topic_name, ORDERS);
    assert_eq!(first.replay_preset, ReplayPreset::Earliest as i32);
    assert_eq!(first.num_requested, 10);
    assert_eq!(call.credit_max(), None);
    call.send_orders(1..=10).await;
    assert_eq!(next_positions(&mut events, 4).await, [1, 2, 3, 4]);
    assert_eq!(next_positions(&mut events, 1).await, [5]);
    let more = call.request().await.unwrap();
    assert_eq!(more.num_requested, 5, "once half is free");
    call.send_orders(11..=15).await;
    assert_eq!(
        next_positions(&mut events, 10).await,
        (6..=15).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_grants_more_is_asked_for_more() {
    let mut peer = Peer::start(Some(400));
    let _events = subscriber(&peer)
        .max_in_flight(1_000)
        .build()
        .unwrap()
        .start();
    let (mut call, first) = peer.call().await;
    assert_eq!(call.credit_max(), Some("1000"));
    assert_eq!(first.num_requested, 100);
    assert_eq!(call.request().await.unwrap().num_requested, 300);
}

#[tokio::test(start_paused = true)]
async fn after_a_break_it_goes_on_behind_the_last_event_received() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).start_at(Start::Earliest);
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=3).await;
    let Item::Event(first) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes first");
    };
    for (status, wait_max) in [
        (refused(Code::Internal, "service.unavailable"), 30),
        (
            refused(Code::Unavailable, "subscription.internal.error"),
            30,
        ),
        (
            refused(Code::ResourceExhausted, "service.protection.triggered"),
            30,
        ),
    ] {
        call.fail(status).await;
        let since = Instant::now();
        (call, _) = peer.call().await;
        assert!(since.elapsed() <= Duration::from_secs(wait_max));
        assert!(since.elapsed() > Duration::ZERO, "a wait before each try");
    }
    call.end();
    let (mut call, request) = peer.call().await;
    assert!(
        is_behind(&request, 3),
        "though none is handled: {request:?}"
    );
    call.send_orders(4..=4).await;
    first.done();
    assert_eq!(next_positions(&mut events, 2).await, [2, 3]);
    let Item::Reconnected(reconnected) = next_notice(&mut events).await else {
        panic!("it is told that the stream stands again");
    };
    assert_eq!(reconnected.attempts, 4);
    assert!(
        reconnected
            .cause
            .to_string()
            .contains("service.unavailable")
    );
    assert_eq!(next_positions(&mut events, 1).await, [4]);
    let status = &events.statuses()[0];
    assert_eq!(status.state, State::Live);
    assert_eq!(status.counters.disconnects, 1, "one break, several tries");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_is_healthy_though_its_topic_is_quiet() {
    let mut peer = Peer::start(None);
    let events = subscriber(&peer).build().unwrap().start();
    assert!(!events.statuses()[0].is_healthy(), "not yet connected");
    let (mut call, _) = peer.call().await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let status = &events.statuses()[0];
    assert_eq!((&status.state, status.silence), (&State::Live, None));
    assert!(status.is_healthy());
    call.send(&[], 1).await;
    call.end();
    // As quiet after a break, however long the silence before it is ago.
    let (call, _) = peer.call().await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    call.end();
    let (_call, _) = peer.call().await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    let status = &events.statuses()[0];
    assert!(status.silence > Some(Duration::from_secs(400)));
    assert!(status.is_healthy(), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_stream_and_keepalives_do_not() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer).build().unwrap().start();
    let (mut call, _) = peer.call().await;
    for position in 1..=10 {
        tokio::time::sleep(Duration::from_secs(270)).await;
        call.send(&[], position).await;
    }
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert!(peer.has_no_call());
    let (mut call, request) = peer.call().await;
    assert!(
        is_behind(&request, 10),
        "where the last keepalive was: {request:?}"
    );
    call.send(&[], 11).await;
    loop {
        if let Item::Reconnected(reconnected) = next_notice(&mut events).await {
            assert!(reconnected.cause.to_string().contains("too long"));
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_does_not_answer_is_given_up_after_a_while() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer).give_up_after(2).build().unwrap().start();
    for _ in 0..3 {
        let (call, _) = peer.call().await;
        call.fail(refused(Code::Unavailable, "service.unavailable"))
            .await;
    }
    for _ in 0..2 {
        let item = events.next().await.unwrap();
        assert!(matches!(item, Some(Item::Disconnected(_))), "{item:?}");
    }
    let error = events.next().await.unwrap_err();
    assert!(error.to_string().contains("service.unavailable"), "{error}");
    assert!(events.next().await.unwrap().is_none());
    assert_eq!(events.statuses()[0].state, State::Ended);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_pass_ends_at_once() {
    for (code, suffix) in [
        (Code::NotFound, "topic.not.found"),
        (
            Code::PermissionDenied,
            "subscription.topic.cannot.subscribe",
        ),
        (
            Code::InvalidArgument,
            "subscription.fetch.requested.events.invalid",
        ),
        // A fixed token has no other.
        (Code::Unauthenticated, "service.auth.error"),
    ] {
        let mut peer = Peer::start(None);
        let mut events = subscriber(&peer).build().unwrap().start();
        let (call, _) = peer.call().await;
        call.fail(refused(code, suffix)).await;
        let error = events.next().await.unwrap_err();
        assert!(error.to_string().contains(suffix), "{error}");
        assert!(peer.has_no_call(), "{suffix}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_taken_is_renewed_once_and_the_stream_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let write_token = |token: &str| {
        let profile = Profile {
            grpc_tls_addr: None,
            grpc_addr: None,
            http_addr: None,
            https_addr: None,
            ca_pem: "ca.pem".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            access_token: token.into(),
            instance_url: "https://localhost".into(),
        };
        profile.write(directory.path()).unwrap();
    };
    write_token("first");
    let source = CredentialSource::SignIn(SignIn {
        grant: Grant::Profile(directory.path().to_owned()),
        instance_url: None,
        tenant_id: None,
    });
    let mut peer = Peer::start_with(None, source);
    let builder = subscriber(&peer).start_at(Start::Earliest);
    let mut events = builder.build().unwrap().start();
    let expired = || refused(Code::Unauthenticated, "service.auth.error");
    let (mut call, _) = peer.call().await;
    assert_eq!(call.token(), "first");
    call.send_orders(1..=3).await;
    assert_eq!(next_positions(&mut events, 3).await, [1, 2, 3]);
    write_token("second");
    call.fail(expired()).await;
    let since = Instant::now();
    let (mut call, request) = peer.call().await;
    assert_eq!(
        since.elapsed(),
        Duration::ZERO,
        "there is nothing to wait for"
    );
    assert_eq!(call.token(), "second");
    assert!(is_behind(&request, 3), "not where it started: {request:?}");
    call.send_orders(4..=4).await;
    assert_eq!(next_positions(&mut events, 1).await, [4]);
    // One that could not be tried before it ran out as well is no refusal of a new one.
    write_token("unused");
    call.fail(expired()).await;
    let (call, _) = peer.call().await;
    call.fail(refused(Code::Unavailable, "service.unavailable"))
        .await;
    let (call, _) = peer.call().await;
    write_token("third");
    call.fail(expired()).await;
    let (call, _) = peer.call().await;
    assert_eq!(call.token(), "third");
    // Nor is one of a stream that stood for a while and heard nothing, for its topic is quiet.
    tokio::time::sleep(Duration::from_secs(30)).await;
    write_token("after a while");
    call.fail(expired()).await;
    let (call, _) = peer.call().await;
    assert_eq!(call.token(), "after a while");
    // But none is renewed twice for one refusal.
    write_token("fourth");
    call.fail(expired()).await;
    let error = loop {
        if let Err(error) = events.next().await {
            break error;
        }
    };
    assert!(error.to_string().contains("service.auth.error"), "{error}");
    assert!(peer.has_no_call());
}

#[tokio::test(start_paused = true)]
async fn a_used_up_limit_is_waited_for_long() {
    let mut peer = Peer::start(None);
    let _events = subscriber(&peer).build().unwrap().start();
    let (mut call, _) = peer.call().await;
    for at_least in [30, 60, 120, 240, 450, 450] {
        let status = refused(Code::ResourceExhausted, "subscription.limit.exceeded");
        call.fail(status).await;
        let since = Instant::now();
        (call, _) = peer.call().await;
        let waited = since.elapsed().as_secs();
        assert!((at_least..=900).contains(&waited), "{waited} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_refused_is_left_once() {
    let corrupted = || {
        refused(
            Code::InvalidArgument,
            "subscription.fetch.replayid.corrupted",
        )
    };
    for (policy, preset) in [
        (RejectedReplay::Earliest, ReplayPreset::Earliest),
        (RejectedReplay::Latest, ReplayPreset::Latest),
    ] {
        let mut peer = Peer::start(None);
        let position: OpaqueReplayId = "7".parse().unwrap();
        let builder = subscriber(&peer).start_at(Start::Behind(position));
        let builder = builder.on_rejected_replay(policy);
        let mut events = builder.build().unwrap().start();
        let (call, first) = peer.call().await;
        assert!(is_behind(&first, 7));
        call.fail(corrupted()).await;
        let (mut call, second) = peer.call().await;
        assert_eq!(second.replay_preset, preset as i32);
        call.send_orders(100..=100).await;
        let Item::Gap(gap) = next_notice(&mut events).await else {
            panic!("the gap is told before the first event behind it");
        };
        assert_eq!(gap.from, Some(position));
        assert_eq!(gap.to.number(), 100);
        assert_eq!(gap.positions(), Some(93));
        assert!(gap.reason.contains("corrupted"));
        assert_eq!(next_positions(&mut events, 1).await, [100]);
        // After a response it may be left again.
        call.fail(corrupted()).await;
        let (call, third) = peer.call().await;
        assert_eq!(third.replay_preset, preset as i32);
        // But not twice in a row, or it would go round for ever.
        call.fail(corrupted()).await;
        let error = events.next().await.unwrap_err();
        assert!(
            matches!(error, SubscribeError::PositionRefused { .. }),
            "{error}"
        );
        assert_eq!(events.statuses()[0].counters.gaps, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_refused_ends_it_unless_told_otherwise() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).start_at(Start::Behind("7".parse().unwrap()));
    let mut events = builder.build().unwrap().start();
    let (call, _) = peer.call().await;
    call.fail(refused(
        Code::InvalidArgument,
        "subscription.fetch.replayid.corrupted",
    ))
    .await;
    let error = events.next().await.unwrap_err().to_string();
    assert!(
        error.contains("00000000000000070000") && error.contains(ORDERS),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_is_counted_back_once_and_stays_until_something_was_heard() {
    let mut peer = Peer::start(Some(100));
    let clock = ManualClock::at(Timestamp::from_millis(1_767_225_600_000));
    let builder = subscriber(&peer).start_at("-15m".parse().unwrap());
    let builder = builder.clock(clock.clone());
    let mut events = builder.build().unwrap().start();
    for _ in 0..3 {
        let (call, first) = peer.call().await;
        assert_eq!(call.from(), Some("2025-12-31T23:45:00Z"));
        assert_eq!(first.replay_preset, ReplayPreset::Latest as i32);
        clock.advance(Duration::from_secs(60));
        call.fail(refused(Code::Internal, "service.unavailable"))
            .await;
    }
    let (mut call, _) = peer.call().await;
    call.send(&[], 7).await;
    call.send_orders([8]).await;
    assert_eq!(next_positions(&mut events, 1).await, [8]);
    call.end();
    let (call, first) = peer.call().await;
    assert!(is_behind(&first, 8));
    assert_eq!(call.from(), None);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_knows_no_times_is_told_of_and_not_believed() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).start_at("2026-01-01T00:00Z".parse().unwrap());
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders([1]).await;
    let error = events.next().await.unwrap_err();
    assert!(matches!(error, SubscribeError::TimeNotServed(_)));
    let wanted = "this gateway cannot start /event/OrderCreated__e at a time";
    assert!(error.to_string().starts_with(wanted), "{error}");
    assert!(peer.has_no_call(), "there is no other try");
}

#[tokio::test(start_paused = true)]
async fn a_filter_is_asked_for_by_every_stream() {
    let mut peer = Peer::start(Some(100));
    let builder = subscriber(&peer).filter("Name LIKE '100%' OR Name = 'ü'");
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    let encoded = "Name LIKE '100%25' OR Name = '%C3%BC'";
    assert_eq!(call.filter(), Some(encoded));
    call.send_orders([8]).await;
    assert_eq!(next_positions(&mut events, 1).await, [8]);
    call.end();
    let (call, _) = peer.call().await;
    assert_eq!(call.filter(), Some(encoded));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_filters_is_told_of_and_not_believed() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer)
        .filter("Name = 'a'")
        .build()
        .unwrap()
        .start();
    let (mut call, _) = peer.call().await;
    call.send_orders([1]).await;
    let error = events.next().await.unwrap_err();
    assert!(matches!(error, SubscribeError::FilterNotServed(_)));
    assert!(peer.has_no_call(), "there is no other try");
}

#[tokio::test(start_paused = true)]
async fn a_managed_subscription_takes_no_other_filter() {
    let peer = Peer::start(None);
    let key = ManagedKey::Name("Billing".into());
    let builder =
        Subscriber::builder(peer.connection.clone()).managed(key, ORDERS.parse().unwrap());
    let error = builder.filter("Name = 'a'").build().unwrap_err();
    assert!(matches!(error, SubscribeError::FilterOfManaged(_)));
}

#[tokio::test(start_paused = true)]
async fn newest_events_that_were_missed_before_a_position_was_known_are_a_gap() {
    let mut peer = Peer::start(None);
    let mut events = subscriber(&peer).build().unwrap().start();
    let (call, first) = peer.call().await;
    assert_eq!(first.replay_preset, ReplayPreset::Latest as i32);
    call.end();
    let (mut call, second) = peer.call().await;
    assert_eq!(second.replay_preset, ReplayPreset::Latest as i32);
    call.send(&[], 9).await;
    let Item::Gap(gap) = next_notice(&mut events).await else {
        panic!("what came in between is not known");
    };
    assert_eq!((gap.from, gap.to.number()), (None, 9));
    call.end();
    let (_call, third) = peer.call().await;
    assert!(is_behind(&third, 9), "{third:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_brings_no_more_has_caught_up() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).start_at(Start::Earliest);
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=3).await;
    assert_eq!(next_positions(&mut events, 3).await, [1, 2, 3]);
    assert!(
        matches!(next_notice(&mut events).await, Item::CaughtUp(topic) if topic.as_str() == ORDERS)
    );
    call.send_orders(4..=4).await;
    assert_eq!(next_positions(&mut events, 1).await, [4]);
    call.end();
    let (_call, _) = peer.call().await;
    // Nothing is told of a stream that never spoke but that it has caught up.
    assert!(matches!(next_notice(&mut events).await, Item::CaughtUp(_)));
}

#[tokio::test(start_paused = true)]
async fn once_all_that_is_wanted_came_no_stream_is_opened_again() {
    let mut peer = Peer::start(None);
    let builder = Subscriber::builder(peer.connection.clone());
    let builder = builder.topic(ORDERS.parse().unwrap()).limit(1);
    let mut events = builder.build().unwrap().start();
    let (mut call, first) = peer.call().await;
    assert_eq!(first.num_requested, 1);
    call.send_orders(1..=1).await;
    let Item::Event(event) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes");
    };
    call.fail(refused(Code::Internal, "subscription.internal.error"))
        .await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(peer.has_no_call(), "nothing cannot be asked for");
    event.done();
    events.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_for_lack_of_credit_is_opened_once_there_is_room() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).start_at(Start::Earliest);
    let mut events = builder.max_in_flight(2).build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=2).await;
    let Item::Event(slow) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes first");
    };
    let Item::Event(other) = events.next().await.unwrap().unwrap() else {
        panic!("an event comes next");
    };
    call.fail(refused(
        Code::DeadlineExceeded,
        "subscription.internal.error",
    ))
    .await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(peer.has_no_call(), "there is no room for an event");
    assert_eq!(events.statuses()[0].state, State::Full);
    other.done();
    let (mut call, request) = peer.call().await;
    assert!(is_behind(&request, 2));
    assert_eq!(request.num_requested, 1, "the slow one is in flight still");
    call.send_orders(3..=3).await;
    slow.done();
    assert_eq!(next_positions(&mut events, 1).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn several_topics_are_read_at_once_each_with_its_place() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).topic("/event/Refund__e".parse().unwrap());
    let mut events = builder.build().unwrap().start();
    let (mut one, first) = peer.call().await;
    let (mut other, second) = peer.call().await;
    assert_ne!(first.topic_name, second.topic_name);
    one.send_orders(1..=1).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
    other.send_orders(5..=5).await;
    assert_eq!(next_positions(&mut events, 1).await, [5]);
    one.end();
    let (_call, again) = peer.call().await;
    assert_eq!(again.topic_name, first.topic_name);
    assert!(is_behind(&again, 1));
}

#[test]
fn what_makes_no_subscriber_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let peer = Peer::start(None);
        let nothing = Subscriber::builder(peer.connection.clone()).build();
        assert!(matches!(nothing, Err(SubscribeError::NothingToSubscribeTo)));
        let twice = subscriber(&peer).topic(ORDERS.parse().unwrap()).build();
        assert!(matches!(twice, Err(SubscribeError::NamedTwice(_))));
        for events in [0, 100_001] {
            let odd = subscriber(&peer).max_in_flight(events).build();
            assert!(matches!(odd, Err(SubscribeError::InFlight(found)) if found == events));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn what_nobody_read_goes_with_the_reader() {
    let mut peer = Peer::start(None);
    let builder = subscriber(&peer).start_at(Start::Earliest);
    let mut events = builder.build().unwrap().start();
    let (mut call, _) = peer.call().await;
    call.send_orders(1..=50).await;
    assert_eq!(next_positions(&mut events, 1).await, [1]);
    call.send_orders(51..=80).await;
    while events.statuses()[0].counters.received < 80 {
        tokio::task::yield_now().await;
    }
    let lane = events.weak_lane();
    drop(events);
    // Its task is told to end, and ends with its next step.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lane.strong_count(), 0, "nobody has any of it");
}
