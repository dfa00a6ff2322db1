//! `Subscribe`: the stream of fetch requests against the stream of deliveries.
//!
//! Source: the public Pub/Sub API Developer Guide, "Subscribe RPC Method" and "Pull Subscription and
//! Flow Control".

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tonic::{Status, Streaming};

use super::{
    Call, PubSub, convert,
    rate::RequestRate,
    responder::{self, Responder},
    status::{RpcError, kinds},
};
use crate::{
    auth::{AuthError, Vigil},
    broker::{Delivery, Subscription, SubscriptionEnd},
    proto::{FetchRequest, raw::FetchResponse},
    types::{Principal, Start},
};

/// The responses of one subscription.
pub(super) fn responses(
    service: PubSub,
    call: Call,
    requests: Streaming<FetchRequest>,
) -> impl Stream<Item = Result<FetchResponse, Status>> {
    let rpc_id = Bytes::copy_from_slice(call.rpc_id().as_str().as_bytes());
    let rate = RequestRate::new(service.config.fetch_requests_per_second_max);
    let vigil = Vigil::new(Arc::clone(&service.authenticator));
    let responder = FetchResponder {
        service,
        call,
        rpc_id,
        requests,
        flow: None,
        half_closed: false,
        rate,
        vigil,
    };
    responder::responses(responder)
}

/// One Subscribe stream.
struct FetchResponder {
    service: PubSub,
    call: Call,
    rpc_id: Bytes,
    requests: Streaming<FetchRequest>,
    /// Set by the first request.
    flow: Option<Flow>,
    half_closed: bool,
    rate: RequestRate,
    vigil: Vigil,
}

struct Flow {
    principal: Principal,
    /// The topic's name as the first request spelled it.
    topic_name: String,
    subscription: Subscription,
}

/// What a responder waits for.
enum Event {
    Request(Result<Option<FetchRequest>, Status>),
    Delivery(Result<Delivery, SubscriptionEnd>),
    Revoked(AuthError),
    ShuttingDown,
}

impl Responder for FetchResponder {
    type Response = FetchResponse;

    fn call(&self) -> &Call {
        &self.call
    }

    /// The next response; `None` at the end of a stream that the client half-closed. Without that
    /// a stream never ends well: clients take it for the end of the topic and do not come back.
    async fn next(&mut self) -> Result<Option<FetchResponse>, Option<RpcError>> {
        if self.flow.is_none() && !self.begin().await? {
            return Ok(None);
        }
        let flow = self.flow.as_mut().expect("begun above");
        loop {
            if self.half_closed && flow.subscription.pending() == 0 {
                return Ok(None);
            }
            let event = tokio::select! {
                // Requests first: they only add credit, and a client that sends too many of them
                // is stopped by the rate.
                biased;
                () = self.service.shutdown.recv() => Event::ShuttingDown,
                request = self.requests.message(), if !self.half_closed => Event::Request(request),
                why = self.vigil.revoked(&flow.principal) => Event::Revoked(why),
                delivery = flow.subscription.next() => Event::Delivery(delivery),
            };
            match event {
                Event::Delivery(Ok(delivery)) => {
                    return Ok(Some(convert::fetch_response(self.rpc_id.clone(), delivery)));
                }
                Event::Delivery(Err(end)) => return Err(Some(end.into())),
                Event::Request(Ok(Some(request))) => {
                    self.rate.count()?;
                    let fresh = flow.take(&request)?;
                    if let Some(token) = fresh {
                        let refreshed = self
                            .service
                            .refresh(&self.call, &flow.principal, token)
                            .await?;
                        flow.subscription.set_principal(&refreshed);
                        flow.principal = refreshed;
                    }
                }
                Event::Request(Ok(None)) => self.half_closed = true,
                Event::Request(Err(status)) => return Err(self.call.library_error(&status)),
                Event::Revoked(why) => return Err(Some(why.into())),
                Event::ShuttingDown => return Err(Some(stopping())),
            }
        }
    }
}

impl FetchResponder {
    /// Begins the subscription with the first request; `false` if there is none.
    async fn begin(&mut self) -> Result<bool, Option<RpcError>> {
        let first = self
            .service
            .first_request(&self.call, &mut self.requests)
            .await?;
        let Some((principal, request)) = first else {
            return Ok(false);
        };
        let principal = if request.auth_refresh.is_empty() {
            principal
        } else {
            self.service
                .refresh(&self.call, &principal, &request.auth_refresh)
                .await?
        };
        // Topic and right, then the filter, the position, the credit: the first that fails is told.
        let subscriber = self
            .service
            .broker
            .subscriber(&principal, &request.topic_name);
        let subscriber = subscriber.await.map_err(RpcError::from)?;
        let client_name = self.call.client_name()?;
        let subscriber = match self.call.credit_max()? {
            Some(asked) => subscriber.with_extended_credit(asked),
            None => subscriber,
        };
        let subscriber = match self.call.filter()? {
            Some(filter) => subscriber.with_filter(filter).map_err(RpcError::from)?,
            None => subscriber,
        };
        let start = match (convert::start(&request)?, self.call.from_time()?) {
            // A client that comes back with the last id it has keeps its place.
            (start @ Start::After(_), _) | (start, None) => start,
            (_, Some(moment)) => {
                let position = subscriber.position_at(moment).await;
                Start::After(position.map_err(RpcError::from)?)
            }
        };
        let subscription = subscriber
            .subscribe(start, request.num_requested, client_name)
            .map_err(RpcError::from)?;
        self.flow = Some(Flow {
            principal,
            topic_name: request.topic_name,
            subscription,
        });
        Ok(true)
    }
}

impl Flow {
    /// Takes a later request: adds its credit and returns a fresh token that it carries.
    fn take<'a>(&mut self, request: &'a FetchRequest) -> Result<Option<&'a str>, RpcError> {
        if !request.topic_name.is_empty() && request.topic_name != self.topic_name {
            return Err(kinds::FETCH_TOPIC_MISMATCH.error(
                "a stream is about the topic of its first request; open another for another topic",
            ));
        }
        let fresh = Some(request.auth_refresh.as_str()).filter(|token| !token.is_empty());
        match (request.num_requested, fresh) {
            (0, Some(_)) => {}
            (0, None) => {
                return Err(kinds::FETCH_REQUEST_INVALID.error(
                    "num_requested is 0 and there is no auth_refresh: nothing is asked for",
                ));
            }
            (requested, _) => self.subscription.grant(requested)?,
        }
        Ok(fresh)
    }
}

/// The end of a subscription because the gateway stops. Clients resume from their stored replay id
/// after this code; after `service.unavailable` one of them would start at the latest.
pub(super) fn stopping() -> RpcError {
    kinds::SUBSCRIPTION_STOPPING
        .error("the gateway is stopping; resume from the last replay id")
        .planned()
}
