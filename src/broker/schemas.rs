//! Registering schemas, retiring them, and what they are held to; and who would break.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{Broker, Tenant, TopicError, topics::may_use};
use crate::{
    schema::{
        SchemaError,
        compatibility::Direction,
        registry::{
            EventType, Objection, Registering, RegistryError, RuleChange, RuleSettings, Rules,
            Verdict,
            uses::{LastUsed, User},
        },
    },
    types::{Principal, SchemaId, SchemaIdError, TenantId, TopicName, limits::AFFECTED_USERS_MAX},
};

/// A schema that somebody wants to register.
#[derive(Clone, Debug, Default)]
pub struct NewSchema<'a> {
    /// Its text.
    pub text: &'a str,
    /// The topic that is meant; empty for the one that the record's name asks for.
    pub topic: &'a str,
    /// The schema that has to be the current one; empty for any.
    pub expected: &'a str,
    /// Whether the topic may not be there yet.
    pub is_new_topic: bool,
    /// Whether to find out what registering it would do, and to register nothing.
    pub is_rehearsal: bool,
}

/// A verdict, and who would break if it had been another.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What the registry says.
    pub verdict: Verdict,
    /// Those who use a version that the schema is not compatible with, the latest first.
    pub affected: Vec<Affected>,
    /// How many of them are not listed.
    pub affected_more: usize,
}

/// Somebody who would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// Who.
    pub user: User,
    /// The version that they use.
    pub schema_id: SchemaId,
    /// In which directions it is not compatible with what they do.
    pub directions: Vec<Direction>,
    /// When they last used it.
    pub used: LastUsed,
}

/// A version that is retired, or would be.
#[derive(Clone, Debug)]
pub struct RetiredSchema {
    /// The event type that has it among its versions.
    pub event_type: Arc<EventType>,
    /// Its place among them, from 1.
    pub number: usize,
    /// Who published with it, the latest first.
    pub publishers: Vec<Affected>,
}

/// What schemas are held to, and where that is set.
#[derive(Clone, Debug)]
pub struct SchemaRules {
    /// What holds.
    pub rules: Rules,
    /// What is set for the topic; nothing if the tenant's defaults were asked for.
    pub topic: RuleSettings,
    /// What is set by default for the tenant.
    pub defaults: RuleSettings,
}

/// Why schemas were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaChangeError {
    /// The topic cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The text is no schema.
    #[error("the schema is refused: {0} [{rule}]", rule = .0.rule())]
    Schema(SchemaError),
    /// The text that stands for a schema id is none.
    #[error("the schema id is refused: {0}")]
    SchemaId(#[from] SchemaIdError),
    /// The registry refused, or could not.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Broker {
    /// Registers a schema, or finds out what registering it would do. Nothing is registered if the
    /// verdict has objections.
    ///
    /// A rehearsal is for whoever may use the topic; registering is for administrators, which the edge
    /// asks.
    ///
    /// # Errors
    ///
    /// [`SchemaChangeError`]; nothing was registered, unless the store failed.
    pub async fn register_schema(
        &self,
        principal: &Principal,
        new: NewSchema<'_>,
    ) -> Result<Judged, SchemaChangeError> {
        let tenant = self.tenant(principal.tenant).await?;
        let parsed = tenant.schemas.parse(new.text).await?;
        let schema = parsed.map_err(SchemaChangeError::Schema)?;
        let topic = named(new.topic)?;
        if !principal.grants.admin
            && let Ok(topic) = TopicName::for_record(schema.record_name())
            && !may_use(principal, &topic)
        {
            return Err(TopicError::Forbidden(topic).into());
        }
        let expected = match new.expected {
            "" => None,
            id => Some(id.parse()?),
        };
        let registering = Registering {
            topic: topic.as_ref(),
            expected,
            is_new_topic: new.is_new_topic,
            is_rehearsal: new.is_rehearsal,
            ..Registering::new(&schema, &principal.name)
        };
        let verdict = tenant.schemas.register(registering).await?;
        // Who else is out there is not told to everyone.
        let mut affected = match principal.grants.admin {
            true => affected(&tenant, &verdict),
            false => Vec::new(),
        };
        let affected_more = affected.len().saturating_sub(AFFECTED_USERS_MAX);
        affected.truncate(AFFECTED_USERS_MAX);
        Ok(Judged {
            verdict,
            affected,
            affected_more,
        })
    }

    /// Retires a version of a topic's schema, or finds out who would be refused then.
    ///
    /// # Errors
    ///
    /// [`SchemaChangeError`]; nothing was changed, unless the store failed.
    pub async fn retire_schema(
        &self,
        principal: &Principal,
        id: &str,
        is_rehearsal: bool,
    ) -> Result<RetiredSchema, SchemaChangeError> {
        let schema_id: SchemaId = id.parse()?;
        let tenant = self.tenant(principal.tenant).await?;
        let found = tenant.schemas.version(&schema_id);
        let (found, _) = found.ok_or(RegistryError::NoSchema(schema_id))?;
        let (topic, by) = (found.topic(), &principal.name);
        let retiring = tenant.schemas.retire(topic, &schema_id, by, is_rehearsal);
        let event_type = retiring.await?;
        let users = tenant.schemas.uses().of(&schema_id).into_iter();
        let publishers = users.filter(|(_, used)| used.published.is_some());
        let publishers = publishers.map(|(user, used)| Affected {
            user,
            schema_id,
            directions: Vec::new(),
            used,
        });
        Ok(RetiredSchema {
            number: event_type.number(&schema_id).unwrap_or(1),
            event_type,
            publishers: publishers.take(AFFECTED_USERS_MAX).collect(),
        })
    }

    /// The event type that has a schema among its versions, for a caller with a right to it, and the
    /// number of that version. It does not count as a use of the schema.
    ///
    /// # Errors
    ///
    /// [`SchemaChangeError`].
    pub async fn schema_version(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<(Arc<EventType>, usize), SchemaChangeError> {
        let id: SchemaId = id.parse()?;
        let tenant = self.tenant(principal.tenant).await?;
        let found = tenant.schemas.version(&id).filter(|(event_type, _)| {
            principal.grants.admin || may_use(principal, event_type.topic())
        });
        Ok(found.ok_or(RegistryError::NoSchema(id))?)
    }

    /// What new versions of a topic are held to, or by default those of the tenant's for an empty name.
    ///
    /// # Errors
    ///
    /// [`SchemaChangeError`].
    pub async fn schema_rules(
        &self,
        principal: &Principal,
        topic: &str,
    ) -> Result<SchemaRules, SchemaChangeError> {
        let tenant = self.tenant(principal.tenant).await?;
        let Some(topic) = named(topic)? else {
            return Ok(rules_of(&tenant, None));
        };
        let event_type = tenant.schemas.event_type(&topic);
        let event_type = event_type.ok_or(TopicError::NotFound)?;
        Ok(rules_of(&tenant, Some(&event_type)))
    }

    /// Changes what new versions of a topic are held to, or by default those of the tenant's for an
    /// empty name. What is registered already stays.
    ///
    /// # Errors
    ///
    /// [`SchemaChangeError`]; nothing was changed, unless the store failed.
    pub async fn set_schema_rules(
        &self,
        principal: &Principal,
        topic: &str,
        change: &RuleChange,
    ) -> Result<SchemaRules, SchemaChangeError> {
        let tenant = self.tenant(principal.tenant).await?;
        let name = named(topic)?;
        tenant.schemas.set_rules(name.as_ref(), change).await?;
        self.schema_rules(principal, topic).await
    }

    /// Has payloads of a topic validated when they are published, or not.
    ///
    /// # Errors
    ///
    /// [`SchemaChangeError`]; nothing was changed, unless the store failed.
    pub async fn set_validation(
        &self,
        principal: &Principal,
        topic: &str,
        validates: bool,
    ) -> Result<(), SchemaChangeError> {
        let (tenant, event_type) = self.find_topic(principal, topic).await?;
        let topic = event_type.topic();
        tenant.schemas.set_validation(topic, validates).await?;
        Ok(())
    }

    /// Has publishing to a topic be idempotent, or not, or as the gateway has it by default. Holds for
    /// every publish that begins after this returns.
    ///
    /// # Errors
    ///
    /// [`SchemaChangeError`]; nothing was changed, unless the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn set_idempotence(
        &self,
        principal: &Principal,
        topic: &str,
        idempotent: Option<bool>,
    ) -> Result<(), SchemaChangeError> {
        let (tenant, event_type) = self.find_topic(principal, topic).await?;
        let changing = tokio::spawn(async move {
            let (topic, id) = (event_type.topic(), event_type.topic_id());
            // Before, since what was published while it was off is not known; and after, since it
            // is of no use while it is off.
            tenant.ids.forget(id);
            let changed = tenant.schemas.set_idempotence(topic, idempotent).await;
            tenant.ids.forget(id);
            changed
        });
        // It panicked, which is a bug of ours, or the program ends.
        changing.await.map_err(|_| RegistryError::Interrupted)??;
        Ok(())
    }

    /// Writes down who used which schemas, of every tenant that is open. To be called now and then, and
    /// at the end.
    pub async fn flush_schema_uses(&self) {
        for (id, tenant) in self.0.tenants.open() {
            flush_uses(id, &tenant).await;
        }
    }
}

/// Writes down who used which schemas of a tenant, if that has changed.
pub(super) async fn flush_uses(id: TenantId, tenant: &Tenant) {
    let uses = tenant.schemas.uses();
    if !uses.is_changed() {
        return;
    }
    if let Err(error) = uses.flush().await {
        tracing::warn!(tenant_id = %id, %error, "who uses which schema was not written down");
    }
}

/// The topic that is named, if one is.
fn named(topic: &str) -> Result<Option<TopicName>, TopicError> {
    match topic {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|_| TopicError::NotFound),
    }
}

pub(super) fn rules_of(tenant: &Tenant, event_type: Option<&EventType>) -> SchemaRules {
    SchemaRules {
        rules: tenant.schemas.rules(event_type),
        topic: event_type.map_or_else(RuleSettings::default, |it| it.settings().clone()),
        defaults: tenant.schemas.defaults(),
    }
}

/// Finds out who uses the versions that a schema is not compatible with.
fn affected(tenant: &Tenant, verdict: &Verdict) -> Vec<Affected> {
    let mut broken: HashMap<SchemaId, Vec<Direction>> = HashMap::new();
    for objection in &verdict.objections {
        let Objection::Incompatible {
            violation, with, ..
        } = objection
        else {
            continue;
        };
        match broken.entry(*with) {
            Entry::Occupied(found) if found.get().contains(&violation.direction) => {}
            found => found.or_default().push(violation.direction),
        }
    }
    let mut affected: Vec<_> = broken
        .into_iter()
        .flat_map(|(schema_id, directions)| {
            let users = tenant.schemas.uses().of(&schema_id).into_iter();
            users.map(move |(user, used)| {
                let breaks = directions.iter().copied();
                let breaks = breaks.filter(|direction| used.breaks(*direction));
                Affected {
                    user,
                    schema_id,
                    directions: breaks.collect(),
                    used,
                }
            })
        })
        .filter(|affected| !affected.directions.is_empty())
        .collect();
    affected.sort_by(|a, b| {
        let by_name = || (&a.user, a.schema_id).cmp(&(&b.user, b.schema_id));
        b.used.at().cmp(&a.used.at()).then_with(by_name)
    });
    affected
}
