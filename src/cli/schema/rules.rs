//! `tidegate schema set-compatibility`: what new versions are held to.

use serde::Serialize;

use super::super::{
    connection::ConnectionArgs,
    exit::Failure,
    output::{Output, OutputArgs, Record},
};
use crate::{
    proto::admin::{DescribeSchemaRulesRequest, SchemaCheck, SchemaRules, SetSchemaRulesRequest},
    schema::{compatibility::Level, platform::Check},
    types::TopicName,
};

/// The word for a rule that is not set here.
const INHERITED: &str = "inherited";

/// Arguments of `tidegate schema set-compatibility`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Levels, each held against the current version, or with _transitive against every one not retired:
  none       anything goes
  backward   readers with the new version read events of the earlier one; the default
  forward    readers with the earlier version read events of the new one
  full       both

Checks, all of them on by default:
  leading-fields   CreatedDate and CreatedById lead a platform event, its header a change event
  nullable-fields  every other field is a union of null, first, and its type, with null as default
  logical-types    there are no logical types
  namespace        the record's namespace is com.sforce.eventbus

`inherited` takes a rule back: a topic's is the tenant's then, and the tenant's is the gateway's. What
is registered stays, whatever is set. Without a level and checks it is shown what holds.

Examples:
  tidegate schema set-compatibility /event/OrderCreated__e full_transitive
  tidegate schema set-compatibility --default backward --check nullable-fields=off")]
pub(super) struct Args {
    /// The topic, such as /event/OrderCreated__e
    #[arg(required_unless_present = "default", conflicts_with = "default")]
    topic: Option<TopicName>,
    /// The level, or `inherited`
    #[arg(value_name = "LEVEL", value_parser = parse_level)]
    level: Option<String>,
    /// Set what holds for all topics that set nothing themselves
    #[arg(long, value_name = "LEVEL", value_parser = parse_level, num_args = 0..=1, default_missing_value = "")]
    default: Option<String>,
    /// Switch a check: NAME=on, NAME=off or NAME=inherited
    #[arg(long, value_name = "NAME=STATE", value_parser = parse_check)]
    check: Vec<SchemaCheck>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn parse_level(text: &str) -> Result<String, String> {
    if text == INHERITED || text.is_empty() {
        return Ok(text.to_owned());
    }
    let level = text.parse::<Level>().map(|level| level.to_string());
    level.map_err(|error| format!("{error}, or {INHERITED}"))
}

fn parse_check(text: &str) -> Result<SchemaCheck, String> {
    let (name, state) = text
        .split_once('=')
        .ok_or("wanted the name of a check and its state, such as nullable-fields=off")?;
    let check: Check = name.parse().map_err(|error| format!("{error}"))?;
    if !["on", "off", INHERITED].contains(&state) {
        return Err(format!(
            "the check {check} is set to on, off or {INHERITED}"
        ));
    }
    Ok(SchemaCheck {
        name: check.to_string(),
        state: state.to_owned(),
        set_by: String::new(),
    })
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let mut admin = connection.admin();
    let topic_name = args
        .topic
        .as_ref()
        .map_or_else(String::new, TopicName::to_string);
    let compatibility = args.level.or(args.default).unwrap_or_default();
    let rules = if compatibility.is_empty() && args.check.is_empty() {
        let request = DescribeSchemaRulesRequest { topic_name };
        admin.describe_schema_rules(request).await?
    } else {
        let request = SetSchemaRulesRequest {
            topic_name,
            compatibility,
            checks: args.check,
        };
        admin.set_schema_rules(request).await?
    };
    let mut output = Output::stdout(args.output);
    output.record(&RulesRow::from(rules.into_inner()));
    output.flush().await
}

/// What new versions are held to. The fields are the keys in JSON.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct RulesRow {
    compatibility: String,
    /// `topic`, `tenant` or `gateway`.
    compatibility_set_by: String,
    checks: Vec<CheckRow>,
    #[serde(skip)]
    topic: String,
}

/// One check. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct CheckRow {
    name: String,
    on: bool,
    set_by: String,
}

impl RulesRow {
    /// The level, and where it is set.
    pub(in crate::cli) fn compatibility_text(&self) -> String {
        format!(
            "{} (set by the {})",
            self.compatibility, self.compatibility_set_by
        )
    }

    /// The checks that are on.
    pub(in crate::cli) fn checks_text(&self) -> String {
        let on = self.checks.iter().filter(|check| check.on);
        let on: Vec<_> = on.map(|check| check.name.as_str()).collect();
        match on.is_empty() {
            true => "none".to_owned(),
            false => on.join(", "),
        }
    }
}

impl Record for RulesRow {
    fn text(&self) -> String {
        let whose = match self.topic.as_str() {
            "" => "default",
            topic => topic,
        };
        format!("{whose}: compatibility {}", self.compatibility_text())
    }

    fn details(&self) -> Vec<String> {
        let checks = self.checks.iter().map(|check| {
            let state = if check.on { "on" } else { "off" };
            format!("  {:16} {state} (set by the {})", check.name, check.set_by)
        });
        checks.collect()
    }
}

impl From<SchemaRules> for RulesRow {
    fn from(rules: SchemaRules) -> Self {
        let checks = rules.checks.into_iter().map(|check| CheckRow {
            on: check.state == "on",
            name: check.name,
            set_by: check.set_by,
        });
        Self {
            compatibility: rules.compatibility,
            compatibility_set_by: rules.compatibility_set_by,
            checks: checks.collect(),
            topic: rules.topic_name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_named_with_its_state() {
        let check = parse_check("nullable-fields=off").unwrap();
        assert_eq!(
            (check.name.as_str(), check.state.as_str()),
            ("nullable-fields", "off")
        );
        for wrong in [
            "nullable-fields",
            "nullable-fields=maybe",
            "spelling=on",
            "=on",
        ] {
            assert!(parse_check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_level_is_one_of_the_seven_or_inherited() {
        for good in ["none", "full_transitive", "inherited"] {
            assert_eq!(parse_level(good).unwrap(), good);
        }
        let refusal = parse_level("sideways").unwrap_err();
        assert!(refusal.contains("backward_transitive"), "{refusal}");
    }
}
