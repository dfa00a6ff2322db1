//! One change event, made of a record before and after its change.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::{event::EventWriter, pipeline::Pipeline};
use crate::{
    cli::{exit::Failure, output::Output},
    client::Connection,
    publisher::{Event, Publisher},
    schema::change_event::{self, ChangeError, ChangeType, HeaderFacts, RecordId, Side},
    types::{PlatformId, TopicKind, TopicName, limits::PUBLISH_LINE_BYTES_MAX},
};

/// Arguments that make a change event.
#[derive(Debug, clap::Args)]
pub(super) struct ChangeArgs {
    /// Publish the change of a record, given as a file of JSON before and one after; an empty file,
    /// or one that says null, is no record
    #[arg(
        long,
        num_args = 2,
        value_names = ["BEFORE", "AFTER"],
        conflicts_with_all = ["stdin", "json", "file"]
    )]
    change: Option<Vec<PathBuf>>,
    /// What happened to the record, such as UNDELETE or GAP_UPDATE; told by the files if not given
    #[arg(long, value_name = "TYPE", requires = "change")]
    change_type: Option<ChangeType>,
    /// The id of a record that changed, instead of the Id in the files; may be given several times
    #[arg(long, value_name = "ID", requires = "change")]
    record_id: Vec<RecordId>,
    /// What made the change, such as com/salesforce/api/rest/62.0;client=shop
    #[arg(long, value_name = "ORIGIN", requires = "change")]
    change_origin: Option<String>,
    /// The transaction that the change is part of; a new one if not given
    #[arg(long, value_name = "KEY", requires = "change")]
    transaction_key: Option<String>,
    /// The id of the user who made the change
    #[arg(long, value_name = "ID", requires = "change")]
    commit_user: Option<PlatformId>,
}

/// A change that is ready to be told once its schema is known.
#[derive(Debug)]
pub(super) struct Change {
    before: PathBuf,
    after: PathBuf,
    records: change_event::Change,
    change_type: Option<ChangeType>,
    record_ids: Vec<RecordId>,
    change_origin: Option<String>,
    transaction_key: Option<String>,
    commit_user: Option<PlatformId>,
}

impl ChangeArgs {
    /// Reads the records if a change is to be published, and refuses a topic that has none.
    pub(super) async fn open(self, topic: &TopicName) -> Result<Option<Change>, Failure> {
        let Some(files) = self.change else {
            return Ok(None);
        };
        let [before, after] = <[PathBuf; 2]>::try_from(files).expect("the parser asks for two");
        if topic.kind() != TopicKind::ChangeEvent {
            return Err(Failure::Usage(format!(
                "{topic} is no topic of change events, wanted one such as \
                 /data/Shipment__ChangeEvent"
            )));
        }
        let records = change_event::Change {
            before: read(&before).await?,
            after: read(&after).await?,
        };
        Ok(Some(Change {
            before,
            after,
            records,
            change_type: self.change_type,
            record_ids: self.record_id,
            change_origin: self.change_origin,
            transaction_key: self.transaction_key,
            commit_user: self.commit_user,
        }))
    }
}

impl Change {
    /// Encodes the event that tells this change; a sentence says why there is none.
    fn encode(&self, writer: &EventWriter) -> Result<Event, String> {
        let payload = change_event::build(writer.schema(), &self.records, &self.facts(writer))
            .map_err(|error| match error {
                // The files are what whoever typed the command knows the records by.
                ChangeError::Record { side, reason } => format!("{}: {reason}", self.file(side)),
                error @ ChangeError::NoRecordId => format!("{error}; --record-id gives one"),
                error => error.to_string(),
            })?;
        Ok(writer.event(payload))
    }

    fn facts(&self, writer: &EventWriter) -> HeaderFacts {
        let now_ms = writer.now().as_millis();
        let fresh_key = || uuid::Uuid::new_v4().to_string();
        let key = self.transaction_key.clone().unwrap_or_else(fresh_key);
        // The time is a number too that grows from commit to commit, also over processes, and that
        // JavaScript can hold. Commits of one millisecond share it, as the number may be shared.
        let mut facts = HeaderFacts::of_commit(key, now_ms, now_ms);
        facts.change_type = self.change_type;
        facts.record_ids.clone_from(&self.record_ids);
        facts.change_origin = self.change_origin.clone().unwrap_or_default();
        facts.commit_user = self.commit_user.unwrap_or(facts.commit_user);
        facts
    }

    fn file(&self, side: Side) -> std::path::Display<'_> {
        match side {
            Side::Before => self.before.display(),
            Side::After => self.after.display(),
        }
    }
}

/// Publishes the change and writes the result.
pub(super) async fn publish<W: AsyncWrite + Unpin>(
    connection: &Connection,
    topic: TopicName,
    change: &Change,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let writer = super::look_up(connection, &topic).await?;
    let event = change.encode(&writer);
    let hidden = indicatif::ProgressBar::hidden();
    let publisher = Publisher::builder(connection.clone(), topic).start();
    let pipeline = Pipeline::new(connection, publisher, writer, output, &hidden, None);
    let (tally, ended) = pipeline.run_single(event).await;
    super::conclude(ended, tally)
}

/// The record in a file; `None` if the file is empty or says null.
async fn read(path: &Path) -> Result<Option<Value>, Failure> {
    let file = super::open_for_reading(path).await?.0;
    let mut text = Vec::new();
    // A pipe has no length that could be asked for first.
    let most = PUBLISH_LINE_BYTES_MAX as u64 + 1;
    let read = file.take(most).read_to_end(&mut text).await;
    read.map_err(|error| super::unreadable(path, &error))?;
    if text.len() > PUBLISH_LINE_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "{} has more than {PUBLISH_LINE_BYTES_MAX} bytes, wanted a record of at most as many",
            path.display()
        )));
    }
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Null) => Ok(None),
        Ok(record) => Ok(Some(record)),
        Err(error) => Err(Failure::Usage(format!(
            "{} is not JSON: {error}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests;
