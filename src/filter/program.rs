//! A filter compiled for one schema: which fields to pick from a payload, and what is asked of each.
//!
//! The same compilation is the check of a filter that is to be stored. There whatever does not fit the
//! schema is an error; for an older version of the schema it is a field that is null.

use std::cmp::Ordering;

use super::{
    Comparison, Condition, Expression, FieldName, Filter, FilterError, Literal, LiteralValue,
    Number, Problem, Span, Test,
    text::{Case, Like},
};
use crate::{
    schema::{
        PayloadError, Schema,
        pick::{FieldInfo, FieldPath, NoField, Picked, PickedKind, Picker},
        program::Meaning,
    },
    types::{TopicKind, TopicName, limits::FILTER_FIELDS_MAX},
};

const MILLIS_PER_DAY: i64 = 24 * 60 * 60 * 1_000;

/// Holds a filter against the schema of the events that it is for.
///
/// # Errors
///
/// [`FilterError`]: the first field, operator or value that does not go with the schema.
pub fn check(filter: &Filter, schema: &Schema) -> Result<(), FilterError> {
    Compiler::new(filter, schema)
        .expression(filter.root())
        .map(drop)
}

/// A filter for the events of one schema.
#[derive(Clone, Debug)]
pub struct FilterProgram {
    picker: Picker,
    root: Node,
}

impl FilterProgram {
    /// Compiles a filter for a schema, which may be another version of the one that it was checked with:
    /// what does not fit is null.
    pub fn compile(filter: &Filter, schema: &Schema) -> Self {
        let mut compiler = Compiler::new(filter, schema);
        compiler.is_lenient = true;
        // Leniently there is no error; an event that is not understood does not match.
        let root = compiler.expression(filter.root());
        Self {
            picker: Picker::new(schema, &compiler.paths),
            root: root.unwrap_or(Node::Known(None)),
        }
    }

    /// Whether the event with this payload matches. The payload is read up to the last field that is
    /// needed.
    ///
    /// # Errors
    ///
    /// [`PayloadError`]: it cannot be read that far.
    pub fn matches(&self, payload: &[u8]) -> Result<bool, PayloadError> {
        let mut fields = [Picked::Null; FILTER_FIELDS_MAX];
        self.picker.pick(payload, &mut fields)?;
        Ok(self.root.eval(&fields) == Some(true))
    }
}

/// An expression over picked fields. What it says is true, false, or neither.
#[derive(Clone, Debug)]
enum Node {
    Known(Option<bool>),
    Not(Box<Node>),
    And(Box<[Node]>),
    Or(Box<[Node]>),
    Asked { slot: usize, question: Question },
}

/// What is asked of a field.
#[derive(Clone, Debug)]
enum Question {
    IsNull,
    /// Whether it is this boolean; null is false.
    Is(bool),
    Number(Comparison, Number),
    /// Whether it is one of these numbers, which are sorted.
    Numbers(Box<[Number]>),
    Text(Case, Comparison, Box<str>),
    /// Whether it is one of these texts, which are sorted.
    Texts(Case, Box<[Box<str>]>),
    Like(Like),
}

impl Node {
    fn eval(&self, fields: &[Picked<'_>]) -> Option<bool> {
        match self {
            Self::Known(known) => *known,
            Self::Not(inner) => inner.eval(fields).map(|value| !value),
            Self::And(parts) => decided_by(false, parts, fields),
            Self::Or(parts) => decided_by(true, parts, fields),
            Self::Asked { slot, question } => question.ask(fields[*slot]),
        }
    }

    fn any(mut nodes: Vec<Self>) -> Self {
        match nodes.len() {
            1 => nodes.remove(0),
            _ => Self::Or(nodes.into()),
        }
    }
}

/// The value that one of the parts decides, else the other if every part has that.
fn decided_by(decisive: bool, parts: &[Node], fields: &[Picked<'_>]) -> Option<bool> {
    let mut value = Some(!decisive);
    for part in parts {
        match part.eval(fields) {
            Some(decided) if decided == decisive => return Some(decisive),
            Some(_) => {}
            None => value = None,
        }
    }
    value
}

impl Question {
    fn ask(&self, field: Picked<'_>) -> Option<bool> {
        match (self, field) {
            (Self::IsNull, field) => Some(field == Picked::Null),
            (Self::Is(wanted), Picked::Null) => Some(!wanted),
            (Self::Is(wanted), Picked::Boolean(found)) => Some(found == *wanted),
            (Self::Number(comparison, wanted), field) => {
                order(field, *wanted).map(|ordering| holds(*comparison, ordering))
            }
            (Self::Numbers(numbers), field) => {
                order(field, *numbers.first()?)?;
                let found = numbers.binary_search_by(|number| {
                    // It has an order with the first, so it has one with each.
                    order(field, *number).map_or(Ordering::Less, Ordering::reverse)
                });
                Some(found.is_ok())
            }
            (Self::Text(case, comparison, wanted), Picked::Text(found)) => {
                Some(holds(*comparison, case.compare(found, wanted)))
            }
            (Self::Texts(case, texts), Picked::Text(found)) => {
                let found = texts.binary_search_by(|text| case.compare(found, text).reverse());
                Some(found.is_ok())
            }
            (Self::Like(like), Picked::Text(found)) => Some(like.matches(found)),
            _ => None,
        }
    }
}

fn holds(comparison: Comparison, ordering: Ordering) -> bool {
    match comparison {
        Comparison::Equal => ordering.is_eq(),
        Comparison::NotEqual => ordering.is_ne(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    }
}

/// How a field compares with a number; `None` if it is none, or is not a number in the sense of IEEE 754.
fn order(field: Picked<'_>, number: Number) -> Option<Ordering> {
    match field {
        Picked::Long(found) => match number.whole {
            Some(whole) => Some(found.cmp(&whole)),
            None => (found as f64).partial_cmp(&number.nearest),
        },
        Picked::Double(found) => found.partial_cmp(&number.nearest),
        // The number that is meant is the one that a float can be.
        Picked::Float(found) => found.partial_cmp(&(number.nearest as f32)),
        _ => None,
    }
}

struct Compiler<'f, 's> {
    filter: &'f Filter,
    schema: &'s Schema,
    /// Whether what does not fit is null, and no error.
    is_lenient: bool,
    /// The fields that are picked, each once.
    paths: Vec<FieldPath>,
}

/// What a value of a filter is to a field.
enum Operand {
    Null,
    Boolean(bool),
    Number(Number),
    Text(String),
}

impl<'f, 's> Compiler<'f, 's> {
    fn new(filter: &'f Filter, schema: &'s Schema) -> Self {
        Self {
            filter,
            schema,
            is_lenient: false,
            paths: Vec::new(),
        }
    }

    fn expression(&mut self, expression: &Expression) -> Result<Node, FilterError> {
        let list = |compiler: &mut Self, parts: &[Expression]| {
            let parts = parts.iter().map(|part| compiler.expression(part));
            parts.collect::<Result<Box<[_]>, _>>()
        };
        Ok(match expression {
            Expression::Condition(condition) => match self.condition(condition) {
                Err(_) if self.is_lenient => of_null(&condition.test),
                node => node?,
            },
            Expression::Not(inner) => Node::Not(Box::new(self.expression(inner)?)),
            Expression::And(parts) => Node::And(list(self, parts)?),
            Expression::Or(parts) => Node::Or(list(self, parts)?),
        })
    }

    fn condition(&mut self, condition: &Condition) -> Result<Node, FilterError> {
        let name = &condition.field;
        let field = self.schema.field(&name.name, name.part.as_deref());
        let field = field.map_err(|missing| self.no_field(name, missing))?;
        if field.kinds.is_empty() {
            let problem = Problem::NotComparable {
                field: shown(name),
                type_text: field.type_text,
            };
            return Err(self.failed(name.span, problem));
        }
        let slot = match self.paths.iter().position(|path| *path == field.path) {
            Some(slot) => slot,
            None => {
                self.paths.push(field.path);
                self.paths.len() - 1
            }
        };
        let case = match field.field.is_case_sensitive() {
            true => Case::Matters,
            false => Case::Folded,
        };
        let asked = |question| Node::Asked { slot, question };
        match &condition.test {
            Test::Compare(comparison, literal) => {
                let comparison = *comparison;
                let negated = |node| match comparison {
                    Comparison::NotEqual => Node::Not(Box::new(node)),
                    _ => node,
                };
                Ok(match self.operand(name, &field, literal)? {
                    Operand::Null => negated(asked(Question::IsNull)),
                    Operand::Boolean(value) => negated(asked(Question::Is(value))),
                    Operand::Number(number) => asked(Question::Number(comparison, number)),
                    Operand::Text(text) => {
                        let text = case.fold_text(&text).into();
                        asked(Question::Text(case, comparison, text))
                    }
                })
            }
            Test::Like(pattern) => {
                if !field.kinds.contains(&PickedKind::Text) {
                    let problem = wrong_kind(name, &field, "a pattern");
                    return Err(self.failed(pattern.span, problem));
                }
                let like = Like::new(&pattern.parts, case);
                let like = like.ok_or_else(|| self.failed(pattern.span, Problem::WildPiece))?;
                Ok(asked(Question::Like(like)))
            }
            Test::In { values, is_negated } => {
                let is_change = TopicName::for_record(self.schema.record_name())
                    .is_ok_and(|topic| topic.kind() == TopicKind::ChangeEvent);
                if is_change {
                    let operator = if *is_negated { "NOT IN" } else { "IN" };
                    return Err(self.failed(name.span, Problem::NotForChanges(operator)));
                }
                let mut nodes = Vec::new();
                let (mut numbers, mut texts) = (Vec::new(), Vec::new());
                for literal in values {
                    match self.operand(name, &field, literal)? {
                        Operand::Null => nodes.push(asked(Question::IsNull)),
                        Operand::Boolean(value) => nodes.push(asked(Question::Is(value))),
                        Operand::Number(number) => numbers.push(number),
                        Operand::Text(text) => texts.push(Box::from(case.fold_text(&text))),
                    }
                }
                if !numbers.is_empty() {
                    numbers.sort_by(|left, right| {
                        let nearest = left.nearest.total_cmp(&right.nearest);
                        nearest.then(left.whole.cmp(&right.whole))
                    });
                    nodes.push(asked(Question::Numbers(numbers.into())));
                }
                if !texts.is_empty() {
                    texts.sort_unstable();
                    nodes.push(asked(Question::Texts(case, texts.into())));
                }
                let node = Node::any(nodes);
                Ok(match is_negated {
                    true => Node::Not(Box::new(node)),
                    false => node,
                })
            }
        }
    }

    /// What a value is to a field, if it goes with it.
    fn operand(
        &self,
        name: &FieldName,
        field: &FieldInfo<'_>,
        literal: &Literal,
    ) -> Result<Operand, FilterError> {
        let has = |kind| field.kinds.contains(&kind);
        let meaning = field.field.meaning();
        // A long of which nothing else is said may be a number or any time.
        let means = |wanted| has(PickedKind::Long) && [wanted, Meaning::Unknown].contains(&meaning);
        let is_number = has(PickedKind::Double) || means(Meaning::Unknown);
        Ok(match &literal.value {
            LiteralValue::Null if has(PickedKind::Boolean) => Operand::Boolean(false),
            LiteralValue::Null => Operand::Null,
            LiteralValue::Boolean(value) if has(PickedKind::Boolean) => Operand::Boolean(*value),
            LiteralValue::Text(text) if has(PickedKind::Text) => Operand::Text(text.clone()),
            LiteralValue::Number(number) if is_number => Operand::Number(*number),
            LiteralValue::DateTime(millis) if means(Meaning::DateTime) => {
                Operand::Number(Number::whole(*millis))
            }
            LiteralValue::Date(days) if means(Meaning::Date) => {
                Operand::Number(Number::whole(i64::from(*days) * MILLIS_PER_DAY))
            }
            LiteralValue::Time(millis) if means(Meaning::Time) => {
                Operand::Number(Number::whole((*millis).into()))
            }
            other => {
                let problem = wrong_kind(name, field, other.kind());
                return Err(self.failed(literal.span, problem));
            }
        })
    }

    fn no_field(&self, name: &FieldName, missing: NoField) -> FilterError {
        let problem = match (missing, &name.part) {
            (NoField::NotCompound | NoField::Part, Some(part)) => Problem::NoPart {
                field: name.name.clone(),
                part: part.clone(),
            },
            _ => Problem::NoField {
                record: self.schema.record_name().to_owned(),
                field: name.name.clone(),
            },
        };
        self.failed(name.span, problem)
    }

    fn failed(&self, span: Span, problem: Problem) -> FilterError {
        FilterError::new(self.filter.text(), span, problem)
    }
}

fn wrong_kind(name: &FieldName, field: &FieldInfo<'_>, found: &'static str) -> Problem {
    let meaning = field.field.meaning();
    let wanted = match (field.kinds.first(), meaning) {
        (Some(PickedKind::Boolean), _) => "true, false or null",
        (Some(PickedKind::Text), _) => "a text in single quotes",
        (Some(PickedKind::Long), Meaning::DateTime) => {
            "a date and time, as in 2026-01-31T08:30:00Z"
        }
        (Some(PickedKind::Long), Meaning::Date) => "a date, as in 2026-01-31",
        (Some(PickedKind::Long), Meaning::Time) => "a time of day, as in 08:30:00Z",
        (Some(PickedKind::Long), Meaning::Unknown) => "a number, a date or a time",
        (Some(PickedKind::Double) | None, _) => "a number",
    };
    Problem::WrongKind {
        field: shown(name),
        type_text: field.type_text.clone(),
        wanted,
        found,
    }
}

fn shown(name: &FieldName) -> String {
    match &name.part {
        Some(part) => format!("{}.{part}", name.name),
        None => name.name.clone(),
    }
}

/// What a test says of a field that is null, or false where it asks for a boolean.
fn of_null(test: &Test) -> Node {
    let is_null = |literal: &Literal| match literal.value {
        LiteralValue::Null => Some(true),
        LiteralValue::Boolean(value) => Some(!value),
        _ => None,
    };
    Node::Known(match test {
        Test::Compare(Comparison::NotEqual, literal) => is_null(literal).map(|value| !value),
        Test::Compare(_, literal) => is_null(literal),
        Test::Like(_) => None,
        Test::In { values, is_negated } => {
            let nodes: Vec<_> = values
                .iter()
                .map(|literal| Node::Known(is_null(literal)))
                .collect();
            let is_any = decided_by(true, &nodes, &[]);
            is_any.map(|value| value != *is_negated)
        }
    })
}

#[cfg(test)]
mod tests;
