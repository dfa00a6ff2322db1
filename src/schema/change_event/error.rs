//! Why no change event can be built.

use std::fmt;

use super::ChangeType;
use crate::{
    schema::JsonError,
    types::{PlatformId, PlatformIdError},
};

/// Why a change is no event of a schema. Shows field names, ids and JSON types, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The schema is not one of change events.
    #[error("{record} is no schema of change events: found {found}, wanted {wanted}")]
    NotAChangeEvent {
        /// The name of the schema's record.
        record: String,
        /// What the schema has.
        found: String,
        /// What it would have if it were one.
        wanted: String,
    },
    /// The schema's name does not tell of what records its events are. Holds the name.
    #[error("the name {0} tells no kind of record, wanted one that ends in ChangeEvent")]
    NoEntityName(String),
    /// The schema is of a time at which there was no such change.
    #[error("the schema has no change type {change_type}, only {}", symbols.join(", "))]
    UnknownChangeType {
        /// The type that was asked for.
        change_type: ChangeType,
        /// Those that there are.
        symbols: Vec<String>,
    },
    /// A record is not one that the schema's events are of.
    #[error("{side}: {reason}")]
    Record {
        /// Which of the two it is.
        side: Side,
        /// What was found and what was wanted.
        reason: RecordError,
    },
    /// These are two records, and not one that changed.
    #[error("the Id before is {before} and the Id after is {after}, wanted one record")]
    OtherRecord {
        /// The id of the record before.
        before: PlatformId,
        /// The id of the record after.
        after: PlatformId,
    },
    /// Neither a record nor the caller tells an id.
    #[error("found no record id, wanted the field Id in a record, or an id given with it")]
    NoRecordId,
    /// A change of this type is one of other records.
    #[error("found {found}, but {change_type} is a change of {wanted}")]
    Records {
        /// The type of the change.
        change_type: ChangeType,
        /// Which records there are.
        found: &'static str,
        /// Which there would have to be.
        wanted: &'static str,
    },
    /// There is no record, so nothing tells what changed.
    #[error("found neither a record before nor one after, wanted at least one")]
    NoRecord,
    /// An update in which no field has another value.
    #[error("nothing changed: every field of the record after has the value that it had before")]
    NothingChanged,
    /// Record and header are no event together.
    #[error("the change event: {0}")]
    Event(JsonError),
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It has other fields or values than the schema.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// It has the header of an event.
    #[error("found a ChangeEventHeader, wanted the fields of a record alone")]
    Header,
    /// Its `Id` is something else than text. Holds the JSON type found, with its article.
    #[error("field Id: found {0}, wanted a string")]
    IdType(&'static str),
    /// Its `Id` is no id.
    #[error("field Id: {0}")]
    Id(PlatformIdError),
}

/// One of the two records of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// As it was.
    Before,
    /// As it is.
    After,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "the record before",
            Self::After => "the record after",
        })
    }
}

/// Why text is not the id of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordIdError {
    /// It is no id.
    #[error(transparent)]
    Id(#[from] PlatformIdError),
    /// It ends in a star and does not begin with a kind of record.
    #[error("a star stands after the 3 letters and digits that tell a kind of record, as in 001*")]
    Wildcard,
}
