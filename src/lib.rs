//! Tidegate: a self-hosted, durable event bus that speaks the Salesforce Pub/Sub API.
//!
//! Publishers send Avro events over gRPC (`eventbus.v1.PubSub`). The gateway validates each one,
//! writes it to a log on the local disk, syncs, and only then acknowledges it. Subscribers read the
//! topic from its earliest event, its latest, or any stored replay id, as fast as they ask for.
//! Clients of the hosted service work against it unchanged.
//!
//! # Layers
//!
//! A module uses modules on lower layers; `tests/tidy` reads the source and holds it to that.
//!
//! | layer | modules | what they are about |
//! |---|---|---|
//! | 6 entry | `main`, [`cli`], [`config`] | arguments, environment, files of settings |
//! | 5 assembly | [`server`], [`mod@bench`] | the gateway put together, sockets, TLS, start and stop; load for one |
//! | 4 edges | [`grpc`], [`http`], [`admin`] | wire messages, statuses, metrics and health |
//! | 3 domain | [`broker`] | topics, rights, publishing, subscriptions |
//! | 2 engines | [`event_log`], [`metadata`], [`schema`], [`filter`], [`auth`] | one subject each |
//! | 1 services | [`net`], [`telemetry`] | certificates, shutdown, the profile, log lines |
//! | 0 vocabulary | [`types`], [`clock`], [`proto`] | names, ids, positions, bounds, wall time |
//! | aside | [`client`], [`publisher`], [`subscriber`] | connecting to a gateway, publishing to it, never losing one's place; works without the server |
//!
//! # Features
//!
//! All but the last are on by default; each adds modules and changes nothing else.
//!
//! | feature | adds |
//! |---|---|
//! | `server` | the gateway: layers 2 to 5 |
//! | `client` | [`client`], [`publisher`], [`subscriber`] |
//! | `cli` | the program: [`cli`], [`config`] and [`mod@bench`]; needs both others |
//! | `test-util` | suites that every backend is held to, for this package's own tests |
//!
//! # Where to begin
//!
//! [`manual::architecture`] follows an event from a publisher to every subscriber. In the code, the
//! same way is [`grpc`], [`broker::Broker`], [`event_log::TenantLog`]: read their headers in this
//! order. What the process may use at most stands in [`types::limits`]; what a crash leaves behind,
//! in [`manual::durability`].

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "cli")]
pub mod bench;
#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "server")]
pub mod event_log;
#[cfg(feature = "server")]
pub mod filter;
#[cfg(feature = "server")]
pub mod grpc;
#[cfg(feature = "server")]
pub mod http;
pub mod manual;
#[cfg(feature = "server")]
pub mod metadata;
pub mod net;
pub mod proto;
#[cfg(feature = "client")]
pub mod publisher;
pub mod schema;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "client")]
pub mod subscriber;
pub mod telemetry;
pub mod types;
