//! Signing in: what its bodies are held to.

use std::convert::Infallible;

use axum::{
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode},
};
use bytes::Bytes;
use futures_util::stream;

use super::Edge;

const FORM: &str = "application/x-www-form-urlencoded";
const TOKEN: &str = "/services/oauth2/token";
const REVOKE: &str = "/services/oauth2/revoke";
const SOAP: &str = "/services/Soap/u/64.0";

impl Edge {
    /// What a POST is answered with whose body never ends.
    async fn endless(&self, path: &str, content_type: &str) -> (StatusCode, String) {
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", content_type);
        let (head, body) = self.send(request.body(body).unwrap()).await.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (head.status, String::from_utf8(body.into()).unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up_in_time() {
    let edge = Edge::start().await;
    for path in [TOKEN, REVOKE] {
        let (status, text) = edge.endless(path, FORM).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{path}");
        assert!(text.contains("\"invalid_request\""), "{text}");
    }
    let (status, text) = edge.endless(SOAP, "text/xml").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        text.contains("<faultcode>soapenv:Client</faultcode>"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_body_is_waited_for_while_the_gateway_stops() {
    let edge = Edge::start().await;
    edge.shutdown.begin();
    let before = tokio::time::Instant::now();
    for path in [TOKEN, REVOKE] {
        let (status, text) = edge.endless(path, FORM).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(text.contains("\"temporarily_unavailable\""), "{text}");
    }
    let (status, text) = edge.endless(SOAP, "text/xml").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("SERVER_UNAVAILABLE"), "{text}");
    assert_eq!(before.elapsed(), std::time::Duration::ZERO);
}
