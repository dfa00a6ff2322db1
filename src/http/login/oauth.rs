//! `POST /services/oauth2/token`: an access token by OAuth 2.0.
//!
//! | grant type | takes | gives besides |
//! |---|---|---|
//! | `client_credentials` | client id and secret | |
//! | `password` | those, username and password | a refresh token |
//! | `refresh_token` | those and the refresh token | |
//! | `urn:ietf:params:oauth:grant-type:jwt-bearer` | an assertion that the client signed | |
//!
//! A client shows its id and secret in the form or by `Authorization: Basic`. A refusal is 400 with
//! `error` and `error_description` in the hosted service's words; of what was shown it never says
//! which part is wrong. Where a sign-in is locked out it is `rate_limit_exceeded`, also with 400, since
//! clients take other statuses for a broken service; `Retry-After` says for how long.

use aws_lc_rs::hmac;
use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AUTHORIZATION, RETRY_AFTER},
    },
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{
    Login,
    body::{Form, FormError, decode},
    json,
    origin::Origin,
    source,
};
use crate::{
    auth::{
        sign_in::{ClientCredentials, Session, SignInError},
        throttle::LockedOut,
    },
    http::body::Bodies,
};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum TokenRefusal {
    #[error("{0}")]
    Form(#[from] FormError),
    #[error("the header host is missing or malformed")]
    Host,
    #[error("missing required parameter: {0}")]
    Parameter(&'static str),
    #[error("grant type not supported")]
    GrantType,
    #[error("client identifier invalid")]
    ClientId,
    #[error("client credentials are malformed or given twice")]
    ClientCredentials,
    #[error(transparent)]
    SignIn(#[from] SignInError),
}

/// Answers the token endpoint.
pub(super) async fn token(
    State(login): State<Login>,
    State(bodies): State<Bodies>,
    request: Request,
) -> Response {
    match grant(&login, &bodies, request).await {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(refusal) => refusal.response(),
    }
}

async fn grant(
    login: &Login,
    bodies: &Bodies,
    request: Request,
) -> Result<serde_json::Value, TokenRefusal> {
    let origin = Origin::of(&request).ok_or(TokenRefusal::Host)?;
    let source = source(&request);
    let basic = basic(request.headers())?;
    let form = Form::read(bodies, request).await?;
    let required = |name| form.get(name).ok_or(TokenRefusal::Parameter(name));
    let client = || credentials(&form, basic.as_ref());
    let sign_in = &login.sign_in;
    let (flow, result) = match required("grant_type")? {
        "client_credentials" => {
            let result = sign_in.client_credentials(source, client()?).await;
            ("client_credentials", result)
        }
        "password" => {
            let (client, username) = (client()?, required("username")?);
            let password = required("password")?;
            let result = sign_in.password(source, Some(client), username, password);
            ("password", result.await)
        }
        "refresh_token" => {
            let (client, token) = (client()?, required("refresh_token")?);
            (
                "refresh_token",
                sign_in.refresh(source, client, token).await,
            )
        }
        JWT_BEARER => {
            let [https, http] = origin.audiences();
            let audiences = [&*login.instance_url, &https, &http];
            let assertion = required("assertion")?;
            let result = sign_in.assertion(source, assertion, &audiences).await;
            ("jwt_bearer", result)
        }
        _ => return Err(TokenRefusal::GrantType),
    };
    login.metrics.ended(flow, source, &result);
    Ok(answer(&result?, &origin.url(), &login.instance_url))
}

fn answer(session: &Session, login_url: &str, instance_url: &str) -> serde_json::Value {
    let identity = &session.identity;
    let id = format!("{login_url}/id/{}/{}", identity.tenant, identity.user_id);
    let issued_at = session.issued_at.as_millis().to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, session.signing_key.as_bytes());
    let signature = hmac::sign(&key, format!("{id}{issued_at}").as_bytes());
    let mut answer = json!({
        "access_token": session.access_token.expose(),
        "signature": STANDARD.encode(signature),
        "scope": "api",
        "instance_url": instance_url,
        "id": id,
        "token_type": "Bearer",
        "issued_at": issued_at,
    });
    if let Some(refresh_token) = &session.refresh_token {
        answer["refresh_token"] = refresh_token.expose().into();
    }
    answer
}

/// Client id and secret of `Authorization: Basic`, each encoded like a parameter as RFC 6749 §2.3.1
/// asks; ours have no character that this changes.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, TokenRefusal> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let malformed = || TokenRefusal::ClientCredentials;
    let value = value.to_str().map_err(|_| malformed())?;
    let (scheme, encoded) = value.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(malformed());
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| malformed())?;
    let decoded = String::from_utf8(decoded).map_err(|_| malformed())?;
    let (id, secret) = decoded.split_once(':').ok_or_else(malformed)?;
    Ok(Some((decode(id)?, decode(secret)?)))
}

/// What the client shows, in one place only.
fn credentials<'a>(
    form: &'a Form,
    basic: Option<&'a (String, String)>,
) -> Result<ClientCredentials<'a>, TokenRefusal> {
    let (id, secret) = match (basic, form.get("client_id"), form.get("client_secret")) {
        (Some(_), _, Some(_)) => return Err(TokenRefusal::ClientCredentials),
        (Some((id, _)), Some(other), None) if id != other => {
            return Err(TokenRefusal::ClientCredentials);
        }
        (Some((id, secret)), _, None) => (id.as_str(), secret.as_str()),
        (None, Some(id), secret) => (id, secret.unwrap_or_default()),
        (None, None, _) => return Err(TokenRefusal::ClientId),
    };
    Ok(ClientCredentials { id, secret })
}

impl TokenRefusal {
    fn response(&self) -> Response {
        let (status, error) = match self {
            Self::Form(error) => error.refusal(),
            Self::Host | Self::Parameter(_) | Self::ClientCredentials => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            Self::GrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Self::ClientId => (StatusCode::BAD_REQUEST, "invalid_client_id"),
            Self::SignIn(error) => sign_in_error(error),
        };
        let body = json!({ "error": error, "error_description": self.to_string() });
        let mut response = json(status, &body);
        if let Self::SignIn(SignInError::LockedOut(LockedOut(left))) = self {
            let seconds = HeaderValue::from(left.as_secs().saturating_add(1));
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }
}

fn sign_in_error(error: &SignInError) -> (StatusCode, &'static str) {
    match error {
        SignInError::Client => (StatusCode::BAD_REQUEST, "invalid_client"),
        SignInError::User
        | SignInError::RefreshToken
        | SignInError::Assertion(_)
        | SignInError::NotApproved => (StatusCode::BAD_REQUEST, "invalid_grant"),
        SignInError::LockedOut(_) => (StatusCode::BAD_REQUEST, "rate_limit_exceeded"),
        SignInError::Busy | SignInError::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        }
    }
}
