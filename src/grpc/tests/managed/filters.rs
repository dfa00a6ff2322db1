//! Managed subscriptions of channels, and with filters.

use super::{NAME, fulfilment};
use crate::{
    broker::{
        ChannelError, ManagedChange, ManagedError, ManagedKey, NewChannel, NewManaged, NewMember,
        tests::engines::{ORDERS, STATUSES, orders, principal, status},
    },
    grpc::tests::gateway::{Gateway, settle},
    proto::ProducerEvent,
};

const SALES: &str = "/event/Sales__chn";
const KEY: ManagedKey<'_> = ManagedKey::Name(NAME);

fn filter(text: &str) -> ManagedChange {
    ManagedChange {
        filter: Some(text.into()),
        ..ManagedChange::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_is_kept_with_the_subscription_and_changed_while_it_is_read() {
    let gateway = Gateway::start().await;
    let new = NewManaged {
        filter: "Order_Number__c LIKE '%1'".into(),
        ..fulfilment()
    };
    gateway.manage(new).await;
    gateway.publish(ORDERS, &orders(0..30)).await.unwrap();
    let mut stream = gateway.managed(100).await;
    let fetched = stream.next().await;
    assert_eq!(
        (fetched.ids(), fetched.pending),
        (vec!["1", "11", "21"], 97)
    );
    // What is left out is committed with the rest.
    stream.commit("c-1", fetched.latest);
    stream.next().await.expect_commit("c-1");
    let broker = &gateway.engines.broker;
    let change = filter("Order_Number__c LIKE '%2'");
    broker
        .update_managed(&principal(), KEY, change)
        .await
        .unwrap();
    gateway.publish(ORDERS, &orders(30..50)).await.unwrap();
    assert_eq!(stream.next().await.ids(), ["32", "42"]);
    broker
        .update_managed(&principal(), KEY, filter(""))
        .await
        .unwrap();
    gateway.publish(ORDERS, &orders(50..51)).await.unwrap();
    assert_eq!(stream.next().await.ids(), ["50"]);
    let wrong = broker
        .update_managed(&principal(), KEY, filter("Foo__c = 1"))
        .await;
    let wrong = wrong.unwrap_err();
    assert!(matches!(wrong, ManagedError::Filter(_)));
    assert_eq!(
        wrong.to_string(),
        "the filter is wrong at character 1: OrderCreated__e has no field Foo__c"
    );
    // The next stream has what is stored, behind what is committed.
    let change = filter("Order_Number__c LIKE '%1'");
    broker
        .update_managed(&principal(), KEY, change)
        .await
        .unwrap();
    drop(stream);
    settle().await;
    let gateway = gateway.restarted().await;
    let mut stream = gateway.managed(100).await;
    assert_eq!(stream.next().await.ids(), ["31", "41"]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_managed_as_a_topic_is_and_not_deleted_meanwhile() {
    let gateway = Gateway::start().await;
    let broker = &gateway.engines.broker;
    let member = |topic: &str| NewMember {
        topic: topic.into(),
        ..NewMember::default()
    };
    let channel = NewChannel {
        name: SALES.into(),
        label: String::new(),
        members: vec![member(ORDERS), member(STATUSES)],
    };
    broker.create_channel(&principal(), channel).await.unwrap();
    let new = NewManaged {
        topic: SALES.into(),
        ..fulfilment()
    };
    gateway.manage(new).await;
    gateway.publish(ORDERS, &orders(0..2)).await.unwrap();
    let status = ProducerEvent {
        id: "status".into(),
        ..status("1")
    };
    gateway.publish(STATUSES, &[status]).await.unwrap();
    let mut stream = gateway.managed(100).await;
    let fetched = stream.next().await;
    assert_eq!(fetched.ids(), ["0", "1", "status"]);
    stream.commit("c-1", fetched.positions()[1]);
    stream.next().await.expect_commit("c-1");
    broker.measure_lag().await;
    let described = broker
        .managed_subscription(&principal(), KEY)
        .await
        .unwrap();
    assert_eq!(described.lag.unwrap().events, 1);
    let refused = broker
        .delete_channel(&principal(), SALES)
        .await
        .unwrap_err();
    assert!(matches!(refused, ChannelError::Subscribed(_)));
    assert_eq!(
        refused.to_string(),
        "the channel is subscribed to by Fulfilment; delete those first"
    );
    drop(stream);
    settle().await;
    let mut stream = gateway.managed(100).await;
    assert_eq!(stream.next().await.ids(), ["status"]);
}
