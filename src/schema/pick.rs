//! Reads a few fields of a payload and passes over the rest.
//!
//! A [`Picker`] is made once for a schema and the fields that are wanted. It reads a payload from its
//! beginning to the last field wanted and not a byte further, allocates nothing, and builds no value
//! but those asked for: text borrows from the payload. What it passes over is not checked more than is
//! needed to find its end, so a payload that was never validated may be wrong elsewhere.

use super::{
    PayloadError, Schema,
    error::Segment,
    program::{FieldType, Op, Program, RecordType, Step},
    type_text::type_text,
    walk::{Discard, Walked, Walker},
};

/// Where a field stands: its place in the outermost record, and that of the part in a record inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPath {
    field: usize,
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// The record's number in the program.
    record: u32,
    place: usize,
}

/// What there is to know of a field that may be picked.
#[derive(Clone, Debug)]
pub struct FieldInfo<'s> {
    /// Where it stands.
    pub path: FieldPath,
    /// Its name as the schema has it, and what else is said of it.
    pub field: &'s FieldType,
    /// What it may hold besides null, as far as that can be picked.
    pub kinds: Vec<PickedKind>,
    /// Whether it may hold a list of what can be picked.
    pub is_list: bool,
    /// Its type in words.
    pub type_text: String,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Picked<'a> {
    /// Null, or what cannot be picked: bytes, an array, a map, a record.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An int or a long.
    Long(i64),
    /// A float.
    Float(f32),
    /// A double.
    Double(f64),
    /// A string, or the symbol of an enum.
    Text(&'a str),
}

/// A kind of what a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickedKind {
    /// [`Picked::Boolean`]
    Boolean,
    /// [`Picked::Long`]
    Long,
    /// [`Picked::Float`] and [`Picked::Double`]
    Double,
    /// [`Picked::Text`]
    Text,
}

/// Why there is no such field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoField {
    /// No field has this name.
    Field,
    /// The field has no parts.
    NotCompound,
    /// The field has parts, and none of this name.
    Part,
}

impl Schema {
    /// The field called `name`, or that part of it that is called `part`. Case is looked at only where
    /// two names differ by nothing else.
    ///
    /// # Errors
    ///
    /// [`NoField`].
    pub fn field(&self, name: &str, part: Option<&str>) -> Result<FieldInfo<'_>, NoField> {
        let program = self.program();
        let root = program.root();
        let field = place_of(root, name).ok_or(NoField::Field)?;
        let step = program.steps[root.steps.start + field];
        let Some(part) = part else {
            let path = FieldPath { field, part: None };
            return Ok(FieldInfo::new(program, path, root, field));
        };
        let records: Vec<u32> = branches(program, step).filter_map(record_of).collect();
        let find = |&record: &u32| {
            let found = &program.records[record as usize];
            let place = place_of(found, part)?;
            let part = Some(Part { record, place });
            Some(FieldInfo::new(
                program,
                FieldPath { field, part },
                found,
                place,
            ))
        };
        match records.iter().find_map(find) {
            Some(info) => Ok(info),
            None if records.is_empty() => Err(NoField::NotCompound),
            None => Err(NoField::Part),
        }
    }
}

impl<'s> FieldInfo<'s> {
    fn new(program: &'s Program, path: FieldPath, record: &'s RecordType, place: usize) -> Self {
        let step = program.steps[record.steps.start + place];
        let mut kinds = Vec::new();
        for kind in branches(program, step).filter_map(kind_of) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Self {
            path,
            field: &record.fields()[place],
            kinds,
            is_list: branches(program, step).any(|op| is_list(program, op)),
            type_text: type_text(program, step),
        }
    }
}

/// The place of the field with this name, or else of the first one whose name differs in case alone.
fn place_of(record: &RecordType, name: &str) -> Option<usize> {
    let fields = record.fields();
    let exactly = fields.iter().position(|field| field.name() == name);
    exactly.or_else(|| {
        let is_it = |field: &FieldType| field.name().eq_ignore_ascii_case(name);
        fields.iter().position(is_it)
    })
}

/// What a value of this type may be.
fn branches(program: &Program, step: Step) -> impl Iterator<Item = Op> {
    let union = match step.op {
        Op::Union(union) => Some(&program.unions[union as usize].branches),
        _ => None,
    };
    let only = union.is_none().then_some(step.op);
    let branches = union.into_iter().flatten().map(|branch| branch.op);
    only.into_iter().chain(branches)
}

fn record_of(op: Op) -> Option<u32> {
    match op {
        Op::Record(record) => Some(record),
        _ => None,
    }
}

fn kind_of(op: Op) -> Option<PickedKind> {
    match op {
        Op::Boolean => Some(PickedKind::Boolean),
        Op::Int | Op::Long => Some(PickedKind::Long),
        Op::Float | Op::Double => Some(PickedKind::Double),
        Op::String | Op::Enum(_) => Some(PickedKind::Text),
        _ => None,
    }
}

/// Whether a value of this type is a list of what can be picked.
fn is_list(program: &Program, op: Op) -> bool {
    match op {
        Op::Array(item) => {
            let item = program.steps[item as usize];
            branches(program, item).any(|op| kind_of(op).is_some())
        }
        _ => false,
    }
}

/// Reads some fields of the payloads of one schema.
#[derive(Clone, Debug)]
pub struct Picker {
    schema: Schema,
    /// What is wanted of each field of the outermost record, up to the last that is wanted.
    wanted: Box<[Wanted]>,
    slots: usize,
    /// Whether the first item of a list stands for it; else it cannot be picked.
    takes_first: bool,
}

/// What is wanted of a field. Slots are numbered as the paths were given.
#[derive(Clone, Debug, Default)]
struct Wanted {
    slot: Option<usize>,
    parts: Vec<(Part, usize)>,
}

impl Wanted {
    fn is_nothing(&self) -> bool {
        self.slot.is_none() && self.parts.is_empty()
    }
}

impl Picker {
    /// A picker of the fields at `paths`, which are of this schema and each there once.
    pub fn new(schema: &Schema, paths: &[FieldPath]) -> Self {
        let fields = paths.iter().map(|path| path.field + 1).max();
        let mut wanted = vec![Wanted::default(); fields.unwrap_or_default()];
        for (slot, path) in paths.iter().enumerate() {
            let wanted = &mut wanted[path.field];
            match path.part {
                Some(part) => wanted.parts.push((part, slot)),
                None => wanted.slot = Some(slot),
            }
        }
        Self {
            schema: schema.clone(),
            wanted: wanted.into(),
            slots: paths.len(),
            takes_first: false,
        }
    }

    /// A picker of the field at `path`, or of its first item where it holds a list.
    pub fn of_first(schema: &Schema, path: FieldPath) -> Self {
        Self {
            takes_first: true,
            ..Self::new(schema, &[path])
        }
    }

    /// Puts the fields of `payload` into the slots of `picked`, in the order of the paths; of those that
    /// are not in it, since null or another type stands where their record would, null.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with what was read of the payload.
    ///
    /// # Panics
    ///
    /// If there are fewer slots than paths.
    pub fn pick<'a>(
        &'a self,
        payload: &'a [u8],
        picked: &mut [Picked<'a>],
    ) -> Result<(), PayloadError> {
        let picked = &mut picked[..self.slots];
        picked.fill(Picked::Null);
        let program = self.schema.program();
        let mut discard = Discard;
        let mut walker = Walker::new(program, payload, &mut discard);
        let root = program.root();
        let steps = &program.steps[root.steps.clone()];
        for (place, (&step, wanted)) in steps.iter().zip(&self.wanted).enumerate() {
            let read = match wanted.is_nothing() {
                true => walker.pass(step),
                false => self.field(&mut walker, step, wanted, picked),
            };
            if let Err(fault) = read {
                let field = root.fields()[place].name();
                return Err(fault.under(Segment::Field(field)).into_error());
            }
        }
        Ok(())
    }

    /// Reads a field of which something is wanted.
    #[inline]
    fn field<'p, 'a>(
        &self,
        walker: &mut Walker<'p, 'a, '_, Discard>,
        step: Step,
        wanted: &Wanted,
        picked: &mut [Picked<'a>],
    ) -> Walked<'p, ()>
    where
        'p: 'a,
    {
        let Some(op) = walker.type_of_value(step)? else {
            return Ok(());
        };
        match (op, wanted.slot) {
            (Op::Record(record), _) => self.parts(walker, record, &wanted.parts, picked),
            (op, Some(slot)) => {
                picked[slot] = self.value(walker, op)?;
                Ok(())
            }
            (op, None) => walker.pass_type(op),
        }
    }

    /// Reads a record some parts of which are wanted.
    fn parts<'p, 'a>(
        &self,
        walker: &mut Walker<'p, 'a, '_, Discard>,
        record: u32,
        wanted: &[(Part, usize)],
        picked: &mut [Picked<'a>],
    ) -> Walked<'p, ()>
    where
        'p: 'a,
    {
        let program = walker.program();
        let steps = &program.steps[program.records[record as usize].steps.clone()];
        for (place, &step) in steps.iter().enumerate() {
            let is_it = |(part, _): &&(Part, usize)| part.record == record && part.place == place;
            match wanted.iter().find(is_it) {
                Some(&(_, slot)) => {
                    if let Some(op) = walker.type_of_value(step)? {
                        picked[slot] = self.value(walker, op)?;
                    }
                }
                None => walker.pass(step)?,
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn value<'p, 'a>(
        &self,
        walker: &mut Walker<'p, 'a, '_, Discard>,
        op: Op,
    ) -> Walked<'p, Picked<'a>>
    where
        'p: 'a,
    {
        match op {
            Op::Array(item) if self.takes_first => walker.pick_first(item),
            op => walker.pick(op),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: &str = r#"{"type":"record","name":"Lists__e","fields":[
        {"name":"Texts","type":["null",{"type":"array","items":["null","string"]}]},
        {"name":"Inside","type":{"type":"record","name":"Inside","fields":[
            {"name":"Numbers","type":{"type":"array","items":"int"}},
            {"name":"Records","type":{"type":"array","items":"Inside"}}]}},
        {"name":"Last","type":"long"}]}"#;

    /// The first item of a field, or of a part of one.
    fn first(payload: &[u8], name: &str, part: Option<&str>) -> Result<String, PayloadError> {
        let schema = Schema::parse(LISTS).unwrap();
        let path = schema.field(name, part).unwrap().path;
        let mut picked = [Picked::Null];
        let picker = Picker::of_first(&schema, path);
        picker.pick(payload, &mut picked)?;
        Ok(format!("{:?}", picked[0]))
    }

    #[test]
    fn the_first_item_of_a_list_stands_for_it() {
        // Two blocks of texts, the first of which states its size; then two numbers, and no record.
        let payload = [2, 1, 6, 2, 2, b'a', 2, 2, 2, b'b', 0, 4, 14, 16, 0, 0, 18];
        assert_eq!(first(&payload, "Texts", None).unwrap(), r#"Text("a")"#);
        assert_eq!(
            first(&payload, "Inside", Some("Numbers")).unwrap(),
            "Long(7)"
        );
        assert_eq!(first(&payload, "Inside", Some("Records")).unwrap(), "Null");
        assert_eq!(first(&payload, "Last", None).unwrap(), "Long(9)");
        // Cut short behind what was wanted, and within it.
        assert_eq!(
            first(&payload[..11], "Texts", None).unwrap(),
            r#"Text("a")"#
        );
        assert!(first(&payload[..10], "Texts", None).is_err());
    }

    #[test]
    fn a_list_without_a_first_item_is_null() {
        for payload in [&[0][..], &[2, 0], &[2, 2, 0, 0]] {
            assert_eq!(
                first(payload, "Texts", None).unwrap(),
                "Null",
                "{payload:?}"
            );
        }
    }

    #[test]
    fn without_being_told_so_a_list_cannot_be_picked() {
        let schema = Schema::parse(LISTS).unwrap();
        let field = schema.field("Texts", None).unwrap();
        assert!(field.is_list && field.kinds.is_empty());
        assert!(!schema.field("Inside", Some("Records")).unwrap().is_list);
        let mut picked = [Picked::Boolean(true)];
        let payload = [2, 2, 2, 2, b'a', 0];
        let picker = Picker::new(&schema, &[field.path]);
        picker.pick(&payload, &mut picked).unwrap();
        assert_eq!(picked[0], Picked::Null);
    }
}
