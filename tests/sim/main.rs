//! The client and the gateway on a simulated network and clock, under faults, by seed.
//!
//! A seed draws a scenario ([`scenario`]): what is subscribed to and how, and what goes wrong when. The
//! real subscriber and publisher meet the real gateway over its log and store in memory ([`hosts`]),
//! and [`oracle`] knows every event that was acknowledged, watches what becomes of it, and says at the
//! end what was broken of what the library promises.
//!
//! The same seed gives the same trace. Randomness and clocks come from the seed for the whole process,
//! and can be set once in it: so each seed has a process of its own, which this one starts, and the
//! binary brings its own `main`.
//!
//! - `cargo test --test sim` runs a few seeds, and the first of them twice.
//! - `TIDEGATE_SIM_SEEDS=FROM..TO` runs those seeds.
//! - `TIDEGATE_SIM_SEED=N` runs one, in this process, and prints its trace.

mod faults;
mod hosts;
mod oracle;
mod run;
mod scenario;

use std::{
    collections::VecDeque,
    env,
    ops::Range,
    process::{Child, Command, ExitCode, Output, Stdio},
};

/// Seeds that are run unless others are asked for.
const SEEDS: Range<u64> = 0..20;
/// Processes that run at once. A machine that builds this has two cores.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    if args.any(|arg| arg == "--list" || !arg.starts_with('-') && !"seeds".contains(&*arg)) {
        // Asked for the tests there are, or for others: this binary has seeds.
        println!("test result: ok. 0 passed; 0 failed");
        return ExitCode::SUCCESS;
    }
    if let Ok(seed) = env::var("TIDEGATE_SIM_SEED") {
        return one(&seed);
    }
    let seeds = match env::var("TIDEGATE_SIM_SEEDS") {
        Err(_) => SEEDS,
        Ok(text) => match range(&text) {
            Some(seeds) => seeds,
            None => {
                eprintln!("TIDEGATE_SIM_SEEDS is FROM..TO, such as 0..1000, found {text:?}");
                return ExitCode::FAILURE;
            }
        },
    };
    many(seeds)
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// Runs one seed in this process.
fn one(seed: &str) -> ExitCode {
    let Ok(seed) = seed.parse() else {
        eprintln!("TIDEGATE_SIM_SEED is a number, found {seed:?}");
        return ExitCode::FAILURE;
    };
    let (trace, broken) = run::run(seed);
    for line in &trace {
        println!("{line}");
    }
    for promise in &broken {
        println!("broken: {promise}");
    }
    match broken.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs each seed in a process of its own, and the first one again.
fn many(seeds: Range<u64>) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    let mut first = None;
    let mut waiting = seeds.clone();
    let mut running = VecDeque::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(seed) = waiting.next()
        {
            running.push_back((seed, start(seed)));
        }
        let Some((seed, child)) = running.pop_front() else {
            break;
        };
        let output = end(child);
        if output.status.success() {
            passed += 1;
        } else {
            failed += 1;
            report(seed, &output);
        }
        first.get_or_insert(output);
    }
    if let Some(first) = first {
        let again = end(start(seeds.start));
        match first.stdout == again.stdout {
            true => {
                passed += 1;
                println!("test the_same_seed_gives_the_same_trace ... ok");
            }
            false => {
                failed += 1;
                let (first, again) = (text(&first.stdout), text(&again.stdout));
                let differ = first.lines().zip(again.lines()).find(|(a, b)| a != b);
                println!("test the_same_seed_gives_the_same_trace ... FAILED: {differ:?}");
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn start(seed: u64) -> Child {
    let program = env::current_exe().expect("a running program has a path");
    let mut command = Command::new(program);
    command.env("TIDEGATE_SIM_SEED", seed.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
        .spawn()
        .expect("the program that runs can be started")
}

fn end(child: Child) -> Output {
    child.wait_with_output().expect("a child can be waited for")
}

/// Says what broke, and how to see it again.
fn report(seed: u64, output: &Output) {
    println!("seed {seed} FAILED; TIDEGATE_SIM_SEED={seed} cargo test --test sim replays it:");
    let told = text(&output.stdout);
    let broken = told.lines().filter(|line| line.starts_with("broken: "));
    broken
        .take(LINES_MAX)
        .for_each(|line| println!("    {line}"));
    let errors = text(&output.stderr);
    errors
        .lines()
        .take(LINES_MAX)
        .for_each(|line| println!("    {line}"));
}

/// Lines that are shown of a failure: the rest is seen by replaying it.
const LINES_MAX: usize = 8;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
