//! Hashes of passwords: slow on purpose, so only a few at once and off the async threads.
//!
//! Argon2id with the parameters that OWASP's Password Storage Cheat Sheet puts first: 19 MiB, two
//! passes, one lane.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use crate::types::limits::{PASSWORD_HASH_WAIT, PASSWORD_HASHES_MAX};

/// Nobody's password, with the parameters of everyone else's.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdCBoZXJl$QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY";

/// More passwords wait to be hashed than can be in good time, or the system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// A turn to hash one password. Clones are the same turn, which is over when the last one is gone.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Where passwords are hashed.
#[derive(Debug)]
pub(super) struct Passwords {
    /// A permit for each hash: each takes memory, and a thread.
    permits: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(PASSWORD_HASHES_MAX)),
        }
    }
}

impl Passwords {
    /// The hash of a password, to be stored.
    pub(super) async fn hash(&self, password: &str) -> Result<String, Busy> {
        let turn = self.turn().await?;
        let password = password.to_owned();
        let hashing = spawn_blocking(move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            drop(turn);
            hash.map(|hash| hash.to_string())
        });
        hashing.await.map_err(|_| Busy)?.map_err(|_| Busy)
    }

    /// Whether a password is the one with this hash. Takes as long when there is no hash.
    pub(super) async fn verify(
        &self,
        turn: &Turn,
        hash: Option<Arc<str>>,
        password: &str,
    ) -> Result<bool, Busy> {
        let turn = turn.clone();
        let password = password.to_owned();
        let verifying = spawn_blocking(move || {
            let is_right = matches(hash.as_deref().unwrap_or(NOBODY), &password);
            drop(turn);
            is_right && hash.is_some()
        });
        verifying.await.map_err(|_| Busy)
    }

    /// Waits for a turn. It goes with the work, which goes on if nobody waits for it.
    pub(super) async fn turn(&self) -> Result<Turn, Busy> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = timeout(PASSWORD_HASH_WAIT, permit).await;
        let permit = permit.map_err(|_| Busy)?;
        Ok(Turn {
            _permit: Arc::new(permit.expect("the semaphore is never closed")),
        })
    }
}

fn matches(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        let verified = Argon2::default().verify_password(password.as_bytes(), &hash);
        verified.is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_told_from_others_and_hashed_anew_each_time() {
        let passwords = Passwords::default();
        let hash: Arc<str> = passwords.hash("correct horse").await.unwrap().into();
        assert_ne!(passwords.hash("correct horse").await.unwrap(), *hash);
        let is_right = async |hash: &Arc<str>, password| {
            let hash = Some(Arc::clone(hash));
            let turn = passwords.turn().await.unwrap();
            passwords.verify(&turn, hash, password).await.unwrap()
        };
        assert!(is_right(&hash, "correct horse").await);
        assert!(!is_right(&hash, "correct house").await);
        assert!(!is_right(&hash, "").await);
        assert!(!is_right(&"not a hash".into(), "").await);
    }

    #[tokio::test]
    async fn nobodys_password_costs_what_everyone_elses_does() {
        let hash = Passwords::default().hash("correct horse").await.unwrap();
        let parameters = |hash: &str| {
            let hash = PasswordHash::new(hash).expect("a hash that is parsed is computed");
            let output = hash.hash.expect("a hash").as_bytes().len();
            (hash.algorithm.to_string(), hash.params.to_string(), output)
        };
        assert_eq!(parameters(&hash), parameters(NOBODY));
        let passwords = Passwords::default();
        let turn = passwords.turn().await.unwrap();
        assert!(!passwords.verify(&turn, None, "").await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hash_whose_turn_does_not_come_is_refused() {
        let passwords = Passwords::default();
        let all = u32::try_from(PASSWORD_HASHES_MAX).unwrap();
        let taken = passwords.permits.acquire_many(all).await.unwrap();
        assert_eq!(passwords.hash("correct horse").await, Err(Busy));
        assert!(matches!(passwords.turn().await, Err(Busy)));
        drop(taken);
        assert!(passwords.turn().await.is_ok());
    }
}
