//! Topics, as far as the caller may use them.

use super::{Admin, managed::subscriber_message, schemas::rules_message};
use crate::{
    broker::TopicDescription,
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    proto::admin::{
        DescribeTopicRequest, ListTopicsResponse, ResolveTimeRequest, ResolveTimeResponse, Topic,
    },
    types::{MomentError, ReplayId},
};

impl Admin {
    pub(super) async fn topics(&self, call: &Call) -> Result<ListTopicsResponse, RpcError> {
        let principal = self.authenticate(call).await?;
        let topics = self.broker.topics(&principal).await?;
        Ok(ListTopicsResponse {
            topics: topics.iter().map(topic_message).collect(),
        })
    }

    pub(super) async fn topic(
        &self,
        call: &Call,
        request: DescribeTopicRequest,
    ) -> Result<Topic, RpcError> {
        let principal = self.authenticate(call).await?;
        let topic = self.broker.topic(&principal, &request.name).await?;
        let subscribers = self.broker.subscribers(&principal, &request.name).await?;
        Ok(Topic {
            subscribers: subscribers.iter().map(subscriber_message).collect(),
            ..topic_message(&topic)
        })
    }

    /// The place of a time in a topic that the caller may subscribe to.
    pub(super) async fn place_of(
        &self,
        call: &Call,
        request: ResolveTimeRequest,
    ) -> Result<ResolveTimeResponse, RpcError> {
        let principal = self.authenticate(call).await?;
        let moment = request.time.parse().map_err(|error: MomentError| {
            kinds::ADMIN_REQUEST_INVALID.error(format!("time: {error}"))
        })?;
        let place = self
            .broker
            .resolve_time(&principal, &request.topic_name, moment);
        let place = place.await?;
        Ok(ResolveTimeResponse {
            replay_id: place.position.replay_id().as_bytes().to_vec().into(),
            next_at_ms: place.next_at.map(|at| at.as_millis()),
        })
    }
}

pub(super) fn topic_message(topic: &TopicDescription) -> Topic {
    let state = &topic.state;
    let replay_id = |id: ReplayId| id.as_bytes().to_vec().into();
    Topic {
        name: topic.event_type.topic().to_string(),
        kind: topic.event_type.topic().kind().as_str().to_owned(),
        schema_id: topic.event_type.current().id().to_string(),
        schema_versions: topic.event_type.versions().len() as u32,
        can_publish: topic.can_publish,
        can_subscribe: topic.can_subscribe,
        event_count: state.ordinal,
        retained_count: state.ordinal.saturating_sub(state.trim_ordinal),
        latest_replay_id: if state.ordinal == 0 {
            Default::default()
        } else {
            replay_id(state.last.replay_id())
        },
        earliest_replay_id: replay_id(state.earliest().replay_id()),
        validation: if topic.event_type.validates() {
            "on"
        } else {
            "off"
        }
        .to_owned(),
        idempotent: match topic.event_type.idempotent() {
            Some(true) => "on",
            Some(false) => "off",
            None => "default",
        }
        .to_owned(),
        is_idempotent: topic.is_idempotent,
        retention_ms: state.retention.map_or(0, |kept| kept.as_millis() as u64),
        subscribers: Vec::new(),
        rules: Some(rules_message(
            &topic.rules,
            topic.event_type.topic().as_str(),
        )),
    }
}
