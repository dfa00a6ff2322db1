use serde_json::json;

use super::*;
use crate::{
    schema::{
        JsonError, Schema, SchemaError,
        tests::{ORDER_CREATED, ORDER_CREATED_PAYLOAD, SHIPMENT_CHANGE, schema},
    },
    types::limits::{EVENT_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_NAME_BYTES_MAX},
};

const FILL: Fill<'static> = Fill {
    created_date_ms: 1_700_000_000_000,
    created_by_id: "005000000000001AAA",
};

fn refusal(schema: &Schema, json: Value) -> String {
    schema.encode_json(&json, &FILL).unwrap_err().to_string()
}

fn round_trip(schema: &Schema, json: Value) {
    let payload = schema.encode_json(&json, &FILL).unwrap();
    assert_eq!(schema.validate(&payload), Ok(()));
    let shown = schema.to_json(&payload).unwrap();
    assert_eq!(shown.to_string(), json.to_string());
}

#[test]
fn the_test_vector_is_read_and_written() {
    let schema = Schema::parse(ORDER_CREATED).unwrap();
    let shown = r#"{"CreatedDate":1700000000000,"CreatedById":"005000000000001AAA","Order_Number__c":"A-17","Amount__c":42.5,"Priority__c":null}"#;
    let json = schema.to_json(ORDER_CREATED_PAYLOAD).unwrap();
    assert_eq!(json.to_string(), shown);
    assert_eq!(
        schema.encode_json(&json, &FILL).unwrap(),
        ORDER_CREATED_PAYLOAD
    );
}

#[test]
fn what_is_known_or_nullable_may_be_left_out() {
    let schema = Schema::parse(ORDER_CREATED).unwrap();
    let json = json!({"Amount__c": 42.5, "Order_Number__c": "A-17"});
    assert_eq!(
        schema.encode_json(&json, &FILL).unwrap(),
        ORDER_CREATED_PAYLOAD
    );
    // What is given wins.
    let json = json!({"CreatedDate": 5, "CreatedById": "me"});
    let payload = schema.encode_json(&json, &FILL).unwrap();
    assert_eq!(payload, b"\x0a\x04me\0\0\0");
}

#[test]
fn only_the_leading_fields_of_a_platform_event_are_filled_in() {
    let change = Schema::parse(SHIPMENT_CHANGE).unwrap();
    let header = json!({
        "entityName": "Shipment__c", "recordIds": ["a01"], "changeType": "UPDATE", "changeOrigin": "",
        "transactionKey": "t", "sequenceNumber": 1, "commitTimestamp": 1, "commitNumber": 1,
        "commitUser": "005", "nulledFields": ["0x0400"], "diffFields": [], "changedFields": ["0x04A0", "9-0x02"]
    });
    let json = json!({"ChangeEventHeader": header, "Dest__c": {"Longitude": 4}});
    let payload = change.encode_json(&json, &FILL).unwrap();
    let shown = change.to_json(&payload).unwrap();
    assert_eq!(shown["ChangeEventHeader"], header);
    assert_eq!(shown["CreatedDate"], Value::Null);
    assert_eq!(shown["CreatedById"], Value::Null);
    assert_eq!(
        shown["Dest__c"],
        json!({"Latitude": null, "Longitude": 4.0})
    );

    let nested = schema(
        r#"{"name":"a","type":{"type":"record","name":"S","fields":[{"name":"CreatedDate","type":"long"}]}},
           {"name":"CreatedById","type":"int"}"#,
    );
    assert_eq!(
        refusal(&nested, json!({"a": {}, "CreatedById": 1})),
        "the field a.CreatedDate is missing; it is neither nullable nor has a default"
    );
    assert_eq!(
        refusal(&nested, json!({"a": {"CreatedDate": 1}})),
        "the field CreatedById is missing; it is neither nullable nor has a default"
    );
}

#[test]
fn numbers_keep_their_value() {
    let schema = schema(
        r#"{"name":"l","type":"long"},{"name":"d","type":"double"},{"name":"f","type":"float"},{"name":"i","type":"int"}"#,
    );
    let exact = 1i64 << 53;
    round_trip(
        &schema,
        json!({"l": exact, "d": 0.1, "f": 0.5, "i": i32::MIN}),
    );
    round_trip(
        &schema,
        json!({"l": -exact, "d": -0.0, "f": -1.5, "i": i32::MAX}),
    );
    round_trip(
        &schema,
        json!({"l": "9007199254740993", "d": "NaN", "f": "Infinity", "i": 0}),
    );
    round_trip(
        &schema,
        json!({"l": "-9223372036854775808", "d": "-Infinity", "f": "NaN", "i": -1}),
    );
    // Other spellings of the same numbers.
    let spelled = json!({"l": "17", "d": 5, "f": 7, "i": 3.0});
    let payload = schema.encode_json(&spelled, &FILL).unwrap();
    assert_eq!(
        schema.to_json(&payload).unwrap(),
        json!({"l": 17, "d": 5.0, "f": 7.0, "i": 3})
    );
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let schema = schema(
        r#"{"name":"l","type":"long","default":0},{"name":"d","type":"double","default":0},
           {"name":"f","type":"float","default":0},{"name":"i","type":["null","int"]}"#,
    );
    let int = "field i: the value does not fit null or an int, a whole number of 32 bits";
    assert_eq!(refusal(&schema, json!({"i": 2_147_483_648i64})), int);
    assert_eq!(refusal(&schema, json!({"i": 1.5})), int);
    let long = "field l: the value does not fit a long, a whole number of 64 bits or its digits in a string";
    assert_eq!(refusal(&schema, json!({"l": u64::MAX})), long);
    assert_eq!(refusal(&schema, json!({"l": 1e300})), long);
    assert_eq!(refusal(&schema, json!({"l": "12 dozen"})), long);
    assert_eq!(
        refusal(&schema, json!({"f": 1e300})),
        "field f: the value does not fit a float"
    );
    assert_eq!(
        refusal(&schema, json!({"d": "1.5"})),
        "field d: found a string, wanted a double"
    );
}

#[test]
fn bytes_are_strings_of_as_many_characters() {
    let schema = schema(
        r#"{"name":"b","type":"bytes"},{"name":"f","type":{"type":"fixed","name":"F","size":2}}"#,
    );
    let json = json!({"b": "\u{0}é\u{ff}", "f": "ab"});
    assert_eq!(
        schema.encode_json(&json, &FILL).unwrap(),
        b"\x06\0\xe9\xffab"
    );
    round_trip(&schema, json);
    assert_eq!(
        refusal(&schema, json!({"b": "€", "f": "ab"})),
        "field b: the value does not fit bytes, a string of characters up to U+00FF"
    );
    assert_eq!(
        refusal(&schema, json!({"b": "", "f": "abc"})),
        "field f: the value does not fit 2 bytes, a string of that many characters up to U+00FF"
    );
}

#[test]
fn a_union_is_plain_where_the_json_type_tells_its_branch() {
    let schema = schema(
        r#"{"name":"name","type":["null","string",{"type":"record","name":"PersonName","fields":[{"name":"LastName","type":["null","string"]}]}]},
           {"name":"number","type":["null","int","double"]},
           {"name":"last","type":["int","null"]}"#,
    );
    round_trip(
        &schema,
        json!({"name": "Ada", "number": {"int": 1}, "last": 1}),
    );
    round_trip(
        &schema,
        json!({"name": {"LastName": "Lovelace"}, "number": {"double": 1.0}, "last": null}),
    );
    round_trip(&schema, json!({"name": null, "number": null, "last": null}));
    assert_eq!(schema.encode_json(&json!({}), &FILL).unwrap(), b"\0\0\x02");
    assert_eq!(
        refusal(&schema, json!({"number": 1})),
        "field number: found a number, wanted an object of one key, the name of one of null, int, double"
    );
    assert_eq!(
        refusal(&schema, json!({"name": 1})),
        "field name: found a number, wanted one of null, string, n.PersonName"
    );
}

#[test]
fn unknown_fields_are_refused_with_the_nearest_spelling() {
    let order = Schema::parse(ORDER_CREATED).unwrap();
    let cases = [
        ("amount__c", ", did you mean Amount__c?"),
        ("Amount", ", did you mean Amount__c?"),
        ("Order_Nubmer__c", ", did you mean Order_Number__c?"),
        ("Quantity", ""),
    ];
    for (name, hint) in cases {
        assert_eq!(
            refusal(&order, json!({name: 1})),
            format!("OrderCreated__e has no field {name}{hint}")
        );
    }
    let long = "x".repeat(1_000_000);
    assert!(refusal(&order, json!({long: 1})).len() < 200);

    let nested = schema(
        r#"{"name":"list","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
            {"name":"Product__c","type":["null","string"]}]}}}"#,
    );
    assert_eq!(
        refusal(&nested, json!({"list": [{}, {"Prodcut__c": "x"}]})),
        "Line has no field list[1].Prodcut__c, did you mean Product__c?"
    );
}

#[test]
fn a_wrong_type_is_named_with_its_path_and_never_its_content() {
    let schema = schema(
        r#"{"name":"a","type":{"type":"map","values":{"type":"array","items":"boolean"}}},
           {"name":"e","type":["null",{"type":"enum","name":"E","symbols":["NEW","PAID"]}]},
           {"name":"r","type":["null","R"]}"#,
    );
    assert_eq!(
        refusal(
            &schema,
            json!({"a": {"k": [true], "secret": [true, "hidden"]}})
        ),
        "field a[entry 1][1]: found a string, wanted true or false"
    );
    assert_eq!(
        refusal(&schema, json!({"a": {}, "e": "hidden"})),
        "field e: the value does not fit null or one of NEW, PAID"
    );
    assert_eq!(
        refusal(&schema, json!({"a": {}, "r": []})),
        "field r: found an array, wanted null or an object with the fields of R"
    );
    assert_eq!(
        refusal(&schema, json!([])),
        "found an array, wanted an object with the fields of R"
    );
    assert_eq!(
        refusal(&schema, json!({"a": null})),
        "field a: found null, wanted an object"
    );
}

#[test]
fn defaults_stand_in_for_what_is_absent() {
    let schema = schema(
        r#"{"name":"s","type":"string","default":"none"},
           {"name":"u","type":["int","null"],"default":7},
           {"name":"v","type":["null","int"],"default":null},
           {"name":"b","type":"bytes","default":"\u00ff"},
           {"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]},"default":"B"},
           {"name":"r","type":{"type":"record","name":"S","fields":[
              {"name":"x","type":"int","default":-1},{"name":"y","type":["null","S"],"default":null}]},"default":{"x":2}},
           {"name":"t","type":"S","default":{}},
           {"name":"l","type":{"type":"array","items":["string","int"]},"default":["a",1]}"#,
    );
    let payload = schema.encode_json(&json!({}), &FILL).unwrap();
    assert_eq!(
        schema.to_json(&payload).unwrap(),
        json!({"s": "none", "u": 7, "v": null, "b": "ÿ", "e": "B", "r": {"x": 2, "y": null},
               "t": {"x": -1, "y": null}, "l": ["a", 1]})
    );
}

#[test]
fn a_default_that_does_not_fit_is_refused_with_its_field() {
    let refused = |field: &str| {
        let text = format!(r#"{{"type":"record","name":"R","fields":[{field}]}}"#);
        Schema::parse(&text).unwrap_err()
    };
    assert_eq!(
        refused(r#"{"name":"a","type":"int","default":"x"}"#).to_string(),
        "the default of R.a does not fit its type: found a string, wanted an int, a whole number of 32 bits"
    );
    assert!(matches!(
        refused(r#"{"name":"a","type":["int","string"],"default":null}"#),
        SchemaError::Default { .. }
    ));
    // The default of a type that is still being defined cannot lean on that type's defaults.
    assert!(matches!(
        refused(r#"{"name":"a","type":{"type":"array","items":"R"},"default":[{}]}"#),
        SchemaError::Default { .. }
    ));
}

#[test]
fn defaults_that_double_at_each_level_are_refused() {
    let mut fields = vec![
        r#"{"name":"f0","type":{"type":"record","name":"T0","fields":[{"name":"x","type":"string","default":"0123456789"}]}}"#.to_owned(),
    ];
    for level in 1..40 {
        let inner = level - 1;
        fields.push(format!(
            r#"{{"name":"f{level}","type":{{"type":"record","name":"T{level}","fields":[
                {{"name":"x","type":"T{inner}","default":{{}}}},{{"name":"y","type":"T{inner}","default":{{}}}}]}}}}"#
        ));
    }
    let text = format!(
        r#"{{"type":"record","name":"R","fields":[{}]}}"#,
        fields.join(",")
    );
    assert_eq!(Schema::parse(&text), Err(SchemaError::DefaultsTooLarge));
}

#[test]
fn size_depth_and_items_are_bounded() {
    let recursive =
        schema(r#"{"name":"s","type":["null","string"]},{"name":"r","type":["null","R"]}"#);
    let text = "x".repeat(EVENT_BYTES_MAX);
    assert_eq!(
        recursive.encode_json(&json!({"s": text}), &FILL),
        Err(JsonError::TooLarge)
    );
    let nested = |levels| (1..levels).fold(json!({}), |inner, _| json!({"r": inner}));
    assert!(
        recursive
            .encode_json(&nested(SCHEMA_DEPTH_MAX), &FILL)
            .is_ok()
    );
    assert!(matches!(
        recursive.encode_json(&nested(SCHEMA_DEPTH_MAX + 1), &FILL),
        Err(JsonError::TooDeep { .. })
    ));
    let free = schema(
        r#"{"name":"l","type":{"type":"array","items":{"type":"record","name":"Z","fields":[{"name":"n","type":"null"}]}}}"#,
    );
    let items = |count| json!({"l": vec![json!({}); count]});
    let most = crate::types::limits::PAYLOAD_ITEMS_MAX as usize / 3;
    assert!(free.encode_json(&items(most), &FILL).is_ok());
    assert_eq!(
        free.encode_json(&items(most + 1), &FILL),
        Err(JsonError::TooManyItems)
    );
}

#[test]
fn a_long_that_is_shown_as_digits_is_not_mistaken_for_a_string() {
    let schema = schema(r#"{"name":"u","type":["null","long","string"]}"#);
    round_trip(&schema, json!({"u": {"long": "9007199254740993"}}));
    round_trip(&schema, json!({"u": {"string": "9007199254740993"}}));
    assert_eq!(
        refusal(&schema, json!({"u": "9007199254740993"})),
        "field u: found a string, wanted an object of one key, the name of one of null, long, string"
    );
}

#[test]
fn the_size_of_the_text_is_known_before_it_is_made() {
    let order = Schema::parse(ORDER_CREATED).unwrap();
    for number in ["A-17", "", "\"quoted\" \\ \n \u{1} é \u{1F4E6}"] {
        for date in [0, -1, 9, 10, 1 << 53, (1 << 53) + 1, i64::MIN, i64::MAX] {
            let json = json!({"CreatedDate": date.to_string(), "Order_Number__c": number});
            let payload = order.encode_json(&json, &FILL).unwrap();
            let text = order.to_json(&payload).unwrap().to_string();
            assert_eq!(order.json_bytes_max(&payload), Ok(text.len()), "{text}");
        }
    }
    let nested = schema(
        r#"{"name":"a","type":{"type":"array","items":{"type":"map","values":"boolean"}}},
           {"name":"b","type":["null","long","int"]},{"name":"c","type":"bytes"}"#,
    );
    let json = json!({"a": [{}, {"x": true, "y": false}], "b": {"int": 5}, "c": "\u{ff}\""});
    let payload = nested.encode_json(&json, &FILL).unwrap();
    assert_eq!(nested.json_bytes_max(&payload), Ok(json.to_string().len()));
    assert!(nested.json_bytes_max(&payload[1..]).is_err());
}

#[test]
fn a_short_payload_with_a_long_text_is_measured_without_making_it() {
    // Records within records that all take one byte, each with a long name.
    let name = "n".repeat(SCHEMA_NAME_BYTES_MAX);
    let innermost = "\"boolean\"".to_owned();
    let nested = (0..10).fold(innermost, |inner, number| {
        format!(
            r#"{{"type":"record","name":"R{number}","fields":[{{"name":"{name}","type":{inner}}}]}}"#
        )
    });
    let wide = schema(&format!(
        r#"{{"name":"a","type":{{"type":"array","items":{nested}}}}}"#
    ));
    let mut payload = Vec::new();
    prost::encoding::encode_varint(2 * 900_000, &mut payload);
    payload.extend(vec![1; 900_000]);
    payload.push(0);
    let bytes = wide.json_bytes_max(&payload).unwrap();
    assert!(bytes > 2_000_000_000, "{bytes}");
}
