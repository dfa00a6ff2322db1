//! Whether the caller of a stream may go on with it.
//!
//! A call is checked when it begins. A stream may live for days after that: its token may be revoked
//! meanwhile, or whoever signed in for it deleted. An expired token is no reason to end a stream, as
//! it is none at the hosted service while there is traffic.
//!
//! Source: the public Pub/Sub API Developer Guide, "General Considerations".

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{AuthError, Authenticator};
use crate::types::Principal;

/// Watches over one stream's caller.
#[derive(Debug)]
pub struct Vigil {
    authenticator: Arc<dyn Authenticator>,
    revocations: watch::Receiver<u64>,
    /// The number of revocations after which the caller was found good.
    good_at: u64,
}

impl Vigil {
    /// To be made before the caller is authenticated: what is revoked after that is noticed.
    pub fn new(authenticator: Arc<dyn Authenticator>) -> Self {
        let revocations = authenticator.revocations();
        let good_at = *revocations.borrow();
        Self {
            authenticator,
            revocations,
            good_at,
        }
    }

    /// Waits until `principal` may not go on any more, and says why.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a revocation that was not looked into is seen by the next call.
    pub async fn revoked(&mut self, principal: &Principal) -> AuthError {
        loop {
            let changed = self.revocations.wait_for(|number| *number != self.good_at);
            let Ok(number) = changed.await.map(|number| *number) else {
                // Nobody can revoke anything any more.
                return std::future::pending().await;
            };
            match self.authenticator.is_good(principal).await {
                Ok(true) => self.good_at = number,
                Ok(false) => return AuthError::Token,
                // What cannot be told for now is asked again: a stream is not ended for that.
                Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
            }
        }
    }
}

/// How long after it could not be told whether a caller is good it is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
