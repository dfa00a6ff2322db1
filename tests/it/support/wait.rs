//! Waiting for a condition. No test waits for time to pass.

use std::{
    io::Read,
    process::{Child, Output},
    thread,
    time::{Duration, Instant},
};

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at a condition, so that looking costs nothing.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks `condition` until it has a value.
///
/// # Panics
///
/// When it has none within [`DEADLINE`], with `what` was waited for.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "no {what} within {DEADLINE:?}");
        thread::sleep(PAUSE);
    }
}

/// Asks `condition` until it is true.
///
/// # Panics
///
/// When it is not within [`DEADLINE`], with `what` was waited for.
pub(crate) async fn until_true(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !condition().await {
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

/// Awaits `future`.
///
/// # Panics
///
/// When it takes longer than [`DEADLINE`], with `what` was waited for.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(DEADLINE, future).await;
    outcome.unwrap_or_else(|_| panic!("no {what} within {DEADLINE:?}"))
}

/// What `child` wrote to its standard output, and how it ended.
///
/// # Panics
///
/// When it does not end within [`DEADLINE`]; it is killed then.
pub(crate) fn output(what: &str, child: Child) -> Output {
    let mut running = Killed(child);
    let stdout = running.0.stdout.take();
    // Read while it runs, or it would wait for somebody to read much that it writes.
    let reading = thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stdout) = stdout {
            stdout.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        bytes
    });
    let status = until(&format!("end of {what}"), || {
        running.0.try_wait().expect("a child can be waited for")
    });
    Output {
        status,
        stdout: reading.join().expect("the reader does not panic"),
        stderr: Vec::new(),
    }
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
