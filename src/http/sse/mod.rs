//! Subscribing by Server-Sent Events, for whatever reads HTTP line by line.
//!
//! `GET /subscribe/event/OrderCreated__e` answers with events as they come, each decoded by the
//! schema that it was written with:
//!
//! ```text
//! id: 00000000000002000000
//! data: {"replay_id":"00000000000002000000","event_id":"…","schema_id":"…","topic":"…","payload":{…}}
//! ```
//!
//! # Start
//!
//! After the replay id in `Last-Event-ID`, or in `?lastEventId=`, which clients send by themselves
//! when they come back; else as `?from=` says: `latest` (the default), `earliest`, a replay id or a
//! time. An id that is not valid is refused before the stream begins, with the oldest one that is;
//! so is a time that no stream can begin at.
//!
//! # Position
//!
//! `id:` is the position to resume from. The stream begins with an event called `position`, and so
//! does each keepalive: it moves a client's last event id, and its data is an empty object. So a
//! client that comes back misses nothing and gets nothing twice, also if it was told of no event
//! yet.
//!
//! # Flow control
//!
//! The connection's own. Events are read from the log when the client's side has taken those
//! before, so a client that reads slowly costs one delivery and is not skipped.
//!
//! # End
//!
//! Without a word when the gateway stops: clients come back by themselves. If the token is revoked,
//! or the subscription cannot go on, with an event called `error` whose data is an object as in other errors of this
//! edge.
//!
//! Source: the HTML Living Standard, "Server-sent events".

mod start;
mod stream;
mod text;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    Gateway,
    answer::only_get,
    caller::client_name,
    error::{ApiError, NO_RESOURCE, kinds},
};
use crate::{
    auth::Vigil,
    types::{
        Start,
        limits::{SSE_CREDIT, SSE_KEEPALIVE},
    },
};
use start::{Asked, From};
use stream::Caller;

/// The routes of subscribers.
pub(super) fn routes(gateway: Gateway) -> Router {
    Router::new()
        .route(
            "/subscribe/{root}/{name}",
            get(subscribe).fallback(only_get),
        )
        .with_state(gateway)
}

/// Begins a subscription.
async fn subscribe(
    State(gateway): State<Gateway>,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Before the caller is known, so that no revocation is missed.
    let vigil = Vigil::new(Arc::clone(&gateway.authenticator));
    let principal = gateway.caller(&headers).await?;
    let Path((root, name)) = path.map_err(|_| kinds::NOT_FOUND.error(NO_RESOURCE))?;
    let topic = format!("/{root}/{name}");
    let subscriber = gateway.broker.subscriber(&principal, &topic).await?;
    let client_name = client_name(&headers)?;
    let oldest_valid = subscriber.earliest().ok();
    let Asked { from, filter } =
        start::asked(&headers, uri.query()).map_err(|error| error.or_after(oldest_valid))?;
    let subscriber = match filter {
        Some(filter) => subscriber.with_filter(filter)?,
        None => subscriber,
    };
    let start = match from {
        From::Start(start) => start,
        From::Time(moment) => {
            let position = subscriber.position_at(moment).await;
            Start::After(position.map_err(|error| ApiError::from(error).or_after(oldest_valid))?)
        }
    };
    let subscription = subscriber
        .with_extended_credit(SSE_CREDIT)
        .with_keepalive(SSE_KEEPALIVE)
        .subscribe(start, SSE_CREDIT.cast_signed(), client_name)
        .map_err(|error| ApiError::from(error).or_after(oldest_valid))?;
    let caller = Caller { principal, vigil };
    let blocks = stream::blocks(subscription, topic, caller, gateway.shutdown);
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // Has a common proxy pass events on as they come.
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::from_stream(blocks)).into_response())
}
