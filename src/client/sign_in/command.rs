//! A command that prints a token.

use std::{process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

use super::{SignInError, Token};
use crate::net::child_group::ChildGroup;

/// How long it may take. Somebody may have to touch a key, or a server to answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes that it may print.
const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// What it may print, if not the token alone. The names are those of the token endpoint.
#[derive(Deserialize)]
struct Printed {
    access_token: String,
    instance_url: Option<String>,
    tenant_id: Option<String>,
    id: Option<String>,
}

/// Runs the command. Its standard error is this program's.
///
/// # Cancel safety
///
/// The command is killed, with what it started.
pub(super) async fn run(command: &str) -> Result<Token, SignInError> {
    let failed = |reason: String| SignInError::Command(reason);
    let mut shell = Command::new("sh");
    shell.args(["-c", command]);
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    let spawned = ChildGroup::spawn(&mut shell);
    let mut group = spawned.map_err(|error| failed(format!("cannot be run: {error}")))?;
    let mut output = Vec::new();
    let running = async {
        if let Some(stdout) = group.0.stdout.take() {
            let mut bounded = stdout.take(OUTPUT_BYTES_MAX + 1);
            bounded.read_to_end(&mut output).await?;
        }
        if output.len() as u64 > OUTPUT_BYTES_MAX {
            return Ok(None);
        }
        group.0.wait().await.map(Some)
    };
    let ended = timeout(TIMEOUT, running).await;
    let ended = ended.map_err(|_| failed(format!("took longer than {} s", TIMEOUT.as_secs())))?;
    let status = ended.map_err(|error| failed(format!("cannot be heard: {error}")))?;
    match status {
        None => Err(failed(format!(
            "printed more than {OUTPUT_BYTES_MAX} bytes"
        ))),
        Some(status) if !status.success() => Err(failed(format!("ended with {status}"))),
        Some(_) => parse(&output),
    }
}

fn parse(output: &[u8]) -> Result<Token, SignInError> {
    let failed = |reason: &str| SignInError::Command(reason.to_owned());
    let text = std::str::from_utf8(output).map_err(|_| failed("printed what is not UTF-8"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(failed("printed nothing, wanted a token"));
    }
    if text.starts_with('{') {
        let printed: Printed = serde_json::from_str(text)
            // The parser's own words may quote what was printed.
            .map_err(|_| failed("printed JSON without an access_token"))?;
        let tenant_id = printed.tenant_id;
        return Ok(Token {
            access_token: printed.access_token,
            instance_url: printed.instance_url,
            tenant_id: tenant_id.or_else(|| super::oauth::tenant_of_id(&printed.id?)),
        });
    }
    if text.contains(char::is_whitespace) {
        return Err(failed("printed more than one word, wanted a token"));
    }
    Ok(Token {
        access_token: text.to_owned(),
        ..Token::default()
    })
}
