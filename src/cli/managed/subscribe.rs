//! `tidegate managed subscribe`: prints events, and commits what was printed.

use std::time::Duration;

use tokio::{
    io::AsyncWrite,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::Code;

use super::{KeyArgs, ManagedRow, list};
use crate::{
    cli::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Output, OutputArgs, hex, note, warn},
        subscribe::decode::{Schemas, decode},
    },
    client::{Backoff, CallError, ClientError, Connection, ManagedSubscription},
    proto::{ManagedFetchRequest, raw::ManagedFetchResponse},
    types::{
        TopicName,
        limits::{KEEPALIVE_MAX, SUBSCRIBE_CREDIT},
    },
};

/// Silence after which a stream counts as lost: the longest keepalive and some slack.
const SILENCE_MAX: Duration = KEEPALIVE_MAX.saturating_add(Duration::from_secs(30));
/// How long the answer to the last commit is awaited at the end.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Arguments of `tidegate managed subscribe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events are printed as `tidegate subscribe` prints them. What was printed is committed, and so is the \
position of a quiet subscription; the next stream goes on behind it, whoever opens it. While another \
stream has the subscription this waits for it, so that of several the first works and the others stand \
by; one whose subscription a newer stream takes over (--takeover newest) ends.

Example:
  tidegate managed subscribe Fulfilment --idle-exit 3s")]
pub(super) struct Args {
    #[command(flatten)]
    key: KeyArgs,
    /// End after this many events
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..),
        allow_negative_numbers = true
    )]
    count: Option<u64>,
    /// End after this long without an event, such as 3s or 500ms
    #[arg(long, value_name = "TIME", value_parser = crate::cli::parse_duration)]
    idle_exit: Option<Duration>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let mut subscriber = Subscriber {
        topic: topic_of(&connection, &args.key).await?,
        connection,
        key: args.key,
        left: args.count,
        idle_exit: args.idle_exit,
        output: Output::stdout(args.output),
        schemas: Schemas::default(),
        undecoded: 0,
        backoff: Backoff::default(),
        standby: Backoff::default(),
    };
    subscriber.run(crate::cli::interrupted()).await
}

/// The topic of the subscription: what is printed names it.
async fn topic_of(connection: &Connection, key: &KeyArgs) -> Result<TopicName, Failure> {
    let is_meant = |row: &ManagedRow| match key.is_id() {
        true => row.id.get(..15) == key.key.get(..15),
        false => row.developer_name == key.key,
    };
    let found = list(connection).await?.into_iter().find(is_meant);
    let found = found.ok_or_else(|| {
        Failure::failed(format!(
            "there is no managed subscription {} that this token may use; `tidegate managed list` \
             shows those that there are",
            key.key
        ))
    })?;
    let topic = found.topic.parse();
    topic.map_err(|_| Failure::failed("the gateway names a topic that is none"))
}

/// Prints what a managed subscription is sent, and commits it.
pub(super) struct Subscriber<W> {
    pub(super) connection: Connection,
    pub(super) key: KeyArgs,
    pub(super) topic: TopicName,
    /// Events still wanted; without a number, all.
    pub(super) left: Option<u64>,
    pub(super) idle_exit: Option<Duration>,
    pub(super) output: Output<W>,
    pub(super) schemas: Schemas,
    /// Events that could not be decoded.
    pub(super) undecoded: u64,
    /// The waits after failures.
    pub(super) backoff: Backoff,
    /// The waits for another stream to end.
    pub(super) standby: Backoff,
}

impl<W: AsyncWrite + Unpin> Subscriber<W> {
    /// Prints and commits until there were enough events, none for long enough, or `interrupted`.
    ///
    /// # Errors
    ///
    /// What no further try can mend, or the last of too many tries; a last commit that was not taken;
    /// or events that could not be decoded.
    pub(super) async fn run(
        &mut self,
        interrupted: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        tokio::pin!(interrupted);
        loop {
            let error = match self.session(interrupted.as_mut()).await {
                // Another stream would print more than was wanted, so how this one ends is final.
                Ok(subscription) => return self.finish(subscription).await,
                Err(Failure::Client(error)) if error.is_retryable() => error,
                Err(failure) => return Err(failure),
            };
            let wait = if is_taken(&error) {
                self.backoff.reset();
                self.standby.endless_wait()
            } else {
                self.standby.reset();
                let Some(wait) = self.backoff.next_wait() else {
                    return Err(Failure::Client(error));
                };
                wait
            };
            let seconds = wait.as_secs_f32();
            note(&format!(
                "{error}; starting again behind the last commit in {seconds:.1} s"
            ));
            tokio::select! {
                () = sleep(wait) => {}
                () = interrupted.as_mut() => return Ok(()),
            }
        }
    }

    /// One stream, from its first request until there is to be an end, which is left to be made.
    async fn session(
        &mut self,
        mut interrupted: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<ManagedSubscription, Failure> {
        let first = match self.key.is_id() {
            true => ManagedFetchRequest {
                subscription_id: self.key.key.clone(),
                ..ManagedFetchRequest::default()
            },
            false => ManagedFetchRequest {
                developer_name: self.key.key.clone(),
                ..ManagedFetchRequest::default()
            },
        };
        let credit = self.credit_wanted();
        let mut subscription = ManagedSubscription::open(&self.connection, first, credit).await?;
        let mut quiet_since = Instant::now();
        loop {
            let response = tokio::select! {
                response = timeout(SILENCE_MAX, subscription.next()) => response,
                () = idle(quiet_since, self.idle_exit) => break,
                () = interrupted.as_mut() => break,
            };
            let response = response.map_err(|_| lost("nothing was heard of it for too long"))??;
            let response = response.ok_or_else(|| lost("it ended the stream"))?;
            self.backoff.reset();
            warn_of_refusal(&response);
            let is_answer = response.commit_response.is_some();
            self.print(&response).await?;
            if !response.fetch.events.values().is_empty() {
                quiet_since = Instant::now();
            }
            let is_over = self.left == Some(0);
            // Not for an answer alone, or each would bring about the next.
            if !is_answer || !response.fetch.events.values().is_empty() {
                let latest = response.fetch.latest_replay_id.clone();
                // A credit of nothing would be an odd thing to ask for; what is over is closed.
                let credit = self.credit_wanted();
                subscription.commit(latest, credit).await;
            }
            if is_over {
                break;
            }
        }
        Ok(subscription)
    }

    /// Ends a stream once its commits are answered.
    async fn finish(&self, mut subscription: ManagedSubscription) -> Result<(), Failure> {
        subscription.half_close();
        let answered = async {
            // To its end: the subscription is free then, for whoever comes next.
            while let Some(response) = subscription.next().await? {
                warn_of_refusal(&response);
            }
            Ok::<_, ClientError>(())
        };
        let answered = timeout(COMMIT_WAIT_MAX, answered).await;
        answered.map_err(|_| lost("it did not answer the last commit"))??;
        if !subscription.is_committed() {
            return Err(lost("it ended the stream before the last commit's answer").into());
        }
        if subscription.is_last_refused() {
            return Err(Failure::failed(
                "the last commit was refused: events that were printed will come again",
            ));
        }
        match self.undecoded {
            0 => Ok(()),
            events => Err(Failure::failed(format!(
                "{events} events could not be decoded"
            ))),
        }
    }

    /// Credit to hold: as much as there may be, and not more than events that are wanted.
    fn credit_wanted(&self) -> u32 {
        let left = self.left.unwrap_or(u64::MAX);
        u32::try_from(left).map_or(SUBSCRIBE_CREDIT, |left| left.min(SUBSCRIBE_CREDIT))
    }

    /// Prints the events of a response; whatever happens, those before it are printed.
    async fn print(&mut self, response: &ManagedFetchResponse) -> Result<(), Failure> {
        let decoded = self.decode_all(response).await;
        self.output.flush().await?;
        Ok(decoded?)
    }

    async fn decode_all(&mut self, response: &ManagedFetchResponse) -> Result<(), ClientError> {
        for encoded in response.fetch.events.values().shares() {
            let event = decode(&self.connection, &mut self.schemas, &self.topic, &encoded).await?;
            if let Some(reason) = event.refusal {
                self.undecoded += 1;
                let id = hex(&event.replay_id);
                warn(&format!("the event {id} cannot be decoded: {reason}"));
            }
            self.output.record(&event.line);
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        Ok(())
    }
}

/// Whether another stream has the subscription.
fn is_taken(error: &ClientError) -> bool {
    matches!(error, ClientError::Call(error) if error.code() == Code::AlreadyExists)
}

/// Says that a commit was refused, if it was.
fn warn_of_refusal(response: &ManagedFetchResponse) {
    let answer = response.commit_response.as_ref();
    if let Some(error) = answer.and_then(|answer| answer.error.as_ref()) {
        warn(&format!("a commit was refused: {}", error.msg));
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
