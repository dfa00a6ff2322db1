//! Each case is a pair of types, looked at in both directions, with the sentence of the Avro
//! specification that decides it; and each is asked of `apache-avro` too.

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

use super::*;
use crate::types::limits::VIOLATION_PATH_BYTES_MAX;

/// Two types of one field, what is wrong when the first reads the second, and the other way round.
struct Case {
    first: &'static str,
    second: &'static str,
    first_reads: &'static [&'static str],
    second_reads: &'static [&'static str],
    /// Whether `apache-avro` says the same of both.
    is_common: bool,
}

const fn case(
    first: &'static str,
    second: &'static str,
    first_reads: &'static [&'static str],
    second_reads: &'static [&'static str],
) -> Case {
    Case {
        first,
        second,
        first_reads,
        second_reads,
        is_common: true,
    }
}

/// A case in which `apache-avro` differs: it does not look at the aliases of types.
const fn differs(
    first: &'static str,
    second: &'static str,
    first_reads: &'static [&'static str],
    second_reads: &'static [&'static str],
) -> Case {
    Case {
        is_common: false,
        ..case(first, second, first_reads, second_reads)
    }
}

const OK: &[&str] = &[];
const TYPE: &[&str] = &["f type-changed"];
const NAME: &[&str] = &["f name-changed"];
const SIZE: &[&str] = &["f size-changed"];
const BRANCH: &[&str] = &["f branch-missing"];

/// "both schemas are … and …": the same kind of type.
const SAME: &[Case] = &[
    case(r#""null""#, r#""null""#, OK, OK),
    case(r#""boolean""#, r#""boolean""#, OK, OK),
    case(r#""int""#, r#""int""#, OK, OK),
    case(r#""long""#, r#""long""#, OK, OK),
    case(r#""float""#, r#""float""#, OK, OK),
    case(r#""double""#, r#""double""#, OK, OK),
    case(r#""bytes""#, r#""bytes""#, OK, OK),
    case(r#""string""#, r#""string""#, OK, OK),
    case(r#""boolean""#, r#""int""#, TYPE, TYPE),
    case(r#""null""#, r#""int""#, TYPE, TYPE),
    case(r#""boolean""#, r#""string""#, TYPE, TYPE),
    case(r#""int""#, r#""string""#, TYPE, TYPE),
    case(r#""double""#, r#""bytes""#, TYPE, TYPE),
    case(
        r#"{"type":"array","items":"int"}"#,
        r#"{"type":"map","values":"int"}"#,
        TYPE,
        TYPE,
    ),
    case(r#"{"type":"array","items":"int"}"#, r#""int""#, TYPE, TYPE),
    case(
        r#"{"type":"fixed","name":"F","size":4}"#,
        r#""bytes""#,
        TYPE,
        TYPE,
    ),
    case(
        r#"{"type":"enum","name":"E","symbols":["A"]}"#,
        r#""string""#,
        TYPE,
        TYPE,
    ),
    case(
        r#"{"type":"enum","name":"E","symbols":["A"]}"#,
        r#"{"type":"fixed","name":"E","size":1}"#,
        TYPE,
        TYPE,
    ),
    case(
        r#"{"type":"record","name":"N","fields":[]}"#,
        r#"{"type":"map","values":"int"}"#,
        TYPE,
        TYPE,
    ),
    // "logicalType": read as the type that it annotates.
    case(
        r#"{"type":"long","logicalType":"timestamp-millis"}"#,
        r#""long""#,
        OK,
        OK,
    ),
];

/// "the writer's schema may be promoted to the reader's".
const PROMOTIONS: &[Case] = &[
    case(r#""long""#, r#""int""#, OK, TYPE),
    case(r#""float""#, r#""int""#, OK, TYPE),
    case(r#""double""#, r#""int""#, OK, TYPE),
    case(r#""float""#, r#""long""#, OK, TYPE),
    case(r#""double""#, r#""long""#, OK, TYPE),
    case(r#""double""#, r#""float""#, OK, TYPE),
    case(r#""string""#, r#""bytes""#, OK, OK),
    case(
        r#"{"type":"array","items":"long"}"#,
        r#"{"type":"array","items":"int"}"#,
        OK,
        &["f[] type-changed"],
    ),
    case(
        r#"{"type":"map","values":"double"}"#,
        r#"{"type":"map","values":"float"}"#,
        OK,
        &["f{} type-changed"],
    ),
    case(
        r#"{"type":"array","items":{"type":"map","values":"long"}}"#,
        r#"{"type":"array","items":{"type":"map","values":"int"}}"#,
        OK,
        &["f[]{} type-changed"],
    ),
    case(r#"["null","long"]"#, r#"["null","int"]"#, OK, BRANCH),
    case(r#"["null","double"]"#, r#""int""#, OK, BRANCH_AND_TYPE),
];

/// `int` cannot be read from `null`, nor from `double`.
const BRANCH_AND_TYPE: &[&str] = &["f branch-missing", "f branch-missing"];

/// "both schemas are enums whose (unqualified) names match"; "if the writer's symbol is not present in
/// the reader's enum and the reader has a default value, then that value is used".
const ENUMS: &[Case] = &[
    case(
        r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
        r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
        OK,
        OK,
    ),
    case(
        r#"{"type":"enum","name":"E","symbols":["A","B","C"]}"#,
        r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
        OK,
        &["f symbols-missing"],
    ),
    case(
        r#"{"type":"enum","name":"E","symbols":["B","A"]}"#,
        r#"{"type":"enum","name":"E","symbols":["A","B"]}"#,
        OK,
        OK,
    ),
    case(
        r#"{"type":"enum","name":"E","symbols":["A","B","C"]}"#,
        r#"{"type":"enum","name":"E","symbols":["A","B"],"default":"A"}"#,
        OK,
        OK,
    ),
    case(
        r#"{"type":"enum","name":"E","symbols":["A"]}"#,
        r#"{"type":"enum","name":"E","symbols":["B"]}"#,
        &["f symbols-missing"],
        &["f symbols-missing"],
    ),
    case(
        r#"{"type":"enum","name":"E","symbols":["A"]}"#,
        r#"{"type":"enum","name":"D","symbols":["A"]}"#,
        NAME,
        NAME,
    ),
    case(
        r#"{"type":"enum","name":"a.E","symbols":["A"]}"#,
        r#"{"type":"enum","name":"b.E","symbols":["A"]}"#,
        OK,
        OK,
    ),
    differs(
        r#"{"type":"enum","name":"E","aliases":["D"],"symbols":["A"]}"#,
        r#"{"type":"enum","name":"D","symbols":["A"]}"#,
        OK,
        NAME,
    ),
];

/// "both schemas are fixed whose sizes and (unqualified) names match".
const FIXED: &[Case] = &[
    case(
        r#"{"type":"fixed","name":"F","size":4}"#,
        r#"{"type":"fixed","name":"F","size":4}"#,
        OK,
        OK,
    ),
    case(
        r#"{"type":"fixed","name":"F","size":4}"#,
        r#"{"type":"fixed","name":"F","size":5}"#,
        SIZE,
        SIZE,
    ),
    case(
        r#"{"type":"fixed","name":"F","size":4}"#,
        r#"{"type":"fixed","name":"G","size":4}"#,
        NAME,
        NAME,
    ),
    case(
        r#"{"type":"fixed","name":"a.F","size":4}"#,
        r#"{"type":"fixed","name":"F","size":4}"#,
        OK,
        OK,
    ),
    differs(
        r#"{"type":"fixed","name":"x.F","aliases":["G"],"size":4}"#,
        r#"{"type":"fixed","name":"x.G","size":4}"#,
        OK,
        NAME,
    ),
    // An alias without a namespace has the one of its type.
    case(
        r#"{"type":"fixed","name":"x.F","aliases":["G"],"size":4}"#,
        r#"{"type":"fixed","name":"y.G","size":4}"#,
        NAME,
        NAME,
    ),
];

/// "if the reader's record schema has a field that contains a default value, and writer's schema does
/// not have a field with the same name, then the reader should use the default value from its field";
/// with no default "an error is signalled"; what the writer has more "is ignored".
const RECORDS: &[Case] = &[
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"}]}"#,
        OK,
        OK,
    ),
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"},{"name":"b","type":"int"}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"}]}"#,
        &["f.b field-without-default"],
        OK,
    ),
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"},{"name":"b","type":"int","default":1}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"}]}"#,
        OK,
        OK,
    ),
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"b","type":["null","int"],"default":null}]}"#,
        r#"{"type":"record","name":"N","fields":[]}"#,
        OK,
        OK,
    ),
    // A union with null is no default.
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"b","type":["null","int"]}]}"#,
        r#"{"type":"record","name":"N","fields":[]}"#,
        &["f.b field-without-default"],
        OK,
    ),
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"},{"name":"b","type":"long"}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"b","type":"long"},{"name":"a","type":"int"}]}"#,
        OK,
        OK,
    ),
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"b","type":"int"}]}"#,
        &["f.a field-without-default"],
        &["f.b field-without-default"],
    ),
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","aliases":["b"],"type":"long"}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"b","type":"int"}]}"#,
        OK,
        &["f.b field-without-default"],
    ),
    // A field of the name itself comes before an alias.
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","aliases":["b"],"type":"int"}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"b","type":"string"},{"name":"a","type":"int"}]}"#,
        OK,
        &["f.b field-without-default"],
    ),
    // A type that cannot be read is no absent field: the default does not help.
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int","default":1}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"string"}]}"#,
        &["f.a type-changed"],
        &["f.a type-changed"],
    ),
    case(
        r#"{"type":"record","name":"N","fields":[]}"#,
        r#"{"type":"record","name":"M","fields":[]}"#,
        NAME,
        NAME,
    ),
    case(
        r#"{"type":"record","name":"a.N","fields":[]}"#,
        r#"{"type":"record","name":"b.N","fields":[]}"#,
        OK,
        OK,
    ),
    differs(
        r#"{"type":"record","name":"N","aliases":["M"],"fields":[]}"#,
        r#"{"type":"record","name":"M","fields":[]}"#,
        OK,
        NAME,
    ),
    case(
        r#"{"type":"record","name":"N","fields":[{"name":"m","type":{"type":"record","name":"M","fields":[{"name":"a","type":"int"}]}}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"m","type":{"type":"record","name":"M","fields":[{"name":"a","type":"long"}]}}]}"#,
        &["f.m.a type-changed"],
        OK,
    ),
];

/// "if the reader's is a union, the first schema in it that matches recursively"; "if the writer's is a
/// union, … the branch that was written".
const UNIONS: &[Case] = &[
    case(r#"["null","int"]"#, r#""int""#, OK, BRANCH),
    case(r#"["null","int"]"#, r#"["null","int"]"#, OK, OK),
    case(r#"["int","null"]"#, r#"["null","int"]"#, OK, OK),
    case(
        r#"["null","int","string"]"#,
        r#"["null","int"]"#,
        OK,
        BRANCH,
    ),
    case(r#"["null","string"]"#, r#"["null","int"]"#, BRANCH, BRANCH),
    case(r#"["null","string"]"#, r#""int""#, TYPE, BRANCH_AND_TYPE),
    case(r#"["string"]"#, r#""bytes""#, OK, OK),
    case(r#"["null"]"#, r#""null""#, OK, OK),
    case(r#"["int"]"#, r#"["long"]"#, TYPE, OK),
    case(
        r#"["int","double"]"#,
        r#""long""#,
        OK,
        BRANCH_AND_TYPE_OF_LONG,
    ),
    // No branch but another is meant: what is wrong is inside of it.
    case(
        r#"["null",{"type":"enum","name":"E","symbols":["A"]}]"#,
        r#"["null",{"type":"enum","name":"E","symbols":["A","B"]}]"#,
        &["f symbols-missing"],
        OK,
    ),
    case(
        r#"["null",{"type":"array","items":"int"}]"#,
        r#"["null",{"type":"array","items":"string"}]"#,
        &["f[] type-changed"],
        &["f[] type-changed"],
    ),
    case(
        r#"["null",{"type":"record","name":"N","fields":[{"name":"a","type":"int"}]}]"#,
        r#"["null",{"type":"record","name":"N","fields":[]}]"#,
        &["f.a field-without-default"],
        OK,
    ),
    case(
        r#"["null",{"type":"record","name":"N","fields":[]},{"type":"record","name":"M","fields":[]}]"#,
        r#"["null",{"type":"record","name":"N","fields":[]}]"#,
        OK,
        BRANCH,
    ),
];

/// `long` reads the `int` of the union, not its `double`.
const BRANCH_AND_TYPE_OF_LONG: &[&str] = &["f branch-missing"];

/// Types that contain themselves.
const RECURSION: &[Case] = &[
    case(
        r#"{"type":"record","name":"L","fields":[{"name":"v","type":"long"},{"name":"next","type":["null","L"]}]}"#,
        r#"{"type":"record","name":"L","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","L"]}]}"#,
        OK,
        &["f.v type-changed"],
    ),
    case(
        r#"{"type":"record","name":"T","fields":[{"name":"kids","type":{"type":"array","items":"T"}}]}"#,
        r#"{"type":"record","name":"T","fields":[{"name":"kids","type":{"type":"array","items":"T"}},{"name":"x","type":"int"}]}"#,
        OK,
        &["f.x field-without-default"],
    ),
    // Whether A is readable hangs on B, which is found out later and hangs on A.
    case(
        r#"{"type":"record","name":"A","fields":[{"name":"b","type":["null",{"type":"record","name":"B","fields":[{"name":"a","type":["null","A"]},{"name":"n","type":"int"}]}]}]}"#,
        r#"{"type":"record","name":"A","fields":[{"name":"b","type":["null",{"type":"record","name":"B","fields":[{"name":"a","type":["null","A"]},{"name":"n","type":"string"}]}]}]}"#,
        &["f.b.n type-changed"],
        &["f.b.n type-changed"],
    ),
];

const TABLE: [&[Case]; 7] = [SAME, PROMOTIONS, ENUMS, FIXED, RECORDS, UNIONS, RECURSION];

/// A schema of events whose one field has this type.
fn event(field: &str) -> String {
    format!(r#"{{"type":"record","name":"Case__e","fields":[{{"name":"f","type":{field}}}]}}"#)
}

/// What is wrong, as `field rule`.
fn found(new: &Schema, old: &Schema, direction: Direction) -> Vec<String> {
    let found = violations(new, old, direction);
    assert_eq!(found.more, 0);
    let listed = found.listed.iter().map(|violation| {
        assert_eq!(violation.direction, direction);
        assert!(!violation.fix().is_empty());
        let path = violation
            .path
            .strip_prefix("Case__e.")
            .unwrap_or(&violation.path);
        format!("{path} {}", violation.rule.name())
    });
    listed.collect()
}

#[test]
fn each_case_is_decided_in_both_directions_and_whoever_is_the_new_one() {
    let mut count = 0;
    for case in TABLE.into_iter().flatten() {
        let Case { first, second, .. } = case;
        let [a, b] = [first, second].map(|field| Schema::parse(&event(field)).unwrap());
        let what = format!("{first} and {second}");
        assert_eq!(
            found(&a, &b, Direction::Backward),
            case.first_reads,
            "{what}"
        );
        assert_eq!(
            found(&b, &a, Direction::Forward),
            case.first_reads,
            "{what}"
        );
        assert_eq!(
            found(&b, &a, Direction::Backward),
            case.second_reads,
            "{what}"
        );
        assert_eq!(
            found(&a, &b, Direction::Forward),
            case.second_reads,
            "{what}"
        );
        count += 1;
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn a_schema_reads_itself() {
    for field in TABLE
        .into_iter()
        .flatten()
        .flat_map(|case| [case.first, case.second])
    {
        let schema = Schema::parse(&event(field)).unwrap();
        assert!(
            violations(&schema, &schema, Direction::Backward).is_empty(),
            "{field}"
        );
    }
}

#[test]
fn apache_avro_agrees_but_where_it_is_known_not_to() {
    let mut differing = Vec::new();
    for case in TABLE.into_iter().flatten() {
        let [a, b] = [case.first, case.second]
            .map(|field| apache_avro::Schema::parse_str(&event(field)).unwrap());
        // It tells those apart of which some values can be read.
        let theirs = [(&b, &a), (&a, &b)].map(|(writer, reader)| {
            matches!(
                SchemaCompatibility::can_read(writer, reader),
                Ok(Compatibility::Full)
            )
        });
        let ours = [case.first_reads.is_empty(), case.second_reads.is_empty()];
        if (theirs == ours) != case.is_common {
            differing.push((case.first, case.second, theirs));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
}

/// `count` records, each with a field of the one before it if it is linked, in one union.
fn many(count: usize, namespace: impl Fn(usize) -> String, last: &str) -> Schema {
    let mut branches = vec![r#""null""#.to_owned()];
    for number in 0..count {
        let ty = match number {
            0 => last.to_owned(),
            _ => format!(r#"["null","{}"]"#, namespace(number - 1)),
        };
        branches.push(format!(
            r#"{{"type":"record","name":"{}","fields":[{{"name":"a","type":{ty}}}]}}"#,
            namespace(number)
        ));
    }
    Schema::parse(&event(&format!("[{}]", branches.join(",")))).unwrap()
}

#[test]
fn a_long_chain_of_records_is_followed_to_its_end_in_little_memory() {
    let name = |number: usize| format!("R{number}");
    let (new, old) = (
        many(10_000, name, r#""int""#),
        many(10_000, name, r#""string""#),
    );
    assert_eq!(found(&new, &old, Direction::Backward), ["f.a type-changed"]);

    // Nearest to the root is what is told: a chain that only its last record leads to.
    let chain = |last: &str| {
        let mut text = last.to_owned();
        for number in 0..18 {
            text = format!(
                r#"{{"type":"record","name":"A_long_name_{number}","fields":[{{"name":"a_rather_long_name_of_a_field_that_leads_from_one_record_to_the_next","type":{text}}}]}}"#
            );
        }
        Schema::parse(&event(&text))
    };
    let (new, old) = (chain(r#""int""#).unwrap(), chain(r#""string""#).unwrap());
    let found = violations(&new, &old, Direction::Backward);
    let path = &found.listed[0].path;
    assert!(path.len() < 2 * VIOLATION_PATH_BYTES_MAX, "{path}");
    assert!(
        path.ends_with(".a_rather_long_name_of_a_field_that_leads_from_one_record_to_the_next"),
        "{path}"
    );
}

#[test]
fn what_would_take_the_square_of_a_schemas_size_is_given_up_and_refused() {
    // Every record of one has the name of every record of the other.
    let name = |number: usize| format!("n{number}.R");
    let (new, old) = (
        many(2_000, name, r#""int""#),
        many(2_000, name, r#""string""#),
    );
    let rules: Vec<_> = found(&new, &old, Direction::Backward);
    assert!(
        rules.iter().any(|rule| rule.ends_with("too-intricate")),
        "{rules:?}"
    );
}

#[test]
fn so_many_reasons_are_listed_and_the_others_counted() {
    let fields = |ty: &str| {
        let field = |number| format!(r#"{{"name":"f{number}","type":{ty}}}"#);
        let fields: Vec<_> = (0..VIOLATIONS_MAX + 7).map(field).collect();
        let fields = fields.join(",");
        let text = format!(r#"{{"type":"record","name":"Case__e","fields":[{fields}]}}"#);
        Schema::parse(&text).unwrap()
    };
    let found = violations(
        &fields(r#""int""#),
        &fields(r#""string""#),
        Direction::Forward,
    );
    assert_eq!((found.listed.len(), found.more), (VIOLATIONS_MAX, 7));
}

#[test]
fn a_reason_and_its_fix_are_told_from_the_side_of_the_new_version() {
    let old = Schema::parse(&event(
        r#"{"type":"record","name":"N","fields":[{"name":"a","type":"int"}]}"#,
    ));
    let new = Schema::parse(&event(
        r#"{"type":"record","name":"N","fields":[{"name":"b","type":"int"}]}"#,
    ));
    let (old, new) = (old.unwrap(), new.unwrap());
    let told = |direction| {
        let found = violations(&new, &old, direction).listed.remove(0);
        (found.to_string(), found.fix())
    };
    assert_eq!(
        told(Direction::Backward),
        (
            "Case__e.f.b: the new version needs the field, which the old one does not have, and has no \
             default for it"
                .to_owned(),
            "give the field a default: null, with null as the first type of a union".to_owned()
        )
    );
    assert_eq!(
        told(Direction::Forward),
        (
            "Case__e.f.a: the old version needs the field, which the new one does not have, and has no \
             default for it"
                .to_owned(),
            "keep the field: it has no default where the old version is read".to_owned()
        )
    );
}

#[test]
fn what_is_wrong_behind_a_field_that_is_wrong_is_told_too() {
    let schema = |ty: &str| {
        Schema::parse(&format!(
            r#"{{"type":"record","name":"A__e","fields":[{{"name":"x","type":"{ty}"}},
            {{"name":"y","type":["null",{{"type":"record","name":"B","fields":[{{"name":"zip","type":"{ty}"}}]}}]}}]}}"#
        ))
        .unwrap()
    };
    let found = violations(&schema("int"), &schema("string"), Direction::Backward);
    let paths: Vec<_> = found.listed.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["A__e.x", "A__e.y.zip"]);
}

#[test]
fn an_alias_takes_no_field_that_another_one_is_called_like() {
    let record = |fields: &str| {
        Schema::parse(&format!(
            r#"{{"type":"record","name":"A__e","fields":[{fields}]}}"#
        ))
        .unwrap()
    };
    let old = record(r#"{"name":"a","type":"int"}"#);
    let new = record(r#"{"name":"a","type":"int"},{"name":"b","type":"int","aliases":["a"]}"#);
    let found = violations(&new, &old, Direction::Backward);
    let paths: Vec<_> = found.listed.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(paths, ["A__e.b"]);
}

#[test]
fn many_uses_of_a_large_enum_are_not_too_intricate_to_be_read() {
    let symbols: Vec<_> = (0..10_000).map(|number| format!("\"S{number}\"")).collect();
    let first = format!(
        r#"{{"name":"f","type":{{"type":"enum","name":"E","symbols":[{}]}}}}"#,
        symbols.join(",")
    );
    let others = (0..40).map(|number| format!(r#",{{"name":"f{number}","type":"E"}}"#));
    let schema = Schema::parse(&format!(
        r#"{{"type":"record","name":"A__e","fields":[{first}{}]}}"#,
        others.collect::<String>()
    ))
    .unwrap();
    for direction in [Direction::Backward, Direction::Forward] {
        assert!(violations(&schema, &schema, direction).is_empty());
    }
}

#[test]
fn many_symbols_and_branches_are_counted_and_not_all_named() {
    let symbols: Vec<_> = (0..100).map(|number| format!("\"S{number}\"")).collect();
    let with = |symbols: &[String]| {
        Schema::parse(&format!(
            r#"{{"type":"record","name":"A__e","fields":[{{"name":"e","type":{{"type":"enum","name":"E","symbols":[{}]}}}}]}}"#,
            symbols.join(",")
        ))
        .unwrap()
    };
    let found = violations(&with(&symbols[..1]), &with(&symbols), Direction::Backward);
    let text = found.listed[0].to_string();
    assert!(text.contains("S20, 79 more"), "{text}");
}
