//! What every RPC has: an id, a method, credentials; and the layer that gives it those.
//!
//! The layer also stands behind the RPC library: refusals that the library makes itself (an
//! unknown method, a request that is too large, malformed or in an unknown encoding) get the status,
//! message and trailers of this service.
//!
//! Source: the public Pub/Sub API Developer Guide, "Include Authorization Headers".

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use tonic::{Code, Request, Response, Status};

use super::{
    metrics::{End, Metrics},
    status::{RpcError, kinds},
};
use crate::{
    auth::Credentials,
    filter::Filter,
    proto::{CREDIT_MAX_METADATA, FILTER_METADATA, FROM_METADATA, SHARING_METADATA},
    types::{
        Moment, MomentError, RpcId,
        limits::{CLIENT_NAME_BYTES_MAX, CLIENT_TRACE_ID_BYTES_MAX, FILTER_METADATA_BYTES_MAX},
    },
};

const ACCESS_TOKEN: &str = "accesstoken";
const INSTANCE_URL: &str = "instanceurl";
const TENANT_ID: &str = "tenantid";
const CLIENT_TRACE_ID: &str = "x-client-trace-id";
/// An extension: how a subscriber wants to be called in metrics.
const CLIENT_NAME: &str = "tidegate-client-name";

fn not_encoded() -> RpcError {
    kinds::FETCH_REQUEST_INVALID.error(format!(
        "{FILTER_METADATA} is a filter in percent-encoded UTF-8"
    ))
}

/// Goes with the refusal of an encoding, as the gRPC specification of compression asks.
const ACCEPTED_ENCODINGS: &str = "grpc-accept-encoding";

/// The RPC method a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the service's own")]
pub enum Method {
    Subscribe,
    GetSchema,
    GetTopic,
    Publish,
    PublishStream,
    ManagedSubscribe,
    /// A method of the admin service.
    Admin(&'static str),
    /// A method of another service, or of none.
    Other,
}

impl Method {
    fn of_path(path: &str) -> Self {
        match path.strip_prefix("/eventbus.v1.PubSub/") {
            Some("Subscribe") => Self::Subscribe,
            Some("GetSchema") => Self::GetSchema,
            Some("GetTopic") => Self::GetTopic,
            Some("Publish") => Self::Publish,
            Some("PublishStream") => Self::PublishStream,
            Some("ManagedSubscribe") => Self::ManagedSubscribe,
            Some(_) => Self::Other,
            None => {
                let name = path
                    .strip_prefix("/tidegate.admin.v1.Admin/")
                    .unwrap_or_default();
                let known = ADMIN_METHODS.iter().find(|&&known| known == name);
                known.map_or(Self::Other, |&known| Self::Admin(known))
            }
        }
    }

    /// The method's own name; empty for a method that is not one of ours.
    pub fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "Subscribe",
            Self::GetSchema => "GetSchema",
            Self::GetTopic => "GetTopic",
            Self::Publish => "Publish",
            Self::PublishStream => "PublishStream",
            Self::ManagedSubscribe => "ManagedSubscribe",
            Self::Admin(name) => name,
            Self::Other => "",
        }
    }

    /// The refusal of a request that is not a message of this method.
    fn malformed(self) -> RpcError {
        let kind = match self {
            Self::Subscribe => kinds::FETCH_REQUEST_INVALID,
            Self::GetSchema => kinds::SCHEMA_INVALID,
            Self::GetTopic => kinds::TOPIC_EMPTY,
            Self::Publish | Self::PublishStream => kinds::PUBLISH_COUNT_INVALID,
            Self::ManagedSubscribe => kinds::MANAGED_REQUEST_INVALID,
            Self::Admin(_) => kinds::ADMIN_REQUEST_INVALID,
            Self::Other => kinds::UNIMPLEMENTED,
        };
        kind.error("the request is not a valid message of this method")
    }
}

/// The methods of `proto/tidegate/admin/v1/admin.proto`.
const ADMIN_METHODS: &[&str] = &[
    "ListTopics",
    "DescribeTopic",
    "ResolveTime",
    "DeleteTopic",
    "SetTopic",
    "EraseEvents",
    "ConfirmRetention",
    "ListSchemas",
    "RegisterSchema",
    "CheckSchema",
    "DescribeSchema",
    "RetireSchema",
    "DescribeSchemaRules",
    "SetSchemaRules",
    "CreateToken",
    "ListTokens",
    "RevokeToken",
    "Backup",
    "CreateManagedSubscription",
    "ListManagedSubscriptions",
    "UpdateManagedSubscription",
    "DeleteManagedSubscription",
    "ReleaseManagedSubscription",
    "CreateChannel",
    "ListChannels",
    "UpdateChannel",
    "AddChannelMember",
    "RemoveChannelMember",
    "DeleteChannel",
    "ApplyChannels",
    "CreateClient",
    "ListClients",
    "DeleteClient",
    "CreateUser",
    "ListUsers",
    "DeleteUser",
];

/// One RPC, as all that answer it know it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Call(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rpc_id: RpcId,
    method: Method,
    client_trace_id: String,
    access_token: Header,
    instance_url: Header,
    tenant_id: Header,
    client_name: Header,
    credit_max: Header,
    filter: Header,
    from: Header,
    asks_for_sharing: bool,
    metrics: Metrics,
    /// Whether the end was counted already: what is dropped before that was cancelled.
    end_counted: AtomicBool,
}

/// One header of a call.
#[derive(Clone, PartialEq, Eq)]
enum Header {
    Absent,
    /// Present more than once, or not printable ASCII.
    Unusable(&'static str),
    Value(String),
}

/// Header values are secrets or a peer's text.
impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Unusable(_) => "Unusable",
            Self::Value(_) => "Value(***)",
        })
    }
}

impl Header {
    fn of(headers: &HeaderMap, name: &str) -> Self {
        let mut values = headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Self::Absent;
        };
        if values.next().is_some() {
            return Self::Unusable("is there more than once");
        }
        match value.to_str() {
            Ok(text) => Self::Value(text.trim().to_owned()),
            Err(_) => Self::Unusable("is not printable ASCII"),
        }
    }

    fn required(&self, name: &str) -> Result<&str, RpcError> {
        let problem = match self {
            Self::Value(value) if !value.is_empty() => return Ok(value),
            Self::Value(_) => "is blank",
            Self::Absent => "is missing",
            Self::Unusable(problem) => problem,
        };
        Err(kinds::AUTH_HEADERS_INVALID.error(format!("the header {name} {problem}")))
    }
}

impl Call {
    /// The call that `request` belongs to.
    ///
    /// # Panics
    ///
    /// If the request did not come through [`CallLayer`], which every service is wrapped in.
    pub fn of<T>(request: &Request<T>) -> Self {
        request
            .extensions()
            .get::<Self>()
            .expect("the layer adds it to every request")
            .clone()
    }

    fn new(path: &str, headers: &HeaderMap, metrics: Metrics) -> Self {
        let method = Method::of_path(path);
        metrics.began(method);
        let trace_id = headers
            .get(CLIENT_TRACE_ID)
            .and_then(|value| value.to_str().ok());
        let trace_id = trace_id.unwrap_or_default();
        Self(Arc::new(Inner {
            rpc_id: RpcId::random(),
            method,
            client_trace_id: trace_id[..trace_id.len().min(CLIENT_TRACE_ID_BYTES_MAX)].to_owned(),
            access_token: Header::of(headers, ACCESS_TOKEN),
            instance_url: Header::of(headers, INSTANCE_URL),
            tenant_id: Header::of(headers, TENANT_ID),
            client_name: Header::of(headers, CLIENT_NAME),
            credit_max: Header::of(headers, CREDIT_MAX_METADATA),
            filter: Header::of(headers, FILTER_METADATA),
            from: Header::of(headers, FROM_METADATA),
            asks_for_sharing: headers.contains_key(SHARING_METADATA),
            metrics,
            end_counted: AtomicBool::new(false),
        }))
    }

    /// The id of this execution of the RPC.
    pub fn rpc_id(&self) -> RpcId {
        self.0.rpc_id
    }

    /// The method called.
    pub fn method(&self) -> Method {
        self.0.method
    }

    /// What the client calls this RPC in its own log; empty if it does not say.
    pub fn client_trace_id(&self) -> &str {
        &self.0.client_trace_id
    }

    /// What the caller identifies itself with.
    ///
    /// # Errors
    ///
    /// An [`RpcError`] that names the header that is missing, blank or unusable.
    pub fn credentials(&self) -> Result<Credentials<'_>, RpcError> {
        Ok(Credentials {
            access_token: self.0.access_token.required(ACCESS_TOKEN)?,
            instance_url: self.0.instance_url.required(INSTANCE_URL)?,
            tenant_id: self.0.tenant_id.required(TENANT_ID)?,
        })
    }

    /// What the client calls itself, if it does: for calls that do without it, so a name that is none is
    /// no reason to refuse them.
    pub(super) fn known_client_name(&self) -> Option<&str> {
        self.client_name().ok().flatten()
    }

    /// How the subscriber wants to be called in metrics, if it says.
    ///
    /// # Errors
    ///
    /// An [`RpcError`] for a name that is blank or too long.
    pub fn client_name(&self) -> Result<Option<&str>, RpcError> {
        match &self.0.client_name {
            Header::Absent => Ok(None),
            Header::Value(name) if (1..=CLIENT_NAME_BYTES_MAX).contains(&name.len()) => {
                Ok(Some(name))
            }
            Header::Value(_) | Header::Unusable(_) => Err(kinds::FETCH_REQUEST_INVALID.error(
                format!("{CLIENT_NAME} is 1 to {CLIENT_NAME_BYTES_MAX} printable ASCII characters"),
            )),
        }
    }

    /// How much credit the subscriber would like to be able to have, if it says.
    ///
    /// # Errors
    ///
    /// An [`RpcError`] for anything but a number from 1 on.
    pub fn credit_max(&self) -> Result<Option<u32>, RpcError> {
        let value = match &self.0.credit_max {
            Header::Absent => return Ok(None),
            Header::Value(value) => value.parse().ok().filter(|&events| events > 0),
            Header::Unusable(_) => None,
        };
        match value {
            Some(events) => Ok(Some(events)),
            None => Err(kinds::FETCH_REQUEST_INVALID.error(format!(
                "{CREDIT_MAX_METADATA} is a number from 1 to {}",
                u32::MAX
            ))),
        }
    }

    /// The filter that the subscriber wants its events to match, if it says: one that can be read,
    /// whether it fits the topic or not.
    ///
    /// # Errors
    ///
    /// An [`RpcError`] that names the character which is wrong.
    pub fn filter(&self) -> Result<Option<Filter>, RpcError> {
        let encoded = match &self.0.filter {
            Header::Absent => return Ok(None),
            Header::Value(encoded) if encoded.len() <= FILTER_METADATA_BYTES_MAX => encoded,
            Header::Value(encoded) => {
                let found = encoded.len();
                return Err(kinds::FETCH_REQUEST_INVALID.error(format!(
                    "{FILTER_METADATA} has at most {FILTER_METADATA_BYTES_MAX} bytes as it is encoded, \
                     found {found}; longer filters are for channels and managed subscriptions"
                )));
            }
            Header::Unusable(_) => return Err(not_encoded()),
        };
        let text = percent_decode_str(encoded).decode_utf8();
        let text = text.map_err(|_| not_encoded())?;
        text.parse().map(Some).map_err(RpcError::from)
    }

    /// The time that the subscription is to start at, if it says. Of `Subscribe` alone: where a managed
    /// subscription goes on is the gateway's to know.
    ///
    /// # Errors
    ///
    /// An [`RpcError`] for what is no time.
    pub fn from_time(&self) -> Result<Option<Moment>, RpcError> {
        let moment = match &self.0.from {
            _ if self.method() != Method::Subscribe => return Ok(None),
            Header::Absent => return Ok(None),
            Header::Value(text) => text.parse().map_err(|error: MomentError| error.to_string()),
            Header::Unusable(problem) => Err(format!("it {problem}")),
        };
        let refused = |why| kinds::FETCH_REQUEST_INVALID.error(format!("{FROM_METADATA}: {why}"));
        moment.map(Some).map_err(refused)
    }

    /// Whether the client wants to be told how its managed subscription is shared.
    pub fn asks_for_sharing(&self) -> bool {
        self.0.asks_for_sharing
    }

    /// Adds to the response's headers which extensions were understood, and how much credit is
    /// granted to a subscriber that asked for some.
    pub(super) fn with_echoes<T>(
        &self,
        mut response: Response<T>,
        granted: impl FnOnce(u32) -> u32,
    ) -> Response<T> {
        if let Ok(Some(asked)) = self.credit_max() {
            let granted = granted(asked).into();
            response.metadata_mut().insert(CREDIT_MAX_METADATA, granted);
        }
        // Of a managed subscription the server keeps the filter. One that is refused is known all the
        // same: its subscriber is to be told why, and not that there are no filters.
        let has_filter = self.method() == Method::Subscribe && self.0.filter != Header::Absent;
        let understood = [
            (CLIENT_NAME, matches!(self.client_name(), Ok(Some(_)))),
            (FROM_METADATA, matches!(self.from_time(), Ok(Some(_)))),
            (FILTER_METADATA, has_filter),
        ];
        for (name, _) in understood.into_iter().filter(|(_, is_so)| *is_so) {
            let one = "1".parse().expect("a digit is ASCII");
            response.metadata_mut().insert(name, one);
        }
        response
    }

    /// The answer to a unary call.
    pub fn finish<T>(&self, result: Result<T, RpcError>) -> Result<Response<T>, Status> {
        match result {
            Ok(message) => {
                self.ended(End::Ok);
                Ok(Response::new(message))
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The status that ends a failed call.
    pub fn fail(&self, error: RpcError) -> Status {
        self.ended(End::Failed(error.kind()));
        error.into_status(self)
    }

    /// Counts the call's end, if nothing was counted yet.
    pub(super) fn ended(&self, end: End) {
        if !self.0.end_counted.swap(true, Ordering::Relaxed) {
            self.0.count_end(end);
        }
    }

    /// What a status that the RPC library made means to this service's clients; `None` when the
    /// client is gone and nobody is there to be told.
    pub(super) fn library_error(&self, status: &Status) -> Option<RpcError> {
        Some(match status.code() {
            Code::Unimplemented => kinds::UNIMPLEMENTED.error(if self.method() == Method::Other {
                "the service has no such method"
            } else {
                "the request's encoding is not served; send it uncompressed or as gzip"
            }),
            // The library's own sentence names the bound and the size.
            Code::OutOfRange | Code::ResourceExhausted => {
                kinds::PROTECTION.error(format!("the request is too large: {}", status.message()))
            }
            // The codec's own word for bytes that are no message, and the library's for frames
            // that are none.
            Code::DataLoss | Code::Internal => self.method().malformed().because(status.clone()),
            _ => return None,
        })
    }
}

impl Inner {
    /// Counts an end and logs it, unless it is a failure: those are logged with their status.
    fn count_end(&self, end: End) {
        self.metrics.ended(self.method, end);
        let how = match end {
            End::Ok => "ok",
            End::Cancelled => "cancelled",
            End::Failed(_) => return,
        };
        tracing::debug!(
            rpc_id = %self.rpc_id,
            method = self.method.name(),
            client_trace_id = self.client_trace_id,
            "call ended: {how}"
        );
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.end_counted.get_mut() {
            self.count_end(End::Cancelled);
        }
    }
}

/// Gives each request its [`Call`], and the library's own refusals the service's trailers.
#[derive(Clone, Debug)]
pub struct CallLayer(Metrics);

impl CallLayer {
    /// A layer that counts calls in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self(metrics)
    }
}

impl<S> tower::Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// The service that [`CallLayer`] makes.
#[derive(Clone, Debug)]
pub struct CallService<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B, R> tower::Service<http::Request<B>> for CallService<S>
where
    S: tower::Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let call = Call::new(
            request.uri().path(),
            request.headers(),
            self.metrics.clone(),
        );
        request.extensions_mut().insert(call.clone());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            // A status in the headers ends the call; without an id it is not one of ours.
            let headers = response.headers();
            if headers.contains_key("rpc-id") {
                return Ok(response);
            }
            let failure = Status::from_header_map(headers).filter(|it| it.code() != Code::Ok);
            let code = failure.as_ref().map(Status::code);
            if call.method() == Method::Other && code != Some(Code::Unimplemented) {
                // Health checks and reflection answer in their own words.
                call.ended(End::Ok);
                return Ok(response);
            }
            let Some(status) = failure else {
                return Ok(response);
            };
            let error = call.library_error(&status);
            let error =
                error.unwrap_or_else(|| kinds::OUTAGE.error("the call failed").because(status));
            let accepted = response.headers().get(ACCEPTED_ENCODINGS).cloned();
            let mut refusal = call.fail(error).into_http();
            if let Some(accepted) = accepted {
                refusal.headers_mut().insert(ACCEPTED_ENCODINGS, accepted);
            }
            Ok(refusal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_admin_service_has_its_name() {
        const PROTO: &str = include_str!("../../proto/tidegate/admin/v1/admin.proto");
        let methods = PROTO.lines().filter_map(|line| {
            let (name, _) = line.trim().strip_prefix("rpc ")?.split_once(' ')?;
            Some(name)
        });
        let methods: Vec<_> = methods.collect();
        assert!(methods.len() > 10, "{methods:?}");
        for name in methods {
            let method = Method::of_path(&format!("/tidegate.admin.v1.Admin/{name}"));
            assert_eq!(method.name(), name);
        }
    }
}
