//! Stopping: one signal that everything long-lived waits for.

use tokio::sync::watch;

/// The side that says when to stop.
#[derive(Debug)]
pub struct Shutdown(watch::Sender<bool>);

/// The side that waits for it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShutdownSignal(watch::Receiver<bool>);

impl Shutdown {
    /// A signal that was not given yet.
    pub fn new() -> (Self, ShutdownSignal) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), ShutdownSignal(receiver))
    }

    /// Tells everybody to stop. A second call does nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl ShutdownSignal {
    /// Waits until it is time to stop; returns at once if it was already. A [`Shutdown`] that was
    /// dropped counts as given.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: waiting changes nothing.
    pub async fn recv(&mut self) {
        _ = self.0.wait_for(|&begun| begun).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_told_early_and_late_comers_alike() {
        let (shutdown, mut early) = Shutdown::new();
        let waiting = tokio::spawn(async move { early.recv().await });
        let (_, mut dropped) = Shutdown::new();
        dropped.recv().await;
        let mut late = ShutdownSignal(shutdown.0.subscribe());
        shutdown.begin();
        waiting.await.unwrap();
        late.recv().await;
    }
}
