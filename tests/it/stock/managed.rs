//! Managed subscriptions, each client in its own manner of committing.

use serde_json::{Value, json};

use super::{expect_orders, orders};
use crate::support::{
    gateway::Gateway,
    order::TOPIC,
    script::{EVERY, Line, Stock},
};

/// Makes a subscription, and returns its id.
fn create(gateway: &Gateway, name: &str) -> String {
    let mut command = gateway.command(&format!(
        "managed create {name} --topic {TOPIC} --default-replay earliest --output json"
    ));
    let output = command.output().expect("the program can be run");
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    made["id"].as_str().unwrap().to_owned()
}

/// Has a client read and commit `count` events, and returns what it printed.
fn read(stock: Stock, gateway: &Gateway, id: &str, name: &str, count: usize) -> Vec<Line> {
    let arguments = json!({
        "subscription_id": id, "developer_name": name, "credit": 10, "count": count,
    });
    stock.run(gateway, "managed", arguments)
}

#[test]
fn every_client_reads_commits_and_goes_on_behind_its_commit() {
    let mut gateway = Gateway::start();
    let published = EVERY[0].publish(&gateway, TOPIC, &orders(0..60), 60, true);
    for (number, stock) in EVERY.into_iter().enumerate() {
        let name = format!("Client{number}");
        let id = create(&gateway, &name);
        let mut events = Vec::new();
        // By its name, and after a kill by its id: behind the last commit.
        for (id, name) in [("", &*name), (&id, "")] {
            let lines = read(stock, &gateway, id, name, 30);
            let (mut commits, mut latest) = (0, String::new());
            let Some((Line::Status { code: 0, .. }, lines)) = lines.split_last() else {
                panic!("{stock:?} printed {lines:?}");
            };
            for line in lines {
                match line {
                    Line::Response {
                        events: found,
                        latest_replay_id,
                        ..
                    } => {
                        events.extend(found.iter().cloned());
                        latest.clone_from(latest_replay_id);
                    }
                    Line::Commit {
                        replay_id,
                        error,
                        process_time,
                        ..
                    } => {
                        assert_eq!(*error, None, "{stock:?}");
                        assert!(*process_time > 1_600_000_000_000, "{process_time}");
                        commits += 1;
                        latest.clone_from(replay_id);
                    }
                    line => panic!("{stock:?} printed {line:?}"),
                }
            }
            assert!(commits > 0, "{stock:?} heard of a commit");
            assert_eq!(latest, events.last().unwrap().replay_id, "{stock:?}");
            gateway.kill_and_restart();
        }
        expect_orders(&events, 0..60, &published);
    }
}

#[test]
fn a_refusal_is_read_by_every_client() {
    let gateway = Gateway::start();
    for stock in EVERY {
        let lines = read(stock, &gateway, "", "Nobody", 1);
        let [Line::Status { code, trailers, .. }] = &lines[..] else {
            panic!("{stock:?} printed {lines:?}");
        };
        assert_eq!(*code, 5, "{stock:?}");
        let error_code =
            "sfdc.platform.eventbus.grpc.managed.subscription.developer.name.not.found";
        assert_eq!(trailers["error-code"], error_code, "{stock:?}");
    }
}
