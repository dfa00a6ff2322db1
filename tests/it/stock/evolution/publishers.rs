//! Programs that publish, each with a version of its own, in turns.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use serde_json::{Value, json};

use super::{
    TOPIC,
    versions::{record, schema_id},
};
use crate::support::{
    gateway::Gateway,
    script::Event,
    wait::{self, DEADLINE},
};

/// The id of the last event.
pub(super) const LAST: &str = "last";
/// Events that a publisher is given at a time.
const TURN: usize = 4;
/// Events that the slowest subscriber is behind, at most.
const BEHIND_MAX: usize = 60;

/// An event as it was published and acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sent {
    pub(super) replay_id: String,
    pub(super) id: String,
    pub(super) schema_id: String,
    pub(super) record: Value,
}

impl From<Event> for Sent {
    fn from(event: Event) -> Self {
        Self {
            replay_id: event.replay_id,
            id: event.id,
            schema_id: event.schema_id,
            record: event.record,
        }
    }
}

/// A program that publishes with the version that was the current one when it was started.
pub(super) struct Publisher {
    version: usize,
    child: Child,
    stdin: ChildStdin,
    results: Receiver<Value>,
}

impl Publisher {
    pub(super) fn start(gateway: &Gateway, version: usize) -> Self {
        let mut command = gateway.command(&format!("publish {TOPIC} - --output json"));
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, results) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                let result = serde_json::from_str(&line.unwrap()).expect("a result is JSON");
                if sender.send(result).is_err() {
                    break;
                }
            }
        });
        Self {
            version,
            child,
            stdin,
            results,
        }
    }

    /// Publishes events with these ids and numbers, and returns what became of each.
    pub(super) fn publish(&mut self, events: &[(String, usize)]) -> Vec<(Value, Sent)> {
        for (id, number) in events {
            let line = json!({"event_id": id, "payload": record(self.version, *number)});
            writeln!(self.stdin, "{line}").expect("the publisher reads on");
        }
        let outcomes = events.iter().map(|(id, number)| {
            let result = self.results.recv_timeout(DEADLINE).expect("a result");
            let sent = Sent {
                replay_id: result["replay_id"].as_str().unwrap_or_default().to_owned(),
                id: id.clone(),
                schema_id: schema_id(self.version),
                record: record(self.version, *number),
            };
            (result, sent)
        });
        outcomes.collect()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// What those who publish without a pause are told.
pub(super) enum Order {
    /// Another one publishes from now on.
    Join(Publisher),
    /// The publisher with this version is wanted for something else.
    Leave(usize, Sender<Publisher>),
    /// There is one more event.
    End,
}

/// Lets publishers take turns until the end, and returns what they published, in order.
pub(super) fn publish_in_turns(
    orders: &Receiver<Order>,
    subscribers: &[Arc<Mutex<Vec<Event>>>],
) -> Vec<Sent> {
    let mut publishers: Vec<Publisher> = Vec::new();
    let mut all: Vec<Sent> = Vec::new();
    let mut turn = |publisher: &mut Publisher, ids: Vec<(String, usize)>| {
        for (result, sent) in publisher.publish(&ids) {
            assert_eq!(result["error"], Value::Null, "{result}");
            assert_eq!(result["event_id"], sent.id);
            all.push(sent);
        }
        all.len()
    };
    let mut number = 0;
    loop {
        match orders.try_recv() {
            Ok(Order::Join(publisher)) => publishers.push(publisher),
            Ok(Order::Leave(version, reply)) => {
                let is_wanted = |publisher: &mut Publisher| publisher.version == version;
                let wanted = publishers.extract_if(.., is_wanted).next();
                reply.send(wanted.expect("it publishes")).unwrap();
            }
            Ok(Order::End) => {
                let publisher = publishers.last_mut().expect("somebody publishes");
                turn(publisher, vec![(LAST.to_owned(), number)]);
                return all;
            }
            Err(mpsc::TryRecvError::Empty) => {}
            // The test has failed.
            Err(mpsc::TryRecvError::Disconnected) => return all,
        }
        for publisher in &mut publishers {
            let ids = (number..number + TURN).map(|number| (format!("shipment-{number}"), number));
            let published = turn(publisher, ids.collect());
            number += TURN;
            wait::until("subscribers that keep up", || {
                let counts = subscribers
                    .iter()
                    .map(|events| events.lock().unwrap().len());
                (counts.min() >= published.checked_sub(BEHIND_MAX)).then_some(())
            });
        }
    }
}
