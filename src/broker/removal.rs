//! What administrators have removed: single events, topics, and events before their time.
//!
//! Whoever calls this has asked whether the caller may. Each removal is on record before it begins
//! and again when it is done; the record says what was asked for and how many events it was, and
//! nothing of what they held.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{Broker, Comparison, Tenant, TopicError};
use crate::{
    event_log::{AuditEntry, Block, PositionError, ReadError, RemoveError},
    schema::registry::{EventType, RegistryError, SchemaVersion},
    types::{
        EventView, Position, Principal, TopicName,
        limits::{ERASED_AT_ONCE_MAX, READ_BYTES_MAX, RETENTION_MAX, RETENTION_MIN},
    },
};

/// Which events of a topic are meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// Those with one of these ids.
    Ids(HashSet<String>),
    /// Those whose payload has a field with a value.
    Field(Comparison),
}

/// What an erasure did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Events looked at.
    pub examined: u64,
    /// Events that were meant.
    pub matched: u64,
    /// Events that are not there any more; none in a rehearsal.
    pub erased: u64,
    /// Files that were made anew.
    pub segments: u64,
    /// Events whose payload could not be read, so that it is not known whether they were meant.
    pub unreadable: u64,
    /// Places where events are lost to damage.
    pub holes: u64,
}

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemovalError {
    /// The topic cannot be used.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log did not remove it, or not all of it.
    #[error(transparent)]
    Remove(#[from] RemoveError),
    /// The registry did not let go of the topic.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A field that no schema of the topic has: more likely a slip than a question.
    #[error("no schema of {topic} has a field {field}")]
    UnknownField {
        /// The topic.
        topic: TopicName,
        /// The field's name.
        field: String,
    },
    /// Channels have the topic as a member.
    #[error("the topic is a member of {}; remove it there first", names(.0))]
    InChannels(Vec<TopicName>),
    /// A retention that makes no sense; holds it.
    #[error("a topic keeps its events for {RETENTION_MIN:?} to {RETENTION_MAX:?}, not {0:?}")]
    Retention(Duration),
}

fn names(channels: &[TopicName]) -> String {
    let names: Vec<&str> = channels.iter().map(TopicName::as_str).collect();
    names.join(", ")
}

impl Selection {
    /// Refuses what can select nothing.
    fn check(&self, event_type: &EventType) -> Result<(), RemovalError> {
        let Self::Field(comparison) = self else {
            return Ok(());
        };
        let field = comparison.field();
        let has_field = |version: &SchemaVersion| {
            let fields = version.schema.program().root().fields().iter();
            fields
                .into_iter()
                .any(|found| found.name().eq_ignore_ascii_case(field))
        };
        match event_type.versions().iter().any(has_field) {
            true => Ok(()),
            false => Err(RemovalError::UnknownField {
                topic: event_type.topic().clone(),
                field: field.to_owned(),
            }),
        }
    }

    /// What was asked for, without the value that was looked for: that is what has to go.
    fn description(&self) -> String {
        match self {
            Self::Ids(ids) => format!("events by {} ids", ids.len()),
            Self::Field(comparison) => format!("events by a value of {}", comparison.field()),
        }
    }
}

impl Broker {
    /// Erases the events of a topic that are selected and were accepted before this call, or only
    /// counts them in a rehearsal.
    ///
    /// # Errors
    ///
    /// [`RemovalError`]: some of the events may be erased; the same call may be made again.
    pub async fn erase(
        &self,
        principal: &Principal,
        topic: &str,
        selection: &Selection,
        is_rehearsal: bool,
    ) -> Result<Erasure, RemovalError> {
        let (tenant, event_type) = self.find_topic(principal, topic).await?;
        selection.check(&event_type)?;
        let record = |detail| self.record(principal, "erase", event_type.topic(), detail);
        let what = selection.description();
        if !is_rehearsal {
            tenant.log.audit(record(format!("begins: {what}"))).await?;
        }
        let mut eraser = Eraser {
            tenant: &tenant,
            event_type: &event_type,
            selection,
            is_rehearsal,
            positions: Vec::new(),
            done: Erasure::default(),
        };
        let run = eraser.run().await;
        let done = eraser.done;
        if !is_rehearsal {
            let Erasure { erased, .. } = done;
            let end = match &run {
                Ok(()) => format!("done: {what}, {erased} erased"),
                Err(error) => format!("failed: {what}, {erased} erased: {error}"),
            };
            tenant.log.audit(record(end)).await?;
        }
        run.map(|()| done)
    }

    /// Deletes a topic with all its events. Its name may be registered again, and is a new topic
    /// then.
    ///
    /// # Errors
    ///
    /// [`RemovalError`]; the same call may be made again.
    pub async fn delete_topic(
        &self,
        principal: &Principal,
        topic: &str,
    ) -> Result<Arc<EventType>, RemovalError> {
        let (tenant, event_type) = self.find_topic(principal, topic).await?;
        let (channels, _held) = tenant.channels.with_member(event_type.topic()).await;
        if !channels.is_empty() {
            return Err(RemovalError::InChannels(channels));
        }
        let record = |detail: &str| {
            let name = event_type.topic();
            self.record(principal, "delete topic", name, detail.to_owned())
        };
        tenant.log.audit(record("begins")).await?;
        // The registry first: nothing is appended any more, and an opening finishes what stops here.
        tenant.schemas.delete(event_type.topic()).await?;
        tenant.log.delete_topic(event_type.topic_id()).await?;
        tenant.ids.forget(event_type.topic_id());
        tenant.log.audit(record("done")).await?;
        Ok(event_type)
    }

    /// Keeps the events of a topic for `retention`; as long as the log does with `None`.
    ///
    /// # Errors
    ///
    /// [`RemovalError`]: nothing was changed.
    pub async fn set_retention(
        &self,
        principal: &Principal,
        topic: &str,
        retention: Option<Duration>,
    ) -> Result<(), RemovalError> {
        let (tenant, event_type) = self.find_topic(principal, topic).await?;
        if let Some(retention) = retention
            && !(RETENTION_MIN..=RETENTION_MAX).contains(&retention)
        {
            return Err(RemovalError::Retention(retention));
        }
        let detail = match retention {
            Some(retention) => format!("{retention:?}"),
            None => "as long as the log".to_owned(),
        };
        let entry = self.record(principal, "set retention", event_type.topic(), detail);
        tenant.log.audit(entry).await?;
        let topic = event_type.topic_id();
        Ok(tenant.log.set_retention(topic, retention).await?)
    }

    /// Believes the wall clock where a jump of it has held retention back; returns whether one had.
    ///
    /// # Errors
    ///
    /// [`RemovalError`]: nothing was changed.
    pub async fn confirm_clock(&self, principal: &Principal) -> Result<bool, RemovalError> {
        let tenant = self.tenant(principal.tenant).await?;
        let entry = AuditEntry {
            at_ms: 0,
            by: principal.name.to_string(),
            action: "confirm the clock".into(),
            topic: None,
            detail: String::new(),
        };
        tenant.log.audit(entry).await?;
        Ok(tenant.log.confirm_clock())
    }

    fn record(
        &self,
        principal: &Principal,
        action: &str,
        topic: &TopicName,
        detail: String,
    ) -> AuditEntry {
        AuditEntry {
            at_ms: 0,
            by: principal.name.to_string(),
            action: action.to_owned(),
            topic: Some(topic.to_string()),
            detail,
        }
    }
}

/// One erasure under way: reads through the topic and erases what it finds.
struct Eraser<'a> {
    tenant: &'a Tenant,
    event_type: &'a EventType,
    selection: &'a Selection,
    is_rehearsal: bool,
    positions: Vec<Position>,
    done: Erasure,
}

impl Eraser<'_> {
    async fn run(&mut self) -> Result<(), RemovalError> {
        let log = &self.tenant.log;
        let topic = self.event_type.topic_id();
        let state = log.topic(topic);
        let mut after = state.trim;
        while after < state.last {
            let batch = match log.read(&[topic], after, READ_BYTES_MAX).await {
                Ok(batch) => batch,
                Err(ReadError::Position(error)) => {
                    after = self.behind(error)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for block in &batch.blocks {
                self.look(block, after);
            }
            after = batch.examined;
            if self.positions.len() >= ERASED_AT_ONCE_MAX {
                self.erase().await?;
            }
            // Looking at payloads takes a while, and others wait for this thread.
            tokio::task::yield_now().await;
        }
        self.erase().await
    }

    /// Where to go on when a position cannot be read from.
    fn behind(&mut self, error: PositionError) -> Result<Position, RemovalError> {
        match error {
            PositionError::Damaged { valid_from, .. } => {
                self.done.holes += 1;
                Ok(valid_from)
            }
            // Retention was faster.
            PositionError::Purged { valid_from, .. } | PositionError::Lost { valid_from, .. } => {
                Ok(valid_from)
            }
            error => Err(ReadError::from(error).into()),
        }
    }

    fn look(&mut self, block: &Block, after: Position) {
        for (position, event) in block.events() {
            if position <= after {
                continue;
            }
            self.done.examined += 1;
            match self.is_meant(event) {
                Some(true) => {
                    self.done.matched += 1;
                    self.positions.push(position);
                }
                Some(false) => {}
                None => self.done.unreadable += 1,
            }
        }
    }

    /// Whether an event is meant; `None` if that cannot be told.
    fn is_meant(&self, event: &[u8]) -> Option<bool> {
        let event = EventView::parse(event).ok()?;
        match self.selection {
            Selection::Ids(ids) => Some(ids.contains(event.id())),
            Selection::Field(comparison) => {
                let schema = self.event_type.version(&event.schema_id().parse().ok()?)?;
                let payload = schema.schema.to_json(event.payload()).ok()?;
                Some(comparison.holds(&payload))
            }
        }
    }

    async fn erase(&mut self) -> Result<(), RemovalError> {
        let positions = std::mem::take(&mut self.positions);
        if self.is_rehearsal || positions.is_empty() {
            return Ok(());
        }
        let topic = self.event_type.topic_id();
        let erased = self.tenant.log.erase(topic, positions.clone()).await;
        match &erased {
            Ok(_) => self.tenant.ids.erased(topic, &positions),
            // Which of them are gone the log has to say.
            Err(_) => self.tenant.ids.forget(topic),
        }
        let erased = erased?;
        self.done.erased += erased.events;
        self.done.segments += erased.segments;
        Ok(())
    }
}
