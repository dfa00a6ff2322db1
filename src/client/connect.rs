//! One connection to a gateway, and who calls through it.
//!
//! Source: the public Pub/Sub API Developer Guide, "Include Authorization Headers": the metadata
//! `accesstoken`, `instanceurl` and `tenantid` on every call.

use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use http::Uri;
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tower::Service;

use super::{
    dial::{ClientCertificate, Dialer, Proxy, TlsFiles, is_loopback},
    error::{ClientError, ConnectError},
    http::HttpClient,
    sign_in::{ANSWER_TIMEOUT, CredentialSource},
};
use crate::{
    clock::SystemClock,
    proto::{admin::admin_client::AdminClient, pub_sub_client::PubSubClient},
    types::{
        TenantId,
        limits::{
            ADMIN_RESPONSE_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES_MAX,
            HTTP2_STREAM_WINDOW_BYTES,
        },
    },
};

/// How long a connection may take, and then its TLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the client's HTTP/2 PINGs: gateways answer any rate of one in 10 s or less.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a PING may stay unanswered before the connection counts as lost.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A gateway and whom to call it as.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it listens.
    pub url: EndpointUrl,
    /// A PEM file with the authority that issued its certificate; without one, the authorities
    /// that browsers trust. Login hosts are trusted by the same.
    pub ca_file: Option<PathBuf>,
    /// A certificate that shows who connects.
    pub client_certificate: Option<ClientCertificate>,
    /// The proxy that connections go through, to the gateway and to login hosts alike, but for those
    /// that it does not lead to.
    pub proxy: Option<Proxy>,
    /// Where the token comes from that is sent with every call.
    pub credentials: CredentialSource,
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
    /// The gateway at `url`, called with these credentials, directly and by what browsers trust.
    pub fn new(url: EndpointUrl, credentials: impl Into<CredentialSource>) -> Self {
        Self {
            url,
            ca_file: None,
            client_certificate: None,
            proxy: None,
            credentials: credentials.into(),
            allow_plaintext: false,
        }
    }

    /// Signs in if need be, connects, and returns once the connection stands.
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
        self.check_plaintext()?;
        let signed = self.sign_in().await?;
        let endpoint = self.transport(frame_bytes_max)?;
        let dialer = Dialer::new(self.proxy.clone());
        let channel = endpoint.connect_with_connector(dialer).await;
        let channel = channel.map_err(|error| self.failed(&error))?;
        Ok(Connection { channel, signed })
    }

    /// Connects by a connector of the caller's own, such as a network that is simulated; a proxy is
    /// its business too.
    ///
    /// # Errors
    ///
    /// Those of [`Self::connect`].
    pub async fn connect_with<C>(&self, connector: C) -> Result<Connection, ConnectError>
    where
        C: Service<Uri> + Send + 'static,
        C::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin,
        C::Future: Send,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
        Box<dyn std::error::Error + Send + Sync>: From<C::Error>,
    {
        self.check_plaintext()?;
        let signed = self.sign_in().await?;
        let endpoint = self.transport(HTTP2_FRAME_BYTES_MAX)?;
        let channel = endpoint.connect_with_connector_lazy(connector);
        Ok(Connection { channel, signed })
    }

    pub(crate) fn check_plaintext(&self) -> Result<(), ConnectError> {
        match self.url.is_plaintext() && !self.url.is_loopback() && !self.allow_plaintext {
            true => Err(ConnectError::PlaintextRefused(self.url.clone())),
            false => Ok(()),
        }
    }

    async fn sign_in(&self) -> Result<Arc<SignedIn>, ConnectError> {
        let http = HttpClient::new(&self.tls_files(), self.proxy.clone(), ANSWER_TIMEOUT)?;
        let source = self.credentials.clone();
        let clock = SystemClock;
        let signing_in = source.credentials(&http, &clock, self.allow_plaintext, None);
        let credentials = signing_in.await?;
        Ok(Arc::new(SignedIn {
            current: RwLock::new(Current {
                generation: 0,
                metadata: Metadata::new(&credentials)?,
                credentials,
            }),
            renewing: tokio::sync::Mutex::new(()),
            source,
            http,
            allow_plaintext: self.allow_plaintext,
        }))
    }

    fn transport(&self, frame_bytes_max: u32) -> Result<tonic::transport::Endpoint, ConnectError> {
        let endpoint = Channel::builder(self.url.0.clone())
            .connect_timeout(CONNECT_TIMEOUT)
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
        if self.url.is_plaintext() {
            return Ok(endpoint);
        }
        let tls = self.tls_files().grpc()?;
        endpoint
            .tls_config(tls)
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &tonic::transport::Error) -> ConnectError {
        ConnectError::of_transport(&self.url, CONNECT_TIMEOUT, error)
    }

    pub(super) fn tls_files(&self) -> TlsFiles {
        TlsFiles {
            ca_file: self.ca_file.clone(),
            client_certificate: self.client_certificate.clone(),
        }
    }
}

/// A connection. Clones share it, and it mends itself: after a break the next call connects again.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Channel,
    signed: Arc<SignedIn>,
}

/// Whom calls are made as, and where the next token comes from.
struct SignedIn {
    /// Held for a moment by each call.
    current: RwLock<Current>,
    /// Held while a new token is got, so that all who need one share it.
    renewing: tokio::sync::Mutex<()>,
    source: CredentialSource,
    http: HttpClient,
    allow_plaintext: bool,
}

struct Current {
    generation: u64,
    credentials: Credentials,
    metadata: Metadata,
}

impl SignedIn {
    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.read();
        f.debug_struct("SignedIn")
            .field("generation", &current.generation)
            .field("credentials", &current.credentials)
            .finish_non_exhaustive()
    }
}

/// What the clients of [`Connection`] send their calls through.
pub type Calls = InterceptedService<Channel, CallMetadata>;

impl Connection {
    /// A client of the Pub/Sub API.
    pub fn pub_sub(&self) -> PubSubClient<Calls> {
        PubSubClient::with_interceptor(self.channel.clone(), self.metadata())
    }

    fn metadata(&self) -> CallMetadata {
        CallMetadata(Arc::clone(&self.signed))
    }

    /// The tenant that is called on behalf of.
    pub fn tenant_id(&self) -> TenantId {
        self.signed.read().credentials.tenant_id
    }

    /// The tenant that the access token says it is of, where gateways put that.
    pub fn token_tenant_id(&self) -> Option<TenantId> {
        tenant_of_token(&self.signed.read().credentials.access_token)
    }

    /// How many times the credentials were renewed. Taken before a call, and given to
    /// [`Self::renew_credentials`] when the call is refused as unauthenticated.
    pub fn credentials_generation(&self) -> u64 {
        self.signed.read().generation
    }

    /// Gets new credentials from where they come from, unless that has been done since `seen`. All who
    /// ask at once share one sign-in; every call after it is made with the new ones.
    ///
    /// # Errors
    ///
    /// [`ConnectError::SignIn`]; the credentials are those from before.
    ///
    /// # Cancel safety
    ///
    /// A token may have been made that nobody has.
    pub async fn renew_credentials(&self, seen: u64) -> Result<(), ClientError> {
        let _turn = self.signed.renewing.lock().await;
        let known = {
            let current = self.signed.read();
            if current.generation != seen {
                return Ok(());
            }
            current.credentials.clone()
        };
        let SignedIn {
            source,
            http,
            allow_plaintext,
            ..
        } = &*self.signed;
        let renewing = source.credentials(http, &SystemClock, *allow_plaintext, Some(&known));
        let credentials = renewing.await.map_err(ConnectError::from)?;
        let metadata = Metadata::new(&credentials)?;
        let mut current = self
            .signed
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Current {
            generation: current.generation + 1,
            credentials,
            metadata,
        };
        Ok(())
    }

    /// Makes a unary call, and once more with new credentials if those are not taken any more.
    ///
    /// # Errors
    ///
    /// Those of the call; the first refusal, if there are no new credentials.
    ///
    /// # Cancel safety
    ///
    /// That of the call.
    pub(crate) async fn call<T, F>(
        &self,
        make: impl Fn(PubSubClient<Calls>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let seen = self.credentials_generation();
        let refused = match make(self.pub_sub()).await {
            Err(status) if status.code() == Code::Unauthenticated => status,
            answered => return Ok(answered?.into_inner()),
        };
        match self.renew_credentials(seen).await {
            Ok(()) => Ok(make(self.pub_sub()).await?.into_inner()),
            Err(_) => Err(refused.into()),
        }
    }

    /// A client of the admin service.
    pub fn admin(&self) -> AdminClient<Calls> {
        let client = AdminClient::with_interceptor(self.channel.clone(), self.metadata());
        client.max_decoding_message_size(ADMIN_RESPONSE_BYTES_MAX)
    }
}

/// Adds to each call who makes it, and a trace id of its own.
#[derive(Clone)]
pub struct CallMetadata(Arc<SignedIn>);

/// Credentials as calls carry them.
#[derive(Clone)]
struct Metadata {
    access_token: MetadataValue<Ascii>,
    tenant_id: MetadataValue<Ascii>,
    instance_url: MetadataValue<Ascii>,
}

impl Metadata {
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
        let who = self.0.read().metadata.clone();
        let metadata = request.metadata_mut();
        metadata.insert("accesstoken", who.access_token);
        metadata.insert("instanceurl", who.instance_url);
        metadata.insert("tenantid", who.tenant_id);
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

/// The tenant's id in front of a token's secret.
pub(crate) fn tenant_of_token(token: &str) -> Option<TenantId> {
    token.split_once('!')?.0.parse().ok()
}

/// Where a gateway listens: `https://host:port`, or `http://host:port` without TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(pub(super) Uri);

impl EndpointUrl {
    /// Whether calls go out without TLS.
    pub fn is_plaintext(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }

    /// Whether the host can only be this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
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
        assert!(!format!("{credentials:?}").contains("secret"));

        let odd = Credentials {
            access_token: "secret\n".into(),
            ..credentials
        };
        let error = Metadata::new(&odd).err().unwrap().to_string();
        assert!(error.contains("access token") && !error.contains("secret"));
    }
}
