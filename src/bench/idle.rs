use std::time::Duration;

use tokio::task::JoinSet;

use super::{
    child::Child, error::BenchError, in_time, load::topic, publish::publish_one,
    reader::ClientKind, target::Target,
};
use crate::{
    client::Subscription,
    proto::{FetchRequest, raw::FetchResponse},
    types::limits::CREDIT_MAX,
};

/// Subscribers that wait for events which do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleLoad {
    /// How many there are.
    pub subscriptions: usize,
    /// Connections that they share evenly.
    pub connections: usize,
    /// How long the processor is watched.
    pub duration: Duration,
}

/// What they cost the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Memory of the gateway before they came, in MB of 2^20 bytes.
    pub memory_before_mb: f64,
    /// Memory that it had more once they were there.
    pub memory_added_mb: f64,
    /// Processor time that passed meanwhile, of one processor's, in percent.
    pub processor_percent: f64,
}

/// Opens the subscriptions, and watches the gateway for a while.
///
/// # Errors
///
/// If one of them is refused, or ends meanwhile.
pub async fn idle(child: &Child, target: &Target, load: &IdleLoad) -> Result<Idle, BenchError> {
    // So that the log and the schemas are open, as they are in any gateway that is of use.
    let publisher = target.connect(ClientKind::Own).await?;
    publish_one(&publisher, 0, PAYLOAD_BYTES).await?;
    drop(publisher);
    tokio::time::sleep(SETTLE).await;
    let memory_before_mb = child.memory_mb()?;
    let mut opening = JoinSet::new();
    for number in 0..load.connections {
        let of_connection = (load.subscriptions + load.connections - 1 - number) / load.connections;
        let target = target.clone();
        opening.spawn(async move { subscribe(&target, of_connection).await });
    }
    let mut open = Vec::new();
    while let Some(opened) = opening.join_next().await {
        open.extend(opened.expect("a subscriber of the bench does not panic")?);
    }
    tokio::time::sleep(SETTLE).await;
    let memory_added_mb = child.memory_mb()? - memory_before_mb;
    let before = child.cpu_seconds()?;
    tokio::time::sleep(load.duration).await;
    let seconds = child.cpu_seconds()? - before;
    // Those that the gateway forgot would have cost nothing.
    let publisher = target.connect(ClientKind::Own).await?;
    publish_one(&publisher, 0, PAYLOAD_BYTES).await?;
    for subscription in &mut open {
        while next(subscription).await?.events.values().is_empty() {}
    }
    Ok(Idle {
        memory_before_mb,
        memory_added_mb,
        processor_percent: 100.0 * seconds / load.duration.as_secs_f64(),
    })
}

/// Opens this many subscriptions at the latest event, on a connection of their own.
async fn subscribe(target: &Target, count: usize) -> Result<Vec<Subscription>, BenchError> {
    let connection = target.connect(ClientKind::Stock).await?;
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let first = FetchRequest {
            topic_name: topic(0),
            ..FetchRequest::default()
        };
        open.push(in_time(Subscription::open(&connection, first, CREDIT_MAX)).await?);
    }
    Ok(open)
}

async fn next(subscription: &mut Subscription) -> Result<FetchResponse, BenchError> {
    in_time(subscription.next())
        .await?
        .ok_or(BenchError::StreamEnded)
}

/// How long it takes at most until what was begun is done: subscriptions begin when the gateway has
/// seen them, which nothing tells the subscriber.
const SETTLE: Duration = Duration::from_secs(2);
const PAYLOAD_BYTES: usize = 200;
