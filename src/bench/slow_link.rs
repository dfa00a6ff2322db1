//! A way to the gateway that brings its answers back slowly.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{error::BenchError, target::Target};

/// A port of this machine that leads to a gateway until this is dropped.
#[derive(Debug)]
pub(super) struct SlowLink {
    pub(super) port: u16,
    carrying: JoinHandle<()>,
}

impl SlowLink {
    pub(super) async fn open(target: &Target) -> Result<Self, BenchError> {
        let failed = || BenchError::io("cannot open a slow link");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.map_err(failed())?;
        let port = listener.local_addr().map_err(failed())?.port();
        let address = target.address();
        let carrying = tokio::spawn(async move {
            // Whoever waits at an end of it learns that it broke.
            _ = carry(listener, address).await;
        });
        Ok(Self { port, carrying })
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(listener: TcpListener, address: (String, u16)) -> io::Result<()> {
    let (client, _) = listener.accept().await?;
    let gateway = TcpStream::connect(address).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let there = async {
        tokio::io::copy(&mut from_client, &mut to_gateway).await?;
        Ok::<_, io::Error>(())
    };
    let back = async {
        let mut bytes = [0; BYTES_PER_STEP];
        let mut carried = 0;
        loop {
            let read = from_gateway.read(&mut bytes).await?;
            if read == 0 {
                return Ok(());
            }
            to_client.write_all(&bytes[..read]).await?;
            carried += read;
            // The handshakes go at full speed, or the measurement would wait for them.
            if carried > BYTES_AT_ONCE {
                tokio::time::sleep(STEP).await;
            }
        }
    };
    tokio::try_join!(there, back).map(|_| ())
}

/// Bytes of handshakes and response headers, TLS included.
const BYTES_AT_ONCE: usize = 16 * 1024;
/// 1 KB/s.
const BYTES_PER_STEP: usize = 100;
const STEP: Duration = Duration::from_millis(100);
