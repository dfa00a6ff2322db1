//! What the tests stand on: a real gateway, a client that can misbehave, and stock clients.

pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod http_client;
pub(crate) mod order;
pub(crate) mod random;
pub(crate) mod script;
pub(crate) mod wait;
pub(crate) mod webhook;
pub(crate) mod wire;
