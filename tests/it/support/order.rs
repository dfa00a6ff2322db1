//! Events of the sample type `OrderCreated__e`.

use super::wire::ProducerEvent;

/// Its topic.
pub(crate) const TOPIC: &str = "/event/OrderCreated__e";
/// Its schema's id, a vector of the wire specification.
pub(crate) const SCHEMA_ID: &str = "dGzWYkf4alBWqjXJMJJLlw";
/// Another topic that is there, of another schema.
pub(crate) const OTHER_TOPIC: &str = "/event/OrderStatusUpdated__e";
/// The id of that schema: the MD5 of its canonical form, in base64 for URLs.
pub(crate) const OTHER_SCHEMA_ID: &str = "WpC7mC-LpgbvknVsU8LNRQ";

/// The Avro record of order number `number`.
pub(crate) fn payload(number: usize) -> Vec<u8> {
    named_payload(&format!("A-{number}"))
}

/// The Avro record of an order with a name so long that it has `len` bytes in all.
pub(crate) fn payload_of(len: usize) -> Vec<u8> {
    // The length before the name takes one to four bytes.
    let unnamed = named_payload("").len() - 1;
    let mut payloads =
        (1..=4).map(|prefix| named_payload(&"x".repeat(len.saturating_sub(unnamed + prefix))));
    payloads
        .find(|payload| payload.len() == len)
        .expect("a name of some length fits")
}

fn named_payload(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + name.len());
    put_long(1_700_000_000_000, &mut bytes);
    put_text("005000000000001AAA", &mut bytes);
    // Each nullable field begins with the branch of its union: 1, as zigzag 2, is the value.
    bytes.push(2);
    put_text(name, &mut bytes);
    bytes.push(2);
    bytes.extend(42.5f64.to_le_bytes());
    bytes.push(0);
    bytes
}

/// A record of [`OTHER_TOPIC`], with nothing in its nullable fields.
pub(crate) fn other_payload() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_long(1_700_000_000_000, &mut bytes);
    put_text("005000000000001AAA", &mut bytes);
    bytes.extend([0, 0, 0]);
    bytes
}

/// Order number `number` as an event that says so in its id too.
pub(crate) fn event(number: usize) -> ProducerEvent {
    ProducerEvent {
        id: format!("order-{number}"),
        schema_id: SCHEMA_ID.to_owned(),
        payload: payload(number),
        headers: Vec::new(),
    }
}

/// Orders with these numbers.
pub(crate) fn events(numbers: impl IntoIterator<Item = usize>) -> Vec<ProducerEvent> {
    numbers.into_iter().map(event).collect()
}

fn put_long(value: i64, bytes: &mut Vec<u8>) {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    prost::encoding::encode_varint(zigzag, bytes);
}

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    put_long(text.len() as i64, bytes);
    bytes.extend(text.as_bytes());
}

#[test]
fn the_payload_is_the_vector_of_the_wire_specification() {
    let hex: String = payload(17)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "80a0abfef962243030353030303030303030303030314141410208412d3137020000000000404540\
         00"
    );
}
