//! Who is calling, as the `Authorization` header says.
//!
//! Source: RFC 6750, "The OAuth 2.0 Authorization Framework: Bearer Token Usage"; older clients of
//! the platform write `OAuth` where the RFC has `Bearer`.

use axum::http::{HeaderMap, header::AUTHORIZATION};

use super::error::{ApiError, kinds};
use crate::{
    auth::Authenticator,
    types::{Principal, limits::CLIENT_NAME_BYTES_MAX},
};

/// How a client wants to be called in metrics and among the users of a schema: the same name as over
/// gRPC, or as a header of HTTP that is an extension used to be called.
const CLIENT_NAME: [&str; 2] = ["tidegate-client-name", "x-tidegate-client-name"];

/// The principal whose access token `headers` carry.
///
/// # Errors
///
/// An [`ApiError`] for a token that is missing or not good, which are not told apart, and when it
/// cannot be checked for now.
pub(super) async fn caller(
    authenticator: &dyn Authenticator,
    headers: &HeaderMap,
) -> Result<Principal, ApiError> {
    let token = bearer(headers).ok_or_else(session_invalid)?;
    Ok(authenticator.authenticate_bearer(token).await?)
}

/// The token of the one `Authorization` header, unless there is none.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let is_known = ["bearer", "oauth"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    Some(token.trim()).filter(|token| is_known && !token.is_empty())
}

/// What the client calls itself, unless it says nothing.
///
/// # Errors
///
/// An [`ApiError`] for a name that is none, and for two.
pub(super) fn client_name(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = CLIENT_NAME.iter().flat_map(|&name| headers.get_all(name));
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match value.to_str().map(str::trim) {
        Ok(name)
            if (1..=CLIENT_NAME_BYTES_MAX).contains(&name.len()) && values.next().is_none() =>
        {
            Ok(Some(name))
        }
        _ => Err(kinds::INVALID_INPUT.error(format!(
            "{} is there once, with 1 to {CLIENT_NAME_BYTES_MAX} printable ASCII characters",
            CLIENT_NAME[0]
        ))),
    }
}

/// The words that clients of the platform look for before they sign in again.
pub(super) fn session_invalid() -> ApiError {
    kinds::INVALID_SESSION.error("Session expired or invalid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn both_schemes_are_known_in_any_case() {
        for value in [
            "Bearer 00D!x",
            "OAuth 00D!x",
            "bearer  00D!x ",
            "OAUTH 00D!x",
        ] {
            assert_eq!(found(&[value]).as_deref(), Some("00D!x"), "{value}");
        }
    }

    #[test]
    fn anything_else_is_no_token() {
        for values in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["00D!x"],
            &["Basic 00D!x"],
            &["Bearer 00D!x", "Bearer 00D!x"],
        ] {
            assert_eq!(found(values), None, "{values:?}");
        }
    }
}
