//! From an input through a publisher to result lines, in the order of the input.

use std::{collections::VecDeque, time::Duration};

use indicatif::ProgressBar;
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    event::EventWriter,
    resume::Resume,
    source::{Content, Item, Place, Source},
};
use crate::{
    cli::{
        exit::Failure,
        output::{Output, Record, hex, warn},
    },
    client::{ClientError, Connection},
    publisher::{Event, FailedEvent, PublishError, Published, Publisher, Ticket},
    schema::Schema,
    types::limits::{PUBLISH_INTERRUPT_WAIT, PUBLISH_LINE_BYTES_MAX, PUBLISH_RESULTS_PENDING_MAX},
};

/// Publishes what an input has and writes what became of each.
pub(super) struct Pipeline<'a, W> {
    connection: &'a Connection,
    publisher: Publisher,
    writer: EventWriter,
    output: &'a mut Output<W>,
    progress: &'a ProgressBar,
    resume: Option<Resume>,
    /// How the records of a container are sent, once its schema is known.
    container: Option<ContainerPlan>,
    /// How many items were read.
    read: u64,
    /// What has no result line yet, oldest first.
    pending: VecDeque<Slot>,
    tally: Tally,
    /// What ended the publisher, or one of its events without a final result.
    failure: Option<PublishError>,
    /// Whether an event may be stored that has no final result.
    is_in_doubt: bool,
}

/// How many events came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) published: u64,
    pub(super) refused: u64,
    /// Not sent, or not answered.
    pub(super) unsettled: u64,
}

impl Tally {
    pub(super) fn total(self) -> u64 {
        self.published + self.refused + self.unsettled
    }

    /// The whole run in one line.
    pub(super) fn summary(self, elapsed: Duration) -> String {
        let mut text = format!(
            "published {} events in {:.1} s",
            grouped(self.published),
            elapsed.as_secs_f64()
        );
        for (count, what) in [
            (self.refused, "refused"),
            (self.unsettled, "not confirmed or not sent"),
        ] {
            if count > 0 {
                text += &format!(", {} {what}", grouped(count));
            }
        }
        text
    }
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How the records of a container become events.
enum ContainerPlan {
    /// As they are: the gateway knows their schema by this id.
    AsIs(std::sync::Arc<str>),
    /// As JSON, by the topic's schema: theirs is not the gateway's.
    ByJson(Schema),
}

/// The place of one item among the results.
struct Slot {
    place: Place,
    state: State,
}

enum State {
    Sent(Ticket),
    /// It is no event; holds the reason.
    Refused(String),
    /// The publisher took it no more.
    Unsent(FailedEvent),
}

/// Why no more is read.
enum Stop {
    /// There is no more, or reading it failed.
    InputEnded(Result<(), Failure>),
    Interrupted,
    /// Nothing more can be published.
    Failed,
}

impl<'a, W: AsyncWrite + Unpin> Pipeline<'a, W> {
    pub(super) fn new(
        connection: &'a Connection,
        publisher: Publisher,
        writer: EventWriter,
        output: &'a mut Output<W>,
        progress: &'a ProgressBar,
        resume: Option<Resume>,
    ) -> Self {
        Self {
            connection,
            publisher,
            writer,
            output,
            progress,
            resume,
            container: None,
            read: 0,
            pending: VecDeque::new(),
            tally: Tally::default(),
            failure: None,
            is_in_doubt: false,
        }
    }

    /// Publishes one event, or says why there is none.
    pub(super) async fn run_single(
        mut self,
        event: Result<Event, String>,
    ) -> (Tally, Result<(), Failure>) {
        _ = self.put(Place::Only, event).await;
        let stop = Stop::InputEnded(Ok(()));
        self.end(stop).await
    }

    /// Publishes every item of `source` until `interrupted`. Each item that was read has its result
    /// line when this returns, unless nobody reads results any more.
    pub(super) async fn run<R: AsyncRead + Unpin>(
        mut self,
        mut source: Source<R>,
        interrupted: impl Future<Output = ()>,
    ) -> (Tally, Result<(), Failure>) {
        let mut interrupted = std::pin::pin!(interrupted);
        let stop = match self.publish_all(&mut source, interrupted.as_mut()).await {
            Ok(stop) => stop,
            Err(failure) => return (self.tally, Err(failure)),
        };
        self.end(stop).await
    }

    async fn publish_all<R: AsyncRead + Unpin>(
        &mut self,
        source: &mut Source<R>,
        mut interrupted: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Stop, Failure> {
        let mut input = None;
        loop {
            self.write_settled().await?;
            if self.failure.is_some() {
                return Ok(Stop::Failed);
            }
            if self.pending.is_empty()
                && let Some(ended) = input.take()
            {
                return Ok(Stop::InputEnded(ended));
            }
            let reads = input.is_none() && self.pending.len() < PUBLISH_RESULTS_PENDING_MAX;
            let oldest = self.pending.front();
            tokio::select! {
                // Results first: they make room.
                biased;
                () = settled(oldest), if oldest.is_some() => {}
                () = &mut interrupted => return Ok(Stop::Interrupted),
                item = source.next(), if reads => {
                    self.progress.set_position(source.bytes_read());
                    let item = match item {
                        Ok(Some(item)) => item,
                        Ok(None) => {
                            input = Some(expect_whole(source));
                            continue;
                        }
                        // What was read before is published all the same.
                        Err(error) => {
                            let message = format!("the events cannot be read on: {error}");
                            input = Some(Err(Failure::failed(message)));
                            continue;
                        }
                    };
                    self.read += 1;
                    if self.resume.as_ref().is_some_and(|resume| self.read <= resume.began_at()) {
                        continue;
                    }
                    let (place, event) = (item.place, self.prepare(item, source).await?);
                    tokio::select! {
                        biased;
                        is_taken = self.put(place, event) => {
                            if !is_taken {
                                return Ok(Stop::Failed);
                            }
                        }
                        // It waits for room, and has no place among the results yet.
                        () = &mut interrupted => return Ok(Stop::Interrupted),
                    }
                }
            }
        }
    }

    /// Makes an event of an item, or says why there is none.
    async fn prepare<R: AsyncRead + Unpin>(
        &mut self,
        item: Item,
        source: &Source<R>,
    ) -> Result<Result<Event, String>, Failure> {
        let event = match item.content {
            Content::Line(None) => {
                Err(format!("a line has at most {PUBLISH_LINE_BYTES_MAX} bytes"))
            }
            Content::Line(Some(text)) => self.writer.encode(&text),
            Content::Datum(payload) => {
                if self.container.is_none() {
                    let schema = source.schema().expect("a record comes after its schema");
                    self.container = Some(self.plan(schema).await?);
                }
                match &self.container {
                    Some(ContainerPlan::ByJson(schema)) => match schema.to_json(&payload) {
                        Ok(json) => self.writer.encode_payload(&json).map(|event| (event, None)),
                        Err(error) => Err(error.to_string()),
                    },
                    Some(ContainerPlan::AsIs(id)) => Ok((Event::avro(id.clone(), payload), None)),
                    None => unreachable!("it was just made"),
                }
            }
        };
        Ok(event.map(|(event, id)| {
            let derived = || Some(self.resume.as_ref()?.event_id(self.read));
            match id.or_else(derived) {
                Some(id) => event.with_id(id),
                None => event,
            }
        }))
    }

    /// Finds out whether the gateway knows the schema of a container, as one of the topic's.
    async fn plan(&self, schema: &Schema) -> Result<ContainerPlan, Failure> {
        let id = schema.id().to_string();
        if id == **self.writer.topic_schema().id() {
            return Ok(ContainerPlan::AsIs(id.into()));
        }
        let request = crate::proto::SchemaRequest { schema_id: id };
        let known = match self.connection.pub_sub().get_schema(request).await {
            Ok(known) => known.into_inner(),
            Err(status) => match ClientError::from(status) {
                ClientError::Call(error) if !error.is_connection_lost() => {
                    return Ok(ContainerPlan::ByJson(schema.clone()));
                }
                error => return Err(error.into()),
            },
        };
        Ok(
            match schema.full_name() == self.writer.schema().full_name() {
                true => ContainerPlan::AsIs(known.schema_id.into()),
                // It is the schema of another topic, which this one takes no events of.
                false => ContainerPlan::ByJson(schema.clone()),
            },
        )
    }

    /// Sends an event, or puts the reason why there is none in its place. False when nothing more
    /// can be sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the event was not sent then, and has no place.
    async fn put(&mut self, place: Place, event: Result<Event, String>) -> bool {
        let state = match event {
            Err(reason) => State::Refused(reason),
            Ok(event) => {
                let event_id = event.id().unwrap_or_default().to_owned();
                match self.publisher.send(event).await {
                    Ok(ticket) => State::Sent(ticket),
                    Err(PublishError::Event(error)) => State::Refused(error.to_string()),
                    Err(error) => State::Unsent(FailedEvent { event_id, error }),
                }
            }
        };
        let is_taken = !matches!(state, State::Unsent(_));
        self.pending.push_back(Slot { place, state });
        is_taken
    }

    /// Writes the result lines that are known, up to the first that is not.
    async fn write_settled(&mut self) -> Result<(), Failure> {
        let mut is_any = false;
        while let Some(slot) = self.pending.pop_front_if(|slot| slot.is_settled()) {
            is_any = true;
            self.write(slot).await;
        }
        if is_any {
            self.output.flush().await?;
            self.note_progress(false);
        }
        Ok(())
    }

    async fn write(&mut self, slot: Slot) {
        let result = match slot.state {
            State::Sent(ticket) => ticket.result().await,
            State::Unsent(failed) => Err(failed),
            State::Refused(reason) => {
                return self.record(ResultLine::refused(slot.place, None, &reason), Ok(()));
            }
        };
        match result {
            Ok(published) => self.record(ResultLine::published(published), Ok(())),
            Err(failed) => {
                let id = Some(failed.event_id).filter(|id| !id.is_empty());
                let reason = failed.error.to_string();
                let line = ResultLine::refused(slot.place, id, &reason);
                let is_final = matches!(failed.error, PublishError::Refused { .. });
                self.record(line, if is_final { Ok(()) } else { Err(failed.error) });
            }
        }
    }

    /// Adds a result line. An error says that the event's fate is not settled by it.
    fn record(&mut self, line: ResultLine, settled: Result<(), PublishError>) {
        match (settled, &line.error) {
            (Ok(()), None) => self.tally.published += 1,
            (Ok(()), Some(_)) => self.tally.refused += 1,
            (Err(error), _) => {
                self.tally.unsettled += 1;
                self.is_in_doubt |= error.may_be_stored();
                self.failure.get_or_insert(error);
            }
        }
        // What is behind an event that is not settled is done again too, under the same ids.
        if self.failure.is_none()
            && let Some(resume) = &mut self.resume
        {
            resume.settled();
        }
        self.output.record(&line);
    }

    /// Writes the resume file if it is time, or if it `must` be.
    fn note_progress(&mut self, must: bool) {
        let Some(resume) = &mut self.resume else {
            return;
        };
        if (must || resume.is_due())
            && let Err(error) = resume.write()
        {
            // The file as it was written before the first event still covers every id.
            let path = resume.path().display();
            warn(&format!("{path} cannot be written: {error}"));
        }
    }

    async fn end(mut self, stop: Stop) -> (Tally, Result<(), Failure>) {
        let ended = self.finish(stop).await;
        if ended.is_ok() {
            // Every event has its result already.
            _ = self.publisher.close().await;
        }
        (self.tally, ended)
    }

    /// Waits for what is under way, writes its results, and what a later run needs.
    async fn finish(&mut self, stop: Stop) -> Result<(), Failure> {
        if let Stop::Interrupted = stop {
            // Answers that are on their way are worth a moment, and no more than that.
            let settling = async {
                for slot in &self.pending {
                    settled(Some(slot)).await;
                }
            };
            if timeout(PUBLISH_INTERRUPT_WAIT, settling).await.is_err() {
                self.publisher.abandon();
            }
        }
        while let Some(slot) = self.pending.pop_front() {
            self.write(slot).await;
        }
        self.output.flush().await?;
        let ended = match (stop, self.failure.take()) {
            (Stop::InputEnded(ended), None) => ended,
            (Stop::Interrupted, _) => Err(Failure::failed("interrupted")),
            (Stop::InputEnded(_) | Stop::Failed, error) => {
                Err(error.and_then(|error| error.client_error()).map_or_else(
                    || Failure::failed("nothing more can be published"),
                    Failure::Client,
                ))
            }
        };
        self.leave_resume_file(&ended);
        ended
    }

    fn leave_resume_file(&mut self, ended: &Result<(), Failure>) {
        let Some(resume) = &self.resume else {
            return;
        };
        let path = resume.path().display().to_string();
        let is_untouched = resume.settled_count() == 0 && !self.is_in_doubt;
        if ended.is_ok() || is_untouched {
            if let Err(error) = resume.remove() {
                warn(&format!("{path} cannot be removed: {error}"));
            }
            return;
        }
        self.note_progress(true);
        warn(&format!(
            "not all events are published; the same command goes on where this one ended, by {path}"
        ));
    }
}

impl Slot {
    fn is_settled(&self) -> bool {
        match &self.state {
            State::Sent(ticket) => ticket.is_settled(),
            State::Refused(_) | State::Unsent(_) => true,
        }
    }
}

/// Waits until there is something to write for a slot.
async fn settled(slot: Option<&Slot>) {
    match slot.map(|slot| &slot.state) {
        Some(State::Sent(ticket)) => ticket.settled().await,
        Some(State::Refused(_) | State::Unsent(_)) => {}
        None => std::future::pending().await,
    }
}

/// Refuses a file that has less than when it was opened: its end is not the end of the events.
fn expect_whole<R: AsyncRead + Unpin>(source: &Source<R>) -> Result<(), Failure> {
    let (read, bytes) = (source.bytes_read(), source.bytes.unwrap_or(0));
    if read < bytes {
        return Err(Failure::failed(format!(
            "the file became smaller while it was read: it had {bytes} bytes, and {read} were found"
        )));
    }
    Ok(())
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
    fn published(published: Published) -> Self {
        Self {
            replay_id: Some(hex(&published.replay_id)),
            event_id: Some(published.event_id),
            error: None,
        }
    }

    fn refused(place: Place, event_id: Option<String>, reason: &str) -> Self {
        Self {
            replay_id: None,
            event_id,
            error: Some(format!("{place}{reason}")),
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
