//! The versions of the event type, and what their events hold.

use serde_json::{Value, json};
use tidegate::schema::Schema;

/// Their number.
pub(super) const VERSIONS: usize = 5;

/// The fields of a version beyond those that every event begins with: name, type, and the value in
/// event number `number`.
fn fields(version: usize, number: usize) -> Vec<(&'static str, &'static str, Value)> {
    let small = ("Number__c", r#""int""#, json!(number));
    // More than the type could hold before.
    let large = (
        "Number__c",
        r#""long""#,
        json!(5_000_000_000 + number as u64),
    );
    let carrier = (
        "Carrier__c",
        r#""string""#,
        json!(format!("Carrier {number}")),
    );
    let weight = ("Weight__c", r#""double""#, json!(number as f64 + 0.5));
    let fragile = (
        "Fragile__c",
        r#""boolean""#,
        [Value::Null, json!(true), json!(false)][number % 3].clone(),
    );
    let to = (
        "To__c",
        r#"{"type":"record","name":"Place","fields":[
            {"name":"City","type":["null","string"],"default":null},
            {"name":"Gate","type":["null","int"],"default":null}]}"#,
        json!({"City": format!("Harbour {number}"), "Gate": null}),
    );
    match version {
        1 => vec![small, carrier],
        2 => vec![small, carrier, weight],
        3 => vec![small, carrier, weight, fragile],
        4 => vec![small, weight, fragile],
        _ => vec![large, weight, fragile, to],
    }
}

pub(super) fn schema(version: usize) -> String {
    let fields = fields(version, 0).into_iter().map(|(name, of, _)| {
        format!(
            r#", {{"name":"{name}","type":["null",{of}],"doc":"Data:Any:00NXX","default":null}}"#
        )
    });
    format!(
        r#"{{"type":"record","name":"Shipment__e","namespace":"com.sforce.eventbus","fields":[
        {{"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"}},
        {{"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"}}{}]}}"#,
        fields.collect::<String>()
    )
}

pub(super) fn schema_id(version: usize) -> String {
    let schema = Schema::parse(&schema(version)).unwrap();
    schema.id().to_string()
}

pub(super) fn record(version: usize, number: usize) -> Value {
    let mut record = json!({
        "CreatedDate": 1_700_000_000_000u64 + number as u64,
        "CreatedById": "005000000000001AAA",
    });
    for (name, _, value) in fields(version, number) {
        record[name] = value;
    }
    record
}
