//! Delivery credit: how many more events one subscription may be sent.
//!
//! Every `num_requested` adds credit, every delivered event spends one, and what is left is
//! reported as `pending_num_requested`. No I/O and no clock here: the rules test as arithmetic.
//!
//! Source: `proto/pubsub_api.proto`, `rpc Subscribe` and `message FetchRequest`; the public Pub/Sub
//! API Developer Guide, "Pull Subscription and Flow Control".

/// Events one subscription may still be sent: at most its ceiling.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    pending: u32,
    ceiling: u32,
}

/// Why a request for events was refused. The credit already held is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// Fewer than one event was asked for; holds the wire value.
    #[error("requested {0} events, need at least 1")]
    NotPositive(i32),
}

impl Credit {
    /// No credit yet, and never more than `ceiling` events of it.
    pub fn with_ceiling(ceiling: u32) -> Self {
        Self {
            pending: 0,
            ceiling,
        }
    }

    /// Adds `requested` events to the credit and returns the new total, in events.
    ///
    /// What passes the ceiling is dropped, not refused: existing clients pile requests up.
    ///
    /// # Errors
    ///
    /// [`GrantError::NotPositive`] below 1; the credit is untouched and the caller ends the stream.
    pub fn grant(&mut self, requested: i32) -> Result<u32, GrantError> {
        let Some(count) = u32::try_from(requested).ok().filter(|&count| count > 0) else {
            return Err(GrantError::NotPositive(requested));
        };
        self.pending = self.pending.saturating_add(count).min(self.ceiling);
        Ok(self.pending)
    }

    /// Takes `events` off the credit because they are being delivered.
    ///
    /// # Panics
    ///
    /// If there is less: delivering more than was asked for would break every client's count.
    pub fn spend(&mut self, events: u32) {
        self.pending = self
            .pending
            .checked_sub(events)
            .expect("no more is delivered than asked for");
    }

    /// Events that may still be sent.
    pub fn pending(&self) -> u32 {
        self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_add_up_to_the_ceiling_and_no_further() {
        let mut credit = Credit::with_ceiling(100);
        assert_eq!(credit.grant(60), Ok(60));
        assert_eq!(credit.grant(60), Ok(100));
        credit.spend(30);
        assert_eq!(credit.pending(), 70);
        assert_eq!(credit.grant(i32::MAX), Ok(100));
    }

    #[test]
    fn refused_grant_leaves_credit_untouched() {
        let mut credit = Credit::with_ceiling(100);
        credit.grant(5).unwrap();
        for requested in [0, -1, i32::MIN] {
            assert_eq!(
                credit.grant(requested),
                Err(GrantError::NotPositive(requested))
            );
        }
        assert_eq!(credit.pending(), 5);
    }
}
