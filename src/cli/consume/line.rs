//! From a delivered event to the line that shows it.

use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::output::Record,
    subscriber::{ChangeEvent, Event},
};

/// One event as it is shown. The fields are the keys in JSON.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::cli) struct EventLine {
    replay_id: String,
    event_id: String,
    schema_id: String,
    topic: String,
    /// Null if the event could not be decoded.
    payload: Value,
    /// Of change events alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<ChangeLine>,
}

/// What a change event tells in bitmaps, by name.
#[derive(Debug, PartialEq, Serialize)]
struct ChangeLine {
    r#type: String,
    record_ids: Vec<String>,
    changed_fields: Vec<String>,
    nulled_fields: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diff_fields: Vec<String>,
}

impl EventLine {
    /// The line of an event, and why it could not be decoded.
    pub(in crate::cli) fn of(event: &Event) -> (Self, Option<String>) {
        let (payload, refusal) = match event.json() {
            Ok(payload) => (payload, None),
            Err(error) => (Value::Null, Some(error.to_string())),
        };
        // A header that cannot be read takes nothing away from the payload, which can.
        let change = event.change().ok().flatten();
        let line = Self {
            replay_id: event.replay_id().to_string(),
            event_id: event.id().to_owned(),
            schema_id: event.schema_id().to_owned(),
            topic: event.topic().to_string(),
            payload,
            change: change.map(ChangeLine::of),
        };
        (line, refusal)
    }
}

impl ChangeLine {
    fn of(change: ChangeEvent) -> Self {
        Self {
            r#type: change.change_type_text,
            record_ids: change.record_ids,
            changed_fields: change.changed_fields,
            nulled_fields: change.nulled_fields,
            diff_fields: change.diff_fields,
        }
    }
}

impl Record for EventLine {
    fn text(&self) -> String {
        let change = self.change.as_ref().map_or_else(String::new, |change| {
            format!("  {} {}", change.r#type, change.record_ids.join(" "))
        });
        let (replay_id, event_id, payload) = (&self.replay_id, &self.event_id, &self.payload);
        format!("{replay_id}  {event_id}{change}  {payload}")
    }
}
