use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    cli::{
        exit::Exit,
        fake_gateway::{FakeGateway, ORDER_CREATED_ID},
        output::Format,
    },
    schema::{Fill, Schema},
};

const TOPIC: &str = "/data/Shipment__ChangeEvent";
const SHIPMENT_CHANGE: &str = include_str!("../../../../schemas/Shipment__ChangeEvent.avsc");
const ID: &str = "a01000000000001AAA";

/// Arguments with two files of these texts.
fn arguments(dir: &TempDir, before: &str, after: &str) -> ChangeArgs {
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    ChangeArgs {
        change: Some(vec![file("before.json", before), file("after.json", after)]),
        change_type: None,
        record_id: Vec::new(),
        change_origin: None,
        transaction_key: None,
        commit_user: None,
    }
}

/// A gateway with a topic of change events.
async fn gateway() -> FakeGateway {
    let gateway = FakeGateway::start().await;
    set_schema(&gateway, &schema().id().to_string());
    gateway
}

/// Gives the topic the schema of this id.
fn set_schema(gateway: &FakeGateway, id: &str) {
    let mut state = gateway.state.lock().unwrap();
    state.topics.insert(TOPIC.into(), id.to_owned());
    state
        .schemas
        .insert(schema().id().to_string(), SHIPMENT_CHANGE.into());
}

fn schema() -> Schema {
    Schema::parse(SHIPMENT_CHANGE).unwrap()
}

/// Publishes the change and returns the result line, and how the command ended.
async fn publish_change(
    gateway: &FakeGateway,
    arguments: ChangeArgs,
) -> (Value, Result<(), Failure>) {
    let topic = TOPIC.parse().unwrap();
    let change = arguments.open(&topic).await.unwrap().unwrap();
    let mut output = Output::new(Format::Json, Vec::new());
    let connection = gateway.connect().await;
    let ended = publish(&connection, topic, &change, &mut output).await;
    let line = output.into_writer();
    (serde_json::from_slice(&line).unwrap_or_default(), ended)
}

/// The payload of the only event that was stored.
fn stored(gateway: &FakeGateway) -> Value {
    let state = gateway.state.lock().unwrap();
    assert_eq!(state.events.len(), 1);
    schema().to_json(&state.events[0].payload).unwrap()
}

async fn refusal_of_files(before: &str, after: &str) -> String {
    let dir = TempDir::new().unwrap();
    let arguments = arguments(&dir, before, after);
    let failure = arguments.open(&TOPIC.parse().unwrap()).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    failure.to_string()
}

#[tokio::test]
async fn a_change_is_published_with_its_header_filled_in() {
    let (gateway, dir) = (gateway().await, TempDir::new().unwrap());
    let before = json!({"Id": ID, "Name": "S-1", "Status__c": "packed"});
    let after = json!({"Id": ID, "Name": "S-1", "Status__c": "shipped"});
    let arguments = arguments(&dir, &before.to_string(), &after.to_string());
    let (result, ended) = publish_change(&gateway, arguments).await;
    ended.unwrap();
    assert_eq!(result["replay_id"], "00000000000000010000");
    assert_eq!(result["error"], Value::Null);
    assert_eq!(result["event_id"].as_str().unwrap().len(), 36);
    let event = stored(&gateway);
    let header = &event["ChangeEventHeader"];
    assert_eq!(header["entityName"], "Shipment__c");
    assert_eq!(header["recordIds"], json!([ID]));
    assert_eq!(header["changeType"], "UPDATE");
    assert_eq!(header["changeOrigin"], "");
    assert_eq!(header["transactionKey"].as_str().unwrap().len(), 36);
    assert_eq!(header["sequenceNumber"], 1);
    assert!(header["commitTimestamp"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(header["commitNumber"], header["commitTimestamp"]);
    assert_eq!(header["commitUser"], Fill::NOBODY);
    assert_eq!(header["changedFields"], json!(["0x80"]));
    assert_eq!(event["Status__c"], "shipped");
    assert_eq!(event["Name"], Value::Null);
}

#[tokio::test]
async fn what_is_given_goes_over_what_the_files_tell() {
    let (gateway, dir) = (gateway().await, TempDir::new().unwrap());
    let given = ChangeArgs {
        change_type: Some(ChangeType::Undelete),
        record_id: vec!["a01000000000002".parse().unwrap(), "a01*".parse().unwrap()],
        change_origin: Some("com/salesforce/api/rest/62.0;client=shop".into()),
        transaction_key: Some("key".into()),
        commit_user: Some("005000000000001".parse().unwrap()),
        ..arguments(&dir, "null", r#"{"Name": "S-1"}"#)
    };
    publish_change(&gateway, given).await.1.unwrap();
    let header = stored(&gateway)["ChangeEventHeader"].take();
    assert_eq!(header["changeType"], "UNDELETE");
    assert_eq!(header["recordIds"], json!(["a01000000000002AAA", "a01*"]));
    assert_eq!(
        header["changeOrigin"],
        "com/salesforce/api/rest/62.0;client=shop"
    );
    assert_eq!(header["transactionKey"], "key");
    assert_eq!(header["commitUser"], "005000000000001AAA");
}

#[tokio::test]
async fn a_file_that_is_empty_or_null_is_no_record() {
    let record = json!({"Id": ID, "Name": "S-1"}).to_string();
    for (before, after, change_type) in [
        ("", record.as_str(), "CREATE"),
        (" null\n", &record, "CREATE"),
        (&record, "\n", "DELETE"),
    ] {
        let (gateway, dir) = (gateway().await, TempDir::new().unwrap());
        let arguments = arguments(&dir, before, after);
        publish_change(&gateway, arguments).await.1.unwrap();
        let event = stored(&gateway);
        assert_eq!(event["ChangeEventHeader"]["changeType"], change_type);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_device_that_is_empty_is_no_record() {
    assert_eq!(read(Path::new("/dev/null")).await.unwrap(), None);
    // One without an end is read as far as a record goes.
    let endless = read(Path::new("/dev/zero")).await.unwrap_err();
    assert!(endless.to_string().contains("more than"), "{endless}");
}

#[tokio::test]
async fn a_change_that_is_none_is_refused_in_its_result() {
    let record = json!({"Id": ID, "Status__c": "packed"}).to_string();
    let typo = json!({"Id": ID, "Statsu__c": "shipped"}).to_string();
    let no_id = json!({"Status__c": "shipped"}).to_string();
    for (before, after, error) in [
        (&record, &record, "nothing changed"),
        (
            &record,
            &typo,
            "after.json: Shipment__ChangeEvent has no field",
        ),
        (
            &typo,
            &record,
            "before.json: Shipment__ChangeEvent has no field",
        ),
        (&no_id, &"".into(), "--record-id gives one"),
    ] {
        let (gateway, dir) = (gateway().await, TempDir::new().unwrap());
        let arguments = arguments(&dir, before, after);
        let (result, ended) = publish_change(&gateway, arguments).await;
        let found = result["error"].as_str().unwrap();
        assert!(found.contains(error), "{found}");
        let failure = ended.unwrap_err();
        assert_eq!(failure.exit(), Exit::Failed);
        assert_eq!(failure.to_string(), "1 of 1 events were not published");
        assert!(gateway.state.lock().unwrap().publishes.is_empty());
    }
}

#[tokio::test]
async fn a_topic_whose_schema_is_none_of_change_events_is_refused() {
    let (gateway, dir) = (gateway().await, TempDir::new().unwrap());
    set_schema(&gateway, ORDER_CREATED_ID);
    let arguments = arguments(&dir, "", &json!({"Id": ID}).to_string());
    let (result, ended) = publish_change(&gateway, arguments).await;
    assert!(ended.is_err());
    let error = result["error"].as_str().unwrap();
    assert!(
        error.starts_with("OrderCreated__e is no schema of change events"),
        "{error}"
    );
}

#[tokio::test]
async fn a_topic_that_may_not_be_published_to_is_told_before_anything_is_sent() {
    let (gateway, dir) = (gateway().await, TempDir::new().unwrap());
    gateway.state.lock().unwrap().refuses_publishing = true;
    let arguments = arguments(&dir, "", &json!({"Id": ID}).to_string());
    let (_, ended) = publish_change(&gateway, arguments).await;
    assert_eq!(ended.unwrap_err().exit(), Exit::NotPermitted);
}

#[tokio::test]
async fn a_topic_without_change_events_is_refused_before_files_are_read() {
    for topic in [
        "/event/OrderCreated__e",
        "/data/ChangeEvents",
        "/data/Sales__chn",
    ] {
        let arguments = ChangeArgs {
            change: Some(vec!["no-such-file".into(), "no-such-file".into()]),
            ..arguments(&TempDir::new().unwrap(), "", "")
        };
        let failure = arguments.open(&topic.parse().unwrap()).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(
            failure.to_string(),
            format!(
                "{topic} is no topic of change events, wanted one such as /data/Shipment__ChangeEvent"
            )
        );
    }
}

#[tokio::test]
async fn files_that_hold_no_record_are_refused_by_name() {
    let broken = refusal_of_files("{}", "{\"Name\": ").await;
    assert!(broken.contains("after.json is not JSON: EOF"), "{broken}");
    let long = refusal_of_files(&" ".repeat(PUBLISH_LINE_BYTES_MAX + 1), "{}").await;
    assert!(
        long.contains("before.json has more than 8388608 bytes"),
        "{long}"
    );

    let dir = TempDir::new().unwrap();
    let missing = read(&dir.path().join("missing.json")).await.unwrap_err();
    assert_eq!(missing.exit(), Exit::Usage);
    assert!(
        missing.to_string().contains("missing.json cannot be read"),
        "{missing}"
    );
    let directory = read(dir.path()).await.unwrap_err();
    assert!(
        directory.to_string().contains("is a directory"),
        "{directory}"
    );
}
