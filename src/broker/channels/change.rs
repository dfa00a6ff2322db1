//! How channels are made, changed and deleted.
//!
//! Whoever calls this has asked whether the caller may.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Channel, ChannelError, ChannelMember, Channels, MemberProblem};
use crate::{
    broker::{Broker, Tenant, to_its_end},
    filter::{Filter, check},
    metadata::{
        Change, Expected,
        records::{self, ChannelRecord, Stored},
    },
    schema::{Schema, registry::EventType},
    types::{
        Principal, TopicKind, TopicName,
        limits::{
            CHANNEL_ENRICHED_FIELDS_MAX, CHANNEL_LABEL_CHARS_MAX, CHANNEL_MEMBERS_MAX, CHANNELS_MAX,
        },
    },
};

/// A channel that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewChannel {
    /// Its name: `/event/…__chn` or `/data/…__chn`.
    pub name: String,
    /// What people call it; the last part of the name if it is empty.
    pub label: String,
    /// Its members.
    pub members: Vec<NewMember>,
}

/// A topic that is to be a member of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMember {
    /// The topic, which has to be there.
    pub topic: String,
    /// What its events have to match.
    pub filter: Option<String>,
    /// Fields that whoever publishes change events adds to each.
    pub enriched_fields: Vec<String>,
}

/// What is to be changed of a channel; the rest stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelChange {
    /// What people call it.
    Label(String),
    /// A member more, or another filter for one.
    Add(NewMember),
    /// A member less: the topic.
    Remove(String),
}

impl Broker {
    /// Makes a channel. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; after a failure of the store it may have been made, and is listed if it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn create_channel(
        &self,
        principal: &Principal,
        new: NewChannel,
    ) -> Result<Arc<Channel>, ChannelError> {
        let tenant = self.tenant(principal.tenant).await?;
        let name = custom_name(&new.name)?;
        let label = label_or_name(new.label, &name)?;
        to_its_end(async move {
            let _changing = tenant.channels.changing.lock().await;
            let members = members(&tenant, &name, new.members)?;
            let channel = Channel {
                name,
                label,
                members,
                version: 1,
                created_at: tenant.channels.clock.now(),
            };
            tenant.channels.create(channel).await
        })
        .await
    }

    /// Changes a channel. Durable when it returns, and felt by its streams at once.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; after a failure of the store it may have been changed, and its streams feel it
    /// if it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn change_channel(
        &self,
        principal: &Principal,
        name: &str,
        change: ChannelChange,
    ) -> Result<Arc<Channel>, ChannelError> {
        let tenant = self.tenant(principal.tenant).await?;
        let name = custom_name(name)?;
        to_its_end(async move {
            let _changing = tenant.channels.changing.lock().await;
            let channel = tenant.channels.find(&name).ok_or(ChannelError::NotFound)?;
            let mut channel = Channel::clone(&channel);
            channel.change(&tenant, change)?;
            channel.version = channel.version.saturating_add(1);
            tenant.channels.replace(channel).await
        })
        .await
    }

    /// Deletes a channel with its members. Its streams end.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; after a failure of the store it may have been deleted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn delete_channel(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<(), ChannelError> {
        let tenant = self.tenant(principal.tenant).await?;
        let name = custom_name(name)?;
        to_its_end(async move {
            let _changing = tenant.channels.changing.lock().await;
            tenant.channels.find(&name).ok_or(ChannelError::NotFound)?;
            removable(&tenant, &name)?;
            tenant.channels.delete(&name).await
        })
        .await
    }
}

impl Channels {
    async fn create(&self, channel: Channel) -> Result<Arc<Channel>, ChannelError> {
        let all = self.all();
        if all.iter().any(|known| known.name == channel.name) {
            return Err(ChannelError::NameTaken(channel.name));
        }
        let of_kind = all
            .iter()
            .filter(|known| is_of_events(&known.name) == is_of_events(&channel.name));
        if of_kind.count() >= CHANNELS_MAX {
            return Err(ChannelError::TooMany);
        }
        let change = records::change(&channel.record(), Expected::Absent);
        self.store_change(&channel.name, change).await?;
        Ok(self.adopted(channel))
    }

    async fn replace(&self, channel: Channel) -> Result<Arc<Channel>, ChannelError> {
        let stored = self
            .load(&channel.name)
            .await?
            .ok_or(ChannelError::NotFound)?;
        let expected = Expected::Revision(stored.revision);
        let change = records::change(&channel.record(), expected);
        self.store_change(&channel.name, change).await?;
        Ok(self.adopted(channel))
    }

    async fn delete(&self, name: &TopicName) -> Result<(), ChannelError> {
        if let Some(stored) = self.load(name).await? {
            let change = records::removal::<ChannelRecord>(name.as_str(), stored.revision);
            self.store_change(name, change).await?;
        }
        self.forget(name);
        Ok(())
    }

    async fn store_change(&self, name: &TopicName, change: Change) -> Result<(), ChannelError> {
        self.store_changes(vec![(name, change)]).await
    }

    /// Writes changes, all or none. After a write that failed, what is known of the channels is made what
    /// is stored of them: it may have been done all the same.
    pub(super) async fn store_changes(
        &self,
        changes: Vec<(&TopicName, Change)>,
    ) -> Result<(), ChannelError> {
        let (names, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let Err(error) = self.store.write(self.scope(), changes).await else {
            return Ok(());
        };
        for name in names {
            match self.load(name).await {
                Ok(Some(stored)) => _ = self.adopted(Channel::of(&stored.record)?),
                Ok(None) => self.forget(name),
                Err(unread) => tracing::warn!(
                    channel = %name,
                    error = &unread as &dyn std::error::Error,
                    "a channel may be configured otherwise than it is stored"
                ),
            }
        }
        Err(error.into())
    }

    pub(super) async fn load(
        &self,
        name: &TopicName,
    ) -> Result<Option<Stored<ChannelRecord>>, ChannelError> {
        Ok(records::load(&*self.store, self.scope(), name.as_str()).await?)
    }

    /// Notes a channel as it is stored.
    pub(super) fn adopted(&self, channel: Channel) -> Arc<Channel> {
        let channel = Arc::new(channel);
        let mut known = self.write();
        let sender = known
            .entry(channel.name.clone())
            .or_insert_with(|| watch::Sender::new(None));
        sender.send_replace(Some(Arc::clone(&channel)));
        channel
    }

    /// Notes that a channel is not stored any more.
    pub(super) fn forget(&self, name: &TopicName) {
        if let Some(sender) = self.write().remove(name) {
            sender.send_replace(None);
        }
    }
}

impl Channel {
    fn change(&mut self, tenant: &Tenant, change: ChannelChange) -> Result<(), ChannelError> {
        match change {
            ChannelChange::Label(label) => self.label = check_label(label)?,
            ChannelChange::Add(new) => {
                let member = member(tenant, &self.name, new)?;
                self.members.retain(|known| known.topic != member.topic);
                if self.members.len() >= CHANNEL_MEMBERS_MAX {
                    return Err(ChannelError::TooManyMembers);
                }
                self.members.push(member);
                self.members.sort_by(|a, b| a.topic.cmp(&b.topic));
            }
            ChannelChange::Remove(topic) => {
                let before = self.members.len();
                self.members.retain(|known| known.topic.as_str() != topic);
                if self.members.len() == before {
                    let channel = self.name.clone();
                    return Err(ChannelError::NoMember { channel, topic });
                }
            }
        }
        Ok(())
    }
}

/// Holds members to be ones that the channel may have, by name.
pub(super) fn members(
    tenant: &Tenant,
    channel: &TopicName,
    new: Vec<NewMember>,
) -> Result<Vec<ChannelMember>, ChannelError> {
    if new.len() > CHANNEL_MEMBERS_MAX {
        return Err(ChannelError::TooManyMembers);
    }
    let members = new.into_iter().map(|new| member(tenant, channel, new));
    let mut members = members.collect::<Result<Vec<_>, _>>()?;
    members.sort_by(|a, b| a.topic.cmp(&b.topic));
    match members
        .windows(2)
        .find(|pair| pair[0].topic == pair[1].topic)
    {
        Some(pair) => Err(ChannelError::Member {
            topic: pair[0].topic.to_string(),
            problem: MemberProblem::Twice,
        }),
        None => Ok(members),
    }
}

fn member(
    tenant: &Tenant,
    channel: &TopicName,
    new: NewMember,
) -> Result<ChannelMember, ChannelError> {
    let NewMember {
        topic,
        filter,
        enriched_fields,
    } = new;
    let checked = || {
        let event_type = find(tenant, channel, &topic)?;
        let schema = event_type.current();
        let filter = filter.as_deref().filter(|filter| !filter.trim().is_empty());
        let filter = filter.map(|filter| checked_filter(filter, schema));
        if enriched_fields.len() > CHANNEL_ENRICHED_FIELDS_MAX {
            return Err(MemberProblem::TooManyEnriched(enriched_fields.len()));
        }
        for field in &enriched_fields {
            check_enriched(event_type.topic(), field, schema)?;
        }
        Ok((event_type.topic().clone(), filter.transpose()?))
    };
    match checked() {
        Ok((topic, filter)) => Ok(ChannelMember {
            topic,
            filter,
            enriched_fields,
        }),
        Err(problem) => Err(ChannelError::Member { topic, problem }),
    }
}

/// The topic, if it may be a member of the channel.
fn find(
    tenant: &Tenant,
    channel: &TopicName,
    topic: &str,
) -> Result<Arc<EventType>, MemberProblem> {
    let name: TopicName = topic.parse().map_err(|_| MemberProblem::NoTopic)?;
    match (name.kind(), is_of_events(channel)) {
        (TopicKind::Channel, _) => Err(MemberProblem::Kind("it is a channel itself")),
        (TopicKind::ChangeEvent, true) => Err(MemberProblem::Kind(
            "a channel under /event/ has platform events",
        )),
        (TopicKind::PlatformEvent, false) => Err(MemberProblem::Kind(
            "a channel under /data/ has change events",
        )),
        (TopicKind::PlatformEvent, true) if !name.as_str().ends_with("__e") => Err(
            MemberProblem::Kind("it is a standard event, and those are in no channel"),
        ),
        _ => tenant
            .schemas
            .event_type(&name)
            .ok_or(MemberProblem::NoTopic),
    }
}

fn checked_filter(text: &str, schema: &Schema) -> Result<Filter, MemberProblem> {
    let wrong = |error| MemberProblem::Filter(Box::new(error));
    let filter: Filter = text.parse().map_err(wrong)?;
    check(&filter, schema).map_err(wrong)?;
    Ok(filter)
}

fn check_enriched(topic: &TopicName, field: &str, schema: &Schema) -> Result<(), MemberProblem> {
    if topic.kind() != TopicKind::ChangeEvent {
        return Err(MemberProblem::EnrichesEvents);
    }
    match schema.field(field, None) {
        Ok(_) => Ok(()),
        Err(_) => Err(MemberProblem::NoEnrichedField(field.to_owned())),
    }
}

/// The name, if a custom channel may have it.
pub(super) fn custom_name(name: &str) -> Result<TopicName, ChannelError> {
    let name: TopicName = name.parse().map_err(|_| ChannelError::Name)?;
    if name.is_all_changes() {
        return Err(ChannelError::Standard(name));
    }
    match name.event_name().strip_suffix("__chn") {
        Some(stem) if !stem.is_empty() => Ok(name),
        _ => Err(ChannelError::Name),
    }
}

/// The label, or the last part of the name if it is empty.
pub(super) fn label_or_name(label: String, name: &TopicName) -> Result<String, ChannelError> {
    match label.is_empty() {
        true => Ok(name.event_name().to_owned()),
        false => check_label(label),
    }
}

/// Whether it is a channel of platform events, rather than of change events.
pub(super) fn is_of_events(channel: &TopicName) -> bool {
    channel.as_str().starts_with("/event/")
}

/// Holds a channel to be one that may be deleted.
pub(super) fn removable(tenant: &Tenant, channel: &TopicName) -> Result<(), ChannelError> {
    match tenant.managed.names_on(channel) {
        subscribed if subscribed.is_empty() => Ok(()),
        subscribed => Err(ChannelError::Subscribed(subscribed)),
    }
}

fn check_label(label: String) -> Result<String, ChannelError> {
    match (1..=CHANNEL_LABEL_CHARS_MAX).contains(&label.chars().count()) {
        true => Ok(label),
        false => Err(ChannelError::Label),
    }
}
