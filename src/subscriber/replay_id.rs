//! Replay ids as gateways send them: opaque bytes, sent back as they came.
//!
//! This gateway and the hosted service send ten bytes of which the first eight are a number; older
//! captures show eight. Nothing here depends on that, but an id is held to a length that such ids
//! have: to keep three bytes as a position would lose the position that was kept before.

use std::{fmt, str::FromStr};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::types::{Moment, MomentError, Position, limits::POSITION_MAX};

/// A replay id in whatever form its gateway gives it: 8 to 31 bytes. Shown as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpaqueReplayId {
    len: u8,
    bytes: [u8; OpaqueReplayId::BYTES_MAX],
}

impl OpaqueReplayId {
    /// No known id is shorter; public clients fail on one that is.
    pub const BYTES_MIN: usize = 8;
    /// No known id is half as long. A bound lets positions be kept by value, by the thousand.
    pub const BYTES_MAX: usize = 31;

    /// The id with these bytes.
    ///
    /// # Errors
    ///
    /// [`OpaqueReplayIdError`] if that is not the length of a replay id.
    pub fn new(bytes: &[u8]) -> Result<Self, OpaqueReplayIdError> {
        if !(Self::BYTES_MIN..=Self::BYTES_MAX).contains(&bytes.len()) {
            return Err(OpaqueReplayIdError(bytes.len()));
        }
        let mut id = Self {
            len: bytes.len() as u8,
            bytes: [0; Self::BYTES_MAX],
        };
        id.bytes[..bytes.len()].copy_from_slice(bytes);
        Ok(id)
    }

    /// The id that is shown as this hex; `None` if none is.
    pub fn from_hex(text: &str) -> Option<Self> {
        if !text.is_ascii() || !text.len().is_multiple_of(2) {
            return None;
        }
        let bytes: Option<Vec<u8>> = (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok())
            .collect();
        Self::new(&bytes?).ok()
    }

    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The number in the first eight bytes, which is what other clients show. Good for people and for
    /// telling how far apart two ids are, and for nothing else: ids are not counted.
    pub fn number(&self) -> u64 {
        let first = self.bytes.first_chunk();
        u64::from_be_bytes(*first.expect("an id has eight bytes or more"))
    }
}

impl FromStr for OpaqueReplayId {
    type Err = ReplayIdTextError;

    /// Reads hex, base64 in both alphabets, or the number. The spellings do not overlap: a number has
    /// no leading zero, and the hex of eight bytes that begins with another digit would be a position
    /// past the largest.
    fn from_str(text: &str) -> Result<Self, ReplayIdTextError> {
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
            && text.len() < 2 * USUAL_BYTES;
        if is_decimal && !text.is_empty() {
            let number = text.parse().map_err(|_| ReplayIdTextError::Range)?;
            let position = Position::new(number).ok_or(ReplayIdTextError::Range)?;
            let id = Self::new(position.replay_id().as_bytes());
            return Ok(id.expect("ten bytes are in bounds"));
        }
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && [16, 2 * USUAL_BYTES].contains(&text.len());
        let id = match is_hex {
            true => Self::from_hex(text),
            false => decode_base64(text)
                .filter(|bytes| [8, USUAL_BYTES].contains(&bytes.len()))
                .and_then(|bytes| Self::new(&bytes).ok()),
        };
        id.ok_or(ReplayIdTextError::Text)
    }
}

impl fmt::Display for OpaqueReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.as_bytes().iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for OpaqueReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpaqueReplayId({self})")
    }
}

/// Bytes of the ids that gateways send today.
const USUAL_BYTES: usize = 10;

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [STANDARD, URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

/// Bytes that are no replay id. Holds how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a replay id has {min} to {max} bytes, found {0}",
    min = OpaqueReplayId::BYTES_MIN,
    max = OpaqueReplayId::BYTES_MAX
)]
pub struct OpaqueReplayIdError(pub usize);

/// Why text is not a replay id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayIdTextError {
    /// No spelling that is known.
    #[error("a replay id is 16 or 20 hex digits, 8 or 10 bytes in base64, or a decimal number")]
    Text,
    /// A number that no event can have.
    #[error("a replay id is a number of at most {POSITION_MAX}")]
    Range,
}

/// Where a subscription starts that has no position yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// After the newest event.
    #[default]
    Latest,
    /// At the oldest event that is kept.
    Earliest,
    /// After the event with this replay id.
    Behind(OpaqueReplayId),
    /// At the first event that was appended then or later.
    At(Moment),
}

impl FromStr for Start {
    type Err = StartError;

    /// `-1` and `-2` mean latest and earliest in other clients of this protocol.
    fn from_str(text: &str) -> Result<Self, StartError> {
        match text {
            "latest" | "-1" => Ok(Self::Latest),
            "earliest" | "-2" => Ok(Self::Earliest),
            // What begins with a minus sign is no position in base64 either: that would be past the
            // largest.
            time if time.starts_with('-') || time.contains(':') => {
                Ok(Self::At(time.parse().map_err(StartError::Time)?))
            }
            _ => match text.parse() {
                Ok(id) => Ok(Self::Behind(id)),
                Err(ReplayIdTextError::Text) => Err(StartError::Text),
                Err(ReplayIdTextError::Range) => Err(StartError::Range),
            },
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Earliest => f.write_str("earliest"),
            Self::Behind(id) => id.fmt(f),
            Self::At(moment) => moment.fmt(f),
        }
    }
}

/// Why text does not say where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No spelling that is known.
    #[error(
        "wanted latest, earliest, a time such as 2026-01-01T00:00Z or -15m, or a replay id: 16 or 20 hex digits, 8 or 10 bytes in base64, or a decimal number"
    )]
    Text,
    /// A number that no event can have.
    #[error("a replay id is a number of at most {POSITION_MAX}")]
    Range,
    /// No time, though it looks like one.
    #[error(transparent)]
    Time(MomentError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Vec<u8> {
        text.parse::<OpaqueReplayId>().unwrap().as_bytes().to_vec()
    }

    #[test]
    fn an_id_is_kept_byte_for_byte() {
        for len in OpaqueReplayId::BYTES_MIN..=OpaqueReplayId::BYTES_MAX {
            let bytes: Vec<u8> = (1..=len as u8).collect();
            let id = OpaqueReplayId::new(&bytes).unwrap();
            assert_eq!(id.as_bytes(), bytes);
            assert_eq!(id.to_string().len(), 2 * len);
        }
        for len in [0, 3, 7, 32, 1_000] {
            let refused = OpaqueReplayId::new(&vec![1; len]);
            assert_eq!(refused, Err(OpaqueReplayIdError(len)));
        }
    }

    #[test]
    fn an_id_has_several_spellings() {
        let ten = vec![0, 0, 0, 0, 0, 0, 0x4d, 0xff, 0, 0];
        assert_eq!(id("0000000000004dff0000"), ten);
        assert_eq!(id("0000000000004DFF0000"), ten);
        assert_eq!(id("AAAAAAAATf8AAA=="), ten);
        assert_eq!(id("AAAAAAAATf8AAA"), ten);
        assert_eq!(id("19967"), ten);
        assert_eq!(id("0000000000004dff"), ten[..8]);
        assert_eq!(id("AAAAAAAATf8="), ten[..8]);
        assert_eq!(id("AAAAAAAATf8"), ten[..8]);
        assert_eq!(id("AAAAAAAAT-8"), id("AAAAAAAAT+8"), "both alphabets");
        let number = "0000000000004dff0000".parse::<OpaqueReplayId>();
        assert_eq!(number.unwrap().number(), 19_967);
    }

    #[test]
    fn sixteen_digits_are_hex_only_with_a_leading_zero() {
        assert_eq!(id("0000000000000010"), 16_u64.to_be_bytes());
        assert_eq!(id("1000000000000000")[..8], 10_u64.pow(15).to_be_bytes());
        assert_eq!(id("00000000000000100000").len(), 10);
        assert_eq!(id("0")[..8], [0; 8]);
    }

    #[test]
    fn the_two_ends_have_names_and_numbers() {
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("-1".parse(), Ok(Start::Latest));
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("-2".parse(), Ok(Start::Earliest));
        assert_eq!("-15m".parse(), Ok(Start::At(Moment::Ago(900_000))));
        let year = Start::At(Moment::At(1_767_225_600_000));
        assert_eq!("2026-01-01T00:00Z".parse(), Ok(year));
        assert_eq!(year.to_string().parse(), Ok(year));
        for odd in ["-3", "-15", "12:00", "2026-01-01T00:00:00", "-8AAAAAAATf8"] {
            let refused = odd.parse::<Start>();
            assert_eq!(refused, Err(StartError::Time(MomentError)), "{odd}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "newest",
            "Latest",
            "00",
            "0x4dff",
            "4dff",
            "+1",
            "1e3",
            "AAAA",
            "é",
            "0000000000004dff00000000",
        ] {
            assert_eq!(text.parse::<Start>(), Err(StartError::Text), "{text}");
        }
        for text in ["9007199254740992", "9999999999999999999"] {
            assert_eq!(text.parse::<Start>(), Err(StartError::Range), "{text}");
        }
    }
}
