//! The gateway assembled: engines, broker and edges from one [`Config`], started and stopped as one.
//!
//! [`start`] opens the log and the metadata, makes what a first start needs (a tenant, an
//! administrator's token, development certificates), registers schemas, applies the file of channels, binds
//! every listener and serves. The handle it returns stops it all in the reverse order: streams are told to
//! end, calls finish, and the log records that it ended cleanly.

mod bootstrap;
pub mod channels;
mod files;
mod listener;
mod quiet;
mod serve;
pub mod stack;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tonic::service::Routes;

use crate::{
    admin::{Admin, Backups},
    auth::{self, Authenticator, sign_in::SignIn, token::TokenStore},
    broker::{self, Broker},
    clock::{Clock, SystemClock},
    event_log::{
        self, EventLog, MemoryLog,
        embedded::{DataDir, EmbeddedLog},
    },
    grpc::{self, PubSub},
    http::{self, Login, Readiness},
    metadata::{EmbeddedStore, MemoryStore, MetadataStore},
    net::{
        profile::{PROFILE_FILE, Profile},
        shutdown::{Shutdown, ShutdownSignal},
    },
    schema::{
        registry::{Registry, Rules, TenantSchemas},
        watch::SchemaFiles,
    },
    types::limits,
};

/// Everything a gateway is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where events, metadata, the profile and development certificates are kept.
    pub data_dir: PathBuf,
    /// Keep events and metadata in memory; profile and certificates go to a temporary directory.
    pub ephemeral: bool,
    /// Whose `.avsc` files become event types, and are watched.
    pub schemas_dir: PathBuf,
    /// Lists channels that are made to be so at the start.
    pub channels_file: Option<PathBuf>,
    /// Written once every listener accepts.
    pub ready_file: Option<PathBuf>,
    /// gRPC over TLS; not at all when `None`.
    pub grpc_tls_addr: Option<SocketAddr>,
    /// gRPC over plaintext HTTP/2; not at all when `None`.
    pub grpc_addr: Option<SocketAddr>,
    /// Plain HTTP; not at all when `None`.
    pub http_addr: Option<SocketAddr>,
    /// HTTPS; not at all when `None`.
    pub https_addr: Option<SocketAddr>,
    /// What clients are told as their instance; made from the HTTPS address when `None`.
    pub instance_url: Option<String>,
    /// The certificate of the TLS listeners.
    pub tls: Tls,
    /// How long a stop waits for calls to end.
    pub shutdown_grace: Duration,
    /// Settings of the log.
    pub event_log: event_log::Config,
    /// Settings of publishing and delivery.
    pub broker: broker::Config,
    /// Settings of signing in.
    pub auth: auth::Config,
    /// What new versions of schemas are held to where a tenant sets nothing.
    pub schema: Rules,
    /// Settings of the gRPC edge.
    pub grpc: grpc::Config,
    /// Settings of HTTP/2 under gRPC.
    pub http2: stack::Config,
}

/// The certificate of the TLS listeners; a development certificate is made when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chain in PEM. Set if and only if `key_file` is.
    pub cert_file: Option<PathBuf>,
    /// Private key of the first certificate, in PEM.
    pub key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        Self {
            data_dir: "./tidegate-data".into(),
            ephemeral: false,
            schemas_dir: "./schemas".into(),
            channels_file: None,
            ready_file: None,
            grpc_tls_addr: loopback(7443),
            grpc_addr: loopback(7011),
            http_addr: loopback(7080),
            https_addr: loopback(7081),
            instance_url: None,
            tls: Tls::default(),
            shutdown_grace: limits::SHUTDOWN_GRACE,
            event_log: event_log::Config::default(),
            broker: broker::Config::default(),
            auth: auth::Config::default(),
            schema: Rules::default(),
            grpc: grpc::Config::default(),
            http2: stack::Config::default(),
        }
    }
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    profile: Profile,
    broker: Broker,
    schemas: Arc<TenantSchemas>,
    home: Home,
    shutdown: Shutdown,
    shutdown_grace: Duration,
    readiness: Readiness,
    listeners: JoinSet<()>,
    /// Lets go of tenants that nobody uses; ends with the shutdown.
    letting_go: JoinHandle<()>,
    /// Looks at the schema files; ends with the shutdown.
    watching: JoinHandle<()>,
    ready_file: Option<PathBuf>,
}

/// Starts a gateway and returns once every listener accepts.
///
/// # Errors
///
/// What could not be opened, bound, read or written, and what to do about it. Nothing serves then.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut metrics = MetricsRegistry::with_prefix("tidegate");
    let home = Home::open(&config, &clock, &mut metrics)?;
    let sockets = Sockets::bind(&config).await?;
    let certificate = bootstrap::certificate(&config, &home.path, clock.now())?;

    if let Some(data_dir) = &home.data_dir {
        bootstrap::check_tenants(&*home.store, data_dir).await?;
    }
    let tenant = bootstrap::tenant(&*home.store, &*clock).await?;
    let tokens = TokenStore::open(Arc::clone(&home.store), Arc::clone(&clock)).await?;
    let tokens = Arc::new(tokens);
    let (store, signing) = (Arc::clone(&home.store), Arc::clone(&tokens));
    let sign_in = SignIn::open(config.auth.clone(), store, Arc::clone(&clock), signing).await?;
    let sign_in = Arc::new(sign_in);
    let (store, rules) = (Arc::clone(&home.store), config.schema);
    let registry = Registry::new(store, Arc::clone(&clock), rules);
    let schemas = registry.tenant(tenant).await?;
    let broker = Broker::new(
        config.broker.clone(),
        Arc::clone(&home.log),
        registry,
        Arc::clone(&home.store),
        Arc::clone(&clock),
    );
    broker.register_metrics(&mut metrics);
    // Opens the tenant's log now: what cannot be recovered is said at the start, not to a caller.
    // Before a schema is registered: it would get a number that may be another topic's in the log.
    broker.open(tenant).await?;
    let schema_files = SchemaFiles::new(tenant);
    schema_files.register_metrics(&mut metrics);
    let watch = files::Keeper::start(&config.schemas_dir, &schemas, &schema_files, &clock).await;
    // Once the topics are there that it names, and before anybody can subscribe.
    if let Some(path) = &config.channels_file {
        channels::apply(&broker, tenant, path).await?;
    }

    // A token is made and written down last: a start that fails would leave one that nobody has.
    let profile = Profile {
        grpc_tls_addr: addr(&sockets.grpc_tls)?,
        grpc_addr: addr(&sockets.grpc)?,
        http_addr: addr(&sockets.http)?,
        https_addr: addr(&sockets.https)?,
        ca_pem: certificate.ca.clone(),
        tenant_id: tenant,
        access_token: bootstrap::access_token(&tokens, tenant, &home.path).await?,
        instance_url: instance_url(&config, &sockets)?,
    };
    bootstrap::write_profile(&home.path, &profile)?;

    let (shutdown, signal) = Shutdown::new();
    let readiness = Readiness::default();
    let calls = grpc::Metrics::default();
    calls.register(&mut metrics);
    let authenticator: Arc<dyn Authenticator> = Arc::clone(&tokens) as _;
    let (edge, signed_in) = (config.grpc.clone(), Arc::clone(&authenticator));
    let over_http = http::Gateway::new(
        broker.clone(),
        Arc::clone(&authenticator),
        Arc::clone(&sign_in),
        clock,
        signal.clone(),
    );
    let pub_sub = PubSub::new(edge, broker.clone(), signed_in, signal.clone());
    let admin = Admin::new(
        broker.clone(),
        Arc::clone(&authenticator),
        Arc::clone(&tokens),
        Arc::clone(&sign_in),
        Backups::new(Arc::clone(&home.log), Arc::clone(&home.store)),
        schema_files,
    );
    let login = Login::new(sign_in, authenticator, &profile.instance_url);
    login.metrics().register(&mut metrics);
    let keepers = quiet::Keepers {
        broker: broker.clone(),
        tokens,
        store: Arc::clone(&home.store),
    };
    let edges = Edges {
        http2: stack::http2(&config.http2, calls),
        services: stack::services(&config.http2, pub_sub, admin).await,
        routes: http::routes(Arc::new(metrics), readiness.clone(), login, over_http),
    };
    let listeners = edges.serve(sockets, certificate, &signal);
    let watching = tokio::spawn(watch.run(signal.clone()));
    let letting_go = tokio::spawn(keepers.let_go(config.broker.tenant_idle, signal));

    readiness.set(true);
    if let Some(path) = &config.ready_file {
        bootstrap::write_ready_file(path, &profile)?;
    }
    Ok(Running {
        profile,
        broker,
        schemas,
        home,
        shutdown,
        shutdown_grace: config.shutdown_grace,
        readiness,
        listeners,
        letting_go,
        watching,
        ready_file: config.ready_file,
    })
}

/// Where a gateway keeps what it keeps.
#[derive(Debug)]
struct Home {
    /// The data directory, or the temporary one of an ephemeral gateway.
    path: PathBuf,
    log: Arc<dyn EventLog>,
    store: Arc<dyn MetadataStore>,
    /// Keeps other processes out for as long as anything may be written.
    data_dir: Option<Arc<DataDir>>,
    /// Removed when dropped.
    _temporary: Option<tempfile::TempDir>,
}

impl Home {
    fn open(
        config: &Config,
        clock: &Arc<dyn Clock>,
        metrics: &mut MetricsRegistry,
    ) -> anyhow::Result<Self> {
        let settings = config.event_log.clone();
        if config.ephemeral {
            let temporary = temporary_dir()?;
            return Ok(Self {
                path: temporary.path().to_owned(),
                log: Arc::new(MemoryLog::new(settings, Arc::clone(clock))),
                store: Arc::new(MemoryStore::default()),
                data_dir: None,
                _temporary: Some(temporary),
            });
        }
        let data_dir = DataDir::open(&config.data_dir)?;
        let log = EmbeddedLog::new(Arc::clone(&data_dir), settings, Arc::clone(clock))?;
        log.metrics().register(metrics);
        Ok(Self {
            path: config.data_dir.clone(),
            log: Arc::new(log),
            store: Arc::new(EmbeddedStore::new(&config.data_dir)),
            data_dir: Some(data_dir),
            _temporary: None,
        })
    }
}

/// What the listeners serve.
struct Edges {
    http2: stack::Http2,
    services: Routes,
    routes: Router,
}

impl Edges {
    /// Serves on every socket, each in a task of its own.
    fn serve(
        self,
        sockets: Sockets,
        certificate: bootstrap::Certificate,
        signal: &ShutdownSignal,
    ) -> JoinSet<()> {
        let mut listeners = JoinSet::new();
        for (socket, tls) in [
            (sockets.grpc_tls, Some(certificate.grpc)),
            (sockets.grpc, None),
        ] {
            if let Some(socket) = socket {
                let (http2, services) = (self.http2.clone(), self.services.clone());
                listeners.spawn(serve::grpc(http2, services, socket, tls, signal.clone()));
            }
        }
        for (socket, tls) in [
            (sockets.https, Some(certificate.https)),
            (sockets.http, None),
        ] {
            if let Some(socket) = socket {
                listeners.spawn(serve::http(
                    self.routes.clone(),
                    socket,
                    tls,
                    signal.clone(),
                ));
            }
        }
        listeners
    }
}

impl Running {
    /// How to reach the gateway, and as whom.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Where that is written.
    pub fn profile_file(&self) -> PathBuf {
        self.home.path.join(PROFILE_FILE)
    }

    /// The names of the topics there are, sorted.
    pub fn topics(&self) -> Vec<String> {
        let event_types = self.schemas.event_types();
        event_types
            .iter()
            .map(|event_type| event_type.topic().to_string())
            .collect()
    }

    /// Stops: no new calls, streams are told to end, calls finish within the grace time, and the log
    /// is closed.
    pub async fn stop(mut self) {
        self.readiness.set(false);
        if let Some(path) = &self.ready_file {
            _ = std::fs::remove_file(path);
        }
        self.shutdown.begin();
        let grace = self.shutdown_grace;
        let ended = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!(
                "calls were still under way {grace:?} after the stop began; they are cut off"
            );
            self.listeners.shutdown().await;
        }
        // It ends at the signal, unless it panicked, which is no reason not to close the log.
        _ = self.letting_go.await;
        _ = self.watching.await;
        // An account that a stop must not wait for: what is lost of it comes back with the next use.
        let flushing = self.broker.flush_schema_uses();
        _ = tokio::time::timeout(grace, flushing).await;
        self.home.log.close().await;
    }
}

/// Listening sockets, bound before anything is served so that a taken port is told at once.
struct Sockets {
    grpc_tls: Option<TcpListener>,
    grpc: Option<TcpListener>,
    http: Option<TcpListener>,
    https: Option<TcpListener>,
}

impl Sockets {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            grpc_tls: bind("grpc_tls_addr", config.grpc_tls_addr).await?,
            grpc: bind("grpc_addr", config.grpc_addr).await?,
            http: bind("http_addr", config.http_addr).await?,
            https: bind("https_addr", config.https_addr).await?,
        })
    }
}

/// The address of a socket, if there is one.
fn addr(socket: &Option<TcpListener>) -> anyhow::Result<Option<SocketAddr>> {
    let addr = socket.as_ref().map(TcpListener::local_addr).transpose();
    addr.context("a bound socket's address")
}

async fn bind(setting: &str, addr: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    let Some(addr) = addr else {
        return Ok(None);
    };
    let socket = TcpListener::bind(addr).await;
    socket.map(Some).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop what is using it or choose another address",
            io::ErrorKind::PermissionDenied => {
                "choose a port above 1023 or run with the right to use it"
            }
            _ => "choose another address",
        };
        anyhow::Error::new(error).context(format!(
            "cannot listen on {addr}: {advice} with server.{setting} (port 0 is any free one)"
        ))
    })
}

fn instance_url(config: &Config, sockets: &Sockets) -> anyhow::Result<String> {
    if let Some(url) = &config.instance_url {
        return Ok(url.clone());
    }
    // Clients insist on https and connect to their gRPC endpoint, not to this.
    let port = addr(&sockets.https)?.map_or(443, |addr| addr.port());
    Ok(format!("https://localhost:{port}"))
}

fn temporary_dir() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("tidegate-")
        .tempdir()
        .context("cannot make a temporary directory for the profile and the certificates")
}

/// Listens for the signals that ask a process to stop; the future resolves with the first.
///
/// # Errors
///
/// If the system does not let signals be waited for.
pub fn stop_requested() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
