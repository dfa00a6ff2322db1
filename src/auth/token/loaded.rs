//! The tokens that are kept in memory: those of tenants that were used lately.
//!
//! What is kept decides over what is stored: a token that was revoked here opens nothing, stored or
//! not. So tokens are forgotten only when nobody uses them and every revocation is known to be stored.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::{Hash, Known, Token, TokenError};
use crate::{
    clock::Timestamp,
    types::{
        TenantId,
        limits::{SIGN_IN_TOKENS_MAX, TENANT_SIGN_IN_TOKENS_MAX, TOKENS_MAX},
    },
};

/// The tenants whose tokens are in memory, or are being read.
#[derive(Debug)]
pub(super) struct Loaded {
    started: Instant,
    slots: RwLock<HashMap<TenantId, Arc<Slot>>>,
    tenants_max: usize,
}

/// One tenant's tokens, once they were read.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) cell: OnceCell<RwLock<Tokens>>,
    /// When they were last used, in milliseconds since the start.
    used_ms: AtomicU64,
}

/// One tenant's tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    by_id: HashMap<String, Known>,
    id_by_hash: HashMap<Hash, String>,
    /// Revoked here, and perhaps not in the store.
    unstored: HashSet<String>,
}

impl Loaded {
    pub(super) fn new(tenants_max: usize) -> Self {
        Self {
            started: Instant::now(),
            slots: RwLock::default(),
            tenants_max,
        }
    }

    /// The slot of `tenant`. Those that were not used for longest give way to a new one.
    pub(super) fn slot(&self, tenant: TenantId) -> Arc<Slot> {
        if let Some(slot) = self.read().get(&tenant) {
            return Arc::clone(slot);
        }
        let mut slots = self.write();
        while slots.len() >= self.tenants_max && !slots.contains_key(&tenant) {
            let unused = slots.iter().filter(|(_, slot)| slot.is_unused());
            let Some(oldest) = unused.min_by_key(|(_, slot)| slot.used_ms()) else {
                break;
            };
            let tenant = *oldest.0;
            slots.remove(&tenant);
        }
        let slot = slots.entry(tenant).or_insert_with(|| {
            let slot = Slot::default();
            self.touch(&slot);
            Arc::new(slot)
        });
        Arc::clone(slot)
    }

    /// Notes that the tokens of a slot are used.
    pub(super) fn touch(&self, slot: &Slot) {
        slot.used_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Forgets the tokens that were not used for `idle`.
    pub(super) fn forget_quiet(&self, idle: Duration) {
        let now_ms = self.now_ms();
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let is_quiet = |slot: &Slot| now_ms.saturating_sub(slot.used_ms()) >= idle_ms;
        self.write()
            .retain(|_, slot| !is_quiet(slot) || !slot.is_unused());
    }

    /// Every tenant whose tokens are in memory.
    pub(super) fn all(&self) -> Vec<(TenantId, Arc<Slot>)> {
        let slots = self.read();
        let loaded = slots.iter().filter(|(_, slot)| slot.cell.get().is_some());
        loaded
            .map(|(tenant, slot)| (*tenant, Arc::clone(slot)))
            .collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<TenantId, Arc<Slot>>> {
        self.slots.read().expect(NO_PANIC)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<TenantId, Arc<Slot>>> {
        self.slots.write().expect(NO_PANIC)
    }
}

impl Slot {
    /// Whether no call uses the tokens and nothing is known here that is not stored. Slots are given
    /// out under the lock of all of them, so as long as that is held it stays so.
    fn is_unused(self: &Arc<Self>) -> bool {
        let is_stored =
            |tokens: &RwLock<Tokens>| tokens.read().expect(NO_PANIC).unstored.is_empty();
        Arc::strong_count(self) == 1 && self.cell.get().is_none_or(is_stored)
    }

    /// The tokens, which were read: a slot is given out when they are.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Tokens> {
        self.tokens().read().expect(NO_PANIC)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Tokens> {
        self.tokens().write().expect(NO_PANIC)
    }

    fn tokens(&self) -> &RwLock<Tokens> {
        self.cell.get().expect("the tokens were read")
    }

    fn used_ms(&self) -> u64 {
        self.used_ms.load(Ordering::Relaxed)
    }
}

impl Tokens {
    pub(super) fn new(known: impl IntoIterator<Item = Known>) -> Self {
        let mut tokens = Self::default();
        for known in known {
            tokens.insert(known);
        }
        tokens
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Token> {
        self.by_id.values().map(|known| &known.token)
    }

    /// The token whose text has this hash.
    pub(super) fn find(&self, hash: &Hash) -> Option<&Known> {
        self.by_id.get(self.id_by_hash.get(hash)?)
    }

    pub(super) fn by_id(&self, id: &str) -> Option<&Token> {
        self.by_id.get(id).map(|known| &known.token)
    }

    pub(super) fn insert_within_bound(
        &mut self,
        known: Known,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        let good = self
            .all()
            .filter(|token| token.is_live(now) && !token.is_of_sign_in());
        if good.count() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        self.insert(known);
        Ok(())
    }

    /// Adds a token that signing in made, and returns the ids of those that gave way to it: the
    /// oldest of the same owner, kind and state, and the oldest of all.
    pub(super) fn insert_of_sign_in(&mut self, known: Known) -> Vec<String> {
        let is_alike = |token: &&Token| {
            let new = &known.token;
            let owner = |token: &Token| token.user_id.clone().or(token.client_id.clone());
            token.kind == new.kind && owner(token) == owner(new) && token.is_of_sign_in()
        };
        let is_revoked = |token: &&Token| token.revoked_at.is_some();
        let mut gone = Vec::new();
        for revoked in [false, true] {
            let alike = || {
                let all = self.all().filter(is_alike);
                all.filter(move |token| is_revoked(token) == revoked)
            };
            if alike().count() >= SIGN_IN_TOKENS_MAX {
                gone.extend(oldest(alike()));
            }
        }
        let of_sign_in = || self.all().filter(|token| token.is_of_sign_in());
        if gone.is_empty() && of_sign_in().count() >= TENANT_SIGN_IN_TOKENS_MAX {
            gone.extend(oldest(of_sign_in()));
        }
        for id in &gone {
            self.remove(id);
        }
        self.insert(known);
        gone
    }

    /// Takes out the tokens for which `is_unwanted` holds, and returns their ids.
    pub(super) fn take(&mut self, is_unwanted: impl Fn(&Token) -> bool) -> Vec<String> {
        let unwanted = self.all().filter(|token| is_unwanted(token));
        let ids: Vec<_> = unwanted.map(|token| token.id.clone()).collect();
        for id in &ids {
            self.remove(id);
        }
        ids
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(known) = self.by_id.remove(id) {
            self.id_by_hash.remove(&known.hash);
        }
        self.unstored.remove(id);
    }

    pub(super) fn revoke(&mut self, id: &str, now: Timestamp) -> Option<Known> {
        let known = self.by_id.get_mut(id)?;
        known.token.revoked_at.get_or_insert(now);
        self.unstored.insert(id.to_owned());
        Some(known.clone())
    }

    /// Notes that a revocation is stored.
    pub(super) fn revocation_is_stored(&mut self, id: &str) {
        self.unstored.remove(id);
    }

    fn insert(&mut self, known: Known) {
        let id = known.token.id.clone();
        self.id_by_hash.insert(known.hash, id.clone());
        self.by_id.insert(id, known);
    }
}

fn oldest<'a>(tokens: impl Iterator<Item = &'a Token>) -> Option<String> {
    let oldest = tokens.min_by_key(|token| (token.created_at, &token.id))?;
    Some(oldest.id.clone())
}

const NO_PANIC: &str = "no holder of this lock panics";
