//! Cycles of a publisher that sends everything twice, `kill -9`, restart, and everything twice again.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use tokio::sync::watch;

use crate::support::{
    client::Client,
    gateway::{Gateway, Settings},
    order::{self, TOPIC},
    random::Random,
    wire::{ConsumerEvent, FetchRequest, PublishRequest, PublishResponse},
};

/// Cycles of the test when nothing else is asked for.
const CYCLES: usize = 10;
/// The environment variable that asks for another number of cycles.
const CYCLES_VARIABLE: &str = "TIDEGATE_TEST_KILL_CYCLES";
/// Requests of a stream that await their answers.
const PIPELINE: usize = 8;

/// The replay ids that were answered, by event id.
#[derive(Default)]
struct Answers(HashMap<String, Vec<u8>>);

impl Answers {
    fn note(&mut self, response: PublishResponse) -> usize {
        let count = response.results.len();
        for result in response.results {
            assert_eq!(result.error, None);
            let (id, replay_id) = (result.correlation_key, result.replay_id);
            let first = self.0.entry(id.clone()).or_insert(replay_id.clone());
            assert_eq!(*first, replay_id, "{id} has one replay id");
        }
        count
    }

    fn add(&mut self, others: Self) {
        for (id, replay_id) in others.0 {
            let first = self.0.entry(id.clone()).or_insert(replay_id.clone());
            assert_eq!(*first, replay_id, "{id} has one replay id");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_that_is_sent_twice_under_kills_is_there_once() {
    let cycles = std::env::var(CYCLES_VARIABLE).map_or(CYCLES, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{CYCLES_VARIABLE} is a number, not {text}"))
    });
    let mut gateway = Gateway::start_with(Settings {
        environment: vec![("TIDEGATE_IDEMPOTENCE__ENABLED", "true")],
        ..Settings::default()
    });
    let mut random = Random::new(31);
    let mut answers = Answers::default();
    let mut sent = 0;
    let mut end = None;
    for cycle in 0..cycles {
        let before = sent;
        sent = publish_until_killed(&mut gateway, sent, &mut random, &mut answers).await;
        gateway.restart();
        // All of it again, and once more what was there before the cycle.
        let again = before.saturating_sub(500)..sent;
        let client = Client::connect(&gateway).await;
        let (streamed, called) = tokio::join!(
            stream_all(&client, again.clone()),
            call_all(&client, again.clone())
        );
        answers.add(streamed);
        answers.add(called);
        let head = answers
            .0
            .values()
            .max()
            .cloned()
            .expect("there are answers");
        let new = read_up_to(&client, end.as_deref(), &head).await;
        let mut by_id = BTreeMap::new();
        for event in &new {
            let id = &event.event.as_ref().expect("an event has a body").id;
            let is_new = by_id.insert(id.clone(), &event.replay_id).is_none();
            assert!(is_new, "cycle {cycle}: {id} is there twice");
        }
        assert_eq!(by_id.len(), sent - before, "cycle {cycle}: each is there");
        for (id, replay_id) in by_id {
            let answered = &answers.0[&id];
            assert_eq!(
                answered, replay_id,
                "cycle {cycle}: {id} is where it was answered"
            );
        }
        end = Some(head);
    }
    let client = Client::connect(&gateway).await;
    let head = end.expect("there was a cycle");
    let everything = read_up_to(&client, None, &head).await;
    assert_eq!(everything.len(), sent, "each event is there once");
}

/// Publishes events from number `from` on, each by a stream and by single calls, until the gateway
/// is killed under them. Returns the number behind the last one that was sent.
async fn publish_until_killed(
    gateway: &mut Gateway,
    from: usize,
    random: &mut Random,
    answers: &mut Answers,
) -> usize {
    let (acknowledged, mut count) = watch::channel(0);
    let client = Client::connect(gateway).await;
    let other = Client::connect(gateway).await;
    let counted = acknowledged.clone();
    let streaming = tokio::spawn(async move {
        stream_until_it_ends(&client, from, |events| {
            counted.send_modify(|count| *count += events);
        })
        .await
    });
    let calling = tokio::spawn(async move {
        call_until_it_ends(&other, from, |events| {
            acknowledged.send_modify(|count| *count += events);
        })
        .await
    });
    // The kill falls into the load, at another point of it in each cycle.
    let enough = 1 + random.below(1_000);
    count
        .wait_for(|&count| count >= enough)
        .await
        .expect("the publishers are at work");
    gateway.kill();
    let mut end = from;
    for publisher in [streaming, calling] {
        let (sent, of_one) = publisher
            .await
            .expect("a publisher ends with its connection");
        end = end.max(sent);
        answers.add(of_one);
    }
    end
}

async fn stream_until_it_ends(
    client: &Client,
    from: usize,
    count: impl Fn(usize),
) -> (usize, Answers) {
    let mut call = client.call("PublishStream").await;
    let (mut next, mut answers) = (from, Answers::default());
    let mut batch = || {
        next += 20;
        request(next - 20..next)
    };
    for _ in 0..PIPELINE {
        call.send(&batch());
    }
    while let Ok(Some(response)) = call.next::<PublishResponse>().await {
        count(answers.note(response));
        call.send(&batch());
    }
    (next, answers)
}

async fn call_until_it_ends(
    client: &Client,
    from: usize,
    count: impl Fn(usize),
) -> (usize, Answers) {
    let (mut next, mut answers) = (from, Answers::default());
    while let Ok(mut call) = client.try_call_path("/eventbus.v1.PubSub/Publish").await {
        // Some of each request are in another one of the stream.
        call.send(&request(next..next + 50));
        next += 50;
        call.half_close();
        match call.next::<PublishResponse>().await {
            Ok(Some(response)) => count(answers.note(response)),
            _ => break,
        }
    }
    (next, answers)
}

/// Publishes these events by a stream, the last ones first.
async fn stream_all(client: &Client, numbers: Range<usize>) -> Answers {
    let mut call = client.call("PublishStream").await;
    let mut answers = Answers::default();
    let mut pending = 0;
    let mut end = numbers.end;
    while end > numbers.start || pending > 0 {
        if end > numbers.start && pending < PIPELINE {
            let start = end.saturating_sub(30).max(numbers.start);
            call.send(&request(start..end));
            (end, pending) = (start, pending + 1);
            continue;
        }
        let response: PublishResponse = call.next().await.unwrap().expect("an answer");
        answers.note(response);
        pending -= 1;
    }
    answers
}

/// Publishes these events by single calls.
async fn call_all(client: &Client, numbers: Range<usize>) -> Answers {
    let mut answers = Answers::default();
    for start in numbers.clone().step_by(70) {
        let request = request(start..(start + 70).min(numbers.end));
        answers.note(client.publish(&request).await.unwrap());
    }
    answers
}

fn request(numbers: Range<usize>) -> PublishRequest {
    PublishRequest::new(TOPIC, order::events(numbers))
}

/// Every event after `from`, or from the oldest, up to the one at `head`.
async fn read_up_to(client: &Client, from: Option<&[u8]>, head: &[u8]) -> Vec<ConsumerEvent> {
    let first = match from {
        Some(replay_id) => FetchRequest::custom(TOPIC, replay_id, 100),
        None => FetchRequest::earliest(TOPIC, 100),
    };
    let mut events: Vec<ConsumerEvent> = Vec::new();
    if from == Some(head) {
        return events;
    }
    let mut call = client.subscribe(&first).await;
    while events.last().is_none_or(|event| event.replay_id != head) {
        let response = call.fetched().await;
        let received = response.events.len();
        events.extend(response.events);
        if received > 0 {
            call.send(&FetchRequest::more(received as i32));
        }
    }
    events
}
