//! Who is calling: credentials in, a principal out.
//!
//! [`Authenticator`] is the seam for other ways to sign in; [`token`] is the one there is now. What a
//! principal may do is asked elsewhere, in the broker.
//!
//! Source: the public Pub/Sub API Developer Guide, "Include Authorization Headers".

pub mod token;

use std::{fmt, sync::Arc};

use crate::types::{Principal, TenantIdError};

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
