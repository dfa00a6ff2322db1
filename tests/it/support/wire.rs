//! The messages of `proto/pubsub_api.proto`, written down once more.
//!
//! The gateway's own types would agree with themselves; these are checked against the contract by
//! the stock clients, which read and write the same messages.

use prost::{Enumeration, Message};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TopicRequest {
    #[prost(string, tag = "1")]
    pub(crate) topic_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TopicInfo {
    #[prost(string, tag = "1")]
    pub(crate) topic_name: String,
    #[prost(string, tag = "2")]
    pub(crate) tenant_guid: String,
    #[prost(bool, tag = "3")]
    pub(crate) can_publish: bool,
    #[prost(bool, tag = "4")]
    pub(crate) can_subscribe: bool,
    #[prost(string, tag = "5")]
    pub(crate) schema_id: String,
    #[prost(string, tag = "6")]
    pub(crate) rpc_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SchemaRequest {
    #[prost(string, tag = "1")]
    pub(crate) schema_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SchemaInfo {
    #[prost(string, tag = "1")]
    pub(crate) schema_json: String,
    #[prost(string, tag = "2")]
    pub(crate) schema_id: String,
    #[prost(string, tag = "3")]
    pub(crate) rpc_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EventHeader {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProducerEvent {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) schema_id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) headers: Vec<EventHeader>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConsumerEvent {
    #[prost(message, optional, tag = "1")]
    pub(crate) event: Option<ProducerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) replay_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Error {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) msg: String,
}

/// `ErrorCode.PUBLISH`.
pub(crate) const ERROR_PUBLISH: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublishResult {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) replay_id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<Error>,
    #[prost(string, tag = "3")]
    pub(crate) correlation_key: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublishRequest {
    #[prost(string, tag = "1")]
    pub(crate) topic_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) events: Vec<ProducerEvent>,
    #[prost(string, tag = "3")]
    pub(crate) auth_refresh: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PublishResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) results: Vec<PublishResult>,
    #[prost(string, tag = "2")]
    pub(crate) schema_id: String,
    #[prost(string, tag = "3")]
    pub(crate) rpc_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum ReplayPreset {
    Latest = 0,
    Earliest = 1,
    Custom = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FetchRequest {
    #[prost(string, tag = "1")]
    pub(crate) topic_name: String,
    #[prost(enumeration = "ReplayPreset", tag = "2")]
    pub(crate) replay_preset: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) replay_id: Vec<u8>,
    #[prost(int32, tag = "4")]
    pub(crate) num_requested: i32,
    #[prost(string, tag = "5")]
    pub(crate) auth_refresh: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FetchResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) events: Vec<ConsumerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) latest_replay_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(crate) rpc_id: String,
    #[prost(int32, tag = "4")]
    pub(crate) pending_num_requested: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManagedFetchRequest {
    #[prost(string, tag = "1")]
    pub(crate) subscription_id: String,
    #[prost(string, tag = "2")]
    pub(crate) developer_name: String,
    #[prost(int32, tag = "3")]
    pub(crate) num_requested: i32,
    #[prost(string, tag = "4")]
    pub(crate) auth_refresh: String,
    #[prost(message, optional, tag = "5")]
    pub(crate) commit_replay_id_request: Option<CommitReplayRequest>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommitReplayRequest {
    #[prost(string, tag = "1")]
    pub(crate) commit_request_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) replay_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManagedFetchResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) events: Vec<ConsumerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) latest_replay_id: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(crate) rpc_id: String,
    #[prost(int32, tag = "4")]
    pub(crate) pending_num_requested: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) commit_response: Option<CommitReplayResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CommitReplayResponse {
    #[prost(string, tag = "1")]
    pub(crate) commit_request_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) replay_id: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub(crate) error: Option<Error>,
    #[prost(int64, tag = "4")]
    pub(crate) process_time: i64,
}

impl ManagedFetchRequest {
    /// The first request of a stream of the managed subscription of this name.
    pub(crate) fn first(developer_name: &str, num_requested: i32) -> Self {
        Self {
            developer_name: developer_name.to_owned(),
            num_requested,
            ..Self::default()
        }
    }

    /// A later request that commits `replay_id` and asks for this many events more.
    pub(crate) fn commit(id: &str, replay_id: &[u8], num_requested: i32) -> Self {
        Self {
            num_requested,
            commit_replay_id_request: Some(CommitReplayRequest {
                commit_request_id: id.to_owned(),
                replay_id: replay_id.to_owned(),
            }),
            ..Self::default()
        }
    }
}

impl FetchRequest {
    /// The first request of a subscription from the oldest event on.
    pub(crate) fn earliest(topic: &str, num_requested: i32) -> Self {
        Self::first(topic, ReplayPreset::Earliest, &[], num_requested)
    }

    /// The first request of a subscription to what comes.
    pub(crate) fn latest(topic: &str, num_requested: i32) -> Self {
        Self::first(topic, ReplayPreset::Latest, &[], num_requested)
    }

    /// The first request of a subscription from after `replay_id` on.
    pub(crate) fn custom(topic: &str, replay_id: &[u8], num_requested: i32) -> Self {
        Self::first(topic, ReplayPreset::Custom, replay_id, num_requested)
    }

    /// A later request.
    pub(crate) fn more(num_requested: i32) -> Self {
        Self {
            num_requested,
            ..Self::default()
        }
    }

    fn first(topic: &str, preset: ReplayPreset, replay_id: &[u8], num_requested: i32) -> Self {
        Self {
            topic_name: topic.to_owned(),
            replay_preset: preset.into(),
            replay_id: replay_id.to_vec(),
            num_requested,
            auth_refresh: String::new(),
        }
    }
}

impl PublishRequest {
    /// A request with these events.
    pub(crate) fn new(topic: &str, events: Vec<ProducerEvent>) -> Self {
        Self {
            topic_name: topic.to_owned(),
            events,
            auth_refresh: String::new(),
        }
    }
}
