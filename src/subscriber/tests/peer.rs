//! A gateway that does as the test says, on the other end of a pipe.
//!
//! Each stream that the subscriber opens is handed to the test, which reads its requests and writes its
//! responses, good ones and bad ones. With the runtime's clock stopped, every wait of the subscriber
//! takes as long as it should and no time at all.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt, Stream};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{MetadataMap, MetadataValue},
    transport::{Server, server::Connected},
};

use crate::{
    client::{Connection, CredentialSource, Credentials, Endpoint},
    proto::{
        CREDIT_MAX_METADATA, CommitReplayResponse, ConsumerEvent, Error, FILTER_METADATA,
        FROM_METADATA, FetchRequest, ManagedFetchRequest, ProducerEvent, SHARING_METADATA,
        SchemaInfo, SchemaRequest, TopicInfo, TopicRequest,
        pub_sub_server::{PubSub, PubSubServer},
        raw::{FetchResponse, ManagedFetchResponse, PublishRequest, PublishResponse, Repeated},
    },
    schema::{Fill, Schema},
};

pub(super) const ORDERS: &str = "/event/OrderCreated__e";
pub(super) const ORDER_SCHEMA: &str = include_str!("../../../schemas/OrderCreated__e.avsc");
/// The id of [`ORDER_SCHEMA`].
pub(super) const ORDER_SCHEMA_ID: &str = "dGzWYkf4alBWqjXJMJJLlw";

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The gateway, as its test sees it.
pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) schemas: Arc<Mutex<HashMap<String, Result<String, Status>>>>,
    /// How often each schema was asked for.
    pub(super) schema_calls: Arc<Mutex<Vec<String>>>,
    calls: mpsc::UnboundedReceiver<Call>,
    managed_calls: mpsc::UnboundedReceiver<ManagedCall>,
    sharing: Arc<Mutex<Option<u32>>>,
}

/// A stream that a subscriber opened.
pub(super) struct Call {
    requests: Streaming<FetchRequest>,
    responses: mpsc::Sender<Result<FetchResponse, Status>>,
    /// What was asked for, less what was sent.
    pub(super) credit: i32,
    headers: MetadataMap,
}

/// The same of a managed subscription.
pub(super) struct ManagedCall {
    pub(super) requests: Streaming<ManagedFetchRequest>,
    pub(super) responses: mpsc::Sender<Result<ManagedFetchResponse, Status>>,
}

impl Peer {
    /// A gateway that grants so much credit to streams that ask for more than is usual.
    pub(super) fn start(granted: Option<u32>) -> Self {
        let credentials = Credentials {
            access_token: "00D000000000001!secret".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            instance_url: "https://localhost".into(),
        };
        Self::start_with(granted, credentials.into())
    }

    /// The same, called with credentials from where these come from.
    pub(super) fn start_with(granted: Option<u32>, credentials: CredentialSource) -> Self {
        let (call_sender, calls) = mpsc::unbounded_channel();
        let (managed_sender, managed_calls) = mpsc::unbounded_channel();
        let schemas = Arc::new(Mutex::new(HashMap::from([(
            ORDER_SCHEMA_ID.to_owned(),
            Ok(ORDER_SCHEMA.to_owned()),
        )])));
        let schema_calls = Arc::default();
        let sharing = Arc::default();
        let service = Service {
            granted,
            sharing: Arc::clone(&sharing),
            calls: call_sender,
            managed_calls: managed_sender,
            schemas: Arc::clone(&schemas),
            schema_calls: Arc::clone(&schema_calls),
        };
        // A pipe for each connection that the subscriber makes.
        let (pipes, incoming) = mpsc::unbounded_channel::<io::Result<Pipe>>();
        let serving = Server::builder()
            .add_service(PubSubServer::new(service))
            .serve_with_incoming(UnboundedReceiverStream::new(incoming));
        tokio::spawn(serving);
        let connector = tower::service_fn(move |_| {
            let (client, server) = tokio::io::duplex(1 << 20);
            let sent = pipes.send(Ok(Pipe(server)));
            async move {
                sent.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
                Ok::<_, io::Error>(TokioIo::new(client))
            }
        });
        let url = "http://localhost".parse().unwrap();
        let endpoint = Endpoint::new(url, credentials);
        Self {
            connection: endpoint
                .connect_with(connector)
                .now_or_never()
                .unwrap()
                .unwrap(),
            schemas,
            schema_calls,
            calls,
            managed_calls,
            sharing,
        }
    }

    /// Up to so many streams share a managed subscription from now on; without a number, it is for one.
    pub(super) fn share(&self, sharing: Option<u32>) {
        *self.sharing.lock().unwrap() = sharing;
    }

    /// The next stream that the subscriber opens, and its first request.
    pub(super) async fn call(&mut self) -> (Call, FetchRequest) {
        let mut call = self.calls.recv().await.unwrap();
        let first = call.request().await.unwrap();
        (call, first)
    }

    /// Whether no stream was opened that the test has not seen.
    pub(super) fn has_no_call(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }

    /// The next stream of a managed subscription, and its first request.
    pub(super) async fn managed_call(&mut self) -> (ManagedCall, ManagedFetchRequest) {
        let mut call = self.managed_calls.recv().await.unwrap();
        let first = call.requests.message().await.unwrap().unwrap();
        (call, first)
    }
}

impl Call {
    /// The next request; `None` once the subscriber ended the stream.
    pub(super) async fn request(&mut self) -> Option<FetchRequest> {
        let request = self.requests.message().await.ok()??;
        self.credit += request.num_requested;
        Some(request)
    }

    /// The token that the subscriber called with.
    pub(super) fn token(&self) -> &str {
        self.headers.get("accesstoken").unwrap().to_str().unwrap()
    }

    /// The credit that the subscriber wished to be able to have.
    pub(super) fn credit_max(&self) -> Option<&str> {
        self.headers.get(CREDIT_MAX_METADATA)?.to_str().ok()
    }

    /// The filter that the subscriber wished for, as it is encoded.
    pub(super) fn filter(&self) -> Option<&str> {
        self.headers.get(FILTER_METADATA)?.to_str().ok()
    }

    /// The time that the subscriber wished to begin at.
    pub(super) fn from(&self) -> Option<&str> {
        self.headers.get(FROM_METADATA)?.to_str().ok()
    }

    /// Sends a response.
    pub(super) async fn send(&mut self, events: &[ConsumerEvent], latest: u64) {
        self.credit -= events.len() as i32;
        let pending = self.credit.max(0);
        self.send_raw(response(events, &id_bytes(latest), pending))
            .await;
    }

    /// Sends orders with these positions.
    pub(super) async fn send_orders(&mut self, positions: impl IntoIterator<Item = u64>) {
        let events: Vec<ConsumerEvent> = positions.into_iter().map(order).collect();
        let last = events.last().expect("there are some");
        let latest = u64::from_be_bytes(*last.replay_id.first_chunk().unwrap());
        self.send(&events, latest).await;
    }

    /// Sends what a good gateway might not.
    pub(super) async fn send_raw(&mut self, response: FetchResponse) {
        // A subscriber that is gone is the test's business.
        _ = self.responses.send(Ok(response)).await;
    }

    /// Ends the stream with an error.
    pub(super) async fn fail(self, status: Status) {
        _ = self.responses.send(Err(status)).await;
    }

    /// Ends the stream without an error.
    pub(super) fn end(self) {}
}

pub(super) fn response(events: &[ConsumerEvent], latest: &[u8], pending: i32) -> FetchResponse {
    FetchResponse {
        events: Repeated::of(events.iter().map(Message::encode_to_vec)),
        latest_replay_id: latest.to_vec().into(),
        rpc_id: "rpc".into(),
        pending_num_requested: pending,
    }
}

/// The order at a position.
pub(super) fn order(position: u64) -> ConsumerEvent {
    event(position, &format!("id-{position}"))
}

/// An event with this id, which says at which position it stands.
pub(super) fn event(position: u64, id: &str) -> ConsumerEvent {
    let schema = Schema::parse(ORDER_SCHEMA).unwrap();
    let json = serde_json::json!({ "Order_Number__c": format!("A-{position}") });
    let fill = Fill {
        created_date_ms: 1_700_000_000_000,
        created_by_id: Fill::NOBODY,
    };
    ConsumerEvent {
        replay_id: id_bytes(position).into(),
        event: Some(ProducerEvent {
            id: id.into(),
            schema_id: ORDER_SCHEMA_ID.into(),
            payload: schema.encode_json(&json, &fill).unwrap().into(),
            headers: Vec::new(),
        }),
    }
}

/// A position as the gateway writes it.
pub(super) fn id_bytes(position: u64) -> Vec<u8> {
    [&position.to_be_bytes()[..], &[0, 0]].concat()
}

pub(super) fn refused(code: Code, suffix: &str) -> Status {
    let mut trailers = MetadataMap::new();
    let error_code = format!("sfdc.platform.eventbus.grpc.{suffix}");
    trailers.insert("error-code", error_code.parse().unwrap());
    Status::with_metadata(code, format!("refused: {suffix}"), trailers)
}

struct Pipe(DuplexStream);

impl Connected for Pipe {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Service {
    granted: Option<u32>,
    sharing: Arc<Mutex<Option<u32>>>,
    calls: mpsc::UnboundedSender<Call>,
    managed_calls: mpsc::UnboundedSender<ManagedCall>,
    schemas: Arc<Mutex<HashMap<String, Result<String, Status>>>>,
    schema_calls: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl PubSub for Service {
    type SubscribeStream = Responses<FetchResponse>;
    type PublishStreamStream = Responses<PublishResponse>;
    type ManagedSubscribeStream = Responses<ManagedFetchResponse>;

    async fn subscribe(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (responses, receiver) = mpsc::channel(16);
        let headers = request.metadata().clone();
        // As this gateway does; one that grants no credit is the hosted service.
        let is_filter_known = self.granted.is_some() && headers.contains_key(FILTER_METADATA);
        let is_time_known = self.granted.is_some() && headers.contains_key(FROM_METADATA);
        let is_asked = headers.contains_key(CREDIT_MAX_METADATA);
        _ = self.calls.send(Call {
            requests: request.into_inner(),
            responses,
            credit: 0,
            headers,
        });
        let stream: Self::SubscribeStream = Box::pin(ReceiverStream::new(receiver));
        let mut response = Response::new(stream);
        if let Some(granted) = self.granted.filter(|_| is_asked) {
            let headers = response.metadata_mut();
            headers.insert(CREDIT_MAX_METADATA, granted.into());
        }
        for (name, is_known) in [
            (FILTER_METADATA, is_filter_known),
            (FROM_METADATA, is_time_known),
        ] {
            if is_known {
                let echo = MetadataValue::from_static("1");
                response.metadata_mut().insert(name, echo);
            }
        }
        Ok(response)
    }

    async fn managed_subscribe(
        &self,
        request: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        let (responses, receiver) = mpsc::channel(16);
        _ = self.managed_calls.send(ManagedCall {
            requests: request.into_inner(),
            responses,
        });
        let stream: Self::ManagedSubscribeStream = Box::pin(ReceiverStream::new(receiver));
        let mut response = Response::new(stream);
        if let Some(sharing) = *self.sharing.lock().unwrap() {
            let headers = response.metadata_mut();
            headers.insert(SHARING_METADATA, sharing.into());
        }
        Ok(response)
    }

    async fn get_schema(
        &self,
        request: Request<SchemaRequest>,
    ) -> Result<Response<SchemaInfo>, Status> {
        let schema_id = request.into_inner().schema_id;
        self.schema_calls.lock().unwrap().push(schema_id.clone());
        let found = self.schemas.lock().unwrap().get(&schema_id).cloned();
        let unknown = || Err(refused(Code::PermissionDenied, "schema.meta.permission"));
        Ok(Response::new(SchemaInfo {
            schema_json: found.unwrap_or_else(unknown)?,
            schema_id,
            rpc_id: String::new(),
        }))
    }

    async fn get_topic(&self, _: Request<TopicRequest>) -> Result<Response<TopicInfo>, Status> {
        Err(refused(Code::NotFound, "topic.not.found"))
    }

    async fn publish(
        &self,
        _: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        Err(Status::unimplemented("a subscriber publishes nothing"))
    }

    async fn publish_stream(
        &self,
        _: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        Err(Status::unimplemented("a subscriber publishes nothing"))
    }
}

impl ManagedCall {
    /// The next commit: its number and its replay id's number; `None` once there are no more. What is
    /// asked for besides does not matter.
    pub(super) async fn commit(&mut self) -> Option<(String, u64)> {
        loop {
            let request = self.requests.message().await.ok()??;
            if let Some(commit) = request.commit_replay_id_request {
                let position = u64::from_be_bytes(*commit.replay_id.first_chunk().unwrap());
                return Some((commit.commit_request_id, position));
            }
        }
    }

    /// Sends orders, and perhaps the answer to a commit.
    pub(super) async fn send(
        &mut self,
        events: &[ConsumerEvent],
        latest: u64,
        answer: Option<&str>,
    ) {
        self.send_with(events, latest, 50, answer).await;
    }

    /// Sends orders, the credit that is left, and perhaps the answer to a commit.
    pub(super) async fn send_with(
        &mut self,
        events: &[ConsumerEvent],
        latest: u64,
        pending: i32,
        answer: Option<&str>,
    ) {
        let response = ManagedFetchResponse {
            fetch: response(events, &id_bytes(latest), pending),
            commit_response: answer.map(|id| CommitReplayResponse {
                commit_request_id: id.into(),
                ..CommitReplayResponse::default()
            }),
        };
        _ = self.responses.send(Ok(response)).await;
    }

    /// Answers a commit with a refusal.
    pub(super) async fn refuse_commit(&mut self, id: &str) {
        let response = ManagedFetchResponse {
            fetch: response(&[], &id_bytes(1), 50),
            commit_response: Some(CommitReplayResponse {
                commit_request_id: id.into(),
                error: Some(Error {
                    msg: "not delivered yet".into(),
                    ..Error::default()
                }),
                ..CommitReplayResponse::default()
            }),
        };
        _ = self.responses.send(Ok(response)).await;
    }
}
