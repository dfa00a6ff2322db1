//! The log on this machine's disk: append-only segments, one log for each tenant.
//!
//! ```text
//! append ─► room ─► queue ─► committer thread: writer ─► segment file, one sync
//!                                                └─► index, tail (ring, head) ─► answer
//! read   ─► tail ring, or behind it: index ─► step ─► block cache or file
//! open   ─► recovery      upkeep thread ─► retention, sealing, files allocated ahead, closing
//! ```
//!
//! A log that nobody holds a handle to is closed and costs nothing but its files: `tenants`.
//!
//! Everything that touches a file goes through [`Io`]; `writer`, `recovery`, `reader` and
//! `retention` are plain code over it, without threads, so that tests can put any disk and any
//! schedule under them.

mod audit;
mod backup;
mod block;
mod by_time;
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
mod restore;
mod retention;
mod rewrite;
mod round;
mod scan;
mod segment;
mod segments;
mod state;
mod step;
mod store;
mod tenant;
mod tenants;
mod upkeep;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use tokio::sync::Semaphore;

use super::{Backup, BackupError, Config, EventLog, OpenError, TenantLog, tail::Tail};
use crate::{
    clock::Clock,
    types::{
        TenantId,
        limits::{COMMIT_THREADS, LOG_OPENINGS_MAX},
    },
};
use committer::Pool;
use recovery::Recovery;
use segments::Segments;
use store::{Process, Store};
use tenant::{EmbeddedTenantLog, Handle};
use tenants::Tenants;
use upkeep::{Chore, Upkeep};
use writer::Writer;

pub use audit::audit_entries;
pub use index::UNNAMED;
pub use io::{Access, Io, IoFile, RealIo};
pub use lock::{DataDir, is_in_use, log_dirs};
pub use metrics::Metrics;
pub use repair::{RepairAction, RepairReport, plan_repair, repair};
pub use report::{
    DamageReport, Depth, LogReport, LossReport, Progress, SegmentReport, TopicReport,
};
pub use restore::{Restore, RestoreError};
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
    /// Logs that may still be opened at once.
    openings: Arc<Semaphore>,
    upkeep: Mutex<Option<thread::JoinHandle<()>>>,
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
        let process = Process::new(config, clock, io, chores);
        let failed = |source| OpenError::Io {
            action: "start a thread for",
            path: dir.path().to_owned(),
            source,
        };
        let tenants = Arc::new(Tenants::default());
        let pool = Arc::new(Pool::start(COMMIT_THREADS).map_err(failed)?);
        let upkeep = Upkeep::new(Arc::clone(&dir), Arc::clone(&process), Arc::clone(&tenants));
        let upkeep = upkeep.start(chores_to_do).map_err(failed)?;
        Ok(Self {
            upkeep: Mutex::new(Some(upkeep)),
            dir,
            process,
            tenants,
            pool,
            openings: Arc::new(Semaphore::new(LOG_OPENINGS_MAX)),
        })
    }

    /// What the logs count.
    pub fn metrics(&self) -> &Metrics {
        &self.process.metrics
    }

    /// Ends the threads. What is still queued is not stored, and its publishers are not answered.
    fn stop(&self) {
        self.tenants.shut();
        self.pool.stop();
        // Before upkeep is awaited: it may be closing one of them, and that waits for its queue.
        for log in self.tenants.open() {
            log.abandon();
        }
        _ = self.process.chores.send(Chore::Stop);
        if let Some(upkeep) = self.upkeep.lock().expect(NO_PANIC).take() {
            _ = upkeep.join();
        }
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl EmbeddedLog {
    /// A handle to the log of `tenant`.
    async fn handle(&self, tenant: TenantId) -> Result<Arc<Handle>, OpenError> {
        let place = self.tenants.place(tenant)?;
        if let Some(handle) = place.handle() {
            return Ok(handle);
        }
        if place.log().is_none() {
            self.tenants.closings_keep_up().await?;
        }
        let gate = place.enter().await;
        if let Some(handle) = place.handle() {
            return Ok(handle);
        }
        let permit = Arc::clone(&self.openings).acquire_owned().await;
        let (dir, process) = (Arc::clone(&self.dir), Arc::clone(&self.process));
        let (pool, tenants) = (Arc::clone(&self.pool), Arc::clone(&self.tenants));
        // Both go with the thread: when the caller goes away, the opening is still under way.
        let open = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if tenants.is_shut() {
                return Err(OpenError::Closed);
            }
            place.handle_or_open(&gate, &tenants, || open(&dir, process, pool, tenant))
        });
        open.await.map_err(|source| OpenError::Io {
            action: "open the log in",
            path: self.dir.tenant_dir(tenant),
            source: source.into(),
        })?
    }
}

#[async_trait::async_trait]
impl EventLog for EmbeddedLog {
    async fn open(&self, tenant: TenantId) -> Result<Arc<dyn TenantLog>, OpenError> {
        Ok(self.handle(tenant).await?)
    }

    async fn back_up(&self, dir: &Path) -> Result<Backup, BackupError> {
        self.back_up_logs(dir).await
    }

    async fn finish_backup(
        &self,
        dir: &Path,
        backup: &Backup,
        metadata_files: u64,
    ) -> Result<(), BackupError> {
        self.finish(dir, backup, metadata_files).await
    }

    async fn close(&self) {
        self.tenants.shut();
        let places = self.tenants.places();
        let closing = tokio::task::spawn_blocking(move || places.iter().for_each(|p| p.end()));
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
    process.metrics.openings.inc();
    let (store, writer) = open_store(dir, process, tenant)?;
    Ok(EmbeddedTenantLog::new(store, writer, pool))
}

/// Recovers the log of one tenant, which is made if there is none: its reading and its writing end.
fn open_store(
    dir: &DataDir,
    process: Arc<Process>,
    tenant: TenantId,
) -> Result<(Arc<Store>, Writer), OpenError> {
    recover(dir.make_log_dir(tenant)?, process, tenant)
}

/// Recovers the log in `dir`.
fn recover(
    dir: PathBuf,
    process: Arc<Process>,
    tenant: TenantId,
) -> Result<(Arc<Store>, Writer), OpenError> {
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

const NO_PANIC: &str = "no holder of this lock panics";
