//! Results on standard output, for people or for programs; everything else on standard error.
//!
//! Text is one line for each result, lists are aligned. JSON is one object a line, with the keys
//! that each result's type documents; keys are added, never renamed. Replay ids are lower-case hex.

use std::{borrow::Cow, time::Duration};

use clap::ValueEnum;
use serde::Serialize;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::sleep,
};

use super::exit::{Failure, output_failed};

/// How long results may take to be read after the process was asked to end.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// What results are written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // Without doc comments, so that the help says no more than their names.
    #[default]
    Text,
    Json,
}

/// The option that every command with results has.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct OutputArgs {
    /// Write results for people or as one JSON object a line.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) output: Format,
}

/// One result. Its serialized form is the JSON that scripts rely on.
pub(super) trait Record: Serialize {
    /// The result as one line for people.
    fn text(&self) -> String;

    /// What follows that line, each a line of its own.
    fn details(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One row of a list. Its serialized form is the JSON that scripts rely on.
pub(super) trait Row: Serialize {
    /// What the columns are called.
    const HEADERS: &'static [&'static str];

    /// The cells, as many as there are headers.
    fn cells(&self) -> Vec<String>;
}

/// Where results go. They are gathered until [`Output::flush`].
#[derive(Debug)]
pub(super) struct Output<W> {
    format: Format,
    buffer: Vec<u8>,
    writer: W,
}

impl Output<tokio::io::Stdout> {
    /// Standard output, written by a thread that no signal has to wait for.
    pub(super) fn stdout(args: OutputArgs) -> Self {
        Self::new(args.output, tokio::io::stdout())
    }
}

impl<W: AsyncWrite + Unpin> Output<W> {
    /// Results in `format` for `writer`.
    pub(super) fn new(format: Format, writer: W) -> Self {
        Self {
            format,
            buffer: Vec::new(),
            writer,
        }
    }

    /// What results are written as.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Adds a result.
    pub(super) fn record(&mut self, record: &impl Record) {
        match self.format {
            Format::Text => {
                self.text_line(&record.text());
                record
                    .details()
                    .iter()
                    .for_each(|line| self.text_line(line));
            }
            Format::Json => self.json_line(record),
        }
    }

    /// Adds a list, which must be whole: its columns are as wide as their widest cells.
    pub(super) fn list<R: Row>(&mut self, rows: &[R]) {
        match self.format {
            Format::Text => self.table(rows),
            Format::Json => rows.iter().for_each(|row| self.json_line(row)),
        }
    }

    /// Begins a list whose rows come one after the other, in columns of these widths; in JSON there is
    /// nothing to begin.
    pub(super) fn headers<R: Row>(&mut self, widths: &[usize]) {
        if self.format == Format::Text {
            self.cells(&headers::<R>(), widths);
        }
    }

    /// Adds rows to a list that [`Self::headers`] began.
    pub(super) fn rows<R: Row>(&mut self, rows: &[R], widths: &[usize]) {
        for row in rows {
            match self.format {
                Format::Text => self.cells(&row.cells(), widths),
                Format::Json => self.json_line(row),
            }
        }
    }

    /// Adds text as it is, which is not a line of results but a document.
    pub(super) fn document(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
        if !text.ends_with('\n') {
            self.buffer.push(b'\n');
        }
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    ///
    /// [`Failure::OutputClosed`] when nobody reads any more.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        let written = async {
            self.writer.write_all(&self.buffer).await?;
            self.writer.flush().await
        };
        let too_late = async {
            super::interrupted().await;
            sleep(READ_WITHIN).await;
        };
        tokio::select! {
            biased;
            written = written => written.map_err(output_failed)?,
            // Somebody who reads no more, and has not gone away, would keep the process for ever.
            () = too_late => return Err(Failure::failed("stopped: nobody reads the results")),
        }
        self.buffer.clear();
        Ok(())
    }

    /// What was written.
    #[cfg(test)]
    pub(super) fn into_writer(self) -> W {
        assert!(self.buffer.is_empty(), "results were not flushed");
        self.writer
    }

    fn text_line(&mut self, line: &str) {
        self.buffer.extend_from_slice(printable(line).as_bytes());
        self.buffer.push(b'\n');
    }

    fn json_line(&mut self, value: &impl Serialize) {
        serde_json::to_writer(&mut self.buffer, value)
            .expect("results have text keys, and memory takes every byte");
        self.buffer.push(b'\n');
    }

    fn table<R: Row>(&mut self, rows: &[R]) {
        if rows.is_empty() {
            return;
        }
        let lines: Vec<Vec<String>> = std::iter::once(headers::<R>())
            .chain(rows.iter().map(Row::cells))
            .collect();
        let widths: Vec<usize> = (0..R::HEADERS.len())
            .map(|column| {
                let cells = lines.iter().map(|line| line[column].chars().count());
                cells.max().unwrap_or(0)
            })
            .collect();
        lines.iter().for_each(|line| self.cells(line, &widths));
    }

    fn cells(&mut self, cells: &[String], widths: &[usize]) {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        self.text_line(padded.join("  ").trim_end());
    }
}

fn headers<R: Row>() -> Vec<String> {
    let headers = R::HEADERS.iter().map(|&header| header.to_owned());
    headers.collect()
}

/// Text without characters that would move a terminal's cursor or end the line: what a peer sent
/// is shown, not obeyed.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.replace(char::is_control, "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// Bytes as lower-case hex, which is how replay ids are shown.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time in milliseconds since the epoch, as RFC 3339 in UTC; empty for zero, which means none.
pub(super) fn time(millis: i64) -> String {
    if millis == 0 {
        return String::new();
    }
    jiff::Timestamp::from_millisecond(millis)
        .map_or_else(|_| millis.to_string(), |time| time.to_string())
}

/// Says something on standard error.
pub(super) fn note(message: &str) {
    anstream::eprintln!("{}", printable(message));
}

/// Says on standard error what went wrong and did not end the command.
pub(super) fn warn(message: &str) {
    anstream::eprintln!("\u{1b}[1;33mwarning:\u{1b}[0m {}", printable(message));
}

/// Says on standard error what ended the command. Each further line is a reason of its own.
pub(super) fn error(message: &str) {
    for line in message.lines() {
        anstream::eprintln!("\u{1b}[1;31merror:\u{1b}[0m {}", printable(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Sample {
        name: &'static str,
        count: u32,
    }

    impl Record for Sample {
        fn text(&self) -> String {
            format!("{} {}", self.name, self.count)
        }
    }

    impl Row for Sample {
        const HEADERS: &'static [&'static str] = &["NAME", "COUNT"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.count.to_string()]
        }
    }

    const SAMPLES: [Sample; 2] = [
        Sample {
            name: "événement",
            count: 1,
        },
        Sample {
            name: "b",
            count: 20,
        },
    ];

    async fn written(format: Format, add: impl FnOnce(&mut Output<Vec<u8>>)) -> String {
        let mut output = Output::new(format, Vec::new());
        add(&mut output);
        output.flush().await.unwrap();
        String::from_utf8(output.into_writer()).unwrap()
    }

    #[tokio::test]
    async fn lists_are_aligned_for_people() {
        let text = written(Format::Text, |output| output.list(&SAMPLES)).await;
        assert_eq!(text, "NAME       COUNT\névénement  1\nb          20\n");
        let nothing = written(Format::Text, |output| output.list::<Sample>(&[])).await;
        assert_eq!(nothing, "");
    }

    #[tokio::test]
    async fn json_is_one_object_a_line() {
        let json = written(Format::Json, |output| {
            output.list(&SAMPLES);
            output.record(&SAMPLES[1]);
        })
        .await;
        assert_eq!(
            json,
            "{\"name\":\"événement\",\"count\":1}\n{\"name\":\"b\",\"count\":20}\n{\"name\":\"b\",\"count\":20}\n"
        );
    }

    #[tokio::test]
    async fn foreign_text_cannot_steer_a_terminal_or_forge_a_line() {
        let hostile = Sample {
            name: "a\u{1b}[2J\nforged\u{9b}",
            count: 1,
        };
        let text = written(Format::Text, |output| output.record(&hostile)).await;
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
    }

    #[test]
    fn hex_is_lower_case() {
        assert_eq!(hex(&[0, 0x4d, 0xff]), "004dff");
    }
}
