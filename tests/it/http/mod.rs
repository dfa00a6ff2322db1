//! Publishing and subscribing without gRPC, over plain HTTP, HTTPS and HTTP/2.

mod rest;
mod sse;
