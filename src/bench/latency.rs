use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    error::BenchError,
    load::{EventTemplate, LoadError, TOPIC},
    next,
    publish::check_results,
    target::Target,
};
use crate::{
    client::{CallError, Connection},
    proto::{FetchRequest, raw::FetchResponse},
    types::limits::CREDIT_MAX,
};

/// A load that comes at its own pace, however fast it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatencyLoad {
    /// Events of a second.
    pub rate: u32,
    /// Events of one request.
    pub batch: u32,
    /// How long they come.
    pub duration: Duration,
    /// Bytes of one payload, as near as the encoding allows, never more.
    pub payload_bytes: usize,
}

impl LatencyLoad {
    fn requests(&self) -> u32 {
        let events = self.duration.as_secs_f64() * f64::from(self.rate);
        ((events / f64::from(self.batch)) as u32).max(1)
    }

    fn step(&self) -> Duration {
        Duration::from_secs(1) * self.batch / self.rate
    }
}

/// Publishes at a steady pace while a subscriber reads along, and returns how long each event took
/// from the moment it was due to its arrival, in microseconds.
///
/// What is sent late counts from when it was due: a stall that keeps the load from being sent is
/// not hidden by that (coordinated omission).
///
/// # Errors
///
/// If an event is refused, does not arrive, or one arrives that is none of these.
pub async fn latency(target: &Target, load: &LatencyLoad) -> Result<Histogram<u64>, BenchError> {
    let template = EventTemplate::new(load.payload_bytes)?;
    template.request(load.batch as usize, 0.0)?;
    if load.step() > STEP_MAX {
        return Err(BenchError::Load(LoadError::TooSlow {
            found_s: load.step().as_secs(),
            max_s: STEP_MAX.as_secs(),
        }));
    }
    let (subscriber, publisher) = (target.connect().await?, target.connect().await?);
    let subscription = Subscription::begin(&subscriber).await?;
    let epoch = Instant::now();
    let wanted = u64::from(load.requests()) * u64::from(load.batch);
    // Each on its own, so that neither keeps the other waiting; both end with this.
    let mut running = JoinSet::new();
    let (events, load) = (template.clone(), *load);
    running.spawn(async move {
        publish_steadily(&publisher, &events, &load, epoch)
            .await
            .map(|()| None)
    });
    running.spawn(async move { subscription.read(&template, wanted, epoch).await.map(Some) });
    let mut latencies = None;
    while let Some(ended) = running.join_next().await {
        let ended = ended.expect("a task of the bench does not panic")?;
        latencies = latencies.or(ended);
    }
    Ok(latencies.expect("the subscriber gives them"))
}

/// Sends each request when it is due, and waits for the answers.
async fn publish_steadily(
    connection: &Connection,
    template: &EventTemplate,
    load: &LatencyLoad,
    epoch: Instant,
) -> Result<(), BenchError> {
    let (sender, requests) = mpsc::channel(REQUESTS_AHEAD);
    let (template, load) = (template.clone(), *load);
    let pacing = async move {
        for number in 0..load.requests() {
            let due = HEAD_START + load.step() * number;
            tokio::time::sleep_until((epoch + due).into()).await;
            let request = template.request(load.batch as usize, due.as_secs_f64())?;
            if sender.send(request).await.is_err() {
                break;
            }
        }
        Ok::<_, BenchError>(())
    };
    let wanted = u64::from(load.requests()) * u64::from(load.batch);
    let answers = async {
        let mut client = connection.pub_sub();
        let answers = client.publish_stream(ReceiverStream::new(requests)).await;
        let mut answers = answers.map_err(CallError::from)?.into_inner();
        let mut found = 0;
        while found < wanted {
            found += check_results(&next(&mut answers).await?)?;
        }
        Ok::<_, BenchError>(())
    };
    tokio::try_join!(pacing, answers).map(|_| ())
}

/// A subscription that has begun, at the latest event.
struct Subscription {
    credit: mpsc::Sender<FetchRequest>,
    deliveries: Streaming<FetchResponse>,
}

impl Subscription {
    async fn begin(connection: &Connection) -> Result<Self, BenchError> {
        let (credit, requests) = mpsc::channel(CREDIT_REQUESTS_AHEAD);
        // There is room for the first one.
        _ = credit.send(ask(CREDIT_MAX as usize)).await;
        let mut client = connection.pub_sub();
        let deliveries = client.subscribe(ReceiverStream::new(requests)).await;
        Ok(Self {
            credit,
            deliveries: deliveries.map_err(CallError::from)?.into_inner(),
        })
    }

    /// Reads `wanted` events, and tells how late each was.
    async fn read(
        mut self,
        template: &EventTemplate,
        wanted: u64,
        epoch: Instant,
    ) -> Result<Histogram<u64>, BenchError> {
        let mut latencies = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, SIGNIFICANT_DIGITS)
            .expect("such bounds are good ones");
        while latencies.len() < wanted {
            let delivery = next(&mut self.deliveries).await?;
            let now = epoch.elapsed().as_secs_f64();
            let events = delivery.events.values();
            for event in events.iter() {
                let due = template.due(event).ok_or(BenchError::Foreign)?;
                latencies.saturating_record(((now - due) * 1e6).max(1.0) as u64);
            }
            if !events.is_empty() {
                // Where the stream has ended, the next delivery tells why.
                _ = self.credit.send(ask(events.len())).await;
            }
        }
        Ok(latencies)
    }
}

fn ask(events: usize) -> FetchRequest {
    FetchRequest {
        topic_name: TOPIC.into(),
        num_requested: events as i32,
        ..Default::default()
    }
}

/// How long before the first event is due everything else is begun: a subscription begins at the
/// latest event once the gateway has seen it, which nothing tells the subscriber.
const HEAD_START: Duration = Duration::from_millis(500);
/// Longest time between two requests: well below how long the gateway may be quiet.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Requests that wait to be sent; what waits longer is measured from when it was due.
const REQUESTS_AHEAD: usize = 64;
/// Requests for credit that wait to be sent: one for each delivery that was not answered yet.
const CREDIT_REQUESTS_AHEAD: usize = 16;
/// What takes longer counts as this long: longer than a gateway may be quiet.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// Digits that are kept of a latency.
const SIGNIFICANT_DIGITS: u8 = 3;
