//! `Publish`: one request, one response.

use super::{
    Call, PubSub, convert,
    status::{RpcError, kinds},
};
use crate::proto::raw::{PublishRequest, PublishResponse};

impl PubSub {
    /// Answers `Publish`.
    pub(super) async fn publish_once(
        &self,
        call: &Call,
        request: PublishRequest,
    ) -> Result<PublishResponse, RpcError> {
        let principal = self.authenticate(call).await?;
        if !request.auth_refresh.is_empty() {
            return Err(refresh_in_first_request());
        }
        let publisher = self
            .broker
            .publisher(&principal, call.known_client_name(), &request.topic_name)
            .await?;
        let batch = convert::batch(&publisher, &request)?;
        // Laid out, the events are held twice; waiting for a sync with one copy is enough.
        drop(request);
        let published = batch.append_in_time().await?.outcome().await?;
        Ok(convert::publish_response(call, &published))
    }
}

/// The refusal of a fresh token in a request that was authenticated a moment ago.
pub(super) fn refresh_in_first_request() -> RpcError {
    kinds::PUBLISH_REFRESH_INVALID.error("auth_refresh has no place in a first publish request")
}
