//! Whether what was written with one schema can be read with another, and why not.
//!
//! Nothing in the gateway resolves schemas against each other: a subscriber may, which has one schema
//! compiled in and gets events that were written with another. So a registry asks before a new version
//! is taken whether such subscribers would break.
//!
//! `resolve` finds out which types can be read, `report` why the others cannot, and [`Level`] says which
//! versions are held against each other and in which direction.
//!
//! Source: Avro specification 1.12, "Schema Resolution", "Aliases".

mod level;
mod report;
mod resolve;

use std::fmt;

use super::Schema;
use crate::types::limits::{COMPATIBILITY_STEPS_MAX, VIOLATIONS_MAX};
use report::Report;
use resolve::Resolver;

pub use level::{Level, LevelError};

/// Which of two versions reads what the other one wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The new one reads what the old one wrote.
    Backward,
    /// The old one reads what the new one wrote.
    Forward,
}

/// One reason why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who reads whom.
    pub direction: Direction,
    /// The field, from the outermost record on: `OrderCreated__e.Lines__c[].Amount`. What an array has
    /// is written `[]`, what a map has `{}`. In records that lie very deep it begins with the record.
    pub path: String,
    /// What is broken.
    pub rule: Rule,
}

/// A rule of resolution that two versions break. The texts are of Avro: names and types, no values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The reader has a field that the writer does not write, and no default for it.
    FieldWithoutDefault,
    /// The writer's type is not one that the reader's can be read from.
    Type {
        /// What is written.
        writer: String,
        /// What is read.
        reader: String,
    },
    /// The writer's type has another name.
    Name {
        /// Full name of what is written.
        writer: String,
        /// Full name of what is read.
        reader: String,
    },
    /// A fixed has another size.
    Size {
        /// Bytes that are written.
        writer: usize,
        /// Bytes that are read.
        reader: usize,
    },
    /// The writer's enum has symbols that the reader's does not have, and that has no default. Of many
    /// the first are named.
    Symbols(Vec<String>),
    /// The writer's union has a branch that the reader cannot read.
    Branch(String),
    /// The schemas are too intricate for this to be found out.
    TooIntricate,
}

impl Rule {
    /// The rule's name, as it is printed and never changed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FieldWithoutDefault => "field-without-default",
            Self::Type { .. } => "type-changed",
            Self::Name { .. } => "name-changed",
            Self::Size { .. } => "size-changed",
            Self::Symbols(_) => "symbols-missing",
            Self::Branch(_) => "branch-missing",
            Self::TooIntricate => "too-intricate",
        }
    }
}

impl Violation {
    /// What the author of the new version can do about it.
    pub fn fix(&self) -> String {
        let is_new_reader = self.direction == Direction::Backward;
        match &self.rule {
            Rule::FieldWithoutDefault if is_new_reader => {
                "give the field a default: null, with null as the first type of a union".to_owned()
            }
            Rule::FieldWithoutDefault => {
                "keep the field: it has no default where the old version is read".to_owned()
            }
            Rule::Type { writer, reader } => {
                let old = if is_new_reader { writer } else { reader };
                format!("keep the type {old}, and add a field of another name for the new one")
            }
            Rule::Name { writer, .. } if is_new_reader => {
                format!("keep the name, or add {writer} to the aliases of the type")
            }
            Rule::Name { reader, .. } => format!("keep the name {reader}"),
            Rule::Size { writer, reader } => {
                let old = if is_new_reader { writer } else { reader };
                format!("keep the size {old}, and add a type of another name for the new one")
            }
            Rule::Symbols(symbols) if is_new_reader => {
                let symbols = symbols.join(", ");
                format!("keep the symbols {symbols}, or give the enum a default")
            }
            Rule::Symbols(symbols) => {
                let symbols = symbols.join(", ");
                format!(
                    "leave out {symbols} until every reader has a version whose enum has a default"
                )
            }
            Rule::Branch(branch) if is_new_reader => {
                format!("keep {branch}, and add a field of another name for what is new")
            }
            Rule::Branch(branch) => format!(
                "leave {branch} out until every reader has a version with it, or add a field of another \
                 name for it"
            ),
            Rule::TooIntricate => "make the schema simpler: fewer types of one name".to_owned(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reader, writer) = match self.direction {
            Direction::Backward => ("the new version", "the old one"),
            Direction::Forward => ("the old version", "the new one"),
        };
        write!(f, "{}: {reader} ", self.path)?;
        match &self.rule {
            Rule::FieldWithoutDefault => {
                write!(
                    f,
                    "needs the field, which {writer} does not have, and has no default for it"
                )
            }
            Rule::Type {
                writer: found,
                reader: wanted,
            } => write!(f, "reads {wanted}, {writer} has {found}"),
            Rule::Name {
                writer: found,
                reader: wanted,
            } => write!(f, "calls the type {wanted}, {writer} calls it {found}"),
            Rule::Size {
                writer: found,
                reader: wanted,
            } => write!(f, "reads {wanted} bytes, {writer} has {found}"),
            Rule::Symbols(symbols) => {
                let symbols = symbols.join(", ");
                write!(
                    f,
                    "has no symbol {symbols}, which {writer} has, and no default"
                )
            }
            Rule::Branch(branch) => write!(f, "cannot read {branch}, which {writer} may have"),
            Rule::TooIntricate => {
                write!(f, "cannot be compared with {writer}: it is too intricate")
            }
        }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// The first of them, in the order of the reader's fields.
    pub listed: Vec<Violation>,
    /// How many more there are than are listed.
    pub more: usize,
}

impl Violations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    fn push(&mut self, violation: Violation) {
        if self.listed.len() < VIOLATIONS_MAX {
            self.listed.push(violation);
        } else {
            self.more += 1;
        }
    }
}

/// Every reason why a value cannot be read with one of two versions that was written with the other.
/// Work and memory are bounded by [`COMPATIBILITY_STEPS_MAX`] and [`VIOLATIONS_MAX`].
pub fn violations(new: &Schema, old: &Schema, direction: Direction) -> Violations {
    violations_within(new, old, direction, &mut { COMPATIBILITY_STEPS_MAX })
}

/// As [`violations`], with at most `steps` of work; what was done is taken off them.
pub fn violations_within(
    new: &Schema,
    old: &Schema,
    direction: Direction,
    steps: &mut usize,
) -> Violations {
    let (reader, writer) = match direction {
        Direction::Backward => (new, old),
        Direction::Forward => (old, new),
    };
    let budget = COMPATIBILITY_STEPS_MAX.min(*steps);
    let mut resolver = Resolver::new(reader.program(), writer.program(), budget);
    if resolver.resolve().is_err() {
        *steps = steps.saturating_sub(budget);
        let too_intricate = Violation {
            direction,
            path: reader.record_name().to_owned(),
            rule: Rule::TooIntricate,
        };
        return Violations {
            listed: vec![too_intricate],
            more: 0,
        };
    }
    if resolver.is_root_readable() {
        *steps = steps.saturating_sub(budget - resolver.budget_left());
        return Violations::default();
    }
    // What was found out with so much work is told with as much.
    resolver.allow_report(budget);
    let (violations, left) = Report::new(resolver, direction).violations();
    *steps = steps.saturating_sub(2 * budget - left);
    violations
}

#[cfg(test)]
mod tests;
