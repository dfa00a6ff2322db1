//! Which error becomes which status, and how a status looks.

use std::{
    collections::HashSet,
    fmt::Write as _,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Request;
use tonic::metadata::MetadataMap;
use tower::{Layer, ServiceExt};

use super::gateway::{Gateway, assert_failure, latest, settle};
use crate::{
    auth::{AuthError, HeaderProblem},
    broker::{
        ChannelError, GrantError, MemberProblem, PublishError, SchemaError, SubscribeError,
        SubscriptionEnd, TimeError, TopicError, tests::engines::ORDERS,
    },
    clock::Timestamp,
    event_log::{PositionError, Refusal},
    grpc::{
        Call, CallLayer, Metrics,
        status::{Kind, RpcError, kinds},
    },
    telemetry::written::Captured,
    types::{Position, ReplayId},
};

/// The call that the layer makes of a request with these headers.
pub(super) async fn call(path: &str, headers: &MetadataMap) -> Call {
    let seen = Arc::new(Mutex::new(None));
    let service = tower::service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<()>| {
            *seen.lock().unwrap() = request.extensions().get::<Call>().cloned();
            async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
        }
    });
    let mut request = Request::post(format!("http://gateway{path}"));
    *request.headers_mut().unwrap() = headers.clone().into_headers();
    let service = CallLayer::new(Metrics::default()).layer(service);
    service.oneshot(request.body(()).unwrap()).await.unwrap();
    let call = seen.lock().unwrap().take();
    call.unwrap()
}

#[test]
fn the_kinds_are_the_documented_ones() {
    let mut table = String::new();
    for kind in kinds::ALL {
        writeln!(table, "{:?} {}", kind.status, kind.suffix).unwrap();
    }
    let expected = "\
Unimplemented 
Internal service.unavailable
Unavailable service.unavailable
Unauthenticated service.auth.error
Unauthenticated service.auth.headers.invalid
Unauthenticated service.auth.refresh.invalid
ResourceExhausted service.protection.triggered
ResourceExhausted service.protection.stream.limit.triggered
NotFound topic.not.found
PermissionDenied topic.meta.permission
InvalidArgument topic.validation.empty
Unavailable topic.api.unavailable
PermissionDenied schema.meta.permission
InvalidArgument schema.validation.failed
Unavailable schema.api.unavailable
InvalidArgument subscription.fetch.replayid.corrupted
InvalidArgument subscription.fetch.replayid.validation.failed
InvalidArgument subscription.fetch.requested.events.invalid
InvalidArgument subscription.fetch.topic.mismatch
InvalidArgument subscription.fetch.request.invalid
PermissionDenied subscription.topic.cannot.subscribe
Internal subscription.internal.error
DeadlineExceeded subscription.internal.error
Unavailable subscription.internal.error
DeadlineExceeded publish.stream.sweeper.timeout
InvalidArgument publish.auth.refresh.invalid
InvalidArgument publish.event.count.invalid
InvalidArgument publish.topic.mismatch
InvalidArgument publish.topic.validation.empty
InvalidArgument managed.subscription.fetch.request.invalid
InvalidArgument managed.subscription.id.or.developer.name.empty
InvalidArgument managed.subscription.subscription.id.invalid
NotFound managed.subscription.subscription.id.not.found
NotFound managed.subscription.developer.name.not.found
InvalidArgument managed.subscription.fetch.request.commit.request.restricted
InvalidArgument managed.subscription.fetch.request.auth.request.restricted
InvalidArgument managed.subscription.fetch.request.events.invalid
FailedPrecondition managed.subscription.config.stopped
NotFound managed.subscription.config.deleted
AlreadyExists managed.subscription.already.active
FailedPrecondition managed.subscription.already.active
InvalidArgument admin.request.invalid
NotFound admin.not.found
AlreadyExists admin.already.exists
FailedPrecondition admin.log.damaged
Aborted admin.overtaken
FailedPrecondition admin.precondition.failed
PermissionDenied admin.permission
";
    assert_eq!(table, expected);
}

/// Every error that the edge meets, and what it becomes.
fn errors() -> Vec<(RpcError, Kind)> {
    let secret = || -> Arc<io::Error> { Arc::new(io::Error::other("secret")) };
    let topic = || ORDERS.parse().unwrap();
    let position = Position::new(7 << 8).unwrap();
    let ahead = PositionError::Ahead {
        position,
        head: Position::new(1).unwrap(),
    };
    let purged = PositionError::Purged {
        position,
        valid_from: position,
    };
    let damaged = PositionError::Damaged {
        position,
        last_good: position,
        valid_from: position,
    };
    let lost = PositionError::Lost {
        position,
        valid_from: position,
    };
    let time = Timestamp::from_millis(7);
    let tenant = "x".parse::<crate::types::TenantId>().unwrap_err();
    let corrupted = kinds::REPLAY_ID_CORRUPTED;
    let member = |problem| ChannelError::Member {
        topic: ORDERS.into(),
        problem,
    };
    let in_a_list = |problem| ChannelError::Of {
        channel: "/event/Orders__chn".into(),
        problem: Box::new(problem),
    };
    vec![
        (
            AuthError::Header(HeaderProblem::TenantId(tenant)).into(),
            kinds::AUTH_HEADERS_INVALID,
        ),
        (
            AuthError::Header(HeaderProblem::InstanceUrl).into(),
            kinds::AUTH_HEADERS_INVALID,
        ),
        (
            AuthError::Header(HeaderProblem::TenantMismatch).into(),
            kinds::AUTH_HEADERS_INVALID,
        ),
        (AuthError::Token.into(), kinds::AUTH_ERROR),
        (AuthError::Unavailable(secret()).into(), kinds::OUTAGE),
        (TopicError::Empty.into(), kinds::TOPIC_EMPTY),
        (TopicError::NotFound.into(), kinds::TOPIC_NOT_FOUND),
        (
            TopicError::Forbidden(topic()).into(),
            kinds::TOPIC_PERMISSION,
        ),
        (
            TopicError::Unavailable(secret()).into(),
            kinds::TOPIC_UNAVAILABLE,
        ),
        (SchemaError::Empty.into(), kinds::SCHEMA_INVALID),
        (SchemaError::Forbidden.into(), kinds::SCHEMA_PERMISSION),
        (
            SchemaError::Unavailable(TopicError::Unavailable(secret())).into(),
            kinds::SCHEMA_UNAVAILABLE,
        ),
        (
            PublishError::Topic(TopicError::Empty).into(),
            kinds::PUBLISH_TOPIC_EMPTY,
        ),
        (
            PublishError::Topic(TopicError::NotFound).into(),
            kinds::TOPIC_NOT_FOUND,
        ),
        (
            PublishError::Topic(TopicError::Forbidden(topic())).into(),
            kinds::TOPIC_PERMISSION,
        ),
        (
            PublishError::Overloaded(Duration::from_secs(2)).into(),
            kinds::PROTECTION,
        ),
        (
            PublishError::Refused(Refusal::DiskFull).into(),
            kinds::UNAVAILABLE,
        ),
        (
            PublishError::Unconfirmed(secret()).into(),
            kinds::UNAVAILABLE,
        ),
        (
            SubscribeError::Topic(TopicError::NotFound).into(),
            kinds::TOPIC_NOT_FOUND,
        ),
        (
            SubscribeError::CannotSubscribe(topic()).into(),
            kinds::CANNOT_SUBSCRIBE,
        ),
        (SubscribeError::Position(ahead).into(), corrupted),
        (
            SubscribeError::Time(TimeError::Future {
                at: time,
                now: time,
            })
            .into(),
            kinds::FETCH_REQUEST_INVALID,
        ),
        (
            TimeError::Purged {
                at: time,
                oldest: time,
            }
            .into(),
            kinds::FETCH_REQUEST_INVALID,
        ),
        (
            TimeError::Storage(Arc::new(std::io::Error::other("the disk is gone"))).into(),
            kinds::SUBSCRIPTION_INTERNAL,
        ),
        (
            SubscribeError::Grant(GrantError::NotPositive(0)).into(),
            kinds::REQUESTED_EVENTS_INVALID,
        ),
        (ahead.into(), corrupted),
        (purged.into(), corrupted),
        (damaged.into(), corrupted),
        (lost.into(), corrupted),
        (ReplayId::parse(b"1").unwrap_err().into(), corrupted),
        (
            GrantError::NotPositive(-1).into(),
            kinds::REQUESTED_EVENTS_INVALID,
        ),
        (SubscriptionEnd::Position(purged).into(), corrupted),
        (
            SubscriptionEnd::NoCredit(Duration::from_secs(70)).into(),
            kinds::SUBSCRIPTION_IDLE,
        ),
        (
            SubscriptionEnd::ChannelDeleted.into(),
            kinds::TOPIC_NOT_FOUND,
        ),
        (ChannelError::NotFound.into(), kinds::ADMIN_NOT_FOUND),
        (ChannelError::NameTaken(topic()).into(), kinds::ADMIN_EXISTS),
        (ChannelError::Name.into(), kinds::ADMIN_REQUEST_INVALID),
        (
            member(MemberProblem::Twice).into(),
            kinds::ADMIN_REQUEST_INVALID,
        ),
        (
            member(MemberProblem::NoTopic).into(),
            kinds::TOPIC_NOT_FOUND,
        ),
        (
            in_a_list(member(MemberProblem::NoTopic)).into(),
            kinds::TOPIC_NOT_FOUND,
        ),
        (
            in_a_list(ChannelError::Twice).into(),
            kinds::ADMIN_REQUEST_INVALID,
        ),
        (
            ChannelError::Subscribed(vec!["Billing".into()]).into(),
            kinds::ADMIN_PRECONDITION,
        ),
        (
            ChannelError::Standard(topic()).into(),
            kinds::ADMIN_PRECONDITION,
        ),
        (ChannelError::TooMany.into(), kinds::PROTECTION),
        (
            ChannelError::Topic(TopicError::Unavailable(secret())).into(),
            kinds::TOPIC_UNAVAILABLE,
        ),
        (ChannelError::DiskFull.into(), kinds::UNAVAILABLE),
        (ChannelError::Store(secret()).into(), kinds::OUTAGE),
        (
            SubscriptionEnd::Storage(secret()).into(),
            kinds::SUBSCRIPTION_INTERNAL,
        ),
    ]
}

#[tokio::test]
async fn every_error_becomes_its_kind_in_the_form_that_clients_read() {
    let call = call("/eventbus.v1.PubSub/Publish", &MetadataMap::new()).await;
    for (error, kind) in errors() {
        assert_eq!(error.kind(), kind, "{error:?}");
        let status = error.into_status(&call);
        assert_failure(&status, "Publish", kind);
        assert!(!status.message().contains("secret"), "{status:?}");
        if kind == kinds::REPLAY_ID_CORRUPTED {
            assert!(status.message().contains("replay id"), "{status:?}");
        }
        if kind == kinds::AUTH_ERROR {
            let words = "authentication exception occurred";
            assert!(status.message().contains(words), "{status:?}");
        }
    }
}

#[tokio::test]
async fn a_message_keeps_its_form_however_long_its_sentence_is() {
    let call = call("/eventbus.v1.PubSub/Subscribe", &MetadataMap::new()).await;
    for kind in kinds::ALL {
        for sentence in ["x".repeat(5_000), "é".repeat(5_000), "✓ ".repeat(5_000)] {
            let status = kind.error(sentence).into_status(&call);
            assert_failure(&status, "Subscribe", *kind);
        }
    }
}

#[tokio::test]
async fn each_call_has_an_id_of_its_own() {
    let mut ids = HashSet::new();
    for _ in 0..100 {
        let call = call("/eventbus.v1.PubSub/Publish", &MetadataMap::new()).await;
        assert!(ids.insert(call.rpc_id().to_string()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_planned_stop_is_nothing_to_warn_about() {
    let captured = Captured::from(tracing::Level::DEBUG);
    let gateway = Gateway::start().await;
    let mut subscriber = gateway.subscribe(latest(ORDERS, 1)).await;
    let mut publishing = gateway.publish_stream().await;
    settle().await;
    gateway.shutdown.begin();
    subscriber.failure().await;
    publishing.failure().await;

    let log = captured.text();
    let told = |line: &&str| line.contains("call failed: the gateway is stopping");
    let told: Vec<_> = log.lines().filter(told).collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(told.iter().all(|line| line.contains("DEBUG")), "{told:?}");
}
