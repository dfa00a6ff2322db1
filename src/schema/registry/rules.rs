//! What a new version of a schema is held to, and where that is set.
//!
//! Each rule is set for an event type, or else by default for the tenant, or else by the gateway's
//! configuration.

use std::collections::BTreeMap;

use crate::{
    metadata::records::RulesRecord,
    schema::{
        compatibility::Level,
        platform::{Check, Checks},
    },
};

/// What a new version of a schema is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which versions it has to be compatible with.
    pub level: Level,
    /// Which conventions of the platform it has to keep.
    pub checks: Checks,
}

impl Default for Rules {
    /// What is asked for where nothing is set: as other registries do, and as the platform's own
    /// schemas are.
    fn default() -> Self {
        Self {
            level: Level::default(),
            checks: Checks::all(),
        }
    }
}

/// Rules that are set in one place; those that are not are inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSettings {
    level: Option<Level>,
    checks: Vec<(Check, bool)>,
}

/// A rule as it is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting<T> {
    /// As the next wider place has it.
    Inherited,
    /// As it is here.
    Set(T),
}

/// What is to be changed of the rules of one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleChange {
    /// The compatibility level.
    pub level: Option<Setting<Level>>,
    /// Checks, each at most once.
    pub checks: Vec<(Check, Setting<bool>)>,
}

impl RuleSettings {
    /// The compatibility level, if it is set here.
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// Whether a check is on, if that is set here.
    pub fn check(&self, check: Check) -> Option<bool> {
        let mut set = self.checks.iter();
        set.find(|(set, _)| *set == check).map(|(_, on)| *on)
    }

    /// These rules, and where none is set those of `inherited`.
    pub fn over(&self, inherited: Rules) -> Rules {
        let checks = self.checks.iter();
        Rules {
            level: self.level.unwrap_or(inherited.level),
            checks: checks.fold(inherited.checks, |checks, (check, on)| {
                checks.with(*check, *on)
            }),
        }
    }

    /// These settings after a change.
    pub(super) fn changed(mut self, change: &RuleChange) -> Self {
        match change.level {
            Some(Setting::Set(level)) => self.level = Some(level),
            Some(Setting::Inherited) => self.level = None,
            None => {}
        }
        for (check, setting) in &change.checks {
            self.checks.retain(|(set, _)| set != check);
            if let Setting::Set(on) = setting {
                self.checks.push((*check, *on));
            }
        }
        self
    }

    pub(super) fn record(&self) -> RulesRecord {
        let checks = self.checks.iter();
        RulesRecord {
            compatibility: self.level.map(|level| level.to_string()),
            checks: checks
                .map(|(check, on)| (check.to_string(), *on))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    /// What is recorded; `None` if it is not what was written here.
    pub(super) fn of_record(record: &RulesRecord) -> Option<Self> {
        let level = record.compatibility.as_deref().map(str::parse).transpose();
        let checks = record.checks.iter();
        let checks = checks.map(|(check, on)| Some((check.parse().ok()?, *on)));
        Some(Self {
            level: level.ok()?,
            checks: checks.collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_inherited_and_can_be_again() {
        let inherited = Rules::default();
        let none = RuleSettings::default();
        assert_eq!(none.over(inherited), inherited);
        let set = none.clone().changed(&RuleChange {
            level: Some(Setting::Set(Level::Full)),
            checks: vec![(Check::Namespace, Setting::Set(false))],
        });
        let over = set.over(inherited);
        assert_eq!(over.level, Level::Full);
        assert!(!over.checks.is_on(Check::Namespace));
        assert!(over.checks.is_on(Check::LeadingFields));
        assert_eq!(RuleSettings::of_record(&set.record()), Some(set.clone()));
        let back = set.changed(&RuleChange {
            level: Some(Setting::Inherited),
            checks: vec![(Check::Namespace, Setting::Inherited)],
        });
        assert_eq!(back, none);
    }

    #[test]
    fn rules_that_nobody_knows_are_not_read() {
        let level = RulesRecord {
            compatibility: Some("sideways".into()),
            ..RulesRecord::default()
        };
        assert_eq!(RuleSettings::of_record(&level), None);
        let check = RulesRecord {
            checks: [("spelling".to_owned(), true)].into(),
            ..RulesRecord::default()
        };
        assert_eq!(RuleSettings::of_record(&check), None);
    }
}
