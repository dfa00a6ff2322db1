//! An access token by OAuth 2.0.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{Grant, LoginUrl, SignInError, Token, assertion};
use crate::{
    client::http::{Answer, HttpClient},
    clock::Clock,
};

/// What a form leaves as it is: the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    instance_url: Option<String>,
    id: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct UserInfo {
    organization_id: String,
}

/// Gets a token by a grant that has a login host.
pub(super) async fn token(
    http: &HttpClient,
    grant: &Grant,
    clock: &dyn Clock,
) -> Result<Token, SignInError> {
    let (login, form) = form(grant, clock)?;
    let form: Vec<String> = form
        .into_iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, ESCAPED)))
        .collect();
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let to = login.at("/services/oauth2/token");
    let body = Bytes::from(form.join("&"));
    let answer = http.call(Method::POST, &to, headers, body).await?;
    let found: TokenAnswer = read(login, &answer)?;
    let mut token = Token {
        tenant_id: found.id.as_deref().and_then(tenant_of_id),
        instance_url: found.instance_url,
        access_token: found.access_token,
    };
    if token.tenant_id.is_none() && !token.access_token.contains('!') {
        token.tenant_id = Some(user_info(http, login, &token.access_token).await?);
    }
    Ok(token)
}

type Form = Vec<(&'static str, String)>;

/// The form of a grant, with its secrets as they are now.
fn form<'a>(grant: &'a Grant, clock: &dyn Clock) -> Result<(&'a LoginUrl, Form), SignInError> {
    let (login, client, mut form): (_, _, Form) = match grant {
        Grant::ClientCredentials { login, client } => (
            login,
            Some(client),
            vec![("grant_type", "client_credentials".into())],
        ),
        Grant::RefreshToken {
            login,
            client,
            token,
        } => {
            let token = token.read()?;
            let form = vec![
                ("grant_type", "refresh_token".into()),
                ("refresh_token", token),
            ];
            (login, Some(client), form)
        }
        Grant::Password {
            login,
            client,
            username,
            password,
        } => {
            let form = vec![
                ("grant_type", "password".into()),
                ("username", username.clone()),
                ("password", password.read()?),
            ];
            (login, client.as_ref(), form)
        }
        Grant::JwtBearer {
            login,
            client_id,
            username,
            key,
            audience,
        } => {
            let pem = key.read()?;
            let audience = audience.clone().unwrap_or_else(|| login.to_string());
            let signed = assertion::sign(&pem, client_id, username, &audience, clock.now());
            let assertion = signed.map_err(|reason| match key {
                super::Secret::File(path) => SignInError::File {
                    path: path.clone(),
                    reason: reason.into(),
                },
                super::Secret::Text(_) => SignInError::Key(reason),
            })?;
            let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            let form = vec![("grant_type", kind.into()), ("assertion", assertion)];
            (login, None, form)
        }
        Grant::Command(_) | Grant::Profile(_) => unreachable!("these have no login host"),
    };
    if let Some(client) = client {
        form.push(("client_id", client.id.clone()));
        if let Some(secret) = &client.secret {
            form.push(("client_secret", secret.read()?));
        }
    }
    Ok((login, form))
}

/// Reads an answer, or a refusal in its words.
fn read<'de, T: Deserialize<'de>>(login: &LoginUrl, answer: &'de Answer) -> Result<T, SignInError> {
    let host = login.host().to_owned();
    if answer.status == StatusCode::OK {
        return serde_json::from_slice(&answer.body).map_err(|_| SignInError::Nonsense {
            host,
            found: "something that is no JSON of a token".into(),
        });
    }
    match serde_json::from_slice::<Refusal>(&answer.body) {
        Ok(refusal) => {
            let reason = refusal
                .error_description
                .unwrap_or_else(|| refusal.error.clone());
            let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
            let is_passing = answer.status.is_server_error()
                || answer.status == StatusCode::TOO_MANY_REQUESTS
                || PASSING.contains(&&*refusal.error);
            Err(match is_passing {
                true => SignInError::NotNow { host, reason },
                false => SignInError::Refused { host, reason },
            })
        }
        Err(_) => Err(without_reason(host, answer.status)),
    }
}

/// A refusal that gives no reason. One of whoever asks is final: secrets are not shown again and again.
pub(super) fn without_reason(host: String, status: StatusCode) -> SignInError {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let reason = status.to_string();
            SignInError::Refused { host, reason }
        }
        _ => SignInError::Nonsense {
            host,
            found: status.to_string(),
        },
    }
}

/// Characters of a reason that are shown.
pub(super) const REASON_CHARS_MAX: usize = 300;

/// Errors that pass: those of RFC 6749, 4.1.2.1, which token endpoints answer too, and what says that
/// somebody asked too often.
const PASSING: [&str; 4] = [
    "rate_limit_exceeded",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
];

/// The organisation of `https://login/id/{organisation}/{user}`.
pub(super) fn tenant_of_id(id: &str) -> Option<String> {
    let (_, path) = id.split_once("/id/")?;
    Some(path.split('/').next()?.to_owned())
}

/// Asks whose token it is.
async fn user_info(
    http: &HttpClient,
    login: &LoginUrl,
    access_token: &str,
) -> Result<String, SignInError> {
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::try_from(format!("Bearer {access_token}"));
    let mut bearer = bearer.map_err(|_| SignInError::Nonsense {
        host: login.host().to_owned(),
        found: "a token that no call can carry".into(),
    })?;
    bearer.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, bearer);
    let to = login.at("/services/oauth2/userinfo");
    let answer = http.call(Method::GET, &to, headers, Bytes::new()).await?;
    let found: UserInfo = read(login, &answer)?;
    Ok(found.organization_id)
}
