//! Each piece of advice, both ways; and what holds for all the checks of a schema together.

use proptest::prelude::*;

use super::*;
use crate::{
    schema::{
        conformance::SchemaShape,
        tests::{ORDER_CREATED, SHIPMENT_CHANGE},
    },
    types::limits::SCHEMA_BYTES_MAX,
};

fn found(text: &str) -> Vec<String> {
    let findings = findings(&Schema::parse(text).unwrap()).into_iter();
    findings
        .map(|finding| {
            let line = finding.line.unwrap();
            format!("{line} {} {}", finding.rule, finding.path)
        })
        .collect()
}

/// What is found in a platform event with these fields of its own, from line 4 on.
fn found_in(fields: &str) -> Vec<String> {
    let (leading, _) = ORDER_CREATED
        .split_once("\n {\"name\":\"Order_Number__c\"")
        .unwrap();
    found(&format!("{leading}\n{fields}]}}"))
}

/// A field of a record `B` that has these fields.
fn nested(fields: &str) -> String {
    format!(
        r#"{{"name":"b__c","doc":"d","default":null,"type":["null",{{"type":"record","name":"B","fields":[{fields}]}}]}}"#
    )
}

#[test]
fn schemas_of_the_platform_get_no_advice() {
    assert_eq!(found(ORDER_CREATED), [""; 0]);
    assert_eq!(found(SHIPMENT_CHANGE), [""; 0]);
}

#[test]
fn no_sample_schema_would_be_refused() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let paths = crate::schema::files::list(&dir).unwrap();
    assert!(paths.len() >= 3);
    for path in paths {
        let schema = crate::schema::files::read_file(&path).unwrap();
        assert_eq!(findings(&schema), [], "{}", path.display());
    }
}

#[test]
fn what_hurts_later_is_found_with_its_place() {
    let long = "N".repeat(NAME_CHARS_MAX + 1);
    let cases: &[(&str, &[&str])] = &[
        (
            r#"{"name":"a__c","doc":"d","type":["null",{"type":"enum","name":"E","symbols":["X"]}],"default":null}"#,
            &["4 enum-without-default OrderCreated__e.a__c"],
        ),
        (
            r#"{"name":"a__c","doc":"d","type":["null","float"],"default":null}"#,
            &["4 float-loses-digits OrderCreated__e.a__c"],
        ),
        (
            r#"{"name":"a__c","doc":"d","type":["null",{"type":"array","items":"float"}],"default":null}"#,
            &["4 float-loses-digits OrderCreated__e.a__c[]"],
        ),
        (
            r#"{"name":"a__c","type":["null","int"],"default":null},
{"name":"b__c","doc":" ","type":["null","int"],"default":null},
{"name":"c__c","doc":7,"type":["null","int"],"default":null}"#,
            &[
                "4 doc-missing OrderCreated__e.a__c",
                "5 doc-missing OrderCreated__e.b__c",
                "6 doc-missing OrderCreated__e.c__c",
            ],
        ),
        (
            r#"{"name":"a","doc":"d","type":["null","int"],"default":null}"#,
            &["4 field-suffix OrderCreated__e.a"],
        ),
        (
            &format!(r#"{{"name":"{long}__c","doc":"d","type":["null","int"],"default":null}}"#),
            &[&format!("4 name-too-long OrderCreated__e.{long}__c")],
        ),
        (
            &nested(r#"{"name":"c","type":"int"}"#),
            &["4 field-without-default OrderCreated__e.b__c.c"],
        ),
        (
            &nested(r#"{"name":"c","type":["int","null"],"default":1}"#),
            &["4 null-not-first OrderCreated__e.b__c.c"],
        ),
        (
            &nested(r#"{"name":"c","type":["int","null","string"],"default":1}"#),
            &["4 null-not-first OrderCreated__e.b__c.c"],
        ),
    ];
    for (fields, wanted) in cases {
        assert_eq!(found_in(fields), *wanted, "{fields}");
    }
}

#[test]
fn what_does_not_hurt_gets_no_advice() {
    let long = "N".repeat(NAME_CHARS_MAX);
    for fields in [
        r#"{"name":"a__c","doc":"d","type":["null",{"type":"enum","name":"E","symbols":["X"],"default":"X"}],"default":null}"#,
        &format!(r#"{{"name":"acme__{long}__c","doc":"d","type":["null","int"],"default":null}}"#),
        &nested(
            r#"{"name":"c","type":"int","default":1},{"name":"d","type":["null","int"],"default":null},{"name":"e","type":["int","string"],"default":1}"#,
        ),
    ] {
        assert_eq!(found_in(fields), [""; 0], "{fields}");
    }
}

#[test]
fn a_record_without_a_topic_is_named_and_is_no_advice() {
    let text = ORDER_CREATED.replace("OrderCreated__e", "OrderCreated");
    let findings = findings(&Schema::parse(&text).unwrap());
    let name = findings
        .iter()
        .find(|finding| finding.rule == "record-name");
    assert!(!is_advice(name.unwrap()));
}

#[test]
fn what_is_found_by_one_check_is_not_found_by_another() {
    let text = r#"{"type":"record","name":"A__e","fields":[
{"name":"CreatedDate","type":["null","long"],"default":null},
{"name":"a__c","doc":"d","type":["int","null"]},
{"name":"b__c","doc":"d","type":["string","null"],"default":null}]}"#;
    assert_eq!(
        found(text),
        [
            "1 namespace A__e",
            "2 leading-fields A__e.CreatedDate",
            "3 leading-fields A__e.a__c",
            "3 nullable-fields A__e.a__c",
            "4 union-default-not-first A__e.b__c",
            "4 nullable-fields A__e.b__c",
        ]
    );
}

#[test]
fn only_so_many_are_listed_and_what_is_refused_comes_first() {
    let fields: Vec<_> = (0..VIOLATIONS_MAX)
        .map(|index| format!(r#"{{"name":"f{index}","type":"int"}}"#))
        .collect();
    let text = format!(
        r#"{{"type":"record","name":"A__e","fields":[{}]}}"#,
        fields.join(",")
    );
    let findings = findings(&Schema::parse(&text).unwrap());
    assert_eq!(findings.len(), VIOLATIONS_MAX);
    assert!(!findings.iter().any(is_advice));
}

#[test]
fn a_text_that_is_no_schema_is_a_finding_with_its_place() {
    let field =
        |field: &str| format!("{{\"type\":\"record\",\"name\":\"A__e\",\"fields\":[\n{field}]}}");
    for (text, wanted) in [
        (
            "{\n oops}".to_owned(),
            "2 not-json column 2: key must be a string",
        ),
        (
            "[".repeat(100),
            "1 nested-too-deep line 1, column 65: a schema nests at most 64 levels",
        ),
        (
            "\"int\"".to_owned(),
            "- not-a-record the schema of an event is a record, this one is int",
        ),
        (
            field(r#"{"name":"a","type":[]}"#),
            "2 not-avro A__e.a: a union has at least one type",
        ),
        (
            field(r#"{"name":"a","type":"int","default":"x"}"#),
            "2 default-invalid A__e.a: the default does not fit the type: found a string, wanted an int, a whole number of 32 bits",
        ),
        (
            field(r#"{"name":"a","type":"A__e"}"#),
            "2 endless the record A__e contains itself, so it has no finite value",
        ),
    ] {
        let findings = findings_of_text(&text);
        let [finding] = &findings[..] else {
            panic!("{findings:?}")
        };
        assert!(!is_advice(finding));
        let line = finding.line.map_or("-".to_owned(), |line| line.to_string());
        assert_eq!(format!("{line} {} {finding}", finding.rule), wanted);
    }
    assert_eq!(findings_of_text(ORDER_CREATED), []);
}

/// A schema of one megabyte in which `item` is repeated.
fn huge(start: &str, item: impl Fn(usize) -> String, end: &str) -> Schema {
    let mut text = start.to_owned();
    for index in 0.. {
        let item = item(index);
        if text.len() + item.len() + end.len() + 1 > SCHEMA_BYTES_MAX {
            break;
        }
        if index > 0 {
            text.push(',');
        }
        text.push_str(&item);
    }
    text.push_str(end);
    Schema::parse(&text).unwrap()
}

#[test]
fn the_largest_schemas_are_checked_too() {
    let deep = |levels: usize| {
        let open = r#"{"type":"array","items":"#.repeat(levels);
        (
            format!(r#"{{"type":"record","name":"A__e","fields":[{{"name":"a__c","type":{open}["#),
            format!("]{}}}]}}", "}".repeat(levels)),
        )
    };
    let (start, end) = deep(40);
    for schema in [
        huge(
            r#"{"type":"record","name":"A__e","fields":["#,
            |index| format!(r#"{{"name":"f{index}","type":"float"}}"#),
            "]}",
        ),
        huge(
            &start,
            |index| format!(r#"{{"type":"record","name":"R{index}","fields":[]}}"#),
            &end,
        ),
        huge(
            r#"{"type":"record","name":"A__e","fields":[{"name":"a","type":{"type":"array","items":"int"},"default":["#,
            |_| "1.0".to_owned(),
            "]}]}",
        ),
        huge(
            r#"{"type":"record","name":"A__e","fields":[],"x":{"#,
            |index| format!(r#""{}":0"#, index / 2),
            "}}",
        ),
    ] {
        assert!(findings(&schema).len() <= VIOLATIONS_MAX);
        assert_eq!(crate::schema::diff::differences(&schema, &schema), []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn no_check_fails_at_a_schema_that_parses(shape in any::<SchemaShape>()) {
        let schema = Schema::parse(&shape.text()).unwrap();
        for finding in findings(&schema) {
            prop_assert!(finding.path == "R" || finding.path.starts_with("R."), "{}", finding.path);
            prop_assert!(!finding.message.is_empty() && !finding.fix.is_empty());
            prop_assert_eq!(finding.line, Some(1));
        }
    }
}
