//! How the gateway tells what it does: structured logs.
//!
//! Spans and events come from `tracing`, wherever something happens; this module decides what of
//! them is written and in which form. Metrics sit with the thing they measure, not here.

pub mod log;
#[cfg(test)]
pub(crate) mod written;
