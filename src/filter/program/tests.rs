use proptest::prelude::*;

use super::*;
use crate::schema::{Fill, value::Value};

const SHIPMENT_CHANGE: &str = include_str!("../../../schemas/Shipment__ChangeEvent.avsc");

const ORDER: &str = r#"{"type":"record","name":"Order__e","namespace":"com.sforce.eventbus","fields":[
 {"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},
 {"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"},
 {"name":"Status__c","type":["null","string"],"doc":"Data:Text:00NXX0000000001","default":null},
 {"name":"Amount__c","type":["null","double"],"doc":"Data:Double:00NXX0000000002","default":null},
 {"name":"Paid__c","type":["null","boolean"],"doc":"Data:Boolean:00NXX0000000003","default":null},
 {"name":"Due__c","type":["null","long"],"doc":"Data:DateOnly:00NXX0000000004","default":null},
 {"name":"Opens__c","type":["null","long"],"doc":"Data:TimeOnly:00NXX0000000005","default":null},
 {"name":"Count__c","type":["null","long"],"default":null},
 {"name":"Ratio__c","type":["null","float"],"default":null},
 {"name":"Code__c","type":["null","string"],"caseSensitive":true,"default":null},
 {"name":"Raw__c","type":["null","bytes"],"default":null},
 {"name":"Tags__c","type":{"type":"array","items":"string"},"default":[]},
 {"name":"Mixed__c","type":["null","long","string"],"default":null},
 {"name":"Place__c","type":["null",{"type":"record","name":"Place","fields":[
   {"name":"City","type":["null","string"],"default":null},
   {"name":"Latitude","type":["null","double"],"default":null}]}],"default":null},
 {"name":"Last__c","type":["null","string"],"default":null}]}"#;

fn schema(text: &str) -> Schema {
    Schema::parse(text).unwrap()
}

fn payload(schema: &Schema, json: serde_json::Value) -> Vec<u8> {
    schema
        .encode_json(
            &json,
            &Fill {
                created_date_ms: 0,
                created_by_id: Fill::NOBODY,
            },
        )
        .unwrap()
}

/// An order with these fields besides those that every one has.
fn order_with(fields: serde_json::Value) -> serde_json::Value {
    let mut json = serde_json::json!({"CreatedDate": 1_700_000_000_000_i64, "CreatedById": "005"});
    let all = json.as_object_mut().unwrap();
    all.extend(fields.as_object().unwrap().clone());
    json
}

fn says(expression: &str, fields: serde_json::Value) -> Option<bool> {
    let schema = schema(ORDER);
    let filter: Filter = expression.parse().unwrap();
    check(&filter, &schema).unwrap();
    let program = FilterProgram::compile(&filter, &schema);
    let payload = payload(&schema, order_with(fields));
    let mut picked = [Picked::Null; FILTER_FIELDS_MAX];
    program.picker.pick(&payload, &mut picked).unwrap();
    let value = program.root.eval(&picked);
    assert_eq!(program.matches(&payload), Ok(value == Some(true)));
    value
}

#[test]
fn conditions_are_true_false_or_neither() {
    let order = serde_json::json!({
        "Status__c": "New", "Amount__c": 10.5, "Paid__c": true,
        "Due__c": 1_769_817_600_000_i64, "Opens__c": 30_600_000, "Count__c": 9_007_199_254_740_993_i64,
        "Ratio__c": 0.1, "Code__c": "aB", "Place__c": {"City": "Köln", "Latitude": 50.9},
    });
    let (yes, no, neither) = (Some(true), Some(false), None);
    for (expression, wanted) in [
        ("Status__c = 'new'", yes),
        ("status__C = 'NEW'", yes),
        ("Status__c != 'new'", no),
        ("Status__c <> 'old'", yes),
        ("Status__c < 'nex'", yes),
        ("Status__c >= 'NEW'", yes),
        ("Status__c > 'NEW'", no),
        ("Status__c LIKE 'n_w'", yes),
        ("Status__c LIKE 'n%'", yes),
        ("NOT Status__c LIKE 'n%'", no),
        ("Status__c IN ('paid', 'NEW')", yes),
        ("Status__c NOT IN ('paid', 'NEW')", no),
        ("Status__c NOT IN ('paid')", yes),
        ("Status__c IN (null)", no),
        ("Code__c = 'aB'", yes),
        ("Code__c = 'ab'", no),
        ("Code__c LIKE 'A%'", no),
        ("Amount__c = 10.5", yes),
        ("Amount__c > 10", yes),
        ("Amount__c <= 10", no),
        ("Amount__c IN (1, 10.5)", yes),
        ("Ratio__c = 0.1", yes),
        ("Ratio__c IN (0.2, 0.1, 0.3)", yes),
        ("Count__c = 9007199254740993.0", yes),
        ("Count__c = 9007199254740992.0", no),
        ("Count__c IN (9007199254740992.0, 9007199254740993.0)", yes),
        ("Count__c > 1.5", yes),
        ("Count__c > 2026-01-01", yes),
        ("Paid__c = true", yes),
        ("Paid__c != null", yes),
        ("Paid__c IN (false, null)", no),
        ("CreatedDate = 2023-11-14T22:13:20Z", yes),
        ("CreatedDate = 2023-11-14T23:13:20+01:00", yes),
        ("CreatedDate < 2023-11-14T23:13:20+01:00", no),
        ("Due__c = 2026-01-31", yes),
        ("Due__c > 2026-01-30", yes),
        ("Opens__c = 08:30:00Z", yes),
        ("Opens__c < 08:30:01Z", yes),
        ("Place__c.City = 'KÖLN'", yes),
        ("place__c.latitude > 50", yes),
        ("Last__c = null", yes),
        ("Last__c != null", no),
        ("Last__c = 'x'", neither),
        ("Last__c != 'x'", neither),
        ("Last__c LIKE '%'", neither),
        ("Last__c IN ('x')", neither),
        ("Last__c NOT IN ('x')", neither),
        ("Last__c IN ('x', null)", yes),
        ("NOT Last__c = 'x'", neither),
        ("Last__c = 'x' OR Paid__c = true", yes),
        ("Last__c = 'x' OR Paid__c = false", neither),
        ("Last__c = 'x' AND Paid__c = false", no),
        ("Last__c = 'x' AND Paid__c = true", neither),
        ("NOT (Last__c = 'x' AND Paid__c = false)", yes),
        ("Mixed__c = null", yes),
        ("Mixed__c = 1", neither),
    ] {
        assert_eq!(says(expression, order.clone()), wanted, "{expression}");
    }
}

#[test]
fn a_boolean_that_is_null_is_false() {
    for (expression, wanted) in [
        ("Paid__c = false", Some(true)),
        ("Paid__c != false", Some(false)),
        ("Paid__c = true", Some(false)),
        ("Paid__c = null", Some(true)),
        ("Paid__c != null", Some(false)),
        ("Paid__c IN (true, null)", Some(true)),
    ] {
        assert_eq!(
            says(expression, serde_json::json!({})),
            wanted,
            "{expression}"
        );
    }
}

#[test]
fn a_union_of_several_types_is_compared_as_what_stands_there() {
    let text = serde_json::json!({"Mixed__c": {"string": "x"}});
    let number = serde_json::json!({"Mixed__c": {"long": 7}});
    assert_eq!(says("Mixed__c = 'x'", text.clone()), Some(true));
    assert_eq!(says("Mixed__c = 7", text.clone()), None);
    assert_eq!(says("Mixed__c IN (7, 'x')", text), Some(true));
    assert_eq!(says("Mixed__c IN (7, 'x')", number), Some(true));
}

#[test]
fn a_field_that_another_version_does_not_have_is_null_or_false() {
    let old = schema(
        r#"{"type":"record","name":"Order__e","fields":[
            {"name":"Amount__c","type":["null","string"],"default":null}]}"#,
    );
    let payload = payload(&old, serde_json::json!({"Amount__c": "12"}));
    for (expression, wanted) in [
        ("Status__c = 'new'", false),
        ("Status__c = null", true),
        ("Status__c != null", false),
        ("Status__c NOT IN ('new')", false),
        ("Status__c IN ('new', null)", true),
        ("Paid__c = false", true),
        ("Paid__c = true", false),
        ("Paid__c != true", true),
        ("NOT Paid__c = true", true),
        ("Place__c.City = null", true),
        // It is a text there, and no number.
        ("Amount__c = 12", false),
        ("Amount__c != 12", false),
        ("Amount__c = null", false),
    ] {
        let filter: Filter = expression.parse().unwrap();
        let program = FilterProgram::compile(&filter, &old);
        assert_eq!(program.matches(&payload), Ok(wanted), "{expression}");
    }
}

fn refusal(expression: &str, schema: &Schema) -> String {
    let filter: Filter = expression.parse().unwrap();
    check(&filter, schema).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_the_schema_is_refused_where_it_stands() {
    let order = schema(ORDER);
    for (expression, wanted) in [
        (
            "Amount__c = 1 AND Foo__c = 1",
            "at character 19: Order__e has no field Foo__c",
        ),
        (
            "Account__r.Name = 'x'",
            "at character 1: Order__e has no field Account__r",
        ),
        (
            "Place__c.Street = 'x'",
            "at character 1: the field Place__c has no part Street",
        ),
        (
            "Status__c.City = 'x'",
            "at character 1: the field Status__c has no part City",
        ),
        (
            "Place__c = 'x'",
            "at character 1: the field Place__c is null or record com.sforce.eventbus.Place; compared \
             are text, numbers, times and booleans, and parts of records by their names behind a dot",
        ),
        (
            "Tags__c = 'x'",
            "at character 1: the field Tags__c is array of string; compared are text, numbers, times \
             and booleans, and parts of records by their names behind a dot",
        ),
        (
            "Amount__c = '1'",
            "at character 13: the field Amount__c is null or double and compared with a number, \
             found a text",
        ),
        (
            "Status__c IN ('a', 1)",
            "at character 20: the field Status__c is null or string and compared with a text in \
             single quotes, found a number",
        ),
        (
            "Paid__c = 'true'",
            "at character 11: the field Paid__c is null or boolean and compared with true, false or \
             null, found a text",
        ),
        (
            "Amount__c = true",
            "at character 13: the field Amount__c is null or double and compared with a number, \
             found true or false",
        ),
        (
            "Amount__c LIKE '1%'",
            "at character 16: the field Amount__c is null or double and compared with a number, \
             found a pattern",
        ),
        (
            "CreatedDate > 2026-01-31",
            "at character 15: the field CreatedDate is long and compared with a date and time, as in \
             2026-01-31T08:30:00Z, found a date",
        ),
        (
            "Due__c > 5",
            "at character 10: the field Due__c is null or long and compared with a date, as in \
             2026-01-31, found a number",
        ),
        (
            "Opens__c > 2026-01-31",
            "at character 12: the field Opens__c is null or long and compared with a time of day, as \
             in 08:30:00Z, found a date",
        ),
    ] {
        assert_eq!(refusal(expression, &order), wanted, "{expression}");
    }
}

#[test]
fn change_events_have_their_header_their_compound_fields_and_no_lists() {
    let change = schema(SHIPMENT_CHANGE);
    for expression in [
        "ChangeEventHeader.changeType = 'UPDATE'",
        "changeeventheader.COMMITUSER = '005' AND Dest__c.Latitude > 1.5",
        "ChangeEventHeader.commitTimestamp > 2026-01-31T08:30:00Z",
        "ChangeEventHeader.commitNumber > 10585193272713.0",
        "ChangeEventHeader.sequenceNumber = 1",
    ] {
        let filter: Filter = expression.parse().unwrap();
        assert_eq!(check(&filter, &change), Ok(()), "{expression}");
    }
    for field in ["recordIds", "nulledFields", "diffFields", "changedFields"] {
        let refusal = refusal(&format!("ChangeEventHeader.{field} = 'x'"), &change);
        assert!(refusal.contains("is array of string"), "{refusal}");
    }
    assert_eq!(
        refusal("Name = 'a' OR Name IN ('b')", &change),
        "at character 15: IN is not for change events; write = with OR, or != with AND, between the \
         values"
    );
    assert!(refusal("Name NOT IN ('b')", &change).contains("NOT IN is not for change events"));
}

#[test]
fn a_payload_is_read_up_to_the_last_field_needed_and_no_further() {
    let schema = schema(ORDER);
    let whole = payload(
        &schema,
        order_with(serde_json::json!({"Status__c": "new", "Last__c": "long".repeat(10)})),
    );
    let filter: Filter = "Status__c = 'new'".parse().unwrap();
    let program = FilterProgram::compile(&filter, &schema);
    let needed = (0..whole.len())
        .find(|&len| program.matches(&whole[..len]).is_ok())
        .unwrap();
    assert!(needed < whole.len() / 2, "{needed} of {}", whole.len());
    assert_eq!(program.matches(&whole[..needed]), Ok(true));
    let error = program.matches(&whole[..needed - 1]).unwrap_err();
    assert!(error.to_string().contains("Status__c"), "{error}");
}

/// What an expression says of a decoded event: plainly, in one's own words.
fn plainly(expression: &Expression, event: &Value) -> Option<bool> {
    match expression {
        Expression::Not(inner) => plainly(inner, event).map(|value| !value),
        Expression::And(parts) => {
            let values: Vec<_> = parts.iter().map(|part| plainly(part, event)).collect();
            match values.contains(&Some(false)) {
                true => Some(false),
                false => (!values.contains(&None)).then_some(true),
            }
        }
        Expression::Or(parts) => {
            let values: Vec<_> = parts.iter().map(|part| plainly(part, event)).collect();
            match values.contains(&Some(true)) {
                true => Some(true),
                false => (!values.contains(&None)).then_some(false),
            }
        }
        Expression::Condition(Condition { field, test }) => {
            let mut value = field_of(event, &field.name);
            if let Some(part) = &field.part {
                value = value.and_then(|value| field_of(value, part));
            }
            let value = value.filter(|value| !value.is_null());
            let is_boolean = field.name.eq_ignore_ascii_case("Paid__c");
            match test {
                Test::Compare(comparison, literal) => {
                    compared(value, *comparison, &literal.value, is_boolean)
                }
                Test::Like(pattern) => {
                    let text = value?.as_str()?.to_lowercase();
                    let pattern: Vec<&super::super::PatternPart> = pattern.parts.iter().collect();
                    Some(is_like(&pattern, &text))
                }
                Test::In { values, is_negated } => {
                    let each = values.iter();
                    let each: Vec<_> = each
                        .map(|literal| {
                            compared(value, Comparison::Equal, &literal.value, is_boolean)
                        })
                        .collect();
                    let any = match each.contains(&Some(true)) {
                        true => Some(true),
                        false => (!each.contains(&None)).then_some(false),
                    };
                    any.map(|any| any != *is_negated)
                }
            }
        }
    }
}

fn field_of<'v>(event: &'v Value, name: &str) -> Option<&'v Value> {
    let Value::Record(fields) = event else {
        return None;
    };
    let mut fields = fields.fields.iter();
    fields
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn compared(
    value: Option<&Value>,
    comparison: Comparison,
    literal: &LiteralValue,
    is_boolean: bool,
) -> Option<bool> {
    let is_equal = comparison == Comparison::Equal;
    if is_boolean {
        let found = value.is_some_and(|value| value.as_bool() == Some(true));
        let wanted = matches!(literal, LiteralValue::Boolean(true));
        return Some((found == wanted) == is_equal);
    }
    let value = match (value, literal) {
        (value, LiteralValue::Null) => return Some(value.is_none() == is_equal),
        (value, _) => value?,
    };
    let ordering = match literal {
        LiteralValue::Text(text) => value.as_str()?.to_lowercase().cmp(&text.to_lowercase()),
        LiteralValue::Number(number) => match value {
            Value::Double(found) => found.partial_cmp(&number.nearest)?,
            value => value.as_i64()?.cmp(&number.whole?),
        },
        LiteralValue::Date(days) => value.as_i64()?.cmp(&(i64::from(*days) * 86_400_000)),
        _ => return None,
    };
    Some(match comparison {
        Comparison::Equal => ordering == Ordering::Equal,
        Comparison::NotEqual => ordering != Ordering::Equal,
        Comparison::Less => ordering == Ordering::Less,
        Comparison::LessOrEqual => ordering != Ordering::Greater,
        Comparison::Greater => ordering == Ordering::Greater,
        Comparison::GreaterOrEqual => ordering != Ordering::Less,
    })
}

fn is_like(pattern: &[&super::super::PatternPart], text: &str) -> bool {
    use super::super::PatternPart;
    let Some((part, pattern)) = pattern.split_first() else {
        return text.is_empty();
    };
    match part {
        PatternPart::Text(start) => text
            .strip_prefix(start.to_lowercase().as_str())
            .is_some_and(|rest| is_like(pattern, rest)),
        PatternPart::AnyOne => {
            let mut rest = text.chars();
            rest.next().is_some() && is_like(pattern, rest.as_str())
        }
        PatternPart::AnyRun => {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| is_like(pattern, &text[at..]))
        }
    }
}

fn condition() -> impl Strategy<Value = String> {
    let comparison = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let equality = prop::sample::select(vec!["=", "!="]);
    let text = "[abÄä]{0,2}".prop_map(|text| format!("'{text}'"));
    let text_or_null = prop_oneof![4 => text.clone(), 1 => Just("null".to_owned())];
    let number = prop::sample::select(vec!["-1", "0", "0.5", "1", "2"]);
    let boolean = prop::sample::select(vec!["true", "false", "null"]);
    let texts = prop::sample::select(vec!["Status__c", "last__c", "Place__c.city"]);
    let numbers = prop::sample::select(vec!["Amount__c", "Place__c.Latitude"]);
    let day = prop::sample::select(vec!["1970-01-01", "1970-01-02", "1969-12-31"]);
    let whole = prop::sample::select(vec!["-1", "0", "1"]);
    let list = prop::collection::vec(text_or_null, 1..4).prop_map(|list| list.join(", "));
    prop_oneof![
        (texts.clone(), comparison.clone(), text)
            .prop_map(|(field, comparison, text)| format!("{field} {comparison} {text}")),
        (texts.clone(), equality.clone())
            .prop_map(|(field, equal)| format!("{field} {equal} null")),
        (texts.clone(), "[ab%_Ä]{0,4}").prop_map(|(field, like)| format!("{field} LIKE '{like}'")),
        (texts, any::<bool>(), list).prop_map(|(field, is_not, list)| {
            format!("{field} {} ({list})", if is_not { "NOT IN" } else { "IN" })
        }),
        (numbers, comparison.clone(), number)
            .prop_map(|(field, comparison, number)| format!("{field} {comparison} {number}")),
        (equality, boolean).prop_map(|(equal, boolean)| format!("PAID__C {equal} {boolean}")),
        (comparison.clone(), day)
            .prop_map(|(comparison, day)| format!("Due__c {comparison} {day}")),
        (comparison, whole)
            .prop_map(|(comparison, whole)| format!("Count__c {comparison} {whole}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    condition().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("NOT ({inner})")),
            (prop::collection::vec(inner.clone(), 2..4))
                .prop_map(|parts| format!("({})", parts.join(" AND "))),
            (prop::collection::vec(inner, 2..4))
                .prop_map(|parts| format!("({})", parts.join(" OR "))),
        ]
    })
}

fn event() -> impl Strategy<Value = serde_json::Value> {
    let text = || prop::option::of("[aAbÄä]{0,3}");
    let number = || prop::option::of(prop::sample::select(vec![-1.0, 0.0, 0.5, 1.0, 2.5]));
    let place = prop::option::of(
        (text(), number())
            .prop_map(|(city, latitude)| serde_json::json!({"City": city, "Latitude": latitude})),
    );
    let day = prop::option::of((-1i64..2).prop_map(|day| day * 86_400_000));
    let fields = (text(), number(), prop::option::of(any::<bool>()), day);
    (fields, prop::option::of(-1i64..2), place, text()).prop_map(
        |((status, amount, paid, due), count, place, last)| {
            order_with(serde_json::json!({
                "Status__c": status, "Amount__c": amount, "Paid__c": paid, "Due__c": due,
                "Count__c": count, "Place__c": place, "Last__c": last, "Tags__c": ["x", "y"],
            }))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn programs_say_what_the_expression_plainly_says(text in expression(), json in event()) {
        let schema = schema(ORDER);
        let filter: Filter = text.parse().unwrap();
        prop_assert_eq!(check(&filter, &schema), Ok(()));
        let payload = payload(&schema, json);
        let event = schema.to_value(&payload).unwrap();
        let program = FilterProgram::compile(&filter, &schema);
        let matches = plainly(filter.root(), &event) == Some(true);
        prop_assert_eq!(program.matches(&payload), Ok(matches), "{}", text);
    }

    #[test]
    fn no_payload_makes_a_program_panic(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        text in expression(),
    ) {
        let filter: Filter = text.parse().unwrap();
        _ = FilterProgram::compile(&filter, &schema(ORDER)).matches(&payload);
    }
}
