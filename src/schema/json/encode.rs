//! From JSON to a payload, with refusals that help whoever typed it.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use super::{EXACT_MAX, JsonTypes, type_of};
use crate::{
    schema::{
        error::{JsonError, Segment, path_text},
        program::{NullBranch, Op, Program, RecordType, Step, UnionType},
    },
    types::limits::{EVENT_BYTES_MAX, PAYLOAD_ITEMS_MAX, SCHEMA_DEPTH_MAX},
};

/// What leads every platform event and is known without its publisher.
///
/// `CreatedDate` is filled in where it is a plain long, `CreatedById` where it is a plain string,
/// and only in the outermost record; in a change event both are nullable, and absent means null.
#[derive(Clone, Copy, Debug)]
pub struct Fill<'a> {
    /// When the event is published, in milliseconds since the Unix epoch.
    pub created_date_ms: i64,
    /// The 18-character id of who publishes it.
    pub created_by_id: &'a str,
}

impl Fill<'_> {
    /// The id of no user: what `CreatedById` says of an event whose publisher is none.
    pub const NOBODY: &'static str = "005000000000000AAA";
}

pub(in crate::schema) fn encode(
    program: &Program,
    json: &Value,
    fill: &Fill<'_>,
) -> Result<Vec<u8>, JsonError> {
    let mut encoder = Encoder::new(program, Some(fill));
    let root = Step {
        op: Op::Record(program.root_index()),
        null: NullBranch::None,
    };
    encoder.value(root, json, 0)?;
    Ok(encoder.out)
}

/// Writes the default of a field of this type. In a default no union is wrapped; the first branch
/// that has values of the JSON type is meant.
pub(in crate::schema) fn encode_default(
    program: &Program,
    step: Step,
    json: &Value,
) -> Result<Vec<u8>, JsonError> {
    let mut encoder = Encoder::new(program, None);
    encoder.value(step, json, 1)?;
    Ok(encoder.out)
}

struct Encoder<'p, 'f> {
    program: &'p Program,
    /// Absent when a default is written.
    fill: Option<&'f Fill<'f>>,
    out: Vec<u8>,
    path: Vec<Segment<'p>>,
    items_left: u64,
}

impl<'p, 'f> Encoder<'p, 'f> {
    fn new(program: &'p Program, fill: Option<&'f Fill<'f>>) -> Self {
        Self {
            program,
            fill,
            out: Vec::new(),
            path: Vec::new(),
            items_left: PAYLOAD_ITEMS_MAX,
        }
    }

    /// Writes one value. `depth` counts the records, arrays and maps around it.
    fn value(&mut self, step: Step, json: &Value, depth: usize) -> Result<(), JsonError> {
        let (null, other) = match step.null {
            NullBranch::None => return self.op(step, json, depth),
            NullBranch::First => (0, 1),
            NullBranch::Second => (1, 0),
        };
        if json.is_null() {
            return self.long(null);
        }
        self.long(other)?;
        self.op(step, json, depth)
    }

    /// Writes a value that is not null by way of `step.null`, which only colours the errors.
    fn op(&mut self, step: Step, json: &Value, depth: usize) -> Result<(), JsonError> {
        let program = self.program;
        match (step.op, json) {
            (Op::Null, Value::Null) => Ok(()),
            (Op::Boolean, &Value::Bool(value)) => self.put(&[u8::from(value)]),
            (Op::Int, Value::Number(number)) => match whole(number).map(i32::try_from) {
                Some(Ok(value)) => self.long(value.into()),
                Some(Err(_)) | None => Err(self.out_of_range(step)),
            },
            (Op::Long, Value::Number(number)) => match whole(number) {
                Some(value) => self.long(value),
                None => Err(self.out_of_range(step)),
            },
            (Op::Long, Value::String(digits)) => match digits.parse() {
                Ok(value) => self.long(value),
                Err(_) => Err(self.out_of_range(step)),
            },
            (Op::Float | Op::Double, Value::Number(_) | Value::String(_)) => self.float(step, json),
            (Op::Bytes, Value::String(text)) => {
                let bytes = self.latin1(step, text)?;
                self.sized(&bytes)
            }
            (Op::Fixed(index), Value::String(text)) => {
                let bytes = self.latin1(step, text)?;
                if bytes.len() != program.fixed[index as usize].size {
                    return Err(self.out_of_range(step));
                }
                self.put(&bytes)
            }
            (Op::String, Value::String(text)) => self.sized(text.as_bytes()),
            (Op::Enum(index), Value::String(text)) => {
                let symbols = &program.enums[index as usize].symbols;
                match symbols.iter().position(|symbol| symbol == text) {
                    Some(symbol) => self.long(symbol as i64),
                    None => Err(self.out_of_range(step)),
                }
            }
            (Op::Array(item), Value::Array(items)) => {
                let item = program.steps[item as usize];
                self.items(items.iter(), depth, Segment::Item, |encoder, json| {
                    encoder.value(item, json, depth + 1)
                })
            }
            (Op::Map(value), Value::Object(entries)) => {
                let value = program.steps[value as usize];
                self.items(
                    entries.iter(),
                    depth,
                    Segment::Entry,
                    |encoder, (key, json)| {
                        encoder.sized(key.as_bytes())?;
                        encoder.value(value, json, depth + 1)
                    },
                )
            }
            (Op::Record(record), Value::Object(fields)) => {
                self.record(&program.records[record as usize], fields, depth + 1)
            }
            (Op::Union(union), json) => {
                self.union(step, &program.unions[union as usize], json, depth)
            }
            _ => Err(self.wrong_type(step, json)),
        }
    }

    fn record(
        &mut self,
        record: &'p RecordType,
        json: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), JsonError> {
        self.check_depth(depth)?;
        self.spend(record.free_items)?;
        self.check_names(record, json)?;
        let steps = &self.program.steps[record.steps.clone()];
        for (field, &step) in record.fields().iter().zip(steps) {
            self.path.push(Segment::Field(field.name()));
            match json.get(field.name()) {
                Some(value) => self.value(step, value, depth)?,
                None if depth == 1 && self.fill_in(field.name(), step)? => {}
                None => self.absent(field.default.as_deref(), step)?,
            }
            self.path.pop();
        }
        Ok(())
    }

    /// A name that is not a field's is more likely a slip than data to drop.
    fn check_names(&self, record: &RecordType, json: &Map<String, Value>) -> Result<(), JsonError> {
        let fields = record.fields();
        let known = fields
            .iter()
            .filter(|field| json.contains_key(field.name()));
        if known.count() == json.len() {
            return Ok(());
        }
        let names: HashSet<&str> = fields.iter().map(|field| field.name()).collect();
        let Some(unknown) = json.keys().find(|&name| !names.contains(name.as_str())) else {
            return Ok(());
        };
        let shown: String = unknown.chars().take(SHOWN_NAME_CHARS_MAX).collect();
        let mut path = self.path.clone();
        path.push(Segment::Field(&shown));
        Err(JsonError::UnknownField {
            record: record.name().to_owned(),
            field: path_text(path.iter()),
            nearest: nearest(&shown, fields.iter().map(|field| field.name())),
        })
    }

    /// Writes a field that is known without its publisher; says whether this is one.
    fn fill_in(&mut self, name: &str, step: Step) -> Result<bool, JsonError> {
        let Some(fill) = self.fill.filter(|_| step.null == NullBranch::None) else {
            return Ok(false);
        };
        match (name, step.op) {
            ("CreatedDate", Op::Long) => self.long(fill.created_date_ms)?,
            ("CreatedById", Op::String) => self.sized(fill.created_by_id.as_bytes())?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn absent(&mut self, default: Option<&[u8]>, step: Step) -> Result<(), JsonError> {
        if let Some(default) = default {
            return self.put(default);
        }
        let null = match (step.null, step.op) {
            (NullBranch::First, _) => Some(0),
            (NullBranch::Second, _) => Some(1),
            (NullBranch::None, Op::Null) => return Ok(()),
            (NullBranch::None, Op::Union(union)) => self.program.unions[union as usize]
                .branches
                .iter()
                .position(|branch| branch.op == Op::Null),
            (NullBranch::None, _) => None,
        };
        match null {
            Some(null) => self.long(null as i64),
            None => Err(JsonError::Missing(self.path())),
        }
    }

    fn union(
        &mut self,
        step: Step,
        union: &'p UnionType,
        json: &Value,
        depth: usize,
    ) -> Result<(), JsonError> {
        let is_plain = union.is_plain || json.is_null() || self.fill.is_none();
        let (branch, json) = if is_plain {
            let ty = JsonTypes::of_value(json);
            let mut branches = union.branches.iter();
            let branch = branches.position(|branch| JsonTypes::of_op(branch.op).has(ty));
            (branch, json)
        } else {
            match json.as_object().and_then(single_entry) {
                Some((name, inner)) => {
                    let mut names = union.branch_names().iter();
                    (names.position(|branch| branch == name), inner)
                }
                None => (None, json),
            }
        };
        let Some(branch) = branch else {
            return Err(self.wrong_type(step, json));
        };
        self.long(branch as i64)?;
        self.op(union.branches[branch], json, depth)
    }

    /// Writes the items of an array or map as one block, or as none if there are no items.
    fn items<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        depth: usize,
        segment: fn(u64) -> Segment<'p>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.check_depth(depth + 1)?;
        let count = items.len();
        if count > 0 {
            self.spend(count as u64)?;
            self.long(count as i64)?;
        }
        for (index, item) in items.enumerate() {
            self.path.push(segment(index as u64));
            write(self, item)?;
            self.path.pop();
        }
        self.long(0)
    }

    fn float(&mut self, step: Step, json: &Value) -> Result<(), JsonError> {
        let value = match json {
            Value::Number(number) => number.as_f64(),
            Value::String(word) => match word.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => return Err(self.wrong_type(step, json)),
            },
            _ => None,
        };
        let Some(value) = value else {
            return Err(self.out_of_range(step));
        };
        if step.op == Op::Double {
            return self.put(&value.to_le_bytes());
        }
        // Digits that a float has no room for are rounded off; a size it has no room for is not.
        let single = value as f32;
        if single.is_infinite() && value.is_finite() {
            return Err(self.out_of_range(step));
        }
        self.put(&single.to_le_bytes())
    }

    fn latin1(&self, step: Step, text: &str) -> Result<Vec<u8>, JsonError> {
        text.chars()
            .map(|c| u8::try_from(c).map_err(|_| self.out_of_range(step)))
            .collect()
    }

    fn sized(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        self.long(bytes.len() as i64)?;
        self.put(bytes)
    }

    fn long(&mut self, value: i64) -> Result<(), JsonError> {
        let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut bytes = [0; 10];
        let mut len = 0;
        loop {
            bytes[len] = (raw & 0x7f) as u8;
            raw >>= 7;
            if raw == 0 {
                return self.put(&bytes[..=len]);
            }
            bytes[len] |= 0x80;
            len += 1;
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        if self.out.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(JsonError::TooLarge);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), JsonError> {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(JsonError::TooDeep { path: self.path() });
        }
        Ok(())
    }

    fn spend(&mut self, items: u64) -> Result<(), JsonError> {
        let left = self.items_left.checked_sub(items);
        self.items_left = left.ok_or(JsonError::TooManyItems)?;
        Ok(())
    }

    fn path(&self) -> String {
        path_text(self.path.iter())
    }

    fn wrong_type(&self, step: Step, json: &Value) -> JsonError {
        JsonError::WrongType {
            path: self.path(),
            found: type_of(json),
            wanted: self.wanted(step),
        }
    }

    fn out_of_range(&self, step: Step) -> JsonError {
        JsonError::OutOfRange {
            path: self.path(),
            wanted: self.wanted(step),
        }
    }

    fn wanted(&self, step: Step) -> String {
        let program = self.program;
        let wanted = match step.op {
            Op::Null => "null".to_owned(),
            Op::Boolean => "true or false".to_owned(),
            Op::Int => "an int, a whole number of 32 bits".to_owned(),
            Op::Long => "a long, a whole number of 64 bits or its digits in a string".to_owned(),
            Op::Float => "a float".to_owned(),
            Op::Double => "a double".to_owned(),
            Op::Bytes => "bytes, a string of characters up to U+00FF".to_owned(),
            Op::String => "a string".to_owned(),
            Op::Fixed(index) => {
                let size = program.fixed[index as usize].size;
                format!("{size} bytes, a string of that many characters up to U+00FF")
            }
            Op::Enum(index) => {
                let symbols = &program.enums[index as usize].symbols;
                let shown = symbols.len().min(SHOWN_SYMBOLS_MAX);
                let more = if shown < symbols.len() { ", …" } else { "" };
                format!("one of {}{more}", symbols[..shown].join(", "))
            }
            Op::Array(_) => "an array".to_owned(),
            Op::Map(_) => "an object".to_owned(),
            Op::Record(record) => {
                let name = program.records[record as usize].name();
                format!("an object with the fields of {name}")
            }
            Op::Union(union) => {
                let union = &program.unions[union as usize];
                let names = union.branch_names();
                let shown = names.len().min(SHOWN_SYMBOLS_MAX);
                let names = names[..shown].join(", ");
                if union.is_plain {
                    format!("one of {names}")
                } else {
                    format!("an object of one key, the name of one of {names}")
                }
            }
        };
        match step.null {
            NullBranch::None => wanted,
            NullBranch::First | NullBranch::Second => format!("null or {wanted}"),
        }
    }
}

/// The number as an integer, if it is one; JSON has one spelling for 1 and 1.0.
fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let value = number.as_f64()?;
        let is_exact = value.fract() == 0.0 && value.abs() <= EXACT_MAX as f64;
        is_exact.then_some(value as i64)
    })
}

fn single_entry(object: &Map<String, Value>) -> Option<(&String, &Value)> {
    let mut entries = object.iter();
    entries.next().filter(|_| entries.next().is_none())
}

/// The most similar name, letter case aside, if one is similar enough to have been meant.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| {
            let similarity = strsim::jaro_winkler(&name, &candidate.to_lowercase());
            (similarity, candidate)
        })
        .filter(|&(similarity, _)| similarity >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Characters of an unknown name that an error shows, and that are compared with known names.
const SHOWN_NAME_CHARS_MAX: usize = 80;
/// Symbols or branches that an error lists.
const SHOWN_SYMBOLS_MAX: usize = 12;
