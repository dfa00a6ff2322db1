//! Users: people and programs that sign in with a name and a password.
//!
//! All of them are in memory, since a sign-in does not say which tenant it is for and anybody may ask
//! for one. Names are the gateway's: they are the same in whatever case, as at the hosted service.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, RwLock},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    accounts::{Account, AccountError, new_user_id},
    password::{Busy, Passwords, Turn},
    token::TokenStore,
};
use crate::{
    clock::{Clock, Timestamp},
    metadata::{
        Expected, MetadataStore, Scope, StoreError,
        records::{self, GrantsRecord, UserRecord},
    },
    types::{
        Grants, TenantId,
        limits::{ACCOUNTS_MAX, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, USERNAME_CHARS_MAX},
    },
};

/// Random bytes of a password that is made here.
const PASSWORD_RANDOM_BYTES: usize = 18;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// A password that nobody guesses.
    ///
    /// # Errors
    ///
    /// If the system has no randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut random = [0; PASSWORD_RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(random)))
    }

    /// A password that somebody thought of.
    ///
    /// # Errors
    ///
    /// [`AccountError::Password`].
    pub fn new(text: String) -> Result<Self, AccountError> {
        let fits = text.chars().count() >= PASSWORD_CHARS_MIN && text.len() <= PASSWORD_BYTES_MAX;
        if fits {
            Ok(Self(text))
        } else {
            Err(AccountError::Password)
        }
    }

    /// The text itself, to be handed to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The text is a secret.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// A user.
#[derive(Clone)]
pub struct User {
    /// What others may know of them.
    pub account: Account,
    password_hash: Arc<str>,
}

/// The hash is nobody's business.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// The users of every tenant.
#[derive(Debug)]
pub struct Users {
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    /// Told who there is: tokens are good as long as those whom they were made for exist.
    tokens: Arc<TokenStore>,
    passwords: Passwords,
    by_name: RwLock<HashMap<String, Arc<User>>>,
    /// Held by whoever makes or deletes one, so that what is known and what is stored change together.
    changes: tokio::sync::Mutex<()>,
}

impl Users {
    /// Reads every user.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a record that cannot be read is named.
    pub async fn open(
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
        tokens: Arc<TokenStore>,
    ) -> Result<Self, StoreError> {
        let stored = records::list::<UserRecord>(&*store, Scope::Server).await?;
        // One that was not written here opens nothing.
        let users = stored
            .into_iter()
            .filter_map(|stored| user(stored.record))
            .map(|user| (user.account.name.to_string(), Arc::new(user)));
        Ok(Self {
            by_name: RwLock::new(users.collect()),
            store,
            clock,
            tokens,
            passwords: Passwords::default(),
            changes: tokio::sync::Mutex::default(),
        })
    }

    /// Makes a user.
    ///
    /// # Errors
    ///
    /// [`AccountError`]. After [`AccountError::Store`] the user may be there when the gateway starts
    /// again, unless one of the name is made or deleted before.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a drop has the same consequence.
    pub async fn create(
        &self,
        tenant: TenantId,
        username: &str,
        password: &Password,
        grants: Grants,
    ) -> Result<Arc<User>, AccountError> {
        let key = key_of(username).ok_or(AccountError::Username)?;
        if self.has_name(&key) {
            return Err(AccountError::Taken);
        }
        let password_hash = self.passwords.hash(&password.0).await;
        let password_hash = password_hash.map_err(|Busy| AccountError::Busy)?;
        let id = new_user_id().map_err(|error| AccountError::Store(error.into()))?;
        let id: Arc<str> = id.as_str().into();
        let user = Arc::new(User {
            account: Account {
                id: Arc::clone(&id),
                user_id: id,
                name: key.as_str().into(),
                tenant,
                grants,
                created_at: self.clock.now(),
            },
            password_hash: password_hash.into(),
        });
        let _change = self.changes.lock().await;
        if self.has_name(&key) {
            return Err(AccountError::Taken);
        }
        if self.by_name.read().expect(NO_PANIC).len() >= ACCOUNTS_MAX {
            return Err(AccountError::TooMany);
        }
        // One of the name that nobody has was never confirmed, and gives way.
        let stored = records::load::<UserRecord>(&*self.store, Scope::Server, &key).await?;
        let expected = stored.map_or(Expected::Absent, |stored| {
            Expected::Revision(stored.revision)
        });
        let change = records::change(&record(&user), expected);
        self.store.write(Scope::Server, vec![change]).await?;
        self.tokens.add_owner(&user.account.id);
        let mut by_name = self.by_name.write().expect(NO_PANIC);
        by_name.insert(key, Arc::clone(&user));
        Ok(user)
    }

    /// Every user of `tenant`, by name.
    pub fn list(&self, tenant: TenantId) -> Vec<Arc<User>> {
        let by_name = self.by_name.read().expect(NO_PANIC);
        let of_tenant = by_name
            .values()
            .filter(|user| user.account.tenant == tenant);
        let mut list: Vec<_> = of_tenant.cloned().collect();
        list.sort_by_key(|user| Arc::clone(&user.account.name));
        list
    }

    /// Deletes a user of `tenant`; their tokens open nothing from then on.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; unless it is [`AccountError::Unknown`] the user may still be there.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the user may be good until the call is made again.
    pub async fn delete(
        &self,
        tenant: TenantId,
        username: &str,
    ) -> Result<Arc<User>, AccountError> {
        let key = key_of(username).ok_or(AccountError::Unknown)?;
        let _change = self.changes.lock().await;
        // One that is only stored was never confirmed, one that is only known was deleted by a call
        // that was dropped.
        let stored = records::load::<UserRecord>(&*self.store, Scope::Server, &key).await?;
        let revision = stored.as_ref().map(|stored| stored.revision);
        let stored = stored.and_then(|stored| user(stored.record)).map(Arc::new);
        let found = self.by_name(&key).or(stored);
        let found = found.filter(|user| user.account.tenant == tenant);
        let user = found.ok_or(AccountError::Unknown)?;
        if let Some(revision) = revision {
            let change = records::removal::<UserRecord>(&key, revision);
            self.store.write(Scope::Server, vec![change]).await?;
        }
        self.by_name.write().expect(NO_PANIC).remove(&key);
        self.tokens.remove_owner(tenant, &user.account.id).await;
        Ok(user)
    }

    /// The user of this name, in whatever case.
    pub fn by_name(&self, username: &str) -> Option<Arc<User>> {
        let key = key_of(username)?;
        self.by_name.read().expect(NO_PANIC).get(&key).cloned()
    }

    fn has_name(&self, key: &str) -> bool {
        self.by_name.read().expect(NO_PANIC).contains_key(key)
    }

    /// Whether there is still the user that this was.
    pub fn has(&self, user: &User) -> bool {
        let found = self.by_name(&user.account.name);
        found.is_some_and(|found| found.account.id == user.account.id)
    }

    /// Waits until a password can be checked.
    pub(super) async fn turn(&self) -> Result<Turn, Busy> {
        self.passwords.turn().await
    }

    /// The user of this name and password. Takes as long for a name that nobody has.
    pub(super) async fn verify(
        &self,
        turn: &Turn,
        username: &str,
        password: &str,
    ) -> Result<Option<Arc<User>>, Busy> {
        let user = self.by_name(username);
        let hash = user.as_ref().map(|user| Arc::clone(&user.password_hash));
        let is_right = self.passwords.verify(turn, hash, password).await?;
        // It takes a while: meanwhile they may have been deleted.
        Ok(user.filter(|user| is_right && self.has(user)))
    }
}

/// What a username is compared and stored by; `None` for what is none.
fn key_of(username: &str) -> Option<String> {
    // Some have more characters in lower case.
    let key = username.to_lowercase();
    let fits = (1..=USERNAME_CHARS_MAX).contains(&key.chars().count())
        && !key.chars().any(|c| c.is_whitespace() || c.is_control());
    fits.then_some(key)
}

fn record(user: &User) -> UserRecord {
    let account = &user.account;
    UserRecord {
        username: account.name.to_string(),
        id: account.id.to_string(),
        tenant_id: account.tenant.to_string(),
        password_hash: user.password_hash.to_string(),
        grants: GrantsRecord::of(&account.grants),
        created_at_ms: account.created_at.as_millis(),
    }
}

fn user(record: UserRecord) -> Option<User> {
    let id: Arc<str> = record.id.into();
    Some(User {
        password_hash: record.password_hash.into(),
        account: Account {
            id: Arc::clone(&id),
            user_id: id,
            name: record.username.into(),
            tenant: record.tenant_id.parse().ok()?,
            grants: record.grants.grants()?,
            created_at: Timestamp::from_millis(record.created_at_ms),
        },
    })
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests;
