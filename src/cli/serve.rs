//! `tidegate serve`: runs the gateway until it is asked to stop.

use anyhow::Context;

use super::{
    config,
    exit::{Exit, Failure},
    output,
};
use crate::{
    config::ServeFlags,
    server::{self, Running},
    telemetry::log,
};

/// What `--help` shows below the options.
const EXAMPLES: &str = "\
Every option is also a setting: see `tidegate config show`.

Examples:
  tidegate serve
  tidegate serve --data-dir /var/lib/tidegate --schemas /etc/tidegate/schemas
  tidegate serve --ephemeral --grpc-addr 127.0.0.1:0 --ready-file ready.json";

/// Arguments of `tidegate serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    flags: ServeFlags,
}

/// Runs the gateway.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let settings = config::load(&args.flags)?.settings;
    log::init(&settings.log).map_err(|error| Failure::Usage(error.to_string()))?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot be started");
    let served = runtime.and_then(|runtime| runtime.block_on(serve(settings.gateway)));
    served.map_err(|error| Failure::Other(Exit::Failed, format!("{error:#}")))
}

async fn serve(config: server::Config) -> anyhow::Result<()> {
    // From here on a signal ends the gateway in order, also while it starts.
    let stop = server::stop_requested()?;
    let running = server::start(config).await?;
    greeting(&running)
        .iter()
        .for_each(|line| output::note(line));
    stop.await;
    tracing::info!("stopping");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// What a person who started the gateway wants to know.
fn greeting(running: &Running) -> Vec<String> {
    let profile = running.profile();
    let listeners = [
        ("gRPC, TLS", profile.grpc_tls_addr),
        ("gRPC, plaintext", profile.grpc_addr),
        ("HTTPS", profile.https_addr),
        ("HTTP", profile.http_addr),
    ];
    let mut lines = vec!["tidegate is ready".to_owned()];
    for (name, addr) in listeners {
        if let Some(addr) = addr {
            lines.push(format!("  {name:<16} {addr}"));
        }
    }
    let topics = running.topics();
    let topics = match topics.as_slice() {
        [] => "none yet: put .avsc files into the schemas directory".to_owned(),
        topics => topics.join(", "),
    };
    lines.push(format!("  {:<16} {topics}", "topics"));
    lines.push(format!(
        "  {:<16} {}",
        "profile",
        running.profile_file().display()
    ));
    lines
}
