//! Whether a default is one for every reader of Avro, not only for ours.
//!
//! Ours takes the [JSON form](super::json) for people, in which a long may be digits in a string, and a
//! union's value is that of any branch. Others refuse the whole schema for such a default, or take it for
//! the union's first branch.
//!
//! Source: Avro specification, "Complex Types", the table of field default values. Up to version 1.11 it
//! says that the default of a union is one of its first branch.

use std::collections::HashMap;

use super::{
    program::{NullBranch, Op, Program, Step},
    source::{Kind, Node, Object},
};

/// What is wrong with a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A value of a union is not of the first branch.
    NotFirst,
    /// A value is written as another JSON type than Avro has for the type.
    JsonType {
        /// The JSON that Avro has for it.
        wanted: &'static str,
    },
    /// A record lacks a field that has no default of its own.
    Missing,
}

/// Looks at defaults that the parser took. Work is bounded by their text.
pub(super) struct Defaults<'p> {
    program: &'p Program,
    records: HashMap<u32, RecordFields<'p>>,
}

/// What a record's default is looked up by.
struct RecordFields<'p> {
    /// By name, the type and whether there is a default.
    by_name: HashMap<&'p str, (Step, bool)>,
    /// How many have none.
    required: usize,
}

impl<'p> Defaults<'p> {
    pub(super) fn new(program: &'p Program) -> Self {
        Self {
            program,
            records: HashMap::new(),
        }
    }

    /// Whether `json` is a default that every reader of Avro takes.
    pub(super) fn check(&mut self, step: Step, json: &Node<'_>) -> Result<(), Misfit> {
        match step.null {
            NullBranch::First if json.is_null() => Ok(()),
            NullBranch::First => Err(Misfit::NotFirst),
            NullBranch::Second if json.is_null() => Err(Misfit::NotFirst),
            NullBranch::None | NullBranch::Second => self.op(step.op, json),
        }
    }

    fn op(&mut self, op: Op, json: &Node<'_>) -> Result<(), Misfit> {
        let program = self.program;
        let wanted = match (op, &json.kind) {
            (Op::Union(union), _) => {
                let union = &program.unions[union as usize];
                let first = union.branches.first().map(|branch| branch.op);
                // Whatever is wrong with it, the author meant another branch.
                let fits = first.is_some_and(|first| self.op(first, json).is_ok());
                return fits.then_some(()).ok_or(Misfit::NotFirst);
            }
            (Op::Array(item), Kind::Array(items)) => {
                let item = program.steps[item as usize];
                return items.iter().try_for_each(|json| self.check(item, json));
            }
            (Op::Map(value), Kind::Object(entries)) => {
                let value = program.steps[value as usize];
                let mut values = entries.iter().map(|entry| &entry.value);
                return values.try_for_each(|json| self.check(value, json));
            }
            (Op::Record(record), Kind::Object(fields)) => {
                return self.record(record, Object(fields));
            }
            (Op::Int | Op::Long, _) => "a whole number",
            (Op::Float | Op::Double, _) => "a number",
            (Op::Null, _) => "null",
            (Op::Boolean, _) => "true or false",
            (Op::Array(_), _) => "an array",
            (Op::Map(_) | Op::Record(_), _) => "an object",
            (Op::String | Op::Bytes | Op::Fixed(_) | Op::Enum(_), _) => "a string",
        };
        let is_text = matches!(json.kind, Kind::Text(_));
        let is_scalar = matches!(json.kind, Kind::Scalar);
        let starts_as_number = json
            .text
            .starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let fits = match op {
            Op::Null => is_scalar && json.is_null(),
            Op::Boolean => is_scalar && matches!(json.text, "true" | "false"),
            Op::Int | Op::Long => {
                is_scalar && starts_as_number && !json.text.contains(['.', 'e', 'E'])
            }
            Op::Float | Op::Double => is_scalar && starts_as_number,
            Op::String | Op::Bytes | Op::Fixed(_) | Op::Enum(_) => is_text,
            Op::Array(_) | Op::Map(_) | Op::Record(_) | Op::Union(_) => false,
        };
        fits.then_some(()).ok_or(Misfit::JsonType { wanted })
    }

    fn record(&mut self, record: u32, json: Object<'_, '_>) -> Result<(), Misfit> {
        let program = self.program;
        let mut given = 0;
        for entry in json.0 {
            let fields = self.records.entry(record);
            let fields = fields.or_insert_with(|| RecordFields::of(program, record));
            // The parser takes no other names; of a key that stands twice others tell.
            let Some(&(step, has_default)) = fields.by_name.get(&*entry.key) else {
                continue;
            };
            given += usize::from(!has_default);
            self.check(step, &entry.value)?;
        }
        let fields = self.records.entry(record);
        let fields = fields.or_insert_with(|| RecordFields::of(program, record));
        (given >= fields.required)
            .then_some(())
            .ok_or(Misfit::Missing)
    }
}

impl<'p> RecordFields<'p> {
    fn of(program: &'p Program, record: u32) -> Self {
        let record = &program.records[record as usize];
        let steps = &program.steps[record.steps.clone()];
        let fields = record.fields().iter().zip(steps);
        let by_name: HashMap<_, _> = fields
            .map(|(field, &step)| (field.name(), (step, field.default.is_some())))
            .collect();
        let required = by_name.values().filter(|(_, has_default)| !has_default);
        Self {
            required: required.count(),
            by_name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::schema;

    fn check(ty: &str, default: &str) -> Result<(), Misfit> {
        let schema = schema(&format!(
            r#"{{"name":"f","type":{ty},"default":{default}}}"#
        ));
        let program = schema.program();
        let step = program.steps[program.root().steps.start];
        Defaults::new(program).check(step, &Node::read(default).unwrap())
    }

    #[test]
    fn defaults_as_avro_has_them_are_taken() {
        for (ty, default) in [
            (r#""null""#, "null"),
            (r#""boolean""#, "true"),
            (r#""int""#, "-7"),
            (r#""long""#, "9007199254740993"),
            (r#""float""#, "1"),
            (r#""double""#, "-1.5e3"),
            (r#""bytes""#, r#""\u00ff""#),
            (r#""string""#, r#""null""#),
            (r#"["null","int"]"#, "null"),
            (r#"["int","null"]"#, "1"),
            (r#"["string","int","null"]"#, r#""a""#),
            (r#"{"type":"fixed","name":"F","size":1}"#, r#""a""#),
            (r#"{"type":"enum","name":"E","symbols":["A"]}"#, r#""A""#),
            (r#"{"type":"array","items":["null","int"]}"#, "[null,null]"),
            (r#"{"type":"map","values":"int"}"#, r#"{"a":1}"#),
            (
                r#"{"type":"record","name":"P","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":1}]}"#,
                r#"{"a":1}"#,
            ),
        ] {
            assert_eq!(check(ty, default), Ok(()), "{ty} {default}");
        }
    }

    #[test]
    fn what_only_some_readers_take_is_told() {
        let whole = Misfit::JsonType {
            wanted: "a whole number",
        };
        let number = Misfit::JsonType { wanted: "a number" };
        for (ty, default, wanted) in [
            (r#""long""#, r#""7""#, whole),
            (r#""long""#, "7.0", whole),
            (r#""int""#, "1e2", whole),
            (r#""double""#, r#""NaN""#, number),
            (r#"["null","int"]"#, "1", Misfit::NotFirst),
            (r#"["int","null"]"#, "null", Misfit::NotFirst),
            (r#"["int","string","null"]"#, r#""a""#, Misfit::NotFirst),
            (
                r#"{"type":"array","items":["null","int"]}"#,
                "[null,1]",
                Misfit::NotFirst,
            ),
            (r#"{"type":"map","values":"long"}"#, r#"{"a":"1"}"#, whole),
            (
                r#"{"type":"record","name":"P","fields":[{"name":"a","type":["null","int"]}]}"#,
                "{}",
                Misfit::Missing,
            ),
        ] {
            assert_eq!(check(ty, default), Err(wanted), "{ty} {default}");
        }
    }
}
