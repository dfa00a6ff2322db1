//! The ids of one topic's recent events, each with the position it stands at.
//!
//! No lock and no clock here: the rules test as arithmetic.

use std::{
    collections::VecDeque,
    fmt,
    hash::{BuildHasher, RandomState},
    ops::Deref,
};

use hashbrown::{HashTable, hash_table::Entry};
use tokio::time::Instant;

use crate::types::{Position, limits::EVENT_ID_CHARS_MAX};

/// An event id as its publisher spelled it, kept whole: a hash would now and then take two events
/// for one. Those of ASCII characters lie in place, so that most cost no allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct EventId(Text);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Text {
    Short(u8, [u8; EVENT_ID_CHARS_MAX]),
    Long(Box<str>),
}

impl EventId {
    /// What takes the place of an id that is not to be kept any more.
    const NONE: Self = Self(Text::Short(0, [0; EVENT_ID_CHARS_MAX]));

    pub(super) fn new(id: &str) -> Self {
        let mut bytes = [0; EVENT_ID_CHARS_MAX];
        match bytes.get_mut(..id.len()) {
            Some(start) => {
                start.copy_from_slice(id.as_bytes());
                Self(Text::Short(id.len() as u8, bytes))
            }
            None => Self(Text::Long(id.into())),
        }
    }
}

impl Deref for EventId {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Text::Short(len, bytes) => std::str::from_utf8(&bytes[..usize::from(*len)])
                .expect("the bytes were those of a text"),
            Text::Long(text) => text,
        }
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// What is remembered of one event. 64 bytes, and some 5 to 10 for its place in the table; buffers
/// that grow by doubling make it 140 at most.
#[derive(Debug)]
struct Remembered {
    /// [`EventId::NONE`] once it is not to be found any more.
    id: EventId,
    position: Position,
    expires_at: Instant,
}

/// The events of one topic that are remembered.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// By the time at which they are forgotten, the first one first.
    events: VecDeque<Remembered>,
    /// The number of the first of `events`; each has one more than the one before. Wraps around.
    first: u32,
    /// The numbers of the events that can be found, by their ids.
    by_id: HashTable<u32>,
    hasher: RandomState,
}

/// Room that is kept, in events, before what is not used is given back.
const SPARE_EVENTS: usize = 1_024;

impl Window {
    /// How many events take room.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// When the first event is forgotten.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.events.front().map(|event| event.expires_at)
    }

    /// Where the event with this id stands.
    pub(super) fn find(&self, id: &str) -> Option<Position> {
        let hash = self.hasher.hash_one(id);
        let is_it = |number: &u32| *self.at(*number).id == *id;
        let number = self.by_id.find(hash, is_it)?;
        Some(self.at(*number).position)
    }

    /// Remembers an event until `expires_at`, or until those before it are forgotten if that is
    /// later. Another one with the same id is found no more.
    pub(super) fn insert(&mut self, id: EventId, position: Position, expires_at: Instant) {
        let number = self.first.wrapping_add(self.events.len() as u32);
        let (events, first, hasher) = (&mut self.events, self.first, &self.hasher);
        let index = |number: u32| number.wrapping_sub(first) as usize;
        let hash = hasher.hash_one(&*id);
        let entry = self.by_id.entry(
            hash,
            |number| *events[index(*number)].id == *id,
            |number| hasher.hash_one(&*events[index(*number)].id),
        );
        match entry {
            Entry::Vacant(vacant) => _ = vacant.insert(number),
            Entry::Occupied(mut occupied) => {
                let former = std::mem::replace(occupied.get_mut(), number);
                events[index(former)].id = EventId::NONE;
            }
        }
        let last = self.events.back().map(|last| last.expires_at);
        self.events.push_back(Remembered {
            id,
            position,
            expires_at: last.map_or(expires_at, |last| last.max(expires_at)),
        });
    }

    /// Forgets the events whose time is over by `now`, and those up to `trim`, which are purged.
    pub(super) fn expire(&mut self, now: Instant, trim: Position) {
        let is_over = |event: &Remembered| event.expires_at <= now || event.position <= trim;
        while self.events.front().is_some_and(is_over) {
            self.forget_oldest();
        }
        if self.events.capacity() > 4 * self.events.len() + SPARE_EVENTS {
            let (events, hasher, first) = (&mut self.events, &self.hasher, self.first);
            events.shrink_to(2 * events.len());
            self.by_id.shrink_to(2 * events.len(), |number| {
                hasher.hash_one(&*events[number.wrapping_sub(first) as usize].id)
            });
        }
    }

    /// Forgets the oldest event; whether there was one.
    pub(super) fn forget_oldest(&mut self) -> bool {
        if let Some(oldest) = self.events.front() {
            let hash = self.hasher.hash_one(&*oldest.id);
            let number = self.first;
            if let Ok(found) = self.by_id.find_entry(hash, |found| *found == number) {
                found.remove();
            }
        }
        let is_forgotten = self.events.pop_front().is_some();
        if is_forgotten {
            self.first = self.first.wrapping_add(1);
        }
        is_forgotten
    }

    /// Forgets the events at these positions, which are sorted, and their ids.
    pub(super) fn erase(&mut self, positions: &[Position]) {
        for index in 0..self.events.len() {
            let event = &self.events[index];
            if positions.binary_search(&event.position).is_err() {
                continue;
            }
            let hash = self.hasher.hash_one(&*event.id);
            let number = self.first.wrapping_add(index as u32);
            if let Ok(found) = self.by_id.find_entry(hash, |found| *found == number) {
                found.remove();
            }
            self.events[index].id = EventId::NONE;
        }
    }

    /// Adds the events of `later` that are not known here.
    pub(super) fn add(&mut self, later: Self) {
        for event in later.events {
            if event.id != EventId::NONE && self.find(&event.id).is_none() {
                self.insert(event.id, event.position, event.expires_at);
            }
        }
    }

    fn at(&self, number: u32) -> &Remembered {
        &self.events[number.wrapping_sub(self.first) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn position(number: u64) -> Position {
        Position::new(number).unwrap()
    }

    #[test]
    fn an_event_takes_the_bytes_that_are_promised() {
        assert_eq!(size_of::<Remembered>(), 64);
    }

    #[test]
    fn ids_of_any_text_are_told_apart() {
        let texts = [
            "",
            "a",
            "ab",
            &"a".repeat(36),
            &"ä".repeat(36),
            &"ä".repeat(18),
        ];
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(&*EventId::new(text), *text);
            for other in &texts[..number] {
                assert_ne!(EventId::new(text), EventId::new(other));
            }
        }
    }

    /// What is done to a window.
    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Pass(u64),
        Purge(u64),
        ForgetOldest,
        Erase(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0u8..40).prop_map(Step::Insert),
            2 => (0u64..8).prop_map(Step::Pass),
            1 => (0u64..200).prop_map(Step::Purge),
            1 => Just(Step::ForgetOldest),
            1 => (0u8..40).prop_map(Step::Erase),
        ];
        prop::collection::vec(step, 0..200)
    }

    const LIFE: Duration = Duration::from_secs(10);

    proptest! {
        /// The window is held to a map that is looked through from end to end.
        #[test]
        fn an_id_is_found_as_long_as_its_event_is_remembered(steps in steps(), begin in any::<u32>()) {
            let mut window = Window { first: begin, ..Window::default() };
            let mut model: Vec<(String, Position, Instant)> = Vec::new();
            let mut now = Instant::now();
            for (number, step) in (1..).zip(steps) {
                match step {
                    Step::Insert(id) => {
                        let id = id.to_string();
                        for (other, ..) in &mut model {
                            if *other == id {
                                other.clear();
                            }
                        }
                        window.insert(EventId::new(&id), position(number), now + LIFE);
                        model.push((id, position(number), now + LIFE));
                    }
                    Step::Pass(seconds) => {
                        now += Duration::from_secs(seconds);
                        window.expire(now, Position::ZERO);
                        model.retain(|(_, _, expires_at)| *expires_at > now);
                    }
                    Step::Purge(trim) => {
                        window.expire(now, position(trim));
                        model.retain(|(_, at, _)| *at > position(trim));
                    }
                    Step::ForgetOldest => {
                        prop_assert_eq!(window.forget_oldest(), !model.is_empty());
                        if !model.is_empty() {
                            model.remove(0);
                        }
                    }
                    Step::Erase(id) => {
                        let found = model.iter_mut().find(|(known, ..)| *known == id.to_string());
                        if let Some((known, at, _)) = found {
                            window.erase(&[*at]);
                            known.clear();
                        }
                    }
                }
                prop_assert_eq!(window.len(), model.len());
                prop_assert_eq!(window.oldest(), model.first().map(|(_, _, at)| *at));
                let known: HashMap<_, _> =
                    model.iter().map(|(id, at, _)| (id.clone(), *at)).collect();
                for id in (0..40).map(|id: u8| id.to_string()) {
                    prop_assert_eq!(window.find(&id), known.get(&id).copied());
                }
                prop_assert_eq!(window.by_id.len(), known.len() - usize::from(known.contains_key("")));
            }
        }
    }

    #[test]
    fn room_that_is_not_used_is_given_back() {
        let mut window = Window::default();
        let now = Instant::now();
        for number in 0..100_000u64 {
            window.insert(EventId::new(&number.to_string()), position(number + 1), now);
        }
        window.expire(now, Position::ZERO);
        assert_eq!(window.len(), 0);
        assert!(window.events.capacity() <= SPARE_EVENTS);
    }

    #[test]
    fn of_two_windows_the_earlier_one_says_where_an_event_stands() {
        let now = Instant::now();
        let (mut window, mut later) = (Window::default(), Window::default());
        window.insert(EventId::new("a"), position(1), now + LIFE);
        later.insert(EventId::new("a"), position(2), now);
        later.insert(EventId::new("b"), position(3), now);
        window.add(later);
        assert_eq!(window.find("a"), Some(position(1)));
        assert_eq!(window.find("b"), Some(position(3)));
        // Nothing outlives what stands before it.
        window.expire(now, Position::ZERO);
        assert_eq!(window.len(), 2);
    }
}
