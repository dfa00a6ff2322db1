//! Client applications: a name, a secret of which only a hash is kept, and keys for assertions.
//!
//! All of them are in memory, since a sign-in does not say which tenant it is for and anybody may ask
//! for one. A secret has 480 random bits, so a fast hash is right, as it is for tokens.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, RwLock},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use subtle::ConstantTimeEq;

use super::{
    accounts::{Account, AccountError, is_name, new_user_id},
    jwt::{self, PublicKey},
    token::{Hash, TokenStore, hash, parse_hex, to_hex},
};
use crate::{
    clock::{Clock, Timestamp},
    metadata::{
        Expected, MetadataStore, Scope, StoreError,
        records::{self, ClientRecord, GrantsRecord},
    },
    types::{
        Grants, TenantId,
        limits::{ACCOUNTS_MAX, CERTIFICATE_BYTES_MAX, CLIENT_CERTIFICATES_MAX},
    },
};

/// Random bytes of a secret.
const SECRET_BYTES: usize = 60;

/// The secret of a client application.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret(String);

impl ClientSecret {
    fn random() -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(secret)))
    }

    /// The text itself, to be handed to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The text is a secret.
impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(***)")
    }
}

/// A client application.
#[derive(Clone)]
pub struct Client {
    /// What others may know of it.
    pub account: Account,
    /// What its assertions are checked with.
    pub keys: Vec<PublicKey>,
    secret: Hash,
}

/// The hash is nobody's business.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("account", &self.account)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// SHA-256 of its secret, in hex.
    pub(super) fn secret_sha256(&self) -> String {
        to_hex(&self.secret)
    }
}

/// The client applications of every tenant.
#[derive(Debug)]
pub struct Clients {
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    /// Told who there is: tokens are good as long as those whom they were made for exist.
    tokens: Arc<TokenStore>,
    by_id: RwLock<HashMap<Arc<str>, Arc<Client>>>,
}

impl Clients {
    /// Reads every client.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a record that cannot be read is named.
    pub async fn open(
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
        tokens: Arc<TokenStore>,
    ) -> Result<Self, StoreError> {
        let stored = records::list::<ClientRecord>(&*store, Scope::Server).await?;
        // One that was not written here opens nothing.
        let clients = stored
            .into_iter()
            .filter_map(|stored| client(stored.record))
            .map(|client| (Arc::clone(&client.account.id), Arc::new(client)));
        Ok(Self {
            by_id: RwLock::new(clients.collect()),
            store,
            clock,
            tokens,
        })
    }

    /// Makes a client. Its secret is returned here and kept nowhere.
    ///
    /// # Errors
    ///
    /// [`AccountError`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop there may be a client whose secret nobody has.
    pub async fn create(
        &self,
        tenant: TenantId,
        name: &str,
        grants: Grants,
        certificates: &[String],
    ) -> Result<(Arc<Client>, ClientSecret), AccountError> {
        let name = name.trim();
        if !is_name(name) {
            return Err(AccountError::Name);
        }
        let fit = |certificate: &String| certificate.len() <= CERTIFICATE_BYTES_MAX;
        if certificates.len() > CLIENT_CERTIFICATES_MAX || !certificates.iter().all(fit) {
            return Err(AccountError::Certificates);
        }
        let keys = certificates.iter().map(|pem| jwt::public_key(pem));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let randomness = |error: getrandom::Error| AccountError::Store(error.into());
        let secret = ClientSecret::random().map_err(randomness)?;
        let client = Arc::new(Client {
            account: Account {
                id: uuid::Uuid::new_v4().simple().to_string().into(),
                user_id: new_user_id().map_err(randomness)?.as_str().into(),
                name: name.into(),
                tenant,
                grants,
                created_at: self.clock.now(),
            },
            keys,
            secret: hash(&secret.0),
        });
        let id = &client.account.id;
        // Known before it is stored, so that calls at one moment cannot pass the bound together.
        // It opens nothing yet: its secret is still in here.
        {
            let mut by_id = self.by_id.write().expect(NO_PANIC);
            if by_id.len() >= ACCOUNTS_MAX {
                return Err(AccountError::TooMany);
            }
            by_id.insert(Arc::clone(id), Arc::clone(&client));
            self.tokens.add_owner(id);
        }
        let change = records::change(&record(&client), Expected::Absent);
        if let Err(error) = self.store.write(Scope::Server, vec![change]).await {
            self.by_id.write().expect(NO_PANIC).remove(id);
            self.tokens.take_back_owner(id);
            return Err(error.into());
        }
        Ok((client, secret))
    }

    /// Every client of `tenant`, oldest first.
    pub fn list(&self, tenant: TenantId) -> Vec<Arc<Client>> {
        let by_id = self.by_id.read().expect(NO_PANIC);
        let of_tenant = by_id
            .values()
            .filter(|client| client.account.tenant == tenant);
        let mut list: Vec<_> = of_tenant.cloned().collect();
        let key = |client: &Client| (client.account.created_at, Arc::clone(&client.account.id));
        list.sort_by_key(|client| key(client));
        list
    }

    /// Deletes a client of `tenant`; its tokens open nothing from then on.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; unless it is [`AccountError::Unknown`] the client may still be there.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the client may be good until the call is made again.
    pub async fn delete(&self, tenant: TenantId, id: &str) -> Result<Arc<Client>, AccountError> {
        let client = self
            .by_id(id)
            .filter(|client| client.account.tenant == tenant)
            .ok_or(AccountError::Unknown)?;
        let stored = records::load::<ClientRecord>(&*self.store, Scope::Server, id).await?;
        // One that is not there was deleted by a call that was dropped.
        if let Some(stored) = stored {
            let change = records::removal::<ClientRecord>(id, stored.revision);
            self.store.write(Scope::Server, vec![change]).await?;
        }
        self.by_id.write().expect(NO_PANIC).remove(id);
        self.tokens.remove_owner(tenant, id).await;
        Ok(client)
    }

    /// The client of this id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Client>> {
        self.by_id.read().expect(NO_PANIC).get(id).cloned()
    }

    /// The client of this id and secret.
    pub fn verify(&self, id: &str, secret: &str) -> Option<Arc<Client>> {
        let client = self.by_id(id);
        // A client that is not there is compared with too.
        let known = client.as_ref().map_or([0; 32], |client| client.secret);
        let is_same = bool::from(known.ct_eq(&hash(secret)));
        client.filter(|_| is_same)
    }
}

fn record(client: &Client) -> ClientRecord {
    let Account {
        id,
        user_id,
        name,
        tenant,
        grants,
        created_at,
    } = &client.account;
    let keys = client.keys.iter().map(|key| STANDARD.encode(key.as_der()));
    ClientRecord {
        id: id.to_string(),
        user_id: user_id.to_string(),
        name: name.to_string(),
        tenant_id: tenant.to_string(),
        secret_sha256: to_hex(&client.secret),
        keys: keys.collect(),
        grants: GrantsRecord::of(grants),
        created_at_ms: created_at.as_millis(),
    }
}

fn client(record: ClientRecord) -> Option<Client> {
    let key = |text: &String| PublicKey::from_der(STANDARD.decode(text).ok()?).ok();
    Some(Client {
        keys: record.keys.iter().map(key).collect::<Option<_>>()?,
        secret: parse_hex(&record.secret_sha256)?,
        account: Account {
            id: record.id.into(),
            user_id: record.user_id.into(),
            name: record.name.into(),
            tenant: record.tenant_id.parse().ok()?,
            grants: record.grants.grants()?,
            created_at: Timestamp::from_millis(record.created_at_ms),
        },
    })
}

const NO_PANIC: &str = "no holder of this lock panics";
