//! `tidegate channel apply`: channels as a file lists them.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    super::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Output, OutputArgs, Record, note},
    },
    caret,
};
use crate::{
    broker::{NewChannel, NewMember},
    client::Connection,
    proto::admin::{self, AppliedChannel, ApplyChannelsRequest, ChannelMember},
    server::channels::file::{self, ChannelFileError, FileProblem},
};

/// Arguments of `tidegate channel apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file is TOML:
  [[channel]]
  name = \"/event/Orders__chn\"
  label = \"Orders\"

  [[channel.member]]
  topic = \"/event/OrderCreated__e\"
  filter = \"Amount__c > 10\"

A member of a /data/ channel may have enriched_fields = [\"Name\"] too. All of it is applied, or nothing. With
--output json there is an object a channel: name, outcome (created, changed, deleted, unchanged) and dry_run.")]
pub(super) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Delete the channels that the file does not name
    #[arg(long)]
    prune: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let channels = file::read(&args.file).map_err(unreadable)?;
    let connection = args.connection.connect().await?;
    let mut output = Output::stdout(args.output);
    let applied = apply(&connection, &channels, args.prune, args.dry_run).await?;
    if applied.is_empty() {
        note("the file names no channel, and nothing is to be done");
    }
    applied.iter().for_each(|row| output.record(row));
    output.flush().await
}

fn unreadable(error: ChannelFileError) -> Failure {
    if let FileProblem::Filter { text, error } = &error.problem {
        caret::show(text, error.character);
    }
    Failure::failed(error.to_string())
}

pub(super) async fn apply(
    connection: &Connection,
    channels: &[NewChannel],
    prune: bool,
    dry_run: bool,
) -> Result<Vec<AppliedRow>, Failure> {
    let request = ApplyChannelsRequest {
        channels: channels.iter().map(message).collect(),
        prune,
        dry_run,
    };
    let applied = connection.admin().apply_channels(request).await;
    let applied = applied.inspect_err(|refusal| {
        let sentence = refusal.message();
        if let Some((filter, character)) = wrong_filter(channels, sentence) {
            caret::show(filter, character);
        }
    })?;
    let applied = applied.into_inner().channels.into_iter();
    Ok(applied.map(|it| AppliedRow::new(it, dry_run)).collect())
}

/// The filter that a gateway's sentence is about, and the character.
pub(super) fn wrong_filter<'a>(
    channels: &'a [NewChannel],
    sentence: &str,
) -> Option<(&'a str, usize)> {
    let character = caret::character(sentence)?;
    let members = |channel: &'a NewChannel| {
        let members = channel.members.iter();
        members.map(move |member| (format!("{}: {} ", channel.name, member.topic), member))
    };
    let mut members = channels.iter().flat_map(members);
    let (_, member) = members.find(|(beginning, _)| sentence.starts_with(beginning))?;
    Some((member.filter.as_deref()?, character))
}

fn message(channel: &NewChannel) -> admin::NewChannel {
    let member = |member: &NewMember| ChannelMember {
        topic_name: member.topic.clone(),
        filter: member.filter.clone().unwrap_or_default(),
        enriched_fields: member.enriched_fields.clone(),
    };
    admin::NewChannel {
        name: channel.name.clone(),
        label: channel.label.clone(),
        members: channel.members.iter().map(member).collect(),
    }
}

/// What was or would be done to a channel. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
pub(super) struct AppliedRow {
    name: String,
    outcome: String,
    dry_run: bool,
}

impl AppliedRow {
    fn new(applied: AppliedChannel, dry_run: bool) -> Self {
        Self {
            name: applied.name,
            outcome: applied.outcome,
            dry_run,
        }
    }
}

impl Record for AppliedRow {
    fn text(&self) -> String {
        let outcome = match (self.dry_run, &*self.outcome) {
            (true, "created" | "changed" | "deleted") => format!("would be {}", self.outcome),
            _ => self.outcome.clone(),
        };
        format!("{outcome}  {}", self.name)
    }
}
