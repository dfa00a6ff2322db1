//! Change events in the words of their records: which fields changed, which were set to null, and when
//! all that is known is that something did.

use serde_json::{Map, Value};

use super::{DecodeError, Event};
use crate::schema::change_event::{ChangeType, bitmap};

/// A change event, read.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeEvent {
    /// The kind of record, such as `Shipment__c`.
    pub entity_name: String,
    /// The records that changed, all alike; `001*` stands for all records of a kind.
    pub record_ids: Vec<String>,
    /// What happened; `None` for a type that this program does not know.
    pub change_type: Option<ChangeType>,
    /// The change type as it came.
    pub change_type_text: String,
    /// What made the change; mostly empty.
    pub change_origin: String,
    /// The same for all changes of one transaction.
    pub transaction_key: String,
    /// The place of the change in its transaction, from 1.
    pub sequence_number: i64,
    /// When the transaction was committed, in milliseconds since the Unix epoch.
    pub commit_timestamp_ms: i64,
    /// Greater for each later commit.
    pub commit_number: i64,
    /// The user who made the change.
    pub commit_user: String,
    /// Names of the fields that an update changed, those that became null among them. A child of a
    /// compound field is `Dest__c.Longitude`.
    pub changed_fields: Vec<String>,
    /// Names of the fields that an update set to null.
    pub nulled_fields: Vec<String>,
    /// Names of the fields whose value is a difference to the value before.
    pub diff_fields: Vec<String>,
    /// The fields of the record as the event has them, null where it has nothing to say.
    pub fields: Map<String, Value>,
}

/// What a change event says of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Field<'a> {
    /// This is its value now.
    Set(&'a Value),
    /// It is null now.
    Nulled,
    /// Nothing: it did not change, or is not told.
    Absent,
}

/// A change event's item for one record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RecordChange<'a> {
    /// The record changed as the event says.
    Changed {
        /// The record's id.
        id: &'a str,
        /// The event.
        change: &'a ChangeEvent,
    },
    /// The record changed, and how is not told: it is to be read again where it is kept.
    Gap {
        /// The record's id, or `001*` for all of a kind.
        id: &'a str,
        /// The event.
        change: &'a ChangeEvent,
    },
    /// More records of this kind changed at once than there are events for: all of them are to be read
    /// again.
    Overflow {
        /// The kind of record.
        entity_name: &'a str,
        /// The event.
        change: &'a ChangeEvent,
    },
}

impl Event {
    /// The change that the event tells; `None` if it is no change event.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; it is this event's alone.
    pub fn change(&self) -> Result<Option<ChangeEvent>, DecodeError> {
        let schema = self.schema()?;
        let mut fields = schema.program().root().fields().iter();
        if fields.next().map(|field| field.name()) != Some(HEADER) {
            return Ok(None);
        }
        let Value::Object(mut fields) = schema.to_json(self.payload())? else {
            return Err(DecodeError::Change("its payload is no record".into()));
        };
        let header = fields.shift_remove(HEADER);
        let Some(Value::Object(header)) = header else {
            return Err(DecodeError::Change(format!("its {HEADER} is no record")));
        };
        let names = |key: &str| {
            let names = bitmap::decode(schema.program(), &texts(&header, key)?);
            names.map_err(|error| DecodeError::Change(format!("its {key}: {error}")))
        };
        let change_type_text = text(&header, "changeType")?;
        Ok(Some(ChangeEvent {
            entity_name: text(&header, "entityName")?,
            record_ids: texts(&header, "recordIds")?,
            change_type: change_type_text.parse().ok(),
            change_type_text,
            change_origin: text(&header, "changeOrigin")?,
            transaction_key: text(&header, "transactionKey")?,
            sequence_number: number(&header, "sequenceNumber")?,
            commit_timestamp_ms: number(&header, "commitTimestamp")?,
            commit_number: number(&header, "commitNumber")?,
            commit_user: text(&header, "commitUser")?,
            changed_fields: names("changedFields")?,
            nulled_fields: names("nulledFields")?,
            diff_fields: names("diffFields")?,
            fields,
        }))
    }
}

impl ChangeEvent {
    /// What the event says of a field, which may be a child: `Dest__c.Longitude`.
    pub fn field(&self, name: &str) -> Field<'_> {
        let value = match name.split_once('.') {
            None => self.fields.get(name),
            Some((parent, child)) => self.fields.get(parent).and_then(|value| value.get(child)),
        };
        let value = value.filter(|value| !value.is_null());
        match (self.change_type, value) {
            // What is told is told, by whatever event.
            (_, Some(value)) => Field::Set(value),
            // A new record is told whole.
            (Some(ChangeType::Create | ChangeType::Undelete), None) => Field::Nulled,
            (_, None) if self.is_nulled(name) => Field::Nulled,
            (_, None) => Field::Absent,
        }
    }

    /// Whether the field, or the compound field that it is a child of, was set to null.
    fn is_nulled(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(parent, _)| parent);
        let mut nulled = self.nulled_fields.iter();
        nulled.any(|nulled| nulled == name || Some(nulled.as_str()) == parent)
    }

    /// Whether the event only says that something happened.
    pub fn is_gap(&self) -> bool {
        self.change_type_text.starts_with("GAP_")
    }

    /// One item for each record that the event is about.
    pub fn records(&self) -> impl Iterator<Item = RecordChange<'_>> {
        let ids: &[String] = match self.change_type {
            Some(ChangeType::GapOverflow) => &[],
            _ => &self.record_ids,
        };
        let overflow =
            (self.change_type == Some(ChangeType::GapOverflow)).then_some(RecordChange::Overflow {
                entity_name: &self.entity_name,
                change: self,
            });
        let each = ids.iter().map(|id| match self.is_gap() {
            true => RecordChange::Gap { id, change: self },
            false => RecordChange::Changed { id, change: self },
        });
        overflow.into_iter().chain(each)
    }
}

/// The name of a change event's first field.
const HEADER: &str = "ChangeEventHeader";

fn text(header: &Map<String, Value>, key: &str) -> Result<String, DecodeError> {
    let text = header.get(key).and_then(Value::as_str);
    let text = text.ok_or_else(|| wrong(key, "text"))?;
    Ok(text.to_owned())
}

fn texts(header: &Map<String, Value>, key: &str) -> Result<Vec<String>, DecodeError> {
    // Older schemas do not have all of the arrays.
    let Some(found) = header.get(key) else {
        return Ok(Vec::new());
    };
    let items = found.as_array().ok_or_else(|| wrong(key, "an array"))?;
    let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
    let texts: Option<Vec<String>> = texts.collect();
    texts.ok_or_else(|| wrong(key, "an array of text"))
}

fn number(header: &Map<String, Value>, key: &str) -> Result<i64, DecodeError> {
    let number = match header.get(key) {
        // A number that JSON has no number for is its digits.
        Some(Value::String(digits)) => digits.parse().ok(),
        Some(number) => number.as_i64(),
        None => None,
    };
    number.ok_or_else(|| wrong(key, "a whole number"))
}

fn wrong(key: &str, wanted: &str) -> DecodeError {
    DecodeError::Change(format!("its {key} is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::subscriber::event::{Context, Unread};
    use crate::{
        proto::{ConsumerEvent, ProducerEvent},
        schema::{
            Schema,
            change_event::{Change, HeaderFacts, build},
        },
    };

    const SHIPMENT: &str = include_str!("../../schemas/Shipment__ChangeEvent.avsc");

    fn event(schema: &str, payload: Vec<u8>) -> Event {
        let encoded = ConsumerEvent {
            replay_id: vec![0; 10].into(),
            event: Some(ProducerEvent {
                payload: payload.into(),
                ..ProducerEvent::default()
            }),
        };
        let topic = "/data/Shipment__ChangeEvent".parse().unwrap();
        let event = Unread::decode(encoded.encode_to_vec().into()).unwrap();
        event.with(Arc::new(Context {
            subscribed: topic,
            schema: Ok(Schema::parse(schema).unwrap()),
        }))
    }

    fn facts(change_type: Option<ChangeType>) -> HeaderFacts {
        HeaderFacts {
            record_ids: vec![
                "a01000000000001AAA".parse().unwrap(),
                "a01000000000002AAA".parse().unwrap(),
            ],
            change_type,
            ..HeaderFacts::of_commit("key".into(), 1_700_000_000_000, 9_007_199_254_740_993)
        }
    }

    fn change(before: Option<Value>, after: Option<Value>, facts: &HeaderFacts) -> ChangeEvent {
        let schema = Schema::parse(SHIPMENT).unwrap();
        let payload = build(&schema, &Change { before, after }, facts).unwrap();
        event(SHIPMENT, payload).change().unwrap().unwrap()
    }

    #[test]
    fn an_update_names_what_changed_and_what_became_null() {
        let before = json!({
            "Status__c": "Packed", "Weight__c": 2.0, "Notes__c": "fragile",
            "Dest__c": {"Latitude": 1.0, "Longitude": 2.0},
        });
        let after = json!({
            "Status__c": "Sent", "Weight__c": 2.0, "Notes__c": null,
            "Dest__c": {"Latitude": 1.0, "Longitude": 3.0},
        });
        let change = change(Some(before), Some(after), &facts(None));
        assert_eq!(change.entity_name, "Shipment__c");
        assert_eq!(change.change_type, Some(ChangeType::Update));
        assert_eq!(
            change.commit_number, 9_007_199_254_740_993,
            "beyond a double"
        );
        let wanted = ["Status__c", "Notes__c", "Dest__c.Longitude"];
        assert_eq!(change.changed_fields, wanted);
        assert_eq!(change.nulled_fields, ["Notes__c"]);
        assert_eq!(change.field("Status__c"), Field::Set(&json!("Sent")));
        assert_eq!(change.field("Notes__c"), Field::Nulled);
        assert_eq!(
            change.field("Weight__c"),
            Field::Absent,
            "it did not change"
        );
        assert_eq!(change.field("Dest__c.Longitude"), Field::Set(&json!(3.0)));
        assert_eq!(change.field("Dest__c.Latitude"), Field::Absent);
        assert_eq!(change.field("Unknown__c"), Field::Absent);
    }

    #[test]
    fn a_new_record_is_told_whole_and_a_deleted_one_not_at_all() {
        let record = json!({"Status__c": "Packed"});
        let created = change(None, Some(record.clone()), &facts(None));
        assert_eq!(created.field("Status__c"), Field::Set(&json!("Packed")));
        assert_eq!(created.field("Notes__c"), Field::Nulled);
        let deleted = change(Some(record), None, &facts(None));
        assert_eq!(deleted.change_type, Some(ChangeType::Delete));
        assert_eq!(deleted.field("Status__c"), Field::Absent);
    }

    #[test]
    fn each_record_has_an_item_and_gaps_are_told_apart() {
        let record = || Some(json!({"Status__c": "Packed"}));
        let created = change(None, record(), &facts(None));
        let ids: Vec<&str> = created
            .records()
            .map(|item| match item {
                RecordChange::Changed { id, .. } => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(ids, ["a01000000000001AAA", "a01000000000002AAA"]);

        let gap = change(None, None, &facts(Some(ChangeType::GapUpdate)));
        assert!(gap.is_gap());
        let items: Vec<_> = gap.records().collect();
        assert_eq!(items.len(), 2);
        assert!(matches!(
            items[0],
            RecordChange::Gap {
                id: "a01000000000001AAA",
                ..
            }
        ));

        let mut overflow = facts(Some(ChangeType::GapOverflow));
        overflow.record_ids.clear();
        let overflow = change(None, None, &overflow);
        let items: Vec<_> = overflow.records().collect();
        assert!(
            matches!(
                items[..],
                [RecordChange::Overflow {
                    entity_name: "Shipment__c",
                    ..
                }]
            ),
            "{items:?}"
        );
    }

    #[test]
    fn other_events_are_none_and_odd_headers_are_told() {
        let plain = r#"{"type":"record","name":"A__e","fields":[{"name":"B","type":"int"}]}"#;
        assert_eq!(event(plain, vec![2]).change(), Ok(None));
        let odd = r#"{"type":"record","name":"AChangeEvent","fields":[
            {"name":"ChangeEventHeader","type":{"type":"record","name":"H","fields":[
                {"name":"entityName","type":"int"}]}}]}"#;
        let error = event(odd, vec![2]).change().unwrap_err().to_string();
        assert!(
            error.contains("changeType") || error.contains("entityName"),
            "{error}"
        );
    }
}
