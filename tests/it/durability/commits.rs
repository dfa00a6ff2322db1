//! Cycles of commits on a managed subscription, `kill -9` between a commit and its answer, restart,
//! go on.

use crate::support::{
    client::Client,
    gateway::Gateway,
    order::{self, TOPIC},
    random::Random,
    wire::{ManagedFetchRequest, ManagedFetchResponse, PublishRequest},
};

/// Cycles of the test when nothing else is asked for.
const CYCLES: usize = 5;
/// The environment variable that asks for another number of cycles.
const CYCLES_VARIABLE: &str = "TIDEGATE_TEST_KILL_CYCLES";
/// Events that each cycle publishes, and commits at most.
const EVENTS: usize = 400;
const NAME: &str = "Fulfilment";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_position_is_behind_a_commit_that_was_answered() {
    let cycles = std::env::var(CYCLES_VARIABLE).map_or(CYCLES, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{CYCLES_VARIABLE} is a number, not {text}"))
    });
    let mut gateway = Gateway::start();
    let made = gateway
        .command(&format!(
            "managed create {NAME} --topic {TOPIC} --default-replay earliest"
        ))
        .output()
        .expect("the program can be run");
    assert!(made.status.success(), "{made:?}");
    let mut random = Random::new(7);
    let mut published = Vec::new();
    let mut known = Known::default();
    for cycle in 0..cycles {
        let client = Client::connect(&gateway).await;
        for _ in 0..EVENTS / 100 {
            let events = order::events(published.len()..published.len() + 100);
            let response = client.publish(&PublishRequest::new(TOPIC, events)).await;
            let results = response.unwrap().results;
            published.extend(results.into_iter().map(|result| result.replay_id));
        }
        let enough = 1 + random.below(EVENTS / 2);
        commit_until_killed(&mut gateway, &client, &published, enough, &mut known).await;
        gateway.restart();
        let client = Client::connect(&gateway).await;
        let next = next_event(&client).await;
        let next = published.iter().position(|replay_id| *replay_id == next);
        let next = next.expect("an event that was published");
        assert!(
            (known.answered..=known.sent).contains(&next),
            "cycle {cycle}: it goes on at event {next}; {} commits were answered, {} sent",
            known.answered,
            known.sent
        );
        // What was committed without an answer is known now.
        known = Known {
            answered: next,
            sent: next,
        };
    }
}

/// How many events, of all from the first on, are committed.
#[derive(Default)]
struct Known {
    /// For certain.
    answered: usize,
    /// At most.
    sent: usize,
}

/// Commits event by event without waiting for answers, and kills the gateway once `enough` commits
/// were sent in this cycle and one of them was answered.
async fn commit_until_killed(
    gateway: &mut Gateway,
    client: &Client,
    published: &[Vec<u8>],
    enough: usize,
    known: &mut Known,
) {
    let mut call = client.call("ManagedSubscribe").await;
    call.send(&ManagedFetchRequest::first(NAME, 100));
    let before = known.sent;
    let mut is_answered = false;
    while !is_answered || known.sent - before < enough {
        let response: ManagedFetchResponse = call.next().await.unwrap().expect("it goes on");
        if let Some(answer) = response.commit_response {
            assert_eq!(answer.error, None);
            known.answered = answer.commit_request_id.parse().unwrap();
            is_answered = true;
        }
        for event in response.events {
            assert_eq!(
                event.replay_id, published[known.sent],
                "each once, in order"
            );
            if known.sent + 1 == published.len() {
                // A slow disk answers when everything is delivered; one event has to be left that it
                // goes on at.
                break;
            }
            known.sent += 1;
            // Named by how many events it commits.
            let id = known.sent.to_string();
            call.send(&ManagedFetchRequest::commit(&id, &event.replay_id, 1));
        }
    }
    gateway.kill();
    // What arrived before the end counts as answered.
    while let Ok(Some(response)) = call.next::<ManagedFetchResponse>().await {
        if let Some(answer) = response.commit_response {
            known.answered = answer.commit_request_id.parse().unwrap();
        }
    }
}

/// The replay id of the event that the subscription goes on at.
async fn next_event(client: &Client) -> Vec<u8> {
    let mut call = client.call("ManagedSubscribe").await;
    call.send(&ManagedFetchRequest::first(NAME, 1));
    let response: ManagedFetchResponse = call.next().await.unwrap().expect("an event");
    let id = response.events[0].replay_id.clone();
    call.half_close();
    call.end().await.unwrap();
    id
}
