//! The HTTP edge: what operators and their tools ask of a gateway.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | every metric, in the OpenMetrics text format |
//! | `/livez` | 200 while the process answers at all |
//! | `/readyz` | 200 while it takes calls, 503 before and after |

pub mod health;
pub mod metrics;

use std::sync::Arc;

use axum::{Router, routing::get};
use prometheus_client::registry::Registry;

pub use health::Readiness;

/// The routes of this edge.
pub fn routes(registry: Arc<Registry>, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(metrics::render).with_state(registry))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready).with_state(readiness))
}
