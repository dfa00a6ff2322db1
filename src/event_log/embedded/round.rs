//! Retention of the logs that are closed: rounds through the data directory, a few tenants at a time.
//!
//! A closed log is opened for reading, purged, rid of some of what is deleted, and let go, which costs some reads of small files. One
//! that was left unsealed by an earlier process is recovered by that, as by any opening.

use std::{io, sync::Arc, time::Instant};

use super::{lock::DataDir, recover, segment::SegmentName, store::Process, tenants::Tenants};
use crate::{
    clock::Timestamp,
    event_log::OpenError,
    types::{TenantId, limits::CLOSED_LOGS_PER_UPKEEP},
};

/// How far the round is.
#[derive(Debug, Default)]
pub(super) struct Round {
    left: Vec<TenantId>,
    /// When the next one may begin; at once after the start, so that a process that is often
    /// restarted comes to it too.
    next_at: Option<Instant>,
}

impl Round {
    /// Purges the next few closed logs.
    pub(super) fn step(
        &mut self,
        dir: &DataDir,
        process: &Arc<Process>,
        tenants: &Tenants,
        now: Timestamp,
        monotonic: Instant,
    ) {
        if self.left.is_empty() && self.next_at.is_none_or(|at| at <= monotonic) {
            // Open logs keep their events this much longer too, until the segment is sealed.
            self.next_at = Some(monotonic + process.config.segment_age_max);
            match dir.tenants() {
                Ok(found) => self.left = found,
                Err(error) => tracing::warn!(%error, "cannot list the tenants"),
            }
        }
        let first = self.left.len().saturating_sub(CLOSED_LOGS_PER_UPKEEP);
        for tenant in self.left.drain(first..) {
            let Ok(place) = tenants.place(tenant) else {
                return;
            };
            // What is open is purged where it is open; what is being opened soon will be.
            if let Some(_gate) = place.try_enter()
                && place.log().is_none()
                && let Err(error) = purge(dir, process, tenant, now)
            {
                process.metrics.closed_log_failures.inc();
                tracing::warn!(%tenant, %error, "retention cannot look at a closed log");
            }
            tenants.leave(tenant, place);
        }
    }
}

/// Purges a closed log. Whoever calls this holds its gate.
fn purge(
    dir: &DataDir,
    process: &Arc<Process>,
    tenant: TenantId,
    now: Timestamp,
) -> Result<(), OpenError> {
    let path = dir.log_dir(tenant);
    let names = match dir.io().list(&path) {
        // A tenant without events may have no log.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(|source| OpenError::Io {
            action: "list",
            path: path.clone(),
            source,
        })?,
    };
    let is_segment = |name: &String| name.parse::<SegmentName>().is_ok();
    if !names.iter().any(is_segment) {
        return Ok(());
    }
    let (store, _) = recover(path, Arc::clone(process), tenant)?;
    store.purge(now);
    store.compact();
    for segment in store.segments.all() {
        process.caches.forget(segment.uid);
    }
    Ok(())
}
