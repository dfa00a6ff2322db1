use std::{fs, future::pending, path::Path};

use clap::Parser;

use super::*;
use crate::cli::{
    consume::{Consumer, EndArgs, OpsArgs, PlaceArgs},
    exit::Exit,
    fake_gateway::FakeGateway,
    output::Format,
};

#[derive(clap::Parser)]
struct Consuming {
    #[command(flatten)]
    end: EndArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    program: ProgramArgs,
}

fn parse(arguments: &[&str]) -> Consuming {
    Consuming::try_parse_from([&["subscribe"], arguments].concat()).unwrap()
}

/// Runs `command` for each event until there were `count`.
async fn consume(
    gateway: &FakeGateway,
    state: &Path,
    command: &str,
    count: &str,
) -> Result<(), Failure> {
    let state = state.to_str().unwrap();
    let arguments = ["--state", state, "--exec", command, "--count", count];
    let retry = ["--attempts", "2", "--retry-wait", "1ms"];
    let args = parse(&[&arguments[..], &retry].concat());
    let connection = gateway.connect().await;
    let tenant = connection.tenant_id();
    let builder = Subscriber::builder(connection)
        .topic("/event/OrderCreated__e".parse().unwrap())
        .start_at(crate::subscriber::Start::Earliest);
    let consumer = Consumer {
        place: &args.place,
        end: args.end,
        program: &args.program,
        file: None,
        ops: OpsArgs::default(),
        output: Output::new(Format::Json, tokio::io::sink()),
    };
    consumer.run(builder, tenant, pending()).await
}

async fn listed(letters: &DeadLetterDirectory) -> Vec<Value> {
    let mut written = Vec::new();
    list(letters, Output::new(Format::Json, &mut written))
        .await
        .unwrap();
    let text = String::from_utf8(written).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn letters_in(state: &Path) -> DeadLetterDirectory {
    let args = StateArgs {
        state: state.to_owned(),
    };
    args.open().unwrap()
}

#[tokio::test]
async fn exit_codes_tell_what_becomes_of_an_event() {
    let gateway = FakeGateway::with_events(4).await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let seen = directory.path().join("seen");
    // Done, never, never after two tries, done.
    let command = format!(
        "cat >> {seen}; case $TIDEGATE_EVENT_ID in \
         e-2) echo no such customer >&2; exit 65;; e-3) echo not yet >&2; exit 1;; esac",
        seen = seen.display()
    );
    let ended = consume(&gateway, &state, &command, "4").await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert!(failure.to_string().contains("deadletter list"), "{failure}");
    let text = fs::read_to_string(&seen).unwrap();
    let ids: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event_id"].to_string())
        .collect();
    assert_eq!(
        ids.join(" "),
        r#""e-1" "e-2" "e-3" "e-3" "e-4""#,
        "in order"
    );
    let letters = letters_in(&state);
    let rows = listed(&letters).await;
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["attempts"], 1);
    assert!(
        rows[0]["cause"]
            .as_str()
            .unwrap()
            .contains("no such customer")
    );
    assert_eq!(rows[1]["attempts"], 2);
    assert!(rows[1]["cause"].as_str().unwrap().contains("not yet"));

    // The next run begins behind them, and what was done is not done again.
    let ended = consume(&gateway, &state, "exit 1", "1");
    let silent = tokio::time::timeout(std::time::Duration::from_millis(300), ended).await;
    assert!(silent.is_err(), "nothing is left to do");
}

#[tokio::test]
async fn letters_are_shown_handled_again_and_purged() {
    let gateway = FakeGateway::with_events(3).await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    consume(&gateway, &state, "exit 65", "3").await.unwrap_err();
    let letters = letters_in(&state);
    let ids = letters.list().await.unwrap();
    assert_eq!(ids.len(), 3);

    let connection = gateway.connect().await;
    let letter = read(&letters, &ids[0]).await.unwrap();
    let payload = payload_of(&connection, &letter).await;
    let mut written = Vec::new();
    show(
        &ids[0],
        &letter,
        payload,
        Output::new(Format::Json, &mut written),
    )
    .await
    .unwrap();
    let shown: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(shown["payload"]["Order_Number__c"], "A-1");
    assert_eq!(shown["letter"], ids[0].as_str());

    let args = parse(&["--exec", "test $TIDEGATE_EVENT_ID != e-2"]);
    let handler = args.program.handler().unwrap().unwrap();
    let program = parse(&["--exec", "x", "--attempts", "1"]).program;
    let mut written = Vec::new();
    let output = Output::new(Format::Json, &mut written);
    let ended = redrive(connection, &letters, &ids, &program, &handler, output).await;
    assert_eq!(
        ended.unwrap_err().to_string(),
        "1 of 3 dead letters are still some"
    );
    assert_eq!(letters.list().await.unwrap(), ids[1..2]);
    assert_eq!(read(&letters, &ids[1]).await.unwrap().attempts, 2);

    let failure = purge(&letters, &ids[1..2], false).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    purge(&letters, &ids[1..2], true).await.unwrap();
    assert!(letters.list().await.unwrap().is_empty());
    let failure = read(&letters, &ids[1]).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_what_it_started() {
    let gateway = FakeGateway::with_events(1).await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let pid = directory.path().join("pid");
    let command = format!("sleep 600 & echo $! > {}; wait", pid.display());
    let arguments = ["--exec", &command, "--timeout", "300ms", "--attempts", "1"];
    let state_text = state.to_str().unwrap();
    let args = parse(&[&arguments[..], &["--state", state_text, "--count", "1"]].concat());
    let connection = gateway.connect().await;
    let tenant = connection.tenant_id();
    let builder = Subscriber::builder(connection)
        .topic("/event/OrderCreated__e".parse().unwrap())
        .start_at(crate::subscriber::Start::Earliest);
    let consumer = Consumer {
        place: &args.place,
        end: args.end,
        program: &args.program,
        file: None,
        ops: OpsArgs::default(),
        output: Output::new(Format::Json, tokio::io::sink()),
    };
    consumer.run(builder, tenant, pending()).await.unwrap_err();
    let rows = listed(&letters_in(&state)).await;
    assert!(
        rows[0]["cause"]
            .as_str()
            .unwrap()
            .contains("longer than 0.3 s")
    );
    let pid = fs::read_to_string(pid).unwrap();
    let is_gone = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // One that was killed and that nobody waits for stays as a zombie.
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    while !is_gone() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_directory_that_is_none_of_a_subscriber_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let args = StateArgs {
        state: directory.path().to_owned(),
    };
    assert_eq!(args.open().unwrap_err().exit(), Exit::Usage);
}
