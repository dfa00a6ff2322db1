//! `tidegate schema retire`: no new events are written with a version any more.

use super::{
    super::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Output, OutputArgs},
    },
    SchemaRow,
    verdict::Affected,
};
use crate::{proto::admin::RetireSchemaRequest, types::SchemaId};

/// Arguments of `tidegate schema retire`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Events that were written with it are read as before. Registering it again makes it the current version
again, which is no longer retired.")]
pub(super) struct Args {
    /// The version's schema id; the current version is not retired
    #[arg(value_name = "ID")]
    id: SchemaId,
    /// Say that it is meant: whoever publishes with it is refused from then on
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let mut admin = connection.admin();
    let request = |check_only| RetireSchemaRequest {
        schema_id: args.id.to_string(),
        check_only,
    };
    if !args.yes {
        let rehearsed = admin.retire_schema(request(true)).await?.into_inner();
        let publishers = rehearsed.publishers.into_iter().map(Affected::from);
        let publishers: Vec<_> = publishers.map(|publisher| publisher.text(true)).collect();
        if !publishers.is_empty() {
            return Err(Failure::Usage(format!(
                "whoever publishes with {} would be refused; these did: {}; say --yes if that is meant",
                args.id,
                publishers.join(", ")
            )));
        }
    }
    let retired = admin.retire_schema(request(false)).await?.into_inner();
    let version = retired.version.unwrap_or_default();
    let mut output = Output::stdout(args.output);
    output.list(&[SchemaRow::from(version)]);
    output.flush().await
}
