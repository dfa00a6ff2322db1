//! What is known of every event, and what was promised of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tidegate::subscriber::Gap;

use crate::scenario::{Ordering, Policy, Scenario};

/// Connections that a subscriber may try in any minute. Of each topic, waits of a quarter of a second
/// that double to ten, halved by chance at most, are 18 a minute; there are two topics, and every new
/// process begins again.
const ATTEMPTS_PER_MINUTE_MAX: usize = 80;

/// Watches one run. Clones watch the same.
#[derive(Clone, Debug)]
pub(crate) struct Oracle(Arc<Mutex<Seen>>);

#[derive(Debug)]
struct Seen {
    order: Ordering,
    has_dedupe: bool,
    /// The gateway leaves a managed subscription's position by itself, and the protocol has no word
    /// for it.
    is_told_of_gaps: bool,
    /// What is left behind with a position that is refused is missed, trimmed or not.
    skips_to_latest: bool,
    trace: Vec<String>,
    broken: Vec<String>,
    /// The time outside of the hosts.
    now: Duration,
    /// Ids of acknowledged events, by topic and position.
    acknowledged: BTreeMap<Place, String>,
    /// When an event was first handled to its end.
    done: HashMap<Place, usize>,
    done_ids: HashMap<(String, String), usize>,
    /// The last event that was begun for the first time, by what keeps its order.
    begun: HashMap<Group, u64>,
    known: HashSet<Place>,
    at_work: HashMap<Group, usize>,
    /// Ids that a store has recorded.
    recorded: HashSet<(String, String)>,
    /// Positions that a store has saved, and when.
    saved: Vec<(usize, String, u64)>,
    gaps: Vec<(String, u64, u64)>,
    attempts: Vec<Duration>,
}

/// A topic, and a position in it.
type Place = (String, u64);
/// Events that wait for each other: of a topic, or of a key in it.
type Group = (String, String);

/// An event that is being handled. Dropped, it is not any more.
pub(crate) struct AtWork {
    oracle: Oracle,
    group: Option<Group>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let mut seen = self.oracle.lock();
            *seen.at_work.get_mut(group).expect("it was begun") -= 1;
        }
    }
}

impl Oracle {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self(Arc::new(Mutex::new(Seen {
            order: scenario.order,
            has_dedupe: scenario.has_dedupe,
            is_told_of_gaps: !scenario.is_managed,
            skips_to_latest: scenario.rejected_replay == Policy::Latest,
            trace: Vec::new(),
            broken: Vec::new(),
            now: Duration::ZERO,
            acknowledged: BTreeMap::new(),
            done: HashMap::new(),
            done_ids: HashMap::new(),
            begun: HashMap::new(),
            known: HashSet::new(),
            at_work: HashMap::new(),
            recorded: HashSet::new(),
            saved: Vec::new(),
            gaps: Vec::new(),
            attempts: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("nobody panics with it")
    }

    /// A step of the simulation ended.
    pub(crate) fn advance(&self, now: Duration) {
        self.lock().now = now;
    }

    /// Adds a line to the trace.
    pub(crate) fn note(&self, line: impl Display) {
        self.lock().note(line);
    }

    /// Something that was promised did not hold.
    pub(crate) fn broken(&self, promise: impl Display) {
        self.lock().break_promise(promise);
    }

    pub(crate) fn acknowledged(&self, topic: &str, position: u64, id: &str) {
        let mut seen = self.lock();
        seen.note(format_args!("acknowledged {topic} {position} {id}"));
        seen.acknowledged
            .insert((topic.into(), position), id.into());
    }

    /// A handler begins with an event.
    pub(crate) fn begin(&self, topic: &str, position: u64, id: &str, key: &str) -> AtWork {
        let mut seen = self.lock();
        seen.note(format_args!("begin {topic} {position} {id} {key}"));
        let group = match seen.order {
            Ordering::InOrder => Some((topic.to_owned(), String::new())),
            Ordering::PerKey => Some((topic.to_owned(), key.to_owned())),
            Ordering::Unordered => None,
        };
        if seen.has_dedupe && seen.recorded.contains(&(topic.into(), id.into())) {
            seen.break_promise(format_args!("{id} is handled again, and was recorded"));
        }
        let is_new = seen.known.insert((topic.into(), position));
        if let Some(group) = group.clone() {
            let at_work = seen.at_work.entry(group.clone()).or_default();
            *at_work += 1;
            if *at_work > 1 {
                seen.break_promise(format_args!(
                    "{position} is handled beside another of {group:?}"
                ));
            }
            let last = seen.begun.get(&group).copied().unwrap_or(0);
            if is_new && position < last {
                seen.break_promise(format_args!("{position} of {group:?} comes after {last}"));
            }
            seen.begun.insert(group, last.max(position));
        }
        AtWork {
            oracle: self.clone(),
            group,
        }
    }

    /// An event is handled, or parked.
    pub(crate) fn done(&self, topic: &str, position: u64, id: &str) {
        let mut seen = self.lock();
        seen.note(format_args!("done {topic} {position}"));
        let now = seen.trace.len();
        seen.done.entry((topic.into(), position)).or_insert(now);
        let id = (topic.into(), id.into());
        seen.done_ids.entry(id).or_insert(now);
    }

    /// A store keeps these, for good.
    pub(crate) fn stored(&self, topic: &str, position: Option<u64>, ids: &[String]) {
        let mut seen = self.lock();
        seen.note(format_args!("stored {topic} {position:?} {}", ids.len()));
        for id in ids {
            let id = (topic.to_owned(), id.clone());
            if !seen.done_ids.contains_key(&id) {
                seen.break_promise(format_args!("{id:?} is recorded, and was not handled"));
            }
            seen.recorded.insert(id);
        }
        if let Some(position) = position {
            let now = seen.trace.len();
            seen.saved.push((now, topic.into(), position));
        }
    }

    pub(crate) fn gap(&self, gap: &Gap) {
        let mut seen = self.lock();
        let (from, to) = (gap.from.map_or(0, |id| id.number()), gap.to.number());
        seen.note(format_args!("gap {} {from} {to}", gap.topic));
        seen.gaps.push((gap.topic.to_string(), from, to));
    }

    /// The subscriber connects.
    pub(crate) fn attempt(&self) {
        let mut seen = self.lock();
        seen.note("connecting");
        let now = seen.now();
        seen.attempts.push(now);
        let from = now.saturating_sub(Duration::from_secs(60));
        let recent = seen.attempts.iter().rev().take_while(|&&at| at >= from);
        if recent.count() == ATTEMPTS_PER_MINUTE_MAX + 1 {
            seen.break_promise("connections are tried in a tight loop");
        }
    }

    /// The last acknowledged position of a topic.
    pub(crate) fn head(&self, topic: &str) -> u64 {
        let seen = self.lock();
        let of_topic = seen.acknowledged.keys().filter(|(of, _)| of == topic);
        of_topic.map(|(_, position)| *position).max().unwrap_or(0)
    }

    /// Acknowledged events that were not handled, and are not known to be gone: `trimmed` tells up to
    /// where a topic's are.
    pub(crate) fn missing(&self, trimmed: impl Fn(&str) -> u64) -> Vec<Place> {
        let seen = self.lock();
        let missing = seen.acknowledged.iter().filter(|((topic, position), id)| {
            let place = (topic.clone(), *position);
            let is_done = seen.done.contains_key(&place)
                || seen.has_dedupe && seen.done_ids.contains_key(&(topic.clone(), (*id).clone()));
            let is_told = seen.is_in_gap(topic, *position);
            let is_trimmed = *position <= trimmed(topic);
            let is_excused = match seen.is_told_of_gaps && seen.had_place(topic, *position) {
                true => is_told && (is_trimmed || seen.skips_to_latest),
                false => is_trimmed,
            };
            !is_done && !is_excused
        });
        missing.map(|(place, _)| place.clone()).collect()
    }

    /// What holds at the end, or does not: the trace, and the promises that were broken.
    pub(crate) fn verdict(&self, trimmed: impl Fn(&str) -> u64) -> (Vec<String>, Vec<String>) {
        let mut seen = self.lock();
        seen.check_saved(trimmed);
        (
            std::mem::take(&mut seen.trace),
            std::mem::take(&mut seen.broken),
        )
    }
}

impl Seen {
    fn now(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or(self.now)
    }

    fn note(&mut self, line: impl Display) {
        let now = self.now().as_millis();
        self.trace.push(format!("{now} {line}"));
    }

    fn break_promise(&mut self, promise: impl Display) {
        self.note(format_args!("broken: {promise}"));
        let now = self.now().as_millis();
        self.broken.push(format!("at {now} ms: {promise}"));
    }

    fn is_in_gap(&self, topic: &str, position: u64) -> bool {
        let mut gaps = self.gaps.iter();
        gaps.any(|(of, from, to)| of == topic && *from < position && position < *to)
    }

    /// Whether a position before this one was ever saved. Without one nobody can know that events went
    /// before the first that came, and no gap is told.
    fn had_place(&self, topic: &str, position: u64) -> bool {
        let mut saved = self.saved.iter();
        saved.any(|(_, of, saved)| of == topic && *saved < position)
    }

    /// Nothing that was not done lies before a saved position.
    fn check_saved(&mut self, trimmed: impl Fn(&str) -> u64) {
        let mut broken = Vec::new();
        for ((topic, position), id) in &self.acknowledged {
            let first = self
                .saved
                .iter()
                .find(|(_, of, saved)| of == topic && saved >= position);
            let Some((saved_at, _, saved)) = first else {
                continue;
            };
            let by_id = self.has_dedupe.then(|| {
                let id = (topic.clone(), id.clone());
                self.done_ids.get(&id)
            });
            let done = self.done.get(&(topic.clone(), *position));
            let done = done.into_iter().chain(by_id.flatten()).min();
            let is_too_old = *position <= trimmed(topic) && !self.had_place(topic, *position);
            let is_done = done.is_some_and(|done| done <= saved_at);
            if !is_done && !is_too_old && !self.is_in_gap(topic, *position) {
                broken.push(format!(
                    "{saved} of {topic} is saved before {position} is done"
                ));
            }
        }
        broken.into_iter().for_each(|line| self.break_promise(line));
    }
}
