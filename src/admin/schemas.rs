//! Schemas: listed and checked for whoever may use their topics; registered, retired and ruled by
//! administrators.

use super::Admin;
use crate::{
    broker::{self, Affected, Judged, NewSchema, TopicDescription},
    clock::Timestamp,
    grpc::{
        Call,
        status::{RpcError, kinds},
    },
    proto::admin::{
        self, AffectedUser, DescribeSchemaRequest, DescribeSchemaRulesRequest, ListSchemasRequest,
        ListSchemasResponse, RefusedSchemaFile, RegisterSchemaRequest, RetireSchemaRequest,
        RetireSchemaResponse, SchemaCheck, SchemaRules, SchemaVerdict, SchemaVersion,
        SetSchemaRulesRequest,
    },
    schema::{
        compatibility::Direction,
        platform::Check,
        registry::{EventType, Objection, RuleChange, RuleSettings, Setting},
        watch::RefusedFile,
    },
    types::Principal,
};

/// The word for a rule that is not set in a place.
const INHERITED: &str = "inherited";

impl Admin {
    pub(super) async fn schemas(
        &self,
        call: &Call,
        request: ListSchemasRequest,
    ) -> Result<ListSchemasResponse, RpcError> {
        let principal = self.authenticate(call).await?;
        let topics = if request.topic_name.is_empty() {
            self.broker.topics(&principal).await?
        } else {
            vec![self.broker.topic(&principal, &request.topic_name).await?]
        };
        // Paths say something of the machine.
        let refused = match principal.grants.admin && request.topic_name.is_empty() {
            true => self.schema_files.refused(principal.tenant),
            false => Vec::new(),
        };
        Ok(ListSchemasResponse {
            schemas: topics
                .iter()
                .flat_map(version_messages)
                .map(|version| seen_by(&principal, version))
                .collect(),
            refused_files: refused.into_iter().map(refused_message).collect(),
        })
    }

    pub(super) async fn register(
        &self,
        call: &Call,
        request: RegisterSchemaRequest,
    ) -> Result<SchemaVerdict, RpcError> {
        let principal = self.administrator(call).await?;
        let judged = self
            .broker
            .register_schema(&principal, new_schema(&request, false));
        Ok(verdict_message(judged.await?))
    }

    pub(super) async fn check(
        &self,
        call: &Call,
        request: RegisterSchemaRequest,
    ) -> Result<SchemaVerdict, RpcError> {
        let principal = self.authenticate(call).await?;
        let judged = self
            .broker
            .register_schema(&principal, new_schema(&request, true));
        Ok(verdict_message(judged.await?))
    }

    pub(super) async fn retire(
        &self,
        call: &Call,
        request: RetireSchemaRequest,
    ) -> Result<RetireSchemaResponse, RpcError> {
        let principal = self.administrator(call).await?;
        let (id, check_only) = (&request.schema_id, request.check_only);
        let retired = self
            .broker
            .retire_schema(&principal, id, check_only)
            .await?;
        let publishers = retired.publishers.into_iter();
        Ok(RetireSchemaResponse {
            version: Some(version_message(&retired.event_type, retired.number)),
            publishers: publishers.map(affected_message).collect(),
        })
    }

    pub(super) async fn version(
        &self,
        call: &Call,
        request: DescribeSchemaRequest,
    ) -> Result<SchemaVersion, RpcError> {
        let principal = self.authenticate(call).await?;
        let found = self.broker.schema_version(&principal, &request.schema_id);
        let (event_type, number) = found.await?;
        let text = event_type.versions()[number - 1].schema.text();
        let version = SchemaVersion {
            schema_json: text.to_owned(),
            ..version_message(&event_type, number)
        };
        Ok(seen_by(&principal, version))
    }

    pub(super) async fn rules(
        &self,
        call: &Call,
        request: DescribeSchemaRulesRequest,
    ) -> Result<SchemaRules, RpcError> {
        let principal = self.authenticate(call).await?;
        if !request.topic_name.is_empty() && !principal.grants.admin {
            // Whoever may not use a topic is not told what it is held to.
            self.broker.topic(&principal, &request.topic_name).await?;
        }
        let rules = self.broker.schema_rules(&principal, &request.topic_name);
        Ok(rules_message(&rules.await?, &request.topic_name))
    }

    pub(super) async fn set_rules(
        &self,
        call: &Call,
        request: SetSchemaRulesRequest,
    ) -> Result<SchemaRules, RpcError> {
        let principal = self.administrator(call).await?;
        let change = rule_change(&request)?;
        let topic = &request.topic_name;
        let rules = self.broker.set_schema_rules(&principal, topic, &change);
        let rules = rules.await?;
        // A file that was refused may be taken now.
        self.schema_files.look_again(principal.tenant);
        Ok(rules_message(&rules, topic))
    }
}

fn new_schema(request: &RegisterSchemaRequest, is_rehearsal: bool) -> NewSchema<'_> {
    NewSchema {
        text: &request.schema_json,
        topic: &request.topic_name,
        expected: &request.expected_schema_id,
        is_new_topic: request.new_topic,
        is_rehearsal,
    }
}

fn rule_change(request: &SetSchemaRulesRequest) -> Result<RuleChange, RpcError> {
    let refused = |reason: String| kinds::ADMIN_REQUEST_INVALID.error(reason);
    let level = match request.compatibility.as_str() {
        "" => None,
        INHERITED => Some(Setting::Inherited),
        level => {
            let level = level.parse();
            let level = level.map_err(|error: crate::schema::compatibility::LevelError| {
                refused(format!("{error}, or {INHERITED}"))
            })?;
            Some(Setting::Set(level))
        }
    };
    let mut checks: Vec<(Check, Setting<bool>)> = Vec::new();
    for asked in &request.checks {
        let check: Check = asked
            .name
            .parse()
            .map_err(|error| refused(format!("{error}")))?;
        let state = match asked.state.as_str() {
            "on" => Setting::Set(true),
            "off" => Setting::Set(false),
            INHERITED => Setting::Inherited,
            _ => {
                let reason = format!("the check {check} is set to on, off or {INHERITED}");
                return Err(refused(reason));
            }
        };
        if checks.iter().any(|(set, _)| *set == check) {
            return Err(refused(format!("the check {check} is set twice")));
        }
        checks.push((check, state));
    }
    Ok(RuleChange { level, checks })
}

fn verdict_message(judged: Judged) -> SchemaVerdict {
    let Judged {
        verdict,
        affected,
        affected_more,
    } = judged;
    let objections = verdict.objections.iter();
    SchemaVerdict {
        topic_name: verdict.topic.to_string(),
        schema_id: verdict.schema_id.to_string(),
        version: count(verdict.number),
        registration: verdict.registration.as_str().to_owned(),
        refused: verdict.is_refused(),
        objections: objections.map(objection_message).collect(),
        objections_more: count(verdict.more),
        affected: affected.into_iter().map(affected_message).collect(),
        affected_more: count(affected_more),
        compatibility: verdict.rules.level.to_string(),
        current_schema_id: verdict
            .current
            .map_or_else(String::new, |id| id.to_string()),
    }
}

fn objection_message(objection: &Objection) -> admin::Objection {
    let common = admin::Objection {
        rule: objection.rule().to_owned(),
        path: objection.path().to_owned(),
        message: objection.to_string(),
        fix: objection.fix(),
        ..admin::Objection::default()
    };
    match objection {
        Objection::Finding(finding) => admin::Objection {
            line: finding.line.map_or(0, count),
            ..common
        },
        Objection::Incompatible {
            violation,
            with,
            number,
        } => admin::Objection {
            direction: direction_word(violation.direction).to_owned(),
            schema_id: with.to_string(),
            version: count(*number),
            ..common
        },
    }
}

fn affected_message(affected: Affected) -> AffectedUser {
    let directions = affected.directions.into_iter();
    let millis = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millis);
    AffectedUser {
        kind: affected.user.kind.as_str().to_owned(),
        name: affected.user.name.to_string(),
        schema_id: affected.schema_id.to_string(),
        directions: directions.map(|it| direction_word(it).to_owned()).collect(),
        asked_at_ms: millis(affected.used.asked),
        published_at_ms: millis(affected.used.published),
        delivered_at_ms: millis(affected.used.delivered),
    }
}

fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Backward => "backward",
        Direction::Forward => "forward",
    }
}

/// What holds, and where each rule is set.
pub(super) fn rules_message(rules: &broker::SchemaRules, topic: &str) -> SchemaRules {
    let set_by = |is_set: &dyn Fn(&RuleSettings) -> bool| {
        let place = match (is_set(&rules.topic), is_set(&rules.defaults)) {
            (true, _) => "topic",
            (false, true) => "tenant",
            (false, false) => "gateway",
        };
        place.to_owned()
    };
    let checks = Check::ALL.map(|check| SchemaCheck {
        name: check.to_string(),
        state: match rules.rules.checks.is_on(check) {
            true => "on".to_owned(),
            false => "off".to_owned(),
        },
        set_by: set_by(&|settings| settings.check(check).is_some()),
    });
    SchemaRules {
        topic_name: topic.to_owned(),
        compatibility: rules.rules.level.to_string(),
        compatibility_set_by: set_by(&|settings| settings.level().is_some()),
        checks: checks.into(),
    }
}

fn version_messages(topic: &TopicDescription) -> impl Iterator<Item = SchemaVersion> {
    let event_type = &topic.event_type;
    let numbers = 1..=event_type.versions().len();
    numbers.map(|number| version_message(event_type, number))
}

/// A version as a caller sees it: who else is out there is told to administrators alone.
fn seen_by(principal: &Principal, version: SchemaVersion) -> SchemaVersion {
    match principal.grants.admin {
        true => version,
        false => SchemaVersion {
            registered_by: String::new(),
            retired_by: String::new(),
            ..version
        },
    }
}

/// The version of an event type with this number, which it has.
fn version_message(event_type: &EventType, number: usize) -> SchemaVersion {
    let version = &event_type.versions()[number - 1];
    let retired = version.retired.as_ref();
    SchemaVersion {
        topic_name: event_type.topic().to_string(),
        schema_id: version.schema.id().to_string(),
        version: count(number),
        current: version.schema.id() == event_type.current().id(),
        registered_at_ms: version.registered_at.as_millis(),
        registered_by: version.registered_by.clone(),
        retired_at_ms: retired.map_or(0, |retired| retired.at.as_millis()),
        retired_by: retired.map_or_else(String::new, |retired| retired.by.clone()),
        schema_json: String::new(),
    }
}

fn refused_message(refused: RefusedFile) -> RefusedSchemaFile {
    RefusedSchemaFile {
        path: refused.path.display().to_string(),
        reasons: refused.reasons,
        refused_at_ms: refused.at.as_millis(),
    }
}

/// Counts here are bounded far below this.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
