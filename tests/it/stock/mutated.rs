//! Requests damaged at random: what is accepted, every client reads as it was validated.

use prost::Message;

use crate::support::{
    client::{Client, Failure, code},
    gateway::Gateway,
    order::{self, TOPIC},
    random::Random,
    script::{Language, Stock},
    wire::{EventHeader, ProducerEvent, PublishRequest, PublishResponse},
};

/// Requests sent; about a third of them have an event that is accepted.
const REQUESTS: usize = 3_000;

/// An event as the request it was accepted from says it is.
#[derive(Debug, PartialEq)]
struct Accepted {
    replay_id: String,
    id: String,
    schema_id: String,
    payload: String,
}

#[tokio::test]
async fn what_is_accepted_of_damaged_requests_is_read_back_exactly() {
    let gateway = Gateway::ephemeral();
    let client = Client::connect(&gateway).await;
    let mut random = Random::new(0x7469_6465);
    let mut accepted = Vec::new();
    for number in 0..REQUESTS {
        let request = damaged(&mut random, number);
        let outcome: Result<PublishResponse, Failure> =
            client.unary_bytes("Publish", &request).await;
        match outcome {
            Ok(response) => accepted.extend(accepted_of(&request, response)),
            // A refusal of the whole request: a topic that is none, or not a message.
            Err(failure) => {
                let codes = [code::INVALID_ARGUMENT, code::NOT_FOUND];
                assert!(
                    codes.contains(&failure.code),
                    "{failure:?} for {request:02x?}"
                );
            }
        }
    }
    assert!(
        accepted.len() > REQUESTS / 4,
        "{} events were accepted",
        accepted.len()
    );

    let read = move |language| {
        let events = Stock::plaintext(language).read(&gateway, TOPIC, accepted.len());
        let read = events.into_iter().map(|event| Accepted {
            replay_id: event.replay_id,
            id: event.id,
            schema_id: event.schema_id,
            payload: event.payload,
        });
        for (read, accepted) in read.zip(&accepted) {
            assert_eq!(read, *accepted, "{language:?} reads what was validated");
        }
    };
    let reading = tokio::task::spawn_blocking(move || {
        read(Language::Python);
        read(Language::Node);
    });
    reading.await.unwrap();
}

/// A good request of three events with some damage.
fn damaged(random: &mut Random, number: usize) -> Vec<u8> {
    let mut events = order::events(number * 3..number * 3 + 3);
    events[1].headers = vec![EventHeader {
        key: "source".into(),
        value: vec![0xff, 0],
    }];
    events[2].id = String::new();
    let mut bytes = PublishRequest::new(TOPIC, events).encode_to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => _ = bytes.remove(at),
            3 => bytes.insert(at, random.next() as u8),
            4 => {
                let end = at + random.below((bytes.len() - at).min(16));
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.extend(unknown_field(random)),
        }
    }
    bytes
}

/// A field that the message does not have, of any wire type.
fn unknown_field(random: &mut Random) -> Vec<u8> {
    let value = random.next() as u8 & 0x7f;
    match random.below(4) {
        0 => vec![0x40, value],
        1 => vec![0x45, value, 0, 0, 0],
        2 => vec![0x41, value, 0, 0, 0, 0, 0, 0, 0],
        _ => vec![0x42, 2, value, value],
    }
}

/// A request whose events are not looked at: one may be damaged beyond reading, and be refused.
#[derive(Clone, PartialEq, Message)]
struct Outer {
    #[prost(bytes = "vec", repeated, tag = "2")]
    events: Vec<Vec<u8>>,
}

/// What `request` says about its events that `response` accepts.
///
/// A library that is not the gateway's own reader says it, and it must understand each of them.
fn accepted_of(request: &[u8], response: PublishResponse) -> Vec<Accepted> {
    let request = Outer::decode(request).expect("what is accepted is a valid message");
    assert_eq!(request.events.len(), response.results.len());
    let both = request.events.into_iter().zip(response.results);
    both.filter(|(_, result)| result.error.is_none())
        .map(|(event, result)| {
            let event = ProducerEvent::decode(&*event).expect("an accepted event is a message");
            assert_eq!(result.replay_id.len(), 10);
            if !event.id.is_empty() {
                assert_eq!(event.id, result.correlation_key);
            }
            Accepted {
                replay_id: hex(&result.replay_id),
                id: result.correlation_key,
                schema_id: event.schema_id,
                payload: hex(&event.payload),
            }
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
