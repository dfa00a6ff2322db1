//! The lines of a file or of standard input, in bounded memory.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use crate::types::limits::PUBLISH_LINE_BYTES_MAX;

/// Bytes read at once. A few thousand events: as long as more of them are at hand, requests are
/// filled up before they are sent.
const BUFFER_BYTES: usize = 256 * 1024;

/// A reader's lines; blank ones are left out.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// Whether all of the input is one event, which has no line number to be told apart by.
    is_single: bool,
    number: u64,
    line: Vec<u8>,
    is_too_long: bool,
    bytes_read: u64,
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Counted from 1; `None` when there are no others.
    pub(super) number: Option<u64>,
    /// The text, or `None` for a line longer than any event is.
    pub(super) text: Option<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The lines of `reader`.
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, reader),
            is_single: false,
            number: 0,
            line: Vec::new(),
            is_too_long: false,
            bytes_read: 0,
        }
    }

    /// All of `reader` as if it were one line.
    pub(super) fn single(reader: R) -> Self {
        Self {
            is_single: true,
            ..Self::new(reader)
        }
    }

    /// Bytes of the input that were read, to show progress by.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The next line; `None` at the end of the input.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read of a line is kept.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let available = self.reader.fill_buf().await?;
            let is_end = available.is_empty();
            let line_end = match self.is_single {
                true => None,
                false => available.iter().position(|&byte| byte == b'\n'),
            };
            let part = &available[..line_end.unwrap_or(available.len())];
            if self.line.len() + part.len() > PUBLISH_LINE_BYTES_MAX {
                self.is_too_long = true;
                self.line = Vec::new();
            }
            if !self.is_too_long {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(line_end.is_some());
            self.reader.consume(used);
            self.bytes_read += used as u64;
            if line_end.is_none() && !is_end {
                continue;
            }
            self.number += 1;
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if is_end {
                return Ok(None);
            }
        }
    }

    /// The line that was gathered, unless it is blank. Only an event given by itself may be blank:
    /// it is refused, and not passed over.
    fn take_line(&mut self) -> Option<Line> {
        let is_too_long = std::mem::take(&mut self.is_too_long);
        let text = std::mem::take(&mut self.line);
        let is_blank = text.trim_ascii().is_empty();
        let is_single_event = self.is_single && self.number == 1;
        if is_blank && !is_too_long && !is_single_event {
            return None;
        }
        Some(Line {
            number: (!self.is_single).then_some(self.number),
            text: (!is_too_long).then_some(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8]) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(text);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            let text = line.text.map(|text| String::from_utf8(text).unwrap());
            found.push((line.number.unwrap(), text));
        }
        assert_eq!(lines.bytes_read(), text.len() as u64);
        found
    }

    #[tokio::test]
    async fn blank_lines_count_and_are_left_out() {
        assert_eq!(
            lines(b"a\n\n  \r\nb").await,
            [(1, Some("a".into())), (4, Some("b".into()))]
        );
        assert_eq!(lines(b"").await, []);
        assert_eq!(lines(b"a\n").await, [(1, Some("a".into()))]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_passed_over() {
        let mut text = vec![b'x'; PUBLISH_LINE_BYTES_MAX + 1];
        text.extend_from_slice(b"\nnext\n");
        assert_eq!(lines(&text).await, [(1, None), (2, Some("next".into()))]);
    }

    #[tokio::test]
    async fn a_single_event_may_span_lines_and_is_never_passed_over() {
        let mut single = Lines::single(&b"{\n}\n"[..]);
        let line = single.next().await.unwrap().unwrap();
        assert_eq!(
            (line.number, line.text.unwrap()),
            (None, b"{\n}\n".to_vec())
        );
        assert_eq!(single.next().await.unwrap(), None);

        let mut blank = Lines::single(&b""[..]);
        assert!(blank.next().await.unwrap().is_some());
        assert!(blank.next().await.unwrap().is_none());
    }
}
