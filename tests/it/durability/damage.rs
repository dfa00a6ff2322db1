//! A bad disk under a whole gateway: what its operator and its subscribers are told.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::support::{
    client::{Client, code},
    gateway::Gateway,
    order::{self, TOPIC},
    wire::{FetchRequest, PublishRequest},
};

/// Events of each batch, which makes one block.
const BATCH: usize = 10;

/// Publishes three batches, each in a group of its own, and stops the gateway in order. Returns the
/// replay ids.
async fn publish_and_stop(gateway: &mut Gateway) -> Vec<Vec<u8>> {
    let mut ids = Vec::new();
    let client = Client::connect(gateway).await;
    for batch in 0..3 {
        let events = order::events(batch * BATCH..(batch + 1) * BATCH);
        let published = client.publish(&PublishRequest::new(TOPIC, events)).await;
        let results = published.unwrap().results.into_iter();
        ids.extend(results.map(|result| result.replay_id));
    }
    // A connection would hold the stop up.
    drop(client);
    gateway.terminate();
    assert!(gateway.wait_for_end().success());
    ids
}

/// Flips a bit in the stored event with the id `event_id`. Returns the file and where in it that is.
fn damage_event(gateway: &Gateway, event_id: &str) -> (PathBuf, usize) {
    let tenants = gateway.data_dir().join("tenants");
    let log = tenants.join(&gateway.ready().tenant_id).join("log");
    let files = fs::read_dir(log).unwrap().map(|file| file.unwrap().path());
    let mut segments = files.filter(|path| path.extension() == Some("seg".as_ref()));
    let segment = segments.next().unwrap();
    assert_eq!(segments.next(), None);
    let mut bytes = fs::read(&segment).unwrap();
    let mut found = bytes.windows(event_id.len());
    let at = found.position(|window| window == event_id.as_bytes());
    let at = at.expect("the event is in the file");
    bytes[at] ^= 4;
    fs::write(&segment, bytes).unwrap();
    (segment, at)
}

/// The replay id, in hexadecimal, that follows `words`.
#[track_caller]
fn id_behind<'a>(text: &'a str, words: &str) -> &'a str {
    let (_, rest) = text.split_once(words).expect(text);
    &rest[..20]
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digits).collect()
}

#[tokio::test]
async fn a_damaged_block_is_told_to_operators_and_subscribers_who_go_on_behind_it() {
    let mut gateway = Gateway::start();
    let ids = publish_and_stop(&mut gateway).await;
    let (segment, at) = damage_event(&gateway, "order-15");
    let name = segment.file_name().unwrap().to_str().unwrap();

    let verify = gateway.command("log verify").output().unwrap();
    assert_eq!(verify.status.code(), Some(1));
    let text = String::from_utf8(verify.stdout).unwrap();
    let said = text.lines().next().unwrap();
    for word in [name, "the body of a block", TOPIC] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let (last, first_lost) = (&ids[BATCH - 1], &ids[BATCH]);
    let after = bytes(id_behind(said, "after replay id "));
    assert!(*last <= after && after < *first_lost, "{said}");
    let advice = String::from_utf8(verify.stderr).unwrap();
    assert!(advice.contains("1 place is damaged"), "{advice}");

    let verify = gateway
        .command("log verify --output json")
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(1));
    let lines = String::from_utf8(verify.stdout).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let damage: Vec<_> = lines.iter().filter(|l| l["kind"] == "damage").collect();
    assert_eq!(damage.len(), 1);
    assert_eq!(
        (&damage[0]["file"], &damage[0]["topic"]),
        (&name.into(), &TOPIC.into())
    );
    let offset = damage[0]["offset"].as_u64().unwrap() as usize;
    assert!(
        (offset..offset + 8_192).contains(&at),
        "the block begins before {at}: {offset}"
    );

    gateway.restart();
    let client = Client::connect(&gateway).await;
    let mut call = client.subscribe(&FetchRequest::earliest(TOPIC, 100)).await;
    let before = call.fetch(BATCH).await;
    let before: Vec<_> = before.into_iter().map(|event| event.replay_id).collect();
    assert_eq!(before, ids[..BATCH]);
    let failure = call.failure().await;
    let suffix = "subscription.fetch.replayid.corrupted";
    failure.expect("Subscribe", code::INVALID_ARGUMENT, suffix);
    let said = &failure.message;
    let last_good = bytes(id_behind(said, "events after replay id "));
    assert!(*last <= last_good && last_good < *first_lost, "{said}");
    let valid_from = bytes(id_behind(said, "go on from replay id "));
    assert!(
        ids[2 * BATCH - 1] <= valid_from && valid_from < ids[2 * BATCH],
        "{said}"
    );

    // The same from the last id before it; from the id that was named it goes on.
    let from_last = FetchRequest::custom(TOPIC, last, 100);
    let refused = client.subscribe(&from_last).await.failure().await;
    refused.expect("Subscribe", code::INVALID_ARGUMENT, suffix);
    let go_on = FetchRequest::custom(TOPIC, &valid_from, 100);
    let after = client.subscribe(&go_on).await.fetch(BATCH).await;
    let after: Vec<_> = after.into_iter().map(|event| event.replay_id).collect();
    assert_eq!(after, ids[2 * BATCH..]);
    assert!(
        gateway
            .log()
            .contains("acknowledged events were lost to damage")
    );
}
