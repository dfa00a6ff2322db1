//! `tidegate config`: what the settings are, and whether they are right.

use clap::Subcommand;

use super::{
    exit::Failure,
    output::{self, Output, OutputArgs},
};
use crate::config::{self, Effective, ServeFlags, env};

/// Arguments of `tidegate config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print `ok`, or everything that is wrong with file, environment and flags
    ///
    /// Exit code 2 stands for settings with which `serve` would not start.
    Check(ServeFlags),
    /// Print every setting and the layer that set it, as a configuration file
    Show(ServeFlags),
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let text = match args.command {
        Command::Check(flags) => load(&flags).map(|_| "ok".to_owned())?,
        Command::Show(flags) => load(&flags)?.show(),
    };
    let mut output = Output::stdout(OutputArgs::default());
    output.document(&text);
    output.flush().await
}

/// The settings of this process: its flags, its environment and the file it was given.
///
/// # Errors
///
/// [`Failure::Usage`], after every problem was said on standard error.
pub(super) fn load(flags: &ServeFlags) -> Result<Effective, Failure> {
    config::load(flags, &env::variables()).map_err(|problems| {
        for problem in problems.iter() {
            output::error(&problem.to_string());
        }
        Failure::Usage("these settings cannot be used".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[tokio::test]
    async fn settings_that_cannot_be_used_end_in_the_exit_code_for_mistakes() {
        let flags = ServeFlags {
            grpc_addr: Some("nowhere".to_owned()),
            ..ServeFlags::default()
        };
        for command in [Command::Check(flags.clone()), Command::Show(flags)] {
            let refused = run(Args { command }).await.unwrap_err();
            assert_eq!(refused.exit(), Exit::Usage);
        }
    }
}
