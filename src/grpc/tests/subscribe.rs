//! `Subscribe`: credit, order and starts, as a client sees them.

use super::gateway::{
    Gateway, Settings, Subscriber, assert_failure, call_by, custom, earliest, latest, settle,
};
use crate::{
    broker::{
        self,
        tests::{
            engines::{CHANGES, ORDERS, STATUSES, change, large_order, orders, status, tenant},
            log_double::Behaviour,
        },
    },
    grpc::{Config, status::kinds},
    proto::{CREDIT_MAX_METADATA, FetchRequest},
    types::{
        Grants, Position,
        limits::{CLIENT_NAME_BYTES_MAX, RESPONSE_BYTES_MAX},
    },
};

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_after_the_first_request_is_delivered_and_nothing_older() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..3)).await.unwrap();
    let mut subscriber = gateway.subscribe(latest(ORDERS, 100)).await;
    settle().await;
    let published = gateway.publish(ORDERS, &orders(3..6)).await.unwrap();
    let fetched = subscriber.next().await;
    assert_eq!(fetched.ids(), ["3", "4", "5"]);
    assert_eq!(fetched.pending, 97);
    assert_eq!(fetched.latest, published.positions()[2]);
    for (event, result) in fetched.events.iter().zip(&published.results) {
        assert_eq!(event.replay_id, result.replay_id);
    }
}

#[tokio::test(start_paused = true)]
async fn every_subscriber_gets_the_events_of_its_topic_unchanged() {
    let gateway = Gateway::start().await;
    let mut events = orders(0..1);
    events[0].headers.push(crate::proto::EventHeader {
        key: "k".into(),
        value: vec![0, 255].into(),
    });
    let mut first = gateway.subscribe(latest(ORDERS, 5)).await;
    let mut second = gateway.subscribe(latest(ORDERS, 5)).await;
    let mut other = gateway.subscribe(latest(STATUSES, 5)).await;
    settle().await;
    gateway.publish(ORDERS, &events).await.unwrap();
    gateway.publish(STATUSES, &[status("1")]).await.unwrap();
    for subscriber in [&mut first, &mut second] {
        let fetched = subscriber.next().await;
        assert_eq!(fetched.events[0].event.as_ref(), Some(&events[0]));
    }
    let fetched = other.next().await;
    assert_eq!(fetched.events.len(), 1);
    assert_eq!(
        fetched.events[0].event.as_ref().unwrap().payload,
        status("1").payload
    );
}

#[tokio::test(start_paused = true)]
async fn credit_saturates_at_a_hundred_over_all_requests() {
    let gateway = Gateway::start().await;
    for grants in [&[60, 60][..], &[i32::MAX], &[250], &[1, 1, 100, 100]] {
        let mut subscriber = gateway.subscribe(latest(ORDERS, grants[0])).await;
        for &more in &grants[1..] {
            subscriber.ask_for(more);
        }
        settle().await;
        gateway.publish(ORDERS, &orders(0..150)).await.unwrap();
        let fetched = subscriber.next().await;
        assert_eq!(
            (fetched.events.len(), fetched.pending),
            (100, 0),
            "{grants:?}"
        );
        subscriber.ask_for(50);
        let fetched = subscriber.next().await;
        assert_eq!(
            (fetched.events.len(), fetched.pending),
            (50, 0),
            "{grants:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_uses_the_credit_up_says_so() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..10)).await.unwrap();
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 4)).await;
    let mut pendings = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let fetched = subscriber.next().await;
        ids.extend(fetched.ids().into_iter().map(str::to_owned));
        pendings.push(fetched.pending);
        subscriber.ask_for(4);
    }
    assert_eq!(pendings, [0, 0, 2]);
    assert_eq!(ids, (0..10).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn large_events_come_in_responses_that_clients_take() {
    const COUNT: usize = 8;
    let gateway = Gateway::start().await;
    for number in 0..COUNT {
        let event = large_order(number, 1_040_000);
        gateway.publish(ORDERS, &[event]).await.unwrap();
    }
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 100)).await;
    let mut sizes = Vec::new();
    let mut ids = Vec::new();
    while ids.len() < COUNT {
        let fetched = subscriber.next().await;
        assert!(fetched.len <= RESPONSE_BYTES_MAX, "{}", fetched.len);
        sizes.push(fetched.events.len());
        ids.extend(fetched.ids().into_iter().map(str::to_owned));
        assert_eq!(fetched.pending, 100 - i32::try_from(ids.len()).unwrap());
    }
    assert_eq!(sizes, [1; COUNT]);
    assert_eq!(ids, (0..COUNT).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_stream_uses_its_credit_up_and_ends_well() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 4)).await;
    subscriber.half_close();
    assert_eq!(subscriber.next().await.pending, 2);
    let keepalive = subscriber.next().await;
    assert_eq!((keepalive.events.len(), keepalive.pending), (0, 2));
    gateway.publish(ORDERS, &orders(2..6)).await.unwrap();
    let fetched = subscriber.next().await;
    assert_eq!((fetched.ids(), fetched.pending), (vec!["2", "3"], 0));
    subscriber.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_half_close_without_credit_or_without_a_request_ends_well_at_once() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 2)).await;
    assert_eq!(subscriber.next().await.pending, 0);
    let began = tokio::time::Instant::now();
    subscriber.half_close();
    subscriber.end().await;
    let mut silent = Subscriber::open(&gateway, &gateway.token, None).await;
    silent.half_close();
    silent.end().await;
    super::gateway::assert_took(began, std::time::Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_later_request_may_repeat_the_topic_and_says_nothing_about_the_start() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..6)).await.unwrap();
    let mut subscriber = gateway.subscribe(earliest(ORDERS, 1)).await;
    assert_eq!(subscriber.next().await.ids(), ["0"]);
    let repeats = [
        latest("", 1),
        latest(ORDERS, 1),
        earliest(ORDERS, 1),
        custom("", b"no replay id", 1),
        FetchRequest {
            replay_preset: 77,
            ..latest(ORDERS, 1)
        },
    ];
    for (request, expected) in repeats.into_iter().zip(["1", "2", "3", "4", "5"]) {
        subscriber.ask(request);
        assert_eq!(subscriber.next().await.ids(), [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn any_valid_position_is_a_place_to_start_after() {
    let gateway = Gateway::start().await;
    let empty = gateway.engines.tenant_log().await.state().head;
    let first = gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let other = gateway.publish(STATUSES, &[status("1")]).await.unwrap();
    gateway.publish(ORDERS, &orders(2..3)).await.unwrap();
    let gap = Position::new(first.positions()[1].get() + 7).unwrap();
    for (after, expected) in [
        (empty, &["0", "1", "2"][..]),
        (first.positions()[0], &["1", "2"]),
        (first.positions()[1], &["2"]),
        (gap, &["2"]),
        (other.positions()[0], &["2"]),
    ] {
        let id = after.replay_id();
        // Stock clients send eight bytes back.
        for id in [&id.as_bytes()[..], &id.as_bytes()[..8]] {
            let mut subscriber = gateway.subscribe(custom(ORDERS, id, 9)).await;
            assert_eq!(subscriber.next().await.ids(), expected, "after {after}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_is_a_place_to_start_after_and_an_empty_logs_too() {
    let gateway = Gateway::start().await;
    let empty = gateway.engines.tenant_log().await.state().head;
    let id = empty.replay_id();
    let mut from_empty = gateway.subscribe(custom(ORDERS, id.as_bytes(), 9)).await;
    settle().await;
    let published = gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    assert_eq!(from_empty.next().await.ids(), ["0"]);

    let id = published.positions()[0].replay_id();
    let mut from_head = gateway.subscribe(custom(ORDERS, id.as_bytes(), 9)).await;
    settle().await;
    gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
    assert_eq!(from_head.next().await.ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn latest_and_earliest_ignore_a_replay_id() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    for (preset, expected) in [(0, "1"), (1, "0")] {
        let first = FetchRequest {
            replay_preset: preset,
            ..custom(ORDERS, b"no replay id", 1)
        };
        let mut subscriber = gateway.subscribe(first).await;
        settle().await;
        if preset == 0 {
            gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
        }
        assert_eq!(subscriber.next().await.ids(), [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_goes_with_credit_or_alone() {
    let gateway = Gateway::start().await;
    gateway.publish(ORDERS, &orders(0..3)).await.unwrap();
    let first = FetchRequest {
        auth_refresh: gateway.token.clone(),
        ..earliest(ORDERS, 1)
    };
    let mut subscriber = gateway.subscribe(first).await;
    assert_eq!(subscriber.next().await.ids(), ["0"]);
    for (requested, expected) in [(0, None), (1, Some("1")), (0, None), (1, Some("2"))] {
        subscriber.ask(FetchRequest {
            auth_refresh: gateway.token(Grants::every_topic()).await,
            num_requested: requested,
            ..FetchRequest::default()
        });
        match expected {
            Some(id) => assert_eq!(subscriber.next().await.ids(), [id]),
            None => {
                subscriber
                    .expect_silence(std::time::Duration::from_secs(1))
                    .await
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refreshed_with_is_good_and_of_the_same_tenant() {
    let gateway = Gateway::start().await;
    let other = gateway
        .token_of("00D000000000002".parse().unwrap(), Grants::every_topic())
        .await;
    assert_ne!(other[..15], tenant().as_str()[..15]);
    let bad = format!("{}x", gateway.token);
    for token in [&*bad, &*other, "x"] {
        let refresh = FetchRequest {
            auth_refresh: token.into(),
            ..FetchRequest::default()
        };
        let mut later = gateway.subscribe(latest(ORDERS, 1)).await;
        later.ask(refresh.clone());
        let status = later.failure().await;
        assert_failure(&status, "Subscribe", kinds::AUTH_REFRESH_INVALID);

        let mut at_once = gateway
            .subscribe(FetchRequest {
                topic_name: ORDERS.into(),
                num_requested: 1,
                ..refresh
            })
            .await;
        let status = at_once.failure().await;
        assert_failure(&status, "Subscribe", kinds::AUTH_REFRESH_INVALID);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_name_that_is_understood_is_echoed() {
    let gateway = Gateway::start().await;
    let call = |name: &str| {
        let mut call = call_by(&gateway.token, ());
        call.metadata_mut()
            .insert("tidegate-client-name", name.parse().unwrap());
        call.metadata().clone()
    };
    let longest = "n".repeat(CLIENT_NAME_BYTES_MAX);
    let first = Some(latest(ORDERS, 1));
    let named = Subscriber::with_headers(&gateway, &call(&longest), first.clone()).await;
    assert_eq!(named.headers.get("tidegate-client-name").unwrap(), "1");
    let nameless = gateway.subscribe(latest(ORDERS, 1)).await;
    assert!(!nameless.headers.contains_key("tidegate-client-name"));
    for name in [format!("{longest}n"), " ".into()] {
        let headers = call(&name);
        let mut refused = Subscriber::with_headers(&gateway, &headers, first.clone()).await;
        assert!(!refused.headers.contains_key("tidegate-client-name"));
        let status = refused.failure().await;
        assert_failure(&status, "Subscribe", kinds::FETCH_REQUEST_INVALID);
    }
}

#[tokio::test(start_paused = true)]
async fn credit_beyond_the_usual_is_granted_to_who_asks_and_told() {
    let settings = Settings {
        broker: broker::Config {
            credit_max_extended: 5_000,
            ..broker::Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    gateway.publish(ORDERS, &orders(0..200)).await.unwrap();
    let asking = |credit: &str| {
        let mut call = call_by(&gateway.token, ());
        let credit = credit.parse().unwrap();
        call.metadata_mut().insert(CREDIT_MAX_METADATA, credit);
        call.metadata().clone()
    };
    let first = Some(earliest(ORDERS, 400));
    for (asked, granted) in [
        ("300", 300),
        ("5000", 5_000),
        ("4294967295", 5_000),
        ("7", 7),
    ] {
        let mut subscriber =
            Subscriber::with_headers(&gateway, &asking(asked), first.clone()).await;
        let echo = subscriber.headers.get(CREDIT_MAX_METADATA).unwrap();
        assert_eq!(echo.to_str().unwrap(), granted.to_string());
        let fetched = subscriber.next().await;
        let credit = granted.min(400);
        assert_eq!(fetched.events.len(), credit.min(200), "{asked}");
        assert_eq!(
            fetched.pending as usize,
            credit - credit.min(200),
            "{asked}"
        );
    }
    let mut usual = gateway.subscribe(earliest(ORDERS, 400)).await;
    assert!(!usual.headers.contains_key(CREDIT_MAX_METADATA));
    assert_eq!(usual.next().await.events.len(), 100);
    for odd in ["0", "-1", "ten", "4294967296", ""] {
        let mut refused = Subscriber::with_headers(&gateway, &asking(odd), first.clone()).await;
        assert!(!refused.headers.contains_key(CREDIT_MAX_METADATA), "{odd}");
        let status = refused.failure().await;
        assert_failure(&status, "Subscribe", kinds::FETCH_REQUEST_INVALID);
        assert!(status.message().contains("1 to 4294967295"), "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_requests_ends_the_stream_and_a_second_later_counts_anew() {
    let settings = Settings {
        grpc: Config {
            fetch_requests_per_second_max: 20,
            ..Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 1)).await;
    for _ in 0..3 {
        for _ in 0..20 {
            subscriber.ask_for(1);
        }
        subscriber
            .expect_silence(std::time::Duration::from_secs(1))
            .await;
    }
    for _ in 0..21 {
        subscriber.ask_for(1);
    }
    let status = subscriber.failure().await;
    assert_failure(&status, "Subscribe", kinds::STREAM_PROTECTION);
}

#[tokio::test(start_paused = true)]
async fn change_events_are_subscribed_to_like_others() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(CHANGES, 1)).await;
    settle().await;
    gateway.publish(CHANGES, &[change()]).await.unwrap();
    assert_eq!(subscriber.next().await.events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_ends_the_stream_as_an_internal_error() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 5)).await;
    settle().await;
    gateway.engines.log.set(Behaviour::Unreadable).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let status = subscriber.failure().await;
    assert_failure(&status, "Subscribe", kinds::SUBSCRIPTION_INTERNAL);
    assert!(!status.message().contains("disk is gone"), "{status:?}");
}
