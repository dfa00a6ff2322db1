//! How many signed in, and why others did not.

use std::net::IpAddr;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::auth::sign_in::SignInError;

/// Counts sign-ins. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    sign_ins: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    flow: &'static str,
    outcome: &'static str,
}

impl Metrics {
    /// Shows what is counted in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("sign_ins", "Attempts to sign in", self.sign_ins.clone());
    }

    /// Counts the end of an attempt from `source`, which a refusal is logged with. Names are not:
    /// some people type their password there.
    pub(super) fn ended<T>(
        &self,
        flow: &'static str,
        source: Option<IpAddr>,
        result: &Result<T, SignInError>,
    ) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(SignInError::LockedOut(_)) => "locked_out",
            Err(SignInError::Busy) => "busy",
            Err(SignInError::Unavailable(error)) => {
                tracing::error!(error = %**error, flow, "a sign-in failed");
                "unavailable"
            }
            Err(error) => {
                let source = source.map(tracing::field::display);
                tracing::info!(flow, source, "a sign-in was refused: {error}");
                "refused"
            }
        };
        let counter = self.sign_ins.get_or_create(&Labels { flow, outcome });
        counter.inc();
    }
}
