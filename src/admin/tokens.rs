//! Access tokens: made, listed and revoked by administrators.

use super::Admin;
use crate::{
    auth::token::{Token, TokenError},
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
        limits::{TOKEN_NAME_CHARS_MAX, TOKEN_PATTERNS_MAX},
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
        if !(1..=TOKEN_NAME_CHARS_MAX).contains(&name.chars().count()) {
            return Err(kinds::ADMIN_REQUEST_INVALID.error(format!(
                "a token's name has 1 to {TOKEN_NAME_CHARS_MAX} characters"
            )));
        }
        let grants = parse_grants(request.grants.unwrap_or_default())?;
        let (token, access_token) = self.tokens.create(principal.tenant, name, grants).await?;
        Ok(CreateTokenResponse {
            token: Some(token_message(&token)),
            access_token: access_token.expose().to_owned(),
        })
    }

    pub(super) async fn list(&self, call: &Call) -> Result<ListTokensResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let tokens = self.tokens.list(principal.tenant).await?;
        Ok(ListTokensResponse {
            tokens: tokens.iter().map(token_message).collect(),
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

fn parse_grants(grants: admin::Grants) -> Result<Grants, RpcError> {
    let patterns = |patterns: Vec<String>| {
        if patterns.len() > TOKEN_PATTERNS_MAX {
            return Err(kinds::ADMIN_REQUEST_INVALID.error(format!(
                "a token has at most {TOKEN_PATTERNS_MAX} patterns of a kind"
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

fn token_message(token: &Token) -> admin::Token {
    let text = |patterns: &[TopicPattern]| patterns.iter().map(ToString::to_string).collect();
    admin::Token {
        id: token.id.clone(),
        name: token.name.to_string(),
        grants: Some(admin::Grants {
            publish: text(&token.grants.publish),
            subscribe: text(&token.grants.subscribe),
            change_events: token.grants.change_events,
            admin: token.grants.admin,
        }),
        created_at_ms: token.created_at.as_millis(),
        revoked_at_ms: token.revoked_at.map_or(0, Timestamp::as_millis),
    }
}

impl From<TokenError> for RpcError {
    fn from(error: TokenError) -> Self {
        let kind = match &error {
            TokenError::Unknown => kinds::ADMIN_NOT_FOUND,
            TokenError::TooMany => kinds::PROTECTION,
            TokenError::DiskFull => kinds::UNAVAILABLE,
            TokenError::Store(_) => kinds::OUTAGE,
        };
        kind.error(error.to_string()).because(error)
    }
}
