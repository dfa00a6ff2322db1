//! Tenants: the organisations whose events a gateway keeps apart.

use std::{fmt, str::FromStr};

use super::{PlatformId, PlatformIdError};

/// An organisation's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantId(PlatformId);

impl TenantId {
    /// What the ids of organisations begin with.
    const PREFIX: &'static [u8; 3] = b"00D";

    /// Makes an id out of 12 random bytes.
    pub fn from_random(random: [u8; 12]) -> Self {
        Self(PlatformId::from_random(Self::PREFIX, random))
    }

    /// The 18-character form.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The 15-character form, which begins every access token.
    pub fn as_short_str(&self) -> &str {
        self.0.as_short_str()
    }
}

impl FromStr for TenantId {
    type Err = TenantIdError;

    fn from_str(text: &str) -> Result<Self, TenantIdError> {
        Ok(Self(text.parse().map_err(TenantIdError)?))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantId({self})")
    }
}

/// Why text is not a tenant id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a tenant id: {0}")]
pub struct TenantIdError(PlatformIdError);
