//! What the HTTP listeners say.

use std::{fs, sync::Arc};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{gateway::Gateway, wait};

/// The status line and the body that `path` is answered with.
pub(crate) async fn get(gateway: &Gateway, path: &str) -> (String, String) {
    get_from(&gateway.ready().http_addr, path).await
}

/// The same of another program's server.
pub(crate) async fn get_from(addr: &str, path: &str) -> (String, String) {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    wait::within("answer", tcp.read_to_string(&mut answer))
        .await
        .unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}

/// The value of a metric: its line without the value is `series`.
pub(crate) fn value_of(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then_some(value)
    });
    let value = line.unwrap_or_else(|| panic!("{series} is among:\n{metrics}"));
    value.parse().unwrap()
}

/// An answer, as it was read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header; its name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        values.next().map(|(_, value)| value)
    }

    /// The body, which is JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("JSON: {self:?}"))
    }
}

/// Sends a request, as it is, to the plaintext listener.
pub(crate) async fn send(gateway: &Gateway, request: &[u8]) -> Answer {
    let tcp = TcpStream::connect(&gateway.ready().http_addr).await;
    exchange(tcp.unwrap(), request).await
}

/// Sends a request, as it is, to the listener with TLS.
pub(crate) async fn send_tls(gateway: &Gateway, request: &[u8]) -> Answer {
    let ready = gateway.ready();
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(&fs::read(&ready.ca_pem).unwrap());
    roots.add(ca.unwrap()).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(&ready.https_addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    exchange(connector.connect(name, tcp).await.unwrap(), request).await
}

async fn exchange(mut io: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Answer {
    // A gateway that refuses a large body may close before it has read all of it.
    _ = io.write_all(request).await;
    _ = io.flush().await;
    let mut answer = Vec::new();
    _ = wait::within("answer", io.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
