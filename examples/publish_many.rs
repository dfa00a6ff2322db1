//! Publishes a million orders with the publisher library and says how fast that was.
//!
//! With a gateway running in this directory: `cargo run --release --example publish_many`. Give a
//! number for another count, and a data directory for another gateway.

use std::{path::PathBuf, time::Instant};

use tidegate::{
    client::Endpoint,
    publisher::{Event, Publisher},
    types::TopicName,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let data_dir = arguments.next().unwrap_or_else(|| "./tidegate-data".into());
    let endpoint = Endpoint::of_profile(&PathBuf::from(data_dir))?;
    let topic: TopicName = "/event/OrderCreated__e".parse()?;
    let publisher = Publisher::builder(endpoint.connect().await?, topic).start();

    // One record for all of them: what is measured is the way of an event, not its making.
    let schema = publisher.schema().await?.clone();
    let order = serde_json::json!({"Order_Number__c": "A-17", "Amount__c": 42.5});
    let fill = tidegate::schema::Fill {
        created_date_ms: 0,
        created_by_id: tidegate::schema::Fill::NOBODY,
    };
    let payload = bytes::Bytes::from(schema.schema().encode_json(&order, &fill)?);

    let began_at = Instant::now();
    let mut last = None;
    for _ in 0..count {
        let event = Event::avro(schema.id().clone(), payload.clone());
        last = Some(publisher.send(event).await?);
    }
    publisher.flush().await;
    let elapsed = began_at.elapsed().as_secs_f64();
    if let Some(ticket) = last {
        println!(
            "the last is stored at {:?}",
            ticket.result().await?.replay_id
        );
    }
    println!(
        "{count} events in {elapsed:.2} s: {:.0} events/s",
        count as f64 / elapsed
    );
    publisher.close().await?;
    Ok(())
}
