//! Long histories that follow from a seed: actions, faults, restarts and crashes in any order.

use super::{
    action::Action,
    chance::Chance,
    crasher::{Crasher, Effort},
    faults::Faults,
    model::Violation,
    player::Player,
};
use crate::event_log::Durability;

/// What is tried at each moment.
pub(super) const EFFORT: Effort = Effort {
    all_max: 0,
    random: 2,
    is_thorough: false,
    nest_one_in: 100,
    go_on_one_in: 10,
};

/// Plays the history of `seed`.
pub(super) fn play(seed: u64, crasher: &mut Crasher) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let durability = *chance.pick(&[Some(Durability::Sync), Some(Durability::Os), None]);
    // Half of the histories have a sound disk: what a fault excuses would hide a mistake.
    let fault_one_in = *chance.pick(&[None, None, Some(30), Some(200)]);
    let mut player = Player::new(chance.next(), crasher.lie);
    crasher.counts.histories += 1;
    for life in 0..LIVES {
        player.keep_points(true);
        if let Some(times) = fault_one_in {
            let seed = chance.next();
            player
                .machine
                .faults(|faults| faults.fail_at_random(times, seed));
        }
        let actions = 1 + chance.below(ACTIONS_MAX);
        let mut points = Vec::new();
        for number in 0..actions {
            let both = [Durability::Sync, Durability::Os];
            let durability = durability.unwrap_or(*chance.pick(&both));
            let action = match player.is_open() {
                true => action(&mut chance, fault_one_in.is_some()),
                false => Action::Restart,
            };
            let is_opening = matches!(action, Action::Restart | Action::Close);
            crasher.counts.openings += u64::from(is_opening);
            let at = |what| format!("{what}; life {life}, action {number}, {action:?}");
            let played = player.play(action, durability);
            played.map_err(|Violation(what)| Violation(at(what)))?;
            points = player.take_points();
            let crashed = crasher.crash_at_all(&points);
            crashed.map_err(|Violation(what)| Violation(at(what)))?;
        }
        let fired = player
            .machine
            .faults(|faults: &mut Faults| faults.fired.clone());
        for (fault, count) in fired {
            *crasher.counts.faults.entry(fault).or_default() += count;
        }
        // The moment of the crash lies in the last action.
        player = crasher.go_on(chance.pick(&points));
    }
    Ok(())
}

fn action(chance: &mut Chance, with_faults: bool) -> Action {
    let often = [
        Action::Append,
        Action::Append,
        Action::AppendLarge,
        Action::AppendMany,
        Action::Sync,
    ];
    loop {
        let action = match chance.coin() {
            true => *chance.pick(&often),
            false => *chance.pick(&Action::ALL),
        };
        if with_faults || !action.is_fault() {
            return action;
        }
    }
}

/// Times the machine starts in one history.
const LIVES: usize = 5;
/// Actions between two crashes.
const ACTIONS_MAX: usize = 40;
