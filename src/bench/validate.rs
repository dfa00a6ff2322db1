use std::{hint::black_box, time::Instant};

use super::load::{EventTemplate, LoadError, schema};
use crate::schema::Schema;

/// Nanoseconds that this process takes to check one payload of the load against its schema, on
/// average over `events` of them.
///
/// # Errors
///
/// [`LoadError`]: there is no such payload.
pub fn validate(payload_bytes: usize, events: u64) -> Result<f64, LoadError> {
    let payload = EventTemplate::new(0, payload_bytes)?.payload();
    let schema = Schema::parse(&schema(0)).expect("the schema of the load is one");
    let start = Instant::now();
    for _ in 0..events {
        let valid = schema.validate(black_box(&payload));
        black_box(valid).expect("the payload is made by the schema");
    }
    Ok(start.elapsed().as_nanos() as f64 / events as f64)
}
