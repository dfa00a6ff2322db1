//! The task that has the publish stream: it sends requests, several at once, and settles them in
//! their order.
//!
//! What is not answered is kept, so that it can be sent again, before anything that came after it.
//! When the stream ends, a new one is opened as soon as there is something to send.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{
    batch::Sealed,
    error::PublishError,
    queue::Queue,
    retry::{Meaning, Resend, Retry},
};
use crate::{
    client::{CallError, ClientError, Connection},
    proto::raw::{PublishRequest, PublishResponse},
    types::{
        TopicName,
        limits::{
            PUBLISH_ANSWER_WAIT, PUBLISH_BYTES_IN_FLIGHT_MAX, PUBLISH_PARTIAL_IN_FLIGHT_MAX,
            PUBLISH_REQUESTS_IN_FLIGHT_MAX, PUBLISH_STREAM_KEPT,
        },
    },
};

/// Sends what is in the queue.
pub(super) struct StreamTask {
    connection: Connection,
    topic: TopicName,
    queue: Arc<Queue>,
    resend: Resend,
    retry: Retry,
    waits: Waits,
    /// What has no answer, oldest first; at most [`PUBLISH_REQUESTS_IN_FLIGHT_MAX`], and no more
    /// once these are [`PUBLISH_BYTES_IN_FLIGHT_MAX`].
    in_flight: VecDeque<Sealed>,
    /// How many of these, from the oldest, were sent on the stream that stands.
    sent: usize,
    stream: Option<Stream>,
    /// Nothing is sent before, after a failure.
    not_before: Option<Instant>,
    /// When something was last sent or answered.
    active_at: Instant,
}

/// How long a stream may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// When nothing is under way: then it is given up.
    pub(super) stream_kept: Duration,
    /// When an answer is due: then the connection counts as lost.
    pub(super) answer: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            stream_kept: PUBLISH_STREAM_KEPT,
            answer: PUBLISH_ANSWER_WAIT,
        }
    }
}

/// The call that carries the requests. Dropping `requests` tells the gateway that there are no more.
struct Stream {
    requests: mpsc::Sender<PublishRequest>,
    responses: Responses,
    /// Whether the gateway has answered a request on it.
    has_answered: bool,
    /// Which of the connection's tokens it was opened with.
    generation: u64,
}

enum Responses {
    /// A gateway may take its time until it has the first request, or longer.
    Opening(Opening),
    Open(Box<Streaming<PublishResponse>>),
}

type Opening =
    Pin<Box<dyn Future<Output = Result<Response<Streaming<PublishResponse>>, Status>> + Send>>;

impl StreamTask {
    pub(super) fn new(
        connection: Connection,
        topic: TopicName,
        queue: Arc<Queue>,
        resend: Resend,
        retry: Retry,
        waits: Waits,
    ) -> Self {
        Self {
            connection,
            topic,
            queue,
            resend,
            retry,
            waits,
            in_flight: VecDeque::new(),
            sent: 0,
            stream: None,
            not_before: None,
            active_at: Instant::now(),
        }
    }

    /// Runs until the queue is closed and everything in it is settled, or until nothing more can be
    /// published.
    pub(super) async fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        loop {
            self.send();
            if self.not_before.is_none() && self.in_flight.is_empty() && queue.is_closing() {
                // Every event has its result; how the call ends says nothing more.
                self.half_close().await;
                return;
            }
            let timer = self.timer();
            tokio::select! {
                // Answers first: they make room.
                biased;
                response = next_response(&mut self.stream), if self.stream.is_some() => {
                    let ended = match response {
                        Ok(Some(response)) => self.answered(&response),
                        Ok(None) => self.lost("the gateway ended the call").await,
                        Err(status) => self.failed(status.into()).await,
                    };
                    if let Err(error) = ended {
                        return self.end(&error);
                    }
                }
                () = tokio::time::sleep_until(timer.unwrap_or(self.active_at)),
                    if timer.is_some() =>
                {
                    if let Err(error) = self.timer_rang().await {
                        return self.end(&error);
                    }
                }
                () = queue.work() => {}
            }
        }
    }

    /// Sends what may be sent: first what was sent before, on a stream that is no more.
    fn send(&mut self) {
        if self.not_before.is_some() {
            return;
        }
        loop {
            if self.sent == self.in_flight.len() {
                let bytes: usize = self.in_flight.iter().map(Sealed::bytes).sum();
                if self.sent >= PUBLISH_REQUESTS_IN_FLIGHT_MAX
                    || bytes >= PUBLISH_BYTES_IN_FLIGHT_MAX
                {
                    return;
                }
                let partial = self.sent < PUBLISH_PARTIAL_IN_FLIGHT_MAX;
                let Some(batch) = self.queue.take(partial) else {
                    return;
                };
                self.in_flight.push_back(batch);
            }
            let request = self.in_flight[self.sent].request(&self.topic);
            let stream = self.stream.get_or_insert_with(|| open(&self.connection));
            // There is room for as many as may be in flight. A closed channel means that the call
            // ended; its status comes as the next response.
            _ = stream.requests.try_send(request);
            self.sent += 1;
            self.active_at = Instant::now();
        }
    }

    /// When to do something although nothing was heard.
    fn timer(&self) -> Option<Instant> {
        if self.not_before.is_some() {
            return self.not_before;
        }
        self.stream.as_ref()?;
        let wait = match self.sent {
            0 => self.waits.stream_kept,
            _ => self.waits.answer,
        };
        Some(self.active_at + wait)
    }

    async fn timer_rang(&mut self) -> Result<(), PublishError> {
        if self.not_before.take().is_some() {
            return Ok(());
        }
        if self.sent > 0 {
            return self.lost("no answer came").await;
        }
        self.half_close().await;
        Ok(())
    }

    /// Settles the oldest request.
    fn answered(&mut self, response: &PublishResponse) -> Result<(), PublishError> {
        let odd = match self.in_flight.front() {
            Some(oldest) if self.sent > 0 => oldest.answered(response).err(),
            _ => {
                let reason = "it answered more requests than were sent";
                return Err(PublishError::Unconfirmed(broken(reason)));
            }
        };
        if let Some(odd) = odd {
            // What such a gateway did with the others is anybody's guess.
            self.doubt(0);
            return Err(PublishError::Unconfirmed(broken(&odd.to_string())));
        }
        self.settle_oldest();
        self.sent -= 1;
        self.active_at = Instant::now();
        self.retry.answered();
        if let Some(stream) = &mut self.stream {
            stream.has_answered = true;
        }
        Ok(())
    }

    async fn lost(&mut self, reason: &str) -> Result<(), PublishError> {
        self.failed(CallError::connection_lost(reason)).await
    }

    /// The stream ended, or is given up. An error says that nothing more is published.
    async fn failed(&mut self, error: CallError) -> Result<(), PublishError> {
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        if self.sent == 0 {
            // It was idle; the next request gets another one.
            return Ok(());
        }
        let meaning = Meaning::of(&error);
        match meaning {
            Meaning::NotSent => {}
            Meaning::InDoubt => self.doubt(0),
            // The gateway may have been at work on those behind it.
            Meaning::Busy | Meaning::RequestRefused => self.doubt(1),
            Meaning::UnknownCaller | Meaning::CallerRefused if stream.has_answered => self.doubt(1),
            Meaning::UnknownCaller | Meaning::CallerRefused => {}
        }
        self.sent = 0;
        match meaning {
            Meaning::CallerRefused => return Err(PublishError::RequestRefused(error)),
            Meaning::UnknownCaller => {
                let renewing = self.retry.renew(&self.connection, stream.generation);
                let Some(wait) = renewing.await else {
                    return Err(PublishError::RequestRefused(error));
                };
                self.not_before = Some(Instant::now() + wait);
            }
            Meaning::RequestRefused => {
                if let Some(oldest) = self.in_flight.front() {
                    oldest.failed(failure(
                        oldest,
                        &PublishError::RequestRefused(error.clone()),
                    ));
                    self.settle_oldest();
                }
            }
            Meaning::NotSent | Meaning::Busy | Meaning::InDoubt => {
                let Some(wait) = self.retry.next_wait() else {
                    return Err(match meaning {
                        Meaning::Busy => PublishError::RequestRefused(error),
                        _ => PublishError::Connection(error.into()),
                    });
                };
                self.not_before = Some(Instant::now() + wait);
            }
        }
        if self.resend == Resend::Never {
            self.settle_doubtful(&error.into());
        }
        Ok(())
    }

    /// Notes that what was sent may have been stored, but for the oldest `spared`.
    fn doubt(&mut self, spared: usize) {
        let sent = self.in_flight.iter_mut().take(self.sent).skip(spared);
        sent.for_each(|batch| batch.is_in_doubt = true);
    }

    fn settle_doubtful(&mut self, error: &ClientError) {
        let (queue, mut settled) = (&self.queue, 0);
        self.in_flight.retain(|batch| {
            if batch.is_in_doubt {
                batch.failed(PublishError::Unconfirmed(error.clone()));
                settled += batch.events;
            }
            !batch.is_in_doubt
        });
        queue.settle(settled);
    }

    fn settle_oldest(&mut self) {
        if let Some(oldest) = self.in_flight.pop_front() {
            self.queue.settle(oldest.events);
        }
    }

    /// Fails whatever is left. What comes later would overtake it, so nothing more is taken.
    fn end(&mut self, error: &PublishError) {
        self.stream = None;
        while let Some(oldest) = self.in_flight.front() {
            oldest.failed(failure(oldest, error));
            self.settle_oldest();
        }
        self.queue.end(&unsent(error));
    }

    /// Ends a stream that carries nothing in good order.
    async fn half_close(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        drop(stream.requests);
        if let Responses::Open(mut responses) = stream.responses {
            // A gateway that does not end it has it cancelled.
            _ = tokio::time::timeout(HALF_CLOSE_WAIT, responses.message()).await;
        }
    }
}

impl Drop for StreamTask {
    fn drop(&mut self) {
        // Nobody waits for ever for the results of a publisher that was dropped.
        if self.queue.ended().is_none() || !self.in_flight.is_empty() {
            self.doubt(0);
            self.end(&PublishError::Closed);
        }
    }
}

/// What to say of a batch when publishing ends with `error`.
fn failure(batch: &Sealed, error: &PublishError) -> PublishError {
    if !batch.is_in_doubt {
        return error.clone();
    }
    let error = error.client_error();
    PublishError::Unconfirmed(error.unwrap_or_else(|| broken("the publisher was dropped")))
}

/// What to say of events that were never sent.
fn unsent(error: &PublishError) -> PublishError {
    match error {
        PublishError::Unconfirmed(error) => PublishError::Connection(error.clone()),
        other => other.clone(),
    }
}

fn broken(reason: &str) -> ClientError {
    CallError::connection_lost(reason).into()
}

fn open(connection: &Connection) -> Stream {
    let (requests, receiver) = mpsc::channel(PUBLISH_REQUESTS_IN_FLIGHT_MAX);
    let mut client = connection.pub_sub();
    let generation = connection.credentials_generation();
    let opening = async move { client.publish_stream(ReceiverStream::new(receiver)).await };
    Stream {
        requests,
        responses: Responses::Opening(Box::pin(opening)),
        has_answered: false,
        generation,
    }
}

/// The next response; `None` at the end of the call.
async fn next_response(stream: &mut Option<Stream>) -> Result<Option<PublishResponse>, Status> {
    let Some(stream) = stream else {
        return std::future::pending().await;
    };
    loop {
        match &mut stream.responses {
            Responses::Open(responses) => return responses.message().await,
            Responses::Opening(opening) => {
                let responses = opening.await?.into_inner();
                stream.responses = Responses::Open(Box::new(responses));
            }
        }
    }
}

/// How long a gateway may take to end a call that carries nothing. It has nothing left to do.
const HALF_CLOSE_WAIT: Duration = Duration::from_secs(5);
