//! Registering a schema: judged, stored, shown.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

use super::{
    EventType, Registration, RegistryError, Retired, RuleSettings, SchemaVersion, TenantSchemas,
    Verdict, known::Known, verdict,
};
use crate::{
    metadata::{
        Change, Expected,
        records::{self, SchemaRecord},
    },
    schema::{Schema, SchemaError},
    types::{
        SchemaId, TopicId, TopicName,
        limits::{SCHEMA_VERSIONS_MAX, TENANT_SCHEMAS_BYTES_MAX, TOPICS_MAX},
    },
};

/// A schema that is to be registered.
#[derive(Clone, Debug)]
pub struct Registering<'a> {
    /// The schema.
    pub schema: &'a Schema,
    /// Who registers it, as people know them.
    pub by: &'a str,
    /// The topic that is meant, if that is said: a schema of another one is refused.
    pub topic: Option<&'a TopicName>,
    /// The schema that has to be the current one, if that is said.
    pub expected: Option<SchemaId>,
    /// Whether the topic may not be there yet.
    pub is_new_topic: bool,
    /// Whether the schema was read from a file: one that says what it said before changes nothing,
    /// whatever was registered since.
    pub is_file: bool,
    /// Whether to find out what registering it would do, and to register nothing.
    pub is_rehearsal: bool,
}

impl<'a> Registering<'a> {
    /// A schema to be registered under the topic that its record's name asks for.
    pub fn new(schema: &'a Schema, by: &'a str) -> Self {
        Self {
            schema,
            by,
            topic: None,
            expected: None,
            is_new_topic: false,
            is_file: false,
            is_rehearsal: false,
        }
    }

    fn file_sha256(&self) -> Option<String> {
        let text = self.schema.text();
        self.is_file.then(|| STANDARD.encode(Sha256::digest(text)))
    }
}

/// What a registration changes.
struct Plan {
    before: Option<Arc<EventType>>,
    after: EventType,
    verdict: Verdict,
}

impl Plan {
    fn overtaken(self) -> RegistryError {
        RegistryError::Overtaken {
            topic: self.verdict.topic,
            current: self.verdict.current,
        }
    }
}

impl TenantSchemas {
    /// Registers a schema under the topic that its record's name asks for, and makes it that topic's
    /// current version, unless the verdict has objections. Durable when it returns; a second call
    /// changes nothing. A retired version is none any more once it is registered again.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; nothing was registered, unless the store failed. It is
    /// [`RegistryError::Overtaken`] if another registration came between this call and its turn.
    ///
    /// # Cancel safety
    ///
    /// After a drop the schema may be registered all the same.
    pub async fn register(
        self: &Arc<Self>,
        new: Registering<'_>,
    ) -> Result<Verdict, RegistryError> {
        if new.is_rehearsal {
            let plan = self.plan(&new)?;
            return Ok(self.judge(plan, new.schema).await?.verdict);
        }
        let outcome = self.register_uncounted(new).await;
        self.metrics.count(&outcome);
        outcome
    }

    async fn register_uncounted(
        self: &Arc<Self>,
        new: Registering<'_>,
    ) -> Result<Verdict, RegistryError> {
        // What whoever calls may have looked at.
        let at_arrival = self.current(&topic_of(new.schema)?);
        let changing = self.change().await?;
        let plan = self.plan(&new)?;
        let current = self.current(&plan.verdict.topic);
        if current.as_ref() != Some(new.schema) && current != at_arrival {
            return Err(plan.overtaken());
        }
        let Plan {
            mut after, verdict, ..
        } = self.judge(plan, new.schema).await?;
        let file_sha256 = new.file_sha256();
        let is_noted = file_sha256.is_none() || file_sha256 == after.file_sha256;
        let is_unchanged = verdict.registration == Registration::Unchanged;
        if verdict.is_refused() || (is_unchanged && is_noted) {
            return Ok(verdict);
        }
        after.file_sha256 = file_sha256.or(after.file_sha256);
        let expected = match after.revision {
            0 => Expected::Absent,
            revision => Expected::Revision(revision),
        };
        let mut changes = vec![records::change(&after.record(), expected)];
        let text = self.text_change(new.schema);
        let schema = text.is_some().then(|| new.schema.clone());
        changes.extend(text);
        let show = move |known: &mut Known| {
            schema.iter().for_each(|schema| known.insert_text(schema));
            known.insert_stored(after);
        };
        self.commit(changing, changes, show).await?;
        Ok(verdict)
    }

    fn current(&self, topic: &TopicName) -> Option<Schema> {
        let event_type = self.event_type(topic)?;
        Some(event_type.current().clone())
    }

    /// What registering a schema does, as things are, without having judged it.
    fn plan(&self, new: &Registering<'_>) -> Result<Plan, RegistryError> {
        let schema = new.schema;
        let topic = topic_of(schema)?;
        if let Some(meant) = new.topic.filter(|meant| **meant != topic) {
            return Err(RegistryError::OtherTopic {
                topic,
                meant: meant.clone(),
            });
        }
        let before = self.event_type(&topic);
        if new.is_new_topic && before.is_some() {
            return Err(RegistryError::TopicExists(topic));
        }
        let (mut after, mut registration) = match &before {
            None => (
                self.new_event_type(topic.clone(), new)?,
                Registration::NewTopic,
            ),
            Some(before) => before.with(schema, self.clock.now(), new.by),
        };
        let file_sha256 = new.file_sha256();
        if let Some(before) = before.as_ref().filter(|_| file_sha256.is_some())
            && before.file_sha256 == file_sha256
        {
            // The file says what it said: whatever came since stays.
            (after, registration) = (EventType::clone(before), Registration::Unchanged);
        }
        let verdict = Verdict {
            number: after.number(&schema.id()).unwrap_or(after.versions.len()),
            current: before.as_ref().map(|before| before.current().id()),
            topic,
            schema_id: schema.id(),
            registration,
            rules: self.rules(before.as_deref()),
            objections: Vec::new(),
            more: 0,
        };
        let plan = Plan {
            before,
            after,
            verdict,
        };
        let is_expected = new
            .expected
            .is_none_or(|expected| plan.verdict.current == Some(expected));
        if !is_expected && registration != Registration::Unchanged {
            return Err(plan.overtaken());
        }
        Ok(plan)
    }

    /// Judges what is planned, unless it changes nothing.
    async fn judge(&self, mut plan: Plan, schema: &Schema) -> Result<Plan, RegistryError> {
        if plan.verdict.registration == Registration::Unchanged {
            return Ok(plan);
        }
        let (judged, against) = (schema.clone(), plan.before.clone());
        let rules = plan.verdict.rules;
        let judging = self.in_room(move || verdict::objections(&judged, against.as_deref(), rules));
        (plan.verdict.objections, plan.verdict.more) = judging.await?;
        self.check_bounds(&plan.after, schema)?;
        Ok(plan)
    }

    /// Parses a text that somebody sent, in the room that there is for such work.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Interrupted`]; the inner error is the text's.
    pub async fn parse(&self, text: &str) -> Result<Result<Schema, SchemaError>, RegistryError> {
        let text = text.to_owned();
        self.in_room(move || Schema::parse(&text)).await
    }

    /// Does some work that may take long beside what else runs here, once there is room for it. It keeps
    /// its room to its end, also if nobody waits for it any more.
    async fn in_room<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RegistryError> {
        let room = Arc::clone(&self.judging).acquire_owned().await;
        let room = room.expect("the room is never closed");
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(room);
            done
        });
        working.await.map_err(|_| RegistryError::Interrupted)
    }

    /// Registers a schema whatever is wrong with it.
    #[cfg(test)]
    pub(crate) async fn register_unchecked(
        self: &Arc<Self>,
        schema: &Schema,
    ) -> Result<(Arc<EventType>, Registration), RegistryError> {
        let none = super::RuleChange {
            level: Some(super::Setting::Set(
                crate::schema::compatibility::Level::None,
            )),
            checks: crate::schema::platform::Check::ALL
                .map(|check| (check, super::Setting::Set(false)))
                .into(),
        };
        if self.defaults() == RuleSettings::default() {
            self.set_rules(None, &none).await?;
        }
        let verdict = self.register(Registering::new(schema, "test")).await?;
        assert_eq!(verdict.objections, []);
        let event_type = self.event_type(&verdict.topic).expect("just registered");
        Ok((event_type, verdict.registration))
    }

    fn new_event_type(
        &self,
        topic: TopicName,
        new: &Registering<'_>,
    ) -> Result<EventType, RegistryError> {
        let known = self.known();
        if known.by_topic.len() >= TOPICS_MAX {
            return Err(RegistryError::TooManyTopics);
        }
        // Names that differ only in case would be one event to the platform's tools.
        let twin = known
            .by_topic
            .keys()
            .find(|name| name.as_str().eq_ignore_ascii_case(topic.as_str()));
        if let Some(twin) = twin {
            return Err(RegistryError::SameButCase {
                topic,
                twin: twin.clone(),
            });
        }
        let all = known.by_topic.values().chain(known.deleted.values());
        let last = all.map(|event_type| event_type.topic_id.get()).max();
        let topic_id = TopicId::new(last.unwrap_or(0) + 1);
        let now = self.clock.now();
        let Some(deleted) = known.deleted.get(&topic) else {
            return Ok(EventType {
                topic,
                topic_id,
                validates: true,
                idempotent: None,
                created_at: now,
                deleted_at: None,
                former_ids: Vec::new(),
                versions: vec![SchemaVersion::new(new.schema, now, new.by)],
                current: 0,
                settings: RuleSettings::default(),
                file_sha256: None,
                revision: 0,
            });
        };
        // Another topic of the same name: it has none of the events that the earlier versions are for.
        let (mut again, _) = deleted.with(new.schema, now, new.by);
        again.former_ids.push(deleted.topic_id);
        let current = again.current;
        for (index, version) in again.versions.iter_mut().enumerate() {
            if index != current && version.retired.is_none() {
                version.retired = Some(Retired {
                    at: deleted.deleted_at.unwrap_or(now),
                    by: new.by.to_owned(),
                });
            }
        }
        Ok(EventType {
            topic_id,
            created_at: now,
            deleted_at: None,
            validates: true,
            idempotent: None,
            settings: RuleSettings::default(),
            file_sha256: None,
            ..again
        })
    }

    /// Holds what is to be stored to its bounds.
    fn check_bounds(&self, after: &EventType, schema: &Schema) -> Result<(), RegistryError> {
        if after.versions.len() > SCHEMA_VERSIONS_MAX {
            return Err(RegistryError::TooManyVersions(after.topic.clone()));
        }
        let known = self.known();
        let bytes = known.text_bytes - known.schema_bytes(schema) + schema.text().len();
        if bytes > TENANT_SCHEMAS_BYTES_MAX {
            return Err(RegistryError::SchemasTooLarge(bytes));
        }
        Ok(())
    }

    /// The write of the schema's text, if it is not what is stored.
    fn text_change(&self, schema: &Schema) -> Option<Change> {
        if self
            .schema(&schema.id())
            .is_some_and(|(stored, _)| stored.text() == schema.text())
        {
            return None;
        }
        let known = self.known();
        let expected = known.schema_revisions.get(&schema.id());
        let expected = expected.map_or(Expected::Absent, |&at| Expected::Revision(at));
        let record = SchemaRecord {
            id: schema.id().to_string(),
            text: schema.text().to_owned(),
        };
        Some(records::change(&record, expected))
    }
}

/// The topic that a schema's record asks for.
fn topic_of(schema: &Schema) -> Result<TopicName, RegistryError> {
    TopicName::for_record(schema.record_name()).map_err(|reason| RegistryError::Name {
        record: schema.record_name().into(),
        reason,
    })
}
