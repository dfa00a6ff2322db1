//! The HTTP edge: what operators and their tools ask of a gateway.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | every metric, in the OpenMetrics text format |
//! | `/livez` | 200 while the process answers at all |
//! | `/readyz` | 200 while it takes calls, 503 before and after |
//! | `/services/oauth2/…`, `/services/Soap/…` | signing in, as [`login`] says |

pub mod health;
pub mod login;
pub mod metrics;

use std::{net::IpAddr, sync::Arc};

use axum::{Router, routing::get};
use prometheus_client::registry::Registry;

pub use health::Readiness;
pub use login::Login;

/// The connection that a request came over: an extension of every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other side's address, if the socket still has one.
    pub address: Option<IpAddr>,
    /// Whether there is TLS on it.
    pub is_tls: bool,
}

/// The routes of this edge.
pub fn routes(registry: Arc<Registry>, readiness: Readiness, login: Login) -> Router {
    Router::new()
        .route("/metrics", get(metrics::render).with_state(registry))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready).with_state(readiness))
        .merge(login::routes(login))
}
