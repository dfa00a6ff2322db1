//! `tidegate log erase` and `log retention`: what a running gateway removes when it is told to.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{
    cli::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Output, OutputArgs, Record, note, warn},
    },
    client::Connection,
    proto::admin::{ConfirmRetentionRequest, EraseEventsRequest, EraseEventsResponse},
    types::TopicName,
};

#[derive(Debug, clap::Args)]
pub(super) struct EraseArgs {
    /// The topic, such as /event/OrderCreated__e
    #[arg(long)]
    topic: TopicName,
    /// Erase the events for which this holds, such as "Email__c = 'a@example.com'"
    #[arg(
        long = "where",
        value_name = "COMPARISON",
        required_unless_present = "event_ids"
    )]
    comparison: Option<String>,
    /// Erase the events with these ids
    #[arg(
        long = "event-id",
        value_name = "ID",
        num_args = 1..,
        conflicts_with = "comparison"
    )]
    event_ids: Vec<String>,
    /// Count the events and leave them
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) const ERASE_HELP: &str = "\
Erased events are gone for good from every file of the log and from the gateway's memory; a backup
that was made before still has them. Replay ids of other events stay as they are. Names of fields and
texts are compared without regard to case; a text stands in single quotes.

Examples:
  tidegate log erase --topic /event/Signup__e --where \"Email__c = 'a@example.com'\" --dry-run
  tidegate log erase --topic /event/Signup__e --event-id bc41331e-9dd9-4758-8652-07749530a003

With --output json: topic, examined, matched, erased, segments, unreadable, holes.";

#[derive(Debug, clap::Args)]
pub(super) struct RetentionArgs {
    /// Believe the clock of the gateway's machine, though it jumped ahead by more than an hour
    #[arg(long, required = true)]
    confirm: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn erase(args: EraseArgs) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let request = EraseEventsRequest {
        topic_name: args.topic.to_string(),
        event_ids: args.event_ids,
        comparison: args.comparison.unwrap_or_default(),
        dry_run: args.dry_run,
    };
    let waiting = waiting();
    let done = erase_events(&connection, request).await;
    waiting.finish_and_clear();
    let row = ErasureRow::new(args.topic.to_string(), done?, args.dry_run);
    let mut output = Output::stdout(args.output);
    output.record(&row);
    output.flush().await?;
    row.doubts().iter().for_each(|doubt| warn(doubt));
    Ok(())
}

async fn erase_events(
    connection: &Connection,
    request: EraseEventsRequest,
) -> Result<EraseEventsResponse, Failure> {
    let response = connection.admin().erase_events(request).await?;
    Ok(response.into_inner())
}

pub(super) async fn retention(args: RetentionArgs) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let request = ConfirmRetentionRequest {};
    let response = connection.admin().confirm_retention(request).await?;
    note(match response.into_inner().was_held {
        true => "retention goes on by the clock as it is",
        false => "retention was not held back; there was nothing to confirm",
    });
    Ok(())
}

/// Shows on a terminal that something is under way; nothing in a pipe.
fn waiting() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} the gateway looks through the topic, {elapsed}")
            .expect("the template names known parts"),
    );
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct ErasureRow {
    topic: String,
    examined: u64,
    matched: u64,
    erased: u64,
    segments: u64,
    unreadable: u64,
    holes: u64,
    #[serde(skip)]
    is_rehearsal: bool,
}

impl ErasureRow {
    fn new(topic: String, done: EraseEventsResponse, is_rehearsal: bool) -> Self {
        Self {
            topic,
            examined: done.examined_count,
            matched: done.matched_count,
            erased: done.erased_count,
            segments: done.segment_count,
            unreadable: done.unreadable_count,
            holes: done.hole_count,
            is_rehearsal,
        }
    }

    /// What was not looked at, though it may have been meant.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.unreadable > 0 {
            doubts.push(format!(
                "the payload of {} events could not be read; they are left, and can be named by \
                 --event-id",
                self.unreadable
            ));
        }
        if self.holes > 0 {
            doubts.push(
                "events are lost to damage on the way; what their files still hold of them goes \
                 with `tidegate log repair`"
                    .into(),
            );
        }
        doubts
    }
}

impl Record for ErasureRow {
    fn text(&self) -> String {
        let Self {
            topic, examined, ..
        } = self;
        match self.is_rehearsal {
            true => format!(
                "would erase {} of {examined} events of {topic}",
                self.matched
            ),
            false => format!(
                "erased {} of {examined} events of {topic}, {} files made anew",
                self.erased, self.segments
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake_gateway::FakeGateway;

    #[tokio::test]
    async fn what_was_erased_is_told_and_what_is_in_doubt() {
        let gateway = FakeGateway::start().await;
        let request = EraseEventsRequest {
            topic_name: "/event/OrderCreated__e".into(),
            comparison: "Order_Number__c = 'A-1'".into(),
            ..Default::default()
        };
        let connection = gateway.connect().await;
        let done = erase_events(&connection, request).await.unwrap();
        let row = ErasureRow::new("/event/OrderCreated__e".into(), done, false);
        assert_eq!(
            row.text(),
            "erased 2 of 7 events of /event/OrderCreated__e, 1 files made anew"
        );
        assert_eq!(row.doubts().len(), 1);
        let json = serde_json::to_value(&row).unwrap();
        assert_eq!(json["erased"], 2);
        assert_eq!(json.as_object().unwrap().len(), 7);
        let rehearsal = ErasureRow {
            is_rehearsal: true,
            ..row
        };
        assert!(rehearsal.text().starts_with("would erase 3 of 7 events"));
    }
}
