//! Filter expressions: which events of a topic a subscriber wants.
//!
//! An expression is the condition of a WHERE clause without the keyword, as the platform has it for
//! members of channels:
//!
//! ```text
//! Status__c IN ('NEW', 'PAID') AND NOT (Amount__c < 10.5 OR Customer_Name__c LIKE 'test%')
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | fields | by name, in any case; a part of a compound field behind a dot; `ChangeEventHeader.` for change events |
//! | operators | `=` `!=` `<` `<=` `>` `>=` `LIKE` `IN` `NOT IN`; `<>` is `!=` |
//! | logic | `AND`, `OR`, `NOT`, parentheses; `NOT` is about the next condition, `AND` binds closer than `OR` |
//! | text | in single quotes, with `\'` `\\` `\"` `\n` `\r` `\t` `\b` `\f` `\uXXXX` |
//! | patterns | text behind `LIKE`: `%` is any run, `_` one character, `\%` and `\_` themselves |
//! | numbers | `42`, `-1.5`, `2e3`; whole ones above 2,147,483,647 are written with `.0` |
//! | times | `2026-01-31`, `2026-01-31T08:30:00Z` or with an offset, `08:30:00Z` |
//! | others | `true`, `false`, `null`, with `=` and `!=` alone |
//!
//! An expression is read once ([`Filter`]), held against a schema where it is stored ([`check`]), and
//! compiled for each schema whose events it meets ([`FilterProgram`]). A program runs over the Avro bytes.
//!
//! # What is true of null
//!
//! A condition about a field that is null is neither true nor false, and what is made of such conditions
//! by `AND`, `OR` and `NOT` may be neither: an event matches if the whole is true. `= null` and `!= null`
//! are true or false of every field. A boolean is never null: that counts as false. A field that a version
//! of the schema does not have is null, or false where it is compared with true or false.
//!
//! Source: the public Platform Events Developer Guide, "Filter Your Stream of Platform Events with Custom
//! Channels", and the Change Data Capture Developer Guide, "Filter Your Stream of Change Events".

mod error;
mod literal;
mod parse;
mod program;
mod text;
mod token;

pub use error::{FilterError, Problem};
pub use literal::{Literal, LiteralValue, Number};
pub use program::{FilterProgram, check};

use std::{fmt, str::FromStr};

/// A filter that is read, and not yet held against a schema.
#[derive(Clone, PartialEq)]
pub struct Filter {
    text: String,
    root: Expression,
}

impl Filter {
    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub fn root(&self) -> &Expression {
        &self.root
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// [`FilterError`] names the character and what was wanted there.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let root = parse::parse(text)?;
        Ok(Self {
            text: text.to_owned(),
            root,
        })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", self.text)
    }
}

/// Bytes of the text from `start` up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The one behind the last.
    pub end: usize,
}

/// An expression, or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A field compared with something.
    Condition(Condition),
    /// What it holds does not.
    Not(Box<Expression>),
    /// All of them: two or more.
    And(Vec<Expression>),
    /// One of them at least: two or more.
    Or(Vec<Expression>),
}

/// A field and what is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The field.
    pub field: FieldName,
    /// What is asked of it.
    pub test: Test,
}

/// A field as it is named, in whatever case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    /// The field.
    pub name: String,
    /// The part of it, behind a dot.
    pub part: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// What is asked of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It compares so with a value.
    Compare(Comparison, Literal),
    /// It is like a pattern.
    Like(Pattern),
    /// It is one of these values, or none of them: at least one.
    In {
        /// The values.
        values: Vec<Literal>,
        /// `NOT IN`.
        is_negated: bool,
    },
}

/// An operator between a field and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`, and `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// Whether it asks for an order, which not every value has.
    pub fn is_ordering(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// A pattern of `LIKE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Its parts, in their order.
    pub parts: Vec<PatternPart>,
    /// Where it stands.
    pub span: Span,
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternPart {
    /// These characters.
    Text(String),
    /// Any run of characters, an empty one too.
    AnyRun,
    /// Any one character.
    AnyOne,
}

#[cfg(test)]
mod tests;
