//! Managed subscriptions as they are configured: made, changed, listed and deleted.
//!
//! Whoever calls this has asked whether the caller may.

use std::{
    collections::{HashSet, btree_map},
    sync::Arc,
};

use super::{Entry, ManagedDescription, ManagedError, ManagedKey, ManagedSubscriptions};
use crate::{
    broker::{
        Broker, KeyField, SharingError, Tenant, TopicError, source::Source,
        subscription::check_any, to_its_end,
    },
    clock::Timestamp,
    filter::Filter,
    metadata::{
        Change, Expected, Scope, StoreError,
        records::{self, ManagedSubscriptionRecord, SharingRecord, Stored},
    },
    types::{
        PlatformId, Principal, Replay, RunState, Takeover, TopicName,
        limits::{MANAGED_NAME_CHARS_MAX, MANAGED_SUBSCRIPTIONS_MAX, SHARING_STREAMS_MAX},
    },
};

/// What the ids of managed subscriptions begin with.
const ID_PREFIX: &[u8; 3] = b"18x";

/// How a managed subscription is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagedConfig {
    /// Its id.
    pub id: PlatformId,
    /// Its unique name. Never changed.
    pub developer_name: String,
    /// What people call it.
    pub label: String,
    /// Its topic or channel. Never changed.
    pub topic: TopicName,
    /// What its events have to match.
    pub filter: Option<Filter>,
    /// Where it starts without a committed position.
    pub default_replay: Replay,
    /// Where it goes on when its position is no longer valid.
    pub error_recovery_replay: Replay,
    /// Whether it may be subscribed to.
    pub state: RunState,
    /// Which of two streams has it.
    pub takeover: Takeover,
    /// How it is shared among several streams, if it is. Never changed.
    pub sharing: Option<Sharing>,
    /// How often it was stored: 1 at first.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How the events of a managed subscription are split among several streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Among how many at most.
    pub streams: u32,
    /// By which field: events that have the same there stay in order.
    pub key: KeyField,
}

/// How a managed subscription is to be shared that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSharing {
    /// Among how many streams at most.
    pub streams: u32,
    /// Name of the field by which its events are split, or of the part of one, as `Field__c.Part`.
    pub key: String,
}

/// A managed subscription that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewManaged {
    /// Its unique name.
    pub developer_name: String,
    /// What people call it; the name if it is empty.
    pub label: String,
    /// Name of its topic or channel, which has to be there.
    pub topic: String,
    /// What its events have to match, if anything.
    pub filter: String,
    /// Where it starts without a committed position.
    pub default_replay: Replay,
    /// Where it goes on when its position is no longer valid.
    pub error_recovery_replay: Replay,
    /// Whether it may be subscribed to.
    pub state: RunState,
    /// Which of two streams has it.
    pub takeover: Takeover,
    /// How it is to be shared, if it is.
    pub sharing: Option<NewSharing>,
}

/// What is to be changed of a managed subscription; the rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagedChange {
    /// What people call it.
    pub label: Option<String>,
    /// What its events have to match; every one does if it is empty.
    pub filter: Option<String>,
    /// Where it starts without a committed position.
    pub default_replay: Option<Replay>,
    /// Where it goes on when its position is no longer valid.
    pub error_recovery_replay: Option<Replay>,
    /// Whether it may be subscribed to. Its stream ends when it is stopped.
    pub state: Option<RunState>,
    /// Which of two streams has it. What a stream has already it keeps until the next one comes.
    pub takeover: Option<Takeover>,
}

impl ManagedConfig {
    /// The configuration in a record; `None` for one that was not written here.
    pub(super) fn of(record: &ManagedSubscriptionRecord) -> Option<Self> {
        Some(Self {
            id: record.id.parse().ok()?,
            developer_name: record.developer_name.clone(),
            label: record.label.clone(),
            topic: record.topic_name.parse().ok()?,
            filter: match &record.filter {
                Some(filter) => Some(filter.parse().ok()?),
                None => None,
            },
            default_replay: record.default_replay.parse().ok()?,
            error_recovery_replay: record.error_recovery_replay.parse().ok()?,
            state: record.state.parse().ok()?,
            takeover: record.takeover.parse().ok()?,
            sharing: match &record.sharing {
                Some(SharingRecord { streams, key }) => Some(Sharing::new(*streams, key).ok()?),
                None => None,
            },
            version: record.version,
            created_at: Timestamp::from_millis(record.created_at_ms),
        })
    }

    fn record(&self) -> ManagedSubscriptionRecord {
        ManagedSubscriptionRecord {
            id: self.id.to_string(),
            developer_name: self.developer_name.clone(),
            label: self.label.clone(),
            topic_name: self.topic.to_string(),
            filter: self.filter.as_ref().map(|filter| filter.text().to_owned()),
            default_replay: self.default_replay.to_string(),
            error_recovery_replay: self.error_recovery_replay.to_string(),
            state: self.state.to_string(),
            takeover: self.takeover.to_string(),
            sharing: self.sharing.as_ref().map(|sharing| SharingRecord {
                streams: sharing.streams,
                key: sharing.key.to_string(),
            }),
            version: self.version,
            created_at_ms: self.created_at.as_millis(),
        }
    }

    fn change(&mut self, tenant: &Tenant, change: ManagedChange) -> Result<(), ManagedError> {
        if let Some(label) = change.label {
            self.label = check_label(label)?;
        }
        if let Some(filter) = change.filter {
            self.filter = checked_filter(tenant, &self.topic, &filter)?;
        }
        self.default_replay = change.default_replay.unwrap_or(self.default_replay);
        let recovery = change.error_recovery_replay;
        self.error_recovery_replay = recovery.unwrap_or(self.error_recovery_replay);
        self.state = change.state.unwrap_or(self.state);
        self.takeover = change.takeover.unwrap_or(self.takeover);
        self.version = self.version.saturating_add(1);
        Ok(())
    }
}

impl Sharing {
    fn new(streams: u32, key: &str) -> Result<Self, SharingError> {
        if !(2..=SHARING_STREAMS_MAX).contains(&streams) {
            return Err(SharingError::Streams(streams));
        }
        let key = key.parse()?;
        Ok(Self { streams, key })
    }

    /// How a subscription of this topic or channel is to be shared.
    fn checked(tenant: &Tenant, topic: &TopicName, new: NewSharing) -> Result<Self, SharingError> {
        let NewSharing { streams, key } = new;
        match (streams, key.is_empty()) {
            (0, false) => return Err(SharingError::KeyAlone(key)),
            (_, true) => return Err(SharingError::NoKey),
            _ => {}
        }
        let sharing = Self::new(streams, &key)?;
        sharing.key.check(&Source::all_of(tenant, topic))?;
        Ok(sharing)
    }
}

impl Broker {
    /// Makes a managed subscription. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`ManagedError`]; after a failure of the store it may have been made, and is listed if it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn create_managed(
        &self,
        principal: &Principal,
        new: NewManaged,
    ) -> Result<ManagedConfig, ManagedError> {
        check_developer_name(&new.developer_name)?;
        let label = match new.label.is_empty() {
            true => new.developer_name.clone(),
            false => check_label(new.label)?,
        };
        let tenant = self.tenant(principal.tenant).await?;
        let topic = Source::check(&tenant, &new.topic)?;
        let filter = checked_filter(&tenant, &topic, &new.filter)?;
        let sharing = match new.sharing {
            Some(sharing) => Some(Sharing::checked(&tenant, &topic, sharing)?),
            None => None,
        };
        let mut random = [0; 12];
        getrandom::fill(&mut random).map_err(|error| ManagedError::Store(Arc::new(error)))?;
        let config = ManagedConfig {
            id: PlatformId::from_random(ID_PREFIX, random),
            developer_name: new.developer_name,
            label,
            topic,
            filter,
            default_replay: new.default_replay,
            error_recovery_replay: new.error_recovery_replay,
            state: new.state,
            takeover: new.takeover,
            sharing,
            version: 1,
            created_at: tenant.managed.clock.now(),
        };
        to_its_end(async move {
            // No channel is deleted between the look at it and the subscription.
            let _held = tenant.channels.hold().await;
            Source::check(&tenant, config.topic.as_str())?;
            tenant.managed.create(config).await
        })
        .await
    }

    /// How every managed subscription is configured whose topic the caller may subscribe to, by name;
    /// all of the tenant's for an administrator.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`].
    pub async fn managed_configs(
        &self,
        principal: &Principal,
    ) -> Result<Vec<ManagedConfig>, TopicError> {
        let tenant = self.tenant(principal.tenant).await?;
        let visible = tenant.managed.visible(principal).into_iter();
        Ok(visible.map(|(config, _)| config).collect())
    }

    /// Describes the same subscriptions, which takes a read of the log for each.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`].
    pub async fn managed_subscriptions(
        &self,
        principal: &Principal,
    ) -> Result<Vec<ManagedDescription>, TopicError> {
        let tenant = self.tenant(principal.tenant).await?;
        Ok(tenant.managed.describe(&tenant, principal, None).await)
    }

    /// Describes one managed subscription.
    ///
    /// # Errors
    ///
    /// [`ManagedError::NotFound`] and [`ManagedError::Topic`].
    pub async fn managed_subscription(
        &self,
        principal: &Principal,
        key: ManagedKey<'_>,
    ) -> Result<ManagedDescription, ManagedError> {
        let tenant = self.tenant(principal.tenant).await?;
        let entry = tenant.managed.find(key).ok_or(ManagedError::NotFound)?;
        let config = entry.config().ok_or(ManagedError::NotFound)?;
        let lag = tenant.managed.lag(&tenant, &entry).await;
        Ok(entry.describe(config, lag))
    }

    /// Changes a managed subscription and describes it, but for its lag. Durable when it returns, and
    /// felt by its stream at once.
    ///
    /// # Errors
    ///
    /// [`ManagedError`]; after a failure of the store it may have been changed, and its stream feels
    /// it if it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn update_managed(
        &self,
        principal: &Principal,
        key: ManagedKey<'_>,
        change: ManagedChange,
    ) -> Result<ManagedDescription, ManagedError> {
        let tenant = self.tenant(principal.tenant).await?;
        let entry = tenant.managed.find(key).ok_or(ManagedError::NotFound)?;
        to_its_end(async move {
            let config = tenant.managed.update(&tenant, &entry, change).await?;
            Ok(entry.describe(config, None))
        })
        .await
    }

    /// Deletes a managed subscription with its position, and returns what it was. Durable when it
    /// returns; its stream ends.
    ///
    /// # Errors
    ///
    /// [`ManagedError`]; after a failure of the store it may have been deleted, and is not listed any
    /// more if it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn delete_managed(
        &self,
        principal: &Principal,
        key: ManagedKey<'_>,
    ) -> Result<ManagedConfig, ManagedError> {
        let tenant = self.tenant(principal.tenant).await?;
        let entry = tenant.managed.find(key).ok_or(ManagedError::NotFound)?;
        to_its_end(async move { tenant.managed.delete(entry).await }).await
    }

    /// Takes a managed subscription from the streams that have it, which end; false if none had it.
    ///
    /// # Errors
    ///
    /// [`ManagedError::NotFound`] and [`ManagedError::Topic`].
    pub async fn release_managed(
        &self,
        principal: &Principal,
        key: ManagedKey<'_>,
    ) -> Result<bool, ManagedError> {
        let tenant = self.tenant(principal.tenant).await?;
        let entry = tenant.managed.find(key).ok_or(ManagedError::NotFound)?;
        Ok(entry.places.release())
    }
}

impl ManagedSubscriptions {
    async fn create(&self, config: ManagedConfig) -> Result<ManagedConfig, ManagedError> {
        let _changing = self.changing.lock().await;
        // What is stored counts: an earlier write may have been done that seemed to fail.
        self.settle_all().await?;
        if self.read().len() >= MANAGED_SUBSCRIPTIONS_MAX {
            return Err(ManagedError::TooMany);
        }
        if self
            .find(ManagedKey::Name(&config.developer_name))
            .is_some()
        {
            return Err(ManagedError::NameTaken(config.developer_name));
        }
        let change = records::change(&config.record(), Expected::Absent);
        self.write_config(config.id, change).await?;
        self.adopt(config.clone());
        Ok(config)
    }

    async fn update(
        &self,
        tenant: &Tenant,
        entry: &Entry,
        change: ManagedChange,
    ) -> Result<ManagedConfig, ManagedError> {
        let _changing = self.changing.lock().await;
        let mut config = entry.config().ok_or(ManagedError::NotFound)?;
        config.change(tenant, change)?;
        // What is stored says its revision: an earlier write may have been done that seemed to fail.
        let stored = self.load(entry.id()).await?.ok_or(ManagedError::NotFound)?;
        let expected = Expected::Revision(stored.revision);
        let change = records::change(&config.record(), expected);
        self.write_config(config.id, change).await?;
        entry.configured(config.clone());
        Ok(config)
    }

    async fn delete(&self, entry: Arc<Entry>) -> Result<ManagedConfig, ManagedError> {
        let _changing = self.changing.lock().await;
        let id = entry.id();
        let config = entry.config().ok_or(ManagedError::NotFound)?;
        if let Err(error) = self.positions.delete(entry).await {
            self.settle(id).await;
            return Err(error);
        }
        self.write().remove(&id);
        Ok(config)
    }

    async fn write_config(&self, id: PlatformId, change: Change) -> Result<(), ManagedError> {
        let written = self.store.write(self.scope(), vec![change]).await;
        if written.is_err() {
            self.settle(id).await;
        }
        Ok(written?)
    }

    /// Makes what is known of a subscription what is stored of it, after a write that failed: it may
    /// have been done all the same. If the store cannot be read either, the next creation looks again.
    async fn settle(&self, id: PlatformId) {
        let settled = match self.load(id).await {
            Ok(Some(stored)) => self.adopt_record(&stored.record),
            Ok(None) => {
                self.forget(id);
                Ok(())
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = settled {
            tracing::warn!(
                subscription = %id,
                error = &error as &dyn std::error::Error,
                "a managed subscription may be configured otherwise than it is stored"
            );
        }
    }

    /// The same for every subscription.
    async fn settle_all(&self) -> Result<(), ManagedError> {
        let stored = records::list::<ManagedSubscriptionRecord>(&*self.store, self.scope()).await?;
        for stored in &stored {
            self.adopt_record(&stored.record)?;
        }
        let ids: HashSet<_> = stored.iter().map(|stored| &*stored.record.id).collect();
        for entry in self.all() {
            if !ids.contains(entry.id().as_str()) {
                self.forget(entry.id());
            }
        }
        Ok(())
    }

    fn adopt_record(&self, record: &ManagedSubscriptionRecord) -> Result<(), ManagedError> {
        let config = ManagedConfig::of(record);
        self.adopt(config.ok_or_else(|| ManagedError::Unreadable(record.id.clone()))?);
        Ok(())
    }

    /// Notes a configuration that is stored.
    fn adopt(&self, config: ManagedConfig) {
        match self.write().entry(config.id) {
            btree_map::Entry::Occupied(entry) => entry.get().configured(config),
            btree_map::Entry::Vacant(place) => {
                place.insert(Arc::new(Entry::new(config, &self.schemas)));
            }
        }
    }

    /// Notes that a subscription is not stored any more.
    fn forget(&self, id: PlatformId) {
        if let Some(entry) = self.write().remove(&id) {
            entry.deleted();
        }
    }

    async fn load(
        &self,
        id: PlatformId,
    ) -> Result<Option<Stored<ManagedSubscriptionRecord>>, StoreError> {
        records::load(&*self.store, self.scope(), id.as_str()).await
    }

    fn scope(&self) -> Scope {
        Scope::Tenant(self.tenant)
    }
}

/// A filter, if it is not empty and fits the topic, or one of the channel's.
fn checked_filter(
    tenant: &Tenant,
    topic: &TopicName,
    filter: &str,
) -> Result<Option<Filter>, ManagedError> {
    if filter.trim().is_empty() {
        return Ok(None);
    }
    let filter: Filter = filter.parse()?;
    check_any(&filter, &Source::all_of(tenant, topic))?;
    Ok(Some(filter))
}

/// The platform's rule for the names of such things.
fn check_developer_name(name: &str) -> Result<(), ManagedError> {
    let fits = (1..=MANAGED_NAME_CHARS_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.ends_with('_')
        && !name.contains("__");
    match fits {
        true => Ok(()),
        false => Err(ManagedError::Name),
    }
}

fn check_label(label: String) -> Result<String, ManagedError> {
    match (1..=MANAGED_NAME_CHARS_MAX).contains(&label.chars().count()) {
        true => Ok(label),
        false => Err(ManagedError::Label),
    }
}
