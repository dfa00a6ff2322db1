//! The ids of one request, from when they are taken until it is known what became of its events.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

use super::{
    tenant::{Pending, Windows},
    ticket::{Place, Progress, result_at},
    window::EventId,
};
use crate::{
    broker::Tenant,
    event_log::{AppendError, AppendOutcome, Appending},
    types::TopicId,
};

/// The ids that a request has taken. Dropped, it gives them back, unless the log has the events.
#[derive(Debug)]
pub(in crate::broker) struct Claimed {
    windows: Arc<Windows>,
    progress: Progress,
    claims: Vec<(TopicId, EventId, Place)>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unqueued,
    Queued,
    /// There is nothing to give back.
    Over,
}

impl Claimed {
    /// `claims` are in their places in `windows`, which counts them as not queued if there are any.
    pub(super) fn new(
        windows: &Arc<Windows>,
        progress: Progress,
        claims: Vec<(TopicId, EventId, Place)>,
    ) -> Self {
        let stage = match claims.is_empty() {
            true => Stage::Over,
            false => Stage::Unqueued,
        };
        Self {
            windows: Arc::clone(windows),
            progress,
            claims,
            stage,
        }
    }

    /// Has the ids follow what becomes of their events, which the log has in `bodies` bodies now.
    /// What this returns tells the same as `appending`, once the ids know it.
    pub(in crate::broker) fn follow(
        mut self,
        tenant: &Arc<Tenant>,
        bodies: usize,
        appending: Appending,
    ) -> Appending {
        if self.stage == Stage::Over {
            return appending;
        }
        self.queued();
        let (answer, followed) = Appending::new();
        // A tenant that was opened again would not know of what is still queued here.
        let tenant = Arc::clone(tenant);
        // On its own, since the caller may go away: the events are stored all the same, and whoever
        // publishes them again has to learn where. It ends when the log answers.
        tokio::spawn(async move {
            let failed = |error| vec![Err(error); bodies];
            let outcome = appending.await.unwrap_or_else(failed);
            let outcome = self.settle(outcome);
            drop(tenant);
            _ = answer.send(outcome);
        });
        followed
    }

    fn queued(&mut self) {
        self.stage = Stage::Queued;
        self.progress.queued();
        self.windows.unqueued.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes in what became of the events, and returns it.
    fn settle(mut self, outcome: AppendOutcome) -> AppendOutcome {
        self.stage = Stage::Over;
        self.take_in(&outcome);
        let outcome = Arc::new(outcome);
        self.progress.settled(Arc::clone(&outcome));
        Arc::unwrap_or_clone(outcome)
    }

    fn take_in(&mut self, outcome: &AppendOutcome) {
        let shared = &self.windows.shared;
        let mut topics = self.windows.lock();
        let now = Instant::now();
        let mut last = None;
        for (topic_id, id, place) in self.claims.drain(..) {
            let topic = topics.entry(topic_id).or_default();
            topic.pending.remove(&id);
            match result_at(outcome, place) {
                Ok(position) => {
                    let expires_at = now + topic.life;
                    topic.change(shared, |window| window.insert(id, position, expires_at));
                }
                Err(AppendError::Refused(_)) => {}
                Err(error @ AppendError::Unconfirmed(_)) => {
                    topic.pending.insert(id, Pending::Doubtful(error));
                }
            }
            if let Some(before) = last.replace(topic_id).filter(|before| *before != topic_id)
                && let Some(before) = topics.get_mut(&before)
            {
                before.keep_bound(shared);
            }
        }
        if let Some(topic) = last.and_then(|last| topics.get_mut(&last)) {
            topic.keep_bound(shared);
        }
        drop(topics);
        shared.keep_bound();
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        match self.stage {
            Stage::Unqueued => {
                let mut topics = self.windows.lock();
                for (topic, id, _) in &self.claims {
                    if let Some(topic) = topics.get_mut(topic) {
                        topic.pending.remove(id);
                    }
                }
                drop(topics);
                self.progress.released();
                self.windows.unqueued.fetch_sub(1, Ordering::Relaxed);
            }
            // The runtime ends, and with it everyone who could ask.
            Stage::Queued => self.take_in(&AppendOutcome::new()),
            Stage::Over => {}
        }
    }
}
