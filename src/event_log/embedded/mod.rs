//! The log on this machine's disk: append-only segments, one log for each tenant.
//!
//! ```text
//! append ─► room ─► queue ─► committer thread: writer ─► segment file, one sync
//!                                                └─► index, tail (ring, head) ─► answer
//! read   ─► tail ring, or behind it: index ─► step ─► block cache or file
//! open   ─► recovery      upkeep thread ─► retention, sealing, files allocated ahead
//! ```
//!
//! Everything that touches a file goes through [`Io`]; `writer`, `recovery`, `reader` and
//! `retention` are plain code over it, without threads, so that tests can put any disk and any
//! schedule under them.

mod block;
mod cache;
mod committer;
mod erase;
mod footer;
mod group;
mod index;
mod io;
mod lock;
mod losses;
mod metrics;
mod reader;
mod recovery;
mod repair;
mod report;
mod retention;
mod rewrite;
mod scan;
mod segment;
mod segments;
mod state;
mod step;
mod store;
mod tenant;
mod upkeep;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread,
};

use tokio::sync::OnceCell;

use super::{Config, EventLog, OpenError, TenantLog, tail::Tail};
use crate::{
    clock::Clock,
    types::{TenantId, limits::COMMIT_THREADS},
};
use committer::Pool;
use recovery::Recovery;
use segments::Segments;
use store::{Process, Store};
use tenant::EmbeddedTenantLog;
use upkeep::Chore;
use writer::Writer;

pub use io::{Access, Io, IoFile, RealIo};
pub use lock::{DataDir, log_dirs};
pub use metrics::Metrics;
pub use repair::{RepairAction, RepairReport, plan_repair, repair};
pub use report::{
    DamageReport, Depth, LogReport, LossReport, Progress, SegmentReport, TopicReport,
};
pub use verify::inspect;

/// The logs of all tenants in one data directory.
///
/// Dropping it without [`EventLog::close`] is like the end of the process: what was acknowledged is
/// there, and the next opening recovers it.
#[derive(Debug)]
pub struct EmbeddedLog {
    dir: Arc<DataDir>,
    process: Arc<Process>,
    tenants: Arc<Tenants>,
    pool: Arc<Pool>,
    upkeep: Mutex<Option<thread::JoinHandle<()>>>,
}

/// The open logs; a cell is empty while its log is being opened.
#[derive(Debug, Default)]
struct Tenants(Mutex<TenantMap>);

#[derive(Debug, Default)]
struct TenantMap {
    is_closed: bool,
    logs: HashMap<TenantId, Arc<OnceCell<Arc<EmbeddedTenantLog>>>>,
}

impl EmbeddedLog {
    /// The logs in `dir`, none of which is opened yet.
    ///
    /// # Errors
    ///
    /// [`OpenError::Io`] if the threads cannot be started.
    pub fn new(
        dir: Arc<DataDir>,
        config: Config,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (chores, chores_to_do) = mpsc::channel();
        let io = Arc::clone(dir.io());
        let process = Process::new(config, Arc::clone(&clock), io, chores);
        let failed = |source| OpenError::Io {
            action: "start a thread for",
            path: dir.path().to_owned(),
            source,
        };
        let tenants = Arc::new(Tenants::default());
        let pool = Arc::new(Pool::start(COMMIT_THREADS).map_err(failed)?);
        let open_logs = {
            let tenants = Arc::clone(&tenants);
            move || tenants.open()
        };
        let upkeep = upkeep::start(chores_to_do, &process.config, clock, open_logs);
        Ok(Self {
            upkeep: Mutex::new(Some(upkeep.map_err(failed)?)),
            dir,
            process,
            tenants,
            pool,
        })
    }

    /// What the logs count.
    pub fn metrics(&self) -> &Metrics {
        &self.process.metrics
    }

    /// Ends the threads. What is still queued is not stored, and its publishers are not answered.
    fn stop(&self) {
        self.pool.stop();
        _ = self.process.chores.send(Chore::Stop);
        if let Some(upkeep) = self.upkeep.lock().expect(NO_PANIC).take() {
            _ = upkeep.join();
        }
        for log in self.tenants.open() {
            log.abandon();
        }
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.stop();
    }
}

#[async_trait::async_trait]
impl EventLog for EmbeddedLog {
    async fn open(&self, tenant: TenantId) -> Result<Arc<dyn TenantLog>, OpenError> {
        let cell = {
            let mut tenants = self.tenants.lock();
            if tenants.is_closed {
                return Err(OpenError::Closed);
            }
            Arc::clone(tenants.logs.entry(tenant).or_default())
        };
        let log = cell.get_or_try_init(|| async {
            let (dir, process) = (Arc::clone(&self.dir), Arc::clone(&self.process));
            let pool = Arc::clone(&self.pool);
            let open = tokio::task::spawn_blocking(move || open(&dir, process, pool, tenant));
            open.await.map_err(|source| OpenError::Io {
                action: "open the log in",
                path: self.dir.tenant_dir(tenant),
                source: source.into(),
            })?
        });
        Ok(Arc::new(Arc::clone(log.await?)))
    }

    async fn close(&self) {
        self.tenants.lock().is_closed = true;
        let logs = self.tenants.open();
        let closing = tokio::task::spawn_blocking(move || logs.iter().for_each(|log| log.close()));
        _ = closing.await;
        self.stop();
    }
}

/// Opens the log of one tenant.
fn open(
    dir: &DataDir,
    process: Arc<Process>,
    pool: Arc<Pool>,
    tenant: TenantId,
) -> Result<Arc<EmbeddedTenantLog>, OpenError> {
    let (store, writer) = open_store(dir, process, tenant)?;
    Ok(EmbeddedTenantLog::new(store, writer, pool))
}

/// Recovers the log of one tenant: its reading and its writing end.
fn open_store(
    dir: &DataDir,
    process: Arc<Process>,
    tenant: TenantId,
) -> Result<(Arc<Store>, Writer), OpenError> {
    let dir = dir.make_log_dir(tenant)?;
    let recovery = Recovery {
        io: &*process.io,
        dir: &dir,
        tenant,
        metrics: &process.metrics,
    };
    let recovered = recovery.run()?;
    let tail = Tail::new(recovered.restored, Some(Arc::clone(&process.ring)));
    let segments = Segments::new(recovered.segments);
    let names = recovered.index.names();
    let store = Store::new(process, tenant, dir, tail, segments, recovered.state, names);
    let writer = Writer::new(Arc::clone(&store), recovered.index, recovered.next_block);
    Ok((store, writer))
}

impl Tenants {
    fn open(&self) -> Vec<Arc<EmbeddedTenantLog>> {
        let tenants = self.lock();
        let logs = tenants.logs.values();
        logs.filter_map(|cell| cell.get().cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, TenantMap> {
        self.0.lock().expect(NO_PANIC)
    }
}

const NO_PANIC: &str = "no holder of this lock panics";
