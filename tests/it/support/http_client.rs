//! An HTTP client that reads bodies as they come, over plain HTTP and over TLS.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{gateway::Gateway, wait::within};

/// How to reach a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Http,
    Https,
    /// HTTP/2 over TLS.
    Http2,
}

pub(crate) const EVERY_WAY: [Over; 3] = [Over::Http, Over::Https, Over::Http2];

/// The head of a request to `path` by the administrator.
pub(crate) fn request(gateway: &Gateway, method: &str, path: &str) -> http::request::Builder {
    let token = format!("Bearer {}", gateway.ready().access_token);
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", token)
}

/// The status and the JSON that a POST of `json` by the administrator is answered with.
pub(crate) async fn post(
    gateway: &Gateway,
    over: Over,
    path: &str,
    json: impl Into<Bytes>,
) -> (StatusCode, Value) {
    let request = request(gateway, "POST", path).header("content-type", "application/json");
    let (status, _, body) = send(gateway, over, request, json).await;
    (status, body)
}

/// What a request is answered with; null if that is not JSON.
pub(crate) async fn send(
    gateway: &Gateway,
    over: Over,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> (StatusCode, HeaderMap, Value) {
    let (head, body) = open(gateway, over, request, body).await.into_parts();
    let body = within("body", body.collect()).await.unwrap().to_bytes();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    (head.status, head.headers, json)
}

/// The response to a request on a connection of its own, which ends with the body.
pub(crate) async fn open(
    gateway: &Gateway,
    over: Over,
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Response<Incoming> {
    let ready = gateway.ready();
    let (scheme, addr) = match over {
        Over::Http => ("http", &ready.http_addr),
        Over::Https | Over::Http2 => ("https", &ready.https_addr),
    };
    let mut request = request.body(Full::new(body.into())).unwrap();
    if over == Over::Http2 {
        let uri = format!("{scheme}://{addr}{}", request.uri());
        *request.uri_mut() = uri.parse().unwrap();
    } else {
        request.headers_mut().insert("host", addr.parse().unwrap());
    }
    let tcp = within("connection", TcpStream::connect(addr))
        .await
        .unwrap();
    match over {
        Over::Http => {
            let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
            tokio::spawn(connection);
            within("answer", sender.send_request(request))
                .await
                .unwrap()
        }
        Over::Https => {
            let tls = connect_tls(gateway, tcp, b"http/1.1").await;
            let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
            tokio::spawn(connection);
            within("answer", sender.send_request(request))
                .await
                .unwrap()
        }
        Over::Http2 => {
            let tls = connect_tls(gateway, tcp, b"h2").await;
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
            let (mut sender, connection) = handshake.await.unwrap();
            tokio::spawn(connection);
            within("answer", sender.send_request(request))
                .await
                .unwrap()
        }
    }
}

async fn connect_tls(
    gateway: &Gateway,
    tcp: TcpStream,
    protocol: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(&gateway.ready().ca_pem).unwrap() {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    within("TLS handshake", handshake).await.unwrap()
}

/// A stream of Server-Sent Events.
pub(crate) struct EventStream {
    body: Incoming,
    text: String,
    /// What a client would come back with.
    pub(crate) last_event_id: String,
}

/// One event: what it is called, which is nothing for most, and its data.
pub(crate) type Event = (String, Value);

/// What an event is called that only tells the position.
const POSITION: &str = "position";

impl EventStream {
    /// Subscribes as the administrator, with a `Last-Event-ID` unless that is empty.
    pub(crate) async fn subscribe(
        gateway: &Gateway,
        over: Over,
        path: &str,
        last_event_id: &str,
    ) -> Self {
        let mut request = request(gateway, "GET", path);
        if !last_event_id.is_empty() {
            request = request.header("last-event-id", last_event_id);
        }
        let response = open(gateway, over, request, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            text: String::new(),
            last_event_id: last_event_id.to_owned(),
        }
    }

    /// The next event that does not only tell a position; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.any().await?;
            if event.0 != POSITION {
                return Some(event);
            }
        }
    }

    /// The next event, whatever it is called.
    async fn any(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (mut name, mut data) = (String::new(), None);
                for line in block.lines() {
                    match line.split_once(": ").expect("a field") {
                        ("id", id) => self.last_event_id = id.to_owned(),
                        ("event", event) => name = event.to_owned(),
                        ("data", text) => data = Some(serde_json::from_str(text).unwrap()),
                        other => panic!("{other:?}"),
                    }
                }
                self.text = rest.to_owned();
                return Some((name, data.expect("each block has data")));
            }
            let frame = within("event", self.body.frame()).await?.unwrap();
            let chunk = frame.into_data().expect("there are no trailers");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next position that the stream tells, before any other event.
    pub(crate) async fn position(&mut self) -> String {
        let (name, _) = self.any().await.expect("the stream goes on");
        assert_eq!(name, POSITION);
        self.last_event_id.clone()
    }

    /// The ids of the next `count` events.
    pub(crate) async fn event_ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let (_, data) = self.next().await.expect("the stream goes on");
            ids.push(data["event_id"].as_str().unwrap().to_owned());
        }
        ids
    }
}
