use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    error::BenchError,
    load::PublishLoad,
    publish::{publish, publish_one},
    reader::{ClientKind, Reader},
    target::Target,
};

/// Events that wait to be read.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// Of each topic, the event before the first, and how many there are behind it.
    topics: Vec<(Bytes, u64)>,
}

impl Backlog {
    /// Publishes the events.
    ///
    /// # Errors
    ///
    /// If one is refused or not answered.
    pub async fn publish(target: &Target, load: &PublishLoad) -> Result<Self, BenchError> {
        let connection = target.connect(ClientKind::Own).await?;
        let mut topics = Vec::new();
        for number in 0..load.topics.max(1) {
            let before = publish_one(&connection, number, load.payload_bytes).await?;
            topics.push((before, load.events_of_topic(number)));
        }
        publish(target, load).await?;
        Ok(Self { topics })
    }

    /// How many there are.
    pub fn events(&self) -> u64 {
        self.topics.iter().map(|(_, events)| events).sum()
    }
}

/// Reads a backlog, each topic by a subscriber of its own at the same time, and returns the events
/// per second.
///
/// # Errors
///
/// If there are more or fewer.
pub async fn catchup(
    target: &Target,
    backlog: &Backlog,
    client: ClientKind,
) -> Result<f64, BenchError> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (number, (before, events)) in backlog.topics.iter().cloned().enumerate() {
        let target = target.clone();
        running.spawn(async move {
            let mut reader = Reader::begin(&target, number, before, client).await?;
            reader.read(events).await
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a subscriber of the bench does not panic")?;
    }
    Ok(backlog.events() as f64 / start.elapsed().as_secs_f64())
}
