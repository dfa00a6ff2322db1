//! How a command ends: its exit code, and the one line that says why.

use std::{fmt, io, process::ExitCode};

use crate::client::{ClientError, ConnectError};

/// The exit codes that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Ok = 0,
    /// Something was refused or failed.
    Failed = 1,
    /// The command was not understood, or what it needs was not given. Also what the parser of
    /// arguments ends with.
    Usage = 2,
    /// The gateway cannot be reached, or the connection was lost.
    Unreachable = 3,
    /// The gateway does not know who calls, or does not let them.
    NotPermitted = 4,
}

/// What `--help` says about exit codes.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  everything was done
  1  something was refused or failed
  2  the command was not understood, or something it needs was not given
  3  the gateway cannot be reached, or the connection was lost
  4  the gateway does not know who calls, or does not let them";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended before it was done, or without having done everything.
#[derive(Debug)]
pub enum Failure {
    /// The command was not understood, or lacks something.
    Usage(String),
    /// A call or a connection failed.
    Client(ClientError),
    /// Whoever read the results went away: not an error, there is nobody left to tell.
    OutputClosed,
    /// What the exit code stands for, in a sentence of its own.
    Other(Exit, String),
}

impl Failure {
    /// Something was refused or failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Other(Exit::Failed, message.into())
    }

    /// The exit code this ends in.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::OutputClosed => Exit::Ok,
            Self::Other(exit, _) => *exit,
            Self::Client(ClientError::Connect(ConnectError::SignIn(error)))
                if error.is_permission() =>
            {
                Exit::NotPermitted
            }
            Self::Client(ClientError::Connect(error)) => {
                if error.is_usage() {
                    Exit::Usage
                } else {
                    Exit::Unreachable
                }
            }
            Self::Client(ClientError::Call(error)) => {
                if error.is_connection_lost() {
                    Exit::Unreachable
                } else if error.is_permission() {
                    Exit::NotPermitted
                } else {
                    Exit::Failed
                }
            }
        }
    }

    /// Whether the gateway refused, and so did nothing.
    pub fn is_refusal(&self) -> bool {
        use tonic::Code;
        let Self::Client(ClientError::Call(error)) = self else {
            return false;
        };
        matches!(
            error.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::ResourceExhausted
        )
    }

    /// What can be done about it, where the message does not say so.
    fn advice(&self) -> Option<&'static str> {
        use crate::client::ConnectError::{NotTls, PlaintextRefused, Untrusted};
        let error = match self {
            Self::Client(ClientError::Connect(error)) => {
                return match error {
                    PlaintextRefused(_) => Some("use https://, or force it with --allow-plaintext"),
                    Untrusted { .. } => {
                        Some("name the file of the authority that issued it with --ca")
                    }
                    NotTls(_) => Some("check --endpoint"),
                    _ => None,
                };
            }
            Self::Client(ClientError::Call(error)) => error,
            Self::Usage(_) | Self::OutputClosed | Self::Other(..) => return None,
        };
        if error.is_connection_lost() {
            None
        } else if error.code() == tonic::Code::Unauthenticated {
            Some("check --token and --tenant, or make a token with `tidegate token create`")
        } else if error.has_error_code("topic.not.found") {
            Some("`tidegate topic list` shows the topics there are")
        } else if error.has_error_code("subscription.fetch.replayid.corrupted") {
            Some("start with that replay id, or with --from earliest or --from latest")
        } else if error.has_error_code("managed.subscription.developer.name.not.found")
            || error.has_error_code("managed.subscription.subscription.id.not.found")
        {
            Some("`tidegate managed list` shows those that there are")
        } else {
            None
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Other(_, message) => f.write_str(message)?,
            Self::Client(error) => error.fmt(f)?,
            Self::OutputClosed => f.write_str("the reader of the results went away")?,
        }
        self.advice()
            .map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl std::error::Error for Failure {}

impl<E: Into<ClientError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Client(error.into())
    }
}

/// A result line that could not be written.
pub(super) fn output_failed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::failed(format!("the results cannot be written: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status, metadata::MetadataMap};

    use super::*;
    use crate::client::ConnectError;

    fn refusal(code: Code, suffix: &str) -> Failure {
        let mut trailers = MetadataMap::new();
        let error_code = format!("sfdc.platform.eventbus.grpc.{suffix}");
        trailers.insert("error-code", error_code.parse().unwrap());
        Status::with_metadata(code, "refused", trailers).into()
    }

    #[test]
    fn each_end_has_its_exit_code() {
        let url = || "https://127.0.0.1:7443".parse().unwrap();
        let exit = |failure: Failure| failure.exit() as u8;
        assert_eq!(exit(Failure::OutputClosed), 0);
        assert_eq!(exit(Failure::failed("no")), 1);
        assert_eq!(exit(refusal(Code::NotFound, "topic.not.found")), 1);
        assert_eq!(exit(Failure::Usage("no".into())), 2);
        assert_eq!(exit(ConnectError::PlaintextRefused(url()).into()), 2);
        assert_eq!(exit(ConnectError::Refused(url()).into()), 3);
        let lost = Status::from_error(Box::new(io::Error::other("gone")));
        assert_eq!(exit(lost.into()), 3);
        assert_eq!(
            exit(refusal(Code::PermissionDenied, "topic.meta.permission")),
            4
        );
        assert_eq!(
            exit(refusal(Code::Unauthenticated, "service.auth.error")),
            4
        );
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::NotPermitted,
        ] {
            assert!(EXIT_CODES_HELP.contains(&format!("\n  {}  ", exit as u8)));
        }
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let text = refusal(Code::NotFound, "topic.not.found").to_string();
        assert_eq!(
            text,
            "refused; `tidegate topic list` shows the topics there are"
        );
        let text = refusal(
            Code::InvalidArgument,
            "subscription.fetch.replayid.corrupted",
        );
        assert!(text.to_string().contains("--from earliest"));
        let url = "http://example.com:7011".parse().unwrap();
        let text = Failure::from(ConnectError::PlaintextRefused(url)).to_string();
        assert!(text.contains("--allow-plaintext"), "{text}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let closed = output_failed(io::ErrorKind::BrokenPipe.into());
        assert!(matches!(closed, Failure::OutputClosed));
        let full = output_failed(io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit(), Exit::Failed);
    }
}
