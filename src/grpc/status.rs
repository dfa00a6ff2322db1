//! The one place where errors become gRPC statuses.
//!
//! A failed call ends with a status code, a message, and the three trailers that existing clients
//! read: `error-code`, `rpc-id` and `type`. The message is a sentence of ours, then the full error
//! code in brackets, then `rpcId: ` and the id, because clients search it for each of the two. No
//! trailer has a name that ends in `-bin`: the public Java example prints all trailers as text.
//!
//! Source: the public Pub/Sub API Developer Guide, "Handle Errors"; statuses seen by its users in
//! issues of the public clients.

use std::error::Error;

use tonic::{Code, Status, metadata::MetadataValue};

use super::Call;
use crate::{
    auth::AuthError,
    broker::{
        ChannelError, GrantError, ManagedEnd, ManagedError, ManagedSubscribeError, MemberProblem,
        PublishError, RemovalError, SchemaChangeError, SchemaError, SubscribeError,
        SubscriptionEnd, TimeError, TopicError,
    },
    event_log::{PositionError, RemoveError},
    filter::FilterError,
    schema::registry::RegistryError,
    types::ReplayIdError,
};

/// What every error code begins with.
const PREFIX: &str = "sfdc.platform.eventbus.grpc.";
/// Bytes of our own sentence in a message: with code and id it stays below 1 KB.
const SENTENCE_BYTES_MAX: usize = 800;

/// An error code and the status it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The gRPC status.
    pub status: Code,
    /// The error code without its prefix; empty for a call the service does not have.
    pub suffix: &'static str,
}

/// Every pair of status and error code that this service answers with.
pub mod kinds {
    use tonic::Code;

    use super::Kind;

    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident = $status:ident, $suffix:literal;)*) => {
            $($(#[$doc])* pub const $name: Kind = Kind { status: Code::$status, suffix: $suffix };)*
            /// All of them, for tables.
            pub const ALL: &[Kind] = &[$($name),*];
        };
    }

    kinds! {
        /// A method or an encoding the service does not have.
        UNIMPLEMENTED = Unimplemented, "";
        /// Something needed to answer is not there for now.
        OUTAGE = Internal, "service.unavailable";
        /// The log takes no events for now, or the gateway is stopping.
        UNAVAILABLE = Unavailable, "service.unavailable";
        /// A bad, expired or revoked token.
        AUTH_ERROR = Unauthenticated, "service.auth.error";
        /// A call without one of its three headers, or with a bad one.
        AUTH_HEADERS_INVALID = Unauthenticated, "service.auth.headers.invalid";
        /// A bad token in a request on a stream.
        AUTH_REFRESH_INVALID = Unauthenticated, "service.auth.refresh.invalid";
        /// Too much at once.
        PROTECTION = ResourceExhausted, "service.protection.triggered";
        /// Too many requests on one stream.
        STREAM_PROTECTION = ResourceExhausted, "service.protection.stream.limit.triggered";
        /// No such topic.
        TOPIC_NOT_FOUND = NotFound, "topic.not.found";
        /// No right to a topic.
        TOPIC_PERMISSION = PermissionDenied, "topic.meta.permission";
        /// A blank topic name.
        TOPIC_EMPTY = InvalidArgument, "topic.validation.empty";
        /// The tenant's topics cannot be read for now.
        TOPIC_UNAVAILABLE = Unavailable, "topic.api.unavailable";
        /// An unknown schema, or one the caller has no right to.
        SCHEMA_PERMISSION = PermissionDenied, "schema.meta.permission";
        /// A blank schema id.
        SCHEMA_INVALID = InvalidArgument, "schema.validation.failed";
        /// The tenant's schemas cannot be read for now.
        SCHEMA_UNAVAILABLE = Unavailable, "schema.api.unavailable";
        /// A replay id that is malformed, in the future or no longer retained.
        REPLAY_ID_CORRUPTED = InvalidArgument, "subscription.fetch.replayid.corrupted";
        /// A custom start without a replay id.
        REPLAY_ID_MISSING = InvalidArgument, "subscription.fetch.replayid.validation.failed";
        /// Fewer than one event requested.
        REQUESTED_EVENTS_INVALID = InvalidArgument, "subscription.fetch.requested.events.invalid";
        /// Another topic than the stream's first.
        FETCH_TOPIC_MISMATCH = InvalidArgument, "subscription.fetch.topic.mismatch";
        /// A fetch request that makes no sense.
        FETCH_REQUEST_INVALID = InvalidArgument, "subscription.fetch.request.invalid";
        /// No right to subscribe.
        CANNOT_SUBSCRIBE = PermissionDenied, "subscription.topic.cannot.subscribe";
        /// A subscription cannot go on.
        SUBSCRIPTION_INTERNAL = Internal, "subscription.internal.error";
        /// A subscription got no credit for too long.
        SUBSCRIPTION_IDLE = DeadlineExceeded, "subscription.internal.error";
        /// A subscription ends because the gateway does; clients resume from their stored id.
        SUBSCRIPTION_STOPPING = Unavailable, "subscription.internal.error";
        /// A publish stream without events for too long.
        PUBLISH_IDLE = DeadlineExceeded, "publish.stream.sweeper.timeout";
        /// A fresh token where none can be.
        PUBLISH_REFRESH_INVALID = InvalidArgument, "publish.auth.refresh.invalid";
        /// A publish request without events, or not a publish request.
        PUBLISH_COUNT_INVALID = InvalidArgument, "publish.event.count.invalid";
        /// Another topic than the stream's first.
        PUBLISH_TOPIC_MISMATCH = InvalidArgument, "publish.topic.mismatch";
        /// A blank topic name in a publish request.
        PUBLISH_TOPIC_EMPTY = InvalidArgument, "publish.topic.validation.empty";
        /// A managed fetch request that makes no sense.
        MANAGED_REQUEST_INVALID = InvalidArgument, "managed.subscription.fetch.request.invalid";
        /// Neither an id nor a name of a managed subscription, or both.
        MANAGED_ID_OR_NAME_EMPTY = InvalidArgument, "managed.subscription.id.or.developer.name.empty";
        /// Not the id of a managed subscription.
        MANAGED_ID_INVALID = InvalidArgument, "managed.subscription.subscription.id.invalid";
        /// No managed subscription has the id.
        MANAGED_ID_NOT_FOUND = NotFound, "managed.subscription.subscription.id.not.found";
        /// No managed subscription has the name.
        MANAGED_NAME_NOT_FOUND = NotFound, "managed.subscription.developer.name.not.found";
        /// A commit in the first request.
        MANAGED_COMMIT_RESTRICTED = InvalidArgument,
            "managed.subscription.fetch.request.commit.request.restricted";
        /// A fresh token in the first request.
        MANAGED_AUTH_RESTRICTED = InvalidArgument,
            "managed.subscription.fetch.request.auth.request.restricted";
        /// Fewer events requested than may be.
        MANAGED_EVENTS_INVALID = InvalidArgument, "managed.subscription.fetch.request.events.invalid";
        /// A managed subscription that is stopped.
        MANAGED_STOPPED = FailedPrecondition, "managed.subscription.config.stopped";
        /// A managed subscription that was deleted.
        MANAGED_DELETED = NotFound, "managed.subscription.config.deleted";
        /// Another stream has the managed subscription.
        MANAGED_ACTIVE = AlreadyExists, "managed.subscription.already.active";
        /// A newer stream took the managed subscription: whoever had it is not to take it back.
        MANAGED_TAKEN_OVER = FailedPrecondition, "managed.subscription.already.active";
        /// An admin request that makes no sense.
        ADMIN_REQUEST_INVALID = InvalidArgument, "admin.request.invalid";
        /// An admin request about something there is not.
        ADMIN_NOT_FOUND = NotFound, "admin.not.found";
        /// An admin request for something that there is already.
        ADMIN_EXISTS = AlreadyExists, "admin.already.exists";
        /// An admin request that a damaged file stands in the way of.
        ADMIN_DAMAGED = FailedPrecondition, "admin.log.damaged";
        /// An admin request about something that somebody else changed meanwhile.
        ADMIN_OVERTAKEN = Aborted, "admin.overtaken";
        /// An admin request that cannot be granted as things are.
        ADMIN_PRECONDITION = FailedPrecondition, "admin.precondition.failed";
        /// An admin request that takes an administrator.
        ADMIN_PERMISSION = PermissionDenied, "admin.permission";
    }
}

impl Kind {
    /// An error of this kind, explained to the client by `sentence`.
    pub fn error(self, sentence: impl Into<String>) -> RpcError {
        RpcError {
            kind: self,
            sentence: sentence.into(),
            source: None,
            is_planned: false,
        }
    }

    /// The error code as clients know it; empty for a call the service does not have.
    pub fn error_code(self) -> String {
        if self.suffix.is_empty() {
            String::new()
        } else {
            format!("{PREFIX}{}", self.suffix)
        }
    }
}

/// Why a call failed: what the client is told, and what only the log is.
#[derive(Debug)]
pub struct RpcError {
    kind: Kind,
    sentence: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    is_planned: bool,
}

impl RpcError {
    /// The status and error code.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Says that the gateway's own stop is the reason, which nobody has to look into.
    pub(super) fn planned(mut self) -> Self {
        self.is_planned = true;
        self
    }

    /// Adds a cause that is logged and not sent.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status as it is sent for `call`. Logs the error: the one place where that is done.
    pub fn into_status(self, call: &Call) -> Status {
        self.log(call);
        let rpc_id = call.rpc_id();
        let rpc_id = rpc_id.as_str();
        let sentence = truncated(&self.sentence);
        let code = self.kind.error_code();
        let message = if code.is_empty() {
            format!("{sentence} rpcId: {rpc_id}")
        } else {
            format!("{sentence} ({code}) rpcId: {rpc_id}")
        };
        let mut status = Status::new(self.kind.status, message);
        let trailers = status.metadata_mut();
        let text =
            |text: &str| MetadataValue::try_from(text).expect("codes, ids and names are ASCII");
        if !code.is_empty() {
            trailers.insert("error-code", text(&code));
        }
        trailers.insert("rpc-id", text(rpc_id));
        trailers.insert("type", text(call.method().name()));
        status
    }

    fn log(&self, call: &Call) {
        let cause = self.source.as_deref().map(|source| chain(source));
        let cause = cause.as_deref().unwrap_or_default();
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    rpc_id = %call.rpc_id(),
                    method = call.method().name(),
                    client_trace_id = call.client_trace_id(),
                    status = ?self.kind.status,
                    error_code = self.kind.suffix,
                    cause,
                    "call failed: {}", self.sentence
                )
            };
        }
        match self.kind.status {
            _ if self.is_planned => event!(debug),
            Code::Internal | Code::Unavailable | Code::Unknown => event!(warn),
            _ => event!(debug),
        }
    }
}

/// The messages of an error and of its sources, outermost first.
fn chain(error: &(dyn Error + 'static)) -> String {
    let messages = std::iter::successors(Some(error), |&error| error.source());
    messages
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn truncated(sentence: &str) -> &str {
    &sentence[..sentence.floor_char_boundary(SENTENCE_BYTES_MAX)]
}

impl From<FilterError> for RpcError {
    fn from(error: FilterError) -> Self {
        kinds::FETCH_REQUEST_INVALID.error(format!("the filter is wrong {error}"))
    }
}

impl From<AuthError> for RpcError {
    fn from(error: AuthError) -> Self {
        match &error {
            AuthError::Header(problem) => kinds::AUTH_HEADERS_INVALID.error(problem.to_string()),
            // The words that clients search for.
            AuthError::Token => kinds::AUTH_ERROR.error(
                "authentication exception occurred: the access token is not valid for this tenant",
            ),
            AuthError::Unavailable(_) => kinds::OUTAGE
                .error("the access token cannot be checked for now")
                .because(error),
        }
    }
}

impl From<TopicError> for RpcError {
    fn from(error: TopicError) -> Self {
        topic_kind(&error).error(error.to_string()).because(error)
    }
}

fn topic_kind(error: &TopicError) -> Kind {
    match error {
        TopicError::Empty => kinds::TOPIC_EMPTY,
        TopicError::NotFound => kinds::TOPIC_NOT_FOUND,
        TopicError::Forbidden(_) => kinds::TOPIC_PERMISSION,
        TopicError::Unavailable(_) => kinds::TOPIC_UNAVAILABLE,
    }
}

impl From<SchemaError> for RpcError {
    fn from(error: SchemaError) -> Self {
        let kind = match &error {
            SchemaError::Empty => kinds::SCHEMA_INVALID,
            SchemaError::Forbidden => kinds::SCHEMA_PERMISSION,
            SchemaError::Unavailable(_) => kinds::SCHEMA_UNAVAILABLE,
        };
        kind.error(error.to_string()).because(error)
    }
}

impl From<PublishError> for RpcError {
    fn from(error: PublishError) -> Self {
        let kind = match error {
            PublishError::Topic(TopicError::Empty) => kinds::PUBLISH_TOPIC_EMPTY,
            PublishError::Topic(error) => return error.into(),
            PublishError::Overloaded(_) => kinds::PROTECTION,
            PublishError::Refused(_) | PublishError::Unconfirmed(_) => kinds::UNAVAILABLE,
        };
        kind.error(error.to_string()).because(error)
    }
}

impl From<SubscribeError> for RpcError {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Topic(error) => error.into(),
            SubscribeError::CannotSubscribe(_) => kinds::CANNOT_SUBSCRIBE.error(error.to_string()),
            SubscribeError::Position(error) => error.into(),
            SubscribeError::Time(error) => error.into(),
            SubscribeError::Grant(error) => error.into(),
        }
    }
}

impl From<ManagedSubscribeError> for RpcError {
    fn from(error: ManagedSubscribeError) -> Self {
        let kind = match error {
            ManagedSubscribeError::UnknownId => kinds::MANAGED_ID_NOT_FOUND,
            ManagedSubscribeError::UnknownName => kinds::MANAGED_NAME_NOT_FOUND,
            ManagedSubscribeError::Stopped => kinds::MANAGED_STOPPED,
            ManagedSubscribeError::AlreadyActive | ManagedSubscribeError::AllPlacesTaken(_) => {
                kinds::MANAGED_ACTIVE
            }
            ManagedSubscribeError::Subscribe(error) => return error.into(),
        };
        kind.error(error.to_string())
    }
}

impl From<ManagedEnd> for RpcError {
    fn from(end: ManagedEnd) -> Self {
        let kind = match end {
            ManagedEnd::Stopped => kinds::MANAGED_STOPPED,
            ManagedEnd::Deleted => kinds::MANAGED_DELETED,
            ManagedEnd::TakenOver => kinds::MANAGED_TAKEN_OVER,
            ManagedEnd::Released => kinds::SUBSCRIPTION_INTERNAL,
            ManagedEnd::NoCommits(_) => kinds::SUBSCRIPTION_IDLE,
            ManagedEnd::Subscription(end) => return end.into(),
        };
        let error = kind.error(end.to_string());
        match end {
            ManagedEnd::Released => error.planned(),
            _ => error,
        }
    }
}

impl From<ManagedError> for RpcError {
    fn from(error: ManagedError) -> Self {
        let kind = match error {
            ManagedError::NotFound => kinds::ADMIN_NOT_FOUND,
            ManagedError::NameTaken(_) => kinds::ADMIN_EXISTS,
            ManagedError::Name
            | ManagedError::Label
            | ManagedError::Filter(_)
            | ManagedError::Sharing(_) => kinds::ADMIN_REQUEST_INVALID,
            ManagedError::TooMany => kinds::PROTECTION,
            ManagedError::Topic(error) => return error.into(),
            ManagedError::DiskFull => kinds::UNAVAILABLE,
            ManagedError::Unreadable(_) | ManagedError::Store(_) => kinds::OUTAGE,
        };
        kind.error(error.to_string()).because(error)
    }
}

impl From<ChannelError> for RpcError {
    fn from(error: ChannelError) -> Self {
        channel_kind(&error).error(error.to_string()).because(error)
    }
}

fn channel_kind(error: &ChannelError) -> Kind {
    match error {
        ChannelError::NotFound => kinds::ADMIN_NOT_FOUND,
        ChannelError::NameTaken(_) => kinds::ADMIN_EXISTS,
        ChannelError::Member {
            problem: MemberProblem::NoTopic,
            ..
        } => kinds::TOPIC_NOT_FOUND,
        ChannelError::Name
        | ChannelError::Label
        | ChannelError::NoMember { .. }
        | ChannelError::Member { .. }
        | ChannelError::Twice => kinds::ADMIN_REQUEST_INVALID,
        ChannelError::Standard(_) | ChannelError::Subscribed(_) => kinds::ADMIN_PRECONDITION,
        ChannelError::TooMany | ChannelError::TooManyMembers => kinds::PROTECTION,
        ChannelError::Of { problem, .. } => channel_kind(problem),
        ChannelError::Topic(error) => topic_kind(error),
        ChannelError::DiskFull => kinds::UNAVAILABLE,
        ChannelError::Unreadable(_) | ChannelError::Store(_) => kinds::OUTAGE,
    }
}

impl From<RemovalError> for RpcError {
    fn from(error: RemovalError) -> Self {
        let kind = match error {
            RemovalError::Topic(error) => return error.into(),
            RemovalError::Retention(_) | RemovalError::UnknownField { .. } => {
                kinds::ADMIN_REQUEST_INVALID
            }
            RemovalError::InChannels(_) => kinds::ADMIN_PRECONDITION,
            RemovalError::Remove(RemoveError::Refused(_)) => kinds::UNAVAILABLE,
            RemovalError::Remove(RemoveError::Damaged(_)) => kinds::ADMIN_DAMAGED,
            _ => kinds::OUTAGE,
        };
        kind.error(error.to_string()).because(error)
    }
}

impl From<SchemaChangeError> for RpcError {
    fn from(error: SchemaChangeError) -> Self {
        let kind = match &error {
            SchemaChangeError::Topic(topic) => return topic.clone().into(),
            SchemaChangeError::Schema(_) | SchemaChangeError::SchemaId(_) => {
                kinds::ADMIN_REQUEST_INVALID
            }
            SchemaChangeError::Registry(error) => match error {
                RegistryError::Name { .. }
                | RegistryError::SameButCase { .. }
                | RegistryError::OtherTopic { .. } => kinds::ADMIN_REQUEST_INVALID,
                RegistryError::NoTopic(_) => kinds::TOPIC_NOT_FOUND,
                RegistryError::NoSchema(_) | RegistryError::NoVersion { .. } => {
                    kinds::ADMIN_NOT_FOUND
                }
                RegistryError::TopicExists(_) => kinds::ADMIN_EXISTS,
                RegistryError::Overtaken { .. } => kinds::ADMIN_OVERTAKEN,
                RegistryError::DiskFull => kinds::UNAVAILABLE,
                RegistryError::RetiresCurrent { .. } => kinds::ADMIN_PRECONDITION,
                RegistryError::TooManyTopics
                | RegistryError::TooManyVersions(_)
                | RegistryError::SchemasTooLarge(_) => kinds::PROTECTION,
                RegistryError::Unconfirmed(_) | RegistryError::Interrupted => kinds::UNAVAILABLE,
                RegistryError::Store(_)
                | RegistryError::Stored { .. }
                | RegistryError::BrokenTopic { .. }
                | RegistryError::BrokenDefaults => kinds::OUTAGE,
            },
        };
        let sentence = match kind {
            // What it says of files is for the log.
            kinds::OUTAGE => "the tenant's schemas cannot be read or changed for now".to_owned(),
            _ => error.to_string(),
        };
        kind.error(sentence).because(error)
    }
}

impl From<PositionError> for RpcError {
    fn from(error: PositionError) -> Self {
        // Clients fall back on finding the word "replay" when trailers are lost.
        let sentence = match error {
            PositionError::TopicDeleted => {
                return kinds::TOPIC_NOT_FOUND.error(error.to_string());
            }
            PositionError::Ahead { position, head } => format!(
                "the replay id {} is in the future: the newest is {}",
                position.replay_id(),
                head.replay_id()
            ),
            PositionError::Purged {
                position,
                valid_from,
            } => format!(
                "events after replay id {} are no longer retained: the oldest valid replay id is {}",
                position.replay_id(),
                valid_from.replay_id()
            ),
            PositionError::Damaged {
                last_good,
                valid_from,
                ..
            } => format!(
                "events after replay id {} were lost to damage of the disk: go on from replay id {}",
                last_good.replay_id(),
                valid_from.replay_id()
            ),
            PositionError::Lost {
                position,
                valid_from,
            } => format!(
                "replay id {} was lost when the machine stopped or the log was restored: the next valid replay id is {}",
                position.replay_id(),
                valid_from.replay_id()
            ),
        };
        kinds::REPLAY_ID_CORRUPTED.error(sentence).because(error)
    }
}

impl From<TimeError> for RpcError {
    fn from(error: TimeError) -> Self {
        match error {
            TimeError::Future { .. } | TimeError::Purged { .. } => {
                kinds::FETCH_REQUEST_INVALID.error(error.to_string())
            }
            TimeError::Storage(_) => kinds::SUBSCRIPTION_INTERNAL
                .error(error.to_string())
                .because(error),
        }
    }
}

impl From<ReplayIdError> for RpcError {
    fn from(error: ReplayIdError) -> Self {
        kinds::REPLAY_ID_CORRUPTED.error(format!("the replay id is malformed: {error}"))
    }
}

impl From<GrantError> for RpcError {
    fn from(error: GrantError) -> Self {
        kinds::REQUESTED_EVENTS_INVALID.error(error.to_string())
    }
}

impl From<SubscriptionEnd> for RpcError {
    fn from(end: SubscriptionEnd) -> Self {
        match end {
            SubscriptionEnd::Position(error) => error.into(),
            SubscriptionEnd::ChannelDeleted => kinds::TOPIC_NOT_FOUND.error(end.to_string()),
            SubscriptionEnd::NoCredit(_) => kinds::SUBSCRIPTION_IDLE.error(end.to_string()),
            SubscriptionEnd::Storage(_) => kinds::SUBSCRIPTION_INTERNAL
                .error(end.to_string())
                .because(end),
        }
    }
}
