//! A child process that does not outlive whoever waits for it, and takes with it what it started.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// A child in a process group of its own, which is killed when this is dropped, unless the child was
/// waited for. What the child leaves behind then is its own business.
///
/// A group of its own also means that an interruption of this program from the terminal does not reach
/// it.
#[derive(Debug)]
pub struct ChildGroup(pub Child);

impl ChildGroup {
    /// Starts a command.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let command = command.process_group(0).kill_on_drop(true);
        command.spawn().map(Self)
    }
}

impl Drop for ChildGroup {
    fn drop(&mut self) {
        // Without an id it was waited for, and the id may be another's by now.
        let id = self
            .0
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            // One that is gone already is what is wanted.
            _ = kill_process_group(id, Signal::KILL);
        }
    }
}
