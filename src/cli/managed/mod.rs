//! `tidegate managed`: subscriptions whose position the gateway keeps.

mod lag;
mod subscribe;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Output, OutputArgs, Row, hex, note, time},
};
use crate::{
    client::Connection,
    proto::admin::{
        CreateManagedSubscriptionRequest, ListManagedSubscriptionsRequest, ManagedSubscription,
        ManagedSubscriptionKey, UpdateManagedSubscriptionRequest,
    },
    types::{PlatformId, TopicName, limits::SHARING_STREAMS_MAX},
};

pub(super) use lag::LagCells;

/// Arguments of `tidegate managed`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Admin(Box<AdminCommand>),
    /// Print its events as they arrive, and commit what was printed
    Subscribe(Box<subscribe::Args>),
}

/// What is done at once.
#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Make a managed subscription
    #[command(after_help = "\
Examples:
  tidegate managed create Fulfilment --topic /event/OrderCreated__e --default-replay earliest
  tidegate managed create Billing --topic /event/OrderCreated__e --takeover newest
  tidegate managed create Packing --topic /event/OrderCreated__e --sharing 4 --key Order_Number__c")]
    Create {
        /// Its name: a letter, then letters, digits and single underscores
        #[arg(value_name = "NAME")]
        developer_name: String,
        /// Its topic, such as /event/OrderCreated__e
        #[arg(long)]
        topic: TopicName,
        #[command(flatten)]
        settings: SettingArgs,
        #[command(flatten)]
        sharing: SharingArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// List the managed subscriptions, and how far each is behind
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Change a managed subscription
    #[command(after_help = "\
Example:
  tidegate managed update Fulfilment --state stop")]
    Update {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        settings: SettingArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Delete a managed subscription with its position
    Delete {
        #[command(flatten)]
        key: KeyArgs,
        /// Say that it is meant: its position does not come back
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Take a managed subscription from the stream that has it
    Release {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Show what each managed subscription has committed
    Positions {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

/// Which managed subscription is meant.
#[derive(Clone, Debug, clap::Args)]
struct KeyArgs {
    /// Its name, or its id, which begins with 18x
    #[arg(value_name = "NAME|ID")]
    key: String,
}

impl KeyArgs {
    /// A name begins with a letter, so none looks like an id.
    fn is_id(&self) -> bool {
        self.key.starts_with("18x") && self.key.parse::<PlatformId>().is_ok()
    }

    fn message(&self) -> ManagedSubscriptionKey {
        match self.is_id() {
            true => ManagedSubscriptionKey {
                id: self.key.clone(),
                ..ManagedSubscriptionKey::default()
            },
            false => ManagedSubscriptionKey {
                developer_name: self.key.clone(),
                ..ManagedSubscriptionKey::default()
            },
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct SettingArgs {
    /// What people call it; at first its name
    #[arg(long)]
    label: Option<String>,
    /// Where it starts that has no position; at first latest
    #[arg(long, value_name = "REPLAY")]
    default_replay: Option<Replay>,
    /// Where it goes on when its position is no longer valid; at first latest
    #[arg(long, value_name = "REPLAY")]
    error_recovery_replay: Option<Replay>,
    /// Whether it may be subscribed to; at first run
    #[arg(long)]
    state: Option<State>,
    /// Which of two streams has it; at first the one that has it, which refuses the other
    #[arg(long)]
    takeover: Option<Takeover>,
    /// What events have to match: the condition of a WHERE clause; an empty one has all delivered
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
}

/// How it is shared. For good: positions are kept by what the key is.
#[derive(Clone, Debug, clap::Args)]
struct SharingArgs {
    /// Split its events among so many streams at most, 2 to 64, instead of giving all to one
    #[arg(long, value_name = "N", requires = "sharing_key", value_parser = clap::value_parser!(u32).range(2..=i64::from(SHARING_STREAMS_MAX)))]
    sharing: Option<u32>,
    /// The field by which they are split, or a part of one, as Field__c.Part: events that have the same
    /// there stay in order
    #[arg(
        long = "key",
        id = "sharing_key",
        value_name = "FIELD",
        requires = "sharing"
    )]
    key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Replay {
    // Without doc comments, so that the help says no more than their names.
    Latest,
    Earliest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    Run,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Takeover {
    Refuse,
    Newest,
}

/// The word for an option that may be absent.
fn word<T: ValueEnum>(option: Option<T>) -> String {
    let value = option.and_then(|option| option.to_possible_value());
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Admin(command) => super::unless_interrupted(administer(*command)).await,
        Command::Subscribe(args) => subscribe::run(*args).await,
    }
}

async fn administer(command: AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::Create {
            developer_name,
            topic,
            settings,
            sharing,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let made = create(&connection, developer_name, &topic, settings, sharing).await?;
            output.list(&[made]);
            output.flush().await
        }
        AdminCommand::List { output, connection } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let found = list(&connection).await?;
            if found.is_empty() {
                note("there is no managed subscription that this token may use");
            }
            output.list(&found);
            output.flush().await
        }
        AdminCommand::Update {
            key,
            settings,
            output,
            connection,
        } => {
            if settings == SettingArgs::default() {
                return Err(Failure::Usage(
                    "say what to change: --label, --default-replay, --error-recovery-replay, --state, \
                     --takeover or --filter"
                        .into(),
                ));
            }
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            output.list(&[update(&connection, &key, settings).await?]);
            output.flush().await
        }
        AdminCommand::Delete {
            key,
            yes,
            connection,
        } => {
            if !yes {
                return Err(Failure::Usage(format!(
                    "{} and its position would be gone for good; say --yes if that is meant",
                    key.key
                )));
            }
            let connection = connection.connect().await?;
            let mut admin = connection.admin();
            let deleted = admin.delete_managed_subscription(key.message()).await?;
            let deleted = deleted.into_inner();
            note(&format!(
                "deleted {}, {}",
                deleted.developer_name, deleted.id
            ));
            Ok(())
        }
        AdminCommand::Release { key, connection } => {
            let connection = connection.connect().await?;
            let mut admin = connection.admin();
            let released = admin.release_managed_subscription(key.message()).await?;
            note(match released.into_inner().was_active {
                true => "released; every stream that had it ends",
                false => "no stream had it",
            });
            Ok(())
        }
        AdminCommand::Positions { output, connection } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let found = list(&connection).await?;
            let rows: Vec<_> = found.into_iter().map(PositionRow::from).collect();
            output.list(&rows);
            output.flush().await
        }
    }
}

async fn create(
    connection: &Connection,
    developer_name: String,
    topic: &TopicName,
    settings: SettingArgs,
    sharing: SharingArgs,
) -> Result<ManagedRow, Failure> {
    let request = CreateManagedSubscriptionRequest {
        developer_name,
        label: settings.label.unwrap_or_default(),
        topic_name: topic.to_string(),
        default_replay: word(settings.default_replay),
        error_recovery_replay: word(settings.error_recovery_replay),
        state: word(settings.state),
        takeover: word(settings.takeover),
        filter: settings.filter.unwrap_or_default(),
        sharing: sharing.sharing.unwrap_or_default(),
        sharing_key: sharing.key.unwrap_or_default(),
    };
    let mut admin = connection.admin();
    let made = admin.create_managed_subscription(request).await?;
    Ok(made.into_inner().into())
}

async fn update(
    connection: &Connection,
    key: &KeyArgs,
    settings: SettingArgs,
) -> Result<ManagedRow, Failure> {
    let request = UpdateManagedSubscriptionRequest {
        key: Some(key.message()),
        label: settings.label.unwrap_or_default(),
        default_replay: word(settings.default_replay),
        error_recovery_replay: word(settings.error_recovery_replay),
        state: word(settings.state),
        takeover: word(settings.takeover),
        filter: settings.filter,
    };
    let mut admin = connection.admin();
    let changed = admin.update_managed_subscription(request).await?;
    Ok(changed.into_inner().into())
}

async fn list(connection: &Connection) -> Result<Vec<ManagedRow>, Failure> {
    let mut admin = connection.admin();
    let request = ListManagedSubscriptionsRequest {};
    let found = admin.list_managed_subscriptions(request).await?;
    let found = found.into_inner().subscriptions.into_iter();
    Ok(found.map(ManagedRow::from).collect())
}

/// A managed subscription as it is shown. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct ManagedRow {
    id: String,
    developer_name: String,
    label: String,
    topic: String,
    default_replay: String,
    error_recovery_replay: String,
    state: String,
    takeover: String,
    /// Null where all events are delivered.
    filter: Option<String>,
    /// Null where one stream has it.
    sharing: Option<u32>,
    sharing_key: Option<String>,
    version: u32,
    created_at: String,
    active: bool,
    streams: u32,
    /// Null before the first commit.
    committed_replay_id: Option<String>,
    committed_at: Option<String>,
    #[serde(flatten)]
    lag: LagCells,
}

impl From<ManagedSubscription> for ManagedRow {
    fn from(found: ManagedSubscription) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: found.id,
            developer_name: found.developer_name,
            label: found.label,
            topic: found.topic_name,
            default_replay: found.default_replay,
            error_recovery_replay: found.error_recovery_replay,
            state: found.state,
            takeover: found.takeover,
            filter: given(found.filter),
            sharing: Some(found.sharing).filter(|&streams| streams > 0),
            sharing_key: given(found.sharing_key),
            version: found.version,
            created_at: time(found.created_at_ms),
            active: found.active,
            streams: found.streams,
            committed_replay_id: given(hex(&found.committed_replay_id)),
            committed_at: given(time(found.committed_at_ms)),
            lag: found.lag.into(),
        }
    }
}

impl Row for ManagedRow {
    const HEADERS: &'static [&'static str] = &[
        "NAME", "ID", "TOPIC", "STATE", "STREAM", "BEHIND", "FOR", "TO LOSS",
    ];

    fn cells(&self) -> Vec<String> {
        let stream = match (self.sharing, self.active) {
            (Some(sharing), _) => format!("{} of {sharing}", self.streams),
            (None, true) => "active".to_owned(),
            (None, false) => "none".to_owned(),
        };
        let mut cells = vec![
            self.developer_name.clone(),
            self.id.clone(),
            self.topic.clone(),
            self.state.clone(),
            stream,
        ];
        cells.extend(self.lag.cells());
        cells
    }
}

/// The position of a managed subscription as it is shown. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct PositionRow {
    developer_name: String,
    id: String,
    committed_replay_id: Option<String>,
    committed_at: Option<String>,
    #[serde(flatten)]
    lag: LagCells,
}

impl From<ManagedRow> for PositionRow {
    fn from(row: ManagedRow) -> Self {
        Self {
            developer_name: row.developer_name,
            id: row.id,
            committed_replay_id: row.committed_replay_id,
            committed_at: row.committed_at,
            lag: row.lag,
        }
    }
}

impl Row for PositionRow {
    const HEADERS: &'static [&'static str] =
        &["NAME", "COMMITTED", "AT", "BEHIND", "FOR", "TO LOSS"];

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let mut cells = vec![
            self.developer_name.clone(),
            or_dash(&self.committed_replay_id),
            or_dash(&self.committed_at),
        ];
        cells.extend(self.lag.cells());
        cells
    }
}

#[cfg(test)]
mod tests;
