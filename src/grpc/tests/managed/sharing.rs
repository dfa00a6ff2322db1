//! Managed subscriptions that several streams share.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::timeout;

use super::{Fetched, Managed, NAME, first, fulfilment};
use crate::{
    broker::{
        ManagedChange, ManagedDelivery, ManagedError, ManagedKey, ManagedSubscription, NewManaged,
        NewSharing,
        tests::engines::{
            CHANGES, ORDERS, SHIPMENTS, STATUSES, change, orders, principal, shipment_change_of,
            status, tenant,
        },
    },
    grpc::{
        status::kinds,
        tests::gateway::{Gateway, assert_failure, settle},
    },
    metadata::{
        Scope,
        records::{self, ManagedPositionRecord},
    },
    proto::SHARING_METADATA,
    types::{Position, Replay, Takeover},
};

const METHOD: &str = "ManagedSubscribe";
const ORDER_NUMBER: &str = "Order_Number__c";
const KEY: ManagedKey<'_> = ManagedKey::Name(NAME);

fn shared(streams: u32) -> NewManaged {
    NewManaged {
        sharing: Some(NewSharing {
            streams,
            key: ORDER_NUMBER.into(),
        }),
        ..fulfilment()
    }
}

/// What a stream is sent until the gateway has nothing more for it.
async fn drain(stream: &mut Managed) -> Vec<Fetched> {
    let mut fetched = Vec::new();
    // The clock only moves on once there is nothing else to do.
    while let Ok(next) = timeout(Duration::from_millis(1), stream.next()).await {
        stream.ask_for(100);
        if !next.events.is_empty() {
            fetched.push(next);
        }
    }
    fetched
}

fn ids(fetched: &[Fetched]) -> Vec<String> {
    let ids = fetched.iter().flat_map(Fetched::ids);
    ids.map(str::to_owned).collect()
}

/// Commits the last event of what was fetched.
async fn commit(stream: &mut Managed, id: &str, fetched: &[Fetched]) {
    let latest = fetched.last().unwrap().latest;
    stream.commit(id, latest);
    let mut fetched = stream.next().await;
    while fetched.commit.is_none() {
        assert!(fetched.events.is_empty(), "a keepalive");
        fetched = stream.next().await;
    }
    fetched.expect_commit(id);
}

#[tokio::test(start_paused = true)]
async fn two_streams_split_the_events_and_each_key_has_one_of_them() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(2)).await;
    let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    for _ in 0..3 {
        gateway.publish(ORDERS, &orders(0..200)).await.unwrap();
    }
    let (of_a, of_b) = (ids(&drain(&mut a).await), ids(&drain(&mut b).await));
    assert_eq!(of_a.len() + of_b.len(), 600);
    let (a, b): (BTreeSet<_>, BTreeSet<_>) = (of_a.iter().collect(), of_b.iter().collect());
    assert!(a.is_disjoint(&b) && a.len() > 50 && b.len() > 50);
    for of in [&of_a, &of_b] {
        let mut counts = BTreeMap::new();
        of.iter().for_each(|id| *counts.entry(id).or_insert(0) += 1);
        assert!(counts.values().all(|&count| count == 3), "{counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_moves_when_all_that_was_sent_of_it_is_committed() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(2)).await;
    // As many as put some into every slot.
    gateway.publish(ORDERS, &orders(0..900)).await.unwrap();
    let mut a = gateway.managed(100).await;
    let fetched = drain(&mut a).await;
    assert_eq!(ids(&fetched).len(), 900);
    let mut b = gateway.managed(100).await;
    settle().await;
    gateway.publish(ORDERS, &orders(0..900)).await.unwrap();
    // What is meant for the second stream is sent to neither as long as the first has not committed.
    let kept = drain(&mut a).await;
    assert_eq!(ids(&drain(&mut b).await).len(), 0);
    assert!((300..600).contains(&ids(&kept).len()));
    // Some of it is not enough, as long as there is more of each slot.
    a.commit("some", fetched[0].positions()[20]);
    a.next().await.expect_commit("some");
    assert_eq!(ids(&drain(&mut b).await).len(), 0);
    // All that was sent of what is to move is.
    a.commit("all of the first", fetched.last().unwrap().latest);
    a.next().await.expect_commit("all of the first");
    let moved = drain(&mut b).await;
    let mut all: BTreeSet<_> = ids(&kept).into_iter().collect();
    all.extend(ids(&moved));
    assert_eq!(all.len(), 900, "each of the later ones came");
    assert_eq!(ids(&kept).len() + ids(&moved).len(), 900, "and once");
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_had_not_committed_comes_to_the_others_when_it_ends() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(2)).await;
    let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    gateway.publish(ORDERS, &orders(0..200)).await.unwrap();
    let (of_a, of_b) = (drain(&mut a).await, drain(&mut b).await);
    let positions: Vec<_> = of_a.iter().flat_map(Fetched::positions).collect();
    // One commit in the middle; the second stream has come further by then.
    a.commit("c-1", positions[9]);
    a.next().await.expect_commit("c-1");
    drop(a);
    settle().await;
    let moved = drain(&mut b).await;
    assert_eq!(ids(&moved), ids(&of_a)[10..]);
    let (last, first) = (of_b.last().unwrap().latest, moved[0].positions()[0]);
    assert!(first < last, "replay ids went back");
    // A commit of what came before covers nothing of what came after it.
    b.commit("c-2", last);
    b.next().await.expect_commit("c-2");
    drop(b);
    settle().await;
    let mut c = gateway.managed(100).await;
    assert_eq!(ids(&drain(&mut c).await), ids(&of_a)[10..]);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_goes_on_before_its_stream_has_noticed_it_is_sent_all_the_same() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(3)).await;
    let broker = &gateway.engines.broker;
    let open = async || {
        let subscriber = broker.managed_subscriber(&principal(), KEY).await;
        subscriber.unwrap().subscribe(100).unwrap()
    };
    let (mut a, mut b) = (open().await, open().await);
    for stream in [&mut a, &mut b] {
        assert_eq!(events_of(stream).await, 0);
    }
    // One ends and another comes, and the first has had no time to see either.
    drop(b);
    let mut c = open().await;
    gateway.publish(ORDERS, &orders(0..90)).await.unwrap();
    let (mut of_a, mut of_c) = (0, 0);
    for _ in 0..3 {
        of_a += events_of(&mut a).await;
        of_c += events_of(&mut c).await;
    }
    assert_eq!((of_a + of_c, of_a > 20, of_c > 20), (90, true, true));
}

/// How many events a stream gets now.
async fn events_of(stream: &mut ManagedSubscription) -> usize {
    let mut events = 0;
    while let Ok(next) = timeout(Duration::from_millis(1), stream.next()).await {
        if let ManagedDelivery::Events(delivery) = next.unwrap() {
            events += (100 - delivery.pending) as usize;
            stream.grant(100).unwrap();
        }
    }
    events
}

#[tokio::test(start_paused = true)]
async fn each_slot_is_where_it_was_after_a_restart() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(3)).await;
    let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
    let (of_a, of_b) = (drain(&mut a).await, drain(&mut b).await);
    commit(&mut a, "c-1", &of_a).await;
    let gateway = gateway.restarted().await;
    let mut a = gateway.managed(100).await;
    let again = drain(&mut a).await;
    assert_eq!(ids(&again), ids(&of_b));
    commit(&mut a, "c-2", &again).await;
    let store = &gateway.engines.store;
    let stored = records::list::<ManagedPositionRecord>(&**store, Scope::Tenant(tenant())).await;
    let record = &stored.unwrap()[0].record;
    assert_eq!(record.slots.len(), 64);
    assert_eq!(record.slots.iter().min(), Some(&record.position));
    let gateway = gateway.restarted().await;
    let mut a = gateway.managed(100).await;
    assert!(drain(&mut a).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_commits_what_it_was_sent_and_nothing_else() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(2)).await;
    let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
    let (of_a, of_b) = (drain(&mut a).await, drain(&mut b).await);
    let positions: Vec<_> = of_a.iter().flat_map(Fetched::positions).collect();
    let of_b = of_b[0].positions()[0];
    let unknown = Position::new(positions.last().unwrap().get() + 1_000).unwrap();
    for (id, position) in [("b's", of_b), ("unknown", unknown)] {
        a.commit(id, position);
        let refused = a.next().await;
        let why = refused.expect_refusal(id);
        assert!(why.contains("was sent on this stream"), "{why}");
    }
    a.commit("c-1", positions[10]);
    a.next().await.expect_commit("c-1");
    a.commit("c-1 again", positions[10]);
    a.next().await.expect_commit("c-1 again");
    a.commit("older", positions[9]);
    assert!(a.next().await.expect_refusal("older").contains("committed"));
    a.commit("c-2", positions[11]);
    a.next().await.expect_commit("c-2");
}

#[tokio::test(start_paused = true)]
async fn there_are_as_many_streams_as_it_is_shared_among() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(2)).await;
    let (a, _b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    let mut third = gateway.managed(100).await;
    let refused = third.responses.message().await.unwrap_err();
    assert_failure(&refused, METHOD, kinds::MANAGED_ACTIVE);
    assert!(refused.message().contains("2 streams share"), "{refused}");
    drop(a);
    settle().await;
    let _third = gateway.managed(100).await;
    settle().await;
    let broker = &gateway.engines.broker;
    let described = broker.managed_subscription(&principal(), KEY).await;
    assert_eq!(described.unwrap().streams, 2);
}

#[tokio::test(start_paused = true)]
async fn the_newest_stream_has_the_place_and_the_slots_of_the_oldest() {
    let gateway = Gateway::start().await;
    let new = NewManaged {
        takeover: Takeover::Newest,
        ..shared(2)
    };
    gateway.manage(new).await;
    let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
    let (of_a, of_b) = (drain(&mut a).await, drain(&mut b).await);
    let mut c = gateway.managed(100).await;
    settle().await;
    let ended = a.responses.message().await.unwrap_err();
    assert_failure(&ended, METHOD, kinds::MANAGED_TAKEN_OVER);
    // Nothing of it was committed: it comes again, and nothing else moved.
    assert_eq!(ids(&drain(&mut c).await), ids(&of_a));
    assert!(drain(&mut b).await.is_empty() && !of_b.is_empty());
    assert!(broker_release(&gateway).await);
    for stream in [&mut b, &mut c] {
        let ended = stream.responses.message().await.unwrap_err();
        assert_failure(&ended, METHOD, kinds::SUBSCRIPTION_INTERNAL);
    }
    assert!(!broker_release(&gateway).await);
}

async fn broker_release(gateway: &Gateway) -> bool {
    let broker = &gateway.engines.broker;
    broker.release_managed(&principal(), KEY).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_slot_without_events_does_not_age() {
    let gateway = Gateway::retaining(Duration::from_secs(3_600)).await;
    gateway.manage(shared(2)).await;
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let mut a = gateway.managed(100).await;
    let fetched = a.next().await;
    a.commit("c-1", fetched.latest);
    a.next().await.expect_commit("c-1");
    for hour in 0..3 {
        gateway.engines.clock.advance(Duration::from_secs(3_500));
        // Events of one key: the other slots have none.
        gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
        let fetched = a.next().await;
        assert_eq!(fetched.ids(), ["0"]);
        let id = format!("c-{hour}");
        a.commit(&id, fetched.latest);
        a.next().await.expect_commit(&id);
    }
    drop(a);
    settle().await;
    let gateway = gateway.restarted().await;
    let mut a = gateway.managed(100).await;
    assert!(drain(&mut a).await.is_empty());
    let recovered = "broker_managed_recoveries_total 0";
    assert!(gateway.engines.scrape().contains(recovered));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_commits_the_last_id_again_and_its_slots_go_on() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(2)).await;
    let mut a = gateway.managed(100).await;
    let told = a.next().await;
    assert_eq!((told.events.len(), told.latest), (0, Position::ZERO));
    a.commit("c-0", told.latest);
    a.next().await.expect_commit("c-0");
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let fetched = a.next().await;
    a.commit("c-1", fetched.latest);
    a.next().await.expect_commit("c-1");
    let before = gateway.committed().await.unwrap();
    // Nothing of it is delivered, and it is passed all the same.
    gateway.publish(STATUSES, &[status("7")]).await.unwrap();
    let told = a.next().await;
    assert_eq!((told.events.len(), told.latest), (0, fetched.latest));
    a.commit("c-2", told.latest);
    a.next().await.expect_commit("c-2");
    assert!(gateway.committed().await.unwrap() > before);
}

#[tokio::test(start_paused = true)]
async fn slots_that_are_purged_give_way_to_the_error_recovery_replay() {
    for (recovery, expected) in [(Replay::Earliest, 110), (Replay::Latest, 10)] {
        let gateway = Gateway::retaining(Duration::from_secs(60)).await;
        let new = NewManaged {
            error_recovery_replay: recovery,
            ..shared(2)
        };
        gateway.manage(new).await;
        gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
        let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
        settle().await;
        let of_a = drain(&mut a).await;
        a.commit("c-1", of_a[0].positions()[0]);
        a.next().await.expect_commit("c-1");
        drop(a);
        drop(drain(&mut b).await);
        drop(b);
        settle().await;
        gateway.engines.clock.advance(Duration::from_secs(61));
        // The same keys: no slot is quiet.
        gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
        let mut c = gateway.managed(100).await;
        settle().await;
        gateway.publish(ORDERS, &orders(0..10)).await.unwrap();
        assert_eq!(ids(&drain(&mut c).await).len(), expected, "{recovery}");
        let metrics = gateway.engines.scrape();
        assert!(!metrics.contains("managed_recoveries_total 0"), "{metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_and_a_key_go_together() {
    let gateway = Gateway::start().await;
    let new = NewManaged {
        filter: "Order_Number__c LIKE '%1'".into(),
        ..shared(4)
    };
    gateway.manage(new).await;
    let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
    let mut all = [ids(&drain(&mut a).await), ids(&drain(&mut b).await)].concat();
    all.sort();
    assert_eq!(all.len(), 10);
    let broker = &gateway.engines.broker;
    let change = ManagedChange {
        filter: Some(String::new()),
        ..ManagedChange::default()
    };
    broker
        .update_managed(&principal(), KEY, change)
        .await
        .unwrap();
    gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
    let all = [ids(&drain(&mut a).await), ids(&drain(&mut b).await)].concat();
    assert_eq!(all.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_among_how_many_it_is_shared() {
    let gateway = Gateway::start().await;
    gateway.manage(shared(5)).await;
    let other = NewManaged {
        developer_name: "Alone".into(),
        ..fulfilment()
    };
    gateway.manage(other).await;
    for (name, told) in [(NAME, Some("5")), ("Alone", None), ("Unknown", None)] {
        let request = crate::proto::ManagedFetchRequest {
            developer_name: name.into(),
            ..first(1)
        };
        let requests = tokio_stream::iter([request]);
        let mut call = gateway.call(requests);
        call.metadata_mut()
            .insert(SHARING_METADATA, "1".parse().unwrap());
        let response = gateway
            .client
            .clone()
            .managed_subscribe(call)
            .await
            .unwrap();
        let metadata = response.metadata().get(SHARING_METADATA);
        let found = metadata.map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(found.as_deref(), told, "{name}");
        let end = response.into_inner().message().await;
        match name {
            "Unknown" => {
                assert_failure(&end.unwrap_err(), METHOD, kinds::MANAGED_NAME_NOT_FOUND);
            }
            _ => assert!(end.is_ok(), "{name}"),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_shared_is_refused_with_what_was_found_and_wanted() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let long = "a".repeat(600);
    for (topic, streams, key, why) in [
        (ORDERS, 1, ORDER_NUMBER, "2 to 64 streams, found 1"),
        (ORDERS, 65, ORDER_NUMBER, "2 to 64 streams, found 65"),
        (ORDERS, 2, "", "needs a key"),
        (ORDERS, 0, ORDER_NUMBER, "not shared"),
        (
            ORDERS,
            2,
            "Foo__c",
            "the key Foo__c: /event/OrderCreated__e has no such field",
        ),
        (ORDERS, 2, "Order_Number__c.Part", "has no such field"),
        (ORDERS, 2, "Order Number", "found \"Order Number\""),
        (ORDERS, 2, &long, "at most 511 characters"),
        (SHIPMENTS, 2, "ChangeEventHeader", "of type record"),
    ] {
        let new = NewManaged {
            topic: topic.into(),
            sharing: Some(NewSharing {
                streams,
                key: key.into(),
            }),
            ..fulfilment()
        };
        let refused = broker.create_managed(&principal(), new).await.unwrap_err();
        assert!(matches!(refused, ManagedError::Sharing(_)), "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert!(
        broker
            .managed_configs(&principal())
            .await
            .unwrap()
            .is_empty()
    );
    gateway.manage(shared(64)).await;
    let config = &broker.managed_configs(&principal()).await.unwrap()[0];
    let sharing = config.sharing.as_ref().unwrap();
    assert_eq!(
        (sharing.streams, sharing.key.to_string()),
        (64, ORDER_NUMBER.into())
    );
}

#[tokio::test(start_paused = true)]
async fn changes_are_split_by_their_records_and_topics_without_the_field_stay_together() {
    let gateway = Gateway::start().await;
    let new = NewManaged {
        topic: "/data/ChangeEvents".into(),
        sharing: Some(NewSharing {
            streams: 2,
            key: "ChangeEventHeader.recordIds".into(),
        }),
        ..fulfilment()
    };
    gateway.manage(new).await;
    let (mut a, mut b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    for n in 0..40 {
        let record = format!("a01{n:012}AAA");
        let events = [shipment_change_of(&record)];
        gateway.publish(SHIPMENTS, &events).await.unwrap();
        gateway.publish(SHIPMENTS, &events).await.unwrap();
    }
    gateway
        .publish(CHANGES, &[change(), change()])
        .await
        .unwrap();
    let (of_a, of_b) = (drain(&mut a).await, drain(&mut b).await);
    let count = |fetched: &[Fetched]| ids(fetched).len();
    assert_eq!(count(&of_a) + count(&of_b), 82);
    assert!(count(&of_a) % 2 == 0 && count(&of_a) > 20 && count(&of_b) > 20);
}

#[tokio::test(start_paused = true)]
async fn however_many_take_places_over_every_slot_is_sent() {
    let gateway = Gateway::start().await;
    let new = NewManaged {
        takeover: Takeover::Newest,
        ..shared(3)
    };
    gateway.manage(new).await;
    let broker = &gateway.engines.broker;
    let mut live = Vec::new();
    for _ in 0..9 {
        let subscriber = broker.managed_subscriber(&principal(), KEY).await;
        live.push(subscriber.unwrap().subscribe(100).unwrap());
        if live.len() > 3 {
            live.remove(0);
        }
    }
    gateway.publish(ORDERS, &orders(0..200)).await.unwrap();
    let mut events = 0;
    for _ in 0..3 {
        for stream in &mut live {
            events += events_of(stream).await;
        }
    }
    assert_eq!(events, 200);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_commit_loses_its_slots_though_its_client_does_not_read() {
    let timeout = Duration::from_secs(600);
    let gateway = Gateway::committing_within(timeout).await;
    gateway.manage(shared(4)).await;
    let broker = &gateway.engines.broker;
    let open = async || {
        let subscriber = broker.managed_subscriber(&principal(), KEY).await;
        subscriber.unwrap().subscribe(100).unwrap()
    };
    // Nobody polls the first.
    let (_a, mut b) = (open().await, open().await);
    gateway.publish(ORDERS, &orders(0..100)).await.unwrap();
    assert_eq!(events_of(&mut b).await, 0);
    tokio::time::sleep(timeout - Duration::from_secs(1)).await;
    b.commit(
        "c".into(),
        &Position::ZERO.replay_id().as_bytes().to_vec().into(),
    )
    .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // A keepalive is due by now, and finds it.
    let mut events = 0;
    for _ in 0..4 {
        events += events_of(&mut b).await;
    }
    assert_eq!(events, 100);
}

#[tokio::test(start_paused = true)]
async fn slots_of_a_stream_without_events_do_not_age_with_commits_on_another() {
    let gateway = Gateway::retaining(Duration::from_secs(3_600)).await;
    gateway.manage(shared(2)).await;
    let (mut a, b) = (gateway.managed(100).await, gateway.managed(100).await);
    settle().await;
    // The stream that has the key of order 0, and the other one.
    gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
    let of_a = drain(&mut a).await;
    let (mut busy, mut idle) = match of_a.is_empty() {
        true => (b, a),
        false => (a, b),
    };
    let first = match of_a.is_empty() {
        true => drain(&mut busy).await,
        false => of_a,
    };
    commit(&mut busy, "first", &first).await;
    for hour in 0..3 {
        gateway.engines.clock.advance(Duration::from_secs(3_500));
        gateway.publish(ORDERS, &orders(0..1)).await.unwrap();
        // A keepalive: what it has looked at is known from then on.
        assert!(idle.next().await.events.is_empty());
        let fetched = drain(&mut busy).await;
        commit(&mut busy, &format!("c-{hour}"), &fetched).await;
    }
    drop((busy, idle));
    settle().await;
    let gateway = gateway.restarted().await;
    let mut c = gateway.managed(100).await;
    assert!(drain(&mut c).await.is_empty());
    let metrics = gateway.engines.scrape();
    assert!(
        metrics.contains("broker_managed_recoveries_total 0"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_loss_comes_again_if_it_was_not_committed() {
    for recovery in [Replay::Earliest, Replay::Latest] {
        let gateway = Gateway::start().await;
        let new = NewManaged {
            error_recovery_replay: recovery,
            ..shared(2)
        };
        gateway.manage(new).await;
        let good = gateway.publish(ORDERS, &orders(0..50)).await.unwrap();
        let last_good = *good.positions().last().unwrap();
        let mut a = gateway.managed(100).await;
        let sent = ids(&drain(&mut a).await);
        assert_eq!(sent.len(), 50);
        // The next block is damaged, of which the stream learns when there is one.
        let lost = Position::in_block(last_good.block() + 1, 9).unwrap();
        gateway.engines.log.damage(last_good, lost);
        gateway.publish(ORDERS, &orders(50..60)).await.unwrap();
        settle().await;
        gateway.publish(ORDERS, &orders(60..70)).await.unwrap();
        assert_eq!(ids(&drain(&mut a).await).len(), 10, "{recovery}");
        // Another stream commits meanwhile, of other slots.
        let mut b = gateway.managed(100).await;
        settle().await;
        b.commit("c", Position::ZERO);
        b.next().await.expect_commit("c");
        drop((a, b));
        settle().await;
        let mut c = gateway.managed(100).await;
        let again = ids(&drain(&mut c).await);
        assert_eq!(again[..50], sent, "{recovery}");
    }
}
