//! Access tokens: long random secrets, of which only a hash is kept.
//!
//! A token is `<15-character tenant id>!<secret>`, as clients expect that take the tenant from it.
//! The secret has 480 random bits, so a fast hash is right: there is nothing to guess that a slow one
//! would protect, and every call pays for it.
//!
//! A tenant's tokens are read when one of them is first used, and forgotten when none was used for a
//! while, so a quiet tenant costs its id. Anyone can send the id of a tenant with a made-up secret:
//! one of no tenant is refused without a look at the store, and of those that exist a bounded number
//! is read at once and kept.
//!
//! A token that signing in made belongs to a user, a client application or both, and opens nothing
//! once one of them is deleted: what decides is that they exist, so a deletion needs no second write.

mod loaded;
mod session;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, RwLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Semaphore, watch};

use super::{AuthError, Authenticator, Credentials, HeaderProblem};
use crate::{
    clock::{Clock, Timestamp},
    metadata::{
        Expected, MetadataStore, Scope, StoreError, WriteError,
        records::{
            self, ClientRecord, GrantsRecord, Stored, TenantRecord, TokenRecord, UserRecord,
        },
    },
    types::{
        Grants, Principal, SignedIn, TenantId,
        limits::{TOKEN_LOADS_MAX, TOKEN_TENANTS_MAX, TOKENS_MAX},
    },
};
use loaded::{Loaded, Slot, Tokens};
pub use session::NewSession;

/// Random bytes of a secret: with the tenant's id a token has 96 characters.
const SECRET_BYTES: usize = 60;
/// Characters of a token that are hashed: what is longer is no token.
const TOKEN_CHARS_MAX: usize = 256;

/// The text of an access token.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    fn random(tenant: TenantId) -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self(format!(
            "{}!{}",
            tenant.as_short_str(),
            URL_SAFE_NO_PAD.encode(secret)
        )))
    }

    /// The text itself, to be handed to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The text is a secret.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(***)")
    }
}

/// What is known of an access token, besides its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What administrators call it by.
    pub id: Arc<str>,
    /// What it is for.
    pub name: Arc<str>,
    /// What its holder may do.
    pub grants: Arc<Grants>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked; `None` while it is good.
    pub revoked_at: Option<Timestamp>,
    /// From when on no call begins with it; `None` if it does not expire.
    pub expires_at: Option<Timestamp>,
    /// What it is good for.
    pub kind: TokenKind,
    /// Id of the user who signed in for it, if one did.
    pub user_id: Option<Arc<str>>,
    /// Id of the client application that signed in for it, if one did.
    pub client_id: Option<Arc<str>>,
    /// Id of the refresh token that it goes with, if there is one.
    pub refresh_id: Option<Arc<str>>,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Calls.
    Access,
    /// New access tokens.
    Refresh,
}

impl Token {
    /// Whether calls may begin with it.
    fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// Whether signing in made it, rather than an administrator.
    pub fn is_of_sign_in(&self) -> bool {
        self.user_id.is_some() || self.client_id.is_some()
    }
}

/// Why a token was not made or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No token of the tenant has the id.
    #[error("no token has this id")]
    Unknown,
    /// The tenant has as many good tokens as it may.
    #[error("a tenant has at most {TOKENS_MAX} tokens; revoke one first")]
    TooMany,
    /// The refresh token that it was to go with was revoked meanwhile, or gave way.
    #[error("the refresh token is not good any more")]
    RefreshEnded,
    /// The disk, or the quota on it, is full; the same call succeeds when there is space.
    #[error("the token cannot be stored: the disk is full")]
    DiskFull,
    /// The tokens could not be stored.
    #[error("the token cannot be stored")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

impl From<WriteError> for TokenError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(StoreError::DiskFull(_)) => Self::DiskFull,
            error => Self::Store(error.into()),
        }
    }
}

/// The access tokens of every tenant: kept in the metadata store, asked in memory.
#[derive(Debug)]
pub struct TokenStore {
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    /// Every tenant that may have tokens.
    tenants: RwLock<HashSet<TenantId>>,
    /// Ids of every user and client application there is.
    owners: RwLock<HashSet<Arc<str>>>,
    loaded: Loaded,
    /// A permit for each tenant whose tokens are being read.
    loads: Semaphore,
    /// Rises with each revocation, each deletion of a user or client, and where tokens give way.
    generation: watch::Sender<u64>,
}

#[derive(Clone, Debug)]
struct Known {
    token: Token,
    hash: Hash,
}

pub(super) type Hash = [u8; 32];

impl TokenStore {
    /// Reads which tenants there are. Their tokens are read when they are used.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a record that cannot be read is named.
    pub async fn open(
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let tenants = records::list::<TenantRecord>(&*store, Scope::Server).await?;
        // A record under another key than an id was written by hand; it has no tokens.
        let tenants = tenants
            .iter()
            .filter_map(|tenant| tenant.record.id.parse().ok());
        let users = records::list::<UserRecord>(&*store, Scope::Server).await?;
        let clients = records::list::<ClientRecord>(&*store, Scope::Server).await?;
        let users = users.into_iter().map(|user| user.record.id.into());
        let clients = clients.into_iter().map(|client| client.record.id.into());
        Ok(Self {
            tenants: RwLock::new(tenants.collect()),
            owners: RwLock::new(users.chain(clients).collect()),
            store,
            clock,
            loaded: Loaded::new(TOKEN_TENANTS_MAX),
            loads: Semaphore::new(TOKEN_LOADS_MAX),
            generation: watch::Sender::new(0),
        })
    }

    /// Forgets the tokens of tenants that were not used for `idle`; the next use reads them again.
    /// To be called now and then.
    pub fn forget_quiet(&self, idle: Duration) {
        self.loaded.forget_quiet(idle);
    }

    /// Makes a token that is good for `lifetime`, or until it is revoked. Its text is returned here and
    /// kept nowhere.
    ///
    /// # Errors
    ///
    /// [`TokenError::TooMany`], [`TokenError::DiskFull`] and [`TokenError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop there may be a token whose text nobody has.
    pub async fn create(
        &self,
        tenant: TenantId,
        name: &str,
        grants: Grants,
        lifetime: Option<Duration>,
    ) -> Result<(Token, AccessToken), TokenError> {
        let text = AccessToken::random(tenant).map_err(|error| TokenError::Store(error.into()))?;
        let now = self.clock.now();
        let token = Token {
            id: new_id(),
            name: name.into(),
            grants: Arc::new(grants),
            created_at: now,
            revoked_at: None,
            expires_at: lifetime.map(|lifetime| now.saturating_add(lifetime)),
            kind: TokenKind::Access,
            user_id: None,
            client_id: None,
            refresh_id: None,
        };
        let known = Known {
            token: token.clone(),
            hash: hash(&text.0),
        };
        let change = records::change(&record(&known), Expected::Absent);
        let slot = self.slot(tenant).await?;
        // Known before it is stored, so that calls at one moment cannot pass the bound together.
        // It opens nothing yet: its text is still in here.
        slot.write().insert_within_bound(known, now)?;
        let scope = Scope::Tenant(tenant);
        if let Err(error) = self.store.write(scope, vec![change]).await {
            slot.write().remove(&token.id);
            return Err(error.into());
        }
        let mut tenants = self.tenants.write().expect(NO_PANIC);
        tenants.insert(tenant);
        Ok((token, text))
    }

    /// Every token of `tenant`, oldest first, revoked ones included.
    ///
    /// # Errors
    ///
    /// [`TokenError::Store`].
    pub async fn list(&self, tenant: TenantId) -> Result<Vec<Token>, TokenError> {
        let slot = self.slot(tenant).await?;
        let mut list: Vec<_> = slot.read().all().cloned().collect();
        list.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(list)
    }

    /// Revokes a token, and with a refresh token the access tokens that it was good for: calls that
    /// begin after this are refused. A second call changes nothing.
    ///
    /// They all open nothing from the first moment on, before that is stored, and
    /// [`Authenticator::revocations`] rises.
    ///
    /// # Errors
    ///
    /// [`TokenError::Unknown`]. After [`TokenError::DiskFull`] and [`TokenError::Store`] they open
    /// nothing in this process, but may in a later one: the call is to be made again.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe, with the same consequence.
    pub async fn revoke(&self, tenant: TenantId, id: &str) -> Result<Token, TokenError> {
        let slot = self.slot(tenant).await?;
        let revoked = slot.write().revoke(id, self.clock.now());
        let (token, revoked) = revoked.ok_or(TokenError::Unknown)?;
        if !revoked.is_empty() {
            self.generation.send_modify(|generation| *generation += 1);
        }
        // One that cannot be stored is no reason to leave the others good.
        let mut outcome = Ok(token);
        for known in &revoked {
            match self.store_revocation(tenant, known).await {
                Ok(()) => slot.write().revocation_is_stored(&known.token.id),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    async fn store_revocation(&self, tenant: TenantId, revoked: &Known) -> Result<(), TokenError> {
        let scope = Scope::Tenant(tenant);
        let id = &revoked.token.id;
        loop {
            // What is stored decides whether there is something to write: an earlier call may have
            // been dropped or have failed at any point.
            let stored = records::load::<TokenRecord>(&*self.store, scope, id).await;
            let expected = match stored? {
                Some(stored) if stored.record.revoked_at_ms.is_some() => return Ok(()),
                Some(stored) => Expected::Revision(stored.revision),
                None => Expected::Absent,
            };
            let change = records::change(&record(revoked), expected);
            match self.store.write(scope, vec![change]).await {
                Ok(()) => return Ok(()),
                // By another call for the same token. It ends there: a record is made once and
                // revoked once.
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The tokens of `tenant`, read if they are not in memory. They stay there as long as the slot
    /// is held.
    async fn slot(&self, tenant: TenantId) -> Result<Arc<Slot>, StoreError> {
        let slot = self.loaded.slot(tenant);
        let load = || async {
            let permit = self.loads.acquire().await;
            let _permit = permit.expect("the semaphore is never closed");
            let stored = records::list::<TokenRecord>(&*self.store, Scope::Tenant(tenant)).await?;
            let tokens = Tokens::new(stored.into_iter().filter_map(known));
            Ok::<_, StoreError>(RwLock::new(tokens))
        };
        slot.cell.get_or_try_init(load).await?;
        Ok(slot)
    }

    /// The tenant that `token` says it is of, if there is one.
    fn tenant_of(&self, token: &str) -> Option<TenantId> {
        let (tenant, _) = token.split_once('!')?;
        let tenant: TenantId = tenant.parse().ok()?;
        let tenants = self.tenants.read().expect(NO_PANIC);
        tenants.contains(&tenant).then_some(tenant)
    }
}

#[async_trait::async_trait]
impl Authenticator for TokenStore {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Principal, AuthError> {
        let tenant: TenantId = credentials
            .tenant_id
            .parse()
            .map_err(HeaderProblem::TenantId)?;
        if !looks_like_url(credentials.instance_url) {
            return Err(HeaderProblem::InstanceUrl.into());
        }
        let principal = self.authenticate_bearer(credentials.access_token).await?;
        // Only the holder of a good token learns that the header is at fault.
        if principal.tenant != tenant {
            return Err(HeaderProblem::TenantMismatch.into());
        }
        Ok(principal)
    }

    async fn authenticate_bearer(&self, token: &str) -> Result<Principal, AuthError> {
        let (tenant, token) = self.live(token, TokenKind::Access).await?;
        Ok(Principal {
            tenant,
            name: token.name,
            grants: token.grants,
            signed_in: SignedIn {
                token_id: token.id,
                expires_at_ms: token.expires_at.map(Timestamp::as_millis),
                user_id: token.user_id,
                client_id: token.client_id,
            },
        })
    }

    fn revocations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    async fn is_good(&self, principal: &Principal) -> Result<bool, AuthError> {
        let SignedIn {
            token_id,
            expires_at_ms,
            user_id,
            client_id,
        } = &principal.signed_in;
        if !self.have_owners([user_id, client_id]) {
            return Ok(false);
        }
        let slot = self.slot(principal.tenant).await.map_err(unavailable)?;
        let tokens = slot.read();
        let has_expired = || expires_at_ms.is_some_and(|at| at <= self.clock.now().as_millis());
        Ok(match tokens.by_id(token_id) {
            Some(token) => token.revoked_at.is_none(),
            // One that is not there any more expired, which ends no stream; or it was revoked long
            // ago, or gave way to newer ones, and could not be revoked any more.
            None => has_expired(),
        })
    }
}

impl TokenStore {
    /// The token of this text, if it is of this kind and calls may begin with it.
    async fn live(&self, text: &str, kind: TokenKind) -> Result<(TenantId, Token), AuthError> {
        let (tenant, slot, token) = self.find(text).await?.ok_or(AuthError::Token)?;
        let is_good = token.kind == kind
            && token.is_live(self.clock.now())
            && self.have_owners([&token.user_id, &token.client_id]);
        if !is_good {
            return Err(AuthError::Token);
        }
        // Only a good token keeps its tenant's tokens in memory: others are a stranger's.
        self.loaded.touch(&slot);
        Ok((tenant, token))
    }

    /// The token of this text, good or not.
    async fn find(&self, text: &str) -> Result<Option<(TenantId, Arc<Slot>, Token)>, AuthError> {
        if text.len() > TOKEN_CHARS_MAX {
            return Ok(None);
        }
        let Some(tenant) = self.tenant_of(text) else {
            return Ok(None);
        };
        let slot = self.slot(tenant).await.map_err(unavailable)?;
        let hash = hash(text);
        let token = {
            let tokens = slot.read();
            // The table is keyed by hash, so what its timing tells is about a hash, not about a
            // token; the comparison that decides is constant in time all the same.
            let known = tokens.find(&hash);
            known
                .filter(|known| bool::from(known.hash.ct_eq(&hash)))
                .map(|known| known.token.clone())
        };
        Ok(token.map(|token| (tenant, slot, token)))
    }

    /// Whether those of `owners` that are named exist.
    fn have_owners(&self, owners: [&Option<Arc<str>>; 2]) -> bool {
        let known = self.owners.read().expect(NO_PANIC);
        owners.into_iter().flatten().all(|id| known.contains(id))
    }
}

fn new_id() -> Arc<str> {
    uuid::Uuid::new_v4().to_string().into()
}

fn unavailable(error: StoreError) -> AuthError {
    AuthError::Unavailable(Arc::new(error))
}

/// Clients send whatever their sign-in told them, with or without a path, so this is all that is
/// asked of it.
fn looks_like_url(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
}

pub(super) fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

fn record(known: &Known) -> TokenRecord {
    let Known { token, hash } = known;
    let grants = GrantsRecord::of(&token.grants);
    let text = |id: &Option<Arc<str>>| id.as_deref().map(str::to_owned);
    TokenRecord {
        id: token.id.to_string(),
        name: token.name.to_string(),
        sha256: to_hex(hash),
        publish: grants.publish,
        subscribe: grants.subscribe,
        change_events: grants.change_events,
        admin: grants.admin,
        created_at_ms: token.created_at.as_millis(),
        revoked_at_ms: token.revoked_at.map(Timestamp::as_millis),
        expires_at_ms: token.expires_at.map(Timestamp::as_millis),
        refresh: token.kind == TokenKind::Refresh,
        user_id: text(&token.user_id),
        client_id: text(&token.client_id),
        refresh_id: text(&token.refresh_id),
    }
}

/// The token of a record; `None` for one whose hash or patterns are not what was written here, and
/// which therefore opens nothing.
fn known(stored: Stored<TokenRecord>) -> Option<Known> {
    let record = stored.record;
    let grants = GrantsRecord {
        publish: record.publish,
        subscribe: record.subscribe,
        change_events: record.change_events,
        admin: record.admin,
    };
    let token = Token {
        id: record.id.into(),
        name: record.name.into(),
        grants: Arc::new(grants.grants()?),
        created_at: Timestamp::from_millis(record.created_at_ms),
        revoked_at: record.revoked_at_ms.map(Timestamp::from_millis),
        expires_at: record.expires_at_ms.map(Timestamp::from_millis),
        kind: if record.refresh {
            TokenKind::Refresh
        } else {
            TokenKind::Access
        },
        user_id: record.user_id.map(Arc::from),
        client_id: record.client_id.map(Arc::from),
        refresh_id: record.refresh_id.map(Arc::from),
    };
    Some(Known {
        token,
        hash: parse_hex(&record.sha256)?,
    })
}

pub(super) fn to_hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn parse_hex(text: &str) -> Option<Hash> {
    if !text.is_ascii() || text.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests;
