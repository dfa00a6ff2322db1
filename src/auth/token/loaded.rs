//! The tokens that are kept in memory: those of tenants that were used lately.
//!
//! What is kept decides over what is stored: a token that was revoked here opens nothing, stored or
//! not. So tokens are forgotten only when nobody uses them and every revocation is known to be stored.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map},
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::{Hash, Known, Token, TokenError, TokenKind};
use crate::{
    clock::Timestamp,
    types::{
        TenantId,
        limits::{ENDED_TOKEN_KEPT, SIGN_IN_TOKENS_MAX, TENANT_SIGN_IN_TOKENS_MAX, TOKENS_MAX},
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
    by_id: HashMap<Arc<str>, Known>,
    id_by_hash: HashMap<Hash, Arc<str>>,
    /// Revoked here, and perhaps not in the store.
    unstored: HashSet<Arc<str>>,
    /// Those that signing in made, by their age: who gives way is known without a look at all of
    /// them, which would hold up every call of the tenant.
    of_sign_in: BTreeSet<Age>,
    alike: HashMap<Alike, BTreeSet<Age>>,
}

/// What tokens are in the order of: when they were made, and their ids.
type Age = (Timestamp, Arc<str>);

/// What the tokens have in common of which there may be so many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Alike {
    user_id: Option<Arc<str>>,
    client_id: Option<Arc<str>>,
    kind: TokenKind,
    is_revoked: bool,
}

impl Alike {
    fn of(token: &Token) -> Self {
        Self {
            user_id: token.user_id.clone(),
            client_id: token.client_id.clone(),
            kind: token.kind,
            is_revoked: token.revoked_at.is_some(),
        }
    }
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
    /// oldest of the same owner, kind and state, or the oldest of all. `None` if the refresh token that
    /// it goes with is not good any more: it is not added.
    pub(super) fn insert_of_sign_in(&mut self, known: Known) -> Option<Vec<Arc<str>>> {
        if let Some(id) = &known.token.refresh_id {
            self.by_id(id).filter(|token| token.revoked_at.is_none())?;
        }
        let mut alike = Alike::of(&known.token);
        let mut gone = Vec::new();
        for is_revoked in [false, true] {
            alike.is_revoked = is_revoked;
            let ages = self.alike.get(&alike);
            let ages = ages.filter(|ages| ages.len() >= SIGN_IN_TOKENS_MAX);
            gone.extend(ages.and_then(oldest));
        }
        if gone.is_empty() && self.of_sign_in.len() >= TENANT_SIGN_IN_TOKENS_MAX {
            gone.extend(oldest(&self.of_sign_in));
        }
        for id in &gone {
            self.remove(id);
        }
        self.insert(known);
        Some(gone)
    }

    /// Takes out the tokens for which `is_unwanted` holds, and returns their ids.
    pub(super) fn take(&mut self, is_unwanted: impl Fn(&Token) -> bool) -> Vec<Arc<str>> {
        let unwanted = self.all().filter(|token| is_unwanted(token));
        let ids: Vec<_> = unwanted.map(|token| Arc::clone(&token.id)).collect();
        for id in &ids {
            self.remove(id);
        }
        ids
    }

    /// Takes out the tokens that ended a while before `now`, and returns their ids. One whose revocation may not
    /// be stored stays: it could be good again when the tokens are next read.
    pub(super) fn take_ended(&mut self, now: Timestamp) -> Vec<Arc<str>> {
        let unstored = self.unstored.clone();
        self.take(|token| {
            let revoked_at = token.revoked_at.filter(|_| !unstored.contains(&token.id));
            let ends = [token.expires_at, revoked_at];
            let is_old = |end| now.saturating_since(end) > ENDED_TOKEN_KEPT;
            ends.into_iter().flatten().any(is_old)
        })
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some(known) = self.by_id.remove(id) {
            self.id_by_hash.remove(&known.hash);
            self.forget_age(&known.token);
        }
        self.unstored.remove(id);
    }

    /// Revokes a token, and with a refresh token the access tokens that it was good for. Returns the
    /// token and those whose revocation is to be stored; `None` if there is no such token.
    pub(super) fn revoke(&mut self, id: &str, now: Timestamp) -> Option<(Token, Vec<Known>)> {
        let token = self.by_id(id)?;
        let mut ids = vec![Arc::clone(&token.id)];
        if token.kind == TokenKind::Refresh {
            let goes_with = |other: &&Token| other.refresh_id.as_ref() == Some(&token.id);
            ids.extend(
                self.all()
                    .filter(goes_with)
                    .map(|other| Arc::clone(&other.id)),
            );
        }
        let mut revoked = Vec::new();
        for id in &ids {
            revoked.extend(self.revoke_one(id, now));
        }
        Some((self.by_id(id)?.clone(), revoked))
    }

    /// Revokes one token; `None` if it is revoked and stored as such.
    fn revoke_one(&mut self, id: &Arc<str>, now: Timestamp) -> Option<Known> {
        let known = self.by_id.get(id)?.clone();
        let token = match known.token.revoked_at {
            Some(_) if self.unstored.contains(id) => return Some(known),
            Some(_) => return None,
            None => Token {
                revoked_at: Some(now),
                ..known.token
            },
        };
        let known = Known { token, ..known };
        self.remove(id);
        self.insert(known.clone());
        self.unstored.insert(Arc::clone(id));
        Some(known)
    }

    /// Notes that a revocation is stored.
    pub(super) fn revocation_is_stored(&mut self, id: &str) {
        self.unstored.remove(id);
    }

    fn insert(&mut self, known: Known) {
        let token = &known.token;
        if token.is_of_sign_in() {
            self.of_sign_in.insert(age(token));
            let alike = self.alike.entry(Alike::of(token)).or_default();
            alike.insert(age(token));
        }
        self.id_by_hash.insert(known.hash, Arc::clone(&token.id));
        self.by_id.insert(Arc::clone(&token.id), known);
    }

    fn forget_age(&mut self, token: &Token) {
        self.of_sign_in.remove(&age(token));
        if let hash_map::Entry::Occupied(mut alike) = self.alike.entry(Alike::of(token)) {
            alike.get_mut().remove(&age(token));
            if alike.get().is_empty() {
                alike.remove();
            }
        }
    }
}

fn age(token: &Token) -> Age {
    (token.created_at, Arc::clone(&token.id))
}

fn oldest(ages: &BTreeSet<Age>) -> Option<Arc<str>> {
    ages.first().map(|(_, id)| Arc::clone(id))
}

const NO_PANIC: &str = "no holder of this lock panics";
