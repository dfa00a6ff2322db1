//! The one place where errors become answers of this edge.
//!
//! A failed request is answered as the platform's REST API does: an HTTP status and an array of one
//! object with `message` and `errorCode`, and `fields` where one is to blame. What a client is not
//! told is logged here, once.
//!
//! Source: the public REST API Developer Guide, "Status Codes and Error Responses"; the public
//! Platform Events Developer Guide, "Platform Event Error Status Codes". Codes that these do not have
//! are for what the hosted service does not tell.

use std::{error::Error, fmt};

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{self, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{answer, caller::session_invalid};
use crate::{
    auth::AuthError,
    broker::{EventRefusal, PublishError, SubscribeError, SubscriptionEnd, TimeError, TopicError},
    event_log::{AppendError, PositionError},
    filter::FilterError,
    schema::JsonError,
    types::{EventError, Position, limits::RETRY_AFTER},
};

/// The platform's words for a path, or an event, that does not exist.
pub(super) const NO_RESOURCE: &str = "The requested resource does not exist";
/// The field that names an event's id.
pub(super) const EVENT_UUID: &str = "EventUuid";

/// An error code and the status it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
}

/// Every pair of status and error code that this edge answers with.
pub(super) mod kinds {
    use axum::http::StatusCode;

    use super::Kind;

    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident = $status:ident, $code:literal;)*) => {
            $($(#[$doc])* pub(in crate::http) const $name: Kind = Kind {
                status: StatusCode::$status,
                code: $code,
            };)*
            /// All of them, for tables.
            #[cfg(test)]
            pub(in crate::http) const ALL: &[Kind] = &[$($name),*];
        };
    }

    kinds! {
        /// No token, or one that is not good.
        INVALID_SESSION = UNAUTHORIZED, "INVALID_SESSION_ID";
        /// No right to the event.
        NO_ACCESS = FORBIDDEN, "INSUFFICIENT_ACCESS_OR_READONLY";
        /// No such path or event.
        NOT_FOUND = NOT_FOUND, "NOT_FOUND";
        /// Another method than the path has.
        METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED";
        /// A body that is not JSON by its headers.
        UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE";
        /// A body or an event that is too large.
        TOO_LARGE = PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE";
        /// A body that took too long.
        TIMEOUT = REQUEST_TIMEOUT, "REQUEST_TIMEOUT";
        /// Not JSON, or a value of another type than its field has.
        JSON_PARSER = BAD_REQUEST, "JSON_PARSER_ERROR";
        /// A field that the event does not have.
        INVALID_FIELD = BAD_REQUEST, "INVALID_FIELD";
        /// A field without a value that has to have one.
        FIELD_MISSING = BAD_REQUEST, "REQUIRED_FIELD_MISSING";
        /// A query that is none.
        MALFORMED_QUERY = BAD_REQUEST, "MALFORMED_QUERY";
        /// A query for something that there is not.
        INVALID_TYPE = BAD_REQUEST, "INVALID_TYPE";
        /// A request that makes no sense.
        INVALID_INPUT = BAD_REQUEST, "INVALID_INPUT";
        /// More subrequests in one request than there may be.
        LIMIT_EXCEEDED = BAD_REQUEST, "LIMIT_EXCEEDED";
        /// More records in one request than there may be.
        TOO_MANY_RECORDS = BAD_REQUEST, "EXCEEDED_ID_LIMIT";
        /// A good subrequest whose composite request is all or none.
        HALTED = BAD_REQUEST, "PROCESSING_HALTED";
        /// A good record whose collection is all or none.
        ROLLED_BACK = BAD_REQUEST, "ALL_OR_NONE_OPERATION_ROLLED_BACK";
        /// The event was not stored; the same request may succeed later.
        PUBLISHING_UNAVAILABLE = SERVICE_UNAVAILABLE, "PLATFORM_EVENT_PUBLISHING_UNAVAILABLE";
        /// Nothing can be answered for now; the same request may succeed later.
        UNAVAILABLE = SERVICE_UNAVAILABLE, "SERVER_UNAVAILABLE";
        /// Nobody knows whether the event was stored.
        INDETERMINATE = INTERNAL_SERVER_ERROR, "PUBLISH_INDETERMINATE";
        /// A replay id that never was one.
        INVALID_REPLAY_ID = BAD_REQUEST, "INVALID_REPLAY_ID";
        /// A replay id after which events are missing.
        REPLAY_ID_EXPIRED = GONE, "REPLAY_ID_EXPIRED";
        /// A subscription cannot go on.
        SUBSCRIPTION_FAILED = INTERNAL_SERVER_ERROR, "SUBSCRIPTION_FAILED";
    }
}

impl Kind {
    /// An error of this kind, explained to the client by `message`.
    pub(super) fn error(self, message: impl Into<String>) -> ApiError {
        ApiError {
            kind: self,
            message: message.into(),
            fields: Vec::new(),
            oldest_valid: None,
            source: None,
        }
    }
}

/// Why a request, or one event of it, was refused.
#[derive(Debug)]
pub(super) struct ApiError {
    kind: Kind,
    message: String,
    fields: Vec<String>,
    /// Where a subscription that cannot begin or go on may start instead.
    oldest_valid: Option<Position>,
    /// For the log, not for the client.
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// An error as its JSON has it.
#[derive(Serialize)]
pub(super) struct ErrorBody<'a> {
    message: &'a str,
    #[serde(rename = "errorCode")]
    code: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    fields: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_valid_replay_id: Option<String>,
}

impl ApiError {
    /// The same error, about one field.
    pub(super) fn about(mut self, field: impl Into<String>) -> Self {
        self.fields = vec![field.into()];
        self
    }

    /// The same error with its cause, which is logged.
    pub(super) fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The same error, with the position that a subscription may start after.
    pub(super) fn or_after(mut self, oldest_valid: Option<Position>) -> Self {
        self.oldest_valid = self.oldest_valid.or(oldest_valid);
        self
    }

    /// Why the event with the id `id`, of the type `name`, was refused.
    pub(super) fn of_refusal(refusal: &EventRefusal, name: &str, id: &str) -> Self {
        let sentence = refusal.to_string();
        match refusal {
            EventRefusal::Json(error) => Self::of_json(error, name),
            EventRefusal::Event(EventError::TooLarge(_)) => kinds::TOO_LARGE.error(sentence),
            EventRefusal::Event(EventError::IdTooLong(_)) => {
                kinds::INVALID_FIELD.error(sentence).about(EVENT_UUID)
            }
            EventRefusal::Event(_) => kinds::INVALID_INPUT.error(sentence),
            EventRefusal::Payload(error) => kinds::JSON_PARSER.error(sentence).about(error.path()),
            EventRefusal::NotStored(AppendError::Refused(_)) => {
                kinds::PUBLISHING_UNAVAILABLE.error(sentence)
            }
            EventRefusal::NotStored(AppendError::Unconfirmed(_)) => {
                indeterminate(id).because(refusal.clone())
            }
            // The event type changed under the request.
            EventRefusal::NoSchemaId { .. }
            | EventRefusal::UnknownSchema { .. }
            | EventRefusal::ForeignSchema { .. }
            | EventRefusal::RetiredSchema { .. } => kinds::PUBLISHING_UNAVAILABLE.error(sentence),
        }
    }

    /// Why the event with the id `id` has no answer of its own: the whole request failed.
    pub(super) fn of_failure(error: PublishError, id: &str) -> Self {
        match error {
            PublishError::Unconfirmed(_) => indeterminate(id).because(error),
            PublishError::Topic(_) | PublishError::Overloaded(_) | PublishError::Refused(_) => {
                error.into()
            }
        }
    }

    fn of_json(error: &JsonError, name: &str) -> Self {
        let sentence = error.to_string();
        match error {
            // The platform's words first.
            JsonError::UnknownField { field, nearest, .. } => {
                let hint = nearest
                    .as_ref()
                    .map(|nearest| format!(", did you mean {nearest}?"));
                kinds::INVALID_FIELD
                    .error(format!(
                        "No such column '{field}' on sobject of type {name}{}",
                        hint.unwrap_or_default()
                    ))
                    .about(field)
            }
            JsonError::Missing(field) => kinds::FIELD_MISSING
                .error(format!("Required fields are missing: [{field}]"))
                .about(field),
            JsonError::WrongType { path, .. }
            | JsonError::OutOfRange { path, .. }
            | JsonError::TooDeep { path }
                if !path.is_empty() =>
            {
                kinds::JSON_PARSER.error(sentence).about(path)
            }
            JsonError::WrongType { .. }
            | JsonError::OutOfRange { .. }
            | JsonError::TooDeep { .. } => kinds::JSON_PARSER.error(sentence),
            JsonError::TooLarge | JsonError::TooManyItems => kinds::TOO_LARGE.error(sentence),
        }
    }

    /// The parser's refusal of a text, with the platform's way to say where.
    pub(super) fn not_json(error: &serde_json::Error) -> Self {
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        kinds::JSON_PARSER.error(format!(
            "{} at [line:{}, column:{}]",
            truncated(reason),
            error.line(),
            error.column()
        ))
    }

    /// The status it is answered with.
    pub(super) fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// The error code.
    pub(super) fn code(&self) -> &'static str {
        self.kind.code
    }

    /// What the client is told in words.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The fields to blame.
    pub(super) fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The error as JSON.
    pub(super) fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            message: &self.message,
            code: self.kind.code,
            fields: &self.fields,
            oldest_valid_replay_id: self.oldest_valid.map(|at| at.replay_id().to_string()),
        }
    }

    /// Logs the errors of one request in one line: their number, and the first of those that the
    /// gateway is to blame for, else the first of all.
    pub(super) fn log_all<'a>(errors: impl IntoIterator<Item = &'a Self>) {
        let errors: Vec<_> = errors.into_iter().collect();
        let is_ours = |error: &&&Self| error.kind.status.is_server_error();
        if let Some(first) = errors.iter().find(is_ours).or(errors.first()) {
            let alike = |error: &&&Self| error.kind.status.is_server_error() == is_ours(&first);
            first.log_times(errors.iter().filter(alike).count());
        }
    }

    /// Logs what the client is not told, or is told while the gateway is to blame.
    pub(super) fn log(&self) {
        self.log_times(1);
    }

    /// Logs the first of `count` errors of one request.
    fn log_times(&self, count: usize) {
        let cause = self.source.as_deref().map(|source| {
            let source: &dyn Error = source;
            let sources = std::iter::successors(Some(source), |&error| error.source());
            sources
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": ")
        });
        let cause = cause.as_deref().unwrap_or_default();
        let (status, code) = (self.kind.status.as_u16(), self.kind.code);
        if self.kind.status.is_server_error() {
            tracing::warn!(
                status,
                code,
                cause,
                count,
                "request failed: {}",
                self.message
            );
        } else {
            tracing::debug!(
                status,
                code,
                cause,
                count,
                "request failed: {}",
                self.message
            );
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.code, self.message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let mut response = answer::json(self.kind.status, &[self.body()]);
        if self.kind == kinds::INVALID_SESSION {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        if self.kind.status == StatusCode::SERVICE_UNAVAILABLE {
            let after = HeaderValue::from(RETRY_AFTER.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}

/// A peer's text may be in it.
fn truncated(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// Bytes of a parser's reason that are answered.
const REASON_BYTES_MAX: usize = 200;

fn indeterminate(id: &str) -> ApiError {
    kinds::INDETERMINATE
        .error(format!(
            "the event may or may not have been stored; publish it again with the {EVENT_UUID} {id}"
        ))
        .about(EVENT_UUID)
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Header(_) | AuthError::Token => session_invalid().because(error),
            AuthError::Unavailable(_) => kinds::UNAVAILABLE
                .error("the access token cannot be checked for now")
                .because(error),
        }
    }
}

impl From<TopicError> for ApiError {
    fn from(error: TopicError) -> Self {
        let kind = match error {
            TopicError::Empty | TopicError::NotFound => return kinds::NOT_FOUND.error(NO_RESOURCE),
            TopicError::Forbidden(_) => kinds::NO_ACCESS,
            TopicError::Unavailable(_) => kinds::UNAVAILABLE,
        };
        kind.error(error.to_string()).because(error)
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Topic(TopicError::Unavailable(_)) => kinds::PUBLISHING_UNAVAILABLE
                .error(error.to_string())
                .because(error),
            PublishError::Topic(error) => error.into(),
            PublishError::Overloaded(_) | PublishError::Refused(_) => {
                kinds::PUBLISHING_UNAVAILABLE.error(error.to_string())
            }
            PublishError::Unconfirmed(_) => {
                let sentence = error.to_string();
                kinds::INDETERMINATE.error(sentence).because(error)
            }
        }
    }
}

impl From<SubscribeError> for ApiError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Topic(error) => error.into(),
            SubscribeError::CannotSubscribe(_) => kinds::NO_ACCESS.error(error.to_string()),
            SubscribeError::Position(error) => error.into(),
            SubscribeError::Time(error) => error.into(),
            SubscribeError::Grant(_) => kinds::SUBSCRIPTION_FAILED.error(error.to_string()),
        }
    }
}

impl From<TimeError> for ApiError {
    fn from(error: TimeError) -> Self {
        match error {
            TimeError::Future { .. } | TimeError::Purged { .. } => {
                kinds::INVALID_INPUT.error(error.to_string())
            }
            TimeError::Storage(_) => kinds::SUBSCRIPTION_FAILED
                .error(error.to_string())
                .because(error),
        }
    }
}

impl From<PositionError> for ApiError {
    fn from(error: PositionError) -> Self {
        let (kind, sentence, oldest_valid) = match error {
            PositionError::TopicDeleted => return kinds::NOT_FOUND.error(error.to_string()),
            PositionError::Ahead { head, .. } => (
                kinds::INVALID_REPLAY_ID,
                format!(
                    "the replay id is in the future: the newest is {}",
                    head.replay_id()
                ),
                None,
            ),
            PositionError::Purged { valid_from, .. } => (
                kinds::REPLAY_ID_EXPIRED,
                "events after the replay id are no longer retained".to_owned(),
                Some(valid_from),
            ),
            PositionError::Damaged { valid_from, .. } => (
                kinds::REPLAY_ID_EXPIRED,
                "events after the replay id were lost to damage of the disk".to_owned(),
                Some(valid_from),
            ),
            PositionError::Lost { valid_from, .. } => (
                kinds::REPLAY_ID_EXPIRED,
                "the replay id was lost when the machine stopped or the log was restored"
                    .to_owned(),
                Some(valid_from),
            ),
        };
        kind.error(sentence).or_after(oldest_valid).because(error)
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        kinds::INVALID_INPUT.error(format!("the filter is wrong {error}"))
    }
}

impl From<SubscriptionEnd> for ApiError {
    fn from(end: SubscriptionEnd) -> Self {
        match end {
            SubscriptionEnd::Position(error) => error.into(),
            SubscriptionEnd::ChannelDeleted => kinds::NOT_FOUND.error(end.to_string()),
            SubscriptionEnd::NoCredit(_) | SubscriptionEnd::Storage(_) => {
                kinds::SUBSCRIPTION_FAILED
                    .error(end.to_string())
                    .because(end)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_has_two_statuses() {
        for (index, kind) in kinds::ALL.iter().enumerate() {
            let same = kinds::ALL[..index]
                .iter()
                .find(|other| other.code == kind.code);
            assert_eq!(same, None, "{kind:?}");
        }
    }

    #[test]
    fn an_error_shows_only_what_there_is_to_show() {
        let text = |error: &ApiError| serde_json::to_string(&error.body()).unwrap();
        let bare = kinds::NOT_FOUND.error(NO_RESOURCE);
        assert_eq!(
            text(&bare),
            r#"{"message":"The requested resource does not exist","errorCode":"NOT_FOUND"}"#
        );
        let full = ApiError::from(PositionError::Purged {
            position: Position::ZERO,
            valid_from: Position::in_block(3, 0).unwrap(),
        });
        assert_eq!(
            text(&full),
            r#"{"message":"events after the replay id are no longer retained","errorCode":"REPLAY_ID_EXPIRED","oldest_valid_replay_id":"00000000000003000000"}"#
        );
    }

    #[test]
    fn a_cause_is_never_told() {
        let disk = std::io::Error::other("/var/lib: no such device");
        let error = ApiError::from(PublishError::Unconfirmed(std::sync::Arc::new(disk)));
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(error.code(), "PUBLISH_INDETERMINATE");
        let text = serde_json::to_string(&error.body()).unwrap();
        assert!(!text.contains("device"), "{text}");
    }
}
