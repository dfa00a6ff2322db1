//! What will hurt in a schema: all that a registration refuses, and advice besides.
//!
//! A schema cannot be taken back: events that were written with it stay, and so do subscribers that were
//! built with it. So this says beforehand what [`soundness`] and [`platform`] say, and what is legal and
//! regretted later.
//!
//! | Advice | What was found | Why it hurts |
//! |---|---|---|
//! | `doc-missing` | a field of the event without `doc` | there is no other place in which subscribers find what it means |
//! | `enum-without-default` | an enum without a default | no symbol can ever be added: older readers fail at the first event with it |
//! | `field-suffix` | a field of a platform event whose name does not end in `__c` | on the platform an own field's name does, so no client of it can have this event |
//! | `field-without-default` | a field of a nested record without a default | it can never be taken out, nor have been added |
//! | `float-loses-digits` | a float | it keeps seven digits; 16,777,217 comes out as 16,777,216 |
//! | `name-too-long` | a name of more than [`NAME_CHARS_MAX`] characters, its suffix not counted | the platform takes no longer one |
//! | `null-not-first` | a field of a nested record that is a union with null, which does not come first | its default cannot be null for readers before Avro 1.12, and clients of the platform that read bitmaps of change events rely on it |
//!
//! One rule is no advice and is in neither of the two: `record-name`, for a record whose name ends in
//! neither `__e` nor `ChangeEvent`. A registry has no topic for it.
//!
//! Source: Avro specification 1.12, "Schema Resolution"; the public Platform Events Developer Guide,
//! "Platform Event Fields".

use super::{
    Schema, SchemaError, files,
    finding::Finding,
    outline::{self, Compiled, Findings, Item, NamedKind, Place, shown},
    platform::{self, Checks, EventKind},
    program::{NullBranch, Op, Program, Step, simple_name},
    soundness,
    source::{Node, Object},
    type_text::type_text,
};
use crate::types::{TopicName, limits::VIOLATIONS_MAX};

/// Characters of a name on the platform, without its prefix and its suffix.
pub const NAME_CHARS_MAX: usize = 40;

/// What is advice: a registry takes a schema in spite of it.
const ADVICE: [&str; 7] = [
    "doc-missing",
    "enum-without-default",
    "field-suffix",
    "field-without-default",
    "float-loses-digits",
    "name-too-long",
    "null-not-first",
];

/// Everything that is to be said about `schema`, in the order of the text. Where there is too much of it,
/// what is refused comes before advice.
pub fn findings(schema: &Schema) -> Vec<Finding> {
    let mut findings = soundness::findings(schema);
    findings.extend(platform::findings(schema, Checks::all()));
    findings.extend(own_findings(schema));
    findings.truncate(VIOLATIONS_MAX);
    findings.sort_by_key(|finding| finding.line);
    findings
}

/// Whether a finding is advice, so that a registry with every check on takes the schema all the same.
pub fn is_advice(finding: &Finding) -> bool {
    ADVICE.contains(&finding.rule)
}

/// Everything that is to be said about a text, which need be no schema.
pub fn findings_of_text(text: &str) -> Vec<Finding> {
    match Schema::parse(text) {
        Ok(schema) => findings(&schema),
        Err(error) => vec![refusal(text, &error)],
    }
}

/// Why a text is no schema, as a finding.
fn refusal(text: &str, error: &SchemaError) -> Finding {
    let (path, message) = match error {
        SchemaError::NotAvro { at, reason } if at != "schema" => (at.clone(), reason.clone()),
        SchemaError::NotAvro { reason, .. } => (String::new(), reason.clone()),
        SchemaError::NotJson { column, reason, .. } => {
            (String::new(), format!("column {column}: {reason}"))
        }
        SchemaError::Default { field, reason } => (
            field.clone(),
            format!("the default does not fit the type: {reason}"),
        ),
        error => (String::new(), error.to_string()),
    };
    let line = match error {
        SchemaError::NotJson { line, .. } | SchemaError::NestedTooDeep { line, .. } => Some(*line),
        error => files::line_of(text, error),
    };
    let fix = match error {
        SchemaError::TooLarge(_) => "shorten its documentation, or make several events of it",
        SchemaError::NestedTooDeep { .. } => "define inner types once, and name them elsewhere",
        SchemaError::NotJson { .. } => "correct the JSON there",
        SchemaError::NotAvro { .. } => {
            "write it as \"Schema Declaration\" of the Avro specification says"
        }
        SchemaError::NotARecord(_) => "make it a record that has the value as a field",
        SchemaError::DefinedTwice(_) => "define it once, and write its name elsewhere",
        SchemaError::Endless(_) => "put a union with null, an array or a map in between",
        SchemaError::ValueTooDeep(_) => "nest fewer records in each other",
        SchemaError::Default { .. } => "write a value of the field's type, or leave it out",
        SchemaError::DefaultsTooLarge => "shorten the defaults",
    };
    Finding {
        rule: error.rule(),
        path,
        line,
        message,
        fix: fix.to_owned(),
    }
}

fn own_findings(schema: &Schema) -> Vec<Finding> {
    let Some(root) = Node::read(schema.text()) else {
        return Vec::new();
    };
    let mut walk = Walk {
        compiled: Compiled::new(schema),
        event: EventKind::of(schema.record_name()),
        findings: Findings::default(),
    };
    outline::walk(&root, &mut |place, item| walk.meet(place, item));
    walk.findings.into_vec()
}

struct Walk<'s> {
    compiled: Compiled<'s>,
    event: EventKind,
    findings: Findings,
}

impl Walk<'_> {
    fn meet(&mut self, place: &Place<'_>, item: Item<'_, '_>) {
        // The header of change events is the platform's, with its enum that has no default.
        if place.is_in_header {
            return;
        }
        match item {
            Item::Named {
                kind,
                object,
                full_name,
            } => match kind {
                NamedKind::Record if place.records == 0 => {
                    self.record_name(place, simple_name(full_name));
                }
                NamedKind::Enum => self.enum_default(place, object),
                NamedKind::Record | NamedKind::Fixed => {}
            },
            Item::Field {
                object,
                name,
                record,
                index,
            } => {
                if place.records > 1 {
                    if let Some((step, default)) = self.compiled.field(record, index) {
                        self.nested_field(place, step, default.is_some());
                    }
                } else if !self.event.is_leading(name) {
                    self.event_field(place, object, name);
                }
            }
            Item::Word("float") => self.findings.push(
                "float-loses-digits",
                place,
                format_args!(
                    "is a float, which keeps seven digits: 16777217 comes out as 16777216"
                ),
                format_args!("make it double, which a number of the platform is"),
            ),
            Item::Word(_) | Item::Type { .. } => {}
        }
    }

    fn record_name(&mut self, place: &Place<'_>, name: &str) {
        if let Err(error) = TopicName::for_record(name) {
            self.findings.push(
                "record-name",
                place,
                format_args!("has no topic: {error}"),
                format_args!("name it as an event, such as OrderCreated__e or Order__ChangeEvent"),
            );
        }
        self.name_length(place, name);
    }

    fn name_length(&mut self, place: &Place<'_>, name: &str) {
        let length = own_part(name).len();
        if length > NAME_CHARS_MAX {
            self.findings.push(
                "name-too-long",
                place,
                format_args!(
                    "has a name of {length} characters before its suffix, and the platform takes {NAME_CHARS_MAX}"
                ),
                format_args!("shorten it, if clients of the platform are to have the same event"),
            );
        }
    }

    fn enum_default(&mut self, place: &Place<'_>, object: Object<'_, '_>) {
        if object.get("default").is_none() {
            self.findings.push(
                "enum-without-default",
                place,
                format_args!(
                    "is an enum without a default: when a symbol is added, older readers fail at the first event with it"
                ),
                format_args!("add a symbol such as UNKNOWN and make it the \"default\" of the enum, or use string"),
            );
        }
    }

    fn event_field(&mut self, place: &Place<'_>, object: Object<'_, '_>, name: &str) {
        if self.event == EventKind::Platform && !name.ends_with("__c") {
            self.findings.push(
                "field-suffix",
                place,
                format_args!("does not end in __c, as every own field of a platform event does"),
                format_args!("name it {}__c", shown(name)),
            );
        }
        self.name_length(place, name);
        let doc = object.text("doc").unwrap_or_default();
        if doc.trim().is_empty() {
            self.findings.push(
                "doc-missing",
                place,
                format_args!("has no \"doc\", and subscribers find nowhere else what it means"),
                format_args!("add one, such as \"doc\": \"Data:Text\" as the platform writes it, or a sentence"),
            );
        }
    }

    fn nested_field(&mut self, place: &Place<'_>, step: Step, has_default: bool) {
        let program = self.compiled.program;
        if !has_null_first(program, step) {
            let found = type_text(program, step);
            self.findings.push(
                "null-not-first",
                place,
                format_args!(
                    "is {found}: null does not come first, so it cannot be the default everywhere"
                ),
                format_args!("make null the first type of the union"),
            );
        }
        if !has_default {
            self.findings.push(
                "field-without-default",
                place,
                format_args!(
                    "has no default: readers with the field fail at events without it, so it can never be taken out"
                ),
                format_args!("make it a union of null and its type, with \"default\": null"),
            );
        }
    }
}

/// Whether null is the first branch of a union that has it.
fn has_null_first(program: &Program, step: Step) -> bool {
    match (step.null, step.op) {
        (NullBranch::First, _) => true,
        (NullBranch::Second, _) => false,
        (NullBranch::None, Op::Union(union)) => {
            let branches = &program.unions[union as usize].branches;
            let null = branches.iter().position(|branch| branch.op == Op::Null);
            null.is_none_or(|at| at == 0)
        }
        (NullBranch::None, _) => true,
    }
}

/// A name on the platform without the prefix of a package and without its suffix: `Order` of
/// `acme__Order__e`.
pub(super) fn own_part(name: &str) -> &str {
    let suffixes = ["__e", "__c", "__ChangeEvent", "ChangeEvent"];
    let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    let stem = stem.unwrap_or(name);
    stem.split_once("__").map_or(stem, |(_, own)| own)
}

#[cfg(test)]
mod tests;
