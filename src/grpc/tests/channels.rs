//! Channels: several topics on one stream, as they are configured at the moment.

use std::time::Duration;

use prost::Message;

use super::gateway::{
    Gateway, PublishStream, Settings, Subscriber, assert_failure, call_by, custom, earliest,
    latest, publish_request, settle,
};
use crate::{
    broker::{
        ChannelChange, ChannelError, NewChannel, NewMember, RemovalError,
        tests::engines::{
            CHANGES, ORDERS, SHIPMENTS, STATUSES, change, everything, orders, principal,
            shipment_change, status,
        },
    },
    event_log,
    grpc::status::kinds,
    metadata::store_double::Writing,
    proto::{ProducerEvent, TopicRequest},
    types::{Grants, limits::KEEPALIVE},
};

const SALES: &str = "/event/Sales__chn";
const ALL_CHANGES: &str = "/data/ChangeEvents";

fn member(topic: &str) -> NewMember {
    NewMember {
        topic: topic.into(),
        ..NewMember::default()
    }
}

fn filtered(topic: &str, filter: &str) -> NewMember {
    NewMember {
        filter: Some(filter.into()),
        ..member(topic)
    }
}

async fn create(gateway: &Gateway, name: &str, members: Vec<NewMember>) {
    let new = NewChannel {
        name: name.into(),
        label: String::new(),
        members,
    };
    let broker = &gateway.engines.broker;
    broker.create_channel(&principal(), new).await.unwrap();
}

async fn set(gateway: &Gateway, change: ChannelChange) {
    let broker = &gateway.engines.broker;
    broker
        .change_channel(&principal(), SALES, change)
        .await
        .unwrap();
}

fn with_id(id: &str, event: ProducerEvent) -> ProducerEvent {
    ProducerEvent {
        id: id.into(),
        ..event
    }
}

async fn publish(gateway: &Gateway, topic: &str, id: &str, event: ProducerEvent) -> Vec<u8> {
    let published = gateway.publish(topic, &[with_id(id, event)]).await.unwrap();
    published.results[0].replay_id.to_vec()
}

async fn publish_order(gateway: &Gateway, number: usize) -> Vec<u8> {
    let order = orders(number..number + 1).remove(0);
    publish(gateway, ORDERS, &format!("order {number}"), order).await
}

async fn publish_status(gateway: &Gateway, number: usize) -> Vec<u8> {
    let status = status(&number.to_string());
    publish(gateway, STATUSES, &format!("status {number}"), status).await
}

#[tokio::test(start_paused = true)]
async fn a_channel_has_the_events_of_its_members_in_one_order_with_the_same_ids() {
    let gateway = Gateway::start().await;
    create(&gateway, SALES, vec![member(ORDERS), member(STATUSES)]).await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(publish_order(&gateway, number).await);
        publish(&gateway, SHIPMENTS, "elsewhere", shipment_change()).await;
        ids.push(publish_status(&gateway, number).await);
    }
    let wanted = [
        "order 0", "status 0", "order 1", "status 1", "order 2", "status 2",
    ];
    let mut subscriber = gateway.subscribe(earliest(SALES, 100)).await;
    let fetched = subscriber.next().await;
    assert_eq!(fetched.ids(), wanted);
    let found: Vec<_> = fetched
        .events
        .iter()
        .map(|event| event.replay_id.to_vec())
        .collect();
    assert_eq!(found, ids);
    // Byte for byte what the topic's own subscribers get.
    let mut of_topic = gateway.subscribe(earliest(ORDERS, 100)).await;
    let order = of_topic.next().await.events.remove(0);
    assert_eq!(order.encode_to_vec(), fetched.events[0].encode_to_vec());
    // An id of any of the topics is one to go on from.
    let mut later = gateway.subscribe(custom(SALES, &ids[2], 100)).await;
    assert_eq!(later.next().await.ids(), wanted[3..]);
    // Live, too.
    publish_status(&gateway, 9).await;
    assert_eq!(subscriber.next().await.ids(), ["status 9"]);
    assert_eq!(later.next().await.ids(), ["status 9"]);
    let mut live = gateway.subscribe(latest(SALES, 100)).await;
    settle().await;
    publish_order(&gateway, 9).await;
    assert_eq!(live.next().await.ids(), ["order 9"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_of_several_channels_is_on_each_with_its_filter_there() {
    let gateway = Gateway::start().await;
    create(
        &gateway,
        SALES,
        vec![
            filtered(ORDERS, "Order_Number__c LIKE '1%'"),
            member(STATUSES),
        ],
    )
    .await;
    create(
        &gateway,
        "/event/Other__chn",
        vec![filtered(ORDERS, "Order_Number__c NOT IN ('11')")],
    )
    .await;
    for number in [1, 2, 11] {
        publish_order(&gateway, number).await;
    }
    publish_status(&gateway, 2).await;
    let mut sales = gateway.subscribe(earliest(SALES, 100)).await;
    assert_eq!(
        sales.next().await.ids(),
        ["order 1", "order 11", "status 2"]
    );
    let mut other = gateway.subscribe(earliest("/event/Other__chn", 100)).await;
    let fetched = other.next().await;
    assert_eq!(fetched.ids(), ["order 1", "order 2"]);
    // What the channel leaves out and what the subscriber leaves out are both left out.
    let mut call = call_by(&gateway.token, ());
    let filter = "Order_Number__c != '1'".parse().unwrap();
    call.metadata_mut()
        .insert(crate::proto::FILTER_METADATA, filter);
    let first = Some(earliest(SALES, 100));
    let mut both = Subscriber::with_headers(&gateway, call.metadata(), first).await;
    assert_eq!(both.next().await.ids(), ["order 11", "status 2"]);
}

#[tokio::test(start_paused = true)]
async fn the_standard_channel_has_every_change_event_and_those_that_come_to_be() {
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ALL_CHANGES, 100)).await;
    settle().await;
    publish(&gateway, CHANGES, "change", change()).await;
    publish_order(&gateway, 1).await;
    publish(&gateway, SHIPMENTS, "shipment", shipment_change()).await;
    let mut found = Vec::new();
    while found.len() < 2 {
        found.extend(subscriber.next().await.ids().into_iter().map(str::to_owned));
    }
    assert_eq!(found, ["change", "shipment"]);
    let text = r#"{"type":"record","name":"ContactChangeEvent","fields":[
        {"name":"Name","type":["null","string"],"default":null}]}"#;
    let schema = crate::schema::Schema::parse(text).unwrap();
    let schemas = gateway.engines.schemas().await;
    schemas.register_unchecked(&schema).await.unwrap();
    let contact = ProducerEvent {
        schema_id: schema.id().to_string(),
        payload: vec![0].into(),
        ..ProducerEvent::default()
    };
    publish(&gateway, "/data/ContactChangeEvent", "contact", contact).await;
    assert_eq!(subscriber.next().await.ids(), ["contact"]);
    // A topic that goes takes its events along, and no more.
    let broker = &gateway.engines.broker;
    broker
        .delete_topic(&principal(), "/data/ContactChangeEvent")
        .await
        .unwrap();
    publish(&gateway, CHANGES, "another", change()).await;
    assert_eq!(subscriber.next().await.ids(), ["another"]);
    let mut all = gateway.subscribe(earliest(ALL_CHANGES, 100)).await;
    assert_eq!(all.next().await.ids(), ["change", "shipment", "another"]);
}

#[tokio::test(start_paused = true)]
async fn changes_are_felt_by_live_streams_at_once() {
    let gateway = Gateway::start().await;
    create(&gateway, SALES, vec![member(ORDERS)]).await;
    let mut subscriber = gateway.subscribe(latest(SALES, 100)).await;
    settle().await;
    publish_status(&gateway, 1).await;
    publish_order(&gateway, 1).await;
    assert_eq!(subscriber.next().await.ids(), ["order 1"]);

    set(&gateway, ChannelChange::Add(member(STATUSES))).await;
    publish_status(&gateway, 2).await;
    assert_eq!(subscriber.next().await.ids(), ["status 2"]);
    set(
        &gateway,
        ChannelChange::Add(filtered(ORDERS, "Order_Number__c = '3'")),
    )
    .await;
    publish_order(&gateway, 2).await;
    publish_order(&gateway, 3).await;
    assert_eq!(subscriber.next().await.ids(), ["order 3"]);
    set(&gateway, ChannelChange::Remove(STATUSES.into())).await;
    publish_status(&gateway, 3).await;
    set(&gateway, ChannelChange::Add(member(ORDERS))).await;
    publish_order(&gateway, 4).await;
    assert_eq!(subscriber.next().await.ids(), ["order 4"]);
    // Without members it says no more than that it is there.
    set(&gateway, ChannelChange::Remove(ORDERS.into())).await;
    publish_order(&gateway, 5).await;
    subscriber
        .expect_silence(KEEPALIVE - Duration::from_secs(1))
        .await;
    assert_eq!(subscriber.next().await.ids(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_channel_ends_its_streams_and_no_other() {
    let gateway = Gateway::start().await;
    create(&gateway, SALES, vec![member(ORDERS)]).await;
    let mut waiting = gateway.subscribe(latest(SALES, 100)).await;
    let mut without_credit = gateway.subscribe(latest(SALES, 1)).await;
    let mut other = gateway.subscribe(latest(ORDERS, 100)).await;
    settle().await;
    publish_order(&gateway, 1).await;
    assert_eq!(waiting.next().await.ids(), ["order 1"]);
    assert_eq!(without_credit.next().await.ids(), ["order 1"]);
    assert_eq!(other.next().await.ids(), ["order 1"]);
    let broker = &gateway.engines.broker;
    broker.delete_channel(&principal(), SALES).await.unwrap();
    for subscriber in [&mut waiting, &mut without_credit] {
        let status = subscriber.failure().await;
        assert_failure(&status, "Subscribe", kinds::TOPIC_NOT_FOUND);
        assert!(
            status.message().contains("the channel was deleted"),
            "{status:?}"
        );
    }
    publish_order(&gateway, 2).await;
    assert_eq!(other.next().await.ids(), ["order 2"]);
    let mut gone = gateway.subscribe(latest(SALES, 1)).await;
    assert_failure(&gone.failure().await, "Subscribe", kinds::TOPIC_NOT_FOUND);
    // One of the same name is another channel.
    create(&gateway, SALES, vec![member(STATUSES)]).await;
    publish_status(&gateway, 1).await;
    let mut again = gateway.subscribe(earliest(SALES, 9)).await;
    assert_eq!(again.next().await.ids(), ["status 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_described_without_a_schema_and_never_published_to() {
    let gateway = Gateway::start().await;
    create(&gateway, SALES, vec![member(ORDERS)]).await;
    create(&gateway, "/data/Sales__chn", vec![member(SHIPMENTS)]).await;
    // Anyone may subscribe to a channel.
    let token = gateway.token(Grants::default()).await;
    for (name, token) in [
        (SALES, &gateway.token),
        ("/data/Sales__chn", &token),
        (ALL_CHANGES, &token),
    ] {
        let topic_name = name.into();
        let request = call_by(token, TopicRequest { topic_name });
        let info = gateway.client.clone().get_topic(request).await.unwrap();
        let info = info.into_inner();
        assert_eq!(
            (info.can_publish, info.can_subscribe),
            (false, true),
            "{name}"
        );
        assert_eq!((&*info.topic_name, &*info.schema_id), (name, ""));
        let request = publish_request(name, &orders(0..1));
        let request = gateway.call(request);
        let status = gateway.client.clone().publish(request).await.unwrap_err();
        assert_failure(&status, "Publish", kinds::TOPIC_PERMISSION);
        let mut stream = PublishStream::open(&gateway, &gateway.token).await;
        stream.publish(name, &orders(0..1));
        assert_failure(
            &stream.failure().await,
            "PublishStream",
            kinds::TOPIC_PERMISSION,
        );
    }
    let topic_name = "/event/None__chn".into();
    let request = gateway.call(TopicRequest { topic_name });
    let status = gateway.client.clone().get_topic(request).await.unwrap_err();
    assert_failure(&status, "GetTopic", kinds::TOPIC_NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn rights_are_those_of_each_event_at_its_delivery() {
    let gateway = Gateway::start().await;
    create(&gateway, SALES, vec![member(ORDERS), member(STATUSES)]).await;
    let orders_only = Grants {
        subscribe: vec![ORDERS.parse().unwrap()],
        ..Grants::default()
    };
    let token = gateway.token(orders_only).await;
    let mut subscriber = Subscriber::open(&gateway, &token, Some(latest(SALES, 100))).await;
    let nobody = gateway.token(Grants::default()).await;
    let mut nothing = Subscriber::open(&gateway, &nobody, Some(earliest(SALES, 100))).await;
    settle().await;
    publish_status(&gateway, 1).await;
    publish_order(&gateway, 1).await;
    assert_eq!(subscriber.next().await.ids(), ["order 1"]);
    nothing
        .expect_silence(KEEPALIVE - Duration::from_secs(1))
        .await;
    assert_eq!(nothing.next().await.ids(), [""; 0]);
    // A fresh token brings its own rights.
    let other = gateway.token(everything()).await;
    let mut request = latest("", 0);
    request.auth_refresh = other;
    subscriber.ask(request);
    settle().await;
    publish_status(&gateway, 2).await;
    // Two statuses of before are behind the cursor or not; this one comes.
    loop {
        if subscriber.next().await.ids().contains(&"status 2") {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retention_is_judged_by_the_topics_of_the_channel() {
    let settings = Settings {
        log: event_log::Config {
            retention: Duration::from_secs(60),
            ..event_log::Config::default()
        },
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    create(&gateway, SALES, vec![member(ORDERS), member(STATUSES)]).await;
    create(&gateway, "/event/Quiet__chn", vec![member(STATUSES)]).await;
    let first = publish_order(&gateway, 1).await;
    publish_order(&gateway, 2).await;
    gateway.engines.clock.advance(Duration::from_secs(61));
    publish_status(&gateway, 3).await;
    let mut expired = gateway.subscribe(custom(SALES, &first, 9)).await;
    let status = expired.failure().await;
    assert_failure(&status, "Subscribe", kinds::REPLAY_ID_CORRUPTED);
    // Nothing of this one's topics was purged.
    let mut quiet = gateway
        .subscribe(custom("/event/Quiet__chn", &first, 9))
        .await;
    assert_eq!(quiet.next().await.ids(), ["status 3"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_channel_may_not_be_is_refused_with_its_reason() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let refusal = async |name: &str, members: Vec<NewMember>| {
        let new = NewChannel {
            name: name.into(),
            label: String::new(),
            members,
        };
        broker
            .create_channel(&principal(), new)
            .await
            .unwrap_err()
            .to_string()
    };
    let looks = "the name of a channel looks like /event/Orders__chn or /data/Sales__chn";
    for name in [
        "",
        "Sales__chn",
        "/event/Sales",
        "/event/__chn",
        ORDERS,
        "/event/a b__chn",
    ] {
        assert_eq!(refusal(name, vec![]).await, looks, "{name}");
    }
    assert_eq!(
        refusal(ALL_CHANGES, vec![]).await,
        "/data/ChangeEvents is always there, and has every topic of change events"
    );
    for (name, new, wanted) in [
        (
            SALES,
            member("/event/None__e"),
            "/event/None__e cannot be a member: there is no such topic",
        ),
        (
            SALES,
            member("nonsense"),
            "nonsense cannot be a member: there is no such topic",
        ),
        (
            SALES,
            member(SALES),
            "/event/Sales__chn cannot be a member: it is a channel itself",
        ),
        (
            SALES,
            member(SHIPMENTS),
            "/data/Shipment__ChangeEvent cannot be a member: a channel under /event/ has platform events",
        ),
        (
            "/data/Sales__chn",
            member(ORDERS),
            "/event/OrderCreated__e cannot be a member: a channel under /data/ has change events",
        ),
        (
            SALES,
            member("/event/LoginEventStream"),
            "/event/LoginEventStream cannot be a member: it is a standard event, and those are in no channel",
        ),
        (
            SALES,
            filtered(ORDERS, "Amount__c > 'x'"),
            "/event/OrderCreated__e cannot be a member: the filter is wrong at character 13: the field \
             Amount__c is null or double and compared with a number, found a text",
        ),
        (
            SALES,
            NewMember {
                enriched_fields: vec!["Amount__c".into()],
                ..member(ORDERS)
            },
            "/event/OrderCreated__e cannot be a member: enriched fields are for change events",
        ),
        (
            "/data/Sales__chn",
            NewMember {
                enriched_fields: vec!["Status__c".into(); 11],
                ..member(SHIPMENTS)
            },
            "/data/Shipment__ChangeEvent cannot be a member: at most 10 fields are enriched, found 11",
        ),
        (
            "/data/Sales__chn",
            NewMember {
                enriched_fields: vec!["Nope__c".into()],
                ..member(SHIPMENTS)
            },
            "/data/Shipment__ChangeEvent cannot be a member: it has no field Nope__c to be enriched",
        ),
    ] {
        assert_eq!(refusal(name, vec![new]).await, wanted);
    }
    assert_eq!(
        refusal(SALES, vec![member(ORDERS), member(ORDERS)]).await,
        "/event/OrderCreated__e cannot be a member: it is named twice"
    );
    // Nothing of these is there.
    assert!(broker.channels(&principal()).await.unwrap().is_empty());

    create(&gateway, SALES, vec![member(ORDERS)]).await;
    assert_eq!(
        refusal(SALES, vec![]).await,
        "there is a channel /event/Sales__chn already"
    );
    let change = async |name: &str, change| {
        broker
            .change_channel(&principal(), name, change)
            .await
            .unwrap_err()
    };
    let unknown = change("/event/None__chn", ChannelChange::Label("x".into())).await;
    assert!(matches!(unknown, ChannelError::NotFound));
    let none = change(SALES, ChannelChange::Remove(STATUSES.into())).await;
    assert_eq!(
        none.to_string(),
        "/event/OrderStatusUpdated__e is no member of /event/Sales__chn"
    );
    let label = change(SALES, ChannelChange::Label("x".repeat(81))).await;
    assert!(matches!(label, ChannelError::Label));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_use_is_not_deleted() {
    let gateway = Gateway::start().await;
    create(&gateway, SALES, vec![member(ORDERS)]).await;
    let broker = &gateway.engines.broker;
    let deleted = broker.delete_topic(&principal(), ORDERS).await;
    let error = deleted.unwrap_err();
    assert!(matches!(error, RemovalError::InChannels(_)));
    assert_eq!(
        error.to_string(),
        "the topic is a member of /event/Sales__chn; remove it there first"
    );
    set(&gateway, ChannelChange::Remove(ORDERS.into())).await;
    broker.delete_topic(&principal(), ORDERS).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn channels_are_durable_before_they_are_seen() {
    let gateway = Gateway::start().await;
    let new = || NewChannel {
        name: SALES.into(),
        label: "Sales".into(),
        members: vec![filtered(ORDERS, "Amount__c > 10")],
    };
    let broker = &gateway.engines.broker;
    let store = &gateway.engines.store;
    store.set(Writing::Full);
    let full = broker.create_channel(&principal(), new()).await;
    assert!(matches!(full, Err(ChannelError::DiskFull)));
    assert!(broker.channels(&principal()).await.unwrap().is_empty());
    store.set(Writing::Unconfirmed);
    let unconfirmed = broker.create_channel(&principal(), new()).await;
    assert!(matches!(unconfirmed, Err(ChannelError::Store(_))));
    // It was stored all the same, so it is there.
    store.set(Writing::Good);
    let made = broker.channel(&principal(), SALES).await.unwrap();
    let gateway = gateway.restarted().await;
    let found = gateway
        .engines
        .broker
        .channel(&principal(), SALES)
        .await
        .unwrap();
    assert_eq!((&found, &*found.label, found.version), (&made, "Sales", 1));
}
