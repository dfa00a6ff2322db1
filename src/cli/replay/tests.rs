use std::{fs, future::pending, path::Path};

use clap::Parser;

use super::*;
use crate::cli::{
    exit::Exit,
    fake_gateway::{FakeGateway, replay_id},
};

const TOPIC: &str = "/event/OrderCreated__e";

async fn replay_with(gateway: &FakeGateway, arguments: &str, file: &Path) -> Result<(), Failure> {
    #[derive(clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        args: Args,
    }
    let arguments = format!("replay {TOPIC} {arguments} --to-file {}", file.display());
    let args = Parsed::try_parse_from(arguments.split_whitespace()).unwrap();
    replay(args.args, gateway.connect().await, pending()).await
}

fn ids(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["event_id"].as_str().unwrap().to_owned()
    });
    lines.collect()
}

#[tokio::test]
async fn a_part_of_the_past_is_copied_both_ends_as_told() {
    let gateway = FakeGateway::with_events(30).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.ndjson");
    replay_with(&gateway, "", &file).await.unwrap();
    assert_eq!(ids(&file).len(), 30);
    let file = directory.path().join("part.ndjson");
    let part = format!("--from {} --to {}", replay_id(10), replay_id(12));
    replay_with(&gateway, &part, &file).await.unwrap();
    assert_eq!(ids(&file), ["e-11", "e-12"]);
    let failure = replay_with(&gateway, "", &file).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert_eq!(ids(&file).len(), 2, "what is there is left");
}

#[tokio::test]
async fn an_avro_file_is_read_by_others() {
    let gateway = FakeGateway::with_events(1_000).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.avro");
    replay_with(&gateway, "", &file).await.unwrap();
    let bytes = fs::read(&file).unwrap();
    let reader = apache_avro::Reader::new(&bytes[..]).unwrap();
    let mut numbers = Vec::new();
    for value in reader {
        let apache_avro::types::Value::Record(fields) = value.unwrap() else {
            panic!("a record");
        };
        let number = fields
            .into_iter()
            .find(|(name, _)| name == "Order_Number__c");
        numbers.push(format!("{:?}", number.unwrap().1));
    }
    assert_eq!(numbers.len(), 1_000);
    assert!(numbers[999].contains("A-1000"), "{}", numbers[999]);
}
