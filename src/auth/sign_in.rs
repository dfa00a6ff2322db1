//! Signing in: a secret, a password or an assertion in, an access token out.
//!
//! The answers never say which part of what was shown is wrong. Passwords and secrets are checked in
//! the same time whether there is such a user or client or not. Assertions are not: how long one
//! takes may tell that there is a client of some id, which is random and not secret. `Throttle`
//! bounds how often anything is checked.
//!
//! Source: RFC 6749 and RFC 7523 for what the flows are; the public guide's "OAuth Authorization
//! Flows" for who gets what.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::{
    AuthError, Config,
    accounts::{Account, AccountError, user_id_of_token},
    assertions::Assertions,
    clients::{Client, ClientSecret, Clients},
    jwt::{self, AssertionError},
    password::Busy,
    throttle::{LockedOut, Name, Refused, Throttle},
    token::{AccessToken, NewSession, Token, TokenError, TokenKind, TokenStore, hash},
    users::{Password, User, Users},
};
use crate::{
    clock::{Clock, Timestamp},
    metadata::{MetadataStore, StoreError},
    types::{
        Grants, Principal, TenantId,
        limits::{PASSWORD_BYTES_MAX, USERNAME_CHARS_MAX},
    },
};

/// What a client application signs in with. None of it was checked.
#[derive(Clone, Copy)]
pub struct ClientCredentials<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its secret.
    pub secret: &'a str,
}

/// The secret is one.
impl std::fmt::Debug for ClientCredentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Somebody who signed in.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who it is.
    pub identity: Identity,
    /// What calls are made with.
    pub access_token: AccessToken,
    /// What new access tokens are had for, if one was asked for.
    pub refresh_token: Option<AccessToken>,
    /// When the access token was made.
    pub issued_at: Timestamp,
    /// How long it is good.
    pub lifetime: Duration,
    /// What the answer is signed with, so that the client knows where it comes from: its secret.
    pub signing_key: SigningKey,
}

/// The key of an answer's signature.
#[derive(Clone)]
pub struct SigningKey(String);

impl SigningKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The key is a secret.
impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

/// Who somebody is, as they are told themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The tenant they work for.
    pub tenant: TenantId,
    /// Their id: 18 characters.
    pub user_id: Arc<str>,
    /// Their name.
    pub username: Arc<str>,
}

impl Identity {
    fn of(account: &Account) -> Self {
        Self {
            tenant: account.tenant,
            user_id: Arc::clone(&account.user_id),
            username: Arc::clone(&account.name),
        }
    }
}

/// Why somebody could not sign in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignInError {
    /// No client has this id and secret.
    #[error("invalid client credentials")]
    Client,
    /// No user has this name and password, or the client may not sign in for the user.
    #[error("authentication failure")]
    User,
    /// The refresh token is not one, not any more, or another client's.
    #[error("expired access/refresh token")]
    RefreshToken,
    /// The assertion is not taken.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
    /// The assertion is good, and about nobody the client may sign in for.
    #[error("user hasn't approved this consumer")]
    NotApproved,
    /// Too many attempts have failed.
    #[error("login rate exceeded")]
    LockedOut(LockedOut),
    /// More sign in than can be checked in good time.
    #[error("too many sign in at once; try again")]
    Busy,
    /// It cannot be told for now, or the token cannot be stored.
    #[error("signing in is not possible for now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<LockedOut> for SignInError {
    fn from(error: LockedOut) -> Self {
        Self::LockedOut(error)
    }
}

impl From<Refused> for SignInError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::LockedOut(error) => Self::LockedOut(error),
            Refused::Busy => Self::Busy,
        }
    }
}

impl From<Busy> for SignInError {
    fn from(Busy: Busy) -> Self {
        Self::Busy
    }
}

impl From<TokenError> for SignInError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::RefreshEnded => Self::RefreshToken,
            error => Self::Unavailable(error.into()),
        }
    }
}

/// Everybody who may sign in, and what they need for it.
#[derive(Debug)]
pub struct SignIn {
    config: Config,
    clock: Arc<dyn Clock>,
    tokens: Arc<TokenStore>,
    clients: Clients,
    users: Users,
    throttle: Throttle,
    assertions: Assertions,
}

impl SignIn {
    /// Reads every client and user, and the assertions that were taken.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; a record that cannot be read is named.
    pub async fn open(
        config: Config,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
        tokens: Arc<TokenStore>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            clients: Clients::open(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&tokens))
                .await?,
            users: Users::open(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&tokens)).await?,
            assertions: Assertions::open(store).await?,
            throttle: Throttle::new(&config),
            config,
            clock,
            tokens,
        })
    }

    /// Signs a client application in as itself.
    ///
    /// # Errors
    ///
    /// [`SignInError`]; here as in the other flows.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop there may be a token whose text nobody has, and the attempt counts
    /// as failed once a password is being checked; here as in the other flows.
    pub async fn client_credentials(
        &self,
        source: Option<IpAddr>,
        credentials: ClientCredentials<'_>,
    ) -> Result<Session, SignInError> {
        let client = self.client(source, credentials).await?;
        let key = SigningKey(credentials.secret.to_owned());
        let session = self.begin(&client.account, None, Some(&client), None, key);
        session.await
    }

    /// Signs a user in by their password; for a client application, which then gets a refresh token
    /// too, or for none.
    ///
    /// # Errors
    ///
    /// [`SignInError::Client`] before the password is looked at, [`SignInError::User`] and others.
    pub async fn password(
        &self,
        source: Option<IpAddr>,
        credentials: Option<ClientCredentials<'_>>,
        username: &str,
        password: &str,
    ) -> Result<Session, SignInError> {
        let client = match credentials {
            Some(credentials) => Some(self.client(source, credentials).await?),
            None => None,
        };
        let user = self.user(source, username, password).await?;
        let Some((client, credentials)) = client.as_deref().zip(credentials) else {
            let key = SigningKey(String::new());
            return self
                .begin(&user.account, Some(&user), None, None, key)
                .await;
        };
        if client.account.tenant != user.account.tenant {
            return Err(SignInError::User);
        }
        let (refresh, refresh_token) = self
            .tokens
            .begin(NewSession {
                kind: TokenKind::Refresh,
                lifetime: self.config.refresh_token_lifetime,
                ..new_session(&user.account, Some(&user), Some(client))
            })
            .await?;
        let key = SigningKey(credentials.secret.to_owned());
        let session = self.begin(&user.account, Some(&user), Some(client), Some(refresh), key);
        Ok(Session {
            refresh_token: Some(refresh_token),
            ..session.await?
        })
    }

    /// Makes a new access token for the user of a refresh token, with what they are granted by now.
    ///
    /// # Errors
    ///
    /// [`SignInError::Client`], [`SignInError::RefreshToken`] and others.
    pub async fn refresh(
        &self,
        source: Option<IpAddr>,
        credentials: ClientCredentials<'_>,
        refresh_token: &str,
    ) -> Result<Session, SignInError> {
        let client = self.client(source, credentials).await?;
        let found = self.tokens.refresh_token(refresh_token).await;
        let (_, refresh) = found.map_err(|error| match error {
            AuthError::Unavailable(source) => SignInError::Unavailable(source.into()),
            AuthError::Header(_) | AuthError::Token => SignInError::RefreshToken,
        })?;
        if refresh.client_id != Some(Arc::clone(&client.account.id)) {
            return Err(SignInError::RefreshToken);
        }
        let user = self.users.by_name(&refresh.name);
        let user = user.filter(|user| refresh.user_id.as_ref() == Some(&user.account.id));
        let user = user.ok_or(SignInError::RefreshToken)?;
        let key = SigningKey(credentials.secret.to_owned());
        let session = self.begin(
            &user.account,
            Some(&user),
            Some(&client),
            Some(refresh),
            key,
        );
        session.await
    }

    /// Signs a user in by an assertion that their client application signed. `audiences` are URLs of
    /// this gateway that it may be for.
    ///
    /// # Errors
    ///
    /// [`SignInError::Assertion`], [`SignInError::NotApproved`] and others.
    pub async fn assertion(
        &self,
        source: Option<IpAddr>,
        assertion: &str,
        audiences: &[&str],
    ) -> Result<Session, SignInError> {
        let attempt = self.throttle.attempt(source, None).await?;
        let issuer = jwt::issuer(assertion).ok_or(AssertionError::Invalid)?;
        let client = self.clients.by_id(&issuer);
        let client = client.ok_or(AssertionError::Invalid)?;
        let claims = jwt::verified(assertion, &client.keys)?;
        // Whoever has the key makes no guesses.
        attempt.has_not_failed();
        claims.check_audience(audiences)?;
        self.assertions.take(&claims, self.clock.now()).await?;
        let user = self.users.by_name(&claims.sub);
        let user = user.filter(|user| user.account.tenant == client.account.tenant);
        let user = user.ok_or(SignInError::NotApproved)?;
        // There is no secret in the request: the client knows the hash of its own.
        let key = SigningKey(client.secret_sha256());
        let session = self.begin(&user.account, Some(&user), Some(&client), None, key);
        session.await
    }

    /// Revokes an access or refresh token by its text. Text of no token is none to revoke.
    ///
    /// # Errors
    ///
    /// [`TokenError`]; the token opens nothing in this process, but may in a later one.
    pub async fn revoke(&self, token: &str) -> Result<(), TokenError> {
        self.tokens.revoke_text(token).await
    }

    /// Who a principal is.
    pub fn identity(&self, principal: &Principal) -> Identity {
        let signed_in = &principal.signed_in;
        let user_id = match (&signed_in.user_id, &signed_in.client_id) {
            (Some(user_id), _) => Arc::clone(user_id),
            (None, Some(id)) => {
                let client = self.clients.by_id(id);
                client.map_or_else(
                    || Arc::clone(id),
                    |client| Arc::clone(&client.account.user_id),
                )
            }
            (None, None) => {
                let id = user_id_of_token(&hash(&signed_in.token_id));
                id.as_str().into()
            }
        };
        Identity {
            tenant: principal.tenant,
            user_id,
            username: Arc::clone(&principal.name),
        }
    }

    /// Makes a client application.
    ///
    /// # Errors
    ///
    /// [`AccountError`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop there may be a client whose secret nobody has.
    pub async fn create_client(
        &self,
        tenant: TenantId,
        name: &str,
        grants: Grants,
        certificates: &[String],
    ) -> Result<(Arc<Client>, ClientSecret), AccountError> {
        self.clients
            .create(tenant, name, grants, certificates)
            .await
    }

    /// Every client application of `tenant`, oldest first.
    pub fn clients(&self, tenant: TenantId) -> Vec<Arc<Client>> {
        self.clients.list(tenant)
    }

    /// Deletes a client application; tokens that it signed in for open nothing from then on.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; unless it is [`AccountError::Unknown`] the client may still be there.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the client may be good until the call is made again.
    pub async fn delete_client(&self, tenant: TenantId, id: &str) -> Result<Account, AccountError> {
        let client = self.clients.delete(tenant, id).await?;
        Ok(client.account.clone())
    }

    /// Makes a user.
    ///
    /// # Errors
    ///
    /// [`AccountError`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the user may be there.
    pub async fn create_user(
        &self,
        tenant: TenantId,
        username: &str,
        password: &Password,
        grants: Grants,
    ) -> Result<Account, AccountError> {
        let user = self
            .users
            .create(tenant, username, password, grants)
            .await?;
        Ok(user.account.clone())
    }

    /// Every user of `tenant`, by name.
    pub fn users(&self, tenant: TenantId) -> Vec<Arc<User>> {
        self.users.list(tenant)
    }

    /// Deletes a user; tokens that they signed in for open nothing from then on.
    ///
    /// # Errors
    ///
    /// [`AccountError`]; unless it is [`AccountError::Unknown`] the user may still be there.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop the user may be good until the call is made again.
    pub async fn delete_user(
        &self,
        tenant: TenantId,
        username: &str,
    ) -> Result<Account, AccountError> {
        let user = self.users.delete(tenant, username).await?;
        Ok(user.account.clone())
    }

    /// The client application of these credentials. Failures are counted by address alone: nobody
    /// guesses a secret, and whoever knows a client's id could lock it out.
    async fn client(
        &self,
        source: Option<IpAddr>,
        credentials: ClientCredentials<'_>,
    ) -> Result<Arc<Client>, SignInError> {
        let attempt = self.throttle.attempt(source, None).await?;
        let client = self.clients.verify(credentials.id, credentials.secret);
        let client = client.ok_or(SignInError::Client)?;
        attempt.has_not_failed();
        Ok(client)
    }

    /// The user of this name and password.
    async fn user(
        &self,
        source: Option<IpAddr>,
        username: &str,
        password: &str,
    ) -> Result<Arc<User>, SignInError> {
        // Nobody has such a name or password; a long one would only cost time.
        if username.chars().count() > USERNAME_CHARS_MAX || password.len() > PASSWORD_BYTES_MAX {
            drop(self.throttle.attempt(source, None).await?);
            return Err(SignInError::User);
        }
        let name = match self.users.by_name(username) {
            Some(user) => Name::of_user(&user.account.name),
            None => Name::of_nobody(&username.to_lowercase()),
        };
        // Who is locked out takes nobody's turn.
        self.throttle.check(source, Some(name))?;
        let turn = self.users.turn().await?;
        // Not before its turn: who hangs up while they wait has guessed nothing.
        let attempt = self.throttle.attempt(source, Some(name)).await?;
        let verified = self.users.verify(&turn, username, password).await;
        if !matches!(verified, Ok(None)) {
            attempt.has_not_failed();
        }
        verified?.ok_or(SignInError::User)
    }

    async fn begin(
        &self,
        account: &Account,
        user: Option<&User>,
        client: Option<&Client>,
        refresh: Option<Token>,
        signing_key: SigningKey,
    ) -> Result<Session, SignInError> {
        let lifetime = self.config.token_lifetime;
        let (token, access_token) = self
            .tokens
            .begin(NewSession {
                lifetime,
                refresh_id: refresh.map(|refresh| refresh.id),
                ..new_session(account, user, client)
            })
            .await?;
        Ok(Session {
            identity: Identity::of(account),
            access_token,
            refresh_token: None,
            issued_at: token.created_at,
            lifetime,
            signing_key,
        })
    }
}

fn new_session(account: &Account, user: Option<&User>, client: Option<&Client>) -> NewSession {
    NewSession {
        tenant: account.tenant,
        name: Arc::clone(&account.name),
        grants: account.grants.clone(),
        kind: TokenKind::Access,
        lifetime: Duration::ZERO,
        user_id: user.map(|user| Arc::clone(&user.account.id)),
        client_id: client.map(|client| Arc::clone(&client.account.id)),
        refresh_id: None,
    }
}

#[cfg(test)]
mod tests;
