//! Putting the layers on top of each other.

use std::ffi::OsString;

use super::{
    env, file,
    flags::ServeFlags,
    keys::KEYS,
    problem::{Layer, Problem, Problems},
    rules,
    settings::Settings,
    unknown,
    value::Raw,
};

/// Settings, and for each the layer that set it.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The settings, checked.
    pub settings: Settings,
    /// For each row of the table of keys, in its order.
    pub(super) layers: Vec<Layer>,
}

/// A value of some layer, before it is known whether it is one of ours.
pub(super) struct Entry {
    pub(super) layer: Layer,
    pub(super) given: Given,
    pub(super) raw: Raw,
}

/// What a value was given for.
pub(super) enum Given {
    /// A key, which may not exist, in a section that does.
    Named { section: String, name: String },
    /// A section that does not exist, whatever is in it.
    UnknownSection(String),
    /// A name outside of any section.
    Outside(String),
    /// A variable, by its whole name.
    Variable(String),
}

/// Resolves defaults, the file of `--config`, `variables` and `flags`, each over the one before.
///
/// `variables` are name and value as [`env::variables`] gives them; names that are no settings are
/// passed over. Nothing is read from the process itself, and no other file is opened.
///
/// # Errors
///
/// [`Problems`]: everything that is wrong in any layer, even where a later one has a better value.
pub fn load(flags: &ServeFlags, variables: &[(OsString, OsString)]) -> Result<Effective, Problems> {
    let mut loader = Loader::new();
    if let Some(path) = &flags.config {
        match file::entries(path) {
            Ok(entries) => entries.into_iter().for_each(|entry| loader.apply(entry)),
            Err(problems) => loader.problems.extend(problems),
        }
    }
    for entry in variable_entries(variables).chain(flag_entries(flags)) {
        loader.apply(entry);
    }
    loader.finish()
}

struct Loader {
    effective: Effective,
    problems: Vec<Problem>,
}

impl Loader {
    fn new() -> Self {
        Self {
            effective: Effective {
                settings: Settings::default(),
                layers: vec![Layer::Default; KEYS.len()],
            },
            problems: Vec::new(),
        }
    }

    fn apply(&mut self, entry: Entry) {
        let Some(row) = entry.row() else {
            self.problems.push(unknown::problem(entry));
            return;
        };
        let key = &KEYS[row];
        if key.set(&mut self.effective.settings, &entry.raw).is_none() {
            self.problems.push(Problem {
                layer: entry.layer.clone(),
                key: Some(key.to_string()),
                found: entry.raw.to_string(),
                wanted: key.wanted(),
            });
        }
        self.effective.layers[row] = entry.layer;
    }

    fn finish(mut self) -> Result<Effective, Problems> {
        // A setting with a problem of its own still has its earlier value, which nobody asked for.
        let broken: Vec<_> = self
            .problems
            .iter()
            .filter_map(|problem| problem.key.clone())
            .collect();
        let contradictions = rules::broken_by(&self.effective, &broken);
        self.problems.extend(contradictions);
        if self.problems.is_empty() {
            Ok(self.effective)
        } else {
            Err(Problems(self.problems))
        }
    }
}

impl Effective {
    /// Which layer set this key.
    pub(super) fn layer(&self, section: &str, name: &str) -> &Layer {
        let row = KEYS
            .iter()
            .position(|key| key.section == section && key.name == name)
            .expect("only keys of the table are asked for");
        &self.layers[row]
    }
}

impl Entry {
    fn row(&self) -> Option<usize> {
        KEYS.iter().position(|key| match &self.given {
            Given::Named { section, name } => key.section == section && key.name == name,
            Given::Variable(name) => key.variable() == *name,
            Given::UnknownSection(_) | Given::Outside(_) => false,
        })
    }
}

fn variable_entries(variables: &[(OsString, OsString)]) -> impl Iterator<Item = Entry> {
    variables
        .iter()
        .filter(|(name, _)| env::is_setting(name))
        .map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            Entry {
                layer: Layer::Variable(name.clone()),
                given: Given::Variable(name),
                raw: match value.to_str() {
                    Some(text) => Raw::Untyped(text.to_owned()),
                    None => Raw::NotText,
                },
            }
        })
}

fn flag_entries(flags: &ServeFlags) -> impl Iterator<Item = Entry> {
    flags.given().into_iter().map(|given| Entry {
        layer: Layer::Flag(given.flag),
        given: Given::Named {
            section: given.section.to_owned(),
            name: given.name.to_owned(),
        },
        raw: given.raw,
    })
}
