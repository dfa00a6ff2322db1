//! Why a schema, a payload or a JSON form of one is refused.

use std::fmt;

use crate::types::limits::{
    EVENT_BYTES_MAX, PAYLOAD_ITEMS_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX,
};

/// Why a text is not a schema that events can be written with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Holds the size found, in bytes.
    #[error("a schema has at most {SCHEMA_BYTES_MAX} bytes, this one has {0}")]
    TooLarge(usize),
    /// The text nests brackets deeper than any schema needs.
    #[error("line {line}, column {column}: a schema nests at most {SCHEMA_DEPTH_MAX} levels")]
    NestedTooDeep {
        /// Line of the bracket that is one too many, from 1.
        line: usize,
        /// Byte of that line, from 1.
        column: usize,
    },
    /// The text is not JSON.
    #[error("line {line}, column {column}: {reason}")]
    NotJson {
        /// Line at which the parser gave up, from 1.
        line: usize,
        /// Column at which the parser gave up, from 0 for an empty line.
        column: usize,
        /// What the JSON parser found.
        reason: String,
    },
    /// The JSON does not have the shape of an Avro schema.
    #[error("{at}: {reason}")]
    NotAvro {
        /// Where in the schema: `OrderCreated__e.Amount__c`, or `schema` for its outermost value.
        at: String,
        /// What was found and what was wanted.
        reason: String,
    },
    /// An event is a record; the schema describes something else.
    #[error("the schema of an event is a record, this one is {0}")]
    NotARecord(&'static str),
    /// The same full name is defined a second time.
    #[error("the type {0} is defined twice")]
    DefinedTwice(String),
    /// A record that holds itself without a union, array or map in between has no finite value.
    #[error("the record {0} contains itself, so it has no finite value")]
    Endless(String),
    /// Every value of this record nests deeper than a payload may.
    #[error("every value of the record {0} nests deeper than {SCHEMA_DEPTH_MAX} levels")]
    ValueTooDeep(String),
    /// A field's default is not a value of its type.
    #[error("the default of {field} does not fit its type: {reason}")]
    Default {
        /// `OrderCreated__e.Amount__c`.
        field: String,
        /// What was found and what was wanted.
        reason: Box<JsonError>,
    },
    /// The defaults, written as Avro, are out of all proportion to the schema.
    #[error("the defaults of a schema take at most {SCHEMA_BYTES_MAX} bytes in binary form")]
    DefaultsTooLarge,
}

impl SchemaError {
    /// The reason's name, as it is printed and never changed.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too-large",
            Self::NestedTooDeep { .. } => "nested-too-deep",
            Self::NotJson { .. } => "not-json",
            Self::NotAvro { .. } => "not-avro",
            Self::NotARecord(_) => "not-a-record",
            Self::DefinedTwice(_) => "defined-twice",
            Self::Endless(_) => "endless",
            Self::ValueTooDeep(_) => "value-too-deep",
            Self::Default { .. } => "default-invalid",
            Self::DefaultsTooLarge => "defaults-too-large",
        }
    }
}

/// Why a payload is not one value of its schema: the field, the byte and the reason.
///
/// Holds no part of the payload but lengths, counts and indexes, so it may be logged and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadError {
    path: String,
    offset: usize,
    reason: PayloadReason,
}

impl PayloadError {
    pub(super) fn new(path: String, offset: usize, reason: PayloadReason) -> Self {
        Self {
            path,
            offset,
            reason,
        }
    }

    /// The field: `Dest__c.Latitude`, `Tags[3]`; a map's entries are counted, not named:
    /// `Labels[entry 2]`. Empty when the payload as a whole is meant.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The byte of the payload at which the value begins that could not be read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What was found there.
    pub fn reason(&self) -> PayloadReason {
        self.reason
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "field {} ", self.path)?;
        }
        write!(f, "at byte {}: {}", self.offset, self.reason)
    }
}

impl std::error::Error for PayloadError {}

/// What is wrong with a value in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadReason {
    /// The payload ends inside a value.
    #[error("{what} needs {}, the payload has {left} left", bytes(*needed))]
    Truncated {
        /// What is being read, with its article.
        what: &'static str,
        /// Bytes it needs, at least.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes follow the record.
    #[error("the record ends here, the payload has {} left", bytes(*left as u64))]
    Trailing {
        /// Bytes that are left.
        left: usize,
    },
    /// A varint does not fit the integer it stands for, or takes more bytes than any does.
    #[error("{what} has at most {bits} bits in {bytes} bytes, this one has more")]
    VarintTooLong {
        /// What is being read, with its article.
        what: &'static str,
        /// Bits of the integer.
        bits: u32,
        /// Bytes of its longest encoding.
        bytes: usize,
    },
    /// A boolean byte is neither 0 nor 1.
    #[error("a boolean is 0 or 1, this byte is neither")]
    Boolean,
    /// A length is negative.
    #[error("{what} has the negative length {found}")]
    NegativeLength {
        /// What is being read, with its article.
        what: &'static str,
        /// The length found.
        found: i64,
    },
    /// A string's bytes are not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A union's index names no branch.
    #[error("a union of {branches} types has no branch {found}")]
    Branch {
        /// The index found.
        found: i64,
        /// Branches of the union.
        branches: usize,
    },
    /// An enum's index names no symbol.
    #[error("an enum of {symbols} symbols has no symbol {found}")]
    Symbol {
        /// The index found.
        found: i32,
        /// Symbols of the enum.
        symbols: usize,
    },
    /// A block of an array or map states a size in bytes that its items do not have.
    #[error("a block states a size of {stated} bytes and takes {used}")]
    BlockSize {
        /// The size it states.
        stated: i64,
        /// The bytes its items take.
        used: usize,
    },
    /// Values nest deeper than any event needs.
    #[error("values nest at most {SCHEMA_DEPTH_MAX} levels")]
    TooDeep,
    /// More items than a payload may have; values that take no bytes count too.
    #[error("a payload has at most {PAYLOAD_ITEMS_MAX} items in arrays and maps")]
    TooManyItems,
}

/// Why a JSON value is not a value of a schema. Shows field names and JSON types, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// A field that the record does not have.
    #[error("{record} has no field {field}{}", did_you_mean(nearest.as_deref()))]
    UnknownField {
        /// The record's name.
        record: String,
        /// The path of the field that was found; a very long name is cut.
        field: String,
        /// The field with the most similar name, if one is similar.
        nearest: Option<String>,
    },
    /// A field that is neither nullable nor has a default is absent.
    #[error("the field {0} is missing; it is neither nullable nor has a default")]
    Missing(String),
    /// A value has another JSON type than the schema asks for.
    #[error("{}found {found}, wanted {wanted}", at(path))]
    WrongType {
        /// The field's path; empty for the whole value.
        path: String,
        /// The JSON type found, with its article.
        found: &'static str,
        /// What is wanted.
        wanted: String,
    },
    /// A value has the right JSON type and lies outside of what the Avro type can hold.
    #[error("{}the value does not fit {wanted}", at(path))]
    OutOfRange {
        /// The field's path; empty for the whole value.
        path: String,
        /// What is wanted.
        wanted: String,
    },
    /// Values nest deeper than a payload may.
    #[error("{}values nest at most {SCHEMA_DEPTH_MAX} levels", at(path))]
    TooDeep {
        /// The field's path.
        path: String,
    },
    /// The value takes more bytes than an event may have.
    #[error("the value takes more than the {EVENT_BYTES_MAX} bytes that an event may have")]
    TooLarge,
    /// The value has more items than a payload may have.
    #[error("a payload has at most {PAYLOAD_ITEMS_MAX} items in arrays and maps")]
    TooManyItems,
}

fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("field {path}: ")
    }
}

/// A step on the way from a payload's record to one of its values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Segment<'p> {
    /// A field of a record.
    Field(&'p str),
    /// An item of an array.
    Item(u64),
    /// An entry of a map, by its number: its key is content.
    Entry(u64),
}

/// The path as errors show it, from the outside in.
pub(super) fn path_text<'a>(segments: impl Iterator<Item = &'a Segment<'a>>) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Field(name) if path.is_empty() => path.push_str(name),
            Segment::Field(name) => path.extend([".", name]),
            Segment::Item(index) => path.push_str(&format!("[{index}]")),
            Segment::Entry(index) => path.push_str(&format!("[entry {index}]")),
        }
    }
    path
}
