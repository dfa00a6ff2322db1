//! `tidegate client`: client applications that sign in by OAuth, and what they are granted.

use std::{fs::File, io::Read, path::PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Format, Output, OutputArgs, Row, note, time},
    token::{GrantArgs, grant_cells},
};
use crate::{
    client::Connection,
    proto::admin::{Client, CreateClientRequest, DeleteClientRequest, ListClientsRequest},
    types::limits::CERTIFICATE_BYTES_MAX,
};

/// Arguments of `tidegate client`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a client application and print its id and secret; the secret is shown this once
    ///
    /// Without a pattern it is for every topic. With a certificate it may sign in for users of its
    /// tenant by assertions that it signs with the certificate's key.
    #[command(after_help = "\
Examples:
  tidegate client create --name shop --publish '/event/Order*'
  tidegate client create --name shop --certificate shop.crt")]
    Create {
        /// What the client is for, as the list will show it
        #[arg(long, default_value = "unnamed")]
        name: String,
        /// Certificate or public key in PEM, of an RSA key that assertions are signed with
        #[arg(long, value_name = "FILE", num_args = 1..)]
        certificate: Vec<PathBuf>,
        #[command(flatten)]
        grants: GrantArgs,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// List client applications, never their secrets
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
    /// Delete a client application; its tokens open nothing from then on
    Delete {
        /// The id that `tidegate client list` shows
        client_id: String,
        #[command(flatten)]
        connection: ConnectionArgs,
    },
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Create {
            name,
            certificate,
            grants,
            output,
            connection,
        } => {
            let certificates = certificate.iter().map(read).collect::<Result<_, _>>()?;
            let request = CreateClientRequest {
                name,
                grants: Some(grants.into()),
                certificates,
            };
            let connection = connection.connect().await?;
            let mut output = Output::stdout(output);
            let created = create(&connection, request).await?;
            match output.format() {
                Format::Json => output.list(&[created]),
                // As variables of a shell or a `.env` file, which is where they go.
                Format::Text => {
                    let secret = created.client_secret.as_deref().unwrap_or_default();
                    let id = &created.client_id;
                    output.document(&format!("CLIENT_ID={id}\nCLIENT_SECRET={secret}"));
                    note("the secret is not shown again");
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
        Command::Delete {
            client_id,
            connection,
        } => {
            let connection = connection.connect().await?;
            delete(&connection, client_id).await?;
            note("deleted");
            Ok(())
        }
    }
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let failed = |what: String| Failure::failed(format!("{}: {what}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    // One byte more than it may have: the gateway says how many those are.
    let most = CERTIFICATE_BYTES_MAX as u64 + 1;
    let read = file.take(most).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

async fn create(
    connection: &Connection,
    request: CreateClientRequest,
) -> Result<ClientRow, Failure> {
    let response = connection
        .admin()
        .create_client(request)
        .await?
        .into_inner();
    Ok(ClientRow {
        client_secret: Some(response.client_secret),
        ..ClientRow::from(response.client.unwrap_or_default())
    })
}

async fn list(connection: &Connection) -> Result<Vec<ClientRow>, Failure> {
    let response = connection
        .admin()
        .list_clients(ListClientsRequest {})
        .await?;
    let clients = response.into_inner().clients;
    Ok(clients.into_iter().map(ClientRow::from).collect())
}

async fn delete(connection: &Connection, client_id: String) -> Result<(), Failure> {
    let request = DeleteClientRequest { client_id };
    connection.admin().delete_client(request).await?;
    Ok(())
}

/// A client application as it is shown. The fields are the keys in JSON; the secret is there when it
/// was made just now.
#[derive(Serialize)]
struct ClientRow {
    client_id: String,
    name: String,
    publish: Vec<String>,
    subscribe: Vec<String>,
    change_events: bool,
    admin: bool,
    certificates: u32,
    user_id: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
}

impl From<Client> for ClientRow {
    fn from(client: Client) -> Self {
        let grants = client.grants.unwrap_or_default();
        Self {
            client_id: client.client_id,
            name: client.name,
            publish: grants.publish,
            subscribe: grants.subscribe,
            change_events: grants.change_events,
            admin: grants.admin,
            certificates: client.certificate_count,
            user_id: client.user_id,
            created_at: time(client.created_at_ms),
            client_secret: None,
        }
    }
}

impl Row for ClientRow {
    const HEADERS: &'static [&'static str] = &[
        "CLIENT ID",
        "NAME",
        "PUBLISH",
        "SUBSCRIBE",
        "ALSO",
        "CERTIFICATES",
        "CREATED",
    ];

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.client_id.clone(), self.name.clone()];
        cells.extend(grant_cells(
            &self.publish,
            &self.subscribe,
            self.change_events,
            self.admin,
        ));
        cells.extend([self.certificates.to_string(), self.created_at.clone()]);
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake_gateway::FakeGateway;

    #[tokio::test]
    async fn a_client_is_made_listed_and_deleted() {
        let gateway = FakeGateway::start().await;
        let connection = gateway.connect().await;
        let request = CreateClientRequest {
            name: "shop".into(),
            certificates: vec!["pem".into()],
            ..CreateClientRequest::default()
        };
        let created = create(&connection, request).await.unwrap();
        assert_eq!(created.client_secret.as_deref(), Some("made"));
        let listed = list(&connection).await.unwrap();
        assert_eq!(listed[0].cells()[..2], ["client-1", "shop"]);
        assert_eq!(listed[0].cells()[5], "1");
        let json = serde_json::to_value(&listed[0]).unwrap();
        assert!(json.get("client_secret").is_none());
        assert!(delete(&connection, "none".into()).await.is_err());
        delete(&connection, "client-1".into()).await.unwrap();
        assert!(list(&connection).await.unwrap().is_empty());
    }

    #[test]
    fn a_certificate_is_read_from_a_file_that_is_there_and_no_more_than_one_takes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.crt");
        assert!(read(&path).is_err());
        std::fs::write(&path, "pem").unwrap();
        assert_eq!(read(&path).unwrap(), "pem");
        std::fs::write(&path, "x".repeat(2 * CERTIFICATE_BYTES_MAX)).unwrap();
        assert_eq!(read(&path).unwrap().len(), CERTIFICATE_BYTES_MAX + 1);
    }
}
