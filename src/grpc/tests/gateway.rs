//! A whole gateway within one thread, with the generated client on the other end of a pipe.
//!
//! Nothing here touches a socket or the wall clock: with the runtime's clock paused, every wait of
//! the gateway takes exactly as long as it should and no time at all.

use std::{io, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint, Server},
};
use tower::Layer;

use crate::{
    auth::token::TokenStore,
    broker::{
        self,
        tests::engines::{Engines, everything, tenant},
    },
    event_log,
    grpc::{CallLayer, Config, Metrics, PubSub, call::CallService, status::Kind},
    net::shutdown::{Shutdown, ShutdownSignal},
    proto::{
        ConsumerEvent, FetchRequest, ProducerEvent, PublishResult,
        pub_sub_client::PubSubClient,
        pub_sub_server::PubSubServer,
        raw::{self, Repeated, WireMessage},
    },
    types::{Grants, Position, ReplayId, TenantId},
};

/// What a gateway is started with.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) broker: broker::Config,
    pub(super) grpc: Config,
    pub(super) log: event_log::Config,
}

pub(super) struct Gateway {
    pub(super) engines: Engines,
    pub(super) tokens: Arc<TokenStore>,
    /// A token that may do everything.
    pub(super) token: String,
    pub(super) client: PubSubClient<Channel>,
    pub(super) shutdown: Shutdown,
    pub(super) pub_sub: PubSub,
    config: Config,
    calls: Metrics,
    service: CallService<PubSubServer<PubSub>>,
}

impl Gateway {
    pub(super) async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let engines = Engines::new(settings.broker, settings.log).await;
        Self::over(engines, settings.grpc).await
    }

    /// A gateway over engines, with a new token.
    async fn over(engines: Engines, config: Config) -> Self {
        let store = Arc::clone(&engines.store) as _;
        let tokens = TokenStore::open(store, Arc::new(engines.clock.clone())).await;
        let tokens = Arc::new(tokens.unwrap());
        let (_, token) = tokens
            .create(tenant(), "all", everything(), None)
            .await
            .unwrap();
        let (shutdown, signal) = Shutdown::new();
        let broker = engines.broker.clone();
        let pub_sub = PubSub::new(
            config.clone(),
            broker,
            Arc::clone(&tokens) as _,
            signal.clone(),
        );
        let calls = Metrics::default();
        let service = CallLayer::new(calls.clone()).layer(PubSubServer::new(pub_sub.clone()));
        let client = connect(CallLayer::new(calls.clone()), pub_sub.clone(), signal);
        Self {
            engines,
            tokens,
            token: token.expose().to_owned(),
            client: PubSubClient::new(client),
            shutdown,
            pub_sub,
            calls,
            service,
            config,
        }
    }

    /// Another gateway over what this one stored.
    pub(super) async fn restarted(self) -> Self {
        self.shutdown.begin();
        settle().await;
        let mut engines = self.engines;
        engines.restart();
        Self::over(engines, self.config).await
    }

    /// A new token with these rights.
    pub(super) async fn token(&self, grants: Grants) -> String {
        self.token_of(tenant(), grants).await
    }

    /// A new token of this tenant.
    pub(super) async fn token_of(&self, tenant: TenantId, grants: Grants) -> String {
        let (_, token) = self
            .tokens
            .create(tenant, "another", grants, None)
            .await
            .unwrap();
        token.expose().to_owned()
    }

    /// A call by whoever may do everything.
    pub(super) fn call<T>(&self, message: T) -> Request<T> {
        call_by(&self.token, message)
    }

    /// The service without a connection.
    pub(super) fn service(&self) -> CallService<PubSubServer<PubSub>> {
        self.service.clone()
    }

    /// Opens a subscription by whoever may do everything.
    pub(super) async fn subscribe(&self, first: FetchRequest) -> Subscriber {
        Subscriber::open(self, &self.token, Some(first)).await
    }

    pub(super) async fn publish_stream(&self) -> PublishStream {
        PublishStream::open(self, &self.token).await
    }

    pub(super) async fn publish(
        &self,
        topic: &str,
        events: &[ProducerEvent],
    ) -> Result<Published, Status> {
        let request = self.call(publish_request(topic, events));
        let response = self.client.clone().publish(request).await?;
        Ok(Published::of(response.into_inner()))
    }

    /// What a scrape shows of the calls.
    pub(super) fn scrape(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.calls.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

fn connect(layer: CallLayer, pub_sub: PubSub, mut shutdown: ShutdownSignal) -> Channel {
    let (client, server) = tokio::io::duplex(1 << 20);
    let connections = stream::iter([Ok::<_, io::Error>(server)]).chain(stream::pending());
    let serving = Server::builder()
        .initial_stream_window_size(4 << 20)
        .layer(layer)
        .add_service(PubSubServer::new(pub_sub))
        .serve_with_incoming_shutdown(connections, async move { shutdown.recv().await });
    // Ends with the test's runtime.
    tokio::spawn(serving);
    let mut client = Some(client);
    let connector = tower::service_fn(move |_| {
        let pipe = client.take().ok_or(io::ErrorKind::NotConnected);
        async { pipe.map(TokioIo::new).map_err(io::Error::from) }
    });
    Endpoint::from_static("http://gateway").connect_with_connector_lazy(connector)
}

/// A call with this token.
pub(super) fn call_by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let headers = request.metadata_mut();
    let value = |text: &str| text.parse::<MetadataValue<Ascii>>().unwrap();
    headers.insert("accesstoken", value(token));
    headers.insert("instanceurl", value("https://localhost"));
    headers.insert("tenantid", value(&token[..15]));
    request
}

pub(super) fn publish_request(topic: &str, events: &[ProducerEvent]) -> raw::PublishRequest {
    raw::PublishRequest {
        topic_name: topic.into(),
        events: Repeated::of(events.iter().map(Message::encode_to_vec)),
        auth_refresh: String::new(),
    }
}

/// A publish response, decoded.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) results: Vec<PublishResult>,
    pub(super) schema_id: String,
    pub(super) rpc_id: String,
}

impl Published {
    fn of(response: raw::PublishResponse) -> Self {
        let results = response.results.values().iter();
        Self {
            results: results
                .map(|result| PublishResult::decode(result).unwrap())
                .collect(),
            schema_id: response.schema_id,
            rpc_id: std::str::from_utf8(&response.rpc_id).unwrap().to_owned(),
        }
    }

    /// The correlation key of each result.
    pub(super) fn keys(&self) -> Vec<&str> {
        let results = self.results.iter();
        results.map(|result| &*result.correlation_key).collect()
    }

    /// Where each event stands.
    pub(super) fn positions(&self) -> Vec<Position> {
        let results = self.results.iter();
        results
            .map(|result| ReplayId::parse(&result.replay_id).unwrap())
            .collect()
    }
}

/// A fetch response, decoded.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) events: Vec<ConsumerEvent>,
    pub(super) latest: Position,
    pub(super) pending: i32,
    /// Bytes of the response.
    pub(super) len: usize,
}

impl Fetched {
    /// The id of each event.
    pub(super) fn ids(&self) -> Vec<&str> {
        let events = self.events.iter();
        events
            .map(|event| &*event.event.as_ref().unwrap().id)
            .collect()
    }
}

/// The client's side of `Subscribe`.
pub(super) struct Subscriber {
    requests: Option<mpsc::UnboundedSender<FetchRequest>>,
    pub(super) responses: Streaming<raw::FetchResponse>,
    pub(super) headers: MetadataMap,
}

impl Subscriber {
    pub(super) async fn open(gateway: &Gateway, token: &str, first: Option<FetchRequest>) -> Self {
        Self::with_headers(gateway, call_by(token, ()).metadata(), first).await
    }

    pub(super) async fn with_headers(
        gateway: &Gateway,
        headers: &MetadataMap,
        first: Option<FetchRequest>,
    ) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        if let Some(first) = first {
            requests.send(first).unwrap();
        }
        let mut request = Request::new(UnboundedReceiverStream::new(receiver));
        *request.metadata_mut() = headers.clone();
        let response = gateway.client.clone().subscribe(request).await.unwrap();
        Self {
            requests: Some(requests),
            headers: response.metadata().clone(),
            responses: response.into_inner(),
        }
    }

    pub(super) fn ask(&self, request: FetchRequest) {
        let requests = self.requests.as_ref().expect("not half-closed");
        // The gateway may have ended the stream.
        _ = requests.send(request);
    }

    pub(super) fn ask_for(&self, requested: i32) {
        self.ask(FetchRequest {
            num_requested: requested,
            ..FetchRequest::default()
        });
    }

    pub(super) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response.
    pub(super) async fn next(&mut self) -> Fetched {
        let response = self.responses.message().await.unwrap();
        let response = response.expect("a response, not the end");
        assert_eq!(response.rpc_id.len(), 36);
        assert_eq!(response.latest_replay_id.len(), ReplayId::LEN);
        let events = response.events.values().iter();
        Fetched {
            events: events
                .map(|event| ConsumerEvent::decode(event).unwrap())
                .collect(),
            latest: ReplayId::parse(&response.latest_replay_id).unwrap(),
            pending: response.pending_num_requested,
            len: response.wire_len(),
        }
    }

    /// Waits until the stream ends well.
    pub(super) async fn end(&mut self) {
        let end = self.responses.message().await.unwrap();
        assert!(end.is_none(), "{end:?}");
    }

    /// Waits until the stream fails.
    pub(super) async fn failure(&mut self) -> Status {
        let response = self.responses.message().await;
        response.expect_err("a failure, not a response")
    }

    /// Makes sure that nothing comes for this long.
    pub(super) async fn expect_silence(&mut self, time: Duration) {
        let response = tokio::time::timeout(time, self.responses.message()).await;
        assert!(response.is_err(), "{response:?}");
    }
}

/// A first request from the latest.
pub(super) fn latest(topic: &str, requested: i32) -> FetchRequest {
    FetchRequest {
        topic_name: topic.into(),
        num_requested: requested,
        ..FetchRequest::default()
    }
}

/// A first request from the earliest.
pub(super) fn earliest(topic: &str, requested: i32) -> FetchRequest {
    FetchRequest {
        replay_preset: 1,
        ..latest(topic, requested)
    }
}

/// A first request from behind a replay id.
pub(super) fn custom(topic: &str, replay_id: &[u8], requested: i32) -> FetchRequest {
    FetchRequest {
        replay_preset: 2,
        replay_id: replay_id.to_vec().into(),
        ..latest(topic, requested)
    }
}

/// The client's side of `PublishStream`.
pub(super) struct PublishStream {
    requests: Option<mpsc::UnboundedSender<raw::PublishRequest>>,
    responses: Streaming<raw::PublishResponse>,
}

impl PublishStream {
    pub(super) async fn open(gateway: &Gateway, token: &str) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let request = call_by(token, UnboundedReceiverStream::new(receiver));
        let response = gateway.client.clone().publish_stream(request).await;
        Self {
            requests: Some(requests),
            responses: response.unwrap().into_inner(),
        }
    }

    pub(super) fn send(&self, request: raw::PublishRequest) {
        let requests = self.requests.as_ref().expect("not half-closed");
        // The gateway may have ended the stream.
        _ = requests.send(request);
    }

    pub(super) fn publish(&self, topic: &str, events: &[ProducerEvent]) {
        self.send(publish_request(topic, events));
    }

    pub(super) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response.
    pub(super) async fn next(&mut self) -> Published {
        let response = self.responses.message().await.unwrap();
        Published::of(response.expect("a response, not the end"))
    }

    /// Waits until the stream ends well.
    pub(super) async fn end(&mut self) {
        let end = self.responses.message().await.unwrap();
        assert!(end.is_none(), "{end:?}");
    }

    /// Waits until the stream fails.
    pub(super) async fn failure(&mut self) -> Status {
        let response = self.responses.message().await;
        response.expect_err("a failure, not a response")
    }

    /// Makes sure that nothing comes for this long.
    pub(super) async fn expect_silence(&mut self, time: Duration) {
        let response = tokio::time::timeout(time, self.responses.message()).await;
        assert!(response.is_err(), "{response:?}");
    }
}

/// Lets everything happen that needs no waiting for.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Holds a wait that ends now to its length; the runtime's timers count milliseconds.
#[track_caller]
pub(super) fn assert_took(began: Instant, expected: Duration) {
    let took = began.elapsed();
    let late = took.checked_sub(expected);
    assert!(
        late.is_some_and(|late| late <= Duration::from_millis(3)),
        "took {took:?}, should take {expected:?}"
    );
}

/// Holds a failed call to the form that clients read.
#[track_caller]
pub(super) fn assert_failure(status: &Status, method: &str, kind: Kind) {
    let trailer = |name: &str| {
        let value = status.metadata().get(name);
        value
            .unwrap_or_else(|| panic!("no {name} in {status:?}"))
            .to_str()
            .unwrap()
    };
    assert_eq!(status.code(), kind.status, "{status:?}");
    let rpc_id = trailer("rpc-id");
    assert_eq!(rpc_id.parse::<uuid::Uuid>().unwrap().to_string(), rpc_id);
    assert_eq!(trailer("type"), method);
    let ending = if kind.suffix.is_empty() {
        assert!(!status.metadata().contains_key("error-code"));
        format!(" rpcId: {rpc_id}")
    } else {
        let code = format!("sfdc.platform.eventbus.grpc.{}", kind.suffix);
        assert_eq!(trailer("error-code"), code);
        format!(" ({code}) rpcId: {rpc_id}")
    };
    let sentence = status.message().strip_suffix(&ending);
    assert!(
        sentence.is_some_and(|sentence| !sentence.is_empty()),
        "{status:?}"
    );
    assert!(status.message().len() < 1_024);
    let of_http = ["content-type", "date", "grpc-accept-encoding"];
    let names = status.metadata().keys().map(|name| match name {
        tonic::metadata::KeyRef::Ascii(name) => name.as_str().to_owned(),
        tonic::metadata::KeyRef::Binary(name) => panic!("{name:?} is a binary trailer"),
    });
    let mut names: Vec<_> = names.filter(|name| !of_http.contains(&&**name)).collect();
    names.sort();
    let expected: &[&str] = if kind.suffix.is_empty() {
        &["rpc-id", "type"]
    } else {
        &["error-code", "rpc-id", "type"]
    };
    assert_eq!(names, expected);
}
