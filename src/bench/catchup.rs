use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{error::BenchError, next, target::Target};
use crate::{
    client::CallError,
    proto::{FetchRequest, ReplayPreset},
    types::limits::CREDIT_MAX,
};

use super::load::TOPIC;

/// Reads `events` events from the earliest on as a stock client does, which asks for as many as it
/// may and again for what has arrived, and returns the events per second. At least so many have to
/// be there.
pub async fn catchup(target: &Target, events: u64) -> Result<f64, BenchError> {
    let connection = target.connect().await?;
    let (credit, requests) = mpsc::channel(CREDIT_REQUESTS_AHEAD);
    let first = FetchRequest {
        topic_name: TOPIC.into(),
        replay_preset: ReplayPreset::Earliest.into(),
        num_requested: CREDIT_MAX as i32,
        ..Default::default()
    };
    let start = Instant::now();
    // There is room for the first one.
    _ = credit.send(first).await;
    let mut client = connection.pub_sub();
    let deliveries = client.subscribe(ReceiverStream::new(requests)).await;
    let mut deliveries = deliveries.map_err(CallError::from)?.into_inner();
    let mut found = 0;
    while found < events {
        let delivery = next(&mut deliveries).await?;
        let count = delivery.events.values().len();
        if count == 0 {
            // Nothing but a sign of life: everything there was has arrived.
            return Err(BenchError::Miscounted {
                what: "there to be read",
                found,
                wanted: events,
            });
        }
        found += count as u64;
        let more = FetchRequest {
            num_requested: count as i32,
            ..Default::default()
        };
        // Where the stream has ended, the next answer tells why.
        _ = credit.send(more).await;
    }
    Ok(found as f64 / start.elapsed().as_secs_f64())
}

/// Requests that wait to be sent: one for each delivery that was not answered yet.
const CREDIT_REQUESTS_AHEAD: usize = 16;
