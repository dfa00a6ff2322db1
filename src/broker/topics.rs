//! Looking topics and schemas up, and who may.

use std::sync::Arc;

use super::{
    Broker, SchemaError, SchemaRules, Tenant, TopicError, schemas::rules_of, source::Source,
};
use crate::{
    event_log::TopicState,
    schema::{
        Schema,
        registry::{
            EventType,
            uses::{Use, User, UserKind},
        },
    },
    types::{Principal, SchemaId, TopicKind, TopicName},
};

/// What one caller may know about a topic.
#[derive(Clone, Debug)]
pub struct TopicDescription {
    /// The topic's event type: its name and its schemas.
    pub event_type: Arc<EventType>,
    /// Whether the caller may publish to it.
    pub can_publish: bool,
    /// Whether the caller may subscribe to it.
    pub can_subscribe: bool,
    /// What the log holds of it.
    pub state: TopicState,
    /// What new versions of its schema are held to.
    pub rules: SchemaRules,
    /// Whether an event whose id comes again is stored once.
    pub is_idempotent: bool,
}

/// What one caller may do with a topic or a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether they may publish to it.
    pub can_publish: bool,
    /// Whether they may subscribe to it.
    pub can_subscribe: bool,
    /// Its schema; a channel has none, since its events have several.
    pub schema_id: Option<SchemaId>,
}

impl Broker {
    /// What the caller may do with the topic or channel called `name`. Nothing is published to a channel,
    /// and anyone may subscribe to one: of which topics they get the events is their rights' to say.
    ///
    /// # Errors
    ///
    /// [`TopicError`]; forbidden is a topic the caller may neither publish nor subscribe to.
    pub async fn access(&self, principal: &Principal, name: &str) -> Result<Access, TopicError> {
        let channel: Option<TopicName> = name.parse().ok();
        let channel = channel.filter(|name| name.kind() == TopicKind::Channel);
        let Some(channel) = channel else {
            let topic = self.topic(principal, name).await?;
            return Ok(Access {
                can_publish: topic.can_publish,
                can_subscribe: topic.can_subscribe,
                schema_id: Some(topic.event_type.current().id()),
            });
        };
        let tenant = self.tenant(principal.tenant).await?;
        Source::find(&tenant, &principal.grants, channel.as_str())
            .map_err(|_| TopicError::NotFound)?;
        Ok(Access {
            can_publish: false,
            can_subscribe: true,
            schema_id: None,
        })
    }

    /// Describes the topic called `name`.
    ///
    /// # Errors
    ///
    /// [`TopicError`]; forbidden is a topic the caller may neither publish nor subscribe to.
    pub async fn topic(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<TopicDescription, TopicError> {
        let (tenant, event_type) = self.find_topic(principal, name).await?;
        describe(principal, &tenant, Arc::clone(&event_type))
            .ok_or_else(|| TopicError::Forbidden(event_type.topic().clone()))
    }

    /// Describes every topic the caller may publish or subscribe to, by name.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`].
    pub async fn topics(&self, principal: &Principal) -> Result<Vec<TopicDescription>, TopicError> {
        let tenant = self.tenant(principal.tenant).await?;
        let event_types = tenant.schemas.event_types().into_iter();
        Ok(event_types
            .filter_map(|event_type| describe(principal, &tenant, event_type))
            .collect())
    }

    /// The schema with this id, for a caller with a right to a topic that has it among its versions.
    /// That it was asked for is remembered of the caller and of `client_name`.
    ///
    /// # Errors
    ///
    /// [`SchemaError`].
    pub async fn schema(
        &self,
        principal: &Principal,
        client_name: Option<&str>,
        id: &str,
    ) -> Result<Schema, SchemaError> {
        if id.trim().is_empty() {
            return Err(SchemaError::Empty);
        }
        let id: SchemaId = id.parse().map_err(|_| SchemaError::Forbidden)?;
        let tenant = self.tenant(principal.tenant).await?;
        let (schema, topic) = tenant.schemas.schema(&id).ok_or(SchemaError::Forbidden)?;
        if !may_use(principal, &topic) {
            return Err(SchemaError::Forbidden);
        }
        let users = users(principal, client_name);
        tenant.schemas.uses().note(&users, schema.id(), Use::Asked);
        Ok(schema)
    }

    /// Finds the topic called `name`, whoever may use it.
    pub(super) async fn find_topic(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<(Arc<Tenant>, Arc<EventType>), TopicError> {
        if name.trim().is_empty() {
            return Err(TopicError::Empty);
        }
        let name: TopicName = name.parse().map_err(|_| TopicError::NotFound)?;
        let tenant = self.tenant(principal.tenant).await?;
        let event_type = tenant
            .schemas
            .event_type(&name)
            .ok_or(TopicError::NotFound)?;
        Ok((tenant, event_type))
    }
}

/// Who a caller is to those who ask who uses a schema.
pub(super) fn users(principal: &Principal, client_name: Option<&str>) -> Vec<User> {
    let user = |kind, name| User { kind, name };
    let principal = user(UserKind::Principal, Arc::clone(&principal.name));
    let client = client_name.map(|name| user(UserKind::Client, name.into()));
    std::iter::once(principal).chain(client).collect()
}

fn describe(
    principal: &Principal,
    tenant: &Tenant,
    event_type: Arc<EventType>,
) -> Option<TopicDescription> {
    if !may_use(principal, event_type.topic()) {
        return None;
    }
    Some(TopicDescription {
        can_publish: principal.grants.may_publish(event_type.topic()),
        can_subscribe: principal.grants.may_subscribe(event_type.topic()),
        state: tenant.log.topic(event_type.topic_id()),
        rules: rules_of(tenant, Some(&event_type)),
        is_idempotent: tenant.ids.is_on(&event_type),
        event_type,
    })
}

pub(super) fn may_use(principal: &Principal, topic: &TopicName) -> bool {
    principal.grants.may_publish(topic) || principal.grants.may_subscribe(topic)
}
