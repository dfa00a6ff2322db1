use std::{future::pending, time::Duration};

use clap::Parser;
use tonic::{Code, Status};

use super::*;
use crate::cli::{
    exit::Exit,
    fake_gateway::{FakeGateway, replay_id},
    output::Format,
};

const TOPIC: &str = "/event/OrderCreated__e";
/// Long enough for answers that are ready, and short enough to wait for.
const IDLE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_gateway_that_knows_no_times_is_not_taken_for_one_that_does() {
    let gateway = FakeGateway::with_events(3).await;
    for from in ["-15m", "2026-01-01T00:00Z"] {
        let (ids, ended) = subscribe(&gateway, from, None).await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.exit(), Exit::Failed);
        assert!(failure.to_string().contains("cannot start"), "{failure}");
        assert!(ids.is_empty());
    }
}

/// Subscribes and returns the event ids of the lines, and how the command ended.
async fn subscribe(
    gateway: &FakeGateway,
    from: &str,
    count: Option<u64>,
) -> (Vec<String>, Result<(), Failure>) {
    let (lines, ended) = subscribe_lines(gateway, from, count).await;
    let ids = lines
        .iter()
        .map(|line| line["event_id"].as_str().unwrap().to_owned());
    (ids.collect(), ended)
}

async fn subscribe_lines(
    gateway: &FakeGateway,
    from: &str,
    count: Option<u64>,
) -> (Vec<serde_json::Value>, Result<(), Failure>) {
    let count = count.map_or_else(String::new, |count| format!("--count {count}"));
    let idle = IDLE.as_millis();
    run_with(
        gateway,
        &format!("{TOPIC} --from {from} {count} --idle-exit {idle}ms"),
    )
    .await
}

/// Runs the command with these arguments until it ends by itself.
async fn run_with(
    gateway: &FakeGateway,
    arguments: &str,
) -> (Vec<serde_json::Value>, Result<(), Failure>) {
    let mut written = Vec::new();
    let output = Output::new(Format::Json, &mut written);
    let connection = gateway.connect().await;
    let ended = super::subscribe(args(arguments), connection, output, pending()).await;
    let text = String::from_utf8(written).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.collect(), ended)
}

fn args(arguments: &str) -> Args {
    #[derive(clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        args: Args,
    }
    let arguments = std::iter::once("subscribe").chain(arguments.split_whitespace());
    Parsed::try_parse_from(arguments).unwrap().args
}

fn ids(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|number| format!("e-{number}")).collect()
}

#[tokio::test]
async fn every_event_is_printed_once_and_in_order() {
    let gateway = FakeGateway::with_events(250).await;
    let (found, ended) = subscribe(&gateway, "earliest", None).await;
    ended.unwrap();
    assert_eq!(found, ids(1..=250));
}

#[tokio::test]
async fn more_credit_is_used_where_it_is_granted_and_nowhere_else() {
    let gateway = FakeGateway::with_events(1_200).await;
    let requested = |gateway: &FakeGateway| {
        let mut state = gateway.state.lock().unwrap();
        let fetches = std::mem::take(&mut state.fetches).into_iter();
        let requested: Vec<_> = fetches.map(|fetch| fetch.num_requested).collect();
        requested
    };
    let all = |count| ids(1..=count);
    gateway.state.lock().unwrap().granted = Some(500);
    let (found, ended) = subscribe(&gateway, "earliest", Some(1_200)).await;
    ended.unwrap();
    assert_eq!(found, all(1_200));
    assert_eq!(requested(&gateway)[..2], [100, 400]);
    // What was asked for and not granted is not asked for.
    gateway.state.lock().unwrap().granted = None;
    let (found, ended) = subscribe(&gateway, "earliest", Some(250)).await;
    ended.unwrap();
    assert_eq!(found, all(250));
    assert!(requested(&gateway).iter().all(|&events| events <= 100));
    // Whoever wants little does not ask for more.
    let (found, _) = subscribe(&gateway, "earliest", Some(7)).await;
    assert_eq!(found, all(7));
    assert_eq!(requested(&gateway), [7]);
}

#[tokio::test]
async fn a_line_has_the_documented_keys() {
    let gateway = FakeGateway::with_events(1).await;
    let (lines, ended) = subscribe_lines(&gateway, "earliest", Some(1)).await;
    ended.unwrap();
    let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["replay_id", "event_id", "schema_id", "topic", "payload"]
    );
    assert_eq!(lines[0]["replay_id"], "00000000000000010000");
    assert_eq!(lines[0]["topic"], TOPIC);
    assert_eq!(lines[0]["payload"]["Order_Number__c"], "A-1");
}

#[tokio::test]
async fn a_count_ends_exactly_there_and_asks_for_no_more() {
    let gateway = FakeGateway::with_events(250).await;
    let (found, ended) = subscribe(&gateway, "earliest", Some(120)).await;
    ended.unwrap();
    assert_eq!(found, ids(1..=120));
    let state = gateway.state.lock().unwrap();
    let credit: i32 = state.fetches.iter().map(|fetch| fetch.num_requested).sum();
    assert_eq!(credit, 120);
}

#[tokio::test]
async fn it_starts_where_it_is_told() {
    let gateway = FakeGateway::with_events(5).await;
    let (found, ended) = subscribe(&gateway, &replay_id(3).to_string(), None).await;
    ended.unwrap();
    assert_eq!(found, ids(4..=5));
    let (found, ended) = subscribe(&gateway, "latest", None).await;
    ended.unwrap();
    assert!(found.is_empty());
}

#[tokio::test]
async fn a_broken_stream_goes_on_after_the_last_event() {
    let gateway = FakeGateway::with_events(250).await;
    gateway.state.lock().unwrap().breaks = 2;
    let (found, ended) = subscribe(&gateway, "earliest", Some(250)).await;
    ended.unwrap();
    assert_eq!(found, ids(1..=250));
    let state = gateway.state.lock().unwrap();
    let resumed: Vec<_> = state
        .fetches
        .iter()
        .filter(|fetch| fetch.replay_preset == 2)
        .collect();
    assert_eq!(resumed[0].replay_id, replay_id(100).as_bytes()[..]);
    assert_eq!(resumed[1].replay_id, replay_id(200).as_bytes()[..]);
}

#[tokio::test]
async fn a_quiet_stream_resumes_at_the_position_it_was_told() {
    let gateway = FakeGateway::with_events(3).await;
    gateway.state.lock().unwrap().breaks = 1;
    let (found, ended) = subscribe(&gateway, "latest", None).await;
    ended.unwrap();
    assert!(found.is_empty());
    let state = gateway.state.lock().unwrap();
    assert_eq!(state.fetches[1].replay_id, replay_id(3).as_bytes()[..]);
}

#[tokio::test]
async fn what_no_further_try_can_mend_ends_it() {
    for (code, exit) in [
        (Code::NotFound, Exit::Failed),
        (Code::Unauthenticated, Exit::NotPermitted),
        (Code::PermissionDenied, Exit::NotPermitted),
        (Code::InvalidArgument, Exit::Failed),
    ] {
        let gateway = FakeGateway::start().await;
        gateway.state.lock().unwrap().refusal = Some(Status::new(code, "no"));
        let (found, ended) = subscribe(&gateway, "earliest", None).await;
        assert!(found.is_empty());
        assert_eq!(ended.unwrap_err().exit(), exit, "{code:?}");
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_decoded_is_shown_without_its_payload() {
    let gateway = FakeGateway::with_events(1).await;
    gateway.add_event("broken", vec![0xff]);
    gateway.add_event("foreign", vec![]);
    gateway.state.lock().unwrap().events[2].schema_id = "AAAAAAAAAAAAAAAAAAAAAA".into();
    let (lines, ended) = subscribe_lines(&gateway, "earliest", Some(3)).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    assert_eq!(failure.to_string(), "2 events could not be decoded");
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["payload"].is_object());
    assert_eq!(lines[1]["payload"], serde_json::Value::Null);
    assert_eq!(lines[2]["payload"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_reader_that_went_away_ends_it_quietly() {
    let gateway = FakeGateway::with_events(1).await;
    let (writer, reader) = tokio::io::duplex(16);
    drop(reader);
    let output = Output::new(Format::Text, writer);
    let args = args(&format!("{TOPIC} --from earliest"));
    let failure = super::subscribe(args, gateway.connect().await, output, pending()).await;
    let failure = failure.unwrap_err();
    assert!(matches!(failure, Failure::OutputClosed), "{failure:?}");
}
