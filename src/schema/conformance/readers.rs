//! The two other readers, made to answer in the same words as the walker.

use std::{
    cell::Cell,
    fmt,
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
};

use apache_avro::{reader::datum::GenericDatumReader, types::Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_avro_fast::de::{DeserializerConfig, DeserializerState, read::SliceRead};

use crate::schema::{
    Schema,
    program::{RecordType, UnionType},
    walk::{Sink, walk},
};

/// What a reader makes of a payload.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// One value and no byte more; with what was seen, if the reader was asked for it.
    Whole(Option<Seen>),
    /// One value, and this many bytes more.
    Trailing(usize),
    /// A value for which bytes past the end were asked.
    CutShort,
    Refused,
}

impl Answer {
    pub(super) fn without_values(self) -> Self {
        match self {
            Self::Whole(_) => Self::Whole(None),
            other => other,
        }
    }
}

pub(super) struct Readers {
    apache: apache_avro::Schema,
    fast: serde_avro_fast::Schema,
}

impl Readers {
    pub(super) fn new(text: &str) -> Self {
        // Far above what the walker takes; a process sets this once.
        apache_avro::util::max_allocation_bytes(512 << 20);
        Self {
            apache: apache_avro::Schema::parse_str(text).unwrap(),
            fast: text.parse().unwrap(),
        }
    }

    pub(super) fn apache(&self, payload: &[u8]) -> Answer {
        let mut reader = EndSpotter {
            rest: payload,
            past_end: Cell::new(false),
        };
        let value = catch_unwind(AssertUnwindSafe(|| {
            let datum = GenericDatumReader::builder(&self.apache).build()?;
            datum.read_value(&mut reader)
        }));
        match (value, reader.rest.len()) {
            (Err(_) | Ok(Err(_)), _) => Answer::Refused,
            (Ok(Ok(_)), _) if reader.past_end.get() => Answer::CutShort,
            (Ok(Ok(value)), 0) => Answer::Whole(Some(Seen::from(value))),
            (Ok(Ok(_)), left) => Answer::Trailing(left),
        }
    }

    pub(super) fn fast(&self, payload: &[u8]) -> Answer {
        let mut config = DeserializerConfig::new(&self.fast);
        config.allowed_depth = 4_096;
        config.max_seq_size = 100_000_000;
        let mut state = DeserializerState::with_config(SliceRead::new(payload), config);
        let read = catch_unwind(AssertUnwindSafe(|| {
            Anything::deserialize(state.deserializer())
        }));
        let mut rest = Vec::new();
        state.into_reader().read_to_end(&mut rest).unwrap();
        match (read, rest.len()) {
            (Err(_) | Ok(Err(_)), _) => Answer::Refused,
            (Ok(Ok(_)), 0) => Answer::Whole(None),
            (Ok(Ok(_)), left) => Answer::Trailing(left),
        }
    }
}

/// Notices that more is read than there is.
struct EndSpotter<'a> {
    rest: &'a [u8],
    past_end: Cell<bool>,
}

impl Read for EndSpotter<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.rest.read(buf)?;
        if read < buf.len() {
            self.past_end.set(true);
        }
        Ok(read)
    }
}

/// Takes any value there is and keeps nothing.
pub(super) struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A value in the words that the walker and `apache-avro` have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Null,
    Boolean(bool),
    Integer(i64),
    /// A float or double by its bits, so that NaN equals itself.
    Bits(u64),
    Bytes(Vec<u8>),
    Text(String),
    List(Vec<Seen>),
    /// A record in its order, or a map in the order of its keys.
    Pairs(Vec<(String, Seen)>),
}

impl Seen {
    /// What the walker sees in a valid payload, and how many values that is.
    pub(super) fn by_walker(schema: &Schema, payload: &[u8]) -> (Self, u64) {
        let mut sink = ToSeen { values: 0 };
        let seen = walk(schema.program(), payload, &mut sink).unwrap();
        (seen, sink.values)
    }

    /// How many values the walker tells of any payload until it accepts or refuses it.
    pub(super) fn count_by_walker(schema: &Schema, payload: &[u8]) -> u64 {
        let mut sink = ToSeen { values: 0 };
        _ = walk(schema.program(), payload, &mut sink);
        sink.values
    }

    fn map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        let sorted: std::collections::BTreeMap<_, _> = entries.into_iter().collect();
        Self::Pairs(sorted.into_iter().collect())
    }
}

impl From<Value> for Seen {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(value) => Self::Boolean(value),
            Value::Int(value) => Self::Integer(value.into()),
            Value::Long(value) => Self::Integer(value),
            Value::Float(value) => Self::Bits(value.to_bits().into()),
            Value::Double(value) => Self::Bits(value.to_bits()),
            Value::Bytes(value) | Value::Fixed(_, value) => Self::Bytes(value),
            Value::String(value) | Value::Enum(_, value) => Self::Text(value),
            Value::Union(_, value) => Self::from(*value),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Map(entries) => Self::map(entries.into_iter().map(|(k, v)| (k, v.into()))),
            Value::Record(fields) => {
                Self::Pairs(fields.into_iter().map(|(k, v)| (k, v.into())).collect())
            }
            other => panic!("a logical type in a schema without any: {other:?}"),
        }
    }
}

struct ToSeen {
    values: u64,
}

impl ToSeen {
    fn seen(&mut self, seen: Seen) -> Seen {
        self.values += 1;
        seen
    }
}

impl<'a> Sink<'a> for ToSeen {
    type Value = Seen;
    type Record = Vec<(String, Seen)>;
    type Array = Vec<Seen>;
    type Map = Vec<(String, Seen)>;

    fn null(&mut self) -> Seen {
        self.seen(Seen::Null)
    }

    fn boolean(&mut self, value: bool) -> Seen {
        self.seen(Seen::Boolean(value))
    }

    fn int(&mut self, value: i32) -> Seen {
        self.seen(Seen::Integer(value.into()))
    }

    fn long(&mut self, value: i64) -> Seen {
        self.seen(Seen::Integer(value))
    }

    fn float(&mut self, value: f32) -> Seen {
        self.seen(Seen::Bits(value.to_bits().into()))
    }

    fn double(&mut self, value: f64) -> Seen {
        self.seen(Seen::Bits(value.to_bits()))
    }

    fn bytes(&mut self, value: &'a [u8]) -> Seen {
        self.seen(Seen::Bytes(value.to_vec()))
    }

    fn string(&mut self, value: &'a str) -> Seen {
        self.seen(Seen::Text(value.to_owned()))
    }

    fn symbol(&mut self, symbol: &str) -> Seen {
        self.seen(Seen::Text(symbol.to_owned()))
    }

    fn branch(&mut self, _: &UnionType, _: usize, value: Seen) -> Seen {
        value
    }

    fn record(&mut self, _: &RecordType) -> Self::Record {
        Vec::new()
    }

    fn field(&mut self, into: &mut Self::Record, record: &RecordType, field: usize, value: Seen) {
        into.push((record.fields()[field].name().to_owned(), value));
    }

    fn end_record(&mut self, into: Self::Record) -> Seen {
        self.seen(Seen::Pairs(into))
    }

    fn array(&mut self) -> Self::Array {
        Vec::new()
    }

    fn item(&mut self, into: &mut Self::Array, value: Seen) {
        into.push(value);
    }

    fn end_array(&mut self, into: Self::Array) -> Seen {
        self.seen(Seen::List(into))
    }

    fn map(&mut self) -> Self::Map {
        Vec::new()
    }

    fn entry(&mut self, into: &mut Self::Map, key: &'a str, value: Seen) {
        into.push((key.to_owned(), value));
    }

    fn end_map(&mut self, into: Self::Map) -> Seen {
        self.seen(Seen::map(into))
    }
}
