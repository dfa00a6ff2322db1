//! Whole events: golden vectors, what each change says, and what is refused.

use serde_json::{Value, json};

use super::*;
use crate::{
    schema::{
        Schema,
        tests::{SHIPMENT_CHANGE, schema},
    },
    types::limits::EVENT_BYTES_MAX,
};

const ID: &str = "a01000000000001AAA";

fn shipment() -> Schema {
    Schema::parse(SHIPMENT_CHANGE).unwrap()
}

fn facts() -> HeaderFacts {
    HeaderFacts::of_commit("t-1".into(), 1_700_000_000_000, 42)
}

fn facts_of(change_type: ChangeType) -> HeaderFacts {
    HeaderFacts {
        change_type: Some(change_type),
        ..facts()
    }
}

fn change(before: Value, after: Value) -> Change {
    let record = |json: Value| (!json.is_null()).then_some(json);
    Change {
        before: record(before),
        after: record(after),
    }
}

/// A shipment with `edits` over its usual fields.
fn record(edits: Value) -> Value {
    let mut record = json!({
        "Id": ID,
        "OwnerId": "005000000000001AAA",
        "Name": "S-1",
        "CreatedDate": 1_600_000_000_000_i64,
        "CreatedById": "005000000000001AAA",
        "LastModifiedDate": 1_600_000_000_000_i64,
        "LastModifiedById": "005000000000001AAA",
        "Status__c": "packed",
        "Weight__c": 12.5,
        "Dest__c": {"Latitude": 52.5, "Longitude": 13.4},
        "Notes__c": "fragile",
    });
    for (name, value) in edits.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
}

/// The event of a change, as its subscribers see it.
fn event_by(schema: &Schema, before: Value, after: Value, facts: &HeaderFacts) -> Value {
    let payload = build(schema, &change(before, after), facts).unwrap();
    schema.validate(&payload).unwrap();
    schema.to_json(&payload).unwrap()
}

fn event(before: Value, after: Value) -> Value {
    event_by(&shipment(), before, after, &facts())
}

fn refusal_by(schema: &Schema, before: Value, after: Value, facts: &HeaderFacts) -> String {
    let refused = build(schema, &change(before, after), facts);
    refused.unwrap_err().to_string()
}

fn refusal(before: Value, after: Value) -> String {
    refusal_by(&shipment(), before, after, &facts())
}

/// The fields of an event's body that are not null.
fn body(event: &Value) -> Value {
    let fields = event.as_object().unwrap().iter();
    let body = fields.filter(|(name, value)| *name != "ChangeEventHeader" && !value.is_null());
    body.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn header(event: &Value, field: &str) -> Value {
    event["ChangeEventHeader"][field].clone()
}

/// The names of the fields that a bitmap of the header stands for.
fn names(schema: &Schema, event: &Value, field: &str) -> Vec<String> {
    let entries: Vec<String> = serde_json::from_value(header(event, field)).unwrap();
    bitmap::decode(schema.program(), &entries).unwrap()
}

#[test]
fn the_worked_example_is_built_to_the_last_field() {
    let schema = shipment();
    assert_eq!(schema.id().as_str(), "f3QKHTNx1-AikcTiQMLJIw");
    let after = record(json!({
        "LastModifiedDate": 1_700_000_000_000_i64,
        "Status__c": "shipped",
        "Dest__c": {"Latitude": 52.5, "Longitude": 9.9},
        "Notes__c": null,
    }));
    let event = event(record(json!({})), after);
    let expected = json!({
        "ChangeEventHeader": {
            "entityName": "Shipment__c",
            "recordIds": [ID],
            "changeType": "UPDATE",
            "changeOrigin": "",
            "transactionKey": "t-1",
            "sequenceNumber": 1,
            "commitTimestamp": 1_700_000_000_000_i64,
            "commitNumber": 42,
            "commitUser": "005000000000000AAA",
            "nulledFields": ["0x0400"],
            "diffFields": [],
            "changedFields": ["0x04A0", "9-0x02"],
        },
        "OwnerId": null,
        "Name": null,
        "CreatedDate": null,
        "CreatedById": null,
        "LastModifiedDate": 1_700_000_000_000_i64,
        "LastModifiedById": null,
        "Status__c": "shipped",
        "Weight__c": null,
        "Dest__c": {"Latitude": null, "Longitude": 9.9},
        "Notes__c": null,
    });
    assert_eq!(event, expected);
    assert_eq!(
        names(&schema, &event, "changedFields"),
        [
            "LastModifiedDate",
            "Status__c",
            "Notes__c",
            "Dest__c.Longitude"
        ]
    );
    assert_eq!(names(&schema, &event, "nulledFields"), ["Notes__c"]);
}

#[test]
fn the_bytes_of_an_event_are_those_of_avro() {
    let facts = HeaderFacts {
        change_origin: "o".into(),
        sequence_number: 2,
        ..facts_of(ChangeType::GapUpdate)
    };
    let record = json!({"Id": ID});
    let payload = build(&shipment(), &change(record.clone(), record), &facts).unwrap();
    let mut expected = b"\x16Shipment__c\x02\x24a01000000000001AAA\0".to_vec();
    expected.extend(b"\x0a\x02o\x06t-1\x04\x80\xa0\xab\xfe\xf9\x62\x54\x24005000000000000AAA");
    // Three empty arrays and ten nulls.
    expected.extend([0; 3 + 10]);
    assert_eq!(payload, expected);
}

#[test]
fn a_new_record_is_told_with_all_that_it_has() {
    let after = record(json!({"Notes__c": null, "Dest__c": {"Latitude": 1}}));
    for (change_type, before) in [
        (None, Value::Null),
        (Some(ChangeType::Create), Value::Null),
        (Some(ChangeType::Undelete), Value::Null),
        // What was deleted may be known, and may come back as it was.
        (Some(ChangeType::Undelete), after.clone()),
    ] {
        let facts = HeaderFacts {
            change_type,
            ..facts()
        };
        let event = event_by(&shipment(), before, after.clone(), &facts);
        let mut expected = after.clone();
        expected["Dest__c"] = json!({"Latitude": 1.0, "Longitude": null});
        let fields = expected.as_object_mut().unwrap();
        fields.retain(|name, value| name != "Id" && !value.is_null());
        assert_eq!(body(&event), expected);
        let symbol = change_type.unwrap_or(ChangeType::Create).as_str();
        assert_eq!(header(&event, "changeType"), symbol);
        for field in ["changedFields", "nulledFields", "diffFields"] {
            assert_eq!(header(&event, field), json!([]), "{field}");
        }
    }
}

#[test]
fn a_deleted_record_is_told_with_nothing_but_its_header() {
    let event = event(record(json!({})), Value::Null);
    assert_eq!(header(&event, "changeType"), "DELETE");
    assert_eq!(header(&event, "recordIds"), json!([ID]));
    assert_eq!(header(&event, "changedFields"), json!([]));
    assert_eq!(body(&event), json!({}));
}

#[test]
fn a_gap_tells_nothing_of_its_record() {
    let gaps = [
        ChangeType::GapCreate,
        ChangeType::GapUpdate,
        ChangeType::GapDelete,
        ChangeType::GapUndelete,
    ];
    for gap in gaps {
        let before = record(json!({"Status__c": "lost"}));
        let event = event_by(&shipment(), before, record(json!({})), &facts_of(gap));
        assert_eq!(header(&event, "changeType"), gap.as_str());
        assert_eq!(header(&event, "changedFields"), json!([]));
        assert_eq!(body(&event), json!({}));

        let facts = HeaderFacts {
            record_ids: vec![ID.parse().unwrap()],
            ..facts_of(gap)
        };
        let event = event_by(&shipment(), Value::Null, Value::Null, &facts);
        assert_eq!(header(&event, "recordIds"), json!([ID]));
    }
    let overflow = facts_of(ChangeType::GapOverflow);
    for before in [Value::Null, record(json!({}))] {
        let event = event_by(&shipment(), before, Value::Null, &overflow);
        assert_eq!(header(&event, "recordIds"), json!(["000000000000000AAA"]));
    }
}

#[test]
fn a_compound_field_that_comes_or_goes_is_told_by_its_children() {
    let schema = shipment();
    let whole = json!({"Latitude": 1.0, "Longitude": 2.0});
    let half = json!({"Latitude": 1.0, "Longitude": null});
    // Before, after, what is sent, which children changed, and which of them became null.
    for (before, after, sent, changed, nulled) in [
        (json!(null), whole.clone(), whole.clone(), "9-0x03", None),
        (json!(null), half.clone(), half.clone(), "9-0x01", None),
        (
            whole.clone(),
            json!(null),
            json!(null),
            "9-0x03",
            Some("9-0x03"),
        ),
        (
            half.clone(),
            json!(null),
            json!(null),
            "9-0x01",
            Some("9-0x01"),
        ),
        (
            whole.clone(),
            half.clone(),
            json!({"Latitude": null, "Longitude": null}),
            "9-0x02",
            Some("9-0x02"),
        ),
        (
            half.clone(),
            whole.clone(),
            json!({"Latitude": null, "Longitude": 2.0}),
            "9-0x02",
            None,
        ),
    ] {
        let event = event(
            record(json!({"Dest__c": before})),
            record(json!({"Dest__c": after})),
        );
        assert_eq!(event["Dest__c"], sent);
        assert_eq!(header(&event, "changedFields"), json!(["0x00", changed]));
        let nulled = nulled.map_or(json!([]), |nulled| json!(["0x00", nulled]));
        assert_eq!(header(&event, "nulledFields"), nulled);
    }
    let cleared = event(
        record(json!({"Dest__c": whole})),
        record(json!({"Dest__c": null})),
    );
    assert_eq!(names(&schema, &cleared, "nulledFields"), ["Dest__c"]);
}

/// A change event schema with these fields after the header.
fn with_fields(fields: &str) -> Schema {
    let mut json: Value = serde_json::from_str(SHIPMENT_CHANGE).unwrap();
    let fields: Vec<Value> = serde_json::from_str(&format!("[{fields}]")).unwrap();
    let all = json["fields"].as_array_mut().unwrap();
    all.truncate(1);
    all.extend(fields);
    Schema::parse(&json.to_string()).unwrap()
}

/// A change event schema whose header is changed by `edit`.
fn with_header(edit: impl FnOnce(&mut Vec<Value>)) -> Schema {
    let mut json: Value = serde_json::from_str(SHIPMENT_CHANGE).unwrap();
    let header = &mut json["fields"][0]["type"]["fields"];
    edit(header.as_array_mut().unwrap());
    Schema::parse(&json.to_string()).unwrap()
}

#[test]
fn a_name_that_is_text_or_a_record_is_told_in_the_way_that_it_changed() {
    let schema = with_fields(
        r#"{"name":"Name","type":["null","string",{"type":"record","name":"Switchable_PersonName",
            "fields":[{"name":"FirstName","type":["null","string"],"default":null},
                      {"name":"LastName","type":["null","string"],"default":null}]}],"default":null}"#,
    );
    let ada = json!({"FirstName": "Ada", "LastName": "King"});
    let byron = json!({"FirstName": "Ada", "LastName": "Byron"});
    for (before, after, sent, changed, nulled) in [
        (
            json!("A"),
            json!("B"),
            json!("B"),
            json!(["0x02"]),
            json!([]),
        ),
        (
            json!("A"),
            json!(null),
            json!(null),
            json!(["0x02"]),
            json!(["0x02"]),
        ),
        (
            json!("A"),
            ada.clone(),
            ada.clone(),
            json!(["0x02"]),
            json!([]),
        ),
        (
            ada.clone(),
            json!("A"),
            json!("A"),
            json!(["0x02"]),
            json!([]),
        ),
        (
            byron.clone(),
            ada.clone(),
            json!({"FirstName": null, "LastName": "King"}),
            json!(["0x00", "1-0x02"]),
            json!([]),
        ),
        (
            json!(null),
            ada.clone(),
            ada.clone(),
            json!(["0x00", "1-0x03"]),
            json!([]),
        ),
    ] {
        let record = |name: Value| json!({"Id": ID, "Name": name});
        let event = event_by(&schema, record(before), record(after), &facts());
        assert_eq!(event["Name"], sent);
        assert_eq!(header(&event, "changedFields"), changed);
        assert_eq!(header(&event, "nulledFields"), nulled);
    }
}

#[test]
fn a_record_whose_children_clients_do_not_find_is_told_whole() {
    let inner = |name| {
        format!(
            r#"{{"type":"record","name":"{name}","fields":[
                {{"name":"a","type":["null","int"]}},{{"name":"b","type":["null","int"]}}]}}"#
        )
    };
    let required = inner("C").replace(r#"["null","int"]"#, r#""int""#);
    let schema = with_fields(&format!(
        r#"{{"name":"last","type":[{},"null"]}},{{"name":"two","type":["null",{},"A"]}},
           {{"name":"required","type":["null",{required}]}}"#,
        inner("A"),
        inner("B")
    ));
    let before = json!({"a": 1, "b": 1});
    let after = json!({"a": 1, "b": 2});
    let branch = "com.sforce.eventbus.B";
    for (field, before, after, changed) in [
        ("last", before.clone(), after.clone(), "0x02"),
        (
            "two",
            json!({branch: before}),
            json!({branch: after}),
            "0x04",
        ),
        ("required", before.clone(), after.clone(), "0x08"),
    ] {
        let record = |value: Value| json!({"Id": ID, field: value});
        let event = event_by(&schema, record(before), record(after.clone()), &facts());
        assert_eq!(event[field], after, "{field}");
        assert_eq!(header(&event, "changedFields"), json!([changed]));
    }
}

#[test]
fn values_are_compared_as_the_schema_reads_them() {
    let before = record(json!({"Weight__c": 12, "Notes__c": null, "Dest__c": null}));
    let mut after = record(json!({
        "Weight__c": 12.0,
        "LastModifiedDate": "1600000000000",
        "Dest__c": {"Latitude": null},
    }));
    after.as_object_mut().unwrap().remove("Notes__c");
    assert_eq!(
        refusal(before.clone(), after.clone()),
        "nothing changed: every field of the record after has the value that it had before"
    );
    after["Name"] = json!("S-2");
    let event = event(before, after);
    assert_eq!(body(&event), json!({"Name": "S-2"}));
    assert_eq!(header(&event, "changedFields"), json!(["0x04"]));
}

#[test]
fn what_a_record_has_beside_its_fields_is_passed_over() {
    let mut before = record(json!({}));
    before["attributes"] = json!({"type": "Shipment__c", "url": "/services/data/v62.0"});
    before["IsDeleted"] = json!(false);
    before["SystemModstamp"] = json!("2023-11-14T22:13:20.000+0000");
    let mut after = before.clone();
    after["SystemModstamp"] = json!("2023-11-15T22:13:20.000+0000");
    assert!(refusal(before.clone(), after.clone()).starts_with("nothing changed"));
    after["Status__c"] = json!("shipped");
    let event = event(before, after);
    assert_eq!(body(&event), json!({"Status__c": "shipped"}));
}

#[test]
fn a_field_of_a_name_that_is_passed_over_is_a_field_all_the_same() {
    let schema = with_fields(r#"{"name":"IsDeleted","type":["null","boolean"]}"#);
    let record = |is_deleted| json!({"Id": ID, "IsDeleted": is_deleted});
    let event = event_by(&schema, record(false), record(true), &facts());
    assert_eq!(body(&event), json!({"IsDeleted": true}));
}

#[test]
fn a_default_that_is_not_null_is_not_taken_for_a_change() {
    let schema = with_fields(
        r#"{"name":"Status__c","type":["string","null"],"default":"new"},
           {"name":"Name","type":["null","string"],"default":null}"#,
    );
    let record = |name| json!({"Id": ID, "Name": name});
    let event = event_by(&schema, record("a"), record("b"), &facts());
    assert_eq!(body(&event), json!({"Name": "b"}));
    let event = event_by(&schema, record("a"), Value::Null, &facts());
    assert_eq!(body(&event), json!({}));
}

#[test]
fn the_id_is_that_of_the_record_unless_others_are_given() {
    let short = &ID[..15];
    let after = record(json!({"Id": short, "Name": "S-2"}));
    let event = event(record(json!({})), after.clone());
    assert_eq!(header(&event, "recordIds"), json!([ID]));

    let mut without = record(json!({}));
    without.as_object_mut().unwrap().remove("Id");
    let event = self::event(without, after.clone());
    assert_eq!(header(&event, "recordIds"), json!([ID]));

    let facts = HeaderFacts {
        record_ids: vec!["a01000000000002".parse().unwrap(), "a01*".parse().unwrap()],
        ..facts()
    };
    let event = event_by(&shipment(), record(json!({})), after, &facts);
    let given = json!(["a01000000000002AAA", "a01*"]);
    assert_eq!(header(&event, "recordIds"), given);
}

#[test]
fn the_header_says_what_the_caller_knows() {
    let facts = HeaderFacts {
        entity_name: Some("Parcel__c".into()),
        change_origin: "com/salesforce/api/rest/62.0;client=shop".into(),
        transaction_key: "0000-key".into(),
        sequence_number: 3,
        commit_timestamp_ms: 1,
        commit_number: i64::MAX,
        commit_user: "005000000000001".parse().unwrap(),
        ..facts()
    };
    let event = event_by(&shipment(), Value::Null, record(json!({})), &facts);
    for (field, value) in [
        ("entityName", json!("Parcel__c")),
        (
            "changeOrigin",
            json!("com/salesforce/api/rest/62.0;client=shop"),
        ),
        ("transactionKey", json!("0000-key")),
        ("sequenceNumber", json!(3)),
        ("commitTimestamp", json!(1)),
        ("commitNumber", json!(i64::MAX.to_string())),
        ("commitUser", json!("005000000000001AAA")),
    ] {
        assert_eq!(header(&event, field), value, "{field}");
    }
}

#[test]
fn the_kind_of_record_is_told_by_the_name_of_its_events() {
    let entity = |name: &str| {
        let text = SHIPMENT_CHANGE.replace("Shipment__ChangeEvent", name);
        let schema = Schema::parse(&text).unwrap();
        build(&schema, &change(Value::Null, record(json!({}))), &facts())
            .map(|payload| header(&schema.to_json(&payload).unwrap(), "entityName"))
            .map_err(|error| error.to_string())
    };
    assert_eq!(entity("AccountChangeEvent"), Ok(json!("Account")));
    assert_eq!(
        entity("ns__Shipment__ChangeEvent"),
        Ok(json!("ns__Shipment__c"))
    );
    for name in ["ChangeEvent", "__ChangeEvent", "Shipment__c"] {
        let refused = entity(name).unwrap_err();
        assert_eq!(
            refused,
            format!("the name {name} tells no kind of record, wanted one that ends in ChangeEvent")
        );
    }
}

#[test]
fn records_that_are_not_of_the_schema_are_refused() {
    assert_eq!(
        refusal(record(json!({"Statsu__c": "lost"})), record(json!({}))),
        "the record before: Shipment__ChangeEvent has no field Statsu__c, did you mean Status__c?"
    );
    assert_eq!(
        refusal(record(json!({})), record(json!({"Weight__c": "heavy"}))),
        "the record after: field Weight__c: found a string, wanted null or a double"
    );
    assert_eq!(
        refusal(Value::Null, json!([1])),
        "the record after: found an array, wanted an object with the fields of Shipment__ChangeEvent"
    );
    // Deletions and gaps send nothing of a record, and read it all the same.
    let gap = facts_of(ChangeType::GapDelete);
    let typo = refusal_by(&shipment(), record(json!({"Nmae": 1})), Value::Null, &gap);
    assert!(typo.contains("did you mean Name?"), "{typo}");
    let header = json!({"ChangeEventHeader": {}, "Name": "S-1"});
    assert_eq!(
        refusal(Value::Null, header),
        "the record after: found a ChangeEventHeader, wanted the fields of a record alone"
    );
}

#[test]
fn ids_that_are_none_or_of_two_records_are_refused() {
    assert_eq!(
        refusal(record(json!({"Id": "a01"})), record(json!({}))),
        "the record before: field Id: an id has 15 or 18 characters, this one has 3"
    );
    assert_eq!(
        refusal(Value::Null, record(json!({"Id": 7}))),
        "the record after: field Id: found a number, wanted a string"
    );
    assert_eq!(
        refusal(record(json!({})), record(json!({"Id": "a01000000000002"}))),
        "the Id before is a01000000000001AAA and the Id after is a01000000000002AAA, wanted one record"
    );
    for record in [json!({"Name": "S-1"}), json!({"Id": null, "Name": "S-1"})] {
        assert_eq!(
            refusal(Value::Null, record),
            "found no record id, wanted the field Id in a record, or an id given with it"
        );
    }
    let text = "a01000000000001 ".parse::<RecordId>().unwrap_err();
    assert_eq!(
        text.to_string(),
        "an id has 15 or 18 characters, this one has 16"
    );
    for star in ["*", "a0*", "a0!*", "a010*", "a01**"] {
        assert_eq!(star.parse::<RecordId>(), Err(RecordIdError::Wildcard));
    }
}

#[test]
fn records_that_make_another_change_are_refused() {
    let some = || record(json!({}));
    let none = || Value::Null;
    assert_eq!(
        refusal(none(), none()),
        "found neither a record before nor one after, wanted at least one"
    );
    for (change_type, before, after, wanted) in [
        (
            ChangeType::Create,
            some(),
            some(),
            "found a record before and one after, but CREATE is a change of no record into one",
        ),
        (
            ChangeType::Update,
            none(),
            some(),
            "found no record before and one after, but UPDATE is a change of one record into another",
        ),
        (
            ChangeType::Delete,
            none(),
            none(),
            "found no record before and none after, but DELETE is a change of one record into none",
        ),
        (
            ChangeType::Undelete,
            some(),
            none(),
            "found a record before and none after, but UNDELETE is a change of any or no record into one",
        ),
    ] {
        let found = refusal_by(&shipment(), before, after, &facts_of(change_type));
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_schema_of_a_time_without_a_change_type_has_none_of_it() {
    let old = with_header(|header| {
        header[2]["type"]["symbols"] = json!(["CREATE", "DELETE", "UPDATE"]);
        header[2]["type"]["namespace"] = json!("");
    });
    // The symbol's place in this schema counts, and not in a newer one.
    let event = event_by(&old, Value::Null, record(json!({})), &facts());
    assert_eq!(header(&event, "changeType"), "CREATE");
    let event = event_by(&old, record(json!({})), Value::Null, &facts());
    assert_eq!(header(&event, "changeType"), "DELETE");
    let gap = facts_of(ChangeType::GapUpdate);
    assert_eq!(
        refusal_by(&old, Value::Null, record(json!({})), &gap),
        "the schema has no change type GAP_UPDATE, only CREATE, DELETE, UPDATE"
    );
}

#[test]
fn a_schema_that_is_not_one_of_change_events_is_refused() {
    let refused = |schema: &Schema| refusal_by(schema, Value::Null, json!({}), &facts());
    let first = "wanted a first field ChangeEventHeader, a record of that name";
    for (fields, found) in [
        ("", "no field".to_owned()),
        (r#"{"name":"a","type":"int"}"#, "a, of type int".to_owned()),
        (
            r#"{"name":"ChangeEventHeader","type":["null","string"]}"#,
            "ChangeEventHeader, of type null or string".to_owned(),
        ),
        (
            r#"{"name":"ChangeEventHeader","type":{"type":"record","name":"Other","fields":[]}}"#,
            "ChangeEventHeader, of type record".to_owned(),
        ),
    ] {
        assert_eq!(
            refused(&schema(fields)),
            format!("R is no schema of change events: found {found}, {first}")
        );
    }
    let start = "Shipment__ChangeEvent is no schema of change events: found ";
    let field = r#"{"name":"Count__c","type":"int"}"#;
    assert_eq!(
        refused(&with_fields(field)),
        format!("{start}the field Count__c, of type int, wanted every field of the body nullable")
    );
    let edited = |at: usize, ty: Value| with_header(|header| header[at]["type"] = ty);
    for (schema, found) in [
        (
            with_header(|header| _ = header.remove(8)),
            "no field ChangeEventHeader.commitUser, wanted a string",
        ),
        (
            edited(1, json!({"type": "array", "items": "int"})),
            "ChangeEventHeader.recordIds, an array of int, wanted an array of strings",
        ),
        (
            edited(2, json!("string")),
            "ChangeEventHeader.changeType, of type string, wanted an enum",
        ),
        (
            edited(5, json!("long")),
            "ChangeEventHeader.sequenceNumber, of type long, wanted an int",
        ),
        (
            edited(6, json!(["null", "long"])),
            "ChangeEventHeader.commitTimestamp, of type null or long, wanted a long",
        ),
        (
            with_header(|header| header.push(json!({"name": "more", "type": "int"}))),
            "ChangeEventHeader.more, of type int, wanted no further field, or a nullable one",
        ),
    ] {
        assert_eq!(refused(&schema), format!("{start}{found}"));
    }
}

#[test]
fn further_fields_of_a_header_that_can_be_left_out_are() {
    let newer = with_header(|header| {
        header.push(json!({"name": "more", "type": ["null", "int"]}));
        header.push(json!({"name": "count", "type": "int", "default": 7}));
    });
    let event = event_by(&newer, Value::Null, record(json!({})), &facts());
    assert_eq!(header(&event, "more"), Value::Null);
    assert_eq!(header(&event, "count"), 7);
}

#[test]
fn an_event_that_is_too_large_is_refused() {
    let text = "x".repeat(EVENT_BYTES_MAX);
    let too_large = refusal(Value::Null, record(json!({"Notes__c": text})));
    assert!(
        too_large.starts_with("the record after: the value takes more"),
        "{too_large}"
    );
    let facts = HeaderFacts {
        change_origin: text,
        ..facts()
    };
    let too_large = refusal_by(&shipment(), Value::Null, record(json!({})), &facts);
    assert!(
        too_large.starts_with("the change event: the value takes more"),
        "{too_large}"
    );
}

#[test]
fn change_types_are_the_symbols_of_the_schema() {
    for change_type in ChangeType::ALL {
        assert_eq!(change_type.to_string().parse(), Ok(change_type));
        assert!(SHIPMENT_CHANGE.contains(&format!("\"{change_type}\"")));
    }
    let refused = "update".parse::<ChangeType>().unwrap_err().to_string();
    assert!(
        refused.starts_with("wanted one of CREATE, UPDATE, DELETE"),
        "{refused}"
    );
}
