//! The gRPC edge: the Pub/Sub API as its clients know it.
//!
//! One file for each call, and around them what all calls share: [`call`] (the layer that gives each
//! RPC its id and finds its credentials), [`status`] (the one place where errors become statuses
//! and trailers) and [`convert`] (wire messages to and from the broker's words). Nothing here decides
//! what may be published or read; the broker does.
//!
//! Source: `proto/pubsub_api.proto`; the public Pub/Sub API Developer Guide.

pub mod call;
pub mod convert;
mod lookup;
mod managed_subscribe;
pub mod metrics;
mod publish;
mod publish_stream;
mod rate;
mod responder;
pub mod status;
mod subscribe;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    auth::{Authenticator, Credentials},
    broker::Broker,
    net::shutdown::ShutdownSignal,
    proto::{
        FetchRequest, ManagedFetchRequest, SHARING_METADATA, SchemaInfo, SchemaRequest, TopicInfo,
        TopicRequest, pub_sub_server, raw,
    },
    types::{Principal, limits},
};

pub use call::{Call, CallLayer};
pub use metrics::Metrics;
use status::{RpcError, kinds};

/// Settings of the gRPC edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a refusal waits for a stream's first message.
    pub first_message_wait: Duration,
    /// How long a publish stream may stay without events; `None` for ever.
    pub publish_stream_idle: Option<Duration>,
    /// Fetch requests that one stream may send in any second.
    pub fetch_requests_per_second_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            first_message_wait: limits::FIRST_MESSAGE_WAIT,
            publish_stream_idle: Some(limits::PUBLISH_STREAM_IDLE),
            fetch_requests_per_second_max: limits::FETCH_REQUESTS_PER_SECOND_MAX,
        }
    }
}

/// Answers the six RPCs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PubSub {
    config: Arc<Config>,
    broker: Broker,
    authenticator: Arc<dyn Authenticator>,
    shutdown: ShutdownSignal,
}

/// A stream of responses as the generated trait wants it.
type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl PubSub {
    /// A service over `broker` that ends its streams once `shutdown` begins.
    pub fn new(
        config: Config,
        broker: Broker,
        authenticator: Arc<dyn Authenticator>,
        shutdown: ShutdownSignal,
    ) -> Self {
        Self {
            config: Arc::new(config),
            broker,
            authenticator,
            shutdown,
        }
    }

    /// Who is calling.
    async fn authenticate(&self, call: &Call) -> Result<Principal, RpcError> {
        let credentials = call.credentials()?;
        Ok(self.authenticator.authenticate(&credentials).await?)
    }

    /// Who is calling on a stream.
    ///
    /// A refusal waits for the stream's first message, its half-close, some seconds or the gateway's
    /// stop: some clients report another error when a stream ends before their first message is out.
    async fn authenticate_stream<T>(
        &self,
        call: &Call,
        requests: &mut Streaming<T>,
    ) -> Result<Principal, RpcError> {
        let caller = self.authenticate(call).await;
        if caller.is_err() {
            let mut shutdown = self.shutdown.clone();
            let wait = tokio::time::sleep(self.config.first_message_wait);
            tokio::select! {
                _ = requests.message() => {}
                () = wait => {}
                () = shutdown.recv() => {}
            }
        }
        caller
    }

    /// Finds out who calls a stream and waits for its first request; `None` if there is none.
    async fn first_request<T>(
        &self,
        call: &Call,
        requests: &mut Streaming<T>,
    ) -> Result<Option<(Principal, T)>, Option<RpcError>> {
        let principal = self.authenticate_stream(call, requests).await?;
        let mut shutdown = self.shutdown.clone();
        let request = tokio::select! {
            // A gateway that stops begins nothing.
            biased;
            () = shutdown.recv() => return Err(Some(subscribe::stopping())),
            request = requests.message() => request,
        };
        match request {
            Ok(request) => Ok(request.map(|request| (principal, request))),
            Err(status) => Err(call.library_error(&status)),
        }
    }

    /// Checks a fresh token that a client sent on a stream it opened as `principal`.
    async fn refresh(
        &self,
        call: &Call,
        principal: &Principal,
        token: &str,
    ) -> Result<Principal, RpcError> {
        let credentials = Credentials {
            access_token: token,
            ..call.credentials()?
        };
        match self.authenticator.authenticate(&credentials).await {
            Ok(fresh) if fresh.tenant == principal.tenant => Ok(fresh),
            Ok(_) => {
                Err(kinds::AUTH_REFRESH_INVALID.error("auth_refresh is a token of another tenant"))
            }
            Err(error) => Err(kinds::AUTH_REFRESH_INVALID
                .error("auth_refresh is not a valid access token")
                .because(error)),
        }
    }
}

#[tonic::async_trait]
impl pub_sub_server::PubSub for PubSub {
    type SubscribeStream = ResponseStream<raw::FetchResponse>;
    type PublishStreamStream = ResponseStream<raw::PublishResponse>;
    type ManagedSubscribeStream = ResponseStream<raw::ManagedFetchResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let call = Call::of(&request);
        let responses = subscribe::responses(self.clone(), call.clone(), request.into_inner());
        let response = Response::new(Box::pin(responses) as _);
        Ok(call.with_echoes(response, |asked| self.broker.extended_credit(asked)))
    }

    async fn get_schema(
        &self,
        request: Request<SchemaRequest>,
    ) -> Result<Response<SchemaInfo>, Status> {
        let call = Call::of(&request);
        call.finish(self.schema_info(&call, request.into_inner()).await)
    }

    async fn get_topic(
        &self,
        request: Request<TopicRequest>,
    ) -> Result<Response<TopicInfo>, Status> {
        let call = Call::of(&request);
        call.finish(self.topic_info(&call, request.into_inner()).await)
    }

    async fn publish(
        &self,
        request: Request<raw::PublishRequest>,
    ) -> Result<Response<raw::PublishResponse>, Status> {
        let call = Call::of(&request);
        call.finish(self.publish_once(&call, request.into_inner()).await)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<raw::PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let call = Call::of(&request);
        let responses = publish_stream::responses(self.clone(), call, request.into_inner());
        Ok(Response::new(Box::pin(responses)))
    }

    async fn managed_subscribe(
        &self,
        request: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        let call = Call::of(&request);
        let responder = managed_subscribe::responder(self.clone(), call.clone(), request);
        let (responder, sharing) = responder.await;
        let mut response = Response::new(Box::pin(responder::responses(responder)) as _);
        if let Some(streams) = sharing {
            let metadata = response.metadata_mut();
            metadata.insert(SHARING_METADATA, streams.into());
        }
        Ok(call.with_echoes(response, |asked| self.broker.extended_credit(asked)))
    }
}

#[cfg(test)]
mod tests;
