//! `tidegate schema lint`: what would be refused in schema files, and what will hurt later.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::io::AsyncWrite;

use crate::{
    cli::{
        exit::Failure,
        output::{Format, Output, OutputArgs, Record, note, printable, warn},
    },
    schema::{files, finding::Finding, lint},
};

/// Arguments of `tidegate schema lint`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Avro schemas, one in each file
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fail for advice too, not only for what a gateway refuses
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut output = Output::stdout(args.output);
    let found = lint_files(&args.files, &mut output).await?;
    found.outcome(args.files.len(), args.strict)
}

/// How many files have what.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Files that cannot be read.
    unreadable: usize,
    /// Files that a gateway would refuse.
    refused: usize,
    /// Files with advice, and nothing that would be refused.
    advised: usize,
}

impl Found {
    fn outcome(&self, files: usize, strict: bool) -> Result<(), Failure> {
        let mut reasons = Vec::new();
        let mut say = |count: usize, what: &str| {
            if count > 0 {
                reasons.push(format!("{count} of {files} files {what}"));
            }
        };
        say(self.unreadable, "cannot be read");
        say(self.refused, "would be refused");
        if strict {
            say(self.advised, "could be better");
        }
        if reasons.is_empty() {
            if self.advised == 0 {
                note("nothing was found");
            }
            return Ok(());
        }
        Err(Failure::failed(reasons.join(", ")))
    }
}

async fn lint_files<W: AsyncWrite + Unpin>(
    files: &[PathBuf],
    output: &mut Output<W>,
) -> Result<Found, Failure> {
    let mut found = Found::default();
    for path in files {
        let text = match files::read_text(path) {
            Ok(text) => text,
            Err(error) => {
                warn(&format!("{}: {error}", path.display()));
                found.unreadable += 1;
                continue;
            }
        };
        let findings = lint::findings_of_text(&text);
        if !findings.iter().all(lint::is_advice) {
            found.refused += 1;
        } else if !findings.is_empty() {
            found.advised += 1;
        }
        for finding in findings {
            let row = FindingRow::new(path, finding);
            output.record(&row);
            if output.format() == Format::Text {
                output.document(&format!("  fix: {}", printable(&row.fix)));
            }
        }
        output.flush().await?;
    }
    Ok(found)
}

/// Something that was found. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct FindingRow {
    file: String,
    /// From 1; null where it is not known.
    line: Option<usize>,
    /// Empty if the file as a whole is meant.
    path: String,
    rule: &'static str,
    message: String,
    fix: String,
    /// Whether a gateway with every check on refuses the schema for it.
    refused: bool,
}

impl FindingRow {
    fn new(file: &Path, finding: Finding) -> Self {
        Self {
            file: file.display().to_string(),
            refused: !lint::is_advice(&finding),
            line: finding.line,
            path: finding.path,
            rule: finding.rule,
            message: finding.message,
            fix: finding.fix,
        }
    }
}

impl Record for FindingRow {
    fn text(&self) -> String {
        let mut place = self.file.clone();
        if let Some(line) = self.line {
            place.push_str(&format!(":{line}"));
        }
        if !self.path.is_empty() {
            place.push_str(&format!(": {}", self.path));
        }
        format!("{place}: {} [{}]", self.message, self.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{exit::Exit, fake_gateway::ORDER_CREATED};

    /// What is written for files with these texts, with the directory taken out of it.
    async fn linted(format: Format, texts: &[&str]) -> (Found, String) {
        let directory = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let path = directory.path().join(format!("{index}.avsc"));
            std::fs::write(&path, text).unwrap();
            paths.push(path);
        }
        paths.push(directory.path().join("none"));
        let mut output = Output::new(format, Vec::new());
        let found = lint_files(&paths, &mut output).await.unwrap();
        let text = String::from_utf8(output.into_writer()).unwrap();
        let place = format!("{}/", directory.path().display());
        (found, text.replace(&place, ""))
    }

    fn texts() -> [String; 3] {
        [
            ORDER_CREATED.to_owned(),
            ORDER_CREATED.replace("double", "float"),
            format!("{}\noops", ORDER_CREATED),
        ]
    }

    #[tokio::test]
    async fn findings_are_lines_with_their_place_and_a_fix() {
        let [clean, advised, refused] = texts();
        let (found, text) = linted(Format::Text, &[&clean, &advised, &refused]).await;
        let counts = Found {
            unreadable: 1,
            refused: 1,
            advised: 1,
        };
        assert_eq!(found, counts);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[0].starts_with("1.avsc:")
                && lines[0].contains(": OrderCreated__e.Amount__c: is a float")
                && lines[0].ends_with(" [float-loses-digits]"),
            "{text}"
        );
        assert!(lines[1].starts_with("  fix: "), "{text}");
        assert!(
            lines[2].starts_with("2.avsc:") && lines[2].ends_with(" [not-json]"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn findings_are_objects_for_scripts() {
        let [_, advised, refused] = texts();
        let (_, text) = linted(Format::Json, &[&advised, &refused]).await;
        let rows: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let keys: Vec<_> = rows[0].as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            ["file", "line", "path", "rule", "message", "fix", "refused"]
        );
        assert_eq!(rows[0]["refused"], false);
        assert_eq!(rows[1]["refused"], true);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn advice_fails_only_if_that_is_asked_for() {
        let advised = Found {
            advised: 1,
            ..Found::default()
        };
        assert!(advised.outcome(2, false).is_ok());
        assert_eq!(advised.outcome(2, true).unwrap_err().exit(), Exit::Failed);
        assert!(Found::default().outcome(2, true).is_ok());
        let refused = Found {
            refused: 1,
            unreadable: 1,
            ..Found::default()
        };
        assert_eq!(
            refused.outcome(2, false).unwrap_err().to_string(),
            "1 of 2 files cannot be read, 1 of 2 files would be refused"
        );
    }
}
