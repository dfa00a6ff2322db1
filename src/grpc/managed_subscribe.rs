//! `ManagedSubscribe`: the stream of fetch and commit requests against the stream of deliveries and
//! answers.
//!
//! Source: the public Pub/Sub API Developer Guide, "ManagedSubscribe RPC Method".

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Status, Streaming};

use super::{
    Call, PubSub, convert,
    rate::RequestRate,
    responder::Responder,
    status::{RpcError, kinds},
    subscribe::stopping,
};
use crate::{
    auth::{AuthError, Vigil},
    broker::{ManagedDelivery, ManagedEnd, ManagedKey, ManagedSubscription},
    proto::{
        CommitReplayRequest, ManagedFetchRequest,
        raw::{FetchResponse, ManagedFetchResponse},
    },
    types::{PlatformId, Principal},
};

/// What answers one stream, and among how many streams its subscription is shared, if it is and the
/// client asks.
pub(super) async fn responder(
    service: PubSub,
    call: Call,
    request: Request<Streaming<ManagedFetchRequest>>,
) -> (ManagedResponder, Option<u32>) {
    let rpc_id = Bytes::copy_from_slice(call.rpc_id().as_str().as_bytes());
    let rate = RequestRate::new(service.config.fetch_requests_per_second_max);
    let vigil = Vigil::new(Arc::clone(&service.authenticator));
    let mut responder = ManagedResponder {
        service,
        call,
        rpc_id,
        requests: request.into_inner(),
        flow: None,
        refusal: None,
        half_closed: false,
        rate,
        vigil,
    };
    // Which subscription it is says the first request. Clients that do not ask may wait for the headers
    // before they send it.
    let sharing = match responder.call.asks_for_sharing() {
        true => responder.begin_early().await,
        false => None,
    };
    (responder, sharing)
}

/// One ManagedSubscribe stream.
pub(super) struct ManagedResponder {
    service: PubSub,
    call: Call,
    rpc_id: Bytes,
    requests: Streaming<ManagedFetchRequest>,
    /// Set by the first request.
    flow: Option<Flow>,
    /// Why it did not begin, if it was to before its first response.
    refusal: Option<Option<RpcError>>,
    half_closed: bool,
    rate: RequestRate,
    vigil: Vigil,
}

struct Flow {
    principal: Principal,
    subscription: ManagedSubscription,
}

/// What a responder waits for.
enum Event {
    Request(Result<Option<ManagedFetchRequest>, Status>),
    Delivery(Result<ManagedDelivery, ManagedEnd>),
    Revoked(AuthError),
    ShuttingDown,
}

impl Responder for ManagedResponder {
    type Response = ManagedFetchResponse;

    fn call(&self) -> &Call {
        &self.call
    }

    /// The next response; `None` at the end of a stream that the client half-closed, once its commits
    /// are answered. The public Java client closes so, and waits for that end.
    async fn next(&mut self) -> Result<Option<ManagedFetchResponse>, Option<RpcError>> {
        if let Some(refusal) = self.refusal.take() {
            return Err(refusal);
        }
        if self.flow.is_none() && !self.begin().await? {
            return Ok(None);
        }
        let flow = self.flow.as_mut().expect("begun above");
        loop {
            if self.half_closed {
                let answer = tokio::select! {
                    biased;
                    () = self.service.shutdown.recv() => return Err(Some(stopping())),
                    answer = flow.subscription.next_answer() => answer,
                };
                let delivery = answer.map(ManagedDelivery::Commit);
                return Ok(delivery.map(|delivery| flow.response(&self.rpc_id, delivery)));
            }
            let event = tokio::select! {
                // Requests first: they bring credit and commits, and a client that sends too many of
                // them is stopped by the rate.
                biased;
                () = self.service.shutdown.recv() => Event::ShuttingDown,
                request = self.requests.message() => Event::Request(request),
                why = self.vigil.revoked(&flow.principal) => Event::Revoked(why),
                delivery = flow.subscription.next() => Event::Delivery(delivery),
            };
            match event {
                Event::Delivery(Ok(delivery)) => {
                    return Ok(Some(flow.response(&self.rpc_id, delivery)));
                }
                Event::Delivery(Err(end)) => return Err(Some(end.into())),
                Event::Request(Ok(Some(request))) => {
                    self.rate.count()?;
                    flow.check(&request)?;
                    if !request.auth_refresh.is_empty() {
                        let token = &request.auth_refresh;
                        let principal = &flow.principal;
                        let fresh = self.service.refresh(&self.call, principal, token).await?;
                        flow.principal = fresh;
                    }
                    if let Some(refusal) = flow.take(request)? {
                        return Ok(Some(flow.response(&self.rpc_id, refusal)));
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

impl ManagedResponder {
    /// Begins before the first response is asked for, which tells what comes of it. Returns among how many
    /// streams the subscription is shared.
    async fn begin_early(&mut self) -> Option<u32> {
        match self.begin().await {
            Ok(_) => self.flow.as_ref()?.subscription.sharing(),
            Err(refusal) => {
                self.refusal = Some(refusal);
                None
            }
        }
    }

    /// Begins the subscription with the first request; `false` if there is none.
    async fn begin(&mut self) -> Result<bool, Option<RpcError>> {
        let first = self
            .service
            .first_request(&self.call, &mut self.requests)
            .await?;
        let Some((principal, request)) = first else {
            return Ok(false);
        };
        let key = check_first(&request)?;
        let subscriber = self.service.broker.managed_subscriber(&principal, key);
        let subscriber = subscriber.await.map_err(RpcError::from)?;
        let subscriber = subscriber.with_client_name(self.call.known_client_name());
        let subscriber = match self.call.credit_max()? {
            Some(asked) => subscriber.with_extended_credit(asked),
            None => subscriber,
        };
        let subscription = subscriber
            .subscribe(request.num_requested)
            .map_err(RpcError::from)?;
        self.flow = Some(Flow {
            principal,
            subscription,
        });
        Ok(true)
    }
}

/// Which subscription the first request of a stream is about, if it is one that may be the first.
fn check_first(request: &ManagedFetchRequest) -> Result<ManagedKey<'_>, RpcError> {
    let (id, name) = (
        request.subscription_id.as_str(),
        request.developer_name.as_str(),
    );
    let key = match (id.is_empty(), name.is_empty()) {
        (true, false) => ManagedKey::Name(name),
        (false, true) => ManagedKey::Id(id.parse::<PlatformId>().map_err(|error| {
            kinds::MANAGED_ID_INVALID.error(format!("the subscription_id is malformed: {error}"))
        })?),
        _ => {
            return Err(kinds::MANAGED_ID_OR_NAME_EMPTY.error(
                "the first request names the managed subscription by either subscription_id or \
                 developer_name",
            ));
        }
    };
    if request.commit_replay_id_request.is_some() {
        return Err(kinds::MANAGED_COMMIT_RESTRICTED
            .error("the first request of a stream may not commit: nothing was delivered on it"));
    }
    if !request.auth_refresh.is_empty() {
        return Err(kinds::MANAGED_AUTH_RESTRICTED
            .error("the first request of a stream may not have an auth_refresh"));
    }
    check_requested(request.num_requested, 1)?;
    Ok(key)
}

fn check_requested(found: i32, min: i32) -> Result<(), RpcError> {
    match found >= min {
        true => Ok(()),
        false => Err(kinds::MANAGED_EVENTS_INVALID.error(format!(
            "num_requested is {found}, and has to be at least {min}"
        ))),
    }
}

impl Flow {
    /// Refuses a later request that makes no sense.
    fn check(&self, request: &ManagedFetchRequest) -> Result<(), RpcError> {
        let (id, name) = (&request.subscription_id, &request.developer_name);
        let is_same = (id.is_empty() || id.parse() == Ok(self.subscription.id()))
            && (name.is_empty() || *name == self.subscription.developer_name());
        if !is_same {
            return Err(kinds::MANAGED_REQUEST_INVALID.error(
                "a stream is about the managed subscription of its first request; open another for \
                 another one",
            ));
        }
        check_requested(request.num_requested, 0)?;
        let is_empty = request.num_requested == 0
            && request.commit_replay_id_request.is_none()
            && request.auth_refresh.is_empty();
        if is_empty {
            return Err(kinds::MANAGED_REQUEST_INVALID.error(
                "num_requested is 0, and there is neither a commit nor an auth_refresh: nothing is \
                 asked for",
            ));
        }
        Ok(())
    }

    /// Takes credit and commit of a later request; returns the answer to a commit that is refused.
    fn take(&mut self, request: ManagedFetchRequest) -> Result<Option<ManagedDelivery>, RpcError> {
        if request.num_requested > 0 {
            self.subscription.grant(request.num_requested)?;
        }
        let Some(commit) = request.commit_replay_id_request else {
            return Ok(None);
        };
        let CommitReplayRequest {
            commit_request_id,
            replay_id,
        } = commit;
        let refused = self.subscription.commit(commit_request_id, &replay_id);
        Ok(refused.err().map(|answer| ManagedDelivery::Commit(*answer)))
    }

    /// The response that carries `delivery`. One with an answer alone tells the same credit and
    /// position as the last one: clients read both in every response.
    fn response(&self, rpc_id: &Bytes, delivery: ManagedDelivery) -> ManagedFetchResponse {
        match delivery {
            ManagedDelivery::Events(delivery) => ManagedFetchResponse {
                fetch: convert::fetch_response(rpc_id.clone(), delivery),
                commit_response: None,
            },
            ManagedDelivery::Commit(answer) => {
                let latest = self.subscription.latest().replay_id();
                let pending = i32::try_from(self.subscription.pending());
                ManagedFetchResponse {
                    fetch: FetchResponse {
                        latest_replay_id: Bytes::copy_from_slice(latest.as_bytes()),
                        rpc_id: rpc_id.clone(),
                        pending_num_requested: pending.unwrap_or(i32::MAX),
                        ..FetchResponse::default()
                    },
                    commit_response: Some(convert::commit_response(answer)),
                }
            }
        }
    }
}
