//! The gateway as its clients meet it: the real binary, on ports of its own, over the real wire.
//!
//! `wire` asks what every kind of request gets, good and bad, and `http` does without gRPC; `stock`
//! lets clients of other languages do their work, `cli` and `bench` the commands and `story` the
//! example; `durability` ends the process at bad moments; `start` holds it to refuse what it cannot
//! work with, and `files` to what it writes; `channels` subscribes to several topics as one; `publish` kills processes while files are published, and
//! `subscriber` while they are read; `managed` reads through managed subscriptions; `removal` is what
//! administrators have removed, `idempotence` publishes everything again, and `schemas` what authors of schemas do; `sign_in`, how clients
//! come by their access tokens.

mod bench;
mod channels;
mod cli;
mod doctor;
mod durability;
mod files;
mod hosted;
mod http;
mod idempotence;
mod managed;
mod publish;
mod removal;
mod schemas;
mod sign_in;
mod start;
mod stock;
mod story;
mod subscriber;
mod support;
mod wire;
