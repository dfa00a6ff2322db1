//! What a payload says, as a value of its own types: for those whom JSON does not tell enough, and for
//! reading payloads into types that implement `serde::Deserialize`.

mod de;

pub use de::DeserializeError;

use serde::de::DeserializeOwned;

use super::{
    Schema,
    error::PayloadError,
    program::{RecordType, UnionType},
    walk::{Sink, walk},
};

/// A value of a payload. A union is the value of its branch: its type, or a record's name, tells which.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A null.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An int.
    Int(i32),
    /// A long.
    Long(i64),
    /// A float.
    Float(f32),
    /// A double.
    Double(f64),
    /// Bytes, or a fixed.
    Bytes(Vec<u8>),
    /// A string.
    String(String),
    /// An enum's symbol.
    Enum(String),
    /// An array.
    Array(Vec<Value>),
    /// A map, with its keys in the order in which they were written.
    Map(Vec<(String, Value)>),
    /// A record.
    Record(Record),
}

/// A record of a payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name without the namespace.
    pub name: String,
    /// All of its fields, in their order.
    pub fields: Vec<(String, Value)>,
}

/// Why a payload was not read into a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The payload is not what the schema says.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The type is not one that such payloads fit into.
    #[error(transparent)]
    Type(#[from] DeserializeError),
}

impl Value {
    /// The field of a record, or the entry of a map, with this name; of a map the last.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let entries = match self {
            Self::Record(record) => &record.fields,
            Self::Map(entries) => entries,
            _ => return None,
        };
        let mut entries = entries.iter().rev();
        entries
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Whether it is a null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text of a string, or an enum's symbol.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Enum(text) => Some(text),
            _ => None,
        }
    }

    /// The number of an int or a long.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Int(number) => Some(number.into()),
            Self::Long(number) => Some(number),
            _ => None,
        }
    }

    /// The number of a float or a double, or of an int.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Int(number) => Some(number.into()),
            Self::Float(number) => Some(number.into()),
            Self::Double(number) => Some(number),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Boolean(value) => Some(value),
            _ => None,
        }
    }

    /// Reads the value into a type: a record into a struct with fields of its names, a null into
    /// `None`, an enum's symbol into a variant without fields, and a record of a union into the
    /// variant with its name.
    ///
    /// # Errors
    ///
    /// [`DeserializeError`] names the field, what was found and what was wanted.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, DeserializeError> {
        T::deserialize(de::ValueDeserializer(self))
    }
}

impl Schema {
    /// What `payload` says, as a value.
    ///
    /// # Errors
    ///
    /// As [`Schema::validate`].
    pub fn to_value(&self, payload: &[u8]) -> Result<Value, PayloadError> {
        walk(self.program(), payload, &mut ToValue)
    }

    /// What `payload` says, read into a type as [`Value::read`] does.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn read<T: DeserializeOwned>(&self, payload: &[u8]) -> Result<T, ReadError> {
        Ok(self.to_value(payload)?.read()?)
    }
}

struct ToValue;

impl<'a> Sink<'a> for ToValue {
    type Value = Value;
    type Record = Record;
    type Array = Vec<Value>;
    type Map = Vec<(String, Value)>;

    fn null(&mut self) -> Value {
        Value::Null
    }

    fn boolean(&mut self, value: bool) -> Value {
        Value::Boolean(value)
    }

    fn int(&mut self, value: i32) -> Value {
        Value::Int(value)
    }

    fn long(&mut self, value: i64) -> Value {
        Value::Long(value)
    }

    fn float(&mut self, value: f32) -> Value {
        Value::Float(value)
    }

    fn double(&mut self, value: f64) -> Value {
        Value::Double(value)
    }

    fn bytes(&mut self, value: &'a [u8]) -> Value {
        Value::Bytes(value.to_owned())
    }

    fn string(&mut self, value: &'a str) -> Value {
        Value::String(value.to_owned())
    }

    fn symbol(&mut self, symbol: &str) -> Value {
        Value::Enum(symbol.to_owned())
    }

    fn branch(&mut self, _: &UnionType, _: usize, value: Value) -> Value {
        value
    }

    fn record(&mut self, record: &RecordType) -> Record {
        Record {
            name: record.name().to_owned(),
            fields: Vec::with_capacity(record.fields().len()),
        }
    }

    fn field(&mut self, into: &mut Record, record: &RecordType, field: usize, value: Value) {
        let name = record.fields()[field].name().to_owned();
        into.fields.push((name, value));
    }

    fn end_record(&mut self, into: Record) -> Value {
        Value::Record(into)
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
        Vec::new()
    }

    fn entry(&mut self, into: &mut Self::Map, key: &'a str, value: Value) {
        into.push((key.to_owned(), value));
    }

    fn end_map(&mut self, into: Self::Map) -> Value {
        Value::Map(into)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::schema::Fill;

    const SCHEMA: &str = r#"{"type": "record", "name": "Order__e", "fields": [
        {"name": "Number", "type": "string"},
        {"name": "Amount", "type": ["null", "double"]},
        {"name": "Lines", "type": {"type": "array", "items": {"type": "record", "name": "Line",
            "fields": [{"name": "Sku", "type": "string"}, {"name": "Count", "type": "int"}]}}},
        {"name": "State", "type": {"type": "enum", "name": "State", "symbols": ["OPEN", "PAID"]}},
        {"name": "Tags", "type": {"type": "map", "values": "long"}},
        {"name": "Hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
        {"name": "Payment", "type": ["null",
            {"type": "record", "name": "Card", "fields": [{"name": "Last4", "type": "string"}]},
            {"type": "record", "name": "Cash", "fields": [{"name": "Paid", "type": "float"}]}]}]}"#;

    fn payload(schema: &Schema) -> Vec<u8> {
        let json = json!({
            "Number": "A-17", "Amount": null, "State": "PAID", "Tags": {"a": 1, "b": 2},
            "Lines": [{"Sku": "x", "Count": 3}], "Hash": "\u{0}\u{ff}",
            "Payment": {"Card": {"Last4": "4242"}},
        });
        let fill = Fill {
            created_date_ms: 0,
            created_by_id: Fill::NOBODY,
        };
        schema.encode_json(&json, &fill).unwrap()
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Order {
        number: String,
        amount: Option<f64>,
        lines: Vec<Line>,
        state: State,
        tags: std::collections::BTreeMap<String, i64>,
        payment: Option<Payment>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        sku: String,
        count: u64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "UPPERCASE")]
    enum State {
        Open,
        Paid,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Payment {
        Card {
            #[serde(rename = "Last4")]
            last4: String,
        },
        Cash {
            #[serde(rename = "Paid")]
            paid: f32,
        },
    }

    #[test]
    fn a_payload_is_read_into_a_type() {
        let schema = Schema::parse(SCHEMA).unwrap();
        let order: Order = schema.read(&payload(&schema)).unwrap();
        assert_eq!(
            order,
            Order {
                number: "A-17".into(),
                amount: None,
                lines: vec![Line {
                    sku: "x".into(),
                    count: 3
                }],
                state: State::Paid,
                tags: [("a".into(), 1), ("b".into(), 2)].into(),
                payment: Some(Payment::Card {
                    last4: "4242".into()
                }),
            }
        );
    }

    #[test]
    fn a_value_tells_the_types_that_json_does_not() {
        let schema = Schema::parse(SCHEMA).unwrap();
        let value = schema.to_value(&payload(&schema)).unwrap();
        assert_eq!(value.get("Number").unwrap().as_str(), Some("A-17"));
        assert!(value.get("Amount").unwrap().is_null());
        assert_eq!(value.get("Hash"), Some(&Value::Bytes(vec![0, 255])));
        assert_eq!(value.get("State"), Some(&Value::Enum("PAID".into())));
        assert_eq!(
            value.get("Tags").unwrap().get("b").unwrap().as_i64(),
            Some(2)
        );
        let Some(Value::Record(card)) = value.get("Payment") else {
            panic!("a record");
        };
        assert_eq!(card.name, "Card");
        assert_eq!(value.get("Nothing"), None);
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_path() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wrong {
            #[serde(rename = "Lines")]
            _lines: Vec<WrongLine>,
        }
        #[derive(Debug, Deserialize)]
        struct WrongLine {
            #[serde(rename = "Count")]
            _count: String,
        }
        #[derive(Debug, Deserialize)]
        struct Missing {
            #[serde(rename = "Nothing")]
            _nothing: String,
        }
        let schema = Schema::parse(SCHEMA).unwrap();
        let payload = payload(&schema);
        let error = schema.read::<Wrong>(&payload).unwrap_err().to_string();
        assert!(error.starts_with("Lines[0].Count: invalid type"), "{error}");
        let error = schema.read::<Missing>(&payload).unwrap_err().to_string();
        assert!(error.contains("missing field `Nothing`"), "{error}");
        let error = schema.read::<Order>(&payload[..3]).unwrap_err();
        assert!(matches!(error, ReadError::Payload(_)), "{error}");
    }
}
