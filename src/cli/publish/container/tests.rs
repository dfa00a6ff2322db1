use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::cli::fake_gateway::ORDER_CREATED;

pub(in crate::cli::publish) fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut raw = (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned();
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

fn put_sized(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

const SYNC: [u8; SYNC_BYTES] = *b"0123456789abcdef";

fn header(schema: &str, codec: &str) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_long(2, &mut out);
    for (key, value) in [("avro.codec", codec), ("avro.schema", schema)] {
        put_sized(key.as_bytes(), &mut out);
        put_sized(value.as_bytes(), &mut out);
    }
    put_long(0, &mut out);
    out.extend(SYNC);
    out
}

fn put_block(count: i64, data: &[u8], out: &mut Vec<u8>) {
    put_long(count, out);
    put_sized(data, out);
    out.extend(SYNC);
}

fn payload(schema: &str, number: usize) -> Vec<u8> {
    let fill = crate::schema::Fill {
        created_date_ms: 0,
        created_by_id: crate::schema::Fill::NOBODY,
    };
    let json = serde_json::json!({ "Order_Number__c": format!("A-{number}") });
    let schema = Schema::parse(schema).unwrap();
    schema.encode_json(&json, &fill).unwrap()
}

/// A container of this schema with so many orders, 10 to a block.
pub(in crate::cli::publish) fn container(schema: &str, codec: &str, orders: usize) -> Vec<u8> {
    let mut out = header(schema, codec);
    let numbers: Vec<_> = (0..orders).collect();
    for numbers in numbers.chunks(10) {
        let data: Vec<u8> = numbers
            .iter()
            .flat_map(|&number| payload(schema, number))
            .collect();
        let data = match codec {
            "deflate" => deflate(&data),
            _ => data,
        };
        put_block(numbers.len() as i64, &data, &mut out);
    }
    out
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The events of a file, and how it ended.
async fn read(file: &[u8]) -> (Vec<Datum>, Result<(), String>) {
    let mut container = Container::new(file);
    let mut events = Vec::new();
    loop {
        match container.next().await {
            Ok(Some(datum)) => events.push(datum),
            Ok(None) => return (events, Ok(())),
            Err(error) => return (events, Err(error.to_string())),
        }
    }
}

#[tokio::test]
async fn every_event_of_a_container_is_read_with_its_number() {
    for codec in ["null", "deflate"] {
        let (events, ended) = read(&container(ORDER_CREATED, codec, 25)).await;
        ended.unwrap();
        assert_eq!(events.len(), 25);
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event.number, index as u64 + 1);
            assert_eq!(event.payload, payload(ORDER_CREATED, index));
        }
    }
    let (events, ended) = read(&header(ORDER_CREATED, "null")).await;
    ended.unwrap();
    assert!(events.is_empty());
}

#[tokio::test]
async fn another_writer_of_containers_is_understood() {
    let schema = apache_avro::Schema::parse_str(ORDER_CREATED).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    for number in 0..3 {
        let mut record = apache_avro::types::Record::new(&schema).unwrap();
        record.put("CreatedDate", 0_i64);
        record.put("CreatedById", crate::schema::Fill::NOBODY);
        record.put("Order_Number__c", Some(format!("A-{number}")));
        record.put("Amount__c", None::<f64>);
        record.put("Priority__c", None::<bool>);
        writer.append_value(record).unwrap();
    }
    let (events, ended) = read(&writer.into_inner().unwrap()).await;
    ended.unwrap();
    assert_eq!(events.len(), 3);
    assert_eq!(events[2].payload, payload(ORDER_CREATED, 2));
}

#[tokio::test]
async fn a_container_that_was_cut_gives_what_is_whole_and_says_so() {
    let whole = container(ORDER_CREATED, "null", 25);
    for len in 0..whole.len() {
        let (events, ended) = read(&whole[..len]).await;
        assert!(events.len() % 10 == 0);
        let is_between_blocks = ended.is_ok();
        assert!(
            !is_between_blocks || len >= header(ORDER_CREATED, "null").len(),
            "{len}"
        );
    }
    let (events, ended) = read(&whole[..whole.len() - 1]).await;
    assert_eq!(events.len(), 20);
    let error = ended.unwrap_err();
    assert!(
        error.contains("in the middle of a block, after event 20"),
        "{error}"
    );
}

#[tokio::test]
async fn damage_is_told_by_what_was_found() {
    let good = header(ORDER_CREATED, "null");
    let data = payload(ORDER_CREATED, 0);
    let with_block = |count: i64, data: &[u8]| {
        let mut file = good.clone();
        put_block(count, data, &mut file);
        file
    };
    let mut bad_sync = with_block(1, &data);
    *bad_sync.last_mut().unwrap() ^= 1;
    let with_numbers = |numbers: &[i64]| {
        let mut file = good.clone();
        numbers
            .iter()
            .for_each(|&number| put_long(number, &mut file));
        file
    };
    let mut endless_number = good.clone();
    endless_number.extend([0xff; 12]);
    let mut bomb = header(ORDER_CREATED, "deflate");
    let zeros = vec![0; CONTAINER_INFLATED_BYTES_MAX + 1];
    put_block(1, &deflate(&zeros), &mut bomb);
    let mut not_deflate = header(ORDER_CREATED, "deflate");
    put_block(1, &[0xff; 9], &mut not_deflate);
    let mut no_schema = MAGIC.to_vec();
    put_long(0, &mut no_schema);
    no_schema.extend(SYNC);
    let mut huge_header = MAGIC.to_vec();
    for number in [1, i64::MAX] {
        put_long(number, &mut huge_header);
    }
    for (file, reason) in [
        (bad_sync, "the mark after the block of event 1"),
        (
            with_numbers(&[1, i64::MAX]),
            "says that it has 9223372036854775807 bytes",
        ),
        (with_numbers(&[1, -1]), "says that it has -1 bytes"),
        (
            with_block(i64::MAX, &data),
            "says that it has 9223372036854775807 events",
        ),
        (with_block(-1, &data), "says that it has -1 events"),
        (with_block(0, &data), "says that it has 0 events"),
        (with_block(2, &data), "event 2 is no record"),
        (
            with_block(1, &[data.as_slice(), &[0]].concat()),
            "1 bytes after its last event",
        ),
        (endless_number, "more than 10 bytes"),
        (bomb, "inflates to more than"),
        (not_deflate, "cannot be inflated"),
        (
            header(ORDER_CREATED, "snappy"),
            "compressed with snappy, wanted null or deflate",
        ),
        (header("{", "null"), "its schema: "),
        (no_schema, "it names no schema"),
        (
            huge_header,
            "a text of its header has 9223372036854775807 bytes",
        ),
    ] {
        let (_, ended) = read(&file).await;
        let error = ended.unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_it_panic_or_hang(
        damage in prop::collection::vec((0..2_000_usize, any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut file = container(ORDER_CREATED, "null", 25);
        for (at, byte) in damage {
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
        }
        file.extend(tail);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (events, _) = runtime.block_on(read(&file));
        prop_assert!(events.len() <= file.len());
    }
}
