//! `PublishStream`: any number of requests, one response for each, in order.
//!
//! Several requests are under way at once, so that one sync covers many; responses leave in the
//! order of the requests. While the log's queue is full no further request is read, and HTTP/2 flow
//! control holds the client back.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream::FuturesOrdered};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::{
    Call, PubSub, convert,
    publish::refresh_in_first_request,
    responder::{self, Responder},
    status::{RpcError, kinds},
};
use crate::{
    auth::{AuthError, Vigil},
    broker::{PendingPublish, PublishError, Published, Publisher},
    proto::raw::{PublishRequest, PublishResponse},
    types::{Principal, limits::PUBLISH_STREAM_PIPELINE_MAX},
};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The responses to one stream of requests.
pub(super) fn responses(
    service: PubSub,
    call: Call,
    requests: Streaming<PublishRequest>,
) -> impl Stream<Item = Result<PublishResponse, Status>> {
    let responder = PublishResponder {
        vigil: Vigil::new(Arc::clone(&service.authenticator)),
        idle_limit: service.config.publish_stream_idle,
        service,
        call,
        requests,
        principal: None,
        publishing: None,
        appending: None,
        pending: FuturesOrdered::new(),
        reading: Reading::Open,
        active_at: Instant::now(),
    };
    responder::responses(responder)
}

/// One publish stream.
struct PublishResponder {
    service: PubSub,
    call: Call,
    requests: Streaming<PublishRequest>,
    /// Who opened the stream; asked before anything is read.
    principal: Option<Principal>,
    /// Who publishes to what; set by the first request.
    publishing: Option<Publishing>,
    /// The request that waits for room in the log's queue. None is read meanwhile.
    appending: Option<BoxFuture<Result<PendingPublish, PublishError>>>,
    /// Requests that are queued, in order; at most [`PUBLISH_STREAM_PIPELINE_MAX`].
    pending: FuturesOrdered<BoxFuture<Result<Published, PublishError>>>,
    reading: Reading,
    idle_limit: Option<Duration>,
    /// When the last request with events was answered.
    active_at: Instant,
    vigil: Vigil,
}

struct Publishing {
    principal: Principal,
    publisher: Publisher,
    /// The topic's name as the first request spelled it.
    topic_name: String,
}

/// Whether more requests are read, and how the stream ends once those read are answered.
enum Reading {
    Open,
    /// The client half-closed.
    Closed,
    /// `None` when the client is gone.
    Failed(Option<RpcError>),
}

/// What a responder waits for.
enum Event {
    Request(Result<Option<PublishRequest>, Status>),
    Queued(Result<PendingPublish, PublishError>),
    Settled(Result<Published, PublishError>),
    Idle(Duration),
    Revoked(AuthError),
    ShuttingDown,
}

impl Publishing {
    fn check_topic(&self, request: &PublishRequest) -> Result<(), RpcError> {
        if request.topic_name.is_empty() || request.topic_name == self.topic_name {
            return Ok(());
        }
        Err(kinds::PUBLISH_TOPIC_MISMATCH.error(
            "a stream is about the topic of its first request; open another for another topic",
        ))
    }
}

impl Responder for PublishResponder {
    type Response = PublishResponse;

    fn call(&self) -> &Call {
        &self.call
    }

    /// The next response; `None` at the end of a stream that the client half-closed. An error ends
    /// the stream after all that was read before it is answered.
    async fn next(&mut self) -> Result<Option<PublishResponse>, Option<RpcError>> {
        if self.principal.is_none() {
            let caller = self
                .service
                .authenticate_stream(&self.call, &mut self.requests)
                .await?;
            self.principal = Some(caller);
        }
        loop {
            if self.appending.is_none() && self.pending.is_empty() {
                match std::mem::replace(&mut self.reading, Reading::Open) {
                    Reading::Open => {}
                    Reading::Closed => return Ok(None),
                    Reading::Failed(error) => return Err(error),
                }
            }
            match self.wait().await {
                Event::Settled(Ok(published)) => {
                    // Time that the log took is not the client's.
                    if published.outcomes().len() > 0 {
                        self.active_at = Instant::now();
                    }
                    return Ok(Some(convert::publish_response(&self.call, &published)));
                }
                Event::Settled(Err(error)) => return Err(Some(error.into())),
                Event::Queued(Ok(pending)) => {
                    self.appending = None;
                    self.pending.push_back(Box::pin(pending.outcome()));
                }
                Event::Queued(Err(error)) => {
                    self.appending = None;
                    self.reading = Reading::Failed(Some(error.into()));
                }
                Event::Request(Ok(Some(request))) => {
                    if let Err(error) = self.take(request).await {
                        self.reading = Reading::Failed(Some(error));
                    }
                }
                Event::Request(Ok(None)) => self.reading = Reading::Closed,
                Event::Request(Err(status)) => {
                    self.reading = Reading::Failed(self.call.library_error(&status));
                }
                Event::Idle(limit) => {
                    self.reading = Reading::Failed(Some(kinds::PUBLISH_IDLE.error(format!(
                        "no events were published on this stream for {limit:?}"
                    ))));
                }
                Event::Revoked(why) => self.reading = Reading::Failed(Some(why.into())),
                Event::ShuttingDown => {
                    let error = kinds::UNAVAILABLE.error("the gateway is stopping");
                    self.reading = Reading::Failed(Some(error.planned()));
                }
            }
        }
    }
}

impl PublishResponder {
    async fn wait(&mut self) -> Event {
        let reads = matches!(self.reading, Reading::Open);
        let has_room = self.appending.is_none() && self.pending.len() < PUBLISH_STREAM_PIPELINE_MAX;
        let is_idle = self.appending.is_none() && self.pending.is_empty();
        let caller = match &self.publishing {
            Some(publishing) => Some(&publishing.principal),
            None => self.principal.as_ref(),
        };
        let caller = caller.expect("it is known before anything is waited for");
        tokio::select! {
            // Answers first: they free memory. Then what is read already; a new request last.
            biased;
            Some(settled) = self.pending.next(), if !self.pending.is_empty() => {
                Event::Settled(settled)
            }
            queued = async { self.appending.as_mut().expect("the branch is off without one").await },
                if self.appending.is_some() => Event::Queued(queued),
            () = self.service.shutdown.recv(), if reads => Event::ShuttingDown,
            why = self.vigil.revoked(caller), if reads => Event::Revoked(why),
            request = self.requests.message(), if reads && has_room => Event::Request(request),
            limit = idle(self.active_at, self.idle_limit), if reads && is_idle => {
                Event::Idle(limit)
            }
        }
    }

    /// Checks a request and hands its events on.
    async fn take(&mut self, request: PublishRequest) -> Result<(), RpcError> {
        let publishing = match &mut self.publishing {
            Some(publishing) => {
                publishing.check_topic(&request)?;
                if !request.auth_refresh.is_empty() {
                    let token = &request.auth_refresh;
                    let principal = &publishing.principal;
                    publishing.principal =
                        self.service.refresh(&self.call, principal, token).await?;
                    if request.events.values().is_empty() {
                        // Every request has a response, one without events an empty one.
                        let batch = publishing.publisher.batch(0, 0)?;
                        self.appending = Some(Box::pin(batch.append()));
                        return Ok(());
                    }
                }
                publishing
            }
            None => {
                let principal = self
                    .principal
                    .clone()
                    .expect("known before the first request");
                if !request.auth_refresh.is_empty() {
                    return Err(refresh_in_first_request());
                }
                let publisher = self
                    .service
                    .broker
                    .publisher(
                        &principal,
                        self.call.known_client_name(),
                        &request.topic_name,
                    )
                    .await?;
                let topic_name = request.topic_name.clone();
                self.publishing.insert(Publishing {
                    principal,
                    publisher,
                    topic_name,
                })
            }
        };
        let batch = convert::batch(&publishing.publisher, &request)?;
        self.appending = Some(Box::pin(batch.append()));
        Ok(())
    }
}

/// Waits until `limit` has passed since `active_at`, and returns it; for ever without a limit.
async fn idle(active_at: Instant, limit: Option<Duration>) -> Duration {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    tokio::time::sleep_until(active_at + limit).await;
    limit
}
