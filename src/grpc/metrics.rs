//! How calls end: by method and reason.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{call::Method, status::Kind};

/// What the gRPC edge counts. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    ended: Family<EndLabels, Counter>,
    live: Family<MethodLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    method: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

impl Metrics {
    /// Adds every metric to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "grpc_calls_ended",
            "Calls and streams that ended, by method and by error code, ok or cancelled",
            self.ended.clone(),
        );
        registry.register(
            "grpc_calls_live",
            "Calls and streams under way",
            self.live.clone(),
        );
    }

    pub(super) fn began(&self, method: Method) {
        self.live
            .get_or_create(&MethodLabel {
                method: method.name(),
            })
            .inc();
    }

    pub(super) fn ended(&self, method: Method, end: End) {
        let reason = match end {
            End::Ok => "ok",
            End::Cancelled => "cancelled",
            End::Failed(Kind { suffix: "", .. }) => "unimplemented",
            End::Failed(kind) => kind.suffix,
        };
        self.ended
            .get_or_create(&EndLabels {
                method: method.name(),
                reason,
            })
            .inc();
        self.live
            .get_or_create(&MethodLabel {
                method: method.name(),
            })
            .dec();
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ok,
    /// The client went away or gave up first.
    Cancelled,
    Failed(Kind),
}
