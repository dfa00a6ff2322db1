//! The JSON text of a schema as it stands: with lines, and with keys that stand twice.
//!
//! A JSON parser forgets both, and an author needs them. This reader is for texts that such a parser
//! took: it checks brackets and quotes, and leaves numbers and words as they are. Work and memory
//! are bounded by the text, recursion by [`SCHEMA_DEPTH_MAX`].

use std::borrow::Cow;

use crate::types::limits::SCHEMA_DEPTH_MAX;

/// A JSON value and where it begins.
#[derive(Debug)]
pub(super) struct Node<'t> {
    /// From 1.
    pub(super) line: usize,
    /// The value as it is written.
    pub(super) text: &'t str,
    pub(super) kind: Kind<'t>,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind<'t> {
    /// Null, a boolean or a number; its text tells which.
    Scalar,
    Text(Cow<'t, str>),
    Array(Vec<Node<'t>>),
    Object(Vec<Entry<'t>>),
}

/// A key of an object and its value. A key may come twice.
#[derive(Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: Cow<'t, str>,
    /// The line of the key, from 1.
    pub(super) line: usize,
    pub(super) value: Node<'t>,
}

/// The entries of an object, in the order in which they are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'n, 't>(pub(super) &'n [Entry<'t>]);

impl<'t> Node<'t> {
    /// Reads a whole text; none if it is not JSON or nests too deep.
    pub(super) fn read(text: &'t str) -> Option<Self> {
        let mut reader = Reader {
            text,
            at: 0,
            line: 1,
        };
        let node = reader.value(0)?;
        reader.skip_space();
        (reader.at == text.len()).then_some(node)
    }

    pub(super) fn is_null(&self) -> bool {
        self.text == "null"
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_array(&self) -> Option<&[Node<'t>]> {
        match &self.kind {
            Kind::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn as_object(&self) -> Option<Object<'_, 't>> {
        match &self.kind {
            Kind::Object(entries) => Some(Object(entries)),
            _ => None,
        }
    }
}

impl<'n, 't> Object<'n, 't> {
    /// The entry of `key`; of several the last one, which is the one that was parsed.
    pub(super) fn entry(self, key: &str) -> Option<&'n Entry<'t>> {
        self.0.iter().rfind(|entry| entry.key == key)
    }

    /// The value of `key`.
    pub(super) fn get(self, key: &str) -> Option<&'n Node<'t>> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of `key` if it is a string.
    pub(super) fn text(self, key: &str) -> Option<&'n str> {
        self.get(key).and_then(Node::as_text)
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    line: usize,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.line += usize::from(byte == b'\n');
            self.at += 1;
        }
    }

    /// The next byte that is not space, if it is `wanted`.
    fn take(&mut self, wanted: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<Node<'t>> {
        if depth > SCHEMA_DEPTH_MAX {
            return None;
        }
        self.skip_space();
        let (start, line) = (self.at, self.line);
        let kind = match self.peek()? {
            b'"' => Kind::Text(self.string()?),
            b'[' => Kind::Array(self.items(b']', |reader| reader.value(depth + 1))?),
            b'{' => Kind::Object(self.items(b'}', |reader| reader.entry(depth + 1))?),
            _ => self.scalar()?,
        };
        Some(Node {
            line,
            text: &self.text[start..self.at],
            kind,
        })
    }

    /// What stands between brackets, the first of which is next.
    fn items<T>(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(end).is_some() {
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(b',').is_none() {
                return self.take(end).map(|()| items);
            }
        }
    }

    fn entry(&mut self, depth: usize) -> Option<Entry<'t>> {
        self.skip_space();
        let line = self.line;
        let key = self.string()?;
        self.take(b':')?;
        let value = self.value(depth)?;
        Some(Entry { key, line, value })
    }

    fn string(&mut self) -> Option<Cow<'t, str>> {
        let start = self.at;
        self.take(b'"')?;
        let mut is_escaped = false;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    is_escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = &self.text[start..self.at];
        if is_escaped {
            serde_json::from_str(quoted).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
        }
    }

    fn scalar(&mut self) -> Option<Kind<'t>> {
        let start = self.at;
        while let Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.') = self.peek() {
            self.at += 1;
        }
        (self.at > start).then_some(Kind::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_keys_that_stand_twice_are_kept() {
        let text =
            "\n{ \"a\":\n[1, -2.5E+3,\n null],\n\"b\": \"x\\\"\\u00e9\\\\\", \"a\"\n: {} }\n";
        let node = Node::read(text).unwrap();
        assert_eq!(node.line, 2);
        let object = node.as_object().unwrap();
        let keys = object.0.iter().map(|entry| (&*entry.key, entry.line));
        let keys: Vec<_> = keys.collect();
        assert_eq!(keys, [("a", 2), ("b", 5), ("a", 5)]);
        let items = object.0[0].value.as_array().unwrap();
        let items: Vec<_> = items.iter().map(|item| (item.text, item.line)).collect();
        assert_eq!(items, [("1", 3), ("-2.5E+3", 3), ("null", 4)]);
        assert_eq!(object.text("b"), Some("x\"é\\"));
        // The last one counts, as it does for the parser.
        assert!(object.get("a").unwrap().as_object().unwrap().0.is_empty());
    }

    #[test]
    fn text_that_is_not_json_is_not_read() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "\"a",
            "\"a\\",
            "1 2",
            "[1}",
            "{a:1}",
            "é",
            "\"\\é\"",
        ] {
            assert!(Node::read(text).is_none(), "{text}");
        }
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Node::read(&deep(SCHEMA_DEPTH_MAX)).is_some());
        assert!(Node::read(&deep(100_000)).is_none());
    }
}
