//! What is wrong with a filter, and where.

use super::{Span, text::WILD_PIECE_CHARS_MAX};
use crate::types::limits::{FILTER_CHARS_MAX, FILTER_DEPTH_MAX, FILTER_FIELDS_MAX};

/// A filter that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {character}: {problem}")]
pub struct FilterError {
    /// The character it is about, from 1.
    pub character: usize,
    /// The bytes of the text that it is about.
    pub span: Span,
    /// What is wrong there.
    pub problem: Problem,
}

impl FilterError {
    pub(super) fn new(text: &str, span: Span, problem: Problem) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        Self {
            character: before.chars().count() + 1,
            span,
            problem,
        }
    }
}

/// What is wrong at a place of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Something else stands there than what may.
    #[error("found {found}, wanted {wanted}")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What may stand there.
        wanted: &'static str,
    },
    /// A quote that nothing closes.
    #[error("this text has no closing quote")]
    Unclosed,
    /// A backslash in a text before something that it does not go with.
    #[error("there is no escape {0}; a backslash itself is \\\\")]
    Escape(String),
    /// Digits that are no number, time or date.
    #[error("{0} is no number, date or time")]
    Number(String),
    /// A whole number that the platform wants written otherwise.
    #[error("whole numbers above 2147483647 are written with .0")]
    LargeNumber,
    /// An operator that a value does not go with.
    #[error("{operator} does not go with {value}; only = and != do")]
    Operator {
        /// The operator.
        operator: &'static str,
        /// The value, as it is written.
        value: &'static str,
    },
    /// A field that the events do not have.
    #[error("{record} has no field {field}")]
    NoField {
        /// The events' record.
        record: String,
        /// The field, as it was named.
        field: String,
    },
    /// A part of a field that has none, or not this one.
    #[error("the field {field} has no part {part}")]
    NoPart {
        /// The field.
        field: String,
        /// The part, as it was named.
        part: String,
    },
    /// A field that cannot be compared with anything.
    #[error(
        "the field {field} is {type_text}; compared are text, numbers, times and booleans, and parts of \
         records by their names behind a dot"
    )]
    NotComparable {
        /// The field.
        field: String,
        /// What it is.
        type_text: String,
    },
    /// A value of another kind than the field.
    #[error("the field {field} is {type_text} and compared with {wanted}, found {found}")]
    WrongKind {
        /// The field.
        field: String,
        /// What it is.
        type_text: String,
        /// What it may be compared with.
        wanted: &'static str,
        /// What it is compared with.
        found: &'static str,
    },
    /// An operator that is not for change events.
    #[error("{0} is not for change events; write = with OR, or != with AND, between the values")]
    NotForChanges(&'static str),
    /// A pattern that would be slow to find.
    #[error("between two % a pattern with _ has at most {WILD_PIECE_CHARS_MAX} characters")]
    WildPiece,
    /// Too many fields.
    #[error("a filter names at most {FILTER_FIELDS_MAX} fields, this is one more")]
    TooManyFields,
    /// Too many parentheses in parentheses.
    #[error("more than {FILTER_DEPTH_MAX} parentheses are open here")]
    TooDeep,
    /// Too long.
    #[error("a filter has at most {FILTER_CHARS_MAX} characters, this one has more")]
    TooLong,
}
