//! The JSON form of payloads, for people and for what they write scripts in.
//!
//! | Avro | JSON |
//! |---|---|
//! | null, boolean, int, string | themselves |
//! | long | a number; beyond ±2^53, where an IEEE double skips integers, its digits in a string |
//! | float, double | a number; `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | bytes, fixed | a string of the characters U+0000 to U+00FF, one for each byte |
//! | enum | its symbol |
//! | array, map, record | an array; an object; an object with the fields in their order |
//! | union of null and one type | null, or the value as it is |
//! | other union | the value as it is if its JSON type tells its branch; else null, or an object of one key, the branch's name: `{"long": 1}` |
//!
//! Reading takes what writing gives, and besides: a long's digits in a string whatever its size,
//! and any whole number for an int, long, float or double that can hold it.
//!
//! Source: Avro specification, "JSON Encoding", from which this differs in the plain unions and in
//! what JSON has no number for.

mod decode;
mod encode;
mod measure;

pub use encode::Fill;

pub(super) use decode::to_json;
pub(super) use encode::{encode, encode_default};
pub(super) use measure::text_bytes_max;

use serde_json::Value;

use super::program::{Op, Step};

/// The largest integer up to which an IEEE double skips none.
const EXACT_MAX: i64 = 1 << 53;

/// A set of JSON types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct JsonTypes(u8);

impl JsonTypes {
    const NULL: Self = Self(1);
    const BOOLEAN: Self = Self(2);
    const NUMBER: Self = Self(4);
    const STRING: Self = Self(8);
    const ARRAY: Self = Self(16);
    const OBJECT: Self = Self(32);

    /// The type of a JSON value.
    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// The types that values of an Avro type have. A union has no branch that is a union.
    fn of_op(op: Op) -> Self {
        match op {
            Op::Null => Self::NULL,
            Op::Boolean => Self::BOOLEAN,
            Op::Int => Self::NUMBER,
            Op::Long | Op::Float | Op::Double => Self(Self::NUMBER.0 | Self::STRING.0),
            Op::Bytes | Op::String | Op::Fixed(_) | Op::Enum(_) => Self::STRING,
            Op::Array(_) => Self::ARRAY,
            Op::Map(_) | Op::Record(_) => Self::OBJECT,
            Op::Union(_) => Self(u8::MAX),
        }
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What errors call the JSON type of a value.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Whether no JSON type stands for two of these branches.
pub(super) fn types_are_distinct(branches: &[Step]) -> bool {
    let mut seen = JsonTypes(0);
    branches.iter().all(|branch| {
        let types = JsonTypes::of_op(branch.op);
        let is_new = !seen.has(types);
        seen.0 |= types.0;
        is_new
    })
}

#[cfg(test)]
mod tests;
