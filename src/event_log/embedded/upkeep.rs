//! The thread that does what no request waits for: allocates files ahead, seals and removes old
//! segments, closes logs that nobody uses, and syncs where the configuration leaves that to a timer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    lock::DataDir,
    round::Round,
    store::{Process, Store},
    tenants::{Closing, Tenants},
};
use crate::{clock::Timestamp, event_log::Durability, types::limits::CLOSED_LOGS_PER_UPKEEP};

/// Work for the upkeep thread.
#[derive(Debug)]
pub(super) enum Chore {
    /// Allocate a file of this many bytes ahead.
    Spare(Weak<Store>, u64),
    /// Close a log that nobody uses.
    Close(Closing),
    /// End the thread.
    Stop,
}

/// What the thread looks after.
#[derive(Debug)]
pub(super) struct Upkeep {
    dir: Arc<DataDir>,
    process: Arc<Process>,
    tenants: Arc<Tenants>,
    round: Round,
}

impl Upkeep {
    pub(super) fn new(dir: Arc<DataDir>, process: Arc<Process>, tenants: Arc<Tenants>) -> Self {
        Self {
            dir,
            process,
            tenants,
            round: Round::default(),
        }
    }

    /// Starts the thread, which ends at [`Chore::Stop`].
    pub(super) fn start(
        mut self,
        chores: mpsc::Receiver<Chore>,
    ) -> std::io::Result<thread::JoinHandle<()>> {
        let run = move || {
            let config = &self.process.config;
            let tick = config.upkeep_interval;
            let sync = match config.durability {
                Durability::Sync => None,
                Durability::Os => Some(config.sync_interval),
            };
            let later = |wait: Duration| Instant::now() + wait;
            let (mut tick_at, mut sync_at) = (later(tick), sync.map(later));
            loop {
                let due = sync_at.map_or(tick_at, |sync_at| sync_at.min(tick_at));
                let wait = due.saturating_duration_since(Instant::now());
                match chores.recv_timeout(wait) {
                    Ok(Chore::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Ok(chore) => survive(|| chore.run()),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
                // Looked at after each chore, of which there may be many: what is due is done then.
                let now = Instant::now();
                if now >= tick_at {
                    survive(|| self.tick(self.process.clock.now(), now));
                    (tick_at, sync_at) = (later(tick), sync.map(later));
                } else if sync_at.is_some_and(|sync_at| now >= sync_at) {
                    survive(|| self.tenants.open().iter().for_each(|log| log.sync()));
                    sync_at = sync.map(later);
                }
            }
        };
        thread::Builder::new().name("log-upkeep".into()).spawn(run)
    }

    /// Does what is due. The work is that of the open logs and of a few closed ones.
    pub(super) fn tick(&mut self, now: Timestamp, monotonic: Instant) {
        for log in self.tenants.open() {
            log.tick(now, monotonic);
        }
        for tenant in self
            .tenants
            .unused()
            .into_iter()
            .take(CLOSED_LOGS_PER_UPKEEP)
        {
            self.tenants.close_unused(tenant);
        }
        self.tenants.tidy();
        if self.process.may_purge(now, monotonic) {
            let (dir, process, tenants) = (&self.dir, &self.process, &self.tenants);
            self.round.step(dir, process, tenants, now, monotonic);
        }
        self.process.caches.sweep();
    }
}

impl Chore {
    fn run(self) {
        match self {
            Self::Spare(store, len) => {
                if let Some(store) = store.upgrade() {
                    store.make_spare(len);
                }
            }
            Self::Close(closing) => closing.run(),
            Self::Stop => {}
        }
    }
}

/// Runs `work`. A panic is our bug; it must not end what every log depends on.
fn survive(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("a chore of the event log panicked");
    }
}
