//! What differs between two versions of a schema, for people who read on.
//!
//! This says what an author did, not what it does to readers: [`compatibility`](super::compatibility)
//! knows that. Types that are defined inside of fields are followed, each once, at the first place at which
//! both versions have them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
};

use super::{
    Schema,
    outline::{self, Item, NamedKind, shown},
    program::{NullBranch, Op, Program, Step, simple_name},
    source::{Node, Object},
    type_text::type_text,
};
use crate::types::limits::{VIOLATION_PATH_BYTES_MAX, VIOLATIONS_MAX};

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field or type within the event: `Lines__c[].Amount`. What an array has is written `[]`, what a
    /// map has `{}`. Empty for the event's record itself.
    pub path: String,
    /// What became of it.
    pub kind: Change,
}

/// What became of a field or a type. The texts are of Avro: types, names, and defaults as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The field is new.
    Added {
        /// Its type.
        ty: String,
        /// Its default, if it has one.
        default: Option<String>,
    },
    /// The field is gone.
    Removed {
        /// The type that it had.
        ty: String,
    },
    /// The field has another name; the old one is among its aliases.
    FieldRenamed {
        /// The name that it had.
        from: String,
    },
    /// The type has another full name.
    TypeRenamed {
        /// The full name that it had.
        from: String,
        /// The one that it has.
        to: String,
    },
    /// The field is of another type.
    TypeChanged {
        /// The type that it had.
        from: String,
        /// The one that it has.
        to: String,
    },
    /// The field has another default, or one more or less.
    DefaultChanged {
        /// The default that it had.
        from: Option<String>,
        /// The one that it has.
        to: Option<String>,
    },
    /// The enum has another default, or one more or less.
    EnumDefaultChanged {
        /// The default that it had.
        from: Option<String>,
        /// The one that it has.
        to: Option<String>,
    },
    /// The enum has new symbols.
    SymbolsAdded(Vec<String>),
    /// The enum has lost symbols.
    SymbolsRemoved(Vec<String>),
    /// The symbols that both have are in another order.
    SymbolsReordered,
    /// The field stands elsewhere among those that both have.
    Moved,
    /// The documentation is another.
    DocChanged,
    /// The aliases are others.
    AliasesChanged,
}

impl fmt::Display for Difference {
    /// One line that begins with `+`, `-` or `~`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            Change::Added { .. } => '+',
            Change::Removed { .. } => '-',
            _ => '~',
        };
        let path = match self.path.as_str() {
            "" => "(record)",
            path => path,
        };
        write!(f, "{sign} {path}: {}", self.kind)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |default: &Option<String>| match default {
            Some(default) => default.clone(),
            None => "none".to_owned(),
        };
        match self {
            Self::Added {
                ty,
                default: Some(default),
            } => write!(f, "{ty}, default {default}"),
            Self::Added { ty, default: None } => write!(f, "{ty}, no default"),
            Self::Removed { ty } => f.write_str(ty),
            Self::FieldRenamed { from } => write!(f, "renamed from {from}, which is an alias"),
            Self::TypeRenamed { from, to } => write!(f, "type {from} -> {to}"),
            Self::TypeChanged { from, to } => write!(f, "{from} -> {to}"),
            Self::DefaultChanged { from, to } => {
                write!(f, "default {} -> {}", or_none(from), or_none(to))
            }
            Self::EnumDefaultChanged { from, to } => {
                write!(f, "default symbol {} -> {}", or_none(from), or_none(to))
            }
            Self::SymbolsAdded(symbols) => write!(f, "symbols added: {}", symbols.join(", ")),
            Self::SymbolsRemoved(symbols) => write!(f, "symbols removed: {}", symbols.join(", ")),
            Self::SymbolsReordered => f.write_str("symbols in another order"),
            Self::Moved => f.write_str("moved"),
            Self::DocChanged => f.write_str("doc changed"),
            Self::AliasesChanged => f.write_str("aliases changed"),
        }
    }
}

/// What differs from `old` in `new`: in the order of the new schema's fields, each record's own first. What
/// is gone comes after the field that it followed. Lists [`VIOLATIONS_MAX`] of them; work is linear in the
/// two texts.
pub fn differences(old: &Schema, new: &Schema) -> Vec<Difference> {
    let texts = (Node::read(old.text()), Node::read(new.text()));
    let (Some(old_text), Some(new_text)) = &texts else {
        return Vec::new();
    };
    let mut walk = Walk {
        old: Side::new(old, old_text),
        new: Side::new(new, new_text),
        seen_old: HashSet::new(),
        seen_new: HashSet::new(),
        ahead: VecDeque::new(),
        found: Vec::new(),
    };
    let (old_root, new_root) = (walk.old.program.root_index(), walk.new.program.root_index());
    walk.named(Op::Record(old_root), Op::Record(new_root), "");
    while let Some((old, new, path)) = walk.ahead.pop_front() {
        walk.record(old, new, &path);
    }
    walk.found
}

/// One of the two schemas.
struct Side<'s> {
    program: &'s Program,
    /// What the text says of each named type, and of each field by its record and index.
    types: HashMap<String, Said>,
    fields: HashMap<u32, Vec<Said>>,
}

/// What of a definition the program does not keep.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    doc: Option<String>,
    default: Option<String>,
}

impl Said {
    fn of(object: Object<'_, '_>) -> Self {
        Self {
            doc: object.text("doc").map(str::to_owned),
            default: object.get("default").map(|json| json.text.to_owned()),
        }
    }
}

impl<'s> Side<'s> {
    fn new(schema: &'s Schema, text: &Node<'_>) -> Self {
        let program = schema.program();
        let records = program.records.iter().zip(0..);
        let records: HashMap<_, u32> = records
            .map(|(record, index)| (record.full_name(), index))
            .collect();
        let mut side = Self {
            program,
            types: HashMap::new(),
            fields: HashMap::new(),
        };
        outline::walk(text, &mut |_, item| match item {
            Item::Named {
                kind,
                object,
                full_name,
            } => {
                let mut said = Said::of(object);
                if kind != NamedKind::Enum {
                    said.default = None;
                }
                side.types.insert(full_name.to_owned(), said);
            }
            Item::Field { object, record, .. } => {
                if let Some(&record) = records.get(record) {
                    side.fields
                        .entry(record)
                        .or_default()
                        .push(Said::of(object));
                }
            }
            Item::Type { .. } | Item::Word(_) => {}
        });
        side
    }

    /// The aliases of a named type.
    fn aliases(&self, op: Op) -> &'s [String] {
        let program = self.program;
        match op {
            Op::Record(index) => &program.records[index as usize].aliases,
            Op::Enum(index) => &program.enums[index as usize].aliases,
            Op::Fixed(index) => &program.fixed[index as usize].aliases,
            _ => &[],
        }
    }

    fn said(&self, record: u32, field: usize) -> Option<&Said> {
        self.fields.get(&record)?.get(field)
    }

    fn step(&self, record: u32, field: usize) -> Step {
        self.program.steps[self.program.records[record as usize].steps.start + field]
    }

    fn type_text(&self, step: Step) -> String {
        type_text(self.program, step)
    }

    /// The types of a union, or the one type.
    fn branches(&self, step: Step) -> Vec<Op> {
        match (step.null, step.op) {
            (NullBranch::First, op) => vec![Op::Null, op],
            (NullBranch::Second, op) => vec![op, Op::Null],
            (NullBranch::None, Op::Union(union)) => {
                let branches = &self.program.unions[union as usize].branches;
                branches.iter().map(|branch| branch.op).collect()
            }
            (NullBranch::None, op) => vec![op],
        }
    }
}

struct Walk<'s> {
    old: Side<'s>,
    new: Side<'s>,
    /// Named types that were compared. Each is followed once, so that the work is bounded by the texts.
    seen_old: HashSet<String>,
    seen_new: HashSet<String>,
    /// Records whose fields are to be compared, and where they are.
    ahead: VecDeque<(u32, u32, String)>,
    found: Vec<Difference>,
}

impl Walk<'_> {
    fn push(&mut self, path: &str, kind: impl FnOnce() -> Change) {
        if self.found.len() < VIOLATIONS_MAX {
            self.found.push(Difference {
                path: path.to_owned(),
                kind: kind(),
            });
        }
    }

    fn record(&mut self, old: u32, new: u32, path: &str) {
        let (old_program, new_program) = (self.old.program, self.new.program);
        let old_fields = old_program.records[old as usize].fields();
        let new_fields = new_program.records[new as usize].fields();
        let by_name: HashMap<_, _> = old_fields
            .iter()
            .enumerate()
            .map(|(index, field)| (field.name(), index))
            .collect();
        let new_names: HashSet<_> = new_fields.iter().map(|field| field.name()).collect();
        let mut taken = HashSet::new();
        // For each new field the old one that it was.
        let pairs: Vec<Option<usize>> = new_fields
            .iter()
            .map(|field| {
                let renamed = || {
                    let old = field
                        .aliases
                        .iter()
                        .filter_map(|alias| by_name.get(&**alias));
                    old.copied()
                        .find(|&old| !new_names.contains(old_fields[old].name()))
                };
                let old = by_name.get(field.name()).copied().or_else(renamed);
                old.filter(|&old| taken.insert(old))
            })
            .collect();
        let kept: Vec<usize> = pairs.iter().flatten().copied().collect();
        let in_place = rising(&kept);
        // What is gone, by the old field that it followed.
        let mut removed = vec![Vec::new(); old_fields.len() + 1];
        let mut last_kept = 0;
        for old in 0..old_fields.len() {
            if taken.contains(&old) {
                last_kept = old + 1;
            } else {
                removed[last_kept].push(old);
            }
        }
        let within = |name: &str| match path {
            "" => shown(name).into_owned(),
            path => format!("{path}.{}", shown(name)),
        };
        let removed_after = |walk: &mut Self, at: usize| {
            for &index in &removed[at] {
                let step = walk.old.step(old, index);
                let ty = walk.old.type_text(step);
                let path = within(old_fields[index].name());
                walk.push(&path, || Change::Removed { ty });
            }
        };
        removed_after(self, 0);
        for (index, (field, pair)) in new_fields.iter().zip(&pairs).enumerate() {
            // What is found beyond the bound is not looked for.
            if self.found.len() >= VIOLATIONS_MAX {
                return;
            }
            let path = within(field.name());
            match *pair {
                Some(was) => {
                    let from = old_fields[was].name();
                    let is_renamed = from != field.name();
                    if is_renamed {
                        let from = shown(from).into_owned();
                        self.push(&path, || Change::FieldRenamed { from });
                    }
                    if !in_place.contains(&was) {
                        self.push(&path, || Change::Moved);
                    }
                    self.field((old, was), (new, index), &path);
                    if !is_renamed && old_fields[was].aliases != field.aliases {
                        self.push(&path, || Change::AliasesChanged);
                    }
                    removed_after(self, was + 1);
                }
                None => {
                    let ty = self.new.type_text(self.new.step(new, index));
                    let said = self.new.said(new, index);
                    let default = said.and_then(|said| said.default.as_deref()).map(cut);
                    self.push(&path, || Change::Added { ty, default });
                }
            }
        }
    }

    fn field(
        &mut self,
        (old_record, old_field): (u32, usize),
        (new_record, new_field): (u32, usize),
        path: &str,
    ) {
        let old = self.old.step(old_record, old_field);
        let new = self.new.step(new_record, new_field);
        self.types(old, new, path);
        let old = self.old.said(old_record, old_field);
        let new = self.new.said(new_record, new_field);
        let default = |said: Option<&Said>| said.and_then(|said| said.default.clone());
        let (from, to) = (default(old), default(new));
        let docs_differ = old.map(|said| &said.doc) != new.map(|said| &said.doc);
        if !same_json(from.as_deref(), to.as_deref()) {
            let cut = |default: Option<String>| default.as_deref().map(cut);
            let (from, to) = (cut(from), cut(to));
            self.push(path, || Change::DefaultChanged { from, to });
        }
        if docs_differ {
            self.push(path, || Change::DocChanged);
        }
    }

    /// Compares two types, and what is defined in them.
    fn types(&mut self, old: Step, new: Step, path: &str) {
        if !self.are_same(old, new) {
            let from = self.old.type_text(old);
            let to = self.new.type_text(new);
            self.push(path, || Change::TypeChanged { from, to });
        }
        self.follow(old, new, path);
    }

    /// Whether two types are called the same. What is defined in them may differ.
    fn are_same(&self, old: Step, new: Step) -> bool {
        let (old, new) = (self.old.branches(old), self.new.branches(new));
        old.len() == new.len()
            && old.iter().zip(&new).all(|(&old, &new)| match (old, new) {
                (Op::Array(old), Op::Array(new)) | (Op::Map(old), Op::Map(new)) => {
                    self.are_same(self.old_step(old), self.new_step(new))
                }
                (Op::Fixed(a), Op::Fixed(b)) => {
                    let (a, b) = (
                        &self.old.program.fixed[a as usize],
                        &self.new.program.fixed[b as usize],
                    );
                    a.full_name == b.full_name && a.size == b.size
                }
                (old, new) => {
                    let (a, b) = (self.old.program, self.new.program);
                    a.type_word(old) == b.type_word(new) && a.branch_name(old) == b.branch_name(new)
                }
            })
    }

    fn old_step(&self, index: u32) -> Step {
        self.old.program.steps[index as usize]
    }

    fn new_step(&self, index: u32) -> Step {
        self.new.program.steps[index as usize]
    }

    /// Goes into what both types have.
    fn follow(&mut self, old: Step, new: Step, path: &str) {
        let (old, new) = (self.old.branches(old), self.new.branches(new));
        let mut by_name: HashMap<&str, Op> = old
            .iter()
            .map(|&op| (self.old.program.branch_name(op), op))
            .collect();
        let mut unpaired = Vec::new();
        for op in new {
            match (by_name.remove(self.new.program.branch_name(op)), op) {
                (Some(Op::Array(old)), Op::Array(new)) => {
                    self.follow(self.old_step(old), self.new_step(new), &format!("{path}[]"));
                }
                (Some(Op::Map(old)), Op::Map(new)) => {
                    self.follow(
                        self.old_step(old),
                        self.new_step(new),
                        &format!("{path}{{}}"),
                    );
                }
                (Some(old), new) => self.named(old, new, path),
                (None, new) => unpaired.push(new),
            }
        }
        // A single type on both sides that has another name is likely the same one.
        let mut left = by_name.into_values().filter(|op| *op != Op::Null);
        if let (Some(old), None) = (left.next(), left.next())
            && let [new] = unpaired[..]
        {
            match (old, new) {
                (Op::Record(_), Op::Record(_)) | (Op::Enum(_), Op::Enum(_)) => {
                    self.named(old, new, path);
                }
                _ => {}
            }
        }
    }

    /// Compares two named types, unless one of them was compared before.
    fn named(&mut self, old: Op, new: Op, path: &str) {
        let kinds = (old, new);
        if !matches!(
            kinds,
            (Op::Record(_), Op::Record(_))
                | (Op::Enum(_), Op::Enum(_))
                | (Op::Fixed(_), Op::Fixed(_))
        ) {
            return;
        }
        let old_name = self.old.program.branch_name(old);
        let new_name = self.new.program.branch_name(new);
        if self.seen_old.contains(old_name) || self.seen_new.contains(new_name) {
            return;
        }
        self.seen_old.insert(old_name.to_owned());
        self.seen_new.insert(new_name.to_owned());
        // Elsewhere the type of the field says so.
        if path.is_empty() && old_name != new_name {
            let (from, to) = (shown(old_name).into_owned(), shown(new_name).into_owned());
            self.push(path, || Change::TypeRenamed { from, to });
        }
        let default = |said: Option<&Said>| said.and_then(|said| said.default.as_deref()).map(cut);
        let (was, is) = (self.old.types.get(old_name), self.new.types.get(new_name));
        let (from, to) = (default(was), default(is));
        let docs_differ = was.map(|said| &said.doc) != is.map(|said| &said.doc);
        if docs_differ {
            self.push(path, || Change::DocChanged);
        }
        if self.old.aliases(old) != self.new.aliases(new) {
            self.push(path, || Change::AliasesChanged);
        }
        match kinds {
            (Op::Record(old), Op::Record(new)) => {
                let path = if path.len() > VIOLATION_PATH_BYTES_MAX {
                    shown(simple_name(new_name)).into_owned()
                } else {
                    path.to_owned()
                };
                self.ahead.push_back((old, new, path));
            }
            (Op::Enum(old), Op::Enum(new)) => {
                self.symbols(old, new, path);
                if from != to {
                    self.push(path, || Change::EnumDefaultChanged { from, to });
                }
            }
            _ => {}
        }
    }

    fn symbols(&mut self, old: u32, new: u32, path: &str) {
        let old = &self.old.program.enums[old as usize].symbols;
        let new = &self.new.program.enums[new as usize].symbols;
        let olds: HashSet<_> = old.iter().collect();
        let news: HashSet<_> = new.iter().collect();
        let added = new.iter().filter(|symbol| !olds.contains(symbol));
        let removed = old.iter().filter(|symbol| !news.contains(symbol));
        let (added, removed) = (cut_symbols(added), cut_symbols(removed));
        if !added.is_empty() {
            self.push(path, || Change::SymbolsAdded(added));
        }
        if !removed.is_empty() {
            self.push(path, || Change::SymbolsRemoved(removed));
        }
        let kept_old = old.iter().filter(|symbol| news.contains(symbol));
        let kept_new = new.iter().filter(|symbol| olds.contains(symbol));
        if !kept_old.eq(kept_new) {
            self.push(path, || Change::SymbolsReordered);
        }
    }
}

/// Whether two defaults are the same value, however they are written.
fn same_json(a: Option<&str>, b: Option<&str>) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || a.zip(b).is_some_and(|(a, b)| parse(a) == parse(b))
}

/// A default as it is shown, in one line. A string in JSON has no line breaks, so these are between values.
fn cut(default: &str) -> String {
    let lines: Vec<_> = default.lines().map(str::trim).collect();
    shown(&lines.join(" ")).into_owned()
}

/// The first symbols, and how many more there are.
fn cut_symbols<'a>(symbols: impl Iterator<Item = &'a String>) -> Vec<String> {
    const SYMBOLS_SHOWN_MAX: usize = 20;
    let mut cut = Vec::new();
    let mut more = 0;
    for symbol in symbols {
        if cut.len() < SYMBOLS_SHOWN_MAX {
            cut.push(shown(symbol).into_owned());
        } else {
            more += 1;
        }
    }
    if more > 0 {
        cut.push(format!("{more} more"));
    }
    cut
}

/// A longest rising part of `numbers`, which are all different: those that stayed in their order.
fn rising(numbers: &[usize]) -> HashSet<usize> {
    // For each length the index of the smallest number that ends such a part, and what came before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![None; numbers.len()];
    for (index, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|&end| numbers[end] < *number);
        before[index] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(index);
        } else {
            ends[length] = index;
        }
    }
    let mut rising = HashSet::new();
    let mut next = ends.last().copied();
    while let Some(index) = next {
        rising.insert(numbers[index]);
        next = before[index];
    }
    rising
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::ORDER_CREATED;

    fn lines(old: &str, new: &str) -> Vec<String> {
        let parse = |text: &str| Schema::parse(text).unwrap();
        let differences = differences(&parse(old), &parse(new)).into_iter();
        differences
            .map(|difference| difference.to_string())
            .collect()
    }

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"A__e","namespace":"n","fields":[{fields}]}}"#)
    }

    /// A field of this name and type.
    fn field(name: &str, ty: &str) -> String {
        format!(r#"{{"name":"{name}","type":{ty}}}"#)
    }

    #[test]
    fn each_kind_of_difference_has_a_line() {
        let number = r#"{"name":"Amount__c","type":["null","double"],"doc":"Data:Double:00NXX0000000002","default":null},"#;
        let enum_of = |symbols: &str| {
            record(&field(
                "e",
                &format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]}}"#),
            ))
        };
        let with = |from: &str, to: &str| {
            assert!(ORDER_CREATED.contains(from));
            ORDER_CREATED.replacen(from, to, 1)
        };
        let cases: &[(&str, &str, &[&str])] = &[
            (ORDER_CREATED, ORDER_CREATED, &[]),
            (
                ORDER_CREATED,
                &with(number, ""),
                &["- Amount__c: null or double"],
            ),
            (
                &with(number, ""),
                ORDER_CREATED,
                &["+ Amount__c: null or double, default null"],
            ),
            (
                ORDER_CREATED,
                &with(r#"["null","boolean"]"#, r#"["null","string"]"#),
                &["~ Priority__c: null or boolean -> null or string"],
            ),
            (
                ORDER_CREATED,
                &with(r#""Data:Double:00NXX0000000002""#, r#""""#),
                &["~ Amount__c: doc changed"],
            ),
            (
                ORDER_CREATED,
                &with(r#""Amount__c","#, r#""Total__c","aliases":["Amount__c"],"#),
                &["~ Total__c: renamed from Amount__c, which is an alias"],
            ),
            (
                ORDER_CREATED,
                &with("eventbus", "other"),
                &[
                    "~ (record): type com.sforce.eventbus.OrderCreated__e -> com.sforce.other.OrderCreated__e",
                ],
            ),
            (
                &record(r#"{"name":"a","type":"int","default":1}"#),
                &record(r#"{"name":"a","type":"int"}"#),
                &["~ a: default 1 -> none"],
            ),
            (
                &record(r#"{"name":"a","type":{"type":"array","items":"int"},"default":[1,2]}"#),
                &record(
                    "{\"name\":\"a\",\"type\":{\"type\":\"array\",\"items\":\"int\"},\"default\":[1,\n 2]}",
                ),
                &[],
            ),
            (
                &record(
                    &[
                        field("a", "\"int\""),
                        field("b", "\"int\""),
                        field("c", "\"int\""),
                    ]
                    .join(","),
                ),
                &record(
                    &[
                        field("c", "\"int\""),
                        field("a", "\"int\""),
                        field("b", "\"int\""),
                    ]
                    .join(","),
                ),
                &["~ c: moved"],
            ),
            (
                &enum_of(r#""A","B","C""#),
                &enum_of(r#""C","A","D""#),
                &[
                    "~ e: symbols added: D",
                    "~ e: symbols removed: B",
                    "~ e: symbols in another order",
                ],
            ),
            (
                &enum_of(r#""A","B""#),
                &enum_of(r#""A","B"],"default":"A","x":["#),
                &["~ e: default symbol none -> \"A\""],
            ),
            (
                &record(&field("f", r#"{"type":"fixed","name":"F","size":1}"#)),
                &record(&field("f", r#"{"type":"fixed","name":"F","size":2}"#)),
                &["~ f: fixed n.F of 1 bytes -> fixed n.F of 2 bytes"],
            ),
        ];
        for (old, new, wanted) in cases {
            assert_eq!(lines(old, new), *wanted, "{new}");
        }
    }

    #[test]
    fn what_is_gone_comes_after_the_field_that_it_followed() {
        let of = |names: &[&str]| {
            let fields: Vec<_> = names.iter().map(|name| field(name, "\"int\"")).collect();
            record(&fields.join(","))
        };
        assert_eq!(
            lines(&of(&["x", "a", "y", "z", "b"]), &of(&["a", "n", "b"])),
            ["- x: int", "- y: int", "- z: int", "+ n: int, no default",]
        );
    }

    #[test]
    fn nested_types_are_followed_once() {
        let of = |inner: &str| {
            record(&format!(
                r#"{{"name":"list","type":["null",{{"type":"array","items":{{"type":"map","values":
                {{"type":"record","name":"B","fields":[{inner},{{"name":"next","type":["null","B"]}}]}}}}}}]}},
                {{"name":"again","type":"B"}}"#
            ))
        };
        assert_eq!(
            lines(&of(&field("a", "\"int\"")), &of(&field("a", "\"long\""))),
            ["~ list[]{}.a: int -> long"]
        );
        // Under another name they are followed too, and the field's type says the name.
        let renamed = of(&field("a", "\"long\"")).replace("\"B\"", "\"C\"");
        assert_eq!(
            lines(&of(&field("a", "\"int\"")), &renamed),
            [
                "~ list: null or array of map of record n.B -> null or array of map of record n.C",
                "~ again: record n.B -> record n.C",
                "~ list[]{}.a: int -> long",
                "~ list[]{}.next: null or record n.B -> null or record n.C",
            ]
        );
    }

    #[test]
    fn defaults_and_symbols_are_cut() {
        let default = format!("\"{}\"", "x".repeat(5_000));
        let new = record(&format!(
            r#"{{"name":"a","type":"string","default":{default}}}"#
        ));
        let lines_of_default = lines(&record(""), &new);
        assert!(lines_of_default[0].len() < 200, "{lines_of_default:?}");

        let symbols = |count: usize| {
            let symbols: Vec<_> = (0..count).map(|index| format!("\"S{index}\"")).collect();
            let ty = format!(
                r#"{{"type":"enum","name":"E","symbols":[{}]}}"#,
                symbols.join(",")
            );
            record(&field("e", &ty))
        };
        let lines = lines(&symbols(1), &symbols(1_000));
        assert!(lines[0].ends_with("S20, 979 more"), "{lines:?}");
    }

    #[test]
    fn only_so_many_are_listed() {
        let fields: Vec<_> = (0..5_000)
            .map(|index| field(&format!("f{index}"), "\"int\""))
            .collect();
        let many = record(&fields.join(","));
        assert_eq!(lines(&record(""), &many).len(), VIOLATIONS_MAX);
        assert_eq!(lines(&many, &record("")).len(), VIOLATIONS_MAX);
    }
}
