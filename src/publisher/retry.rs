//! What a failed call means for the events in it, and whether they are sent again.
//!
//! Pure but for the waits, which are drawn at random: what to do is decided here, and done by
//! whoever made the call.
//!
//! Source: the public Pub/Sub API Developer Guide, "Handle Errors".

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::client::{Backoff, CallError, Connection};

/// What is done with events whose fate is not known, because the connection broke before an answer
/// or the gateway said that it does not know either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resend {
    /// They are sent again under the same ids. Subscribers that pass over ids they have seen handle
    /// each event once; on a gateway that does not pass over them itself, which is the usual, an
    /// event may be stored twice.
    #[default]
    SameId,
    /// They are reported as unconfirmed, and what comes after them is sent.
    Never,
}

/// By these words a gateway of ours tells that a refusal, whose code leaves it open, stored nothing.
const NOTHING_STORED: &str = "nothing was stored";
/// By these words it tells of a call or of a single event that it does not know; see
/// [`durability`](crate::manual::durability).
const MAY_BE_STORED: &str = "may or may not have been stored";

/// Whether an event's error says that the event may be stored all the same.
pub(super) fn is_in_doubt(message: &str) -> bool {
    message.contains(MAY_BE_STORED)
}

/// What the failure of a call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing was sent, or nothing of it was looked at: the stream was idle and ended.
    NotSent,
    /// The oldest request was refused for now.
    Busy,
    /// What was sent may have been stored.
    InDoubt,
    /// The token is not known, or not any more.
    UnknownCaller,
    /// The oldest request was refused for good.
    RequestRefused,
    /// No request of this caller to this topic would be taken.
    CallerRefused,
}

impl Meaning {
    pub(super) fn of(error: &CallError) -> Self {
        if error.is_unsent() || error.has_error_code("publish.stream.sweeper.timeout") {
            return Self::NotSent;
        }
        if error.is_connection_lost() {
            return Self::InDoubt;
        }
        match error.code() {
            Code::ResourceExhausted => Self::Busy,
            Code::Unavailable if error.to_string().contains(NOTHING_STORED) => Self::Busy,
            // Without the topic or its schema no gateway gets as far as storing an event.
            Code::Unavailable
                if error.has_error_code("topic.api.unavailable")
                    || error.has_error_code("schema.api.unavailable") =>
            {
                Self::Busy
            }
            Code::Unauthenticated => Self::UnknownCaller,
            Code::PermissionDenied | Code::NotFound | Code::Unimplemented => Self::CallerRefused,
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::OutOfRange => Self::RequestRefused,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::InDoubt,
        }
    }
}

/// How long and how often it is tried again.
#[derive(Debug)]
pub(super) struct Retry {
    patience: Duration,
    backoff: Backoff,
    /// Since when nothing was answered.
    failing_since: Option<Instant>,
    has_renewed: bool,
}

impl Retry {
    pub(super) fn new(patience: Duration, backoff: Backoff) -> Self {
        Self {
            patience,
            backoff,
            failing_since: None,
            has_renewed: false,
        }
    }

    /// Notes that something was answered.
    pub(super) fn answered(&mut self) {
        if self.failing_since.take().is_some() {
            self.backoff.reset();
        }
        self.has_renewed = false;
    }

    /// How long to wait before the next try; `None` once it was tried for long enough.
    pub(super) fn next_wait(&mut self) -> Option<Duration> {
        // Whatever failed, it was not the last token that was refused.
        self.has_renewed = false;
        let now = Instant::now();
        let since = *self.failing_since.get_or_insert(now);
        let wait = self.backoff.endless_wait();
        (now + wait <= since + self.patience).then_some(wait)
    }

    /// Gets another token than that of `generation`, which is not taken: unless it is one that was just
    /// got. Returns how long to wait before the next try; `None` if no token helps.
    pub(super) async fn renew(
        &mut self,
        connection: &Connection,
        generation: u64,
    ) -> Option<Duration> {
        if self.has_renewed {
            return None;
        }
        match connection.renew_credentials(generation).await {
            Ok(()) => {
                self.has_renewed = true;
                Some(Duration::ZERO)
            }
            // A login host may be away too.
            Err(error) if error.is_retryable() => self.next_wait(),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Status, metadata::MetadataMap};

    use super::*;

    fn meaning(code: Code, suffix: &str) -> Meaning {
        let mut trailers = MetadataMap::new();
        let error_code = format!("sfdc.platform.eventbus.grpc.{suffix}");
        trailers.insert("error-code", error_code.parse().unwrap());
        Meaning::of(&Status::with_metadata(code, "no", trailers).into())
    }

    #[test]
    fn only_what_cannot_have_been_stored_is_told_so() {
        for (code, suffix, expected) in [
            (
                Code::ResourceExhausted,
                "service.protection.triggered",
                Meaning::Busy,
            ),
            (Code::Unavailable, "topic.api.unavailable", Meaning::Busy),
            (Code::Unavailable, "service.unavailable", Meaning::InDoubt),
            (Code::Internal, "service.unavailable", Meaning::InDoubt),
            (
                Code::DeadlineExceeded,
                "publish.stream.sweeper.timeout",
                Meaning::NotSent,
            ),
            (Code::DeadlineExceeded, "other", Meaning::InDoubt),
            (
                Code::InvalidArgument,
                "publish.event.count.invalid",
                Meaning::RequestRefused,
            ),
            (
                Code::PermissionDenied,
                "topic.meta.permission",
                Meaning::CallerRefused,
            ),
            (Code::NotFound, "topic.not.found", Meaning::CallerRefused),
            (
                Code::Unauthenticated,
                "service.auth.error",
                Meaning::UnknownCaller,
            ),
        ] {
            assert_eq!(meaning(code, suffix), expected, "{suffix}");
        }
        let full = Status::unavailable("the disk is full; nothing was stored");
        assert_eq!(Meaning::of(&full.into()), Meaning::Busy);
        let lost = CallError::connection_lost("reset");
        assert_eq!(Meaning::of(&lost), Meaning::InDoubt);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_is_counted_from_the_last_answer() {
        let mut retry = Retry::new(Duration::from_secs(30), Backoff::default());
        let mut waited = Duration::ZERO;
        while let Some(wait) = retry.next_wait() {
            tokio::time::advance(wait).await;
            waited += wait;
        }
        assert!(waited > Duration::from_secs(10) && waited <= Duration::from_secs(30));
        retry.answered();
        assert!(retry.next_wait().is_some());
    }
}
