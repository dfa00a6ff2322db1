//! Which logs are open, and who may change that.
//!
//! Each tenant in use has a place with one gate. Whoever opens a log, closes it or purges it while
//! it is closed holds the gate, so a log never has a second writer, and an opening that comes while
//! the closing is under way waits for it.
//!
//! A log stays open as long as there is a [`Handle`] to it. The last one to go has the upkeep thread
//! close the log: what is queued is committed and the open segment gets its footer, after which the
//! log costs nothing but its files.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use tokio::sync::{self, OwnedMutexGuard, watch};

use super::tenant::{EmbeddedTenantLog, Handle};
use crate::{
    event_log::OpenError,
    types::{TenantId, limits::LOGS_CLOSING_MAX},
};

/// The places of the tenants in use.
#[derive(Debug)]
pub(super) struct Tenants {
    map: Mutex<TenantMap>,
    /// How many logs wait to be closed.
    closings: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct TenantMap {
    /// No log is opened any more, and none is closed because it is not used.
    is_shut: bool,
    /// Of tenants whose log is open, or being opened, closed or purged.
    places: HashMap<TenantId, Arc<Place>>,
}

/// Where one tenant's log is while it is open.
#[derive(Debug, Default)]
pub(super) struct Place {
    gate: Arc<sync::Mutex<()>>,
    /// Changed only by who holds the gate; looked at by anyone.
    open: Mutex<Option<OpenLog>>,
}

#[derive(Debug)]
struct OpenLog {
    log: Arc<EmbeddedTenantLog>,
    handle: Weak<Handle>,
}

/// The right to open, close or purge the log of a place. Does not borrow, so that it can go with the
/// thread that does the work: it must not be given up because a caller went away.
pub(super) type Gate = OwnedMutexGuard<()>;

impl Default for Tenants {
    fn default() -> Self {
        Self {
            map: Mutex::default(),
            closings: watch::Sender::new(0),
        }
    }
}

impl Tenants {
    /// The place of `tenant`, made if there is none.
    ///
    /// # Errors
    ///
    /// [`OpenError::Closed`] after [`Self::shut`].
    pub(super) fn place(&self, tenant: TenantId) -> Result<Arc<Place>, OpenError> {
        let mut map = self.lock();
        if map.is_shut {
            return Err(OpenError::Closed);
        }
        Ok(Arc::clone(map.places.entry(tenant).or_default()))
    }

    /// Lets no log be opened from now on.
    pub(super) fn shut(&self) {
        self.lock().is_shut = true;
        // Whoever waits for closings is to find that out.
        self.closings.send_modify(|_| {});
    }

    pub(super) fn is_shut(&self) -> bool {
        self.lock().is_shut
    }

    /// The logs that are open, those included that are being closed.
    pub(super) fn open(&self) -> Vec<Arc<EmbeddedTenantLog>> {
        let map = self.lock();
        map.places
            .values()
            .filter_map(|place| place.log())
            .collect()
    }

    /// Every place there is.
    pub(super) fn places(&self) -> Vec<Arc<Place>> {
        self.lock().places.values().cloned().collect()
    }

    /// Waits while too many logs wait to be closed: each still has its memory and its file, so
    /// without this a caller that goes through all tenants would have all of them open.
    ///
    /// # Errors
    ///
    /// [`OpenError::Closed`] after [`Self::shut`].
    pub(super) async fn closings_keep_up(&self) -> Result<(), OpenError> {
        let mut closings = self.closings.subscribe();
        let is_over = |&waiting: &usize| waiting <= LOGS_CLOSING_MAX || self.is_shut();
        // The sender lives as long as `self`.
        _ = closings.wait_for(is_over).await;
        match self.is_shut() {
            true => Err(OpenError::Closed),
            false => Ok(()),
        }
    }

    /// Closes the log of `tenant` if nobody uses it. Blocks.
    pub(super) fn close_unused(&self, tenant: TenantId) {
        let place = {
            let map = self.lock();
            match map.places.get(&tenant) {
                // The end of all logs is under way, and sees to this one too.
                _ if map.is_shut => return,
                None => return,
                Some(place) => Arc::clone(place),
            }
        };
        // If the gate is taken the log is about to be used, and its handle will come back here.
        if let Some(gate) = place.try_enter() {
            place.close_unused(&gate);
        }
        self.leave(tenant, place);
    }

    /// The tenants whose log is open though nobody uses it. There is one only if an opening was
    /// given up in the moment in which the log was to be closed.
    pub(super) fn unused(&self) -> Vec<TenantId> {
        let map = self.lock();
        let unused = map.places.iter().filter(|(_, place)| place.is_unused());
        unused.map(|(tenant, _)| *tenant).collect()
    }

    /// Lets go of `place`, and of the tenant with it if its log is closed and nobody else is there.
    pub(super) fn leave(&self, tenant: TenantId, place: Arc<Place>) {
        let mut map = self.lock();
        // Places are only taken under this lock: one that is held here alone stays so.
        if place.log().is_none() && Arc::strong_count(&place) == 2 {
            map.places.remove(&tenant);
        }
    }

    /// Lets go of places that an opening left empty.
    pub(super) fn tidy(&self) {
        let mut map = self.lock();
        map.places
            .retain(|_, place| Arc::strong_count(place) > 1 || place.log().is_some());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().places.len()
    }

    #[cfg(test)]
    pub(super) fn closings(&self) -> usize {
        *self.closings.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, TenantMap> {
        self.map.lock().expect(NO_PANIC)
    }
}

impl Place {
    /// A handle to the log, if somebody uses it.
    pub(super) fn handle(&self) -> Option<Arc<Handle>> {
        self.lock().as_ref()?.handle.upgrade()
    }

    /// The log, if it is open.
    pub(super) fn log(&self) -> Option<Arc<EmbeddedTenantLog>> {
        self.lock().as_ref().map(|open| Arc::clone(&open.log))
    }

    /// Waits for the gate.
    pub(super) async fn enter(&self) -> Gate {
        Arc::clone(&self.gate).lock_owned().await
    }

    /// The gate, unless somebody holds it.
    pub(super) fn try_enter(&self) -> Option<Gate> {
        Arc::clone(&self.gate).try_lock_owned().ok()
    }

    /// Whether somebody holds the gate or waits for it. Unlike [`Self::try_enter`] it never takes
    /// the gate, not even for a moment in which a closing would find it taken and let the log be.
    #[cfg(test)]
    pub(super) fn is_entered(&self) -> bool {
        Arc::strong_count(&self.gate) > 1
    }

    /// A handle to the log, which is opened by `open` if it is not open.
    pub(super) fn handle_or_open<E>(
        &self,
        _: &Gate,
        tenants: &Arc<Tenants>,
        open: impl FnOnce() -> Result<Arc<EmbeddedTenantLog>, E>,
    ) -> Result<Arc<Handle>, E> {
        if let Some(handle) = self.handle() {
            return Ok(handle);
        }
        // Nobody uses it and it was not closed yet: it stays open.
        let log = self.log().map_or_else(open, Ok)?;
        let handle = Handle::new(Arc::clone(&log), Arc::clone(tenants));
        *self.lock() = Some(OpenLog {
            log,
            handle: Arc::downgrade(&handle),
        });
        Ok(handle)
    }

    /// Ends the log cleanly, whoever uses it: it can still be read. Blocks.
    pub(super) fn end(&self) {
        let _gate = Arc::clone(&self.gate).blocking_lock_owned();
        if let Some(log) = self.log() {
            log.close();
        }
    }

    fn close_unused(&self, _: &Gate) {
        // A handle that is gone does not come back, and a new one takes the gate.
        let Some(log) = self.log().filter(|_| self.is_unused()) else {
            return;
        };
        let metrics = log.metrics().clone();
        if !log.close() {
            tracing::warn!(
                tenant = %log.tenant(),
                "a log that nobody uses was not closed cleanly; its next opening recovers it"
            );
            metrics.unclean_closings.inc();
        }
        log.let_go();
        self.lock().take();
        drop(log);
        metrics.closings.inc();
    }

    fn is_unused(&self) -> bool {
        let open = self.lock();
        open.as_ref()
            .is_some_and(|open| open.handle.strong_count() == 0)
    }

    fn lock(&self) -> MutexGuard<'_, Option<OpenLog>> {
        self.open.lock().expect(NO_PANIC)
    }
}

/// A log that waits to be closed. It counts as such until this is dropped.
#[derive(Debug)]
pub(super) struct Closing {
    tenant: TenantId,
    tenants: Arc<Tenants>,
}

impl Closing {
    pub(super) fn new(tenant: TenantId, tenants: &Arc<Tenants>) -> Self {
        tenants.closings.send_modify(|waiting| *waiting += 1);
        Self {
            tenant,
            tenants: Arc::clone(tenants),
        }
    }

    /// Closes the log, unless somebody came to use it meanwhile. Blocks.
    pub(super) fn run(self) {
        self.tenants.close_unused(self.tenant);
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.tenants.closings.send_modify(|waiting| *waiting -= 1);
    }
}

const NO_PANIC: &str = "no holder of this lock panics";
