//! Subscribers of the load, which count what they get.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use prost::Message;

use super::{ANSWER_TIMEOUT, error::BenchError, in_time, load::topic, target::Target};
use crate::{
    client::{Connection, Subscription, Wishes},
    proto::{ConsumerEvent, FetchRequest, ReplayPreset, raw::FetchResponse},
    types::limits::{CREDIT_MAX, HTTP2_FRAME_BYTES_MAX},
};

/// The settings that a client has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientKind {
    /// Those of this project's own: large frames, and as much credit as the gateway grants.
    #[default]
    Own,
    /// Those of a client made with any gRPC library: frames of 16 KiB, and the protocol's credit.
    Stock,
}

impl ClientKind {
    pub(super) fn frame_bytes_max(self) -> u32 {
        match self {
            Self::Own => HTTP2_FRAME_BYTES_MAX,
            Self::Stock => STOCK_FRAME_BYTES_MAX,
        }
    }

    fn credit(self) -> u32 {
        match self {
            Self::Own => OWN_CREDIT,
            Self::Stock => CREDIT_MAX,
        }
    }
}

/// One subscriber on a connection of its own.
#[derive(Debug)]
pub(super) struct Reader {
    /// Closed with the reader.
    _connection: Connection,
    subscription: Subscription,
    credit: u32,
    /// The last position that was delivered.
    latest: Bytes,
    /// When events last came.
    heard_at: Instant,
    /// Events that came and were not taken, of one response.
    held: VecDeque<Bytes>,
}

impl Reader {
    /// Begins to read the load's topic with this number behind the event with this replay id: so
    /// none is missed, whenever the gateway gets to see the subscription.
    pub(super) async fn begin(
        target: &Target,
        number: usize,
        after: Bytes,
        client: ClientKind,
    ) -> Result<Self, BenchError> {
        let wishes = Wishes {
            credit_max: client.credit(),
            ..Wishes::default()
        };
        Self::begin_with(target, number, after, client, &wishes).await
    }

    /// The same, through a filter.
    pub(super) async fn begin_filtered(
        target: &Target,
        number: usize,
        after: Bytes,
        client: ClientKind,
        filter: &str,
    ) -> Result<Self, BenchError> {
        let wishes = Wishes {
            filter: Some(filter.into()),
            credit_max: client.credit(),
            ..Wishes::default()
        };
        Self::begin_with(target, number, after, client, &wishes).await
    }

    async fn begin_with(
        target: &Target,
        number: usize,
        after: Bytes,
        client: ClientKind,
        wishes: &Wishes,
    ) -> Result<Self, BenchError> {
        let connection = target.connect(client).await?;
        let first = FetchRequest {
            topic_name: topic(number),
            replay_preset: ReplayPreset::Custom.into(),
            replay_id: after.clone(),
            ..FetchRequest::default()
        };
        let opening = Subscription::open_with(&connection, first, client.credit(), wishes);
        Ok(Self {
            subscription: in_time(opening).await?,
            _connection: connection,
            credit: client.credit(),
            latest: after,
            heard_at: Instant::now(),
            held: VecDeque::new(),
        })
    }

    /// The next response with events, and credit for more once half of it is spent.
    ///
    /// # Errors
    ///
    /// If the gateway ends the stream, brings no events for long, or some for the second time.
    pub(super) async fn next(&mut self) -> Result<FetchResponse, BenchError> {
        loop {
            let response = in_time(self.subscription.next()).await?;
            let response = response.ok_or(BenchError::StreamEnded)?;
            let Some(first) = response.events.values().iter().next() else {
                // A sign of life is no event.
                if self.heard_at.elapsed() > ANSWER_TIMEOUT {
                    return Err(BenchError::Quiet(ANSWER_TIMEOUT));
                }
                continue;
            };
            // Positions rise within a response, and from one to the next; to look at each of them
            // would take a good part of what is measured.
            let first = ConsumerEvent::decode(first).map_err(|_| BenchError::Foreign)?;
            if first.replay_id <= self.latest {
                return Err(BenchError::Repeated);
            }
            self.latest = response.latest_replay_id.clone();
            self.heard_at = Instant::now();
            let refilled = async {
                self.subscription.refill(self.credit).await;
                Ok(())
            };
            in_time(refilled).await?;
            return Ok(response);
        }
    }

    /// The next event.
    ///
    /// # Errors
    ///
    /// Those of [`Self::next`].
    pub(super) async fn next_event(&mut self) -> Result<Bytes, BenchError> {
        loop {
            if let Some(event) = self.held.pop_front() {
                return Ok(event);
            }
            self.held = self.next().await?.events.values().shares().collect();
        }
    }

    /// Reads exactly `wanted` events.
    ///
    /// # Errors
    ///
    /// If there are more, besides those of [`Self::next`].
    pub(super) async fn read(&mut self, wanted: u64) -> Result<(), BenchError> {
        let mut found = 0;
        while found < wanted {
            found += self.next().await?.events.values().len() as u64;
        }
        match found == wanted {
            true => Ok(()),
            false => Err(BenchError::Miscounted {
                what: "delivered",
                found,
                wanted,
            }),
        }
    }
}

/// What HTTP/2 begins with, and most libraries stay at.
const STOCK_FRAME_BYTES_MAX: u32 = 16 * 1024;
/// So much that a stream never waits for a round trip: a tenth of a second's events.
const OWN_CREDIT: u32 = 100_000;
