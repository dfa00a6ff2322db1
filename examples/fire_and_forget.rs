//! Fire and forget: a shop says that an order was made, and does not wait for anybody.
//!
//! With a gateway running in this directory: `cargo run --release --example fire_and_forget`. The
//! shop's own work takes as long with the events as without; what becomes of them is looked at once,
//! at the end. What the gateway took outlives both programs, so subscribers may come later.

use std::{path::PathBuf, time::Instant};

use serde_json::json;
use tidegate::{
    client::Endpoint,
    publisher::{Event, Publisher},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data_dir = std::env::var("TIDEGATE_SERVER__DATA_DIR");
    let data_dir = data_dir.unwrap_or_else(|_| "./tidegate-data".into());
    let endpoint = Endpoint::of_profile(&PathBuf::from(data_dir))?;
    let topic = "/event/OrderCreated__e".parse()?;
    let publisher = Publisher::builder(endpoint.connect().await?, topic).start();

    let started = Instant::now();
    let mut tickets = Vec::new();
    for number in 1..=1_000 {
        let order = json!({ "Order_Number__c": format!("F-{number}"), "Amount__c": 9.5 });
        // Waits for room among what is under way, and for nothing else.
        tickets.push(publisher.send(Event::json(order)).await?);
    }
    println!("told of 1000 orders in {:.1?}", started.elapsed());

    // Forgetting is not the same as not knowing: each event that failed says so.
    let mut failed = 0;
    for ticket in tickets {
        if let Err(error) = ticket.result().await {
            failed += 1;
            eprintln!("{error}");
        }
    }
    publisher.close().await?;
    println!("{} are stored, {failed} failed", 1_000 - failed);
    anyhow::ensure!(failed == 0, "events failed");
    Ok(())
}
