//! Who is calling: credentials in, a principal out.
//!
//! Every call shows an access token, which [`token`] knows. [`sign_in`] hands them out to whoever
//! shows a password ([`users`]), a secret or a signed assertion ([`clients`], [`jwt`]), as often as
//! [`throttle`] lets them. What a principal may do is asked elsewhere, in the broker.
//!
//! Source: the public Pub/Sub API Developer Guide, "Include Authorization Headers".

pub mod accounts;
mod assertions;
pub mod clients;
pub mod jwt;
mod password;
pub mod sign_in;
pub mod throttle;
pub mod token;
pub mod users;
mod vigil;

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::types::{Principal, TenantIdError, limits};

pub use vigil::Vigil;

/// What a call identifies itself with. None of it was checked.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The access token.
    pub access_token: &'a str,
    /// The URL of the caller's organisation.
    pub instance_url: &'a str,
    /// The id of the caller's organisation.
    pub tenant_id: &'a str,
}

/// The token is a secret.
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_token", &"***")
            .finish_non_exhaustive()
    }
}

/// Finds out who is calling.
#[async_trait::async_trait]
pub trait Authenticator: fmt::Debug + Send + Sync + 'static {
    /// The principal that `credentials` belong to, at this moment.
    ///
    /// # Errors
    ///
    /// [`AuthError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: asking changes nothing.
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Principal, AuthError>;

    /// The principal that an access token alone belongs to, at this moment: its tenant is the one that
    /// the token names.
    ///
    /// # Errors
    ///
    /// [`AuthError::Token`] and [`AuthError::Unavailable`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: asking changes nothing.
    async fn authenticate_bearer(&self, token: &str) -> Result<Principal, AuthError>;

    /// A number that rises when a token is revoked or gives way to newer ones, or a user or client is
    /// deleted. A stream that
    /// outlives its authentication watches it, and asks [`Authenticator::is_good`] when it rises.
    fn revocations(&self) -> watch::Receiver<u64>;

    /// Whether a stream of `principal` may go on: its token was not revoked and gave not way,
    /// and whoever signed in for it was not deleted. One that has only expired meanwhile is good, as it is at the hosted
    /// service while there is traffic.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: asking changes nothing.
    async fn is_good(&self, principal: &Principal) -> Result<bool, AuthError>;
}

/// Settings of signing in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long an access token is good that signing in made.
    pub token_lifetime: Duration,
    /// How long a refresh token is good.
    pub refresh_token_lifetime: Duration,
    /// Failed attempts under one name before it is locked out.
    pub sign_in_failures_max: u32,
    /// Failed attempts from one address before it is locked out.
    pub sign_in_failures_per_address_max: u32,
    /// How long failed attempts count, and a lock-out lasts.
    pub sign_in_lockout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token_lifetime: limits::TOKEN_LIFETIME,
            refresh_token_lifetime: limits::REFRESH_TOKEN_LIFETIME,
            sign_in_failures_max: limits::SIGN_IN_FAILURES_MAX,
            sign_in_failures_per_address_max: limits::SIGN_IN_FAILURES_PER_ADDRESS_MAX,
            sign_in_lockout: limits::SIGN_IN_LOCKOUT,
        }
    }
}

/// Why credentials were refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// A header does not have the form it should have.
    #[error(transparent)]
    Header(#[from] HeaderProblem),
    /// The token is unknown, revoked or another tenant's. Which of these is not told.
    #[error("the access token is not valid")]
    Token,
    /// It cannot be told for now.
    #[error("the access token cannot be checked")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderProblem {
    /// Not a tenant id.
    #[error("the header tenantid is malformed: {0}")]
    TenantId(TenantIdError),
    /// Not a URL.
    #[error("the header instanceurl is malformed: it looks like https://host")]
    InstanceUrl,
    /// The token names one tenant and the header another.
    #[error("the header tenantid names another tenant than the access token")]
    TenantMismatch,
}
