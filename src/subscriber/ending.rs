//! What to do after a stream ended: the one place that tells passing failures from final ones.
//!
//! Source: the public Pub/Sub API Developer Guide, "Handle Errors": error codes and what to do about
//! each; ends without one are told by their gRPC status.

use tonic::Code;

use crate::client::{CallError, ClientError};

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Try again after a short wait, which grows.
    Retry,
    /// Try again after a long wait: a limit is used up, and each try would count.
    WaitLong,
    /// Another stream has the managed subscription: wait until it ends.
    StandBy,
    /// The gateway does not take the credentials: get new ones, once.
    Renew,
    /// The gateway does not take the position: do as the policy says.
    LeavePosition,
    /// Nothing that can be done here would help.
    GiveUp,
}

impl Remedy {
    /// What to do after `error`.
    pub(super) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Call(error) => Self::of_call(error),
            other if other.is_retryable() => Self::Retry,
            _ => Self::GiveUp,
        }
    }

    fn of_call(error: &CallError) -> Self {
        if error.is_connection_lost() {
            return Self::Retry;
        }
        if is_replay_refused(error) {
            return Self::LeavePosition;
        }
        match error.code() {
            Code::Unauthenticated => Self::Renew,
            Code::AlreadyExists => Self::StandBy,
            Code::ResourceExhausted if error.has_error_code("subscription.limit.exceeded") => {
                Self::WaitLong
            }
            // Internal errors are how the hosted service ends streams that it wants resumed, a
            // passed deadline is how streams without credit or commits end, unknown and cancelled
            // are what proxies in between make of their own failures.
            Code::Unavailable
            | Code::Internal
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Unknown
            | Code::Cancelled => Self::Retry,
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss => Self::GiveUp,
        }
    }
}

/// Whether the position is what was refused.
fn is_replay_refused(error: &CallError) -> bool {
    [
        "subscription.fetch.replayid.corrupted",
        "subscription.fetch.replayid.validation.failed",
    ]
    .iter()
    .any(|code| error.has_error_code(code))
}

#[cfg(test)]
mod tests {
    use tonic::{Status, metadata::MetadataMap};

    use super::*;

    fn remedy(code: Code, suffix: &str) -> Remedy {
        let mut trailers = MetadataMap::new();
        let error_code = format!("sfdc.platform.eventbus.grpc.{suffix}");
        trailers.insert("error-code", error_code.parse().unwrap());
        Remedy::of(&Status::with_metadata(code, "refused", trailers).into())
    }

    #[test]
    fn each_error_code_has_its_remedy() {
        use Remedy::{GiveUp, LeavePosition, Renew, Retry, StandBy, WaitLong};
        for (code, suffix, wanted) in [
            (Code::Internal, "service.unavailable", Retry),
            (Code::Unavailable, "service.unavailable", Retry),
            (Code::Unavailable, "subscription.internal.error", Retry),
            (Code::DeadlineExceeded, "subscription.internal.error", Retry),
            (Code::Internal, "subscription.fetch.replay.repeated", Retry),
            (
                Code::ResourceExhausted,
                "service.protection.triggered",
                Retry,
            ),
            (
                Code::ResourceExhausted,
                "subscription.limit.exceeded",
                WaitLong,
            ),
            (
                Code::AlreadyExists,
                "managed.subscription.already.active",
                StandBy,
            ),
            (Code::Unauthenticated, "service.auth.error", Renew),
            (
                Code::InvalidArgument,
                "subscription.fetch.replayid.corrupted",
                LeavePosition,
            ),
            (
                Code::InvalidArgument,
                "subscription.fetch.replayid.validation.failed",
                LeavePosition,
            ),
            (Code::NotFound, "topic.not.found", GiveUp),
            (Code::PermissionDenied, "topic.meta.permission", GiveUp),
            (
                Code::PermissionDenied,
                "subscription.topic.cannot.subscribe",
                GiveUp,
            ),
            (
                Code::FailedPrecondition,
                "managed.subscription.config.stopped",
                GiveUp,
            ),
            (
                Code::NotFound,
                "managed.subscription.config.deleted",
                GiveUp,
            ),
        ] {
            assert_eq!(remedy(code, suffix), wanted, "{suffix}");
        }
    }

    #[test]
    fn a_broken_connection_passes_whatever_its_status() {
        let broken = std::io::Error::other("reset by peer");
        let error = ClientError::from(Status::from_error(Box::new(broken)));
        assert_eq!(Remedy::of(&error), Remedy::Retry);
        let proxy = Status::unknown("a proxy answered 500").into();
        assert_eq!(Remedy::of(&proxy), Remedy::Retry);
    }
}
