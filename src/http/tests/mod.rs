//! The edge over engines in memory: no socket, and with the runtime's clock paused no waiting.

mod event_schema;
mod login;
mod rest;
mod sse;
mod tooling;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
    response::Response,
};
use serde_json::Value;
use tower::ServiceExt;

use super::{Gateway, Login, Readiness, routes};
use crate::{
    auth::{self, Authenticator, sign_in::SignIn, token::TokenStore},
    broker::{
        self,
        tests::engines::{Engines, everything, tenant},
    },
    event_log,
    metadata::MetadataStore,
    net::shutdown::Shutdown,
    types::Grants,
};

/// The path that orders are posted to.
const CREATE: &str = "/services/data/v62.0/sobjects/OrderCreated__e";
const COMPOSITE: &str = "/services/data/v62.0/composite";
const COLLECTION: &str = "/services/data/v62.0/composite/sobjects";

struct Edge {
    engines: Engines,
    tokens: Arc<TokenStore>,
    /// A token that may do everything.
    token: String,
    shutdown: Shutdown,
    routes: Router,
}

impl Edge {
    async fn start() -> Self {
        Self::with(broker::Config::default(), event_log::Config::default()).await
    }

    async fn with(config: broker::Config, log: event_log::Config) -> Self {
        let engines = Engines::new(config, log).await;
        let clock = Arc::new(engines.clock.clone());
        let store = Arc::clone(&engines.store) as Arc<dyn MetadataStore>;
        let tokens = TokenStore::open(Arc::clone(&store), clock.clone()).await;
        let tokens = Arc::new(tokens.unwrap());
        let signing = Arc::clone(&tokens);
        let sign_in = SignIn::open(auth::Config::default(), store, clock.clone(), signing).await;
        let authenticator = Arc::clone(&tokens) as Arc<dyn Authenticator>;
        let sign_in = Arc::new(sign_in.unwrap());
        let login = Login::new(
            Arc::clone(&sign_in),
            Arc::clone(&authenticator),
            "https://localhost",
        );
        let (_, token) = tokens
            .create(tenant(), "all", everything(), None)
            .await
            .unwrap();
        let (shutdown, signal) = Shutdown::new();
        let broker = engines.broker.clone();
        let gateway = Gateway::new(broker, authenticator, sign_in, clock, signal);
        Self {
            engines,
            tokens,
            token: token.expose().to_owned(),
            shutdown,
            routes: routes(Arc::default(), Readiness::default(), login, gateway),
        }
    }

    /// A new token with these rights.
    async fn token(&self, grants: Grants) -> String {
        let (_, token) = self
            .tokens
            .create(tenant(), "another", grants, None)
            .await
            .unwrap();
        token.expose().to_owned()
    }

    /// A request by whoever may do everything.
    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.routes.clone().oneshot(request).await.unwrap()
    }

    /// What a POST of this JSON is answered with.
    async fn post(&self, path: &str, json: impl Into<Body>) -> (StatusCode, Value) {
        let request = self.request(Method::POST, path);
        let request = request.header("content-type", "application/json");
        self.answer(request.body(json.into()).unwrap()).await
    }

    async fn answer(&self, request: Request<Body>) -> (StatusCode, Value) {
        let (status, _, body) = self.whole_answer(request).await;
        (status, body)
    }

    async fn whole_answer(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let (head, body) = self.send(request).await.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (
            head.status,
            head.headers,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }
}

/// Holds an answer to be one error with this code, and returns its message.
#[track_caller]
fn assert_error(answer: &(StatusCode, Value), status: StatusCode, code: &str) -> String {
    let (found, body) = answer;
    assert_eq!(
        (*found, &body[0]["errorCode"]),
        (status, &code.into()),
        "{body}"
    );
    assert_eq!(body.as_array().map(Vec::len), Some(1), "{body}");
    body[0]["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn a_path_of_the_platform_that_is_not_served_says_so_in_json() {
    let edge = Edge::start().await;
    for path in [
        "/services/data/v62.0/query/?q=SELECT+Id+FROM+Account",
        "/services/data/v62.0/sobjects/OrderCreated__e/describe",
        "/services/data/v62.0/composite/batch",
        "/services/data/v62.0",
    ] {
        let answer = edge.post(path, "{}").await;
        assert_error(&answer, StatusCode::NOT_FOUND, "NOT_FOUND");
    }
    let other = edge.post("/elsewhere", "{}").await;
    assert_eq!(other, (StatusCode::NOT_FOUND, Value::Null));
}
