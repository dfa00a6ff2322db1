//! What clients and users have in common: who they are to others, and why one cannot be made.

use std::sync::Arc;

use crate::{
    clock::Timestamp,
    metadata::{StoreError, WriteError},
    types::{
        Grants, PlatformId, TenantId,
        limits::{
            ACCOUNTS_MAX, CERTIFICATE_BYTES_MAX, CLIENT_CERTIFICATES_MAX, PASSWORD_BYTES_MAX,
            PASSWORD_CHARS_MIN, TOKEN_NAME_CHARS_MAX, USERNAME_CHARS_MAX,
        },
    },
};

use super::jwt::CertificateError;

/// What the ids of users begin with.
const USER_PREFIX: &[u8; 3] = b"005";

/// A user or a client application, as others may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Random, and never made twice: what tokens remember.
    pub id: Arc<str>,
    /// The id of the user that signs in, which a client application is to those it tells about itself.
    pub user_id: Arc<str>,
    /// A username, or what a client application is for.
    pub name: Arc<str>,
    /// The tenant it works for.
    pub tenant: TenantId,
    /// What it is granted.
    pub grants: Grants,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Why a client or user was not made or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// The tenant has none of this name or id.
    #[error("there is no such client or user")]
    Unknown,
    /// The gateway has a user of this name.
    #[error("the username is taken")]
    Taken,
    /// The gateway has as many as it may.
    #[error(
        "a gateway has at most {ACCOUNTS_MAX} clients and {ACCOUNTS_MAX} users; delete one first"
    )]
    TooMany,
    /// Not a name.
    #[error(
        "a name has 1 to {TOKEN_NAME_CHARS_MAX} characters, none of which is a control character"
    )]
    Name,
    /// Not a username.
    #[error("a username has 1 to {USERNAME_CHARS_MAX} characters, none of which is white space")]
    Username,
    /// Not a password that is accepted.
    #[error(
        "a password has {PASSWORD_CHARS_MIN} characters at least and {PASSWORD_BYTES_MAX} bytes at most"
    )]
    Password,
    /// More certificates than a client may have.
    #[error(
        "a client has at most {CLIENT_CERTIFICATES_MAX} certificates of {CERTIFICATE_BYTES_MAX} bytes"
    )]
    Certificates,
    /// Not a certificate that assertions can be checked with.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// More passwords are being hashed than the gateway does at once.
    #[error("too many passwords are being hashed; try again")]
    Busy,
    /// The disk, or the quota on it, is full; the same call succeeds when there is space.
    #[error("the client or user cannot be stored: the disk is full")]
    DiskFull,
    /// It could not be stored.
    #[error("the client or user cannot be stored")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl From<WriteError> for AccountError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(StoreError::DiskFull(_)) => Self::DiskFull,
            error => Self::Store(error.into()),
        }
    }
}

/// Whether a token or a client application may have this name.
pub fn is_name(text: &str) -> bool {
    (1..=TOKEN_NAME_CHARS_MAX).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
}

/// The id of a new user.
pub(super) fn new_user_id() -> Result<PlatformId, getrandom::Error> {
    let mut random = [0; 12];
    getrandom::fill(&mut random)?;
    Ok(PlatformId::from_random(USER_PREFIX, random))
}

/// The id of the user that holds a token which nobody signed in for. The same for the same token.
pub(super) fn user_id_of_token(sha256: &[u8; 32]) -> PlatformId {
    let random = sha256.first_chunk().expect("a hash has more bytes");
    PlatformId::from_random(USER_PREFIX, *random)
}
