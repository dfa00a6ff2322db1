//! A schema compiled into a flat program, the form in which payloads are walked.
//!
//! One step reads one value. The steps of a record's fields lie side by side, so that a record
//! is walked as a slice; arrays, maps, unions and nested records are reached by index, never by
//! pointer, and a type that contains itself is an index that occurs again. The union of null and
//! one other type, which nearly every field of an event has, is no step of its own but a mark on
//! the step of that other type.
//!
//! The program also knows the names, for errors and JSON, and what each record costs in values
//! that take no bytes: such a value could otherwise be repeated at no cost to who sends it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use apache_avro::Schema as AvroSchema;
use serde_json::Value;

use super::{
    error::SchemaError,
    json,
    parse::{ALIASES_ATTRIBUTE, CASE_SENSITIVE_ATTRIBUTE, DEFAULT_ATTRIBUTE, DOC_ATTRIBUTE},
};
use crate::types::limits::{SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX};

/// A compiled schema. Its outermost record is [`Program::root`].
#[derive(Debug, Default)]
pub struct Program {
    root: u32,
    pub(super) steps: Vec<Step>,
    pub(super) records: Vec<RecordType>,
    pub(super) unions: Vec<UnionType>,
    pub(super) enums: Vec<EnumType>,
    pub(super) fixed: Vec<FixedType>,
}

/// How one value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) op: Op,
    pub(super) null: NullBranch,
}

/// Whether a value stands in a union with null, and which branch null is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NullBranch {
    None,
    First,
    Second,
}

/// What a step reads. The numbers index the program's tables; those of `Array` and `Map` its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(u32),
    Enum(u32),
    Array(u32),
    Map(u32),
    Record(u32),
    Union(u32),
}

/// A record: its name and its fields in the order in which they are written.
#[derive(Debug)]
pub struct RecordType {
    full_name: String,
    /// Full names that it had in other versions.
    pub(super) aliases: Vec<String>,
    fields: Vec<FieldType>,
    pub(super) steps: Range<usize>,
    /// What entering the record adds to the items of a payload: one for each field that takes no
    /// bytes, and one for the record if it takes none itself.
    pub(super) free_items: u64,
}

/// A field's name, and its default as it is written in binary.
#[derive(Debug)]
pub struct FieldType {
    name: String,
    /// Names that it had in other versions.
    pub(super) aliases: Vec<String>,
    pub(super) default: Option<Vec<u8>>,
    pub(super) meaning: Meaning,
    pub(super) is_case_sensitive: bool,
}

/// What the milliseconds in a field of type `long` are, by the type in its documentation, which the
/// platform writes as `Data:DateTime`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing is said.
    #[default]
    Unknown,
    /// A moment, since the epoch.
    DateTime,
    /// Midnight in UTC of a day, since the epoch.
    Date,
    /// A time of day, since midnight in UTC.
    Time,
}

impl Meaning {
    fn of_doc(doc: &str) -> Self {
        match doc.split(':').nth(1) {
            Some("DateTime") => Self::DateTime,
            Some("DateOnly" | "Date") => Self::Date,
            Some("TimeOnly" | "Time") => Self::Time,
            _ => Self::Unknown,
        }
    }
}

/// A union of more than null and one type.
#[derive(Debug)]
pub struct UnionType {
    pub(super) branches: Vec<Step>,
    names: Vec<String>,
    /// Whether the JSON type of a value tells its branch.
    pub(super) is_plain: bool,
}

/// An enum's symbols in the order of their indexes.
#[derive(Debug)]
pub struct EnumType {
    full_name: String,
    pub(super) aliases: Vec<String>,
    pub(super) symbols: Vec<String>,
    /// The symbol that stands for those of other versions that this one does not have.
    pub(super) default: Option<String>,
}

/// A run of bytes of a fixed length.
#[derive(Debug)]
pub(super) struct FixedType {
    pub(super) full_name: String,
    pub(super) aliases: Vec<String>,
    pub(super) size: usize,
}

impl Program {
    /// The record that a payload is a value of.
    pub fn root(&self) -> &RecordType {
        &self.records[self.root as usize]
    }

    pub(super) fn root_index(&self) -> u32 {
        self.root
    }

    /// Compiles a schema that [`super::parse::parse`] has cleaned.
    pub(super) fn compile(schema: &AvroSchema) -> Result<Self, SchemaError> {
        let mut compiler = Compiler::default();
        let root = match compiler.op(schema)? {
            Op::Record(root) => root,
            other => return Err(SchemaError::NotARecord(compiler.program.type_word(other))),
        };
        compiler.program.root = root;
        compiler.measure_records()?;
        compiler.compile_defaults()?;
        Ok(compiler.program)
    }

    /// What a type is called in Avro: a primitive's name, or the kind of a complex type.
    pub(super) fn type_word(&self, op: Op) -> &'static str {
        match op {
            Op::Null => "null",
            Op::Boolean => "boolean",
            Op::Int => "int",
            Op::Long => "long",
            Op::Float => "float",
            Op::Double => "double",
            Op::Bytes => "bytes",
            Op::String => "string",
            Op::Fixed(_) => "fixed",
            Op::Enum(_) => "enum",
            Op::Array(_) => "array",
            Op::Map(_) => "map",
            Op::Record(_) => "record",
            Op::Union(_) => "union",
        }
    }

    /// What a type is called in the JSON form of a union: the full name of a named type.
    pub(super) fn branch_name(&self, op: Op) -> &str {
        match op {
            Op::Fixed(index) => &self.fixed[index as usize].full_name,
            Op::Enum(index) => &self.enums[index as usize].full_name,
            Op::Record(index) => &self.records[index as usize].full_name,
            other => self.type_word(other),
        }
    }

    /// Whether a step reads no byte, whatever the value. Records are told apart elsewhere.
    fn is_free_leaf(&self, step: Step) -> bool {
        step.null == NullBranch::None
            && match step.op {
                Op::Null => true,
                Op::Fixed(index) => self.fixed[index as usize].size == 0,
                _ => false,
            }
    }
}

impl RecordType {
    /// The name with its namespace.
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// The name without its namespace.
    pub fn name(&self) -> &str {
        simple_name(&self.full_name)
    }

    /// Other full names that it has where another schema is read.
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// The fields, in the order in which they are written.
    pub fn fields(&self) -> &[FieldType] {
        &self.fields
    }
}

impl FieldType {
    /// The field's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the milliseconds in it are, if it holds such.
    pub fn meaning(&self) -> Meaning {
        self.meaning
    }

    /// Whether filters compare its text with its case; they do not unless the schema says
    /// `"caseSensitive": true`.
    pub fn is_case_sensitive(&self) -> bool {
        self.is_case_sensitive
    }
}

impl UnionType {
    /// The names of the branches, as the JSON form of a union has them.
    pub fn branch_names(&self) -> &[String] {
        &self.names
    }
}

impl EnumType {
    /// The name with its namespace.
    pub fn full_name(&self) -> &str {
        &self.full_name
    }

    /// The symbols, in the order of their indexes.
    pub fn symbols(&self) -> &[String] {
        &self.symbols
    }
}

pub(super) fn simple_name(full_name: &str) -> &str {
    full_name
        .rsplit_once('.')
        .map_or(full_name, |(_, name)| name)
}

/// What a record's own fields decide about all of its values.
#[derive(Clone, Copy, Debug)]
struct RecordShape {
    /// Levels of the flattest value: 1 for a record that holds no record directly.
    height: usize,
    /// Whether no value takes a byte.
    is_free: bool,
    /// Fields that take no bytes, records not counted.
    free_leaves: u64,
}

#[derive(Default)]
struct Compiler {
    program: Program,
    named: HashMap<String, Op>,
    /// Defaults as they stand in the schema, by record and field, in the order in which the
    /// definitions of the records end.
    defaults: Vec<(u32, usize, Value)>,
}

impl Compiler {
    /// The recursion follows the nesting of the text, which is bounded; references end it.
    fn op(&mut self, schema: &AvroSchema) -> Result<Op, SchemaError> {
        Ok(match schema {
            AvroSchema::Null => Op::Null,
            AvroSchema::Boolean => Op::Boolean,
            AvroSchema::Int => Op::Int,
            AvroSchema::Long => Op::Long,
            AvroSchema::Float => Op::Float,
            AvroSchema::Double => Op::Double,
            AvroSchema::Bytes => Op::Bytes,
            AvroSchema::String => Op::String,
            AvroSchema::Array(array) => Op::Array(self.inner(&array.items)?),
            AvroSchema::Map(map) => Op::Map(self.inner(&map.types)?),
            AvroSchema::Union(union) => self.union(union.variants())?,
            AvroSchema::Record(record) => self.record(record)?,
            AvroSchema::Enum(schema) => {
                let full_name = schema.name.fullname(None);
                let op = Op::Enum(index(self.program.enums.len()));
                self.define(&full_name, op)?;
                let default = schema.attributes.get(DEFAULT_ATTRIBUTE);
                let default = default.and_then(Value::as_str).map(str::to_owned);
                self.program.enums.push(EnumType {
                    aliases: full_aliases(&full_name, &schema.attributes),
                    full_name,
                    symbols: schema.symbols.clone(),
                    default: default.filter(|default| schema.symbols.contains(default)),
                });
                op
            }
            AvroSchema::Fixed(schema) => {
                let full_name = schema.name.fullname(None);
                let op = Op::Fixed(index(self.program.fixed.len()));
                self.define(&full_name, op)?;
                self.program.fixed.push(FixedType {
                    aliases: full_aliases(&full_name, &schema.attributes),
                    full_name,
                    size: schema.size,
                });
                op
            }
            AvroSchema::Ref { name } => {
                let full_name = name.fullname(None);
                let op = self.named.get(&full_name).copied();
                op.ok_or_else(|| not_avro(format!("the type {full_name} is not defined")))?
            }
            _ => return Err(not_avro("a logical type was not reduced".to_owned())),
        })
    }

    /// A step that may be a nullable one. Only here a union is fused into its other type.
    fn step(&mut self, schema: &AvroSchema) -> Result<Step, SchemaError> {
        let (null, schema) = match schema {
            AvroSchema::Union(union) => match union.variants() {
                [AvroSchema::Null, other] => (NullBranch::First, other),
                [other, AvroSchema::Null] => (NullBranch::Second, other),
                _ => (NullBranch::None, schema),
            },
            _ => (NullBranch::None, schema),
        };
        let op = self.op(schema)?;
        Ok(Step { op, null })
    }

    fn inner(&mut self, schema: &AvroSchema) -> Result<u32, SchemaError> {
        let step = self.step(schema)?;
        self.program.steps.push(step);
        Ok(index(self.program.steps.len() - 1))
    }

    fn union(&mut self, variants: &[AvroSchema]) -> Result<Op, SchemaError> {
        let mut branches = Vec::with_capacity(variants.len());
        let mut names = Vec::with_capacity(variants.len());
        let mut seen = HashSet::with_capacity(variants.len());
        for variant in variants {
            let op = self.op(variant)?;
            let name = self.program.branch_name(op).to_owned();
            if !seen.insert(name.clone()) {
                return Err(not_avro(format!("a union has the type {name} twice")));
            }
            names.push(name);
            branches.push(Step {
                op,
                null: NullBranch::None,
            });
        }
        let is_plain = json::types_are_distinct(&branches);
        self.program.unions.push(UnionType {
            branches,
            names,
            is_plain,
        });
        Ok(Op::Union(index(self.program.unions.len() - 1)))
    }

    fn record(&mut self, schema: &apache_avro::schema::RecordSchema) -> Result<Op, SchemaError> {
        let full_name = schema.name.fullname(None);
        let record = index(self.program.records.len());
        self.define(&full_name, Op::Record(record))?;
        self.program.records.push(RecordType {
            aliases: full_aliases(&full_name, &schema.attributes),
            full_name,
            fields: Vec::new(),
            steps: 0..0,
            free_items: 0,
        });
        let mut fields = Vec::with_capacity(schema.fields.len());
        let mut steps = Vec::with_capacity(schema.fields.len());
        let mut defaults = Vec::new();
        for (position, field) in schema.fields.iter().enumerate() {
            steps.push(self.step(&field.schema)?);
            fields.push(FieldType {
                name: field.name.clone(),
                aliases: aliases(&field.custom_attributes),
                default: None,
                meaning: meaning(&field.custom_attributes),
                is_case_sensitive: field.custom_attributes.get(CASE_SENSITIVE_ATTRIBUTE)
                    == Some(&Value::Bool(true)),
            });
            if let Some(default) = field.custom_attributes.get(DEFAULT_ATTRIBUTE) {
                defaults.push((record, position, default.clone()));
            }
        }
        self.defaults.extend(defaults);
        // Types nested in the fields have placed their steps by now, so these lie side by side.
        let start = self.program.steps.len();
        self.program.steps.extend(steps);
        let compiled = &mut self.program.records[record as usize];
        compiled.fields = fields;
        compiled.steps = start..self.program.steps.len();
        Ok(Op::Record(record))
    }

    fn define(&mut self, full_name: &str, op: Op) -> Result<(), SchemaError> {
        if PRIMITIVES.contains(&full_name) {
            return Err(not_avro(format!("a type may not be named {full_name}")));
        }
        match self.named.insert(full_name.to_owned(), op) {
            Some(_) => Err(SchemaError::DefinedTwice(full_name.to_owned())),
            None => Ok(()),
        }
    }

    /// Refuses records that no payload can hold, since they nest for ever or too deep, and notes
    /// what the others cost.
    fn measure_records(&mut self) -> Result<(), SchemaError> {
        let mut shapes = vec![None; self.program.records.len()];
        for record in 0..self.program.records.len() {
            let shape = self.shape(record, &mut shapes, &mut Vec::new())?;
            let free_items = shape.free_leaves + u64::from(shape.is_free);
            self.program.records[record].free_items = free_items;
        }
        Ok(())
    }

    /// Walks what `record` holds directly, so in every value. `above` bounds the recursion.
    fn shape(
        &self,
        record: usize,
        shapes: &mut Vec<Option<RecordShape>>,
        above: &mut Vec<usize>,
    ) -> Result<RecordShape, SchemaError> {
        if let Some(shape) = shapes[record] {
            return Ok(shape);
        }
        let name = |record: usize| self.program.records[record].full_name.clone();
        if above.contains(&record) {
            return Err(SchemaError::Endless(name(record)));
        }
        if above.len() >= SCHEMA_DEPTH_MAX {
            return Err(SchemaError::ValueTooDeep(name(above[0])));
        }
        above.push(record);
        let mut shape = RecordShape {
            height: 1,
            is_free: true,
            free_leaves: 0,
        };
        for &step in &self.program.steps[self.program.records[record].steps.clone()] {
            if let (NullBranch::None, Op::Record(inner)) = (step.null, step.op) {
                let inner = self.shape(inner as usize, shapes, above)?;
                shape.height = shape.height.max(inner.height + 1);
                shape.is_free &= inner.is_free;
            } else if self.program.is_free_leaf(step) {
                shape.free_leaves += 1;
            } else {
                shape.is_free = false;
            }
        }
        above.pop();
        if shape.height > SCHEMA_DEPTH_MAX {
            return Err(SchemaError::ValueTooDeep(name(record)));
        }
        shapes[record] = Some(shape);
        Ok(shape)
    }

    /// Writes every default in binary. A record that is defined earlier comes earlier, so what an
    /// outer default leaves out is there already.
    fn compile_defaults(&mut self) -> Result<(), SchemaError> {
        let mut total = 0;
        for (record, field, value) in std::mem::take(&mut self.defaults) {
            let step =
                self.program.steps[self.program.records[record as usize].steps.start + field];
            let bytes = json::encode_default(&self.program, step, &value).map_err(|reason| {
                let record = &self.program.records[record as usize];
                SchemaError::Default {
                    field: format!("{}.{}", record.name(), record.fields[field].name),
                    reason: Box::new(reason),
                }
            })?;
            total += bytes.len();
            if total > SCHEMA_BYTES_MAX {
                return Err(SchemaError::DefaultsTooLarge);
            }
            self.program.records[record as usize].fields[field].default = Some(bytes);
        }
        Ok(())
    }
}

/// The aliases among the attributes of a field or a type, as they are written.
fn aliases(attributes: &BTreeMap<String, Value>) -> Vec<String> {
    let aliases = attributes.get(ALIASES_ATTRIBUTE).and_then(Value::as_array);
    let names = aliases.into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// What the documentation among the attributes of a field says of its value.
fn meaning(attributes: &BTreeMap<String, Value>) -> Meaning {
    let doc = attributes.get(DOC_ATTRIBUTE).and_then(Value::as_str);
    doc.map(Meaning::of_doc).unwrap_or_default()
}

/// The aliases of a type: those without a namespace have the type's.
fn full_aliases(full_name: &str, attributes: &BTreeMap<String, Value>) -> Vec<String> {
    let mut aliases = aliases(attributes);
    if let Some((namespace, _)) = full_name.rsplit_once('.') {
        for alias in aliases.iter_mut().filter(|alias| !alias.contains('.')) {
            *alias = format!("{namespace}.{alias}");
        }
    }
    aliases
}

fn not_avro(reason: String) -> SchemaError {
    SchemaError::NotAvro {
        at: "schema".to_owned(),
        reason,
    }
}

/// The names of the primitive types.
pub(super) const PRIMITIVES: [&str; 8] = [
    "null", "boolean", "int", "long", "float", "double", "bytes", "string",
];

/// Tables are indexed with 32 bits, to keep a step small.
fn index(position: usize) -> u32 {
    const { assert!(SCHEMA_BYTES_MAX < u32::MAX as usize) };
    u32::try_from(position).expect("a schema has fewer types than bytes, and those are bounded")
}
