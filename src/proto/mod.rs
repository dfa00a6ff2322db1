//! The wire contracts: what `build.rs` generates from `proto/`, untouched, and the few messages
//! that are written by hand because they are on the way of an event.
//!
//! Only the edges and the client side name these types; they convert at the rim.

pub mod codec;
pub mod raw;

/// Descriptors of every service, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// An extension, as call metadata: how much credit a subscriber would like to be able to have, and in
/// the response's headers how much it may.
pub const CREDIT_MAX_METADATA: &str = "tidegate-credit-max";

/// An extension, as call metadata: a filter in percent-encoded UTF-8 that events have to match.
pub const FILTER_METADATA: &str = "tidegate-filter";

/// An extension, as call metadata: the time that a subscription starts at which names no replay id, and
/// in the response's headers `1`, if that is understood.
pub const FROM_METADATA: &str = "tidegate-from";

/// An extension of ManagedSubscribe, as call metadata: whoever sends it is told in the response's headers
/// among how many streams the subscription is shared, in decimal; of one that is for a single stream there
/// is none. The headers come after the first request then.
pub const SHARING_METADATA: &str = "tidegate-sharing";

mod generated {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

    tonic::include_proto!("eventbus.v1");
}

pub use generated::*;

/// The admin service.
pub mod admin {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

    tonic::include_proto!("tidegate.admin.v1");
}
