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

/// The amount of orders that are told apart by their names.
const AMOUNT: f64 = 42.5;

/// The Avro record of order number `number`.
pub(crate) fn payload(number: usize) -> Vec<u8> {
    named_payload(&format!("A-{number}"), AMOUNT)
}

/// The Avro record of an order with a name so long that it has `len` bytes in all.
pub(crate) fn payload_of(len: usize) -> Vec<u8> {
    // The length before the name takes one to four bytes.
    let unnamed = named_payload("", AMOUNT).len() - 1;
    let mut payloads = (1..=4).map(|prefix| {
        let name = "x".repeat(len.saturating_sub(unnamed + prefix));
        named_payload(&name, AMOUNT)
    });
    payloads
        .find(|payload| payload.len() == len)
        .expect("a name of some length fits")
}

/// The Avro record of the order `name` with this amount.
pub(crate) fn named_payload(name: &str, amount: f64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + name.len());
    put_long(1_700_000_000_000, &mut bytes);
    put_text("005000000000001AAA", &mut bytes);
    // Each nullable field begins with the branch of its union: 1, as zigzag 2, is the value.
    bytes.push(2);
    put_text(name, &mut bytes);
    bytes.push(2);
    bytes.extend(amount.to_le_bytes());
    bytes.push(0);
    bytes
}

/// The name and the amount in a record of [`named_payload`].
pub(crate) fn name_and_amount(payload: &[u8]) -> (&str, f64) {
    let empty = named_payload("", AMOUNT).len();
    let amount_at = payload.len() - 1 - size_of::<f64>();
    let amount = payload[amount_at..].first_chunk().expect("eight bytes");
    // The length before a name of less than 64 bytes takes one byte, as that of none does.
    let name_len = payload.len() - empty;
    let name = &payload[amount_at - 1 - name_len..amount_at - 1];
    let name = std::str::from_utf8(name).expect("a name is UTF-8");
    (name, f64::from_le_bytes(*amount))
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

#[test]
fn a_name_and_an_amount_are_read_back() {
    let payload = named_payload("K-7", 19.0);
    assert_eq!(name_and_amount(&payload), ("K-7", 19.0));
}
