//! What administrators have removed: topics, single events, and events before their time.

use std::time::Duration;

use super::{Admin, topics::topic_message};
use crate::{
    broker::{Comparison, Selection},
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    proto::admin::{
        ConfirmRetentionResponse, DeleteTopicRequest, DeleteTopicResponse, EraseEventsRequest,
        EraseEventsResponse, SetTopicRequest, Topic,
    },
    types::limits::ERASE_IDS_MAX,
};

impl Admin {
    pub(super) async fn delete(
        &self,
        call: &Call,
        request: DeleteTopicRequest,
    ) -> Result<DeleteTopicResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let topic = self.broker.topic(&principal, &request.name).await?;
        self.broker.delete_topic(&principal, &request.name).await?;
        let state = topic.state;
        Ok(DeleteTopicResponse {
            event_count: state.ordinal.saturating_sub(state.trim_ordinal),
        })
    }

    pub(super) async fn set(
        &self,
        call: &Call,
        request: SetTopicRequest,
    ) -> Result<Topic, RpcError> {
        let principal = self.administrator(call).await?;
        let validates = match request.validation.as_str() {
            "" => None,
            "on" => Some(true),
            "off" => Some(false),
            _ => return Err(kinds::ADMIN_REQUEST_INVALID.error("validation is on or off")),
        };
        let idempotent = match request.idempotent.as_str() {
            "" => None,
            "on" => Some(Some(true)),
            "off" => Some(Some(false)),
            "default" => Some(None),
            _ => {
                let what = "idempotent is on, off or default";
                return Err(kinds::ADMIN_REQUEST_INVALID.error(what));
            }
        };
        // Whoever is not shown the topic does not change it.
        self.broker.topic(&principal, &request.name).await?;
        if let Some(millis) = request.retention_ms {
            let retention = Some(Duration::from_millis(millis)).filter(|kept| !kept.is_zero());
            self.broker
                .set_retention(&principal, &request.name, retention)
                .await?;
        }
        if let Some(validates) = validates {
            self.broker
                .set_validation(&principal, &request.name, validates)
                .await?;
        }
        if let Some(idempotent) = idempotent {
            self.broker
                .set_idempotence(&principal, &request.name, idempotent)
                .await?;
        }
        let topic = self.broker.topic(&principal, &request.name).await?;
        Ok(topic_message(&topic))
    }

    pub(super) async fn erase(
        &self,
        call: &Call,
        request: EraseEventsRequest,
    ) -> Result<EraseEventsResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let (topic, dry_run) = (request.topic_name.clone(), request.dry_run);
        let selection = selection(request)?;
        let done = self
            .broker
            .erase(&principal, &topic, &selection, dry_run)
            .await?;
        Ok(EraseEventsResponse {
            examined_count: done.examined,
            matched_count: done.matched,
            erased_count: done.erased,
            segment_count: done.segments,
            unreadable_count: done.unreadable,
            hole_count: done.holes,
        })
    }

    pub(super) async fn confirm_retention(
        &self,
        call: &Call,
    ) -> Result<ConfirmRetentionResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let was_held = self.broker.confirm_clock(&principal).await?;
        Ok(ConfirmRetentionResponse { was_held })
    }
}

fn selection(request: EraseEventsRequest) -> Result<Selection, RpcError> {
    let refused = |what: String| Err(kinds::ADMIN_REQUEST_INVALID.error(what));
    match (request.event_ids.as_slice(), request.comparison.as_str()) {
        ([], "") => refused("name the events to erase, by ids or by a comparison".into()),
        ([], comparison) => match Comparison::parse(comparison) {
            Ok(comparison) => Ok(Selection::Field(comparison)),
            Err(error) => refused(error.to_string()),
        },
        (ids, "") if ids.len() > ERASE_IDS_MAX => {
            refused(format!("at most {ERASE_IDS_MAX} events are named at once"))
        }
        (ids, "") if ids.iter().any(|id| id.is_empty()) => refused("an event id is empty".into()),
        (_, "") => Ok(Selection::Ids(request.event_ids.into_iter().collect())),
        (_, _) => refused("name the events to erase by ids or by a comparison, not both".into()),
    }
}
