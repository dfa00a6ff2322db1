//! From a payload to JSON: a sink of the walker.

use serde_json::{Map, Number, Value};

use super::EXACT_MAX;
use crate::schema::{
    error::PayloadError,
    program::{Program, RecordType, UnionType},
    walk::{Sink, walk},
};

pub(in crate::schema) fn to_json(program: &Program, payload: &[u8]) -> Result<Value, PayloadError> {
    walk(program, payload, &mut ToJson)
}

struct ToJson;

impl<'a> Sink<'a> for ToJson {
    type Value = Value;
    type Record = Map<String, Value>;
    type Array = Vec<Value>;
    type Map = Map<String, Value>;

    fn null(&mut self) -> Value {
        Value::Null
    }

    fn boolean(&mut self, value: bool) -> Value {
        Value::Bool(value)
    }

    fn int(&mut self, value: i32) -> Value {
        Value::from(value)
    }

    fn long(&mut self, value: i64) -> Value {
        if (-EXACT_MAX..=EXACT_MAX).contains(&value) {
            Value::from(value)
        } else {
            Value::String(value.to_string())
        }
    }

    fn float(&mut self, value: f32) -> Value {
        self.double(f64::from(value))
    }

    fn double(&mut self, value: f64) -> Value {
        let word = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        Number::from_f64(value).map_or_else(|| Value::from(word), Value::Number)
    }

    fn bytes(&mut self, value: &'a [u8]) -> Value {
        Value::String(value.iter().copied().map(char::from).collect())
    }

    fn string(&mut self, value: &'a str) -> Value {
        Value::from(value)
    }

    fn symbol(&mut self, symbol: &str) -> Value {
        Value::from(symbol)
    }

    fn branch(&mut self, union: &UnionType, branch: usize, value: Value) -> Value {
        if union.is_plain || value.is_null() {
            return value;
        }
        let name = union.branch_names()[branch].clone();
        Value::Object(Map::from_iter([(name, value)]))
    }

    fn record(&mut self, record: &RecordType) -> Self::Record {
        Map::with_capacity(record.fields().len())
    }

    fn field(&mut self, into: &mut Self::Record, record: &RecordType, field: usize, value: Value) {
        into.insert(record.fields()[field].name().to_owned(), value);
    }

    fn end_record(&mut self, into: Self::Record) -> Value {
        Value::Object(into)
    }

    fn array(&mut self) -> Self::Array {
        Vec::new()
    }

    fn item(&mut self, into: &mut Self::Array, value: Value) {
        into.push(value);
    }

    fn end_array(&mut self, into: Self::Array) -> Value {
        Value::Array(into)
    }

    fn map(&mut self) -> Self::Map {
        Map::new()
    }

    fn entry(&mut self, into: &mut Self::Map, key: &'a str, value: Value) {
        into.insert(key.to_owned(), value);
    }

    fn end_map(&mut self, into: Self::Map) -> Value {
        Value::Object(into)
    }
}
