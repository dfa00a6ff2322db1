//! Every short history: each sequence of actions up to a length, with a crash at every operation of
//! its last action, and with a fault at every operation of it.
//!
//! The operations of the earlier actions are those of shorter histories, so nothing is left out.

use super::{
    action::Action,
    crasher::{Crasher, Effort},
    faults::{self, Fault},
    machine::Lie,
    model::Violation,
    player::Player,
};
use crate::event_log::Durability;

/// One short history.
#[derive(Clone, Debug)]
pub(super) struct Word {
    durability: Durability,
    /// Empty for the history that only opens a new log.
    actions: Vec<Action>,
}

/// What is tried at each moment.
pub(super) const EFFORT: Effort = Effort {
    all_max: 32,
    random: 4,
    is_thorough: true,
    nest_one_in: 200,
    go_on_one_in: 4,
};

impl Word {
    /// The history with this number; shorter ones have smaller numbers.
    pub(super) fn numbered(number: u64) -> Self {
        let durability = match number % 2 {
            0 => Durability::Sync,
            _ => Durability::Os,
        };
        let mut rest = number / 2;
        let mut actions = Vec::new();
        let letters = Action::ALL.len() as u64;
        while rest > 0 {
            rest -= 1;
            actions.push(Action::ALL[(rest % letters) as usize]);
            rest /= letters;
        }
        actions.reverse();
        Self {
            durability,
            actions,
        }
    }

    /// This history, whatever its number is.
    pub(super) fn new(durability: Durability, actions: &[Action]) -> Self {
        Self {
            durability,
            actions: actions.to_vec(),
        }
    }

    /// How many histories there are with at most so many actions.
    pub(super) fn count(actions_max: u32) -> u64 {
        let letters = Action::ALL.len() as u64;
        2 * (0..=actions_max).map(|len| letters.pow(len)).sum::<u64>()
    }

    /// Plays the history and lets the machine crash at each operation of its last action.
    pub(super) fn crash(&self, crasher: &mut Crasher) -> Result<(), Violation> {
        crasher.counts.histories += 1;
        let mut player = self.prefix(crasher.lie)?;
        player.keep_points(true);
        self.play_last(&mut player)?;
        crasher.counts.openings += 1 + self.actions.len() as u64 / 2;
        let points = player.take_points();
        // What an action does without the disk changes nothing about a crash.
        crasher.crash_at_all(&points)
    }

    /// Plays the history again and again, each time with another fault of its last action, goes on,
    /// and lets the machine crash.
    pub(super) fn fail(&self, crasher: &mut Crasher) -> Result<(), Violation> {
        let mut player = self.prefix(crasher.lie)?;
        let before = player.machine.operations();
        self.play_last(&mut player)?;
        let operations = player.machine.operations() - before;
        for number in 0..operations {
            for fault in faults::ALL {
                self.fail_at(number, fault, crasher)
                    .map_err(|Violation(what)| {
                        let operations = format!("operation {number} of {operations}");
                        Violation(format!(
                            "{what}; {fault:?} at {operations} of the last action"
                        ))
                    })?;
            }
        }
        Ok(())
    }

    /// The same with one fault.
    pub(super) fn fail_at(
        &self,
        number: u64,
        fault: Fault,
        crasher: &mut Crasher,
    ) -> Result<(), Violation> {
        let mut player = self.prefix(crasher.lie)?;
        player
            .machine
            .faults(|faults| faults.fail_at(number, fault));
        player.keep_points(true);
        self.play_last(&mut player)?;
        player.machine.faults(|faults| faults.heal());
        let fired = player
            .machine
            .faults(|faults| std::mem::take(&mut faults.fired));
        if fired.is_empty() {
            return Ok(());
        }
        // The player goes by the counts: they are needed for as long as the log is open.
        player.machine.faults(|faults| faults.fired = fired.clone());
        let end = match number % 2 {
            0 => Action::Restart,
            _ => Action::Close,
        };
        for action in [Action::Append, Action::Seal, end, Action::Append] {
            player.play(action, self.durability)?;
        }
        crasher.counts.histories += 1;
        crasher.counts.openings += 2;
        for (fault, count) in fired {
            *crasher.counts.faults.entry(fault).or_default() += count;
        }
        let points = player.take_points();
        let effort = std::mem::replace(&mut crasher.effort, AFTER_FAULT);
        let crashed = crasher.crash_at_all(&points);
        crasher.effort = effort;
        crashed
    }

    /// Everything but the last action.
    fn prefix(&self, lie: Option<Lie>) -> Result<Player, Violation> {
        let mut player = Player::new(1, lie);
        if let Some((_, before)) = self.actions.split_last() {
            player.open(self.durability)?;
            for action in before {
                player.play(*action, self.durability)?;
            }
        }
        Ok(player)
    }

    fn play_last(&self, player: &mut Player) -> Result<(), Violation> {
        match self.actions.last() {
            Some(action) => player.play(*action, self.durability),
            None => player.open(self.durability),
        }
    }
}

/// What is tried at each moment after a fault.
const AFTER_FAULT: Effort = Effort {
    random: 1,
    is_thorough: false,
    nest_one_in: 2_000,
    ..EFFORT
};
