//! What administrators have removed, with the commands that they use, and what a repair is worth.

use std::process::Command;

use serde_json::Value;

use crate::support::{
    client::{Client, code},
    gateway::{Gateway, Settings},
    order::TOPIC,
    wire::FetchRequest,
};

/// `tidegate` with these arguments, words separated by spaces, and then `last`.
fn tidegate(gateway: &Gateway, arguments: &str, last: &[&str]) -> Command {
    let mut command = gateway.command(arguments);
    command.args(last);
    command
}

/// The exit code of a command, and what it said.
fn ended(mut command: Command) -> (i32, String) {
    let output = command.output().expect("the program can be run");
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("it ends by itself");
    (code, String::from_utf8(said).expect("it prints text"))
}

/// What a command prints that succeeds.
#[track_caller]
fn done(command: Command) -> String {
    let (code, said) = ended(command);
    assert_eq!(code, 0, "{said}");
    said
}

fn publish(gateway: &Gateway, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let order = format!(r#"{{"Order_Number__c": "A-{number}"}}"#);
        done(tidegate(
            gateway,
            &format!("publish {TOPIC}"),
            &["--json", &order],
        ));
    }
}

/// The order numbers that a subscriber from the earliest on gets.
fn orders(gateway: &Gateway) -> Vec<String> {
    let arguments = format!("subscribe {TOPIC} --from earliest --idle-exit 500ms --output json");
    let lines = done(tidegate(gateway, &arguments, &[]));
    let rows = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let number = |row: Value| {
        row["payload"]["Order_Number__c"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    rows.map(number).collect()
}

#[test]
fn single_events_are_erased_and_the_record_says_so_and_not_what_they_held() {
    let mut gateway = Gateway::start();
    publish(&gateway, 1..6);
    let erase = format!("log erase --topic {TOPIC}");
    let by_number = ["--where", "order_number__c = 'a-2'"];
    let rehearsed = done(tidegate(
        &gateway,
        &format!("{erase} --dry-run"),
        &by_number,
    ));
    assert_eq!(rehearsed, format!("would erase 1 of 5 events of {TOPIC}\n"));
    assert_eq!(orders(&gateway).len(), 5);
    let erased = done(tidegate(&gateway, &erase, &by_number));
    assert!(
        erased.starts_with(&format!("erased 1 of 5 events of {TOPIC}")),
        "{erased}"
    );
    let wanted = ["A-1", "A-3", "A-4", "A-5"];
    assert_eq!(orders(&gateway), wanted);
    gateway.kill_and_restart();
    assert_eq!(orders(&gateway), wanted);
    assert!(done(tidegate(&gateway, "log verify", &[])).contains("whole; 4 events"));

    let audit = done(tidegate(&gateway, "log audit", &[]));
    assert!(
        audit.contains("events by a value of order_number__c, 1 erased"),
        "{audit}"
    );
    assert!(
        audit.contains("administrator") && audit.contains(TOPIC),
        "{audit}"
    );
    assert!(!audit.to_lowercase().contains("a-2"), "{audit}");
    let files = std::fs::read_dir(gateway.data_dir().join("tenants")).unwrap();
    assert_eq!(files.count(), 1);

    for (arguments, wanted) in [
        (vec!["--where", "Order_Number__c > 'A'"], "`=` is wanted"),
        (vec!["--where", "Order_Number__c = 'A"], "closing quote"),
        (
            vec!["--where", "Order_Numbr__c = 'A-1'"],
            "has a field Order_Numbr__c",
        ),
        (vec!["--event-id", ""], "event id is empty"),
    ] {
        let (code, said) = ended(tidegate(&gateway, &erase, &arguments));
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(wanted), "{said}");
    }
    let (code, said) = ended(tidegate(&gateway, &erase, &[]));
    assert_eq!(code, 2, "{said}");
    let other = "log erase --topic /event/Nothing__e --event-id x";
    let (code, said) = ended(tidegate(&gateway, other, &[]));
    assert_eq!((code, said.contains("no such topic")), (1, true), "{said}");
}

#[tokio::test]
async fn a_deleted_topic_ends_its_streams_and_is_another_one_when_it_is_made_again() {
    let mut gateway = Gateway::start();
    publish(&gateway, 1..4);
    let client = Client::connect(&gateway).await;
    let mut stream = client.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
    stream.fetch(3).await;
    let delete = format!("topic delete {TOPIC}");
    let (code, said) = ended(tidegate(&gateway, &delete, &[]));
    assert_eq!((code, said.contains("--yes")), (2, true), "{said}");
    let said = done(tidegate(&gateway, &delete, &["--yes"]));
    assert_eq!(said, format!("deleted {TOPIC} and 3 events\n"));
    let failure = stream.failure().await;
    failure.expect("Subscribe", code::NOT_FOUND, "topic.not.found");
    let (code, said) = ended(tidegate(
        &gateway,
        &format!("publish {TOPIC}"),
        &["--json", "{}"],
    ));
    assert_eq!(code, 1, "{said}");
    // Its schema file is still there: it comes back at the next start, and has forgotten everything.
    gateway.kill_and_restart();
    assert_eq!(orders(&gateway), [""; 0]);
    publish(&gateway, 9..10);
    assert_eq!(orders(&gateway), ["A-9"]);
}

#[test]
fn a_topic_keeps_its_events_as_long_as_it_is_told() {
    let gateway = Gateway::start();
    publish(&gateway, 1..2);
    let set = format!("topic set {TOPIC} --retention");
    let said = done(tidegate(&gateway, &set, &["36h"]));
    assert!(said.contains("retention           36h\n"), "{said}");
    let said = done(tidegate(&gateway, &format!("topic describe {TOPIC}"), &[]));
    assert!(said.contains("retention           36h\n"), "{said}");
    let said = done(tidegate(&gateway, &set, &["default"]));
    assert!(said.contains("as long as the gateway"), "{said}");
    let (code, said) = ended(tidegate(&gateway, &set, &["10ms"]));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("a topic keeps its events for 1s to"),
        "{said}"
    );
    let said = done(tidegate(&gateway, "log retention --confirm", &[]));
    assert!(said.contains("nothing to confirm"), "{said}");
}

#[test]
fn removing_takes_an_administrator() {
    let gateway = Gateway::start();
    let created = tidegate(&gateway, "token create --name reader", &[]).output();
    let token = String::from_utf8(created.unwrap().stdout).unwrap();
    for arguments in [
        format!("log erase --topic {TOPIC} --event-id x"),
        format!("topic delete {TOPIC} --yes"),
        format!("topic set {TOPIC} --retention 2h"),
        "log retention --confirm".to_owned(),
    ] {
        let mut command = tidegate(&gateway, &arguments, &[]);
        command.env("TIDEGATE_TOKEN", token.trim());
        let (code, said) = ended(command);
        assert_eq!(code, 4, "{arguments}: {said}");
        assert!(said.contains("administrator"), "{said}");
    }
}

#[tokio::test]
async fn after_a_repair_the_earliest_start_is_behind_the_loss() {
    let mut gateway = Gateway::start_with(Settings::default());
    publish(&gateway, 1..5);
    gateway.terminate();
    gateway.wait_for_end();
    let tenants = gateway.data_dir().join("tenants");
    let tenant = std::fs::read_dir(&tenants)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let files = std::fs::read_dir(tenant.path().join("log")).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let segment = files.find(|path| path.extension().is_some_and(|end| end == "seg"));
    let segment = segment.expect("there is a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    // In the second order's body.
    let at = bytes.windows(3).position(|three| three == b"A-2").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let (code, said) = ended(tidegate(&gateway, "log repair", &[]));
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("make it anew from its intact blocks"),
        "{said}"
    );
    assert!(
        said.contains(&format!("lost: 1 event of {TOPIC}")),
        "{said}"
    );
    let said = done(tidegate(&gateway, "log repair --apply", &[]));
    assert!(said.contains("kept as it was: "), "{said}");
    assert!(done(tidegate(&gateway, "log verify", &[])).contains("(settled)"));

    gateway.restart();
    assert_eq!(orders(&gateway), ["A-3", "A-4"], "no loop");
    let (code, said) = ended(tidegate(&gateway, "log repair", &[]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("in use by process"), "{said}");
    // What stood before the loss is not thrown away.
    let client = Client::connect(&gateway).await;
    let oldest = FetchRequest::custom(TOPIC, &[0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 100);
    let mut stream = client.subscribe(&oldest).await;
    stream.fetch(1).await;
    let failure = stream.failure().await;
    failure.expect(
        "Subscribe",
        code::INVALID_ARGUMENT,
        "subscription.fetch.replayid.corrupted",
    );
}
