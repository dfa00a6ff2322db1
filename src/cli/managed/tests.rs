use std::time::Duration;

use clap::Parser;

use super::*;
use crate::{
    cli::{exit::Exit, fake_gateway::FakeGateway, output::Format},
    proto::admin::Lag,
};

/// Only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(30);
const TOPIC: &str = "/event/OrderCreated__e";

fn key(text: &str) -> KeyArgs {
    KeyArgs { key: text.into() }
}

#[test]
fn an_id_is_told_from_a_name() {
    assert!(key("18x000000000001").is_id() && key("18x000000000001AAA").is_id());
    assert_eq!(key("18x000000000001").message().id, "18x000000000001");
    for name in ["Fulfilment", "x18000000000001", "18x", "F18x00000000001"] {
        assert_eq!(key(name).message().developer_name, name);
    }
}

#[tokio::test]
async fn a_subscription_is_made_listed_and_changed() {
    let gateway = FakeGateway::start().await;
    let connection = gateway.connect().await;
    let topic = TOPIC.parse().unwrap();
    let settings = SettingArgs {
        default_replay: Some(Replay::Earliest),
        takeover: Some(Takeover::Newest),
        ..SettingArgs::default()
    };
    let sharing = SharingArgs {
        sharing: None,
        key: None,
    };
    let made = create(&connection, "Fulfilment".into(), &topic, settings, sharing).await;
    let made = made.unwrap();
    assert_eq!(
        (&*made.default_replay, &*made.takeover),
        ("earliest", "newest")
    );
    assert_eq!((&*made.state, &*made.error_recovery_replay), ("", ""));

    let listed = list(&connection).await.unwrap();
    let cells = listed[0].cells();
    assert_eq!(cells[..3], ["Fulfilment", "18x000000000001AAA", TOPIC]);
    assert_eq!(cells[4..], ["none", "3", "1m 1s", "2h"]);
    assert_eq!(cells.len(), ManagedRow::HEADERS.len());
    let json = serde_json::to_value(&listed[0]).unwrap();
    assert_eq!(json["committed_replay_id"], serde_json::Value::Null);
    assert_eq!(
        (
            json["events_behind"].as_u64(),
            json["seconds_to_loss"].as_f64()
        ),
        (Some(3), Some(7_200.0))
    );

    let settings = SettingArgs {
        state: Some(State::Stop),
        ..SettingArgs::default()
    };
    let changed = update(&connection, &key("Fulfilment"), settings.clone()).await;
    let changed = changed.unwrap();
    assert_eq!((&*changed.state, changed.version), ("stop", 2));
    let unknown = update(&connection, &key("Nobody"), settings).await;
    assert_eq!(unknown.unwrap_err().exit(), Exit::Failed);

    let position = PositionRow::from(list(&connection).await.unwrap().remove(0));
    assert_eq!(
        position.cells(),
        ["Fulfilment", "-", "-", "3", "1m 1s", "2h"]
    );
    assert_eq!(position.cells().len(), PositionRow::HEADERS.len());
}

#[test]
fn a_lag_that_is_not_known_is_not_shown_as_none() {
    let unknown = LagCells::from(None);
    assert_eq!(unknown.cells(), ["-", "-", "-"]);
    assert_eq!(unknown.text(), "lag unknown");
    let json = serde_json::to_value(&unknown).unwrap();
    assert_eq!(json["events_behind"], serde_json::Value::Null);
    let none = LagCells::from(Some(Lag::default()));
    assert_eq!(none.cells(), ["0", "-", "-"]);
}

#[tokio::test]
async fn one_is_deleted_only_when_that_is_meant() {
    let args = Args {
        command: Command::Admin(Box::new(AdminCommand::Delete {
            key: key("Fulfilment"),
            yes: false,
            connection: ConnectionArgs::default(),
        })),
    };
    let failure = run(args).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().contains("--yes"), "{failure}");
}

#[derive(clap::Parser)]
struct Parsed {
    #[command(flatten)]
    args: subscribe::Args,
}

/// Subscribes and returns the event ids of the lines, and how the command ended.
async fn subscribe(
    gateway: &FakeGateway,
    count: Option<u64>,
    interrupted: impl Future<Output = ()> + Send,
) -> (Vec<String>, Result<(), Failure>) {
    let mut written = Vec::new();
    let count = count.map_or_else(String::new, |count| format!("--count {count}"));
    let arguments = format!("subscribe Fulfilment {count}");
    let args = Parsed::try_parse_from(arguments.split_whitespace())
        .unwrap()
        .args;
    let output = Output::new(Format::Json, &mut written);
    let topic = TOPIC.parse().unwrap();
    let subscribing =
        subscribe::subscribe(args, gateway.connect().await, topic, output, interrupted);
    let ended = tokio::time::timeout(DEADLINE, subscribing);
    let ended = ended.await.expect("it ends");
    let text = String::from_utf8(written).unwrap();
    let id = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["event_id"].as_str().unwrap().to_owned()
    };
    (text.lines().map(id).collect(), ended)
}

#[tokio::test]
async fn a_subscriber_stands_by_for_as_long_as_another_stream_has_it() {
    let gateway = FakeGateway::with_events(2).await;
    gateway.state.lock().unwrap().taken = 3;
    let (ids, ended) = subscribe(&gateway, Some(2), std::future::pending()).await;
    ended.unwrap();
    assert_eq!(ids, ["e-1", "e-2"]);
    assert_eq!(gateway.state.lock().unwrap().managed_streams, 4);
}

#[tokio::test]
async fn an_end_whose_last_commit_is_not_answered_is_told_and_final() {
    let gateway = FakeGateway::with_events(2).await;
    gateway.state.lock().unwrap().breaks_at_half_close = true;
    let streams = || gateway.state.lock().unwrap().managed_streams;
    let (ids, ended) = subscribe(&gateway, Some(2), std::future::pending()).await;
    assert!(matches!(ended, Err(Failure::Client(_))), "{ended:?}");
    assert_eq!((ids.len(), streams()), (2, 1));
    // Interrupted once everything was printed.
    let (_, ended) = subscribe(&gateway, None, once_committed(&gateway, 2)).await;
    assert!(matches!(ended, Err(Failure::Client(_))), "{ended:?}");
    assert_eq!(streams(), 2);
}

/// An interruption once the gateway was brought so many commits.
async fn once_committed(gateway: &FakeGateway, commits: usize) {
    while gateway.state.lock().unwrap().managed_commits < commits {
        tokio::task::yield_now().await;
    }
}
