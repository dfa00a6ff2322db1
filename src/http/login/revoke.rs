//! `/services/oauth2/revoke`: the end of a token, by its text.
//!
//! Whoever has a token may end it. 200 also for text of no token, as RFC 7009 §2.2 asks.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    Login,
    body::{Form, FormError},
    json,
};
use crate::http::body::Bodies;

/// Revokes the token in the query.
pub(super) async fn by_query(State(login): State<Login>, request: Request) -> Response {
    let form = Form::parse(request.uri().query().unwrap_or_default());
    revoke(&login, form).await
}

/// Revokes the token in the form.
pub(super) async fn by_form(
    State(login): State<Login>,
    State(bodies): State<Bodies>,
    request: Request,
) -> Response {
    let form = Form::read(&bodies, request).await;
    revoke(&login, form).await
}

async fn revoke(login: &Login, form: Result<Form, FormError>) -> Response {
    let refusal = |status, error: &str, description: String| {
        json(
            status,
            &json!({ "error": error, "error_description": description }),
        )
    };
    let form = match form {
        Ok(form) => form,
        Err(error) => {
            let (status, word) = error.refusal();
            return refusal(status, word, error.to_string());
        }
    };
    let Some(token) = form.get("token") else {
        let missing = "missing required parameter: token".to_owned();
        return refusal(StatusCode::BAD_REQUEST, "invalid_request", missing);
    };
    match login.sign_in.revoke(token).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            tracing::error!(%error, "a token was not revoked for good");
            let description = "the token cannot be revoked for now".to_owned();
            refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                description,
            )
        }
    }
}
