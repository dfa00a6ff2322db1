//! Where a managed subscription begins, and where it goes on.

use std::time::Duration;

use super::{Managed, NAME, commit, first, fulfilment};
use crate::{
    broker::{
        ManagedChange, ManagedKey, NewManaged,
        tests::engines::{ORDERS, STATUSES, orders, principal, status, tenant},
    },
    grpc::{
        status::kinds,
        tests::gateway::{Gateway, assert_failure, settle},
    },
    metadata::{
        Expected, MetadataStore, Scope,
        records::{self, ManagedPositionRecord},
    },
    proto::ManagedFetchRequest,
    types::{PlatformId, Position, Replay},
};

#[tokio::test(start_paused = true)]
async fn without_a_commit_it_begins_at_its_default_replay_each_time() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    let latest = NewManaged {
        developer_name: "Latest".into(),
        default_replay: Replay::Latest,
        ..fulfilment()
    };
    gateway.manage(latest).await;
    gateway.publish(ORDERS, &orders(0..3)).await.unwrap();
    for _ in 0..2 {
        let mut stream = gateway.managed(100).await;
        let fetched = stream.next().await;
        assert_eq!((fetched.ids(), fetched.pending), (vec!["0", "1", "2"], 97));
        drop(stream);
        settle().await;
    }
    let first = ManagedFetchRequest {
        developer_name: "Latest".into(),
        ..first(10)
    };
    let mut stream = Managed::open(&gateway, &gateway.token, first).await;
    settle().await;
    gateway.publish(ORDERS, &orders(3..4)).await.unwrap();
    assert_eq!(stream.next().await.ids(), ["3"]);
}

#[tokio::test(start_paused = true)]
async fn it_goes_on_behind_what_was_committed_by_name_and_by_id() {
    let gateway = Gateway::start().await;
    let config = gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..5)).await.unwrap();
    let mut stream = gateway.managed(3).await;
    let positions = stream.next().await.positions();
    stream.commit("c-1", positions[1]);
    stream.next().await.expect_commit("c-1");
    drop(stream);
    settle().await;
    let gateway = gateway.restarted().await;
    // Clients are known to fold the suffix, which is a checksum of the rest.
    let folded = format!("{}aaa", config.id.as_short_str());
    for id in [config.id.as_str(), config.id.as_short_str(), &folded] {
        let first = ManagedFetchRequest {
            subscription_id: id.into(),
            developer_name: String::new(),
            ..first(10)
        };
        let mut stream = Managed::open(&gateway, &gateway.token, first).await;
        assert_eq!(stream.next().await.ids(), ["2", "3", "4"]);
        drop(stream);
        settle().await;
    }
    let mut stream = gateway.managed(1).await;
    let fetched = stream.next().await;
    assert_eq!((fetched.ids(), fetched.pending), (vec!["2"], 0));
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_purged_gives_way_to_the_error_recovery_replay() {
    for (recovery, expected) in [
        (Replay::Earliest, &["9", "10"][..]),
        (Replay::Latest, &["10"]),
    ] {
        let gateway = Gateway::retaining(Duration::from_secs(60)).await;
        let new = NewManaged {
            error_recovery_replay: recovery,
            ..fulfilment()
        };
        gateway.manage(new).await;
        gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
        let mut stream = gateway.managed(1).await;
        let positions = stream.next().await.positions();
        stream.commit("c-1", positions[0]);
        stream.next().await.expect_commit("c-1");
        // What was committed is purged, on a live stream without credit and before a new one alike.
        gateway.engines.clock.advance(Duration::from_secs(61));
        gateway.publish(ORDERS, &orders(9..10)).await.unwrap();
        stream.commit("c-2", positions[0]);
        let fetched = stream.next().await;
        assert!(fetched.expect_refusal("c-2").contains("no longer valid"));
        stream.ask_for(10);
        settle().await;
        gateway.publish(ORDERS, &orders(10..11)).await.unwrap();
        let mut ids = Vec::new();
        while ids.len() < expected.len() {
            let fetched = stream.next().await;
            ids.extend(fetched.ids().into_iter().map(str::to_owned));
        }
        assert_eq!(ids, expected);
        drop(stream);
        settle().await;
        let mut stream = gateway.managed(10).await;
        settle().await;
        gateway.publish(ORDERS, &orders(11..12)).await.unwrap();
        let fetched = stream.next().await;
        assert_eq!(
            fetched.ids().last(),
            Some(&if recovery == Replay::Latest {
                "11"
            } else {
                "10"
            })
        );
        let scrape = gateway.engines.scrape();
        assert!(
            scrape.contains("broker_managed_recoveries_total 2"),
            "{scrape}"
        );
    }
}

/// What a log that was restored from an earlier backup finds in the metadata.
#[tokio::test(start_paused = true)]
async fn a_position_that_the_log_lost_gives_way_and_what_is_before_it_may_be_committed() {
    let gateway = Gateway::start().await;
    let latest = NewManaged {
        default_replay: Replay::Latest,
        ..fulfilment()
    };
    let config = gateway.manage(latest).await;
    let published = gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let positions = published.positions();
    let record = ManagedPositionRecord {
        slots: Vec::new(),
        id: config.id.to_string(),
        position: positions[1].get() + 1,
        committed_at_ms: 0,
    };
    let change = records::change(&record, Expected::Absent);
    let scope = Scope::Tenant(tenant());
    let store = &gateway.engines.store;
    store.write(scope, vec![change]).await.unwrap();
    let gateway = gateway.restarted().await;
    let (broker, caller) = (&gateway.engines.broker, principal());
    let found = broker.managed_subscriptions(&caller).await.unwrap();
    assert_eq!(found[0].lag.unwrap().events, 2);
    // The log comes past the position before anybody asks for it.
    gateway.publish(ORDERS, &orders(2..9)).await.unwrap();
    for _ in 0..2 {
        let mut stream = gateway.managed(3).await;
        assert_eq!(stream.next().await.ids(), ["0", "1", "2"]);
        drop(stream);
        settle().await;
    }
    let mut stream = gateway.managed(3).await;
    stream.next().await;
    stream.commit("c-1", positions[0]);
    stream.next().await.expect_commit("c-1");
    assert_eq!(gateway.committed().await, Some(positions[0]));
    stream.commit("c-2", positions[1]);
    stream.next().await.expect_commit("c-2");
    stream.commit("back", positions[0]);
    let back = stream.next().await;
    assert!(back.expect_refusal("back").contains("older"));
    drop(stream);
    let gateway = gateway.restarted().await;
    assert_eq!(gateway.managed(1).await.next().await.ids(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn an_edit_counts_for_the_next_stream_and_is_durable() {
    let gateway = Gateway::start().await;
    let latest = NewManaged {
        default_replay: Replay::Latest,
        error_recovery_replay: Replay::Latest,
        ..fulfilment()
    };
    gateway.manage(latest).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let change = ManagedChange {
        default_replay: Some(Replay::Earliest),
        error_recovery_replay: Some(Replay::Earliest),
        ..ManagedChange::default()
    };
    let (caller, key) = (principal(), ManagedKey::Name(NAME));
    let broker = &gateway.engines.broker;
    let changed = broker.update_managed(&caller, key, change).await;
    assert_eq!(changed.unwrap().config.version, 2);
    assert_eq!(gateway.managed(1).await.next().await.ids(), ["0"]);
    let gateway = gateway.restarted().await;
    assert_eq!(gateway.managed(1).await.next().await.ids(), ["0"]);
    let broker = &gateway.engines.broker;
    let found = broker.managed_subscription(&caller, key).await;
    let found = found.unwrap().config;
    assert_eq!(found.error_recovery_replay, Replay::Earliest);
    assert_eq!(found.topic.as_str(), ORDERS);
}

#[tokio::test(start_paused = true)]
async fn after_a_reset_of_the_log_commits_are_taken_again() {
    for recovery in [Replay::Earliest, Replay::Latest] {
        let gateway = Gateway::start().await;
        let new = NewManaged {
            error_recovery_replay: recovery,
            ..fulfilment()
        };
        let config = gateway.manage(new).await;
        let before = gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
        // What was committed is past the head of the log that there is now.
        let ahead = Position::new(before.positions()[1].get() + (1 << 30)).unwrap();
        store_position(&gateway, config.id, ahead).await;
        let gateway = gateway.restarted().await;
        let mut stream = gateway.managed(10).await;
        settle().await;
        gateway.publish(ORDERS, &orders(2..3)).await.unwrap();
        let mut positions = Vec::new();
        while positions
            .last()
            .is_none_or(|&last| last <= before.positions()[1])
        {
            positions.extend(stream.next().await.positions());
        }
        assert_eq!(
            positions.len(),
            if recovery == Replay::Latest { 1 } else { 3 }
        );
        for (number, &position) in positions.iter().enumerate() {
            stream.commit(&format!("c-{number}"), position);
            let answered = stream.next().await;
            answered.expect_commit(&format!("c-{number}"));
            assert_eq!(gateway.committed().await, Some(position));
        }
        // What it was sent before is older again.
        stream.commit("older", before.positions()[0]);
        stream.next().await.expect_refusal("older");
    }
}

#[tokio::test(start_paused = true)]
async fn from_a_lost_position_it_goes_on_behind_the_loss() {
    for (recovery, expected) in [
        (Replay::Earliest, &["1", "2"][..]),
        (Replay::Latest, &["2"]),
    ] {
        let gateway = Gateway::start().await;
        let new = NewManaged {
            error_recovery_replay: recovery,
            ..fulfilment()
        };
        let config = gateway.manage(new).await;
        let before = gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
        let lost = gateway.publish(STATUSES, &[status("1")]).await.unwrap();
        let behind = gateway.publish(STATUSES, &[status("2")]).await.unwrap();
        gateway.publish(ORDERS, &orders(1..2)).await.unwrap();
        store_position(&gateway, config.id, lost.positions()[0]).await;
        let log = &gateway.engines.log;
        log.lose(before.positions()[0], behind.positions()[0]);
        let gateway = gateway.restarted().await;
        let mut stream = gateway.managed(10).await;
        settle().await;
        gateway.publish(ORDERS, &orders(2..3)).await.unwrap();
        let mut ids = Vec::new();
        let mut latest = lost.positions()[0];
        while ids.last().is_none_or(|last| last != "2") {
            let fetched = stream.next().await;
            ids.extend(fetched.ids().into_iter().map(str::to_owned));
            latest = fetched.latest;
        }
        assert_eq!(ids, expected);
        stream.commit("c", latest);
        stream.next().await.expect_commit("c");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_recovery_answers_tell_a_position_that_may_be_committed() {
    let gateway = Gateway::retaining(Duration::from_secs(60)).await;
    let new = NewManaged {
        error_recovery_replay: Replay::Latest,
        ..fulfilment()
    };
    gateway.manage(new).await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let mut stream = gateway.managed(1).await;
    let old = stream.next().await.positions()[0];
    gateway.engines.clock.advance(Duration::from_secs(61));
    gateway.publish(ORDERS, &orders(2..3)).await.unwrap();
    stream.ask_for(10);
    settle().await;
    stream.commit("old", old);
    let answered = stream.next().await;
    answered.expect_refusal("old");
    stream.commit("latest", answered.latest);
    stream.next().await.expect_commit("latest");
}

/// Stores a position as one that was committed, for a gateway that is started next.
async fn store_position(gateway: &Gateway, id: PlatformId, position: Position) {
    let record = ManagedPositionRecord {
        slots: Vec::new(),
        id: id.to_string(),
        position: position.get(),
        committed_at_ms: 0,
    };
    let change = records::change(&record, Expected::Absent);
    let store = &gateway.engines.store;
    let scope = Scope::Tenant(tenant());
    store.write(scope, vec![change]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_ends_it_and_is_not_found() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(10).await;
    stream.next().await;
    let broker = &gateway.engines.broker;
    broker.delete_topic(&principal(), ORDERS).await.unwrap();
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::TOPIC_NOT_FOUND);
    let mut stream = gateway.managed(10).await;
    let failure = stream.failure().await;
    assert_failure(&failure, "ManagedSubscribe", kinds::TOPIC_NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_gets_keepalives_whose_latest_may_be_committed() {
    let gateway = Gateway::start().await;
    gateway.manage(fulfilment()).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut stream = gateway.managed(100).await;
    assert_eq!(stream.next().await.ids(), ["0"]);
    let elsewhere = gateway.publish(STATUSES, &[status("1")]).await.unwrap();
    let keepalive = stream.next().await;
    assert_eq!((keepalive.ids().len(), keepalive.pending), (0, 99));
    assert_eq!(keepalive.latest, elsewhere.positions()[0]);
    // Eight bytes, as clients send that keep ids in a number; the answer has them as they came.
    let short = &keepalive.latest.replay_id().as_bytes()[..8].to_vec();
    stream.ask(commit("c-1", short));
    let fetched = stream.next().await;
    assert_eq!(&fetched.expect_commit("c-1").replay_id, short);
    assert_eq!((fetched.latest, fetched.pending), (keepalive.latest, 99));
    assert_eq!(gateway.committed().await, Some(keepalive.latest));
}
