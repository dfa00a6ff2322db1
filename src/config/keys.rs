//! The table of settings: one row says everything about a key but its default.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    settings::Settings,
    value::{Bytes, Raw, Span},
};
use crate::{
    event_log::Durability,
    schema::{
        compatibility::Level,
        platform::{Check, Checks},
    },
    telemetry::log::{LogFormat, parse_filter},
    types::limits,
};

/// One setting: where it is written, what it may be, and which field it sets.
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    /// What `config show` says about it.
    pub(super) doc: &'static str,
    kind: Kind,
}

/// How the names of all variables of this program begin.
pub(super) const VARIABLE_PREFIX: &str = "TIDEGATE_";

/// Every setting, by section, in the order in which they are shown.
pub(super) const KEYS: &[Key] = &[
    Key {
        section: "server",
        name: "data_dir",
        doc: "Where events, metadata, the profile and development certificates are kept",
        kind: Kind::Path(|s| &mut s.gateway.data_dir),
    },
    Key {
        section: "server",
        name: "schemas_dir",
        doc: "Every .avsc file in it becomes an event type, and is watched",
        kind: Kind::Path(|s| &mut s.gateway.schemas_dir),
    },
    Key {
        section: "server",
        name: "ephemeral",
        doc: "Keep events and metadata in memory only",
        kind: Kind::Bool(|s| &mut s.gateway.ephemeral),
    },
    Key {
        section: "server",
        name: "ready_file",
        doc: "Written once every listener accepts",
        kind: Kind::OptionalPath(|s| &mut s.gateway.ready_file),
    },
    Key {
        section: "server",
        name: "grpc_tls_addr",
        doc: "Listener of gRPC over TLS; port 0 takes a free one",
        kind: Kind::Address(|s| &mut s.gateway.grpc_tls_addr),
    },
    Key {
        section: "server",
        name: "grpc_addr",
        doc: "Listener of gRPC in plaintext",
        kind: Kind::Address(|s| &mut s.gateway.grpc_addr),
    },
    Key {
        section: "server",
        name: "http_addr",
        doc: "Listener of HTTP in plaintext",
        kind: Kind::Address(|s| &mut s.gateway.http_addr),
    },
    Key {
        section: "server",
        name: "https_addr",
        doc: "Listener of HTTP over TLS",
        kind: Kind::Address(|s| &mut s.gateway.https_addr),
    },
    Key {
        section: "server",
        name: "instance_url",
        doc: "What clients are told as their instance; made from https_addr if not set",
        kind: Kind::Url(|s| &mut s.gateway.instance_url),
    },
    Key {
        section: "server",
        name: "shutdown_grace",
        doc: "How long a stop waits for calls to end",
        kind: Kind::Duration(|s| &mut s.gateway.shutdown_grace, ZERO, limits::WAIT_MAX),
    },
    Key {
        section: "server",
        name: "insecure_listen",
        doc: "Let plaintext and development certificates leave this machine",
        kind: Kind::Bool(|s| &mut s.insecure_listen),
    },
    Key {
        section: "tls",
        name: "cert_file",
        doc: "Certificate chain in PEM; a development certificate is made if not set",
        kind: Kind::OptionalPath(|s| &mut s.gateway.tls.cert_file),
    },
    Key {
        section: "tls",
        name: "key_file",
        doc: "Private key of the first certificate, in PEM",
        kind: Kind::OptionalPath(|s| &mut s.gateway.tls.key_file),
    },
    Key {
        section: "event_log",
        name: "durability",
        doc: "Acknowledge after a sync, or after handing over to the operating system (\"os\"), where \
              a loss of power takes what was not synced",
        kind: Kind::Durability(|s| &mut s.gateway.event_log.durability),
    },
    Key {
        section: "event_log",
        name: "sync_interval",
        doc: "Time between two syncs with durability = \"os\"",
        kind: Kind::Duration(
            |s| &mut s.gateway.event_log.sync_interval,
            MILLISECOND,
            limits::SYNC_INTERVAL_MAX,
        ),
    },
    Key {
        section: "event_log",
        name: "retention",
        doc: "How long events are kept",
        kind: Kind::Duration(
            |s| &mut s.gateway.event_log.retention,
            limits::RETENTION_MIN,
            limits::RETENTION_MAX,
        ),
    },
    Key {
        section: "event_log",
        name: "retention_bytes",
        doc: "How much each tenant keeps; the oldest goes first",
        kind: Kind::OptionalDiskBytes(
            |s| &mut s.gateway.event_log.retention_bytes,
            limits::SEGMENT_BYTES_MIN,
            limits::RETENTION_BYTES_CEILING,
        ),
    },
    Key {
        section: "event_log",
        name: "queue_bytes",
        doc: "Memory for events that wait for their sync",
        kind: memory(|s| &mut s.gateway.event_log.queue_bytes),
    },
    Key {
        section: "event_log",
        name: "ring_bytes",
        doc: "Memory for recent events, read by live subscribers",
        kind: memory(|s| &mut s.gateway.event_log.ring_bytes),
    },
    Key {
        section: "event_log",
        name: "cache_bytes",
        doc: "Memory for older events, read by subscribers that catch up",
        kind: memory(|s| &mut s.gateway.event_log.cache_bytes),
    },
    Key {
        section: "event_log",
        name: "footer_cache_bytes",
        doc: "Memory for the indexes of sealed segments",
        kind: memory(|s| &mut s.gateway.event_log.footer_cache_bytes),
    },
    Key {
        section: "event_log",
        name: "segment_bytes_max",
        doc: "Largest size of a segment file; retention removes whole segments",
        kind: Kind::DiskBytes(
            |s| &mut s.gateway.event_log.segment_bytes_max,
            limits::SEGMENT_BYTES_MIN,
            limits::SEGMENT_BYTES_CEILING,
        ),
    },
    Key {
        section: "broker",
        name: "credit_max",
        doc: "Events a stream may have outstanding, unless it asks for more",
        kind: Kind::Count(|s| &mut s.gateway.broker.credit_max, 1, limits::CREDIT_MAX),
    },
    Key {
        section: "broker",
        name: "credit_max_extended",
        doc: "Events a stream may have outstanding that asks for more",
        kind: Kind::Count(
            |s| &mut s.gateway.broker.credit_max_extended,
            1,
            limits::COUNT_CEILING,
        ),
    },
    Key {
        section: "broker",
        name: "keepalive",
        doc: "Silence after which a stream with credit gets an empty response",
        kind: Kind::Duration(
            |s| &mut s.gateway.broker.keepalive,
            limits::KEEPALIVE_MIN,
            limits::KEEPALIVE_MAX,
        ),
    },
    Key {
        section: "broker",
        name: "zero_credit_grace",
        doc: "How long a stream may stay without credit",
        kind: or_never(|s| &mut s.gateway.broker.zero_credit_grace),
    },
    Key {
        section: "broker",
        name: "managed_no_commit_timeout",
        doc: "How long a stream of a managed subscription may go without commits; 0s is for ever",
        kind: or_never(|s| &mut s.gateway.broker.managed_no_commit_timeout),
    },
    Key {
        section: "broker",
        name: "publish_room_wait",
        doc: "How long a unary publish waits for room in the queue",
        kind: Kind::Duration(
            |s| &mut s.gateway.broker.publish_room_wait,
            ZERO,
            limits::WAIT_MAX,
        ),
    },
    Key {
        section: "broker",
        name: "tenant_idle",
        doc: "How long a tenant that nobody uses keeps its files open",
        kind: Kind::Duration(
            |s| &mut s.gateway.broker.tenant_idle,
            limits::PATIENCE_MIN,
            limits::WAIT_MAX,
        ),
    },
    Key {
        section: "broker",
        name: "tenants_open_max",
        doc: "Tenants beyond which those that nobody uses are closed sooner",
        kind: Kind::Count(
            |s| &mut s.gateway.broker.tenants_open_max,
            1,
            limits::COUNT_CEILING,
        ),
    },
    Key {
        section: "idempotence",
        name: "enabled",
        doc: "Store an event once whose id comes again, on topics that do not say so themselves",
        kind: Kind::Bool(|s| &mut s.gateway.broker.idempotence.enabled),
    },
    Key {
        section: "idempotence",
        name: "window",
        doc: "How long an event's id is remembered",
        kind: Kind::Duration(
            |s| &mut s.gateway.broker.idempotence.window,
            SECOND,
            limits::IDEMPOTENCE_WINDOW_MAX,
        ),
    },
    Key {
        section: "idempotence",
        name: "ids_per_topic_max",
        doc: "Ids that are remembered of one topic; the oldest go first",
        kind: Kind::Count(
            |s| &mut s.gateway.broker.idempotence.ids_per_topic_max,
            1,
            limits::IDEMPOTENCE_IDS_CEILING,
        ),
    },
    Key {
        section: "idempotence",
        name: "ids_max",
        doc: "Ids that are remembered of all topics; the oldest go first",
        kind: Kind::Count(
            |s| &mut s.gateway.broker.idempotence.ids_max,
            1,
            limits::IDEMPOTENCE_IDS_CEILING,
        ),
    },
    Key {
        section: "auth",
        name: "token_lifetime",
        doc: "How long an access token is good that signing in made",
        kind: Kind::Duration(
            |s| &mut s.gateway.auth.token_lifetime,
            limits::TOKEN_LIFETIME_MIN,
            limits::TOKEN_LIFETIME_MAX,
        ),
    },
    Key {
        section: "auth",
        name: "refresh_token_lifetime",
        doc: "How long a refresh token is good",
        kind: Kind::Duration(
            |s| &mut s.gateway.auth.refresh_token_lifetime,
            limits::TOKEN_LIFETIME_MIN,
            limits::TOKEN_LIFETIME_MAX,
        ),
    },
    Key {
        section: "auth",
        name: "sign_in_failures_max",
        doc: "Failed sign-ins under one name before it is locked out",
        kind: Kind::Count(
            |s| &mut s.gateway.auth.sign_in_failures_max,
            1,
            limits::COUNT_CEILING,
        ),
    },
    Key {
        section: "auth",
        name: "sign_in_failures_per_address_max",
        doc: "Failed sign-ins from one address before it is locked out",
        kind: Kind::Count(
            |s| &mut s.gateway.auth.sign_in_failures_per_address_max,
            1,
            limits::COUNT_CEILING,
        ),
    },
    Key {
        section: "auth",
        name: "sign_in_lockout",
        doc: "How long failed sign-ins count, and a lock-out lasts",
        kind: Kind::Duration(
            |s| &mut s.gateway.auth.sign_in_lockout,
            SECOND,
            limits::WAIT_MAX,
        ),
    },
    Key {
        section: "schema",
        name: "compatibility",
        doc: "What new versions have to be compatible with, where neither tenant nor topic says so",
        kind: Kind::Level(|s| &mut s.gateway.schema.level),
    },
    Key {
        section: "schema",
        name: "checks",
        doc: "Conventions of the platform that schemas have to keep, where neither tenant nor topic \
              says so",
        kind: Kind::Checks(|s| &mut s.gateway.schema.checks),
    },
    Key {
        section: "channels",
        name: "file",
        doc: "Channels that are made to be so at the start; others stay",
        kind: Kind::OptionalPath(|s| &mut s.gateway.channels_file),
    },
    Key {
        section: "grpc",
        name: "first_message_wait",
        doc: "How long a refusal waits for a stream's first message",
        kind: Kind::Duration(
            |s| &mut s.gateway.grpc.first_message_wait,
            ZERO,
            limits::WAIT_MAX,
        ),
    },
    Key {
        section: "grpc",
        name: "publish_stream_idle",
        doc: "How long a publish stream may stay without events",
        kind: or_never(|s| &mut s.gateway.grpc.publish_stream_idle),
    },
    Key {
        section: "grpc",
        name: "fetch_requests_per_second_max",
        doc: "Requests that one subscription may send in any second",
        kind: Kind::Count(
            |s| &mut s.gateway.grpc.fetch_requests_per_second_max,
            1,
            limits::COUNT_CEILING,
        ),
    },
    Key {
        section: "grpc",
        name: "response_compression",
        doc: "Compress responses for clients that accept it",
        kind: Kind::Bool(|s| &mut s.gateway.http2.response_compression),
    },
    Key {
        section: "grpc",
        name: "request_bytes_max",
        doc: "Largest request",
        kind: Kind::MemoryBytes(
            |s| &mut s.gateway.http2.request_bytes_max,
            2 * limits::EVENT_BYTES_MAX,
            limits::REQUEST_BYTES_CEILING,
        ),
    },
    Key {
        section: "grpc",
        name: "streams_per_connection_max",
        doc: "RPC streams of one connection",
        kind: Kind::Count(
            |s| &mut s.gateway.http2.streams_per_connection_max,
            1,
            limits::COUNT_CEILING,
        ),
    },
    Key {
        section: "grpc",
        name: "ping_interval",
        doc: "Interval of the server's HTTP/2 PINGs",
        kind: Kind::Duration(
            |s| &mut s.gateway.http2.ping_interval,
            SECOND,
            limits::WAIT_MAX,
        ),
    },
    Key {
        section: "grpc",
        name: "ping_timeout",
        doc: "How long a PING may stay unanswered before its connection is closed",
        kind: Kind::Duration(
            |s| &mut s.gateway.http2.ping_timeout,
            SECOND,
            limits::WAIT_MAX,
        ),
    },
    Key {
        section: "telemetry",
        name: "log",
        doc: "Which log lines are written: a level, or levels for targets",
        kind: Kind::LogFilter(|s| &mut s.log.filter),
    },
    Key {
        section: "telemetry",
        name: "log_format",
        doc: "How log lines look",
        kind: Kind::LogFormat(|s| &mut s.log.format),
    },
];

/// The field that a key sets.
type At<T> = fn(&mut Settings) -> &mut T;

/// What a value may be: its type and, last, its least and its greatest.
enum Kind {
    Bool(At<bool>),
    Path(At<PathBuf>),
    OptionalPath(At<Option<PathBuf>>),
    Address(At<Option<SocketAddr>>),
    Url(At<Option<String>>),
    Count(At<u32>, u32, u32),
    Duration(At<Duration>, Duration, Duration),
    /// Zero stands for never.
    DurationOrNever(At<Option<Duration>>, Duration, Duration),
    MemoryBytes(At<usize>, usize, usize),
    DiskBytes(At<u64>, u64, u64),
    OptionalDiskBytes(At<Option<u64>>, u64, u64),
    Durability(At<Durability>),
    LogFilter(At<String>),
    LogFormat(At<LogFormat>),
    Level(At<Level>),
    Checks(At<Checks>),
}

const fn memory(at: At<usize>) -> Kind {
    Kind::MemoryBytes(at, limits::MEMORY_BYTES_MIN, limits::MEMORY_BYTES_CEILING)
}

const fn or_never(at: At<Option<Duration>>) -> Kind {
    Kind::DurationOrNever(at, limits::PATIENCE_MIN, limits::WAIT_MAX)
}

impl Key {
    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}__{}", self.section, self.name).to_uppercase()
    }

    /// Sets the field to `raw`. `None`, with nothing changed, if it is not what is wanted.
    pub(super) fn set(&self, settings: &mut Settings, raw: &Raw) -> Option<()> {
        match self.kind {
            Kind::Bool(at) => *at(settings) = raw.boolean()?,
            Kind::Path(at) => *at(settings) = raw.text().filter(|text| !text.is_empty())?.into(),
            Kind::OptionalPath(at) => *at(settings) = raw.optional(|text| Some(text.into()))?,
            Kind::Address(at) => *at(settings) = raw.optional(|text| text.parse().ok())?,
            Kind::Url(at) => *at(settings) = raw.optional(https_origin)?,
            Kind::Count(at, min, max) => {
                let count = u32::try_from(raw.integer()?).ok()?;
                *at(settings) = within(count, min, max)?;
            }
            Kind::Duration(at, min, max) => *at(settings) = within(raw.duration()?, min, max)?,
            Kind::DurationOrNever(at, min, max) => {
                *at(settings) = match raw.duration()? {
                    Duration::ZERO => None,
                    duration => Some(within(duration, min, max)?),
                };
            }
            Kind::MemoryBytes(at, min, max) => {
                let bytes = usize::try_from(raw.bytes()?).ok()?;
                *at(settings) = within(bytes, min, max)?;
            }
            Kind::DiskBytes(at, min, max) => *at(settings) = within(raw.bytes()?, min, max)?,
            Kind::OptionalDiskBytes(at, min, max) => {
                *at(settings) = match raw.text() {
                    Some("") => None,
                    _ => Some(within(raw.bytes()?, min, max)?),
                };
            }
            Kind::Durability(at) => *at(settings) = raw.word(&DURABILITIES)?,
            Kind::LogFilter(at) => {
                let filter = raw.text().filter(|filter| parse_filter(filter).is_ok())?;
                *at(settings) = filter.to_owned();
            }
            Kind::LogFormat(at) => *at(settings) = raw.word(&LOG_FORMATS)?,
            Kind::Level(at) => *at(settings) = raw.text()?.parse().ok()?,
            Kind::Checks(at) => *at(settings) = raw.text()?.parse().ok()?,
        }
        Some(())
    }

    /// The value of the field as it is written in TOML, or `None` if it has none.
    pub(super) fn show(&self, settings: &Settings) -> Option<String> {
        // The table knows a field by one function, and that one wants it mutable.
        let settings = &mut settings.clone();
        let quoted = |text: String| Some(toml::Value::String(text).to_string());
        match self.kind {
            Kind::Bool(at) => Some(at(settings).to_string()),
            Kind::Path(at) => quoted(at(settings).display().to_string()),
            Kind::OptionalPath(at) => quoted(at(settings).as_ref()?.display().to_string()),
            Kind::Address(at) => quoted(at(settings).map_or_else(String::new, |at| at.to_string())),
            Kind::Url(at) => quoted(at(settings).clone()?),
            Kind::Count(at, ..) => Some(at(settings).to_string()),
            Kind::Duration(at, ..) => quoted(Span(*at(settings)).to_string()),
            Kind::DurationOrNever(at, ..) => {
                quoted(Span(at(settings).unwrap_or_default()).to_string())
            }
            Kind::MemoryBytes(at, ..) => quoted(Bytes(*at(settings) as u64).to_string()),
            Kind::DiskBytes(at, ..) => quoted(Bytes(*at(settings)).to_string()),
            Kind::OptionalDiskBytes(at, ..) => quoted(Bytes((*at(settings))?).to_string()),
            Kind::Durability(at) => quoted(word_of(&DURABILITIES, *at(settings)).to_owned()),
            Kind::LogFilter(at) => quoted(at(settings).clone()),
            Kind::LogFormat(at) => quoted(word_of(&LOG_FORMATS, *at(settings)).to_owned()),
            Kind::Level(at) => quoted(at(settings).to_string()),
            Kind::Checks(at) => quoted(at(settings).to_string()),
        }
    }

    /// What a value has to be, for people.
    pub(super) fn wanted(&self) -> String {
        let duration = |min, max| {
            let (min, max) = (Span(min), Span(max));
            format!("a duration from \"{min}\" to \"{max}\" in ms, s, m or h")
        };
        let bytes = |min, max| {
            let (min, max) = (Bytes(min), Bytes(max));
            format!(
                "a number of bytes or a size in KiB, MiB, GiB or TiB, from \"{min}\" to \"{max}\""
            )
        };
        match self.kind {
            Kind::Bool(_) => "true or false".to_owned(),
            Kind::Path(_) => "a path".to_owned(),
            Kind::OptionalPath(_) => "a path, or \"\" for none".to_owned(),
            Kind::Address(_) => {
                "an IP address with a port such as \"127.0.0.1:7443\" or \"[::1]:7443\", or \"\" for no listener".to_owned()
            }
            Kind::Url(_) => {
                "an https URL without a path such as \"https://events.example.com\", or \"\" for none".to_owned()
            }
            Kind::Count(_, min, max) => format!("a number from {min} to {max}"),
            Kind::Duration(_, min, max) => duration(min, max),
            Kind::DurationOrNever(_, min, max) => {
                format!("{}, or \"0s\" for never", duration(min, max))
            }
            Kind::MemoryBytes(_, min, max) => bytes(min as u64, max as u64),
            Kind::DiskBytes(_, min, max) => bytes(min, max),
            Kind::OptionalDiskBytes(_, min, max) => {
                format!("{}, or \"\" for no limit", bytes(min, max))
            }
            Kind::Durability(_) => words(&DURABILITIES),
            Kind::LogFilter(_) => {
                "off, error, warn, info, debug or trace, or such levels for targets as in \"info,tidegate::grpc=debug\"".to_owned()
            }
            Kind::LogFormat(_) => words(&LOG_FORMATS),
            Kind::Level(_) => words(&Level::ALL.map(|level| (level.as_str(), level))),
            Kind::Checks(_) => {
                let names = Check::ALL.map(Check::as_str).join(", ");
                format!("\"none\" or a list of {names}")
            }
        }
    }
}

/// Whether there is a section of this name.
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.section == name)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.name)
    }
}

fn within<T: PartialOrd>(value: T, min: T, max: T) -> Option<T> {
    (min <= value && value <= max).then_some(value)
}

/// `text` if it is an https URL of a host and perhaps a port, and nothing else.
fn https_origin(text: &str) -> Option<String> {
    let url: http::Uri = text.parse().ok()?;
    let authority = url.authority()?.as_str();
    let plain = url.scheme() == Some(&http::uri::Scheme::HTTPS)
        && url.path_and_query().is_none_or(|path| path.as_str() == "/")
        // A name and password in it would be shown to every client.
        && !authority.contains('@');
    plain.then(|| format!("https://{authority}"))
}

fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words
        .iter()
        .find(|(_, of)| *of == value)
        .map(|(word, _)| *word)
        .expect("every value has its word")
}

fn words<T>(words: &[(&'static str, T)]) -> String {
    let quoted: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    quoted.join(" or ")
}

const DURABILITIES: [(&str, Durability); 2] = [("sync", Durability::Sync), ("os", Durability::Os)];
const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

const ZERO: Duration = Duration::ZERO;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
