//! Topics that join a channel while its stream reads.

use super::engines::{Engines, ORDERS, STATUSES, orders, principal, status};
use crate::{
    broker::{ChannelChange, Config, NewChannel, NewMember},
    event_log,
    types::Start,
};

const NAME: &str = "/event/All__chn";

fn member(topic: &str) -> NewMember {
    NewMember {
        topic: topic.into(),
        ..NewMember::default()
    }
}

/// How many of two events a stream gets: of a topic that joins its channel, and then of one that was
/// there; while the stream reads if `mid_read`, else before it does.
async fn delivered(mid_read: bool) -> usize {
    let engines = Engines::new(Config::default(), event_log::Config::default()).await;
    let broker = &engines.broker;
    let new = NewChannel {
        name: NAME.into(),
        members: vec![member(ORDERS)],
        ..NewChannel::default()
    };
    broker.create_channel(&principal(), new).await.unwrap();
    let subscriber = broker.subscriber(&principal(), NAME).await.unwrap();
    let mut subscription = subscriber.subscribe(Start::Latest, 100, None).unwrap();
    let (begun, go) = engines.log.hold_read();
    let change = async {
        if mid_read {
            begun.await.unwrap();
        }
        let joins = ChannelChange::Add(member(STATUSES));
        broker
            .change_channel(&principal(), NAME, joins)
            .await
            .unwrap();
        engines.publish(STATUSES, &[status("1")]).await;
        engines.publish(ORDERS, &orders(0..1)).await;
        go.send(()).unwrap();
    };
    if !mid_read {
        change.await;
        return until_silence(&mut subscription).await;
    }
    tokio::join!(until_silence(&mut subscription), change).0
}

/// Events until a keepalive.
async fn until_silence(subscription: &mut crate::broker::Subscription) -> usize {
    let mut events = 0;
    loop {
        let before = subscription.pending();
        let delivery = subscription.next().await.unwrap();
        events += (before - delivery.pending) as usize;
        if before == delivery.pending {
            return events;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_topic_that_joins_before_a_read_is_delivered() {
    assert_eq!(delivered(false).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_topic_that_joins_during_a_read_is_delivered() {
    assert_eq!(delivered(true).await, 2);
}
