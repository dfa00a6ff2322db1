use std::time::Instant;

use bytes::Bytes;
use tokio::{task::JoinSet, time::timeout};

use super::{
    ANSWER_TIMEOUT,
    error::BenchError,
    load::{PublishLoad, topic},
    publish::{publish, publish_one},
    reader::{ClientKind, Reader},
    target::Target,
};
use crate::{
    subscriber::{Events, Item, OpaqueReplayId, Start, Subscriber},
    types::limits::CREDIT_MAX_EXTENDED,
};

/// What reads a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchupReader {
    /// A stream whose events are counted, and no more.
    Raw(ClientKind),
    /// The subscriber library, which decodes each event and is told that it is handled.
    Library,
}

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
    reader: CatchupReader,
) -> Result<f64, BenchError> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (number, (before, events)) in backlog.topics.iter().cloned().enumerate() {
        let target = target.clone();
        running.spawn(async move {
            match reader {
                CatchupReader::Raw(client) => {
                    let mut reader = Reader::begin(&target, number, before, client).await?;
                    reader.read(events).await
                }
                CatchupReader::Library => read_by_library(&target, number, &before, events).await,
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a subscriber of the bench does not panic")?;
    }
    Ok(backlog.events() as f64 / start.elapsed().as_secs_f64())
}

async fn read_by_library(
    target: &Target,
    number: usize,
    before: &Bytes,
    wanted: u64,
) -> Result<(), BenchError> {
    let before = OpaqueReplayId::new(before).map_err(|_| BenchError::Foreign)?;
    let topic = topic(number).parse().expect("the load's topics have names");
    let subscriber = Subscriber::builder(target.connect(ClientKind::Own).await?)
        .topic(topic)
        .start_at(Start::Behind(before))
        .max_in_flight(CREDIT_MAX_EXTENDED)
        .build()?;
    let mut events = subscriber.start();
    let mut found = 0;
    while found < wanted {
        // One wait for many events: to set a timer for each would take a part of what is measured.
        let some = timeout(ANSWER_TIMEOUT, read_some(&mut events, wanted - found)).await;
        found += some.map_err(|_| BenchError::Quiet(ANSWER_TIMEOUT))??;
    }
    Ok(())
}

/// Handles up to this many events, and not very many; returns how many there were.
async fn read_some(events: &mut Events, wanted: u64) -> Result<u64, BenchError> {
    let mut found = 0;
    while found < wanted.min(10_000) {
        match events.next().await? {
            Some(Item::Event(event)) => {
                event.schema().map_err(|_| BenchError::Foreign)?;
                event.done();
                found += 1;
            }
            Some(_) => {}
            None => return Err(BenchError::StreamEnded),
        }
    }
    Ok(found)
}
