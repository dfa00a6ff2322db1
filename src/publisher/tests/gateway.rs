//! A gateway that does with each request what a test asks for.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use prost::Message;
use tokio::{net::TcpListener, runtime::Handle, sync::mpsc, task::JoinHandle};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};

use crate::{
    client::{Connection, CredentialSource, Credentials, Endpoint, Grant, SignIn},
    proto::{
        Error, FetchRequest, ManagedFetchRequest, ProducerEvent, PublishResult, SchemaInfo,
        SchemaRequest, TopicInfo, TopicRequest,
        pub_sub_server::{PubSub, PubSubServer},
        raw::{FetchResponse, ManagedFetchResponse, PublishRequest, PublishResponse, Repeated},
    },
};

pub(super) const TOPIC: &str = "/event/OrderCreated__e";
pub(super) const SCHEMA: &str = include_str!("../../../schemas/OrderCreated__e.avsc");
/// An event with this id gets a result with an error.
pub(super) const REFUSED_ID: &str = "refuse-me";

/// An event with this id gets a result that leaves open whether it is stored.
pub(super) const DOUBTFUL_ID: &str = "doubt-me";

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Store,
    /// Stored, and then the stream ends without an answer.
    StoreAndEnd,
    /// The stream ends with this status.
    Refuse(Code, &'static str),
    /// Stored and answered, and then the stream ends with this status.
    StoreAndRefuse(Code, &'static str),
    /// Answered with a result too few.
    TooFew,
    /// Answered with results that are none.
    Malformed,
    /// Answered twice.
    Twice,
    /// Never answered.
    Hold,
}

/// A gateway that listens until it is dropped.
pub(super) struct Gateway {
    pub(super) state: Arc<Mutex<State>>,
    connection: Connection,
    endpoint: Endpoint,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// For the next requests; those after them are stored.
    pub(super) script: VecDeque<Reply>,
    /// The number of the stream, from 1, and the ids of every request.
    pub(super) requests: Vec<(usize, Vec<String>)>,
    pub(super) stored: Vec<ProducerEvent>,
    pub(super) streams: usize,
    /// Streams that their client ended in good order.
    pub(super) half_closed: usize,
    pub(super) look_ups: usize,
    /// So many look-ups are refused, for the token is not taken any more.
    pub(super) refused_look_ups: usize,
    /// Whether the topic is a channel.
    pub(super) is_channel: bool,
}

impl Gateway {
    pub(super) async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_on(&Handle::current(), script).await
    }

    /// One that ends with this runtime.
    pub(super) async fn start_on(
        runtime: &Handle,
        script: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let binding = runtime.spawn(TcpListener::bind("127.0.0.1:0"));
        let listener = binding.await.unwrap().unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            script: script.into_iter().collect(),
            ..State::default()
        }));
        let serving = Server::builder()
            .add_service(PubSubServer::new(Service(Arc::clone(&state))))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = runtime.spawn(async move { serving.await.unwrap() });
        let url = format!("http://{addr}").parse().unwrap();
        let credentials = Credentials {
            access_token: "00D000000000001!secret".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            instance_url: "https://localhost".into(),
        };
        let endpoint = Endpoint::new(url, credentials);
        Self {
            state,
            connection: endpoint.connect().await.unwrap(),
            endpoint,
            server,
        }
    }

    /// The same gateway, to whoever signs in by this command.
    pub(super) async fn signed_in_by(mut self, command: String) -> Self {
        let sign_in = SignIn {
            grant: Grant::Command(command),
            instance_url: Some("https://localhost".into()),
            tenant_id: None,
        };
        self.endpoint.credentials = CredentialSource::SignIn(sign_in);
        self.connection = self.endpoint.connect().await.unwrap();
        self
    }

    pub(super) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// The ids of what is stored, in order.
    pub(super) fn stored(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.stored.iter().map(|event| event.id.clone()).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service(Arc<Mutex<State>>);

fn status(code: Code, suffix: &str) -> Status {
    let mut trailers = MetadataMap::new();
    let error_code = format!("sfdc.platform.eventbus.grpc.{suffix}");
    trailers.insert("error-code", error_code.parse().unwrap());
    Status::with_metadata(code, format!("refused ({suffix})"), trailers)
}

/// The answers to a request, and how the stream ends if it does.
type Answers = (Vec<PublishResponse>, Option<Result<(), Status>>);

fn reply(state: &Mutex<State>, stream: usize, request: &PublishRequest) -> Answers {
    let mut state = state.lock().unwrap();
    let events = request.events.values().iter();
    let events: Vec<_> = events
        .map(|event| ProducerEvent::decode(event).unwrap())
        .collect();
    let ids = events.iter().map(|event| event.id.clone()).collect();
    state.requests.push((stream, ids));
    let reply = state.script.pop_front().unwrap_or(Reply::Store);
    match reply {
        Reply::Refuse(code, suffix) => return (Vec::new(), Some(Err(status(code, suffix)))),
        Reply::Hold => return (Vec::new(), None),
        _ => {}
    }
    let mut results = Vec::new();
    for event in events {
        let mut result = PublishResult::default();
        if event.id == REFUSED_ID {
            let msg = "this event is not wanted".into();
            result.error = Some(Error { code: 1, msg });
        } else if event.id == DOUBTFUL_ID {
            let msg = "the event may or may not have been stored".into();
            result.error = Some(Error { code: 1, msg });
        } else {
            state.stored.push(event);
            let position = state.stored.len() as u64;
            result.replay_id = position.to_be_bytes().to_vec().into();
        }
        results.push(result.encode_to_vec());
    }
    let response = |results: Vec<Vec<u8>>| PublishResponse {
        results: Repeated::of(results),
        ..PublishResponse::default()
    };
    match reply {
        Reply::Store | Reply::Refuse(..) | Reply::Hold => (vec![response(results)], None),
        Reply::StoreAndEnd => (Vec::new(), Some(Ok(()))),
        Reply::StoreAndRefuse(code, suffix) => {
            (vec![response(results)], Some(Err(status(code, suffix))))
        }
        Reply::TooFew => {
            results.pop();
            (vec![response(results)], None)
        }
        Reply::Malformed => {
            let none = results.iter().map(|_| vec![0xff]).collect();
            (vec![response(none)], None)
        }
        Reply::Twice => (vec![response(results.clone()), response(results)], None),
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl PubSub for Service {
    type SubscribeStream = Responses<FetchResponse>;
    type PublishStreamStream = Responses<PublishResponse>;
    type ManagedSubscribeStream = Responses<ManagedFetchResponse>;

    async fn get_topic(
        &self,
        request: Request<TopicRequest>,
    ) -> Result<Response<TopicInfo>, Status> {
        let mut state = self.0.lock().unwrap();
        state.look_ups += 1;
        if state.refused_look_ups > 0 {
            state.refused_look_ups -= 1;
            return Err(status(Code::Unauthenticated, "service.auth.error"));
        }
        let schema = crate::schema::Schema::parse(SCHEMA).unwrap();
        Ok(Response::new(TopicInfo {
            topic_name: request.into_inner().topic_name,
            can_publish: true,
            schema_id: match state.is_channel {
                true => String::new(),
                false => schema.id().to_string(),
            },
            ..TopicInfo::default()
        }))
    }

    async fn get_schema(
        &self,
        request: Request<SchemaRequest>,
    ) -> Result<Response<SchemaInfo>, Status> {
        Ok(Response::new(SchemaInfo {
            schema_json: SCHEMA.into(),
            schema_id: request.into_inner().schema_id,
            rpc_id: String::new(),
        }))
    }

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        match reply(&self.0, 0, request.get_ref()) {
            (mut responses, None) if !responses.is_empty() => {
                Ok(Response::new(responses.remove(0)))
            }
            (_, Some(Err(status))) => Err(status),
            _ => Err(Status::unknown("the answer is lost")),
        }
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let stream = {
            let mut state = self.0.lock().unwrap();
            state.streams += 1;
            state.streams
        };
        let (sender, receiver) = mpsc::channel(16);
        let state = Arc::clone(&self.0);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            while let Ok(request) = requests.message().await {
                let Some(request) = request else {
                    state.lock().unwrap().half_closed += 1;
                    return;
                };
                let (responses, end) = reply(&state, stream, &request);
                for response in responses {
                    _ = sender.send(Ok(response)).await;
                }
                match end {
                    None => {}
                    Some(Ok(())) => return,
                    Some(Err(status)) => {
                        _ = sender.send(Err(status)).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn subscribe(
        &self,
        _: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("nobody subscribes here"))
    }

    async fn managed_subscribe(
        &self,
        _: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        Err(Status::unimplemented("nobody subscribes here"))
    }
}

/// Bytes of no meaning.
pub(super) fn payload() -> Bytes {
    Bytes::from_static(b"payload")
}
