//! The two kinds of streams behind one face: a topic's, and a managed subscription's.

use tonic::Status;

use super::{OpaqueReplayId, Start, SubscribeError, task::LaneTask};
use crate::{
    client::{Connection, ManagedSubscription, Subscription, Wishes},
    proto::{
        FetchRequest, ManagedFetchRequest, ReplayPreset,
        raw::{FetchResponse, ManagedFetchResponse},
    },
    types::TopicName,
};

/// A managed subscription, named one way or the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedKey {
    /// By its developer name.
    Name(String),
    /// By its id, of 15 or 18 characters.
    Id(String),
}

/// What a stream is opened on.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Topic(TopicName),
    Managed(ManagedKey),
}

/// A stream that stands.
#[derive(Debug)]
pub(super) enum Wire {
    Topic(Subscription),
    Managed(ManagedSubscription),
}

/// A response of either kind.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) fetch: FetchResponse,
    /// Why a commit was refused, if one was.
    pub(super) refused_commit: Option<String>,
}

impl Wire {
    /// Opens a stream with wishes, but for where it starts, which `start` says; asks for `credit` events.
    /// A managed subscription has its own filter and place, whatever is wished.
    pub(super) async fn open(
        connection: &Connection,
        source: &Source,
        start: Start,
        credit: u32,
        wishes: Wishes,
    ) -> Result<Self, Status> {
        match source {
            Source::Topic(topic) => {
                let first = first_request(topic, start);
                let wishes = Wishes {
                    from: match start {
                        Start::At(moment) => Some(moment),
                        Start::Latest | Start::Earliest | Start::Behind(_) => None,
                    },
                    ..wishes
                };
                let stream = Subscription::open_with(connection, first, credit, &wishes).await?;
                Ok(Self::Topic(stream))
            }
            Source::Managed(key) => {
                let first = match key.clone() {
                    ManagedKey::Name(name) => ManagedFetchRequest {
                        developer_name: name,
                        ..ManagedFetchRequest::default()
                    },
                    ManagedKey::Id(id) => ManagedFetchRequest {
                        subscription_id: id,
                        ..ManagedFetchRequest::default()
                    },
                };
                let credit_max = wishes.credit_max;
                let stream = ManagedSubscription::open_up_to(connection, first, credit, credit_max);
                let stream = stream.await?;
                Ok(Self::Managed(stream))
            }
        }
    }

    /// What the gateway does not have that `task` needs: events of such a stream are others than those
    /// that are wanted.
    pub(super) fn unserved(&self, task: &LaneTask) -> Option<SubscribeError> {
        let Self::Topic(stream) = self else {
            return None;
        };
        let (granted, topic) = (stream.granted(), || task.lane.topic.clone());
        if matches!(task.next, Start::At(_)) && !granted.from {
            return Some(SubscribeError::TimeNotServed(topic()));
        }
        let is_filtered = task.config.filter.is_some();
        (is_filtered && !granted.filter).then(|| SubscribeError::FilterNotServed(topic()))
    }

    /// Whether the order of events is this stream's own.
    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Topic(_) => false,
            Self::Managed(stream) => stream.is_shared(),
        }
    }

    /// What the stream may have asked for at once, and what it has asked for.
    pub(super) fn credit(&self) -> (u32, u32) {
        match self {
            Self::Topic(stream) => (stream.granted().credit_max, stream.credit()),
            Self::Managed(stream) => (stream.credit_max(), stream.credit()),
        }
    }

    /// Asks for more events. Cancel safe: nothing was asked for then.
    pub(super) async fn ask(&mut self, events: u32) {
        match self {
            Self::Topic(stream) => stream.ask(events).await,
            Self::Managed(stream) => stream.ask(events).await,
        }
    }

    /// The next response; `None` if the gateway ended the stream without an error. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Response>, Status> {
        Ok(match self {
            Self::Topic(stream) => stream.next().await?.map(|fetch| Response {
                fetch,
                refused_commit: None,
            }),
            Self::Managed(stream) => stream.next().await?.map(|response| {
                let ManagedFetchResponse {
                    fetch,
                    commit_response,
                } = response;
                let error = commit_response.and_then(|answer| answer.error);
                Response {
                    fetch,
                    refused_commit: error.map(|error| error.msg),
                }
            }),
        })
    }
}

fn first_request(topic: &TopicName, start: Start) -> FetchRequest {
    let (preset, replay_id) = match &start {
        // Of a gateway that knows no times the stream is given up before it brings anything.
        Start::Latest | Start::At(_) => (ReplayPreset::Latest, &[][..]),
        Start::Earliest => (ReplayPreset::Earliest, &[][..]),
        Start::Behind(id) => (ReplayPreset::Custom, id.as_bytes()),
    };
    FetchRequest {
        topic_name: topic.to_string(),
        replay_preset: preset.into(),
        replay_id: replay_id.to_vec().into(),
        ..FetchRequest::default()
    }
}

/// The bytes of a position as the wire takes them.
pub(super) fn bytes_of(id: OpaqueReplayId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(id.as_bytes())
}
