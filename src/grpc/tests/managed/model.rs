//! Subscribe and ManagedSubscribe through the wire, against a model of a few lines.

use proptest::prelude::*;

use super::{Managed, fulfilment};
use crate::{
    broker::tests::engines::{ORDERS, STATUSES, orders, status},
    grpc::tests::gateway::{Gateway, Subscriber, custom, settle},
    types::{Position, limits::CREDIT_MAX},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(usize),
    Elsewhere,
    Ask(Who, i32),
    /// Commits the position with this place in those that there ever were, or one that is none yet.
    Commit(usize),
    /// Ends a stream and opens another with this credit.
    Reopen(Who, i32),
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Plain,
    Managed,
}

fn step() -> impl Strategy<Value = Step> {
    let who = || prop_oneof![Just(Who::Plain), Just(Who::Managed)];
    prop_oneof![
        4 => prop_oneof![1..4usize, 1..150usize].prop_map(Step::Publish),
        1 => Just(Step::Elsewhere),
        4 => (who(), prop_oneof![1..5, 1..130]).prop_map(|(who, events)| Step::Ask(who, events)),
        4 => any::<usize>().prop_map(Step::Commit),
        2 => (who(), 1..40).prop_map(|(who, events)| Step::Reopen(who, events)),
        1 => Just(Step::Restart),
    ]
}

/// One subscriber: where it is, and what it may get.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    cursor: Position,
    credit: u32,
}

impl Flow {
    fn ask(&mut self, events: i32) {
        self.credit = (self.credit + events as u32).min(CREDIT_MAX);
    }

    /// What it gets now of `events`.
    fn take(&mut self, events: &[Position]) -> Vec<Position> {
        let after = events.iter().filter(|&&position| position > self.cursor);
        let taken: Vec<_> = after.take(self.credit as usize).copied().collect();
        self.credit -= taken.len() as u32;
        self.cursor = taken.last().copied().unwrap_or(self.cursor);
        taken
    }
}

#[derive(Default)]
struct Model {
    /// The orders that there are.
    events: Vec<Position>,
    /// Every position that was given out.
    positions: Vec<Position>,
    plain: Flow,
    managed: Flow,
    committed: Option<Position>,
    delivered: Position,
}

/// The gateway with both streams, and what they should do.
struct Run {
    gateway: Gateway,
    plain: Subscriber,
    managed: Managed,
    model: Model,
}

impl Run {
    async fn begin() -> Self {
        let gateway = Gateway::start().await;
        gateway.manage(fulfilment()).await;
        // Its head is what may be committed before anything was delivered.
        let first = gateway.publish(STATUSES, &[status("0")]).await.unwrap();
        let head = first.positions()[0];
        let mut model = Model {
            positions: vec![head],
            ..Model::default()
        };
        model.plain.cursor = head;
        let mut run = Self {
            plain: Self::open_plain(&gateway, &mut model, 3).await,
            managed: Self::open_managed(&gateway, &mut model, 3).await,
            gateway,
            model,
        };
        run.settle().await;
        run
    }

    async fn open_plain(gateway: &Gateway, model: &mut Model, credit: i32) -> Subscriber {
        model.plain.credit = credit as u32;
        let after = model.plain.cursor.replay_id();
        gateway
            .subscribe(custom(ORDERS, after.as_bytes(), credit))
            .await
    }

    async fn open_managed(gateway: &Gateway, model: &mut Model, credit: i32) -> Managed {
        model.managed = Flow {
            cursor: model.committed.unwrap_or_default(),
            credit: credit as u32,
        };
        gateway.managed(credit).await
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Publish(count) => {
                let from = self.model.events.len();
                let published = self
                    .gateway
                    .publish(ORDERS, &orders(from..from + count))
                    .await;
                let positions = published.unwrap().positions();
                self.model.events.extend(&positions);
                self.model.positions.extend(&positions);
            }
            Step::Elsewhere => {
                let published = self.gateway.publish(STATUSES, &[status("1")]).await;
                self.model.positions.extend(published.unwrap().positions());
            }
            Step::Ask(Who::Plain, events) => {
                self.model.plain.ask(events);
                self.plain.ask_for(events);
            }
            Step::Ask(Who::Managed, events) => {
                self.model.managed.ask(events);
                self.managed.ask_for(events);
            }
            Step::Commit(which) => self.commit(which).await,
            Step::Reopen(Who::Plain, credit) => {
                self.plain = Self::open_plain(&self.gateway, &mut self.model, credit).await;
            }
            Step::Reopen(Who::Managed, credit) => {
                self.managed.half_close();
                self.managed.end().await;
                self.managed = Self::open_managed(&self.gateway, &mut self.model, credit).await;
            }
            Step::Restart => {
                // Taken out, since it moves into the next one.
                let next = Gateway::start().await;
                let gateway = std::mem::replace(&mut self.gateway, next).restarted().await;
                self.managed.failure().await;
                self.plain.failure().await;
                self.model.delivered = *self.model.positions.last().unwrap();
                self.plain = Self::open_plain(&gateway, &mut self.model, 2).await;
                self.managed = Self::open_managed(&gateway, &mut self.model, 2).await;
                self.gateway = gateway;
            }
        }
    }

    /// Commits a position, which is taken or refused as the model says.
    async fn commit(&mut self, which: usize) {
        let positions = &self.model.positions;
        let head = positions.last().unwrap().get();
        let beyond = Position::new(head + 256).unwrap();
        let places = positions.len() + 1;
        let position = *positions.get(which % places).unwrap_or(&beyond);
        self.managed.commit("c", position);
        let fetched = self.managed.next().await;
        assert_eq!(fetched.pending, self.model.managed.credit as i32);
        let is_older = self
            .model
            .committed
            .is_some_and(|committed| position < committed);
        if position > self.model.delivered {
            assert!(fetched.expect_refusal("c").contains("not delivered"));
        } else if is_older {
            assert!(fetched.expect_refusal("c").contains("older"));
        } else {
            fetched.expect_commit("c");
            self.model.committed = Some(position);
        }
        assert_eq!(self.gateway.committed().await, self.model.committed);
    }

    /// Reads what both streams get now, which is what the model says and no more.
    async fn settle(&mut self) {
        let expected = self.model.plain.take(&self.model.events);
        let mut found = Vec::new();
        let mut pending = None;
        while found.len() < expected.len() {
            let fetched = self.plain.next().await;
            pending = Some(fetched.pending);
            let events = fetched.events.iter();
            found.extend(events.map(|event| position(&event.replay_id)));
        }
        assert_eq!(found, expected);
        assert!(pending.is_none_or(|pending| pending == self.model.plain.credit as i32));

        let expected = self.model.managed.take(&self.model.events);
        let mut found = Vec::new();
        let mut pending = None;
        while found.len() < expected.len() {
            let fetched = self.managed.next().await;
            assert!(fetched.commit.is_none());
            pending = Some(fetched.pending);
            found.extend(fetched.positions());
        }
        assert_eq!(found, expected);
        assert!(pending.is_none_or(|pending| pending == self.model.managed.credit as i32));
        self.model.delivered = self.model.delivered.max(self.model.managed.cursor);
        settle().await;
    }
}

fn position(replay_id: &[u8]) -> Position {
    crate::types::ReplayId::parse(replay_id).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn both_kinds_of_streams_do_what_the_model_does(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::begin().await;
            for step in steps {
                run.step(step).await;
                run.settle().await;
            }
        });
    }
}
