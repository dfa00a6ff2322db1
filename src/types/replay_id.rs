//! Positions, and the replay ids that carry them over the wire.
//!
//! Source: `proto/pubsub_api.proto`, `ConsumerEvent.replay_id`. The hosted service sends ten bytes,
//! an eight-byte big-endian number and two more; stock clients read only the first eight, keep them
//! in an IEEE double and send eight back.

use std::{fmt, str::FromStr};

use super::limits::{BLOCK_EVENTS_MAX, POSITION_MAX};

/// Bits of a position that hold the index within a block.
const INDEX_BITS: u32 = 8;
const _: () = assert!(BLOCK_EVENTS_MAX == 1 << INDEX_BITS);

/// Where an event stands in its tenant: `(block number << 8) | index in block`.
///
/// Positions rise in the order of acceptance and have gaps, so they are compared and never
/// subtracted. At most [`POSITION_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// Before every event.
    pub const ZERO: Self = Self(0);
    /// At or after every event.
    pub const MAX: Self = Self(POSITION_MAX);

    /// The position with this number, or `None` above [`POSITION_MAX`].
    pub fn new(number: u64) -> Option<Self> {
        (number <= POSITION_MAX).then_some(Self(number))
    }

    /// The position of an event of block `block`; `None` when the number passes [`POSITION_MAX`].
    pub fn in_block(block: u64, index: u8) -> Option<Self> {
        if block > POSITION_MAX >> INDEX_BITS {
            return None;
        }
        Some(Self((block << INDEX_BITS) | u64::from(index)))
    }

    /// The number itself.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The number of the block this position lies in.
    pub fn block(self) -> u64 {
        self.0 >> INDEX_BITS
    }

    /// The index within the block.
    pub fn index(self) -> u8 {
        (self.0 & ((1 << INDEX_BITS) - 1)) as u8
    }

    /// The position in its wire form.
    pub fn replay_id(self) -> ReplayId {
        let mut bytes = [0; ReplayId::LEN];
        bytes[..8].copy_from_slice(&self.0.to_be_bytes());
        ReplayId(bytes)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A position in its wire form: eight bytes, big-endian, then two zero bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplayId([u8; ReplayId::LEN]);

impl ReplayId {
    /// Bytes of a replay id as it is sent.
    pub const LEN: usize = 10;

    /// The bytes as they are sent.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The position that it carries.
    pub fn position(&self) -> Position {
        let number = self.0.first_chunk().expect("it has ten bytes");
        Position(u64::from_be_bytes(*number))
    }

    /// Reads the position out of a replay id that a client sent.
    ///
    /// # Shapes
    ///
    /// Eight bytes, or ten of which the last two are zero.
    ///
    /// # Errors
    ///
    /// [`ReplayIdError`] for any other length, any other suffix, or a number above
    /// [`POSITION_MAX`].
    pub fn parse(bytes: &[u8]) -> Result<Position, ReplayIdError> {
        let (number, suffix) = bytes
            .split_first_chunk::<8>()
            .ok_or(ReplayIdError::Length(bytes.len()))?;
        match suffix {
            [] | [0, 0] => {}
            [_, _] => return Err(ReplayIdError::Suffix),
            _ => return Err(ReplayIdError::Length(bytes.len())),
        }
        let number = u64::from_be_bytes(*number);
        Position::new(number).ok_or(ReplayIdError::Range(number))
    }
}

/// Hex in either case, of the bytes that [`ReplayId::parse`] reads.
impl FromStr for ReplayId {
    type Err = ReplayIdError;

    fn from_str(hex: &str) -> Result<Self, ReplayIdError> {
        let mut bytes = [0; Self::LEN];
        let (digits, rest) = hex.as_bytes().as_chunks::<2>();
        let bytes = bytes.get_mut(..digits.len()).filter(|_| rest.is_empty());
        let bytes = bytes.ok_or(ReplayIdError::NotHex)?;
        for (byte, [high, low]) in bytes.iter_mut().zip(digits) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(ReplayIdError::NotHex);
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Ok(Self::parse(bytes)?.replay_id())
    }
}

/// Lower-case hex, as the command line prints and accepts it.
impl fmt::Display for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReplayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplayId({self})")
    }
}

/// Why bytes are not a replay id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayIdError {
    /// Holds the length found.
    #[error("a replay id has 8 or 10 bytes, this one has {0}")]
    Length(usize),
    /// Ten bytes that no server of this kind has sent.
    #[error("the last two bytes of a 10-byte replay id are zero, these are not")]
    Suffix,
    /// Text that is not hex, or too much of it.
    #[error("a replay id in text is 16 or 20 hex digits")]
    NotHex,
    /// Holds the number found.
    #[error("a replay id holds a position of at most {POSITION_MAX}, this one holds {0}")]
    Range(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_the_wire_in_both_lengths() {
        let position = Position::in_block(77, 255).unwrap();
        let id = position.replay_id();
        assert_eq!(ReplayId::parse(id.as_bytes()), Ok(position));
        assert_eq!(ReplayId::parse(&id.as_bytes()[..8]), Ok(position));
        assert_eq!((position.block(), position.index()), (77, 255));
        assert_eq!(id.to_string(), "0000000000004dff0000");
        for text in ["0000000000004dff0000", "0000000000004DFF"] {
            assert_eq!(text.parse(), Ok(id), "{text}");
        }
        assert_eq!(id.position(), position);
    }

    #[test]
    fn every_other_length_and_suffix_is_refused() {
        for len in (0..=20).filter(|len| ![8, 10].contains(len)) {
            assert_eq!(
                ReplayId::parse(&vec![0; len]),
                Err(ReplayIdError::Length(len))
            );
        }
        for text in ["0000000000004dfg", "0000000000004df", "+000000000004dff"] {
            assert_eq!(text.parse::<ReplayId>(), Err(ReplayIdError::NotHex));
        }
        let long = "0".repeat(22).parse::<ReplayId>();
        assert_eq!(long, Err(ReplayIdError::NotHex));
        assert_eq!("00".parse::<ReplayId>(), Err(ReplayIdError::Length(1)));
        let mut bytes = *Position::ZERO.replay_id().as_bytes();
        bytes[9] = 1;
        assert_eq!(ReplayId::parse(&bytes), Err(ReplayIdError::Suffix));
        assert_eq!(
            ReplayId::parse(&(POSITION_MAX + 1).to_be_bytes()),
            Err(ReplayIdError::Range(POSITION_MAX + 1))
        );
    }
}
