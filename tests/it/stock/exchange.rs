//! Publishing and subscribing, by the five calls, in both languages, with TLS and without.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::json;

use super::{expect_orders, orders};
use crate::support::{
    client::is_uuid,
    gateway::Gateway,
    order::{SCHEMA_ID, TOPIC},
    script::{EVERY, Language, Line, Stock, Subscribe},
};

#[test]
fn a_topic_and_its_schema_are_found() {
    let gateway = Gateway::ephemeral();
    let text = include_str!("../../../schemas/OrderCreated__e.avsc");
    for stock in EVERY {
        let [
            Line::Topic {
                topic_name,
                tenant_guid,
                can_publish: true,
                can_subscribe: true,
                schema_id,
                rpc_id,
            },
        ] = &stock.run(&gateway, "topic", json!({ "topic": TOPIC }))[..]
        else {
            panic!("{stock:?} gets the topic");
        };
        assert_eq!(topic_name, TOPIC);
        assert_eq!(
            *tenant_guid,
            format!("CORE/prod/{}", gateway.ready().tenant_id)
        );
        assert_eq!(schema_id, SCHEMA_ID);
        assert!(is_uuid(rpc_id));

        let arguments = json!({ "schema_id": schema_id });
        let [
            Line::Schema {
                schema_json,
                schema_id,
                rpc_id,
            },
        ] = &stock.run(&gateway, "schema_text", arguments)[..]
        else {
            panic!("{stock:?} gets the schema");
        };
        let served: serde_json::Value = serde_json::from_str(schema_json).unwrap();
        assert_eq!(
            served,
            serde_json::from_str::<serde_json::Value>(text).unwrap()
        );
        assert_eq!(schema_id, SCHEMA_ID);
        assert!(is_uuid(rpc_id));
    }
}

#[test]
fn a_thousand_events_go_from_each_client_to_all_by_publish() {
    exchange_a_thousand(false);
}

#[test]
fn a_thousand_events_go_from_each_client_to_all_by_publish_stream() {
    exchange_a_thousand(true);
}

fn exchange_a_thousand(is_stream: bool) {
    let gateway = Gateway::start();
    let mut published = Vec::new();
    for (round, publisher) in EVERY.into_iter().enumerate() {
        let events = orders(round * 1_000..(round + 1) * 1_000);
        published.extend(publisher.publish(&gateway, TOPIC, &events, 200, is_stream));
    }
    let (by_python, by_node) = (Language::Python, Language::Node);
    for subscriber in [Stock::tls(by_python), Stock::plaintext(by_node)] {
        let events = subscriber.read(&gateway, TOPIC, 4_000);
        expect_orders(&events, 0..4_000, &published);
    }
}

#[test]
fn a_response_of_publish_names_the_schema_and_the_call() {
    let gateway = Gateway::ephemeral();
    for stock in EVERY {
        for command in ["publish", "publish_stream"] {
            let arguments = json!({ "topic": TOPIC, "events": orders(0..5), "batch": 2 });
            let lines = stock.run(&gateway, command, arguments);
            let mut sizes = Vec::new();
            for line in &lines {
                match line {
                    Line::Published {
                        results,
                        schema_id,
                        rpc_id,
                    } => {
                        assert_eq!(schema_id, SCHEMA_ID);
                        assert!(is_uuid(rpc_id));
                        sizes.push(results.len());
                    }
                    line => assert!(matches!(line, Line::Status { code: 0, .. }), "{line:?}"),
                }
            }
            assert_eq!(
                sizes,
                [2, 2, 1],
                "{stock:?} gets one response for each request"
            );
        }
    }
}

#[test]
fn latest_gets_what_is_published_after_it() {
    let gateway = Gateway::start();
    let before = EVERY[0].publish(&gateway, TOPIC, &orders(0..10), 10, false);
    for stock in EVERY {
        let how = Subscribe {
            preset: "LATEST",
            count: 1_000,
            ..Subscribe::default()
        };
        let mut script = stock.subscribe(&gateway, TOPIC, &how);
        assert_eq!(
            script.next(),
            Some(Line::Headers),
            "{stock:?} gets headers first"
        );

        // Headers say nothing about when the first request is handled, so events are sent until
        // one arrives; from there on none may be missing.
        let has_one = AtomicBool::new(false);
        let (mut events, probes) = thread::scope(|scope| {
            let probing = scope.spawn(|| {
                let mut probes = Vec::new();
                loop {
                    let number = 100_000 + probes.len();
                    probes.extend(stock.publish(&gateway, TOPIC, &orders([number]), 1, false));
                    if has_one.load(Ordering::Relaxed) {
                        return probes;
                    }
                }
            });
            let first = script.events(1);
            has_one.store(true, Ordering::Relaxed);
            (first, probing.join().unwrap())
        });
        let first = &events[0].replay_id;
        assert!(before.iter().all(|result| result.replay_id < *first));
        let skipped = probes.iter().position(|probe| probe.replay_id == *first);
        let skipped = skipped.expect("the first event is one of the probes");

        let published = stock.publish(&gateway, TOPIC, &orders(10..1_010), 200, true);
        events.extend(script.events(1_000 - events.len()));
        let wanted = probes[skipped..].iter().chain(&published);
        let both: Vec<_> = events.iter().zip(wanted).collect();
        assert_eq!(both.len(), events.len());
        for (event, wanted) in both {
            assert_eq!(event.replay_id, wanted.replay_id, "{stock:?} misses none");
        }
    }
}

#[test]
fn a_stored_id_is_gone_on_from_in_ten_bytes_and_in_eight() {
    let gateway = Gateway::ephemeral();
    let published = EVERY[1].publish(&gateway, TOPIC, &orders(0..1_000), 200, true);
    for stock in EVERY {
        for (last_read, digits) in [(0, 20), (499, 16), (998, 20)] {
            let how = Subscribe {
                preset: "CUSTOM",
                replay_id: &published[last_read].replay_id[..digits],
                count: 999 - last_read,
                ..Subscribe::default()
            };
            let rest = stock
                .subscribe(&gateway, TOPIC, &how)
                .events(999 - last_read);
            expect_orders(&rest, last_read + 1..1_000, &published[last_read + 1..]);
        }
    }
}

#[test]
fn an_event_without_an_id_is_given_one() {
    let gateway = Gateway::ephemeral();
    for (number, stock) in EVERY.into_iter().enumerate() {
        let mut events = orders([number]);
        events[0]["id"] = json!("");
        let results = stock.publish(&gateway, TOPIC, &events, 1, false);
        assert!(is_uuid(&results[0].correlation_key), "{results:?}");
        let read = stock.read(&gateway, TOPIC, number + 1);
        assert_eq!(read[number].id, results[0].correlation_key);
    }
}
