use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, metadata::MetadataMap};

use super::Connection;
use crate::{
    proto::{CREDIT_MAX_METADATA, FetchRequest, raw::FetchResponse},
    types::limits::CREDIT_MAX,
};

/// A Subscribe stream that stands, and how much credit it may have.
///
/// The protocol allows 100 events of it, which costs a round trip for each 100. A stream that wants
/// more asks for it as call metadata; this gateway grants it and says so, any other leaves it at 100.
#[derive(Debug)]
pub struct Subscription {
    topic_name: String,
    requests: mpsc::Sender<FetchRequest>,
    responses: Streaming<FetchResponse>,
    credit_max: u32,
    /// Events that were asked for and have not come.
    credit: u32,
}

impl Subscription {
    /// Opens a stream with the request `first`, whose `num_requested` does not matter: `credit`
    /// events are asked for, or as many as may be.
    ///
    /// # Errors
    ///
    /// The status that the gateway refused the call with.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the stream is cancelled.
    pub async fn open(
        connection: &Connection,
        first: FetchRequest,
        credit: u32,
    ) -> Result<Self, Status> {
        Self::open_up_to(connection, first, credit, credit).await
    }

    /// Opens a stream that is to have up to `credit_max` events of credit, and asks for `credit` of
    /// them, or as many as may be.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the stream is cancelled.
    pub async fn open_up_to(
        connection: &Connection,
        first: FetchRequest,
        credit: u32,
        credit_max: u32,
    ) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let topic_name = first.topic_name.clone();
        let usual = credit.min(CREDIT_MAX);
        let first = FetchRequest {
            num_requested: to_wire(usual),
            ..first
        };
        // A gateway may answer the call only once it has the first request.
        requests
            .try_send(first)
            .expect("the channel is new and has room");
        let mut call = Request::new(ReceiverStream::new(receiver));
        if credit_max > CREDIT_MAX {
            let metadata = call.metadata_mut();
            metadata.insert(CREDIT_MAX_METADATA, credit_max.into());
        }
        let response = connection.pub_sub().subscribe(call).await?;
        let mut subscription = Self {
            topic_name,
            requests,
            credit_max: granted(response.metadata()),
            credit: usual,
            responses: response.into_inner(),
        };
        if subscription.credit_max > usual {
            subscription.ask_up_to(credit).await;
        }
        Ok(subscription)
    }

    /// Sees to it that about `credit` events are asked for, or as many as may be: asks for what is
    /// missing once that is half of it. A stream that has ended says why in [`Self::next`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing was asked for then.
    pub async fn refill(&mut self, credit: u32) {
        let wanted = credit.min(self.credit_max);
        if self.credit <= wanted / 2 {
            self.ask_up_to(wanted).await;
        }
    }

    async fn ask_up_to(&mut self, credit: u32) {
        let wanted = credit.min(self.credit_max);
        self.ask(wanted.saturating_sub(self.credit)).await;
    }

    /// Asks for this many more events. A stream that has ended says why in [`Self::next`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing was asked for then.
    pub async fn ask(&mut self, events: u32) {
        if events == 0 {
            return;
        }
        let request = FetchRequest {
            topic_name: self.topic_name.clone(),
            num_requested: to_wire(events),
            ..FetchRequest::default()
        };
        _ = self.requests.send(request).await;
        self.credit += events;
    }

    /// How much credit the stream may have, in events.
    pub fn credit_max(&self) -> u32 {
        self.credit_max
    }

    /// Events that were asked for and have not come.
    pub fn credit(&self) -> u32 {
        self.credit
    }

    /// The next response; `None` if the gateway ended the stream without an error.
    ///
    /// # Errors
    ///
    /// The status that the stream ended with.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<FetchResponse>, Status> {
        let response = self.responses.message().await?;
        if let Some(response) = &response {
            let events = response.events.values().len() as u32;
            self.credit = match response.pending_num_requested {
                // A gateway may have granted less than was asked for, without a word.
                ..=0 => 0,
                _ => self.credit.saturating_sub(events),
            };
        }
        Ok(response)
    }
}

/// The credit that response headers grant: the usual one if they do not say.
pub(super) fn granted(headers: &MetadataMap) -> u32 {
    let value = headers.get(CREDIT_MAX_METADATA);
    let value = value.and_then(|value| value.to_str().ok()?.parse().ok());
    value.filter(|&events| events > 0).unwrap_or(CREDIT_MAX)
}

pub(super) fn to_wire(events: u32) -> i32 {
    i32::try_from(events).unwrap_or(i32::MAX)
}

/// Requests that wait to be sent: there is one for each response at most.
pub(super) const REQUESTS_QUEUED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_do_not_grant_is_the_usual_credit() {
        let headers = |value: &str| {
            let mut headers = MetadataMap::new();
            headers.insert(CREDIT_MAX_METADATA, value.parse().unwrap());
            headers
        };
        assert_eq!(granted(&MetadataMap::new()), CREDIT_MAX);
        assert_eq!(granted(&headers("5000")), 5_000);
        assert_eq!(granted(&headers("7")), 7);
        for odd in ["0", "-3", "many", ""] {
            assert_eq!(granted(&headers(odd)), CREDIT_MAX, "{odd}");
        }
    }
}
