//! HTTP/2 and tower layers under the gRPC services, each with its reason.

use std::time::Duration;

use tonic::{codec::CompressionEncoding, service::Routes, transport::Server};
use tower::layer::util::{Identity, Stack};

use crate::{
    admin::Admin,
    grpc::{self, CallLayer, PubSub},
    proto::{DESCRIPTORS, admin::admin_server::AdminServer, pub_sub_server::PubSubServer},
    types::limits,
};

/// Settings of HTTP/2 under gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// RPC streams of one connection.
    pub streams_per_connection_max: u32,
    /// Interval of the server's PINGs.
    pub ping_interval: Duration,
    /// How long a PING may stay unanswered before its connection is closed.
    pub ping_timeout: Duration,
    /// Largest request, in bytes.
    pub request_bytes_max: usize,
    /// Whether responses are compressed for clients that accept it.
    pub response_compression: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            streams_per_connection_max: limits::STREAMS_PER_CONNECTION_MAX,
            ping_interval: limits::PING_INTERVAL,
            ping_timeout: limits::PING_TIMEOUT,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            response_compression: false,
        }
    }
}

/// An HTTP/2 server with this gateway's layers.
pub(super) type Http2 = Server<Stack<CallLayer, Identity>>;

/// The HTTP/2 server that every gRPC listener runs.
pub(super) fn http2(config: &Config, metrics: grpc::Metrics) -> Http2 {
    Server::builder()
        .max_concurrent_streams(config.streams_per_connection_max)
        // A peer that vanished without a word is found within interval and timeout.
        .http2_keepalive_interval(Some(config.ping_interval))
        .http2_keepalive_timeout(Some(config.ping_timeout))
        // One whole request fits into a stream's window; smaller ones cost round trips.
        .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::HTTP2_FRAME_BYTES_MAX)
        .http2_max_header_list_size(limits::HEADER_LIST_BYTES_MAX)
        // Outermost, so that it also sees what the RPC library refuses by itself.
        .layer(CallLayer::new(metrics))
}

/// Every gRPC service of the gateway.
pub(super) async fn services(config: &Config, pub_sub: PubSub, admin: Admin) -> Routes {
    let compression = config
        .response_compression
        .then_some(CompressionEncoding::Gzip);
    let mut pub_sub = PubSubServer::new(pub_sub)
        .max_decoding_message_size(config.request_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip);
    if let Some(encoding) = compression {
        pub_sub = pub_sub.send_compressed(encoding);
    }
    let admin = AdminServer::new(admin)
        .max_decoding_message_size(config.request_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled with this program");
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<PubSubServer<PubSub>>().await;
    let mut routes = Routes::builder();
    routes
        .add_service(pub_sub)
        .add_service(admin)
        .add_service(health_service)
        .add_service(reflection);
    routes.routes()
}
