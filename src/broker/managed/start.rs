//! Where a stream of a managed subscription begins, and where it goes on when its position is no
//! longer valid.

use super::{Entry, ManagedConfig};
use crate::{
    event_log::{PositionError, TenantLog},
    types::{Position, Replay, Start, TopicId},
};

/// Where a stream begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    /// It is sent the events after this.
    pub(super) position: Position,
    /// Why that is not the committed position, where that is no longer valid.
    pub(super) invalid: Option<PositionError>,
}

/// Where a stream of `entry` would begin now: behind the committed position; without one at the
/// default replay; where the position is no longer valid, at the error recovery replay. Damage is
/// found by reading, not here.
///
/// # Errors
///
/// [`PositionError::TopicDeleted`]; a stream begins nowhere then.
pub(super) fn start_of(
    entry: &Entry,
    config: &ManagedConfig,
    log: &dyn TenantLog,
    topics: &[TopicId],
) -> Result<Beginning, PositionError> {
    let start = match entry.goes_on_after() {
        Some(position) => Start::After(position),
        None => config.default_replay.start(),
    };
    let resolved = match entry.lost() {
        Some(error) => Err(error),
        None => log.resolve(topics, start),
    };
    match resolved {
        Ok(position) => Ok(Beginning {
            position,
            invalid: None,
        }),
        Err(error) => Ok(Beginning {
            position: recovery_of(error, config, log, topics)?,
            invalid: Some(error),
        }),
    }
}

/// Where a subscription goes on whose position is not valid, for the reason `error`.
///
/// # Errors
///
/// [`PositionError::TopicDeleted`]; it goes on nowhere then.
pub(super) fn recovery_of(
    error: PositionError,
    config: &ManagedConfig,
    log: &dyn TenantLog,
    topics: &[TopicId],
) -> Result<Position, PositionError> {
    match (config.error_recovery_replay, error) {
        (_, PositionError::TopicDeleted) => Err(error),
        (Replay::Latest, _) => Ok(log.state().head),
        // From the earliest on it would get again what it got before the loss.
        (
            Replay::Earliest,
            PositionError::Damaged { valid_from, .. } | PositionError::Lost { valid_from, .. },
        ) => Ok(valid_from),
        (Replay::Earliest, PositionError::Purged { .. } | PositionError::Ahead { .. }) => {
            log.resolve(topics, Start::Earliest)
        }
    }
}
