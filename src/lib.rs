//! Tidegate: a self-hosted, durable event bus that speaks the Salesforce Pub/Sub API.

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "server")]
pub mod event_log;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod metadata;
pub mod net;
pub mod proto;
pub mod schema;
#[cfg(feature = "server")]
pub mod server;
pub mod telemetry;
pub mod types;
