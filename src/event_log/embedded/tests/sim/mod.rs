//! A disk that lies and dies: the evidence that the log is durable.
//!
//! The log runs on a disk in memory where every operation can fail, be cut short or be watched, and
//! which after a crash has any subset of what was not synced. A model of what was sent and what came
//! of it checks every opening: nothing acknowledged or seen is lost, nothing refused appears, no
//! position is given twice, events stay in order and in their place, and there is no hole.
//!
//! ```text
//! contents ─► disk ─► machine (Io: faults, lies, watcher)
//!                        └─► session (a log without threads) ─► player (actions, model)
//!                                                                  └─► crasher ─► exhaustive, random
//! ```
//!
//! A **moment** is an operation before which the machine may crash; a **crash** is a moment and one
//! way the disk may look afterwards. The disk is copied at each moment of one run, so a history is
//! played once, however many crashes are tried. The usual tests take seconds. More is asked for by
//! the environment, best with `--release`:
//!
//! ```text
//! TIDEGATE_TEST_CRASH_POINTS=1000000 cargo test --release --lib tests::sim -- --nocapture
//! TIDEGATE_TEST_HISTORY=17           cargo test --lib tests::sim::a_random -- --nocapture
//! ```
//!
//! The first makes each of the three tests go on until it has so many crashes; the second plays one
//! history alone, by the number that a failing test prints.

mod action;
mod chance;
mod contents;
mod crasher;
mod disk;
mod exhaustive;
mod faults;
mod liars;
mod machine;
mod model;
mod player;
mod random;
mod session;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use action::Action;
use chance::Chance;
use crasher::{Counts, Crasher, Effort};
use exhaustive::Word;
use faults::{Fault, Kind, Op};
use model::Violation;
use player::{Player, Point};

use crate::{event_log::Durability, types::TopicId};

#[test]
fn every_short_history_survives_a_crash_at_every_operation() {
    let name = "every_short_history_survives_a_crash";
    let plan = Plan::new(name, exhaustive::EFFORT, Word::count(2));
    plan.run(|number, crasher| {
        let word = Word::numbered(number);
        word.crash(crasher).map_err(|what| of_word(&word, what))
    });
}

#[test]
fn every_short_history_survives_a_fault_at_every_operation() {
    let name = "every_short_history_survives_a_fault";
    let plan = Plan::new(name, exhaustive::EFFORT, Word::count(1));
    plan.run(|number, crasher| {
        let word = Word::numbered(number);
        word.fail(crasher).map_err(|what| of_word(&word, what))
    });
}

#[test]
fn a_random_long_history_survives_crashes_and_faults() {
    let plan = Plan::new("a_random_long_history", random::EFFORT, 8);
    plan.run(random::play);
}

#[test]
fn a_segment_that_can_be_neither_begun_nor_removed_stops_the_log() {
    let mut player = Player::new(1, None);
    player.open(Durability::Sync).unwrap();
    player.machine.faults(|faults| {
        faults.fail_next(Op::SyncDir, Kind::Other, Fault::Full);
        faults.fail_next(Op::Unlink, Kind::Segment, Fault::Error);
    });
    for action in [
        Action::Append,
        Action::Append,
        Action::Restart,
        Action::Append,
    ] {
        player.play(action, Durability::Sync).unwrap();
    }
}

#[test]
fn a_segment_that_had_no_room_for_its_footer_gets_it_before_the_next_one_does() {
    // More operations than an opening has.
    for number in 0..60 {
        let mut player = Player::new(1, None);
        player.open(Durability::Sync).unwrap();
        player.play(Action::Append, Durability::Sync).unwrap();
        player
            .machine
            .faults(|faults| faults.fail_at(number, Fault::Full));
        player.play(Action::Restart, Durability::Sync).unwrap();
        player.machine.faults(|faults| faults.heal());
        for action in [Action::Append, Action::Seal, Action::Restart] {
            let played = player.play(action, Durability::Sync);
            assert!(played.is_ok(), "{number}: {played:?}");
        }
    }
}

#[test]
fn a_name_that_was_removed_in_vain_does_not_come_back_beside_new_ones() {
    // The clean-up of the second group fails at the sync of the directory.
    let word = Word::new(Durability::Sync, &[Action::Full, Action::Full]);
    let mut crasher = Crasher::new(exhaustive::EFFORT, 1, None);
    for seed in 0..20 {
        crasher.chance = Chance::new(seed);
        let survived = word.fail_at(4, Fault::Full, &mut crasher);
        assert!(survived.is_ok(), "{survived:?}");
    }
}

#[test]
fn a_segment_is_not_sealed_after_a_sync_that_failed_elsewhere() {
    let actions = [Action::AppendLarge, Action::FailSync, Action::SyncAndSeal];
    let mut crasher = Crasher::new(exhaustive::EFFORT, 1, None);
    let survived = Word::new(Durability::Os, &actions).crash(&mut crasher);
    assert!(survived.is_ok(), "{survived:?}");
}

#[test]
fn a_recovery_of_a_torn_group_that_failed_somewhere_can_be_gone_on_from() {
    let mut player = Player::new(1, None);
    player.open(Durability::Sync).unwrap();
    player.keep_points(true);
    player.play(Action::AppendMany, Durability::Sync).unwrap();
    let points = player.take_points();
    let is_torn = |point: &&Point| {
        let operation = point.operation.as_ref();
        operation.is_some_and(|done| (done.op, done.kind) == (Op::Sync, Kind::Segment))
    };
    let torn = points.iter().rfind(is_torn).unwrap();
    // Crashes that leave a part of the group.
    let crashed = |seed| {
        let mut crasher = Crasher::new(random::EFFORT, seed, None);
        let player = crasher.go_on(torn);
        (crasher, player)
    };
    let seeds = (0..).filter(|seed| {
        let (_, mut player) = crashed(*seed);
        player.open(Durability::Sync).unwrap();
        player.events_of(TopicId::new(1)) == 2
    });
    // More operations than an opening has.
    for (seed, number) in seeds
        .take(2)
        .flat_map(|seed| (0..60).map(move |at| (seed, at)))
    {
        for fault in [Fault::Error, Fault::Full] {
            let (mut crasher, mut player) = crashed(seed);
            player
                .machine
                .faults(|faults| faults.fail_at(number, fault));
            player.open(Durability::Sync).unwrap();
            player.machine.faults(|faults| faults.heal());
            if !player.is_open() {
                // What it left in memory is found here.
                player.play(Action::Restart, Durability::Sync).unwrap();
            }
            player.keep_points(true);
            player.play(Action::Append, Durability::Sync).unwrap();
            let survived = crasher.crash_at_all(&player.take_points());
            assert!(survived.is_ok(), "{survived:?}");
        }
    }
}

#[test]
fn a_header_that_was_cut_inside_its_first_sector_is_none() {
    // The cut is anywhere in the write, and the header is a small part of it.
    for seed in 0..500 {
        let mut player = Player::new(seed, None);
        player.open(Durability::Sync).unwrap();
        player.machine.faults(|faults| {
            faults.fail_next(Op::Write, Kind::Segment, Fault::Part);
        });
        for action in [Action::Append, Action::Restart, Action::Append] {
            let played = player.play(action, Durability::Sync);
            assert!(played.is_ok(), "{seed}: {played:?}");
        }
    }
}

fn of_word(word: &Word, Violation(what): Violation) -> Violation {
    Violation(format!("{what}; {word:?}"))
}

/// Plays a history; a panic of the log is as good as a broken promise.
fn attempt(
    crasher: &mut Crasher,
    play: impl FnOnce(&mut Crasher) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let played = catch_unwind(AssertUnwindSafe(|| play(crasher)));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
        Err(Violation(format!("a panic: {}", text.unwrap_or_default())))
    })
}

/// Histories to be played, by their numbers.
struct Plan {
    name: &'static str,
    effort: Effort,
    /// At least so many, from number 0 on.
    histories: u64,
    /// At least so many crashes.
    crashes: u64,
    /// This one alone.
    only: Option<u64>,
}

impl Plan {
    fn new(name: &'static str, effort: Effort, histories: u64) -> Self {
        let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
        Self {
            name,
            effort,
            histories,
            crashes: number("TIDEGATE_TEST_CRASH_POINTS").unwrap_or(0),
            only: number("TIDEGATE_TEST_HISTORY"),
        }
    }

    /// Plays the histories, on every core, and panics at the first violation.
    fn run(&self, play: impl Fn(u64, &mut Crasher) -> Result<(), Violation> + Sync) {
        let began = Instant::now();
        let (next, crashes) = (AtomicU64::new(0), AtomicU64::new(0));
        let total = Mutex::new(Counts::default());
        let failed: Mutex<Option<(u64, Violation)>> = Mutex::new(None);
        let work = || {
            loop {
                let number = match self.only {
                    Some(only) if next.fetch_add(1, Ordering::SeqCst) == 0 => only,
                    Some(_) => return,
                    None => next.fetch_add(1, Ordering::SeqCst),
                };
                let is_enough = number >= self.histories
                    && crashes.load(Ordering::SeqCst) >= self.crashes
                    && self.only.is_none();
                if is_enough || failed.lock().unwrap().is_some() {
                    return;
                }
                let mut crasher = Crasher::new(self.effort, number, None);
                if let Err(violation) = attempt(&mut crasher, |crasher| play(number, crasher)) {
                    let mut failed = failed.lock().unwrap();
                    // With several threads a later one may be found first.
                    if failed.as_ref().is_none_or(|(other, _)| number < *other) {
                        *failed = Some((number, violation));
                    }
                    return;
                }
                crashes.fetch_add(crasher.counts.crashes, Ordering::SeqCst);
                total.lock().unwrap().add(&crasher.counts);
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        if let Some((number, violation)) = failed.into_inner().unwrap() {
            panic!(
                "history {number}: {violation}\nto play it alone: TIDEGATE_TEST_HISTORY={number} \
                 cargo test --lib tests::sim::{}",
                self.name
            );
        }
        let total = total.into_inner().unwrap();
        println!("{}: {:?}, {total:?}", self.name, began.elapsed());
    }
}
