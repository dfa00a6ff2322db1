//! Room for the bodies of requests: bounded in bytes over all callers, and for each tenant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::{sync::Semaphore, time::timeout};

use crate::types::{
    TenantId,
    limits::{HTTP_BODIES_BYTES, HTTP_BODIES_TENANT_BYTES, PUBLISH_ROOM_WAIT},
};

/// The room for all bodies. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// A permit for each byte.
    all: Arc<Semaphore>,
    /// The same for each tenant that has a body here.
    tenants: Arc<Mutex<HashMap<TenantId, Weak<Semaphore>>>>,
}

/// What one body takes of the room, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where it is taken: of the tenant's first, as waiting there holds up nobody else.
    rooms: Vec<Arc<Semaphore>>,
    bytes: usize,
}

/// There was no room in time.
#[derive(Debug)]
pub(super) struct NoRoom;

impl Room {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(HTTP_BODIES_BYTES)),
            tenants: Arc::default(),
        }
    }

    /// Nothing yet, for a body that `tenant` sends, if it is known whose it is.
    pub(super) fn taken(&self, tenant: Option<TenantId>) -> Taken {
        let own = tenant.map(|tenant| self.of(tenant));
        Taken {
            rooms: own.into_iter().chain([Arc::clone(&self.all)]).collect(),
            bytes: 0,
        }
    }

    fn of(&self, tenant: TenantId) -> Arc<Semaphore> {
        let tenants = self.tenants.lock();
        let mut tenants = tenants.expect("no holder of this lock panics");
        if let Some(own) = tenants.get(&tenant).and_then(Weak::upgrade) {
            return own;
        }
        tenants.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(HTTP_BODIES_TENANT_BYTES));
        tenants.insert(tenant, Arc::downgrade(&own));
        own
    }

    /// Bytes that nobody has taken.
    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.all.available_permits()
    }
}

impl Taken {
    /// Takes room for `bytes` more, and waits for it for a while.
    ///
    /// # Errors
    ///
    /// [`NoRoom`]: what was taken before stays taken. Bodies that hold each other up are not waited
    /// for until they are given up.
    pub(super) async fn more(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let count = u32::try_from(bytes).map_err(|_| NoRoom)?;
        let taking = async {
            let mut permits = Vec::with_capacity(self.rooms.len());
            for room in &self.rooms {
                let permit = room.acquire_many(count).await;
                permits.push(permit.expect("the semaphore is never closed"));
            }
            for permit in permits {
                permit.forget();
            }
        };
        timeout(PUBLISH_ROOM_WAIT, taking)
            .await
            .map_err(|_| NoRoom)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        for room in &self.rooms {
            room.add_permits(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u8) -> TenantId {
        format!("00D00000000000{number}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenant_leaves_room_for_the_others() {
        let room = Room::new();
        let mut greedy = room.taken(Some(tenant(1)));
        greedy.more(HTTP_BODIES_TENANT_BYTES).await.unwrap();
        greedy.more(1).await.unwrap_err();
        room.taken(Some(tenant(1))).more(1).await.unwrap_err();
        let mut other = room.taken(Some(tenant(2)));
        other.more(HTTP_BODIES_TENANT_BYTES).await.unwrap();
        room.taken(None).more(1).await.unwrap();
        assert_eq!(
            room.free(),
            HTTP_BODIES_BYTES - 2 * HTTP_BODIES_TENANT_BYTES
        );
        drop((greedy, other));
        assert_eq!(room.free(), HTTP_BODIES_BYTES);
        let mut again = room.taken(Some(tenant(1)));
        again.more(HTTP_BODIES_TENANT_BYTES).await.unwrap();
        assert_eq!(room.tenants.lock().unwrap().len(), 1);
    }
}
