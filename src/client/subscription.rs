use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, metadata::MetadataMap};

use super::Connection;
use crate::{
    proto::{
        CREDIT_MAX_METADATA, FILTER_METADATA, FROM_METADATA, FetchRequest, raw::FetchResponse,
    },
    types::{Moment, limits::CREDIT_MAX},
};

/// What a stream asks for besides what the protocol has words for. A gateway that does not understand a
/// wish passes over it, and [`Granted`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Credit that it would like to be able to have, in events, if that is more than is usual.
    pub credit_max: u32,
    /// A filter that events have to match.
    pub filter: Option<String>,
    /// The time at which it would like to begin, unless the first request names a replay id.
    pub from: Option<Moment>,
}

/// Which wishes a gateway understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Credit that the stream may have, in events.
    pub credit_max: u32,
    /// Whether only events come that match the filter.
    pub filter: bool,
    /// Whether it begins at the time; if not, it has begun somewhere else.
    pub from: bool,
}

impl Granted {
    fn of(headers: &MetadataMap) -> Self {
        Self {
            credit_max: granted(headers),
            filter: headers.contains_key(FILTER_METADATA),
            from: headers.contains_key(FROM_METADATA),
        }
    }
}

/// A Subscribe stream that stands, and how much credit it may have.
///
/// The protocol allows 100 events of it, which costs a round trip for each 100. A stream that wants
/// more asks for it as call metadata; this gateway grants it and says so, any other leaves it at 100.
#[derive(Debug)]
pub struct Subscription {
    topic_name: String,
    requests: mpsc::Sender<FetchRequest>,
    responses: Streaming<FetchResponse>,
    granted: Granted,
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
        let wishes = Wishes {
            credit_max: credit,
            ..Wishes::default()
        };
        Self::open_with(connection, first, credit, &wishes).await
    }

    /// Opens a stream with wishes, and asks for `credit` events, or as many as may be.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the stream is cancelled.
    pub async fn open_with(
        connection: &Connection,
        first: FetchRequest,
        credit: u32,
        wishes: &Wishes,
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
        let metadata = call.metadata_mut();
        if wishes.credit_max > CREDIT_MAX {
            metadata.insert(CREDIT_MAX_METADATA, wishes.credit_max.into());
        }
        if let Some(filter) = &wishes.filter {
            let encoded = utf8_percent_encode(filter, ESCAPED).to_string();
            let encoded = encoded.parse().expect("what is encoded is ASCII");
            metadata.insert(FILTER_METADATA, encoded);
        }
        if let Some(from) = wishes.from {
            let from = from.to_string().parse();
            let from = from.expect("a time is written in printable ASCII");
            metadata.insert(FROM_METADATA, from);
        }
        let response = connection.pub_sub().subscribe(call).await?;
        let mut subscription = Self {
            topic_name,
            requests,
            granted: Granted::of(response.metadata()),
            credit: usual,
            responses: response.into_inner(),
        };
        if subscription.granted.credit_max > usual {
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
        let wanted = credit.min(self.granted.credit_max);
        if self.credit <= wanted / 2 {
            self.ask_up_to(wanted).await;
        }
    }

    async fn ask_up_to(&mut self, credit: u32) {
        let wanted = credit.min(self.granted.credit_max);
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

    /// Which of its wishes the gateway understood.
    pub fn granted(&self) -> Granted {
        self.granted
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

/// What call metadata cannot hold, and what marks an escape.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

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
