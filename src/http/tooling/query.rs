//! The queries that are understood:
//!
//! ```text
//! SELECT field, … FROM ManagedEventSubscription [WHERE field = 'text'] [LIMIT number]
//! ```
//!
//! Words are read in either case; a text is in single quotes, and a backslash takes the character
//! behind it as it is.
//!
//! Source: the public SOQL and SOSL Reference, "SOQL SELECT Syntax" and "Quoted String Escape
//! Sequences".

use super::ENTITY;
use crate::{
    broker::ManagedConfig,
    types::{PlatformId, limits::TOOLING_QUERY_BYTES_MAX},
};

/// What a query asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Select {
    /// Each once.
    pub(super) fields: Vec<Field>,
    condition: Option<(Field, String)>,
    pub(super) limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    DeveloperName,
    MasterLabel,
    Metadata,
}

/// Why a query is not answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum QueryError {
    /// Not a query as it is understood here.
    #[error("unexpected token at character {at}: wanted {wanted}")]
    Malformed {
        /// Counts from 1.
        at: usize,
        wanted: &'static str,
    },
    /// Longer than any client's.
    #[error("a query has at most {TOOLING_QUERY_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Not a field.
    #[error("No such column '{0}' on entity '{ENTITY}'")]
    UnknownField(String),
    /// Not the entity.
    #[error("sObject type '{0}' is not supported.")]
    UnknownEntity(String),
}

impl Field {
    const ALL: [Self; 4] = [
        Self::Id,
        Self::DeveloperName,
        Self::MasterLabel,
        Self::Metadata,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "Id",
            Self::DeveloperName => "DeveloperName",
            Self::MasterLabel => "MasterLabel",
            Self::Metadata => "Metadata",
        }
    }
}

impl Select {
    /// # Errors
    ///
    /// [`QueryError`].
    pub(super) fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > TOOLING_QUERY_BYTES_MAX {
            return Err(QueryError::TooLong(text.len()));
        }
        let mut parser = Parser { text, at: 0 };
        parser.keyword("SELECT", "SELECT")?;
        let mut fields = Vec::new();
        loop {
            let field = parser.field()?;
            if !fields.contains(&field) {
                fields.push(field);
            }
            if !parser.take(',') {
                break;
            }
        }
        parser.keyword("FROM", "FROM or a comma")?;
        let entity = parser.word().ok_or_else(|| parser.wanted(ENTITY))?;
        if !entity.eq_ignore_ascii_case(ENTITY) {
            return Err(QueryError::UnknownEntity(entity.to_owned()));
        }
        let mut condition = None;
        if parser.is_keyword("WHERE") {
            let field = parser.field()?;
            // A whole object equals no text.
            if field == Field::Metadata {
                return Err(parser.wanted("a field of text"));
            }
            if !parser.take('=') {
                return Err(parser.wanted("="));
            }
            condition = Some((field, parser.string()?));
        }
        let mut limit = usize::MAX;
        if parser.is_keyword("LIMIT") {
            let number = parser.word().and_then(|word| word.parse().ok());
            limit = number.ok_or_else(|| parser.wanted("a number"))?;
        }
        parser.skip_space();
        match parser.rest().is_empty() {
            true => Ok(Self {
                fields,
                condition,
                limit,
            }),
            false => Err(parser.wanted("the end of the query")),
        }
    }

    /// Whether the condition, if there is one, holds for a subscription.
    pub(super) fn matches(&self, config: &ManagedConfig) -> bool {
        let Some((field, wanted)) = &self.condition else {
            return true;
        };
        match field {
            Field::Id => wanted.parse::<PlatformId>() == Ok(config.id),
            Field::DeveloperName => config.developer_name == *wanted,
            Field::MasterLabel => config.label == *wanted,
            Field::Metadata => false,
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The next word of letters, digits and underscores.
    fn word(&mut self) -> Option<&'a str> {
        self.skip_space();
        let rest = self.rest();
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let len = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        self.at += len;
        Some(&rest[..len]).filter(|word| !word.is_empty())
    }

    /// Takes the next word if it is this one.
    fn is_keyword(&mut self, keyword: &str) -> bool {
        let before = self.at;
        let is_it = self
            .word()
            .is_some_and(|word| word.eq_ignore_ascii_case(keyword));
        if !is_it {
            self.at = before;
        }
        is_it
    }

    fn keyword(&mut self, keyword: &str, wanted: &'static str) -> Result<(), QueryError> {
        match self.is_keyword(keyword) {
            true => Ok(()),
            false => Err(self.wanted(wanted)),
        }
    }

    /// Takes the next character if it is this one.
    fn take(&mut self, wanted: char) -> bool {
        self.skip_space();
        let is_it = self.rest().starts_with(wanted);
        if is_it {
            self.at += wanted.len_utf8();
        }
        is_it
    }

    fn field(&mut self) -> Result<Field, QueryError> {
        let word = self.word().ok_or_else(|| self.wanted("a field"))?;
        let mut fields = Field::ALL.into_iter();
        let field = fields.find(|field| field.name().eq_ignore_ascii_case(word));
        field.ok_or_else(|| QueryError::UnknownField(word.to_owned()))
    }

    fn string(&mut self) -> Result<String, QueryError> {
        if !self.take('\'') {
            return Err(self.wanted("a text in single quotes"));
        }
        let mut value = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '\'' => {
                    self.at += index + 1;
                    return Ok(value);
                }
                '\\' => match characters.next() {
                    Some((_, escaped)) => value.push(escaped),
                    None => break,
                },
                other => value.push(other),
            }
        }
        self.at = self.text.len();
        Err(self.wanted("the quote that ends the text"))
    }

    fn wanted(&self, wanted: &'static str) -> QueryError {
        QueryError::Malformed {
            at: self.text[..self.at].chars().count() + 1,
            wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_clients_ask_is_understood() {
        let by_id = Select::parse(
            "SELECT Id, DeveloperName, Metadata FROM ManagedEventSubscription WHERE Id='18x000000000001' LIMIT 1",
        );
        let fields = vec![Field::Id, Field::DeveloperName, Field::Metadata];
        assert_eq!(
            by_id.unwrap(),
            Select {
                fields,
                condition: Some((Field::Id, "18x000000000001".into())),
                limit: 1,
            }
        );
        let by_name = Select::parse(
            "  select id,Id from MANAGEDEVENTSUBSCRIPTION\twhere developername = 'O\\'Neil \\\\'",
        );
        assert_eq!(
            by_name.unwrap(),
            Select {
                fields: vec![Field::Id],
                condition: Some((Field::DeveloperName, "O'Neil \\".into())),
                limit: usize::MAX,
            }
        );
    }

    #[test]
    fn anything_else_is_refused_where_it_goes_wrong() {
        let error = |text: &str| Select::parse(text).unwrap_err().to_string();
        for (text, place) in [
            ("", "character 1: wanted SELECT"),
            ("SELECT", "character 7: wanted a field"),
            (
                "SELECT Id Name FROM",
                "character 11: wanted FROM or a comma",
            ),
            (
                "SELECT Id FROM",
                "character 15: wanted ManagedEventSubscription",
            ),
            (
                "SELECT Id FROM ManagedEventSubscription WHERE Id",
                "wanted =",
            ),
            (
                "SELECT Id FROM ManagedEventSubscription WHERE Id = 5",
                "in single quotes",
            ),
            (
                "SELECT Id FROM ManagedEventSubscription WHERE Id = 'é",
                "character 54: wanted the quote",
            ),
            (
                "SELECT Id FROM ManagedEventSubscription WHERE Id = '\\",
                "wanted the quote",
            ),
            (
                "SELECT Id FROM ManagedEventSubscription WHERE Metadata = 'x'",
                "a field of text",
            ),
            (
                "SELECT Id FROM ManagedEventSubscription LIMIT x",
                "wanted a number",
            ),
            (
                "SELECT Id FROM ManagedEventSubscription OR 1",
                "wanted the end",
            ),
        ] {
            let found = error(text);
            assert!(found.contains(place), "{text}: {found}");
        }
        assert_eq!(
            error("SELECT Name FROM ManagedEventSubscription"),
            "No such column 'Name' on entity 'ManagedEventSubscription'"
        );
        assert_eq!(
            error("SELECT Id FROM Account"),
            "sObject type 'Account' is not supported."
        );
        let long = " ".repeat(TOOLING_QUERY_BYTES_MAX + 1);
        assert!(error(&long).contains("at most"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            start in prop_oneof![
                Just(""),
                Just("SELECT "),
                Just("SELECT Id FROM ManagedEventSubscription WHERE Id = "),
            ],
            rest in "[\\PC'\\\\=, \\n]{0,40}",
        ) {
            _ = Select::parse(&format!("{start}{rest}"));
        }
    }
}
