//! What a gateway says of a schema, as it is shown.

use std::path::Path;

use serde::Serialize;

use super::super::output::{Record, time};
use crate::{
    proto::admin::{self, AffectedUser, SchemaVerdict},
    schema::finding::Finding,
};

/// Users that are named beside one reason in text; JSON has them all.
const USERS_SHOWN: usize = 5;

/// What a gateway says of the schema in a file. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    pub(super) file: String,
    pub(super) topic: String,
    pub(super) schema_id: String,
    pub(super) version: u32,
    /// `new_topic`, `new_version`, `returned`, `new_text` or `unchanged`.
    pub(super) registration: String,
    pub(super) refused: bool,
    pub(super) compatibility: String,
    pub(super) objections: Vec<Objection>,
    pub(super) objections_more: u32,
    pub(super) affected: Vec<Affected>,
    pub(super) affected_more: u32,
    /// Whether nothing was to be registered.
    #[serde(skip)]
    pub(super) is_rehearsal: bool,
    /// The topic's current schema until then; empty if there was no such topic.
    #[serde(skip)]
    pub(super) current: String,
}

/// One reason why a schema is refused. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Objection {
    path: String,
    /// Null where it is not known.
    line: Option<u32>,
    rule: String,
    message: String,
    fix: String,
    /// `backward` or `forward`; null if it is wrong in itself.
    direction: Option<String>,
    /// The version that it is not compatible with.
    schema_id: Option<String>,
    version: Option<u32>,
}

/// Somebody who would break. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Affected {
    kind: String,
    name: String,
    schema_id: String,
    directions: Vec<String>,
    asked_at: Option<String>,
    published_at: Option<String>,
    delivered_at: Option<String>,
}

impl Verdict {
    pub(super) fn new(file: &str, verdict: SchemaVerdict, is_rehearsal: bool) -> Self {
        let objections = verdict.objections.into_iter();
        let affected = verdict.affected.into_iter();
        Self {
            file: file.to_owned(),
            topic: verdict.topic_name,
            schema_id: verdict.schema_id,
            version: verdict.version,
            registration: verdict.registration,
            refused: verdict.refused,
            compatibility: verdict.compatibility,
            objections: objections.map(Objection::from).collect(),
            objections_more: verdict.objections_more,
            affected: affected.map(Affected::from).collect(),
            affected_more: verdict.affected_more,
            is_rehearsal,
            current: verdict.current_schema_id,
        }
    }

    /// The verdict on a file that cannot be read.
    pub(super) fn unreadable(path: &Path, reason: String) -> Self {
        let finding = Finding {
            rule: "unreadable",
            path: String::new(),
            line: None,
            message: reason,
            fix: "name a file with the text of a schema".to_owned(),
        };
        Self::no_schema(path, vec![finding])
    }

    /// The verdict on a file that holds no schema.
    pub(super) fn no_schema(path: &Path, findings: Vec<Finding>) -> Self {
        Self {
            file: path.display().to_string(),
            topic: String::new(),
            schema_id: String::new(),
            version: 0,
            registration: String::new(),
            refused: true,
            compatibility: String::new(),
            objections: findings.into_iter().map(Objection::from).collect(),
            objections_more: 0,
            affected: Vec::new(),
            affected_more: 0,
            is_rehearsal: false,
            current: String::new(),
        }
    }

    /// What was done or would be, in words.
    fn deed(&self) -> String {
        let done = match (self.registration.as_str(), self.is_rehearsal) {
            ("unchanged", _) => return "it is registered already".to_owned(),
            ("new_topic", false) => "the topic is new",
            ("new_topic", true) => "the topic would be new",
            ("new_version", false) => "it is the current version now",
            ("new_version", true) => "it would be the current version",
            ("returned", false) => "the earlier version is the current one again",
            ("returned", true) => "the earlier version would be the current one again",
            ("new_text", false) => "its text is new, its schema id is the same",
            ("new_text", true) => "its text would be new, its schema id is the same",
            (other, _) => other,
        };
        done.to_owned()
    }

    /// Who would break for this reason.
    fn breaks(&self, objection: &Objection) -> Option<String> {
        let is_meant = |affected: &&Affected| {
            let direction = objection.direction.as_ref();
            direction.is_some_and(|it| affected.directions.contains(it))
                && objection.schema_id.as_ref() == Some(&affected.schema_id)
        };
        let users: Vec<_> = self.affected.iter().filter(is_meant).collect();
        let is_publisher = objection.direction.as_deref() == Some("backward");
        let named = users.iter().take(USERS_SHOWN);
        let named = named.map(|user| user.text(is_publisher));
        let named: Vec<_> = named.collect();
        let more = match users.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!named.is_empty()).then(|| format!("    breaks: {}{more}", named.join(", ")))
    }
}

impl Record for Verdict {
    fn text(&self) -> String {
        let Self {
            file,
            topic,
            schema_id,
            version,
            ..
        } = self;
        if !self.refused {
            let deed = self.deed();
            return format!("{schema_id}  {topic}  version {version}  {file}: {deed}");
        }
        if topic.is_empty() {
            return format!("refused  {file}: it holds no schema of an event");
        }
        let level = &self.compatibility;
        format!("refused  {topic}  {file}: it would be version {version}; compatibility is {level}")
    }

    fn details(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for objection in &self.objections {
            let place = objection.line.map(|line| format!("line {line}: "));
            let (place, rule) = (place.unwrap_or_default(), &objection.rule);
            lines.push(format!("  {place}{} [{rule}]", objection.message));
            lines.push(format!("    fix: {}", objection.fix));
            lines.extend(self.breaks(objection));
        }
        if self.objections_more > 0 {
            lines.push(format!("  and {} more", self.objections_more));
        }
        lines
    }
}

impl From<admin::Objection> for Objection {
    fn from(objection: admin::Objection) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let counted = |count: u32| Some(count).filter(|count| *count > 0);
        Self {
            path: objection.path,
            line: counted(objection.line),
            rule: objection.rule,
            message: objection.message,
            fix: objection.fix,
            direction: given(objection.direction),
            schema_id: given(objection.schema_id),
            version: counted(objection.version),
        }
    }
}

impl From<Finding> for Objection {
    fn from(finding: Finding) -> Self {
        Self {
            message: finding.to_string(),
            path: finding.path,
            line: finding.line.and_then(|line| u32::try_from(line).ok()),
            rule: finding.rule.to_owned(),
            fix: finding.fix,
            direction: None,
            schema_id: None,
            version: None,
        }
    }
}

impl Affected {
    /// Who it is, and when it last did what would break: it published, or it read.
    pub(super) fn text(&self, is_publisher: bool) -> String {
        let deeds = match is_publisher {
            true => vec![("published", &self.published_at)],
            false => vec![
                ("got events", &self.delivered_at),
                ("asked for it", &self.asked_at),
            ],
        };
        let deeds = deeds
            .into_iter()
            .filter_map(|(deed, at)| Some((deed, at.as_ref()?)));
        let last = deeds.max_by_key(|(_, at)| *at);
        let last = last.map_or_else(String::new, |(deed, at)| format!(" ({deed} {at})"));
        format!("{} {}{last}", self.kind, self.name)
    }
}

impl From<AffectedUser> for Affected {
    fn from(user: AffectedUser) -> Self {
        let at = |millis: i64| (millis > 0).then(|| time(millis));
        Self {
            kind: user.kind,
            name: user.name,
            schema_id: user.schema_id,
            directions: user.directions,
            asked_at: at(user.asked_at_ms),
            published_at: at(user.published_at_ms),
            delivered_at: at(user.delivered_at_ms),
        }
    }
}
