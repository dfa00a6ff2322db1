//! A log and metadata that do not belong together.

use std::error::Error;

use super::engines::{Engines, ORDERS, orders, principal, tenant};
use crate::{
    broker::{Config, TopicError},
    event_log::{self, contract::Feeder},
};

#[tokio::test]
async fn a_tenant_whose_log_has_topics_that_its_metadata_do_not_know_is_refused() {
    for (number, words) in [
        (1, "/event/OrderCreated__e in the metadata"),
        (9, "number 9"),
    ] {
        let engines = Engines::new(Config::default(), event_log::Config::default()).await;
        let log = engines.tenant_log().await;
        Feeder::new(&log, number).append(1).await;
        let Err(TopicError::Unavailable(refusal)) = engines.broker.open(tenant()).await else {
            panic!("opened");
        };
        let refusal = refusal.to_string();
        let topic = format!("/event/Topic_{number}__e");
        for word in [&*topic, words, "metadata.redb", "put back"] {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
        let refused = engines.broker.topic(&principal(), ORDERS).await;
        assert!(refused.is_err_and(|error| error.source().is_some()));
    }
}

#[tokio::test]
async fn another_tenant_is_not_harmed_by_it() {
    let engines = Engines::new(Config::default(), event_log::Config::default()).await;
    let stranger = "00D000000000002".parse().unwrap();
    let log = event_log::EventLog::open(&*engines.log, stranger)
        .await
        .unwrap();
    Feeder::new(&log, 1).append(1).await;
    assert!(engines.broker.open(stranger).await.is_err());
    engines.publish(ORDERS, &orders(0..3)).await;
}
