//! `tidegate certs`: the development certificates that `serve` uses when it is given none.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{
    config,
    exit::Failure,
    output::{Output, OutputArgs, Record},
};
use crate::{
    clock::{Clock, SystemClock},
    config::ServeFlags,
    net::dev_certs::{self, CertError, DevCerts},
};

/// Arguments of `tidegate certs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make sure that there is a development certificate, and print its files
    ///
    /// It is for localhost, 127.0.0.1 and ::1, and is made anew when it is about to end or lacks a
    /// name. Clients trust it by the file `ca`, which stays good over that.
    Init {
        /// Make it for this host name or IP address too; may be repeated
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// Read settings from this TOML file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Keep it where a gateway with this data directory looks for it [default: ./tidegate-data]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let Command::Init {
        names,
        config,
        data_dir,
        output,
    } = args.command;
    let flags = ServeFlags {
        config,
        data_dir,
        ..ServeFlags::default()
    };
    let data_dir = config::load(&flags)?.settings.gateway.data_dir;
    let files = init(&data_dir, &names)?;
    let mut output = Output::stdout(output);
    output.record(&files);
    output.flush().await
}

fn init(data_dir: &Path, names: &[String]) -> Result<Files, Failure> {
    let dir = data_dir.join(dev_certs::DIR_NAME);
    match dev_certs::ensure(&dir, names, SystemClock.now()) {
        Ok(certs) => Ok(Files::from(certs)),
        Err(error @ CertError::Name { .. }) => Err(Failure::Usage(error.to_string())),
        Err(error) => Err(Failure::failed(format!("{:#}", anyhow::Error::new(error)))),
    }
}

/// Where a certificate is. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    /// Whether it was made just now.
    created: bool,
}

impl From<DevCerts> for Files {
    fn from(certs: DevCerts) -> Self {
        Self {
            ca: certs.ca,
            cert: certs.cert,
            key: certs.key,
            created: certs.created,
        }
    }
}

impl Record for Files {
    fn text(&self) -> String {
        format!(
            "{} certificate {} with key {}; clients trust {}",
            if self.created { "new" } else { "existing" },
            self.cert.display(),
            self.key.display(),
            self.ca.display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn init_makes_a_certificate_once_and_says_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = init(dir.path(), &["host.test".to_owned()]).unwrap();
        assert!(first.created && first.text().starts_with("new certificate "));
        assert_eq!(first.ca, dir.path().join("tls/ca.pem"));
        assert!(first.ca.exists() && first.cert.exists() && first.key.exists());
        let second = init(dir.path(), &[]).unwrap();
        assert!(!second.created && second.text().starts_with("existing certificate "));
        let json = serde_json::to_value(&second).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["ca", "cert", "key", "created"]);
    }

    #[test]
    fn name_that_is_no_host_is_a_mistake_of_the_caller() {
        let dir = tempfile::tempdir().unwrap();
        let refused = init(dir.path(), &["two words".to_owned()]).unwrap_err();
        assert_eq!(refused.exit(), Exit::Usage);
    }

    #[test]
    fn directory_that_cannot_be_made_is_a_failure_with_its_cause() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = init(file.path(), &[]).unwrap_err();
        assert_eq!(refused.exit(), Exit::Failed);
        let text = refused.to_string();
        assert!(
            text.starts_with("cannot make the directory ") && text.contains(": "),
            "{text}"
        );
    }
}
