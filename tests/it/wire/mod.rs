//! What every kind of request gets, good and bad, by a client that checks each status, error code
//! and trailer.
//!
//! Source: the public Pub/Sub API Developer Guide, "Handle Errors", and the gRPC specification for
//! what the transport decides.

mod connection;
mod credentials;
mod http;
mod log;
mod lookup;
mod peers;
mod publish;
mod publish_stream;
mod replay;
mod shutdown;
mod subscribe;
mod transport;
