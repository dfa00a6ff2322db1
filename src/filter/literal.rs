//! Values as filters have them.

use std::fmt;

use super::Span;

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// The value.
    pub value: LiteralValue,
    /// Where it stands.
    pub span: Span,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum LiteralValue {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A text, its quotes and escapes resolved.
    Text(String),
    /// A number.
    Number(Number),
    /// A moment, in milliseconds since the epoch.
    DateTime(i64),
    /// A day, in days since the epoch.
    Date(i32),
    /// A time of day in UTC, in milliseconds since midnight.
    Time(i32),
}

/// A number, as exactly as it can be compared.
#[derive(Clone, Copy, PartialEq)]
pub struct Number {
    /// The number, or the nearest one.
    pub nearest: f64,
    /// The number itself, if it is a whole one.
    pub whole: Option<i64>,
}

impl Number {
    /// A whole number.
    pub(super) fn whole(number: i64) -> Self {
        Self {
            nearest: number as f64,
            whole: Some(number),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let nearest: f64 = text
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())?;
        let whole = match text.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
            _ => text,
        };
        Some(Self {
            nearest,
            whole: whole.parse().ok(),
        })
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whole {
            Some(whole) => write!(f, "{whole}.0"),
            None => write!(f, "{:?}", self.nearest),
        }
    }
}

impl LiteralValue {
    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "true or false",
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::DateTime(_) => "a date and time",
            Self::Date(_) => "a date",
            Self::Time(_) => "a time of day",
        }
    }

    /// Reads what begins with a digit or a sign; `None` if it is nothing of the kind.
    pub(super) fn of_digits(text: &str) -> Option<Self> {
        // Times have colons, dates a dash behind their first digits; numbers neither.
        if text.contains('T') && text.contains('-') {
            let moment: jiff::Timestamp = text.parse().ok()?;
            return Some(Self::DateTime(moment.as_millisecond()));
        }
        if text.contains(':') {
            let time: jiff::civil::Time = text.strip_suffix('Z')?.parse().ok()?;
            let midnight = jiff::civil::Time::midnight();
            let millis = time.duration_since(midnight).as_millis();
            return Some(Self::Time(i32::try_from(millis).ok()?));
        }
        if text.get(1..).is_some_and(|rest| rest.contains('-')) && !text.contains(['e', 'E']) {
            let day: jiff::civil::Date = text.parse().ok()?;
            let epoch = jiff::civil::date(1970, 1, 1);
            let days = day.duration_since(epoch).as_hours() / 24;
            return Some(Self::Date(i32::try_from(days).ok()?));
        }
        Number::read(text).map(Self::Number)
    }
}
