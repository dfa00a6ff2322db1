//! The layer of flags: what `serve` can be told on its command line.

use std::path::PathBuf;

use super::value::Raw;

/// Flags that set a setting, over the environment and the file.
///
/// Their values stay text here, so that they are checked where every other value is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeFlags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep events and metadata in this directory [default: ./tidegate-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Register every .avsc file of this directory [default: ./schemas]
    #[arg(long, value_name = "DIR")]
    pub schemas: Option<String>,
    /// Keep events and metadata in memory only
    #[arg(long)]
    pub ephemeral: bool,
    /// Write this file once every listener accepts
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<String>,
    /// Listen for gRPC over TLS here, or not at all if empty [default: 127.0.0.1:7443]
    #[arg(long, value_name = "ADDR")]
    pub grpc_tls_addr: Option<String>,
    /// Listen for gRPC in plaintext here, or not at all if empty [default: 127.0.0.1:7011]
    #[arg(long, value_name = "ADDR")]
    pub grpc_addr: Option<String>,
    /// Listen for HTTP in plaintext here, or not at all if empty [default: 127.0.0.1:7080]
    #[arg(long, value_name = "ADDR")]
    pub http_addr: Option<String>,
    /// Listen for HTTP over TLS here, or not at all if empty [default: 127.0.0.1:7081]
    #[arg(long, value_name = "ADDR")]
    pub https_addr: Option<String>,
}

/// A flag that was given: its name, the setting, the value.
pub(super) struct GivenFlag {
    pub(super) flag: &'static str,
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) raw: Raw,
}

impl ServeFlags {
    pub(super) fn given(&self) -> Vec<GivenFlag> {
        let ephemeral = self.ephemeral.then(|| "true".to_owned());
        [
            ("--data-dir", "data_dir", &self.data_dir),
            ("--schemas", "schemas_dir", &self.schemas),
            ("--ephemeral", "ephemeral", &ephemeral),
            ("--ready-file", "ready_file", &self.ready_file),
            ("--grpc-tls-addr", "grpc_tls_addr", &self.grpc_tls_addr),
            ("--grpc-addr", "grpc_addr", &self.grpc_addr),
            ("--http-addr", "http_addr", &self.http_addr),
            ("--https-addr", "https_addr", &self.https_addr),
        ]
        .into_iter()
        .filter_map(|(flag, name, value)| {
            Some(GivenFlag {
                flag,
                section: "server",
                name,
                raw: Raw::Untyped(value.clone()?),
            })
        })
        .collect()
    }
}
