//! What the commands that subscribe have in common: where the place is kept, and what is done with
//! each event. Printed or written to a file, an event is done once it is out; handed to a program, once
//! that says so.

mod exec;
mod file;
mod line;
mod ops;
mod print;
mod program;
mod webhook;

use std::{path::PathBuf, time::Duration};

use clap::ValueEnum;
use tokio::io::AsyncWrite;

use super::{
    exit::{Exit, Failure},
    output::{Output, note, printable, warn},
};
use crate::{
    subscriber::{
        Builder, CheckpointFile, DeadLetterDirectory, Gap, Item, RejectedReplay, StateFile,
        StoreError, SubscribeError,
    },
    types::{
        TenantId,
        limits::{CREDIT_MAX_EXTENDED, SUBSCRIBER_IN_FLIGHT},
    },
};

pub(super) use file::EventFile;
pub(super) use line::EventLine;
pub(super) use ops::OpsArgs;
pub(super) use print::{Ending, Printer, Written};
pub(super) use program::{Program, ProgramArgs};

/// The options that say where a subscription's place is kept.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Place")]
pub(super) struct PlaceArgs {
    /// Keep the position in this file, and go on there the next time; --from is where to start
    /// without it
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    checkpoint: Option<PathBuf>,
    /// Keep the position in this directory, with the ids of handled events, so that one that comes
    /// twice is handled once, and the events that were given up
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What to do when the gateway no longer has the position: end, or go on at the oldest event, or
    /// after the newest
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    on_rejected: OnRejected,
    #[command(flatten)]
    pace: PaceArgs,
}

/// How much may be under way.
#[derive(Clone, Debug, clap::Args)]
struct PaceArgs {
    /// How many events may be received and not yet done
    #[arg(long, value_name = "N", default_value_t = SUBSCRIBER_IN_FLIGHT, value_parser = in_flight())]
    max_in_flight: u32,
    /// Save the position after this many events, or after a second: so many may come again after a
    /// crash
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u64).range(1..),
        allow_negative_numbers = true
    )]
    save_every: u64,
}

/// The same for a subscription whose position the gateway keeps.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Place")]
pub(super) struct ManagedPlaceArgs {
    /// Keep the ids of handled events in this directory, so that one that comes twice is handled
    /// once, and the events that were given up
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(flatten)]
    pace: PaceArgs,
}

impl From<ManagedPlaceArgs> for PlaceArgs {
    fn from(args: ManagedPlaceArgs) -> Self {
        Self {
            checkpoint: None,
            state: args.state,
            on_rejected: OnRejected::default(),
            pace: args.pace,
        }
    }
}

fn in_flight() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(CREDIT_MAX_EXTENDED))
}

/// The spelling of [`RejectedReplay`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OnRejected {
    // Without doc comments, so that the help says no more than their names.
    #[default]
    Stop,
    Earliest,
    Latest,
}

/// Tries in a row after which a command that keeps no place gives up: about a minute. One that keeps a
/// place is there to stay.
const TRIES_MAX: u32 = 10;
/// See --save-every.
const SAVE_WITHIN: Duration = Duration::from_secs(1);
/// Names within the directory of --state.
const STATE_FILE: &str = "state.redb";
/// See [`STATE_FILE`].
pub(super) const DEAD_LETTERS: &str = "dead-letters";

impl PlaceArgs {
    /// Whether the place outlives the command.
    pub(super) fn is_kept(&self) -> bool {
        self.checkpoint.is_some() || self.state.is_some()
    }

    /// A subscriber that keeps its place as the options say.
    pub(super) fn apply(&self, builder: Builder, tenant: TenantId) -> Result<Builder, Failure> {
        let builder = builder
            .max_in_flight(self.pace.max_in_flight)
            .save_after(self.pace.save_every, SAVE_WITHIN)
            .on_rejected_replay(match self.on_rejected {
                OnRejected::Stop => RejectedReplay::Stop,
                OnRejected::Earliest => RejectedReplay::Earliest,
                OnRejected::Latest => RejectedReplay::Latest,
            });
        if let Some(path) = &self.checkpoint {
            return Ok(builder.checkpoints(CheckpointFile::open(path, tenant)?));
        }
        let Some(directory) = &self.state else {
            return Ok(builder);
        };
        let letters = DeadLetterDirectory::open(directory.join(DEAD_LETTERS))?;
        let state = StateFile::open(directory.join(STATE_FILE), tenant)?;
        Ok(builder.state(state).dead_letters(letters))
    }
}

/// When a command that subscribes ends by itself.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct EndArgs {
    /// End after this many events
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        allow_negative_numbers = true
    )]
    pub(super) count: Option<u64>,
    /// End after this long without an event, such as 3s or 500ms
    #[arg(long, value_name = "TIME", value_parser = super::parse_duration)]
    pub(super) idle_exit: Option<Duration>,
}

/// What is done with events.
#[derive(Debug)]
pub(super) struct Consumer<'a, W> {
    pub(super) place: &'a PlaceArgs,
    pub(super) end: EndArgs,
    pub(super) program: &'a ProgramArgs,
    pub(super) file: Option<EventFile>,
    pub(super) ops: OpsArgs,
    pub(super) output: Output<W>,
}

impl<W: AsyncWrite + Unpin> Consumer<'_, W> {
    /// Subscribes until there were enough events, none for long enough, or `interrupted`.
    ///
    /// # Errors
    ///
    /// What no further try can mend, or the last of too many tries; or what was not done: events that
    /// could not be decoded, or were given up.
    pub(super) async fn run(
        self,
        builder: Builder,
        tenant: TenantId,
        interrupted: impl Future<Output = ()> + Send,
    ) -> Result<(), Failure> {
        let ops = self.ops.listen().await?;
        let mut builder = self.place.apply(builder, tenant)?;
        if let Some(count) = self.end.count {
            builder = builder.limit(count);
        }
        if !self.place.is_kept() {
            builder = builder.give_up_after(TRIES_MAX);
        }
        match self.program.handler()? {
            Some(handler) => {
                let subscriber = builder.build()?;
                program::run(
                    subscriber,
                    handler,
                    self.program,
                    self.end,
                    ops,
                    interrupted,
                )
                .await
            }
            None => {
                let mut printer = Printer {
                    ending: Ending::from(self.end),
                    output: Written::of(self.output, self.file),
                };
                let events = builder.build()?.start();
                let _serving = ops.map(|ops| ops.serve(events.monitor()));
                printer.run(events, interrupted).await
            }
        }
    }
}

/// Says on standard error what came besides events.
pub(super) fn tell(item: &Item) {
    match item {
        Item::Disconnected(broken) => {
            let seconds = broken.wait.as_secs_f32();
            note(&format!("{}; trying again in {seconds:.1} s", broken.cause));
        }
        Item::Reconnected(again) => {
            let seconds = again.down_for.as_secs_f32();
            note(&format!(
                "connected again after {seconds:.1} s; nothing was missed"
            ));
        }
        Item::Gap(gap) => warn(&gap_text(gap)),
        _ => {}
    }
}

/// What may be missing, as one sentence.
fn gap_text(gap: &Gap) -> String {
    let from = gap
        .from
        .map_or_else(String::new, |from| format!(" after {from}"));
    let size = match (gap.positions(), gap.age) {
        (Some(positions), Some(age)) => {
            let hours = age.as_secs_f32() / 3_600.0;
            format!(" ({positions} positions, {hours:.1} h)")
        }
        (Some(positions), None) => format!(" ({positions} positions)"),
        (None, _) => String::new(),
    };
    let (topic, to, reason) = (&gap.topic, gap.to, printable(&gap.reason));
    format!("events of {topic}{from} and before {to} may be missing{size}: {reason}")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unusable(reason) => Self::Usage(reason),
            error => Self::failed(error.to_string()),
        }
    }
}

impl From<SubscribeError> for Failure {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Client(error) => Self::Client(error),
            SubscribeError::Store(error) => error.into(),
            SubscribeError::PositionRefused { reason, .. } => Self::Other(
                Exit::Failed,
                format!(
                    "{reason}; start with that replay id, or with --from earliest or --from latest, or \
                     say --on-rejected earliest or latest"
                ),
            ),
            error @ (SubscribeError::CommitRefused
            | SubscribeError::NotCommitted
            | SubscribeError::TimeNotServed(_)) => Self::failed(error.to_string()),
            error => Self::Usage(error.to_string()),
        }
    }
}
