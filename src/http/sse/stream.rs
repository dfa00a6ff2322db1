//! The life of a stream: deliveries become blocks of text as the connection takes them.

use std::{collections::VecDeque, convert::Infallible};

use bytes::Bytes;
use futures_util::{Stream, stream};
use prost::DecodeError;

use super::text::{self, Reader};
use crate::{
    auth::Vigil,
    broker::{Delivery, Subscription, SubscriptionEnd},
    http::error::{ApiError, kinds},
    net::shutdown::ShutdownSignal,
    proto::raw::{FetchResponse, WireMessage},
    types::{
        Principal,
        limits::{SSE_CHUNK_BYTES, SSE_CREDIT},
    },
};

/// The blocks of one stream. Each is made when the connection has room for it.
pub(super) fn blocks(
    subscription: Subscription,
    topic: String,
    caller: Caller,
    shutdown: ShutdownSignal,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let opening = text::position(subscription.position());
    let events = EventStream {
        reader: Reader::new(topic),
        subscription,
        caller,
        shutdown,
        opening: Some(opening),
        taken: VecDeque::new(),
    };
    stream::unfold(Some(events), |events| async {
        let mut events = events?;
        match events.next().await {
            Step::Block(block) => Some((Ok(block.into()), Some(events))),
            Step::Last(block) => Some((Ok(block.into()), None)),
            Step::End => None,
        }
    })
}

/// Whose stream it is, as long as they may have it.
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) vigil: Vigil,
}

struct EventStream {
    subscription: Subscription,
    reader: Reader,
    caller: Caller,
    shutdown: ShutdownSignal,
    /// What the stream begins with, until it is sent.
    opening: Option<String>,
    /// What is left of a delivery: encoded `ConsumerEvent`s that share its bytes.
    taken: VecDeque<Bytes>,
}

enum Step {
    Block(String),
    /// Nothing follows.
    Last(String),
    End,
}

impl EventStream {
    async fn next(&mut self) -> Step {
        if let Some(opening) = self.opening.take() {
            return Step::Block(opening);
        }
        let delivery = tokio::select! {
            // The end first: a client that catches up would hold up the stop with all it has to
            // read.
            biased;
            () = self.shutdown.recv() => return Step::End,
            why = self.caller.vigil.revoked(&self.caller.principal) => return last(why.into()),
            delivery = next_delivery(&mut self.subscription), if self.taken.is_empty() => delivery,
            () = std::future::ready(()), if !self.taken.is_empty() => return self.block(),
        };
        match delivery {
            Ok(delivery) if delivery.events.is_empty() => {
                Step::Block(text::position(delivery.latest))
            }
            Ok(delivery) => {
                for slice in delivery.events {
                    // Each slice is what a response with nothing but events is.
                    match FetchResponse::read(slice) {
                        Ok(response) => self.taken.extend(response.events.values().shares()),
                        Err(error) => return last(malformed(error)),
                    }
                }
                self.block()
            }
            Err(end) => last(end.into()),
        }
    }

    /// Some events of the delivery: as many as make a block, at least one.
    fn block(&mut self) -> Step {
        let mut block = String::new();
        while block.len() < SSE_CHUNK_BYTES
            && let Some(event) = self.taken.pop_front()
        {
            let put = self.reader.put_event(&self.subscription, event, &mut block);
            if let Err(error) = put {
                // What comes before it is no worse for that.
                block.push_str(&last_block(malformed(error)));
                return Step::Last(block);
            }
        }
        Step::Block(block)
    }
}

fn last(error: ApiError) -> Step {
    Step::Last(last_block(error))
}

fn last_block(error: ApiError) -> String {
    error.log();
    text::error(&error)
}

/// What the log holds is laid out by the log, and checked when it is read: this is a bug or a disk
/// that lies well.
fn malformed(error: DecodeError) -> ApiError {
    kinds::SUBSCRIPTION_FAILED
        .error("an event in the log cannot be read")
        .because(error)
}

/// Grants what the client has taken again, and waits for the next delivery.
///
/// # Cancel safety
///
/// Cancel safe, as credit beyond its limit is dropped.
async fn next_delivery(subscription: &mut Subscription) -> Result<Delivery, SubscriptionEnd> {
    subscription
        .grant(SSE_CREDIT.cast_signed())
        .expect("it is a positive number");
    subscription.next().await
}
