//! What is inside a payload: all of it checked, or one field of it found.

use std::hint::black_box;

use apache_avro::reader::datum::GenericDatumReader;
use serde::Deserialize;
use tidegate::{
    bench,
    schema::{
        PayloadError, Schema,
        program::{RecordType, UnionType},
        walk::{Sink, walk},
    },
};

use crate::{harness::Case, load};

/// The check of an event against its schema.
///
/// The two other readers are those that the walker is tested against. They give values, which is
/// more than is needed, and refuse less.
pub(crate) fn walker() -> Case {
    let payloads = load::payloads(EVENTS);
    let schema = load::schema();
    // A reader borrows its schema, and cases own what they need.
    let apache = apache_avro::Schema::parse_str(&bench::schema(0)).expect("the schema is one");
    let apache: &'static _ = Box::leak(Box::new(apache));
    let apache = GenericDatumReader::builder(apache).build();
    let apache = apache.expect("the schema refers to no other");
    let fast: serde_avro_fast::Schema = bench::schema(0).parse().expect("the schema is one");
    for payload in &payloads {
        assert_eq!(schema.validate(payload), Ok(()));
        assert!(apache.read_value(&mut &payload[..]).is_ok());
        let event: OrderEvent<'_> = read_fast(payload, &fast);
        let json = schema.to_json(payload).expect(VALID);
        assert_eq!(event.city, json[FIELD].as_str());
    }
    let case = Case::new("payload", EVENTS, {
        let payloads = payloads.clone();
        move || {
            payloads
                .iter()
                .for_each(|payload| schema.validate(black_box(payload)).expect(VALID))
        }
    });
    let case = case.against("apache-avro, to a Value", {
        let payloads = payloads.clone();
        move || {
            for payload in &payloads {
                let mut rest = black_box(&payload[..]);
                black_box(apache.read_value(&mut rest).expect(VALID));
            }
        }
    });
    case.against("serde_avro_fast, to a struct", move || {
        for payload in &payloads {
            black_box(read_fast::<OrderEvent<'_>>(black_box(payload), &fast));
        }
    })
}

/// One text field of an event, which a filter would ask for.
///
/// There are no filters; they would be sinks of the walker, as the one here.
pub(crate) fn filter() -> Case {
    let payloads = load::payloads(EVENTS);
    let schema = load::schema();
    let kept = OneText::of(&schema, FIELD);
    for payload in &payloads {
        let json = schema.to_json(payload).expect(VALID);
        assert!(json[FIELD].is_string());
        assert_eq!(kept.find(&schema, payload), Ok(json[FIELD].as_str()));
    }
    let case = Case::new("payload", EVENTS, {
        let (schema, payloads) = (schema.clone(), payloads.clone());
        move || {
            for payload in &payloads {
                black_box(kept.find(&schema, black_box(payload)).expect(VALID));
            }
        }
    });
    case.against("Schema::to_json, then the field", move || {
        for payload in &payloads {
            let json = schema.to_json(black_box(payload)).expect(VALID);
            black_box(json[FIELD].as_str());
        }
    })
}

/// The load's event as a program would declare it; the texts stay in the payload.
#[derive(Deserialize)]
#[expect(dead_code, reason = "whoever reads an event has to make all of it")]
struct OrderEvent<'a> {
    #[serde(rename = "CreatedDate")]
    created_date: i64,
    #[serde(rename = "CreatedById")]
    created_by_id: &'a str,
    #[serde(rename = "Due__c")]
    due: Option<f64>,
    #[serde(rename = "Amount__c")]
    amount: Option<f64>,
    #[serde(rename = "Paid__c")]
    paid: Option<bool>,
    #[serde(rename = "Quantity__c")]
    quantity: Option<f64>,
    #[serde(rename = "Order__c", borrow)]
    order: Option<&'a str>,
    #[serde(rename = "Customer__c", borrow)]
    customer: Option<&'a str>,
    #[serde(rename = "Street__c", borrow)]
    street: Option<&'a str>,
    #[serde(rename = "City__c", borrow)]
    city: Option<&'a str>,
}

fn read_fast<'a, T: Deserialize<'a>>(payload: &'a [u8], schema: &serde_avro_fast::Schema) -> T {
    serde_avro_fast::from_datum_slice(payload, schema).expect(VALID)
}

/// A sink that keeps one text field of a record without records in it, and throws the rest away.
#[derive(Clone, Copy)]
struct OneText {
    field: usize,
}

impl OneText {
    fn of(schema: &Schema, name: &str) -> Self {
        let mut fields = schema.program().root().fields().iter();
        let field = fields.position(|field| field.name() == name);
        Self {
            field: field.expect("the schema has the field"),
        }
    }

    fn find<'a>(self, schema: &Schema, payload: &'a [u8]) -> Result<Option<&'a str>, PayloadError> {
        walk(schema.program(), payload, &mut { self })
    }
}

impl<'a> Sink<'a> for OneText {
    type Value = Option<&'a str>;
    type Record = Option<&'a str>;
    type Array = ();
    type Map = ();

    fn null(&mut self) -> Self::Value {
        None
    }
    fn boolean(&mut self, _: bool) -> Self::Value {
        None
    }
    fn int(&mut self, _: i32) -> Self::Value {
        None
    }
    fn long(&mut self, _: i64) -> Self::Value {
        None
    }
    fn float(&mut self, _: f32) -> Self::Value {
        None
    }
    fn double(&mut self, _: f64) -> Self::Value {
        None
    }
    fn bytes(&mut self, _: &'a [u8]) -> Self::Value {
        None
    }
    fn string(&mut self, value: &'a str) -> Self::Value {
        Some(value)
    }
    fn symbol(&mut self, _: &str) -> Self::Value {
        None
    }
    fn branch(&mut self, _: &UnionType, _: usize, value: Self::Value) -> Self::Value {
        value
    }
    fn record(&mut self, _: &RecordType) -> Self::Record {
        None
    }
    fn field(&mut self, into: &mut Self::Record, _: &RecordType, field: usize, value: Self::Value) {
        if field == self.field {
            *into = value;
        }
    }
    fn end_record(&mut self, into: Self::Record) -> Self::Value {
        into
    }
    fn array(&mut self) -> Self::Array {}
    fn item(&mut self, (): &mut Self::Array, _: Self::Value) {}
    fn end_array(&mut self, (): Self::Array) -> Self::Value {
        None
    }
    fn map(&mut self) -> Self::Map {}
    fn entry(&mut self, (): &mut Self::Map, _: &'a str, _: Self::Value) {}
    fn end_map(&mut self, (): Self::Map) -> Self::Value {
        None
    }
}

const VALID: &str = "the payload is one of the schema";
const EVENTS: usize = 200;
/// The last field, so that nothing is gained by stopping early.
const FIELD: &str = "City__c";
