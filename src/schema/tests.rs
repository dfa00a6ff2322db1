//! The handle: test vectors of ids and payloads, and what schemas and payloads are refused for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::types::limits::{PAYLOAD_ITEMS_MAX, SCHEMA_DEPTH_MAX};

pub(super) const ORDER_CREATED: &str = include_str!("../../schemas/OrderCreated__e.avsc");

/// The record (1700000000000, `005000000000001AAA`, `A-17`, 42.5, null) of `OrderCreated__e`.
pub(super) const ORDER_CREATED_PAYLOAD: &[u8] =
    b"\x80\xa0\xab\xfe\xf9\x62\x24005000000000001AAA\x02\x08A-17\x02\0\0\0\0\0\x40\x45\x40\0";

/// A change event with nested records, arrays and an enum.
pub(super) const SHIPMENT_CHANGE: &str = include_str!("../../schemas/Shipment__ChangeEvent.avsc");

pub(super) fn schema(fields: &str) -> Schema {
    parse(fields).unwrap()
}

fn parse(fields: &str) -> Result<Schema, SchemaError> {
    Schema::parse(&format!(
        r#"{{"type":"record","name":"R","namespace":"n","fields":[{fields}]}}"#
    ))
}

fn refusal(schema: &Schema, payload: &[u8]) -> (String, usize, PayloadReason) {
    let error = schema.validate(payload).unwrap_err();
    (error.path().to_owned(), error.offset(), error.reason())
}

#[test]
fn ids_are_those_of_the_test_vectors() {
    let schema = Schema::parse(ORDER_CREATED).unwrap();
    assert_eq!(schema.id().as_str(), "dGzWYkf4alBWqjXJMJJLlw");
    assert_eq!(schema.record_name(), "OrderCreated__e");
    assert_eq!(schema.full_name(), "com.sforce.eventbus.OrderCreated__e");
    assert_eq!(schema.text(), ORDER_CREATED);
    let schema = Schema::parse(SHIPMENT_CHANGE).unwrap();
    assert_eq!(schema.id().as_str(), "f3QKHTNx1-AikcTiQMLJIw");
}

#[test]
fn the_id_changes_with_what_decides_how_bytes_are_read_and_with_nothing_else() {
    let plain = schema(r#"{"name":"a","type":"long"},{"name":"b","type":"string"}"#);
    let annotated = schema(
        r#"{"name":"a","doc":"d","type":{"type":"long","logicalType":"timestamp-millis"},"default":1},
           {"aliases":["z"],"type":{"type":"string"},"name":"b","order":"ignore"}"#,
    );
    let reordered = schema(r#"{"name":"b","type":"string"},{"name":"a","type":"long"}"#);
    assert_eq!(plain.id(), annotated.id());
    assert_ne!(plain, annotated);
    assert_ne!(plain.id(), reordered.id());
}

#[test]
fn sample_schemas_follow_the_conventions_of_platform_events() {
    let samples = [
        ORDER_CREATED,
        include_str!("../../schemas/OrderStatusUpdated__e.avsc"),
        include_str!("../../schemas/Order_Event__e.avsc"),
    ];
    for text in samples {
        let schema = Schema::parse(text).unwrap();
        assert!(schema.record_name().ends_with("__e"));
        let fields = schema.program().root().fields();
        assert_eq!(fields[0].name(), "CreatedDate");
        assert_eq!(fields[1].name(), "CreatedById");
        assert!(schema.canonical_form().contains(
            r#"{"name":"CreatedDate","type":"long"},{"name":"CreatedById","type":"string"}"#
        ));
    }
}

#[test]
fn types_that_are_defined_twice_are_refused() {
    let enumeration = r#"{"type":"enum","name":"E","symbols":["A"]}"#;
    let twice =
        format!(r#"{{"name":"a","type":{enumeration}}},{{"name":"b","type":{enumeration}}}"#);
    assert_eq!(
        parse(&twice),
        Err(SchemaError::DefinedTwice("n.E".to_owned()))
    );
    let again = r#"{"name":"a","type":{"type":"record","name":"R","fields":[]}}"#;
    assert_eq!(
        parse(again),
        Err(SchemaError::DefinedTwice("n.R".to_owned()))
    );
    let union = format!(r#"{{"name":"a","type":{enumeration}}},{{"name":"b","type":["E","n.E"]}}"#);
    assert!(parse(&union).is_err());
}

#[test]
fn an_event_is_a_record() {
    assert_eq!(
        Schema::parse(r#"["null","int"]"#),
        Err(SchemaError::NotARecord("union"))
    );
    assert_eq!(
        Schema::parse(r#"{"type":"map","values":"int"}"#),
        Err(SchemaError::NotARecord("map"))
    );
}

#[test]
fn records_without_a_finite_value_are_refused() {
    assert_eq!(
        parse(r#"{"name":"a","type":"R"}"#),
        Err(SchemaError::Endless("n.R".to_owned()))
    );
    let pair = r#"{"name":"a","type":["null",{"type":"record","name":"S","fields":[
        {"name":"b","type":{"type":"record","name":"T","fields":[{"name":"c","type":"S"}]}}]}]}"#;
    assert_eq!(parse(pair), Err(SchemaError::Endless("n.S".to_owned())));
    for finite in [
        r#"{"name":"a","type":["null","R"]}"#,
        r#"{"name":"a","type":{"type":"array","items":"R"}}"#,
        r#"{"name":"a","type":{"type":"map","values":"R"}}"#,
    ] {
        assert!(parse(finite).is_ok(), "{finite}");
    }
}

/// Fields `f1` to `f{levels}`; each is a record that holds the one before, the first an int.
fn chain(levels: usize) -> String {
    (1..=levels)
        .map(|level| {
            let inner = match level {
                1 => "int".to_owned(),
                _ => format!("C{}", level - 1),
            };
            format!(
                r#"{{"name":"f{level}","type":{{"type":"record","name":"C{level}","fields":[{{"name":"x","type":"{inner}"}}]}}}}"#
            )
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[test]
fn a_record_whose_every_value_is_too_deep_is_refused() {
    let deepest = schema(&chain(SCHEMA_DEPTH_MAX - 1));
    assert_eq!(deepest.validate(&[0; SCHEMA_DEPTH_MAX - 1]), Ok(()));
    assert!(matches!(
        parse(&chain(SCHEMA_DEPTH_MAX)),
        Err(SchemaError::ValueTooDeep(_))
    ));
    assert!(matches!(
        parse(&chain(5_000)),
        Err(SchemaError::ValueTooDeep(_))
    ));
}

#[test]
fn the_payload_of_the_test_vector_is_valid_and_no_part_of_it_is() {
    let schema = Schema::parse(ORDER_CREATED).unwrap();
    assert_eq!(ORDER_CREATED_PAYLOAD.len(), 41);
    assert_eq!(schema.validate(ORDER_CREATED_PAYLOAD), Ok(()));
    for end in 0..ORDER_CREATED_PAYLOAD.len() {
        let error = schema.validate(&ORDER_CREATED_PAYLOAD[..end]).unwrap_err();
        assert!(matches!(error.reason(), PayloadReason::Truncated { .. }));
    }
}

#[test]
fn the_first_of_several_values_is_measured() {
    let schema = Schema::parse(ORDER_CREATED).unwrap();
    let len = ORDER_CREATED_PAYLOAD.len();
    assert_eq!(schema.first_len(ORDER_CREATED_PAYLOAD).unwrap(), len);
    let several = [ORDER_CREATED_PAYLOAD, ORDER_CREATED_PAYLOAD, b"\xff"].concat();
    assert_eq!(schema.first_len(&several).unwrap(), len);
    for part in 0..len {
        schema
            .first_len(&ORDER_CREATED_PAYLOAD[..part])
            .unwrap_err();
    }
}

#[test]
fn a_refusal_names_the_field_the_byte_and_the_reason() {
    let schema = schema(
        r#"{"name":"Dest__c","type":["null",{"type":"record","name":"Location","fields":[
              {"name":"Latitude","type":["null","double"]}]}]},
           {"name":"Tags","type":{"type":"array","items":"string"}},
           {"name":"Labels","type":{"type":"map","values":{"type":"array","items":"int"}}}"#,
    );
    let error = schema.validate(b"\x02\x02abc").unwrap_err();
    assert_eq!(
        error.to_string(),
        "field Dest__c.Latitude at byte 2: a double needs 8 bytes, the payload has 3 left"
    );
    assert_eq!(
        refusal(&schema, b"\0\x06\x02a\x02b\x02\xff\0\0"),
        ("Tags[2]".to_owned(), 6, PayloadReason::NotUtf8)
    );
    assert_eq!(
        refusal(&schema, b"\0\0\x04\x02k\0\x02l\x02\x80"),
        (
            "Labels[entry 1][0]".to_owned(),
            9,
            PayloadReason::Truncated {
                what: "an int",
                needed: 2,
                left: 1
            }
        )
    );
    assert_eq!(
        schema.validate(b"\0\0\0\0").unwrap_err().to_string(),
        "at byte 3: the record ends here, the payload has 1 byte left"
    );
}

#[test]
fn integers_are_bounded_in_bits_and_bytes() {
    let schema = schema(r#"{"name":"i","type":"int"},{"name":"l","type":"long"}"#);
    let int = |bytes: &[u8]| schema.validate(&[bytes, &[0]].concat());
    let long = |bytes: &[u8]| schema.validate(&[&[0], bytes].concat());
    // The largest and the smallest int and long, and zero in as many bytes as they take.
    assert_eq!(int(b"\xfe\xff\xff\xff\x0f"), Ok(()));
    assert_eq!(int(b"\xff\xff\xff\xff\x0f"), Ok(()));
    assert_eq!(int(b"\x80\x80\x80\x80\x00"), Ok(()));
    assert_eq!(long(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(()));
    assert_eq!(long(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), Ok(()));
    assert_eq!(long(b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), Ok(()));

    let too_long = |what, bits, bytes| PayloadReason::VarintTooLong { what, bits, bytes };
    for bytes in [&b"\x80\x80\x80\x80\x10"[..], b"\x80\x80\x80\x80\x80\x00"] {
        let error = int(bytes).unwrap_err();
        assert_eq!(error.reason(), too_long("an int", 32, 5));
        assert_eq!((error.path(), error.offset()), ("i", 0));
    }
    for bytes in [
        &b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02"[..],
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
    ] {
        let error = long(bytes).unwrap_err();
        assert_eq!(error.reason(), too_long("a long", 64, 10));
        assert_eq!((error.path(), error.offset()), ("l", 1));
    }
}

#[test]
fn indexes_outside_of_a_union_or_enum_are_refused() {
    let schema = schema(
        r#"{"name":"u","type":["null","int","string"]},{"name":"f","type":["null","int"]},
           {"name":"s","type":["int","null"]},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}}"#,
    );
    assert_eq!(schema.validate(b"\x02\x01\0\x02\x02"), Ok(()));
    assert_eq!(schema.validate(b"\x04\x02a\x02\x05\0\x08\0"), Ok(()));
    let cases: [(&[u8], &str, usize, i64); 6] = [
        (b"\x06", "u", 3, 3),
        (b"\x01", "u", 3, -1),
        (b"\0\x04", "f", 2, 2),
        (b"\0\x01", "f", 2, -1),
        (b"\0\0\x04", "s", 2, 2),
        (
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "u",
            3,
            i64::MAX,
        ),
    ];
    for (payload, path, branches, found) in cases {
        let (at, _, reason) = refusal(&schema, payload);
        assert_eq!(
            (at.as_str(), reason),
            (path, PayloadReason::Branch { found, branches })
        );
    }
    for (payload, found) in [(b"\0\0\x02\x04", 2), (b"\0\0\x02\x01", -1)] {
        let (at, _, reason) = refusal(&schema, payload);
        assert_eq!(
            (at.as_str(), reason),
            ("e", PayloadReason::Symbol { found, symbols: 2 })
        );
    }
}

#[test]
fn booleans_lengths_and_block_sizes_are_checked() {
    let schema = schema(
        r#"{"name":"b","type":"boolean"},{"name":"x","type":"bytes"},
           {"name":"f","type":{"type":"fixed","name":"F","size":2}},
           {"name":"a","type":{"type":"array","items":"string"}}"#,
    );
    assert_eq!(schema.validate(b"\x01\x02\xffab\0"), Ok(()));
    assert_eq!(refusal(&schema, b"\x02").2, PayloadReason::Boolean);
    assert_eq!(
        refusal(&schema, b"\0\x01"),
        (
            "x".to_owned(),
            1,
            PayloadReason::NegativeLength {
                what: "bytes",
                found: -1
            }
        )
    );
    // Two blocks, one with its size; then the same with a size of one less and a negative one.
    assert_eq!(
        schema.validate(b"\0\0ab\x02\x02p\x03\x08\x02q\x02r\0"),
        Ok(())
    );
    let wrong = |stated| PayloadReason::BlockSize { stated, used: 4 };
    let sized = |size: u8| [b"\0\0ab\x03", &[size][..], b"\x02q\x02r\0"].concat();
    assert_eq!(refusal(&schema, &sized(6)), ("a".to_owned(), 4, wrong(3)));
    assert_eq!(refusal(&schema, &sized(7)), ("a".to_owned(), 4, wrong(-4)));
}

#[test]
fn nesting_is_bounded_in_payloads_of_recursive_schemas() {
    let schema = schema(
        r#"{"name":"next","type":["null","R"]},{"name":"list","type":{"type":"array","items":"R"}}"#,
    );
    let nested = |levels: usize| [vec![2; levels - 1], vec![0; levels + 1]].concat();
    assert_eq!(schema.validate(&nested(SCHEMA_DEPTH_MAX - 1)), Ok(()));
    let (path, offset, reason) = refusal(&schema, &nested(100_000));
    assert_eq!((offset, reason), (SCHEMA_DEPTH_MAX, PayloadReason::TooDeep));
    assert_eq!(path.split('.').count(), SCHEMA_DEPTH_MAX);
}

fn count(items: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(items << 1, &mut bytes);
    bytes
}

#[test]
fn items_that_take_no_bytes_are_counted_all_the_same() {
    let schema = schema(
        r#"{"name":"a","type":{"type":"array","items":"null"}},
           {"name":"m","type":{"type":"array","items":{"type":"record","name":"Z","fields":[
              {"name":"n","type":"null"},{"name":"f","type":{"type":"fixed","name":"F0","size":0}}]}}}"#,
    );
    let items = |nulls: u64, records: u64| {
        let blocks = |items| match items {
            0 => vec![0],
            items => [count(items), vec![0]].concat(),
        };
        [blocks(nulls), blocks(records)].concat()
    };
    assert_eq!(schema.validate(&items(PAYLOAD_ITEMS_MAX, 0)), Ok(()));
    let (path, _, reason) = refusal(&schema, &items(PAYLOAD_ITEMS_MAX + 1, 0));
    assert_eq!((path.as_str(), reason), ("a", PayloadReason::TooManyItems));
    // A record of two such fields counts as an item, as itself and as its two fields.
    let records = PAYLOAD_ITEMS_MAX / 4;
    assert_eq!(schema.validate(&items(0, records)), Ok(()));
    assert_eq!(
        refusal(&schema, &items(4, records)).2,
        PayloadReason::TooManyItems
    );
    // The count that has no positive counterpart, and sums that overflow.
    let least = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0";
    assert_eq!(refusal(&schema, least).2, PayloadReason::TooManyItems);
}

#[test]
fn a_tree_of_records_that_take_no_bytes_costs_no_more_than_its_bound() {
    // Each record holds the one before twice: 2^40 empty records, in 40 bytes.
    let fields: Vec<String> = (1..=40)
        .map(|level| {
            let inner = match level {
                1 => String::new(),
                _ => format!(
                    r#"{{"name":"x","type":"T{0}"}},{{"name":"y","type":"T{0}"}}"#,
                    level - 1
                ),
            };
            format!(
                r#"{{"name":"t{level}","type":["null",{{"type":"record","name":"T{level}","fields":[{inner}]}}]}}"#
            )
        })
        .collect();
    let schema = schema(&fields.join(","));
    let all_null = [0; 40];
    assert_eq!(schema.validate(&all_null), Ok(()));
    let mut last = all_null;
    last[39] = 2;
    assert_eq!(refusal(&schema, &last).2, PayloadReason::TooManyItems);
}

/// Puts `new` in the place of the value that `at` counts down to, in the order of the text.
fn replace(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        *value = new.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, at, new)),
        Value::Object(entries) => {
            let values = entries.values_mut();
            values.for_each(|value| replace(value, at, new));
        }
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    let odd = [
        json!(null),
        json!(-1),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!("."),
        json!(".n"),
        json!("n."),
        json!("a..b"),
        json!("é"),
        json!("R"),
        json!("int"),
        json!("record"),
        json!("Location"),
        json!([]),
        json!({}),
        json!(["null", "R"]),
        json!(["null", "null"]),
        json!({"type": "record"}),
        json!({"type": {"type": "int"}}),
        json!({"type": "fixed", "name": "F", "size": 3, "precision": "x"}),
        json!({"type": "enum", "name": "string", "symbols": []}),
        json!({"type": "bytes", "logicalType": "decimal", "precision": -1}),
        json!({"name": "x", "type": "long", "size": "no number", "default": 5}),
    ];
    prop::sample::select(odd.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn odd_schemas_never_panic(edits in prop::collection::vec((0usize..250, odd_value()), 1..4)) {
        let mut json: Value = serde_json::from_str(SHIPMENT_CHANGE).unwrap();
        for (mut at, new) in edits {
            replace(&mut json, &mut at, &new);
        }
        _ = Schema::parse(&json.to_string());
    }

    #[test]
    fn odd_text_never_panics(at in any::<prop::sample::Index>(), text in "[\\[\\]{}\":,\\\\0-9a-z. \\n]{0,6}") {
        let mut schema = SHIPMENT_CHANGE.to_owned();
        let at = at.index(schema.len());
        schema.replace_range(at..(at + text.len()).min(schema.len()), &text);
        _ = Schema::parse(&schema);
    }
}
