//! What makes a schema one of change events: its header, and fields that can all be left out.

use super::{ChangeError, ChangeType};
use crate::schema::{
    Schema,
    program::{FieldType, NullBranch, Op, Program, RecordType, Step},
};

/// The name of the first field and of its record.
pub(super) const HEADER: &str = "ChangeEventHeader";

/// The fields of the header that are filled, and what each is.
const HEADER_FIELDS: [(&str, HeaderField); 12] = [
    ("entityName", HeaderField::String),
    ("recordIds", HeaderField::Strings),
    ("changeType", HeaderField::Enum),
    ("changeOrigin", HeaderField::String),
    ("transactionKey", HeaderField::String),
    ("sequenceNumber", HeaderField::Int),
    ("commitTimestamp", HeaderField::Long),
    ("commitNumber", HeaderField::Long),
    ("commitUser", HeaderField::String),
    ("nulledFields", HeaderField::Strings),
    ("diffFields", HeaderField::Strings),
    ("changedFields", HeaderField::Strings),
];

#[derive(Clone, Copy)]
enum HeaderField {
    String,
    Strings,
    Enum,
    Int,
    Long,
}

impl HeaderField {
    fn wanted(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Strings => "an array of strings",
            Self::Enum => "an enum",
            Self::Int => "an int",
            Self::Long => "a long",
        }
    }
}

/// A schema that was found to be one of change events.
#[derive(Clone, Copy)]
pub(super) struct Shape<'s> {
    pub(super) schema: &'s Schema,
    /// The change types that the schema knows. Schemas of different times know different ones.
    symbols: &'s [String],
}

impl<'s> Shape<'s> {
    /// Checks a schema.
    pub(super) fn of(schema: &'s Schema) -> Result<Self, ChangeError> {
        let program = schema.program();
        let symbols = check_header(program)?;
        for (field, step) in fields(program, program.root()).skip(1) {
            if !is_nullable(program, step) {
                let name = field.name();
                let found = format!("the field {name}, {}", type_text(program, step));
                return Err(refusal(program, found, "every field of the body nullable"));
            }
        }
        Ok(Self { schema, symbols })
    }

    /// The kind of record that the schema's events are of, told by its name.
    pub(super) fn entity_name(self) -> Result<String, ChangeError> {
        let name = self.schema.record_name();
        let entity = match name.strip_suffix("ChangeEvent") {
            Some(stem) => match stem.strip_suffix("__") {
                Some("") => None,
                Some(custom) => Some(format!("{custom}__c")),
                None => Some(stem.to_owned()),
            },
            None => None,
        };
        entity
            .filter(|entity| !entity.is_empty())
            .ok_or_else(|| ChangeError::NoEntityName(name.to_owned()))
    }

    /// The schema's symbol for a change type.
    pub(super) fn symbol(self, change_type: ChangeType) -> Result<&'static str, ChangeError> {
        let symbol = change_type.as_str();
        if self.symbols.iter().any(|known| known == symbol) {
            return Ok(symbol);
        }
        Err(ChangeError::UnknownChangeType {
            change_type,
            symbols: self.symbols.to_vec(),
        })
    }
}

/// The fields of a record with their types.
pub(super) fn fields<'p>(
    program: &'p Program,
    record: &'p RecordType,
) -> impl Iterator<Item = (&'p FieldType, Step)> {
    let steps = &program.steps[record.steps.clone()];
    record.fields().iter().zip(steps.iter().copied())
}

/// Whether null is a value of the type.
pub(super) fn is_nullable(program: &Program, step: Step) -> bool {
    step.null != NullBranch::None
        || match step.op {
            Op::Null => true,
            Op::Union(union) => {
                let mut branches = program.unions[union as usize].branches.iter();
                branches.any(|branch| branch.op == Op::Null)
            }
            _ => false,
        }
}

/// Checks the first field, and returns the symbols of its change types.
fn check_header(program: &Program) -> Result<&[String], ChangeError> {
    let wanted = "a first field ChangeEventHeader, a record of that name";
    let Some((field, step)) = fields(program, program.root()).next() else {
        return Err(refusal(program, "no field".to_owned(), wanted));
    };
    let header = match (step.null, step.op) {
        (NullBranch::None, Op::Record(record)) => Some(&program.records[record as usize]),
        _ => None,
    };
    let header = header.filter(|header| field.name() == HEADER && header.name() == HEADER);
    let Some(header) = header else {
        let found = format!("{}, {}", field.name(), type_text(program, step));
        return Err(refusal(program, found, wanted));
    };
    let mut symbols: &[String] = &[];
    for (name, kind) in HEADER_FIELDS {
        let mut found = fields(program, header);
        let Some((_, step)) = found.find(|(field, _)| field.name() == name) else {
            let found = format!("no field {HEADER}.{name}");
            return Err(refusal(program, found, kind.wanted()));
        };
        let is_plain = step.null == NullBranch::None;
        let is_wanted = is_plain
            && match (kind, step.op) {
                (HeaderField::String, Op::String)
                | (HeaderField::Int, Op::Int)
                | (HeaderField::Long, Op::Long) => true,
                (HeaderField::Enum, Op::Enum(index)) => {
                    symbols = program.enums[index as usize].symbols();
                    true
                }
                (HeaderField::Strings, Op::Array(item)) => {
                    let item = program.steps[item as usize];
                    item.null == NullBranch::None && item.op == Op::String
                }
                _ => false,
            };
        if !is_wanted {
            let found = format!("{HEADER}.{name}, {}", type_text(program, step));
            return Err(refusal(program, found, kind.wanted()));
        }
    }
    let mut others = fields(program, header).filter(|&(field, step)| {
        let is_known = HEADER_FIELDS.iter().any(|(name, _)| *name == field.name());
        !is_known && field.default.is_none() && !is_nullable(program, step)
    });
    match others.next() {
        None => Ok(symbols),
        Some((other, step)) => {
            let found = format!("{HEADER}.{}, {}", other.name(), type_text(program, step));
            Err(refusal(
                program,
                found,
                "no further field, or a nullable one",
            ))
        }
    }
}

fn type_text(program: &Program, step: Step) -> String {
    let word = program.type_word(step.op);
    match (step.null, step.op) {
        (NullBranch::None, Op::Array(item)) => {
            let item = program.steps[item as usize];
            format!("an array of {}", program.type_word(item.op))
        }
        (NullBranch::None, _) => format!("of type {word}"),
        (NullBranch::First | NullBranch::Second, _) => format!("of type null or {word}"),
    }
}

fn refusal(program: &Program, found: String, wanted: &str) -> ChangeError {
    ChangeError::NotAChangeEvent {
        record: program.root().name().to_owned(),
        found,
        wanted: wanted.to_owned(),
    }
}
