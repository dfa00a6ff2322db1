//! Why a connection was not made, or a call failed.
//!
//! Source: the public Pub/Sub API Developer Guide, "Handle Errors": a failed call ends with a status
//! and the trailers `error-code` and `rpc-id`.

use std::{error::Error, io, path::PathBuf, time::Duration};

use tonic::{Code, Status};

use super::{connect::EndpointUrl, dial::ProxyError, sign_in::SignInError};

/// What every error code of the Pub/Sub API begins with.
const ERROR_CODE_PREFIX: &str = "sfdc.platform.eventbus.grpc.";

/// Why something asked of a gateway was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call was made and failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Call(status.into())
    }
}

impl ClientError {
    /// Whether the same may be tried again with some hope.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Call(error) => error.is_retryable(),
        }
    }
}

/// Why a connection could not be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The token would cross a network in the clear.
    #[error("{0} is not on this machine, and http:// would send the access token in the clear")]
    PlaintextRefused(EndpointUrl),
    /// The file that holds the certificate authority cannot be used.
    #[error("the certificate authority in {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The file of a client certificate or its key cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// There is no token.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The proxy on the way, and not the gateway, is at fault.
    #[error("cannot connect to {url} through the proxy {proxy}: {reason}")]
    Proxy {
        /// Where the connection goes to.
        url: EndpointUrl,
        /// The proxy, without whoever it is used as.
        proxy: Box<str>,
        /// What it did.
        reason: Box<str>,
    },
    /// A credential that no call can carry. Names it, and never shows it.
    #[error("the {0} is empty or holds characters other than printable ASCII")]
    Credential(&'static str),
    /// Nobody listens there.
    #[error("connection refused at {0}: is the gateway running? start it with `tidegate serve`")]
    Refused(EndpointUrl),
    /// Nobody answered.
    #[error("no answer from {url} within {} s", timeout.as_secs())]
    Timeout {
        /// Where the connection goes to.
        url: EndpointUrl,
        /// How long an answer was awaited.
        timeout: Duration,
    },
    /// The gateway's certificate does not prove that it is the one that was asked for.
    #[error("the certificate of {url} is not trusted: {reason}")]
    Untrusted {
        /// Where the connection goes to.
        url: EndpointUrl,
        /// What is wrong with it.
        reason: String,
    },
    /// Who answered does not speak TLS.
    #[error("{0} does not speak TLS; a plaintext listener is reached with http://")]
    NotTls(EndpointUrl),
    /// Anything else, such as a host that is not known.
    #[error("cannot connect to {url}: {reason}")]
    Failed {
        /// Where the connection goes to.
        url: EndpointUrl,
        /// The first cause.
        reason: String,
    },
}

impl ConnectError {
    /// Whether the same may be tried again with some hope.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::SignIn(error) => error.is_retryable(),
            Self::PlaintextRefused(_)
            | Self::CaFile { .. }
            | Self::File { .. }
            | Self::Credential(_)
            | Self::Untrusted { .. }
            | Self::NotTls(_) => false,
            Self::Refused(_) | Self::Timeout { .. } | Self::Proxy { .. } | Self::Failed { .. } => {
                true
            }
        }
    }

    /// Whether what was asked for is at fault, before anything was sent.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::PlaintextRefused(_)
            | Self::CaFile { .. }
            | Self::File { .. }
            | Self::Credential(_) => true,
            Self::SignIn(error) => !error.is_retryable() && !error.is_permission(),
            Self::Refused(_)
            | Self::Proxy { .. }
            | Self::Timeout { .. }
            | Self::Untrusted { .. }
            | Self::NotTls(_)
            | Self::Failed { .. } => false,
        }
    }

    /// Finds out why a connection failed from the chain of causes that the RPC library gives.
    pub(super) fn of_transport(
        url: &EndpointUrl,
        timeout: Duration,
        error: &(dyn Error + 'static),
    ) -> Self {
        let url = url.clone();
        for cause in causes(error) {
            if let Some(ProxyError { proxy, reason }) = cause.downcast_ref() {
                return Self::Proxy {
                    url,
                    proxy: proxy.as_str().into(),
                    reason: reason.as_str().into(),
                };
            }
            if let Some(tls) = tls_error(cause) {
                return match tls {
                    rustls::Error::InvalidCertificate(reason) => Self::Untrusted {
                        url,
                        reason: reason.to_string(),
                    },
                    rustls::Error::InvalidMessage(_) => Self::NotTls(url),
                    other => Self::Failed {
                        url,
                        reason: other.to_string(),
                    },
                };
            }
            match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => return Self::Refused(url),
                Some(io::ErrorKind::TimedOut) => return Self::Timeout { url, timeout },
                _ => {}
            }
        }
        Self::Failed {
            url,
            reason: first_cause(error),
        }
    }
}

/// A call that failed: the status, and what its trailers say.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    code: Code,
    message: String,
    error_code: Option<String>,
    rpc_id: Option<String>,
    is_connection_lost: bool,
    is_unsent: bool,
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let trailer = |name: &str| {
            let value = status.metadata().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        // A status that a server sent has no source; one that the RPC library made has.
        let lost = status.source().map(first_cause);
        Self {
            code: status.code(),
            error_code: trailer("error-code"),
            rpc_id: trailer("rpc-id"),
            is_connection_lost: lost.is_some(),
            is_unsent: causes(&status).any(|cause| cause.is::<tonic::ConnectError>()),
            message: match lost {
                Some(cause) => format!("the connection to the gateway was lost: {cause}"),
                None if status.message().is_empty() => {
                    format!("the gateway answered: {}", status.code())
                }
                None => status.message().to_owned(),
            },
        }
    }
}

impl CallError {
    /// A stream that ended without a status, or on which nothing was heard for too long.
    pub fn connection_lost(reason: &str) -> Self {
        Self {
            code: Code::Unavailable,
            message: format!("the connection to the gateway was lost: {reason}"),
            error_code: None,
            rpc_id: None,
            is_connection_lost: true,
            is_unsent: false,
        }
    }

    /// The gRPC status.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The error code as it was sent.
    pub fn error_code(&self) -> Option<&str> {
        self.error_code.as_deref()
    }

    /// Whether the error code is this one, given without the prefix that all share.
    pub fn has_error_code(&self, suffix: &str) -> bool {
        self.error_code()
            .and_then(|code| code.strip_prefix(ERROR_CODE_PREFIX))
            == Some(suffix)
    }

    /// The id under which the gateway logged the call.
    pub fn rpc_id(&self) -> Option<&str> {
        self.rpc_id.as_deref()
    }

    /// Whether it was the connection that failed, and not the gateway that refused.
    pub fn is_connection_lost(&self) -> bool {
        self.is_connection_lost
    }

    /// Whether there was no connection to make the call on, so that nothing of it was sent.
    pub fn is_unsent(&self) -> bool {
        self.is_unsent
    }

    /// Whether the gateway does not know who calls, or does not let them.
    pub fn is_permission(&self) -> bool {
        !self.is_connection_lost
            && matches!(self.code, Code::Unauthenticated | Code::PermissionDenied)
    }

    /// Whether the same call may be made again with some hope.
    pub fn is_retryable(&self) -> bool {
        if self.is_connection_lost {
            return true;
        }
        match self.code {
            // Internal errors are how the hosted service ends streams that it wants resumed, a
            // passed deadline is how streams without credit end, and a managed subscription that
            // is in use becomes free.
            Code::Unavailable
            | Code::Internal
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::AlreadyExists => true,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Unauthenticated => false,
        }
    }
}

/// An error and what it was caused by, outermost first.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The last of what an error was caused by.
pub(super) fn first_cause(error: &(dyn Error + 'static)) -> String {
    causes(error)
        .last()
        .map_or_else(String::new, ToString::to_string)
}

/// The TLS error that this is, or that is wrapped in this error of a socket.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref().or_else(|| {
        let wrapped = error.downcast_ref::<io::Error>()?.get_ref()?;
        wrapped.downcast_ref()
    })
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::*;

    fn refusal(code: Code, suffix: &str) -> CallError {
        let mut trailers = MetadataMap::new();
        let error_code = format!("{ERROR_CODE_PREFIX}{suffix}");
        trailers.insert("error-code", error_code.parse().unwrap());
        trailers.insert("rpc-id", "8a0c".parse().unwrap());
        Status::with_metadata(code, "no such topic", trailers).into()
    }

    #[test]
    fn a_refusal_carries_its_code_and_rpc_id() {
        let error = refusal(Code::NotFound, "topic.not.found");
        assert_eq!(error.to_string(), "no such topic");
        assert_eq!(error.rpc_id(), Some("8a0c"));
        assert!(error.has_error_code("topic.not.found"));
        assert!(!error.has_error_code("not.found"));
        assert!(!error.is_connection_lost());
    }

    #[test]
    fn refusals_that_a_second_try_cannot_help_are_final() {
        for (code, suffix) in [
            (Code::NotFound, "topic.not.found"),
            (Code::Unauthenticated, "service.auth.error"),
            (
                Code::PermissionDenied,
                "subscription.topic.cannot.subscribe",
            ),
            (
                Code::InvalidArgument,
                "subscription.fetch.replayid.corrupted",
            ),
        ] {
            assert!(!refusal(code, suffix).is_retryable(), "{suffix}");
        }
        for (code, suffix) in [
            (Code::Unavailable, "subscription.internal.error"),
            (Code::Internal, "service.unavailable"),
            (Code::DeadlineExceeded, "subscription.internal.error"),
            (Code::ResourceExhausted, "service.protection.triggered"),
        ] {
            assert!(refusal(code, suffix).is_retryable(), "{suffix}");
        }
    }

    #[test]
    fn a_status_without_words_still_says_something() {
        let error = CallError::from(Status::new(Code::Unimplemented, ""));
        assert!(error.to_string().starts_with("the gateway answered: "));
    }

    #[test]
    fn a_broken_connection_is_told_from_a_refusal() {
        let broken = io::Error::new(io::ErrorKind::ConnectionReset, "reset by peer");
        let error = CallError::from(Status::from_error(Box::new(broken)));
        assert!(error.is_connection_lost() && error.is_retryable());
        assert!(error.to_string().ends_with("reset by peer"), "{error}");
    }
}
