//! Filters in use, so that those that say the same are evaluated once for all who have them.
//!
//! Subscriptions with equal filters on one topic share a [`SharedFilter`], which lives as long as one of
//! them does. It runs its program over a block at a time and remembers what came of it: near the head
//! the first subscriber evaluates a block, and the others take the answer.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, Weak},
};

use super::{
    block_answers::{Answers, Programs},
    metrics::FilterMetrics,
};
use crate::{
    event_log::Block,
    filter::{Expression, Filter, FilterProgram, Test},
    schema::{Schema, registry::TenantSchemas},
    types::TopicId,
};

/// The filters of one tenant that subscriptions have.
#[derive(Debug, Default)]
pub(super) struct Filters(Mutex<HashMap<Key, Weak<SharedFilter>>>);

/// A topic, and what a filter says of its events whichever way that is written.
type Key = (TopicId, String);

impl Filters {
    /// The filter of `topic` that says the same as `filter`; it is made if there is none.
    pub(super) fn share(
        &self,
        topic: TopicId,
        filter: &Filter,
        schemas: &Arc<TenantSchemas>,
        metrics: FilterMetrics,
    ) -> Arc<SharedFilter> {
        let key = (topic, meaning(filter));
        let mut filters = self.0.lock().expect("no holder of this lock panics");
        if let Some(shared) = filters.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        // Those that nobody has any more make room where a new one comes.
        filters.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(SharedFilter {
            filter: filter.clone(),
            metrics,
            programs: Programs::new(Arc::clone(schemas)),
            answers: Answers::default(),
        });
        filters.insert(key, Arc::downgrade(&shared));
        shared
    }
}

/// A filter of one topic and what it says of the blocks it met last.
pub(super) struct SharedFilter {
    filter: Filter,
    metrics: FilterMetrics,
    programs: Programs<FilterProgram>,
    /// There are none as long as only one subscription has the filter.
    answers: Answers<Verdict>,
}

/// Which events of a block match, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict([u64; 4]);

impl Verdict {
    /// Every event.
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    pub(super) fn set(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Those that match both.
    pub(super) fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// The first event at or behind `from` that matches, if `matching`, or else that does not; 256 if
    /// there is none.
    pub(super) fn next(self, from: usize, matching: bool) -> usize {
        let mut index = from;
        while index < 256 {
            let word = self.0[index / 64];
            let word = if matching { word } else { !word } >> (index % 64);
            if word != 0 {
                return index + word.trailing_zeros() as usize;
            }
            index = (index / 64 + 1) * 64;
        }
        256
    }
}

impl SharedFilter {
    /// Which events of `block` match.
    pub(super) fn verdict(self: &Arc<Self>, block: &Block) -> Verdict {
        if Arc::strong_count(self) == 1 {
            return self.evaluate(block);
        }
        self.answers.get(block, || self.evaluate(block))
    }

    fn evaluate(&self, block: &Block) -> Verdict {
        let mut verdict = Verdict::default();
        let mut unreadable = 0;
        let compile = |schema: &Schema| Some(FilterProgram::compile(&self.filter, schema));
        self.programs.visit(block, compile, |index, event| {
            let matches = event.map(|(program, event)| program.matches(event.payload()));
            match matches {
                Some(Ok(true)) => verdict.set(index),
                Some(Ok(false)) => {}
                Some(Err(_)) | None => unreadable += 1,
            }
        });
        self.metrics.evaluated(block.event_count(), unreadable);
        verdict
    }
}

impl std::fmt::Debug for SharedFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedFilter").field(&self.filter).finish()
    }
}

/// What a filter says, the same however it is spaced and whichever case its names have.
fn meaning(filter: &Filter) -> String {
    let mut text = String::new();
    write_meaning(filter.root(), &mut text);
    text
}

fn write_meaning(expression: &Expression, text: &mut String) {
    let mut list = |word: &str, parts: &[Expression]| {
        text.push_str(word);
        text.push('(');
        for part in parts {
            write_meaning(part, text);
            text.push(',');
        }
        text.push(')');
    };
    match expression {
        Expression::Not(inner) => list("not", std::slice::from_ref(inner)),
        Expression::And(parts) => list("and", parts),
        Expression::Or(parts) => list("or", parts),
        Expression::Condition(condition) => {
            let field = &condition.field;
            let name = field.name.to_ascii_lowercase();
            let part = field.part.as_ref().map(|part| part.to_ascii_lowercase());
            // Writing to a string does not fail.
            _ = match &condition.test {
                Test::Compare(comparison, literal) => {
                    let value = &literal.value;
                    write!(text, "{name} {part:?} {} {value:?}", comparison.as_str())
                }
                Test::Like(pattern) => write!(text, "{name} {part:?} like {:?}", pattern.parts),
                Test::In { values, is_negated } => {
                    let values: Vec<_> = values.iter().map(|literal| &literal.value).collect();
                    write!(text, "{name} {part:?} in {values:?} {is_negated}")
                }
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning_of(text: &str) -> String {
        meaning(&text.parse().unwrap())
    }

    #[test]
    fn spaces_and_the_case_of_names_make_no_other_filter() {
        let meant = meaning_of("Amount__c > 1 AND NOT (Status__c IN ('a', 'b') OR A__c.B = null)");
        let same = "amount__C>1.0 and not( status__c in('a','b') or (a__c.b=NULL))";
        assert_eq!(meaning_of(same), meant);
        for other in [
            "Amount__c > 2",
            "Amount__c >= 1",
            "Status__c = 'a'",
            "Status__c = 'A'",
            "Status__c LIKE 'a'",
            "Status__c IN ('a')",
            "Status__c NOT IN ('a')",
            "Amount__c > 1 AND Status__c = 'a'",
            "Amount__c > 1 OR Status__c = 'a'",
        ] {
            assert_ne!(meaning_of(other), meaning_of("Amount__c > 1"), "{other}");
        }
    }

    #[test]
    fn runs_of_matching_events_are_found_across_words() {
        let mut verdict = Verdict::default();
        for index in [0, 1, 63, 64, 65, 200, 255] {
            verdict.set(index);
        }
        let mut runs = Vec::new();
        let mut from = verdict.next(0, true);
        while from < 256 {
            let to = verdict.next(from, false);
            runs.push((from, to));
            from = verdict.next(to, true);
        }
        assert_eq!(runs, [(0, 2), (63, 66), (200, 201), (255, 256)]);
        assert_eq!(Verdict::ALL.next(0, false), 256);
        assert_eq!(Verdict::ALL.and(verdict), verdict);
    }
}
