//! The life of a subscription: one stream, and another after each break.
//!
//! Credit is asked for when half of it is used, so that events keep coming while earlier ones are
//! printed, and never more than there are events to print.

use std::{io::IsTerminal, time::Duration};

use tokio::{
    io::AsyncWrite,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    decode::{Schemas, decode},
    from::From,
};
use crate::{
    cli::{
        exit::Failure,
        output::{Output, note, warn},
    },
    client::{Backoff, CallError, ClientError, Connection, Subscription},
    proto::raw::FetchResponse,
    types::{
        TopicName,
        limits::{KEEPALIVE_MAX, SUBSCRIBE_CREDIT},
    },
};

/// Silence after which a stream counts as lost: the longest keepalive and some slack.
const SILENCE_MAX: Duration = KEEPALIVE_MAX.saturating_add(Duration::from_secs(30));

/// A subscription that prints what it is sent.
pub(super) struct Subscriber<W> {
    connection: Connection,
    topic: TopicName,
    /// Where the next stream starts.
    from: From,
    /// Events still wanted; without a number, all.
    left: Option<u64>,
    idle_exit: Option<Duration>,
    output: Output<W>,
    schemas: Schemas,
    /// Events that could not be decoded.
    undecoded: u64,
    backoff: Backoff,
}

impl<W: AsyncWrite + Unpin> Subscriber<W> {
    pub(super) fn new(
        connection: Connection,
        topic: TopicName,
        from: From,
        count: Option<u64>,
        idle_exit: Option<Duration>,
        output: Output<W>,
    ) -> Self {
        Self {
            connection,
            topic,
            from,
            left: count,
            idle_exit,
            output,
            schemas: Schemas::default(),
            undecoded: 0,
            backoff: Backoff::default(),
        }
    }

    /// Prints events until there were enough, or none for long enough.
    ///
    /// # Errors
    ///
    /// What no further try can mend, or the last of too many tries; or events that could not be
    /// decoded.
    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        loop {
            let error = match self.session().await {
                Ok(()) => return self.verdict(),
                Err(Failure::Client(error)) if error.is_retryable() => error,
                Err(failure) => return Err(failure),
            };
            let Some(wait) = self.backoff.next_wait() else {
                return Err(Failure::Client(error));
            };
            let whence = match self.from {
                From::Latest => "at the newest event",
                From::Earliest => "at the oldest event",
                From::ReplayId(_) => "after the last event printed",
            };
            let seconds = wait.as_secs_f32();
            note(&format!(
                "{error}; starting again {whence} in {seconds:.1} s"
            ));
            sleep(wait).await;
        }
    }

    fn verdict(&self) -> Result<(), Failure> {
        match self.undecoded {
            0 => Ok(()),
            events => Err(Failure::failed(format!(
                "{events} events could not be decoded"
            ))),
        }
    }

    /// One stream, from its first request to its end.
    async fn session(&mut self) -> Result<(), Failure> {
        let first = self.from.request(self.topic.to_string());
        let credit = self.credit_wanted();
        let mut subscription = Subscription::open(&self.connection, first, credit).await?;
        if std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
            note(&format!("waiting for events of {}", self.topic));
        }
        let mut quiet_since = Instant::now();
        loop {
            let response = tokio::select! {
                response = timeout(SILENCE_MAX, subscription.next()) => response,
                () = idle(quiet_since, self.idle_exit) => return Ok(()),
            };
            let response = response.map_err(|_| lost("nothing was heard of it for too long"))??;
            let response = response.ok_or_else(|| lost("it ended the stream"))?;
            self.backoff.reset();
            self.print(&response).await?;
            if self.left == Some(0) {
                return Ok(());
            }
            if !response.events.values().is_empty() {
                quiet_since = Instant::now();
            }
            subscription.refill(self.credit_wanted()).await;
        }
    }

    /// Credit to hold: as much as there may be, and not more than events that are wanted.
    fn credit_wanted(&self) -> u32 {
        let left = self.left.unwrap_or(u64::MAX);
        u32::try_from(left).map_or(SUBSCRIBE_CREDIT, |left| left.min(SUBSCRIBE_CREDIT))
    }

    /// Prints the events of a response; whatever happens, those before it are printed.
    async fn print(&mut self, response: &FetchResponse) -> Result<(), Failure> {
        let decoded = self.decode_all(response).await;
        self.output.flush().await?;
        Ok(decoded?)
    }

    async fn decode_all(&mut self, response: &FetchResponse) -> Result<(), ClientError> {
        for encoded in response.events.values().shares() {
            if self.left == Some(0) {
                return Ok(());
            }
            let event = decode(&self.connection, &mut self.schemas, &self.topic, &encoded).await?;
            if let Some(reason) = event.refusal {
                self.undecoded += 1;
                let id = super::super::output::hex(&event.replay_id);
                warn(&format!("the event {id} cannot be decoded: {reason}"));
            }
            self.output.record(&event.line);
            self.from = From::ReplayId(event.replay_id);
            self.left = self.left.map(|left| left - 1);
        }
        // Without events this moves on too: a quiet topic's position would age out otherwise.
        if !response.latest_replay_id.is_empty() {
            self.from = From::ReplayId(response.latest_replay_id.clone());
        }
        Ok(())
    }
}

fn lost(reason: &str) -> ClientError {
    CallError::connection_lost(reason).into()
}

/// Resolves once nothing has come for long enough; without a limit, never.
async fn idle(since: Instant, limit: Option<Duration>) {
    match limit.and_then(|limit| since.checked_add(limit)) {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
