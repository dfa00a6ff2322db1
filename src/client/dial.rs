//! How connections leave this machine: straight, or through an HTTP proxy; and whom they trust.
//!
//! gRPC and signing in go the same way, so that whoever can reach one reaches the other.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tower::Service;

use super::{
    connect::CONNECT_TIMEOUT,
    error::{ConnectError, first_cause},
};
use crate::{net::whole_file, types::limits::CA_FILE_BYTES_MAX};

/// A certificate that shows who calls, for gateways and proxies that want one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A PEM file with the certificate, and those between it and its authority.
    pub cert_file: PathBuf,
    /// A PEM file with its private key.
    pub key_file: PathBuf,
}

/// An HTTP proxy: `http://host:port`, or `http://user:password@host:port`. Never shown with its
/// password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// Without the user.
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let uri: Uri = text.parse().map_err(|_| ProxyUrlError)?;
        let authority = uri.authority().ok_or(ProxyUrlError)?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            return Err(ProxyUrlError);
        }
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority.as_str()),
        };
        let authorization = user.map(|user| {
            let user = percent_encoding::percent_decode_str(user).collect::<Vec<u8>>();
            let mut value: HeaderValue = format!("Basic {}", STANDARD.encode(user))
                .parse()
                .expect("base64 is ASCII");
            value.set_sensitive(true);
            value
        });
        Ok(Self {
            uri: format!("http://{place}")
                .parse()
                .map_err(|_| ProxyUrlError)?,
            authorization,
        })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority();
        write!(
            f,
            "http://{}",
            authority.map_or("", |authority| authority.as_str())
        )
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

/// Text that is no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a proxy looks like http://host:port, or http://user:password@host:port")]
pub struct ProxyUrlError;

/// A proxy, and where it does not lead. It never leads to this machine: what listens on loopback is
/// out of its reach, and what goes there is not its business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub url: ProxyUrl,
    /// Hosts that are connected to directly, as in the variable `NO_PROXY`: domains, which stand for
    /// what is within them too, addresses and networks, separated by commas; or `*`.
    pub except: String,
}

impl From<ProxyUrl> for Proxy {
    /// Leads everywhere but to this machine.
    fn from(url: ProxyUrl) -> Self {
        let except = String::new();
        Self { url, except }
    }
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    direct: HttpConnector,
    proxy: Option<(ProxyUrl, Arc<Matcher>)>,
}

impl Dialer {
    pub(crate) fn new(proxy: Option<Proxy>) -> Self {
        let proxy = proxy.map(|Proxy { url, except }| {
            let entries = except.split(',').map(str::trim);
            let entries: Vec<String> = entries.map(exemption).collect();
            // The library takes it for a name alone, and addresses are hosts too.
            let leads = entries.iter().all(|entry| entry != "*");
            let matcher = Matcher::builder().no(entries.join(","));
            let matcher = match leads {
                true => matcher.all(url.to_string()),
                false => matcher,
            };
            (url, Arc::new(matcher.build()))
        });
        let mut direct = HttpConnector::new();
        // TLS, where there is some, is put on top.
        direct.enforce_http(false);
        // Requests are small and someone waits for their answers.
        direct.set_nodelay(true);
        direct.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self { direct, proxy }
    }

    /// The proxy that leads to this URL, if one does.
    pub(super) fn proxy_to(&self, to: &Uri) -> Option<&ProxyUrl> {
        let (proxy, matcher) = self.proxy.as_ref()?;
        (!is_loopback(to) && matcher.intercept(to).is_some()).then_some(proxy)
    }
}

/// An entry of `NO_PROXY` as the library wants it: some write `*.example.com` for `.example.com`, or add
/// a port.
fn exemption(entry: &str) -> String {
    let entry = entry
        .strip_prefix('*')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(entry);
    let (host, port) = entry.rsplit_once(':').unwrap_or((entry, ""));
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    // An IPv6 address has colons of its own, and is in brackets if a port follows.
    match is_port && (!host.contains(':') || host.ends_with(']')) {
        true => host.trim_matches(['[', ']']).to_owned(),
        false => entry.to_owned(),
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A failure on the way through a proxy, so that it is not taken for one of the gateway.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {proxy}: {reason}")]
pub(super) struct ProxyError {
    pub(super) proxy: String,
    pub(super) reason: String,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.proxy_to(&to).cloned() else {
            let connecting = self.direct.call(to);
            return Box::pin(async move { Ok(connecting.await?) });
        };
        let mut tunnel = Tunnel::new(proxy.uri.clone(), self.direct.clone());
        if let Some(authorization) = &proxy.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        Box::pin(async move {
            let connecting = tokio::time::timeout(CONNECT_TIMEOUT, tunnel.call(to));
            let reason = match connecting.await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => first_cause(&error),
                Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            };
            let proxy = proxy.to_string();
            Err(ProxyError { proxy, reason }.into())
        })
    }
}

/// Whom to trust, and what to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) client_certificate: Option<ClientCertificate>,
}

impl TlsFiles {
    /// For gRPC.
    pub(super) fn grpc(&self) -> Result<ClientTlsConfig, ConnectError> {
        let mut config = ClientTlsConfig::new().timeout(CONNECT_TIMEOUT);
        config = match &self.ca_file {
            Some(path) => config.ca_certificate(Certificate::from_pem(read_authority(path)?)),
            None => config.with_webpki_roots(),
        };
        if let Some(files) = &self.client_certificate {
            // Read for what is wrong with them: the library says less.
            files.read()?;
            let cert = read_file(&files.cert_file)?;
            let key = read_file(&files.key_file)?;
            config = config.identity(Identity::from_pem(cert, key));
        }
        Ok(config)
    }

    /// The authorities that are trusted.
    pub(super) fn roots(&self) -> Result<RootCertStore, ConnectError> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(path) => {
                let pem = read_authority(path)?;
                let certificates = CertificateDer::pem_slice_iter(&pem).flatten();
                roots.add_parsable_certificates(certificates);
            }
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        Ok(roots)
    }

    /// For HTTP.
    pub(super) fn http(&self) -> Result<ClientConfig, ConnectError> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("the provider has the versions")
            .with_root_certificates(self.roots()?);
        match &self.client_certificate {
            None => Ok(config.with_no_client_auth()),
            Some(files) => {
                let (chain, key) = files.read()?;
                let refused = |error: rustls::Error| files.refused(error.to_string());
                config.with_client_auth_cert(chain, key).map_err(refused)
            }
        }
    }
}

impl ClientCertificate {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConnectError> {
        let pem = read_file(&self.cert_file)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| self.refused("found no certificate in PEM form".into()))?;
        let pem = read_file(&self.key_file)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| ConnectError::File {
            path: self.key_file.clone(),
            reason: "found no private key in PEM form".into(),
        })?;
        Ok((chain, key))
    }

    fn refused(&self, reason: String) -> ConnectError {
        ConnectError::File {
            path: self.cert_file.clone(),
            reason,
        }
    }
}

/// Reads a PEM file that holds at least one certificate: the TLS library skips what it cannot
/// read, and would then trust nobody without saying why.
fn read_authority(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let refused = |reason: String| ConnectError::CaFile {
        path: path.to_owned(),
        reason,
    };
    let pem = read_file(path).map_err(|error| match error {
        ConnectError::File { reason, .. } => refused(reason),
        error => error,
    })?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        Some(Err(_)) | None => Err(refused("found no certificate in PEM form".into())),
    }
}

/// Reads a file of keys or secrets.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ConnectError> {
    whole_file::read(path, CA_FILE_BYTES_MAX).map_err(|error| ConnectError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Whether a URL's host can only be this machine.
pub(crate) fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_and_its_password_is_not_shown() {
        let proxy: ProxyUrl = "http://me:s%40cret@proxy:3128".parse().unwrap();
        assert_eq!(proxy.to_string(), "http://proxy:3128");
        let shown = format!("{proxy:?} {:?}", Dialer::new(Some(proxy.clone().into())));
        assert!(!shown.contains("cret"), "{shown}");
        let authorization = proxy.authorization.unwrap();
        assert_eq!(
            authorization,
            format!("Basic {}", STANDARD.encode("me:s@cret"))
        );
        for text in [
            "",
            "proxy:3128",
            "https://proxy",
            "http://proxy/path",
            "socks5://proxy",
        ] {
            assert_eq!(text.parse::<ProxyUrl>(), Err(ProxyUrlError), "{text}");
        }
    }
}
