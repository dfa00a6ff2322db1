//! The reader's end of a subscription.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, future::BoxFuture};
use tokio::task::JoinSet;

use super::{
    Item, Status, SubscribeError,
    lane::{Lane, Queue, Queued},
};

/// What is received, of all topics of a subscriber: of each in its order. Dropped, it ends without
/// saving what is handled since the last save; [`Self::close`] saves.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
    /// Taken from the queue, and not yet read.
    taken: VecDeque<Queued>,
    lanes: Vec<Arc<Lane>>,
    tasks: JoinSet<Result<(), SubscribeError>>,
    /// An error was read: there is nothing behind it.
    is_over: bool,
}

impl Events {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            taken: VecDeque::new(),
            lanes: Vec::new(),
            tasks: JoinSet::new(),
            is_over: false,
        }
    }

    pub(super) fn add(
        &mut self,
        lane: Arc<Lane>,
        task: impl Future<Output = Result<(), SubscribeError>> + Send + 'static,
    ) {
        self.lanes.push(lane);
        self.tasks.spawn(task);
    }

    /// The next item, as soon as there is one; `None` behind an error.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`]: why one of the topics came to an end, and with it all of this.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Item>, SubscribeError> {
        if self.is_over {
            return Ok(None);
        }
        if self.taken.is_empty() {
            self.taken = self.queue.take().await;
        }
        if let Some(Queued::Event(event)) = self.taken.front()
            && let Some(lane) = event.receipt.lane()
            && !lane.is_saved_enough()
        {
            let lane = Arc::clone(lane);
            lane.until_saved().await;
        }
        let other = match self.taken.pop_front() {
            Some(Queued::Event(event)) => return Ok(Some(Item::Event(event))),
            Some(Queued::Other(other)) => *other,
            None => return Ok(None),
        };
        if other.is_err() {
            self.is_over = true;
            self.lanes.iter().for_each(|lane| lane.close());
        }
        other.map(Some)
    }

    /// How each topic is.
    pub fn statuses(&self) -> Vec<Status> {
        self.lanes.iter().map(|lane| Status::of(lane)).collect()
    }

    /// What tells how each topic is, apart from the events: for a health check or metrics.
    pub fn monitor(&self) -> Monitor {
        Monitor(self.lanes.clone())
    }

    /// Ends: nothing more is received, and the position behind what is handled by now is saved. What is
    /// still in flight comes again with the next run.
    ///
    /// # Errors
    ///
    /// [`SubscribeError`] if a position could not be saved, so that handled events come again.
    pub async fn close(mut self) -> Result<(), SubscribeError> {
        self.lanes.iter().for_each(|lane| lane.close());
        // What was received and not read is nobody's any more.
        self.taken.clear();
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
            if !self.is_over {
                result = result.and(ended);
            }
        }
        result
    }

    /// The first topic's share of memory, to see it go.
    #[cfg(test)]
    pub(super) fn weak_lane(&self) -> std::sync::Weak<Lane> {
        Arc::downgrade(&self.lanes[0])
    }

    /// The items as a stream, whose last may be an error.
    pub fn into_stream(self) -> ItemStream {
        ItemStream(next_of(self))
    }
}

/// Tells how each topic of a subscriber is. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Monitor(pub(super) Vec<Arc<Lane>>);

impl Monitor {
    /// How each topic is.
    pub fn statuses(&self) -> Vec<Status> {
        self.0.iter().map(|lane| Status::of(lane)).collect()
    }
}

/// [`Events`] as a stream.
pub struct ItemStream(BoxFuture<'static, (Events, Result<Option<Item>, SubscribeError>)>);

fn next_of(
    mut events: Events,
) -> BoxFuture<'static, (Events, Result<Option<Item>, SubscribeError>)> {
    Box::pin(async move {
        let next = events.next().await;
        (events, next)
    })
}

impl Stream for ItemStream {
    type Item = Result<Item, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready((events, next)) = self.0.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.0 = next_of(events);
        Poll::Ready(next.transpose())
    }
}

impl std::fmt::Debug for ItemStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ItemStream").finish_non_exhaustive()
    }
}
