//! Tokens that signing in made: whose they are, how many there may be, and when they go.

use std::{sync::Arc, time::Duration};

use super::{
    AccessToken, Known, NO_PANIC, Token, TokenError, TokenKind, TokenStore, hash, new_id, record,
    unavailable,
};
use crate::{
    auth::AuthError,
    metadata::{
        Change, Expected, Scope, StoreError,
        records::{self, TokenRecord},
    },
    types::{Grants, TenantId},
};

/// A token to be made for somebody who signed in.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose events it is about.
    pub tenant: TenantId,
    /// What its holder is called.
    pub name: Arc<str>,
    /// What its holder may do.
    pub grants: Grants,
    /// What it is good for.
    pub kind: TokenKind,
    /// For how long.
    pub lifetime: Duration,
    /// Id of the user who signed in, if one did.
    pub user_id: Option<Arc<str>>,
    /// Id of the client application that signed in, if one did.
    pub client_id: Option<Arc<str>>,
    /// Id of the refresh token that it goes with, if there is one.
    pub refresh_id: Option<Arc<str>>,
}

impl TokenStore {
    /// Makes a token for somebody who signed in. Older ones of theirs give way to it, which ends their
    /// streams as a revocation does.
    ///
    /// # Errors
    ///
    /// [`TokenError::RefreshEnded`], [`TokenError::DiskFull`] and [`TokenError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop there may be a token whose text nobody has, until it expires.
    pub async fn begin(&self, new: NewSession) -> Result<(Token, AccessToken), TokenError> {
        let text =
            AccessToken::random(new.tenant).map_err(|error| TokenError::Store(error.into()))?;
        let now = self.clock.now();
        let token = Token {
            id: new_id(),
            name: new.name,
            grants: Arc::new(new.grants),
            created_at: now,
            revoked_at: None,
            expires_at: Some(now.saturating_add(new.lifetime)),
            kind: new.kind,
            user_id: new.user_id,
            client_id: new.client_id,
            refresh_id: new.refresh_id,
        };
        let known = Known {
            token: token.clone(),
            hash: hash(&text.0),
        };
        let change = records::change(&record(&known), Expected::Absent);
        let slot = self.slot(new.tenant).await?;
        let scope = Scope::Tenant(new.tenant);
        self.store.write(scope, vec![change]).await?;
        let gave_way = slot.write().insert_of_sign_in(known);
        let Some(gave_way) = gave_way else {
            self.remove_stored(new.tenant, vec![token.id]).await;
            return Err(TokenError::RefreshEnded);
        };
        self.loaded.touch(&slot);
        if !gave_way.is_empty() {
            self.generation.send_modify(|generation| *generation += 1);
        }
        self.remove_stored(new.tenant, gave_way).await;
        Ok((token, text))
    }

    /// The refresh token of this text.
    ///
    /// # Errors
    ///
    /// [`AuthError::Token`] if there is none that is good.
    pub async fn refresh_token(&self, text: &str) -> Result<(TenantId, Token), AuthError> {
        self.live(text, TokenKind::Refresh).await
    }

    /// Revokes the token of this text, as [`TokenStore::revoke`] does. Text of no token is none to revoke.
    ///
    /// # Errors
    ///
    /// [`TokenError::DiskFull`] and [`TokenError::Store`], as of [`TokenStore::revoke`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe, as [`TokenStore::revoke`].
    pub async fn revoke_text(&self, text: &str) -> Result<(), TokenError> {
        let found = self.find(text).await;
        let found = found.map_err(|error| TokenError::Store(error.into()))?;
        let Some((tenant, _, token)) = found else {
            return Ok(());
        };
        match self.revoke(tenant, &token.id).await {
            // Expired and removed meanwhile.
            Ok(_) | Err(TokenError::Unknown) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Notes that there is a user or client with this id, whose tokens are good from now on.
    pub(in crate::auth) fn add_owner(&self, id: &str) {
        self.owners.write().expect(NO_PANIC).insert(id.into());
    }

    /// Takes back that there is one with this id, whom nobody has heard of yet.
    pub(in crate::auth) fn take_back_owner(&self, id: &str) {
        self.owners.write().expect(NO_PANIC).remove(id);
    }

    /// Notes that a user or client was deleted: their tokens open nothing from now on.
    pub(in crate::auth) async fn remove_owner(&self, tenant: TenantId, id: &str) {
        self.owners.write().expect(NO_PANIC).remove(id);
        self.generation.send_modify(|generation| *generation += 1);
        // What is left of them only takes space.
        match self.slot(tenant).await {
            Ok(slot) => {
                let ids = slot.write().take(|token| {
                    let owners = [&token.user_id, &token.client_id];
                    owners.into_iter().flatten().any(|owner| **owner == *id)
                });
                self.remove_stored(tenant, ids).await;
            }
            Err(error) => tracing::warn!(%error, "tokens of a deleted user or client are kept"),
        }
    }

    /// Removes tokens that expired or were revoked a while ago. To be called now and then.
    pub async fn remove_ended(&self) {
        let now = self.clock.now();
        for (tenant, slot) in self.loaded.all() {
            let ids = slot.write().take_ended(now);
            self.remove_stored(tenant, ids).await;
        }
    }

    /// Removes tokens from the store that are in memory no more. What fails is found and removed
    /// again when they are read anew.
    async fn remove_stored(&self, tenant: TenantId, ids: Vec<Arc<str>>) {
        for ids in ids.chunks(REMOVED_AT_ONCE) {
            let removed = async {
                let changes = self.removals(tenant, ids).await?;
                if changes.is_empty() {
                    return Ok(());
                }
                self.store.write(Scope::Tenant(tenant), changes).await
            };
            if let Err(error) = removed.await {
                tracing::warn!(%error, "tokens that are not used any more cannot be removed");
            }
        }
    }

    async fn removals(
        &self,
        tenant: TenantId,
        ids: &[Arc<str>],
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for id in ids {
            let scope = Scope::Tenant(tenant);
            let stored = records::load::<TokenRecord>(&*self.store, scope, id).await?;
            changes
                .extend(stored.map(|stored| records::removal::<TokenRecord>(id, stored.revision)));
        }
        Ok(changes)
    }

    /// The token of an access token's id, as far as it is still known.
    ///
    /// # Errors
    ///
    /// [`AuthError::Unavailable`].
    pub async fn token(&self, tenant: TenantId, id: &str) -> Result<Option<Token>, AuthError> {
        let slot = self.slot(tenant).await.map_err(unavailable)?;
        let token = slot.read().by_id(id).cloned();
        Ok(token)
    }
}

/// Tokens removed in one write. One write takes one sync; many would hold others up.
const REMOVED_AT_ONCE: usize = 100;
