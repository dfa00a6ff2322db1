//! Micro benchmarks: what single steps on the way of an event take, each beside what could be done
//! instead.
//!
//! `cargo bench --bench micro` measures all of them, `cargo bench --bench micro -- walker` those
//! with `walker` in their name. Before a case is measured it is checked that its sides come to the
//! same. A ratio says how many times as long the alternative takes.

mod harness;
mod load;
mod log;
mod messages;
mod payloads;

use std::process::ExitCode;

use harness::{Case, smallest_median_largest};

/// Events are many small allocations, and the program has this allocator for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A case's name, and what makes it.
type Entry = (&'static str, fn() -> Case);

/// Every case, in the order in which an event meets them.
const CASES: [Entry; 9] = [
    ("request", messages::request),
    ("request-fields", messages::request_fields),
    ("walker", payloads::walker),
    ("layout", messages::layout),
    ("ring", log::ring),
    ("slice", log::slice),
    ("filter", payloads::filter),
    ("credit", log::credit),
    ("response", messages::response),
];

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    // Cargo runs benches with the tests too, with the arguments of those.
    if !args.iter().any(|arg| arg == "--bench") {
        CASES.iter().for_each(|(_, make)| drop(make()));
        println!("the sides of every case agree; they are measured with --bench");
        return ExitCode::SUCCESS;
    }
    args.retain(|arg| arg != "--bench");
    let cases = match chosen(&args) {
        Ok(cases) => cases,
        Err(wrong) => {
            let names = CASES.map(|(name, _)| name).join(", ");
            eprintln!("{wrong}; the one argument is a case's name or part of it: {names}");
            return ExitCode::from(2);
        }
    };
    row([
        "case",
        "per",
        "ns",
        "min to max",
        "alternative",
        "ns",
        "ratio",
    ]);
    for (name, make) in cases {
        let mut case = make();
        case.measure();
        print(name, &case);
    }
    ExitCode::SUCCESS
}

/// The cases that the arguments ask for, or what is wrong with these.
fn chosen(args: &[String]) -> Result<Vec<Entry>, String> {
    let part = match args {
        [] => "",
        [part] if !part.starts_with('-') => part,
        [option] => return Err(format!("unknown option {option}")),
        [..] => return Err(format!("{} arguments", args.len())),
    };
    let cases: Vec<Entry> = CASES
        .into_iter()
        .filter(|(name, _)| name.contains(part))
        .collect();
    match cases.is_empty() {
        true => Err(format!("no case is called {part}")),
        false => Ok(cases),
    }
}

/// One row for each alternative, or one without.
fn print(name: &str, case: &Case) {
    let (own, alternatives) = case.sides.split_first().expect("a case has its own way");
    let [min, median, max] = smallest_median_largest(&own.rounds);
    let (spread, median) = (format!("{min:.1} to {max:.1}"), format!("{median:.1}"));
    if alternatives.is_empty() {
        row([name, case.unit, &median, &spread, "-", "-", "-"]);
    }
    for other in alternatives {
        let [_, other_median, _] = smallest_median_largest(&other.rounds);
        let (other_median, ratio) = (format!("{other_median:.1}"), other.ratio_to(own));
        let ratio = format!("{ratio:.2}");
        row([
            name,
            case.unit,
            &median,
            &spread,
            other.name,
            &other_median,
            &ratio,
        ]);
    }
}

fn row([case, unit, ns, spread, other, other_ns, ratio]: [&str; 7]) {
    println!(
        "{case:<14}  {unit:<12}  {ns:>7}  {spread:>16}  {other:<32}  {other_ns:>8}  {ratio:>6}"
    );
}
