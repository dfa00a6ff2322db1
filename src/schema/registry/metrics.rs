//! What registries count, all tenants together.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Registration, RegistryError, Verdict};

/// What became of registrations; rehearsals are none. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics(Family<Labels, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "schema_registrations",
            "Schemas that were to be registered, by what became of that",
            self.0.clone(),
        );
    }

    pub(super) fn count(&self, outcome: &Result<Verdict, RegistryError>) {
        let outcome = match outcome {
            Ok(verdict) if verdict.is_refused() => "refused",
            Ok(verdict) if verdict.registration == Registration::Unchanged => "unchanged",
            Ok(_) => "registered",
            Err(_) => "failed",
        };
        self.0.get_or_create(&Labels { outcome }).inc();
    }
}
