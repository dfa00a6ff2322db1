//! The layer of the environment: every variable that the gateway reads, and the reading of it.
//!
//! A setting's variable is `TIDEGATE_`, its section, two underscores and its key, in capitals. Only
//! names with two underscores are settings: one that is not listed here is refused, since a setting
//! that is mistyped would be ignored in silence. Those with single underscores, such as
//! `TIDEGATE_TOKEN`, belong to the client commands and are not looked at here.
//!
//! Values are written as on the command line: `true`, `100`, `60s`, `64MiB`, `127.0.0.1:7443`; an
//! empty one switches a listener off, or unsets what may be without a value.
//!
//! | Variable | Default |
//! |---|---|
//! | `TIDEGATE_SERVER__DATA_DIR` | `./tidegate-data` |
//! | `TIDEGATE_SERVER__SCHEMAS_DIR` | `./schemas` |
//! | `TIDEGATE_SERVER__EPHEMERAL` | `false` |
//! | `TIDEGATE_SERVER__READY_FILE` | not set |
//! | `TIDEGATE_SERVER__GRPC_TLS_ADDR` | `127.0.0.1:7443` |
//! | `TIDEGATE_SERVER__GRPC_ADDR` | `127.0.0.1:7011` |
//! | `TIDEGATE_SERVER__HTTP_ADDR` | `127.0.0.1:7080` |
//! | `TIDEGATE_SERVER__HTTPS_ADDR` | `127.0.0.1:7081` |
//! | `TIDEGATE_SERVER__INSTANCE_URL` | not set |
//! | `TIDEGATE_SERVER__SHUTDOWN_GRACE` | `10s` |
//! | `TIDEGATE_SERVER__INSECURE_LISTEN` | `false` |
//! | `TIDEGATE_TLS__CERT_FILE` | not set |
//! | `TIDEGATE_TLS__KEY_FILE` | not set |
//! | `TIDEGATE_EVENT_LOG__DURABILITY` | `sync` |
//! | `TIDEGATE_EVENT_LOG__SYNC_INTERVAL` | `100ms` |
//! | `TIDEGATE_EVENT_LOG__RETENTION` | `72h` |
//! | `TIDEGATE_EVENT_LOG__RETENTION_BYTES` | not set |
//! | `TIDEGATE_EVENT_LOG__QUEUE_BYTES` | `64MiB` |
//! | `TIDEGATE_EVENT_LOG__RING_BYTES` | `24MiB` |
//! | `TIDEGATE_EVENT_LOG__CACHE_BYTES` | `48MiB` |
//! | `TIDEGATE_EVENT_LOG__FOOTER_CACHE_BYTES` | `32MiB` |
//! | `TIDEGATE_EVENT_LOG__SEGMENT_BYTES_MAX` | `256MiB` |
//! | `TIDEGATE_BROKER__CREDIT_MAX` | `100` |
//! | `TIDEGATE_BROKER__CREDIT_MAX_EXTENDED` | `100000` |
//! | `TIDEGATE_BROKER__KEEPALIVE` | `1m` |
//! | `TIDEGATE_BROKER__ZERO_CREDIT_GRACE` | `70s` |
//! | `TIDEGATE_BROKER__MANAGED_NO_COMMIT_TIMEOUT` | `0s` |
//! | `TIDEGATE_BROKER__PUBLISH_ROOM_WAIT` | `2s` |
//! | `TIDEGATE_BROKER__TENANT_IDLE` | `10m` |
//! | `TIDEGATE_BROKER__TENANTS_OPEN_MAX` | `500` |
//! | `TIDEGATE_IDEMPOTENCE__ENABLED` | `false` |
//! | `TIDEGATE_IDEMPOTENCE__WINDOW` | `10m` |
//! | `TIDEGATE_IDEMPOTENCE__IDS_PER_TOPIC_MAX` | `250000` |
//! | `TIDEGATE_IDEMPOTENCE__IDS_MAX` | `1000000` |
//! | `TIDEGATE_AUTH__TOKEN_LIFETIME` | `2h` |
//! | `TIDEGATE_AUTH__REFRESH_TOKEN_LIFETIME` | `720h` |
//! | `TIDEGATE_AUTH__SIGN_IN_FAILURES_MAX` | `10` |
//! | `TIDEGATE_AUTH__SIGN_IN_FAILURES_PER_ADDRESS_MAX` | `50` |
//! | `TIDEGATE_AUTH__SIGN_IN_LOCKOUT` | `15m` |
//! | `TIDEGATE_SCHEMA__COMPATIBILITY` | `backward` |
//! | `TIDEGATE_SCHEMA__CHECKS` | `leading-fields, nullable-fields, logical-types, namespace` |
//! | `TIDEGATE_CHANNELS__FILE` | not set |
//! | `TIDEGATE_GRPC__FIRST_MESSAGE_WAIT` | `10s` |
//! | `TIDEGATE_GRPC__PUBLISH_STREAM_IDLE` | `30m` |
//! | `TIDEGATE_GRPC__FETCH_REQUESTS_PER_SECOND_MAX` | `10000` |
//! | `TIDEGATE_GRPC__RESPONSE_COMPRESSION` | `false` |
//! | `TIDEGATE_GRPC__REQUEST_BYTES_MAX` | `4MiB` |
//! | `TIDEGATE_GRPC__STREAMS_PER_CONNECTION_MAX` | `1000` |
//! | `TIDEGATE_GRPC__PING_INTERVAL` | `10s` |
//! | `TIDEGATE_GRPC__PING_TIMEOUT` | `5s` |
//! | `TIDEGATE_TELEMETRY__LOG` | `info` |
//! | `TIDEGATE_TELEMETRY__LOG_FORMAT` | `text` |

use std::ffi::{OsStr, OsString};

use super::keys::VARIABLE_PREFIX;

/// The variables of this process that are settings, with their values, sorted by name.
pub fn variables() -> Vec<(OsString, OsString)> {
    let mut variables: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| is_setting(name))
        .collect();
    variables.sort();
    variables
}

/// Whether a variable of this name is, or is meant to be, a setting.
pub(super) fn is_setting(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(VARIABLE_PREFIX) && name.contains("__")
}
