//! Cycles of publish under load, `kill -9`, restart, read back.

use std::collections::HashMap;

use crate::support::{
    client::Client,
    gateway::Gateway,
    order::{self, TOPIC},
    random::Random,
    wire::{ConsumerEvent, FetchRequest, PublishRequest, PublishResponse},
};

/// Cycles of the test when nothing else is asked for.
const CYCLES: usize = 5;
/// The environment variable that asks for another number of cycles.
const CYCLES_VARIABLE: &str = "TIDEGATE_TEST_KILL_CYCLES";
/// Publishers at work at once: half of them stream, half make single calls.
const PUBLISHERS: usize = 4;

/// Each acknowledged event, by the id its publisher chose, in the order of that publisher.
type Acknowledged = Vec<(String, Vec<u8>)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_event_is_there_once_in_order_at_its_replay_id() {
    let cycles = std::env::var(CYCLES_VARIABLE).map_or(CYCLES, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{CYCLES_VARIABLE} is a number, not {text}"))
    });
    let mut gateway = Gateway::start();
    let mut random = Random::new(20);
    // What is known to be in the log after each cycle, and where it ends.
    let mut log: Vec<ConsumerEvent> = Vec::new();
    for cycle in 0..cycles {
        let acknowledged = publish_until_killed(&mut gateway, cycle, &mut random).await;
        assert!(
            acknowledged.iter().any(|of_one| !of_one.is_empty()),
            "something was acknowledged"
        );
        gateway.restart();

        let client = Client::connect(&gateway).await;
        let from = log.last().map(|event| event.replay_id.clone());
        let new = read_to_head(&client, from.as_deref()).await;
        expect_all(&acknowledged, &new, cycle);
        log.extend(new);
    }
    let client = Client::connect(&gateway).await;
    let everything = read_to_head(&client, None).await;
    let (mark, everything) = everything
        .split_last()
        .expect("at least the mark just made");
    assert!(everything == log, "the whole log is what each cycle found");
    assert!(
        log.last()
            .is_none_or(|last| last.replay_id < mark.replay_id)
    );
}

/// Publishes with several clients until the gateway is killed under them.
async fn publish_until_killed(
    gateway: &mut Gateway,
    cycle: usize,
    random: &mut Random,
) -> Vec<Acknowledged> {
    let (acknowledged, mut count) = tokio::sync::watch::channel(0);
    let mut publishers = Vec::new();
    for publisher in 0..PUBLISHERS {
        let client = Client::connect(gateway).await;
        let names = Names {
            cycle,
            publisher,
            next: 0,
        };
        let acknowledged = acknowledged.clone();
        publishers.push(tokio::spawn(async move {
            let count = |events| acknowledged.send_modify(|count| *count += events);
            if publisher % 2 == 0 {
                stream_until_it_ends(&client, names, count).await
            } else {
                call_until_it_ends(&client, names, count).await
            }
        }));
    }
    // The kill falls into the load, at another point of it in each cycle.
    let enough = 1 + random.below(2_000);
    count
        .wait_for(|&count| count >= enough)
        .await
        .expect("the publishers are at work");
    gateway.kill();

    let mut all = Vec::new();
    for publisher in publishers {
        all.push(
            publisher
                .await
                .expect("a publisher ends with its connection"),
        );
    }
    all
}

/// Ids of one publisher's events in one cycle.
struct Names {
    cycle: usize,
    publisher: usize,
    next: usize,
}

impl Names {
    /// A batch of events with the next ids.
    fn batch(&mut self, size: usize) -> PublishRequest {
        let mut events = order::events(self.next..self.next + size);
        for event in &mut events {
            event.id = format!("{}-{}-{}", self.cycle, self.publisher, self.next);
            self.next += 1;
        }
        PublishRequest::new(TOPIC, events)
    }
}

/// Keeps several requests of a stream under way.
async fn stream_until_it_ends(
    client: &Client,
    mut names: Names,
    count: impl Fn(usize),
) -> Acknowledged {
    const PIPELINE: usize = 8;
    let mut call = client.call("PublishStream").await;
    let mut acknowledged = Vec::new();
    for _ in 0..PIPELINE {
        call.send(&names.batch(20));
    }
    while let Ok(Some(response)) = call.next::<PublishResponse>().await {
        count(note(response, &mut acknowledged));
        call.send(&names.batch(20));
    }
    acknowledged
}

async fn call_until_it_ends(
    client: &Client,
    mut names: Names,
    count: impl Fn(usize),
) -> Acknowledged {
    let mut acknowledged = Vec::new();
    while let Ok(mut call) = client.try_call_path("/eventbus.v1.PubSub/Publish").await {
        call.send(&names.batch(3));
        call.half_close();
        match call.next::<PublishResponse>().await {
            Ok(Some(response)) => count(note(response, &mut acknowledged)),
            _ => break,
        }
    }
    acknowledged
}

fn note(response: PublishResponse, acknowledged: &mut Acknowledged) -> usize {
    let count = response.results.len();
    for result in response.results {
        assert_eq!(result.error, None);
        acknowledged.push((result.correlation_key, result.replay_id));
    }
    count
}

/// Every event after `from`, or from the oldest, up to the head.
pub(super) async fn read_to_head(client: &Client, from: Option<&[u8]>) -> Vec<ConsumerEvent> {
    // A mark at the end: what is read up to it is everything.
    let mut mark = order::event(0);
    mark.id = "mark".into();
    let response = client
        .publish(&PublishRequest::new(TOPIC, vec![mark]))
        .await
        .unwrap();
    let end = &response.results[0].replay_id;
    let first = match from {
        Some(replay_id) => FetchRequest::custom(TOPIC, replay_id, 100),
        None => FetchRequest::earliest(TOPIC, 100),
    };
    let mut call = client.subscribe(&first).await;
    let mut events: Vec<ConsumerEvent> = Vec::new();
    while events.last().is_none_or(|event| event.replay_id != *end) {
        let response = call.fetched().await;
        let received = response.events.len();
        events.extend(response.events);
        if received > 0 {
            call.send(&FetchRequest::more(received as i32));
        }
    }
    events
}

/// Holds what was read to what was acknowledged.
fn expect_all(acknowledged: &[Acknowledged], read: &[ConsumerEvent], cycle: usize) {
    assert!(
        read.is_sorted_by(|a, b| a.replay_id < b.replay_id),
        "cycle {cycle}: ids rise"
    );
    let mut by_id = HashMap::new();
    for event in read {
        let body = event.event.as_ref().expect("an event has a body");
        let is_new = by_id.insert(body.id.clone(), &event.replay_id).is_none();
        assert!(
            is_new || body.id == "mark",
            "cycle {cycle}: {} is there twice",
            body.id
        );
    }
    for of_one in acknowledged {
        assert!(
            of_one.is_sorted_by(|a, b| a.1 < b.1),
            "cycle {cycle}: acknowledged in order"
        );
        for (id, replay_id) in of_one {
            let found = by_id.get(id).copied();
            assert_eq!(
                found,
                Some(replay_id),
                "cycle {cycle}: {id} is where it was acknowledged"
            );
        }
    }
}
