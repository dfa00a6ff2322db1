//! What the machine does by itself, to judge the other figures by.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::error::BenchError;

/// How long a write and `fdatasync` take.
#[derive(Clone, Copy, Debug)]
pub struct SyncTimes {
    /// Half of them take longer.
    pub median: Duration,
    /// One of a hundred takes longer.
    pub p99: Duration,
}

/// Writes and syncs 64 KiB at the end of a file in `dir` again and again: what a small group costs
/// the log.
///
/// # Errors
///
/// If the file cannot be made or written.
pub fn sync(dir: &Path) -> Result<SyncTimes, BenchError> {
    let failed = || BenchError::io("cannot measure the disk");
    let mut file = tempfile::tempfile_in(dir).map_err(failed())?;
    let bytes = [7; SYNC_BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        let synced = file.write_all(&bytes).and_then(|()| File::sync_data(&file));
        synced.map_err(failed())?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(SyncTimes {
        median: times[SYNCS / 2],
        p99: times[SYNCS * 99 / 100],
    })
}

/// The median time of 200 bytes to another task of this process over loopback and back: what each
/// answer waits for besides the gateway.
///
/// # Errors
///
/// If loopback cannot be used.
pub async fn echo() -> Result<Duration, BenchError> {
    let measured = async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let client = TcpStream::connect(listener.local_addr()?);
        let (client, server) = tokio::join!(client, listener.accept());
        let (mut client, (mut server, _)) = (client?, server?);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut bytes = [0; ECHO_BYTES];
            while server.read_exact(&mut bytes).await.is_ok()
                && server.write_all(&bytes).await.is_ok()
            {}
        });
        let mut bytes = [7; ECHO_BYTES];
        let mut times = Vec::with_capacity(ECHOES);
        for _ in 0..ECHOES {
            let start = Instant::now();
            client.write_all(&bytes).await?;
            client.read_exact(&mut bytes).await?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[ECHOES / 2])
    };
    measured
        .await
        .map_err(BenchError::io("cannot measure loopback"))
}

const SYNC_BYTES: usize = 64 * 1024;
/// Enough for a median, and less than two seconds on a slow disk.
const SYNCS: usize = 200;
const ECHO_BYTES: usize = 200;
const ECHOES: usize = 5_000;
