use proptest::prelude::*;

use super::*;
use crate::types::limits::{FILTER_CHARS_MAX, FILTER_DEPTH_MAX, FILTER_FIELDS_MAX};

/// An expression with its parts in brackets, so that it is seen what binds what.
fn shown(expression: &Expression) -> String {
    let list = |parts: &[Expression], word: &str| {
        let parts: Vec<String> = parts.iter().map(shown).collect();
        format!("[{}]", parts.join(word))
    };
    match expression {
        Expression::Not(inner) => format!("[not {}]", shown(inner)),
        Expression::And(parts) => list(parts, " and "),
        Expression::Or(parts) => list(parts, " or "),
        Expression::Condition(condition) => {
            let FieldName { name, part, .. } = &condition.field;
            let part = part.iter().map(|part| format!(".{part}"));
            let field: String = std::iter::once(name.clone()).chain(part).collect();
            match &condition.test {
                Test::Compare(comparison, literal) => {
                    format!("{field} {} {:?}", comparison.as_str(), literal.value)
                }
                Test::Like(pattern) => format!("{field} like {:?}", pattern.parts),
                Test::In { values, is_negated } => {
                    let values: Vec<_> = values.iter().map(|literal| &literal.value).collect();
                    let not = if *is_negated { "not " } else { "" };
                    format!("{field} {not}in {values:?}")
                }
            }
        }
    }
}

fn read(text: &str) -> String {
    match text.parse::<Filter>() {
        Ok(filter) => shown(filter.root()),
        Err(error) => panic!("{text}: {error}"),
    }
}

fn error(text: &str) -> FilterError {
    match text.parse::<Filter>() {
        Ok(filter) => panic!("{text}: {}", shown(filter.root())),
        Err(error) => error,
    }
}

#[test]
fn not_binds_closest_then_and_then_or() {
    for (text, wanted) in [
        ("a = 1", "a = Number(1.0)"),
        ("(a = 1)", "a = Number(1.0)"),
        (
            "a=1 OR b=2 AND c=3",
            "[a = Number(1.0) or [b = Number(2.0) and c = Number(3.0)]]",
        ),
        (
            "(a=1 or b=2) and c=3",
            "[[a = Number(1.0) or b = Number(2.0)] and c = Number(3.0)]",
        ),
        (
            "NOT a=1 AND b=2",
            "[[not a = Number(1.0)] and b = Number(2.0)]",
        ),
        (
            "NOT (a=1 AND b=2)",
            "[not [a = Number(1.0) and b = Number(2.0)]]",
        ),
        ("not not a=1", "a = Number(1.0)"),
        (
            "a=1 AND b=2 AND c=3",
            "[a = Number(1.0) and b = Number(2.0) and c = Number(3.0)]",
        ),
    ] {
        assert_eq!(read(text), wanted, "{text}");
    }
}

#[test]
fn every_operator_and_every_kind_of_value_is_read() {
    for (text, wanted) in [
        ("A__c != 'x'", r#"A__c != Text("x")"#),
        ("A__c <> 'x'", r#"A__c != Text("x")"#),
        ("A__c<5", "A__c < Number(5.0)"),
        ("A__c<=-1.5", "A__c <= Number(-1.5)"),
        ("A__c > 2e3", "A__c > Number(2000.0)"),
        ("A__c >= 2147483648.0", "A__c >= Number(2147483648.0)"),
        ("A__c = 2147483647", "A__c = Number(2147483647.0)"),
        ("A__c = TRUE", "A__c = Boolean(true)"),
        ("A__c != false", "A__c != Boolean(false)"),
        ("A__c = Null", "A__c = Null"),
        ("A__c = 1970-01-02", "A__c = Date(1)"),
        ("A__c = 1969-12-31", "A__c = Date(-1)"),
        ("A__c > 1970-01-01T00:00:01Z", "A__c > DateTime(1000)"),
        (
            "A__c > 1970-01-01T01:00:01.5+01:00",
            "A__c > DateTime(1500)",
        ),
        ("A__c = 00:00:01Z", "A__c = Time(1000)"),
        ("A__c IN ('a', 2)", r#"A__c in [Text("a"), Number(2.0)]"#),
        ("A__c NOT IN (null)", "A__c not in [Null]"),
        (
            "BillingAddress.City = 'Bern'",
            r#"BillingAddress.City = Text("Bern")"#,
        ),
        (
            "ChangeEventHeader.changeType = 'CREATE'",
            r#"ChangeEventHeader.changeType = Text("CREATE")"#,
        ),
    ] {
        assert_eq!(read(text), wanted, "{text}");
    }
}

#[test]
fn escapes_are_resolved_and_take_the_meaning_out_of_patterns() {
    for (text, wanted) in [
        (r"a = 'it\'s'", r#"a = Text("it's")"#),
        (r"a = '\\\n\t\u00e9'", r#"a = Text("\\\n\té")"#),
        (r"a = '50%_'", r#"a = Text("50%_")"#),
        (r"a LIKE 'x%'", r#"a like [Text("x"), AnyRun]"#),
        (r"a LIKE '%%'", "a like [AnyRun]"),
        (
            r"a LIKE '_b\%\_%'",
            r#"a like [AnyOne, Text("b%_"), AnyRun]"#,
        ),
        ("a LIKE ''", "a like []"),
    ] {
        assert_eq!(read(text), wanted, "{text}");
    }
}

#[test]
fn an_error_points_at_its_character_and_says_what_was_wanted() {
    for (text, wanted) in [
        ("", "at character 1: found the end, wanted a field"),
        ("   ", "at character 4: found the end, wanted a field"),
        (
            "a",
            "at character 2: found the end, wanted =, !=, <, <=, >, >=, LIKE, IN or NOT IN",
        ),
        ("a =", "at character 4: found the end, wanted a value"),
        ("a = b", "at character 5: found \"b\", wanted a value"),
        ("a == 1", "at character 4: found `=`, wanted a value"),
        (
            "é = 1",
            "at character 1: found 'é', wanted a field, an operator or a value",
        ),
        (
            "a = 'é' & b = 1",
            "at character 9: found '&', wanted a field, an operator or a value",
        ),
        (
            "a = 1 b = 2",
            "at character 7: found \"b\", wanted AND, OR or the end",
        ),
        (
            "(a = 1",
            "at character 7: found the end, wanted AND, OR or `)`",
        ),
        (
            "a = 1)",
            "at character 6: found `)`, wanted AND, OR or the end",
        ),
        (
            "a NOT LIKE 'x'",
            "at character 7: found \"LIKE\", wanted IN",
        ),
        (
            "a LIKE 5",
            "at character 8: found a number, wanted a text in single quotes",
        ),
        (
            "a IN 5",
            "at character 6: found a number, wanted `(` and the values",
        ),
        ("a IN ()", "at character 7: found `)`, wanted a value"),
        (
            "a IN (1 2)",
            "at character 9: found a number, wanted `,` or `)`",
        ),
        ("and = 1", "at character 1: found \"and\", wanted a field"),
        (
            "a. = 1",
            "at character 4: found `=`, wanted a part of the field",
        ),
        ("a = 'x", "at character 5: this text has no closing quote"),
        (
            r"a = 'x\'",
            "at character 5: this text has no closing quote",
        ),
        (
            r"a = 'x\q'",
            r"at character 7: there is no escape \q; a backslash itself is \\",
        ),
        (
            r"a = '\ud800'",
            r"at character 6: there is no escape \ud800; a backslash itself is \\",
        ),
        (
            "a = 2147483648",
            "at character 5: whole numbers above 2147483647 are written with .0",
        ),
        (
            "a = 2026-02-30",
            "at character 5: \"2026-02-30\" is no number, date or time",
        ),
        (
            "a = 2026-01-01T00:00:00",
            "at character 5: \"2026-01-01T00:00:00\" is no number, date or time",
        ),
        (
            "a = 1e999",
            "at character 5: \"1e999\" is no number, date or time",
        ),
        (
            "a < null",
            "at character 5: < does not go with null; only = and != do",
        ),
        (
            "a >= true",
            "at character 6: >= does not go with true; only = and != do",
        ),
    ] {
        assert_eq!(error(text).to_string(), wanted, "{text}");
    }
}

#[test]
fn a_filter_has_its_bounds() {
    let condition = |number: usize| format!("f{number} = 1");
    let many = |count: usize| {
        let conditions: Vec<String> = (0..count).map(condition).collect();
        conditions.join(" AND ")
    };
    read(&many(FILTER_FIELDS_MAX));
    let again = format!("{} AND F0 = 2", many(FILTER_FIELDS_MAX));
    read(&again);
    let error_of = error(&many(FILTER_FIELDS_MAX + 1));
    assert_eq!(error_of.problem, Problem::TooManyFields);

    let deep = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
    read(&deep(FILTER_DEPTH_MAX));
    assert_eq!(error(&deep(FILTER_DEPTH_MAX + 1)).problem, Problem::TooDeep);
    assert_eq!(error(&"(".repeat(100_000)).problem, Problem::TooDeep);
    read(&format!("{}a = 1", "NOT ".repeat(30_000)));

    let long = |chars: usize| format!("a = '{}'", "é".repeat(chars - 6));
    read(&long(FILTER_CHARS_MAX));
    assert_eq!(error(&long(FILTER_CHARS_MAX + 1)).problem, Problem::TooLong);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~é\n]{0,60}") {
        if let Err(error) = text.parse::<Filter>() {
            prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
            prop_assert!(error.character <= text.chars().count() + 1);
        }
    }

    #[test]
    fn no_sequence_of_words_makes_it_panic(
        words in proptest::collection::vec(
            prop_oneof![
                Just("a"), Just("."), Just("="), Just("<="), Just("'x%'"), Just("1.5"), Just("null"),
                Just("("), Just(")"), Just(","), Just("AND"), Just("OR"), Just("NOT"), Just("LIKE"),
                Just("IN"), Just("2026-01-01"), Just("12:00:00Z"),
            ],
            0..30,
        )
    ) {
        let text = words.join(" ");
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.text(), text);
        }
    }
}
