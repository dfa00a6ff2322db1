//! Disks that lie: under each of them the log as it is breaks a promise in the way that a log with a
//! mistake would on an honest disk, and the same histories that the log survives have to show it.

use super::{
    attempt,
    crasher::{Crasher, Effort},
    exhaustive::{self, Word},
    faults::Kind,
    machine::Lie,
    model::Violation,
    of_word, random,
};

#[test]
fn every_lie_of_a_disk_is_found_out() {
    for lie in LIES {
        let caught = catch(lie);
        let caught = caught.unwrap_or_else(|| panic!("{lie:?}: nothing noticed it"));
        println!("{lie:?}: {caught}");
    }
}

const LIES: [Lie; 12] = [
    Lie::NoSync(Kind::Segment),
    Lie::NoSync(Kind::State),
    Lie::NoSync(Kind::Other),
    Lie::SyncWithNextWrite(Kind::Segment),
    Lie::SyncWithNextWrite(Kind::State),
    Lie::NoSyncDir,
    Lie::TruncateTooMuch,
    Lie::NoTruncate,
    Lie::NoSyncError,
    Lie::NoDropCache,
    Lie::RenameFirst,
    Lie::NoUnlink,
];

/// A lie shows in one way or another; there is no need to try all of them.
const EFFORT: Effort = Effort {
    all_max: 8,
    random: 1,
    ..exhaustive::EFFORT
};

/// Of so many histories with crashes one is followed by one with faults.
const FAIL_ONE_IN: u64 = 8;

/// The first history that shows the lie, and what it shows.
fn catch(lie: Lie) -> Option<String> {
    // Crashes are tried more often than faults, of which there are many in each history. The
    // shortest histories, which only open a log, come last: they show little.
    let short = (2..Word::count(2)).chain(0..2);
    let mut crashed = short.map(|number| {
        violation(lie, EFFORT, |crasher| {
            let word = Word::numbered(number);
            word.crash(crasher).map_err(|what| of_word(&word, what))?;
            if number % FAIL_ONE_IN == 2 {
                let word = Word::numbered(2 + number / FAIL_ONE_IN);
                word.fail(crasher).map_err(|what| of_word(&word, what))?;
            }
            Ok(())
        })
    });
    let mut long = (0..30).map(|seed| {
        let found = violation(lie, random::EFFORT, |crasher| random::play(seed, crasher));
        found.map(|what| format!("random history {seed}: {what}"))
    });
    crashed
        .find_map(|found| found)
        .or_else(|| long.find_map(|found| found))
}

fn violation(
    lie: Lie,
    effort: Effort,
    play: impl FnOnce(&mut Crasher) -> Result<(), Violation>,
) -> Option<String> {
    let mut crasher = Crasher::new(effort, 1, Some(lie));
    let played = attempt(&mut crasher, play);
    played.err().map(|Violation(what)| what)
}
