//! A small HTTP client, for signing in and for whatever else is not gRPC.

use std::{error::Error, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::{
    dial::{Dialer, Proxy, TlsFiles},
    error::ConnectError,
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
    pub(crate) fn trusting(
        ca_file: Option<PathBuf>,
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
        let failed = |reason: String| HttpError {
            // Without the query, which may hold what is nobody's business.
            to: format!(
                "{}://{}{}",
                to.scheme_str().unwrap_or_default(),
                to.authority().map_or("", |authority| authority.as_str()),
                to.path()
            ),
            reason,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = to.clone();
        *request.headers_mut() = headers;
        let calling = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| failed(innermost(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body =
                body.map_err(|error| failed(format!("its answer: {}", innermost(&*error))))?;
            Ok(Answer {
                status: parts.status,
                body: body.to_bytes(),
            })
        };
        let answered = tokio::time::timeout(self.timeout, calling).await;
        answered.map_err(|_| failed(format!("no answer within {} s", self.timeout.as_secs())))?
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.last().map_or_else(String::new, ToString::to_string)
}
