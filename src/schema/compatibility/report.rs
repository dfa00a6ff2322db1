//! Why one schema cannot be read from another: one walk over what [`Resolver`] found out.

use std::collections::{HashSet, VecDeque};

use super::super::program::{Op, Program, Step};
use super::{
    Direction, Rule, Violation, Violations,
    resolve::{Pair, Resolver, TooIntricate, branches, is_alike},
};
use crate::types::limits::VIOLATION_PATH_BYTES_MAX;

/// A walk over what cannot be read.
pub(super) struct Report<'a> {
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

impl<'a> Report<'a> {
    /// A report on what `resolver` has resolved.
    pub(super) fn new(resolver: Resolver<'a>, direction: Direction) -> Self {
        let path = resolver.reader.root().name().to_owned();
        Self {
            resolver,
            direction,
            violations: Violations::default(),
            path,
            seen: HashSet::new(),
            ahead: VecDeque::new(),
        }
    }

    /// Every reason why the writer's record cannot be read, and the budget that is left.
    pub(super) fn violations(mut self) -> (Violations, usize) {
        if self.walk().is_err() {
            self.violate(Rule::TooIntricate);
        }
        (self.violations, self.resolver.budget_left())
    }

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
                    self.violate(Rule::Symbols(first_of(missing)));
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
    let names = ops.iter().map(|op| program.branch_name(*op).to_owned());
    first_of(names.collect()).join(" or ")
}

/// The first of some names, and how many more there are: a reason is for people, and there may be many.
fn first_of(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(NAMES_MAX);
    if more > 0 {
        names.truncate(NAMES_MAX);
        names.push(format!("{more} more"));
    }
    names
}

/// How many symbols or branches a reason names.
const NAMES_MAX: usize = 20;
