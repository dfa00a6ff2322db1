//! The conventions that the schemas of the platform's events have, as checks that can be left out.
//!
//! Clients of the hosted service rely on more than Avro: on the fields that every event begins with, on
//! null as the first type of all others, on plain types, on the namespace. An event type that breaks such
//! a convention works with some clients and not with others.
//!
//! | Check | What it asks for |
//! |---|---|
//! | `leading-fields` | A platform event, `…__e`, begins with `CreatedDate` (long) and `CreatedById` (string), neither nullable nor with a default. A change event, `…ChangeEvent`, begins with `ChangeEventHeader`, a record of the twelve fields of [`HEADER_FIELDS`]. |
//! | `nullable-fields` | Every other field of the event is a union of null, which comes first, and one type, or of null, string and a record; its default is null. |
//! | `logical-types` | No type has a `logicalType`. |
//! | `namespace` | The event is in the namespace [`NAMESPACE`]. |
//!
//! Source: the public Pub/Sub API Developer Guide, "Event Data Serialization with Apache Avro", and the
//! Change Data Capture Developer Guide, "Change Event Header Fields".

use std::{fmt, str::FromStr};

use super::{
    Schema,
    finding::Finding,
    outline::{self, Compiled, Findings, Item, NamedKind, Place, shown},
    program::{NullBranch, Op, Step, simple_name},
    source::{Node, Object},
    type_text::type_text,
};

/// The namespace of the platform's events.
pub const NAMESPACE: &str = "com.sforce.eventbus";

/// The fields of a change event's header and their types, in order. `changeType` is an enum of
/// [`CHANGE_TYPES`].
pub const HEADER_FIELDS: [(&str, &str); 12] = [
    ("entityName", "string"),
    ("recordIds", "array of string"),
    ("changeType", "enum"),
    ("changeOrigin", "string"),
    ("transactionKey", "string"),
    ("sequenceNumber", "int"),
    ("commitTimestamp", "long"),
    ("commitNumber", "long"),
    ("commitUser", "string"),
    ("nulledFields", "array of string"),
    ("diffFields", "array of string"),
    ("changedFields", "array of string"),
];

/// The symbols of the enum that tells what changed, in the order of their indexes. Older schemas do not
/// have the last.
pub const CHANGE_TYPES: [&str; 10] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    "UNDELETE",
    "GAP_CREATE",
    "GAP_UPDATE",
    "GAP_DELETE",
    "GAP_UNDELETE",
    "GAP_OVERFLOW",
    "SNAPSHOT",
];

/// What a platform event begins with, each with its type.
pub(super) const LEADING_FIELDS: [(&str, &str); 2] =
    [("CreatedDate", "long"), ("CreatedById", "string")];

/// What a change event begins with.
pub(super) const HEADER: &str = "ChangeEventHeader";

/// One convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// An event begins with the fields that every event of its kind has.
    LeadingFields,
    /// All other fields are nullable, and null is their default.
    NullableFields,
    /// Types are not annotated.
    LogicalTypes,
    /// The namespace is the platform's.
    Namespace,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::LeadingFields,
        Self::NullableFields,
        Self::LogicalTypes,
        Self::Namespace,
    ];

    /// The check's name, which is also the rule of what it finds.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeadingFields => "leading-fields",
            Self::NullableFields => "nullable-fields",
            Self::LogicalTypes => "logical-types",
            Self::Namespace => "namespace",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Check {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Self, CheckError> {
        let mut checks = Self::ALL.into_iter();
        let check = checks.find(|check| check.as_str() == text);
        check.ok_or_else(|| CheckError(shown(text).into_owned()))
    }
}

/// A text that names no check. Holds what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no check {0:?}; there are {all}", all = Checks::all())]
pub struct CheckError(String);

/// Which checks are on. As text: their names with commas between, or `none`; `all` is read, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks([bool; Check::ALL.len()]);

impl Checks {
    /// Every check is on.
    pub fn all() -> Self {
        Self([true; Check::ALL.len()])
    }

    /// No check is on.
    pub fn none() -> Self {
        Self([false; Check::ALL.len()])
    }

    /// Whether `check` is on.
    pub fn is_on(self, check: Check) -> bool {
        self.0[check as usize]
    }

    /// The same with `check` on or off.
    pub fn with(mut self, check: Check, on: bool) -> Self {
        self.0[check as usize] = on;
        self
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = Check::ALL.into_iter().filter(|check| self.is_on(*check));
        let names: Vec<_> = on.map(Check::as_str).collect();
        if names.is_empty() {
            f.write_str("none")
        } else {
            f.write_str(&names.join(", "))
        }
    }
}

impl FromStr for Checks {
    type Err = CheckError;

    fn from_str(text: &str) -> Result<Self, CheckError> {
        match text.trim() {
            "all" => Ok(Self::all()),
            "none" => Ok(Self::none()),
            names => names.split(',').try_fold(Self::none(), |checks, name| {
                Ok(checks.with(name.trim().parse()?, true))
            }),
        }
    }
}

/// What of `schema` breaks the conventions that `checks` has on, in the order of the text.
pub fn findings(schema: &Schema, checks: Checks) -> Vec<Finding> {
    let Some(root) = Node::read(schema.text()) else {
        return Vec::new();
    };
    let mut walk = Walk {
        compiled: Compiled::new(schema),
        event: EventKind::of(schema.record_name()),
        checks,
        findings: Findings::default(),
    };
    outline::walk(&root, &mut |place, item| walk.meet(place, item));
    walk.findings.into_vec()
}

/// What sort of event a record's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Platform,
    Change,
    Other,
}

impl EventKind {
    pub(super) fn of(record: &str) -> Self {
        if record.ends_with("__e") {
            Self::Platform
        } else if record.ends_with("ChangeEvent") {
            Self::Change
        } else {
            Self::Other
        }
    }

    /// The fields that an event begins with, and their types.
    fn leading(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Platform => &LEADING_FIELDS,
            Self::Change => &[(HEADER, "record")],
            Self::Other => &[],
        }
    }

    /// Whether `field` is one of those, wherever it stands.
    pub(super) fn is_leading(self, field: &str) -> bool {
        self.leading().iter().any(|(name, _)| *name == field)
    }
}

struct Walk<'s> {
    compiled: Compiled<'s>,
    event: EventKind,
    checks: Checks,
    findings: Findings,
}

impl Walk<'_> {
    fn meet(&mut self, place: &Place<'_>, item: Item<'_, '_>) {
        match item {
            Item::Type { object, .. } => self.logical_type(place, object, true),
            Item::Named {
                kind,
                object,
                full_name,
            } => {
                if place.records == 0 {
                    self.namespace(place, object, full_name);
                    self.field_count(place, object, self.event.leading(), "event");
                } else if place.records == 1 && place.is_in_header && kind == NamedKind::Record {
                    self.field_count(place, object, &HEADER_FIELDS, "header");
                }
            }
            Item::Field {
                object,
                name,
                record,
                index,
            } => {
                self.logical_type(place, object, false);
                let Some((step, default)) = self.compiled.field(record, index) else {
                    return;
                };
                if place.records == 1 {
                    self.leading_field(place, name, index, step, default.is_some());
                    self.nullable_field(place, name, step, default);
                } else if place.records == 2 && place.is_in_header {
                    self.header_field(place, name, index, step);
                }
            }
            Item::Word(_) => {}
        }
    }

    fn push(
        &mut self,
        check: Check,
        place: &Place<'_>,
        message: fmt::Arguments<'_>,
        fix: fmt::Arguments<'_>,
    ) {
        if self.checks.is_on(check) {
            self.findings.push(check.as_str(), place, message, fix);
        }
    }

    fn namespace(&mut self, place: &Place<'_>, object: Object<'_, '_>, full_name: &str) {
        let namespace = full_name.rsplit_once('.').map(|(namespace, _)| namespace);
        let written = object.text("name").unwrap_or_default();
        if written.contains('.') && namespace != Some(NAMESPACE) {
            // The name brings its own namespace, whatever stands beside it.
            return self.push(
                Check::Namespace,
                place,
                format_args!("has a name with another namespace than {NAMESPACE}"),
                format_args!(
                    "write \"name\": \"{}\", \"namespace\": \"{NAMESPACE}\"",
                    shown(simple_name(full_name))
                ),
            );
        }
        let line = object
            .entry("namespace")
            .map_or(place.line, |entry| entry.line);
        let place = &Place { line, ..*place };
        match namespace {
            Some(NAMESPACE) => {}
            Some(other) => self.push(
                Check::Namespace,
                place,
                format_args!("is in the namespace {}, not in {NAMESPACE}", shown(other)),
                format_args!("write \"namespace\": \"{NAMESPACE}\""),
            ),
            None => self.push(
                Check::Namespace,
                place,
                format_args!("is in no namespace, and events are in {NAMESPACE}"),
                format_args!("add \"namespace\": \"{NAMESPACE}\""),
            ),
        }
    }

    fn logical_type(&mut self, place: &Place<'_>, object: Object<'_, '_>, is_type: bool) {
        let Some(entry) = object.entry("logicalType") else {
            return;
        };
        let place = &Place {
            line: entry.line,
            ..*place
        };
        let name = entry.value.as_text().unwrap_or(entry.value.text);
        let what = if is_type { "type" } else { "field" };
        self.push(
            Check::LogicalTypes,
            place,
            format_args!(
                "has the logicalType {} on its {what}; some clients decode it to another type and others ignore it",
                shown(name)
            ),
            format_args!("leave it out, and say in \"doc\" what the values mean"),
        );
    }

    /// Whether a record has as many fields as it begins with.
    fn field_count(
        &mut self,
        place: &Place<'_>,
        record: Object<'_, '_>,
        wanted: &[(&str, &str)],
        what: &str,
    ) {
        let found = outline::fields(record).count();
        if let Some((name, ty)) = wanted.get(found) {
            self.push(
                Check::LeadingFields,
                place,
                format_args!("ends where {name} is wanted, which every {what} of its kind has"),
                format_args!("add the field {name} of type {ty} as number {}", found + 1),
            );
        }
    }

    fn leading_field(
        &mut self,
        place: &Place<'_>,
        name: &str,
        index: usize,
        step: Step,
        has_default: bool,
    ) {
        let Some(&(wanted, ty)) = self.event.leading().get(index) else {
            return;
        };
        let found = type_text(self.compiled.program, step);
        let number = index + 1;
        let check = Check::LeadingFields;
        if name != wanted {
            self.push(
                check,
                place,
                format_args!("is field number {number}, where {wanted} is wanted"),
                format_args!(
                    "make {wanted} of type {ty}, not nullable, field number {number} of the event"
                ),
            );
        } else if !self.is_of_type(step, ty) {
            self.push(
                check,
                place,
                format_args!("is {found}, and clients rely on {ty}"),
                format_args!("make it {ty}, not nullable and without a default"),
            );
        } else if has_default && self.event == EventKind::Platform {
            self.push(
                check,
                place,
                format_args!("has a default, and every event has its own value"),
                format_args!("leave the default out"),
            );
        }
    }

    /// Whether a step is of a type as [`HEADER_FIELDS`] and the leading fields name it.
    fn is_of_type(&self, step: Step, wanted: &str) -> bool {
        match wanted {
            "record" => matches!(step.op, Op::Record(_)) && step.null == NullBranch::None,
            "enum" => matches!(step.op, Op::Enum(_)) && step.null == NullBranch::None,
            wanted => type_text(self.compiled.program, step) == wanted,
        }
    }

    fn header_field(&mut self, place: &Place<'_>, name: &str, index: usize, step: Step) {
        let check = Check::LeadingFields;
        let Some(&(wanted, ty)) = HEADER_FIELDS.get(index) else {
            self.push(
                check,
                place,
                format_args!("is no field of a change event's header"),
                format_args!("move it out of the header"),
            );
            return;
        };
        if name != wanted {
            self.push(
                check,
                place,
                format_args!(
                    "is field number {} of the header, where {wanted} is wanted",
                    index + 1
                ),
                format_args!("write the twelve fields of a header in their order"),
            );
        } else if !self.is_of_type(step, ty) {
            let found = type_text(self.compiled.program, step);
            self.push(
                check,
                place,
                format_args!("is {found}, and clients rely on {ty}"),
                format_args!("make it {ty}"),
            );
        } else if let Op::Enum(index) = step.op {
            let symbols = &self.compiled.program.enums[index as usize].symbols;
            let is_known =
                symbols.iter().eq(&CHANGE_TYPES) || symbols.iter().eq(&CHANGE_TYPES[..9]);
            if !is_known {
                let wanted = CHANGE_TYPES.join(", ");
                self.push(
                    check,
                    place,
                    format_args!(
                        "has other symbols than a change has, or in another order, which is the order on the wire"
                    ),
                    format_args!("make them {wanted}"),
                );
            }
        }
    }

    fn nullable_field(
        &mut self,
        place: &Place<'_>,
        name: &str,
        step: Step,
        default: Option<&[u8]>,
    ) {
        if self.event.is_leading(name) {
            return;
        }
        let program = self.compiled.program;
        let check = Check::NullableFields;
        if !is_nullable(program, step) {
            let found = type_text(program, step);
            self.push(
                check,
                place,
                format_args!(
                    "is {found}, and clients rely on null before the type of every such field"
                ),
                format_args!("make it a union of null and one type, with \"default\": null"),
            );
        // A union's first branch, which is null, is one byte.
        } else if default != Some(&[0]) {
            let found = if default.is_some() {
                "has another default than null"
            } else {
                "has no default"
            };
            self.push(
                check,
                place,
                format_args!("{found}, and an absent field is null"),
                format_args!("write \"default\": null"),
            );
        }
    }
}

/// Whether a type is null or one other, or null or a text or a record, as the names of persons are.
fn is_nullable(program: &super::program::Program, step: Step) -> bool {
    match (step.null, step.op) {
        (NullBranch::First, _) => true,
        (NullBranch::None, Op::Union(union)) => {
            let branches = &program.unions[union as usize].branches;
            let ops: Vec<_> = branches.iter().take(4).map(|branch| branch.op).collect();
            matches!(ops[..], [Op::Null, Op::String, Op::Record(_)])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::{ORDER_CREATED, SHIPMENT_CHANGE};

    /// The findings in `text` after `from` was replaced with `to`, as `line rule path: message`.
    fn found(text: &str, from: &str, to: &str) -> Vec<String> {
        assert!(text.contains(from), "{from}");
        let schema = Schema::parse(&text.replacen(from, to, 1)).unwrap();
        let lines = findings(&schema, Checks::all()).into_iter();
        lines
            .map(|finding| format!("{} {} {finding}", finding.line.unwrap(), finding.rule))
            .collect()
    }

    #[test]
    fn schemas_of_the_platform_have_nothing_to_find() {
        assert_eq!(found(ORDER_CREATED, "", ""), [""; 0]);
        assert_eq!(found(SHIPMENT_CHANGE, "", ""), [""; 0]);
        // Older ones have fewer symbols, and none a namespace of their own.
        assert_eq!(found(SHIPMENT_CHANGE, r#","SNAPSHOT""#, ""), [""; 0]);
        let own = r#""name":"ChangeType","namespace":"""#;
        assert_eq!(
            found(SHIPMENT_CHANGE, r#""name":"ChangeType""#, own),
            [""; 0]
        );
        // The name of a person is a text or a record.
        let person = r#"["null","string",{"type":"record","name":"P","fields":[]}]"#;
        assert_eq!(
            found(ORDER_CREATED, r#"["null","string"]"#, person),
            [""; 0]
        );
    }

    #[test]
    fn every_break_of_a_convention_is_found_with_its_place() {
        let date = r#"{"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},"#;
        let cases: &[(&str, &str, &str, &[&str])] = &[
            (
                ORDER_CREATED,
                date,
                "",
                &[
                    "3 leading-fields OrderCreated__e.CreatedById: is field number 1, where CreatedDate is wanted",
                    "4 leading-fields OrderCreated__e.Order_Number__c: is field number 2, where CreatedById is wanted",
                ],
            ),
            (
                ORDER_CREATED,
                r#""CreatedDate","type":"long""#,
                r#""CreatedDate","type":["null","long"]"#,
                &[
                    "2 leading-fields OrderCreated__e.CreatedDate: is null or long, and clients rely on long",
                ],
            ),
            (
                ORDER_CREATED,
                r#""CreatedById","type":"string""#,
                r#""CreatedById","default":"x","type":"string""#,
                &[
                    "3 leading-fields OrderCreated__e.CreatedById: has a default, and every event has its own value",
                ],
            ),
            (
                ORDER_CREATED,
                r#"["null","double"]"#,
                r#"["double","null"]"#,
                &[
                    "5 nullable-fields OrderCreated__e.Amount__c: is double or null, and clients rely on null before the type of every such field",
                ],
            ),
            (
                ORDER_CREATED,
                r#"["null","double"]"#,
                r#"["null","double","int"]"#,
                &[
                    "5 nullable-fields OrderCreated__e.Amount__c: is null or double or int, and clients rely on null before the type of every such field",
                ],
            ),
            (
                ORDER_CREATED,
                r#"00NXX0000000002","default":null"#,
                r#"""#,
                &[
                    "5 nullable-fields OrderCreated__e.Amount__c: has no default, and an absent field is null",
                ],
            ),
            (
                ORDER_CREATED,
                r#"00NXX0000000002","default":null"#,
                r#"","default":1.5"#,
                &[
                    "5 nullable-fields OrderCreated__e.Amount__c: has another default than null, and an absent field is null",
                ],
            ),
            (
                ORDER_CREATED,
                r#""double""#,
                "{\"type\":\"long\",\n\"logicalType\":\"date\"}",
                &[
                    "6 logical-types OrderCreated__e.Amount__c: has the logicalType date on its type; some clients decode it to another type and others ignore it",
                ],
            ),
            (
                ORDER_CREATED,
                r#""name":"Amount__c""#,
                r#""name":"Amount__c","logicalType":7"#,
                &[
                    "5 logical-types OrderCreated__e.Amount__c: has the logicalType 7 on its field; some clients decode it to another type and others ignore it",
                ],
            ),
            (
                ORDER_CREATED,
                "com.sforce.eventbus",
                "com.example",
                &[
                    "1 namespace OrderCreated__e: is in the namespace com.example, not in com.sforce.eventbus",
                ],
            ),
            (
                ORDER_CREATED,
                r#""namespace":"com.sforce.eventbus","#,
                "",
                &[
                    "1 namespace OrderCreated__e: is in no namespace, and events are in com.sforce.eventbus",
                ],
            ),
            (
                SHIPMENT_CHANGE,
                r#""ChangeEventHeader","doc""#,
                r#""Header","doc""#,
                &[
                    "2 leading-fields Shipment__ChangeEvent.Header: is field number 1, where ChangeEventHeader is wanted",
                    "2 nullable-fields Shipment__ChangeEvent.Header: is record com.sforce.eventbus.ChangeEventHeader, and clients rely on null before the type of every such field",
                ],
            ),
            (
                SHIPMENT_CHANGE,
                r#""sequenceNumber","type":"int""#,
                r#""sequenceNumber","type":"long""#,
                &[
                    "9 leading-fields Shipment__ChangeEvent.ChangeEventHeader.sequenceNumber: is long, and clients rely on int",
                ],
            ),
            (
                SHIPMENT_CHANGE,
                r#""commitUser""#,
                r#""user""#,
                &[
                    "12 leading-fields Shipment__ChangeEvent.ChangeEventHeader.user: is field number 9 of the header, where commitUser is wanted",
                ],
            ),
            (
                SHIPMENT_CHANGE,
                r#","SNAPSHOT""#,
                r#","OTHER""#,
                &[
                    "5 leading-fields Shipment__ChangeEvent.ChangeEventHeader.changeType: has other symbols than a change has, or in another order, which is the order on the wire",
                ],
            ),
            (
                SHIPMENT_CHANGE,
                r#",
   {"name":"changedFields","type":{"type":"array","items":"string"}}"#,
                "",
                &[
                    "2 leading-fields Shipment__ChangeEvent.ChangeEventHeader: ends where changedFields is wanted, which every header of its kind has",
                ],
            ),
            (
                SHIPMENT_CHANGE,
                r#""changedFields","type":{"type":"array","items":"string"}}"#,
                r#""changedFields","type":{"type":"array","items":"string"}},{"name":"more","type":"int"}"#,
                &[
                    "15 leading-fields Shipment__ChangeEvent.ChangeEventHeader.more: is no field of a change event's header",
                ],
            ),
        ];
        for (text, from, to, wanted) in cases {
            assert_eq!(found(text, from, to), *wanted, "{to}");
        }
    }

    #[test]
    fn an_event_without_fields_lacks_the_first() {
        for (name, field) in [("A__e", "CreatedDate"), ("AChangeEvent", HEADER)] {
            let text = format!(
                r#"{{"type":"record","name":"{name}","namespace":"{NAMESPACE}","fields":[]}}"#
            );
            let found = found(&text, "", "");
            assert_eq!(found.len(), 1);
            assert!(found[0].contains(field), "{found:?}");
        }
    }

    #[test]
    fn a_check_that_is_off_finds_nothing() {
        let text = r#"{"type":"record","name":"A__e","fields":[
            {"name":"a","type":{"type":"long","logicalType":"date"}}]}"#;
        let schema = Schema::parse(text).unwrap();
        let rules = |checks| {
            let findings = findings(&schema, checks).into_iter();
            findings.map(|finding| finding.rule).collect::<Vec<_>>()
        };
        assert_eq!(rules(Checks::none()), [""; 0]);
        for check in Check::ALL {
            let alone = rules(Checks::none().with(check, true));
            assert!(!alone.is_empty() && alone.iter().all(|rule| *rule == check.as_str()));
            let others = rules(Checks::all().with(check, false));
            assert!(!others.is_empty() && others.iter().all(|rule| *rule != check.as_str()));
        }
    }

    #[test]
    fn checks_are_read_as_they_are_written() {
        for checks in [
            Checks::all(),
            Checks::none(),
            Checks::none().with(Check::LogicalTypes, true),
            Checks::all().with(Check::NullableFields, false),
        ] {
            assert_eq!(checks.to_string().parse(), Ok(checks));
        }
        assert_eq!("all".parse(), Ok(Checks::all()));
        assert_eq!(Checks::none().to_string(), "none");
        assert_eq!(
            Checks::all()
                .with(Check::NullableFields, false)
                .with(Check::LogicalTypes, false)
                .to_string(),
            "leading-fields, namespace"
        );
        for wrong in ["", "leading", "namespace,", "all, namespace"] {
            let error = wrong.parse::<Checks>().unwrap_err().to_string();
            assert!(error.contains("leading-fields, nullable-fields"), "{error}");
        }
    }
}
