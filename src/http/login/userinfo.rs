//! `/services/oauth2/userinfo`: who the bearer of an access token is.
//!
//! A refusal is 403 with a word of the hosted service. What a gateway does not know of people, such as
//! their e-mail address, is left out.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{Login, json, origin::Origin};
use crate::{auth::AuthError, http::caller::bearer};

/// Answers for the bearer of a token.
pub(super) async fn userinfo(State(login): State<Login>, request: Request) -> Response {
    let Some(origin) = Origin::of(&request) else {
        return (StatusCode::BAD_REQUEST, "Bad_Host").into_response();
    };
    let Some(token) = bearer(request.headers()) else {
        return (StatusCode::FORBIDDEN, "Missing_OAuth_Token").into_response();
    };
    let principal = match login.authenticator.authenticate_bearer(token).await {
        Ok(principal) => principal,
        Err(AuthError::Token | AuthError::Header(_)) => {
            return (StatusCode::FORBIDDEN, "Bad_OAuth_Token").into_response();
        }
        Err(AuthError::Unavailable(error)) => {
            tracing::error!(%error, "an access token cannot be checked");
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    };
    let identity = login.sign_in.identity(&principal);
    let (tenant, user_id) = (identity.tenant, &*identity.user_id);
    let answer = json!({
        "sub": format!("{}/id/{tenant}/{user_id}", origin.url()),
        "user_id": user_id,
        "organization_id": tenant.as_str(),
        "preferred_username": &*identity.username,
        "nickname": &*identity.username,
        "name": &*identity.username,
        "active": true,
        "user_type": "STANDARD",
        "language": "en_US",
        "locale": "en_US",
        "zoneinfo": "GMT",
        "utcOffset": 0,
    });
    json(StatusCode::OK, &answer)
}
