//! Channels: several topics that are subscribed to as one.
//!
//! A custom channel has the members that administrators give it, each with a filter or without. It is
//! one record of the store, and one value that its streams watch: a change is durable first and then
//! seen, and nobody ever sees half of it. The standard channel of all change events has no record; its
//! members are the topics that there are.
//!
//! What a subscriber of a channel gets is worked out where it subscribes; here it is only known what
//! channels there are.
//!
//! Several channels can be made to be just as a list says ([`Broker::apply_channels`]).
//!
//! Source: the public Metadata API Developer Guide, "PlatformEventChannel" and
//! "PlatformEventChannelMember".

mod apply;
mod change;
pub mod error;

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use tokio::sync::{Mutex, MutexGuard, watch};

use crate::{
    broker::{Broker, TopicError},
    clock::{Clock, Timestamp},
    filter::Filter,
    metadata::{
        MetadataStore, Scope,
        records::{self, ChannelMemberRecord, ChannelRecord},
    },
    types::{Principal, TenantId, TopicKind, TopicName},
};

pub use apply::{AppliedChannel, ApplyOptions, ApplyOutcome};
pub use change::{ChannelChange, NewChannel, NewMember};
pub use error::{ChannelError, MemberProblem};

/// A custom channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its name, which is never changed.
    pub name: TopicName,
    /// What people call it.
    pub label: String,
    /// Its members, by their topics' names.
    pub members: Vec<ChannelMember>,
    /// How often it was stored: 1 at first.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A topic of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelMember {
    /// The topic.
    pub topic: TopicName,
    /// What its events have to match.
    pub filter: Option<Filter>,
    /// Fields that whoever publishes change events adds to each: kept here for them.
    pub enriched_fields: Vec<String>,
}

/// One tenant's custom channels.
#[derive(Debug)]
pub(super) struct Channels {
    tenant: TenantId,
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    /// What streams watch: `None` once the channel is deleted.
    known: RwLock<BTreeMap<TopicName, watch::Sender<Option<Arc<Channel>>>>>,
    /// Held while a channel is changed, or a topic deleted that may be a member.
    changing: Mutex<()>,
}

impl Channels {
    /// Reads the tenant's channels.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Store`], and [`ChannelError::Unreadable`] for one that was written by hand.
    pub(super) async fn open(
        tenant: TenantId,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ChannelError> {
        let stored = records::list::<ChannelRecord>(&*store, Scope::Tenant(tenant)).await?;
        let mut known = BTreeMap::new();
        for stored in stored {
            let channel = Channel::of(&stored.record)?;
            let name = channel.name.clone();
            known.insert(name, watch::Sender::new(Some(Arc::new(channel))));
        }
        Ok(Self {
            tenant,
            store,
            clock,
            known: RwLock::new(known),
            changing: Mutex::default(),
        })
    }

    /// The channel of this name, to be watched; it holds none once that is deleted.
    pub(super) fn watch(&self, name: &TopicName) -> Option<watch::Receiver<Option<Arc<Channel>>>> {
        self.read().get(name).map(watch::Sender::subscribe)
    }

    /// The channel of this name.
    pub(super) fn find(&self, name: &TopicName) -> Option<Arc<Channel>> {
        self.read()
            .get(name)
            .and_then(|channel| channel.borrow().clone())
    }

    /// Every channel, by name.
    pub(super) fn all(&self) -> Vec<Arc<Channel>> {
        let known = self.read();
        let channels = known.values();
        channels
            .filter_map(|channel| channel.borrow().clone())
            .collect()
    }

    /// The channels that have `topic` as a member, by name. As long as the guard is held, none comes to
    /// have it.
    pub(super) async fn with_member(
        &self,
        topic: &TopicName,
    ) -> (Vec<TopicName>, MutexGuard<'_, ()>) {
        let held = self.hold().await;
        let has_it = |channel: &Arc<Channel>| channel.member(topic).is_some();
        let channels = self.all().into_iter().filter(has_it);
        (channels.map(|channel| channel.name.clone()).collect(), held)
    }

    /// As long as the guard is held, no channel is changed or deleted.
    pub(super) async fn hold(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    fn scope(&self) -> Scope {
        Scope::Tenant(self.tenant)
    }

    fn read(
        &self,
    ) -> RwLockReadGuard<'_, BTreeMap<TopicName, watch::Sender<Option<Arc<Channel>>>>> {
        self.known.read().expect(NO_PANIC)
    }

    fn write(
        &self,
    ) -> RwLockWriteGuard<'_, BTreeMap<TopicName, watch::Sender<Option<Arc<Channel>>>>> {
        self.known.write().expect(NO_PANIC)
    }
}

impl Channel {
    /// Its member for this topic.
    pub fn member(&self, topic: &TopicName) -> Option<&ChannelMember> {
        self.members.iter().find(|member| member.topic == *topic)
    }

    /// The channel in a record.
    fn of(record: &ChannelRecord) -> Result<Self, ChannelError> {
        let unreadable = || ChannelError::Unreadable(record.name.clone());
        let member = |member: &ChannelMemberRecord| {
            let filter = member
                .filter
                .as_ref()
                .map(|filter| filter.parse::<Filter>());
            Some(ChannelMember {
                topic: member.topic_name.parse().ok()?,
                filter: filter.transpose().ok()?,
                enriched_fields: member.enriched_fields.clone(),
            })
        };
        let members = record.members.iter().map(member).collect::<Option<_>>();
        Ok(Self {
            name: record.name.parse().map_err(|_| unreadable())?,
            label: record.label.clone(),
            members: members.ok_or_else(unreadable)?,
            version: record.version,
            created_at: Timestamp::from_millis(record.created_at_ms),
        })
    }

    fn record(&self) -> ChannelRecord {
        let member = |member: &ChannelMember| ChannelMemberRecord {
            topic_name: member.topic.to_string(),
            filter: member
                .filter
                .as_ref()
                .map(|filter| filter.text().to_owned()),
            enriched_fields: member.enriched_fields.clone(),
        };
        ChannelRecord {
            name: self.name.to_string(),
            label: self.label.clone(),
            members: self.members.iter().map(member).collect(),
            version: self.version,
            created_at_ms: self.created_at.as_millis(),
        }
    }
}

impl Broker {
    /// Every custom channel of the tenant, by name.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`].
    pub async fn channels(&self, principal: &Principal) -> Result<Vec<Arc<Channel>>, TopicError> {
        Ok(self.tenant(principal.tenant).await?.channels.all())
    }

    /// The members of the standard channel: every topic of change events that there is, by name.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`].
    pub async fn change_topics(&self, principal: &Principal) -> Result<Vec<TopicName>, TopicError> {
        let tenant = self.tenant(principal.tenant).await?;
        let topics = tenant.schemas.event_types();
        let mut topics: Vec<_> = topics
            .iter()
            .map(|event_type| event_type.topic().clone())
            .filter(|topic| topic.kind() == TopicKind::ChangeEvent)
            .collect();
        topics.sort();
        Ok(topics)
    }

    /// The custom channel called `name`.
    ///
    /// # Errors
    ///
    /// [`ChannelError::NotFound`] and [`ChannelError::Topic`].
    pub async fn channel(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Arc<Channel>, ChannelError> {
        let tenant = self.tenant(principal.tenant).await?;
        let name: TopicName = name.parse().map_err(|_| ChannelError::NotFound)?;
        tenant.channels.find(&name).ok_or(ChannelError::NotFound)
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests;
