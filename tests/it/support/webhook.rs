//! A server that events are posted to. It checks each post as a receiver of Standard Webhooks does, and
//! answers as it is told.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use super::{order::TOPIC, wait};

/// What posts are signed with.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// How old a post may be, and how far ahead, as receivers have it.
const TOLERANCE_SECONDS: u64 = 5 * 60;

/// What was posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Post {
    /// Its `webhook-id`.
    pub(crate) id: String,
    /// Which try it is.
    pub(crate) attempt: u32,
}

/// What comes of a post.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// This status with this text.
    Status(u16, &'static str),
    /// This status with a text that has no end, as fast as it is taken.
    Endless(u16),
    /// This status with the beginning of a text, and then nothing more.
    Unfinished(u16),
    /// The connection is closed without an answer.
    Close,
    /// There is no answer.
    Hang,
}

/// Well done.
pub(crate) const OK: Answer = Answer::Status(200, "ok");

/// A server at an address of its own, on a thread of its own: tests may wait for it.
pub(crate) struct Webhook {
    addr: SocketAddr,
    scheme: &'static str,
    seen: Arc<Seen>,
    tls: Option<TlsAcceptor>,
    /// Present while it runs.
    running: Option<Running>,
}

type AnswerTo = dyn Fn(&Post) -> Answer + Send + Sync;

struct Seen {
    answer: Box<AnswerTo>,
    posts: Mutex<Vec<Post>>,
    /// What was wrong with posts.
    wrong: Mutex<Vec<String>>,
}

struct Running {
    /// Ends the thread when it is dropped.
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Webhook {
    /// A server that answers posts as `answer` says.
    pub(crate) fn start(answer: impl Fn(&Post) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with("http", None, answer)
    }

    /// The same with TLS; `certificates` is a directory with `server.pem` and `server.key`.
    pub(crate) fn start_tls(
        certificates: &Path,
        answer: impl Fn(&Post) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(certificates.join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(certificates.join("server.key")).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key);
        let tls = TlsAcceptor::from(Arc::new(config.unwrap()));
        Self::start_with("https", Some(tls), answer)
    }

    fn start_with(
        scheme: &'static str,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Post) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let mut webhook = Self {
            addr: "127.0.0.1:0".parse().unwrap(),
            scheme,
            seen: Arc::new(Seen {
                answer: Box::new(answer),
                posts: Mutex::default(),
                wrong: Mutex::default(),
            }),
            tls,
            running: None,
        };
        webhook.start_again();
        webhook
    }

    /// Where events are posted to.
    pub(crate) fn url(&self) -> String {
        format!(
            "{}://localhost:{}/events?key=hidden",
            self.scheme,
            self.addr.port()
        )
    }

    /// Every post, in the order in which they came.
    ///
    /// # Panics
    ///
    /// If one of them was not what a receiver takes.
    pub(crate) fn posts(&self) -> Vec<Post> {
        let wrong = self.seen.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
        self.seen.posts.lock().unwrap().clone()
    }

    /// Their ids.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.posts().into_iter().map(|post| post.id).collect()
    }

    /// Closes the socket and every connection: whoever connects is refused.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.stop);
            running.thread.join().expect("the server does not panic");
        }
    }

    /// Serves again, at the address from before.
    pub(crate) fn start_again(&mut self) {
        let (stop, stopped) = oneshot::channel();
        // Somebody else may have the port for a moment, as the port of a connection of their own.
        let bound = wait::until("address", || std::net::TcpListener::bind(self.addr).ok());
        bound.set_nonblocking(true).unwrap();
        self.addr = bound.local_addr().unwrap();
        let (seen, tls) = (Arc::clone(&self.seen), self.tls.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            // With the runtime, what it serves ends.
            runtime.block_on(async {
                let listener = TcpListener::from_std(bound).unwrap();
                tokio::select! {
                    () = serve(listener, tls, seen) => {}
                    _ = stopped => {}
                }
            });
        });
        self.running = Some(Running { stop, thread });
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, seen: Arc<Seen>) {
    loop {
        // A peer that is gone already is none.
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        let (tls, seen) = (tls.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            match tls {
                None => serve_connection(tcp, seen).await,
                Some(tls) => {
                    // Whoever does not trust it goes away.
                    if let Ok(tls) = tls.accept(tcp).await {
                        serve_connection(tls, seen).await;
                    }
                }
            }
        });
    }
}

async fn serve_connection(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seen: Arc<Seen>,
) {
    let service = tower::service_fn(move |request| respond(Arc::clone(&seen), request));
    // Clients that are killed, and answers that are none, break connections.
    _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
        .await;
}

async fn respond(
    seen: Arc<Seen>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Body>, &'static str> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Err("a client that was killed");
    };
    let post = match check(&head.headers, &body.to_bytes()) {
        Ok(post) => post,
        Err(wrong) => {
            seen.wrong.lock().unwrap().push(wrong);
            return Ok(status(400, Body::empty()));
        }
    };
    let answer = (seen.answer)(&post);
    seen.posts.lock().unwrap().push(post);
    let chunk = || Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]));
    match answer {
        Answer::Status(code, text) => Ok(status(code, text.into())),
        Answer::Endless(code) => {
            let chunks = stream::repeat_with(chunk);
            Ok(status(code, Body::from_stream(chunks)))
        }
        Answer::Unfinished(code) => {
            let chunks = stream::iter([chunk()]).chain(stream::pending());
            Ok(status(code, Body::from_stream(chunks)))
        }
        Answer::Close => Err("to be closed"),
        Answer::Hang => std::future::pending().await,
    }
}

fn status(code: u16, body: Body) -> Response<Body> {
    Response::builder().status(code).body(body).unwrap()
}

/// Checks what a receiver checks, and that the headers say what the body does.
fn check(headers: &HeaderMap, body: &[u8]) -> Result<Post, String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| format!("no {name} in {headers:?}"))
    };
    let id = header("webhook-id")?;
    let timestamp = header("webhook-timestamp")?;
    let seconds: u64 = timestamp.parse().map_err(|_| timestamp.to_owned())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    if seconds.abs_diff(now.as_secs()) > TOLERANCE_SECONDS {
        return Err(format!("posted at {seconds}, {} now", now.as_secs()));
    }
    let signature = header("webhook-signature")?.strip_prefix("v1,");
    let signature = signature.and_then(|base64| STANDARD.decode(base64).ok());
    let secret = STANDARD.decode(&SECRET["whsec_".len()..]).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    hmac::verify(&key, &signed, &signature.unwrap_or_default())
        .map_err(|_| format!("the signature is wrong: {headers:?}"))?;
    let event: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let agree = header("content-type")? == "application/json"
        && event["event_id"] == id
        && event["replay_id"] == header("tidegate-replay-id")?
        && event["topic"] == header("tidegate-topic")?
        && event["topic"] == TOPIC;
    if !agree {
        return Err(format!("{headers:?} with {event}"));
    }
    let attempt = header("tidegate-attempt")?;
    Ok(Post {
        id: id.to_owned(),
        attempt: attempt.parse().map_err(|_| attempt.to_owned())?,
    })
}
