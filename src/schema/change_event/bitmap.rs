//! Sets of fields as the header of a change event holds them: an array of bitmaps in text.
//!
//! `0x04A0` names fields of the event's record: read as one number, bit 5 stands for field 5, which
//! counts from the header at 0. `9-0x02` names children of field 9 in the same way. Indexes count in
//! the schema that the event was written with, and in no other.
//!
//! # The form that is written
//!
//! Clients differ in what they read, so there is one form that all of them read right:
//!
//! | what is written | since otherwise |
//! |---|---|
//! | upper case | the JavaScript client skips `a` to `f`, and finds other fields without a word |
//! | whole bytes, as few as do | the Java and Python clients read digits in pairs |
//! | no entry without a bit, except `0x00` before entries of children | the Java client fails on a lone `0x00`; the JavaScript client reads children only behind a first entry |
//! | the record's own fields first, then parents by index | every client looks for the former at the front |
//! | children only of a union of null and one record, or of null, text and one record | clients look for the record there and nowhere else |
//!
//! Reading takes more: lower case, entries in any order, bits of fields that there are none of, which
//! it passes over.
//!
//! Source: the public Pub/Sub API Developer Guide, "Event Deserialization Considerations"; the public
//! clients in Java, Python and JavaScript that decode it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    schema::program::{NullBranch, Op, Program, RecordType},
    types::limits::CHANGE_FIELD_NAMES_BYTES_MAX,
};

/// A field by its place in the schema of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldIndex {
    /// A field of the event's record, with all that it holds.
    Whole(usize),
    /// A child of a compound field.
    Child {
        /// The index of the compound field.
        parent: usize,
        /// The index of the child in the compound field's record.
        child: usize,
    },
}

/// Why fields cannot be written as bitmaps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Clients that look for a field of this index would fail.
    #[error("{record} has {fields} fields, found the index {index}")]
    NoField {
        /// The record whose field is meant.
        record: String,
        /// The number of its fields.
        fields: usize,
        /// The index found.
        index: usize,
    },
    /// Clients find no children in this field. Holds its name.
    #[error("the field {0} is no compound field, wanted its own index")]
    NotCompound(String),
}

/// Why an array of bitmaps cannot be read. Entries count from 0, and of a long one a part is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// An entry is no bitmap.
    #[error(
        "entry {entry}: found {found:?}, wanted 0x, or an index and -0x, and pairs of hex digits"
    )]
    Malformed {
        /// The number of the entry.
        entry: usize,
        /// What it begins with.
        found: String,
    },
    /// A second entry for the same fields.
    #[error("entry {entry}: found a second bitmap of {}, wanted one", of(*parent))]
    Repeated {
        /// The number of the entry.
        entry: usize,
        /// The index of the compound field; `None` for the record's own fields.
        parent: Option<usize>,
    },
    /// Children of a field that there is none of.
    #[error("entry {entry}: found children of field {parent}, wanted one of {fields} fields")]
    NoParent {
        /// The number of the entry.
        entry: usize,
        /// The index found.
        parent: usize,
        /// The number of fields.
        fields: usize,
    },
    /// Children of a field that has none.
    #[error("entry {entry}: found children of {field}, wanted a compound field")]
    NotCompound {
        /// The number of the entry.
        entry: usize,
        /// The field's name.
        field: String,
    },
    /// The names are longer than those of any record that is one.
    #[error("the names of the fields take more than {CHANGE_FIELD_NAMES_BYTES_MAX} bytes")]
    TooLarge,
}

/// Writes a set of fields of the record that `program` is of.
///
/// A child of a field that is named as a whole adds nothing, so the field's own bit and bits of its
/// children never come together.
///
/// # Errors
///
/// [`EncodeError`] for an index past the fields, or a child where clients find none.
pub fn encode(
    program: &Program,
    fields: impl IntoIterator<Item = FieldIndex>,
) -> Result<Vec<String>, EncodeError> {
    let root = program.root();
    let mut whole = BTreeSet::new();
    let mut children: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for field in fields {
        match field {
            FieldIndex::Whole(index) => {
                check(root, index)?;
                whole.insert(index);
            }
            FieldIndex::Child { parent, child } => {
                check(root, parent)?;
                let Some(record) = compound(program, parent) else {
                    let name = root.fields()[parent].name();
                    return Err(EncodeError::NotCompound(name.to_owned()));
                };
                check(record, child)?;
                children.entry(parent).or_default().insert(child);
            }
        }
    }
    children.retain(|parent, _| !whole.contains(parent));
    let mut entries = Vec::new();
    if !whole.is_empty() || !children.is_empty() {
        entries.push(hex(&whole));
    }
    let nested = children.iter();
    entries.extend(nested.map(|(parent, children)| format!("{parent}-{}", hex(children))));
    Ok(entries)
}

/// Reads the names of the fields that `entries` hold, by the schema that their event was written
/// with: `Status__c`, `Dest__c.Longitude`, or `Dest__c` alone for all of its children.
///
/// The names come in the order of the entries, and of the fields in each.
///
/// # Bounds
///
/// The names take at most [`CHANGE_FIELD_NAMES_BYTES_MAX`] together.
///
/// # Errors
///
/// [`DecodeError`] names the entry, what was found and what was wanted.
pub fn decode<S: AsRef<str>>(program: &Program, entries: &[S]) -> Result<Vec<String>, DecodeError> {
    let root = program.root();
    let mut seen = BTreeSet::new();
    let mut names = Names::default();
    for (entry, text) in entries.iter().enumerate() {
        let text = text.as_ref();
        let Some((parent, digits)) = split(text) else {
            let found = text.chars().take(SHOWN_CHARS_MAX).collect();
            return Err(DecodeError::Malformed { entry, found });
        };
        if !seen.insert(parent) {
            return Err(DecodeError::Repeated { entry, parent });
        }
        let Some(parent) = parent else {
            for index in set_bits(digits, root.fields().len()) {
                names.push(root.fields()[index].name(), None)?;
            }
            continue;
        };
        let Some(field) = root.fields().get(parent) else {
            let fields = root.fields().len();
            return Err(DecodeError::NoParent {
                entry,
                parent,
                fields,
            });
        };
        let Some(record) = record_in(program, parent) else {
            let field = field.name().to_owned();
            return Err(DecodeError::NotCompound { entry, field });
        };
        let children = record.fields();
        let count = set_bits(digits, children.len()).count();
        if count == children.len() && count > 0 {
            names.push(field.name(), None)?;
            continue;
        }
        for child in set_bits(digits, children.len()) {
            names.push(field.name(), Some(children[child].name()))?;
        }
    }
    Ok(names.names)
}

/// The record that every client finds the children of a field in; `None` where some find none.
pub(super) fn compound(program: &Program, field: usize) -> Option<&RecordType> {
    let step = program.steps[program.root().steps.clone()].get(field)?;
    let record = match (step.null, step.op) {
        (NullBranch::First, Op::Record(record)) => record,
        (NullBranch::None, Op::Union(union)) => {
            let branches = &program.unions[union as usize].branches;
            match branches.iter().map(|branch| branch.op).collect::<Vec<_>>()[..] {
                [Op::Null, Op::String, Op::Record(record)] => record,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(&program.records[record as usize])
}

/// The one record that a value of the field may be.
fn record_in(program: &Program, field: usize) -> Option<&RecordType> {
    let record = |op| match op {
        Op::Record(record) => Some(&program.records[record as usize]),
        _ => None,
    };
    match program.steps[program.root().steps.clone()].get(field)?.op {
        Op::Union(union) => {
            let branches = program.unions[union as usize].branches.iter();
            let mut records = branches.filter_map(|branch| record(branch.op));
            records.next().filter(|_| records.next().is_none())
        }
        op => record(op),
    }
}

fn check(record: &RecordType, index: usize) -> Result<(), EncodeError> {
    let fields = record.fields().len();
    if index < fields {
        return Ok(());
    }
    Err(EncodeError::NoField {
        record: record.name().to_owned(),
        fields,
        index,
    })
}

fn hex(bits: &BTreeSet<usize>) -> String {
    let mut bytes = vec![0_u8; bits.last().map_or(0, |last| last / 8) + 1];
    let last = bytes.len() - 1;
    for bit in bits {
        bytes[last - bit / 8] |= 1 << (bit % 8);
    }
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    text.extend(bytes.iter().map(|byte| format!("{byte:02X}")));
    text
}

/// The index before the bitmap, if there is one, and the bitmap's digits.
fn split(entry: &str) -> Option<(Option<usize>, &str)> {
    let (parent, bitmap) = match entry.split_once('-') {
        Some((parent, bitmap)) => (Some(parent), bitmap),
        None => (None, entry),
    };
    let parent = match parent {
        // The parser of numbers would take a sign.
        Some(index) if index.bytes().all(|c| c.is_ascii_digit()) => Some(index.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    let digits = bitmap.strip_prefix("0x")?;
    let is_whole = !digits.is_empty() && digits.len().is_multiple_of(2);
    let is_hex = digits.bytes().all(|c| c.is_ascii_hexdigit());
    (is_whole && is_hex).then_some((parent, digits))
}

/// The bits below `end` that are set, from the lowest.
fn set_bits(digits: &str, end: usize) -> impl Iterator<Item = usize> {
    let values = digits.chars().rev().map(|digit| digit.to_digit(16));
    values
        .enumerate()
        .take(end.div_ceil(4))
        .flat_map(|(place, value)| {
            let bits = (0..4).filter(move |bit| value.is_some_and(|value| value >> bit & 1 == 1));
            bits.map(move |bit| 4 * place + bit)
        })
        .filter(move |&bit| bit < end)
}

/// Names whose length is bounded: a few bits may stand for many long ones.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    bytes: usize,
}

impl Names {
    fn push(&mut self, field: &str, child: Option<&str>) -> Result<(), DecodeError> {
        // What a name takes beside its text counts too, since a name may be one letter.
        let child_bytes = child.map_or(0, |child| child.len() + 1);
        self.bytes += field.len() + child_bytes + size_of::<String>();
        if self.bytes > CHANGE_FIELD_NAMES_BYTES_MAX {
            return Err(DecodeError::TooLarge);
        }
        self.names.push(match child {
            Some(child) => format!("{field}.{child}"),
            None => field.to_owned(),
        });
        Ok(())
    }
}

fn of(parent: Option<usize>) -> String {
    parent.map_or_else(
        || "the record's own fields".to_owned(),
        |parent| format!("the children of field {parent}"),
    )
}

/// Characters of a malformed entry that an error shows.
const SHOWN_CHARS_MAX: usize = 40;

#[cfg(test)]
mod tests;
