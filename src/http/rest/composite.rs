//! A composite request: up to 25 requests in one, each of them a POST of one event.
//!
//! Its subrequests are independent: a reference to the result of another is refused, as there is
//! nothing in the result of publishing that an event could need.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use super::{
    begin, check_version,
    object::{Bounded, Object},
    publish::{Entry, Outcome, publish},
};
use crate::{
    http::{
        Gateway, answer,
        error::{ApiError, NO_RESOURCE, kinds},
    },
    types::limits::{COMPOSITE_REQUESTS_MAX, REFERENCE_ID_CHARS_MAX},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CompositeRequest<'a> {
    #[serde(default)]
    all_or_none: bool,
    /// A hint about speed, which changes no result.
    #[serde(default, rename = "collateSubrequests")]
    _collate: Option<IgnoredAny>,
    #[serde(borrow)]
    composite_request: Bounded<Object<Subrequest<'a>>, COMPOSITE_REQUESTS_MAX>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Subrequest<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    reference_id: Cow<'a, str>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    /// Only their names count: none of them changes what publishing does.
    #[serde(borrow, default)]
    http_headers: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CompositeResponse<'a> {
    composite_response: Vec<Subresponse<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Subresponse<'a> {
    body: Value,
    http_headers: serde_json::Map<String, Value>,
    http_status_code: u16,
    reference_id: &'a str,
}

/// Publishes the events of several requests.
pub(super) async fn create(
    State(gateway): State<Gateway>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (principal, body) = begin(&gateway, path, request).await?;
    let Object(CompositeRequest {
        all_or_none,
        composite_request: requests,
        ..
    }) = serde_json::from_str(body.text()).map_err(|error| ApiError::not_json(&error))?;
    if requests.has_more {
        // The platform's words.
        return Err(kinds::LIMIT_EXCEEDED.error(format!(
            "The request can’t contain more than {COMPOSITE_REQUESTS_MAX} operations."
        )));
    }
    let requests = requests.items.into_iter();
    let requests: Vec<_> = requests.map(|Object(request)| request).collect();
    check_requests(&requests)?;
    let entries = requests.iter().map(entry_of).collect();
    let outcomes = publish(&gateway, &principal, entries, all_or_none).await;
    Outcome::log_all(&outcomes);
    let responses = outcomes
        .into_iter()
        .zip(&requests)
        .map(|(outcome, request)| {
            let outcome = outcome.or(|| {
                kinds::HALTED.error(
                "The transaction was rolled back since another operation in the same transaction \
                 failed.",
            )
            });
            let (status, body) = match &outcome {
                Ok(saved) => (StatusCode::CREATED, serde_json::to_value(saved)),
                Err(error) => (error.status(), serde_json::to_value([error.body()])),
            };
            Subresponse {
                body: body.expect("what is answered has text as its keys"),
                http_headers: serde_json::Map::new(),
                http_status_code: status.as_u16(),
                reference_id: &request.reference_id,
            }
        });
    let response = CompositeResponse {
        composite_response: responses.collect(),
    };
    Ok(answer::json(StatusCode::OK, &response))
}

/// Holds a request to have subrequests that its response can tell apart.
fn check_requests(requests: &[Subrequest<'_>]) -> Result<(), ApiError> {
    if requests.is_empty() {
        return Err(kinds::INVALID_INPUT.error("compositeRequest has no subrequests"));
    }
    let mut seen = HashSet::new();
    for (index, request) in requests.iter().enumerate() {
        let id = &*request.reference_id;
        let is_id = id.starts_with(|c: char| c.is_ascii_alphabetic())
            && id.len() <= REFERENCE_ID_CHARS_MAX
            && id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if !is_id {
            return Err(kinds::INVALID_INPUT.error(format!(
                "the referenceId of subrequest {index} does not begin with a letter, or has more \
                 than letters, digits and underscores, or more than {REFERENCE_ID_CHARS_MAX} of them"
            )));
        }
        if !seen.insert(id) {
            return Err(kinds::INVALID_INPUT.error(format!("the referenceId {id} is there twice")));
        }
        check_headers(request)?;
    }
    Ok(())
}

/// Holds a subrequest to have no header that it has from the whole request.
fn check_headers(request: &Subrequest<'_>) -> Result<(), ApiError> {
    let headers = request.http_headers.map_or("null", RawValue::get);
    let headers: Option<HashMap<String, IgnoredAny>> =
        serde_json::from_str(headers).map_err(|error| ApiError::not_json(&error))?;
    for inherited in ["Accept", "Authorization", "Content-Type"] {
        let mut names = headers.iter().flat_map(HashMap::keys);
        if names.any(|name| name.eq_ignore_ascii_case(inherited)) {
            return Err(kinds::INVALID_INPUT.error(format!(
                "subrequest {} has a header {inherited}; it has that of the whole request",
                request.reference_id
            )));
        }
    }
    Ok(())
}

/// The event that a subrequest publishes.
fn entry_of<'a>(request: &'a Subrequest<'_>) -> Result<Entry<'a>, ApiError> {
    let refers = |text: &str| text.contains("@{");
    if refers(&request.url) || request.body.is_some_and(|body| refers(body.get())) {
        return Err(kinds::INVALID_INPUT
            .error("a reference to the result of another subrequest, @{…}, is not served"));
    }
    let name = name_of(&request.url).ok_or_else(|| kinds::NOT_FOUND.error(NO_RESOURCE))?;
    if request.method != "POST" {
        return Err(
            kinds::METHOD_NOT_ALLOWED.error(answer::method_not_allowed(&request.method, "POST"))
        );
    }
    let json = request.body.map_or("null", RawValue::get);
    Ok(Entry { name, json })
}

/// The event type whose path `url` is.
fn name_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("/services/data/")?;
    let (version, rest) = rest.split_once('/')?;
    check_version(version).ok()?;
    let name = rest.strip_prefix("sobjects/")?;
    Some(name.strip_suffix('/').unwrap_or(name)).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_an_event_type_names_one() {
        assert_eq!(name_of("/services/data/v62.0/sobjects/A__e"), Some("A__e"));
        assert_eq!(name_of("/services/data/v62.0/sobjects/A__e/"), Some("A__e"));
        for other in [
            "",
            "/services/data/v62.0/sobjects/",
            "/services/data/v62.0/query/?q=x",
            "/services/data/vX/sobjects/A__e",
            "https://elsewhere/services/data/v62.0/sobjects/A__e",
        ] {
            assert_eq!(name_of(other), None, "{other}");
        }
    }
}
