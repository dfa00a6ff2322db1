use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    error::BenchError,
    load::{EventTemplate, LoadError},
    next,
    publish::{check_results, publish_one},
    reader::{ClientKind, Reader},
    target::Target,
};
use crate::client::{CallError, Connection};

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

    fn events(&self) -> u64 {
        u64::from(self.requests()) * u64::from(self.batch)
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
    Ok(steady(target, 0, load).await?.from_due)
}

/// How long the events of a steady load took, in microseconds.
pub(super) struct Latencies {
    /// From the moment when they were due.
    pub(super) from_due: Histogram<u64>,
    /// From the answer to their publisher, as far as it came first.
    pub(super) from_answer: Histogram<u64>,
}

/// Measures the latencies of a steady load on the topic with this number, which nobody else
/// publishes to.
pub(super) async fn steady(
    target: &Target,
    topic: usize,
    load: &LatencyLoad,
) -> Result<Latencies, BenchError> {
    let template = EventTemplate::new(topic, load.payload_bytes)?;
    template.request(load.batch as usize, 0.0)?;
    if load.step() > STEP_MAX {
        return Err(BenchError::Load(LoadError::TooSlow {
            found_s: load.step().as_secs(),
            max_s: STEP_MAX.as_secs(),
        }));
    }
    let publisher = target.connect(ClientKind::Own).await?;
    let before = publish_one(&publisher, topic, load.payload_bytes).await?;
    let reader = Reader::begin(target, topic, before, ClientKind::Own).await?;
    let epoch = Instant::now() + HEAD_START;
    // Each on its own, so that neither keeps the other waiting; both end with this.
    let mut running = JoinSet::new();
    let (events, load) = (template.clone(), *load);
    running.spawn(async move { publish_steadily(&publisher, &events, &load, epoch).await });
    running.spawn(async move { arrivals(reader, &template, load.events(), epoch).await });
    let mut times = Vec::new();
    while let Some(ended) = running.join_next().await {
        times.push(ended.expect("a task of the bench does not panic")?);
    }
    Ok(Latencies::of(times.concat()))
}

/// When the events of a request that was due at some time were answered, or arrived: seconds of the
/// same clock.
#[derive(Clone, Copy, Debug)]
enum Time {
    Answer { due: f64, at: f64 },
    Arrival { due: f64, at: f64 },
}

impl Latencies {
    fn of(times: Vec<Time>) -> Self {
        let empty = || {
            Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, SIGNIFICANT_DIGITS)
                .expect("such bounds are good ones")
        };
        let mut latencies = Self {
            from_due: empty(),
            from_answer: empty(),
        };
        let micros = |seconds: f64| (seconds * 1e6).max(1.0) as u64;
        let mut answers = times.iter().filter_map(|time| match *time {
            Time::Answer { due, at } => Some((due, at)),
            Time::Arrival { .. } => None,
        });
        let mut answer = answers.next();
        for time in &times {
            let Time::Arrival { due, at } = *time else {
                continue;
            };
            latencies.from_due.saturating_record(micros(at - due));
            // Both come in the order in which the events were sent.
            while answer.is_some_and(|(answered, _)| answered < due) {
                answer = answers.next();
            }
            if let Some((_, answered_at)) = answer {
                let waited = micros(at - answered_at);
                latencies.from_answer.saturating_record(waited);
            }
        }
        latencies
    }
}

/// Sends each request when it is due, and waits for the answers.
async fn publish_steadily(
    connection: &Connection,
    template: &EventTemplate,
    load: &LatencyLoad,
    epoch: Instant,
) -> Result<Vec<Time>, BenchError> {
    let (sender, requests) = mpsc::channel(REQUESTS_AHEAD);
    let (template, load) = (template.clone(), *load);
    // A thread of its own: the timers of the runtime would add up to a millisecond to each.
    let pacing = tokio::task::spawn_blocking(move || {
        for number in 0..load.requests() {
            let due = load.step() * number;
            std::thread::sleep((epoch + due).saturating_duration_since(Instant::now()));
            let request = template.request(load.batch as usize, due.as_secs_f64());
            // Nobody takes any more: the answers tell why.
            if sender.blocking_send(request?).is_err() {
                break;
            }
        }
        Ok::<_, BenchError>(())
    });
    let answers = async {
        let mut client = connection.pub_sub();
        let answers = client.publish_stream(ReceiverStream::new(requests)).await;
        let mut answers = answers.map_err(CallError::from)?.into_inner();
        let mut times = Vec::new();
        for number in 0..load.requests() {
            let found = check_results(&next(&mut answers).await?)?;
            if found != u64::from(load.batch) {
                return Err(BenchError::Miscounted {
                    what: "answered",
                    found,
                    wanted: load.batch.into(),
                });
            }
            times.push(Time::Answer {
                due: (load.step() * number).as_secs_f64(),
                at: since(epoch),
            });
        }
        Ok(times)
    };
    let times = answers.await?;
    pacing.await.expect("the pace does not panic")?;
    Ok(times)
}

/// Reads `wanted` events, and tells when each arrived.
async fn arrivals(
    mut reader: Reader,
    template: &EventTemplate,
    wanted: u64,
    epoch: Instant,
) -> Result<Vec<Time>, BenchError> {
    let mut times = Vec::new();
    while (times.len() as u64) < wanted {
        let delivery = reader.next().await?;
        let at = since(epoch);
        for event in delivery.events.values().iter() {
            let due = template.due(event).ok_or(BenchError::Foreign)?;
            times.push(Time::Arrival { due, at });
        }
    }
    Ok(times)
}

fn since(epoch: Instant) -> f64 {
    Instant::now()
        .saturating_duration_since(epoch)
        .as_secs_f64()
}

/// How long before the first event is due everything else is begun.
const HEAD_START: Duration = Duration::from_millis(200);
/// Longest time between two requests: well below how long the gateway may be quiet.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Requests that wait to be sent; what waits longer is measured from when it was due.
const REQUESTS_AHEAD: usize = 64;
/// What takes longer counts as this long: longer than a gateway may be quiet.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// Digits that are kept of a latency.
const SIGNIFICANT_DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_late_from_when_it_was_due_and_from_its_answer() {
        let answer = |due, at| Time::Answer { due, at };
        let arrival = |due, at| Time::Arrival { due, at };
        // The second request was answered only after its events had arrived.
        let times = vec![
            arrival(0.0, 0.003),
            arrival(0.0, 0.003),
            arrival(1.0, 1.002),
            answer(0.0, 0.001),
            answer(1.0, 1.5),
        ];
        let latencies = Latencies::of(times);
        let micros = |histogram: &Histogram<u64>| {
            (histogram.len(), histogram.min() / 10, histogram.max() / 10)
        };
        assert_eq!(micros(&latencies.from_due), (3, 200, 300));
        assert_eq!(micros(&latencies.from_answer), (3, 0, 200));
    }
}
