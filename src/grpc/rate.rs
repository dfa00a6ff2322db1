//! How many requests a stream may send.

use std::time::Duration;

use tokio::time::Instant;

use super::status::{RpcError, kinds};

/// Counts a stream's requests within each second.
pub(super) struct RequestRate {
    per_second_max: u32,
    count: u32,
    since: Instant,
}

impl RequestRate {
    pub(super) fn new(per_second_max: u32) -> Self {
        Self {
            per_second_max,
            count: 0,
            since: Instant::now(),
        }
    }

    /// Counts one request.
    ///
    /// # Errors
    ///
    /// An [`RpcError`] once there were too many within a second.
    pub(super) fn count(&mut self) -> Result<(), RpcError> {
        if self.since.elapsed() >= Duration::from_secs(1) {
            self.since = Instant::now();
            self.count = 0;
        }
        self.count += 1;
        if self.count > self.per_second_max {
            return Err(kinds::STREAM_PROTECTION.error(format!(
                "more than {} requests within a second on one stream",
                self.per_second_max
            )));
        }
        Ok(())
    }
}
