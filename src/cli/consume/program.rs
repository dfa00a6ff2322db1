//! Handing each event to a program, with order, retries and dead letters.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, interval};

use super::{
    EndArgs,
    exec::Exec,
    ops::Ops,
    tell,
    webhook::{Webhook, WebhookArgs},
};
use crate::{
    cli::{exit::Failure, output::warn},
    subscriber::{
        Attempt, Event, Handler, Monitor, Notice, Order, Outcome, RetryPolicy, Run, Subscriber,
    },
};

/// The options that hand events to a program.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Program")]
pub(in crate::cli) struct ProgramArgs {
    /// Run this command for each event, with the event as JSON on its standard input; it ends with 0
    /// if the event is done, with 65 if it never will be, and with anything else to be run again
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    #[command(flatten)]
    webhook: WebhookArgs,
    /// Which events wait for which: in-order, unordered, key:FIELD, or record for change events
    #[arg(long, value_name = "ORDER", default_value = "in-order", value_parser = parse_order)]
    order: Order,
    /// How long a try may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = crate::cli::parse_duration)]
    timeout: Duration,
    /// Tries after which an event becomes a dead letter
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..),
        allow_negative_numbers = true
    )]
    attempts: u32,
    /// Wait this long after the first failure, and twice as long after each further one
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::cli::parse_duration)]
    retry_wait: Duration,
    /// Wait no longer than this between two tries
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::cli::parse_duration)]
    retry_wait_max: Duration,
}

impl ProgramArgs {
    /// What handles events; `None` if they are printed or written.
    pub(in crate::cli) fn handler(&self) -> Result<Option<Program>, Failure> {
        if let Some(webhook) = self.webhook.open(self.timeout)? {
            return Ok(Some(Program::Webhook(Box::new(webhook))));
        }
        let exec = self.exec.as_ref();
        Ok(exec.map(|command| Program::Exec(Exec::new(command))))
    }

    /// How it is run.
    pub(in crate::cli) fn run(&self) -> Run {
        Run {
            order: self.order.clone(),
            retry: RetryPolicy {
                first_wait: self.retry_wait,
                longest_wait: self.retry_wait_max,
                attempts_max: Some(self.attempts),
                timeout: Some(self.timeout),
            },
            // As long as a try may take: whoever is at work when the command is to end may finish.
            grace: self.timeout,
        }
    }
}

/// A program that handles events.
#[derive(Debug)]
pub(in crate::cli) enum Program {
    Exec(Exec),
    Webhook(Box<Webhook>),
}

impl Handler for Program {
    async fn handle(&self, event: &Arc<Event>, attempt: Attempt) -> Outcome {
        match self {
            Self::Exec(exec) => exec.handle(event, attempt).await,
            Self::Webhook(webhook) => webhook.handle(event, attempt).await,
        }
    }
}

fn parse_order(text: &str) -> Result<Order, String> {
    match (text, text.strip_prefix("key:")) {
        ("in-order", _) => Ok(Order::InOrder),
        ("unordered", _) => Ok(Order::Unordered),
        ("record", _) => Ok(Order::by_record()),
        (_, Some(field)) if !field.is_empty() => Ok(Order::by_field(field)),
        _ => Err("wanted in-order, unordered, record, or key: and the name of a field".into()),
    }
}

/// Runs a program for each event until the end that is wanted.
pub(super) async fn run(
    subscriber: Subscriber,
    program: Program,
    args: &ProgramArgs,
    end: EndArgs,
    mut ops: Option<Ops>,
    interrupted: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    let counted = Counted {
        program,
        done: AtomicU64::new(0),
    };
    let parked = AtomicU64::new(0);
    let monitor = Mutex::new(None);
    let mut serving = None;
    let notice = |notice| match notice {
        Notice::Started(started) => {
            serving = ops.take().map(|ops| ops.serve(started.clone()));
            *monitor.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        }
        Notice::Item(item) => tell(&item),
        Notice::Parked(letter) => {
            parked.fetch_add(1, Ordering::Relaxed);
            let (id, attempts, cause) = (letter.replay_id, letter.attempts, &letter.cause);
            warn(&format!(
                "the event {id} became a dead letter after {attempts} tries: {cause}"
            ));
        }
    };
    let settled = || counted.done.load(Ordering::Relaxed) + parked.load(Ordering::Relaxed);
    let is_busy = || {
        let monitor = monitor.lock().unwrap_or_else(PoisonError::into_inner);
        monitor.as_ref().is_some_and(is_busy)
    };
    let ending = async {
        tokio::select! {
            () = interrupted => {}
            () = until_enough(end, &settled, &is_busy) => {}
        }
    };
    let ended = subscriber.run(args.run(), &counted, notice, ending).await;
    drop(serving);
    ended?;
    match parked.into_inner() {
        0 => Ok(()),
        events => Err(Failure::failed(format!(
            "{events} events became dead letters; `tidegate deadletter list` shows them"
        ))),
    }
}

/// Whether events are being handled, or wait for it.
fn is_busy(monitor: &Monitor) -> bool {
    let statuses = monitor.statuses();
    statuses.iter().any(|status| status.in_flight > 0)
}

/// Resolves once there were enough events, or none for long enough.
async fn until_enough(
    end: EndArgs,
    settled: &(impl Fn() -> u64 + Sync),
    is_busy: &(impl Fn() -> bool + Sync),
) {
    let (mut last, mut quiet_since) = (0, Instant::now());
    let mut looking = interval(LOOK_EVERY);
    loop {
        looking.tick().await;
        let now = settled();
        if end.count.is_some_and(|count| now >= count) {
            return;
        }
        if now != last || is_busy() {
            (last, quiet_since) = (now, Instant::now());
        }
        if end
            .idle_exit
            .is_some_and(|limit| quiet_since.elapsed() >= limit)
        {
            return;
        }
    }
}

/// How often it is looked whether the command is to end. Ours: nobody notices, and nothing is told by
/// it but the end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program whose events are counted.
struct Counted {
    program: Program,
    done: AtomicU64,
}

impl Handler for &Counted {
    async fn handle(&self, event: &Arc<Event>, attempt: Attempt) -> Outcome {
        let outcome = self.program.handle(event, attempt).await;
        if outcome == Outcome::Done {
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }
}
