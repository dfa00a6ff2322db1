//! The words of a filter, and where they stand.

use super::{Comparison, FilterError, LiteralValue, Problem, Span};

/// A word of a filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A name or a keyword, in whatever case.
    Word(&'a str),
    /// A text between quotes, which are not part of it, its escapes as they are.
    Text(&'a str),
    /// A number, a date or a time.
    Digits(LiteralValue),
    Comparison(Comparison),
    Open,
    Close,
    Comma,
    Dot,
    End,
}

/// Words that are no names of fields.
pub(super) const KEYWORDS: [&str; 8] = ["AND", "OR", "NOT", "LIKE", "IN", "TRUE", "FALSE", "NULL"];

/// Largest whole number that is written without a decimal part.
const WHOLE_MAX: f64 = 2_147_483_647.0;

/// Takes a filter apart.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    /// The byte behind the last token.
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token and where it stands; [`Token::End`] behind the last.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Span), FilterError> {
        let rest = &self.text[self.at..];
        let rest = rest.trim_start();
        let start = self.text.len() - rest.len();
        let (token, len) = match rest.chars().next() {
            None => (Token::End, 0),
            Some('(') => (Token::Open, 1),
            Some(')') => (Token::Close, 1),
            Some(',') => (Token::Comma, 1),
            Some('.') => (Token::Dot, 1),
            Some('=') => (Token::Comparison(Comparison::Equal), 1),
            Some('!') if rest.starts_with("!=") => (Token::Comparison(Comparison::NotEqual), 2),
            Some('<') if rest.starts_with("<>") => (Token::Comparison(Comparison::NotEqual), 2),
            Some('<') if rest.starts_with("<=") => (Token::Comparison(Comparison::LessOrEqual), 2),
            Some('<') => (Token::Comparison(Comparison::Less), 1),
            Some('>') if rest.starts_with(">=") => {
                (Token::Comparison(Comparison::GreaterOrEqual), 2)
            }
            Some('>') => (Token::Comparison(Comparison::Greater), 1),
            Some('\'') => self.text_at(start)?,
            Some(first) if first.is_ascii_digit() || matches!(first, '-' | '+') => {
                self.digits_at(start)?
            }
            Some(first) if first.is_ascii_alphabetic() => {
                let is_part = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'_';
                let len = rest.bytes().take_while(is_part).count();
                (Token::Word(&rest[..len]), len)
            }
            Some(other) => {
                let span = Span {
                    start,
                    end: start + other.len_utf8(),
                };
                let found = format!("{other:?}");
                let wanted = "a field, an operator or a value";
                let problem = Problem::Unexpected { found, wanted };
                return Err(FilterError::new(self.text, span, problem));
            }
        };
        self.at = start + len;
        let end = self.at;
        Ok((token, Span { start, end }))
    }

    /// The text that begins with the quote at `start`.
    fn text_at(&self, start: usize) -> Result<(Token<'a>, usize), FilterError> {
        let inner = &self.text[start + 1..];
        let mut bytes = inner.bytes().enumerate();
        while let Some((index, byte)) = bytes.next() {
            match byte {
                b'\'' => return Ok((Token::Text(&inner[..index]), index + 2)),
                // Whatever it escapes, it is not the end.
                b'\\' => _ = bytes.next(),
                _ => {}
            }
        }
        let span = Span {
            start,
            end: self.text.len(),
        };
        Err(FilterError::new(self.text, span, Problem::Unclosed))
    }

    /// The number, date or time at `start`.
    fn digits_at(&self, start: usize) -> Result<(Token<'a>, usize), FilterError> {
        let rest = &self.text[start..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.:".contains(byte);
        let len = rest.bytes().take_while(|byte| is_part(byte)).count();
        let written = &rest[..len];
        let span = Span {
            start,
            end: start + len,
        };
        let failed = |problem| FilterError::new(self.text, span, problem);
        let value = LiteralValue::of_digits(written);
        let value = value.ok_or_else(|| failed(Problem::Number(format!("{written:?}"))))?;
        if let LiteralValue::Number(number) = value
            && number.nearest.abs() > WHOLE_MAX
            && !written.contains(['.', 'e', 'E'])
        {
            return Err(failed(Problem::LargeNumber));
        }
        Ok((Token::Digits(value), len))
    }
}

impl Token<'_> {
    /// The token as an error names it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(word) => format!("{word:?}"),
            Self::Text(_) => "a text".into(),
            Self::Digits(value) => value.kind().into(),
            Self::Comparison(comparison) => format!("`{}`", comparison.as_str()),
            Self::Open => "`(`".into(),
            Self::Close => "`)`".into(),
            Self::Comma => "`,`".into(),
            Self::Dot => "`.`".into(),
            Self::End => "the end".into(),
        }
    }
}
