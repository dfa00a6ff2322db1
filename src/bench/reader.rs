//! Subscribers of the load, which count what they get.

use bytes::Bytes;

use super::{error::BenchError, in_time, load::topic, target::Target};
use crate::{
    client::{CallError, Connection, Subscription},
    proto::{FetchRequest, ReplayPreset, raw::FetchResponse},
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
    /// Credit that is asked for again.
    spent: u32,
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
        let connection = target.connect(client).await?;
        let first = FetchRequest {
            topic_name: topic(number),
            replay_preset: ReplayPreset::Custom.into(),
            replay_id: after,
            ..FetchRequest::default()
        };
        let opening = Subscription::open(&connection, first, client.credit());
        let subscription = opening.await.map_err(CallError::from)?;
        Ok(Self {
            credit: client.credit().min(subscription.credit_max()),
            _connection: connection,
            subscription,
            spent: 0,
        })
    }

    /// The next response, and credit for what it brings once half of it is spent.
    ///
    /// # Errors
    ///
    /// If the gateway ends the stream, or says nothing for long.
    pub(super) async fn next(&mut self) -> Result<FetchResponse, BenchError> {
        let response = in_time(self.subscription.next()).await?;
        let response = response.ok_or(BenchError::StreamEnded)?;
        self.spent += response.events.values().len() as u32;
        if self.spent >= self.credit.div_ceil(2) {
            self.subscription.ask(self.spent).await;
            self.spent = 0;
        }
        Ok(response)
    }

    /// Reads exactly `wanted` events.
    ///
    /// # Errors
    ///
    /// If there are more, or there is nothing left to read before; besides those of [`Self::next`].
    pub(super) async fn read(&mut self, wanted: u64) -> Result<(), BenchError> {
        let mut found = 0;
        while found < wanted {
            let count = self.next().await?.events.values().len() as u64;
            found += count;
            // Nothing but a sign of life: all that there was has arrived.
            if count == 0 {
                break;
            }
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
