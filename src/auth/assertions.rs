//! The ids of assertions that were taken: each opens the door once, also over a restart.
//!
//! An id is taken in memory first, so that of two calls at one moment one is refused, and is stored
//! before anything is given for it. What is forgotten is removed in the writes of those that come
//! later, a few with each: no write is made for that alone, and what is left of a gateway that nobody
//! signs in to any more is bounded.

use std::{
    collections::{BTreeSet, HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    jwt::{AssertionError, Claims},
    sign_in::SignInError,
    token::{Hash, hash, parse_hex, to_hex},
};
use crate::{
    clock::Timestamp,
    metadata::{
        Expected, MetadataStore, Scope, StoreError, WriteError,
        records::{self, AssertionRecord},
    },
    types::limits::ASSERTION_IDS_MAX,
};

/// Ids that are forgotten with each that is taken: more than one, so that there are fewer and fewer.
const FORGOTTEN_AT_ONCE: usize = 8;

/// The ids that were taken.
#[derive(Debug)]
pub(super) struct Assertions {
    store: Arc<dyn MetadataStore>,
    taken: Mutex<Taken>,
    taken_max: usize,
}

/// By a hash of client and id, so that a long one takes no more memory.
#[derive(Debug, Default)]
struct Taken {
    until: HashMap<Hash, Timestamp>,
    by_end: BTreeSet<(Timestamp, Hash)>,
}

impl Assertions {
    /// Reads the ids that were taken.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a record that cannot be read is named.
    pub(super) async fn open(store: Arc<dyn MetadataStore>) -> Result<Self, StoreError> {
        let stored = records::list::<AssertionRecord>(&*store, Scope::Server).await?;
        let mut taken = Taken::default();
        for AssertionRecord { sha256, until_ms } in stored.into_iter().map(|stored| stored.record) {
            // One under another key was written by hand; no assertion has it.
            if let Some(key) = parse_hex(&sha256) {
                taken.insert(key, Timestamp::from_millis(until_ms));
            }
        }
        Ok(Self {
            store,
            taken: Mutex::new(taken),
            taken_max: ASSERTION_IDS_MAX,
        })
    }

    /// Takes an assertion, for the first time if it has an id.
    ///
    /// # Errors
    ///
    /// [`SignInError::Assertion`], or [`SignInError::Unavailable`], after which it may be shown again.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the id may be taken.
    pub(super) async fn take(&self, claims: &Claims, now: Timestamp) -> Result<(), SignInError> {
        let until = claims.check_time(now)?;
        let Some(id) = &claims.jti else {
            return Ok(());
        };
        // The client's id holds no such character, so no two pairs share a text.
        let key = hash(&format!("{} {id}", claims.iss));
        let forgotten = self.lock().take(key, until, now, self.taken_max)?;
        let written = self.write(&key, until, &forgotten).await;
        written.map_err(|error| {
            self.lock().remove(&key);
            SignInError::Unavailable(error.into())
        })
    }

    /// Stores one id and removes others. Those whose removal fails are found by the next start.
    async fn write(
        &self,
        key: &Hash,
        until: Timestamp,
        mut forgotten: &[Hash],
    ) -> Result<(), WriteError> {
        let record = AssertionRecord {
            sha256: to_hex(key),
            until_ms: until.as_millis(),
        };
        loop {
            // There is one already if it expired, or if its write seemed to have failed.
            let stored = self.stored(&record.sha256).await?;
            let expected = stored.map_or(Expected::Absent, Expected::Revision);
            let mut changes = vec![records::change(&record, expected)];
            for key in forgotten {
                let key = to_hex(key);
                let stored = self.stored(&key).await?;
                changes.extend(
                    stored.map(|revision| records::removal::<AssertionRecord>(&key, revision)),
                );
            }
            match self.store.write(Scope::Server, changes).await {
                // One that is forgotten was taken anew meanwhile, and stays; or this one was forgotten.
                Err(WriteError::Conflict { .. }) => forgotten = &[],
                written => return written,
            }
        }
    }

    /// The revision of a record, if there is one.
    async fn stored(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let stored = records::load::<AssertionRecord>(&*self.store, Scope::Server, key).await?;
        Ok(stored.map(|stored| stored.revision))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("no holder of this lock panics")
    }
}

impl Taken {
    /// Takes an id, and returns those that are forgotten for it.
    fn take(
        &mut self,
        key: Hash,
        until: Timestamp,
        now: Timestamp,
        taken_max: usize,
    ) -> Result<Vec<Hash>, AssertionError> {
        if self.until.get(&key).is_some_and(|&until| until > now) {
            return Err(AssertionError::Repeated);
        }
        let over = self.by_end.iter().take_while(|(until, _)| *until <= now);
        let over: Vec<_> = over.take(FORGOTTEN_AT_ONCE).map(|(_, key)| *key).collect();
        if self.until.len() - over.len() >= taken_max {
            return Err(AssertionError::TooMany);
        }
        for key in &over {
            self.remove(key);
        }
        self.remove(&key);
        self.insert(key, until);
        Ok(over.into_iter().filter(|other| *other != key).collect())
    }

    fn insert(&mut self, key: Hash, until: Timestamp) {
        self.until.insert(key, until);
        self.by_end.insert((until, key));
    }

    fn remove(&mut self, key: &Hash) {
        if let hash_map::Entry::Occupied(entry) = self.until.entry(*key) {
            self.by_end.remove(&(entry.remove(), *key));
        }
    }
}

#[cfg(test)]
mod tests;
