//! Channels as administrators and subscribers use them: made on the command line or out of a file, read
//! over the wire, changed under way.

use std::{fs, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    client::{Client, code},
    gateway::{Gateway, Settings},
    order::{OTHER_TOPIC, TOPIC},
    wire::FetchRequest,
};

const CHANNEL: &str = "/event/Orders__chn";
/// Exit codes, as `tidegate --help` lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_PERMITTED: i32 = 4;

/// `tidegate` with these arguments, words separated by spaces, and then `last`.
fn tidegate(gateway: &Gateway, arguments: &str, last: &[&str]) -> Command {
    let mut command = gateway.command(arguments);
    command.args(last);
    command
}

/// The exit code of a command, and what it said on its standard error.
fn ended(mut command: Command) -> (i32, String) {
    let output = command.output().expect("the program can be run");
    let code = output.status.code().expect("it ends by itself");
    (code, String::from_utf8(output.stderr).unwrap())
}

/// The JSON lines that a command prints which succeeds.
#[track_caller]
fn rows(gateway: &Gateway, arguments: &str, last: &[&str]) -> Vec<Value> {
    let mut command = tidegate(gateway, &format!("{arguments} --output json"), last);
    let output = command.output().expect("the program can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let rows = stdout.lines().map(serde_json::from_str);
    rows.collect::<Result<_, _>>().unwrap()
}

fn publish(gateway: &Gateway, topic: &str, payload: &Value) {
    let payload = payload.to_string();
    rows(gateway, &format!("publish {topic}"), &["--json", &payload]);
}

/// The channel, with orders above an amount and every status.
fn create(gateway: &Gateway) -> Value {
    rows(
        gateway,
        &format!("channel create {CHANNEL} --label Orders"),
        &[],
    );
    let filter = ["--filter", "Amount__c > 10"];
    rows(gateway, &format!("channel add {CHANNEL} {TOPIC}"), &filter);
    rows(
        gateway,
        &format!("channel add {CHANNEL} {OTHER_TOPIC}"),
        &[],
    )
    .remove(0)
}

/// What a subscriber of the channel gets from the earliest event on: topics and order numbers.
fn received(gateway: &Gateway) -> Vec<String> {
    let arguments = format!("subscribe {CHANNEL} --from earliest --idle-exit 500ms");
    let number = |row: Value| {
        row["payload"]["Order_Number__c"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    rows(gateway, &arguments, &[])
        .into_iter()
        .map(number)
        .collect()
}

/// A file of channels in a directory of its own.
fn file(text: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("channels.toml");
    fs::write(&path, text).unwrap();
    (dir, path.display().to_string())
}

const FILE: &str = r#"
[[channel]]
name = "/event/Statuses__chn"
[[channel.member]]
topic = "/event/OrderStatusUpdated__e"
filter = "Status__c = 'Shipped'"
"#;

fn outcomes(rows: &[Value]) -> Vec<(&str, &str)> {
    rows.iter()
        .map(|row| {
            (
                row["outcome"].as_str().unwrap(),
                row["name"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_channel_is_made_read_kept_and_deleted_on_the_command_line() {
    let mut gateway = Gateway::start();
    let made = create(&gateway);
    assert_eq!(
        (&made["label"], &made["version"]),
        (&json!("Orders"), &json!(3))
    );
    assert_eq!(
        made["members"],
        json!([
            {"topic": TOPIC, "filter": "Amount__c > 10", "enriched_fields": []},
            {"topic": OTHER_TOPIC, "filter": null, "enriched_fields": []},
        ])
    );
    let listed = rows(&gateway, "channel list", &[]);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["standard"]),
        (&json!("/data/ChangeEvents"), &json!(true))
    );
    assert_eq!(
        listed[0]["members"][0]["topic"],
        "/data/Shipment__ChangeEvent"
    );
    assert_eq!((listed.len(), &listed[1]), (2, &made));

    publish(
        &gateway,
        TOPIC,
        &json!({"Order_Number__c": "small", "Amount__c": 5.0}),
    );
    publish(
        &gateway,
        TOPIC,
        &json!({"Order_Number__c": "large", "Amount__c": 50.0}),
    );
    publish(&gateway, OTHER_TOPIC, &json!({"Order_Number__c": "status"}));
    assert_eq!(received(&gateway), ["large", "status"]);

    gateway.kill_and_restart();
    assert_eq!(
        rows(&gateway, &format!("channel describe {CHANNEL}"), &[]),
        [made]
    );
    rows(
        &gateway,
        &format!("channel remove {CHANNEL} {OTHER_TOPIC}"),
        &[],
    );
    rows(
        &gateway,
        &format!("channel set {CHANNEL} --label Large"),
        &[],
    );
    assert_eq!(received(&gateway), ["large"]);

    let client = Client::connect(&gateway).await;
    let mut subscriber = client.subscribe(&FetchRequest::earliest(CHANNEL, 10)).await;
    subscriber.fetch(1).await;
    // A member of a channel is not deleted.
    let (exit, told) = ended(gateway.command(&format!("topic delete {TOPIC} --yes")));
    assert!(exit == FAILED && told.contains(CHANNEL), "{told}");
    let (exit, told) = ended(gateway.command(&format!("channel delete {CHANNEL} --yes")));
    assert_eq!((exit, &*told), (0, "deleted /event/Orders__chn\n"));
    let failure = subscriber.failure().await;
    failure.expect("Subscribe", code::NOT_FOUND, "topic.not.found");
    assert!(
        failure.message.contains("the channel was deleted"),
        "{failure:?}"
    );
    assert_eq!(rows(&gateway, "channel list", &[]).len(), 1);
}

#[test]
fn a_file_is_applied_as_a_whole_by_the_command_and_at_the_start() {
    let (_dir, path) = file(FILE);
    let setting: &'static str = path.clone().leak();
    let mut gateway = Gateway::start_with(Settings {
        environment: vec![("TIDEGATE_CHANNELS__FILE", setting)],
        ..Settings::default()
    });
    let apply = format!("channel apply {path}");
    let kept = [("unchanged", "/event/Statuses__chn")];
    assert_eq!(outcomes(&rows(&gateway, &apply, &[])), kept);

    create(&gateway);
    let pruned = [("deleted", CHANNEL), kept[0]];
    let rehearsed = rows(&gateway, &format!("{apply} --prune --dry-run"), &[]);
    assert_eq!(outcomes(&rehearsed), pruned);
    assert_eq!(rehearsed[0]["dry_run"], true);
    // The start deletes nothing, and takes up what the file says by then.
    fs::write(
        &path,
        format!("{FILE}[[channel]]\nname = '/data/All__chn'\n"),
    )
    .unwrap();
    gateway.kill_and_restart();
    let names: Vec<_> = rows(&gateway, "channel list", &[])
        .iter()
        .map(|row| row["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "/data/ChangeEvents",
            "/data/All__chn",
            CHANNEL,
            "/event/Statuses__chn"
        ]
    );

    fs::write(&path, FILE.replace("'Shipped'", "7")).unwrap();
    let (exit, told) = ended(gateway.command(&apply));
    assert_eq!(exit, FAILED, "{told}");
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines[..2], ["  Status__c = 7", "              ^"], "{told}");
    let refusal = "error: /event/Statuses__chn: /event/OrderStatusUpdated__e cannot be a member: the \
                   filter is wrong at character 13: ";
    assert!(lines[2].starts_with(refusal), "{told}");
    fs::write(&path, FILE).unwrap();
    let done = rows(&gateway, &format!("{apply} --prune"), &[]);
    let pruned = [("deleted", "/data/All__chn"), pruned[0], pruned[1]];
    assert_eq!(outcomes(&done), pruned);
}

#[test]
fn what_cannot_be_is_refused_with_what_was_wanted() {
    let gateway = Gateway::start();
    create(&gateway);
    let add = format!("channel add {CHANNEL}");
    for (arguments, last, exit, told) in [
        (
            format!("channel create {CHANNEL}"),
            "",
            FAILED,
            "there is a channel /event/Orders__chn already",
        ),
        (
            "channel create /event/Orders__e".into(),
            "",
            FAILED,
            "looks like /event/Orders__chn",
        ),
        (
            "channel create /data/ChangeEvents".into(),
            "",
            FAILED,
            "is always there",
        ),
        (
            "channel delete /data/ChangeEvents --yes".into(),
            "",
            FAILED,
            "is always there",
        ),
        (
            "channel create Orders".into(),
            "",
            USAGE,
            "begins with /event/",
        ),
        (
            format!("channel create /event/B__chn --label {}", "x".repeat(81)),
            "",
            FAILED,
            "1 to 80 characters",
        ),
        (
            format!("channel set {CHANNEL} --label"),
            "",
            FAILED,
            "1 to 80 characters",
        ),
        (
            "channel add /event/None__chn /event/OrderCreated__e".into(),
            "",
            FAILED,
            "no such channel",
        ),
        (
            "channel describe /event/None__chn".into(),
            "",
            FAILED,
            "channel list",
        ),
        (
            "channel delete /event/None__chn --yes".into(),
            "",
            FAILED,
            "no such channel",
        ),
        (format!("channel delete {CHANNEL}"), "", USAGE, "--yes"),
        (
            format!("{add} /event/None__e"),
            "",
            FAILED,
            "there is no such topic",
        ),
        (
            format!("{add} /event/Two__chn"),
            "",
            FAILED,
            "it is a channel itself",
        ),
        (
            format!("{add} /data/Shipment__ChangeEvent"),
            "",
            FAILED,
            "has platform events",
        ),
        (
            format!("{add} {TOPIC} --enrich Amount__c"),
            "",
            FAILED,
            "enriched fields are for change events",
        ),
        (
            format!("channel remove {CHANNEL} /event/None__e"),
            "",
            FAILED,
            "is no member of",
        ),
        (
            format!("{add} {TOPIC} --filter"),
            "Amount__c >",
            FAILED,
            "  Amount__c >\n             ^\nerror: ",
        ),
        (
            format!("{add} {TOPIC} --filter"),
            "Amount__c > 'x'",
            FAILED,
            "  Amount__c > 'x'\n              ^\nerror: ",
        ),
        (
            "channel apply nowhere.toml".into(),
            "",
            FAILED,
            "nowhere.toml: the file of channels cannot be read",
        ),
    ] {
        let last: &[&str] = if arguments.ends_with("--filter") || arguments.ends_with("--label") {
            &[last]
        } else {
            &[]
        };
        let (code, said) = ended(tidegate(&gateway, &arguments, last));
        assert_eq!(code, exit, "{arguments}: {said}");
        assert!(said.contains(told), "{arguments}: {said}");
    }
    let (_dir, odd) = file("[[channel]]\nname = '/event/A__chn'\ncolour = 'red'\n");
    let (code, said) = ended(gateway.command(&format!("channel apply {odd}")));
    assert!(
        code == FAILED && said.contains("channels.toml, line 3: unknown field"),
        "{said}"
    );

    // Whoever may subscribe to everything may not look after channels.
    let token = gateway
        .command("token create --subscribe *")
        .output()
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap();
    let (_dir, good) = file(FILE);
    for arguments in [
        "channel list".to_owned(),
        "channel create /event/B__chn".into(),
        format!("channel set {CHANNEL} --label B"),
        format!("{add} {TOPIC}"),
        format!("channel remove {CHANNEL} {TOPIC}"),
        format!("channel delete {CHANNEL} --yes"),
        format!("channel apply {good} --dry-run"),
    ] {
        let mut command = gateway.command(&arguments);
        command.env("TIDEGATE_TOKEN", token.trim());
        let (code, said) = ended(command);
        assert_eq!(code, NOT_PERMITTED, "{arguments}: {said}");
    }
    assert_eq!(rows(&gateway, "channel list", &[]).len(), 2);
}
