//! Answers in JSON.

use axum::{
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::error::kinds;

const JSON: &str = "application/json;charset=UTF-8";

/// An answer that says `body`.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).expect("what is answered has text as its keys");
    (status, [(header::CONTENT_TYPE, JSON)], text).into_response()
}

/// Answers any method but POST where only that is served.
pub(super) async fn only_post(method: Method) -> Response {
    not_allowed(&method, "POST")
}

/// Answers any method but GET where only that is served, and HEAD, which is a GET without a body.
pub(super) async fn only_get(method: Method) -> Response {
    not_allowed(&method, "GET,HEAD")
}

fn not_allowed(method: &Method, allowed: &'static str) -> Response {
    let error = kinds::METHOD_NOT_ALLOWED.error(method_not_allowed(method.as_str(), allowed));
    let mut response = error.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The platform's words for a method that is not served. A very long one is not repeated.
pub(super) fn method_not_allowed(method: &str, allowed: &str) -> String {
    let is_short = method.len() <= METHOD_CHARS_MAX && method.bytes().all(|c| c.is_ascii_graphic());
    let method = if is_short { method } else { "…" };
    format!("HTTP Method '{method}' not allowed. Allowed are {allowed}")
}

/// Characters of a method that an answer shows: those of HTTP have at most seven.
const METHOD_CHARS_MAX: usize = 16;
