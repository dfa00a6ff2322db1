//! `tidegate doctor`: what stands between this machine and a topic, one check after the other.
//!
//! Each check says what it found; one that fails says what to do about it, and ends the row: whatever comes
//! later would fail for the same reason.

mod caller;
mod topic;
mod way;

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::{io::AsyncWrite, time::timeout};
use tonic::Status;

use super::{
    connection::ConnectionArgs,
    exit::{Exit, Failure},
    output::{Output, OutputArgs, Record},
};
use crate::{client::Endpoint, types::TopicName};

/// Arguments of `tidegate doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tidegate doctor
  tidegate doctor /event/OrderCreated__e
  tidegate doctor /event/OrderCreated__e --publish '{\"Order_Number__c\": \"test\"}'

Exit codes are those of every command: 2 for the settings, 3 for the way, 4 for the token and its rights,
1 for anything else.")]
pub(super) struct Args {
    /// Look at this topic too
    topic: Option<TopicName>,
    /// Publish this event and wait for it to come back; every subscriber of the topic gets it
    #[arg(long, value_name = "JSON", requires = "topic", value_parser = parse_event)]
    publish: Option<Value>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn parse_event(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

/// What is looked at, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Check {
    Settings,
    Dns,
    Connection,
    Tls,
    SignIn,
    OrgId,
    Token,
    Clock,
    Topic,
    Rights,
    Schema,
    RoundTrip,
}

impl Check {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Settings, "settings"),
        (Self::Dns, "dns"),
        (Self::Connection, "connection"),
        (Self::Tls, "tls"),
        (Self::SignIn, "sign-in"),
        (Self::OrgId, "org id"),
        (Self::Token, "token"),
        (Self::Clock, "clock"),
        (Self::Topic, "topic"),
        (Self::Rights, "rights"),
        (Self::Schema, "schema"),
        (Self::RoundTrip, "round trip"),
    ];

    fn name(self) -> &'static str {
        let known = Self::ALL.iter().find(|(check, _)| *check == self);
        known.map_or("", |(_, name)| name)
    }
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// Works, and will not for ever, or not for everything.
    Warning,
    Failed,
    /// Was not made, and the reason is what was found.
    Skipped,
}

/// One check as it is shown.
#[derive(Debug, Serialize)]
struct Finding {
    check: Check,
    state: State,
    found: String,
    /// What can be done about it.
    fix: Option<String>,
}

impl Record for Finding {
    fn text(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "FAILED",
            State::Skipped => "-",
        };
        format!("{state:7}  {:10}  {}", self.check.name(), self.found)
    }

    fn details(&self) -> Vec<String> {
        let fix = self.fix.iter();
        fix.map(|fix| format!("{:7}  {:10}  {fix}", "", "-> fix"))
            .collect()
    }
}

/// What is wrong, what to do about it, and how the command ends.
#[derive(Debug)]
struct Problem {
    found: String,
    fix: String,
    exit: Exit,
}

impl Problem {
    fn new(exit: Exit, found: impl ToString, fix: impl Into<String>) -> Self {
        Self {
            found: found.to_string(),
            fix: fix.into(),
            exit,
        }
    }
}

/// How long a call may take to be answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Waits for the answer to a call, but not for ever: a gateway may answer PINGs and nothing else.
async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = timeout(ANSWERED_WITHIN, call).await;
    answer.unwrap_or_else(|_| {
        let seconds = ANSWERED_WITHIN.as_secs();
        Err(Status::deadline_exceeded(format!(
            "no answer within {seconds} s"
        )))
    })
}

/// The findings so far.
struct Report<'a, W> {
    output: &'a mut Output<W>,
    /// The first that is to be made.
    next: usize,
}

impl<W: AsyncWrite + Unpin> Report<'_, W> {
    async fn tell(
        &mut self,
        check: Check,
        state: State,
        found: impl Into<String>,
        fix: Option<&str>,
    ) -> Result<(), Failure> {
        self.next = 1 + check as usize;
        self.output.record(&Finding {
            check,
            state,
            found: found.into(),
            fix: fix.map(str::to_owned),
        });
        self.output.flush().await
    }

    async fn ok(&mut self, check: Check, found: impl Into<String>) -> Result<(), Failure> {
        self.tell(check, State::Ok, found, None).await
    }

    async fn skipped(&mut self, check: Check, found: impl Into<String>) -> Result<(), Failure> {
        self.tell(check, State::Skipped, found, None).await
    }

    async fn warning(&mut self, check: Check, found: String, fix: &str) -> Result<(), Failure> {
        self.tell(check, State::Warning, found, Some(fix)).await
    }

    /// Tells of a problem, if it is one, and that nothing after it was looked at.
    async fn passed<T>(&mut self, check: Check, made: Result<T, Problem>) -> Result<T, Failure> {
        let Problem { found, fix, exit } = match made {
            Ok(made) => return Ok(made),
            Err(problem) => problem,
        };
        self.tell(check, State::Failed, found, Some(&fix)).await?;
        self.skip_rest("not looked at").await?;
        let message = format!("the check of {} failed", check.name());
        Err(Failure::Other(exit, message))
    }

    async fn skip_rest(&mut self, reason: &str) -> Result<(), Failure> {
        for (check, _) in Check::ALL.into_iter().skip(self.next) {
            self.skipped(check, reason).await?;
        }
        Ok(())
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut output = Output::stdout(args.output);
    let endpoint = args.connection.endpoint();
    examine(endpoint, args.topic, args.publish, &mut output).await
}

async fn examine<W: AsyncWrite + Unpin>(
    endpoint: Result<Endpoint, Failure>,
    topic: Option<TopicName>,
    event: Option<Value>,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let mut report = Report { output, next: 0 };
    let endpoint = report
        .passed(Check::Settings, caller::settings(endpoint))
        .await?;
    let described = caller::described(&endpoint);
    report.ok(Check::Settings, described).await?;
    way::look(&mut report, &endpoint).await?;
    let caller = caller::look(&mut report, &endpoint, topic.as_ref()).await?;
    match topic {
        Some(topic) => topic::look(&mut report, caller, topic, event).await,
        None => report.skip_rest("no topic is named").await,
    }
}

#[cfg(test)]
mod tests;
