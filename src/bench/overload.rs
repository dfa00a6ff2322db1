//! More load than the disk takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{
    child::Child,
    error::BenchError,
    in_time,
    latency::{HEAD_START, LatencyLoad, Steady},
    load::EventTemplate,
    publish::check_results,
    reader::ClientKind,
    target::Target,
};
use crate::proto::raw::{PublishRequest, PublishResponse};

/// Publishers that never wait, and a subscriber of another topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverloadLoad {
    /// Publish streams, each on a connection of its own.
    pub streams: usize,
    /// Calls of `Publish` that are under way at the same time, on a connection of their own.
    pub calls: usize,
    /// Events of each request.
    pub batch: usize,
    /// Bytes of one payload, as near as the encoding allows, never more.
    pub payload_bytes: usize,
    /// How long it goes on.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Overload {
    /// Events per second that were stored.
    pub published: f64,
    /// Memory of the gateway before, in MB of 2^20 bytes.
    pub memory_before_mb: f64,
    /// The most memory that it had.
    pub memory_peak_mb: f64,
    /// Calls of `Publish` that were refused for want of room, all retryable.
    pub calls_refused: u64,
    /// From the moment an event is due to its arrival, 99 of 100, without the load.
    pub unloaded_p99_micros: u64,
    /// From an event's acknowledgement to its arrival, 99 of 100, under the load.
    pub loaded_p99_micros: u64,
}

/// Measures a steady load on the second topic by itself, and again while the first one is published
/// to as fast as it goes.
///
/// # Errors
///
/// If a stream is refused, or a call for another reason than want of room.
pub async fn overload(
    child: &Child,
    target: &Target,
    load: &OverloadLoad,
) -> Result<Overload, BenchError> {
    let unloaded = LatencyLoad {
        duration: load.duration.min(UNLOADED_MAX),
        ..STEADY
    };
    let unloaded = Steady::prepare(target, 1, &unloaded).await?;
    let unloaded = unloaded.run(true).await?;
    let memory_before_mb = child.memory_mb()?;
    let loaded = LatencyLoad {
        duration: load.duration,
        ..STEADY
    };
    let steady = Steady::prepare(target, 1, &loaded).await?;
    let request = EventTemplate::new(0, load.payload_bytes)?.request(load.batch, 0.0)?;
    let batch = load.batch as u64;
    let over = Arc::new(Over::default());
    let mut running = JoinSet::new();
    let start = Instant::now();
    for _ in 0..load.streams {
        let (target, request, over) = (target.clone(), request.clone(), Arc::clone(&over));
        running.spawn(async move { stream(&target, request, batch, &over).await });
    }
    let connection = target.connect(ClientKind::Own).await?;
    for _ in 0..load.calls {
        let (mut client, request) = (connection.pub_sub(), request.clone());
        let over = Arc::clone(&over);
        running.spawn(async move {
            while !over.is_over.load(Ordering::Relaxed) {
                match in_time(client.publish(request.clone())).await {
                    Ok(answer) => over.note(&answer.into_inner(), batch)?,
                    Err(BenchError::Call(error))
                        if error.code() == Code::ResourceExhausted && error.is_retryable() =>
                    {
                        over.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
    }
    // The load lasts as long as the steady one; what the disk has not taken by then is waited for.
    let drained = async {
        tokio::time::sleep(HEAD_START + load.duration).await;
        over.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = running.join_next().await {
            ended.expect("a publisher of the bench does not panic")?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let (loaded, seconds) = tokio::try_join!(steady.run(true), drained)?;
    Ok(Overload {
        published: over.stored.load(Ordering::Relaxed) as f64 / seconds,
        memory_before_mb,
        memory_peak_mb: child.peak_memory_mb()?,
        calls_refused: over.refused.load(Ordering::Relaxed),
        unloaded_p99_micros: unloaded.from_due.value_at_quantile(0.99),
        loaded_p99_micros: loaded.from_answer.value_at_quantile(0.99),
    })
}

/// What the publishers know of each other.
#[derive(Debug, Default)]
struct Over {
    is_over: AtomicBool,
    stored: AtomicU64,
    refused: AtomicU64,
}

impl Over {
    /// Counts the events of an answer, which has to be about a whole request.
    fn note(&self, answer: &PublishResponse, wanted: u64) -> Result<(), BenchError> {
        let found = check_results(answer)?;
        if found != wanted {
            return Err(BenchError::Miscounted {
                what: "answered",
                found,
                wanted,
            });
        }
        self.stored.fetch_add(found, Ordering::Relaxed);
        Ok(())
    }
}

/// Publishes on a stream until it is over.
async fn stream(
    target: &Target,
    request: PublishRequest,
    batch: u64,
    over: &Arc<Over>,
) -> Result<(), BenchError> {
    let connection = target.connect(ClientKind::Own).await?;
    let (sender, receiver) = mpsc::channel(REQUESTS_AHEAD);
    let sending = Arc::clone(over);
    let sent = tokio::spawn(async move {
        let mut sent = 0;
        while !sending.is_over.load(Ordering::Relaxed) && sender.send(request.clone()).await.is_ok()
        {
            sent += batch;
        }
        sent
    });
    let mut client = connection.pub_sub();
    let answers = in_time(client.publish_stream(ReceiverStream::new(receiver))).await?;
    let mut answers = answers.into_inner();
    let mut answered = 0;
    // The stream ends once all is answered that was sent.
    while let Some(answer) = in_time(answers.message()).await? {
        over.note(&answer, batch)?;
        answered += batch;
    }
    let sent = sent.await.expect("sending does not panic");
    match answered == sent {
        true => Ok(()),
        false => Err(BenchError::Miscounted {
            what: "answered",
            found: answered,
            wanted: sent,
        }),
    }
}

/// What the subscriber reads: little, so that its own publisher keeps the pace while each event waits
/// for the disk.
const STEADY: LatencyLoad = LatencyLoad {
    rate: 50,
    batch: 1,
    duration: Duration::ZERO,
    payload_bytes: 200,
};
/// Enough for a p99.
const UNLOADED_MAX: Duration = Duration::from_secs(10);
const REQUESTS_AHEAD: usize = 16;
