//! From a schema's text to a clean Avro schema: bounded, and stripped of what decides nothing.
//!
//! A schema text is foreign input. Size and nesting are checked before any parser sees it, since
//! parsers of JSON and of Avro recurse. Then only the keys that Avro's grammar gives a meaning are
//! handed to `apache-avro`; logical types, attributes of other tools and the documentation of types are
//! left out, and defaults, aliases and the documentation of fields pass it as attributes of our own. That is more than tidiness: the canonical form of `apache-avro` keeps `order`,
//! `precision`, `scale` and annotated primitives, which the specification drops, and it panics on
//! an attribute that is called `size` and is not a number. Without them its canonical form is the
//! specified one, and a logical type is read as the type that it annotates.
//!
//! Source: Avro specification, "Schema Declaration" and "Parsing Canonical Form for Schemas".

use apache_avro::Schema as AvroSchema;
use serde_json::{Map, Value, json};

use super::error::SchemaError;
use crate::types::limits::{
    EVENT_BYTES_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, SCHEMA_NAME_BYTES_MAX,
};

/// The attribute under which a field's default passes `apache-avro`, which would check it by
/// rules of its own; the defaults are compiled, and so checked, with the program.
pub(super) const DEFAULT_ATTRIBUTE: &str = "tidegate.default";

/// The attribute under which the aliases of a field or a named type pass `apache-avro`: an array of
/// names. Only the resolution of one schema against another looks at them.
pub(super) const ALIASES_ATTRIBUTE: &str = "tidegate.aliases";

/// The attribute under which the documentation of a field passes `apache-avro`: on the platform it says
/// what a number of milliseconds is.
pub(super) const DOC_ATTRIBUTE: &str = "tidegate.doc";

/// The attribute of a field, true or false, that says whether case matters where filters compare it.
pub(super) const CASE_SENSITIVE_ATTRIBUTE: &str = "caseSensitive";

/// Reads a schema text.
///
/// # Errors
///
/// The text is too large, too deep, not JSON or not Avro. Types that are defined twice, endless
/// types and defaults are checked when the result is compiled.
pub(super) fn parse(text: &str) -> Result<AvroSchema, SchemaError> {
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(SchemaError::TooLarge(text.len()));
    }
    check_nesting(text)?;
    let json: Value = serde_json::from_str(text).map_err(not_json)?;
    let clean = clean_type(&json, "schema")?;
    AvroSchema::parse(&clean).map_err(|error| not_avro("schema", error.to_string()))
}

/// Counts brackets outside of strings; whether they match is the JSON parser's business.
fn check_nesting(text: &str) -> Result<(), SchemaError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let (mut line, mut line_start) = (1, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' => (line, line_start) = (line + 1, at + 1),
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > SCHEMA_DEPTH_MAX {
            return Err(SchemaError::NestedTooDeep {
                line,
                column: at - line_start + 1,
            });
        }
    }
    Ok(())
}

fn not_json(error: serde_json::Error) -> SchemaError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    SchemaError::NotJson {
        line,
        column,
        reason: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
    }
}

fn not_avro(at: &str, reason: impl Into<String>) -> SchemaError {
    SchemaError::NotAvro {
        at: at.to_owned(),
        reason: reason.into(),
    }
}

/// The type at `at` with nothing but what the grammar knows. Recursion is bounded by the nesting
/// of the text.
fn clean_type(json: &Value, at: &str) -> Result<Value, SchemaError> {
    match json {
        Value::String(name) => {
            // With a namespace, which has a dot behind it.
            let bytes_max = 2 * SCHEMA_NAME_BYTES_MAX + 1;
            if name.len() > bytes_max {
                let bytes = name.len();
                let reason = format!(
                    "the name of a type has at most {bytes_max} bytes, this one has {bytes}"
                );
                return Err(not_avro(at, reason));
            }
            Ok(json.clone())
        }
        Value::Array(branches) if branches.is_empty() => {
            Err(not_avro(at, "a union has at least one type"))
        }
        Value::Array(branches) => branches
            .iter()
            .map(|branch| clean_type(branch, at))
            .collect(),
        Value::Object(object) => clean_object(object, at),
        Value::Null | Value::Bool(_) | Value::Number(_) => Err(not_avro(
            at,
            "a type is a name, an object or an array of types",
        )),
    }
}

fn clean_object(object: &Map<String, Value>, at: &str) -> Result<Value, SchemaError> {
    let Some(kind) = object.get("type") else {
        return Err(not_avro(at, "a type in braces needs the key \"type\""));
    };
    match kind.as_str() {
        Some("record") => clean_record(object, at),
        Some("enum") => {
            let symbols = required(object, "symbols", at)?;
            let texts = symbols.as_array().into_iter().flatten();
            for symbol in texts.filter_map(Value::as_str) {
                check_length(symbol, "a symbol of an enum", at)?;
            }
            let mut clean = named(object, at, "symbols", symbols.clone())?;
            if let Some(default) = object.get("default") {
                clean.insert(DEFAULT_ATTRIBUTE.to_owned(), default.clone());
            }
            Ok(Value::Object(clean))
        }
        Some("fixed") => {
            let size = required(object, "size", at)?;
            // A larger one fits in no event, and sizes past 63 bits upset the canonical form.
            if size
                .as_u64()
                .is_none_or(|size| size > EVENT_BYTES_MAX as u64)
            {
                let reason = format!("the size of a fixed is a number up to {EVENT_BYTES_MAX}");
                return Err(not_avro(at, reason));
            }
            Ok(Value::Object(named(object, at, "size", size.clone())?))
        }
        Some("array") => {
            let items = clean_type(required(object, "items", at)?, at)?;
            Ok(json!({"type": "array", "items": items}))
        }
        Some("map") => {
            let values = clean_type(required(object, "values", at)?, at)?;
            Ok(json!({"type": "map", "values": values}))
        }
        // `{"type": "long", "logicalType": …}` and the like: an annotated name or type.
        Some(_) | None => clean_type(kind, at),
    }
}

fn clean_record(object: &Map<String, Value>, at: &str) -> Result<Value, SchemaError> {
    let at = match object.get("name").and_then(Value::as_str) {
        Some(name) if at == "schema" => name.to_owned(),
        _ => at.to_owned(),
    };
    let Value::Array(fields) = required(object, "fields", &at)? else {
        return Err(not_avro(&at, "the fields of a record are an array"));
    };
    let fields = fields
        .iter()
        .enumerate()
        .map(|(index, field)| clean_field(field, index, &at))
        .collect::<Result<_, _>>()?;
    Ok(Value::Object(named(object, &at, "fields", fields)?))
}

fn clean_field(field: &Value, index: usize, record: &str) -> Result<Value, SchemaError> {
    let Value::Object(field) = field else {
        let reason = format!("field {index} is not an object");
        return Err(not_avro(record, reason));
    };
    let Some(name) = field.get("name").and_then(Value::as_str) else {
        let reason = format!("field {index} has no name");
        return Err(not_avro(record, reason));
    };
    check_length(name, "the name of a field", record)?;
    let at = format!("{record}.{name}");
    let mut clean = Map::new();
    clean.insert("name".to_owned(), name.into());
    let ty = clean_type(required(field, "type", &at)?, &at)?;
    clean.insert("type".to_owned(), ty);
    if let Some(default) = field.get("default") {
        clean.insert(DEFAULT_ATTRIBUTE.to_owned(), default.clone());
    }
    if let Some(Value::String(doc)) = field.get("doc") {
        clean.insert(DOC_ATTRIBUTE.to_owned(), doc.as_str().into());
    }
    if let Some(Value::Bool(is_case_sensitive)) = field.get(CASE_SENSITIVE_ATTRIBUTE) {
        let key = CASE_SENSITIVE_ATTRIBUTE.to_owned();
        clean.insert(key, (*is_case_sensitive).into());
    }
    clean.extend(aliases(field));
    Ok(Value::Object(clean))
}

/// The aliases of a field or a named type, as they pass `apache-avro`. What is no text names nothing.
fn aliases(object: &Map<String, Value>) -> Option<(String, Value)> {
    let aliases = object.get("aliases")?.as_array()?.iter();
    let names: Value = aliases.filter(|alias| alias.is_string()).cloned().collect();
    Some((ALIASES_ATTRIBUTE.to_owned(), names))
}

/// A named type with one more `key`.
fn named(
    object: &Map<String, Value>,
    at: &str,
    key: &str,
    value: Value,
) -> Result<Map<String, Value>, SchemaError> {
    let mut clean = Map::new();
    for key in ["type", "name", "namespace"] {
        match object.get(key) {
            // Every full name repeats its namespace: long ones would take the square of the text.
            Some(Value::String(text)) => {
                check_length(text, &format!("the {key} of a type"), at)?;
                clean.insert(key.to_owned(), text.as_str().into());
            }
            None if key == "namespace" => {}
            Some(_) | None => return Err(not_avro(at, format!("the {key} of a type is a string"))),
        }
    }
    clean.insert(key.to_owned(), value);
    clean.extend(aliases(object));
    Ok(clean)
}

/// Holds a name to its bound: whatever is said of a schema repeats its names.
fn check_length(name: &str, what: &str, at: &str) -> Result<(), SchemaError> {
    match name.len() {
        0..=SCHEMA_NAME_BYTES_MAX => Ok(()),
        bytes => {
            let reason =
                format!("{what} has at most {SCHEMA_NAME_BYTES_MAX} bytes, this one has {bytes}");
            Err(not_avro(at, reason))
        }
    }
}

fn required<'a>(
    object: &'a Map<String, Value>,
    key: &str,
    at: &str,
) -> Result<&'a Value, SchemaError> {
    object
        .get(key)
        .ok_or_else(|| not_avro(at, format!("the key {key:?} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        parse(text).unwrap().canonical_form()
    }

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_decides_nothing_is_dropped_from_the_canonical_form() {
        let annotated = r#"{"doc":"d","aliases":["Old"],"namespace":"a.b","name":"R","type":"record","fields":[
            {"doc":"d","name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"order":"ignore","default":7},
            {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2},"size":"huge"},
            {"name":"text","type":{"type":"string","avro.java.string":"String"},"precision":"p","symbols":7},
            {"name":"kind","type":{"type":"enum","name":"K","symbols":["A","B"],"default":"A","size":1}},
            {"name":"again","type":"K"},
            {"name":"hash","type":{"type":"fixed","name":"c.H","size":16,"logicalType":"uuid"}},
            {"name":"list","type":["null",{"type":"array","items":{"type":"int"},"scale":1.5}],"aliases":["l"]},
            {"name":"map","type":{"type":"map","values":"a.b.R"}}]}"#;
        assert_eq!(
            canonical(annotated),
            r#"{"name":"a.b.R","type":"record","fields":[{"name":"at","type":"long"},{"name":"price","type":"bytes"},{"name":"text","type":"string"},{"name":"kind","type":{"name":"a.b.K","type":"enum","symbols":["A","B"]}},{"name":"again","type":"a.b.K"},{"name":"hash","type":{"name":"c.H","type":"fixed","size":16}},{"name":"list","type":["null",{"type":"array","items":"int"}]},{"name":"map","type":{"type":"map","values":"a.b.R"}}]}"#
        );
    }

    #[test]
    fn names_are_resolved_as_the_specification_says() {
        // A dotted name brings its own namespace; an empty namespace is none at all, and what
        // stands inside the type inherits it.
        let text = r#"{"type":"record","name":"x.y.R","namespace":"ignored","fields":[
            {"name":"a","type":{"type":"enum","name":"E","symbols":["S"]}},
            {"name":"b","type":{"type":"record","name":"N","namespace":"","fields":[
                {"name":"c","type":{"type":"fixed","name":"F","size":2}}]}},
            {"name":"d","type":["x.y.E","null"]}]}"#;
        assert_eq!(
            canonical(text),
            r#"{"name":"x.y.R","type":"record","fields":[{"name":"a","type":{"name":"x.y.E","type":"enum","symbols":["S"]}},{"name":"b","type":{"name":"N","type":"record","fields":[{"name":"c","type":{"name":"F","type":"fixed","size":2}}]}},{"name":"d","type":["x.y.E","null"]}]}"#
        );
    }

    #[test]
    fn text_that_is_not_json_is_refused_with_its_place() {
        assert_eq!(
            refusal("{\"type\":\"record\",\n \"name\" \"R\"}"),
            "line 2, column 9: expected `:`"
        );
        assert_eq!(refusal(""), "line 1, column 0: EOF while parsing a value");
    }

    #[test]
    fn json_that_is_not_avro_is_refused_with_its_field() {
        let cases = [
            (
                "7",
                "schema: a type is a name, an object or an array of types",
            ),
            ("{}", "schema: a type in braces needs the key \"type\""),
            (
                r#"{"type":"record","name":"R"}"#,
                "R: the key \"fields\" is missing",
            ),
            (
                r#"{"type":"record","name":"R","fields":[7]}"#,
                "R: field 0 is not an object",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"type":"int"}]}"#,
                "R: field 0 has no name",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#,
                "R.a: the key \"type\" is missing",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":[]}]}"#,
                "R.a: a union has at least one type",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":-1}}]}"#,
                "R.a: the size of a fixed is a number up to 1048576",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array"}}]}"#,
                "R.a: the key \"items\" is missing",
            ),
            (
                r#"{"type":"record","name":7,"fields":[]}"#,
                "schema: the name of a type is a string",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(refusal(text), wanted, "{text}");
        }
        for text in [
            r#"{"type":"record","name":"R-1","fields":[]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a b","type":"int"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Unknown"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":["int","int"]}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":["int",["null"]]}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"enum","name":"E","symbols":["A","A"]}}]}"#,
        ] {
            assert!(
                matches!(parse(text), Err(SchemaError::NotAvro { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn long_names_are_refused_before_they_are_multiplied() {
        let inner = |number: usize| {
            format!(
                r#"{{"name":"f{number}","type":{{"type":"fixed","name":"F{number}","size":1}}}}"#
            )
        };
        let fields: Vec<_> = (0..5_000).map(inner).collect();
        let fields = fields.join(",");
        let namespace = "n".repeat(500_000);
        let text = format!(
            r#"{{"type":"record","name":"R","namespace":"{namespace}","fields":[{fields}]}}"#
        );
        assert_eq!(
            refusal(&text),
            "R: the namespace of a type has at most 255 bytes, this one has 500000"
        );
        let text = format!(
            r#"{{"type":"record","name":"R","namespace":"{}","fields":[{fields}]}}"#,
            "n".repeat(SCHEMA_NAME_BYTES_MAX)
        );
        assert!(parse(&text).is_ok());
    }

    #[test]
    fn names_of_fields_and_symbols_are_bounded_too() {
        let long = "n".repeat(SCHEMA_NAME_BYTES_MAX + 1);
        let field = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"{long}","type":"int"}}]}}"#
        );
        assert_eq!(
            refusal(&field),
            "R: the name of a field has at most 255 bytes, this one has 256"
        );
        let symbol = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"e","type":{{"type":"enum","name":"E","symbols":["{long}"]}}}}]}}"#
        );
        assert_eq!(
            refusal(&symbol),
            "R.e: a symbol of an enum has at most 255 bytes, this one has 256"
        );
    }

    #[test]
    fn size_and_nesting_are_checked_before_anything_is_parsed() {
        let text = " ".repeat(SCHEMA_BYTES_MAX + 1);
        assert_eq!(
            parse(&text),
            Err(SchemaError::TooLarge(SCHEMA_BYTES_MAX + 1))
        );

        let deep = format!("\"[[\\\"[[\"\n{}", "[".repeat(SCHEMA_BYTES_MAX - 10));
        assert_eq!(
            parse(&deep),
            Err(SchemaError::NestedTooDeep {
                line: 2,
                column: SCHEMA_DEPTH_MAX + 1
            })
        );
        let most = "[".repeat(SCHEMA_DEPTH_MAX);
        assert!(matches!(parse(&most), Err(SchemaError::NotJson { .. })));
    }
}
