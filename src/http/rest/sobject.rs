//! One event: a POST of its fields to the path of its type.

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    check_version,
    publish::{Entry, publish, topic_of},
};
use crate::{
    http::{
        Gateway, answer,
        error::{ApiError, NO_RESOURCE, kinds},
    },
    types::limits::HTTP_EVENT_BODY_BYTES_MAX,
};

/// Publishes one event.
pub(super) async fn create(
    State(gateway): State<Gateway>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let principal = gateway.caller(&head.headers).await?;
    let Path((version, name)) = path.map_err(|_| kinds::NOT_FOUND.error(NO_RESOURCE))?;
    check_version(&version)?;
    // The body is read only for those who may publish it: it takes room that others wait for.
    gateway
        .broker
        .publisher(&principal, None, &topic_of(&name))
        .await?;
    let (tenant, bytes_max) = (principal.tenant, HTTP_EVENT_BODY_BYTES_MAX);
    let reading = gateway.bodies.json(tenant, &head.headers, body, bytes_max);
    let body = reading.await?;
    let entry = Entry {
        name: &name,
        json: body.text(),
    };
    let outcome = publish(&gateway, &principal, vec![Ok(entry)], false)
        .await
        .pop()
        .expect("each entry has an outcome");
    let saved = outcome.or(|| kinds::HALTED.error("the event was not published"))?;
    Ok(answer::json(StatusCode::CREATED, &saved).into_response())
}
