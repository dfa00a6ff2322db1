//! Requests of many events, several of them under way at once, and results in the order of the
//! input.
//!
//! A request is sent as soon as one may be and there is nothing more to put into it at hand: a
//! single event never waits, and when the gateway is behind, requests grow until they are full.

use std::{collections::VecDeque, future::ready};

use bytes::Bytes;
use indicatif::ProgressBar;
use prost::Message;
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    event::{Encoded, EventWriter},
    input::{Line, Lines},
};
use crate::{
    cli::{
        exit::Failure,
        output::{Output, Record, hex},
    },
    client::{CallError, ClientError, Connection},
    proto::{
        PublishResult,
        raw::{PublishRequest, PublishResponse, Repeated},
    },
    types::{
        TopicName,
        limits::{
            PUBLISH_BATCH_BYTES_MAX, PUBLISH_BATCH_EVENTS_MAX, PUBLISH_LINE_BYTES_MAX,
            PUBLISH_REQUESTS_IN_FLIGHT_MAX,
        },
    },
};

/// Publishes lines and writes what became of each.
pub(super) struct Pipeline<'a, W> {
    connection: &'a Connection,
    topic: TopicName,
    writer: EventWriter,
    output: &'a mut Output<W>,
    progress: &'a ProgressBar,
    /// What the next request will hold.
    batch: Batch,
    /// An event that the batch has no room for.
    held: Option<(Slot, Bytes)>,
    /// What was sent and awaits its answer, oldest first.
    in_flight: VecDeque<Vec<Slot>>,
    stream: Option<Stream>,
    tally: Tally,
}

/// How many events came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) published: u64,
    pub(super) refused: u64,
}

/// The call that carries the requests. Dropping `requests` tells the gateway that there are no more.
struct Stream {
    requests: mpsc::Sender<PublishRequest>,
    responses: Streaming<PublishResponse>,
}

#[derive(Default)]
struct Batch {
    events: Vec<Bytes>,
    bytes: usize,
    slots: Vec<Slot>,
}

/// The place of one line among the results.
struct Slot {
    line: Option<u64>,
    state: SlotState,
}

enum SlotState {
    /// Part of a request; holds the event's id.
    Sent(String),
    /// Refused before anything was sent; holds the reason.
    Refused(String),
}

impl Batch {
    fn is_full(&self) -> bool {
        self.slots.len() >= PUBLISH_BATCH_EVENTS_MAX || self.bytes >= PUBLISH_BATCH_BYTES_MAX
    }
}

impl<'a, W: AsyncWrite + Unpin> Pipeline<'a, W> {
    pub(super) fn new(
        connection: &'a Connection,
        topic: TopicName,
        writer: EventWriter,
        output: &'a mut Output<W>,
        progress: &'a ProgressBar,
    ) -> Self {
        Self {
            connection,
            topic,
            writer,
            output,
            progress,
            batch: Batch::default(),
            held: None,
            in_flight: VecDeque::new(),
            stream: None,
            tally: Tally::default(),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Publishes every line of `source`. Each line that was read has its result when this returns,
    /// unless nobody reads results any more.
    pub(super) async fn run<R: AsyncRead + Unpin>(
        &mut self,
        mut source: Lines<R>,
    ) -> Result<(), Failure> {
        let ended = self.publish_all(&mut source).await;
        if let Err(Failure::Client(error)) = &ended {
            self.give_up(error).await?;
        }
        ended
    }

    async fn publish_all<R: AsyncRead + Unpin>(
        &mut self,
        source: &mut Lines<R>,
    ) -> Result<(), Failure> {
        let mut input = Ok(());
        let mut is_at_end = false;
        loop {
            if let Some((slot, event)) = self.held.take() {
                self.add(slot, event);
            }
            let may_read = !is_at_end && self.held.is_none() && !self.batch.is_full();
            let may_send = !self.batch.slots.is_empty()
                && self.in_flight.len() < PUBLISH_REQUESTS_IN_FLIGHT_MAX;
            tokio::select! {
                // Answers first: they make room. Then whatever can still join the next request;
                // it goes out when nothing more is at hand.
                biased;
                response = next_response(&mut self.stream), if !self.in_flight.is_empty() => {
                    self.answered(response?).await?;
                }
                line = source.next(), if may_read => {
                    match line {
                        Ok(Some(line)) => self.prepare(line),
                        Ok(None) => is_at_end = true,
                        // What was read before is published all the same.
                        Err(error) => {
                            let message = format!("the events cannot be read on: {error}");
                            input = Err(Failure::failed(message));
                            is_at_end = true;
                        }
                    }
                    self.progress.set_position(source.bytes_read());
                }
                () = ready(()), if may_send => self.send().await?,
                else => break,
            }
        }
        self.finish().await?;
        input
    }

    /// Encodes a line into the batch.
    fn prepare(&mut self, line: Line) {
        let encoded = match line.text {
            Some(text) => self.writer.encode(&text),
            None => Err(format!("a line has at most {PUBLISH_LINE_BYTES_MAX} bytes")),
        };
        self.put(line.number, encoded);
    }

    /// Puts an event into the batch, or the reason why there is none in its place.
    pub(super) fn put(&mut self, line: Option<u64>, event: Result<Encoded, String>) {
        match event {
            Ok(encoded) => {
                let slot = Slot {
                    line,
                    state: SlotState::Sent(encoded.id),
                };
                self.add(slot, encoded.bytes);
            }
            Err(reason) => self.batch.slots.push(Slot {
                line,
                state: SlotState::Refused(reason),
            }),
        }
    }

    /// Adds an event to the batch, or holds it if that would make the request too large.
    fn add(&mut self, slot: Slot, event: Bytes) {
        if self.batch.bytes + event.len() > PUBLISH_BATCH_BYTES_MAX {
            self.held = Some((slot, event));
            return;
        }
        self.batch.bytes += event.len();
        self.batch.events.push(event);
        self.batch.slots.push(slot);
    }

    /// Sends the batch; a batch without events has its results at once, or after those before it.
    async fn send(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.in_flight.push_back(batch.slots);
        if batch.events.is_empty() {
            return self.write_results_that_need_no_answer().await;
        }
        let request = PublishRequest {
            topic_name: self.topic.to_string(),
            events: Repeated::of(batch.events),
            auth_refresh: String::new(),
        };
        if let Some(stream) = &self.stream {
            // A closed channel means that the call ended; its status comes as the next response.
            _ = stream.requests.send(request).await;
            return Ok(());
        }
        // A gateway may answer the call only once it has the first request.
        let (requests, receiver) = mpsc::channel(PUBLISH_REQUESTS_IN_FLIGHT_MAX);
        requests
            .try_send(request)
            .expect("the channel is new and has room");
        let call = self.connection.pub_sub();
        let responses = { call }
            .publish_stream(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        self.stream = Some(Stream {
            requests,
            responses,
        });
        Ok(())
    }

    /// Writes the results of the oldest request.
    async fn answered(&mut self, response: PublishResponse) -> Result<(), Failure> {
        let slots = self.in_flight.pop_front().unwrap_or_default();
        let results = decode_results(&response)?;
        let sent = slots.iter().filter(|slot| slot.is_sent()).count();
        if results.len() != sent {
            let found = results.len();
            self.in_flight.push_front(slots);
            let reason = format!("it answered {sent} events with {found} results");
            return Err(CallError::connection_lost(&reason).into());
        }
        let mut results = results.into_iter();
        for slot in slots {
            let line = match slot.state {
                SlotState::Sent(id) => {
                    let result = results.next().expect("as many as were sent");
                    ResultLine::of_result(slot.line, id, result)
                }
                SlotState::Refused(reason) => ResultLine::refused(slot.line, None, &reason),
            };
            self.write(&line);
        }
        self.write_results_that_need_no_answer().await
    }

    async fn write_results_that_need_no_answer(&mut self) -> Result<(), Failure> {
        while let Some(slots) = self
            .in_flight
            .pop_front_if(|slots| !slots.iter().any(Slot::is_sent))
        {
            for slot in slots {
                if let SlotState::Refused(reason) = slot.state {
                    self.write(&ResultLine::refused(slot.line, None, &reason));
                }
            }
        }
        self.output.flush().await
    }

    /// Ends the call in good order.
    async fn finish(&mut self) -> Result<(), Failure> {
        let Some(stream) = self.stream.take() else {
            return Ok(());
        };
        drop(stream.requests);
        let mut responses = stream.responses;
        match responses.message().await? {
            None => Ok(()),
            Some(_) => Err(Failure::failed(
                "the gateway answered more requests than were sent",
            )),
        }
    }

    /// Writes a result for every line whose fate is unknown.
    async fn give_up(&mut self, error: &ClientError) -> Result<(), Failure> {
        let is_in_doubt = matches!(error, ClientError::Call(call) if call.is_connection_lost());
        let mut unsent = std::mem::take(&mut self.batch).slots;
        unsent.extend(self.held.take().map(|(slot, _)| slot));
        let unanswered: Vec<Slot> = self.in_flight.drain(..).flatten().collect();
        for (slots, reason) in [
            (
                unanswered,
                if is_in_doubt {
                    format!("not confirmed, and perhaps stored: {error}")
                } else {
                    error.to_string()
                },
            ),
            (unsent, format!("not sent: {error}")),
        ] {
            for slot in slots {
                let line = match slot.state {
                    SlotState::Sent(id) => ResultLine::refused(slot.line, Some(id), &reason),
                    SlotState::Refused(own) => ResultLine::refused(slot.line, None, &own),
                };
                self.write(&line);
            }
        }
        self.output.flush().await
    }

    fn write(&mut self, line: &ResultLine) {
        match line.error {
            None => self.tally.published += 1,
            Some(_) => self.tally.refused += 1,
        }
        self.output.record(line);
    }
}

impl Slot {
    fn is_sent(&self) -> bool {
        matches!(self.state, SlotState::Sent(_))
    }
}

/// The next response. An end without a status is a connection that broke.
async fn next_response(stream: &mut Option<Stream>) -> Result<PublishResponse, ClientError> {
    let Some(stream) = stream else {
        // Requests are only in flight on a stream; this arm keeps a mistake from spinning.
        return std::future::pending().await;
    };
    match stream.responses.message().await? {
        Some(response) => Ok(response),
        None => Err(CallError::connection_lost("the gateway ended the call").into()),
    }
}

fn decode_results(response: &PublishResponse) -> Result<Vec<PublishResult>, ClientError> {
    let results = response.results.values().iter();
    results
        .map(PublishResult::decode)
        .collect::<Result<_, _>>()
        .map_err(|error| Status::internal(format!("a result is malformed: {error}")).into())
}

/// What became of one event. The fields are the keys in JSON.
#[derive(Debug, PartialEq, Serialize)]
struct ResultLine {
    /// Set when the event was stored.
    replay_id: Option<String>,
    /// Unknown for a line that is no event.
    event_id: Option<String>,
    /// Why it was not stored, and the line it stands on.
    error: Option<String>,
}

impl ResultLine {
    fn of_result(line: Option<u64>, id: String, result: PublishResult) -> Self {
        match result.error {
            Some(error) => Self::refused(line, Some(id), &error.msg),
            None => Self {
                replay_id: Some(hex(&result.replay_id)),
                event_id: Some(id),
                error: None,
            },
        }
    }

    fn refused(line: Option<u64>, event_id: Option<String>, reason: &str) -> Self {
        let error = match line {
            Some(number) => format!("line {number}: {reason}"),
            None => reason.to_owned(),
        };
        Self {
            replay_id: None,
            event_id,
            error: Some(error),
        }
    }
}

impl Record for ResultLine {
    fn text(&self) -> String {
        let replay_id = self.replay_id.as_deref().unwrap_or("-");
        let event_id = self.event_id.as_deref().unwrap_or("-");
        match &self.error {
            None => format!("{replay_id:20}  {event_id}"),
            Some(error) => format!("{replay_id:20}  {event_id}  error: {error}"),
        }
    }
}
