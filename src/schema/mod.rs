//! Avro schemas: what an event's payload may hold, and what it says.
//!
//! A [`Schema`] is parsed once, by bounded work on foreign text, and compiled into a flat program.
//! By that program payloads are checked, shown as JSON and written from JSON, without a general
//! Avro decoder ever touching foreign bytes. Its id is a fingerprint of what decides how bytes are
//! read; it does not change with documentation, defaults or attributes.
//!
//! A logical type is read and shown as the type that it annotates: schemas of platform events have
//! none, and the canonical form, so the id, knows none.
//!
//! No value is ever resolved from one schema to another: an event is always read by the schema that it
//! was written with, which its schema id names. Subscribers may do otherwise, so [`compatibility`]
//! tells what one version of a schema could not read of another.
//!
//! The events of changed records have a form of their own, which [`change_event`] writes and reads.
//!
//! Source: Avro specification 1.12, "Schema Declaration", "Binary Encoding", "Parsing Canonical
//! Form for Schemas".

pub mod change_event;
pub mod compatibility;
mod defaults;
pub mod diff;
pub mod draft;
pub mod error;
pub mod files;
pub mod finding;
pub mod fingerprint;
pub mod json;
pub mod lint;
mod outline;
mod parse;
pub mod pick;
pub mod platform;
pub mod program;
#[cfg(feature = "server")]
pub mod registry;
pub mod soundness;
mod source;
mod type_text;
pub mod value;
pub mod walk;
#[cfg(feature = "server")]
pub mod watch;

use std::{fmt, sync::Arc};

pub use error::{JsonError, PayloadError, PayloadReason, SchemaError};
pub use json::Fill;

use crate::types::SchemaId;
use program::Program;

/// A parsed and compiled schema of events. Clones share it.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    id: SchemaId,
    text: String,
    canonical_form: String,
    program: Program,
}

impl Schema {
    /// Parses a schema's JSON text. Work and memory are bounded by the text's size, and that by
    /// [`SCHEMA_BYTES_MAX`](crate::types::limits::SCHEMA_BYTES_MAX).
    ///
    /// # Errors
    ///
    /// [`SchemaError`] says where and why; with line and column if the text is not JSON.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let schema = parse::parse(text)?;
        let program = Program::compile(&schema)?;
        let canonical_form = schema.canonical_form();
        Ok(Self(Arc::new(Inner {
            id: fingerprint::schema_id(&canonical_form),
            text: text.to_owned(),
            canonical_form,
            program,
        })))
    }

    /// The fingerprint by which events name this schema.
    pub fn id(&self) -> SchemaId {
        self.0.id
    }

    /// The text as it was given.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The Parsing Canonical Form, of which the id is a fingerprint.
    pub fn canonical_form(&self) -> &str {
        &self.0.canonical_form
    }

    /// The record's name without its namespace: the API name of the event.
    pub fn record_name(&self) -> &str {
        self.program().root().name()
    }

    /// The record's name with its namespace.
    pub fn full_name(&self) -> &str {
        self.program().root().full_name()
    }

    /// The compiled form, for those who walk payloads with a sink of their own.
    pub fn program(&self) -> &Program {
        &self.0.program
    }

    /// Checks that `payload` is exactly one value of this schema. Allocates nothing if it is.
    ///
    /// # Errors
    ///
    /// [`PayloadError`] names the field, the byte and the reason, and holds no content.
    pub fn validate(&self, payload: &[u8]) -> Result<(), PayloadError> {
        walk::validate(&self.0.program, payload)
    }

    /// How many bytes the first value of this schema takes in `bytes`, where others may follow it.
    ///
    /// # Errors
    ///
    /// As [`Schema::validate`], but for what follows.
    pub fn first_len(&self, bytes: &[u8]) -> Result<usize, PayloadError> {
        walk::first_len(&self.0.program, bytes)
    }

    /// What `payload` says, in the [JSON form](json) for people.
    ///
    /// # Errors
    ///
    /// As [`Schema::validate`].
    pub fn to_json(&self, payload: &[u8]) -> Result<serde_json::Value, PayloadError> {
        json::to_json(&self.0.program, payload)
    }

    /// How many bytes the text of [`Schema::to_json`]'s value has at most: an event of few bytes
    /// may have many long field names. Allocates next to nothing, whatever the answer.
    ///
    /// # Errors
    ///
    /// As [`Schema::validate`].
    pub fn json_bytes_max(&self, payload: &[u8]) -> Result<usize, PayloadError> {
        json::text_bytes_max(&self.0.program, payload)
    }

    /// The payload that says what `json` says, in the [JSON form](json) for people.
    ///
    /// An absent field becomes its default, else null if it is nullable; `fill` has what else is
    /// known of an event. What is returned is valid.
    ///
    /// # Errors
    ///
    /// [`JsonError`] names the field, what was found and what was wanted.
    pub fn encode_json(
        &self,
        json: &serde_json::Value,
        fill: &Fill<'_>,
    ) -> Result<Vec<u8>, JsonError> {
        json::encode(&self.0.program, json, fill)
    }
}

/// Schemas with the same text are the same schema.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({} {})", self.full_name(), self.id())
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;
