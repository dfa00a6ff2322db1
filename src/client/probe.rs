//! A connection taken apart, for whoever has to find out which part of it is at fault.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, time::timeout};
use tower::ServiceExt;

use super::{
    connect::{CONNECT_TIMEOUT, Endpoint},
    dial::{Dialer, ProxyUrl},
    error::ConnectError,
};

/// What a TLS handshake came to.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The certificates that were shown, that of the server first; none if it did not come to that.
    pub(crate) shown: Vec<CertificateDer<'static>>,
    /// The session, or why there is none.
    pub(crate) session: Result<Session, ConnectError>,
}

/// A TLS session that was agreed on.
#[derive(Debug)]
pub(crate) struct Session {
    /// The protocol's version.
    pub(crate) version: &'static str,
    /// Whether HTTP/2 is spoken over it, which gRPC needs.
    pub(crate) is_http2: bool,
}

impl Endpoint {
    /// The proxy that leads to the gateway, if one does.
    pub(crate) fn proxy_to_gateway(&self) -> Option<&ProxyUrl> {
        let proxy = self.proxy.as_ref()?;
        let leads = Dialer::new(Some(proxy.clone()))
            .proxy_to(&self.url.0)
            .is_some();
        leads.then_some(&proxy.url)
    }

    /// The addresses of the gateway's host.
    pub(crate) async fn look_up(&self) -> io::Result<Vec<SocketAddr>> {
        let looking = tokio::net::lookup_host((self.url.host(), self.url.port()));
        let found = timeout(CONNECT_TIMEOUT, looking).await;
        let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        Ok(found?.collect())
    }

    /// Connects, and does no more.
    pub(crate) async fn reach(&self) -> Result<TcpStream, ConnectError> {
        let dialer = Dialer::new(self.proxy.clone());
        let connecting = dialer.oneshot(self.url.0.clone()).await;
        let connection = connecting
            .map_err(|error| ConnectError::of_transport(&self.url, CONNECT_TIMEOUT, &*error))?;
        Ok(connection.into_inner())
    }

    /// Shakes hands as connections of gRPC do.
    pub(crate) async fn shake_hands(&self, stream: TcpStream) -> Handshake {
        let shown = Arc::default();
        let session = self.session(stream, &shown).await;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        Handshake {
            shown: std::mem::take(&mut *shown),
            session,
        }
    }

    async fn session(&self, stream: TcpStream, shown: &Shown) -> Result<Session, ConnectError> {
        let tls = self.tls_files();
        let mut config = tls.http()?;
        let provider = Arc::clone(config.crypto_provider());
        let roots = Arc::new(tls.roots()?);
        let judge = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let failed = |reason: String| ConnectError::Failed {
            url: self.url.clone(),
            reason,
        };
        let judge = judge.map_err(|error| failed(error.to_string()))?;
        let witnessed = Witnessed {
            judge,
            shown: Arc::clone(shown),
        };
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(witnessed));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(self.url.host().to_owned());
        let name = name.map_err(|error| failed(error.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let shaken = timeout(CONNECT_TIMEOUT, connector.connect(name, stream)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = shaken
            .map_err(|error| ConnectError::of_transport(&self.url, CONNECT_TIMEOUT, &error))?;
        let (_, session) = stream.get_ref();
        Ok(Session {
            version: match session.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                _ => "TLS 1.3",
            },
            is_http2: session.alpn_protocol() == Some(b"h2"),
        })
    }
}

/// Certificates that were shown, whatever was made of them.
type Shown = Arc<Mutex<Vec<CertificateDer<'static>>>>;

/// Judges certificates as every other connection does, and remembers them.
#[derive(Debug)]
struct Witnessed {
    judge: Arc<WebPkiServerVerifier>,
    shown: Shown,
}

impl ServerCertVerifier for Witnessed {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(server).chain(intermediates);
        let all = all.map(|certificate| certificate.clone().into_owned());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
        self.judge
            .verify_server_cert(server, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
