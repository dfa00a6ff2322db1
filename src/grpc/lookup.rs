//! `GetTopic` and `GetSchema`.

use super::{Call, PubSub, status::RpcError};
use crate::proto::{SchemaInfo, SchemaRequest, TopicInfo, TopicRequest};

impl PubSub {
    /// Answers `GetTopic`.
    pub(super) async fn topic_info(
        &self,
        call: &Call,
        request: TopicRequest,
    ) -> Result<TopicInfo, RpcError> {
        let principal = self.authenticate(call).await?;
        let topic = self.broker.access(&principal, &request.topic_name).await?;
        Ok(TopicInfo {
            // Clients use the name they get in later calls, so it is the one they asked for.
            topic_name: request.topic_name,
            tenant_guid: format!("CORE/prod/{}", principal.tenant),
            can_publish: topic.can_publish,
            can_subscribe: topic.can_subscribe,
            // Blank for a channel, as clients expect it: each event says its own.
            schema_id: topic.schema_id.map(|id| id.to_string()).unwrap_or_default(),
            rpc_id: call.rpc_id().to_string(),
        })
    }

    /// Answers `GetSchema`.
    pub(super) async fn schema_info(
        &self,
        call: &Call,
        request: SchemaRequest,
    ) -> Result<SchemaInfo, RpcError> {
        let principal = self.authenticate(call).await?;
        let schema = self
            .broker
            .schema(&principal, call.known_client_name(), &request.schema_id)
            .await?;
        Ok(SchemaInfo {
            schema_json: schema.text().to_owned(),
            schema_id: schema.id().to_string(),
            rpc_id: call.rpc_id().to_string(),
        })
    }
}
