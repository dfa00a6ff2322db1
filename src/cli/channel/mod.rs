//! `tidegate channel`: several topics that are subscribed to as one.

mod apply;
mod caret;

use clap::Subcommand;
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Format, Output, OutputArgs, Row, note, printable, time},
};
use crate::{
    client::Connection,
    filter::Filter,
    proto::admin::{
        AddChannelMemberRequest, Channel, ChannelMember, DeleteChannelRequest, ListChannelsRequest,
        NewChannel, RemoveChannelMemberRequest, UpdateChannelRequest,
    },
    types::TopicName,
};

/// Arguments of `tidegate channel`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
With --output json there is an object a channel: name, label, standard, version, created_at, and members, each
with topic, filter (null for all events) and enriched_fields.")]
enum Command {
    /// Make a channel, without members yet
    #[command(after_help = "\
Example:
  tidegate channel create /event/Orders__chn --label Orders
  tidegate channel add /event/Orders__chn /event/OrderCreated__e --filter 'Amount__c > 10'
  tidegate subscribe /event/Orders__chn")]
    Create {
        /// Its name: /event/…__chn for platform events, /data/…__chn for change events
        #[arg(value_name = "CHANNEL")]
        name: TopicName,
        /// What people call it; at first the last part of its name
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// List the channels, with the standard one of all change events
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Describe one channel with its members
    Describe {
        /// The channel, such as /event/Orders__chn
        #[arg(value_name = "CHANNEL")]
        name: TopicName,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Add a topic to a channel, or give one that is a member another filter
    #[command(after_help = "\
Examples:
  tidegate channel add /event/Orders__chn /event/OrderCreated__e --filter 'Amount__c > 10'
  tidegate channel add /data/Sales__chn /data/AccountChangeEvent --enrich Name Industry")]
    Add {
        /// The channel, such as /event/Orders__chn
        #[arg(value_name = "CHANNEL")]
        name: TopicName,
        /// The topic, such as /event/OrderCreated__e
        topic: TopicName,
        /// What its events have to match: the condition of a WHERE clause
        #[arg(
            long,
            value_name = "EXPR",
            default_value = "",
            hide_default_value = true
        )]
        filter: String,
        /// Fields that whoever publishes the change events is to add to each
        #[arg(long, value_name = "FIELD", num_args = 1.., value_delimiter = ',')]
        enrich: Vec<String>,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Take a topic out of a channel
    Remove {
        /// The channel, such as /event/Orders__chn
        #[arg(value_name = "CHANNEL")]
        name: TopicName,
        /// The topic, such as /event/OrderCreated__e
        topic: TopicName,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Change what people call a channel
    Set {
        /// The channel, such as /event/Orders__chn
        #[arg(value_name = "CHANNEL")]
        name: TopicName,
        /// What people call it
        #[arg(long)]
        label: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Delete a channel with its filters
    ///
    /// Its subscribers' streams end. Its topics and their events stay.
    Delete {
        /// The channel, such as /event/Orders__chn
        #[arg(value_name = "CHANNEL")]
        name: TopicName,
        /// Say that it is meant: whoever subscribes to it gets nothing any more
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Make channels be just as a file lists them
    Apply(apply::Args),
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Create {
            name,
            label,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let made = create(&connection, &name, label).await?;
            show(made, output).await
        }
        Command::List { output, connection } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            output.list(&list(&connection).await?);
            output.flush().await
        }
        Command::Describe {
            name,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let described = describe(&connection, &name).await?;
            show(described, output).await
        }
        Command::Add {
            name,
            topic,
            filter,
            enrich,
            output,
            connection,
        } => {
            check(&filter)?;
            let connection = connection.connect().await?;
            let member = ChannelMember {
                topic_name: topic.to_string(),
                filter,
                enriched_fields: enrich,
            };
            let changed = add(&connection, &name, member).await?;
            show(changed, output).await
        }
        Command::Remove {
            name,
            topic,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let changed = remove(&connection, &name, &topic).await?;
            show(changed, output).await
        }
        Command::Set {
            name,
            label,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let changed = set(&connection, &name, label).await?;
            show(changed, output).await
        }
        Command::Delete {
            name,
            yes,
            connection,
        } => {
            if !yes {
                return Err(Failure::Usage(format!(
                    "{name} and its filters would be gone, and its subscribers' streams end; say --yes if \
                     that is meant"
                )));
            }
            let connection = connection.connect().await?;
            delete(&connection, &name).await?;
            note(&format!("deleted {name}"));
            Ok(())
        }
        Command::Apply(args) => apply::run(args).await,
    }
}

/// Prints one channel.
async fn show(channel: ChannelRow, output: OutputArgs) -> Result<(), Failure> {
    let mut output = Output::stdout(output);
    match output.format() {
        Format::Json => output.list(&[channel]),
        Format::Text => output.document(&channel.description()),
    }
    output.flush().await
}

/// Holds a filter to be one, as far as that can be told here: the gateway knows the fields.
fn check(filter: &str) -> Result<(), Failure> {
    if filter.trim().is_empty() {
        return Ok(());
    }
    match filter.parse::<Filter>() {
        Ok(_) => Ok(()),
        Err(error) => {
            caret::show(filter, error.character);
            Err(Failure::failed(format!("the filter is wrong {error}")))
        }
    }
}

async fn create(
    connection: &Connection,
    name: &TopicName,
    label: Option<String>,
) -> Result<ChannelRow, Failure> {
    let request = NewChannel {
        name: name.to_string(),
        label: label.unwrap_or_default(),
        members: Vec::new(),
    };
    let made = connection.admin().create_channel(request).await?;
    Ok(made.into_inner().into())
}

async fn list(connection: &Connection) -> Result<Vec<ChannelRow>, Failure> {
    let request = ListChannelsRequest {};
    let found = connection.admin().list_channels(request).await?;
    let found = found.into_inner().channels.into_iter();
    Ok(found.map(ChannelRow::from).collect())
}

async fn describe(connection: &Connection, name: &TopicName) -> Result<ChannelRow, Failure> {
    let mut found = list(connection).await?.into_iter();
    found
        .find(|channel| channel.name == name.as_str())
        .ok_or_else(|| {
            let advice = "`tidegate channel list` shows those that there are";
            Failure::failed(format!("there is no channel {name}; {advice}"))
        })
}

async fn add(
    connection: &Connection,
    name: &TopicName,
    member: ChannelMember,
) -> Result<ChannelRow, Failure> {
    let filter = member.filter.clone();
    let request = AddChannelMemberRequest {
        channel_name: name.to_string(),
        member: Some(member),
    };
    let changed = connection.admin().add_channel_member(request).await;
    let changed = changed.inspect_err(|refusal| {
        if let Some(character) = caret::character(refusal.message()) {
            caret::show(&filter, character);
        }
    })?;
    Ok(changed.into_inner().into())
}

async fn remove(
    connection: &Connection,
    name: &TopicName,
    topic: &TopicName,
) -> Result<ChannelRow, Failure> {
    let request = RemoveChannelMemberRequest {
        channel_name: name.to_string(),
        topic_name: topic.to_string(),
    };
    let changed = connection.admin().remove_channel_member(request).await?;
    Ok(changed.into_inner().into())
}

async fn set(
    connection: &Connection,
    name: &TopicName,
    label: String,
) -> Result<ChannelRow, Failure> {
    let request = UpdateChannelRequest {
        name: name.to_string(),
        label,
    };
    let changed = connection.admin().update_channel(request).await?;
    Ok(changed.into_inner().into())
}

async fn delete(connection: &Connection, name: &TopicName) -> Result<(), Failure> {
    let request = DeleteChannelRequest {
        name: name.to_string(),
    };
    connection.admin().delete_channel(request).await?;
    Ok(())
}

/// A channel as it is shown. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct ChannelRow {
    name: String,
    label: String,
    /// Whether it is the channel of all change events, which cannot be changed.
    standard: bool,
    /// Null for the standard one.
    version: Option<u32>,
    created_at: Option<String>,
    members: Vec<MemberRow>,
}

/// A member of a channel as it is shown.
#[derive(Debug, Serialize)]
struct MemberRow {
    topic: String,
    /// Null where all events are delivered.
    filter: Option<String>,
    enriched_fields: Vec<String>,
}

impl From<Channel> for ChannelRow {
    fn from(channel: Channel) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let member = |member: ChannelMember| MemberRow {
            topic: member.topic_name,
            filter: given(member.filter),
            enriched_fields: member.enriched_fields,
        };
        Self {
            name: channel.name,
            label: channel.label,
            standard: channel.standard,
            version: (!channel.standard).then_some(channel.version),
            created_at: given(time(channel.created_at_ms)),
            members: channel.members.into_iter().map(member).collect(),
        }
    }
}

impl ChannelRow {
    fn version(&self) -> String {
        let version = self.version.map(|version| version.to_string());
        version.unwrap_or_else(|| "standard".into())
    }

    /// One property or member a line.
    fn description(&self) -> String {
        let made = self.created_at.clone().unwrap_or_else(|| "-".into());
        let lines = [
            ("name", self.name.clone()),
            ("label", self.label.clone()),
            ("version", self.version()),
            ("made", made),
        ];
        let members = self.members.iter().map(|member| ("member", member.text()));
        let lines = lines.into_iter().chain(members);
        let lines = lines.map(|(name, value)| format!("{name:8}  {}\n", printable(&value)));
        lines.collect()
    }
}

impl MemberRow {
    fn text(&self) -> String {
        let mut text = self.topic.clone();
        if let Some(filter) = &self.filter {
            text.push_str(&format!("  where {filter}"));
        }
        if !self.enriched_fields.is_empty() {
            text.push_str(&format!(
                "  enriched by {}",
                self.enriched_fields.join(", ")
            ));
        }
        text
    }
}

impl Row for ChannelRow {
    const HEADERS: &'static [&'static str] = &["CHANNEL", "LABEL", "MEMBERS", "FILTERS", "VERSION"];

    fn cells(&self) -> Vec<String> {
        let filters = self.members.iter().filter(|member| member.filter.is_some());
        vec![
            self.name.clone(),
            self.label.clone(),
            self.members.len().to_string(),
            filters.count().to_string(),
            self.version(),
        ]
    }
}

#[cfg(test)]
mod tests;
