//! From a value to a type that implements `serde::Deserialize`.

use std::fmt;

use serde::{
    Deserializer, de,
    de::{
        DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::StringDeserializer,
    },
    forward_to_deserialize_any,
};

use super::Value;

/// Why a value does not fit into a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeserializeError {
    /// From the inside out: `.Count`, `[0]`, `.Lines`.
    path: Vec<String>,
    message: String,
}

impl DeserializeError {
    fn within(mut self, segment: String) -> Self {
        self.path.push(segment);
        self
    }
}

impl fmt::Display for DeserializeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        match path.trim_start_matches('.') {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for DeserializeError {}

impl de::Error for DeserializeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: Vec::new(),
            message: message.to_string(),
        }
    }
}

/// Hands a value to a type.
pub(super) struct ValueDeserializer(pub(super) Value);

impl<'de> Deserializer<'de> for ValueDeserializer {
    type Error = DeserializeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Int(value) => visitor.visit_i32(value),
            Value::Long(value) => visitor.visit_i64(value),
            Value::Float(value) => visitor.visit_f32(value),
            Value::Double(value) => visitor.visit_f64(value),
            Value::Bytes(value) => visitor.visit_byte_buf(value),
            Value::String(value) | Value::Enum(value) => visitor.visit_string(value),
            Value::Array(values) => visitor.visit_seq(Items {
                next: 0,
                values: values.into_iter(),
            }),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries)),
            Value::Record(record) => visitor.visit_map(Entries::new(record.fields)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        let (name, content) = match self.0 {
            Value::String(name) | Value::Enum(name) => (name, None),
            Value::Record(record) => (record.name.clone(), Some(Value::Record(record))),
            other => return ValueDeserializer(other).deserialize_any(visitor),
        };
        visitor.visit_enum(Variant { name, content })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items {
    next: usize,
    values: std::vec::IntoIter<Value>,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = DeserializeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeserializeError> {
        let Some(value) = self.values.next() else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        let item = seed.deserialize(ValueDeserializer(value));
        item.map(Some)
            .map_err(|error| error.within(format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

struct Entries {
    entries: std::vec::IntoIter<(String, Value)>,
    /// Whose key was read.
    current: Option<(String, Value)>,
}

impl Entries {
    fn new(entries: Vec<(String, Value)>) -> Self {
        Self {
            entries: entries.into_iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = DeserializeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeserializeError> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.current = Some((key.clone(), value));
        let key: StringDeserializer<DeserializeError> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DeserializeError> {
        let (key, value) = self.current.take().expect("a key is read before its value");
        let value = seed.deserialize(ValueDeserializer(value));
        value.map_err(|error| error.within(format!(".{key}")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct Variant {
    name: String,
    content: Option<Value>,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = DeserializeError;
    type Variant = VariantContent;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, VariantContent), DeserializeError> {
        let name: StringDeserializer<DeserializeError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, VariantContent(self.content)))
    }
}

struct VariantContent(Option<Value>);

impl VariantContent {
    fn content(self) -> Result<ValueDeserializer, DeserializeError> {
        let content = self.0.map(ValueDeserializer);
        content.ok_or_else(|| de::Error::custom("found a symbol, wanted a record"))
    }
}

impl<'de> VariantAccess<'de> for VariantContent {
    type Error = DeserializeError;

    fn unit_variant(self) -> Result<(), DeserializeError> {
        match self.0 {
            None => Ok(()),
            Some(_) => Err(de::Error::custom("found a record, wanted a symbol")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DeserializeError> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.content()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeError> {
        self.content()?.deserialize_any(visitor)
    }
}
