//! Publishing, subscribing and reading schemas without gRPC, over plain HTTP, HTTPS and HTTP/2.

mod event_schema;
mod rest;
mod sse;
