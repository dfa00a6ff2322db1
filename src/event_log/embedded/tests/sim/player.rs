//! Plays a history: one action after the other on one machine, with the model beside it.
//!
//! At every operation that changes the disk the player looks at what readers see, and keeps the disk
//! and the model as they are at that moment, for whoever wants to let the machine crash there.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use super::{
    action::Action,
    disk::Disk,
    faults::{Fault, Faults, Kind, Op, Operation},
    machine::{Lie, Machine, Watcher},
    model::{After, Model, Violation, ensure},
    session::{
        RETENTION, SEAL_AGE, Session, body, has_purged_segment, lacks_footer, resolves, view,
    },
};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    event_log::{AppendError, BlockBody, Durability, embedded::Store},
    types::TopicId,
};

/// A log on a machine, and what is known of it.
pub(super) struct Player {
    pub(super) machine: Machine,
    clock: ManualClock,
    session: Option<Session>,
    shared: Arc<Mutex<Shared>>,
    /// What comes before the log is opened next.
    after: After,
    /// Failures of the disk before the log was opened.
    failures_before: u64,
    /// The same for syncs.
    sync_failures_before: u64,
}

/// What the player shares with the watcher of its machine.
struct Shared {
    model: Model,
    points: Vec<Point>,
    keeps_points: bool,
    /// Something to do while a segment is synced.
    meanwhile: Option<Meanwhile>,
    violation: Option<Violation>,
    now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Purge,
    Spare,
}

/// A moment at which the machine may crash.
#[derive(Clone)]
pub(super) struct Point {
    pub(super) disk: Disk,
    pub(super) model: Model,
    pub(super) now: Timestamp,
    pub(super) durability: Durability,
    /// What was about to be done.
    pub(super) operation: Option<Operation>,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.operation {
            Some(operation) => write!(f, "before {operation}"),
            None => f.write_str("after the last operation"),
        }
    }
}

impl Player {
    /// A machine with an empty disk.
    pub(super) fn new(seed: u64, lie: Option<Lie>) -> Self {
        let machine = Machine::new(Disk::default(), seed, lie);
        let now = Timestamp::from_millis(1_000_000);
        Self::on(machine, Model::default(), now)
    }

    /// The machine after a crash at `point` that left `disk`.
    pub(super) fn after_crash(point: &Point, disk: Disk, seed: u64, lie: Option<Lie>) -> Self {
        Self::on(
            Machine::new(disk, seed, lie),
            point.model.clone(),
            point.now,
        )
    }

    fn on(machine: Machine, model: Model, now: Timestamp) -> Self {
        Self {
            machine,
            clock: ManualClock::at(now),
            session: None,
            shared: Arc::new(Mutex::new(Shared {
                model,
                points: Vec::new(),
                keeps_points: false,
                meanwhile: None,
                violation: None,
                now,
            })),
            after: After::Crash,
            failures_before: 0,
            sync_failures_before: 0,
        }
    }

    /// Keeps the moments at which the machine may crash from now on, or stops to.
    pub(super) fn keep_points(&self, keeps_points: bool) {
        self.shared().keeps_points = keeps_points;
    }

    /// The moments that were kept, oldest first, the present one last.
    pub(super) fn take_points(&mut self) -> Vec<Point> {
        let durability = self.durability();
        let mut shared = self.shared();
        let mut points = std::mem::take(&mut shared.points);
        for point in &mut points {
            point.durability = durability;
        }
        points.push(Point {
            disk: self.machine.disk(),
            model: shared.model.clone(),
            now: shared.now,
            durability,
            operation: None,
        });
        points
    }

    pub(super) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// How many events the open log says that a topic has had.
    pub(super) fn events_of(&self, topic: TopicId) -> u64 {
        let session = self.session.as_ref();
        session.map_or(0, |session| session.store.tail.topic(topic).ordinal)
    }

    /// Opens the log and checks what is in it. It may stay closed if the disk fails.
    pub(super) fn open(&mut self, durability: Durability) -> Result<(), Violation> {
        self.session = None;
        let after = self.after;
        self.machine.watch(Some(self.watcher(Weak::new())));
        self.shared().model.was_unsynced |= durability == Durability::Os;
        let failures = self.failures();
        if self.sync_failures() > self.sync_failures_before {
            self.shared().model.sync_failed = true;
        }
        let opened = Session::open(&self.machine, &self.clock, durability);
        let session = match opened {
            Ok(session) => session,
            Err(error) => {
                ensure!(
                    self.failures() > failures,
                    "cannot be opened: {}",
                    chain(&error)
                );
                return Ok(());
            }
        };
        self.failures_before = self.failures();
        self.sync_failures_before = self.sync_failures();
        self.machine
            .watch(Some(self.watcher(Arc::downgrade(&session.store))));
        {
            let mut shared = self.shared();
            let view = self.machine.look(|| view(&session.store))?;
            shared.model.check(&view, after, self.expired())?;
            let is_there = self.machine.look(|| has_purged_segment(&session.store));
            ensure!(!is_there, "a purged segment is back");
            let lacks_footer = self.machine.look(|| lacks_footer(&session.store));
            ensure!(!lacks_footer, "a segment before a sealed one has no footer");
            let model = &mut shared.model;
            model.adopt(&view, after);
            for &(topic, position) in &model.lost {
                ensure!(
                    !resolves(&session.store, topic, position),
                    "position {position} was lost and is good to go on from"
                );
            }
        }
        self.session = Some(session);
        self.after = After::Restart;
        Ok(())
    }

    /// Plays one action, and then compares what readers see with what they must.
    pub(super) fn play(&mut self, action: Action, next: Durability) -> Result<(), Violation> {
        let failures = self.failures();
        match action {
            Action::Restart => self.open(next)?,
            Action::Close => {
                if let Some(mut session) = self.session.take() {
                    session.writer.close();
                    if self.failures() == self.failures_before {
                        self.synced();
                    }
                }
                self.open(next)?;
            }
            _ => self.act(action)?,
        }
        if let Some(violation) = self.shared().violation.take() {
            return Err(violation);
        }
        let failed = self.failures() > failures;
        self.shared().model.purge_failed |= failed;
        self.look()
    }

    /// Does to the open log what the action says.
    fn act(&mut self, action: Action) -> Result<(), Violation> {
        let Some(mut session) = self.session.take() else {
            return Ok(());
        };
        let [a, b, c] = [1, 2, 3].map(TopicId::new);
        let sealed_before = session.store.metrics().seals.get();
        let sent_before = self.shared().model.sent();
        let acted = match action {
            Action::Append => self.append(&mut session, &[(a, 1, 0)]),
            Action::AppendLarge => self.append(&mut session, &[(b, 1, 2_500)]),
            Action::AppendMany => self.append(&mut session, &[(a, 2, 10), (c, 1, 0), (a, 1, 300)]),
            Action::Spare => {
                session.store.make_spare(24_000);
                Ok(())
            }
            Action::Seal => {
                self.pass(SEAL_AGE);
                session.writer.seal_if_old(self.clock.now());
                Ok(())
            }
            Action::Purge => {
                self.pass(RETENTION + Duration::from_millis(1));
                self.shared().model.is_purging = true;
                session.store.purge(self.clock.now());
                Ok(())
            }
            Action::Erase => self.erase(&mut session, a),
            Action::SyncAndSeal => {
                self.pass(SEAL_AGE);
                let now = self.clock.now();
                session.sync(|writer| writer.seal_if_old(now));
                Ok(())
            }
            Action::Sync => {
                if session.sync(|_| ()) {
                    self.synced();
                }
                Ok(())
            }
            Action::Full => {
                let fail = |faults: &mut Faults| {
                    faults.fail_next(Op::Write, Kind::Segment, Fault::PartFull);
                };
                self.machine.faults(fail);
                // Several blocks: the cut may leave the first ones whole.
                self.append(&mut session, &[(a, 1, 0), (b, 1, 300), (c, 1, 600)])
            }
            Action::FailSync => {
                let fail = |faults: &mut Faults| {
                    faults.fail_next(Op::Sync, Kind::Segment, Fault::Error);
                };
                self.machine.faults(fail);
                Ok(())
            }
            Action::PurgeMeanwhile => {
                self.pass(RETENTION + Duration::from_millis(1));
                self.shared().meanwhile = Some(Meanwhile::Purge);
                Ok(())
            }
            Action::SpareMeanwhile => {
                self.shared().meanwhile = Some(Meanwhile::Spare);
                Ok(())
            }
            Action::Restart | Action::Close => unreachable!("they open the log anew"),
        };
        // A footer is synced, and the blocks before it with it.
        if session.store.metrics().seals.get() > sealed_before {
            self.shared().model.synced(sent_before);
        }
        self.session = Some(session);
        acted
    }

    /// Appends one group: bodies of these topics, with so many events of this padding each.
    fn append(
        &self,
        session: &mut Session,
        bodies: &[(TopicId, usize, usize)],
    ) -> Result<(), Violation> {
        let now = self.clock.now();
        let mut numbers = Vec::new();
        let bodies: Vec<BlockBody> = bodies
            .iter()
            .map(|(topic, count, padding)| {
                let mut shared = self.shared();
                let sent: Vec<_> = (0..*count)
                    .map(|_| shared.model.send(*topic, now))
                    .collect();
                let body = body(*topic, &sent, *padding);
                numbers.push(sent);
                body
            })
            .collect();
        let outcome = session.commit(bodies);
        let has_failed = self.failures() > self.failures_before;
        let is_safe = session.durability == Durability::Sync;
        let mut shared = self.shared();
        ensure!(
            outcome.len() == numbers.len(),
            "not every body was answered"
        );
        for (result, numbers) in outcome.into_iter().zip(numbers) {
            match result {
                Ok(range) => {
                    ensure!(range.count as usize == numbers.len(), "a body was cut");
                    for (number, position) in numbers.into_iter().zip(range.iter()) {
                        shared.model.acknowledge(number, position, is_safe)?;
                    }
                }
                Err(error) => {
                    ensure!(has_failed, "refused without a reason: {}", chain(&error));
                    match error {
                        AppendError::Refused(_) => {
                            for number in numbers {
                                shared.model.refuse(number)?;
                            }
                        }
                        AppendError::Unconfirmed(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Erases a few events of a topic.
    fn erase(&self, session: &mut Session, topic: TopicId) -> Result<(), Violation> {
        if session.writer.seal_now().is_err() {
            ensure!(
                self.failures() > self.failures_before,
                "not sealed without a reason"
            );
            return Ok(());
        }
        let positions = self.shared().model.begin_to_erase(topic);
        match session.store.erase(topic, &positions) {
            Ok(erased) => self.shared().model.erased(&positions, erased.events),
            Err(error) => {
                let has_failed = self.failures() > self.failures_before;
                ensure!(has_failed, "not erased without a reason: {}", chain(&error));
                Ok(())
            }
        }
    }

    /// Compares what readers see with what they must.
    fn look(&self) -> Result<(), Violation> {
        let mut shared = self.shared();
        if let Some(session) = &self.session {
            shared.look(&self.machine, &session.store)?;
        }
        shared.model.is_purging = false;
        Ok(())
    }

    fn watcher(&self, store: Weak<Store>) -> Watcher {
        let shared = Arc::clone(&self.shared);
        Watcher(Box::new(move |machine, operation| {
            let mut shared = shared.lock().unwrap();
            if let Some(store) = store.upgrade() {
                shared.meanwhile(&store, operation);
                if let Err(Violation(what)) = shared.look(machine, &store) {
                    let violation = Violation(format!("{what}; before {operation}"));
                    shared.violation.get_or_insert(violation);
                }
            }
            if shared.keeps_points {
                let point = Point {
                    disk: machine.disk(),
                    model: shared.model.clone(),
                    now: shared.now,
                    durability: Durability::Sync,
                    operation: Some(operation.clone()),
                };
                shared.points.push(point);
            }
        }))
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.shared().now = self.clock.now();
    }

    fn synced(&self) {
        let mut shared = self.shared();
        let sent = shared.model.sent();
        shared.model.synced(sent);
    }

    fn expired(&self) -> Timestamp {
        expired(self.clock.now())
    }

    fn failures(&self) -> u64 {
        self.machine.faults(|faults| faults.failures())
    }

    fn sync_failures(&self) -> u64 {
        let of_syncs = |faults: &mut Faults| {
            let fired = faults.fired.iter().filter(|((op, _), _)| *op == Op::Sync);
            fired.map(|(_, count)| count).sum()
        };
        self.machine.faults(of_syncs)
    }

    fn durability(&self) -> Durability {
        let session = self.session.as_ref();
        session.map_or(Durability::Sync, |session| session.durability)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

impl Shared {
    fn look(&mut self, machine: &Machine, store: &Arc<Store>) -> Result<(), Violation> {
        let view = machine.look(|| view(store))?;
        self.model.check(&view, After::Nothing, expired(self.now))?;
        self.model.adopt(&view, After::Nothing);
        Ok(())
    }

    /// Does what is to be done while a segment is synced. The log holds no lock then.
    fn meanwhile(&mut self, store: &Arc<Store>, operation: &Operation) {
        if (operation.op, operation.kind) != (Op::Sync, Kind::Segment) || operation.name == "spare"
        {
            return;
        }
        match self.meanwhile.take() {
            Some(Meanwhile::Purge) => {
                self.model.is_purging = true;
                store.purge(self.now);
            }
            Some(Meanwhile::Spare) => store.make_spare(24_000),
            None => {}
        }
    }
}

/// What was sent before this may be purged.
fn expired(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis() - RETENTION.as_millis() as i64)
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
