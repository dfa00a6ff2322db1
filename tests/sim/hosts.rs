//! The hosts of the simulated network: a gateway, a subscriber, a publisher; and what of them
//! survives their processes.

mod store;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tempfile::TempDir;
use tidegate::{
    auth::token::TokenStore,
    broker::{self, Broker, NewManaged},
    client::{
        Backoff, Connection, CredentialSource, Credentials, Endpoint, Grant, Profile, SignIn,
    },
    clock::{Clock, ManualClock, Timestamp},
    event_log::{self, EventLog, MemoryLog},
    grpc::{self, CallLayer, PubSub},
    metadata::{
        Expected, MemoryStore, MetadataStore, Scope,
        records::{self, TenantRecord},
    },
    net::shutdown::Shutdown,
    proto::pub_sub_server::PubSubServer,
    publisher::{self, Publisher},
    schema::{
        Schema,
        registry::{Registering, Registry, Rules},
    },
    subscriber::{
        Attempt, Event, Handler, Item, ManagedKey, MemoryDeadLetters, Monitor, Notice, Order,
        Outcome, RejectedReplay, RetryPolicy, Run, Start, SubscribeError, Subscriber,
    },
    types::{Grants, Principal, Replay, RunState, SignedIn, Takeover, TenantId, limits},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};
use tonic::transport::{Server, server::Connected};
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    oracle::Oracle,
    scenario::{BUSY, Ordering, Policy, Scenario},
};
use store::Disk;

pub(crate) const GATEWAY: &str = "gateway";
pub(crate) const CLIENT: &str = "client";
pub(crate) const PUBLISHER: &str = "publisher";

const PORT: u16 = 7443;
const MANAGED_NAME: &str = "Simulated";
/// Events are kept longer than the clocks jump, unless they are to be thrown away.
pub(crate) const RETENTION: Duration = Duration::from_secs(6 * 3_600);
/// Waits of the subscriber and the publisher begin and end with these.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// What an operator needs to start again what came to an end.
const OPERATOR: Duration = Duration::from_secs(5);

const TOPICS: [(&str, &str); 2] = [
    (
        "/event/OrderCreated__e",
        include_str!("../../schemas/OrderCreated__e.avsc"),
    ),
    (
        "/event/OrderStatusUpdated__e",
        include_str!("../../schemas/OrderStatusUpdated__e.avsc"),
    ),
];

/// Does what uses threads, such as parsing schemas, while the simulation stands still. In a host's own
/// runtime the order of its tasks would depend on how soon those threads are done; and so would what
/// is random after them, since every thread draws from the same.
fn apart<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let randomness = StdRng::from_rng(&mut *mad_turmoil::rand::get_rng());
    let working = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // Clocks are simulated in the whole process: this one may as well stand.
        let runtime = builder.enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(work)
    };
    let done = std::thread::scope(|scope| scope.spawn(working).join());
    *mad_turmoil::rand::get_rng() = randomness;
    done.expect("what is done apart")
}

/// Everything that survives a process, and what the hosts are told.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) oracle: Oracle,
    rng: Mutex<StdRng>,
    log: Arc<MemoryLog>,
    store: Arc<MemoryStore>,
    pub(crate) gateway_clock: ManualClock,
    pub(crate) client_clock: ManualClock,
    pub(crate) disk: Disk,
    letters: MemoryDeadLetters,
    /// Ids and texts of tokens: the publisher's, and one after the other of the subscriber's.
    tokens: watch::Sender<Vec<(String, String)>>,
    /// Tokens of the subscriber that were taken away.
    revoked: AtomicUsize,
    /// Where a subscriber that renews its token finds the one that is good.
    profile: TempDir,
    /// How often every connection was reset.
    pub(crate) resets: watch::Sender<u64>,
    pub(crate) stop_gateway: Mutex<Option<Shutdown>>,
    pub(crate) stop_client: Notify,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) was_trimmed: AtomicBool,
    was_refused: AtomicBool,
    monitor: Mutex<Option<Monitor>>,
    publishers_at_work: AtomicUsize,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let scenario = Scenario::draw(seed);
        let oracle = Oracle::new(&scenario);
        oracle.note(format_args!("{scenario:?}"));
        let gateway_clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        let config = event_log::Config {
            retention: RETENTION,
            ..event_log::Config::default()
        };
        let log = MemoryLog::new(config, Arc::new(gateway_clock.clone()));
        Arc::new(Self {
            publishers_at_work: AtomicUsize::new(scenario.topics),
            rng: Mutex::new(StdRng::seed_from_u64(!seed)),
            log: Arc::new(log),
            store: Arc::default(),
            client_clock: ManualClock::at(Timestamp::from_millis(1_700_000_000_000)),
            gateway_clock,
            disk: Disk::new(oracle.clone()),
            letters: MemoryDeadLetters::default(),
            tokens: watch::Sender::default(),
            revoked: AtomicUsize::new(0),
            profile: TempDir::new().expect("a temporary directory"),
            resets: watch::Sender::default(),
            stop_gateway: Mutex::default(),
            stop_client: Notify::new(),
            is_stopping: AtomicBool::new(false),
            was_trimmed: AtomicBool::new(false),
            was_refused: AtomicBool::new(false),
            monitor: Mutex::default(),
            scenario,
            oracle,
        })
    }

    /// A number below `end`.
    fn draw(&self, end: u64) -> u64 {
        self.rng.lock().unwrap().random_range(0..end.max(1))
    }

    fn draws(&self, percent: u32) -> bool {
        self.draw(100) < u64::from(percent)
    }

    /// Up to where the events of a topic are purged.
    pub(crate) fn trimmed(&self, topic: &str) -> u64 {
        let opened = futures_util::FutureExt::now_or_never(self.log.open(tenant()));
        let log = opened.expect("memory does not wait").unwrap();
        let topics = log.topics();
        let found = topics.iter().find(|found| found.name.as_str() == topic);
        found.map_or(0, |found| log.topic(found.id).trim.get())
    }

    /// Acknowledged events that were not handled and should have been.
    pub(crate) fn missing(&self) -> Vec<(String, u64)> {
        self.oracle.missing(|topic| self.trimmed(topic))
    }

    /// Why the run is not over yet, if it is not.
    pub(crate) fn unsettled(&self) -> Option<String> {
        if self.publishers_at_work.load(SeqCst) > 0 {
            return Some("events are not acknowledged".into());
        }
        let missing = self.missing();
        if !missing.is_empty() {
            return Some(format!("{} are not handled: {missing:?}", missing.len()));
        }
        for topic in self.topics() {
            let (saved, head) = (self.saved(topic), self.oracle.head(topic));
            if saved < head.max(self.trimmed(topic)) {
                return Some(format!("{topic} is saved at {saved}, its head is {head}"));
            }
        }
        None
    }

    fn topics(&self) -> impl Iterator<Item = &'static str> {
        TOPICS
            .iter()
            .take(self.scenario.topics)
            .map(|topic| topic.0)
    }

    fn saved(&self, topic: &str) -> u64 {
        if !self.scenario.is_managed {
            return self.disk.saved(topic);
        }
        let monitor = self.monitor.lock().unwrap();
        let statuses = monitor.as_ref().map(Monitor::statuses).unwrap_or_default();
        let saved = statuses.first().and_then(|status| status.saved);
        saved.map_or(0, |saved| saved.number())
    }

    /// What holds at every moment.
    pub(crate) fn check(&self) {
        let monitor = self.monitor.lock().unwrap();
        for status in monitor.iter().flat_map(Monitor::statuses) {
            let max = self.scenario.in_flight_max as usize;
            if status.in_flight > max {
                let count = status.in_flight;
                self.oracle
                    .broken(format_args!("{count} in flight of {max}"));
            }
            if status.counters.excess > 0 {
                self.oracle.broken("events came that were not asked for");
            }
        }
    }

    /// How the subscription is, for the trace.
    pub(crate) fn status(&self) -> String {
        let monitor = self.monitor.lock().unwrap();
        format!("{:?}", monitor.as_ref().map(Monitor::statuses))
    }

    /// The gateway's process.
    pub(crate) async fn gateway(self: Arc<Self>) -> turmoil::Result {
        let store = Arc::clone(&self.store) as Arc<dyn MetadataStore>;
        let clock = Arc::new(self.gateway_clock.clone());
        let registry = Registry::new(Arc::clone(&store), clock.clone(), Rules::default());
        let is_new = self.tokens.borrow().is_empty();
        // Held, or the broker would read them again.
        let schemas = apart(async {
            let schemas = registry.tenant(tenant()).await.expect("the schemas");
            let topics = TOPICS.iter().filter(|_| is_new);
            for (_, text) in topics {
                let schema = Schema::parse(text).expect("a schema");
                let new = Registering {
                    is_new_topic: true,
                    ..Registering::new(&schema, "the simulation")
                };
                let verdict = schemas.register(new).await.expect("a verdict");
                assert!(!verdict.is_refused(), "{verdict:?}");
            }
            schemas
        });
        let config = broker::Config {
            keepalive: self.scenario.keepalive,
            ..broker::Config::default()
        };
        let log = Arc::clone(&self.log) as Arc<dyn EventLog>;
        let broker = Broker::new(config, log, registry, Arc::clone(&store), clock.clone());
        broker.open(tenant()).await?;
        drop(schemas);
        let tokens = Arc::new(TokenStore::open(store, clock).await?);
        if is_new {
            self.set_up(&broker, &tokens).await?;
        }
        let (shutdown, mut signal) = Shutdown::new();
        *self.stop_gateway.lock().unwrap() = Some(shutdown);
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let connections = futures_util::stream::unfold(listener, async |listener| {
            let accepted = listener.accept().await;
            Some((
                accepted.map(|(tcp, _)| Io::new(tcp, &self.resets)),
                listener,
            ))
        });
        let service = PubSub::new(
            grpc::Config::default(),
            broker,
            Arc::clone(&tokens) as _,
            signal.clone(),
        );
        let serving = Server::builder()
            .http2_keepalive_interval(Some(limits::PING_INTERVAL))
            .http2_keepalive_timeout(Some(limits::PING_TIMEOUT))
            .initial_stream_window_size(limits::HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::HTTP2_CONNECTION_WINDOW_BYTES)
            .layer(CallLayer::new(grpc::Metrics::default()))
            .add_service(PubSubServer::new(service))
            .serve_with_incoming_shutdown(
                Box::pin(connections),
                async move { signal.recv().await },
            );
        tokio::select! {
            served = serving => served?,
            never = self.revoke(&tokens) => never,
        }
        self.oracle.note("the gateway stopped");
        Ok(())
    }

    /// What a gateway is told before it is first used.
    async fn set_up(&self, broker: &Broker, tokens: &TokenStore) -> turmoil::Result {
        let record = TenantRecord {
            id: tenant().to_string(),
            created_at_ms: self.gateway_clock.now().as_millis(),
        };
        let change = records::change(&record, Expected::Absent);
        self.store.write(Scope::Server, vec![change]).await?;
        if self.scenario.is_managed {
            let principal = Principal {
                tenant: tenant(),
                name: "the simulation".into(),
                grants: Arc::new(Grants::every_topic()),
                signed_in: SignedIn::default(),
            };
            let new = NewManaged {
                filter: String::new(),
                sharing: None,
                developer_name: MANAGED_NAME.into(),
                label: String::new(),
                topic: TOPICS[0].0.into(),
                default_replay: Replay::Earliest,
                error_recovery_replay: Replay::Earliest,
                state: RunState::Run,
                takeover: Takeover::default(),
            };
            broker.create_managed(&principal, new).await?;
        }
        let mut made = Vec::new();
        // One for each time that one may be taken away, one for after that, and the publisher's.
        for _ in 0..self.scenario.faults.len() + 2 {
            let grants = Grants::every_topic();
            let (token, text) = tokens.create(tenant(), "simulated", grants, None).await?;
            made.push((token.id.to_string(), text.expose().to_owned()));
        }
        self.tokens.send_replace(made);
        Ok(())
    }

    /// Takes away tokens as the faults say.
    async fn revoke(&self, tokens: &TokenStore) {
        let mut done = 0;
        loop {
            while done < self.revoked.load(SeqCst) {
                done += 1;
                let id = self.tokens.borrow()[done].0.clone();
                // One that another process took away is taken away.
                _ = tokens.revoke(tenant(), &id).await;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Takes the subscriber's token away. Its next one is there before.
    pub(crate) fn revoke_next(&self) {
        let next = 2 + self.revoked.load(SeqCst);
        if let Some((_, token)) = self.tokens.borrow().get(next) {
            self.write_profile(token);
        }
        self.revoked.fetch_add(1, SeqCst);
    }

    fn write_profile(&self, token: &str) {
        let profile = Profile {
            grpc_tls_addr: None,
            grpc_addr: None,
            http_addr: None,
            https_addr: None,
            ca_pem: "ca.pem".into(),
            tenant_id: tenant(),
            access_token: token.to_owned(),
            instance_url: "https://localhost".into(),
        };
        profile.write(self.profile.path()).unwrap();
    }

    /// A connection of one of the hosts.
    async fn connect(self: &Arc<Self>, token: usize, is_subscriber: bool) -> Connection {
        let mut tokens = self.tokens.subscribe();
        let tokens = tokens.wait_for(|tokens| !tokens.is_empty()).await.unwrap();
        let url = format!("http://{GATEWAY}:{PORT}").parse().unwrap();
        let token = &tokens[token].1;
        let credentials = if is_subscriber && self.scenario.renews {
            self.write_profile(token);
            CredentialSource::SignIn(SignIn {
                grant: Grant::Profile(self.profile.path().to_owned()),
                instance_url: None,
                tenant_id: None,
            })
        } else {
            CredentialSource::Fixed(Credentials {
                access_token: token.clone(),
                tenant_id: tenant(),
                instance_url: "https://localhost".into(),
            })
        };
        let endpoint = Endpoint {
            allow_plaintext: true,
            ..Endpoint::new(url, credentials)
        };
        let world = Arc::clone(self);
        let connector = tower::service_fn(move |_: http::Uri| {
            if is_subscriber {
                world.oracle.attempt();
            }
            let world = Arc::clone(&world);
            async move {
                let tcp = TcpStream::connect((GATEWAY, PORT)).await?;
                Ok::<_, io::Error>(TokioIo::new(Io::new(tcp, &world.resets)))
            }
        });
        endpoint.connect_with(connector).await.unwrap()
    }

    /// The subscriber's process, and whoever starts it again when it came to an end.
    pub(crate) async fn client(self: Arc<Self>) -> turmoil::Result {
        loop {
            let token = 1 + self.revoked.load(SeqCst);
            let connection = self.connect(token, true).await;
            let subscriber = self.subscriber(connection);
            let run = Run {
                order: match self.scenario.order {
                    Ordering::InOrder => Order::InOrder,
                    Ordering::PerKey => Order::by_field("Order_Number__c"),
                    Ordering::Unordered => Order::Unordered,
                },
                retry: RetryPolicy {
                    first_wait: Duration::from_millis(100),
                    longest_wait: Duration::from_secs(2),
                    attempts_max: None,
                    timeout: None,
                },
                grace: Duration::from_secs(2),
            };
            self.oracle.note("the subscriber starts");
            let handler = Simulated(Arc::clone(&self));
            let told = |notice| self.notice(notice);
            let ended = subscriber.run(run, handler, told, self.stop_client.notified());
            let ended = ended.await;
            self.oracle
                .note(format_args!("the subscriber ended: {ended:?}"));
            if self.is_stopping.load(SeqCst) {
                return std::future::pending().await;
            }
            match ended {
                Err(SubscribeError::PositionRefused { .. }) if self.was_trimmed.load(SeqCst) => {
                    self.was_refused.store(true, SeqCst);
                }
                Err(_) if !self.scenario.renews && token <= self.revoked.load(SeqCst) => {}
                Err(error) => {
                    let promise = format!("the subscriber gave up: {error}");
                    self.oracle.broken(promise);
                }
                Ok(()) => self.oracle.broken("the subscriber ended without a word"),
            }
            sleep(OPERATOR).await;
        }
    }

    fn subscriber(&self, connection: Connection) -> Subscriber {
        let scenario = &self.scenario;
        let policy = match scenario.rejected_replay {
            _ if self.was_refused.load(SeqCst) => RejectedReplay::Earliest,
            Policy::Stop => RejectedReplay::Stop,
            Policy::Earliest => RejectedReplay::Earliest,
            Policy::Latest => RejectedReplay::Latest,
        };
        let mut builder = Subscriber::builder(connection)
            .start_at(Start::Earliest)
            .max_in_flight(scenario.in_flight_max)
            .save_after(scenario.save_every, scenario.save_within)
            .on_rejected_replay(policy)
            .backoff(Backoff::new(WAITS.0, WAITS.1))
            .clock(self.client_clock.clone())
            .dead_letters(self.letters.clone());
        builder = match (scenario.is_managed, scenario.has_dedupe) {
            (false, false) => builder.checkpoints(self.disk.clone()),
            (false, true) => builder.state(self.disk.clone()),
            (true, true) => builder.dedupe(self.disk.clone()),
            (true, false) => builder,
        };
        if scenario.is_managed {
            let key = ManagedKey::Name(MANAGED_NAME.into());
            builder = builder.managed(key, TOPICS[0].0.parse().unwrap());
        } else {
            for topic in self.topics() {
                builder = builder.topic(topic.parse().unwrap());
            }
        }
        builder.build().unwrap()
    }

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Started(monitor) => *self.monitor.lock().unwrap() = Some(monitor),
            Notice::Item(Item::Gap(gap)) => self.oracle.gap(&gap),
            Notice::Item(Item::Disconnected(broken)) => {
                let (cause, wait) = (&broken.cause, broken.wait.as_millis());
                self.oracle
                    .note(format_args!("disconnected for {wait} ms: {cause}"));
            }
            Notice::Item(Item::Reconnected(again)) => {
                let attempts = again.attempts;
                self.oracle
                    .note(format_args!("reconnected after {attempts}"));
            }
            Notice::Item(Item::CaughtUp(topic)) => {
                self.oracle.note(format_args!("caught up {topic}"))
            }
            Notice::Parked(letter) => {
                let number = letter.replay_id.number();
                self.oracle.note(format_args!("parked {number}"));
            }
            _ => {}
        }
    }

    /// The publisher's process.
    pub(crate) async fn publisher(self: Arc<Self>) -> turmoil::Result {
        let mut publishing = JoinSet::new();
        for (topic, _) in TOPICS.iter().take(self.scenario.topics) {
            publishing.spawn_local(Arc::clone(&self).publish(topic));
        }
        publishing.join_all().await;
        Ok(())
    }

    async fn publish(self: Arc<Self>, topic: &'static str) {
        let connection = self.connect(0, false).await;
        let start = || {
            Publisher::builder(connection.clone(), topic.parse().unwrap())
                // Longer than anything is broken.
                .retry_for(Duration::from_secs(3_600))
                .backoff(Backoff::new(WAITS.0, WAITS.1))
                .clock(self.gateway_clock.clone())
                .start()
        };
        let mut publisher = start();
        let mut results = JoinSet::new();
        for number in 0_u32.. {
            if turmoil::sim_elapsed().unwrap_or_default() >= BUSY {
                break;
            }
            let mean = self.scenario.publish_every.as_millis() as u64;
            sleep(Duration::from_millis(self.draw(2 * mean))).await;
            let key = self.draw(4);
            let copies = if self.draws(self.scenario.repeats_percent) {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let event = publisher::Event::json(json!({"Order_Number__c": format!("K{key}")}));
                let ticket = match publisher.send(event.with_id(format!("e{number}"))).await {
                    Ok(ticket) => ticket,
                    Err(error) => {
                        self.oracle
                            .note(format_args!("the publisher ended: {error}"));
                        publisher = start();
                        continue;
                    }
                };
                let oracle = self.oracle.clone();
                results.spawn_local(async move {
                    match ticket.result().await {
                        Ok(published) => {
                            let number = published.replay_id.first_chunk();
                            let number = u64::from_be_bytes(*number.expect("ids have ten bytes"));
                            oracle.acknowledged(topic, number, &published.event_id);
                        }
                        Err(failed) => oracle.note(format_args!("not published: {failed}")),
                    }
                });
            }
        }
        results.join_all().await;
        self.publishers_at_work.fetch_sub(1, SeqCst);
    }
}

/// Takes its time, fails and panics, as the seed says.
struct Simulated(Arc<World>);

impl Handler for Simulated {
    async fn handle(&self, event: &Arc<Event>, _: Attempt) -> Outcome {
        let world = &self.0;
        let handling = world.scenario.handler;
        let topic = event.subscribed_topic().as_str();
        let position = event.replay_id().number();
        let payload = event.json().unwrap_or_default();
        let key = payload["Order_Number__c"].as_str().unwrap_or_default();
        let _at_work = world.oracle.begin(topic, position, event.id(), key);
        sleep(Duration::from_millis(world.draw(handling.longest_ms))).await;
        if world.draws(handling.fails_percent) {
            return Outcome::Retry("simulated".into());
        }
        if world.draws(handling.panics_percent) {
            // Without the hook, which would print it.
            std::panic::resume_unwind(Box::new("simulated"));
        }
        world.oracle.done(topic, position, event.id());
        match world.draws(handling.parks_percent) {
            true => Outcome::Park("simulated".into()),
            false => Outcome::Done,
        }
    }
}

pub(crate) fn tenant() -> TenantId {
    "00D000000000001".parse().unwrap()
}

/// A connection, as the RPC library wants it, which may be reset.
struct Io {
    tcp: TcpStream,
    reset: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_reset: bool,
}

impl Io {
    fn new(tcp: TcpStream, resets: &watch::Sender<u64>) -> Self {
        let mut resets = resets.subscribe();
        Self {
            tcp,
            reset: Box::pin(async move {
                if resets.changed().await.is_err() {
                    std::future::pending().await
                }
            }),
            is_reset: false,
        }
    }

    /// Fails once the connection was reset.
    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_reset = self.is_reset || self.reset.as_mut().poll(cx).is_ready();
        match self.is_reset {
            true => Err(io::ErrorKind::ConnectionReset.into()),
            false => Ok(()),
        }
    }
}

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
