//! Times as people write them: a point of the calendar, or so long before now.
//!
//! Who says what time it is now is the caller's business: this module knows no clock.

use std::{fmt, str::FromStr};

use jiff::{SpanRelativeTo, Timestamp};

use super::limits::MOMENT_BYTES_MAX;

/// A time as somebody wrote it, to the millisecond. Shown in a form that reads back as the same.
///
/// # Shapes
///
/// An RFC 3339 time of which the seconds and their fraction may be missing, or a minus sign and a
/// duration of weeks, days, hours, minutes, seconds and milliseconds, largest first:
/// `2026-01-01T00:00Z`, `2026-01-01T01:00:00.250+01:00`, `-15m`, `-2h30m`, `-3d`. A day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// In milliseconds since the Unix epoch.
    At(i64),
    /// So many milliseconds before now.
    Ago(u64),
}

impl Moment {
    /// The time it is, in milliseconds since the Unix epoch, for who takes `now_ms` to be now.
    pub fn as_millis(self, now_ms: i64) -> i64 {
        match self {
            Self::At(millis) => millis,
            Self::Ago(millis) => now_ms.saturating_sub_unsigned(millis),
        }
    }

    /// The same as a point of the calendar, which time does not move.
    #[must_use]
    pub fn fixed(self, now_ms: i64) -> Self {
        Self::At(self.as_millis(now_ms))
    }
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if text.len() > MOMENT_BYTES_MAX {
            return Err(MomentError);
        }
        let found = match text.strip_prefix('-') {
            Some(ago) => parse_ago(ago),
            None => parse_at(text),
        };
        found.ok_or(MomentError)
    }
}

fn parse_ago(text: &str) -> Option<Moment> {
    // The library takes more than durations of this form, such as a sign of their own.
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    if !text.starts_with(|first: char| first.is_ascii_digit()) || !text.bytes().all(is_plain) {
        return None;
    }
    let span: jiff::Span = text.parse().ok()?;
    let days = SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days).ok()?;
    Some(Moment::Ago(u64::try_from(duration.as_millis()).ok()?))
}

fn parse_at(text: &str) -> Option<Moment> {
    // Nor is a year with a sign of RFC 3339, or the name of a time zone.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-:.+".contains(&byte);
    if !text.starts_with(|first: char| first.is_ascii_digit()) || !text.bytes().all(is_plain) {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    // What was appended in the millisecond that a finer time lies in came before it.
    let is_finer = time.as_nanosecond().rem_euclid(1_000_000) != 0;
    let millis = time.as_nanosecond().div_euclid(1_000_000) as i64;
    Some(Moment::At(millis + i64::from(is_finer)))
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(millis) => match Timestamp::from_millisecond(*millis) {
                Ok(time) => time.fmt(f),
                Err(_) => write!(f, "{millis} ms since the epoch"),
            },
            Self::Ago(millis) if millis.is_multiple_of(1_000) => write!(f, "-{}s", millis / 1_000),
            Self::Ago(millis) => write!(f, "-{millis}ms"),
        }
    }
}

/// The text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is of the form 2026-01-01T00:00:00Z, or -15m, -2h30m or -3d for so long ago")]
pub struct MomentError;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The start of the year 2026.
    const YEAR: i64 = 1_767_225_600_000;

    #[test]
    fn a_time_is_of_the_calendar_or_so_long_ago() {
        for (text, wanted) in [
            ("2026-01-01T00:00:00Z", Moment::At(YEAR)),
            ("2026-01-01T00:00Z", Moment::At(YEAR)),
            ("2026-01-01T01:30+01:30", Moment::At(YEAR)),
            ("2025-12-31T19:00:00.25-05:00", Moment::At(YEAR + 250)),
            ("2026-01-01t00:00:00z", Moment::At(YEAR)),
            ("1969-12-31T23:59:59.9999Z", Moment::At(0)),
            ("2026-01-01T00:00:00.0005Z", Moment::At(YEAR + 1)),
            ("-15m", Moment::Ago(900_000)),
            ("-2h30m", Moment::Ago(9_000_000)),
            ("-3d", Moment::Ago(259_200_000)),
            ("-1w1d", Moment::Ago(691_200_000)),
            ("-1s500ms", Moment::Ago(1_500)),
            ("-0s", Moment::Ago(0)),
        ] {
            let moment: Moment = text.parse().expect(text);
            assert_eq!(moment, wanted, "{text}");
            assert_eq!(moment.to_string().parse(), Ok(moment), "{text}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for text in [
            "",
            "-",
            "--15m",
            "-15",
            "15m",
            "-1month",
            "-1y",
            "-15 m",
            "-PT15M",
            "-m",
            "now",
            "yesterday",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00Z[Europe/Paris]",
            "+002026-01-01T00:00:00Z",
            "1767225600000",
            "-99999999999999999999999999d",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
        }
        let long = format!("2026-01-01T00:00:00.{}Z", "0".repeat(100));
        assert_eq!(long.parse::<Moment>(), Err(MomentError));
    }

    #[test]
    fn a_moment_is_fixed_once() {
        let ago: Moment = "-15m".parse().unwrap();
        assert_eq!(ago.fixed(YEAR), Moment::At(YEAR - 900_000));
        assert_eq!(ago.fixed(YEAR).fixed(0), Moment::At(YEAR - 900_000));
        assert_eq!(Moment::Ago(u64::MAX).as_millis(0), i64::MIN);
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,40}", like in "[-0-9dhmsTZ:+.]{0,40}") {
            for text in [text, like] {
                if let Ok(moment) = text.parse::<Moment>() {
                    prop_assert_eq!(moment.to_string().parse(), Ok(moment));
                }
            }
        }
    }
}
