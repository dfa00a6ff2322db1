//! A long history of many topics: what a start and a reader in its middle have to read of it. What is
//! asserted is counted work; how long it takes is for `benches/history.rs`.

use std::{fs, path::Path};

use serde_json::Value;

use crate::support::{
    client::Client,
    disk::Disk,
    gateway::{Gateway, Place, Settings},
    http,
    order::{self, TOPIC},
    wire::{FetchRequest, ProducerEvent, PublishRequest, TopicInfo, TopicRequest},
};

const TOPICS: usize = 1_000;
/// Events that each topic gets at once, and bytes of each: 40 MB in all.
const EVENTS: usize = 20;
const EVENT_BYTES: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_reads_the_newest_index_and_a_reader_what_it_asked_for() {
    // Syncs for each topic and each publish would be most of the test.
    let disk = Disk::tmpfs(256 << 20);
    let place = Place {
        data_dir: disk.path().join("data"),
        schemas_dir: disk.path().join("schemas"),
    };
    write_schemas(&place.schemas_dir);
    let settings = Settings {
        environment: vec![("TIDEGATE_EVENT_LOG__SEGMENT_BYTES_MAX", "1MiB")],
        ..Settings::default()
    };
    let mut gateway = Gateway::start_at(place, settings);
    let client = Client::connect(&gateway).await;
    let mut replay_ids = Vec::with_capacity(TOPICS);
    for number in 0..TOPICS {
        replay_ids.push(publish(&client, number).await);
    }
    gateway.terminate();
    assert!(gateway.wait_for_end().success());

    gateway.restart();
    let (_, metrics) = http::get(&gateway, "/metrics").await;
    let count = |metrics: &str, name: &str| {
        http::value_of(metrics, &format!("tidegate_event_log_{name}_total")) as u64
    };
    let tenant = &gateway.ready().tenant_id;
    let segments = format!("tidegate_event_log_segments{{tenant=\"{tenant}\"}}");
    assert!(http::value_of(&metrics, &segments) > 40.0);
    assert_eq!(count(&metrics, "recoveries"), 0);
    assert_eq!(count(&metrics, "disk_reads"), 0);
    // Upkeep may have looked at the oldest segment meanwhile.
    assert!((1..=2).contains(&count(&metrics, "footer_reads")));

    let client = Client::connect(&gateway).await;
    let middle = TOPICS / 2;
    let first = FetchRequest::custom(&topic(middle), &replay_ids[middle - 1], 1);
    let found = client.subscribe(&first).await.fetch(1).await.remove(0);
    assert!(found.replay_id > replay_ids[middle - 1] && found.replay_id < replay_ids[middle]);
    let (_, metrics) = http::get(&gateway, "/metrics").await;
    assert!(count(&metrics, "disk_reads") <= 2);
    // Its events may begin in the next segment.
    assert!(count(&metrics, "footer_reads") <= 4);
}

fn record(number: usize) -> String {
    format!("History_{number:04}__e")
}

fn topic(number: usize) -> String {
    format!("/event/{}", record(number))
}

/// The sample schema of orders under many names.
fn write_schemas(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let name = TOPIC.rsplit('/').next().unwrap();
    let sample = format!("{}/schemas/{name}.avsc", env!("CARGO_MANIFEST_DIR"));
    let mut schema: Value = serde_json::from_slice(&fs::read(sample).unwrap()).unwrap();
    for number in 0..TOPICS {
        schema["name"] = record(number).into();
        let path = dir.join(format!("{}.avsc", record(number)));
        fs::write(path, schema.to_string()).unwrap();
    }
}

/// Publishes to one topic, and returns the last replay id.
async fn publish(client: &Client, number: usize) -> Vec<u8> {
    let request = TopicRequest {
        topic_name: topic(number),
    };
    let info: TopicInfo = client.unary("GetTopic", &request).await.unwrap();
    let event = ProducerEvent {
        schema_id: info.schema_id,
        payload: order::payload_of(EVENT_BYTES),
        ..order::event(number)
    };
    let request = PublishRequest::new(&topic(number), vec![event; EVENTS]);
    let mut response = client.publish(&request).await.unwrap();
    let last = response.results.pop().expect("one for each event");
    assert_eq!(last.error, None);
    last.replay_id
}
