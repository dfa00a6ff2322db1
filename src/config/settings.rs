//! The settings as the rest of the program gets them: each component's own, put together.

use crate::{server, telemetry::log};

/// Every setting, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The gateway: `[server]`, `[tls]`, `[event_log]`, `[broker]`, `[idempotence]`, `[auth]`,
    /// `[schema]`, `[channels]` and `[grpc]`.
    pub gateway: server::Config,
    /// Whether listeners that should not leave this machine may: `[server]` too.
    pub insecure_listen: bool,
    /// What the gateway says about itself: `[telemetry]`.
    pub log: log::Config,
}
