//! Whether what was written with one schema can be read with another, and why not.
//!
//! Nothing in the gateway resolves schemas against each other: a subscriber may, which has one schema
//! compiled in and gets events that were written with another. So a registry asks before a new version
//! is taken whether such subscribers would break.
//!
//! Types may contain themselves, so whether one record reads another can depend on itself. Every pair of
//! records that is met is taken to be readable at first; whenever one is struck out, those that relied
//! on it are looked at again. Then the reasons are collected in one walk. Work is bounded by a budget, since
//! unions and names can be made to ask for the square of a schema's size.
//!
//! Source: Avro specification 1.12, "Schema Resolution", "Aliases".

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    rc::Rc,
};

use super::{
    Schema,
    program::{FieldType, NullBranch, Op, Program, Step, simple_name},
};
use crate::types::limits::{COMPATIBILITY_STEPS_MAX, VIOLATION_PATH_BYTES_MAX, VIOLATIONS_MAX};

/// Which of two versions reads what the other one wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The new one reads what the old one wrote.
    Backward,
    /// The old one reads what the new one wrote.
    Forward,
}

/// One reason why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who reads whom.
    pub direction: Direction,
    /// The field, from the outermost record on: `OrderCreated__e.Lines__c[].Amount`. What an array has
    /// is written `[]`, what a map has `{}`. In records that lie very deep it begins with the record.
    pub path: String,
    /// What is broken.
    pub rule: Rule,
}

/// A rule of resolution that two versions break. The texts are of Avro: names and types, no values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The reader has a field that the writer does not write, and no default for it.
    FieldWithoutDefault,
    /// The writer's type is not one that the reader's can be read from.
    Type {
        /// What is written.
        writer: String,
        /// What is read.
        reader: String,
    },
    /// The writer's type has another name.
    Name {
        /// Full name of what is written.
        writer: String,
        /// Full name of what is read.
        reader: String,
    },
    /// A fixed has another size.
    Size {
        /// Bytes that are written.
        writer: usize,
        /// Bytes that are read.
        reader: usize,
    },
    /// The writer's enum has symbols that the reader's does not have, and that has no default.
    Symbols(Vec<String>),
    /// The writer's union has a branch that the reader cannot read.
    Branch(String),
    /// The schemas are too intricate for this to be found out.
    TooIntricate,
}

impl Rule {
    /// The rule's name, as it is printed and never changed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FieldWithoutDefault => "field-without-default",
            Self::Type { .. } => "type-changed",
            Self::Name { .. } => "name-changed",
            Self::Size { .. } => "size-changed",
            Self::Symbols(_) => "symbols-missing",
            Self::Branch(_) => "branch-missing",
            Self::TooIntricate => "too-intricate",
        }
    }
}

impl Violation {
    /// What the author of the new version can do about it.
    pub fn fix(&self) -> String {
        let is_new_reader = self.direction == Direction::Backward;
        match &self.rule {
            Rule::FieldWithoutDefault if is_new_reader => {
                "give the field a default: null, with null as the first type of a union".to_owned()
            }
            Rule::FieldWithoutDefault => {
                "keep the field: it has no default where the old version is read".to_owned()
            }
            Rule::Type { writer, reader } => {
                let old = if is_new_reader { writer } else { reader };
                format!("keep the type {old}, and add a field of another name for the new one")
            }
            Rule::Name { writer, .. } if is_new_reader => {
                format!("keep the name, or add {writer} to the aliases of the type")
            }
            Rule::Name { reader, .. } => format!("keep the name {reader}"),
            Rule::Size { writer, reader } => {
                let old = if is_new_reader { writer } else { reader };
                format!("keep the size {old}, and add a type of another name for the new one")
            }
            Rule::Symbols(symbols) if is_new_reader => {
                let symbols = symbols.join(", ");
                format!("keep the symbols {symbols}, or give the enum a default")
            }
            Rule::Symbols(symbols) => {
                let symbols = symbols.join(", ");
                format!(
                    "leave out {symbols} until every reader has a version whose enum has a default"
                )
            }
            Rule::Branch(branch) if is_new_reader => format!("keep {branch} in the union"),
            Rule::Branch(branch) => {
                format!("leave {branch} out of the union until every reader has a version with it")
            }
            Rule::TooIntricate => "make the schema simpler: fewer types of one name".to_owned(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reader, writer) = match self.direction {
            Direction::Backward => ("the new version", "the old one"),
            Direction::Forward => ("the old version", "the new one"),
        };
        write!(f, "{}: {reader} ", self.path)?;
        match &self.rule {
            Rule::FieldWithoutDefault => {
                write!(
                    f,
                    "needs the field, which {writer} does not have, and has no default for it"
                )
            }
            Rule::Type {
                writer: found,
                reader: wanted,
            } => write!(f, "reads {wanted}, {writer} has {found}"),
            Rule::Name {
                writer: found,
                reader: wanted,
            } => write!(f, "calls the type {wanted}, {writer} calls it {found}"),
            Rule::Size {
                writer: found,
                reader: wanted,
            } => write!(f, "reads {wanted} bytes, {writer} has {found}"),
            Rule::Symbols(symbols) => {
                let symbols = symbols.join(", ");
                write!(
                    f,
                    "has no symbol {symbols}, which {writer} has, and no default"
                )
            }
            Rule::Branch(branch) => write!(f, "cannot read {branch}, which {writer} may have"),
            Rule::TooIntricate => {
                write!(f, "cannot be compared with {writer}: it is too intricate")
            }
        }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    /// The first of them, in the order of the reader's fields.
    pub listed: Vec<Violation>,
    /// How many more there are than are listed.
    pub more: usize,
}

impl Violations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    fn push(&mut self, violation: Violation) {
        if self.listed.len() < VIOLATIONS_MAX {
            self.listed.push(violation);
        } else {
            self.more += 1;
        }
    }
}

/// Every reason why a value cannot be read with one of two versions that was written with the other.
/// Work and memory are bounded by [`COMPATIBILITY_STEPS_MAX`] and [`VIOLATIONS_MAX`].
pub fn violations(new: &Schema, old: &Schema, direction: Direction) -> Violations {
    let (reader, writer) = match direction {
        Direction::Backward => (new, old),
        Direction::Forward => (old, new),
    };
    let mut violations = Violations::default();
    let mut resolver = Resolver::new(reader.program(), writer.program());
    let root = reader.program().root().name();
    if resolver.resolve().is_err() {
        violations.push(Violation {
            direction,
            path: root.to_owned(),
            rule: Rule::TooIntricate,
        });
        return violations;
    }
    resolver.budget = COMPATIBILITY_STEPS_MAX;
    let mut report = Report {
        resolver,
        direction,
        violations,
        path: root.to_owned(),
        seen: HashSet::new(),
        ahead: VecDeque::new(),
    };
    if report.walk().is_err() {
        report.violate(Rule::TooIntricate);
    }
    report.violations
}

/// The budget is used up.
#[derive(Debug)]
struct TooIntricate;

/// A field of the reader's record, its type, and the type that it is read from if it is written.
type FieldPair<'a> = (&'a FieldType, Step, Option<Step>);

/// Indexes of a reader's record and a writer's.
type Pair = (u32, u32);

/// Which records can be read.
struct Resolver<'a> {
    reader: &'a Program,
    writer: &'a Program,
    /// Whether the reader's record reads the writer's, as far as is known.
    pairs: HashMap<Pair, bool>,
    /// Those that are to be looked at.
    ahead: VecDeque<Pair>,
    /// The one that is looked at.
    current: Option<Pair>,
    /// Which pairs relied on one when they were looked at.
    relying: HashMap<Pair, Vec<Pair>>,
    /// The reader's larger unions by the names in them.
    unions: HashMap<u32, Rc<UnionIndex<'a>>>,
    budget: usize,
}

/// The branches of a union by what they are called: unions of thousands of records are compared without
/// trying each with each.
#[derive(Default)]
struct UnionIndex<'a> {
    unnamed: Vec<Op>,
    by_simple_name: HashMap<&'a str, Vec<Op>>,
    by_alias: HashMap<&'a str, Vec<Op>>,
}

impl<'a> Resolver<'a> {
    fn new(reader: &'a Program, writer: &'a Program) -> Self {
        Self {
            reader,
            writer,
            pairs: HashMap::new(),
            ahead: VecDeque::new(),
            current: None,
            relying: HashMap::new(),
            unions: HashMap::new(),
            budget: COMPATIBILITY_STEPS_MAX,
        }
    }

    fn roots(&self) -> (Op, Op) {
        let (reader, writer) = (self.reader.root_index(), self.writer.root_index());
        (Op::Record(reader), Op::Record(writer))
    }

    fn resolve(&mut self) -> Result<(), TooIntricate> {
        let (reader, writer) = self.roots();
        self.plain_reads(reader, writer)?;
        while let Some(pair) = self.ahead.pop_front() {
            if !self.pairs[&pair] {
                continue;
            }
            self.current = Some(pair);
            if !self.record_reads(pair)? {
                self.pairs.insert(pair, false);
                self.ahead
                    .extend(self.relying.remove(&pair).into_iter().flatten());
            }
        }
        self.current = None;
        Ok(())
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooIntricate> {
        self.budget = self.budget.checked_sub(steps).ok_or(TooIntricate)?;
        Ok(())
    }

    fn reads(&mut self, reader: Step, writer: Step) -> Result<bool, TooIntricate> {
        for writer in branches(self.writer, writer) {
            if self.reading_branch(reader, writer)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first branch of the reader, or its type if it is no union, that reads the writer's.
    fn reading_branch(&mut self, reader: Step, writer: Op) -> Result<Option<Op>, TooIntricate> {
        for reader in self.candidates(reader, writer)? {
            if self.plain_reads(reader, writer)? {
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    /// The branches of the reader, or its type if it is no union, that may read the writer's.
    fn candidates(&mut self, reader: Step, writer: Op) -> Result<Vec<Op>, TooIntricate> {
        let Op::Union(union) = reader.op else {
            return Ok(branches(self.reader, reader));
        };
        let index = match self.unions.get(&union) {
            Some(index) => Rc::clone(index),
            None => {
                let branches = branches(self.reader, reader);
                self.spend(branches.len())?;
                let index = Rc::new(UnionIndex::new(self.reader, branches));
                self.unions.insert(union, Rc::clone(&index));
                index
            }
        };
        let Some((written, _)) = names(self.writer, writer) else {
            return Ok(index.unnamed.clone());
        };
        let alike = index.by_simple_name.get(simple_name(written));
        let renamed = index.by_alias.get(written);
        let candidates = [alike, renamed].into_iter().flatten();
        let candidates: Vec<_> = candidates.flatten().copied().collect();
        self.spend(candidates.len())?;
        Ok(candidates)
    }

    /// Whether one type that is no union reads another.
    fn plain_reads(&mut self, reader: Op, writer: Op) -> Result<bool, TooIntricate> {
        self.spend(1)?;
        Ok(match (reader, writer) {
            (Op::Record(r), Op::Record(w)) => {
                is_alike(self.reader, reader, self.writer, writer) && self.is_readable((r, w))
            }
            (Op::Enum(r), Op::Enum(w)) => {
                is_alike(self.reader, reader, self.writer, writer)
                    && self.missing_symbols(r, w)?.is_empty()
            }
            (Op::Fixed(r), Op::Fixed(w)) => {
                is_alike(self.reader, reader, self.writer, writer)
                    && self.reader.fixed[r as usize].size == self.writer.fixed[w as usize].size
            }
            (Op::Array(r), Op::Array(w)) | (Op::Map(r), Op::Map(w)) => {
                let (reader, writer) =
                    (self.reader.steps[r as usize], self.writer.steps[w as usize]);
                self.reads(reader, writer)?
            }
            _ => is_alike(self.reader, reader, self.writer, writer),
        })
    }

    fn is_readable(&mut self, pair: Pair) -> bool {
        let ahead = &mut self.ahead;
        let is_readable = *self.pairs.entry(pair).or_insert_with(|| {
            ahead.push_back(pair);
            true
        });
        if let Some(current) = self.current.filter(|_| is_readable) {
            self.relying.entry(pair).or_default().push(current);
        }
        is_readable
    }

    fn record_reads(&mut self, (reader, writer): Pair) -> Result<bool, TooIntricate> {
        for (field, reader, writer) in self.fields((reader, writer))? {
            let is_read = match writer {
                Some(writer) => self.reads(reader, writer)?,
                None => field.default.is_some(),
            };
            if !is_read {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The fields of the reader's record with their types, and the types of the writer's fields that
    /// they are read from.
    fn fields(&mut self, (reader, writer): Pair) -> Result<Vec<FieldPair<'a>>, TooIntricate> {
        let (reader_program, writer_program) = (self.reader, self.writer);
        let reader = &reader_program.records[reader as usize];
        let writer = &writer_program.records[writer as usize];
        self.spend(reader.fields().len() + writer.fields().len())?;
        let steps = writer_program.steps[writer.steps.clone()].iter();
        let names = writer.fields().iter().map(FieldType::name);
        let written: HashMap<&str, Step> = names.zip(steps.copied()).collect();
        let find = |field: &FieldType| {
            let aliases = field.aliases.iter().map(String::as_str);
            let mut names = std::iter::once(field.name()).chain(aliases);
            names.find_map(|name| written.get(name).copied())
        };
        let steps = reader_program.steps[reader.steps.clone()].iter();
        let fields = reader.fields().iter().zip(steps);
        Ok(fields
            .map(|(field, step)| (field, *step, find(field)))
            .collect())
    }

    /// Symbols of the writer's enum that the reader's can do nothing with.
    fn missing_symbols(&mut self, reader: u32, writer: u32) -> Result<Vec<String>, TooIntricate> {
        let reader = &self.reader.enums[reader as usize];
        let writer = &self.writer.enums[writer as usize];
        if reader.default.is_some() {
            return Ok(Vec::new());
        }
        self.spend(reader.symbols.len() + writer.symbols.len())?;
        let known: HashSet<_> = reader.symbols.iter().collect();
        let missing = writer
            .symbols
            .iter()
            .filter(|symbol| !known.contains(symbol));
        Ok(missing.cloned().collect())
    }
}

/// The branches of a union, or the type alone if it is none.
fn branches(program: &Program, step: Step) -> Vec<Op> {
    match (step.null, step.op) {
        (NullBranch::None, Op::Union(union)) => {
            let branches = &program.unions[union as usize].branches;
            branches.iter().map(|branch| branch.op).collect()
        }
        (NullBranch::None, op) => vec![op],
        (NullBranch::First, op) => vec![Op::Null, op],
        (NullBranch::Second, op) => vec![op, Op::Null],
    }
}

impl<'a> UnionIndex<'a> {
    fn new(program: &'a Program, branches: Vec<Op>) -> Self {
        let mut index = Self::default();
        for branch in branches {
            let Some((full_name, aliases)) = names(program, branch) else {
                index.unnamed.push(branch);
                continue;
            };
            let alike = index.by_simple_name.entry(simple_name(full_name));
            alike.or_default().push(branch);
            for alias in aliases {
                index.by_alias.entry(alias).or_default().push(branch);
            }
        }
        index
    }
}

/// The full name and the aliases of a named type.
fn names(program: &Program, op: Op) -> Option<(&str, &[String])> {
    match op {
        Op::Record(index) => {
            let record = &program.records[index as usize];
            Some((record.full_name(), &record.aliases))
        }
        Op::Enum(index) => {
            let schema = &program.enums[index as usize];
            Some((schema.full_name(), &schema.aliases))
        }
        Op::Fixed(index) => {
            let fixed = &program.fixed[index as usize];
            Some((&fixed.full_name, &fixed.aliases))
        }
        _ => None,
    }
}

/// Whether one type may be read as the other as far as their kinds and names go.
fn is_alike(reader_program: &Program, reader: Op, writer_program: &Program, writer: Op) -> bool {
    match (reader, writer) {
        (Op::Record(_), Op::Record(_))
        | (Op::Enum(_), Op::Enum(_))
        | (Op::Fixed(_), Op::Fixed(_)) => {
            let both = names(reader_program, reader).zip(names(writer_program, writer));
            both.is_some_and(|((name, aliases), (written, _))| {
                simple_name(name) == simple_name(written)
                    || aliases.iter().any(|alias| alias == written)
            })
        }
        (Op::Array(_), Op::Array(_)) | (Op::Map(_), Op::Map(_)) => true,
        // What may be read as something wider, or as the same bytes.
        (Op::Long | Op::Float | Op::Double, Op::Int)
        | (Op::Float | Op::Double, Op::Long)
        | (Op::Double, Op::Float)
        | (Op::Bytes, Op::String)
        | (Op::String, Op::Bytes) => true,
        (reader, writer) => reader == writer,
    }
}

/// A walk over what cannot be read.
struct Report<'a> {
    resolver: Resolver<'a>,
    direction: Direction,
    violations: Violations,
    /// Where the walk is.
    path: String,
    /// Records that were met: what is wrong in them is told once, for the place nearest to the root.
    seen: HashSet<Pair>,
    /// Those to be looked at, and where they are. A chain of records can be as long as the schema, so
    /// it is not followed by recursion.
    ahead: VecDeque<(Pair, String)>,
}

impl Report<'_> {
    fn walk(&mut self) -> Result<(), TooIntricate> {
        let (reader, writer) = self.resolver.roots();
        self.plain(reader, writer)?;
        while let Some((pair, path)) = self.ahead.pop_front() {
            self.path = path;
            self.record(pair)?;
        }
        Ok(())
    }

    fn violate(&mut self, rule: Rule) {
        self.violations.push(Violation {
            direction: self.direction,
            path: self.path.clone(),
            rule,
        });
    }

    /// Goes on one level deeper.
    fn within(
        &mut self,
        part: &str,
        look: impl FnOnce(&mut Self) -> Result<(), TooIntricate>,
    ) -> Result<(), TooIntricate> {
        let length = self.path.len();
        self.path.push_str(part);
        let looked = look(self);
        self.path.truncate(length);
        looked
    }

    fn types(&mut self, reader: Step, writer: Step) -> Result<(), TooIntricate> {
        let (reader_program, writer_program) = (self.resolver.reader, self.resolver.writer);
        let readers = branches(reader_program, reader);
        let writers = branches(writer_program, writer);
        for &written in &writers {
            if self.resolver.reading_branch(reader, written)?.is_some() {
                continue;
            }
            // Where one branch was meant, what is wrong is inside of it.
            let mut candidates = self.resolver.candidates(reader, written)?;
            candidates.retain(|op| is_alike(reader_program, *op, writer_program, written));
            let meant = match (readers.as_slice(), writers.as_slice()) {
                ([only], [_]) => Some(*only),
                _ => candidates.first().copied(),
            };
            match meant {
                Some(meant) => self.plain(meant, written)?,
                None if writers.len() > 1 => {
                    let branch = type_text(writer_program, &[written]);
                    self.violate(Rule::Branch(branch));
                }
                None => self.violate(Rule::Type {
                    writer: type_text(writer_program, &[written]),
                    reader: type_text(reader_program, &readers),
                }),
            }
        }
        Ok(())
    }

    /// What is wrong between two types that are no unions.
    fn plain(&mut self, reader: Op, writer: Op) -> Result<(), TooIntricate> {
        let (reader_program, writer_program) = (self.resolver.reader, self.resolver.writer);
        let is_alike = is_alike(reader_program, reader, writer_program, writer);
        match (reader, writer) {
            (Op::Record(r), Op::Record(w)) if is_alike => {
                if self.seen.insert((r, w)) {
                    let mut path = self.path.clone();
                    if path.len() > VIOLATION_PATH_BYTES_MAX {
                        reader_program.records[r as usize]
                            .name()
                            .clone_into(&mut path);
                    }
                    self.ahead.push_back(((r, w), path));
                }
                Ok(())
            }
            (Op::Enum(r), Op::Enum(w)) if is_alike => {
                let missing = self.resolver.missing_symbols(r, w)?;
                if !missing.is_empty() {
                    self.violate(Rule::Symbols(missing));
                }
                Ok(())
            }
            (Op::Fixed(r), Op::Fixed(w)) if is_alike => {
                let reader = reader_program.fixed[r as usize].size;
                let writer = writer_program.fixed[w as usize].size;
                if reader != writer {
                    self.violate(Rule::Size { writer, reader });
                }
                Ok(())
            }
            (Op::Record(_), Op::Record(_))
            | (Op::Enum(_), Op::Enum(_))
            | (Op::Fixed(_), Op::Fixed(_)) => {
                self.violate(Rule::Name {
                    writer: type_text(writer_program, &[writer]),
                    reader: type_text(reader_program, &[reader]),
                });
                Ok(())
            }
            (Op::Array(r), Op::Array(w)) => {
                let (reader, writer) = (
                    reader_program.steps[r as usize],
                    writer_program.steps[w as usize],
                );
                self.within("[]", |report| report.types(reader, writer))
            }
            (Op::Map(r), Op::Map(w)) => {
                let (reader, writer) = (
                    reader_program.steps[r as usize],
                    writer_program.steps[w as usize],
                );
                self.within("{}", |report| report.types(reader, writer))
            }
            _ if is_alike => Ok(()),
            _ => {
                self.violate(Rule::Type {
                    writer: type_text(writer_program, &[writer]),
                    reader: type_text(reader_program, &[reader]),
                });
                Ok(())
            }
        }
    }

    fn record(&mut self, pair: Pair) -> Result<(), TooIntricate> {
        for (field, reader, writer) in self.resolver.fields(pair)? {
            self.within(&format!(".{}", field.name()), |report| match writer {
                Some(writer) => report.types(reader, writer),
                None => {
                    if field.default.is_none() {
                        report.violate(Rule::FieldWithoutDefault);
                    }
                    Ok(())
                }
            })?;
        }
        Ok(())
    }
}

/// What a type is called in a sentence.
fn type_text(program: &Program, ops: &[Op]) -> String {
    let names: Vec<_> = ops.iter().map(|op| program.branch_name(*op)).collect();
    names.join(" or ")
}

#[cfg(test)]
mod tests;
