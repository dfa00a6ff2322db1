//! One task for each listener, serving until the gateway stops.

use std::sync::Arc;

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tonic::service::Routes;

use super::{listener::Listener, stack::Http2};
use crate::{
    http::Peer,
    net::shutdown::ShutdownSignal,
    types::limits::{HTTP_HEAD_TIMEOUT, PING_INTERVAL, PING_TIMEOUT},
};

/// Serves gRPC on `tcp` until `shutdown` begins and every call has ended.
pub(super) async fn grpc(
    mut http2: Http2,
    services: Routes,
    tcp: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    mut shutdown: ShutdownSignal,
) {
    let connections = Listener::new(tcp, tls).connections();
    let serving = http2.add_routes(services);
    let signal = async move { shutdown.recv().await };
    if let Err(error) = serving
        .serve_with_incoming_shutdown(connections, signal)
        .await
    {
        tracing::error!(%error, "a gRPC listener failed");
    }
}

/// Serves HTTP on `tcp` until `shutdown` begins and every request has been answered.
pub(super) async fn http(
    routes: Router,
    tcp: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    mut shutdown: ShutdownSignal,
) {
    let is_tls = tls.is_some();
    let mut listener = Listener::new(tcp, tls);
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        // As over gRPC; HTTP/1 has no such thing and leaves it to TCP.
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    loop {
        let connection = tokio::select! {
            connection = listener.accept() => connection,
            () = shutdown.recv() => break,
        };
        connection.keep_alive();
        let peer = Peer {
            address: connection.peer_addr().map(|addr| addr.ip()),
            is_tls,
        };
        let service = TowerToHyperService::new(routes.clone().layer(Extension(peer)));
        let serving = builder
            .serve_connection(TokioIo::new(connection), service)
            .into_owned();
        let serving = graceful.watch(serving);
        // Owned by `graceful`, which waits for it below.
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, "an HTTP connection failed");
            }
        });
    }
    graceful.shutdown().await;
}
