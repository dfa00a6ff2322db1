//! The walker held to two readers that were written by others, `apache-avro` and `serde_avro_fast`.
//!
//! Random schemas, random values of them, random damage: the walker takes a payload if and only if
//! both readers take it whole, and then all say the same, with these differences. Each has a test
//! of its own below, so that the list stays true.
//!
//! | The walker refuses | though | because |
//! |---|---|---|
//! | bytes after the record | both stop there and do not look | a payload is one value; the rest would travel unseen |
//! | an int in more than 5 bytes, its value within 32 bits | both take it | readers of other languages stop at the fifth byte or refuse it |
//! | a long with bits past the 64th | `apache-avro` drops the bits | the value is not what was written |
//! | a block whose stated size is not that of its items | both ignore the size | a reader that skips by the size ends elsewhere |
//! | an end where a string, boolean or union begins or breaks off | `apache-avro` reads null | null was not written |
//! | more than `PAYLOAD_ITEMS_MAX` items or values that take no bytes | both have larger bounds, by memory and by count | a short payload must not cost more than a long one |
//! | values nested deeper than `SCHEMA_DEPTH_MAX` | `apache-avro` recurses until the stack ends; `serde_avro_fast` counts unions too | the walker's stack is bounded, and a union nests nothing |
//!
//! The readers are kept from hurting the test rather than the damage from hurting them: they run
//! on a thread with a large stack, a panic of theirs counts as a refusal, their own bounds are set
//! out of the way of the walker's, and they are not asked about payloads that the walker takes with
//! more than [`ASKED_VALUES_MAX`] values, for which they would allocate without measure.

mod generate;
mod readers;

use proptest::{prelude::*, test_runner::TestCaseError};

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};

use super::{
    PayloadReason, Schema,
    compatibility::{self, Direction},
    tests::schema,
};
use crate::types::limits::{PAYLOAD_ITEMS_MAX, SCHEMA_DEPTH_MAX};
use generate::{Damage, Entropy};

pub(super) use generate::SchemaShape;
use readers::{Answer, Readers, Seen};

/// Values of a payload above which the other readers are not asked.
const ASKED_VALUES_MAX: u64 = 100_000;

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::with_cases(count)
    }
}

/// The readers recurse with the values; a test's own thread has 2 MiB.
fn with_deep_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 20);
    let outcome = thread.spawn(test).unwrap().join();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Says how the walker's answer fits those of the readers, or why it does not.
fn compare(text: &str, payload: &[u8]) -> Result<(), TestCaseError> {
    let schema = Schema::parse(text).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let readers = Readers::new(text);
    let answer = schema.validate(payload);
    match &answer {
        Ok(()) => {
            let (seen, values) = Seen::by_walker(&schema, payload);
            if values > ASKED_VALUES_MAX {
                return Ok(());
            }
            prop_assert_eq!(readers.apache(payload), Answer::Whole(Some(seen)));
            prop_assert_eq!(readers.fast(payload), Answer::Whole(None));
        }
        Err(error) => match error.reason() {
            // The differences; what they are is asserted by a test for each.
            PayloadReason::VarintTooLong { .. }
            | PayloadReason::BlockSize { .. }
            | PayloadReason::TooManyItems
            | PayloadReason::TooDeep => {}
            PayloadReason::Trailing { left } => {
                let whole = &payload[..payload.len() - left];
                prop_assert_eq!(schema.validate(whole), Ok(()));
                prop_assert!(matches!(readers.apache(payload), Answer::Trailing(l) if l == left));
                prop_assert_eq!(readers.fast(payload), Answer::Trailing(left));
            }
            PayloadReason::Truncated { .. } => {
                // `CutShort` is `apache-avro` reading null past the end.
                let apache = readers.apache(payload);
                prop_assert!(matches!(apache, Answer::Refused | Answer::CutShort));
                prop_assert_eq!(readers.fast(payload), Answer::Refused);
            }
            PayloadReason::Boolean
            | PayloadReason::NegativeLength { .. }
            | PayloadReason::NotUtf8
            | PayloadReason::Branch { .. }
            | PayloadReason::Symbol { .. } => {
                prop_assert_eq!(readers.apache(payload), Answer::Refused);
                prop_assert_eq!(readers.fast(payload), Answer::Refused);
            }
        },
    }
    prop_assert_eq!(schema.to_json(payload).map(|_| ()), answer);
    Ok(())
}

#[test]
fn the_walker_takes_what_both_readers_take_and_sees_what_they_see() {
    with_deep_stack(|| {
        let strategy = (
            any::<SchemaShape>(),
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(any::<Damage>(), 0..4),
        );
        proptest!(cases(1_500), |((shape, entropy, damage) in strategy)| {
            let text = shape.text();
            let schema = Schema::parse(&text).unwrap();
            let Some(mut payload) = generate::payload(&schema, Entropy::loose(&entropy)) else {
                return Err(TestCaseError::reject("no small value"));
            };
            prop_assert_eq!(schema.validate(&payload), Ok(()));
            compare(&text, &payload)?;
            for damage in damage {
                damage.apply(&mut payload);
                compare(&text, &payload)?;
            }
        });
    });
}

#[test]
fn random_bytes_are_answered_as_by_both_readers() {
    with_deep_stack(|| {
        let strategy = (
            any::<SchemaShape>(),
            prop::collection::vec(prop_oneof![0u8..8, any::<u8>()], 0..64),
        );
        proptest!(cases(1_500), |((shape, payload) in strategy)| {
            compare(&shape.text(), &payload)?;
        });
    });
}

#[test]
fn work_is_bounded_by_the_payload_and_the_items() {
    with_deep_stack(|| {
        let strategy = (
            any::<SchemaShape>(),
            prop::collection::vec(prop_oneof![Just(0xfe), Just(0x7f), any::<u8>()], 0..64),
        );
        proptest!(cases(500), |((shape, payload) in strategy)| {
            let schema = Schema::parse(&shape.text()).unwrap();
            let values = Seen::count_by_walker(&schema, &payload);
            // A byte ends at most one value on each level; items add what takes no bytes.
            let per_byte = SCHEMA_DEPTH_MAX as u64 + 1;
            prop_assert!(values <= (payload.len() as u64 + 1) * per_byte + 2 * PAYLOAD_ITEMS_MAX);
        });
    });
}

#[test]
fn json_says_the_same_as_the_payload() {
    let fill = super::Fill {
        created_date_ms: 0,
        created_by_id: "",
    };
    proptest!(cases(1_000), |(
        shape in any::<SchemaShape>(),
        entropy in prop::collection::vec(any::<u8>(), 0..200),
    )| {
        let schema = Schema::parse(&shape.text()).unwrap();
        let Some(payload) = generate::payload(&schema, Entropy::canonical(&entropy)) else {
            return Err(TestCaseError::reject("no small value"));
        };
        let json = schema.to_json(&payload).unwrap();
        prop_assert_eq!(schema.encode_json(&json, &fill), Ok(payload.clone()));
        // As text, too, which is how people have it.
        let text = json.to_string();
        prop_assert!(text.len() <= schema.json_bytes_max(&payload).unwrap());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(schema.encode_json(&read, &fill), Ok(payload));
    });
}

#[test]
fn ids_agree_with_the_canonical_form_of_apache_avro_on_plain_schemas() {
    proptest!(cases(500), |(shape in any::<SchemaShape>())| {
        let text = shape.text();
        let theirs = apache_avro::Schema::parse_str(&text).unwrap();
        let ours = Schema::parse(&text).unwrap();
        prop_assert_eq!(ours.canonical_form(), theirs.canonical_form());
    });
}

#[test]
fn versions_are_compared_as_by_apache_avro() {
    proptest!(cases(1_000), |(
        a in any::<SchemaShape>(),
        b in any::<SchemaShape>(),
        kept in prop::collection::vec(any::<bool>(), 6),
    )| {
        let texts = generate::versions(&a, &b, &kept).map(|shape| shape.text());
        let [new, old] = texts.each_ref().map(|text| Schema::parse(text).unwrap());
        let theirs = texts.each_ref().map(|text| apache_avro::Schema::parse_str(text).unwrap());
        for (direction, writer, reader) in [
            (Direction::Backward, &theirs[1], &theirs[0]),
            (Direction::Forward, &theirs[0], &theirs[1]),
        ] {
            let ours = compatibility::violations(&new, &old, direction);
            let theirs = SchemaCompatibility::can_read(writer, reader);
            let is_whole = matches!(theirs, Ok(Compatibility::Full));
            prop_assert_eq!(ours.is_empty(), is_whole, "{:?}: {:?} {:?} {:?}", direction, texts, ours, theirs);
        }
    });
}

/// What `R` with these fields is answered by the walker, by `apache-avro` and `serde_avro_fast`.
fn answers(fields: &str, payload: &[u8]) -> (Option<PayloadReason>, Answer, Answer) {
    let schema = schema(fields);
    let readers = Readers::new(schema.text());
    let refused = schema.validate(payload).err();
    (
        refused.map(|error| error.reason()),
        readers.apache(payload).without_values(),
        readers.fast(payload),
    )
}

const TAKEN: Answer = Answer::Whole(None);

#[test]
fn difference_bytes_after_the_record() {
    assert_eq!(
        answers(r#"{"name":"a","type":"int"}"#, b"\x02\x02"),
        (
            Some(PayloadReason::Trailing { left: 1 }),
            Answer::Trailing(1),
            Answer::Trailing(1)
        )
    );
}

#[test]
fn difference_an_int_in_more_bytes_than_any_int_takes() {
    let reason = PayloadReason::VarintTooLong {
        what: "an int",
        bits: 32,
        bytes: 5,
    };
    let padded = b"\x82\x80\x80\x80\x80\x00";
    assert_eq!(
        answers(r#"{"name":"a","type":"int"}"#, padded),
        (Some(reason), TAKEN, TAKEN)
    );
    let reason = PayloadReason::VarintTooLong {
        what: "an enum's index",
        bits: 32,
        bytes: 5,
    };
    let padded = b"\x80\x80\x80\x80\x80\x00";
    let enumeration = r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["A"]}}"#;
    assert_eq!(answers(enumeration, padded), (Some(reason), TAKEN, TAKEN));
}

#[test]
fn difference_a_long_with_bits_past_the_last() {
    let reason = PayloadReason::VarintTooLong {
        what: "a long",
        bits: 64,
        bytes: 10,
    };
    let wide = b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02";
    assert_eq!(
        answers(r#"{"name":"a","type":"long"}"#, wide),
        (Some(reason), TAKEN, Answer::Refused)
    );
    // One more byte is refused by all.
    let long = b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00";
    assert_eq!(
        answers(r#"{"name":"a","type":"long"}"#, long),
        (Some(reason), Answer::Refused, Answer::Refused)
    );
}

#[test]
fn difference_a_block_whose_size_is_not_that_of_its_items() {
    let array = r#"{"name":"a","type":{"type":"array","items":"int"}}"#;
    let reason = PayloadReason::BlockSize { stated: 1, used: 2 };
    assert_eq!(
        answers(array, b"\x03\x02\x02\x02\0"),
        (Some(reason), TAKEN, TAKEN)
    );
    assert_eq!(answers(array, b"\x03\x04\x02\x02\0"), (None, TAKEN, TAKEN));
    let map = r#"{"name":"a","type":{"type":"map","values":"int"}}"#;
    let reason = PayloadReason::BlockSize {
        stated: -1,
        used: 3,
    };
    assert_eq!(
        answers(map, b"\x01\x01\x02k\x02\0"),
        (Some(reason), TAKEN, TAKEN)
    );
}

#[test]
fn difference_an_end_that_is_read_as_null() {
    let cases: [(&str, &[u8]); 4] = [
        (r#"{"name":"a","type":"string"}"#, b"\x04x"),
        (r#"{"name":"a","type":"boolean"}"#, b""),
        (r#"{"name":"a","type":["null","int"]}"#, b""),
        (r#"{"name":"a","type":["int","string"]}"#, b""),
    ];
    for (fields, payload) in cases {
        let (reason, apache, fast) = answers(fields, payload);
        assert!(matches!(reason, Some(PayloadReason::Truncated { .. })));
        assert_eq!(
            (apache, fast),
            (Answer::CutShort, Answer::Refused),
            "{fields}"
        );
    }
}

#[test]
fn difference_more_items_than_a_payload_may_have() {
    let array = r#"{"name":"a","type":{"type":"array","items":"null"}}"#;
    let mut payload = Vec::new();
    prost::encoding::encode_varint((PAYLOAD_ITEMS_MAX + 1) << 1, &mut payload);
    payload.push(0);
    assert_eq!(
        answers(array, &payload),
        (Some(PayloadReason::TooManyItems), TAKEN, TAKEN)
    );
}

#[test]
fn difference_values_that_nest_deeper_than_a_payload_may() {
    with_deep_stack(|| {
        let recursive = r#"{"name":"a","type":["null","R"]}"#;
        let nested = |levels: usize| [vec![2; levels - 1], vec![0]].concat();
        let deepest = nested(SCHEMA_DEPTH_MAX);
        assert_eq!(answers(recursive, &deepest), (None, TAKEN, TAKEN));
        let deeper = nested(SCHEMA_DEPTH_MAX + 1);
        assert_eq!(
            answers(recursive, &deeper),
            (Some(PayloadReason::TooDeep), TAKEN, TAKEN)
        );
        // By its own bound `serde_avro_fast` would refuse the deepest, since it counts unions.
        let schema = schema(recursive);
        let fast: serde_avro_fast::Schema = schema.text().parse().unwrap();
        let own = serde_avro_fast::from_datum_slice::<readers::Anything>(&deepest, &fast);
        assert!(own.is_err());
    });
}

#[test]
fn integers_in_more_bytes_than_they_need_are_no_difference() {
    let fields =
        r#"{"name":"i","type":"int"},{"name":"l","type":"long"},{"name":"s","type":"string"}"#;
    let padded = b"\x82\x00\x84\x80\x80\x00\x82\x00x";
    assert_eq!(answers(fields, padded), (None, TAKEN, TAKEN));
}
