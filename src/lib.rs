//! Tidegate: a self-hosted, durable event bus that speaks the Salesforce Pub/Sub API.

pub mod clock;
pub mod proto;
pub mod types;
