//! Printing events, or writing them to a file: an event is done once it is out.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::{
    io::AsyncWrite,
    time::{Instant, sleep_until},
};

use super::{EndArgs, EventFile, EventLine, tell};
use crate::{
    cli::{
        exit::Failure,
        output::{Output, warn},
    },
    subscriber::{Delivery, Event, Events, Item, SubscribeError},
};

/// Events that are written before they are all flushed. Ours: a flush costs a system call, and one for
/// some hundred events does not show.
const FLUSHED_TOGETHER_MAX: usize = 500;

/// When printing ends.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::cli) struct Ending {
    /// Events still wanted; without a number, all.
    pub(in crate::cli) left: Option<u64>,
    /// Without an event for this long.
    pub(in crate::cli) idle: Option<Duration>,
    /// Once everything up to this number of a replay id came, that one included.
    pub(in crate::cli) up_to: Option<u64>,
    /// Once everything that there is came.
    pub(in crate::cli) at_caught_up: bool,
}

impl From<EndArgs> for Ending {
    fn from(args: EndArgs) -> Self {
        Self {
            left: args.count,
            idle: args.idle_exit,
            ..Self::default()
        }
    }
}

/// Where events are written to.
#[derive(Debug)]
pub(in crate::cli) enum Written<W> {
    Output(Output<W>),
    File(EventFile),
}

impl<W: AsyncWrite + Unpin> Written<W> {
    /// To the file if there is one.
    pub(in crate::cli) fn of(output: Output<W>, file: Option<EventFile>) -> Self {
        file.map_or(Self::Output(output), Self::File)
    }

    /// Adds an event; returns why it could not be decoded.
    async fn add(&mut self, event: &Event) -> Result<Option<String>, Failure> {
        match self {
            Self::Output(output) => {
                let (line, refusal) = EventLine::of(event);
                output.record(&line);
                Ok(refusal)
            }
            Self::File(file) => file.add(event).await,
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Output(output) => output.flush().await,
            Self::File(file) => file.flush().await,
        }
    }
}

/// Writes events as they come.
pub(in crate::cli) struct Printer<W> {
    pub(in crate::cli) ending: Ending,
    pub(in crate::cli) output: Written<W>,
}

impl<W: AsyncWrite + Unpin> Printer<W> {
    /// Writes events until the end that is wanted, or `interrupted`.
    ///
    /// # Errors
    ///
    /// What ended the subscription, or the output; or events that could not be decoded.
    pub(in crate::cli) async fn run(
        &mut self,
        mut events: Events,
        interrupted: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        tokio::pin!(interrupted);
        let mut written = Vec::new();
        let mut undecoded = 0;
        let mut quiet_since = Instant::now();
        let ended = loop {
            if self.ending.left == Some(0) {
                break Ok(());
            }
            let item = match self.at_hand(&mut events, &mut written).await {
                Ok(Some(item)) => item,
                // Nothing more is at hand, and what is written is out.
                Ok(None) => tokio::select! {
                    item = events.next() => item,
                    () = idle(quiet_since, self.ending.idle) => break Ok(()),
                    () = &mut interrupted => break Ok(()),
                },
                Err(failure) => break Err(failure),
            };
            match item {
                Ok(Some(Item::Event(event))) => {
                    quiet_since = Instant::now();
                    if self.is_behind_end(&event) {
                        break Ok(());
                    }
                    match self.output.add(&event).await {
                        Ok(None) => {}
                        Ok(Some(reason)) => {
                            undecoded += 1;
                            let id = event.replay_id();
                            warn(&format!("the event {id} cannot be decoded: {reason}"));
                        }
                        Err(failure) => break Err(failure),
                    }
                    self.ending.left = self.ending.left.map(|left| left - 1);
                    written.push(event);
                }
                Ok(Some(Item::CaughtUp(_))) if self.ending.at_caught_up => break Ok(()),
                Ok(Some(notice)) => tell(&notice),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        // Whatever happened, what is written is out, and what is out is done.
        let flushed = self.flush(&mut written).await;
        let closed = events.close().await.map_err(Failure::from);
        ended.and(flushed).and(closed)?;
        match undecoded {
            0 => Ok(()),
            events => Err(Failure::failed(format!(
                "{events} events could not be decoded"
            ))),
        }
    }

    /// The next item that has come already; without one, what is written is flushed.
    async fn at_hand(
        &mut self,
        events: &mut Events,
        written: &mut Vec<Delivery>,
    ) -> Result<Option<Result<Option<Item>, SubscribeError>>, Failure> {
        if written.len() < FLUSHED_TOGETHER_MAX
            && let Some(item) = events.next().now_or_never()
        {
            return Ok(Some(item));
        }
        self.flush(written).await?;
        Ok(None)
    }

    async fn flush(&mut self, written: &mut Vec<Delivery>) -> Result<(), Failure> {
        self.output.flush().await?;
        written.drain(..).for_each(Delivery::done);
        Ok(())
    }

    fn is_behind_end(&self, event: &Event) -> bool {
        let number = event.replay_id().number();
        self.ending.up_to.is_some_and(|up_to| number > up_to)
    }
}

/// Resolves once nothing has come for long enough; without a limit, never.
async fn idle(since: Instant, limit: Option<Duration>) {
    match limit.and_then(|limit| since.checked_add(limit)) {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
