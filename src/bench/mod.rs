//! The load generator behind `tidegate bench`.
//!
//! A **measurement** drives one gateway through the public API, as any client would, and gives
//! [`Figure`]s, each with one value for every run. A run counts only if every event of it was
//! answered, or arrived: one that lost an event, was refused or went quiet is an error and no figure.
//!
//! ```text
//! Target (an endpoint, or a Child with a directory of its own) ─► publish, catchup, latency
//! the machine itself                                           ─► calibrate
//! ```
//!
//! Load and gateway usually share the machine, so what the client side spends is missing to the
//! gateway; figures of one machine compare with each other, not with those of another.

pub mod calibrate;
mod catchup;
mod child;
mod error;
mod figure;
mod latency;
mod load;
mod publish;
mod target;

pub use catchup::catchup;
pub use child::{Child, ChildOptions};
pub use error::BenchError;
pub use figure::{Aim, Figure};
pub use latency::{LatencyLoad, latency};
pub use load::{LoadError, PAYLOAD_BYTES_DEFAULT, PublishLoad, SCHEMA, TOPIC};
pub use publish::publish;
pub use target::Target;

use std::time::Duration;

use tokio_stream::{Stream, StreamExt};

use crate::client::CallError;

/// The next answer of a stream that has not ended, if it comes in time.
async fn next<T>(
    answers: &mut (impl Stream<Item = Result<T, tonic::Status>> + Unpin),
) -> Result<T, BenchError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answers.next()).await {
        Ok(Some(answer)) => Ok(answer.map_err(CallError::from)?),
        Ok(None) => Err(BenchError::StreamEnded),
        Err(_) => Err(BenchError::Quiet(ANSWER_TIMEOUT)),
    }
}

/// How long a gateway may say nothing while it has something to say. Its slowest answer, a sync of
/// a disk that others use too, takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
