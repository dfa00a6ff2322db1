//! `ManagedSubscribe` as a client sees it.

mod changes;
mod commits;
mod credit;
mod filters;
mod model;
mod places;
mod refusals;
mod sharing;
mod sharing_model;
mod starts;

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::gateway::{Gateway, Settings, call_by};
use crate::{
    broker::{
        self, ManagedConfig, ManagedKey, NewManaged,
        tests::engines::{ORDERS, principal},
    },
    event_log,
    proto::{
        CommitReplayRequest, CommitReplayResponse, ConsumerEvent, ErrorCode, ManagedFetchRequest,
        raw,
    },
    types::{Position, Replay, ReplayId, RunState, Takeover},
};

const NAME: &str = "Fulfilment";

/// A managed subscription of orders, from the earliest on.
fn fulfilment() -> NewManaged {
    NewManaged {
        developer_name: NAME.into(),
        label: String::new(),
        topic: ORDERS.into(),
        default_replay: Replay::Earliest,
        error_recovery_replay: Replay::Earliest,
        state: RunState::Run,
        takeover: Takeover::Refuse,
        filter: String::new(),
        sharing: None,
    }
}

impl Gateway {
    /// A gateway that keeps events for this long.
    async fn retaining(retention: Duration) -> Self {
        Self::with(Settings {
            log: event_log::Config {
                retention,
                ..event_log::Config::default()
            },
            ..Settings::default()
        })
        .await
    }

    /// A gateway whose managed subscriptions have to commit within this time.
    async fn committing_within(timeout: Duration) -> Self {
        Self::with(Settings {
            broker: broker::Config {
                managed_no_commit_timeout: Some(timeout),
                ..broker::Config::default()
            },
            ..Settings::default()
        })
        .await
    }

    /// Makes a managed subscription.
    async fn manage(&self, new: NewManaged) -> ManagedConfig {
        let broker = &self.engines.broker;
        broker.create_managed(&principal(), new).await.unwrap()
    }

    /// What is committed of the subscription called [`NAME`].
    async fn committed(&self) -> Option<Position> {
        let broker = &self.engines.broker;
        let key = ManagedKey::Name(NAME);
        let found = broker.managed_subscription(&principal(), key).await;
        found.unwrap().committed.map(|(position, _)| position)
    }

    /// Opens a stream of the subscription called [`NAME`].
    async fn managed(&self, requested: i32) -> Managed {
        Managed::open(self, &self.token, first(requested)).await
    }
}

/// A first request for the subscription called [`NAME`].
fn first(requested: i32) -> ManagedFetchRequest {
    ManagedFetchRequest {
        developer_name: NAME.into(),
        num_requested: requested,
        ..ManagedFetchRequest::default()
    }
}

/// A later request that commits.
fn commit(id: &str, replay_id: &[u8]) -> ManagedFetchRequest {
    ManagedFetchRequest {
        commit_replay_id_request: Some(CommitReplayRequest {
            commit_request_id: id.into(),
            replay_id: Bytes::copy_from_slice(replay_id),
        }),
        ..ManagedFetchRequest::default()
    }
}

/// The client's side of `ManagedSubscribe`.
struct Managed {
    requests: Option<mpsc::UnboundedSender<ManagedFetchRequest>>,
    responses: Streaming<raw::ManagedFetchResponse>,
}

/// A response, decoded.
#[derive(Debug)]
struct Fetched {
    events: Vec<ConsumerEvent>,
    latest: Position,
    pending: i32,
    commit: Option<CommitReplayResponse>,
}

impl Fetched {
    /// The id of each event.
    fn ids(&self) -> Vec<&str> {
        let events = self.events.iter();
        events
            .map(|event| &*event.event.as_ref().unwrap().id)
            .collect()
    }

    /// The position of each event.
    fn positions(&self) -> Vec<Position> {
        let events = self.events.iter();
        events
            .map(|event| ReplayId::parse(&event.replay_id).unwrap())
            .collect()
    }

    /// Holds this to be the good answer to the commit called `id`.
    #[track_caller]
    fn expect_commit(&self, id: &str) -> &CommitReplayResponse {
        let commit = self.commit.as_ref().expect("an answer to a commit");
        assert_eq!((&*commit.commit_request_id, &commit.error), (id, &None));
        commit
    }

    /// Holds this to be an answer that refuses the commit called `id`, and returns why.
    #[track_caller]
    fn expect_refusal(&self, id: &str) -> &str {
        let commit = self.commit.as_ref().expect("an answer to a commit");
        let error = commit.error.as_ref().expect("an error");
        assert_eq!(&*commit.commit_request_id, id);
        assert_eq!(error.code(), ErrorCode::Commit);
        &error.msg
    }
}

impl Managed {
    async fn open(gateway: &Gateway, token: &str, first: ManagedFetchRequest) -> Self {
        Self::open_with(gateway, token, Some(first)).await
    }

    async fn open_with(gateway: &Gateway, token: &str, first: Option<ManagedFetchRequest>) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        if let Some(first) = first {
            requests.send(first).unwrap();
        }
        let request = call_by(token, UnboundedReceiverStream::new(receiver));
        let response = gateway.client.clone().managed_subscribe(request).await;
        Self {
            requests: Some(requests),
            responses: response.unwrap().into_inner(),
        }
    }

    fn ask(&self, request: ManagedFetchRequest) {
        let requests = self.requests.as_ref().expect("not half-closed");
        // The gateway may have ended the stream.
        _ = requests.send(request);
    }

    fn ask_for(&self, requested: i32) {
        self.ask(ManagedFetchRequest {
            num_requested: requested,
            ..ManagedFetchRequest::default()
        });
    }

    fn commit(&self, id: &str, position: Position) {
        self.ask(commit(id, position.replay_id().as_bytes()));
    }

    fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response.
    async fn next(&mut self) -> Fetched {
        let response = self.responses.message().await.unwrap();
        let raw::ManagedFetchResponse {
            fetch,
            commit_response,
        } = response.expect("a response, not the end");
        assert_eq!(fetch.rpc_id.len(), 36);
        assert_eq!(fetch.latest_replay_id.len(), ReplayId::LEN);
        let events = fetch.events.values().iter();
        Fetched {
            events: events
                .map(|event| ConsumerEvent::decode(event).unwrap())
                .collect(),
            latest: ReplayId::parse(&fetch.latest_replay_id).unwrap(),
            pending: fetch.pending_num_requested,
            commit: commit_response,
        }
    }

    /// Waits until the stream ends well.
    async fn end(&mut self) {
        let end = self.responses.message().await.unwrap();
        assert!(end.is_none(), "{end:?}");
    }

    /// Waits until the stream fails.
    async fn failure(&mut self) -> Status {
        let response = self.responses.message().await;
        response.expect_err("a failure, not a response")
    }
}
