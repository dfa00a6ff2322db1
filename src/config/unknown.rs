//! What is said about a name that is no setting: the setting that was probably meant.

use super::{
    keys::{KEYS, VARIABLE_PREFIX},
    load::{Entry, Given},
    problem::Problem,
};

/// The problem with an entry that fits no key.
pub(super) fn problem(entry: Entry) -> Problem {
    let (found, wanted) = match &entry.given {
        Given::Named { section, name } => (
            format!("the unknown key {name:?} in [{section}]"),
            known_key(section, name),
        ),
        Given::UnknownSection(section) => (
            format!("the unknown section [{section}]"),
            known_section(section),
        ),
        Given::Outside(name) => (
            format!("{name:?} outside of any section"),
            section_of(name).unwrap_or_else(|| known_section(name)),
        ),
        Given::Variable(name) => ("no setting of that name".to_owned(), known_variable(name)),
    };
    Problem {
        layer: entry.layer,
        key: None,
        found,
        wanted,
    }
}

fn known_key(section: &str, name: &str) -> String {
    let own = || KEYS.iter().filter(|key| key.section == section);
    nearest(name, own().map(|key| key.name.to_owned()))
        .or_else(|| section_of(name))
        .unwrap_or_else(|| {
            let names: Vec<_> = own().map(|key| key.name).collect();
            format!("one of {}", names.join(", "))
        })
}

/// For a key that exists, in another place than where it was found.
fn section_of(name: &str) -> Option<String> {
    let key = KEYS.iter().find(|key| key.name == name)?;
    Some(format!("it in [{}]", key.section))
}

fn known_section(name: &str) -> String {
    let mut sections: Vec<_> = KEYS
        .iter()
        .map(|key| format!("[{}]", key.section))
        .collect();
    sections.dedup();
    nearest(&format!("[{name}]"), sections.iter().cloned())
        .unwrap_or_else(|| format!("one of {}", sections.join(", ")))
}

fn known_variable(variable: &str) -> String {
    // The part that all of them share would make any two alike.
    let own_part = variable.strip_prefix(VARIABLE_PREFIX).unwrap_or(variable);
    let named = own_part
        .rsplit("__")
        .next()
        .unwrap_or(own_part)
        .trim_matches('_');
    if let Some(key) = KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(named)) {
        return key.variable();
    }
    let known = KEYS
        .iter()
        .map(|key| key.variable()[VARIABLE_PREFIX.len()..].to_owned());
    nearest(own_part, known).map_or_else(
        || format!("{VARIABLE_PREFIX}SECTION__KEY with a section and a key of `config show`"),
        |own_part| format!("{VARIABLE_PREFIX}{own_part}"),
    )
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let name: String = name.chars().take(COMPARED_CHARS_MAX).collect();
    known
        .map(|known| {
            let likeness = strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase());
            (likeness, known)
        })
        .filter(|&(likeness, _)| likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// No name is longer; comparing takes time that grows with its square.
const COMPARED_CHARS_MAX: usize = 80;
/// Below this, names that have little in common are called alike.
const LIKENESS_MIN: f64 = 0.85;
