//! `tidegate user`: users who sign in with a password, and what they are granted.

use clap::Subcommand;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Format, Output, OutputArgs, Row, note, time},
    token::{GrantArgs, grant_cells},
};
use crate::{
    client::Connection,
    proto::admin::{CreateUserRequest, DeleteUserRequest, ListUsersRequest, User},
    types::limits::PASSWORD_BYTES_MAX,
};

/// Arguments of `tidegate user`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a user and print the password; it is shown this once
    ///
    /// Without a pattern the user is for every topic. A password that is not given is made.
    #[command(after_help = "\
Examples:
  tidegate user create shop@example.com --publish '/event/Order*'
  tidegate user create shop@example.com --password-stdin < password.txt")]
    Create {
        /// The name to sign in with, in whatever case
        username: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        grants: GrantArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// List users, never their passwords
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Delete a user; their tokens open nothing from then on
    Delete {
        /// The name they sign in with
        username: String,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Create {
            username,
            password_stdin,
            grants,
            output,
            connection,
        } => {
            let password = if password_stdin {
                read_password(tokio::io::stdin()).await?
            } else {
                String::new()
            };
            let request = CreateUserRequest {
                username,
                grants: Some(grants.into()),
                password,
            };
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let created = create(&connection, request).await?;
            match (output.format(), &created.password) {
                (Format::Json, _) => output.list(&[created]),
                // The password alone, so that it can be put into a variable.
                (Format::Text, Some(password)) => {
                    output.document(password);
                    note(&format!(
                        "made {}; the password is not shown again",
                        created.username
                    ));
                }
                (Format::Text, None) => note(&format!("made {}", created.username)),
            }
            output.flush().await
        }
        Command::List { output, connection } => {
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            output.list(&list(&connection).await?);
            output.flush().await
        }
        Command::Delete {
            username,
            connection,
        } => {
            let connection = connection.connect().await?;
            delete(&connection, username).await?;
            note("deleted");
            Ok(())
        }
    }
}

/// The first line of `input`. More than a password has is not read.
async fn read_password(input: impl tokio::io::AsyncRead + Unpin) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let most = PASSWORD_BYTES_MAX as u64 + 2;
    let read = input.take(most).read_to_end(&mut bytes).await;
    read.map_err(|error| Failure::failed(format!("the password cannot be read: {error}")))?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| Failure::failed("the password is not text in UTF-8"))?;
    match text.lines().next().unwrap_or_default() {
        "" => Err(Failure::failed("there is no password on standard input")),
        line => Ok(line.to_owned()),
    }
}

async fn create(connection: &Connection, request: CreateUserRequest) -> Result<UserRow, Failure> {
    let response = connection.admin().create_user(request).await?.into_inner();
    Ok(UserRow {
        password: Some(response.password).filter(|password| !password.is_empty()),
        ..UserRow::from(response.user.unwrap_or_default())
    })
}

async fn list(connection: &Connection) -> Result<Vec<UserRow>, Failure> {
    let response = connection.admin().list_users(ListUsersRequest {}).await?;
    let users = response.into_inner().users;
    Ok(users.into_iter().map(UserRow::from).collect())
}

async fn delete(connection: &Connection, username: String) -> Result<(), Failure> {
    let request = DeleteUserRequest { username };
    connection.admin().delete_user(request).await?;
    Ok(())
}

/// A user as they are shown. The fields are the keys in JSON; the password is there when it was made
/// just now.
#[derive(Serialize)]
struct UserRow {
    username: String,
    user_id: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
    change_events: bool,
    admin: bool,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

impl From<User> for UserRow {
    fn from(user: User) -> Self {
        let grants = user.grants.unwrap_or_default();
        Self {
            username: user.username,
            user_id: user.user_id,
            publish: grants.publish,
            subscribe: grants.subscribe,
            change_events: grants.change_events,
            admin: grants.admin,
            created_at: time(user.created_at_ms),
            password: None,
        }
    }
}

impl Row for UserRow {
    const HEADERS: &'static [&'static str] = &[
        "USERNAME",
        "USER ID",
        "PUBLISH",
        "SUBSCRIBE",
        "ALSO",
        "CREATED",
    ];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.username.clone(), self.user_id.clone()];
        cells.extend(grant_cells(
            &self.publish,
            &self.subscribe,
            self.change_events,
            self.admin,
        ));
        cells.push(self.created_at.clone());
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake_gateway::FakeGateway;

    #[tokio::test]
    async fn a_user_is_made_listed_and_deleted() {
        let gateway = FakeGateway::start().await;
        let connection = gateway.connect().await;
        let request = |username: &str, password: &str| CreateUserRequest {
            username: username.into(),
            grants: None,
            password: password.into(),
        };
        let made = create(&connection, request("a", "")).await.unwrap();
        assert_eq!(made.password.as_deref(), Some("made"));
        let given = create(&connection, request("b", "secret horse"))
            .await
            .unwrap();
        assert!(given.password.is_none());
        let listed = list(&connection).await.unwrap();
        assert_eq!(listed.len(), 2);
        assert!(!serde_json::to_string(&listed).unwrap().contains("password"));
        assert!(delete(&connection, "none".into()).await.is_err());
        delete(&connection, "a".into()).await.unwrap();
        assert_eq!(list(&connection).await.unwrap()[0].cells()[0], "b");
    }

    #[tokio::test]
    async fn a_password_is_the_first_line_and_has_to_be_one() {
        for (input, wanted) in [
            ("secret horse", "secret horse"),
            ("secret horse\n", "secret horse"),
            ("secret horse\r\nmore\n", "secret horse"),
            (" spaced ", " spaced "),
        ] {
            assert_eq!(read_password(input.as_bytes()).await.unwrap(), wanted);
        }
        for input in [&b""[..], b"\nsecond", b"\xff\xfe"] {
            assert!(read_password(input).await.is_err());
        }
    }
}
