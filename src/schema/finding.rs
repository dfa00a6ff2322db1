//! One thing that is wrong, or will hurt, in a schema: where, which rule, and what to do about it.

use std::fmt;

/// What a check of a schema found. Its texts are of Avro: names and types, no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's name, as it is printed and never changed: `logical-types`.
    pub rule: &'static str,
    /// The field or type, from the outermost record on: `OrderCreated__e.Lines__c[].Amount`. What an
    /// array has is written `[]`, what a map has `{}`. Empty if the text as a whole is meant.
    pub path: String,
    /// Line of the schema's text, from 1, where it is known.
    pub line: Option<usize>,
    /// What was found, as the rest of a sentence that begins with the path.
    pub message: String,
    /// What the author can do about it.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}
