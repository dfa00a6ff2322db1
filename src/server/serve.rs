//! One task for each listener, serving until the gateway stops.

use std::{pin::pin, sync::Arc};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet, time::timeout};
use tonic::service::Routes;
use tower::ServiceExt;

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
    // With this future they end: a stop cuts off what is under way after its grace time by dropping it.
    let mut connections = JoinSet::new();
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
            Some(_) = connections.join_next() => continue,
            () = shutdown.recv() => break,
        };
        connection.keep_alive();
        let peer = Peer {
            address: connection.peer_addr().map(|addr| addr.ip()),
            is_tls,
        };
        let spoken = Arc::new(Notify::new());
        let service = {
            let (routes, spoken) = (routes.clone().layer(Extension(peer)), Arc::clone(&spoken));
            TowerToHyperService::new(routes.map_request(move |request| {
                spoken.notify_one();
                request
            }))
        };
        let serving = builder
            .serve_connection(TokioIo::new(connection), service)
            .into_owned();
        let serving = graceful.watch(serving);
        connections.spawn(async move {
            let mut serving = pin!(serving);
            // The time for a head begins only once it is known which version of HTTP is spoken.
            let ended = tokio::select! {
                ended = &mut serving => ended,
                first = timeout(HTTP_HEAD_TIMEOUT, spoken.notified()) => match first {
                    Ok(()) => serving.await,
                    Err(_) => {
                        tracing::debug!("no request came within {HTTP_HEAD_TIMEOUT:?}");
                        return;
                    }
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "an HTTP connection failed");
            }
        });
    }
    graceful.shutdown().await;
}

#[cfg(test)]
mod tests {
    use axum::{http::Request, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        task::JoinHandle,
        time::{Instant, sleep},
    };

    use super::*;
    use crate::net::shutdown::Shutdown;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_cut_off_with_the_listener() {
        let (mut client, shutdown, serving) = serve().await;
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        // The request is under way once the gateway waits for its answer alone.
        sleep(HTTP_HEAD_TIMEOUT / 2).await;
        shutdown.begin();
        sleep(HTTP_HEAD_TIMEOUT / 2).await;
        assert!(!serving.is_finished());
        serving.abort();
        let mut answer = Vec::new();
        let read = timeout(HTTP_HEAD_TIMEOUT / 4, client.read_to_end(&mut answer));
        _ = read.await.expect("the connection ends");
        assert_eq!(answer, b"");
    }

    /// A listener whose one answer takes longer than a head may.
    async fn serve() -> (TcpStream, Shutdown, JoinHandle<()>) {
        let slow = get(|_: Request<axum::body::Body>| async {
            sleep(HTTP_HEAD_TIMEOUT * 2).await;
            "late"
        });
        let routes = Router::new().route("/", slow);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = tcp.local_addr().unwrap();
        let (shutdown, signal) = Shutdown::new();
        let serving = tokio::spawn(http(routes, tcp, None, signal));
        (TcpStream::connect(addr).await.unwrap(), shutdown, serving)
    }

    /// What is answered to `sent`, until the connection ends.
    async fn answer(client: &mut TcpStream, sent: &str) -> String {
        client.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = client.read_to_string(&mut answer);
        // The system may say that it was reset, since not all of it was read.
        _ = timeout(HTTP_HEAD_TIMEOUT * 4, read).await.expect("an end");
        answer
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed_in_time() {
        for sent in [
            "",
            "PRI * HTTP/2.0\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\nhost:",
        ] {
            let (mut client, shutdown, serving) = serve().await;
            let before = Instant::now();
            answer(&mut client, sent).await;
            assert!(before.elapsed() <= HTTP_HEAD_TIMEOUT * 2, "{sent:?}");
            shutdown.begin();
            serving.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_began_is_answered_however_long_it_takes() {
        let (mut client, shutdown, serving) = serve().await;
        let request = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let answer = answer(&mut client, request).await;
        assert!(answer.ends_with("late"), "{answer}");
        shutdown.begin();
        serving.await.unwrap();
    }
}
