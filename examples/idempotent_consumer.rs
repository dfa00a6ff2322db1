//! An idempotent consumer, and the wrong way beside it, which loses count.
//!
//! With a gateway running in this directory: `cargo run --release --example idempotent_consumer`. A
//! publisher that is not sure whether its events were stored publishes them again, under the same ids.
//! One account adds up every event that comes; the other takes each event id once.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use serde_json::json;
use tidegate::{
    client::{Connection, Endpoint},
    publisher::{Event, Publisher},
    subscriber::{Builder, Item, MemoryState, Start, Subscriber},
    types::TopicName,
};

const ORDERS: usize = 100;
const AMOUNT: f64 = 10.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data_dir = std::env::var("TIDEGATE_SERVER__DATA_DIR");
    let data_dir = data_dir.unwrap_or_else(|_| "./tidegate-data".into());
    let connection = Endpoint::of_profile(&PathBuf::from(data_dir))?
        .connect()
        .await?;
    let topic: TopicName = "/event/OrderCreated__e".parse()?;
    let run = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
    let publisher = Publisher::builder(connection.clone(), topic.clone()).start();
    // Every fourth order twice: its first answer was lost on the way.
    for number in 0..ORDERS {
        for _ in 0..if number % 4 == 0 { 2 } else { 1 } {
            let order = json!({ "Order_Number__c": run, "Amount__c": AMOUNT });
            let event = Event::json(order).with_id(format!("{run}-{number}"));
            publisher.publish(event).await?;
        }
    }

    let subscriber = |connection: Connection| {
        let builder = Subscriber::builder(connection).topic(topic.clone());
        builder.start_at(Start::Earliest)
    };
    let wrong = total(subscriber(connection.clone()), &run).await?;
    // In a program that may be killed: a StateFile, which keeps ids and position in one transaction.
    let right = subscriber(connection).state(MemoryState::default());
    let right = total(right, &run).await?;
    let wanted = ORDERS as f64 * AMOUNT;
    println!("  every event that comes  {wrong}  (wrong)");
    println!("  every event id once     {right}");
    ensure!(right == wanted && wrong > wanted, "odd counts");
    Ok(())
}

/// The sum of this run's orders.
async fn total(builder: Builder, run: &str) -> anyhow::Result<f64> {
    let mut events = builder.build()?.start();
    let mut total = 0.0;
    let adding = async {
        while let Some(item) = events.next().await? {
            match item {
                Item::Event(event) => {
                    let order = event.json()?;
                    if order["Order_Number__c"] == run {
                        total += order["Amount__c"].as_f64().unwrap_or_default();
                    }
                    event.done();
                }
                Item::CaughtUp(_) => break,
                _ => {}
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), adding).await??;
    events.close().await?;
    Ok(total)
}
