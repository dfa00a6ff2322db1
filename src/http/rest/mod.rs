//! Publishing as the platform's REST API has it: events are inserted like records.
//!
//! One event is a POST of its fields (`sobject`); several are a composite request (`composite`) or
//! a collection (`collection`). Whatever the form, an event goes the way that it goes over gRPC
//! (`publish`): checked by the same schema, stored by the same log, answered once it is durable.
//!
//! Nothing but inserting events is served: there are no records to read, change or query.
//!
//! Source: the public Platform Events Developer Guide, "Publish Event Messages with Salesforce
//! APIs"; the public REST API Developer Guide, "Composite" and "sObject Collections".

mod collection;
mod composite;
mod event;
mod object;
mod publish;
mod sobject;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, Request, rejection::PathRejection},
    routing::post,
};

use super::{
    Gateway,
    answer::only_post,
    body::TextBody,
    error::{ApiError, NO_RESOURCE, kinds},
};
use crate::types::{Principal, limits::HTTP_BATCH_BODY_BYTES_MAX};

/// The routes of this form. Clients write them with a slash at the end and without.
pub(super) fn routes(gateway: Gateway) -> Router {
    let create = post(sobject::create).fallback(only_post);
    let composite = post(composite::create).fallback(only_post);
    let collection = post(collection::create).fallback(only_post);
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

/// Holds a version to look like one: `v62.0`. What is served does not depend on it.
pub(super) fn check_version(version: &str) -> Result<(), ApiError> {
    let number = version
        .strip_prefix('v')
        .and_then(|rest| rest.split_once('.'));
    let is_version = number.is_some_and(|(major, minor)| {
        let is_number = |text: &str, digits_max| {
            (1..=digits_max).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit())
        };
        is_number(major, 3) && is_number(minor, 1)
    });
    match is_version {
        true => Ok(()),
        false => Err(kinds::NOT_FOUND.error(NO_RESOURCE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_version_will_do_that_looks_like_one() {
        for good in ["v1.0", "v62.0", "v100.5"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in [
            "", "v", "62.0", "v62", "v62.", "v.0", "v62.00", "v6 2.0", "v1234.0", "V62.0",
        ] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }
}
