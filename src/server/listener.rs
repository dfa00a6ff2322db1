//! Accepting connections: bounded, with TLS handshakes off the accept loop.
//!
//! A peer that connects and does nothing, or fails its handshake, costs one place among a bounded
//! number and holds nobody else up.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::types::limits::{
    CONNECTIONS_MAX, TCP_KEEPALIVE_IDLE, TCP_KEEPALIVE_INTERVAL, TCP_KEEPALIVE_PROBES,
    TLS_HANDSHAKE_TIMEOUT, TLS_HANDSHAKES_MAX,
};

/// How long accepting pauses after the system refused, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket, with TLS on it or without.
pub(super) struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    handshakes: JoinSet<Option<Connection>>,
    places: Arc<Semaphore>,
}

impl Listener {
    /// Takes connections from `tcp`.
    pub(super) fn new(tcp: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Self {
            tcp,
            tls: tls.map(TlsAcceptor::from),
            handshakes: JoinSet::new(),
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }

    /// The connections, as they become ready to be spoken on. Never ends.
    pub(super) fn connections(self) -> impl Stream<Item = Result<Connection, io::Error>> {
        stream::unfold(self, |mut listener| async {
            let connection = listener.accept().await;
            Some((Ok(connection), listener))
        })
    }

    /// Waits for the next connection that is ready to be spoken on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection that was accepted from the system is closed at worst.
    pub(super) async fn accept(&mut self) -> Connection {
        loop {
            let may_accept = self.handshakes.len() < TLS_HANDSHAKES_MAX;
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = finished {
                        return connection;
                    }
                }
                (tcp, place) = accept_tcp(&self.tcp, &self.places), if may_accept => {
                    let Some(tls) = &self.tls else {
                        return Connection { io: Io::Plain(tcp), _place: place };
                    };
                    self.handshakes.spawn(handshake(tls.clone(), tcp, place));
                }
            }
        }
    }
}

async fn accept_tcp(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => {
                // Without it small responses wait for the peer's delayed acknowledgement.
                _ = tcp.set_nodelay(true);
                return (tcp, place);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn handshake(
    tls: TlsAcceptor,
    tcp: TcpStream,
    place: OwnedSemaphorePermit,
) -> Option<Connection> {
    match timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(tcp)).await {
        Ok(Ok(stream)) => Some(Connection {
            io: Io::Tls(Box::new(stream)),
            _place: place,
        }),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake was not finished within {TLS_HANDSHAKE_TIMEOUT:?}");
            None
        }
    }
}

/// A connection from a peer.
pub(super) struct Connection {
    io: Io,
    /// Gives the connection's place back when it is closed.
    _place: OwnedSemaphorePermit,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Has the system find out when the other side is gone that nothing is sent to for a while.
    ///
    /// For streams that are mostly quiet. While something is on its way, the system gives up by
    /// itself after a quarter of an hour; a shorter time would end a client that reads slowly, too.
    pub(super) fn keep_alive(&self) {
        let tcp = self.tcp();
        let set = sockopt::set_socket_keepalive(tcp, true)
            .and_then(|()| sockopt::set_tcp_keepidle(tcp, TCP_KEEPALIVE_IDLE))
            .and_then(|()| sockopt::set_tcp_keepintvl(tcp, TCP_KEEPALIVE_INTERVAL))
            .and_then(|()| sockopt::set_tcp_keepcnt(tcp, TCP_KEEPALIVE_PROBES));
        if let Err(error) = set {
            tracing::debug!(%error, "a connection that is lost will be noticed late");
        }
    }

    /// The address of the other side, if the socket is still connected.
    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.tcp().peer_addr().ok()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.tcp().local_addr().ok(),
            remote_addr: self.peer_addr(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(context, buf),
            Io::Tls(tls) => Pin::new(tls).poll_read(context, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(context, buf),
            Io::Tls(tls) => Pin::new(tls).poll_write(context, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Io::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, bufs),
            Io::Tls(tls) => Pin::new(tls).poll_write_vectored(context, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(tcp) => tcp.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_quiet_connection_is_asked_whether_it_is_still_there() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(tcp.local_addr().unwrap()).await.unwrap();
        let connection = Listener::new(tcp, None).accept().await;
        let tcp = connection.tcp();
        assert_eq!(sockopt::socket_keepalive(tcp), Ok(false));
        connection.keep_alive();
        assert_eq!(sockopt::socket_keepalive(tcp), Ok(true));
        assert_eq!(sockopt::tcp_keepidle(tcp), Ok(TCP_KEEPALIVE_IDLE));
        assert_eq!(sockopt::tcp_keepintvl(tcp), Ok(TCP_KEEPALIVE_INTERVAL));
        assert_eq!(sockopt::tcp_keepcnt(tcp), Ok(TCP_KEEPALIVE_PROBES));
        drop(peer);
    }
}
