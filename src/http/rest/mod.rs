//! Publishing as the platform's REST API has it: events are inserted like records.
//!
//! One event is a POST of its fields (`sobject`); several are a composite request (`composite`) or
//! a collection (`collection`). Whatever the form, an event goes the way that it goes over gRPC
//! (`publish`): checked by the same schema, stored by the same log, answered once it is durable.
//!
//! Besides, the schema of an event can be read (`event_schema`). Nothing else is served: there are no
//! records to read, change or query.
//!
//! Source: the public Platform Events Developer Guide, "Publish Event Messages with Salesforce
//! APIs"; the public REST API Developer Guide, "Composite", "sObject Collections" and "Platform Event
//! Schema by Event Name".

mod collection;
mod composite;
mod event;
mod event_schema;
mod object;
mod publish;
mod sobject;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Request, rejection::PathRejection},
    routing::{get, post},
};

use super::{
    Gateway,
    answer::{only_get, only_post},
    body::TextBody,
    error::{ApiError, NO_RESOURCE, kinds},
};
use crate::types::{Principal, limits::HTTP_BATCH_BODY_BYTES_MAX};

/// The routes of this form. Clients write them with a slash at the end and without.
pub(super) fn routes(gateway: Gateway) -> Router {
    let create = post(sobject::create).fallback(only_post);
    let composite = post(composite::create).fallback(only_post);
    let collection = post(collection::create).fallback(only_post);
    let schema_by_name = get(event_schema::by_name).fallback(only_get);
    let schema_by_id = get(event_schema::by_id).fallback(only_get);
    Router::new()
        .route("/services/data/{version}/sobjects/{name}", create.clone())
        .route("/services/data/{version}/sobjects/{name}/", create)
        .route("/services/data/{version}/composite", composite.clone())
        .route("/services/data/{version}/composite/", composite)
        .route(
            "/services/data/{version}/composite/sobjects",
            collection.clone(),
        )
        .route("/services/data/{version}/composite/sobjects/", collection)
        .route(
            "/services/data/{version}/sobjects/{name}/eventSchema",
            schema_by_name.clone(),
        )
        .route(
            "/services/data/{version}/sobjects/{name}/eventSchema/",
            schema_by_name,
        )
        .route(
            "/services/data/{version}/event/eventSchema/{id}",
            schema_by_id.clone(),
        )
        .route(
            "/services/data/{version}/event/eventSchema/{id}/",
            schema_by_id,
        )
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
        .with_state(gateway)
}

/// Who sends a request with several events, and its body.
///
/// The body is read only for those who may publish something: it takes room that others wait for.
async fn begin(
    gateway: &Gateway,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(Principal, TextBody), ApiError> {
    let (head, body) = request.into_parts();
    let principal = gateway.caller(&head.headers).await?;
    let Path(version) = path.map_err(|_| kinds::NOT_FOUND.error(NO_RESOURCE))?;
    check_version(&version)?;
    if !gateway.broker.is_publisher(&principal) {
        return Err(kinds::NO_ACCESS.error("no right to publish"));
    }
    let (tenant, bytes_max) = (principal.tenant, HTTP_BATCH_BODY_BYTES_MAX);
    let reading = gateway.bodies.json(tenant, &head.headers, body, bytes_max);
    let body = reading.await?;
    Ok((principal, body))
}

/// Holds a version to look like one, `v62.0`, and returns the number before the point. What is served
/// hardly depends on it.
pub(super) fn check_version(version: &str) -> Result<u16, ApiError> {
    let number = version
        .strip_prefix('v')
        .and_then(|rest| rest.split_once('.'));
    let is_number = |text: &str, digits_max| {
        (1..=digits_max).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit())
    };
    number
        .filter(|(major, minor)| is_number(major, 3) && is_number(minor, 1))
        .and_then(|(major, _)| major.parse().ok())
        .ok_or_else(|| kinds::NOT_FOUND.error(NO_RESOURCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_version_will_do_that_looks_like_one() {
        for (good, major) in [("v1.0", 1), ("v62.0", 62), ("v100.5", 100)] {
            assert_eq!(check_version(good).ok(), Some(major), "{good}");
        }
        for bad in [
            "", "v", "62.0", "v62", "v62.", "v.0", "v62.00", "v6 2.0", "v1234.0", "V62.0",
        ] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }
}
