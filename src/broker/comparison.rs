//! A comparison of one field with one value, which chooses events: `Email__c = 'a@example.com'`.
//!
//! Names of fields and texts are compared without regard to case, as in the platform's filters.
//! A text stands in single quotes, in which a backslash stands before a quote or a backslash.
//!
//! Source: the public Platform Events Developer Guide, "Filter Your Stream of Platform Events".

use serde_json::Value;

use crate::types::limits::COMPARISON_BYTES_MAX;

/// A field and the value it has to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    field: String,
    value: Literal,
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Null,
    Boolean(bool),
    Number(f64),
    /// In lower case.
    Text(String),
}

/// Why a text is no comparison; holds what was wanted and where, and nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComparisonError {
    /// Holds the length found, in bytes.
    #[error("a comparison has at most {COMPARISON_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Something else is wanted at this place, which counts characters from 1.
    #[error(
        "at character {at}: {wanted}; a comparison reads Field__c = 'text', = 4.5, = true or = null"
    )]
    Wanted {
        /// The place.
        at: usize,
        /// What belongs there.
        wanted: &'static str,
    },
}

impl Comparison {
    /// Parses a comparison.
    ///
    /// # Errors
    ///
    /// [`ComparisonError`] names the place and what was wanted there.
    pub fn parse(text: &str) -> Result<Self, ComparisonError> {
        if text.len() > COMPARISON_BYTES_MAX {
            return Err(ComparisonError::TooLong(text.len()));
        }
        let wanted = |rest: &str, wanted| {
            let at = text[..text.len() - rest.len()].chars().count() + 1;
            ComparisonError::Wanted { at, wanted }
        };
        let rest = text.trim_start();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (field, rest) = rest.split_at(end);
        if !field.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(wanted(text.trim_start(), "the name of a field is wanted"));
        }
        let rest = rest.trim_start();
        let rest = rest
            .strip_prefix('=')
            .ok_or_else(|| wanted(rest, "`=` is wanted"))?;
        let rest = rest.trim_start();
        let (value, rest) = Literal::parse(rest).map_err(|(at, what)| wanted(at, what))?;
        match rest.trim_start() {
            "" => Ok(Self {
                field: field.to_owned(),
                value,
            }),
            rest => Err(wanted(rest, "nothing more is wanted")),
        }
    }

    /// The field that is compared.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Whether a payload, in its JSON form, has the field with the value.
    pub fn holds(&self, payload: &Value) -> bool {
        let Value::Object(fields) = payload else {
            return false;
        };
        let mut fields = fields.iter();
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(&self.field));
        found.is_some_and(|(_, value)| self.value.is(value))
    }
}

impl Literal {
    /// The literal at the start of `text`, and what follows it; or where something else is wanted.
    fn parse(text: &str) -> Result<(Self, &str), (&str, &'static str)> {
        if let Some(quoted) = text.strip_prefix('\'') {
            let (text, rest) = unquote(quoted)?;
            return Ok((Self::Text(text.to_lowercase()), rest));
        }
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let value = match word {
            "null" => Self::Null,
            "true" => Self::Boolean(true),
            "false" => Self::Boolean(false),
            word => match word.parse() {
                Ok(number) => Self::Number(number),
                Err(_) => return Err((text, "a value is wanted")),
            },
        };
        Ok((value, rest))
    }

    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Null, Value::Null) => true,
            (Self::Boolean(wanted), Value::Bool(found)) => wanted == found,
            (Self::Number(wanted), Value::Number(found)) => found.as_f64() == Some(*wanted),
            // Beyond 2^53 a long is its digits in a string.
            (Self::Number(wanted), Value::String(digits)) => digits.parse() == Ok(*wanted),
            (Self::Text(wanted), Value::String(found)) => found.to_lowercase() == *wanted,
            _ => false,
        }
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Result<(String, &str), (&str, &'static str)> {
    let mut unquoted = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => return Ok((unquoted, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('\'' | '\\'))) => unquoted.push(c),
                _ => return Err((&text[at..], "a quote or a backslash is wanted after this")),
            },
            c => unquoted.push(c),
        }
    }
    Err((&text[text.len()..], "a closing quote is wanted"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(comparison: &str, payload: Value) -> bool {
        Comparison::parse(comparison).unwrap().holds(&payload)
    }

    #[test]
    fn a_field_has_a_value_or_not() {
        let payload = json!({"Email__c": "A@x.org", "Amount__c": 4.5, "Gone__c": null, "Yes__c": true,
                             "Long__c": "9007199254740993", "Quote__c": "it's a \\"});
        for comparison in [
            "Email__c = 'a@X.ORG'",
            "  email__C='a@x.org'  ",
            "Amount__c = 4.5",
            "Amount__c = 45e-1",
            "Gone__c = null",
            "Yes__c = true",
            "Long__c = 9007199254740993",
            r"Quote__c = 'it\'s a \\'",
        ] {
            assert!(holds(comparison, payload.clone()), "{comparison}");
        }
        for comparison in [
            "Email__c = 'b@x.org'",
            "Email__c = null",
            "Amount__c = 4",
            "Amount__c = '4.5'",
            "Gone__c = ''",
            "Yes__c = false",
            "Other__c = null",
        ] {
            assert!(!holds(comparison, payload.clone()), "{comparison}");
        }
    }

    #[test]
    fn a_refusal_names_the_place_and_what_was_wanted() {
        for (text, at, wanted) in [
            ("", 1, "name of a field"),
            ("= 'x'", 1, "name of a field"),
            ("Email__c 'x'", 10, "`=`"),
            ("Email__c > 'x'", 10, "`=`"),
            ("Email__c = x", 12, "value"),
            ("Email__c = 'x", 14, "closing quote"),
            (r"Email__c = 'x\y'", 14, "backslash"),
            ("Email__c = 'x' OR 1", 16, "nothing more"),
            ("Ämail__c = 'x'", 1, "name of a field"),
        ] {
            let error = Comparison::parse(text).unwrap_err();
            let ComparisonError::Wanted { at: found, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(found, at, "{text}");
            assert!(error.to_string().contains(wanted), "{text}: {error}");
        }
        let long = format!("Email__c = '{}'", "x".repeat(9_000));
        let error = Comparison::parse(&long).unwrap_err();
        assert!(matches!(error, ComparisonError::TooLong(9_013)), "{error}");
    }
}
