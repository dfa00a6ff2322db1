use std::time::Instant;

use bytes::Bytes;

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
    /// The event before the first.
    after: Bytes,
    /// How many there are.
    pub events: u64,
}

impl Backlog {
    /// Publishes the events.
    ///
    /// # Errors
    ///
    /// If one is refused or not answered.
    pub async fn publish(target: &Target, load: &PublishLoad) -> Result<Self, BenchError> {
        let connection = target.connect(ClientKind::Own).await?;
        let after = publish_one(&connection, 0, load.payload_bytes).await?;
        publish(target, load).await?;
        Ok(Self {
            after,
            events: load.events_of_topic(0),
        })
    }
}

/// Reads a backlog, and returns the events per second.
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
    let after = backlog.after.clone();
    let mut reader = Reader::begin(target, 0, after, client).await?;
    reader.read(backlog.events).await?;
    Ok(backlog.events as f64 / start.elapsed().as_secs_f64())
}
