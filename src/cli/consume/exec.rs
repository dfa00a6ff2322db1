//! Running a command for each event.

use std::{process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, Command},
    time::timeout,
};

use super::EventLine;
use crate::{
    net::child_group::ChildGroup,
    subscriber::{Attempt, Event, Outcome},
};

/// The exit code that says that no further try will help: `EX_DATAERR` of `sysexits.h`.
const EXIT_PARK: i32 = 65;
/// How much of the end of what a command says on its standard error is kept as the reason.
const CAUSE_BYTES: usize = 1024;
/// How long what a command said is read after it ended: something that it left behind may keep its
/// standard error open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A command that handles events, one process for each.
#[derive(Debug)]
pub(in crate::cli) struct Exec {
    command: String,
}

impl Exec {
    pub(super) fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
        }
    }

    /// Runs the command. Its standard output and standard error are this program's.
    ///
    /// # Cancel safety
    ///
    /// After a drop the command is killed, with what it started.
    pub(super) async fn handle(&self, event: &Arc<Event>, attempt: Attempt) -> Outcome {
        let (line, _) = EventLine::of(event);
        let mut json = serde_json::to_vec(&line).expect("lines have text keys");
        json.push(b'\n');
        let mut command = Command::new("sh");
        command
            .args(["-c", &self.command])
            .env("TIDEGATE_REPLAY_ID", event.replay_id().to_string())
            .env("TIDEGATE_EVENT_ID", event.id())
            .env("TIDEGATE_TOPIC", event.topic().to_string())
            .env("TIDEGATE_ATTEMPT", attempt.number.to_string())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut group = match ChildGroup::spawn(&mut command) {
            Ok(group) => group,
            Err(error) => return Outcome::Retry(format!("the command cannot be run: {error}")),
        };
        let stdin = group.0.stdin.take();
        let stderr = group.0.stderr.take();
        let mut said = Vec::new();
        let status = {
            let telling = tell(stdin, &json);
            let listening = listen(stderr, &mut said);
            tokio::pin!(telling, listening);
            let mut is_told = false;
            let mut is_heard = false;
            let status = loop {
                tokio::select! {
                    status = group.0.wait() => break status,
                    () = &mut telling, if !is_told => is_told = true,
                    () = &mut listening, if !is_heard => is_heard = true,
                }
            };
            if !is_heard {
                _ = timeout(LAST_WORDS, &mut listening).await;
            }
            status
        };
        let words = String::from_utf8_lossy(&said).trim().to_owned();
        let with_words = |what: String| match words.is_empty() {
            true => what,
            false => format!("{what}: {words}"),
        };
        match status {
            Err(error) => Outcome::Retry(format!("the command cannot be waited for: {error}")),
            Ok(status) if status.success() => Outcome::Done,
            Ok(status) if status.code() == Some(EXIT_PARK) => {
                Outcome::Park(with_words(format!("the command ended with {EXIT_PARK}")))
            }
            Ok(status) => Outcome::Retry(with_words(format!("the command ended with {status}"))),
        }
    }
}

/// Gives the command the event. One that does not read it has its reasons.
async fn tell(stdin: Option<ChildStdin>, json: &[u8]) {
    if let Some(mut stdin) = stdin {
        _ = stdin.write_all(json).await;
    }
}

/// Passes on what the command says, and keeps the end of it.
async fn listen(stderr: Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else {
        return;
    };
    let mut chunk = [0; 4096];
    let mut own = tokio::io::stderr();
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        _ = own.write_all(&chunk[..read]).await;
        said.extend_from_slice(&chunk[..read]);
        let excess = said.len().saturating_sub(CAUSE_BYTES);
        said.drain(..excess);
    }
}
