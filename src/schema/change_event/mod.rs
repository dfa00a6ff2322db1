//! Change events: what is published when a record is created, changed, deleted or restored.
//!
//! The record of such an event begins with a `ChangeEventHeader`; all fields after it are the
//! record's and nullable. [`build`] makes one out of the record before and after the change, and
//! [`bitmap`] writes and reads the sets of fields that the header holds. There is no clock here and
//! no I/O: what the header says of a transaction is the caller's to know.
//!
//! # What an event says
//!
//! | change | fields of the body | `changedFields`, `nulledFields` |
//! |---|---|---|
//! | CREATE, UNDELETE | all that are not null | empty |
//! | UPDATE | those that changed, the rest is null | those that changed; those of them that became null |
//! | DELETE, GAP_… | null | empty |
//!
//! `diffFields` is always empty: values are sent whole, however long.
//!
//! # Compound fields
//!
//! A compound field (an address, a place, a person's name) is compared child by child, and an
//! update holds and names only the children that changed: `Dest__c.Longitude`. A compound field
//! that is null has only children that are null. So one that is set or cleared as a whole is told by
//! its children too, and clients that compare names find the same ones however it came about; the
//! Java client reports the field itself if all of its children changed, as it does for events of the
//! hosted service. The field's own bit would be read by every client too, but as one more way to say
//! the same, which no subscriber is written for.
//!
//! By its own bit is told what clients find no children in: a field that is no record, one that
//! changes between text and record as an account's name does, and a record that is not nullable in
//! the documented form, as [`bitmap`] says.
//!
//! Source: the public Change Data Capture Developer Guide, "Change Event Header Fields", "Change
//! Event Body Fields" and "Get Compound Fields in Change Events"; the Pub/Sub API Developer Guide,
//! "Event Deserialization Considerations".

pub mod bitmap;
mod build;
mod error;
mod shape;

use std::{fmt, str::FromStr};

use serde_json::Value;

use super::Fill;
use crate::types::PlatformId;

pub use bitmap::FieldIndex;
pub use build::build;
pub use error::{ChangeError, RecordError, RecordIdError, Side};

/// A record before and after a change, each whole and in the [JSON form](super::json) of its
/// fields; absent fields are null.
///
/// What the platform's REST API returns beside those fields is passed over: `attributes`,
/// `IsDeleted` and `SystemModstamp`. `Id` tells the record's id. Values are those of events all the
/// same: a date is a number of milliseconds, and not the text that REST has for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// The record before; `None` if there was none.
    pub before: Option<Value>,
    /// The record after; `None` if there is none.
    pub after: Option<Value>,
}

/// What the header says beside the change itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFacts {
    /// The kind of record; told by the schema's name if absent: `Shipment__ChangeEvent` is of
    /// `Shipment__c`, `AccountChangeEvent` of `Account`.
    pub entity_name: Option<String>,
    /// The records that changed, more than one if all changed alike; the record's own id if empty.
    pub record_ids: Vec<RecordId>,
    /// Told by which records there are if absent: CREATE, UPDATE or DELETE.
    pub change_type: Option<ChangeType>,
    /// What made the change, such as `com/salesforce/api/rest/62.0;client=shop`; mostly empty.
    pub change_origin: String,
    /// The same for all changes of one transaction.
    pub transaction_key: String,
    /// The place of the change in its transaction, from 1.
    pub sequence_number: i32,
    /// When the transaction was committed, in milliseconds since the Unix epoch.
    pub commit_timestamp_ms: i64,
    /// Greater for each later commit.
    pub commit_number: i64,
    /// The user who made the change.
    pub commit_user: PlatformId,
}

impl HeaderFacts {
    /// The facts of the first change of a transaction by nobody in particular; the rest is told by
    /// the change.
    pub fn of_commit(
        transaction_key: String,
        commit_timestamp_ms: i64,
        commit_number: i64,
    ) -> Self {
        Self {
            entity_name: None,
            record_ids: Vec::new(),
            change_type: None,
            change_origin: String::new(),
            transaction_key,
            sequence_number: 1,
            commit_timestamp_ms,
            commit_number,
            commit_user: Fill::NOBODY.parse().expect("the id of nobody is one"),
        }
    }
}

/// What happened to a record, or that something did which is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeType {
    /// A record was made.
    Create,
    /// A record was changed.
    Update,
    /// A record was deleted.
    Delete,
    /// A record that was deleted is back.
    Undelete,
    /// A record was made, and is to be read again to know it.
    GapCreate,
    /// A record was changed, and is to be read again to know how.
    GapUpdate,
    /// A record was deleted, and there is nothing else to know.
    GapDelete,
    /// A record that was deleted is back, and is to be read again to know it.
    GapUndelete,
    /// More records changed at once than there are events for.
    GapOverflow,
}

impl ChangeType {
    /// Every change type.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Undelete,
        Self::GapCreate,
        Self::GapUpdate,
        Self::GapDelete,
        Self::GapUndelete,
        Self::GapOverflow,
    ];

    /// The symbol of the schemas' enum.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Undelete => "UNDELETE",
            Self::GapCreate => "GAP_CREATE",
            Self::GapUpdate => "GAP_UPDATE",
            Self::GapDelete => "GAP_DELETE",
            Self::GapUndelete => "GAP_UNDELETE",
            Self::GapOverflow => "GAP_OVERFLOW",
        }
    }
}

impl fmt::Display for ChangeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChangeType {
    type Err = ChangeTypeError;

    fn from_str(text: &str) -> Result<Self, ChangeTypeError> {
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.as_str() == text)
            .ok_or(ChangeTypeError)
    }
}

/// Why text is not a change type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wanted one of {}", ChangeType::ALL.map(ChangeType::as_str).join(", "))]
pub struct ChangeTypeError;

/// The id of a record that changed, in 18 characters; or, as in `001*`, every record of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordId(Box<str>);

/// Characters of an id that tell the kind of its record.
const KEY_PREFIX_CHARS: usize = 3;

impl RecordId {
    /// What an event of GAP_OVERFLOW names, since it names no record.
    const OVERFLOW: &'static str = "000000000000000AAA";

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(text: &str) -> Result<Self, RecordIdError> {
        if let Some(prefix) = text.strip_suffix('*') {
            let is_kind = prefix.len() == KEY_PREFIX_CHARS
                && prefix.bytes().all(|c| c.is_ascii_alphanumeric());
            return match is_kind {
                true => Ok(Self(text.into())),
                false => Err(RecordIdError::Wildcard),
            };
        }
        Ok(text.parse::<PlatformId>()?.into())
    }
}

impl From<PlatformId> for RecordId {
    fn from(id: PlatformId) -> Self {
        Self(id.as_str().into())
    }
}

#[cfg(test)]
mod tests;
