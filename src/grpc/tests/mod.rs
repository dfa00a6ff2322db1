//! The edge held to what existing clients count on, over a gateway in memory and a paused clock.

mod change_events;
mod channels;
mod evolution;
mod filter;
mod from_time;
mod gateway;
mod lookup;
mod managed;
mod metrics;
mod publish;
mod publish_stream;
mod refusals;
mod revocation;
mod status;
mod subscribe;
mod subscribe_refusals;
mod subscribe_time;
