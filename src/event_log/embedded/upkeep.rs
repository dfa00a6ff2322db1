//! The thread that does what no request waits for: allocates files ahead, seals and removes old
//! segments, and syncs where the configuration leaves that to a timer.

use std::{
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{store::Store, tenant::EmbeddedTenantLog};
use crate::{
    clock::Clock,
    event_log::{Config, Durability},
};

/// Work for the upkeep thread.
#[derive(Debug)]
pub(super) enum Chore {
    /// Allocate a file of this many bytes ahead.
    Spare(Weak<Store>, u64),
    /// End the thread.
    Stop,
}

/// Starts the thread, which ends at [`Chore::Stop`]. `open_logs` tells which logs are open.
pub(super) fn start(
    chores: mpsc::Receiver<Chore>,
    config: &Config,
    clock: Arc<dyn Clock>,
    open_logs: impl Fn() -> Vec<Arc<EmbeddedTenantLog>> + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    let tick = config.upkeep_interval;
    let sync = match config.durability {
        Durability::Sync => Duration::MAX,
        Durability::Os => config.sync_interval,
    };
    thread::Builder::new()
        .name("log-upkeep".into())
        .spawn(move || {
            let mut tick_at = Instant::now() + tick;
            loop {
                let wait = tick_at.saturating_duration_since(Instant::now()).min(sync);
                match chores.recv_timeout(wait) {
                    Ok(Chore::Spare(store, len)) => {
                        if let Some(store) = store.upgrade() {
                            store.make_spare(len);
                        }
                        continue;
                    }
                    Ok(Chore::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
                let now = Instant::now();
                let is_tick = now >= tick_at;
                for log in open_logs() {
                    match is_tick {
                        true => log.tick(clock.now(), now),
                        false => log.sync(),
                    }
                }
                if is_tick {
                    tick_at = now + tick;
                }
            }
        })
}
