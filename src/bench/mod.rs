//! The load generator behind `tidegate bench`.
//!
//! A **measurement** drives one gateway through the public API, as any client would, and gives the
//! values of one run. A run counts only if every event of it was answered, or arrived: one that lost
//! an event, was refused or went quiet is an error and no value.
//!
//! ```text
//! Target (an endpoint, or a Child with a directory of its own) ─► publish, catchup, fanout, latency,
//!                                                                 unary, commits, filter, idle, overload
//! a Child alone                                                ─► start, history
//! the machine, or this process                                 ─► calibrate, validate
//! ```
//!
//! Load and gateway usually share the machine, so what the client side spends is missing to the
//! gateway; figures of one machine compare with each other, not with those of another.

pub mod calibrate;
mod catchup;
mod child;
mod commits;
mod error;
mod fanout;
mod figure;
mod filter;
mod idle;
mod latency;
mod load;
mod overload;
mod publish;
mod reader;
mod slow_link;
mod start;
mod target;
mod unary;
mod validate;

pub use catchup::{Backlog, CatchupReader, catchup};
pub use child::{Child, ChildOptions, Place};
pub use commits::{COMMITTERS_MAX, CommitsLoad, commits};
pub use error::BenchError;
pub use fanout::{Fanout, FanoutLoad, fanout};
pub use figure::{Aim, Figure};
pub use filter::{Filtered, FilteredLoad, ONE_IN, evaluate, filtered, filtered_catchup};
pub use idle::{Idle, IdleLoad, idle};
pub use latency::{LatencyLoad, latency};
pub use load::{LoadError, PAYLOAD_BYTES_DEFAULT, PublishLoad, schema, topic};
pub use overload::{Overload, OverloadLoad, overload};
pub use publish::publish;
pub use reader::ClientKind;
pub use start::{History, make_history, start};
pub use target::Target;
pub use unary::{UnaryLoad, unary};
pub use validate::validate;

use std::{future::Future, time::Duration};

use crate::client::CallError;

/// An answer of the gateway, if it comes in time.
async fn in_time<T>(
    answer: impl Future<Output = Result<T, tonic::Status>>,
) -> Result<T, BenchError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer.map_err(CallError::from)?),
        Err(_) => Err(BenchError::Quiet(ANSWER_TIMEOUT)),
    }
}

/// The next answer of a stream that has not ended, if it comes in time.
async fn next<T>(answers: &mut tonic::Streaming<T>) -> Result<T, BenchError> {
    let answer = in_time(answers.message()).await?;
    answer.ok_or(BenchError::StreamEnded)
}

/// How long a gateway may say nothing while it has something to say. Its slowest answer, a sync of
/// a disk that others use too, takes seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_says_nothing_is_waited_for_so_long_and_no_longer() {
        let answer = in_time(std::future::pending::<Result<(), tonic::Status>>());
        let error = answer.await.unwrap_err();
        assert_eq!(error.to_string(), "the gateway said nothing for 30 s");
        assert!(in_time(async { Ok(1) }).await.is_ok());
    }
}
