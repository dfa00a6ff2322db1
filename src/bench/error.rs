use std::{io, time::Duration};

use super::load::LoadError;
use crate::{
    client::{CallError, ConnectError},
    subscriber::SubscribeError,
};

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The gateway cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call was refused, or the connection was lost.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The subscriber library gave up.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The load cannot be made.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The gateway does not have this topic.
    #[error(
        "the gateway has no topic {0}; register its schema, which `tidegate bench schema` prints, with \
         --number for further topics"
    )]
    NoTopic(String),
    /// The gateway has another schema for this topic.
    #[error(
        "the gateway has another schema for {0} than the one of the load, which `tidegate bench \
         schema` prints"
    )]
    OtherSchema(String),
    /// An event was answered with an error.
    #[error("an event was refused: {0}")]
    Refused(String),
    /// There were more or fewer answers, or events, than there should be.
    #[error("{found} events were {what}, and {wanted} were sent")]
    Miscounted {
        /// What came of them.
        what: &'static str,
        /// How many there were.
        found: u64,
        /// How many there should be.
        wanted: u64,
    },
    /// An event arrived that had arrived before, or one of before.
    #[error("an event arrived twice, or too late")]
    Repeated,
    /// An event arrived that the load does not consist of.
    #[error("an event arrived that is none of the load")]
    Foreign,
    /// The gateway ended a stream that was not over.
    #[error("the gateway ended the stream before all events were through")]
    StreamEnded,
    /// The gateway has not answered for so long.
    #[error("the gateway said nothing for {} s", .0.as_secs())]
    Quiet(Duration),
    /// A gateway of the bench's own did not start, or ended.
    #[error("the gateway that was to be measured {what}{}", output_of(.output))]
    Child {
        /// What happened to it.
        what: &'static str,
        /// The end of what it wrote.
        output: String,
    },
    /// A file or process of this machine.
    #[error("{action}: {source}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// Why it was not.
        source: io::Error,
    },
}

impl BenchError {
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

fn output_of(output: &str) -> String {
    match output.trim() {
        "" => String::new(),
        output => format!(": {output}"),
    }
}
