//! Raw values, and how durations and sizes are written.
//!
//! A TOML value has a type, and a string is not taken for a number. A variable or a flag is only
//! text, so it is read as whatever the setting wants.

use std::{borrow::Cow, fmt, time::Duration};

/// A value as its layer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Raw {
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i128),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML value of a type that no setting has; its name with an article.
    Other(&'static str),
    /// Text of a variable or a flag.
    Untyped(String),
    /// A variable whose text is not UTF-8.
    NotText,
}

impl Raw {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Untyped(text) => Some(text),
            Self::Integer(_) | Self::Boolean(_) | Self::Other(_) | Self::NotText => None,
        }
    }

    /// What `parse` makes of the text, or nothing if the text is empty. The outer `None` is for
    /// what is no text, or not one for `parse`.
    pub(super) fn optional<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        match self.text()? {
            "" => Some(None),
            text => parse(text).map(Some),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            Self::Untyped(text) => text.parse().ok(),
            Self::Text(_) | Self::Integer(_) | Self::Other(_) | Self::NotText => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i128> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Untyped(text) => text.parse().ok(),
            Self::Text(_) | Self::Boolean(_) | Self::Other(_) | Self::NotText => None,
        }
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        let (count, unit) = number_and_unit(self.text()?)?;
        let millis = TIME_UNITS.iter().find(|(name, _)| *name == unit)?.1;
        Some(Duration::from_millis(count.checked_mul(millis)?))
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        if let Some(count) = self.integer() {
            return u64::try_from(count).ok();
        }
        let (count, unit) = number_and_unit(self.text()?)?;
        let bytes = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1;
        count.checked_mul(bytes)
    }

    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let (_, value) = words.iter().find(|(word, _)| *word == text)?;
        Some(*value)
    }
}

/// As an error quotes it.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Untyped(text) => {
                let text = without_password(text);
                let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                let cut = if shown.len() < text.len() { "…" } else { "" };
                write!(f, "{shown:?}{cut}")
            }
            Self::Integer(value) => write!(f, "{value}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Other(what) => f.write_str(what),
            Self::NotText => f.write_str("text that is not UTF-8"),
        }
    }
}

/// A URL without the name and password that it may have; other text as it is.
fn without_password(text: &str) -> Cow<'_, str> {
    let masked = text.split_once("://").and_then(|(scheme, rest)| {
        let (_, host) = rest.rsplit_once('@')?;
        Some(format!("{scheme}://***@{host}"))
    });
    masked.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// A duration as it is written: in the largest unit that it is a whole number of.
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        with_largest_unit(f, millis, &TIME_UNITS)
    }
}

/// A size as it is written: in the largest unit that it is a whole number of.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_largest_unit(f, self.0, &SIZE_UNITS)
    }
}

fn with_largest_unit(
    f: &mut fmt::Formatter<'_>,
    amount: u64,
    units: &[(&str, u64)],
) -> fmt::Result {
    let (name, unit) = units
        .iter()
        .rev()
        .find(|(_, unit)| amount.is_multiple_of(*unit))
        .expect("the first unit is one");
    write!(f, "{}{name}", amount / unit)
}

/// Splits `64MiB` into its number and its unit. One number, whole and without a sign.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

/// In milliseconds, smallest first.
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
/// In bytes, smallest first.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
/// Longer values are cut in errors.
const SHOWN_CHARS_MAX: usize = 120;
