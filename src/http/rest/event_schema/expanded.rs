//! What a message looks like that has been turned into JSON, as streaming clients of the platform get it.
//!
//! The event's fields are those of the record `Payload`, inside of `data`, beside the id of their schema;
//! a replay id and a channel stand around them. It reads like Avro and is none: no Avro library knows a
//! type `expanded-record`. Clients take `Payload` out of it, which is Avro.
//!
//! Taken from the public documentation: what is around the payload; and that a field stays as it is
//! registered, but for a date, which is text in JSON. A date is a `long` whose `doc` says so.
//!
//! Derived from that, because nothing says it:
//!
//! - Dates within records are text, too. A list of dates stays a list of numbers: the platform has none.
//!   A default of a date that is a number is left out, as text cannot have it.
//! - `Payload` has the event's `doc`, else the empty one of the documentation, and is in the event's
//!   namespace if it names other types, which then keep their names. A field of the event's own type is
//!   of the type `Payload`.
//! - `uuid` is at the end, as in the compact form: the documentation tells of it in every answer, though
//!   its later examples of this form leave it out.
//!
//! It is about as long as the schema.
//!
//! Source: the public REST API Developer Guide, "Platform Event Schema by Event Name". The words that say
//! that a field is a date: public clients of the platform's streaming API.

use serde_json::{Map, Value, json};

use crate::schema::Schema;

/// The message that has an event of `schema` as its payload.
pub(super) fn expanded(schema: &Schema) -> Value {
    let registered: Map<String, Value> =
        serde_json::from_str(schema.text()).expect("the schema of an event is an object");
    let mut fields = registered.get("fields").cloned().unwrap_or_default();
    let full_name = schema.full_name();
    let (namespace, name) = full_name.rsplit_once('.').unwrap_or(("", full_name));
    let mut expansion = Expansion {
        namespace,
        name,
        has_names: false,
    };
    expansion.expand_fields(&mut fields);

    let mut payload = Map::new();
    payload.insert("type".into(), "record".into());
    payload.insert("name".into(), PAYLOAD.into());
    if expansion.has_names && !namespace.is_empty() {
        payload.insert("namespace".into(), namespace.into());
    }
    let doc = registered.get("doc").cloned();
    payload.insert("doc".into(), doc.unwrap_or_else(|| "".into()));
    payload.insert("fields".into(), fields);

    let replay_id = json!({"name": "replayId", "type": "long"});
    let event = json!({"type": "record", "name": "Event", "fields": [replay_id]});
    let data = json!({"type": "record", "name": "Data", "namespace": "", "fields": [
        {"name": "schema", "type": "string"},
        {"name": "payload", "type": payload},
        {"name": "event", "type": event},
    ]});
    json!({
        "name": name,
        "namespace": namespace,
        "type": "expanded-record",
        "fields": [{"name": "data", "type": data}, {"name": "channel", "type": "string"}],
        "uuid": schema.id().to_string(),
    })
}

/// Makes the types of a message's fields of those of an event's. Recursion is bounded by the nesting
/// that a schema may have.
struct Expansion<'a> {
    namespace: &'a str,
    name: &'a str,
    /// Whether a type was met whose name its namespace has a part in.
    has_names: bool,
}

impl Expansion<'_> {
    fn expand_fields(&mut self, fields: &mut Value) {
        let fields = fields.as_array_mut().into_iter().flatten();
        for field in fields.filter_map(Value::as_object_mut) {
            let is_date = field
                .get("doc")
                .and_then(Value::as_str)
                .is_some_and(is_date);
            let is_text = field
                .get_mut("type")
                .is_some_and(|of| self.expand_type(of, is_date));
            if is_text && field.get("default").is_some_and(Value::is_number) {
                field.shift_remove("default");
            }
        }
    }

    /// Returns whether the type was a date's and is text now.
    fn expand_type(&mut self, of: &mut Value, is_date: bool) -> bool {
        match of {
            Value::String(word) if word == "long" && is_date => {
                *of = "string".into();
                return true;
            }
            Value::String(word) => self.expand_name(word),
            Value::Array(branches) => {
                // A union has each type once.
                let is_date = is_date && !branches.iter().any(|branch| word(branch) == "string");
                let mut is_text = false;
                for branch in branches {
                    is_text |= self.expand_type(branch, is_date);
                }
                return is_text;
            }
            Value::Object(object) => {
                let (inner, is_date) = match object.get("type").and_then(Value::as_str) {
                    Some("record") => {
                        self.has_names = true;
                        if let Some(fields) = object.get_mut("fields") {
                            self.expand_fields(fields);
                        }
                        return false;
                    }
                    Some("enum" | "fixed") => {
                        self.has_names = true;
                        return false;
                    }
                    Some("long") if is_date => {
                        *of = "string".into();
                        return true;
                    }
                    Some("array") => (object.get_mut("items"), false),
                    Some("map") => (object.get_mut("values"), false),
                    _ => (object.get_mut("type"), is_date),
                };
                return inner.is_some_and(|inner| self.expand_type(inner, is_date));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        false
    }

    /// The event's own type is called otherwise in the message.
    fn expand_name(&mut self, word: &mut String) {
        let full = word.rsplit_once('.').unwrap_or((self.namespace, word));
        if full != (self.namespace, self.name) {
            return;
        }
        self.has_names = true;
        *word = match self.namespace {
            "" => PAYLOAD.to_owned(),
            namespace => format!("{namespace}.{PAYLOAD}"),
        };
    }
}

/// The word that says which type it is, if one word says it.
fn word(of: &Value) -> &str {
    let word = of.as_str().or_else(|| of.get("type")?.as_str());
    word.unwrap_or_default()
}

/// Whether a field with this documentation is a date or a time: `Data:DateTime:00N…`.
fn is_date(doc: &str) -> bool {
    let word = doc.split(':').nth(1);
    word.is_some_and(|word| DATES.contains(&word))
}

/// The words for dates and times in the documentation of fields.
const DATES: [&str; 5] = ["DateTime", "DateOnly", "TimeOnly", "Birthday", "DueDate"];

/// The record that has the event's fields.
const PAYLOAD: &str = "Payload";

#[cfg(test)]
mod tests {
    use super::*;

    fn text(schema: &str) -> String {
        expanded(&Schema::parse(schema).unwrap()).to_string()
    }

    /// The fields of the payload of an event with these fields.
    fn fields(fields: &str) -> String {
        let schema = format!(
            r#"{{"type":"record","name":"Low_Ink__e","namespace":"com.sforce.eventbus","fields":{fields}}}"#
        );
        let expanded = expanded(&Schema::parse(&schema).unwrap());
        let payload = &expanded["fields"][0]["type"]["fields"][1]["type"];
        payload["fields"].to_string()
    }

    #[test]
    fn the_documented_event_is_written_as_documented() {
        let schema = r#"{"name":"Low_Ink__e","namespace":"com.sforce.eventbus","type":"record","fields":[
            {"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},
            {"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"},
            {"name":"Printer_Model__c","type":["null","string"],"doc":"Data:Text:00NRM000001krnv","default":null},
            {"name":"Serial_Number__c","type":["null","string"],"doc":"Data:Text:00NRM000001kro0","default":null},
            {"name":"Ink_Percentage__c","type":["null","double"],"doc":"Data:Double:00NRM000001kro5","default":null}]}"#;
        let documented = concat!(
            r#"{"name":"Low_Ink__e","namespace":"com.sforce.eventbus","type":"expanded-record","fields":["#,
            r#"{"name":"data","type":{"type":"record","name":"Data","namespace":"","fields":["#,
            r#"{"name":"schema","type":"string"},"#,
            r#"{"name":"payload","type":{"type":"record","name":"Payload","doc":"","fields":["#,
            r#"{"name":"CreatedDate","type":"string","doc":"CreatedDate:DateTime"},"#,
            r#"{"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"},"#,
            r#"{"name":"Printer_Model__c","type":["null","string"],"doc":"Data:Text:00NRM000001krnv","default":null},"#,
            r#"{"name":"Serial_Number__c","type":["null","string"],"doc":"Data:Text:00NRM000001kro0","default":null},"#,
            r#"{"name":"Ink_Percentage__c","type":["null","double"],"doc":"Data:Double:00NRM000001kro5","default":null}]}},"#,
            r#"{"name":"event","type":{"type":"record","name":"Event","fields":[{"name":"replayId","type":"long"}]}}]}},"#,
            r#"{"name":"channel","type":"string"}],"uuid":"5E5OtZj5_Gm6Vax9XMXH9A"}"#,
        );
        // The id, too, is the documented one: of the compact form, which is what is fingerprinted.
        assert_eq!(text(schema), documented);
    }

    #[test]
    fn a_date_is_text_however_it_is_registered() {
        for (doc, of, expected) in [
            ("CreatedDate:DateTime", r#""long""#, r#""string""#),
            (
                "Data:DateOnly:00N",
                r#"["null","long"]"#,
                r#"["null","string"]"#,
            ),
            (
                "Data:TimeOnly",
                r#"{"type":"long","logicalType":"timestamp-millis"}"#,
                r#""string""#,
            ),
            (
                "Data:DateTime",
                r#"["null",{"type":{"type":"long"}}]"#,
                r#"["null",{"type":"string"}]"#,
            ),
            // A union has each type once.
            (
                "Data:DateTime",
                r#"["string","long"]"#,
                r#"["string","long"]"#,
            ),
            (
                "Data:DateTime",
                r#"["null","double"]"#,
                r#"["null","double"]"#,
            ),
            ("Data:Long", r#""long""#, r#""long""#),
            ("DateTime", r#""long""#, r#""long""#),
            (
                "Data:DateTime",
                r#"{"type":"array","items":"long"}"#,
                r#"{"type":"array","items":"long"}"#,
            ),
        ] {
            let field = |of| format!(r#"[{{"name":"A","type":{of},"doc":"{doc}"}}]"#);
            assert_eq!(fields(&field(of)), field(expected), "{doc}");
        }
        let default =
            r#"[{"name":"A","type":"long","default":0,"doc":"Data:DateTime","order":"ignore"}]"#;
        assert_eq!(
            fields(default),
            r#"[{"name":"A","type":"string","doc":"Data:DateTime","order":"ignore"}]"#
        );
    }

    #[test]
    fn what_a_change_event_names_keeps_its_name() {
        let schema = r#"{"type":"record","name":"AccountChangeEvent","namespace":"com.sforce.eventbus","doc":"Accounts","fields":[
            {"name":"ChangeEventHeader","type":{"type":"record","name":"ChangeEventHeader","fields":[
                {"name":"commitTimestamp","type":"long"},
                {"name":"seen","type":["null","long"],"doc":"Data:DateTime","default":null}]}},
            {"name":"Parent","type":["null","AccountChangeEvent"],"default":null},
            {"name":"Other","type":["null","com.sforce.eventbus.ChangeEventHeader"],"default":null}]}"#;
        let expanded = expanded(&Schema::parse(schema).unwrap());
        assert_eq!(expanded["name"], "AccountChangeEvent");
        let payload = &expanded["fields"][0]["type"]["fields"][1]["type"];
        let expected = concat!(
            r#"{"type":"record","name":"Payload","namespace":"com.sforce.eventbus","doc":"Accounts","fields":["#,
            r#"{"name":"ChangeEventHeader","type":{"type":"record","name":"ChangeEventHeader","fields":["#,
            r#"{"name":"commitTimestamp","type":"long"},"#,
            r#"{"name":"seen","type":["null","string"],"doc":"Data:DateTime","default":null}]}},"#,
            r#"{"name":"Parent","type":["null","com.sforce.eventbus.Payload"],"default":null},"#,
            r#"{"name":"Other","type":["null","com.sforce.eventbus.ChangeEventHeader"],"default":null}]}"#,
        );
        assert_eq!(payload.to_string(), expected);
        // It is Avro, as clients that take it out of the message expect.
        assert!(Schema::parse(&payload.to_string()).is_ok());
    }

    #[test]
    fn an_event_without_a_namespace_has_none_in_its_message_either() {
        let schema =
            r#"{"type":"record","name":"A__e","fields":[{"name":"Next","type":["null","A__e"]}]}"#;
        let text = text(schema);
        assert!(
            text.starts_with(r#"{"name":"A__e","namespace":"","type":"expanded-record""#),
            "{text}"
        );
        let payload = r#"{"type":"record","name":"Payload","doc":"","fields":[{"name":"Next","type":["null","Payload"]}]}"#;
        assert!(text.contains(payload), "{text}");
    }
}
