//! Log lines on standard error, as text for people or as JSON for machines.
//!
//! Colours are used on a terminal only, and not if `NO_COLOR` is set. Which lines are written is
//! said by a filter: a level (`info`), or a comma-separated list of levels for targets
//! (`info,tidegate::grpc=debug,h2=off`).

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt::MakeWriter};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people: time, level, where, message, fields.
    #[default]
    Text,
    /// One JSON object: `timestamp`, `level`, `target`, `message` and each field by its name; the
    /// fields of the span around it under `span`.
    Json,
}

/// Settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which lines are written: a level, or levels for targets.
    pub filter: String,
    /// How they look.
    pub format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::default(),
        }
    }
}

/// Writes the log of this process to standard error from now on. Succeeds once per process.
///
/// # Errors
///
/// [`LogError::Filter`] for a filter that means nothing, [`LogError::InUse`] on a second call.
pub fn init(config: &Config) -> Result<(), LogError> {
    let filter = parse_filter(&config.filter)?;
    let set = match config.format {
        LogFormat::Text => {
            tracing::subscriber::set_global_default(text(filter, stderr_colours(), io::stderr))
        }
        LogFormat::Json => tracing::subscriber::set_global_default(json(filter, io::stderr)),
    };
    set.map_err(|_| LogError::InUse)
}

/// Reads a filter without putting it to use.
///
/// Stricter than the library: it takes a lone word that is no level for the name of a target, so
/// that a mistyped level would switch the log off without a word.
///
/// # Errors
///
/// [`LogError::Filter`] with the part that was not understood.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    let refused = |found: &str| LogError::Filter {
        found: found.to_owned(),
    };
    let parts: Vec<_> = filter.split(',').map(str::trim).collect();
    for part in &parts {
        let names_a_level = !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        if !names_a_level && !part.contains('=') {
            return Err(refused(part));
        }
    }
    EnvFilter::try_new(parts.join(",")).map_err(|_| refused(filter))
}

/// Why the log is not set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A filter, or a part of one, that means nothing.
    #[error(
        "found the log filter {found:?}, wanted off, error, warn, info, debug or trace, or such levels for targets as in \"info,tidegate::grpc=debug\""
    )]
    Filter {
        /// The part that was not understood.
        found: String,
    },
    /// This process has a log already.
    #[error("the log of this process is set up already")]
    InUse,
}

fn text<W>(filter: EnvFilter, colours: Colours, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    match colours {
        Colours::Never => builder.with_ansi(false).finish(),
        Colours::UnlessRefused => builder.finish(),
    }
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

/// Whether lines may have colours.
enum Colours {
    Never,
    /// The library looks at `NO_COLOR` by itself, unless it is told a choice.
    UnlessRefused,
}

fn stderr_colours() -> Colours {
    if io::stderr().is_terminal() {
        Colours::UnlessRefused
    } else {
        Colours::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::written::Written;

    fn speak() {
        let span = tracing::info_span!("call", rpc_id = "r-1");
        let _entered = span.enter();
        tracing::info!(events = 3, "published");
        tracing::debug!("detail");
    }

    #[test]
    fn text_has_one_plain_line_for_each_event_that_passes_the_filter() {
        let written = Written::default();
        let filter = parse_filter("info").unwrap();
        let log = text(filter, Colours::Never, written.clone());
        tracing::subscriber::with_default(log, speak);
        let text = written.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("INFO") && text.contains("rpc_id=\"r-1\""),
            "{text}"
        );
        assert!(text.ends_with("published events=3\n"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn json_has_one_object_for_each_event_that_passes_the_filter() {
        let written = Written::default();
        let filter = parse_filter("off,tidegate=debug").unwrap();
        tracing::subscriber::with_default(json(filter, written.clone()), speak);
        let text = written.text();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["message"], "published");
        assert_eq!(lines[0]["events"], 3);
        assert_eq!(lines[0]["span"]["rpc_id"], "r-1");
        assert_eq!(lines[1]["level"], "DEBUG");
    }

    #[test]
    fn filters_are_levels_or_levels_for_targets() {
        for filter in ["off", "WARN", "info, tidegate::grpc=debug,h2=off"] {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
        for (filter, part) in [
            ("", ""),
            ("inof", "inof"),
            ("info,,debug", ""),
            ("info,tidegate", "tidegate"),
            ("tidegate=loud", "tidegate=loud"),
        ] {
            let refused = parse_filter(filter).unwrap_err().to_string();
            let found = format!("found the log filter {part:?}, wanted off, error,");
            assert!(refused.starts_with(&found), "{refused}");
        }
    }

    #[test]
    fn bad_filter_is_refused_before_the_log_is_touched() {
        let config = Config {
            filter: "loud".to_owned(),
            ..Config::default()
        };
        assert!(matches!(init(&config), Err(LogError::Filter { .. })));
    }
}
