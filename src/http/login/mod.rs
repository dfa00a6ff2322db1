//! Signing in, as clients of the hosted service do it: they change a URL and nothing else.
//!
//! | path | answer |
//! |---|---|
//! | `POST /services/oauth2/token` | an access token, by one of four grant types |
//! | `GET`, `POST /services/oauth2/userinfo` | who the bearer of an access token is |
//! | `GET`, `POST /services/oauth2/revoke` | the end of an access or refresh token |
//! | `POST /services/Soap/u/{version}`, `/c/{version}` | an access token, by the SOAP call `login` |
//!
//! Nobody is known yet who calls here: bodies are read within the bounds of every other, and what
//! they say of themselves is believed as far as it is checked.
//!
//! Source: RFC 6749, RFC 7009, RFC 7523; the public guide "OAuth Authorization Flows"; the public SOAP
//! API Developer Guide, `login()`.

mod body;
mod metrics;
mod oauth;
mod origin;
mod revoke;
mod soap;
mod userinfo;

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{FromRef, Request},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::{Peer, body::Bodies};
use crate::auth::{Authenticator, sign_in::SignIn};
pub use metrics::Metrics;

/// Answers sign-ins. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Login {
    sign_in: Arc<SignIn>,
    authenticator: Arc<dyn Authenticator>,
    instance_url: Arc<str>,
    metrics: Metrics,
}

impl Login {
    /// Signs in at `sign_in`, and tells clients that `instance_url` is where their organisation is.
    pub fn new(
        sign_in: Arc<SignIn>,
        authenticator: Arc<dyn Authenticator>,
        instance_url: &str,
    ) -> Self {
        Self {
            sign_in,
            authenticator,
            instance_url: instance_url.into(),
            metrics: Metrics::default(),
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// What the routes work with.
#[derive(Clone)]
struct Edge {
    login: Login,
    bodies: Bodies,
}

impl FromRef<Edge> for Login {
    fn from_ref(edge: &Edge) -> Self {
        edge.login.clone()
    }
}

impl FromRef<Edge> for Bodies {
    fn from_ref(edge: &Edge) -> Self {
        edge.bodies.clone()
    }
}

/// The routes of signing in, which read bodies by way of `bodies`.
pub(super) fn routes(login: Login, bodies: Bodies) -> Router {
    let mut router = Router::new()
        .route("/services/oauth2/token", post(oauth::token))
        .route(
            "/services/oauth2/userinfo",
            get(userinfo::userinfo).post(userinfo::userinfo),
        )
        .route(
            "/services/oauth2/revoke",
            get(revoke::by_query).post(revoke::by_form),
        );
    // Clients of the partner and of the enterprise interface, with the slash that some add.
    for path in ["/services/Soap/u/{version}", "/services/Soap/c/{version}"] {
        router = router
            .route(path, post(soap::soap))
            .route(&format!("{path}/"), post(soap::soap));
    }
    router.with_state(Edge { login, bodies })
}

/// Where a request came from, as far as the socket knows.
fn source(request: &Request) -> Option<IpAddr> {
    request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.address)
}

/// An answer in JSON that nobody keeps.
fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json;charset=UTF-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
    ];
    (status, headers, value.to_string()).into_response()
}
