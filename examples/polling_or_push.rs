//! Polling or push: the same orders once by asking twice a second, and once by being told.
//!
//! With a gateway running in this directory: `cargo run --release --example polling_or_push`. A poll
//! costs a call whether anything is new or not, and what happens after it waits for the next.

use std::{collections::BTreeMap, collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use serde_json::json;
use tidegate::{
    client::{Connection, Endpoint},
    publisher::{Event, Publisher},
    subscriber::{Item, OpaqueReplayId, Start, Subscriber},
};
use tokio::time::{sleep, timeout};

const TOPIC: &str = "/event/OrderCreated__e";
const ORDERS_AFTER_MS: [u64; 9] = [300, 900, 50, 1_250, 20, 400, 1_100, 600, 30];
const POLL_EVERY: Duration = Duration::from_millis(500);
/// How long a poll waits, since nobody says that there is nothing.
const POLL_WAIT: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data_dir = std::env::var("TIDEGATE_SERVER__DATA_DIR");
    let data_dir = data_dir.unwrap_or_else(|_| "./tidegate-data".into());
    let endpoint = Endpoint::of_profile(&PathBuf::from(data_dir))?;
    let connection = endpoint.connect().await?;
    let publisher = Publisher::builder(connection.clone(), TOPIC.parse()?).start();
    let publish = async || publisher.publish(Event::json(json!({}))).await;
    // Both begin behind this order.
    let behind = OpaqueReplayId::new(&publish().await?.replay_id)?;
    let polling = tokio::spawn(hear_all(connection.clone(), behind, POLL_WAIT));
    let push = tokio::spawn(hear_all(connection, behind, Duration::MAX));
    let mut published = BTreeSet::new();
    for after_ms in ORDERS_AFTER_MS {
        sleep(Duration::from_millis(after_ms)).await;
        published.insert(publish().await?.event_id);
    }
    let both = async { anyhow::Ok((polling.await??, push.await??)) };
    let ((polls, polled), (calls, pushed)) = timeout(Duration::from_secs(30), both).await??;
    println!("         calls  median ms  largest ms");
    for (name, calls, heard) in [("polling", polls, polled), ("push", calls, pushed)] {
        ensure!(published.iter().eq(heard.keys()), "{name} missed an order");
        let mut ages_ms: Vec<_> = heard.into_values().collect();
        ages_ms.sort();
        let (median, largest) = (ages_ms[ages_ms.len() / 2], ages_ms[ages_ms.len() - 1]);
        println!("{name:7}  {calls:5}  {median:9}  {largest:10}");
    }
    ensure!(calls < polls, "push made {calls} calls, polling {polls}");
    Ok(())
}

/// Returns how many calls it took to hear of every order, and how many milliseconds old each was.
async fn hear_all(
    connection: Connection,
    mut behind: OpaqueReplayId,
    patience: Duration,
) -> anyhow::Result<(u64, BTreeMap<String, i64>)> {
    let (mut calls, mut heard) = (0, BTreeMap::new());
    loop {
        calls += 1;
        let subscriber = Subscriber::builder(connection.clone()).topic(TOPIC.parse()?);
        let mut events = subscriber.start_at(Start::Behind(behind)).build()?.start();
        while let Ok(item) = timeout(patience, events.next()).await {
            if let Item::Event(event) = item?.context("it ended")? {
                let heard_ms = jiff::Timestamp::now().as_millisecond();
                let made_ms = event.json()?["CreatedDate"].as_i64().context("no date")?;
                heard.insert(event.id().into(), heard_ms - made_ms);
                behind = event.replay_id();
                event.done();
            }
            if heard.len() == ORDERS_AFTER_MS.len() {
                return Ok((calls, heard));
            }
        }
        sleep(POLL_EVERY).await;
    }
}
