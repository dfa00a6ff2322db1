//! Which types of one schema can be read from those of another.
//!
//! Types may contain themselves, so whether one record reads another can depend on itself. Every pair of
//! records that is met is taken to be readable at first; whenever one is struck out, those that relied
//! on it are looked at again. Work is bounded by a budget, since unions and names can be made to ask
//! for the square of a schema's size.
//!
//! Source: Avro specification 1.12, "Schema Resolution", "Aliases".

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
};

use super::super::program::{FieldType, NullBranch, Op, Program, Step, simple_name};

/// The budget is used up.
#[derive(Debug)]
pub(super) struct TooIntricate;

/// A field of the reader's record, its type, and the type that it is read from if it is written.
pub(super) type FieldPair<'a> = (&'a FieldType, Step, Option<Step>);

/// Indexes of a reader's record and a writer's.
pub(super) type Pair = (u32, u32);

/// Which records can be read.
pub(super) struct Resolver<'a> {
    pub(super) reader: &'a Program,
    pub(super) writer: &'a Program,
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
    pub(super) fn new(reader: &'a Program, writer: &'a Program, budget: usize) -> Self {
        Self {
            reader,
            writer,
            pairs: HashMap::new(),
            ahead: VecDeque::new(),
            current: None,
            relying: HashMap::new(),
            unions: HashMap::new(),
            budget,
        }
    }

    pub(super) fn roots(&self) -> (Op, Op) {
        let (reader, writer) = (self.reader.root_index(), self.writer.root_index());
        (Op::Record(reader), Op::Record(writer))
    }

    /// Whether the reader's record reads the writer's, once that is resolved.
    pub(super) fn is_root_readable(&self) -> bool {
        let pair = (self.reader.root_index(), self.writer.root_index());
        self.pairs.get(&pair).copied().unwrap_or(false)
    }

    /// Adds steps of work, for the report.
    pub(super) fn allow_report(&mut self, steps: usize) {
        self.budget += steps;
    }

    /// Steps of work that are left.
    pub(super) fn budget_left(&self) -> usize {
        self.budget
    }

    pub(super) fn resolve(&mut self) -> Result<(), TooIntricate> {
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
        // To the last: the report relies on every pair of records that it meets being looked at here.
        let mut is_read = true;
        for writer in branches(self.writer, writer) {
            is_read &= self.reading_branch(reader, writer)?.is_some();
        }
        Ok(is_read)
    }

    /// The first branch of the reader, or its type if it is no union, that reads the writer's.
    pub(super) fn reading_branch(
        &mut self,
        reader: Step,
        writer: Op,
    ) -> Result<Option<Op>, TooIntricate> {
        for reader in self.candidates(reader, writer)? {
            if self.plain_reads(reader, writer)? {
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    /// The branches of the reader, or its type if it is no union, that may read the writer's.
    pub(super) fn candidates(&mut self, reader: Step, writer: Op) -> Result<Vec<Op>, TooIntricate> {
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
        let aliases = names(self.reader, reader).map_or(0, |(_, aliases)| aliases.len());
        self.spend(1 + aliases)?;
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
        let mut is_read = true;
        for (field, reader, writer) in self.fields((reader, writer))? {
            is_read &= match writer {
                Some(writer) => self.reads(reader, writer)?,
                None => field.default.is_some(),
            };
        }
        Ok(is_read)
    }

    /// The fields of the reader's record with their types, and the types of the writer's fields that
    /// they are read from.
    pub(super) fn fields(
        &mut self,
        (reader, writer): Pair,
    ) -> Result<Vec<FieldPair<'a>>, TooIntricate> {
        let (reader_program, writer_program) = (self.reader, self.writer);
        let reader = &reader_program.records[reader as usize];
        let writer = &writer_program.records[writer as usize];
        let aliases = reader.fields().iter().map(|field| field.aliases.len());
        self.spend(reader.fields().len() + writer.fields().len() + aliases.sum::<usize>())?;
        // An alias stands for a field of the writer that no field of the reader is called like.
        let own: HashSet<&str> = reader.fields().iter().map(FieldType::name).collect();
        let steps = writer_program.steps[writer.steps.clone()].iter();
        let names = writer.fields().iter().map(FieldType::name);
        let written: HashMap<&str, Step> = names.zip(steps.copied()).collect();
        let find = |field: &FieldType| {
            let aliases = field.aliases.iter().map(String::as_str);
            let aliases = aliases.filter(|alias| !own.contains(alias));
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
    pub(super) fn missing_symbols(
        &mut self,
        reader: u32,
        writer: u32,
    ) -> Result<Vec<String>, TooIntricate> {
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
pub(super) fn branches(program: &Program, step: Step) -> Vec<Op> {
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
pub(super) fn is_alike(
    reader_program: &Program,
    reader: Op,
    writer_program: &Program,
    writer: Op,
) -> bool {
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
