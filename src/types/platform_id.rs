//! Ids as the platform writes them: of organisations, users, subscriptions.

use std::{fmt, str::FromStr};

/// 15 case-sensitive characters, the first three of which tell the kind, and 3 that make them safe to
/// fold.
///
/// Two ids are the same when their first 15 characters are; the last three follow from those.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlatformId([u8; PlatformId::LEN]);

/// Characters that carry the id; the rest is a checksum.
const SIGNIFICANT: usize = 15;

impl PlatformId {
    /// Characters of the long form.
    pub const LEN: usize = 18;

    /// Makes an id that begins with `prefix`, a few letters and digits, out of 12 random bytes.
    pub fn from_random(prefix: &[u8; 3], random: [u8; 12]) -> Self {
        const ALPHABET: &[u8; 62] =
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut short = [0; SIGNIFICANT];
        short[..3].copy_from_slice(prefix);
        for (to, from) in short[3..].iter_mut().zip(random) {
            *to = ALPHABET[usize::from(from) % ALPHABET.len()];
        }
        Self::from_significant(&short)
    }

    /// The 18-character form.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("built from ASCII only")
    }

    /// The 15-character form.
    pub fn as_short_str(&self) -> &str {
        &self.as_str()[..SIGNIFICANT]
    }

    fn from_significant(short: &[u8; SIGNIFICANT]) -> Self {
        let mut id = [0; Self::LEN];
        id[..SIGNIFICANT].copy_from_slice(short);
        // Each suffix character tells which of five characters are upper case, lowest bit first.
        for (chunk, suffix) in short.chunks(5).zip(SIGNIFICANT..) {
            let bits = chunk.iter().enumerate().fold(0, |bits, (i, c)| {
                bits | (u8::from(c.is_ascii_uppercase()) << i)
            });
            id[suffix] = if bits < 26 {
                b'A' + bits
            } else {
                b'0' + bits - 26
            };
        }
        Self(id)
    }
}

impl FromStr for PlatformId {
    type Err = PlatformIdError;

    fn from_str(text: &str) -> Result<Self, PlatformIdError> {
        if ![SIGNIFICANT, Self::LEN].contains(&text.len()) {
            return Err(PlatformIdError::Length(text.chars().count()));
        }
        if !text.bytes().all(|c| c.is_ascii_alphanumeric()) {
            return Err(PlatformIdError::Characters);
        }
        let short = text
            .as_bytes()
            .first_chunk()
            .expect("the length was checked");
        // The suffix is not compared: clients are known to send it folded.
        Ok(Self::from_significant(short))
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlatformId({self})")
    }
}

/// Why text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformIdError {
    /// Holds the length found, in characters.
    #[error("an id has 15 or 18 characters, this one has {0}")]
    Length(usize),
    /// A character that no id has.
    #[error("an id holds letters and digits only")]
    Characters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_follows_from_the_significant_characters() {
        // Published as the example of the conversion from 15 to 18 characters.
        let id: PlatformId = "00D30000000TtLk".parse().unwrap();
        assert_eq!(id.as_short_str(), "00D30000000TtLk");
        let long: PlatformId = "00D30000000TtLkxxx".parse().unwrap();
        assert_eq!(id, long);
        assert_ne!(id, "00d30000000TtLk".parse().unwrap());
    }

    #[test]
    fn suffix_characters_count_upper_case_letters_from_the_low_bit() {
        let id: PlatformId = "0ABCD0000000000".parse().unwrap();
        // Bits 1 to 4 of the first five: 30, which is the digit 4.
        assert_eq!(&id.as_str()[15..], "4AA");
    }

    #[test]
    fn other_lengths_and_characters_are_refused() {
        assert_eq!("00D".parse::<PlatformId>(), Err(PlatformIdError::Length(3)));
        assert_eq!(
            "00D3000000!TtLk".parse::<PlatformId>(),
            Err(PlatformIdError::Characters)
        );
    }

    #[test]
    fn a_made_id_parses_as_itself() {
        let id = PlatformId::from_random(b"18x", [250; 12]);
        assert_eq!(id.as_str().parse(), Ok(id));
        assert!(id.as_str().starts_with("18x"));
    }
}
