use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    error::BenchError,
    in_time,
    load::{EventTemplate, LoadError, PublishLoad},
    next,
    reader::ClientKind,
    target::Target,
};
use crate::{
    client::Connection,
    proto::{
        PublishResult,
        raw::{PublishRequest, PublishResponse},
    },
};

/// Publishes a load once, and returns the events per second from the first request to the last
/// answer.
///
/// # Errors
///
/// If an event is refused or not answered.
pub async fn publish(target: &Target, load: &PublishLoad) -> Result<f64, BenchError> {
    Publishers::connect(target, load).await?.run().await
}

/// The streams of a load that are about to begin.
pub(super) struct Publishers {
    /// Each with the requests that it sends in turn, and how many it sends.
    streams: Vec<(Connection, Vec<PublishRequest>, u64)>,
    load: PublishLoad,
}

impl Publishers {
    pub(super) async fn connect(target: &Target, load: &PublishLoad) -> Result<Self, BenchError> {
        Self::connect_with(target, load, |template| {
            Ok(vec![template.request(load.batch, 0.0)?])
        })
        .await
    }

    /// Streams the last event of every `period`th request of which is due at `due`, and the others at 0.
    pub(super) async fn connect_marking(
        target: &Target,
        load: &PublishLoad,
        period: usize,
        due: f64,
    ) -> Result<Self, BenchError> {
        Self::connect_with(target, load, |template| {
            let mut requests = vec![template.request(load.batch, 0.0)?; period];
            if let Some(last) = requests.last_mut() {
                *last = template.request_ending(load.batch, 0.0, due)?;
            }
            Ok(requests)
        })
        .await
    }

    async fn connect_with(
        target: &Target,
        load: &PublishLoad,
        requests: impl Fn(&EventTemplate) -> Result<Vec<PublishRequest>, LoadError>,
    ) -> Result<Self, BenchError> {
        let mut connections = Vec::new();
        for _ in 0..load.streams().min(CONNECTIONS_MAX) {
            connections.push(target.connect(ClientKind::Own).await?);
        }
        let mut streams = Vec::new();
        for (number, connection) in (0..load.streams()).zip(connections.iter().cycle()) {
            let template = EventTemplate::new(load.topic_of(number), load.payload_bytes)?;
            let requests = requests(&template)?;
            streams.push((connection.clone(), requests, load.requests_of(number)));
        }
        let load = *load;
        Ok(Self { streams, load })
    }

    /// Publishes the load, and returns the events per second.
    pub(super) async fn run(self) -> Result<f64, BenchError> {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for (connection, requests, count) in self.streams {
            running.spawn(stream(connection, requests, self.load.batch, count));
        }
        while let Some(ended) = running.join_next().await {
            ended.expect("a stream of the bench does not panic")?;
        }
        Ok(self.load.events_sent() as f64 / start.elapsed().as_secs_f64())
    }
}

/// Publishes one event to the load's topic with this number, and returns its replay id.
pub(super) async fn publish_one(
    connection: &Connection,
    number: usize,
    payload_bytes: usize,
) -> Result<Bytes, BenchError> {
    publish_due(connection, number, payload_bytes, 0.0).await
}

/// The same, with an event that is due at another time than 0.
pub(super) async fn publish_due(
    connection: &Connection,
    number: usize,
    payload_bytes: usize,
    due: f64,
) -> Result<Bytes, BenchError> {
    let request = EventTemplate::new(number, payload_bytes)?.request(1, due)?;
    let mut client = connection.pub_sub();
    let answer = in_time(client.publish(request)).await?.into_inner();
    check_results(&answer)?;
    let result = answer.results.values().shares().next();
    let result = result.and_then(|result| PublishResult::decode(result).ok());
    match result {
        Some(result) => Ok(result.replay_id),
        None => Err(BenchError::Miscounted {
            what: "answered",
            found: 0,
            wanted: 1,
        }),
    }
}

/// Sends `requests` in turn, over and over, until there are `count` of them on one stream, and waits for
/// the answer to every event.
async fn stream(
    connection: Connection,
    requests: Vec<PublishRequest>,
    batch: usize,
    count: u64,
) -> Result<(), BenchError> {
    if count == 0 {
        return Ok(());
    }
    let wanted = count * batch as u64;
    let (sender, receiver) = mpsc::channel(REQUESTS_AHEAD);
    tokio::spawn(async move {
        for request in requests.iter().cycle().take(count as usize) {
            // Nobody takes any more: the answers tell why.
            if sender.send(request.clone()).await.is_err() {
                return;
            }
        }
    });
    let mut client = connection.pub_sub();
    let answers = in_time(client.publish_stream(ReceiverStream::new(receiver))).await?;
    let mut answers = answers.into_inner();
    let mut found = 0;
    while found < wanted {
        found += check_results(&next(&mut answers).await?)?;
    }
    match found == wanted {
        true => Ok(()),
        false => Err(BenchError::Miscounted {
            what: "answered",
            found,
            wanted,
        }),
    }
}

/// The number of events that an answer is about, all of which were stored.
pub(super) fn check_results(answer: &PublishResponse) -> Result<u64, BenchError> {
    let results = answer.results.values();
    results.iter().try_for_each(check)?;
    Ok(results.len() as u64)
}

/// Whether an event was stored. A result begins with its replay id, which one that was refused does
/// not have; to decode each of them would take a good part of what is measured.
fn check(result: &[u8]) -> Result<(), BenchError> {
    if let [REPLAY_ID_KEY, 1..=u8::MAX, ..] = result {
        return Ok(());
    }
    let refused = PublishResult::decode(result)
        .ok()
        .and_then(|result| result.error);
    Err(BenchError::Refused(refused.map_or_else(
        || "without a reason".into(),
        |error| error.msg,
    )))
}

/// Requests that wait to be sent on a stream: enough that it never runs dry, and of 200 events less
/// than 4 MB.
const REQUESTS_AHEAD: usize = 64;
/// Connections that publish streams share, as programs do: a process may have 1,024 files.
const CONNECTIONS_MAX: usize = 16;
/// Field 1, with a length: the first byte of an encoded replay id.
const REPLAY_ID_KEY: u8 = 0x0a;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Error;

    #[test]
    fn a_result_without_a_replay_id_is_a_refusal() {
        let stored = PublishResult {
            replay_id: vec![0, 0, 1].into(),
            correlation_key: "a".into(),
            ..Default::default()
        };
        assert!(check(&stored.encode_to_vec()).is_ok());
        let refused = PublishResult {
            error: Some(Error {
                msg: "no such field".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let error = check(&refused.encode_to_vec()).unwrap_err();
        assert_eq!(error.to_string(), "an event was refused: no such field");
        assert!(check(&[]).is_err());
    }
}
