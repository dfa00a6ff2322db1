//! Where events come from: lines of JSON, or an Avro container file, told by its first bytes.

use std::{fmt, io};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, Chain};

use super::{
    container::{Container, MAGIC},
    input::Lines,
};
use crate::schema::Schema;

/// An input.
#[derive(Debug)]
pub(super) struct Source<R> {
    kind: Kind<R>,
    /// How many bytes the input had when it was opened, if it is a file.
    pub(super) bytes: Option<u64>,
}

#[derive(Debug)]
enum Kind<R> {
    /// Nothing but the first bytes was read, so far as they are those of a container.
    Unknown(Option<R>, Vec<u8>),
    Lines(Lines<R>),
    LinesAfter(Lines<Peeked<R>>),
    Container(Container<Peeked<R>>),
}

/// A reader whose first bytes were read already.
type Peeked<R> = Chain<io::Cursor<Vec<u8>>, R>;

/// What a result is told to be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is only one event.
    Only,
    /// A line, counted from 1.
    Line(u64),
    /// An event, counted from 1.
    Event(u64),
}

/// What may be an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) content: Content,
}

/// The form that it has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON, or `None` for a line that is longer than any event.
    Line(Option<Vec<u8>>),
    /// A record of the container's schema.
    Datum(Bytes),
}

impl<R: AsyncRead + Unpin> Source<R> {
    /// The events of `reader`, in either form.
    pub(super) fn new(reader: R) -> Self {
        Self {
            kind: Kind::Unknown(Some(reader), Vec::new()),
            bytes: None,
        }
    }

    /// All of `reader` as one event in JSON.
    pub(super) fn single(reader: R) -> Self {
        Self {
            kind: Kind::Lines(Lines::single(reader)),
            bytes: None,
        }
    }

    /// Bytes of the input that were read, to show progress by.
    pub(super) fn bytes_read(&self) -> u64 {
        match &self.kind {
            Kind::Unknown(_, peeked) => peeked.len() as u64,
            Kind::Lines(lines) => lines.bytes_read(),
            Kind::LinesAfter(lines) => lines.bytes_read(),
            Kind::Container(container) => container.bytes_read(),
        }
    }

    /// The schema that the events of a container were written with.
    pub(super) fn schema(&self) -> Option<&Schema> {
        match &self.kind {
            Kind::Container(container) => container.schema(),
            Kind::Unknown(..) | Kind::Lines(_) | Kind::LinesAfter(_) => None,
        }
    }

    /// The next item; `None` at the end of the input.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read is kept.
    pub(super) async fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            let line = match &mut self.kind {
                Kind::Unknown(reader, peeked) => {
                    let unread = reader.as_mut().expect("it is taken when the kind is known");
                    let mut byte = [0];
                    // No more than tells them apart: whoever types waits for the rest of a line.
                    let read = unread.read(&mut byte).await?;
                    peeked.extend_from_slice(&byte[..read]);
                    let is_container = peeked == MAGIC;
                    if is_container || read == 0 || !MAGIC.starts_with(peeked) {
                        let reader = reader.take().expect("it was just read from");
                        let whole = io::Cursor::new(std::mem::take(peeked)).chain(reader);
                        self.kind = match is_container {
                            true => Kind::Container(Container::new(whole)),
                            false => Kind::LinesAfter(Lines::new(whole)),
                        };
                    }
                    continue;
                }
                Kind::Container(container) => {
                    return Ok(container.next().await?.map(|datum| Item {
                        place: Place::Event(datum.number),
                        content: Content::Datum(datum.payload),
                    }));
                }
                Kind::Lines(lines) => lines.next().await?,
                Kind::LinesAfter(lines) => lines.next().await?,
            };
            return Ok(line.map(|line| Item {
                place: line.number.map_or(Place::Only, Place::Line),
                content: Content::Line(line.text),
            }));
        }
    }
}

/// What an error begins with.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Line(number) => write!(f, "line {number}: "),
            Self::Event(number) => write!(f, "event {number}: "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{fake_gateway::ORDER_CREATED, publish::container::tests::container};

    async fn items(input: &[u8]) -> Vec<Item> {
        let mut source = Source::new(input);
        let mut items = Vec::new();
        while let Some(item) = source.next().await.unwrap() {
            items.push(item);
        }
        assert_eq!(source.bytes_read(), input.len() as u64);
        items
    }

    #[tokio::test]
    async fn lines_are_told_from_a_container_by_their_first_bytes() {
        for text in ["{}\n", "Obj", "Objects\n", "O\n", "\n\nObj\u{1}"] {
            for item in items(text.as_bytes()).await {
                assert!(matches!(item.content, Content::Line(Some(_))), "{text}");
            }
        }
        assert!(items(b"").await.is_empty());
        assert!(items(b"\n").await.is_empty());
        let items = items(&container(ORDER_CREATED, "null", 3)).await;
        let places: Vec<_> = items.iter().map(|item| item.place).collect();
        assert_eq!(places, [Place::Event(1), Place::Event(2), Place::Event(3)]);
    }

    #[tokio::test]
    async fn a_line_is_there_before_the_next_one_is_typed() {
        let (mut typed, read) = tokio::io::duplex(64);
        let mut source = Source::new(read);
        tokio::io::AsyncWriteExt::write_all(&mut typed, b"1\n")
            .await
            .unwrap();
        let item = source.next().await.unwrap().unwrap();
        assert_eq!(item.content, Content::Line(Some(b"1".to_vec())));
        assert_eq!(item.place.to_string(), "line 1: ");
    }
}
