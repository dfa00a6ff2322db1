//! Whether the caller of a stream may go on with it.
//!
//! A call is checked when it begins. A stream may live for days after that: its token may be revoked
//! meanwhile, or whoever signed in for it deleted. An expired token is no reason to end a stream, as
//! it is none at the hosted service while there is traffic.
//!
//! Source: the public Pub/Sub API Developer Guide, "General Considerations".

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{AuthError, Authenticator};
use crate::types::Principal;

/// Watches over one stream's caller.
pub struct Vigil {
    authenticator: Arc<dyn Authenticator>,
    revocations: watch::Receiver<u64>,
    /// The number of revocations after which the caller was found good.
    good_at: u64,
    /// The look that is under way, and the number of revocations it is about. It is kept, since the
    /// stream has other things to wait for and would begin it anew after each of them.
    look: Option<(u64, BoxFuture<'static, bool>)>,
}

impl fmt::Debug for Vigil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vigil")
            .field("good_at", &self.good_at)
            .field("looking_at", &self.look.as_ref().map(|(number, _)| number))
            .finish_non_exhaustive()
    }
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
            look: None,
        }
    }

    /// Waits until `principal` may not go on any more, and says why. It is one and the same in every
    /// call.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call goes on with the look that this one began.
    pub async fn revoked(&mut self, principal: &Principal) -> AuthError {
        loop {
            let (number, look) = match &mut self.look {
                Some(look) => look,
                none => {
                    let changed = self.revocations.wait_for(|number| *number != self.good_at);
                    let Ok(number) = changed.await.map(|number| *number) else {
                        // Nobody can revoke anything any more.
                        return std::future::pending().await;
                    };
                    let look = is_good(Arc::clone(&self.authenticator), principal.clone());
                    none.insert((number, Box::pin(look)))
                }
            };
            let (number, is_good) = (*number, look.await);
            self.look = None;
            if !is_good {
                return AuthError::Token;
            }
            self.good_at = number;
        }
    }
}

/// Whether a caller is good. What cannot be told for now is asked again: a stream is not ended for that.
async fn is_good(authenticator: Arc<dyn Authenticator>, principal: Principal) -> bool {
    loop {
        match authenticator.is_good(&principal).await {
            Ok(is_good) => return is_good,
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

/// How long after it could not be told whether a caller is good it is asked again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
