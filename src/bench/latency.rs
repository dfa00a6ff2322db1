use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    error::BenchError,
    in_time,
    load::{EventTemplate, LoadError},
    next,
    publish::{check_results, publish_one},
    reader::{ClientKind, Reader},
    target::Target,
};
use crate::client::Connection;

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
    pub(super) fn requests(&self) -> u32 {
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
    let steady = Steady::prepare(target, 0, load).await?;
    Ok(steady.run(false).await?.from_due)
}

/// How long the events of a steady load took, in microseconds.
pub(super) struct Latencies {
    /// From the moment when they were due.
    pub(super) from_due: Histogram<u64>,
    /// Each request from the answer to its publisher, as far as it came first.
    pub(super) from_answer: Histogram<u64>,
}

/// A steady load that is about to begin, on a topic that nobody else publishes to.
pub(super) struct Steady {
    load: LatencyLoad,
    template: EventTemplate,
    publisher: Connection,
    reader: Reader,
}

impl Steady {
    /// Connects the publisher, and the subscriber of the topic with this number.
    pub(super) async fn prepare(
        target: &Target,
        topic: usize,
        load: &LatencyLoad,
    ) -> Result<Self, BenchError> {
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
        Ok(Self {
            load: *load,
            template,
            publisher,
            reader: Reader::begin(target, topic, before, ClientKind::Own).await?,
        })
    }

    /// Runs the load, whose first event is due [`HEAD_START`] from now. The times from the answers are
    /// only kept `with_answers`: they take memory for each request.
    pub(super) async fn run(self, with_answers: bool) -> Result<Latencies, BenchError> {
        let epoch = Instant::now() + HEAD_START;
        let (load, template) = (self.load, self.template);
        // Each on a task of its own, so that neither keeps the other waiting; both end with this.
        let mut publishing = JoinSet::new();
        let (publisher, events) = (self.publisher, template.clone());
        publishing.spawn(async move {
            publish_steadily(&publisher, &events, &load, epoch, with_answers).await
        });
        let mut reading = JoinSet::new();
        let reader = self.reader;
        reading.spawn(async move { arrivals(reader, &template, &load, epoch, with_answers).await });
        let (answers, arrivals) = tokio::try_join!(only(publishing), only(reading))?;
        let mut from_answer = empty();
        for (answered_at, arrived_at) in answers.into_iter().zip(arrivals.of_requests) {
            from_answer.saturating_record(micros(arrived_at - answered_at));
        }
        Ok(Latencies {
            from_due: arrivals.from_due,
            from_answer,
        })
    }
}

/// What the only task of a set comes to.
async fn only<T: 'static>(mut tasks: JoinSet<Result<T, BenchError>>) -> Result<T, BenchError> {
    let ended = tasks.join_next().await.expect("there is a task");
    ended.expect("a task of the bench does not panic")
}

/// Sends each request when it is due, and waits for the answers; returns when they came, in seconds
/// since `epoch`.
pub(super) async fn publish_steadily(
    connection: &Connection,
    template: &EventTemplate,
    load: &LatencyLoad,
    epoch: Instant,
    with_answers: bool,
) -> Result<Vec<f64>, BenchError> {
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
    let mut client = connection.pub_sub();
    let answers = in_time(client.publish_stream(ReceiverStream::new(requests))).await?;
    let mut answers = answers.into_inner();
    let mut times = Vec::new();
    for _ in 0..load.requests() {
        let found = check_results(&next(&mut answers).await?)?;
        if found != u64::from(load.batch) {
            return Err(BenchError::Miscounted {
                what: "answered",
                found,
                wanted: load.batch.into(),
            });
        }
        if with_answers {
            times.push(since(epoch));
        }
    }
    pacing.await.expect("the pace does not panic")?;
    Ok(times)
}

/// When events arrived.
struct Arrivals {
    from_due: Histogram<u64>,
    /// The last event of each request, in seconds since the epoch.
    of_requests: Vec<f64>,
}

/// Reads the events of the load, each of them once and in order.
async fn arrivals(
    mut reader: Reader,
    template: &EventTemplate,
    load: &LatencyLoad,
    epoch: Instant,
    with_answers: bool,
) -> Result<Arrivals, BenchError> {
    let mut arrivals = Arrivals {
        from_due: empty(),
        of_requests: Vec::new(),
    };
    for number in 0..load.requests() {
        let due = (load.step() * number).as_secs_f64();
        let mut left = load.batch;
        while left > 0 {
            let (found, at) = (reader.next_event().await?, since(epoch));
            if template.due(&found) != Some(due) {
                return Err(BenchError::Foreign);
            }
            arrivals.from_due.saturating_record(micros(at - due));
            left -= 1;
            if left == 0 && with_answers {
                arrivals.of_requests.push(at);
            }
        }
    }
    Ok(arrivals)
}

pub(super) fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, SIGNIFICANT_DIGITS)
        .expect("such bounds are good ones")
}

/// What came before it could be waited for took no time.
pub(super) fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).max(1.0) as u64
}

fn since(epoch: Instant) -> f64 {
    Instant::now()
        .saturating_duration_since(epoch)
        .as_secs_f64()
}

/// How long before the first event is due everything else is begun.
pub(super) const HEAD_START: Duration = Duration::from_millis(200);
/// Longest time between two requests: well below how long the gateway may be quiet.
const STEP_MAX: Duration = Duration::from_secs(10);
/// Requests that wait to be sent; what waits longer is measured from when it was due.
const REQUESTS_AHEAD: usize = 64;
/// What takes longer counts as this long: longer than a gateway may be quiet.
const LATENCY_MICROS_MAX: u64 = 60_000_000;
/// Digits that are kept of a latency.
const SIGNIFICANT_DIGITS: u8 = 3;
