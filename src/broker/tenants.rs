//! The tenants whose engines are open, and which of them may be closed.
//!
//! Publishers and subscriptions hold their tenant. One that nobody holds stays open for a while, since
//! the next call is likely to come soon, and then costs nothing but what is stored of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::{
    channels::Channels, filters::Filters, idempotence::Windows, managed::ManagedSubscriptions,
};
use crate::{event_log::TenantLog, schema::registry::TenantSchemas, types::TenantId};

/// One tenant's engines.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) log: Arc<dyn TenantLog>,
    pub(super) schemas: Arc<TenantSchemas>,
    pub(super) managed: ManagedSubscriptions,
    pub(super) channels: Channels,
    pub(super) filters: Filters,
    pub(super) ids: Arc<Windows>,
}

/// Where a tenant's engines are once they are open. Two first calls share one opening.
pub(super) type Cell = Arc<OnceCell<Arc<Tenant>>>;

/// The tenants in use.
#[derive(Debug, Default)]
pub(super) struct Tenants(Mutex<HashMap<TenantId, Entry>>);

#[derive(Debug)]
struct Entry {
    cell: Cell,
    used_at: Instant,
}

/// Tenants that were taken out. Dropping it drops their engines, which is not done under the lock.
pub(super) type Closed = Vec<(TenantId, Cell)>;

impl Tenants {
    /// The cell of `id`, which is in use now. If it is new, and there are more than `open_max`, those
    /// that nobody has used for longest are taken out.
    pub(super) fn enter(&self, id: TenantId, now: Instant, open_max: usize) -> (Cell, Closed) {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(&id) {
            entry.used_at = now;
            return (Arc::clone(&entry.cell), Closed::new());
        }
        let cell = Cell::default();
        let mut closed = Closed::new();
        while entries.len() >= open_max {
            let unused = entries.iter().filter(|(_, entry)| entry.is_unused());
            let Some(oldest) = unused.min_by_key(|(_, entry)| entry.used_at) else {
                break;
            };
            let id = *oldest.0;
            closed.extend(entries.remove(&id).map(|entry| (id, entry.cell)));
        }
        let entry = Entry {
            cell: Arc::clone(&cell),
            used_at: now,
        };
        entries.insert(id, entry);
        (cell, closed)
    }

    /// Takes out the tenants that nobody has used for `idle`, but for those of which somebody wants to
    /// know how far their managed subscriptions are behind.
    pub(super) fn take_quiet(&self, now: Instant, idle: Duration) -> Closed {
        let mut entries = self.lock();
        let mut closed = Closed::new();
        entries.retain(|id, entry| {
            if !entry.is_unused() || entry.is_watched() {
                entry.used_at = now;
            }
            let is_quiet = now.saturating_duration_since(entry.used_at) >= idle;
            if is_quiet {
                closed.push((*id, Arc::clone(&entry.cell)));
            }
            !is_quiet
        });
        closed
    }

    /// The logs of the tenants that are open.
    pub(super) fn logs(&self) -> Vec<(TenantId, Arc<dyn TenantLog>)> {
        let entries = self.lock();
        let open = entries
            .iter()
            .filter_map(|(id, entry)| Some((*id, entry.cell.get()?)));
        open.map(|(id, tenant)| (id, Arc::clone(&tenant.log)))
            .collect()
    }

    /// The tenants that are open.
    pub(super) fn open(&self) -> Vec<(TenantId, Arc<Tenant>)> {
        let entries = self.lock();
        let open = entries
            .iter()
            .filter_map(|(id, entry)| Some((*id, Arc::clone(entry.cell.get()?))));
        open.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Entry>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Entry {
    /// Whether the tenant has a managed subscription that runs. What it has not read is lost in time,
    /// also if nobody does anything, and whoever is to see that looks at what is open.
    fn is_watched(&self) -> bool {
        self.cell
            .get()
            .is_some_and(|tenant| tenant.managed.has_running())
    }

    /// Whether nobody holds the engines, or waits for them. Cells are only given out under the lock,
    /// and engines only by cells, so as long as that is held nobody comes to hold them either.
    fn is_unused(&self) -> bool {
        let is_held = |tenant: &Arc<Tenant>| Arc::strong_count(tenant) > 1;
        Arc::strong_count(&self.cell) == 1 && !self.cell.get().is_some_and(is_held)
    }
}
