//! The schema of an event, by the event's name or by the schema's id: `GetSchema` for those who do not
//! speak gRPC, for whoever may publish or subscribe to the event.
//!
//! | `payloadFormat` | what is answered |
//! |---|---|
//! | `COMPACT` | the registered schema with one more key, `uuid`: its id |
//! | `EXPANDED` | what a message looks like that has been turned into JSON ([`expanded`]) |
//!
//! The values are read in either case. Without the parameter it is `EXPANDED`, and `COMPACT` in versions
//! that do not know the parameter, which refuse it: those before 43.0. Other parameters are ignored.
//!
//! By either path the caller counts as one who asked for the schema. An event that there is not and one
//! that the caller has no right to are answered alike.
//!
//! Source: the public REST API Developer Guide, "Platform Event Schema by Event Name" and "Platform Event
//! Schema by Schema ID". It does not say which error code a bad `payloadFormat` has, only its status.

mod expanded;

use std::fmt;

use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::Error as _,
};
use serde_json::value::RawValue;

use super::check_version;
use crate::{
    broker::{SchemaError, TopicError},
    http::{
        Gateway, answer,
        caller::client_name,
        error::{ApiError, NO_RESOURCE, kinds},
    },
    schema::Schema,
    types::TopicName,
};
use expanded::expanded;

#[derive(Deserialize)]
pub(super) struct Parameters {
    #[serde(rename = "payloadFormat")]
    format: Option<String>,
}

type Asked = Result<Query<Parameters>, QueryRejection>;

/// How a schema is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Compact,
    Expanded,
}

/// Answers with the current schema of the event that the path names.
pub(super) async fn by_name(
    State(gateway): State<Gateway>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let principal = gateway.caller(&headers).await?;
    let Path((version, name)) = path.map_err(|_| not_found())?;
    let format = Format::of(&version, asked)?;
    let topic = TopicName::for_record(&name).map_err(|_| not_found())?;
    let topic = gateway.broker.topic(&principal, topic.as_str()).await;
    let topic = topic.map_err(|error| match error {
        TopicError::Forbidden(_) => not_found().because(error),
        _ => error.into(),
    })?;
    let id = topic.event_type.current().id().to_string();
    let client_name = client_name(&headers)?;
    let schema = gateway.broker.schema(&principal, client_name, &id).await?;
    Ok(format.answer(&schema))
}

/// Answers with the schema whose id is in the path.
pub(super) async fn by_id(
    State(gateway): State<Gateway>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let principal = gateway.caller(&headers).await?;
    let Path((version, id)) = path.map_err(|_| not_found())?;
    let format = Format::of(&version, asked)?;
    let client_name = client_name(&headers)?;
    let schema = gateway.broker.schema(&principal, client_name, &id).await?;
    Ok(format.answer(&schema))
}

impl Format {
    /// The format that a request to this version asks for.
    fn of(version: &str, asked: Asked) -> Result<Self, ApiError> {
        let has_formats = check_version(version)? >= FIRST_VERSION_WITH_FORMATS;
        let refused = |reason: &str| kinds::INVALID_INPUT.error(format!("payloadFormat {reason}"));
        let Query(Parameters { format }) =
            asked.map_err(|_| refused("is there once, and is text in UTF-8"))?;
        match format {
            None if has_formats => Ok(Self::Expanded),
            None => Ok(Self::Compact),
            Some(_) if !has_formats => Err(refused("is for version 43.0 and later")),
            Some(word) if word.eq_ignore_ascii_case("COMPACT") => Ok(Self::Compact),
            Some(word) if word.eq_ignore_ascii_case("EXPANDED") => Ok(Self::Expanded),
            Some(_) => Err(refused("is COMPACT or EXPANDED")),
        }
    }

    fn answer(self, schema: &Schema) -> Response {
        match self {
            Self::Compact => answer::json(StatusCode::OK, &Compact::of(schema)),
            Self::Expanded => answer::json(StatusCode::OK, &expanded(schema)),
        }
    }
}

/// A schema as it was registered, key for key, and its id.
struct Compact<'a> {
    schema: Entries<'a>,
    id: String,
}

/// The keys of an object and their values, as they are written.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Compact<'a> {
    fn of(schema: &'a Schema) -> Self {
        let entries = serde_json::from_str(schema.text());
        Self {
            schema: entries.expect("the schema of an event is an object"),
            id: schema.id().to_string(),
        }
    }
}

impl Serialize for Compact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let uuid = serde_json::value::to_raw_value(&self.id).map_err(S::Error::custom)?;
        let entries = self.schema.0.iter().map(|(key, value)| (&**key, *value));
        // A schema that somebody got by these paths, and registered, has another's id.
        let entries = entries.filter(|(key, _)| *key != UUID);
        serializer.collect_map(entries.chain([(UUID, &*uuid)]))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor).map(Self)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}

impl From<SchemaError> for ApiError {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::Empty | SchemaError::Forbidden => not_found(),
            SchemaError::Unavailable(error) => error.into(),
        }
    }
}

fn not_found() -> ApiError {
    kinds::NOT_FOUND.error(NO_RESOURCE)
}

/// The key of a schema's id in both formats.
const UUID: &str = "uuid";

/// The major number of the first version that has two formats.
const FIRST_VERSION_WITH_FORMATS: u16 = 43;

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(text: &str) -> String {
        let schema = Schema::parse(text).unwrap();
        serde_json::to_string(&Compact::of(&schema)).unwrap()
    }

    fn asked(version: &str, query: &str) -> Result<Format, String> {
        let uri = format!("/?{query}").parse().unwrap();
        let format = Format::of(version, Query::try_from_uri(&uri));
        format.map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_compact_schema_is_as_registered_with_its_id_at_the_end() {
        let text = r#" { "fields" : [{"name":"A","type":"double","default":1.10e1,"odd":[null]}],
            "name":"A__e", "doc":"\u00c4", "type":"record" } "#;
        assert_eq!(
            compact(text),
            r#"{"fields":[{"name":"A","type":"double","default":1.10e1,"odd":[null]}],"name":"A__e","doc":"\u00c4","type":"record","uuid":"Gt-jS002jcZ2UrEYcyYGKA"}"#
        );
    }

    #[test]
    fn an_id_that_a_schema_was_registered_with_gives_way() {
        let text = r#"{"type":"record","uuid":"dffQ2QLzDNHqwB8_sHMxdA","name":"A__e","fields":[]}"#;
        let once = compact(text);
        assert!(
            once.starts_with(r#"{"type":"record","name":"A__e","fields":[],"uuid":"#),
            "{once}"
        );
        assert_eq!(compact(&once), once);
    }

    #[test]
    fn the_format_is_asked_for_in_either_case_in_versions_that_have_it() {
        for (version, query, format) in [
            ("v62.0", "", Format::Expanded),
            ("v43.0", "", Format::Expanded),
            ("v42.0", "", Format::Compact),
            ("v43.0", "payloadFormat=COMPACT", Format::Compact),
            ("v58.0", "payloadFormat=compact", Format::Compact),
            ("v58.0", "other=1&payloadFormat=Expanded", Format::Expanded),
        ] {
            assert_eq!(asked(version, query), Ok(format), "{version} {query}");
        }
        for (version, query, words) in [
            ("v62.0", "payloadFormat=", "is COMPACT or EXPANDED"),
            ("v62.0", "payloadFormat=AVRO", "is COMPACT or EXPANDED"),
            (
                "v62.0",
                "payloadFormat=COMPACT&payloadFormat=COMPACT",
                "once",
            ),
            ("v42.0", "payloadFormat=COMPACT", "version 43.0"),
            ("v62", "", NO_RESOURCE),
        ] {
            let error = asked(version, query).unwrap_err();
            assert!(error.contains(words), "{version} {query}: {error}");
        }
    }
}
