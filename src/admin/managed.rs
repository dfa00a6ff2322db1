//! Managed subscriptions: made, changed, deleted and released by administrators, listed for whoever
//! may subscribe to their topics.

use super::Admin;
use crate::{
    broker::{
        self, ManagedChange, ManagedConfig, ManagedDescription, ManagedKey, NewManaged, NewSharing,
        SubscriberName,
    },
    clock::Timestamp,
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    proto::admin::{
        CreateManagedSubscriptionRequest, Lag, ListManagedSubscriptionsResponse,
        ManagedSubscription, ManagedSubscriptionKey, ReleaseManagedSubscriptionResponse,
        SubscriberLag, UpdateManagedSubscriptionRequest,
    },
};

impl Admin {
    pub(super) async fn create_managed(
        &self,
        call: &Call,
        request: CreateManagedSubscriptionRequest,
    ) -> Result<ManagedSubscription, RpcError> {
        let principal = self.administrator(call).await?;
        let is_shared = request.sharing > 0 || !request.sharing_key.is_empty();
        let sharing = is_shared.then_some(NewSharing {
            streams: request.sharing,
            key: request.sharing_key,
        });
        let new = NewManaged {
            default_replay: word(&request.default_replay)?.unwrap_or_default(),
            error_recovery_replay: word(&request.error_recovery_replay)?.unwrap_or_default(),
            state: word(&request.state)?.unwrap_or_default(),
            takeover: word(&request.takeover)?.unwrap_or_default(),
            developer_name: request.developer_name,
            label: request.label,
            topic: request.topic_name,
            filter: request.filter,
            sharing,
        };
        let config = self.broker.create_managed(&principal, new).await?;
        Ok(config_message(&config))
    }

    pub(super) async fn list_managed(
        &self,
        call: &Call,
    ) -> Result<ListManagedSubscriptionsResponse, RpcError> {
        let principal = self.authenticate(call).await?;
        let subscriptions = self.broker.managed_subscriptions(&principal).await?;
        Ok(ListManagedSubscriptionsResponse {
            subscriptions: subscriptions.iter().map(message).collect(),
        })
    }

    pub(super) async fn update_managed(
        &self,
        call: &Call,
        request: UpdateManagedSubscriptionRequest,
    ) -> Result<ManagedSubscription, RpcError> {
        let principal = self.administrator(call).await?;
        let change = ManagedChange {
            label: Some(request.label).filter(|label| !label.is_empty()),
            default_replay: word(&request.default_replay)?,
            error_recovery_replay: word(&request.error_recovery_replay)?,
            state: word(&request.state)?,
            takeover: word(&request.takeover)?,
            filter: request.filter,
        };
        let named = request.key.unwrap_or_default();
        let key = key(&named)?;
        let changed = self.broker.update_managed(&principal, key, change).await?;
        Ok(message(&changed))
    }

    pub(super) async fn delete_managed(
        &self,
        call: &Call,
        request: ManagedSubscriptionKey,
    ) -> Result<ManagedSubscription, RpcError> {
        let principal = self.administrator(call).await?;
        let deleted = self
            .broker
            .delete_managed(&principal, key(&request)?)
            .await?;
        Ok(config_message(&deleted))
    }

    pub(super) async fn release_managed(
        &self,
        call: &Call,
        request: ManagedSubscriptionKey,
    ) -> Result<ReleaseManagedSubscriptionResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let released = self.broker.release_managed(&principal, key(&request)?);
        Ok(ReleaseManagedSubscriptionResponse {
            was_active: released.await?,
        })
    }
}

fn key(named: &ManagedSubscriptionKey) -> Result<ManagedKey<'_>, RpcError> {
    match (named.id.as_str(), named.developer_name.as_str()) {
        ("", "") => Err(kinds::ADMIN_REQUEST_INVALID
            .error("a managed subscription is named by its id or its developer name")),
        ("", name) => Ok(ManagedKey::Name(name)),
        (id, "") => Ok(ManagedKey::Id(id.parse().map_err(|error| {
            kinds::ADMIN_REQUEST_INVALID.error(format!("the id is malformed: {error}"))
        })?)),
        _ => Err(kinds::ADMIN_REQUEST_INVALID
            .error("a managed subscription is named by its id or its developer name, not by both")),
    }
}

/// A word that may be absent.
fn word<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>, RpcError> {
    if text.is_empty() {
        return Ok(None);
    }
    let word = text.parse();
    word.map(Some)
        .map_err(|error: T::Err| kinds::ADMIN_REQUEST_INVALID.error(error.to_string()))
}

fn config_message(config: &ManagedConfig) -> ManagedSubscription {
    ManagedSubscription {
        id: config.id.to_string(),
        developer_name: config.developer_name.clone(),
        label: config.label.clone(),
        topic_name: config.topic.to_string(),
        default_replay: config.default_replay.to_string(),
        error_recovery_replay: config.error_recovery_replay.to_string(),
        state: config.state.to_string(),
        takeover: config.takeover.to_string(),
        version: config.version,
        created_at_ms: config.created_at.as_millis(),
        filter: match &config.filter {
            Some(filter) => filter.text().to_owned(),
            None => String::new(),
        },
        sharing: config.sharing.as_ref().map_or(0, |sharing| sharing.streams),
        sharing_key: match &config.sharing {
            Some(sharing) => sharing.key.to_string(),
            None => String::new(),
        },
        ..ManagedSubscription::default()
    }
}

fn message(described: &ManagedDescription) -> ManagedSubscription {
    let committed = described.committed;
    ManagedSubscription {
        active: described.streams > 0,
        streams: u32::try_from(described.streams).unwrap_or(u32::MAX),
        committed_replay_id: committed.map_or_else(Default::default, |(position, _)| {
            position.replay_id().as_bytes().to_vec().into()
        }),
        committed_at_ms: committed.map_or(0, |(_, at): (_, Timestamp)| at.as_millis()),
        lag: described.lag.map(lag_message),
        ..config_message(&described.config)
    }
}

fn lag_message(lag: broker::Lag) -> Lag {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Lag {
        events: lag.events,
        behind_ms: millis(lag.behind),
        can_lose: lag.time_to_loss.is_some(),
        time_to_loss_ms: lag.time_to_loss.map_or(0, millis),
    }
}

/// How far one subscriber of a topic is behind.
pub(super) fn subscriber_message(
    (name, lag): &(SubscriberName, Option<broker::Lag>),
) -> SubscriberLag {
    let (name, managed) = match name {
        SubscriberName::Managed(name) => (name.as_str(), true),
        SubscriberName::Client(name) => (&**name, false),
    };
    SubscriberLag {
        name: name.to_owned(),
        managed,
        lag: lag.map(lag_message),
    }
}
