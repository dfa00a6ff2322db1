//! A gateway for tests of the command line: one topic, events in memory, and failures on demand.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use prost::Message;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};

use crate::{
    client::{Connection, Credentials, Endpoint},
    proto::{
        CREDIT_MAX_METADATA, CommitReplayResponse, ConsumerEvent, Error, FetchRequest,
        ManagedFetchRequest, ProducerEvent, PublishResult, SchemaInfo, SchemaRequest, TopicInfo,
        TopicRequest,
        admin::{
            self,
            admin_server::{Admin, AdminServer},
        },
        pub_sub_server::{PubSub, PubSubServer},
        raw::{FetchResponse, ManagedFetchResponse, PublishRequest, PublishResponse, Repeated},
    },
    types::{Position, ReplayId},
};

/// The schema of the topic `/event/OrderCreated__e`.
pub(super) const ORDER_CREATED: &str = r#"{"type":"record","name":"OrderCreated__e","namespace":"com.sforce.eventbus","fields":[
 {"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},
 {"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"},
 {"name":"Order_Number__c","type":["null","string"],"doc":"Data:Text:00NXX0000000001","default":null},
 {"name":"Amount__c","type":["null","double"],"doc":"Data:Double:00NXX0000000002","default":null},
 {"name":"Priority__c","type":["null","boolean"],"doc":"Data:Boolean:00NXX0000000003","default":null}]}"#;
/// Its id.
pub(super) const ORDER_CREATED_ID: &str = "dGzWYkf4alBWqjXJMJJLlw";
const TOPIC: &str = "/event/OrderCreated__e";

/// An event whose id this is gets refused.
pub(super) const REFUSED_ID: &str = "refuse-me";
/// A request with an event whose id this is breaks its stream.
pub(super) const BREAKING_ID: &str = "break-the-stream";

/// A gateway that listens until it is dropped.
pub(super) struct FakeGateway {
    pub(super) addr: SocketAddr,
    pub(super) state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

/// What a gateway was asked, and what it is to do.
#[derive(Default)]
pub(super) struct State {
    /// Every event there is; positions count from 1.
    pub(super) events: Vec<ProducerEvent>,
    /// Every request of a subscription.
    pub(super) fetches: Vec<FetchRequest>,
    /// Number of events of every publish request.
    pub(super) publishes: Vec<usize>,
    /// Metadata of the last call.
    pub(super) metadata: MetadataMap,
    /// How many times a subscription is to break after its first response.
    pub(super) breaks: usize,
    /// The most credit that a subscription is granted if it asks for more than is usual.
    pub(super) granted: Option<u32>,
    /// Credit beyond this is dropped without a word.
    pub(super) credit_ceiling: Option<usize>,
    /// What a subscription is refused with.
    pub(super) refusal: Option<Status>,
    /// Whether it stores also what it is usually told by its id to refuse.
    pub(super) takes_everything: bool,
    /// Whether the token may publish.
    pub(super) refuses_publishing: bool,
    /// The schemas of topics besides, by their names; all topics share the events.
    pub(super) topics: HashMap<String, String>,
    /// The texts of schemas besides, by their ids.
    pub(super) schemas: HashMap<String, String>,
    /// What is done to the events of a response before it is sent.
    pub(super) tampers_with_events: Option<fn(&mut Vec<ConsumerEvent>)>,
    /// What is done to the results of a request before they are sent.
    pub(super) tampers_with_results: Option<fn(&mut Vec<PublishResult>)>,
    /// A subscription ends, without an error, once it is at this position.
    pub(super) ends_at: Option<usize>,
    /// How many streams of a managed subscription are refused, since another one has it.
    pub(super) taken: usize,
    /// What a stream of a managed subscription does once it is half-closed; by default it ends well.
    pub(super) breaks_at_half_close: bool,
    /// The number of streams of a managed subscription.
    pub(super) managed_streams: usize,
    /// The number of commits on them.
    pub(super) managed_commits: usize,
    /// The directory of every backup.
    pub(super) backups: Vec<String>,
    tokens: Vec<admin::Token>,
    managed: Vec<admin::ManagedSubscription>,
    channels: Vec<admin::Channel>,
    clients: Vec<admin::Client>,
    users: Vec<admin::User>,
    /// Told of each event that is stored.
    stored: watch::Sender<()>,
}

impl FakeGateway {
    /// A gateway without events.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let service = Service(Arc::clone(&state));
        let serving = Server::builder()
            .add_service(PubSubServer::new(service.clone()))
            .add_service(AdminServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            addr,
            state,
            server,
        }
    }

    /// A gateway with this many events, whose ids count from `e-1`.
    pub(super) async fn with_events(count: usize) -> Self {
        let gateway = Self::start().await;
        for number in 1..=count {
            gateway.add_event(&format!("e-{number}"), payload(number));
        }
        gateway
    }

    pub(super) fn add_event(&self, id: &str, payload: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        state.events.push(ProducerEvent {
            id: id.into(),
            schema_id: ORDER_CREATED_ID.into(),
            payload: payload.into(),
            headers: Vec::new(),
        });
        state.stored.send_replace(());
    }

    /// What to connect to.
    pub(super) fn endpoint(&self) -> Endpoint {
        let url = format!("http://{}", self.addr).parse().unwrap();
        let credentials = Credentials {
            access_token: "00D000000000001!secret".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            instance_url: "https://localhost".into(),
        };
        Endpoint::new(url, credentials)
    }

    pub(super) async fn connect(&self) -> Connection {
        self.endpoint().connect().await.unwrap()
    }
}

impl Drop for FakeGateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A payload of the topic's schema.
fn payload(number: usize) -> Vec<u8> {
    let schema = crate::schema::Schema::parse(ORDER_CREATED).unwrap();
    let fill = crate::schema::Fill {
        created_date_ms: 0,
        created_by_id: "005000000000000AAA",
    };
    let json = serde_json::json!({ "Order_Number__c": format!("A-{number}") });
    schema.encode_json(&json, &fill).unwrap()
}

pub(super) fn replay_id(position: usize) -> ReplayId {
    Position::new(position as u64).unwrap().replay_id()
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

impl Service {
    fn noting<T>(&self, request: &Request<T>) -> std::sync::MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap();
        state.metadata = request.metadata().clone();
        state
    }

    fn change_channel(
        &self,
        name: &str,
        change: impl FnOnce(&mut admin::Channel),
    ) -> Result<Response<admin::Channel>, Status> {
        let mut state = self.0.lock().unwrap();
        let mut channels = state.channels.iter_mut();
        let found = channels.find(|channel| channel.name == name);
        let found = found.ok_or_else(|| refused(tonic::Code::NotFound, "admin.not.found"))?;
        change(found);
        found.version += 1;
        Ok(Response::new(found.clone()))
    }
}

fn refused(code: tonic::Code, suffix: &str) -> Status {
    let mut trailers = MetadataMap::new();
    let error_code = format!("sfdc.platform.eventbus.grpc.{suffix}");
    trailers.insert("error-code", error_code.parse().unwrap());
    Status::with_metadata(code, format!("refused ({suffix})"), trailers)
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl PubSub for Service {
    type SubscribeStream = Responses<FetchResponse>;
    type PublishStreamStream = Responses<PublishResponse>;
    type ManagedSubscribeStream = Responses<ManagedFetchResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let granted = self.noting(&request).granted;
        let granted = granted.filter(|_| request.metadata().contains_key(CREDIT_MAX_METADATA));
        let (sender, receiver) = mpsc::channel(16);
        let state = Arc::clone(&self.0);
        let requests = request.into_inner();
        tokio::spawn(async move {
            let credit_max = granted.unwrap_or(100) as usize;
            if let Err(status) = deliver(state, requests, &sender, credit_max).await {
                _ = sender.send(Err(status)).await;
            }
        });
        let responses = Box::pin(ReceiverStream::new(receiver));
        let mut response: Response<Self::SubscribeStream> = Response::new(responses);
        if let Some(granted) = granted {
            response
                .metadata_mut()
                .insert(CREDIT_MAX_METADATA, granted.into());
        }
        Ok(response)
    }

    async fn get_schema(
        &self,
        request: Request<SchemaRequest>,
    ) -> Result<Response<SchemaInfo>, Status> {
        drop(self.noting(&request));
        let schema_id = request.into_inner().schema_id;
        let besides = self.0.lock().unwrap().schemas.get(&schema_id).cloned();
        let schema_json = match (schema_id.as_str(), besides) {
            (_, Some(text)) => text,
            (ORDER_CREATED_ID, None) => ORDER_CREATED.to_owned(),
            _ => {
                return Err(refused(
                    tonic::Code::PermissionDenied,
                    "schema.meta.permission",
                ));
            }
        };
        Ok(Response::new(SchemaInfo {
            schema_json,
            schema_id,
            rpc_id: String::new(),
        }))
    }

    async fn get_topic(
        &self,
        request: Request<TopicRequest>,
    ) -> Result<Response<TopicInfo>, Status> {
        let can_publish = !self.noting(&request).refuses_publishing;
        let topic_name = request.into_inner().topic_name;
        let besides = self.0.lock().unwrap().topics.get(&topic_name).cloned();
        let schema_id = match (topic_name.as_str(), besides) {
            (_, Some(schema_id)) => schema_id,
            (TOPIC, None) => ORDER_CREATED_ID.to_owned(),
            ("/event/Orders__chn", None) => String::new(),
            _ => return Err(refused(tonic::Code::NotFound, "topic.not.found")),
        };
        Ok(Response::new(TopicInfo {
            can_publish: can_publish && !schema_id.is_empty(),
            can_subscribe: true,
            topic_name,
            schema_id,
            ..TopicInfo::default()
        }))
    }

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        drop(self.noting(&request));
        store(&self.0, &request.into_inner()).map(Response::new)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        drop(self.noting(&request));
        let (sender, receiver) = mpsc::channel(16);
        let state = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if sender.send(store(&state, &request)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn managed_subscribe(
        &self,
        request: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        {
            let mut state = self.0.lock().unwrap();
            state.managed_streams += 1;
            if state.taken > 0 {
                state.taken -= 1;
                let suffix = "managed.subscription.already.active";
                return Err(refused(tonic::Code::AlreadyExists, suffix));
            }
        }
        let (sender, receiver) = mpsc::channel(16);
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let delivered = deliver_managed(state, request.into_inner(), &sender).await;
            if let Err(status) = delivered {
                _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Answers the first request with every event that there is, and each commit.
async fn deliver_managed(
    state: Arc<Mutex<State>>,
    mut requests: Streaming<ManagedFetchRequest>,
    sender: &mpsc::Sender<Result<ManagedFetchResponse, Status>>,
) -> Result<(), Status> {
    let mut is_first = true;
    while let Some(request) = requests.message().await? {
        let commit = request.commit_replay_id_request;
        state.lock().unwrap().managed_commits += usize::from(commit.is_some());
        let commit_response = commit.map(|commit| CommitReplayResponse {
            commit_request_id: commit.commit_request_id,
            replay_id: commit.replay_id,
            ..CommitReplayResponse::default()
        });
        let fetch = {
            let state = state.lock().unwrap();
            let stored = (1..).zip(&state.events);
            let events = stored.take(if is_first { usize::MAX } else { 0 });
            let events = events.map(|(position, event)| {
                let event = ConsumerEvent {
                    event: Some(event.clone()),
                    replay_id: replay_id(position).as_bytes().to_vec().into(),
                };
                event.encode_to_vec()
            });
            FetchResponse {
                latest_replay_id: replay_id(state.events.len()).as_bytes().to_vec().into(),
                pending_num_requested: 1,
                events: Repeated::of(events),
                ..FetchResponse::default()
            }
        };
        is_first = false;
        let response = ManagedFetchResponse {
            fetch,
            commit_response,
        };
        if sender.send(Ok(response)).await.is_err() {
            return Ok(());
        }
    }
    match state.lock().unwrap().breaks_at_half_close {
        true => Err(refused(tonic::Code::Unavailable, "service.unavailable")),
        false => Ok(()),
    }
}

fn store(state: &Mutex<State>, request: &PublishRequest) -> Result<PublishResponse, Status> {
    let mut state = state.lock().unwrap();
    state.publishes.push(request.events.values().len());
    let mut results = Vec::new();
    for event in request.events.values().shares() {
        let event = ProducerEvent::decode(event).unwrap();
        if event.id == BREAKING_ID && !state.takes_everything {
            return Err(refused(tonic::Code::Unavailable, "service.unavailable"));
        }
        let mut result = PublishResult {
            correlation_key: event.id.clone(),
            ..PublishResult::default()
        };
        if event.id == REFUSED_ID {
            let msg = "this event is not wanted".into();
            result.error = Some(Error { code: 1, msg });
        } else {
            state.events.push(event);
            let id = replay_id(state.events.len());
            result.replay_id = id.as_bytes().to_vec().into();
        }
        results.push(result);
    }
    state.stored.send_replace(());
    if let Some(tamper) = state.tampers_with_results {
        tamper(&mut results);
    }
    Ok(PublishResponse {
        results: Repeated::of(results.iter().map(Message::encode_to_vec)),
        ..PublishResponse::default()
    })
}

/// Answers each request with the events that it asks for, as far as there are any, and delivers what
/// is stored later.
async fn deliver(
    state: Arc<Mutex<State>>,
    mut requests: Streaming<FetchRequest>,
    sender: &mpsc::Sender<Result<FetchResponse, Status>>,
    credit_max: usize,
) -> Result<(), Status> {
    let mut stored = state.lock().unwrap().stored.subscribe();
    let mut cursor = None;
    let mut pending = 0;
    loop {
        let request = tokio::select! {
            request = requests.message() => match request? {
                None => return Ok(()),
                request => request,
            },
            _ = stored.changed() => None,
        };
        let (response, is_broken, is_over) = {
            let mut state = state.lock().unwrap();
            let is_asked = request.is_some();
            if let Some(request) = request {
                if let Some(refusal) = &state.refusal {
                    return Err(refusal.clone());
                }
                state.fetches.push(request.clone());
                cursor.get_or_insert(match request.replay_preset {
                    0 => state.events.len(),
                    1 => 0,
                    _ => ReplayId::parse(&request.replay_id).unwrap().get() as usize,
                });
                pending += request.num_requested as usize;
                if pending > credit_max {
                    return Err(refused(tonic::Code::InvalidArgument, "too.much.credit"));
                }
                pending = pending.min(state.credit_ceiling.unwrap_or(pending));
            }
            let Some(after) = cursor else { continue };
            let mut events: Vec<_> = (after + 1..)
                .zip(&state.events[after..])
                .take(pending)
                .map(|(position, event)| ConsumerEvent {
                    event: Some(event.clone()),
                    replay_id: replay_id(position).as_bytes().to_vec().into(),
                })
                .collect();
            if events.is_empty() && !is_asked {
                continue;
            }
            pending -= events.len();
            let latest = after + events.len();
            cursor = Some(latest);
            if let Some(tamper) = state.tampers_with_events {
                tamper(&mut events);
            }
            let response = FetchResponse {
                latest_replay_id: replay_id(latest).as_bytes().to_vec().into(),
                pending_num_requested: pending as i32,
                events: Repeated::of(events.iter().map(Message::encode_to_vec)),
                ..FetchResponse::default()
            };
            let is_broken = state.breaks > 0;
            state.breaks = state.breaks.saturating_sub(1);
            (response, is_broken, state.ends_at == Some(latest))
        };
        if sender.send(Ok(response)).await.is_err() || is_over {
            return Ok(());
        }
        if is_broken {
            return Err(refused(
                tonic::Code::Unavailable,
                "subscription.internal.error",
            ));
        }
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn list_topics(
        &self,
        request: Request<admin::ListTopicsRequest>,
    ) -> Result<Response<admin::ListTopicsResponse>, Status> {
        drop(self.noting(&request));
        Ok(Response::new(admin::ListTopicsResponse {
            topics: vec![topic()],
        }))
    }

    async fn describe_topic(
        &self,
        request: Request<admin::DescribeTopicRequest>,
    ) -> Result<Response<admin::Topic>, Status> {
        match request.into_inner().name.as_str() {
            TOPIC => Ok(Response::new(topic())),
            _ => Err(refused(tonic::Code::NotFound, "topic.not.found")),
        }
    }

    async fn resolve_time(
        &self,
        request: Request<admin::ResolveTimeRequest>,
    ) -> Result<Response<admin::ResolveTimeResponse>, Status> {
        let request = request.into_inner();
        match (request.topic_name.as_str(), request.time.as_str()) {
            (TOPIC, "-900s") => Ok(Response::new(admin::ResolveTimeResponse {
                replay_id: replay_id(7).as_bytes().to_vec().into(),
                next_at_ms: Some(1_767_225_600_000),
            })),
            (TOPIC, _) => Ok(Response::new(admin::ResolveTimeResponse {
                replay_id: replay_id(9).as_bytes().to_vec().into(),
                next_at_ms: None,
            })),
            _ => Err(refused(tonic::Code::NotFound, "topic.not.found")),
        }
    }

    async fn list_schemas(
        &self,
        _: Request<admin::ListSchemasRequest>,
    ) -> Result<Response<admin::ListSchemasResponse>, Status> {
        Ok(Response::new(admin::ListSchemasResponse {
            schemas: vec![admin::SchemaVersion {
                topic_name: TOPIC.into(),
                schema_id: ORDER_CREATED_ID.into(),
                version: 1,
                current: true,
                registered_at_ms: 1_700_000_000_000,
                ..admin::SchemaVersion::default()
            }],
            refused_files: Vec::new(),
        }))
    }

    async fn register_schema(
        &self,
        _: Request<admin::RegisterSchemaRequest>,
    ) -> Result<Response<admin::SchemaVerdict>, Status> {
        Err(Status::unimplemented("a real gateway judges schemas"))
    }

    async fn check_schema(
        &self,
        _: Request<admin::RegisterSchemaRequest>,
    ) -> Result<Response<admin::SchemaVerdict>, Status> {
        Err(Status::unimplemented("a real gateway judges schemas"))
    }

    async fn describe_schema(
        &self,
        _: Request<admin::DescribeSchemaRequest>,
    ) -> Result<Response<admin::SchemaVersion>, Status> {
        Err(Status::unimplemented("a real gateway has versions"))
    }

    async fn retire_schema(
        &self,
        _: Request<admin::RetireSchemaRequest>,
    ) -> Result<Response<admin::RetireSchemaResponse>, Status> {
        Err(Status::unimplemented("a real gateway has versions"))
    }

    async fn describe_schema_rules(
        &self,
        _: Request<admin::DescribeSchemaRulesRequest>,
    ) -> Result<Response<admin::SchemaRules>, Status> {
        Err(Status::unimplemented("a real gateway has rules"))
    }

    async fn set_schema_rules(
        &self,
        _: Request<admin::SetSchemaRulesRequest>,
    ) -> Result<Response<admin::SchemaRules>, Status> {
        Err(Status::unimplemented("a real gateway has rules"))
    }

    async fn create_token(
        &self,
        request: Request<admin::CreateTokenRequest>,
    ) -> Result<Response<admin::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        let token = admin::Token {
            id: "1".into(),
            name: request.name,
            grants: request.grants,
            created_at_ms: 1_700_000_000_000,
            revoked_at_ms: 0,
            expires_at_ms: 0,
            kind: "static".into(),
        };
        self.0.lock().unwrap().tokens.push(token.clone());
        Ok(Response::new(admin::CreateTokenResponse {
            token: Some(token),
            access_token: "00D000000000001!made".into(),
        }))
    }

    async fn delete_topic(
        &self,
        _: Request<admin::DeleteTopicRequest>,
    ) -> Result<Response<admin::DeleteTopicResponse>, Status> {
        Ok(Response::new(admin::DeleteTopicResponse { event_count: 5 }))
    }

    async fn set_topic(
        &self,
        request: Request<admin::SetTopicRequest>,
    ) -> Result<Response<admin::Topic>, Status> {
        let request = request.into_inner();
        let before = topic();
        Ok(Response::new(admin::Topic {
            retention_ms: request.retention_ms.unwrap_or(before.retention_ms),
            ..before
        }))
    }

    async fn erase_events(
        &self,
        _: Request<admin::EraseEventsRequest>,
    ) -> Result<Response<admin::EraseEventsResponse>, Status> {
        Ok(Response::new(admin::EraseEventsResponse {
            examined_count: 7,
            matched_count: 3,
            erased_count: 2,
            segment_count: 1,
            unreadable_count: 1,
            hole_count: 0,
        }))
    }

    async fn confirm_retention(
        &self,
        _: Request<admin::ConfirmRetentionRequest>,
    ) -> Result<Response<admin::ConfirmRetentionResponse>, Status> {
        Ok(Response::new(admin::ConfirmRetentionResponse {
            was_held: true,
        }))
    }

    async fn list_tokens(
        &self,
        _: Request<admin::ListTokensRequest>,
    ) -> Result<Response<admin::ListTokensResponse>, Status> {
        Ok(Response::new(admin::ListTokensResponse {
            tokens: self.0.lock().unwrap().tokens.clone(),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<admin::RevokeTokenRequest>,
    ) -> Result<Response<admin::RevokeTokenResponse>, Status> {
        let id = request.into_inner().id;
        let mut state = self.0.lock().unwrap();
        let token = state.tokens.iter_mut().find(|token| token.id == id);
        let token = token.ok_or_else(|| Status::not_found("no such token"))?;
        token.revoked_at_ms = 1_700_000_000_001;
        Ok(Response::new(admin::RevokeTokenResponse {
            token: Some(token.clone()),
        }))
    }

    async fn create_managed_subscription(
        &self,
        request: Request<admin::CreateManagedSubscriptionRequest>,
    ) -> Result<Response<admin::ManagedSubscription>, Status> {
        let request = request.into_inner();
        let subscription = admin::ManagedSubscription {
            id: "18x000000000001AAA".into(),
            label: request.label,
            developer_name: request.developer_name,
            topic_name: request.topic_name,
            default_replay: request.default_replay,
            error_recovery_replay: request.error_recovery_replay,
            state: request.state,
            takeover: request.takeover,
            version: 1,
            created_at_ms: 1_700_000_000_000,
            lag: Some(lag()),
            ..admin::ManagedSubscription::default()
        };
        self.0.lock().unwrap().managed.push(subscription.clone());
        Ok(Response::new(subscription))
    }

    async fn list_managed_subscriptions(
        &self,
        _: Request<admin::ListManagedSubscriptionsRequest>,
    ) -> Result<Response<admin::ListManagedSubscriptionsResponse>, Status> {
        let subscriptions = self.0.lock().unwrap().managed.clone();
        Ok(Response::new(admin::ListManagedSubscriptionsResponse {
            subscriptions,
        }))
    }

    async fn update_managed_subscription(
        &self,
        request: Request<admin::UpdateManagedSubscriptionRequest>,
    ) -> Result<Response<admin::ManagedSubscription>, Status> {
        let request = request.into_inner();
        let key = request.key.unwrap();
        let mut state = self.0.lock().unwrap();
        let mut managed = state.managed.iter_mut();
        let found = managed.find(|it| it.developer_name == key.developer_name || it.id == key.id);
        let found = found.ok_or_else(|| refused(tonic::Code::NotFound, "admin.not.found"))?;
        found.state = request.state;
        found.version += 1;
        Ok(Response::new(found.clone()))
    }

    async fn delete_managed_subscription(
        &self,
        _: Request<admin::ManagedSubscriptionKey>,
    ) -> Result<Response<admin::ManagedSubscription>, Status> {
        Err(Status::unimplemented("not part of this fake"))
    }

    async fn release_managed_subscription(
        &self,
        _: Request<admin::ManagedSubscriptionKey>,
    ) -> Result<Response<admin::ReleaseManagedSubscriptionResponse>, Status> {
        Err(Status::unimplemented("not part of this fake"))
    }

    async fn create_channel(
        &self,
        request: Request<admin::NewChannel>,
    ) -> Result<Response<admin::Channel>, Status> {
        let request = request.into_inner();
        let channel = admin::Channel {
            name: request.name,
            label: request.label,
            members: request.members,
            version: 1,
            created_at_ms: 1_700_000_000_000,
            standard: false,
        };
        self.0.lock().unwrap().channels.push(channel.clone());
        Ok(Response::new(channel))
    }

    async fn list_channels(
        &self,
        _: Request<admin::ListChannelsRequest>,
    ) -> Result<Response<admin::ListChannelsResponse>, Status> {
        let standard = admin::Channel {
            name: "/data/ChangeEvents".into(),
            standard: true,
            ..admin::Channel::default()
        };
        let custom = self.0.lock().unwrap().channels.clone();
        Ok(Response::new(admin::ListChannelsResponse {
            channels: [vec![standard], custom].concat(),
        }))
    }

    async fn update_channel(
        &self,
        request: Request<admin::UpdateChannelRequest>,
    ) -> Result<Response<admin::Channel>, Status> {
        let request = request.into_inner();
        self.change_channel(&request.name, |channel| channel.label = request.label)
    }

    async fn add_channel_member(
        &self,
        request: Request<admin::AddChannelMemberRequest>,
    ) -> Result<Response<admin::Channel>, Status> {
        let request = request.into_inner();
        let member = request.member.unwrap();
        check_member(&member)?;
        self.change_channel(&request.channel_name, |channel| {
            channel.members.push(member);
        })
    }

    async fn remove_channel_member(
        &self,
        request: Request<admin::RemoveChannelMemberRequest>,
    ) -> Result<Response<admin::Channel>, Status> {
        let request = request.into_inner();
        self.change_channel(&request.channel_name, |channel| {
            channel
                .members
                .retain(|member| member.topic_name != request.topic_name);
        })
    }

    async fn delete_channel(
        &self,
        request: Request<admin::DeleteChannelRequest>,
    ) -> Result<Response<admin::DeleteChannelResponse>, Status> {
        let name = request.into_inner().name;
        self.change_channel(&name, |_| ())?;
        let mut state = self.0.lock().unwrap();
        state.channels.retain(|channel| channel.name != name);
        Ok(Response::new(admin::DeleteChannelResponse {}))
    }

    async fn apply_channels(
        &self,
        request: Request<admin::ApplyChannelsRequest>,
    ) -> Result<Response<admin::ApplyChannelsResponse>, Status> {
        let request = request.into_inner();
        let outcome = match request.dry_run {
            true => "changed",
            false => "created",
        };
        let mut channels = Vec::new();
        for channel in request.channels {
            for member in &channel.members {
                check_member(member).map_err(|refusal| {
                    Status::invalid_argument(format!("{}: {}", channel.name, refusal.message()))
                })?;
            }
            channels.push(admin::AppliedChannel {
                name: channel.name,
                outcome: outcome.into(),
            });
        }
        Ok(Response::new(admin::ApplyChannelsResponse { channels }))
    }

    async fn create_client(
        &self,
        request: Request<admin::CreateClientRequest>,
    ) -> Result<Response<admin::CreateClientResponse>, Status> {
        let asked = request.into_inner();
        let client = admin::Client {
            client_id: "client-1".into(),
            name: asked.name,
            grants: asked.grants,
            certificate_count: asked.certificates.len() as u32,
            ..admin::Client::default()
        };
        self.0.lock().unwrap().clients.push(client.clone());
        Ok(Response::new(admin::CreateClientResponse {
            client: Some(client),
            client_secret: "made".into(),
        }))
    }

    async fn list_clients(
        &self,
        _: Request<admin::ListClientsRequest>,
    ) -> Result<Response<admin::ListClientsResponse>, Status> {
        Ok(Response::new(admin::ListClientsResponse {
            clients: self.0.lock().unwrap().clients.clone(),
        }))
    }

    async fn delete_client(
        &self,
        request: Request<admin::DeleteClientRequest>,
    ) -> Result<Response<admin::DeleteClientResponse>, Status> {
        let id = request.into_inner().client_id;
        let clients = &mut self.0.lock().unwrap().clients;
        let at = clients.iter().position(|client| client.client_id == id);
        let at = at.ok_or_else(|| refused(tonic::Code::NotFound, "admin.not.found"))?;
        clients.remove(at);
        Ok(Response::new(admin::DeleteClientResponse {}))
    }

    async fn create_user(
        &self,
        request: Request<admin::CreateUserRequest>,
    ) -> Result<Response<admin::CreateUserResponse>, Status> {
        let asked = request.into_inner();
        let user = admin::User {
            username: asked.username,
            grants: asked.grants,
            ..admin::User::default()
        };
        self.0.lock().unwrap().users.push(user.clone());
        let is_given = !asked.password.is_empty();
        Ok(Response::new(admin::CreateUserResponse {
            user: Some(user),
            password: if is_given { "" } else { "made" }.into(),
        }))
    }

    async fn list_users(
        &self,
        _: Request<admin::ListUsersRequest>,
    ) -> Result<Response<admin::ListUsersResponse>, Status> {
        Ok(Response::new(admin::ListUsersResponse {
            users: self.0.lock().unwrap().users.clone(),
        }))
    }

    async fn delete_user(
        &self,
        request: Request<admin::DeleteUserRequest>,
    ) -> Result<Response<admin::DeleteUserResponse>, Status> {
        let name = request.into_inner().username;
        let users = &mut self.0.lock().unwrap().users;
        let at = users.iter().position(|user| user.username == name);
        let at = at.ok_or_else(|| refused(tonic::Code::NotFound, "admin.not.found"))?;
        users.remove(at);
        Ok(Response::new(admin::DeleteUserResponse {}))
    }

    async fn backup(
        &self,
        request: Request<admin::BackupRequest>,
    ) -> Result<Response<admin::BackupResponse>, Status> {
        let directory = request.into_inner().directory;
        if directory.ends_with("full") {
            return Err(refused(
                tonic::Code::InvalidArgument,
                "admin.request.invalid",
            ));
        }
        self.0.lock().unwrap().backups.push(directory);
        Ok(Response::new(admin::BackupResponse {
            made_at_ms: 1_700_000_000_000,
            logs: vec![admin::BackupLog {
                tenant_id: "00D000000000001EAA".into(),
                latest_replay_id: replay_id(7).as_bytes()[..].to_vec().into(),
                segments: 1,
                bytes: 16_384,
            }],
        }))
    }
}

fn topic() -> admin::Topic {
    admin::Topic {
        name: TOPIC.into(),
        kind: "platform_event".into(),
        schema_id: ORDER_CREATED_ID.into(),
        schema_versions: 1,
        can_publish: true,
        can_subscribe: true,
        event_count: 7,
        retained_count: 5,
        latest_replay_id: replay_id(7).as_bytes()[..].to_vec().into(),
        earliest_replay_id: bytes::Bytes::new(),
        validation: "on".into(),
        idempotent: "default".into(),
        is_idempotent: false,
        retention_ms: 86_400_000,
        rules: None,
        subscribers: vec![admin::SubscriberLag {
            name: "billing".into(),
            managed: true,
            lag: Some(lag()),
        }],
    }
}

/// Refuses a filter that has a `?`, as one that is wrong there.
fn check_member(member: &admin::ChannelMember) -> Result<(), Status> {
    let topic = &member.topic_name;
    match member.filter.find('?') {
        None => Ok(()),
        Some(before) => Err(Status::invalid_argument(format!(
            "{topic} cannot be a member: the filter is wrong at character {}: found ?",
            before + 1
        ))),
    }
}

fn lag() -> admin::Lag {
    admin::Lag {
        events: 3,
        behind_ms: 61_000,
        can_lose: true,
        time_to_loss_ms: 7_200_000,
    }
}
