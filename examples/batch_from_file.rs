//! A batch from a file: each line is an event, and a subscriber knows when it has all of them.
//!
//! With a gateway running in this directory: `cargo run --release --example batch_from_file [FILE]`.
//! Events are named by the file's content and their line: it may be published twice, as it is here.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use tidegate::client::{Connection, Endpoint};
use tidegate::publisher::{Event, PublishError, Publisher};
use tidegate::subscriber::{Item, Start, Subscriber};

const ORDERS: &str = "/event/OrderCreated__e";
const BATCH_ENDS: &str = "/event/Order_Event__e";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data_dir = std::env::var("TIDEGATE_SERVER__DATA_DIR");
    let data_dir = data_dir.unwrap_or_else(|_| "./tidegate-data".into());
    let endpoint = Endpoint::of_profile(&PathBuf::from(data_dir))?;
    let connection = endpoint.connect().await?;
    let file = std::env::args().nth(1);
    let lines = std::fs::read_to_string(file.as_deref().unwrap_or("examples/orders.ndjson"))?;
    let digest = bytes::Bytes::copy_from_slice(&Md5::digest(&lines)[..8]);
    let batch = format!("{digest:x}");
    publish(&connection, &batch, &lines).await?;
    publish(&connection, &batch, &lines).await?;
    let orders =
        tokio::time::timeout(Duration::from_secs(60), receive(connection, &batch)).await??;
    println!("batch {batch} is complete: {} orders", orders.len());
    Ok(())
}

async fn publish(connection: &Connection, batch: &str, lines: &str) -> anyhow::Result<()> {
    let orders = Publisher::builder(connection.clone(), ORDERS.parse()?).start();
    let mut tickets = Vec::new();
    for (number, line) in (1..).zip(lines.lines()) {
        let id = format!("{batch}-{number}");
        let order = serde_json::from_str(line).map(|order| Event::json(order).with_id(id));
        let ticket = async { anyhow::Ok(orders.send(order?).await?) }.await;
        tickets.push((number, ticket));
    }
    let (all, mut stored) = (tickets.len(), 0);
    for (number, ticket) in tickets {
        match async { anyhow::Ok(ticket?.result().await.map_err(|failed| failed.error)?) }.await {
            Ok(_) => stored += 1,
            // As long as a line may yet be stored, nobody knows how many orders there are.
            Err(error) if error.downcast_ref().is_some_and(PublishError::is_retryable) => {
                return Err(error);
            }
            Err(error) => println!("line {number}: {error}"),
        }
    }
    println!("{stored} are stored, {} failed", all - stored);
    let end = Event::json(json!({ "Order_Number__c": batch, "Amount__c": stored }));
    let ends = Publisher::builder(connection.clone(), BATCH_ENDS.parse()?).start();
    Ok(ends.publish(end.with_id(batch)).await.map(drop)?)
}

async fn receive(connection: Connection, batch: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let subscriber = Subscriber::builder(connection).start_at(Start::Earliest);
    let subscriber = subscriber.topic(ORDERS.parse()?).topic(BATCH_ENDS.parse()?);
    let mut events = subscriber.build()?.start();
    let (mut orders, mut count) = (BTreeMap::new(), None);
    while count != Some(orders.len() as f64) {
        if let Item::Event(event) = events.next().await?.context("it ended")? {
            match event.id().strip_prefix(batch) {
                None => {}
                Some("") => count = event.json()?["Amount__c"].as_f64(),
                // The second time it is in its place already.
                Some(line) => _ = orders.insert(line.to_owned(), event.json()?),
            }
            event.done();
        }
    }
    Ok(orders)
}
