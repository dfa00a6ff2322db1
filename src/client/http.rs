//! A small HTTP client, for signing in and for whatever else is not gRPC.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::{
    dial::{Dialer, Proxy, TlsFiles},
    error::{ConnectError, first_cause},
};

/// Calls HTTP servers. Clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: Client<HttpsConnector<Dialer>, Full<Bytes>>,
    timeout: Duration,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer. Names where the call went, and nothing of what it carried.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{to}: {reason}")]
pub(crate) struct HttpError {
    to: String,
    reason: String,
}

/// Bytes of an answer. Ours: tokens and reasons take a few kilobytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long the text of an answer is waited for whose status is known. Ours: what is that late is no
/// reason, and not worth a connection that could be used again.
#[cfg(feature = "cli")]
const BEGINNING_WAIT_MAX: Duration = Duration::from_secs(1);

impl HttpClient {
    /// A client whose calls take at most `timeout`.
    pub(super) fn new(
        tls: &TlsFiles,
        proxy: Option<Proxy>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.http()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Dialer::new(proxy));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            timeout,
        })
    }

    /// A client that trusts the authority in `ca_file`, or without one those that browsers trust.
    #[cfg(feature = "cli")]
    pub(crate) fn trusting(
        ca_file: Option<std::path::PathBuf>,
        proxy: Option<Proxy>,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let tls = TlsFiles {
            ca_file,
            client_certificate: None,
        };
        Self::new(&tls, proxy, timeout)
    }

    /// Makes a call, and reads its answer.
    pub(crate) async fn call(
        &self,
        method: Method,
        to: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let calling = async {
            let response = self.request(method, to, headers, body).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| {
                HttpError::new(to, format!("its answer: {}", first_cause(&*error)))
            })?;
            Ok(Answer {
                status: parts.status,
                body: body.to_bytes(),
            })
        };
        self.in_time(to, calling).await
    }

    /// Makes a call of which the status is what matters: of what follows it as much is read as comes at
    /// once, and nothing that is wrong with it makes the call fail.
    #[cfg(feature = "cli")]
    pub(crate) async fn call_for_status(
        &self,
        method: Method,
        to: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, HttpError> {
        let calling = async {
            let response = self.request(method, to, headers, body).await?;
            let (parts, body) = response.into_parts();
            // Whoever waits for the call would give it up at its timeout, and with it the status.
            let wait = BEGINNING_WAIT_MAX.min(self.timeout / 10);
            Ok(Answer {
                status: parts.status,
                body: beginning_of(body, wait).await,
            })
        };
        self.in_time(to, calling).await
    }

    async fn request(
        &self,
        method: Method,
        to: &Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = to.clone();
        *request.headers_mut() = headers;
        let response = self.client.request(request).await;
        response.map_err(|error| HttpError::new(to, first_cause(&error)))
    }

    async fn in_time(
        &self,
        to: &Uri,
        calling: impl Future<Output = Result<Answer, HttpError>>,
    ) -> Result<Answer, HttpError> {
        let answered = tokio::time::timeout(self.timeout, calling).await;
        answered.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs_f32();
            Err(HttpError::new(to, format!("no answer within {seconds} s")))
        })
    }
}

impl HttpError {
    fn new(to: &Uri, reason: String) -> Self {
        Self {
            // Without user and query, which may hold what is nobody's business.
            to: format!(
                "{}://{}{}{}",
                to.scheme_str().unwrap_or_default(),
                to.host().unwrap_or_default(),
                to.port_u16()
                    .map_or_else(String::new, |port| format!(":{port}")),
                to.path()
            ),
            reason,
        }
    }
}

/// What of a body comes within `wait` and fits. The connection is closed if that is not all of it, and
/// used again if it is.
#[cfg(feature = "cli")]
async fn beginning_of(mut body: Incoming, wait: Duration) -> Bytes {
    let mut begun = Vec::new();
    let reading = async {
        while begun.len() < ANSWER_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                let room = ANSWER_BYTES_MAX - begun.len();
                begun.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
    };
    _ = tokio::time::timeout(wait, reading).await;
    begun.into()
}
