use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::task::JoinSet;

use super::{
    error::BenchError, in_time, load::EventTemplate, publish::check_results, reader::ClientKind,
    target::Target,
};

/// Calls of `Publish` with one event each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnaryLoad {
    /// Calls of one run.
    pub calls: u64,
    /// Calls that are under way at the same time, on one connection.
    pub in_flight: usize,
    /// Bytes of one payload, as near as the encoding allows, never more.
    pub payload_bytes: usize,
}

/// Makes the calls, and returns how many were answered per second.
///
/// # Errors
///
/// If one is refused or not answered.
pub async fn unary(target: &Target, load: &UnaryLoad) -> Result<f64, BenchError> {
    let request = EventTemplate::new(0, load.payload_bytes)?.request(1, 0.0)?;
    let connection = target.connect(ClientKind::Own).await?;
    let left = Arc::new(AtomicU64::new(load.calls));
    let start = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..load.in_flight {
        let (mut client, request) = (connection.pub_sub(), request.clone());
        let left = Arc::clone(&left);
        running.spawn(async move {
            let take = |left: u64| left.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
            {
                let answer = in_time(client.publish(request.clone())).await?;
                let found = check_results(&answer.into_inner())?;
                if found != 1 {
                    return Err(BenchError::Miscounted {
                        what: "answered",
                        found,
                        wanted: 1,
                    });
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a caller of the bench does not panic")?;
    }
    Ok(load.calls as f64 / start.elapsed().as_secs_f64())
}
