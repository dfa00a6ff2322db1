use proptest::prelude::*;

use super::*;
use crate::schema::{
    Schema,
    tests::{SHIPMENT_CHANGE, schema},
};

fn shipment() -> Schema {
    Schema::parse(SHIPMENT_CHANGE).unwrap()
}

/// A record of 40 text fields.
fn wide() -> Schema {
    let field = |index| format!(r#"{{"name":"f{index}","type":["null","string"]}}"#);
    schema(&(0..40).map(field).collect::<Vec<_>>().join(","))
}

/// A record whose field 4 and 7 are compound ones of five and three children, and 1 to 3 what
/// clients find no children in.
fn compounds() -> Schema {
    schema(
        r#"{"name":"f0","type":["null","string"]},
           {"name":"f1","type":["null","string"]},
           {"name":"f2","type":[{"type":"record","name":"Last","fields":[{"name":"a","type":"int"}]},"null"]},
           {"name":"f3","type":["null",{"type":"record","name":"One","fields":[{"name":"a","type":"int"}]},
                                {"type":"record","name":"Two","fields":[{"name":"b","type":"int"}]}]},
           {"name":"f4","type":["null",{"type":"record","name":"Address","fields":[
               {"name":"c0","type":["null","string"]},{"name":"c1","type":["null","string"]},
               {"name":"c2","type":["null","string"]},{"name":"c3","type":["null","string"]},
               {"name":"c4","type":["null","string"]}]}]},
           {"name":"f5","type":["null","Address"]},
           {"name":"f6","type":"One"},
           {"name":"f7","type":["null","string",{"type":"record","name":"PersonName","fields":[
               {"name":"c0","type":["null","string"]},{"name":"c1","type":["null","string"]},
               {"name":"c2","type":["null","string"]}]}]}"#,
    )
}

fn whole(indexes: &[usize]) -> Vec<FieldIndex> {
    indexes.iter().copied().map(FieldIndex::Whole).collect()
}

fn children(parent: usize, indexes: &[usize]) -> Vec<FieldIndex> {
    let child = |&child| FieldIndex::Child { parent, child };
    indexes.iter().map(child).collect()
}

fn encoded(schema: &Schema, fields: impl IntoIterator<Item = FieldIndex>) -> Vec<String> {
    encode(schema.program(), fields).unwrap()
}

fn decoded(schema: &Schema, entries: &[&str]) -> Vec<String> {
    decode(schema.program(), entries).unwrap()
}

fn refusal(schema: &Schema, entries: &[&str]) -> String {
    decode(schema.program(), entries).unwrap_err().to_string()
}

#[test]
fn the_worked_example_is_written_and_read() {
    let schema = shipment();
    let changed = [whole(&[5, 7, 10]), children(9, &[1])].concat();
    assert_eq!(encoded(&schema, changed), ["0x04A0", "9-0x02"]);
    assert_eq!(encoded(&schema, whole(&[10])), ["0x0400"]);
    assert_eq!(
        decoded(&schema, &["0x04A0", "9-0x02"]),
        [
            "LastModifiedDate",
            "Status__c",
            "Notes__c",
            "Dest__c.Longitude"
        ]
    );
    assert_eq!(decoded(&schema, &["0x0400"]), ["Notes__c"]);
}

#[test]
fn the_published_vectors_are_written_and_read() {
    let wide = wide();
    for (text, indexes) in [
        ("0x650004E0", &[5, 6, 7, 10, 24, 26, 29, 30][..]),
        ("0x410000", &[16, 22]),
    ] {
        assert_eq!(encoded(&wide, whole(indexes)), [text]);
        let names: Vec<_> = indexes.iter().map(|index| format!("f{index}")).collect();
        assert_eq!(decoded(&wide, &[text]), names);
    }
    let compounds = compounds();
    let nested = [children(7, &[1, 2]), children(4, &[4])].concat();
    assert_eq!(encoded(&compounds, nested), ["0x00", "4-0x10", "7-0x06"]);
    assert_eq!(decoded(&compounds, &["4-0x10"]), ["f4.c4"]);
    assert_eq!(decoded(&compounds, &["7-0x06"]), ["f7.c1", "f7.c2"]);
}

#[test]
fn bitmaps_have_whole_bytes_and_no_more_than_they_need() {
    let wide = wide();
    for (index, text) in [
        (0, "0x01"),
        (7, "0x80"),
        (8, "0x0100"),
        (15, "0x8000"),
        (39, "0x8000000000"),
    ] {
        assert_eq!(encoded(&wide, whole(&[index])), [text]);
    }
    assert_eq!(encoded(&wide, []), [""; 0]);
}

#[test]
fn children_stand_behind_a_first_entry_in_the_order_of_their_parents() {
    let compounds = compounds();
    let fields = [children(7, &[0]), children(4, &[3, 0]), whole(&[1])].concat();
    assert_eq!(encoded(&compounds, fields), ["0x02", "4-0x09", "7-0x01"]);
    assert_eq!(encoded(&compounds, children(5, &[2])), ["0x00", "5-0x04"]);
}

#[test]
fn a_field_and_its_children_are_never_told_both() {
    let compounds = compounds();
    let fields = [children(4, &[1]), whole(&[4]), children(5, &[1])].concat();
    assert_eq!(encoded(&compounds, fields), ["0x10", "5-0x02"]);
}

#[test]
fn a_field_is_named_alone_if_all_of_its_children_are() {
    let compounds = compounds();
    let all = encoded(&compounds, children(4, &[0, 1, 2, 3, 4]));
    assert_eq!(all, ["0x00", "4-0x1F"]);
    assert_eq!(decoded(&compounds, &["0x00", "4-0x1F"]), ["f4"]);
    assert_eq!(decoded(&compounds, &["0x10"]), ["f4"]);
}

#[test]
fn what_clients_would_not_find_is_not_written() {
    let compounds = compounds();
    let refusal = |field| {
        let refused = encode(compounds.program(), [field]);
        refused.unwrap_err().to_string()
    };
    let child = |parent, child| FieldIndex::Child { parent, child };
    assert_eq!(
        refusal(FieldIndex::Whole(8)),
        "R has 8 fields, found the index 8"
    );
    assert_eq!(refusal(child(9, 0)), "R has 8 fields, found the index 9");
    assert_eq!(
        refusal(child(4, 5)),
        "Address has 5 fields, found the index 5"
    );
    for parent in [1, 2, 3, 6] {
        assert_eq!(
            refusal(child(parent, 0)),
            format!("the field f{parent} is no compound field, wanted its own index")
        );
    }
}

#[test]
fn other_forms_of_the_same_set_are_read() {
    let compounds = compounds();
    assert_eq!(
        decoded(&compounds, &["4-0x0a", "0x0000000000000002"]),
        ["f4.c1", "f4.c3", "f1"]
    );
    // Bits past the fields are of no field.
    assert_eq!(decoded(&compounds, &["0xFFFFFF02", "4-0xFF00"]), ["f1"]);
    assert_eq!(decoded(&compounds, &["0x00"]), [""; 0]);
    assert_eq!(decoded(&compounds, &[]), [""; 0]);
    assert_eq!(decoded(&compounds, &["2-0x01", "6-0x01"]), ["f2", "f6"]);
}

#[test]
fn what_is_no_bitmap_is_refused_with_what_was_found() {
    let schema = compounds();
    for text in [
        "",
        "0x",
        "0x1",
        "0xG0",
        "0X01",
        "01",
        "-0x01",
        "4-",
        "4-01",
        "+4-0x01",
        "x-0x01",
        "4-0x1",
        "4-5-0x01",
        "99999999999999999999-0x01",
        "0x0é",
    ] {
        assert_eq!(
            refusal(&schema, &["0x01", text]),
            format!(
                "entry 1: found {text:?}, wanted 0x, or an index and -0x, and pairs of hex digits"
            )
        );
    }
    let long = refusal(&schema, &["y".repeat(500).as_str()]);
    assert!(long.contains(&format!("\"{}\"", "y".repeat(40))), "{long}");
}

#[test]
fn entries_that_name_no_compound_field_or_come_twice_are_refused() {
    let schema = compounds();
    assert_eq!(
        refusal(&schema, &["0x01", "0x02"]),
        "entry 1: found a second bitmap of the record's own fields, wanted one"
    );
    assert_eq!(
        refusal(&schema, &["4-0x01", "0x02", "4-0x02"]),
        "entry 2: found a second bitmap of the children of field 4, wanted one"
    );
    assert_eq!(
        refusal(&schema, &["8-0x01"]),
        "entry 0: found children of field 8, wanted one of 8 fields"
    );
    for parent in [1, 3] {
        assert_eq!(
            refusal(&schema, &[&format!("{parent}-0x01")]),
            format!("entry 0: found children of f{parent}, wanted a compound field")
        );
    }
}

#[test]
fn few_bits_of_long_names_are_not_read_without_bound() {
    // One record of many children that many fields share: all but one child of each.
    let child = |index| {
        format!(
            r#"{{"name":"c{index}{}","type":["null","int"]}}"#,
            "x".repeat(90)
        )
    };
    let record: Vec<_> = (0..1_000).map(child).collect();
    let mut fields = vec![format!(
        r#"{{"name":"f0","type":["null",{{"type":"record","name":"C","fields":[{}]}}]}}"#,
        record.join(",")
    )];
    let field = |index| format!(r#"{{"name":"f{index}","type":["null","C"]}}"#);
    fields.extend((1..1_000).map(field));
    let schema = schema(&fields.join(","));
    let entries = |parents: usize| {
        let entry = |parent| format!("{parent}-0x7F{}", "F".repeat(248));
        (0..parents).map(entry).collect::<Vec<_>>()
    };
    let names = decode(schema.program(), &entries(60)).unwrap();
    assert_eq!(names.len(), 60 * 999);
    assert_eq!(
        decode(schema.program(), &entries(1_000)),
        Err(DecodeError::TooLarge)
    );
}

/// Text that is, or nearly is, an entry.
fn entry() -> impl Strategy<Value = String> {
    prop_oneof![
        "0x[0-9A-Fa-f]{0,12}",
        "[0-9]{1,2}-0x[0-9A-Fa-f]{0,6}",
        "[0-9x\\-G+]{0,8}",
        ".{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn reading_never_panics(entries in prop::collection::vec(entry(), 0..6)) {
        let schema = compounds();
        if let Ok(names) = decode(schema.program(), &entries) {
            prop_assert!(names.len() <= 8 + 5 * 2 + 3 + 2);
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same_names(
        own in prop::collection::btree_set(0_usize..8, 0..8),
        of_address in prop::collection::btree_set(0_usize..5, 0..5),
        of_name in prop::collection::btree_set(0_usize..3, 0..4),
    ) {
        let schema = compounds();
        let own: Vec<usize> = own.into_iter().collect();
        let of_address: Vec<usize> = of_address.into_iter().collect();
        let of_name: Vec<usize> = of_name.into_iter().collect();
        let fields = [whole(&own), children(5, &of_address), children(7, &of_name)].concat();
        let entries = encoded(&schema, fields);

        let mut names: Vec<_> = own.iter().map(|index| format!("f{index}")).collect();
        for (parent, named, all) in [(5, &of_address, 5), (7, &of_name, 3)] {
            if own.contains(&parent) || named.is_empty() {
                continue;
            }
            if named.len() == all {
                names.push(format!("f{parent}"));
            } else {
                names.extend(named.iter().map(|child| format!("f{parent}.c{child}")));
            }
        }
        prop_assert_eq!(decode(schema.program(), &entries).unwrap(), names);
        for entry in &entries {
            prop_assert_eq!(entry.clone(), entry.to_uppercase().replace('X', "x"));
        }
    }
}
