//! Random schemas, random values of them, random damage.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::schema::{
    Schema,
    program::{NullBranch, Op, Program, Step},
};

/// A type before it has names.
#[derive(Clone, Debug)]
enum Type {
    Primitive(usize),
    Fixed(usize),
    Enum(usize),
    Array(Box<Type>),
    Map(Box<Type>),
    Record(Vec<Type>),
    Nullable(Box<Type>, bool),
    Union(Vec<Type>),
    /// One of the named types so far, or an enclosing one where that has an end.
    Reference(usize),
}

/// The fields of a random record.
#[derive(Clone, Debug)]
pub(in crate::schema) struct SchemaShape(Vec<Type>);

const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

impl Arbitrary for SchemaShape {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let leaf = prop_oneof![
            4 => (0..PRIMITIVES.len()).prop_map(Type::Primitive),
            1 => (0usize..5).prop_map(Type::Fixed),
            1 => (1usize..5).prop_map(Type::Enum),
            2 => any::<prop::sample::Index>().prop_map(|at| Type::Reference(at.index(64))),
        ];
        let ty = leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                inner.clone().prop_map(|item| Type::Array(Box::new(item))),
                inner.clone().prop_map(|value| Type::Map(Box::new(value))),
                prop::collection::vec(inner.clone(), 0..5).prop_map(Type::Record),
                (inner.clone(), any::<bool>())
                    .prop_map(|(other, first)| Type::Nullable(Box::new(other), first)),
                prop::collection::vec(inner, 1..5).prop_map(Type::Union),
            ]
        });
        prop::collection::vec(ty, 0..6).prop_map(Self).boxed()
    }
}

impl SchemaShape {
    /// The schema with names given to everything that needs one.
    pub(in crate::schema) fn text(&self) -> String {
        let mut names = Names {
            finished: Vec::new(),
            open: vec!["t.R".to_owned()],
            count: 0,
        };
        let fields = names.fields(&self.0);
        json!({"type": "record", "name": "R", "namespace": "t", "fields": fields}).to_string()
    }
}

/// Two versions: `kept` decides for each field whether both have it of the same type.
pub(super) fn versions(a: &SchemaShape, b: &SchemaShape, kept: &[bool]) -> [SchemaShape; 2] {
    let mut second = b.0.clone();
    for ((ours, theirs), _) in second
        .iter_mut()
        .zip(&a.0)
        .zip(kept)
        .filter(|(_, kept)| **kept)
    {
        ours.clone_from(theirs);
    }
    [SchemaShape(a.0.clone()), SchemaShape(second)]
}

struct Names {
    /// Types that can be referred to anywhere.
    finished: Vec<String>,
    /// Records around the place that is being written.
    open: Vec<String>,
    count: usize,
}

impl Names {
    fn next(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("t.{kind}{}", self.count)
    }

    fn fields(&mut self, types: &[Type]) -> Value {
        let field = |(index, ty)| json!({"name": format!("f{index}"), "type": self.ty(ty, false)});
        types.iter().enumerate().map(field).collect()
    }

    /// `ends` where a value need not hold this type: then an enclosing record may come again.
    fn ty(&mut self, ty: &Type, ends: bool) -> Value {
        match ty {
            Type::Primitive(index) => json!(PRIMITIVES[*index]),
            Type::Fixed(size) => {
                let name = self.next("F");
                self.finished.push(name.clone());
                json!({"type": "fixed", "name": name, "size": size})
            }
            Type::Enum(symbols) => {
                let name = self.next("E");
                let symbols: Vec<String> = (0..*symbols).map(|index| format!("S{index}")).collect();
                self.finished.push(name.clone());
                json!({"type": "enum", "name": name, "symbols": symbols})
            }
            Type::Array(item) => json!({"type": "array", "items": self.ty(item, true)}),
            Type::Map(value) => json!({"type": "map", "values": self.ty(value, true)}),
            Type::Record(fields) => {
                let name = self.next("N");
                self.open.push(name.clone());
                let fields = self.fields(fields);
                self.open.pop();
                self.finished.push(name.clone());
                json!({"type": "record", "name": name, "fields": fields})
            }
            Type::Nullable(other, is_first) => match (self.branch(other), is_first) {
                (other, _) if other == "null" || other.is_array() => json!(["null", "int"]),
                (other, true) => json!(["null", other]),
                (other, false) => json!([other, "null"]),
            },
            Type::Union(types) => {
                let mut seen = Vec::new();
                let mut branches = Vec::new();
                for ty in types {
                    // Told apart before it is written: what is dropped must define no name.
                    let key = match ty {
                        Type::Array(_) => "array",
                        Type::Map(_) => "map",
                        Type::Primitive(index) => PRIMITIVES[*index],
                        Type::Nullable(..) | Type::Union(_) => "long",
                        Type::Fixed(_) | Type::Enum(_) | Type::Record(_) => "",
                        Type::Reference(_) => "reference",
                    };
                    if key.is_empty() || !seen.contains(&key) {
                        seen.push(key);
                        branches.push(self.branch(ty));
                    }
                }
                // A reference may have come out as a branch that is there already.
                let mut seen = Vec::new();
                branches.retain(|branch| {
                    let name = branch.get("name").unwrap_or(branch).clone();
                    let is_new = !seen.contains(&name);
                    seen.push(name);
                    is_new
                });
                if branches.is_empty() {
                    branches.push(json!("string"));
                }
                Value::Array(branches)
            }
            Type::Reference(index) => {
                let names = self.finished.iter();
                let open = self.open.iter().filter(|_| ends);
                let names: Vec<&String> = names.chain(open).collect();
                match names.len() {
                    0 => json!("int"),
                    len => json!(names[index % len]),
                }
            }
        }
    }

    /// A branch of a union, where a union may not stand.
    fn branch(&mut self, ty: &Type) -> Value {
        match ty {
            Type::Nullable(..) | Type::Union(_) => json!("long"),
            ty => self.ty(ty, true),
        }
    }
}

/// Choices of a value, made from bytes so that fewer bytes mean a simpler value.
pub(super) struct Entropy<'a> {
    bytes: std::slice::Iter<'a, u8>,
    /// Whether values may be written in ways that no encoder has, but every reader takes.
    is_loose: bool,
}

impl<'a> Entropy<'a> {
    pub(super) fn loose(bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            is_loose: true,
        }
    }

    pub(super) fn canonical(bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.iter(),
            is_loose: false,
        }
    }

    fn choose(&mut self, options: usize) -> usize {
        usize::from(self.bytes.next().copied().unwrap_or(0)) % options
    }
}

/// A payload of the schema; none if every value that comes to mind nests too deep.
pub(super) fn payload(schema: &Schema, entropy: Entropy<'_>) -> Option<Vec<u8>> {
    let mut writer = Writer {
        program: schema.program(),
        entropy,
        out: Vec::new(),
    };
    writer.record(writer.program.root_index(), 0)?;
    Some(writer.out)
}

struct Writer<'p, 'a> {
    program: &'p Program,
    entropy: Entropy<'a>,
    out: Vec<u8>,
}

const DEPTH_MAX: usize = 20;

impl Writer<'_, '_> {
    fn record(&mut self, record: u32, depth: usize) -> Option<()> {
        let program = self.program;
        let steps = program.records[record as usize].steps.clone();
        program.steps[steps]
            .iter()
            .try_for_each(|&step| self.value(step, depth + 1))
    }

    fn value(&mut self, step: Step, depth: usize) -> Option<()> {
        let (null, other) = match step.null {
            NullBranch::None => return self.op(step.op, depth),
            NullBranch::First => (0, 1),
            NullBranch::Second => (1, 0),
        };
        if depth > DEPTH_MAX || self.entropy.choose(3) == 0 {
            self.long(null);
            return Some(());
        }
        self.long(other);
        self.op(step.op, depth)
    }

    fn op(&mut self, op: Op, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX + 20 {
            return None;
        }
        match op {
            Op::Null => {}
            Op::Boolean => {
                let value = self.entropy.choose(2) as u8;
                self.out.push(value);
            }
            Op::Int => {
                let values = [0, -1, 1, 63, 64, -65, i32::MAX, i32::MIN];
                let value = values[self.entropy.choose(values.len())];
                self.padded(value.into(), 5);
            }
            Op::Long => {
                let exact = 1 << 53;
                let values = [
                    0,
                    1,
                    -1,
                    8_191,
                    exact,
                    exact + 1,
                    -exact - 1,
                    i64::MAX,
                    i64::MIN,
                ];
                let value = values[self.entropy.choose(values.len())];
                self.padded(value, 10);
            }
            Op::Float => {
                let values = [0.0, -0.0, 1.5, 0.1, f32::MIN, f32::INFINITY, f32::NAN];
                let value: f32 = values[self.entropy.choose(values.len())];
                self.out.extend(value.to_le_bytes());
            }
            Op::Double => {
                let values = [
                    0.0,
                    -0.0,
                    42.5,
                    0.1,
                    f64::MAX,
                    5e-324,
                    f64::NEG_INFINITY,
                    f64::NAN,
                ];
                let value: f64 = values[self.entropy.choose(values.len())];
                self.out.extend(value.to_le_bytes());
            }
            Op::Bytes => {
                let values: [&[u8]; 4] = [b"", b"\0\x7f\x80\xff", b"abc", &[0xc3; 70]];
                let value = values[self.entropy.choose(values.len())];
                self.sized(value);
            }
            Op::String => {
                let values = [
                    "",
                    "A-17",
                    "größe",
                    "𝄞 \u{0} \"",
                    "a text that is longer than a word or two and has no accents",
                ];
                let value = values[self.entropy.choose(values.len())];
                self.sized(value.as_bytes());
            }
            Op::Fixed(index) => {
                for _ in 0..self.program.fixed[index as usize].size {
                    let byte = self.entropy.choose(256) as u8;
                    self.out.push(byte);
                }
            }
            Op::Enum(index) => {
                let symbols = self.program.enums[index as usize].symbols.len();
                let symbol = self.entropy.choose(symbols);
                self.padded(symbol as i64, 5);
            }
            Op::Array(item) => {
                let item = self.program.steps[item as usize];
                self.blocks(depth, |writer, _| writer.value(item, depth + 1))?;
            }
            Op::Map(value) => {
                let value = self.program.steps[value as usize];
                self.blocks(depth, |writer, index| {
                    writer.sized(format!("k{index}").as_bytes());
                    writer.value(value, depth + 1)
                })?;
            }
            Op::Record(record) => self.record(record, depth)?,
            Op::Union(union) => {
                let branches = &self.program.unions[union as usize].branches;
                let branch = self.entropy.choose(branches.len());
                self.padded(branch as i64, 10);
                self.op(branches[branch].op, depth + 1)?;
            }
        }
        Some(())
    }

    fn blocks(
        &mut self,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Option<()>,
    ) -> Option<()> {
        let blocks = match self.entropy.is_loose {
            _ if depth > DEPTH_MAX => 0,
            true => self.entropy.choose(3),
            false => self.entropy.choose(2),
        };
        let mut index = 0;
        for _ in 0..blocks {
            let count = 1 + self.entropy.choose(3);
            let outside = std::mem::take(&mut self.out);
            for _ in 0..count {
                item(self, index)?;
                index += 1;
            }
            let items = std::mem::replace(&mut self.out, outside);
            if self.entropy.is_loose && self.entropy.choose(2) == 1 {
                self.padded(-(count as i64), 10);
                self.padded(items.len() as i64, 10);
            } else {
                self.padded(count as i64, 10);
            }
            self.out.extend(items);
        }
        self.long(0);
        Some(())
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.padded(bytes.len() as i64, 10);
        self.out.extend(bytes);
    }

    fn long(&mut self, value: i64) {
        let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
        prost::encoding::encode_varint(raw, &mut self.out);
    }

    /// Writes an integer, now and then in one byte more than it needs.
    fn padded(&mut self, value: i64, bytes_max: usize) {
        let start = self.out.len();
        self.long(value);
        let has_room = self.out.len() - start < bytes_max;
        if self.entropy.is_loose && has_room && self.entropy.choose(16) == 15 {
            *self.out.last_mut().unwrap() |= 0x80;
            self.out.push(0);
        }
    }
}

/// Something that happens to a payload on its way.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
}

impl Arbitrary for Damage {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let at = any::<prop::sample::Index>;
        let byte = || prop_oneof![0u8..8, Just(0x80), Just(0xff), any::<u8>()];
        prop_oneof![
            (at(), byte()).prop_map(|(at, byte)| Self::Set(at, byte)),
            (at(), 0u8..8).prop_map(|(at, bit)| Self::Flip(at, 1 << bit)),
            (at(), byte()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            at().prop_map(Self::Remove),
            at().prop_map(Self::Cut),
            prop::collection::vec(byte(), 1..4).prop_map(Self::Append),
        ]
        .boxed()
    }
}

impl Damage {
    pub(super) fn apply(&self, payload: &mut Vec<u8>) {
        let len = payload.len();
        match self {
            Self::Append(bytes) => payload.extend(bytes),
            Self::Insert(at, byte) => payload.insert(at.index(len + 1), *byte),
            _ if len == 0 => {}
            Self::Set(at, byte) => payload[at.index(len)] = *byte,
            Self::Flip(at, bit) => payload[at.index(len)] ^= bit,
            Self::Remove(at) => _ = payload.remove(at.index(len)),
            Self::Cut(at) => payload.truncate(at.index(len)),
        }
    }
}
