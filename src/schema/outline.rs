//! A walk over the text of a schema for those who check it: every type, named type and field, with
//! its path and its line.
//!
//! Like the parser it looks only where the grammar has a type: attributes of other tools, documentation
//! and defaults are not walked. A named type is met once, where it is defined. The walk is linear in the
//! text, and recurses no deeper than the text nests.

use std::{borrow::Cow, fmt};

use super::{
    Schema,
    finding::Finding,
    program::{Program, Step, simple_name},
    source::{Kind, Node, Object},
};
use crate::types::limits::{VIOLATION_PATH_BYTES_MAX, VIOLATIONS_MAX};

/// Something that the walk met. What is around it comes first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'n, 't> {
    /// A type in braces, and those of its keys under which further types stand.
    Type {
        object: Object<'n, 't>,
        inner: &'static [&'static str],
    },
    /// The definition of a record, an enum or a fixed. It is met as a type, too.
    Named {
        kind: NamedKind,
        object: Object<'n, 't>,
        full_name: &'n str,
    },
    /// A field of the record with this full name.
    Field {
        object: Object<'n, 't>,
        name: &'n str,
        record: &'n str,
        index: usize,
    },
    /// A type that is only named.
    Word(&'n str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedKind {
    Record,
    Enum,
    Fixed,
}

/// Where an item stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'w> {
    /// As in a [`Finding`]; one that would be very long begins anew with a record that lies deep.
    pub(super) path: &'w str,
    /// The line of the name, if the item has one.
    pub(super) line: usize,
    /// Records around the item: 0 for the outermost record, 1 for its fields.
    pub(super) records: usize,
    /// Whether it is inside of the header of a change event.
    pub(super) is_in_header: bool,
}

/// Calls `meet` for every item of the schema. A text that [`Schema::parse`] took has a root.
pub(super) fn walk(root: &Node<'_>, meet: &mut dyn FnMut(&Place<'_>, Item<'_, '_>)) {
    let mut walk = Walk {
        meet,
        path: String::new(),
        records: 0,
        header_at: None,
    };
    walk.ty(root, "");
}

/// A name as messages show it: nobody reads more of a very long one.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    const SHOWN_BYTES_MAX: usize = 100;
    if name.len() <= SHOWN_BYTES_MAX {
        return name.into();
    }
    let end = name.floor_char_boundary(SHOWN_BYTES_MAX);
    format!("{}…", &name[..end]).into()
}

/// The fields of a record, or none if the object is no record's.
pub(super) fn fields<'n, 't>(record: Object<'n, 't>) -> impl Iterator<Item = Object<'n, 't>> {
    let fields = record.get("fields").and_then(Node::as_array);
    let fields = fields.unwrap_or_default().iter();
    fields.filter_map(Node::as_object)
}

/// The line of a field's name.
pub(super) fn line_of_name(object: Object<'_, '_>) -> usize {
    let name = object.get("name").map(|name| name.line);
    name.or_else(|| object.0.first().map(|entry| entry.line))
        .unwrap_or(1)
}

struct Walk<'w> {
    meet: &'w mut dyn FnMut(&Place<'_>, Item<'_, '_>),
    path: String,
    records: usize,
    /// How many records were around the header's field, while the walk is in it.
    header_at: Option<usize>,
}

impl Walk<'_> {
    fn meet(&mut self, line: usize, item: Item<'_, '_>) {
        let place = Place {
            path: &self.path,
            line,
            records: self.records,
            is_in_header: self.header_at.is_some(),
        };
        (self.meet)(&place, item);
    }

    fn ty(&mut self, node: &Node<'_>, namespace: &str) {
        match &node.kind {
            Kind::Text(name) => self.meet(node.line, Item::Word(name)),
            Kind::Array(branches) => branches
                .iter()
                .for_each(|branch| self.ty(branch, namespace)),
            Kind::Object(entries) => self.object(node.line, Object(entries), namespace),
            Kind::Scalar => {}
        }
    }

    fn object(&mut self, line: usize, object: Object<'_, '_>, namespace: &str) {
        let Some(kind) = object.get("type") else {
            return;
        };
        let (inner, named): (&[&str], _) = match kind.as_text() {
            Some("record") => (&["fields"], Some(NamedKind::Record)),
            Some("enum") => (&[], Some(NamedKind::Enum)),
            Some("fixed") => (&[], Some(NamedKind::Fixed)),
            Some("array") => (&["items"], None),
            Some("map") => (&["values"], None),
            Some(_) | None => (&["type"], None),
        };
        if self.path.is_empty() && named == Some(NamedKind::Record) {
            let name = simple_name(object.text("name").unwrap_or_default());
            self.path.push_str(&shown(name));
        }
        self.meet(line, Item::Type { object, inner });
        if let Some(kind) = named {
            return self.named(kind, object, namespace);
        }
        let inner_type = inner.first().and_then(|key| object.get(key));
        let part = match kind.as_text() {
            Some("array") => "[]",
            Some("map") => "{}",
            Some(_) | None => "",
        };
        if let Some(node) = inner_type {
            let length = self.path.len();
            self.path.push_str(part);
            self.ty(node, namespace);
            self.path.truncate(length);
        }
    }

    fn named(&mut self, kind: NamedKind, object: Object<'_, '_>, namespace: &str) {
        let name = object.text("name").unwrap_or_default();
        let full_name = full_name(name, object.text("namespace").unwrap_or(namespace));
        let line = line_of_name(object);
        self.meet(
            line,
            Item::Named {
                kind,
                object,
                full_name: &full_name,
            },
        );
        if kind != NamedKind::Record {
            return;
        }
        let inside = full_name.rsplit_once('.').map_or("", |(inside, _)| inside);
        let outside = (self.path.len() > VIOLATION_PATH_BYTES_MAX).then(|| {
            let name = shown(simple_name(&full_name)).into_owned();
            std::mem::replace(&mut self.path, name)
        });
        self.records += 1;
        for (index, field) in fields(object).enumerate() {
            self.field(index, field, &full_name, inside);
        }
        self.records -= 1;
        if let Some(outside) = outside {
            self.path = outside;
        }
    }

    fn field(&mut self, index: usize, object: Object<'_, '_>, record: &str, namespace: &str) {
        let name = object.text("name").unwrap_or_default();
        let length = self.path.len();
        self.path.push('.');
        self.path.push_str(&shown(name));
        self.meet(
            line_of_name(object),
            Item::Field {
                object,
                name,
                record,
                index,
            },
        );
        let is_header = self.records == 1
            && index == 0
            && name == "ChangeEventHeader"
            && record.ends_with("ChangeEvent");
        if is_header {
            self.header_at = Some(self.records);
        }
        if let Some(ty) = object.get("type") {
            self.ty(ty, namespace);
        }
        if is_header {
            self.header_at = None;
        }
        self.path.truncate(length);
    }
}

/// The full name of a type that is called `name` where `namespace` holds.
fn full_name(name: &str, namespace: &str) -> String {
    match name.strip_prefix('.') {
        Some(name) => name.to_owned(),
        None if namespace.is_empty() || name.contains('.') => name.to_owned(),
        None => format!("{namespace}.{name}"),
    }
}

/// The compiled fields of a schema, found by what the walk tells of them.
pub(super) struct Compiled<'s> {
    pub(super) program: &'s Program,
    records: std::collections::HashMap<&'s str, usize>,
}

impl<'s> Compiled<'s> {
    pub(super) fn new(schema: &'s Schema) -> Self {
        let program = schema.program();
        let records = program.records.iter().enumerate();
        Self {
            program,
            records: records
                .map(|(index, record)| (record.full_name(), index))
                .collect(),
        }
    }

    /// The type of a field, and its default in binary.
    pub(super) fn field(&self, record: &str, index: usize) -> Option<(Step, Option<&'s [u8]>)> {
        let record = &self.program.records[*self.records.get(record)?];
        let field = record.fields().get(index)?;
        let step = self.program.steps[record.steps.start + index];
        Some((step, field.default.as_deref()))
    }
}

/// What was found, up to [`VIOLATIONS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    /// Adds a finding about the item at `place`.
    pub(super) fn push(
        &mut self,
        rule: &'static str,
        place: &Place<'_>,
        message: fmt::Arguments<'_>,
        fix: fmt::Arguments<'_>,
    ) {
        // The texts are not even made when there is no room for them.
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(Finding {
                rule,
                path: place.path.to_owned(),
                line: Some(place.line),
                message: message.to_string(),
                fix: fix.to_string(),
            });
        }
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::SHIPMENT_CHANGE;

    fn met(text: &str) -> Vec<String> {
        Schema::parse(text).unwrap();
        let root = Node::read(text).unwrap();
        let mut met = Vec::new();
        walk(&root, &mut |place, item| {
            let what = match item {
                Item::Type { .. } => return,
                Item::Named {
                    kind, full_name, ..
                } => format!("{kind:?} {full_name}"),
                Item::Field { record, index, .. } => format!("field {index} of {record}"),
                Item::Word(word) => word.to_owned(),
            };
            met.push(format!("{}:{} {what}", place.line, place.path));
        });
        met
    }

    #[test]
    fn every_type_and_field_is_met_with_its_path_and_line() {
        let text = r#"{"type":"record","name":"A__e","namespace":"x.y","fields":[
{"name":"list",
 "type":["null",{"type":"array","items":{"type":"map","values":
   {"type":"record","name":"B","fields":[{"type":{"type":"long","logicalType":"date"},"name":"c"}]}}}]},
{"name":"e","type":{"type":"enum","namespace":"","name":"E","symbols":["S"]},"default":"S"},
{"name":"f","type":{"type":"fixed","name":"z.F","size":2}},
{"name":"again","type":"B"}]}"#;
        assert_eq!(
            met(text),
            [
                "1:A__e Record x.y.A__e",
                "2:A__e.list field 0 of x.y.A__e",
                "3:A__e.list null",
                "4:A__e.list[]{} Record x.y.B",
                "4:A__e.list[]{}.c field 0 of x.y.B",
                "4:A__e.list[]{}.c long",
                "5:A__e.e field 1 of x.y.A__e",
                "5:A__e.e Enum E",
                "6:A__e.f field 2 of x.y.A__e",
                "6:A__e.f Fixed z.F",
                "7:A__e.again field 3 of x.y.A__e",
                "7:A__e.again B",
            ]
        );
    }

    #[test]
    fn what_is_in_the_header_of_a_change_event_is_told() {
        let root = Node::read(SHIPMENT_CHANGE).unwrap();
        let mut header = Vec::new();
        walk(&root, &mut |place, item| {
            if let Item::Field { name, .. } = item
                && place.is_in_header
            {
                header.push(name.to_owned());
            }
        });
        assert_eq!(header.len(), 12);
        assert_eq!(header[0], "entityName");
    }

    #[test]
    fn long_paths_and_names_are_cut() {
        let name = "n".repeat(200);
        let mut ty = "\"int\"".to_owned();
        for level in 0..12 {
            ty = format!(
                r#"{{"type":"record","name":"{name}{level}","fields":[{{"name":"{name}","type":{ty}}}]}}"#
            );
        }
        Schema::parse(&ty).unwrap();
        let mut longest = 0;
        walk(&Node::read(&ty).unwrap(), &mut |place, _| {
            longest = longest.max(place.path.len());
        });
        assert!(
            (200..VIOLATION_PATH_BYTES_MAX + 200).contains(&longest),
            "{longest}"
        );
    }
}
