use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::{
    Connection,
    subscription::{REQUESTS_QUEUED_MAX, granted, to_wire},
};
use crate::{
    proto::{
        CREDIT_MAX_METADATA, CommitReplayRequest, ManagedFetchRequest, SHARING_METADATA,
        raw::ManagedFetchResponse,
    },
    types::limits::CREDIT_MAX,
};

/// A ManagedSubscribe stream that stands: how much credit it may have, and what is committed on it.
#[derive(Debug)]
pub struct ManagedSubscription {
    /// `None` once it is half-closed.
    requests: Option<mpsc::Sender<ManagedFetchRequest>>,
    responses: Streaming<ManagedFetchResponse>,
    credit_max: u32,
    /// Events that were asked for and have not come.
    credit: u32,
    is_shared: bool,
    /// Commits that were sent, and the number of the last of them that is answered.
    commits: u64,
    answered: u64,
    /// The number of the last of them that was refused; 0 for none.
    refused: u64,
}

impl ManagedSubscription {
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
        first: ManagedFetchRequest,
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
        first: ManagedFetchRequest,
        credit: u32,
        credit_max: u32,
    ) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let usual = credit.min(CREDIT_MAX);
        let first = ManagedFetchRequest {
            num_requested: to_wire(usual),
            ..first
        };
        // A gateway may answer the call only once it has the first request.
        requests
            .try_send(first)
            .expect("the channel is new and has room");
        let mut call = Request::new(ReceiverStream::new(receiver));
        let metadata = call.metadata_mut();
        if credit_max > CREDIT_MAX {
            metadata.insert(CREDIT_MAX_METADATA, credit_max.into());
        }
        let asked = "1".parse().expect("a digit is ASCII");
        metadata.insert(SHARING_METADATA, asked);
        let response = connection.pub_sub().managed_subscribe(call).await?;
        let mut subscription = Self {
            requests: Some(requests),
            credit_max: granted(response.metadata()),
            credit: usual,
            // Whatever it says: who takes a stream for shared that is none does nothing wrong.
            is_shared: response.metadata().contains_key(SHARING_METADATA),
            responses: response.into_inner(),
            commits: 0,
            answered: 0,
            refused: 0,
        };
        let missing = subscription.missing(credit);
        subscription.ask(missing).await;
        Ok(subscription)
    }

    /// Asks for this many more events. A stream that has ended says why in [`Self::next`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing was asked for then.
    pub async fn ask(&mut self, events: u32) {
        if events > 0 {
            self.send(events, None).await;
        }
    }

    /// How much credit the stream may have, in events.
    pub fn credit_max(&self) -> u32 {
        self.credit_max
    }

    /// Events that were asked for and have not come.
    pub fn credit(&self) -> u32 {
        self.credit
    }

    /// Whether the subscription's events are shared among streams: replay ids do not always rise on one
    /// then, a commit covers what was sent on this stream up to its replay id, and what was not
    /// committed comes again in any order, on whichever stream.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// How many commits were sent. The last has this number, the first has 1.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Commits `replay_id`, and asks for more events once half of `credit` is spent. A stream that has
    /// ended says why in [`Self::next`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop it may or may not have been sent.
    pub async fn commit(&mut self, replay_id: Bytes, credit: u32) {
        let wanted = credit.min(self.credit_max);
        let more = match self.credit <= wanted / 2 {
            true => self.missing(credit),
            false => 0,
        };
        self.commits += 1;
        let commit = CommitReplayRequest {
            commit_request_id: self.commits.to_string(),
            replay_id,
        };
        self.send(more, Some(commit)).await;
    }

    /// Asks for no more events and commits nothing more: the gateway answers what was committed and
    /// ends the stream.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// The number of the last commit that is answered; 0 for none.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Whether the last commit was refused. A refusal may come before the answer to an earlier commit.
    pub fn is_last_refused(&self) -> bool {
        self.commits > 0 && self.refused == self.commits
    }

    /// Whether every commit is answered.
    pub fn is_committed(&self) -> bool {
        self.answered == self.commits
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
    pub async fn next(&mut self) -> Result<Option<ManagedFetchResponse>, Status> {
        let response = self.responses.message().await?;
        if let Some(response) = &response {
            let events = response.fetch.events.values().len() as u32;
            self.credit = match response.fetch.pending_num_requested {
                // A gateway may have granted less than was asked for, without a word.
                ..=0 => 0,
                _ => self.credit.saturating_sub(events),
            };
            if let Some(answer) = &response.commit_response {
                let number = answer.commit_request_id.parse().unwrap_or(0);
                // An answer is one for the commits before it too.
                self.answered = self.answered.max(number).min(self.commits);
                if answer.error.is_some() {
                    self.refused = self.refused.max(number);
                }
            }
        }
        Ok(response)
    }

    fn missing(&self, credit: u32) -> u32 {
        let wanted = credit.min(self.credit_max);
        wanted.saturating_sub(self.credit)
    }

    async fn send(&mut self, more: u32, commit: Option<CommitReplayRequest>) {
        let Some(requests) = &self.requests else {
            return;
        };
        let request = ManagedFetchRequest {
            num_requested: to_wire(more),
            commit_replay_id_request: commit,
            ..ManagedFetchRequest::default()
        };
        _ = requests.send(request).await;
        self.credit += more;
    }
}
