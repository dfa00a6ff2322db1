//! What parses and should be no event type all the same: readers of other languages refuse it, or read
//! something else.
//!
//! Schemas that are stored are loaded by [`Schema::parse`], so that has to go on taking them. A new one
//! that has any of this is refused.
//!
//! | Rule | What was found | Who reads it otherwise |
//! |---|---|---|
//! | `alias-collision` | an alias of a field that is the name or an alias of another field of the record | some readers give both fields the writer's, some neither |
//! | `alias-invalid` | aliases that are no array of names | parsers that check names refuse the schema |
//! | `case-collision` | two fields of a record, or two types, whose names differ only in case | the platform's names do not differ in case; generated code overwrites one with the other |
//! | `default-not-avro` | a default that is written as another JSON type than Avro has for its type | parsers that check defaults refuse the schema |
//! | `duplicate-key` | a key that stands twice in an object | some parsers take the first, some the last, some neither |
//! | `enum-default-unknown` | the default of an enum is none of its symbols | parsers that check it refuse the schema |
//! | `namespace-invalid` | a namespace that is no sequence of names with dots between | parsers that check names refuse the schema |
//! | `name-primitive` | a type that is called like a primitive one | parsers take the primitive one for it, or refuse the schema |
//! | `order-invalid` | an order that is none of ascending, descending and ignore | parsers that know orders refuse the schema |
//! | `reserved-field` | a field that is called as what stands beside an event's payload | clients show only one of the two |
//! | `union-default-not-first` | the default of a union is not one of its first type | readers before Avro 1.12 take it for one, or refuse the schema |
//!
//! Source: Avro specification 1.12, "Schema Declaration", "Names", "Aliases"; RFC 8259, section 4.

use std::collections::{HashMap, hash_map};

use super::{
    Schema,
    defaults::{Defaults, Misfit},
    finding::Finding,
    outline::{self, Compiled, Findings, Item, NamedKind, Place, shown},
    program::{NullBranch, PRIMITIVES, simple_name},
    source::{Kind, Node, Object},
};

/// What stands beside an event's payload, and not in it.
const RESERVED_FIELDS: [&str; 2] = ["EventUuid", "ReplayId"];

const ORDERS: [&str; 3] = ["ascending", "descending", "ignore"];

/// What of `schema` no registry should take, in the order of the text.
pub fn findings(schema: &Schema) -> Vec<Finding> {
    let Some(root) = Node::read(schema.text()) else {
        return Vec::new();
    };
    let compiled = Compiled::new(schema);
    let mut walk = Walk {
        defaults: Defaults::new(compiled.program),
        compiled,
        types: HashMap::new(),
        findings: Findings::default(),
    };
    outline::walk(&root, &mut |place, item| walk.meet(place, item));
    walk.findings.into_vec()
}

struct Walk<'s> {
    compiled: Compiled<'s>,
    defaults: Defaults<'s>,
    /// Full names so far, by what they are without upper case.
    types: HashMap<String, String>,
    findings: Findings,
}

impl Walk<'_> {
    fn meet(&mut self, place: &Place<'_>, item: Item<'_, '_>) {
        match item {
            Item::Type { object, inner } => self.keys(place, object, inner),
            Item::Named {
                kind,
                object,
                full_name,
            } => {
                self.type_name(place, full_name);
                self.namespace(place, object);
                self.aliases(place, object, is_dotted_name);
                match kind {
                    NamedKind::Record => self.field_names(place, object),
                    NamedKind::Enum => self.enum_default(place, object),
                    NamedKind::Fixed => {}
                }
            }
            Item::Field {
                object,
                name,
                record,
                index,
            } => {
                self.keys(place, object, &["type"]);
                self.aliases(place, object, is_name);
                self.order(place, object);
                self.default(place, object, record, index);
                if place.records == 1 {
                    self.reserved(place, name);
                }
            }
            Item::Word(_) => {}
        }
    }

    /// Finds keys that stand twice in `object`, and in what stands under other keys than `inner`,
    /// which the walk comes to by itself.
    fn keys(&mut self, place: &Place<'_>, object: Object<'_, '_>, inner: &[&str]) {
        let mut seen = HashMap::with_capacity(object.0.len());
        for entry in object.0 {
            if let Some(first) = seen.insert(&*entry.key, entry.line) {
                let place = &Place {
                    line: entry.line,
                    ..*place
                };
                self.findings.push(
                    "duplicate-key",
                    place,
                    format_args!(
                        "has the key {:?} twice, first in line {first}; which one counts depends on the parser",
                        shown(&entry.key)
                    ),
                    format_args!("keep one of them"),
                );
            }
            if !inner.contains(&&*entry.key) {
                self.keys_within(place, &entry.value);
            }
        }
    }

    /// As deep as the text nests.
    fn keys_within(&mut self, place: &Place<'_>, node: &Node<'_>) {
        match &node.kind {
            Kind::Array(items) => items.iter().for_each(|item| self.keys_within(place, item)),
            Kind::Object(entries) => self.keys(place, Object(entries), &[]),
            Kind::Scalar | Kind::Text(_) => {}
        }
    }

    fn type_name(&mut self, place: &Place<'_>, full_name: &str) {
        let name = simple_name(full_name);
        if PRIMITIVES.contains(&name) {
            self.findings.push(
                "name-primitive",
                place,
                format_args!("defines a type called {name}, which is the name of a primitive one"),
                format_args!("give the type another name"),
            );
        }
        match self.types.entry(full_name.to_ascii_lowercase()) {
            hash_map::Entry::Vacant(free) => _ = free.insert(full_name.to_owned()),
            hash_map::Entry::Occupied(taken) => {
                let first = taken.get();
                self.findings.push(
                    "case-collision",
                    place,
                    format_args!(
                        "defines the type {}, and there is {}, which differs only in case",
                        shown(full_name),
                        shown(first)
                    ),
                    format_args!("give one of the two types another name"),
                );
            }
        }
    }

    fn field_names(&mut self, place: &Place<'_>, record: Object<'_, '_>) {
        let mut seen = HashMap::new();
        for field in outline::fields(record) {
            let Some(name) = field.text("name") else {
                continue;
            };
            if let Some(first) = seen.insert(name.to_ascii_lowercase(), name) {
                let path = format!("{}.{}", place.path, shown(name));
                let place = &Place {
                    path: &path,
                    line: outline::line_of_name(field),
                    ..*place
                };
                self.findings.push(
                    "case-collision",
                    place,
                    format_args!(
                        "is a field as {} is, and their names differ only in case",
                        shown(first)
                    ),
                    format_args!("give one of the two fields another name"),
                );
            }
        }
        self.field_aliases(place, record);
    }

    /// Finds aliases that stand for more than one field.
    fn field_aliases(&mut self, place: &Place<'_>, record: Object<'_, '_>) {
        let names = outline::fields(record).filter_map(|field| field.text("name"));
        let mut taken: HashMap<&str, &str> = names.map(|name| (name, name)).collect();
        for field in outline::fields(record) {
            let (Some(name), Some(entry)) = (field.text("name"), field.entry("aliases")) else {
                continue;
            };
            for alias in entry.value.as_array().into_iter().flatten() {
                let Some(text) = alias.as_text() else {
                    continue;
                };
                let of = *taken.entry(text).or_insert(name);
                if of == name {
                    continue;
                }
                let path = format!("{}.{}", place.path, shown(name));
                let place = &Place {
                    path: &path,
                    line: alias.line,
                    ..*place
                };
                self.findings.push(
                    "alias-collision",
                    place,
                    format_args!(
                        "has the alias {}, which stands for the field {} too",
                        shown(text),
                        shown(of)
                    ),
                    format_args!("leave the alias out of one of the two"),
                );
            }
        }
    }

    fn namespace(&mut self, place: &Place<'_>, object: Object<'_, '_>) {
        let namespace = object.text("namespace").unwrap_or_default();
        let name = object.text("name").unwrap_or_default();
        // The parser looks at a namespace only where it counts.
        if !namespace.is_empty() && !is_dotted_name(namespace) || name.starts_with('.') {
            let found = if name.starts_with('.') {
                name
            } else {
                namespace
            };
            self.findings.push(
                "namespace-invalid",
                place,
                format_args!(
                    "has the namespace of {:?}, which is no sequence of names with dots between",
                    shown(found)
                ),
                format_args!("write one such as com.example, or \"\" for none"),
            );
        }
    }

    fn aliases(&mut self, place: &Place<'_>, object: Object<'_, '_>, is_valid: fn(&str) -> bool) {
        let Some(entry) = object.entry("aliases") else {
            return;
        };
        let rule = "alias-invalid";
        let Some(aliases) = entry.value.as_array() else {
            let place = &Place {
                line: entry.line,
                ..*place
            };
            self.findings.push(
                rule,
                place,
                format_args!("has aliases that are no array"),
                format_args!("write an array of names, such as [\"Old_Name__c\"]"),
            );
            return;
        };
        for alias in aliases {
            let place = &Place {
                line: alias.line,
                ..*place
            };
            match alias.as_text() {
                Some(name) if is_valid(name) => {}
                Some(name) => self.findings.push(
                    rule,
                    place,
                    format_args!("has the alias {:?}, which is no name", shown(name)),
                    format_args!("write a name of letters, digits and _ that begins with no digit"),
                ),
                None => self.findings.push(
                    rule,
                    place,
                    format_args!("has the alias {}, which is no string", shown(alias.text)),
                    format_args!("write it as a string, or leave it out"),
                ),
            }
        }
    }

    fn enum_default(&mut self, place: &Place<'_>, object: Object<'_, '_>) {
        let Some(entry) = object.entry("default") else {
            return;
        };
        let symbols = object.get("symbols").and_then(Node::as_array);
        let mut symbols = symbols.unwrap_or_default().iter();
        let default = entry.value.as_text();
        let is_known = default.is_some() && symbols.any(|symbol| symbol.as_text() == default);
        if !is_known {
            let place = &Place {
                line: entry.line,
                ..*place
            };
            self.findings.push(
                "enum-default-unknown",
                place,
                format_args!(
                    "is an enum with the default {}, which is none of its symbols",
                    shown(entry.value.text)
                ),
                format_args!("write one of its symbols, or leave the default out"),
            );
        }
    }

    fn order(&mut self, place: &Place<'_>, object: Object<'_, '_>) {
        let Some(entry) = object.entry("order") else {
            return;
        };
        let is_known = entry.value.as_text().is_some_and(|o| ORDERS.contains(&o));
        if !is_known {
            let place = &Place {
                line: entry.line,
                ..*place
            };
            self.findings.push(
                "order-invalid",
                place,
                format_args!(
                    "has the order {}, which is none of ascending, descending and ignore",
                    shown(entry.value.text)
                ),
                format_args!("write one of the three, or leave it out"),
            );
        }
    }

    fn reserved(&mut self, place: &Place<'_>, name: &str) {
        let mut reserved = RESERVED_FIELDS.iter();
        if reserved.any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            self.findings.push(
                "reserved-field",
                place,
                format_args!("has the name of something that every event has beside its payload"),
                format_args!("leave it out, or give it another name, such as {name}__c"),
            );
        }
    }

    fn default(&mut self, place: &Place<'_>, object: Object<'_, '_>, record: &str, index: usize) {
        let Some(entry) = object.entry("default") else {
            return;
        };
        let Some((step, _)) = self.compiled.field(record, index) else {
            return;
        };
        let place = &Place {
            line: entry.line,
            ..*place
        };
        match self.defaults.check(step, &entry.value) {
            Ok(()) => {}
            Err(Misfit::NotFirst) => self.findings.push(
                "union-default-not-first",
                place,
                format_args!(
                    "has a default that is not of the first type of its union; readers of older versions of Avro ask for that"
                ),
                match step.null {
                    // Null stays in front: the conventions of the platform want it there.
                    NullBranch::First => format_args!("write \"default\": null"),
                    NullBranch::Second | NullBranch::None => {
                        format_args!("move the default's type to the front of its union")
                    }
                },
            ),
            Err(Misfit::JsonType { wanted }) => self.findings.push(
                "default-not-avro",
                place,
                format_args!("has a default in which not everything is written as Avro has it: {wanted} is wanted"),
                format_args!("write {wanted}"),
            ),
            Err(Misfit::Missing) => self.findings.push(
                "default-not-avro",
                place,
                format_args!("has a default that lacks a field of a record, and that field has no default itself"),
                format_args!("write the field into the default, or give it a default of its own"),
            ),
        }
    }
}

/// Whether a text is a name in Avro, without dots.
pub(super) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    bytes.next().is_some_and(is_first) && bytes.all(|byte| is_first(byte) || byte.is_ascii_digit())
}

fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::{ORDER_CREATED, SHIPMENT_CHANGE};

    fn found(text: &str) -> Vec<String> {
        let findings = findings(&Schema::parse(text).unwrap()).into_iter();
        findings
            .map(|finding| format!("{} {} {finding}", finding.line.unwrap(), finding.rule))
            .collect()
    }

    /// What is found in a record with these fields, from line 2 on.
    fn found_in(fields: &str) -> Vec<String> {
        found(&format!(
            "{{\"type\":\"record\",\"name\":\"A__e\",\"namespace\":\"n\",\"fields\":[\n{fields}]}}"
        ))
    }

    #[test]
    fn sound_schemas_have_nothing_to_find() {
        assert_eq!(found(ORDER_CREATED), [""; 0]);
        assert_eq!(found(SHIPMENT_CHANGE), [""; 0]);
        for fields in [
            r#"{"name":"a","type":"int","order":"ignore","aliases":["b","B_2"]}"#,
            r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["X"],"default":"X","aliases":["old.E","F"]}}"#,
            r#"{"name":"a","type":{"type":"record","name":"B","namespace":"","fields":[{"name":"ReplayId","type":"int"}]}}"#,
            r#"{"name":"a","type":["null","int"],"default":null,"x":{"a":1,"b":[{"a":1},{"a":1}]}}"#,
        ] {
            assert_eq!(found_in(fields), [""; 0], "{fields}");
        }
    }

    #[test]
    fn what_no_registry_should_take_is_found_with_its_place() {
        let cases: &[(&str, &[&str])] = &[
            (
                "{\"name\":\"Ab\",\"type\":\"int\"},\n{\"name\":\"aB\",\"type\":\"int\"}",
                &[
                    "3 case-collision A__e.aB: is a field as Ab is, and their names differ only in case",
                ],
            ),
            (
                "{\"name\":\"a\",\"type\":{\"type\":\"fixed\",\"name\":\"F\",\"size\":1}},\n{\"name\":\"b\",\"type\":{\"type\":\"fixed\",\"name\":\"f\",\"size\":1}}",
                &[
                    "3 case-collision A__e.b: defines the type n.f, and there is n.F, which differs only in case",
                ],
            ),
            (
                "{\"name\":\"a\",\"type\":\"int\"},\n{\"name\":\"b\",\"type\":\"int\",\"aliases\":[\"a\",\"o\"]},\n{\"name\":\"c\",\"type\":\"int\",\"aliases\":[\"o\"]}",
                &[
                    "3 alias-collision A__e.b: has the alias a, which stands for the field a too",
                    "4 alias-collision A__e.c: has the alias o, which stands for the field b too",
                ],
            ),
            (
                r#"{"name":"a","type":{"type":"fixed","name":"x.string","size":1}}"#,
                &[
                    "2 name-primitive A__e.a: defines a type called string, which is the name of a primitive one",
                ],
            ),
            (
                "{\"name\":\"a\",\"type\":\"int\",\n\"aliases\":\"b\"}",
                &["3 alias-invalid A__e.a: has aliases that are no array"],
            ),
            (
                "{\"name\":\"a\",\"type\":\"int\",\"aliases\":[\"ok\",\n7,\"1a\",\"x.y\",\"\"]}",
                &[
                    "3 alias-invalid A__e.a: has the alias 7, which is no string",
                    "3 alias-invalid A__e.a: has the alias \"1a\", which is no name",
                    "3 alias-invalid A__e.a: has the alias \"x.y\", which is no name",
                    "3 alias-invalid A__e.a: has the alias \"\", which is no name",
                ],
            ),
            (
                r#"{"name":"a","type":{"type":"array","items":{"type":"fixed","name":"F","size":1,"aliases":["a..b"]}}}"#,
                &["2 alias-invalid A__e.a[]: has the alias \"a..b\", which is no name"],
            ),
            (
                r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["X"],"default":"Y"}}"#,
                &[
                    "2 enum-default-unknown A__e.a: is an enum with the default \"Y\", which is none of its symbols",
                ],
            ),
            (
                r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["X"],"default":null}}"#,
                &[
                    "2 enum-default-unknown A__e.a: is an enum with the default null, which is none of its symbols",
                ],
            ),
            (
                "{\"name\":\"a\",\"type\":\"int\",\n\"type\":\"long\"}",
                &[
                    "3 duplicate-key A__e.a: has the key \"type\" twice, first in line 2; which one counts depends on the parser",
                ],
            ),
            (
                r#"{"name":"a","type":"int","x":[{"k":1,"\u006b":2}]}"#,
                &[
                    "2 duplicate-key A__e.a: has the key \"k\" twice, first in line 2; which one counts depends on the parser",
                ],
            ),
            (
                r#"{"name":"a","type":{"type":"map","values":{"type":"long","doc":"","doc":""}}}"#,
                &[
                    "2 duplicate-key A__e.a{}: has the key \"doc\" twice, first in line 2; which one counts depends on the parser",
                ],
            ),
            (
                r#"{"name":"a","type":{"type":"fixed","name":"x.F","size":1,"namespace":"a-b"}}"#,
                &[
                    "2 namespace-invalid A__e.a: has the namespace of \"a-b\", which is no sequence of names with dots between",
                ],
            ),
            (
                r#"{"name":"a","type":{"type":"fixed","name":".F","size":1}}"#,
                &[
                    "2 namespace-invalid A__e.a: has the namespace of \".F\", which is no sequence of names with dots between",
                ],
            ),
            (
                r#"{"name":"a","type":["string","null"],"default":null}"#,
                &[
                    "2 union-default-not-first A__e.a: has a default that is not of the first type of its union; readers of older versions of Avro ask for that",
                ],
            ),
            (
                r#"{"name":"a","type":"long","default":"7"}"#,
                &[
                    "2 default-not-avro A__e.a: has a default in which not everything is written as Avro has it: a whole number is wanted",
                ],
            ),
            (
                r#"{"name":"a","type":{"type":"record","name":"B","fields":[{"name":"b","type":["null","int"]}]},"default":{}}"#,
                &[
                    "2 default-not-avro A__e.a: has a default that lacks a field of a record, and that field has no default itself",
                ],
            ),
            (
                r#"{"name":"a","type":"int","order":"up"}"#,
                &[
                    "2 order-invalid A__e.a: has the order \"up\", which is none of ascending, descending and ignore",
                ],
            ),
            (
                r#"{"name":"eventUUID","type":"int"},{"name":"ReplayId","type":"long"}"#,
                &[
                    "2 reserved-field A__e.eventUUID: has the name of something that every event has beside its payload",
                    "2 reserved-field A__e.ReplayId: has the name of something that every event has beside its payload",
                ],
            ),
        ];
        for (fields, wanted) in cases {
            assert_eq!(found_in(fields), *wanted, "{fields}");
        }
    }

    #[test]
    fn what_the_parser_refuses_needs_no_rule_here() {
        for text in [
            r#"{"type":"record","name":"R","namespace":"a-b","fields":[]}"#,
            r#"{"type":"record","name":"a-b.R","fields":[]}"#,
            r#"{"type":"record","name":"R","namespace":"a..b","fields":[]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"],"default":"x"}]}"#,
        ] {
            assert!(Schema::parse(text).is_err(), "{text}");
        }
    }
}
