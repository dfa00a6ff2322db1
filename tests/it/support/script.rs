//! The stock clients of `tests/clients`, run as their users run them.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{gateway::Gateway, wait::DEADLINE};

/// A language, and the listener it connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    pub(crate) language: Language,
    pub(crate) is_tls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Node,
}

/// Every stock client on every listener.
pub(crate) const EVERY: [Stock; 4] = [
    Stock::tls(Language::Python),
    Stock::tls(Language::Node),
    Stock::plaintext(Language::Python),
    Stock::plaintext(Language::Node),
];

/// A line that a client prints.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Line {
    Topic {
        topic_name: String,
        tenant_guid: String,
        can_publish: bool,
        can_subscribe: bool,
        schema_id: String,
        rpc_id: String,
    },
    Schema {
        schema_json: String,
        schema_id: String,
        rpc_id: String,
    },
    Published {
        results: Vec<PublishResult>,
        schema_id: String,
        rpc_id: String,
    },
    /// The response headers of a subscription came; nothing has been sent yet.
    Headers,
    Response {
        events: Vec<Event>,
        latest_replay_id: String,
        pending: i32,
        rpc_id: String,
    },
    /// The answer to a commit.
    Commit {
        commit_request_id: String,
        replay_id: String,
        error: Option<PublishError>,
        process_time: i64,
    },
    Status {
        code: u16,
        details: String,
        trailers: Value,
    },
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct PublishResult {
    pub(crate) replay_id: String,
    pub(crate) error: Option<PublishError>,
    pub(crate) correlation_key: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct PublishError {
    pub(crate) code: String,
    pub(crate) msg: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) schema_id: String,
    pub(crate) payload: String,
    pub(crate) replay_id: String,
    pub(crate) record: Value,
}

/// What a subscription does; by default it reads `count` events from the oldest on.
#[derive(Clone, Debug)]
pub(crate) struct Subscribe<'a> {
    pub(crate) preset: &'a str,
    /// Hexadecimal.
    pub(crate) replay_id: &'a str,
    /// Credit asked for at once, in requests of their own.
    pub(crate) grants: &'a [i32],
    /// Credit asked for whenever none is left; 0 for never.
    pub(crate) refill: i32,
    /// Cancel after so many events.
    pub(crate) count: usize,
    /// Half-close after the grants, and go on to the end.
    pub(crate) half_close: bool,
}

impl Default for Subscribe<'_> {
    fn default() -> Self {
        Self {
            preset: "EARLIEST",
            replay_id: "",
            grants: &[100],
            refill: 100,
            count: usize::MAX,
            half_close: false,
        }
    }
}

impl Stock {
    pub(crate) const fn tls(language: Language) -> Self {
        Self {
            language,
            is_tls: true,
        }
    }

    pub(crate) const fn plaintext(language: Language) -> Self {
        Self {
            language,
            is_tls: false,
        }
    }

    /// Runs one command to its end and returns what it printed.
    pub(crate) fn run(self, gateway: &Gateway, command: &str, arguments: Value) -> Vec<Line> {
        self.start(gateway, command, arguments).rest()
    }

    /// Starts one command with the administrator's credentials.
    pub(crate) fn start(self, gateway: &Gateway, command: &str, arguments: Value) -> Script {
        let ready = gateway.ready();
        let metadata = [
            ("accesstoken", &*ready.access_token),
            ("instanceurl", &ready.instance_url),
            ("tenantid", &ready.tenant_id),
        ];
        self.start_as(gateway, &metadata, command, arguments)
    }

    /// Starts one command with these credentials.
    pub(crate) fn start_as(
        self,
        gateway: &Gateway,
        metadata: &[(&str, &str)],
        command: &str,
        mut arguments: Value,
    ) -> Script {
        let ready = gateway.ready();
        let endpoint = if self.is_tls {
            &ready.grpc_tls_addr
        } else {
            &ready.grpc_addr
        };
        arguments["connection"] = json!({
            "endpoint": endpoint,
            "ca_pem": self.is_tls.then_some(&ready.ca_pem),
            "metadata": metadata,
        });
        arguments["command"] = json!(command);
        Script::run(self, &arguments)
    }

    /// Publishes `events` in batches of `batch`, with `Publish` or, if `stream`, `PublishStream`.
    pub(crate) fn publish(
        self,
        gateway: &Gateway,
        topic: &str,
        events: &[Value],
        batch: usize,
        is_stream: bool,
    ) -> Vec<PublishResult> {
        let command = if is_stream {
            "publish_stream"
        } else {
            "publish"
        };
        let arguments = json!({ "topic": topic, "events": events, "batch": batch });
        let mut all = Vec::new();
        for line in self.run(gateway, command, arguments) {
            match line {
                Line::Published { results, .. } => all.extend(results),
                Line::Status { code: 0, .. } if is_stream => {}
                line => panic!("{self:?} printed {line:?}"),
            }
        }
        all
    }

    /// Starts a subscription.
    pub(crate) fn subscribe(self, gateway: &Gateway, topic: &str, how: &Subscribe<'_>) -> Script {
        let arguments = json!({
            "topic": topic,
            "preset": how.preset,
            "replay_id": how.replay_id,
            "grants": how.grants,
            "refill": how.refill,
            "count": how.count,
            "half_close": how.half_close,
        });
        self.start(gateway, "subscribe", arguments)
    }

    /// The `count` oldest events of `topic`, and no fewer.
    pub(crate) fn read(self, gateway: &Gateway, topic: &str, count: usize) -> Vec<Event> {
        let how = Subscribe {
            count,
            ..Subscribe::default()
        };
        let mut script = self.subscribe(gateway, topic, &how);
        let events = script.events(count);
        assert_eq!(script.rest(), [], "{self:?} was cancelled");
        events
    }
}

/// A stock client under way. Killed when dropped.
pub(crate) struct Script {
    stock: Stock,
    child: Child,
    lines: Receiver<Line>,
}

impl Script {
    fn run(stock: Stock, arguments: &Value) -> Self {
        let clients = std::env::var_os("TIDEGATE_TEST_CLIENTS").map(PathBuf::from);
        let clients = clients.expect(
            "TIDEGATE_TEST_CLIENTS says where the stock clients are: use `tests/run`, which installs them",
        );
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
        let mut command = match stock.language {
            Language::Python => {
                let mut command = Command::new(clients.join("python/bin/python"));
                command.arg(format!("{scripts}/python/client.py"));
                command.env("PYTHONPATH", clients.join("stubs"));
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
            Language::Node => {
                let mut command = Command::new("node");
                command.arg(format!("{scripts}/node/client.js"));
                command.env("NODE_PATH", clients.join("node/node_modules"));
                command
            }
        };
        let mut child = command
            // A proxy would be asked for the gateway's address.
            .env("no_proxy", "*")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{stock:?} can be run: {error}"));
        let stdin = child.stdin.take().expect("piped");
        serde_json::to_writer(stdin, arguments).expect("a client reads what it is to do");

        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.expect("a client prints text");
                let line = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("a client prints lines, not {line}: {error}"));
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            stock,
            child,
            lines,
        }
    }

    /// The next line; `None` once the client ended well.
    pub(crate) fn next(&mut self) -> Option<Line> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => panic!("{:?} is silent for {DEADLINE:?}", self.stock),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().expect("a client can be waited for");
                let mut stderr = String::new();
                if let Some(mut pipe) = self.child.stderr.take() {
                    pipe.read_to_string(&mut stderr)
                        .expect("a client prints text");
                }
                assert!(
                    status.success(),
                    "{:?} ended with {status}: {stderr}",
                    self.stock
                );
                None
            }
        }
    }

    /// Every line to the end.
    pub(crate) fn rest(&mut self) -> Vec<Line> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The next response of a subscription: its events and the credit left.
    pub(crate) fn response(&mut self) -> (Vec<Event>, i32) {
        loop {
            match self.next() {
                Some(Line::Headers) => {}
                Some(Line::Response {
                    events, pending, ..
                }) => return (events, pending),
                line => panic!("{:?} printed {line:?}, not a response", self.stock),
            }
        }
    }

    /// At least `count` events of a subscription; the last response may bring more.
    pub(crate) fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.response().0);
        }
        events
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
