//! The command line against a real gateway, which it finds by the profile in the data directory.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway,
    order::{OTHER_SCHEMA_ID, OTHER_TOPIC, SCHEMA_ID, TOPIC},
    wait::until,
};

/// Exit codes, as `tidegate --help` lists them.
const FAILED: i32 = 1;
const NOT_PERMITTED: i32 = 4;

/// `tidegate` with these arguments, words separated by spaces, for this gateway.
fn tidegate(gateway: &Gateway, arguments: &str) -> Command {
    gateway.command(arguments)
}

fn run(mut command: Command) -> Output {
    command.output().expect("the program can be run")
}

/// The JSON lines that a command prints which succeeds.
#[track_caller]
fn rows(mut command: Command) -> Vec<Value> {
    let output = run({
        command.args(["--output", "json"]);
        command
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let rows = stdout.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().unwrap()
}

/// Holds a command to end with this exit code and an error that has `word`.
#[track_caller]
fn expect_error(command: Command, code: i32, word: &str) {
    let output = run(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(
        stderr.starts_with("error: ") && stderr.contains(word),
        "{stderr}"
    );
}

fn publish(gateway: &Gateway, topic: &str, json: &str) -> Command {
    let mut command = tidegate(gateway, &format!("publish {topic}"));
    command.args(["--json", json]);
    command
}

#[test]
fn a_time_says_where_to_begin() {
    let gateway = Gateway::start();
    let order = r#"{"Order_Number__c": "A-17"}"#;
    let first = rows(publish(&gateway, TOPIC, order));
    let place = |time: &str| {
        let mut rows = rows(tidegate(
            &gateway,
            &format!("topic replay-id {TOPIC} {time}"),
        ));
        rows.pop().unwrap()
    };
    let subscribe = |from: &str| {
        let rows = rows(tidegate(
            &gateway,
            &format!("subscribe {TOPIC} --from {from} --count 1"),
        ));
        rows[0]["replay_id"].clone()
    };
    let begun = place("-1h");
    let first_at: jiff::Timestamp = begun["next_at"].as_str().unwrap().parse().unwrap();
    let behind = first_at + jiff::SignedDuration::from_millis(1);
    let behind = behind.to_string();
    // The clock has to have moved on by a millisecond, which it has after a command or two.
    let mut second = rows(publish(&gateway, TOPIC, order));
    while place(&behind)["next_at"].is_null() {
        second = rows(publish(&gateway, TOPIC, order));
    }
    for from in [
        "-1h",
        &first_at.to_string(),
        begun["replay_id"].as_str().unwrap(),
    ] {
        assert_eq!(subscribe(from), first[0]["replay_id"], "{from}");
    }
    assert_eq!(subscribe(&behind), second[0]["replay_id"]);
    let future = format!("subscribe {TOPIC} --from 2100-01-01T00:00Z --count 1");
    expect_error(tidegate(&gateway, &future), FAILED, "is in the future");
    let future = format!("topic replay-id {TOPIC} 2100-01-01T00:00Z");
    expect_error(tidegate(&gateway, &future), FAILED, "is in the future");
}

#[test]
fn a_filter_says_which_events_are_printed() {
    let gateway = Gateway::start();
    for (number, amount) in [
        ("A-1", 5.0),
        ("B-1", 50.0),
        ("A-2", 500.0),
        ("a-3", 5_000.0),
    ] {
        let order = format!(r#"{{"Order_Number__c": "{number}", "Amount__c": {amount}}}"#);
        rows(publish(&gateway, TOPIC, &order));
    }
    let filtered = |filter: &str| {
        let arguments = format!("subscribe {TOPIC} --from earliest --idle-exit 500ms");
        let mut command = tidegate(&gateway, &arguments);
        command.args(["--filter", filter]);
        command
    };
    let found = rows(filtered("Order_Number__c LIKE 'A-%' AND Amount__c > 100"));
    let numbers = found
        .iter()
        .map(|row| row["payload"]["Order_Number__c"].as_str().unwrap());
    assert_eq!(numbers.collect::<Vec<_>>(), ["A-2", "a-3"]);
    expect_error(
        filtered("Amount__c > 'x'"),
        FAILED,
        "the filter is wrong at character 13: the field Amount__c is null or double and compared with a \
         number, found a text",
    );
    expect_error(
        filtered("Amount__c >"),
        FAILED,
        "the filter is wrong at character 12: found the end, wanted a value",
    );
}

#[test]
fn what_is_published_is_printed_by_a_subscriber() {
    let gateway = Gateway::start();
    let order = r#"{"Order_Number__c": "A-17", "Amount__c": 42.5}"#;
    let published = rows(publish(&gateway, TOPIC, order));
    assert_eq!(published.len(), 1);
    let earliest = format!("subscribe {TOPIC} --from earliest --count 1");
    let read = rows(tidegate(&gateway, &earliest));
    for key in ["replay_id", "event_id"] {
        assert_eq!(published[0][key], read[0][key], "{key}");
    }
    let payload = &read[0]["payload"];
    assert_eq!(payload["Order_Number__c"], "A-17");
    assert_eq!(payload["Amount__c"], 42.5);
    assert_eq!(payload["Priority__c"], Value::Null);
    assert!(payload["CreatedDate"].is_i64() && payload["CreatedById"].is_string());

    // And on from there: the id it printed is one that it takes.
    let replay_id = read[0]["replay_id"].as_str().unwrap();
    let second = rows(publish(&gateway, TOPIC, order));
    let next = format!("subscribe {TOPIC} --from {replay_id} --count 1");
    let read = rows(tidegate(&gateway, &next));
    assert_eq!(second[0]["replay_id"], read[0]["replay_id"]);

    let typo = publish(&gateway, TOPIC, r#"{"Order_Numbr__c": "A-17"}"#);
    let output = run(typo);
    assert_eq!(output.status.code(), Some(FAILED));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("did you mean Order_Number__c?"), "{said}");
}

#[test]
fn a_token_opens_what_its_patterns_name_until_it_is_revoked() {
    let gateway = Gateway::start();
    let create = format!("token create --name reader --subscribe {TOPIC}");
    let created = rows(tidegate(&gateway, &create)).remove(0);
    let with_token = |mut command: Command| {
        command.env("TIDEGATE_TOKEN", created["access_token"].as_str().unwrap());
        command
    };
    rows(publish(&gateway, TOPIC, "{}"));
    let read = || {
        let arguments = format!("subscribe {TOPIC} --from earliest --count 1");
        with_token(tidegate(&gateway, &arguments))
    };
    assert_eq!(rows(read()).len(), 1);
    expect_error(
        with_token(publish(&gateway, TOPIC, "{}")),
        NOT_PERMITTED,
        "publish",
    );
    expect_error(
        with_token(tidegate(&gateway, &format!("subscribe {OTHER_TOPIC}"))),
        NOT_PERMITTED,
        "topic",
    );
    let topics = rows(with_token(tidegate(&gateway, "topic list")));
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0]["name"], TOPIC);
    assert_eq!(topics[0]["can_publish"], false);
    assert_eq!(topics[0]["can_subscribe"], true);
    let administers = with_token(tidegate(&gateway, "token list"));
    expect_error(administers, NOT_PERMITTED, "administrator");

    let id = created["id"].as_str().unwrap();
    let of_reader = || {
        let mut tokens = rows(tidegate(&gateway, "token list"));
        tokens.retain(|token| token["id"] == id);
        tokens.remove(0)
    };
    let listed = of_reader();
    assert_eq!(listed["name"], "reader");
    assert_eq!(listed["subscribe"], json!([TOPIC]));
    assert_eq!(listed["access_token"], Value::Null, "it is shown once");
    assert_eq!(listed["revoked_at"], Value::Null);

    rows(tidegate(&gateway, &format!("token revoke {id}")));
    assert!(of_reader()["revoked_at"].is_string());
    expect_error(read(), NOT_PERMITTED, "authentication exception occurred");
}

#[test]
fn topics_and_schemas_are_listed_described_and_printed() {
    let gateway = Gateway::start();
    rows(publish(&gateway, TOPIC, "{}"));
    let described = rows(tidegate(&gateway, &format!("topic describe {TOPIC}")));
    assert_eq!(described[0]["schema_id"], SCHEMA_ID);
    assert_eq!(described[0]["retained_count"], 1);

    let schemas = rows(tidegate(&gateway, "schema list"));
    let ids: Vec<_> = schemas.iter().map(|row| &row["schema_id"]).collect();
    assert!(ids.contains(&&SCHEMA_ID.into()) && ids.contains(&&OTHER_SCHEMA_ID.into()));
    let got = run(tidegate(&gateway, &format!("schema get {TOPIC}")));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/OrderCreated__e.avsc");
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(String::from_utf8(got.stdout).unwrap().trim(), text.trim());
    let id = rows(tidegate(&gateway, &format!("schema id {file}")));
    assert_eq!(id[0]["schema_id"], SCHEMA_ID);
}

#[test]
fn the_log_of_a_running_gateway_can_be_looked_at() {
    let gateway = Gateway::start();
    rows(publish(&gateway, TOPIC, "{}"));
    for command in ["log info", "log verify"] {
        let found = rows(tidegate(&gateway, command));
        let log = found.iter().find(|row| row["kind"] == "log").unwrap();
        assert_eq!(log["events"], 1, "{command}");
        assert_eq!(log["damage"], 0, "{command}");
    }
}

const CHANGES: &str = "/data/Shipment__ChangeEvent";

/// `publish --change` with two files of these texts, which are made in the gateway's directory.
fn publish_change(gateway: &Gateway, before: &str, after: &str) -> Command {
    let mut command = tidegate(gateway, &format!("publish {CHANGES} --change"));
    for (name, text) in [("before.json", before), ("after.json", after)] {
        let path = gateway.dir().join(name);
        std::fs::write(&path, text).unwrap();
        command.arg(path);
    }
    command
}

#[test]
fn the_change_of_a_record_is_published_and_read_as_a_change_event() {
    let gateway = Gateway::start();
    let id = "a01000000000001AAA";
    let before = json!({
        "attributes": {"type": "Shipment__c"}, "Id": id, "Name": "S-1", "Status__c": "packed",
        "Weight__c": 12, "LastModifiedDate": 1_600_000_000_000_i64, "Notes__c": "fragile",
        "Dest__c": {"Latitude": 52.5, "Longitude": 13.4},
    });
    let after = json!({
        "attributes": {"type": "Shipment__c"}, "Id": id, "Name": "S-1", "Status__c": "shipped",
        "Weight__c": 12.0, "LastModifiedDate": 1_700_000_000_000_i64, "Notes__c": null,
        "Dest__c": {"Latitude": 52.5, "Longitude": 9.9},
    });
    let (before, after) = (before.to_string(), after.to_string());
    let mut update = publish_change(&gateway, &before, &after);
    update.args([
        "--transaction-key",
        "key-1",
        "--commit-user",
        "005000000000001",
    ]);
    let updated = rows(update);
    rows(publish_change(&gateway, "", &after));
    rows(publish_change(&gateway, &after, "null"));

    let earliest = format!("subscribe {CHANGES} --from earliest --count 3");
    let read = rows(tidegate(&gateway, &earliest));
    for key in ["replay_id", "event_id"] {
        assert_eq!(updated[0][key], read[0][key], "{key}");
    }
    assert_eq!(read[0]["schema_id"], "f3QKHTNx1-AikcTiQMLJIw");
    let payload = &read[0]["payload"];
    let header = &payload["ChangeEventHeader"];
    assert!(header["commitTimestamp"].as_i64() > Some(1_700_000_000_000));
    for (field, value) in [
        ("entityName", json!("Shipment__c")),
        ("recordIds", json!([id])),
        ("changeType", json!("UPDATE")),
        ("changeOrigin", json!("")),
        ("transactionKey", json!("key-1")),
        ("sequenceNumber", json!(1)),
        ("commitUser", json!("005000000000001AAA")),
        ("nulledFields", json!(["0x0400"])),
        ("diffFields", json!([])),
        ("changedFields", json!(["0x04A0", "9-0x02"])),
    ] {
        assert_eq!(header[field], value, "{field}");
    }
    assert_eq!(payload["Status__c"], "shipped");
    assert_eq!(
        payload["Dest__c"],
        json!({"Latitude": null, "Longitude": 9.9})
    );
    for unchanged in ["Name", "Weight__c", "Notes__c"] {
        assert_eq!(payload[unchanged], Value::Null, "{unchanged}");
    }
    let types: Vec<_> = read
        .iter()
        .map(|row| row["payload"]["ChangeEventHeader"]["changeType"].clone())
        .collect();
    assert_eq!(types, ["UPDATE", "CREATE", "DELETE"]);
    assert_eq!(read[1]["payload"]["Name"], "S-1");
    assert_eq!(read[2]["payload"]["Name"], Value::Null);

    let output = run(publish_change(&gateway, &before, &before));
    assert_eq!(output.status.code(), Some(FAILED));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("nothing changed"), "{said}");
}

#[test]
fn a_change_event_takes_a_topic_and_a_right_of_its_own() {
    const USAGE: i32 = 2;
    let gateway = Gateway::start();
    let record = r#"{"Id": "a01000000000001", "Name": "S-1"}"#;
    let made = |options: &str| {
        let create = format!("token create --name n --publish /data/*{options}");
        let created = rows(tidegate(&gateway, &create)).remove(0);
        let mut command = publish_change(&gateway, "", record);
        command.env("TIDEGATE_TOKEN", created["access_token"].as_str().unwrap());
        command
    };
    expect_error(made(""), NOT_PERMITTED, "permission");
    assert_eq!(rows(made(" --change-events")).len(), 1);

    let elsewhere = format!("publish {TOPIC} --change a.json b.json");
    expect_error(
        tidegate(&gateway, &elsewhere),
        USAGE,
        "no topic of change events",
    );
    let missing = format!("publish {CHANGES} --change a.json b.json");
    expect_error(tidegate(&gateway, &missing), USAGE, "a.json");
}

#[test]
fn a_command_whose_results_nobody_reads_ends_when_it_is_asked_to() {
    let gateway = Gateway::start();
    let order = r#"{"Order_Number__c": "A-17"}"#.to_owned() + "\n";
    let orders = gateway.dir().join("orders");
    std::fs::write(&orders, order.repeat(2_000)).unwrap();
    let mut publishing = tidegate(&gateway, &format!("publish {TOPIC} --file"));
    assert!(
        run({
            publishing.arg(orders);
            publishing
        })
        .status
        .success()
    );
    for signal in ["-TERM", "-INT"] {
        let mut command = tidegate(&gateway, &format!("subscribe {TOPIC} --from earliest"));
        command.args(["--output", "json"]).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let pid = child.id().to_string();
        // More than a pipe holds is to be written: a thread waits for it in the kernel.
        until("a full pipe", || {
            let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let waits = |task: std::io::Result<std::fs::DirEntry>| {
                let place = std::fs::read_to_string(task.ok()?.path().join("wchan")).ok()?;
                place.contains("pipe_write").then_some(())
            };
            tasks.find_map(waits)
        });
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
        let status = until("the end", || child.try_wait().unwrap());
        assert!(status.code().is_some(), "it ends by itself after {signal}");
    }
}
