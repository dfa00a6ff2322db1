//! A first schema for an event: right by every check, from its name and its fields.
//!
//! An author knows a name and some fields; the platform has conventions besides: fields that every event
//! begins with, suffixes, null as the first type, documentation in a form of its own. This writes them.
//!
//! # Names
//!
//! `OrderCreated` is drafted as the platform event `OrderCreated__e`; a name that ends in `ChangeEvent` is
//! that of a change event. A field gets the suffix `__c` unless it has it, with two exceptions: what a
//! change event has of its record's standard fields, [`STANDARD_FIELDS`], and every field of a standard
//! object's change event, such as `AccountChangeEvent`, whose fields are mostly the platform's.
//!
//! Source: the public Platform Events Developer Guide, "Platform Event Fields"; the public Pub/Sub API
//! Developer Guide, "Event Data Serialization with Apache Avro".

use std::{collections::HashSet, fmt, fmt::Write as _, str::FromStr};

use super::{
    lint::NAME_CHARS_MAX,
    outline::shown,
    platform::{CHANGE_TYPES, EventKind, HEADER, HEADER_FIELDS, NAMESPACE},
    soundness::is_name,
};

/// A field to be drafted. As text `Amount:double`; without a type it is text, or what a standard field is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// Its name, with or without its suffix.
    pub name: String,
    /// What it holds, if that is said.
    pub ty: Option<FieldType>,
}

/// What a field can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// A text.
    Text,
    /// A text of many lines.
    LongText,
    /// The id of a record, a text.
    Id,
    /// True or false.
    Checkbox,
    /// A number with or without fraction.
    Number,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A point in time, in milliseconds since 1970.
    DateTime,
    /// A day, in milliseconds since 1970.
    Date,
    /// A time of day, in milliseconds.
    Time,
}

/// The words for types, which are read in any case; those of the platform first.
const WORDS: [(&str, FieldType); 13] = [
    ("Text", FieldType::Text),
    ("LongText", FieldType::LongText),
    ("Id", FieldType::Id),
    ("Checkbox", FieldType::Checkbox),
    ("Number", FieldType::Number),
    ("DateTime", FieldType::DateTime),
    ("Date", FieldType::Date),
    ("Time", FieldType::Time),
    ("string", FieldType::Text),
    ("boolean", FieldType::Checkbox),
    ("double", FieldType::Number),
    ("int", FieldType::Int),
    ("long", FieldType::Long),
];

/// Fields that every record has and that a change event has without a suffix.
pub const STANDARD_FIELDS: [&str; 6] = [
    "OwnerId",
    "Name",
    "CreatedDate",
    "CreatedById",
    "LastModifiedDate",
    "LastModifiedById",
];

impl FieldType {
    /// The word for it in Avro.
    fn avro(self) -> &'static str {
        match self {
            Self::Text | Self::LongText | Self::Id => "string",
            Self::Checkbox => "boolean",
            Self::Number => "double",
            Self::Int => "int",
            Self::Long | Self::DateTime | Self::Date | Self::Time => "long",
        }
    }

    /// The word for it in the documentation that the platform writes.
    fn doc(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::LongText => "MultiLineText",
            Self::Id => "EntityId",
            Self::Checkbox => "Boolean",
            Self::Number => "Double",
            Self::Int => "Integer",
            Self::Long => "Long",
            Self::DateTime => "DateTime",
            Self::Date => "DateOnly",
            Self::Time => "TimeOnly",
        }
    }
}

impl FromStr for FieldType {
    type Err = DraftError;

    fn from_str(text: &str) -> Result<Self, DraftError> {
        let mut words = WORDS.iter();
        let found = words.find(|(word, _)| word.eq_ignore_ascii_case(text));
        found.map(|(_, ty)| *ty).ok_or_else(|| DraftError::Type {
            found: shown(text).into_owned(),
        })
    }
}

impl FromStr for FieldSpec {
    type Err = DraftError;

    fn from_str(text: &str) -> Result<Self, DraftError> {
        let (name, ty) = match text.split_once(':') {
            Some((name, ty)) => (name, Some(ty.trim().parse()?)),
            None => (text, None),
        };
        let name = name.trim();
        // The suffix is the draft's business, so this is not yet the whole check.
        if !is_name(name) {
            return Err(DraftError::FieldName(shown(name).into_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            ty,
        })
    }
}

/// Why no schema can be drafted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The event's name is none that the platform takes.
    #[error(
        "{0:?} is no name of an event: wanted up to {NAME_CHARS_MAX} letters, digits and _ that begin with a letter and end in no _, such as OrderCreated, OrderCreated__e or Order__ChangeEvent"
    )]
    EventName(String),
    /// A field's name is none that the platform takes.
    #[error(
        "{0:?} is no name of a field: wanted up to {NAME_CHARS_MAX} letters, digits and _ that begin with a letter and end in no _, such as Amount or Amount__c"
    )]
    FieldName(String),
    /// There is no such type.
    #[error("there is no type {found:?}; a field is {}", TypeWords)]
    Type {
        /// What was found; a very long word is cut.
        found: String,
    },
    /// Two fields come to have the same name, but for case.
    #[error("the field {0} is there twice; case does not tell names apart")]
    Twice(String),
    /// A field that every event has, or that stands beside its payload.
    #[error("the field {0} is not to be given: every event has it by itself")]
    Given(String),
    /// A standard field is of another type.
    #[error("the field {field} is {wanted} in every event, leave out its type")]
    StandardType {
        /// The field.
        field: String,
        /// Its type in Avro.
        wanted: &'static str,
    },
}

/// The possible types, in a sentence.
struct TypeWords;

impl fmt::Display for TypeWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (word, _)) in WORDS.iter().enumerate() {
            let between = match index {
                0 => "",
                _ if index + 1 == WORDS.len() => " or ",
                _ => ", ",
            };
            write!(f, "{between}{word}")?;
        }
        Ok(())
    }
}

/// The full API name of the event that `name` means.
///
/// # Errors
///
/// [`DraftError::EventName`].
pub fn event_name(name: &str) -> Result<String, DraftError> {
    let refused = || DraftError::EventName(shown(name).into_owned());
    let full = match EventKind::of(name) {
        EventKind::Platform | EventKind::Change => name.to_owned(),
        EventKind::Other => format!("{name}__e"),
    };
    let stem = full
        .strip_suffix("__e")
        .or_else(|| full.strip_suffix("__ChangeEvent"))
        .or_else(|| full.strip_suffix("ChangeEvent"));
    if stem.is_some_and(is_stem) {
        Ok(full)
    } else {
        Err(refused())
    }
}

/// Drafts the schema of the event `name` with `fields`, as people write it: one field a line.
///
/// # Errors
///
/// [`DraftError`] for the first name or field that cannot be.
pub fn draft(name: &str, fields: &[FieldSpec]) -> Result<String, DraftError> {
    let name = event_name(name)?;
    let kind = EventKind::of(&name);
    let mut lines = match kind {
        EventKind::Change => vec![header()],
        EventKind::Platform | EventKind::Other => vec![
            r#"{"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"}"#.to_owned(),
            r#"{"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"}"#.to_owned(),
        ],
    };
    let mut names = HashSet::new();
    for field in fields {
        let Field { name, ty, doc } = resolve(&name, kind, field)?;
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(DraftError::Twice(name));
        }
        lines.push(format!(
            r#"{{"name":"{name}","type":["null","{ty}"],"doc":"{doc}","default":null}}"#
        ));
    }
    let mut text = String::new();
    let start =
        format!(r#"{{"type":"record","name":"{name}","namespace":"{NAMESPACE}","fields":["#);
    text.push_str(&start);
    text.push_str("\n ");
    text.push_str(&lines.join(",\n "));
    text.push_str("]}\n");
    Ok(text)
}

/// A field as it is written.
struct Field {
    name: String,
    ty: &'static str,
    doc: String,
}

fn resolve(event: &str, kind: EventKind, field: &FieldSpec) -> Result<Field, DraftError> {
    let given = |names: &[&str]| {
        let mut names = names.iter();
        names.any(|name| name.eq_ignore_ascii_case(&field.name))
    };
    let is_of_platform = kind == EventKind::Platform && given(&["CreatedDate", "CreatedById"]);
    if is_of_platform || given(&["EventUuid", "ReplayId", HEADER]) {
        return Err(DraftError::Given(field.name.clone()));
    }
    let standard = match kind {
        EventKind::Change => STANDARD_FIELDS.iter().find(|name| **name == field.name),
        EventKind::Platform | EventKind::Other => None,
    };
    if let Some(&name) = standard {
        return standard_field(name, field.ty);
    }
    let is_of_standard_object = kind == EventKind::Change && !event.ends_with("__ChangeEvent");
    let name = if field.name.ends_with("__c") || is_of_standard_object {
        field.name.clone()
    } else {
        format!("{}__c", field.name)
    };
    let stem = name.strip_suffix("__c").unwrap_or(&name);
    if !is_stem(stem) {
        return Err(DraftError::FieldName(shown(&field.name).into_owned()));
    }
    let ty = field.ty.unwrap_or(FieldType::Text);
    Ok(Field {
        name,
        ty: ty.avro(),
        doc: format!("Data:{}", ty.doc()),
    })
}

/// A field of [`STANDARD_FIELDS`], whose type is known.
fn standard_field(name: &str, given: Option<FieldType>) -> Result<Field, DraftError> {
    let (ty, doc) = match name {
        "CreatedDate" => (FieldType::DateTime, "CreatedDate:DateTime"),
        "CreatedById" => (FieldType::Id, "CreatedBy:EntityId"),
        "LastModifiedDate" => (FieldType::DateTime, "LastModifiedDate:DateTime"),
        "LastModifiedById" => (FieldType::Id, "LastModifiedBy:EntityId"),
        "OwnerId" => (FieldType::Id, "Data:EntityId"),
        _ => (FieldType::Text, "Data:Text"),
    };
    if given.is_some_and(|given| given.avro() != ty.avro()) {
        return Err(DraftError::StandardType {
            field: name.to_owned(),
            wanted: ty.avro(),
        });
    }
    Ok(Field {
        name: name.to_owned(),
        ty: ty.avro(),
        doc: doc.to_owned(),
    })
}

fn header() -> String {
    let mut text = format!(
        r#"{{"name":"{HEADER}","doc":"Data:ComplexValueType","type":{{"type":"record","name":"{HEADER}","fields":["#
    );
    for (index, (name, ty)) in HEADER_FIELDS.into_iter().enumerate() {
        let ty = match ty {
            "enum" => format!(
                r#"{{"type":"enum","name":"ChangeType","symbols":["{}"]}}"#,
                CHANGE_TYPES.join(r#"",""#)
            ),
            "array of string" => r#"{"type":"array","items":"string"}"#.to_owned(),
            plain => format!("\"{plain}\""),
        };
        let between = if index > 0 { "," } else { "" };
        write!(text, "{between}\n   {{\"name\":\"{name}\",\"type\":{ty}}}")
            .expect("a String takes every text");
    }
    text.push_str("]}}");
    text
}

/// Whether a name without its suffix is one that the platform takes: perhaps with a package's prefix,
/// and not with the suffix of something else.
fn is_stem(stem: &str) -> bool {
    const PREFIX_CHARS_MAX: usize = 15;
    const OTHER_SUFFIXES: [&str; 6] = ["__c", "__e", "__b", "__x", "__chn", "__mdt"];
    let lower = stem.to_ascii_lowercase();
    let has_suffix = OTHER_SUFFIXES.iter().any(|suffix| lower.ends_with(suffix));
    let (prefix, own) = stem.split_once("__").unwrap_or(("", stem));
    let mut parts = stem.split("__");
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && !part.ends_with('_')
            && is_name(part)
    };
    !has_suffix
        && parts.clone().count() <= 2
        && parts.all(is_part)
        && prefix.len() <= PREFIX_CHARS_MAX
        && own.len() <= NAME_CHARS_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schema::{Schema, lint};

    fn drafted(name: &str, fields: &[&str]) -> Result<String, DraftError> {
        let fields: Result<Vec<FieldSpec>, _> = fields.iter().map(|field| field.parse()).collect();
        draft(name, &fields?)
    }

    #[test]
    fn a_platform_event_is_drafted_as_people_write_it() {
        let text = drafted(
            "OrderCreated",
            &["Order_Number", "Amount:double", "Priority__c: Checkbox"],
        );
        assert_eq!(
            text.unwrap(),
            r#"{"type":"record","name":"OrderCreated__e","namespace":"com.sforce.eventbus","fields":[
 {"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},
 {"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"},
 {"name":"Order_Number__c","type":["null","string"],"doc":"Data:Text","default":null},
 {"name":"Amount__c","type":["null","double"],"doc":"Data:Double","default":null},
 {"name":"Priority__c","type":["null","boolean"],"doc":"Data:Boolean","default":null}]}
"#
        );
        let id = "dGzWYkf4alBWqjXJMJJLlw";
        let text = drafted(
            "OrderCreated__e",
            &["Order_Number", "Amount:number", "Priority:boolean"],
        );
        assert_eq!(Schema::parse(&text.unwrap()).unwrap().id().as_str(), id);
    }

    #[test]
    fn a_change_event_is_drafted_with_its_header() {
        let fields = [
            "OwnerId",
            "Name",
            "CreatedDate",
            "CreatedById",
            "LastModifiedDate:long",
            "LastModifiedById",
            "Status",
        ];
        let text = drafted("Shipment__ChangeEvent", &fields).unwrap();
        let schema = Schema::parse(&text).unwrap();
        assert_eq!(lint::findings(&schema), []);
        let names: Vec<_> = schema
            .program()
            .root()
            .fields()
            .iter()
            .map(|field| field.name())
            .collect();
        assert_eq!(
            names,
            [
                HEADER,
                "OwnerId",
                "Name",
                "CreatedDate",
                "CreatedById",
                "LastModifiedDate",
                "LastModifiedById",
                "Status__c"
            ]
        );
        assert!(text.contains(r#"{"name":"CreatedDate","type":["null","long"],"doc":"CreatedDate:DateTime","default":null}"#));

        let text = drafted("AccountChangeEvent", &["Phone", "Rank__c:int"]).unwrap();
        assert!(
            text.contains(r#""Phone""#) && text.contains(r#""Rank__c""#),
            "{text}"
        );
        assert_eq!(lint::findings(&Schema::parse(&text).unwrap()), []);
    }

    #[test]
    fn every_type_is_drafted_in_any_case() {
        for (word, ty) in WORDS {
            let field = format!("a:{}", word.to_uppercase()).parse::<FieldSpec>();
            assert_eq!(field.unwrap().ty, Some(ty));
            let text = drafted("A", &[&format!("a:{word}")]).unwrap();
            assert_eq!(lint::findings(&Schema::parse(&text).unwrap()), [], "{word}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_is_possible() {
        let long = "N".repeat(NAME_CHARS_MAX + 1);
        for name in [
            "",
            "__e",
            "ChangeEvent",
            "1A",
            "A b",
            "A-b",
            "_A",
            "A_",
            "A___e",
            "A__c",
            "A__E",
            "A__chn",
            "a__b__C__e",
            "é",
            &long,
        ] {
            let refused = drafted(name, &[]);
            assert!(
                matches!(refused, Err(DraftError::EventName(_))),
                "{name}: {refused:?}"
            );
        }
        for field in [
            "", ":int", "1a", "a b", "a-b", "_a", "a_", "a__e", "a__c__c", "é", &long,
        ] {
            let refused = drafted("A", &[field]);
            assert!(
                matches!(refused, Err(DraftError::FieldName(_))),
                "{field}: {refused:?}"
            );
        }
        for field in [
            "CreatedDate",
            "createdbyid",
            "EventUuid",
            "ReplayId",
            "ChangeEventHeader",
        ] {
            assert_eq!(
                drafted("A", &[field]),
                Err(DraftError::Given(field.to_owned()))
            );
        }
        for fields in [["a", "A"], ["a", "a__c"], ["B:int", "b:int"]] {
            let refused = drafted("A", &fields);
            assert!(
                matches!(refused, Err(DraftError::Twice(_))),
                "{fields:?}: {refused:?}"
            );
        }
        assert_eq!(
            drafted("AChangeEvent", &["CreatedDate:Text"])
                .unwrap_err()
                .to_string(),
            "the field CreatedDate is long in every event, leave out its type"
        );
        assert_eq!(
            drafted("A", &["a:float"]).unwrap_err().to_string(),
            "there is no type \"float\"; a field is Text, LongText, Id, Checkbox, Number, DateTime, Date, Time, string, boolean, double, int or long"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn whatever_is_drafted_has_nothing_to_find(
            name in "[A-Za-z_]{1,4}(__)?[A-Za-z0-9_]{0,42}(__e|__ChangeEvent|ChangeEvent|__c)?",
            fields in prop::collection::vec("[A-Za-z_]{1,2}(__)?[A-Za-z0-9_]{0,42}(__c)?(:(int|long|Text|date))?", 0..5),
        ) {
            let fields: Vec<_> = fields.iter().map(|field| field.parse().unwrap()).collect();
            if let Ok(text) = draft(&name, &fields) {
                let schema = Schema::parse(&text).unwrap();
                prop_assert_eq!(lint::findings(&schema), []);
                prop_assert!(crate::types::TopicName::for_record(schema.record_name()).is_ok());
            }
        }
    }
}
