//! A gRPC client over bare HTTP/2, which can do what no library lets one do.
//!
//! It sends any bytes as a message, any headers, and half-closes, resets or stops reading when a
//! test says so. What it reads it checks: a call ends with a status, and a failed one as documented.

use std::{fmt::Debug, net::Shutdown, pin::Pin, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{
    gateway::Gateway,
    wait::within,
    wire::{FetchRequest, FetchResponse, PublishRequest, PublishResponse},
};

/// What every error code begins with.
pub(crate) const ERROR_CODE_PREFIX: &str = "sfdc.platform.eventbus.grpc.";

/// gRPC status codes by their names in the gRPC specification.
pub(crate) mod code {
    pub(crate) const OK: u16 = 0;
    pub(crate) const INVALID_ARGUMENT: u16 = 3;
    pub(crate) const DEADLINE_EXCEEDED: u16 = 4;
    pub(crate) const NOT_FOUND: u16 = 5;
    pub(crate) const ALREADY_EXISTS: u16 = 6;
    pub(crate) const PERMISSION_DENIED: u16 = 7;
    pub(crate) const RESOURCE_EXHAUSTED: u16 = 8;
    pub(crate) const FAILED_PRECONDITION: u16 = 9;
    pub(crate) const UNIMPLEMENTED: u16 = 12;
    pub(crate) const INTERNAL: u16 = 13;
    pub(crate) const UNAVAILABLE: u16 = 14;
    pub(crate) const UNAUTHENTICATED: u16 = 16;
}

type Requests = UnboundedReceiverStream<Result<Frame<Bytes>, std::convert::Infallible>>;
type ResponseHead = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// One connection, and the headers that its calls carry. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Client {
    connection: SendRequest<StreamBody<Requests>>,
    /// Headers of every call; a test may change them.
    pub(crate) headers: HeaderMap,
    authority: String,
    /// The socket, to be shut under the connection.
    socket: Arc<std::net::TcpStream>,
}

impl Client {
    /// Connects to the plaintext listener, with the credentials of the administrator.
    pub(crate) async fn connect(gateway: &Gateway) -> Self {
        Self::connect_at(gateway, &gateway.ready().grpc_addr).await
    }

    /// The same at another address, which leads to the plaintext listener.
    pub(crate) async fn connect_at(gateway: &Gateway, addr: &str) -> Self {
        let ready = gateway.ready();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("accesstoken", &ready.access_token),
            ("instanceurl", &ready.instance_url),
            ("tenantid", &ready.tenant_id),
        ] {
            headers.insert(
                name,
                value.parse().expect("the ready file holds header values"),
            );
        }
        let tcp = within("connection", TcpStream::connect(addr)).await;
        let tcp = tcp.expect("the gateway accepts connections");
        // Or each small request waits for the acknowledgement of the one before.
        tcp.set_nodelay(true).expect("a socket has this option");
        let tcp = tcp.into_std().expect("a socket is one");
        let socket = tcp.try_clone().expect("a socket has several owners");
        let tcp = TcpStream::from_std(tcp).expect("a socket is one");
        let io = TokioIo::new(tcp);
        let handshake = http2::Builder::new(TokioExecutor::new()).handshake(io);
        let (connection, driver) = within("handshake", handshake).await.expect("HTTP/2 begins");
        // Ends with the connection, which ends with the last clone of the client.
        tokio::spawn(driver);
        Self {
            connection,
            headers,
            authority: ready.grpc_addr.clone(),
            socket: Arc::new(socket),
        }
    }

    /// Ends the connection as the end of this process would: no call and no stream is closed before.
    pub(crate) fn cut(&self) {
        // The gateway may have ended it.
        _ = self.socket.shutdown(Shutdown::Both);
    }

    /// The same connection with one header set to `value`.
    pub(crate) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        let value = value.parse().expect("a header value");
        client.headers.insert(name, value);
        client
    }

    /// The same connection without one header.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut client = self.clone();
        client.headers.remove(name);
        client
    }

    /// The same connection with one more header, even if there is one of that name.
    pub(crate) fn with_another(&self, name: &'static str, value: HeaderValue) -> Self {
        let mut client = self.clone();
        client.headers.append(HeaderName::from_static(name), value);
        client
    }

    /// Begins a call of the public API.
    pub(crate) async fn call(&self, method: &str) -> Call {
        self.call_path(&format!("/eventbus.v1.PubSub/{method}"))
            .await
    }

    /// Begins a call of any path.
    pub(crate) async fn call_path(&self, path: &str) -> Call {
        self.try_call_path(path)
            .await
            .expect("the connection is open")
    }

    /// Begins a call of any path, unless the connection has ended.
    pub(crate) async fn try_call_path(&self, path: &str) -> hyper::Result<Call> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let uri = format!("http://{}{path}", self.authority);
        let mut request = Request::post(uri)
            .body(StreamBody::new(UnboundedReceiverStream::new(receiver)))
            .expect("the path is one");
        *request.headers_mut() = self.headers.clone();
        let mut connection = self.connection.clone();
        within("room for a stream", connection.ready()).await?;
        Ok(Call {
            requests: Some(requests),
            state: State::Head(Box::pin(connection.send_request(request))),
        })
    }

    /// Makes a call with one request and at most one response.
    pub(crate) async fn unary<T: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<T, Failure> {
        self.unary_bytes(method, &request.encode_to_vec()).await
    }

    /// Makes a call whose one request is any bytes.
    pub(crate) async fn unary_bytes<T: Message + Default>(
        &self,
        method: &str,
        request: &[u8],
    ) -> Result<T, Failure> {
        let mut call = self.call(method).await;
        call.send_bytes(request);
        call.half_close();
        let response = call
            .next()
            .await?
            .expect("a call that is OK has a response");
        call.end().await?;
        Ok(response)
    }

    /// Publishes one batch.
    pub(crate) async fn publish(
        &self,
        request: &PublishRequest,
    ) -> Result<PublishResponse, Failure> {
        self.unary("Publish", request).await
    }

    /// Begins a subscription.
    pub(crate) async fn subscribe(&self, request: &FetchRequest) -> Call {
        let mut call = self.call("Subscribe").await;
        call.send(request);
        call
    }
}

/// A call under way.
pub(crate) struct Call {
    requests: Option<mpsc::UnboundedSender<Result<Frame<Bytes>, std::convert::Infallible>>>,
    state: State,
}

enum State {
    Head(ResponseHead),
    Body {
        head: HeaderMap,
        body: Incoming,
        received: BytesMut,
    },
    Ended,
}

impl Call {
    /// Sends a message.
    pub(crate) fn send(&mut self, request: &impl Message) {
        self.send_bytes(&request.encode_to_vec());
    }

    /// Sends any bytes as a message.
    pub(crate) fn send_bytes(&mut self, message: &[u8]) {
        self.send_frame(0, message);
    }

    /// Sends any bytes as a message with this compression flag.
    pub(crate) fn send_frame(&mut self, flag: u8, message: &[u8]) {
        let mut frame = vec![flag];
        frame.extend((message.len() as u32).to_be_bytes());
        frame.extend(message);
        self.send_raw(frame);
    }

    /// Sends any bytes as they are. Once the call has ended they go nowhere.
    pub(crate) fn send_raw(&mut self, bytes: impl Into<Bytes>) {
        let requests = self.requests.as_ref().expect("not half-closed");
        _ = requests.send(Ok(Frame::data(bytes.into())));
    }

    /// Tells the gateway that nothing more will be sent.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The response headers, as soon as they are here.
    pub(crate) async fn headers(&mut self) -> HeaderMap {
        match self.begin().await {
            Ok((head, ..)) => head.clone(),
            Err(failure) => failure.trailers,
        }
    }

    /// The next response; `None` when the call ended with OK.
    pub(crate) async fn next<T: Message + Default>(&mut self) -> Result<Option<T>, Failure> {
        within("response", self.next_message())
            .await
            .map(|message| {
                message.map(|bytes| T::decode(bytes).expect("a response is a valid message"))
            })
    }

    /// The next response as it came, behind its compression flag; `None` when the call ended with OK.
    pub(crate) async fn next_frame(&mut self) -> Result<Option<(u8, Bytes)>, Failure> {
        within("response", self.receive_frame()).await
    }

    /// The next response with events or without.
    pub(crate) async fn fetched(&mut self) -> FetchResponse {
        let response = self.next().await.expect("the subscription goes on");
        response.expect("the subscription goes on")
    }

    /// The next responses until they hold `count` events.
    ///
    /// # Panics
    ///
    /// When the last response holds more than that.
    pub(crate) async fn fetch(&mut self, count: usize) -> Vec<super::wire::ConsumerEvent> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.extend(self.fetched().await.events);
        }
        assert_eq!(events.len(), count, "no more events than expected");
        events
    }

    /// How a call ends that has nothing more to say.
    pub(crate) async fn end(&mut self) -> Result<(), Failure> {
        let next = within("end of the call", self.next_message()).await?;
        assert_eq!(next, None, "the call ends without another response");
        Ok(())
    }

    /// How a call fails; responses before that are dropped.
    pub(crate) async fn failure(&mut self) -> Failure {
        loop {
            match within("failure", self.next_message()).await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the call ended with OK"),
                Err(failure) => return failure,
            }
        }
    }

    async fn begin(&mut self) -> Result<(&HeaderMap, &mut Incoming, &mut BytesMut), Failure> {
        if let State::Head(response) = &mut self.state {
            let response = within("response headers", response).await;
            let response = response.map_err(|error| Failure::transport(&error))?;
            let (head, body) = response.into_parts();
            if head.status != http::StatusCode::OK {
                self.state = State::Ended;
                return Err(Failure::http(head.status));
            }
            // Without a message the status may come with the headers.
            if head.headers.contains_key("grpc-status") {
                self.state = State::Ended;
                return Err(Failure::of(head.headers));
            }
            self.state = State::Body {
                head: head.headers,
                body,
                received: BytesMut::new(),
            };
        }
        match &mut self.state {
            State::Body {
                head,
                body,
                received,
            } => Ok((head, body, received)),
            State::Head(_) | State::Ended => panic!("the call has ended"),
        }
    }

    async fn next_message(&mut self) -> Result<Option<Bytes>, Failure> {
        let frame = self.receive_frame().await?;
        Ok(frame.map(|(flag, message)| {
            assert_eq!(flag, 0, "the response is not compressed");
            message
        }))
    }

    async fn receive_frame(&mut self) -> Result<Option<(u8, Bytes)>, Failure> {
        let (_, body, received) = match self.begin().await {
            Ok(begun) => begun,
            Err(failure) if failure.code == code::OK => return Ok(None),
            Err(failure) => return Err(failure),
        };
        loop {
            if let Some(frame) = split_frame(received) {
                return Ok(Some(frame));
            }
            let frame = body.frame().await.expect("a call ends with trailers");
            let frame = frame.map_err(|error| Failure::transport(&error))?;
            match frame.into_data() {
                Ok(data) => received.extend_from_slice(&data),
                Err(frame) => {
                    assert!(
                        received.is_empty(),
                        "no message is cut short by the trailers"
                    );
                    let trailers = frame.into_trailers().expect("either data or trailers");
                    let failure = Failure::of(trailers);
                    self.state = State::Ended;
                    return if failure.code == code::OK {
                        Ok(None)
                    } else {
                        Err(failure)
                    };
                }
            }
        }
    }
}

fn split_frame(received: &mut BytesMut) -> Option<(u8, Bytes)> {
    let &[flag, len @ ..] = received.first_chunk::<5>()?;
    let len = u32::from_be_bytes(len) as usize;
    if received.len() < 5 + len {
        return None;
    }
    received.advance(5);
    Some((flag, received.split_to(len).freeze()))
}

/// How a call ended that did not end with OK.
#[derive(Clone, PartialEq)]
pub(crate) struct Failure {
    /// The gRPC status.
    pub(crate) code: u16,
    /// The message, decoded.
    pub(crate) message: String,
    /// All trailers.
    pub(crate) trailers: HeaderMap,
}

/// Stands for a call that ended without any status: the stream or the connection was reset.
pub(crate) const NO_STATUS: u16 = u16::MAX;

impl Failure {
    fn of(trailers: HeaderMap) -> Self {
        let text = |name| {
            trailers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let code = text("grpc-status").expect("a call ends with a status");
        Self {
            code: code.parse().expect("a status is a number"),
            message: percent_decoded(text("grpc-message").unwrap_or_default()),
            trailers,
        }
    }

    fn transport(error: &hyper::Error) -> Self {
        Self {
            code: NO_STATUS,
            message: format!("{error:?}"),
            trailers: HeaderMap::new(),
        }
    }

    fn http(status: http::StatusCode) -> Self {
        Self {
            code: NO_STATUS,
            message: format!("HTTP {status}"),
            trailers: HeaderMap::new(),
        }
    }

    /// A trailer as text; empty when there is none.
    pub(crate) fn trailer(&self, name: &str) -> &str {
        self.trailers
            .get(name)
            .map_or("", |value| value.to_str().expect("trailers are ASCII"))
    }

    /// Holds the failure of `method` to its documented form.
    #[track_caller]
    pub(crate) fn expect(&self, method: &str, code: u16, suffix: &str) {
        let error_code = format!("{ERROR_CODE_PREFIX}{suffix}");
        assert_eq!(
            (self.code, self.trailer("error-code")),
            (code, &*error_code),
            "{self:?}"
        );
        assert_eq!(self.trailer("type"), method, "{self:?}");
        self.expect_message(&format!(" ({error_code}) rpcId: "));
    }

    /// Holds a failure without an error code, of a call that is not served, to its form.
    #[track_caller]
    pub(crate) fn expect_unimplemented(&self, method: &str) {
        assert_eq!(self.code, code::UNIMPLEMENTED, "{self:?}");
        assert!(!self.trailers.contains_key("error-code"), "{self:?}");
        assert_eq!(self.trailer("type"), method, "{self:?}");
        self.expect_message(" rpcId: ");
    }

    #[track_caller]
    fn expect_message(&self, before_id: &str) {
        let rpc_id = self.trailer("rpc-id");
        assert!(is_uuid(rpc_id), "{self:?}");
        let sentence = self.message.strip_suffix(&format!("{before_id}{rpc_id}"));
        assert!(
            sentence.is_some_and(|sentence| sentence.len() > 8),
            "{self:?}"
        );
        assert!(self.message.len() < 1024, "{self:?}");
        let is_binary = |name: &HeaderName| name.as_str().ends_with("-bin");
        assert!(!self.trailers.keys().any(is_binary), "{self:?}");
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "status {}, {:?}, {:?}",
            self.code, self.message, self.trailers
        )
    }
}

/// Whether `text` is a UUID in its usual form.
pub(crate) fn is_uuid(text: &str) -> bool {
    uuid::Uuid::parse_str(text).is_ok_and(|uuid| uuid.hyphenated().to_string() == text)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail
            .first_chunk::<2>()
            .filter(|_| byte == b'%')
            .map(|digits| {
                let digits = std::str::from_utf8(digits).expect("a message is ASCII");
                u8::from_str_radix(digits, 16).expect("two digits follow a percent sign")
            });
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).expect("a message is UTF-8")
}
