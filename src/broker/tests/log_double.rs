//! A log that does as it is told: the memory log with a way to fail, to be full and to be slow.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use crate::{
    clock::Timestamp,
    event_log::{
        AppendError, AppendOutcome, Appending, AuditEntry, BlockBody, Erased, EventLog, LogState,
        LogTopic, MemoryLog, OpenError, PositionError, ReadBatch, ReadError, Refusal, RemoveError,
        TenantLog, TopicState, Watcher,
    },
    types::{Position, Start, TenantId, TopicId},
};

/// What the log does with what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// What a log should do.
    Good,
    /// Appends wait for room.
    NoRoom,
    /// Appends are refused; nothing is stored.
    Refuse(Refusal),
    /// Appends are taken, and their sync fails; nothing is stored.
    Unconfirmed,
    /// Of each append the first body is stored; the sync of the others fails.
    FirstBodyOnly,
    /// Appends are stored and not answered until the behaviour is another.
    Slow,
    /// Reads fail.
    Unreadable,
    /// Logs cannot be opened.
    Unopenable,
}

/// The double. What it stores, it stores in a memory log.
#[derive(Debug)]
pub(crate) struct LogDouble {
    log: MemoryLog,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    behaviour: watch::Sender<Behaviour>,
    appends: AtomicUsize,
    unanswered: Mutex<Vec<(oneshot::Sender<AppendOutcome>, Appending)>>,
    losses: Mutex<Losses>,
    gate: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

/// What the log says that it has lost: positions between two others.
#[derive(Debug, Default)]
struct Losses {
    lost: Option<(Position, Position)>,
    damaged: Option<(Position, Position)>,
}

impl Losses {
    fn check(&self, position: Position) -> Result<(), PositionError> {
        match self.lost {
            Some((after, valid_from)) if after < position && position < valid_from => {
                Err(PositionError::Lost {
                    position,
                    valid_from,
                })
            }
            _ => Ok(()),
        }
    }

    /// Damage is only found by reading.
    fn check_read(&self, position: Position) -> Result<(), PositionError> {
        self.check(position)?;
        match self.damaged {
            Some((last_good, valid_from)) if last_good <= position && position < valid_from => {
                Err(PositionError::Damaged {
                    position,
                    last_good,
                    valid_from,
                })
            }
            _ => Ok(()),
        }
    }
}

impl LogDouble {
    pub(crate) fn new(log: MemoryLog) -> Self {
        let shared = Shared {
            behaviour: watch::Sender::new(Behaviour::Good),
            appends: AtomicUsize::new(0),
            unanswered: Mutex::default(),
            losses: Mutex::default(),
            gate: Mutex::default(),
        };
        Self {
            log,
            shared: Arc::new(shared),
        }
    }

    /// Changes what the log does, and answers what it kept waiting.
    pub(crate) async fn set(&self, behaviour: Behaviour) {
        self.set_unanswered(behaviour);
        let unanswered = std::mem::take(&mut *self.shared.unanswered.lock().unwrap());
        for (answer, outcome) in unanswered {
            _ = answer.send(outcome.await.unwrap());
        }
    }

    /// Changes what the log does; what it kept waiting goes on to wait.
    pub(crate) fn set_unanswered(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// Has the positions after `after` and before `valid_from` count as lost.
    pub(crate) fn lose(&self, after: Position, valid_from: Position) {
        self.shared.losses.lock().unwrap().lost = Some((after, valid_from));
    }

    /// Has the events after `last_good` and up to `valid_from` count as damaged.
    pub(crate) fn damage(&self, last_good: Position, valid_from: Position) {
        self.shared.losses.lock().unwrap().damaged = Some((last_good, valid_from));
    }

    /// Holds the next read up: the first end tells that it has begun, the other lets it go on.
    pub(crate) fn hold_read(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (begun, told) = oneshot::channel();
        let (go, wait) = oneshot::channel();
        *self.shared.gate.lock().unwrap() = Some((begun, wait));
        (told, go)
    }

    /// How many appends were begun.
    pub(crate) fn appends(&self) -> usize {
        self.shared.appends.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl EventLog for LogDouble {
    async fn open(&self, tenant: TenantId) -> Result<Arc<dyn TenantLog>, OpenError> {
        if *self.shared.behaviour.borrow() == Behaviour::Unopenable {
            return Err(OpenError::Closed);
        }
        Ok(Arc::new(TenantLogDouble {
            log: self.log.open(tenant).await?,
            shared: Arc::clone(&self.shared),
        }))
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

#[derive(Debug)]
struct TenantLogDouble {
    log: Arc<dyn TenantLog>,
    shared: Arc<Shared>,
}

#[async_trait::async_trait]
impl TenantLog for TenantLogDouble {
    async fn append(&self, mut bodies: Vec<BlockBody>) -> Result<Appending, AppendError> {
        self.shared.appends.fetch_add(1, Ordering::SeqCst);
        let mut behaviour = self.shared.behaviour.subscribe();
        let behaviour = *behaviour
            .wait_for(|&behaviour| behaviour != Behaviour::NoRoom)
            .await
            .unwrap();
        let failed = || AppendError::Unconfirmed(Arc::new(io::Error::other("the sync failed")));
        let (answer, appending) = Appending::new();
        match behaviour {
            Behaviour::Refuse(refusal) => return Err(AppendError::Refused(refusal)),
            Behaviour::Unconfirmed => {
                _ = answer.send(bodies.iter().map(|_| Err(failed())).collect());
            }
            Behaviour::FirstBodyOnly => {
                let others = bodies.split_off(1);
                let mut outcome = self.log.append(bodies).await?.await?;
                outcome.extend(others.iter().map(|_| Err(failed())));
                _ = answer.send(outcome);
            }
            Behaviour::Slow => {
                let stored = self.log.append(bodies).await?;
                let mut unanswered = self.shared.unanswered.lock().unwrap();
                unanswered.push((answer, stored));
            }
            Behaviour::Good | Behaviour::NoRoom | Behaviour::Unreadable | Behaviour::Unopenable => {
                return self.log.append(bodies).await;
            }
        }
        Ok(appending)
    }

    fn resolve(&self, topics: &[TopicId], start: Start) -> Result<Position, PositionError> {
        if let Start::After(position) = start {
            self.shared.losses.lock().unwrap().check(position)?;
        }
        self.log.resolve(topics, start)
    }

    async fn read(
        &self,
        topics: &[TopicId],
        after: Position,
        bytes_max: usize,
    ) -> Result<ReadBatch, ReadError> {
        if *self.shared.behaviour.borrow() == Behaviour::Unreadable {
            let error = io::Error::other("the disk is gone");
            return Err(ReadError::Storage(Arc::new(error)));
        }
        self.shared.losses.lock().unwrap().check_read(after)?;
        let gate = self.shared.gate.lock().unwrap().take();
        if let Some((begun, wait)) = gate {
            _ = begun.send(());
            _ = wait.await;
        }
        self.log.read(topics, after, bytes_max).await
    }

    async fn position_at(&self, at: Timestamp) -> Result<Position, ReadError> {
        if *self.shared.behaviour.borrow() == Behaviour::Unreadable {
            let error = io::Error::other("the disk is gone");
            return Err(ReadError::Storage(Arc::new(error)));
        }
        self.log.position_at(at).await
    }

    fn watch(&self, topics: &[TopicId]) -> Watcher {
        self.log.watch(topics)
    }

    fn retention(&self, topic: TopicId) -> Duration {
        self.log.retention(topic)
    }

    fn topic(&self, topic: TopicId) -> TopicState {
        self.log.topic(topic)
    }

    fn state(&self) -> LogState {
        self.log.state()
    }
    fn topics(&self) -> Vec<LogTopic> {
        self.log.topics()
    }

    fn confirm_clock(&self) -> bool {
        self.log.confirm_clock()
    }

    async fn set_retention(
        &self,
        topic: TopicId,
        retention: Option<Duration>,
    ) -> Result<(), RemoveError> {
        self.log.set_retention(topic, retention).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<(), RemoveError> {
        self.log.audit(entry).await
    }

    async fn erase(&self, topic: TopicId, positions: Vec<Position>) -> Result<Erased, RemoveError> {
        self.log.erase(topic, positions).await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), RemoveError> {
        self.log.delete_topic(topic).await
    }
}
