//! A peer that speaks HTTP/2 frame by frame, to see what a library keeps to itself.
//!
//! Source: RFC 9113, sections 4.1 (frames), 6.5 (SETTINGS), 6.7 (PING) and 6.8 (GOAWAY).

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{gateway::Gateway, wait::within};

/// Frame types by their names in the RFC.
pub(crate) mod kind {
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
}

/// The flag that answers SETTINGS and PING.
pub(crate) const ACK: u8 = 1;

/// One frame of the gateway.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// A connection on which nothing is answered unless a test does.
pub(crate) struct Peer(TcpStream);

impl Peer {
    /// Connects to the plaintext listener and says that it speaks HTTP/2.
    pub(crate) async fn connect(gateway: &Gateway) -> Self {
        let tcp = within("connection", TcpStream::connect(&gateway.ready().grpc_addr)).await;
        let mut peer = Self(tcp.expect("the gateway accepts connections"));
        let preface = peer.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        preface.expect("the connection is open");
        peer.send(kind::SETTINGS, 0, &[]).await;
        peer
    }

    /// Sends a frame of the connection itself.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 0]);
        frame.extend(payload);
        let sent = self.0.write_all(&frame).await;
        sent.expect("the connection is open");
    }

    /// The next frame; `None` once the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        within("frame", async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; len as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some(Frame {
                kind: head[3],
                flags: head[4],
                payload,
            })
        })
        .await
    }
}
