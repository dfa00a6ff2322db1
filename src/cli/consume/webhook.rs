//! Posting each event to a URL.
//!
//! The request is that of Standard Webhooks, so that there is a library to check it in every language:
//! headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, the last a keyed hash over the
//! other two and the body. The id is the event's, the same however often it is posted.
//!
//! Source: the public specification Standard Webhooks 1.0.0, "Webhook metadata" and "Signature scheme".

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use super::EventLine;
use crate::{
    cli::{
        exit::Failure,
        sign_in::{proxy_of, text_variable},
    },
    client::{dial::is_loopback, http::HttpClient},
    clock::{Clock, SystemClock},
    net::whole_file,
    subscriber::{Attempt, Event, Outcome},
};

/// The options of posting events.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Program")]
pub(in crate::cli) struct WebhookArgs {
    /// Post each event as JSON to this URL; it is done with any 2xx, never will be with 400, 404, 410,
    /// 413, 415 or 422, and is posted again otherwise
    #[arg(long, value_name = "URL", conflicts_with = "exec")]
    webhook: Option<String>,
    /// Sign what is posted with the secret in this file, whsec_ and base64 as in Standard Webhooks
    /// [env: TIDEGATE_WEBHOOK_SECRET has the secret itself]
    #[arg(long, value_name = "FILE", requires = "webhook")]
    webhook_secret_file: Option<PathBuf>,
    /// Trust the certificate authority in this file, instead of those that browsers trust
    #[arg(long, value_name = "FILE", requires = "webhook")]
    webhook_ca: Option<PathBuf>,
}

/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret, as the specification bounds them.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a file with one, generously.
const SECRET_FILE_BYTES_MAX: u64 = 4 * 1024;
/// Characters of an answer that are shown as a reason.
const REASON_CHARS_MAX: usize = 300;

impl WebhookArgs {
    /// What posts events; `None` if there is no URL.
    pub(super) fn open(&self, timeout: Duration) -> Result<Option<Webhook>, Failure> {
        let Some(url) = &self.webhook else {
            return Ok(None);
        };
        let wrong =
            || Failure::Usage("a webhook is a URL such as https://example.com/events".into());
        let to: Uri = url.parse().map_err(|_| wrong())?;
        let authority = to.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(Failure::Usage(
                "a webhook's URL holds no user and password; what is posted can be signed instead"
                    .into(),
            ));
        }
        if to.host().is_none() || !matches!(to.scheme_str(), Some("http" | "https")) {
            return Err(wrong());
        }
        let secret = match &self.webhook_secret_file {
            Some(path) => Some(read_secret(path)?),
            None => text_variable(&|name| std::env::var_os(name), "TIDEGATE_WEBHOOK_SECRET")?,
        };
        let proxy = match is_loopback(&to) {
            true => None,
            false => proxy_of(None, &|name| std::env::var_os(name))?,
        };
        Ok(Some(Webhook {
            http: HttpClient::trusting(self.webhook_ca.clone(), proxy, timeout)?,
            to,
            key: secret.as_deref().map(key_of).transpose()?,
            clock: Box::new(SystemClock),
        }))
    }
}

fn read_secret(path: &Path) -> Result<String, Failure> {
    let refused = |reason: String| Failure::Usage(format!("the file {}: {reason}", path.display()));
    let bytes = whole_file::read(path, SECRET_FILE_BYTES_MAX);
    let bytes = bytes.map_err(|error| refused(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8".into()))
}

fn key_of(secret: &str) -> Result<hmac::Key, Failure> {
    let base64 = secret.trim().strip_prefix(SECRET_PREFIX);
    let bytes = base64.and_then(|base64| STANDARD.decode(base64).ok());
    let bytes = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len()));
    let bytes = bytes.ok_or_else(|| {
        Failure::Usage(format!(
            "a webhook's secret is {SECRET_PREFIX} and {} to {} bytes in base64",
            SECRET_BYTES.start(),
            SECRET_BYTES.end()
        ))
    })?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// A URL that handles events.
#[derive(Debug)]
pub(in crate::cli) struct Webhook {
    http: HttpClient,
    to: Uri,
    key: Option<hmac::Key>,
    clock: Box<dyn Clock>,
}

impl Webhook {
    /// Posts an event.
    pub(super) async fn handle(&self, event: &Arc<Event>, attempt: Attempt) -> Outcome {
        let (line, _) = EventLine::of(event);
        let body = serde_json::to_vec(&line).expect("lines have text keys");
        let headers = self.headers(event, attempt, &body);
        let posted = self
            .http
            .call_for_status(Method::POST, &self.to, headers, Bytes::from(body));
        let answer = match posted.await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Retry(error.to_string()),
        };
        if answer.status.is_success() {
            return Outcome::Done;
        }
        let said = String::from_utf8_lossy(&answer.body);
        let said: String = said.trim().chars().take(REASON_CHARS_MAX).collect();
        let reason = match said.is_empty() {
            true => format!("it answered {}", answer.status),
            false => format!("it answered {}: {said}", answer.status),
        };
        match is_final(answer.status) {
            true => Outcome::Park(reason),
            false => Outcome::Retry(reason),
        }
    }

    fn headers(&self, event: &Event, attempt: Attempt, body: &[u8]) -> HeaderMap {
        let id = match event.id() {
            "" => event.replay_id().to_string(),
            id => id.to_owned(),
        };
        let seconds = (self.clock.now().as_millis() / 1_000).to_string();
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let mut insert = |name: &'static str, value: &str| {
            // An id is its publisher's, and may hold what no header can.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if let Some(key) = &self.key {
            let signed = [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat();
            let tag = hmac::sign(key, &signed);
            insert("webhook-signature", &format!("v1,{}", STANDARD.encode(tag)));
        }
        insert("webhook-id", &id);
        insert("webhook-timestamp", &seconds);
        insert("tidegate-replay-id", &event.replay_id().to_string());
        insert("tidegate-topic", event.topic().as_str());
        insert("tidegate-attempt", &attempt.number.to_string());
        headers
    }
}

/// Whether no further post will help. What is not here may be a proxy's, or a deployment's, and pass.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::NOT_FOUND
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_as_the_specification_has_it() {
        // The example of the specification.
        let key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signed = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        let tag = hmac::sign(&key, signed);
        assert_eq!(
            STANDARD.encode(tag),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        for secret in ["", "whsec_", "whsec_!", "secret", "whsec_c2hvcnQ="] {
            let failure = key_of(secret).unwrap_err();
            assert!(failure.to_string().contains("whsec_"));
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in ["", "example.com", "ftp://x", "/path"] {
            let args = WebhookArgs {
                webhook: Some(url.into()),
                ..WebhookArgs::default()
            };
            assert!(args.open(Duration::from_secs(1)).is_err(), "{url}");
        }
    }
}
