//! The size of a payload's JSON text, without making it: a sink of the walker.
//!
//! The text is what `serde_json` writes without spaces. The size is exact but for floats and
//! doubles, which count as the longest; a map with a key twice, of which both count; and a null in
//! a union whose other values are wrapped, which counts as if it were, too.

use super::EXACT_MAX;
use crate::schema::{
    error::PayloadError,
    program::{Program, RecordType, UnionType},
    walk::{Sink, walk},
};

pub(in crate::schema) fn text_bytes_max(
    program: &Program,
    payload: &[u8],
) -> Result<usize, PayloadError> {
    walk(program, payload, &mut Measure)
}

struct Measure;

/// Bytes of `-1.7976931348623157e+308`, than which no double is longer.
const DOUBLE_BYTES_MAX: usize = 24;
/// Brackets or quotes.
const ENCLOSED: usize = 2;

/// The bytes of a list in brackets so far, with a comma after each item.
type List = usize;

fn end(list: List) -> usize {
    // The last item has no comma.
    ENCLOSED + list.saturating_sub(1)
}

/// Bytes of the character as `serde_json` writes it.
fn escaped(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => "\\u0000".len(),
        other => other.len_utf8(),
    }
}

fn text(text: &str) -> usize {
    ENCLOSED + text.chars().map(escaped).sum::<usize>()
}

/// A name of Avro has no character that is escaped, and may be long: it is not looked through.
fn name(name: &str) -> usize {
    ENCLOSED + name.len()
}

fn digits(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(value < 0)
}

impl<'a> Sink<'a> for Measure {
    type Value = usize;
    type Record = List;
    type Array = List;
    type Map = List;

    fn null(&mut self) -> usize {
        "null".len()
    }

    fn boolean(&mut self, value: bool) -> usize {
        if value { "true".len() } else { "false".len() }
    }

    fn int(&mut self, value: i32) -> usize {
        digits(value.into())
    }

    fn long(&mut self, value: i64) -> usize {
        let is_number = (-EXACT_MAX..=EXACT_MAX).contains(&value);
        digits(value) + if is_number { 0 } else { ENCLOSED }
    }

    fn float(&mut self, _: f32) -> usize {
        DOUBLE_BYTES_MAX
    }

    fn double(&mut self, _: f64) -> usize {
        DOUBLE_BYTES_MAX
    }

    fn bytes(&mut self, value: &'a [u8]) -> usize {
        ENCLOSED
            + value
                .iter()
                .map(|&byte| escaped(byte.into()))
                .sum::<usize>()
    }

    fn string(&mut self, value: &'a str) -> usize {
        text(value)
    }

    fn symbol(&mut self, symbol: &str) -> usize {
        name(symbol)
    }

    fn branch(&mut self, union: &UnionType, branch: usize, value: usize) -> usize {
        if union.is_plain {
            return value;
        }
        let mut object = 0;
        put_entry(&mut object, name(&union.branch_names()[branch]), value);
        end(object)
    }

    fn record(&mut self, _: &RecordType) -> List {
        0
    }

    fn field(&mut self, into: &mut List, record: &RecordType, field: usize, value: usize) {
        put_entry(into, name(record.fields()[field].name()), value);
    }

    fn end_record(&mut self, into: List) -> usize {
        end(into)
    }

    fn array(&mut self) -> List {
        0
    }

    fn item(&mut self, into: &mut List, value: usize) {
        *into = into.saturating_add(value).saturating_add(",".len());
    }

    fn end_array(&mut self, into: List) -> usize {
        end(into)
    }

    fn map(&mut self) -> List {
        0
    }

    fn entry(&mut self, into: &mut List, key: &'a str, value: usize) {
        put_entry(into, text(key), value);
    }

    fn end_map(&mut self, into: List) -> usize {
        end(into)
    }
}

fn put_entry(list: &mut List, key: usize, value: usize) {
    *list = list.saturating_add(key + ":,".len()).saturating_add(value);
}
