//! Streams that share a managed subscription, through the wire: whatever comes and goes, nothing is lost,
//! keys keep their order, and what is committed does not come again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::timeout;

use super::{Managed, fulfilment};
use crate::{
    broker::{
        NewManaged, NewSharing,
        tests::engines::{ORDERS, STATUSES, order, status},
    },
    grpc::tests::gateway::{Gateway, settle},
    proto::ProducerEvent,
    types::Position,
};

const STREAMS: usize = 4;
const KEYS: usize = 40;

#[derive(Clone, Debug)]
enum Step {
    /// Events of these keys.
    Publish(Vec<usize>),
    Elsewhere,
    Open(usize, i32),
    /// Ends a stream, well or not.
    End(usize, bool),
    /// Ends a stream while another one comes.
    Replace(usize, i32),
    /// Reads what a stream gets now.
    Read(usize),
    /// Commits one of those events that a stream was sent and has not committed.
    Commit(usize, prop::sample::Index),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let stream = || 0..STREAMS;
    prop_oneof![
        4 => prop::collection::vec(0..KEYS, 1..60).prop_map(Step::Publish),
        1 => Just(Step::Elsewhere),
        4 => (stream(), prop_oneof![1..4, 1..100]).prop_map(|(n, credit)| Step::Open(n, credit)),
        2 => (stream(), any::<bool>()).prop_map(|(n, is_well)| Step::End(n, is_well)),
        2 => (stream(), 1..100).prop_map(|(n, credit)| Step::Replace(n, credit)),
        5 => stream().prop_map(Step::Read),
        5 => (stream(), any::<prop::sample::Index>()).prop_map(|(n, which)| Step::Commit(n, which)),
        1 => Just(Step::Restart),
    ]
}

/// An event: its key, and its number among those of the key, from 1 on.
type Event = (usize, usize);

/// A stream, and what it was sent and has not committed.
struct Live {
    stream: Managed,
    sent: Vec<(Position, Event)>,
    /// The last number of each key that came on it.
    last: BTreeMap<usize, usize>,
}

struct Run {
    gateway: Gateway,
    live: [Option<Live>; STREAMS],
    /// How many events of each key there are.
    published: BTreeMap<usize, usize>,
    /// How many of each key came, on whichever stream.
    seen: BTreeMap<usize, usize>,
    committed: BTreeSet<Event>,
}

impl Run {
    async fn begin() -> Self {
        let gateway = Gateway::start().await;
        let new = NewManaged {
            sharing: Some(NewSharing {
                streams: STREAMS as u32,
                key: "Order_Number__c".into(),
            }),
            ..fulfilment()
        };
        gateway.manage(new).await;
        Self {
            gateway,
            live: Default::default(),
            published: BTreeMap::new(),
            seen: BTreeMap::new(),
            committed: BTreeSet::new(),
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Publish(keys) => {
                let events = keys.into_iter().map(|key| {
                    let number = self.published.entry(key).or_default();
                    *number += 1;
                    ProducerEvent {
                        id: format!("{key}-{number}"),
                        ..order(&format!("order {key}"))
                    }
                });
                let events: Vec<_> = events.collect();
                self.gateway.publish(ORDERS, &events).await.unwrap();
            }
            Step::Elsewhere => {
                let events = [status("1")];
                self.gateway.publish(STATUSES, &events).await.unwrap();
            }
            Step::Open(index, credit) => match &self.live[index] {
                Some(live) => live.stream.ask_for(credit),
                None => self.open(index, credit).await,
            },
            Step::End(index, is_well) => {
                if let Some(mut live) = self.live[index].take()
                    && is_well
                {
                    live.stream.half_close();
                    while let Ok(Some(_)) = live.stream.responses.message().await {}
                }
                settle().await;
            }
            Step::Replace(index, credit) => {
                self.live[index] = None;
                self.open(index, credit).await;
            }
            Step::Read(index) => self.read(index).await,
            Step::Commit(index, which) => self.commit(index, |sent| which.index(sent)).await,
            Step::Restart => {
                self.live = Default::default();
                // Taken out, since it moves into the next one.
                let next = Gateway::start().await;
                let gateway = std::mem::replace(&mut self.gateway, next);
                self.gateway = gateway.restarted().await;
            }
        }
    }

    async fn open(&mut self, index: usize, credit: i32) {
        self.live[index] = Some(Live {
            stream: self.gateway.managed(credit).await,
            sent: Vec::new(),
            last: BTreeMap::new(),
        });
        settle().await;
    }

    /// Reads what a stream gets now.
    async fn read(&mut self, index: usize) {
        let Some(live) = &mut self.live[index] else {
            return;
        };
        while let Ok(fetched) = timeout(Duration::from_millis(1), live.stream.next()).await {
            assert!(fetched.commit.is_none());
            let positions = fetched.positions();
            if let Some(last) = positions.last() {
                assert_eq!(fetched.latest, *last);
            }
            for (id, position) in fetched.ids().into_iter().zip(positions) {
                let (key, number) = id.split_once('-').unwrap();
                let event @ (key, number): Event = (key.parse().unwrap(), number.parse().unwrap());
                assert!(!self.committed.contains(&event), "{id} is committed");
                let seen = self.seen.entry(key).or_default();
                assert!(number <= *seen + 1, "{id} came before {seen} of its key");
                *seen = number.max(*seen);
                let last = live.last.insert(key, number);
                assert!(
                    last.is_none_or(|last| last < number),
                    "{id} came after {last:?}"
                );
                live.sent.push((position, event));
            }
        }
    }

    /// Commits the event in that place of those that are not committed which `place` says.
    async fn commit(&mut self, index: usize, place: impl Fn(usize) -> usize) {
        // An answer would come among events.
        self.read(index).await;
        let Some(live) = self.live[index]
            .as_mut()
            .filter(|live| !live.sent.is_empty())
        else {
            return;
        };
        let place = place(live.sent.len());
        live.stream.commit("c", live.sent[place].0);
        let fetched = live.stream.next().await;
        fetched.expect_commit("c");
        let committed = live.sent.drain(..=place);
        self.committed.extend(committed.map(|(_, event)| event));
        settle().await;
    }

    /// Reads and commits until the streams that there are get nothing more: that is everything.
    async fn drain(&mut self) {
        let live: Vec<_> = (0..STREAMS).filter(|n| self.live[*n].is_some()).collect();
        let mut before = None;
        while before != Some(self.committed.len()) {
            before = Some(self.committed.len());
            for &index in &live {
                self.live[index].as_ref().unwrap().stream.ask_for(100);
                self.commit(index, |sent| sent - 1).await;
            }
        }
        if !live.is_empty() {
            assert_eq!(self.committed.len(), self.published.values().sum::<usize>());
        }
    }

    /// The same with one stream and none before, and then with one that gets nothing.
    async fn finish(&mut self) {
        self.drain().await;
        self.live = Default::default();
        settle().await;
        self.open(0, 100).await;
        self.drain().await;
        assert_eq!(self.seen, self.published);
        self.step(Step::Restart).await;
        self.open(0, 100).await;
        self.read(0).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_is_lost_and_keys_keep_their_order_whatever_comes_and_goes(
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::begin().await;
            for step in steps {
                run.step(step).await;
            }
            run.finish().await;
        });
    }
}
