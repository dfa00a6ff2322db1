//! One event as a publisher sends it, walked in place.
//!
//! An accepted event is copied to every subscriber byte for byte, so only bytes that every protobuf
//! library reads the same way pass here. [`EventView::parse`] knows the canonical shape and nothing
//! else; what differs is either re-encoded by the edge or refused.
//!
//! Source: `proto/pubsub_api.proto`, `message ProducerEvent` and `message EventHeader`; the protobuf
//! encoding guide.

use super::limits::{EVENT_BYTES_MAX, EVENT_HEADERS_BYTES_MAX, EVENT_ID_CHARS_MAX};

/// The fields of an encoded `ProducerEvent`, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventView<'a> {
    encoded: &'a [u8],
    id: &'a str,
    schema_id: &'a str,
    payload: &'a [u8],
}

/// Field tags: number and wire type 2, which all four fields have.
const ID: u8 = 0x0a;
const SCHEMA_ID: u8 = 0x12;
const PAYLOAD: u8 = 0x1a;
const HEADER: u8 = 0x22;
const HEADER_KEY: u8 = 0x0a;
const HEADER_VALUE: u8 = 0x12;

impl<'a> EventView<'a> {
    /// Walks an encoded event once, without allocating.
    ///
    /// # Shapes
    ///
    /// The four known fields, each singular one at most once and never empty, lengths in their
    /// shortest form, text in UTF-8. That is what every stock encoder writes.
    ///
    /// # Errors
    ///
    /// [`EventError::Odd`] when the bytes have another shape; they may still be a legal event.
    /// Every other variant is final.
    pub fn parse(encoded: &'a [u8]) -> Result<Self, EventError> {
        if encoded.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge(encoded.len()));
        }
        let mut view = Self {
            encoded,
            id: "",
            schema_id: "",
            payload: &[],
        };
        let mut headers_bytes = 0;
        let mut seen = 0u8;
        let mut rest = encoded;
        while let Some((tag, value, tail)) = split_field(rest)? {
            rest = tail;
            match tag {
                ID => view.id = utf8(value)?,
                SCHEMA_ID => view.schema_id = utf8(value)?,
                PAYLOAD => view.payload = value,
                HEADER => {
                    check_header(value)?;
                    headers_bytes += value.len();
                    continue;
                }
                _ => return Err(EventError::Odd),
            }
            // An empty field is never written by an encoder, and would hide an id put before it.
            let bit = 1 << (tag >> 3);
            if seen & bit != 0 || value.is_empty() {
                return Err(EventError::Odd);
            }
            seen |= bit;
        }
        if headers_bytes > EVENT_HEADERS_BYTES_MAX {
            return Err(EventError::HeadersTooLarge(headers_bytes));
        }
        if view.id.len() > EVENT_ID_CHARS_MAX {
            let chars = view.id.chars().count();
            if chars > EVENT_ID_CHARS_MAX {
                return Err(EventError::IdTooLong(chars));
            }
        }
        Ok(view)
    }

    /// The whole event as it was encoded.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// The event's id; empty when the publisher leaves it to the server.
    pub fn id(&self) -> &'a str {
        self.id
    }

    /// The id of the schema the payload is written with; may be any text.
    pub fn schema_id(&self) -> &'a str {
        self.schema_id
    }

    /// One Avro record, not yet looked at.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// The id in an event that [`EventView::parse`] refused, as far as one can be told: its publisher
/// wants to know which event the refusal is about.
pub fn id_of_refused(encoded: &[u8]) -> &str {
    let mut rest = encoded;
    while let Ok(Some((tag, value, tail))) = split_field(rest) {
        if tag == ID {
            return utf8(value)
                .ok()
                .filter(|id| id.chars().count() <= EVENT_ID_CHARS_MAX)
                .unwrap_or("");
        }
        rest = tail;
    }
    ""
}

/// The first field of some bytes: its tag, its value, and what follows.
type Field<'a> = (u8, &'a [u8], &'a [u8]);

/// Splits the first field off `bytes`; `None` at the end.
fn split_field(bytes: &[u8]) -> Result<Option<Field<'_>>, EventError> {
    let Some((&tag, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    if tag & 0x07 != 2 || tag & 0x80 != 0 {
        return Err(EventError::Odd);
    }
    let (len, rest) = split_length(rest)?;
    let (value, rest) = rest.split_at_checked(len).ok_or(EventError::Odd)?;
    Ok(Some((tag, value, rest)))
}

/// Splits a length in its shortest form off `bytes`. Three bytes reach past the largest event.
fn split_length(bytes: &[u8]) -> Result<(usize, &[u8]), EventError> {
    match *bytes {
        [a, ref rest @ ..] if a < 0x80 => Ok((usize::from(a), rest)),
        [a, b, ref rest @ ..] if b < 0x80 && b > 0 => {
            Ok((usize::from(a & 0x7f) | usize::from(b) << 7, rest))
        }
        [a, b, c, ref rest @ ..] if b >= 0x80 && c < 0x80 && c > 0 => Ok((
            usize::from(a & 0x7f) | usize::from(b & 0x7f) << 7 | usize::from(c) << 14,
            rest,
        )),
        _ => Err(EventError::Odd),
    }
}

fn check_header(bytes: &[u8]) -> Result<(), EventError> {
    let mut rest = bytes;
    let mut seen = 0u8;
    while let Some((tag, value, tail)) = split_field(rest)? {
        match tag {
            HEADER_KEY => _ = utf8(value)?,
            HEADER_VALUE => {}
            _ => return Err(EventError::Odd),
        }
        let bit = 1 << (tag >> 3);
        if seen & bit != 0 {
            return Err(EventError::Odd);
        }
        seen |= bit;
        rest = tail;
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str, EventError> {
    std::str::from_utf8(bytes).map_err(|_| EventError::Odd)
}

/// Why an encoded event was not taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// Not the canonical shape; perhaps a legal event in an unusual spelling.
    #[error("the event is not encoded in the usual way")]
    Odd,
    /// Not a `ProducerEvent` at all.
    #[error("the event is not a valid ProducerEvent message")]
    Malformed,
    /// Holds the size found, in bytes.
    #[error("an event has at most {EVENT_BYTES_MAX} bytes, this one has {0}")]
    TooLarge(usize),
    /// Holds the size found, in bytes.
    #[error("the headers of an event have at most {EVENT_HEADERS_BYTES_MAX} bytes, these have {0}")]
    HeadersTooLarge(usize),
    /// Holds the length found, in characters.
    #[error("an event id has at most {EVENT_ID_CHARS_MAX} characters, this one has {0}")]
    IdTooLong(usize),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(tag: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        prost::encoding::encode_varint(value.len() as u64, &mut bytes);
        bytes.extend_from_slice(value);
        bytes
    }

    #[test]
    fn the_canonical_shape_is_read_in_place() {
        let encoded = [
            field(ID, b"e-1"),
            field(SCHEMA_ID, b"dGzWYkf4alBWqjXJMJJLlw"),
            field(PAYLOAD, &[7; 200]),
            field(
                HEADER,
                &[field(HEADER_KEY, b"k"), field(HEADER_VALUE, b"v")].concat(),
            ),
        ]
        .concat();
        let view = EventView::parse(&encoded).unwrap();
        assert_eq!(view.id(), "e-1");
        assert_eq!(view.schema_id(), "dGzWYkf4alBWqjXJMJJLlw");
        assert_eq!(view.payload(), [7; 200]);
        assert_eq!(view.encoded(), encoded);
    }

    #[test]
    fn odd_spellings_are_told_apart() {
        let odd: [&[u8]; 12] = [
            &[0x02, 0x00],                                     // field 0
            &[0x0a, 0x01, b'a', 0x0a, 0x01, b'b'],             // a singular field twice
            &[0x08, 0x01],                                     // a varint where text belongs
            &[0x0a, 0x01, 0xff],                               // not UTF-8
            &[0x0a, 0x81, 0x00, b'a'],                         // a longer length than needed
            &[0x0a, 0x05, b'a'],                               // cut short
            &[0x0a],                                           // no length
            &[0x2a, 0x00],                                     // an unknown field
            &[0x8a, 0x00, 0x01, b'a'],                         // a longer tag than needed
            &[0x0a, 0x00],                                     // an empty field
            &[0x22, 0x06, 0x0a, 0x01, b'a', 0x0a, 0x01, b'b'], // a key twice
            &[0x22, 0x03, 0x0a, 0x01, 0xff],                   // a key that is not UTF-8
        ];
        for bytes in odd {
            assert_eq!(
                EventView::parse(bytes),
                Err(EventError::Odd),
                "{bytes:02x?}"
            );
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let event = field(PAYLOAD, &vec![0; EVENT_BYTES_MAX - 4]);
        assert_eq!(event.len(), EVENT_BYTES_MAX);
        assert!(EventView::parse(&event).is_ok());
        let event = field(PAYLOAD, &vec![0; EVENT_BYTES_MAX - 3]);
        assert_eq!(
            EventView::parse(&event),
            Err(EventError::TooLarge(EVENT_BYTES_MAX + 1))
        );

        let id = "é".repeat(EVENT_ID_CHARS_MAX);
        assert_eq!(
            EventView::parse(&field(ID, id.as_bytes())).unwrap().id(),
            id
        );
        let id = "a".repeat(EVENT_ID_CHARS_MAX + 1);
        assert_eq!(
            EventView::parse(&field(ID, id.as_bytes())),
            Err(EventError::IdTooLong(37))
        );

        let header = field(
            HEADER,
            &field(HEADER_VALUE, &vec![0; EVENT_HEADERS_BYTES_MAX]),
        );
        assert!(matches!(
            EventView::parse(&header),
            Err(EventError::HeadersTooLarge(_))
        ));
    }

    #[test]
    fn a_refused_event_still_tells_its_id() {
        let event = [field(ID, b"e-1"), vec![0x08, 0x01]].concat();
        assert_eq!(id_of_refused(&event), "e-1");
        assert_eq!(id_of_refused(&[0x08, 0x01]), "");
        assert_eq!(id_of_refused(&field(ID, &[b'a'; 37])), "");
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            _ = EventView::parse(&bytes);
            _ = id_of_refused(&bytes);
        }

        #[test]
        fn what_is_taken_reads_the_same_in_a_protobuf_library(
            bytes in prop::collection::vec(prop_oneof![
                Just(0x0a), Just(0x12), Just(0x1a), Just(0x22), 0u8..8, any::<u8>()
            ], 0..24)
        ) {
            if let Ok(view) = EventView::parse(&bytes) {
                let event = <crate::proto::ProducerEvent as prost::Message>::decode(&*bytes).unwrap();
                prop_assert_eq!(view.id(), event.id.as_str());
                prop_assert_eq!(view.schema_id(), event.schema_id.as_str());
                prop_assert_eq!(view.payload(), &event.payload[..]);
            }
        }
    }
}
