//! What is subscribed to by one name: a topic, or a channel of several.
//!
//! A channel changes while it is subscribed to. Whoever has a [`Source`] asks it what there is to get and
//! is told when to ask again.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Channel, SubscribeError, Tenant, TopicError};
use crate::{
    filter::Filter,
    schema::registry::EventType,
    types::{Grants, TopicKind, TopicName},
};

/// A topic or a channel.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// One topic, as it was when this was made.
    Topic(Arc<EventType>),
    /// A custom channel.
    Channel {
        name: TopicName,
        /// Holds none once the channel is deleted.
        channel: watch::Receiver<Option<Arc<Channel>>>,
    },
    /// The standard channel of every change event.
    AllChanges {
        name: TopicName,
        /// Changes with the tenant's topics.
        topics: watch::Receiver<u64>,
    },
}

/// A topic of a source, and what its events have to match there.
#[derive(Clone, Debug)]
pub(super) struct Sourced {
    pub(super) event_type: Arc<EventType>,
    pub(super) filter: Option<Filter>,
}

/// The channel is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Source {
    /// The source of this name. Anyone may subscribe to a channel: of which topics they get the events
    /// is another matter.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Topic`], and [`SubscribeError::CannotSubscribe`] for a topic without the right.
    pub(super) fn find(
        tenant: &Tenant,
        grants: &Grants,
        name: &str,
    ) -> Result<Self, SubscribeError> {
        let not_found = || SubscribeError::Topic(TopicError::NotFound);
        if name.trim().is_empty() {
            return Err(SubscribeError::Topic(TopicError::Empty));
        }
        let name: TopicName = name.parse().map_err(|_| not_found())?;
        if name.is_all_changes() {
            let topics = tenant.schemas.watch_topics();
            return Ok(Self::AllChanges { name, topics });
        }
        if name.kind() == TopicKind::Channel {
            let channel = tenant.channels.watch(&name).ok_or_else(not_found)?;
            return Ok(Self::Channel { name, channel });
        }
        let event_type = tenant.schemas.event_type(&name).ok_or_else(not_found)?;
        match grants.may_subscribe(event_type.topic()) {
            true => Ok(Self::Topic(event_type)),
            false => Err(SubscribeError::CannotSubscribe(event_type.topic().clone())),
        }
    }

    /// The name of a topic or channel that there is, whoever may use it.
    ///
    /// # Errors
    ///
    /// [`TopicError::Empty`] and [`TopicError::NotFound`].
    pub(super) fn check(tenant: &Tenant, name: &str) -> Result<TopicName, TopicError> {
        match Self::find(tenant, &Grants::every_topic(), name) {
            Ok(source) => Ok(source.name().clone()),
            Err(SubscribeError::Topic(error)) => Err(error),
            Err(_) => Err(TopicError::NotFound),
        }
    }

    /// What there is to get of the topic or channel called `name`, for whoever may get everything.
    pub(super) fn all_of(tenant: &Tenant, name: &TopicName) -> Vec<Sourced> {
        let grants = Grants::every_topic();
        let source = Self::find(tenant, &grants, name.as_str());
        let topics = source
            .ok()
            .and_then(|mut source| source.topics(tenant, &grants).ok());
        topics.unwrap_or_default()
    }

    /// The name that it was found by.
    pub(super) fn name(&self) -> &TopicName {
        match self {
            Self::Topic(event_type) => event_type.topic(),
            Self::Channel { name, .. } | Self::AllChanges { name, .. } => name,
        }
    }

    /// What there is to get now: the topics of which whoever has `grants` may get the events. The change
    /// that led to it is seen.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(super) fn topics(
        &mut self,
        tenant: &Tenant,
        grants: &Grants,
    ) -> Result<Vec<Sourced>, Gone> {
        let may_get = |sourced: &Sourced| grants.may_subscribe(sourced.event_type.topic());
        match self {
            Self::Topic(event_type) => Ok(vec![Sourced {
                event_type: Arc::clone(event_type),
                filter: None,
            }]),
            Self::Channel { channel, .. } => {
                let channel = channel.borrow_and_update().clone().ok_or(Gone)?;
                let members = channel.members.iter();
                let sourced = members.filter_map(|member| {
                    Some(Sourced {
                        event_type: tenant.schemas.event_type(&member.topic)?,
                        filter: member.filter.clone(),
                    })
                });
                Ok(sourced.filter(may_get).collect())
            }
            Self::AllChanges { topics, .. } => {
                topics.borrow_and_update();
                let event_types = tenant.schemas.event_types().into_iter();
                let of_changes = event_types
                    .filter(|event_type| event_type.topic().kind() == TopicKind::ChangeEvent);
                let sourced = of_changes.map(|event_type| Sourced {
                    event_type,
                    filter: None,
                });
                Ok(sourced.filter(may_get).collect())
            }
        }
    }

    /// Whether it has changed since it was asked.
    pub(super) fn has_changed(&self) -> bool {
        match self {
            Self::Topic(_) => false,
            // Without a sender it is deleted.
            Self::Channel { channel, .. } => channel.has_changed().unwrap_or(true),
            Self::AllChanges { topics, .. } => topics.has_changed().unwrap_or(false),
        }
    }

    /// Waits until it has changed since it was asked; for ever if it does not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that was not returned is seen by the next call.
    pub(super) async fn changed(&mut self) {
        let changed = match self {
            Self::Topic(_) => return std::future::pending().await,
            Self::Channel { channel, .. } => channel.changed().await,
            Self::AllChanges { topics, .. } => topics.changed().await,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
