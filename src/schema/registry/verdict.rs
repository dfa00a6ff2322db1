//! What a registry says of a schema: what registering it does, or every reason why it is refused.

use std::fmt;

use super::{EventType, Rules};
use crate::{
    schema::{
        Schema,
        compatibility::{self, Direction, Violation, violations_within},
        finding::Finding,
        platform, soundness,
    },
    types::{
        SchemaId, TopicName,
        limits::{JUDGEMENT_STEPS_MAX, VIOLATIONS_MAX},
    },
};

/// What a registration does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The topic is new.
    NewTopic,
    /// The topic has a new version, which is now the current one.
    NewVersion,
    /// An earlier version is the current one again.
    Returned,
    /// The schema id is the same; the text differs in what the id does not cover.
    NewText,
    /// Nothing changes.
    Unchanged,
}

impl Registration {
    /// The word for it in the admin service and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewTopic => "new_topic",
            Self::NewVersion => "new_version",
            Self::Returned => "returned",
            Self::NewText => "new_text",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What a registry says of a schema.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The topic that the schema is of.
    pub topic: TopicName,
    /// The schema's id.
    pub schema_id: SchemaId,
    /// The schema that was the current one before; `None` if there was no such topic.
    pub current: Option<SchemaId>,
    /// What registering it does, or would do.
    pub registration: Registration,
    /// The place that it has, or would have, among the topic's versions, from 1.
    pub number: usize,
    /// What it was held to.
    pub rules: Rules,
    /// Why it is refused, as far as is listed; nothing is registered if there is any.
    pub objections: Vec<Objection>,
    /// How many objections there are that are not listed.
    pub more: usize,
}

impl Verdict {
    /// Whether the schema is refused.
    pub fn is_refused(&self) -> bool {
        !self.objections.is_empty()
    }
}

/// One reason why a schema is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// It is wrong in itself.
    Finding(Finding),
    /// It is not compatible with another version.
    Incompatible {
        /// What is broken.
        violation: Violation,
        /// The other version's id.
        with: SchemaId,
        /// The other version's place among all, from 1.
        number: usize,
    },
}

impl Objection {
    /// The rule's name, as it is printed and never changed.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Finding(finding) => finding.rule,
            Self::Incompatible { violation, .. } => violation.rule.name(),
        }
    }

    /// The field or type.
    pub fn path(&self) -> &str {
        match self {
            Self::Finding(finding) => &finding.path,
            Self::Incompatible { violation, .. } => &violation.path,
        }
    }

    /// What the author can do about it.
    pub fn fix(&self) -> String {
        match self {
            Self::Finding(finding) => finding.fix.clone(),
            Self::Incompatible { violation, .. } => violation.fix(),
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finding(finding) => finding.fmt(f),
            Self::Incompatible {
                violation, number, ..
            } => write!(f, "{violation} (version {number})"),
        }
    }
}

/// A record that only its namespace tells from the other version's, without an alias for it: the
/// specification lets the two be read as each other, and some of those who implement it do not.
fn other_namespace(new: &Schema, old: &Schema, direction: Direction) -> Option<Violation> {
    let (reader, writer) = match direction {
        Direction::Backward => (new, old),
        Direction::Forward => (old, new),
    };
    let is_called = |name: &str| {
        let aliases = reader.program().root().aliases();
        reader.full_name() == name || aliases.iter().any(|alias| alias == name)
    };
    (!is_called(writer.full_name())).then(|| Violation {
        direction,
        path: reader.record_name().to_owned(),
        rule: compatibility::Rule::Name {
            writer: writer.full_name().to_owned(),
            reader: reader.full_name().to_owned(),
        },
    })
}

/// Every objection to `schema` as a version of `event_type`, or as the first if there is none, and how
/// many there are that are not listed. Plain work, bounded, that may take a while.
pub(super) fn objections(
    schema: &Schema,
    event_type: Option<&EventType>,
    rules: Rules,
) -> (Vec<Objection>, usize) {
    let findings = soundness::findings(schema).into_iter();
    let findings = findings.chain(platform::findings(schema, rules.checks));
    let mut objections: Vec<_> = findings.map(Objection::Finding).collect();
    let mut more = objections.len().saturating_sub(VIOLATIONS_MAX);
    objections.truncate(VIOLATIONS_MAX);
    let compared = event_type.into_iter();
    let compared = compared.flat_map(|event_type| event_type.compared(rules));
    let mut steps = JUDGEMENT_STEPS_MAX;
    'all: for (number, old) in compared {
        for &direction in rules.level.directions() {
            if objections.len() == VIOLATIONS_MAX {
                // More than anyone reads; what else there is comes up once these are mended.
                break 'all;
            }
            let mut found = violations_within(schema, old, direction, &mut steps);
            found.listed.extend(other_namespace(schema, old, direction));
            let room = VIOLATIONS_MAX - objections.len();
            more += found.more + found.listed.len().saturating_sub(room);
            let listed = found.listed.into_iter().take(room);
            objections.extend(listed.map(|violation| Objection::Incompatible {
                violation,
                with: old.id(),
                number,
            }));
        }
    }
    (objections, more)
}
