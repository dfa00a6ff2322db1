//! Access tokens: made, listed and revoked by administrators.

use std::time::Duration;

use super::Admin;
use crate::{
    auth::{
        accounts::is_name,
        token::{Token, TokenError, TokenKind},
    },
    clock::Timestamp,
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    proto::admin::{
        self, CreateTokenRequest, CreateTokenResponse, ListTokensResponse, RevokeTokenRequest,
        RevokeTokenResponse,
    },
    types::{
        Grants, TopicPattern,
        limits::{
            SIGN_IN_TOKENS_LISTED_MAX, TOKEN_LIFETIME_MAX, TOKEN_LIFETIME_MIN,
            TOKEN_NAME_CHARS_MAX, TOKEN_PATTERNS_MAX,
        },
    },
};

impl Admin {
    pub(super) async fn create(
        &self,
        call: &Call,
        request: CreateTokenRequest,
    ) -> Result<CreateTokenResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let name = request.name.trim();
        if !is_name(name) {
            return Err(kinds::ADMIN_REQUEST_INVALID.error(format!(
                "a token's name has 1 to {TOKEN_NAME_CHARS_MAX} characters, none of which is a \
                 control character"
            )));
        }
        let grants = parse_grants(request.grants.unwrap_or_default())?;
        let lifetime = parse_lifetime(request.lifetime_ms)?;
        let (token, access_token) = self
            .tokens
            .create(principal.tenant, name, grants, lifetime)
            .await?;
        Ok(CreateTokenResponse {
            token: Some(token_message(&token)),
            access_token: access_token.expose().to_owned(),
        })
    }

    pub(super) async fn list(&self, call: &Call) -> Result<ListTokensResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let tokens = self.tokens.list(principal.tenant).await?;
        let of_sign_in = tokens.iter().filter(|token| token.is_of_sign_in()).count();
        let mut left_out = of_sign_in.saturating_sub(SIGN_IN_TOKENS_LISTED_MAX);
        let listed = tokens.iter().filter(|token| {
            let is_left_out = token.is_of_sign_in() && left_out > 0;
            left_out -= usize::from(is_left_out);
            !is_left_out
        });
        Ok(ListTokensResponse {
            tokens: listed.map(token_message).collect(),
        })
    }

    pub(super) async fn revoke(
        &self,
        call: &Call,
        request: RevokeTokenRequest,
    ) -> Result<RevokeTokenResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let token = self.tokens.revoke(principal.tenant, &request.id).await?;
        Ok(RevokeTokenResponse {
            token: Some(token_message(&token)),
        })
    }
}

fn parse_lifetime(millis: u64) -> Result<Option<Duration>, RpcError> {
    let lifetime = Duration::from_millis(millis);
    if lifetime.is_zero() {
        return Ok(None);
    }
    if !(TOKEN_LIFETIME_MIN..=TOKEN_LIFETIME_MAX).contains(&lifetime) {
        return Err(kinds::ADMIN_REQUEST_INVALID.error(format!(
            "a token is good for {} s to {} days, or until it is revoked",
            TOKEN_LIFETIME_MIN.as_secs(),
            TOKEN_LIFETIME_MAX.as_secs() / (24 * 3_600)
        )));
    }
    Ok(Some(lifetime))
}

pub(super) fn parse_grants(grants: admin::Grants) -> Result<Grants, RpcError> {
    let patterns = |patterns: Vec<String>| {
        if patterns.len() > TOKEN_PATTERNS_MAX {
            return Err(kinds::ADMIN_REQUEST_INVALID.error(format!(
                "at most {TOKEN_PATTERNS_MAX} patterns of a kind are granted at once"
            )));
        }
        let parsed = patterns
            .iter()
            .map(|pattern| pattern.parse::<TopicPattern>());
        parsed
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| kinds::ADMIN_REQUEST_INVALID.error(error.to_string()))
    };
    Ok(Grants {
        publish: patterns(grants.publish)?,
        subscribe: patterns(grants.subscribe)?,
        change_events: grants.change_events,
        admin: grants.admin,
    })
}

pub(super) fn grants_message(grants: &Grants) -> admin::Grants {
    let text = |patterns: &[TopicPattern]| patterns.iter().map(ToString::to_string).collect();
    admin::Grants {
        publish: text(&grants.publish),
        subscribe: text(&grants.subscribe),
        change_events: grants.change_events,
        admin: grants.admin,
    }
}

fn token_message(token: &Token) -> admin::Token {
    let kind = match token.kind {
        TokenKind::Refresh => "refresh",
        TokenKind::Access if token.is_of_sign_in() => "access",
        TokenKind::Access => "static",
    };
    admin::Token {
        id: token.id.to_string(),
        name: token.name.to_string(),
        grants: Some(grants_message(&token.grants)),
        created_at_ms: token.created_at.as_millis(),
        revoked_at_ms: token.revoked_at.map_or(0, Timestamp::as_millis),
        expires_at_ms: token.expires_at.map_or(0, Timestamp::as_millis),
        kind: kind.to_owned(),
    }
}

impl From<TokenError> for RpcError {
    fn from(error: TokenError) -> Self {
        let kind = match &error {
            TokenError::Unknown => kinds::ADMIN_NOT_FOUND,
            TokenError::TooMany => kinds::PROTECTION,
            TokenError::DiskFull => kinds::UNAVAILABLE,
            TokenError::RefreshEnded => kinds::ADMIN_REQUEST_INVALID,
            TokenError::Store(_) => kinds::OUTAGE,
        };
        kind.error(error.to_string()).because(error)
    }
}
