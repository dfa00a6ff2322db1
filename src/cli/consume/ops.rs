//! What whoever looks after a subscriber asks of it, over plain HTTP while the command runs: `/metrics`,
//! and `/health`, which says whether events come.
//!
//! Nobody is asked who they are, so nothing is told that only some may know: topics and numbers, but no
//! events, and not why a connection broke. Connections are few, carry one request each, and end in time
//! whatever the other side does.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    cli::{exit::Failure, output::note},
    http::metrics,
    subscriber::{Monitor, Status},
    types::limits::{HEADER_LIST_BYTES_MAX, HTTP_HEAD_TIMEOUT},
};

/// The option of being looked after.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(in crate::cli) struct OpsArgs {
    /// Serve /metrics and /health at this address while the command runs, such as 127.0.0.1:9464, to
    /// whoever reaches it; with port 0 it says where
    #[arg(long, value_name = "ADDR", help_heading = "Place")]
    metrics_addr: Option<SocketAddr>,
}

/// Connections at once. Ours: whoever scrapes or probes holds one for a moment; the rest wait.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may take, from its first byte to its last. Ours: as long as the head of a request
/// may, and as those who scrape wait at most.
const CONNECTION_TIMEOUT: Duration = HTTP_HEAD_TIMEOUT;
/// How long accepting pauses after the system refused, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What metrics begin with, as the gateway's do.
const PREFIX: &str = "tidegate";

impl OpsArgs {
    /// Takes the address, if there is one; those who connect wait until there is something to tell.
    pub(super) async fn listen(self) -> Result<Option<Ops>, Failure> {
        let Some(addr) = self.metrics_addr else {
            return Ok(None);
        };
        let refused = |error: io::Error| {
            Failure::Usage(format!(
                "cannot listen on {addr}: {error}; choose another address with --metrics-addr (port 0 \
                 is any free one)"
            ))
        };
        let listener = TcpListener::bind(addr).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        note(&format!(
            "metrics are at http://{addr}/metrics, health is at http://{addr}/health"
        ));
        Ok(Some(Ops(listener)))
    }
}

/// An address that is taken.
#[derive(Debug)]
pub(super) struct Ops(TcpListener);

/// Serves until it is dropped, and with it every connection.
#[derive(Debug)]
pub(super) struct Serving {
    _task: JoinSet<()>,
}

impl Ops {
    /// Tells from now on what `monitor` does.
    pub(super) fn serve(self, monitor: Monitor) -> Serving {
        let mut registry = Registry::with_prefix(PREFIX);
        monitor.register(&mut registry);
        let metrics = get(metrics::render).with_state(Arc::new(registry));
        let routes = Router::new()
            .route("/metrics", metrics)
            .route("/health", get(health).with_state(monitor));
        let mut task = JoinSet::new();
        // A task of its own: it answers also while the command waits for a program, or for its output.
        task.spawn(serve(self.0, routes));
        Serving { _task: task }
    }
}

async fn serve(listener: TcpListener, routes: Router) {
    let mut connections = JoinSet::new();
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .keep_alive(false)
        .max_buf_size(HEADER_LIST_BYTES_MAX as usize);
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((tcp, _)) => {
                    let service = TowerToHyperService::new(routes.clone());
                    let serving = builder.serve_connection(TokioIo::new(tcp), service);
                    connections.spawn(timeout(CONNECTION_TIMEOUT, serving.into_owned()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// Answers `/health`: 200 while events come of every topic, else 503.
async fn health(State(monitor): State<Monitor>) -> Response {
    answer(&monitor.statuses())
}

fn answer(statuses: &[Status]) -> Response {
    let is_healthy = statuses.iter().all(Status::is_healthy);
    let health = Health {
        status: match is_healthy {
            true => "ok",
            false => "unhealthy",
        },
        topics: statuses.iter().map(TopicHealth::of).collect(),
    };
    let mut json = serde_json::to_string(&health).expect("its keys are text");
    json.push('\n');
    let code = match is_healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, [(CONTENT_TYPE, "application/json")], json).into_response()
}

/// What `/health` says. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct Health<'a> {
    /// `ok` or `unhealthy`.
    status: &'static str,
    topics: Vec<TopicHealth<'a>>,
}

#[derive(Debug, Serialize)]
struct TopicHealth<'a> {
    topic: &'a str,
    healthy: bool,
    /// A word for the state of its connection.
    state: &'static str,
    /// Null if nothing was heard yet.
    last_message_age_seconds: Option<f64>,
    in_flight: usize,
    /// An event was dropped without being handled, so that no checkpoint passes it.
    stuck: bool,
}

impl<'a> TopicHealth<'a> {
    fn of(status: &'a Status) -> Self {
        Self {
            topic: status.topic.as_str(),
            healthy: status.is_healthy(),
            state: status.state.as_str(),
            last_message_age_seconds: status.silence.map(|silence| silence.as_secs_f64()),
            in_flight: status.in_flight,
            stuck: status.is_stuck,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        cli::{exit::Exit, fake_gateway::FakeGateway},
        subscriber::{Events, Subscriber},
    };

    async fn events(gateway: &FakeGateway) -> Events {
        let builder = Subscriber::builder(gateway.connect().await);
        let topic = "/event/OrderCreated__e".parse().unwrap();
        builder.topic(topic).build().unwrap().start()
    }

    async fn listen() -> (Ops, SocketAddr) {
        let args = OpsArgs {
            metrics_addr: Some("127.0.0.1:0".parse().unwrap()),
        };
        let ops = args.listen().await.unwrap().unwrap();
        let addr = ops.0.local_addr().unwrap();
        (ops, addr)
    }

    /// What is answered to `sent`, until the connection ends.
    async fn exchange(addr: SocketAddr, sent: &str) -> String {
        let mut tcp = TcpStream::connect(addr).await.unwrap();
        // It may be closed meanwhile, since the answer needs no more.
        _ = tcp.write_all(sent.as_bytes()).await;
        let mut answer = Vec::new();
        _ = tcp.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn request(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_refused() {
        let (_ops, addr) = listen().await;
        let args = OpsArgs {
            metrics_addr: Some(addr),
        };
        let failure = args.listen().await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let said = failure.to_string();
        assert!(said.contains(&addr.to_string()) && said.contains("--metrics-addr"));
        let none = OpsArgs::default().listen().await;
        assert!(none.unwrap().is_none());
    }

    #[tokio::test]
    async fn metrics_and_health_are_told_and_nothing_else() {
        let gateway = FakeGateway::with_events(1).await;
        let events = events(&gateway).await;
        let (ops, addr) = listen().await;
        let serving = ops.serve(events.monitor());
        let metrics = exchange(addr, &request("/metrics")).await;
        assert!(
            metrics.contains("application/openmetrics-text"),
            "{metrics}"
        );
        let series =
            "tidegate_subscriber_events_received_total{topic=\"/event/OrderCreated__e\"} 0";
        assert!(metrics.contains(series), "{metrics}");
        in_time(async {
            while !exchange(addr, &request("/health"))
                .await
                .starts_with("HTTP/1.1 200")
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for path in ["/", "/livez", "/metrics/", "/health/x"] {
            let answer = exchange(addr, &request(path)).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        }
        let long = format!("/{}", "x".repeat(HEADER_LIST_BYTES_MAX as usize));
        let answer = exchange(addr, &request(&long)).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
        // With the command it ends.
        drop(serving);
        in_time(async {
            while TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Only a failing test waits for so long.
    async fn in_time(waiting: impl Future<Output = ()>) {
        timeout(Duration::from_secs(60), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn health_names_each_topic_and_keeps_the_reason_to_itself() {
        let status = Status {
            topic: "/event/OrderCreated__e".parse().unwrap(),
            state: crate::subscriber::State::Waiting("https://internal: refused".into()),
            open_for: None,
            silence: Some(Duration::from_millis(1_500)),
            in_flight: 3,
            position: None,
            saved: None,
            checkpoint_age: None,
            is_stuck: false,
            counters: Default::default(),
        };
        let healthy = Status {
            state: crate::subscriber::State::Live,
            ..status.clone()
        };
        assert_eq!(
            answer(std::slice::from_ref(&healthy)).status(),
            StatusCode::OK
        );
        let answer = answer(&[healthy, status]);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 4_096).await;
        let text = String::from_utf8(body.unwrap().to_vec()).unwrap();
        assert_eq!(
            text,
            "{\"status\":\"unhealthy\",\"topics\":[{\"topic\":\"/event/OrderCreated__e\",\"healthy\":true,\
             \"state\":\"live\",\"last_message_age_seconds\":1.5,\"in_flight\":3,\"stuck\":false},\
             {\"topic\":\"/event/OrderCreated__e\",\"healthy\":false,\"state\":\"waiting\",\
             \"last_message_age_seconds\":1.5,\"in_flight\":3,\"stuck\":false}]}\n"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_say_nothing_hold_others_up_for_a_while_only() {
        let gateway = FakeGateway::start().await;
        let events = events(&gateway).await;
        let (ops, addr) = listen().await;
        let _serving = ops.serve(events.monitor());
        let mut silent = Vec::new();
        for sent in ["", "GET /metrics HTTP/1.1\r\nhost:"].repeat(CONNECTIONS_MAX) {
            let mut tcp = TcpStream::connect(addr).await.unwrap();
            tcp.write_all(sent.as_bytes()).await.unwrap();
            silent.push(tcp);
        }
        let answer = exchange(addr, &request("/metrics")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut said = Vec::new();
        for mut tcp in silent {
            _ = tcp.read_to_end(&mut said).await;
        }
        assert_eq!(said, b"");
    }
}
