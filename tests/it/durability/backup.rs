//! A backup of a gateway at work becomes another gateway, after the first one is gone.

use std::{path::Path, process::Output};

use serde_json::Value;

use super::kill::read_to_head;
use crate::support::{
    client::{Client, code},
    gateway::{Gateway, Place, Settings},
    order::{self, TOPIC},
    wire::{FetchRequest, PublishRequest},
};

/// Runs `tidegate` with these arguments to its end, while the publishers go on.
fn run(gateway: &Gateway, arguments: &str) -> Output {
    let mut command = gateway.command(arguments);
    tokio::task::block_in_place(|| command.output()).expect("the program can be run")
}

/// What a command prints on standard output that ends well.
#[track_caller]
fn stdout(gateway: &Gateway, arguments: &str) -> String {
    let output = run(gateway, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn expect_error(gateway: &Gateway, arguments: &str, exit: i32, wanted: &str) {
    let output = run(gateway, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments}: {stderr}");
    assert!(stderr.contains(wanted), "{arguments}: {stderr}");
}

fn is_empty(dir: &Path) -> bool {
    !dir.exists() || dir.read_dir().unwrap().next().is_none()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_load_becomes_a_gateway_with_every_event_at_its_replay_id() {
    let mut gateway = Gateway::start();
    let (acknowledged, mut count) = tokio::sync::watch::channel(0);
    let client = Client::connect(&gateway).await;
    let publisher = tokio::spawn(async move {
        let mut replay_ids = Vec::new();
        loop {
            let request = PublishRequest::new(TOPIC, order::events(0..10));
            let Ok(mut call) = client.try_call_path("/eventbus.v1.PubSub/Publish").await else {
                return replay_ids;
            };
            call.send(&request);
            call.half_close();
            let Ok(Some(response)) = call.next::<crate::support::wire::PublishResponse>().await
            else {
                return replay_ids;
            };
            replay_ids.extend(response.results.into_iter().map(|result| result.replay_id));
            acknowledged.send_replace(replay_ids.len());
        }
    });
    count.wait_for(|&count| count >= 100).await.unwrap();
    let before = *count.borrow_and_update();
    let backup = gateway.dir().join("backup");
    let told = stdout(
        &gateway,
        &format!("log backup {} --output json", backup.display()),
    );
    let row: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(row["tenant"], gateway.ready().tenant_id.as_str());
    let after = *count.borrow_and_update();
    count.wait_for(|&count| count >= after + 100).await.unwrap();
    gateway.kill();
    let replay_ids = publisher.await.expect("it ends with its connection");

    let data_dir = gateway.dir().join("restored");
    let to = format!("--data-dir {}", data_dir.display());
    let told = stdout(&gateway, &format!("log restore {} {to}", backup.display()));
    assert!(told.contains(": whole; "), "{told}");
    expect_error(
        &gateway,
        &format!("log restore {} {to}", backup.display()),
        2,
        "it is not empty",
    );
    // The directory of the first gateway is not needed any more.
    std::fs::remove_dir_all(gateway.data_dir()).unwrap();
    let place = Place {
        data_dir,
        ..Place::default()
    };
    let restored = Gateway::start_at(place, Settings::default());
    assert_eq!(restored.ready().tenant_id, gateway.ready().tenant_id);
    let client = Client::connect(&restored).await;

    // The last id that the first gateway gave out is not in the backup: the refusal says from where.
    let last = replay_ids.last().unwrap();
    let mut call = client
        .subscribe(&FetchRequest::custom(TOPIC, last, 1))
        .await;
    let refusal = call.failure().await;
    let corrupted = "subscription.fetch.replayid.corrupted";
    refusal.expect("Subscribe", code::INVALID_ARGUMENT, corrupted);
    let (_, next) = refusal
        .message
        .split_once("the next valid replay id is ")
        .unwrap();
    let next = next.split(' ').next().unwrap();
    let printed = stdout(
        &restored,
        &format!("subscribe {TOPIC} --from {next} --idle-exit 100ms"),
    );
    assert_eq!(printed, "");

    let mut events = read_to_head(&client, None).await;
    let mark = events.pop().unwrap();
    let read: Vec<_> = events.into_iter().map(|event| event.replay_id).collect();
    assert!(read.len() >= before, "{} of {before}", read.len());
    assert_eq!(read, replay_ids[..read.len()]);
    assert!(mark.replay_id > *last, "no id is given twice");
    assert!(stdout(&restored, "log verify").contains(": whole; "));
    let printed = stdout(
        &restored,
        &format!("subscribe {TOPIC} --from {next} --count 1"),
    );
    assert!(printed.contains("mark"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_cannot_be_made_is_refused_with_the_reason() {
    let gateway = Gateway::start();
    let inside = gateway.data_dir().join("backup");
    expect_error(
        &gateway,
        &format!("log backup {}", inside.display()),
        1,
        "it lies in the data directory",
    );
    assert!(!inside.exists());
    let used = gateway.dir().display();
    expect_error(
        &gateway,
        &format!("log backup {used}"),
        1,
        "it is not empty",
    );
    let nowhere = gateway.dir().join("no/where");
    let arguments = format!("log backup {}", nowhere.display());
    expect_error(&gateway, &arguments, 1, "No such file or directory");

    let token = stdout(
        &gateway,
        "token create --name reader --subscribe /event/* --output json",
    );
    let token: Value = serde_json::from_str(&token).unwrap();
    let token = token["access_token"].as_str().unwrap();
    let backup = gateway.dir().join("backup");
    let arguments = format!("log backup {} --token {token}", backup.display());
    expect_error(&gateway, &arguments, 4, "administrator");
    assert!(is_empty(&backup));

    let ephemeral = Gateway::ephemeral();
    let ready = ephemeral.ready();
    let arguments = format!(
        "log backup {} --endpoint http://{} --token {} --tenant {} --instance-url {}",
        backup.display(),
        ready.grpc_addr,
        ready.access_token,
        ready.tenant_id,
        ready.instance_url
    );
    expect_error(&ephemeral, &arguments, 1, "there is nothing to back up");
    assert!(is_empty(&backup));
    let arguments = format!(
        "log restore {} --data-dir {}",
        gateway.dir().display(),
        backup.display()
    );
    expect_error(&gateway, &arguments, 2, "it has no file named backup.json");
    assert!(is_empty(&backup));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_readme_work() {
    let gateway = Gateway::start();
    let readme = include_str!("../../../README.md");
    let lines = readme
        .lines()
        .filter_map(|line| line.strip_prefix("tidegate log "));
    let lines = lines.filter(|line| line.starts_with("backup") || line.starts_with("restore"));
    let mut count = 0;
    for line in lines {
        let mut command = gateway.command(&format!("log {line}"));
        let output = command.current_dir(gateway.dir()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {stderr}");
        count += 1;
    }
    assert_eq!(count, 2, "the README shows both commands");
    let data_dir = gateway.dir().join("restored-data");
    let version = std::fs::read_to_string(data_dir.join("version")).unwrap();
    assert!(version.starts_with("tidegate "), "{version}");
    assert!(!data_dir.join("profile.json").exists() && !data_dir.join("tls").exists());
}
