//! `tidegate token`: access tokens and what they grant.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Format, Output, OutputArgs, Row, note, time},
    parse_duration,
};
use crate::{
    client::Connection,
    proto::admin::{CreateTokenRequest, Grants, ListTokensRequest, RevokeTokenRequest, Token},
    types::TopicPattern,
};

/// Arguments of `tidegate token`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an access token and print it; it is shown this once
    ///
    /// Without a pattern the token is for every topic.
    #[command(after_help = "\
Examples:
  tidegate token create --name billing --subscribe '/event/Order*'
  TIDEGATE_TOKEN=$(tidegate token create) tidegate subscribe /event/OrderCreated__e")]
    Create {
        /// What the token is for, as the list will show it
        #[arg(long, default_value = "unnamed")]
        name: String,
        #[command(flatten)]
        grants: GrantArgs,
        /// How long the token is good, such as 12h or 30d; for good without it
        #[arg(long, value_name = "TIME", value_parser = parse_lifetime)]
        expires: Option<Duration>,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// List access tokens, never the tokens themselves
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Revoke an access token
    Revoke {
        /// The id that `tidegate token list` shows
        id: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

/// What somebody is allowed.
#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    /// Allow publishing to topics that fit, such as '/event/Order*'
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    publish: Vec<TopicPattern>,
    /// Allow subscribing to topics that fit
    #[arg(long, value_name = "PATTERN", num_args = 1..)]
    subscribe: Vec<TopicPattern>,
    /// Let --publish reach change events, the topics under /data/, too
    #[arg(long)]
    change_events: bool,
    /// Allow managing tokens, clients, users and topics
    #[arg(long)]
    admin: bool,
}

impl From<GrantArgs> for Grants {
    fn from(mut args: GrantArgs) -> Self {
        if args.publish.is_empty() && args.subscribe.is_empty() {
            args.publish = vec![TopicPattern::every()];
            args.subscribe = vec![TopicPattern::every()];
        }
        let texts =
            |patterns: Vec<TopicPattern>| patterns.iter().map(ToString::to_string).collect();
        Self {
            publish: texts(args.publish),
            subscribe: texts(args.subscribe),
            change_events: args.change_events,
            admin: args.admin,
        }
    }
}

/// Parses a lifetime: as other times, or in days.
fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u64>().ok());
    match days.and_then(|days| days.checked_mul(24 * 3_600)) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => parse_duration(text),
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Create {
            name,
            grants,
            expires,
            output,
            connection,
        } => {
            let request = CreateTokenRequest {
                name,
                grants: Some(grants.into()),
                lifetime_ms: expires.map_or(0, millis),
            };
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let created = create(&connection, request).await?;
            match output.format() {
                Format::Json => output.list(&[created]),
                // The token alone, so that it can be put into a variable.
                Format::Text => {
                    output.document(created.access_token.as_deref().unwrap_or_default());
                    note(&format!("made token {}; it is not shown again", created.id));
                }
            }
            output.flush().await
        }
        Command::List { output, connection } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            output.list(&list(&connection).await?);
            output.flush().await
        }
        Command::Revoke {
            id,
            output,
            connection,
        } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            output.list(&[revoke(&connection, id).await?]);
            output.flush().await
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn create(connection: &Connection, request: CreateTokenRequest) -> Result<TokenRow, Failure> {
    let response = connection.admin().create_token(request).await?.into_inner();
    Ok(TokenRow {
        access_token: Some(response.access_token),
        ..TokenRow::from(response.token.unwrap_or_default())
    })
}

async fn list(connection: &Connection) -> Result<Vec<TokenRow>, Failure> {
    let response = connection.admin().list_tokens(ListTokensRequest {}).await?;
    let tokens = response.into_inner().tokens;
    Ok(tokens.into_iter().map(TokenRow::from).collect())
}

async fn revoke(connection: &Connection, id: String) -> Result<TokenRow, Failure> {
    let request = RevokeTokenRequest { id };
    let response = connection.admin().revoke_token(request).await?;
    Ok(response.into_inner().token.unwrap_or_default().into())
}

/// A token as it is shown. The fields are the keys in JSON; the token itself is there when it was
/// made just now.
#[derive(Serialize)]
struct TokenRow {
    id: String,
    name: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
    change_events: bool,
    admin: bool,
    kind: String,
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<String>,
}

impl From<Token> for TokenRow {
    fn from(token: Token) -> Self {
        let grants = token.grants.unwrap_or_default();
        Self {
            id: token.id,
            name: token.name,
            publish: grants.publish,
            subscribe: grants.subscribe,
            change_events: grants.change_events,
            admin: grants.admin,
            kind: token.kind,
            created_at: time(token.created_at_ms),
            expires_at: Some(time(token.expires_at_ms)).filter(|at| !at.is_empty()),
            revoked_at: Some(time(token.revoked_at_ms)).filter(|at| !at.is_empty()),
            access_token: None,
        }
    }
}

impl Row for TokenRow {
    const HEADERS: &'static [&'static str] = &[
        "ID",
        "NAME",
        "PUBLISH",
        "SUBSCRIBE",
        "ALSO",
        "KIND",
        "CREATED",
        "EXPIRES",
        "REVOKED",
    ];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.id.clone(), self.name.clone()];
        cells.extend(grant_cells(
            &self.publish,
            &self.subscribe,
            self.change_events,
            self.admin,
        ));
        cells.extend([
            self.kind.clone(),
            self.created_at.clone(),
            or_dash(self.expires_at.clone().unwrap_or_default()),
            or_dash(self.revoked_at.clone().unwrap_or_default()),
        ]);
        cells
    }
}

/// What somebody is allowed, under `PUBLISH`, `SUBSCRIBE` and `ALSO`.
pub(super) fn grant_cells(
    publish: &[String],
    subscribe: &[String],
    change_events: bool,
    admin: bool,
) -> [String; 3] {
    let also = [(change_events, "change events"), (admin, "admin")];
    let also: Vec<&str> = also
        .into_iter()
        .filter_map(|(has, what)| has.then_some(what))
        .collect();
    [publish.join(" "), subscribe.join(" "), also.join(", ")].map(or_dash)
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake_gateway::FakeGateway;

    fn grants(publish: &[&str], subscribe: &[&str]) -> GrantArgs {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        GrantArgs {
            publish: patterns(publish),
            subscribe: patterns(subscribe),
            change_events: false,
            admin: false,
        }
    }

    #[test]
    fn without_a_pattern_a_token_is_for_every_topic() {
        let granted = Grants::from(grants(&[], &[]));
        assert_eq!(
            (&granted.publish[..], &granted.subscribe[..]),
            (&["*".to_owned()][..], &["*".to_owned()][..])
        );
        assert!(!granted.change_events && !granted.admin);

        let granted = Grants::from(grants(&[], &["/event/Order*"]));
        assert!(
            granted.publish.is_empty(),
            "one pattern given means no others"
        );
        assert_eq!(granted.subscribe, ["/event/Order*"]);
    }

    #[test]
    fn a_lifetime_may_be_in_days() {
        assert_eq!(parse_lifetime("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse_lifetime("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["0d", "d", "-1d", "30", "99999999999999999999d", "1.5d"] {
            assert!(parse_lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_token_is_made_listed_and_revoked() {
        let gateway = FakeGateway::start().await;
        let connection = gateway.connect().await;
        let request = CreateTokenRequest {
            name: "billing".into(),
            grants: Some(grants(&[], &["/event/Order*"]).into()),
            lifetime_ms: 60_000,
        };
        let created = create(&connection, request).await.unwrap();
        assert_eq!(
            created.access_token.as_deref(),
            Some("00D000000000001!made")
        );
        let json = serde_json::to_value(&created).unwrap();
        assert_eq!(json["revoked_at"], serde_json::Value::Null);

        let listed = list(&connection).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(
            listed[0].cells()[1..5],
            ["billing", "-", "/event/Order*", "-"]
        );
        assert!(listed[0].access_token.is_none());

        let revoked = revoke(&connection, created.id).await.unwrap();
        assert!(revoked.revoked_at.is_some());
        let unknown = revoke(&connection, "none".into()).await;
        assert!(unknown.is_err());
    }
}
