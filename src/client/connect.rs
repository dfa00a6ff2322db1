//! One connection to a gateway, and who calls through it.
//!
//! Source: the public Pub/Sub API Developer Guide, "Include Authorization Headers": the metadata
//! `accesstoken`, `instanceurl` and `tenantid` on every call.

use std::{fmt, fs, net::IpAddr, path::Path, path::PathBuf, str::FromStr, time::Duration};

use http::Uri;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig},
};

use super::error::ConnectError;
use crate::{
    proto::{admin::admin_client::AdminClient, pub_sub_client::PubSubClient},
    types::{
        TenantId,
        limits::{
            ADMIN_RESPONSE_BYTES_MAX, CA_FILE_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES,
            HTTP2_FRAME_BYTES_MAX, HTTP2_STREAM_WINDOW_BYTES,
        },
    },
};

/// How long a connection may take, and then its TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the client's HTTP/2 PINGs: gateways answer any rate of one in 10 s or less.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a PING may stay unanswered before the connection counts as lost.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A gateway and whom to call it as.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub url: EndpointUrl,
    /// A PEM file with the authority that issued its certificate; without one, the authorities
    /// that browsers trust.
    pub ca_file: Option<PathBuf>,
    /// Sent with every call.
    pub credentials: Credentials,
    /// Whether plaintext may leave this machine.
    pub allow_plaintext: bool,
}

/// Who calls. The token is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access token.
    pub access_token: String,
    /// The tenant that the token belongs to.
    pub tenant_id: TenantId,
    /// The tenant's URL, which the protocol wants with every call.
    pub instance_url: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_token", &"***")
            .field("tenant_id", &self.tenant_id)
            .field("instance_url", &self.instance_url)
            .finish()
    }
}

impl Endpoint {
    /// Connects, and returns once the connection stands.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what was tried and why it failed.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        self.connect_with_frames(HTTP2_FRAME_BYTES_MAX).await
    }

    /// Connects, and takes HTTP/2 frames of up to this many bytes: from 16 KiB, which every client
    /// takes, to 16 MiB.
    ///
    /// # Errors
    ///
    /// Those of [`Self::connect`].
    pub async fn connect_with_frames(
        &self,
        frame_bytes_max: u32,
    ) -> Result<Connection, ConnectError> {
        if self.url.is_plaintext() && !self.url.is_loopback() && !self.allow_plaintext {
            return Err(ConnectError::PlaintextRefused(self.url.clone()));
        }
        let metadata = CallMetadata::new(&self.credentials)?;
        let mut endpoint = Channel::builder(self.url.0.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            // Requests are small and someone waits for their answers.
            .tcp_nodelay(true)
            // A whole response fits, so that catching up does not wait for window updates.
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            // The gateway's deliveries come in frames of this size.
            .max_frame_size(frame_bytes_max)
            // A gateway that vanished without a word is noticed; an idle subscription is silent
            // for minutes otherwise.
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let failed = |error: tonic::transport::Error| {
            ConnectError::of_transport(&self.url, CONNECT_TIMEOUT, &error)
        };
        if !self.url.is_plaintext() {
            endpoint = endpoint.tls_config(self.tls_config()?).map_err(failed)?;
        }
        let channel = endpoint.connect().await.map_err(failed)?;
        Ok(Connection {
            channel,
            metadata,
            tenant_id: self.credentials.tenant_id,
        })
    }

    fn tls_config(&self) -> Result<ClientTlsConfig, ConnectError> {
        let config = ClientTlsConfig::new().timeout(CONNECT_TIMEOUT);
        Ok(match &self.ca_file {
            Some(path) => config.ca_certificate(Certificate::from_pem(read_ca_file(path)?)),
            None => config.with_webpki_roots(),
        })
    }
}

/// Reads a PEM file that holds at least one certificate: the TLS library skips what it cannot
/// read, and would then trust nobody without saying why.
fn read_ca_file(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let refused = |reason: String| ConnectError::CaFile {
        path: path.to_owned(),
        reason,
    };
    let size = fs::metadata(path)
        .map_err(|error| refused(error.to_string()))?
        .len();
    if size > CA_FILE_BYTES_MAX {
        return Err(refused(format!(
            "such a file has at most {CA_FILE_BYTES_MAX} bytes, this one has {size}"
        )));
    }
    let pem = fs::read(path).map_err(|error| refused(error.to_string()))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        Some(Err(_)) | None => Err(refused("found no certificate in PEM form".into())),
    }
}

/// A connection. Clones share it, and it mends itself: after a break the next call connects again.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Channel,
    metadata: CallMetadata,
    tenant_id: TenantId,
}

/// What the clients of [`Connection`] send their calls through.
pub type Calls = InterceptedService<Channel, CallMetadata>;

impl Connection {
    /// A client of the Pub/Sub API.
    pub fn pub_sub(&self) -> PubSubClient<Calls> {
        PubSubClient::with_interceptor(self.channel.clone(), self.metadata.clone())
    }

    /// The tenant that is called on behalf of.
    pub fn tenant_id(&self) -> TenantId {
        self.tenant_id
    }

    /// A connection over a channel of a test.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel, credentials: &Credentials) -> Self {
        let metadata = CallMetadata::new(credentials).unwrap();
        Self {
            channel,
            metadata,
            tenant_id: credentials.tenant_id,
        }
    }

    /// How many times the credentials were renewed.
    pub fn credentials_generation(&self) -> u64 {
        0
    }

    /// Stand-in.
    ///
    /// # Errors
    ///
    /// Always.
    pub async fn renew_credentials(&self, _seen: u64) -> Result<(), super::ClientError> {
        Err(super::CallError::from(tonic::Status::unauthenticated("a fixed token")).into())
    }

    /// A client of the admin service.
    pub fn admin(&self) -> AdminClient<Calls> {
        let client = AdminClient::with_interceptor(self.channel.clone(), self.metadata.clone());
        client.max_decoding_message_size(ADMIN_RESPONSE_BYTES_MAX)
    }
}

/// Adds to each call who makes it, and a trace id of its own.
#[derive(Clone)]
pub struct CallMetadata {
    access_token: MetadataValue<Ascii>,
    tenant_id: MetadataValue<Ascii>,
    instance_url: MetadataValue<Ascii>,
}

impl CallMetadata {
    fn new(credentials: &Credentials) -> Result<Self, ConnectError> {
        let value = |name, text: &str| {
            if text.is_empty() {
                return Err(ConnectError::Credential(name));
            }
            text.parse().map_err(|_| ConnectError::Credential(name))
        };
        let mut access_token: MetadataValue<Ascii> =
            value("access token", &credentials.access_token)?;
        // Keeps it out of the compression table and out of the RPC library's own logs.
        access_token.set_sensitive(true);
        Ok(Self {
            access_token,
            tenant_id: value("tenant id", credentials.tenant_id.as_str())?,
            instance_url: value("instance URL", &credentials.instance_url)?,
        })
    }
}

impl Interceptor for CallMetadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let trace_id = uuid::Uuid::new_v4().to_string();
        let metadata = request.metadata_mut();
        metadata.insert("accesstoken", self.access_token.clone());
        metadata.insert("instanceurl", self.instance_url.clone());
        metadata.insert("tenantid", self.tenant_id.clone());
        metadata.insert(
            "x-client-trace-id",
            trace_id.parse().expect("a UUID is ASCII"),
        );
        Ok(request)
    }
}

impl fmt::Debug for CallMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallMetadata").finish_non_exhaustive()
    }
}

/// Where a gateway listens: `https://host:port`, or `http://host:port` without TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Uri);

impl EndpointUrl {
    /// Whether calls go out without TLS.
    pub fn is_plaintext(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }

    /// Whether the host can only be this machine.
    pub fn is_loopback(&self) -> bool {
        match self.host().parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host().eq_ignore_ascii_case("localhost"),
        }
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.0.host().expect("checked when the URL was parsed");
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, which a scheme implies.
    pub fn port(&self) -> u16 {
        let implied = if self.is_plaintext() { 80 } else { 443 };
        self.0.port_u16().unwrap_or(implied)
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        if !text.contains("://") {
            return Err(EndpointUrlError::NoScheme);
        }
        let url: Uri = text.parse().map_err(|_| EndpointUrlError::NotAUrl)?;
        if !matches!(url.scheme_str(), Some("http" | "https")) {
            return Err(EndpointUrlError::Scheme);
        }
        let authority = url.authority().ok_or(EndpointUrlError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(EndpointUrlError::UserInfo);
        }
        if authority.host().is_empty()
            || (url.port_u16().is_none() && authority.as_str() != authority.host())
        {
            return Err(EndpointUrlError::NotAUrl);
        }
        if url.query().is_some() || !matches!(url.path(), "" | "/") {
            return Err(EndpointUrlError::Path);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}")
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({self})")
    }
}

/// Why text is not the URL of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointUrlError {
    /// Only a host, or nothing.
    #[error("the endpoint begins with https:// or http://, such as https://127.0.0.1:7443")]
    NoScheme,
    /// Some other protocol.
    #[error("the endpoint begins with https:// or http://, this one names another scheme")]
    Scheme,
    /// Not a URL.
    #[error("the endpoint is not a URL such as https://127.0.0.1:7443")]
    NotAUrl,
    /// A user or password in the URL would be ignored.
    #[error("the endpoint holds no user and password; a token is given on its own")]
    UserInfo,
    /// A path or query would be ignored.
    #[error("the endpoint ends after its port")]
    Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<EndpointUrl, EndpointUrlError> {
        text.parse()
    }

    #[test]
    fn urls_are_checked_where_they_come_in() {
        assert_eq!(url("127.0.0.1:7443"), Err(EndpointUrlError::NoScheme));
        assert_eq!(url(""), Err(EndpointUrlError::NoScheme));
        assert_eq!(url("ftp://host"), Err(EndpointUrlError::Scheme));
        assert_eq!(url("https://"), Err(EndpointUrlError::NotAUrl));
        assert_eq!(url("https://host:port"), Err(EndpointUrlError::NotAUrl));
        assert_eq!(url("https://host:70000"), Err(EndpointUrlError::NotAUrl));
        assert_eq!(url("https://me:pw@host"), Err(EndpointUrlError::UserInfo));
        assert_eq!(url("https://host/path"), Err(EndpointUrlError::Path));
        assert_eq!(url("https://host?a=b"), Err(EndpointUrlError::Path));
        let good = url("https://host:7443/").unwrap();
        assert_eq!(good.to_string(), "https://host:7443");
        assert_eq!((good.host(), good.port()), ("host", 7443));
        assert_eq!(url("https://host").unwrap().port(), 443);
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]"] {
            assert!(
                url(&format!("http://{host}:1")).unwrap().is_loopback(),
                "{host}"
            );
        }
        for host in ["localhost.example.com", "0.0.0.0", "10.0.0.1", "[::]"] {
            assert!(
                !url(&format!("http://{host}:1")).unwrap().is_loopback(),
                "{host}"
            );
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let credentials = Credentials {
            access_token: "00D000000000001!secret".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            instance_url: "https://localhost".into(),
        };
        let metadata = CallMetadata::new(&credentials).unwrap();
        assert!(!format!("{credentials:?} {metadata:?}").contains("secret"));

        let odd = Credentials {
            access_token: "secret\n".into(),
            ..credentials
        };
        let error = CallMetadata::new(&odd).unwrap_err().to_string();
        assert!(error.contains("access token") && !error.contains("secret"));
    }
}
