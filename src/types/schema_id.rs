//! Schema ids: the fingerprint of an Avro schema in the form that travels with each event.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The MD5 of a schema's Parsing Canonical Form as unpadded base64url: always 22 characters.
///
/// Kept as text because that is how it is compared, on every event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId([u8; SchemaId::LEN]);

impl SchemaId {
    /// Characters of a schema id.
    pub const LEN: usize = 22;

    /// The id of the schema whose canonical form has this MD5 digest.
    pub fn from_digest(digest: [u8; 16]) -> Self {
        let mut text = [0; Self::LEN];
        URL_SAFE_NO_PAD
            .encode_slice(digest, &mut text)
            .expect("16 bytes are 22 characters of unpadded base64");
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("built from base64 characters only")
    }

    /// The id as bytes of text.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl FromStr for SchemaId {
    type Err = SchemaIdError;

    fn from_str(text: &str) -> Result<Self, SchemaIdError> {
        let refused = || SchemaIdError {
            found_chars: text.chars().count(),
        };
        let digest = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        Ok(Self::from_digest(digest.try_into().map_err(|_| refused())?))
    }
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaId({self})")
    }
}

/// The text is not a schema id. Holds no part of the text, which a peer chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a schema id is 22 characters of unpadded base64url, this is something else of {found_chars} characters"
)]
pub struct SchemaIdError {
    /// Characters of what was found.
    pub found_chars: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_digest_agree() {
        let id = SchemaId::from_digest([0xab; 16]);
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_eq!(id.as_str().len(), SchemaId::LEN);
    }

    #[test]
    fn text_that_no_digest_has_is_refused() {
        // The last character of 22 carries only four bits; a stray bit would make two spellings.
        for text in [
            "",
            "short",
            "dGzWYkf4alBWqjXJMJJLlx",
            "dGzWYkf4alBWqjXJMJJLlw=",
            "dGzWYkf4alBWqjXJMJJL+w",
        ] {
            assert!(text.parse::<SchemaId>().is_err(), "{text}");
        }
    }
}
