//! Lets a machine crash at the moments a [`Player`] kept, and checks what the log makes of what is
//! left.

use std::collections::BTreeMap;

use super::{
    action::Action,
    chance::Chance,
    disk::Outcome,
    faults::{Fault, Op},
    machine::Lie,
    model::Violation,
    player::{Player, Point},
};

/// How much is tried at each moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// All outcomes of a crash are tried when there are at most so many.
    pub(super) all_max: usize,
    /// Else this many random ones, beside the extremes and those with one difference to them.
    pub(super) random: usize,
    /// Whether outcomes beside random ones are tried at all.
    pub(super) is_thorough: bool,
    /// Of so many crashes one is followed by crashes at every operation of its recovery.
    pub(super) nest_one_in: usize,
    /// Of so many crashes one is followed by an append and a restart.
    pub(super) go_on_one_in: usize,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) histories: u64,
    /// Operations before which, or after which, the machine crashed.
    pub(super) moments: u64,
    /// Crashes: a moment, and what was left. After each the log was opened and read.
    pub(super) crashes: u64,
    /// Of the crashes, those in the middle of the recovery from another one.
    pub(super) nested: u64,
    /// Times a log was opened, restarts included.
    pub(super) openings: u64,
    /// Faults by operation and kind.
    pub(super) faults: BTreeMap<(Op, Fault), u64>,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.histories += other.histories;
        self.moments += other.moments;
        self.crashes += other.crashes;
        self.nested += other.nested;
        self.openings += other.openings;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

/// Lets machines crash.
#[derive(Debug)]
pub(super) struct Crasher {
    pub(super) effort: Effort,
    pub(super) lie: Option<Lie>,
    pub(super) chance: Chance,
    pub(super) counts: Counts,
}

impl Crasher {
    pub(super) fn new(effort: Effort, seed: u64, lie: Option<Lie>) -> Self {
        Self {
            effort,
            lie,
            chance: Chance::new(seed),
            counts: Counts::default(),
        }
    }

    /// Lets the machine crash at each of these moments, in the ways that the effort asks for.
    pub(super) fn crash_at_all(&mut self, points: &[Point]) -> Result<(), Violation> {
        for point in points {
            self.crash_at(point, 0)
                .map_err(|Violation(what)| Violation(format!("{what}; after a crash {point}")))?;
        }
        Ok(())
    }

    /// The player that goes on after a crash at this moment with a random outcome. Its log is not
    /// open yet.
    pub(super) fn go_on(&mut self, point: &Point) -> Player {
        let remains = point.disk.remains();
        let outcome = match self.chance.below(4) {
            0 => remains.oldest(),
            1 => remains.newest(),
            _ => remains.random(&mut self.chance),
        };
        let seed = self.chance.next();
        Player::after_crash(point, remains.after(&outcome), seed, self.lie)
    }

    fn crash_at(&mut self, point: &Point, depth: u32) -> Result<(), Violation> {
        self.counts.moments += 1;
        let remains = point.disk.remains();
        let Effort {
            all_max, random, ..
        } = self.effort;
        let outcomes = match (self.effort.is_thorough, depth) {
            (true, 0) => remains.outcomes(all_max, random, &mut self.chance),
            // What a recovery leaves is tried less widely than what it finds.
            (true, _) if remains.count().is_some_and(|count| count <= 8) => {
                remains.outcomes(8, 0, &mut self.chance)
            }
            (true, _) => {
                let random = (0..4)
                    .map(|_| remains.random(&mut self.chance))
                    .collect::<Vec<_>>();
                [vec![remains.oldest(), remains.newest()], random].concat()
            }
            (false, _) => (0..random)
                .map(|_| remains.random(&mut self.chance))
                .collect(),
        };
        for outcome in outcomes {
            let disk = remains.after(&outcome);
            let nests = depth == 0 && self.chance.one_in(self.effort.nest_one_in);
            let mut player = Player::after_crash(point, disk, self.chance.next(), self.lie);
            player.keep_points(nests);
            self.counts.crashes += 1;
            self.counts.nested += u64::from(depth);
            self.recover(&mut player, point, depth)
                .map_err(|Violation(what)| told(&what, &outcome))?;
            if nests {
                player.keep_points(false);
                for point in player.take_points() {
                    self.crash_at(&point, depth + 1)
                        .map_err(|Violation(what)| {
                            told(&format!("{what}; after a second crash {point}"), &outcome)
                        })?;
                }
            }
        }
        Ok(())
    }

    /// Opens what is left and checks it; now and then it is also gone on with.
    fn recover(&mut self, player: &mut Player, point: &Point, depth: u32) -> Result<(), Violation> {
        self.counts.openings += 1;
        player.open(point.durability)?;
        if depth == 0 && self.chance.one_in(self.effort.go_on_one_in) {
            player.play(Action::Append, point.durability)?;
            let end = if self.chance.coin() {
                Action::Restart
            } else {
                Action::Close
            };
            self.counts.openings += 1;
            player.play(end, point.durability)?;
        }
        Ok(())
    }
}

fn told(what: &str, outcome: &Outcome) -> Violation {
    Violation(format!("{what} [left {outcome:?}]"))
}
