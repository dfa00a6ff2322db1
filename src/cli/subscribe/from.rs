//! Where a subscription starts, as people write it.

use std::str::FromStr;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;

use crate::{
    proto::{FetchRequest, ReplayPreset},
    types::{Position, limits::POSITION_MAX},
};

/// Where a subscription starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// After the newest event.
    Latest,
    /// At the oldest event.
    Earliest,
    /// After the event with this replay id. Gateways other than this one may have ids of other
    /// shapes, so it is sent as it is.
    ReplayId(Bytes),
}

impl From {
    /// A first request that starts here.
    pub(super) fn request(&self, topic: String) -> FetchRequest {
        let (preset, replay_id) = match self {
            Self::Latest => (ReplayPreset::Latest, Bytes::new()),
            Self::Earliest => (ReplayPreset::Earliest, Bytes::new()),
            Self::ReplayId(id) => (ReplayPreset::Custom, id.clone()),
        };
        FetchRequest {
            topic_name: topic,
            replay_preset: preset.into(),
            replay_id,
            ..FetchRequest::default()
        }
    }
}

impl FromStr for From {
    type Err = FromError;

    /// `-1` and `-2` mean latest and earliest in other clients of this protocol.
    fn from_str(text: &str) -> Result<Self, FromError> {
        match text {
            "latest" | "-1" => Ok(Self::Latest),
            "earliest" | "-2" => Ok(Self::Earliest),
            _ => parse_replay_id(text).map(Self::ReplayId),
        }
    }
}

/// The spellings do not overlap: a number has no leading zero, and the hex of eight bytes that
/// begins with another digit would be a position past the largest.
fn parse_replay_id(text: &str) -> Result<Bytes, FromError> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
        && text.len() < 2 * REPLAY_ID_BYTES;
    if is_decimal && !text.is_empty() {
        let number = text.parse().map_err(|_| FromError::Range)?;
        let position = Position::new(number).ok_or(FromError::Range)?;
        return Ok(Bytes::copy_from_slice(position.replay_id().as_bytes()));
    }
    let bytes = if text.bytes().all(|byte| byte.is_ascii_hexdigit()) && has_id_bytes(text.len() / 2)
    {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16))
            .collect::<Result<Vec<u8>, _>>()
            .map_err(|_| FromError::Text)?
    } else {
        decode_base64(text).ok_or(FromError::Text)?
    };
    if has_id_bytes(bytes.len()) {
        Ok(bytes.into())
    } else {
        Err(FromError::Text)
    }
}

/// Bytes of a replay id; eight in its older form.
const REPLAY_ID_BYTES: usize = 10;

fn has_id_bytes(bytes: usize) -> bool {
    [8, REPLAY_ID_BYTES].contains(&bytes)
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [STANDARD, URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}

/// Why text does not say where to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum FromError {
    /// No spelling that is known.
    #[error(
        "wanted latest, earliest, or a replay id: 16 or 20 hex digits, 8 or 10 bytes in base64, or a decimal number"
    )]
    Text,
    /// A number that no event can have.
    #[error("a replay id is a number of at most {POSITION_MAX}")]
    Range,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Vec<u8> {
        match text.parse() {
            Ok(From::ReplayId(bytes)) => bytes.to_vec(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_two_ends_have_names_and_numbers() {
        assert_eq!("latest".parse(), Ok(From::Latest));
        assert_eq!("-1".parse(), Ok(From::Latest));
        assert_eq!("earliest".parse(), Ok(From::Earliest));
        assert_eq!("-2".parse(), Ok(From::Earliest));
    }

    #[test]
    fn a_replay_id_has_several_spellings() {
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
    }

    #[test]
    fn sixteen_digits_are_hex_only_with_a_leading_zero() {
        assert_eq!(id("0000000000000010"), 16_u64.to_be_bytes());
        assert_eq!(id("1000000000000000")[..8], 10_u64.pow(15).to_be_bytes());
        assert_eq!(id("00000000000000100000").len(), 10);
        assert_eq!(id("0")[..8], [0; 8]);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "", "newest", "-3", "Latest", "00", "0x10", "é", "AAAA", " 1", "1 ",
        ] {
            assert_eq!(text.parse::<From>(), Err(FromError::Text), "{text:?}");
        }
        for text in ["9007199254740992", "9999999999999999999"] {
            assert_eq!(text.parse::<From>(), Err(FromError::Range), "{text}");
        }
    }
}
