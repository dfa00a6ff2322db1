//! Tenants that nobody uses: what is open for them is closed, what is kept for them forgotten.
//!
//! The broker closes engines, the sign-in forgets tokens and the store closes files, each by its own
//! account of what was used. This only asks them to, now and then.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    auth::token::TokenStore,
    broker::Broker,
    metadata::MetadataStore,
    net::shutdown::ShutdownSignal,
    types::limits::{SCHEMA_USES_FLUSH_INTERVAL, TENANT_LOOK_INTERVAL},
};

/// Where tenants are kept open.
pub(super) struct Keepers {
    pub(super) broker: Broker,
    pub(super) tokens: Arc<TokenStore>,
    pub(super) store: Arc<dyn MetadataStore>,
}

impl Keepers {
    /// Lets go of tenants that were not used for `idle`, until it is time to stop.
    pub(super) async fn let_go(self, idle: Duration, mut signal: ShutdownSignal) {
        // A quarter of the time later at most: a look goes through what is open and no further.
        let interval = TENANT_LOOK_INTERVAL.min(idle / 4);
        let mut flushed_at = Instant::now();
        loop {
            tokio::select! {
                () = signal.recv() => return,
                () = tokio::time::sleep(interval) => {}
            }
            if flushed_at.elapsed() >= SCHEMA_USES_FLUSH_INTERVAL {
                self.broker.flush_schema_uses().await;
                flushed_at = Instant::now();
            }
            self.broker.close_quiet().await;
            self.broker.measure_lag().await;
            // First what ended: of those that are forgotten nothing is removed.
            self.tokens.remove_ended().await;
            self.tokens.forget_quiet(idle);
            self.store.close_quiet(idle).await;
        }
    }
}
