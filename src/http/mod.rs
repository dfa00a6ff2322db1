//! The HTTP edge: publishing and subscribing without gRPC, and what operators ask of a gateway.
//!
//! | path | answer |
//! |---|---|
//! | `POST /services/data/vXX.X/sobjects/Name__e` | publishes one event ([`rest`]) |
//! | `POST /services/data/vXX.X/composite` | publishes up to 25 events, each a request of its own |
//! | `POST /services/data/vXX.X/composite/sobjects` | publishes up to 200 events |
//! | `GET /services/data/vXX.X/sobjects/Name__e/eventSchema` | the event's schema |
//! | `GET /services/data/vXX.X/event/eventSchema/ID` | the schema with this id |
//! | `GET /subscribe/event/Name__e`, or `/subscribe/data/…` | Server-Sent Events ([`sse`]) |
//! | `GET /services/data/vXX.X/tooling/query/?q=…` | managed subscriptions, as clients ask |
//! | `/metrics` | every metric, in the OpenMetrics text format |
//! | `/livez` | 200 while the process answers at all |
//! | `/readyz` | 200 while it takes calls, 503 before and after |
//! | `/services/oauth2/…`, `/services/Soap/…` | signing in, as [`login`] says |
//!
//! The first seven are for whoever has an access token, which `caller` finds. Nothing here decides
//! what may be published or read; the broker does.

mod answer;
mod body;
mod caller;
mod error;
pub mod health;
pub mod login;
pub mod metrics;
pub mod rest;
mod room;
pub mod sse;
mod tooling;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;

use crate::{
    auth::{Authenticator, sign_in::SignIn},
    broker::Broker,
    clock::Clock,
    net::shutdown::ShutdownSignal,
    types::Principal,
};
use body::Bodies;
use error::{ApiError, kinds};

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

/// What the routes for publishers and subscribers work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    broker: Broker,
    authenticator: Arc<dyn Authenticator>,
    /// Who publishes, as events say.
    sign_in: Arc<SignIn>,
    clock: Arc<dyn Clock>,
    shutdown: ShutdownSignal,
    bodies: Bodies,
}

impl Gateway {
    /// Publishing and subscribing by way of `broker`; streams end once `shutdown` begins.
    pub fn new(
        broker: Broker,
        authenticator: Arc<dyn Authenticator>,
        sign_in: Arc<SignIn>,
        clock: Arc<dyn Clock>,
        shutdown: ShutdownSignal,
    ) -> Self {
        Self {
            broker,
            authenticator,
            sign_in,
            clock,
            bodies: Bodies::new(shutdown.clone()),
            shutdown,
        }
    }

    /// Who is calling.
    async fn caller(&self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        caller::caller(&*self.authenticator, headers).await
    }
}

/// The routes of this edge.
pub fn routes(
    registry: Arc<Registry>,
    readiness: Readiness,
    login: Login,
    gateway: Gateway,
) -> Router {
    Router::new()
        .route("/metrics", get(metrics::render).with_state(registry))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready).with_state(readiness))
        .merge(login::routes(login, gateway.bodies.clone()))
        .merge(rest::routes(gateway.clone()))
        .merge(sse::routes(gateway.clone()))
        .merge(tooling::routes(gateway))
        .fallback(not_found)
}

/// Answers every other path: to clients of the platform in the form that they read.
async fn not_found(uri: Uri) -> Response {
    match uri.path().starts_with("/services/data/") {
        true => kinds::NOT_FOUND.error(error::NO_RESOURCE).into_response(),
        false => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests;
