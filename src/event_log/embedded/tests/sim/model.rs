//! What a log must hold: what was sent, what came of it, and what readers have seen.

use std::fmt;

use crate::{
    clock::Timestamp,
    types::{Position, TopicId},
};

/// Topics are numbered from 1.
pub(super) const TOPICS: usize = 3;

/// What is known of one log from outside, over all its lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// Every event ever sent, in the order of sending; its number is its place here.
    events: Vec<Event>,
    /// Events before this one are purged for good and are not looked at any more.
    forgotten: usize,
    /// The newest position that was given out or shown.
    newest: Position,
    /// How far each topic is purged for good.
    trims: [Position; TOPICS],
    /// How far each topic was purged, as far as was known when the log was opened.
    opened_trims: [Position; TOPICS],
    /// Topic and position of what was acknowledged or seen, and was lost as it may be when syncs are
    /// left to a timer.
    pub(super) lost: Vec<(TopicId, Position)>,
    /// Whether events are being purged.
    pub(super) is_purging: bool,
    /// Whether a purge failed: it may have got far enough to be seen without being durable.
    pub(super) purge_failed: bool,
    /// Whether there was a time in which events were acknowledged before they were synced.
    pub(super) was_unsynced: bool,
    /// Whether a sync failed since the log was opened.
    pub(super) sync_failed: bool,
}

#[derive(Clone, Debug)]
struct Event {
    topic: usize,
    sent_at: Timestamp,
    /// The newest position that had been given out when it was sent.
    floor: Position,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// May be stored: it is on its way, or its publisher was told that nobody knows.
    InDoubt,
    /// Acknowledged, or seen by a reader.
    Kept {
        at: Position,
        /// Whether no crash may take it.
        is_safe: bool,
    },
    /// Is being erased, or an erasure of it failed: may be there, and no crash may take it back
    /// once it was found missing.
    Erasing { at: Position },
    /// Erased: must not appear any more.
    Erased { at: Position },
    /// Refused, or found missing when a log was opened: must not appear any more.
    Gone,
}

impl Fate {
    /// Where the event stands or stood, if that is known.
    fn position(self) -> Option<Position> {
        match self {
            Self::Kept { at, .. } | Self::Erasing { at } | Self::Erased { at } => Some(at),
            Self::InDoubt | Self::Gone => None,
        }
    }
}

/// What a reader finds in a log.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) head: Position,
    /// For each topic its trim, and how many events are said to come after it.
    pub(super) topics: [(Position, u64); TOPICS],
    /// Topic, number and position of each event, in the order they were read.
    pub(super) events: Vec<(TopicId, u64, Position)>,
}

/// What came before a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing: the log is open.
    Nothing,
    /// The end of the process.
    Restart,
    /// A crash of the machine.
    Crash,
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(super) struct Violation(pub(super) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Stops with a [`Violation`] unless a condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(Violation(format!($($text)*)));
        }
    };
}
pub(super) use ensure;

impl Model {
    /// Notes that an event is being sent, and returns its number.
    pub(super) fn send(&mut self, topic: TopicId, sent_at: Timestamp) -> u64 {
        self.events.push(Event {
            topic: topic.get() as usize - 1,
            sent_at,
            floor: self.newest,
            fate: Fate::InDoubt,
        });
        self.events.len() as u64 - 1
    }

    /// Notes that an event was acknowledged at `position`.
    pub(super) fn acknowledge(
        &mut self,
        number: u64,
        position: Position,
        is_safe: bool,
    ) -> Result<(), Violation> {
        let event = &mut self.events[number as usize];
        match event.fate {
            Fate::InDoubt => {
                ensure!(
                    position > self.newest,
                    "event {number} was given position {position}, at or before one given earlier"
                );
                self.newest = position;
            }
            Fate::Kept { at, .. } => {
                ensure!(
                    at == position,
                    "event {number} was seen at {at} and acknowledged at {position}"
                );
            }
            Fate::Erasing { .. } | Fate::Erased { .. } | Fate::Gone => {
                unreachable!("only what is on its way is answered")
            }
        }
        let is_safe = is_safe || matches!(event.fate, Fate::Kept { is_safe: true, .. });
        event.fate = Fate::Kept {
            at: position,
            is_safe,
        };
        Ok(())
    }

    /// Notes that an event was refused.
    pub(super) fn refuse(&mut self, number: u64) -> Result<(), Violation> {
        let fate = &mut self.events[number as usize].fate;
        ensure!(
            *fate == Fate::InDoubt,
            "event {number} was seen and refused"
        );
        *fate = Fate::Gone;
        Ok(())
    }

    /// Notes that a few events of a topic are going to be erased, and returns where they stand.
    pub(super) fn begin_to_erase(&mut self, topic: TopicId) -> Vec<Position> {
        let (topic, trims) = (topic.get() as usize - 1, self.trims);
        let kept = self.events[self.forgotten..].iter_mut().filter(|event| {
            let at = event.fate.position();
            let is_kept = matches!(event.fate, Fate::Kept { .. } | Fate::Erasing { .. });
            event.topic == topic && is_kept && at > Some(trims[topic])
        });
        let mut positions = Vec::new();
        // The oldest, and one that others stand before and behind.
        for event in kept.step_by(2).take(2) {
            if let Some(at) = event.fate.position() {
                event.fate = Fate::Erasing { at };
                positions.push(at);
            }
        }
        positions
    }

    /// Notes that the erasure of the events at `positions` was done, and took away `count`.
    pub(super) fn erased(&mut self, positions: &[Position], count: u64) -> Result<(), Violation> {
        for event in &mut self.events[self.forgotten..] {
            if let Fate::Erasing { at } = event.fate
                && positions.contains(&at)
            {
                event.fate = Fate::Erased { at };
            }
        }
        let asked = positions.len();
        // One whose erasure failed before may have been gone.
        ensure!(count <= asked as u64, "{count} of {asked} events erased");
        Ok(())
    }

    /// Notes that everything acknowledged up to event `until` was synced.
    pub(super) fn synced(&mut self, until: usize) {
        for event in &mut self.events[self.forgotten..until] {
            if let Fate::Kept { is_safe, .. } = &mut event.fate {
                *is_safe = true;
            }
        }
    }

    /// Number of events ever sent.
    pub(super) fn sent(&self) -> usize {
        self.events.len()
    }

    /// Compares what a reader finds with what must be there.
    ///
    /// An event may be trimmed that is older than `expired`, and only while purging is under way.
    pub(super) fn check(
        &self,
        view: &View,
        after: After,
        expired: Timestamp,
    ) -> Result<(), Violation> {
        self.check_trims(view, expired)?;
        let mut is_found = vec![false; self.events.len()];
        let mut counts = [0; TOPICS];
        let mut before: Option<(u64, Position)> = None;
        for &(topic, number, position) in &view.events {
            let event = self.events.get(number as usize);
            let Some(event) = event.filter(|event| event.topic + 1 == topic.get() as usize) else {
                return Err(Violation(format!(
                    "event {number} was never sent to topic {}",
                    topic.get()
                )));
            };
            match event.fate {
                Fate::Gone | Fate::Erased { .. } => {
                    return Err(Violation(format!(
                        "event {number} is there, though it was refused, erased or missing before"
                    )));
                }
                Fate::InDoubt => ensure!(
                    position > event.floor,
                    "event {number} stands at {position}, at or before one given earlier"
                ),
                Fate::Kept { at, .. } | Fate::Erasing { at } => {
                    ensure!(
                        at == position,
                        "event {number} moved from {at} to {position}"
                    );
                }
            }
            if let Some((number_before, position_before)) = before {
                ensure!(
                    position_before < position && number_before < number,
                    "event {number} at {position} comes after event {number_before} at \
                     {position_before}"
                );
            }
            before = Some((number, position));
            is_found[number as usize] = true;
            counts[event.topic] += 1;
        }
        // An erased event still counts.
        for (number, event) in self.events.iter().enumerate().skip(self.forgotten) {
            if let Fate::Erasing { at } | Fate::Erased { at } = event.fate
                && at > view.topics[event.topic].0
                && !is_found[number]
            {
                counts[event.topic] += 1;
            }
        }
        for (topic, (count, (_, said))) in counts.iter().zip(&view.topics).enumerate() {
            ensure!(
                count == said,
                "topic {} has {count} events, and says {said}",
                topic + 1
            );
        }
        let last = before.map_or(Position::ZERO, |(_, position)| position);
        ensure!(
            view.head >= last,
            "the head {} is before the last event at {last}",
            view.head
        );
        ensure!(
            view.head >= self.newest || self.was_unsynced,
            "the head {} is before {}, which was shown",
            view.head,
            self.newest
        );
        self.check_missing(view, &is_found, last, after)
    }

    /// Takes up what a reader has found, once it was checked.
    pub(super) fn adopt(&mut self, view: &View, after: After) {
        let is_open = after == After::Nothing;
        let mut found = view.events.iter().peekable();
        for (number, event) in self.events.iter_mut().enumerate().skip(self.forgotten) {
            let position = found.next_if(|(_, found, _)| *found == number as u64);
            let is_purged = |at: Position| at <= view.topics[event.topic].0;
            match (position, event.fate) {
                (Some((_, _, at)), Fate::Kept { is_safe, .. }) => {
                    // Opening a log syncs what it keeps.
                    let is_safe = is_safe || !is_open;
                    event.fate = Fate::Kept { at: *at, is_safe };
                }
                // An erasure that failed may yet have been done: opening decides.
                (Some(_), Fate::Erasing { .. }) if is_open => {}
                (Some((_, _, at)), _) => {
                    event.fate = Fate::Kept {
                        at: *at,
                        is_safe: !self.was_unsynced || !is_open,
                    };
                }
                (None, Fate::Kept { at, .. }) if is_purged(at) => {}
                (None, Fate::Erasing { at } | Fate::Erased { at }) => {
                    event.fate = Fate::Erased { at };
                }
                // What may still be on its way may still appear.
                (None, Fate::InDoubt) if is_open => {}
                (None, fate) => {
                    if let Fate::Kept { at, .. } = fate {
                        self.lost.push((TopicId::new(event.topic as u32 + 1), at));
                    }
                    event.fate = Fate::Gone;
                }
            }
        }
        self.newest = self.newest.max(view.head);
        let trims = view.topics.map(|(trim, _)| trim);
        match after {
            // Readers are told once it is durable.
            After::Nothing if trims != self.opened_trims => self.trims = trims,
            After::Nothing => {}
            After::Restart if self.purge_failed => {}
            After::Restart => self.trims = trims,
            After::Crash => (self.trims, self.purge_failed) = (trims, false),
        }
        if !is_open {
            self.opened_trims = trims;
            self.is_purging = false;
            self.sync_failed = false;
        }
        let is_over = |event: &Event| match event.fate {
            Fate::InDoubt => false,
            Fate::Gone => true,
            Fate::Kept { at, .. } | Fate::Erasing { at } | Fate::Erased { at } => {
                at <= self.trims[event.topic]
            }
        };
        let rest = self.events[self.forgotten..].iter();
        self.forgotten += rest.take_while(|event| is_over(event)).count();
    }

    fn check_trims(&self, view: &View, expired: Timestamp) -> Result<(), Violation> {
        for (topic, (trim, _)) in view.topics.iter().enumerate() {
            let known = self.trims[topic];
            let number = topic + 1;
            ensure!(
                *trim >= known,
                "the trim of topic {number} goes back from {known} to {trim}"
            );
            if *trim == known {
                continue;
            }
            let may_be_purged = self.is_purging || self.purge_failed;
            ensure!(
                may_be_purged,
                "topic {number} was trimmed to {trim} by nobody"
            );
            let kept = self.events[self.forgotten..].iter();
            let trimmed = kept.filter(|event| event.topic == topic);
            let mut is_event = false;
            for event in trimmed {
                if let Some(at) = event.fate.position()
                    && at <= *trim
                {
                    is_event |= at == *trim;
                    ensure!(
                        event.sent_at < expired,
                        "the event at {at} was trimmed before its time"
                    );
                }
            }
            ensure!(
                is_event,
                "topic {number} was trimmed to {trim}, which is no event of it"
            );
        }
        Ok(())
    }

    /// What should be there and is not has to be what a crash is allowed to take.
    fn check_missing(
        &self,
        view: &View,
        is_found: &[bool],
        last: Position,
        after: After,
    ) -> Result<(), Violation> {
        for (number, event) in self.events.iter().enumerate().skip(self.forgotten) {
            let Fate::Kept { at, is_safe } = event.fate else {
                continue;
            };
            if is_found[number] || at <= view.topics[event.topic].0 {
                continue;
            }
            let may_be_lost = match after {
                After::Nothing => false,
                After::Restart => self.sync_failed,
                After::Crash => true,
            };
            ensure!(
                may_be_lost && !is_safe,
                "event {number} at {at} was acknowledged or seen, and is lost"
            );
            // A loss takes the end of the log, never something out of its middle.
            ensure!(
                at > last,
                "event {number} at {at} is lost, and one at {last} is there"
            );
        }
        Ok(())
    }
}
